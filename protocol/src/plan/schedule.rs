//! When builds begin by themselves.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Variable;
use crate::calendar::{NoTimes, Times};
use crate::source::Branch;

/// The most schedules that one plan may have.
pub const MAX_SCHEDULES: usize = 32;

/// A time at which a build begins again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// Its name within its pipeline.
    pub name: String,
    /// Of which pipeline, when there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// When, as `minute hour day month weekday`.
    pub cron: String,
    /// The time zone in which that is meant.
    pub zone: String,
    /// Which branch is built; without it the repository's default branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<Branch>,
    /// The values that its builds are given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Variable>,
}

impl Schedule {
    /// When it comes due.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn times(&self) -> Result<Times, NoTimes> {
        Times::read(&self.cron, &self.zone)
    }
}
