//! How containers are run: the settings that `buildr run`, an agent and `buildr up` have in common.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use protocol::{BootId, Variable};

use super::limits::{LimitArgs, size};
use crate::executor::docker::{DiskLimits, DockerSettings, Limits};
use crate::runner::SocketMode;

/// How containers are run.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Containers")]
pub struct ContainerArgs {
    /// The folder for workspaces; the Docker daemon must see it under the same path [default: in
    /// this program's own folder]
    #[arg(long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,

    /// The network of the containers: bridge, host, none, or the name of one
    #[arg(long, value_name = "NETWORK")]
    pub network: Option<String>,

    /// The runtime by which Docker starts the containers, such as crun; the daemon must know it [default: the daemon's own]
    #[arg(long, value_name = "NAME")]
    pub runtime: Option<String>,

    /// A file of trusted CA certificates, mounted into every container and made known to common programs
    #[arg(long, value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,

    /// The most memory that a container may use, such as 512m or 4g
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,

    /// The most processors that a container may use, such as 1.5
    #[arg(long, value_name = "N", value_parser = cpus)]
    pub cpus: Option<f64>,

    /// The most processes that a container may have
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub pids: u32,

    /// Let programs such as sudo gain privileges within their container
    #[arg(long)]
    pub allow_new_privileges: bool,

    /// With the Docker socket, give stages this user's registry logins too (read-only)
    #[arg(long)]
    pub docker_config: bool,

    /// How long things may take, and how much of the disk.
    #[command(flatten)]
    pub limits: LimitArgs,
}

impl ContainerArgs {
    /// What they mean for everything that this life of `owner` makes. The daemon and the registries' logins are
    /// found where Docker's own command finds them: `DOCKER_HOST`, `DOCKER_TLS_VERIFY`, `DOCKER_CERT_PATH`,
    /// `DOCKER_CONFIG`, `~/.docker`.
    #[must_use]
    pub fn docker(&self, owner: &str, boot: BootId) -> DockerSettings {
        let own_config = || std::env::home_dir().map(|home| home.join(".docker"));
        let credentials = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(own_config);
        let host = std::env::var_os("DOCKER_HOST").and_then(|host| host.into_string().ok());
        let wants_tls = std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|word| !word.is_empty())
            || host.as_deref().is_some_and(|host| host.starts_with("https://"));
        let certificates = std::env::var_os("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| credentials.clone());
        DockerSettings {
            host,
            tls: certificates.filter(|_| wants_tls),
            network: self.network.clone(),
            runtime: self.runtime.clone(),
            ca_bundle: self.ca_bundle.clone(),
            pull: self.limits.pull(),
            disk: DiskLimits { build: self.limits.build_disk, ..DiskLimits::default() },
            limits: Limits { memory: self.memory, cpus: self.cpus, pids: self.pids },
            allow_new_privileges: self.allow_new_privileges,
            credentials,
            docker_config: self.docker_config,
            ..DockerSettings::new(owner, boot.to_string())
        }
    }
}

/// Who gets the Docker socket, which is root on this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum SocketChoice {
    /// Nobody
    Never,
    /// Stages that ask for it, of the repositories in --trusted-repos
    #[default]
    Trusted,
    /// Every stage, asked or not
    Always,
}

impl From<SocketChoice> for SocketMode {
    fn from(choice: SocketChoice) -> Self {
        match choice {
            SocketChoice::Never => Self::Never,
            SocketChoice::Trusted => Self::Trusted,
            SocketChoice::Always => Self::Always,
        }
    }
}

/// This process's variables, as far as they are text.
#[must_use]
pub fn own_environment() -> Vec<Variable> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some(Variable::new(name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn cpus(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err(format!("{text:?} is not a number of processors; write it like 2 or 1.5")),
    }
}
