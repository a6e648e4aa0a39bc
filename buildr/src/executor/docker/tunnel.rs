//! A daemon that is reached over ssh: a socket of this process's own, each of whose connections is one of the `ssh`
//! program to `docker system dial-stdio` on that machine. So a person's keys, agent, known hosts and `~/.ssh/config`
//! hold here as everywhere. Nothing is ever asked: what `ssh` would ask for has to be settled before.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use protocol::task;
use tokio::io::{AsyncReadExt as _, copy_bidirectional, join};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use url::Url;

/// How much of what `ssh` complains about is kept.
const KEPT: u64 = 4 << 10;

/// How long a complaint is waited for once its program has ended.
const LAST_WORD: Duration = Duration::from_millis(500);

/// The socket, for as long as this lives.
#[derive(Debug)]
pub(super) struct Tunnel {
    folder: tempfile::TempDir,
    /// What `ssh` complained about last.
    complaint: watch::Receiver<String>,
    task: JoinHandle<()>,
}

impl Tunnel {
    /// Opens one to a place such as `ssh://user@host:22`; nothing is connected yet.
    ///
    /// # Errors
    /// When the place is none, or no socket can be made.
    pub(super) fn open(program: &Path, place: &str) -> io::Result<Self> {
        // Only its owner may enter such a folder.
        let folder = tempfile::Builder::new().prefix("buildr-ssh-").tempdir()?;
        let words = words(place, folder.path())?;
        let listener = UnixListener::bind(folder.path().join("docker.sock"))?;
        let (heard, complaint) = watch::channel(String::new());
        let (program, heard) = (program.to_owned(), Arc::new(heard));
        let task = task::spawn("way to the daemon", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut command = Command::new(&program);
                command.args(&words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                // A signal for the terminal is this process's to act on.
                command.process_group(0).kill_on_drop(true);
                drop(task::spawn("ssh", carry(stream, command, Arc::clone(&heard))));
            }
        });
        Ok(Self { folder, complaint, task })
    }

    /// Its address, as `DOCKER_HOST` has it.
    pub(super) fn address(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    /// What `ssh` complained about last.
    pub(super) fn complaint(&self) -> Option<String> {
        Some(self.complaint.borrow().clone()).filter(|complaint| !complaint.is_empty())
    }

    /// The same, for one whose connection has just broken: the complaint may still be on its way.
    pub(super) async fn complaint_soon(&self) -> Option<String> {
        let mut complaint = self.complaint.clone();
        let _ = timeout(LAST_WORD, complaint.wait_for(|complaint| !complaint.is_empty())).await;
        self.complaint()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What `ssh` is told.
fn words(place: &str, folder: &Path) -> io::Result<Vec<String>> {
    let none = || {
        let sentence = format!("{place} is not an address; write it like ssh://user@host");
        io::Error::new(io::ErrorKind::InvalidInput, sentence)
    };
    let url = Url::parse(place).map_err(|_| none())?;
    let host = url.host_str().filter(|host| !host.is_empty() && !host.starts_with('-')).ok_or_else(none)?;
    // One connection carries all: the others are a few milliseconds, not a handshake each.
    let control = format!("ControlPath={}", folder.join("%C").display());
    let mut words: Vec<_> =
        ["-T", "-o", "BatchMode=yes", "-o", "ControlMaster=auto", "-o", "ControlPersist=30", "-o", &control]
            .map(str::to_owned)
            .to_vec();
    if let Some(port) = url.port() {
        words.extend(["-p".to_owned(), port.to_string()]);
    }
    if !url.username().is_empty() {
        words.extend(["-l".to_owned(), url.username().to_owned()]);
    }
    words.extend(["--", host.trim_matches(['[', ']']), "docker"].map(str::to_owned));
    if !matches!(url.path(), "" | "/") {
        // The other machine's shell reads it.
        words.extend(["--host".to_owned(), format!("'unix://{}'", url.path().replace('\'', ""))]);
    }
    words.extend(["system", "dial-stdio"].map(str::to_owned));
    Ok(words)
}

/// Carries one connection, until both sides have ended.
async fn carry(mut stream: UnixStream, mut command: Command, complaint: Arc<watch::Sender<String>>) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let sentence = format!("{:?} could not be started: {error}", command.as_std().get_program());
            return keep(&complaint, sentence);
        }
    };
    let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return;
    };
    let carried = async {
        let mut far = join(output, input);
        // Which side ended badly does not matter: the client of the daemon sees it.
        let _ = copy_bidirectional(&mut stream, &mut far).await;
    };
    let hearing = async {
        let (mut said, mut errors) = (Vec::new(), errors.take(KEPT));
        while let Ok(1..) = errors.read_buf(&mut said).await {
            keep(&complaint, String::from_utf8_lossy(&said).trim().to_owned());
        }
        std::future::pending::<()>().await;
    };
    // A connection that is kept for others holds the complaints open after its first one has ended.
    let ended = async {
        let _ = child.wait().await;
        tokio::time::sleep(LAST_WORD).await;
    };
    tokio::join!(carried, async {
        tokio::select! {
            () = hearing => {}
            () = ended => {}
        }
    });
}

fn keep(complaint: &watch::Sender<String>, said: String) {
    tracing::debug!(said, "ssh");
    complaint.send_replace(said);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_what_ssh_is_told() {
        let check = |place: &str, expected: Option<&str>| {
            let words = words(place, Path::new("/f")).ok().map(|words| words[9..].join(" "));
            assert_eq!(words.as_deref(), expected, "{place}");
        };
        check("ssh://host", Some("-- host docker system dial-stdio"));
        check("ssh://me@host:2222", Some("-p 2222 -l me -- host docker system dial-stdio"));
        check(
            "ssh://me@host/run/user/7/docker.sock",
            Some("-l me -- host docker --host 'unix:///run/user/7/docker.sock' system dial-stdio"),
        );
        check("ssh://", None);
        check("ssh://-oProxyCommand=x", None);
    }
}
