//! What people see of builds.

use std::collections::HashMap;

use protocol::api::{AttemptView, BuildRow, BuildView, KeptView, StageView, Status};
use protocol::outcome::Ending;
use protocol::{BuildNumber, ClaimId, RepoUrl};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use protocol::plan::BuildPlan;

use super::attempts::AttemptState;
use super::builds::status;
use super::job_views::job_views;
use super::log_files::LogPlace;
use super::logs::LogMark;
use super::restart::restarts_of;
use super::{Store, StoreError, int, json_or_none, name, name_or_none, natural, small};

/// A build whole, as it was at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// What is shown of it.
    pub(crate) view: BuildView,
    /// Whether a job of it waits.
    pub(crate) waits: bool,
    /// Its logs, by the number of the attempt as the view has it.
    pub(crate) logs: Vec<(u32, LogMark)>,
}

/// Which builds a list shows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    /// Older ones than this alone.
    pub(crate) before: Option<BuildNumber>,
    /// At most so many.
    pub(crate) limit: u32,
    /// Those that stand so alone.
    pub(crate) status: Option<Status>,
    /// Those of this repository alone, by any of its URLs, as people see them.
    pub(crate) repo: Option<String>,
    /// Those of this branch alone.
    pub(crate) branch: Option<String>,
}

/// The statement of a page. Each choice of what is asked for has its own, so that each is found by an index in the order
/// of the page: nothing is looked at that is not shown, but what stands otherwise among the builds of a repository or
/// branch.
pub(super) fn page_statement(repo: bool, branch: bool, status: bool) -> &'static str {
    // `+status`: not by the index of what stands so, which knows nothing of repositories.
    match (repo, branch, status) {
        (false, false, false) => "SELECT * FROM builds WHERE number < $1 ORDER BY number DESC LIMIT 0 + $2",
        (false, false, true) => {
            "SELECT * FROM builds WHERE number < $1 AND status = $3 ORDER BY number DESC LIMIT 0 + $2"
        }
        (true, false, false) => {
            "SELECT * FROM builds WHERE number < $1 AND repo = $4 ORDER BY number DESC LIMIT 0 + $2"
        }
        (false, true, false) => {
            "SELECT * FROM builds WHERE number < $1 AND branch = $5 ORDER BY number DESC LIMIT 0 + $2"
        }
        (true, true, false) => {
            "SELECT * FROM builds WHERE number < $1 AND repo = $4 AND branch = $5 ORDER BY number DESC LIMIT 0 + $2"
        }
        (true, false, true) => {
            "SELECT * FROM builds WHERE number < $1 AND repo = $4 AND +status = $3 ORDER BY number DESC LIMIT 0 + $2"
        }
        (false, true, true) => {
            "SELECT * FROM builds WHERE number < $1 AND branch = $5 AND +status = $3 ORDER BY number DESC LIMIT 0 + $2"
        }
        (true, true, true) => {
            "SELECT * FROM builds WHERE number < $1 AND repo = $4 AND branch = $5 AND +status = $3
             ORDER BY number DESC LIMIT 0 + $2"
        }
    }
}

/// Repositories are found from one to the next.
pub(super) const REPOS: &str = "
    WITH RECURSIVE repos (repo) AS (
        SELECT min(repo) FROM builds
        UNION ALL SELECT (SELECT min(repo) FROM builds WHERE repo > repos.repo) FROM repos WHERE repos.repo IS NOT NULL
    )
    SELECT repo FROM repos WHERE repo IS NOT NULL";

