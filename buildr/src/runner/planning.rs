//! From the code to the plan: what the build changes, what its manifests say, and what comes of both.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use protocol::job::WorkOrder;
use protocol::{Cause, Ending};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Rooms;
use super::places::blocking;
use super::source::{self, Source, Sourced};
use super::telling::{JobLog, sentence};
use crate::executor::Stop;
use crate::git::{self, Base, Checkouts, TreeCopy};
use crate::manifest::{self, Fetched, Includes, NoIncludes, ProjectReading, RemoteFile};
use crate::plan::{self, Facts, Planned};

/// The longest file of another repository that a manifest may include, in bytes.
const MAX_INCLUDED: u64 = 1 << 20;

/// How long it may take to read the manifests and to plan, beside what is included. What makes plans has a limit of its own.
const PLANNING: Duration = Duration::from_secs(120);

/// How long it is waited for after a cancel.
const GRACE: Duration = Duration::from_secs(5);

/// Finds out which files the build changes.
pub(super) async fn look_at_changes(
    order: &WorkOrder,
    sourced: &mut Sourced,
    checkout: &Path,
    stop: &Stop,
    log: &JobLog<'_>,
) {
    let origin = &order.origin;
    let base =
        Base { target: origin.target.clone(), last_green: origin.last_green.clone(), before: origin.before.clone() };
    // A copy of a person's tree has what is not committed, and that counts.
    let commit = sourced.commit.as_ref().filter(|_| sourced.is_whole_commit);
    match git::changed_files(checkout, &base, commit, stop.token()).await {
        // Where the history says nothing, the forge's own list of what the push changed may. After a green build it does
        // not: nothing has changed since, and somebody wants to see it built.
        Ok(None) if origin.last_green.is_none() && !origin.changed.is_empty() => {
            sourced.changed = Some(origin.changed.clone());
        }
        Ok(changed) => sourced.changed = changed,
        Err(_) if stop.is_cancelled() => {}
        Err(error) => {
            log.say(&format!("which files changed is not known, so every condition on paths holds: {error}")).await;
        }
    }
}

/// Reads the manifests and plans the build.
pub(super) async fn plan(
    order: &WorkOrder,
    rooms: &Rooms<'_>,
    sourced: &Sourced,
    checkout: &Path,
    stop: &Stop,
    log: &JobLog<'_>,
) -> Result<Planned, Ending> {
    let (reading, planned) = read(order, rooms, sourced, checkout, stop).await?;
    for warning in reading.warnings.iter().chain(&planned.warnings) {
        log.say(&format!("warning: {warning}")).await;
    }
    for included in reading.project.pipelines.iter().flat_map(|pipeline| &pipeline.included) {
        let RemoteFile { file, .. } = &included.file;
        let repo = included.file.repo_shown();
        log.say(&format!("include {file} of {repo}, at {}", included.commit.short())).await;
    }
    Ok(planned)
}

/// The same of a person's own tree before its code is brought, and nothing is said of it: what will probably be planned.
pub(super) async fn foretell(order: &WorkOrder, rooms: &Rooms<'_>, tree: &Path, stop: &Stop) -> Option<Planned> {
    let seen = TreeCopy {
        commit: order.commit.clone(),
        branch: order.branch.clone(),
        default_branch: order.default_branch.clone(),
        ..TreeCopy::default()
    };
    let sourced = source::sourced(seen);
    Some(read(order, rooms, &sourced, tree, stop).await.ok()?.1)
}

