//! One life of `buildr run`, by which what it makes is known, and what dead ones have left.

use std::fs::File;
use std::path::{Path, PathBuf};

use protocol::BootId;

use super::super::containers::ContainerArgs;
use super::error::RunError;
use crate::executor::Executor as _;
use crate::executor::docker::DockerExecutor;
use crate::runner::WorkFolder;

/// One run of this command. Several may go on at once; a lock file each tells which of them still live.
pub(super) struct Life {
    /// This program's own folder.
    pub(super) folder: PathBuf,
    /// Which life it is.
    pub(super) boot: BootId,
    _lock: File,
}

const OWNER: &str = "run-";

/// Whether what is marked so was made by a run of this command line, and not by an agent: these have names, and no life
/// in theirs.
pub(in crate::cli) fn is_of_a_run(owner: &str) -> bool {
    owner.strip_prefix(OWNER).is_some_and(|boot| boot.parse::<BootId>().is_ok())
}

/// Whether a run goes on that began in this folder.
pub(in crate::cli) fn one_goes_on(folder: &Path) -> bool {
    lives(&folder.join("lives")).is_ok_and(|lives| lives.iter().any(|(path, _)| !is_dead(path)))
}

/// The runs of which something is there, living or dead.
fn lives(folder: &Path) -> std::io::Result<Vec<(PathBuf, BootId)>> {
    let mut lives = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let boot = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        lives.extend(boot.map(|boot| (path, boot)));
    }
    Ok(lives)
}

/// Whether nobody holds its lock; where that cannot be told, it lives. One that is gone meanwhile has cleaned up.
fn is_dead(path: &Path) -> bool {
    match File::open(path) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

impl Life {
    /// Begins one, in this program's own folder.
    pub(super) fn begin(folder: &Path) -> Result<Self, RunError> {
        let lives = folder.join("lives");
        let problem = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| RunError::Disk { doing, path, source }
        };
        std::fs::create_dir_all(&lives).map_err(problem("make the folder", &lives))?;
        let boot = BootId::fresh();
        // It has no life's name until it is locked: nobody ever finds it dead while it begins.
        let (path, making) = (lives.join(boot.to_string()), lives.join(format!(".{boot}")));
        let lock = File::create(&making).map_err(problem("write", &making))?;
        lock.lock().map_err(problem("lock", &making))?;
        std::fs::rename(&making, &path).map_err(problem("write", &path))?;
        Ok(Self { folder: folder.to_owned(), boot, _lock: lock })
    }

    /// What everything that this run makes is labelled with.
    pub(super) fn owner(&self) -> String {
        format!("{OWNER}{}", self.boot)
    }

    /// The runs that died without cleaning up.
    fn dead(&self) -> Result<Vec<(PathBuf, BootId)>, RunError> {
        let lives = self.folder.join("lives");
        let problem = |source| RunError::Disk { doing: "look through", path: lives.clone(), source };
        let mut dead = Vec::new();
        for entry in std::fs::read_dir(&lives).map_err(problem)? {
            let path = entry.map_err(problem)?.path();
            let Some(boot) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()) else {
                continue;
            };
            if boot != self.boot && File::open(&path).is_ok_and(|lock| lock.try_lock().is_ok()) {
                dead.push((path, boot));
            }
        }
        Ok(dead)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // What stays is found dead by the next run.
        std::fs::remove_file(self.folder.join("lives").join(self.boot.to_string())).ok();
    }
}

/// Removes what runs that were killed have left.
pub(super) async fn sweep(life: &Life, work: &WorkFolder, containers: &ContainerArgs) -> Result<(), RunError> {
    let mut swept = false;
    for (path, boot) in life.dead()? {
        let theirs = DockerExecutor::connect(containers.docker(&format!("{OWNER}{boot}"), life.boot)).await?;
        theirs.sweep().await?;
        work.sweep(&theirs).await?;
        std::fs::remove_file(path).ok();
        swept = true;
    }
    if swept {
        tracing::info!("removed what earlier runs had left");
    }
    Ok(())
}
