//! The code of a job that is one of several in this process: all have the same, as it was when the build was planned.

use std::fs;
use std::path::Path;

use protocol::job::WorkOrder;

use super::Rooms;
use super::places::{blocking, copy_or_lay};
use super::source::{Source, Sourced};
use super::telling::JobLog;
use super::workspace::Workspace;

/// What was there when the build was planned.
pub(super) struct Given<'a> {
    /// The checkout that the manifest was read from.
    pub(super) checkout: &'a Path,
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
        let workspace = rooms.work.open().await.map_err(|error| error.to_string())?;
        let wants_code = !order.plan.as_ref().is_some_and(|plan| plan.clone.none);
        if wants_code && !matches!(rooms.source, Source::InPlace(_)) {
            let (from, to) = (self.checkout.to_owned(), workspace.checkout());
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
