//! Doing builds again: what an older build was, and what of it is taken over.

use std::collections::HashMap;

use protocol::outcome::{Ending, Outcome};
use protocol::plan::BuildPlan;
use protocol::state::JobState;
use protocol::{BuildNumber, ClaimId, JobId, PlannedJob};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::identity::identify;
use super::jobs::state_of;
use super::terms::Terms;
use super::{Store, StoreError, Transaction, int, json, json_or_none, name, natural, to_json};

/// The most names of images that are remembered of one build: each comes from a user's file.
const IMAGES: i64 = 1000;

/// The longest of these names, in bytes.
const IMAGE_BYTES: usize = 512;

/// A planned job of a build that is over.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    /// What was planned.
    pub(crate) planned: PlannedJob,
    /// Whether it passed, here or in an older build.
    pub(crate) passed: bool,
    /// Whether something of what it left for others is gone.
    pub(crate) faded: bool,
    /// Whether something in it began that the farm does not do twice by itself.
    pub(crate) once: bool,
    /// The job that did it: itself, or one of an older build.
    root: JobId,
    /// Of which build that is.
    root_build: BuildNumber,
    child: Option<i64>,
}

#[cfg(test)]
impl Past {
    /// A job of which this is known.
    pub(crate) fn of(planned: PlannedJob, passed: bool, faded: bool) -> Self {
        let (root, root_build) = (JobId::fresh(), BuildNumber(1));
        Self { planned, passed, faded, once: false, root, root_build, child: None }
    }
}

impl Store {
    /// The older build that has an archive which serves in this one: of a job that passed there.
    pub(crate) async fn carries_archive(
        &self,
        build: BuildNumber,
        sha256: &str,
    ) -> Result<Option<BuildNumber>, StoreError> {
        let row = sqlx::query(
            "SELECT r.build FROM jobs j JOIN jobs r ON r.id = j.carried
             JOIN attempts a ON a.job = r.id JOIN kept k ON k.claim = a.claim
             WHERE j.build = $1 AND k.sha256 = $2 LIMIT 1",
        )
        .bind(int(build.0))
        .bind(sha256)
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| Ok(BuildNumber(natural(row.try_get("build")?)))).transpose()
    }
}

