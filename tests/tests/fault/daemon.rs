//! The Docker daemon: stopped, killed, and away, under and before a job.

use std::time::Instant;

use farm::farm::until;
use farm::own_docker::OwnDocker;
use farm::processes::{Processes, on, recovered, states};
use farm::rabbit::with_vhost;
use protocol::Cause;
use protocol::api::{Loss, Status};

/// The number of the link that is the bridge of the machine's own daemon, none when there is no such link. One that was
/// taken down and made anew has another; its address changes with what is joined to it.
fn bridge() -> Option<String> {
    std::fs::read_to_string("/sys/class/net/docker0/ifindex").ok()
}

/// An attempt whose daemon went away errors with a sentence that says so, which is given, and its build stays open.
async fn errored(farm: &mut Processes, number: protocol::BuildNumber) -> String {
    let view = farm.api().until(number, |view| view.attempts.iter().any(|one| one.state != "running")).await;
    assert_eq!((view.build.status, states(&view)), (Status::Queued, vec!["errored"]), "{view:#?}");
    let Some(Loss::Errored { cause: Cause::Daemon, message: Some(told) }) = &view.attempts[0].loss else {
        panic!("{view:#?}")
    };
    assert!(told.contains("daemon") || told.contains("container"), "{view:#?}");
    told.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_is_stopped_killed_and_away() {
    let bridge_before = bridge();
    let Some(mut daemon) = OwnDocker::start().await else { return };
    let host = daemon.host();
    with_vhost(async |vhost| {
        on(vhost, Some(host), 20, async |farm| {
            farm.start_coordinator().await;
            farm.start_agent("a").await;

            let number = farm.begin_build().await;
            daemon.stop().await;
            let since = Instant::now();
            eprintln!("daemon stopped: {}", errored(farm, number).await);
            recovered("Docker daemon stopped in a stage: told", since, farm.lease);
            // It fails one attempt, and leaves the next to those who can.
            let why = paused(farm).await;
            assert!(why.contains("daemon"), "{why}");
            assert_eq!(farm.api().build(number).await.build.status, Status::Queued);
            daemon.start_again().await;
            let since = Instant::now();
            works(farm, number).await;
            recovered("Docker daemon back: the second attempt passes and all is clean", since, farm.lease);

            let number = farm.begin_build().await;
            daemon.kill().await;
            let since = Instant::now();
            eprintln!("daemon killed: {}", errored(farm, number).await);
            recovered("Docker daemon killed in a stage: told", since, farm.lease);
            daemon.start_again().await;
            let since = Instant::now();
            works(farm, number).await;
            recovered("Docker daemon killed and back: the second attempt passes and all is clean", since, farm.lease);

            // It goes while nothing runs, so that the next job is the first to notice.
            daemon.stop().await;
            let number = farm.api().submit(&farm.repository).await;
            let since = Instant::now();
            eprintln!("daemon away: {}", errored(farm, number).await);
            recovered("Docker daemon away when a job begins: told", since, farm.lease);
            daemon.start_again().await;
            works(farm, number).await;
        })
        .await;
    })
    .await;
    daemon.stop().await;
    assert_eq!(bridge(), bridge_before, "the network of the machine's own daemon is as it was");
}

/// Where systemd holds its socket nobody is refused while it is away: who asks how a container ended is answered by the
/// next daemon, which was not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_is_started_anew_behind_its_socket() {
    let Some(mut daemon) = OwnDocker::start_behind_a_socket().await else { return };
    let host = daemon.host();
    with_vhost(async |vhost| {
        on(vhost, Some(host), 20, async |farm| {
            farm.start_coordinator().await;
            farm.start_agent("a").await;
            for kills in [false, true] {
                let number = farm.begin_build().await;
                if kills {
                    daemon.kill().await;
                } else {
                    daemon.stop().await;
                }
                daemon.start_again().await;
                let since = Instant::now();
                works(farm, number).await;
                let told = farm.api().build(number).await.attempts[0].loss.clone();
                assert!(matches!(told, Some(Loss::Errored { cause: Cause::Daemon, .. })), "{told:?}");
                recovered("Docker daemon started anew behind its socket: another attempt passes", since, farm.lease);
            }
        })
        .await;
    })
    .await;
    daemon.stop().await;
}

/// Why the agent takes no jobs, as the API has it.
async fn paused(farm: &Processes) -> String {
    until("the agent to say that its executor does not work", async || {
        let agents = farm.api().client.agents().await.ok()?;
        agents.into_iter().find_map(|agent| agent.paused)
    })
    .await
}

/// The second attempt passes, and nothing is left of the first.
async fn works(farm: &mut Processes, number: protocol::BuildNumber) {
    farm.until_begun(number, 2).await;
    farm.agent("a").folders.let_go().await;
    assert_eq!(states(&farm.passes(number).await), ["errored", "passed"]);
    farm.until_clean().await;
}
