//! Branches that broke or were fixed: written down in the transaction that ends the build, once for each who wants to
//! hear of it.

use protocol::api::BuildRow;
use protocol::{BuildNumber, RepoUrl};
use sqlx::Row as _;

use super::views::row_of;
use super::{Store, StoreError, Transaction, int, json, name, natural, small, to_json};

/// Who wants to hear when a branch breaks or is fixed, whatever its project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hearers {
    /// Whether the farm's webhook does.
    pub(crate) webhook: bool,
    /// Those who get a mail, by their addresses; none where no mail is sent at all.
    pub(crate) mail: Option<Vec<String>>,
}

/// How something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SaidBy {
    /// By the farm's webhook.
    Webhook,
    /// By mail.
    Mail,
}

/// Something that is to be said.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    /// Its place in the outbox.
    pub(crate) id: i64,
    /// By which its receiver knows it again.
    pub(crate) message: String,
    /// The address that it goes to; empty for the webhook's.
    pub(crate) recipient: String,
    /// `broken` or `fixed`.
    pub(crate) kind: String,
    /// The build that ended.
    pub(crate) build: BuildRow,
    /// Who wrote the commit, where that is known.
    pub(crate) author: Option<String>,
    /// The build of the branch before it.
    pub(crate) before: BuildNumber,
    /// When it ended, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// How often it was tried to say it.
    pub(crate) tries: u32,
}

impl Store {
    /// The same, where these want to hear when a branch breaks or is fixed.
    pub(crate) fn with_hearers(self, hearers: Hearers) -> Self {
        Self { hearers: hearers.into(), ..self }
    }

    /// What is to be said so by now, the oldest first. To one hearer nothing is passed over: who hears that a branch is
    /// fixed has heard that it broke. What waits for longer than `longest_ms` was put off when the clock was ahead.
    pub(crate) async fn next_notice(
        &self,
        by: SaidBy,
        now_ms: u64,
        longest_ms: u64,
    ) -> Result<Option<Notice>, StoreError> {
        let row = sqlx::query(
            "SELECT b.*, n.id, n.message, n.recipient, n.kind, n.before, n.at_ms, n.tries
             FROM notices n JOIN builds b ON b.number = n.build
             WHERE (n.recipient <> '') = $1 AND (n.not_before_ms <= $2 OR n.not_before_ms > $2 + $3)
                   AND n.id = (SELECT min(m.id) FROM notices m WHERE m.recipient = n.recipient)
             ORDER BY n.id LIMIT 1",
        )
        .bind(by == SaidBy::Mail)
        .bind(int(now_ms))
        .bind(int(longest_ms))
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Notice {
            id: row.try_get("id")?,
            message: row.try_get("message")?,
            recipient: row.try_get("recipient")?,
            kind: row.try_get("kind")?,
            build: row_of(&row)?,
            author: row.try_get("author")?,
            before: BuildNumber(natural(row.try_get("before")?)),
            at_ms: natural(row.try_get("at_ms")?),
            tries: small(row.try_get("tries")?),
        }))
    }

    /// Whether anything is to be said so, now or later.
    pub(crate) async fn has_notices(&self, by: SaidBy) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM notices WHERE (recipient <> '') = $1) AS found")
            .bind(by == SaidBy::Mail)
            .fetch_one(&self.readers)
            .await?;
        Ok(row.try_get("found")?)
    }
}

impl Transaction {
    /// Writes down that a branch broke or was fixed by a build that has just ended, for each who wants to hear of it.
    /// What was cancelled says nothing of a branch, and neither do pull requests and tags, a build that a newer one has
    /// overtaken, and one that is done again of a commit that the branch has left behind.
    pub(super) async fn want_notice(&mut self, number: BuildNumber, now_ms: u64) -> Result<(), StoreError> {
        let recipients = self.recipients(number).await?;
        if recipients.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO notices (message, build, before, kind, at_ms, recipient)
             SELECT $2, b.number, p.number, CASE b.status WHEN 'passed' THEN 'fixed' ELSE 'broken' END, $3, r.value
             FROM branch_states b JOIN branch_states p ON p.number = (
                 SELECT o.number FROM branch_states o
                 WHERE o.repo = b.repo AND o.branch = b.branch AND o.scheduled = b.scheduled AND o.number < b.number
                 ORDER BY o.number DESC LIMIT 1)
             JOIN json_each($4) r
             WHERE b.number = $1 AND (b.status = 'passed') <> (p.status = 'passed')
                   AND NOT EXISTS (SELECT 1 FROM branch_states n
                                   WHERE n.repo = b.repo AND n.branch = b.branch AND n.scheduled = b.scheduled
                                         AND n.number > b.number)",
        )
        .bind(int(number.0))
        .bind(format!("msg_{}", uuid::Uuid::new_v4().simple()))
        .bind(int(now_ms))
        .bind(to_json("recipients", &recipients)?)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Who wants to hear of a build, each once: the webhook, and by mail those of the farm and of the project.
    async fn recipients(&mut self, number: BuildNumber) -> Result<Vec<String>, StoreError> {
        let hearers = std::sync::Arc::clone(&self.hearers);
        let mut all = Vec::new();
        if hearers.webhook {
            all.push(String::new());
        }
        let Some(mail) = &hearers.mail else { return Ok(all) };
        all.extend(mail.iter().cloned());
        let row = sqlx::query("SELECT repo FROM builds WHERE number = $1")
            .bind(int(number.0))
            .fetch_one(&mut *self.tx)
            .await?;
        let repo: RepoUrl = name(&row, "repo")?;
        let row = sqlx::query("SELECT mail FROM projects WHERE identity = $1")
            .bind(repo.identity())
            .fetch_optional(&mut *self.tx)
            .await?;
        let own: Vec<String> = row.map(|row| json(&row, "mail")).transpose()?.unwrap_or_default();
        for address in own {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        Ok(all)
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
