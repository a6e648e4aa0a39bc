//! One stage of a job: its tries, each in a fresh container, and what is left of the last one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::plan::{AllowFailure, RetryCause};
use protocol::report::{JobEvent, Part};
use protocol::{Cause, Ending, LogName, StageEnd, StageOutcome, StagePlan, Variable};
use tokio::sync::Notify;

use super::container::{Again, Attempt};
use super::job::Job;
use super::secrets::Given;
use super::services::ServiceLogs;
use super::telling::{Pen, told, told_badly};
use crate::carry::reports::CoverageInLog;
use crate::executor::Stop;

/// A stage that is run.
pub(super) struct StageRun<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) stage: &'a StagePlan,
    /// Ends it, alone or with the job.
    pub(super) stop: Stop,
    /// The workspace as the last stage that ran alone has left it.
    pub(super) workspace: PathBuf,
    /// For one that works on a copy of it: the artifacts that are put over that.
    pub(super) copy_with: Option<Vec<PathBuf>>,
    /// What stages before it handed on.
    pub(super) handed: Vec<Variable>,
    /// Hears when its script begins: then it has what was made for it ahead.
    pub(super) begun: Arc<Notify>,
}

/// What became of a stage.
pub(super) struct Done {
    pub(super) outcome: StageOutcome,
    /// What it hands on.
    pub(super) handed: Vec<Variable>,
    /// The archive of its artifacts, of a stage that worked on a copy.
    pub(super) archive: Option<PathBuf>,
    /// The folder that is the job's workspace from now on, when it is another.
    pub(super) workspace: Option<PathBuf>,
}

impl Done {
    fn without_a_trace(outcome: StageOutcome) -> Self {
        Self { outcome, handed: Vec::new(), archive: None, workspace: None }
    }
}

/// The logs of one stage.
pub(super) struct Logs<'a> {
    pub(super) own: Pen<'a>,
    pub(super) services: ServiceLogs<'a>,
    pub(super) coverage: Option<CoverageInLog>,
}

impl<'a> StageRun<'a> {
    /// Runs it to its end, and tells that.
    ///
    /// # Errors
    /// When what happens in it cannot be kept: the job ends so.
    pub(super) async fn run(&self) -> Result<Done, Ending> {
        let job = self.job;
        let given = match job.secrets.given(&self.stage.name, &self.stage.secrets) {
            Ok(given) => given,
            Err(denied) => {
                let outcome = StageOutcome::Errored { cause: Cause::Limit, message: denied.to_string(), again: false };
                self.ended(&outcome, 0).await?;
                return Ok(Done::without_a_trace(outcome));
            }
        };
        let begins = self.begin().await?;
        let began = Instant::now();
        let mut logs = self.logs();
        let (attempt, outcome) =
            if begins { self.tries(&given, &mut logs).await? } else { (None, StageOutcome::Cancelled) };
        logs.own.check().map_err(|error| self.told_badly(&error))?;
        let took = millis(began.elapsed());
        let keeping = job.ledger.open_if_long(Part::Keep, Some(&self.stage.name));
        let done = self.finish(attempt, outcome, &mut logs).await?;
        drop(keeping);
        logs.services.complete().await.map_err(|error| told_badly(&error))?;
        logs.own.complete().await.map_err(|error| told_badly(&error))?;
        self.ended(&done.outcome, took).await?;
        Ok(done)
    }

