//! What forges delivered: kept before it is answered, handled from here, and known again when it comes once more.

use std::collections::BTreeMap;

use protocol::api::{DeliveryView, Forge};
use protocol::{BuildNumber, CommitId, RepoUrl};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::builds::{Build, build_of};
use super::{Store, StoreError, Transaction, int, json, json_or_none, name, natural, small, to_json};

/// How many handled deliveries of a project are kept.
const KEPT: i64 = 200;

/// The longest body that is kept once it is handled, in bytes: 200 of them are 50 MiB.
const LONGEST_KEPT: i64 = 256 << 10;

/// For how long a delivery is known again, in milliseconds.
const REMEMBERED_MS: u64 = 24 * 60 * 60 * 1000;

/// A genuine delivery.
#[derive(Debug, Clone)]
pub(crate) struct NewDelivery {
    /// Of which project.
    pub(crate) project: String,
    /// From what kind of server.
    pub(crate) forge: Forge,
    /// The forge's word for what happened.
    pub(crate) event: String,
    /// Its headers that matter, without those that prove something.
    pub(crate) headers: BTreeMap<String, String>,
    /// All of its bytes.
    pub(crate) body: Vec<u8>,
    /// The forge's name for it.
    pub(crate) forge_id: Option<String>,
    /// By what it is known again.
    pub(crate) marks: Vec<String>,
    /// The one that it repeats, when a person asked for that.
    pub(crate) redelivers: Option<u64>,
    /// What came of it, when that is known and nothing is left to do.
    pub(crate) verdict: Option<String>,
}

/// A delivery with what it says.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// What people see of it.
    pub(crate) view: DeliveryView,
    /// Its headers.
    pub(crate) headers: BTreeMap<String, String>,
    /// Its bytes; none when they are not kept any more.
    pub(crate) body: Vec<u8>,
}

/// What became of a delivery that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It is a new one.
    New(u64),
    /// It was here already.
    Replay(u64),
}

impl Store {
    /// Deliveries, the newest first: before a number, of one project or of all.
    pub(crate) async fn deliveries(
        &self,
        project: Option<&str>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<DeliveryView>, StoreError> {
        let all = "SELECT *, length(body) > 0 AS has_body FROM deliveries WHERE number < $1 ORDER BY number DESC LIMIT 0 + $2";
        let of_one = "SELECT *, length(body) > 0 AS has_body FROM deliveries
                      WHERE number < $1 AND project = $3 ORDER BY number DESC LIMIT 0 + $2";
        let query = sqlx::query(if project.is_some() { of_one } else { all });
        let query = query.bind(before.map_or(i64::MAX, int)).bind(limit);
        let query = project.iter().fold(query, |query, project| query.bind(*project));
        query.fetch_all(&self.readers).await?.iter().map(view_of).collect()
    }

    /// One delivery.
    pub(crate) async fn delivery(&self, number: u64) -> Result<Option<Delivery>, StoreError> {
        let query = sqlx::query("SELECT *, length(body) > 0 AS has_body FROM deliveries WHERE number = $1");
        let row = query.bind(int(number)).fetch_optional(&self.readers).await?;
        row.as_ref().map(delivery_of).transpose()
    }

    /// Those that are yet to be handled, the oldest first.
    pub(crate) async fn open_deliveries(&self) -> Result<Vec<u64>, StoreError> {
        let rows = sqlx::query("SELECT number FROM deliveries WHERE verdict IS NULL ORDER BY number")
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok(natural(row.try_get("number")?))).collect()
    }

    /// When a project's last delivery came that was refused for its signature, in milliseconds since 1970.
    pub(crate) async fn last_refused(&self, project: &str, verdict: &str) -> Result<Option<u64>, StoreError> {
        let row = sqlx::query("SELECT max(received_ms) AS at FROM deliveries WHERE project = $1 AND verdict = $2")
            .bind(project)
            .bind(verdict)
            .fetch_one(&self.readers)
            .await?;
        Ok(row.try_get::<Option<i64>, _>("at")?.map(natural))
    }
}

impl Transaction {
    /// Keeps a delivery, unless the same one is remembered: then that one is only counted once more.
    pub(crate) async fn keep_delivery(&mut self, new: &NewDelivery, now_ms: u64) -> Result<Stored, StoreError> {
        sqlx::query("DELETE FROM delivered WHERE at_ms <= $1")
            .bind(int(now_ms.saturating_sub(REMEMBERED_MS)))
            .execute(&mut *self.tx)
            .await?;
        for mark in &new.marks {
            let row = sqlx::query("SELECT delivery FROM delivered WHERE project = $1 AND mark = $2")
                .bind(&new.project)
                .bind(mark)
                .fetch_optional(&mut *self.tx)
                .await?;
            let Some(row) = row else { continue };
            let number: i64 = row.try_get("delivery")?;
            sqlx::query("UPDATE deliveries SET replays = replays + 1 WHERE number = $1")
                .bind(number)
                .execute(&mut *self.tx)
                .await?;
            return Ok(Stored::Replay(natural(number)));
        }
        let inserted = sqlx::query(
            "INSERT INTO deliveries (project, forge, event, headers, body, forge_id, received_ms, verdict, redelivers)
             VALUES ($1, $2, $3, $4, CASE WHEN $8 IS NOT NULL AND length($5) > $10 THEN x'' ELSE $5 END, $6, $7, $8, $9)",
        )
        .bind(&new.project)
        .bind(new.forge.name())
        .bind(&new.event)
        .bind(to_json("headers", &new.headers)?)
        .bind(&new.body)
        .bind(&new.forge_id)
        .bind(int(now_ms))
        .bind(&new.verdict)
        .bind(new.redelivers.map(int))
        .bind(LONGEST_KEPT)
        .execute(&mut *self.tx)
        .await?;
        let number = inserted.last_insert_rowid();
        for mark in &new.marks {
            sqlx::query("INSERT OR IGNORE INTO delivered (project, mark, delivery, at_ms) VALUES ($1, $2, $3, $4)")
                .bind(&new.project)
                .bind(mark)
                .bind(number)
                .bind(int(now_ms))
                .execute(&mut *self.tx)
                .await?;
        }
        self.trim_deliveries(&new.project).await?;
        Ok(Stored::New(natural(number)))
    }

