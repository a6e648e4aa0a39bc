//! A whole farm for one test: a real coordinator and real agents, over a broker in memory or over RabbitMQ, with jobs
//! that run as scripts say or in containers. At its end nothing may be left of it.

mod repository;
mod folders;
mod gate;
mod rough;
mod agent;
mod api;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buildr::executor::docker::Limits;
use coordinator::config::{Enrolment, LocalRepos};
use coordinator::{Config, RunError};
use futures_util::FutureExt as _;
use protocol::link::CoordinatorLink;
use protocol::link::memory::MemoryBroker;
use protocol::link::rabbitmq::permissions::Role;
use protocol::link::rabbitmq::{RabbitCoordinator, RabbitSettings};
use protocol::task;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::rabbit::{Vhost, with_vhost};
use crate::{docker, ports};

pub use agent::{Agent, Runs};
pub use api::Api;
pub use folders::{Folders, copy};
pub use gate::Lost;
pub use repository::Repository;
pub use rough::{Breaker, Rough};

/// How long a test waits for anything before it has failed: long enough for a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Where a farm's messages go.
pub enum Broker {
    /// From one end to the other in this process.
    Memory(MemoryBroker),
    /// Through RabbitMQ.
    Rabbit(Vhost),
}

/// A farm of a test's own.
pub struct Farm {
    /// What the coordinator is told; changes count from its next start on.
    pub config: Config,
    /// What happens on the lines of agents that are started from now on, when they are rough.
    pub rough: Option<Rough>,
    /// What containers of agents may use that are started from now on, when it is not what nobody changed.
    pub limits: Option<Limits>,
    broker: Broker,
    runs: Runs,
    folder: tempfile::TempDir,
    coordinator: Option<Coordinator>,
    agents: BTreeMap<String, Agent>,
    kept: Arc<Mutex<Vec<Repository>>>,
}

struct Coordinator {
    task: JoinHandle<Result<(), RunError>>,
    stop: CancellationToken,
    line: Option<Arc<RabbitCoordinator>>,
    api: Api,
}

/// Runs a test on a farm in memory.
pub async fn in_memory(test: impl AsyncFnOnce(&mut Farm)) {
    during(Broker::Memory(MemoryBroker::new()), Runs::Scripted, test).await;
}

/// Runs a test on a farm over RabbitMQ, in a vhost of its own.
pub async fn over_rabbitmq(test: impl AsyncFnOnce(&mut Farm)) {
    with_vhost(|vhost| during(Broker::Rabbit(vhost), Runs::Scripted, test)).await;
}

/// Runs a test on a farm in memory whose jobs run in containers.
pub async fn in_memory_in_docker(test: impl AsyncFnOnce(&mut Farm)) {
    if docker::is_there().await {
        during(Broker::Memory(MemoryBroker::new()), Runs::Docker, test).await;
    }
}

/// Runs a test on a farm over RabbitMQ whose jobs run in containers.
pub async fn over_rabbitmq_in_docker(test: impl AsyncFnOnce(&mut Farm)) {
    if docker::is_there().await {
        with_vhost(|vhost| during(Broker::Rabbit(vhost), Runs::Docker, test)).await;
    }
}

/// Waits until something is there, for what no feed tells of.
///
/// # Panics
/// When it is not there in time.
pub async fn until<T>(what: &str, found: impl AsyncFn() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < end, "waited for {what} in vain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn during(broker: Broker, runs: Runs, test: impl AsyncFnOnce(&mut Farm)) {
    tell_log();
    let folder = tempfile::tempdir().expect("a folder for a farm");
    let [port] = ports::free();
    let config = Config {
        // Each of its lives is at the same place, so that followers find it.
        listen: SocketAddr::from(([127, 0, 0, 1], port)),
        enrolment: Enrolment::Open,
        local_repos: LocalRepos::Allowed,
        lease: Duration::from_secs(3),
        heartbeat: Duration::from_secs(1),
        beacon: Duration::from_secs(1),
        ..Config::new(folder.path().join("coordinator"))
    };
    let mut farm = Farm {
        config,
        rough: None,
        limits: None,
        broker,
        runs,
        folder,
        coordinator: None,
        agents: BTreeMap::new(),
        kept: Arc::default(),
    };
    match AssertUnwindSafe(test(&mut farm)).catch_unwind().await {
        Ok(()) => farm.end().await,
        Err(panic) => {
            farm.abandon().await;
            std::panic::resume_unwind(panic);
        }
    }
}

/// Shows what the parts say, for somebody who has to find out why a test failed.
fn tell_log() {
    let filter = crate::rabbit::setting("BUILDR_TEST_LOG", "");
    if !filter.is_empty() {
        // Another test of this process may have done it.
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init().ok();
    }
}

impl Farm {
    /// Starts the coordinator, or starts it again.
    ///
    /// # Panics
    /// When it runs already, or cannot begin; so do the others.
    pub async fn start_coordinator(&mut self) {
        assert!(self.coordinator.is_none(), "the coordinator runs already");
        // After a stop its port may be busy for a moment.
        let listener = until("the port", async || TcpListener::bind(self.config.listen).await.ok()).await;
        let (line, end): (_, Arc<dyn CoordinatorLink>) = match &self.broker {
            Broker::Memory(broker) => (None, Arc::new(broker.coordinator())),
            Broker::Rabbit(vhost) => {
                let line = RabbitCoordinator::connect(RabbitSettings::new(vhost.uri_of(Role::Coordinator).await)).await;
                let line = Arc::new(line.expect("an address of RabbitMQ"));
                (Some(line.clone()), line)
            }
        };
        let stop = CancellationToken::new();
        let token = coordinator::api_token(&self.config.state_dir).expect("a token");
        let running = coordinator::run(self.config.clone(), end, listener, stop.clone());
        let api = Api { kept: self.kept.clone(), ..Api::at(&self.config.listen.to_string(), token) };
        self.coordinator = Some(Coordinator { task: task::spawn("coordinator", running), stop, line, api });
        until("the coordinator's answer", async || self.api().client.agents().await.ok()).await;
    }

