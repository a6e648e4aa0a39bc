//! Artifacts: files of a workspace in an archive, and back.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use nix::errno::Errno;
use nix::sys::stat::SFlag;
use protocol::plan::Artifacts;

use super::digest::Digesting;
use super::{CarryError, disk};
use crate::folder::{Entry, Globs, Visitor, walk};

/// How hard zstd tries: the fastest of its usual levels, for most artifacts are compressed or read once.
const LEVEL: i32 = 1;

/// An archive of kept files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// Where it lies on this machine.
    pub archive: PathBuf,
    /// How many files are in it.
    pub files: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// Puts the files that are meant into a new archive in `into`; nothing when none is there. Links are kept as links,
/// folders for what is in them, sockets and devices not at all. A file of holes alone may be longer than anybody waits for:
/// the reading ends soon after `stopped` says so.
///
/// # Errors
/// When it is stopped, a pattern cannot be understood, or something cannot be read or written: a folder that may not be entered, too,
/// if there may be something in it that is meant.
pub fn collect(
    workspace: &Path,
    what: &Artifacts,
    into: &Path,
    stopped: &dyn Fn() -> bool,
) -> Result<Option<Collected>, CarryError> {
    let (wanted, unwanted) = (Globs::new(&what.paths)?, Globs::new(&what.exclude)?);
    let leading = Globs::leading_to(&what.paths)?;
    let doing = || disk(format!("collect the artifacts of {}", workspace.display()));
    fs::create_dir_all(into).map_err(doing())?;
    let file = tempfile::Builder::new().prefix("artifacts-").suffix(".tar.zst").tempfile_in(into).map_err(doing())?;
    let compressed = zstd::Encoder::new(Digesting::new(file), LEVEL).map_err(doing())?;
    let archive = tar::Builder::new(compressed);
    let mut collecting = Collecting { archive, wanted, unwanted, leading, files: 0, stopped };
    walk(workspace, &mut collecting).map_err(doing())?;
    let Collecting { archive, files, .. } = collecting;
    let digested = archive.into_inner().and_then(zstd::Encoder::finish).map_err(doing())?;
    if files == 0 {
        return Ok(None);
    }
    let (file, bytes, digest) = digested.finish();
    let sha256 = HEXLOWER.encode(&digest);
    let (_, archive) = file.keep().map_err(|error| doing()(error.error))?;
    Ok(Some(Collected { archive, files, bytes, sha256 }))
}

struct Collecting<'a, W: Write> {
    archive: tar::Builder<W>,
    wanted: Globs,
    unwanted: Globs,
    /// In which there may be something that is wanted.
    leading: Globs,
    files: u64,
    stopped: &'a dyn Fn() -> bool,
}

impl<W: Write> Visitor for Collecting<'_, W> {
    fn visit(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        if self.wanted.matches(entry.path) && !self.unwanted.matches(entry.path) {
            self.files += u64::from(append(&mut self.archive, entry, self.stopped)?);
        }
        Ok(())
    }

    fn closed(&mut self, path: &Path, error: Errno) -> io::Result<()> {
        let excluded = || self.unwanted.matches(path) || self.unwanted.matches(&path.join("whatever it is"));
        match error {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => Ok(()),
            Errno::EACCES | Errno::EPERM if !self.leading.matches(path) || excluded() => Ok(()),
            Errno::EACCES | Errno::EPERM => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "only another user may enter {}; open it at the end of the script (chmod -R a+rX), or exclude it",
                    path.display()
                ),
            )),
            other => Err(other.into()),
        }
    }
}

/// What is read until somebody stops it.
struct Until<'a, R> {
    content: R,
    stopped: &'a dyn Fn() -> bool,
}

impl<R: Read> Read for Until<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if (self.stopped)() {
            return Err(io::Error::other("it was cancelled"));
        }
        self.content.read(into)
    }
}

