//! How much room a disk has for this user.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// The room on one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that this user may still write.
    pub free: u64,
    /// All bytes of the disk.
    pub total: u64,
    /// Which disk: the same number for all paths on it.
    pub disk: u64,
}

impl Room {
    /// The room on the disk that a path lies on. It blocks, for as long as a dead network disk does.
    ///
    /// # Errors
    /// When the path is not there or may not be looked at.
    pub fn at(path: &Path) -> io::Result<Self> {
        let disk = std::fs::metadata(path)?.dev();
        let found = statvfs(path)?;
        let unit = found.fragment_size();
        let bytes = |blocks: u64| blocks.saturating_mul(unit);
        Ok(Self { free: bytes(found.blocks_available()), total: bytes(found.blocks()), disk })
    }

    /// How much of it is free, in whole percent, rounded down.
    #[must_use]
    pub fn percent_free(&self) -> u64 {
        let percent = u128::from(self.free) * 100 / u128::from(self.total.max(1));
        u64::try_from(percent).unwrap_or(100).min(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_are_rounded_down() {
        for (free, total, expect) in
            [(0, 100, 0), (99, 1000, 9), (100, 1000, 10), (5, 0, 100), (u64::MAX, u64::MAX, 100)]
        {
            assert_eq!(Room { free, total, disk: 1 }.percent_free(), expect, "{free} of {total}");
        }
    }

    #[test]
    fn a_folder_lies_on_a_disk() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::at(folder.path()).unwrap();
        assert!(room.total >= room.free && room.total > 0);
        assert_eq!(Room::at(folder.path()).unwrap().disk, room.disk);
        assert!(Room::at(&folder.path().join("missing")).is_err());
    }
}