impl Transaction {
    /// Begins a build of the same as an older one, without a job as yet. It is trusted when that one was, and
    /// `trusted`. None: the older one is gone.
    pub(crate) async fn insert_restart(
        &mut self,
        of: BuildNumber,
        trusted: bool,
        by: Option<&str>,
        now_ms: u64,
    ) -> Result<Option<BuildNumber>, StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO builds (repo, branch, commit_id, subject, author, trigger, trusted, status, created_ms, origin,
                                 inputs, of_head, default_branch, asked_by, restart_of)
             SELECT repo, branch, commit_id, subject, author, trigger, trusted AND $2, 'queued', $3, origin,
                    inputs, of_head, default_branch, $4, number
             FROM builds WHERE number = $1 RETURNING number, repo",
        )
        .bind(int(of.0))
        .bind(trusted)
        .bind(int(now_ms))
        .bind(by)
        .fetch_optional(&mut *self.tx)
        .await?;
        match inserted {
            Some(row) => identify(&mut self.tx, &row).await.map(Some),
            None => Ok(None),
        }
    }

    /// What holds for a build as a whole, once it is planned.
    pub(crate) async fn build_plan(&mut self, build: BuildNumber) -> Result<BuildPlan, StoreError> {
        let row = sqlx::query("SELECT plan FROM builds WHERE number = $1")
            .bind(int(build.0))
            .fetch_optional(&mut *self.tx)
            .await?;
        Ok(row.map(|row| json_or_none(&row, "plan")).transpose()?.flatten().unwrap_or_default())
    }

    /// The planned jobs of a build that is over, in the order of the plan.
    pub(crate) async fn past(&mut self, build: BuildNumber) -> Result<Vec<Past>, StoreError> {
        let rows = sqlx::query(
            "SELECT j.*, coalesce(j.carried, j.id) AS root, coalesce(j.carried_from, j.build) AS root_build,
                    EXISTS (SELECT 1 FROM attempts a WHERE a.job = j.id AND a.not_twice = 1) AS once,
                    NOT EXISTS (SELECT 1 FROM jobs r WHERE r.id = coalesce(j.carried, j.id))
                    OR EXISTS (SELECT 1 FROM attempts a WHERE a.job = coalesce(j.carried, j.id) AND a.faded = 1)
                    AS faded
             FROM jobs j WHERE j.build = $1 AND j.plan IS NOT NULL ORDER BY j.rowid",
        )
        .bind(int(build.0))
        .fetch_all(&mut *self.tx)
        .await?;
        rows.iter().map(past_of).collect()
    }

    /// Adds a job to a build that passed in an older one: what that left serves in its place.
    pub(crate) async fn insert_carried(
        &mut self,
        build: BuildNumber,
        past: &Past,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let planned = &past.planned;
        sqlx::query(
            "INSERT INTO jobs (id, build, key, needs, labels, plan, terms, state, ending, unmet, created_ms, pipeline,
                               repo, child, carried, carried_from)
             SELECT $1, $2, $3, $4, $5, $6, $7, 'ended', $8, 0, $9, $10, repo, $11, $12, $13
             FROM builds WHERE number = $2",
        )
        .bind(JobId::fresh().to_string())
        .bind(int(build.0))
        .bind(planned.key.as_str())
        .bind(to_json("needs", &planned.needs)?)
        .bind(to_json("labels", &planned.labels)?)
        .bind(to_json("plan", &planned.plan)?)
        .bind(to_json("terms", &Terms::of(planned))?)
        .bind(to_json("ending", &Ending::passed())?)
        .bind(int(now_ms))
        .bind(planned.plan.pipeline.as_deref().unwrap_or_default())
        .bind(past.child)
        .bind(past.root.to_string())
        .bind(int(past.root_build.0))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Has the job that plans a build wait for what the one of an older build waited for: who must let that begin is
    /// asked again, unless it was let begin.
    pub(crate) async fn wait_likewise(&mut self, of: BuildNumber, job: JobId) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE jobs SET terms = o.terms, answer = o.answer, unmet = 1
             FROM (SELECT terms, answer FROM jobs WHERE build = $1 AND plan IS NULL ORDER BY rowid LIMIT 1) o
             WHERE jobs.id = $2 AND o.terms ->> '$.gate' IS NOT NULL",
        )
        .bind(int(of.0))
        .bind(job.to_string())
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Writes down what the name of an image meant in the build of a claim.
    pub(crate) async fn image_meant(&mut self, claim: ClaimId, image: &str, digest: &str) -> Result<(), StoreError> {
        if image.len() > IMAGE_BYTES {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO images (build, name, digest)
             SELECT j.build, $2, $3 FROM attempts a JOIN jobs j ON j.id = a.job
             WHERE a.claim = $1 AND (SELECT count(*) FROM images WHERE build = j.build) < $4
             ON CONFLICT DO UPDATE SET digest = '' WHERE digest <> excluded.digest",
        )
        .bind(claim.reveal())
        .bind(image)
        .bind(digest)
        .bind(IMAGES)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// What the names of images meant in a build, where each meant one thing.
    pub(crate) async fn images_of(&mut self, build: BuildNumber) -> Result<HashMap<String, String>, StoreError> {
        let rows = sqlx::query("SELECT name, digest FROM images WHERE build = $1 AND digest <> ''")
            .bind(int(build.0))
            .fetch_all(&mut *self.tx)
            .await?;
        rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("digest")?))).collect()
    }
}

/// The builds that do a build again, the oldest first.
pub(super) async fn restarts_of(tx: &mut SqliteConnection, build: BuildNumber) -> Result<Vec<BuildNumber>, StoreError> {
    let rows = sqlx::query("SELECT number FROM builds WHERE restart_of = $1 ORDER BY number")
        .bind(int(build.0))
        .fetch_all(tx)
        .await?;
    rows.iter().map(|row| Ok(BuildNumber(natural(row.try_get("number")?)))).collect()
}

fn past_of(row: &SqliteRow) -> Result<Past, StoreError> {
    let terms: Terms = json_or_none(row, "terms")?.unwrap_or_default();
    let passed = matches!(state_of(row)?, JobState::Ended(ending) if ending.outcome == Outcome::Passed);
    Ok(Past {
        planned: PlannedJob {
            key: name(row, "key")?,
            needs: json(row, "needs")?,
            labels: json(row, "labels")?,
            plan: json(row, "plan")?,
            run_on: terms.run_on,
            gate: terms.gate,
            concurrency: terms.concurrency,
            lane: terms.lane,
            cell: terms.cell,
            downstream: terms.downstream,
            finally: terms.finally,
        },
        passed,
        faded: row.try_get("faded")?,
        once: row.try_get("once")?,
        root: name(row, "root")?,
        root_build: BuildNumber(natural(row.try_get("root_build")?)),
        child: row.try_get("child")?,
    })
}
