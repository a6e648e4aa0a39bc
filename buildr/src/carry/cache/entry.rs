//! One entry of the caches: a folder with a mark in it, and a lock beside it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use crate::folder::{Entry, walk};

/// Written last into an entry, with the bytes that it takes: one without it is not whole.
const WHOLE: &str = "whole";

/// Stands in an entry that is being made, and is locked as long as somebody does that.
const MADE: &str = ".made";

/// How folders are called that are entries no more, or not yet. No entry begins with a dot.
const OLD: &str = ".old-";
const NEW: &str = ".new-";

/// An entry that is being read: it is not removed meanwhile.
pub(super) struct Reading {
    pub(super) entry: PathBuf,
    _lock: File,
}

impl Reading {
    /// Nothing when it went away first.
    pub(super) fn of(entry: PathBuf) -> io::Result<Option<Self>> {
        let lock = lock_file(&entry)?;
        lock.lock_shared()?;
        if !is_whole(&entry) {
            return Ok(None);
        }
        // That it was used is known by the mark's time.
        File::open(entry.join(WHOLE))?.set_modified(SystemTime::now())?;
        Ok(Some(Self { entry, _lock: lock }))
    }
}

/// An entry that is being replaced.
pub(super) struct Writing(#[expect(dead_code, reason = "held, and let go of when dropped")] File);

impl Writing {
    pub(super) fn of(entry: &Path) -> io::Result<Self> {
        let lock = lock_file(entry)?;
        lock.lock()?;
        Ok(Self(lock))
    }

    /// Nothing when somebody reads or replaces it.
    pub(super) fn unless_in_use(entry: &Path) -> io::Result<Option<Self>> {
        let lock = lock_file(entry)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self(lock))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Nobody finds it from now on. It is removed with all that is swept, so that half of it is never taken for an
    /// entry.
    pub(super) fn set_aside(&self, entry: &Path) -> io::Result<()> {
        self.aside(entry).map(drop)
    }

    fn aside(&self, entry: &Path) -> io::Result<PathBuf> {
        let old = entry.with_file_name(format!("{OLD}{}", uuid::Uuid::new_v4().simple()));
        fs::rename(entry, &old).map(|()| old)
    }
}

/// An entry that is being made, beside those that are there. What is not put at its place is removed again.
pub(super) struct Making {
    folder: TempDir,
    _lock: File,
}

impl Making {
    pub(super) fn below(parent: &Path) -> io::Result<Self> {
        loop {
            let folder = tempfile::Builder::new().prefix(NEW).tempdir_in(parent)?;
            // Until it is locked, somebody who sweeps may take it for one that was left behind.
            match File::create(folder.path().join(MADE)) {
                Ok(lock) => {
                    lock.lock()?;
                    if folder.path().exists() {
                        return Ok(Self { folder, _lock: lock });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Nothing will be added to it.
    pub(super) fn complete(&self) -> io::Result<()> {
        // What making room goes by, so that it need not walk through every entry each time.
        let bytes = walked_size(self.path());
        fs::write(self.path().join(WHOLE), bytes.to_string())
    }

    /// Puts it where the entry is to be. The one that was there is swept; it stays when this fails.
    pub(super) fn put_at(self, entry: &Path) -> io::Result<()> {
        // Whoever reads the old one has finished then.
        let alone = Writing::of(entry)?;
        let old = alone.aside(entry).ok();
        if let Err(error) = fs::rename(self.path(), entry) {
            if let Some(old) = old {
                fs::rename(old, entry).ok();
            }
            return Err(error);
        }
        // It has another name now.
        let _ = self.folder.keep();
        Ok(())
    }
}

/// Whether a folder beside the entries is none.
pub(super) fn is_aside(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Whether somebody makes an entry of a folder.
pub(super) fn is_in_the_making(folder: &Path) -> bool {
    let Ok(lock) = File::options().write(true).open(folder.join(MADE)) else { return false };
    shown(folder).starts_with(NEW) && matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
}

fn lock_file(entry: &Path) -> io::Result<File> {
    let name = entry.file_name().unwrap_or_default().to_string_lossy();
    File::create(entry.with_file_name(format!(".lock-{name}")))
}

pub(super) fn is_whole(entry: &Path) -> bool {
    entry.join(WHOLE).is_file()
}

/// When it was used last, in milliseconds since 1970.
pub(super) fn used(entry: &Path) -> u64 {
    let time = fs::metadata(entry.join(WHOLE)).and_then(|mark| mark.modified());
    let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(0)
}

/// How many bytes an entry takes, as it was found when it was kept: nobody writes to it since.
pub(super) fn size(entry: &Path) -> u64 {
    let written = fs::read_to_string(entry.join(WHOLE)).ok().and_then(|text| text.parse().ok());
    written.unwrap_or_else(|| walked_size(entry))
}

pub(super) fn walked_size(entry: &Path) -> u64 {
    let mut bytes = 0;
    // What cannot be read counts as nothing.
    let walked = walk(entry, &mut |entry: &Entry<'_>| {
        bytes += u64::try_from(entry.stat.st_blocks).unwrap_or(0) * 512;
        Ok(())
    });
    walked.map_or(0, |()| bytes)
}

pub(super) fn shown(entry: &Path) -> String {
    entry.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
