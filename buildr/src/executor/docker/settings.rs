//! What this machine's owner decided about containers: read by `config.rs` and `cli/`, used by this room.

use std::path::PathBuf;
use std::time::Duration;

use protocol::plan::Resources;

use super::super::AFTER_TIMEOUT;
use super::powers::Powers;

/// How containers are made on this machine, and whose they are.
#[derive(Debug, Clone)]
pub struct DockerSettings {
    /// The daemon's address as `DOCKER_HOST` has it; without one the usual socket.
    pub host: Option<String>,
    /// The folder with the certificates (`ca.pem`, `cert.pem`, `key.pem`) by which a daemon over TCP is reached; without
    /// it in the clear.
    pub tls: Option<PathBuf>,
    /// The program by which a daemon over ssh is reached.
    pub ssh: PathBuf,
    /// Whose things these are: the agent's name, or `run` on a laptop. A label on all that is made.
    pub owner: String,
    /// This life of the owner; what another life of the same owner left is swept.
    pub boot: String,
    /// The network of the containers: `bridge`, `host`, `none` or a network's name; without one the daemon's own.
    pub network: Option<String>,
    /// The most network namespaces that are kept for stages to join, in place of one for each stage: 0 keeps none.
    pub namespaces: usize,
    /// The runtime by which the daemon starts containers, such as `crun`; without one its own.
    pub runtime: Option<String>,
    /// A file of root certificates that every container trusts.
    pub ca_bundle: Option<PathBuf>,
    /// What one container may use.
    pub limits: Limits,
    /// What one job may use of the disk, and what all of them leave of it.
    pub disk: DiskLimits,
    /// How long pulling an image may take.
    pub pull: PullLimits,
    /// Whether nothing is pulled: what is not on the daemon's disk is an error.
    pub offline: bool,
    /// How long a stage's processes have between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// How long what follows a stage's script may take, each part.
    pub after: Duration,
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

/// What one container gets, of what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowed {
    /// Bytes.
    pub(super) memory: Option<u64>,
    /// Thousandths of a core.
    pub(super) cpu_milli: Option<u64>,
    /// Processes and threads.
    pub(super) pids: Option<u64>,
}

impl Limits {
    /// The less of what is asked for and what one may have, as far as the daemon can hold anybody to it.
    pub(super) fn within(&self, asked: Resources, powers: &Powers) -> Allowed {
        let less = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the nearest there is")]
        let cpus = self.cpus.map(|cpus| (cpus * 1e3) as u64);
        // A daemon refuses to give more cores than it has.
        let asked_cpus = less(asked.cpu_milli, asked.cpu_milli.and(powers.cores).map(|cores| cores * 1000));
        Allowed {
            memory: less(asked.memory_bytes, self.memory).filter(|_| powers.memory),
            cpu_milli: less(asked_cpus, cpus).filter(|_| powers.cpus),
            pids: less(asked.pids, Some(u64::from(self.pids))).filter(|_| powers.pids),
        }
    }
}

impl DockerSettings {
    /// The settings that nobody changed.
    #[must_use]
    pub fn new(owner: impl Into<String>, boot: impl Into<String>) -> Self {
        Self {
            host: None,
            tls: None,
            ssh: PathBuf::from("ssh"),
            owner: owner.into(),
            boot: boot.into(),
            network: None,
            namespaces: 0,
            runtime: None,
            ca_bundle: None,
            disk: DiskLimits::default(),
            limits: Limits { memory: None, cpus: None, pids: 4096 },
            pull: PullLimits::default(),
            offline: false,
            grace: Duration::from_secs(10),
            after: AFTER_TIMEOUT,
            allow_new_privileges: false,
            credentials: None,
            docker_config: false,
            pulled_images: None,
        }
    }

    /// The network that the owner has named, which a container is on beside that of its services.
    pub(super) fn further_network(&self) -> Option<&str> {
        self.network.as_deref().filter(|name| !matches!(*name, "" | "bridge" | "default" | "host" | "none"))
    }

    /// Whether the network of this machine's setting is one whose namespaces can be shared: not one with names of its
    /// own, which are each container's.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.network.as_deref(), None | Some("" | "bridge" | "default" | "none"))
    }

    /// Whether containers reach nothing outside.
    pub(super) fn is_shut(&self) -> bool {
        self.network.as_deref() == Some("none")
    }

    /// The daemon's socket on this machine, when it is one.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        match self.host.as_deref() {
            None | Some("") => Some(PathBuf::from("/var/run/docker.sock")),
            Some(host) => host.strip_prefix("unix://").map(PathBuf::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gets_what_one_asks_for_up_to_what_one_may_have() {
        let limits = Limits { memory: Some(100), cpus: Some(1.5), pids: 50 };
        let asked = |memory_bytes, cpu_milli, pids| Resources { memory_bytes, cpu_milli, pids, shm_bytes: None };
        let check = |limits: &Limits, asked: Resources, memory, cpu_milli, pids| {
            let allowed = limits.within(asked, &Powers::of_a_whole_daemon(2));
            assert_eq!(allowed, Allowed { memory, cpu_milli, pids }, "{asked:?}");
        };
        check(&limits, Resources::default(), Some(100), Some(1500), Some(50));
        check(&limits, asked(Some(10), Some(500), Some(5)), Some(10), Some(500), Some(5));
        check(&limits, asked(Some(1000), Some(9000), Some(500)), Some(100), Some(1500), Some(50));
        let none = Limits { memory: None, cpus: None, pids: 50 };
        check(&none, asked(Some(1000), Some(9000), None), Some(1000), Some(2000), Some(50));
        let weak = Powers { memory: false, cpus: false, pids: false, ..Powers::of_a_whole_daemon(2) };
        assert_eq!(
            limits.within(asked(Some(1), Some(1), Some(1)), &weak),
            Allowed { memory: None, cpu_milli: None, pids: None }
        );
    }
}
