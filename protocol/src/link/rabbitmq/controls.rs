//! What the coordinator says to one agent: a queue of its own for each connection, and the task that empties it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use super::channel::{OwnedChannel, Trouble};
use super::connection::{Epoch, Line, Prepare};
use super::screen::consumer_tag;
use super::topology::{ALL_AGENTS, CONTROL, control_key};
use crate::control::{BEACON_MISSED, Control};
use crate::id::AgentId;
use crate::wire;

/// How long to wait before looking again for an exchange that no coordinator has made yet.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How long a subscription may be silent before it is made anew. A coordinator says that it is there every few seconds, so
/// this is one that is away, or one that a queue does not hear: when somebody deletes the exchange the bindings go with
/// it, and neither the queue nor its consumer are told.
pub(super) const SILENCE: Duration = BEACON_MISSED.saturating_mul(2);

/// How many control messages are on their way to an agent that does not listen; the rest waits at the broker.
const AT_ONCE: u16 = 256;

/// The agent's subscription.
pub(super) struct Controls {
    agent: AgentId,
    silence: Duration,
    /// Made before the line is up, so that no answer to a first report is missed; taken by the task.
    made: Mutex<Option<(u64, OwnedChannel)>>,
    sought: Notify,
    sender: mpsc::Sender<Control>,
}

impl Controls {
    /// A subscription, and where its messages come out. After this much silence it is made anew.
    pub(super) fn new(agent: AgentId, silence: Duration) -> (Arc<Self>, mpsc::Receiver<Control>) {
        let (sender, receiver) = mpsc::channel(AT_ONCE.into());
        (Arc::new(Self { agent, silence, made: Mutex::default(), sought: Notify::new(), sender }), receiver)
    }

    /// Looks for the coordinator's exchange now: a report was taken, so there must be one.
    pub(super) fn seek(&self) {
        self.sought.notify_one();
    }

    /// Hands on what the coordinator says, until the line is closed.
    pub(super) async fn run(self: Arc<Self>, line: Line) {
        while let Ok(epoch) = line.epoch().await {
            // A connection that is replaced meanwhile may answer nothing any more.
            let made = match line.during(&epoch, self.subscription(&epoch)).await {
                Ok(Some(made)) => made,
                Ok(None) => continue,
                Err(_) => return,
            };
            match made {
                Ok(channel) => {
                    line.during(&epoch, self.hand_on(channel)).await.ok();
                    // Its queue is gone, or the connection is, or nothing is heard on it.
                    line.pause(Duration::from_millis(200)).await;
                }
                Err(trouble) => {
                    tracing::debug!(%trouble, "no coordinator can be heard yet");
                    tokio::select! {
                        () = line.pause(LOOK_AGAIN) => {}
                        () = self.sought.notified() => {}
                    }
                }
            }
        }
    }

    async fn subscription(&self, epoch: &Epoch) -> Result<OwnedChannel, Trouble> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).take();
        match made {
            Some((number, channel)) if number == epoch.number && channel.is_open() => Ok(channel),
            _ => self.subscribe(epoch).await,
        }
    }

    async fn subscribe(&self, epoch: &Epoch) -> Result<OwnedChannel, Trouble> {
        let mut owned = OwnedChannel::open(&epoch.consume, &epoch.sweeper).await?;
        let channel = owned.raw();
        // A new name each time: the broker may still hold the last one for a connection that it believes alive.
        let queue = format!("buildr.agent.{}.{}", self.agent, Uuid::new_v4().simple());
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await?;
        for key in [control_key(&self.agent), ALL_AGENTS.to_owned()] {
            let (options, none) = (QueueBindOptions::default(), FieldTable::default());
            channel.queue_bind(queue.as_str().into(), CONTROL.into(), key.into(), options, none).await?;
        }
        channel.basic_qos(AT_ONCE, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let tag = consumer_tag(wire::MAX_BYTES);
        let consumer = channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default()).await?;
        owned.keep(consumer);
        Ok(owned)
    }

    async fn hand_on(&self, mut channel: OwnedChannel) {
        while let [consumer] = &mut channel.consumers()[..] {
            let Ok(heard) = tokio::time::timeout(self.silence, consumer.next()).await else {
                tracing::debug!(after = ?self.silence, "no coordinator is heard; subscribing anew");
                return;
            };
            let Some(Ok(delivery)) = heard else { return };
            match wire::decode(&delivery.data) {
                Ok(Control::Unknown) => {}
                Ok(control) => {
                    if self.sender.send(control).await.is_err() {
                        return;
                    }
                }
                Err(error) => tracing::warn!(%error, "a control message cannot be read"),
            }
            if !matches!(delivery.ack(BasicAckOptions::default()).await, Ok(true)) {
                return;
            }
        }
    }
}

#[async_trait]
impl Prepare for Controls {
    async fn prepare(&self, epoch: &Arc<Epoch>) -> Result<(), Trouble> {
        match self.subscribe(epoch).await {
            Ok(channel) => {
                *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some((epoch.number, channel));
                Ok(())
            }
            Err(Trouble::Lost(reason)) => Err(Trouble::Lost(reason)),
            Err(Trouble::Missing(reason)) => {
                tracing::debug!(reason, "no coordinator was ever at this broker");
                Ok(())
            }
            Err(trouble) => {
                tracing::warn!(%trouble, agent = %self.agent, "this agent may not hear its coordinator; \
                    give its user the rights that the manual lists for agents");
                Ok(())
            }
        }
    }
}
