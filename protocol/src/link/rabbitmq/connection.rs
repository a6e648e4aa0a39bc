//! The line itself: two connections that are opened anew, with patience, whenever one of them breaks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _};
use lapin::types::ShortString;
use lapin::{Connection, Event};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::address::{Address, CONNECT_WITHIN};
use super::channel::{CLOSE_WITHIN, Pool, Sweeper, Sweepings, Trouble, sweeper};
use crate::link::{Health, LinkError, RECONNECT};
use crate::task;

/// How many messages may be on their way at once: beyond that a broker gains nothing, and each takes a channel.
const PUBLISHES_AT_ONCE: usize = 32;

/// A line that lived this long has proved itself: after it the waits begin anew.
const PROVEN_AFTER: Duration = Duration::from_secs(10);

/// How long the other connection of a broken pair may take to close: on a dead network it never answers, and the new
/// pair must not wait for that.
const REPLACE_WITHIN: Duration = Duration::from_secs(1);

/// How often a connection is looked at, besides its own events.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What has to be done on new connections before the line is up.
#[async_trait]
pub(super) trait Prepare: Send + Sync {
    /// Does it. An error that is not [`Trouble::Lost`] is shown as the reason why the line is not up.
    async fn prepare(&self, epoch: &Arc<Epoch>) -> Result<(), Trouble>;
}

/// What is known about a queue or exchange, for the life of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is there as we want it.
    Declared,
    /// It is there as somebody else made it, or we may not make it: it is looked for and taken as it is.
    AsItIs,
    /// It is there, and this user might not read from it then.
    Unreadable(Instant),
}

/// One life of the two connections.
pub(super) struct Epoch {
    /// 1, 2, 3 … within the line.
    pub(super) number: u64,
    /// Consumes, acknowledges and declares; a broker under pressure goes on reading from it.
    pub(super) consume: Connection,
    /// Publishes, and does nothing else.
    pub(super) publish: Connection,
    /// Where dropped channels go.
    pub(super) sweeper: Sweeper,
    /// Channels of `publish` in confirm mode.
    pub(super) lanes: Pool,
    /// Channels of `consume` for one unsettled message per consumer.
    pub(super) seats: Pool,
    /// One for each message on its way.
    pub(super) permits: Semaphore,
    standings: Mutex<HashMap<String, Standing>>,
}

impl Epoch {
    /// Whether both connections live.
    pub(super) fn is_alive(&self) -> bool {
        self.consume.status().connected() && self.publish.status().connected()
    }

    /// What is known about a queue or exchange.
    pub(super) fn standing(&self, name: &str) -> Option<Standing> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    /// Remembers it; `None` forgets.
    pub(super) fn set_standing(&self, name: &str, standing: Option<Standing>) {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        match standing {
            Some(standing) => standings.insert(name.to_owned(), standing),
            None => standings.remove(name),
        };
    }

    /// Forgets that a queue was declared, for it may be gone since.
    pub(super) fn forget_declared(&self, name: &str) {
        if self.standing(name) == Some(Standing::Declared) {
            self.set_standing(name, None);
        }
    }

    async fn close(&self, within: Duration) {
        let goodbye = async |connection: &Connection| {
            if connection.status().connected() {
                // One that does not answer is closed when it is dropped.
                tokio::time::timeout(within, connection.close(200, "done".into())).await.ok();
            }
        };
        tokio::join!(goodbye(&self.publish), goodbye(&self.consume));
    }
}

/// The line, shared by all that use it.
#[derive(Clone)]
pub(super) struct Line(Arc<State>);

struct State {
    address: Address,
    name: String,
    epoch: watch::Sender<Option<Arc<Epoch>>>,
    health: watch::Sender<Health>,
    closed: CancellationToken,
}

impl Line {
    /// A line that is not yet kept up; `name` is what the broker's page shows.
    pub(super) fn new(address: Address, name: String) -> Self {
        let reason = format!("RabbitMQ at {} has not answered yet", address.place());
        let health = watch::Sender::new(Health::Away { reason });
        Self(Arc::new(State {
            address,
            name,
            epoch: watch::Sender::new(None),
            health,
            closed: CancellationToken::new(),
        }))
    }

