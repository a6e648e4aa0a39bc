//! What the daemon at the other end is, and what it cannot do: Docker as root, Docker without root, Podman.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bollard::models::SystemInfoCgroupVersionEnum;

use super::engine::Engine;

/// How Podman calls itself among a daemon's parts.
const PODMAN: &str = "Podman Engine";

/// What a daemon can do, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Powers {
    /// It is Podman.
    pub(super) podman: bool,
    /// It runs as a user: root in a container is that user outside.
    pub(super) rootless: bool,
    /// Root in a container is another user outside.
    pub(super) remapped: bool,
    /// It can hold containers to a limit of memory.
    pub(super) memory: bool,
    /// It can hold them to a share of the processors.
    pub(super) cpus: bool,
    /// It can hold them to a number of processes.
    pub(super) pids: bool,
    /// How many cores it has.
    pub(super) cores: Option<u64>,
}

impl Powers {
    /// What a daemon is that nothing keeps from anything.
    pub(super) fn of_a_whole_daemon(cores: u64) -> Self {
        Self {
            podman: false,
            rootless: false,
            remapped: false,
            memory: true,
            cpus: true,
            pids: true,
            cores: Some(cores),
        }
    }

    /// Asks the daemon. One that does not tell is taken for a whole one: what it cannot do it will refuse itself.
    ///
    /// Podman tells neither that it has no root nor that it heeds no limits then (control groups of version 1): its
    /// socket, at `socket`, is its user's.
    pub(super) async fn ask(engine: &Engine, socket: Option<&Path>) -> Self {
        let whole = Self { cores: None, ..Self::of_a_whole_daemon(0) };
        let Ok(said) = engine.quick.info().await else { return whole };
        let parts = engine.told.components.as_deref().unwrap_or_default();
        let options = said.security_options.unwrap_or_default();
        let has = |word: &str| options.iter().any(|option| option.split(',').any(|part| part == word));
        let podman = parts.iter().any(|part| part.name == PODMAN);
        let of_a_user = socket.and_then(|path| path.metadata().ok()).is_some_and(|socket| socket.uid() != 0);
        let rootless = has("name=rootless") || podman && of_a_user;
        let holds = !(podman && rootless && said.cgroup_version == Some(SystemInfoCgroupVersionEnum::_1));
        Self {
            podman,
            rootless,
            remapped: has("name=userns"),
            memory: holds && said.memory_limit.unwrap_or(true),
            cpus: holds && said.cpu_cfs_quota.unwrap_or(true),
            pids: holds && said.pids_limit.unwrap_or(true),
            cores: said.ncpu.and_then(|cores| u64::try_from(cores).ok()).filter(|cores| *cores > 0),
        }
    }

    /// The limits that this daemon cannot hold anybody to.
    pub(super) fn missing_limits(&self) -> Vec<&'static str> {
        let limits = [(self.memory, "memory"), (self.cpus, "processors"), (self.pids, "processes")];
        limits.into_iter().filter(|(can, _)| !can).map(|(_, name)| name).collect()
    }

    /// What it cannot do, one sentence each.
    pub(super) fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let missing = self.missing_limits();
        if !missing.is_empty() {
            let why = if self.rootless { ": it runs without root, and was not given the control groups" } else { "" };
            sentences.push(format!(
                "containers cannot be held to limits of {}{why}; delegate them to the daemon's user (systemd: \
                 Delegate=cpu memory pids), or do without",
                missing.join(", ")
            ));
        }
        if self.rootless {
            sentences.push(
                "the daemon runs without root: stages cannot be privileged beyond its user, and ports below 1024 and \
                 some mounts are refused to them"
                    .to_owned(),
            );
        }
        if self.remapped {
            sentences.push(
                "root in a container is another user of this machine (userns-remap), so the workspace is opened to all \
                 of its users before a stage"
                    .to_owned(),
            );
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_daemon_cannot_do_is_said() {
        let whole = Powers::of_a_whole_daemon(2);
        assert_eq!(whole.sentences(), [""; 0]);
        let weak = Powers { rootless: true, memory: false, pids: false, ..whole.clone() };
        let sentences = weak.sentences();
        assert_eq!((weak.missing_limits(), sentences.len()), (vec!["memory", "processes"], 2));
        assert!(sentences[0].contains("memory, processes: it runs without root"), "{}", sentences[0]);
        assert!(Powers { remapped: true, ..whole }.sentences()[0].contains("userns-remap"));
    }
}
