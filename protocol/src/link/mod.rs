//! The line between coordinator and agents: two ends, one contract, two ways (in one process; over RabbitMQ).
//!
//! # The contract, which every link keeps (`tests/tests/link.rs` holds them to it)
//! - **Jobs** lie on a queue per label set. A delivery belongs to one agent until it is settled; one that is
//!   dropped unsettled, or whose agent's line breaks, is delivered again, marked as redelivered.
//!   [`JobDelivery::ack`] says whether the acknowledgement counted.
//! - **Reports and logs** reach the coordinator at least once and, from one agent, in order: a call that begins
//!   after another returned comes after it. Calls under way at the same time may arrive in any order. A batch
//!   that is dropped comes again before what follows it. They lie safe while no coordinator takes them.
//!   `Ok(Delivered::Yes)` means that the line has taken them over for good.
//! - **Controls** are hints: at most once, lost when the agent is away. The next heartbeat heals that.
//! - Waiting calls (`next_*`) wait through broken lines and end with [`LinkError::Closed`] alone. Sending calls
//!   fail with [`LinkError::Away`] when the line is down or breaks meanwhile: the message may or may not have
//!   arrived, and sending it again is always right. On a line that this side has closed they fail with
//!   [`LinkError::Closed`].
//! - Every `next_*` may be dropped at any time, and loses nothing by it.

mod queues;
pub mod memory;
pub mod rabbitmq;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::control::Control;
use crate::id::{AgentId, LabelSet};
use crate::job::{Malformed, OfferBody, QueueMessage, ReplyTo, StatusMessage};
use crate::report::{LogChunk, Report};

pub use queues::{BUILD_QUEUE, queue_labels, queue_name};

/// An agent's end.
#[async_trait]
pub trait AgentLink: Send + Sync {
    /// Waits for a job on any of these label sets' queues (the empty set's is `build_queue`). The agent takes a
    /// place at the queues only while this call waits, so that a busy agent holds nothing back.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when the line was closed for good.
    async fn next_job(&self, queues: &[LabelSet]) -> Result<JobDelivery, LinkError>;

    /// Says something to the coordinator. [`Delivered::Unroutable`]: there is none at present;
    /// [`Delivered::NoFarm`]: there never was one.
    ///
    /// # Errors
    /// [`LinkError::Away`] when it may not have arrived.
    async fn report(&self, report: &Report) -> Result<Delivered, LinkError>;

    /// Says that the agent is there, which is worth nothing a while later: nobody need keep it for long.
    ///
    /// # Errors
    /// As [`AgentLink::report`].
    async fn sign_of_life(&self, report: &Report) -> Result<Delivered, LinkError> {
        self.report(report).await
    }

    /// Says a piece of a log. [`Delivered::Full`]: keep it, and try again later.
    ///
    /// # Errors
    /// [`LinkError::Away`] when it may not have arrived.
    async fn log(&self, chunk: &LogChunk) -> Result<Delivered, LinkError>;

    /// Says several pieces of logs, in order and on their way at the same time. Gives how many of them, from the first
    /// on, the line has taken over, and what became of the next: [`Delivered::Yes`] when there is none. Those behind
    /// it may have arrived or not.
    async fn log_all(&self, chunks: &[LogChunk]) -> (usize, Result<Delivered, LinkError>) {
        for (taken, chunk) in chunks.iter().enumerate() {
            match self.log(chunk).await {
                Ok(Delivered::Yes) => {}
                other => return (taken, other),
            }
        }
        (chunks.len(), Ok(Delivered::Yes))
    }

    /// Waits for what the coordinator says to this agent. What cannot be read, or is of a kind that a newer
    /// coordinator knows, is passed over.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when the line was closed for good.
    async fn next_control(&self) -> Result<Control, LinkError>;

    /// Tells the publisher of an injected job how it goes; only an agent on its own does this.
    /// [`Delivered::Refused`]: the queue is one of the farm's own, no possible queue, or not this user's to write.
    ///
    /// # Errors
    /// [`LinkError::Away`] when it may not have arrived.
    async fn reply(&self, to: &ReplyTo, status: &StatusMessage) -> Result<Delivered, LinkError>;

    /// Whether the line is up, now and from now on.
    fn health(&self) -> watch::Receiver<Health>;
}

