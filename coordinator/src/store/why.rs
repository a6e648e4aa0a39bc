//! What stands behind a build besides its attempts: who asked for it, and the jobs of it that had none.

use protocol::api::{CutShort, NotRun};
use protocol::outcome::Ending;
use protocol::{AgentId, BuildNumber, JobKey};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::job_views::{Held, held};
use super::{Store, StoreError, int, json_or_none, name, natural};

/// What stands behind a build.
#[derive(Debug, Clone, Default)]
pub(crate) struct Background {
    /// Who asked for it, as that one said; of a message by hand, the queue that it lay on and who found it there.
    pub(crate) by: Option<String>,
    /// Its jobs that wait for something else than an agent.
    pub(crate) held: Vec<Held>,
    /// Its jobs that ended without an attempt.
    pub(crate) not_run: Vec<NotRun>,
    /// Its jobs that were ended in the midst because another one failed.
    pub(crate) cut_short: Vec<CutShort>,
}

impl Store {
    /// What stands behind a build.
    pub(crate) async fn background(&self, number: BuildNumber) -> Result<Background, StoreError> {
        let mut tx = self.readers.begin().await?;
        let rows = sqlx::query(
            "SELECT key, ending, skipped FROM jobs WHERE build = $1 AND child IS NULL
                    AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.job = jobs.id AND a.state <> 'abandoned')
             ORDER BY rowid",
        )
        .bind(int(number.0))
        .fetch_all(&mut *tx)
        .await?;
        let mut not_run = Vec::new();
        for row in &rows {
            let skipped: Option<String> = row.try_get("skipped")?;
            let ended = json_or_none::<Ending>(row, "ending")?.and_then(|ending| ending.message);
            if let Some(why) = skipped.or(ended) {
                not_run.push(NotRun { job: name(row, "key")?, stage: None, why });
            }
        }
        let held = held(&mut tx, number).await?;
        let cut_short = cut_short(&mut tx, number).await?;
        drop(tx);
        Ok(Background { by: self.asker(number).await?, held, not_run, cut_short })
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

async fn cut_short(tx: &mut SqliteConnection, number: BuildNumber) -> Result<Vec<CutShort>, StoreError> {
    let rows = sqlx::query(
        "SELECT key, ended_for, ending FROM jobs
         WHERE build = $1 AND ended_for IS NOT NULL AND ending ->> '$.outcome' = 'cancelled'
               AND EXISTS (SELECT 1 FROM attempts a WHERE a.job = jobs.id AND a.state <> 'abandoned')
         ORDER BY rowid",
    )
    .bind(int(number.0))
    .fetch_all(tx)
    .await?;
    let cut_short = |row: &SqliteRow| {
        let failed: JobKey = name(row, "ended_for")?;
        let said = json_or_none::<Ending>(row, "ending")?.and_then(|ending| ending.message);
        let why = said.unwrap_or_else(|| format!("{failed} failed (fail_fast)"));
        Ok(CutShort { job: name(row, "key")?, failed, why })
    };
    rows.iter().map(cut_short).collect()
}
