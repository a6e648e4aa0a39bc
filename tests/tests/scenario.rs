//! A whole farm in memory, with scripts instead of containers: what becomes of a build, whatever happens to it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use farm::farm::{Farm, Lost, Repository, copy, in_memory, until};
use protocol::api::{BuildView, Loss, Status};
use protocol::{Cause, StageEnd, StageOutcome};
use tokio::net::TcpListener;

const PASSES: &str = "image: x\nstages: [test]\ntest: {script: [print hello]}\n";

/// Its stage goes on until it is let go.
const WAITS: &str = "image: x\nstages: [wait, after]\nwait: {script: [print begun, wait-file go, print let go]}\nafter: {script: [print after]}\n";

const HANGS: &str =
    "image: x\nstages: [hang, after]\nhang: {script: [print begun, hang]}\nafter: {script: [print after]}\n";

async fn with_agent(farm: &mut Farm, slots: u32) {
    farm.start_coordinator().await;
    farm.start_agent("a", slots).await;
}

fn states(view: &BuildView) -> Vec<&str> {
    view.attempts.iter().map(|attempt| attempt.state.as_str()).collect()
}

/// The last attempt's stages and how each ended.
fn stages(view: &BuildView) -> Vec<(&str, &'static str)> {
    let last = view.attempts.last().unwrap();
    let name = |result: &Option<StageOutcome>| result.as_ref().map_or("runs", StageOutcome::name);
    last.stages.iter().map(|stage| (stage.name.as_str(), name(&stage.result))).collect()
}

fn message(view: &BuildView) -> &str {
    view.build.message.as_deref().unwrap_or_default()
}

/// Builds a manifest, and checks how the build ends and what is said about it.
async fn check(manifest: &str, status: Status, exit_code: u8, says: &[&str], expect: &[(&str, &str)]) {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let number = farm.api().begin(manifest).await;
        let view = farm.api().until_is(number, status).await;
        assert_eq!(view.exit_code, Some(exit_code), "{view:#?}");
        for text in says {
            assert!(message(&view).contains(text), "{:?} lacks {text:?}", message(&view));
        }
        assert_eq!(stages(&view), expect);
        assert_eq!(view.attempts.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_build_passes() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let repository = Repository::with_manifest(PASSES);
        let commit = repository.commit(&[("more.txt", "x")]);
        let number = farm.api().submit(&repository).await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!((view.exit_code, stages(&view)), (Some(0), vec![("test", "passed")]));
        assert_eq!(view.build.commit, Some(commit));
        assert_eq!(view.build.subject.as_deref(), Some("a change"));
        assert_eq!(view.attempts[0].agent, "a");
        assert!(view.build.started_ms.unwrap() <= view.build.ended_ms.unwrap());
        assert_eq!(farm.api().log(number, "test").await, "hello\n");
    })
    .await;
}

#[tokio::test]
async fn a_script_that_fails_ends_the_build() {
    let manifest = "image: x\nstages: [one, two, three]\none: {script: [print 1]}\ntwo: {script: [print oh no, exit 7, print never]}\nthree: {script: [print 3]}\n";
    let expect = [("one", "passed"), ("two", "failed"), ("three", "skipped")];
    check(manifest, Status::Failed, 1, &["two failed: exit code 7"], &expect).await;
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let number = farm.api().begin(manifest).await;
        let view = farm.api().until_is(number, Status::Failed).await;
        assert_eq!(farm.api().log(number, "two").await, "oh no\n");
        let three = view.attempts[0].stages[2].result.clone();
        assert_eq!(three, Some(StageOutcome::Skipped { reason: "two failed".to_owned() }));
        let two = view.attempts[0].stages[1].result.clone();
        assert_eq!(two, Some(StageOutcome::Failed { end: StageEnd::Exited { code: 7 } }));
    })
    .await;
}

#[tokio::test]
async fn a_prepare_that_fails_is_the_users_failure() {
    let manifest = "image: x\nprepare: {script: [exit 3]}\nstages: [test]\ntest: {script: [print hi]}\n";
    let expect = [("prepare", "failed"), ("test", "skipped")];
    check(manifest, Status::Failed, 1, &["prepare failed: exit code 3"], &expect).await;
}

#[tokio::test]
async fn a_manifest_with_a_mistake_is_shown_with_its_place() {
    let manifest = "image: x\nstages: [test]\ntest: {scrip: [print hi]}\n";
    let says = ["scrip", "test: {scrip: [print hi]}", "^", ".buildr.yml:3"];
    check(manifest, Status::Errored, 2, &says, &[]).await;
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled() {
    let manifest = "image: nowhere/x\nstages: [test, more]\ntest: {script: [unpullable]}\nmore: {script: [print 1]}\n";
    let expect = [("test", "errored"), ("more", "skipped")];
    check(manifest, Status::Errored, 3, &["nowhere/x"], &expect).await;
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let number = farm.api().begin(manifest).await;
        let view = farm.api().until_over(number).await;
        let result = view.attempts[0].stages[0].result.clone();
        assert!(matches!(result, Some(StageOutcome::Errored { cause: Cause::Pull, .. })), "{view:#?}");
    })
    .await;
}

