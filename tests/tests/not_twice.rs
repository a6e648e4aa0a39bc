//! A stage that must not run twice, with everything going wrong around it: it begins at most once, whatever is lost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::time::Duration;

use agent::config::Standalone;
use farm::farm::{Farm, Lost, Repository, in_memory, over_rabbitmq, until};
use protocol::api::{BuildView, Status};
use protocol::job::StatusMessage;
use serde_json::json;

/// Its first stage waits for `go`; then comes the one that must not run twice, and after it one that waits for `end`.
const DEPLOYS: &str = "image: x
stages: [wait, deploy, tell]
wait: {script: [print begun, wait-file go]}
deploy: {retry: never, script: [write deployed yes, print deployed]}
tell: {script: [print telling, wait-file end]}
";

/// The same with nothing to wait for.
const PASSES: &str = "image: x
stages: [build, deploy, tell]
build: {script: [print built]}
deploy: {retry: never, script: [print deployed]}
tell: {script: [print told]}
";

fn states(view: &BuildView) -> Vec<&str> {
    view.attempts.iter().map(|attempt| attempt.state.as_str()).collect()
}

/// In which attempts the stage printed what it does, from 1.
async fn deployed(farm: &Farm, view: &BuildView) -> Vec<usize> {
    let mut found = Vec::new();
    for (place, attempt) in view.attempts.iter().enumerate() {
        if attempt.logs.iter().any(|log| log.name.as_str() == "deploy") {
            let log = farm.api().log_of(view.build.number, u32::try_from(place).unwrap() + 1, "deploy").await;
            found.extend(log.windows(8).any(|part| part == b"deployed").then_some(place + 1));
        }
    }
    found
}

async fn with_agent(farm: &mut Farm) {
    farm.start_coordinator().await;
    farm.start_agent("a", 1).await;
}

/// Nothing and nobody fails, or a message is lost and made good by the next heartbeat.
async fn passes_though_lost(farm: &mut Farm, losses: &[Lost]) {
    with_agent(farm).await;
    losses.iter().for_each(|lost| farm.agent("a").lose(*lost));
    let number = farm.api().begin(PASSES).await;
    let view = farm.api().until_is(number, Status::Passed).await;
    assert_eq!(states(&view), ["passed"]);
    assert_eq!(deployed(farm, &view).await, [1]);
    assert!(farm.agent("a").has_lost_all());
}

/// Its line is cut just before the stage: it does not begin, and the next attempt may do it.
async fn waits_behind_a_cut_line(farm: &mut Farm) {
    with_agent(farm).await;
    let number = farm.api().begin(DEPLOYS).await;
    farm.api().until_in_stage(number, 1, "wait").await;
    farm.agent("a").shut_gate();
    farm.folders("a").let_go().await;
    farm.folders("a").until_told_of("deploy").await;
    let lost = |view: &BuildView| view.attempts.first().is_some_and(|attempt| attempt.state == "lost");
    farm.api().until(number, lost).await;
    assert!(!farm.folders("a").holds("deployed"), "it began before the coordinator knew");
    farm.start_agent("b", 1).await;
    farm.api().until_in_stage(number, 2, "wait").await;
    farm.agent("a").open_gate();
    farm.folders("a").until_no_work().await;
    farm.folders("b").let_go().await;
    farm.api().until_in_stage(number, 2, "tell").await;
    farm.folders("b").let_end().await;
    let view = farm.api().until_is(number, Status::Passed).await;
    assert_eq!(states(&view), ["lost", "passed"]);
    assert_eq!(deployed(farm, &view).await, [2]);
}

/// Its agent dies under the stage after it: nobody tries again, until a person does.
async fn is_left_to_a_person(farm: &mut Farm) {
    with_agent(farm).await;
    let repository = Repository::with_manifest(DEPLOYS);
    let number = farm.api().submit(&repository).await;
    farm.api().until_in_stage(number, 1, "wait").await;
    farm.folders("a").let_go().await;
    farm.api().until_in_stage(number, 1, "tell").await;
    farm.agent("a").kill().await;
    farm.start_agent("b", 1).await;
    let view = farm.api().until_is(number, Status::Errored).await;
    let message = view.build.message.clone().unwrap();
    assert!(message.contains("must not run twice") && message.contains("submit the build again"), "{message}");
    assert_eq!((states(&view), view.exit_code), (vec!["lost"], Some(3)));
    // Its next life finds what its last one left, and does not do it again.
    farm.start_agent("a", 1).await;
    let again = farm.api().submit(&repository).await;
    let taken = farm.api().until_in_stage(again, 1, "wait").await;
    let taker = taken.attempts[0].agent.clone();
    farm.folders(&taker).let_go().await;
    farm.api().until_in_stage(again, 1, "tell").await;
    farm.folders(&taker).let_end().await;
    farm.api().until_is(again, Status::Passed).await;
    assert_eq!(states(&farm.api().build(number).await), ["lost"]);
}

/// The coordinator is away when it should begin: it begins when it is back.
async fn waits_for_the_coordinator(farm: &mut Farm) {
    farm.config.lease = Duration::from_secs(60);
    with_agent(farm).await;
    let number = farm.api().begin(DEPLOYS).await;
    farm.api().until_in_stage(number, 1, "wait").await;
    farm.kill_coordinator().await;
    farm.folders("a").let_go().await;
    farm.folders("a").until_told_of("deploy").await;
    assert!(!farm.folders("a").holds("deployed"), "it began before a coordinator knew");
    farm.start_coordinator().await;
    farm.api().until_in_stage(number, 1, "tell").await;
    farm.folders("a").let_end().await;
    let view = farm.api().until_is(number, Status::Passed).await;
    assert_eq!(states(&view), ["passed"]);
}

