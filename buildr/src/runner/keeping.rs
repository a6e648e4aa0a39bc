//! What is kept and told of a stage's files: what it hands on, its summary, artifacts, reports and caches.
//!
//! What goes wrong with it is said in the stage's log, and changes how the stage ended in one case alone: its artifacts
//! are there, and this machine's disk or the farm could not take them.

use std::io;

use protocol::plan::{Coverage, KeepWhen};
use protocol::report::{JobEvent, MAX_SUMMARY_BYTES};
use protocol::{Cause, Ending, StageOutcome, Variable};

use super::container::Attempt;
use super::handing::{self, Contents};
use super::patience::patiently;
use super::places::{blocking, in_thread};
use super::stage::{Done, Logs, StageRun};
use super::telling::{Pen, sentence};
use crate::carry::cache::CacheScope;
use crate::carry::reports::{self, CoverageInLog, Told};
use crate::carry::{self, CarryError, Collected};

impl<'a> StageRun<'a> {
    /// The values that a try hands on, or why they cannot be.
    pub(super) async fn handed(&self, attempt: &Attempt) -> Result<Vec<Variable>, String> {
        let file = attempt.handed();
        let read = blocking(move || Ok::<_, io::Error>(handing::read(&file))).await;
        match read {
            Ok(Ok(values)) => Ok(values),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Tells what it wrote for people, if anything.
    pub(super) async fn tell_summary(&self, attempt: &Attempt) -> Result<(), Ending> {
        const CUT: &str = "\n\n… (cut here: a summary is at most 64 KiB)";
        let file = attempt.summary();
        let redactor = self.job.redactor;
        let (text, longer) = match blocking(move || handing::contents(&file, MAX_SUMMARY_BYTES)).await {
            Ok(Contents::Whole(bytes)) => (redactor.text(&String::from_utf8_lossy(&bytes)), false),
            // The half of a secret at its end is none that could be found.
            Ok(Contents::Longer(bytes)) => {
                let decided = redactor.stream().push(bytes.into());
                (String::from_utf8_lossy(&decided).into_owned(), true)
            }
            Ok(Contents::None) | Err(_) => return Ok(()),
        };
        // What stands for a secret may be longer than it, and what stands for bad bytes than these.
        let longer = longer || text.len() > MAX_SUMMARY_BYTES;
        let text = if longer {
            let end = text.floor_char_boundary(MAX_SUMMARY_BYTES - CUT.len());
            format!("{}{CUT}", &text[..end])
        } else {
            text
        };
        self.job.tell(JobEvent::Summary { stage: self.stage.name.clone(), text }).await
    }

    /// Collects its artifacts and keeps them. What it has come to has the archive then, of a stage that worked on a copy,
    /// and another outcome where the farm could not take them.
    pub(super) async fn keep_artifacts(
        &self,
        attempt: &Attempt,
        done: &mut Done,
        log: &mut Pen<'a>,
    ) -> Result<(), Ending> {
        let Some(artifacts) = self.stage.artifacts.clone().filter(|it| is_kept(it.when, &done.outcome)) else {
            return Ok(());
        };
        let (job, paths, expire_ms) = (self.job, artifacts.paths.join(", "), artifacts.expire_ms);
        let (folder, into) = (attempt.folder().to_owned(), job.places.fresh("artifacts"));
        // Of what was cancelled before, artifacts are kept all the same where the manifest says so.
        let (stop, was_cancelled) = (self.stop.clone(), self.stop.is_cancelled());
        let stopped = move || !was_cancelled && stop.is_cancelled();
        let collected = match in_thread(move || carry::collect(&folder, &artifacts, &into, &stopped)).await {
            Ok(Some(collected)) => collected,
            Ok(None) => {
                log.say(&format!("no artifacts were kept: no file matches {paths}")).await;
                return Ok(());
            }
            Err(error) => {
                log.say(&format!("the artifacts could not be kept: {}", sentence(&error))).await;
                if error.is_full() {
                    self.lacks_artifacts(&mut done.outcome, &error);
                }
                return Ok(());
            }
        };
        let archive = self.copy_with.is_some().then(|| job.places.fresh("kept"));
        if let Some(archive) = &archive
            && let Err(source) = std::fs::hard_link(&collected.archive, archive)
        {
            let error = CarryError::Disk { doing: "keep them for the stages that follow".to_owned(), source };
            log.say(&format!("the artifacts could not be kept: {}", sentence(&error))).await;
            self.lacks_artifacts(&mut done.outcome, &error);
            return Ok(());
        }
        done.archive = archive;
        let Some(shelf) = &job.shelf else { return Ok(()) };
        let (cannot, pen) = ("the artifacts cannot be brought to the farm", &mut *log);
        let tell = |line: String| async move { pen.say(&line).await };
        match patiently(&self.stop, cannot, tell, || shelf.put(&collected)).await {
            Ok(()) => {
                let Collected { files, bytes, sha256, .. } = collected;
                let stage = self.stage.name.clone();
                job.tell(JobEvent::ArtifactsKept { stage, files, bytes, sha256, expire_ms }).await?;
            }
            Err(error) => {
                log.say(&format!("the artifacts could not be kept: {}", sentence(&error))).await;
                self.lacks_artifacts(&mut done.outcome, &error);
            }
        }
        Ok(())
    }

    /// A stage whose artifacts could not be taken has not passed: later jobs and people would go on without them.
    /// That they are too many is for its owner to mend, and no other try would change it.
    fn lacks_artifacts(&self, outcome: &mut StageOutcome, error: &CarryError) {
        let passed = matches!(outcome, StageOutcome::Passed | StageOutcome::AllowedFailure { .. });
        if !passed || matches!(error, CarryError::Depot(error) if error.is_too_large()) {
            return;
        }
        *outcome = if self.stop.is_cancelled() {
            StageOutcome::Cancelled
        } else {
            let message = format!("the artifacts of {} could not be kept: {}", self.stage.name, sentence(error));
            StageOutcome::Errored { cause: Cause::Daemon, message, again: !self.stage.not_twice }
        };
    }

    /// What looks for the coverage in what it prints, when that is asked for.
    pub(super) async fn coverage(&self, logs: &mut Logs<'a>) -> Option<CoverageInLog> {
        match CoverageInLog::of(self.stage.reports.coverage.as_ref()?) {
            Ok(coverage) => coverage,
            Err(error) => {
                logs.own.say(&error.to_string()).await;
                None
            }
        }
    }

    /// Tells what its reports say, however it ended.
    pub(super) async fn tell_reports(&self, attempt: &Attempt, logs: &mut Logs<'a>) -> Result<(), Ending> {
        let Self { job, stage, .. } = self;
        self.copy_reports(attempt, &mut logs.own).await;
        if !stage.reports.junit.is_empty() {
            let (folder, globs) = (attempt.folder().to_owned(), stage.reports.junit.clone());
            let redactor = job.redactor.clone();
            match in_thread(move || reports::tests(&folder, &globs, &|text| redactor.text(text))).await {
                Ok(Told { said, left_out }) => {
                    if said.is_none() && left_out.is_none() {
                        let globs = stage.reports.junit.join(", ");
                        logs.own.say(&format!("no test report was read: no file matches {globs}")).await;
                    }
                    logs.own.say_all(left_out.as_slice()).await;
                    if let Some(tests) = said {
                        job.tell(JobEvent::TestsRead { stage: stage.name.clone(), tests }).await?;
                    }
                }
                Err(error) => logs.own.say(&sentence(&error)).await,
            }
        }
        let lines = match &stage.reports.coverage {
            Some(Coverage::File(file)) => {
                let (folder, file) = (attempt.folder().to_owned(), file.clone());
                match in_thread(move || reports::coverage(&folder, &file)).await {
                    Ok(Told { said, left_out }) => {
                        logs.own.say_all(left_out.as_slice()).await;
                        Some(said)
                    }
                    Err(error) => {
                        logs.own.say(&sentence(&error)).await;
                        None
                    }
                }
            }
            Some(Coverage::Log(_)) => logs.coverage.take().and_then(CoverageInLog::finish),
            None => None,
        };
        match lines {
            Some(lines) => job.tell(JobEvent::CoverageRead { stage: stage.name.clone(), lines }).await,
            None => Ok(()),
        }
    }

    /// Leaves copies of its reports where people find them, when there is such a place.
    async fn copy_reports(&self, attempt: &Attempt, log: &mut Pen<'a>) {
        let (Some(place), reports) = (self.job.rooms.reports, &self.stage.reports) else { return };
        let mut globs = reports.junit.clone();
        if let Some(Coverage::File(file)) = &reports.coverage {
            globs.push(file.clone());
        }
        if globs.is_empty() {
            return;
        }
        let (folder, into) = (attempt.folder().to_owned(), place(self.job.order.key.as_ref(), &self.stage.name));
        if let Err(error) = in_thread(move || reports::copy(&folder, &globs, &into)).await {
            log.say(&format!("the reports could not be copied: {}", sentence(&error))).await;
        }
    }

    /// Brings its caches to where it expects them.
    pub(super) async fn take_caches(&self, attempt: &mut Attempt, log: &mut Pen<'a>) {
        let job = self.job;
        let Some(store) = job.rooms.caches else { return };
        for cache in &self.stage.cache {
            let (store, cache, scope) = (store.clone(), cache.clone(), self.scope());
            let (folder, private) = (attempt.folder().to_owned(), job.places.fresh("cache"));
            let begin = private.clone();
            let taken = in_thread(move || {
                std::fs::create_dir(&begin)
                    .map_err(|source| CarryError::Disk { doing: "make a folder for a cache".to_owned(), source })?;
                store.take(&cache, &scope, &folder, &begin)
            });
            match taken.await {
                Ok(taken) => {
                    log.say_all(&taken.said).await;
                    attempt.caches.push(taken);
                    attempt.also(private);
                }
                Err(error) => log.say(&format!("going on without a cache: {}", sentence(&error))).await,
            }
        }
    }

    /// Keeps the caches of a stage that passed.
    pub(super) async fn keep_caches(&self, attempt: &mut Attempt, outcome: &StageOutcome, log: &mut Pen<'a>) {
        let Some(store) = self.job.rooms.caches.filter(|_| *outcome == StageOutcome::Passed) else { return };
        for taken in std::mem::take(&mut attempt.caches) {
            let (store, stop) = (store.clone(), self.stop.clone());
            match in_thread(move || store.keep(&taken, &|| stop.is_cancelled())).await {
                Ok(said) => log.say_all(&said).await,
                Err(error) => log.say(&format!("the cache could not be kept: {}", sentence(&error))).await,
            }
        }
    }

    fn scope(&self) -> CacheScope {
        let job = self.job;
        let origin = &job.order.origin;
        let branch = match (origin.pull_request, &origin.tag, &job.sourced.branch) {
            (Some(number), ..) => format!("pull/{number}"),
            (None, Some(tag), _) => format!("tag/{tag}"),
            (None, None, branch) => branch.as_ref().map(|branch| branch.as_str().to_owned()).unwrap_or_default(),
        };
        CacheScope {
            repo: job.order.repo.to_string(),
            branch,
            default_branch: job.sourced.default_branch.as_ref().map(|branch| branch.as_str().to_owned()),
            trusted: job.order.trusted,
        }
    }
}

/// Whether something is kept after this end.
fn is_kept(when: KeepWhen, outcome: &StageOutcome) -> bool {
    match (when, outcome) {
        (KeepWhen::Always, _) | (_, StageOutcome::AllowedFailure { .. }) => true,
        (KeepWhen::Success, outcome) => *outcome == StageOutcome::Passed,
        (KeepWhen::Failure, outcome) => *outcome != StageOutcome::Passed,
    }
}

#[cfg(test)]
mod tests {
    use protocol::StageEnd;

    use super::*;

    #[test]
    fn after_which_ends_something_is_kept() {
        let end = StageEnd::Exited { code: 1 };
        let (failed, allowed) = (StageOutcome::Failed { end }, StageOutcome::AllowedFailure { end });
        let table = [
            (KeepWhen::Success, [true, false, true, false]),
            (KeepWhen::Failure, [false, true, true, true]),
            (KeepWhen::Always, [true, true, true, true]),
        ];
        for (when, expect) in table {
            let outcomes = [&StageOutcome::Passed, &failed, &allowed, &StageOutcome::Cancelled];
            assert_eq!(outcomes.map(|outcome| is_kept(when, outcome)), expect, "{when:?}");
        }
    }
}
