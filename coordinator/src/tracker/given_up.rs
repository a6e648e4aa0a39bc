//! Jobs under which agents are lost, again and again: the farm goes on without them, and people find them among the
//! messages laid aside.

use protocol::api::IncidentKind;
use protocol::job::OfferBody;
use protocol::link::{DeadLetter, queue_name};
use protocol::outcome::{Ending, Outcome};
use protocol::state::{Happening, JobState};

use crate::store::{Applied, Job, StoreError, Transaction};

/// Lays a job aside when its last attempt was lost.
///
/// # Errors
/// When the store fails.
pub(crate) async fn lay_aside_given_up(
    tx: &mut Transaction,
    job: &Job,
    (happening, applied): (&Happening, &Applied),
    now_ms: u64,
) -> Result<(), StoreError> {
    let (Happening::Lost { .. }, Ok(JobState::Ended(ending))) = (happening, applied) else { return Ok(()) };
    let Ending { outcome: Outcome::Errored { .. }, message, .. } = ending else { return Ok(()) };
    let Some(build) = tx.build(job.build).await? else { return Ok(()) };
    let offer =
        OfferBody { job_id: job.id, build: job.build, repo: build.repo.to_string(), branch: build.branch.clone() };
    let body = serde_json::to_vec(&offer).unwrap_or_default().into();
    let reason = format!(
        "build {} is given up: {}; when it ends its agents each time, look at what it does there before it is built again",
        job.build,
        message.as_deref().unwrap_or("its agents were lost")
    );
    let queue = queue_name(&job.labels);
    tx.note_incident(IncidentKind::GivenUp, &queue, &reason, now_ms).await?;
    tx.lay_aside(&DeadLetter { body, queue, reason }, now_ms).await
}