    async fn trim_deliveries(&mut self, project: &str) -> Result<(), StoreError> {
        sqlx::query(
            "DELETE FROM deliveries WHERE project = $1 AND verdict IS NOT NULL AND number <=
                    (SELECT number FROM deliveries WHERE project = $1 ORDER BY number DESC LIMIT 1 OFFSET $2)",
        )
        .bind(project)
        .bind(KEPT)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// A delivery that is yet to be handled; none when it was.
    pub(crate) async fn open_delivery(&mut self, number: u64) -> Result<Option<Delivery>, StoreError> {
        let query =
            sqlx::query("SELECT *, length(body) > 0 AS has_body FROM deliveries WHERE number = $1 AND verdict IS NULL");
        let row = query.bind(int(number)).fetch_optional(&mut *self.tx).await?;
        row.as_ref().map(delivery_of).transpose()
    }

    /// Writes down what came of a delivery.
    pub(crate) async fn handled(
        &mut self,
        number: u64,
        verdict: &str,
        builds: &[BuildNumber],
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE deliveries SET verdict = $2, builds = $3,
                    body = CASE WHEN length(body) > $4 THEN x'' ELSE body END
             WHERE number = $1 AND verdict IS NULL",
        )
        .bind(int(number))
        .bind(verdict)
        .bind(to_json("builds", &builds)?)
        .bind(LONGEST_KEPT)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// The builds of a pull request that are not over, the oldest first, each with whether it waits for a maintainer.
    pub(crate) async fn open_of_request(
        &mut self,
        identity: &str,
        pull_request: u64,
    ) -> Result<Vec<(BuildNumber, bool)>, StoreError> {
        let rows = sqlx::query(
            "SELECT number, repo, EXISTS (SELECT 1 FROM jobs WHERE build = number AND plan IS NULL AND unmet > 0
                                                 AND state = 'queued') AS waits
             FROM builds WHERE ended_ms IS NULL AND origin ->> '$.pull_request' = $1 ORDER BY number",
        )
        .bind(int(pull_request))
        .fetch_all(&mut *self.tx)
        .await?;
        let mut found = Vec::new();
        for row in &rows {
            let repo: RepoUrl = name(row, "repo")?;
            if repo.identity() == identity {
                found.push((BuildNumber(natural(row.try_get("number")?)), row.try_get("waits")?));
            }
        }
        Ok(found)
    }

    /// The newest build that a push, a tag or a pull request began of a commit.
    pub(crate) async fn begun_by_push(
        &mut self,
        repo: &RepoUrl,
        commit: &CommitId,
    ) -> Result<Option<Build>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM builds WHERE repo = $1 AND trigger IN ('push', 'tag', 'pull_request')
                    AND (commit_id = $2 OR origin ->> '$.head' = $2)
             ORDER BY number DESC LIMIT 1",
        )
        .bind(repo.reveal())
        .bind(commit.as_str())
        .fetch_optional(&mut *self.tx)
        .await?;
        row.as_ref().map(build_of).transpose()
    }

    /// The newest build of a pull request, with a commit that begins so; or one that has not fetched its commit yet, and is
    /// of that one or of whatever the branch has then. What waits for a maintainer is none: who approves it has seen what
    /// was there.
    pub(crate) async fn built_of_request(
        &mut self,
        repo: &RepoUrl,
        pull_request: u64,
        short: &str,
    ) -> Result<Option<BuildNumber>, StoreError> {
        let row = sqlx::query(
            "SELECT max(number) AS number FROM builds
             WHERE repo = $1 AND origin ->> '$.pull_request' = $2
                   AND (substr(commit_id, 1, length($3)) = $3 OR substr(origin ->> '$.head', 1, length($3)) = $3
                        OR (commit_id IS NULL AND origin ->> '$.head' IS NULL AND ended_ms IS NULL
                            AND coalesce(origin ->> '$.short', $3) = $3
                            AND NOT EXISTS (SELECT 1 FROM jobs WHERE build = number AND plan IS NULL AND unmet > 0
                                                                     AND state = 'queued')))",
        )
        .bind(repo.reveal())
        .bind(int(pull_request))
        .bind(short)
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(row.try_get::<Option<i64>, _>("number")?.map(|number| BuildNumber(natural(number))))
    }
}

fn view_of(row: &SqliteRow) -> Result<DeliveryView, StoreError> {
    Ok(DeliveryView {
        number: natural(row.try_get("number")?),
        project: row.try_get("project")?,
        forge: name(row, "forge")?,
        event: row.try_get("event")?,
        forge_id: row.try_get("forge_id")?,
        received_ms: natural(row.try_get("received_ms")?),
        verdict: row.try_get("verdict")?,
        builds: json_or_none(row, "builds")?.unwrap_or_default(),
        replays: small(row.try_get("replays")?),
        redelivers: row.try_get::<Option<i64>, _>("redelivers")?.map(natural),
        redeliverable: row.try_get("has_body")?,
    })
}

fn delivery_of(row: &SqliteRow) -> Result<Delivery, StoreError> {
    Ok(Delivery { view: view_of(row)?, headers: json(row, "headers")?, body: row.try_get("body")? })
}
