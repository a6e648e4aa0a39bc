//! Letting every user write to an overlay: what lies below it is open already, so only what was written is looked at.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag};

use super::mounts::upper_of;
use crate::folder::{self, Entry};

/// Lets every user read and write what was written to the overlay at `at`, and go where somebody may go.
///
/// # Errors
/// When it is no overlay, or the kernel refuses.
pub(crate) fn open_written(at: &Path) -> io::Result<()> {
    let upper = upper_of(at).ok_or_else(|| io::Error::other("it is no overlay"))?;
    let mut found = Vec::new();
    // What lies in the upper folder must not be changed but through the overlay.
    folder::walk(&upper, &mut |entry: &Entry<'_>| {
        let wanted = folder::opened(entry.mode(), entry.is_folder());
        let takes = matches!(entry.kind(), SFlag::S_IFREG | SFlag::S_IFDIR);
        if takes && wanted != entry.mode() {
            found.push((entry.path.to_owned(), wanted));
        }
        Ok(())
    })?;
    let root = openat(AT_FDCWD, at, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    fs::set_permissions(at, Permissions::from_mode(folder::opened(fs::metadata(at)?.permissions().mode(), true)))?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // A build that runs may put a link in the way.
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    for (path, mode) in found {
        match openat2(&root, &path, how) {
            Ok(it) => {
                let place = format!("/proc/self/fd/{}", it.as_raw_fd());
                if fs::symlink_metadata(&place).is_ok() {
                    fs::set_permissions(place, Permissions::from_mode(mode))?;
                }
            }
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
