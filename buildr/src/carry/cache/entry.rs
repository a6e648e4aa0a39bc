//! One entry of the caches: a folder with a mark in it, and a lock beside it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::folder::{Entry, walk};

/// Written last into an entry, with the bytes that it takes: one without it is not whole.
pub(super) const WHOLE: &str = "whole";

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
