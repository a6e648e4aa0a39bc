//! A queue read by the coordinator, in batches, in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::StreamExt as _;
use futures_util::task::noop_waker;
use lapin::Queue;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::channel::{OwnedChannel, Trouble, close};
use super::connection::{Epoch, Line};
use super::screen::consumer_tag;
use super::topology;
use crate::link::{LinkError, Settle};

/// How many messages are sent ahead of their being settled.
/// Together with how long each may be, this bounds what a storm of them takes of memory; RabbitMQ knows no bound in
/// bytes.
const PREFETCH: u16 = 128;

/// How often it is looked, where nothing comes, whether the broker still knows of this reader: when a queue is removed at
/// the moment at which it begins to be read, it does not always say so.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long to wait after something unexpected, so that it cannot become a busy loop.
const AFTER_TROUBLE: Duration = Duration::from_millis(500);

/// A queue that this end reads as its only consumer.
pub(super) struct Feed {
    line: Line,
    queue: &'static str,
    /// How long a message may be, in bytes: of a longer one only the beginning comes.
    longest: usize,
    current: tokio::sync::Mutex<Option<Arc<Subscription>>>,
}

impl Feed {
    /// Reads this queue; nothing happens before somebody asks for it.
    pub(super) fn new(line: Line, queue: &'static str, longest: usize) -> Self {
        Self { line, queue, longest, current: tokio::sync::Mutex::default() }
    }

    /// Waits for at least one message, and gives at most `most`, with what settles them together.
    pub(super) async fn next(&self, most: usize) -> Result<(Vec<Delivery>, Box<dyn Settle>), LinkError> {
        loop {
            let epoch = self.line.epoch().await?;
            let arrived = async { Ok(self.subscription(&epoch).await?.arrive(self.queue, most.max(1)).await) };
            match self.line.during(&epoch, arrived).await? {
                Some(Ok(Some(batch))) => return Ok(batch),
                None | Some(Ok(None)) => {}
                Some(Err::<_, Trouble>(trouble)) => {
                    tracing::debug!(queue = self.queue, %trouble, "reading was interrupted");
                    self.line.pause(AFTER_TROUBLE).await;
                }
            }
        }
    }

    /// How many messages are not settled, here or at the broker. It is 0 only when at some moment during this call
    /// the queue was empty, all that ever lay on it had come here, and by its end all of that was settled.
    pub(super) async fn backlog(&self) -> Result<usize, LinkError> {
        let epoch = self.line.epoch_now()?;
        let counted = async { self.subscription(&epoch).await?.count(self.queue).await };
        tokio::select! {
            counted = counted => counted.map_err(|trouble| LinkError::Away(trouble.to_string())),
            silent = self.line.until_silent(&epoch) => Err(silent),
        }
    }

    async fn subscription(&self, epoch: &Epoch) -> Result<Arc<Subscription>, Trouble> {
        let mut current = self.current.lock().await;
        if let Some(subscription) = &*current {
            if subscription.epoch == epoch.number && subscription.is_usable() {
                return Ok(subscription.clone());
            }
            // First the broker has to have everything back: what is read next must not overtake it.
            let channel = subscription.lock().channel.raw().clone();
            close(&channel).await;
        }
        let subscription = match Subscription::make(epoch, self.queue, self.longest).await {
            Err(Trouble::Missing(_)) => {
                topology::declare_all(epoch, &[]).await?;
                Subscription::make(epoch, self.queue, self.longest).await?
            }
            made => made?,
        };
        Ok(current.insert(Arc::new(subscription)).clone())
    }
}

/// One consumer with its channel.
struct Subscription {
    epoch: u64,
    arrived: Mutex<Arrived>,
    /// Something that is not seen by waiting for messages: others were taken in meanwhile, or a batch was given up.
    stirred: Notify,
    /// A batch was given up. Everything goes back and comes anew, in order.
    given_up: AtomicBool,
    /// Settling is one at a time: an acknowledgement of many must not cross one of a part of them.
    settling: tokio::sync::Mutex<()>,
}

struct Arrived {
    channel: OwnedChannel,
    ready: VecDeque<Delivery>,
    /// The batches handed out and not settled: first and last delivery tag of each.
    held: BTreeMap<u64, u64>,
    ended: bool,
}

impl Arrived {
    /// Takes in all that the consumer has.
    fn fill(&mut self, cx: &mut Context<'_>) {
        let Self { channel, ready, ended, .. } = self;
        for consumer in channel.consumers() {
            while !*ended && let Poll::Ready(delivery) = consumer.poll_next_unpin(cx) {
                match delivery {
                    Some(Ok(delivery)) => ready.push_back(delivery),
                    _ => *ended = true,
                }
            }
        }
    }
}

