//! Folders that are kept open, and what lies below them: reached name by name, and never through a link.
//!
//! What was looked at by its path may be another thing when it is used, for a container may still write there. So what
//! is found stays open, and all that follows begins at it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::walk::{FOLDER, Visitor, kind, walk_opened};

/// One on the way to another, which nobody need be allowed to read.
const ON_THE_WAY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK);

/// Only what is not there: neither a file nor a link is written over, or through.
pub(super) const NEW: OFlag =
    OFlag::O_WRONLY.union(OFlag::O_CREAT).union(OFlag::O_EXCL).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Why a place below a folder was not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Barred {
    /// It would lead to where nobody knows.
    #[error("{} is a link", .0.display())]
    Link(PathBuf),
    /// A file or the like stands where a folder should.
    #[error("{} is no folder", .0.display())]
    NoFolder(PathBuf),
    /// It does not lead down.
    #[error("{} leads elsewhere", .0.display())]
    Elsewhere(PathBuf),
    /// The disk.
    #[error("{} cannot be reached: {source}", .path.display())]
    Disk {
        /// How far it was reached.
        path: PathBuf,
        source: io::Error,
    },
}

impl From<Barred> for io::Error {
    fn from(barred: Barred) -> Self {
        match barred {
            Barred::Disk { source, .. } => source,
            other => Self::other(other),
        }
    }
}

/// A folder that is open.
#[derive(Debug)]
pub(crate) struct Opened(OwnedFd);

impl Opened {
    /// The folder that has this path; a link at its end is none.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self(openat(AT_FDCWD, path, FOLDER, Mode::empty())?))
    }

    /// A folder below it; none when nothing is there.
    pub(crate) fn below(&self, path: &Path) -> Result<Option<Self>, Barred> {
        let failed = |error: Errno| Barred::Disk { path: path.to_owned(), source: error.into() };
        let Some(it) = self.go(path, false)? else { return Ok(None) };
        Ok(Some(Self(openat(&it, ".", FOLDER, Mode::empty()).map_err(failed)?)))
    }

    /// A new folder below it, with those that lead to it; none when something is there already, unless it is a link.
    pub(crate) fn make(&self, path: &Path) -> Result<Option<Self>, Barred> {
        let failed = |error: Errno| Barred::Disk { path: path.to_owned(), source: error.into() };
        let Some(name) = path.file_name() else { return Ok(None) };
        let above = self.go(path.parent().unwrap_or(Path::new("")), true)?;
        let above = above.ok_or_else(|| failed(Errno::ENOENT))?;
        match mkdirat(&above, name, Mode::from_bits_truncate(0o777)) {
            Ok(()) => self.below(path),
            Err(Errno::EEXIST) => match fstatat(&above, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) if kind(&stat) == SFlag::S_IFLNK => Err(Barred::Link(path.to_owned())),
                _ => Ok(None),
            },
            Err(error) => Err(failed(error)),
        }
    }

    /// A regular file below it, for reading; none when there is no such file.
    pub(crate) fn file(&self, path: &Path) -> Result<Option<File>, Barred> {
        let failed = |error: Errno| Barred::Disk { path: path.to_owned(), source: error.into() };
        let Some(name) = path.file_name() else { return Ok(None) };
        let Some(above) = self.go(path.parent().unwrap_or(Path::new("")), false)? else { return Ok(None) };
        let file = match openat(&above, name, READ, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let is_file = kind(&fstat(&file).map_err(failed)?) == SFlag::S_IFREG;
        Ok(is_file.then(|| File::from(file)))
    }

    /// A new file below it, with the folders that lead to it, in the place of one that is there.
    pub(crate) fn replace(&self, path: &Path) -> Result<File, Barred> {
        let failed = |error: Errno| Barred::Disk { path: path.to_owned(), source: error.into() };
        let name = path.file_name().ok_or_else(|| Barred::Elsewhere(path.to_owned()))?;
        let above = self.go(path.parent().unwrap_or(Path::new("")), true)?.ok_or_else(|| failed(Errno::ENOENT))?;
        match unlinkat(&above, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(failed(error)),
        }
        Ok(File::from(openat(&above, name, NEW, Mode::from_bits_truncate(0o666)).map_err(failed)?))
    }

    /// It, as what a mode and times are set on.
    pub(super) fn into_file(self) -> File {
        File::from(self.0)
    }

    /// Visits all that is in it, as [`super::walk`] does.
    pub(super) fn walk(&self, visitor: &mut impl Visitor) -> io::Result<()> {
        walk_opened(openat(&self.0, ".", FOLDER, Mode::empty())?, visitor)
    }

    /// Goes down to a folder; those that are missing can be made.
    fn go(&self, path: &Path, makes: bool) -> Result<Option<OwnedFd>, Barred> {
        let mut reached = PathBuf::new();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: Errno| Barred::Disk { path, source: error.into() }
        };
        let mut folder = openat(&self.0, ".", ON_THE_WAY, Mode::empty()).map_err(failed(path))?;
        for part in path.components() {
            let name = match part {
                Component::CurDir => continue,
                Component::Normal(name) => name,
                _ => return Err(Barred::Elsewhere(path.to_owned())),
            };
            reached.push(name);
            let mut found = openat(&folder, name, ON_THE_WAY, Mode::empty());
            if makes && found.as_ref().is_err_and(|error| *error == Errno::ENOENT) {
                match mkdirat(&folder, name, Mode::from_bits_truncate(0o777)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(error) => return Err(failed(&reached)(error)),
                }
                found = openat(&folder, name, ON_THE_WAY, Mode::empty());
            }
            folder = match found {
                Ok(below) => below,
                Err(Errno::ENOENT) => return Ok(None),
                Err(Errno::ENOTDIR | Errno::ELOOP) => return Err(what_bars(folder.as_fd(), name, reached)),
                Err(error) => return Err(failed(&reached)(error)),
            };
        }
        Ok(Some(folder))
    }
}

