//! The commit of a person's tree, and nothing that is not in it: what the farm would see if it were pushed now.

use std::fs;
use std::path::Path;

use git2::build::CheckoutBuilder;
use git2::{Index, Repository};
use tokio_util::sync::CancellationToken;

use super::TreeCopy;
use super::checkout::SUBMODULE;
use super::error::GitError;
use super::folder::{Fresh, remove};
use super::lfs;
use super::tree;

/// Writes HEAD of the tree at `from` into the new or empty folder `into`, or leaves nothing.
pub(super) fn copy(from: &Path, into: &Path, stop: &CancellationToken) -> Result<TreeCopy, GitError> {
    let from = fs::canonicalize(from).map_err(GitError::disk("read", from))?;
    let nothing = || GitError::NoCommit { path: from.clone() };
    let failed = |error| GitError::tree("write the commit of", &from)(error);
    let mut copy = tree::look(&from, stop)?;
    let (repository, prefix) = tree::work_tree(&from)?.ok_or_else(nothing)?;
    if copy.commit.is_none() {
        return Err(nothing());
    }
    let fresh = Fresh::new(into)?;
    let into = fs::canonicalize(into).map_err(GitError::disk("read", into))?;
    let mut root = repository.head().and_then(|head| head.peel_to_tree()).map_err(failed)?;
    let mut how = CheckoutBuilder::new();
    how.force();
    if prefix.as_os_str().is_empty() {
        tree::copy_history(&repository, &from, &into, stop)?;
        // What is staged is not committed.
        remove(&into.join(".git/index"))?;
        let own = Repository::open(&into).map_err(failed)?;
        let copied = own.find_tree(root.id()).map_err(failed)?;
        own.checkout_tree(copied.as_object(), Some(&mut how)).map_err(failed)?;
        if lfs::is_used(&own).map_err(failed)? {
            copy.notes.push("files kept by git LFS are not fetched; their pointers stand in their places".into());
        }
    } else {
        let inner = root.get_path(&prefix).map_err(|_| nothing())?.id();
        root = repository.find_tree(inner).map_err(|_| nothing())?;
        how.target_dir(&into).update_index(false);
        repository.checkout_tree(root.as_object(), Some(&mut how)).map_err(failed)?;
        copy.notes.push("this is a folder within a repository: the copy has no history".into());
    }
    let mut index = Index::new().map_err(failed)?;
    index.read_tree(&root).map_err(failed)?;
    let (submodules, files): (Vec<_>, Vec<_>) = index.iter().partition(|entry| entry.mode == SUBMODULE);
    copy.files = files.len();
    let submodules: Vec<_> = submodules.iter().map(|entry| String::from_utf8_lossy(&entry.path)).collect();
    if !submodules.is_empty() {
        copy.notes.push(format!("submodules are not fetched: {}", submodules.join(", ")));
    }
    if stop.is_cancelled() {
        return Err(GitError::Cancelled);
    }
    if copy.changed > 0 {
        copy.notes.push(format!("files with changes that are not committed, which are left out: {}", copy.changed));
    }
    copy.dirty = false;
    fresh.keep();
    Ok(copy)
}
