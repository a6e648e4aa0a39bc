//! What the coordinator can be told: flag > `BUILDR_COORDINATOR_*` > `coordinator.toml` > default.

mod repo_glob;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use buildr::process::{ProcessError, folders, settings};
use clap::{Parser, Subcommand};
use protocol::AgentId;
use protocol::control::BEACON_EVERY;
use protocol::identity::{JoinToken, PublicKey};
use serde::Deserialize;

use repo_glob::InvalidGlob;
pub use repo_glob::RepoGlob;

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
    /// Whether repositories on the agents' own disks are built.
    pub local_repos: LocalRepos,
    /// Injected jobs of these repositories are trusted.
    pub trusted_repos: Vec<RepoGlob>,
    /// How long a job survives the silence of its agent.
    pub lease: Duration,
    /// How often an agent gives a sign of life.
    pub heartbeat: Duration,
    /// How often the coordinator does.
    pub beacon: Duration,
    /// How long the end of the program waits for what still runs.
    pub drain_timeout: Duration,
}

/// Where the agents are.
#[derive(Debug, Clone)]
pub enum Farm {
    /// In this process.
    Here(Up),
    /// Beyond a message broker, by the URL `amqp://user:password@host:port/vhost`.
    Broker(String),
}

/// What `buildr up` was told about the agent in this process.
#[derive(Debug, Clone, Default)]
pub struct Up {
    /// How many jobs run at once; one per core without it.
    pub slots: Option<u32>,
    /// Where builds are checked out.
    pub work_dir: Option<PathBuf>,
    /// The network of the stages: `bridge`, `host` or a network's name.
    pub network: Option<String>,
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

/// Whether `file://` and paths are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalRepos {
    /// They are refused here; the agents decide for themselves once more.
    Refused,
    /// They are passed on; the agents decide.
    Allowed,
}

/// The port that `buildr` looks at unless told otherwise.
pub(crate) const DEFAULT_PORT: u16 = 8700;

impl Config {
    /// Everything at its default, with agents in this process and the state in `state_dir`.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            farm: Farm::Here(Up::default()),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            state_dir: state_dir.into(),
            public_url: None,
            reading: Reading::Guarded,
            enrolment: Enrolment::ByApproval,
            known_agents: Vec::new(),
            local_repos: LocalRepos::Refused,
            trusted_repos: Vec::new(),
            lease: Duration::from_secs(60),
            heartbeat: Duration::from_secs(15),
            beacon: BEACON_EVERY,
            drain_timeout: Duration::from_secs(30),
        }
    }

    /// How long an agent that was told to end a job may take for it, before the job is ended without it. It covers
    /// the grace of the script, `after` and the clean-up.
    pub(crate) fn cancel_patience(&self) -> Duration {
        self.lease * 3
    }
}

/// The coordinator of a buildr farm.
///
/// It takes requests for builds, offers their jobs to the agents through RabbitMQ, and keeps what comes of them:
/// states, logs, outcomes. `buildr submit`, `buildr builds` and the others talk to it.
///
/// Every option can also stand in the environment as BUILDR_COORDINATOR_<OPTION>, and in /etc/buildr/coordinator.toml
/// or ~/.config/buildr/coordinator.toml, with `_` for `-`.
#[derive(Debug, Parser)]
#[command(name = "buildr-coordinator", version, about, long_about, max_term_width = 100)]
pub struct Args {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A whole farm in this process: the coordinator and one agent, without RabbitMQ.
    Up {
        /// How many jobs run at once [default: one per core]
        #[arg(long, value_name = "N", env = "BUILDR_COORDINATOR_SLOTS", value_parser = clap::value_parser!(u32).range(1..=1024))]
        slots: Option<u32>,
        /// Where builds are checked out; Docker must be able to mount it
        #[arg(long, value_name = "DIR", env = "BUILDR_COORDINATOR_WORK_DIR")]
        work_dir: Option<PathBuf>,
        /// The network of the stages: bridge, host, or a network's name
        #[arg(long, value_name = "NAME", env = "BUILDR_COORDINATOR_NETWORK")]
        network: Option<String>,
    },
}

