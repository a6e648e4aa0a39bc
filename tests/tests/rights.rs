//! What each user of the farm may do on RabbitMQ and what not, with the users that `buildr rabbit setup` makes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use farm::farm::{Repository, over_rabbitmq};
use farm::rabbit::{PART_PASSWORD, Vhost, with_vhost};
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use protocol::api::Status;
use protocol::link::rabbitmq::permissions::{Replies, Role};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const PASSES: &str = "image: x\nstages: [test]\ntest: {script: [print hello]}\n";

/// A program of the farm, as it stands beside the tests.
fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let path = here.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.is_file(), "{} is not there; make it with `cargo build --release --workspace`", path.display());
    path
}

/// The names of the users in a vhost that the printed script has set up.
struct Users {
    coordinator: String,
    a: String,
    b: String,
    submitter: String,
}

/// Has the script printed, and runs it as it stands.
async fn set_up(vhost: &Vhost) -> Users {
    let name = vhost.name();
    let user = |part: &str| format!("{name}-{part}");
    let users = Users {
        coordinator: user("coordinator"),
        a: user("agent-a"),
        b: user("agent-b"),
        submitter: user("submitter"),
    };
    let all = [&users.coordinator, &users.a, &users.b, &users.submitter];
    vhost.remove_later(all.into_iter().cloned());
    let words = ["rabbit", "setup", "--print", "--format", "http", "--agent", "a", "--agent", "b"];
    let printed =
        Command::new(program("buildr")).args(words).args(["--vhost", name, "--prefix", name]).output().await.unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let (management, admin) = vhost.management();
    let mut shell = Command::new("sh");
    shell.env("MANAGEMENT", management).env("ADMIN", admin);
    for part in ["COORDINATOR", "AGENT_a", "AGENT_b", "SUBMITTER"] {
        shell.env(format!("{part}_PASSWORD"), PART_PASSWORD);
    }
    let mut shell = shell.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(&printed.stdout).await.unwrap();
    let ran = shell.wait_with_output().await.unwrap();
    assert!(
        ran.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&ran.stderr),
        String::from_utf8_lossy(&printed.stdout)
    );
    users
}

/// A connection of one user, of which each try gets a channel of its own.
struct Tries(Connection);

impl Tries {
    async fn of(vhost: &Vhost, user: &str) -> Self {
        let uri = vhost.uri_as(user, PART_PASSWORD);
        Self(Connection::connect(&uri, ConnectionProperties::default()).await.unwrap())
    }

    async fn channel(&self) -> Channel {
        let channel = self.0.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        channel
    }

    async fn publish(&self, exchange: &str, key: &str) -> Result<(), lapin::Error> {
        let channel = self.channel().await;
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        channel.basic_publish(exchange.into(), key.into(), options, b"{}", properties).await?.await.map(drop)
    }

    async fn consume(&self, queue: &str) -> Result<(), lapin::Error> {
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        self.channel().await.basic_consume(queue.into(), "".into(), options, none).await.map(drop)
    }

    async fn get(&self, queue: &str) -> Result<(), lapin::Error> {
        self.channel().await.basic_get(queue.into(), BasicGetOptions::default()).await.map(drop)
    }

    async fn declare(&self, queue: &str) -> Result<(), lapin::Error> {
        let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::default() };
        self.channel().await.queue_declare(queue.into(), options, FieldTable::default()).await.map(drop)
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), lapin::Error> {
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        self.channel().await.queue_bind(queue.into(), exchange.into(), key.into(), options, none).await
    }
}

#[track_caller]
fn is_refused(what: &str, tried: Result<(), lapin::Error>) {
    let error = tried.err().unwrap_or_else(|| panic!("{what} is allowed"));
    assert!(error.to_string().contains("ACCESS_REFUSED"), "{what}: {error}");
}

#[tokio::test]
async fn a_build_runs_with_these_users_alone() {
    over_rabbitmq(async |farm| {
        let users = set_up(farm.vhost()).await;
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        farm.vhost().play(Role::Coordinator, &users.coordinator).await;
        farm.vhost().play(Role::Agent(&a, Replies::FromCoordinator), &users.a).await;
        farm.vhost().play(Role::Agent(&b, Replies::FromCoordinator), &users.b).await;
        farm.start_coordinator().await;
        farm.start_agent_with("a", |config| {
            config.labels = protocol::LabelSet::new(["gpu"]).unwrap();
        })
        .await;
        farm.start_agent("b", 1).await;
        farm.until_here("a").await;
        farm.until_here("b").await;
        let repository = Repository::with_manifest(PASSES);
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let submitter = Tries::of(farm.vhost(), &users.submitter).await;
        let body = repository.message();
        let channel = submitter.channel().await;
        let sent = channel.basic_publish("buildr.submit".into(), "build_queue".into(), options, &body, properties);
        assert!(sent.await.unwrap().await.unwrap().is_ack());
        let views = farm.api().until_all_over(1).await;
        assert_eq!(views[0].build.status, Status::Passed, "{views:#?}");
        let mine = farm.api().submit(&repository).await;
        farm.api().until_is(mine, Status::Passed).await;
        assert_eq!(farm.api().log(mine, "test").await, "hello\n");
        // Each agent came as its own user, and is known by it from then on.
        let agents: Vec<bool> = farm.api().client.agents().await.unwrap().iter().map(|agent| agent.enrolled).collect();
        assert_eq!(agents, [true, true]);
    })
    .await;
}

