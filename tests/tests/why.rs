//! What the farm says when it is asked why: on a whole farm in memory, in the words that people read.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::time::Duration;

use coordinator::config::Enrolment;
use farm::farm::{Farm, Repository, in_memory, until};
use protocol::BuildNumber;
use protocol::api::{Approve, BusyQueue, Loss, Status, WaitReason, Why};

const PASSES: &str = "image: x\nstages: [test]\ntest: {script: [print hello]}\n";

/// Its stage goes on until it is let go.
const WAITS: &str = "image: x\nstages: [wait, after]\nwait: {script: [print begun, wait-file go, print let go]}\nafter: {script: [print after]}\n";

async fn why(farm: &Farm, number: BuildNumber) -> Why {
    farm.api().client.why(Some(number)).await.unwrap()
}

/// The one reason for which a build waits, once it is this one.
async fn reason(farm: &Farm, number: BuildNumber, is: impl Fn(&WaitReason) -> bool) -> WaitReason {
    until("the reason", async || {
        let why = why(farm, number).await;
        let first = why.waiting.first()?;
        assert_eq!(why.waiting.len(), 1, "{why:#?}");
        is(&first.why).then(|| first.why.clone())
    })
    .await
}

/// List, status, page and why have the same sentence.
async fn says(farm: &Farm, number: BuildNumber, expect: &str) {
    let mut said = vec![("why", why(farm, number).await.waiting[0].sentence.clone())];
    said.push(("build", farm.api().build(number).await.build.message.unwrap_or_default()));
    let page = reqwest::get(format!("http://{}/builds/{}", farm.config.listen, number.0)).await.unwrap();
    said.push(("page", page.text().await.unwrap()));
    for (who, text) in said {
        assert!(text.contains(expect), "{who}: {expect:?} is not in {text:?}");
    }
    // The list may be of a moment before, for one look serves all who ask within that.
    until("the list says the same", async || {
        let row = farm.api().builds().await.into_iter().find(|row| row.number == number)?;
        row.message.is_some_and(|message| message.contains(expect)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_agent() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        let number = farm.api().begin(PASSES).await;
        let none = reason(farm, number, |why| matches!(why, WaitReason::NoAgent { .. })).await;
        assert_eq!(none, WaitReason::NoAgent { last: None, unapproved: vec![] });
        says(farm, number, "waits for an agent: none is here; start one with").await;
        farm.start_agent("a", 1).await;
        farm.api().until_is(number, Status::Passed).await;
        farm.agent("a").stop().await;
        let next = farm.api().begin(PASSES).await;
        let seen = |why: &WaitReason| {
            matches!(why, WaitReason::NoAgent { last: Some(last), .. } if last.agent.as_str() == "a")
        };
        reason(farm, next, seen).await;
        says(farm, next, "none is here, and a was seen last ").await;
        // It is remembered over a restart of the coordinator too.
        farm.stop_coordinator().await;
        farm.start_coordinator().await;
        reason(farm, next, seen).await;
        assert_eq!(farm.api().client.why(None).await.unwrap().build.number, next, "the newest that waits");
        farm.start_agent("a", 1).await;
        farm.api().until_is(next, Status::Passed).await;
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_is_not_approved() {
    in_memory(async |farm| {
        farm.config.enrolment = Enrolment::ByApproval;
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let key = farm.until_known("a").await.fingerprint;
        let number = farm.api().begin(PASSES).await;
        let is = |why: &WaitReason| matches!(why, WaitReason::NoAgent { unapproved, .. } if unapproved.len() == 1);
        reason(farm, number, is).await;
        says(farm, number, &format!("a is not approved yet; compare its key {key}")).await;
        let (name, client) = ("a".parse().unwrap(), &farm.api().client);
        let wrong = Approve { fingerprint: "x".repeat(20), labels: None };
        let error = client.approve(&name, &wrong).await.unwrap_err().to_string();
        assert!(error.contains(&format!("shows the key {key} by now")), "{error}");
        client.approve(&name, &Approve { fingerprint: key, labels: None }).await.unwrap();
        farm.api().until_is(number, Status::Passed).await;
    })
    .await;
}

#[tokio::test]
async fn all_slots_are_taken() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let repository = Repository::with_manifest(WAITS);
        let first = farm.api().submit(&repository).await;
        farm.api().until_in_stage(first, 1, "wait").await;
        let (second, third) = (farm.api().submit(&repository).await, farm.api().submit(&repository).await);
        let busy = |position, expected_ms| WaitReason::AllBusy(BusyQueue { position, slots: 1, expected_ms });
        assert_eq!(reason(farm, second, |why| *why == busy(1, None)).await, busy(1, None));
        assert_eq!(reason(farm, third, |why| *why == busy(2, None)).await, busy(2, None));
        let end = "number 2 in the queue, and no earlier build tells when it begins";
        says(farm, third, &format!("waits for a free slot: the only one is taken; {end}")).await;
        let runs = &why(farm, first).await.running[0];
        assert_eq!(
            (runs.agent.as_str(), runs.stage.as_ref().unwrap().as_str(), runs.forecast.expected_ms),
            ("a", "wait", None)
        );
        farm.folders("a").let_go().await;
        farm.api().until_is(first, Status::Passed).await;
        farm.api().until_in_stage(second, 1, "wait").await;
        // Now there is one by which it can be told.
        let told =
            |why: &WaitReason| matches!(why, WaitReason::AllBusy(BusyQueue { position: 1, expected_ms: Some(_), .. }));
        reason(farm, third, told).await;
        says(farm, third, "number 1 in the queue, expected to begin ").await;
        assert!(why(farm, second).await.running[0].forecast.expected_ms.is_some());
        let agent = farm.api().client.agent(&"a".parse().unwrap()).await.unwrap();
        assert!(agent.free_ms.is_some() && agent.running == 1, "{agent:?}");
        farm.folders("a").let_go().await;
        farm.api().until_in_stage(third, 1, "wait").await;
        farm.folders("a").let_go().await;
        farm.api().until_is(third, Status::Passed).await;
    })
    .await;
}

#[tokio::test]
async fn a_person_paused_the_agent() {
    in_memory(async |farm| {
        // What it says does not arrive for a while, and it should not count as gone meanwhile.
        farm.config.lease = Duration::from_secs(60);
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        farm.until_here("a").await;
        let (name, client) = ("a".parse().unwrap(), farm.api().client.clone().asked_by("ada@laptop"));
        let agent = client.pause(&name, Some("a new disk".to_owned())).await.unwrap();
        let pause = agent.pause.unwrap();
        assert_eq!((pause.note.as_str(), pause.by.as_deref()), ("a new disk", Some("ada@laptop")));
        // It may take one job in the moment before it hears of that; what stands on the farm is said at once.
        assert_eq!(agent.paused.as_deref(), Some("paused by a person: a new disk"));
        farm.agent("a").shut_gate();
        let number = farm.api().begin(PASSES).await;
        reason(farm, number, |why| matches!(why, WaitReason::AllPaused { agents } if agents.len() == 1)).await;
        says(
            farm,
            number,
            "waits for an agent that takes jobs: the only one pauses (a: paused by a person: a new disk)",
        )
        .await;
        client.resume(&name).await.unwrap();
        farm.agent("a").open_gate();
        farm.api().until_is(number, Status::Passed).await;
        assert_eq!(client.agent(&name).await.unwrap().pause, None);
    })
    .await;
}

#[tokio::test]
async fn what_was_lost_is_told() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let number = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(number, 1, "wait").await;
        farm.agent("a").kill().await;
        let waits = |view: &protocol::api::BuildView| view.build.status == Status::Queued;
        farm.api().until(number, waits).await;
        says(farm, number, "; this is attempt 2: attempt 1 was lost with agent a").await;
        let told = why(farm, number).await;
        assert_eq!((told.waiting[0].attempt, told.waiting[0].lost_with.as_ref().unwrap().as_str()), (2, "a"));
        farm.start_agent("b", 1).await;
        farm.api().until_in_stage(number, 2, "wait").await;
        farm.folders("b").let_go().await;
        farm.api().until_is(number, Status::Passed).await;
        let told = why(farm, number).await;
        let lost = &told.lost[0];
        assert_eq!((told.lost.len(), lost.attempt, lost.agent.as_str()), (1, 1, "a"));
        let Some(Loss::Silent { for_ms }) = lost.loss else { panic!("{lost:?}") };
        assert!(for_ms >= 3_000, "a lease is three seconds here: {for_ms}");
        let log = told.incomplete.iter().find(|log| log.log.as_str() == "wait").unwrap();
        assert_eq!((log.attempt, log.bytes, log.missing), (1, 6, None));
        // What the lost life left is removed by the next.
        farm.start_agent("a", 1).await;
        farm.folders("a").until_all_said().await;
    })
    .await;
}

