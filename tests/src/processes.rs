//! A farm of real processes, which a test kills, freezes, cuts off and starts again. Agents have broker users of their
//! own, with no more rights than they need.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use agent::home::Home;
use futures_util::FutureExt as _;
use protocol::BuildNumber;
use protocol::api::{AttemptView, BuildView, Status};
use tokio::process::{Child, Command};

use crate::farm::{Api, Folders, PATIENCE, Repository, until};
use crate::proxy::Proxy;
use crate::rabbit::{Vhost, with_vhost};
use crate::{docker, ports};

/// What every farm here builds: its stage goes on until it is let go, and prints a lot afterwards, so that a log with
/// a hole is found.
fn waits() -> String {
    let image = docker::image();
    format!(
        "image: {image}\nstages: [wait, after]\nwait:\n  script:\n    - echo begun\n    - until [ -e go ]; do sleep 0.05; done\n    - seq 1 3000\nafter: {{script: [echo after]}}\n"
    )
}

/// A farm of processes.
pub struct Processes {
    /// Where its messages go.
    pub vhost: Vhost,
    /// What it builds.
    pub repository: Repository,
    /// Where everything of it lies.
    pub folder: tempfile::TempDir,
    /// The lease, from the coordinator's next start on.
    pub lease: Duration,
    /// How often the coordinator says that it is there, from its next start on: an agent that hears nothing for three
    /// times as long gives its claims up.
    pub beacon: Duration,
    /// The Docker daemon of the agents, where it is not the machine's own.
    pub docker_host: Option<String>,
    /// More variables for a process, by its name (`coordinator`, or an agent's).
    pub variables: BTreeMap<String, Vec<(String, String)>>,
    /// Through whom a process reaches the broker, by its name.
    pub routes: BTreeMap<String, String>,
    /// The coordinator, while it runs.
    pub coordinator: Option<Child>,
    address: String,
    agents: Vec<AgentProcess>,
}

/// One agent, over its lives.
pub struct AgentProcess {
    name: String,
    label: String,
    docker_host: Option<String>,
    /// Where its messages go, as its own user.
    pub uri: String,
    /// Its folders.
    pub folders: Folders,
    /// The process, while it runs.
    pub child: Option<Child>,
}

/// Runs a test on a farm of processes, and removes whatever it leaves, also after a failure.
///
/// # Panics
/// When the test does, or something is left behind; so do the others.
pub async fn with_processes(lease_s: u64, test: impl AsyncFnOnce(&mut Processes)) {
    if docker::is_there().await {
        with_vhost(async |vhost| on(vhost, None, lease_s, test).await).await;
    }
}

/// Runs a test on a farm of processes on a broker and a daemon of the test's choice.
pub async fn on(vhost: Vhost, docker_host: Option<String>, lease_s: u64, test: impl AsyncFnOnce(&mut Processes)) {
    let [port] = ports::free();
    let mut farm = Processes {
        vhost,
        folder: tempfile::tempdir().expect("a folder for a farm"),
        repository: Repository::with_manifest(&waits()),
        lease: Duration::from_secs(lease_s),
        beacon: Duration::from_secs(1),
        docker_host,
        variables: BTreeMap::new(),
        routes: BTreeMap::new(),
        coordinator: None,
        // Each of its lives is at the same place.
        address: format!("127.0.0.1:{port}"),
        agents: Vec::new(),
    };
    let outcome = AssertUnwindSafe(test(&mut farm)).catch_unwind().await;
    if outcome.is_err() {
        farm.tell_logs();
    }
    if let Some(child) = farm.coordinator.take().filter(|_| outcome.is_ok()) {
        signal(&child, "-TERM").await;
        let ended = exit(child).await;
        assert!(ended.success(), "the coordinator ends with {ended}");
    }
    let mut left = Vec::new();
    for agent in &mut farm.agents {
        drop(agent.child.take());
        left.extend(agent.folders.left());
        left.extend(agent.containers().await);
        docker::remove_all_of(agent.docker_host.as_deref(), &agent.label).await;
    }
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    assert!(left.is_empty(), "something is left: {left:#?}");
}

