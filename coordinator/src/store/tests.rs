//! The store on a real database in a folder of its own.

use protocol::identity::{Identity, OneTimeKey};
use protocol::job::{Origin, TriggerKind};
use protocol::outcome::{Outcome, StageOutcome};
use protocol::report::Hello;
use protocol::state::{Happening, JobState};
use protocol::{BootId, BuildNumber, ClaimId, CommitId, JobId, LabelSet, Plan, PlannedJob};

use super::jobs::Applied;
use super::*;

fn build() -> NewBuild {
    let repo = "https://me:secret@example.org/x".parse().unwrap();
    NewBuild {
        repo,
        branch: Some("main".parse().unwrap()),
        trigger: TriggerKind::Manual,
        trusted: true,
        reply: None,
        origin: Origin::default(),
        commit: None,
        inputs: Vec::new(),
        parent: None,
    }
}

async fn insert_job(tx: &mut Transaction, number: BuildNumber) -> JobId {
    tx.insert_job(number, &"build".parse().unwrap(), &LabelSet::default(), 1).await.unwrap()
}

fn planned(key: &str, needs: &[&str]) -> PlannedJob {
    let needs = needs.iter().map(|need| need.parse().unwrap()).collect();
    PlannedJob { needs, ..PlannedJob::new(key.parse().unwrap(), Plan::new("x", Vec::new())) }
}

fn taking() -> Taking {
    let (_, sealing) = OneTimeKey::generate();
    Taking { claim: ClaimId::fresh(), agent: "a1".parse().unwrap(), boot: BootId::fresh(), sealing }
}

async fn change(store: &Store, id: JobId, happening: &Happening) -> Applied {
    let mut tx = store.write().await.unwrap();
    let job = tx.job(id).await.unwrap().unwrap();
    let applied = tx.apply(&job, happening, 9).await.unwrap();
    tx.commit().await.unwrap();
    applied
}

async fn take(store: &Store, id: JobId, taking: &Taking) -> Applied {
    let mut tx = store.write().await.unwrap();
    let job = tx.job(id).await.unwrap().unwrap();
    let applied = tx.take(&job, taking, 5).await.unwrap();
    tx.commit().await.unwrap();
    applied
}

#[tokio::test]
async fn a_newer_schema_and_a_second_coordinator_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    assert!(matches!(Store::open(folder.path()).await, Err(StoreError::InUse(_))));
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'later', 1, x'00', 0)")
        .execute(&store.writer)
        .await
        .unwrap();
    store.close().await;
    drop(store);
    let error = Store::open(folder.path()).await.err().unwrap();
    assert!(matches!(error, StoreError::TooNew { version: 99, .. }), "{error}");
}

#[tokio::test]
async fn all_of_it_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let taking = taking();
    let claim = taking.claim;
    let identity = Identity::generate().unwrap();
    let mut tx = store.write().await.unwrap();
    let number = tx.insert_build(&build(), 1).await.unwrap();
    let id = insert_job(&mut tx, number).await;
    let found = tx.job(id).await.unwrap().unwrap();
    tx.take(&found, &taking, 5).await.unwrap().unwrap();
    tx.pin(number, Some(&"0123456789".repeat(4).parse().unwrap()), (None, None), "first\nsecond", "me").await.unwrap();
    tx.stage_started(claim, &"test".parse().unwrap(), "debian").await.unwrap();
    tx.stage_ended(claim, &"test".parse().unwrap(), &StageOutcome::Passed, 7).await.unwrap();
    tx.log_complete(claim, &"test".parse().unwrap(), 3).await.unwrap();
    let hello = Hello {
        agent: "a1".parse().unwrap(),
        boot: BootId::fresh(),
        key: identity.public(),
        join: None,
        labels: LabelSet::new(["gpu"]).unwrap(),
        slots: 4,
        version: "1".to_owned(),
        host: "h".to_owned(),
    };
    tx.put_agent(&Agent::presented(&hello, Some("user"))).await.unwrap();
    tx.commit().await.unwrap();
    let before = serde_json::to_string(&store.snapshot(number).await.unwrap().unwrap().view).unwrap();
    assert!(!before.contains("secret") && !before.contains(&claim.reveal()), "{before}");
    store.close().await;
    drop(store);
    let store = Store::open(folder.path()).await.unwrap();
    let after = serde_json::to_string(&store.snapshot(number).await.unwrap().unwrap().view).unwrap();
    assert_eq!(before, after);
    let mut tx = store.write().await.unwrap();
    assert_eq!(tx.job(id).await.unwrap().unwrap().state.claim(), Some(claim));
    assert!(tx.build(number).await.unwrap().unwrap().repo.reveal().contains("secret"));
    let agent = tx.agent(&hello.agent).await.unwrap().unwrap();
    assert_eq!((agent.key, agent.slots, agent.broker_user.as_deref()), (identity.public(), 4, Some("user")));
    drop(tx);
    assert_eq!(store.running().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_transaction_that_is_dropped_changed_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    let number = tx.insert_build(&build(), 1).await.unwrap();
    drop(tx);
    assert!(store.snapshot(number).await.unwrap().is_none());
}

