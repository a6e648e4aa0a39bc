//! What is removed and what is not: the moment is said, and nothing is waited for.

use protocol::api::{Keep, ProjectKeeps};
use protocol::job::TriggerKind;
use protocol::outcome::{Ending, Outcome};
use protocol::report::JobEvent;
use tempfile::{TempDir, tempdir};

use super::*;
use crate::intake::{self, Trigger};
use crate::restart;
use crate::store::{Project, SealedFor};
use crate::testing::{Agent, Farm, project};

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

async fn with_agent(folder: &TempDir, keeps: Keeps) -> (Farm, Agent) {
    let farm = Farm::with(folder, |config| config.keeps = keeps).await;
    let agent = farm.agent("a1").await;
    (farm, agent)
}

fn repo(name: &str) -> protocol::RepoUrl {
    format!("https://example.org/{name}").parse().unwrap()
}

/// A build that is over, with a log of five bytes and an archive of two.
async fn over(farm: &Farm, agent: &Agent, (name, branch): (&str, &str), ending: Ending) -> BuildNumber {
    let branch = Some(branch.parse().unwrap());
    let trigger = Trigger { branch, ..Trigger::new(repo(name), TriggerKind::Manual) };
    let build = intake::submit(&farm.desk, &trigger, None).await.unwrap();
    let (claimed, grant) = agent.work(farm).await;
    let claim = claimed.claim;
    agent.log(claim, "0-job", 0, "hello").await;
    assert_eq!(agent.hear_kept(claim).await, 5);
    agent.happened(claim, JobEvent::LogComplete { log: "0-job".parse().unwrap(), total: 5 }).await;
    let (stage, sha256) = ("test".parse().unwrap(), HASH.to_owned());
    agent.happened(claim, JobEvent::ArtifactsKept { stage, files: 1, bytes: 2, sha256, expire_ms: None }).await;
    let archives = farm.desk.archives.make_folder(build).unwrap();
    std::fs::write(archives.join(HASH), "ab").unwrap();
    assert_eq!(grant.order.build, Some(build));
    agent.finish(claim, ending).await;
    build
}

fn failed() -> Ending {
    Ending::of(Outcome::Failed, None)
}

/// The numbers of the builds that are left.
async fn left(farm: &Farm) -> Vec<u64> {
    let page = crate::store::Page { limit: 100, ..crate::store::Page::default() };
    let mut left: Vec<u64> = farm.desk.store.builds(&page).await.unwrap().iter().map(|row| row.number.0).collect();
    left.reverse();
    left
}

async fn cleared(farm: &Farm, days: u64) -> usize {
    clear(&farm.desk, now_ms() + days * DAY_MS, &CancellationToken::new()).await.unwrap()
}

fn files(farm: &Farm, what: &str) -> usize {
    std::fs::read_dir(farm.desk.config.state_dir.join(what)).map_or(0, Iterator::count)
}

#[tokio::test]
async fn what_was_pinned_since_it_was_looked_up_stays() {
    let folder = tempdir().unwrap();
    let (farm, agent) = with_agent(&folder, Keeps { days: Some(1), ..Keeps::default() }).await;
    let build = over(&farm, &agent, ("x", "main"), failed()).await;
    let (what, old) = rules(&farm.desk.config.keeps, now_ms() + 2 * DAY_MS)[0];
    let among = Among::Others(Vec::new());
    assert_eq!(farm.desk.store.old_builds(what, old, &among, PAGE).await.unwrap(), [build]);
    assert!(farm.desk.store.is_old(build, what, old, &among).await.unwrap());
    let mut tx = farm.desk.store.write().await.unwrap();
    tx.pin_build(build, true).await.unwrap();
    tx.commit().await.unwrap();
    assert!(!farm.desk.store.is_old(build, what, old, &among).await.unwrap());
    farm.stop().await;
}

#[tokio::test]
async fn everything_is_kept_unless_somebody_says_otherwise() {
    let folder = tempdir().unwrap();
    let (farm, agent) = with_agent(&folder, Keeps::default()).await;
    over(&farm, &agent, ("x", "main"), failed()).await;
    assert_eq!((cleared(&farm, 10_000).await, left(&farm).await), (0, vec![1]));
    let view = farm.desk.store.storage().await.unwrap();
    assert_eq!((view.builds, view.logs_bytes, view.artifacts_bytes), (1, 5, 2));
    assert!(view.database_bytes > 0);
    farm.stop().await;
}

