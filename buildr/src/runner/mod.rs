//! The one path of a job: code, manifest, plan, stages, end. `buildr run` and every agent go it.
//!
//! The user's failure is an [`Ending`], never an error; whatever goes wrong here becomes an ending with a
//! sentence. On every path the sandbox is closed and the workspace removed: before the ending is told, or, where all
//! scripts have ended by themselves, right after it ([`Rest`]).

mod graph;
mod handing;
mod redact;
mod secrets;
mod socket;
mod source;
mod places;
mod workspace;
mod telling;
mod services;
mod environment;
mod container;
mod patience;
mod keeping;
mod stage;
mod foreseen;
mod rest;
mod joining;
mod receiving;
mod walk;
mod prepare;
mod job;
mod planning;
mod beside;
mod given;
mod tap;
mod platform;
mod build;
mod course;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use protocol::job::{TriggerKind, WorkOrder};
use protocol::plan::PlannedJob;
use protocol::report::{JobEvent, Part};
use protocol::{Cause, Ending, JobKey, Outcome, Plan, RepoUrl, StageName, Variable};

use crate::carry::cache::CacheStore;
use crate::executor::{Executor, KeepContainers, Stop};
use crate::git::Checkouts;
use crate::ledger::Ledger;
use crate::plan::Planned;
use crate::sink::EventSink;
use given::Given;
use redact::Redactor;
use telling::{InTurn, JobLog, told_badly};

pub(crate) use telling::sentence;

pub use foreseen::Foreseen;
pub use rest::{Ended, Rest};

pub use build::{Answer, Gatekeeper, NobodyToAsk, Place, Ways, run_build};
pub use planning::Repositories;
pub use redact::SHORTEST as SHORTEST_SECRET;
pub use socket::{SocketMode, SocketPolicy};
pub use source::{Source, Sourced};
pub use workspace::{Settled, WorkFolder, Workspace, WorkspaceChoice, WorkspaceError};

/// How long a stage may run unless something says otherwise.
pub const STAGE_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// How long a clone may take unless something says otherwise.
pub const CLONE_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// What a runner works with; the same for every job of a process.
pub struct Rooms<'a> {
    /// Where the code comes from.
    pub source: Source<'a>,
    /// Where the manifests of a person's own tree include files of other repositories from; nowhere without it.
    pub includes: Option<&'a Checkouts>,
    /// Where containers run.
    pub executor: &'a dyn Executor,
    /// Where workspaces are made.
    pub work: &'a WorkFolder,
    /// Who may have the Docker socket.
    pub socket: &'a SocketPolicy,
    /// This process's own environment, of which a manifest may ask for some.
    pub own_environment: &'a [Variable],
    /// Variables that win over the manifest's (`buildr run --env`).
    pub more_environment: &'a [Variable],
    /// Variables of this machine's owner, for jobs that are trusted. No log of any job shows their values.
    pub secrets: &'a [Variable],
    /// How long things may take.
    pub times: TimeLimits,
    /// The agent's name, for the job's environment.
    pub agent: &'a str,
    /// The most stages of one job that run at once, at least 1.
    pub stage_parallelism: usize,
    /// Where archives of artifacts lie that are brought to no farm: then the jobs of a build on this machine find them
    /// there, and people too. Without it, and without a farm, artifacts live as long as their job.
    pub archives: Option<&'a Path>,
    /// Where copies of the files lie that a stage's `reports` name, a folder for each; without it they are only read.
    pub reports: Option<&'a ReportsOf<'a>>,
    /// Where this machine keeps caches; without it stages begin without any.
    pub caches: Option<&'a CacheStore>,
    /// What of containers stays for a person to look into.
    pub keep: KeepContainers,
    /// Who looks into a job's workspace before it is removed.
    pub visitor: Option<&'a dyn Visitor>,
    /// The workspace for the job that comes, where it was made before that was known: see [`Foreseen`].
    pub ready: Mutex<Option<Workspace>>,
}

impl Rooms<'_> {
    /// A workspace for a job: the one that stands ready, or a new one, into which code comes in the best way that can
    /// be had here.
    async fn workspace(&self, repo: &RepoUrl) -> Result<Workspace, WorkspaceError> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        match ready {
            Some(ready) if ready.suits(repo) => return Ok(ready),
            Some(other) => other.let_go(self.executor).await,
            None => {}
        }
        if let Source::Clone(checkouts) = self.source {
            self.work.settle(self.executor, checkouts.folder()).await?;
        }
        self.work.open().await
    }
}

