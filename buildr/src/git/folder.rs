//! A folder that is filled whole or left as it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::GitError;

/// An empty folder to fill. Unless it is kept, what came into it is removed again.
pub(super) struct Fresh {
    path: PathBuf,
    existed: bool,
    kept: bool,
}

impl Fresh {
    /// Makes it, or takes it as it is when it is empty.
    pub(super) fn new(path: &Path) -> Result<Self, GitError> {
        let existed = match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
            Ok(true) => true,
            Ok(false) => return Err(GitError::NotEmpty { path: path.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path).map_err(GitError::disk("make", path))?;
                false
            }
            Err(error) => return Err(GitError::disk("read", path)(error)),
        };
        Ok(Self { path: path.to_owned(), existed, kept: false })
    }

    /// It is complete.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let removed = if self.existed {
            let entries = fs::read_dir(&self.path).map(|entries| entries.flatten().map(|e| e.path()).collect());
            let entries: Vec<PathBuf> = entries.unwrap_or_default();
            entries.iter().try_for_each(|path| remove(path))
        } else {
            remove(&self.path)
        };
        if let Err(error) = removed {
            tracing::warn!(%error, "a checkout that was broken off could not be removed");
        }
    }
}

/// Removes a file or a folder with all that is in it, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), GitError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(GitError::disk("remove", path)(error)),
        _ => Ok(()),
    }
}
