//! What of a clone's `.git` goes by names: where HEAD is, what branches and tags the remote has, what the settings say of
//! the branch, where a shallow history ends. A kept checkout has those of the build that it was made for, and most builds
//! over it have the same: of those nothing is written.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use protocol::Branch;
use sha2::{Digest as _, Sha256};

use super::bring::Brought;
use super::checkout::{default_branch, refs_of_clone};
use super::error::GitError;
use super::made::{self, Head};
use super::objects;

/// The names of one clone.
pub(super) struct Names {
    refs: BTreeMap<String, git2::Oid>,
    /// The branch that the remote's HEAD means, if it has that.
    default: Option<Branch>,
    branch: Option<Branch>,
    commit: git2::Oid,
    shallow: Option<Vec<u8>>,
}

impl Names {
    /// Those that a build has for which this was brought, with the refs that its mirror keeps.
    pub(super) fn of(brought: &Brought<'_>, kept: BTreeMap<String, git2::Oid>) -> Result<Self, GitError> {
        let Brought { mirror, want, listing, .. } = brought;
        let shallow = mirror.folder().join("shallow");
        let shallow = match fs::read(&shallow) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(GitError::disk("read", shallow)(error)),
        };
        Ok(Self {
            refs: refs_of_clone(kept, want),
            default: default_branch(listing),
            branch: want.branch.clone(),
            commit: want.commit,
            shallow,
        })
    }

    /// By which the same are known again.
    pub(super) fn digest(&self) -> String {
        let Self { refs, default, branch, commit, shallow } = self;
        let told = format!("{refs:?}\n{default:?}\n{branch:?}\n{commit}\n{shallow:?}");
        data_encoding::HEXLOWER.encode(&Sha256::digest(told.as_bytes()))
    }

    /// Writes all but HEAD into a `.git` of whose settings the first so many bytes say nothing of a branch.
    pub(super) fn write(&self, git: &Path, settings: u64) -> Result<(), GitError> {
        objects::write_refs(git, &self.refs)?;
        write_or_remove(&git.join("shallow"), self.shallow.as_deref())?;
        let default = self.default.as_ref().map(|head| format!("ref: refs/remotes/origin/{head}\n").into_bytes());
        write_or_remove(&git.join("refs/remotes/origin/HEAD"), default.as_deref())?;
        let config = git.join("config");
        let text = fs::read(&config).map_err(GitError::disk("read", config.clone()))?;
        let own = usize::try_from(settings).unwrap_or(usize::MAX).min(text.len());
        let wanted = [&text[..own], self.branch.as_ref().map(of_branch).unwrap_or_default().as_bytes()].concat();
        if wanted != text {
            fs::write(&config, wanted).map_err(GitError::disk("write", config))?;
        }
        Ok(())
    }

    /// Writes HEAD: last of all, for what is written before it is compared with where it is.
    pub(super) fn write_head(&self, git: &Path) -> Result<(), GitError> {
        let name = self.branch.as_ref().map(|branch| format!("refs/heads/{branch}"));
        let text = name.as_deref().map_or(Head::At(self.commit), Head::On).text();
        let head = git.join("HEAD");
        fs::write(&head, text).map_err(GitError::disk("write", head))
    }
}

fn write_or_remove(file: &Path, text: Option<&[u8]>) -> Result<(), GitError> {
    let done = match text {
        Some(text) => {
            let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
            folder.and_then(|()| fs::write(file, text))
        }
        None => match fs::remove_file(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        },
    };
    done.map_err(GitError::disk("write", file))
}

/// What a clone's settings say of the branch that is checked out.
fn of_branch(branch: &Branch) -> String {
    let merge = format!("refs/heads/{branch}");
    made::section("branch", Some(branch.as_str()), &[("remote", "origin"), ("merge", &merge)])
}
