//! What is still to be said outside: status messages to publishers, and messages that are laid aside for people.

use bytes::Bytes;
use protocol::job::{ReplyTo, StatusMessage};
use protocol::link::DeadLetter;
use protocol::report::Rejected;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, Transaction, int, json};

/// A status message that waits to be sent.
#[derive(Debug, Clone)]
pub(crate) struct OpenReply {
    /// Its place in the outbox.
    pub(crate) id: i64,
    /// Who wants it.
    pub(crate) to: ReplyTo,
    /// What it says.
    pub(crate) status: StatusMessage,
}

/// A message that waits to be buried.
#[derive(Debug, Clone)]
pub(crate) struct OpenLetter {
    /// Its place in the outbox.
    pub(crate) id: i64,
    /// The message and the reason.
    pub(crate) letter: DeadLetter,
}

/// How many are taken out at once.
const PAGE: i64 = 100;

/// How much of a message laid aside is kept, in bytes.
const EXCERPT: usize = 4 << 10;

/// How many bytes of the reason.
const LONGEST_REASON: usize = 1 << 10;

/// How long after it was laid aside a message may still come back from an agent that ended before it could say that
/// it was done with it.
const COMES_BACK_MS: u64 = 10 * 60 * 1000;

/// How many messages that were laid aside are kept for people to look at.
const KEPT: i64 = 10_000;

impl Store {
    /// Status messages that wait, the oldest first.
    pub(crate) async fn open_replies(&self) -> Result<Vec<OpenReply>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM replies ORDER BY id LIMIT 0 + $1").bind(PAGE).fetch_all(&self.readers).await?;
        let reply = |row: &SqliteRow| {
            let to = ReplyTo { queue: row.try_get("queue")?, correlation_id: row.try_get("correlation")? };
            Ok(OpenReply { id: row.try_get("id")?, to, status: json(row, "status")? })
        };
        rows.iter().map(reply).collect()
    }

    /// Messages that wait to be buried, the oldest first.
    pub(crate) async fn open_letters(&self) -> Result<Vec<OpenLetter>, StoreError> {
        let rows = sqlx::query("SELECT * FROM dead_letters WHERE buried = 0 ORDER BY id LIMIT 0 + $1")
            .bind(PAGE)
            .fetch_all(&self.readers)
            .await?;
        let letter = |row: &SqliteRow| {
            let body = Bytes::from(row.try_get::<Vec<u8>, _>("body")?);
            let letter = DeadLetter { body, queue: row.try_get("queue")?, reason: row.try_get("reason")? };
            Ok(OpenLetter { id: row.try_get("id")?, letter })
        };
        rows.iter().map(letter).collect()
    }
}

impl Transaction {
    /// Puts a status message into the outbox.
    pub(crate) async fn insert_reply(&mut self, to: &ReplyTo, status: &StatusMessage) -> Result<(), StoreError> {
        self.left.outbox = true;
        sqlx::query("INSERT INTO replies (queue, correlation, status) VALUES ($1, $2, $3)")
            .bind(&to.queue)
            .bind(&to.correlation_id)
            .bind(super::to_json("status message", status)?)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// A status message was sent, or will never be.
    pub(crate) async fn reply_done(&mut self, id: i64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM replies WHERE id = $1").bind(id).execute(&mut *self.tx).await?;
        Ok(())
    }

    /// Lays a message aside for people: of its bytes as many as they need to see what it was.
    pub(crate) async fn lay_aside(&mut self, letter: &DeadLetter, now_ms: u64) -> Result<(), StoreError> {
        self.left.outbox = true;
        let kept = sqlx::query("INSERT INTO dead_letters (queue, body, reason, at_ms) VALUES ($1, $2, $3, $4)")
            .bind(&letter.queue)
            .bind(&letter.body[..letter.body.len().min(EXCERPT)])
            .bind(&letter.reason[..letter.reason.floor_char_boundary(LONGEST_REASON)])
            .bind(int(now_ms))
            .execute(&mut *self.tx)
            .await?;
        // Also of what the broker does not take: its queue may have a limit of its own.
        sqlx::query("DELETE FROM dead_letters WHERE id <= $1")
            .bind(kept.last_insert_rowid() - KEPT)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Whether what an agent found on a queue was laid aside already: the same finding, or one of the same bytes a
    /// short while ago of which the broker says that it has come back.
    pub(crate) async fn is_known_finding(&mut self, found: &Rejected, now_ms: u64) -> Result<bool, StoreError> {
        let known: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM dead_letters WHERE finding = $1)
                 OR $2 AND EXISTS (SELECT 1 FROM dead_letters WHERE digest = $3 AND queue = $4 AND at_ms >= $5)",
        )
        .bind(found.id.map(|id| id.to_string()))
        .bind(found.redelivered)
        .bind(&found.digest)
        .bind(&found.queue)
        .bind(int(now_ms.saturating_sub(COMES_BACK_MS)))
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(known)
    }

    /// Writes to the message laid aside last which finding it was.
    pub(crate) async fn name_finding(&mut self, found: &Rejected) -> Result<(), StoreError> {
        sqlx::query("UPDATE dead_letters SET finding = $1, digest = $2 WHERE id = (SELECT max(id) FROM dead_letters)")
            .bind(found.id.map(|id| id.to_string()))
            .bind(&found.digest)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// A message is buried at the broker too.
    pub(crate) async fn letter_buried(&mut self, id: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE dead_letters SET buried = 1 WHERE id = $1").bind(id).execute(&mut *self.tx).await?;
        Ok(())
    }
}
