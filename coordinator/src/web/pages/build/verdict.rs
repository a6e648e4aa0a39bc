//! How a build stands, in one sentence: what failed and why, or what it does, or what it waits for. Pure.

use protocol::StageOutcome;
use protocol::api::{AttemptView, BuildView, Forecast, JobView, StageView, Status, Why};
use protocol::report::Tests;

use crate::web::pages::said::{count, took};

/// The sentence, and what else is said beside it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What happened, without what stands in `stage`.
    pub(super) sentence: String,
    /// The stage that it is about, as people call it.
    pub(super) stage: Option<String>,
    /// What its tests came to, over all stages.
    pub(super) tests: Option<String>,
    /// The state whose mark and colour the build has.
    pub(super) tone: &'static str,
}

/// A stage of an attempt that failed, or could not be run.
#[derive(Debug, Clone, Copy)]
pub(in crate::web) struct FailedStage<'a> {
    /// The attempt.
    pub(in crate::web) attempt: &'a AttemptView,
    /// The stage.
    pub(in crate::web) stage: &'a StageView,
}

/// The stages that failed, in the last attempt of each job: in the order in which a person should look at them.
pub(in crate::web) fn failed_stages(view: &BuildView) -> Vec<FailedStage<'_>> {
    let bad =
        |stage: &&StageView| matches!(stage.result, Some(StageOutcome::Failed { .. } | StageOutcome::Errored { .. }));
    last_attempts(view)
        .flat_map(|attempt| attempt.stages.iter().filter(bad).map(move |stage| FailedStage { attempt, stage }))
        .collect()
}

/// The attempt of each job that counts: its last one.
pub(in crate::web) fn last_attempts(view: &BuildView) -> impl Iterator<Item = &AttemptView> {
    let is_last = |one: &&AttemptView| !view.attempts.iter().any(|it| it.job == one.job && it.attempt > one.attempt);
    view.attempts.iter().filter(is_last)
}

