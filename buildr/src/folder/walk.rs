//! Walks through folders in which a build may have left anything: links that lead out, thousands of folders in one
//! another, names that are no text, folders that nobody may enter.
//!
//! Nothing is ever opened by its path from the root, so no link is followed, no path is too long, and no file is opened
//! but folders. All of it blocks: it is called on a thread of its own.

use std::ffi::{CStr, CString, OsStr};
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{Uid, UnlinkatFlags, unlinkat};

/// How many folders are open at once; how deep they lie has no limit.
const OPEN: usize = 32;

pub(super) const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK);

/// Something in a folder, as it is itself: a link is a link.
pub(crate) struct Entry<'a> {
    /// Its way from where the walk began.
    pub(crate) path: &'a Path,
    pub(crate) stat: &'a FileStat,
    folder: BorrowedFd<'a>,
    name: &'a CStr,
}

impl Entry<'_> {
    pub(crate) fn kind(&self) -> SFlag {
        kind(self.stat)
    }

    pub(crate) fn is_folder(&self) -> bool {
        self.kind() == SFlag::S_IFDIR
    }

    /// Its permission bits.
    pub(crate) fn mode(&self) -> u32 {
        self.stat.st_mode & 0o7777
    }

    /// When it last changed, in seconds and nanoseconds of the file system's clock.
    pub(crate) fn changed_at(&self) -> (i64, i64) {
        (self.stat.st_ctime, self.stat.st_ctime_nsec)
    }

    /// Sets the permission bits of what is no link.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        let it = openat(self.folder, self.name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        if kind(&fstat(&it)?) == SFlag::S_IFLNK {
            return Ok(());
        }
        // The kernel's own way to what is open, whatever stands under its name by now.
        std::fs::set_permissions(format!("/proc/self/fd/{}", it.as_raw_fd()), Permissions::from_mode(mode))
    }

    /// Opens a regular file for reading.
    pub(crate) fn open(&self) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        Ok(File::from(openat(self.folder, self.name, flags, Mode::empty())?))
    }

    /// Where a link leads.
    pub(crate) fn target(&self) -> io::Result<PathBuf> {
        Ok(nix::fcntl::readlinkat(self.folder, self.name)?.into())
    }
}

