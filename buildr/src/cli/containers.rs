//! How containers are run: the settings that `buildr run`, an agent and `buildr up` have in common.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use protocol::{BootId, Variable};

use crate::executor::docker::{DockerSettings, Limits};
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
}

impl ContainerArgs {
    /// What they mean for everything that this life of `owner` makes. The daemon and the registries' logins are
    /// found where Docker's own command finds them: `DOCKER_HOST`, `DOCKER_CONFIG`, `~/.docker`.
    #[must_use]
    pub fn docker(&self, owner: &str, boot: BootId) -> DockerSettings {
        let own_config = || std::env::home_dir().map(|home| home.join(".docker"));
        DockerSettings {
            host: std::env::var_os("DOCKER_HOST").and_then(|host| host.into_string().ok()),
            network: self.network.clone(),
            ca_bundle: self.ca_bundle.clone(),
            limits: Limits { memory: self.memory, cpus: self.cpus, pids: self.pids },
            allow_new_privileges: self.allow_new_privileges,
            credentials: std::env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(own_config),
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

/// A size in bytes from `512m`, `4g`, `1048576`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a size; write it like 512m or 4g");
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (digits, shift) = match lower.chars().last() {
        Some('k') => (&lower[..lower.len() - 1], 10),
        Some('m') => (&lower[..lower.len() - 1], 20),
        Some('g') => (&lower[..lower.len() - 1], 30),
        _ => (lower, 0),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).filter(|&bytes| bytes > 0).ok_or_else(bad)
}

fn cpus(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err(format!("{text:?} is not a number of processors; write it like 2 or 1.5")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expect) in
            [("512m", Some(512 << 20)), ("4G", Some(4 << 30)), ("1GiB", Some(1 << 30)), ("7", Some(7))]
        {
            assert_eq!(size(text).ok(), expect, "{text}");
        }
        for text in ["", "g", "-1", "1.5g", "99999999999g", "0"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