/// Somebody cancels while it waits: it never begins.
async fn is_cancelled_before_it_begins(farm: &mut Farm) {
    farm.config.heartbeat = Duration::from_secs(2);
    with_agent(farm).await;
    let number = farm.api().begin(DEPLOYS).await;
    farm.api().until_in_stage(number, 1, "wait").await;
    farm.agent("a").lose(Lost::Noted);
    farm.agent("a").shut_gate();
    farm.folders("a").let_go().await;
    farm.folders("a").until_told_of("deploy").await;
    farm.api().cancel(number).await;
    farm.agent("a").open_gate();
    let view = farm.api().until_is(number, Status::Cancelled).await;
    assert_eq!(deployed(farm, &view).await, [0; 0]);
}

#[tokio::test]
async fn nothing_fails_in_memory() {
    in_memory(async |farm| passes_though_lost(farm, &[]).await).await;
}

#[tokio::test]
async fn nothing_fails_over_rabbitmq() {
    over_rabbitmq(async |farm| passes_though_lost(farm, &[]).await).await;
}

#[tokio::test]
async fn words_are_lost_in_memory() {
    in_memory(async |farm| passes_though_lost(farm, &[Lost::Started, Lost::Noted, Lost::Noted]).await).await;
}

#[tokio::test]
async fn words_are_lost_over_rabbitmq() {
    over_rabbitmq(async |farm| passes_though_lost(farm, &[Lost::Started, Lost::Noted, Lost::Noted]).await).await;
}

#[tokio::test]
async fn behind_a_cut_line_in_memory() {
    in_memory(waits_behind_a_cut_line).await;
}

#[tokio::test]
async fn behind_a_cut_line_over_rabbitmq() {
    over_rabbitmq(waits_behind_a_cut_line).await;
}

#[tokio::test]
async fn a_killed_agent_in_memory() {
    in_memory(is_left_to_a_person).await;
}

#[tokio::test]
async fn a_killed_agent_over_rabbitmq() {
    over_rabbitmq(is_left_to_a_person).await;
}

#[tokio::test]
async fn a_killed_coordinator_in_memory() {
    in_memory(waits_for_the_coordinator).await;
}

#[tokio::test]
async fn a_killed_coordinator_over_rabbitmq() {
    over_rabbitmq(waits_for_the_coordinator).await;
}

#[tokio::test]
async fn cancelled_before_it_begins_in_memory() {
    in_memory(is_cancelled_before_it_begins).await;
}

#[tokio::test]
async fn a_daemon_that_fails_under_it_leaves_the_outcome_unknown() {
    in_memory(async |farm| {
        with_agent(farm).await;
        for (word, again, says) in [
            ("broken-daemon", "retry: never, ", "outcome unknown"),
            ("broken-daemon", "", "daemon"),
            ("unpullable", "retry: never, ", "pull"),
            ("no-shell", "retry: never, ", "daemon"),
        ] {
            let manifest = format!("image: x\nstages: [deploy]\ndeploy: {{{again}script: [{word}]}}\n");
            let number = farm.api().begin(&manifest).await;
            let view = farm.api().until_is(number, Status::Errored).await;
            let log = farm.api().log(number, "0-job").await;
            assert!(log.contains(&format!("errored ({says})")), "{word} {again:?}: {log}");
            let message = view.build.message.unwrap();
            assert_eq!(message.contains("must not run twice"), says == "outcome unknown", "{message}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_agent_on_its_own_gives_the_message_up_first() {
    over_rabbitmq(async |farm| {
        farm.vhost().declare("mine", json!({})).await;
        farm.vhost().declare("build_queue", json!({})).await;
        farm.start_agent_with("a", |config| config.standalone = Standalone::Always).await;
        let repository = Repository::with_manifest(DEPLOYS);
        let answer = json!({"reply_to": "mine"});
        farm.vhost().publish("", "build_queue", &repository.message(), answer).await;
        until("the job", async || farm.folders("a").is_busy().then_some(())).await;
        // Its line breaks before: the broker has the message again, so the stage must not begin here.
        farm.vhost().cut("buildr-agent a").await;
        until("the message", async || (!farm.vhost().peek("build_queue").await.is_empty()).then_some(())).await;
        farm.start_agent_with("b", |config| config.standalone = Standalone::Always).await;
        until("the job again", async || farm.folders("b").is_busy().then_some(())).await;
        farm.folders("a").let_go().await;
        farm.folders("a").until_no_work().await;
        // The broker counts what an agent holds, too, until it is acknowledged: here before the build is over.
        let counted = async |expect: u64| {
            let depths = farm.vhost().depths().await;
            depths.contains(&("build_queue".to_owned(), expect)).then_some(())
        };
        until("the message to be counted", async || counted(1).await).await;
        farm.folders("b").let_go().await;
        until("the stage", async || farm.folders("b").holds("deployed").then_some(())).await;
        until("the message to be gone", async || counted(0).await).await;
        farm.folders("b").let_end().await;
        let mut said = Vec::new();
        until("three answers", async || {
            let more = farm.vhost().peek("mine").await;
            (more.len() >= 3).then_some(())
        })
        .await;
        for (_, body) in farm.vhost().drain("mine").await {
            said.push(serde_json::from_slice::<StatusMessage>(&body).unwrap().status);
        }
        assert_eq!(said, ["running", "running", "passed"]);
        assert!(farm.vhost().drain("build_queue").await.is_empty());
    })
    .await;
}
