//! An agent's line on which messages are lost, doubled, late and out of order, and which breaks: as chance wants it,
//! until it is told to be calm.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use protocol::LabelSet;
use protocol::control::Control;
use protocol::job::{ReplyTo, StatusMessage};
use protocol::link::{AgentLink, Delivered, Health, JobDelivery, LinkError, Settle};
use protocol::report::{LogChunk, Report};
use tokio::sync::watch;

use crate::chance::Chance;

/// What happens on the lines of a farm. Clones share it.
#[derive(Clone)]
pub struct Rough {
    chance: Arc<Mutex<Chance>>,
    is_rough: Arc<AtomicBool>,
}

impl Rough {
    /// From a seed.
    #[must_use]
    pub fn new(chance: Chance) -> Self {
        Self { chance: Arc::new(Mutex::new(chance)), is_rough: Arc::new(AtomicBool::new(true)) }
    }

    /// From now on nothing is lost any more.
    pub fn calm_down(&self) {
        self.is_rough.store(false, Ordering::SeqCst);
    }

    fn percent(&self, percent: u64) -> bool {
        self.is_rough.load(Ordering::SeqCst)
            && self.chance.lock().unwrap_or_else(PoisonError::into_inner).percent(percent)
    }

    /// Up to so many milliseconds.
    fn time(&self, most: u64) -> Duration {
        Duration::from_millis(self.chance.lock().unwrap_or_else(PoisonError::into_inner).within(0..most))
    }
}

/// What an agent holds of the queue, and loses when its line breaks.
type Deliveries = Arc<Mutex<Vec<Arc<Mutex<Option<JobDelivery>>>>>>;

/// Breaks a line, and mends it.
#[derive(Clone)]
pub struct Breaker {
    health: watch::Sender<Health>,
    deliveries: Deliveries,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { health: watch::Sender::new(Health::Up(1)), deliveries: Deliveries::default() }
    }

    /// Nothing passes, and what the agent held of the queue goes back.
    pub fn cut(&self) {
        self.health.send_replace(Health::Away { reason: "the simulation says so".to_owned() });
        for delivery in self.deliveries.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            drop(delivery.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    /// All passes again, over a new connection.
    pub fn mend(&self, number: u64) {
        self.health.send_replace(Health::Up(number));
    }

    fn is_up(&self) -> Result<(), LinkError> {
        match &*self.health.borrow() {
            Health::Up(_) => Ok(()),
            _ => Err(LinkError::Away("the line is cut".to_owned())),
        }
    }

    async fn until_up(&self) -> Result<(), LinkError> {
        let up = self.health.subscribe().wait_for(|health| matches!(health, Health::Up(_))).await.map(drop);
        up.map_err(|_| LinkError::Closed)
    }
}

/// Such a line.
pub(super) struct RoughLink {
    pub(super) line: Arc<dyn AgentLink>,
    pub(super) rough: Rough,
    pub(super) breaker: Breaker,
    /// A control message that is said once more, or later than what came behind it.
    pub(super) held_back: tokio::sync::Mutex<Vec<Control>>,
}

impl RoughLink {
    /// Whether the sender is told that it did not arrive, though it did.
    async fn on_the_way(&self) -> Result<(), LinkError> {
        self.breaker.is_up()?;
        if self.rough.percent(10) {
            tokio::time::sleep(self.rough.time(150)).await;
        }
        self.breaker.is_up()
    }

    fn arrived(&self, delivered: Delivered) -> Result<Delivered, LinkError> {
        if self.rough.percent(4) { Err(LinkError::Away("the answer was lost".to_owned())) } else { Ok(delivered) }
    }
}

#[async_trait]
impl AgentLink for RoughLink {
    async fn next_job(&self, queues: &[LabelSet]) -> Result<JobDelivery, LinkError> {
        loop {
            self.breaker.until_up().await?;
            let mut health = self.breaker.health.subscribe();
            let delivery = tokio::select! {
                delivery = self.line.next_job(queues) => delivery?,
                _ = health.wait_for(|health| !matches!(health, Health::Up(_))) => continue,
            };
            let (body, queue, redelivered) = (delivery.body.clone(), delivery.queue.clone(), delivery.redelivered);
            let (message_id, reply) = (delivery.message_id.clone(), delivery.reply.clone());
            let held = Arc::new(Mutex::new(Some(delivery)));
            self.breaker.deliveries.lock().unwrap_or_else(PoisonError::into_inner).push(held.clone());
            let settle = Box::new(SettleIfHeld { held });
            return Ok(JobDelivery::new(body, queue, redelivered, settle).with_properties(message_id, reply));
        }
    }

    async fn report(&self, report: &Report) -> Result<Delivered, LinkError> {
        self.on_the_way().await?;
        let delivered = self.line.report(report).await?;
        self.arrived(delivered)
    }

    async fn sign_of_life(&self, report: &Report) -> Result<Delivered, LinkError> {
        self.on_the_way().await?;
        let delivered = self.line.sign_of_life(report).await?;
        self.arrived(delivered)
    }

    async fn log(&self, chunk: &LogChunk) -> Result<Delivered, LinkError> {
        self.on_the_way().await?;
        let delivered = self.line.log(chunk).await?;
        self.arrived(delivered)
    }

    async fn next_control(&self) -> Result<Control, LinkError> {
        loop {
            if let Some(control) = self.held_back.lock().await.pop() {
                return Ok(control);
            }
            let control = self.line.next_control().await?;
            if self.breaker.is_up().is_err() || self.rough.percent(10) {
                continue;
            }
            if self.rough.percent(5) {
                // What comes next comes first; when nothing comes, this comes all the same.
                let next = tokio::time::timeout(self.rough.time(500), self.line.next_control()).await;
                self.held_back.lock().await.push(control);
                match next {
                    Ok(next) => return next,
                    Err(_) => continue,
                }
            }
            if self.rough.percent(5) {
                self.held_back.lock().await.push(control.clone());
            }
            return Ok(control);
        }
    }

    async fn reply(&self, to: &ReplyTo, status: &StatusMessage) -> Result<Delivered, LinkError> {
        self.line.reply(to, status).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.breaker.health.subscribe()
    }
}

/// Settles a delivery that a cut line has not taken back. One that is dropped goes back to its queue.
struct SettleIfHeld {
    held: Arc<Mutex<Option<JobDelivery>>>,
}

impl SettleIfHeld {
    fn take(&self) -> Option<JobDelivery> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl Settle for SettleIfHeld {
    async fn ack(self: Box<Self>) -> bool {
        match self.take() {
            Some(delivery) => delivery.ack().await,
            None => false,
        }
    }
    async fn requeue(self: Box<Self>) {
        if let Some(delivery) = self.take() {
            delivery.requeue().await;
        }
    }
}

impl Drop for SettleIfHeld {
    fn drop(&mut self) {
        drop(self.take());
    }
}
