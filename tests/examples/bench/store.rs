//! The coordinator and its store: memory while nothing happens, and answers out of a million builds.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use protocol::api::Builds;
use protocol::identity::OneTimeKey;
use protocol::{Ending, StageOutcome};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use crate::builds::{trivial_manifest, warm};
use crate::caller::Caller;
use crate::raw::ms_since;
use crate::rig::{Parts, Rig, memory, with_rig};
use crate::row::{About, Figures, Goal, Row};

/// How long after its last build a farm counts as idle.
const IDLE: Duration = Duration::from_secs(5);

/// Memory of both programs, some time after their last build.
pub(crate) async fn idle(_: u32) -> Result<Vec<Row>> {
    let (agent, coordinator) = with_rig(Parts { slots: 1, ..Parts::default() }, async |rig| {
        let repo = rig.town.make("trivial", &trivial_manifest(), 0, 0).await?;
        warm(rig, &repo).await?;
        tokio::time::sleep(IDLE).await;
        let of = |process: u32| {
            Ok::<_, anyhow::Error>(Figures { ours: vec![memory(process, "VmRSS")?], ..Figures::default() })
        };
        Ok((of(rig.agent()?)?, of(rig.coordinator()?)?))
    })
    .await?;
    let about =
        |name, what, most| About { name, what, unit: "MB", goal: Goal::AtMost(most), floor_is: "", bound_is: "" };
    Ok(vec![
        agent.row(&about("idle.agent", "the agent's memory, idle", 15.0)),
        coordinator.row(&about("idle.coordinator", "the coordinator's memory, idle", 30.0)),
    ])
}

/// Answers of the API with a million builds in the store.
pub(crate) async fn million(rounds: u32) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("coordinator");
    begun(&state).await?;
    fill(&state, 1, 1_000_000).await?;
    let [first, one, branch] = answers(&state, 1_000_000, rounds).await?;
    let about = |name, what| About { name, what, unit: "ms", goal: Goal::AtMost(10.0), floor_is: "", bound_is: "" };
    Ok(vec![
        first.row(&about("million.first", "a million builds: the first page of the list")),
        one.row(&about("million.one", "a million builds: one of them, whole")),
        branch.row(&about("million.filter", "a million builds: those of one repository and branch")),
    ])
}

/// Has a coordinator make its store.
pub(crate) async fn begun(state: &Path) -> Result<()> {
    with_rig(Parts { state: Some(state), ..Parts::default() }, async |_| Ok(())).await
}

/// How long a coordinator takes for its answers with so many builds in the store: a page, one build, a branch's.
pub(crate) async fn answers(state: &Path, builds: u64, rounds: u32) -> Result<[Figures; 3]> {
    with_rig(Parts { state: Some(state), ..Parts::default() }, async |rig| {
        let branch = format!("/api/v1/builds?repo={}&branch={}", repo(7).replace(':', "%3A").replace('/', "%2F"), "b3");
        let found: Builds = serde_json::from_slice(&caller(rig).await?.get(&branch).await?)?;
        let is_it = |row: &protocol::api::BuildRow| {
            row.repo == repo(7) && row.branch.as_ref().is_some_and(|branch| branch.as_str() == "b3")
        };
        let wrong = builds >= 100_000 && found.builds.len() < 10;
        ensure!(found.builds.iter().all(is_it) && !wrong, "the API does not filter by repository and branch");
        let mut all = <[Figures; 3]>::default();
        let mut caller = caller(rig).await?;
        for round in 0..rounds.max(10) {
            // Another one each time, all over the store.
            let one = format!("/api/v1/builds/{}", 1 + (u64::from(round) * 7_919_777) % builds);
            for (figures, path) in all.iter_mut().zip(["/api/v1/builds", &one, &branch]) {
                let began = Instant::now();
                caller.get(path).await?;
                figures.ours.push(ms_since(began));
            }
        }
        Ok(all)
    })
    .await
}

async fn caller(rig: &Rig) -> Result<Caller> {
    Caller::connect(&rig.address, &rig.token).await
}

fn repo(number: u32) -> String {
    format!("https://example.org/team/repository-{number:02}.git")
}

/// Fills a store with builds that passed, of a hundred repositories with twenty branches each; the coordinator is away.
pub(crate) async fn fill(state: &Path, from: u64, to: u64) -> Result<()> {
    let options = SqliteConnectOptions::new().filename(state.join("buildr.db")).foreign_keys(false);
    // Nobody needs it when this fails in the midst of it. The coordinator goes back to its own ways when it opens it.
    let options = options.journal_mode(SqliteJournalMode::Off).synchronous(SqliteSynchronous::Off);
    let options = options.locking_mode(SqliteLockingMode::Exclusive).pragma("cache_size", "-262144");
    let mut database = options.connect().await?;
    let passed = serde_json::to_string(&Ending::passed())?;
    let result = serde_json::to_string(&StageOutcome::Passed)?;
    let sealing = serde_json::to_string(&OneTimeKey::generate().1)?;
    let numbers =
        format!("WITH RECURSIVE n (i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to}) INSERT INTO");
    let (job, claim) = ("printf('00000000-0000-7000-8000-%012x', i)", "printf('00000000-0000-4000-8000-%012x', i)");
    let at = "1700000000000 + i * 1000";
    let repository = "printf('https://example.org/team/repository-%02d.git', i % 100)";
    for rows in [
        format!(
            "builds (number, repo, branch, commit_id, subject, author, trigger, trusted, status, ending, created_ms,
                     started_ms, ended_ms)
             SELECT i, {repository}, printf('b%d', (i / 100) % 20), printf('%040x', i), 'a change', 'Ada', 'push', 1,
                    'passed', '{passed}', {at}, {at} + 20, {at} + 200 FROM n"
        ),
        format!(
            "jobs (id, build, key, needs, labels, state, attempts, ending, created_ms)
             SELECT {job}, i, 'build', '[]', '[]', 'ended', 1, '{passed}', {at} FROM n"
        ),
        format!(
            "attempts (claim, job, attempt, agent, boot, sealing, state, started_ms, ended_ms, last_seq)
             SELECT {claim}, {job}, 1, 'a', '{}', '{sealing}', 'passed', {at} + 20, {at} + 200, 8 FROM n",
            protocol::BootId::fresh()
        ),
        format!(
            "stages (claim, name, image, result, duration_ms)
             SELECT {claim}, 'test', 'debian', '{result}', 150 FROM n"
        ),
        format!("logs (claim, name, bytes, total) SELECT {claim}, 'test', 0, 0 FROM n"),
    ] {
        execute(&mut database, format!("{numbers} {rows}")).await.with_context(|| format!("filling {}", &rows[..8]))?;
    }
    Ok(database.close().await?)
}

async fn execute(database: &mut SqliteConnection, sql: String) -> Result<()> {
    sqlx::query(AssertSqlSafe(sql)).execute(database).await?;
    Ok(())
}
