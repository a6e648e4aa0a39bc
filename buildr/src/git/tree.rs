//! A person's own tree, copied as the farm would see it if it were pushed now.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, Repository, RepositoryOpenFlags, StatusOptions};
use protocol::Branch;
use tokio_util::sync::CancellationToken;

use super::TreeCopy;
use super::checkout::{SUBMODULE, commit_id, told_of};
use super::credentials::public_url;
use super::error::GitError;
use super::folder::Fresh;
use super::made::{self, Head};
use super::mirror::refs_of;
use super::objects;

/// What a build hands out to its user lies here, and is no source.
const OUTPUT: &str = ".buildr-out";

/// Settings of `core` that decide whether git sees a file as changed; the copy must agree with the original.
const STATUS_SETTINGS: [&str; 4] = ["autocrlf", "eol", "filemode", "symlinks"];

/// Copies the tree at `from` into the new or empty folder `into`, or leaves nothing.
pub(super) fn copy(from: &Path, into: &Path, stop: &CancellationToken) -> Result<TreeCopy, GitError> {
    let from = fs::canonicalize(from).map_err(GitError::disk("read", from))?;
    let fresh = Fresh::new(into)?;
    let into = fs::canonicalize(into).map_err(GitError::disk("read", into))?;
    let mut copy = TreeCopy::default();
    let mut found = Found::default();
    match work_tree(&from)? {
        Some((repository, prefix)) => {
            found.list(&repository, &from, &prefix, Path::new(""))?;
            describe(&repository, &from, &mut copy)?;
            if prefix.as_os_str().is_empty() {
                copy_history(&repository, &from, &into, stop)?;
            } else {
                copy.notes.push("this is a folder within a repository: the copy has no history".into());
            }
            if repository.config().and_then(|c| c.get_string("extensions.partialclone")).is_ok() {
                copy.notes.push("this is a partial clone: what git has not fetched is missing in the copy".into());
            }
        }
        None => found.walk(&from, Path::new(""), &into, stop)?,
    }
    copy.files = found.write(&from, &into, stop)?;
    found.tell(&mut copy);
    copy.notes.append(&mut found.notes);
    fresh.keep();
    Ok(copy)
}

/// What a copy of the tree at `from` would tell; nothing is written.
pub(super) fn look(from: &Path, stop: &CancellationToken) -> Result<TreeCopy, GitError> {
    let from = fs::canonicalize(from).map_err(GitError::disk("read", from))?;
    let (mut copy, mut found) = (TreeCopy::default(), Found::default());
    if let Some((repository, prefix)) = work_tree(&from)? {
        found.list(&repository, &from, &prefix, Path::new(""))?;
        describe(&repository, &from, &mut copy)?;
    }
    found.tell(&mut copy);
    if stop.is_cancelled() { Err(GitError::Cancelled) } else { Ok(copy) }
}

/// The repository whose work tree `from` is (in), with the way from its root to `from`. None for a folder that git
/// does not know or ignores.
pub(super) fn work_tree(from: &Path) -> Result<Option<(Repository, PathBuf)>, GitError> {
    let none: [&OsStr; 0] = [];
    let repository = match Repository::open_ext(from, RepositoryOpenFlags::empty(), none) {
        Ok(repository) => repository,
        Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
        Err(error) => return Err(GitError::tree("read the repository of", from)(error)),
    };
    let Some(root) = repository.workdir() else { return Ok(None) };
    let root = fs::canonicalize(root).map_err(GitError::disk("read", root))?;
    let Ok(prefix) = from.strip_prefix(&root).map(Path::to_owned) else { return Ok(None) };
    let at_root = prefix.as_os_str().is_empty();
    if !at_root && (prefix.starts_with(".git") || repository.is_path_ignored(&prefix).unwrap_or(false)) {
        return Ok(None);
    }
    Ok(Some((repository, prefix)))
}

/// The files to copy, by their paths from the tree's root.
#[derive(Default)]
struct Found {
    files: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
    changed: usize,
    notes: Vec<String>,
}

