//! Who was seen, and when: agents and the claims that they hold, by a clock that only goes forward. It lives in
//! memory; after a start every running claim counts as seen just now.

mod line;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::api::{NearAgent, PausedAgent, WaitingAgent};
use protocol::report;
use protocol::{AgentId, BootId, ClaimId, LabelSet};
use tokio::time::Instant;

pub(crate) use line::LineWatch;

/// Who was seen.
#[derive(Debug)]
pub(crate) struct Presence {
    seen: Mutex<Seen>,
    lease: Duration,
    /// How the line to the agents is, and for how long it has been so.
    pub(crate) line: LineWatch,
}

#[derive(Debug, Default)]
struct Seen {
    agents: HashMap<AgentId, (Sighting, Instant)>,
    leases: HashMap<ClaimId, Lease>,
    /// How far each of an agent's last lives has counted what it says, the newest first.
    counts: HashMap<AgentId, Vec<(BootId, u64)>>,
}

/// An agent as it was seen last.
#[derive(Debug, Clone)]
pub(crate) struct Sighting {
    /// Which life of it.
    pub(crate) boot: BootId,
    /// How many jobs it runs at once.
    pub(crate) slots: u32,
    /// Whether it is one of the farm's.
    pub(crate) belongs: Belongs,
    /// The labels that it offers.
    pub(crate) offered: LabelSet,
    /// Why a person wants it to take no jobs.
    pub(crate) note: Option<String>,
    /// What it says of itself with its signs of life; none when it has only said hello.
    pub(crate) said: Option<Said>,
}

/// What an agent says of itself with a sign of life. It holds until the next one of the same life.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    /// The note of a person as far as it has heard of it.
    pub(crate) heard: Option<String>,
    /// Why it takes no job at present.
    pub(crate) paused: Option<String>,
    /// Whether its process ends when its jobs are over.
    pub(crate) draining: bool,
    /// What its machine has left, when it says so.
    pub(crate) capacity: Option<report::Capacity>,
    /// Whether it hears several things in one message.
    pub(crate) hears_several: bool,
}

/// Whether an agent is one of the farm's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Belongs {
    /// With these labels, which a grant looks at.
    Yes(LabelSet),
    /// It waits for a person who compares its key, which is this one in short.
    NotYet(String),
    /// A person has revoked it.
    NoLonger,
}

impl Sighting {
    /// Why it takes no job at present, as people read it.
    pub(crate) fn why_paused(&self) -> Option<String> {
        let own = self.said.as_ref().and_then(|said| said.paused.clone());
        let note = self.note.as_ref().map(|note| format!("paused by a person: {note}"));
        let draining = self.said.as_ref().is_some_and(|said| said.draining);
        let draining = draining.then(|| "it ends when its jobs are over".to_owned());
        // An agent that was paused by a person says that note itself, and nothing else, once it has heard of it.
        note.or(own).or(draining)
    }
}

#[derive(Debug)]
struct Lease {
    agent: Option<AgentId>,
    seen: Instant,
    cancel_asked: Option<Instant>,
}

/// What is known of the agents that could run a job.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Agents that are here and enrolled, whatever their labels.
    pub(crate) agents: usize,
    /// Agents that are here and wait for approval.
    pub(crate) unapproved: Vec<WaitingAgent>,
    /// Of the enrolled, those without the labels.
    pub(crate) near: Vec<NearAgent>,
    /// Of the enrolled, those that have the labels and take no jobs.
    pub(crate) paused: Vec<PausedAgent>,
    /// Those that have the labels and take jobs.
    pub(crate) able: Vec<AgentId>,
    /// The slots of these.
    pub(crate) slots: usize,
    /// Those of them that are free.
    pub(crate) free: usize,
}

/// How many lives of one agent are remembered, so that nothing of an earlier one can be played again as news.
const LIVES: usize = 64;

impl Presence {
    /// Nobody, with leases of this length.
    pub(crate) fn new(lease: Duration) -> Self {
        Self { seen: Mutex::default(), lease, line: LineWatch::new(Instant::now()) }
    }