#[tokio::test]
async fn old_builds_go_but_not_the_last_that_passed_nor_pinned_ones() {
    let folder = tempdir().unwrap();
    let (farm, agent) = with_agent(&folder, Keeps { days: Some(7), ..Keeps::default() }).await;
    for (place, ending) in [
        (("x", "main"), Ending::passed()),
        (("x", "main"), Ending::passed()),
        (("x", "main"), failed()),
        (("x", "topic"), Ending::passed()),
        (("y", "main"), failed()),
        (("y", "main"), failed()),
    ] {
        over(&farm, &agent, place, ending).await;
    }
    let mut tx = farm.desk.store.write().await.unwrap();
    assert!(tx.pin_build(BuildNumber(5), true).await.unwrap());
    assert!(!tx.pin_build(BuildNumber(9), true).await.unwrap());
    tx.commit().await.unwrap();
    // One that is not over stays in any case.
    farm.submit().await;
    assert_eq!(cleared(&farm, 6).await, 0);
    assert_eq!((files(&farm, "logs"), files(&farm, "artifacts")), (6, 6));
    assert_eq!((cleared(&farm, 8).await, left(&farm).await), (3, vec![2, 4, 5, 7]));
    assert_eq!((files(&farm, "logs"), files(&farm, "artifacts")), (3, 3));
    assert_eq!(cleared(&farm, 8).await, 0);
    assert!(farm.snapshot(BuildNumber(5)).await.view.pinned);
    farm.stop().await;
}

async fn has_keeps(farm: &Farm, name: &str, keeps: ProjectKeeps) {
    let url = repo(name);
    let secret = farm.desk.vault.seal_text(SealedFor::Webhooks, &url.identity(), "a secret");
    let project = Project { keeps, ..project(url, secret) };
    let mut tx = farm.desk.store.write().await.unwrap();
    if !tx.add_project(&project).await.unwrap() {
        tx.change_project(&project).await.unwrap();
    }
    tx.commit().await.unwrap();
    let kept = farm.desk.store.project(&project.identity).await.unwrap().unwrap();
    assert_eq!(kept.keeps, keeps);
}

