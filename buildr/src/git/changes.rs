//! Which files a commit changed, counted from where its build should count: what a condition on paths goes by.
//!
//! Only the names are wanted, so two trees are walked side by side and whatever is equal in both is never opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use git2::{ErrorCode, ObjectType, Oid, Repository, StatusOptions, Tree};
use protocol::{Branch, CommitId};
use tokio_util::sync::CancellationToken;

use super::error::GitError;
use super::tree::{default_branch, source_path, tip_of, work_tree};

/// More changed files than this decide nothing finer than "everything": a condition on paths is for smaller changes.
const MOST_FILES: usize = 10_000;

/// Deeper folders than this are no source.
const DEEPEST: usize = 200;

/// From where the changes of a build are counted. The first that is given counts, and no other.
///
/// Without any of them it is where the commit's history left the default branch; on the default branch itself, the
/// commit before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Base {
    /// The branch that a pull request wants to go into: from where the two parted.
    pub target: Option<Branch>,
    /// The last commit of the same branch whose build passed.
    pub last_green: Option<CommitId>,
    /// Where the branch was before it was pushed; it counts where the push only added to it.
    pub before: Option<CommitId>,
}

/// The files that differ between the base and `commit` (none: HEAD, and what is not committed), with `/` between
/// folders, counted from `from`; those outside of it are left out. None when the base is not known.
pub(super) fn of(
    from: &Path,
    base: &Base,
    commit: Option<&CommitId>,
    stop: &CancellationToken,
) -> Result<Option<Vec<String>>, GitError> {
    let from = fs::canonicalize(from).map_err(GitError::disk("read", from))?;
    let Some((repository, prefix)) = work_tree(&from)? else { return Ok(None) };
    let failed = |error| GitError::tree("list the files of", &from)(error);
    let upto = match commit.map(|commit| Oid::from_str(commit.as_str())).transpose().map_err(failed)? {
        Some(commit) => commit,
        None => match repository.head().and_then(|head| head.peel_to_commit()) {
            Ok(head) => head.id(),
            Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::UnbornBranch) => return Ok(None),
            Err(error) => return Err(failed(error)),
        },
    };
    let Some(mut found) = between(&repository, base, upto, stop)? else { return Ok(None) };
    if commit.is_none() {
        let mut options = StatusOptions::new();
        options.include_untracked(true).recurse_untracked_dirs(true);
        for entry in repository.statuses(Some(&mut options)).map_err(failed)?.iter() {
            if !entry.status().is_ignored() {
                found.insert(entry.path_bytes().to_vec());
            }
        }
    }
    if stop.is_cancelled() {
        return Err(GitError::Cancelled);
    }
    let within = found.iter().filter_map(|path| source_path(path, &prefix));
    let within: Vec<String> = within.map(|path| path.to_string_lossy().into_owned()).collect();
    Ok((within.len() <= MOST_FILES).then_some(within))
}

/// What differs between the base and a commit, counted from the repository's root.
fn between(
    repository: &Repository,
    base: &Base,
    commit: Oid,
    stop: &CancellationToken,
) -> Result<Option<BTreeSet<Vec<u8>>>, GitError> {
    let tree = |commit: Oid| Some(repository.find_commit(commit).ok()?.tree_id());
    let trees = base_of(repository, base, commit).and_then(|from| Some((tree(from)?, tree(commit)?)));
    let Some((old, new)) = trees else { return Ok(None) };
    let mut walk = Walk { repository, stop, found: BTreeSet::new() };
    let whole = walk.compare((Some(old), Some(new)), &[], 0)?;
    Ok(whole.then_some(walk.found))
}

/// From which commit on it is counted; none when nobody knows.
fn base_of(repository: &Repository, base: &Base, commit: Oid) -> Option<Oid> {
    if let Some(target) = &base.target {
        return repository.merge_base(tip_of(repository, target)?, commit).ok();
    }
    if let Some(green) = &base.last_green {
        let green = Oid::from_str(green.as_str()).ok()?;
        // A green commit that the history does not hold any more was pushed away. Who builds the green one again wants
        // to see it built.
        let before = repository.graph_descendant_of(commit, green).ok()?;
        return before.then_some(green);
    }
    let before = base.before.as_ref().and_then(|before| Oid::from_str(before.as_str()).ok());
    let before = before.filter(|before| repository.graph_descendant_of(commit, *before).unwrap_or(false));
    if before.is_some() {
        return before;
    }
    let trunk = default_branch(repository).and_then(|branch| tip_of(repository, &branch));
    match trunk.map(|trunk| repository.merge_base(trunk, commit)) {
        Some(Ok(parted)) if parted != commit => Some(parted),
        Some(Err(_)) => None,
        _ => repository.find_commit(commit).ok()?.parent_id(0).ok(),
    }
}

/// A file, a link, a folder or a submodule, as a tree lists it.
type Entry = (Oid, i32, bool);

/// Two trees side by side.
struct Walk<'a> {
    repository: &'a Repository,
    stop: &'a CancellationToken,
    found: BTreeSet<Vec<u8>>,
}

impl Walk<'_> {
    /// Collects what differs between two folders at `path`. `false`: it is too much, or an object is missing.
    fn compare(&mut self, folders: (Option<Oid>, Option<Oid>), path: &[u8], deep: usize) -> Result<bool, GitError> {
        if self.stop.is_cancelled() {
            return Err(GitError::Cancelled);
        }
        let (Some(old), Some(new)) = (self.list(folders.0), self.list(folders.1)) else { return Ok(false) };
        let names: BTreeSet<&Vec<u8>> = old.keys().chain(new.keys()).collect();
        for name in names {
            let sides = (old.get(name), new.get(name));
            if sides.0 == sides.1 {
                continue;
            }
            let below: Vec<u8> = if path.is_empty() { name.clone() } else { [path, b"/", name].concat() };
            let folder = |side: Option<&Entry>| side.filter(|entry| entry.2).map(|entry| entry.0);
            let inner = (folder(sides.0), folder(sides.1));
            // A file in the place of a folder is a change of both.
            if [sides.0, sides.1].iter().flatten().any(|entry| !entry.2) {
                self.found.insert(below.clone());
            }
            let told = inner == (None, None) || (deep < DEEPEST && self.compare(inner, &below, deep + 1)?);
            if !told || self.found.len() > MOST_FILES {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn list(&self, folder: Option<Oid>) -> Option<BTreeMap<Vec<u8>, Entry>> {
        let tree: Tree<'_> = match folder {
            Some(folder) => self.repository.find_tree(folder).ok()?,
            None => return Some(BTreeMap::new()),
        };
        let entries = tree.iter().map(|entry| {
            let is_folder = entry.kind() == Some(ObjectType::Tree);
            (entry.name_bytes().to_vec(), (entry.id(), entry.filemode_raw(), is_folder))
        });
        Some(entries.collect())
    }
}
