//! `prepare`: what makes the image that stages without one of their own start from.

use std::time::Instant;

use protocol::report::{JobEvent, Part};
use protocol::{Cause, Ending, LogName, StageEnd, StageName, StageOutcome};
use tokio::sync::mpsc;

use super::container::within;
use super::job::Job;
use super::secrets::Given;
use super::stage::millis;
use super::telling::{Pen, sentence, told_badly};
use super::walk::ending_of;
use crate::executor::{ExecutorError, OUTPUT_BOUND, PrepareOrder, Prepared, StageOrder};

/// Runs it, when the plan has one. Gives the job's end when it ended badly.
///
/// # Errors
/// When what happens cannot be kept.
pub(super) async fn run(job: &Job<'_>) -> Result<Option<Ending>, Ending> {
    let Some(prepare) = &job.plan.prepare else { return Ok(None) };
    let name: StageName = "prepare".parse().expect("it is a name");
    let given = match job.secrets.given(&name, &prepare.secrets) {
        Ok(given) => given,
        Err(denied) => {
            let outcome = StageOutcome::Errored { cause: Cause::Limit, message: denied.to_string(), again: false };
            job.tell_end(&name, outcome.clone()).await?;
            return Ok(ending_of(&outcome, &name));
        }
    };
    let image = job.plan.image.name.clone();
    job.tell(JobEvent::StageStarted { stage: name.clone(), image: image.clone(), not_twice: false }).await?;
    let opening = job.ledger.open(Part::Prepare, None);
    let began = Instant::now();
    let mut log = Pen::new(job.sink, job.redactor, LogName::from(&name));
    let prepared = contained(job, &name, &given, &mut log).await;
    if let Ok(Prepared::Reused) = prepared {
        job.tell(JobEvent::StageReused { stage: name.clone() }).await?;
    }
    let outcome = match prepared.map(Prepared::end) {
        Ok(end) if end.passed() => StageOutcome::Passed,
        Ok(StageEnd::Cancelled) => StageOutcome::Cancelled,
        Ok(end) => StageOutcome::Failed { end },
        Err(_) if job.stop.is_cancelled() => StageOutcome::Cancelled,
        Err(error) => {
            let message = job.redactor.text(&sentence(&error));
            StageOutcome::Errored { cause: error.cause(), message, again: error.passes() }
        }
    };
    let duration_ms = millis(began.elapsed());
    drop(opening);
    if let Some(digest) = job.sandbox.digest(&job.plan.image).await {
        job.tell(JobEvent::ImageFound { stage: name.clone(), image, digest }).await?;
    }
    log.complete().await.map_err(|error| told_badly(&error).in_stage(&name))?;
    job.tell(JobEvent::StageEnded { stage: name.clone(), result: outcome.clone(), duration_ms }).await?;
    if outcome == StageOutcome::Passed && job.stop.is_cancelled() {
        return Ok(Some(Ending::cancelled("cancelled between two stages")));
    }
    Ok(ending_of(&outcome, &name))
}

async fn contained(
    job: &Job<'_>,
    name: &StageName,
    given: &Given,
    log: &mut Pen<'_>,
) -> Result<Prepared, ExecutorError> {
    let Some(prepare) = &job.plan.prepare else { return Ok(Prepared::Reused) };
    let secrets = job.places.fresh("secrets");
    let written = given.write(&secrets).map_err(|source| {
        let doing = "write down the secrets of prepare".to_owned();
        ExecutorError::Disk { doing, source }
    })?;
    let times = job.rooms.times;
    let stage = StageOrder {
        environment: job.environment.for_prepare(name, &prepare.environment, &given.variables),
        idle: times.idle,
        shell: prepare.shell.clone(),
        mounts: written.into_iter().collect(),
        ledger: job.ledger.clone(),
        ..StageOrder::new(name.clone(), prepare.script.clone(), within(prepare.timeout_ms, times.stage))
    };
    // An image would keep what it was given: also what the agent gives to all where nobody asks.
    let cache = prepare.cache && prepare.secrets.is_empty() && given.is_empty();
    let order = PrepareOrder { stage, files: prepare.files.clone(), cache };
    let (output, printed) = mpsc::channel(OUTPUT_BOUND);
    let work = async move { job.sandbox.prepare(&order, &output, job.stop).await };
    let (ended, ()) = tokio::join!(work, log.pump(printed, None, None, job.stop));
    job.places.discard(&secrets).await;
    ended
}
