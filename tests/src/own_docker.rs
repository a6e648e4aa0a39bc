//! A Docker daemon of a test's own, which it may stop, kill and start again without harm to anybody. It needs root.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Stdio;

use bollard::Docker;
use tokio::process::{Child, Command};

use crate::disk::unmount_below;
use crate::docker;
use crate::farm::{PATIENCE, until};
use crate::rabbit::setting;

/// A daemon with folders, a socket and a store of images of its own. It ends with this.
pub struct OwnDocker {
    folder: tempfile::TempDir,
    daemon: Option<Child>,
    /// What the daemon's shell does before it becomes the daemon.
    before: &'static str,
    /// Its socket, where that is there as long as this is and the daemon is handed it.
    socket: Option<UnixListener>,
}

/// As a service manager hands it on, from the standard input.
const HANDED: &str = "exec 3<&0 </dev/null && export LISTEN_FDS=1 LISTEN_PID=$$";

/// The daemon sees nothing of the folder for temporary files but its own folder ($HERE in $TEMP).
const APART: &str = "ip link set lo up && mount --make-rprivate / && mkdir -p \"$HERE/mnt\" && \
                     mount --bind \"$HERE\" /mnt && mount -t tmpfs none \"$TEMP\" && mkdir -p \"$HERE\" && \
                     mount --move /mnt \"$HERE\"";

impl OwnDocker {
    /// Starts one that has the tests' image. `None`, and a word about it, where this user may not start one.
    ///
    /// # Panics
    /// When it does not start, or cannot be had and `BUILDR_TEST_REQUIRE` names `docker`; so do the others.
    pub async fn start() -> Option<Self> {
        Self::start_with("ip link set lo up", false).await
    }

    /// As [`Self::start`], and whoever calls it while it is away waits until it is back, as behind a service manager's
    /// socket (`docker.socket`).
    pub async fn start_behind_a_socket() -> Option<Self> {
        Self::start_with("ip link set lo up", true).await
    }

    /// As [`Self::start`], and it does not see the folders for temporary files of this machine, as a daemon elsewhere.
    pub async fn start_apart() -> Option<Self> {
        Self::start_with(APART, false).await
    }

