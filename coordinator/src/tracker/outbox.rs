//! Sends what lies in the outbox: status messages to publishers, and messages for people to look at.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::link::{Delivered, LinkError};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::store::StoreError;

/// How often it tries to send a status message. Nobody may listen any more, and the others must not wait for that.
const TRIES: u32 = 3;

/// How long it waits between two tries.
const TRY_EVERY: Duration = Duration::from_secs(2);

/// How often it looks even though nobody woke it: whoever would have may have ended between its write and that.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Sends until `shutdown`.
pub(crate) async fn run(desk: Arc<Desk>, shutdown: CancellationToken) {
    let desk = &*desk;
    let mut tries = HashMap::new();
    loop {
        let open = match send(desk, &mut tries).await {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!("the outbox waits: {error}");
                true
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = desk.store.errands().outbox.notified() => {}
            () = sleep(if open { TRY_EVERY } else { LOOK_EVERY }) => {}
        }
    }
}

/// Sends all that waits, and says whether something still does.
async fn send(desk: &Desk, tries: &mut HashMap<i64, u32>) -> Result<bool, StoreError> {
    let replies = send_replies(desk, tries).await?;
    let letters = bury(desk).await?;
    Ok(replies || letters)
}

async fn send_replies(desk: &Desk, tries: &mut HashMap<i64, u32>) -> Result<bool, StoreError> {
    let replies = desk.store.open_replies().await?;
    // Behind as many as are looked at together there may be more.
    let open = !replies.is_empty();
    for reply in replies {
        let tried = tries.entry(reply.id).or_default();
        match desk.link.reply(&reply.to, &reply.status).await {
            Ok(Delivered::Yes) => {}
            // That nobody can be reached at present says nothing about this one.
            Err(LinkError::Away(_) | LinkError::BadSettings(_) | LinkError::Closed) => return Ok(true),
            result if *tried + 1 < TRIES => {
                tracing::debug!("a reply to {:?} waits: {result:?}", reply.to.queue);
                *tried += 1;
                continue;
            }
            result => tracing::warn!("a reply to {:?} is given up: {result:?}", reply.to.queue),
        }
        tries.remove(&reply.id);
        let mut tx = desk.store.write().await?;
        tx.reply_done(reply.id).await?;
        tx.commit().await?;
    }
    Ok(open)
}

async fn bury(desk: &Desk) -> Result<bool, StoreError> {
    let letters = desk.store.open_letters().await?;
    let found = !letters.is_empty();
    for letter in letters {
        match desk.link.bury(&letter.letter).await {
            Ok(()) => {}
            // It stays in the store, where people find it too.
            Err(LinkError::Unsendable(reason)) => tracing::warn!("a message cannot be buried: {reason}"),
            Err(_) => return Ok(true),
        }
        let mut tx = desk.store.write().await?;
        tx.letter_buried(letter.id).await?;
        tx.commit().await?;
    }
    Ok(found)
}
