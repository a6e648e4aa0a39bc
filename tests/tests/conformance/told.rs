//! What came of a build, in the same words wherever it was carried out.

use std::collections::BTreeMap;

use protocol::api::{BuildView, Status};
use protocol::report::JobEvent;

use super::expected::Counts;

/// What came of a build. Keys are `JOB/STAGE`; a stage that was in no job is `/STAGE`.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) outcome: String,
    pub(crate) message: String,
    /// In order of their names.
    pub(crate) jobs: Vec<String>,
    /// The stages of each job.
    pub(crate) planned: BTreeMap<String, Vec<String>>,
    pub(crate) stages: BTreeMap<String, String>,
    pub(crate) logs: BTreeMap<String, String>,
    /// How many tries were followed by another.
    pub(crate) tries: BTreeMap<String, u32>,
    pub(crate) tests: BTreeMap<String, Counts>,
    pub(crate) coverage: BTreeMap<String, u32>,
}

impl Told {
    /// A job that was not run: none of its stages was.
    pub(crate) fn pass_over(&mut self, job: &str) {
        for stage in self.planned.get(job).cloned().unwrap_or_default() {
            self.stages.insert(format!("{job}/{stage}"), "skipped".to_owned());
        }
    }

    /// What a farm tells of a build that is over.
    pub(crate) fn of(view: &BuildView) -> Self {
        let mut told = Self {
            outcome: view.build.status.name().to_owned(),
            message: view.build.message.clone().unwrap_or_default(),
            ..Self::default()
        };
        for job in &view.jobs {
            let key = job.key.to_string();
            told.planned.insert(key.clone(), job.stages.iter().map(ToString::to_string).collect());
            if job.status == Status::Skipped {
                told.pass_over(&key);
            }
            told.jobs.push(key);
        }
        told.jobs.sort();
        for skipped in &view.skipped {
            told.stages.insert(format!("/{}", skipped.stage), "skipped".to_owned());
        }
        for attempt in &view.attempts {
            for stage in &attempt.stages {
                let at = format!("{}/{}", attempt.job, stage.name);
                let result = stage.result.as_ref().map_or("(none)", |result| result.name());
                told.stages.insert(at.clone(), result.to_owned());
                told.tries.insert(at.clone(), u32::try_from(stage.tries.len()).unwrap());
                if let Some(tests) = &stage.tests {
                    let counts = Counts { passed: tests.passed, failed: tests.failed, skipped: tests.skipped };
                    told.tests.insert(at.clone(), counts);
                }
                told.coverage.extend(stage.coverage.map(|lines| (at, lines)));
            }
        }
        told
    }

    /// Something that happened in a job, on a laptop.
    pub(crate) fn add(&mut self, job: &str, event: &JobEvent) {
        let at = |stage: &protocol::StageName| format!("{job}/{stage}");
        match event {
            JobEvent::Planned { jobs, build } => {
                self.jobs = jobs.iter().map(|job| job.key.to_string()).collect();
                self.jobs.sort();
                for job in jobs {
                    let stages = job.plan.stages.iter().map(|stage| stage.name.to_string()).collect();
                    self.planned.insert(job.key.to_string(), stages);
                }
                for skipped in &build.skipped {
                    self.stages.insert(format!("/{}", skipped.stage), "skipped".to_owned());
                }
            }
            JobEvent::StageEnded { stage, result, .. } => {
                self.stages.insert(at(stage), result.name().to_owned());
            }
            JobEvent::StageTried { stage, .. } => *self.tries.entry(at(stage)).or_default() += 1,
            JobEvent::TestsRead { stage, tests } => {
                let counts = Counts { passed: tests.passed, failed: tests.failed, skipped: tests.skipped };
                self.tests.insert(at(stage), counts);
            }
            JobEvent::CoverageRead { stage, lines } => {
                self.coverage.insert(at(stage), *lines);
            }
            _ => {}
        }
    }
}

/// What is under `JOB/STAGE`, or under the only job's stage of that name.
pub(crate) fn find<'t, T>(told: &'t BTreeMap<String, T>, stage: &str) -> Option<&'t T> {
    told.get(stage).or_else(|| {
        let end = format!("/{stage}");
        let mut found = told.iter().filter(|(key, _)| key.ends_with(&end));
        found.next().filter(|_| found.next().is_none()).map(|(_, value)| value)
    })
}
