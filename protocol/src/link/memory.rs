//! Both ends in one process, for `buildr up` and for tests. Messages are encoded and decoded as on the other
//! link, so that every scenario exercises the wire. It forgets all on exit, by design: what counts is in the
//! store, and the dispatcher offers it again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};

use super::{
    Address, AgentLink, BadMessage, Batch, CoordinatorLink, DeadLetter, Delivered, Health, Incoming, JobDelivery,
    LinkError, Settle, queue_name,
};
use crate::control::Control;
use crate::id::{AgentId, LabelSet};
use crate::job::{OfferBody, ReplyTo, StatusMessage};
use crate::report::{LogChunk, Report};
use crate::wire;

/// How many bytes of log may lie here before agents are told to keep theirs.
pub const LOG_BOUND_BYTES: usize = 16 << 20;

/// How many control messages may wait for an agent. They are hints: what does not fit is healed by a heartbeat.
const CONTROL_BOUND: usize = 1024;

/// A broker in memory. Clones share it.
#[derive(Clone)]
pub struct MemoryBroker {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    health: watch::Sender<Health>,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<String, Queue<JobMessage>>,
    reports: Queue<Bytes>,
    logs: Queue<LogChunk>,
    log_bytes: usize,
    /// Reports that were handed out and are not settled.
    unsettled: usize,
    /// Whether a coordinator was ever here: until then its queues do not exist.
    coordinated: bool,
    agents: Vec<(AgentId, mpsc::Sender<Bytes>)>,
    replies: HashMap<String, Vec<(Option<String>, Bytes)>>,
    dead: Vec<DeadLetter>,
    closed: bool,
}

/// Messages in the order in which they came; one that comes back takes its old place.
struct Queue<T> {
    next: u64,
    ready: BTreeMap<u64, T>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { next: 0, ready: BTreeMap::new() }
    }
}

impl<T> Queue<T> {
    fn push(&mut self, message: T) {
        self.ready.insert(self.next, message);
        self.next += 1;
    }

    fn take(&mut self, most: usize) -> Vec<(u64, T)> {
        std::iter::from_fn(|| self.ready.pop_first()).take(most).collect()
    }
}

#[derive(Clone)]
struct JobMessage {
    body: Bytes,
    message_id: Option<String>,
    reply: Option<ReplyTo>,
    redelivered: bool,
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBroker {
    /// One with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Arc::default(), changed: Arc::default(), health: watch::Sender::new(Health::Up(1)) }
    }

    /// The coordinator's end. Until it was first taken, what agents report is [`Delivered::Unroutable`].
    #[must_use]
    pub fn coordinator(&self) -> MemoryCoordinator {
        self.lock().coordinated = true;
        MemoryCoordinator { broker: self.clone() }
    }

    /// An agent's end.
    #[must_use]
    pub fn agent(&self, agent: &AgentId) -> MemoryAgent {
        let (sender, controls) = mpsc::channel(CONTROL_BOUND);
        let mut state = self.lock();
        if !state.closed {
            state.agents.push((agent.clone(), sender));
        }
        MemoryAgent { broker: self.clone(), controls: tokio::sync::Mutex::new(controls) }
    }

    /// Publishes a message as a person does in RabbitMQ's own page.
    pub fn publish(&self, queue: &str, body: impl Into<Bytes>, message_id: Option<String>, reply: Option<ReplyTo>) {
        let message = JobMessage { body: body.into(), message_id, reply, redelivered: false };
        self.lock().jobs.entry(queue.to_owned()).or_default().push(message);
        self.changed.notify_waiters();
    }

    /// Puts bytes where reports go, as no agent would.
    pub fn publish_report(&self, body: impl Into<Bytes>) {
        self.lock().reports.push(body.into());
        self.changed.notify_waiters();
    }

    /// Declares a queue for replies, so that they are routable.
    pub fn declare_replies(&self, queue: &str) {
        self.lock().replies.entry(queue.to_owned()).or_default();
    }

    /// What was replied to a queue: correlation id and body.
    #[must_use]
    pub fn replies(&self, queue: &str) -> Vec<(Option<String>, Bytes)> {
        self.lock().replies.get(queue).cloned().unwrap_or_default()
    }

    /// What was laid aside.
    #[must_use]
    pub fn dead(&self) -> Vec<DeadLetter> {
        self.lock().dead.clone()
    }

    /// How many messages lie on a job queue.
    #[must_use]
    pub fn depth(&self, queue: &str) -> usize {
        self.lock().jobs.get(queue).map_or(0, |queue| queue.ready.len())
    }

    /// Ends every call, now waiting or made from now on, with [`LinkError::Closed`].
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        // The agents' `next_control` ends when nobody can send to them any more.
        state.agents.clear();
        drop(state);
        self.health.send_replace(Health::Away { reason: "the line was closed".to_owned() });
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the queues as whole as they were: each change is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, LinkError> {
        let state = self.lock();
        if state.closed { Err(LinkError::Closed) } else { Ok(state) }
    }

    /// Waits until `take` finds something.
    async fn wait_for<T>(&self, mut take: impl FnMut(&mut State) -> Option<T>) -> Result<T, LinkError> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change between look and wait is missed.
            changed.as_mut().enable();
            if let Some(found) = take(&mut *self.open()?) {
                return Ok(found);
            }
            changed.await;
        }
    }

    fn reply(&self, to: &ReplyTo, status: &StatusMessage) -> Result<Delivered, LinkError> {
        let body = serde_json::to_vec(status).map_err(|error| LinkError::Unsendable(error.to_string()))?;
        let mut state = self.open()?;
        if to.is_forbidden() {
            return Ok(Delivered::Refused);
        }
        Ok(match state.replies.get_mut(&to.queue) {
            Some(queue) => {
                queue.push((to.correlation_id.clone(), body.into()));
                Delivered::Yes
            }
            None => Delivered::Unroutable,
        })
    }
}

fn encode<T: serde::Serialize>(message: &T) -> Result<Bytes, LinkError> {
    wire::encode(message).map(Bytes::from).map_err(|error| LinkError::Unsendable(error.to_string()))
}

/// An agent's end of a [`MemoryBroker`].
pub struct MemoryAgent {
    broker: MemoryBroker,
    controls: tokio::sync::Mutex<mpsc::Receiver<Bytes>>,
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

/// The coordinator's end of a [`MemoryBroker`].
pub struct MemoryCoordinator {
    broker: MemoryBroker,
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

    async fn next_logs(&self, most: usize) -> Result<Batch<LogChunk>, LinkError> {
        let chunks: Vec<(u64, LogChunk)> = self
            .broker
            .wait_for(|state| {
                let taken = state.logs.take(most.max(1));
                state.log_bytes -= taken.iter().map(|(_, chunk)| chunk.bytes.len()).sum::<usize>();
                (!taken.is_empty()).then_some(taken)
            })
            .await?;
        let items = chunks.iter().map(|(_, chunk)| chunk.clone()).collect();
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
