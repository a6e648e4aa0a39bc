//! Folders of this machine in which a build may have left anything: walked through, copied, removed,
//! and named by patterns.
//!
//! All of it blocks: it is called on a thread of its own.

mod walk;
mod opened;
mod globs;
mod copy;

pub(crate) use copy::{copy, copy_opened};
pub use globs::GlobError;
pub(crate) use globs::Globs;
pub(crate) use opened::{Barred, Opened};
pub(crate) use walk::{Entry, is_removable, remove, walk};

/// The permission bits of what had `mode`, when every user may read and write it, and go where somebody may go
/// (`goes`: a folder, where all go).
pub(crate) fn opened(mode: u32, goes: bool) -> u32 {
    mode | 0o666 | if goes || mode & 0o111 != 0 { 0o111 } else { 0 }
}
