//! The `git` program, for the two things that libgit2 cannot do: LFS and partial clones.
//!
//! It asks nobody anything, runs no hooks, and has the credentials of the project or of the URL in its environment, for
//! the server of the URL alone; no argument and no file on a disk holds them.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use url::Url;

use super::credentials::{public_url, user_and_password};
use super::error::GitError;
use super::order::Order;
use super::remote::Progress;

/// How much of its last words an error shows, in bytes.
const LAST_WORDS: usize = 1024;

/// Hands out what the environment holds. Git asks once for each server.
const HELPER: &str =
    r#"!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$BUILDR_GIT_USER" "$BUILDR_GIT_PASSWORD"; }; f"#;

/// Settings that win over those of the user and the machine.
const SETTINGS: [(&str, &str); 5] = [
    ("core.hooksPath", "/dev/null"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
];

/// Nothing of the agent's user: no settings, no `.netrc`, no key.
const ANONYMOUS: [(&str, &str); 4] = [
    ("HOME", "/dev/null"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_SSH_COMMAND", "ssh -F /dev/null -o BatchMode=yes -o IdentityAgent=none -o IdentityFile=/dev/null"),
];

/// What git is called for.
pub(super) struct Program<'a> {
    pub(super) order: &'a Order,
    pub(super) progress: &'a Progress,
    /// What is being done, for an error: `fetch the LFS files of`.
    pub(super) doing: &'static str,
    /// Settings for this alone.
    pub(super) settings: &'static [(&'static str, &'static str)],
}

impl Program<'_> {
    /// Runs git in a checkout until it ends, is stopped, or has said nothing for too long.
    pub(super) fn run<S: Into<OsString>>(
        &self,
        folder: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<(), GitError> {
        let (status, words) = self.ended(folder, arguments.into_iter().map(Into::into).collect())?;
        if status.success() {
            return Ok(());
        }
        // How far it was tells nobody why it failed.
        let words: Vec<&str> =
            words.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains("% (")).collect();
        let detail = if words.is_empty() { status.to_string() } else { words.join("; ") };
        let repo = public_url(self.order.repo.reveal());
        Err(GitError::Program { doing: self.doing, repo, detail })
    }

    /// Whether git knows this command.
    pub(super) fn knows(&self, folder: &Path, command: &str) -> Result<bool, GitError> {
        let (status, _) = self.ended(folder, vec![command.into(), "version".into()])?;
        Ok(status.success())
    }

    fn ended(&self, folder: &Path, arguments: Vec<OsString>) -> Result<(ExitStatus, String), GitError> {
        self.order.runtime.block_on(async {
            let (read, write) = io::pipe().map_err(|error| self.not_started(error))?;
            let mut child = self.start(folder, arguments, write)?;
            let pipe = Receiver::from_owned_fd(read.into()).map_err(|error| self.not_started(error))?;
            let done = self.listen(&mut child, pipe).await;
            if done.is_err() {
                end(&mut child).await;
            }
            done
        })
    }

    fn start(&self, folder: &Path, arguments: Vec<OsString>, write: io::PipeWriter) -> Result<Child, GitError> {
        let other = write.try_clone().map_err(|error| self.not_started(error))?;
        let environment = self.environment().map_err(|error| self.not_started(error))?;
        let mut command = Command::new(&self.order.policy.git);
        // What the agent was started with must not lead git to another repository.
        let ours = |name: &str| name.starts_with("GIT_") && !name.starts_with("GIT_SS");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
            command.env_remove(name);
        }
        command.args(arguments).current_dir(folder).envs(environment).env_remove("SSH_ASKPASS");
        command.stdin(Stdio::null()).stdout(write).stderr(other);
        // Its own group: what it started ends with it.
        command.process_group(0).kill_on_drop(true);
        command.spawn().map_err(|error| self.not_started(error))
    }

    fn environment(&self) -> io::Result<Vec<(String, String)>> {
        let ways = if self.order.repo.is_local() { "http:https:ssh:git:file" } else { "http:https:ssh:git" };
        let mut settings: Vec<(String, String)> =
            SETTINGS.iter().chain(self.settings).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut all = vec![
            ("LC_ALL".to_owned(), "C".to_owned()),
            ("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned()),
            ("GIT_LFS_FORCE_PROGRESS".to_owned(), "1".to_owned()),
            // A user's own settings may fetch LFS files whenever files are written.
            ("GIT_LFS_SKIP_SMUDGE".to_owned(), "1".to_owned()),
            ("GIT_ALLOW_PROTOCOL".to_owned(), ways.to_owned()),
        ];
        if self.order.policy.anonymous {
            settings.push(("credential.helper".to_owned(), String::new()));
            all.extend(ANONYMOUS.map(|(name, value)| (name.to_owned(), value.to_owned())));
        } else if let Some(ssh) =
            self.order.own.as_ref().map(|own| own.ssh_for(&self.order.repo)).transpose()?.flatten()
        {
            all.push(("GIT_SSH_COMMAND".to_owned(), ssh));
        } else if ["GIT_SSH_COMMAND", "GIT_SSH"].iter().all(|name| std::env::var_os(name).is_none()) {
            all.push(("GIT_SSH_COMMAND".to_owned(), "ssh -o BatchMode=yes".to_owned()));
        }
        if let Some((server, user, password)) = self.credentials() {
            let key = format!("credential.{server}.helper");
            // The empty one makes git forget those that it knew before.
            settings.extend([(key.clone(), String::new()), (key, HELPER.to_owned())]);
            all.extend([("BUILDR_GIT_USER".to_owned(), user), ("BUILDR_GIT_PASSWORD".to_owned(), password)]);
        }
        all.push(("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string()));
        for (n, (key, value)) in settings.into_iter().enumerate() {
            all.extend([(format!("GIT_CONFIG_KEY_{n}"), key), (format!("GIT_CONFIG_VALUE_{n}"), value)]);
        }
        Ok(all)
    }

    /// The server of the URL with the user and password that it is given there, if it is a web server and there are some.
    fn credentials(&self) -> Option<(String, String, String)> {
        if self.order.policy.anonymous {
            return None;
        }
        let url = Url::parse(self.order.repo.reveal()).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let own = self.order.own.as_ref().and_then(|own| own.login_for(self.order.repo.reveal()));
        let own = own.map(|(user, token)| (user.to_owned(), token.to_owned()));
        let (user, password) = own.or_else(|| user_and_password(&self.order.repo))?;
        Some((url.origin().ascii_serialization(), user, password))
    }

    /// Reads what it says until it ends.
    async fn listen(&self, child: &mut Child, mut pipe: Receiver) -> Result<(ExitStatus, String), GitError> {
        let (mut words, mut chunk) = (Vec::new(), [0; 4096]);
        let stall = self.order.policy.stall;
        let status = loop {
            tokio::select! {
                () = self.order.stop.cancelled() => return Err(GitError::Cancelled),
                // What it leaves behind may hold the pipe open, so its own end is what counts.
                status = child.wait() => break status.map_err(|error| self.not_started(error))?,
                read = tokio::time::timeout(stall, pipe.read(&mut chunk)) => match read {
                    Err(_) => {
                        let repo = public_url(self.order.repo.reveal());
                        return Err(GitError::Stalled { repo, seconds: stall.as_secs() });
                    }
                    Ok(Ok(count)) if count > 0 => self.hear(&mut words, &chunk[..count]),
                    Ok(_) => break child.wait().await.map_err(|error| self.not_started(error))?,
                },
            }
        };
        while let Ok(count @ 1..) = pipe.try_read(&mut chunk) {
            self.hear(&mut words, &chunk[..count]);
        }
        let mut words = String::from_utf8_lossy(&words).replace('\r', "\n");
        let password = self.credentials().map(|(_, _, password)| password);
        for secret in [self.order.repo.secret(), password].into_iter().flatten().filter(|secret| !secret.is_empty()) {
            words = words.replace(&secret, "***");
        }
        Ok((status, words))
    }

    /// Keeps the last words, and tells how far it is.
    fn hear(&self, words: &mut Vec<u8>, chunk: &[u8]) {
        words.extend_from_slice(chunk);
        let old = words.len().saturating_sub(LAST_WORDS);
        words.drain(..old);
        let text = String::from_utf8_lossy(chunk);
        if let Some(line) = text.split(['\r', '\n']).map(str::trim).rfind(|line| line.ends_with(['%', 's'])) {
            self.progress.tick(|| line.to_owned());
        }
    }

    fn not_started(&self, error: io::Error) -> GitError {
        match error.kind() {
            io::ErrorKind::NotFound => GitError::NoProgram { program: "git", doing: self.doing },
            _ => GitError::Disk { doing: "run", path: self.order.policy.git.clone(), source: error },
        }
    }
}

/// Ends it with all that it started.
async fn end(child: &mut Child) {
    if let Some(group) = child.id().and_then(|id| i32::try_from(id).ok()) {
        // One that is gone already needs no signal.
        killpg(Pid::from_raw(group), Signal::SIGKILL).ok();
    }
    child.wait().await.ok();
}
