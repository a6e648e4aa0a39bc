//! What jobs are run with on a farm: the settings of an agent, and of the agent in `buildr up`.

use clap::{Args, ValueEnum};
use protocol::BootId;

use super::containers::{ContainerArgs, SocketChoice};
use super::limits::size;
use super::secrets::SecretArgs;
use crate::executor::docker::DockerSettings;
use crate::runner::WorkspaceChoice;

/// What jobs are run with: an agent's, and those of the agent in `buildr up`.
#[derive(Debug, Clone, Default, Args)]
pub struct JobArgs {
    /// How many jobs to run at once [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slots: Option<u32>,

    /// How many containers a slot without a job holds ready for the next one (0: none, and builds begin later)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub standby: u8,

    /// Whether the stages of a job join a network namespace that was made before (0: each has its own made)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub joined_network: u8,

    /// What this agent offers, for jobs that ask for it
    #[arg(long, value_name = "LABEL", value_delimiter = ',')]
    pub labels: Vec<String>,

    /// Who gets the Docker socket, which is root on this machine
    #[arg(long, value_enum, default_value = "trusted")]
    pub docker_socket: SocketChoice,

    /// How the code of a repository comes into a workspace
    #[arg(long, value_enum, default_value = "auto")]
    pub workspace: WorkspaceArg,

    /// Secrets for trusted builds.
    #[command(flatten)]
    pub secrets: SecretArgs,

    /// How containers are run.
    #[command(flatten)]
    pub containers: ContainerArgs,

    /// How room is kept on the disks.
    #[command(flatten)]
    pub disk: DiskArgs,
}

/// How the code of a repository comes into a workspace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum WorkspaceArg {
    /// As an overlay over a kept checkout where this process may mount and the Docker daemon sees that, else as a copy
    #[default]
    Auto,
    /// As an overlay; where that cannot be had nothing is built
    Overlay,
    /// As a copy; nothing is mounted
    Copy,
}

impl From<WorkspaceArg> for WorkspaceChoice {
    fn from(argument: WorkspaceArg) -> Self {
        match argument {
            WorkspaceArg::Auto => Self::Auto,
            WorkspaceArg::Overlay => Self::Overlay,
            WorkspaceArg::Copy => Self::Copy,
        }
    }
}

/// How room is kept on the disks. The default of the type is to leave them alone.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Disk")]
pub struct DiskArgs {
    /// When less than this is free on a disk that jobs use, remove what buildr itself keeps there, the longest unused
    /// first; if that does not help, take no jobs until 2 percent more than this are free (0: never; 20g free are enough in any case)
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=90))]
    pub disk_watermark: u8,

    /// The same when fewer bytes than this are free, such as 512m or 4g, until a quarter more are (0: never)
    #[arg(long, value_name = "SIZE", default_value = "512m", value_parser = size_or_none)]
    pub disk_reserve: u64,

    /// The most that the kept copies of repositories may take together, such as 20g; the longest unused go first
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub mirror_cap: Option<u64>,

    /// Never remove an image, also not one that buildr itself pulled
    #[arg(long)]
    pub keep_images: bool,
}

fn size_or_none(text: &str) -> Result<u64, String> {
    if text.trim() == "0" { Ok(0) } else { size(text) }
}

impl JobArgs {
    /// How many jobs run at once.
    #[must_use]
    pub fn at_once(&self) -> u32 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.slots.unwrap_or(u32::try_from(cores).unwrap_or(1))
    }

    /// What they mean for everything that this life of `owner` makes, as [`ContainerArgs::docker`], and for the disk.
    #[must_use]
    pub fn docker(&self, owner: &str, boot: BootId) -> DockerSettings {
        let mut settings = self.containers.docker(owner, boot);
        settings.disk.reserve = self.disk.disk_reserve / 2;
        // One for each slot.
        settings.namespaces = if self.joined_network > 0 { usize::try_from(self.at_once()).unwrap_or(1) } else { 0 };
        settings
    }
}
