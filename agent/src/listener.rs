//! Hears the coordinator and passes on what it says; gives a sign of life with all that is held.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::control::{BEACON_EVERY, Control};
use protocol::link::{AgentLink, LinkError};
use protocol::report::{Heartbeat, Report};
use protocol::{AgentId, BootId, ClaimId, LogName};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::claims::{Answer, Claims};
use crate::presence::{Heard, Presence};
use crate::reporter::{Kept, Marks};

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
        if let Some(marks) = self.by_claim.lock().unwrap_or_else(PoisonError::into_inner).get(&claim) {
            marks.send_modify(|kept| {
                kept.logs.insert(log, bytes);
            });
        }
    }

    fn noted(&self, claim: ClaimId, seq: u64) {
        if let Some(marks) = self.by_claim.lock().unwrap_or_else(PoisonError::into_inner).get(&claim) {
            marks.send_modify(|kept| {
                kept.events = kept.events.max(seq);
                kept.said += 1;
            });
        }
    }
}

/// Hears what the coordinator says to this life of the agent, until the link closes.
pub(crate) async fn listen(
    link: Arc<dyn AgentLink>,
    me: BootId,
    claims: Claims,
    marks: LogMarks,
    heard: mpsc::Sender<Heard>,
) {
    loop {
        let control = match link.next_control().await {
            Ok(control) => control,
            Err(LinkError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "a control message was lost; the next heartbeat makes up for it");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let news = match control {
            Control::Beacon(beacon) => Heard::Beacon(beacon),
            // Another process goes by this agent's name.
            Control::Enrolled { boot: Some(boot), .. } | Control::NotEnrolled { boot: Some(boot), .. }
                if boot != me =>
            {
                continue;
            }
            Control::Enrolled { coordinator, proof, .. } => Heard::Enrolled { coordinator, proof },
            Control::NotEnrolled { reason, .. } => Heard::NotEnrolled { reason },
            Control::Granted { claim, grant } => {
                claims.answered(claim, Answer::Granted(grant));
                continue;
            }
            Control::Denied { claim, reason } => {
                claims.answered(claim, Answer::Denied(reason));
                continue;
            }
            Control::Cancel { claim, reason } => {
                tracing::info!(?claim, reason, "a job is cancelled");
                claims.cancel(claim, &reason);
                continue;
            }
            Control::Abort { claim, reason } => {
                tracing::warn!(?claim, reason, "a claim is no longer current: its job is stopped");
                claims.abort(claim);
                continue;
            }
            Control::Recorded { claim } => {
                claims.recorded(claim);
                continue;
            }
            Control::LogKept { claim, log, bytes } => {
                marks.kept(claim, log, bytes);
                continue;
            }
            Control::Noted { claim, seq } => {
                marks.noted(claim, seq);
                continue;
            }
            Control::Standing { .. } | Control::Told(_) | Control::Unknown => continue,
        };
        if heard.send(news).await.is_err() {
            return;
        }
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
    /// How often: what the last grant said, at most [`BEACON_EVERY`].
    pub(crate) every: watch::Receiver<Duration>,
}

impl Pulse {
    pub(crate) async fn keep(mut self, done: CancellationToken) {
        loop {
            let every = (*self.every.borrow_and_update()).min(BEACON_EVERY);
            tokio::select! {
                () = done.cancelled() => break,
                () = tokio::time::sleep(every) => {}
                Ok(()) = self.every.changed() => continue,
            }
            if *self.presence.borrow() == Presence::Alone {
                continue;
            }
            let beat = Report::Heartbeat(Heartbeat {
                agent: self.agent.clone(),
                boot: self.boot,
                claims: self.claims.held(),
                slots: self.slots,
                paused: None,
                standing: None,
                draining: false,
                capacity: None,
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