#[tokio::test]
async fn of_racing_claims_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    let number = tx.insert_build(&build(), 1).await.unwrap();
    let id = insert_job(&mut tx, number).await;
    tx.commit().await.unwrap();
    let claims: Vec<Taking> = (0..8).map(|_| taking()).collect();
    let results = futures_util::future::join_all(claims.iter().map(|taking| take(&store, id, taking))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    assert_eq!(store.snapshot(number).await.unwrap().unwrap().view.attempts.len(), 1);
}

#[tokio::test]
async fn jobs_wait_for_what_they_need_and_end_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    let number = tx.insert_build(&build(), 1).await.unwrap();
    let compile = tx.insert_planned(number, &planned("compile", &[]), 1).await.unwrap();
    let test = tx.insert_planned(number, &planned("test", &["compile"]), 1).await.unwrap();
    tx.insert_planned(number, &planned("deploy", &["compile", "test"]), 1).await.unwrap();
    tx.insert_planned(number, &planned("test", &[]), 1).await.unwrap();
    tx.advance(number, 1).await.unwrap();
    assert_eq!(tx.jobs(number).await.unwrap().len(), 3, "a key stands for one job");
    tx.commit().await.unwrap();
    let offerable = async || -> Vec<JobId> {
        let jobs = store.next_to_offer(&LabelSet::default(), 9, 9).await.unwrap();
        jobs.iter().map(|job| job.id).collect()
    };
    assert_eq!(offerable().await, [compile]);
    let taken = taking();
    take(&store, compile, &taken).await.unwrap();
    assert!(offerable().await.is_empty());
    let finished = |claim, ending| Happening::Finished { claim, ending, not_twice: false, max_attempts: 2 };
    let passed = finished(taken.claim, protocol::outcome::Ending::passed());
    change(&store, compile, &passed).await.unwrap();
    assert_eq!(offerable().await, [test]);
    assert_eq!(store.snapshot(number).await.unwrap().unwrap().view.build.status.name(), "running");
    let taken = taking();
    take(&store, test, &taken).await.unwrap();
    let ending = protocol::outcome::Ending::of(Outcome::Failed, None);
    let ended = change(&store, test, &finished(taken.claim, ending)).await;
    assert!(matches!(ended, Ok(JobState::Ended(_))));
    let view = store.snapshot(number).await.unwrap().unwrap().view;
    assert_eq!((view.build.status.name(), view.exit_code), ("failed", Some(1)));
}

#[tokio::test]
async fn repositories_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    for repo in ["a", "a", "a", "b", "a", "c"] {
        let repo = format!("https://example.org/{repo}").parse().unwrap();
        let number = tx.insert_build(&NewBuild { repo, ..build() }, 1).await.unwrap();
        insert_job(&mut tx, number).await;
    }
    tx.commit().await.unwrap();
    let next = async |most| {
        let jobs = store.next_to_offer(&LabelSet::default(), most, 9).await.unwrap();
        let names: Vec<String> = jobs.iter().map(|job| job.repo.short_name().to_owned()).collect();
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        (names.concat(), ids)
    };
    assert_eq!(next(9).await.0, "abcaaa");
    let (names, ids) = next(2).await;
    assert_eq!(names, "ab");
    let mut tx = store.write().await.unwrap();
    tx.offered(&ids, 9).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(next(9).await.0, "caaa", "what is on offer counts as a turn");
    let waiting = store.waiting(9).await.unwrap();
    assert_eq!((waiting[0].on_offer, waiting[0].offerable, waiting[0].oldest_ms), (2, true, Some(9)));
}