    fn logs(&self) -> Logs<'a> {
        let (sink, redactor, stage) = (self.job.sink, self.job.redactor, self.stage);
        Logs {
            own: Pen::new(sink, redactor, LogName::from(&stage.name)),
            services: ServiceLogs::new(&stage.services, Some(&stage.name), sink, redactor),
            coverage: None,
        }
    }

    /// Tells that it begins. What must not run twice begins only when that is certain, and not at all once the job was
    /// asked to end (`false`).
    async fn begin(&self) -> Result<bool, Ending> {
        let Self { job, stage, .. } = self;
        let image = stage.image.as_ref().unwrap_or(&job.plan.image).name.clone();
        let not_twice = stage.not_twice;
        let started = JobEvent::StageStarted { stage: stage.name.clone(), image, not_twice };
        if !not_twice {
            return job.tell(started).await.map(|()| true);
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(false),
            told = job.sink.emit_certain(started) => {
                told.map(|()| true).map_err(|error| told_badly(&error).in_stage(&stage.name))
            }
        }
    }

    /// One try after the other, until one ends so that no other follows. Its traces are there then.
    async fn tries(&self, given: &Given, logs: &mut Logs<'a>) -> Result<(Option<Attempt>, StageOutcome), Ending> {
        let most = self.most_tries();
        let mut number = 1;
        loop {
            let began = Instant::now();
            logs.coverage = self.coverage(logs).await;
            let (attempt, outcome) = self.attempt(number < most, given, logs).await;
            let Some(delay) = self.again(number, &outcome) else { return Ok((attempt, outcome)) };
            logs.own.check().map_err(|error| self.told_badly(&error))?;
            self.tried(number, &outcome, began).await?;
            let why = outcome.detail().unwrap_or_else(|| outcome.name().to_owned());
            let wait = if delay.is_zero() { String::new() } else { format!(" in {} s", delay.as_secs()) };
            logs.own.say(&format!("try {number} of {most}: {why}; trying again{wait}")).await;
            if let Some(attempt) = attempt {
                attempt.discard(&self.job.places, &self.workspace).await;
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok((None, StageOutcome::Cancelled)),
                () = tokio::time::sleep(delay) => {}
            }
            number += 1;
        }
    }

    /// The most times that it is run.
    pub(super) fn most_tries(&self) -> u32 {
        match &self.stage.retry {
            Some(retry) if !self.stage.not_twice => retry.max.saturating_add(1),
            _ => 1,
        }
    }

    /// How long to wait for the next try, if there is one.
    fn again(&self, number: u32, outcome: &StageOutcome) -> Option<Duration> {
        let retry = self.stage.retry.as_ref().filter(|_| number < self.most_tries())?;
        let may = !self.stop.is_cancelled() && tries_again_after(&retry.on, outcome);
        may.then(|| Duration::from_millis(retry.delay_ms))
    }

    /// Tells of a try that is followed by another. The stage's own log has them all, one after the other.
    async fn tried(&self, number: u32, outcome: &StageOutcome, began: Instant) -> Result<(), Ending> {
        let duration_ms = millis(began.elapsed());
        let (stage, result, log) = (self.stage.name.clone(), outcome.clone(), LogName::from(&self.stage.name));
        self.job.tell(JobEvent::StageTried { stage, number, result, duration_ms, log }).await
    }

    /// What is left of the last try: its values, its files, its end as the job sees it.
    async fn finish(
        &self,
        attempt: Option<Attempt>,
        outcome: StageOutcome,
        logs: &mut Logs<'a>,
    ) -> Result<Done, Ending> {
        // Why the whole job ends is said by the job.
        let own_reason = self.stop.reason().filter(|_| !self.job.stop.is_cancelled());
        if let (StageOutcome::Cancelled, Some(reason)) = (&outcome, own_reason) {
            logs.own.say(&format!("stopped: {reason}")).await;
        }
        let mut done = Done::without_a_trace(self.allowed(outcome));
        let Some(mut attempt) = attempt else { return Ok(done) };
        match self.handed(&attempt).await {
            Ok(handed) => done.handed = handed,
            Err(message) if done.outcome == StageOutcome::Passed => {
                done.outcome = StageOutcome::Errored { cause: Cause::Limit, message, again: false };
            }
            Err(message) => logs.own.say(&message).await,
        }
        // A second cancel waits for nothing.
        if !self.job.stop.is_killed() {
            self.tell_images().await?;
            self.tell_summary(&attempt).await?;
            self.keep_artifacts(&attempt, &mut done, &mut logs.own).await?;
            self.tell_reports(&attempt, logs).await?;
            self.keep_caches(&mut attempt, &done.outcome, &mut logs.own).await;
        }
        let goes_on = self.copy_with.is_none() && attempt.folder() != self.workspace;
        done.workspace = goes_on.then(|| attempt.folder().to_owned());
        let keep = if goes_on { attempt.folder().to_owned() } else { self.workspace.clone() };
        attempt.discard(&self.job.places, &keep).await;
        Ok(done)
    }

    fn allowed(&self, outcome: StageOutcome) -> StageOutcome {
        match outcome {
            StageOutcome::Failed { end } if allows(&self.stage.allow_failure, end) => {
                StageOutcome::AllowedFailure { end }
            }
            other => other,
        }
    }

    async fn ended(&self, outcome: &StageOutcome, duration_ms: u64) -> Result<(), Ending> {
        let (stage, result) = (self.stage.name.clone(), outcome.clone());
        self.job.tell(JobEvent::StageEnded { stage, result, duration_ms }).await
    }

    fn told_badly(&self, error: &crate::sink::SinkError) -> Ending {
        let (cause, message) = told(error);
        let (cause, message) = Again::of(self.stage).after(cause, message);
        Ending::errored(cause, message).in_stage(&self.stage.name)
    }
}

