//! One piece of work with repositories, as the thread that does it and those who wait for it both see it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use protocol::RepoUrl;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::ClonePolicy;
use super::credentials::public_url;
use super::error::GitError;
use super::mirror::Locks;
use super::own::Own;
use super::watch::Watch;

/// With which repository, and by which rules.
#[derive(Clone)]
pub(super) struct Order {
    pub(super) repo: RepoUrl,
    pub(super) cache: PathBuf,
    pub(super) policy: ClonePolicy,
    /// What the project has of its own; none for what nobody vouches for.
    pub(super) own: Option<Arc<Own>>,
    pub(super) locks: Arc<Locks>,
    pub(super) stop: CancellationToken,
    /// Whether the last that was begun is to write, not to talk.
    pub(super) writes: Arc<AtomicBool>,
    /// Holds the lock on the mirror while it is brought up to date.
    pub(super) watch: Arc<Watch>,
    pub(super) runtime: Handle,
}

impl Order {
    /// The same work, turned to another repository.
    pub(super) fn at(&self, repo: RepoUrl) -> Self {
        Self { repo, ..self.clone() }
    }

    /// Whether the policy lets us go there.
    pub(super) fn allowed(&self) -> Result<(), GitError> {
        if self.repo.is_local() && !self.policy.local_repos {
            return Err(GitError::LocalRefused { repo: public_url(self.repo.reveal()) });
        }
        Ok(())
    }

    /// From now on it talks to servers and touches nothing that the caller gave, who may therefore leave.
    pub(super) fn talks(&self) -> Result<(), GitError> {
        self.writes.store(false, Ordering::SeqCst);
        self.go_on()
    }

    /// From now on it writes, and the caller waits for the end should he stop it.
    pub(super) fn writes(&self) -> Result<(), GitError> {
        self.writes.store(true, Ordering::SeqCst);
        self.go_on()
    }

    /// Whether it writes, or has written. When the stop came before the question, it writes nothing more.
    pub(super) fn is_writing(&self) -> bool {
        self.writes.load(Ordering::SeqCst)
    }

    fn go_on(&self) -> Result<(), GitError> {
        if self.stop.is_cancelled() { Err(GitError::Cancelled) } else { Ok(()) }
    }
}
