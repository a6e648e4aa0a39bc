//! One job of a build: when it may begin, and who may take it.

use std::ops::Not;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{BuildPlan, Plan, Variable};
use crate::id::{JobKey, LabelSet};
use crate::source::{Branch, RepoUrl};

/// One job of a build, and what must be before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedJob {
    /// Its name within the build.
    pub key: JobKey,
    /// The jobs that must have ended before it is offered, and whose artifacts and values it receives.
    #[serde(default)]
    pub needs: Vec<JobKey>,
    /// What its agent must have.
    #[serde(default)]
    pub labels: LabelSet,
    /// What it does.
    pub plan: Plan,
    /// How those that it needs must have ended.
    #[serde(default, skip_serializing_if = "RunOn::is_passed")]
    pub run_on: RunOn,
    /// Who must let it begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Whose turn it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// The cells of one matrix, or the shards of one stage, of which it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// Its place in the matrix, in the order of the axes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cell: Vec<Cell>,
    /// Another build that is begun in its place: then no agent takes it, and its plan has no stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downstream: Option<Downstream>,
    /// Whether it is the build's `finally`: it begins when all others are over, and only when one of them ever
    /// began.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub finally: bool,
}

impl PlannedJob {
    /// A job that any agent may take at once.
    #[must_use]
    pub fn new(key: JobKey, plan: Plan) -> Self {
        Self {
            key,
            needs: Vec::new(),
            labels: LabelSet::default(),
            plan,
            run_on: RunOn::Passed,
            gate: None,
            concurrency: None,
            lane: None,
            cell: Vec::new(),
            downstream: None,
            finally: false,
        }
    }
}

impl PlannedJob {
    /// The job of a plan with which the agent that made the plan goes on in the same slot: the only one of its build, for
    /// which nothing has to be waited, and no other agent asked.
    #[must_use]
    pub fn going_on<'a>(jobs: &'a [Self], build: &BuildPlan) -> Option<&'a Self> {
        match jobs {
            [only] if only.goes_on(build) => Some(only),
            _ => None,
        }
    }

    fn goes_on(&self, build: &BuildPlan) -> bool {
        // The farm opens them when it grants a job that has them.
        if !self.plan.secure_values().is_empty() {
            return false;
        }
        let waits = self.gate.is_some() || self.concurrency.is_some() || build.concurrency.is_some();
        !waits && !self.finally && self.downstream.is_none() && self.labels.is_empty() && self.run_on != RunOn::Failed
    }
}

/// On what ends of what came before a stage or job runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunOn {
    /// When all that it needs passed.
    #[default]
    Passed,
    /// When something before it failed.
    Failed,
    /// In any case but a cancel.
    Always,
}

impl RunOn {
    pub(super) fn is_passed(&self) -> bool {
        *self == Self::Passed
    }
}

/// A manual gate: the job waits, without a slot, until a person lets it begin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gate {
    /// What the person is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<String>,
    /// Who may answer; anybody who may start builds when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// What the person is to fill in. The values arrive as variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<GateInput>,
    /// After how long without an answer the job is skipped; never without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A value that a person gives: at a gate, or when a build is started by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GateInput {
    /// The variable's name.
    pub name: String,
    /// What it may be; anything when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// What it is when nobody says; without it somebody must.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A group of which only some run at once, over all builds of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Concurrency {
    /// Its name.
    pub group: String,
    /// How many run at once.
    #[serde(default = "one")]
    pub limit: u32,
    /// Whose turn it is.
    #[serde(default)]
    pub order: TakeOrder,
}

fn one() -> u32 {
    1
}

/// Whose turn it is in a [`Concurrency`] group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TakeOrder {
    /// The older build's: a later one never overtakes.
    #[default]
    Build,
    /// That of whoever is ready first.
    Ready,
}

/// Jobs that belong together: the cells of a matrix, the shards of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lane {
    /// Its name within the build.
    pub name: String,
    /// How many of them run at once; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Whether the others are cancelled as soon as one fails.
    #[serde(default)]
    pub fail_fast: bool,
}

/// An axis of a matrix and its value in one cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cell {
    /// The axis.
    pub axis: String,
    /// Its value.
    pub value: String,
}

/// Another build that this one begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Downstream {
    /// Which repository; the same one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<RepoUrl>,
    /// Which branch; the remote's HEAD without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<Branch>,
    /// What it is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vars: Vec<Variable>,
    /// Whether the job waits for its end, and ends as it does.
    #[serde(default)]
    pub wait: bool,
}
