//! Somebody wants a build to end.

use buildr::process::clock::now_ms;
use protocol::BuildNumber;
use protocol::api::Status;

use super::Answers;
use crate::desk::Desk;
use crate::feed::Change;
use crate::store::{Asker, StoreError};

/// What a cancel did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cancelled {
    /// Where the build stands now.
    pub(crate) status: Status,
    /// Whether the cancel changed something.
    pub(crate) changed: bool,
}

/// Ends the jobs of a build that wait, and tells the agents of those that run. None: there is no such build.
///
/// # Errors
/// When the store fails.
pub(crate) async fn cancel(desk: &Desk, build: BuildNumber, reason: &str) -> Result<Option<Cancelled>, StoreError> {
    let mut answers = Answers::default();
    let mut tx = desk.store.write().await?;
    if tx.build(build).await?.is_none() {
        return Ok(None);
    }
    let changed = tx.cancel(build, reason, Asker::Person, now_ms()).await?;
    let Some(status) = tx.build(build).await?.map(|build| build.status) else { return Ok(None) };
    answers.follow(tx.take_effects());
    tx.commit().await?;
    answers.say(Change::Build(build));
    answers.give(desk).await;
    Ok(Some(Cancelled { status, changed }))
}