/// Each option once: as a flag, in the environment, and as a key of the file.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// Read settings from this file alone
    #[arg(long, value_name = "FILE", env = "BUILDR_COORDINATOR_CONFIG", global = true)]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// RabbitMQ, as amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://…
    #[arg(long, value_name = "URL", env = "BUILDR_COORDINATOR_AMQP", hide_env_values = true)]
    amqp: Option<String>,
    /// Where the API and the pages are served [default: 127.0.0.1:8700]
    #[arg(long, value_name = "ADDRESS", env = "BUILDR_COORDINATOR_LISTEN", global = true)]
    listen: Option<SocketAddr>,
    /// Where database, logs, key and token lie [default: /var/lib/buildr/coordinator for root, else
    /// ~/.local/state/buildr/coordinator]
    #[arg(long, value_name = "DIR", env = "BUILDR_COORDINATOR_STATE_DIR", global = true)]
    state_dir: Option<PathBuf>,
    /// How others reach the API, such as https://ci.example.org
    #[arg(long, value_name = "URL", env = "BUILDR_COORDINATOR_PUBLIC_URL", global = true)]
    public_url: Option<String>,
    /// Let everybody who reaches the listener look at builds; starting them needs the token all the same
    #[arg(long, env = "BUILDR_COORDINATOR_PUBLIC_READ", global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    public_read: Option<bool>,
    /// Take any agent: the first key under a name is that agent's from then on. For a first try
    #[arg(long, env = "BUILDR_COORDINATOR_OPEN_ENROLMENT", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", conflicts_with_all = ["join_token", "join_token_file"])]
    open_enrolment: Option<bool>,
    /// Take agents that were started with the same token; better in a file or in the environment
    #[arg(long, value_name = "TOKEN", env = "BUILDR_COORDINATOR_JOIN_TOKEN", hide_env_values = true)]
    join_token: Option<String>,
    /// Read the join token from this file
    #[arg(
        long,
        value_name = "FILE",
        env = "BUILDR_COORDINATOR_JOIN_TOKEN_FILE",
        conflicts_with = "join_token"
    )]
    join_token_file: Option<PathBuf>,
    /// Pass on repositories by path and file://, which lie on the agents' own disks [default: only for `up` on
    /// loopback]
    #[arg(long, env = "BUILDR_COORDINATOR_LOCAL_REPOS", global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    local_repos: Option<bool>,
    /// Trust jobs that were published by hand for these repositories; may be given more than once. `*` stands for
    /// text without `/`, `**` for any
    #[arg(
        long = "trusted-repo",
        alias = "trusted-repos",
        value_name = "GLOB",
        env = "BUILDR_COORDINATOR_TRUSTED_REPOS",
        value_delimiter = ',',
        global = true
    )]
    trusted_repos: Vec<String>,
    /// Seconds that a job survives the silence of its agent [default: 60]
    #[arg(long, value_name = "SECONDS", env = "BUILDR_COORDINATOR_LEASE_SECONDS", hide = true, global = true)]
    lease_seconds: Option<u64>,
    /// Seconds between an agent's signs of life [default: 15]
    #[arg(long, value_name = "SECONDS", env = "BUILDR_COORDINATOR_HEARTBEAT_SECONDS", hide = true, global = true)]
    heartbeat_seconds: Option<u64>,
    /// Seconds between the coordinator's signs of life [default: 15]
    #[arg(long, value_name = "SECONDS", env = "BUILDR_COORDINATOR_BEACON_SECONDS", hide = true, global = true)]
    beacon_seconds: Option<u64>,
    /// Seconds that the end of the program waits for what still runs [default: 30; `up`: until its jobs are over]
    #[arg(long, value_name = "SECONDS", env = "BUILDR_COORDINATOR_DRAIN_TIMEOUT", global = true)]
    drain_timeout: Option<u64>,
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or folder.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Nothing says where the agents are.
    #[error(
        "nothing says where the agents are: name RabbitMQ with --amqp amqp://USER:PASSWORD@HOST, or run a farm in one process with `up`"
    )]
    NoFarm,
    /// Both ways at once.
    #[error("`up` runs its agent in this process and needs no RabbitMQ; leave out --amqp, or leave out `up`")]
    TwoFarms,
    /// Two ways of enrolment at once.
    #[error("open enrolment and a join token are both set; open enrolment would let in agents without the token")]
    TwoEnrolments,
    /// A pattern for repositories.
    #[error("trusted_repos: {0}")]
    Glob(String),
    /// A join token that anybody could guess.
    #[error("the join token has {0} characters; use 16 or more, such as from `openssl rand -hex 16`")]
    ShortToken(usize),
    /// The file with the join token.
    #[error("the join token's file {path} cannot be read: {source}")]
    TokenFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Times that do not fit together.
    #[error("a lease of {lease_s} s is too short for signs of life every {heartbeat_s} s; make it three times as long")]
    ShortLease {
        /// The lease in seconds.
        lease_s: u64,
        /// The heartbeat in seconds.
        heartbeat_s: u64,
    },
    /// A time of nothing.
    #[error("lease, heartbeat and beacon need at least one second")]
    NoTime,
}

