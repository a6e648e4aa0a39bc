//! A folder that a job works in, which may become an overlay over a folder that is kept.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How the code of a repository comes into a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Way {
    /// As an overlay over a kept checkout.
    Overlay,
    /// As a copy of a kept checkout, which shares its blocks with it until somebody writes to one of them.
    Reflink,
    /// Written file by file.
    #[default]
    Plain,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overlay => "overlays over a kept checkout",
            Self::Reflink => "copies of a kept checkout that share its blocks",
            Self::Plain => "files written anew",
        })
    }
}

/// A folder that a job works in. Whoever lets go of it takes it away first (`clear`): a mount outlives its
/// process.
#[derive(Debug)]
pub struct Ground {
    at: PathBuf,
    way: Way,
    laid: Mutex<Option<Laid>>,
    /// How often another folder has come to its path.
    turn: AtomicU32,
}

#[derive(Debug)]
struct Laid {
    lower: PathBuf,
    /// The lower stays as long as this lock is held.
    _kept: File,
}

impl Ground {
    /// An empty folder, with the way by which code may come into it.
    #[must_use]
    pub fn new(at: PathBuf, way: Way) -> Self {
        Self { at, way, laid: Mutex::default(), turn: AtomicU32::new(0) }
    }

    /// Where it is.
    #[must_use]
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// How code may come into it.
    #[must_use]
    pub fn way(&self) -> Way {
        self.way
    }

    /// Another number whenever another folder has come to its path: a container that was started over it before sees
    /// the old one.
    #[must_use]
    pub fn turn(&self) -> u32 {
        self.turn.load(Ordering::Acquire)
    }

    /// Another folder has come to its path.
    pub(crate) fn turned(&self) {
        self.turn.fetch_add(1, Ordering::AcqRel);
    }

    /// The folder that it lies over, if it is an overlay.
    #[must_use]
    pub fn lower(&self) -> Option<PathBuf> {
        self.laid().as_ref().map(|laid| laid.lower.clone())
    }

    /// Makes it an overlay over `lower`, which nobody changes or removes as long as the lock `kept` is held.
    ///
    /// # Errors
    /// When it is one already, or cannot become one; it is then as it was.
    pub(crate) fn lay(&self, lower: &Path, kept: File) -> io::Result<()> {
        let mut laid = self.laid();
        if laid.is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it lies over another folder"));
        }
        super::lay(&[lower.to_owned()], &self.at)?;
        self.turned();
        *laid = Some(Laid { lower: lower.to_owned(), _kept: kept });
        Ok(())
    }

    /// Makes an empty folder of it that lies over nothing; what was written to an overlay is gone.
    ///
    /// # Errors
    /// When the kernel or the disk refuses.
    pub(crate) fn clear(&self) -> io::Result<()> {
        let mut laid = self.laid();
        if laid.is_some() {
            self.turned();
            super::remove(&self.at)?;
        }
        *laid = None;
        Ok(())
    }

    /// What is held is whole whatever panicked beside it: each change is one step.
    fn laid(&self) -> MutexGuard<'_, Option<Laid>> {
        self.laid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
