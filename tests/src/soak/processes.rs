//! The farm that is soaked: a coordinator and agents, each a process with a line of its own to the broker.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use agent::home::Home;
use buildr::client;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::counter::Counter;
use super::line::Line;
use super::shapes::{self, Shape};
use crate::farm::{Folders, Repository};
use crate::rabbit::Vhost;
use crate::{docker, ports};

/// How long a claim lives without a sign of life.
pub(super) const LEASE: Duration = Duration::from_secs(20);

const AGENTS: [&str; 3] = ["ash", "birch", "cedar"];

/// How long a process may take to end when it is told to.
const TO_END: Duration = Duration::from_secs(90);

/// The farm.
pub(super) struct Processes {
    pub(super) vhost: Vhost,
    pub(super) counter: Counter,
    pub(super) shapes: Vec<Shape>,
    /// One for each shape, in the same order.
    pub(super) repositories: Vec<Repository>,
    pub(super) coordinator: Part,
    pub(super) agents: Vec<Part>,
    pub(super) api: client::Farm,
    folder: std::sync::Mutex<Option<tempfile::TempDir>>,
}

/// One process of it, over its lives.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) line: Line,
    program: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    child: Mutex<Option<Child>>,
    /// Held by who does something to it.
    pub(super) busy: Mutex<()>,
    /// An agent's.
    pub(super) folders: Folders,
    label: Option<String>,
}

impl Processes {
    pub(super) async fn start(vhost: Vhost) -> Self {
        let folder = tempfile::tempdir().expect("a folder for a farm");
        let counter = Counter::start().await;
        let shapes = shapes::all(&counter);
        let repositories = shapes.iter().map(|shape| Repository::with_manifest(&shape.manifest)).collect();
        let [port] = ports::free();
        let address = format!("127.0.0.1:{port}");
        let state = folder.path().join("coordinator");
        let seconds = LEASE.as_secs().to_string();
        let arguments = ["--listen", &address, "--open-enrolment", "--local-repos", "--lease-seconds", &seconds];
        let arguments = arguments.into_iter().chain(["--heartbeat-seconds", "1", "--beacon-seconds", "1"]);
        let coordinator = Part::new("coordinator", &vhost, folder.path(), arguments).await;
        let mut agents = Vec::new();
        for name in AGENTS {
            let work = folder.path().join(name).join("work").display().to_string();
            let arguments = ["--name", name, "--work-dir", &work, "--slots", "2", "--local-repos"];
            let arguments = arguments.into_iter().chain(["--standalone", "never", "--network", "host"]);
            agents.push(Part::new(name, &vhost, folder.path(), arguments).await);
        }
        let token = coordinator::api_token(&state).expect("a token");
        let server = format!("http://{address}").parse().expect("a URL");
        let api = client::Farm::new(server, Some(token)).expect("a client");
        // As a person would who publishes before the farm is there.
        vhost.declare("build_queue", serde_json::json!({})).await;
        let farm = Self {
            vhost,
            counter,
            shapes,
            repositories,
            coordinator,
            agents,
            api,
            folder: std::sync::Mutex::new(Some(folder)),
        };
        farm.all_up().await;
        farm
    }