impl AsFd for Opened {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What stands where a folder should.
fn what_bars(folder: BorrowedFd<'_>, name: &OsStr, reached: PathBuf) -> Barred {
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) if kind(&stat) != SFlag::S_IFLNK => Barred::NoFolder(reached),
        _ => Barred::Link(reached),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_place_is_reached_by_folders_alone() {
        let parent = tempfile::tempdir().unwrap();
        let (root, outside) = (parent.path().join("root"), parent.path().join("outside"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(outside.join("b")).unwrap();
        fs::write(root.join("a/b/file"), "x").unwrap();
        fs::write(outside.join("b/file"), "secret").unwrap();
        symlink("a", root.join("within")).unwrap();
        symlink(&outside, root.join("out")).unwrap();
        symlink("nowhere", root.join("a/dangling")).unwrap();
        symlink("b/file", root.join("a/alias")).unwrap();
        let opened = Opened::at(&root).unwrap();
        let at = Path::new;
        for there in ["", ".", "a", "a/b", "./a/./b"] {
            assert!(opened.below(at(there)).unwrap().is_some(), "{there}");
        }
        assert!(opened.below(at("a/none/b")).unwrap().is_none());
        for (path, link) in [("out", "out"), ("out/b", "out"), ("within/b", "within"), ("a/dangling", "a/dangling")] {
            let barred = opened.below(at(path)).unwrap_err().to_string();
            assert_eq!(barred, format!("{link} is a link"));
            assert_eq!(opened.make(at(path)).unwrap_err().to_string(), barred);
        }
        assert!(
            matches!(opened.below(at("a/b/file/x")).unwrap_err(), Barred::NoFolder(path) if path == at("a/b/file"))
        );
        assert!(matches!(opened.below(at("../outside")).unwrap_err(), Barred::Elsewhere(_)));
        assert!(matches!(opened.make(at("out/new")).unwrap_err(), Barred::Link(_)));
        assert!(matches!(opened.file(at("out/b/file")).unwrap_err(), Barred::Link(_)));
        let mut text = String::new();
        opened.file(at("a/b/file")).unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        for none in ["a/alias", "a/b", "a/none", "none/file", ""] {
            assert!(opened.file(at(none)).unwrap().is_none(), "{none}");
        }
    }

    #[test]
    fn what_is_missing_is_made_once() {
        let parent = tempfile::tempdir().unwrap();
        let opened = Opened::at(parent.path()).unwrap();
        assert!(opened.make(Path::new("a/b/c")).unwrap().is_some());
        assert!(parent.path().join("a/b/c").is_dir());
        assert!(opened.make(Path::new("a/b/c")).unwrap().is_none());
        assert!(opened.make(Path::new("")).unwrap().is_none());
        assert!(Opened::at(&parent.path().join("none")).is_err());
    }

    #[test]
    fn what_is_open_stays_the_same_folder() {
        let parent = tempfile::tempdir().unwrap();
        let (root, outside) = (parent.path().join("root"), parent.path().join("outside"));
        fs::create_dir_all(root.join("a")).unwrap();
        fs::create_dir(&outside).unwrap();
        let a = Opened::at(&root).unwrap().below(Path::new("a")).unwrap().unwrap();
        fs::rename(root.join("a"), root.join("b")).unwrap();
        symlink(&outside, root.join("a")).unwrap();
        a.make(Path::new("made")).unwrap().unwrap();
        assert!(root.join("b/made").is_dir() && !outside.join("made").exists());
    }
}
