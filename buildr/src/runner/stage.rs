//! One container's work: its events, its log on the way to the sink, and what its end means for the job.

use std::io::ErrorKind;
use std::time::Instant;

use bytes::Bytes;
use protocol::plan::{Image, Prepare};
use protocol::report::JobEvent;
use protocol::{Cause, Ending, LogName, Outcome, Plan, StageEnd, StageName, StageOutcome, StagePlan};
use tokio::sync::{Mutex, mpsc};

use super::TimeLimits;
use super::environment::Environment;
use super::redact::Redactor;
use crate::executor::{ExecutorError, OUTPUT_BOUND, PrepareOrder, Sandbox, StageOrder, Stop};
use crate::sink::{EventSink, SinkError};

/// What every container of a job has in common.
pub(super) struct StageRun<'a> {
    pub(super) sink: &'a dyn EventSink,
    pub(super) stop: &'a Stop,
    pub(super) redactor: &'a Redactor,
    pub(super) times: TimeLimits,
    pub(super) environment: &'a Environment,
    pub(super) plan: &'a Plan,
}

/// Which of a sandbox's two doors a script goes through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Prepare,
    Stage,
}

/// Whether a script may be run again when nobody knows how far it came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    Harmless,
    Forbidden,
}

impl Again {
    /// What it is when a script was cut off by a fault of the farm, and nobody knows how far it came.
    fn after(self, cause: Cause, sentence: String) -> (Cause, String) {
        match self {
            Self::Harmless => (cause, sentence),
            Self::Forbidden => (
                Cause::OutcomeUnknown,
                format!(
                    "{sentence}; whether the stage did its work is not known, and it must not run twice (`retry: never`): find out, and submit the build again if it should run once more"
                ),
            ),
        }
    }
}

/// Whether a script may have begun before this stopped it.
fn may_have_begun(error: &ExecutorError) -> bool {
    match error {
        ExecutorError::Pull { .. }
        | ExecutorError::NoShell { .. }
        | ExecutorError::NotReady { .. }
        | ExecutorError::Refused(_) => false,
        ExecutorError::Unreachable { .. }
        | ExecutorError::TooLarge(_)
        | ExecutorError::Daemon { .. }
        | ExecutorError::Disk { .. } => true,
    }
}

