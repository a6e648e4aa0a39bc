//! From a repository to a folder for one build: by URL on the farm, by copy on a laptop.
//!
//! The only room that knows libgit2. Two promises hold for every folder that it makes: no inode in it is shared
//! with anything that outlives the build (root in a container writes through hard links), and no password is in it.
//!
//! In a line: error, watch, status, policy, own (credentials of a project), credentials, order, listing, authorities, remote
//! (talk), objects (files), made (an empty one), folder, mirror, bring (mirror up to date), checkout, times (of an index), lower (kept checkouts), spare, change
//! (between commits), names (branches, HEAD, settings), laid (a checkout over a kept one), elsewhere (other repositories), request (merges of pull
//! requests), gitmodules, submodules, history, program (git's own), lfs, options, partial, onto (a ground), tree (a
//! person's own), committed, changes.

mod error;
mod watch;
mod status;
mod policy;
mod own;
mod credentials;
mod order;
mod listing;
mod authorities;
mod remote;
mod objects;
mod made;
mod folder;
mod mirror;
mod bring;
mod checkout;
mod times;
mod lower;
mod spare;
mod change;
mod names;
mod laid;
mod elsewhere;
mod request;
mod gitmodules;
mod submodules;
mod history;
mod program;
mod lfs;
mod options;
mod partial;
mod onto;
mod tree;
mod committed;
mod changes;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use protocol::plan::CloneOptions;
use protocol::{Branch, CommitId, RepoCredentials, RepoUrl};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

pub use authorities::begin_without as begin_without_authorities;
pub use changes::Base;
pub use elsewhere::{BranchAndCommit, FileAt};
pub use error::GitError;
pub use policy::ClonePolicy;
pub use request::Merge;
pub use spare::KeptMirror;

use listing::Asked;
use mirror::Locks;
use order::Order;
use own::Own;
use remote::Progress;
use watch::{Ended, Watch};

/// A server that does not even answer the telephone.
const CONNECT_TIMEOUT_MS: i32 = 15_000;

/// How long libgit2 itself waits for a server that fell silent: what a thread that nobody waits for any more, and that
/// holds nothing, takes to see it.
const SILENCE_TIMEOUT_MS: i32 = 60_000;

/// What was checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedOut {
    /// The commit, by its whole name.
    pub commit: CommitId,
    /// The branch that HEAD is on; none when a commit was asked for by name alone, or the remote's HEAD is on none.
    pub branch: Option<Branch>,
    /// The first line of the commit's message.
    pub subject: String,
    /// Who wrote the commit: the name alone.
    pub author: String,
    /// When it was committed, in seconds since 1970.
    pub committed_s: i64,
    /// The branch that the remote's HEAD means, when it said so and has it.
    pub default_branch: Option<Branch>,
}

/// What was copied of a person's tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreeCopy {
    /// The commit that the tree is based on; none outside git and before the first commit.
    pub commit: Option<CommitId>,
    /// The branch that the tree is on.
    pub branch: Option<Branch>,
    /// The tag that the commit has.
    pub tag: Option<String>,
    /// The branch that work goes into: the one that the origin's HEAD means, else `main` or `master` if it is there.
    pub default_branch: Option<Branch>,
    /// The first line of the commit's message, or empty.
    pub subject: String,
    /// Who wrote the commit: the name alone, or empty.
    pub author: String,
    /// When it was committed, in seconds since 1970.
    pub committed_s: Option<i64>,
    /// Whether the copy differs from its commit: changed, deleted, staged or untracked files.
    pub dirty: bool,
    /// How many files of the original differ from its commit: changed, deleted, staged or untracked.
    pub changed: usize,
    /// How many files and links were copied.
    pub files: usize,
    /// What a person should know about the copy, a sentence each.
    pub notes: Vec<String>,
}

/// Makes checkouts, and keeps what it downloaded for the next one. A clone is the same thing.
#[derive(Debug, Clone)]
pub struct Checkouts {
    cache: PathBuf,
    policy: ClonePolicy,
    own: Option<Arc<Own>>,
    locks: Arc<Locks>,
    filter: Option<String>,
}

impl Checkouts {
    /// Keeps its mirrors in `cache`, which is made when first needed; other processes may use the same folder.
    #[must_use]
    pub fn new(cache: PathBuf, policy: ClonePolicy) -> Self {
        Self { cache, policy, own: None, locks: Arc::default(), filter: None }
    }

    /// The same, whose checkouts are partial clones with this filter of git's (`blob:none`, `blob:limit=1m`, `tree:0`).
    /// They need the `git` program and go without a mirror, which would hold everything; nothing else is filtered.
    ///
    /// # Errors
    /// When it is no filter.
    pub fn filtered(&self, filter: &str) -> Result<Self, GitError> {
        match partial::is_filter(filter) {
            true => Ok(Self { filter: Some(filter.to_owned()), ..self.clone() }),
            false => Err(GitError::Filter { filter: filter.to_owned() }),
        }
    }

