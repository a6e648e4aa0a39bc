//! Doing a build again: a new build of the same commit, with the plan and the images that the older one had. What passed
//! may be taken over; what a person asks for so is done again also where the farm by itself would not do it twice.

use std::collections::{BTreeSet, HashMap};

use buildr::process::clock::now_ms;
use protocol::api::{Repro, Restart, Restarted};
use protocol::course::{self, Member};
use protocol::plan::{Image, Plan, RunOn};
use protocol::{BuildNumber, JobKey, LabelSet, PlannedJob};

use crate::desk::Desk;
use crate::feed::Change;
use crate::intake::{self, IntakeError, planning_key};
use crate::store::{Build, Past, StoreError, Transaction};
use crate::tracker::Answers;

/// Why a build is not done again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestartRefusal {
    /// There is no such build.
    #[error("there is no build {0}; `buildr builds` lists them")]
    NoBuild(BuildNumber),
    /// It is not over.
    #[error("build {0} is not over; wait for its end, or end it with `buildr cancel {number}`", number = .0.0)]
    NotOver(BuildNumber),
    /// All of it passed.
    #[error("build {0} passed, so nothing of it failed; leave out --failed to do all of it again")]
    NothingFailed(BuildNumber),
    /// Its repository is not built here any more.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Begins a build that does an older one again: `by`, as that one says, who may begin trusted builds when `trusted`.
///
/// # Errors
/// When there is no such build, it is not over, nothing of it failed, or the store fails.
pub(crate) async fn restart(
    desk: &Desk,
    of: BuildNumber,
    ask: Restart,
    (by, trusted): (Option<&str>, bool),
) -> Result<Restarted, RestartRefusal> {
    let now = now_ms();
    let mut tx = desk.store.write().await?;
    let old = tx.build(of).await?.ok_or(RestartRefusal::NoBuild(of))?;
    if old.ending.is_none() {
        return Err(RestartRefusal::NotOver(of));
    }
    let past = tx.past(of).await?;
    let carried = if ask.failed { to_carry(&past) } else { vec![false; past.len()] };
    let nothing = !past.is_empty() && carried.iter().all(|carried| *carried);
    if ask.failed && (nothing || old.status == protocol::api::Status::Passed) {
        return Err(RestartRefusal::NothingFailed(of));
    }
    let trusted = trusted && intake::may_be_trusted(&desk.config, &old.repo, old.trigger)?;
    let build = tx.insert_restart(of, trusted, by, now).await?.ok_or(RestartRefusal::NoBuild(of))?;
    if past.is_empty() {
        // It never came to a plan, or nothing of it was to run then.
        let labels = tx.jobs(of).await?.into_iter().next().map_or_else(LabelSet::default, |job| job.labels);
        let job = tx.insert_job(build, &planning_key(), &labels, now).await?;
        tx.wait_likewise(of, job).await?;
    } else {
        let images = if ask.latest { HashMap::new() } else { tx.images_of(of).await? };
        insert_jobs(&mut tx, (&old, build), &past, &carried, &images).await?;
    }
    tx.advance(build, now).await?;
    let mut answers = Answers::saying(Change::Build(build));
    answers.follow(tx.take_effects());
    tx.commit().await?;
    // The older one is shown with those that do it again.
    answers.say(Change::Build(of));
    answers.give(desk).await;
    Ok(told(of, build, &past, &carried))
}

async fn insert_jobs(
    tx: &mut Transaction,
    (old, build): (&Build, BuildNumber),
    past: &[Past],
    carried: &[bool],
    images: &HashMap<String, String>,
) -> Result<(), StoreError> {
    let now = now_ms();
    let jobs: Vec<PlannedJob> = past.iter().map(|job| job.planned.clone()).collect();
    let plan = tx.build_plan(old.number).await?;
    tx.plan_build(build, &plan, &jobs).await?;
    for ((past, mut job), carried) in past.iter().zip(jobs).zip(carried) {
        if *carried {
            tx.insert_carried(build, past, now).await?;
        } else {
            pin(&mut job.plan, images);
            tx.insert_planned(build, &job, now).await?;
        }
    }
    Ok(())
}

