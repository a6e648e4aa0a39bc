//! Workspaces whose process is killed while it removes them.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use protocol::plan::Image;

use super::*;
use crate::executor::{ExecutorError, Output, Sandbox, SandboxOrder, StandbyOrder, Suits, Swept};

/// An executor that removes so many entries, and then no more. Of a folder's entries the lock comes first, as it well may
/// where a disk lists them as it likes.
struct Dies(AtomicUsize);

impl Dies {
    fn remove(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            let mut entries: Vec<_> = fs::read_dir(path)?.map(|entry| entry.unwrap().path()).collect();
            entries.sort_by_key(|entry| !entry.ends_with("lock"));
            entries.iter().try_for_each(|entry| self.remove(entry))?;
        }
        let lives = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        lives.map_err(|_| io::Error::other("killed"))?;
        if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }
    }
}

#[async_trait]
impl Executor for Dies {
    async fn open(&self, _order: SandboxOrder) -> Result<Box<dyn Sandbox>, ExecutorError> {
        Err(ExecutorError::Refused("nothing is run here".to_owned()))
    }

    async fn stand_by(&self, _order: StandbyOrder) -> Result<(), ExecutorError> {
        Ok(())
    }

    async fn stand_down(&self, _workspace: &Path) -> Result<(), ExecutorError> {
        Ok(())
    }

    async fn suits(&self, _image: &Image, _output: &Output, _stop: &Stop) -> Result<Suits, ExecutorError> {
        Ok(Suits::Own)
    }

    async fn sweep(&self) -> Result<Swept, ExecutorError> {
        Ok(Swept::default())
    }

    async fn discard(&self, folder: &Path) -> Result<(), ExecutorError> {
        self.remove(folder).map_err(|source| ExecutorError::Disk { doing: "remove it".to_owned(), source })
    }
}

#[tokio::test]
async fn what_was_half_removed_is_removed_by_the_next_sweep() {
    for entries in 0.. {
        let root = tempfile::tempdir().unwrap();
        let work = WorkFolder::at(root.path()).unwrap();
        fs::create_dir(root.path().join("somebody-elses")).unwrap();
        let workspace = work.open().await.unwrap();
        fs::create_dir(workspace.folder().join("hand")).unwrap();
        fs::write(workspace.folder().join("hand/value"), "7").unwrap();
        fs::write(workspace.folder().join("note"), "x").unwrap();
        let whole = workspace.discard(&Dies(entries.into())).await.is_ok();
        work.sweep(&ScriptedExecutor::new()).await.unwrap();
        let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["somebody-elses"], "killed after {entries} entries");
        if whole {
            assert_eq!(entries, 6);
            return;
        }
    }
}
