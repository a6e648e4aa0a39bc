//! The jobs of a build as people see them, and what those wait for that wait for no agent.

use std::collections::HashMap;

use protocol::api::{Asked, GateView, JobView, NeededJob, Status, WaitReason};
use protocol::course::{self, At, Blocked, Member, Turn};
use protocol::state::JobState;
use protocol::{BuildNumber, JobId, JobKey, StageName};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::builds::status_of;
use super::jobs::state_of;
use super::members::{Course, courses, job_group, shared, shared_group};
use super::terms::Answer;
use super::{Store, StoreError, int, json, json_or_none, name, natural};

/// A job that waits for something else than an agent.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// Its key.
    pub(crate) key: JobKey,
    /// When it was made, in milliseconds since 1970.
    pub(crate) created_ms: u64,
    /// What stands before it.
    pub(crate) why: WaitReason,
}

impl Store {
    /// The planned jobs of a build of which some wait for something else than an agent; none of any other build.
    pub(crate) async fn held_jobs(&self, build: BuildNumber) -> Result<Vec<JobView>, StoreError> {
        let mut tx = self.readers.begin().await?;
        let waits = "SELECT EXISTS (SELECT 1 FROM jobs WHERE build = $1 AND state = 'queued' AND unmet > 0) AS waits";
        let row = sqlx::query(waits).bind(int(build.0)).fetch_one(&mut *tx).await?;
        if row.try_get("waits")? { job_views(&mut tx, build).await } else { Ok(Vec::new()) }
    }
}

/// The planned jobs of a build, with why those wait that wait for no agent. One that a maintainer must let plan the
/// build is among them for as long as it waits for that.
pub(super) async fn job_views(tx: &mut SqliteConnection, build: BuildNumber) -> Result<Vec<JobView>, StoreError> {
    let held: HashMap<JobKey, Held> = held(tx, build).await?.into_iter().map(|held| (held.key.clone(), held)).collect();
    let rows = sqlx::query(
        "SELECT *, (SELECT json_group_array(stage.value ->> '$.name') FROM json_each(jobs.plan, '$.stages') AS stage)
                   AS stage_names
         FROM jobs WHERE build = $1 AND (plan IS NOT NULL OR (unmet > 0 AND state = 'queued')) ORDER BY rowid",
    )
    .bind(int(build.0))
    .fetch_all(tx)
    .await?;
    let all = courses_of(&rows)?;
    rows.iter().zip(all).map(|(row, job)| view(row, job, &held)).collect()
}

fn courses_of(rows: &[SqliteRow]) -> Result<Vec<super::terms::Terms>, StoreError> {
    rows.iter().map(|row| Ok(json_or_none(row, "terms")?.unwrap_or_default())).collect()
}

fn view(row: &SqliteRow, terms: super::terms::Terms, held: &HashMap<JobKey, Held>) -> Result<JobView, StoreError> {
    let key: JobKey = name(row, "key")?;
    let (status, message) = standing(&state_of(row)?);
    let carried_from = row.try_get::<Option<i64>, _>("carried_from")?.map(|number| BuildNumber(natural(number)));
    let message = message.or_else(|| carried_from.map(|build| format!("passed in build {build}")));
    let held = held.get(&key);
    let answer: Option<Answer> = json_or_none(row, "answer")?;
    let open = held.is_some_and(|held| matches!(held.why, WaitReason::Approval(_)));
    let stages: Vec<StageName> = json(row, "stage_names")?;
    let gate = terms.gate.map(|gate| GateView {
        open,
        gate,
        approved_by: answer.as_ref().and_then(|answer| answer.by.clone()),
        approved_ms: answer.as_ref().map(|answer| answer.at_ms),
    });
    Ok(JobView {
        key,
        status,
        message: message.or_else(|| held.map(|held| held.why.to_string())),
        needs: json(row, "needs")?,
        labels: json(row, "labels")?,
        cell: terms.cell,
        stages,
        gate,
        group: terms.concurrency.map(|concurrency| concurrency.group),
        lane: terms.lane.map(|lane| lane.name),
        downstream: row.try_get::<Option<i64>, _>("child")?.map(|number| BuildNumber(natural(number))),
        finally: terms.finally,
        carried_from,
    })
}

