//! Hears the coordinator and passes on what it says; gives a sign of life with all that is held.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::control::{BEACON_EVERY, Control};
use protocol::link::{AgentLink, LinkError};
use protocol::report::{Capacity, Heartbeat, Report};
use protocol::{AgentId, BootId, ClaimId, LogName};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::claims::{Answer, Claims};
use crate::presence::{Heard, Presence};
use crate::reporter::{Kept, Marks};
use crate::standing::{Reasons, Standing};

/// How far the coordinator's store has the events and logs of each claim whose reports are still on this disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogMarks {
    by_claim: Arc<Mutex<HashMap<ClaimId, watch::Sender<Kept>>>>,
}

impl LogMarks {
    /// Follows a claim's marks.
    pub(crate) fn follow(&self, claim: ClaimId) -> Marks {
        let mut marks = self.by_claim.lock().unwrap_or_else(PoisonError::into_inner);
        marks.entry(claim).or_insert_with(|| watch::Sender::new(Kept::default())).subscribe()
    }

    /// Nobody asks for a claim's marks any more.
    pub(crate) fn forget(&self, claim: ClaimId) {
        self.by_claim.lock().unwrap_or_else(PoisonError::into_inner).remove(&claim);
    }

    fn kept(&self, claim: ClaimId, log: LogName, bytes: u64) {
        self.change(claim, |kept| {
            let mark = kept.logs.entry(log).or_default();
            mark.again = if mark.bytes == bytes { mark.again + 1 } else { 0 };
            mark.bytes = bytes;
        });
    }

    fn noted(&self, claim: ClaimId, seq: u64) {
        self.change(claim, |kept| {
            kept.events = kept.events.max(seq);
            kept.last_events = seq;
            kept.said += 1;
        });
    }

    fn forgotten(&self, claim: ClaimId) {
        self.change(claim, |kept| kept.forgotten = true);
    }

    fn change(&self, claim: ClaimId, change: impl FnOnce(&mut Kept)) {
        if let Some(marks) = self.by_claim.lock().unwrap_or_else(PoisonError::into_inner).get(&claim) {
            marks.send_modify(change);
        }
    }
}

/// Hears what the coordinator says to this life of the agent.
pub(crate) struct Ears {
    pub(crate) link: Arc<dyn AgentLink>,
    pub(crate) me: BootId,
    pub(crate) claims: Claims,
    pub(crate) marks: LogMarks,
    pub(crate) standing: Standing,
    pub(crate) heard: mpsc::Sender<Heard>,
}

impl Ears {
    /// Hears until the link closes.
    pub(crate) async fn listen(self) {
        loop {
            let control = match self.link.next_control().await {
                Ok(control) => control,
                Err(LinkError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "a control message was lost; the next heartbeat makes up for it");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            if let Some(news) = self.hear(control)
                && self.heard.send(news).await.is_err()
            {
                return;
            }
        }
    }

    /// Does what is said; gives what concerns the watch on the coordinator.
    fn hear(&self, control: Control) -> Option<Heard> {
        let Self { claims, .. } = self;
        match control {
            Control::Beacon(beacon) => return Some(Heard::Beacon(beacon)),
            // Another process goes by this agent's name.
            Control::Enrolled { boot: Some(boot), .. }
            | Control::NotEnrolled { boot: Some(boot), .. }
            | Control::Standing { boot: Some(boot), .. }
                if boot != self.me => {}
            Control::Enrolled { coordinator, proof, .. } => return Some(Heard::Enrolled { coordinator, proof }),
            Control::NotEnrolled { reason, .. } => return Some(Heard::NotEnrolled { reason }),
            Control::Standing { note, .. } => self.standing.say(note),
            Control::Granted { claim, grant } => claims.answered(claim, Answer::Granted(grant)),
            Control::Denied { claim, reason } => claims.answered(claim, Answer::Denied(reason)),
            Control::Cancel { claim, reason } => {
                tracing::info!(?claim, reason, "a job is cancelled");
                claims.cancel(claim, &reason);
            }
            Control::Abort { claim, reason } => {
                tracing::warn!(?claim, reason, "a claim is no longer current: its job is stopped");
                claims.abort(claim);
            }
            Control::Recorded { claim } => claims.recorded(claim),
            Control::Forgotten { claim } => {
                tracing::warn!(
                    ?claim,
                    "the coordinator's store knows nothing of a claim: what is left of it is dropped"
                );
                self.marks.forgotten(claim);
                claims.abort(claim);
            }
            Control::LogKept { claim, log, bytes } => self.marks.kept(claim, log, bytes),
            Control::Noted { claim, seq } => self.marks.noted(claim, seq),
            Control::Several { .. } | Control::Told(_) | Control::Unknown => {}
        }
        None
    }
}

/// Gives signs of life until the token is cancelled, and says goodbye.
pub(crate) struct Pulse {
    pub(crate) link: Arc<dyn AgentLink>,
    pub(crate) agent: AgentId,
    pub(crate) boot: BootId,
    pub(crate) slots: u32,
    pub(crate) claims: Claims,
    pub(crate) presence: watch::Receiver<Presence>,
    pub(crate) standing: watch::Receiver<Reasons>,
    pub(crate) capacity: watch::Receiver<Option<Capacity>>,
    pub(crate) drain: CancellationToken,
    /// How often: what the last beacon or grant said, at most [`BEACON_EVERY`].
    pub(crate) every: watch::Receiver<Duration>,
}

impl Pulse {
    pub(crate) async fn keep(mut self, done: CancellationToken) {
        let mut draining = self.drain.is_cancelled();
        loop {
            let every = (*self.every.borrow_and_update()).min(BEACON_EVERY);
            tokio::select! {
                () = done.cancelled() => break,
                () = tokio::time::sleep(every) => {}
                Ok(()) = self.every.changed() => continue,
                // What decides whether a job comes here is said at once, and again to who knows this agent only now.
                Ok(()) = self.standing.changed() => {}
                Ok(()) = self.presence.changed() => {}
                () = self.drain.cancelled(), if !draining => draining = true,
            }
            if *self.presence.borrow() == Presence::Alone {
                continue;
            }
            let reasons = self.standing.borrow_and_update().clone();
            let beat = Report::Heartbeat(Heartbeat {
                agent: self.agent.clone(),
                boot: self.boot,
                claims: self.claims.held(),
                slots: self.slots,
                paused: reasons.sentence(),
                standing: reasons.note,
                draining,
                capacity: *self.capacity.borrow(),
                hears_several: true,
            });
            if let Err(error) = self.link.report(&beat).await {
                tracing::debug!(%error, "a heartbeat was not heard");
            }
        }
        let bye = Report::Bye { agent: self.agent, boot: self.boot };
        // Best effort: a coordinator that does not hear it sees the silence.
        let said = tokio::time::timeout(Duration::from_secs(5), self.link.report(&bye)).await;
        tracing::debug!(?said, "said goodbye");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_is_said_again_is_counted_until_it_moves() {
        let (marks, claim) = (LogMarks::default(), ClaimId::fresh());
        let kept = marks.follow(claim);
        let log: LogName = "test".parse().unwrap();
        for (bytes, again) in [(0, 1), (0, 2), (7, 0), (7, 1), (9, 0)] {
            marks.kept(claim, log.clone(), bytes);
            let mark = kept.borrow().logs[&log];
            assert_eq!((mark.bytes, mark.again), (bytes, again));
        }
    }
}
