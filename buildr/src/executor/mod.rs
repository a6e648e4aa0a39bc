//! A place for a job, and what can be done in it. The runner knows this room; only this room knows Docker.
//!
//! # The contract, which every executor keeps (`tests/tests/executor.rs` holds them to it)
//! - [`Executor::open`] makes the place: images that can be named are not yet pulled, nothing of the user's runs.
//! - [`Sandbox::prepare`] is called at most once and before any [`Sandbox::run`]; stages without an image of
//!   their own then start from what it left, except what it wrote to the workspace.
//! - [`Sandbox::run`] is called one stage after the other. It returns when the stage's process has ended **and**
//!   every byte that it printed has been handed to `output`, in order. A stage that ended badly is a
//!   [`StageEnd`], not an error.
//! - A stage that runs longer than [`StageOrder::timeout`], or prints nothing for [`StageOrder::idle`], is ended in
//!   the same way as by [`Stop::cancelled`], and `run` returns [`StageEnd::TimedOut`] or [`StageEnd::IdleTimedOut`].
//! - Stopping: when [`Stop::cancelled`] resolves, the script's processes get SIGTERM, the grace to end, then
//!   SIGKILL; `run` returns [`StageEnd::Cancelled`] soon after. When [`Stop::killed`] resolves, SIGKILL at once.
//! - [`Sandbox::close`] removes all that was made, verifies that it is gone, and must be called on every path.
//!   Dropping a sandbox unclosed leaves its things to the next [`Executor::sweep`].

mod silence;
pub mod docker;
pub mod scripted;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::{Cause, StageEnd, StageName, Variable};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Where a container's output goes, in order. Bounded: an executor waits when the reader is slow.
pub type Output = mpsc::Sender<Bytes>;

/// How many chunks of output may wait for their reader: enough to keep the daemon's socket busy (32 KiB each).
pub const OUTPUT_BOUND: usize = 32;

/// Opens places for jobs.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Makes a place for a job.
    ///
    /// # Errors
    /// When the daemon cannot be reached or refuses.
    async fn open(&self, order: SandboxOrder) -> Result<Box<dyn Sandbox>, ExecutorError>;

    /// Removes what an earlier life of this owner left behind: everything with the owner's name and another boot.
    ///
    /// # Errors
    /// When the daemon cannot be reached or refuses.
    async fn sweep(&self) -> Result<Swept, ExecutorError>;

    /// Removes a folder in which containers may have left files that this process may not remove.
    ///
    /// # Errors
    /// When something of it stays.
    async fn discard(&self, folder: &Path) -> Result<(), ExecutorError>;

    /// A path on the disk on which this executor keeps what it makes; none where this process cannot see it.
    async fn store(&self) -> Option<PathBuf> {
        None
    }

    /// What it keeps for later jobs and could have again, such as images that it pulled: nothing that was there before
    /// it, and nothing that is in use.
    ///
    /// # Errors
    /// When the daemon cannot be reached or refuses.
    async fn spare(&self) -> Result<Vec<Spare>, ExecutorError> {
        Ok(Vec::new())
    }

    /// Removes something spare, and says whether it is gone. It stays when it has come into use.
    ///
    /// # Errors
    /// When the daemon cannot be reached or refuses.
    async fn remove_spare(&self, _spare: &Spare) -> Result<bool, ExecutorError> {
        Ok(false)
    }
}

/// Something that is kept for later and can be had again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spare {
    /// What its keeper calls it.
    pub name: String,
    /// When a job used it last, in milliseconds since 1970: for the order, and for nothing else.
    pub last_used_ms: u64,
}

/// A place for one job.
#[async_trait]
pub trait Sandbox: Send {
    /// Runs the commands that make the image which later stages start from.
    ///
    /// # Errors
    /// When it could not be run; see [`ExecutorError::cause`].
    async fn prepare(&mut self, stage: &StageOrder, output: &Output, stop: &Stop) -> Result<StageEnd, ExecutorError>;

    /// Runs one stage in a fresh container, to its end.
    ///
    /// # Errors
    /// When it could not be run; see [`ExecutorError::cause`].
    async fn run(&mut self, stage: &StageOrder, output: &Output, stop: &Stop) -> Result<StageEnd, ExecutorError>;