/// How SQLite finds what a statement asks for.
async fn way(store: &Store, statement: &'static str) -> Vec<String> {
    let explained = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let rows = sqlx::query(explained).fetch_all(&store.readers).await.unwrap();
    rows.iter().map(|row| row.try_get("detail").unwrap()).collect()
}

#[tokio::test]
async fn what_is_asked_for_often_is_found_by_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let often = [
        schedule::WAITING,
        schedule::NEXT_TO_OFFER,
        history::TIMES_ON_BRANCH,
        history::TIMES_ON_ANY,
        views::REPOS,
        course::HAS_GROUPS,
        schedule::TO_SEND_ON,
    ];
    for statement in often {
        for step in way(&store, statement).await {
            // An index of what is not over is short however many builds there were.
            let table = ["jobs", "builds", "attempts"].iter().any(|table| step == format!("SCAN {table}"));
            let whole = ["USING PRIMARY KEY", "USING INTEGER PRIMARY KEY", "sqlite_autoindex"];
            let reads_all = step.starts_with("SCAN j") || step.starts_with("SCAN b") || step.starts_with("SCAN a");
            let walks = table || (reads_all && whole.iter().any(|all| step.contains(all)));
            assert!(!walks, "{step} in {statement}");
        }
    }
    for place in 0..8 {
        let statement = views::page_statement(place & 1 > 0, place & 2 > 0, place & 4 > 0);
        let steps = way(&store, statement).await;
        // One index, in the order of the page: neither a walk through all builds nor one through all that are found.
        let [step] = &steps[..] else { panic!("{steps:?} for {statement}") };
        let by = match place & 3 {
            1 => "builds_by_repo",
            2 => "builds_of_branch",
            3 => "builds_by_branch",
            _ if place & 4 > 0 => "builds_by_status",
            _ => "INTEGER PRIMARY KEY",
        };
        assert!(step.starts_with("SEARCH builds USING") && step.contains(by), "{step} for {statement}");
    }
}