impl Args {
    /// Joins flags and environment with the file and the defaults.
    ///
    /// # Errors
    /// Says which setting is wrong and what to write instead.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let file = settings::settings("coordinator", self.options.config.as_deref())?;
        let options = self.options.or(file);
        let farm = farm(self.command, options.amqp.clone())?;
        let state_dir = match &options.state_dir {
            Some(folder) => folder.clone(),
            None => folders::state("coordinator")?,
        };
        options.into_config(farm, state_dir)
    }
}

fn farm(command: Option<Command>, amqp: Option<String>) -> Result<Farm, ConfigError> {
    match (command, amqp) {
        (None, None) => Err(ConfigError::NoFarm),
        (None, Some(url)) => Ok(Farm::Broker(url)),
        (Some(Command::Up { .. }), Some(_)) => Err(ConfigError::TwoFarms),
        (Some(Command::Up { slots, work_dir, network }), None) => Ok(Farm::Here(Up { slots, work_dir, network })),
    }
}

impl Options {
    /// What is not said here is taken from `file`.
    fn or(self, file: Self) -> Self {
        let trusted_repos = if self.trusted_repos.is_empty() { file.trusted_repos } else { self.trusted_repos };
        // A way of enrolment on the command line replaces all that the file says about it.
        let enrolment_said = self.open_enrolment.is_some() || self.join_token.is_some() || self.join_token_file.is_some();
        let from = |own, file| if enrolment_said { own } else { file };
        Self {
            config: self.config,
            amqp: self.amqp.or(file.amqp),
            listen: self.listen.or(file.listen),
            state_dir: self.state_dir.or(file.state_dir),
            public_url: self.public_url.or(file.public_url),
            public_read: self.public_read.or(file.public_read),
            open_enrolment: if enrolment_said { self.open_enrolment } else { file.open_enrolment },
            join_token: from(self.join_token, file.join_token),
            join_token_file: if enrolment_said { self.join_token_file } else { file.join_token_file },
            local_repos: self.local_repos.or(file.local_repos),
            trusted_repos,
            lease_seconds: self.lease_seconds.or(file.lease_seconds),
            heartbeat_seconds: self.heartbeat_seconds.or(file.heartbeat_seconds),
            beacon_seconds: self.beacon_seconds.or(file.beacon_seconds),
            drain_timeout: self.drain_timeout.or(file.drain_timeout),
        }
    }

    fn into_config(self, farm: Farm, state_dir: PathBuf) -> Result<Config, ConfigError> {
        let default = Config::new(state_dir);
        let listen = self.listen.unwrap_or(default.listen);
        let is_up = matches!(farm, Farm::Here(_));
        let local = self.local_repos.unwrap_or(is_up && listen.ip().is_loopback());
        let seconds = |given: Option<u64>, default| given.map_or(default, Duration::from_secs);
        // An agent in this process works for people who wait at the terminal: it drains as long as it takes.
        let drain = if is_up { Duration::from_secs(365 * 24 * 3600) } else { default.drain_timeout };
        let config = Config {
            farm,
            listen,
            enrolment: enrolment(self.open_enrolment, self.join_token, self.join_token_file)?,
            reading: if self.public_read == Some(true) { Reading::Public } else { Reading::Guarded },
            public_url: self.public_url,
            local_repos: if local { LocalRepos::Allowed } else { LocalRepos::Refused },
            trusted_repos: globs(&self.trusted_repos)?,
            lease: seconds(self.lease_seconds, default.lease),
            heartbeat: seconds(self.heartbeat_seconds, default.heartbeat),
            beacon: seconds(self.beacon_seconds, default.beacon),
            drain_timeout: seconds(self.drain_timeout, drain),
            ..default
        };
        check_times(&config)?;
        Ok(config)
    }
}