fn standing(state: &JobState) -> (Status, Option<String>) {
    match state {
        JobState::Queued { .. } => (Status::Queued, None),
        JobState::Running { cancelling: None, .. } => (Status::Running, None),
        JobState::Elsewhere { cancelling: None, build } => {
            (Status::Running, Some(format!("waits for build {build}, which it began")))
        }
        JobState::Running { cancelling, .. } | JobState::Elsewhere { cancelling, .. } => {
            (Status::Cancelling, cancelling.clone())
        }
        JobState::Ended(ending) => (status_of(ending.outcome), ending.message.clone()),
        JobState::Skipped { reason } => (Status::Skipped, Some(reason.clone())),
    }
}

/// The jobs of a build whose turn has not come, each with what stands before it.
pub(super) async fn held(tx: &mut SqliteConnection, build: BuildNumber) -> Result<Vec<Held>, StoreError> {
    let jobs = courses(tx, build).await?;
    let members: Vec<Member> = jobs.iter().map(|job| job.member.clone()).collect();
    let mut held = Vec::new();
    for (place, job) in jobs.iter().enumerate() {
        if !matches!(job.member.at, At::Waiting { .. }) {
            continue;
        }
        let row = sqlx::query("SELECT created_ms, left_ms FROM jobs WHERE id = $1")
            .bind(job.id.to_string())
            .fetch_one(&mut *tx)
            .await?;
        let left_ms = row.try_get::<Option<i64>, _>("left_ms")?.map(natural);
        let why = match course::turn(&members, place) {
            Turn::Needs(needs) => WaitReason::Needs { jobs: needed(tx, build, &needs).await? },
            Turn::Gate => WaitReason::Approval(asked(build, job, left_ms)),
            Turn::Lane(lane) => WaitReason::Lane { lane: lane.name, max: lane.max.unwrap_or(u32::MAX) },
            Turn::Now => match before_its_turn(tx, build, job.id, job).await? {
                Some(why) => why,
                // Its turn comes with the next change.
                None => continue,
            },
            Turn::Never(_) => continue,
        };
        held.push(Held { key: job.member.key.clone(), created_ms: natural(row.try_get("created_ms")?), why });
    }
    Ok(held)
}

async fn needed(tx: &mut SqliteConnection, build: BuildNumber, needs: &[JobKey]) -> Result<Vec<NeededJob>, StoreError> {
    let rows =
        sqlx::query("SELECT * FROM jobs WHERE build = $1 ORDER BY rowid").bind(int(build.0)).fetch_all(tx).await?;
    let mut jobs = Vec::new();
    for row in &rows {
        let job: JobKey = name(row, "key")?;
        if needs.contains(&job) {
            jobs.push(NeededJob { job, status: standing(&state_of(row)?).0 });
        }
    }
    Ok(jobs)
}

fn asked(build: BuildNumber, job: &Course, left_ms: Option<u64>) -> Asked {
    let gate = job.terms.gate.clone().unwrap_or_default();
    let must = gate.inputs.into_iter().filter(|input| input.default.is_none()).map(|input| input.name);
    let (ask, allow, inputs) = (gate.ask, gate.allow, must.collect());
    Asked { build, job: job.member.key.clone(), ask, allow, inputs, left_ms, whole: job.terms.whole }
}

/// The group that stands before a job whose turn it is in its build: the build's or its pipeline's, or the job's own.
async fn before_its_turn(
    tx: &mut SqliteConnection,
    build: BuildNumber,
    id: JobId,
    job: &Course,
) -> Result<Option<WaitReason>, StoreError> {
    for asks in shared(tx, build).await? {
        if asks.has_turn || !asks.is_of(job) {
            continue;
        }
        if let Err(blocked) = shared_group(tx, build, &asks).await? {
            return Ok(Some(group(asks.terms.group, blocked)));
        }
    }
    let Some(terms) = &job.terms.concurrency else { return Ok(None) };
    let blocked = job_group(tx, build, id, terms).await?;
    Ok(blocked.err().map(|blocked| group(terms.group.clone(), blocked)))
}

fn group(group: String, blocked: Blocked) -> WaitReason {
    let (held_by, behind, unplanned) = match blocked {
        Blocked::Held(builds) => (builds, None, false),
        Blocked::Older(build) => (Vec::new(), Some(build), false),
        Blocked::Unplanned(build) => (Vec::new(), Some(build), true),
    };
    WaitReason::Group { group, held_by, behind, unplanned }
}
