//! A place for a job, and what can be done in it. The runner knows this room; only this room knows Docker.
//!
//! # The contract, which every executor keeps (`tests/tests/executor.rs` holds them to it)
//! - [`Executor::open`] makes the place: images that can be named are not yet pulled, nothing of the user's runs.
//! - [`Sandbox::prepare`] is called at most once and before any [`Sandbox::run`]; stages without an image of
//!   their own then start from what it left, except what it wrote to the workspace.
//! - [`Sandbox::run`] may be called for several stages at once, each on a [`StageOrder::folder`] of its own. It
//!   returns when the stage's process has ended **and** every byte that it printed has been handed to `output`, in
//!   order. A stage that ended badly is a [`StageEnd`], not an error.
//! - Within the container the script runs first; `on_failure` when it ended with anything but 0; then `after`, in any
//!   case once the script began, a stop and a time limit included, for at most [`AFTER_TIMEOUT`]. Neither changes the
//!   stage's end.
//! - [`Executor::stand_by`] and [`Sandbox::stand_by`] change nothing but how soon a stage begins. What stands ready has
//!   run nothing and been told nothing, and what a stage sees is the same with it and without it.
//! - [`Sandbox::serve`] returns when every service is ready; it dismisses them all itself when one is not. Stages see
//!   those of the [`Served`] in their order, each by its name.
//! - A stage that runs longer than [`StageOrder::timeout`], or prints nothing for [`StageOrder::idle`], is ended in
//!   the same way as by [`Stop::cancelled`], and `run` returns [`StageEnd::TimedOut`] or [`StageEnd::IdleTimedOut`].
//! - [`Executor::suits`] says of an image whose platform is this place's own that it suits, of one that can be started
//!   here all the same that it is foreign, and of any other why it cannot be; it leaves nothing behind but the image.
//! - Stopping: when [`Stop::cancelled`] resolves, the script's processes get SIGTERM, the grace to end, then
//!   SIGKILL; `run` returns [`StageEnd::Cancelled`] soon after. When [`Stop::killed`] resolves, SIGKILL at once.
//! - [`Sandbox::close`] removes all that was made, verifies that it is gone, and must be called on every path.
//!   Dropping a sandbox unclosed leaves its things to the next [`Executor::sweep`].

mod error;
mod silence;
mod stop;
pub mod docker;
pub mod scripted;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::plan::{Image, Resources, Service};
use protocol::{StageEnd, StageName, Variable};
use tokio::sync::mpsc;

pub use error::ExecutorError;
pub use stop::Stop;

use crate::ledger::Ledger;

/// Where a container's output goes, in order. Bounded: an executor waits when the reader is slow.
pub type Output = mpsc::Sender<Bytes>;

/// How many chunks of output may wait for their reader: enough to keep the daemon's socket busy (32 KiB each).
pub const OUTPUT_BOUND: usize = 32;

/// How long a stage's `after` may take, and its `on_failure`.
pub const AFTER_TIMEOUT: Duration = Duration::from_secs(60);

