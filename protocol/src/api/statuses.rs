//! Which forges are told how the builds of a commit go.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::source::RepoUrl;

/// A repository whose forge is told. `GET /api/v1/statuses` gives all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportView {
    /// The repository: host and path, which all its URLs have in common.
    pub repository: String,
    /// What kind of forge it is.
    pub forge: String,
    /// Where its API is.
    pub api: String,
    /// How much it is still to be told.
    pub waiting: u64,
    /// What went wrong last; absent when it went well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// When, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble_ms: Option<u64>,
}

/// `POST /api/v1/statuses`: tells a repository's forge from now on.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportTo {
    /// Which repository, by any of its URLs.
    pub repo: RepoUrl,
    /// `github`, `gitlab`, `gitea`, `forgejo` or `bitbucket`; known without it for the large public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forge: Option<String>,
    /// Where its API is; where such a forge usually has it without this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// A token that may write statuses there. It is never given out again.
    pub token: String,
}

impl std::fmt::Debug for ReportTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReportTo").field("repo", &self.repo).field("forge", &self.forge).finish_non_exhaustive()
    }
}

/// `POST /api/v1/statuses/forget`: tells a repository's forge no longer.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportNoMore {
    /// Which repository, by any of its URLs.
    pub repo: RepoUrl,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reported {
    /// What was done, as a sentence.
    pub message: String,
}
