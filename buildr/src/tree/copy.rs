//! Copies of folders: no inode of a copy is one of the original, though the disk may share their blocks.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use nix::sys::stat::SFlag;

use super::{Entry, walk};

/// Copies files, folders and links, each as it is, until it is told to stop.
pub(crate) fn copy(from: &Path, to: &Path, stopped: &dyn Fn() -> bool) -> io::Result<()> {
    let mut modes = Vec::new();
    walk(from, &mut |entry: &Entry<'_>| {
        let target = to.join(entry.path);
        match entry.kind() {
            _ if stopped() => {}
            SFlag::S_IFLNK => symlink(entry.target()?, &target)?,
            SFlag::S_IFDIR => {
                fs::create_dir(&target)?;
                modes.push((target, entry.mode()));
            }
            SFlag::S_IFREG => {
                io::copy(&mut entry.open()?, &mut fs::File::create_new(&target)?)?;
                fs::set_permissions(&target, Permissions::from_mode(entry.mode()))?;
            }
            _ => {}
        }
        Ok(())
    })?;
    // One that may not be written to could not have been filled.
    modes.iter().rev().try_for_each(|(folder, mode)| fs::set_permissions(folder, Permissions::from_mode(*mode)))
}
