//! What the owners of a project set for it: what opens its repository.

use std::fmt;
use std::ops::Not;

use serde::{Deserialize, Serialize};

/// What a project's repository is to be fetched with. It is kept sealed, and never given again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetCredentials {
    /// Nothing of the project's own any more: the agents' keys and credentials.
    None,
    /// A private key without a passphrase, as OpenSSH writes it.
    DeployKey(String),
    /// A token.
    Token {
        /// Who shows it; without it what the forge wants there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// The token itself.
        token: String,
    },
}

impl fmt::Debug for SetCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::DeployKey(_) => "DeployKey",
            Self::Token { .. } => "Token",
        })
    }
}

/// What kind they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialsKind {
    /// A key for ssh.
    DeployKey,
    /// A token for https.
    Token,
}

/// What people see of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialsView {
    /// What kind they are.
    pub kind: CredentialsKind,
    /// Of a key: the fingerprint of its public half, such as `SHA256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Of a token: who shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether the key that they were sealed with is gone: then no build gets them, until they are set again.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub lost: bool,
}

impl CredentialsView {
    /// Some of this kind, of which nothing else is known.
    #[must_use]
    pub fn new(kind: CredentialsKind) -> Self {
        Self { kind, fingerprint: None, user: None, lost: false }
    }
}

impl fmt::Display for CredentialsView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            CredentialsKind::DeployKey => write!(f, "a deploy key, {}", self.fingerprint.as_deref().unwrap_or("?"))?,
            CredentialsKind::Token => write!(f, "a token, shown by {}", self.user.as_deref().unwrap_or("?"))?,
        }
        if self.lost { f.write_str("; it was sealed with a key that is gone: set it again") } else { Ok(()) }
    }
}
