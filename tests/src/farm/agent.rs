//! One agent of a test's farm, over its lives.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::config::{Config, Standalone};
use agent::home::Home;
use agent::{AgentError, Shutdown};
use buildr::cli::jobs::JobArgs;
use buildr::executor::Executor;
use buildr::executor::docker::DockerExecutor;
use buildr::executor::scripted::ScriptedExecutor;
use buildr::runner::WorkFolder;
use protocol::link::AgentLink;
use protocol::link::rabbitmq::{RabbitAgent, RabbitSettings};
use protocol::{AgentId, BootId, task};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::gate::{Gate, GatedLink};
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
    folder: PathBuf,
    runs: Runs,
    scripted: ScriptedExecutor,
    label: Option<String>,
    life: Option<Life>,
}

struct Life {
    task: JoinHandle<Result<(), AgentError>>,
    shutdown: Shutdown,
    line: Option<Arc<RabbitAgent>>,
    gate: watch::Sender<Gate>,
}

/// What an agent of a test is told unless the test says otherwise.
pub(super) fn config(slots: u32) -> Config {
    let config = Config::new(&JobArgs::default(), Vec::new()).expect("there is no label in it");
    Config { slots, standalone: Standalone::Never, local_repos: true, environment: Vec::new(), ..config }
}

impl Agent {
    pub(super) fn new(name: &str, folder: PathBuf, runs: Runs) -> Self {
        let name = name.parse().expect("a name for an agent");
        Self { name, folder, runs, scripted: ScriptedExecutor::new(), label: None, life: None }
    }

    /// Begins a life.
    pub(super) async fn start(&mut self, config: Config, broker: &Broker) {
        assert!(self.life.is_none(), "agent {} lives already", self.name);
        // The tasks of a life that was cut short give up the lock one after the other.
        let home = until("the agent's folder to be free", async || {
            Home::open(&self.folder.join("state"), Some(self.name.clone())).ok()
        })
        .await;
        let boot = BootId::fresh();
        let work = WorkFolder::at(&self.work()).expect("a work folder");
        self.label = Some(home.label());
        let executor: Arc<dyn Executor> = match self.runs {
            Runs::Scripted => Arc::new(self.scripted.clone()),
            Runs::Docker => Arc::new(docker_executor(&home.label(), boot).await),
        };
        let (line, end): (_, Arc<dyn AgentLink>) = match broker {
            Broker::Memory(broker) => (None, Arc::new(broker.agent(&self.name))),
            Broker::Rabbit(vhost) => {
                let settings = RabbitSettings::new(vhost.uri());
                let line = RabbitAgent::connect(settings, &self.name, boot).await.expect("an address of RabbitMQ");
                let line = Arc::new(line);
                (Some(line.clone()), line)
            }
        };
        let (gate, passing) = watch::channel(Gate::Open);
        let end = Arc::new(GatedLink { line: end, gate: passing });
        let shutdown = Shutdown::default();
        let running = agent::run(config, Arc::new(home), boot, work, end, executor, shutdown.clone());
        self.life = Some(Life { task: task::spawn("agent", running), shutdown, line, gate });
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

    /// Lets through what waited.
    pub fn open_gate(&self) {
        self.life().gate.send_replace(Gate::Open);
    }

    /// Ends the waiting of stages that wait for the file `go`, in all of its jobs; waits until there is one.
    pub async fn let_go(&self) {
        until("a job that can be let go", async || {
            let folders = std::fs::read_dir(self.work()).ok()?;
            let checkouts = folders.flatten().map(|entry| entry.path().join("app"));
            let mut written = checkouts.filter_map(|checkout| std::fs::write(checkout.join("go"), "").ok());
            written.next().map(|()| written.count())
        })
        .await;
    }

    /// Waits until it has ended a job whose end the coordinator does not have yet.
    pub async fn holds_a_result(&self) {
        until("a result in the spool", async || {
            let claims = std::fs::read_dir(self.spool()).ok()?.flatten();
            let mut events = claims.filter_map(|claim| std::fs::read_to_string(claim.path().join("events")).ok());
            events.any(|events| events.contains("\"finished\"")).then_some(())
        })
        .await;
    }

    /// Whether it ever cloned a repository.
    #[must_use]
    pub fn has_cloned(&self) -> bool {
        !files(&self.folder.join("state/mirrors")).is_empty()
    }

    /// Waits until it has a workspace, and so a job of its own.
    pub async fn until_busy(&self) {
        until("a job to begin", async || (!files(&self.work()).is_empty()).then_some(())).await;
    }

    /// Waits until the coordinator has all that it had to say.
    pub async fn has_said_all(&self) {
        until("an empty spool", async || files(&self.spool()).is_empty().then_some(())).await;
    }

    /// All that stands where nothing should when its jobs are over.
    pub(super) async fn left(&self) -> Vec<String> {
        let mut left: Vec<String> = files(&self.work());
        left.extend(files(&self.spool()));
        left.extend((0..self.scripted.open_sandboxes()).map(|_| format!("{}: an open sandbox", self.name)));
        if let (Runs::Docker, Some(label)) = (self.runs, &self.label) {
            left.extend(docker::left_of(label).await);
        }
        left
    }

    /// Ends it and removes what it made in Docker, after a test that failed.
    pub(super) async fn abandon(&mut self) {
        self.kill().await;
        if let (Runs::Docker, Some(label)) = (self.runs, self.label.clone()) {
            docker_executor(&label, BootId::fresh()).await.sweep().await.ok();
        }
    }

    pub(super) fn lives(&self) -> bool {
        self.life.is_some()
    }

    fn life(&self) -> &Life {
        self.life.as_ref().expect("the agent lives")
    }

    fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    fn spool(&self) -> PathBuf {
        self.folder.join("state/spool")
    }
}

async fn docker_executor(label: &str, boot: BootId) -> DockerExecutor {
    let mut settings = docker::settings(label, &boot.to_string());
    settings.network = Some("none".to_owned());
    settings.grace = Duration::from_secs(2);
    DockerExecutor::connect(settings).await.expect("the daemon answers")
}

/// What lies in a folder, which may not be there.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}
