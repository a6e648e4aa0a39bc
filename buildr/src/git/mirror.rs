//! One bare copy per repository, kept between builds and shared by all processes of this machine.
//!
//! A mirror holds objects and the branches and tags that they were fetched for; no config of a remote, so no
//! password. It is only ever added to, under an exclusive lock; checkouts copy from it under a shared one.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use git2::{Repository, RepositoryInitOptions};
use sha2::{Digest as _, Sha256};
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

use super::error::{GitError, from_connection};
use super::folder::remove;
use super::listing::{Listing, Want};
use super::objects;
use super::remote::Session;
use super::watch::Held;

/// Between two looks whether another process has let go of a mirror; tasks of this process wake each other.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Branches and tags: what is fetched each time. Nothing is stored under these names; refs are written from the list.
const KEPT: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

/// Where forges keep the commits of pull requests, also of those whose branch is gone.
const REQUESTS: [&str; 2] = ["refs/pull/*/head", "refs/merge-requests/*/head"];

/// Where they offer the merge of one with its target: what stands before its number, and behind.
pub(super) const REQUEST_MERGES: [(&str, &str); 2] = [("refs/pull/", "/merge"), ("refs/merge-requests/", "/merge")];

/// The file that lies in a mirror for as long as objects are copied into it. They come in no order, unlike a download,
/// which is here as a whole or not at all: a commit may be here and its files not.
const COPYING: &str = "copying";

/// The locks of this process's tasks, by mirror.
#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<HashMap<PathBuf, Weak<RwLock<()>>>>);

/// One repository's mirror; the folder need not exist yet.
pub(super) struct Mirror<'a> {
    url: &'a str,
    folder: PathBuf,
    locks: &'a Locks,
}

impl<'a> Mirror<'a> {
    pub(super) fn new(cache: &Path, url: &'a str, locks: &'a Locks) -> Self {
        let hash = HEXLOWER.encode(&Sha256::digest(url.as_bytes()));
        Self { url, folder: cache.join(format!("{hash}.git")), locks }
    }

