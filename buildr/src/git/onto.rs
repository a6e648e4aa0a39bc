//! Checkouts onto a ground: over what is kept of the repository, where the ground's way allows.

use std::sync::Arc;

use protocol::{Branch, CommitId, RepoUrl};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::error::GitError;
use super::listing::Asked;
use super::{CheckedOut, Checkouts, laid, partial};
use crate::overlay::Ground;

impl Checkouts {
    /// The same as [`Checkouts::check_out`], onto a ground: where its way allows, over a kept checkout of the repository,
    /// so that it costs what the commit has otherwise. The ground is empty, or was laid ahead ([`Checkouts::lay_ahead`]);
    /// one that lies over another repository is emptied first.
    ///
    /// Files that are as they were kept have the time at which that was made; those that some build since saw with
    /// other contents, and those that are written, have the present.
    ///
    /// # Errors
    /// See [`GitError`]; the ground is then empty.
    pub async fn check_out_onto(
        &self,
        repo: &RepoUrl,
        branch: Option<&Branch>,
        commit: Option<&CommitId>,
        ground: &Arc<Ground>,
        stop: &CancellationToken,
        progress: mpsc::Sender<String>,
    ) -> Result<CheckedOut, GitError> {
        let (asked, ground, filter) = (Asked::of(branch, commit), Arc::clone(ground), self.filter.clone());
        self.work(repo, stop, &progress, move |order, lines| match &filter {
            Some(filter) => {
                order.writes()?;
                ground.clear().map_err(GitError::disk("empty", ground.at()))?;
                partial::run(order, &asked, filter, ground.at(), lines)
            }
            None => laid::run(order, &asked, &ground, lines),
        })
        .await
    }

    /// Lays an empty ground over the kept checkout of `repo`, before a job is known: containers can be started over it,
    /// and [`Checkouts::check_out_onto`] then writes no more than what its commit has otherwise. Says whether it lies
    /// over it; not where the ground's way is another, or nothing is kept of this repository. Nothing is fetched.
    ///
    /// # Errors
    /// See [`GitError`]; the ground is then as it was.
    pub async fn lay_ahead(&self, repo: &RepoUrl, ground: &Arc<Ground>) -> Result<bool, GitError> {
        let (ground, stop) = (Arc::clone(ground), CancellationToken::new());
        let (progress, _) = mpsc::channel(1);
        self.work(repo, &stop, &progress, move |order, lines| laid::ahead(order, &ground, lines)).await
    }
}
