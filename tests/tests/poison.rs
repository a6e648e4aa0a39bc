//! Messages that are none, on every queue of a farm: each is settled and told of, and the farm goes on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use farm::farm::{Farm, Repository, over_rabbitmq, until};
use farm::raw_amqp::{RawPublisher, long, short};
use protocol::api::{IncidentKind, Incidents, Status};
use serde_json::json;

const PASSES: &str = "image: x\nstages: [test]\ntest: {script: [print hello]}\n";
const QUEUE: &str = "build_queue";

// The flags of AMQP's properties.
const CONTENT_TYPE: u16 = 0x8000;
const CONTENT_ENCODING: u16 = 0x4000;
const HEADERS: u16 = 0x2000;
const CORRELATION_ID: u16 = 0x0400;
const REPLY_TO: u16 = 0x0200;
const MESSAGE_ID: u16 = 0x0080;

async fn started(farm: &mut Farm) {
    farm.start_coordinator().await;
    farm.start_agent("a", 2).await;
    farm.until_here("a").await;
}

async fn incidents(farm: &Farm) -> Incidents {
    farm.api().client.incidents().await.unwrap()
}

/// Waits until an incident of this kind says this.
async fn until_noted(farm: &Farm, kind: IncidentKind, says: &str) {
    until(says, async || {
        let noted = incidents(farm).await.incidents;
        noted.into_iter().find(|noted| noted.kind == kind && noted.sentence.contains(says))
    })
    .await;
}

async fn a_good_build_passes(farm: &Farm) {
    let number = farm.api().begin(PASSES).await;
    farm.api().until_is(number, Status::Passed).await;
    assert_eq!(farm.api().log(number, "test").await, "hello\n");
}

/// A table with one entry that holds lists in lists.
fn deep(levels: usize) -> Vec<u8> {
    let mut value = b"V".to_vec();
    for _ in 0..levels {
        value = [&b"A"[..], &long(&value)].concat();
    }
    long(&[&short(b"deep")[..], &value].concat())
}

#[tokio::test]
async fn properties_that_no_library_would_write_stop_nobody() {
    over_rabbitmq(async |farm| {
        started(farm).await;
        let mut raw = RawPublisher::connect(&farm.vhost().uri()).await;
        let job = |number: u32| {
            let repository = Repository::with_manifest(PASSES);
            let message = repository.message();
            farm.api().keep(repository);
            [&message[..message.len() - 1], format!(", \"n\": {number}}}").as_bytes()].concat()
        };
        let (bad, good) = (short(b"\xff\xfe\x80"), short(b"fine"));
        let kinds = [(CONTENT_TYPE, "type"), (CONTENT_ENCODING, "encoding"), (MESSAGE_ID, "id"), (REPLY_TO, "reply")];
        let mut builds = 0;
        for (flag, _) in kinds {
            builds += 1;
            raw.publish("", QUEUE.as_bytes(), (flag, &bad), &job(builds)).await;
        }
        let pair = [&bad[..], &good].concat();
        raw.publish("", QUEUE.as_bytes(), (CORRELATION_ID | REPLY_TO, &pair), &job(5)).await;
        // Nested as deep as a frame allows.
        raw.publish("", QUEUE.as_bytes(), (HEADERS, &deep(20_000)), &job(6)).await;
        let table = long(&[&short(b"\xff")[..], b"V"].concat());
        raw.publish("", QUEUE.as_bytes(), (HEADERS, &table), &job(7)).await;
        // One with bad properties that is no job either, and who wants to hear of it does.
        farm.vhost().declare("mine", json!({})).await;
        let reply = [&bad[..], &short(b"mine")].concat();
        raw.publish("", QUEUE.as_bytes(), (CONTENT_TYPE | REPLY_TO, &reply), b"\xff\xff").await;
        // Reports, pieces of logs, and what the coordinator says.
        raw.publish("buildr.events", b"claim.\xff\xfe", (MESSAGE_ID, &bad), b"{\"v\":1,\"body\":7}").await;
        raw.publish("buildr.events", b"build.\xc0.log", (HEADERS, &deep(20_000)), b"bytes").await;
        raw.publish("buildr.control", b"agents.all", (HEADERS, &table), b"{").await;
        raw.publish("buildr.submit", QUEUE.as_bytes(), (MESSAGE_ID, &bad), &job(8)).await;
        for view in farm.api().until_all_over(8).await {
            assert_eq!(view.build.status, Status::Passed, "{view:#?}");
        }
        until_noted(farm, IncidentKind::Unreadable, "is not a job").await;
        until_noted(farm, IncidentKind::Unreadable, "invalid type: integer `7`").await;
        until_noted(farm, IncidentKind::Unreadable, "a piece of a log is dropped: the header \"v\"").await;
        let answer = until("a reply", async || farm.vhost().drain("mine").await.pop()).await.1;
        assert!(String::from_utf8(answer).unwrap().contains("\"rejected\""));
        a_good_build_passes(farm).await;
    })
    .await;
}
