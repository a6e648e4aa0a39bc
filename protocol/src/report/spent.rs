//! Where a job's time went.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::StageName;

/// The most spans of one job that are kept.
pub const MAX_SPANS: usize = 500;

/// What time is spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The job waited for an agent.
    Queue,
    /// An agent had the job's message and asked for the job, until it was granted.
    Claim,
    /// The code was brought into the workspace.
    Checkout,
    /// The manifest was read, and made into a plan.
    Plan,
    /// `prepare` was run, or its image found.
    Prepare,
    /// Services were started until they were ready.
    Services,
    /// An image was pulled.
    Pull,
    /// A stage was made ready, until its script began.
    Start,
    /// A stage's script ran.
    Script,
    /// What a stage leaves was kept: artifacts, caches, reports.
    Keep,
    /// What was made for the job was removed before its end was told.
    Teardown,
    /// The job's end was on its way to the coordinator's store.
    Report,
    /// A kind that a newer program knows.
    #[serde(other)]
    Unknown,
}

impl Part {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Claim => "claim",
            Self::Checkout => "checkout",
            Self::Plan => "plan",
            Self::Prepare => "prepare",
            Self::Services => "services",
            Self::Pull => "pull",
            Self::Start => "start",
            Self::Script => "script",
            Self::Keep => "keep",
            Self::Teardown => "teardown",
            Self::Report => "report",
            Self::Unknown => "other",
        }
    }
}

/// A piece of time, and what it was spent on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Span {
    /// What on.
    pub part: Part,
    /// For which stage; none where it was for the whole job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageName>,
    /// When it began, in milliseconds since its job was taken. No clock of a day is asked for it.
    pub at_ms: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
}
