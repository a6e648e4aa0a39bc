//! One build's story: who asked for it, what waits and runs of it, what was lost and passed over.

use buildr::process::clock::now_ms;
use protocol::StageOutcome;
use protocol::api::{
    AttemptView, BuildView, Forecast, IncompleteLog, Loss, LostAttempt, NotRun, RunningJob, WaitingJob, Why,
};
use protocol::{AgentId, JobKey};
use tokio::time::Instant;

use super::{History, milliseconds};
use crate::desk::Desk;
use crate::store::{Held, StoreError};

/// All that is known of why a build is where it is, of which these jobs could run now and wait.
///
/// # Errors
/// When the store fails.
pub(crate) async fn why(desk: &Desk, view: BuildView, mut waiting: Vec<WaitingJob>) -> Result<Why, StoreError> {
    let now = now_ms();
    let number = view.build.number;
    let background = desk.store.background(number).await?;
    waiting.extend(background.held.into_iter().map(|Held { key: job, created_ms, why }| {
        let sentence = WaitingJob::sentence(&why, 1, None, None);
        let for_ms = now.saturating_sub(created_ms);
        WaitingJob { job, attempt: 1, lost_with: None, errored: None, for_ms, why, sentence }
    }));
    let mut not_run = background.not_run;
    not_run.extend(skipped(&view.attempts));
    Ok(Why {
        by: background.by,
        waiting,
        running: running(desk, &view).await?,
        lost: view.attempts.iter().filter_map(lost).collect(),
        not_run,
        cut_short: background.cut_short,
        incomplete: view.attempts.iter().flat_map(incomplete).collect(),
        build: view.build,
    })
}

async fn running(desk: &Desk, view: &BuildView) -> Result<Vec<RunningJob>, StoreError> {
    let mut history = History::new(desk);
    let in_work = desk.store.in_work().await?;
    let mut running = Vec::new();
    for attempt in view.attempts.iter().filter(|attempt| attempt.state == "running") {
        let Some((job, agent)) = names(attempt) else { continue };
        let stage = attempt.stages.iter().find(|stage| stage.result.is_none()).map(|stage| stage.name.clone());
        let work = in_work.iter().find(|work| {
            work.build == view.build.number && work.work.key == job && work.started_ms == attempt.started_ms
        });
        running.push(RunningJob {
            attempt: attempt.attempt,
            for_ms: now_ms().saturating_sub(attempt.started_ms),
            stage,
            forecast: match work {
                Some(work) => history.end(work).await?,
                None => Forecast::default(),
            },
            seen_ms_ago: desk.presence.sighting(&agent, Instant::now()).map(|(_, ago)| milliseconds(ago)),
            job,
            agent,
        });
    }
    Ok(running)
}

fn lost(attempt: &AttemptView) -> Option<LostAttempt> {
    // What errored and was followed by another has its reason here; what errored for good has it in the build's own.
    let followed = matches!(attempt.loss, Some(Loss::Errored { .. }));
    let (job, agent) = names(attempt).filter(|_| attempt.state == "lost" || followed)?;
    let AttemptView { attempt, started_ms, ended_ms, loss, .. } = attempt;
    Some(LostAttempt {
        job,
        attempt: *attempt,
        agent,
        started_ms: *started_ms,
        ended_ms: *ended_ms,
        loss: loss.clone(),
    })
}

/// The stages that were passed over in each job's last attempt: what an earlier one passed over was tried again.
fn skipped(attempts: &[AttemptView]) -> Vec<NotRun> {
    let last = |attempt: &&AttemptView| {
        !attempts.iter().any(|other| other.job == attempt.job && other.attempt > attempt.attempt)
    };
    let stages = attempts.iter().filter(last).flat_map(|attempt| attempt.stages.iter().map(move |s| (attempt, s)));
    let skipped = stages.filter_map(|(attempt, stage)| match &stage.result {
        Some(StageOutcome::Skipped { reason }) => {
            let job = attempt.job.parse().ok()?;
            Some(NotRun { job, stage: Some(stage.name.clone()), why: reason.clone() })
        }
        _ => None,
    });
    skipped.collect()
}

/// The logs of an attempt that are not whole and never will be.
fn incomplete(attempt: &AttemptView) -> Vec<IncompleteLog> {
    let incomplete = attempt.logs.iter().filter(|log| log.incomplete).map(|log| IncompleteLog {
        attempt: attempt.attempt,
        log: log.name.clone(),
        bytes: log.bytes,
        missing: (log.missing > 0).then_some(log.missing),
    });
    incomplete.collect()
}

/// The names in an attempt, which the store wrote and which are good ones therefore.
fn names(attempt: &AttemptView) -> Option<(JobKey, AgentId)> {
    Some((attempt.job.parse().ok()?, attempt.agent.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use protocol::api::{LogView, StageView};

    use super::*;

    fn attempt(number: u32, state: &str, result: Option<StageOutcome>) -> AttemptView {
        let stage = StageView { result, ..StageView::new("test".parse().unwrap(), "x") };
        AttemptView {
            job: "build".to_owned(),
            attempt: number,
            agent: "a".to_owned(),
            state: state.to_owned(),
            started_ms: 1,
            ended_ms: None,
            loss: None,
            stages: vec![stage],
            logs: Vec::new(),
        }
    }

    #[test]
    fn what_an_earlier_attempt_passed_over_is_no_news() {
        let skipped_there = Some(StageOutcome::Skipped { reason: "two failed".to_owned() });
        let first = attempt(1, "lost", skipped_there.clone());
        assert_eq!(skipped(&[first.clone(), attempt(2, "passed", Some(StageOutcome::Passed))]).len(), 0);
        let found = skipped(&[first, attempt(2, "failed", skipped_there)]);
        assert_eq!((found.len(), found[0].why.as_str()), (1, "two failed"));
    }

    #[test]
    fn a_log_is_incomplete_when_nothing_more_will_come() {
        let log = |incomplete, missing| LogView {
            name: "test".parse().unwrap(),
            bytes: 4,
            complete: false,
            missing,
            incomplete,
        };
        let check = |log: LogView, expect: Option<Option<u64>>| {
            let attempt = AttemptView { logs: vec![log], ..attempt(1, "lost", None) };
            assert_eq!(incomplete(&attempt).first().map(|log| log.missing), expect);
        };
        check(log(false, 0), None);
        check(log(true, 7), Some(Some(7)));
        check(log(true, 0), Some(None));
    }
}
