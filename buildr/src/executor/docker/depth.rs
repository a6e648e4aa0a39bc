//! Folders nested thousands deep, made shallow: whoever removes them goes down level by level, and would run out of
//! stack or of open files, which ends the whole process.
//!
//! It blocks: it is called on a thread of its own.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::sys::stat::Mode;
use uuid::Uuid;

/// How many levels are left as they are.
const DEEPEST: usize = 100;

/// No link is followed, whatever it is that stands there by now.
const FLAGS: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Moves what lies deeper than [`DEEPEST`] levels up into the folder itself, until nothing does. What may not be
/// looked into stays as it is; one who removes the folder gets no further there either.
///
/// # Errors
/// When there is something deep that this user may not move, or no such folder.
pub(super) fn flatten(folder: &Path) -> io::Result<()> {
    let root = Dir::open(folder, FLAGS, Mode::empty())?;
    // A build cannot have made a folder of this name.
    let mut lifting = Lifting { root: root.as_fd(), name: format!(".lifted-{}", Uuid::new_v4().simple()), lifted: 0 };
    lifting.below(Dir::openat(root.as_fd(), ".", FLAGS, Mode::empty())?, 1)?;
    let mut next = 0;
    while next < lifting.lifted {
        let found = Dir::openat(root.as_fd(), lifting.place(next).as_str(), FLAGS, Mode::empty());
        if let Some(dir) = unless_closed(found)? {
            lifting.below(dir, 2)?;
        }
        next += 1;
    }
    Ok(())
}

struct Lifting<'a> {
    root: BorrowedFd<'a>,
    name: String,
    /// How many were moved so far.
    lifted: u64,
}

impl Lifting<'_> {
    fn place(&self, number: u64) -> String {
        format!("{}-{number}", self.name)
    }

    /// Goes through a folder; what is in it lies on this level.
    fn below(&mut self, mut dir: Dir, level: usize) -> Result<(), Errno> {
        for name in folders(&mut dir) {
            if level > DEEPEST {
                renameat(dir.as_fd(), name.as_c_str(), self.root, self.place(self.lifted).as_str())?;
                self.lifted += 1;
            } else if let Some(inner) = unless_closed(Dir::openat(dir.as_fd(), name.as_c_str(), FLAGS, Mode::empty()))?
            {
                self.below(inner, level + 1)?;
            }
        }
        Ok(())
    }
}

/// The folders in a folder.
fn folders(dir: &mut Dir) -> Vec<CString> {
    let entries = dir.iter().map_while(Result::ok);
    // Some disks do not tell what something is; opening it will.
    let folders = entries.filter(|entry| matches!(entry.file_type(), Some(Type::Directory) | None));
    let names = folders.map(|entry| entry.file_name().to_owned());
    names.filter(|name| !matches!(name.as_bytes(), b"." | b"..")).collect()
}

/// Nothing where there is no folder, or none that this user may look into.
fn unless_closed(opened: Result<Dir, Errno>) -> Result<Option<Dir>, Errno> {
    match opened {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::EACCES | Errno::EPERM | Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use nix::sys::stat::mkdirat;

    use super::*;

    /// Makes folders within each other; each has a file, and a link to somewhere else.
    fn dig(folder: &Path, levels: usize, elsewhere: &Path) {
        let mut dir = Dir::open(folder, FLAGS, Mode::empty()).unwrap();
        for _ in 0..levels {
            mkdirat(dir.as_fd(), "d", Mode::S_IRWXU).unwrap();
            dir = Dir::openat(dir.as_fd(), "d", FLAGS, Mode::empty()).unwrap();
            nix::unistd::symlinkat(elsewhere, dir.as_fd(), "link").unwrap();
        }
    }

    fn depth(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).unwrap().flatten();
        let inner = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        inner.map(|entry| 1 + depth(&entry.path())).max().unwrap_or(0)
    }

    #[test]
    fn what_is_too_deep_is_lifted_and_no_link_followed() {
        let parent = tempfile::tempdir().unwrap();
        let [deep, elsewhere]: [PathBuf; 2] = ["deep", "elsewhere"].map(|name| parent.path().join(name));
        fs::create_dir(&deep).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        dig(&elsewhere, 150, parent.path());
        dig(&deep, 5_000, &elsewhere);
        symlink(&elsewhere, deep.join("link")).unwrap();
        flatten(&deep).unwrap();
        assert!(depth(&deep) <= DEEPEST, "{} levels", depth(&deep));
        fs::remove_dir_all(&deep).unwrap();
        assert_eq!(depth(&elsewhere), 150);
    }

    #[test]
    fn what_is_shallow_stays_as_it_is() {
        let parent = tempfile::tempdir().unwrap();
        dig(parent.path(), DEEPEST, Path::new("/nowhere"));
        flatten(parent.path()).unwrap();
        assert_eq!((depth(parent.path()), fs::read_dir(parent.path()).unwrap().count()), (DEEPEST, 1));
        let missing = flatten(&parent.path().join("missing")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
