//! Builds that begin by themselves.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::BuildNumber;
use crate::plan::Schedule;
use crate::source::Branch;

/// One schedule. `GET /api/v1/schedules` gives all of them, by repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleView {
    /// The repository, without a password.
    pub repo: String,
    /// The branch that is built.
    pub branch: Branch,
    /// What the manifest says.
    pub schedule: Schedule,
    /// When it comes due next, in milliseconds since 1970; absent while it is paused, or when it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<u64>,
    /// Who paused it, as that one said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<String>,
    /// When it came due last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_due_ms: Option<u64>,
    /// The build that it began last. That one may be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_build: Option<BuildNumber>,
}

/// `POST /api/v1/schedules`: does something with a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleOrder {
    /// Its name.
    pub name: String,
    /// Its repository, as the list shows it; needed only when several have one of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// Its pipeline, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// What.
    pub order: ScheduleAct,
}

/// What can be done with a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleAct {
    /// Lets it begin no builds.
    Pause,
    /// Lets it begin builds again, from its next time on.
    Resume,
    /// Begins a build now; its next time stays what it is.
    Run,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleDone {
    /// What was done, as a sentence.
    pub message: String,
    /// The build that was begun, when one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildNumber>,
}