async fn read(
    order: &WorkOrder,
    rooms: &Rooms<'_>,
    sourced: &Sourced,
    checkout: &Path,
    stop: &Stop,
) -> Result<(ProjectReading, Planned), Ending> {
    let includes = match rooms.source {
        // Whoever may not write to the repository reads nothing by this machine's keys.
        Source::Clone(checkouts) => Some(if order.trusted { checkouts.clone() } else { checkouts.anonymous() }),
        Source::Tree(_) | Source::Committed(_) | Source::InPlace(_) => rooms.includes.cloned(),
    };
    let fetched =
        includes.map(|checkouts| Repositories::new(checkouts, stop.token().child_token()).within(rooms.times.clone));
    let (folder, facts, unwanted) = (checkout.to_owned(), facts(order, sourced), stop.token().clone());
    let planning = blocking(move || {
        let includes: &dyn Includes = match &fetched {
            Some(fetched) => fetched,
            None => &NoIncludes,
        };
        let read = manifest::load_project(&folder, includes).map_err(|error| sentence(&error));
        Ok::<_, io::Error>(read.and_then(|reading| {
            let planned = plan::compile_wanted(&reading.project, &facts, &|| unwanted.is_cancelled());
            planned.map(|planned| (reading, planned)).map_err(|error| sentence(&error))
        }))
    });
    let bad = |why: String| Ending::errored(Cause::Manifest, why);
    let limit = rooms.times.clone + PLANNING;
    tokio::select! {
        biased;
        planned = planning => match planned.map_err(|error| bad(sentence(&error)))? {
            Ok(planned) => Ok(planned),
            Err(_) if stop.is_cancelled() => Err(cancelled()),
            Err(why) => Err(bad(why)),
        },
        // It ends soon after by itself, before anything else touches what it works on. Where it does not, it is a manifest
        // that takes long to read, and nobody waits for that.
        () = left(stop) => Err(cancelled()),
        () = tokio::time::sleep(limit) => {
            Err(bad(format!("to read the manifests and to plan took longer than {} s; write less in them", limit.as_secs())))
        }
    }
}

fn cancelled() -> Ending {
    Ending::cancelled("cancelled while it was planned")
}

/// Some time after a cancel.
async fn left(stop: &Stop) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

fn facts(order: &WorkOrder, sourced: &Sourced) -> Facts {
    let origin = &order.origin;
    Facts {
        branch: sourced.branch.clone().or_else(|| origin.source.clone()),
        tag: origin.tag.clone(),
        commit: sourced.commit.clone(),
        target: origin.target.clone(),
        pull_request: origin.pull_request,
        default_branch: sourced.default_branch.clone(),
        changed: sourced.changed.clone(),
        inputs: order.inputs.clone(),
        ..Facts::new(order.trigger)
    }
}

/// Files of other repositories, for manifests that include some.
pub struct Repositories {
    checkouts: Checkouts,
    stop: CancellationToken,
    /// Until when it may take, and how long that was.
    until: Option<(Instant, Duration)>,
    runtime: Handle,
}

impl Repositories {
    /// Those that `checkouts` reaches, until `stop`. Made within a runtime of several threads, or asked from a thread that
    /// may block.
    #[must_use]
    pub fn new(checkouts: Checkouts, stop: CancellationToken) -> Self {
        Self { checkouts, stop, until: None, runtime: Handle::current() }
    }

    /// The same, where all that is asked of them may take this long from now on.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { until: Some((Instant::now() + limit, limit)), ..self }
    }
}

impl Includes for Repositories {
    fn fetch(&self, file: &RemoteFile) -> Result<Fetched, String> {
        let repo = file.repo.parse().map_err(|error| format!("{error}"))?;
        let stop = self.stop.child_token();
        let reading = self.checkouts.read_file_at(&repo, file.reference.as_deref(), &file.file, MAX_INCLUDED, &stop);
        let reading = async {
            let Some((until, limit)) = self.until else { return reading.await.map_err(|error| sentence(&error)) };
            let mut reading = pin!(reading);
            tokio::select! {
                read = &mut reading => read.map_err(|error| sentence(&error)),
                () = tokio::time::sleep_until(until.into()) => {
                    // It is over before anything else touches what it works on.
                    stop.cancel();
                    reading.await.ok();
                    Err(format!("what is included took longer than {} s to be brought", limit.as_secs()))
                }
            }
        };
        let read = tokio::task::block_in_place(|| self.runtime.block_on(reading))?;
        Ok(Fetched { bytes: read.bytes, commit: read.commit })
    }
}
