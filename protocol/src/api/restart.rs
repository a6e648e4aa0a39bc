//! Doing a build again.

use std::ops::Not;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{BuildNumber, JobKey};

/// `POST /api/v1/builds/N/restart`: begins a build that does again what this one did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Takes over what passed, and does the rest again.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub failed: bool,
    /// Takes what the names of its images mean now, not what they meant then.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub latest: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restarted {
    /// The new build.
    pub build: BuildNumber,
    /// The one that it is a restart of.
    pub restart_of: BuildNumber,
    /// The jobs that are not done again, for they passed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carried: Vec<JobKey>,
    /// The jobs that are done again though the farm by itself would not do them twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub twice: Vec<JobKey>,
    /// What was done, as a sentence.
    pub message: String,
}
