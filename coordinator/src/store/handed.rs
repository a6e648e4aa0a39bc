//! What jobs leave for those that need them: values, archives, and how it went.

use protocol::course::{self, Member};
use protocol::handing;
use protocol::job::SoFar;
use protocol::outcome::{Ending, Outcome};
use protocol::plan::{Clash, Kept};
use protocol::{BuildNumber, ClaimId, JobId, Variable};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::members::courses;
use super::{Store, StoreError, Transaction, int, json_or_none, name, natural, to_json};

/// What a job receives of those that it needs, in the order of the plan.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    /// The values, later wins.
    pub(crate) values: Vec<Variable>,
    /// For which names of these there is no last word.
    pub(crate) clashes: Vec<Clash>,
    /// The archives.
    pub(crate) kept: Vec<Kept>,
    /// How the build stands, for a job that runs whatever happened.
    pub(crate) so_far: Option<SoFar>,
}

/// An archive whose time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expired {
    /// Of which build.
    pub(crate) build: BuildNumber,
    /// Its name.
    pub(crate) sha256: String,
}

impl Store {
    /// The archives of builds that have ended whose time is over: no stage of the same build keeps the same bytes for
    /// longer, and no build that is under way takes over what passed there.
    pub(crate) async fn expired_archives(&self, now_ms: u64) -> Result<Vec<Expired>, StoreError> {
        let rows = sqlx::query(
            "SELECT jobs.build AS build, kept.sha256 AS sha256 FROM kept
             JOIN attempts ON attempts.claim = kept.claim JOIN jobs ON jobs.id = attempts.job
             JOIN builds ON builds.number = jobs.build
             WHERE builds.ended_ms IS NOT NULL
                   AND NOT EXISTS (SELECT 1 FROM jobs later JOIN builds other ON other.number = later.build
                                   WHERE later.carried_from = builds.number AND other.ended_ms IS NULL)
             GROUP BY jobs.build, kept.sha256
             HAVING count(*) = count(kept.expire_ms) AND max(kept.at_ms + kept.expire_ms) <= $1",
        )
        .bind(int(now_ms))
        .fetch_all(&self.readers)
        .await?;
        let expired = |row: &SqliteRow| {
            Ok(Expired { build: BuildNumber(natural(row.try_get("build")?)), sha256: row.try_get("sha256")? })
        };
        rows.iter().map(expired).collect()
    }
}

impl Transaction {
    /// An archive of a build is gone.
    pub(crate) async fn forget_archive(&mut self, build: BuildNumber, sha256: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE attempts SET faded = 1 WHERE claim IN
             (SELECT kept.claim FROM kept JOIN attempts ON attempts.claim = kept.claim
              JOIN jobs ON jobs.id = attempts.job WHERE jobs.build = $1 AND kept.sha256 = $2)",
        )
        .bind(int(build.0))
        .bind(sha256)
        .execute(&mut *self.tx)
        .await?;
        sqlx::query(
            "INSERT OR REPLACE INTO expired (claim, stage, files, bytes, sha256)
             SELECT claim, stage, files, bytes, sha256 FROM kept WHERE sha256 = $2 AND claim IN
             (SELECT attempts.claim FROM attempts JOIN jobs ON jobs.id = attempts.job WHERE jobs.build = $1)",
        )
        .bind(int(build.0))
        .bind(sha256)
        .execute(&mut *self.tx)
        .await?;
        sqlx::query(
            "DELETE FROM kept WHERE sha256 = $2 AND claim IN
             (SELECT attempts.claim FROM attempts JOIN jobs ON jobs.id = attempts.job WHERE jobs.build = $1)",
        )
        .bind(int(build.0))
        .bind(sha256)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// What an attempt has handed on so far.
    pub(crate) async fn handed_by(&mut self, claim: ClaimId) -> Result<Vec<Variable>, StoreError> {
        let row = sqlx::query("SELECT handed FROM attempts WHERE claim = $1")
            .bind(claim.reveal())
            .fetch_optional(&mut *self.tx)
            .await?;
        let handed = row.map(|row| json_or_none(&row, "handed")).transpose()?;
        Ok(handed.flatten().unwrap_or_default())
    }

