//! Which agents belong to the farm.

use protocol::api::Approve;
use protocol::control::Control;
use protocol::identity::JoinProof;
use protocol::report::Hello;
use protocol::{AgentId, BootId, LabelSet};

use super::{Answers, Turn};
use crate::config::Enrolment;
use crate::desk::Desk;
use crate::feed::Change;
use crate::presence::{Belongs, Sighting};
use crate::store::{Agent, StoreError};

/// How old the written sign of life may be before it is written again, in milliseconds: each is a write to the disk.
const SEEN_EVERY_MS: u64 = 60_000;

/// What an approval did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Approval {
    /// It belongs to the farm now.
    Done,
    /// It did already, and nothing about it waited for approval.
    Before,
    /// No agent of that name has said hello.
    Unknown,
    /// It does not show the key that the person compared, but this one.
    OtherKey {
        /// The key that it shows, in short.
        shown: String,
    },
    /// It does not offer these labels.
    NotOffered {
        /// What it does not offer.
        labels: LabelSet,
    },
}

/// A person says that an agent belongs to the farm: by the key that this person compared, with these of the labels
/// that it offers, or all of them.
///
/// # Errors
/// When the store fails.
pub(crate) async fn approve(desk: &Desk, name: &AgentId, approve: &Approve) -> Result<Approval, StoreError> {
    let mut tx = desk.store.write().await?;
    let Some(mut agent) = tx.agent(name).await? else { return Ok(Approval::Unknown) };
    let shown = agent.shown_key().fingerprint();
    if shown != approve.fingerprint {
        return Ok(Approval::OtherKey { shown });
    }
    let labels = approve.labels.clone().unwrap_or_else(|| agent.offered.clone());
    let absent: Vec<&str> = labels.iter().filter(|label| !agent.offered.iter().any(|own| own == *label)).collect();
    if !absent.is_empty() {
        return Ok(Approval::NotOffered { labels: LabelSet::new(absent).unwrap_or_default() });
    }
    let chosen = approve.labels.is_some();
    let as_it_is = agent.approved == labels && agent.labels_chosen == chosen;
    if agent.enrolled && agent.refused_key.is_none() && as_it_is {
        return Ok(Approval::Before);
    }
    if let Some(key) = agent.refused_key.take() {
        agent.key = key;
    }
    agent.enrolled = true;
    agent.revoked = None;
    (agent.approved, agent.labels_chosen) = (labels, chosen);
    // The user that it comes as is learned anew: a person vouches for the key, not for the broker's accounts.
    agent.broker_user = None;
    tx.unrevoke_key(&agent.key).await?;
    tx.put_agent(&agent).await?;
    tx.commit().await?;
    desk.presence.amend(name, |seen| seen.belongs = belongs(&agent));
    let mut answers = Answers::saying(Change::Agents);
    answers.announce();
    answers.tell(name, Control::Enrolled { coordinator: desk.identity.public(), proof: None, boot: None });
    answers.give(desk).await;
    Ok(Approval::Done)
}

