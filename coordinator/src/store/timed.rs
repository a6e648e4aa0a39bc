//! What may take only so long, and what is left of that.

use protocol::api::WaitReason;
use protocol::state::Happening;
use protocol::{BuildNumber, JobId};
use sqlx::Row as _;

use super::job_views::held;
use super::{Store, StoreError, Transaction, int, name, natural};

/// Something that may take only so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Timed {
    /// A job that waits for a person.
    Gate(JobId),
    /// A build's last job, in work.
    Last(JobId),
    /// A build of which something is in work, or waits for an agent.
    Build(BuildNumber),
}

impl Store {
    /// All whose time counts now, each with what was left of it when that was written down last, in milliseconds.
    pub(crate) async fn timed(&self) -> Result<Vec<(Timed, u64)>, StoreError> {
        let mut tx = self.readers.begin().await?;
        let rows = sqlx::query(
            // Of a job behind a gate it is the time for the answer, and none of the job's own.
            "SELECT id, key, build, state, left_ms FROM jobs
             WHERE state <> 'ended' AND left_ms > 0
               AND ((state = 'running' AND terms ->> '$.finally') OR (unmet > 0 AND answer IS NULL))",
        )
        .fetch_all(&mut *tx)
        .await?;
        let mut timed = Vec::new();
        for row in &rows {
            let (id, left_ms) = (name(row, "id")?, natural(row.try_get("left_ms")?));
            if row.try_get::<&str, _>("state")? == "running" {
                timed.push((Timed::Last(id), left_ms));
                continue;
            }
            let key: protocol::JobKey = name(row, "key")?;
            let held = held(&mut tx, BuildNumber(natural(row.try_get("build")?))).await?;
            if held.iter().any(|held| held.key == key && matches!(held.why, WaitReason::Approval(_))) {
                timed.push((Timed::Gate(id), left_ms));
            }
        }
        let rows = sqlx::query(
            "SELECT number, left_ms FROM builds WHERE ended_ms IS NULL AND left_ms > 0
             AND EXISTS (SELECT 1 FROM jobs WHERE build = number AND state <> 'ended'
                         AND (state = 'running' OR unmet <= 0))",
        )
        .fetch_all(&mut *tx)
        .await?;
        for row in &rows {
            let number = BuildNumber(natural(row.try_get("number")?));
            timed.push((Timed::Build(number), natural(row.try_get("left_ms")?)));
        }
        Ok(timed)
    }
}

impl Transaction {
    /// Writes down what is left.
    pub(crate) async fn write_left(&mut self, timed: Timed, left_ms: u64) -> Result<(), StoreError> {
        let (statement, whose) = match timed {
            Timed::Gate(id) | Timed::Last(id) => ("UPDATE jobs SET left_ms = $2 WHERE id = $1", id.to_string()),
            Timed::Build(number) => {
                ("UPDATE builds SET left_ms = $2 WHERE number = CAST($1 AS INTEGER)", number.0.to_string())
            }
        };
        sqlx::query(statement).bind(whose).bind(int(left_ms)).execute(&mut *self.tx).await?;
        Ok(())
    }

    /// How long a build may take, in milliseconds.
    pub(crate) async fn time_limit(&mut self, build: BuildNumber) -> Result<Option<u64>, StoreError> {
        let row = sqlx::query("SELECT plan ->> '$.timeout_ms' AS limit_ms FROM builds WHERE number = $1")
            .bind(int(build.0))
            .fetch_optional(&mut *self.tx)
            .await?;
        Ok(row.map(|row| row.try_get::<Option<i64>, _>("limit_ms")).transpose()?.flatten().map(natural))
    }

    /// Asks one job to end.
    pub(crate) async fn cancel_job(&mut self, id: JobId, reason: &str, now_ms: u64) -> Result<(), StoreError> {
        let Some(job) = self.job(id).await? else { return Ok(()) };
        let after = self.step(&job, &Happening::CancelAsked { reason: reason.to_owned() }, now_ms).await?;
        self.say_asked_to_end(after.ok(), reason);
        self.advance(job.build, now_ms).await
    }
}
