//! A whole farm over RabbitMQ: what people publish by hand, agents without a coordinator, who may belong to the farm,
//! and what operators do to the broker meanwhile.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use agent::config::Standalone;
use coordinator::config::Enrolment;
use farm::docker;
use farm::farm::{Farm, Repository, over_rabbitmq, over_rabbitmq_in_docker, until};
use farm::rabbit::Vhost;
use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, ConnectionProperties};
use protocol::api::{Approve, BuildView, Status};
use protocol::job::StatusMessage;
use serde_json::{Value, json};

const PASSES: &str = "image: x\nstages: [test]\ntest: {script: [print hello]}\n";

/// Its stage goes on until it is let go.
const WAITS: &str = "image: x\nstages: [wait, after]\nwait: {script: [print begun, wait-file go, print let go]}\nafter: {script: [print after]}\n";

const QUEUE: &str = "build_queue";

async fn with_agent(farm: &mut Farm, slots: u32) {
    farm.start_coordinator().await;
    farm.start_agent("a", slots).await;
}

fn states(view: &BuildView) -> Vec<&str> {
    view.attempts.iter().map(|attempt| attempt.state.as_str()).collect()
}

fn message(view: &BuildView) -> &str {
    view.build.message.as_deref().unwrap_or_default()
}

async fn publish(vhost: &Vhost, body: &[u8], properties: Value) {
    vhost.declare(QUEUE, json!({})).await;
    vhost.publish("", QUEUE, body, properties).await;
}

/// Takes messages from a queue until there are so many.
async fn take(vhost: &Vhost, queue: &str, count: usize) -> Vec<(Value, Vec<u8>)> {
    let mut all = Vec::new();
    let limit = Instant::now() + farm::farm::PATIENCE;
    while all.len() < count {
        all.extend(vhost.drain(queue).await);
        assert!(Instant::now() < limit, "only {} of {count} messages came to {queue}: {all:?}", all.len());
    }
    assert_eq!(all.len(), count, "{all:?}");
    all
}

/// The status messages that came to a queue, each with its correlation id.
async fn replies(vhost: &Vhost, queue: &str, count: usize) -> Vec<(String, StatusMessage)> {
    let read = |(properties, body): (Value, Vec<u8>)| {
        let id = properties["correlation_id"].as_str().unwrap_or_default().to_owned();
        (id, serde_json::from_slice(&body).unwrap())
    };
    take(vhost, queue, count).await.into_iter().map(read).collect()
}

fn said(replies: &[(String, StatusMessage)]) -> Vec<(&str, &str)> {
    replies.iter().map(|(id, status)| (id.as_str(), status.status.as_str())).collect()
}

#[tokio::test]
async fn builds_pass_fail_and_are_cancelled() {
    over_rabbitmq(async |farm| {
        with_agent(farm, 2).await;
        let passed = farm.api().begin(PASSES).await;
        let failed = farm.api().begin("image: x\nstages: [test]\ntest: {script: [print no, exit 7]}\n").await;
        let hangs = farm.api().begin("image: x\nstages: [test]\ntest: {script: [hang]}\n").await;
        farm.api().until_is(passed, Status::Passed).await;
        let view = farm.api().until_is(failed, Status::Failed).await;
        assert_eq!(message(&view), "test failed: exit code 7");
        assert_eq!(farm.api().log(failed, "test").await, "no\n");
        farm.api().until_in_stage(hangs, 1, "test").await;
        farm.api().cancel(hangs).await;
        let view = farm.api().until_is(hangs, Status::Cancelled).await;
        assert_eq!((view.exit_code, states(&view)), (Some(130), vec!["cancelled"]));
    })
    .await;
}

