//! Begins builds in the place of jobs that are other builds: exactly once, for the job says so in the same transaction.
//! A build that was begun so knows by whom, and so circles and endless chains are refused.

use std::sync::Arc;
use std::time::Duration;

use buildr::process::clock::now_ms;
use protocol::JobId;
use protocol::job::{Origin, TriggerKind};
use protocol::outcome::{Cause, Ending};
use protocol::plan::Downstream;
use protocol::state::{Happening, JobState};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::feed::Change;
use crate::intake::{self, IntakeError, Trigger};
use crate::store::{Build, Job, StoreError};
use crate::tracker::Answers;

/// How often it looks even though nothing was said.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The longest chain of builds of which each began the next.
const LONGEST_CHAIN: usize = 8;

/// Begins them until `shutdown`.
pub(crate) async fn run(desk: Arc<Desk>, shutdown: CancellationToken) {
    let desk = &*desk;
    loop {
        if let Err(error) = look(desk).await {
            tracing::warn!("builds wait to be begun by others: {error}");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = desk.store.errands().downstream.notified() => {}
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

async fn look(desk: &Desk) -> Result<(), StoreError> {
    for job in desk.store.to_send_on().await? {
        send_on(desk, job).await?;
    }
    Ok(())
}

async fn send_on(desk: &Desk, id: JobId) -> Result<(), StoreError> {
    let mut tx = desk.store.write().await?;
    let Some(job) = tx.job(id).await? else { return Ok(()) };
    let (Some(downstream), JobState::Queued { .. }) = (&job.terms.downstream, &job.state) else { return Ok(()) };
    let Some(build) = tx.build(job.build).await? else { return Ok(()) };
    let mut chain = tx.upstream_of(build.number).await?;
    chain.insert(0, build.clone());
    let now = now_ms();
    let begun = match trigger(&job, &build, downstream, &chain) {
        Ok(trigger) => match intake::begin(&mut tx, &desk.config, &trigger, now).await {
            Ok((child, _)) => {
                tx.asked_by(child, &format!("build {} of {}", build.number, build.repo)).await?;
                Ok(child)
            }
            Err(IntakeError::Store(error)) => return Err(error),
            Err(refusal @ IntakeError::LocalRepo(_)) => Err(refusal.to_string()),
        },
        Err(refusal) => Err(refusal),
    };
    let came_back = match &begun {
        Ok(child) => {
            tx.apply(&job, &Happening::SentOn { build: *child }, now).await?.ok();
            (!downstream.wait).then(Ending::passed)
        }
        Err(refusal) => Some(Ending::errored(Cause::Limit, refusal.clone())),
    };
    if let (Some(ending), Some(job)) = (came_back, tx.job(id).await?) {
        tx.apply(&job, &Happening::CameBack { ending }, now).await?.ok();
    }
    let mut answers = Answers::saying(Change::Build(build.number));
    if let Ok(child) = begun {
        answers.say(Change::Build(child));
    }
    answers.follow(tx.take_effects());
    tx.commit().await?;
    answers.give(desk).await;
    Ok(())
}

/// What begins the other build, or why none is begun. `chain` is this build and those that led to it.
fn trigger(job: &Job, build: &Build, downstream: &Downstream, chain: &[Build]) -> Result<Trigger, String> {
    if !build.trusted {
        let why = "this one is not trusted: its code is a fork's, or its project says `--trusted no`, or it was published by hand and the coordinator's --trusted-repos do not name its repository";
        return Err(format!("it cannot begin another build, for {why}"));
    }
    let repo = downstream.repo.clone().unwrap_or_else(|| build.repo.clone());
    let branch = downstream.branch.clone();
    let same = |other: &&Build| {
        // Of what the remote's HEAD names only those are known to be the same that were asked for so too.
        other.repo == repo && if branch.is_some() { other.branch == branch } else { other.of_head }
    };
    if let Some(same) = chain.iter().find(same) {
        let what = branch.as_ref().map_or("its HEAD".to_owned(), ToString::to_string);
        let instead = "take the trigger out of one of them";
        return Err(format!(
            "builds would begin each other in a circle: {repo} {what} is build {}; {instead}",
            same.number
        ));
    }
    if chain.len() >= LONGEST_CHAIN {
        return Err(format!("{LONGEST_CHAIN} builds began one another already, and that many are the most"));
    }
    let upstream = chain.iter().rev().map(|build| format!("{}#{}", build.repo, build.number.0)).collect();
    Ok(Trigger {
        branch,
        origin: Origin { upstream, ..Origin::default() },
        inputs: downstream.vars.clone(),
        parent: Some(job.id),
        ..Trigger::new(repo, TriggerKind::Upstream)
    })
}