impl StageRun<'_> {
    /// Runs `prepare`.
    pub(super) async fn prepare(&self, prepare: &Prepare, sandbox: &dyn Sandbox) -> Result<(), Ending> {
        let name: StageName = "prepare".parse().expect("it is a name");
        let order = self.order(name, None, &prepare.script, false);
        self.run(&order, Door::Prepare, Again::Harmless, sandbox).await
    }

    /// Runs a stage.
    pub(super) async fn stage(&self, stage: &StagePlan, sandbox: &dyn Sandbox) -> Result<(), Ending> {
        let order = self.order(stage.name.clone(), stage.image.clone(), &stage.script, stage.docker);
        let again = if stage.not_twice { Again::Forbidden } else { Again::Harmless };
        self.run(&order, Door::Stage, again, sandbox).await
    }

    fn order(&self, name: StageName, image: Option<Image>, script: &[String], docker: bool) -> StageOrder {
        let environment = self.environment.for_stage(&name);
        let TimeLimits { stage: timeout, idle, .. } = self.times;
        StageOrder { image, environment, docker, idle, ..StageOrder::new(name, script.to_owned(), timeout) }
    }

    /// Runs one container and tells how it went; `Err` when the job ends with it.
    async fn run(&self, order: &StageOrder, door: Door, again: Again, sandbox: &dyn Sandbox) -> Result<(), Ending> {
        let begins = self.begin(order, again).await?;
        let began = Instant::now();
        let (ended, written) =
            if begins { self.run_and_read(order, door, sandbox).await } else { (Ok(StageEnd::Cancelled), Ok(0)) };
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let total = written.map_err(|error| {
            let (cause, message) = told(&error);
            let (cause, message) = again.after(cause, message);
            Ending::errored(cause, message).in_stage(&order.name)
        })?;
        let result = self.outcome(ended, again);
        self.tell(JobEvent::LogComplete { log: LogName::from(&order.name), total }).await?;
        self.tell(JobEvent::StageEnded { stage: order.name.clone(), result: result.clone(), duration_ms }).await?;
        self.meaning(result, &order.name)
    }

    /// Tells that a stage begins. What must not run twice begins only when that is certain, and not at all once the
    /// job was asked to end (`false`).
    async fn begin(&self, order: &StageOrder, again: Again) -> Result<bool, Ending> {
        let image = order.image.as_ref().unwrap_or(&self.plan.image).name.clone();
        let not_twice = again == Again::Forbidden;
        let started = JobEvent::StageStarted { stage: order.name.clone(), image, not_twice };
        if !not_twice {
            return self.tell(started).await.map(|()| true);
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(false),
            told = self.sink.emit_certain(started) => {
                told.map(|()| true).map_err(|error| told_badly(&error).in_stage(&order.name))
            }
        }
    }

    /// The container's end, and how many bytes its log has. Both futures end before this one does.
    async fn run_and_read(
        &self,
        order: &StageOrder,
        door: Door,
        sandbox: &dyn Sandbox,
    ) -> (Result<StageEnd, ExecutorError>, Result<u64, SinkError>) {
        let (output, printed) = mpsc::channel(OUTPUT_BOUND);
        let work = async move {
            match door {
                Door::Prepare => {
                    let order = PrepareOrder { stage: order.clone(), files: None, cache: false };
                    sandbox.prepare(&order, &output, self.stop).await
                }
                Door::Stage => sandbox.run(order, &output, self.stop).await,
            }
        };
        tokio::join!(work, self.pump(LogName::from(&order.name), printed))
    }

    /// Carries a log to the sink. When that fails the job is stopped, and the rest read and dropped, so that the
    /// container can come to its end.
    async fn pump(&self, log: LogName, mut printed: mpsc::Receiver<Bytes>) -> Result<u64, SinkError> {
        let mut stream = self.redactor.stream();
        let mut total = 0;
        let mut failed = None;
        while let Some(bytes) = printed.recv().await {
            let bytes = stream.push(bytes);
            if failed.is_none() && !bytes.is_empty() {
                total += bytes.len() as u64;
                failed = self.sink.log(&log, bytes).await.err();
                if failed.is_some() {
                    self.stop.cancel();
                }
            }
        }
        let rest = stream.finish();
        match failed {
            Some(error) => Err(error),
            None if rest.is_empty() => Ok(total),
            None => {
                total += rest.len() as u64;
                self.sink.log(&log, rest).await.map(|()| total)
            }
        }
    }

    fn outcome(&self, ended: Result<StageEnd, ExecutorError>, again: Again) -> StageOutcome {
        match ended {
            Ok(end) if end.passed() => StageOutcome::Passed,
            Ok(StageEnd::Cancelled) => StageOutcome::Cancelled,
            Ok(end) => StageOutcome::Failed { end },
            Err(_) if self.stop.is_cancelled() => StageOutcome::Cancelled,
            Err(error) => {
                let again = if may_have_begun(&error) { again } else { Again::Harmless };
                let (cause, message) = again.after(error.cause(), sentence(&error));
                StageOutcome::Errored { cause, message: self.redactor.text(&message) }
            }
        }
    }

    /// What a stage's end means for its job.
    fn meaning(&self, result: StageOutcome, stage: &StageName) -> Result<(), Ending> {
        let ending = match result {
            StageOutcome::Passed | StageOutcome::AllowedFailure { .. } | StageOutcome::Skipped { .. } => return Ok(()),
            StageOutcome::Failed { end } => {
                Ending { outcome: Outcome::Failed, message: Some(format!("{stage} failed: {end}")), stage: None }
            }
            StageOutcome::Errored { cause, message } => Ending::errored(cause, message),
            StageOutcome::Cancelled => Ending::cancelled(format!("cancelled during {stage}")),
        };
        Err(ending.in_stage(stage))
    }

    async fn tell(&self, event: JobEvent) -> Result<(), Ending> {
        self.sink.emit(event).await.map_err(|error| told_badly(&error))
    }
}

/// The job's end when what happens in it cannot be kept.
pub(super) fn told_badly(error: &SinkError) -> Ending {
    let (cause, message) = told(error);
    Ending::errored(cause, message)
}

fn told(error: &SinkError) -> (Cause, String) {
    match error.0.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            (Cause::Limit, format!("the agent's disk is full: {error}"))
        }
        _ => (Cause::Daemon, error.to_string()),
    }
}

/// An error with its sources, as one sentence.
pub(super) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// What the job itself has to say (clone, clean-up): a log of its own, before those of the stages.
pub(super) struct JobLog<'a> {
    sink: &'a dyn EventSink,
    redactor: &'a Redactor,
    written: Mutex<Result<u64, SinkError>>,
}

impl<'a> JobLog<'a> {
    pub(super) fn new(sink: &'a dyn EventSink, redactor: &'a Redactor) -> Self {
        Self { sink, redactor, written: Mutex::new(Ok(0)) }
    }

    /// Adds a line.
    pub(super) async fn say(&self, line: &str) {
        let bytes = Bytes::from(self.redactor.text(&format!("{line}\n")));
        let mut written = self.written.lock().await;
        if let Ok(total) = &mut *written {
            let length = bytes.len() as u64;
            match self.sink.log(&LogName::of_job(), bytes).await {
                Ok(()) => *total += length,
                Err(error) => *written = Err(error),
            }
        }
    }

    /// Tells how long the log has become.
    pub(super) async fn complete(self) -> Result<(), SinkError> {
        let total = self.written.into_inner()?;
        if total > 0 {
            self.sink.emit(JobEvent::LogComplete { log: LogName::of_job(), total }).await?;
        }
        Ok(())
    }
}
