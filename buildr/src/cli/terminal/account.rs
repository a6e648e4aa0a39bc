//! What has happened in a build so far, as those who show it need it: its stages with their ends, in order of their
//! beginning, and what each left.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use protocol::plan::{PlannedJob, StagePlan};
use protocol::report::{JobEvent, Tests};
use protocol::{JobKey, LogName, StageName, StageOutcome};

use crate::closure::closed;

/// One stage of one job; `None` is a build whose jobs are not known yet.
pub(crate) type Place = (Option<JobKey>, StageName);

/// What is known of a build.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Its stages, those that began first standing first.
    pub(crate) stages: Vec<StageAccount>,
    /// Jobs that were not run here, and stages that are in no job, and why.
    pub(crate) passed_over: Vec<(String, String)>,
    /// How many jobs there are; 0 while that is not known.
    jobs: usize,
    /// The only one.
    only: Option<JobKey>,
    /// In how many jobs a stage of that name is.
    twins: HashMap<StageName, usize>,
    /// The stages beside which no other ever runs.
    alone: HashSet<(JobKey, StageName)>,
}

/// What is known of one stage.
#[derive(Debug)]
pub(crate) struct StageAccount {
    /// Its job.
    pub(crate) job: Option<JobKey>,
    /// Its name.
    pub(crate) stage: StageName,
    /// How far it is.
    pub(crate) state: State,
    /// Whether what it makes was taken from an earlier build.
    pub(crate) reused: bool,
    /// How many tries of it failed before the one that counts.
    pub(crate) tries: u32,
    /// What its tests came to.
    pub(crate) tests: Option<Tests>,
    /// Hundredths of a per cent of the lines that its tests covered.
    pub(crate) coverage: Option<u32>,
    /// Its files that were kept.
    pub(crate) kept: Option<KeptFiles>,
    /// What it wrote for people.
    pub(crate) summary: Option<String>,
}

/// How far a stage is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It runs since then.
    Running(Instant),
    /// It ended, or was passed over.
    Over(StageOutcome, Duration),
}

/// The files of a stage that were kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptFiles {
    /// How many.
    pub(crate) files: u64,
    /// Their archive's length.
    pub(crate) bytes: u64,
    /// Their archive's name.
    pub(crate) sha256: String,
}

impl StageAccount {
    fn new(job: Option<JobKey>, stage: StageName) -> Self {
        let state = State::Running(Instant::now());
        Self { job, stage, state, reused: false, tries: 0, tests: None, coverage: None, kept: None, summary: None }
    }

    /// How it ended, if it did.
    pub(crate) fn result(&self) -> Option<&StageOutcome> {
        match &self.state {
            State::Over(result, _) => Some(result),
            State::Running(_) => None,
        }
    }

    /// What is to be said of how it passed: nothing, or that it was cached.
    pub(crate) fn how(&self) -> &'static str {
        if self.reused && self.result() == Some(&StageOutcome::Passed) { "cached" } else { "" }
    }

    /// Whether it is why the build did not pass.
    pub(crate) fn is_bad(&self) -> bool {
        matches!(self.result(), Some(StageOutcome::Failed { .. } | StageOutcome::Errored { .. }))
    }
}

impl Account {
    /// Takes note of an event.
    pub(crate) fn note(&mut self, job: Option<&JobKey>, event: &JobEvent) {
        match event {
            JobEvent::Planned { jobs, .. } => self.planned(jobs),
            JobEvent::StageStarted { stage, .. } => {
                self.of(job, stage).state = State::Running(Instant::now());
            }
            JobEvent::StageEnded { stage, result, duration_ms } => {
                self.of(job, stage).state = State::Over(result.clone(), Duration::from_millis(*duration_ms));
            }
            JobEvent::StageReused { stage } => self.of(job, stage).reused = true,
            JobEvent::StageTried { stage, number, .. } => self.of(job, stage).tries = *number,
            JobEvent::TestsRead { stage, tests } => self.of(job, stage).tests = Some(tests.clone()),
            JobEvent::CoverageRead { stage, lines } => self.of(job, stage).coverage = Some(*lines),
            JobEvent::ArtifactsKept { stage, files, bytes, sha256, .. } => {
                let kept = KeptFiles { files: *files, bytes: *bytes, sha256: sha256.clone() };
                self.of(job, stage).kept = Some(kept);
            }
            JobEvent::Summary { stage, text } => self.of(job, stage).summary = Some(text.clone()),
            JobEvent::Settled { .. }
            | JobEvent::CheckedOut { .. }
            | JobEvent::ImageFound { .. }
            | JobEvent::HandedOn { .. }
            | JobEvent::LogComplete { .. }
            | JobEvent::Finished { .. }
            | JobEvent::Unknown => {}
        }
    }

