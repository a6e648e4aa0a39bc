//! One agent of a test's farm, over its lives.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use agent::config::{Config, Mark, Standalone};
use agent::home::Home;
use agent::{AgentError, Shutdown};
use buildr::cli::jobs::JobArgs;
use buildr::executor::Executor;
use buildr::executor::docker::{DockerExecutor, Limits};
use buildr::executor::scripted::ScriptedExecutor;
use buildr::runner::{WorkFolder, WorkspaceChoice};
use protocol::link::AgentLink;
use protocol::link::rabbitmq::permissions::{Replies, Role};
use protocol::link::rabbitmq::{RabbitAgent, RabbitSettings};
use protocol::{AgentId, BootId, task};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::folders::Folders;
use super::gate::{Gate, GatedLink, Losses, Lost};
use super::rough::{Breaker, Rough, RoughLink};
use super::{Broker, until};
use crate::docker;

/// Where its jobs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// In its own process, as the script's words say.
    Scripted,
    /// In containers.
    Docker,
}

/// An agent: its folders, and the process that it is while it lives.
pub struct Agent {
    name: AgentId,
    /// Its folders.
    pub folders: Folders,
    runs: Runs,
    scripted: ScriptedExecutor,
    limits: Option<Limits>,
    label: Option<String>,
    /// What is yet to be lost on its line, in this life or the next.
    losses: Losses,
    life: Option<Life>,
}

struct Life {
    task: JoinHandle<Result<(), AgentError>>,
    shutdown: Shutdown,
    line: Option<Arc<RabbitAgent>>,
    gate: watch::Sender<Gate>,
    breaker: Option<Breaker>,
}

/// What an agent of a test is told unless the test says otherwise.
pub(super) fn config(slots: u32) -> Config {
    let config = Config::new(&JobArgs::default(), Vec::new()).expect("there is no label in it");
    Config {
        slots,
        standby: true,
        standalone: Standalone::Never,
        local_repos: true,
        environment: Vec::new(),
        mark: Mark::default(),
        ..config
    }
}

impl Agent {
    pub(super) fn new(name: &str, folders: Folders, runs: Runs) -> Self {
        let name = name.parse().expect("a name for an agent");
        let (scripted, losses) = (ScriptedExecutor::new(), Losses::default());
        Self { name, folders, runs, scripted, limits: None, label: None, losses, life: None }
    }

    /// What its containers may use, from its next life on.
    pub(super) fn limit(&mut self, limits: Option<Limits>) {
        self.limits = limits;
    }

