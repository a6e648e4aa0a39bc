//! One life of `buildr run`, by which what it makes is known, and what dead ones have left.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
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
    /// Held as long as it lives. In it stands the folder of its workspaces.
    lock: File,
}

/// One that died without cleaning up.
struct Dead {
    path: PathBuf,
    boot: BootId,
    /// Where its workspaces were, unless it died before it knew.
    work: Option<PathBuf>,
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
        Ok(Self { folder: folder.to_owned(), boot, lock })
    }

    /// What everything that this run makes is labelled with.
    pub(super) fn owner(&self) -> String {
        format!("{OWNER}{}", self.boot)
    }

    /// Writes down where its workspaces are, for whoever finds it dead.
    fn works_in(&self, work: &Path) -> Result<(), RunError> {
        let problem = |source| RunError::Disk { doing: "write", path: self.path(), source };
        (&self.lock).write_all(work.as_os_str().as_bytes()).map_err(problem)
    }

    /// The runs that died without cleaning up.
    fn dead(&self) -> Result<Vec<Dead>, RunError> {
        let folder = self.folder.join("lives");
        let problem = |source| RunError::Disk { doing: "look through", path: folder.clone(), source };
        let mut dead = Vec::new();
        for (path, boot) in lives(&folder).map_err(problem)? {
            if boot == self.boot || !path.exists() || !is_dead(&path) {
                continue;
            }
            let work = std::fs::read(&path).unwrap_or_default();
            let work = (!work.is_empty()).then(|| PathBuf::from(OsString::from_vec(work)));
            dead.push(Dead { path, boot, work });
        }
        Ok(dead)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("lives").join(self.boot.to_string())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // What stays is found dead by the next run.
        std::fs::remove_file(self.path()).ok();
    }
}

/// Removes what runs that were killed have left, wherever their workspaces were; and writes down where those of this
/// one are.
pub(super) async fn sweep(life: &Life, work: &WorkFolder, containers: &ContainerArgs) -> Result<(), RunError> {
    life.works_in(work.path())?;
    let mut swept = false;
    for Dead { path, boot, work: other } in life.dead()? {
        let theirs = DockerExecutor::connect(containers.docker(&format!("{OWNER}{boot}"), life.boot)).await?;
        theirs.sweep().await?;
        work.sweep(&theirs).await?;
        // What is not there any more has nothing left in it.
        if let Some(other) = other.filter(|other| other != work.path() && other.is_dir())
            && let Err(error) = sweep_other(&other, &theirs).await
        {
            // This run has another one.
            tracing::warn!(%error, folder = %other.display(), "what an earlier run left could not be removed");
            continue;
        }
        std::fs::remove_file(path).ok();
        swept = true;
    }
    if swept {
        tracing::info!("removed what earlier runs had left");
    }
    Ok(())
}

async fn sweep_other(work: &Path, theirs: &DockerExecutor) -> Result<(), RunError> {
    WorkFolder::at(work)?.sweep(theirs).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::testing::once_let_go;

    #[test]
    fn a_dead_one_says_where_it_worked_and_a_living_one_is_known() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!one_goes_on(folder.path()));
        let killed = Life::begin(folder.path()).unwrap();
        killed.works_in(Path::new("/srv/work")).unwrap();
        let path = killed.path();
        assert!(one_goes_on(folder.path()));
        let life = Life::begin(folder.path()).unwrap();
        assert!(life.dead().unwrap().is_empty());
        // Killed, it removes nothing.
        let kept = std::fs::read(&path).unwrap();
        drop(killed);
        std::fs::write(&path, kept).unwrap();
        let dead = once_let_go("its lock is free", || life.dead().unwrap().pop());
        assert_eq!((dead.path, dead.work.as_deref()), (path, Some(Path::new("/srv/work"))));
        drop(life);
        once_let_go("only a dead one is there", || (!one_goes_on(folder.path())).then_some(()));
    }
}
