//! What a slot has beside the job that it runs: the place for the job that comes, with a container that stands ready in
//! it, and what the last job left, while it is cleared away.

use std::sync::{Arc, Mutex};

use buildr::executor::Executor;
use buildr::git::Checkouts;
use buildr::runner::{Foreseen, Rest, Rooms, WorkFolder, Workspace};
use protocol::{RepoUrl, task};
use tokio::task::JoinHandle;

/// What a slot has beside its job.
#[derive(Default)]
pub(crate) struct Ready {
    /// What the last job was of and began with, and so the next one probably will.
    foreseen: Option<(RepoUrl, Foreseen)>,
    /// The workspace for the job that comes.
    workspace: Option<Workspace>,
    /// Clears away what the last job left. One at most: whoever ends sooner than that is done waits for it.
    clearing: Option<JoinHandle<()>>,
}

impl Ready {
    /// Has a place made for the job that comes, unless there is one, or nobody knows what that will be. No job needs it,
    /// so what goes wrong is no matter.
    pub(crate) async fn prepare(&mut self, executor: &dyn Executor, work: &WorkFolder, checkouts: &Checkouts) {
        let Some((repo, foreseen)) = self.foreseen.as_ref().filter(|_| self.workspace.is_none()) else { return };
        let mut workspace = match work.open().await {
            Ok(workspace) => workspace,
            Err(error) => return tracing::debug!(%error, "nothing stands ready"),
        };
        if !workspace.foresee(checkouts, repo).await {
            return workspace.let_go(executor).await;
        }
        match foreseen.in_workspace(&workspace) {
            Ok(order) => {
                if let Err(error) = executor.stand_by(order).await {
                    tracing::warn!(%error, "what stood ready stays until the next sweep");
                }
            }
            Err(error) => tracing::debug!(%error, "nothing stands ready"),
        }
        self.workspace = Some(workspace);
    }

    /// Puts the place that was made for the job into its rooms.
    pub(crate) fn give(&mut self, rooms: &mut Rooms<'_>) {
        rooms.ready = Mutex::new(self.workspace.take());
    }

    /// A job is over, and what it left is cleared away beside the next one.
    pub(crate) async fn after(&mut self, repo: &RepoUrl, mut rest: Rest, executor: Arc<dyn Executor>, standby: bool) {
        self.foreseen = rest.foreseen().filter(|_| standby).map(|foreseen| (repo.clone(), foreseen));
        self.cleared().await;
        self.clearing = Some(task::spawn("clearing away", async move { rest.clear(&*executor).await }));
    }

    /// Waits until nothing of the last job is left.
    pub(crate) async fn cleared(&mut self) {
        if let Some(clearing) = self.clearing.take()
            && let Err(error) = clearing.await
        {
            tracing::warn!(%error, "clearing away ended unusually; the rest is left to the next sweep");
        }
    }

    /// No job comes any more.
    pub(crate) async fn end(mut self, executor: &dyn Executor) {
        if let Some(workspace) = self.workspace.take() {
            workspace.let_go(executor).await;
        }
        self.cleared().await;
    }
}
