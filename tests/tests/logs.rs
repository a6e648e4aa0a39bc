//! Logs that are whole, whatever happens between the agent's disk and the reader; and when one is not, it says so.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::path::PathBuf;
use std::time::Duration;

use buildr::client::Followed;
use farm::farm::{Farm, PATIENCE, in_memory, over_rabbitmq, until};
use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use protocol::BuildNumber;
use protocol::api::{LogView, Status};
use serde_json::json;

const BYTES: usize = 1 << 20;

/// Prints something, waits until it is let go, and prints a megabyte.
fn waits() -> String {
    format!("image: x\nstages: [wait]\nwait: {{script: [print begun, wait-file go, bytes {BYTES}, print last]}}\n")
}

/// What it prints.
fn expected() -> Vec<u8> {
    let line = [&[b'.'; 79][..], b"\n"].concat();
    let piece: Vec<u8> = line.iter().copied().cycle().take(32 * 1024 / 80 * 80).collect();
    let body: Vec<u8> = piece.iter().copied().cycle().take(BYTES).collect();
    [b"begun\n", &body[..], b"last\n"].concat()
}

async fn begun(farm: &mut Farm) -> BuildNumber {
    farm.start_coordinator().await;
    farm.start_agent("a", 1).await;
    let number = farm.api().begin(&waits()).await;
    farm.api().until_said(number, "wait", "begun").await;
    number
}

async fn view(farm: &Farm, number: BuildNumber) -> LogView {
    let view = farm.api().build(number).await;
    view.attempts[0].logs.iter().find(|log| log.name.as_str() == "wait").unwrap().clone()
}

#[track_caller]
fn same(found: &[u8], expect: &[u8]) {
    assert!(found == expect, "{} bytes instead of {}", found.len(), expect.len());
}

async fn is_whole(farm: &Farm, number: BuildNumber) {
    farm.api().until_is(number, Status::Passed).await;
    same(&farm.api().log_of(number, 1, "wait").await, &expected());
    let log = view(farm, number).await;
    assert_eq!((log.bytes, log.complete, log.missing, log.gap()), (expected().len() as u64, true, 0, None));
}

/// The one log file of the coordinator's.
fn file(farm: &Farm) -> PathBuf {
    let logs = farm.folder("coordinator").join("logs");
    let first = |folder: PathBuf| std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    first(first(logs)).join("wait")
}

/// How many bytes of logs these messages have: those that are packed say it beside.
fn log_bytes(messages: &[(serde_json::Value, Vec<u8>)]) -> usize {
    let whole = |(properties, bytes): &(serde_json::Value, Vec<u8>)| {
        let size = properties["headers"]["size"].as_u64().and_then(|size| usize::try_from(size).ok());
        size.unwrap_or(bytes.len())
    };
    messages.iter().map(whole).sum()
}

#[tokio::test]
async fn who_comes_late_sees_all_and_goes_on_through_a_restart() {
    over_rabbitmq(async |farm| {
        farm.config.lease = Duration::from_secs(60);
        let number = begun(farm).await;
        let mut following = farm.api().client.follow(number);
        let mut told = Vec::new();
        while told.is_empty() {
            if let Some(Followed::Log { log, bytes, .. }) = following.next().await.unwrap()
                && log.as_str() == "wait"
            {
                told.extend_from_slice(&bytes);
            }
        }
        farm.stop_coordinator().await;
        farm.folders("a").let_go().await;
        farm.folders("a").until_a_result().await;
        farm.start_coordinator().await;
        let rest = async {
            while let Some(followed) = following.next().await.unwrap() {
                if let Followed::Log { log, offset, missing, bytes, .. } = followed
                    && log.as_str() == "wait"
                {
                    assert_eq!((offset, missing), (told.len() as u64, 0));
                    told.extend_from_slice(&bytes);
                }
            }
        };
        tokio::time::timeout(PATIENCE, rest).await.unwrap();
        same(&told, &expected());
        is_whole(farm, number).await;
        let late = farm.api().told(number).await;
        same(&late[&(1, "wait".parse().unwrap())], &expected());
    })
    .await;
}

