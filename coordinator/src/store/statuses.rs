//! What forges should know of builds. It is written down in the transaction that changes a build, so that nothing is
//! forgotten; what is wanted is only the newest, so that nothing is told out of order.

use std::collections::BTreeSet;

use protocol::api::{ReportView, Status};
use protocol::outcome::Ending;
use protocol::{BuildNumber, CommitId, RepoUrl};
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::builds::{folded, status};
use super::sealed::sealed_of;
use super::{
    Sealed, Store, StoreError, Transaction, int, json, json_or_none, name, name_or_none, natural, small, to_json,
};

/// What a commit's context should say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// Where it stands.
    pub(crate) status: Status,
    /// In words.
    pub(crate) description: String,
}

/// A repository whose forge is told.
#[derive(Clone)]
pub(crate) struct Reporting {
    /// What all ways to it have in common.
    pub(crate) identity: String,
    /// What kind of forge it is.
    pub(crate) forge: String,
    /// Where its API is.
    pub(crate) api: String,
    /// What opens it, sealed.
    pub(crate) token: Sealed,
}

/// Something that a forge is to be told.
#[derive(Clone)]
pub(crate) struct ToTell {
    /// Of which repository.
    pub(crate) identity: String,
    /// What kind of forge it is.
    pub(crate) forge: String,
    /// Where its API is.
    pub(crate) api: String,
    /// What opens it, sealed.
    pub(crate) token: Sealed,
    /// Of which commit.
    pub(crate) commit: CommitId,
    /// In which of its contexts.
    pub(crate) context: String,
    /// Which build says it.
    pub(crate) build: BuildNumber,
    /// What.
    pub(crate) said: Said,
    /// How often that was tried.
    pub(crate) tries: u32,
    version: i64,
}

/// How many are taken out at once.
const PAGE: i64 = 100;

/// How a pipeline's context begins.
const CONTEXT: &str = "buildr/";

/// The context of the pipeline without a name.
const UNNAMED: &str = "default";

impl Store {
    /// The repositories whose forges are told.
    pub(crate) async fn reporting(&self) -> Result<Vec<ReportView>, StoreError> {
        let rows = sqlx::query(
            "SELECT *, (SELECT count(*) FROM statuses s WHERE s.identity = r.identity AND told < version) AS waiting
             FROM reporting r ORDER BY identity",
        )
        .fetch_all(&self.readers)
        .await?;
        let view = |row: &SqliteRow| {
            Ok(ReportView {
                repository: row.try_get("identity")?,
                forge: row.try_get("forge")?,
                api: row.try_get("api")?,
                waiting: natural(row.try_get("waiting")?),
                trouble: row.try_get("trouble")?,
                trouble_ms: row.try_get::<Option<i64>, _>("trouble_ms")?.map(natural),
            })
        };
        rows.iter().map(view).collect()
    }

    /// What is to be told by now: repositories take turns, each in the order of its builds, so that one whose forge is away
    /// holds up no other. What waits for longer than `longest_ms` was put off when the
    /// clock was ahead.
    pub(crate) async fn to_tell(&self, now_ms: u64, longest_ms: u64) -> Result<Vec<ToTell>, StoreError> {
        let rows = sqlx::query(
            "SELECT s.*, r.forge, r.api, r.token_by, r.token_sealed,
                    row_number() OVER (PARTITION BY s.identity ORDER BY s.build, s.context) AS turn
             FROM statuses s JOIN reporting r ON r.identity = s.identity
             WHERE s.told < s.version AND (s.not_before_ms <= $1 OR s.not_before_ms > $1 + $3)
                   AND (r.not_before_ms <= $1 OR r.not_before_ms > $1 + $3)
             ORDER BY turn, s.build, s.context LIMIT 0 + $2",
        )
        .bind(int(now_ms))
        .bind(PAGE)
        .bind(int(longest_ms))
        .fetch_all(&self.readers)
        .await?;
        let one = |row: &SqliteRow| {
            Ok(ToTell {
                identity: row.try_get("identity")?,
                forge: row.try_get("forge")?,
                api: row.try_get("api")?,
                token: sealed_of(row, "token_by", "token_sealed")?,
                commit: name(row, "commit_id")?,
                context: row.try_get("context")?,
                build: BuildNumber(natural(row.try_get("build")?)),
                said: json(row, "wanted")?,
                tries: small(row.try_get("tries")?),
                version: row.try_get("version")?,
            })
        };
        rows.iter().map(one).collect()
    }

    /// Whether anything is to be told, now or later.
    pub(crate) async fn has_to_tell(&self) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM statuses WHERE told < version) AS found")
            .fetch_one(&self.readers)
            .await?;
        Ok(row.try_get("found")?)
    }
}