/// What a walk does on its way.
pub(crate) trait Visitor {
    /// It came by something; a folder is looked into after this.
    fn visit(&mut self, entry: &Entry<'_>) -> io::Result<()>;

    /// It has been through all of a folder, which stands under `name` in `parent`.
    fn leave(&mut self, _parent: BorrowedFd<'_>, _name: &CStr) -> io::Result<()> {
        Ok(())
    }

    /// Something cannot be looked at, or a folder not into: at this way from where the walk began. Passed over unless
    /// something else is said.
    fn closed(&mut self, _path: &Path, error: Errno) -> io::Result<()> {
        match error {
            Errno::ENOENT | Errno::EACCES | Errno::EPERM | Errno::ENOTDIR | Errno::ELOOP => Ok(()),
            other => Err(other.into()),
        }
    }
}

impl<F: FnMut(&Entry<'_>) -> io::Result<()>> Visitor for F {
    fn visit(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        self(entry)
    }
}

/// A folder on the way down.
struct Level {
    /// Open, unless it lies too far above.
    folder: Option<OwnedFd>,
    /// Which one it is: device and inode.
    identity: (u64, u64),
    /// The folders in it that are still to be looked into.
    left: Vec<CString>,
}

/// Visits all that is in a folder, but not itself, and nothing of other file systems.
pub(crate) fn walk(root: &Path, visitor: &mut impl Visitor) -> io::Result<()> {
    match openat(AT_FDCWD, root, FOLDER, Mode::empty()) {
        Ok(opened) => walk_opened(opened, visitor),
        Err(error) => visitor.closed(Path::new(""), error),
    }
}

/// The same of a folder that is open.
pub(super) fn walk_opened(opened: OwnedFd, visitor: &mut impl Visitor) -> io::Result<()> {
    let mut path = PathBuf::new();
    let mut levels = vec![level(opened, &mut path, visitor)?];
    while let Some(depth) = levels.len().checked_sub(1) {
        let Some(name) = levels[depth].left.pop() else {
            climb(&mut levels, &mut path, visitor)?;
            continue;
        };
        let Some(folder) = &levels[depth].folder else { return Err(io::Error::other("a folder was closed too soon")) };
        match openat(folder, name.as_c_str(), FOLDER, Mode::empty()) {
            Ok(below) if fstat(&below)?.st_dev == levels[depth].identity.0 => {
                path.push(OsStr::from_bytes(name.to_bytes()));
                levels.push(level(below, &mut path, visitor)?);
                // The first stays open: it is the way back from a place that was moved elsewhere.
                if depth > OPEN {
                    levels[depth - OPEN].folder = None;
                }
            }
            Ok(_) => {}
            Err(error) => visitor.closed(&path.join(OsStr::from_bytes(name.to_bytes())), error)?,
        }
    }
    Ok(())
}

/// Goes back to the folder above the last one.
fn climb(levels: &mut Vec<Level>, path: &mut PathBuf, visitor: &mut impl Visitor) -> io::Result<()> {
    let (Some(left), Some(parent)) = (levels.pop(), levels.last_mut()) else { return Ok(()) };
    let name = path.file_name().map(|name| CString::new(name.as_bytes())).transpose()?.unwrap_or_default();
    path.pop();
    if parent.folder.is_none() {
        parent.folder = left.folder.as_ref().and_then(|below| above(below, parent.identity));
    }
    match &parent.folder {
        Some(folder) => visitor.leave(folder.as_fd(), &name),
        None => {
            // Somebody moved it meanwhile: what was left of this branch is passed over.
            levels.truncate(1);
            path.clear();
            visitor.closed(path, Errno::ENOENT)
        }
    }
}

/// The folder above another, if it is still this one.
fn above(below: &OwnedFd, identity: (u64, u64)) -> Option<OwnedFd> {
    let above = openat(below, "..", FOLDER, Mode::empty()).ok()?;
    let found = fstat(&above).ok()?;
    ((found.st_dev, found.st_ino) == identity).then_some(above)
}

/// Visits what is in a folder.
fn level(folder: OwnedFd, path: &mut PathBuf, visitor: &mut impl Visitor) -> io::Result<Level> {
    let stat = fstat(&folder)?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(folder.try_clone()?)?.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    let mut left = Vec::new();
    for name in names {
        let stat = match fstatat(&folder, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(error) => {
                visitor.closed(&path.join(OsStr::from_bytes(name.to_bytes())), error)?;
                continue;
            }
        };
        path.push(OsStr::from_bytes(name.to_bytes()));
        visitor.visit(&Entry { path, stat: &stat, folder: folder.as_fd(), name: &name })?;
        path.pop();
        if kind(&stat) == SFlag::S_IFDIR {
            left.push(name);
        }
    }
    Ok(Level { folder: Some(folder), identity: (stat.st_dev, stat.st_ino), left })
}

pub(super) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Removes a folder with all that is in it, whatever that is; one that is not there is fine.
///
/// # Errors
/// The first thing that could not be removed; all else is gone.
pub(crate) fn remove(root: &Path) -> io::Result<()> {
    let mut removal = Removal(None);
    let walked = walk(root, &mut removal);
    match (nix::unistd::unlinkat(AT_FDCWD, root, UnlinkatFlags::RemoveDir), removal.0) {
        (Ok(()) | Err(Errno::ENOENT), _) => Ok(()),
        // It was a link or a file.
        (Err(Errno::ENOTDIR), _) => std::fs::remove_file(root),
        (Err(_), Some(first)) => Err(first),
        (Err(error), None) => walked.and(Err(error.into())),
    }
}

/// The first thing that it could not remove.
struct Removal(Option<io::Error>);

impl Removal {
    fn note(&mut self, done: nix::Result<()>) {
        if let Err(error) = done
            && error != Errno::ENOENT
        {
            self.0.get_or_insert(error.into());
        }
    }
}

impl Visitor for Removal {
    fn visit(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        if !entry.is_folder() {
            self.note(unlinkat(entry.folder, entry.name, UnlinkatFlags::NoRemoveDir));
        } else if entry.mode() & 0o700 != 0o700 {
            // Its owner may enter it again. Whoever is not will hear so when it is removed.
            entry.set_mode(0o700).ok();
        }
        Ok(())
    }

    fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        self.note(unlinkat(parent, name, UnlinkatFlags::RemoveDir));
        Ok(())
    }

    fn closed(&mut self, _path: &Path, error: Errno) -> io::Result<()> {
        self.note(Err(error));
        Ok(())
    }
}

/// Whether a user could remove all that is in a folder from another one too: root could, and others if all of it is
/// theirs. What a container has left is most often root's.
pub(crate) fn is_removable(root: &Path, user: Uid) -> bool {
    user.is_root() || walk(root, &mut Owned(user)).is_ok()
}

/// Ends where something is another user's.
struct Owned(Uid);