/// What people call a stage of a job: with the job's name where there are several.
pub(in crate::web) fn title(view: &BuildView, job: &str, stage: &str) -> String {
    let of_stage = || job.strip_prefix(stage).is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("));
    match view.jobs.len() {
        0 | 1 => stage.to_owned(),
        // A cell of a matrix is mostly called as its only stage is.
        _ if of_stage() => job.to_owned(),
        _ => format!("{job} › {stage}"),
    }
}

/// How a build stands.
pub(super) fn verdict(view: &BuildView, why: &Why) -> Verdict {
    let asks = |job: &&JobView| job.gate.as_ref().is_some_and(|gate| gate.open);
    let asked = view.jobs.iter().find(asks).filter(|_| why.running.is_empty() && !view.build.status.is_over());
    let (stage, sentence) = match (asked, view.build.status) {
        (Some(job), _) => (Some(job.key.to_string()), approval(job)),
        (None, Status::Passed) => (None, passed(view)),
        (None, Status::Failed | Status::Errored) => failed(view),
        (None, Status::Running | Status::Cancelling) => running(view, why),
        (None, Status::Queued | Status::Cancelled | Status::Skipped) => (None, message(view)),
    };
    let tone = if asked.is_some() { "approval" } else { view.build.status.name() };
    Verdict { sentence, stage, tests: tests(view), tone }
}

fn approval(job: &JobView) -> String {
    let ask = job.gate.as_ref().and_then(|gate| gate.gate.ask.as_ref());
    ask.map_or_else(|| "waits for a person".to_owned(), |ask| format!("waits for a person: {ask}"))
}

fn message(view: &BuildView) -> String {
    view.build.message.clone().unwrap_or_else(|| view.build.status.name().to_owned())
}

fn passed(view: &BuildView) -> String {
    let allowed = last_attempts(view)
        .flat_map(|attempt| &attempt.stages)
        .filter(|stage| matches!(stage.result, Some(StageOutcome::AllowedFailure { .. })));
    let allowed: Vec<&str> = allowed.map(|stage| stage.name.as_str()).collect();
    let time = view.build.started_ms.zip(view.build.ended_ms).map(|(from, to)| to.saturating_sub(from));
    let time = time.map(|ms| format!(" in {}", took(ms))).unwrap_or_default();
    match (allowed.as_slice(), &view.build.message) {
        ([], Some(message)) => message.clone(),
        ([], None) => format!("passed{time}"),
        (allowed, _) => format!("passed{time}, although {} failed, which it may", allowed.join(", ")),
    }
}

fn failed(view: &BuildView) -> (Option<String>, String) {
    let all = failed_stages(view);
    let Some(FailedStage { attempt, stage }) = all.first() else { return (None, message(view)) };
    let others = match all.len() - 1 {
        0 => String::new(),
        more => format!("; {} failed too", count(more as u64, "other stage", "other stages")),
    };
    let what = match &stage.result {
        Some(StageOutcome::Failed { end }) => format!("failed: {}", end.in_words()),
        Some(StageOutcome::Errored { message, .. }) => format!("could not be run: {message}"),
        _ => "failed".to_owned(),
    };
    (Some(title(view, &attempt.job, stage.name.as_str())), format!("{what}{others}"))
}

fn running(view: &BuildView, why: &Why) -> (Option<String>, String) {
    // Nobody waits for less than the last one to end.
    let last = why.running.iter().map(|job| job.forecast).max_by_key(|ends| {
        let takes_longer = ends.expected_ms.is_none() && ends.usual_ms.is_some();
        (takes_longer, ends.expected_ms, ends.usual_ms)
    });
    let ends = last.and_then(Forecast::in_words).map(|words| format!(", {words}")).unwrap_or_default();
    let stages: Vec<String> = why
        .running
        .iter()
        .filter_map(|job| Some(title(view, job.job.as_str(), job.stage.as_ref()?.as_str())))
        .collect();
    let word = if view.build.status == Status::Cancelling { "is being cancelled" } else { "running" };
    let where_ = match (why.running.as_slice(), stages.as_slice()) {
        ([], _) => view.build.message.clone().map(|message| format!(": {message}")).unwrap_or_default(),
        ([one], [_]) => format!(" on {}", one.agent),
        ([one], []) => format!(": being made ready on {}", one.agent),
        (many, _) => format!(": {}", count(many.len() as u64, "job", "jobs")),
    };
    let stage = match stages.as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    };
    (stage, format!("{word}{where_}{ends}"))
}

fn tests(view: &BuildView) -> Option<String> {
    let all: Vec<&Tests> =
        last_attempts(view).flat_map(|attempt| &attempt.stages).filter_map(|stage| stage.tests.as_ref()).collect();
    if all.is_empty() {
        return None;
    }
    let sum = |of: fn(&Tests) -> u32| all.iter().map(|tests| u64::from(of(tests))).sum::<u64>();
    let (failed, passed, skipped) = (sum(|it| it.failed), sum(|it| it.passed), sum(|it| it.skipped));
    let skipped = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    Some(match failed {
        0 => format!("{} passed{skipped}", count(passed, "test", "tests")),
        failed => format!("{failed} of {} failed{skipped}", count(failed + passed, "test", "tests")),
    })
}

#[cfg(test)]
mod tests {
    use protocol::api::{BuildRow, RunningJob};
    use protocol::{BuildNumber, Cause, StageEnd};

    use super::*;

    fn row(status: Status, message: Option<&str>) -> BuildRow {
        BuildRow {
            number: BuildNumber(1),
            repo: "x".to_owned(),
            branch: None,
            commit: None,
            subject: None,
            trigger: "push".to_owned(),
            status,
            message: message.map(str::to_owned),
            created_ms: 0,
            started_ms: Some(1_000),
            ended_ms: Some(4_200),
        }
    }

    fn stage(name: &str, result: Option<StageOutcome>) -> StageView {
        StageView { result, ..StageView::new(name.parse().unwrap(), "x") }
    }

    fn attempt(number: u32, stages: Vec<StageView>) -> AttemptView {
        AttemptView {
            job: "build".to_owned(),
            attempt: number,
            agent: "oak".to_owned(),
            state: String::new(),
            started_ms: 0,
            ended_ms: None,
            loss: None,
            stages,
            logs: Vec::new(),
        }
    }

