//! What outlives a stage: artifacts that next jobs and people receive, caches that later builds find again, and what
//! test reports say.
//!
//! All of it reads folders in which a build may have left anything, so nothing here follows a link out of them, and
//! what it cannot read is an error with a sentence, never the end of a job: the runner tells it and goes on. Functions
//! that are not `async` block and are called on a thread of their own.

mod digest;
mod artifacts;
mod contents;
mod shelf;
pub mod cache;
pub mod reports;

use std::io;

use crate::client::ClientError;

pub use crate::folder::GlobError;
pub use artifacts::{Collected, collect, restore};
pub use contents::contents;
pub use shelf::Shelf;

/// Why something could not be carried.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// A pattern cannot be understood.
    #[error(transparent)]
    Glob(#[from] GlobError),
    /// The disk, or what a build has left on it.
    #[error("failed to {doing}")]
    Disk {
        /// What was being done, with the path.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A report cannot be read.
    #[error("the report {path} cannot be read: {reason}")]
    Report {
        /// Which file, below the workspace.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What was fetched is not what was kept.
    #[error("the archive {0} is damaged; run the stage that made it again")]
    Damaged(String),
    /// What is asked for is not there any more.
    #[error("the artifacts of {0} are not kept any more; build its job again")]
    Gone(String),
    /// The farm's depot for artifacts does not do what is asked.
    #[error(transparent)]
    Depot(#[from] ClientError),
}

impl CarryError {
    /// Whether this process may not do it, as it is another user's.
    pub(crate) fn is_denied(&self) -> bool {
        self.disk().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether this machine's disk has no room for it.
    pub(crate) fn is_full(&self) -> bool {
        self.disk()
            .is_some_and(|error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    fn disk(&self) -> Option<&io::Error> {
        match self {
            Self::Disk { source, .. } => Some(source),
            _ => None,
        }
    }
}

fn disk(doing: impl Into<String>) -> impl FnOnce(io::Error) -> CarryError {
    let doing = doing.into();
    move |source| CarryError::Disk { doing, source }
}
