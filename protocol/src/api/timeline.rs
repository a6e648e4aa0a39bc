//! Where the time of a build went.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::BuildRow;
use crate::id::{AgentId, JobKey};
use crate::report::Span;

/// `GET /api/v1/builds/N/timeline`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Timeline {
    /// What the list shows of it.
    pub build: BuildRow,
    /// How long it has taken so far, or took, in milliseconds since it was asked for.
    pub ms: u64,
    /// Its attempts, the oldest first.
    pub attempts: Vec<AttemptTimeline>,
}

/// Where the time of one attempt went.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AttemptTimeline {
    /// The job's key.
    pub job: JobKey,
    /// 1 for the build's first.
    pub attempt: u32,
    /// By whom.
    pub agent: AgentId,
    /// Whether it is over. What an attempt spent is told with its end: of one that runs, and of one that was lost, only
    /// what the coordinator saw is known.
    pub over: bool,
    /// Its spans in order; each `at_ms` is since the build was asked for.
    ///
    /// The agent's spans are counted from the moment in which it took the job's message. Where that moment lies on the
    /// coordinator's clock is taken from the grant, which was made in the middle of the claim, give or take half of it.
    pub spans: Vec<Span>,
}
