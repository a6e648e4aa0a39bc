//! Jobs: the work orders of a build. Every change of one's state goes through [`JobState::after`] here.

use protocol::outcome::Ending;
use protocol::state::{Happening, Ignored, JobState};
use protocol::{AgentId, BuildNumber, ClaimId, JobId, JobKey, LabelSet, Plan, PlannedJob};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::attempts::{AttemptState, Taking};
use super::terms::{Answer, Terms};
use super::{Store, StoreError, Transaction, int, json, json_or_none, name, natural, small, to_json};

/// A job as it stands.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Which.
    pub(crate) id: JobId,
    /// Of which build.
    pub(crate) build: BuildNumber,
    /// Its name within the build.
    pub(crate) key: JobKey,
    /// What its agent must have.
    pub(crate) labels: LabelSet,
    /// What it does, once it is planned.
    pub(crate) plan: Option<Plan>,
    /// When it may begin, once it is planned.
    pub(crate) terms: Terms,
    /// What a person said at its gate.
    pub(crate) answer: Option<Answer>,
    /// Where it stands.
    pub(crate) state: JobState,
    /// Whether agents may have it: its turn has come.
    pub(crate) may_begin: bool,
}

/// How long a build's last job may be in work, whatever its agent says: its own time, and as much again for clone and
/// pull.
const LAST_MS: u64 = 2 * 5 * 60 * 1000;

/// What a happening did: the state that followed, or why it changed nothing.
pub(crate) type Applied = Result<JobState, Ignored>;

/// A claim under which a job runs.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    /// Which.
    pub(crate) claim: ClaimId,
    /// Whose.
    pub(crate) agent: AgentId,
    /// Whether the job was asked to end.
    pub(crate) cancelling: bool,
}

impl Store {
    /// All claims under which jobs run.
    pub(crate) async fn running(&self) -> Result<Vec<Running>, StoreError> {
        let rows =
            sqlx::query("SELECT claim, agent, cancelling FROM jobs WHERE state <> 'ended' AND state = 'running'")
                .fetch_all(&self.readers)
                .await?;
        let running = |row: &SqliteRow| {
            let cancelling: Option<&str> = row.try_get("cancelling")?;
            Ok(Running { claim: name(row, "claim")?, agent: name(row, "agent")?, cancelling: cancelling.is_some() })
        };
        rows.iter().map(running).collect()
    }
}

impl Transaction {
    /// Adds the job that plans a build, to be taken by an agent with these labels.
    pub(crate) async fn insert_job(
        &mut self,
        build: BuildNumber,
        key: &JobKey,
        labels: &LabelSet,
        now_ms: u64,
    ) -> Result<JobId, StoreError> {
        let id = JobId::fresh();
        sqlx::query(
            "INSERT INTO jobs (id, build, key, needs, labels, state, unmet, created_ms, repo, priority)
             SELECT $1, $2, $3, '[]', $4, 'queued', 0, $5, repo, priority FROM builds WHERE number = $2",
        )
        .bind(id.to_string())
        .bind(int(build.0))
        .bind(key.as_str())
        .bind(to_json("labels", labels)?)
        .bind(int(now_ms))
        .execute(&mut *self.tx)
        .await?;
        Ok(id)
    }

    /// Has a job that nobody has heard of yet wait for what its terms say.
    pub(super) async fn hold(&mut self, id: JobId, terms: &Terms) -> Result<(), StoreError> {
        sqlx::query("UPDATE jobs SET terms = $2, unmet = 1 WHERE id = $1 AND state = 'queued' AND offered_ms IS NULL")
            .bind(id.to_string())
            .bind(to_json("terms", terms)?)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Adds a planned job to a build; [`Transaction::advance`] says then whether its turn has come. One of the same key
    /// that is there already stays as it is.
    pub(crate) async fn insert_planned(
        &mut self,
        build: BuildNumber,
        job: &PlannedJob,
        now_ms: u64,
    ) -> Result<JobId, StoreError> {
        let id = JobId::fresh();
        self.grouped = None;
        sqlx::query(
            "INSERT INTO jobs (id, build, key, needs, labels, plan, terms, grp, left_ms, state, unmet, created_ms,
                               pipeline, repo, priority)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, 'queued', 1, $10, $11, repo, priority
             FROM builds WHERE number = $2
             ON CONFLICT (build, key) DO NOTHING",
        )
        .bind(id.to_string())
        .bind(int(build.0))
        .bind(job.key.as_str())
        .bind(to_json("needs", &job.needs)?)
        .bind(to_json("labels", &job.labels)?)
        .bind(to_json("plan", &job.plan)?)
        .bind(to_json("terms", &Terms::of(job))?)
        .bind(job.concurrency.as_ref().map(|concurrency| concurrency.group.as_str()))
        .bind(if job.finally { Some(LAST_MS) } else { job.gate.as_ref().and_then(|gate| gate.timeout_ms) }.map(int))
        .bind(int(now_ms))
        .bind(job.plan.pipeline.as_deref().unwrap_or_default())
        .execute(&mut *self.tx)
        .await?;
        Ok(id)
    }

