//! Attempts: one taking of a job by one agent, known by its claim. Also the claims that came to nothing.

use protocol::api::{Loss, Status, TryView};
use protocol::identity::SealingKey;
use protocol::outcome::{Outcome, StageOutcome};
use protocol::report::Tests;
use protocol::{AgentId, BootId, BuildNumber, ClaimId, JobId, StageName};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::builds::{status, status_of};
use super::{Store, StoreError, Transaction, int, json, name, natural, small, to_json};

/// One taking of a job.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// Its claim.
    pub(crate) claim: ClaimId,
    /// Of which job.
    pub(crate) job: JobId,
    /// 1 for the job's first.
    pub(crate) attempt: u32,
    /// By whom.
    pub(crate) agent: AgentId,
    /// What its grant is sealed to.
    pub(crate) sealing: SealingKey,
    /// Where it stands.
    pub(crate) state: AttemptState,
    /// The number of the last event that was taken from it; all before it were taken too.
    pub(crate) last_seq: u64,
    /// Whether a stage that must not run twice has begun in it.
    pub(crate) not_twice: bool,
}

/// Where an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptState {
    /// Its agent works on it.
    Running,
    /// Its agent went silent.
    Lost,
    /// Its agent gave it up before it was told of the grant: it does not count.
    Abandoned,
    /// It came to an end.
    Ended(Status),
}

impl AttemptState {
    fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Lost => "lost",
            Self::Abandoned => "abandoned",
            Self::Ended(status) => status.name(),
        }
    }

    pub(super) fn ended(outcome: Outcome) -> Self {
        Self::Ended(status_of(outcome))
    }

    /// From a row that has the column.
    pub(super) fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(match row.try_get::<&str, _>("state")? {
            "running" => Self::Running,
            "lost" => Self::Lost,
            "abandoned" => Self::Abandoned,
            outcome => Self::Ended(status(outcome)?),
        })
    }
}

/// Something about a stage besides its beginning and end.
#[derive(Debug, Clone)]
pub(crate) enum Detail {
    /// What the name of its image meant.
    Digest(String),
    /// What its reports say of its tests.
    Tests(Tests),
    /// How much of the code these covered, in hundredths of a per cent of the lines.
    Coverage(u32),
    /// What it wrote for people.
    Summary(String),
    /// A try that was followed by another.
    Tried(TryView),
}

/// A claim that takes a job.
#[derive(Debug, Clone)]
pub(crate) struct Taking {
    /// The claim.
    pub(crate) claim: ClaimId,
    /// Who.
    pub(crate) agent: AgentId,
    /// In which life.
    pub(crate) boot: BootId,
    /// What the grant is to be sealed to.
    pub(crate) sealing: SealingKey,
}

impl Store {
    /// An attempt by its job and number.
    pub(crate) async fn attempt_of(&self, job: JobId, attempt: u32) -> Result<Option<Attempt>, StoreError> {
        let row = sqlx::query("SELECT * FROM attempts WHERE job = $1 AND attempt = $2 ORDER BY rowid DESC LIMIT 1")
            .bind(job.to_string())
            .bind(i64::from(attempt))
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(attempt_of).transpose()
    }

    /// The build that a job belongs to.
    pub(crate) async fn build_of(&self, job: JobId) -> Result<Option<BuildNumber>, StoreError> {
        let row = sqlx::query("SELECT build FROM jobs WHERE id = $1").bind(job.to_string());
        let row = row.fetch_optional(&self.readers).await?;
        row.map(|row| Ok(BuildNumber(natural(row.try_get("build")?)))).transpose()
    }
}

impl Transaction {
    /// The attempt of a claim, whether current or not.
    pub(crate) async fn attempt(&mut self, claim: ClaimId) -> Result<Option<Attempt>, StoreError> {
        if let Some(known) = self.attempts.get(&claim) {
            return Ok(Some(known.clone()));
        }
        let row = sqlx::query("SELECT * FROM attempts WHERE claim = $1")
            .bind(claim.reveal())
            .fetch_optional(&mut *self.tx)
            .await?;
        let attempt = row.as_ref().map(attempt_of).transpose()?;
        if let Some(attempt) = &attempt {
            self.attempts.insert(claim, attempt.clone());
        }
        Ok(attempt)
    }