    async fn start_with(before: &'static str, behind_a_socket: bool) -> Option<Self> {
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
        let version = std::process::Command::new("dockerd").arg("--version").stdout(Stdio::null()).status();
        if !is_root || version.is_err() {
            let required = setting("BUILDR_TEST_REQUIRE", "").split(',').any(|part| part == "docker");
            assert!(!required, "a Docker daemon of the test's own is required, and needs dockerd and root");
            eprintln!("skipped: no Docker daemon of the test's own (it needs dockerd and root)");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder for a daemon");
        std::fs::write(folder.path().join("daemon.json"), "{}").expect("a configuration");
        let socket = folder.path().join("docker.sock");
        let socket = behind_a_socket.then(|| UnixListener::bind(socket).expect("a socket"));
        let mut daemon = Self { folder, daemon: None, before, socket };
        daemon.start_again().await;
        daemon.load(&docker::image()).await;
        Some(daemon)
    }

    /// Starts it after it was stopped or killed, and waits until it answers.
    pub async fn start_again(&mut self) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        // A killed one leaves these, and the next one believes them.
        std::fs::remove_file(self.path("pid")).ok();
        std::fs::remove_dir_all(self.path("exec/containerd")).ok();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("said")).expect("a log");
        let errors = log.try_clone().expect("a second hold on a file");
        // A network namespace of its own, for a daemon without a bridge removes the one of the network it stands in. It
        // lives as long as a process in it does. The daemon takes the shell's place: a signal for the child is its own.
        let mut command = Command::new("unshare");
        let host = self.host();
        if self.before == APART {
            command.arg("--mount");
        }
        command.env("HERE", self.folder.path()).env("TEMP", std::env::temp_dir());
        let handed = if self.socket.is_some() { HANDED } else { "true" };
        let become_it = format!("{} && {handed} && exec dockerd \"$@\"", self.before);
        command.args(["--net", "sh", "-c", &become_it, "dockerd"]);
        command.arg("--config-file").arg(self.path("daemon.json"));
        command.arg("--data-root").arg(self.path("data")).arg("--exec-root").arg(self.path("exec"));
        let host = if self.socket.is_some() { "fd://" } else { &host };
        command.arg("--pidfile").arg(self.path("pid")).args(["--host", host]);
        // No bridge and no rules: containers have `none`, or `host` of that namespace.
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]);
        // Where the machine has a containerd for all, nothing of the other daemon's is touched either.
        let namespace = self.folder.path().file_name().and_then(|name| name.to_str()).unwrap_or("test");
        let namespace = format!("buildr-test-{}", namespace.trim_start_matches('.'));
        command.args(["--containerd-namespace", &namespace]);
        command.args(["--containerd-plugins-namespace", &format!("{namespace}-plugins")]);
        let input = self.socket.as_ref().map(|socket| socket.try_clone().expect("a second hold on a socket"));
        command.stdin(input.map_or_else(Stdio::null, |socket| OwnedFd::from(socket).into()));
        command.stdout(log).stderr(errors).kill_on_drop(true);
        self.daemon = Some(command.spawn().expect("dockerd begins"));
        until("the test's own daemon", async || Docker::connect_with_host(&self.host()).ok()?.ping().await.ok()).await;
    }

    /// Its address, as `DOCKER_HOST` has it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.path("docker.sock").display())
    }

    /// Ends it in good order: it stops its containers.
    pub async fn stop(&mut self) {
        self.end("-TERM").await;
    }

    /// Ends it where it stands: its containers live on.
    pub async fn kill(&mut self) {
        self.end("-KILL").await;
    }

    async fn load(&self, image: &str) {
        let mut save = Command::new("docker");
        save.args(["save", image]).stdout(Stdio::piped());
        let mut save = save.spawn().expect("docker save runs");
        let saved: Stdio = save.stdout.take().expect("its output").try_into().expect("a pipe");
        let mut load = Command::new("docker");
        load.args(["--host", &self.host(), "load", "--quiet"]).stdin(saved).stdout(Stdio::null());
        let loaded = load.status().await.expect("docker load runs");
        let saved = save.wait().await.expect("docker save ends");
        assert!(saved.success() && loaded.success(), "the image {image} could not be brought to the test's own daemon");
    }

    async fn end(&mut self, signal: &str) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        crate::processes::signal(&daemon, signal).await;
        tokio::time::timeout(PATIENCE, daemon.wait()).await.expect("the daemon ends").expect("it can be waited for");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for OwnDocker {
    /// Also after a failure: no process, no mount and no file stays.
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            // Asked to end, it ends its containers and unmounts; a killed one does neither.
            let process = daemon.id().map(|id| id.to_string()).unwrap_or_default();
            std::process::Command::new("kill").args(["-TERM", &process]).status().ok();
            let until = std::time::Instant::now() + PATIENCE;
            while matches!(daemon.try_wait(), Ok(None)) && std::time::Instant::now() < until {
                std::thread::yield_now();
            }
        }
        let here = self.folder.path().display().to_string();
        // The containers of a killed daemon live on: their root is in its folder, and their keepers' words name it.
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let told = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let mounts = std::fs::read_to_string(process.path().join("mountinfo")).unwrap_or_default();
            let mut roots = mounts.lines().filter(|line| line.split(' ').nth(4) == Some("/"));
            if (String::from_utf8_lossy(&told).contains(&here) || roots.any(|root| root.contains(&here)))
                && let Some(process) = process.file_name().to_str()
            {
                std::process::Command::new("kill").args(["-KILL", process]).stderr(Stdio::null()).status().ok();
            }
        }
        unmount_below(self.folder.path());
    }
}