    /// What an attempt hands on, all of it.
    pub(crate) async fn hands_on(&mut self, claim: ClaimId, values: &[Variable]) -> Result<(), StoreError> {
        sqlx::query("UPDATE attempts SET handed = $2 WHERE claim = $1")
            .bind(claim.reveal())
            .bind(to_json("values", &values)?)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// An archive of an attempt is there. A stage has one: a later one takes its place.
    pub(crate) async fn keeps(&mut self, claim: ClaimId, kept: &Archive<'_>, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO kept (claim, stage, files, bytes, sha256, expire_ms, at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (claim, stage) DO UPDATE SET files = excluded.files, bytes = excluded.bytes,
                    sha256 = excluded.sha256, expire_ms = excluded.expire_ms, at_ms = excluded.at_ms",
        )
        .bind(claim.reveal())
        .bind(kept.stage)
        .bind(int(kept.files))
        .bind(int(kept.bytes))
        .bind(kept.sha256)
        .bind(kept.expire_ms.map(int))
        .bind(int(now_ms))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// What a job receives of all that it needs, and what these need.
    pub(crate) async fn received(&mut self, build: BuildNumber, job: JobId) -> Result<Received, StoreError> {
        let jobs = courses(&mut self.tx, build).await?;
        let Some(place) = jobs.iter().position(|other| other.id == job) else { return Ok(Received::default()) };
        let members: Vec<Member> = jobs.iter().map(|job| job.member.clone()).collect();
        let mut received = Received::default();
        let mut handed = Vec::new();
        for before in course::before(&members, place) {
            let Some(claim) = self.claim_that_counts(jobs[before].id).await? else { continue };
            handed.push((before, self.handed_by(claim).await?));
            let rows = sqlx::query("SELECT * FROM kept WHERE claim = $1 ORDER BY rowid")
                .bind(claim.reveal())
                .fetch_all(&mut *self.tx)
                .await?;
            for row in &rows {
                received.kept.push(kept_of(row, &jobs[before].member)?);
            }
        }
        (received.values, received.clashes) = handing::values(&members, &handed);
        handing::order(&members, &mut received.kept);
        let own = &jobs[place];
        if own.terms.finally || own.terms.run_on != protocol::plan::RunOn::Passed {
            received.so_far = Some(self.so_far(build).await?);
        }
        Ok(received)
    }

    /// The claim whose attempt was a job's last, and neither lost nor to be followed by another. Of a job that is not
    /// done again it is that of the one that passed in its place.
    async fn claim_that_counts(&mut self, job: JobId) -> Result<Option<ClaimId>, StoreError> {
        let row = sqlx::query(
            "SELECT claim FROM attempts WHERE job = (SELECT coalesce(carried, id) FROM jobs WHERE id = $1) AND state NOT IN ('lost', 'abandoned', 'running')
                    AND loss IS NULL
             ORDER BY rowid DESC LIMIT 1",
        )
        .bind(job.to_string())
        .fetch_optional(&mut *self.tx)
        .await?;
        row.map(|row| name(&row, "claim")).transpose()
    }

    async fn so_far(&mut self, build: BuildNumber) -> Result<SoFar, StoreError> {
        let rows = sqlx::query(
            "SELECT ending FROM jobs WHERE build = $1 AND ending IS NOT NULL AND skipped IS NULL
                    AND (ended_for IS NULL OR ending ->> '$.outcome' <> 'cancelled') ORDER BY rowid",
        )
        .bind(int(build.0))
        .fetch_all(&mut *self.tx)
        .await?;
        let mut so_far = SoFar { outcome: Outcome::Passed, stage: None };
        for row in &rows {
            let Some(ending) = json_or_none::<Ending>(row, "ending")? else { continue };
            if so_far.outcome.worse(ending.outcome) != so_far.outcome {
                so_far.outcome = ending.outcome;
            }
            if so_far.stage.is_none() && ending.outcome != Outcome::Passed {
                so_far.stage = ending.stage;
            }
        }
        Ok(so_far)
    }
}

/// An archive as its agent tells of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Archive<'a> {
    /// The stage that left it.
    pub(crate) stage: &'a str,
    /// How many files it holds.
    pub(crate) files: u64,
    /// Its length.
    pub(crate) bytes: u64,
    /// Its name.
    pub(crate) sha256: &'a str,
    /// For how long it is kept.
    pub(crate) expire_ms: Option<u64>,
}

fn kept_of(row: &SqliteRow, job: &Member) -> Result<Kept, StoreError> {
    Ok(Kept {
        job: job.key.clone(),
        stage: name(row, "stage")?,
        files: natural(row.try_get("files")?),
        bytes: natural(row.try_get("bytes")?),
        sha256: row.try_get("sha256")?,
        after: None,
    })
}
