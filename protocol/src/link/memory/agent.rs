//! An agent's end of the line in memory.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Mutex, mpsc, watch};

use super::{JobMessage, LOG_BOUND_BYTES, MemoryBroker, encode};
use crate::control::Control;
use crate::id::LabelSet;
use crate::job::{ReplyTo, StatusMessage};
use crate::link::{AgentLink, Delivered, Health, JobDelivery, LinkError, Settle, queue_name};
use crate::report::{LogChunk, Report};
use crate::wire;

/// An agent's end of a [`MemoryBroker`].
pub struct MemoryAgent {
    broker: MemoryBroker,
    controls: Mutex<mpsc::Receiver<Bytes>>,
}

impl MemoryAgent {
    pub(super) fn new(broker: MemoryBroker, controls: mpsc::Receiver<Bytes>) -> Self {
        Self { broker, controls: Mutex::new(controls) }
    }
}

#[async_trait]
impl AgentLink for MemoryAgent {
    async fn next_job(&self, queues: &[LabelSet]) -> Result<JobDelivery, LinkError> {
        let names: Vec<String> = queues.iter().map(queue_name).collect();
        let (queue, place, message) = self
            .broker
            .wait_for(|state| {
                names.iter().find_map(|name| {
                    let (place, message) = state.jobs.get_mut(name)?.ready.pop_first()?;
                    Some((name.clone(), place, message))
                })
            })
            .await?;
        let JobMessage { body, message_id, reply, redelivered } = message.clone();
        let broker = self.broker.clone();
        let settle = Box::new(SettleJob { broker, queue: queue.clone(), place, message: Some(message) });
        Ok(JobDelivery::new(body, queue, redelivered, settle).with_properties(message_id, reply))
    }

    async fn report(&self, report: &Report) -> Result<Delivered, LinkError> {
        let bytes = encode(report)?;
        {
            let mut state = self.broker.open()?;
            if !state.coordinated {
                return Ok(Delivered::Unroutable);
            }
            state.reports.push(bytes);
        }
        self.broker.changed.notify_waiters();
        Ok(Delivered::Yes)
    }

    async fn log(&self, chunk: &LogChunk) -> Result<Delivered, LinkError> {
        {
            let mut state = self.broker.open()?;
            if !state.coordinated {
                return Ok(Delivered::Unroutable);
            }
            // As with RabbitMQ's bound, only what waits is counted, not what was handed out.
            if state.log_bytes + chunk.bytes.len() > LOG_BOUND_BYTES {
                return Ok(Delivered::Full);
            }
            state.log_bytes += chunk.bytes.len();
            state.logs.push(chunk.clone());
        }
        self.broker.changed.notify_waiters();
        Ok(Delivered::Yes)
    }

    async fn next_control(&self) -> Result<Control, LinkError> {
        loop {
            let bytes = self.controls.lock().await.recv().await.ok_or(LinkError::Closed)?;
            match wire::decode(&bytes) {
                Ok(Control::Unknown) | Err(_) => {}
                Ok(control) => return Ok(control),
            }
        }
    }

    async fn reply(&self, to: &ReplyTo, status: &StatusMessage) -> Result<Delivered, LinkError> {
        self.broker.reply(to, status)
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.broker.health.subscribe()
    }
}

struct SettleJob {
    broker: MemoryBroker,
    queue: String,
    place: u64,
    message: Option<JobMessage>,
}

#[async_trait]
impl Settle for SettleJob {
    async fn ack(mut self: Box<Self>) -> bool {
        self.message.take().is_some()
    }
    async fn requeue(self: Box<Self>) {
        drop(self);
    }
}

impl Drop for SettleJob {
    fn drop(&mut self) {
        let Some(mut message) = self.message.take() else { return };
        message.redelivered = true;
        let mut state = self.broker.lock();
        state.jobs.entry(std::mem::take(&mut self.queue)).or_default().ready.insert(self.place, message);
        drop(state);
        self.broker.changed.notify_waiters();
    }
}
