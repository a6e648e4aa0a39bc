//! Who is given which job. The same claim is always answered the same, with a grant that is sealed anew.

use protocol::api::IncidentKind;
use protocol::control::Control;
use protocol::identity::Signed;
use protocol::job::TriggerKind;
use protocol::link::{queue_labels, queue_name};
use protocol::report::{Claim, ClaimSubject};
use protocol::state::{Happening, JobState};
use protocol::{AgentId, ClaimId, JobId, LabelSet};

use super::enrolment::not_taken;
use super::{Turn, allowed};
use crate::feed::Change;
use crate::intake::{self, IntakeError, Trigger};
use crate::store::{Adoption, Agent, Attempt, AttemptState, Job, POSTPONED_MS, Settled, StoreError, Taking};

impl Turn<'_> {
    /// A claim that cannot be believed is not denied, for a denied one's message is dropped: the agent is told that
    /// it does not belong to the farm, and gives the message back.
    pub(super) async fn claim(&mut self, signed: &Signed<Claim>, user: Option<&str>) -> Result<(), StoreError> {
        let Ok(claim) = signed.unverified() else {
            let body = serde_json::to_vec(signed).unwrap_or_default().into();
            return self.lay_aside(super::EVENTS, body, "it is a claim that cannot be read").await;
        };
        let Some(agent) = self.tx.agent(&claim.agent).await? else {
            let reason = "this coordinator does not know the agent; it has to say hello first".to_owned();
            return self.not_enrolled(&claim.agent, claim.boot, reason);
        };
        if !agent.enrolled {
            return self.not_enrolled(&claim.agent, claim.boot, not_taken(&agent));
        }
        if signed.verify(&agent.key).is_err() {
            self.forged(&agent.name, "a claim in its name was made with another key, and got nothing").await?;
            if claim.boot == agent.boot {
                // To say so would stop the agent itself, whose life that is.
                return Ok(());
            }
            let reason = format!("the claim is not signed with the key {} that was approved", agent.key.fingerprint());
            return self.not_enrolled(&claim.agent, claim.boot, reason);
        }
        if self.is_impostor(&agent.name, user).await? {
            return Ok(());
        }
        if claim.boot != agent.boot {
            tracing::warn!("two agents call themselves {}; give each a name of its own", agent.name);
        }
        if let Some(attempt) = self.tx.attempt(claim.claim).await? {
            return self.answer_again(&claim, &attempt).await;
        }
        if let Some(reason) = self.tx.denial(claim.claim).await? {
            return self.say_denied(&agent.name, claim.claim, reason);
        }
        match self.job_of(&claim).await? {
            Found::Job(job) => self.give(&claim, &agent, &job).await,
            Found::Nothing(reason) => self.deny(&claim, reason).await,
        }
    }

    pub(super) async fn abandoned(&mut self, agent: &AgentId, claim: ClaimId) -> Result<(), StoreError> {
        let Some(attempt) = self.tx.attempt(claim).await? else {
            // Should the claim itself come behind it, it must not be granted any more.
            return self.tx.deny(claim, "its agent gave it up", self.now_ms).await;
        };
        if attempt.agent != *agent {
            return Ok(());
        }
        // It never heard of the grant, so it never acknowledged the message.
        self.tx.settle(claim, Settled::Again).await?;
        let Some(job) = self.tx.job(attempt.job).await? else { return Ok(()) };
        if self.tx.apply(&job, &Happening::Abandoned { claim }, self.now_ms).await?.is_ok() {
            self.answers.gone(claim);
            self.answers.say(Change::Build(job.build));
        }
        Ok(())
    }

    pub(super) fn say_denied(&mut self, agent: &AgentId, claim: ClaimId, reason: String) -> Result<(), StoreError> {
        self.answers.tell(agent, Control::Denied { claim, reason });
        Ok(())
    }

    async fn answer_again(&mut self, claim: &Claim, attempt: &Attempt) -> Result<(), StoreError> {
        if attempt.agent != claim.agent {
            self.forged(&claim.agent, "it asked for a job with another agent's claim, and got nothing").await?;
            return self.say_denied(&claim.agent, claim.claim, "the claim is another agent's".to_owned());
        }
        let job = self.tx.job(attempt.job).await?.filter(|job| job.state.claim() == Some(claim.claim));
        match (job, attempt.state) {
            (Some(job), _) => self.grant(attempt, &job).await,
            (None, AttemptState::Ended(_)) => {
                self.answers.tell(&claim.agent, Control::Recorded { claim: claim.claim });
                Ok(())
            }
            (None, _) => self.say_denied(&claim.agent, claim.claim, "the claim is no longer current".to_owned()),
        }
    }

    async fn deny(&mut self, claim: &Claim, reason: String) -> Result<(), StoreError> {
        self.tx.deny(claim.claim, &reason, self.now_ms).await?;
        self.say_denied(&claim.agent, claim.claim, reason)
    }

    /// Gives a job to a claim, when agent and job fit and no other claim has it.
    async fn give(&mut self, claim: &Claim, agent: &Agent, job: &Job) -> Result<(), StoreError> {
        if !job.labels.satisfied_by(&agent.approved) {
            self.tx.postpone(job.id, self.now_ms + POSTPONED_MS).await?;
            let reason = format!("agent {} has not all of the labels {} approved", agent.name, job.labels);
            return self.deny(claim, reason).await;
        }
        if !job.may_begin && job.state.claim().is_none() {
            return self.deny(claim, "it is not the job's turn".to_owned()).await;
        }
        let taking =
            Taking { claim: claim.claim, agent: claim.agent.clone(), boot: claim.boot, sealing: claim.sealing.clone() };
        match self.tx.take(job, &taking, self.now_ms).await? {
            Ok(JobState::Running { .. }) => {
                self.answers.say(Change::Build(job.build));
                let Some(attempt) = self.tx.attempt(claim.claim).await? else { return Ok(()) };
                // The first time alone: a claim that is played again is no sign of life.
                self.answers.held(claim.claim, &claim.agent);
                self.grant(&attempt, job).await
            }
            Ok(_) => Ok(()),
            Err(ignored) => self.deny(claim, ignored.to_string()).await,
        }
    }

    /// The job that a claim is about; for a message by hand that may be one that it becomes now.
    async fn job_of(&mut self, claim: &Claim) -> Result<Found, StoreError> {
        let job = match &claim.subject {
            ClaimSubject::Job { job } => {
                let found = self.tx.job(*job).await?;
                if found.is_none() {
                    let body = format!("{{\"job_id\":\"{job}\"}}").into_bytes().into();
                    let reason = "this coordinator knows no job of that id";
                    self.lay_aside_as(IncidentKind::Unknown, &claim.queue, body, reason).await?;
                }
                found
            }
            ClaimSubject::Injected { .. } => match self.adopt(claim).await? {
                Ok(job) => self.tx.job(job).await?,
                Err(refusal) => return Ok(Found::Nothing(refusal)),
            },
        };
        Ok(job.map_or_else(
            || Found::Nothing("this coordinator knows no such job".to_owned()),
            |job| Found::Job(Box::new(job)),
        ))
    }

    /// The job that a message by hand is, or becomes; or why it becomes none.
    async fn adopt(&mut self, claim: &Claim) -> Result<Result<JobId, String>, StoreError> {
        let ClaimSubject::Injected { repo, branch, message_id, digest, reply } = &claim.subject else {
            return Ok(Err("it is no message by hand".to_owned()));
        };
        let adoption = Adoption {
            queue: claim.queue.clone(),
            digest: digest.clone(),
            message_id: message_id.clone(),
            claim: claim.claim,
            agent: claim.agent.clone(),
            boot: claim.boot,
        };
        let known = match message_id {
            Some(id) => self.tx.adopted(id, digest).await?,
            None if claim.redelivered => self.tx.absorb(&adoption).await?,
            None => None,
        };
        if let Some(job) = known {
            return Ok(Ok(job));
        }
        let reason = match self.labels_meant(&claim.queue).await? {
            Some(labels) => {
                let trigger = Trigger {
                    branch: branch.clone(),
                    labels,
                    reply: allowed(reply.as_ref()),
                    ..Trigger::new(repo.clone(), TriggerKind::Injected)
                };
                match intake::begin(self.tx, &self.desk.config, &trigger, self.now_ms).await {
                    Ok((build, job)) => {
                        self.tx.insert_adoption(job, &adoption).await?;
                        self.answers.say(Change::Build(build));
                        return Ok(Ok(job));
                    }
                    Err(IntakeError::Store(error)) => return Err(error),
                    Err(refusal @ IntakeError::LocalRepo(_)) => refusal.to_string(),
                }
            }
            None => format!("no agent and no job has the labels that the queue {} is for", claim.queue),
        };
        let body = format!("{{\"repo\":{:?}}}", repo.to_string()).into_bytes().into();
        self.lay_aside(&claim.queue, body, &reason).await?;
        self.reply_rejected(reply.as_ref(), repo.to_string(), &reason).await?;
        Ok(Err(reason))
    }

    /// A message by hand on the queue of some labels is for agents with those. Where the queue's name is but a digest, it
    /// is one of the sets for which the farm has queues, or nobody would have taken the message.
    async fn labels_meant(&self, queue: &str) -> Result<Option<LabelSet>, StoreError> {
        if let Some(labels) = queue_labels(queue) {
            return Ok(Some(labels));
        }
        let known = self.desk.store.label_queues().await?;
        Ok(known.into_iter().find(|labels| queue_name(labels) == queue))
    }
}

enum Found {
    Job(Box<Job>),
    Nothing(String),
}