impl Turn<'_> {
    pub(super) async fn hello(&mut self, hello: &Hello, user: Option<&str>) -> Result<(), StoreError> {
        let known = self.tx.agent(&hello.agent).await?;
        let mut agent = known.unwrap_or_else(|| Agent::presented(hello, user));
        let voucher = self.voucher(hello, &agent).await?;
        if agent.enrolled && agent.key != hello.key && voucher != Voucher::ThisProcess {
            return self.another_key(agent, hello).await;
        }
        agent.key = hello.key.clone();
        agent.refused_key = None;
        agent.offered = hello.labels.clone();
        agent.slots = hello.slots;
        agent.version.clone_from(&hello.version);
        agent.host.clone_from(&hello.host);
        agent.boot = hello.boot;
        agent.seen_ms = Some(self.now_ms);
        if voucher != Voucher::Nobody {
            agent.enrolled = true;
            if !agent.labels_chosen {
                if agent.approved != hello.labels {
                    self.answers.announce();
                }
                agent.approved = hello.labels.clone();
            }
        }
        agent.broker_user = agent.broker_user.take().or_else(|| user.map(str::to_owned));
        self.tx.put_agent(&agent).await?;
        self.answers.saw(&agent.name, sighting(&agent));
        self.answers.say(Change::Agents);
        if !agent.enrolled {
            let reason = match self.tx.revoked_key(&hello.key).await? {
                Some(revoked) => no_longer(&agent.name, &revoked.agent, &revoked.reason),
                None => not_taken(&agent),
            };
            return self.not_enrolled(&hello.agent, hello.boot, reason);
        }
        let proof = self.proof_of_ours(hello);
        let coordinator = self.desk.identity.public();
        self.answers.tell(&agent.name, Control::Enrolled { coordinator, proof, boot: Some(hello.boot) });
        if let Some(pause) = agent.pause {
            self.answers.tell(&agent.name, Control::Standing { note: Some(pause.note), boot: Some(hello.boot) });
        }
        Ok(())
    }

    /// The name is another's: what this one shows is kept for a person to compare, and changes nothing else.
    async fn another_key(&mut self, mut agent: Agent, hello: &Hello) -> Result<(), StoreError> {
        agent.refused_key = Some(hello.key.clone());
        self.tx.put_agent(&agent).await?;
        self.answers.say(Change::Agents);
        let reason = match self.tx.revoked_key(&hello.key).await? {
            Some(revoked) => no_longer(&agent.name, &revoked.agent, &revoked.reason),
            None => format!(
                "an agent of the name {} is enrolled with another key; give this one another name, or compare its key {} in `buildr agents` and run `buildr agent approve {}`",
                agent.name,
                hello.key.fingerprint(),
                agent.name
            ),
        };
        self.forged(&agent.name, "a process with another key goes by its name, and gets no job").await?;
        if hello.boot == agent.boot {
            // To say so would stop the agent itself, whose life that is.
            return Ok(());
        }
        self.not_enrolled(&hello.agent, hello.boot, reason)
    }

    /// Writes down that an agent gave a sign of life, now and then.
    pub(super) async fn seen(&mut self, agent: &mut Agent) -> Result<(), StoreError> {
        if agent.seen_ms.is_some_and(|seen| self.now_ms.saturating_sub(seen) < SEEN_EVERY_MS) {
            return Ok(());
        }
        agent.seen_ms = Some(self.now_ms);
        self.tx.put_agent(agent).await
    }

    pub(super) async fn bye(&mut self, agent: &AgentId, boot: BootId) -> Result<(), StoreError> {
        self.tx.settle_all(agent, boot).await?;
        if let Some(mut known) = self.tx.agent(agent).await?.filter(|known| known.boot == boot) {
            known.seen_ms = Some(self.now_ms);
            self.tx.put_agent(&known).await?;
        }
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

    /// What a person revoked comes back by a person's word alone: the agent under any key, the key under any name.
    async fn voucher(&mut self, hello: &Hello, known: &Agent) -> Result<Voucher, StoreError> {
        let config = &self.desk.config;
        if config.known_agents.iter().any(|(agent, key)| *agent == hello.agent && *key == hello.key) {
            return Ok(Voucher::ThisProcess);
        }
        if known.revoked.is_some() || self.tx.revoked_key(&hello.key).await?.is_some() {
            return Ok(Voucher::Nobody);
        }
        let proven = match (&config.enrolment, &hello.join) {
            (Enrolment::ByToken(token), Some(proof)) => token.vouches(&hello.agent, &hello.key, proof),
            (Enrolment::Open, _) => !known.enrolled || known.key == hello.key,
            _ => false,
        };
        Ok(if proven { Voucher::Enrolment } else { Voucher::Nobody })
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
pub(super) fn sighting(agent: &Agent) -> Sighting {
    Sighting {
        boot: agent.boot,
        slots: agent.slots,
        belongs: belongs(agent),
        offered: agent.offered.clone(),
        note: agent.pause.as_ref().map(|pause| pause.note.clone()),
        said: None,
    }
}

fn belongs(agent: &Agent) -> Belongs {
    match (&agent.revoked, agent.enrolled) {
        (Some(_), _) => Belongs::NoLonger,
        (None, true) => Belongs::Yes(agent.approved.clone()),
        (None, false) => Belongs::NotYet(agent.key.fingerprint()),
    }
}

/// Why an agent that is not enrolled gets nothing, and what to do about it.
pub(super) fn not_taken(agent: &Agent) -> String {
    match &agent.revoked {
        Some(reason) => no_longer(&agent.name, &agent.name, reason),
        None => format!(
            "agent {name} is not approved yet; compare its key {key} in `buildr agents` and run `buildr agent approve {name}`",
            name = agent.name,
            key = agent.key.fingerprint()
        ),
    }
}

fn no_longer(name: &AgentId, revoked: &AgentId, reason: &str) -> String {
    format!(
        "agent {revoked} was revoked ({reason}); to take it in again, compare its key and run `buildr agent approve {name}`"
    )
}
