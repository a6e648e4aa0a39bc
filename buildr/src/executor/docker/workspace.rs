//! The checkout on this machine's disk, as containers need it: writable for them, and copied for `prepare`.
//!
//! All of it blocks: it is called on a thread of its own.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::SFlag;

use super::super::Stop;
use crate::folder::{self, Entry, Globs, opened, walk};
use crate::overlay;

/// Lets every user read and write, and go where somebody may go. What belongs to another user is left as it is,
/// for only its owner may change that. Of an overlay over what is open, only what was written is looked at.
pub(super) fn open_to_all(folder: &Path) -> io::Result<()> {
    if overlay::open(folder)? {
        return Ok(());
    }
    let mode = fs::metadata(folder)?.permissions().mode();
    fs::set_permissions(folder, Permissions::from_mode(opened(mode, true)))?;
    walk(folder, &mut |entry: &Entry<'_>| {
        let wanted = opened(entry.mode(), entry.is_folder());
        if entry.kind() == SFlag::S_IFLNK || wanted == entry.mode() {
            return Ok(());
        }
        match entry.set_mode(wanted) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) => {
                Err(error)
            }
            _ => Ok(()),
        }
    })
}

/// A throw-away copy of a checkout, and the moment at which it was whole.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) folder: PathBuf,
    /// No file of the copy had changed after this (seconds, nanoseconds of the file system's clock).
    whole_at: (i64, i64),
}

impl Copy {
    /// Copies a folder, or only those of its files, to a new one beside it. Nothing when it was told to stop.
    pub(super) fn make(original: &Path, only: Option<&Globs>, stop: &Stop) -> io::Result<Option<Self>> {
        let parent = original.parent().unwrap_or(original);
        let folder = tempfile::Builder::new().prefix(".buildr-prepare-").tempdir_in(parent)?;
        fs::set_permissions(folder.path(), fs::metadata(original)?.permissions())?;
        let left_out = match only {
            Some(only) => copy_some(original, folder.path(), only, stop)?,
            None => folder::copy(original, folder.path(), &|| stop.is_cancelled())?,
        };
        if let Some(path) = left_out.first() {
            let doing = format!("{} may not be read", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, doing));
        }
        if stop.is_cancelled() {
            return Ok(None);
        }
        let folder = folder.keep();
        let whole_at = newest(&folder)?;
        Ok(Some(Self { folder, whole_at }))
    }

    /// What has been written to since, as paths within it; folders only when nothing in them shows why.
    pub(super) fn written(&self) -> io::Result<Vec<PathBuf>> {
        let (mut files, mut folders) = (Vec::new(), BTreeSet::new());
        walk(&self.folder, &mut |entry: &Entry<'_>| {
            if entry.changed_at() > self.whole_at {
                let path = entry.path.to_path_buf();
                if entry.is_folder() {
                    folders.insert(path);
                } else {
                    files.push(path);
                }
            }
            Ok(())
        })?;
        for file in &files {
            for above in file.ancestors().skip(1) {
                folders.remove(above);
            }
        }
        files.extend(folders);
        files.sort();
        Ok(files)
    }
}

/// Copies those of a folder's files and links, with the folders that lead to them; gives what may not be read.
fn copy_some(from: &Path, to: &Path, only: &Globs, stop: &Stop) -> io::Result<Vec<PathBuf>> {
    let mut left_out = Vec::new();
    walk(from, &mut |entry: &Entry<'_>| {
        if stop.is_cancelled() || !only.matches(entry.path) {
            return Ok(());
        }
        let target = to.join(entry.path);
        match entry.kind() {
            SFlag::S_IFLNK => {
                make_folders_above(from, to, entry.path)?;
                symlink(entry.target()?, &target)?;
            }
            SFlag::S_IFREG => match entry.open() {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => left_out.push(entry.path.to_owned()),
                opened => {
                    make_folders_above(from, to, entry.path)?;
                    io::copy(&mut opened?, &mut fs::File::create_new(&target)?)?;
                    fs::set_permissions(&target, Permissions::from_mode(entry.mode()))?;
                }
            },
            _ => {}
        }
        Ok(())
    })?;
    Ok(left_out)
}