/// The folder for the reports of a stage, which need not be there.
pub type ReportsOf<'a> = dyn Fn(Option<&JobKey>, &StageName) -> PathBuf + Send + Sync + 'a;

/// Looks into a job's workspace when the job is over and its containers are gone.
#[async_trait]
pub trait Visitor: Send + Sync {
    /// `folder` has the checkout and all copies of it that stages worked on. What is taken out of it stays; the rest is
    /// removed when this returns.
    async fn visit(&self, folder: &Path);
}

/// How long the parts of a job may take. What a pull may take is the executor's, and when a clone counts as standing
/// still is its [`crate::git::ClonePolicy`]'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// A clone, with all its tries.
    pub clone: Duration,
    /// One stage.
    pub stage: Duration,
    /// A stage that prints nothing; without it only [`TimeLimits::stage`] ends one.
    pub idle: Option<Duration>,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self { clone: CLONE_TIMEOUT, stage: STAGE_TIMEOUT, idle: None }
    }
}

/// Carries out one job and tells the sink what happens, the [`JobEvent::Finished`] last. What is to be cleared away
/// after that is given back.
pub async fn run(order: &WorkOrder, rooms: &Rooms<'_>, sink: &dyn EventSink, stop: &Stop) -> Ended {
    let sink = &InTurn::new(sink);
    let ledger = &Ledger::default();
    let ended = match Redactor::for_order(order, rooms.secrets) {
        Ok(redactor) => Runner { order, rooms, sink, stop, redactor: &redactor, ledger }.run(None).await,
        // Nothing may be printed that might hold them.
        Err(_) => {
            let ending = Ending::errored(Cause::Limit, "the secrets of this job are too long to be masked in its logs");
            Ended { ending, rest: Rest::default() }
        }
    };
    let finished = JobEvent::Finished { ending: ended.ending.clone(), spent: ledger.spans() };
    if let Err(error) = sink.emit(finished).await {
        tracing::error!(%error, "the job's end could not be told");
    }
    ended
}

struct Runner<'a> {
    order: &'a WorkOrder,
    rooms: &'a Rooms<'a>,
    sink: &'a dyn EventSink,
    stop: &'a Stop,
    redactor: &'a Redactor,
    ledger: &'a Ledger,
}