    fn planned(&mut self, jobs: &[PlannedJob]) {
        self.jobs = jobs.len();
        self.only = if let [job] = jobs { Some(job.key.clone()) } else { None };
        self.twins.clear();
        for job in jobs {
            let prepare = job.plan.prepare.as_ref().and_then(|_| "prepare".parse().ok());
            for stage in job.plan.stages.iter().map(|stage| stage.name.clone()).chain(prepare) {
                *self.twins.entry(stage).or_default() += 1;
            }
        }
        self.alone = alone(jobs);
    }

    /// What is known of a stage.
    pub(crate) fn of(&mut self, job: Option<&JobKey>, stage: &StageName) -> &mut StageAccount {
        let is_it = |account: &StageAccount| account.stage == *stage && account.job.as_ref() == job;
        let at = self.stages.iter().position(is_it).unwrap_or_else(|| {
            self.stages.push(StageAccount::new(job.cloned(), stage.clone()));
            self.stages.len() - 1
        });
        &mut self.stages[at]
    }

    /// A stage's job, where the build's only one is not named too.
    pub(crate) fn job_of<'a>(&'a self, stage: &'a StageAccount) -> Option<&'a JobKey> {
        stage.job.as_ref().or(self.only.as_ref())
    }

    /// Whether its jobs are known.
    pub(crate) fn is_planned(&self) -> bool {
        self.jobs > 0
    }

    /// Whether the build has more jobs than one.
    pub(crate) fn has_several_jobs(&self) -> bool {
        self.jobs > 1
    }

    /// The stages that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = (&StageAccount, Instant)> {
        self.stages.iter().filter_map(|stage| match stage.state {
            State::Running(since) => Some((stage, since)),
            State::Over(..) => None,
        })
    }

    /// Whether no other stage ever runs beside this one.
    pub(crate) fn is_alone(&self, job: Option<&JobKey>, stage: &StageName) -> bool {
        let Some(job) = job.or(self.only.as_ref()).filter(|_| self.jobs > 0) else { return true };
        // What makes the image comes before all stages of its job.
        let is_first = self.jobs <= 1 && stage.as_str() == "prepare";
        is_first || self.alone.contains(&(job.clone(), stage.clone()))
    }

    /// What a stage is called: by its name where that says which one is meant, else with its job's.
    pub(crate) fn title(&self, job: Option<&JobKey>, stage: &StageName) -> String {
        self.titled(job, stage.as_str(), self.twins.get(stage).is_some_and(|twins| *twins > 1))
    }

    fn titled(&self, job: Option<&JobKey>, name: &str, has_twins: bool) -> String {
        match job {
            Some(job) if has_twins => {
                // A cell or a shard has the stage's name within its own: `unit (rust=1.90)`, `x/unit 2/5`.
                let key = format!("/{job} ");
                let is_named = key.contains(&format!("/{name} "));
                if is_named { job.to_string() } else { format!("{job}/{name}") }
            }
            _ => name.to_owned(),
        }
    }

    /// What a log is called; nothing for the only job's own.
    pub(crate) fn log_title(&self, job: Option<&JobKey>, log: &LogName) -> Option<String> {
        if *log == LogName::of_job() {
            return job.filter(|_| self.has_several_jobs()).map(ToString::to_string);
        }
        let stage = stage_of(log);
        let rest = log.as_str().strip_prefix(stage).unwrap_or("");
        let title = match stage.parse::<StageName>() {
            Ok(stage) => self.title(job, &stage),
            Err(_) => self.titled(job, stage, self.has_several_jobs()),
        };
        Some(title + rest)
    }
}

/// The stage whose log it is, of a service's too, and of a try's that an older agent kept.
pub(crate) fn stage_of(log: &LogName) -> &str {
    let text = log.as_str();
    let end = [".service-", ".try-"].iter().filter_map(|mark| text.rfind(mark)).min();
    end.map_or(text, |end| &text[..end])
}

/// The stages beside which no other runs: those that are ordered against all others.
fn alone(jobs: &[PlannedJob]) -> HashSet<(JobKey, StageName)> {
    let keys: Vec<&JobKey> = jobs.iter().map(|job| &job.key).collect();
    let needs: Vec<BTreeSet<usize>> = jobs
        .iter()
        .map(|job| job.needs.iter().filter_map(|need| keys.iter().position(|key| *key == need)).collect())
        .collect();
    let of_jobs = ordered(&needs);
    let mut alone = HashSet::new();
    for (job, _) in jobs.iter().zip(of_jobs).filter(|(job, ordered)| *ordered || job.finally) {
        let stages = &job.plan.stages;
        let needs: Vec<BTreeSet<usize>> =
            stages.iter().enumerate().map(|(at, stage)| needs_of(stages, at, stage)).collect();
        let of_stages = ordered(&needs);
        let names = stages.iter().zip(of_stages).filter(|(_, ordered)| *ordered);
        alone.extend(names.map(|(stage, _)| (job.key.clone(), stage.name.clone())));
    }
    alone
}

