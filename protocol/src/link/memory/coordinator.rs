//! The coordinator's end of the line in memory.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::{MemoryBroker, encode};
use crate::control::Control;
use crate::id::LabelSet;
use crate::job::{OfferBody, ReplyTo, StatusMessage};
use crate::link::{
    Address, BadMessage, Batch, CoordinatorLink, DeadLetter, Delivered, Health, Incoming, IncomingLog, LinkError,
    Settle, queue_name,
};
use crate::report::LogChunk;
use crate::wire;

/// The coordinator's end of a [`MemoryBroker`].
pub struct MemoryCoordinator {
    broker: MemoryBroker,
}

impl MemoryCoordinator {
    pub(super) fn new(broker: MemoryBroker) -> Self {
        Self { broker }
    }
}

#[async_trait]
impl CoordinatorLink for MemoryCoordinator {
    async fn offer(&self, labels: &LabelSet, offer: &OfferBody) -> Result<(), LinkError> {
        let body = serde_json::to_vec(offer).map_err(|error| LinkError::Unsendable(error.to_string()))?;
        drop(self.broker.open()?);
        self.broker.publish(&queue_name(labels), body, Some(offer.job_id.to_string()), None);
        Ok(())
    }

    async fn next_reports(&self, most: usize) -> Result<Batch<Incoming>, LinkError> {
        let raw: Vec<(u64, Bytes)> = self
            .broker
            .wait_for(|state| {
                let taken = state.reports.take(most.max(1));
                state.unsettled += taken.len();
                (!taken.is_empty()).then_some(taken)
            })
            .await?;
        let read = |body: &Bytes| Incoming {
            user: None,
            report: wire::decode(body).map_err(|error| BadMessage { body: body.clone(), reason: error.to_string() }),
        };
        let items = raw.iter().map(|(_, body)| read(body)).collect();
        Ok(Batch::new(items, Box::new(SettleReports { broker: self.broker.clone(), raw })))
    }

    async fn next_logs(&self, most: usize) -> Result<Batch<IncomingLog>, LinkError> {
        let chunks: Vec<(u64, LogChunk)> = self
            .broker
            .wait_for(|state| {
                let taken = state.logs.take(most.max(1));
                state.log_bytes -= taken.iter().map(|(_, chunk)| chunk.bytes.len()).sum::<usize>();
                (!taken.is_empty()).then_some(taken)
            })
            .await?;
        let read = |chunk: &LogChunk| IncomingLog { user: None, chunk: Ok(chunk.clone()) };
        let items = chunks.iter().map(|(_, chunk)| read(chunk)).collect();
        Ok(Batch::new(items, Box::new(SettleLogs { broker: self.broker.clone(), chunks })))
    }

    async fn backlog(&self) -> Result<usize, LinkError> {
        let state = self.broker.open()?;
        Ok(state.reports.ready.len() + state.unsettled)
    }

    async fn control(&self, to: &Address, control: &Control) -> Result<Delivered, LinkError> {
        let bytes = encode(control)?;
        let mut state = self.broker.open()?;
        state.agents.retain(|(_, agent)| !agent.is_closed());
        let mut delivered = Delivered::Unroutable;
        for (agent, sender) in &state.agents {
            if matches!(to, Address::Agent(wanted) if wanted != agent) {
                continue;
            }
            delivered = Delivered::Yes;
            // Full: the agent is stuck, and its next heartbeat asks for what it missed.
            sender.try_send(bytes.clone()).ok();
        }
        Ok(delivered)
    }

    async fn reply(&self, to: &ReplyTo, status: &StatusMessage) -> Result<Delivered, LinkError> {
        self.broker.reply(to, status)
    }

    async fn bury(&self, dead: &DeadLetter) -> Result<(), LinkError> {
        self.broker.open()?.dead.push(dead.clone());
        Ok(())
    }

    async fn ensure(&self, _queues: &[LabelSet]) -> Result<(), LinkError> {
        self.broker.open().map(drop)
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.broker.health.subscribe()
    }
}

struct SettleReports {
    broker: MemoryBroker,
    raw: Vec<(u64, Bytes)>,
}

#[async_trait]
impl Settle for SettleReports {
    async fn ack(mut self: Box<Self>) -> bool {
        let settled = std::mem::take(&mut self.raw).len();
        self.broker.lock().unsettled -= settled;
        true
    }
    async fn requeue(self: Box<Self>) {
        drop(self);
    }
}

impl Drop for SettleReports {
    fn drop(&mut self) {
        if self.raw.is_empty() {
            return;
        }
        let mut state = self.broker.lock();
        state.unsettled -= self.raw.len();
        state.reports.ready.extend(self.raw.drain(..));
        drop(state);
        self.broker.changed.notify_waiters();
    }
}

struct SettleLogs {
    broker: MemoryBroker,
    chunks: Vec<(u64, LogChunk)>,
}

#[async_trait]
impl Settle for SettleLogs {
    async fn ack(mut self: Box<Self>) -> bool {
        self.chunks.clear();
        true
    }
    async fn requeue(self: Box<Self>) {
        drop(self);
    }
}

impl Drop for SettleLogs {
    fn drop(&mut self) {
        if self.chunks.is_empty() {
            return;
        }
        let mut state = self.broker.lock();
        state.log_bytes += self.chunks.iter().map(|(_, chunk)| chunk.bytes.len()).sum::<usize>();
        state.logs.ready.extend(self.chunks.drain(..));
        drop(state);
        self.broker.changed.notify_waiters();
    }
}
