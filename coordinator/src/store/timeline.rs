//! Where the time of builds went, as it was written down.

use protocol::api::BuildRow;
use protocol::report::{MAX_SPANS, Span};
use protocol::{BuildNumber, ClaimId, JobKey};
use sqlx::Row as _;

use super::views::row_of;
use super::{Store, StoreError, Transaction, int, json, json_or_none, name, natural, to_json};

/// The times of one build.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    /// What a list shows of it.
    pub(crate) build: BuildRow,
    /// Its attempts, the oldest first.
    pub(crate) attempts: Vec<AttemptTimes>,
}

/// The times of one attempt. All of the coordinator's clock but what its agent spent.
#[derive(Debug, Clone)]
pub(crate) struct AttemptTimes {
    /// Of which job.
    pub(crate) job: JobKey,
    /// The jobs that had to be over before.
    pub(crate) needs: Vec<JobKey>,
    /// When the job was made.
    pub(crate) created_ms: u64,
    /// By whom it was taken.
    pub(crate) agent: String,
    /// When it was granted.
    pub(crate) started_ms: u64,
    /// When its end was recorded.
    pub(crate) ended_ms: Option<u64>,
    /// What its agent wrote down.
    pub(crate) spent: Vec<Span>,
}

impl Store {
    /// The times of a build.
    pub(crate) async fn times_of(&self, number: BuildNumber) -> Result<Option<Times>, StoreError> {
        let mut tx = self.readers.begin().await?;
        let row = sqlx::query("SELECT * FROM builds WHERE number = $1").bind(int(number.0));
        let Some(row) = row.fetch_optional(&mut *tx).await? else { return Ok(None) };
        let build = row_of(&row)?;
        let rows = sqlx::query(
            "SELECT a.agent, a.started_ms, a.ended_ms, a.spent, j.key, j.needs, j.created_ms
             FROM attempts a JOIN jobs j ON j.id = a.job
             WHERE j.build = $1 AND a.state <> 'abandoned' ORDER BY a.rowid",
        )
        .bind(int(number.0))
        .fetch_all(&mut *tx)
        .await?;
        let attempts = rows.iter().map(|row| {
            Ok::<_, StoreError>(AttemptTimes {
                job: name(row, "key")?,
                needs: json(row, "needs")?,
                created_ms: natural(row.try_get("created_ms")?),
                agent: row.try_get("agent")?,
                started_ms: natural(row.try_get("started_ms")?),
                ended_ms: row.try_get::<Option<i64>, _>("ended_ms")?.map(natural),
                spent: json_or_none(row, "spent")?.unwrap_or_default(),
            })
        });
        Ok(Some(Times { build, attempts: attempts.collect::<Result<_, _>>()? }))
    }
}

impl Transaction {
    /// Writes down where an attempt's time went.
    pub(crate) async fn spent(&mut self, claim: ClaimId, spent: &[Span]) -> Result<(), StoreError> {
        if spent.is_empty() {
            return Ok(());
        }
        let spent = &spent[..spent.len().min(MAX_SPANS)];
        sqlx::query("UPDATE attempts SET spent = $2 WHERE claim = $1")
            .bind(claim.reveal())
            .bind(to_json("span", &spent)?)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }
}
