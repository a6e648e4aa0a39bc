//! The jobs of a build: where each stands, what it waits for, and what a person can say at its gate.

use std::collections::BTreeMap;
use std::ops::Not;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Status;
use crate::id::{BuildNumber, JobKey, LabelSet, LogName, StageName};
use crate::outcome::StageOutcome;
use crate::plan::{Cell, Gate};

/// One job of a build.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its name within the build.
    pub key: JobKey,
    /// Where it stands.
    pub status: Status,
    /// Why it waits, how it ended, or why it was passed over, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The jobs that must be over before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<JobKey>,
    /// What its agent must have.
    #[serde(default, skip_serializing_if = "LabelSet::is_empty")]
    pub labels: LabelSet,
    /// Its place in the matrix, in the order of the axes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cell: Vec<Cell>,
    /// Its stages, as they were planned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageName>,
    /// Who must let it begin, and who did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateView>,
    /// The concurrency group in which it waits for its turn, or has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The matrix or the shards of which it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// The build that was begun in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downstream: Option<BuildNumber>,
    /// Whether it comes last, whatever happened.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub finally: bool,
    /// The build in which it passed, when that is not done again in this one. That one may be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried_from: Option<BuildNumber>,
}

/// A gate, for people.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GateView {
    /// Whether it waits for a person now.
    pub open: bool,
    /// What was planned: the question, who may answer, what is to be filled in.
    #[serde(flatten)]
    pub gate: Gate,
    /// Who let it begin, as that one said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// When, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_ms: Option<u64>,
}

/// `POST /api/v1/builds/N/approve`, or `POST /api/v1/builds/N/jobs/KEY/approve`: what a person says at a gate.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveJob {
    /// Which job; the only one that waits for a person when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobKey>,
    /// What is filled in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
    /// Passes the job over instead.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub reject: bool,
    /// Why, for those who look at the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What became of it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Approved {
    /// The job that it was about.
    pub job: JobKey,
    /// What was done, as a sentence.
    pub message: String,
}

/// A try of a stage that was followed by another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TryView {
    /// 1 for the first.
    pub number: u32,
    /// How it ended.
    pub result: StageOutcome,
    /// How long it took.
    pub duration_ms: u64,
    /// Where what it printed stands.
    pub log: LogName,
}

/// The files that a stage left for others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptView {
    /// How many.
    pub files: u64,
    /// How long their archive is.
    pub bytes: u64,
    /// SHA-256 of the archive, in hexadecimal.
    pub sha256: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::GateInput;

    /// What was planned stands beside what became of it, as programs know it.
    #[test]
    fn a_gate_is_one_flat_object() {
        let input = GateInput { name: "REGION".to_owned(), choices: Vec::new(), default: None, description: None };
        let gate = Gate {
            ask: Some("Deploy?".to_owned()),
            allow: vec!["anna".to_owned()],
            inputs: vec![input],
            ..Gate::default()
        };
        let view = GateView { open: true, gate, approved_by: None, approved_ms: Some(7) };
        let text = r#"{"open":true,"ask":"Deploy?","allow":["anna"],"inputs":[{"name":"REGION"}],"approved_ms":7}"#;
        assert_eq!(serde_json::to_string(&view).unwrap(), text);
        assert_eq!(serde_json::from_str::<GateView>(text).unwrap().gate, view.gate);
    }
}