/// Adds something to an archive; says whether it did.
fn append(archive: &mut tar::Builder<impl Write>, entry: &Entry<'_>, stopped: &dyn Fn() -> bool) -> io::Result<bool> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(entry.mode());
    header.set_mtime(u64::try_from(entry.stat.st_mtime).unwrap_or(0));
    match entry.kind() {
        SFlag::S_IFREG => {
            let size = u64::try_from(entry.stat.st_size).unwrap_or(0);
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(size);
            // A file that shrinks meanwhile would shift all that follows it.
            let content = entry.open()?.take(size).chain(io::repeat(0)).take(size);
            let content = Until { content, stopped };
            archive.append_data(&mut header, entry.path, content)?;
        }
        SFlag::S_IFLNK => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, entry.path, entry.target()?)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Puts an archive's files into a workspace, each at its place, over what is there. Gives how many.
///
/// # Errors
/// When something cannot be written, or would lie outside.
pub fn restore(archive: &Path, workspace: &Path) -> Result<u64, CarryError> {
    let doing = || disk(format!("restore artifacts into {}", workspace.display()));
    let file = File::open(archive).map_err(disk(format!("open {}", archive.display())))?;
    let mut archive = tar::Archive::new(zstd::Decoder::new(file).map_err(doing())?);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.set_overwrite(true);
    let mut files = 0;
    for entry in archive.entries().map_err(doing())? {
        let mut entry = entry.map_err(doing())?;
        // It refuses what leads out, by `..` or through a link.
        if !entry.unpack_in(workspace).map_err(doing())? {
            let path = entry.path().map(|path| path.display().to_string()).unwrap_or_default();
            let source = io::Error::other(format!("{path} lies outside of it"));
            return Err(doing()(source));
        }
        files += 1;
    }
    Ok(files)
}

/// Lets everybody read an archive that people are to have: it was made for its maker alone.
pub(super) fn open_to_readers(file: &Path) -> io::Result<()> {
    fs::set_permissions(file, Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::digest::sha256_of;
    use super::*;
    use crate::folder::testing::as_nobody;

    fn what(paths: &[&str], exclude: &[&str]) -> Artifacts {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Artifacts { paths: owned(paths), exclude: owned(exclude), when: Default::default(), expire_ms: None }
    }

    fn all(folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        walk(folder, &mut |entry: &Entry<'_>| {
            let mut text = entry.path.display().to_string();
            match entry.kind() {
                SFlag::S_IFLNK => text += &format!(" -> {}", entry.target()?.display()),
                SFlag::S_IFREG => text += &format!(" {:o}", entry.mode()),
                _ => return Ok(()),
            }
            found.push(text);
            Ok(())
        })
        .unwrap();
        found.sort();
        found
    }

    #[test]
    fn files_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to, shelf) = (folder.path().join("from"), folder.path().join("to"), folder.path().join("shelf"));
        fs::create_dir_all(from.join("dist/deep")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("dist/app"), "program").unwrap();
        fs::set_permissions(from.join("dist/app"), Permissions::from_mode(0o755)).unwrap();
        fs::write(from.join("dist/deep/notes.txt"), "").unwrap();
        fs::set_permissions(from.join("dist/deep/notes.txt"), Permissions::from_mode(0o600)).unwrap();
        fs::write(from.join("dist/deep/debug.o"), "x").unwrap();
        symlink("deep/notes.txt", from.join("dist/link")).unwrap();
        symlink("/etc/passwd", from.join("dist/out")).unwrap();
        fs::write(from.join("other"), "no").unwrap();
        fs::write(to.join("here"), "stays").unwrap();
        let collected = collect(&from, &what(&["dist"], &["**/*.o"]), &shelf, &|| false).unwrap().unwrap();
        assert_eq!(collected.files, 4);
        assert_eq!(sha256_of(&collected.archive).unwrap(), collected.sha256);
        assert_eq!(fs::metadata(&collected.archive).unwrap().len(), collected.bytes);
        assert_eq!(restore(&collected.archive, &to).unwrap(), 4);
        let expect =
            ["dist/app 755", "dist/deep/notes.txt 600", "dist/link -> deep/notes.txt", "dist/out -> /etc/passwd"];
        assert_eq!(all(&to)[..4], expect);
        assert_eq!(fs::read_to_string(to.join("dist/app")).unwrap(), "program");
        // Once more, over what is there.
        assert_eq!(restore(&collected.archive, &to).unwrap(), 4);
    }

    #[test]
    fn nothing_that_matches_is_no_archive() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("empty")).unwrap();
        assert_eq!(
            collect(folder.path(), &what(&["empty", "*.x"], &[]), &folder.path().join("s"), &|| false).unwrap(),
            None
        );
        assert_eq!(fs::read_dir(folder.path().join("s")).unwrap().count(), 0, "no half archive stays");
    }

    #[test]
    fn a_folder_that_may_not_be_entered_is_an_error_if_something_of_it_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        let (from, shelf) = (folder.path().join("from"), folder.path().join("shelf"));
        for (folder, mode) in [(folder.path(), 0o755), (&from, 0o755), (&from.join("shut/in"), 0o755), (&shelf, 0o777)]
        {
            fs::create_dir_all(folder).unwrap();
            fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
        }
        fs::write(from.join("a.xml"), "x").unwrap();
        fs::set_permissions(from.join("shut"), Permissions::from_mode(0o000)).unwrap();
        let collect = |paths: &[&str], exclude: &[&str]| {
            let collected = as_nobody(|| collect(&from, &what(paths, exclude), &shelf, &|| false));
            collected
                .map(|it| it.unwrap().files)
                .map_err(|error| std::error::Error::source(&error).unwrap().to_string())
        };
        let refused =
            "only another user may enter shut; open it at the end of the script (chmod -R a+rX), or exclude it";
        for paths in [["a.xml", "shut/in"], ["a.xml", "shut"], ["a.xml", "**/*.o"], [".", "x"]] {
            assert_eq!(collect(&paths, &[]).unwrap_err(), refused, "{paths:?}");
            for exclude in ["shut", "shut/**", "shut/*"] {
                assert_eq!(collect(&paths, &[exclude]).unwrap(), 1, "{paths:?}");
            }
        }
        assert_eq!(collect(&["*.xml", "in"], &[]).unwrap(), 1, "nothing of it is meant");
        fs::set_permissions(from.join("shut"), Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn an_archive_never_writes_outside() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to, outside) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("outside"));
        for folder in [&from, &to, &outside] {
            fs::create_dir(folder).unwrap();
        }
        fs::create_dir(from.join("sub")).unwrap();
        fs::write(from.join("sub/file"), "x").unwrap();
        let collected = collect(&from, &what(&["sub"], &[]), &folder.path().join("s"), &|| false).unwrap().unwrap();
        // What is a folder in the archive is a link that leads out where it is restored.
        symlink(&outside, to.join("sub")).unwrap();
        assert!(restore(&collected.archive, &to).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn a_file_of_holes_holds_nobody_up_who_stops_it() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        fs::create_dir(&from).unwrap();
        // Hours of reading, and nothing on the disk.
        fs::File::create(from.join("holes")).unwrap().set_len(1 << 40).unwrap();
        let begun = std::time::Instant::now();
        let stopped = || begun.elapsed() > std::time::Duration::from_millis(50);
        let error = collect(&from, &what(&["holes"], &[]), &folder.path().join("s"), &stopped).unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("cancelled"), "{error}");
        assert_eq!(fs::read_dir(folder.path().join("s")).unwrap().count(), 0, "nothing is left of it");
    }
}
