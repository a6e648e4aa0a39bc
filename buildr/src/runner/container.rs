//! One try of a stage: what it works on, its container, and how that ended.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use protocol::report::{JobEvent, Part};
use protocol::{Cause, StageEnd, StageOutcome, StagePlan};
use tokio::sync::mpsc;

use super::TimeLimits;
use super::environment::Own;
use super::places::{HANDED, Places, SUMMARY, in_thread};
use super::secrets::Given;
use super::stage::{Logs, StageRun};
use super::telling::{Pen, sentence};
use crate::carry::cache::TakenCache;
use crate::carry::reports::CoverageInLog;
use crate::carry::{self, CarryError};
use crate::executor::{ExecutorError, MountOrder, OUTPUT_BOUND, StageOrder};
use crate::ledger::Begins;

/// Whether a script may be run again when nobody knows how far it came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Harmless,
    Forbidden,
}

impl Again {
    pub(super) fn of(stage: &StagePlan) -> Self {
        if stage.not_twice { Self::Forbidden } else { Self::Harmless }
    }

    /// What it is when a script was cut off by a fault of the farm, and nobody knows how far it came.
    pub(super) fn after(self, cause: Cause, sentence: String) -> (Cause, String) {
        match self {
            Self::Harmless => (cause, sentence),
            Self::Forbidden => (
                Cause::OutcomeUnknown,
                format!(
                    "{sentence}; whether the stage did its work is not known, and it must not run twice (`retry: never`): find out, and submit the build again if it should run once more"
                ),
            ),
        }
    }
}

/// Whether a script may have begun before this stopped it.
fn may_have_begun(error: &ExecutorError) -> bool {
    match error {
        ExecutorError::Pull { .. }
        | ExecutorError::NoShell { .. }
        | ExecutorError::NotReady { .. }
        | ExecutorError::Refused(_) => false,
        ExecutorError::Unreachable { .. }
        | ExecutorError::TooLarge(_)
        | ExecutorError::Daemon { .. }
        | ExecutorError::Disk { .. } => true,
    }
}

/// A limit of the manifest's, within the machine's own.
pub(super) fn within(asked_ms: Option<u64>, most: Duration) -> Duration {
    asked_ms.map_or(most, |asked| Duration::from_millis(asked).min(most))
}

/// The folders of one try.
pub(super) struct Attempt {
    /// What it works on: the workspace, or a copy.
    folder: PathBuf,
    hand: MountOrder,
    pub(super) caches: Vec<TakenCache>,
    /// What nobody needs when it is over.
    others: Vec<PathBuf>,
}

impl Attempt {
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn handed(&self) -> PathBuf {
        self.hand.source.join(HANDED)
    }

    pub(super) fn summary(&self) -> PathBuf {
        self.hand.source.join(SUMMARY)
    }

    /// Another folder that goes when it is over.
    pub(super) fn also(&mut self, folder: PathBuf) {
        self.others.push(folder);
    }

    /// Removes all of it but this folder.
    pub(super) async fn discard(self, places: &Places<'_>, keep: &Path) {
        for folder in [&self.hand.source, &self.folder].into_iter().chain(&self.others) {
            if folder != keep {
                places.discard(folder).await;
            }
        }
    }
}

impl<'a> StageRun<'a> {
    /// Makes a place to work on, runs the container there, and gives both that and the end.
    pub(super) async fn attempt(
        &self,
        may_follow: bool,
        given: &Given,
        logs: &mut Logs<'a>,
    ) -> (Option<Attempt>, StageOutcome) {
        let log = &mut logs.own;
        let opening = self.job.ledger.open(Part::Start, Some(&self.stage.name));
        let mut attempt = match self.ground(may_follow, log).await {
            Ok(attempt) => attempt,
            Err(_) if self.stop.is_cancelled() => return (None, StageOutcome::Cancelled),
            Err(error) => {
                let message = format!("failed to make a workspace for the stage: {}", sentence(&error));
                return (None, StageOutcome::Errored { cause: Cause::Daemon, message, again: true });
            }
        };
        self.take_caches(&mut attempt, log).await;
        let order = match self.order(&mut attempt, given) {
            Ok(order) => order,
            Err(error) => {
                let message = format!("failed to write down what the stage is given: {error}");
                return (Some(attempt), StageOutcome::Errored { cause: Cause::Daemon, message, again: true });
            }
        };
        drop(opening);
        let ended = self.with_services(order, logs).await;
        (Some(attempt), self.outcome(ended))
    }

    /// What it works on: the workspace itself; or a copy, when others run beside it or another try may follow.
    async fn ground(&self, may_follow: bool, log: &mut Pen<'a>) -> Result<Attempt, CarryError> {
        let job = self.job;
        let doing = |source: io::Error| CarryError::Disk { doing: "copy the workspace".to_owned(), source };
        let folder = if self.copy_with.is_some() || may_follow && !job.in_place {
            let (folder, said) = job.places.copy(&self.workspace, &self.stop).await.map_err(doing)?;
            if let Some(said) = said {
                log.say(&said).await;
            }
            for archive in self.copy_with.iter().flatten() {
                let (archive, folder) = (archive.clone(), folder.clone());
                restore(archive, folder).await?;
            }
            folder
        } else {
            self.workspace.clone()
        };
        let hand = job.places.hand(job.sourced.changed.as_deref()).map_err(doing)?;
        Ok(Attempt { folder, hand, caches: Vec::new(), others: Vec::new() })
    }