#[tokio::test]
async fn a_projects_word_counts_for_its_builds_alone() {
    let folder = tempdir().unwrap();
    let (farm, agent) = with_agent(&folder, Keeps { days: Some(7), ..Keeps::default() }).await;
    let none = ProjectKeeps::default();
    has_keeps(&farm, "short", ProjectKeeps { builds: Some(Keep::Last(1)), ..none }).await;
    has_keeps(&farm, "long", ProjectKeeps { days: Some(Keep::All), artifacts_days: Some(Keep::Last(2)), ..none }).await;
    for place in [("short", "main"), ("short", "topic"), ("short", "main"), ("short", "main")] {
        // The last green of a branch stays, and so does what a person pinned.
        let ending = if place.1 == "topic" { Ending::passed() } else { failed() };
        over(&farm, &agent, place, ending).await;
    }
    for name in ["long", "long", "other", "other"] {
        over(&farm, &agent, (name, "main"), failed()).await;
    }
    let mut tx = farm.desk.store.write().await.unwrap();
    assert!(tx.pin_build(BuildNumber(1), true).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!((cleared(&farm, 1).await, left(&farm).await), (1, vec![1, 2, 4, 5, 6, 7, 8]));
    // Two builds' files, whose builds stay.
    assert_eq!((cleared(&farm, 3).await, left(&farm).await), (2, vec![1, 2, 4, 5, 6, 7, 8]));
    assert_eq!((cleared(&farm, 8).await, left(&farm).await), (2, vec![1, 2, 4, 5, 6]));
    assert_eq!(cleared(&farm, 10_000).await, 0);
    // Back to the farm's.
    has_keeps(&farm, "long", none).await;
    has_keeps(&farm, "short", none).await;
    assert_eq!((cleared(&farm, 8).await, left(&farm).await), (3, vec![1, 2]));
    farm.stop().await;
}

#[tokio::test]
async fn the_newest_of_each_repository_are_kept() {
    let folder = tempdir().unwrap();
    let (farm, agent) = with_agent(&folder, Keeps { builds: Some(2), ..Keeps::default() }).await;
    for name in ["x", "y", "x", "x", "y"] {
        over(&farm, &agent, (name, "main"), failed()).await;
    }
    assert_eq!(cleared(&farm, 0).await, 0, "something may still arrive");
    assert_eq!((cleared(&farm, 1).await, left(&farm).await), (1, vec![2, 3, 4, 5]));
    farm.stop().await;
}

#[tokio::test]
async fn with_both_a_build_is_kept_as_long_as_one_of_them_keeps_it() {
    let folder = tempdir().unwrap();
    let (farm, agent) = with_agent(&folder, Keeps { builds: Some(1), days: Some(7), ..Keeps::default() }).await;
    for _ in 0..3 {
        over(&farm, &agent, ("x", "main"), failed()).await;
    }
    assert_eq!(cleared(&farm, 6).await, 0);
    assert_eq!((cleared(&farm, 8).await, left(&farm).await), (2, vec![3]));
    farm.stop().await;
}

#[tokio::test]
async fn output_and_files_go_before_their_build() {
    let folder = tempdir().unwrap();
    let keeps = Keeps { logs_days: Some(20), artifacts_days: Some(10), ..Keeps::default() };
    let (farm, agent) = with_agent(&folder, keeps).await;
    let build = over(&farm, &agent, ("x", "main"), failed()).await;
    assert_eq!(cleared(&farm, 11).await, 1);
    assert_eq!((files(&farm, "logs"), files(&farm, "artifacts")), (1, 0));
    let view = farm.snapshot(build).await.view;
    assert!(view.artifacts_removed_ms.is_some() && view.logs_removed_ms.is_none());
    assert_eq!(view.attempts[0].logs.len(), 1);
    assert_eq!(cleared(&farm, 21).await, 1);
    assert_eq!((files(&farm, "logs"), left(&farm).await), (0, vec![1]));
    let view = farm.snapshot(build).await.view;
    assert!(view.logs_removed_ms.is_some() && view.attempts[0].logs.is_empty());
    assert_eq!(cleared(&farm, 30).await, 0);
    farm.stop().await;
}

#[tokio::test]
async fn what_another_build_is_a_restart_of_can_go_when_that_is_over() {
    let folder = tempdir().unwrap();
    let (farm, agent) = with_agent(&folder, Keeps { days: Some(1), ..Keeps::default() }).await;
    let old = over(&farm, &agent, ("x", "main"), failed()).await;
    let ask = protocol::api::Restart::default();
    let new = restart::restart(&farm.desk, old, ask, (None, true)).await.unwrap().build;
    assert_eq!((cleared(&farm, 2).await, left(&farm).await), (1, vec![2]));
    assert_eq!(farm.snapshot(new).await.view.restart_of, Some(old));
    let (claimed, _) = agent.work(&farm).await;
    agent.finish(claimed.claim, failed()).await;
    assert_eq!((cleared(&farm, 2).await, left(&farm).await), (1, Vec::new()));
    farm.stop().await;
}

#[test]
fn what_is_removed_when() {
    let now = 100 * DAY_MS;
    let check = |keeps: Keeps, expect: &[(Removed, u64, u64)]| {
        let expect: Vec<(Removed, Old)> =
            expect.iter().map(|&(what, before_ms, newest)| (what, Old { before_ms, newest })).collect();
        assert_eq!(rules(&keeps, now), expect);
    };
    check(Keeps::default(), &[]);
    check(Keeps { builds: Some(5), ..Keeps::default() }, &[(Removed::Build, now - HOUR_MS, 5)]);
    check(Keeps { days: Some(3), ..Keeps::default() }, &[(Removed::Build, now - 3 * DAY_MS, 0)]);
    check(
        Keeps { builds: Some(5), days: Some(3), logs_days: Some(2), artifacts_days: Some(1) },
        &[
            (Removed::Build, now - 3 * DAY_MS, 5),
            (Removed::Logs, now - 2 * DAY_MS, 0),
            (Removed::Artifacts, now - DAY_MS, 0),
        ],
    );
}

#[test]
fn a_clock_that_jumped_removes_nothing_for_a_day() {
    let begin = Instant::now();
    let after = |days: u64| begin + STEADY * u32::try_from(days).unwrap();
    let mut trust = Trust::default();
    assert!(trust.believes(begin, 100 * DAY_MS, Some(96 * DAY_MS)), "nobody built over a long weekend");
    assert!(trust.believes(after(1), 101 * DAY_MS, None));
    assert!(!trust.believes(after(2), 9000 * DAY_MS, None), "it was set to another year");
    assert!(!trust.believes(after(2) + STEADY / 2, 9000 * DAY_MS + DAY_MS / 2, None));
    assert!(!trust.believes(after(3), 103 * DAY_MS, None), "and back");
    assert!(trust.believes(after(4), 104 * DAY_MS, None));
    // It was ahead when the coordinator began, or that stood still for months.
    let mut trust = Trust::default();
    assert!(!trust.believes(begin, 400 * DAY_MS, Some(96 * DAY_MS)));
    assert!(trust.believes(after(1), 401 * DAY_MS, Some(96 * DAY_MS)));
    assert!(Trust::default().believes(begin, 400 * DAY_MS, None), "there is nothing to remove");
}

#[tokio::test]
async fn of_nested_groups_the_nearest_says_for_how_long() {
    let folder = tempdir().unwrap();
    let (farm, agent) = with_agent(&folder, Keeps::default()).await;
    let days = |days| ProjectKeeps { days: Some(Keep::Last(days)), ..ProjectKeeps::default() };
    for (group, kept) in [("g/*", 30), ("g/sub/*", 60), ("g/sub/own", 90)] {
        has_keeps(&farm, group, days(kept)).await;
    }
    for name in ["g/x", "g/sub/x", "g/sub/own"] {
        over(&farm, &agent, (name, "main"), Ending::passed()).await;
    }
    let mut rules = farm.desk.store.kept_otherwise().await.unwrap();
    rules.sort_by_key(|(repos, _)| repos.concat());
    let of = |name| vec![repo(name).reveal().to_owned()];
    assert_eq!(rules, [(of("g/sub/own"), days(90)), (of("g/sub/x"), days(60)), (of("g/x"), days(30))]);
    farm.stop().await;
}
