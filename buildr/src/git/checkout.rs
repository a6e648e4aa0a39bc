//! From a mirror to a folder that a build may do anything to.

use std::collections::BTreeMap;
use std::path::Path;

use git2::build::CheckoutBuilder;
use git2::{Commit, ErrorClass, FileMode, Repository};
use protocol::{Branch, CommitId};

use super::CheckedOut;
use super::bring::{Brought, bring};
use super::error::GitError;
use super::folder::Fresh;
use super::listing::{Asked, Listing, Want};
use super::made::{self, Head};
use super::mirror::refs_of;
use super::objects;
use super::order::Order;
use super::remote::Progress;
use super::watch::Held;

/// The mode of an index entry that is another repository's commit.
pub(super) const SUBMODULE: u32 = 0o160_000;

/// The most that is told of a commit's subject or author, in bytes.
const LONGEST: usize = 1 << 10;

/// Checks out what is asked for into the new or empty folder `into`, or leaves it as it was. On a thread that may
/// block.
pub(super) fn run(order: &Order, asked: &Asked, into: &Path, progress: &Progress) -> Result<CheckedOut, GitError> {
    bring(order, asked, progress, |brought, shared| {
        order.writes()?;
        Write { brought, into }.whole(shared)
    })
}

/// Writes what was brought into a folder.
pub(super) struct Write<'a> {
    pub(super) brought: &'a Brought<'a>,
    pub(super) into: &'a Path,
}

impl Write<'_> {
    /// Writes the checkout, or nothing.
    pub(super) fn whole(&self, shared: Held) -> Result<CheckedOut, GitError> {
        let fresh = Fresh::new(self.into)?;
        let done = self.fill(shared)?;
        fresh.keep();
        Ok(done)
    }

    fn fill(&self, shared: Held) -> Result<CheckedOut, GitError> {
        let Brought { session, mirror, want, .. } = *self.brought;
        let broken = |error: git2::Error| self.not_written(&error);
        let kept = mirror.open().and_then(|mirror| refs_of(&mirror)).map_err(broken)?;
        let repository = self.begin(Head::On(&want.head()))?;
        objects::copy_shallow(mirror.folder(), repository.path())?;
        drop(shared);

        objects::write_refs(repository.path(), &refs_of_clone(kept, want))?;
        configure(&repository, &session.url, self.brought.listing, want).map_err(broken)?;
        if want.branch.is_none() {
            repository.set_head_detached(want.commit).map_err(broken)?;
        }
        let commit = self.files(&repository)?;
        Ok(self.done(&commit))
    }

    /// Writes the files of the commit and a `.git` on no branch and with no refs: what is kept for builds to lie over.
    pub(super) fn bare_of_names(&self) -> Result<(), GitError> {
        let repository = self.begin(Head::At(self.brought.want.commit))?;
        let broken = |error: git2::Error| self.not_written(&error);
        repository.remote("origin", &self.brought.session.url).map_err(broken)?;
        self.files(&repository).map(drop)
    }

    /// A new repository with all objects.
    fn begin(&self, head: Head<'_>) -> Result<Repository, GitError> {
        let Brought { order, mirror, .. } = *self.brought;
        let repository = made::make(self.into, head, &[], "")?;
        let objects = repository.path().join("objects");
        objects::copy_objects(&mirror.folder().join("objects"), &objects, &order.stop)?;
        Ok(repository)
    }

    /// Writes all files of the commit.
    fn files<'r>(&self, repository: &'r Repository) -> Result<Commit<'r>, GitError> {
        let Brought { session, want, .. } = *self.brought;
        let broken = |error: git2::Error| self.not_written(&error);
        let commit = repository.find_commit(want.commit).map_err(broken)?;
        self.look_at_gitmodules(repository, &commit)?;
        let mut checkout = CheckoutBuilder::new();
        checkout.force();
        repository.checkout_tree(commit.as_object(), Some(&mut checkout)).map_err(broken)?;
        session.go_on()?;
        Ok(commit)
    }

    /// Says what was checked out.
    pub(super) fn done(&self, commit: &Commit<'_>) -> CheckedOut {
        let Brought { session, want, .. } = *self.brought;
        let (subject, author) = told_of(commit);
        let name = want.branch.as_ref().map_or("detached", Branch::as_str);
        session.progress.say(format!("checked out {name} at {:.8}: {subject}", want.commit.to_string()));
        let committed_s = commit.time().seconds();
        let (branch, default_branch) = (want.branch.clone(), default_branch(self.brought.listing));
        CheckedOut { commit: commit_id(commit), branch, subject, author, committed_s, default_branch }
    }

    /// libgit2 reads `.gitmodules` while it writes files, and would follow its includes to any place on this disk.
    pub(super) fn look_at_gitmodules(&self, repository: &Repository, commit: &Commit<'_>) -> Result<(), GitError> {
        let tree = commit.tree().map_err(|error| self.not_written(&error))?;
        let Some(entry) = tree.get_name(".gitmodules") else { return Ok(()) };
        let list = repository.find_blob(entry.id()).map(|list| String::from_utf8_lossy(list.content()).to_lowercase());
        match list {
            Ok(_) if entry.filemode() == i32::from(FileMode::Link) => Err(self.misread("it is no plain file")),
            Ok(list) if list.contains("[include") => Err(self.misread("it includes another file")),
            _ => Ok(()),
        }
    }

    fn misread(&self, why: &str) -> GitError {
        GitError::Misleading { file: ".gitmodules", repo: self.brought.session.url.clone(), why: why.to_owned() }
    }

    /// A failure while writing: the disk's, or else that of the objects just copied.
    pub(super) fn not_written(&self, error: &git2::Error) -> GitError {
        if self.brought.order.stop.is_cancelled() {
            return GitError::Cancelled;
        }
        // The settings of the new repository are our own; the only others that are read are these.
        if error.class() == ErrorClass::Config {
            return self.misread(error.message());
        }
        GitError::of_files(error, &self.brought.session.url, "write the checkout to", self.into)
    }
}

