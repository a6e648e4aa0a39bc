//! Real processes over RabbitMQ and Docker, which are killed, frozen and told to end while they build.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use agent::home::Home;
use farm::docker;
use farm::farm::{Api, Folders, PATIENCE, Repository, until};
use farm::rabbit::{Vhost, with_vhost};
use futures_util::FutureExt as _;
use protocol::BuildNumber;
use protocol::api::{BuildView, Status};
use serde_json::json;
use tokio::process::{Child, Command};

/// What every farm here builds: its stage goes on until it is let go.
fn waits() -> String {
    let image = docker::image();
    format!(
        "image: {image}\nstages: [wait, after]\nwait:\n  script:\n    - echo begun\n    - until [ -e go ]; do sleep 0.05; done\nafter: {{script: [echo after]}}\n"
    )
}

/// A farm of processes.
struct Processes {
    vhost: Vhost,
    folder: tempfile::TempDir,
    repository: Repository,
    lease: Duration,
    coordinator: Option<Child>,
    address: String,
    agents: Vec<AgentProcess>,
}

struct AgentProcess {
    name: &'static str,
    label: String,
    folders: Folders,
    child: Option<Child>,
}

/// Runs a test on a farm of processes, and removes whatever it leaves, also after a failure.
async fn with_processes(lease_s: u64, test: impl AsyncFnOnce(&mut Processes)) {
    if !docker::is_there().await {
        return;
    }
    with_vhost(async |vhost| {
        let mut farm = Processes {
            vhost,
            folder: tempfile::tempdir().unwrap(),
            repository: Repository::with_manifest(&waits()),
            lease: Duration::from_secs(lease_s),
            coordinator: None,
            address: "127.0.0.1:0".to_owned(),
            agents: Vec::new(),
        };
        let outcome = AssertUnwindSafe(test(&mut farm)).catch_unwind().await;
        if outcome.is_err() {
            farm.tell_logs();
        }
        // A new life of each sweeps what killed ones left, so that also a failed test leaves nothing.
        if let Some(child) = farm.coordinator.take().filter(|_| outcome.is_ok()) {
            signal(&child, "-TERM").await;
            let ended = exit(child).await;
            assert!(ended.success(), "the coordinator ends with {ended}");
        }
        let mut left = Vec::new();
        for agent in &mut farm.agents {
            drop(agent.child.take());
            left.extend(agent.folders.left());
            left.extend(docker::left_of(&agent.label).await);
            docker::remove_all_of(&agent.label).await;
        }
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        assert!(left.is_empty(), "something is left: {left:#?}");
    })
    .await;
}

/// A program of this workspace, which lies beside the tests.
fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let program = here.parent().and_then(Path::parent).unwrap().join(name);
    assert!(program.exists(), "{} is missing: run `cargo build --release --workspace` first", program.display());
    program
}

/// Sends a signal to a process that this test started.
async fn signal(child: &Child, signal: &str) {
    let process = child.id().expect("it runs").to_string();
    let sent = Command::new("kill").args([signal, &process]).status().await.unwrap();
    assert!(sent.success(), "kill {signal} {process}");
}

async fn exit(mut child: Child) -> ExitStatus {
    tokio::time::timeout(PATIENCE, child.wait()).await.expect("the process ends").unwrap()
}

