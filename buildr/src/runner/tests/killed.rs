//! Workspaces whose process is killed while it removes them.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;

/// An executor that removes so many entries, and then no more.
fn dies_after(entries: usize) -> Inert {
    let left = AtomicUsize::new(entries);
    Inert { sees: None, remove: Box::new(move |path| remove(path, &left)) }
}

/// Of a folder's entries the lock comes first, as it well may where a disk lists them as it likes.
fn remove(path: &Path, left: &AtomicUsize) -> io::Result<()> {
    if path.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path)?.map(|entry| entry.unwrap().path()).collect();
        entries.sort_by_key(|entry| !entry.ends_with("lock"));
        entries.iter().try_for_each(|entry| remove(entry, left))?;
    }
    let lives = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    lives.map_err(|_| io::Error::other("killed"))?;
    if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }
}

#[tokio::test]
async fn what_was_half_removed_is_removed_by_the_next_sweep() {
    for entries in 0.. {
        let root = tempfile::tempdir().unwrap();
        let work = WorkFolder::at(root.path()).unwrap();
        // With a lock of its own, which nobody holds now.
        fs::create_dir(root.path().join("somebody-elses")).unwrap();
        fs::write(root.path().join("somebody-elses/lock"), "").unwrap();
        let workspace = work.open().await.unwrap();
        fs::create_dir(workspace.folder().join("hand")).unwrap();
        fs::write(workspace.folder().join("hand/value"), "7").unwrap();
        fs::write(workspace.folder().join("note"), "x").unwrap();
        let whole = workspace.discard(&dies_after(entries)).await.is_ok();
        // A process that another test starts at this moment has the lock open until it becomes what it runs.
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            work.sweep(&ScriptedExecutor::new()).await.unwrap();
            let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            if left == ["somebody-elses"] {
                break;
            }
            assert!(Instant::now() < end, "killed after {entries} entries: {left:?}");
        }
        assert!(root.path().join("somebody-elses/lock").exists());
        if whole {
            assert_eq!(entries, 6);
            return;
        }
    }
}