/// The settings and the default branch of a clone.
pub(super) fn configure(repository: &Repository, url: &str, listing: &Listing, want: &Want) -> Result<(), git2::Error> {
    repository.remote("origin", url)?;
    // Which branch the work goes into: conditions on paths count from there.
    if let Some(head) = default_branch(listing) {
        let target = format!("refs/remotes/origin/{head}");
        repository.reference_symbolic("refs/remotes/origin/HEAD", &target, true, "clone")?;
    }
    if let Some(branch) = &want.branch {
        let mut config = repository.config()?;
        config.set_str(&format!("branch.{branch}.remote"), "origin")?;
        config.set_str(&format!("branch.{branch}.merge"), &format!("refs/heads/{branch}"))?;
    }
    Ok(())
}

/// The branch that the remote's HEAD means, if it has that.
pub(super) fn default_branch(listing: &Listing) -> Option<Branch> {
    listing.head_branch().filter(|head| listing.has_branch(head))
}

/// What a commit is called, and who wrote it, each up to its first KiB: git itself knows no limit, and what tells of a
/// build has one.
pub(super) fn told_of(commit: &Commit<'_>) -> (String, String) {
    let cut = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text[..text.floor_char_boundary(LONGEST)].to_owned()
    };
    (cut(commit.summary_bytes().unwrap_or_default()), cut(commit.author().name_bytes()))
}

/// The commit's name in the words of the farm.
pub(super) fn commit_id(commit: &Commit<'_>) -> CommitId {
    commit.id().to_string().parse().expect("git names a commit by 40 hexadecimal digits")
}

/// The refs as `git clone` leaves them: the remote's branches under origin, its tags, and the branch checked out.
pub(super) fn refs_of_clone(kept: BTreeMap<String, git2::Oid>, want: &Want) -> BTreeMap<String, git2::Oid> {
    let moved = kept.into_iter().map(|(name, oid)| match name.strip_prefix("refs/heads/") {
        Some(branch) => (format!("refs/remotes/origin/{branch}"), oid),
        None => (name, oid),
    });
    let mut refs: BTreeMap<_, _> = moved.collect();
    refs.extend(want.branch.as_ref().map(|branch| (format!("refs/heads/{branch}"), want.commit)));
    refs
}
