//! What this machine's owner decided about containers: read by `config.rs` and `cli/`, used by this room.

use std::path::PathBuf;
use std::time::Duration;

/// How containers are made on this machine, and whose they are.
#[derive(Debug, Clone)]
pub struct DockerSettings {
    /// The daemon's address as `DOCKER_HOST` has it; without one the usual socket.
    pub host: Option<String>,
    /// Whose things these are: the agent's name, or `run` on a laptop. A label on all that is made.
    pub owner: String,
    /// This life of the owner; what another life of the same owner left is swept.
    pub boot: String,
    /// The network of the containers: `bridge`, `host`, `none` or a network's name; without one the daemon's own.
    pub network: Option<String>,
    /// A file of root certificates that every container trusts.
    pub ca_bundle: Option<PathBuf>,
    /// What one container may use.
    pub limits: Limits,
    /// What one job may use of the disk, and what all of them leave of it.
    pub disk: DiskLimits,
    /// How long pulling an image may take.
    pub pull: PullLimits,
    /// How long a stage's processes have between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Whether processes may gain rights by set-user-id programs; `sudo` needs it.
    pub allow_new_privileges: bool,
    /// The folder with Docker's own `config.json`: the credentials for pulls.
    pub credentials: Option<PathBuf>,
    /// Whether a stage that has the Docker socket sees that folder too, so that `docker push` works.
    pub docker_config: bool,
    /// Where it is written down which images were pulled. Without it none is ever removed to make room.
    pub pulled_images: Option<PathBuf>,
}

/// What one job may use of the disk, and what all of them leave of it. Both are looked at again and again, not held
/// by the file system: a burst between two looks goes beyond them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskLimits {
    /// Bytes that one job may take: its workspace, what its containers write, the image that `prepare` makes.
    pub build: Option<u64>,
    /// Bytes that stay free where workspaces lie; when it is less, the largest job is ended. 0: nobody looks.
    pub reserve: u64,
}

/// How long pulling an image may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullLimits {
    /// All of it.
    pub whole: Duration,
    /// Without any progress.
    pub stall: Duration,
}

impl Default for PullLimits {
    fn default() -> Self {
        Self { whole: Duration::from_secs(30 * 60), stall: Duration::from_secs(2 * 60) }
    }
}

/// What one container may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of memory, swap included; without it as much as the machine has.
    pub memory: Option<u64>,
    /// Processor cores, such as 1.5; without it all.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub pids: u32,
}

impl DockerSettings {
    /// The settings that nobody changed.
    #[must_use]
    pub fn new(owner: impl Into<String>, boot: impl Into<String>) -> Self {
        Self {
            host: None,
            owner: owner.into(),
            boot: boot.into(),
            network: None,
            ca_bundle: None,
            disk: DiskLimits::default(),
            limits: Limits { memory: None, cpus: None, pids: 4096 },
            pull: PullLimits::default(),
            grace: Duration::from_secs(10),
            allow_new_privileges: false,
            credentials: None,
            docker_config: false,
            pulled_images: None,
        }
    }

    /// The daemon's socket on this machine, when it is one.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        match self.host.as_deref() {
            None | Some("") => Some(PathBuf::from("/var/run/docker.sock")),
            Some(host) => host.strip_prefix("unix://").map(PathBuf::from),
        }
    }
}
