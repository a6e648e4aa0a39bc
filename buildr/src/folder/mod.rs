//! Folders of this machine in which a build may have left anything: walked through, copied, removed.
//!
//! All of it blocks: it is called on a thread of its own.

mod walk;
mod copy;

pub(crate) use copy::copy;
pub(crate) use walk::{Entry, remove, walk};
