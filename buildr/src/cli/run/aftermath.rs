//! What happens to a stage that failed before its workspace is removed: its person looks into it, or it is kept.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::owner::word;
use super::screen::Screen;
use super::shell;
use crate::executor::docker::{DockerExecutor, KeptStage};
use crate::folder;
use crate::runner::Visitor;

/// Looks into what failed.
pub(super) struct Aftermath<'a> {
    /// What is shown.
    pub(super) screen: Screen,
    /// Where its containers were.
    pub(super) executor: &'a DockerExecutor,
    /// Whether its person wants a shell.
    pub(super) shell: bool,
    /// Where workspaces are kept, when they are.
    pub(super) kept: Option<PathBuf>,
    /// The images that were dealt with.
    pub(super) seen: Mutex<HashSet<String>>,
}

#[async_trait]
impl Visitor for Aftermath<'_> {
    async fn visit(&self, folder: &Path) {
        for mut stage in self.executor.kept() {
            let is_new = self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(stage.image.clone());
            if !is_new {
                continue;
            }
            if self.shell
                && let Err(error) = shell::open(self.executor, &stage, &self.screen).await
            {
                // The build's end is told in any case.
                self.screen.note(&format!("no shell could be opened: {error}")).ok();
            }
            match &self.kept {
                Some(kept) => self.keep(&mut stage, folder, kept).await,
                None => self.forget(&stage).await,
            }
        }
    }
}

impl Aftermath<'_> {
    async fn keep(&self, stage: &mut KeptStage, folder: &Path, kept: &Path) {
        // A person's own tree stays where it is.
        if stage.folder.starts_with(folder) {
            let name = stage.image.rsplit(':').next().unwrap_or_default();
            let to = kept.join(format!("{}-{name}", stage.stage));
            let from = std::mem::replace(&mut stage.folder, to.clone());
            let taken = tokio::task::spawn_blocking(move || taken_out(&from, &to)).await;
            match taken.map_err(io::Error::other).flatten() {
                Ok(left_out) => {
                    if let Some(names) = folder::named(&left_out) {
                        let text =
                            format!("of the workspace of {} is not kept, for it may not be read: {names}", stage.stage);
                        self.screen.note(&text).ok();
                    }
                }
                Err(error) => {
                    self.screen.note(&format!("the workspace of {} is not kept: {error}", stage.stage)).ok();
                    return;
                }
            }
        }
        let command = command(&stage.folder, &stage.mount, &stage.image);
        self.screen.note(&format!("{} is kept; look into it with: {command}", stage.stage)).ok();
    }

    /// A shell was all that it was for.
    async fn forget(&self, stage: &KeptStage) {
        if !self.executor.forget(stage).await {
            tracing::warn!(image = stage.image, "an image stays until its time is over");
        }
    }
}

/// The command by which a person looks into a stage later. The environment of the build is not in it.
fn command(folder: &Path, mount: &str, image: &str) -> String {
    let volume = format!("{}:{mount}", folder.display());
    format!("docker run --rm -it -v {} -w {} {} sh", word(&volume), word(mount), word(image))
}

/// Moves a workspace to where it is kept; to another file system it is copied. Gives what is left out of that.
fn taken_out(from: &Path, to: &Path) -> io::Result<Vec<PathBuf>> {
    to.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copied(from, to),
        moved => moved.map(|()| Vec::new()),
    }
}

fn copied(from: &Path, to: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir(to)?;
    let copied = folder::copy(from, to, &|| false);
    if copied.is_err() {
        // Half of it would be taken for all.
        folder::remove(to).ok();
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_pasted() {
        let check = |folder: &str, expect: &str| {
            let expect = format!("docker run --rm -it -v {expect} -w /app buildr-kept:1 sh");
            assert_eq!(command(Path::new(folder), "/app", "buildr-kept:1"), expect);
        };
        check("/home/ann/kept/build-1", "/home/ann/kept/build-1:/app");
        check("/home/ann lee/kept/it's", "'/home/ann lee/kept/it'\\''s:/app'");
    }

    #[test]
    fn a_workspace_is_moved_or_copied_whole() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        std::fs::create_dir_all(from.join("sub")).unwrap();
        std::fs::write(from.join("sub/file"), "made").unwrap();
        let (to, moved) = (folder.path().join("copied"), folder.path().join("kept/moved"));
        assert!(copied(&from, &to).unwrap().is_empty());
        assert!(taken_out(&from, &moved).unwrap().is_empty() && !from.exists());
        for folder in [&to, &moved] {
            assert_eq!(std::fs::read_to_string(folder.join("sub/file")).unwrap(), "made");
        }
        assert!(copied(&from, &folder.path().join("half")).is_err());
        assert!(!folder.path().join("half").exists());
    }
}
