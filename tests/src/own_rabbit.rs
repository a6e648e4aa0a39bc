//! A RabbitMQ node of a test's own, which it may stop, kill, starve and start again without harm to anybody.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::farm::{PATIENCE, until};
use crate::ports;
use crate::rabbit::{Vhost, setting};

/// Where Debian and the makers' own packages put the programs that anybody may run, not only the user rabbitmq.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// A node with folders, ports, a cookie and a name of its own. It ends with this.
pub struct OwnRabbit {
    folder: tempfile::TempDir,
    name: String,
    amqp: u16,
    management: u16,
    distribution: u16,
    server: Option<Child>,
}

impl OwnRabbit {
    /// Starts one, with these lines in its `rabbitmq.conf`. `None`, and a word about it, where RabbitMQ is not
    /// installed.
    ///
    /// # Panics
    /// When it does not start, or is missing and `BUILDR_TEST_REQUIRE` names `rabbitmq`; so do the others.
    pub async fn start(lines: &str) -> Option<Self> {
        if !Path::new(PROGRAMS).join("rabbitmq-server").exists() {
            let required = setting("BUILDR_TEST_REQUIRE", "").split(',').any(|part| part == "rabbitmq");
            assert!(!required, "RabbitMQ is required and not there: {PROGRAMS} is missing");
            eprintln!("skipped: no RabbitMQ in {PROGRAMS}");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder for a broker");
        let name = format!("buildr-test-{:.8}@localhost", uuid::Uuid::new_v4().simple());
        let [amqp, management, distribution] = ports::free();
        let mut node = Self { folder, name, amqp, management, distribution, server: None };
        let cookie = node.path(".erlang.cookie");
        std::fs::write(&cookie, uuid::Uuid::new_v4().simple().to_string()).expect("a cookie");
        let only_ours = std::os::unix::fs::PermissionsExt::from_mode(0o400);
        std::fs::set_permissions(cookie, only_ours).expect("a cookie that only this user reads");
        std::fs::write(node.path("plugins"), "[rabbitmq_management].").expect("a list of plugins");
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n{lines}\n"
        );
        std::fs::write(node.path("rabbitmq.conf"), config).expect("a configuration");
        node.start_again().await;
        Some(node)
    }

    /// Starts it after it was stopped or killed, and waits until it answers.
    pub async fn start_again(&mut self) {
        assert!(self.server.is_none(), "the broker runs already");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("said")).expect("a log");
        let errors = log.try_clone().expect("a second hold on a file");
        let mut command = self.command("rabbitmq-server");
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        self.server = Some(command.spawn().expect("the broker begins"));
        let listens = format!("{}/api/health/checks/port-listener/{}", self.management_uri(), self.amqp);
        rustls::crypto::ring::default_provider().install_default().ok();
        let http = reqwest::Client::new();
        until("the test's own broker", async || http.get(&listens).send().await.ok()?.error_for_status().ok()).await;
    }

    /// A vhost on it.
    pub async fn vhost(&self) -> Vhost {
        let amqp = format!("amqp://guest:guest@127.0.0.1:{}", self.amqp);
        Vhost::make_at(&amqp, self.management_uri()).await.expect("a vhost")
    }

    /// Ends it in good order.
    pub async fn stop(&mut self) {
        self.end("-TERM").await;
    }

    /// Ends it where it stands.
    pub async fn kill(&mut self) {
        self.end("-KILL").await;
    }

    /// Runs `rabbitmqctl` for it.
    pub async fn ctl(&self, arguments: &[&str]) {
        let done = self.command("rabbitmqctl").args(arguments).output().await.expect("rabbitmqctl runs");
        assert!(done.status.success(), "rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    async fn end(&mut self, signal: &str) {
        let mut server = self.server.take().expect("the broker runs");
        assert!(self.signal(signal), "kill {signal}");
        tokio::time::timeout(PATIENCE, server.wait()).await.expect("the broker ends").expect("it can be waited for");
    }

    /// To the node itself, which its start script waits for.
    fn signal(&self, signal: &str) -> bool {
        let process = std::fs::read_to_string(self.path("pid")).unwrap_or_default();
        let mut kill = std::process::Command::new("kill");
        kill.args([signal, process.trim()]).stderr(Stdio::null());
        !process.is_empty() && kill.status().is_ok_and(|status| status.success())
    }

    fn management_uri(&self) -> String {
        format!("http://guest:guest@127.0.0.1:{}", self.management)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(Path::new(PROGRAMS).join(program));
        command.current_dir(self.folder.path()).kill_on_drop(true);
        command.env("HOME", self.folder.path()).env("RABBITMQ_NODENAME", &self.name);
        // Nothing of the machine's own node counts for this one.
        command.env("RABBITMQ_CONF_ENV_FILE", "/dev/null").env("RABBITMQ_CONFIG_FILE", self.path("rabbitmq.conf"));
        command.env("RABBITMQ_ENABLED_PLUGINS_FILE", self.path("plugins"));
        command.env("RABBITMQ_MNESIA_BASE", self.path("mnesia")).env("RABBITMQ_LOG_BASE", self.path("log"));
        command.env("RABBITMQ_PID_FILE", self.path("pid")).env("RABBITMQ_DIST_PORT", self.distribution.to_string());
        command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 2:2 +sbwt none");
        command
    }
}

impl Drop for OwnRabbit {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.signal("-KILL");
        }
    }
}