fn needs_of(stages: &[StagePlan], at: usize, stage: &StagePlan) -> BTreeSet<usize> {
    match &stage.needs {
        None => (0..at).collect(),
        Some(names) => names.iter().filter_map(|name| stages.iter().position(|stage| stage.name == *name)).collect(),
    }
}

/// Which nodes of a graph are before or after each of the others; none where some wait for each other.
fn ordered(needs: &[BTreeSet<usize>]) -> Vec<bool> {
    let Ok(before) = closed(needs) else { return vec![false; needs.len()] };
    (0..needs.len())
        .map(|node| {
            (0..needs.len())
                .all(|other| other == node || before[node].contains(&other) || before[other].contains(&node))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use protocol::Plan;
    use protocol::plan::BuildPlan;

    use super::*;

    fn name(text: &str) -> StageName {
        text.parse().unwrap()
    }

    /// `key: stage stage<need,need` after the jobs in the second text.
    fn job(key: &str, stages: &str, needs: &[&str]) -> PlannedJob {
        let stages = stages.split(' ').map(|stage| {
            let (own, needs) = stage.split_once('<').map_or((stage, None), |(own, needs)| (own, Some(needs)));
            let mut plan = StagePlan::new(name(own), Vec::new());
            plan.needs = needs.map(|needs| needs.split(',').filter(|need| !need.is_empty()).map(name).collect());
            plan
        });
        let mut job = PlannedJob::new(key.parse().unwrap(), Plan::new("x", stages.collect()));
        job.needs = needs.iter().map(|need| need.parse().unwrap()).collect();
        job
    }

    fn account(jobs: Vec<PlannedJob>) -> Account {
        let mut account = Account::default();
        account.note(None, &JobEvent::Planned { jobs, build: BuildPlan::default() });
        account
    }

    #[test]
    fn a_stage_is_called_so_that_it_is_known() {
        let account = account(vec![
            job("build", "build lint", &[]),
            job("unit (os=a)", "unit", &[]),
            job("unit (os=b)", "unit", &[]),
            job("x/test", "test", &[]),
            job("y/test", "test", &[]),
            job("y/more", "test ship", &[]),
            job("z/test 2/5", "test", &[]),
        ]);
        let title = |job: &str, stage: &str| account.title(Some(&job.parse().unwrap()), &name(stage));
        assert_eq!(title("build", "lint"), "lint");
        assert_eq!(title("unit (os=a)", "unit"), "unit (os=a)");
        assert_eq!(title("y/more", "ship"), "ship");
        assert_eq!(title("y/more", "test"), "y/more/test");
        assert_eq!(title("y/test", "test"), "y/test");
        assert_eq!(title("z/test 2/5", "test"), "z/test 2/5");
        let log = |log: LogName| account.log_title(Some(&"unit (os=b)".parse().unwrap()), &log);
        assert_eq!(log(LogName::of_job()).unwrap(), "unit (os=b)");
        assert_eq!(log("unit.try-1".parse().unwrap()).unwrap(), "unit (os=b).try-1");
        assert_eq!(log(LogName::of_service(Some(&name("unit")), "db")).unwrap(), "unit (os=b).service-db");
        assert_eq!(stage_of(&LogName::of_service(None, "db")), "0-job");
    }

    #[test]
    fn a_stage_is_alone_when_it_is_ordered_against_all_others() {
        let check = |jobs: Vec<PlannedJob>, expect: &str| {
            let account = account(jobs.clone());
            let stages = jobs.iter().flat_map(|job| job.plan.stages.iter().map(move |stage| (&job.key, &stage.name)));
            let alone = stages.filter(|(job, stage)| account.is_alone(Some(job), stage));
            assert_eq!(alone.map(|(_, stage)| stage.as_str()).collect::<Vec<_>>().join(" "), expect);
        };
        check(vec![job("b", "build test", &[])], "build test");
        check(vec![job("b", "build unit<build lint<build ship", &[])], "build ship");
        check(vec![job("b", "build free< ship", &[])], "ship");
        check(vec![job("a", "one", &[]), job("b", "two", &[]), job("c", "three", &["a", "b"])], "three");
    }
}
