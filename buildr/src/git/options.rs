//! What a manifest asks for beyond a plain checkout, done to a checkout that is there.

use std::cell::Cell;
use std::path::Path;

use git2::Repository;
use protocol::plan::{CloneOptions, Submodules as Which};

use super::error::GitError;
use super::history;
use super::lfs;
use super::order::Order;
use super::remote::Progress;
use super::submodules::{Submodules, links};

/// Applies the options to `checkout`, which came from the order's repository, and says what is not fetched. On a
/// thread that may block.
pub(super) fn apply(
    order: &Order,
    checkout: &Path,
    options: &CloneOptions,
    progress: &Progress,
) -> Result<(), GitError> {
    let each = |order: &Order, checkout: &Path| finish(order, checkout, options, progress);
    if options.submodules != Which::None {
        let recursive = options.submodules == Which::Recursive;
        Submodules { progress, recursive, count: Cell::new(0) }.bring(order, checkout, &each)?;
    }
    each(order, checkout)?;
    let failed = |error| GitError::tree("read the files of", checkout)(error);
    note_what_is_not_fetched(checkout, options, progress).map_err(failed)
}

/// What is done to the repository itself and to each of its submodules.
fn finish(order: &Order, checkout: &Path, options: &CloneOptions, progress: &Progress) -> Result<(), GitError> {
    order.writes()?;
    if options.lfs {
        lfs::pull(order, checkout, progress)?;
    }
    options.depth.map_or(Ok(()), |depth| history::cut(checkout, depth, &order.stop))
}

fn note_what_is_not_fetched(checkout: &Path, options: &CloneOptions, progress: &Progress) -> Result<(), git2::Error> {
    let repository = Repository::open(checkout)?;
    let names = |repository: &Repository| -> Result<Vec<String>, git2::Error> {
        Ok(links(repository)?.into_iter().map(|link| link.path).collect())
    };
    let submodules = names(&repository)?;
    match options.submodules {
        Which::None if !submodules.is_empty() => {
            let list = submodules.join(", ");
            progress.say(format!(
                "note: submodules are not fetched: {list}; to have them, write `clone: {{submodules: true}}`"
            ));
        }
        Which::Direct => {
            for path in &submodules {
                let theirs = names(&Repository::open(checkout.join(path))?)?;
                if !theirs.is_empty() {
                    let list = theirs.join(", ");
                    progress.say(format!(
                        "note: the submodules of {path} are not fetched: {list}; to have them, write `clone: {{submodules: recursive}}`"
                    ));
                }
            }
        }
        Which::None | Which::Recursive => {}
    }
    let whole = repository.config()?.get_string("extensions.partialclone").is_err();
    if let Some(filter) = options.filter.as_ref().filter(|_| whole) {
        progress.say(format!(
            "note: {filter} filters nothing here: the manifest that asks for it was read from a whole clone"
        ));
    }
    if !options.lfs && lfs::is_used(&repository)? {
        let note = "note: files kept by git LFS are not fetched; their pointers stand in their places";
        progress.say(format!("{note}; to have them, write `clone: {{lfs: true}}`"));
    }
    Ok(())
}