fn enrolment(
    open: Option<bool>,
    token: Option<String>,
    token_file: Option<PathBuf>,
) -> Result<Enrolment, ConfigError> {
    let token = match token_file {
        Some(path) => match std::fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(source) => return Err(ConfigError::TokenFile { path, source }),
        },
        None => token,
    };
    match (open == Some(true), token) {
        (true, Some(_)) => Err(ConfigError::TwoEnrolments),
        (true, None) => Ok(Enrolment::Open),
        (false, None) => Ok(Enrolment::ByApproval),
        (false, Some(token)) => match token.trim().len() {
            length @ 0..16 => Err(ConfigError::ShortToken(length)),
            _ => {
                let Ok(token) = token.parse::<JoinToken>();
                Ok(Enrolment::ByToken(token))
            }
        },
    }
}

fn globs(texts: &[String]) -> Result<Vec<RepoGlob>, ConfigError> {
    let parse = |text: &String| text.parse().map_err(|error: InvalidGlob| ConfigError::Glob(error.to_string()));
    texts.iter().map(parse).collect()
}

fn check_times(config: &Config) -> Result<(), ConfigError> {
    if [config.lease, config.heartbeat, config.beacon].iter().any(Duration::is_zero) {
        return Err(ConfigError::NoTime);
    }
    if config.lease < config.heartbeat * 3 {
        let (lease_s, heartbeat_s) = (config.lease.as_secs(), config.heartbeat.as_secs());
        return Err(ConfigError::ShortLease { lease_s, heartbeat_s });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(arguments: &[&str], file: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coordinator.toml");
        std::fs::write(&path, file).unwrap();
        let fixed = ["buildr-coordinator", "--config", path.to_str().unwrap(), "--state-dir", "/s"];
        Args::try_parse_from(fixed.iter().chain(arguments)).unwrap().resolve()
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file = "amqp = 'amqp://file'\nlisten = '127.0.0.1:1'\nlease_seconds = 90\ntrusted_repos = ['https://e.org/*']";
        let config = resolve(&["--listen", "127.0.0.1:2"], file).unwrap();
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.lease.as_secs(), 90);
        assert_eq!(config.trusted_repos.len(), 1);
        assert!(matches!(config.farm, Farm::Broker(url) if url == "amqp://file"));
        let config = resolve(&["--open-enrolment", "--amqp", "amqp://x"], "join_token = '0123456789abcdef'").unwrap();
        assert_eq!(config.enrolment, Enrolment::Open, "the file's way of enrolment is replaced");
    }

    #[test]
    fn local_repositories_are_built_by_up_on_loopback_alone() {
        for (arguments, expect) in [
            (&["up"][..], LocalRepos::Allowed),
            (&["up", "--listen", "0.0.0.0:8700"], LocalRepos::Refused),
            (&["up", "--local-repos=false"], LocalRepos::Refused),
            (&["--amqp", "amqp://x"], LocalRepos::Refused),
            (&["--amqp", "amqp://x", "--local-repos"], LocalRepos::Allowed),
        ] {
            assert_eq!(resolve(arguments, "").unwrap().local_repos, expect, "{arguments:?}");
        }
    }

    #[track_caller]
    fn check_refused(arguments: &[&str], file: &str, expect: &str) {
        let error = resolve(arguments, file).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expect), "{arguments:?} {file:?}: {error}");
    }

    #[test]
    fn what_is_refused_says_what_to_write() {
        check_refused(&[], "", "--amqp");
        check_refused(&["up"], "amqp = 'amqp://x'", "leave out");
        check_refused(&["up"], "open_enrolment = true\njoin_token = '0123456789abcdef'", "both set");
        check_refused(&["up"], "join_token = 'short'", "16 or more");
        check_refused(&["up", "--lease-seconds", "20"], "", "three times");
        check_refused(&["up", "--heartbeat-seconds", "0"], "", "at least one second");
        check_refused(&["up", "--trusted-repo", "a b"], "", "is no pattern");
        check_refused(&["up", "--join-token-file", "/does/not/exist"], "", "cannot be read");
        check_refused(&["up"], "lisen = 3", "unknown field `lisen`");
    }
}