#[tokio::test]
async fn a_lost_agents_job_is_built_again() {
    over_rabbitmq(async |farm| {
        with_agent(farm, 1).await;
        let number = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(number, 1, "wait").await;
        farm.agent("a").kill().await;
        farm.start_agent("b", 1).await;
        farm.api().until_in_stage(number, 2, "wait").await;
        farm.folders("b").let_go().await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(states(&view), ["lost", "passed"]);
        assert_eq!(farm.api().log_of(number, 2, "wait").await, b"begun\nlet go\n");
        farm.start_agent("a", 1).await;
        farm.folders("a").until_all_said().await;
    })
    .await;
}

#[tokio::test]
async fn a_late_result_of_a_lost_claim_changes_nothing() {
    over_rabbitmq(async |farm| {
        with_agent(farm, 1).await;
        let number = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(number, 1, "wait").await;
        farm.agent("a").shut_gate();
        farm.folders("a").let_go().await;
        farm.folders("a").until_a_result().await;
        farm.start_agent("b", 1).await;
        farm.api().until_in_stage(number, 2, "wait").await;
        farm.agent("a").open_gate();
        farm.folders("a").until_all_said().await;
        assert_eq!(farm.api().build(number).await.build.status, Status::Running);
        farm.folders("b").let_go().await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(states(&view), ["lost", "passed"]);
    })
    .await;
}

#[tokio::test]
async fn neither_a_restarted_coordinator_nor_a_restarted_agent_loses_a_result() {
    over_rabbitmq(async |farm| {
        farm.config.lease = Duration::from_secs(60);
        with_agent(farm, 1).await;
        let number = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(number, 1, "wait").await;
        farm.stop_coordinator().await;
        farm.agent("a").shut_gate();
        farm.folders("a").let_go().await;
        farm.folders("a").until_a_result().await;
        farm.agent("a").kill().await;
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(states(&view), ["passed"]);
        assert_eq!(farm.api().log(number, "wait").await, "begun\nlet go\n");
        assert_eq!(farm.api().log(number, "after").await, "after\n");
    })
    .await;
}