/// A program of this workspace, which lies beside the tests.
fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("this program has a path");
    let program = here.parent().and_then(Path::parent).expect("it lies in target/release/deps").join(name);
    assert!(program.exists(), "{} is missing: run `cargo build --release --workspace` first", program.display());
    program
}

/// Sends a signal to a process that this test started.
pub async fn signal(child: &Child, signal: &str) {
    let process = child.id().expect("it runs").to_string();
    let sent = Command::new("kill").args([signal, &process]).status().await.expect("there is a kill");
    assert!(sent.success(), "kill {signal} {process}");
}

/// Waits for a process to end.
pub async fn exit(mut child: Child) -> ExitStatus {
    tokio::time::timeout(PATIENCE, child.wait()).await.expect("the process ends").expect("it can be waited for")
}

/// Says how long a recovery took, for the table in the manual; nothing is decided by it.
pub fn recovered(fault: &str, since: Instant, lease: Duration) {
    eprintln!("recovery | {fault} | {:.1} s | lease {} s", since.elapsed().as_secs_f64(), lease.as_secs());
}

/// The attempts' states, in order.
#[must_use]
pub fn states(view: &BuildView) -> Vec<&str> {
    view.attempts.iter().map(|attempt| attempt.state.as_str()).collect()
}

impl Processes {
    fn begin(&self, program_name: &str, who: &str, uri: &str, arguments: &[&str]) -> Child {
        let path = self.folder.path().join(format!("{who}.log"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a file for a log");
        let mut command = Command::new(program(program_name));
        let mut uri: url::Url = uri.parse().expect("an address");
        if let Some((host, port)) = self.routes.get(who).and_then(|place| place.split_once(':')) {
            uri.set_host(Some(host)).expect("a host");
            uri.set_port(port.parse().ok()).expect("a port");
        }
        command.args(arguments).args(["--amqp", uri.as_str()]);
        let errors = log.try_clone().expect("a second hold on a file");
        command.stdin(Stdio::null()).stdout(log).stderr(errors).kill_on_drop(true);
        // Settings of the one who runs the tests are none of the farm's.
        command.current_dir(self.folder.path()).env("XDG_CONFIG_HOME", self.folder.path());
        // Nor is the room on their disk.
        command.env("BUILDR_AGENT_DISK_WATERMARK", "0");
        // What stands ready for the next job is no trace of the last one, and looks like it.
        command.env("BUILDR_AGENT_STANDBY", "0").env("BUILDR_AGENT_JOINED_NETWORK", "0");
        command.envs(self.variables.get(who).into_iter().flatten().map(|(name, value)| (name, value)));
        if let (Some(host), true) = (&self.docker_host, who != "coordinator") {
            command.env("DOCKER_HOST", host);
        }
        command.spawn().expect("the program begins")
    }

    /// Starts the coordinator, or starts it again, and waits for its answer.
    pub async fn start_coordinator(&mut self) {
        self.begin_coordinator();
        until("the coordinator's answer", async || self.api().client.agents().await.ok()).await;
    }

    /// Starts the coordinator and waits for nothing.
    pub fn begin_coordinator(&mut self) {
        assert!(self.coordinator.is_none(), "the coordinator runs already");
        let state = self.state().display().to_string();
        let lease = self.lease.as_secs().to_string();
        let mut arguments = vec!["--state-dir", &state, "--listen", &self.address, "--open-enrolment", "--local-repos"];
        let beacon = self.beacon.as_secs().to_string();
        arguments.extend(["--lease-seconds", &lease, "--heartbeat-seconds", "1", "--beacon-seconds", &beacon]);
        let child = self.begin("buildr-coordinator", "coordinator", &self.vhost.uri(), &arguments);
        self.coordinator = Some(child);
    }

    /// Starts an agent with one slot, or starts it again.
    pub async fn start_agent(&mut self, name: &str) {
        let folders = Folders::at(self.folder.path().join(name));
        self.start_agent_in(name, name, folders).await;
    }

    /// Starts an agent that goes by another's name, in folders of the test's choice.
    pub async fn start_agent_in(&mut self, own: &str, name: &str, folders: Folders) {
        let place = match self.agents.iter().position(|agent| agent.name == own) {
            Some(place) => place,
            None => {
                let named = name.parse().expect("a name for an agent");
                let label = Home::open(&folders.state(), Some(named)).expect("a home").label();
                let uri = match self.agents.iter().find(|agent| agent.name == name) {
                    Some(same) => same.uri.clone(),
                    None => self.user_of(name).await,
                };
                let docker_host = self.docker_host.clone();
                self.agents.push(AgentProcess { name: own.to_owned(), label, docker_host, uri, folders, child: None });
                self.agents.len() - 1
            }
        };
        let AgentProcess { folders, uri, .. } = &self.agents[place];
        let (state, work) = (folders.state().display().to_string(), folders.work().display().to_string());
        let mut arguments = vec!["--name", name, "--state-dir", &state, "--work-dir", &work, "--slots", "1"];
        arguments.extend(["--local-repos", "--standalone", "never", "--network", "none"]);
        let child = self.begin("buildr-agent", own, uri, &arguments);
        self.agents[place].child = Some(child);
    }

    /// The broker's address for a user who may do what the manual lets this agent do, and no more.
    async fn user_of(&self, agent: &str) -> String {
        let own = format!(r"buildr\.agent\.{agent}\..*");
        let write = format!(r"^(buildr\.events|{own})$");
        let read = format!(r"^(build_queue(\..*)?|buildr\.control|{own})$");
        let user = self.vhost.add_user("s3cret", [&format!("^{own}$"), &write, &read]).await;
        self.vhost.uri_as(&user, "s3cret")
    }

    /// Has a process reach the broker through a proxy from its next start on.
    pub async fn through_proxy(&mut self, who: &str) -> Proxy {
        let proxy = Proxy::to(self.vhost.address()).await;
        self.routes.insert(who.to_owned(), proxy.address());
        proxy
    }

    /// One of its agents.
    pub fn agent(&mut self, name: &str) -> &mut AgentProcess {
        self.agents.iter_mut().find(|agent| agent.name == name).expect("there is such an agent")
    }

    /// Waits until the coordinator has enrolled an agent and sees it.
    pub async fn until_here(&self, name: &str) {
        until("the agent to be here", async || {
            let agents = self.api().client.agents().await.ok()?;
            agents.into_iter().find(|agent| agent.name == name && agent.enrolled && agent.seen_ms_ago.is_some())
        })
        .await;
    }

    /// Waits until an agent has heard that it may take jobs, and waits for them: who freezes the coordinator sooner may
    /// freeze that word with it.
    pub async fn until_taking(&self, name: &str) {
        self.until_here(name).await;
        self.vhost.until_consumed("build_queue").await;
    }

    /// Ends the coordinator where it stands.
    pub async fn kill_coordinator(&mut self) {
        let child = self.coordinator.take().expect("the coordinator runs");
        signal(&child, "-KILL").await;
        exit(child).await;
    }

    /// Ends the coordinator in good order.
    pub async fn stop_coordinator(&mut self) {
        let child = self.coordinator.take().expect("the coordinator runs");
        signal(&child, "-TERM").await;
        let ended = exit(child).await;
        assert!(ended.success(), "the coordinator ends with {ended}");
    }

    /// Sends the coordinator a signal.
    pub async fn signal_coordinator(&self, name: &str) {
        signal(self.coordinator.as_ref().expect("the coordinator runs"), name).await;
    }

    /// The coordinator's own folder.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("coordinator")
    }

    /// The coordinator's API.
    #[must_use]
    pub fn api(&self) -> Api {
        let token = coordinator::api_token(&self.state()).expect("a token");
        Api::at(&self.address, token)
    }

    /// What a process has said so far.
    #[must_use]
    pub fn log_of(&self, who: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{who}.log"))).unwrap_or_default()
    }

    /// Waits until a process has said something.
    pub async fn until_said(&self, who: &str, text: &str) {
        until(text, async || self.log_of(who).contains(text).then_some(())).await;
    }

    /// Waits until something lies on the queue of jobs, and looks at it.
    pub async fn until_offered(&self) -> Vec<(serde_json::Value, Vec<u8>)> {
        until("the offer", async || {
            let is_there = self.vhost.queues().await.iter().any(|queue| queue == "build_queue");
            let found = if is_there { self.vhost.peek("build_queue").await } else { Vec::new() };
            Some(found).filter(|found| !found.is_empty())
        })
        .await
    }

    /// Coordinator, agent `a`, and a build that is in its stage.
    pub async fn in_stage(&mut self) -> BuildNumber {
        self.start_coordinator().await;
        self.start_agent("a").await;
        self.begin_build().await
    }

    /// A build that is in its stage.
    pub async fn begin_build(&mut self) -> BuildNumber {
        let number = self.api().submit(&self.repository).await;
        self.until_begun(number, 1).await;
        number
    }

    /// Waits until a build's container has printed something in this attempt.
    pub async fn until_begun(&self, number: BuildNumber, attempt: u32) {
        self.api().until_in_stage(number, attempt, "wait").await;
        self.api().until_said(number, "wait", "begun\n").await;
    }

    /// Follows a build until it has passed, and looks at all that was promised: the last attempt's stages and logs are
    /// whole.
    pub async fn passes(&self, number: BuildNumber) -> BuildView {
        let view = self.api().until_is(number, Status::Passed).await;
        let (last, place) = view.attempts.iter().zip(1..).last().expect("an attempt");
        let stages: Vec<&str> = last.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(stages, ["wait", "after"], "{view:#?}");
        assert!(last.stages.iter().all(|stage| stage.result.is_some()), "{view:#?}");
        check_logs(last);
        let log = String::from_utf8(self.api().log_of(number, place, "wait").await).expect("a log of letters");
        let numbers: Vec<&str> = log.lines().filter(|line| line.bytes().all(|byte| byte.is_ascii_digit())).collect();
        let whole = (1..=3000).map(|number: u32| number.to_string());
        assert!(log.contains("begun\n") && whole.eq(numbers.iter().copied()), "a log with a hole: {log}");
        assert!(self.api().log_of(number, place, "after").await.ends_with(b"after\n"));
        view
    }

    /// Waits until nothing lies on any queue, and nothing is left on the agents' machines. The coordinator and at
    /// least one agent have to live.
    pub async fn until_clean(&self) {
        for agent in &self.agents {
            agent.until_clean().await;
        }
        for queue in ["build_queue", "buildr.events.v1", "buildr.logs.v1"] {
            until(queue, async || self.vhost.peek(queue).await.is_empty().then_some(())).await;
        }
        let dead = self.vhost.peek("buildr.dead").await;
        assert!(dead.is_empty(), "{dead:?}");
    }

    fn tell_logs(&self) {
        for who in std::iter::once("coordinator").chain(self.agents.iter().map(|agent| agent.name.as_str())) {
            let text = self.log_of(who);
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("{who}:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

fn check_logs(attempt: &AttemptView) {
    for log in &attempt.logs {
        assert!(log.complete && log.missing == 0, "{attempt:#?}");
    }
}

impl AgentProcess {
    /// Ends it where it stands.
    pub async fn kill(&mut self) {
        let child = self.child.take().expect("the agent runs");
        signal(&child, "-KILL").await;
        exit(child).await;
    }

    /// Tells it to end, and waits until it has ended well.
    pub async fn stop(&mut self) {
        self.signal("-TERM").await;
        let ended = exit(self.child.take().expect("the agent runs")).await;
        assert!(ended.success(), "agent {} ends with {ended}", self.name);
    }

    /// Sends it a signal.
    pub async fn signal(&self, name: &str) {
        signal(self.child.as_ref().expect("the agent runs"), name).await;
    }

    /// Its user at the broker.
    #[must_use]
    pub fn user(&self) -> String {
        url::Url::parse(&self.uri).expect("an address").username().to_owned()
    }

    /// All that bears its label in Docker.
    pub async fn containers(&self) -> Vec<String> {
        docker::left_of(self.docker_host.as_deref(), &self.label).await
    }

    /// Has the daemon make what a killed life of it had asked for.
    pub async fn made_after_death(&self) {
        docker::made_after_death_of(&self.label).await;
    }

    /// Waits until nothing of its jobs is left.
    ///
    /// # Panics
    /// When something stays, and then it says what.
    pub async fn until_clean(&self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = [self.folders.left(), self.containers().await].concat();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "agent {} leaves {left:#?}", self.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