/// How long it was, in milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a failure counts as passed.
fn allows(allowed: &AllowFailure, end: StageEnd) -> bool {
    match allowed {
        AllowFailure::None => false,
        AllowFailure::Any => true,
        AllowFailure::Codes(codes) => code_of(end).is_some_and(|code| codes.contains(&code)),
    }
}

/// The exit code as a shell would have seen it.
fn code_of(end: StageEnd) -> Option<i64> {
    /// 128 and SIGKILL, with which the kernel ends what takes too much memory.
    const KILLED: i64 = 137;
    match end {
        StageEnd::Exited { code } => Some(code),
        StageEnd::OutOfMemory { .. } => Some(KILLED),
        _ => None,
    }
}

/// Whether an end is one of those after which a stage is tried again.
fn tries_again_after(on: &[RetryCause], outcome: &StageOutcome) -> bool {
    let is = |cause: &RetryCause| match (outcome, cause) {
        (StageOutcome::Failed { end }, RetryCause::Code(code)) => code_of(*end) == Some(*code),
        (StageOutcome::Failed { end }, cause) => match end {
            StageEnd::Exited { .. } | StageEnd::DiskFull { .. } => *cause == RetryCause::Failed,
            StageEnd::OutOfMemory { .. } => *cause == RetryCause::OutOfMemory,
            StageEnd::TimedOut { .. } | StageEnd::IdleTimedOut { .. } => *cause == RetryCause::Timeout,
            StageEnd::Cancelled => false,
        },
        (StageOutcome::Errored { cause: Cause::Pull | Cause::Daemon | Cause::Service, .. }, RetryCause::Infra) => true,
        _ => false,
    };
    let any = matches!(outcome, StageOutcome::Failed { .. })
        || matches!(outcome, StageOutcome::Errored { cause: Cause::Pull | Cause::Daemon | Cause::Service, .. });
    if on.is_empty() { any } else { on.iter().any(is) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_which_ends_a_stage_is_tried_again() {
        use RetryCause as On;
        let failed = |code| StageOutcome::Failed { end: StageEnd::Exited { code } };
        let oom = StageOutcome::Failed { end: StageEnd::OutOfMemory { limit_bytes: 0 } };
        let slow = StageOutcome::Failed { end: StageEnd::TimedOut { limit_ms: 1 } };
        let errored = |cause| StageOutcome::Errored { cause, message: String::new(), again: true };
        let table: [(&[On], &StageOutcome, bool); 17] = [
            (&[], &failed(1), true),
            (&[], &errored(Cause::Pull), true),
            (&[], &errored(Cause::Limit), false),
            (&[], &StageOutcome::Passed, false),
            (&[], &StageOutcome::Cancelled, false),
            (&[On::Failed], &failed(7), true),
            (&[On::Failed], &slow, false),
            (&[On::Failed], &errored(Cause::Daemon), false),
            (&[On::Infra], &errored(Cause::Daemon), true),
            (&[On::Infra], &errored(Cause::Service), true),
            (&[On::Infra], &failed(1), false),
            (&[On::Timeout], &slow, true),
            (&[On::OutOfMemory], &oom, true),
            (&[On::Code(137)], &oom, true),
            (&[On::Code(137)], &failed(1), false),
            (&[On::Timeout, On::Code(3)], &failed(3), true),
            (&[On::Infra], &errored(Cause::OutcomeUnknown), false),
        ];
        for (on, outcome, expect) in table {
            assert_eq!(tries_again_after(on, outcome), expect, "{on:?} {outcome:?}");
        }
    }

    #[test]
    fn which_failures_count_as_passed() {
        let codes = AllowFailure::Codes(vec![3, 137]);
        let table = [
            (AllowFailure::None, StageEnd::Exited { code: 1 }, false),
            (AllowFailure::Any, StageEnd::Exited { code: 1 }, true),
            (AllowFailure::Any, StageEnd::TimedOut { limit_ms: 1 }, true),
            (codes.clone(), StageEnd::Exited { code: 3 }, true),
            (codes.clone(), StageEnd::Exited { code: 4 }, false),
            (codes.clone(), StageEnd::OutOfMemory { limit_bytes: 0 }, true),
            (codes, StageEnd::TimedOut { limit_ms: 1 }, false),
        ];
        for (allowed, end, expect) in table {
            assert_eq!(allows(&allowed, end), expect, "{allowed:?} {end:?}");
        }
    }
}