    /// Opens it; any error means that there is none that can be used.
    pub(super) fn open(&self) -> Result<Repository, git2::Error> {
        Repository::open_bare(&self.folder)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits for the right to read it.
    pub(super) async fn share(&self, stop: &CancellationToken) -> Result<Held, GitError> {
        let task = self.locks.of(&self.folder).read_owned();
        let _task = stop.run_until_cancelled(task).await.ok_or(GitError::Cancelled)?;
        let (_file, _) = self.lock_file(File::try_lock_shared, stop).await?;
        Ok(Held::Shared { _file, _task })
    }

    /// Waits for the right to change it.
    pub(super) async fn hold(&self, stop: &CancellationToken) -> Result<Held, GitError> {
        let lock = self.locks.of(&self.folder);
        let (_task, waited) = match Arc::clone(&lock).try_write_owned() {
            Ok(task) => (task, false),
            Err(_) => (stop.run_until_cancelled(lock.write_owned()).await.ok_or(GitError::Cancelled)?, true),
        };
        let (_file, waited_more) = self.lock_file(File::try_lock, stop).await?;
        Ok(Held::Alone { _file, _task, waited: waited || waited_more })
    }

    /// Whether it holds all that the checkout of `want` needs, as of `listing`.
    pub(super) fn has(&self, listing: &Listing, want: &Want) -> bool {
        let Some(mirror) = self.open_whole().filter(|mirror| has_commit(mirror, want.commit)) else { return false };
        want.pinned.is_some() || refs_of(&mirror).is_ok_and(|refs| refs.iter().eq(listing.kept()))
    }

    /// The commit to check out, if it is here.
    pub(super) fn holds(&self, commit: git2::Oid) -> bool {
        self.open_whole().is_some_and(|mirror| has_commit(&mirror, commit))
    }

    /// Opens it unless a copy into it was broken off, which has to be made again then.
    fn open_whole(&self) -> Option<Repository> {
        self.open().ok().filter(|_| !self.folder.join(COPYING).exists())
    }

    /// Takes what is new over a connection. Only with [`Mirror::hold`].
    pub(super) fn fetch(&self, remote: &mut git2::Remote<'_>, session: &Session<'_>) -> Result<Listing, GitError> {
        session.progress.say(format!("fetching {}", self.url));
        self.download(remote, &KEPT, session)?;
        // The connection may be newer than the first look at the repository.
        let listing = Listing::of_remote(remote).map_err(|e| session.explain(&e))?;
        let refs = listing.kept().map(|(n, o)| (n.clone(), *o)).collect();
        session.watch.on_files(|| objects::write_refs(&self.folder, &refs))?;
        Ok(listing)
    }

    /// Looks for a commit beyond branches and tags: under another ref, in a pull request, and by its name where the
    /// server allows that. Only with [`Mirror::hold`].
    pub(super) fn seek(&self, listing: &Listing, want: &Want, session: &Session<'_>) -> Result<(), GitError> {
        let named = listing.refs.iter().find(|(_, oid)| **oid == want.commit).map(|(name, _)| name.clone());
        let requests = REQUESTS.iter().filter(|pattern| {
            let prefix = pattern.trim_end_matches("*/head");
            listing.refs.keys().any(|name| name.starts_with(prefix))
        });
        let patterns = named.into_iter().chain(requests.map(|pattern| (*pattern).to_owned()));
        for pattern in patterns {
            // The target is never written: only objects are downloaded.
            self.reconnect(session, |remote| self.download(remote, &[format!("+{pattern}:{pattern}")], session))?;
            if self.holds(want.commit) {
                return Ok(());
            }
        }
        let by_name = self.reconnect(session, |remote| self.download(remote, &[want.commit.to_string()], session));
        match by_name {
            Err(GitError::Cancelled) => Err(GitError::Cancelled),
            // "No" to that question and a broken line look the same, so ask whether the line is still there.
            Err(_) => self.reconnect(session, |_| Ok(())),
            Ok(()) => Ok(()),
        }
    }

    /// Runs `talk` over a fresh connection that can download into the mirror.
    pub(super) fn reconnect<T>(
        &self,
        session: &Session<'_>,
        talk: impl Fn(&mut git2::Remote<'_>) -> Result<T, GitError>,
    ) -> Result<T, GitError> {
        let mirror = self.open().map_err(GitError::mirror(self.url))?;
        loop {
            let mut remote = session.remote(Some(&mirror))?;
            if let Some(mut connection) = session.connect(&mut remote)? {
                return talk(connection.remote());
            }
        }
    }

    /// Takes what is new from a repository on this machine's disk. Only with [`Mirror::hold`].
    pub(super) fn copy_from(
        &self,
        source: &Repository,
        listing: &Listing,
        session: &Session<'_>,
    ) -> Result<(), GitError> {
        session.progress.say(format!("copying the objects of {}", self.url));
        let copying = self.folder.join(COPYING);
        fs::write(&copying, "").map_err(GitError::disk("write", copying.clone()))?;
        objects::copy_objects(&source.commondir().join("objects"), &self.folder.join("objects"), session.stop)?;
        objects::copy_shallow(source.commondir(), &self.folder)?;
        let packed = self.open().and_then(|mirror| objects::pack_loose(&mirror, session.stop));
        packed.map_err(|error| match session.stop.is_cancelled() {
            true => GitError::Cancelled,
            false => GitError::of_files(&error, self.url, "write to", &self.folder),
        })?;
        objects::write_refs(&self.folder, &listing.kept().map(|(n, o)| (n.clone(), *o)).collect())?;
        remove(&copying)
    }

    /// Makes it, empty, unless it is there. Only with [`Mirror::hold`].
    pub(super) fn make(&self) -> Result<(), GitError> {
        if self.open().is_ok() {
            return self.sweep();
        }
        self.discard()?;
        // Made aside: a mirror is never seen half made.
        let aside = self.folder.with_extension("making");
        remove(&aside)?;
        let mut options = RepositoryInitOptions::new();
        options.bare(true).external_template(false).no_reinit(true).mkpath(true);
        // No search for deltas when loose objects are packed: it takes long, and loose ones have none either.
        // libgit2 takes this key for the size from which on it searches none.
        Repository::init_opts(&aside, &options)
            .and_then(|mirror| mirror.config()?.set_i64("pack.deltaCacheSize", 1))
            .map_err(GitError::mirror(self.url))?;
        fs::rename(&aside, &self.folder).map_err(GitError::disk("make", self.folder.clone()))
    }

    /// Throws it away. Only with [`Mirror::hold`].
    pub(super) fn discard(&self) -> Result<(), GitError> {
        remove(&self.folder)
    }

    /// Removes what a killed process left of a download.
    fn sweep(&self) -> Result<(), GitError> {
        // Nobody else has it while this one is held, and no download would get past it.
        remove(&self.folder.join("shallow.lock"))?;
        let packs = self.folder.join("objects/pack");
        let Ok(files) = fs::read_dir(&packs) else { return Ok(()) };
        for file in files.flatten() {
            if file.path().extension().is_none() {
                remove(&file.path())?;
            }
        }
        Ok(())
    }

    fn download<S>(&self, remote: &mut git2::Remote<'_>, specs: &[S], session: &Session<'_>) -> Result<(), GitError>
    where
        S: AsRef<str> + git2::IntoCString + Clone,
    {
        session.go_on()?;
        let downloaded =
            session.watch.during(&session.url, || remote.download(specs, Some(&mut session.fetch_options())));
        downloaded.map_err(|error| {
            if session.stop.is_cancelled() || from_connection(&error) {
                session.explain(&error)
            } else {
                GitError::of_files(&error, self.url, "write to", &self.folder)
            }
        })
    }

    async fn lock_file(
        &self,
        attempt: impl Fn(&File) -> Result<(), TryLockError>,
        stop: &CancellationToken,
    ) -> Result<(File, bool), GitError> {
        let path = self.folder.with_extension("lock");
        // Never removed: two processes must not hold the locks of two files of one name.
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(GitError::disk("open", path.clone()))?;
        let mut waited = false;
        loop {
            match attempt(&file) {
                Ok(()) => {
                    // When it was used last, for those who look for room. It is no harm when that cannot be noted.
                    file.set_modified(SystemTime::now()).ok();
                    return Ok((file, waited));
                }
                Err(TryLockError::Error(error)) => return Err(GitError::disk("lock", path)(error)),
                Err(TryLockError::WouldBlock) => waited = true,
            }
            stop.run_until_cancelled(tokio::time::sleep(BETWEEN_LOOKS)).await.ok_or(GitError::Cancelled)?;
        }
    }
}

impl Locks {
    pub(super) fn of(&self, folder: &Path) -> Arc<RwLock<()>> {
        // What is behind the mutex is whole after every statement.
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(folder).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(RwLock::new(()));
        locks.insert(folder.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

/// Whether the object is a commit that is here, or names one that is.
fn has_commit(mirror: &Repository, object: git2::Oid) -> bool {
    mirror.find_object(object, None).is_ok_and(|object| object.peel_to_commit().is_ok())
}

/// All refs with the objects that they name.
pub(super) fn refs_of(repository: &Repository) -> Result<BTreeMap<String, git2::Oid>, git2::Error> {
    let mut refs = BTreeMap::new();
    for reference in repository.references()? {
        let reference = reference?;
        if let (Ok(name), Some(oid)) = (reference.name(), reference.target()) {
            refs.insert(name.to_owned(), oid);
        }
    }
    Ok(refs)
}
