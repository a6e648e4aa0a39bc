//! Says to all agents that a coordinator is here, and keeps what the farm needs on the line in existence.

use std::sync::Arc;
use std::time::Duration;

use protocol::LabelSet;
use protocol::control::{Beacon, Control};
use protocol::link::{Address, LinkError};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
enum BeaconError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Says it until `shutdown`: regularly, and at once when there are new label sets or the line has come back.
pub(crate) async fn run(desk: Arc<Desk>, shutdown: CancellationToken) {
    let desk = &*desk;
    let mut health = desk.link.health();
    loop {
        health.mark_unchanged();
        match say(desk).await {
            Ok(()) => {}
            Err(error) => tracing::debug!("no beacon went out: {error}"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = desk.beacon_now.notified() => {}
            Ok(()) = health.changed() => {}
            () = sleep(desk.config.beacon) => {}
        }
    }
}

/// Declares the queues of label sets, and gives those that are there. One that cannot be had stops no other.
async fn declared(desk: &Desk, mut sets: Vec<LabelSet>) -> Result<Vec<LabelSet>, LinkError> {
    if desk.link.ensure(&sets).await.is_ok() {
        return Ok(sets);
    }
    desk.link.ensure(&[]).await?;
    let mut there = Vec::new();
    for labels in sets.drain(..) {
        match desk.link.ensure(std::slice::from_ref(&labels)).await {
            Ok(()) => there.push(labels),
            Err(error) => tracing::warn!("the queue for jobs with the labels {labels} cannot be had: {error}"),
        }
    }
    Ok(there)
}

async fn say(desk: &Desk) -> Result<(), BeaconError> {
    let sets = declared(desk, desk.store.label_queues().await?.into_iter().collect()).await?;
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let beacon = Beacon {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        label_queues: sets.into_iter().filter(|labels| !labels.is_empty()).collect(),
        every_ms: milliseconds(desk.config.beacon),
        heartbeat_ms: Some(milliseconds(desk.config.heartbeat)),
    };
    desk.link.control(&Address::All, &Control::Beacon(beacon)).await?;
    Ok(())
}