#[tokio::test]
async fn what_the_farm_failed_is_tried_again_and_its_history_is_true() {
    in_memory(async |farm| {
        with_agent(farm, 2).await;
        let manifest = |line: &str| {
            format!("image: x\nstages: [one, two]\none: {{script: [print 1]}}\ntwo: {{script: [{line}, print hello]}}\n")
        };
        let cases = [("broken-daemon 1", Cause::Daemon, "daemon"), ("registry-away 1", Cause::Pull, "pull")];
        for (line, expect, name) in cases {
            let number = farm.api().begin(&manifest(line)).await;
            let waits = |view: &BuildView| view.build.status == Status::Queued && !view.attempts.is_empty();
            let view = farm.api().until(number, waits).await;
            assert_eq!(states(&view), ["errored"], "{view:#?}");
            let why = farm.api().client.why(Some(number)).await.unwrap();
            let says = format!("; this is attempt 2: attempt 1 errored ({name}) on agent a");
            assert!(why.waiting[0].sentence.ends_with(&says), "{why:#?}");
            let view = farm.api().until_is(number, Status::Passed).await;
            assert_eq!(states(&view), ["errored", "passed"]);
            assert_eq!(stages(&view), [("one", "passed"), ("two", "passed"), ("one", "passed"), ("two", "passed")][2..]);
            let Some(Loss::Errored { cause, message: Some(_) }) = view.attempts[0].loss else { panic!("{view:#?}") };
            assert_eq!(cause, expect);
            assert_eq!(farm.api().log_of(number, 1, "one").await, farm.api().log_of(number, 2, "one").await);
            let why = farm.api().client.why(Some(number)).await.unwrap();
            let told = format!("attempt 1 errored ({name}) on agent a: ");
            assert!(why.lost[0].sentence("").starts_with(&told), "{why:#?}");
        }
        // Something began before that must not be done twice.
        let once =
            "image: x\nstages: [deploy, tell]\ndeploy: {retry: never, script: [print 1]}\ntell: {script: [broken-daemon 1]}\n";
        let number = farm.api().begin(once).await;
        assert_eq!(states(&farm.api().until_is(number, Status::Errored).await), ["errored"]);
    })
    .await;
}

#[tokio::test]
async fn one_cell_of_several_jobs_is_tried_again_and_the_others_are_not() {
    in_memory(async |farm| {
        with_agent(farm, 2).await;
        let manifest = "image: x\nstages: [cells, after]\ncells: {matrix: {n: [1, 2]}, script: [env BUILDR_MATRIX_N, registry-away 1]}\nafter: {script: [print done]}\n";
        let number = farm.api().begin(manifest).await;
        let view = farm.api().until_is(number, Status::Passed).await;
        let of = |job: &str| {
            let of = view.attempts.iter().filter(|one| one.job.starts_with(job));
            of.map(|one| one.state.as_str()).collect::<Vec<_>>()
        };
        let mut cells = of("cells");
        cells.sort_unstable();
        assert_eq!(cells, ["errored", "errored", "passed", "passed"], "{view:#?}");
        assert_eq!(of("after"), ["passed"], "{view:#?}");
    })
    .await;
}

#[tokio::test]
async fn a_repository_that_is_not_reached_is_tried_again() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let repo = format!("http://{closed}/x.git").parse().unwrap();
        let number = farm.api().submit_url(repo, None).await;
        let view = farm.api().until(number, |view| view.attempts.iter().any(|one| one.state == "errored")).await;
        assert_eq!(view.build.status, Status::Queued, "{view:#?}");
        assert!(matches!(view.attempts[0].loss, Some(Loss::Errored { cause: Cause::Clone, .. })), "{view:#?}");
        farm.api().client.cancel(number, None).await.unwrap();
        farm.api().until_is(number, Status::Cancelled).await;
    })
    .await;
}

