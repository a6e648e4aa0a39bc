//! Letting every user write to an overlay: what lies below it is open already, so only what was written is looked at.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag};

use super::mounts::{beside, lowers_of};
use crate::folder::{self, Entry};

/// Stands beside a lower that is open.
const OPEN: &str = ".open";

/// Stands beside a lower that was not, and should be.
const WANTED: &str = ".wants-open";

/// Notes that every user may write to a folder that overlays are to lie over, all that is in it included.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn mark_open(lower: &Path) -> io::Result<()> {
    fs::write(beside(lower, OPEN), "")
}

/// Whether that was noted.
pub(crate) fn is_open(lower: &Path) -> bool {
    beside(lower, OPEN).exists()
}

/// Whether the containers of some build over it could not write to it as it is.
pub(crate) fn wants_open(lower: &Path) -> bool {
    beside(lower, WANTED).exists()
}

/// Lets every user write to an overlay and says so (`true`), when only what was written to it has to be looked at. What
/// is not open below is noted there, so that the next one is: this time all of it has to be gone through.
///
/// # Errors
/// When the kernel or the disk refuses.
pub(crate) fn open(at: &Path) -> io::Result<bool> {
    let Some(lowest) = lowers_of(at).and_then(|mut layers| layers.pop()) else { return Ok(false) };
    if is_open(&lowest) {
        return open_written(at).map(|()| true);
    }
    if let Err(error) = fs::write(beside(&lowest, WANTED), "") {
        tracing::debug!(%error, "that a kept checkout should be open could not be noted");
    }
    Ok(false)
}

/// Lets every user read and write what was written to the overlay at `at`, and go where somebody may go.
///
/// # Errors
/// When it is no overlay, or the kernel refuses.
pub(crate) fn open_written(at: &Path) -> io::Result<()> {
    let mut layers = lowers_of(at).ok_or_else(|| io::Error::other("it is no overlay"))?;
    layers.pop();
    let mut found = Vec::new();
    // What lies in the layers themselves must not be changed but through the overlay.
    for layer in layers {
        folder::walk(&layer, &mut |entry: &Entry<'_>| {
            let wanted = folder::opened(entry.mode(), entry.is_folder());
            let takes = matches!(entry.kind(), SFlag::S_IFREG | SFlag::S_IFDIR);
            if takes && wanted != entry.mode() {
                found.push((entry.path.to_owned(), wanted));
            }
            Ok(())
        })?;
    }
    let root = openat(AT_FDCWD, at, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    fs::set_permissions(at, Permissions::from_mode(folder::opened(fs::metadata(at)?.permissions().mode(), true)))?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // A build that runs may put a link in the way.
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    for (path, mode) in found {
        match openat2(&root, &path, how) {
            Ok(it) => {
                // The kernel's own way to what was found, whatever stands under its name by now.
                fs::set_permissions(format!("/proc/self/fd/{}", it.as_raw_fd()), Permissions::from_mode(mode))?;
            }
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