impl Found {
    /// Those that git tracks, and those that it would offer to add. `prefix` leads from the repository's root to
    /// `from`, `below` from the tree's root to `from`.
    fn list(&mut self, repository: &Repository, from: &Path, prefix: &Path, below: &Path) -> Result<(), GitError> {
        let failed = |error| GitError::tree("list the files of", from)(error);
        let mut options = StatusOptions::new();
        options.include_untracked(true).recurse_untracked_dirs(true).exclude_submodules(true);
        if !prefix.as_os_str().is_empty() {
            options.pathspec(prefix).disable_pathspec_match(true);
        }
        let mut deleted = BTreeSet::new();
        let mut nested = Vec::new();
        for entry in repository.statuses(Some(&mut options)).map_err(failed)?.iter() {
            let status = entry.status();
            let Some(path) = source_path(entry.path_bytes(), prefix) else { continue };
            if status.is_ignored() {
                continue;
            }
            self.changed += 1;
            if status.is_wt_deleted() {
                deleted.insert(path);
            } else if entry.path_bytes().ends_with(b"/") {
                nested.push(path);
            } else if status.is_wt_new() {
                self.files.insert(below.join(path));
            }
        }
        for entry in repository.index().map_err(failed)?.iter() {
            match source_path(&entry.path, prefix) {
                Some(path) if entry.mode == SUBMODULE => nested.push(path),
                Some(path) if !deleted.contains(&path) => _ = self.files.insert(below.join(path)),
                _ => {}
            }
        }
        nested.into_iter().try_for_each(|path| self.nest(&from.join(&path), &below.join(&path)))
    }

    /// A repository within the tree: a submodule, or one that was just put there. Its files are the tree's.
    fn nest(&mut self, from: &Path, below: &Path) -> Result<(), GitError> {
        self.folders.insert(below.to_owned());
        if let Ok(repository) = Repository::open(from) {
            self.list(&repository, from, Path::new(""), below)?;
            let note = "is a repository of its own: its files are copied as they are, without its history";
            self.notes.push(format!("{} {note}", below.display()));
        }
        Ok(())
    }

    /// Every file, for a folder without git. Not `into` itself, if that lies within.
    fn walk(&mut self, from: &Path, below: &Path, into: &Path, stop: &CancellationToken) -> Result<(), GitError> {
        if stop.is_cancelled() {
            return Err(GitError::Cancelled);
        }
        let folder = from.join(below);
        let failed = GitError::disk("read", folder.clone());
        let entries: Vec<_> = match fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<_>>) {
            Ok(entries) => entries,
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let path = below.join(entry.file_name());
            if path == Path::new(OUTPUT) || from.join(&path) == into {
                continue;
            }
            let kind = entry.file_type().map_err(GitError::disk("read", entry.path()))?;
            if kind.is_dir() {
                self.folders.insert(path.clone());
                self.walk(from, &path, into, stop)?;
            } else if kind.is_file() || kind.is_symlink() {
                self.files.insert(path);
            } else {
                self.notes.push(format!("{} is neither a file nor a link and is left out", path.display()));
            }
        }
        Ok(())
    }

    fn tell(&self, copy: &mut TreeCopy) {
        copy.changed = self.changed;
        copy.dirty = self.changed > 0;
    }

    /// Copies all of it and says how many files and links there were.
    fn write(&self, from: &Path, into: &Path, stop: &CancellationToken) -> Result<usize, GitError> {
        for folder in &self.folders {
            fs::create_dir_all(into.join(folder)).map_err(GitError::disk("make", into.join(folder)))?;
        }
        let (mut count, mut links) = (0, Vec::new());
        for path in &self.files {
            if stop.is_cancelled() {
                return Err(GitError::Cancelled);
            }
            let source = from.join(path);
            let kind = match fs::symlink_metadata(&source) {
                Ok(meta) => meta.file_type(),
                // Gone since it was listed.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(error) => return Err(GitError::disk("read", source)(error)),
            };
            if kind.is_symlink() {
                links.push(path);
            } else if kind.is_file() {
                make_parent(&into.join(path))?;
                fs::copy(&source, into.join(path)).map_err(GitError::disk("copy", source))?;
                count += 1;
            }
        }
        // Links come last, so that no file is ever written through one.
        for path in &links {
            let (source, target) = (from.join(path), into.join(path));
            let leads_to = fs::read_link(&source).map_err(GitError::disk("read", source))?;
            make_parent(&target)?;
            std::os::unix::fs::symlink(leads_to, &target).map_err(GitError::disk("make", target))?;
        }
        Ok(count + links.len())
    }
}

/// A path of git's, counted from `prefix`; none when it is outside, or is a build's output.
pub(super) fn source_path(path: &[u8], prefix: &Path) -> Option<PathBuf> {
    let path = Path::new(OsStr::from_bytes(path)).strip_prefix(prefix).ok()?;
    (!path.starts_with(OUTPUT)).then(|| path.components().collect())
}

fn make_parent(path: &Path) -> Result<(), GitError> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(GitError::disk("make", parent)),
        None => Ok(()),
    }
}