#[tokio::test]
async fn a_missing_manifest_branch_or_repository() {
    in_memory(async |farm| {
        with_agent(farm, 2).await;
        let api = farm.api();
        let empty = Repository::empty();
        let bare = Repository::with(&[("README.md", "x")]);
        let view = api.until_is(api.submit(&bare).await, Status::Errored).await;
        assert_eq!(view.exit_code, Some(2));
        assert!(message(&view).contains(".buildr.yml"), "{}", message(&view));

        let repository = Repository::with_manifest(PASSES);
        let number = api.submit_url(repository.url(), Some("mian")).await;
        let view = api.until_is(number, Status::Errored).await;
        assert_eq!(view.exit_code, Some(3));
        assert!(message(&view).contains("has no branch \"mian\"") && message(&view).contains("Did you mean \"main\"?"));

        let view = api.until_is(api.submit(&empty).await, Status::Errored).await;
        assert!(message(&view).contains("push one first"), "{}", message(&view));

        let number = api.submit_url("/nowhere/at/all".parse().unwrap(), None).await;
        let view = api.until_is(number, Status::Errored).await;
        assert_eq!(view.exit_code, Some(3));
        assert!(message(&view).contains("/nowhere/at/all was not found"), "{}", message(&view));
        assert!(api.log(number, "0-job").await.contains("was not found"));
    })
    .await;
}

#[tokio::test]
async fn the_head_is_built_when_no_branch_is_named() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let repository = Repository::with_manifest(PASSES);
        let number = farm.api().submit_url(repository.url(), None).await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(view.build.branch.unwrap().as_str(), "main");
    })
    .await;
}

#[tokio::test]
async fn a_waiting_build_says_why_and_can_be_cancelled() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        let repository = Repository::with_manifest(PASSES);
        let number = farm.api().submit(&repository).await;
        let view = farm.api().build(number).await;
        assert!(message(&view).contains("waits for an agent: none is here"), "{}", message(&view));
        let done = farm.api().cancel(number).await;
        assert_eq!(done.status, Status::Cancelled);
        assert!(done.message.contains("it had not begun"), "{}", done.message);
        let again = farm.api().cancel(number).await;
        assert!(again.message.contains("was over already: cancelled"), "{}", again.message);
        let view = farm.api().until_is(number, Status::Cancelled).await;
        assert_eq!((view.exit_code, view.attempts.len()), (Some(130), 0));

        // Its message still lies on the queue. Whoever takes it is told no, and the next is built.
        let next = farm.api().submit(&repository).await;
        farm.start_agent("a", 1).await;
        farm.api().until_is(next, Status::Passed).await;
        until("an empty queue", async || (farm.memory().depth("build_queue") == 0).then_some(())).await;
        assert_eq!(farm.api().build(number).await.attempts.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_running_build_is_cancelled_and_twice_is_no_more_than_once() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let number = farm.api().begin(HANGS).await;
        farm.api().until_in_stage(number, 1, "hang").await;
        let done = farm.api().cancel(number).await;
        assert!(done.message.contains("is being cancelled"), "{}", done.message);
        farm.api().cancel(number).await;
        let view = farm.api().until_is(number, Status::Cancelled).await;
        assert_eq!(stages(&view), [("hang", "cancelled"), ("after", "skipped")]);
        assert_eq!((view.exit_code, states(&view)), (Some(130), vec!["cancelled"]));
        assert_eq!(farm.api().log(number, "hang").await, "begun\n");
        let late = farm.api().cancel(number).await;
        assert!(late.message.contains("was over already: cancelled"), "{}", late.message);
        assert_eq!(farm.api().build(number).await.build.ended_ms, view.build.ended_ms);
    })
    .await;
}

#[tokio::test]
async fn a_cancel_of_a_finished_build_changes_nothing() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let number = farm.api().begin(PASSES).await;
        farm.api().until_is(number, Status::Passed).await;
        let done = farm.api().cancel(number).await;
        assert_eq!((done.status, done.message.contains("was over already: passed")), (Status::Passed, true));
        assert_eq!(farm.api().build(number).await.build.status, Status::Passed);
    })
    .await;
}

#[tokio::test]
async fn a_cancel_during_the_clone() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        // A server that takes the connection and never says anything.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("git://127.0.0.1:{}/x", silent.local_addr().unwrap().port());
        let number = farm.api().submit_url(url.parse().unwrap(), None).await;
        let _connection = silent.accept().await.unwrap();
        farm.api().cancel(number).await;
        let view = farm.api().until_is(number, Status::Cancelled).await;
        assert_eq!((states(&view), stages(&view)), (vec!["cancelled"], vec![]));
    })
    .await;
}