    #[track_caller]
    fn check(build: BuildRow, attempts: Vec<AttemptView>, running: Vec<RunningJob>, expect: (&str, &str)) {
        let view = BuildView { attempts, ..BuildView::new(build.clone()) };
        let why = Why {
            build,
            by: None,
            waiting: Vec::new(),
            running,
            lost: Vec::new(),
            not_run: Vec::new(),
            cut_short: Vec::new(),
            incomplete: Vec::new(),
        };
        let got = verdict(&view, &why);
        assert_eq!((got.stage.as_deref().unwrap_or(""), got.sentence.as_str()), expect);
    }

    fn failed(code: i64) -> Option<StageOutcome> {
        Some(StageOutcome::Failed { end: StageEnd::Exited { code } })
    }

    #[test]
    fn each_is_a_sentence() {
        check(row(Status::Passed, None), vec![], vec![], ("", "passed in 3.2 s"));
        let allowed = Some(StageOutcome::AllowedFailure { end: StageEnd::Exited { code: 1 } });
        let stages = vec![stage("lint", allowed), stage("unit", Some(StageOutcome::Passed))];
        let expect = ("", "passed in 3.2 s, although lint failed, which it may");
        check(row(Status::Passed, None), vec![attempt(1, stages)], vec![], expect);

        let stages = vec![stage("unit", failed(137)), stage("e2e", failed(1))];
        let expect =
            ("unit", "failed: exit code 137 (killed, most often for want of memory); 1 other stage failed too");
        check(row(Status::Failed, Some("unit failed")), vec![attempt(1, stages)], vec![], expect);
        let errored = StageOutcome::Errored { cause: Cause::Pull, message: "no such image".to_owned(), again: false };
        let stages = vec![stage("unit", Some(errored))];
        check(
            row(Status::Errored, None),
            vec![attempt(1, stages)],
            vec![],
            ("unit", "could not be run: no such image"),
        );
        check(row(Status::Errored, Some("no manifest")), vec![attempt(1, vec![])], vec![], ("", "no manifest"));
        check(row(Status::Queued, Some("waits for an agent")), vec![], vec![], ("", "waits for an agent"));
        check(row(Status::Cancelled, None), vec![], vec![], ("", "cancelled"));
    }

    #[test]
    fn what_an_earlier_attempt_failed_at_does_not_count() {
        let attempts = vec![attempt(1, vec![stage("unit", failed(1))]), attempt(2, vec![stage("e2e", failed(2))])];
        check(row(Status::Failed, None), attempts, vec![], ("e2e", "failed: exit code 2"));
    }

    #[test]
    fn what_runs() {
        let job = |stage: Option<&str>, forecast| RunningJob {
            job: "build".parse().unwrap(),
            attempt: 1,
            agent: "oak".parse().unwrap(),
            for_ms: 1,
            stage: stage.map(|stage| stage.parse().unwrap()),
            forecast,
            seen_ms_ago: None,
        };
        let (unknown, usual_ms) = (Forecast::default(), Some(90_000));
        let in_ms = |ms| Forecast { expected_ms: Some(ms), usual_ms };
        let late = Forecast { expected_ms: None, usual_ms };
        let running = row(Status::Running, None);
        check(running.clone(), vec![], vec![job(Some("unit"), unknown)], ("unit", "running on oak"));
        let expect = ("", "running: being made ready on oak, expected to end in 1 min");
        check(running.clone(), vec![], vec![job(None, in_ms(60_000))], expect);
        check(
            running,
            vec![],
            vec![job(Some("a"), unknown), job(Some("b"), in_ms(5_000)), job(Some("c"), in_ms(4_000))],
            ("", "running: 3 jobs, expected to end in 5 s"),
        );
        check(
            row(Status::Running, None),
            vec![],
            vec![job(Some("a"), late), job(Some("b"), in_ms(5_000))],
            ("", "running: 2 jobs, longer than usual (1 min 30 s)"),
        );
        check(
            row(Status::Cancelling, None),
            vec![],
            vec![job(Some("unit"), unknown)],
            ("unit", "is being cancelled on oak"),
        );
    }
}
