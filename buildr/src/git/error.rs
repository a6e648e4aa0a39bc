//! What goes wrong between a repository and a checkout, in sentences for the person who started the build.

use std::io;
use std::path::{Path, PathBuf};

use git2::{ErrorClass, ErrorCode};
use protocol::source::InvalidSource;
use protocol::{Branch, CommitId};

/// Why there is no checkout, or no copy of a tree. No text in it holds a password.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// Somebody asked to stop.
    #[error("stopped before the checkout was complete")]
    Cancelled,
    /// The repository lies on the machine's own disk, and the policy forbids that.
    #[error(
        "{repo} is on this machine's own disk, where builds may not come from; start the agent with `--local-repos` to allow it"
    )]
    LocalRefused {
        /// The repository.
        repo: String,
    },
    /// There is nothing there, or nothing that may be seen.
    #[error(
        "{repo} was not found, or may not be read from here ({detail}); check the URL and who may read it. Credentials tried: {tried}"
    )]
    NotFound {
        /// The repository.
        repo: String,
        /// What git said.
        detail: String,
        /// The credentials offered, by name.
        tried: String,
    },
    /// The server stopped talking to us.
    #[error(
        "{repo} sent nothing for {seconds} s, so the connection was given up; look whether the server is well, or give it more time by --stall-timeout"
    )]
    Stalled {
        /// The repository.
        repo: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// No server may be asked, and the mirror does not have it.
    #[error(
        "{repo} is asked for nothing with --offline, and what was kept of it does not have this; run it once without --offline, and name a branch, a tag or a commit: which branch is meant without one, only the repository knows"
    )]
    NotKept {
        /// The repository.
        repo: String,
    },
    /// No credential was good enough.
    #[error("{repo} does not let us in; give a user or key that may read it. Credentials tried: {tried}")]
    Denied {
        /// The repository.
        repo: String,
        /// The credentials offered, by name.
        tried: String,
    },
    /// The ssh host key is not one that is known here.
    #[error(
        "the host key of {host} ({fingerprint}) is not the one in ~/.ssh/known_hosts, or none is there; when you have made sure that the fingerprint is right, run: ssh-keyscan {scan} >> ~/.ssh/known_hosts"
    )]
    HostKey {
        /// The host as connected to.
        host: String,
        /// Its key's SHA-256, as ssh shows it.
        fingerprint: String,
        /// What follows `ssh-keyscan` to ask for the key.
        scan: String,
    },
    /// The TLS certificate is not trusted.
    #[error("the certificate of {repo} is not trusted: {detail}; install the authority that signed it on this machine")]
    Certificate {
        /// The repository.
        repo: String,
        /// What git said.
        detail: String,
    },
    /// The network or the other end failed.
    #[error("failed to reach {repo}: {detail}; check the URL, the network and the server")]
    Network {
        /// The repository.
        repo: String,
        /// What git said.
        detail: String,
    },
    /// It holds no commit at all.
    #[error("{repo} is empty: it has no branch and no commit; push one first")]
    Empty {
        /// The repository.
        repo: String,
    },
    /// No branch was asked for and the repository does not say which is its main one.
    #[error("HEAD of {repo} names no branch that exists; say which branch to build. {hint}")]
    NoHead {
        /// The repository.
        repo: String,
        /// Which branches there are.
        hint: String,
    },
    /// The branch is not there.
    #[error("{repo} has no branch {branch:?}. {hint}", branch = branch.as_str())]
    NoBranch {
        /// The repository.
        repo: String,
        /// The branch asked for.
        branch: Branch,
        /// What may have been meant, or which branches there are.
        hint: String,
    },
    /// The commit is on none of its refs any more.
    #[error(
        "commit {commit} is no longer reachable in {repo}: its branch was rewritten or removed; build a newer commit"
    )]
    CommitGone {
        /// The repository.
        repo: String,
        /// The commit asked for.
        commit: CommitId,
    },
    /// What is asked for can be no branch, tag or commit.
    #[error("{0}; write a branch, a tag, or the 40 digits of a commit")]
    Name(InvalidSource),
    /// The file is not there, or may not be read.
    #[error("{path} cannot be read from {repo} at commit {commit}: {why}; look for its name there")]
    NoFile {
        /// The repository.
        repo: String,
        /// The commit.
        commit: CommitId,
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A folder that would not lie in the workspace.
    #[error("{path:?} cannot be a folder for a repository's code: {why}; give a folder below the workspace")]
    Outside {
        /// The folder as written.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is nothing committed to be copied.
    #[error("{} has no commit, so nothing of it is committed; commit it first, or build the tree as it stands", path.display())]
    NoCommit {
        /// The folder.
        path: PathBuf,
    },
    /// What libgit2 cannot do needs a program that is not there.
    #[error(
        "to {doing} a repository the program {program} is needed, and it is not installed here; install it, or leave that option out of `clone`"
    )]
    NoProgram {
        /// The program.
        program: &'static str,
        /// What it was to do.
        doing: &'static str,
    },
    /// The `git` program did not succeed. Why, it says in words alone, so nobody knows whether it would the next time.
    #[error("git failed to {doing} {repo}: {detail}")]
    Program {
        /// What it was to do.
        doing: &'static str,
        /// The repository.
        repo: String,
        /// Its last words.
        detail: String,
    },
    /// No filter of git's.
    #[error("{filter:?} is not a filter for a clone; write blob:none, tree:0, or blob:limit=1m for another size")]
    Filter {
        /// As written.
        filter: String,
    },
    /// A file of the commit that says where more comes from cannot be followed.
    #[error("the file {file} of {repo} cannot be followed: {why}; correct it")]
    Misleading {
        /// The file.
        file: &'static str,
        /// The repository.
        repo: String,
        /// What is wrong with it.
        why: String,
    },
    /// A submodule could not be fetched.
    #[error("submodule {path}: {source}")]
    Submodule {
        /// Where it lies.
        path: String,
        /// Why not.
        source: Box<Self>,
    },
    /// git refuses a repository of another user.
    #[error(
        "{path} belongs to another user, so git does not trust it; if you do, run: git config --global --add safe.directory {path}"
    )]
    ForeignOwner {
        /// The repository's folder.
        path: String,
    },
    /// The kept copy of the repository cannot be used.
    #[error("the kept copy of {repo} is damaged: {detail}")]
    Mirror {
        /// The repository.
        repo: String,
        /// What git said.
        detail: String,
    },
    /// What the repository has is not what git writes.
    #[error("the commit in {repo} cannot be read: {detail}; `git fsck` there says more")]
    Malformed {
        /// The repository.
        repo: String,
        /// What git said.
        detail: String,
    },
    /// Reading or writing files failed.
    #[error("failed to {doing} {}: {source}", path.display())]
    Disk {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The folder for the checkout holds something.
    #[error("{} is not empty, so nothing is checked out into it; give a new or empty folder", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// Git could not read the tree at hand.
    #[error("git cannot {doing} {}: {detail}", path.display())]
    Tree {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The folder.
        path: PathBuf,
        /// What git said.
        detail: String,
    },
    /// A step of ours died; a fault of buildr.
    #[error("the checkout broke off by a fault in buildr: {0}")]
    Broken(String),
}

