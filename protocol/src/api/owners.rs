//! What the owners of a project set for it: what opens its repository, and for how long its builds are kept.

use std::fmt;
use std::ops::Not;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::storage::Keeps;

/// What a project's repository is to be fetched with. It is kept sealed, and never given again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialsKind {
    /// A key for ssh.
    DeployKey,
    /// A token for https.
    Token,
}

/// What people see of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

/// For how long something of a project is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// As the farm's settings say.
    Farm,
    /// Without end.
    All,
    /// So many builds or days, 1 or more.
    Last(u32),
}

impl FromStr for Keep {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("farm", _) => Ok(Self::Farm),
            ("all", _) => Ok(Self::All),
            (_, Ok(count @ 1..)) => Ok(Self::Last(count)),
            _ => Err("write a number from 1 on, `all`, or `farm` for what the farm's settings say".to_owned()),
        }
    }
}

/// For how long a project's builds are kept, and what they leave. In a change, what is not given stays; in what is shown,
/// it is as the farm's settings say. A project with a word on `builds` or `days` has its own rule for both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectKeeps {
    /// The newest builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builds: Option<Keep>,
    /// Days after their end. With both, a build is kept as long as one of them keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<Keep>,
    /// Days for which what was printed is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs_days: Option<Keep>,
    /// Days for which the files are kept that jobs left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts_days: Option<Keep>,
}

impl ProjectKeeps {
    /// Whether all is as the farm's settings say.
    #[must_use]
    pub fn is_farms(&self) -> bool {
        *self == Self::default()
    }

    /// These, changed so.
    #[must_use]
    pub fn changed(self, by: Self) -> Self {
        let one = |now: Option<Keep>, by: Option<Keep>| by.or(now).filter(|keep| *keep != Keep::Farm);
        Self {
            builds: one(self.builds, by.builds),
            days: one(self.days, by.days),
            logs_days: one(self.logs_days, by.logs_days),
            artifacts_days: one(self.artifacts_days, by.artifacts_days),
        }
    }

    /// What holds for the project, where the farm's settings are these.
    #[must_use]
    pub fn over(&self, farm: &Keeps) -> Keeps {
        let days = |own: Option<Keep>, farms: Option<u32>| match own {
            Some(Keep::All) => None,
            Some(Keep::Last(days)) => Some(days),
            Some(Keep::Farm) | None => farms,
        };
        let (builds, age) = match (self.builds, self.days) {
            (Some(Keep::All), _) | (_, Some(Keep::All)) => (None, None),
            (None, None) => (farm.builds, farm.days),
            (builds, age) => (days(builds, None), days(age, None)),
        };
        Keeps {
            builds,
            days: age,
            logs_days: days(self.logs_days, farm.logs_days),
            artifacts_days: days(self.artifacts_days, farm.artifacts_days),
        }
    }
}

/// A project whose builds are kept otherwise than the farm's settings say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptOtherwise {
    /// Which project.
    pub project: String,
    /// For how long what of it is kept.
    pub keeps: Keeps,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projects_word_counts_before_the_farms() {
        let farm = Keeps { builds: Some(50), days: Some(90), logs_days: Some(30), artifacts_days: Some(7) };
        let none = ProjectKeeps::default();
        let keep = |text: &str| Some(text.parse::<Keep>().unwrap());
        for (own, expect) in [
            (none, farm),
            (ProjectKeeps { builds: keep("5"), ..none }, Keeps { builds: Some(5), days: None, ..farm }),
            (ProjectKeeps { days: keep("3"), ..none }, Keeps { builds: None, days: Some(3), ..farm }),
            (
                ProjectKeeps { builds: keep("5"), days: keep("3"), ..none },
                Keeps { builds: Some(5), days: Some(3), ..farm },
            ),
            (ProjectKeeps { builds: keep("all"), days: keep("3"), ..none }, Keeps { builds: None, days: None, ..farm }),
            (
                ProjectKeeps { logs_days: keep("all"), artifacts_days: keep("1"), ..none },
                Keeps { logs_days: None, artifacts_days: Some(1), ..farm },
            ),
        ] {
            assert_eq!(own.over(&farm), expect, "{own:?}");
        }
        let own = none.changed(ProjectKeeps { builds: keep("5"), logs_days: keep("all"), ..none });
        assert_eq!(own, ProjectKeeps { builds: Some(Keep::Last(5)), logs_days: Some(Keep::All), ..none });
        assert!(own.changed(ProjectKeeps { builds: keep("farm"), logs_days: keep("farm"), ..none }).is_farms());
        for text in ["0", "-1", "", "none", "4294967296"] {
            assert!(text.parse::<Keep>().is_err(), "{text:?}");
        }
        assert_eq!(serde_json::to_string(&own).unwrap(), r#"{"builds":{"last":5},"logs_days":"all"}"#);
    }
}
