//! How much of the history a stage sees.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::Path;

use git2::{Oid, Repository};
use tokio_util::sync::CancellationToken;

use super::error::GitError;
use super::mirror::refs_of;
use super::objects;

/// Cuts the history of a checkout to the `depth` newest commits of each line that leads to HEAD, as a clone of that
/// depth leaves it: other branches are gone, and so are tags of older commits. Called again, it changes nothing.
pub(super) fn cut(checkout: &Path, depth: u32, stop: &CancellationToken) -> Result<(), GitError> {
    let failed = |error| GitError::tree("cut the history of", checkout)(error);
    let repository = Repository::open(checkout).map_err(failed)?;
    let head = repository.head().and_then(|head| head.peel_to_commit()).map_err(failed)?.id();
    let (kept, ends) = newest(&repository, head, depth.max(1), stop)?;

    let mut refs = refs_of(&repository).map_err(failed)?;
    let commit_of = |oid: Oid| repository.find_object(oid, None).and_then(|o| o.peel_to_commit()).map(|c| c.id());
    refs.retain(|_, oid| commit_of(*oid).is_ok_and(|commit| kept.contains(&commit)));
    // A branch that began in the part that is kept, and goes on elsewhere.
    let at_head = |name: &str, oid: Oid| name.starts_with("refs/tags/") || commit_of(oid).is_ok_and(|tip| tip == head);
    refs.retain(|name, oid| at_head(name, *oid));
    // First the end of the history, then the names: what lies between is never looked for.
    let text: String = ends.iter().map(|end| format!("{end}\n")).collect();
    let (list, new) = (repository.path().join("shallow"), repository.path().join("shallow.new"));
    if ends.is_empty() {
        super::folder::remove(&list)?;
    } else {
        fs::write(&new, text).and_then(|()| fs::rename(&new, &list)).map_err(GitError::disk("write", list))?;
    }
    objects::write_refs(repository.path(), &refs)?;
    let default = "refs/remotes/origin/HEAD";
    let leads = |reference: &git2::Reference<'_>| reference.resolve().is_ok();
    match repository.find_reference(default) {
        Ok(mut reference) if !leads(&reference) => reference.delete().map_err(failed),
        _ => Ok(()),
    }
}

/// The commits that are kept, and those of them whose parents are not.
fn newest(
    repository: &Repository,
    head: Oid,
    depth: u32,
    stop: &CancellationToken,
) -> Result<(HashSet<Oid>, BTreeSet<Oid>), GitError> {
    let failed = |error| GitError::tree("read the history of", repository.path())(error);
    let (mut kept, mut ends) = (HashSet::from([head]), BTreeSet::new());
    let mut layer = vec![head];
    for left in (0..depth).rev() {
        let mut next = Vec::new();
        for commit in layer {
            if stop.is_cancelled() {
                return Err(GitError::Cancelled);
            }
            let parents: Vec<Oid> = repository.find_commit(commit).map_err(failed)?.parent_ids().collect();
            // Where the history ended before, it still does.
            let there = parents.iter().all(|parent| repository.find_commit(*parent).is_ok());
            if parents.is_empty() {
                ends.extend(is_end(repository, commit).then_some(commit));
            } else if left == 0 || !there {
                ends.insert(commit);
            } else {
                next.extend(parents.into_iter().filter(|parent| kept.insert(*parent)));
            }
        }
        layer = next;
    }
    Ok((kept, ends))
}

/// Whether the history was cut at this commit before. Git then shows it as one without parents.
fn is_end(repository: &Repository, commit: Oid) -> bool {
    let list = fs::read_to_string(repository.path().join("shallow")).unwrap_or_default();
    list.lines().any(|line| line == commit.to_string())
}