#[tokio::test]
async fn a_revoked_agents_build_goes_on_elsewhere() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let number = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(number, 1, "wait").await;
        let name = "a".parse().unwrap();
        let gone = farm.api().client.revoke(&name, Some("stolen".to_owned())).await.unwrap();
        assert_eq!((gone.enrolled, gone.revoked.as_deref(), gone.running), (false, Some("stolen"), 0));
        farm.folders("a").until_no_work().await;
        farm.start_agent("b", 1).await;
        farm.api().until_in_stage(number, 2, "wait").await;
        farm.folders("b").let_go().await;
        farm.api().until_is(number, Status::Passed).await;
        let lost = &why(farm, number).await.lost[0];
        assert_eq!(lost.loss, Some(Loss::Revoked { why: "stolen".to_owned() }));
        // A new life with the same key is not let in by the open enrolment that this farm has.
        farm.agent("a").stop().await;
        farm.start_agent("a", 1).await;
        farm.agent("b").stop().await;
        let next = farm.api().begin(PASSES).await;
        reason(farm, next, |why| matches!(why, WaitReason::NoAgent { .. })).await;
        assert!(!farm.until_known("a").await.enrolled);
        let fingerprint = farm.until_known("a").await.fingerprint;
        farm.api().client.approve(&name, &Approve { fingerprint, labels: None }).await.unwrap();
        farm.api().until_is(next, Status::Passed).await;
    })
    .await;
}