    pub(super) async fn insert_attempt(
        &mut self,
        job: JobId,
        attempt: u32,
        taking: &Taking,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO attempts (claim, job, attempt, agent, boot, sealing, state, started_ms)
             VALUES ($1, $2, $3, $4, $5, $6, 'running', $7)",
        )
        .bind(taking.claim.reveal())
        .bind(job.to_string())
        .bind(attempt)
        .bind(taking.agent.as_str())
        .bind(taking.boot.to_string())
        .bind(to_json("sealing key", &taking.sealing)?)
        .bind(int(now_ms))
        .execute(&mut *self.tx)
        .await?;
        let made = Attempt {
            claim: taking.claim,
            job,
            attempt,
            agent: taking.agent.clone(),
            sealing: taking.sealing.clone(),
            state: AttemptState::Running,
            last_seq: 0,
            not_twice: false,
        };
        self.attempts.insert(taking.claim, made);
        Ok(())
    }

    pub(super) async fn end_attempt(
        &mut self,
        claim: ClaimId,
        state: AttemptState,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.attempts.remove(&claim);
        sqlx::query("UPDATE attempts SET state = $2, ended_ms = $3 WHERE claim = $1 AND state = 'running'")
            .bind(claim.reveal())
            .bind(state.name())
            .bind(int(now_ms))
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// How many attempts at a job were lost with their agents, but for this one and those that a person took away.
    pub(crate) async fn lost_before(&mut self, job: JobId, claim: ClaimId) -> Result<u32, StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS lost FROM attempts
             WHERE job = $1 AND claim <> $2 AND state = 'lost' AND coalesce(loss ->> '$.loss', '') <> 'revoked'",
        )
        .bind(job.to_string())
        .bind(claim.reveal())
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(small(row.try_get("lost")?))
    }

    /// Writes down how an attempt was lost, for people to read.
    pub(crate) async fn lost_by(&mut self, claim: ClaimId, loss: &Loss) -> Result<(), StoreError> {
        sqlx::query("UPDATE attempts SET loss = $2 WHERE claim = $1 AND state = 'lost'")
            .bind(claim.reveal())
            .bind(to_json("loss", loss)?)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Writes down how an attempt errored after which another one is made, for people to read.
    pub(crate) async fn errored_by(&mut self, claim: ClaimId, loss: &Loss) -> Result<(), StoreError> {
        sqlx::query("UPDATE attempts SET loss = $2 WHERE claim = $1 AND state = 'errored'")
            .bind(claim.reveal())
            .bind(to_json("loss", loss)?)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Remembers how far an attempt's events were taken, so that a repetition is seen.
    pub(crate) async fn took_event(&mut self, claim: ClaimId, seq: u64) -> Result<(), StoreError> {
        self.attempts.entry(claim).and_modify(|attempt| attempt.last_seq = seq);
        sqlx::query("UPDATE attempts SET last_seq = $2 WHERE claim = $1")
            .bind(claim.reveal())
            .bind(int(seq))
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// A stage that must not run twice may begin from now on.
    pub(crate) async fn begins_not_twice(&mut self, claim: ClaimId) -> Result<(), StoreError> {
        self.attempts.entry(claim).and_modify(|attempt| attempt.not_twice = true);
        sqlx::query("UPDATE attempts SET not_twice = 1 WHERE claim = $1")
            .bind(claim.reveal())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// A stage's container is being made.
    pub(crate) async fn stage_started(
        &mut self,
        claim: ClaimId,
        stage: &StageName,
        image: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO stages (claim, name, image) VALUES ($1, $2, $3)
             ON CONFLICT DO UPDATE SET image = excluded.image WHERE image = ''",
        )
        .bind(claim.reveal())
        .bind(stage.as_str())
        .bind(image)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// A stage ended; one that never ran is noted with it.
    pub(crate) async fn stage_ended(
        &mut self,
        claim: ClaimId,
        stage: &StageName,
        result: &StageOutcome,
        duration_ms: u64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO stages (claim, name, image, result, duration_ms) VALUES ($1, $2, '', $3, $4)
             ON CONFLICT DO UPDATE SET result = excluded.result, duration_ms = excluded.duration_ms",
        )
        .bind(claim.reveal())
        .bind(stage.as_str())
        .bind(to_json("stage's result", result)?)
        .bind(int(duration_ms))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Writes down something about a stage; one that has not begun is noted with it.
    pub(crate) async fn stage_detail(
        &mut self,
        claim: ClaimId,
        stage: &StageName,
        detail: &Detail,
    ) -> Result<(), StoreError> {
        let (statement, value) = match detail {
            Detail::Digest(digest) => (
                "INSERT INTO stages (claim, name, image, digest) VALUES ($1, $2, '', $3)
                 ON CONFLICT DO UPDATE SET digest = excluded.digest",
                digest.clone(),
            ),
            Detail::Tests(tests) => (
                "INSERT INTO stages (claim, name, image, tests) VALUES ($1, $2, '', $3)
                 ON CONFLICT DO UPDATE SET tests = excluded.tests",
                to_json("stage's tests", tests)?,
            ),
            Detail::Coverage(lines) => (
                "INSERT INTO stages (claim, name, image, coverage) VALUES ($1, $2, '', CAST($3 AS INTEGER))
                 ON CONFLICT DO UPDATE SET coverage = excluded.coverage",
                lines.to_string(),
            ),
            Detail::Summary(text) => (
                "INSERT INTO stages (claim, name, image, summary) VALUES ($1, $2, '', $3)
                 ON CONFLICT DO UPDATE SET summary = excluded.summary",
                text.clone(),
            ),
            Detail::Tried(tried) => (
                "INSERT INTO stages (claim, name, image, tries) VALUES ($1, $2, '', json_array(json($3)))
                 ON CONFLICT DO UPDATE SET tries = json_insert(coalesce(tries, '[]'), '$[#]', json($3))",
                to_json("stage's try", tried)?,
            ),
        };
        let written = sqlx::query(statement).bind(claim.reveal()).bind(stage.as_str()).bind(value);
        written.execute(&mut *self.tx).await?;
        Ok(())
    }

    /// Remembers that a claim does not hold, so that the same one again is answered the same.
    pub(crate) async fn deny(&mut self, claim: ClaimId, reason: &str, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO denials (claim, reason, at_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(claim.reveal())
            .bind(reason)
            .bind(int(now_ms))
            .execute(&mut *self.tx)
            .await?;
        // A claim is asked again for minutes, not for days.
        sqlx::query("DELETE FROM denials WHERE at_ms < $1")
            .bind(int(now_ms.saturating_sub(DENIALS_KEPT_MS)))
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Why a claim was denied before, if it was.
    pub(crate) async fn denial(&mut self, claim: ClaimId) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT reason FROM denials WHERE claim = $1")
            .bind(claim.reveal())
            .fetch_optional(&mut *self.tx)
            .await?;
        Ok(row.map(|row| row.try_get("reason")).transpose()?)
    }
}

const DENIALS_KEPT_MS: u64 = 7 * 24 * 3600 * 1000;

fn attempt_of(row: &SqliteRow) -> Result<Attempt, StoreError> {
    Ok(Attempt {
        claim: name(row, "claim")?,
        job: name(row, "job")?,
        attempt: small(row.try_get("attempt")?),
        agent: name(row, "agent")?,
        sealing: json(row, "sealing")?,
        state: AttemptState::of(row)?,
        last_seq: natural(row.try_get("last_seq")?),
        not_twice: row.try_get("not_twice")?,
    })
}
