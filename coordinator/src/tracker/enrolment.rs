//! Which agents belong to the farm.

use protocol::control::Control;
use protocol::identity::JoinProof;
use protocol::report::Hello;
use protocol::{AgentId, BootId, LabelSet};

use super::{Answers, Turn};
use crate::config::Enrolment;
use crate::desk::Desk;
use crate::feed::Change;
use crate::presence::Sighting;
use crate::store::{Agent, StoreError};

/// What an approval did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Approval {
    /// It belongs to the farm now, by the key with this fingerprint.
    Done {
        /// The key in short.
        fingerprint: String,
    },
    /// It did already, and nothing about it waited for approval.
    Before,
    /// No agent of that name has said hello.
    Unknown,
}

/// A person says that an agent belongs to the farm: with the key and the labels that it presented last.
///
/// # Errors
/// When the store fails.
pub(crate) async fn approve(desk: &Desk, name: &AgentId) -> Result<Approval, StoreError> {
    let mut tx = desk.store.write().await?;
    let Some(mut agent) = tx.agent(name).await? else { return Ok(Approval::Unknown) };
    if agent.enrolled && agent.refused_key.is_none() && agent.offered == agent.approved {
        return Ok(Approval::Before);
    }
    if let Some(key) = agent.refused_key.take() {
        agent.key = key;
    }
    agent.enrolled = true;
    agent.approved = agent.offered.clone();
    // The user that it comes as is learned anew: a person vouches for the key, not for the broker's accounts.
    agent.broker_user = None;
    tx.put_agent(&agent).await?;
    tx.commit().await?;
    let mut answers = Answers::saying(Change::Agents);
    answers.tell(name, Control::Enrolled { coordinator: desk.identity.public(), proof: None, boot: None });
    answers.saw(name, sighting(&agent, None));
    answers.give(desk).await;
    Ok(Approval::Done { fingerprint: agent.key.fingerprint() })
}

impl Turn<'_> {
    pub(super) async fn hello(&mut self, hello: &Hello, user: Option<&str>) -> Result<(), StoreError> {
        let known = self.tx.agent(&hello.agent).await?;
        let mut agent = known.unwrap_or_else(|| Agent::presented(hello, user));
        let voucher = self.voucher(hello, &agent);
        if agent.enrolled && agent.key != hello.key && voucher != Voucher::ThisProcess {
            agent.refused_key = Some(hello.key.clone());
            self.tx.put_agent(&agent).await?;
            let reason = format!(
                "an agent of the name {} is enrolled with another key; give this one another name, or compare its key {} in `buildr agents` and run `buildr agent approve {}`",
                agent.name,
                hello.key.fingerprint(),
                agent.name
            );
            return self.not_enrolled(&hello.agent, hello.boot, reason);
        }
        agent.key = hello.key.clone();
        agent.refused_key = None;
        agent.offered = hello.labels.clone();
        agent.slots = hello.slots;
        agent.version.clone_from(&hello.version);
        agent.host.clone_from(&hello.host);
        agent.boot = hello.boot;
        if voucher != Voucher::Nobody {
            agent.enrolled = true;
            agent.approved = hello.labels.clone();
        }
        agent.broker_user = agent.broker_user.take().or_else(|| user.map(str::to_owned));
        self.tx.put_agent(&agent).await?;
        self.answers.saw(&agent.name, sighting(&agent, None));
        self.answers.say(Change::Agents);
        if !agent.enrolled {
            return self.not_enrolled(&hello.agent, hello.boot, not_approved(&agent));
        }
        let proof = self.proof_of_ours(hello);
        let coordinator = self.desk.identity.public();
        self.answers.tell(&agent.name, Control::Enrolled { coordinator, proof, boot: Some(hello.boot) });
        Ok(())
    }

    pub(super) async fn bye(&mut self, agent: &AgentId, boot: BootId) -> Result<(), StoreError> {
        self.tx.settle_all(agent, boot).await?;
        self.answers.left(agent, boot);
        self.answers.say(Change::Agents);
        Ok(())
    }

    /// Only the life that spoke is told: another process of that name may well be enrolled.
    pub(super) fn not_enrolled(&mut self, agent: &AgentId, boot: BootId, reason: String) -> Result<(), StoreError> {
        tracing::warn!("agent {agent} is not taken: {reason}");
        self.answers.tell(agent, Control::NotEnrolled { reason, boot: Some(boot) });
        Ok(())
    }

    fn voucher(&self, hello: &Hello, known: &Agent) -> Voucher {
        let config = &self.desk.config;
        if config.known_agents.iter().any(|(agent, key)| *agent == hello.agent && *key == hello.key) {
            return Voucher::ThisProcess;
        }
        let proven = match (&config.enrolment, &hello.join) {
            (Enrolment::ByToken(token), Some(proof)) => token.vouches(&hello.agent, &hello.key, proof),
            (Enrolment::Open, _) => !known.enrolled || known.key == hello.key,
            _ => false,
        };
        if proven { Voucher::Enrolment } else { Voucher::Nobody }
    }

    /// Towards an agent that proved the join token, the coordinator proves it too.
    fn proof_of_ours(&self, hello: &Hello) -> Option<JoinProof> {
        match (&self.desk.config.enrolment, &hello.join) {
            (Enrolment::ByToken(token), Some(_)) => Some(token.vouch(&hello.agent, &self.desk.identity.public())),
            _ => None,
        }
    }
}

/// Who says that an agent belongs to the farm, without a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voucher {
    ThisProcess,
    Enrolment,
    Nobody,
}

/// What one looks at when it is asked who could run a job.
pub(super) fn sighting(agent: &Agent, paused: Option<String>) -> Sighting {
    let approved: Option<LabelSet> = agent.enrolled.then(|| agent.approved.clone());
    Sighting { boot: agent.boot, slots: agent.slots, approved, paused }
}

pub(super) fn not_approved(agent: &Agent) -> String {
    format!(
        "agent {name} is not approved yet; compare its key {key} in `buildr agents` and run `buildr agent approve {name}`",
        name = agent.name,
        key = agent.key.fingerprint()
    )
}
