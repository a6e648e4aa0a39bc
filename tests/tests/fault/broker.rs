//! RabbitMQ itself: stopped, killed, starved, robbed of its queues, and with a short `consumer_timeout`.

use std::time::{Duration, Instant};

use farm::docker;
use farm::farm::{Repository, until};
use farm::own_rabbit::OwnRabbit;
use farm::processes::{Processes, on, recovered, states, with_processes};
use futures_util::StreamExt as _;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use protocol::api::{BuildView, Status};
use serde_json::json;

use crate::image;

/// After a fault the job that ran through it ends, and the next one is built.
async fn goes_on(farm: &mut Processes, number: protocol::BuildNumber, fault: &str, since: Instant) {
    farm.agent("a").folders.let_go().await;
    assert_eq!(states(&farm.passes(number).await), ["passed"], "{fault}");
    recovered(fault, since, farm.lease);
    let next = farm.begin_build().await;
    farm.agent("a").folders.let_go().await;
    assert_eq!(states(&farm.passes(next).await), ["passed"], "{fault}");
    farm.until_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_is_stopped_killed_closed_and_starved() {
    if !docker::is_there().await {
        return;
    }
    let Some(mut broker) = OwnRabbit::start("").await else { return };
    let vhost = broker.vhost().await;
    // Longer than the two ends may take to come back one after the other.
    on(vhost, None, 15, async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a").await;

        let number = farm.begin_build().await;
        let vhost = farm.vhost.name().to_owned();
        broker.ctl(&["close_all_connections", "--vhost", &vhost, "the test says so"]).await;
        goes_on(farm, number, "all connections closed by force", Instant::now()).await;

        starved(farm, &broker).await;

        let number = farm.begin_build().await;
        broker.stop().await;
        farm.until_said("a", "no connection to RabbitMQ").await;
        broker.start_again().await;
        goes_on(farm, number, "broker stopped and started", Instant::now()).await;

        // What waits on the queue when it dies is there afterwards, as is what is said meanwhile.
        let number = farm.begin_build().await;
        let waiting = json!({"message_id": "waits", "delivery_mode": 2});
        farm.vhost.publish("", "build_queue", &farm.repository.message(), waiting).await;
        broker.kill().await;
        farm.agent("a").folders.let_go().await;
        farm.agent("a").folders.until_a_result().await;
        broker.start_again().await;
        let since = Instant::now();
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        recovered("broker killed and started, the job ends meanwhile", since, farm.lease);
        let next = farm.api().builds().await.last().map(|build| build.number).filter(|last| *last != number);
        let next = match next {
            Some(next) => next,
            None => {
                until("the build by hand", async || farm.api().builds().await.get(7).map(|build| build.number)).await
            }
        };
        farm.until_begun(next, 1).await;
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(next).await), ["passed"]);
        assert_eq!(farm.api().builds().await.len(), 8);
        farm.agent("a").until_clean().await;
    })
    .await;
    broker.stop().await;
}

/// The memory alarm: what publishes is blocked, what runs goes on, and all of it is told.
async fn starved(farm: &mut Processes, broker: &OwnRabbit) {
    let number = farm.begin_build().await;
    broker.ctl(&["set_vm_memory_high_watermark", "0"]).await;
    farm.until_said("a", "takes nothing").await;
    farm.until_said("coordinator", "RabbitMQ takes nothing at present").await;
    let waiting = farm.api().submit(&farm.repository).await;
    farm.api().until(waiting, |view| told(view).contains("has taken nothing for")).await;
    farm.agent("a").folders.let_go().await;
    farm.agent("a").folders.until_a_result().await;
    // Longer than a lease, without a sign of life: the time itself is what is tested.
    tokio::time::sleep(farm.lease + Duration::from_secs(3)).await;
    assert_eq!(farm.api().build(number).await.build.status, Status::Running);
    broker.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    let since = Instant::now();
    assert_eq!(states(&farm.passes(number).await), ["passed"]);
    recovered("memory alarm for longer than a lease", since, farm.lease);
    farm.until_begun(waiting, 1).await;
    farm.agent("a").folders.let_go().await;
    assert_eq!(states(&farm.passes(waiting).await), ["passed"]);
    farm.until_clean().await;
}