/// The coordinator's end.
#[async_trait]
pub trait CoordinatorLink: Send + Sync {
    /// Puts a job on its queue. When this returns, the broker has it.
    ///
    /// # Errors
    /// [`LinkError::Away`] when it may not have arrived.
    async fn offer(&self, labels: &LabelSet, offer: &OfferBody) -> Result<(), LinkError>;

    /// Waits for reports, at least one and at most `most`, in order.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when the line was closed for good.
    async fn next_reports(&self, most: usize) -> Result<Batch<Incoming>, LinkError>;

    /// Waits for pieces of logs, at least one and at most `most`, in order.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when the line was closed for good.
    async fn next_logs(&self, most: usize) -> Result<Batch<IncomingLog>, LinkError>;

    /// How many reports lie unsettled, here or with the broker. Leases expire only after this has been seen to be
    /// 0: it never is while an agent's report could be overlooked.
    ///
    /// # Errors
    /// [`LinkError::Away`] when it cannot be known.
    async fn backlog(&self) -> Result<usize, LinkError>;

    /// Says something to one agent or to all. [`Delivered::Unroutable`]: it is not there.
    ///
    /// # Errors
    /// [`LinkError::Away`] when it may not have arrived.
    async fn control(&self, to: &Address, control: &Control) -> Result<Delivered, LinkError>;

    /// Says several things, in order and on their way at the same time. What became of the first that did not arrive is
    /// given; those behind it may have arrived or not. [`Delivered::Yes`] when all did.
    ///
    /// # Errors
    /// [`LinkError::Away`] when one of them may not have arrived.
    async fn control_all(&self, to: &Address, controls: &[Control]) -> Result<Delivered, LinkError> {
        for control in controls {
            match self.control(to, control).await {
                Ok(Delivered::Yes) => {}
                other => return other,
            }
        }
        Ok(Delivered::Yes)
    }

    /// Tells the publisher of an injected job how it goes. [`Delivered::Unroutable`]: nobody listens any more.
    /// [`Delivered::Refused`]: the queue is one of the farm's own, or no possible queue.
    ///
    /// # Errors
    /// [`LinkError::Away`] when it may not have arrived.
    async fn reply(&self, to: &ReplyTo, status: &StatusMessage) -> Result<Delivered, LinkError>;

    /// Lays a message aside for people to look at.
    ///
    /// # Errors
    /// [`LinkError::Away`] when it may not have arrived.
    async fn bury(&self, dead: &DeadLetter) -> Result<(), LinkError>;

    /// Makes sure that what the farm needs on the line exists, after somebody may have removed it. Called with
    /// every beacon; `queues` are the label sets that jobs are offered under.
    ///
    /// # Errors
    /// [`LinkError::Away`] when it could not be done now.
    async fn ensure(&self, queues: &[LabelSet]) -> Result<(), LinkError>;

    /// Whether the line is up, now and from now on.
    fn health(&self) -> watch::Receiver<Health>;
}

/// Whether a line is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It is; the number grows with each connection, so that a change of it is seen.
    Up(u64),
    /// The broker takes nothing at present.
    Blocked {
        /// What it says.
        reason: String,
    },
    /// It is not.
    Away {
        /// Why, and what to do, as a sentence.
        reason: String,
    },
}

/// What became of a message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// It is safe with the broker or the receiver.
    Yes,
    /// There is nowhere for it to go.
    Unroutable,
    /// What it would go through does not exist on this broker: no coordinator has ever been there.
    NoFarm,
    /// Its queue is full.
    Full,
    /// The broker does not let this user send it.
    Refused,
}

/// Why a call on a link failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The line is down, or broke during the call. Try again.
    #[error("the message broker cannot be reached at present: {0}")]
    Away(String),
    /// The line was closed for good, from this side.
    #[error("the line is closed")]
    Closed,
    /// The message itself cannot be sent, now or ever.
    #[error("the message cannot be sent: {0}")]
    Unsendable(String),
    /// The line was set up in a way that can never work; only a person can change that.
    #[error("{0}")]
    BadSettings(String),
}

/// Who a control message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// One agent.
    Agent(AgentId),
    /// All that are there.
    All,
}

/// What a message on a job queue is settled with. Implemented by each link.
#[async_trait]
pub trait Settle: Send + Sync {
    /// Takes the message off its queue. `false`: it did not count, the message will be delivered again.
    async fn ack(self: Box<Self>) -> bool;
    /// Puts it back at the head of its queue.
    async fn requeue(self: Box<Self>);
}

