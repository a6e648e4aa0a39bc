//! A folder for each job, removed whatever happens: at the job's end, or by the next sweep.

use std::fs::{DirEntry, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use crate::executor::{Executor, ExecutorError};

/// The folder under which workspaces are made. Several processes may share it.
#[derive(Debug, Clone)]
pub struct WorkFolder {
    root: PathBuf,
}

/// One job's folder. It holds a lock for as long as its process lives, so that a sweep sees whether it is in use.
#[derive(Debug)]
pub struct Workspace {
    folder: PathBuf,
    _lock: File,
}

/// Why a workspace could not be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to make a workspace in {}: {source}; choose another folder with --work-dir", folder.display())]
pub struct WorkspaceError {
    folder: PathBuf,
    source: io::Error,
}

const CHECKOUT: &str = "app";
const LOCK: &str = "lock";

impl WorkFolder {
    /// Uses a folder, which is made when it is missing.
    ///
    /// # Errors
    /// When it cannot be made or found.
    pub fn at(root: &Path) -> Result<Self, WorkspaceError> {
        let problem = |source| WorkspaceError { folder: root.to_owned(), source };
        std::fs::create_dir_all(root).map_err(problem)?;
        // The daemon is given this path, so links in it must be followed here.
        Ok(Self { root: root.canonicalize().map_err(problem)? })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Makes an empty workspace.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn open(&self) -> Result<Workspace, WorkspaceError> {
        let folder = self.root.join(Uuid::new_v4().simple().to_string());
        let made = || -> io::Result<File> {
            // The lock is taken before the folder can be seen under its own name: a sweep never finds it unlocked.
            let making = self.root.join(format!(".{}", Uuid::new_v4().simple()));
            std::fs::create_dir(&making)?;
            let lock = File::create(making.join(LOCK))?;
            lock.lock()?;
            std::fs::create_dir(making.join(CHECKOUT))?;
            std::fs::rename(&making, &folder)?;
            Ok(lock)
        };
        let lock = made().map_err(|source| WorkspaceError { folder: self.root.clone(), source })?;
        Ok(Workspace { folder, _lock: lock })
    }

    /// Removes the workspaces of processes that are no more. Returns how many.
    ///
    /// # Errors
    /// When the disk refuses; the rest is left to the next sweep.
    pub async fn sweep(&self, executor: &dyn Executor) -> Result<usize, ExecutorError> {
        let problem = |source| ExecutorError::Disk { doing: format!("look through {}", self.root.display()), source };
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.root).map_err(problem)? {
            let entry = entry.map_err(problem)?;
            let folder = entry.path();
            let Ok(lock) = File::open(folder.join(LOCK)) else { continue };
            // One that is being made is not locked for a moment; one whose maker died is swept when it is old.
            if is_being_made(&entry) {
                continue;
            }
            if lock.try_lock().is_ok() {
                executor.discard(&folder).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// How long a workspace may take to be made before it counts as left behind.
const MAKING: Duration = Duration::from_secs(60);

fn is_being_made(entry: &DirEntry) -> bool {
    let fresh = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
    entry.file_name().as_encoded_bytes().starts_with(b".") && fresh().is_none_or(|age| age < MAKING)
}

impl Workspace {
    /// Where the code goes, and what containers see.
    #[must_use]
    pub fn checkout(&self) -> PathBuf {
        self.folder.join(CHECKOUT)
    }

    /// Removes it, with all that containers left in it.
    ///
    /// # Errors
    /// When something of it stays.
    pub async fn discard(self, executor: &dyn Executor) -> Result<(), ExecutorError> {
        executor.discard(&self.folder).await
    }
}
