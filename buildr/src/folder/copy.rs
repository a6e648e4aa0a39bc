//! A folder as another one: the same contents, modes and times, and no inode that both have.

use std::ffi::OsStr;
use std::fs::{File, FileTimes, Permissions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::openat;
use nix::sys::stat::{Mode, SFlag, mkdirat};
use nix::unistd::symlinkat;

use super::opened::{NEW, Opened};
use super::walk::{Entry, Visitor};

/// How many paths are named one by one.
const NAMED: usize = 5;

/// How much of a file is copied before it is asked whether to stop, in bytes.
const PIECE: u64 = 64 << 20;

/// Copies files, folders and links into a folder that is there and empty, each as it is, until it is told to stop.
/// Where the file system shares blocks between files, no byte is copied. Gives what it may not read, and has left out:
/// of a folder, all that is in it.
///
/// # Errors
/// When the disk refuses anything else.
pub(crate) fn copy(from: &Path, to: &Path, stopped: &dyn Fn() -> bool) -> io::Result<Vec<PathBuf>> {
    copy_opened(&Opened::at(from)?, &Opened::at(to)?, stopped)
}

/// The same of folders that are open: whatever a build does there meanwhile, nothing outside is read or written.
///
/// # Errors
/// When the disk refuses anything else.
pub(crate) fn copy_opened(from: &Opened, to: &Opened, stopped: &dyn Fn() -> bool) -> io::Result<Vec<PathBuf>> {
    let mut copying = Copying { to, stopped, folders: Vec::new(), left_out: Vec::new(), last: None };
    from.walk(&mut copying)?;
    // One that may not be written to could not have been filled, and one that is filled has a new time.
    for (path, mode, time) in copying.folders.iter().rev() {
        let folder = to.below(path)?.ok_or(io::ErrorKind::NotFound)?.into_file();
        if let Some(time) = time {
            folder.set_times(FileTimes::new().set_modified(*time))?;
        }
        folder.set_permissions(Permissions::from_mode(*mode))?;
    }
    Ok(copying.left_out)
}

/// The first of what was left out, for people; nothing when that is nothing.
pub(crate) fn named(left_out: &[PathBuf]) -> Option<String> {
    let more = left_out.len().saturating_sub(NAMED);
    let mut names: Vec<String> = left_out.iter().take(NAMED).map(|path| path.display().to_string()).collect();
    if more > 0 {
        names.push(format!("{more} more"));
    }
    (!names.is_empty()).then(|| names.join(", "))
}

struct Copying<'a> {
    to: &'a Opened,
    stopped: &'a dyn Fn() -> bool,
    /// Those that were made, with the modes and times that they are to have.
    folders: Vec<(PathBuf, u32, Option<SystemTime>)>,
    left_out: Vec<PathBuf>,
    /// The one in which the last thing was made: the next is most often in it too.
    last: Option<(PathBuf, Opened)>,
}

impl Visitor for Copying<'_> {
    fn visit(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        if (self.stopped)() {
            return Ok(());
        }
        let (Some(above), Some(name)) = (entry.path.parent(), entry.path.file_name()) else { return Ok(()) };
        let folder = match self.last.take() {
            Some((path, folder)) if path == above => folder,
            _ => self.to.below(above)?.ok_or(io::ErrorKind::NotFound)?,
        };
        let (_, folder) = self.last.insert((above.to_owned(), folder));
        match entry.kind() {
            SFlag::S_IFLNK => symlinkat(&entry.target()?, &*folder, name)?,
            SFlag::S_IFDIR => {
                mkdirat(&*folder, name, Mode::from_bits_truncate(0o777))?;
                self.folders.push((entry.path.to_owned(), entry.mode(), written_at(entry)));
            }
            SFlag::S_IFREG => match file(entry, folder.as_fd(), name, self.stopped) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.left_out.push(entry.path.to_owned());
                }
                done => done?,
            },
            _ => {}
        }
        Ok(())
    }

    fn closed(&mut self, path: &Path, error: Errno) -> io::Result<()> {
        match error {
            Errno::EACCES | Errno::EPERM => self.left_out.push(path.to_owned()),
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => {}
            other => return Err(other.into()),
        }
        Ok(())
    }
}

fn file(entry: &Entry<'_>, folder: BorrowedFd<'_>, name: &OsStr, stopped: &dyn Fn() -> bool) -> io::Result<()> {
    let original = entry.open()?;
    let mut copied = File::from(openat(folder, name, NEW, Mode::from_bits_truncate(0o666))?);
    // One of holes alone may be longer than anybody waits for.
    while !stopped() && io::copy(&mut (&original).take(PIECE), &mut copied)? > 0 {}
    // Tools such as make and cargo go by it.
    if let Some(time) = written_at(entry) {
        copied.set_times(FileTimes::new().set_modified(time))?;
    }
    copied.set_permissions(Permissions::from_mode(entry.mode()))
}

