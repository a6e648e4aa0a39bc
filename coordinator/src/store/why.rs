//! What stands behind a build besides its attempts: who asked for it, and the jobs of it that had none.

use protocol::api::{NeededJob, NotRun, Status};
use protocol::outcome::Ending;
use protocol::{AgentId, BuildNumber, JobKey};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::builds::{status, status_of};
use super::{Store, StoreError, int, json, json_or_none, name, natural, small};

/// What stands behind a build.
#[derive(Debug, Clone, Default)]
pub(crate) struct Background {
    /// Who asked for it, as that one said; of a message by hand, the queue that it lay on and who found it there.
    pub(crate) by: Option<String>,
    /// Its jobs that wait for others of it, with when they were made and what they wait for.
    pub(crate) needing: Vec<(JobKey, u64, Vec<NeededJob>)>,
    /// Its jobs that ended without an attempt.
    pub(crate) not_run: Vec<NotRun>,
}

/// A job of a build, as far as it matters here.
struct Sibling {
    key: JobKey,
    needs: Vec<JobKey>,
    status: Status,
    unmet: u32,
    ending: Option<Ending>,
    tried: bool,
    created_ms: u64,
}

impl Store {
    /// What stands behind a build.
    pub(crate) async fn background(&self, number: BuildNumber) -> Result<Background, StoreError> {
        let rows = sqlx::query(
            "SELECT key, needs, state, cancelling, unmet, ending, created_ms,
                    EXISTS (SELECT 1 FROM attempts WHERE job = jobs.id AND attempts.state <> 'abandoned') AS tried
             FROM jobs WHERE build = $1 ORDER BY rowid",
        )
        .bind(int(number.0))
        .fetch_all(&self.readers)
        .await?;
        let jobs = rows.iter().map(sibling).collect::<Result<Vec<_>, _>>()?;
        let standing = |key: &JobKey| jobs.iter().find(|job| job.key == *key).map(|job| job.status);
        let open = |needs: &[JobKey]| -> Vec<NeededJob> {
            let need = |job: &JobKey| Some(NeededJob { job: job.clone(), status: standing(job)? });
            needs.iter().filter_map(need).filter(|need| need.status != Status::Passed).collect()
        };
        let needing = jobs.iter().filter(|job| job.status == Status::Queued && job.unmet > 0);
        let untried = jobs.iter().filter(|job| !job.tried);
        let not_run = untried.filter_map(|job| {
            let why = job.ending.as_ref()?.message.clone()?;
            Some(NotRun { job: job.key.clone(), stage: None, why })
        });
        Ok(Background {
            by: self.asker(number).await?,
            needing: needing.map(|job| (job.key.clone(), job.created_ms, open(&job.needs))).collect(),
            not_run: not_run.collect(),
        })
    }

    async fn asker(&self, number: BuildNumber) -> Result<Option<String>, StoreError> {
        let row = sqlx::query(
            "SELECT b.asked_by, a.queue, a.agent FROM builds b
             LEFT JOIN jobs j ON j.build = b.number LEFT JOIN adoptions a ON a.job = j.id
             WHERE b.number = $1 ORDER BY a.job IS NULL LIMIT 1",
        )
        .bind(int(number.0))
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let by: Option<String> = row.try_get("asked_by")?;
        let queue: Option<String> = row.try_get("queue")?;
        let agent: Option<String> = row.try_get("agent")?;
        let found = queue.zip(agent).map(|(queue, agent)| format!("a message on {queue}, which agent {agent} took"));
        Ok(by.or(found))
    }

    /// The build that a question without a number is about: the newest that waits, or else the newest.
    pub(crate) async fn newest_to_ask_for(&self) -> Result<Option<BuildNumber>, StoreError> {
        let row = sqlx::query(
            "SELECT coalesce((SELECT max(build) FROM jobs WHERE state <> 'ended' AND state = 'queued'),
                             (SELECT max(number) FROM builds)) AS number",
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(row.try_get::<Option<i64>, _>("number")?.map(|number| BuildNumber(natural(number))))
    }

    /// The agent of the farm that was here last, and when that was, in milliseconds since 1970.
    pub(crate) async fn last_here(&self) -> Result<Option<(AgentId, u64)>, StoreError> {
        let row = sqlx::query(
            "SELECT name, seen_ms FROM agents WHERE enrolled AND seen_ms IS NOT NULL ORDER BY seen_ms DESC LIMIT 1",
        )
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| Ok((name(&row, "name")?, natural(row.try_get("seen_ms")?)))).transpose()
    }
}

fn sibling(row: &SqliteRow) -> Result<Sibling, StoreError> {
    let ending: Option<Ending> = json_or_none(row, "ending")?;
    let cancelling: Option<&str> = row.try_get("cancelling")?;
    let status = match (&ending, row.try_get::<&str, _>("state")?) {
        (Some(ending), _) => status_of(ending.outcome),
        (None, _) if cancelling.is_some() => Status::Cancelling,
        (None, state) => status(state)?,
    };
    Ok(Sibling {
        key: name(row, "key")?,
        needs: json(row, "needs")?,
        status,
        unmet: small(row.try_get("unmet")?),
        ending,
        tried: row.try_get("tried")?,
        created_ms: natural(row.try_get("created_ms")?),
    })
}
