//! What happens in a job. Events of a claim that is not current are kept under its attempt and change nothing else.

use protocol::api::Loss;
use protocol::control::Control;
use protocol::outcome::{Ending, Outcome};
use protocol::report::{Events, JobEvent, Moment, Progress};
use protocol::state::{Happening, JobState};
use protocol::{AgentId, ClaimId};

use super::{MAX_ATTEMPTS, Turn};
use crate::feed::Change;
use crate::store::{Attempt, AttemptState, Job, LONGEST_POSTPONED_MS, POSTPONED_MS, Settled, StoreError};

const NOT_CURRENT: &str = "the claim is no longer current";

/// A claim's attempt and its job, as they stand.
struct At {
    attempt: Attempt,
    job: Job,
}

impl At {
    fn is_current(&self) -> bool {
        self.job.state.claim() == Some(self.attempt.claim)
    }
}

/// Whether the job or its attempt may stand otherwise after it.
fn changes_the_job(event: &JobEvent) -> bool {
    matches!(event, JobEvent::Planned { .. } | JobEvent::Finished { .. } | JobEvent::HandedOn { .. })
}

impl Turn<'_> {
    pub(super) async fn progress(&mut self, speaker: &AgentId, progress: &Progress) -> Result<(), StoreError> {
        let Progress { claim, seq, at_ms, event } = progress;
        let moment = Moment { seq: *seq, at_ms: *at_ms, event: event.clone() };
        self.moments(speaker, *claim, std::slice::from_ref(&moment)).await
    }

    /// Several of one claim: what is known of it is looked up once, and again after what may have changed it.
    pub(super) async fn events(&mut self, speaker: &AgentId, events: &Events) -> Result<(), StoreError> {
        self.moments(speaker, events.claim, &events.events).await
    }

    async fn moments(&mut self, speaker: &AgentId, claim: ClaimId, moments: &[Moment]) -> Result<(), StoreError> {
        let Some(mut at) = self.at(claim).await? else {
            tracing::warn!("an event of the unknown claim {claim:?} changes nothing");
            // Else it would keep what it has of it, and say it again and again.
            self.answers.tell(speaker, Control::Forgotten { claim });
            return Ok(());
        };
        let before = at.attempt.last_seq;
        for (place, moment) in moments.iter().enumerate() {
            if at.is_current() && moment.seq > at.attempt.last_seq + 1 {
                // What lies between was lost on its way, such as with a queue that somebody emptied. Events are taken
                // in order, so the agent goes back to where this store is.
                let noted = Control::Noted { claim, seq: at.attempt.last_seq };
                self.answers.tell(&at.attempt.agent, noted);
                break;
            }
            self.moment(&mut at, moment).await?;
            // Behind the last one nobody looks at them any more.
            if changes_the_job(&moment.event)
                && place + 1 < moments.len()
                && let Some(after) = self.at(claim).await?
            {
                let last_seq = at.attempt.last_seq;
                at = after;
                at.attempt.last_seq = last_seq;
            }
        }
        if at.attempt.last_seq > before {
            self.tx.took_event(claim, at.attempt.last_seq).await?;
            self.answers.say(Change::Build(at.job.build));
        }
        Ok(())
    }

    async fn at(&mut self, claim: ClaimId) -> Result<Option<At>, StoreError> {
        let Some(attempt) = self.tx.attempt(claim).await? else { return Ok(None) };
        let job = self.tx.job(attempt.job).await?;
        Ok(job.map(|job| At { attempt, job }))
    }

    async fn moment(&mut self, at: &mut At, Moment { seq, event, .. }: &Moment) -> Result<(), StoreError> {
        let current = at.is_current();
        let At { attempt, job } = at;
        let again = *seq <= attempt.last_seq;
        if !again {
            attempt.last_seq = *seq;
            if current {
                self.happened(attempt, job, event).await?;
            } else {
                self.note(attempt, event).await?;
            }
        }
        match (event, attempt.state) {
            // Whatever became of it, the agent need not keep it.
            (JobEvent::Finished { .. }, _) => {
                self.answers.tell(&attempt.agent, Control::Recorded { claim: attempt.claim });
                if again {
                    self.say_kept(attempt).await?;
                }
            }
            (JobEvent::StageStarted { not_twice: true, .. }, _) if current => {
                self.may_begin(attempt, job, attempt.last_seq);
            }
            (JobEvent::StageStarted { not_twice: true, .. }, _) | (_, AttemptState::Lost | AttemptState::Abandoned) => {
                self.abort(attempt, NOT_CURRENT);
            }
            _ => {}
        }
        Ok(())
    }

    /// A result that is said again asks what is here of its logs: receipts for them were lost on their way, such as with
    /// a coordinator that was killed.
    async fn say_kept(&mut self, attempt: &Attempt) -> Result<(), StoreError> {
        let claim = attempt.claim;
        for (log, bytes) in self.tx.kept_of_logs(claim).await? {
            self.answers.tell(&attempt.agent, Control::LogKept { claim, log, bytes });
        }
        Ok(())
    }

    /// What a stage that must not run twice waits for: from now on its attempt is the job's last. One that is asked to
    /// end begins nothing more.
    pub(super) fn may_begin(&mut self, attempt: &Attempt, job: &Job, seq: u64) {
        let claim = attempt.claim;
        let control = match &job.state {
            JobState::Running { cancelling: Some(reason), .. } => Control::Cancel { claim, reason: reason.clone() },
            _ => Control::Noted { claim, seq },
        };
        self.answers.tell(&attempt.agent, control);
    }

    async fn happened(&mut self, attempt: &Attempt, job: &Job, event: &JobEvent) -> Result<(), StoreError> {
        match event {
            JobEvent::CheckedOut { commit, branch, subject, author, default_branch } => {
                let branches = (branch.as_ref(), default_branch.as_ref());
                self.tx.pin(job.build, commit.as_ref(), branches, subject, author).await
            }
            JobEvent::Planned { jobs, build } => self.planned(attempt, job, jobs, build).await,
            JobEvent::Finished { ending, spent } => {
                self.tx.spent(attempt.claim, spent).await?;
                self.end(attempt, job, ending.clone()).await
            }
            JobEvent::HandedOn { values } => self.hands_on(attempt, job, values).await,
            JobEvent::StageStarted { stage, not_twice, .. } => {
                // An agent that is too old to ask begins it all the same; that it began is remembered then too.
                let planned = job.plan.iter().flat_map(|plan| &plan.stages).find(|planned| planned.name == *stage);
                if *not_twice || planned.is_some_and(|planned| planned.not_twice) {
                    self.tx.begins_not_twice(attempt.claim).await?;
                }
                self.note(attempt, event).await
            }
            _ => self.note(attempt, event).await,
        }
    }

    /// Writes down what concerns the attempt alone.
    async fn note(&mut self, attempt: &Attempt, event: &JobEvent) -> Result<(), StoreError> {
        let claim = attempt.claim;
        match event {
            JobEvent::Settled { acknowledged: true } => self.tx.settle(claim, Settled::Acknowledged).await,
            JobEvent::Settled { acknowledged: false } => self.tx.settle(claim, Settled::Again).await,
            JobEvent::StageStarted { stage, image, .. } => self.tx.stage_started(claim, stage, image).await,
            JobEvent::StageEnded { stage, result, duration_ms } => {
                self.tx.stage_ended(claim, stage, result, *duration_ms).await
            }
            JobEvent::LogComplete { log, total } => self.tx.log_complete(claim, log, *total).await,
            JobEvent::ImageFound { .. }
            | JobEvent::StageTried { .. }
            | JobEvent::ArtifactsKept { .. }
            | JobEvent::TestsRead { .. }
            | JobEvent::CoverageRead { .. }
            | JobEvent::Summary { .. } => self.note_detail(claim, event).await,
            JobEvent::CheckedOut { .. }
            | JobEvent::Planned { .. }
            | JobEvent::Finished { .. }
            | JobEvent::HandedOn { .. }
            // Its log says so too.
            | JobEvent::StageReused { .. }
            | JobEvent::Unknown => Ok(()),
        }
    }

    pub(super) async fn end(&mut self, attempt: &Attempt, job: &Job, ending: Ending) -> Result<(), StoreError> {
        let Attempt { claim, not_twice, .. } = *attempt;
        let errored = match ending.outcome {
            Outcome::Errored { cause } => Some(Loss::Errored { cause, message: ending.message.clone() }),
            Outcome::Passed | Outcome::Failed | Outcome::Cancelled => None,
        };
        let finished = Happening::Finished { claim, ending, not_twice, max_attempts: MAX_ATTEMPTS };
        let Ok(after) = self.tx.apply(job, &finished, self.now_ms).await? else { return Ok(()) };
        if let (JobState::Queued { attempts }, Some(errored)) = (after, errored) {
            tracing::info!(build = job.build.0, job = %job.key, agent = %attempt.agent, "it is tried again: {errored}");
            self.tx.errored_by(claim, &errored).await?;
            self.tx.postpone(job.id, self.now_ms + again_after_ms(attempts)).await?;
        }
        self.gone(claim);
        Ok(())
    }

    fn gone(&mut self, claim: ClaimId) {
        self.answers.gone(claim);
        self.answers.say(Change::Agents);
    }

    pub(super) fn abort(&mut self, attempt: &Attempt, reason: &str) {
        self.answers.tell(&attempt.agent, Control::Abort { claim: attempt.claim, reason: reason.to_owned() });
    }
}

/// How long the next attempt waits after so many, so that what was at fault can come back, and is not overrun by those
/// that ask whether it is.
fn again_after_ms(attempts: u32) -> u64 {
    let times = 4_u64.saturating_pow(attempts.saturating_sub(1));
    POSTPONED_MS.saturating_mul(times).min(LONGEST_POSTPONED_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_waits_longer_than_the_one_before() {
        let waits: Vec<u64> = (1..=4).map(again_after_ms).collect();
        assert_eq!(waits, [5_000, 20_000, 30_000, 30_000]);
    }
}
