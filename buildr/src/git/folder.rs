//! A folder that is filled whole or left as it was.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

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

/// The place of `path` below `root`. Neither the way there nor the place itself may lead through a link or into a
/// `.git`: whoever wrote a repository could otherwise choose what else on this disk is written to.
pub(super) fn within(root: &Path, path: &str) -> Result<PathBuf, GitError> {
    let refused = |why: &'static str| GitError::Outside { path: path.to_owned(), why };
    if path.chars().any(char::is_control) {
        return Err(refused("it holds a control character"));
    }
    let mut place = root.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::CurDir => continue,
            Component::Normal(name) if !is_git(&name.to_string_lossy()) => place.push(name),
            Component::Normal(_) => return Err(refused("git keeps its own files there")),
            _ => return Err(refused("it leads out of the workspace")),
        }
        match fs::symlink_metadata(&place) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => return Err(refused("a file or a link stands in its way")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(GitError::disk("read", place)(error)),
        }
    }
    if place == root { Err(refused("it names no folder of its own")) } else { Ok(place) }
}

/// Whether some file system takes a name for `.git`.
fn is_git(name: &str) -> bool {
    // Letters that HFS+ passes over, and what NTFS cuts off.
    let seen: String = name
        .chars()
        .filter(
            |c| !matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}'),
        )
        .collect();
    let seen = seen.trim_end_matches(['.', ' ']).to_ascii_lowercase();
    seen == ".git" || seen == "git~1"
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