    /// Ends the coordinator; its agents go on.
    pub async fn stop_coordinator(&mut self) {
        let Coordinator { task, stop, line, .. } = self.coordinator.take().expect("the coordinator runs");
        stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, task).await.expect("the coordinator ends");
        ended.expect("the coordinator does not panic").expect("the coordinator ends well");
        if let Some(line) = line {
            line.close().await;
        }
    }

    /// Ends the coordinator where it stands.
    pub async fn kill_coordinator(&mut self) {
        let Some(Coordinator { task, line, .. }) = self.coordinator.take() else { return };
        task.abort();
        // It was asked to end just so.
        task.await.ok();
        if let Some(line) = line {
            line.close().await;
        }
        // Unlike those of a process, its tasks end one by one, and the last of them lets go of the folder.
        let lock = self.config.state_dir.join("lock");
        until("the state folder to be free", async || std::fs::File::open(&lock).ok()?.try_lock().ok()).await;
    }

    /// Whether the coordinator is there.
    #[must_use]
    pub fn has_coordinator(&self) -> bool {
        self.coordinator.is_some()
    }

    /// The coordinator's API.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.coordinator.as_ref().expect("the coordinator runs").api
    }

    /// Starts an agent, or starts it again.
    pub async fn start_agent(&mut self, name: &str, slots: u32) {
        self.start_agent_with(name, |config| config.slots = slots).await;
    }

    /// Starts an agent that is told what the test wants.
    pub async fn start_agent_with(&mut self, name: &str, tell: impl FnOnce(&mut ::agent::config::Config)) {
        self.start_agent_as(name, name, tell).await;
    }

    /// Starts an agent that goes by another's name; `own` is what the test calls it.
    pub async fn start_agent_as(&mut self, own: &str, name: &str, tell: impl FnOnce(&mut ::agent::config::Config)) {
        let mut config = agent::config(1);
        tell(&mut config);
        let folders = Folders::at(self.folder.path().join(own));
        let agent = self.agents.entry(own.to_owned()).or_insert_with(|| Agent::new(name, folders, self.runs));
        agent.limit(self.limits.clone());
        agent.start(config, &self.broker, self.rough.as_ref()).await;
    }

    /// Says where the folders of an agent are that has not been started yet.
    pub fn place_agent(&mut self, name: &str, place: impl FnOnce(Folders) -> Folders) {
        let folders = place(Folders::at(self.folder.path().join(name)));
        self.agents.insert(name.to_owned(), Agent::new(name, folders, self.runs));
    }

    /// An agent's folders.
    #[must_use]
    pub fn folders(&self, name: &str) -> &Folders {
        &self.agents.get(name).unwrap_or_else(|| panic!("there is no agent {name}")).folders
    }

    /// One of its agents.
    #[must_use]
    pub fn agent(&mut self, name: &str) -> &mut Agent {
        self.agents.get_mut(name).unwrap_or_else(|| panic!("there is no agent {name}"))
    }

    /// Waits until the coordinator has heard of an agent, enrolled or not.
    pub async fn until_known(&self, name: &str) -> protocol::api::AgentView {
        until("an agent to be known", async || {
            let agents = self.api().client.agents().await.ok()?;
            agents.into_iter().find(|agent| agent.name == name)
        })
        .await
    }

    /// Waits until the coordinator has enrolled an agent and sees it.
    pub async fn until_here(&self, name: &str) {
        until("an agent to be here", async || {
            let agents = self.api().client.agents().await.ok()?;
            agents.into_iter().find(|agent| agent.name == name && agent.enrolled && agent.seen_ms_ago.is_some())
        })
        .await;
    }

    /// The broker in memory.
    #[must_use]
    pub fn memory(&self) -> &MemoryBroker {
        match &self.broker {
            Broker::Memory(broker) => broker,
            Broker::Rabbit(_) => panic!("this farm is not in memory"),
        }
    }

    /// RabbitMQ.
    #[must_use]
    pub fn vhost(&self) -> &Vhost {
        match &self.broker {
            Broker::Rabbit(vhost) => vhost,
            Broker::Memory(_) => panic!("this farm is not over RabbitMQ"),
        }
    }

    /// The folder of one of its parts: `coordinator`, or an agent's name.
    #[must_use]
    pub fn folder(&self, part: &str) -> std::path::PathBuf {
        self.folder.path().join(part)
    }

    /// Ends all in good order and sees that nothing is left.
    async fn end(mut self) {
        for agent in self.agents.values_mut().filter(|agent| agent.lives()) {
            agent.drain();
        }
        for agent in self.agents.values_mut().filter(|agent| agent.lives()) {
            agent.ended().await;
        }
        if self.coordinator.is_some() {
            self.stop_coordinator().await;
        }
        let mut left = Vec::new();
        for agent in self.agents.values() {
            left.extend(agent.left().await);
        }
        assert!(left.is_empty(), "something is left: {left:#?}");
    }

    async fn abandon(&mut self) {
        if let Some(coordinator) = &self.coordinator {
            eprintln!("{}", coordinator.api.state().await);
        }
        for agent in self.agents.values_mut() {
            agent.abandon().await;
        }
        self.kill_coordinator().await;
    }
}
