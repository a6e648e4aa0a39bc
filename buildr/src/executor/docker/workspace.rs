//! The checkout on this machine's disk, as containers need it: writable for them, and copied for `prepare`.
//!
//! All of it blocks: it is called on a thread of its own.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::super::Stop;

/// Lets every user read and write, and go where somebody may go. What belongs to another user is left as it is,
/// for only its owner may change that.
pub(super) fn open_to_all(folder: &Path) -> io::Result<()> {
    walk(folder, &mut |path, metadata| {
        if metadata.is_symlink() {
            return Ok(());
        }
        let mode = metadata.mode();
        let goes = if metadata.is_dir() || mode & 0o111 != 0 { 0o111 } else { 0 };
        let wanted = mode | 0o666 | goes;
        match (wanted != mode).then(|| fs::set_permissions(path, Permissions::from_mode(wanted))) {
            Some(Err(error)) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
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
    /// Copies a folder to a new one beside it. Nothing when it was told to stop.
    pub(super) fn make(original: &Path, stop: &Stop) -> io::Result<Option<Self>> {
        let parent = original.parent().unwrap_or(original);
        let folder = tempfile::Builder::new().prefix(".buildr-prepare-").tempdir_in(parent)?;
        fs::set_permissions(folder.path(), fs::metadata(original)?.permissions())?;
        if !copy(original, folder.path(), stop)? {
            return Ok(None);
        }
        let folder = folder.keep();
        let whole_at = newest(&folder)?;
        Ok(Some(Self { folder, whole_at }))
    }

    /// What has been written to since, as paths within it; folders only when nothing in them shows why.
    pub(super) fn written(&self) -> io::Result<Vec<PathBuf>> {
        let (mut files, mut folders) = (Vec::new(), Vec::new());
        walk(&self.folder, &mut |path, metadata| {
            // The folder itself also changes when it is proven to be the one that the daemon sees.
            if path != self.folder && (metadata.ctime(), metadata.ctime_nsec()) > self.whole_at {
                let within = path.strip_prefix(&self.folder).unwrap_or(path).to_path_buf();
                if metadata.is_dir() { folders.push(within) } else { files.push(within) }
            }
            Ok(())
        })?;
        folders.retain(|folder| !files.iter().any(|file| file.starts_with(folder)));
        files.append(&mut folders);
        files.sort();
        Ok(files)
    }
}

/// Copies what is in a folder to another. `false`: it was told to stop. Nested folders wait in a list, not on the
/// stack: a repository has as many within each other as a path is long.
fn copy(from: &Path, to: &Path, stop: &Stop) -> io::Result<bool> {
    let mut waiting = vec![(from.to_path_buf(), to.to_path_buf())];
    let mut closed = Vec::new();
    while let Some((from, to)) = waiting.pop() {
        for entry in fs::read_dir(from)? {
            if stop.is_cancelled() {
                return Ok(false);
            }
            let entry = entry?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                symlink(fs::read_link(&source)?, &target)?;
            } else if kind.is_dir() {
                fs::create_dir(&target)?;
                closed.push((target.clone(), entry.metadata()?.permissions()));
                waiting.push((source, target));
            } else if kind.is_file() {
                fs::copy(&source, &target)?;
            }
        }
    }
    // Once they are full, the inner ones first: such as forbid to write to them are filled all the same.
    for (folder, permissions) in closed.into_iter().rev() {
        fs::set_permissions(folder, permissions)?;
    }
    Ok(true)
}

fn newest(folder: &Path) -> io::Result<(i64, i64)> {
    let mut newest = (0, 0);
    walk(folder, &mut |_, metadata| {
        newest = newest.max((metadata.ctime(), metadata.ctime_nsec()));
        Ok(())
    })?;
    Ok(newest)
}

/// Visits a folder and all that is in it, without following links. What vanishes meanwhile, and folders that may
/// not be looked into, are passed over.
fn walk(path: &Path, visit: &mut impl FnMut(&Path, &Metadata) -> io::Result<()>) -> io::Result<()> {
    let passed_over =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
    // Not on the stack, as in `copy`.
    let mut waiting = vec![path.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if passed_over(&error) => continue,
            metadata => metadata?,
        };
        visit(&path, &metadata)?;
        if metadata.is_dir() {
            let entries = match fs::read_dir(&path) {
                Err(error) if passed_over(&error) => continue,
                entries => entries?,
            };
            for entry in entries {
                waiting.push(entry?.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
        let copy = Copy::make(&parent.path().join("checkout"), &Stop::new()).unwrap().unwrap();
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
    fn a_copy_that_is_stopped_leaves_nothing() {
        let parent = checkout();
        let stop = Stop::new();
        stop.cancel();
        assert!(Copy::make(&parent.path().join("checkout"), &stop).unwrap().is_none());
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
