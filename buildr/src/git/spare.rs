//! Mirrors that could go, to make room: the next checkout makes them anew. Only what this room itself made is looked
//! at: a folder of its own kind of name, with its lock beside it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::error::GitError;
use super::folder::remove;
use super::lower::Lowers;
use super::mirror::Locks;

/// A mirror on this disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptMirror {
    /// Where it is.
    pub folder: PathBuf,
    /// When a job used it last, in milliseconds since 1970: for the order, and for nothing else.
    pub last_used_ms: u64,
}

/// The endings of the folders that belong to one lock: the mirror, one that is being made, one that is being removed.
const FOLDERS: [&str; 3] = ["git", "making", "gone"];

/// The mirrors in `cache`, in no order. It blocks.
pub(super) fn mirrors(cache: &Path) -> Vec<KeptMirror> {
    let Ok(entries) = fs::read_dir(cache) else { return Vec::new() };
    let locks = entries.flatten().map(|entry| entry.path()).filter(|path| is_lock(path));
    let kept = locks.filter_map(|lock| {
        let there = FOLDERS.iter().any(|ending| lock.with_extension(ending).is_dir());
        // Each use sets the time of the lock.
        let used = fs::metadata(&lock).and_then(|lock| lock.modified()).ok()?;
        let last_used_ms = used.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let last_used_ms = u64::try_from(last_used_ms).unwrap_or(u64::MAX);
        there.then(|| KeptMirror { folder: lock.with_extension("git"), last_used_ms })
    });
    kept.collect()
}

/// Removes a mirror unless somebody uses it, and says whether it is gone. It blocks.
pub(super) fn remove_mirror(folder: &Path, locks: &Locks) -> Result<bool, GitError> {
    let lock = folder.with_extension("lock");
    if !is_lock(&lock) {
        return Ok(false);
    }
    let Ok(_task) = locks.of(folder).try_write_owned() else { return Ok(false) };
    let Ok(file) = File::open(&lock) else { return Ok(false) };
    if file.try_lock().is_err() {
        return Ok(false);
    }
    // Set aside first: should this be broken off, nobody takes the rest for a mirror.
    // What builds lie over is no less in use.
    if !Lowers::of(folder).remove() {
        return Ok(false);
    }
    let gone = folder.with_extension("gone");
    remove(&gone)?;
    if folder.exists() {
        fs::rename(folder, &gone).map_err(GitError::disk("move", folder.to_owned()))?;
    }
    remove(&gone)?;
    remove(&folder.with_extension("making"))?;
    Ok(true)
}

/// How many bytes a mirror takes, with what is kept beside it. It blocks.
pub(super) fn size_of_mirror(folder: &Path) -> u64 {
    size(folder) + size(&folder.with_extension("lowers"))
}

/// How many bytes a folder takes. It blocks.
pub(super) fn size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Whether a file's name is that of a mirror's lock: the digest of a URL.
fn is_lock(path: &Path) -> bool {
    let is_digest = |name: &str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    path.extension().is_some_and(|ending| ending == "lock")
        && path.file_stem().and_then(|name| name.to_str()).is_some_and(is_digest)
        && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::testing::once_let_go;

    fn names(cache: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(cache).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_mirrors_that_nobody_uses_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path();
        let (own, used, foreign) = ("a".repeat(64), "b".repeat(64), "c".repeat(64));
        for name in [format!("{own}.git/objects"), format!("{used}.git"), format!("{foreign}.git"), "linux.git".into()]
        {
            fs::create_dir_all(cache.join(name)).unwrap();
        }
        fs::write(cache.join(format!("{own}.git/objects/pack")), [0; 1000]).unwrap();
        for name in [format!("{own}.lock"), format!("{used}.lock"), "linux.lock".into(), "notes.txt".into()] {
            fs::write(cache.join(name), "").unwrap();
        }
        let held = File::open(cache.join(format!("{used}.lock"))).unwrap();
        held.lock_shared().unwrap();

        let mut found: Vec<PathBuf> = mirrors(cache).into_iter().map(|mirror| mirror.folder).collect();
        found.sort();
        assert_eq!(found, [cache.join(format!("{own}.git")), cache.join(format!("{used}.git"))]);
        assert_eq!(size(&found[0]), 1000);
        let locks = Locks::default();
        let removed = |name: &str| remove_mirror(&cache.join(format!("{name}.git")), &locks).unwrap();
        assert!(removed(&own));
        assert!(!removed(&used), "another process reads it");
        assert!(!removed(&foreign), "it has no lock, so it is none of ours");
        assert!(!removed("linux"));
        // The lock stays: two processes must not hold the locks of two files of one name.
        let expect = [format!("{own}.lock"), format!("{used}.git"), format!("{used}.lock"), format!("{foreign}.git")];
        let expect: Vec<String> =
            expect.into_iter().chain(["linux.git", "linux.lock", "notes.txt"].map(str::to_owned)).collect();
        assert_eq!(names(cache), expect);

        drop(held);
        let task = locks.of(&cache.join(format!("{used}.git"))).try_read_owned().unwrap();
        assert!(!removed(&used), "a task of this process reads it");
        drop(task);
        once_let_go("nobody uses it any more", || removed(&used).then_some(()));
    }
}
