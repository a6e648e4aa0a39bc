//! What is said of branches, and how it is signed.

use std::collections::BTreeMap;

use protocol::BuildNumber;
use protocol::job::{Origin, TriggerKind};
use protocol::outcome::{Cause, Ending, Outcome};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::intake::{self, Trigger};
use crate::testing::{Agent, Farm};

fn failed() -> Ending {
    Ending::of(Outcome::Failed, Some("test failed: exit code 1".to_owned()))
}

async fn begin(farm: &Farm, branch: &str, pull_request: Option<u64>) -> BuildNumber {
    let branch = Some(branch.parse().unwrap());
    let origin = Origin { pull_request, ..Origin::default() };
    let repo = "https://example.org/x".parse().unwrap();
    let trigger = Trigger { branch, origin, ..Trigger::new(repo, TriggerKind::Manual) };
    intake::submit(&farm.desk, &trigger, None).await.unwrap()
}

async fn over(farm: &Farm, agent: &Agent, branch: &str, pull_request: Option<u64>, ending: Ending) -> BuildNumber {
    let build = begin(farm, branch, pull_request).await;
    let (claimed, _) = agent.work(farm).await;
    agent.finish(claimed.claim, ending).await;
    build
}

/// A farm of which somebody wants to hear, and an agent. Nobody listens there: what is to be said stays.
async fn heard(folder: &TempDir) -> (Farm, Agent) {
    let notify = Notify { url: "http://127.0.0.1:9/".to_owned(), key: b"key".to_vec() };
    let farm = Farm::with(folder, |config| config.notify = Some(notify)).await;
    let agent = farm.agent("a1").await;
    (farm, agent)
}

/// What is to be said, oldest first: taken out of the outbox.
async fn said(farm: &Farm) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(notice) = farm.desk.store.next_notice(SaidBy::Webhook, u64::MAX >> 1, 0).await.unwrap() {
        all.push(format!("{} {} after {}", notice.build.number, notice.kind, notice.before));
        let mut tx = farm.desk.store.write().await.unwrap();
        tx.notice_done(notice.id).await.unwrap();
        tx.commit().await.unwrap();
    }
    all
}

#[tokio::test]
async fn a_branch_breaks_and_is_fixed() {
    let folder = tempdir().unwrap();
    let (farm, agent) = heard(&folder).await;
    for (branch, pull_request, ending) in [
        ("main", None, failed()),
        ("main", None, Ending::passed()),
        ("main", None, Ending::passed()),
        ("topic", None, failed()),
        ("main", Some(7), failed()),
        ("main", None, Ending::cancelled("by hand")),
        ("main", None, Ending::errored(Cause::Manifest, "there is none".to_owned())),
        ("main", None, failed()),
        ("topic", None, Ending::passed()),
    ] {
        over(&farm, &agent, branch, pull_request, ending).await;
    }
    assert_eq!(said(&farm).await, ["#2 fixed after #1", "#7 broken after #3", "#9 fixed after #4"]);
    farm.stop().await;
}

#[tokio::test]
async fn what_a_schedule_begins_and_what_is_pushed_do_not_contradict_each_other() {
    let folder = tempdir().unwrap();
    let (farm, agent) = heard(&folder).await;
    for (kind, ending) in [
        (TriggerKind::Push, Ending::passed()),
        (TriggerKind::Schedule, Ending::passed()),
        (TriggerKind::Schedule, failed()),
        (TriggerKind::Push, Ending::passed()),
        (TriggerKind::Schedule, failed()),
        (TriggerKind::Manual, failed()),
        (TriggerKind::Schedule, Ending::passed()),
    ] {
        let repo = "https://example.org/x".parse().unwrap();
        let trigger = Trigger { branch: Some("main".parse().unwrap()), ..Trigger::new(repo, kind) };
        intake::submit(&farm.desk, &trigger, None).await.unwrap();
        let (claimed, _) = agent.work(&farm).await;
        agent.finish(claimed.claim, ending).await;
    }
    assert_eq!(said(&farm).await, ["#3 broken after #2", "#6 broken after #4", "#7 fixed after #5"]);
    farm.stop().await;
}

#[tokio::test]
async fn a_build_that_a_newer_one_has_overtaken_says_nothing_of_its_branch() {
    let folder = tempdir().unwrap();
    let (farm, agent) = heard(&folder).await;
    over(&farm, &agent, "main", None, Ending::passed()).await;
    for (older, newer) in [(failed(), Ending::passed()), (Ending::passed(), failed())] {
        begin(&farm, "main", None).await;
        begin(&farm, "main", None).await;
        let mut claims = BTreeMap::new();
        for _ in 0..2 {
            let (claimed, grant) = agent.work(&farm).await;
            claims.insert(grant.order.build, claimed.claim);
        }
        let claims: Vec<_> = claims.into_values().collect();
        agent.finish(claims[1], newer).await;
        agent.finish(claims[0], older).await;
    }
    over(&farm, &agent, "main", None, Ending::passed()).await;
    assert_eq!(said(&farm).await, ["#5 broken after #3", "#6 fixed after #5"]);
    farm.stop().await;
}

#[tokio::test]
async fn a_clock_that_was_ahead_puts_nothing_off_for_years() {
    const HOUR: u64 = 60 * 60 * 1000;
    let folder = tempdir().unwrap();
    let (farm, agent) = heard(&folder).await;
    over(&farm, &agent, "main", None, Ending::passed()).await;
    over(&farm, &agent, "main", None, failed()).await;
    let now = buildr::process::clock::now_ms();
    let next = async || farm.desk.store.next_notice(SaidBy::Webhook, now, 10 * HOUR).await.unwrap();
    let id = farm.desk.store.next_notice(SaidBy::Webhook, u64::MAX >> 1, 0).await.unwrap().unwrap().id;
    for (hours, is_now) in [(1, false), (10, false), (365 * 24, true)] {
        let mut tx = farm.desk.store.write().await.unwrap();
        tx.notice_later(id, now + hours * HOUR).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(next().await.is_some(), is_now, "{hours}");
    }
    farm.stop().await;
}

#[tokio::test]
async fn nothing_is_written_down_where_nobody_wants_to_hear_it() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    over(&farm, &agent, "main", None, Ending::passed()).await;
    over(&farm, &agent, "main", None, failed()).await;
    assert!(!farm.desk.store.has_notices(SaidBy::Webhook).await.unwrap());
    farm.stop().await;
}

#[test]
fn signatures_are_those_of_the_standard() {
    // Its own example.
    let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let body = "{\"test\": 2432232314}";
    let [id, time, signature] = headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body, &key);
    assert_eq!((id.0, id.1.as_str()), ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"));
    assert_eq!((time.0, time.1.as_str()), ("webhook-timestamp", "1614265330"));
    let expect = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    assert_eq!((signature.0, signature.1.as_str()), ("webhook-signature", expect));
}

#[test]
fn the_waits_become_longer() {
    let waits: Vec<u64> = (0..4).map(again_after_ms).collect();
    assert_eq!(waits, [5_000, 20_000, 80_000, 320_000]);
    assert_eq!(again_after_ms(11), LONGEST_WAIT_MS);
}