#[tokio::test]
async fn a_full_queue_of_logs_loses_nothing() {
    over_rabbitmq(async |farm| {
        farm.config.lease = Duration::from_secs(60);
        let full = json!({"x-max-length-bytes": 2_000, "x-overflow": "reject-publish"});
        farm.vhost().declare("buildr.logs.v1", full).await;
        let number = begun(farm).await;
        farm.stop_coordinator().await;
        farm.folders("a").let_go().await;
        farm.folders("a").until_a_result().await;
        until("the queue to be full", async || {
            let lying: usize = farm.vhost().peek("buildr.logs.v1").await.iter().map(|(_, bytes)| bytes.len()).sum();
            assert!(lying <= 2_000, "{lying} bytes fit into the queue");
            (lying >= 1_200).then_some(())
        })
        .await;
        farm.start_coordinator().await;
        is_whole(farm, number).await;
    })
    .await;
}

#[tokio::test]
async fn what_was_purged_is_sent_again() {
    over_rabbitmq(async |farm| {
        farm.config.lease = Duration::from_secs(60);
        let number = begun(farm).await;
        farm.stop_coordinator().await;
        farm.folders("a").let_go().await;
        farm.folders("a").until_a_result().await;
        until("the log to be sent", async || {
            let lying = log_bytes(&farm.vhost().peek("buildr.logs.v1").await);
            (lying >= BYTES).then_some(())
        })
        .await;
        farm.vhost().purge("buildr.logs.v1").await;
        farm.start_coordinator().await;
        is_whole(farm, number).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_lost_with_the_agents_disk_is_said_to_be_missing() {
    over_rabbitmq(async |farm| {
        let number = begun(farm).await;
        farm.kill_coordinator().await;
        farm.folders("a").let_go().await;
        farm.folders("a").until_a_result().await;
        until("all that was said to lie at the broker", async || {
            let logs = log_bytes(&farm.vhost().peek("buildr.logs.v1").await);
            let events = farm.vhost().peek("buildr.events.v1").await;
            let over = events.iter().any(|(_, body)| String::from_utf8_lossy(body).contains("finished"));
            (logs >= BYTES && over).then_some(())
        })
        .await;
        farm.agent("a").kill().await;
        std::fs::remove_dir_all(farm.folders("a").state().join("spool")).unwrap();
        farm.vhost().purge("buildr.logs.v1").await;
        farm.start_coordinator().await;
        let ended = farm.api().until_over(number).await;
        assert_eq!(ended.build.status, Status::Passed, "{ended:#?}");
        let log = view(farm, number).await;
        let missing = expected().len() as u64 - log.bytes;
        assert_eq!((log.complete, log.incomplete, log.missing), (false, true, missing), "{log:?}");
        assert!(missing >= BYTES as u64);
        assert_eq!(log.gap().unwrap(), format!("log incomplete: {missing} bytes missing"));
        let begin = usize::try_from(log.bytes).unwrap();
        same(&farm.api().log_of(number, 1, "wait").await, &expected()[..begin]);
        // Its next life sweeps what stood ready for a job.
        farm.start_agent("a", 1).await;
        farm.until_here("a").await;
    })
    .await;
}

#[tokio::test]
async fn a_lost_agents_log_is_said_to_be_cut() {
    in_memory(async |farm| {
        let number = begun(farm).await;
        farm.agent("a").kill().await;
        farm.start_agent("b", 1).await;
        farm.api().until_in_stage(number, 2, "wait").await;
        let log = view(farm, number).await;
        assert!(log.gap().unwrap().contains("its agent was lost"), "{log:?}");
        farm.folders("b").let_go().await;
        farm.api().until_is(number, Status::Passed).await;
        // It comes back, and its disk has all that was printed.
        farm.start_agent("a", 1).await;
        farm.folders("a").until_all_said().await;
        until("a whole log", async || view(farm, number).await.gap().is_none().then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn a_file_that_was_cut_is_said_to_be_short() {
    in_memory(async |farm| {
        let number = begun(farm).await;
        farm.folders("a").let_go().await;
        is_whole(farm, number).await;
        farm.agent("a").stop().await;
        std::fs::OpenOptions::new().write(true).open(file(farm)).unwrap().set_len(1_000).unwrap();
        same(&farm.api().log_of(number, 1, "wait").await, &expected()[..1_000]);
        let log = until("the loss to be given up", async || {
            let log = view(farm, number).await;
            log.incomplete.then_some(log)
        })
        .await;
        assert_eq!((log.bytes, log.missing), (1_000, expected().len() as u64 - 1_000));
        same(&farm.api().told(number).await[&(1, "wait".parse().unwrap())], &expected()[..1_000]);
    })
    .await;
}

#[tokio::test]
async fn what_a_crash_left_behind_the_mark_is_no_log() {
    in_memory(async |farm| {
        farm.config.lease = Duration::from_secs(60);
        let number = begun(farm).await;
        farm.kill_coordinator().await;
        let before = std::fs::read(file(farm)).unwrap();
        std::fs::write(file(farm), [&before[..], &[b'?'; 100_000]].concat()).unwrap();
        farm.start_coordinator().await;
        same(&farm.api().log_of(number, 1, "wait").await, b"begun\n");
        farm.folders("a").let_go().await;
        is_whole(farm, number).await;
    })
    .await;
}

#[tokio::test]
async fn who_reads_slowly_holds_up_nobody() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        const MUCH: u64 = 24 << 20;
        let manifest =
            format!("image: x\nstages: [wait]\nwait: {{script: [print begun, wait-file go, bytes {MUCH}]}}\n");
        let number = farm.api().begin(&manifest).await;
        farm.api().until_said(number, "wait", "begun").await;
        // More than what fits on the way to a reader who does not read.
        let mut slow = farm.api().client.follow(number);
        assert!(matches!(slow.next().await.unwrap(), Some(Followed::Build(_))));
        farm.folders("a").let_go().await;
        farm.api().until_is(number, Status::Passed).await;
        let mut read = 0;
        let rest = async {
            while let Some(followed) = slow.next().await.unwrap() {
                if let Followed::Log { log, missing, bytes, .. } = followed
                    && log.as_str() == "wait"
                {
                    assert_eq!(missing, 0);
                    read += bytes.len() as u64;
                }
            }
        };
        tokio::time::timeout(PATIENCE, rest).await.unwrap();
        assert_eq!(read, MUCH + 6);
    })
    .await;
}

#[tokio::test]
async fn pieces_that_come_again_and_in_any_order_change_nothing() {
    over_rabbitmq(async |farm| {
        farm.start_coordinator().await;
        let connection = Connection::connect(&farm.vhost().uri(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let (queue, none) = ("the-ear", FieldTable::default());
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.into(), options, none.clone()).await.unwrap();
        let bind = QueueBindOptions::default();
        let key = "build.*.log";
        channel.queue_bind(queue.into(), "buildr.events".into(), key.into(), bind, none.clone()).await.unwrap();
        let consume = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut ear = channel.basic_consume(queue.into(), "ear".into(), consume, none).await.unwrap();
        farm.start_agent("a", 1).await;
        let manifest = format!(
            "image: x\nstages: [wait, more]\nwait: {{script: [print begun, bytes {BYTES}, print last]}}\nmore: {{script: [wait-file go, print more]}}\n"
        );
        let number = farm.api().begin(&manifest).await;
        farm.api().until_said(number, "wait", "last").await;
        let mut heard = Vec::new();
        let whole = |delivery: &lapin::message::Delivery| {
            let headers = delivery.properties.headers().as_ref();
            match headers.and_then(|headers| headers.inner().get("size")) {
                Some(AMQPValue::LongLongInt(size)) => usize::try_from(*size).unwrap(),
                _ => delivery.data.len(),
            }
        };
        while heard.iter().map(whole).sum::<usize>() < BYTES {
            heard.push(ear.next().await.unwrap().unwrap());
        }
        let back: Vec<_> = heard.iter().rev().chain(&heard).chain(heard.iter().rev()).collect();
        for delivery in back {
            // Bound for the store alone, not for the ear again.
            let (key, options) = ("buildr.logs.v1", BasicPublishOptions::default());
            // Without its sender's name, which the broker would compare.
            let headers = delivery.properties.headers().clone().unwrap_or_default();
            let mut properties = BasicProperties::default().with_headers(headers);
            if let Some(encoding) = delivery.properties.content_encoding() {
                properties = properties.with_content_encoding(encoding.clone());
            }
            channel.basic_publish("".into(), key.into(), options, &delivery.data, properties).await.unwrap();
        }
        farm.folders("a").let_go().await;
        farm.api().until_is(number, Status::Passed).await;
        same(&farm.api().log_of(number, 1, "wait").await, &expected());
        assert_eq!(farm.api().log(number, "more").await, "more\n");
    })
    .await;
}
