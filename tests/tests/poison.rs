//! Messages that are none, on every queue of a farm: each is settled and told of, and the farm goes on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::time::Instant;

use coordinator::config::LocalRepos;
use farm::farm::{Farm, PATIENCE, Repository, over_rabbitmq, until};
use farm::raw_amqp::{RawPublisher, long, short};
use protocol::ClaimId;
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

/// What is laid on a job queue, and what is said of it.
fn no_jobs() -> Vec<(Vec<u8>, &'static str)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let repo = |repo: &str| serde_json::to_vec(&json!({"repo": repo, "branch": "main"})).unwrap();
    let branch = |branch: &str| serde_json::to_vec(&json!({"repo": "https://e.org/x", "branch": branch})).unwrap();
    vec![
        (Vec::new(), "is not a job"),
        (text("hello"), "is not a job"),
        (text("[]"), "is not a job"),
        (text("7e400"), "is not a job"),
        (text("{}"), "names no \"repo\""),
        (text("{\"repo\": 7}"), "is not a job"),
        // Whose fault is told in its own words, all of them.
        (text(&format!("\"{}\"", "a".repeat(40_000))), "is not a job"),
        (text("{\"repo\": \"https://e.org/x\", \"repo\": \"https://e.org/x\"}"), "is not a job"),
        (text("{\"job_id\": \"../../x\"}"), "\"job_id\":"),
        ([0, 0xff, 0xfe, 0x80].repeat(100), "is not a job"),
        (text(&"[".repeat(60_000)), "is not a job"),
        (text(&"[".repeat(100_000)), "100000 bytes long"),
        (vec![b'x'; (64 << 10) + 1], "65537 bytes long"),
        (repo("ext::sh -c id"), "\"repo\":"),
        (repo("-oProxyCommand=id"), "\"repo\":"),
        (repo("--upload-pack=id"), "\"repo\":"),
        (repo("ssh://-oProxyCommand=id/x"), "\"repo\":"),
        (repo("-x:y"), "\"repo\":"),
        (repo("https://e.org/a\nb"), "\"repo\":"),
        (repo("https://e.org/a%0ab"), "\"repo\":"),
        (repo("https://e.org/a\0b"), "\"repo\":"),
        (repo("https://e.org/a b"), "\"repo\":"),
        (repo(&format!("https://e.org/{}", "x".repeat(5000))), "\"repo\":"),
        (branch("--upload-pack"), "\"branch\":"),
        (branch("refs/heads/../x"), "\"branch\":"),
        (branch("a\nb"), "\"branch\":"),
        // Taken for a repository, but not by this farm's coordinator.
        (repo("file:///etc"), "--local-repos"),
        (repo("/etc"), "--local-repos"),
    ]
}

#[tokio::test]
async fn what_is_no_job_is_told_and_laid_aside() {
    over_rabbitmq(async |farm| {
        farm.config.local_repos = LocalRepos::Refused;
        started(farm).await;
        let vhost = farm.vhost().clone();
        vhost.declare("mine", json!({})).await;
        let mut raw = RawPublisher::connect(&vhost.uri()).await;
        let odd = [short(b"application/x-protobuf"), short(b"gzip"), short(b"mine")].concat();
        let properties = (CONTENT_TYPE | CONTENT_ENCODING | REPLY_TO, &odd[..]);
        let bodies = no_jobs();
        for (body, _) in &bodies {
            raw.publish("", QUEUE.as_bytes(), properties, body).await;
            raw.publish("buildr.submit", QUEUE.as_bytes(), properties, body).await;
        }
        let (mut dead, mut answers) = (Vec::new(), Vec::new());
        let limit = Instant::now() + PATIENCE;
        while dead.len() < 2 * bodies.len() || answers.len() < 2 * bodies.len() {
            dead.extend(vhost.drain("buildr.dead").await);
            answers.extend(vhost.drain("mine").await);
            assert!(Instant::now() < limit, "{} laid aside, {} answered", dead.len(), answers.len());
        }
        assert_eq!((dead.len(), answers.len()), (2 * bodies.len(), 2 * bodies.len()));
        for (body, reason) in &bodies {
            let begin = String::from_utf8_lossy(&body[..body.len().min(4096)]);
            let told = dead.iter().filter(|(properties, laid)| {
                let said = properties["headers"]["x-buildr-reason"].as_str().unwrap_or_default();
                said.contains(reason) && (*reason == "--local-repos" || String::from_utf8_lossy(laid) == begin)
            });
            assert!(told.count() >= 2, "{reason}: {begin}");
        }
        assert!(answers.iter().all(|(_, body)| String::from_utf8_lossy(body).contains("\"rejected\"")));
        let noted = incidents(farm).await;
        assert_eq!(noted.dead_letters, 2 * bodies.len() as u64);
        assert!(noted.incidents.iter().any(|noted| noted.about == QUEUE && noted.count > 1), "{noted:#?}");
        farm.config.local_repos = LocalRepos::Allowed;
        farm.stop_coordinator().await;
        farm.start_coordinator().await;
        a_good_build_passes(farm).await;
        assert!(vhost.drain(QUEUE).await.is_empty());
    })
    .await;
}

