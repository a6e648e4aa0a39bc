//! An ssh server for one test, OpenSSH's own: it knows one key, and so does who is told of it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use protocol::RepoUrl;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::farm::PATIENCE;
use crate::ports;

/// Where OpenSSH's server is: it wants to be called by its whole path.
const PROGRAM: &str = "/usr/sbin/sshd";

/// The server; it ends when this is dropped.
pub struct Sshd {
    folder: tempfile::TempDir,
    port: u16,
    user: String,
    _server: Child,
}

impl Sshd {
    /// Starts one that lets in the user of this process with the first key that [`Sshd::keys`] gives. None: this machine has no
    /// such server.
    ///
    /// # Panics
    /// When it has one that does not start; so do the others.
    pub async fn start() -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            eprintln!("skipped: there is no {PROGRAM}");
            return None;
        }
        // Its service makes this at each start of the machine. Who may not make it runs a server that does without.
        std::fs::create_dir_all("/run/sshd").ok();
        let folder = tempfile::tempdir().expect("a folder for keys");
        for name in ["host", "user", "stranger"] {
            let mut make = Command::new("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.path().join(name));
            assert!(make.status().await.expect("ssh-keygen").success());
        }
        let [port] = ports::free();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let settings = [
            format!("Port {port}\nListenAddress 127.0.0.1\nHostKey {}\n", at("host")),
            format!("AuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n", at("user.pub")),
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\n".to_owned(),
        ];
        std::fs::write(at("settings"), settings.concat()).expect("settings");
        let mut server = Command::new(PROGRAM);
        server.args(["-D", "-e", "-f", &at("settings")]).stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut server = server.spawn().expect("a server");
        let mut lines = BufReader::new(server.stderr.take().expect("its words")).lines();
        let listens = async {
            while let Some(line) = lines.next_line().await.expect("a line") {
                if line.contains("Server listening") {
                    return;
                }
            }
            panic!("the ssh server ended");
        };
        tokio::time::timeout(PATIENCE, listens).await.expect("it listens");
        // It may have more to say, and must not wait for a reader.
        protocol::task::spawn("ssh server's words", async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let user = own_name().await;
        Some(Self { folder, port, user, _server: server })
    }

    /// How a folder of this machine is cloned through it.
    #[must_use]
    pub fn url(&self, path: &Path) -> RepoUrl {
        format!("ssh://{}@127.0.0.1:{}{}", self.user, self.port, path.display()).parse().expect("a URL")
    }

    /// The private key that it lets in, and one that it does not.
    #[must_use]
    pub fn keys(&self) -> [String; 2] {
        ["user", "stranger"].map(|name| std::fs::read_to_string(self.folder.path().join(name)).expect("a key"))
    }

    /// A home whose owner knows the server, and has no key.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        let home = self.folder.path().join("home");
        let public = std::fs::read_to_string(self.folder.path().join("host.pub")).expect("its key");
        std::fs::create_dir_all(home.join(".ssh")).expect("a home");
        std::fs::write(home.join(".ssh/known_hosts"), format!("[127.0.0.1]:{} {public}", self.port)).expect("a list");
        home
    }
}

/// Who runs this process.
async fn own_name() -> String {
    let output = Command::new("id").arg("-un").output().await.expect("id");
    String::from_utf8(output.stdout).expect("a name").trim().to_owned()
}
