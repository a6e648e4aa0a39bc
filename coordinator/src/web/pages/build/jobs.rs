//! The jobs of a build and their stages, as the rail beside the logs shows them: what ran, for how long, and how long it
//! waited before. Pure.

use std::collections::HashMap;

use protocol::StageOutcome;
use protocol::api::{Asked, AttemptView, BuildView, GateView, JobView, StageView, Status, Timeline};
use protocol::plan::GateInput;
use protocol::report::Part;

use crate::web::pages::said::{Since, took};

/// A job.
pub(super) struct JobShown {
    /// Its place among the build's jobs, for links.
    pub(super) place: usize,
    /// Its name.
    pub(super) key: String,
    /// Where it stands.
    pub(super) status: &'static str,
    /// Why it waits, how it ended, or why it was passed over.
    pub(super) message: Option<String>,
    /// Who works or worked on it.
    pub(super) agent: Option<String>,
    /// Since when it runs.
    pub(super) since: Option<Since>,
    /// How long it waited for an agent.
    pub(super) waited: Option<String>,
    /// How long it took, once it is over.
    pub(super) took: Option<String>,
    /// The build that was begun in its place.
    pub(super) downstream: Option<u64>,
    /// Who let it begin.
    pub(super) approved_by: Option<String>,
    /// Which of its attempts this is, when there was more than one.
    pub(super) attempt: Option<u32>,
    /// Its stages, in order.
    pub(super) stages: Vec<StageShown>,
    /// Whether it is a cell of a matrix of a single stage: one line says all of both.
    pub(super) is_its_stage: bool,
}

impl JobShown {
    /// Where its log stands on the page, when it is all of one stage.
    pub(super) fn anchor(&self) -> Option<&str> {
        self.stages.first().filter(|_| self.is_its_stage).and_then(|stage| stage.anchor.as_deref())
    }
}

/// A stage.
pub(super) struct StageShown {
    /// Its name.
    pub(super) name: String,
    /// Where it stands.
    pub(super) status: &'static str,
    /// How it ended beyond that, or why it was passed over.
    pub(super) detail: Option<String>,
    /// How long it took.
    pub(super) took: Option<String>,
    /// The same in per cent of the longest of the build.
    pub(super) share: u64,
    /// How many tries of it failed before.
    pub(super) tries: usize,
    /// Where its log stands on the page.
    pub(super) anchor: Option<String>,
}

/// Where the log of an attempt's stage stands on the page.
pub(super) fn anchor(attempt: u32, log: &str) -> String {
    format!("log-{attempt}-{log}")
}

/// The jobs of a build, each as its last attempt is.
pub(super) fn jobs(view: &BuildView, timeline: &Timeline, now_ms: u64) -> Vec<JobShown> {
    let longest = view.attempts.iter().flat_map(|attempt| &attempt.stages).filter_map(|stage| stage.duration_ms).max();
    let waits = waits(timeline);
    let look = Look { longest: longest.unwrap_or(0).max(1), waits, now_ms };
    let last: HashMap<&str, &AttemptView> =
        view.attempts.iter().map(|attempt| (attempt.job.as_str(), attempt)).collect();
    if view.jobs.is_empty() {
        // It is not planned yet, or could not be.
        let places = 0..;
        return view
            .attempts
            .last()
            .map(|attempt| look.unplanned(attempt))
            .into_iter()
            .zip(places)
            .map(|(job, _)| job)
            .collect();
    }
    let all = view.jobs.iter().enumerate();
    all.map(|(place, job)| look.job(place, job, last.get(job.key.as_str()).copied(), view)).collect()
}

struct Look {
    longest: u64,
    /// How long each attempt waited for its agent.
    waits: HashMap<u32, u64>,
    now_ms: u64,
}

/// How long each attempt waited for an agent.
fn waits(timeline: &Timeline) -> HashMap<u32, u64> {
    let queue = |spans: &[protocol::report::Span]| spans.iter().filter(|s| s.part == Part::Queue).map(|s| s.ms).sum();
    timeline.attempts.iter().map(|attempt| (attempt.attempt, queue(&attempt.spans))).collect()
}