    /// Whether it is up, now and from now on.
    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.0.health.subscribe()
    }

    /// Cancelled when the line is closed for good.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.0.closed
    }

    /// The name that may stand in a message's `user_id`.
    pub(super) fn user(&self) -> Option<ShortString> {
        self.0.address.user()
    }

    /// Waits for living connections.
    ///
    /// # Errors
    /// [`LinkError::Closed`], and nothing else.
    pub(super) async fn epoch(&self) -> Result<Arc<Epoch>, LinkError> {
        let mut epochs = self.0.epoch.subscribe();
        let living = epochs.wait_for(|epoch| epoch.as_ref().is_some_and(|epoch| epoch.is_alive()));
        let found = self.0.closed.run_until_cancelled(living).await;
        // The sender lives as long as this line.
        found.and_then(Result::ok).and_then(|epoch| epoch.clone()).ok_or(LinkError::Closed)
    }

    /// The connections to send on now.
    ///
    /// # Errors
    /// [`LinkError::Away`] with the reason when there are none, or they take nothing.
    pub(super) fn epoch_now(&self) -> Result<Arc<Epoch>, LinkError> {
        if self.0.closed.is_cancelled() {
            return Err(LinkError::Closed);
        }
        if let Health::Blocked { reason } | Health::Away { reason } = &*self.0.health.borrow() {
            return Err(LinkError::Away(reason.clone()));
        }
        let epoch = self.0.epoch.borrow().clone().filter(|epoch| epoch.is_alive());
        epoch.ok_or_else(|| LinkError::Away(format!("the connection to RabbitMQ at {} broke", self.0.address.place())))
    }

    /// Waits until nothing can be sent on these connections any more, and says why.
    pub(super) async fn until_silent(&self, epoch: &Epoch) -> LinkError {
        let mut health = self.health();
        let changed = health.wait_for(|health| *health != Health::Up(epoch.number));
        match self.0.closed.run_until_cancelled(changed).await {
            None | Some(Err(_)) => LinkError::Closed,
            Some(Ok(health)) => match &*health {
                Health::Blocked { reason } | Health::Away { reason } => LinkError::Away(reason.clone()),
                Health::Up(_) => LinkError::Away("the connection broke and is back".to_owned()),
            },
        }
    }

    /// Does something with these connections for as long as they are the line's. `None`: they are not any more. What
    /// waits for messages must not wait longer: when the network forgot a connection, its consumers never end by
    /// themselves.
    ///
    /// # Errors
    /// [`LinkError::Closed`], and nothing else.
    pub(super) async fn during<T>(&self, epoch: &Epoch, work: impl Future<Output = T>) -> Result<Option<T>, LinkError> {
        let mut epochs = self.0.epoch.subscribe();
        let replaced = epochs.wait_for(|now| now.as_ref().is_none_or(|now| now.number != epoch.number));
        let done = async {
            tokio::select! {
                done = work => Some(done),
                _ = replaced => None,
            }
        };
        self.0.closed.run_until_cancelled(done).await.ok_or(LinkError::Closed)
    }

    /// Waits, but not beyond the closing of the line.
    pub(super) async fn pause(&self, time: Duration) {
        self.0.closed.run_until_cancelled(tokio::time::sleep(time)).await;
    }

    /// Keeps the line up until it is closed.
    async fn keep(self, sweeper: Sweeper, prepare: Arc<dyn Prepare>) {
        let State { address, epoch: current, health, closed, .. } = &*self.0;
        let mut number = 0;
        let mut wait = *RECONNECT.start();
        while let Some(opened) = closed.run_until_cancelled(self.open(number + 1, &sweeper, &*prepare)).await {
            let reason = match opened {
                Ok(epoch) => {
                    number += 1;
                    let since = Instant::now();
                    tracing::info!(broker = address.place(), connection = number, "connected to RabbitMQ");
                    current.send_replace(Some(epoch.clone()));
                    health.send_replace(Health::Up(number));
                    let reason = self.watch(&epoch).await;
                    current.send_replace(None);
                    health.send_replace(Health::Away { reason: reason.clone() });
                    epoch.close(if closed.is_cancelled() { CLOSE_WITHIN } else { REPLACE_WITHIN }).await;
                    if since.elapsed() >= PROVEN_AFTER {
                        wait = *RECONNECT.start();
                    }
                    reason
                }
                Err(reason) => {
                    health.send_replace(Health::Away { reason: reason.clone() });
                    reason
                }
            };
            if !closed.is_cancelled() {
                tracing::warn!(%reason, retry_in = ?wait, "no connection to RabbitMQ");
                self.pause(wait.mul_f64(rand::random_range(0.5..=1.0))).await;
                wait = (wait * 2).min(*RECONNECT.end());
            }
        }
        health.send_replace(Health::Away { reason: "the line was closed".to_owned() });
    }

    async fn open(&self, number: u64, sweeper: &Sweeper, prepare: &dyn Prepare) -> Result<Arc<Epoch>, String> {
        let State { address, name, .. } = &*self.0;
        let (consumes, publishes) = (format!("{name} (consumes)"), format!("{name} (publishes)"));
        let (consume, publish) = tokio::try_join!(address.connect(&consumes), address.connect(&publishes))?;
        let epoch = Arc::new(Epoch {
            number,
            consume,
            publish,
            sweeper: sweeper.clone(),
            lanes: Pool::default(),
            seats: Pool::default(),
            permits: Semaphore::new(PUBLISHES_AT_ONCE),
            standings: Mutex::default(),
        });
        let trouble = match tokio::time::timeout(CONNECT_WITHIN, prepare.prepare(&epoch)).await {
            Ok(Ok(())) => return Ok(epoch),
            Ok(Err(trouble)) => trouble.to_string(),
            Err(_) => format!("no answer within {} s", CONNECT_WITHIN.as_secs()),
        };
        epoch.close(REPLACE_WITHIN).await;
        Err(format!("RabbitMQ at {} cannot be used as it is: {trouble}", address.place()))
    }

    /// Follows the connections until one ends, and says why.
    async fn watch(&self, epoch: &Epoch) -> String {
        let State { address, health, closed, .. } = &*self.0;
        let events = stream::select(epoch.consume.events_listener(), epoch.publish.events_listener());
        tokio::pin!(events);
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut said = "it is short of memory or disk".to_owned();
        let mut broke = None;
        while epoch.is_alive() {
            let blocked = epoch.publish.status().blocked();
            let now = match blocked {
                true => Health::Blocked { reason: format!("RabbitMQ at {} takes nothing: {said}", address.place()) },
                false => Health::Up(epoch.number),
            };
            if health.send_if_modified(|health| std::mem::replace(health, now.clone()) != now) {
                if blocked {
                    tracing::warn!(reason = said, "RabbitMQ takes nothing at present; what is to be said waits");
                } else {
                    tracing::info!("RabbitMQ takes messages again");
                }
            }
            tokio::select! {
                () = closed.cancelled() => return "the line was closed".to_owned(),
                _ = look.tick() => {}
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => said = reason,
                    // Errors of single channels come here too; the one that ends the loop is the connection's.
                    Some(Event::Error(error)) => broke = Some(error),
                    _ => {}
                },
            }
        }
        match broke {
            Some(error) => address.why(&error),
            None => format!("the connection to RabbitMQ at {} broke", address.place()),
        }
    }
}

