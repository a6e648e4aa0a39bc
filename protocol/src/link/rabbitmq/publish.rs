//! Sending messages and knowing what became of each.
//!
//! Each call has a channel for itself until its confirms are there. Many can be on their way at once, and still a
//! returned message, a refusal or a timeout belongs to exactly one call.

use std::borrow::Cow;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Confirmation};

use super::channel::{OwnedChannel, Trouble};
use super::connection::{Epoch, Line};
use crate::link::{Delivered, LinkError};

/// How long a message may wait for its confirm.
const CONFIRM_WITHIN: Duration = Duration::from_secs(30);

/// A message on its way to an exchange.
pub(super) struct Outgoing<'a> {
    /// The exchange; empty for the default one.
    pub(super) exchange: &'static str,
    /// The routing key; a queue's name on the default exchange.
    pub(super) key: &'a str,
    /// Its bytes.
    pub(super) body: Cow<'a, [u8]>,
    /// What stands beside them.
    pub(super) properties: BasicProperties,
    /// What becomes of it when it has nowhere to go.
    pub(super) unrouted: Unrouted,
}

/// What the broker does with a message that it finds no queue for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unrouted {
    /// It says so: AMQP's `mandatory`.
    Returned,
    /// It drops it.
    Dropped,
}

/// Sends a message and waits until the broker has taken it, returned it or refused it.
pub(super) async fn publish(line: &Line, message: Outgoing<'_>) -> Result<Delivered, LinkError> {
    publish_in_order(line, vec![message]).await.1
}

/// Sends messages one behind the other, without waiting in between, and waits until the broker has taken all of them.
/// Gives how many it has, from the first on, and what became of the next: [`Delivered::Yes`] when there is none.
pub(super) async fn publish_in_order(
    line: &Line,
    messages: Vec<Outgoing<'_>>,
) -> (usize, Result<Delivered, LinkError>) {
    let epoch = match line.epoch_now() {
        Ok(epoch) => epoch,
        Err(error) => return (0, Err(error)),
    };
    let mut taken = 0;
    let sent = tokio::select! {
        sent = tokio::time::timeout(CONFIRM_WITHIN, send(&epoch, messages, &mut taken)) => sent,
        silent = line.until_silent(&epoch) => return (taken, Err(silent)),
    };
    let seconds = CONFIRM_WITHIN.as_secs();
    let sent = match sent {
        Ok(sent) => delivered(sent),
        Err(_) => Err(LinkError::Away(format!("RabbitMQ did not confirm a message within {seconds} s"))),
    };
    (taken, sent)
}

/// What it means that a message was not confirmed, or was.
fn delivered(sent: Result<Confirmation, Trouble>) -> Result<Delivered, LinkError> {
    match sent {
        Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => Ok(Delivered::Yes),
        Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_))) => Ok(Delivered::Unroutable),
        // The default exchange is always there, so it is one of the farm's own that is missing.
        Err(Trouble::Missing(_)) => Ok(Delivered::NoFarm),
        Ok(Confirmation::Nack(None)) => Ok(Delivered::Full),
        Err(Trouble::Refused(reason)) => {
            tracing::debug!(reason, "RabbitMQ refused a message");
            Ok(Delivered::Refused)
        }
        Err(Trouble::Differs(reason)) => Err(LinkError::Unsendable(reason)),
        Err(Trouble::Lost(reason)) => Err(LinkError::Away(reason)),
    }
}

/// Sends them over one lane, and counts those that were taken. Gives what became of the first that was not, or of the
/// last.
async fn send(epoch: &Epoch, messages: Vec<Outgoing<'_>>, taken: &mut usize) -> Result<Confirmation, Trouble> {
    // Never closed.
    let _permit = epoch.permits.acquire().await.map_err(|error| Trouble::Lost(error.to_string()))?;
    let lane = match epoch.lanes.take() {
        Some(lane) => lane,
        None => {
            let lane = OwnedChannel::open(&epoch.publish, &epoch.sweeper).await?;
            lane.raw().confirm_select(ConfirmSelectOptions::default()).await?;
            lane
        }
    };
    let mut confirms = Vec::with_capacity(messages.len());
    for Outgoing { exchange, key, body, properties, unrouted } in messages {
        let key = ShortString::try_new(key).map_err(|error| Trouble::Differs(error.to_string()))?;
        let mandatory = unrouted == Unrouted::Returned;
        let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
        confirms.push(lane.raw().basic_publish(exchange.into(), key, options, &body, properties).await?);
    }
    let mut confirms = confirms.into_iter();
    let mut last = Confirmation::NotRequested;
    for confirm in confirms.by_ref() {
        last = confirm.await?;
        if !matches!(last, Confirmation::Ack(None) | Confirmation::NotRequested) {
            break;
        }
        *taken += 1;
    }
    // Only a lane with nothing on its way is used again; else it is closed by being dropped.
    if confirms.len() == 0 {
        epoch.lanes.put(lane);
    }
    Ok(last)
}