fn told(view: &BuildView) -> &str {
    view.build.message.as_deref().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_may_be_longer_than_the_brokers_patience() {
    if !docker::is_there().await {
        return;
    }
    let Some(mut broker) = OwnRabbit::start("consumer_timeout = 60000").await else { return };
    let vhost = broker.vhost().await;
    // Somebody who keeps a delivery for himself shows that this broker means it.
    let impatient = {
        vhost.declare("kept", json!({})).await;
        vhost.publish("", "kept", b"x", json!({})).await;
        let connection = Connection::connect(&vhost.uri(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let options = BasicConsumeOptions::default();
        let mut kept = channel.basic_consume("kept".into(), "".into(), options, FieldTable::default()).await.unwrap();
        protocol::task::spawn("somebody who keeps a delivery", async move {
            let _held = kept.next().await;
            let ended = kept.next().await;
            drop(connection);
            format!("{ended:?}")
        })
    };
    on(vhost, None, 60, async |farm| {
        let manifest =
            format!("image: {}\nstages: [long]\nlong: {{script: [echo begun, sleep 150, echo done]}}\n", image());
        farm.repository = Repository::with_manifest(&manifest);
        farm.start_coordinator().await;
        farm.start_agent("a").await;
        let number = farm.api().submit(&farm.repository).await;
        let ended = tokio::time::timeout(Duration::from_secs(170), impatient).await.unwrap().unwrap();
        assert!(ended.contains("timeout") || ended.contains("timed out"), "{ended}");
        assert_eq!(farm.api().build(number).await.build.status, Status::Running, "it is longer than that");
        let over = until("the long build's end", async || {
            Some(farm.api().build(number).await).filter(|view| view.build.status.is_over())
        });
        let view = tokio::time::timeout(Duration::from_secs(170), over).await.unwrap();
        assert_eq!((view.build.status, states(&view)), (Status::Passed, vec!["passed"]), "{view:#?}");
        assert!(farm.api().log(number, "long").await.ends_with("done\n"));
        farm.until_clean().await;
    })
    .await;
    broker.stop().await;
}

/// All queues that there are, one after the other and then together, are purged and deleted under a running job.
async fn robbed(rob: impl AsyncFn(&Processes, &str)) {
    with_processes(20, async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a").await;
        farm.until_here("a").await;
        let number = farm.begin_build().await;
        let queued = farm.api().submit(&farm.repository).await;
        farm.until_offered().await;
        // An agent's own queue is exclusive: the broker lets nobody else touch it.
        let mut queues = farm.vhost.queues().await;
        queues.retain(|queue| !queue.starts_with("buildr.agent."));
        // Those of the agents' labels are as many as there are labels.
        let others: Vec<&String> = queues.iter().filter(|queue| !queue.starts_with("build_queue.")).collect();
        assert_eq!(others, ["build_queue", "buildr.dead", "buildr.events.v1", "buildr.logs.v1"]);
        for queue in &queues {
            rob(farm, queue).await;
            until("the queue to be there again", async || farm.vhost.queues().await.contains(queue).then_some(()))
                .await;
        }
        futures_util::future::join_all(queues.iter().map(|queue| rob(farm, queue))).await;
        let since = Instant::now();
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        recovered("all queues robbed under a running job", since, farm.lease);
        farm.until_begun(queued, 1).await;
        recovered("all queues robbed: a waiting job begins", since, farm.lease);
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(queued).await), ["passed"]);
        assert_eq!(farm.api().builds().await.len(), 2);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_are_purged() {
    robbed(async |farm, queue| farm.vhost.purge(queue).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_are_deleted() {
    robbed(async |farm, queue| farm.vhost.delete(queue).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_that_were_purged_are_said_again() {
    with_processes(20, async |farm| {
        let image = image();
        farm.repository = Repository::with_manifest(&format!(
            "image: {image}\nstages: [wait, after]\nwait:\n  script:\n    - echo begun\n    - until [ -e go ]; do sleep 0.05; done\n    - seq 1 3000\nafter:\n  script:\n    - until [ -e more ]; do sleep 0.05; done\n    - echo after\n"
        ));
        let number = farm.in_stage().await;
        farm.kill_coordinator().await;
        farm.agent("a").folders.let_go().await;
        // What happened since lies on the queue and in the broker alone.
        until("the next stage", async || {
            let said = farm.vhost.peek("buildr.events.v1").await;
            let begun = |body: &[u8]| String::from_utf8_lossy(body).contains("stage_started");
            said.iter().any(|(_, body)| begun(body)).then_some(())
        })
        .await;
        for queue in ["buildr.events.v1", "buildr.logs.v1"] {
            farm.vhost.purge(queue).await;
        }
        farm.start_coordinator().await;
        let since = Instant::now();
        assert!(farm.agent("a").folders.let_go_now("more") > 0);
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        recovered("reports and logs purged while no coordinator was there", since, farm.lease);
        farm.until_clean().await;
    })
    .await;
}