#[tokio::test]
async fn without_a_coordinator_signs_of_life_pass_and_results_wait() {
    over_rabbitmq(async |farm| {
        farm.config.lease = Duration::from_secs(60);
        with_agent(farm, 1).await;
        let number = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(number, 1, "wait").await;
        farm.stop_coordinator().await;
        farm.folders("a").let_go().await;
        let expire = |said: &[(Value, Vec<u8>)], word: &str| -> Vec<Value> {
            let told = said.iter().filter(|(_, body)| String::from_utf8_lossy(body).contains(word));
            told.map(|(properties, _)| properties["expiration"].clone()).collect()
        };
        let (beats, results) = until("a sign of life and a result", async || {
            let said = farm.vhost().peek("buildr.events.v1").await;
            let (beats, results) = (expire(&said, "heartbeat"), expire(&said, "finished"));
            (!beats.is_empty() && !results.is_empty()).then_some((beats, results))
        })
        .await;
        assert!(beats.iter().all(|after_ms| *after_ms == json!("60000")), "{beats:?}");
        assert!(results.iter().all(Value::is_null), "{results:?}");
        farm.start_coordinator().await;
        farm.api().until_is(number, Status::Passed).await;
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_drains_leaves_the_rest_to_others() {
    over_rabbitmq(async |farm| {
        with_agent(farm, 1).await;
        let mine = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(mine, 1, "wait").await;
        farm.agent("a").drain();
        let other = farm.api().begin(PASSES).await;
        farm.start_agent("b", 1).await;
        assert_eq!(farm.api().until_is(other, Status::Passed).await.attempts[0].agent, "b");
        farm.folders("a").let_go().await;
        assert_eq!(farm.api().until_is(mine, Status::Passed).await.attempts[0].agent, "a");
        farm.agent("a").ended().await;
    })
    .await;
}

/// Publishes jobs as a person does, and sees that each is built once, wholly.
async fn publish_and_build(farm: &mut Farm, manifest: &str, count: usize, log: &str) {
    farm.start_coordinator().await;
    for name in ["a", "b"] {
        farm.start_agent(name, 2).await;
        farm.until_here(name).await;
    }
    let repository = Repository::with_manifest(manifest);
    let began = Instant::now();
    for _ in 0..count {
        publish(farm.vhost(), &repository.message(), json!({})).await;
    }
    let published = began.elapsed();
    let views = farm.api().until_all_over(count).await;
    let took = began.elapsed();
    let mut by_agent: BTreeMap<String, usize> = BTreeMap::new();
    for view in &views {
        assert_eq!((view.build.status, states(view)), (Status::Passed, vec!["passed"]), "{view:#?}");
        assert_eq!((view.build.trigger.as_str(), view.exit_code), ("injected", Some(0)));
        assert!(view.attempts[0].logs.iter().all(|log| log.complete && log.missing == 0), "{view:#?}");
        assert_eq!(farm.api().log(view.build.number, "test").await, log);
        *by_agent.entry(view.attempts[0].agent.clone()).or_default() += 1;
    }
    assert_eq!((views.len(), farm.api().builds().await.len()), (count, count));
    assert!(farm.vhost().drain(QUEUE).await.is_empty(), "a message is left");
    assert!(farm.vhost().drain("buildr.dead").await.is_empty(), "a message was laid aside");
    eprintln!("{count} jobs by hand: published in {published:.1?}, all built after {took:.1?}, by agent {by_agent:?}");
}

#[tokio::test]
async fn fifty_jobs_by_hand_are_fifty_builds() {
    over_rabbitmq(async |farm| {
        let manifest = "image: x\nstages: [test]\ntest: {script: [print first, bytes 100000, print last]}\n";
        let line = format!("{}\n", ".".repeat(79));
        let body: String = line.repeat(100_000 / 80 + 1);
        let body = format!("{}{}", &body[..32_720], &body[..32_720]) + &body[..32_720] + &body[..100_000 - 3 * 32_720];
        publish_and_build(farm, manifest, 50, &format!("first\n{body}last\n")).await;
    })
    .await;
}

#[tokio::test]
async fn fifty_jobs_by_hand_run_in_containers() {
    over_rabbitmq_in_docker(async |farm| {
        let image = docker::image();
        let manifest = format!("image: {image}\nstages: [test]\ntest: {{script: [seq 1 2000]}}\n");
        let numbers: String = (1..=2000).map(|number| format!("{number}\n")).collect();
        let shown = format!("$ seq 1 2000\n{numbers}");
        publish_and_build(farm, &manifest, 50, &shown).await;
    })
    .await;
}

#[tokio::test]
async fn one_message_id_is_one_build() {
    over_rabbitmq(async |farm| {
        with_agent(farm, 1).await;
        let repository = Repository::with_manifest(PASSES);
        for _ in 0..3 {
            publish(farm.vhost(), &repository.message(), json!({"message_id": "order-66"})).await;
        }
        publish(farm.vhost(), &repository.message(), json!({"message_id": "order-67"})).await;
        let views = farm.api().until_all_over(2).await;
        assert!(views.iter().all(|view| states(view) == ["passed"]), "{views:#?}");
        let last = farm.api().begin(PASSES).await;
        farm.api().until_is(last, Status::Passed).await;
        // One slot took them all in their order.
        assert_eq!(farm.api().builds().await.len(), 3);
        assert!(farm.vhost().drain(QUEUE).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_is_no_job_is_laid_aside_with_the_reason() {
    over_rabbitmq(async |farm| {
        farm.start_coordinator().await;
        farm.vhost().declare("mine", json!({})).await;
        let long = vec![b'x'; 70_000];
        let bodies: [(&[u8], &str); 8] = [
            (b"", "is not a job"),
            (b"hello", "is not a job"),
            (b"\x00\xff\xfe", "is not a job"),
            (b"[]", "is not a job"),
            (b"{\"branch\": \"main\"}", "names no \"repo\""),
            (b"{\"repo\": \"ext::sh -c id\"}", "\"repo\":"),
            (b"{\"job_id\": \"nonsense\"}", "\"job_id\":"),
            (&long, "70000 bytes long"),
        ];
        let repository = Repository::with_manifest(PASSES);
        for (number, (body, _)) in bodies.iter().enumerate() {
            let properties = json!({"reply_to": "mine", "correlation_id": format!("c{number}")});
            publish(farm.vhost(), body, properties).await;
        }
        let nobody = format!("{{\"job_id\": \"{}\"}}", protocol::JobId::fresh());
        publish(farm.vhost(), nobody.as_bytes(), json!({})).await;
        publish(farm.vhost(), &repository.message(), json!({})).await;
        farm.start_agent("a", 1).await;
        let dead = take(farm.vhost(), "buildr.dead", bodies.len() + 1).await;
        let answers = replies(farm.vhost(), "mine", bodies.len()).await;
        for (number, (body, reason)) in bodies.iter().enumerate() {
            let (properties, laid) = &dead[number];
            let said = properties["headers"]["x-buildr-reason"].as_str().unwrap();
            assert!(said.contains(reason) && said.contains("(found by agent a)"), "{said}");
            assert_eq!(properties["headers"]["x-buildr-queue"], json!(QUEUE));
            let kept = String::from_utf8_lossy(&body[..body.len().min(4096)]).into_owned();
            assert_eq!(String::from_utf8_lossy(laid), kept);
            let (id, answer) = &answers[number];
            assert_eq!((id.as_str(), answer.status.as_str()), (format!("c{number}").as_str(), "rejected"));
            assert!(answer.message.as_deref().unwrap().contains(reason), "{answer:?}");
        }
        let last = dead.last().unwrap().0["headers"]["x-buildr-reason"].as_str().unwrap();
        assert!(last.contains("knows no job"), "{last}");
        let views = farm.api().until_all_over(1).await;
        assert_eq!((views.len(), views[0].build.status), (1, Status::Passed));
        assert!(farm.vhost().drain(QUEUE).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_publisher_is_told_how_its_job_goes() {
    over_rabbitmq(async |farm| {
        with_agent(farm, 1).await;
        farm.vhost().declare("mine", json!({})).await;
        let repository = Repository::with_manifest(PASSES);
        let commit = repository.commit(&[("more", "x")]);
        publish(farm.vhost(), &repository.message(), json!({"reply_to": "mine", "correlation_id": "7"})).await;
        let answers = replies(farm.vhost(), "mine", 2).await;
        assert_eq!(said(&answers), [("7", "running"), ("7", "passed")]);
        let last = &answers[1].1;
        assert_eq!(last.repo, repository.url().to_string());
        assert_eq!((last.build.unwrap().0, &last.commit), (1, &Some(commit)));
        assert_eq!(last.branch.as_ref().unwrap().as_str(), "main");

        let failing = Repository::with_manifest("image: x\nstages: [t]\nt: {script: [exit 4]}\n");
        publish(farm.vhost(), &failing.message(), json!({"reply_to": "mine", "correlation_id": "8"})).await;
        let answers = replies(farm.vhost(), "mine", 2).await;
        assert_eq!(said(&answers), [("8", "running"), ("8", "failed")]);
        assert_eq!(answers[1].1.message.as_deref(), Some("t failed: exit code 4"));
    })
    .await;
}

#[tokio::test]
async fn a_publisher_without_a_queue_of_its_own_is_told_too() {
    over_rabbitmq(async |farm| {
        with_agent(farm, 1).await;
        let repository = Repository::with_manifest(PASSES);
        let publisher = lapin::Connection::connect(&farm.vhost().uri(), ConnectionProperties::default()).await.unwrap();
        let channel = publisher.create_channel().await.unwrap();
        let (direct, none) = ("amq.rabbitmq.reply-to", FieldTable::default());
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut answers = channel.basic_consume(direct.into(), "".into(), options, none).await.unwrap();
        let properties = BasicProperties::default().with_reply_to(direct.into()).with_correlation_id("c-9".into());
        let body = repository.message();
        farm.vhost().declare(QUEUE, json!({})).await;
        let sent = channel.basic_publish("".into(), QUEUE.into(), BasicPublishOptions::default(), &body, properties);
        sent.await.unwrap().await.unwrap();
        for expect in ["running", "passed"] {
            let answer = tokio::time::timeout(farm::farm::PATIENCE, answers.next()).await.unwrap().unwrap().unwrap();
            let status: StatusMessage = serde_json::from_slice(&answer.data).unwrap();
            assert_eq!(status.status, expect);
            assert_eq!(answer.properties.correlation_id().as_ref().unwrap().as_str(), "c-9");
        }
        publisher.close(200, "done".into()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn no_reply_goes_to_the_farms_own_queues_nor_holds_up_others() {
    over_rabbitmq(async |farm| {
        with_agent(farm, 1).await;
        farm.vhost().declare("mine", json!({})).await;
        let repository = Repository::with_manifest(PASSES);
        for queue in ["build_queue", "build_queue.x", "buildr.events.v1", "buildr.dead", "nowhere"] {
            publish(farm.vhost(), &repository.message(), json!({"reply_to": queue})).await;
        }
        publish(farm.vhost(), &repository.message(), json!({"reply_to": "mine", "correlation_id": "1"})).await;
        assert_eq!(said(&replies(farm.vhost(), "mine", 2).await), [("1", "running"), ("1", "passed")]);
        let views = farm.api().until_all_over(6).await;
        assert!(views.len() == 6 && views.iter().all(|view| view.build.status == Status::Passed), "{views:#?}");
        assert!(farm.vhost().drain(QUEUE).await.is_empty());
        assert!(farm.vhost().drain("buildr.dead").await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn agents_alone_are_a_farm() {
    over_rabbitmq(async |farm| {
        farm.vhost().declare("mine", json!({})).await;
        for name in ["a", "b"] {
            farm.start_agent_with(name, |config| config.standalone = Standalone::Auto).await;
        }
        let repository = Repository::with_manifest(&WAITS.replace("print begun", "write begun x"));
        let commit = repository.commit(&[("more", "x")]);
        publish(farm.vhost(), &repository.message(), json!({"reply_to": "mine", "correlation_id": "1"})).await;
        assert_eq!(said(&replies(farm.vhost(), "mine", 1).await), [("1", "running")]);
        // The message is not acknowledged before its build is over: another agent gets it when this one dies.
        let (first, second) = until("one to begin", async || {
            ["a", "b"]
                .into_iter()
                .find(|name| farm.folders(name).is_busy())
                .map(|name| if name == "a" { ("a", "b") } else { ("b", "a") })
        })
        .await;
        farm.agent(first).kill().await;
        // Where it is planned the code lies too, and nobody waits for anything there.
        let begun = until("the other to begin", async || {
            let checkouts = farm.folders(second).workspaces().map(|workspace| workspace.join("app"));
            checkouts.into_iter().find(|checkout| checkout.join("begun").exists())
        });
        std::fs::write(begun.await.join("go"), "").unwrap();
        let answers = replies(farm.vhost(), "mine", 2).await;
        assert_eq!(said(&answers), [("1", "running"), ("1", "passed")]);
        assert_eq!((answers[1].1.build, &answers[1].1.commit), (None, &Some(commit)));
        publish(farm.vhost(), b"no job at all", json!({"reply_to": "mine", "correlation_id": "2"})).await;
        assert_eq!(said(&replies(farm.vhost(), "mine", 1).await), [("2", "rejected")]);
        // What the dead one left is swept by its next life.
        farm.start_agent_with(first, |config| config.standalone = Standalone::Auto).await;
        farm.folders(first).until_no_work().await;
        farm.agent(second).stop().await;
        assert!(farm.vhost().drain(QUEUE).await.is_empty());
        assert!(!farm.vhost().has_exchange("buildr.events").await);
    })
    .await;
}

#[tokio::test]
async fn alone_a_coordinators_jobs_are_left_to_the_coordinator() {
    over_rabbitmq(async |farm| {
        farm.vhost().declare("mine", json!({})).await;
        farm.start_agent_with("a", |config| (config.standalone, config.slots) = (Standalone::Auto, 2)).await;
        // More than there are slots.
        let job = || format!("{{\"job_id\": \"{}\", \"repo\": \"/nowhere\"}}", protocol::JobId::fresh());
        let mut jobs = [job(), job(), job()];
        for job in &jobs {
            publish(farm.vhost(), job.as_bytes(), json!({"reply_to": "mine"})).await;
        }
        let repository = Repository::with_manifest(PASSES);
        publish(farm.vhost(), &repository.message(), json!({"reply_to": "mine", "correlation_id": "1"})).await;
        // They stand before it in the queue, and it comes through all the same.
        assert_eq!(said(&replies(farm.vhost(), "mine", 2).await), [("1", "running"), ("1", "passed")]);
        farm.agent("a").stop().await;
        let mut left: Vec<_> = take(farm.vhost(), QUEUE, 3).await.into_iter().map(|(_, body)| body).collect();
        jobs.sort();
        left.sort();
        assert_eq!(left, jobs.map(String::into_bytes));
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_never_builds_alone_waits_for_a_coordinator() {
    over_rabbitmq(async |farm| {
        farm.vhost().declare("mine", json!({})).await;
        farm.start_agent("never", 1).await;
        farm.vhost().until_connected("buildr-agent never").await;
        let repository = Repository::with_manifest(PASSES);
        farm.start_agent_with("auto", |config| config.standalone = Standalone::Auto).await;
        for number in 0..4 {
            publish(
                farm.vhost(),
                &repository.message(),
                json!({"reply_to": "mine", "correlation_id": number.to_string()}),
            )
            .await;
        }
        replies(farm.vhost(), "mine", 8).await;
        assert!(farm.folders("auto").has_cloned() && !farm.folders("never").has_cloned());
        farm.agent("auto").stop().await;
        publish(farm.vhost(), &repository.message(), json!({})).await;
        farm.start_coordinator().await;
        let views = farm.api().until_all_over(1).await;
        assert_eq!((views.len(), views[0].attempts[0].agent.as_str()), (1, "never"));
    })
    .await;
}

#[tokio::test]
async fn a_coordinator_that_comes_later_takes_over() {
    over_rabbitmq(async |farm| {
        farm.vhost().declare("mine", json!({})).await;
        farm.start_agent_with("a", |config| (config.standalone, config.slots) = (Standalone::Auto, 2)).await;
        let repository = Repository::with_manifest(WAITS);
        publish(farm.vhost(), &repository.message(), json!({"reply_to": "mine", "correlation_id": "alone"})).await;
        assert_eq!(said(&replies(farm.vhost(), "mine", 1).await), [("alone", "running")]);
        farm.start_coordinator().await;
        // Until then it has every right to build what comes by itself.
        let knows = farm.folder("a").join("state/coordinator.key");
        until("the agent to know its coordinator", async || knows.exists().then_some(())).await;
        let other = Repository::with_manifest(PASSES);
        publish(farm.vhost(), &other.message(), json!({"reply_to": "mine", "correlation_id": "farm"})).await;
        let answers = replies(farm.vhost(), "mine", 2).await;
        assert_eq!(said(&answers), [("farm", "running"), ("farm", "passed")]);
        assert_eq!(answers[1].1.build.unwrap().0, 1);
        farm.folders("a").let_go().await;
        assert_eq!(said(&replies(farm.vhost(), "mine", 1).await), [("alone", "passed")]);
        let number = farm.api().begin(PASSES).await;
        farm.api().until_is(number, Status::Passed).await;
        assert_eq!(farm.api().builds().await.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn who_has_seen_a_coordinator_never_builds_alone() {
    over_rabbitmq(async |farm| {
        farm.vhost().declare("mine", json!({})).await;
        farm.start_coordinator().await;
        farm.start_agent_with("seen", |config| config.standalone = Standalone::Auto).await;
        let noted = farm.folder("seen").join("state/coordinator.seen");
        until("the agent to note it", async || noted.exists().then_some(())).await;
        farm.agent("seen").stop().await;
        farm.stop_coordinator().await;
        for exchange in ["buildr.events", "buildr.control", "buildr.submit"] {
            farm.vhost().delete_exchange(exchange).await;
        }
        farm.start_agent_with("seen", |config| config.standalone = Standalone::Auto).await;
        farm.vhost().until_connected("buildr-agent seen").await;
        farm.start_agent_with("new", |config| config.standalone = Standalone::Auto).await;
        let repository = Repository::with_manifest(PASSES);
        for number in 0..4 {
            publish(
                farm.vhost(),
                &repository.message(),
                json!({"reply_to": "mine", "correlation_id": number.to_string()}),
            )
            .await;
        }
        replies(farm.vhost(), "mine", 8).await;
        assert!(farm.folders("new").has_cloned() && !farm.folders("seen").has_cloned());
        farm.agent("new").stop().await;
        farm.start_coordinator().await;
        let number = farm.api().begin(PASSES).await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(view.attempts[0].agent, "seen");
    })
    .await;
}

#[tokio::test]
async fn a_join_token_lets_in_who_has_it() {
    over_rabbitmq(async |farm| {
        let Ok(token) = "a-token-that-nobody-guesses".parse();
        let Ok(wrong) = "a-token-that-somebody-guessed".parse();
        farm.config.enrolment = Enrolment::ByToken(token);
        farm.start_coordinator().await;
        farm.start_agent_with("wrong", |config| config.join = Some(wrong)).await;
        assert!(!farm.until_known("wrong").await.enrolled);
        let number = farm.api().begin(PASSES).await;
        let waits = |view: &BuildView| message(view).contains("wrong is not approved yet");
        farm.api().until(number, waits).await;
        let Ok(token) = "a-token-that-nobody-guesses".parse();
        farm.start_agent_with("right", |config| config.join = Some(token)).await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(view.attempts[0].agent, "right");
        assert!(!farm.until_known("wrong").await.enrolled);
    })
    .await;
}

#[tokio::test]
async fn an_agent_waits_for_its_approval() {
    over_rabbitmq(async |farm| {
        farm.config.enrolment = Enrolment::ByApproval;
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        assert!(!farm.until_known("a").await.enrolled);
        let number = farm.api().begin(PASSES).await;
        let view = farm.api().until(number, |view| message(view).contains("agent approve a")).await;
        assert_eq!(view.build.status, Status::Queued);
        let fingerprint = farm.until_known("a").await.fingerprint;
        let approve = Approve { fingerprint, labels: None };
        let approved = farm.api().client.approve(&"a".parse().unwrap(), &approve).await.unwrap();
        assert!(approved.enrolled);
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(states(&view), ["passed"]);
        let unknown = farm.api().client.approve(&"b".parse().unwrap(), &approve).await.unwrap_err();
        assert!(unknown.to_string().contains("no agent called b"), "{unknown}");
    })
    .await;
}

#[tokio::test]
async fn a_stolen_name_is_of_no_use() {
    over_rabbitmq(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        farm.until_here("a").await;
        farm.start_agent_as("thief", "a", |config| config.slots = 4).await;
        farm.vhost().until_connected("buildr-agent a").await;
        for _ in 0..8 {
            let number = farm.api().begin(PASSES).await;
            let view = farm.api().until_is(number, Status::Passed).await;
            assert_eq!(states(&view), ["passed"]);
        }
        assert!(farm.folders("a").has_cloned() && !farm.folders("thief").has_cloned());
        let known = farm.until_known("a").await;
        assert_eq!((known.enrolled, known.slots), (true, 1));
    })
    .await;
}

#[tokio::test]
async fn broken_connections_cost_no_attempt() {
    over_rabbitmq(async |farm| {
        farm.config.lease = Duration::from_secs(10);
        with_agent(farm, 1).await;
        let number = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(number, 1, "wait").await;
        farm.vhost().cut("buildr-agent a").await;
        farm.vhost().cut("buildr-coordinator").await;
        farm.folders("a").let_go().await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(states(&view), ["passed"]);
        assert_eq!(farm.api().log(number, "wait").await, "begun\nlet go\n");
        assert_eq!(farm.api().log(number, "after").await, "after\n");
        let next = farm.api().begin(PASSES).await;
        assert_eq!(states(&farm.api().until_is(next, Status::Passed).await), ["passed"]);
    })
    .await;
}

#[tokio::test]
async fn connections_may_break_all_the_time() {
    over_rabbitmq(async |farm| {
        farm.config.lease = Duration::from_secs(30);
        with_agent(farm, 2).await;
        let manifest = "image: x\nstages: [test]\ntest: {script: [print first, sleep 300, bytes 200000, print last]}\n";
        let repository = Repository::with_manifest(manifest);
        for number in 0..10 {
            publish(farm.vhost(), &repository.message(), json!({"message_id": format!("m{number}")})).await;
        }
        for _ in 0..3 {
            farm.vhost().cut("buildr-agent a").await;
            farm.vhost().cut("buildr-coordinator").await;
        }
        let views = farm.api().until_all_over(10).await;
        assert_eq!(views.len(), 10);
        for view in views {
            assert_eq!(states(&view), ["passed"], "{view:#?}");
            let log = farm.api().log(view.build.number, "test").await;
            assert!(log.starts_with("first\n") && log.ends_with("last\n") && log.len() == 200_011, "{}", log.len());
        }
        assert!(farm.vhost().drain(QUEUE).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_was_purged_is_offered_again() {
    over_rabbitmq(async |farm| {
        with_agent(farm, 1).await;
        let busy = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(busy, 1, "wait").await;
        let purged = farm.api().begin(PASSES).await;
        until("the offer", async || (!farm.vhost().peek(QUEUE).await.is_empty()).then_some(())).await;
        farm.vhost().purge(QUEUE).await;
        farm.folders("a").let_go().await;
        farm.api().until_is(busy, Status::Passed).await;
        let view = farm.api().until_is(purged, Status::Passed).await;
        assert_eq!(states(&view), ["passed"]);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_queue_is_made_again_and_filled() {
    over_rabbitmq(async |farm| {
        farm.config.lease = Duration::from_secs(30);
        with_agent(farm, 1).await;
        let busy = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(busy, 1, "wait").await;
        let waiting = farm.api().begin(PASSES).await;
        until("the offer", async || (!farm.vhost().peek(QUEUE).await.is_empty()).then_some(())).await;
        for queue in [QUEUE, "buildr.events.v1", "buildr.logs.v1", "buildr.dead"] {
            farm.vhost().delete(queue).await;
        }
        farm.folders("a").let_go().await;
        let view = farm.api().until_is(busy, Status::Passed).await;
        assert_eq!(states(&view), ["passed"]);
        assert_eq!(farm.api().log(busy, "wait").await, "begun\nlet go\n");
        let view = farm.api().until_is(waiting, Status::Passed).await;
        assert_eq!(states(&view), ["passed"]);
    })
    .await;
}
