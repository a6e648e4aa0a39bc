//! What checkouts on this machine may do.

use std::path::PathBuf;
use std::time::Duration;

/// How long a server may stand still unless something says otherwise.
const STALL: Duration = Duration::from_secs(60);

/// What checkouts on this machine may do.
#[derive(Debug, Clone)]
pub struct ClonePolicy {
    /// Whether repositories on this machine's own disk (`file://`, absolute paths) may be built.
    pub local_repos: bool,
    /// Whose `.ssh` holds the keys to try.
    pub home: Option<PathBuf>,
    /// Whether nobody learns who we are: no key, no helper and no password of a URL is offered.
    pub anonymous: bool,
    /// Whether no server is asked: what a mirror had last is all that there is.
    pub offline: bool,
    /// The `git` program, which is called for LFS and for partial clones alone.
    pub git: PathBuf,
    /// How long a server may send nothing before the connection counts as hung: [`super::GitError::Stalled`].
    pub stall: Duration,
}

impl Default for ClonePolicy {
    /// No local repositories; the keys of the user who runs this process.
    fn default() -> Self {
        let git = PathBuf::from("git");
        Self { local_repos: false, home: std::env::home_dir(), anonymous: false, offline: false, git, stall: STALL }
    }
}