#[tokio::test]
async fn a_page_shows_what_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    for (repo, branch) in
        [("https://me:one@e.org/x", "main"), ("https://me:two@e.org/x", "main"), ("https://e.org/y", "b")]
    {
        for _ in 0..3 {
            let branch = Some(branch.parse().unwrap());
            tx.insert_build(&NewBuild { repo: repo.parse().unwrap(), branch, ..build() }, 1).await.unwrap();
        }
    }
    tx.commit().await.unwrap();
    let numbers = async |page: Page| {
        let found = store.builds(&Page { limit: if page.limit == 0 { 50 } else { page.limit }, ..page }).await.unwrap();
        found.iter().map(|row| row.number.0).collect::<Vec<_>>()
    };
    let repo = |repo: &str| Page { repo: Some(repo.to_owned()), ..Page::default() };
    assert_eq!(numbers(Page::default()).await, [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    // As it is shown: whose password it was does not matter.
    assert_eq!(numbers(repo("https://me:***@e.org/x")).await, [6, 5, 4, 3, 2, 1]);
    let next = Page { before: Some(BuildNumber(5)), limit: 2, ..repo("https://me:***@e.org/x") };
    assert_eq!(numbers(next).await, [4, 3]);
    assert_eq!(numbers(Page { branch: Some("b".to_owned()), ..repo("https://e.org/y") }).await, [9, 8, 7]);
    assert!(numbers(Page { branch: Some("main".to_owned()), ..repo("https://e.org/y") }).await.is_empty());
    let queued = Page { status: Some(protocol::api::Status::Queued), branch: Some("b".to_owned()), ..Page::default() };
    assert_eq!(numbers(queued).await, [9, 8, 7]);
    assert!(numbers(repo("https://me:one@e.org/x")).await == [3, 2, 1], "who knows it may ask for it");
    // By any of its URLs.
    for url in ["https://e.org/x.git", "git@E.org:x", "ssh://git@e.org/x/"] {
        assert_eq!(numbers(repo(url)).await, [6, 5, 4, 3, 2, 1], "{url}");
    }
    assert_eq!(numbers(Page { before: Some(BuildNumber(9)), limit: 1, ..repo("git@e.org:y") }).await, [8]);
    for none in ["https://e.org/z", "e.org/x", "no URL", ""] {
        assert!(numbers(repo(none)).await.is_empty(), "{none:?}");
    }
    let newest = store.newest_of(&["e.org/x", "e.org/z"]).await.unwrap();
    let newest: Vec<(&str, u64)> = newest.iter().map(|(identity, row)| (identity.as_str(), row.number.0)).collect();
    assert_eq!(newest, [("e.org/x", 6)]);
}

#[tokio::test]
async fn builds_that_are_asked_for_together_begin_each_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    // One cannot be written, for the job that it names is not there.
    let asked = |parent| AskedFor {
        build: NewBuild { parent, ..build() },
        key: "build".parse().unwrap(),
        labels: LabelSet::default(),
        by: Some("me".to_owned()),
        approval: None,
        now_ms: 1,
    };
    let all = [None, None, Some(JobId::fresh()), None];
    let begun = futures_util::future::join_all(all.map(|parent| store.begin_build(asked(parent))));
    let (begun, ()) = tokio::join!(
        async {
            let begun = begun.await;
            shutdown.cancel();
            begun
        },
        store.begin_builds(shutdown.clone())
    );
    let begun: Vec<bool> = begun.iter().map(Result::is_ok).collect();
    assert_eq!(begun, [true, true, false, true]);
    // Who asks when nobody gathers any more begins too.
    store.begin_build(asked(None)).await.unwrap();
    let builds = store.builds(&Page { limit: 50, ..Page::default() }).await.unwrap();
    assert_eq!(builds.len(), 4);
    assert_eq!(store.next_to_offer(&LabelSet::default(), 9, 9).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_commit_that_is_built_again_after_the_next_was_pushed_is_not_the_tip() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    let [old, new] = ["0", "1"].map(|digit| digit.repeat(40).parse::<CommitId>().unwrap());
    let mut pushed = async |commit: &CommitId, again: bool| {
        let push = NewBuild { trigger: TriggerKind::Push, commit: Some(commit.clone()), ..build() };
        let number = tx.insert_build(&push, 1).await.unwrap();
        if again {
            tx.pushed_again(number).await.unwrap();
        }
        tx.is_of_tip(number).await.unwrap()
    };
    assert!(pushed(&old, false).await);
    assert!(pushed(&old, true).await, "nothing was pushed since");
    assert!(pushed(&new, false).await);
    assert!(!pushed(&old, true).await);
    assert!(pushed(&new, true).await);
    assert!(pushed(&old, false).await, "the branch was set back");
    assert!(pushed(&old, true).await);
}

#[tokio::test]
async fn what_another_build_took_over_goes_no_sooner_than_that_and_nor_does_what_somebody_is_to_hear_of() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let number = tx.insert_build(&build(), 1).await.unwrap();
        insert_job(&mut tx, number).await;
        numbers.push(number.0);
    }
    tx.commit().await.unwrap();
    let [old, taker, newer] = numbers[..] else { panic!("{numbers:?}") };
    let say = async |statement: String| {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&store.writer).await.unwrap();
    };
    let (what, everything) = (Removed::Build, Old { before_ms: 9, newest: 0 });
    let is_old = async || store.is_old(BuildNumber(old), what, everything, &Among::Others(Vec::new())).await.unwrap();
    say("UPDATE builds SET status = 'failed', ended_ms = 1".to_owned()).await;
    say(format!("UPDATE jobs SET carried_from = {old} WHERE build = {taker}")).await;
    assert!(is_old().await);
    for (change, expect) in [
        (format!("UPDATE builds SET ended_ms = NULL WHERE number = {taker}"), false),
        (format!("UPDATE builds SET ended_ms = 1, pinned = 1 WHERE number = {taker}"), false),
        (format!("UPDATE builds SET pinned = 0 WHERE number = {taker}"), true),
        (format!("UPDATE builds SET status = 'passed' WHERE number = {taker}"), false),
        (format!("UPDATE builds SET status = 'passed' WHERE number = {newer}"), true),
        (
            format!(
                "INSERT INTO notices (message, build, before, kind, at_ms, recipient) VALUES ('m', {old}, {old}, 'broken', 1, 'x')"
            ),
            false,
        ),
    ] {
        say(change.clone()).await;
        assert_eq!(is_old().await, expect, "{change}");
    }
}

