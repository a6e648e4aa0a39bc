//! What a manifest means for one job: nothing left to look up.

use serde::{Deserialize, Serialize};

use crate::id::{JobKey, LabelSet, StageName};

/// The most jobs that one build may be planned into. A plan comes from a user's file, so it has caps.
pub const MAX_JOBS: usize = 256;

/// The most bytes that a build's planned jobs may take on the wire.
pub const MAX_PLAN_BYTES: usize = 1 << 20;

/// One job of a build, and the jobs that must pass before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedJob {
    /// Its name within the build.
    pub key: JobKey,
    /// The jobs that must have passed before it is offered.
    #[serde(default)]
    pub needs: Vec<JobKey>,
    /// What its agent must have.
    #[serde(default)]
    pub labels: LabelSet,
    /// What it does.
    pub plan: Plan,
}

/// What one job does, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The image that `prepare` and every stage without one of its own start from.
    pub image: String,
    /// Variables for every container of the job, in the order in which later wins.
    #[serde(default)]
    pub environment: Vec<Variable>,
    /// Globs over the names of the agent's own environment that are passed on; empty passes nothing.
    #[serde(default)]
    pub inherit: Vec<String>,
    /// The commands that make the prepared image.
    #[serde(default)]
    pub prepare: Option<Vec<String>>,
    /// What runs, one after the other.
    pub stages: Vec<StagePlan>,
    /// Where the checkout is mounted, in every container.
    #[serde(default = "default_workspace")]
    pub workspace: String,
}

/// Where the checkout is mounted unless a manifest says otherwise.
pub const WORKSPACE: &str = "/app";

fn default_workspace() -> String {
    WORKSPACE.to_owned()
}

/// One stage: one fresh container, one script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagePlan {
    /// Its name.
    pub name: StageName,
    /// Its own image, taken untouched; without one it starts from the prepared image.
    #[serde(default)]
    pub image: Option<String>,
    /// Its commands, run one after the other by one `/bin/sh -e`.
    pub script: Vec<String>,
    /// Whether it asks for the Docker socket.
    #[serde(default)]
    pub docker: bool,
    /// Whether the farm may never start it again once its script began, because what it does must not be done twice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_twice: bool,
}

/// A variable of the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// `[A-Za-z_][A-Za-z0-9_]*`
    pub name: String,
    /// Any text without a NUL.
    pub value: String,
}

impl Variable {
    /// A variable.
    #[must_use]
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}
