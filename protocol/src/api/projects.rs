//! Projects, their webhooks, and what these delivered.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::owners::{CredentialsView, ProjectKeeps, SetCredentials};
use super::storage::Keeps;
use crate::id::BuildNumber;
use crate::source::{Branch, RepoUrl};

/// What kind of server tells of pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Forge {
    /// GitHub, in the cloud or on one's own server.
    #[serde(rename = "github")]
    GitHub,
    /// GitLab.
    #[serde(rename = "gitlab")]
    GitLab,
    /// Gitea.
    Gitea,
    /// Forgejo.
    Forgejo,
    /// Bitbucket Cloud.
    Bitbucket,
    /// Bitbucket Data Center, or Server.
    BitbucketDc,
    /// Anything that sends JSON with a branch and a commit.
    Generic,
}

impl Forge {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::GitHub, Self::GitLab, Self::Gitea, Self::Forgejo, Self::Bitbucket, Self::BitbucketDc, Self::Generic];

    /// Its name, as it stands in the address of its webhooks.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Gitea => "gitea",
            Self::Forgejo => "forgejo",
            Self::Bitbucket => "bitbucket",
            Self::BitbucketDc => "bitbucket_dc",
            Self::Generic => "generic",
        }
    }

    /// The one that a repository's host is known to be.
    #[must_use]
    pub fn of_host(repo: &RepoUrl) -> Option<Self> {
        match repo.identity().split('/').next()? {
            "github.com" => Some(Self::GitHub),
            "gitlab.com" => Some(Self::GitLab),
            "bitbucket.org" => Some(Self::Bitbucket),
            "codeberg.org" => Some(Self::Forgejo),
            "gitea.com" => Some(Self::Gitea),
            _ => None,
        }
    }
}

impl fmt::Display for Forge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Forge {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|forge| forge.name() == text);
        found.ok_or_else(|| format!("{text:?} is no forge; write one of {}", names()))
    }
}

/// Which builds wait until a maintainer has let them begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// None.
    None,
    /// Those of pull requests from other repositories.
    #[default]
    Forks,
    /// Those of all pull requests.
    PullRequests,
    /// All that a webhook begins.
    All,
}

impl Approval {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Forks, Self::PullRequests, Self::All];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Forks => "forks",
            Self::PullRequests => "pull_requests",
            Self::All => "all",
        }
    }
}

impl fmt::Display for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Approval {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|approval| approval.name() == text);
        found.ok_or_else(|| format!("{text:?} is no way to approve builds; write one of {}", names()))
    }
}

/// `POST /api/v1/projects`: builds of this repository begin by its forge's webhooks from now on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProject {
    /// How agents clone it: over https or ssh.
    pub url: RepoUrl,
    /// Where it lies; known without it for the large public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forge: Option<Forge>,
    /// What its webhooks are signed with; made when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The branch that its HEAD means; learnt from its forge without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<Branch>,
    /// Whether builds of its own branches may have secrets, keep caches and, where the agent agrees, get the Docker
    /// socket. They may unless this says no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted: Option<bool>,
    /// Which of its builds wait for a maintainer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What its repository is fetched with; the agents' keys and credentials without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SetCredentials>,
    /// For how long its builds are kept; as the farm's settings say without it.
    #[serde(default, skip_serializing_if = "ProjectKeeps::is_farms")]
    pub keeps: ProjectKeeps,
    /// Who gets a mail when a branch of it breaks or is fixed: addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mail: Vec<String>,
}

impl NewProject {
    /// A project as it is when nothing else is said.
    #[must_use]
    pub fn new(url: RepoUrl) -> Self {
        Self {
            url,
            forge: None,
            secret: None,
            default_branch: None,
            trusted: None,
            approval: None,
            credentials: None,
            keeps: ProjectKeeps::default(),
            mail: Vec::new(),
        }
    }
}

/// `POST /api/v1/projects/IDENTITY/change`: what is not given stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeProject {
    /// Another way to the same repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<RepoUrl>,
    /// Another kind of server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forge: Option<Forge>,
    /// Another secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Another default branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<Branch>,
    /// See [`NewProject::trusted`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted: Option<bool>,
    /// See [`NewProject::approval`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// Whether its webhooks begin builds at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<bool>,
    /// What its repository is fetched with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SetCredentials>,
    /// For how long its builds are kept.
    #[serde(default, skip_serializing_if = "ProjectKeeps::is_farms")]
    pub keeps: ProjectKeeps,
    /// Others who get a mail when a branch of it breaks or is fixed; nobody of its own when it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<Vec<String>>,
}