    /// An agent gave a sign of life.
    pub(crate) fn saw(&self, agent: &AgentId, mut sighting: Sighting, now: Instant) {
        let mut seen = self.lock();
        // A hello says nothing of that, and comes each minute: who is paused stays so, and who hears several things at
        // once goes on to hear them, else what is told at once would overtake what waits to be told together.
        if sighting.said.is_none() {
            let before = seen.agents.get(agent).filter(|(before, _)| before.boot == sighting.boot);
            sighting.said = before.and_then(|(before, _)| before.said.clone());
        }
        seen.agents.insert(agent.clone(), (sighting, now));
    }

    /// An agent ended in good order.
    pub(crate) fn left(&self, agent: &AgentId, boot: BootId) {
        let mut seen = self.lock();
        if seen.agents.get(agent).is_some_and(|(sighting, _)| sighting.boot == boot) {
            seen.agents.remove(agent);
        }
    }

    /// Whether a sign of life is not one that was heard before.
    pub(crate) fn is_news(&self, agent: &AgentId, boot: BootId, count: u64) -> bool {
        let mut seen = self.lock();
        let lives = seen.counts.entry(agent.clone()).or_default();
        if let Some((_, known)) = lives.iter_mut().find(|(life, _)| *life == boot) {
            let is_news = count > *known;
            *known = count.max(*known);
            return is_news;
        }
        lives.insert(0, (boot, count));
        lives.truncate(LIVES);
        true
    }

    /// Whether an agent's life has said something later than this already.
    pub(crate) fn is_old(&self, agent: &AgentId, boot: BootId, count: u64) -> bool {
        let seen = self.lock();
        let mut lives = seen.counts.get(agent).into_iter().flatten();
        lives.any(|(life, known)| *life == boot && count <= *known)
    }

    /// What an agent looked like when it was seen last, and how long ago that was.
    pub(crate) fn sighting(&self, agent: &AgentId, now: Instant) -> Option<(Sighting, Duration)> {
        let seen = self.lock();
        seen.agents.get(agent).map(|(sighting, at)| (sighting.clone(), now.saturating_duration_since(*at)))
    }

    /// Whether an agent hears several things in one message, as it said last.
    pub(crate) fn hears_several(&self, agent: &AgentId) -> bool {
        self.lock()
            .agents
            .get(agent)
            .is_some_and(|(sighting, _)| sighting.said.as_ref().is_some_and(|said| said.hears_several))
    }

    /// Whether an agent gave no sign of life for as long as a lease.
    pub(crate) fn is_silent(&self, agent: &AgentId, now: Instant) -> bool {
        self.sighting(agent, now).is_none_or(|(_, ago)| ago > self.lease)
    }

    /// What could run a job that needs these labels.
    pub(crate) fn capacity(&self, labels: &LabelSet, now: Instant) -> Capacity {
        let seen = self.lock();
        let mut capacity = Capacity::default();
        let mut agents: Vec<_> = seen.agents.iter().collect();
        agents.sort_by_key(|(agent, _)| *agent);
        let mut taken: HashMap<&AgentId, usize> = HashMap::new();
        for agent in seen.leases.values().filter_map(|lease| lease.agent.as_ref()) {
            *taken.entry(agent).or_default() += 1;
        }
        for (agent, (sighting, at)) in agents {
            if now.saturating_duration_since(*at) > self.lease {
                continue;
            }
            let approved = match &sighting.belongs {
                Belongs::Yes(approved) => approved,
                Belongs::NotYet(key) => {
                    capacity.unapproved.push(WaitingAgent { agent: agent.clone(), key: key.clone() });
                    continue;
                }
                Belongs::NoLonger => continue,
            };
            capacity.agents += 1;
            if !labels.satisfied_by(approved) {
                let (lacks, unapproved) = (without(labels, approved), without(&sighting.offered, approved));
                let unapproved = both(&lacks, &unapproved);
                capacity.near.push(NearAgent { agent: agent.clone(), lacks, unapproved });
                continue;
            }
            if let Some(why) = sighting.why_paused() {
                capacity.paused.push(PausedAgent { agent: agent.clone(), why });
                continue;
            }
            let slots = usize::try_from(sighting.slots).unwrap_or(usize::MAX);
            let taken = taken.get(agent).copied().unwrap_or(0);
            capacity.able.push(agent.clone());
            capacity.slots += slots;
            capacity.free += slots.saturating_sub(taken);
        }
        capacity
    }

