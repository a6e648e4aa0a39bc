//! Branches that broke or were fixed: written down in the transaction that ends the build, where somebody wants to hear
//! of it.

use protocol::BuildNumber;
use protocol::api::BuildRow;
use sqlx::Row as _;

use super::views::row_of;
use super::{Store, StoreError, Transaction, int, natural, small};

/// Something that is to be said.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    /// Its place in the outbox.
    pub(crate) id: i64,
    /// By which its receiver knows it again.
    pub(crate) message: String,
    /// `broken` or `fixed`.
    pub(crate) kind: String,
    /// The build that ended.
    pub(crate) build: BuildRow,
    /// The build of the branch before it.
    pub(crate) before: BuildNumber,
    /// When it ended, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// How often it was tried to say it.
    pub(crate) tries: u32,
}

impl Store {
    /// The same, where somebody wants to hear when a branch breaks or is fixed.
    pub(crate) fn with_notices(self, notices: bool) -> Self {
        Self { notices, ..self }
    }

    /// What is to be said by now, the oldest first. None is passed over: who hears that a branch is fixed has heard that
    /// it broke.
    pub(crate) async fn next_notice(&self, now_ms: u64) -> Result<Option<Notice>, StoreError> {
        let row = sqlx::query(
            "SELECT b.*, n.id, n.message, n.kind, n.before, n.at_ms, n.tries, n.not_before_ms
             FROM notices n JOIN builds b ON b.number = n.build ORDER BY n.id LIMIT 1",
        )
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row.filter(|row| row.try_get("not_before_ms").is_ok_and(|at: i64| natural(at) <= now_ms))
        else {
            return Ok(None);
        };
        Ok(Some(Notice {
            id: row.try_get("id")?,
            message: row.try_get("message")?,
            kind: row.try_get("kind")?,
            build: row_of(&row)?,
            before: BuildNumber(natural(row.try_get("before")?)),
            at_ms: natural(row.try_get("at_ms")?),
            tries: small(row.try_get("tries")?),
        }))
    }

    /// Whether anything is to be said, now or later.
    pub(crate) async fn has_notices(&self) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM notices) AS found").fetch_one(&self.readers).await?;
        Ok(row.try_get("found")?)
    }
}

impl Transaction {
    /// Writes down that a branch broke or was fixed by a build that has just ended, where somebody wants to hear of it.
    /// What was cancelled says nothing, and neither do pull requests and tags.
    pub(super) async fn want_notice(&mut self, number: BuildNumber, now_ms: u64) -> Result<(), StoreError> {
        if !self.notices {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO notices (message, build, before, kind, at_ms)
             SELECT $2, b.number, p.number, CASE b.status WHEN 'passed' THEN 'fixed' ELSE 'broken' END, $3
             FROM builds b JOIN builds p ON p.number = (
                 SELECT o.number FROM builds o
                 WHERE o.repo = b.repo AND o.branch = b.branch AND o.number < b.number
                       AND o.status IN ('passed', 'failed', 'errored')
                       AND o.origin ->> '$.pull_request' IS NULL AND o.origin ->> '$.tag' IS NULL
                 ORDER BY o.number DESC LIMIT 1)
             WHERE b.number = $1 AND b.status IN ('passed', 'failed', 'errored')
                   AND b.origin ->> '$.pull_request' IS NULL AND b.origin ->> '$.tag' IS NULL
                   AND (b.status = 'passed') <> (p.status = 'passed')",
        )
        .bind(int(number.0))
        .bind(format!("msg_{}", uuid::Uuid::new_v4().simple()))
        .bind(int(now_ms))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Something was said, or never will be.
    pub(crate) async fn notice_done(&mut self, id: i64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM notices WHERE id = $1").bind(id).execute(&mut *self.tx).await?;
        Ok(())
    }

    /// Something could not be said, and is to be said again.
    pub(crate) async fn notice_later(&mut self, id: i64, not_before_ms: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE notices SET tries = tries + 1, not_before_ms = $2 WHERE id = $1")
            .bind(id)
            .bind(int(not_before_ms))
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }
}