impl Processes {
    fn begin(&self, program_name: &str, log: &str, arguments: &[&str]) -> Child {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join(log)).unwrap();
        let mut command = Command::new(program(program_name));
        command.args(arguments).args(["--amqp", &self.vhost.uri()]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true);
        // Settings of the one who runs the tests are none of the farm's.
        command.current_dir(self.folder.path()).env("XDG_CONFIG_HOME", self.folder.path());
        command.spawn().unwrap()
    }

    async fn start_coordinator(&mut self) {
        let state = self.state().display().to_string();
        let lease = self.lease.as_secs().to_string();
        let mut arguments = vec!["--state-dir", &state, "--listen", &self.address, "--open-enrolment", "--local-repos"];
        arguments.extend(["--lease-seconds", &lease, "--heartbeat-seconds", "1", "--beacon-seconds", "1"]);
        let child = self.begin("buildr-coordinator", "coordinator.log", &arguments);
        self.coordinator = Some(child);
        // It tells where it is; the next life is at the same place.
        self.address = until("the coordinator's address", async || {
            let log = std::fs::read_to_string(self.folder.path().join("coordinator.log")).ok()?;
            let line = log.lines().rfind(|line| line.contains("http://"))?;
            Some(line.split("http://").nth(1)?.split([',', ';']).next()?.to_owned())
        })
        .await;
        until("the coordinator's answer", async || self.api().client.agents().await.ok()).await;
    }

    fn start_agent(&mut self, name: &'static str) {
        let place = match self.agents.iter().position(|agent| agent.name == name) {
            Some(place) => place,
            None => {
                let folders = Folders::at(self.folder.path().join(name));
                let label = Home::open(&folders.state(), Some(name.parse().unwrap())).unwrap().label();
                self.agents.push(AgentProcess { name, label, folders, child: None });
                self.agents.len() - 1
            }
        };
        let folders = &self.agents[place].folders;
        let (state, work) = (folders.state().display().to_string(), folders.work().display().to_string());
        let mut arguments = vec!["--name", name, "--state-dir", &state, "--work-dir", &work, "--slots", "1"];
        arguments.extend(["--local-repos", "--standalone", "never", "--network", "none"]);
        let child = self.begin("buildr-agent", &format!("{name}.log"), &arguments);
        self.agents[place].child = Some(child);
    }

    fn agent(&mut self, name: &str) -> &mut AgentProcess {
        self.agents.iter_mut().find(|agent| agent.name == name).unwrap()
    }

    async fn kill_coordinator(&mut self) {
        let child = self.coordinator.take().unwrap();
        signal(&child, "-KILL").await;
        exit(child).await;
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("coordinator")
    }

    fn api(&self) -> Api {
        let token = coordinator::api_token(&self.state()).unwrap();
        Api::at(&self.address, token)
    }

    /// Coordinator, agent `a`, and a build that is in its stage.
    async fn in_stage(&mut self) -> BuildNumber {
        self.start_coordinator().await;
        self.start_agent("a");
        let number = self.api().submit(&self.repository).await;
        self.api().until_in_stage(number, 1, "wait").await;
        // Its container has begun when it has printed something.
        self.api().until_said(number, "wait", "begun\n").await;
        number
    }

    fn tell_logs(&self) {
        for log in ["coordinator.log", "a.log", "b.log"] {
            let text = std::fs::read_to_string(self.folder.path().join(log)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("{log}:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

impl AgentProcess {
    async fn kill(&mut self) {
        let child = self.child.take().unwrap();
        signal(&child, "-KILL").await;
        exit(child).await;
    }

    async fn until_clean(&self) {
        until("the agent's things to be gone", async || {
            (self.folders.left().is_empty() && docker::left_of(&self.label).await.is_empty()).then_some(())
        })
        .await;
    }
}

fn states(view: &BuildView) -> Vec<&str> {
    view.attempts.iter().map(|attempt| attempt.state.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_killed_in_a_stage_and_restarted() {
    with_processes(3, async |farm| {
        let number = farm.in_stage().await;
        farm.agent("a").kill().await;
        let label = farm.agent("a").label.clone();
        assert!(!docker::left_of(&label).await.is_empty(), "a killed agent cleans nothing");
        farm.start_agent("a");
        farm.api().until_in_stage(number, 2, "wait").await;
        farm.agent("a").folders.let_go().await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(states(&view), ["lost", "passed"]);
        assert!(farm.api().log(number, "wait").await.contains("begun\n"));
        farm.agent("a").until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_killed_before_its_claim_is_answered() {
    with_processes(3, async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a");
        until("the agent to be enrolled", async || {
            let agents = farm.api().client.agents().await.ok()?;
            agents.iter().any(|agent| agent.name == "a" && agent.enrolled).then_some(())
        })
        .await;
        signal(farm.coordinator.as_ref().unwrap(), "-STOP").await;
        farm.vhost.declare("build_queue", json!({})).await;
        let message = farm.repository.message();
        farm.vhost.publish("", "build_queue", &message, json!({"message_id": "only-one"})).await;
        until("the agent to take it", async || farm.vhost.peek("build_queue").await.is_empty().then_some(())).await;
        farm.agent("a").kill().await;
        signal(farm.coordinator.as_ref().unwrap(), "-CONT").await;
        farm.start_agent("b");
        let number = until("the build", async || farm.api().builds().await.first().map(|build| build.number)).await;
        let on_b = |view: &BuildView| view.attempts.last().is_some_and(|last| last.agent == "b");
        farm.api().until(number, on_b).await;
        farm.agent("b").folders.let_go().await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert!([vec!["lost", "passed"], vec!["passed"]].contains(&states(&view)), "{view:#?}");
        assert_eq!(farm.api().builds().await.len(), 1);
        farm.agent("b").until_clean().await;
        assert!(farm.vhost.drain("build_queue").await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_killed_with_a_result_that_is_not_recorded() {
    with_processes(60, async |farm| {
        let number = farm.in_stage().await;
        signal(farm.coordinator.as_ref().unwrap(), "-STOP").await;
        farm.agent("a").folders.let_go().await;
        farm.agent("a").folders.until_a_result().await;
        farm.agent("a").kill().await;
        signal(farm.coordinator.as_ref().unwrap(), "-CONT").await;
        farm.start_agent("a");
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(states(&view), ["passed"]);
        assert!(farm.api().log(number, "after").await.ends_with("after\n"));
        farm.agent("a").until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_is_killed_while_a_job_runs() {
    with_processes(60, async |farm| {
        let number = farm.in_stage().await;
        farm.kill_coordinator().await;
        farm.agent("a").folders.let_go().await;
        farm.agent("a").folders.until_a_result().await;
        farm.start_coordinator().await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(states(&view), ["passed"]);
        assert!(farm.api().log(number, "after").await.ends_with("after\n"));
        farm.agent("a").until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_are_killed() {
    with_processes(3, async |farm| {
        let number = farm.in_stage().await;
        farm.kill_coordinator().await;
        farm.agent("a").kill().await;
        farm.start_agent("a");
        farm.start_coordinator().await;
        farm.api().until_in_stage(number, 2, "wait").await;
        farm.agent("a").folders.let_go().await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(states(&view), ["lost", "passed"]);
        assert_eq!(farm.api().builds().await.len(), 1);
        farm.agent("a").until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_coordinator_takes_no_job_from_anybody() {
    with_processes(3, async |farm| {
        let number = farm.in_stage().await;
        signal(farm.coordinator.as_ref().unwrap(), "-STOP").await;
        // Longer than a lease, in which the agent goes on saying that it is there.
        tokio::time::sleep(Duration::from_secs(5)).await;
        signal(farm.coordinator.as_ref().unwrap(), "-CONT").await;
        farm.agent("a").folders.let_go().await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(states(&view), ["passed"]);
        farm.agent("a").until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_told_to_end_ends_its_job_first() {
    with_processes(30, async |farm| {
        let number = farm.in_stage().await;
        let child = farm.agent("a").child.take().unwrap();
        signal(&child, "-TERM").await;
        let next = farm.api().submit(&farm.repository).await;
        farm.start_agent("b");
        farm.api().until_in_stage(next, 1, "wait").await;
        farm.agent("a").folders.let_go().await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!((states(&view), view.attempts[0].agent.as_str()), (vec!["passed"], "a"));
        assert!(exit(child).await.success());
        farm.agent("a").until_clean().await;
        farm.agent("b").folders.let_go().await;
        let view = farm.api().until_is(next, Status::Passed).await;
        assert_eq!((states(&view), view.attempts[0].agent.as_str()), (vec!["passed"], "b"));
        farm.agent("b").until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_told_twice_cancels_and_cleans_up() {
    with_processes(30, async |farm| {
        let number = farm.in_stage().await;
        let child = farm.agent("a").child.take().unwrap();
        signal(&child, "-TERM").await;
        until("the first signal to be heard", async || {
            let log = std::fs::read_to_string(farm.folder.path().join("a.log")).ok()?;
            log.contains("taking no more jobs; waiting").then_some(())
        })
        .await;
        signal(&child, "-TERM").await;
        assert!(exit(child).await.success());
        let view = farm.api().until_is(number, Status::Cancelled).await;
        assert_eq!(states(&view), ["cancelled"]);
        farm.agent("a").until_clean().await;
    })
    .await;
}
