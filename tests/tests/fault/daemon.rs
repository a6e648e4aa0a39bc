//! The Docker daemon: stopped, killed, and away, under and before a job.

use std::time::Instant;

use farm::farm::until;
use farm::own_docker::OwnDocker;
use farm::processes::{Processes, on, recovered};
use farm::rabbit::with_vhost;
use protocol::api::{BuildView, Status};

/// The bridge of the machine's own daemon: the number and the address of the link, none when there is no such link.
fn bridge() -> Option<(String, String)> {
    let of = |what: &str| std::fs::read_to_string(format!("/sys/class/net/docker0/{what}")).ok();
    Some((of("ifindex")?, of("address")?))
}

fn told(view: &BuildView) -> &str {
    view.build.message.as_deref().unwrap_or_default()
}

/// A build whose daemon went away ends as errored, with a sentence that says so, and nothing of it is left once the
/// daemon is back.
async fn errored(farm: &mut Processes, number: protocol::BuildNumber) -> BuildView {
    let view = farm.api().until_is(number, Status::Errored).await;
    assert_eq!(view.attempts.len(), 1, "{view:#?}");
    assert!(told(&view).contains("daemon") || told(&view).contains("container"), "{view:#?}");
    view
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_is_stopped_killed_and_away() {
    let bridge_before = bridge();
    let Some(mut daemon) = OwnDocker::start().await else { return };
    let host = daemon.host();
    with_vhost(async |vhost| {
        on(vhost, Some(host), 3, async |farm| {
            farm.start_coordinator().await;
            farm.start_agent("a").await;

            let number = farm.begin_build().await;
            daemon.stop().await;
            let since = Instant::now();
            let view = errored(farm, number).await;
            eprintln!("daemon stopped: {}", told(&view));
            recovered("Docker daemon stopped in a stage: told", since, farm.lease);
            // It fails one job, and leaves the others to those who can.
            let waiting = farm.api().submit(&farm.repository).await;
            let why = paused(farm).await;
            assert!(why.contains("daemon"), "{why}");
            assert_eq!(farm.api().build(waiting).await.build.status, Status::Queued);
            daemon.start_again().await;
            let since = Instant::now();
            works(farm, waiting).await;
            recovered("Docker daemon back: the next job passes and all is clean", since, farm.lease);

            let number = farm.begin_build().await;
            daemon.kill().await;
            let since = Instant::now();
            let view = errored(farm, number).await;
            eprintln!("daemon killed: {}", told(&view));
            recovered("Docker daemon killed in a stage: told", since, farm.lease);
            daemon.start_again().await;
            let since = Instant::now();
            let next = farm.api().submit(&farm.repository).await;
            works(farm, next).await;
            recovered("Docker daemon killed and back: the next job passes and all is clean", since, farm.lease);

            // It goes while nothing runs, so that the next job is the first to notice.
            daemon.stop().await;
            let number = farm.api().submit(&farm.repository).await;
            let since = Instant::now();
            let view = errored(farm, number).await;
            eprintln!("daemon away: {}", told(&view));
            recovered("Docker daemon away when a job begins: told", since, farm.lease);
            daemon.start_again().await;
            let next = farm.api().submit(&farm.repository).await;
            works(farm, next).await;
        })
        .await;
    })
    .await;
    daemon.stop().await;
    assert_eq!(bridge(), bridge_before, "the network of the machine's own daemon is as it was");
}

/// Why the agent takes no jobs, as the API has it.
async fn paused(farm: &Processes) -> String {
    until("the agent to say that its executor does not work", async || {
        let agents = farm.api().client.agents().await.ok()?;
        agents.into_iter().find_map(|agent| agent.paused)
    })
    .await
}

async fn works(farm: &mut Processes, number: protocol::BuildNumber) {
    farm.until_begun(number, 1).await;
    farm.agent("a").folders.let_go().await;
    farm.passes(number).await;
    farm.until_clean().await;
}