    /// Removes everything that the job made: containers, images, and verifies that it is gone.
    ///
    /// # Errors
    /// Names what stayed; the next sweep tries again.
    async fn close(self: Box<Self>) -> Result<(), ExecutorError>;
}

/// What a place is made for.
#[derive(Debug, Clone)]
pub struct SandboxOrder {
    /// Names the job on everything that is made for it (a label's value).
    pub job: String,
    /// The checkout on this machine's disk. The folder that it lies in must be writable too: the copy of it that
    /// `prepare` sees stands beside it.
    pub workspace: PathBuf,
    /// Where the containers see it.
    pub mount: String,
    /// The image of `prepare` and of stages without one of their own.
    pub image: String,
    /// Whether the Docker socket may be mounted where a stage asks for it.
    pub docker_socket: SocketGrant,
}

/// Whether a job's stages get the Docker socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketGrant {
    /// In no stage.
    Never,
    /// In each stage that asks.
    Asked,
    /// In every stage.
    Always,
}

/// One container's work.
#[derive(Debug, Clone)]
pub struct StageOrder {
    /// The stage's name (`prepare` for that).
    pub name: StageName,
    /// Its own image; without one the job's.
    pub image: Option<String>,
    /// Its commands.
    pub script: Vec<String>,
    /// Its whole environment, later wins.
    pub environment: Vec<Variable>,
    /// Whether it asks for the Docker socket.
    pub docker: bool,
    /// How long it may run.
    pub timeout: Duration,
    /// How long it may print nothing; without it as long as it may run.
    pub idle: Option<Duration>,
}

/// A limit as [`StageEnd`] tells it.
fn millis(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

/// The two ways in which a running stage is ended from outside: politely, and at once.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    cancel: CancellationToken,
    kill: CancellationToken,
    reason: Arc<OnceLock<String>>,
}

impl Stop {
    /// One that nobody has used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// SIGTERM, grace, SIGKILL.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// The same, and why, for those who look at the build. The first reason stays.
    pub fn cancel_because(&self, reason: &str) {
        self.reason.get_or_init(|| reason.to_owned());
        self.cancel();
    }

    /// Why an end was asked for, if somebody said.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// SIGKILL now; implies [`Stop::cancel`].
    pub fn kill(&self) {
        self.cancel.cancel();
        self.kill.cancel();
    }

    /// Whether an end was asked for.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// The polite one alone, for work that knows only one way to end.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Resolves when an end is asked for.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Resolves when the end must be at once.
    pub async fn killed(&self) {
        self.kill.cancelled().await;
    }
}

/// What a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Containers.
    pub containers: usize,
    /// Images that a `prepare` had made.
    pub images: usize,
    /// Networks and volumes.
    pub others: usize,
}

/// Why the executor could not do its part. Texts are whole sentences for the person whose build it is.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The daemon does not answer.
    #[error("the Docker daemon at {place} does not answer: {reason}. Start it, or point DOCKER_HOST at one that runs")]
    Unreachable {
        /// The socket or address that was tried.
        place: String,
        /// What came back.
        reason: String,
    },
    /// An image could not be had.
    #[error("the image {image:?} could not be pulled: {reason}")]
    Pull {
        /// As the manifest names it.
        image: String,
        /// What the registry or the daemon said, and what to do.
        reason: String,
    },
    /// The image has no shell to run a script with.
    #[error("the image {image:?} has no /bin/sh, which buildr runs a stage's script with; use an image with a shell")]
    NoShell {
        /// As the manifest names it.
        image: String,
    },
    /// A policy of this agent stands against it.
    #[error("{0}")]
    Refused(String),
    /// The job took more of this machine's disk than it may.
    #[error("{0}")]
    TooLarge(String),
    /// The daemon was asked for something and could not do it.
    #[error("failed to {doing}: {reason}")]
    Daemon {
        /// What was being done, such as "start the container of stage test".
        doing: String,
        /// What came back.
        reason: String,
    },
    /// Something on this machine's disk could not be read, written or removed.
    #[error("failed to {doing}")]
    Disk {
        /// What was being done, with the path.
        doing: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ExecutorError {
    /// Which part of the farm's work it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Pull { .. } => Cause::Pull,
            Self::Refused(_) | Self::TooLarge(_) => Cause::Limit,
            Self::Unreachable { .. } | Self::NoShell { .. } | Self::Daemon { .. } | Self::Disk { .. } => Cause::Daemon,
        }
    }
}
