//! A small disk of a test's own that can truly be full: a tmpfs, which only root may mount.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use buildr::process::disk::Room;

use crate::rabbit::setting;

/// A mounted disk, which goes when this is dropped.
#[derive(Debug)]
pub struct Disk {
    folder: tempfile::TempDir,
}

/// Unmounts what a process mounted in a folder and did not unmount before it died, the last first. Lazily: somebody may
/// still hold a file of it.
pub fn unmount_below(folder: &Path) {
    // As the kernel names it.
    let Ok(folder) = folder.canonicalize() else { return };
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    for place in places.filter(|place| place.starts_with(&folder)).collect::<Vec<_>>().into_iter().rev() {
        Command::new("umount").arg("--lazy").arg(place).status().ok();
    }
}

impl Disk {
    /// A disk with so many bytes. A test that may not have one says that it is skipped.
    ///
    /// # Panics
    /// When a disk is required (`BUILDR_TEST_REQUIRE` names `mount`) and cannot be mounted.
    #[must_use]
    pub fn mount(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder to mount it on");
        let size = format!("size={bytes},mode=0755");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "buildr-test"]).arg(folder.path()).output();
        let reason = match mounted {
            Ok(done) if done.status.success() => return Some(Self { folder }),
            Ok(done) => String::from_utf8_lossy(&done.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        let required = setting("BUILDR_TEST_REQUIRE", "").split(',').any(|part| part == "mount");
        assert!(!required, "mounting a disk is required and not allowed: {reason}");
        eprintln!("skipped: no disk can be mounted ({reason})");
        None
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Fills it up to so many free bytes, rounded to its pages of 4 KiB. [`Disk::empty`] undoes it.
    ///
    /// # Panics
    /// When it fails for another reason than that it is full.
    pub fn fill(&self, leave: u64) {
        let leave = leave.next_multiple_of(4096);
        let mut filler = File::create(self.filler()).expect("a file on the disk");
        let free = || Room::at(self.path()).expect("the room on the disk").free;
        // At no moment there is less room than this: somebody may look at it.
        while free() > leave {
            match filler.write_all(&[b'.'; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("the disk cannot be filled: {error}"),
            }
        }
    }

    /// Makes room again.
    ///
    /// # Panics
    /// When the filler cannot be removed.
    pub fn empty(&self) {
        std::fs::remove_file(self.filler()).expect("the filler is removed");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a task that a failed test left may still hold a file of it.
        Command::new("umount").arg("-l").arg(self.path()).status().ok();
    }
}
