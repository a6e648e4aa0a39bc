//! A network that is cut, frozen and healed between the broker and those who use it.

use std::time::{Duration, Instant};

use farm::farm::until;
use farm::processes::{recovered, states, with_processes};
use farm::proxy::Network;

use crate::agent::behind_a_proxy;

/// The agent that builds is cut off for longer than a lease; another has built the job when it is back.
async fn away_for_longer_than_a_lease(away: Network) {
    with_processes(3, async |farm| {
        let proxy = behind_a_proxy(farm).await;
        let number = farm.begin_build().await;
        proxy.becomes(away);
        let since = Instant::now();
        farm.start_agent("b").await;
        farm.until_begun(number, 2).await;
        recovered(&format!("network of an agent {away:?} for longer than a lease"), since, farm.lease);
        // Its own result comes late, and is superseded.
        farm.agent("a").folders.let_go().await;
        farm.agent("a").folders.until_a_result().await;
        farm.agent("b").folders.let_go().await;
        let view = farm.passes(number).await;
        assert_eq!(states(&view), ["lost", "passed"]);
        assert_eq!(view.attempts[1].agent, "b");
        proxy.becomes(Network::Whole);
        let since = Instant::now();
        farm.until_clean().await;
        recovered(
            &format!("network of an agent {away:?}, healed: its late result is taken and superseded"),
            since,
            farm.lease,
        );
        let view = farm.passes(number).await;
        assert_eq!(states(&view), ["lost", "passed"], "recorded once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_cut_off_for_longer_than_a_lease() {
    away_for_longer_than_a_lease(Network::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_connection_is_frozen_for_longer_than_a_lease() {
    away_for_longer_than_a_lease(Network::Frozen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_was_cut_off_stops_what_another_has() {
    with_processes(3, async |farm| {
        let proxy = behind_a_proxy(farm).await;
        let number = farm.begin_build().await;
        proxy.becomes(Network::Cut);
        farm.start_agent("b").await;
        farm.until_begun(number, 2).await;
        proxy.becomes(Network::Whole);
        let since = Instant::now();
        // Its own goes on until it is told that it is no longer wanted.
        farm.agent("a").until_clean().await;
        recovered("network of an agent cut and healed while it builds: stopped and cleaned", since, farm.lease);
        farm.agent("b").folders.let_go().await;
        assert_eq!(states(&farm.passes(number).await), ["lost", "passed"]);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_cut_off_for_less_than_a_lease() {
    with_processes(20, async |farm| {
        let proxy = behind_a_proxy(farm).await;
        let number = farm.begin_build().await;
        farm.start_agent("b").await;
        for away in [Network::Cut, Network::Frozen] {
            proxy.becomes(away);
            // Some signs of life are missed: the time itself is what is tested.
            tokio::time::sleep(Duration::from_secs(3)).await;
            proxy.becomes(Network::Whole);
        }
        let since = Instant::now();
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        recovered("network of an agent away for 3 s, less than a lease", since, farm.lease);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_network_costs_time_and_nothing_else() {
    with_processes(20, async |farm| {
        let proxy = farm.through_proxy("a").await;
        proxy.becomes(Network::Slow);
        farm.start_coordinator().await;
        farm.start_agent("a").await;
        let number = farm.begin_build().await;
        let since = Instant::now();
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        recovered("network of an agent 200 ms slower in each direction: the rest of a build", since, farm.lease);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_died_in_silence_are_found_out() {
    with_processes(60, async |farm| {
        let proxy = behind_a_proxy(farm).await;
        let number = farm.begin_build().await;
        // As behind a router that forgot them: only new ones work.
        proxy.forget_connections();
        let since = Instant::now();
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        recovered("an agent's connections dead in silence (half-open)", since, farm.lease);
        let next = farm.begin_build().await;
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(next).await), ["passed"]);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinators_connections_that_died_in_silence_are_found_out() {
    with_processes(90, async |farm| {
        let proxy = farm.through_proxy("coordinator").await;
        let number = farm.in_stage().await;
        proxy.forget_connections();
        let since = Instant::now();
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        recovered("a coordinator's connections dead in silence (half-open)", since, farm.lease);
        let next = farm.begin_build().await;
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(next).await), ["passed"]);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_is_cut_off_for_longer_than_a_lease() {
    with_processes(3, async |farm| {
        let proxy = farm.through_proxy("coordinator").await;
        let number = farm.in_stage().await;
        for away in [Network::Cut, Network::Frozen] {
            proxy.becomes(away);
            tokio::time::sleep(2 * farm.lease).await;
            proxy.becomes(Network::Whole);
            let since = Instant::now();
            until("the agent to be seen", async || {
                let agents = farm.api().client.agents().await.ok()?;
                agents.into_iter().find(|agent| agent.seen_ms_ago.is_some_and(|ago| ago < 1_500))
            })
            .await;
            recovered(&format!("network of the coordinator {away:?} for two leases"), since, farm.lease);
        }
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        farm.until_clean().await;
    })
    .await;
}
