//! What a project has of its own to open its repository with, and where that is shown.
//!
//! A deploy key opens the repository that it is for, and nothing else. A token is shown to the web server that the
//! repository is on, also for what else a trusted build fetches there, such as submodules. Neither is ever in a file on
//! a disk: libgit2 gets both in memory, and `ssh`, which git calls for LFS and partial clones, reads the key from a file
//! that only this process has.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::sync::OnceLock;

use protocol::{RepoCredentials, RepoUrl};
use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};
use url::Url;

/// The credentials of a project, with its repository.
#[derive(Debug)]
pub(super) struct Own {
    repo: RepoUrl,
    credentials: RepoCredentials,
    /// The key's file, once a program needed one.
    file: OnceLock<File>,
}

impl Own {
    pub(super) fn new(repo: RepoUrl, credentials: RepoCredentials) -> Self {
        Self { repo, credentials, file: OnceLock::new() }
    }

    /// Whether this is the project's own repository.
    pub(super) fn is_of(&self, repo: &RepoUrl) -> bool {
        repo.identity() == self.repo.identity()
    }

    /// The key, for the project's own repository.
    pub(super) fn key_for(&self, repo: &RepoUrl) -> Option<&str> {
        match &self.credentials {
            RepoCredentials::DeployKey { key } if self.is_of(repo) => Some(key),
            _ => None,
        }
    }

    /// User and token, for the web server that the project's repository is on.
    pub(super) fn login_for(&self, url: &str) -> Option<(&str, &str)> {
        let RepoCredentials::Token { user, token } = &self.credentials else { return None };
        let (own, other) = (Url::parse(self.repo.reveal()).ok()?, Url::parse(url).ok()?);
        let web = matches!(own.scheme(), "http" | "https");
        (web && own.origin() == other.origin()).then_some((user, token))
    }

    /// How git is to call `ssh` for this repository.
    ///
    /// # Errors
    /// When there is no memory for a file.
    pub(super) fn ssh_for(&self, repo: &RepoUrl) -> io::Result<Option<String>> {
        let Some(key) = self.key_for(repo) else { return Ok(None) };
        let file = match self.file.get() {
            Some(file) => file,
            None => {
                let made = in_memory(key)?;
                self.file.get_or_init(|| made)
            }
        };
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        Ok(Some(format!("ssh -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityAgent=none -i {path}")))
    }
}

/// A file that is on no disk, with a text that its owner alone can read.
fn in_memory(text: &str) -> io::Result<File> {
    let file = memfd_create("key", MemfdFlags::CLOEXEC)?;
    // `ssh` takes no key that others could read.
    fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(file);
    file.write_all(text.as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(text: &str) -> RepoUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_is_for_its_own_server_and_a_key_for_its_own_repository() {
        let token = RepoCredentials::Token { user: "me".to_owned(), token: "t0k3n".to_owned() };
        let own = Own::new(repo("https://example.org/a/b.git"), token);
        for (url, expect) in [
            ("https://example.org/a/b.git", true),
            ("https://example.org/other", true),
            ("https://example.org:443/other", true),
            ("http://example.org/a/b.git", false),
            ("https://example.org:8443/a/b.git", false),
            ("https://example.org.evil.example/a/b.git", false),
            ("ssh://git@example.org/a/b.git", false),
            ("git@example.org:a/b.git", false),
        ] {
            assert_eq!(own.login_for(url).is_some(), expect, "{url}");
        }
        assert!(own.key_for(&repo("git@example.org:a/b.git")).is_none());
        assert!(!format!("{own:?}").contains("t0k3n"));

        let own = Own::new(repo("git@example.org:a/b.git"), RepoCredentials::DeployKey { key: "k".to_owned() });
        assert_eq!(own.key_for(&repo("ssh://git@example.org/a/b")), Some("k"));
        assert_eq!(own.key_for(&repo("git@example.org:a/c.git")), None);
        assert_eq!(own.login_for("https://example.org/a/b.git"), None);
    }

    #[test]
    fn the_key_that_ssh_reads_is_on_no_disk() {
        use std::os::unix::fs::MetadataExt as _;
        let own = Own::new(repo("git@example.org:a/b.git"), RepoCredentials::DeployKey { key: "k3y".to_owned() });
        let ssh = own.ssh_for(&repo("git@example.org:a/b.git")).unwrap().unwrap();
        let path = ssh.rsplit(' ').next().unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "k3y");
        let seen = std::fs::metadata(path).unwrap();
        assert_eq!((seen.mode() & 0o777, seen.nlink()), (0o600, 0));
        assert_eq!(own.ssh_for(&repo("git@example.org:a/c.git")).unwrap(), None);
    }
}