    /// The same, with nothing but what everybody may read: for what an untrusted manifest or commit asks for. Those who
    /// may not write to a repository could otherwise read by a submodule, an include or another repository's code
    /// whatever the keys of this machine open.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Self { policy: ClonePolicy { anonymous: true, ..self.policy.clone() }, own: None, ..self.clone() }
    }

    /// The same for the work on `repo`, whose project has these credentials: with them alone it is opened. A token serves
    /// what else is on the same web server too, before what this machine has. Neither is written to a disk.
    #[must_use]
    pub fn with_credentials(&self, repo: &RepoUrl, credentials: &RepoCredentials) -> Self {
        Self { own: Some(Arc::new(Own::new(repo.clone(), credentials.clone()))), ..self.clone() }
    }

    /// Where its mirrors are, and what is kept beside them. It may not be there yet.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.cache
    }

    /// The mirrors that are kept, in no order.
    pub async fn mirrors(&self) -> Vec<KeptMirror> {
        let cache = self.cache.clone();
        blocking(move || Ok(spare::mirrors(&cache))).await.unwrap_or_default()
    }

    /// How many bytes a mirror takes.
    pub async fn size_of(&self, mirror: &KeptMirror) -> u64 {
        let folder = mirror.folder.clone();
        blocking(move || Ok(spare::size_of_mirror(&folder))).await.unwrap_or(0)
    }

    /// Removes a mirror unless somebody uses it, and says whether it is gone. The next checkout makes it anew.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn remove_mirror(&self, mirror: &KeptMirror) -> Result<bool, GitError> {
        let (folder, locks) = (mirror.folder.clone(), Arc::clone(&self.locks));
        blocking(move || spare::remove_mirror(&folder, &locks)).await
    }

    /// Checks out the tip of `branch` (none: of the branch that the remote's HEAD means), or `commit` when one is
    /// given, into the new or empty folder `into`.
    ///
    /// HEAD is on a branch of that name, `origin` is the URL without password, tags and the remote's branches are
    /// there, and so is the whole history. `progress` gets lines for the build's log; the last sender is dropped
    /// when this returns, and a reader that is slow makes it wait. Submodules and git LFS are not followed: that is
    /// for [`Checkouts::apply_options`].
    ///
    /// Ends soon after `stop`, when the future is dropped, or when the server sends nothing for
    /// [`ClonePolicy::stall`]; others can have the mirror then. Only a connection that waits for its server is left to
    /// its timeout (15 s to connect, 60 s of silence) in the background; it touches nothing in `into`.
    ///
    /// # Errors
    /// See [`GitError`]; `into` is then as it was before.
    pub async fn check_out(
        &self,
        repo: &RepoUrl,
        branch: Option<&Branch>,
        commit: Option<&CommitId>,
        into: &Path,
        stop: &CancellationToken,
        progress: mpsc::Sender<String>,
    ) -> Result<CheckedOut, GitError> {
        let (asked, into) = (Asked::of(branch, commit), into.to_owned());
        let filter = self.filter.clone();
        self.work(repo, stop, &progress, move |order, lines| match &filter {
            Some(filter) => partial::run(order, &asked, filter, &into, lines),
            None => checkout::run(order, &asked, &into, lines),
        })
        .await
    }

    /// Does to a checkout of `repo` what a manifest asks for beyond a plain one, and says in a line each what is there
    /// and not fetched. `options.none` is the caller's matter, and a filter that of [`Checkouts::filtered`].
    ///
    /// Submodules come through mirrors of their own, with the credentials of this machine; those of `repo`'s URL go
    /// to its own web server alone. After a failure that is worth it, the same call may be made again. Ends soon after
    /// `stop`, as [`Checkouts::check_out`] does.
    ///
    /// # Errors
    /// See [`GitError`]: among others when `.gitmodules` names a place outside of the checkout, or a way to a
    /// repository that is not taken.
    pub async fn apply_options(
        &self,
        repo: &RepoUrl,
        checkout: &Path,
        options: &CloneOptions,
        stop: &CancellationToken,
        progress: mpsc::Sender<String>,
    ) -> Result<(), GitError> {
        let (checkout, options) = (checkout.to_owned(), options.clone());
        self.work(repo, stop, &progress, move |order, lines| options::apply(order, &checkout, &options, lines)).await
    }

    /// Does `work` with a repository on a thread that may block, and stays with it only as long as it must.
    async fn work<T: Send + 'static>(
        &self,
        repo: &RepoUrl,
        stop: &CancellationToken,
        progress: &mpsc::Sender<String>,
        work: impl FnOnce(&Order, &Progress) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let order = Order {
            repo: repo.clone(),
            cache: self.cache.clone(),
            policy: self.policy.clone(),
            own: self.own.clone(),
            locks: Arc::clone(&self.locks),
            stop: stop.child_token(),
            writes: Arc::default(),
            watch: Arc::new(Watch::new()),
            runtime: Handle::current(),
        };
        order.allowed()?;
        let (seen, lines) = (order.clone(), Progress::to(progress));
        let ended = Ended { stop: &seen.stop, watch: &seen.watch };
        let mut work = std::pin::pin!(blocking(move || work(&order, &lines)));
        tokio::select! {
            done = &mut work => done,
            // Seen by the thread before it writes: it says so first and looks at the token then.
            () = seen.stop.cancelled() => {
                drop(ended);
                if seen.is_writing() { work.await } else { Err(GitError::Cancelled) }
            }
            repo = seen.watch.stalled(self.policy.stall) => {
                Err(GitError::Stalled { repo, seconds: self.policy.stall.as_secs() })
            }
        }
    }
}