impl Subscription {
    async fn make(epoch: &Epoch, queue: &str, longest: usize) -> Result<Self, Trouble> {
        let mut channel = OwnedChannel::open(&epoch.consume, &epoch.sweeper).await?;
        channel.raw().basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let (options, tag) = (BasicConsumeOptions::default(), consumer_tag(longest));
        let consumer = channel.raw().basic_consume(queue.into(), tag.into(), options, FieldTable::default()).await?;
        channel.keep(consumer);
        Ok(Self {
            epoch: epoch.number,
            arrived: Mutex::new(Arrived { channel, ready: VecDeque::new(), held: BTreeMap::new(), ended: false }),
            stirred: Notify::new(),
            given_up: AtomicBool::new(false),
            settling: tokio::sync::Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_usable(&self) -> bool {
        let arrived = self.lock();
        !arrived.ended && arrived.channel.is_open() && !self.given_up.load(Ordering::Acquire)
    }

    /// Waits for messages. `None`: there will be none from here.
    async fn arrive(self: &Arc<Self>, queue: &str, most: usize) -> Option<(Vec<Delivery>, Box<dyn Settle>)> {
        loop {
            let stirred = self.stirred.notified();
            tokio::pin!(stirred);
            // Registered before the look, so that nothing is missed between look and wait.
            stirred.as_mut().enable();
            tokio::select! {
                () = &mut stirred => {}
                batch = std::future::poll_fn(|cx| self.poll_batch(most, cx)) => {
                    let (deliveries, first, last) = batch?;
                    let settle = SettleBatch { subscription: Some(self.clone()), first, last };
                    return Some((deliveries, Box::new(settle)));
                }
                () = sleep(LOOK_EVERY) => {
                    if !matches!(self.look(queue).await, Ok(queue) if queue.consumer_count() > 0) {
                        self.give_up();
                    }
                }
            }
        }
    }

    /// The queue, as the broker has it.
    async fn look(&self, queue: &str) -> Result<Queue, Trouble> {
        let channel = self.lock().channel.raw().clone();
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        Ok(channel.queue_declare(queue.into(), options, FieldTable::default()).await?)
    }

    fn poll_batch(&self, most: usize, cx: &mut Context<'_>) -> Poll<Option<(Vec<Delivery>, u64, u64)>> {
        let mut arrived = self.lock();
        // What is left of a channel that ended will all come again: handing it out now would be out of order.
        if self.given_up.load(Ordering::Acquire) || !arrived.channel.is_open() {
            return Poll::Ready(None);
        }
        arrived.fill(cx);
        let count = arrived.ready.len().min(most);
        let batch: Vec<Delivery> = arrived.ready.drain(..count).collect();
        match (batch.first(), batch.last()) {
            (Some(first), Some(last)) => {
                let (first, last) = (first.delivery_tag, last.delivery_tag);
                arrived.held.insert(first, last);
                Poll::Ready(Some((batch, first, last)))
            }
            _ if arrived.ended => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }

    async fn count(&self, queue: &str) -> Result<usize, Trouble> {
        let declared = self.look(queue).await?;
        if declared.consumer_count() == 0 {
            self.give_up();
        }
        if declared.consumer_count() != 1 {
            // Another holds messages that nobody here can count: perhaps our own last connection, which the broker
            // still believes alive.
            return Err(Trouble::Lost(format!("{} consumers read {queue}, not 1", declared.consumer_count())));
        }
        // The first answer may have overtaken messages on their way here; a second one cannot.
        let channel = self.lock().channel.raw().clone();
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let mut arrived = self.lock();
        if arrived.ended || !arrived.channel.is_open() || self.given_up.load(Ordering::Acquire) {
            return Err(Trouble::Lost(format!("reading {queue} was interrupted")));
        }
        arrived.fill(&mut Context::from_waker(&noop_waker()));
        let held: u64 = arrived.held.iter().map(|(first, last)| last - first + 1).sum();
        let here = arrived.ready.len() + usize::try_from(held).unwrap_or(usize::MAX);
        drop(arrived);
        // Whoever waits for messages has lost its place in the line to the look just taken.
        self.stirred.notify_waiters();
        Ok(here.saturating_add(usize::try_from(declared.message_count()).unwrap_or(usize::MAX)))
    }

    fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.stirred.notify_waiters();
    }

    async fn ack(&self, first: u64, last: u64) -> bool {
        let _one = self.settling.lock().await;
        let (channel, oldest) = {
            let mut arrived = self.lock();
            arrived.held.remove(&first);
            let oldest = arrived.held.first_key_value().is_none_or(|(other, _)| *other > last);
            (arrived.channel.raw().clone(), oldest)
        };
        if self.given_up.load(Ordering::Acquire) || !channel.status().connected() {
            return false;
        }
        if oldest {
            return channel.basic_ack(last, BasicAckOptions { multiple: true }).await.is_ok();
        }
        for tag in first..=last {
            if channel.basic_ack(tag, BasicAckOptions { multiple: false }).await.is_err() {
                return false;
            }
        }
        true
    }
}

struct SettleBatch {
    /// None once it is settled.
    subscription: Option<Arc<Subscription>>,
    first: u64,
    last: u64,
}

#[async_trait]
impl Settle for SettleBatch {
    async fn ack(mut self: Box<Self>) -> bool {
        let Some(subscription) = self.subscription.take() else { return false };
        subscription.ack(self.first, self.last).await
    }

    async fn requeue(self: Box<Self>) {
        drop(self);
    }
}

impl Drop for SettleBatch {
    fn drop(&mut self) {
        if let Some(subscription) = self.subscription.take() {
            subscription.give_up();
        }
    }
}
