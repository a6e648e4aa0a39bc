//! Files that git LFS keeps elsewhere, in the place of the pointers that a checkout has.

use std::fs;
use std::path::Path;

use git2::{Config, FileMode, Repository};
use protocol::RepoUrl;

use super::checkout::SUBMODULE;
use super::credentials::public_url;
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
    look_at_config(order, &repository)?;
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

/// Refuses a `.lfsconfig` that leads git-lfs to a folder of this machine: whoever wrote the commit wrote it too.
fn look_at_config(order: &Order, repository: &Repository) -> Result<(), GitError> {
    let failed = |error| GitError::tree("read .lfsconfig in", repository.path())(error);
    let repo = public_url(order.repo.reveal());
    let refused = |why: String| GitError::Misleading { file: ".lfsconfig", repo: repo.clone(), why };
    let tree = repository.head().and_then(|head| head.peel_to_tree()).map_err(failed)?;
    let Some(entry) = tree.get_name(".lfsconfig") else { return Ok(()) };
    let blob = repository.find_blob(entry.id()).map_err(failed)?;
    let text = String::from_utf8_lossy(blob.content()).to_lowercase();
    if entry.filemode() == i32::from(FileMode::Link) || text.contains("[include") {
        return Err(refused("it is a link, or includes another file".to_owned()));
    }
    // libgit2 reads settings from files alone.
    let file = repository.path().join("lfsconfig.read");
    fs::write(&file, blob.content()).map_err(GitError::disk("write", file.clone()))?;
    let settings = Config::open(&file).and_then(|config| urls_of(&config));
    remove(&file)?;
    for url in settings.map_err(|error| refused(error.message().to_owned()))? {
        match url.parse::<RepoUrl>() {
            Ok(there) if there.is_local() && !order.repo.is_local() => {
                let why = "a repository on a server may not name a folder of the machine that builds it";
                return Err(refused(format!("{url:?}: {why}")));
            }
            Ok(_) => {}
            Err(why) => return Err(refused(why.to_string())),
        }
    }
    Ok(())
}

/// What is said of places: `lfs.url`, `remote.origin.lfsurl` and their like.
fn urls_of(config: &Config) -> Result<Vec<String>, git2::Error> {
    let mut urls = Vec::new();
    config.entries(None)?.for_each(|entry| {
        if entry.name_bytes().ends_with(b"url") {
            urls.push(String::from_utf8_lossy(entry.value_bytes()).into_owned());
        }
    })?;
    Ok(urls)
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
