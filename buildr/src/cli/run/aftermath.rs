//! What happens to a stage that failed before its workspace is removed: its person looks into it, or it is kept.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::screen::Screen;
use super::shell;
use crate::executor::docker::{DockerExecutor, KeptStage};
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
                Some(kept) => self.keep(&mut stage, folder, kept),
                None => self.forget(&stage).await,
            }
        }
    }
}

impl Aftermath<'_> {
    fn keep(&self, stage: &mut KeptStage, folder: &Path, kept: &Path) {
        // A person's own tree stays where it is.
        if stage.folder.starts_with(folder) {
            let name = stage.image.rsplit(':').next().unwrap_or_default();
            let to = kept.join(format!("{} {name}", stage.stage));
            match taken_out(&stage.folder, &to) {
                Ok(()) => stage.folder = to,
                Err(error) => drop(self.screen.note(&format!("the workspace of {} is not kept: {error}", stage.stage))),
            }
        }
        let text = format!("{} is kept; look into it with: {}", stage.stage, stage.command());
        self.screen.note(&text).ok();
    }

    /// A shell was all that it was for.
    async fn forget(&self, stage: &KeptStage) {
        if !self.executor.forget(stage).await {
            tracing::warn!(image = stage.image, "an image stays until its time is over");
        }
    }
}

fn taken_out(from: &Path, to: &Path) -> io::Result<()> {
    to.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::rename(from, to)
}
