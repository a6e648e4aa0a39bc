//! A mirror that holds what is asked for, before somebody reads from it.

use std::os::unix::fs::DirBuilderExt as _;

use git2::{ErrorCode, Repository};

use super::error::GitError;
use super::listing::{Asked, Listing, Want};
use super::mirror::Mirror;
use super::order::Order;
use super::remote::{Progress, Session};
use super::watch::Held;

/// How often others may throw the mirror away between our fetch and our reading before that is an error.
const ROUNDS: usize = 3;

/// What is asked for, there to be read.
pub(super) struct Brought<'a> {
    pub(super) order: &'a Order,
    pub(super) session: &'a Session<'a>,
    pub(super) mirror: &'a Mirror<'a>,
    pub(super) want: &'a Want,
    /// What the repository offered last.
    pub(super) listing: &'a Listing,
}

/// Brings the mirror of the order's repository up to date if need be and reads from it by `then`, which gets the lock
/// to hold for so long as it reads. On a thread that may block. A damaged mirror is made anew once.
pub(super) fn bring<T>(
    order: &Order,
    asked: &Asked,
    progress: &Progress,
    then: impl Fn(&Brought<'_>, Held) -> Result<T, GitError>,
) -> Result<T, GitError> {
    order.talks()?;
    // Private repositories are in there: for this user alone.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&order.cache);
    made.map_err(GitError::disk("make", order.cache.clone()))?;
    let session = Session::new(order, progress);
    let mirror = Mirror::new(&order.cache, &session.url, &order.locks);
    let job = Job { order, asked, session: &session, mirror: &mirror, then: &then };
    match job.attempt() {
        Err(GitError::Mirror { detail, .. }) => {
            progress.say(format!("the kept copy of {} is damaged ({detail}); it is made anew", session.url));
            let held = order.runtime.block_on(mirror.hold(&order.stop))?;
            mirror.discard()?;
            drop(held);
            // What is still so in a copy that was just made came from the repository.
            job.attempt().map_err(|error| match error {
                GitError::Mirror { repo, detail } => GitError::Malformed { repo, detail },
                other => other,
            })
        }
        done => done,
    }
}

/// What the order's repository offers now; nothing is fetched.
pub(super) fn list(order: &Order, progress: &Progress) -> Result<Listing, GitError> {
    let session = Session::new(order, progress);
    if order.repo.is_local() {
        let source = open_local(order, &session)?;
        return Listing::of_folder(&source).map_err(|error| not_opened(&session, &error));
    }
    loop {
        let mut remote = session.remote(None)?;
        let Some(mut connection) = session.connect(&mut remote)? else { continue };
        return Listing::of_remote(connection.remote()).map_err(|e| session.explain(&e));
    }
}

struct Job<'a, F> {
    order: &'a Order,
    asked: &'a Asked,
    session: &'a Session<'a>,
    mirror: &'a Mirror<'a>,
    then: &'a F,
}

impl<T, F: Fn(&Brought<'_>, Held) -> Result<T, GitError>> Job<'_, F> {
    fn attempt(&self) -> Result<T, GitError> {
        match (self.order.repo.is_local(), self.order.policy.offline) {
            (true, _) => self.over_disk(),
            (false, false) => self.over_wire(),
            (false, true) => self.as_kept(),
        }
    }

    fn over_disk(&self) -> Result<T, GitError> {
        self.session.go_on()?;
        let source = open_local(self.order, self.session)?;
        let listing = Listing::of_folder(&source).map_err(|error| not_opened(self.session, &error))?;
        self.deliver(listing, |listing, _, _| {
            self.order.watch.on_files(|| {
                self.mirror.make()?;
                // What was listed before the copy began is whole after it; what came since may not be.
                self.mirror.copy_from(&source, listing, self.session)?;
                Ok(listing.clone())
            })
        })
    }

    /// What was kept of it last. Nobody wrote down then which branch its HEAD meant.
    fn as_kept(&self) -> Result<T, GitError> {
        let not_kept = || GitError::NotKept { repo: self.session.url.clone() };
        let listing = self.mirror.open().and_then(|mirror| Listing::of_folder(&mirror)).map_err(|_| not_kept())?;
        let listing = listing.without_head();
        self.resolve(&listing).map_err(|_| not_kept())?;
        self.deliver(listing, |_, _, _| Err(not_kept()))
    }

    fn over_wire(&self) -> Result<T, GitError> {
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
    ) -> Result<T, GitError> {
        let mut want = self.resolve(&listing)?;
        let mut renewed = false;
        for _ in 0..ROUNDS {
            let shared = self.order.runtime.block_on(self.mirror.share(&self.order.stop))?;
            if self.mirror.has(&listing, &want) || (renewed && self.mirror.holds(want.commit)) {
                // It may own a connection, which nobody needs to wait with now.
                drop(renew);
                let Self { order, session, mirror, .. } = *self;
                return (self.then)(&Brought { order, session, mirror, want: &want, listing: &listing }, shared);
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
        listing.resolve(&self.session.url, self.asked)
    }

    fn missing(&self, want: &Want) -> GitError {
        let repo = self.session.url.clone();
        match want.pinned.clone() {
            Some(commit) => GitError::CommitGone { repo, commit },
            None => GitError::Mirror { repo, detail: format!("commit {} was fetched and is not there", want.commit) },
        }
    }
}

/// Opens a repository on this machine's own disk.
fn open_local(order: &Order, session: &Session<'_>) -> Result<Repository, GitError> {
    let url = url::Url::parse(order.repo.reveal()).ok();
    let path = url.and_then(|url| url.to_file_path().ok()).unwrap_or_else(|| order.repo.reveal().into());
    Repository::open(&path).map_err(|error| not_opened(session, &error))
}

fn not_opened(session: &Session<'_>, error: &git2::Error) -> GitError {
    let repo = session.url.clone();
    match error.code() {
        ErrorCode::Owner => GitError::ForeignOwner { path: repo },
        _ => GitError::NotFound { repo, detail: error.message().to_owned(), tried: "none, it is a folder".into() },
    }
}
