//! Jobs: the work orders of a build. Every change of one's state goes through [`JobState::after`] here.

use protocol::outcome::{Ending, Outcome};
use protocol::state::{Happening, Ignored, JobState};
use protocol::{AgentId, BuildNumber, ClaimId, JobId, JobKey, LabelSet, Plan};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::attempts::{AttemptState, Taking};
use super::{Store, StoreError, Transaction, int, json, json_or_none, name, natural, small, to_json};

/// A job that is to be.
#[derive(Debug, Clone)]
pub(crate) struct NewJob {
    /// Its name within the build.
    pub(crate) key: JobKey,
    /// The jobs that must have passed before it is offered.
    pub(crate) needs: Vec<JobKey>,
    /// What its agent must have.
    pub(crate) labels: LabelSet,
    /// What it does; without one it plans.
    pub(crate) plan: Option<Plan>,
}

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
    /// Where it stands.
    pub(crate) state: JobState,
    /// How many of the jobs that it needs have not passed yet.
    pub(crate) unmet: u32,
}

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
    /// Adds a job to a build. One of the same key that is there already stays as it is.
    pub(crate) async fn insert_job(
        &mut self,
        build: BuildNumber,
        job: &NewJob,
        now_ms: u64,
    ) -> Result<JobId, StoreError> {
        let id = JobId::fresh();
        sqlx::query(
            "INSERT INTO jobs (id, build, key, needs, labels, plan, state, unmet, created_ms)
             VALUES ($1, $2, $3, $4, $5, $6, 'queued', $7, $8) ON CONFLICT (build, key) DO NOTHING",
        )
        .bind(id.to_string())
        .bind(int(build.0))
        .bind(job.key.as_str())
        .bind(to_json("needs", &job.needs)?)
        .bind(to_json("labels", &job.labels)?)
        .bind(job.plan.as_ref().map(|plan| to_json("plan", plan)).transpose()?)
        .bind(i64::try_from(job.needs.len()).unwrap_or(i64::MAX))
        .bind(int(now_ms))
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
    pub(crate) async fn plan_job(&mut self, job: &Job, key: &JobKey, plan: &Plan) -> Result<(), StoreError> {
        sqlx::query("UPDATE jobs SET key = $2, plan = $3 WHERE id = $1")
            .bind(job.id.to_string())
            .bind(key.as_str())
            .bind(to_json("plan", plan)?)
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

    /// Lets something happen to a job: its state, its attempt, the jobs that need it and its build change together.
    pub(crate) async fn apply(&mut self, job: &Job, happening: &Happening, now_ms: u64) -> Result<Applied, StoreError> {
        let applied = self.step(job, happening, now_ms).await?;
        // Those that need what did not pass end with it, and so do those that need them.
        let mut ended: Vec<(JobKey, Ending)> = ended(job, &applied).into_iter().collect();
        while let Some((key, ending)) = ended.pop() {
            for dependent in self.dependents(job.build, &key, ending.outcome).await? {
                let needs = Happening::NeedEnded { need: key.clone(), outcome: ending.outcome };
                let applied = self.step(&dependent, &needs, now_ms).await?;
                ended.extend(self::ended(&dependent, &applied));
            }
        }
        if applied.is_ok() {
            self.fold(job.build, now_ms).await?;
        }
        Ok(applied)
    }

    async fn step(&mut self, job: &Job, happening: &Happening, now_ms: u64) -> Result<Applied, StoreError> {
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
            JobState::Ended(_) => None,
            _ => Some(columns.attempts),
        };
        let written = sqlx::query(
            "UPDATE jobs SET state = $2, attempts = coalesce($3, attempts), claim = $4, agent = $5, cancelling = $6,
                    ending = $7, offered_ms = NULL
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
        if written.execute(&mut *self.tx).await?.rows_affected() != 1 {
            let reason = "it changed since it was read in the same transaction".to_owned();
            return Err(StoreError::Damaged { what: "job", reason });
        }
        Ok(())
    }

    /// The jobs that will never run now that `key` ended so; when it passed, those that need it come nearer instead.
    async fn dependents(&mut self, build: BuildNumber, key: &JobKey, outcome: Outcome) -> Result<Vec<Job>, StoreError> {
        if outcome == Outcome::Passed {
            sqlx::query(
                "UPDATE jobs SET unmet = unmet - 1 WHERE build = $1 AND state = 'queued'
                 AND EXISTS (SELECT 1 FROM json_each(jobs.needs) WHERE value = $2)",
            )
            .bind(int(build.0))
            .bind(key.as_str())
            .execute(&mut *self.tx)
            .await?;
            return Ok(Vec::new());
        }
        let rows = sqlx::query(
            "SELECT * FROM jobs WHERE build = $1 AND state = 'queued'
             AND EXISTS (SELECT 1 FROM json_each(jobs.needs) WHERE value = $2)",
        )
        .bind(int(build.0))
        .bind(key.as_str())
        .fetch_all(&mut *self.tx)
        .await?;
        rows.iter().map(job_of).collect()
    }
}

fn ended(job: &Job, applied: &Applied) -> Option<(JobKey, Ending)> {
    match applied {
        Ok(JobState::Ended(ending)) => Some((job.key.clone(), ending.clone())),
        _ => None,
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
                ending: None,
            },
            JobState::Ended(ending) => {
                Self { state: "ended", ending: Some(to_json("ending", ending)?), ..Self::default() }
            }
        })
    }
}

fn job_of(row: &SqliteRow) -> Result<Job, StoreError> {
    let attempts = small(row.try_get("attempts")?);
    let state = match row.try_get::<&str, _>("state")? {
        "queued" => JobState::Queued { attempts },
        "running" => JobState::Running {
            claim: name(row, "claim")?,
            agent: name(row, "agent")?,
            attempt: attempts,
            cancelling: row.try_get("cancelling")?,
        },
        _ => JobState::Ended(json(row, "ending")?),
    };
    Ok(Job {
        id: name(row, "id")?,
        build: BuildNumber(natural(row.try_get("build")?)),
        key: name(row, "key")?,
        labels: json(row, "labels")?,
        plan: json_or_none(row, "plan")?,
        state,
        unmet: small(row.try_get("unmet")?),
    })
}
