//! The times in a checkout's index: as long as they fit its files, git need not look into one to see that it is as it
//! was.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use git2::{IndexEntry, IndexTime, Repository};

use super::checkout::SUBMODULE;
use super::error::GitError;

/// Writes down how the files of a checkout stand on the disk now. They must be those that its index lists.
pub(super) fn note(checkout: &Path) -> Result<(), GitError> {
    let failed = |error| GitError::tree("write the index of", checkout)(error);
    let repository = Repository::open(checkout).map_err(failed)?;
    let mut index = repository.index().map_err(failed)?;
    let files: Vec<IndexEntry> = index.iter().filter(|entry| entry.mode != SUBMODULE).collect();
    for mut entry in files {
        let path = checkout.join(OsStr::from_bytes(&entry.path));
        let found = fs::symlink_metadata(&path).map_err(GitError::disk("read", path))?;
        entry.ctime = time(found.ctime(), found.ctime_nsec());
        entry.mtime = time(found.mtime(), found.mtime_nsec());
        // Git keeps the lower 32 bits of each, and compares those.
        [entry.dev, entry.ino] = [found.dev(), found.ino()].map(low);
        (entry.uid, entry.gid, entry.file_size) = (found.uid(), found.gid(), low(found.size()));
        index.add(&entry).map_err(failed)?;
    }
    index.write().map_err(failed)
}

#[expect(clippy::cast_possible_truncation, reason = "git's format has 32 bits")]
fn low(number: u64) -> u32 {
    number as u32
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "git's format has 32 bits")]
fn time(seconds: i64, nanoseconds: i64) -> IndexTime {
    IndexTime::new(seconds as i32, nanoseconds as u32)
}
