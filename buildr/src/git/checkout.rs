//! From a repository's URL to a folder that a build may do anything to.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use git2::build::CheckoutBuilder;
use git2::{Commit, ErrorCode, Repository, RepositoryInitOptions};
use protocol::{Branch, CommitId, RepoUrl};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::error::GitError;
use super::folder::Fresh;
use super::mirror::{Locks, Mirror, refs_of};
use super::objects;
use super::remote::{Listing, Progress, Session, Want};
use super::watch::{Held, Watch};
use super::{CheckedOut, ClonePolicy};

/// How often others may throw the mirror away between our fetch and our checkout before that is an error.
const ROUNDS: usize = 3;

/// The mode of an index entry that is another repository's commit.
pub(super) const SUBMODULE: u32 = 0o160_000;

/// What is asked for.
pub(super) struct Order {
    pub(super) repo: RepoUrl,
    pub(super) branch: Option<Branch>,
    pub(super) commit: Option<CommitId>,
    pub(super) into: PathBuf,
    pub(super) cache: PathBuf,
    pub(super) policy: ClonePolicy,
    pub(super) locks: Arc<Locks>,
    pub(super) stop: CancellationToken,
    /// Set before anything is written into `into`.
    pub(super) begun: Arc<AtomicBool>,
    /// Holds the lock on the mirror while it is brought up to date.
    pub(super) watch: Arc<Watch>,
    pub(super) runtime: Handle,
}

/// Does it, on a thread that may block. A damaged mirror is made anew once.
pub(super) fn run(order: &Order, progress: &Progress) -> Result<CheckedOut, GitError> {
    // Private repositories are in there: for this user alone.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&order.cache);
    made.map_err(GitError::disk("make", order.cache.clone()))?;
    let home = order.policy.home.clone();
    let session = Session::new(&order.repo, home, &order.stop, progress, &order.watch, &order.runtime);
    let mirror = Mirror::new(&order.cache, &session.url, &order.locks);
    let job = Job { order, session: &session, mirror: &mirror };
    match job.attempt() {
        Err(GitError::Mirror { detail, .. }) => {
            progress.say(format!("the kept copy of {} is damaged ({detail}); it is made anew", session.url));
            let held = order.runtime.block_on(mirror.hold(&order.stop))?;
            mirror.discard()?;
            drop(held);
            job.attempt()
        }
        done => done,
    }
}

struct Job<'a> {
    order: &'a Order,
    session: &'a Session<'a>,
    mirror: &'a Mirror<'a>,
}

