//! The code of a job that is one of several in this process: all have the same, as it was when the build was planned.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use protocol::job::WorkOrder;

use super::Rooms;
use super::places::{blocking, copy_or_lay};
use super::source::{Source, Sourced};
use super::telling::JobLog;
use super::workspace::Workspace;

/// The workspace that a build was planned in. What jobs begin with is a copy of its code; a job that has none beside it
/// gets the workspace itself.
pub(super) struct Template {
    checkout: PathBuf,
    whole: Mutex<Option<Workspace>>,
    /// Whether the build has one job only.
    only_one: bool,
}

impl Template {
    /// That of a build of so many jobs.
    pub(super) fn new(workspace: Workspace, rooms: &Rooms<'_>, jobs: usize) -> Self {
        let checkout = rooms.source.checkout(&workspace).0;
        Self { checkout, whole: Mutex::new(Some(workspace)), only_one: jobs == 1 }
    }

    /// The workspace itself, for the only job.
    fn take(&self) -> Option<Workspace> {
        if self.only_one { self.rest() } else { None }
    }

    /// It, unless a job has taken it.
    pub(super) fn rest(&self) -> Option<Workspace> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What was there when the build was planned.
pub(super) struct Given<'a> {
    /// Where the manifest was read from.
    pub(super) template: &'a Template,
    /// What is known of it.
    pub(super) sourced: &'a Sourced,
    /// The job's own log, in which something may have been said already.
    pub(super) log: JobLog<'a>,
}

impl Given<'_> {
    /// Makes a folder for one job of it, with the code in it.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub(super) async fn open(
        &self,
        rooms: &Rooms<'_>,
        order: &WorkOrder,
    ) -> Result<(Workspace, Option<Sourced>), String> {
        let wants_code = !order.plan.as_ref().is_some_and(|plan| plan.clone.none);
        if wants_code && let Some(workspace) = self.template.take() {
            return Ok((workspace, Some(self.sourced.clone())));
        }
        let workspace = rooms.work.open().await.map_err(|error| error.to_string())?;
        if wants_code && !matches!(rooms.source, Source::InPlace(_)) {
            let (from, to) = (self.template.checkout.clone(), workspace.checkout());
            let copied = blocking(move || {
                fs::set_permissions(&to, fs::metadata(&from)?.permissions())?;
                copy_or_lay(&from, &to, &|| false)
            });
            if let Err(error) = copied.await {
                // The next sweep removes what cannot be removed now.
                workspace.discard(rooms.executor).await.ok();
                return Err(format!("failed to copy the code for the job: {error}"));
            }
        }
        Ok((workspace, Some(self.sourced.clone())))
    }
}
