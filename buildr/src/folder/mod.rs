//! Folders of this machine in which a build may have left anything: walked through, copied, removed,
//! and named by patterns.
//!
//! All of it blocks: it is called on a thread of its own.

mod walk;
mod globs;
mod copy;

pub(crate) use copy::copy;
pub use globs::GlobError;
pub(crate) use globs::Globs;
pub(crate) use walk::{Entry, remove, walk};
