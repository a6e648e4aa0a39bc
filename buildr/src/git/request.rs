//! Pull requests: their merge with the branch that they are to go into, where the forge offers it.

use protocol::{CommitId, RepoUrl};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Checkouts;
use super::bring::{Brought, bring, list};
use super::checkout;
use super::error::GitError;
use super::listing::Asked;
use super::mirror::REQUEST_MERGES;

/// What a repository offers as the merge of a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    /// It has no such ref: the forge makes none, or the two cannot be merged.
    None,
    /// It has one, of another commit: the forge has not made it anew yet.
    Other,
    /// The merge of this very commit.
    Of(CommitId),
}

impl Checkouts {
    /// Looks for the merge of a pull request at `reference` (such as `refs/pull/7/merge`), whose last commit is `head`.
    /// A merge that is found is in the mirror afterwards, for a checkout by its name.
    ///
    /// Ends soon after `stop`, as [`Checkouts::check_out`] does. Where checkouts are filtered there is no mirror to look
    /// into, and so no merge.
    ///
    /// # Errors
    /// See [`GitError`].
    pub async fn merge_of(
        &self,
        repo: &RepoUrl,
        reference: &str,
        head: &CommitId,
        stop: &CancellationToken,
        progress: mpsc::Sender<String>,
    ) -> Result<Merge, GitError> {
        let is_merge = REQUEST_MERGES.iter().any(|(before, behind)| {
            let number = reference.strip_prefix(before).and_then(|rest| rest.strip_suffix(behind));
            number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        });
        if self.filter.is_some() || !is_merge {
            return Ok(Merge::None);
        }
        let (reference, head) = (reference.to_owned(), head.clone());
        self.work(repo, stop, &progress, move |order, lines| {
            let listing = list(order, lines)?;
            let Some(commit) = listing.refs.get(&reference) else { return Ok(Merge::None) };
            let commit: CommitId = commit.to_string().parse().map_err(GitError::name)?;
            let asked = Asked::Commit { commit, branch: None };
            match bring(order, &asked, lines, |brought, _shared| looked_at(brought, &head)) {
                // The forge made another one meanwhile.
                Err(GitError::CommitGone { .. }) => Ok(Merge::Other),
                found => found,
            }
        })
        .await
    }
}

/// Whether what was brought is a merge of `head`.
fn looked_at(brought: &Brought<'_>, head: &CommitId) -> Result<Merge, GitError> {
    let broken = GitError::mirror(&brought.session.url);
    let mirror = brought.mirror.open().map_err(&broken)?;
    let merge = mirror.find_commit(brought.want.commit).map_err(&broken)?;
    let of_head = merge.parent_count() == 2 && merge.parent_ids().any(|parent| parent.to_string() == head.as_str());
    Ok(if of_head { Merge::Of(checkout::commit_id(&merge)) } else { Merge::Other })
}
