//! Coordinators that are killed at each step of a job's way, frozen, and set back to an old backup.

use std::time::{Duration, Instant};

use farm::farm::copy;
use farm::processes::{recovered, states, with_processes};
use farm::proxy::Network;
use protocol::api::{BuildView, Status};
use serde_json::json;

use crate::agent::{first_build, granted_in_vain, hand_to_agent};

/// A claim that is given up before its grant is heard is no attempt.
fn once(view: &BuildView) {
    let (last, before) = view.attempts.split_last().expect("an attempt");
    let given_up = before.iter().all(|attempt| attempt.state == "abandoned");
    assert!(given_up && last.state == "passed" && last.attempt == 1, "{view:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_is_killed_before_it_offers_a_job() {
    with_processes(20, async |farm| {
        let proxy = farm.through_proxy("coordinator").await;
        farm.start_coordinator().await;
        farm.start_agent("a").await;
        farm.until_here("a").await;
        proxy.becomes(Network::Cut);
        let number = farm.api().submit(&farm.repository).await;
        farm.api().until(number, |view| told(view).contains("broker has not been reached")).await;
        farm.kill_coordinator().await;
        proxy.becomes(Network::Whole);
        let since = Instant::now();
        farm.start_coordinator().await;
        farm.until_begun(number, 1).await;
        recovered("coordinator killed before the offer", since, farm.lease);
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        farm.until_clean().await;
    })
    .await;
}

fn told(view: &BuildView) -> &str {
    view.build.message.as_deref().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_is_killed_after_it_offered_a_job() {
    with_processes(3, async |farm| {
        farm.start_coordinator().await;
        let number = farm.api().submit(&farm.repository).await;
        farm.until_offered().await;
        farm.kill_coordinator().await;
        let since = Instant::now();
        farm.start_coordinator().await;
        farm.start_agent("a").await;
        farm.until_begun(number, 1).await;
        recovered("coordinator killed after the offer", since, farm.lease);
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        // It was offered twice, and the second is refused.
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_is_killed_with_a_claim_that_it_has_not_read() {
    with_processes(10, async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a").await;
        farm.until_taking("a").await;
        farm.signal_coordinator("-STOP").await;
        hand_to_agent(farm, json!({})).await;
        farm.kill_coordinator().await;
        let since = Instant::now();
        farm.start_coordinator().await;
        let number = first_build(farm).await;
        farm.api().until_in_stage(number, 1, "wait").await;
        recovered("coordinator killed at the claim, which waits in its queue", since, farm.lease);
        farm.agent("a").folders.let_go().await;
        once(&farm.passes(number).await);
        assert_eq!(farm.api().builds().await.len(), 1);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_is_killed_and_its_grant_is_lost() {
    with_processes(10, async |farm| {
        let (number, proxy) = granted_in_vain(farm, json!({"message_id": "only-one"})).await;
        farm.kill_coordinator().await;
        // The grant goes with the connection's own queue.
        proxy.becomes(Network::Cut);
        proxy.becomes(Network::Whole);
        let since = Instant::now();
        farm.start_coordinator().await;
        farm.api().until(number, |view| view.attempts.iter().any(|attempt| !attempt.stages.is_empty())).await;
        recovered("coordinator killed after the grant, which is lost", since, farm.lease);
        farm.agent("a").folders.let_go().await;
        once(&farm.passes(number).await);
        assert_eq!(farm.api().builds().await.len(), 1);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_is_killed_while_a_job_runs() {
    with_processes(60, async |farm| {
        let number = farm.in_stage().await;
        farm.kill_coordinator().await;
        farm.agent("a").folders.let_go().await;
        farm.agent("a").folders.until_a_result().await;
        let since = Instant::now();
        farm.start_coordinator().await;
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        recovered("coordinator killed in a stage, the job ends meanwhile", since, farm.lease);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_is_killed_with_a_result_that_it_has_not_read() {
    with_processes(10, async |farm| {
        let number = farm.in_stage().await;
        farm.signal_coordinator("-STOP").await;
        farm.agent("a").folders.let_go().await;
        farm.agent("a").folders.until_a_result().await;
        farm.kill_coordinator().await;
        let since = Instant::now();
        farm.start_coordinator().await;
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        recovered("coordinator killed at the result, which waits in its queue", since, farm.lease);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_are_killed() {
    with_processes(3, async |farm| {
        let number = farm.in_stage().await;
        farm.kill_coordinator().await;
        farm.agent("a").kill().await;
        let since = Instant::now();
        farm.start_agent("a").await;
        farm.start_coordinator().await;
        farm.until_begun(number, 2).await;
        recovered("coordinator and agent killed at once", since, farm.lease);
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(number).await), ["lost", "passed"]);
        assert_eq!(farm.api().builds().await.len(), 1);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_coordinator_takes_no_job_from_anybody() {
    with_processes(3, async |farm| {
        let number = farm.in_stage().await;
        farm.signal_coordinator("-STOP").await;
        // Two leases long, in which the agent goes on saying that it is there: the time itself is what is tested.
        tokio::time::sleep(2 * farm.lease + Duration::from_secs(1)).await;
        farm.signal_coordinator("-CONT").await;
        let since = Instant::now();
        // It looks for silent agents again.
        farm.until_here("a").await;
        recovered("coordinator frozen for two leases", since, farm.lease);
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_set_back_stops_what_it_does_not_know() {
    with_processes(3, async |farm| {
        farm.start_coordinator().await;
        let number = farm.api().submit(&farm.repository).await;
        farm.stop_coordinator().await;
        let backup = farm.folder.path().join("backup");
        copy(&farm.state(), &backup);
        farm.start_coordinator().await;
        farm.start_agent("a").await;
        farm.until_begun(number, 1).await;
        farm.kill_coordinator().await;
        std::fs::remove_dir_all(farm.state()).unwrap();
        copy(&backup, &farm.state());
        let since = Instant::now();
        farm.start_coordinator().await;
        farm.until_said("a", "a claim is no longer current: its job is stopped").await;
        // A person has to know: what ran since the backup is not in the history.
        farm.until_said("coordinator", "older backup").await;
        farm.api().until_in_stage(number, 1, "wait").await;
        recovered("store set back to an old backup", since, farm.lease);
        farm.until_begun(number, 1).await;
        farm.agent("a").folders.let_go().await;
        let view = farm.passes(number).await;
        assert_eq!((states(&view), view.build.status), (vec!["passed"], Status::Passed));
        farm.until_clean().await;
    })
    .await;
}
