//! What is known of logs; their bytes are files.

use protocol::api::LogView;
use protocol::{AgentId, BuildNumber, ClaimId, LogName};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::attempts::AttemptState;
use super::log_files::LogPlace;
use super::{Store, StoreError, Transaction, int, name, natural, small};

/// One log: how much of it is safe, and whether more will come.
#[derive(Debug, Clone)]
pub(crate) struct LogMark {
    /// Its name.
    pub(crate) log: LogName,
    /// Where its bytes are.
    pub(crate) place: LogPlace,
    /// How many of them are safe.
    pub(crate) bytes: u64,
    total: Option<u64>,
    given_up: bool,
}

impl LogMark {
    /// Whether nothing more is waited for: it is whole, or its rest is given up.
    pub(crate) fn is_settled(&self) -> bool {
        self.given_up || self.is_whole()
    }

    /// What people see of it.
    pub(crate) fn view(&self) -> LogView {
        let missing = match self.total {
            Some(total) if self.given_up => total.saturating_sub(self.bytes),
            _ => 0,
        };
        let (complete, incomplete) = (self.is_whole(), self.given_up && !self.is_whole());
        LogView { name: self.log.clone(), bytes: self.bytes, complete, missing, incomplete }
    }

    fn is_whole(&self) -> bool {
        self.total.is_some_and(|total| self.bytes >= total)
    }

    /// From a row of `logs`, with what is known of its attempt.
    pub(super) fn of(row: &SqliteRow, place: LogPlace, attempt: AttemptState) -> Result<Self, StoreError> {
        let total: Option<i64> = row.try_get("total")?;
        let given_up: bool = row.try_get("given_up")?;
        Ok(Self {
            log: place.log.clone(),
            place,
            bytes: natural(row.try_get("bytes")?),
            total: total.map(natural),
            // Nobody waits for the log of an agent that went silent; what still comes of it is kept.
            given_up: given_up || matches!(attempt, AttemptState::Lost | AttemptState::Abandoned),
        })
    }
}

/// A log whose attempt is over, and which is not whole.
#[derive(Debug, Clone)]
pub(crate) struct UnfinishedLog {
    /// Of which attempt.
    pub(crate) claim: ClaimId,
    /// Which.
    pub(crate) log: LogName,
    /// Who has the rest.
    pub(crate) agent: AgentId,
    /// Of which build.
    pub(crate) build: BuildNumber,
}

/// Where the bytes of a log belong.
#[derive(Debug, Clone)]
pub(crate) struct LogTarget {
    /// Of which attempt.
    pub(crate) claim: ClaimId,
    /// Its file.
    pub(crate) place: LogPlace,
    /// Whose attempt.
    pub(crate) agent: AgentId,
    /// As which of the broker's users that agent comes, once that is known.
    pub(crate) user: Option<String>,
    /// Of which build.
    pub(crate) build: BuildNumber,
    /// How many of its bytes are safe.
    pub(crate) bytes: u64,
}

impl Store {
    /// Logs whose attempt ended and which are not whole.
    pub(crate) async fn unfinished_logs(&self) -> Result<Vec<UnfinishedLog>, StoreError> {
        let rows = sqlx::query(
            "SELECT l.claim, l.name, a.agent, j.build
             FROM logs l JOIN attempts a ON a.claim = l.claim JOIN jobs j ON j.id = a.job
             WHERE l.given_up = 0 AND (l.total IS NULL OR l.bytes < l.total)
               AND a.state NOT IN ('running', 'lost', 'abandoned')",
        )
        .fetch_all(&self.readers)
        .await?;
        let unfinished = |row: &SqliteRow| {
            Ok(UnfinishedLog {
                claim: name(row, "claim")?,
                log: name(row, "name")?,
                agent: name(row, "agent")?,
                build: BuildNumber(natural(row.try_get("build")?)),
            })
        };
        rows.iter().map(unfinished).collect()
    }

    /// Where the bytes of a claim's log belong; none for a claim that never was a job's.
    pub(crate) async fn log_target(&self, claim: ClaimId, log: &LogName) -> Result<Option<LogTarget>, StoreError> {
        let row = sqlx::query(
            "SELECT a.job, a.attempt, a.agent, g.broker_user, j.build, coalesce(l.bytes, 0) AS bytes
             FROM attempts a JOIN jobs j ON j.id = a.job
             LEFT JOIN agents g ON g.name = a.agent AND g.enrolled = 1
             LEFT JOIN logs l ON l.claim = a.claim AND l.name = $2
             WHERE a.claim = $1 AND a.state <> 'abandoned'",
        )
        .bind(claim.reveal())
        .bind(log.as_str())
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let place = LogPlace { job: name(&row, "job")?, attempt: small(row.try_get("attempt")?), log: log.clone() };
        Ok(Some(LogTarget {
            claim,
            place,
            agent: name(&row, "agent")?,
            user: row.try_get("broker_user")?,
            build: BuildNumber(natural(row.try_get("build")?)),
            bytes: natural(row.try_get("bytes")?),
        }))
    }
}

impl Transaction {
    /// So many bytes from a log's beginning are safe.
    pub(crate) async fn log_kept(&mut self, claim: ClaimId, log: &LogName, bytes: u64) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO logs (claim, name, bytes) VALUES ($1, $2, $3)
             ON CONFLICT DO UPDATE SET bytes = excluded.bytes",
        )
        .bind(claim.reveal())
        .bind(log.as_str())
        .bind(int(bytes))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// How many bytes of each of a claim's logs are safe.
    pub(crate) async fn kept_of_logs(&mut self, claim: ClaimId) -> Result<Vec<(LogName, u64)>, StoreError> {
        let rows = sqlx::query("SELECT name, bytes FROM logs WHERE claim = $1")
            .bind(claim.reveal())
            .fetch_all(&mut *self.tx)
            .await?;
        rows.iter().map(|row| Ok((name(row, "name")?, natural(row.try_get("bytes")?)))).collect()
    }

    /// A log's file holds no more than so many bytes, whatever was kept of it.
    pub(crate) async fn log_shortened(&mut self, place: &LogPlace, bytes: u64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE logs SET bytes = min(bytes, $4)
             WHERE name = $3 AND claim IN (SELECT claim FROM attempts WHERE job = $1 AND attempt = $2)",
        )
        .bind(place.job.to_string())
        .bind(place.attempt)
        .bind(place.log.as_str())
        .bind(int(bytes))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// A log is so many bytes long.
    pub(crate) async fn log_complete(&mut self, claim: ClaimId, log: &LogName, total: u64) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO logs (claim, name, total) VALUES ($1, $2, $3)
             ON CONFLICT DO UPDATE SET total = excluded.total",
        )
        .bind(claim.reveal())
        .bind(log.as_str())
        .bind(int(total))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Nobody waits for the rest of a log any more. Should it still come, it is kept.
    pub(crate) async fn give_up_log(&mut self, claim: ClaimId, log: &LogName) -> Result<(), StoreError> {
        sqlx::query("UPDATE logs SET given_up = 1 WHERE claim = $1 AND name = $2")
            .bind(claim.reveal())
            .bind(log.as_str())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }
}
