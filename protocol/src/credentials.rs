//! What opens a private repository: a project's own key or token, as it travels in a sealed grant.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a project's own repository is fetched with. Secret: it is sealed wherever it lies, and [`fmt::Debug`] leaves it
/// out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RepoCredentials {
    /// A private key without a passphrase, as OpenSSH writes it: for a repository over ssh.
    DeployKey {
        /// The file's text.
        key: String,
    },
    /// A token: for a repository over https.
    Token {
        /// Who shows it; what forges want there differs.
        user: String,
        /// The token itself.
        token: String,
    },
}

impl RepoCredentials {
    /// What no log may show.
    #[must_use]
    pub fn secret(&self) -> &str {
        match self {
            Self::DeployKey { key } => key,
            Self::Token { token, .. } => token,
        }
    }
}

impl fmt::Debug for RepoCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeployKey { .. } => "DeployKey",
            Self::Token { .. } => "Token",
        })
    }
}
