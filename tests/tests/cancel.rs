//! A cancel that is verified, on real Docker and RabbitMQ: wherever in its way it meets a build, when the build is
//! recorded as cancelled nothing of it is left, and the reason is stored. With `--nocapture` each says how long it
//! took (`cancel | …`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::time::Instant;

use farm::docker::image;
use farm::farm::{Farm, PATIENCE, Repository, over_rabbitmq_in_docker, until};
use protocol::BuildNumber;
use protocol::api::{BuildView, Status};
use tokio::net::{TcpListener, TcpStream};

/// A server that takes connections and never says a word.
struct Silent {
    listener: TcpListener,
    taken: Vec<TcpStream>,
}

impl Silent {
    async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), taken: Vec::new() }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Waits until somebody has come, who is then left waiting.
    async fn visited(&mut self) {
        let come = tokio::time::timeout(PATIENCE, self.listener.accept()).await.unwrap();
        self.taken.push(come.unwrap().0);
    }
}

async fn started(farm: &mut Farm) {
    farm.start_coordinator().await;
    farm.start_agent("a", 1).await;
    farm.until_here("a").await;
}

fn stages(view: &BuildView) -> Vec<(&str, &str)> {
    let stages = view.attempts.iter().flat_map(|attempt| &attempt.stages);
    stages.map(|stage| (stage.name.as_str(), stage.result.as_ref().map_or("none", |result| result.name()))).collect()
}

fn states(view: &BuildView) -> Vec<&str> {
    view.attempts.iter().map(|attempt| attempt.state.as_str()).collect()
}

/// Those of these containers that are still there. What stands ready for the next job is another one.
async fn left_of(farm: &mut Farm, before: &[String]) -> Vec<String> {
    let mut left = farm.agent("a").containers_of_jobs().await;
    left.retain(|container| before.contains(container));
    left
}

/// Cancels a build, waits until that is recorded, and looks whether something was left at that moment.
async fn cancelled(farm: &mut Farm, number: BuildNumber, what: &str) -> BuildView {
    let before = farm.agent("a").containers_of_jobs().await;
    let workspaces: Vec<_> = farm.folders("a").workspaces().collect();
    let since = Instant::now();
    let done = farm.api().cancel(number).await;
    assert!(done.message.contains("is being cancelled"), "{}", done.message);
    let view = farm.api().until_is(number, Status::Cancelled).await;
    eprintln!("cancel | {what} | {:.1} s", since.elapsed().as_secs_f64());
    let left = left_of(farm, &before).await;
    let gone = workspaces.iter().all(|workspace| !workspace.exists());
    assert!(left.is_empty() && gone, "recorded before it was gone: {left:?} {workspaces:?}");
    assert_eq!((states(&view), view.exit_code), (vec!["cancelled"], Some(130)), "{view:#?}");
    assert!(view.build.message.as_ref().unwrap().contains("the test says so"), "{view:#?}");
    view
}

/// The agent builds on, and the cancelled build stays as it is.
async fn goes_on(farm: &mut Farm, before: &BuildView) {
    let good = format!("image: {}\nstages: [test]\ntest: {{script: [echo well]}}\n", image());
    let next = farm.api().begin(&good).await;
    farm.api().until_is(next, Status::Passed).await;
    assert!(farm.api().log(next, "test").await.ends_with("well\n"));
    let number = before.build.number;
    let late = farm.api().cancel(number).await;
    assert!(late.message.contains("was over already: cancelled"), "{}", late.message);
    is_as_before(farm, before).await;
}

