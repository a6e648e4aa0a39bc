//! Who was seen, and when: agents and the claims that they hold, by a clock that only goes forward. It lives in
//! memory; after a start every running claim counts as seen just now.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::{AgentId, BootId, ClaimId, LabelSet};
use tokio::time::Instant;

/// Who was seen.
#[derive(Debug)]
pub(crate) struct Presence {
    seen: Mutex<Seen>,
    lease: Duration,
}

#[derive(Debug, Default)]
struct Seen {
    agents: HashMap<AgentId, (Sighting, Instant)>,
    leases: HashMap<ClaimId, Lease>,
}

/// An agent as it was seen last.
#[derive(Debug, Clone)]
pub(crate) struct Sighting {
    /// Which life of it.
    pub(crate) boot: BootId,
    /// How many jobs it runs at once.
    pub(crate) slots: u32,
    /// The labels that a grant looks at; none while it is not enrolled.
    pub(crate) approved: Option<LabelSet>,
    /// Why it takes no job at present.
    pub(crate) paused: Option<String>,
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
    pub(crate) unapproved: Vec<AgentId>,
    /// Of the enrolled, those that have the labels.
    pub(crate) suited: usize,
    /// Of these, those that take no jobs, with the reason of one.
    pub(crate) paused: usize,
    /// Why one of them does not.
    pub(crate) why_paused: Option<String>,
    /// The slots of the others.
    pub(crate) slots: usize,
    /// Those of them that are free.
    pub(crate) free: usize,
}

impl Presence {
    /// Nobody, with leases of this length.
    pub(crate) fn new(lease: Duration) -> Self {
        Self { seen: Mutex::default(), lease }
    }

    /// An agent gave a sign of life.
    pub(crate) fn saw(&self, agent: &AgentId, sighting: Sighting, now: Instant) {
        self.lock().agents.insert(agent.clone(), (sighting, now));
    }

    /// An agent ended in good order.
    pub(crate) fn left(&self, agent: &AgentId, boot: BootId) {
        let mut seen = self.lock();
        if seen.agents.get(agent).is_some_and(|(sighting, _)| sighting.boot == boot) {
            seen.agents.remove(agent);
        }
    }

    /// What an agent looked like when it was seen last, and how long ago that was.
    pub(crate) fn sighting(&self, agent: &AgentId, now: Instant) -> Option<(Sighting, Duration)> {
        let seen = self.lock();
        seen.agents.get(agent).map(|(sighting, at)| (sighting.clone(), now.saturating_duration_since(*at)))
    }

    /// Whether an agent gave no sign of life for as long as a lease.
    pub(crate) fn is_silent(&self, agent: &AgentId, now: Instant) -> bool {
        self.sighting(agent, now).is_none_or(|(_, ago)| ago > self.lease)
    }

    /// What could run a job that needs these labels.
    pub(crate) fn capacity(&self, labels: &LabelSet, now: Instant) -> Capacity {
        let seen = self.lock();
        let mut capacity = Capacity::default();
        for (agent, (sighting, at)) in &seen.agents {
            if now.saturating_duration_since(*at) > self.lease {
                continue;
            }
            let Some(approved) = &sighting.approved else {
                capacity.unapproved.push(agent.clone());
                continue;
            };
            capacity.agents += 1;
            if !labels.satisfied_by(approved) {
                continue;
            }
            capacity.suited += 1;
            if let Some(reason) = &sighting.paused {
                capacity.paused += 1;
                capacity.why_paused = Some(format!("{agent}: {reason}"));
                continue;
            }
            let slots = usize::try_from(sighting.slots).unwrap_or(usize::MAX);
            let taken = seen.leases.values().filter(|lease| lease.agent.as_ref() == Some(agent)).count();
            capacity.slots += slots;
            capacity.free += slots.saturating_sub(taken);
        }
        capacity.unapproved.sort();
        capacity
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

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(60);

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
    fn capacity_counts_who_could_run_it() {
        let (presence, now) = (Presence::new(LEASE), Instant::now());
        let gpu = LabelSet::new(["gpu"]).unwrap();
        let saw = |name: &str, approved: Option<&LabelSet>, paused: Option<&str>| {
            let agent: AgentId = name.parse().unwrap();
            let paused = paused.map(str::to_owned);
            let sighting = Sighting { boot: BootId::fresh(), slots: 2, approved: approved.cloned(), paused };
            presence.saw(&agent, sighting, now);
            agent
        };
        let plain = saw("plain", Some(&LabelSet::default()), None);
        saw("strong", Some(&gpu), None);
        saw("full", Some(&gpu), Some("the disk is full"));
        saw("new", None, None);
        presence.renew(ClaimId::fresh(), Some(&plain), now);
        let any = presence.capacity(&LabelSet::default(), now);
        assert_eq!((any.agents, any.suited, any.paused, any.slots, any.free), (3, 3, 1, 4, 3));
        assert_eq!(any.unapproved.len(), 1);
        assert_eq!(any.why_paused.as_deref(), Some("full: the disk is full"));
        assert_eq!(presence.capacity(&gpu, now).free, 2);
        assert_eq!(presence.capacity(&gpu, now + 2 * LEASE), Capacity::default());
    }
}