/// Makes the folders that lead to a file, as they are where it comes from.
fn make_folders_above(from: &Path, to: &Path, file: &Path) -> io::Result<()> {
    let above: Vec<_> = file.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).collect();
    for folder in above.into_iter().rev() {
        if !to.join(folder).exists() {
            fs::create_dir(to.join(folder))?;
            fs::set_permissions(to.join(folder), fs::metadata(from.join(folder))?.permissions())?;
        }
    }
    Ok(())
}

fn newest(folder: &Path) -> io::Result<(i64, i64)> {
    let mut newest = (0, 0);
    walk(folder, &mut |entry: &Entry<'_>| {
        newest = newest.max(entry.changed_at());
        Ok(())
    })?;
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn checkout() -> tempfile::TempDir {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("checkout");
        fs::create_dir_all(root.join("src/deep")).unwrap();
        fs::write(root.join("src/deep/a.txt"), "a").unwrap();
        fs::write(root.join("run.sh"), "#!/bin/sh").unwrap();
        fs::set_permissions(root.join("run.sh"), Permissions::from_mode(0o750)).unwrap();
        symlink("src/deep", root.join("link")).unwrap();
        symlink("/nowhere", root.join("dangling")).unwrap();
        parent
    }

    #[test]
    fn a_copy_has_all_and_tells_what_was_written() {
        let parent = checkout();
        let copy = Copy::make(&parent.path().join("checkout"), None, &Stop::new()).unwrap().unwrap();
        let within = |path: &str| copy.folder.join(path);
        assert_eq!(fs::read(within("src/deep/a.txt")).unwrap(), b"a");
        assert_eq!(fs::metadata(within("run.sh")).unwrap().mode() & 0o777, 0o750);
        assert_eq!(fs::read_link(within("dangling")).unwrap(), Path::new("/nowhere"));
        assert_eq!(copy.written().unwrap(), Vec::<PathBuf>::new());
        // The file system's clock moves in ticks: what follows must fall into another one.
        while newest(&copy.folder).unwrap() <= copy.whole_at {
            fs::write(within("src/new"), "n").unwrap();
        }
        fs::remove_file(within("src/deep/a.txt")).unwrap();
        assert_eq!(copy.written().unwrap(), [PathBuf::from("src/deep"), PathBuf::from("src/new")]);
    }

    #[test]
    fn a_copy_may_have_some_files_only() {
        let parent = checkout();
        let only = Globs::new(&["src/deep/*".to_owned()]).unwrap();
        fs::set_permissions(parent.path().join("checkout/src"), Permissions::from_mode(0o750)).unwrap();
        let copy = Copy::make(&parent.path().join("checkout"), Some(&only), &Stop::new()).unwrap().unwrap();
        assert_eq!(fs::read(copy.folder.join("src/deep/a.txt")).unwrap(), b"a");
        assert_eq!(fs::read_dir(&copy.folder).unwrap().count(), 1);
        assert_eq!(fs::metadata(copy.folder.join("src")).unwrap().mode() & 0o777, 0o750);
        assert_eq!(copy.written().unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_copy_that_is_stopped_leaves_nothing() {
        let parent = checkout();
        let stop = Stop::new();
        stop.cancel();
        assert!(Copy::make(&parent.path().join("checkout"), None, &stop).unwrap().is_none());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_workspace_is_opened_without_following_links() {
        let parent = checkout();
        let outside = parent.path().join("outside");
        fs::write(&outside, "x").unwrap();
        fs::set_permissions(&outside, Permissions::from_mode(0o600)).unwrap();
        let root = parent.path().join("checkout");
        symlink(&outside, root.join("out")).unwrap();
        open_to_all(&root).unwrap();
        let check = |path: &Path, mode: u32| assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, mode, "{path:?}");
        check(&root, 0o777);
        check(&root.join("run.sh"), 0o777);
        check(&root.join("src/deep/a.txt"), 0o666);
        check(&outside, 0o600);
    }
}