    /// A person said something about an agent: what was seen of it is amended, but it was not seen by that.
    pub(crate) fn amend(&self, agent: &AgentId, amend: impl FnOnce(&mut Sighting)) {
        if let Some((sighting, _)) = self.lock().agents.get_mut(agent) {
            amend(sighting);
        }
    }

    /// A person forgot an agent.
    pub(crate) fn forget_agent(&self, agent: &AgentId) {
        self.lock().agents.remove(agent);
    }

    /// For how long a claim has given no sign of life.
    pub(crate) fn silence(&self, claim: ClaimId, now: Instant) -> Option<Duration> {
        self.lock().leases.get(&claim).map(|lease| now.saturating_duration_since(lease.seen))
    }

    /// A claim gave a sign of life, or was granted.
    pub(crate) fn renew(&self, claim: ClaimId, agent: Option<&AgentId>, now: Instant) {
        let mut seen = self.lock();
        let lease = seen.leases.entry(claim).or_insert_with(|| Lease { agent: None, seen: now, cancel_asked: None });
        lease.seen = now;
        if let Some(agent) = agent {
            lease.agent = Some(agent.clone());
        }
    }

    /// The job of a claim was asked to end.
    pub(crate) fn cancel_asked(&self, claim: ClaimId, now: Instant) {
        if let Some(lease) = self.lock().leases.get_mut(&claim) {
            lease.cancel_asked.get_or_insert(now);
        }
    }

    /// A claim is no longer current.
    pub(crate) fn forget(&self, claim: ClaimId) {
        self.lock().leases.remove(&claim);
    }

    /// Every lease gets its full time again: the silence was this side's own.
    pub(crate) fn renew_all(&self, now: Instant) {
        let mut seen = self.lock();
        for lease in seen.leases.values_mut() {
            lease.seen = now;
            // So does every cancel: the agent may not have heard of it.
            lease.cancel_asked = lease.cancel_asked.map(|_| now);
        }
    }

