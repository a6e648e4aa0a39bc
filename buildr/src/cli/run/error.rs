//! Why a build on this machine could not even begin.

use std::io;
use std::path::PathBuf;

use protocol::source::InvalidSource;

use super::super::secrets::SecretError;
use crate::executor::ExecutorError;
use crate::git::GitError;
use crate::manifest::ManifestError;
use crate::runner::WorkspaceError;

/// Why a build could not even begin.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum RunError {
    /// There is nothing to build.
    #[error("{} is not a folder; `buildr run` takes the folder with the .buildr.yml", .0.display())]
    NotAFolder(PathBuf),
    /// The folder's name cannot be used.
    #[error("the folder {} cannot be named", path.display())]
    Name {
        path: PathBuf,
        #[source]
        source: InvalidSource,
    },
    /// Something on the disk.
    #[error("failed to {doing} {}", path.display())]
    Disk {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Another run writes there.
    #[error("another run writes {} now; wait for its end, or give this one another place with --out", .0.display())]
    Busy(PathBuf),
    /// It was not a run that made what is there.
    #[error(
        "{} has other things in it than the results of a run, which would replace some of them; name an empty or a new folder with --out",
        .0.display()
    )]
    Strange(PathBuf),
    /// There is no manifest to go by.
    #[error(transparent)]
    Manifest(ManifestError),
    /// The secrets.
    #[error(transparent)]
    Secrets(SecretError),
    /// The tree.
    #[error(transparent)]
    Tree(GitError),
    /// The folder for workspaces.
    #[error(transparent)]
    Work(#[from] WorkspaceError),
    /// The daemon.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
}
