//! Begins builds when their time has come. That a schedule came due stands in the transaction that begins its build, so
//! each time begins one build whatever happens to this coordinator; of several times that were missed, one build is made
//! up for.

use std::sync::Arc;
use std::time::Duration;

use buildr::process::clock::now_ms;
use protocol::BuildNumber;
use protocol::api::{Approval, ScheduleAct, ScheduleDone, ScheduleOrder};
use protocol::job::{Origin, TriggerKind};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::feed::Change;
use crate::intake::{self, IntakeError, Trigger};
use crate::store::{Scheduled, StoreError, Transaction};

/// How long it sleeps at most: for schedules that are new, and clocks that were set.
const LONGEST: Duration = Duration::from_secs(5);

/// How much later than it should a schedule may come due next: a clock that was set by less is no matter.
const AHEAD_MS: u64 = 3600 * 1000;

/// Begins them until `shutdown`.
pub(crate) async fn run(desk: Arc<Desk>, shutdown: CancellationToken) {
    let mut before_ms = u64::MAX;
    loop {
        let set_back = now_ms().saturating_add(AHEAD_MS) < before_ms;
        if set_back && let Err(error) = set_right(&desk, now_ms()).await {
            tracing::warn!("schedules may wait for a time that a wrong clock gave them: {error}");
        } else {
            before_ms = now_ms();
        }
        let wait = match look(&desk, now_ms()).await {
            Ok(next) => next.map_or(LONGEST, |next| Duration::from_millis(next.saturating_sub(now_ms())).min(LONGEST)),
            Err(error) => {
                tracing::warn!("builds whose time has come wait: {error}");
                LONGEST
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(wait) => {}
        }
    }
}

/// Gives those their next time that have one of a clock that was ahead, by years perhaps: as if they came due today.
///
/// # Errors
/// When the store fails.
pub(crate) async fn set_right(desk: &Desk, now_ms: u64) -> Result<(), StoreError> {
    let mut tx = desk.store.write().await?;
    for schedule in tx.schedules_beyond(now_ms.saturating_add(AHEAD_MS)).await? {
        // What came due a moment ago, by a clock that was set back by less than that, has had its build.
        let near = schedule.last_due_ms.filter(|due| *due <= now_ms.saturating_add(AHEAD_MS));
        let from_ms = near.map_or(now_ms, |due| due.max(now_ms));
        let Some(next) = schedule.said.times().ok().and_then(|times| times.after(from_ms)) else { continue };
        if schedule.next_ms.is_some_and(|known| known > next.saturating_add(AHEAD_MS)) {
            tracing::warn!(schedule = %schedule.said.name, "the clock was ahead; its next time is the usual one again");
            tx.pause_schedule(&schedule, schedule.paused_by.as_deref(), Some(next)).await?;
        }
    }
    tx.commit().await
}

/// Begins all whose time has come by now, and says when the next one comes.
///
/// # Errors
/// When the store fails; what was begun before that is.
pub(crate) async fn look(desk: &Desk, now_ms: u64) -> Result<Option<u64>, StoreError> {
    while desk.store.next_due().await?.is_some_and(|next| next <= now_ms) {
        let mut tx = desk.store.write().await?;
        let Some(schedule) = tx.due(now_ms).await? else { break };
        let begun = begin(&mut tx, desk, &schedule, Asked::ByTheClock, now_ms).await?;
        // One build for all times that have passed.
        let next = schedule.said.times().ok().and_then(|times| times.after(now_ms));
        let due = (schedule.next_ms.unwrap_or(now_ms), begun.as_ref().ok().copied());
        tx.was_due(&schedule, due, next).await?;
        tx.commit().await?;
        match begun {
            Ok(build) => desk.feed.say(Change::Build(build)),
            Err(refusal) => tracing::warn!(schedule = %schedule.said.name, "its build was not begun: {refusal}"),
        }
    }
    desk.store.next_due().await
}

/// Who wants a schedule's build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    ByTheClock,
    /// Who may do so need not be asked whether it may begin.
    ByAPerson,
}

