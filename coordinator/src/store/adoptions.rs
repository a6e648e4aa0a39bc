//! Adoptions: which job was made for which message that somebody published by hand.
//!
//! A message with an id is adopted once. One without may be delivered again after it was adopted; it then belongs
//! to its job only when it is *known* to have come back, for else two equal messages would become one build.

use protocol::{AgentId, BootId, ClaimId, JobId};

use super::{StoreError, Transaction, name};

/// A message, and the claim that brought it.
#[derive(Debug, Clone)]
pub(crate) struct Adoption {
    /// The queue it lay on.
    pub(crate) queue: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub(crate) digest: String,
    /// Its own id, when it has one.
    pub(crate) message_id: Option<String>,
    /// The claim in whose hands it is.
    pub(crate) claim: ClaimId,
    /// Whose claim.
    pub(crate) agent: AgentId,
    /// In which life.
    pub(crate) boot: BootId,
}

/// What became of a message, as its agent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The broker took the acknowledgement.
    Acknowledged,
    /// The broker delivers it again.
    Again,
}

impl Settled {
    fn name(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Again => "again",
        }
    }
}

impl Transaction {
    /// A message became this job.
    pub(crate) async fn insert_adoption(&mut self, job: JobId, adoption: &Adoption) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO adoptions (job, queue, digest, message_id, claim, agent, boot)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(job.to_string())
        .bind(&adoption.queue)
        .bind(&adoption.digest)
        .bind(&adoption.message_id)
        .bind(adoption.claim.reveal())
        .bind(adoption.agent.as_str())
        .bind(adoption.boot.to_string())
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// The job of a message with this id and these bytes.
    pub(crate) async fn adopted(&mut self, message_id: &str, digest: &str) -> Result<Option<JobId>, StoreError> {
        let row = sqlx::query("SELECT job FROM adoptions WHERE message_id = $1 AND digest = $2")
            .bind(message_id)
            .bind(digest)
            .fetch_optional(&mut *self.tx)
            .await?;
        row.map(|row| name(&row, "job")).transpose()
    }

    /// The job of a message without id that is known to have come back: of these bytes, from this queue. From now
    /// on it is in the hands of the claim that brought it, so each coming back is absorbed once.
    pub(crate) async fn absorb(&mut self, adoption: &Adoption) -> Result<Option<JobId>, StoreError> {
        let row = sqlx::query(
            "UPDATE adoptions SET settled = 'unknown', claim = $3, agent = $4, boot = $5
             WHERE job = (SELECT job FROM adoptions WHERE digest = $1 AND queue = $2 AND settled = 'again'
                          AND message_id IS NULL ORDER BY rowid LIMIT 1)
             RETURNING job",
        )
        .bind(&adoption.digest)
        .bind(&adoption.queue)
        .bind(adoption.claim.reveal())
        .bind(adoption.agent.as_str())
        .bind(adoption.boot.to_string())
        .fetch_optional(&mut *self.tx)
        .await?;
        row.map(|row| name(&row, "job")).transpose()
    }

    /// An agent says what became of the message that a claim brought.
    pub(crate) async fn settle(&mut self, claim: ClaimId, settled: Settled) -> Result<(), StoreError> {
        // An agent that ended in good order may not have come to say of this one, and be believed later.
        sqlx::query(
            "UPDATE adoptions SET settled = $2
             WHERE claim = $1 AND (settled = 'unknown' OR (settled = 'again' AND $2 = 'acknowledged'))",
        )
        .bind(claim.reveal())
        .bind(settled.name())
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// An agent ended in good order: it had said of each message that it acknowledged, so the others came back.
    pub(crate) async fn settle_all(&mut self, agent: &AgentId, boot: BootId) -> Result<(), StoreError> {
        sqlx::query("UPDATE adoptions SET settled = 'again' WHERE agent = $1 AND boot = $2 AND settled = 'unknown'")
            .bind(agent.as_str())
            .bind(boot.to_string())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }
}
