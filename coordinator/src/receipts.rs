//! Receipts: that a result is recorded, and how much of a log is kept. Agents clear their disks by them and nobody waits,
//! so what an agent is to have of one moment goes to it in one message, with one signature.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::AgentId;
use protocol::control::Control;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long the first waits for others: too short for anybody to see, and long enough for those of one short job.
const MOMENT: Duration = Duration::from_millis(50);

/// How many wait at most: beyond that, who leaves one waits until others are told, such as for a broker that takes
/// nothing at present.
const WAITING: usize = 1024;

/// Those that are yet to be told.
#[derive(Debug)]
pub(crate) struct Receipts {
    leave: mpsc::Sender<(AgentId, Control)>,
    left: Mutex<mpsc::Receiver<(AgentId, Control)>>,
}

impl Receipts {
    /// None.
    pub(crate) fn new() -> Self {
        let (leave, left) = mpsc::channel(WAITING);
        Self { leave, left: Mutex::new(left) }
    }

    /// Whether it is one.
    pub(crate) fn is_one(control: &Control) -> bool {
        matches!(control, Control::Recorded { .. } | Control::LogKept { .. })
    }

    /// Leaves one to be told. It comes back when nobody tells them any more.
    pub(crate) async fn leave(&self, agent: &AgentId, receipt: Control) -> Option<Control> {
        let left = self.leave.send((agent.clone(), receipt)).await;
        left.err().map(|mpsc::error::SendError((_, receipt))| receipt)
    }

    /// Those of the next moment, each agent's in the order in which they were left. After `shutdown` what is left, and
    /// then nothing.
    pub(crate) async fn next(&self, shutdown: &CancellationToken) -> Option<BTreeMap<AgentId, Vec<Control>>> {
        let mut left = self.left.lock().await;
        let mut receipts = Vec::new();
        tokio::select! {
            () = shutdown.cancelled() => left.close(),
            _ = left.recv_many(&mut receipts, 1) => {}
        }
        let until = Instant::now() + MOMENT;
        while receipts.len() < WAITING
            && timeout_at(until, left.recv_many(&mut receipts, WAITING)).await.is_ok_and(|more| more > 0)
        {}
        let mut by_agent: BTreeMap<AgentId, Vec<Control>> = BTreeMap::new();
        for (agent, receipt) in receipts {
            by_agent.entry(agent).or_default().push(receipt);
        }
        (!by_agent.is_empty()).then_some(by_agent)
    }
}

#[cfg(test)]
mod tests {
    use protocol::ClaimId;

    use super::*;

    #[tokio::test]
    async fn what_is_left_together_is_told_together_and_nothing_is_kept_back() {
        let receipts = Receipts::new();
        let (oak, elm): (AgentId, AgentId) = ("oak".parse().unwrap(), "elm".parse().unwrap());
        let recorded = || Control::Recorded { claim: ClaimId::fresh() };
        let kept = |bytes| Control::LogKept { claim: ClaimId::fresh(), log: "a".parse().unwrap(), bytes };
        for (agent, receipt) in [(&oak, kept(1)), (&elm, recorded()), (&oak, kept(2)), (&oak, recorded())] {
            assert!(receipts.leave(agent, receipt).await.is_none());
        }
        let shutdown = CancellationToken::new();
        let told = receipts.next(&shutdown).await.unwrap();
        let bytes = |control: &Control| match control {
            Control::LogKept { bytes, .. } => *bytes,
            _ => 0,
        };
        let oaks: Vec<u64> = told[&oak].iter().map(bytes).collect();
        assert_eq!((oaks, told[&elm].len()), (vec![1, 2, 0], 1));
        assert!(receipts.leave(&oak, recorded()).await.is_none());
        shutdown.cancel();
        assert_eq!(receipts.next(&shutdown).await.unwrap()[&oak].len(), 1, "the last ones are told");
        assert!(receipts.next(&shutdown).await.is_none());
        assert!(receipts.leave(&oak, recorded()).await.is_some(), "whoever comes later tells it alone");
    }
}