#[tokio::test]
async fn a_cancel_between_stages_starts_no_other() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        // So many that the cancel comes anywhere among them: in one, or between two.
        let names: Vec<String> = (0..300).map(|number| format!("s{number}")).collect();
        let stages_of = names.iter().map(|name| format!("{name}: {{script: [sleep 30]}}\n")).collect::<String>();
        let number = farm.api().begin(&format!("image: x\nstages: [{}]\n{stages_of}", names.join(", "))).await;
        farm.api().until_in_stage(number, 1, "s7").await;
        farm.api().cancel(number).await;
        let view = farm.api().until_is(number, Status::Cancelled).await;
        let ends: Vec<&str> = stages(&view).into_iter().map(|(_, end)| end).collect();
        let passed = ends.iter().take_while(|end| **end == "passed").count();
        let cancelled = ends[passed..].iter().take_while(|end| **end == "cancelled").count();
        assert!(passed >= 7 && cancelled <= 1, "{ends:?}");
        assert!(ends[passed + cancelled..].iter().all(|end| *end == "skipped"), "{ends:?}");
    })
    .await;
}

#[tokio::test]
async fn a_script_that_heeds_no_sigterm_is_ended_all_the_same() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let manifest =
            "image: x\nstages: [deaf, after]\ndeaf: {script: [ignore-term, hang]}\nafter: {script: [print never]}\n";
        let number = farm.api().begin(manifest).await;
        farm.api().until_in_stage(number, 1, "deaf").await;
        farm.api().cancel(number).await;
        let view = farm.api().until_is(number, Status::Cancelled).await;
        assert_eq!(stages(&view), [("deaf", "cancelled"), ("after", "skipped")]);
    })
    .await;
}

#[tokio::test]
async fn slots_work_side_by_side() {
    in_memory(async |farm| {
        with_agent(farm, 2).await;
        let repository = Repository::with_manifest(WAITS);
        let (one, two) = (farm.api().submit(&repository).await, farm.api().submit(&repository).await);
        let three = farm.api().submit(&repository).await;
        farm.api().until_in_stage(one, 1, "wait").await;
        farm.api().until_in_stage(two, 1, "wait").await;
        let view = farm.api().build(three).await;
        assert_eq!(view.build.status, Status::Queued);
        assert!(message(&view).contains("waits for a free slot: all 2 are taken"), "{}", message(&view));
        farm.folders("a").let_go().await;
        farm.api().until_in_stage(three, 1, "wait").await;
        farm.folders("a").let_go().await;
        for number in [one, two, three] {
            let view = farm.api().until_is(number, Status::Passed).await;
            assert_eq!(farm.api().log(number, "wait").await, "begun\nlet go\n");
            assert_eq!(view.attempts.len(), 1);
        }
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_comes_later_takes_what_waits() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        let repository = Repository::with_manifest(PASSES);
        for _ in 0..12 {
            farm.api().submit(&repository).await;
        }
        farm.start_agent("a", 2).await;
        let views = farm.api().until_all_over(12).await;
        assert!(views.iter().all(|view| view.build.status == Status::Passed && view.attempts.len() == 1));
    })
    .await;
}

#[tokio::test]
async fn each_agent_gets_some_and_each_build_is_made_once() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        for name in ["a", "b", "c"] {
            farm.start_agent(name, 1).await;
            farm.until_here(name).await;
        }
        let manifest = "image: x\nstages: [test]\ntest: {script: [sleep 50, print done]}\n";
        let repository = Repository::with_manifest(manifest);
        for _ in 0..24 {
            farm.api().submit(&repository).await;
        }
        let mut by_agent: BTreeMap<String, usize> = BTreeMap::new();
        for view in farm.api().until_all_over(24).await {
            assert_eq!((view.build.status, states(&view)), (Status::Passed, vec!["passed"]));
            assert_eq!(farm.api().log(view.build.number, "test").await, "done\n");
            *by_agent.entry(view.attempts[0].agent.clone()).or_default() += 1;
        }
        assert_eq!(by_agent.len(), 3, "{by_agent:?}");
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_drains_ends_its_job_and_takes_no_other() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let waits = Repository::with_manifest(WAITS);
        let mine = farm.api().submit(&waits).await;
        farm.api().until_in_stage(mine, 1, "wait").await;
        farm.agent("a").drain();
        let other = farm.api().begin(PASSES).await;
        farm.start_agent("b", 1).await;
        let view = farm.api().until_is(other, Status::Passed).await;
        assert_eq!(view.attempts[0].agent, "b");
        let third = farm.api().begin(PASSES).await;
        farm.folders("a").let_go().await;
        let view = farm.api().until_is(mine, Status::Passed).await;
        assert_eq!((view.attempts[0].agent.as_str(), states(&view)), ("a", vec!["passed"]));
        farm.agent("a").ended().await;
        assert_eq!(farm.api().until_is(third, Status::Passed).await.attempts[0].agent, "b");
    })
    .await;
}