    fn order(&self, attempt: &mut Attempt, given: &Given) -> io::Result<StageOrder> {
        let secrets = self.job.places.fresh("secrets");
        let mut mounts = vec![attempt.hand.clone()];
        mounts.extend(given.write(&secrets)?);
        attempt.others.push(secrets);
        mounts.extend(attempt.caches.iter().flat_map(|cache| cache.mounts.iter().cloned()));
        Ok(self.order_over(&attempt.folder, mounts, given))
    }

    /// What its container is made of and told, over this folder.
    pub(super) fn order_over(&self, folder: &Path, mounts: Vec<MountOrder>, given: &Given) -> StageOrder {
        let Self { job, stage, .. } = self;
        let TimeLimits { stage: most, idle, .. } = job.rooms.times;
        let own = Own { handed: &self.handed, secrets: &given.variables, so_far: job.order.so_far.as_ref() };
        let own_idle = stage.idle_timeout_ms.map(Duration::from_millis);
        StageOrder {
            image: stage.image.clone(),
            environment: job.environment.for_stage(stage, &own),
            docker: stage.docker,
            idle: own_idle.into_iter().chain(idle).min(),
            on_failure: stage.on_failure.clone(),
            after: stage.after.clone(),
            shell: stage.shell.clone(),
            dir: stage.dir.clone(),
            folder: (folder != job.checkout).then(|| folder.to_owned()),
            mounts,
            network: job.services.clone(),
            resources: stage.resources,
            privileged: stage.privileged,
            ledger: job.ledger.clone(),
            ..StageOrder::new(stage.name.clone(), stage.script.clone(), within(stage.timeout_ms, most))
        }
    }

    /// The container's end, with its services around it.
    async fn with_services(&self, mut order: StageOrder, logs: &mut Logs<'a>) -> Result<StageEnd, ExecutorError> {
        let job = self.job;
        let Logs { own, services, coverage } = logs;
        if self.stage.services.is_empty() {
            return self.contained(&order, own, coverage.as_mut()).await;
        }
        let (orders, pumping) = services.begin(job.stop);
        let work = async {
            let opening = job.ledger.open(Part::Services, Some(&self.stage.name));
            let served = job.sandbox.serve(orders, job.services.as_ref(), &self.stop).await?;
            drop(opening);
            order.network = Some(served.clone());
            let ended = self.contained(&order, own, coverage.as_mut()).await;
            job.sandbox.dismiss(served).await;
            ended
        };
        tokio::join!(work, pumping).0
    }

    /// The container's end. Its whole output has been read then.
    async fn contained(
        &self,
        order: &StageOrder,
        log: &mut Pen<'a>,
        coverage: Option<&mut CoverageInLog>,
    ) -> Result<StageEnd, ExecutorError> {
        let (output, printed) = mpsc::channel(OUTPUT_BOUND);
        let (since, begins) = (Instant::now(), Begins::of(self.job.ledger, &self.stage.name, &self.begun));
        let work = async move { self.job.sandbox.run(order, &output, &self.stop).await };
        let ended = tokio::join!(work, log.pump(printed, coverage, Some(&begins), self.job.stop)).0;
        let (began, stage) = (begins.at(), Some(&self.stage.name));
        self.job.ledger.add(Part::Start, stage, begins.with_image(since), began);
        self.job.ledger.add(Part::Script, stage, began, Instant::now());
        ended
    }

    fn outcome(&self, ended: Result<StageEnd, ExecutorError>) -> StageOutcome {
        match ended {
            Ok(end) if end.passed() => StageOutcome::Passed,
            Ok(StageEnd::Cancelled) => StageOutcome::Cancelled,
            Ok(end) => StageOutcome::Failed { end },
            Err(_) if self.stop.is_cancelled() => StageOutcome::Cancelled,
            Err(error) => {
                let again = if may_have_begun(&error) { Again::of(self.stage) } else { Again::Harmless };
                let (cause, message) = again.after(error.cause(), sentence(&error));
                StageOutcome::Errored { cause, message: self.job.redactor.text(&message), again: error.passes() }
            }
        }
    }

    /// Tells what the names of its images meant.
    pub(super) async fn tell_images(&self) -> Result<(), protocol::Ending> {
        let Self { job, stage, .. } = self;
        let mut images = vec![stage.image.as_ref().unwrap_or(&job.plan.image)];
        for service in &stage.services {
            if images.iter().all(|image| image.name != service.image.name) {
                images.push(&service.image);
            }
        }
        for image in images {
            if let Some(digest) = job.sandbox.digest(image).await {
                let (stage, image) = (stage.name.clone(), image.name.clone());
                job.tell(JobEvent::ImageFound { stage, image, digest }).await?;
            }
        }
        Ok(())
    }
}

/// Puts artifacts into a folder.
pub(super) async fn restore(archive: PathBuf, folder: PathBuf) -> Result<u64, CarryError> {
    in_thread(move || carry::restore(&archive, &folder)).await
}
