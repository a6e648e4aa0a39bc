//! The artifacts of stages that worked on copies, brought together in the workspace.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::stat::SFlag;
use protocol::{Cause, StageName};

use super::container::restore;
use super::graph::Graph;
use super::places::{Places, blocking};
use crate::carry::CarryError;
use crate::folder::{self, Entry};

/// Why they cannot be brought together.
#[derive(Debug, thiserror::Error)]
pub(super) enum JoinError {
    /// Two stages wrote one file in different ways.
    #[error(
        "{one} and {other} run at the same time, and both leave {} as an artifact, with different contents; \
         let one wait for the other, or give the files different names",
        path.display()
    )]
    Conflict { one: StageName, other: StageName, place: usize, path: PathBuf },
    /// The disk, or what a build has left on it.
    #[error("the artifacts of {stage} could not be brought into the workspace")]
    Carry { stage: StageName, place: usize, source: CarryError },
    /// The disk.
    #[error("the artifacts of stages could not be compared")]
    Disk(#[from] io::Error),
}

impl JoinError {
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Conflict { .. } => Cause::Manifest,
            Self::Carry { .. } | Self::Disk(_) => Cause::Daemon,
        }
    }

    /// Whose fault it is, if it is a stage's.
    pub(super) fn stage(&self) -> Option<usize> {
        match self {
            Self::Conflict { place, .. } | Self::Carry { place, .. } => Some(*place),
            Self::Disk(_) => None,
        }
    }
}

/// Puts archives into the workspace, each after those of the stages that its own waited for.
///
/// # Errors
/// When two that waited for nothing of each other have the same path with different contents; the workspace is then as
/// it was.
pub(super) async fn join<'n>(
    places: &Places<'_>,
    workspace: &Path,
    left: &[(usize, PathBuf)],
    graph: &Graph,
    name: impl Fn(usize) -> &'n StageName,
) -> Result<(), JoinError> {
    let mut left: Vec<&(usize, PathBuf)> = left.iter().collect();
    left.sort_by_key(|(place, _)| (graph.before(*place).len(), *place));
    let carried = |place: usize| {
        let stage = name(place).clone();
        move |source| JoinError::Carry { stage, place, source }
    };
    if left.len() > 1 {
        let mut unpacked = Vec::new();
        for (place, archive) in &left {
            let folder = places.fresh("join");
            fs::create_dir(&folder)?;
            restore(archive.clone(), folder.clone()).await.map_err(carried(*place))?;
            unpacked.push((*place, folder));
        }
        let compared = unpacked.clone();
        let twice = blocking(move || same_paths(&compared)).await?;
        let conflict = twice.into_iter().find(|(one, other, _)| !graph.are_ordered(*one, *other));
        for (_, folder) in &unpacked {
            places.discard(folder).await;
        }
        if let Some((one, other, path)) = conflict {
            return Err(JoinError::Conflict { one: name(one).clone(), other: name(other).clone(), place: other, path });
        }
    }
    for (place, archive) in left {
        bring(places, archive, workspace).await.map_err(carried(*place))?;
    }
    Ok(())
}

/// Puts an archive into a workspace in which containers have made folders, maybe as a user who is not this process's.
async fn bring(places: &Places<'_>, archive: &Path, workspace: &Path) -> Result<(), CarryError> {
    let denied = match restore(archive.to_owned(), workspace.to_owned()).await {
        Err(error) if error.is_denied() => error,
        restored => return restored.map(drop),
    };
    let unpacked = places.fresh("join");
    fs::create_dir(&unpacked).map_err(|source| CarryError::Disk { doing: "unpack artifacts".to_owned(), source })?;
    restore(archive.to_owned(), unpacked.clone()).await?;
    let brought = places.bring(&unpacked, workspace).await;
    places.discard(&unpacked).await;
    brought.map_err(|error| {
        tracing::warn!(%error, "artifacts are not brought into a workspace by root either");
        denied
    })
}

/// The paths that two folders have with different contents.
pub(super) fn same_paths(folders: &[(usize, PathBuf)]) -> io::Result<Vec<(usize, usize, PathBuf)>> {
    let mut seen: HashMap<PathBuf, Vec<(usize, PathBuf)>> = HashMap::new();
    let mut found = Vec::new();
    for (place, folder) in folders {
        folder::walk(folder, &mut |entry: &Entry<'_>| {
            if entry.kind() == SFlag::S_IFDIR {
                return Ok(());
            }
            let others = seen.entry(entry.path.to_owned()).or_default();
            let own = folder.join(entry.path);
            for (other, theirs) in others.iter() {
                if !are_equal(theirs, &own)? {
                    found.push((*other, *place, entry.path.to_owned()));
                }
            }
            others.push((*place, own));
            Ok(())
        })?;
    }
    Ok(found)
}

fn are_equal(one: &Path, other: &Path) -> io::Result<bool> {
    let (first, second) = (fs::symlink_metadata(one)?, fs::symlink_metadata(other)?);
    if first.is_symlink() && second.is_symlink() {
        return Ok(fs::read_link(one)? == fs::read_link(other)?);
    }
    if first.is_symlink() || second.is_symlink() || first.len() != second.len() {
        return Ok(false);
    }
    Ok(fs::read(one)? == fs::read(other)?)
}
