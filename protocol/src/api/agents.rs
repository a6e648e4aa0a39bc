//! Agents, and what a person can say about one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::LabelSet;
use crate::report::Capacity;

/// One agent: `GET /api/v1/agents` gives a list, `GET /api/v1/agents/NAME` one.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    /// Its name.
    pub name: String,
    /// Whether its claims are looked at.
    pub enrolled: bool,
    /// What it signs with, in short: of the key that waits for approval, when one does.
    pub fingerprint: String,
    /// The key that is enrolled, in short, while another one under its name waits for approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolled_key: Option<String>,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// How many it runs now.
    pub running: u32,
    /// The labels that a grant looks at.
    pub labels: Vec<String>,
    /// The labels that it offers; what of them is not approved counts for nothing.
    #[serde(default)]
    pub offered: Vec<String>,
    /// The version of its program.
    pub version: String,
    /// Its machine.
    pub host: String,
    /// Why it takes no job at present.
    pub paused: Option<String>,
    /// What a person said when pausing it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Paused>,
    /// Whether it has heard what a person said last about its taking jobs.
    #[serde(default)]
    pub heard: bool,
    /// Why a person revoked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
    /// Whether its process ends when its jobs are over.
    #[serde(default)]
    pub draining: bool,
    /// In how many milliseconds its jobs are expected to be over, by how long such jobs took before: 0 when it has
    /// none, absent without such history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_ms: Option<u64>,
    /// What its machine has left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// Milliseconds since its last sign of life; absent when there was none since the coordinator began.
    pub seen_ms_ago: Option<u64>,
    /// When its last sign of life was written down, in milliseconds since 1970: to within a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_ms: Option<u64>,
}

/// That a person wants an agent to take no jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Paused {
    /// Why.
    pub note: String,
    /// Who, as that one said.
    pub by: Option<String>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
}

/// `POST /api/v1/agents/NAME/approve`: the agent with this very key belongs to the farm.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// The whole fingerprint that the person compared. Another key than this is refused.
    pub fingerprint: String,
    /// Which of the offered labels count; all of them when absent.
    #[serde(default)]
    pub labels: Option<LabelSet>,
}

/// `POST /api/v1/agents/NAME/pause`: the agent takes no jobs until `resume`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// Why, for those who look at the agent or at a build that waits.
    #[serde(default)]
    pub note: Option<String>,
}

/// `POST /api/v1/agents/NAME/revoke`: the agent and its key belong to the farm no longer.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Why, for those who look at the agent or at what was lost with it.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What `POST /api/v1/agents/NAME/forget` did.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Forgotten {
    /// As a sentence.
    pub message: String,
}