#[tokio::test]
async fn a_secret_in_an_address_is_shown_nowhere() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let secret = "pa55-of-nobody";
        let manifest = format!(
            "image: x\nstages: [test]\ntest: {{script: [print it is {secret} ok, env BUILDR_REPO, 'no-{secret}']}}\n"
        );
        let repository = Repository::with_manifest(&manifest);
        let port = git_daemon(&repository).await;
        let name = repository.path().file_name().unwrap().to_str().unwrap().to_owned();
        let url = format!("git://ada:{secret}@127.0.0.1:{port}/{name}");
        let good = farm.api().submit_url(url.parse().unwrap(), Some("main")).await;
        let view = farm.api().until_is(good, Status::Failed).await;
        assert!(farm.api().log(good, "test").await.contains("it is *** ok"), "{view:#?}");
        let bad = farm.api().submit_url(format!("https://ada:{secret}@127.0.0.1:1/x").parse().unwrap(), None).await;
        farm.api().until_is(bad, Status::Errored).await;

        let mut seen = farm.api().state().await;
        seen.push_str(&farm.api().log(good, "0-job").await);
        seen.push_str(&farm.api().log(good, "test").await);
        seen.push_str(&farm.api().log(bad, "0-job").await);
        let page = |path: String| async move { reqwest::get(path).await.unwrap().text().await.unwrap() };
        let server = format!("http://{}", farm.config.listen);
        seen.push_str(&page(server.clone()).await);
        for number in [good, bad] {
            seen.push_str(&page(format!("{server}/builds/{number}")).await);
        }
        assert!(!seen.contains(secret), "{seen}");
        assert!(seen.contains("127.0.0.1"));
    })
    .await;
}

/// Serves a repository by git's own protocol for as long as the test runs. Gives the port.
async fn git_daemon(repository: &Repository) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let base = repository.path().parent().unwrap().canonicalize().unwrap();
    // Never joined: it ends with the test's runtime.
    drop(protocol::task::spawn("git daemon", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = stream.into_std().unwrap();
            stream.set_nonblocking(false).unwrap();
            let other = stream.try_clone().unwrap();
            let mut daemon = Command::new("git");
            daemon.args(["-c", "safe.directory=*", "daemon", "--inetd", "--export-all"]);
            daemon.arg(format!("--base-path={}", base.display()));
            daemon.stdin(Stdio::from(OwnedFd::from(other))).stdout(Stdio::from(OwnedFd::from(stream)));
            let served = daemon.stderr(Stdio::null()).spawn().expect("git is installed");
            tokio::task::spawn_blocking(move || {
                let mut served = served;
                served.wait()
            });
        }
    }));
    port
}

#[tokio::test]
async fn the_bytes_of_logs_are_whole() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        const BYTES: usize = 2 << 20;
        let manifest = format!(
            "image: x\nstages: [many, fails]\nmany: {{script: [print first, bytes {BYTES}, print last]}}\nfails: {{script: [bytes {BYTES}, print no, exit 1]}}\n"
        );
        let number = farm.api().begin(&manifest).await;
        let told = farm.api().told(number).await;
        let view = farm.api().until_is(number, Status::Failed).await;
        let line = [&[b'.'; 79][..], b"\n"].concat();
        let body: Vec<u8> = line.iter().copied().cycle().take(32 * 1024 / 80 * 80).collect();
        let body: Vec<u8> = body.iter().copied().cycle().take(BYTES).collect();
        for (log, expect) in [("many", [b"first\n", &body[..], b"last\n"].concat()), ("fails", [&body[..], b"no\n"].concat())] {
            let stored = farm.api().log_of(number, 1, log).await;
            assert!(stored == expect, "{log}: {} bytes instead of {}", stored.len(), expect.len());
            assert!(told[&(1, log.parse().unwrap())] == expect, "{log} as it was followed");
            let mark = view.attempts[0].logs.iter().find(|mark| mark.name.as_str() == log).unwrap();
            assert_eq!((mark.bytes, mark.complete, mark.missing), (expect.len() as u64, true, 0));
        }
    })
    .await;
}

#[tokio::test]
async fn a_coordinator_that_is_restarted_records_what_went_on_meanwhile() {
    in_memory(async |farm| {
        farm.config.lease = Duration::from_secs(60);
        with_agent(farm, 2).await;
        let repository = Repository::with_manifest(WAITS);
        let (ended, running) = (farm.api().submit(&repository).await, farm.api().submit(&repository).await);
        farm.api().until_in_stage(ended, 1, "wait").await;
        farm.api().until_in_stage(running, 1, "wait").await;
        let waiting = farm.api().begin(PASSES).await;
        farm.stop_coordinator().await;
        farm.folders("a").let_go().await;
        farm.folders("a").until_a_result().await;
        farm.start_coordinator().await;
        for number in [ended, running, waiting] {
            let view = farm.api().until_is(number, Status::Passed).await;
            assert_eq!(states(&view), ["passed"]);
        }
        assert_eq!(farm.api().log(ended, "wait").await, "begun\nlet go\n");
        assert_eq!(farm.api().log(running, "after").await, "after\n");
    })
    .await;
}

