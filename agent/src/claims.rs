//! What this agent holds at the moment: claims that wait for an answer, jobs that run, results not yet recorded.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buildr::executor::Stop;
use protocol::ClaimId;
use protocol::identity::Sealed;
use protocol::report::{ClaimPhase, HeldClaim};
use tokio::sync::{oneshot, watch};

/// The coordinator's answer to a claim.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It holds.
    Granted(Sealed),
    /// It does not.
    Denied(String),
}

/// All claims of an agent. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claims {
    held: Arc<Mutex<HashMap<ClaimId, Held>>>,
}

#[derive(Debug)]
enum Held {
    Pending(oneshot::Sender<Answer>),
    Running {
        stop: Stop,
        /// Whether the coordinator still wants to hear of it.
        recorded: watch::Sender<bool>,
        /// The numbers of the events that it must have noted before stages of the job go on.
        waits_for: BTreeSet<u64>,
    },
    Ended {
        recorded: watch::Sender<bool>,
    },
    /// A build that began without any coordinator: none that comes meanwhile knows it, so none is told of it.
    Alone {
        stop: Stop,
    },
}

impl Claims {
    /// A claim that is about to be sent. The answer comes on the receiver.
    pub(crate) fn pending(&self, claim: ClaimId) -> oneshot::Receiver<Answer> {
        let (sender, answer) = oneshot::channel();
        self.lock().insert(claim, Held::Pending(sender));
        answer
    }

    /// The claim was granted and its job begins. The receiver says when its result is recorded.
    pub(crate) fn running(&self, claim: ClaimId, stop: Stop) -> watch::Receiver<bool> {
        let (recorded, is_recorded) = watch::channel(false);
        self.lock().insert(claim, Held::Running { stop, recorded, waits_for: BTreeSet::new() });
        is_recorded
    }

    /// A build begins that no coordinator knows. Until it is forgotten, only this agent's own end ends it.
    pub(crate) fn alone(&self, claim: ClaimId, stop: Stop) {
        self.lock().insert(claim, Held::Alone { stop });
    }

    /// A stage goes on when the coordinator has noted this event, and heartbeats say so until then.
    pub(crate) fn wait_for(&self, claim: ClaimId, event: u64) {
        if let Some(Held::Running { waits_for, .. }) = self.lock().get_mut(&claim) {
            waits_for.insert(event);
        }
    }

    /// It goes on.
    pub(crate) fn waits_no_more(&self, claim: ClaimId, event: u64) {
        if let Some(Held::Running { waits_for, .. }) = self.lock().get_mut(&claim) {
            waits_for.remove(&event);
        }
    }

    /// A result of an earlier life that is still to be recorded.
    pub(crate) fn leftover(&self, claim: ClaimId) -> watch::Receiver<bool> {
        let (recorded, is_recorded) = watch::channel(false);
        self.lock().insert(claim, Held::Ended { recorded });
        is_recorded
    }

    /// The job is over; its result waits to be recorded.
    pub(crate) fn ended(&self, claim: ClaimId) {
        let mut held = self.lock();
        if let Some(Held::Running { recorded, .. }) = held.remove(&claim)
            && !*recorded.borrow()
        {
            held.insert(claim, Held::Ended { recorded });
        }
    }

    /// The claim is given up or denied.
    pub(crate) fn forget(&self, claim: ClaimId) {
        self.lock().remove(&claim);
    }

    /// An answer came.
    pub(crate) fn answered(&self, claim: ClaimId, answer: Answer) {
        let mut held = self.lock();
        if matches!(held.get(&claim), Some(Held::Pending(_)))
            && let Some(Held::Pending(sender)) = held.remove(&claim)
        {
            // The slot gave up at this very moment: then it says `abandoned`.
            sender.send(answer).ok();
        }
    }

    /// Somebody wants the job to end.
    pub(crate) fn cancel(&self, claim: ClaimId, reason: &str) {
        if let Some(Held::Running { stop, .. }) = self.lock().get(&claim) {
            stop.cancel_because(reason);
        }
    }

