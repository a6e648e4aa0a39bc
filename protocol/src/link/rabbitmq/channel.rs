//! Channels that are closed in good order, wherever they are dropped, and what AMQP's errors mean to us.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use lapin::{Channel, Connection, Consumer, ErrorKind};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long closing a channel or a connection in good order may take, before it is left to the broker.
pub(super) const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// How many channels wait idle for their next use.
const IDLE_CHANNELS: usize = 16;

/// Why something on a channel did not work, sorted by what can be done about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The exchange or queue does not exist (404).
    #[error("{0}")]
    Missing(String),
    /// This user may not do it (403).
    #[error("{0}")]
    Refused(String),
    /// The broker has it otherwise than it was asked for (406), or takes it from nobody.
    #[error("{0}")]
    Differs(String),
    /// The connection or the channel is gone.
    #[error("{0}")]
    Lost(String),
}

impl From<lapin::Error> for Trouble {
    fn from(error: lapin::Error) -> Self {
        let ErrorKind::ProtocolError(answer) = error.kind() else { return Self::Lost(error.to_string()) };
        let text = answer.get_message().to_string();
        match answer.get_id() {
            404 => Self::Missing(text),
            403 => Self::Refused(text),
            406 => Self::Differs(text),
            _ => Self::Lost(text),
        }
    }
}

/// Where dropped channels go to be closed: a drop cannot wait for the broker's answer, and lapin's own closing on
/// drop takes the whole connection down when it meets an error of the broker halfway.
#[derive(Clone)]
pub(super) struct Sweeper(mpsc::UnboundedSender<Swept>);

/// The other end of a [`Sweeper`].
pub(super) struct Sweepings(mpsc::UnboundedReceiver<Swept>);

struct Swept {
    channel: Channel,
    /// They have to outlive the channel, else lapin cancels each of them by itself.
    consumers: Vec<Consumer>,
}

/// A sweeper and the work that it makes.
pub(super) fn sweeper() -> (Sweeper, Sweepings) {
    // Bounded by the number of channels that a connection may have.
    let (sender, receiver) = mpsc::unbounded_channel();
    (Sweeper(sender), Sweepings(receiver))
}

impl Sweepings {
    /// Closes what was dropped, until the line is closed: then the connections put everything back.
    pub(super) async fn sweep(mut self, closed: CancellationToken) {
        // All at once: those of a connection that has got stuck must not hold up the others.
        let sweeping = stream::poll_fn(|cx| self.0.poll_recv(cx)).for_each_concurrent(None, async |swept| {
            close(&swept.channel).await;
            drop(swept.consumers);
        });
        closed.run_until_cancelled(sweeping).await;
    }
}

/// A channel with its consumers. Dropping it closes it, and so puts back all that it holds unsettled.
pub(super) struct OwnedChannel {
    channel: Channel,
    consumers: Vec<Consumer>,
    sweeper: Sweeper,
}

impl OwnedChannel {
    /// Opens one.
    pub(super) async fn open(connection: &Connection, sweeper: &Sweeper) -> Result<Self, Trouble> {
        let channel = connection.create_channel().await?;
        Ok(Self { channel, consumers: Vec::new(), sweeper: sweeper.clone() })
    }

    /// lapin's view of it.
    pub(super) fn raw(&self) -> &Channel {
        &self.channel
    }

    /// Whether it can still be used.
    pub(super) fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// Keeps a consumer of this channel with it.
    pub(super) fn keep(&mut self, consumer: Consumer) {
        self.consumers.push(consumer);
    }

    /// The consumers kept.
    pub(super) fn consumers(&mut self) -> &mut Vec<Consumer> {
        &mut self.consumers
    }
}

impl Drop for OwnedChannel {
    fn drop(&mut self) {
        if self.is_open() {
            let swept = Swept { channel: self.channel.clone(), consumers: std::mem::take(&mut self.consumers) };
            // Without a sweeper the connection itself is about to be closed.
            self.sweeper.0.send(swept).ok();
        }
    }
}

/// Closes a channel and waits for the broker's word that all it held is back on its queue.
pub(super) async fn close(channel: &Channel) {
    if channel.status().connected() {
        // One that cannot be closed is closed already, or goes with its connection.
        tokio::time::timeout(CLOSE_WITHIN, channel.close(200, "done".into())).await.ok();
    }
}

/// Channels that wait for their next use, all prepared in the same way.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<OwnedChannel>>);

impl Pool {
    /// One that was used before, the last one first.
    pub(super) fn take(&self) -> Option<OwnedChannel> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(OwnedChannel::is_open);
        idle.pop()
    }

    /// Keeps a channel that holds nothing and has no consumer.
    pub(super) fn put(&self, channel: OwnedChannel) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if channel.is_open() && idle.len() < IDLE_CHANNELS {
            idle.push(channel);
        }
    }
}