#[tokio::test]
async fn an_agent_can_do_nothing_in_anothers_name() {
    over_rabbitmq(async |farm| {
        let users = set_up(farm.vhost()).await;
        farm.vhost().play(Role::Coordinator, &users.coordinator).await;
        farm.start_coordinator().await;
        let vhost = farm.vhost();
        vhost.until_consumed("buildr.events.v1").await;
        vhost.declare("buildr.agent.b.x", json!({})).await;
        let a = Tries::of(vhost, &users.a).await;
        // What it needs it may do.
        a.declare("buildr.agent.a.x").await.unwrap();
        a.bind("buildr.agent.a.x", "buildr.control", "agent.a").await.unwrap();
        a.bind("buildr.agent.a.x", "buildr.control", "agents.all").await.unwrap();
        a.consume("build_queue").await.unwrap();
        a.publish("buildr.events", "agent.a.unknown").await.unwrap();
        for (what, tried) in [
            ("to publish a job", a.publish("", "build_queue").await),
            ("to publish a job as a submitter", a.publish("buildr.submit", "build_queue").await),
            ("to write to buildr.dead", a.publish("", "buildr.dead").await),
            ("to speak to an agent", a.publish("buildr.control", "agent.b").await),
            ("to speak in another's name", a.publish("buildr.events", "agent.b.hello").await),
            ("to claim in another's name", a.publish("buildr.events", "claim.b").await),
            ("to log in another's name", a.publish("buildr.events", "build.b.log").await),
            ("to read another's control queue", a.consume("buildr.agent.b.x").await),
            ("to make another's control queue", a.declare("buildr.agent.b.y").await),
            ("to bind another's control key", a.bind("buildr.agent.a.x", "buildr.control", "agent.b").await),
            ("to bind all control keys", a.bind("buildr.agent.a.x", "buildr.control", "#").await),
            ("to hear what agents report", a.bind("buildr.agent.a.x", "buildr.events", "#").await),
            ("to read what agents report", a.consume("buildr.events.v1").await),
            ("to read logs", a.get("buildr.logs.v1").await),
            ("to read what was laid aside", a.get("buildr.dead").await),
            ("to make a job queue", a.declare("build_queue.mine").await),
            ("to make a queue of no meaning", a.declare("mine").await),
        ] {
            is_refused(what, tried);
        }
    })
    .await;
}

#[tokio::test]
async fn a_submitter_can_submit_and_nothing_else() {
    over_rabbitmq(async |farm| {
        let users = set_up(farm.vhost()).await;
        farm.vhost().play(Role::Coordinator, &users.coordinator).await;
        farm.start_coordinator().await;
        let vhost = farm.vhost();
        vhost.until_consumed("buildr.events.v1").await;
        let submitter = Tries::of(vhost, &users.submitter).await;
        submitter.publish("buildr.submit", "build_queue").await.unwrap();
        for (what, tried) in [
            ("to write to the default exchange", submitter.publish("", "build_queue").await),
            ("to report", submitter.publish("buildr.events", "agent.a.hello").await),
            ("to speak to agents", submitter.publish("buildr.control", "agents.all").await),
            ("to read jobs", submitter.consume("build_queue").await),
            ("to look at jobs", submitter.get("build_queue").await),
            ("to read reports", submitter.consume("buildr.events.v1").await),
            ("to read logs", submitter.get("buildr.logs.v1").await),
            ("to read what was laid aside", submitter.get("buildr.dead").await),
            ("to make a queue", submitter.declare("mine").await),
            ("to bind a queue", submitter.bind("build_queue", "buildr.events", "#").await),
        ] {
            is_refused(what, tried);
        }
    })
    .await;
}

#[tokio::test]
async fn the_coordinator_hears_no_agents_controls() {
    with_vhost(|vhost| async move {
        let users = set_up(&vhost).await;
        vhost.declare("buildr.agent.b.x", json!({})).await;
        let coordinator = Tries::of(&vhost, &users.coordinator).await;
        is_refused("to read an agent's control queue", coordinator.consume("buildr.agent.b.x").await);
        is_refused("to take jobs", coordinator.consume("build_queue").await);
        is_refused("to make a queue of no meaning", coordinator.declare("mine").await);
    })
    .await;
}