impl Transaction {
    /// Has a repository's forge told, or told otherwise.
    pub(crate) async fn put_reporting(&mut self, reporting: &Reporting) -> Result<(), StoreError> {
        self.tells = None;
        sqlx::query(
            "INSERT INTO reporting (identity, forge, api, token, token_by, token_sealed) VALUES ($1, $2, $3, '', $4, $5)
             ON CONFLICT DO UPDATE SET forge = excluded.forge, api = excluded.api, token_by = excluded.token_by,
                    token_sealed = excluded.token_sealed, trouble = NULL, trouble_ms = NULL, not_before_ms = 0",
        )
        .bind(&reporting.identity)
        .bind(&reporting.forge)
        .bind(&reporting.api)
        .bind(&reporting.token.key_id)
        .bind(&reporting.token.content)
        .execute(&mut *self.tx)
        .await?;
        // What the old token did not open may be told now.
        self.left.statuses = true;
        sqlx::query(
            "UPDATE statuses SET not_before_ms = 0, tries = 0, refused = 0, told = CASE refused WHEN 1 THEN 0 ELSE told END
             WHERE identity = $1 AND (told < version OR refused = 1)",
        )
        .bind(&reporting.identity)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Has a repository's forge told no longer. Gives whether it was.
    pub(crate) async fn forget_reporting(&mut self, identity: &str) -> Result<bool, StoreError> {
        let done =
            sqlx::query("DELETE FROM reporting WHERE identity = $1").bind(identity).execute(&mut *self.tx).await?;
        Ok(done.rows_affected() > 0)
    }

    /// A forge knows something, or does not take it, for this reason: then it is told again with another token alone. What
    /// is wanted since then is still to be told.
    pub(crate) async fn told(&mut self, one: &ToTell, never: Option<&str>, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE statuses SET told = $4, refused = $5, tries = 0
             WHERE identity = $1 AND commit_id = $2 AND context = $3",
        )
        .bind(&one.identity)
        .bind(one.commit.as_str())
        .bind(&one.context)
        .bind(one.version)
        .bind(never.is_some())
        .execute(&mut *self.tx)
        .await?;
        self.note_trouble(&one.identity, never, now_ms).await
    }

    /// A forge could not be told, and is to be told at `not_before_ms`; nothing else of the repository before `heeds_ms`:
    /// it said that it wants to be left alone, or the next would go no better.
    pub(crate) async fn tell_later(
        &mut self,
        one: &ToTell,
        (not_before_ms, heeds_ms): (u64, u64),
        why: &str,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE reporting SET not_before_ms = $2 WHERE identity = $1")
            .bind(&one.identity)
            .bind(int(heeds_ms))
            .execute(&mut *self.tx)
            .await?;
        sqlx::query(
            // What took its place meanwhile waits for nothing.
            "UPDATE statuses SET not_before_ms = $4, tries = tries + 1
             WHERE identity = $1 AND commit_id = $2 AND context = $3 AND version = $5",
        )
        .bind(&one.identity)
        .bind(one.commit.as_str())
        .bind(&one.context)
        .bind(int(not_before_ms))
        .bind(one.version)
        .execute(&mut *self.tx)
        .await?;
        self.note_trouble(&one.identity, Some(why), now_ms).await
    }

    async fn note_trouble(&mut self, identity: &str, trouble: Option<&str>, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE reporting SET trouble = $2, trouble_ms = $3
             WHERE identity = $1 AND (trouble IS NOT NULL OR $2 IS NOT NULL)",
        )
        .bind(identity)
        .bind(trouble)
        .bind(trouble.map(|_| int(now_ms)))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Writes down what the forge of a build's repository should know of it, if it is told anything.
    pub(super) async fn want_statuses(&mut self, number: BuildNumber) -> Result<(), StoreError> {
        if !self.tells().await? {
            return Ok(());
        }
        let row = sqlx::query(
            "SELECT repo, coalesce(origin ->> '$.head', commit_id) AS commit_id, status, ending, pipelines, started_ms,
                    ended_ms FROM builds WHERE number = $1",
        )
        .bind(int(number.0))
        .fetch_one(&mut *self.tx)
        .await?;
        let commit: Option<CommitId> = name_or_none(&row, "commit_id")?;
        let repo: RepoUrl = name(&row, "repo")?;
        let identity = repo.identity();
        let Some(commit) = commit else { return Ok(()) };
        let known = sqlx::query("SELECT 1 AS one FROM reporting WHERE identity = $1").bind(&identity);
        if known.fetch_optional(&mut *self.tx).await?.is_none() {
            return Ok(());
        }
        let whole = said(&row)?;
        let own: Option<BTreeSet<String>> = json_or_none(&row, "pipelines")?;
        let several = own.as_ref().is_some_and(|own| own.len() > 1);
        let pipelines = match &own {
            Some(own) => own.clone(),
            None => self.pipelines_before(&repo, number).await?,
        };
        for pipeline in &pipelines {
            let said = if several { self.said_of(number, pipeline, &whole).await? } else { whole.clone() };
            self.want(&identity, &commit, &context(pipeline), number, &said).await?;
        }
        if own.is_some() {
            let contexts: BTreeSet<String> = pipelines.iter().map(|pipeline| context(pipeline)).collect();
            self.end_others(&identity, &commit, number, &contexts).await?;
        }
        Ok(())
    }