impl Store {
    /// Some builds, the newest first.
    pub(crate) async fn builds(&self, page: &Page) -> Result<Vec<BuildRow>, StoreError> {
        let Some(repo) = &page.repo else { return self.page(page, None).await };
        let mut found = Vec::new();
        for repo in self.stored_as(repo).await? {
            found.extend(self.page(page, Some(&repo)).await?);
        }
        found.sort_by_key(|row| std::cmp::Reverse(row.number));
        found.truncate(usize::try_from(page.limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    async fn page(&self, page: &Page, repo: Option<&str>) -> Result<Vec<BuildRow>, StoreError> {
        let rows = sqlx::query(page_statement(repo.is_some(), page.branch.is_some(), page.status.is_some()))
            .bind(page.before.map_or(i64::MAX, |number| int(number.0)))
            .bind(page.limit)
            .bind(page.status.map(Status::name))
            .bind(repo)
            .bind(&page.branch)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(row_of).collect()
    }

    /// How the store has a repository that people see so: by all the ways that lead to it. Who gives a password means
    /// what was built with that one.
    async fn stored_as(&self, shown: &str) -> Result<Vec<String>, StoreError> {
        let asked = shown.parse::<RepoUrl>().ok();
        let Some(asked) = asked.filter(|url| url.secret().is_none_or(|secret| secret == "***")) else {
            return Ok(vec![shown.to_owned()]);
        };
        let identity = asked.identity();
        let all = self.repos().await?;
        Ok(all.iter().filter(|repo| repo.identity() == identity).map(|repo| repo.reveal().to_owned()).collect())
    }

    /// All repositories of which there are builds, by each way that led to them.
    async fn repos(&self) -> Result<Vec<RepoUrl>, StoreError> {
        let rows = sqlx::query(REPOS).fetch_all(&self.readers).await?;
        rows.iter().map(|row| name(row, "repo")).collect()
    }

    /// The newest build of each of these repositories, by their identities.
    pub(crate) async fn newest_of(&self, identities: &[&str]) -> Result<HashMap<String, BuildRow>, StoreError> {
        let mut newest: HashMap<String, BuildRow> = HashMap::new();
        for repo in self.repos().await? {
            let identity = repo.identity();
            if !identities.contains(&identity.as_str()) {
                continue;
            }
            let found = self.page(&Page { limit: 1, ..Page::default() }, Some(repo.reveal())).await?;
            let known = newest.remove(&identity);
            newest.extend(found.into_iter().chain(known).max_by_key(|row| row.number).map(|row| (identity, row)));
        }
        Ok(newest)
    }

    /// One build whole.
    pub(crate) async fn snapshot(&self, number: BuildNumber) -> Result<Option<Snapshot>, StoreError> {
        // One transaction, so that all of it is of the same moment.
        let mut tx = self.readers.begin().await?;
        let row = sqlx::query(
            "SELECT *, EXISTS (SELECT 1 FROM jobs WHERE build = number AND state = 'queued') AS waits
             FROM builds WHERE number = $1",
        )
        .bind(int(number.0))
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (build, waits) = (row_of(&row)?, row.try_get("waits")?);
        let exit_code = json_or_none::<Ending>(&row, "ending")?.map(|ending| ending.outcome.exit_code());
        let mut stages = stages(&mut tx, number).await?;
        let mut logs = Vec::new();
        let mut attempts = Vec::new();
        let found = attempts_of(&mut tx, number).await?;
        let mut marks = log_rows(&mut tx, number).await?;
        // Numbered over the whole build, so that one number means one attempt whatever the job.
        for (place, row) in (1..).zip(&found) {
            let claim: ClaimId = name(row, "claim")?;
            let mut attempt = attempt_view(row, place)?;
            attempt.stages = stages.remove(&claim).unwrap_or_default();
            for row in marks.remove(&claim).unwrap_or_default() {
                let mark = log_mark(&row)?;
                attempt.logs.push(mark.view());
                logs.push((place, mark));
            }
            attempts.push(attempt);
        }
        let plan: BuildPlan = json_or_none(&row, "plan")?.unwrap_or_default();
        let view = BuildView {
            build,
            exit_code,
            attempts,
            jobs: job_views(&mut tx, number).await?,
            skipped: plan.skipped,
            inputs: json_or_none(&row, "inputs")?.unwrap_or_default(),
            origin: json_or_none(&row, "origin")?.unwrap_or_default(),
            restart_of: row.try_get::<Option<i64>, _>("restart_of")?.map(|number| BuildNumber(natural(number))),
            restarts: restarts_of(&mut tx, number).await?,
            pinned: row.try_get("pinned")?,
            logs_removed_ms: row.try_get::<Option<i64>, _>("logs_removed_ms")?.map(natural),
            artifacts_removed_ms: row.try_get::<Option<i64>, _>("artifacts_removed_ms")?.map(natural),
        };
        Ok(Some(Snapshot { view, waits, logs }))
    }
}

/// All attempts but those that were given up before they began.
async fn attempts_of(tx: &mut SqliteConnection, number: BuildNumber) -> Result<Vec<SqliteRow>, StoreError> {
    Ok(sqlx::query(
        "SELECT a.*, j.key FROM attempts a JOIN jobs j ON j.id = a.job
         WHERE j.build = $1 AND a.state <> 'abandoned' ORDER BY a.rowid",
    )
    .bind(int(number.0))
    .fetch_all(tx)
    .await?)
}

async fn stages(
    tx: &mut SqliteConnection,
    number: BuildNumber,
) -> Result<HashMap<ClaimId, Vec<StageView>>, StoreError> {
    let rows = sqlx::query(
        "SELECT s.*, k.files, k.bytes, k.sha256 FROM stages s
         JOIN attempts a ON a.claim = s.claim JOIN jobs j ON j.id = a.job
         LEFT JOIN kept k ON k.claim = s.claim AND k.stage = s.name
         WHERE j.build = $1 ORDER BY s.rowid",
    )
    .bind(int(number.0))
    .fetch_all(tx)
    .await?;
    let mut stages: HashMap<ClaimId, Vec<StageView>> = HashMap::new();
    for row in &rows {
        let duration_ms: Option<i64> = row.try_get("duration_ms")?;
        let files: Option<i64> = row.try_get("files")?;
        let kept = |files: i64| {
            let (bytes, sha256) = (natural(row.try_get("bytes")?), row.try_get("sha256")?);
            Ok::<_, StoreError>(KeptView { files: natural(files), bytes, sha256 })
        };
        stages.entry(name(row, "claim")?).or_default().push(StageView {
            name: name(row, "name")?,
            image: row.try_get("image")?,
            result: json_or_none(row, "result")?,
            duration_ms: duration_ms.map(natural),
            digest: row.try_get("digest")?,
            tries: json_or_none(row, "tries")?.unwrap_or_default(),
            tests: json_or_none(row, "tests")?,
            coverage: row.try_get("coverage")?,
            summary: row.try_get("summary")?,
            artifacts: files.map(kept).transpose()?,
        });
    }
    Ok(stages)
}

async fn log_rows(
    tx: &mut SqliteConnection,
    number: BuildNumber,
) -> Result<HashMap<ClaimId, Vec<SqliteRow>>, StoreError> {
    // The job's own log first, then in the order in which they began.
    let rows = sqlx::query(
        "SELECT l.*, a.job, a.attempt, a.state FROM logs l
         JOIN attempts a ON a.claim = l.claim JOIN jobs j ON j.id = a.job
         WHERE j.build = $1 ORDER BY l.name <> '0-job', l.rowid",
    )
    .bind(int(number.0))
    .fetch_all(tx)
    .await?;
    let mut logs: HashMap<ClaimId, Vec<SqliteRow>> = HashMap::new();
    for row in rows {
        logs.entry(name(&row, "claim")?).or_default().push(row);
    }
    Ok(logs)
}

fn log_mark(row: &SqliteRow) -> Result<LogMark, StoreError> {
    let place = LogPlace { job: name(row, "job")?, attempt: small(row.try_get("attempt")?), log: name(row, "name")? };
    LogMark::of(row, place, AttemptState::of(row)?)
}

fn attempt_view(row: &SqliteRow, place: u32) -> Result<AttemptView, StoreError> {
    let ended_ms: Option<i64> = row.try_get("ended_ms")?;
    Ok(AttemptView {
        job: row.try_get("key")?,
        attempt: place,
        agent: row.try_get("agent")?,
        state: row.try_get("state")?,
        started_ms: natural(row.try_get("started_ms")?),
        ended_ms: ended_ms.map(natural),
        loss: json_or_none(row, "loss")?,
        stages: Vec::new(),
        logs: Vec::new(),
    })
}

pub(super) fn row_of(row: &SqliteRow) -> Result<BuildRow, StoreError> {
    let repo: RepoUrl = name(row, "repo")?;
    let time = |column: &str| Ok::<_, StoreError>(row.try_get::<Option<i64>, _>(column)?.map(natural));
    Ok(BuildRow {
        number: BuildNumber(natural(row.try_get("number")?)),
        repo: repo.to_string(),
        branch: name_or_none(row, "branch")?,
        commit: name_or_none(row, "commit_id")?,
        subject: row.try_get("subject")?,
        trigger: row.try_get("trigger")?,
        status: status(row.try_get("status")?)?,
        message: json_or_none::<Ending>(row, "ending")?.and_then(|ending| ending.message),
        created_ms: time("created_ms")?.unwrap_or(0),
        started_ms: time("started_ms")?,
        ended_ms: time("ended_ms")?,
    })
}
