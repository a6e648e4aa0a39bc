//! What the course of builds is decided about: the jobs of a build as the store has them, and who wants or has a turn in
//! a group. [`protocol::course`] decides.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use protocol::course::{self, At, Blocked, Member, Place};
use protocol::plan::Concurrency;
use protocol::state::JobState;
use protocol::{BuildNumber, JobId};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::jobs::state_of;
use super::terms::Terms;
use super::{StoreError, int, json, json_or_none, name, natural};

/// A planned job as the course sees it.
#[derive(Debug, Clone)]
pub(super) struct Course {
    pub(super) id: JobId,
    pub(super) member: Member,
    pub(super) terms: Terms,
    pub(super) pipeline: String,
}

/// All jobs of a build, in the order of their making, as the course and the fold of the build read them.
pub(super) async fn members(tx: &mut SqliteConnection, build: BuildNumber) -> Result<Vec<SqliteRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, key, needs, terms, answer, state, unmet, attempts, claim, agent, cancelling, ending, child, skipped,
                pipeline, ended_for, coalesce(terms ->> '$.finally', 0) AS finally,
                plan IS NOT NULL OR (unmet > 0 AND state = 'queued') AS takes_turns,
                child IS NOT NULL OR carried IS NOT NULL
                OR EXISTS (SELECT 1 FROM attempts a WHERE a.job = jobs.id AND a.state <> 'abandoned') AS ran
         FROM jobs WHERE build = $1 ORDER BY rowid",
    );
    Ok(rows.bind(int(build.0)).fetch_all(tx).await?)
}

/// The planned jobs among them, in the order of the plan; before that, the one that a maintainer must let plan it.
pub(super) fn courses_of(members: &[SqliteRow]) -> Result<Vec<Course>, StoreError> {
    let mut courses = Vec::with_capacity(members.len());
    for row in members {
        if row.try_get("takes_turns")? {
            courses.push(course_of(row)?);
        }
    }
    Ok(courses)
}

/// The same, looked up.
pub(super) async fn courses(tx: &mut SqliteConnection, build: BuildNumber) -> Result<Vec<Course>, StoreError> {
    courses_of(&members(tx, build).await?)
}

/// Where a job stands whose turn has come.
pub(super) fn at(state: &JobState) -> At {
    match state {
        JobState::Queued { .. } => At::Begun { ending: false },
        JobState::Running { cancelling, .. } | JobState::Elsewhere { cancelling, .. } => {
            At::Begun { ending: cancelling.is_some() }
        }
        JobState::Ended(ending) => At::Ended(ending.outcome),
        JobState::Skipped { .. } => At::Skipped,
    }
}

fn course_of(row: &SqliteRow) -> Result<Course, StoreError> {
    let terms: Terms = json_or_none(row, "terms")?.unwrap_or_default();
    let approved = row.try_get::<Option<&str>, _>("answer")?.is_some();
    let has_turn = row.try_get::<i64, _>("unmet")? <= 0;
    let at = match state_of(row)? {
        JobState::Queued { .. } if !has_turn => At::Waiting { approved },
        state => at(&state),
    };
    let member = Member {
        key: name(row, "key")?,
        needs: json(row, "needs")?,
        run_on: terms.run_on,
        finally: terms.finally,
        gated: terms.gate.is_some(),
        elsewhere: terms.downstream.as_ref().is_some_and(|downstream| downstream.wait),
        lane: terms.lane.clone(),
        at,
        ran: row.try_get("ran")?,
    };
    Ok(Course { id: name(row, "id")?, member, terms, pipeline: row.try_get("pipeline")? })
}

/// In [`Shared`]: all jobs of the build.
pub(super) const WHOLE: &str = "*";

/// A place in a group that jobs of a build have together.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    /// Of which pipeline these are; [`WHOLE`] for all.
    pub(super) pipeline: String,
    pub(super) terms: Concurrency,
    pub(super) has_turn: bool,
}

impl Shared {
    /// Whether a job waits for it too. The `finally` of a pipeline comes after the others' jobs, and outside of its turn.
    pub(super) fn is_of(&self, job: &Course) -> bool {
        self.pipeline == WHOLE || self.pipeline == job.pipeline && !job.terms.finally
    }
}

/// The places that jobs of a build have together.
pub(super) async fn shared(tx: &mut SqliteConnection, build: BuildNumber) -> Result<Vec<Shared>, StoreError> {
    let rows = sqlx::query("SELECT pipeline, terms, turn FROM turns WHERE build = $1 ORDER BY rowid")
        .bind(int(build.0))
        .fetch_all(tx)
        .await?;
    let shared = |row: &SqliteRow| {
        Ok(Shared { pipeline: row.try_get("pipeline")?, terms: json(row, "terms")?, has_turn: row.try_get("turn")? })
    };
    rows.iter().map(shared).collect()
}