/// Opens places for jobs.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Makes a place for a job.
    ///
    /// # Errors
    /// When the daemon cannot be reached or refuses.
    async fn open(&self, order: SandboxOrder) -> Result<Box<dyn Sandbox>, ExecutorError>;

    /// Has a container started for a job that is not known yet, and returns before that is done. Whoever opens a place
    /// over the same workspace gets it; it is used by a stage whose container would be made exactly so, and removed
    /// otherwise. It is no more than a wish: where it cannot be met, that stage's container is made at its time.
    ///
    /// What stands for a workspace that nobody comes to is removed by [`Executor::stand_down`].
    ///
    /// # Errors
    /// When something that stood for the same workspace before could not be removed.
    async fn stand_by(&self, order: StandbyOrder) -> Result<(), ExecutorError>;

    /// Removes what stands for a workspace that no place was opened over, and verifies that it is gone.
    ///
    /// # Errors
    /// Names what stayed; the next sweep tries again.
    async fn stand_down(&self, workspace: &Path) -> Result<(), ExecutorError>;

    /// Removes what is kept for jobs to come in general; no job comes any more.
    async fn retire(&self) {}

    /// Removes what an earlier life of this owner left behind: everything with the owner's name and another boot.
    ///
    /// # Errors
    /// When the daemon cannot be reached or refuses.
    async fn sweep(&self) -> Result<Swept, ExecutorError>;

    /// Removes a folder, or a file, in which containers may have left what this process may not remove.
    ///
    /// # Errors
    /// When something of it stays.
    async fn discard(&self, folder: &Path) -> Result<(), ExecutorError>;

    /// Copies all that lies in a folder into another, over what is there, also where containers have made folders in it
    /// that this process may not write into. What is needed for that is taken from one of these images, which are here.
    ///
    /// # Errors
    /// When it could not; some of it may be there then.
    async fn bring(&self, _from: &Path, _into: &Path, _images: &[&Image]) -> Result<(), ExecutorError> {
        Err(ExecutorError::Refused("what containers leave here is this process's own".to_owned()))
    }

    /// Whether containers of an image that names its platform can run here. The image is brought here for that, which
    /// is told to `output`, and a container of it started; what was called by its name before still is.
    ///
    /// # Errors
    /// [`ExecutorError::Pull`] when the image cannot be had for its platform; others when it cannot be found out.
    async fn suits(&self, image: &Image, output: &Output, stop: &Stop) -> Result<Suits, ExecutorError>;

    /// Whether containers would see a folder of this machine under its own path; nothing while that cannot be told.
    /// Nothing is run for it.
    async fn sees(&self, _folder: &Path) -> Option<bool> {
        Some(true)
    }

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

/// How containers of a platform run in some place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suits {
    /// As they should: it is this place's own platform, or none was named.
    Own,
    /// They run, though it is another platform than this place's own.
    Foreign,
    /// They do not. Why not, and what to do, as the end of a sentence.
    Not(String),
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
pub trait Sandbox: Send + Sync {
    /// Runs the commands that make the image which later stages start from.
    ///
    /// # Errors
    /// When it could not be run; see [`ExecutorError::cause`].
    async fn prepare(&self, order: &PrepareOrder, output: &Output, stop: &Stop) -> Result<Prepared, ExecutorError>;

    /// Starts services on a network of their own and returns when all are ready. `beside` are others that stages of
    /// this network see too, unless one of the new ones has the same name.
    ///
    /// # Errors
    /// [`ExecutorError::NotReady`], or when one could not be run.
    async fn serve(
        &self,
        services: Vec<ServiceOrder>,
        beside: Option<&Served>,
        stop: &Stop,
    ) -> Result<Served, ExecutorError>;

    /// Ends services: politely, then at once. What they print last has been handed to their outputs.
    async fn dismiss(&self, served: Served);

    /// Runs one stage in a fresh container, to its end.
    ///
    /// # Errors
    /// When it could not be run; see [`ExecutorError::cause`].
    async fn run(&self, stage: &StageOrder, output: &Output, stop: &Stop) -> Result<StageEnd, ExecutorError>;

    /// Has the container of a stage started that will probably run next, and returns before that is done. There is one
    /// at most; it is used by a stage whose container would be made exactly so, and removed otherwise, at the latest
    /// when the place is closed. It is no more than a wish, as [`Executor::stand_by`].
    fn stand_by(&self, stage: &StageOrder);

    /// What `prepare` left, where a later job of the same contents would start from it too: by the name under which
    /// [`StandbyOrder::prepared`] knows it. Nothing before [`Sandbox::prepare`].
    fn prepared(&self) -> Option<String> {
        None
    }