#[tokio::test]
async fn builds_of_an_older_coordinator_are_in_the_same_groups() {
    let folder = tempfile::tempdir().unwrap();
    let pool = schema::older(&folder.path().join("buildr.db"), 23).await;
    let add = "INSERT INTO builds (repo, trigger, trusted, status, created_ms) VALUES ($1, 'manual', 1, 'queued', 1)";
    sqlx::query(add).bind("git@example.org:x.git").execute(&pool).await.unwrap();
    pool.close().await;
    let store = Store::open(folder.path()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    tx.insert_build(&NewBuild { repo: "https://example.org/x".parse().unwrap(), ..build() }, 1).await.unwrap();
    tx.insert_restart(BuildNumber(1), true, None, 1).await.unwrap().unwrap();
    let rows = sqlx::query("SELECT DISTINCT identity FROM builds").fetch_all(&mut *tx.tx).await.unwrap();
    let identities: Vec<&str> = rows.iter().map(|row| row.get("identity")).collect();
    assert_eq!(identities, ["example.org/x"]);
}

#[tokio::test]
async fn a_pull_request_that_is_built_again_after_its_next_commit_is_not_the_tip() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    let [old, new] = ["0", "1"].map(|digit| digit.repeat(40).parse::<CommitId>().unwrap());
    let mut proposed = async |number: u64, commit: &CommitId, again: bool| {
        let origin = Origin { pull_request: Some(number), head: Some(commit.clone()), ..Origin::default() };
        let commit = Some(commit.clone());
        let request = NewBuild { trigger: TriggerKind::PullRequest, commit, origin, ..build() };
        let number = tx.insert_build(&request, 1).await.unwrap();
        if again {
            tx.pushed_again(number).await.unwrap();
        }
        tx.is_of_tip(number).await.unwrap()
    };
    assert!(proposed(7, &old, false).await);
    assert!(proposed(8, &new, false).await);
    assert!(proposed(7, &old, true).await, "the other is another's");
    assert!(proposed(7, &new, false).await);
    assert!(!proposed(7, &old, true).await);
    assert!(proposed(7, &new, true).await);
}

