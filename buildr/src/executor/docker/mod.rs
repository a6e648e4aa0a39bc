//! Runs containers through a Docker daemon. Only this room names bollard.
//!
//! One stage's way: `image` finds or pulls, `order` says what the container is made of, `container` makes
//! it, attaches, starts and stays to its end, `handoff` is what it is told, `removal` takes it away again.
//! `sandbox` goes that way for a job, `workspace` is the job's folder on this machine, and `disk` looks how large all
//! that becomes.

mod settings;
mod engine;
mod auth;
mod hint;
mod handoff;
mod pulled;
mod image;
mod labels;
mod order;
mod container;
mod removal;
mod spare;
mod notice;
mod disk;
mod workspace;
mod machine;
mod sandbox;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::{Executor, ExecutorError, Sandbox, SandboxOrder, Spare, Swept};
use engine::Engine;
use machine::Machine;
use sandbox::{DockerSandbox, Place};

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
        Ok(Self { machine: Arc::new(Machine::new(engine, settings)) })
    }

    /// The daemon's version, as it tells it.
    pub async fn version(&self) -> Option<String> {
        self.machine.engine.quick.version().await.ok()?.version
    }
}

#[async_trait]
impl Executor for DockerExecutor {
    async fn open(&self, order: SandboxOrder) -> Result<Box<dyn Sandbox>, ExecutorError> {
        Ok(Box::new(Place::new(DockerSandbox::new(Arc::clone(&self.machine), order))))
    }

    async fn sweep(&self) -> Result<Swept, ExecutorError> {
        let Machine { engine, settings, .. } = &*self.machine;
        let is_live = |sandbox: &str| self.machine.is_live(sandbox);
        removal::sweep(engine, &settings.owner, &settings.boot, is_live).await
    }

    async fn discard(&self, folder: &Path) -> Result<(), ExecutorError> {
        self.machine.discard(folder).await
    }

    async fn store(&self) -> Option<PathBuf> {
        spare::store(&self.machine.engine).await
    }

    async fn spare(&self) -> Result<Vec<Spare>, ExecutorError> {
        Ok(self.machine.pulled.unused())
    }

    async fn remove_spare(&self, spare: &Spare) -> Result<bool, ExecutorError> {
        spare::remove(&self.machine.engine, &self.machine.pulled, spare).await
    }
}