/// The tasks that keep one end of a line running. Dropping it ends them at once.
pub(super) struct Tasks {
    line: Line,
    running: tokio::sync::Mutex<Vec<JoinHandle<()>>>,
}

impl Tasks {
    /// Begins to keep the line up, after `prepare` each time.
    pub(super) fn start(line: &Line, prepare: Arc<dyn Prepare>) -> Self {
        let (sweeper, sweepings): (Sweeper, Sweepings) = sweeper();
        let sweep = sweepings.sweep(line.closed().clone());
        let running = vec![
            task::spawn("rabbitmq line", line.clone().keep(sweeper, prepare)),
            task::spawn("rabbitmq sweep", sweep),
        ];
        Self { line: line.clone(), running: tokio::sync::Mutex::new(running) }
    }

    /// Runs another task with it; it has to end when the line is closed.
    pub(super) fn with(mut self, task: JoinHandle<()>) -> Self {
        self.running.get_mut().push(task);
        self
    }

    /// Closes the line for good and waits until all tasks have ended.
    pub(super) async fn close(&self) {
        self.line.closed().cancel();
        for task in self.running.lock().await.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the line to RabbitMQ failed");
            }
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.line.closed().cancel();
        for task in self.running.get_mut().drain(..) {
            task.abort();
        }
    }
}