    /// Whether any forge is told anything: looked up once in a transaction, for on many farms none is.
    async fn tells(&mut self) -> Result<bool, StoreError> {
        if let Some(known) = self.tells {
            return Ok(known);
        }
        let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM reporting) AS found").fetch_one(&mut *self.tx).await?;
        let found = row.try_get("found")?;
        self.tells = Some(found);
        Ok(found)
    }

    /// The pipelines of the newest older build of a repository that has some: what a build most likely has that is not
    /// planned yet.
    async fn pipelines_before(&mut self, repo: &RepoUrl, number: BuildNumber) -> Result<BTreeSet<String>, StoreError> {
        let row = sqlx::query(
            "SELECT pipelines FROM builds WHERE repo = $1 AND number < $2 AND pipelines IS NOT NULL
                    AND pipelines <> '[]' ORDER BY number DESC LIMIT 1",
        )
        .bind(repo.reveal())
        .bind(int(number.0))
        .fetch_optional(&mut *self.tx)
        .await?;
        let before = row.map(|row| json_or_none(&row, "pipelines")).transpose()?.flatten();
        Ok(before.unwrap_or_else(|| BTreeSet::from([String::new()])))
    }

    /// Where one of several pipelines of a build stands.
    async fn said_of(&mut self, number: BuildNumber, pipeline: &str, whole: &Said) -> Result<Said, StoreError> {
        let rows = sqlx::query(
            "SELECT state, cancelling, ending, child, skipped, ended_for, coalesce(terms ->> '$.finally', 0) AS finally
             FROM jobs WHERE build = $1 AND plan IS NOT NULL AND pipeline = $2 ORDER BY rowid",
        )
        .bind(int(number.0))
        .bind(pipeline)
        .fetch_all(&mut *self.tx)
        .await?;
        let (status, ending) = folded(&rows)?;
        // A build that took too long ends its jobs as if somebody had cancelled them.
        if status == Status::Cancelled && whole.status == Status::Errored {
            return Ok(whole.clone());
        }
        Ok(Said { status, description: described(status, ending.as_ref(), None) })
    }

    async fn want(
        &mut self,
        identity: &str,
        commit: &CommitId,
        context: &str,
        build: BuildNumber,
        said: &Said,
    ) -> Result<(), StoreError> {
        self.left.statuses = true;
        // Of two builds of one commit the newer one is meant.
        sqlx::query(
            "INSERT INTO statuses (identity, commit_id, context, build, wanted) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO UPDATE SET build = excluded.build, wanted = excluded.wanted, version = version + 1,
                    tries = 0, not_before_ms = 0
             WHERE excluded.build > build OR (excluded.build = build AND excluded.wanted <> wanted)",
        )
        .bind(identity)
        .bind(commit.as_str())
        .bind(context)
        .bind(int(build.0))
        .bind(to_json("status", said)?)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Contexts that were expected of a build before it was planned, and are none of its pipelines.
    async fn end_others(
        &mut self,
        identity: &str,
        commit: &CommitId,
        build: BuildNumber,
        own: &BTreeSet<String>,
    ) -> Result<(), StoreError> {
        let rows = sqlx::query("SELECT context FROM statuses WHERE identity = $1 AND commit_id = $2 AND build = $3")
            .bind(identity)
            .bind(commit.as_str())
            .bind(int(build.0))
            .fetch_all(&mut *self.tx)
            .await?;
        let skipped =
            Said { status: Status::Skipped, description: "nothing of it is built for this commit".to_owned() };
        for row in &rows {
            let context: String = row.try_get("context")?;
            if !own.contains(&context) {
                self.want(identity, commit, &context, build, &skipped).await?;
            }
        }
        Ok(())
    }
}

fn context(pipeline: &str) -> String {
    let pipeline = if pipeline.is_empty() { UNNAMED } else { pipeline };
    format!("{CONTEXT}{pipeline}")
}

fn said(row: &SqliteRow) -> Result<Said, StoreError> {
    let status = status(row.try_get("status")?)?;
    let ending: Option<Ending> = json_or_none(row, "ending")?;
    let moment = |column| Ok::<_, StoreError>(row.try_get::<Option<i64>, _>(column)?.map(natural));
    let took = moment("started_ms")?.zip(moment("ended_ms")?).map(|(from, to)| to.saturating_sub(from) / 1000);
    Ok(Said { status, description: described(status, ending.as_ref(), took) })
}

/// Where something stands, in words; `took` in seconds.
fn described(status: Status, ending: Option<&Ending>, took: Option<u64>) -> String {
    let first = ending.and_then(|ending| ending.message.as_ref()?.lines().next()).filter(|line| !line.is_empty());
    match (status, first, took) {
        (Status::Queued, ..) => "waits to begin".to_owned(),
        (Status::Running, ..) => "runs".to_owned(),
        (Status::Cancelling, ..) => "is being cancelled".to_owned(),
        (Status::Passed, _, Some(seconds @ ..60)) => format!("passed in {seconds} s"),
        (Status::Passed, _, Some(seconds)) => format!("passed in {} min {:02} s", seconds / 60, seconds % 60),
        (Status::Passed, _, None) => "passed".to_owned(),
        (_, Some(line), _) => line.to_owned(),
        (_, None, _) => status.name().to_owned(),
    }
}