/// Commit, branch and tag of the tree, if it has them.
pub(super) fn describe(repository: &Repository, from: &Path, copy: &mut TreeCopy) -> Result<(), GitError> {
    let failed = |error| GitError::tree("read HEAD of", from)(error);
    let head = repository.find_reference("HEAD").map_err(failed)?;
    let branch = head.symbolic_target().map_err(failed)?.and_then(|name| name.strip_prefix("refs/heads/"));
    copy.branch = branch.and_then(|name| name.parse::<Branch>().ok());
    copy.default_branch = default_branch(repository);
    match head.peel_to_commit() {
        Ok(commit) => {
            copy.tag = tag_at(repository, commit.id()).map_err(failed)?;
            copy.commit = Some(commit_id(&commit));
            (copy.subject, copy.author) = told_of(&commit);
            copy.committed_s = Some(commit.time().seconds());
            Ok(())
        }
        // No commit yet.
        Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::UnbornBranch) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// The tag of a commit; of several the newest that says who made it, else the last by name.
fn tag_at(repository: &Repository, commit: git2::Oid) -> Result<Option<String>, git2::Error> {
    let mut best = None;
    for (name, oid) in refs_of(repository)? {
        let Some(name) = name.strip_prefix("refs/tags/") else { continue };
        let object = repository.find_object(oid, None)?;
        if object.peel_to_commit().is_ok_and(|tagged| tagged.id() == commit) {
            let made = object.as_tag().and_then(|tag| Some(tag.tagger()?.when().seconds()));
            best = best.max(Some((made, name.to_owned())));
        }
    }
    Ok(best.map(|(_, name)| name))
}

/// The branch that a repository's work goes into: the one that its origin's HEAD means, else `main` or `master`.
pub(super) fn default_branch(repository: &Repository) -> Option<Branch> {
    const PREFIX: &str = "refs/remotes/origin/";
    let head = repository.find_reference("refs/remotes/origin/HEAD").ok();
    let named = head.and_then(|head| head.symbolic_target().ok().flatten()?.strip_prefix(PREFIX)?.parse().ok());
    let usual = || ["main", "master"].iter().filter_map(|name| name.parse().ok());
    named.or_else(|| usual().find(|branch| tip_of(repository, branch).is_some()))
}

/// The newest commit of a branch: the remote's, as far as it is known here, before one's own.
pub(super) fn tip_of(repository: &Repository, branch: &Branch) -> Option<git2::Oid> {
    let places = [format!("refs/remotes/origin/{branch}"), format!("refs/heads/{branch}")];
    places.iter().find_map(|name| Some(repository.find_reference(name).ok()?.peel_to_commit().ok()?.id()))
}

/// Gives the copy a `.git` of its own: same objects, branches, tags, HEAD and index; origin without password.
pub(super) fn copy_history(
    source: &Repository,
    from: &Path,
    into: &Path,
    stop: &CancellationToken,
) -> Result<(), GitError> {
    let failed = |error| GitError::tree("copy the history of", from)(error);
    let head = source.find_reference("HEAD").map_err(failed)?;
    let core = status_settings(source).map_err(failed)?;
    let core: Vec<(&str, &str)> = core.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let at = match (head.symbolic_target().map_err(failed)?, head.target()) {
        (None, Some(commit)) => Head::At(commit),
        (name, _) => Head::On(name.unwrap_or("refs/heads/main")),
    };
    let copy = made::make(into, at, &core, &origin_of(source))?;
    objects::copy_objects(&source.commondir().join("objects"), &copy.path().join("objects"), stop)?;
    objects::copy_shallow(source.commondir(), copy.path())?;

    let mut refs = refs_of(source).map_err(failed)?;
    refs.retain(|name, _| ["refs/heads/", "refs/tags/", "refs/remotes/"].iter().any(|p| name.starts_with(p)));
    objects::write_refs(copy.path(), &refs)?;
    // Stat fields of the index do not fit the new files; git then compares contents, so its status is true.
    copy_if_there(&source.path().join("index"), &copy.path().join("index"))?;
    ["exclude", "attributes"].iter().try_for_each(|name| {
        let name = Path::new("info").join(name);
        copy_if_there(&source.commondir().join(&name), &copy.path().join(&name))
    })
}

/// The settings of `core` that the copy has as its original.
fn status_settings(source: &Repository) -> Result<Vec<(&'static str, String)>, git2::Error> {
    let from = source.config()?.snapshot()?;
    let told = STATUS_SETTINGS.iter().filter_map(|name| Some((*name, from.get_string(&format!("core.{name}")).ok()?)));
    Ok(told.collect())
}

/// Where the copy comes from, as its original does.
fn origin_of(source: &Repository) -> String {
    let Ok(origin) = source.find_remote("origin") else { return String::new() };
    let url = public_url(&String::from_utf8_lossy(origin.url_bytes()));
    made::section("remote", Some("origin"), &[("url", &url), ("fetch", "+refs/heads/*:refs/remotes/origin/*")])
}

fn copy_if_there(from: &Path, into: &Path) -> Result<(), GitError> {
    make_parent(into)?;
    match fs::copy(from, into) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(GitError::disk("copy", from)(error)),
        _ => Ok(()),
    }
}
