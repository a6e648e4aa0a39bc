//! Git's objects as files: copied whole, because a container's root writes through a hard link.
//!
//! Objects never change once written, so a copy of the files is a copy of the repository; it is many times faster
//! than letting libgit2 make a pack of what is on the same disk already.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use git2::Repository;
use tokio_util::sync::CancellationToken;

use super::error::GitError;

/// How often a repository may be repacked while it is copied before that is an error.
const PASSES: usize = 5;

/// From how many loose objects on they are packed.
const LOOSE: usize = 500;

/// How deep borrowed object folders may borrow in their turn (git's own limit).
const ALTERNATES: usize = 5;

/// Copies every object under `from` (an `objects` folder) that `into` does not have, those that it borrows from
/// other folders included.
///
/// What was there when the call began is there when it ends, even if git packs or adds meanwhile.
pub(super) fn copy_objects(from: &Path, into: &Path, stop: &CancellationToken) -> Result<(), GitError> {
    let failed = |source: io::Error| GitError::Disk { doing: "copy the objects of", path: from.to_owned(), source };
    for folder in with_alternates(from).map_err(failed)? {
        let mut settled = false;
        for _ in 0..PASSES {
            settled = copy_folder(&folder, into, stop)?;
            if settled {
                break;
            }
        }
        if !settled {
            return Err(failed(io::Error::other("git kept on repacking it")));
        }
    }
    Ok(())
}

/// Puts objects that lie in files of their own into one pack when there are many: each of them would cost every
/// checkout a file. Nobody else may use the repository meanwhile.
pub(super) fn pack_loose(repository: &Repository, stop: &CancellationToken) -> Result<(), git2::Error> {
    let objects = repository.path().join("objects");
    // What cannot be listed cannot be copied either, and that will say so.
    let many = loose(&objects).unwrap_or_default();
    if many.len() < LOOSE {
        return Ok(());
    }
    let mut pack = repository.packbuilder()?;
    let stop = stop.clone();
    pack.set_progress_callback(move |_, _, _| !stop.is_cancelled())?;
    pack.set_threads(0);
    for (object, _) in &many {
        pack.insert_object(*object, None)?;
    }
    pack.write(&objects.join("pack"), 0o444)?;
    for (_, file) in &many {
        // One that stays is there twice, which is no harm.
        fs::remove_file(objects.join(file)).ok();
    }
    Ok(())
}

/// Writes all refs in one file, which takes the place of the old ones at once.
pub(super) fn write_refs(git_folder: &Path, refs: &BTreeMap<String, git2::Oid>) -> Result<(), GitError> {
    let mut text = String::with_capacity(refs.len() * 80);
    for (name, oid) in refs {
        text.push_str(&format!("{oid} {name}\n"));
    }
    let new = git_folder.join("packed-refs.new");
    let failed = |source| GitError::Disk { doing: "write the refs in", path: git_folder.to_owned(), source };
    fs::write(&new, text).map_err(failed)?;
    fs::rename(&new, git_folder.join("packed-refs")).map_err(failed)
}

/// Copies the list of commits where a shallow history ends. Where the history of `from` is whole, that of `into` is no
/// longer cut.
pub(super) fn copy_shallow(from: &Path, into: &Path) -> Result<(), GitError> {
    let file = into.join("shallow");
    let copied = match fs::copy(from.join("shallow"), &file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::remove_file(&file),
        copied => copied.map(drop),
    };
    match copied {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(GitError::disk("copy the file shallow of", from)(error))
        }
        _ => Ok(()),
    }
}

/// One pass. `false`: git moved objects meanwhile, so another pass is needed.
fn copy_folder(from: &Path, into: &Path, stop: &CancellationToken) -> Result<bool, GitError> {
    let failed = |source| GitError::Disk { doing: "copy the objects of", path: from.to_owned(), source };
    let packs = pack_files(from).map_err(failed)?;
    // Backwards: each pack before its index, so that no index is ever without its pack.
    for pack in packs.iter().rev() {
        if !copy_one(from, into, &Path::new("pack").join(pack), stop)? {
            return Ok(false);
        }
    }
    let packed = packed_in(into).map_err(|error| failed(io::Error::other(error)))?;
    for (object, file) in loose(from).map_err(failed)? {
        let here = into.join(&file).exists();
        if here || !packed.exists_ext(object, git2::OdbLookupFlags::NO_REFRESH) {
            // One that is gone went into a pack, which the check below finds.
            copy_one(from, into, &file, stop)?;
        }
    }
    Ok(pack_files(from).map_err(failed)?.is_subset(&packs))
}

/// Copies one file unless it is there. `false`: the source is gone.
fn copy_one(from: &Path, into: &Path, name: &Path, stop: &CancellationToken) -> Result<bool, GitError> {
    if stop.is_cancelled() {
        return Err(GitError::Cancelled);
    }
    let (source, target) = (from.join(name), into.join(name));
    let length = match fs::metadata(&source) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(GitError::disk("read", source)(error)),
    };
    match fs::metadata(&target) {
        Ok(there) if there.len() == length => return Ok(true),
        // Half of it, left by a process that was killed.
        Ok(_) => fs::remove_file(&target).map_err(GitError::disk("remove", target.clone()))?,
        Err(_) => {
            let parent = target.parent().unwrap_or(into);
            fs::create_dir_all(parent).map_err(GitError::disk("make", parent))?;
        }
    }
    match fs::copy(&source, &target) {
        Ok(_) => Ok(true),
        Err(_) if !source.exists() => Ok(false),
        Err(error) => Err(GitError::disk("copy to", target)(error)),
    }
}

/// The names of the packs and their indexes.
fn pack_files(objects: &Path) -> io::Result<BTreeSet<String>> {
    let known = |name: &String| name.ends_with(".pack") || name.ends_with(".idx");
    let files = names(&objects.join("pack"))?.into_iter().filter(known);
    Ok(files.collect())
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// For asking what lies in the packs of an `objects` folder now.
fn packed_in(objects: &Path) -> Result<git2::Odb<'static>, git2::Error> {
    let database = git2::Odb::new()?;
    database.add_disk_alternate(&objects.to_string_lossy())?;
    Ok(database)
}

/// The objects that lie in files of their own, with the paths of these from the `objects` folder.
fn loose(objects: &Path) -> io::Result<Vec<(git2::Oid, PathBuf)>> {
    let mut all = Vec::new();
    for folder in names(objects)?.into_iter().filter(|name| name.len() == 2) {
        for file in names(&objects.join(&folder))?.into_iter().filter(|name| name.len() == 38) {
            if let Ok(object) = git2::Oid::from_str(&format!("{folder}{file}")) {
                all.push((object, Path::new(&folder).join(file)));
            }
        }
    }
    Ok(all)
}

/// An `objects` folder with those that it borrows from.
fn with_alternates(objects: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = vec![objects.to_owned()];
    let mut layer = all.clone();
    for _ in 0..ALTERNATES {
        let mut next = Vec::new();
        for folder in layer {
            let text = match fs::read_to_string(folder.join("info/alternates")) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                text => text?,
            };
            let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            next.extend(lines.map(|line| folder.join(line)).filter(|path| !all.contains(path)));
        }
        all.extend(next.iter().cloned());
        layer = next;
    }
    Ok(all)
}
