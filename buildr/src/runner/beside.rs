//! The code as a plan wants it: with the options of its `clone`, and with other repositories beside it.

use std::future::Future;

use protocol::job::WorkOrder;
use protocol::{Branch, Cause, Ending, Plan};
use tokio::sync::mpsc;

use super::Rooms;
use super::source::{self, CLONE_AGAIN_AFTER, PROGRESS_BOUND, Source, Sourced};
use super::telling::JobLog;
use super::workspace::Workspace;
use crate::executor::Stop;
use crate::git::GitError;

/// Makes a checkout what the plan asks for.
///
/// # Errors
/// The job's end.
pub(super) async fn suit(
    order: &WorkOrder,
    rooms: &Rooms<'_>,
    plan: &Plan,
    sourced: &Sourced,
    workspace: &Workspace,
    stop: &Stop,
    log: &JobLog<'_>,
) -> Result<(), Ending> {
    let Source::Clone(checkouts) = rooms.source else {
        for repo in &plan.repos {
            log.say(&format!("{} is not fetched here: put its code at {} yourself", repo.name, repo.path)).await;
        }
        return Ok(());
    };
    let checkout = workspace.checkout();
    if plan.clone.none {
        // The manifest lay in it, so it had to be fetched all the same.
        workspace.empty().await.map_err(|error| {
            let message = format!("the workspace could not be emptied, as `clone: false` asks: {error}");
            Ending::errored(Cause::Daemon, message)
        })?;
    }
    let end = &stop.token().child_token();
    // The code of those who may not write to the repository reads nothing by this machine's keys.
    let checkouts = &if order.trusted { checkouts.clone() } else { checkouts.anonymous() };
    let parsed = |branch: &String| branch.parse::<Branch>();
    let wanted = plan.repos.iter().map(|repo| repo.branch.as_ref().map(parsed).transpose());
    let wanted: Vec<Option<Branch>> =
        wanted.collect::<Result<_, _>>().map_err(|error| Ending::errored(Cause::Manifest, error.to_string()))?;
    let work = async {
        if !plan.clone.none {
            let mut waits = CLONE_AGAIN_AFTER.into_iter();
            let apply = |lines| checkouts.apply_options(&order.repo, &checkout, &plan.clone, end, lines);
            while let Err(error) = telling(log, apply).await {
                let wait = waits.next().filter(|_| error.retry_worthy()).ok_or(error)?;
                tokio::time::sleep(wait).await;
            }
        }
        for (repo, wanted) in plan.repos.iter().zip(&wanted) {
            let found = checkouts.resolve_branch(&repo.url, wanted.as_ref(), sourced.branch.as_ref(), end).await?;
            log.say(&format!("{} into {}: {} at {}", repo.url, repo.path, found.branch, found.commit.short())).await;
            telling(log, |lines| checkouts.check_out_beside(&repo.url, &found, &checkout, &repo.path, end, lines))
                .await?;
        }
        Ok::<_, GitError>(())
    };
    let mut work = std::pin::pin!(work);
    let (done, in_time) = tokio::select! {
        done = &mut work => (done, true),
        () = tokio::time::sleep(rooms.times.clone) => {
            end.cancel();
            // It ends soon, and writes nothing any more when it has.
            (work.await, false)
        }
    };
    match done {
        Ok(()) => Ok(()),
        Err(_) if stop.is_cancelled() => Err(Ending::cancelled("cancelled during the clone")),
        Err(_) if !in_time => Err(source::too_long(order, rooms.times.clone)),
        Err(error) => Err(source::clone_failed(&error)),
    }
}

/// Writes down the progress of what git does.
async fn telling<T, F: Future<Output = Result<T, GitError>>>(
    log: &JobLog<'_>,
    work: impl FnOnce(mpsc::Sender<String>) -> F,
) -> Result<T, GitError> {
    let (progress, mut lines) = mpsc::channel::<String>(PROGRESS_BOUND);
    let say = async {
        while let Some(line) = lines.recv().await {
            log.say(&line).await;
        }
    };
    tokio::join!(work(progress), say).0
}