impl Runner<'_> {
    /// From its first line to its end; with the folder and the code that were made for it, or with its own.
    async fn run(&self, given: Option<Given<'_>>) -> Ended {
        let (opened, log) = match given {
            Some(given) => (given.open(self.rooms, self.order).await, given.log),
            None => {
                let opened = self.rooms.workspace(&self.order.repo).await;
                let opened = opened.map(|workspace| (workspace, None)).map_err(|error| error.to_string());
                (opened, JobLog::new(self.sink, self.redactor))
            }
        };
        let mut rest = Rest::default();
        let ending = match opened {
            Ok((workspace, sourced)) => {
                let ended = match (&sourced, &self.order.plan) {
                    (Some(sourced), Some(plan)) => self.carry_out(plan, sourced, &workspace, &log, &mut rest).await,
                    _ => self.in_workspace(&workspace, &log, &mut rest).await,
                };
                rest.workspace = Some(workspace);
                let ending = ended.unwrap_or_else(|ending| ending);
                if !self.may_be_told(&ending) {
                    self.clear(&mut rest, &log).await;
                }
                ending
            }
            Err(message) => Ending::errored(Cause::Daemon, message).or_again(true),
        };
        Ended { ending: self.finish(ending, log).await, rest }
    }

    /// Whether an end may be told before all is cleared away. Who cancels a job, and who finds a machine at fault, is
    /// told when nothing of it is left; and who looks into a workspace does it before the end.
    fn may_be_told(&self, ending: &Ending) -> bool {
        let by_itself = matches!(ending.outcome, Outcome::Passed | Outcome::Failed);
        by_itself && !self.stop.is_cancelled() && self.rooms.visitor.is_none()
    }

    async fn clear(&self, rest: &mut Rest, log: &JobLog<'_>) {
        let _open = self.ledger.open(Part::Teardown, None);
        if let Some(stayed) = rest.close().await {
            log.say(&stayed).await;
        }
        if let (Some(visitor), Some(workspace)) = (self.rooms.visitor, &rest.workspace) {
            visitor.visit(workspace.folder()).await;
        }
        if let Some(stayed) = rest.discard(self.rooms.executor).await {
            log.say(&stayed).await;
        }
    }

    /// The end as it is told, with the log's.
    async fn finish(&self, ending: Ending, log: JobLog<'_>) -> Ending {
        let ending = self.redacted(self.with_reason(ending));
        // Nobody wants a job again that was asked to end, however it came to its end.
        let ending = Ending { again: ending.again && !self.stop.is_cancelled(), ..ending };
        // What a stage printed says best why it failed, and who began it on this machine is told by the summary; of all
        // other ends this log is the only place.
        let is_told = ending.outcome == Outcome::Failed || self.order.trigger == TriggerKind::Local;
        if let Some(message) = ending.message.as_ref().filter(|_| !is_told) {
            log.say(&format!("{}: {message}", ending.outcome)).await;
        }
        match log.complete().await {
            Ok(()) => ending,
            Err(error) => told_badly(&error),
        }
    }

    /// From an empty folder to the job's end. An early end is an `Err` only so that `?` reads well.
    async fn in_workspace(&self, workspace: &Workspace, log: &JobLog<'_>, rest: &mut Rest) -> Result<Ending, Ending> {
        let sourced = &self.code(workspace, log).await?;
        let plan = match &self.order.plan {
            Some(plan) => plan.clone(),
            None => {
                let Planned { jobs, build, .. } = self.plan(workspace, sourced, log).await?;
                self.tell(JobEvent::Planned { jobs: jobs.clone(), build: build.clone() }).await?;
                match PlannedJob::going_on(&jobs, &build) {
                    Some(job) => job.plan.clone(),
                    // They are reported, and the farm offers them as their edges allow.
                    None => return Ok(Ending::passed()),
                }
            }
        };
        self.carry_out(&plan, sourced, workspace, log, rest).await
    }

    /// Brings the code, and tells what it is.
    async fn code(&self, workspace: &Workspace, log: &JobLog<'_>) -> Result<Sourced, Ending> {
        let Self { order, rooms, stop, .. } = *self;
        let _open = self.ledger.open(Part::Checkout, None);
        let checkout = rooms.source.checkout(workspace).0;
        let mut sourced = source::fetch(order, rooms, workspace, stop, log).await?;
        planning::look_at_changes(order, &mut sourced, &checkout, stop, log).await;
        self.tell(sourced.event()).await?;
        Ok(sourced)
    }

    async fn plan(&self, workspace: &Workspace, sourced: &Sourced, log: &JobLog<'_>) -> Result<Planned, Ending> {
        let _open = self.ledger.open(Part::Plan, None);
        let checkout = self.rooms.source.checkout(workspace).0;
        planning::plan(self.order, self.rooms, sourced, &checkout, self.stop, log).await
    }

    /// From the code to the job's end.
    async fn carry_out(
        &self,
        plan: &Plan,
        sourced: &Sourced,
        workspace: &Workspace,
        log: &JobLog<'_>,
        rest: &mut Rest,
    ) -> Result<Ending, Ending> {
        let Self { order, rooms, stop, .. } = *self;
        beside::suit(order, rooms, plan, sourced, workspace, stop, log).await?;
        job::carry_out(self, plan, sourced, workspace, log, rest).await
    }

    async fn tell(&self, event: JobEvent) -> Result<(), Ending> {
        self.sink.emit(event).await.map_err(|error| told_badly(&error))
    }

    /// A cancelled job says why, when whoever cancelled it did.
    fn with_reason(&self, ending: Ending) -> Ending {
        match (ending.outcome, &ending.message, self.stop.reason()) {
            (Outcome::Cancelled, Some(message), Some(reason)) => {
                Ending { message: Some(format!("{message}: {reason}")), ..ending }
            }
            _ => ending,
        }
    }

    fn redacted(&self, ending: Ending) -> Ending {
        Ending { message: ending.message.map(|message| self.redactor.text(&message)), ..ending }
    }
}

#[cfg(test)]
mod tests;
