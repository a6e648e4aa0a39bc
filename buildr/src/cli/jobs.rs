//! What jobs are run with on a farm: the settings of an agent, and of the agent in `buildr up`.

use clap::Args;

use super::containers::{ContainerArgs, SocketChoice};

/// What jobs are run with: an agent's, and those of the agent in `buildr up`.
#[derive(Debug, Clone, Default, Args)]
pub struct JobArgs {
    /// How many jobs to run at once [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slots: Option<u32>,

    /// What this agent offers, for jobs that ask for it
    #[arg(long, value_name = "LABEL", value_delimiter = ',')]
    pub labels: Vec<String>,

    /// Who gets the Docker socket, which is root on this machine
    #[arg(long, value_enum, default_value = "trusted")]
    pub docker_socket: SocketChoice,

    /// How containers are run.
    #[command(flatten)]
    pub containers: ContainerArgs,
}
