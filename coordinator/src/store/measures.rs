//! The farm in numbers, for those who watch over it, and how a branch stands.

use protocol::RepoUrl;
use protocol::api::BuildRow;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::views::row_of;
use super::{Store, StoreError, name, natural};

/// The farm at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measures {
    /// How many builds are kept, by status.
    pub(crate) builds: Vec<(String, u64)>,
    /// How many jobs could run if an agent had a slot for them.
    pub(crate) queued: u64,
    /// Since when the first of them waits, in milliseconds since 1970.
    pub(crate) oldest_ms: Option<u64>,
    /// How many jobs run.
    pub(crate) running: u64,
    /// How many bytes of logs are kept.
    pub(crate) log_bytes: u64,
    /// How often something was not as it should be, by kind.
    pub(crate) incidents: Vec<(String, u64)>,
    /// How many messages were laid aside.
    pub(crate) dead_letters: u64,
}

/// How many repositories are looked through for one by its identity.
const REPOS: i64 = 2000;

impl Store {
    /// The farm in numbers.
    pub(crate) async fn measures(&self) -> Result<Measures, StoreError> {
        let mut tx = self.readers.begin().await?;
        let builds = sqlx::query("SELECT status AS name, count(*) AS many FROM builds GROUP BY status ORDER BY status");
        let builds = builds.fetch_all(&mut *tx).await?.iter().map(counted).collect::<Result<_, StoreError>>()?;
        let incidents =
            sqlx::query("SELECT kind AS name, sum(count) AS many FROM incidents GROUP BY kind ORDER BY kind");
        let incidents = incidents.fetch_all(&mut *tx).await?.iter().map(counted).collect::<Result<_, StoreError>>()?;
        let row = sqlx::query(
            "SELECT count(*) FILTER (WHERE state = 'queued' AND unmet = 0) AS queued,
                    min(created_ms) FILTER (WHERE state = 'queued' AND unmet = 0) AS oldest,
                    count(*) FILTER (WHERE state = 'running') AS running
             FROM jobs WHERE state <> 'ended'",
        )
        .fetch_one(&mut *tx)
        .await?;
        let log_bytes: i64 = sqlx::query_scalar("SELECT coalesce(sum(bytes), 0) FROM logs").fetch_one(&mut *tx).await?;
        let dead_letters: i64 = sqlx::query_scalar("SELECT count(*) FROM dead_letters").fetch_one(&mut *tx).await?;
        Ok(Measures {
            builds,
            queued: natural(row.try_get("queued")?),
            oldest_ms: row.try_get::<Option<i64>, _>("oldest")?.map(natural),
            running: natural(row.try_get("running")?),
            log_bytes: natural(log_bytes),
            incidents,
            dead_letters: natural(dead_letters),
        })
    }

    /// The place of the last attempt in their order.
    pub(crate) async fn last_attempt(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT coalesce(max(rowid), 0) FROM attempts").fetch_one(&self.readers).await?)
    }

    /// How long jobs waited that wait for no other, from when they were asked for until an agent had them, in
    /// milliseconds: of the first attempts behind a place in their order, with the place of the last.
    pub(crate) async fn waits_since(&self, place: i64) -> Result<(i64, Vec<u64>), StoreError> {
        let rows = sqlx::query(
            "SELECT a.rowid AS place, max(a.started_ms - j.created_ms, 0) AS waited
             FROM attempts a JOIN jobs j ON j.id = a.job
             WHERE a.rowid > $1 AND a.attempt = 1 AND j.needs = '[]' AND a.state <> 'abandoned' ORDER BY a.rowid",
        )
        .bind(place)
        .fetch_all(&self.readers)
        .await?;
        let last = rows.last().map(|row| row.try_get("place")).transpose()?.unwrap_or(place);
        let waited = |row: &SqliteRow| Ok::<_, StoreError>(natural(row.try_get("waited")?));
        Ok((last, rows.iter().map(waited).collect::<Result<_, _>>()?))
    }

    /// The last build that is over of a branch, or of the default branch, of a repository by its identity.
    pub(crate) async fn last_over(&self, identity: &str, branch: Option<&str>) -> Result<Option<BuildRow>, StoreError> {
        let mut tx = self.readers.begin().await?;
        let repos = sqlx::query(super::recent::NEWEST_REPOS).bind(REPOS).fetch_all(&mut *tx).await?;
        let mut newest: Option<BuildRow> = None;
        for row in &repos {
            // Several ways may lead to one repository.
            let repo: RepoUrl = name(row, "repo")?;
            if repo.identity() != identity {
                continue;
            }
            let row = sqlx::query(
                "SELECT number, repo, branch, commit_id, subject, trigger, status, ending, created_ms, started_ms, ended_ms
                 FROM builds
                 WHERE repo = $1 AND ended_ms IS NOT NULL AND trigger <> 'pull_request' AND branch = coalesce($2,
                     (SELECT default_branch FROM builds WHERE repo = $1 AND default_branch IS NOT NULL
                      ORDER BY number DESC LIMIT 1))
                 ORDER BY number DESC LIMIT 1",
            )
            .bind(repo.reveal())
            .bind(branch)
            .fetch_optional(&mut *tx)
            .await?;
            let found = row.as_ref().map(row_of).transpose()?;
            newest = newest.into_iter().chain(found).max_by_key(|build| build.number);
        }
        Ok(newest)
    }
}

fn counted(row: &SqliteRow) -> Result<(String, u64), StoreError> {
    Ok((row.try_get("name")?, natural(row.try_get("many")?)))
}