/// None for a time before 1970: such a file is newer in its copy.
fn written_at(entry: &Entry<'_>) -> Option<SystemTime> {
    let seconds = u64::try_from(entry.stat.st_mtime).ok()?;
    let nanoseconds = u32::try_from(entry.stat.st_mtime_nsec).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::super::testing::as_nobody;
    use super::*;

    #[test]
    fn a_copy_is_the_same_and_shares_no_inode() {
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("from"), place.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/b/run.sh"), "#!/bin/sh").unwrap();
        fs::hard_link(from.join("a/b/run.sh"), from.join("again")).unwrap();
        fs::set_permissions(from.join("a/b/run.sh"), Permissions::from_mode(0o750)).unwrap();
        symlink("/nowhere", from.join("dangling")).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 5);
        File::open(from.join("again")).unwrap().set_modified(long_ago).unwrap();
        File::open(from.join("a/b")).unwrap().set_modified(long_ago).unwrap();
        fs::set_permissions(from.join("a/b"), Permissions::from_mode(0o555)).unwrap();
        assert_eq!(copy(&from, &to, &|| false).unwrap(), Vec::<PathBuf>::new());
        for path in ["a", "a/b", "a/b/run.sh", "again"] {
            let (was, is) = (fs::metadata(from.join(path)).unwrap(), fs::metadata(to.join(path)).unwrap());
            assert_eq!((was.mode(), was.mtime_nsec()), (is.mode(), is.mtime_nsec()), "{path}");
            assert_ne!(was.ino(), is.ino(), "{path}");
        }
        assert_eq!(fs::metadata(to.join("again")).unwrap().modified().unwrap(), long_ago);
        assert_eq!(fs::read(to.join("a/b/run.sh")).unwrap(), b"#!/bin/sh");
        assert_eq!(fs::read_link(to.join("dangling")).unwrap(), Path::new("/nowhere"));
        for folder in [&from, &to] {
            fs::set_permissions(folder.join("a/b"), Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn a_link_that_is_put_in_the_way_of_a_copy_leads_nowhere() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for folder in ["from/a", "to", "outside"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        fs::write(at("from/a/file"), "x").unwrap();
        // Asked between any two steps, as a container may run that writes to where the copy goes.
        let interferes = || {
            if at("to/a").is_dir() && !at("to/a").is_symlink() {
                fs::rename(at("to/a"), at("to/moved")).unwrap();
                symlink(at("outside"), at("to/a")).unwrap();
            }
            false
        };
        assert_eq!(copy(&at("from"), &at("to"), &interferes).unwrap_err().to_string(), "a is a link");
        assert_eq!(fs::read_dir(at("outside")).unwrap().count(), 0);
    }

    #[test]
    fn what_may_not_be_entered_is_named_among_what_was_left_out() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let mode = |name: &str, mode| fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
        for (folder, open) in [("", 0o755), ("from", 0o755), ("from/shut", 0o000), ("from/blind", 0o444), ("to", 0o777)]
        {
            fs::create_dir_all(at(folder)).unwrap();
            for file in ["file", "other"] {
                fs::write(at(folder).join(file), "x").unwrap();
            }
            mode(folder, open);
        }
        for name in ["file", "other"] {
            fs::remove_file(at("to").join(name)).unwrap();
        }
        mode("from/other", 0o000);
        let mut left_out = as_nobody(|| copy(&at("from"), &at("to"), &|| false)).unwrap();
        left_out.sort();
        assert_eq!(named(&left_out).unwrap(), "blind/file, blind/other, other, shut");
        assert_eq!(fs::read(at("to/file")).unwrap(), b"x");
        assert!(at("to/shut").is_dir());
        let many: Vec<PathBuf> = (0..7).map(|number| PathBuf::from(number.to_string())).collect();
        assert_eq!((named(&many).unwrap(), named(&[])), ("0, 1, 2, 3, 4, 2 more".to_owned(), None));
        for folder in ["from/shut", "from/blind", "to/shut", "to/blind"] {
            mode(folder, 0o755);
        }
    }

    #[test]
    fn a_copy_ends_when_it_is_told_to() {
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("from"), place.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a"), "x").unwrap();
        copy(&from, &to, &|| true).unwrap();
        assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
    }
}