#[tokio::test]
async fn a_coordinator_that_is_killed_loses_nothing() {
    in_memory(async |farm| {
        farm.config.lease = Duration::from_secs(60);
        with_agent(farm, 1).await;
        let number = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(number, 1, "wait").await;
        farm.kill_coordinator().await;
        farm.start_coordinator().await;
        farm.folders("a").let_go().await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(states(&view), ["passed"]);
    })
    .await;
}

#[tokio::test]
async fn a_result_outlives_its_agent() {
    in_memory(async |farm| {
        farm.config.lease = Duration::from_secs(60);
        with_agent(farm, 1).await;
        let number = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(number, 1, "wait").await;
        farm.agent("a").shut_gate();
        farm.folders("a").let_go().await;
        farm.folders("a").until_a_result().await;
        farm.agent("a").kill().await;
        assert_eq!(farm.api().build(number).await.build.status, Status::Running);
        farm.start_agent("a", 1).await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!((states(&view), stages(&view)), (vec!["passed"], vec![("wait", "passed"), ("after", "passed")]));
        assert_eq!(farm.api().log(number, "wait").await, "begun\nlet go\n");
        assert_eq!(farm.api().log(number, "after").await, "after\n");
        farm.folders("a").until_all_said().await;
    })
    .await;
}

#[tokio::test]
async fn a_lost_agents_job_is_built_again() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let number = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(number, 1, "wait").await;
        farm.agent("a").kill().await;
        farm.start_agent("b", 1).await;
        farm.api().until_in_stage(number, 2, "wait").await;
        farm.folders("b").let_go().await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(states(&view), ["lost", "passed"]);
        let agents: Vec<&str> = view.attempts.iter().map(|attempt| attempt.agent.as_str()).collect();
        assert_eq!(agents, ["a", "b"]);
        assert_eq!(farm.api().log_of(number, 1, "wait").await, b"begun\n");
        assert_eq!(farm.api().log_of(number, 2, "wait").await, b"begun\nlet go\n");
        // What the lost life left is removed by the next.
        farm.start_agent("a", 1).await;
        farm.folders("a").until_all_said().await;
    })
    .await;
}

#[tokio::test]
async fn a_job_under_which_two_agents_are_lost_is_given_up() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let number = farm.api().begin(HANGS).await;
        farm.api().until_in_stage(number, 1, "hang").await;
        farm.agent("a").kill().await;
        farm.start_agent("b", 1).await;
        farm.api().until_in_stage(number, 2, "hang").await;
        farm.agent("b").kill().await;
        let view = farm.api().until_is(number, Status::Errored).await;
        assert_eq!((states(&view), view.exit_code), (vec!["lost", "lost"], Some(3)));
        assert!(message(&view).contains("agent b went silent"), "{}", message(&view));
        farm.start_agent("a", 1).await;
        farm.start_agent("b", 1).await;
        farm.folders("a").until_all_said().await;
        farm.folders("b").until_all_said().await;
    })
    .await;
}

#[tokio::test]
async fn a_late_result_of_a_lost_claim_changes_nothing() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let number = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(number, 1, "wait").await;
        farm.agent("a").shut_gate();
        farm.folders("a").let_go().await;
        farm.folders("a").until_a_result().await;
        farm.start_agent("b", 1).await;
        farm.api().until_in_stage(number, 2, "wait").await;
        farm.agent("a").open_gate();
        farm.folders("a").until_all_said().await;
        let view = farm.api().build(number).await;
        assert_eq!((view.build.status, states(&view)), (Status::Running, vec!["lost", "running"]));
        farm.folders("b").let_go().await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(states(&view), ["lost", "passed"]);
        assert_eq!(farm.api().log_of(number, 1, "wait").await, b"begun\nlet go\n");
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_was_cut_off_is_told_to_stop_what_another_has() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let number = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(number, 1, "wait").await;
        farm.agent("a").shut_gate();
        farm.start_agent("b", 1).await;
        farm.api().until_in_stage(number, 2, "wait").await;
        farm.agent("a").open_gate();
        // Its heartbeat is answered with an abort; its slot is free again for the next.
        farm.folders("a").until_all_said().await;
        farm.folders("b").let_go().await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(states(&view), ["lost", "passed"]);
    })
    .await;
}

