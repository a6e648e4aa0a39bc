//! When a job may begin, as its plan says, and what a person said at its gate.

use std::ops::Not;

use protocol::plan::{Cell, Concurrency, Downstream, Gate, Lane, RunOn};
use protocol::{PlannedJob, Variable};
use serde::{Deserialize, Serialize};

/// What a plan says about a job besides what it does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Terms {
    /// On what ends of what it needs it runs.
    #[serde(default)]
    pub(crate) run_on: RunOn,
    /// Who must let it begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gate: Option<Gate>,
    /// Whose turn it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) concurrency: Option<Concurrency>,
    /// The cells or shards of which it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lane: Option<Lane>,
    /// Its place in the matrix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) cell: Vec<Cell>,
    /// The build that is begun in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) downstream: Option<Downstream>,
    /// Whether it is the build's last.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub(crate) finally: bool,
    /// Whether its gate stands before the whole build, and a maintainer opens it.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub(crate) whole: bool,
}

impl Terms {
    /// Those of a planned job.
    pub(crate) fn of(job: &PlannedJob) -> Self {
        Self {
            run_on: job.run_on,
            gate: job.gate.clone(),
            concurrency: job.concurrency.clone(),
            lane: job.lane.clone(),
            cell: job.cell.clone(),
            downstream: job.downstream.clone(),
            finally: job.finally,
            whole: false,
        }
    }

    /// Those of a job that plans a build which a maintainer must let begin first.
    pub(crate) fn approved(ask: String) -> Self {
        Self { gate: Some(Gate { ask: Some(ask), ..Gate::default() }), whole: true, ..Self::default() }
    }

    /// Whether what it does must not be cut short by a newer build, nor be begun twice.
    pub(crate) fn is_guarded(&self) -> bool {
        (self.gate.is_some() && !self.whole) || self.concurrency.is_some()
    }
}

/// What a person said at a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Who, as that one said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<String>,
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// The values that were filled in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) inputs: Vec<Variable>,
}