/// Copies a person's tree at `from` into the new or empty folder `into`: what git tracks and what it would offer to
/// add, with modes and links as they are; outside git, everything. `.buildr-out` is left out.
///
/// When `from` is the root of a work tree the copy gets a `.git` of its own, with the same history, HEAD and index
/// and with `origin` without password, in which `git status` says what it says in the original. A folder within a
/// work tree is copied without one. Ends soon after `stop`, or after the future is dropped, and then leaves nothing.
///
/// # Errors
/// See [`GitError`]; `into` is then as it was before.
pub async fn copy_tree(from: &Path, into: &Path, stop: &CancellationToken) -> Result<TreeCopy, GitError> {
    let (from, into) = (from.to_owned(), into.to_owned());
    let stop = stop.child_token();
    let _dropped = stop.clone().drop_guard();
    blocking(move || tree::copy(&from, &into, &stop)).await
}

/// Copies the commit of a person's tree at `from`, exactly, into the new or empty folder `into`; what is not committed
/// is left out, and [`TreeCopy::changed`] counts it. The rest is as with [`copy_tree`], submodules apart: their folders
/// are empty, as in a plain checkout.
///
/// # Errors
/// See [`GitError`]: among others when there is no git or no commit. `into` is then as it was before.
pub async fn copy_committed(from: &Path, into: &Path, stop: &CancellationToken) -> Result<TreeCopy, GitError> {
    let (from, into) = (from.to_owned(), into.to_owned());
    let stop = stop.child_token();
    let _dropped = stop.clone().drop_guard();
    blocking(move || committed::copy(&from, &into, &stop)).await
}

/// What [`copy_tree`] tells of a person's tree at `from`, without a copy: for those who build in the tree itself.
///
/// # Errors
/// See [`GitError`].
pub async fn describe_tree(from: &Path, stop: &CancellationToken) -> Result<TreeCopy, GitError> {
    let (from, stop) = (from.to_owned(), stop.child_token());
    let _dropped = stop.clone().drop_guard();
    blocking(move || tree::look(&from, &stop)).await
}

/// The files that a build changes, for conditions on paths: what differs between its base and `commit`; without a
/// commit, HEAD of the tree at `from` and what is not committed there.
///
/// `from` is a checkout or a person's tree, and may be a folder within: the paths are counted from it, with `/` between
/// folders, and what lies outside is left out. A file that was moved counts by both names. None means that the base is
/// not known (the history is cut off or was rewritten, the commit is the first one or the last green one itself, there is no git), or that more
/// than 10 000 files differ: then everything counts as changed. Ends soon after `stop`.
///
/// # Errors
/// When somebody stops it, or git cannot read the tree.
pub async fn changed_files(
    from: &Path,
    base: &Base,
    commit: Option<&CommitId>,
    stop: &CancellationToken,
) -> Result<Option<Vec<String>>, GitError> {
    let (from, base, commit) = (from.to_owned(), base.clone(), commit.cloned());
    let stop = stop.child_token();
    let _dropped = stop.clone().drop_guard();
    let given_up = stop.clone();
    // It writes nothing, so nobody needs to wait for a thread that compares long histories.
    let work = blocking(move || changes::of(&from, &base, commit.as_ref(), &stop));
    given_up.run_until_cancelled(work).await.unwrap_or(Err(GitError::Cancelled))
}

/// Runs `work` on a thread that may block, in the caller's span.
fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, GitError> + Send + 'static,
) -> impl Future<Output = Result<T, GitError>> {
    let span = tracing::Span::current();
    let task = tokio::task::spawn_blocking(move || {
        set_up_libgit2();
        span.in_scope(work)
    });
    async { task.await.unwrap_or_else(|error: JoinError| Err(GitError::Broken(error.to_string()))) }
}

/// Settings that libgit2 keeps for the whole process, made once before its first use.
#[expect(unsafe_code, reason = "libgit2 keeps these in unguarded globals; the Once is the guard")]
fn set_up_libgit2() {
    static SET_UP: Once = Once::new();
    SET_UP.call_once(|| {
        // SAFETY: nothing else in buildr calls libgit2 or sets these, and every call of ours comes after this one.
        let set = unsafe {
            git2::opts::set_server_connect_timeout_in_milliseconds(CONNECT_TIMEOUT_MS)
                .and_then(|()| git2::opts::set_server_timeout_in_milliseconds(SILENCE_TIMEOUT_MS))
                // A partial clone on a laptop has all of its files in the work tree, which is what we copy.
                .and_then(|()| git2::opts::set_extensions(&["partialclone"]))
        };
        if let Err(error) = set {
            tracing::warn!(%error, "libgit2 refused a setting; a silent git server may hold a build up");
        }
    });
}

#[cfg(test)]
mod tests;