impl Job<'_> {
    fn attempt(&self) -> Result<CheckedOut, GitError> {
        if self.order.repo.is_local() { self.over_disk() } else { self.over_wire() }
    }

    fn over_disk(&self) -> Result<CheckedOut, GitError> {
        self.session.go_on()?;
        let url = url::Url::parse(self.order.repo.reveal()).ok();
        let path = url.and_then(|url| url.to_file_path().ok()).unwrap_or_else(|| self.order.repo.reveal().into());
        let source = Repository::open(&path).map_err(|error| self.not_opened(&error))?;
        let listing = Listing::of_folder(&source).map_err(|error| self.not_opened(&error))?;
        self.deliver(listing, |listing, _, _| {
            self.order.watch.on_files(|| {
                self.mirror.make()?;
                // What was listed before the copy began is whole after it; what came since may not be.
                self.mirror.copy_from(&source, listing, self.session)?;
                Ok(listing.clone())
            })
        })
    }

    fn over_wire(&self) -> Result<CheckedOut, GitError> {
        loop {
            // A connection can only download into the mirror that it was made with. It is opened without a lock:
            // libgit2 goes by the path, and the mirror is looked at again under the lock.
            let bound = self.mirror.open().ok();
            let mut remote = self.session.remote(bound.as_ref())?;
            let Some(mut connection) = self.session.connect(&mut remote)? else { continue };
            let listing = Listing::of_remote(connection.remote()).map_err(|e| self.session.explain(&e))?;
            let mut first = Some(connection).filter(|_| bound.is_some());
            return self.deliver(listing, move |_, want, waited| {
                self.order.watch.on_files(|| self.mirror.make())?;
                // After a wait the server may have hung up, and its list is old.
                let fetched = match first.take().filter(|_| !waited) {
                    Some(mut connection) => self.mirror.fetch(connection.remote(), self.session)?,
                    None => self.mirror.reconnect(self.session, |remote| self.mirror.fetch(remote, self.session))?,
                };
                if want.pinned.is_some() && !self.mirror.holds(want.commit) {
                    self.mirror.seek(&fetched, want, self.session)?;
                }
                Ok(fetched)
            });
        }
    }

    /// Brings the mirror up to date by `renew` if need be, then writes the checkout.
    fn deliver(
        &self,
        mut listing: Listing,
        mut renew: impl FnMut(&Listing, &Want, bool) -> Result<Listing, GitError>,
    ) -> Result<CheckedOut, GitError> {
        let mut want = self.resolve(&listing)?;
        let mut renewed = false;
        for _ in 0..ROUNDS {
            let shared = self.order.runtime.block_on(self.mirror.share(&self.order.stop))?;
            if self.mirror.has(&listing, &want) || (renewed && self.mirror.holds(want.commit)) {
                // It may own a connection, which nobody needs to wait with now.
                drop(renew);
                return self.write(&want, shared);
            }
            drop(shared);
            let held = self.order.runtime.block_on(self.mirror.hold(&self.order.stop))?;
            // Somebody else may have done it while we waited.
            if self.mirror.has(&listing, &want) {
                continue;
            }
            let waited = matches!(held, Held::Alone { waited: true, .. });
            self.order.watch.hold(held);
            let fetched = renew(&listing, &want, waited);
            // Looked at while it is still ours.
            let there = fetched.and_then(|fetched| {
                let want = self.resolve(&fetched)?;
                let holds = self.order.watch.on_files(|| Ok(self.mirror.holds(want.commit)))?;
                Ok((fetched, want, holds))
            });
            drop(self.order.watch.release());
            let holds;
            (listing, want, holds) = there?;
            renewed = true;
            if !holds {
                return Err(self.missing(&want));
            }
        }
        let detail = "it went away again and again".to_owned();
        Err(GitError::Mirror { repo: self.session.url.clone(), detail })
    }

    fn resolve(&self, listing: &Listing) -> Result<Want, GitError> {
        listing.resolve(&self.session.url, self.order.branch.as_ref(), self.order.commit.as_ref())
    }

    fn missing(&self, want: &Want) -> GitError {
        let repo = self.session.url.clone();
        match want.pinned.clone() {
            Some(commit) => GitError::CommitGone { repo, commit },
            None => GitError::Mirror { repo, detail: format!("commit {} was fetched and is not there", want.commit) },
        }
    }

    fn not_opened(&self, error: &git2::Error) -> GitError {
        let repo = self.session.url.clone();
        match error.code() {
            ErrorCode::Owner => GitError::ForeignOwner { path: repo },
            _ => GitError::NotFound { repo, detail: error.message().to_owned(), tried: "none, it is a folder".into() },
        }
    }

    /// Writes the checkout, or nothing.
    fn write(&self, want: &Want, shared: Held) -> Result<CheckedOut, GitError> {
        self.order.begun.store(true, Ordering::SeqCst);
        self.session.go_on()?;
        let fresh = Fresh::new(&self.order.into)?;
        let done = self.fill(want, shared)?;
        fresh.keep();
        Ok(done)
    }

    fn fill(&self, want: &Want, shared: Held) -> Result<CheckedOut, GitError> {
        let broken = |error: git2::Error| self.not_written(&error);
        let mut options = RepositoryInitOptions::new();
        // No template: it may bring hooks of the agent's user.
        options.external_template(false);
        options.initial_head(want.branch.as_ref().map_or("main", Branch::as_str));
        let repository = Repository::init_opts(&self.order.into, &options).map_err(broken)?;

        let kept = self.mirror.open().and_then(|mirror| refs_of(&mirror)).map_err(broken)?;
        let objects = repository.path().join("objects");
        objects::copy_objects(&self.mirror.folder().join("objects"), &objects, &self.order.stop)?;
        objects::copy_shallow(self.mirror.folder(), repository.path())?;
        drop(shared);

        objects::write_refs(repository.path(), &refs_of_clone(kept, want))?;
        self.configure(&repository, want).map_err(broken)?;
        let commit = repository.find_commit(want.commit).map_err(broken)?;
        if want.branch.is_none() {
            repository.set_head_detached(want.commit).map_err(broken)?;
        }
        let mut checkout = CheckoutBuilder::new();
        checkout.force();
        repository.checkout_tree(commit.as_object(), Some(&mut checkout)).map_err(broken)?;
        self.session.go_on()?;
        self.note_what_is_not_fetched(&repository).map_err(broken)?;

        let (subject, author) = told_of(&commit);
        let name = want.branch.as_ref().map_or("detached", Branch::as_str);
        self.session.progress.say(format!("checked out {name} at {:.8}: {subject}", want.commit.to_string()));
        let committed_s = commit.time().seconds();
        Ok(CheckedOut { commit: commit_id(&commit), branch: want.branch.clone(), subject, author, committed_s })
    }

    fn configure(&self, repository: &Repository, want: &Want) -> Result<(), git2::Error> {
        repository.remote("origin", &self.session.url)?;
        if let Some(branch) = &want.branch {
            let mut config = repository.config()?;
            config.set_str(&format!("branch.{branch}.remote"), "origin")?;
            config.set_str(&format!("branch.{branch}.merge"), &format!("refs/heads/{branch}"))?;
        }
        Ok(())
    }

    fn note_what_is_not_fetched(&self, repository: &Repository) -> Result<(), git2::Error> {
        let (mut submodules, mut large) = (Vec::new(), false);
        for entry in repository.index()?.iter() {
            if entry.mode == SUBMODULE {
                submodules.push(String::from_utf8_lossy(&entry.path).into_owned());
            } else if entry.path.ends_with(b".gitattributes") {
                let blob = repository.find_blob(entry.id)?;
                large |= String::from_utf8_lossy(blob.content()).contains("filter=lfs");
            }
        }
        if !submodules.is_empty() {
            self.session.progress.say(format!("note: submodules are not fetched: {}", submodules.join(", ")));
        }
        if large {
            let note = "note: files kept by git LFS are not fetched; their pointers stand in their places";
            self.session.progress.say(note.to_owned());
        }
        Ok(())
    }

    /// A failure while writing: the disk's, or else that of the objects just copied.
    fn not_written(&self, error: &git2::Error) -> GitError {
        if self.order.stop.is_cancelled() {
            return GitError::Cancelled;
        }
        GitError::of_files(error, &self.session.url, "write the checkout to", &self.order.into)
    }
}

/// What a commit is called, and who wrote it.
pub(super) fn told_of(commit: &Commit<'_>) -> (String, String) {
    let subject = commit.summary_bytes().unwrap_or_default();
    let author = commit.author();
    (String::from_utf8_lossy(subject).into_owned(), String::from_utf8_lossy(author.name_bytes()).into_owned())
}

/// The commit's name in the words of the farm.
pub(super) fn commit_id(commit: &Commit<'_>) -> CommitId {
    commit.id().to_string().parse().expect("git names a commit by 40 hexadecimal digits")
}

/// The refs as `git clone` leaves them: the remote's branches under origin, its tags, and the branch checked out.
fn refs_of_clone(kept: BTreeMap<String, git2::Oid>, want: &Want) -> BTreeMap<String, git2::Oid> {
    let moved = kept.into_iter().map(|(name, oid)| match name.strip_prefix("refs/heads/") {
        Some(branch) => (format!("refs/remotes/origin/{branch}"), oid),
        None => (name, oid),
    });
    let mut refs: BTreeMap<_, _> = moved.collect();
    refs.extend(want.branch.as_ref().map(|branch| (format!("refs/heads/{branch}"), want.commit)));
    refs
}