/// A project: `GET /api/v1/projects` lists them, `GET /api/v1/projects/IDENTITY` gives one. Its secret is never shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectView {
    /// What all ways to its repository have in common, such as `example.org/a/b`.
    pub identity: String,
    /// How agents clone it, without a password.
    pub url: String,
    /// Where it lies.
    pub forge: Forge,
    /// The branch that its HEAD means, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<Branch>,
    /// See [`NewProject::trusted`].
    pub trusted: bool,
    /// See [`NewProject::approval`].
    pub approval: Approval,
    /// Whether its webhooks begin builds.
    pub allowed: bool,
    /// Where its forge sends its webhooks.
    pub hook_url: String,
    /// When it was added, in milliseconds since 1970.
    pub created_ms: u64,
    /// What its repository is fetched with, where that is not what the agents have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsView>,
    /// For how long its builds are kept, where that is not what the farm's settings say.
    #[serde(default, skip_serializing_if = "ProjectKeeps::is_farms")]
    pub keeps: ProjectKeeps,
    /// What of both holds: without end where nothing is said.
    #[serde(default)]
    pub kept: Keeps,
    /// Who gets a mail when a branch of it breaks or is fixed, beside those whom the farm names. Addresses are shortened,
    /// as in `a…@example.org`, for not everybody who may look here need learn them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mail: Vec<String>,
}

/// What adding a project gives, and nothing later does again.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AddedProject {
    /// The project.
    pub project: ProjectView,
    /// What its webhooks are to be signed with.
    pub secret: String,
}

/// What was done with a project.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RemovedProject {
    /// As a sentence.
    pub message: String,
}

/// One delivery of a webhook: `GET /api/v1/deliveries?project=IDENTITY&before=N&limit=N` gives [`Deliveries`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryView {
    /// Its number.
    pub number: u64,
    /// Of which project.
    pub project: String,
    /// From what kind of server.
    pub forge: Forge,
    /// The forge's word for what happened.
    pub event: String,
    /// The forge's own name for it, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forge_id: Option<String>,
    /// When it came, in milliseconds since 1970.
    pub received_ms: u64,
    /// What came of it: `build #12`, `ignored: …`, `refused: …`, `ping`; absent until that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// The builds that it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub builds: Vec<BuildNumber>,
    /// How often the same came again and did nothing.
    #[serde(default)]
    pub replays: u32,
    /// The one that it repeats, when a person asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redelivers: Option<u64>,
    /// Whether it can be handled once more: what it said is still there.
    #[serde(default)]
    pub redeliverable: bool,
}

/// A page of deliveries, the newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Deliveries {
    /// The deliveries.
    pub deliveries: Vec<DeliveryView>,
    /// Pass as `before` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// What a forge hears: `POST /hooks/FORGE/KEY`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Received {
    /// The delivery's number.
    pub delivery: u64,
    /// What is done with it, or was.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_everywhere() {
        for forge in Forge::ALL {
            assert_eq!(serde_json::to_string(&forge).unwrap(), format!("\"{forge}\""));
            assert_eq!(forge.name().parse::<Forge>(), Ok(forge));
        }
        for approval in Approval::ALL {
            assert_eq!(serde_json::to_string(&approval).unwrap(), format!("\"{approval}\""));
            assert_eq!(approval.name().parse::<Approval>(), Ok(approval));
        }
        assert!("svn".parse::<Forge>().unwrap_err().contains("github, gitlab"));
    }

    #[test]
    fn hosts_that_everybody_knows() {
        for (url, expect) in [
            ("git@github.com:a/b.git", Some(Forge::GitHub)),
            ("https://GitLab.com/a/b/c", Some(Forge::GitLab)),
            ("https://codeberg.org/a/b", Some(Forge::Forgejo)),
            ("https://github.com.evil.example/a/b", None),
            ("/srv/github.com/b", None),
        ] {
            assert_eq!(Forge::of_host(&url.parse().unwrap()), expect, "{url}");
        }
    }
}
