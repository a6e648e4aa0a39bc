//! What it takes to do a build of the farm elsewhere.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::BuildNumber;
use crate::job::{Origin, TriggerKind};
use crate::plan::{BuildPlan, PlannedJob, Variable};
use crate::source::{Branch, CommitId};

/// `GET /api/v1/builds/N/repro`: a build as it was planned, with its images as they were. No secret is in it, but for the
/// names of those that it asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Repro {
    /// Which build.
    pub build: BuildNumber,
    /// The repository, without a password.
    pub repo: String,
    /// The branch, once it is known.
    pub branch: Option<Branch>,
    /// The commit, once it is known.
    pub commit: Option<CommitId>,
    /// The branch that the repository's HEAD means, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<Branch>,
    /// Why it was built.
    pub event: TriggerKind,
    /// What began it, beyond its kind.
    #[serde(default, skip_serializing_if = "Origin::is_empty")]
    pub origin: Origin,
    /// The values that it was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Variable>,
    /// Whether it was given secrets and the Docker socket where it asked.
    pub trusted: bool,
    /// Its jobs; none before it is planned, or when nothing of it was to run.
    pub jobs: Vec<PlannedJob>,
    /// What holds for the build as a whole.
    #[serde(default)]
    pub plan: BuildPlan,
}
