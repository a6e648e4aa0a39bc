//! What a broker and its operators can do to the line over RabbitMQ, done to it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::sync::Arc;
use std::time::Duration;

use farm::contract::link::{beat, numbers, soon, take};
use farm::proxy::{Network, Proxy};
use farm::rabbit::{Vhost, with_vhost};
use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, ConnectionProperties};
use protocol::control::Control;
use protocol::job::OfferBody;
use protocol::link::rabbitmq::{RabbitAgent, RabbitCoordinator, RabbitSettings};
use protocol::link::{Address, AgentLink, BUILD_QUEUE, CoordinatorLink, Delivered, Health, LinkError};
use protocol::report::LogChunk;
use protocol::{AgentId, BootId, BuildNumber, ClaimId, JobId, LabelSet};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

async fn healthy(mut health: watch::Receiver<Health>, after: u64) -> u64 {
    let up = soon(health.wait_for(|health| matches!(health, Health::Up(n) if *n > after))).await.unwrap().clone();
    match up {
        Health::Up(number) => number,
        other => panic!("{other:?}"),
    }
}

async fn away(health: &mut watch::Receiver<Health>, expect: &str) {
    let said =
        soon(health.wait_for(|health| matches!(health, Health::Away { reason } if reason.contains(expect)))).await;
    said.unwrap();
}

async fn agent_at(uri: String) -> Arc<RabbitAgent> {
    let name: AgentId = "a".parse().unwrap();
    Arc::new(RabbitAgent::connect(RabbitSettings::new(uri), &name, BootId::fresh()).await.unwrap())
}

async fn ends(vhost: &Vhost) -> (Arc<RabbitCoordinator>, Arc<dyn AgentLink>, Arc<RabbitAgent>) {
    let coordinator = Arc::new(RabbitCoordinator::connect(RabbitSettings::new(vhost.uri())).await.unwrap());
    healthy(coordinator.health(), 0).await;
    let agent = agent_at(vhost.uri()).await;
    healthy(agent.health(), 0).await;
    (coordinator, agent.clone(), agent)
}

