//! Somebody wants a build to end.

use buildr::process::clock::now_ms;
use protocol::BuildNumber;
use protocol::api::Status;
use protocol::control::Control;
use protocol::state::{Happening, JobState};

use super::Answers;
use crate::desk::Desk;
use crate::feed::Change;
use crate::store::StoreError;

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
    let mut changed = false;
    let mut tx = desk.store.write().await?;
    let asked = Happening::CancelAsked { reason: reason.to_owned() };
    let ids: Vec<_> = tx.jobs(build).await?.into_iter().map(|job| job.id).collect();
    for id in ids {
        // Read anew: the end of one job may have ended another.
        let Some(job) = tx.job(id).await? else { continue };
        let applied = tx.apply(&job, &asked, now_ms()).await?;
        changed |= applied.is_ok();
        if let Ok(JobState::Running { claim, agent, .. }) = applied {
            answers.cancel_asked(claim);
            answers.tell(&agent, Control::Cancel { claim, reason: reason.to_owned() });
        }
    }
    let Some(status) = tx.build(build).await?.map(|build| build.status) else { return Ok(None) };
    tx.commit().await?;
    answers.say(Change::Build(build));
    answers.say(Change::Outbox);
    answers.give(desk).await;
    Ok(Some(Cancelled { status, changed }))
}
