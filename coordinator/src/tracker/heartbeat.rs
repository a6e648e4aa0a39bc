//! Answers an agent's sign of life with all that is not as the agent believes: so every control message that was
//! lost on its way is made good.

use protocol::AgentId;
use protocol::api::IncidentKind;
use protocol::control::Control;
use protocol::report::{ClaimPhase, Heartbeat, HeldClaim};
use protocol::state::JobState;

use super::Turn;
use super::enrolment::{not_taken, sighting};
use crate::feed::Change;
use crate::presence::{Said, Sighting};
use crate::store::StoreError;

impl Turn<'_> {
    pub(super) async fn heartbeat(&mut self, heartbeat: &Heartbeat) -> Result<(), StoreError> {
        let Some(mut agent) = self.tx.agent(&heartbeat.agent).await? else {
            let reason = "this coordinator does not know the agent; it has to say hello first".to_owned();
            return self.not_enrolled(&heartbeat.agent, heartbeat.boot, reason);
        };
        if heartbeat.boot == agent.boot {
            agent.slots = heartbeat.slots;
            let said = Said {
                heard: heartbeat.standing.clone(),
                paused: heartbeat.paused.clone(),
                draining: heartbeat.draining,
                capacity: heartbeat.capacity,
                hears_several: heartbeat.hears_several,
            };
            self.answers.saw(&agent.name, Sighting { said: Some(said), ..sighting(&agent) });
            self.seen(&mut agent).await?;
            let note = agent.pause.as_ref().map(|pause| pause.note.clone());
            if heartbeat.standing != note {
                self.answers.tell(&agent.name, Control::Standing { note, boot: Some(heartbeat.boot) });
            }
        } else {
            // Anybody may write that name into a heartbeat; what counts is the life whose key was looked at.
            tracing::warn!("two agents call themselves {}; give each a name of its own", agent.name);
        }
        self.answers.say(Change::Agents);
        if !agent.enrolled {
            self.answers
                .tell(&agent.name, Control::NotEnrolled { reason: not_taken(&agent), boot: Some(heartbeat.boot) });
        }
        for held in &heartbeat.claims {
            self.held(&agent.name, held).await?;
        }
        Ok(())
    }

    async fn held(&mut self, agent: &AgentId, held: &HeldClaim) -> Result<(), StoreError> {
        let HeldClaim { claim, phase, waits_for } = *held;
        let attempt = self.tx.attempt(claim).await?;
        if attempt.is_none() && phase != ClaimPhase::Pending {
            let sentence = "it holds a claim that is not in the store, and is told to drop it: the store may be an older backup, and what was built since is not in it";
            self.incident(IncidentKind::Unknown, agent.as_str(), sentence).await?;
        }
        let attempt = attempt.filter(|attempt| attempt.agent == *agent);
        let job = match &attempt {
            Some(attempt) => self.tx.job(attempt.job).await?.filter(|job| job.state.claim() == Some(claim)),
            None => None,
        };
        if let (Some(attempt), Some(job)) = (&attempt, job) {
            self.answers.held(claim, agent);
            return match (phase, &job.state) {
                (ClaimPhase::Pending, _) => self.grant(attempt, &job).await,
                (ClaimPhase::Running, JobState::Running { cancelling: Some(reason), .. }) => {
                    // Counted from the first time: it may have been asked before there was a lease to note it at.
                    self.answers.cancel_asked(claim);
                    self.answers.tell(agent, Control::Cancel { claim, reason: reason.clone() });
                    Ok(())
                }
                (ClaimPhase::Running, _) if waits_for.is_some() => {
                    // Less than it waits for: then the agent says again what is missing.
                    self.may_begin(attempt, &job, attempt.last_seq);
                    Ok(())
                }
                // Its end is on its way.
                (ClaimPhase::Ended, _) | (ClaimPhase::Running, _) => Ok(()),
            };
        }
        match phase {
            ClaimPhase::Pending => match (attempt, self.tx.denial(claim).await?) {
                (Some(_), _) => self.say_denied(agent, claim, "the claim is no longer current".to_owned()),
                (None, Some(reason)) => self.say_denied(agent, claim, reason),
                // Never heard of it: the agent asks again by itself.
                (None, None) => Ok(()),
            },
            ClaimPhase::Running => {
                let reason = "the claim is no longer current".to_owned();
                self.answers.tell(agent, Control::Abort { claim, reason });
                Ok(())
            }
            // Kept, or of no use to anybody: either way the agent need not keep it.
            ClaimPhase::Ended => {
                self.answers.tell(agent, Control::Recorded { claim });
                Ok(())
            }
        }
    }
}
