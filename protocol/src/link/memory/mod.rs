//! Both ends in one process, for `buildr up` and for tests. Messages are encoded and decoded as on the other
//! link, so that every scenario exercises the wire. It forgets all on exit, by design: what counts is in the
//! store, and the dispatcher offers it again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};

use super::{DeadLetter, Delivered, Health, LinkError};
use crate::id::AgentId;
use crate::job::{ReplyTo, StatusMessage};
use crate::report::LogChunk;
use crate::wire;

mod agent;
mod coordinator;

pub use agent::MemoryAgent;
pub use coordinator::MemoryCoordinator;

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
        MemoryCoordinator::new(self.clone())
    }

    /// An agent's end.
    #[must_use]
    pub fn agent(&self, agent: &AgentId) -> MemoryAgent {
        let (sender, controls) = mpsc::channel(CONTROL_BOUND);
        let mut state = self.lock();
        if !state.closed {
            state.agents.push((agent.clone(), sender));
        }
        MemoryAgent::new(self.clone(), controls)
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
