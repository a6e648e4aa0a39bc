//! Whose word a report is. Whoever may write to the broker can write an agent's name into a message: what counts is the
//! signature under it, made by the key that was enrolled. What has none changes nothing, and people are told.

use protocol::AgentId;
use protocol::api::IncidentKind;
use protocol::identity::{PublicKey, Signed};
use protocol::report::{Report, Said};

use super::Turn;
use crate::store::StoreError;

impl Turn<'_> {
    /// A report with its agent's signature.
    pub(super) async fn said(&mut self, signed: &Signed<Said>, user: Option<&str>) -> Result<(), StoreError> {
        let Ok(said) = signed.unverified() else {
            let body = serde_json::to_vec(signed).unwrap_or_default().into();
            return self.lay_aside(super::EVENTS, body, "it is a signed report that cannot be read").await;
        };
        let agent = &said.agent;
        let Some(key) = self.key_of(&said).await? else {
            return match *said.report {
                // It began while this coordinator's store was another one.
                Report::Heartbeat(_) => {
                    let reason = "this coordinator does not know the agent; it has to say hello first".to_owned();
                    self.not_enrolled(agent, said.boot, reason)
                }
                _ => self.forged(agent, "something was said in the name of an agent that nobody knows").await,
            };
        };
        if signed.verify(&key).is_err() {
            return self.foreign_key(&said).await;
        }
        if self.is_impostor(agent, user).await? {
            return Ok(());
        }
        if self.speaks_for(&said.report).await?.is_some_and(|named| named != *agent) {
            let sentence = format!("agent {agent} spoke in another's name, and was not heard");
            return self.forged(agent, &sentence).await;
        }
        self.believe(&said.report, &said, user).await
    }

    /// A report that anybody could have written.
    pub(super) async fn unsigned(&mut self, report: &Report, user: Option<&str>) -> Result<(), StoreError> {
        let kind = match report {
            Report::Hello(_) => "a hello",
            Report::Heartbeat(_) => "a sign of life",
            Report::Bye { .. } => "a goodbye",
            Report::Abandoned { .. } => "word that a claim is given up",
            Report::Rejected(_) => "word about a message",
            _ => "an event of a job",
        };
        let from = user.map(|user| format!(" by the broker's user {user}")).unwrap_or_default();
        let sentence = format!("{kind} without a signature was written{from} and changed nothing");
        match self.speaks_for(report).await? {
            Some(agent) => self.forged(&agent, &sentence).await,
            None => self.incident(IncidentKind::Forged, user.unwrap_or("nobody known"), &sentence).await,
        }
    }

    /// Whether the broker vouches for another user than the one that this agent was enrolled as, or for none.
    pub(super) async fn is_impostor(&mut self, agent: &AgentId, user: Option<&str>) -> Result<bool, StoreError> {
        let known = self.tx.agent(agent).await?.filter(|agent| agent.enrolled).and_then(|agent| agent.broker_user);
        let Some(known) = known.filter(|known| Some(known.as_str()) != user) else { return Ok(false) };
        let user = user.map_or_else(|| "without a user's name".to_owned(), |user| format!("from the user {user}"));
        let sentence = format!(
            "a report in its name came {user}, not from the broker's user {known}, and was dropped; if agent {agent} changed its user, approve it again"
        );
        self.forged(agent, &sentence).await?;
        Ok(true)
    }

    /// Somebody spoke in an agent's name.
    pub(super) async fn forged(&mut self, agent: &AgentId, sentence: &str) -> Result<(), StoreError> {
        self.incident(IncidentKind::Forged, agent.as_str(), sentence).await
    }

    /// People are told of something.
    pub(super) async fn incident(&mut self, kind: IncidentKind, about: &str, what: &str) -> Result<(), StoreError> {
        tracing::warn!(about, "{what}");
        self.tx.note_incident(kind, about, what, self.now_ms).await
    }

    /// Two processes that go by one name: the one whose key is not the enrolled one is told so. Of a known life's own
    /// boot that would stop the agent itself, and whoever forges it hears nothing.
    async fn foreign_key(&mut self, said: &Said) -> Result<(), StoreError> {
        let sentence = "something was said in its name with another key, and changed nothing";
        self.forged(&said.agent, sentence).await?;
        match self.tx.agent(&said.agent).await? {
            Some(agent) if agent.boot != said.boot => {
                let reason = format!("this is not signed with the key {} that was approved", agent.key.fingerprint());
                self.not_enrolled(&said.agent, said.boot, reason)
            }
            _ => Ok(()),
        }
    }

    /// The key that has to have made the signature: a hello brings its own, which proves that it is its speaker's.
    async fn key_of(&mut self, said: &Said) -> Result<Option<PublicKey>, StoreError> {
        if let Report::Hello(hello) = &*said.report {
            return Ok(Some(hello.key.clone()));
        }
        Ok(self.tx.agent(&said.agent).await?.map(|agent| agent.key))
    }

    /// Who a report is about.
    async fn speaks_for(&mut self, report: &Report) -> Result<Option<AgentId>, StoreError> {
        Ok(match report {
            Report::Hello(hello) => Some(hello.agent.clone()),
            Report::Heartbeat(heartbeat) => Some(heartbeat.agent.clone()),
            Report::Bye { agent, .. } | Report::Abandoned { agent, .. } => Some(agent.clone()),
            Report::Rejected(rejected) => Some(rejected.agent.clone()),
            Report::Progress(progress) => self.tx.attempt(progress.claim).await?.map(|attempt| attempt.agent),
            Report::Events(events) => self.tx.attempt(events.claim).await?.map(|attempt| attempt.agent),
            Report::Claim(_) | Report::Said(_) | Report::Unknown => None,
        })
    }
}