    /// Begins a life.
    pub(super) async fn start(&mut self, config: Config, broker: &Broker, rough: Option<&Rough>) {
        assert!(self.life.is_none(), "agent {} lives already", self.name);
        // The tasks of a life that was cut short give up the lock one after the other.
        let home = until("the agent's folder to be free", async || {
            Home::open(&self.folders.state(), Some(self.name.clone())).ok()
        })
        .await;
        let boot = BootId::fresh();
        let choice = match self.runs {
            Runs::Scripted => WorkspaceChoice::Copy,
            Runs::Docker => WorkspaceChoice::Auto,
        };
        let work = WorkFolder::at(&self.folders.work()).expect("a work folder").with(choice);
        self.label = Some(home.label());
        let executor: Arc<dyn Executor> = match self.runs {
            Runs::Scripted => Arc::new(self.scripted.clone()),
            Runs::Docker => Arc::new(docker_executor(&home.label(), boot, self.limits.clone()).await),
        };
        let (line, end): (_, Arc<dyn AgentLink>) = match broker {
            Broker::Memory(broker) => (None, Arc::new(broker.agent(&self.name))),
            Broker::Rabbit(vhost) => {
                let replies = match config.standalone {
                    Standalone::Never => Replies::FromCoordinator,
                    Standalone::Auto | Standalone::Always => Replies::FromAgents,
                };
                let settings = RabbitSettings::new(vhost.uri_of(Role::Agent(&self.name, replies)).await);
                let line = RabbitAgent::connect(settings, &self.name, boot).await.expect("an address of RabbitMQ");
                let line = Arc::new(line);
                (Some(line.clone()), line)
            }
        };
        let breaker = rough.map(|_| Breaker::new());
        let end: Arc<dyn AgentLink> = match (rough, &breaker) {
            (Some(rough), Some(breaker)) => Arc::new(RoughLink {
                line: end,
                rough: rough.clone(),
                breaker: breaker.clone(),
                held_back: tokio::sync::Mutex::default(),
            }),
            _ => end,
        };
        let (gate, passing) = watch::channel(Gate::Open);
        let end = Arc::new(GatedLink { line: end, gate: passing, losses: self.losses.clone() });
        let shutdown = Shutdown::default();
        let running = agent::run(config, Arc::new(home), boot, work, end, executor, shutdown.clone());
        self.life = Some(Life { task: task::spawn("agent", running), shutdown, line, gate, breaker });
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &AgentId {
        &self.name
    }

    /// Takes no more jobs from now on.
    pub fn drain(&self) {
        self.life().shutdown.drain.cancel();
    }

    /// Waits for the end of an agent that drains.
    ///
    /// # Panics
    /// When it does not end, or badly.
    pub async fn ended(&mut self) {
        let Life { task, line, gate: _gate, .. } = self.life.take().expect("the agent lives");
        let ended = tokio::time::timeout(super::PATIENCE, task).await;
        let ended = ended.unwrap_or_else(|_| panic!("agent {} does not end", self.name));
        ended.expect("the agent does not panic").unwrap_or_else(|error| panic!("agent {}: {error}", self.name));
        if let Some(line) = line {
            line.close().await;
        }
    }

    /// Ends it in good order.
    pub async fn stop(&mut self) {
        self.drain();
        self.ended().await;
    }

    /// Ends it where it stands, as far as that is possible within a process.
    pub async fn kill(&mut self) {
        let Some(Life { task, line, .. }) = self.life.take() else { return };
        task.abort();
        // It was asked to end just so.
        task.await.ok();
        if let Some(line) = line {
            line.close().await;
        }
    }

    /// From now on nothing that it says arrives, and it hears nothing, until [`Agent::open_gate`].
    pub fn shut_gate(&self) {
        self.life().gate.send_replace(Gate::Shut);
    }

    /// What breaks its line, when that is a rough one and it lives.
    #[must_use]
    pub fn breaker(&self) -> Option<Breaker> {
        self.life.as_ref().and_then(|life| life.breaker.clone())
    }

    /// Has a message be lost, the next time that there is one.
    pub fn lose(&self, what: Lost) {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Whether all that was to be lost is lost.
    #[must_use]
    pub fn has_lost_all(&self) -> bool {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Lets through what waited.
    pub fn open_gate(&self) {
        self.life().gate.send_replace(Gate::Open);
    }

    /// All that stands where nothing should when its jobs are over.
    pub(super) async fn left(&self) -> Vec<String> {
        let mut left = self.folders.left();
        left.extend((0..self.scripted.open_sandboxes()).map(|_| format!("{}: an open sandbox", self.name)));
        left.extend((0..self.scripted.standing()).map(|_| format!("{}: a place that stands ready", self.name)));
        left.extend(self.containers().await);
        left
    }

    /// Ends it and removes what it made in Docker, after a test that failed.
    pub(super) async fn abandon(&mut self) {
        self.kill().await;
        if let (Runs::Docker, Some(label)) = (self.runs, self.label.clone()) {
            docker_executor(&label, BootId::fresh(), None).await.sweep().await.ok();
        }
    }

    /// All that bears its label in Docker.
    pub async fn containers(&self) -> Vec<String> {
        match (self.runs, &self.label) {
            (Runs::Docker, Some(label)) => docker::left_of(None, label).await,
            _ => Vec::new(),
        }
    }

    /// The same without what holds a network namespace for jobs in general.
    pub async fn containers_of_jobs(&self) -> Vec<String> {
        let mut all = self.containers().await;
        all.retain(|container| !container.ends_with(" of network"));
        all
    }

    /// Whether it lives at present.
    #[must_use]
    pub fn lives(&self) -> bool {
        self.life.is_some()
    }

    fn life(&self) -> &Life {
        self.life.as_ref().expect("the agent lives")
    }
}

async fn docker_executor(label: &str, boot: BootId, limits: Option<Limits>) -> DockerExecutor {
    let mut settings = docker::settings(label, &boot.to_string());
    settings.network = Some("none".to_owned());
    settings.namespaces = 1;
    settings.grace = Duration::from_secs(2);
    settings.limits = limits.unwrap_or(settings.limits);
    DockerExecutor::connect(settings).await.expect("the daemon answers")
}