#[tokio::test]
async fn why_it_ran_and_what_was_passed_over() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let manifest = "image: x\nstages: [one, two]\none: {script: [exit 7]}\ntwo: {script: [print 2]}\n";
        let repository = Repository::with_manifest(manifest);
        let client = farm.api().client.clone().asked_by("ada@laptop");
        let order = protocol::api::Submit::new(repository.url(), None);
        let number = client.submit(&order).await.unwrap().build.number;
        farm.api().until_is(number, Status::Failed).await;
        let told = why(farm, number).await;
        assert_eq!((told.build.trigger.as_str(), told.by.as_deref()), ("manual", Some("ada@laptop")));
        assert_eq!(told.build.message.as_deref(), Some("one failed: exit code 7"));
        let skipped = &told.not_run[0];
        assert_eq!((skipped.stage.as_ref().unwrap().as_str(), skipped.why.as_str()), ("two", "one failed"));
        assert!(told.waiting.is_empty() && told.running.is_empty() && told.lost.is_empty());
        farm.memory().publish("build_queue", Repository::with_manifest(PASSES).message(), None, None);
        let by_hand = until("its build", async || farm.api().builds().await.get(1).map(|row| row.number)).await;
        farm.api().until_over(by_hand).await;
        let by = why(farm, by_hand).await.by;
        assert_eq!(by.as_deref(), Some("a message on build_queue, which agent a took"));
    })
    .await;
}