/// How much memory this process had at most since it was last asked, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn a_storm_on_every_queue_passes() {
    over_rabbitmq(async |farm| {
        started(farm).await;
        a_good_build_passes(farm).await;
        let mut raw = RawPublisher::connect(&farm.vhost().uri()).await;
        // The most that RabbitMQ 4 takes.
        let huge = vec![b'{'; 16 << 20];
        let claim = ClaimId::fresh().reveal();
        peak_memory();
        let before = peak_memory();
        for _ in 0..3 {
            raw.publish("", QUEUE.as_bytes(), (0, b""), &huge).await;
            raw.publish("buildr.events", b"claim.x", (0, b""), &huge).await;
            raw.publish("buildr.events", b"build.x.log", (0, b""), &huge).await;
            raw.publish("buildr.control", b"agents.all", (0, b""), &huge).await;
            raw.publish("buildr.submit", QUEUE.as_bytes(), (0, b""), &huge).await;
        }
        let chunk = |offset: i64, log: &str, claim: &str| {
            let number = |key: &str, value: i64| [&short(key.as_bytes())[..], b"l", &value.to_be_bytes()].concat();
            let text = |key: &str, value: &str| [&short(key.as_bytes())[..], b"S", &long(value.as_bytes())].concat();
            let entries = [
                number("v", 1),
                text("claim", claim),
                text("log", log),
                number("offset", offset),
                number("at_ms", i64::MAX),
            ];
            long(&entries.concat())
        };
        for (offset, log) in [(-1, "a"), (i64::MAX, "a"), (0, "../../x"), (0, "a/b"), (0, "."), (1 << 50, "a")] {
            raw.publish("buildr.events", b"build.x.log", (HEADERS, &chunk(offset, log, &claim)), b"x").await;
        }
        raw.publish("buildr.events", b"build.x.log", (HEADERS, &chunk(0, "a", &claim)), b"x").await;
        raw.publish("buildr.events", b"build.x.log", (HEADERS, &chunk(0, "a", "me")), b"x").await;
        for body in [&b""[..], b"null", b"{\"v\":9,\"body\":{}}", &b"[".repeat(100_000), &[0xff; 9]] {
            raw.publish("buildr.events", b"agent.x.hello", (0, b""), body).await;
            raw.publish("buildr.control", b"agent.a", (0, b""), body).await;
        }
        until_noted(farm, IncidentKind::Unreadable, "the message is 16777216 bytes long; a job is at most 64 KiB")
            .await;
        until_noted(farm, IncidentKind::Unreadable, "the message is 16777216 bytes long, more than any message").await;
        until_noted(farm, IncidentKind::Unreadable, "16777216 bytes are more than any piece of a log").await;
        until_noted(farm, IncidentKind::Unreadable, "the header \"offset\" is missing or no whole number").await;
        until_noted(farm, IncidentKind::Unreadable, "no log is as long").await;
        until_noted(farm, IncidentKind::Unreadable, "the header \"log\"").await;
        until_noted(farm, IncidentKind::Unreadable, "the header \"claim\" is no claim").await;
        until_noted(farm, IncidentKind::Unreadable, "has version 9").await;
        until_noted(farm, IncidentKind::Unknown, "of a claim that nobody knows").await;
        a_good_build_passes(farm).await;
        let grown = peak_memory().saturating_sub(before);
        eprintln!("240 MB on five queues: the farm's memory grew by at most {} MiB", grown >> 20);
        // Each of them twice would be more; other tests of this process take some too.
        assert!(grown < 200 << 20, "{grown} bytes");
    })
    .await;
}

#[tokio::test]
async fn a_job_that_ends_its_agents_is_laid_aside_and_the_farm_goes_on() {
    over_rabbitmq(async |farm| {
        farm.start_coordinator().await;
        let number = farm.api().begin("image: x\nstages: [hang]\nhang: {script: [hang]}\n").await;
        for (attempt, name) in [(1, "a"), (2, "b")] {
            farm.start_agent(name, 1).await;
            farm.api().until_in_stage(number, attempt, "hang").await;
            farm.agent(name).kill().await;
        }
        let view = farm.api().until_is(number, Status::Errored).await;
        let states: Vec<&str> = view.attempts.iter().map(|attempt| attempt.state.as_str()).collect();
        assert_eq!(states, ["lost", "lost"]);
        let laid = until("the job to be laid aside", async || farm.vhost().drain("buildr.dead").await.pop()).await;
        let reason = laid.0["headers"]["x-buildr-reason"].as_str().unwrap();
        assert!(reason.contains(&format!("build {number} is given up")), "{reason}");
        assert_eq!(laid.0["headers"]["x-buildr-queue"], json!(QUEUE));
        let body: serde_json::Value = serde_json::from_slice(&laid.1).unwrap();
        assert_eq!(body["build"], json!(number));
        until_noted(farm, IncidentKind::GivenUp, "is given up").await;
        for name in ["a", "b"] {
            farm.start_agent(name, 1).await;
            farm.folders(name).until_all_said().await;
        }
        a_good_build_passes(farm).await;
        assert_eq!(farm.api().build(number).await.attempts.len(), 2);
    })
    .await;
}
