//! Folders of this machine in which a build may have left anything: walked through, copied, removed,
//! and named by patterns.
//!
//! All of it blocks: it is called on a thread of its own.

mod walk;
mod opened;
mod globs;
mod copy;

pub(crate) use copy::{copy, copy_opened, named};
pub use globs::GlobError;
pub(crate) use globs::Globs;
pub(crate) use opened::{Barred, Opened};
pub(crate) use walk::{Entry, Visitor, is_removable, remove, walk};

/// The permission bits of what had `mode`, when every user may read and write it, and go where somebody may go
/// (`goes`: a folder, where all go).
pub(crate) fn opened(mode: u32, goes: bool) -> u32 {
    mode | 0o666 | if goes || mode & 0o111 != 0 { 0o111 } else { 0 }
}

#[cfg(test)]
pub(crate) mod testing {
    /// Does something as a user who may not read what is only root's, or only its owner's; on a thread of its own,
    /// which alone is that user.
    pub(crate) fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let as_nobody = move || {
                nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
                work()
            };
            scope.spawn(as_nobody).join().unwrap()
        })
    }

    /// What is done once a lock is let go that nobody holds any more: a process that another test starts at this moment
    /// has its file open until it becomes what it runs.
    #[track_caller]
    pub(crate) fn once_let_go<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            if let Some(done) = attempt() {
                return done;
            }
            assert!(std::time::Instant::now() < end, "{what}");
            std::thread::yield_now();
        }
    }
}