impl GitError {
    /// Whether the same call may succeed a little later: only when the network or the server failed, or perhaps did.
    #[must_use]
    pub fn retry_worthy(&self) -> bool {
        match self {
            Self::Submodule { source, .. } => source.retry_worthy(),
            _ => matches!(self, Self::Network { .. } | Self::Stalled { .. } | Self::Program { .. }),
        }
    }

    /// Whether another attempt at the job may go better, later or on another machine: also when it was this machine's
    /// own disk that failed.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Submodule { source, .. } => source.passes(),
            Self::Disk { .. } | Self::Mirror { .. } => true,
            _ => self.retry_worthy(),
        }
    }

    /// An error in a submodule.
    pub(super) fn in_submodule(path: &str, source: Self) -> Self {
        match source {
            Self::Cancelled => Self::Cancelled,
            source => Self::Submodule { path: path.to_owned(), source: Box::new(source) },
        }
    }

    /// For `map_err` where the name of a branch, a tag or a commit is read.
    pub(super) fn name(error: InvalidSource) -> Self {
        Self::Name(error)
    }

    /// For `map_err` on file operations.
    pub(super) fn disk(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { doing, path, source }
    }

    /// For `map_err` where the only thing at fault can be the kept mirror or a copy of it.
    pub(super) fn mirror(repo: &str) -> impl Fn(git2::Error) -> Self {
        let repo = repo.to_owned();
        move |error| Self::Mirror { repo: repo.clone(), detail: error.message().to_owned() }
    }

    /// A failure of libgit2 while it works on files of ours: the disk's, that of contents which no checkout takes, or else
    /// that of a damaged mirror.
    pub(super) fn of_files(error: &git2::Error, repo: &str, doing: &'static str, path: &Path) -> Self {
        match (error.class(), error.code()) {
            (ErrorClass::Checkout, code) if code != ErrorCode::NotFound => {
                Self::Tree { doing, path: path.to_owned(), detail: error.message().to_owned() }
            }
            (ErrorClass::Os | ErrorClass::Filesystem, code) if code != ErrorCode::NotFound => {
                let source = io::Error::other(error.message().to_owned());
                Self::Disk { doing, path: path.to_owned(), source }
            }
            _ => Self::Mirror { repo: repo.to_owned(), detail: error.message().to_owned() },
        }
    }

    /// For `map_err` on a repository in the user's own folder.
    pub(super) fn tree(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(git2::Error) -> Self {
        let path = path.into();
        move |error| match error.code() {
            ErrorCode::Owner => Self::ForeignOwner { path: path.display().to_string() },
            _ => Self::Tree { doing, path, detail: error.message().to_owned() },
        }
    }
}

/// Whether an error of a transfer comes from the connection (or the other end), not from the mirror.
pub(super) fn from_connection(error: &git2::Error) -> bool {
    matches!(error.class(), ErrorClass::Net | ErrorClass::Ssl | ErrorClass::Ssh | ErrorClass::Http)
        || matches!(error.code(), ErrorCode::Auth | ErrorCode::Certificate | ErrorCode::Timeout)
}
