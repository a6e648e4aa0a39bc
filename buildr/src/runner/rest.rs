//! What a job leaves on this machine when its end is told, and how that is cleared away.

use super::foreseen::Foreseen;
use super::workspace::Workspace;
use crate::executor::{Executor, Sandbox};

/// A job that is over, and whose end has been told.
#[must_use = "what it leaves must be cleared away"]
pub struct Ended {
    /// How it ended.
    pub ending: protocol::Ending,
    /// What is still to be cleared away: nothing of a job that was cancelled or could not be carried out, and of others
    /// their containers, whose scripts have ended, and their folders.
    pub rest: Rest,
}

/// What a job leaves on this machine. Dropped as it is, it stays until the next sweep.
#[derive(Default)]
#[must_use = "what it leaves must be cleared away"]
pub struct Rest {
    pub(super) sandbox: Option<Box<dyn Sandbox>>,
    pub(super) workspace: Option<Workspace>,
    /// What another job like it would begin with.
    pub(super) foreseen: Option<Foreseen>,
}

impl Rest {
    /// What another job like it would begin with, if that can be known.
    #[must_use]
    pub fn foreseen(&mut self) -> Option<Foreseen> {
        let prepared = self.sandbox.as_ref().and_then(|sandbox| sandbox.prepared());
        self.foreseen.take()?.started_from(prepared)
    }

    /// Closes the sandbox. Gives the sentence about what stayed.
    pub(super) async fn close(&mut self) -> Option<String> {
        let error = self.sandbox.take()?.close().await.err()?;
        tracing::warn!(%error, "what a job made stays until the next sweep");
        Some(format!("clean-up is not complete: {error}"))
    }

    /// Removes the workspace. Gives the sentence about what stayed.
    pub(super) async fn discard(&mut self, executor: &dyn Executor) -> Option<String> {
        let workspace = self.workspace.take()?;
        // Nobody came to what stood ready in it, where the job ended before it had a sandbox.
        if let Err(error) = executor.stand_down(&workspace.checkout()).await {
            tracing::warn!(%error, "what stood ready stays until the next sweep");
        }
        let error = workspace.discard(executor).await.err()?;
        tracing::warn!(%error, "a workspace stays until the next sweep");
        Some(format!("the workspace could not be removed: {error}"))
    }

    /// Clears all of it away: the containers first, verified, then the folders. What stays is left to the next sweep.
    pub async fn clear(mut self, executor: &dyn Executor) {
        // Whose log it would be in has been told to the end.
        let _ = self.close().await;
        let _ = self.discard(executor).await;
    }
}
