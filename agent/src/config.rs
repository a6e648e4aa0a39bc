//! What an agent is told: flags, variables (`BUILDR_AGENT_*`) and `agent.toml`, made into what it means.

use std::path::PathBuf;
use std::time::Duration;

use buildr::cli::containers::own_environment;
use buildr::cli::jobs::JobArgs;
use buildr::cli::secrets::SecretError;
use buildr::git::ClonePolicy;
use buildr::process::ProcessError;
use buildr::process::folders;
use buildr::runner::{SocketPolicy, TimeLimits};
use clap::{Parser, ValueEnum};
use protocol::identity::JoinToken;
use protocol::{AgentId, LabelSet, RepoGlob, Variable};

/// Take jobs from a buildr farm and run them in containers
///
/// Every option can also be given as a variable, BUILDR_AGENT_SOME_OPTION, or as a key of agent.toml (some_option) in
/// /etc/buildr or ~/.config/buildr.
#[derive(Debug, Parser)]
#[command(name = "buildr-agent", version)]
pub struct Cli {
    /// The message broker
    #[arg(long, value_name = "URL", default_value = "amqp://guest:guest@127.0.0.1:5672")]
    pub amqp: String,

    /// A file of CA certificates to check an amqps:// broker's with, besides the system's
    #[arg(long, value_name = "FILE")]
    pub amqp_ca: Option<PathBuf>,

    /// The agent's name in the farm [default: made of the machine's name, and kept]
    #[arg(long, value_name = "NAME")]
    pub name: Option<AgentId>,

    /// Build what is published by hand without any coordinator
    #[arg(long, value_enum, default_value = "auto")]
    pub standalone: Standalone,

    /// The farm's join token, by which the coordinator takes this agent
    #[arg(long, value_name = "TOKEN")]
    pub join_token: Option<String>,

    /// A file with the farm's join token
    #[arg(long, value_name = "FILE", conflicts_with = "join_token")]
    pub join_token_file: Option<PathBuf>,

    /// The agent's own folder [default: /var/lib/buildr/agent for root, else ~/.local/state/buildr/agent]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Build repositories that are folders of this machine (file:// and paths) too
    #[arg(long)]
    pub local_repos: bool,

    /// Repositories (globs over their URLs) whose stages may have the Docker socket
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    pub trusted_repos: Vec<RepoGlob>,

    /// How long a first SIGTERM or Ctrl-C waits for running jobs, in seconds, before it cancels them
    #[arg(long, value_name = "SECONDS")]
    pub drain_timeout: Option<u64>,

    /// A file of settings instead of agent.toml in the usual places
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What jobs are run with.
    #[command(flatten)]
    pub jobs: JobArgs,
}

/// How much room there must be on a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// In percent of the disk; 0 never matters.
    pub percent: u8,
    /// In bytes; 0 never matters.
    pub bytes: u64,
}

/// Whether an agent builds without a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Standalone {
    /// Where there is no coordinator and, as far as this agent knows, never was
    Auto,
    /// Never: it waits for a coordinator
    Never,
    /// Always: it heeds no coordinator
    Always,
}

/// What an agent is to do.
#[derive(Debug, Clone)]
pub struct Config {
    /// How many jobs at once.
    pub slots: u32,
    /// Whether a slot without a job has a container stand ready for the next one.
    pub standby: bool,
    /// What it offers.
    pub labels: LabelSet,
    /// Whether it builds without a coordinator.
    pub standalone: Standalone,
    /// The farm's join token.
    pub join: Option<JoinToken>,
    /// Whether folders of its own machine are cloned.
    pub local_repos: bool,
    /// Who gets the Docker socket.
    pub socket: SocketPolicy,
    /// Its owner's secrets, for jobs that are trusted.
    pub secrets: Vec<Variable>,
    /// How long the parts of a job may take.
    pub times: TimeLimits,
    /// How long a clone may stand still.
    pub clone_stall: Duration,
    /// Its own environment, of which a manifest may ask for some.
    pub environment: Vec<Variable>,
    /// How much room there must be on its disks for a job to be taken.
    pub mark: Mark,
    /// How many bytes its mirrors may take together.
    pub mirror_cap: Option<u64>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A label is none.
    #[error("--labels: {0}")]
    Labels(#[from] protocol::id::InvalidName),
    /// The token's file cannot be read.
    #[error("--join-token-file {}: {source}", path.display())]
    JoinToken {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of secrets cannot be used.
    #[error("--secret-file: {0}")]
    Secrets(#[from] SecretError),
    /// A folder is missing.
    #[error(transparent)]
    Folder(#[from] ProcessError),
}

impl Config {
    /// An agent of a coordinator that knows it, which clones nothing from its own disk.
    ///
    /// # Errors
    /// When a label is none, or a file of secrets cannot be used.
    pub fn new(jobs: &JobArgs, trusted_repos: Vec<RepoGlob>) -> Result<Self, ConfigError> {
        Ok(Self {
            slots: jobs.at_once(),
            standby: jobs.standby > 0,
            labels: LabelSet::new(jobs.labels.iter().cloned())?,
            standalone: Standalone::Never,
            join: None,
            local_repos: false,
            socket: SocketPolicy { mode: jobs.docker_socket.into(), trusted_repos },
            secrets: jobs.secrets.read()?,
            times: jobs.containers.limits.times(),
            clone_stall: jobs.containers.limits.clone_stall(),
            environment: own_environment(),
            mark: Mark { percent: jobs.disk.disk_watermark, bytes: jobs.disk.disk_reserve },
            mirror_cap: jobs.disk.mirror_cap,
        })
    }

    /// How many stages of one job run at once: its share of the machine's cores.
    pub(crate) fn stage_parallelism(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let slots = usize::try_from(self.slots).unwrap_or(usize::MAX);
        cores.checked_div(slots).unwrap_or(1).max(1)
    }

    pub(crate) fn clone_policy(&self) -> ClonePolicy {
        ClonePolicy { local_repos: self.local_repos, stall: self.clone_stall, ..ClonePolicy::default() }
    }
}

impl Cli {
    /// What it means.
    ///
    /// # Errors
    /// When something in it cannot be used.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let token = match &self.join_token_file {
            Some(path) => {
                let read = std::fs::read_to_string(path);
                Some(read.map_err(|source| ConfigError::JoinToken { path: path.clone(), source })?)
            }
            None => self.join_token.clone(),
        };
        let join = token.map(|text| match text.parse::<JoinToken>() {
            Ok(token) => token,
            Err(never) => match never {},
        });
        Ok(Config {
            standalone: self.standalone,
            join,
            local_repos: self.local_repos,
            ..Config::new(&self.jobs, self.trusted_repos.clone())?
        })
    }

    /// The agent's own folder.
    ///
    /// # Errors
    /// When the user has no home and none was given.
    pub fn state_folder(&self) -> Result<PathBuf, ConfigError> {
        Ok(match &self.state_dir {
            Some(folder) => folder.clone(),
            None => folders::state("agent")?,
        })
    }

    /// How long to wait for running jobs.
    #[must_use]
    pub fn drain_timeout(&self) -> Option<Duration> {
        self.drain_timeout.map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
