//! Files that git LFS keeps elsewhere, in the place of the pointers that a checkout has.

use std::path::Path;

use git2::Repository;

use super::checkout::SUBMODULE;
use super::error::GitError;
use super::folder::remove;
use super::order::Order;
use super::program::Program;
use super::remote::Progress;

/// Without these git-lfs leaves the pointers where they are.
const SETTINGS: [(&str, &str); 4] = [
    ("filter.lfs.clean", "git-lfs clean -- %f"),
    ("filter.lfs.smudge", "git-lfs smudge -- %f"),
    ("filter.lfs.process", "git-lfs filter-process"),
    ("filter.lfs.required", "true"),
];

/// Fetches the LFS files of a checkout's commit, if it has any.
pub(super) fn pull(order: &Order, checkout: &Path, progress: &Progress) -> Result<(), GitError> {
    let failed = |error| GitError::tree("read the files of", checkout)(error);
    let repository = Repository::open(checkout).map_err(failed)?;
    if !is_used(&repository).map_err(failed)? {
        return Ok(());
    }
    let doing = "fetch the LFS files of";
    let program = Program { order, progress, doing, settings: &SETTINGS };
    if !program.knows(checkout, "lfs")? {
        return Err(GitError::NoProgram { program: "git-lfs", doing });
    }
    progress.say("fetching files of git LFS".to_owned());
    let pulled = program.run(checkout, ["lfs", "pull", "origin"]);
    // A second copy of all of them, and over a disk perhaps the very files of the source.
    remove(&repository.path().join("lfs"))?;
    pulled
}

/// Whether some file of the commit is kept by git LFS.
pub(super) fn is_used(repository: &Repository) -> Result<bool, git2::Error> {
    for entry in repository.index()?.iter() {
        let name = entry.path.rsplit(|byte| *byte == b'/').next();
        if name == Some(b".gitattributes") && entry.mode != SUBMODULE {
            let blob = repository.find_blob(entry.id)?;
            if String::from_utf8_lossy(blob.content()).contains("filter=lfs") {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
