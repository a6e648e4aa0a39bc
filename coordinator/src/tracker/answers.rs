//! What is to be said once a transaction is on the disk, and not before.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use protocol::control::{Control, Grant, Told};
use protocol::identity::{IdentityError, SealingKey, Signed, seal};
use protocol::link::Address;
use protocol::report::Said;
use protocol::{AgentId, BootId, ClaimId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::feed::Change;
use crate::presence::Sighting;
use crate::receipts::Receipts;
use crate::store::{AskedToEnd, Effects};

/// How many receipts travel together: some ten kilobytes.
const TOGETHER: usize = 100;

/// Controls for agents, changes for listeners, and who was seen.
#[derive(Default)]
pub(crate) struct Answers {
    /// By agent, in order: what one agent hears must not overtake itself.
    controls: BTreeMap<AgentId, Vec<Answer>>,
    changes: Vec<Change>,
    sights: Vec<Sight>,
    /// Whether there may be new label sets to be announced.
    announce: bool,
}

enum Answer {
    Control(Control),
    Grant(Box<Grant>, SealingKey),
}

enum Sight {
    Agent(AgentId, Sighting),
    Left(AgentId, BootId),
    Held(ClaimId, AgentId),
    CancelAsked(ClaimId),
    Gone(ClaimId),
    /// What an agent's sign of life said, when it is not one that was heard before.
    Beat {
        agent: AgentId,
        boot: BootId,
        count: u64,
        sights: Vec<Self>,
    },
}

impl Answers {
    /// One change and nothing else.
    pub(crate) fn saying(change: Change) -> Self {
        Self { changes: vec![change], ..Self::default() }
    }

    /// An agent is to hear this.
    pub(crate) fn tell(&mut self, agent: &AgentId, control: Control) {
        self.controls.entry(agent.clone()).or_default().push(Answer::Control(control));
    }

    /// An agent is to have a grant, sealed to its claim's key.
    pub(crate) fn grant(&mut self, agent: &AgentId, sealing: SealingKey, grant: Grant) {
        self.controls.entry(agent.clone()).or_default().push(Answer::Grant(Box::new(grant), sealing));
    }

    /// Something changed.
    pub(crate) fn say(&mut self, change: Change) {
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }

    /// There may be new label sets, which agents hear of with the next beacon.
    pub(crate) fn announce(&mut self) {
        self.announce = true;
    }

    /// An agent gave a sign of life.
    pub(crate) fn saw(&mut self, agent: &AgentId, sighting: Sighting) {
        self.sights.push(Sight::Agent(agent.clone(), sighting));
    }

    /// An agent ended in good order.
    pub(crate) fn left(&mut self, agent: &AgentId, boot: BootId) {
        self.sights.push(Sight::Left(agent.clone(), boot));
    }

    /// A current claim gave a sign of life.
    pub(crate) fn held(&mut self, claim: ClaimId, agent: &AgentId) {
        self.sights.push(Sight::Held(claim, agent.clone()));
    }

    /// What is seen from now on is seen by one sign of life.
    pub(super) fn begin_beat(&self) -> usize {
        self.sights.len()
    }

    /// Up to here.
    pub(super) fn end_beat(&mut self, begin: usize, said: &Said) {
        let sights = self.sights.split_off(begin);
        let Said { agent, boot, count, .. } = said;
        self.sights.push(Sight::Beat { agent: agent.clone(), boot: *boot, count: *count, sights });
    }

    /// The job of a claim was asked to end.
    pub(crate) fn cancel_asked(&mut self, claim: ClaimId) {
        self.sights.push(Sight::CancelAsked(claim));
    }

    /// What followed in the store besides: who is asked to end, and which builds changed.
    pub(crate) fn follow(&mut self, effects: Effects) {
        for AskedToEnd { claim, agent, reason } in effects.ending {
            self.cancel_asked(claim);
            self.tell(&agent, Control::Cancel { claim, reason });
        }
        for build in effects.builds {
            self.say(Change::Build(build));
        }
    }

    /// A claim is no longer current.
    pub(crate) fn gone(&mut self, claim: ClaimId) {
        self.sights.push(Sight::Gone(claim));
    }

    /// Says the other's after these.
    pub(super) fn join(&mut self, other: Self) {
        for (agent, answers) in other.controls {
            self.controls.entry(agent).or_default().extend(answers);
        }
        self.sights.extend(other.sights);
        self.announce |= other.announce;
        for change in other.changes {
            self.say(change);
        }
    }

    /// Says all of it. Controls are hints: one that does not arrive is said again after the next heartbeat.
    pub(crate) async fn give(self, desk: &Desk) {
        self.say_here(desk).tell(desk).await;
    }

    /// Says what this process hears, at once. What agents are to hear is given back.
    pub(super) fn say_here(self, desk: &Desk) -> Untold {
        let now = Instant::now();
        see(desk, self.sights, now);
        if self.announce {
            desk.beacon_now.notify_one();
        }
        for change in self.changes {
            desk.feed.say(change);
        }
        Untold(self.controls)
    }
}

/// What agents are yet to hear, each in order.
#[must_use = "agents wait for it"]
pub(super) struct Untold(BTreeMap<AgentId, Vec<Answer>>);

impl Untold {
    /// Tells all of them.
    pub(super) async fn tell(self, desk: &Desk) {
        join_all(self.0.into_iter().map(|(agent, answers)| tell(desk, agent, answers))).await;
    }
}

fn see(desk: &Desk, sights: Vec<Sight>, now: Instant) {
    for sight in sights {
        match sight {
            Sight::Agent(agent, sighting) => desk.presence.saw(&agent, sighting, now),
            Sight::Left(agent, boot) => desk.presence.left(&agent, boot),
            Sight::Held(claim, agent) => desk.presence.renew(claim, Some(&agent), now),
            Sight::CancelAsked(claim) => desk.presence.cancel_asked(claim, now),
            Sight::Gone(claim) => desk.presence.forget(claim),
            Sight::Beat { agent, boot, count, sights } => {
                if desk.presence.is_news(&agent, boot, count) {
                    see(desk, sights, now);
                } else {
                    tracing::debug!("a sign of life of agent {agent} came again, and counts once");
                }
            }
        }
    }
}

/// Tells receipts until `shutdown`, and then the last.
pub(crate) async fn tell_receipts(desk: Arc<Desk>, shutdown: CancellationToken) {
    let desk = &*desk;
    while let Some(receipts) = desk.receipts.next(&shutdown).await {
        join_all(receipts.into_iter().map(|(agent, mut receipts)| async move {
            let mut together = Vec::with_capacity(1);
            while !receipts.is_empty() {
                let some = receipts.drain(..receipts.len().min(TOGETHER)).collect();
                together.push(signed(desk, &agent, Control::Several { controls: some }));
            }
            say(desk, &agent, together).await;
        }))
        .await;
    }
}

async fn tell(desk: &Desk, agent: AgentId, answers: Vec<Answer>) {
    let mut controls = Vec::with_capacity(answers.len());
    let hears_several = desk.presence.hears_several(&agent);
    for answer in answers {
        let control = match answer {
            Answer::Control(receipt) if hears_several && Receipts::is_one(&receipt) => {
                match desk.receipts.leave(&agent, receipt).await {
                    Some(receipt) => Ok(receipt),
                    None => continue,
                }
            }
            Answer::Control(control) => Ok(control),
            Answer::Grant(grant, sealing) => sealed(desk, &grant, &sealing),
        };
        controls.push(control.and_then(|control| signed(desk, &agent, control)));
    }
    say(desk, &agent, controls).await;
}

async fn say(desk: &Desk, agent: &AgentId, controls: Vec<Result<Control, IdentityError>>) {
    let failed = |error: &IdentityError| tracing::error!("agent {agent} cannot be told something: {error}");
    let controls: Vec<Control> = controls.into_iter().filter_map(|control| control.inspect_err(failed).ok()).collect();
    if controls.is_empty() {
        return;
    }
    if let Err(error) = desk.link.control_all(&Address::Agent(agent.clone()), &controls).await {
        tracing::debug!("agent {agent} could not be told something, and will ask again: {error}");
    }
}

/// What an agent lets go of something on has this coordinator's signature.
fn signed(desk: &Desk, agent: &AgentId, control: Control) -> Result<Control, IdentityError> {
    if !control.is_weighty() {
        return Ok(control);
    }
    let told = Told { agent: agent.clone(), control: Box::new(control) };
    Signed::new(&desk.identity, &told).map(Control::Told)
}

fn sealed(desk: &Desk, grant: &Grant, sealing: &SealingKey) -> Result<Control, IdentityError> {
    let signed = Signed::new(&desk.identity, grant)?;
    Ok(Control::Granted { claim: grant.claim, grant: seal(sealing, grant.claim, &signed)? })
}