    /// The claim is no longer current: its job stops, and nobody waits for its result.
    pub(crate) fn abort(&self, claim: ClaimId) {
        let mut held = self.lock();
        match held.get(&claim) {
            Some(Held::Running { stop, recorded, .. }) => {
                stop.cancel();
                recorded.send_replace(true);
            }
            Some(Held::Ended { recorded }) => {
                recorded.send_replace(true);
                held.remove(&claim);
            }
            Some(Held::Pending(_) | Held::Alone { .. }) | None => {}
        }
    }

    /// The result is in the store. A job that still runs has been ended by the coordinator itself: it stops, for
    /// nobody would ask after it any more.
    pub(crate) fn recorded(&self, claim: ClaimId) {
        let mut held = self.lock();
        match held.get(&claim) {
            Some(Held::Running { stop, recorded, .. }) => {
                stop.cancel();
                recorded.send_replace(true);
            }
            Some(Held::Ended { recorded }) => {
                recorded.send_replace(true);
            }
            Some(Held::Pending(_)) => {}
            Some(Held::Alone { .. }) | None => return,
        }
        held.remove(&claim);
    }

    /// Asks every running job to end.
    pub(crate) fn cancel_all(&self, reason: &str) {
        for held in self.lock().values() {
            if let Held::Running { stop, .. } | Held::Alone { stop } = held {
                stop.cancel_because(reason);
            }
        }
    }

    /// What a heartbeat says.
    pub(crate) fn held(&self) -> Vec<HeldClaim> {
        let look = |(&claim, held): (&ClaimId, &Held)| {
            let (phase, waits_for) = match held {
                Held::Alone { .. } => return None,
                Held::Pending(_) => (ClaimPhase::Pending, None),
                Held::Running { waits_for, .. } => (ClaimPhase::Running, waits_for.last().copied()),
                Held::Ended { .. } => (ClaimPhase::Ended, None),
            };
            Some(HeldClaim { claim, phase, waits_for })
        };
        self.lock().iter().filter_map(look).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClaimId, Held>> {
        // Each change is one insert or remove.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_runs_on_that_nobody_asks_after() {
        for end in [Claims::recorded, Claims::abort] {
            let (claims, claim, stop) = (Claims::default(), ClaimId::fresh(), Stop::new());
            let recorded = claims.running(claim, stop.clone());
            end(&claims, claim);
            assert!(stop.is_cancelled() && *recorded.borrow());
        }
        // A result waits for its word in any case, and an answer to a claim that is given up is nobody's.
        let (claims, claim) = (Claims::default(), ClaimId::fresh());
        let recorded = claims.leftover(claim);
        claims.recorded(claim);
        assert!(*recorded.borrow() && claims.held().is_empty());
        let mut answer = claims.pending(claim);
        claims.recorded(claim);
        assert!(answer.try_recv().is_err() && claims.held().is_empty());
    }

    #[test]
    fn a_job_whose_end_nobody_will_hear_is_held_no_longer() {
        let (claims, claim) = (Claims::default(), ClaimId::fresh());
        let recorded = claims.running(claim, Stop::new());
        claims.abort(claim);
        claims.ended(claim);
        assert!(claims.held().is_empty(), "a heartbeat would renew its lease for ever");
        assert!(*recorded.borrow(), "its sender would wait for a word that never comes");
    }

    #[test]
    fn a_build_that_no_coordinator_knows_is_nobodys_to_end() {
        let (claims, claim, stop) = (Claims::default(), ClaimId::fresh(), Stop::new());
        claims.alone(claim, stop.clone());
        assert!(claims.held().is_empty(), "a coordinator that comes meanwhile would say that it is not current");
        claims.abort(claim);
        claims.recorded(claim);
        claims.cancel(claim, "not asked for");
        assert!(!stop.is_cancelled());
        claims.cancel_all("the agent is being stopped");
        assert!(stop.is_cancelled());
    }

    #[test]
    fn a_heartbeat_says_what_is_waited_for() {
        let (claims, claim) = (Claims::default(), ClaimId::fresh());
        let _recorded = claims.running(claim, Stop::new());
        let waits_for = || claims.held()[0].waits_for;
        claims.wait_for(claim, 3);
        claims.wait_for(claim, 5);
        assert_eq!(waits_for(), Some(5), "who has that has the other");
        claims.waits_no_more(claim, 3);
        assert_eq!(waits_for(), Some(5), "the other stage still waits");
        claims.waits_no_more(claim, 5);
        assert_eq!(waits_for(), None);
    }
}
