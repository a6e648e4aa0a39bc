//! What must be written to turn the files of one commit into those of another.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use git2::build::CheckoutBuilder;
use git2::{Commit, Delta, DiffOptions, Repository, Tree, TreeWalkMode};

use super::error::GitError;

/// The files by which git decides how others are written.
const ATTRIBUTES: &[u8] = b".gitattributes";

/// A HEAD on what has no commit: no name of a remote's ever begins so.
const UNBORN: &str = "ref: refs/buildr/none\n";

/// Paths as git has them: bytes, from the checkout's root.
type Paths = BTreeSet<Vec<u8>>;

/// The difference between two commits.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// What must go, or be written anew.
    old: Paths,
    /// What must be written.
    new: Paths,
    /// How many bytes that is.
    pub(super) bytes: u64,
}

impl Change {
    /// From one commit to another.
    pub(super) fn between(repository: &Repository, from: git2::Oid, to: git2::Oid) -> Result<Self, git2::Error> {
        if from == to {
            return Ok(Self::default());
        }
        let (from, to) = (repository.find_commit(from)?.tree()?, repository.find_commit(to)?.tree()?);
        let mut change = Self::default();
        let diff = repository.diff_tree_to_tree(Some(&from), Some(&to), Some(&mut DiffOptions::new()))?;
        let objects = repository.odb()?;
        for delta in diff.deltas() {
            if let Some(path) = delta.old_file().path_bytes().filter(|_| delta.status() != Delta::Added) {
                change.old.insert(path.to_vec());
            }
            if let Some(path) = delta.new_file().path_bytes().filter(|_| delta.status() != Delta::Deleted) {
                change.new.insert(path.to_vec());
                // Another repository's commit is no object of this one.
                let size = objects.read_header(delta.new_file().id()).map_or(0, |(size, _)| size);
                change.bytes += u64::try_from(size).unwrap_or_default();
            }
        }
        change.heed_attributes(&from, &to)?;
        Ok(change)
    }

    /// How many files it writes or removes.
    pub(super) fn files(&self) -> u64 {
        u64::try_from(self.old.union(&self.new).count()).unwrap_or(u64::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.old.is_empty() && self.new.is_empty()
    }

    /// All that it touches, as text that [`unwritten`] reads.
    pub(super) fn written(&self) -> BTreeSet<String> {
        self.old.union(&self.new).map(|path| path.iter().map(|&byte| char::from(byte)).collect()).collect()
    }

    /// Files below attributes that have changed may have to be written otherwise, though they are the same to git.
    fn heed_attributes(&mut self, from: &Tree<'_>, to: &Tree<'_>) -> Result<(), git2::Error> {
        let all = self.old.union(&self.new);
        let folders: Vec<Vec<u8>> = all.filter_map(|path| Some(path.strip_suffix(ATTRIBUTES)?.to_vec())).collect();
        let folders: Vec<_> = folders.into_iter().filter(|path| path.last().is_none_or(|last| *last == b'/')).collect();
        for (tree, paths) in [(from, &mut self.old), (to, &mut self.new)] {
            if folders.is_empty() {
                continue;
            }
            tree.walk(TreeWalkMode::PreOrder, |root, entry| {
                let path = [root.as_bytes(), entry.name_bytes()].concat();
                if entry.kind() != Some(git2::ObjectType::Tree) && folders.iter().any(|f| path.starts_with(f)) {
                    paths.insert(path);
                }
                git2::TreeWalkResult::Ok
            })?;
        }
        Ok(())
    }

    /// Does it to a checkout of the first commit, in which nobody has written anything. Its HEAD is left to be set.
    pub(super) fn apply(
        &self,
        repository: &Repository,
        checkout: &Path,
        to: &Commit<'_>,
        failed: impl Fn(&git2::Error) -> GitError,
    ) -> Result<(), GitError> {
        for path in &self.old {
            let place = checkout.join(OsStr::from_bytes(path));
            remove(&place, checkout).map_err(GitError::disk("remove", place))?;
        }
        // Attributes that are gone must not be found there while files are written.
        self.unlist(repository).map_err(|error| failed(&error))?;
        // With nothing to compare it with, git writes each file as a new one.
        let head = repository.path().join("HEAD");
        fs::write(&head, UNBORN).map_err(GitError::disk("write", head))?;
        if !self.new.is_empty() {
            let mut builder = CheckoutBuilder::new();
            builder.force().disable_pathspec_match(true);
            for path in &self.new {
                builder.path(path.as_slice());
            }
            repository.checkout_tree(to.as_object(), Some(&mut builder)).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    /// Takes out of the index what is gone.
    fn unlist(&self, repository: &Repository) -> Result<(), git2::Error> {
        let mut gone = self.old.difference(&self.new).peekable();
        if gone.peek().is_none() {
            return Ok(());
        }
        let mut index = repository.index()?;
        for path in gone {
            index.remove(Path::new(OsStr::from_bytes(path)), 0)?;
        }
        index.write()
    }
}

/// The path that [`Change::written`] gave.
pub(super) fn unwritten(path: &str) -> Option<Vec<u8>> {
    path.chars().map(|letter| u8::try_from(letter).ok()).collect()
}

/// Removes a file, or the empty folder of another repository, and the folders above that it leaves empty.
fn remove(place: &Path, checkout: &Path) -> io::Result<()> {
    match fs::symlink_metadata(place) {
        Ok(found) if found.is_dir() => fs::remove_dir(place)?,
        Ok(_) => fs::remove_file(place)?,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        Err(error) => return Err(error),
    }
    let above = place.ancestors().skip(1).take_while(|above| *above != checkout);
    for folder in above {
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(())
}