async fn is_as_before(farm: &Farm, before: &BuildView) {
    let view = farm.api().build(before.build.number).await;
    let told = |view: &BuildView| (view.build.status, view.build.message.clone(), view.build.ended_ms, view.exit_code);
    assert_eq!(told(&view), told(before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_that_ignores_sigterm_is_cancelled_twice() {
    over_rabbitmq_in_docker(async |farm| {
        started(farm).await;
        let manifest = format!(
            "image: {}\nstages: [deaf, after]\ndeaf:\n  script:\n    - trap '' TERM\n    - (trap '' TERM; while :; do sleep 1; done) &\n    - echo begun\n    - while :; do sleep 1; done\nafter: {{script: [echo after]}}\n",
            image()
        );
        let number = farm.api().begin(&manifest).await;
        farm.api().until_said(number, "deaf", "begun\n").await;
        let before = farm.agent("a").containers_of_jobs().await;
        let since = Instant::now();
        farm.api().cancel(number).await;
        let again = farm.api().cancel(number).await;
        assert!(again.message.contains("is being cancelled already"), "{}", again.message);
        let view = farm.api().until_is(number, Status::Cancelled).await;
        eprintln!("cancel | a stage that ignores SIGTERM (grace 2 s) | {:.1} s", since.elapsed().as_secs_f64());
        assert_eq!(left_of(farm, &before).await, Vec::<String>::new());
        assert_eq!(stages(&view), [("deaf", "cancelled"), ("after", "skipped")]);
        assert!(view.build.message.as_ref().unwrap().contains("the test says so"), "{view:#?}");

        let heeds = format!(
            "image: {}\nstages: [test]\ntest: {{script: [\"trap 'echo tidied; exit 1' TERM\", echo begun, \"while :; do sleep 0.1; done\"]}}\n",
            image()
        );
        let heeding = farm.api().begin(&heeds).await;
        farm.api().until_said(heeding, "test", "begun\n").await;
        cancelled(farm, heeding, "a stage that heeds SIGTERM").await;
        assert!(farm.api().log(heeding, "test").await.ends_with("tidied\n"));
        goes_on(farm, &view).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_build_stays_as_it_is() {
    over_rabbitmq_in_docker(async |farm| {
        started(farm).await;
        let manifest = format!("image: {}\nstages: [test]\ntest: {{script: [exit 3]}}\n", image());
        let number = farm.api().begin(&manifest).await;
        let view = farm.api().until_is(number, Status::Failed).await;
        let since = Instant::now();
        let done = farm.api().cancel(number).await;
        eprintln!("cancel | a finished build (refused) | {:.1} s", since.elapsed().as_secs_f64());
        assert_eq!((done.status, done.message.contains("was over already: failed")), (Status::Failed, true));
        is_as_before(farm, &view).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clone_and_a_pull_that_stall_are_cancelled() {
    over_rabbitmq_in_docker(async |farm| {
        started(farm).await;
        let mut server = Silent::new().await;
        let url = format!("http://127.0.0.1:{}/x.git", server.port());
        let number = farm.api().submit_url(url.parse().unwrap(), None).await;
        server.visited().await;
        let view = cancelled(farm, number, "a clone that stalls").await;
        assert_eq!(stages(&view), []);
        // The server is as silent as before.
        goes_on(farm, &view).await;

        let mut registry = Silent::new().await;
        let manifest =
            format!("image: 127.0.0.1:{}/x:y\nstages: [test]\ntest: {{script: [echo never]}}\n", registry.port());
        let number = farm.api().begin(&manifest).await;
        registry.visited().await;
        let view = cancelled(farm, number, "a pull that stalls").await;
        assert_eq!(stages(&view), [("test", "cancelled")]);
        goes_on(farm, &view).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepare_and_the_time_between_stages_are_cancelled() {
    over_rabbitmq_in_docker(async |farm| {
        started(farm).await;
        let manifest = format!(
            "image: {}\nprepare: {{script: [echo begun, sleep 1000]}}\nstages: [test]\ntest: {{script: [echo never]}}\n",
            image()
        );
        let number = farm.api().begin(&manifest).await;
        farm.api().until_said(number, "prepare", "begun\n").await;
        let view = cancelled(farm, number, "prepare").await;
        assert!(!stages(&view).contains(&("test", "passed")), "{view:#?}");

        // So many that the cancel comes anywhere among them: in one, or between two.
        let names: Vec<String> = (0..40).map(|number| format!("s{number}")).collect();
        let scripts: String = names.iter().map(|name| format!("{name}: {{script: [\"true\"]}}\n")).collect();
        let manifest = format!("image: {}\nstages: [{}]\n{scripts}", image(), names.join(", "));
        let number = farm.api().begin(&manifest).await;
        farm.api().until_in_stage(number, 1, "s2").await;
        let view = cancelled(farm, number, "among forty short stages").await;
        let ends: Vec<&str> = stages(&view).into_iter().map(|(_, end)| end).collect();
        let passed = ends.iter().take_while(|end| **end == "passed").count();
        let met = ends[passed..].iter().take_while(|end| **end == "cancelled").count();
        assert!((2..40).contains(&passed) && met <= 1, "{ends:?}");
        assert!(ends[passed + met..].iter().all(|end| *end == "skipped"), "{ends:?}");
        goes_on(farm, &view).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queued_build_never_runs() {
    over_rabbitmq_in_docker(async |farm| {
        farm.start_coordinator().await;
        let manifest = format!("image: {}\nstages: [test]\ntest: {{script: [echo ran]}}\n", image());
        let repository = Repository::with_manifest(&manifest);
        let number = farm.api().submit(&repository).await;
        until("its offer", async || {
            let there = farm.vhost().queues().await.iter().any(|queue| queue == "build_queue");
            let offers = if there { farm.vhost().peek("build_queue").await.len() } else { 0 };
            (offers == 1).then_some(())
        })
        .await;
        let since = Instant::now();
        let done = farm.api().cancel(number).await;
        let view = farm.api().until_is(number, Status::Cancelled).await;
        eprintln!("cancel | a queued build | {:.1} s", since.elapsed().as_secs_f64());
        assert!(done.message.contains("it had not begun"), "{}", done.message);
        assert!(view.build.message.as_ref().unwrap().contains("the test says so"), "{view:#?}");
        farm.start_agent("a", 1).await;
        // The agent takes the offer that was cancelled first, is told no, and builds what comes next.
        goes_on(farm, &view).await;
        assert!(farm.api().build(number).await.attempts.is_empty());
        until("an empty queue", async || farm.vhost().peek("build_queue").await.is_empty().then_some(())).await;
    })
    .await;
}

const LETS_GO: &str =
    "stages: [wait]\nwait:\n  script:\n    - echo begun\n    - until [ -e go ]; do sleep 0.05; done\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_agents_build_is_over_all_the_same() {
    over_rabbitmq_in_docker(async |farm| {
        started(farm).await;
        let manifest = format!("image: {}\n{LETS_GO}", image());
        let number = farm.api().begin(&manifest).await;
        farm.api().until_said(number, "wait", "begun\n").await;
        farm.agent("a").shut_gate();
        let since = Instant::now();
        farm.api().cancel(number).await;
        let view = farm.api().until_is(number, Status::Cancelled).await;
        eprintln!("cancel | an agent that is silent (lease 3 s) | {:.1} s", since.elapsed().as_secs_f64());
        assert_eq!((states(&view), view.exit_code), (vec!["lost"], Some(130)));
        assert!(view.build.message.as_ref().unwrap().contains("the test says so"), "{view:#?}");
        // Its result comes when nobody waits for it.
        farm.folders("a").let_go_now("go");
        farm.folders("a").until_a_result().await;
        farm.agent("a").open_gate();
        farm.folders("a").until_all_said().await;
        farm.folders("a").until_no_work().await;
        goes_on(farm, &view).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_agents_build_is_over_all_the_same() {
    over_rabbitmq_in_docker(async |farm| {
        started(farm).await;
        let manifest = format!("image: {}\n{LETS_GO}", image());
        let number = farm.api().begin(&manifest).await;
        farm.api().until_said(number, "wait", "begun\n").await;
        farm.agent("a").kill().await;
        let since = Instant::now();
        farm.api().cancel(number).await;
        let view = farm.api().until_is(number, Status::Cancelled).await;
        eprintln!("cancel | an agent that is dead (lease 3 s) | {:.1} s", since.elapsed().as_secs_f64());
        assert_eq!((states(&view), view.exit_code), (vec!["lost"], Some(130)));
        // Its next life removes what the first left, and says nothing that changes the record.
        farm.start_agent("a", 1).await;
        farm.folders("a").until_all_said().await;
        goes_on(farm, &view).await;
        assert_eq!(farm.api().build(number).await.attempts.len(), 1);
    })
    .await;
}