impl Look {
    fn job(&self, place: usize, job: &JobView, attempt: Option<&AttemptView>, view: &BuildView) -> JobShown {
        let mut stages: Vec<StageShown> =
            attempt.iter().flat_map(|attempt| attempt.stages.iter().map(|stage| self.stage(attempt, stage))).collect();
        let known: Vec<String> = stages.iter().map(|stage| stage.name.clone()).collect();
        let status = if job.status == Status::Queued { "queued" } else { "skipped" };
        let planned = job.stages.iter().filter(|name| !known.iter().any(|known| known == name.as_str()));
        // What has not begun of a job that runs waits; of one that is over it never began.
        let status = if matches!(job.status, Status::Running | Status::Cancelling) { "queued" } else { status };
        stages.extend(planned.map(|name| StageShown::not_begun(name.as_str(), status)));
        let times = view.attempts.iter().filter(|attempt| attempt.job == job.key.as_str()).count();
        JobShown {
            place,
            key: job.key.to_string(),
            status: job.status.name(),
            message: job.message.clone().filter(|_| job.status != Status::Passed),
            downstream: job.downstream.map(|build| build.0),
            approved_by: job.gate.as_ref().and_then(|gate| gate.approved_by.clone()),
            attempt: u32::try_from(times).ok().filter(|times| *times > 1),
            is_its_stage: !job.cell.is_empty()
                && matches!(stages.as_slice(), [one] if one.tries == 0 && one.detail.is_none()),
            stages,
            ..self.of_attempt(attempt)
        }
    }

    fn unplanned(&self, attempt: &AttemptView) -> JobShown {
        let status = match attempt.state.as_str() {
            "running" => "running",
            "passed" => "passed",
            "failed" => "failed",
            "cancelled" => "cancelled",
            "lost" => "lost",
            _ => "errored",
        };
        let stages = attempt.stages.iter().map(|stage| self.stage(attempt, stage)).collect();
        JobShown { key: attempt.job.clone(), status, stages, ..self.of_attempt(Some(attempt)) }
    }

    /// What is known of it by its attempt.
    fn of_attempt(&self, attempt: Option<&AttemptView>) -> JobShown {
        let ran = attempt.and_then(|attempt| Some(attempt.ended_ms?.saturating_sub(attempt.started_ms)));
        let runs = attempt.filter(|attempt| attempt.ended_ms.is_none());
        let waited = attempt.and_then(|attempt| self.waits.get(&attempt.attempt)).filter(|ms| **ms >= 100);
        JobShown {
            place: 0,
            key: String::new(),
            status: "queued",
            message: None,
            agent: attempt.map(|attempt| attempt.agent.clone()),
            since: runs.map(|attempt| Since::new(attempt.started_ms, self.now_ms)),
            waited: waited.map(|ms| took(*ms)),
            took: ran.map(took),
            downstream: None,
            approved_by: None,
            attempt: None,
            stages: Vec::new(),
            is_its_stage: false,
        }
    }

    fn stage(&self, attempt: &AttemptView, stage: &StageView) -> StageShown {
        let has_log = attempt.logs.iter().any(|log| log.name.as_str() == stage.name.as_str());
        let detail = match &stage.result {
            Some(StageOutcome::Failed { end } | StageOutcome::AllowedFailure { end }) => Some(end.in_words()),
            Some(result) => result.detail(),
            None => None,
        };
        let over = attempt.ended_ms.is_some();
        StageShown {
            name: stage.name.to_string(),
            status: stage.result.as_ref().map_or(if over { "lost" } else { "running" }, StageOutcome::name),
            detail,
            took: stage.duration_ms.filter(|ms| *ms > 0).map(took),
            share: stage.duration_ms.unwrap_or(0).saturating_mul(100) / self.longest,
            tries: stage.tries.len(),
            anchor: has_log.then(|| anchor(attempt.attempt, stage.name.as_str())),
        }
    }
}

impl StageShown {
    fn not_begun(name: &str, status: &'static str) -> Self {
        Self { name: name.to_owned(), status, detail: None, took: None, share: 0, tries: 0, anchor: None }
    }
}

/// A gate at which a job waits for a person.
pub(super) struct GateShown {
    /// The job.
    pub(super) job: String,
    /// The question.
    pub(super) ask: String,
    /// Who may answer.
    pub(super) allow: Vec<String>,
    /// What is to be filled in.
    pub(super) inputs: Vec<GateInput>,
    /// The command that lets it begin.
    pub(super) command: String,
}

/// The gates that are open.
pub(super) fn gates(view: &BuildView) -> Vec<GateShown> {
    let open = |job: &JobView| -> Option<GateShown> {
        let GateView { gate, .. } = job.gate.as_ref().filter(|gate| gate.open)?;
        let must = gate.inputs.iter().filter(|input| input.default.is_none()).map(|input| input.name.clone());
        Some(GateShown {
            command: Asked::command(view.build.number, &job.key, &must.collect::<Vec<_>>()),
            job: job.key.to_string(),
            ask: gate.ask.clone().unwrap_or_else(|| format!("Let {} begin?", job.key)),
            allow: gate.allow.clone(),
            inputs: gate.inputs.clone(),
        })
    };
    view.jobs.iter().filter_map(open).collect()
}