    /// Mends and starts what is broken, and waits until all of it is there.
    pub(super) async fn all_up(&self) {
        for part in self.parts() {
            part.line.mend();
            part.signal("-CONT").await;
            part.start().await;
        }
        let end = Instant::now() + TO_END;
        loop {
            let agents = self.api.agents().await.unwrap_or_default();
            let here = agents.iter().filter(|agent| agent.seen_ms_ago.is_some_and(|ago| ago < 3_000));
            if here.count() == self.agents.len() || Instant::now() > end {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.coordinator).chain(&self.agents)
    }

    /// What stands where nothing should when all is over, at the end of `patience` at the latest.
    pub(super) async fn until_clean(&self, patience: Duration) -> Vec<String> {
        let end = Instant::now() + patience;
        loop {
            let mut left = Vec::new();
            for agent in &self.agents {
                left.extend(agent.folders.left());
                left.extend(docker::left_of(None, agent.label.as_deref().unwrap_or_default()).await);
            }
            let counted = ["build_queue", "buildr.events.v1", "buildr.logs.v1"];
            let full = |(queue, depth): &(String, u64)| *depth > 0 && counted.contains(&queue.as_str());
            let queues = self.vhost.depths().await.into_iter().filter(full);
            left.extend(queues.map(|(queue, depth)| format!("{depth} messages on {queue}")));
            if left.is_empty() || Instant::now() > end {
                return left;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Ends all of it in good order, and tells what did not end so.
    pub(super) async fn stop(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for part in self.agents.iter().chain([&self.coordinator]) {
            match part.end("-TERM").await {
                Some(status) if status.success() => {}
                Some(status) => wrong.push(format!("{} ended with {status}", part.name)),
                None => wrong.push(format!("{} did not end", part.name)),
            }
        }
        for agent in &self.agents {
            docker::remove_all_of(None, agent.label.as_deref().unwrap_or_default()).await;
        }
        wrong
    }

    /// Keeps what the processes said, for somebody who has to find out.
    pub(super) fn keep_logs(&self) {
        if let Some(folder) = self.folder.lock().ok().and_then(|mut folder| folder.take()) {
            println!("what the processes said is in {}", folder.keep().display());
        }
    }
}

impl Part {
    async fn new(name: &'static str, vhost: &Vhost, folder: &Path, arguments: impl Iterator<Item = &str>) -> Self {
        let mut amqp: url::Url = vhost.uri().parse().expect("the broker's address");
        let host = amqp.host_str().unwrap_or("127.0.0.1").to_owned();
        let line = Line::to(format!("{host}:{}", amqp.port().unwrap_or(5672))).await;
        // They fail for addresses without a host alone.
        amqp.set_host(Some("127.0.0.1")).ok();
        amqp.set_port(Some(line.address.port())).ok();
        let is_agent = AGENTS.contains(&name);
        let folders = Folders::at(folder.join(name));
        let state = if is_agent { folders.state() } else { folder.join(name) };
        let label = is_agent.then(|| {
            let name = name.parse().expect("a name for an agent");
            Home::open(&folders.state(), Some(name)).expect("a folder for an agent").label()
        });
        let mut all: Vec<String> = arguments.map(str::to_owned).collect();
        all.extend(["--amqp".to_owned(), amqp.to_string()]);
        all.extend(["--state-dir".to_owned(), state.display().to_string()]);
        let program = beside(if is_agent { "buildr-agent" } else { "buildr-coordinator" });
        let (arguments, folder, child, busy) = (all, folder.to_owned(), Mutex::default(), Mutex::default());
        Self { name, line, program, arguments, folder, child, busy, folders, label }
    }

    /// Starts it, unless it runs.
    pub(super) async fn start(&self) {
        let mut child = self.child.lock().await;
        if child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None))) {
            return;
        }
        let log = self.folder.join(format!("{}.log", self.name));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log).kill_on_drop(true);
        // Settings of the one who runs this are none of the farm's.
        command.current_dir(&self.folder).env("XDG_CONFIG_HOME", &self.folder);
        // Nor is the room on their disk.
        command.env("BUILDR_AGENT_DISK_WATERMARK", "0");
        // What stands ready for the next job is no trace of the last one, and looks like it.
        command.env("BUILDR_AGENT_STANDBY", "0").env("BUILDR_AGENT_JOINED_NETWORK", "0");
        *child = Some(command.spawn().expect("the program can be started"));
    }

    /// Whether it ended though nobody told it to.
    pub(super) async fn has_fallen(&self) -> Option<ExitStatus> {
        self.child.lock().await.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Sends it a signal, when it runs.
    pub(super) async fn signal(&self, signal: &str) {
        if let Some(process) = self.child.lock().await.as_ref().and_then(Child::id) {
            Command::new("kill").args([signal, &process.to_string()]).status().await.ok();
        }
    }

    /// Ends it by a signal. `None`: it did not end in time, and was killed.
    pub(super) async fn end(&self, signal: &str) -> Option<ExitStatus> {
        self.signal(signal).await;
        let mut child = self.child.lock().await.take()?;
        if let Ok(Ok(status)) = tokio::time::timeout(TO_END, child.wait()).await {
            return Some(status);
        }
        child.kill().await.ok();
        None
    }
}

/// A program of this workspace: beside this one, or one folder above.
fn beside(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("this program's own place");
    let places = here.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    let found = places.into_iter().find(|program| program.exists());
    found.unwrap_or_else(|| panic!("{name} is missing: run `cargo build --release --workspace` first"))
}
