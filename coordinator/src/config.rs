//! What the coordinator can be told: flag > `BUILDR_COORDINATOR_*` > `coordinator.toml` > default.

mod mail;
mod args;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use buildr::cli::jobs::JobArgs;
use protocol::api::Keeps;
use protocol::control::BEACON_EVERY;
use protocol::identity::{JoinToken, PublicKey};
use protocol::{AgentId, ClaimId, RepoGlob};

pub use args::{ConfigError, read};

use crate::mail::MailSettings;

/// All that the coordinator was told, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where its agents are.
    pub farm: Farm,
    /// Where the API and the pages are served.
    pub listen: SocketAddr,
    /// Where the database, the logs, the key and the token lie.
    pub state_dir: PathBuf,
    /// How others reach the API: its host is accepted in requests.
    pub public_url: Option<String>,
    /// Who may look at builds from elsewhere.
    pub reading: Reading,
    /// How an agent that was never seen becomes one of the farm.
    pub enrolment: Enrolment,
    /// Agents that belong to the farm whatever `enrolment` says: those in this process.
    pub known_agents: Vec<(AgentId, PublicKey)>,
    /// Claims that the last life of an agent in this process held and did not bring to an end. That life is surely over.
    pub interrupted: Vec<ClaimId>,
    /// Whether repositories on the agents' own disks are built.
    pub local_repos: LocalRepos,
    /// Injected jobs of these repositories are trusted.
    pub trusted_repos: Vec<RepoGlob>,
    /// What the farm's secrets are sealed with in the store.
    pub secrets_key: SecretsKey,
    /// The longest archive of one stage's artifacts, in bytes.
    pub artifact_limit: u64,
    /// Which builds are cancelled by a newer one of the same branch, where the manifest does not say.
    pub supersede: Supersede,
    /// Who hears when a branch breaks or is fixed; nobody without it.
    pub notify: Option<Notify>,
    /// How mail is sent when a branch breaks or is fixed; nobody gets any without it.
    pub mail: Option<MailSettings>,
    /// For how long builds and what they leave are kept.
    pub keeps: Keeps,
    /// How long a job survives the silence of its agent.
    pub lease: Duration,
    /// How often an agent gives a sign of life.
    pub heartbeat: Duration,
    /// How often the coordinator does.
    pub beacon: Duration,
    /// How long the end of the program waits for what still runs; without it, for as long as that takes.
    pub drain_timeout: Option<Duration>,
}

/// Where the agents are.
#[derive(Clone)]
pub enum Farm {
    /// In this process, where jobs are run as these say.
    Here(Box<JobArgs>),
    /// Beyond a message broker.
    Broker {
        /// `amqp://user:password@host:port/vhost`
        url: String,
        /// Certificates to trust besides the system's.
        ca_file: Option<PathBuf>,
    },
}

impl fmt::Debug for Farm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(jobs) => f.debug_tuple("Here").field(jobs).finish(),
            // The URL holds a password.
            Self::Broker { ca_file, .. } => f.debug_struct("Broker").field("ca_file", ca_file).finish_non_exhaustive(),
        }
    }
}

/// Who hears when a branch breaks or is fixed.
#[derive(Clone)]
pub struct Notify {
    /// Where it is said.
    pub url: String,
    /// What it is signed with.
    pub key: Vec<u8>,
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Such addresses often hold what should not be seen.
        f.debug_struct("Notify").finish_non_exhaustive()
    }
}

/// Who may look at builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Whoever is on this machine, and whoever has the token.
    Guarded,
    /// Everybody who reaches the listener.
    Public,
}

/// How an agent that was never seen becomes one of the farm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolment {
    /// A person approves it.
    ByApproval,
    /// Who proves to have the join token belongs to it; a person approves others.
    ByToken(JoinToken),
    /// The first key under a name is taken: for a first try among friends.
    Open,
}

/// Where the key of the farm's secrets comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretsKey {
    /// Made in the state folder, when it is first needed.
    OfState,
    /// This file.
    File(PathBuf),
    /// This text.
    Text(KeyText),
}

/// The text of a key, which no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(String);

impl KeyText {
    /// A key as it was given.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText")
    }
}

/// Whether `file://` and paths are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalRepos {
    /// They are refused here; the agents decide for themselves once more.
    Refused,
    /// They are passed on; the agents decide.
    Allowed,
}

/// Which builds are cancelled by a newer one of the same branch or pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supersede {
    /// None.
    Never,
    /// Those of pull requests.
    PullRequests,
    /// All.
    Always,
}

/// The port that `buildr` looks at unless told otherwise.
pub(crate) const DEFAULT_PORT: u16 = 8700;

impl Config {
    /// Everything at its default, with agents in this process and the state in `state_dir`.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            farm: Farm::Here(Box::default()),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            state_dir: state_dir.into(),
            public_url: None,
            reading: Reading::Guarded,
            enrolment: Enrolment::ByApproval,
            known_agents: Vec::new(),
            interrupted: Vec::new(),
            local_repos: LocalRepos::Refused,
            trusted_repos: Vec::new(),
            secrets_key: SecretsKey::OfState,
            artifact_limit: 2 << 30,
            supersede: Supersede::PullRequests,
            notify: None,
            mail: None,
            keeps: Keeps::default(),
            lease: Duration::from_secs(60),
            heartbeat: Duration::from_secs(15),
            beacon: BEACON_EVERY,
            drain_timeout: Some(Duration::from_secs(30)),
        }
    }

    /// How long an agent that was told to end a job may take for it, before the job is ended without it. It covers
    /// the grace of the script, `after` and the clean-up.
    pub(crate) fn cancel_patience(&self) -> Duration {
        self.lease * 3
    }
}
