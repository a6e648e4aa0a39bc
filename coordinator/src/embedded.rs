//! The agent in this process: what `buildr-coordinator up` adds to a coordinator. The only file that names the agent.
//!
//! It is enrolled without a person ([`Embedded::known`]), and stands at the other end of a broker in memory.

use std::sync::Arc;

use agent::config::{Config as AgentConfig, ConfigError as AgentConfigError};
use agent::home::{Home, HomeError};
use agent::spool::{ClaimSpool, Spool};
use agent::{AgentError, Shutdown};
use buildr::cli::jobs::JobArgs;
use buildr::executor::docker::DockerExecutor;
use buildr::executor::{Executor, ExecutorError};
use buildr::runner::{WorkFolder, WorkspaceError};
use protocol::identity::PublicKey;
use protocol::link::memory::MemoryBroker;
use protocol::{AgentId, BootId, ClaimId};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, LocalRepos};

/// An agent that is ready to begin.
pub struct Embedded {
    config: AgentConfig,
    home: Arc<Home>,
    boot: BootId,
    work: WorkFolder,
    executor: Arc<dyn Executor>,
}

/// Why there can be no agent in this process.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Its settings.
    #[error(transparent)]
    Config(#[from] AgentConfigError),
    /// Its folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// What its last life left.
    #[error(
        "what the agent in this process left last time cannot be read: {0}; look at the folder given by --state-dir"
    )]
    Spool(#[source] std::io::Error),
    /// The folder for workspaces.
    #[error(transparent)]
    Work(#[from] WorkspaceError),
    /// The Docker daemon.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
}

impl Embedded {
    /// Makes an agent ready: its key, its folders, its way to the Docker daemon.
    ///
    /// # Errors
    /// When one of these cannot be had.
    pub async fn prepare(config: &Config, jobs: &JobArgs) -> Result<Self, EmbeddedError> {
        let state = config.state_dir.join("agent");
        let home = Home::open(&state, "local".parse().ok())?;
        let boot = BootId::fresh();
        let work = WorkFolder::at(&jobs.containers.work_dir.clone().unwrap_or_else(|| state.join("work")))?;
        let work = work.with(jobs.workspace.into());
        let mut docker = jobs.docker(&home.label(), boot);
        docker.pulled_images = (!jobs.disk.keep_images).then(|| home.pulled_images());
        let executor = DockerExecutor::connect(docker).await?;
        Self::with_executor(config, jobs, home, boot, work, Arc::new(executor))
    }

    /// Makes an agent ready that runs jobs where it is told.
    ///
    /// # Errors
    /// When its settings make no sense.
    pub fn with_executor(
        config: &Config,
        jobs: &JobArgs,
        home: Home,
        boot: BootId,
        work: WorkFolder,
        executor: Arc<dyn Executor>,
    ) -> Result<Self, EmbeddedError> {
        let agent = AgentConfig {
            local_repos: config.local_repos == LocalRepos::Allowed,
            ..AgentConfig::new(jobs, config.trusted_repos.clone())?
        };
        Ok(Self { config: agent, home: Arc::new(home), boot, work, executor })
    }

    /// Who it is, for the coordinator's list of agents that it knows.
    #[must_use]
    pub fn known(&self) -> (AgentId, PublicKey) {
        (self.home.name().clone(), self.home.identity().public())
    }

    /// What its last life held and did not bring to an end. It is over, for its folder is this process's alone: nobody
    /// need wait for it to fall silent.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn interrupted(&self) -> Result<Vec<ClaimId>, EmbeddedError> {
        let spool = Spool::open(self.home.spool()).map_err(EmbeddedError::Spool)?;
        let left = spool.leftovers().map_err(EmbeddedError::Spool)?;
        // A result that lies there is sent, and counts.
        Ok(left.iter().filter(|claim| !claim.is_finished()).map(ClaimSpool::claim).collect())
    }

    /// How many jobs it runs at once.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.config.slots
    }

    /// Runs it. `drain`: take no more jobs and end after those that run; `cancel`: end those too.
    ///
    /// # Errors
    /// When one of its parts fails.
    pub async fn run(
        self,
        broker: &MemoryBroker,
        drain: CancellationToken,
        cancel: CancellationToken,
    ) -> Result<(), AgentError> {
        let link = Arc::new(broker.agent(self.home.name()));
        let shutdown = Shutdown { drain, cancel };
        agent::run(self.config, self.home, self.boot, self.work, link, self.executor, shutdown).await
    }
}