fn offer() -> OfferBody {
    OfferBody { job_id: JobId::fresh(), build: BuildNumber(1), repo: "https://e.org/x".to_owned(), branch: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_agent_outlives_its_connection() {
    with_vhost(|vhost| async move {
        let (coordinator, agent, closing) = ends(&vhost).await;
        let cut = async {
            vhost.cut("buildr-agent a").await;
            healthy(agent.health(), 1).await;
            coordinator.offer(&LabelSet::default(), &offer()).await.unwrap();
        };
        let (job, ()) = tokio::join!(take(&agent), cut);
        assert!(job.ack().await);
        assert_eq!(soon(agent.report(&beat(1))).await.unwrap(), Delivered::Yes);
        let claim = ClaimId::fresh();
        let said = coordinator.control(&Address::All, &Control::Recorded { claim }).await.unwrap();
        assert_eq!(said, Delivered::Yes, "its new control queue is bound before it is up");
        assert!(matches!(soon(agent.next_control()).await, Ok(Control::Recorded { claim: c }) if c == claim));
        closing.close().await;
        coordinator.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_held_through_a_cut_comes_again_and_its_old_ack_does_not_count() {
    with_vhost(|vhost| async move {
        let (coordinator, agent, closing) = ends(&vhost).await;
        coordinator.offer(&LabelSet::default(), &offer()).await.unwrap();
        let held = take(&agent).await;
        vhost.cut("buildr-agent a").await;
        healthy(agent.health(), 1).await;
        assert!(!held.ack().await);
        let again = take(&agent).await;
        assert!(again.redelivered);
        assert!(again.ack().await);
        closing.close().await;
        coordinator.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_held_through_a_cut_come_again() {
    with_vhost(|vhost| async move {
        let (coordinator, agent, closing) = ends(&vhost).await;
        for number in 0..3 {
            agent.report(&beat(number)).await.unwrap();
        }
        let held = soon(coordinator.next_reports(1)).await.unwrap();
        vhost.cut("buildr-coordinator").await;
        healthy(coordinator.health(), 1).await;
        assert!(!held.ack().await);
        let mut found = Vec::new();
        while found.len() < 3 {
            let batch = soon(coordinator.next_reports(9)).await.unwrap();
            found.extend(numbers(&batch));
            assert!(batch.ack().await);
        }
        assert_eq!(found, [0, 1, 2]);
        assert_eq!(soon(coordinator.backlog()).await.unwrap(), 0);
        closing.close().await;
        coordinator.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_queues_are_made_again() {
    with_vhost(|vhost| async move {
        let (coordinator, agent, closing) = ends(&vhost).await;
        let queues = [LabelSet::default(), LabelSet::new(["gpu"]).unwrap()];
        coordinator.ensure(&queues).await.unwrap();
        let delete = async {
            // Both ends wait at their queues by then, or come to find them missing.
            coordinator.ensure(&queues).await.unwrap();
            for queue in [BUILD_QUEUE, "build_queue.gpu", "buildr.events.v1"] {
                vhost.delete(queue).await;
            }
            coordinator.ensure(&queues).await.unwrap();
            coordinator.offer(&queues[1], &offer()).await.unwrap();
            coordinator.offer(&queues[0], &offer()).await.unwrap();
            agent.report(&beat(1)).await.unwrap();
        };
        let jobs = async {
            for _ in 0..2 {
                assert!(soon(agent.next_job(&queues)).await.unwrap().ack().await);
            }
        };
        let (batch, (), ()) = tokio::join!(soon(coordinator.next_reports(9)), delete, jobs);
        assert!(batch.unwrap().ack().await);
        vhost.delete("build_queue.gpu").await;
        coordinator.offer(&queues[1], &offer()).await.unwrap();
        assert!(soon(agent.next_job(&queues)).await.unwrap().ack().await);
        closing.close().await;
        coordinator.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_hears_again_when_the_exchange_of_its_coordinator_was_deleted() {
    with_vhost(|vhost| async move {
        let coordinator = RabbitCoordinator::connect(RabbitSettings::new(vhost.uri())).await.unwrap();
        healthy(coordinator.health(), 0).await;
        let (name, settings) = ("a".parse().unwrap(), RabbitSettings::new(vhost.uri()));
        let silence = Duration::from_secs(2);
        let agent = RabbitAgent::connect_listening(settings, &name, BootId::fresh(), silence).await.unwrap();
        healthy(agent.health(), 0).await;
        vhost.delete_exchange("buildr.control").await;
        coordinator.ensure(&[LabelSet::default()]).await.unwrap();
        let claim = ClaimId::fresh();
        let say = async {
            while !matches!(coordinator.control(&Address::All, &Control::Recorded { claim }).await, Ok(Delivered::Yes))
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        soon(say).await;
        assert!(matches!(soon(agent.next_control()).await, Ok(Control::Recorded { claim: c }) if c == claim));
        agent.close().await;
        coordinator.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_made_by_hand_is_used_as_it_is() {
    with_vhost(|vhost| async move {
        vhost.declare(BUILD_QUEUE, json!({"x-max-priority": 5})).await;
        let (coordinator, agent, closing) = ends(&vhost).await;
        coordinator.ensure(&[LabelSet::default()]).await.unwrap();
        coordinator.offer(&LabelSet::default(), &offer()).await.unwrap();
        assert!(take(&agent).await.ack().await);
        closing.close().await;
        coordinator.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submitter_needs_no_right_on_the_default_exchange() {
    with_vhost(|vhost| async move {
        let (coordinator, agent, closing) = ends(&vhost).await;
        vhost.publish("buildr.submit", BUILD_QUEUE, b"{}", json!({})).await;
        assert!(take(&agent).await.ack().await);
        closing.close().await;
        coordinator.close().await;
    })
    .await;
}

/// A user with the rights that the manual gives to the agent `a`, and no more.
async fn lesser_user(vhost: &Vhost) -> String {
    let own = r"buildr\.agent\.a\..*";
    let write = format!(r"^(buildr\.events|{own})$");
    let read = format!(r"^(build_queue(\..*)?|buildr\.control|{own})$");
    vhost.add_user("s3cret", [&format!("^{own}$"), &write, &read]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_may_configure_nothing_works() {
    with_vhost(|vhost| async move {
        let user = lesser_user(&vhost).await;
        let agent = agent_at(vhost.uri_as(&user, "s3cret")).await;
        healthy(agent.health(), 0).await;
        assert_eq!(soon(agent.report(&beat(1))).await.unwrap(), Delivered::NoFarm, "no exchange yet");
        let waiting: Arc<dyn AgentLink> = agent.clone();
        let queues = [LabelSet::default(), LabelSet::new(["never-made"]).unwrap()];
        let coordinate = async {
            let coordinator = Arc::new(RabbitCoordinator::connect(RabbitSettings::new(vhost.uri())).await.unwrap());
            healthy(coordinator.health(), 0).await;
            coordinator.offer(&LabelSet::default(), &offer()).await.unwrap();
            coordinator
        };
        let (job, coordinator) = tokio::join!(soon(waiting.next_job(&queues)), coordinate);
        assert!(job.unwrap().ack().await);
        assert_eq!(soon(agent.report(&beat(2))).await.unwrap(), Delivered::Yes);
        let batch = soon(coordinator.next_reports(1)).await.unwrap();
        assert_eq!(batch.items[0].user.as_deref(), Some(user.as_str()), "the broker vouches for the sender");
        assert!(batch.ack().await);
        let to = protocol::job::ReplyTo { queue: "mine".to_owned(), correlation_id: None };
        let status = serde_json::from_value(json!({"repo": "x", "status": "passed"})).unwrap();
        assert_eq!(soon(agent.reply(&to, &status)).await.unwrap(), Delivered::Refused);
        // What was refused spoils nothing else.
        assert_eq!(soon(agent.report(&beat(3))).await.unwrap(), Delivered::Yes);
        let beacon = Control::Recorded { claim: ClaimId::fresh() };
        while coordinator.control(&Address::All, &beacon).await.unwrap() == Delivered::Unroutable {
            // The agent looks for the coordinator's exchange when a report was taken, or soon.
            tokio::task::yield_now().await;
        }
        assert!(soon(agent.next_control()).await.is_ok());
        agent.close().await;
        coordinator.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_may_not_be_read_keeps_no_other_from_being() {
    with_vhost(|vhost| async move {
        let (coordinator, _, closing) = ends(&vhost).await;
        closing.close().await;
        let user = vhost.add_user("s3cret", ["^$", r"^buildr\.events$", "^build_queue$"]).await;
        let agent = agent_at(vhost.uri_as(&user, "s3cret")).await;
        healthy(agent.health(), 0).await;
        let queues = [LabelSet::new(["gpu"]).unwrap(), LabelSet::default()];
        for queue in &queues {
            coordinator.offer(queue, &offer()).await.unwrap();
        }
        let job = soon(agent.next_job(&queues)).await.unwrap();
        assert_eq!(job.queue, BUILD_QUEUE);
        assert!(job.ack().await);
        agent.close().await;
        coordinator.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_may_do_nothing_says_what_it_needs() {
    with_vhost(|vhost| async move {
        let user = vhost.add_user("s3cret", ["^$", "^$", "^$"]).await;
        let coordinator = RabbitCoordinator::connect(RabbitSettings::new(vhost.uri_as(&user, "s3cret"))).await.unwrap();
        away(&mut coordinator.health(), "let it configure").await;
        coordinator.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_a_line_from_coming_up_is_said() {
    with_vhost(|vhost| async move {
        // Nobody listens there.
        let refused = "amqp://guest:guest@127.0.0.1:1".to_owned();
        let cases = [
            (vhost.uri_as("guest", "hunter2"), "the name or the password is wrong"),
            (vhost.uri_nowhere(), "has no vhost \"buildr-test-nowhere\""),
            (refused, "connection refused"),
        ];
        for (uri, expect) in cases {
            let agent = agent_at(uri).await;
            let mut health = agent.health();
            away(&mut health, expect).await;
            assert!(!format!("{:?}", *health.borrow()).contains("hunter2"));
            let sent = soon(agent.report(&beat(1))).await;
            assert!(matches!(sent, Err(LinkError::Away(reason)) if reason.contains(expect)));
            agent.close().await;
        }
        let name: AgentId = "a".parse().unwrap();
        let bad = RabbitAgent::connect(RabbitSettings::new("rabbit"), &name, BootId::fresh()).await;
        assert!(matches!(bad.err(), Some(LinkError::BadSettings(_))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_port_holds_nothing_after_closing() {
    // Neither a broker nor anything else that ever says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent = agent_at(format!("amqp://{}", silent.local_addr().unwrap())).await;
    let (mut one, _) = soon(silent.accept()).await.unwrap();
    let (mut two, _) = soon(silent.accept()).await.unwrap();
    agent.close().await;
    for socket in [&mut one, &mut two] {
        let mut said = Vec::new();
        soon(socket.read_to_end(&mut said)).await.unwrap();
        assert!(said.is_empty() || said == b"AMQP\0\0\x09\x01", "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_without_a_queue_of_its_own_is_answered() {
    with_vhost(|vhost| async move {
        let (coordinator, agent, closing) = ends(&vhost).await;
        let publisher = lapin::Connection::connect(&vhost.uri(), ConnectionProperties::default()).await.unwrap();
        let channel = publisher.create_channel().await.unwrap();
        let (direct, none) = ("amq.rabbitmq.reply-to", FieldTable::default());
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut answers = channel.basic_consume(direct.into(), "".into(), options, none).await.unwrap();
        let properties = BasicProperties::default().with_reply_to(direct.into()).with_correlation_id("c-9".into());
        let options = BasicPublishOptions::default();
        channel.basic_publish("".into(), BUILD_QUEUE.into(), options, b"{}", properties).await.unwrap().await.unwrap();
        let job = take(&agent).await;
        let to = job.reply.clone().unwrap();
        let status = serde_json::from_value(json!({"repo": "x", "status": "running"})).unwrap();
        assert_eq!(soon(coordinator.reply(&to, &status)).await.unwrap(), Delivered::Yes);
        assert_eq!(soon(agent.reply(&to, &status)).await.unwrap(), Delivered::Yes);
        for _ in 0..2 {
            let answer = soon(answers.next()).await.unwrap().unwrap();
            assert_eq!(answer.properties.correlation_id().as_ref().unwrap().as_str(), "c-9");
        }
        publisher.close(200, "done".into()).await.unwrap();
        while soon(coordinator.reply(&to, &status)).await.unwrap() == Delivered::Yes {
            tokio::task::yield_now().await;
        }
        assert!(job.ack().await);
        closing.close().await;
        coordinator.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_messages_on_their_way_keep_their_answers_apart() {
    with_vhost(|vhost| async move {
        let (coordinator, agent, closing) = ends(&vhost).await;
        let nobody = Address::Agent("nobody".parse().unwrap());
        let somebody = Address::Agent("a".parse().unwrap());
        let control = Control::Recorded { claim: ClaimId::fresh() };
        let sent = (0..200).map(async |number| {
            let (to, expect) = match number % 2 {
                0 => (&nobody, Delivered::Unroutable),
                _ => (&somebody, Delivered::Yes),
            };
            assert_eq!(coordinator.control(to, &control).await.unwrap(), expect, "{number}");
        });
        soon(futures_util::future::join_all(sent)).await;
        for _ in 0..100 {
            assert!(soon(agent.next_control()).await.is_ok());
        }
        closing.close().await;
        coordinator.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_went_without_a_word_is_read_again() {
    with_vhost(|vhost| async move {
        // A broker that forgets to say so does it once in a while; this one always.
        let proxy = Proxy::to(vhost.address()).await;
        proxy.becomes(Network::Tactful);
        let settings = RabbitSettings::new(vhost.uri().replace(&vhost.address(), &proxy.address()));
        let coordinator = RabbitCoordinator::connect(settings.clone()).await.unwrap();
        healthy(coordinator.health(), 0).await;
        let reader = RabbitAgent::connect(settings, &"reader".parse().unwrap(), BootId::fresh()).await.unwrap();
        healthy(reader.health(), 0).await;
        let agent = agent_at(vhost.uri()).await;
        healthy(agent.health(), 0).await;
        let queues = ["buildr.events.v1", "buildr.logs.v1", BUILD_QUEUE];
        let plain = [LabelSet::default()];
        let rob = async {
            for queue in queues {
                vhost.until_consumed(queue).await;
                vhost.delete(queue).await;
            }
            coordinator.ensure(&plain).await.unwrap();
            assert_eq!(agent.report(&beat(1)).await.unwrap(), Delivered::Yes);
            let (claim, log) = (ClaimId::fresh(), "test".parse().unwrap());
            let chunk = LogChunk { claim, log, offset: 0, at_ms: 1, bytes: b"text"[..].into(), packed: false };
            assert_eq!(agent.log(&chunk).await.unwrap(), Delivered::Yes);
            coordinator.offer(&plain[0], &offer()).await.unwrap();
        };
        let (reports, logs, job, ()) = tokio::join!(
            soon(coordinator.next_reports(9)),
            soon(coordinator.next_logs(9)),
            tokio::time::timeout(Duration::from_secs(120), reader.next_job(&plain)),
            rob
        );
        let (reports, reported) = reports.unwrap().split();
        let (logs, logged) = logs.unwrap().split();
        assert_eq!((reports.len(), logs.len()), (1, 1));
        assert!(reported.ack().await && logged.ack().await && job.unwrap().unwrap().ack().await);
        agent.close().await;
        reader.close().await;
        coordinator.close().await;
    })
    .await;
}
