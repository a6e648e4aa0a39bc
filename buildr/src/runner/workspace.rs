//! A folder for each job, removed whatever happens: at the job's end, or by the next sweep.

use std::fs::{DirEntry, File};
use std::io;
use std::path::{Path, PathBuf};

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
        let making = self.root.join(format!(".{}", Uuid::new_v4().simple()));
        let made = || -> io::Result<File> {
            // While this is held no sweep touches what is being made.
            let root = File::open(&self.root)?;
            root.lock_shared()?;
            // The lock is taken before the folder can be seen under its own name: a sweep never finds it unlocked.
            std::fs::create_dir(&making)?;
            let lock = File::create(making.join(LOCK))?;
            lock.lock()?;
            std::fs::create_dir(making.join(CHECKOUT))?;
            std::fs::rename(&making, &folder)?;
            Ok(lock)
        };
        let lock = made().map_err(|source| {
            std::fs::remove_dir_all(&making).ok();
            WorkspaceError { folder: self.root.clone(), source }
        })?;
        Ok(Workspace { folder, _lock: lock })
    }

    /// Removes the workspaces of processes that are no more. Returns how many.
    ///
    /// # Errors
    /// When something stays: all the rest is removed, and what stays is left to the next sweep.
    pub async fn sweep(&self, executor: &dyn Executor) -> Result<usize, ExecutorError> {
        let problem = |source| ExecutorError::Disk { doing: format!("look through {}", self.root.display()), source };
        let (mut removed, mut failed) = (self.sweep_half_made().map_err(problem)?, None);
        for entry in std::fs::read_dir(&self.root).map_err(problem)? {
            let entry = entry.map_err(problem)?;
            let folder = entry.path();
            if is_being_made(&entry) {
                continue;
            }
            let Ok(lock) = File::open(folder.join(LOCK)) else { continue };
            if lock.try_lock().is_ok() {
                match executor.discard(&folder).await {
                    Ok(()) => removed += 1,
                    Err(error) => failed = Some(error),
                }
            }
        }
        failed.map_or(Ok(removed), Err)
    }

    /// Removes what somebody died over, or met a full disk with, before it was a workspace. No clock is asked how old
    /// it is: nobody makes one while this goes on.
    fn sweep_half_made(&self) -> io::Result<usize> {
        let root = File::open(&self.root)?;
        if root.try_lock().is_err() {
            return Ok(0);
        }
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?;
            if is_being_made(&entry) {
                std::fs::remove_dir_all(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Whether it has the name of a workspace that is not yet whole. No other name is ours to remove without its lock.
fn is_being_made(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let digits = name.to_str().and_then(|name| name.strip_prefix('.'));
    digits.is_some_and(|digits| Uuid::try_parse(digits).is_ok())
}

impl Workspace {
    /// Where the code goes, and what containers see.
    #[must_use]
    pub fn checkout(&self) -> PathBuf {
        self.folder.join(CHECKOUT)
    }

    /// The folder that it lies in, where the job may make others.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes it, with all that containers left in it.
    ///
    /// # Errors
    /// When something of it stays.
    pub async fn discard(self, executor: &dyn Executor) -> Result<(), ExecutorError> {
        executor.discard(&self.folder).await
    }
}