    /// Claims that gave no sign of life for as long as a lease.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<ClaimId> {
        let over = |lease: &Lease| now.saturating_duration_since(lease.seen) > self.lease;
        self.lock().leases.iter().filter(|(_, lease)| over(lease)).map(|(claim, _)| *claim).collect()
    }

    /// Claims whose job was asked to end longer ago than `patience`.
    pub(crate) fn overdue_cancels(&self, now: Instant, patience: Duration) -> Vec<ClaimId> {
        let over =
            |lease: &Lease| lease.cancel_asked.is_some_and(|asked| now.saturating_duration_since(asked) > patience);
        self.lock().leases.iter().filter(|(_, lease)| over(lease)).map(|(claim, _)| *claim).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Each change is one step, so a panic elsewhere leaves nothing half done.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The labels of one set that are not in the other.
fn without(labels: &LabelSet, others: &LabelSet) -> LabelSet {
    picked(labels, |label| !others.iter().any(|other| other == label))
}

/// The labels that are in both sets.
fn both(labels: &LabelSet, others: &LabelSet) -> LabelSet {
    picked(labels, |label| others.iter().any(|other| other == label))
}

fn picked(labels: &LabelSet, is_wanted: impl Fn(&str) -> bool) -> LabelSet {
    // Never fails: each was in a set before.
    LabelSet::new(labels.iter().filter(|label| is_wanted(label))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(60);

    #[test]
    fn what_one_life_of_an_agent_said_holds_until_it_says_it_anew() {
        let presence = Presence::new(LEASE);
        let agent: AgentId = "a".parse().unwrap();
        let (one, other) = (BootId::fresh(), BootId::fresh());
        let full = || Said { paused: Some("full".to_owned()), hears_several: true, ..Said::default() };
        for (boot, said, paused, hears_several) in [
            (one, None, None, false),
            (one, Some(full()), Some("full"), true),
            (one, None, Some("full"), true),
            (one, Some(Said { paused: None, ..full() }), None, true),
            (one, Some(full()), Some("full"), true),
            (other, None, None, false),
        ] {
            let belongs = Belongs::Yes(LabelSet::default());
            let sighting = Sighting { boot, slots: 1, belongs, offered: LabelSet::default(), note: None, said };
            presence.saw(&agent, sighting, Instant::now());
            let (seen, _) = presence.sighting(&agent, Instant::now()).unwrap();
            assert_eq!((seen.why_paused().as_deref(), presence.hears_several(&agent)), (paused, hears_several));
        }
    }

    #[test]
    fn a_lease_is_over_after_its_time_and_not_after_a_gap_of_our_own() {
        let (presence, start, claim) = (Presence::new(LEASE), Instant::now(), ClaimId::fresh());
        presence.renew(claim, None, start);
        assert!(presence.overdue(start + LEASE).is_empty());
        let late = start + LEASE + Duration::from_secs(1);
        assert_eq!(presence.overdue(late), [claim]);
        presence.renew_all(late);
        assert!(presence.overdue(late + LEASE).is_empty());
        presence.cancel_asked(claim, start);
        assert_eq!(presence.overdue_cancels(late, LEASE), [claim]);
        presence.forget(claim);
        assert!(presence.overdue(late + 3 * LEASE).is_empty());
    }

    #[test]
    fn a_sign_of_life_that_is_played_again_is_none() {
        let (presence, agent) = (Presence::new(LEASE), "a".parse().unwrap());
        let (first, second) = (BootId::fresh(), BootId::fresh());
        let expect = [(first, 1, true), (first, 1, false), (first, 3, true), (first, 2, false), (second, 1, true)];
        for (boot, count, is_news) in
            expect.into_iter().chain([(first, 3, false), (second, 1, false), (second, 2, true)])
        {
            assert_eq!(presence.is_news(&agent, boot, count), is_news, "{boot} {count}");
        }
    }

    #[test]
    fn capacity_counts_who_could_run_it() {
        let (presence, now) = (Presence::new(LEASE), Instant::now());
        let gpu = LabelSet::new(["gpu"]).unwrap();
        let saw = |name: &str, belongs: Belongs, paused: Option<&str>| {
            let agent: AgentId = name.parse().unwrap();
            let sighting = Sighting {
                boot: BootId::fresh(),
                slots: 2,
                belongs,
                offered: gpu.clone(),
                note: None,
                said: Some(Said { paused: paused.map(str::to_owned), draining: name == "old", ..Said::default() }),
            };
            presence.saw(&agent, sighting, now);
            agent
        };
        let plain = saw("plain", Belongs::Yes(LabelSet::default()), None);
        saw("strong", Belongs::Yes(gpu.clone()), None);
        saw("full", Belongs::Yes(gpu.clone()), Some("the disk is full"));
        saw("old", Belongs::Yes(gpu.clone()), None);
        saw("new", Belongs::NotYet("k".to_owned()), None);
        saw("thief", Belongs::NoLonger, None);
        presence.renew(ClaimId::fresh(), Some(&plain), now);
        let any = presence.capacity(&LabelSet::default(), now);
        assert_eq!((any.agents, any.able.len(), any.paused.len(), any.slots, any.free), (4, 2, 2, 4, 3));
        assert_eq!(any.unapproved, [WaitingAgent { agent: "new".parse().unwrap(), key: "k".to_owned() }]);
        let paused: Vec<&str> = any.paused.iter().map(|agent| agent.why.as_str()).collect();
        assert_eq!(paused, ["the disk is full", "it ends when its jobs are over"]);
        let strong = presence.capacity(&gpu, now);
        assert_eq!((strong.free, strong.near.len()), (2, 1));
        let near = NearAgent { agent: plain.clone(), lacks: gpu.clone(), unapproved: gpu.clone() };
        assert_eq!(strong.near, [near]);
        presence.amend(&"strong".parse().unwrap(), |seen| seen.note = Some("a new disk".to_owned()));
        let noted = presence.capacity(&gpu, now);
        assert_eq!((noted.free, noted.paused[2].why.as_str()), (0, "paused by a person: a new disk"));
        presence.forget_agent(&plain);
        assert_eq!(presence.capacity(&LabelSet::default(), now).agents, 3);
        assert_eq!(presence.capacity(&gpu, now + 2 * LEASE), Capacity::default());
    }
}
