//! A clock that is set forward and back by a day, on the coordinator's machine and on an agent's.

use std::time::Instant;

use farm::clock::Clock;
use farm::farm::until;
use farm::processes::{Processes, recovered, states, with_processes};
use protocol::api::{BuildView, Status};

const DAY: i64 = 24 * 60 * 60;

async fn jumps(who: &str) {
    with_processes(5, async |farm| {
        let clock = Clock::new();
        farm.variables.insert(who.to_owned(), clock.variables());
        let number = farm.in_stage().await;
        for shift in [DAY, -DAY, 0] {
            clock.shift(shift);
            until_seen_again(farm).await;
        }
        clock.shift(DAY);
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        for shift in [-DAY, DAY, 0] {
            // Between the offer and its taking, too.
            let waiting = farm.api().submit(&farm.repository).await;
            clock.shift(shift);
            let since = Instant::now();
            farm.until_begun(waiting, 1).await;
            recovered(&format!("clock of {who} set by {} days: a job begins", shift / DAY), since, farm.lease);
            farm.agent("a").folders.let_go().await;
            clock.shift(-shift);
            assert_eq!(states(&farm.passes(waiting).await), ["passed"]);
        }
        farm.until_clean().await;
    })
    .await;
}

/// Two signs of life that are younger than the jump: whatever the jump does has been done.
async fn until_seen_again(farm: &Processes) {
    for fresh in [false, true, false, true] {
        until("a sign of life", async || {
            let agents = farm.api().client.agents().await.ok()?;
            agents.into_iter().find(|agent| agent.seen_ms_ago.is_some_and(|ago| (ago < 500) == fresh))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinators_clock_jumps() {
    jumps("coordinator").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_clock_jumps() {
    jumps("a").await;
}

/// A log that comes after its job's end is waited for, whatever the clock says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_late_is_waited_for() {
    with_processes(5, async |farm| {
        let clock = Clock::new();
        farm.variables.insert("coordinator".to_owned(), clock.variables());
        farm.start_coordinator().await;
        farm.start_agent("a").await;
        farm.until_here("a").await;
        let user = farm.agent("a").user();
        farm.vhost.permit_keys(&user, "buildr.events", r"^(agent|claim)\..*$|\.progress$").await;
        let number = farm.api().submit(&farm.repository).await;
        farm.api().until_in_stage(number, 1, "wait").await;
        farm.agent("a").folders.let_go().await;
        let passed = |view: &BuildView| view.build.status == Status::Passed;
        until("the job's end", async || Some(farm.api().build(number).await).filter(passed)).await;
        clock.shift(DAY);
        until_seen_again(farm).await;
        farm.vhost.permit_keys(&user, "buildr.events", ".*").await;
        let since = Instant::now();
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        recovered("clock set forward by a day between a job's end and its log", since, farm.lease);
        assert!(!farm.log_of("coordinator").contains("given up"), "a healthy agent was not waited for");
        farm.until_clean().await;
    })
    .await;
}

/// What was offered before the clock went back is offered again when it was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_was_purged_waits_for_no_clock() {
    with_processes(5, async |farm| {
        let clock = Clock::new();
        farm.variables.insert("coordinator".to_owned(), clock.variables());
        farm.start_coordinator().await;
        let number = farm.api().submit(&farm.repository).await;
        farm.until_offered().await;
        clock.shift(-DAY);
        farm.vhost.purge("build_queue").await;
        let since = Instant::now();
        farm.start_agent("a").await;
        farm.until_begun(number, 1).await;
        recovered("clock of the coordinator set back by a day, and an offer purged", since, farm.lease);
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        farm.until_clean().await;
    })
    .await;
}