/// What stands before jobs that want their turn together.
pub(super) async fn shared_group(
    tx: &mut SqliteConnection,
    build: BuildNumber,
    asks: &Shared,
) -> Result<Result<(), Blocked>, StoreError> {
    let rows = sqlx::query(
        "SELECT t.build, t.turn, t.terms ->> '$.order' = 'ready'
                AND t.ready < (SELECT ready FROM turns WHERE build = $1 AND pipeline = $3) AS was_first
         FROM turns t JOIN builds b ON b.number = t.build
         WHERE b.identity = (SELECT identity FROM builds WHERE number = $1) AND t.grp = $2 AND b.ended_ms IS NULL
               AND NOT (t.build = $1 AND t.pipeline = $3)
               AND (t.pipeline = $4 OR EXISTS (
                       SELECT 1 FROM jobs j WHERE j.build = t.build AND j.pipeline = t.pipeline
                              AND j.state <> 'ended' AND j.plan IS NOT NULL
                              AND NOT coalesce(j.terms ->> '$.finally', 0)))",
    )
    .bind(int(build.0))
    .bind(&asks.terms.group)
    .bind(&asks.pipeline)
    .bind(WHOLE)
    .fetch_all(&mut *tx)
    .await?;
    let place = |row: &SqliteRow| {
        let build = BuildNumber(natural(row.try_get("build")?));
        let was_first = row.try_get::<Option<bool>, _>("was_first")?.unwrap_or(false);
        Ok(Place { build, holds: row.try_get("turn")?, in_line: true, was_first })
    };
    let others = rows.iter().map(place).collect::<Result<Vec<_>, StoreError>>()?;
    Ok(course::group(build, &asks.terms, &others, oldest_unplanned(tx, build).await?))
}

/// What stands before a job that wants its turn in a group.
pub(super) async fn job_group(
    tx: &mut SqliteConnection,
    build: BuildNumber,
    job: JobId,
    terms: &Concurrency,
) -> Result<Result<(), Blocked>, StoreError> {
    let rows = sqlx::query(
        "SELECT j.id, j.build,
                NOT EXISTS (SELECT 1 FROM turns t WHERE t.build = j.build AND t.turn = 0
                                   AND t.pipeline IN ($4, j.pipeline)) AS turn,
                j.ready < coalesce((SELECT ready FROM jobs WHERE id = $3), j.ready + 1) AS was_first
         FROM jobs j JOIN builds b ON b.number = j.build
         WHERE b.identity = (SELECT identity FROM builds WHERE number = $1) AND j.grp = $2 AND j.state <> 'ended' AND j.id <> $3",
    )
    .bind(int(build.0))
    .bind(&terms.group)
    .bind(job.to_string())
    .bind(WHOLE)
    .fetch_all(&mut *tx)
    .await?;
    let mut known: HashMap<BuildNumber, Vec<Course>> = HashMap::new();
    let mut others = Vec::new();
    for row in &rows {
        let (other, id): (_, JobId) = (BuildNumber(natural(row.try_get("build")?)), name(row, "id")?);
        if let Entry::Vacant(entry) = known.entry(other) {
            entry.insert(courses(tx, other).await?);
        }
        let jobs = &known[&other];
        let Some(place) = jobs.iter().position(|job| job.id == id) else { continue };
        let members: Vec<Member> = jobs.iter().map(|job| job.member.clone()).collect();
        let in_line = row.try_get::<bool, _>("turn")? && course::is_in_line(&members, place);
        let holds = matches!(members[place].at, At::Begun { .. });
        let was_first = row.try_get::<Option<bool>, _>("was_first")?.unwrap_or(false);
        others.push(Place { build: other, holds, in_line, was_first });
    }
    Ok(course::group(build, terms, &others, oldest_unplanned(tx, build).await?))
}

/// The oldest build of the same repository that is not planned yet, and does not wait for a person with that.
async fn oldest_unplanned(tx: &mut SqliteConnection, build: BuildNumber) -> Result<Option<BuildNumber>, StoreError> {
    let row = sqlx::query(
        "SELECT min(j.build) AS build FROM jobs j JOIN builds b ON b.number = j.build
         WHERE b.identity = (SELECT identity FROM builds WHERE number = $1) AND j.plan IS NULL AND j.state <> 'ended'
               AND j.unmet <= 0",
    )
    .bind(int(build.0))
    .fetch_one(tx)
    .await?;
    Ok(row.try_get::<Option<i64>, _>("build")?.map(|number| BuildNumber(natural(number))))
}

/// The builds of the same repository that wait for a group, or of which a job does: the oldest first.
pub(super) async fn waiting_in_groups(
    tx: &mut SqliteConnection,
    build: BuildNumber,
) -> Result<Vec<BuildNumber>, StoreError> {
    let rows = sqlx::query(
        "SELECT j.build AS number FROM jobs j JOIN builds b ON b.number = j.build
         WHERE j.grp IS NOT NULL AND j.state <> 'ended' AND j.unmet > 0
               AND b.identity = (SELECT identity FROM builds WHERE number = $1)
         UNION SELECT t.build FROM turns t JOIN builds b ON b.number = t.build
         WHERE t.turn = 0 AND b.ended_ms IS NULL AND b.identity = (SELECT identity FROM builds WHERE number = $1)
         ORDER BY 1",
    )
    .bind(int(build.0))
    .fetch_all(tx)
    .await?;
    rows.iter().map(|row| Ok(BuildNumber(natural(row.try_get("number")?)))).collect()
}
