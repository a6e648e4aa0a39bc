//! An agent that takes no jobs for a while, because a person says so from afar or because it ends: what it does, what
//! the farm says of it, and that it holds over restarts. The same over both lines.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use farm::farm::{Farm, Repository, in_memory, over_rabbitmq, until};
use protocol::api::{AgentView, Status, WaitReason};
use protocol::{AgentId, BuildNumber};

const WAITS: &str = "image: x\nstages: [wait]\nwait: {script: [print begun, wait-file go, print let go]}\n";

fn a() -> AgentId {
    "a".parse().unwrap()
}

/// The agent as the API shows it, once that is so.
async fn agent(farm: &Farm, what: &str, is: impl Fn(&AgentView) -> bool) -> AgentView {
    until(what, async || farm.api().client.agent(&a()).await.ok().filter(&is)).await
}

/// It has been heard of since the coordinator's last start, and knows what the person said.
async fn pauses(farm: &Farm, note: &str) {
    let is = |agent: &AgentView| agent.seen_ms_ago.is_some() && agent.heard;
    let agent = agent(farm, "the agent to know that it pauses", is).await;
    assert_eq!(agent.paused, Some(format!("paused by a person: {note}")));
    assert_eq!(agent.pause.unwrap().note, note);
}

/// Nobody took the build, and it says why.
async fn waits(farm: &Farm, number: BuildNumber, note: &str) {
    let said = until("the reason", async || {
        let why = farm.api().client.why(Some(number)).await.ok()?;
        assert!(why.build.status == Status::Queued && why.lost.is_empty(), "{why:#?}");
        let first = why.waiting.into_iter().next()?;
        matches!(first.why, WaitReason::AllPaused { .. }).then_some(first.sentence)
    })
    .await;
    assert!(said.contains(&format!("paused by a person: {note}")), "{said}");
    assert!(farm.api().build(number).await.attempts.is_empty());
}

async fn a_person_pauses_and_resumes(farm: &mut Farm) {
    farm.start_coordinator().await;
    farm.start_agent("a", 1).await;
    farm.until_here("a").await;
    farm.api().client.pause(&a(), Some("new fans".to_owned())).await.unwrap();
    pauses(farm, "new fans").await;
    let number = farm.api().begin(WAITS).await;
    waits(farm, number, "new fans").await;
    // The next life of the agent keeps it, also when it begins before its coordinator does.
    farm.agent("a").stop().await;
    farm.stop_coordinator().await;
    farm.start_agent("a", 1).await;
    farm.start_coordinator().await;
    pauses(farm, "new fans").await;
    waits(farm, number, "new fans").await;
    // What is said while it is away reaches its next life, and so does that it is taken back.
    farm.agent("a").kill().await;
    farm.api().client.pause(&a(), Some("and new belts".to_owned())).await.unwrap();
    farm.start_agent("a", 1).await;
    pauses(farm, "and new belts").await;
    waits(farm, number, "and new belts").await;
    farm.agent("a").stop().await;
    farm.api().client.resume(&a()).await.unwrap();
    farm.start_agent("a", 1).await;
    farm.api().until_in_stage(number, 1, "wait").await;
    // A job that runs is not touched by a pause.
    farm.api().client.pause(&a(), Some("soon".to_owned())).await.unwrap();
    pauses(farm, "soon").await;
    farm.folders("a").let_go().await;
    farm.api().until_is(number, Status::Passed).await;
    let next = farm.api().begin(WAITS).await;
    waits(farm, next, "soon").await;
    farm.api().client.resume(&a()).await.unwrap();
    farm.api().until_in_stage(next, 1, "wait").await;
    farm.folders("a").let_go().await;
    farm.api().until_is(next, Status::Passed).await;
    agent(farm, "nothing to stand against jobs", |agent| agent.paused.is_none() && agent.pause.is_none()).await;
}

#[tokio::test]
async fn a_pause_from_afar_outlives_all_restarts() {
    in_memory(async |farm| a_person_pauses_and_resumes(farm).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_from_afar_outlives_all_restarts_over_rabbitmq_too() {
    over_rabbitmq(async |farm| a_person_pauses_and_resumes(farm).await).await;
}

async fn an_agent_drains(farm: &mut Farm) {
    farm.start_coordinator().await;
    farm.start_agent("a", 1).await;
    let repository = Repository::with_manifest(WAITS);
    // By its duration the end of the next one can be told.
    let first = farm.api().submit(&repository).await;
    farm.api().until_in_stage(first, 1, "wait").await;
    farm.folders("a").let_go().await;
    farm.api().until_is(first, Status::Passed).await;
    let number = farm.api().submit(&repository).await;
    farm.api().until_in_stage(number, 1, "wait").await;
    farm.agent("a").drain();
    let seen = agent(farm, "the agent to say that it drains", |agent| agent.draining).await;
    assert_eq!(seen.paused.as_deref(), Some("it ends when its jobs are over"));
    assert!(seen.running == 1 && seen.free_ms.is_some(), "{seen:?}");
    let next = farm.api().submit(&repository).await;
    farm.folders("a").let_go().await;
    farm.api().until_is(number, Status::Passed).await;
    farm.agent("a").ended().await;
    assert_eq!(farm.api().build(next).await.build.status, Status::Queued, "it took no more");
    farm.start_agent("a", 1).await;
    farm.api().until_in_stage(next, 1, "wait").await;
    agent(farm, "the new life", |agent| !agent.draining && agent.paused.is_none()).await;
    farm.folders("a").let_go().await;
    farm.api().until_is(next, Status::Passed).await;
}

#[tokio::test]
async fn an_agent_that_drains_says_so_and_ends_its_job() {
    in_memory(async |farm| an_agent_drains(farm).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_drains_over_rabbitmq_says_so_too() {
    over_rabbitmq(async |farm| an_agent_drains(farm).await).await;
}
