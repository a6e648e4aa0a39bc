//! Secrets of the farm: set and listed, and their values never given.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::job::TriggerKind;
use crate::source::RepoUrl;

/// `POST /api/v1/secrets`: keep a secret, in place of one for the same builds.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// Its name, by which stages ask for it: 1 to 128 letters, digits, `_`, `-`, `.` or `/`.
    #[schema(pattern = "^(?!CI$)(?!BUILDR_)[0-9A-Za-z_./-]{1,128}$")]
    pub name: String,
    /// Its value: 4 characters or more, 100 KiB at most.
    #[schema(min_length = 4, max_length = 102400, pattern = r"^[^\x00]*$")]
    pub value: String,
    /// For builds of this repository; either this, or `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<RepoUrl>,
    /// For builds of all repositories.
    #[serde(default)]
    pub all: bool,
    /// For branches that this pattern means: `*` is any text without `/`, `**` any text. All without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128, pattern = r"^[^\s\x00-\x1F\x7F-\x9F]*$")]
    pub branch: Option<String>,
    /// For builds that began so; all without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<TriggerKind>,
}

impl std::fmt::Debug for SetSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetSecret").field("name", &self.name).finish_non_exhaustive()
    }
}

/// `POST /api/v1/secrets/remove`: forget the secret that was set for these very builds.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveSecret {
    /// Its name.
    #[schema(pattern = "^(?!CI$)(?!BUILDR_)[0-9A-Za-z_./-]{1,128}$")]
    pub name: String,
    /// As it was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<RepoUrl>,
    /// As it was set.
    #[serde(default)]
    pub all: bool,
    /// As it was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128, pattern = r"^[^\s\x00-\x1F\x7F-\x9F]*$")]
    pub branch: Option<String>,
    /// As they were set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<TriggerKind>,
}

/// One secret, without its value. `GET /api/v1/secrets` gives all, by project and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretView {
    /// Its name.
    pub name: String,
    /// The repository, by host and path; absent where it is for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The pattern of branches; absent where it is for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The events; none where it is for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<TriggerKind>,
    /// Who set it.
    pub set_by: String,
    /// When, in milliseconds since 1970.
    pub set_ms: u64,
    /// Whether the key that it was sealed with is gone: then no build gets it, until it is set again.
    #[serde(default)]
    pub lost: bool,
}
