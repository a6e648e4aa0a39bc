//! What the thread of a checkout and those who wait for it have in common: when the server was last heard, and the lock
//! on the mirror.
//!
//! libgit2 cannot be interrupted while it waits for a server. Whoever waits for a checkout can therefore take the lock
//! from its thread and go: the thread may finish the download that it is in, which harms nothing (a pack is added whole
//! or not at all), and finds the lock gone before it does anything else to the mirror.

use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::error::GitError;

/// How often it is looked whether a thread that did other things has begun to talk.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// How a mirror is held. The fields are there to be dropped.
pub(super) enum Held {
    /// Others may read it too.
    Shared { _file: File, _task: OwnedRwLockReadGuard<()> },
    /// Nobody else uses it.
    Alone {
        _file: File,
        _task: OwnedRwLockWriteGuard<()>,
        /// Somebody else had it when we asked.
        waited: bool,
    },
}

/// Watches one checkout.
pub(super) struct Watch {
    /// When which server was last heard; nothing while nobody waits for one.
    heard: Mutex<Option<(Instant, String)>>,
    held: Mutex<Option<Held>>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { heard: Mutex::new(None), held: Mutex::new(None) }
    }

    /// Waits for the server of `repo` by `talk`.
    pub(super) fn during<T>(&self, repo: &str, talk: impl FnOnce() -> T) -> T {
        *lock(&self.heard) = Some((Instant::now(), repo.to_owned()));
        let done = talk();
        *lock(&self.heard) = None;
        done
    }

    /// The server sent something.
    pub(super) fn hear(&self) {
        // One that had been given up counts for nothing.
        if let Some((heard, _)) = &mut *lock(&self.heard) {
            *heard = Instant::now();
        }
    }

    /// Resolves when a server has been waited for so long in vain, with the repository that was to come from there.
    pub(super) async fn stalled(&self, limit: Duration) -> String {
        loop {
            let heard = lock(&self.heard).clone();
            match heard {
                Some((heard, repo)) if heard.elapsed() >= limit => return repo,
                Some((heard, _)) => sleep_until(heard + limit).await,
                None => sleep(BETWEEN_LOOKS).await,
            }
        }
    }

    /// Holds this lock from now on.
    pub(super) fn hold(&self, held: Held) {
        *lock(&self.held) = Some(held);
    }

    /// Lets go of it; `None` when it was taken away.
    pub(super) fn release(&self) -> Option<Held> {
        lock(&self.held).take()
    }

    /// Does something to the mirror's files, if the lock is still there. It is not taken away meanwhile.
    pub(super) fn on_files<T>(&self, work: impl FnOnce() -> Result<T, GitError>) -> Result<T, GitError> {
        let held = lock(&self.held);
        if held.is_some() { work() } else { Err(GitError::Cancelled) }
    }

    /// Takes the lock away from a thread that waits for its server. One that works on files is left alone: it sees
    /// the stop, which must come first, when it has done so.
    fn take_away(&self) {
        if let Ok(mut held) = self.held.try_lock() {
            held.take();
        }
    }
}

/// Stops a checkout when it is dropped, and frees its mirror for others.
pub(super) struct Ended<'a> {
    pub(super) stop: &'a CancellationToken,
    pub(super) watch: &'a Watch,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.stop.cancel();
        self.watch.take_away();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is whole after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
