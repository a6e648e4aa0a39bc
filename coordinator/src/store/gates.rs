//! The gates at which jobs wait for a person, and what was said there.

use protocol::course::Member;
use protocol::plan::Gate;
use protocol::{BuildNumber, JobId, JobKey};

use super::members::courses;
use super::terms::Answer;
use super::{StoreError, Transaction, json_or_none, to_json};

/// A job and its gate.
#[derive(Debug, Clone)]
pub(crate) struct AtGate {
    /// Which job.
    pub(crate) id: JobId,
    /// Its name within the build.
    pub(crate) key: JobKey,
    /// Its gate, when it has one.
    pub(crate) gate: Option<Gate>,
    /// Whether a person let it begin.
    pub(crate) answered: bool,
    /// Who, as that one said.
    pub(crate) answered_by: Option<String>,
    /// Whether it stands before the whole build, and a maintainer opens it.
    pub(crate) whole: bool,
}

impl Transaction {
    /// Writes down what a person said at a gate.
    pub(crate) async fn answer(&mut self, job: JobId, answer: &Answer) -> Result<(), StoreError> {
        sqlx::query("UPDATE jobs SET answer = $2 WHERE id = $1 AND answer IS NULL")
            .bind(job.to_string())
            .bind(to_json("answer", answer)?)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// The planned jobs of a build as they stand at their gates, each beside what the course knows of it.
    pub(crate) async fn at_gates(&mut self, build: BuildNumber) -> Result<(Vec<AtGate>, Vec<Member>), StoreError> {
        let jobs = courses(&mut self.tx, build).await?;
        let members = jobs.iter().map(|job| job.member.clone()).collect();
        let mut at_gates = Vec::with_capacity(jobs.len());
        for job in jobs {
            let row = sqlx::query("SELECT answer FROM jobs WHERE id = $1")
                .bind(job.id.to_string())
                .fetch_one(&mut *self.tx)
                .await?;
            let answer: Option<Answer> = json_or_none(&row, "answer")?;
            at_gates.push(AtGate {
                id: job.id,
                key: job.member.key,
                whole: job.terms.whole,
                gate: job.terms.gate,
                answered: answer.is_some(),
                answered_by: answer.and_then(|answer| answer.by),
            });
        }
        Ok((at_gates, members))
    }
}