/// A message from a job queue, held until it is settled. Settling takes it by value, so it happens once;
/// dropping it puts it back.
#[must_use = "a delivery that is dropped goes back to its queue"]
pub struct JobDelivery {
    /// Its bytes.
    pub body: Bytes,
    /// The queue it lay on.
    pub queue: String,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// AMQP's `message_id`, when the publisher set one.
    pub message_id: Option<String>,
    /// Who wants to hear how it goes.
    pub reply: Option<ReplyTo>,
    /// How long it was, when `body` is but its beginning, for no job is as long.
    whole_size: Option<u64>,
    settle: Box<dyn Settle>,
}

impl std::fmt::Debug for JobDelivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JobDelivery({} bytes from {})", self.body.len(), self.queue)
    }
}

impl JobDelivery {
    /// A delivery that `settle` settles.
    pub fn new(body: Bytes, queue: String, redelivered: bool, settle: Box<dyn Settle>) -> Self {
        Self { body, queue, redelivered, message_id: None, reply: None, whole_size: None, settle }
    }

    /// With what the publisher said about it.
    pub fn with_properties(mut self, message_id: Option<String>, reply: Option<ReplyTo>) -> Self {
        self.message_id = message_id;
        self.reply = reply;
        self
    }

    /// Of a message that was so long that only its beginning is here.
    pub fn cut_from(mut self, whole_size: Option<u64>) -> Self {
        self.whole_size = whole_size;
        self
    }

    /// What it asks for.
    ///
    /// # Errors
    /// Says in one sentence why it is no job.
    pub fn message(&self) -> Result<QueueMessage, Malformed> {
        match self.whole_size {
            Some(size) => Err(Malformed::too_long(size)),
            None => QueueMessage::read(&self.body),
        }
    }

    /// Takes it off its queue. `false`: the acknowledgement did not count, and it will be delivered again.
    pub async fn ack(self) -> bool {
        self.settle.ack().await
    }

    /// Puts it back at the head of its queue.
    pub async fn requeue(self) {
        self.settle.requeue().await;
    }
}

/// Messages that are settled together, by value. Dropping them has them delivered again.
#[must_use = "a batch that is dropped is delivered again"]
pub struct Batch<T> {
    /// The messages, in order.
    pub items: Vec<T>,
    settle: Box<dyn Settle>,
}

impl<T> Batch<T> {
    /// A batch that `settle` settles.
    pub fn new(items: Vec<T>, settle: Box<dyn Settle>) -> Self {
        Self { items, settle }
    }

    /// Parts the messages from what settles them.
    pub fn split(self) -> (Vec<T>, Batch<()>) {
        (self.items, Batch { items: Vec::new(), settle: self.settle })
    }

    /// They are in the store: forget them. `false`: they will be delivered again, which does no harm.
    pub async fn ack(self) -> bool {
        self.settle.ack().await
    }

    /// They could not be stored: deliver them again.
    pub async fn requeue(self) {
        self.settle.requeue().await;
    }
}

/// A report as it came in.
#[derive(Debug)]
pub struct Incoming {
    /// The broker's user who sent it, when the broker vouches for that.
    pub user: Option<String>,
    /// What it says, or what is wrong with it.
    pub report: Result<Report, BadMessage>,
}

/// A piece of a log as it came in.
#[derive(Debug)]
pub struct IncomingLog {
    /// The broker's user who sent it, when the broker vouches for that.
    pub user: Option<String>,
    /// The piece, or what is wrong with it.
    pub chunk: Result<LogChunk, BadMessage>,
}

/// A message that cannot be read.
#[derive(Debug, Clone)]
pub struct BadMessage {
    /// Its bytes, or the first of them.
    pub body: Bytes,
    /// What is wrong, as a sentence.
    pub reason: String,
}

/// A message laid aside, with the reason.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Its bytes, or as much as was kept of them.
    pub body: Bytes,
    /// Where it came from.
    pub queue: String,
    /// Why it was laid aside, as a sentence.
    pub reason: String,
}

/// How long a link waits before its next try to connect: doubled each time up to the longest, with jitter, so
/// that a farm of agents does not fall upon a broker that has just come back. The longest, a heartbeat and a look of the
/// watchdog together stay well below a lease: the one who is back first must not take the other for dead.
pub const RECONNECT: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(10);