#[tokio::test]
async fn a_build_that_waited_for_a_person_waits_again_when_it_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    for (terms, answer, unmet) in [
        (Some(r#"{"gate":{"ask":"May it?"}}"#), None, 1),
        (Some(r#"{"gate":{"ask":"May it?"}}"#), Some(r#"{"at_ms":7}"#), 1),
        (None, None, 0),
    ] {
        let mut tx = store.write().await.unwrap();
        let old = tx.insert_build(&build(), 1).await.unwrap();
        let held = insert_job(&mut tx, old).await;
        sqlx::query("UPDATE jobs SET terms = $2, answer = $3 WHERE id = $1")
            .bind(held.to_string())
            .bind(terms)
            .bind(answer)
            .execute(&mut *tx.tx)
            .await
            .unwrap();
        let new = tx.insert_restart(old, true, Some("ada"), 2).await.unwrap().unwrap();
        let job = insert_job(&mut tx, new).await;
        tx.wait_likewise(old, job).await.unwrap();
        let row = sqlx::query("SELECT terms, answer, unmet FROM jobs WHERE id = $1")
            .bind(job.to_string())
            .fetch_one(&mut *tx.tx)
            .await
            .unwrap();
        assert_eq!(row.get::<Option<&str>, _>("terms"), terms);
        assert_eq!(row.get::<Option<&str>, _>("answer"), answer);
        assert_eq!(row.get::<i64, _>("unmet"), unmet);
    }
}

#[tokio::test]
async fn a_push_that_is_heard_of_after_the_next_one_is_not_the_tip() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    let at = |digit: &str| digit.repeat(40).parse::<CommitId>().unwrap();
    let mut heard = async |request: Option<u64>, before: Option<&str>, commit: &str| {
        let head = request.map(|_| at(commit));
        let origin = Origin { before: before.map(at), pull_request: request, head, ..Origin::default() };
        let trigger = if request.is_some() { TriggerKind::PullRequest } else { TriggerKind::Push };
        let push = NewBuild { trigger, commit: Some(at(commit)), origin, ..build() };
        let number = tx.insert_build(&push, 1).await.unwrap();
        tx.came_late(number).await.unwrap();
        tx.is_of_tip(number).await.unwrap()
    };
    for request in [None, Some(7)] {
        assert!(heard(request, None, "0").await);
        assert!(heard(request, Some("1"), "2").await, "what came between was not heard of");
        assert!(!heard(request, Some("0"), "1").await, "it is heard of now");
        assert!(heard(request, Some("2"), "3").await);
        assert!(heard(request, Some("3"), "1").await, "the branch was set back");
        assert!(heard(Some(8), None, "1").await, "the other is another's");
    }
}

#[tokio::test]
async fn what_passed_by_a_schedule_or_in_a_proposal_is_no_base_for_a_push() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    let at = |digit: &str| digit.repeat(40).parse::<CommitId>().unwrap();
    let mut begun = async |trigger, commit: &str, request: Option<u64>| {
        let origin = Origin { pull_request: request, ..Origin::default() };
        let number =
            tx.insert_build(&NewBuild { trigger, commit: Some(at(commit)), origin, ..build() }, 1).await.unwrap();
        let before = tx.build(number).await.unwrap().unwrap();
        let green = tx.last_green(&before).await.unwrap();
        sqlx::query("UPDATE builds SET status = 'passed' WHERE number = $1")
            .bind(int(number.0))
            .execute(&mut *tx.tx)
            .await
            .unwrap();
        green
    };
    assert_eq!(begun(TriggerKind::Push, "1", None).await, None);
    assert_eq!(begun(TriggerKind::Schedule, "2", None).await, Some(at("1")));
    assert_eq!(begun(TriggerKind::Schedule, "3", None).await, Some(at("2")));
    assert_eq!(begun(TriggerKind::PullRequest, "4", Some(7)).await, Some(at("1")));
    assert_eq!(begun(TriggerKind::Manual, "5", None).await, Some(at("1")));
    assert_eq!(begun(TriggerKind::Push, "6", None).await, Some(at("5")));
}

#[tokio::test]
async fn a_message_of_which_an_agent_spoke_after_its_goodbye_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    let number = tx.insert_build(&build(), 1).await.unwrap();
    let job = insert_job(&mut tx, number).await;
    let (agent, boot): (protocol::AgentId, _) = ("a1".parse().unwrap(), BootId::fresh());
    let of = |claim| adoptions::Adoption {
        queue: "q".to_owned(),
        digest: "d".to_owned(),
        message_id: None,
        claim,
        agent: agent.clone(),
        boot,
    };
    let first = of(ClaimId::fresh());
    tx.insert_adoption(job, &first).await.unwrap();
    tx.settle_all(&agent, boot).await.unwrap();
    tx.settle(first.claim, adoptions::Settled::Acknowledged).await.unwrap();
    assert_eq!(tx.absorb(&of(ClaimId::fresh())).await.unwrap(), None, "the next one like it is another");
}

#[tokio::test]
async fn an_owner_is_found_however_many_repositories_came_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    for (name, created_ms) in [("a/*", 1), ("a/b", 2), ("a/c", 3)] {
        let url: protocol::RepoUrl = format!("https://github.com/{name}").parse().unwrap();
        let secret = Sealed { key_id: "1".to_owned(), content: Vec::new() };
        let forge = protocol::api::Forge::GitHub;
        let project = Project { forge, created_ms, ..crate::testing::project(url, secret) };
        assert!(tx.add_project(&project).await.unwrap());
    }
    tx.commit().await.unwrap();
    let github = protocol::api::Forge::GitHub;
    let found = store.projects_at_forges((github, github), 2).await.unwrap();
    let found: Vec<&str> = found.iter().map(|project| project.identity.as_str()).collect();
    assert_eq!(found, ["github.com/a/*", "github.com/a/c"]);
}