    /// One job.
    pub(crate) async fn job(&mut self, id: JobId) -> Result<Option<Job>, StoreError> {
        let row =
            sqlx::query("SELECT * FROM jobs WHERE id = $1").bind(id.to_string()).fetch_optional(&mut *self.tx).await?;
        row.as_ref().map(job_of).transpose()
    }

    /// The jobs of a build, in the order of their making.
    pub(crate) async fn jobs(&mut self, build: BuildNumber) -> Result<Vec<Job>, StoreError> {
        let rows = sqlx::query("SELECT * FROM jobs WHERE build = $1 ORDER BY rowid")
            .bind(int(build.0))
            .fetch_all(&mut *self.tx)
            .await?;
        rows.iter().map(job_of).collect()
    }

    /// Gives a job its plan, and the key that the plan has for it.
    pub(crate) async fn plan_job(&mut self, job: &Job, planned: &PlannedJob) -> Result<(), StoreError> {
        sqlx::query("UPDATE jobs SET key = $2, plan = $3, terms = $4 WHERE id = $1")
            .bind(job.id.to_string())
            .bind(planned.key.as_str())
            .bind(to_json("plan", &planned.plan)?)
            .bind(to_json("terms", &Terms::of(planned))?)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Gives a job to a claim, if no other has it.
    pub(crate) async fn take(&mut self, job: &Job, taking: &Taking, now_ms: u64) -> Result<Applied, StoreError> {
        let claimed = Happening::Claimed { claim: taking.claim, agent: taking.agent.clone() };
        let applied = self.apply(job, &claimed, now_ms).await?;
        if let Ok(JobState::Running { attempt, .. }) = &applied {
            self.insert_attempt(job.id, *attempt, taking, now_ms).await?;
        }
        Ok(applied)
    }

    /// Lets something happen to a job: its state, its attempt, the jobs whose turn comes by it or never comes, and the
    /// builds that this concerns change together.
    pub(crate) async fn apply(&mut self, job: &Job, happening: &Happening, now_ms: u64) -> Result<Applied, StoreError> {
        let applied = self.step(job, happening, now_ms).await?;
        if applied.is_ok() {
            self.advance(job.build, now_ms).await?;
        }
        Ok(applied)
    }

    pub(super) async fn step(&mut self, job: &Job, happening: &Happening, now_ms: u64) -> Result<Applied, StoreError> {
        let after = match job.state.clone().after(happening) {
            Ok(after) => after,
            Err(ignored) => return Ok(Err(ignored)),
        };
        self.write_state(job, &after).await?;
        if let (Some(claim), Some(state)) = (job.state.claim(), attempt_after(&after, happening)) {
            self.end_attempt(claim, state, now_ms).await?;
        }
        Ok(Ok(after))
    }

    async fn write_state(&mut self, job: &Job, after: &JobState) -> Result<(), StoreError> {
        let columns = Columns::of(after)?;
        let attempts = match after {
            // An end says nothing of attempts: the count stays.
            JobState::Ended(_) | JobState::Skipped { .. } | JobState::Elsewhere { .. } => None,
            _ => Some(columns.attempts),
        };
        let written = sqlx::query(
            "UPDATE jobs SET state = $2, attempts = coalesce($3, attempts), claim = $4, agent = $5, cancelling = $6,
                    ending = $7, offered_ms = NULL, child = coalesce($11, child), skipped = $12
             WHERE id = $1 AND state = $8 AND claim IS $9 AND cancelling IS $10",
        )
        .bind(job.id.to_string())
        .bind(columns.state)
        .bind(attempts)
        .bind(columns.claim)
        .bind(columns.agent)
        .bind(columns.cancelling)
        .bind(columns.ending);
        let before = Columns::of(&job.state)?;
        let written = written.bind(before.state).bind(before.claim).bind(before.cancelling);
        let written = written.bind(columns.child).bind(columns.skipped);
        if written.execute(&mut *self.tx).await?.rows_affected() != 1 {
            let reason = "it changed since it was read in the same transaction".to_owned();
            return Err(StoreError::Damaged { what: "job", reason });
        }
        Ok(())
    }
}

/// What becomes of the attempt of a running job, when it does not go on.
fn attempt_after(after: &JobState, happening: &Happening) -> Option<AttemptState> {
    match (happening, after) {
        (_, JobState::Running { .. }) => None,
        (Happening::Abandoned { .. }, _) => Some(AttemptState::Abandoned),
        (Happening::Finished { ending, .. }, _) => Some(AttemptState::ended(ending.outcome)),
        _ => Some(AttemptState::Lost),
    }
}

/// A state as its columns.
#[derive(Default)]
struct Columns {
    state: &'static str,
    attempts: u32,
    claim: Option<String>,
    agent: Option<String>,
    cancelling: Option<String>,
    ending: Option<String>,
    child: Option<i64>,
    skipped: Option<String>,
}

impl Columns {
    fn of(state: &JobState) -> Result<Self, StoreError> {
        Ok(match state {
            JobState::Queued { attempts } => Self { state: "queued", attempts: *attempts, ..Self::default() },
            JobState::Running { claim, agent, attempt, cancelling } => Self {
                state: "running",
                attempts: *attempt,
                claim: Some(claim.reveal()),
                agent: Some(agent.to_string()),
                cancelling: cancelling.clone(),
                ..Self::default()
            },
            // On nobody's queue, and in no agent's hands.
            JobState::Elsewhere { build, cancelling } => {
                Self { state: "queued", cancelling: cancelling.clone(), child: Some(int(build.0)), ..Self::default() }
            }
            JobState::Skipped { reason } => Self {
                state: "ended",
                ending: Some(to_json("ending", &Ending::passed())?),
                skipped: Some(reason.clone()),
                ..Self::default()
            },
            JobState::Ended(ending) => {
                Self { state: "ended", ending: Some(to_json("ending", ending)?), ..Self::default() }
            }
        })
    }
}

fn job_of(row: &SqliteRow) -> Result<Job, StoreError> {
    Ok(Job {
        id: name(row, "id")?,
        build: BuildNumber(natural(row.try_get("build")?)),
        key: name(row, "key")?,
        labels: json(row, "labels")?,
        plan: json_or_none(row, "plan")?,
        terms: json_or_none(row, "terms")?.unwrap_or_default(),
        answer: json_or_none(row, "answer")?,
        state: state_of(row)?,
        may_begin: row.try_get::<i64, _>("unmet")? == 0,
    })
}

/// A job's state, from a row that has all columns of one.
pub(super) fn state_of(row: &SqliteRow) -> Result<JobState, StoreError> {
    let attempts = small(row.try_get("attempts")?);
    let cancelling: Option<String> = row.try_get("cancelling")?;
    let child: Option<i64> = row.try_get("child")?;
    let skipped: Option<String> = row.try_get("skipped")?;
    Ok(match (row.try_get::<&str, _>("state")?, child, skipped) {
        ("queued", None, _) => JobState::Queued { attempts },
        ("queued", Some(child), _) => JobState::Elsewhere { build: BuildNumber(natural(child)), cancelling },
        ("running", ..) => {
            JobState::Running { claim: name(row, "claim")?, agent: name(row, "agent")?, attempt: attempts, cancelling }
        }
        (_, _, Some(reason)) => JobState::Skipped { reason },
        _ => JobState::Ended(json(row, "ending")?),
    })
}