/// Which jobs are taken over: those that passed, but not what runs because of how others ended, nor what left something
/// that is gone and that a job needs which is done again.
fn to_carry(past: &[Past]) -> Vec<bool> {
    let members: Vec<Member> = past.iter().map(|job| Member::planned(&job.planned)).collect();
    let by_itself = |job: &Past| job.passed && !job.planned.finally && job.planned.run_on == RunOn::Passed;
    let mut carried: Vec<bool> = past.iter().map(by_itself).collect();
    loop {
        let again = (0..past.len()).filter(|place| !carried[*place]);
        let needed: BTreeSet<usize> = again.flat_map(|place| course::before(&members, place)).collect();
        let Some(faded) = needed.into_iter().find(|place| carried[*place] && past[*place].faded) else {
            return carried;
        };
        carried[faded] = false;
    }
}

/// A build as it was planned, with its images as they were: for whoever does it elsewhere. None: there is no such build.
///
/// # Errors
/// When the store fails.
pub(crate) async fn repro(desk: &Desk, of: BuildNumber) -> Result<Option<Repro>, StoreError> {
    // Read in a transaction, so that all of it is of the same moment; nothing is written.
    let mut tx = desk.store.write().await?;
    let Some(build) = tx.build(of).await? else { return Ok(None) };
    let images = tx.images_of(of).await?;
    let mut jobs: Vec<PlannedJob> = tx.past(of).await?.into_iter().map(|job| job.planned).collect();
    jobs.iter_mut().for_each(|job| pin(&mut job.plan, &images));
    Ok(Some(Repro {
        build: of,
        repo: build.repo.to_string(),
        branch: build.branch,
        commit: build.commit,
        default_branch: build.default_branch,
        event: build.trigger,
        origin: build.origin,
        inputs: build.inputs,
        trusted: build.trusted,
        jobs,
        plan: tx.build_plan(of).await?,
    }))
}

/// Has images be what their names meant.
fn pin(plan: &mut Plan, images: &HashMap<String, String>) {
    let of_stages = plan.stages.iter_mut().flat_map(|stage| {
        let own = stage.image.iter_mut();
        own.chain(stage.services.iter_mut().map(|service| &mut service.image))
    });
    let services = plan.services.iter_mut().map(|service| &mut service.image);
    for image in std::iter::once(&mut plan.image).chain(services).chain(of_stages) {
        pin_image(image, images);
    }
}

fn pin_image(image: &mut Image, images: &HashMap<String, String>) {
    if let Some(digest) = images.get(&image.name)
        && digest.starts_with("sha256:")
        && !image.name.contains('@')
    {
        image.name = format!("{}@{digest}", image.name);
    }
}

fn told(of: BuildNumber, build: BuildNumber, past: &[Past], carried: &[bool]) -> Restarted {
    let keys = |is: &dyn Fn(&Past, bool) -> bool| -> Vec<JobKey> {
        let found = past.iter().zip(carried).filter(|(job, carried)| is(job, **carried));
        found.map(|(job, _)| job.planned.key.clone()).collect()
    };
    let twice = keys(&|job, carried| !carried && job.once);
    let carried = keys(&|_, carried| carried);
    let mut message = format!("build {build} is a restart of build {of}");
    if !carried.is_empty() {
        message += &format!("; not done again, for it passed: {}", listed(&carried));
    }
    if !twice.is_empty() {
        message += &format!("; done again, which the farm by itself would not do twice: {}", listed(&twice));
    }
    Restarted { build, restart_of: of, carried, twice, message }
}

fn listed(keys: &[JobKey]) -> String {
    keys.iter().map(JobKey::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