/// Begins a schedule's build, or says why none. What a project says of all of its builds goes for this one too.
async fn begin(
    tx: &mut Transaction,
    desk: &Desk,
    schedule: &Scheduled,
    asked: Asked,
    now_ms: u64,
) -> Result<Result<BuildNumber, IntakeError>, StoreError> {
    let Scheduled { repo, said, default_branch, .. } = schedule;
    let project = tx.project(&repo.identity()).await?;
    let waits = asked == Asked::ByTheClock && project.as_ref().is_some_and(|it| it.approval == Approval::All);
    let trigger = Trigger {
        trusted: project.map(|project| project.trusted),
        approval: waits.then(|| format!("the schedule {}", said.name)),
        branch: Some(said.branch.clone().unwrap_or_else(|| default_branch.clone())),
        origin: Origin { schedule: Some(said.name.clone()), ..Origin::default() },
        inputs: said.inputs.clone(),
        ..Trigger::new(repo.clone(), TriggerKind::Schedule)
    };
    match intake::begin(tx, &desk.config, &trigger, now_ms).await {
        Ok((build, _)) => Ok(Ok(build)),
        Err(IntakeError::Store(error)) => Err(error),
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// Why nothing is done with a schedule.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScheduleRefusal {
    /// There is none of that name.
    #[error("there is no such schedule {0:?}; `buildr schedules` lists them")]
    Unknown(String),
    /// There are several.
    #[error("several schedules are called {0:?}: {1}; name the repository too")]
    Several(String, String),
    /// Its build cannot begin.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Does something with a schedule: `by`, as that one says.
///
/// # Errors
/// When it is not known which is meant, its build cannot begin, or the store fails.
pub(crate) async fn order(
    desk: &Desk,
    order: &ScheduleOrder,
    by: Option<&str>,
    now_ms: u64,
) -> Result<ScheduleDone, ScheduleRefusal> {
    let mut tx = desk.store.write().await?;
    let schedule = find(&mut tx, order).await?;
    let what = format!("{} of {}", schedule.said.name, schedule.repo);
    let (message, build) = match order.order {
        ScheduleAct::Pause => {
            tx.pause_schedule(&schedule, Some(by.unwrap_or("somebody")), schedule.next_ms).await?;
            (format!("{what} is paused"), None)
        }
        ScheduleAct::Resume => {
            // What was missed meanwhile was meant to be.
            let next = schedule.said.times().ok().and_then(|times| times.after(now_ms));
            tx.pause_schedule(&schedule, None, next).await?;
            (format!("{what} goes on"), None)
        }
        ScheduleAct::Run => {
            let build = begin(&mut tx, desk, &schedule, Asked::ByAPerson, now_ms).await??;
            if let Some(by) = by {
                tx.asked_by(build, by).await?;
            }
            (format!("{what} is build {build}"), Some(build))
        }
    };
    tx.commit().await?;
    desk.feed.say(Change::Projects);
    if let Some(build) = build {
        desk.feed.say(Change::Build(build));
    }
    Ok(ScheduleDone { message, build })
}

async fn find(tx: &mut Transaction, order: &ScheduleOrder) -> Result<Scheduled, ScheduleRefusal> {
    let mut found = tx.schedules_named(&order.name).await?;
    found.retain(|schedule| {
        let repo = order.repo.as_ref().is_none_or(|repo| *repo == schedule.repo.to_string());
        repo && order.pipeline.as_ref().is_none_or(|pipeline| schedule.said.pipeline.as_ref() == Some(pipeline))
    });
    match found.len() {
        0 => Err(ScheduleRefusal::Unknown(order.name.clone())),
        1 => Ok(found.swap_remove(0)),
        _ => {
            let of = |schedule: &Scheduled| {
                let pipeline = schedule.said.pipeline.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
                format!("{}{pipeline}", schedule.repo)
            };
            let all: Vec<String> = found.iter().map(of).collect();
            Err(ScheduleRefusal::Several(order.name.clone(), all.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests;
