//! Sends what lies in the outbox: status messages to publishers, and messages for people to look at.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::link::{Delivered, LinkError};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::feed::Change;
use crate::store::StoreError;

/// How often it tries to send a status message. Nobody may listen any more, and the others must not wait for that.
const TRIES: u32 = 3;

/// How long it waits between two tries.
const TRY_EVERY: Duration = Duration::from_secs(2);

/// Sends until `shutdown`.
pub(crate) async fn run(desk: Arc<Desk>, shutdown: CancellationToken) {
    let desk = &*desk;
    let mut changes = desk.feed.listen();
    let mut tries = HashMap::new();
    loop {
        changes.catch_up();
        let open = match send(desk, &mut tries).await {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!("the outbox waits: {error}");
                true
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changes.next_of(|change| change == Change::Outbox) => {}
            () = sleep(TRY_EVERY), if open => {}
        }
    }
}

/// Sends all that waits, and says whether something still does.
async fn send(desk: &Desk, tries: &mut HashMap<i64, u32>) -> Result<bool, StoreError> {
    let mut open = false;
    for reply in desk.store.open_replies().await? {
        let tried = tries.entry(reply.id).or_default();
        *tried += 1;
        match desk.link.reply(&reply.to, &reply.status).await {
            Ok(Delivered::Yes) => {}
            result if *tried < TRIES => {
                tracing::debug!("a reply to {:?} waits: {result:?}", reply.to.queue);
                open = true;
                continue;
            }
            result => tracing::warn!("a reply to {:?} is given up: {result:?}", reply.to.queue),
        }
        tries.remove(&reply.id);
        let mut tx = desk.store.write().await?;
        tx.reply_done(reply.id).await?;
        tx.commit().await?;
    }
    for letter in desk.store.open_letters().await? {
        match desk.link.bury(&letter.letter).await {
            Ok(()) => {}
            // It stays in the store, where people find it too.
            Err(LinkError::Unsendable(reason)) => tracing::warn!("a message cannot be buried: {reason}"),
            Err(_) => {
                open = true;
                break;
            }
        }
        let mut tx = desk.store.write().await?;
        tx.letter_buried(letter.id).await?;
        tx.commit().await?;
    }
    Ok(open)
}
