//! Runs containers through a Docker daemon. Only this room names bollard.
//!
//! One stage's way: `image` finds or pulls, `order` says what the container is made of, `container` makes
//! it, attaches and starts (or `ahead` has done so before, and it is `standing`), `handoff` is what it is told, `marks` how it tells how far it is, `ending` ends it, `removal`
//! takes it away again (`helping` as root, where it must), and `carried` brings folders to a daemon that does not see them. `sandbox` goes that way for a
//! job: `stage` for its stages, `prepare` for the image that they start from, `services` and `ready` for what runs
//! beside them, `kept` for what a person looks into later,
//! `commit` makes a container an image. `workspace` is the job's folder on this machine, `disk`
//! looks how large all that becomes, `powers` is what the daemon can do, `platform` looks
//! which platforms it runs, and `tunnel` the way to one over ssh.

mod powers;
mod settings;
mod tunnel;
mod engine;
mod auth;
mod hint;
mod handoff;
mod marks;
mod pulled;
mod image;
mod labels;
mod ending;
mod container;
mod standing;
mod carried;
mod namespace;
mod joint;
mod order;
mod removal;
mod helping;
mod commit;
mod home;
mod spare;
mod notice;
mod disk;
mod workspace;
mod prepared;
mod kept;
mod machine;
mod images;
mod platform;
mod ahead;
mod stage;
mod ready;
mod services;
mod prepare;
mod sandbox;
mod probe;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use protocol::plan::Image;
use protocol::task;

use super::{Executor, ExecutorError, Output, Sandbox, SandboxOrder, Spare, StandbyOrder, Stop, Suits, Swept};
use engine::Engine;
use machine::Machine;
use sandbox::DockerSandbox;

pub use kept::{KeptStage, ShellTerminal};
pub use platform::is_own_platform;
pub use probe::{Daemon, Sight, probe};
pub use removal::OutlivingImage;
pub use settings::{DiskLimits, DockerSettings, Limits, PullLimits};

/// Opens places for jobs on a Docker daemon.
#[derive(Debug, Clone)]
pub struct DockerExecutor {
    machine: Arc<Machine>,
}

impl DockerExecutor {
    /// Connects to the daemon that the settings name.
    ///
    /// # Errors
    /// [`ExecutorError::Unreachable`] when no daemon answers there.
    pub async fn connect(settings: DockerSettings) -> Result<Self, ExecutorError> {
        let engine = Engine::connect(&settings).await?;
        let machine = Arc::new(Machine::new(engine, settings));
        let asked = Arc::clone(&machine);
        // The first container needs to know. A daemon takes its time for the answer, and others have something to do.
        drop(task::spawn("powers", async move {
            asked.powers().await;
        }));
        Ok(Self { machine })
    }

    /// The daemon's version, as it tells it.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.machine.engine.told.version.as_deref()
    }

    /// The platform of the daemon, `linux/amd64` and its like, as it tells it.
    #[must_use]
    pub fn platform(&self) -> Option<String> {
        self.machine.platform()
    }

    /// What this process has kept of stages that failed ([`super::KeepContainers::Failed`]), in the order of their
    /// ends.
    #[must_use]
    pub fn kept(&self) -> Vec<KeptStage> {
        sandbox::lock(&self.machine.kept).clone()
    }

    /// The images that outlive their builds: what `prepare` made, and what was kept of stages that failed. They go by
    /// themselves when their time is over.
    ///
    /// # Errors
    /// When the daemon cannot be reached or refuses.
    pub async fn outliving(&self) -> Result<Vec<OutlivingImage>, ExecutorError> {
        removal::outliving(&self.machine.engine).await
    }

    /// Removes such an image, and says whether it is gone: one that is in use stays.
    pub async fn remove_outliving(&self, image: &OutlivingImage) -> bool {
        removal::remove_outliving(&self.machine.engine, image).await
    }

    /// Removes what was kept of a stage, and says whether it is gone.
    pub async fn forget(&self, kept: &KeptStage) -> bool {
        let image = OutlivingImage { name: kept.image.clone(), bytes: 0, keeper: None };
        removal::remove_outliving(&self.machine.engine, &image).await
    }

    /// Gives a person a shell in the state of a stage that failed: its container's files, its workspace and mounts as
    /// far as they are still there, its environment. Services are not there. Returns the shell's exit code; the
    /// container is removed.
    ///
    /// # Errors
    /// When the daemon cannot be reached or refuses.
    pub async fn shell(&self, kept: &KeptStage, terminal: ShellTerminal) -> Result<i64, ExecutorError> {
        kept::shell(&self.machine, kept, terminal).await
    }
}

#[async_trait]
impl Executor for DockerExecutor {
    async fn open(&self, order: SandboxOrder) -> Result<Box<dyn Sandbox>, ExecutorError> {
        Ok(Box::new(DockerSandbox::open(Arc::clone(&self.machine), order)))
    }

    async fn stand_by(&self, order: StandbyOrder) -> Result<(), ExecutorError> {
        match DockerSandbox::keep_ready(Arc::clone(&self.machine), order).await {
            Some(before) => Box::new(before).close().await,
            None => Ok(()),
        }
    }

    async fn stand_down(&self, workspace: &Path) -> Result<(), ExecutorError> {
        match self.machine.reserved(workspace) {
            Some(place) => Box::new(DockerSandbox::of(Arc::clone(&self.machine), place)).close().await,
            None => Ok(()),
        }
    }

    async fn retire(&self) {
        self.machine.namespaces.retire(&self.machine.engine).await;
    }

    async fn sweep(&self) -> Result<Swept, ExecutorError> {
        let Machine { engine, settings, .. } = &*self.machine;
        let is_live = |sandbox: &str| self.machine.is_live(sandbox);
        removal::sweep(engine, &settings.owner, &settings.boot, is_live).await
    }

    async fn discard(&self, folder: &Path) -> Result<(), ExecutorError> {
        self.machine.discard(folder).await
    }

    async fn bring(&self, from: &Path, into: &Path, images: &[&Image]) -> Result<(), ExecutorError> {
        self.machine.bring(from, into, images).await
    }

    async fn suits(&self, image: &Image, output: &Output, stop: &Stop) -> Result<Suits, ExecutorError> {
        platform::suits(&self.machine, image, output, stop).await
    }

    async fn sees(&self, folder: &Path) -> Option<bool> {
        match probe::sight(&self.machine.engine, &self.machine.settings, folder).await {
            Sight::Sees => Some(true),
            Sight::Blind => Some(false),
            Sight::NoImage | Sight::Unclear(_) => None,
        }
    }

    async fn store(&self) -> Option<PathBuf> {
        spare::store(&self.machine.engine).await
    }

    async fn spare(&self) -> Result<Vec<Spare>, ExecutorError> {
        Ok(self.machine.pulled.unused())
    }

    async fn remove_spare(&self, spare: &Spare) -> Result<bool, ExecutorError> {
        // What holds a namespace is made of an image too, and soon of another.
        self.machine.namespaces.retire(&self.machine.engine).await;
        spare::remove(&self.machine.engine, &self.machine.pulled, spare).await
    }
}

/// What the daemon at the other end cannot do, each as a sentence that says what to do about it; empty for Docker as root.
pub async fn limits_of(executor: &DockerExecutor) -> Vec<String> {
    executor.machine.powers().await.sentences()
}