    /// The digest of what an image's name meant when it was used in this place; none while it was not.
    async fn digest(&self, image: &Image) -> Option<String>;

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
    pub image: Image,
    /// Whether the Docker socket may be mounted where a stage asks for it.
    pub docker_socket: SocketGrant,
    /// Whether a stage that asks for it gets a privileged container.
    pub privileged: bool,
    /// What of a container stays after its stage, for a person to look into.
    pub keep: KeepContainers,
}

/// What a container stands ready for, before its job is known.
#[derive(Debug, Clone)]
pub struct StandbyOrder {
    /// The place as that job will probably open it. Its workspace is there, and the job's own name is not.
    pub place: SandboxOrder,
    /// Its first stage. Only what its container is made of counts: no script, and of the environment `HOME`.
    pub stage: StageOrder,
    /// What its `prepare` will probably have left, if it has one.
    pub prepared: Option<String>,
}

/// Which containers stay, as an image each, after their stages have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeepContainers {
    /// None.
    #[default]
    Nothing,
    /// Those of stages that failed or took too long.
    Failed,
}

/// What makes the prepared image.
#[derive(Debug, Clone)]
pub struct PrepareOrder {
    /// Its container's work.
    pub stage: StageOrder,
    /// Globs of the files of the workspace that it sees; all without them.
    pub files: Option<Vec<String>>,
    /// Whether its image may be one that an earlier job of the same contents made, and be kept for later ones.
    pub cache: bool,
}

/// What became of a `prepare`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepared {
    /// Its container ended so.
    Ran(StageEnd),
    /// The image of an earlier job of the same contents was taken, so nothing ran.
    Reused,
}

impl Prepared {
    /// How it ended.
    #[must_use]
    pub fn end(self) -> StageEnd {
        match self {
            Self::Ran(end) => end,
            Self::Reused => StageEnd::Exited { code: 0 },
        }
    }
}

/// One service, and where what it prints goes.
#[derive(Debug)]
pub struct ServiceOrder {
    /// What it is. Its environment is whole.
    pub service: Service,
    /// Its log; closed when it has ended.
    pub output: Output,
}

/// Services that are ready, by what their executor calls their network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Served(pub String);

/// Something of this machine that a container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOrder {
    /// A file or folder of this machine.
    pub source: PathBuf,
    /// Where the container sees it.
    pub target: String,
    /// Whether it can only be read.
    pub read_only: bool,
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
    pub image: Option<Image>,
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
    /// What runs in its container when the script failed.
    pub on_failure: Vec<String>,
    /// What runs in its container last.
    pub after: Vec<String>,
    /// What runs the script in place of `/bin/sh -e`; `{0}` stands for the script's file.
    pub shell: Option<String>,
    /// Where the script begins: below the workspace, or absolute.
    pub dir: Option<String>,
    /// A folder of this machine that is its workspace in place of the job's.
    pub folder: Option<PathBuf>,
    /// What else it sees of this machine.
    pub mounts: Vec<MountOrder>,
    /// The services that it sees.
    pub network: Option<Served>,
    /// What it may use of the machine, within this executor's own bounds.
    pub resources: Resources,
    /// Whether it asks for a privileged container.
    pub privileged: bool,
    /// Where the executor writes down what its part of the job's time went to.
    pub ledger: Ledger,
}

impl StageOrder {
    /// A stage that runs these commands in the job's image, and nothing else.
    #[must_use]
    pub fn new(name: StageName, script: Vec<String>, timeout: Duration) -> Self {
        Self {
            name,
            image: None,
            script,
            environment: Vec::new(),
            docker: false,
            timeout,
            idle: None,
            on_failure: Vec::new(),
            after: Vec::new(),
            shell: None,
            dir: None,
            folder: None,
            mounts: Vec::new(),
            network: None,
            resources: Resources::default(),
            privileged: false,
            ledger: Ledger::default(),
        }
    }
}

/// A limit as [`StageEnd`] tells it.
fn millis(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
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
