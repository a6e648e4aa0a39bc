//! Who may do what on a farm: roles, API tokens, and the list of what was done.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What somebody may do; each role may all that the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look at builds and logs.
    Viewer,
    /// Begin, cancel and restart builds, and answer at gates.
    Developer,
    /// Look after projects and secrets, and let builds of forks begin.
    Maintainer,
    /// Look after tokens and agents.
    Admin,
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role; write viewer, developer, maintainer or admin")]
pub struct UnknownRole(String);

impl Role {
    /// All of them, the one that may the least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Developer, Self::Maintainer, Self::Admin];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Developer => "developer",
            Self::Maintainer => "maintainer",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// `POST /api/v1/tokens`: make an API token.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MakeToken {
    /// What it is called: 1 to 64 letters, digits, `.`, `_`, `-` and `@`. What is done with it is written down under
    /// this name.
    #[schema(pattern = "^[0-9A-Za-z._@-]{1,64}$")]
    pub name: String,
    /// What may be done with it.
    pub role: Role,
    /// For how long it holds from now on, in milliseconds; until it is revoked without this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 60000, maximum = 3155760000000_u64)]
    pub for_ms: Option<u64>,
}

/// A token that was made. Its text is told this once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MadeToken {
    /// The token itself. Secret.
    pub token: String,
    /// What the list shows of it.
    pub view: TokenView,
}

/// One API token, without its text. `GET /api/v1/tokens` gives all, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its name.
    pub name: String,
    /// What may be done with it.
    pub role: Role,
    /// How it begins, so that one that was found somewhere can be told.
    pub prefix: String,
    /// Who made it.
    pub made_by: String,
    /// When, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// When it was used last, to within a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_ms: Option<u64>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_ms: Option<u64>,
}

/// One thing that somebody did, or was refused for that one's role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its place in the list.
    pub id: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The name of the token; `start token` for that of the state folder.
    pub who: String,
    /// The token's role.
    pub role: Role,
    /// Who it was by the client's own word, where the token has no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// The method, such as `POST`.
    pub method: String,
    /// The path, such as `/api/v1/builds/12/cancel`.
    pub path: String,
    /// The status of the answer: 403 where the role was too small.
    pub status: u16,
    /// From which address; behind a proxy what that says, and its own.
    pub address: String,
}

/// A page of what was done, newest first: `GET /api/v1/audit?before=ID&limit=N`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Audit {
    /// What was done.
    pub entries: Vec<AuditEntry>,
    /// Pass as `before` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_more_than_the_one_before() {
        assert!(Role::ALL.is_sorted());
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("{:?}", role.name()));
        }
        assert!("root".parse::<Role>().unwrap_err().to_string().contains("viewer, developer"));
    }
}