#[tokio::test]
async fn a_cancel_reaches_an_agent_that_did_not_hear_it() {
    in_memory(async |farm| {
        farm.config.lease = Duration::from_secs(60);
        with_agent(farm, 1).await;
        let number = farm.api().begin(HANGS).await;
        farm.api().until_in_stage(number, 1, "hang").await;
        farm.stop_coordinator().await;
        farm.start_coordinator().await;
        farm.agent("a").shut_gate();
        farm.api().cancel(number).await;
        assert_eq!(farm.api().build(number).await.build.status, Status::Cancelling);
        farm.kill_coordinator().await;
        farm.start_coordinator().await;
        farm.agent("a").open_gate();
        let view = farm.api().until_is(number, Status::Cancelled).await;
        assert_eq!(states(&view), ["cancelled"]);
    })
    .await;
}

#[tokio::test]
async fn a_build_whose_cancel_is_not_answered_ends_all_the_same() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let number = farm.api().begin(HANGS).await;
        farm.api().until_in_stage(number, 1, "hang").await;
        farm.agent("a").shut_gate();
        farm.api().cancel(number).await;
        let view = farm.api().until_is(number, Status::Cancelled).await;
        assert_eq!((states(&view), view.exit_code), (vec!["lost"], Some(130)));
        farm.agent("a").open_gate();
        farm.folders("a").until_all_said().await;
        assert_eq!(farm.api().build(number).await.build.status, Status::Cancelled);
    })
    .await;
}

#[tokio::test]
async fn a_message_goes_back_when_no_coordinator_answers() {
    in_memory(async |farm| {
        farm.config.beacon = Duration::from_secs(5);
        // It is there for the first sign of life, which says when to expect the next.
        farm.start_agent("a", 1).await;
        farm.start_coordinator().await;
        farm.until_here("a").await;
        let repository = Repository::with_manifest(PASSES);
        farm.stop_coordinator().await;
        // It is claimed before the silence is noticed.
        farm.memory().publish("build_queue", repository.message(), None, None);
        let taken = async || (farm.memory().depth("build_queue") == 0).then_some(());
        until("the agent to take it", taken).await;
        until("the agent to give it back", async || (farm.memory().depth("build_queue") == 1).then_some(())).await;
        farm.start_coordinator().await;
        let views = farm.api().until_all_over(1).await;
        assert_eq!((views.len(), views[0].build.status, states(&views[0])), (1, Status::Passed, vec!["passed"]));
    })
    .await;
}

#[tokio::test]
async fn what_a_killed_agent_had_printed_is_not_kept_for_ever() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let number = farm.api().begin(HANGS).await;
        farm.api().until_said(number, "hang", "begun\n").await;
        farm.agent("a").kill().await;
        // That its log and the job's own are stored is said, and not heard: it is to be asked again.
        farm.agent("a").lose(Lost::Kept);
        farm.agent("a").lose(Lost::Kept);
        farm.start_agent_with("a", |config| config.slots = 1).await;
        farm.api().cancel(number).await;
        farm.api().until_is(number, Status::Cancelled).await;
        farm.folders("a").until_all_said().await;
        assert!(farm.agent("a").has_lost_all());
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_ends_asks_for_receipts_that_were_lost() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        // Of what the stage prints and of the job's own log: neither is told again by itself.
        farm.agent("a").lose(Lost::Kept);
        farm.agent("a").lose(Lost::Kept);
        let number = farm.api().begin(WAITS).await;
        farm.api().until_said(number, "wait", "begun\n").await;
        farm.folders("a").let_go().await;
        farm.api().until_is(number, Status::Passed).await;
        // The farm's end sees that nothing is left at the agent.
    })
    .await;
}

/// The coordinator's state is kept as it stands.
async fn back_up(farm: &mut Farm) {
    farm.stop_coordinator().await;
    copy(&farm.config.state_dir, &farm.folder("backup"));
    farm.start_coordinator().await;
}

/// A farm with a backup from before its first build.
async fn with_backup(farm: &mut Farm) {
    farm.start_coordinator().await;
    back_up(farm).await;
    farm.start_agent("a", 1).await;
}

/// The coordinator, which is stopped, begins again with the backup, and nobody knows what was since.
async fn begin_set_back(farm: &mut Farm) {
    std::fs::remove_dir_all(&farm.config.state_dir).unwrap();
    copy(&farm.folder("backup"), &farm.config.state_dir);
    farm.start_coordinator().await;
}