impl Visitor for Owned {
    fn visit(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        if entry.stat.st_uid == self.0.as_raw() { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    fn closed(&mut self, _path: &Path, error: Errno) -> io::Result<()> {
        Err(error.into())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Instant;

    use super::*;

    /// A folder with all that is strange, and beside it one that nothing may touch.
    fn strange() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let (root, outside) = (parent.path().join("root"), parent.path().join("outside"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "x").unwrap();
        fs::set_permissions(outside.join("precious"), Permissions::from_mode(0o600)).unwrap();
        symlink(&outside, root.join("a/out")).unwrap();
        symlink("/", root.join("a/b/slash")).unwrap();
        fs::write(root.join(OsStr::from_bytes(b"new\nline \xff")), "x").unwrap();
        nix::unistd::mkfifo(&root.join("fifo"), Mode::S_IRWXU).unwrap();
        drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
        fs::create_dir(root.join("shut")).unwrap();
        fs::write(root.join("shut/in"), "x").unwrap();
        fs::set_permissions(root.join("shut"), Permissions::from_mode(0o000)).unwrap();
        (parent, root, outside)
    }

    /// Folders in one another, deeper than any path can name.
    fn deep(root: &Path, depth: usize) {
        fs::create_dir_all(root).unwrap();
        let mut folder = openat(AT_FDCWD, root, FOLDER, Mode::empty()).unwrap();
        for _ in 0..depth {
            nix::sys::stat::mkdirat(&folder, "d", Mode::S_IRWXU).unwrap();
            folder = openat(&folder, "d", FOLDER, Mode::empty()).unwrap();
        }
        openat(&folder, "leaf", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU).unwrap();
    }

    fn count(root: &Path) -> usize {
        let mut count = 0;
        walk(root, &mut |_: &Entry<'_>| {
            count += 1;
            Ok(())
        })
        .unwrap();
        count
    }

    #[test]
    fn a_walk_comes_by_everything_and_leaves_nothing_open_behind_it() {
        let (_parent, root, outside) = strange();
        let mut seen = Vec::new();
        walk(&root, &mut |entry: &Entry<'_>| {
            seen.push(entry.path.to_owned());
            Ok(())
        })
        .unwrap();
        assert!(seen.contains(&PathBuf::from("a/out")) && seen.contains(&PathBuf::from("fifo")), "{seen:?}");
        assert!(!seen.iter().any(|path| path.ends_with("precious")), "{seen:?}");
        assert!(seen.iter().any(|path| path.as_os_str().as_bytes().ends_with(b"\xff")));
        remove(&root).unwrap();
        assert!(!root.exists() && outside.join("precious").exists());
        remove(&root).unwrap();
    }

    #[test]
    fn depth_has_no_limit() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("root");
        deep(&root, 5000);
        assert_eq!(count(&root), 5001);
        remove(&root).unwrap();
        assert!(!root.exists());
    }

    #[test]
    fn what_is_moved_away_meanwhile_hides_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (parent.path().join("root"), parent.path().join("elsewhere"));
        deep(&root.join("a"), 100);
        deep(&root.join("b"), 100);
        fs::create_dir(&elsewhere).unwrap();
        let (mut leaves, mut moved) = (0, false);
        walk(&root, &mut |entry: &Entry<'_>| {
            leaves += usize::from(entry.path.ends_with("leaf"));
            if entry.path.components().count() == 60 && !moved {
                moved = true;
                // Its folder is taken out of the one above it.
                let from: PathBuf = root.join(entry.path.components().take(50).collect::<PathBuf>());
                fs::rename(from, elsewhere.join("x"))?;
            }
            Ok(())
        })
        .unwrap();
        assert!(moved);
        assert_eq!(leaves, 2);
    }

    #[test]
    fn a_root_that_is_a_link_is_no_folder() {
        let (parent, root, outside) = strange();
        let link = parent.path().join("link");
        symlink(&outside, &link).unwrap();
        assert_eq!(count(&link), 0);
        remove(&link).unwrap();
        assert!(!link.exists() && outside.join("precious").exists());
        remove(&root).unwrap();
    }

    #[test]
    fn a_mode_is_set_on_what_was_seen() {
        let (_parent, root, outside) = strange();
        walk(&root, &mut |entry: &Entry<'_>| entry.set_mode(0o777)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&root.join("shut")), mode(&root.join("shut/in"))), (0o777, 0o777));
        assert_eq!(mode(&outside.join("precious")), 0o600);
        assert_ne!(mode(Path::new("/")), 0o777);
    }

    #[test]
    #[ignore = "a measurement: run it alone on a quiet machine, with --ignored --nocapture"]
    fn how_long_a_walk_takes() {
        let parent = tempfile::tempdir().unwrap();
        for folder in 0..200 {
            fs::create_dir_all(parent.path().join(format!("root/{folder}"))).unwrap();
            for file in 0..100 {
                fs::write(parent.path().join(format!("root/{folder}/{file}")), "x").unwrap();
            }
        }
        let began = Instant::now();
        assert_eq!(count(&parent.path().join("root")), 20_200);
        println!("20,000 files in 200 folders: {:?}", began.elapsed());
    }
}
