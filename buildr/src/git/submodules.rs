//! Submodules: other repositories at places of this one, each checked out as a repository of its own.
//!
//! Each comes through its own mirror, and its `.git` lies within it, so that it can be moved with its parent and no
//! name of a submodule ever becomes a path.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

use git2::{FileMode, Repository};
use protocol::CommitId;

use super::checkout::{self, SUBMODULE};
use super::credentials::public_url;
use super::error::GitError;
use super::folder::within;
use super::gitmodules::{LONGEST, Section, parse, url_of};
use super::listing::Asked;
use super::order::Order;
use super::remote::Progress;

/// More submodules than this, theirs included, are a mistake or an attack.
const MOST: usize = 500;

/// Submodules of submodules of submodules, and so on.
const DEEPEST: usize = 20;

/// A submodule that is there.
pub(super) struct Link {
    /// From the root of the repository that it is a submodule of.
    pub(super) path: String,
    pub(super) commit: CommitId,
}

/// The submodules that the commit of a checkout has, whether it says where they come from or not.
pub(super) fn links(repository: &Repository) -> Result<Vec<Link>, git2::Error> {
    let index = repository.index()?;
    let links = index.iter().filter(|entry| entry.mode == SUBMODULE).filter_map(|entry| {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        Some(Link { path, commit: entry.id.to_string().parse().ok()? })
    });
    Ok(links.collect())
}

/// Brings submodules into checkouts.
pub(super) struct Submodules<'a> {
    pub(super) progress: &'a Progress,
    /// Theirs too.
    pub(super) recursive: bool,
    pub(super) count: Cell<usize>,
}

impl Submodules<'_> {
    /// Brings those of `checkout`, which came from the order's repository, and calls `each` with every checkout that
    /// is complete. Those that are there already are left as they are, so it can be called again.
    pub(super) fn bring(
        &self,
        order: &Order,
        checkout: &Path,
        each: &dyn Fn(&Order, &Path) -> Result<(), GitError>,
    ) -> Result<(), GitError> {
        self.level(order, checkout, 1, each)
    }

    fn level(
        &self,
        order: &Order,
        checkout: &Path,
        deep: usize,
        each: &dyn Fn(&Order, &Path) -> Result<(), GitError>,
    ) -> Result<(), GitError> {
        let failed = |error| GitError::tree("read the submodules of", checkout)(error);
        let repository = Repository::open(checkout).map_err(failed)?;
        let links = links(&repository).map_err(failed)?;
        if links.is_empty() {
            return Ok(());
        }
        let named = named(&repository, order)?;
        for link in links {
            let wrap = |source| GitError::in_submodule(&link.path, source);
            let refused = |why: &str| GitError::Misleading {
                file: ".gitmodules",
                repo: public_url(order.repo.reveal()),
                why: why.to_owned(),
            };
            self.count.set(self.count.get() + 1);
            if self.count.get() > MOST || deep > DEEPEST {
                let why =
                    format!("it leads to more than {MOST} submodules, or to more than {DEEPEST} within each other");
                return Err(refused(&why));
            }
            let missing = || refused(&format!("it does not say where {} comes from", link.path));
            let section = named.get(&link.path).ok_or_else(missing)?;
            let written = section.url.as_deref().ok_or_else(missing)?;
            let from = url_of(&order.repo, written)
                .map_err(|why| refused(&format!("{} at {:?}: {why}", link.path, public_url(written))))?;
            let from = order.at(from);
            from.allowed().map_err(wrap)?;
            let into = within(checkout, &link.path).map_err(wrap)?;
            if !is_at(&into, &link.commit) {
                self.progress.say(format!("submodule {}", link.path));
                let asked = Asked::Commit { commit: link.commit.clone(), branch: None };
                checkout::run(&from, &asked, &into, self.progress).map_err(wrap)?;
            }
            from.writes()?;
            note_in_config(&repository, section, &public_url(from.repo.reveal())).map_err(failed)?;
            if self.recursive {
                self.level(&from, &into, deep + 1, each).map_err(wrap)?;
            }
            each(&from, &into).map_err(wrap)?;
        }
        Ok(())
    }
}

/// What the commit's `.gitmodules` says, by path. A link in the place of the file says nothing.
fn named(repository: &Repository, order: &Order) -> Result<BTreeMap<String, Section>, GitError> {
    let repo = public_url(order.repo.reveal());
    let failed = |error: git2::Error| GitError::mirror(&repo)(error);
    let refused = |why: String| GitError::Misleading { file: ".gitmodules", repo: repo.clone(), why };
    let tree = repository.head().and_then(|head| head.peel_to_tree()).map_err(failed)?;
    let Some(entry) = tree.get_name(".gitmodules") else { return Ok(BTreeMap::new()) };
    let plain = [FileMode::Blob, FileMode::BlobExecutable, FileMode::BlobGroupWritable];
    if !plain.iter().any(|mode| i32::from(*mode) == entry.filemode()) {
        return Err(refused("it is no plain file".to_owned()));
    }
    let (size, _) = repository.odb().and_then(|objects| objects.read_header(entry.id())).map_err(failed)?;
    if size as u64 > LONGEST {
        return Err(refused(format!("it is longer than {LONGEST} bytes")));
    }
    let blob = repository.find_blob(entry.id()).map_err(failed)?;
    let text = std::str::from_utf8(blob.content()).map_err(|_| refused("it is not written in UTF-8".to_owned()))?;
    let sections = parse(text).map_err(refused)?;
    let trimmed = |path: &str| path.trim_end_matches('/').to_owned();
    Ok(sections.into_iter().filter_map(|s| Some((trimmed(s.path.as_deref()?), s))).collect())
}

/// Whether a checkout of this commit stands there from an earlier try.
fn is_at(folder: &Path, commit: &CommitId) -> bool {
    // Without a `.git` of its own the folder would be taken for a part of its parent.
    let own = folder.join(".git").is_dir().then(|| Repository::open(folder).ok()).flatten();
    own.and_then(|own| own.head().ok()?.target()).is_some_and(|head| head.to_string() == commit.as_str())
}

/// Lets git within a stage know the submodule as one that is set up.
fn note_in_config(repository: &Repository, section: &Section, url: &str) -> Result<(), git2::Error> {
    repository.config()?.set_str(&format!("submodule.{}.url", section.name), url)
}
