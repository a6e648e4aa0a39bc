//! The code of a job: cloned from its repository, or copied from a person's own tree.

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::job::WorkOrder;
use protocol::report::JobEvent;
use protocol::{Branch, Cause, CommitId, Ending};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Rooms;
use super::telling::JobLog;
use super::workspace::Workspace;
use crate::executor::Stop;
use crate::git::{self, Checkouts, GitError, Merge, TreeCopy};

/// Where the code of jobs comes from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// From the repository that the order names.
    Clone(&'a Checkouts),
    /// From this folder, as it stands: a person's own tree.
    Tree(&'a Path),
    /// From this folder, as its commit has it.
    Committed(&'a Path),
    /// The same as a tree, without a copy: stages work in it, and leave in it what they leave.
    InPlace(&'a Path),
}

impl Source<'_> {
    /// The folder in which a job works, and whether that is a person's own tree.
    pub(super) fn checkout(&self, workspace: &Workspace) -> (PathBuf, bool) {
        match self {
            Self::InPlace(tree) => (tree.to_path_buf(), true),
            Self::Clone(_) | Self::Tree(_) | Self::Committed(_) => (workspace.checkout(), false),
        }
    }
}

/// What is known of the code once it is there.
#[derive(Debug, Clone)]
pub struct Sourced {
    /// The commit; none outside git, or before the first commit.
    pub commit: Option<CommitId>,
    /// The branch.
    pub branch: Option<Branch>,
    /// The first line of the commit's message.
    pub subject: String,
    /// Who wrote it.
    pub author: String,
    /// When it was committed, in seconds since 1970.
    pub committed_s: Option<i64>,
    /// The branch that the repository's HEAD means, where it is known.
    pub default_branch: Option<Branch>,
    /// The files that the build changes; none when its base is not known.
    pub changed: Option<Vec<String>>,
    /// Whether the code is that of the commit, and nothing else.
    pub is_whole_commit: bool,
}

impl Sourced {
    pub(super) fn event(&self) -> JobEvent {
        JobEvent::CheckedOut {
            commit: self.commit.clone(),
            branch: self.branch.clone(),
            subject: self.subject.clone(),
            author: self.author.clone(),
            default_branch: self.default_branch.clone(),
        }
    }
}

/// The waits between tries to clone when the network is at fault.
pub(super) const CLONE_AGAIN_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// How many lines of a clone's progress may wait to be written down.
pub(super) const PROGRESS_BOUND: usize = 16;

/// Brings the code into a workspace, which is empty or was laid ahead.
pub(super) async fn fetch(
    order: &WorkOrder,
    rooms: &Rooms<'_>,
    into: &Workspace,
    stop: &Stop,
    log: &JobLog<'_>,
) -> Result<Sourced, Ending> {
    let mut sourced = bring(order, rooms, into, stop, log).await?;
    // A tag has no branch, and whoever says which branch it is knows it better than the folder.
    sourced.branch = match &order.origin.tag {
        Some(_) => None,
        None => order.branch.clone().or(sourced.branch),
    };
    Ok(sourced)
}

async fn bring(
    order: &WorkOrder,
    rooms: &Rooms<'_>,
    workspace: &Workspace,
    stop: &Stop,
    log: &JobLog<'_>,
) -> Result<Sourced, Ending> {
    let into = &workspace.checkout();
    match rooms.source {
        Source::Clone(_) if order.plan.as_ref().is_some_and(|plan| plan.clone.none) => {
            workspace.empty().await.map_err(|error| {
                Ending::errored(Cause::Daemon, format!("the workspace could not be emptied: {error}"))
            })?;
            log.say("no code is fetched: the manifest says `clone: false`").await;
            let (commit, branch) = (order.commit.clone(), order.branch.clone());
            Ok(Sourced { commit, branch, is_whole_commit: true, ..sourced(TreeCopy::default()) })
        }
        Source::Clone(checkouts) => {
            let filter = order.plan.as_ref().and_then(|plan| plan.clone.filter.as_deref());
            let filtered = filter.map(|filter| checkouts.filtered(filter)).transpose();
            let filtered = filtered.map_err(|error| clone_failed(&error))?;
            let checkouts = filtered.as_ref().unwrap_or(checkouts);
            let (limit, end) = (rooms.times.clone, stop.token().child_token());
            let mut cloning = std::pin::pin!(clone(order, checkouts, workspace, &end, stop, log));
            tokio::select! {
                cloned = &mut cloning => cloned,
                () = tokio::time::sleep(limit) => {
                    end.cancel();
                    // It ends soon, and writes nothing any more when it has.
                    let told = |ending: Ending| if stop.is_cancelled() { ending } else { too_long(order, limit) };
                    cloning.await.map_err(told)
                }
            }
        }
        Source::Tree(tree) => {
            let copy = git::copy_tree(tree, into, stop.token()).await;
            copied("copy of", tree, copy, stop, log).await
        }
        Source::Committed(tree) => {
            let copy = git::copy_committed(tree, into, stop.token()).await;
            let sourced = copied("copy of what is committed in", tree, copy, stop, log).await?;
            Ok(Sourced { is_whole_commit: true, ..sourced })
        }
        Source::InPlace(tree) => look_at(tree, stop, log).await,
    }
}

async fn clone(
    order: &WorkOrder,
    checkouts: &Checkouts,
    into: &Workspace,
    end: &CancellationToken,
    stop: &Stop,
    log: &JobLog<'_>,
) -> Result<Sourced, Ending> {
    log.say(&format!("clone {}", order.repo)).await;
    let mut waits = CLONE_AGAIN_AFTER.into_iter();
    loop {
        let (progress, mut lines) = mpsc::channel::<String>(PROGRESS_BOUND);
        let say = async {
            while let Some(line) = lines.recv().await {
                log.say(&line).await;
            }
        };
        let check_out = async {
            let merge = merge_of(order, checkouts, end, &progress).await?;
            let (branch, commit) = (order.branch.as_ref(), merge.as_ref().or(order.commit.as_ref()));
            checkouts.check_out_onto(&order.repo, branch, commit, into.ground(), end, progress).await
        };
        let (done, ()) = tokio::join!(check_out, say);
        match done {
            Ok(done) => {
                is_what_was_proposed(order, &done.commit)?;
                return Ok(Sourced {
                    commit: Some(done.commit),
                    branch: done.branch,
                    subject: done.subject,
                    author: done.author,
                    committed_s: Some(done.committed_s),
                    default_branch: done.default_branch.or_else(|| order.default_branch.clone()),
                    changed: None,
                    is_whole_commit: true,
                });
            }
            Err(_) if stop.is_cancelled() => return Err(Ending::cancelled("cancelled during the clone")),
            Err(error) => {
                let wait = waits.next().filter(|_| error.retry_worthy()).ok_or_else(|| clone_failed(&error))?;
                log.say(&format!("{error}; trying again in {} s", wait.as_secs())).await;
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = end.cancelled() => return Err(Ending::cancelled("cancelled during the clone")),
                }
            }
        }
    }
}

/// Of a pull request of which the forge tells only how its commit begins: what was pushed since is another build's, and
/// may wait for a person.
fn is_what_was_proposed(order: &WorkOrder, commit: &CommitId) -> Result<(), Ending> {
    match &order.origin.short {
        Some(short) if order.commit.is_none() && !commit.as_str().starts_with(short.as_str()) => {
            Err(Ending::cancelled(format!(
                "superseded: the branch is at {} by now, and this build is of {short}",
                commit.short()
            )))
        }
        _ => Ok(()),
    }
}

/// How long it is waited, twice, for a forge that has yet to merge what was just pushed.
const MERGED_SOON: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// The merge of a pull request with its target, where the forge offers it and nothing is decided yet. It must be of the
/// very commit that was asked for: what was pushed since is another build's, and may wait for a person.
async fn merge_of(
    order: &WorkOrder,
    checkouts: &Checkouts,
    end: &CancellationToken,
    progress: &mpsc::Sender<String>,
) -> Result<Option<CommitId>, GitError> {
    let origin = &order.origin;
    let (Some(reference), Some(head), false) = (&origin.merge, &origin.head, order.pinned) else { return Ok(None) };
    // A slow reader makes it wait; one that is gone does not.
    let say = async |line: String| progress.send(line).await.ok();
    let mut waits = MERGED_SOON.into_iter();
    loop {
        let found = checkouts.merge_of(&order.repo, reference, head, end, progress.clone()).await?;
        let wait = waits.next();
        match (found, wait) {
            (Merge::Of(merge), _) => {
                say(format!("{} merges {} of the pull request", merge.short(), head.short())).await;
                return Ok(Some(merge));
            }
            (Merge::None, _) => {
                say(format!("{reference} is not offered, so {} itself is built", head.short())).await;
                return Ok(None);
            }
            (Merge::Other, None) => {
                say(format!("{reference} is of another commit, so {} itself is built", head.short())).await;
                return Ok(None);
            }
            (Merge::Other, Some(wait)) => {
                end.run_until_cancelled(tokio::time::sleep(wait)).await;
            }
        }
    }
}

/// The job's end when its code took too long.
pub(super) fn too_long(order: &WorkOrder, limit: Duration) -> Ending {
    let message = format!(
        "cloning {} took longer than {} s, so it was ended; if it is that large, give it more time by --clone-timeout",
        order.repo,
        limit.as_secs()
    );
    Ending::errored(Cause::Clone, message).or_again(true)
}

async fn copied(
    what: &str,
    tree: &Path,
    copy: Result<TreeCopy, GitError>,
    stop: &Stop,
    log: &JobLog<'_>,
) -> Result<Sourced, Ending> {
    let copy = match copy {
        Ok(copy) => copy,
        Err(_) if stop.is_cancelled() => return Err(Ending::cancelled("cancelled during the copy")),
        Err(error) => return Err(clone_failed(&error)),
    };
    let files = if copy.files == 1 { "1 file".to_owned() } else { format!("{} files", copy.files) };
    log.say(&format!("{what} {} ({files}), {}", tree.display(), state_of(&copy))).await;
    for note in &copy.notes {
        log.say(note).await;
    }
    Ok(sourced(copy))
}

/// A person's tree, worked on as it stands.
async fn look_at(tree: &Path, stop: &Stop, log: &JobLog<'_>) -> Result<Sourced, Ending> {
    let found = match git::describe_tree(tree, stop.token()).await {
        Ok(found) => found,
        Err(_) if stop.is_cancelled() => return Err(Ending::cancelled("cancelled while looking at the tree")),
        Err(error) => return Err(clone_failed(&error)),
    };
    let said = "what stages write stays in it, and a stage that is tried again finds what the try before left";
    log.say(&format!("in {} itself, {}: {said}", tree.display(), state_of(&found))).await;
    Ok(sourced(found))
}

fn state_of(tree: &TreeCopy) -> String {
    let state = if tree.dirty { ", with changes that are not committed" } else { "" };
    match &tree.commit {
        Some(commit) => format!("at {}{state}", commit.short()),
        None => "which has no commit".to_owned(),
    }
}

/// What a look at a person's tree tells.
pub(super) fn sourced(tree: TreeCopy) -> Sourced {
    Sourced {
        commit: tree.commit,
        branch: tree.branch,
        subject: tree.subject,
        author: tree.author,
        committed_s: tree.committed_s,
        default_branch: tree.default_branch,
        changed: None,
        is_whole_commit: false,
    }
}

/// The job's end when its code could not be had.
pub(super) fn clone_failed(error: &GitError) -> Ending {
    Ending::errored(Cause::Clone, error.to_string()).or_again(error.passes())
}