#[tokio::test]
async fn what_a_store_that_was_set_back_does_not_know_is_not_kept_for_it() {
    let goes_on = "image: x\nstages: [wait]\nwait: {script: [print begun, wait-file go, print let go, hang]}\n";
    for manifest in [WAITS, goes_on] {
        in_memory(async |farm| {
            with_backup(farm).await;
            let number = farm.api().begin(manifest).await;
            farm.api().until_said(number, "wait", "begun\n").await;
            farm.stop_coordinator().await;
            // What it prints now no store will ever take.
            farm.folders("a").let_go().await;
            begin_set_back(farm).await;
            farm.folders("a").until_all_said().await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_log_of_a_build_that_a_store_had_before_it_was_set_back_is_not_kept_for_it() {
    in_memory(async |farm| {
        with_backup(farm).await;
        for _ in 0..1000 {
            farm.agent("a").lose(Lost::Kept);
        }
        let number = farm.api().begin(PASSES).await;
        farm.api().until_is(number, Status::Passed).await;
        farm.stop_coordinator().await;
        begin_set_back(farm).await;
        farm.folders("a").until_all_said().await;
    })
    .await;
}

#[tokio::test]
async fn artifacts_are_kept_though_the_coordinator_is_away_when_they_are_made() {
    let manifest =
        "image: x\nstages: [make]\nmake: {script: [print begun, wait-file go, write out/app made], artifacts: [out]}\n";
    in_memory(async |farm| {
        farm.config.lease = Duration::from_secs(60);
        with_agent(farm, 1).await;
        let number = farm.api().begin(manifest).await;
        farm.api().until_said(number, "make", "begun\n").await;
        farm.stop_coordinator().await;
        farm.folders("a").let_go().await;
        farm.folders("a").until_logged("make", "the artifacts cannot be brought to the farm yet").await;
        farm.start_coordinator().await;
        farm.api().until_is(number, Status::Passed).await;
        let kept = farm.api().client.artifacts(number).await.unwrap();
        assert_eq!(kept.iter().map(|one| one.files).collect::<Vec<_>>(), [1]);
        let log = farm.api().log(number, "make").await;
        assert!(log.contains("the artifacts cannot be brought to the farm yet"), "{log}");
    })
    .await;
}

#[tokio::test]
async fn a_piece_of_a_log_that_is_lost_is_sent_again_while_the_job_runs() {
    let manifest = "image: x\nstages: [wait]\nwait: {script: [print begun, wait-file go, print lost, wait-file end, print found, hang]}\n";
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        let number = farm.api().begin(manifest).await;
        farm.api().until_said(number, "wait", "begun\n").await;
        farm.agent("a").lose(Lost::Piece);
        farm.folders("a").let_go().await;
        while !farm.agent("a").has_lost_all() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // What comes behind it is the last for now: nobody says later that something lacks before it.
        farm.folders("a").let_end().await;
        farm.api().until_said(number, "wait", "begun\nlost\nfound\n").await;
        farm.api().cancel(number).await;
        farm.api().until_is(number, Status::Cancelled).await;
    })
    .await;
}

#[tokio::test]
async fn a_store_that_is_set_back_under_a_job_hears_again_what_it_lacks() {
    let manifest = "image: x\nstages: [wait, deploy, tell]\nwait: {script: [print begun, wait-file go]}\ndeploy: {retry: never, script: [print deployed]}\ntell: {script: [print telling, wait-file end]}\n";
    in_memory(async |farm| {
        farm.config.lease = Duration::from_secs(60);
        with_agent(farm, 1).await;
        let number = farm.api().begin(manifest).await;
        farm.api().until_said(number, "wait", "begun\n").await;
        back_up(farm).await;
        farm.folders("a").let_go().await;
        farm.api().until_in_stage(number, 1, "tell").await;
        farm.stop_coordinator().await;
        begin_set_back(farm).await;
        farm.folders("a").let_end().await;
        // It is not followed: what the store had of its logs is gone with it.
        let view =
            until("its end", async || Some(farm.api().build(number).await).filter(|it| it.build.status.is_over()));
        let view = view.await;
        assert_eq!((view.build.status, states(&view)), (Status::Passed, vec!["passed"]), "{view:#?}");
        assert_eq!(stages(&view), [("wait", "passed"), ("deploy", "passed"), ("tell", "passed")]);
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_cannot_write_its_spool_takes_no_jobs_and_says_why() {
    in_memory(async |farm| {
        with_agent(farm, 1).await;
        farm.until_here("a").await;
        let spool = farm.folders("a").state().join("spool");
        std::fs::remove_dir(&spool).unwrap();
        std::fs::write(&spool, "").unwrap();
        let number = farm.api().begin(PASSES).await;
        let paused = until("the reason", async || farm.until_known("a").await.paused).await;
        assert!(paused.contains("spool") && paused.contains(&spool.display().to_string()), "{paused}");
        std::fs::remove_file(&spool).unwrap();
        std::fs::create_dir(&spool).unwrap();
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(states(&view).last(), Some(&"passed"));
    })
    .await;
}
