//! What people see of builds.

use std::collections::HashMap;

use protocol::api::{AttemptView, BuildRow, BuildView, KeptView, StageView, Status};
use protocol::outcome::Ending;
use protocol::{Branch, BuildNumber, ClaimId, RepoUrl};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, SqliteConnection};

use protocol::plan::BuildPlan;

use super::attempts::AttemptState;
use super::builds::status;
use super::job_views::job_views;
use super::log_files::LogPlace;
use super::logs::LogMark;
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
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page<'a> {
    /// Older ones than this alone.
    pub(crate) before: Option<BuildNumber>,
    /// At most so many.
    pub(crate) limit: u32,
    /// Those that stand so alone.
    pub(crate) status: Option<Status>,
    /// Those of this repository alone.
    pub(crate) repo: Option<&'a str>,
    /// Those of this branch alone.
    pub(crate) branch: Option<&'a Branch>,
}

impl Store {
    /// Some builds, the newest first.
    pub(crate) async fn builds(&self, page: Page<'_>) -> Result<Vec<BuildRow>, StoreError> {
        // Only what is asked for is in the text, so that each question finds its index.
        let mut query = QueryBuilder::new("SELECT * FROM builds WHERE number < ");
        query.push_bind(page.before.map_or(i64::MAX, |number| int(number.0)));
        let asked = [
            ("status", page.status.map(Status::name)),
            ("repo", page.repo),
            ("branch", page.branch.map(Branch::as_str)),
        ];
        for (column, value) in asked {
            if let Some(value) = value {
                query.push(format_args!(" AND {column} = ")).push_bind(value);
            }
        }
        query.push(" ORDER BY number DESC LIMIT ").push_bind(page.limit);
        query.build().fetch_all(&self.readers).await?.iter().map(row_of).collect()
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
