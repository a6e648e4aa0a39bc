//! Agents that are killed at each step of a job's way, told to end, and called alike.

use std::time::{Duration, Instant};

use farm::farm::{Folders, Repository, until};
use farm::processes::{Processes, exit, recovered, signal, states, with_processes};
use farm::proxy::{Network, Proxy};
use protocol::BuildNumber;
use protocol::api::{BuildView, Status};
use serde_json::{Value, json};

use crate::image;

/// Publishes a job by hand, and waits until the agent that waits for it has it.
pub(crate) async fn hand_to_agent(farm: &Processes, properties: Value) {
    farm.vhost.declare("build_queue", json!({})).await;
    farm.vhost.publish("", "build_queue", &farm.repository.message(), properties).await;
    until("the agent to take it", async || farm.vhost.peek("build_queue").await.is_empty().then_some(())).await;
}

pub(crate) async fn first_build(farm: &Processes) -> BuildNumber {
    until("the build", async || farm.api().builds().await.first().map(|build| build.number)).await
}

/// Coordinator, and agent `a` behind a proxy, which is known.
pub(crate) async fn behind_a_proxy(farm: &mut Processes) -> Proxy {
    farm.start_coordinator().await;
    let proxy = farm.through_proxy("a").await;
    farm.start_agent("a").await;
    farm.until_taking("a").await;
    proxy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_killed_before_its_claim() {
    with_processes(20, async |farm| {
        let proxy = behind_a_proxy(farm).await;
        proxy.becomes(Network::Mute);
        hand_to_agent(farm, json!({})).await;
        farm.agent("a").kill().await;
        // What was held back dies with it.
        proxy.becomes(Network::Cut);
        let since = Instant::now();
        farm.start_agent("b").await;
        let number = first_build(farm).await;
        farm.until_begun(number, 1).await;
        recovered("agent killed before its claim", since, farm.lease);
        farm.agent("b").folders.let_go().await;
        let view = farm.passes(number).await;
        assert_eq!((states(&view), view.attempts[0].agent.as_str()), (vec!["passed"], "b"));
        assert_eq!(farm.api().builds().await.len(), 1);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_killed_before_its_claim_is_answered() {
    with_processes(3, async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a").await;
        farm.until_taking("a").await;
        farm.signal_coordinator("-STOP").await;
        hand_to_agent(farm, json!({"message_id": "only-one"})).await;
        farm.agent("a").kill().await;
        farm.signal_coordinator("-CONT").await;
        let since = Instant::now();
        farm.start_agent("b").await;
        let number = first_build(farm).await;
        farm.api().until(number, |view| view.attempts.last().is_some_and(|last| last.agent == "b")).await;
        recovered("agent killed after its claim, before the grant", since, farm.lease);
        farm.agent("b").folders.let_go().await;
        let view = farm.passes(number).await;
        assert!([vec!["lost", "passed"], vec!["passed"]].contains(&states(&view)), "{view:#?}");
        assert_eq!(farm.api().builds().await.len(), 1);
        farm.until_clean().await;
    })
    .await;
}

/// An agent is granted a job, does not hear of it, and is killed; agent `b` comes.
async fn killed_after_the_grant(farm: &mut Processes, properties: Value) -> BuildNumber {
    let (number, _proxy) = granted_in_vain(farm, properties).await;
    farm.agent("a").kill().await;
    farm.start_agent("b").await;
    number
}

/// Agent `a`, behind this proxy, is granted a job, and does not hear of it.
pub(crate) async fn granted_in_vain(farm: &mut Processes, properties: Value) -> (BuildNumber, Proxy) {
    // Its claim must outlive all that is done here.
    farm.beacon = Duration::from_secs(15);
    let proxy = behind_a_proxy(farm).await;
    farm.signal_coordinator("-STOP").await;
    // The message may be on its way to the agent when it is on the queue no longer; what claims it tells.
    farm.vhost.declare("heard", json!({})).await;
    farm.vhost.bind("buildr.events", "heard", "claim.#").await;
    hand_to_agent(farm, properties).await;
    until("the agent's claim", async || (!farm.vhost.peek("heard").await.is_empty()).then_some(())).await;
    proxy.becomes(Network::Deaf);
    farm.signal_coordinator("-CONT").await;
    let number = first_build(farm).await;
    farm.api().until(number, |view| view.attempts.len() == 1).await;
    (number, proxy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_killed_after_the_grant() {
    with_processes(3, async |farm| {
        let number = killed_after_the_grant(farm, json!({"message_id": "only-one"})).await;
        let since = Instant::now();
        farm.until_begun(number, 2).await;
        recovered("agent killed after the grant, before its ack", since, farm.lease);
        farm.agent("b").folders.let_go().await;
        assert_eq!(states(&farm.passes(number).await), ["lost", "passed"]);
        farm.until_clean().await;
        assert_eq!(farm.api().builds().await.len(), 1, "with an id it is exactly one");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_an_id_is_not_lost_with_its_agent() {
    with_processes(3, async |farm| {
        let number = killed_after_the_grant(farm, json!({})).await;
        let next = async |farm: &Processes| {
            until("a job on b, or the end of all", async || {
                let builds = farm.api().builds().await;
                if builds.iter().all(|build| build.status == Status::Passed) {
                    return Some(None);
                }
                let mut views = Vec::new();
                for build in builds {
                    views.push(farm.api().build(build.number).await);
                }
                let on_b = |view: &BuildView| {
                    view.attempts.last().is_some_and(|last| last.agent == "b" && last.state == "running")
                };
                views.into_iter().find(on_b).map(Some)
            })
            .await
        };
        while let Some(view) = next(farm).await {
            let attempt = view.attempts.last().unwrap().attempt;
            farm.until_begun(view.build.number, attempt).await;
            farm.agent("b").folders.let_go().await;
            farm.passes(view.build.number).await;
        }
        assert_eq!(states(&farm.passes(number).await), ["lost", "passed"]);
        farm.until_clean().await;
        // Its agent died between adoption and acknowledgement: the one moment in which it may be doubled.
        assert!(farm.api().builds().await.len() <= 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_killed_in_a_stage_and_restarted() {
    with_processes(3, async |farm| {
        let number = farm.in_stage().await;
        farm.agent("a").kill().await;
        let since = Instant::now();
        assert!(!farm.agent("a").containers().await.is_empty(), "a killed agent cleans nothing");
        farm.start_agent("a").await;
        farm.until_begun(number, 2).await;
        recovered("agent killed in a stage", since, farm.lease);
        farm.agent("a").folders.let_go().await;
        assert_eq!(states(&farm.passes(number).await), ["lost", "passed"]);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_killed_with_a_result_that_is_not_recorded() {
    with_processes(60, async |farm| {
        let number = farm.in_stage().await;
        farm.signal_coordinator("-STOP").await;
        farm.agent("a").folders.let_go().await;
        farm.agent("a").folders.until_a_result().await;
        farm.agent("a").kill().await;
        farm.signal_coordinator("-CONT").await;
        let since = Instant::now();
        farm.start_agent("a").await;
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        recovered("agent killed after the result, before it is recorded", since, farm.lease);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_agent_had_asked_the_daemon_for_goes_too() {
    with_processes(30, async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a").await;
        farm.agent("a").kill().await;
        farm.start_agent("a").await;
        farm.until_here("a").await;
        farm.agent("a").made_after_death().await;
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_told_to_end_ends_its_job_first() {
    with_processes(30, async |farm| {
        let number = farm.in_stage().await;
        let child = farm.agent("a").child.take().unwrap();
        signal(&child, "-TERM").await;
        let next = farm.api().submit(&farm.repository).await;
        farm.start_agent("b").await;
        farm.api().until_in_stage(next, 1, "wait").await;
        farm.agent("a").folders.let_go().await;
        let view = farm.passes(number).await;
        assert_eq!((states(&view), view.attempts[0].agent.as_str()), (vec!["passed"], "a"));
        assert!(exit(child).await.success());
        farm.agent("b").folders.let_go().await;
        let view = farm.passes(next).await;
        assert_eq!((states(&view), view.attempts[0].agent.as_str()), (vec!["passed"], "b"));
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_told_twice_cancels_and_cleans_up() {
    with_processes(30, async |farm| {
        let number = farm.in_stage().await;
        let child = farm.agent("a").child.take().unwrap();
        signal(&child, "-TERM").await;
        farm.until_said("a", "taking no more jobs; waiting").await;
        signal(&child, "-TERM").await;
        assert!(exit(child).await.success());
        let view = farm.api().until_is(number, Status::Cancelled).await;
        assert_eq!(states(&view), ["cancelled"]);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_agents_are_restarted_while_builds_flow() {
    with_processes(30, async |farm| {
        let quick = format!("image: {}\nstages: [test]\ntest: {{script: [sleep 0.3, echo done]}}\n", image());
        farm.repository = Repository::with_manifest(&quick);
        farm.start_coordinator().await;
        for name in ["a", "b", "c"] {
            farm.start_agent(name).await;
            farm.until_here(name).await;
        }
        let mut numbers = Vec::new();
        for _ in 0..20 {
            numbers.push(farm.api().submit(&farm.repository).await);
        }
        let since = Instant::now();
        for name in ["a", "b", "c"] {
            farm.agent(name).stop().await;
            farm.start_agent(name).await;
            farm.until_here(name).await;
        }
        for number in numbers {
            let view = farm.api().until_is(number, Status::Passed).await;
            assert_eq!(states(&view), ["passed"], "{view:#?}");
            assert!(farm.api().log(number, "test").await.ends_with("done\n"));
        }
        recovered("all three agents restarted under 20 builds (until the last has passed)", since, farm.lease);
        assert_eq!(farm.api().builds().await.len(), 20);
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_lives_of_one_agent_build_each_job_once_and_are_named() {
    with_processes(20, async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a").await;
        farm.until_taking("a").await;
        // Somebody copied a machine, its key and all.
        let copy = Folders::at(farm.folder.path().join("copy"));
        std::fs::create_dir_all(copy.state()).unwrap();
        for file in std::fs::read_dir(farm.agent("a").folders.state()).unwrap().flatten() {
            if file.file_type().unwrap().is_file() {
                std::fs::copy(file.path(), copy.state().join(file.file_name())).unwrap();
            }
        }
        farm.start_agent_in("copy", "a", copy).await;
        farm.until_said("coordinator", "two agents call themselves a").await;
        let mut numbers = Vec::new();
        for _ in 0..2 {
            numbers.push(farm.api().submit(&farm.repository).await);
        }
        for number in numbers {
            farm.api().until_in_stage(number, 1, "wait").await;
        }
        for own in ["a", "copy"] {
            farm.agent(own).folders.let_go().await;
        }
        for build in farm.api().builds().await {
            assert_eq!(states(&farm.passes(build.number).await), ["passed"]);
        }
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_killed_while_a_container_stands_ready() {
    with_processes(10, async |farm| {
        let on = ["BUILDR_AGENT_STANDBY", "BUILDR_AGENT_JOINED_NETWORK"];
        farm.variables.insert("a".to_owned(), on.map(|name| (name.to_owned(), "1".to_owned())).to_vec());
        farm.start_coordinator().await;
        farm.start_agent("a").await;
        farm.until_here("a").await;
        // What stands ready is a wish: one that is not met is made again after the next job.
        let mut stands = false;
        for _ in 0..5 {
            let build = farm.api().submit(&farm.repository).await;
            farm.until_begun(build, 1).await;
            farm.agent("a").folders.let_go().await;
            farm.passes(build).await;
            let agent = farm.agent("a");
            let two = async || agent.containers().await.len() == 2 && !agent.folders.is_busy();
            let both = until("one that waits, and one that holds its namespace", async || two().await.then_some(()));
            stands = tokio::time::timeout(Duration::from_secs(15), both).await.is_ok();
            if stands {
                break;
            }
        }
        assert!(stands, "no container stood ready after any of five jobs");
        let agent = farm.agent("a");
        agent.kill().await;
        // What it left waits for nobody, and the next life has its own.
        let left = agent.containers().await;
        farm.start_agent("a").await;
        farm.until_here("a").await;
        assert!(!left.is_empty());
        let agent = farm.agent("a");
        let gone = async || agent.containers().await.iter().all(|container| !left.contains(container));
        until("what the last life left to be gone", async || gone().await.then_some(())).await;
        let build = farm.api().submit(&farm.repository).await;
        farm.until_begun(build, 1).await;
        farm.agent("a").folders.let_go().await;
        farm.passes(build).await;
        // Nothing of it stays when it ends in good order.
        farm.agent("a").stop().await;
        assert_eq!(farm.agent("a").containers().await, Vec::<String>::new());
        assert_eq!(farm.agent("a").folders.left(), Vec::<String>::new());
    })
    .await;
}
