//! What stands on a build's page, as its template takes it.

use askama::Template;
use protocol::JobKey;
use protocol::StageOutcome;
use protocol::api::{BuildView, IncompleteLog, Role, Status, Why, span};
use protocol::plan::{Image, RunOn, StagePlan, Variable};
use protocol::report::Tests;

use super::Facts;
use super::artifacts::{ArtifactShown, artifacts};
use super::failure::Failure;
use super::grid::{Grid, grids};
use super::jobs::{GateShown, JobShown, anchor, gates, jobs};
use super::trigger::{TriggerShown, trigger};
use super::verdict::{Verdict, last_attempts, title, verdict};
use super::waterfall::{Waterfall, waterfall};
use crate::web::Web;
use crate::web::api::{Answer, Whole};
use crate::web::follow::tail;
use crate::web::logs::{Log, unreadable};
use crate::web::pages::log::LogPart;
use crate::web::pages::said::{Since, When, short_repo, size, took};
use crate::web::pages::{Frame, Here, Onlooker};
use crate::web::text::plain;

/// How much of the end of a log without a viewer stands on the page, in bytes.
const LOG_SHOWN: u64 = 16 << 10;

#[derive(Template)]
#[template(path = "build.html", blocks = ["verdict", "failures", "gates", "story", "rail", "logs", "facts"])]
pub(super) struct BuildPage<'a> {
    frame: Frame,
    number: u64,
    verdict: Verdict,
    head: Head,
    trigger: TriggerShown,
    failures: &'a [Failure],
    gates: Vec<GateShown>,
    story: Vec<String>,
    jobs: Vec<JobShown>,
    grids: Vec<Grid>,
    skipped: Vec<(String, String)>,
    logs: &'a [LogShown],
    waterfall: Waterfall,
    tests: Vec<TestsShown>,
    artifacts: Vec<ArtifactShown>,
    summaries: Vec<(String, String)>,
    environment: Vec<Environment>,
    plans: Vec<PlanShown>,
    may_cancel: bool,
    /// It is over, and can be done again.
    may_restart: bool,
    /// Something of it did not pass.
    has_failed: bool,
    restart_of: Option<u64>,
    restarts: Vec<u64>,
    /// The command for whoever is not signed in.
    restart: String,
    reproduce: String,
}

/// What the build is of.
struct Head {
    repo: String,
    repo_url: String,
    branch: String,
    commit: String,
    short_commit: String,
    subject: String,
    upstream: Vec<String>,
    by: Option<String>,
    asked: When,
    runs: Option<Since>,
    waited: Option<String>,
    took: Option<String>,
}

/// A log, or its end.
pub(super) struct LogShown {
    id: String,
    title: String,
    /// How its stage stands; none of a log that is no stage's.
    status: Option<&'static str>,
    took: Option<String>,
    size: String,
    /// Its own page.
    page: String,
    /// The viewer, of one that somebody most likely looks for: each that goes on takes a line of the browser's.
    part: Option<LogPart>,
    /// The end of any other.
    text: String,
    cut: bool,
    gap: Option<String>,
    is_open: bool,
}

/// How many logs of a build have a viewer on its page.
const VIEWERS: usize = 4;

struct TestsShown {
    stage: String,
    tests: Tests,
    took: String,
    coverage: Option<String>,
}

/// Where a job ran, and with what.
struct Environment {
    job: String,
    agent: Option<String>,
    labels: String,
    cell: Vec<(String, String)>,
    images: Vec<ImageShown>,
    inherited: Vec<String>,
    variables: Vec<Variable>,
    inputs: Vec<Variable>,
}

struct ImageShown {
    stage: String,
    image: String,
    digest: Option<String>,
}

/// What a job was to do, as its manifest was understood.
struct PlanShown {
    job: String,
    image: String,
    prepare: Vec<String>,
    stages: Vec<StagePlanShown>,
}

struct StagePlanShown {
    name: String,
    image: Option<String>,
    when: String,
    script: Vec<String>,
    after: Vec<String>,
}

impl<'a> BuildPage<'a> {
    pub(super) fn new(facts: &'a Facts, onlooker: &Onlooker) -> Self {
        let Facts { view, why, timeline, plans, failures, logs, now_ms, .. } = facts;
        let build = &view.build;
        let number = build.number.0;
        let title = format!("#{number} {} {}", build.status.name(), short_repo(&build.repo));
        let is_over = build.status.is_over()
            && view.attempts.iter().all(|one| one.logs.iter().all(|log| log.complete || log.incomplete));
        Self {
            frame: Frame::new(title, Here::Elsewhere)
                .live_if(!is_over, format!("/live/builds/{number}"))
                .seen_by(onlooker, Role::Developer),
            number,
            verdict: verdict(view, why),
            head: head(facts),
            trigger: trigger(view),
            failures,
            gates: gates(view),
            story: story(view, why),
            jobs: jobs(view, timeline, *now_ms),
            grids: grids(&view.jobs),
            skipped: view.skipped.iter().map(|it| (it.stage.to_string(), it.reason.clone())).collect(),
            logs,
            waterfall: waterfall(timeline),
            tests: tests(view),
            artifacts: artifacts(facts),
            summaries: summaries(view),
            environment: environment(facts),
            plans: plans.iter().map(|(key, plan)| plan_shown(key.as_str(), plan)).collect(),
            may_cancel: matches!(build.status, Status::Queued | Status::Running),
            may_restart: build.status.is_over(),
            has_failed: build.status.is_over() && build.status != Status::Passed,
            restart_of: view.restart_of.map(|number| number.0),
            restarts: view.restarts.iter().map(|number| number.0).collect(),
            restart: format!("buildr restart {number}"),
            reproduce: format!("buildr repro {}/builds/{number}", onlooker.server),
        }
    }
}

fn head(Facts { view, why, now_ms, .. }: &Facts) -> Head {
    let build = &view.build;
    let commit = build.commit.as_ref().map(ToString::to_string).unwrap_or_default();
    let waited = build.started_ms.map(|started| started.saturating_sub(build.created_ms)).filter(|ms| *ms >= 100);
    let from = build.started_ms.unwrap_or(build.created_ms);
    Head {
        repo: short_repo(&build.repo),
        repo_url: build.repo.clone(),
        branch: build.branch.as_ref().map(ToString::to_string).unwrap_or_default(),
        short_commit: build.commit.as_ref().map(|commit| commit.short().to_owned()).unwrap_or_default(),
        commit,
        // The forge says it before the commit is there.
        subject: build.subject.clone().or_else(|| view.origin.message.clone()).unwrap_or_default(),
        upstream: view.origin.upstream.clone(),
        by: why.by.clone(),
        asked: When::new(build.created_ms, *now_ms),
        runs: build.started_ms.filter(|_| !build.status.is_over()).map(|at| Since::new(at, *now_ms)),
        waited: waited.map(took),
        took: build.ended_ms.map(|ended| took(ended.saturating_sub(from))),
    }
}

/// What the verdict and the jobs do not say already.
fn story(view: &BuildView, why: &Why) -> Vec<String> {
    let said = |sentence: &str| view.build.message.as_deref() == Some(sentence);
    // A job's own reason stands beside it, and what runs alone is the verdict.
    let beside = |job: &JobKey| view.jobs.iter().any(|it| it.key == *job && it.message.is_some());
    let waiting = why.waiting.iter().filter(|job| !said(&job.sentence) && !beside(&job.job));
    let mut lines: Vec<String> = waiting.map(|job| format!("{} {}", job.job, job.sentence)).collect();
    lines.extend(why.running.iter().filter(|_| why.running.len() > 1).map(|job| {
        let stage = job.stage.as_ref().map(|stage| format!(", in stage {stage}")).unwrap_or_default();
        let end = job.forecast.in_words().unwrap_or_else(|| "no earlier build tells when it ends".to_owned());
        format!("{} runs on {} for {}{stage}; {end}", job.job, job.agent, span(job.for_ms))
    }));
    lines.extend(why.lost.iter().map(|lost| lost.sentence("")));
    let not_run = why.not_run.iter().filter(|it| it.stage.is_none() && !said(&it.why) && !beside(&it.job));
    lines.extend(not_run.map(|job| format!("{}: {}", job.job, job.why)));
    lines.extend(
        why.cut_short
            .iter()
            .filter(|job| !said(&job.why) && !beside(&job.job))
            .map(|job| format!("{}: {}", job.job, job.why)),
    );
    lines.extend(why.incomplete.iter().map(|IncompleteLog { log, attempt, bytes, missing }| {
        let missing = missing.map_or_else(|| "its rest".to_owned(), size);
        format!("the log of {}, attempt {attempt}, has {} and misses {missing}", log.title(), size(*bytes))
    }));
    if view.logs_removed_ms.is_some() {
        lines.push("what its jobs printed is not kept any more: its logs were removed, as the farm is set".to_owned());
    }
    lines
}

/// The logs of a build, with their ends.
pub(super) async fn logs(web: &Web, whole: &Whole) -> Answer<Vec<LogShown>> {
    let view = &whole.view;
    let mut shown = Vec::new();
    for (place, mark) in &whole.logs {
        let log = mark.view();
        let Some(attempt) = view.attempts.iter().find(|attempt| attempt.attempt == *place) else { continue };
        let stage = attempt.stages.iter().find(|stage| stage.name.as_str() == log.name.as_str());
        let counts = last_attempts(view).any(|last| last.attempt == *place);
        let bad = matches!(
            stage.map(|stage| &stage.result),
            Some(Some(StageOutcome::Failed { .. } | StageOutcome::Errored { .. }))
        );
        let runs = stage.is_some_and(|stage| stage.result.is_none()) && attempt.ended_ms.is_none();
        let is_open = (bad && counts) || runs;
        let part = if is_open && shown.iter().filter(|log: &&LogShown| log.part.is_some()).count() < VIEWERS {
            let log = Log { build: view.build.number, attempt: *place, mark: mark.clone() };
            Some(LogPart::of(web, &log, None, false).await?)
        } else {
            None
        };
        let text =
            if part.is_some() { Vec::new().into() } else { tail(web, mark, LOG_SHOWN).await.map_err(unreadable)? };
        shown.push(LogShown {
            id: anchor(*place, log.name.as_str()),
            title: log_title(view, attempt.job.as_str(), log.name.title(), *place, counts),
            status: stage.map(|stage| stage.result.as_ref().map_or("running", StageOutcome::name)),
            took: stage.and_then(|stage| stage.duration_ms).filter(|ms| *ms > 0).map(took),
            size: size(log.bytes),
            page: format!("/builds/{}/logs/{}?attempt={place}", view.build.number.0, log.name),
            part,
            text: plain(&text),
            cut: log.bytes > LOG_SHOWN,
            gap: log.gap(),
            is_open: is_open || whole.logs.len() == 1,
        });
    }
    // What the jobs themselves said comes after their stages: it is seldom what somebody looks for.
    shown.sort_by_key(|log| log.status.is_none());
    Ok(shown)
}

/// What of the logs is news: not that one has grown, which its viewer hears by itself.
pub(super) fn heads(logs: &[LogShown]) -> String {
    let head = |log: &LogShown| {
        let grown = if log.part.is_some() { "" } else { &log.size };
        format!("{} {:?} {:?} {grown}\n", log.id, log.status, log.gap)
    };
    logs.iter().map(head).collect()
}

fn log_title(view: &BuildView, job: &str, log: &str, attempt: u32, counts: bool) -> String {
    let title = title(view, job, log);
    if counts { title } else { format!("{title}, attempt {attempt}") }
}

fn tests(view: &BuildView) -> Vec<TestsShown> {
    let stages = last_attempts(view).flat_map(|attempt| attempt.stages.iter().map(move |stage| (attempt, stage)));
    let shown =
        stages.filter(|(_, stage)| stage.tests.is_some() || stage.coverage.is_some()).map(|(attempt, stage)| {
            let tests = stage.tests.clone().unwrap_or_default();
            TestsShown {
                stage: title(view, &attempt.job, stage.name.as_str()),
                took: took(tests.duration_ms),
                tests,
                coverage: stage.coverage.map(|lines| format!("{}.{:02} %", lines / 100, lines % 100)),
            }
        });
    let mut all: Vec<TestsShown> = shown.collect();
    // Where tests failed comes first.
    all.sort_by_key(|one| one.tests.failed == 0);
    all
}

fn summaries(view: &BuildView) -> Vec<(String, String)> {
    let stages = last_attempts(view).flat_map(|attempt| attempt.stages.iter().map(move |stage| (attempt, stage)));
    let shown = stages
        .filter_map(|(attempt, stage)| Some((title(view, &attempt.job, stage.name.as_str()), stage.summary.clone()?)));
    shown.collect()
}

fn environment(Facts { view, plans, .. }: &Facts) -> Vec<Environment> {
    let one = |job: &str| {
        let known = view.jobs.iter().find(|it| it.key.as_str() == job);
        let plan = plans.iter().find(|(key, _)| key.as_str() == job).map(|(_, plan)| plan);
        let attempt = last_attempts(view).find(|attempt| attempt.job == job);
        let images = attempt.iter().flat_map(|attempt| &attempt.stages).filter(|stage| !stage.image.is_empty());
        Environment {
            job: job.to_owned(),
            agent: attempt.map(|attempt| attempt.agent.clone()),
            labels: known.map(|job| job.labels.to_string()).unwrap_or_default(),
            cell: known.iter().flat_map(|job| &job.cell).map(|it| (it.axis.clone(), it.value.clone())).collect(),
            images: images
                .map(|stage| ImageShown {
                    stage: stage.name.to_string(),
                    image: stage.image.clone(),
                    digest: stage.digest.clone(),
                })
                .collect(),
            inherited: plan.map(|plan| plan.inherit.clone()).unwrap_or_default(),
            variables: plan.map(|plan| plan.environment.clone()).unwrap_or_default(),
            inputs: plan.map(|plan| plan.inputs.clone()).unwrap_or_default(),
        }
    };
    if view.jobs.is_empty() {
        return last_attempts(view).map(|attempt| one(&attempt.job)).collect();
    }
    view.jobs.iter().map(|job| one(job.key.as_str())).collect()
}

fn plan_shown(job: &str, plan: &protocol::Plan) -> PlanShown {
    PlanShown {
        job: job.to_owned(),
        image: plan.image.to_string(),
        prepare: plan.prepare.iter().flat_map(|prepare| prepare.script.clone()).collect(),
        stages: plan.stages.iter().map(stage_shown).collect(),
    }
}

fn stage_shown(stage: &StagePlan) -> StagePlanShown {
    let when = match (&stage.skip, stage.run_on) {
        (Some(reason), _) => format!("skipped: {reason}"),
        (None, RunOn::Passed) => match &stage.needs {
            Some(needs) if needs.is_empty() => "runs at once".to_owned(),
            Some(needs) => {
                let needs: Vec<&str> = needs.iter().map(|need| need.as_str()).collect();
                format!("runs when {} passed", needs.join(", "))
            }
            None => "runs when those before it passed".to_owned(),
        },
        (None, RunOn::Failed) => "runs only when one before it failed".to_owned(),
        (None, RunOn::Always) => "runs in any case".to_owned(),
    };
    StagePlanShown {
        name: stage.name.to_string(),
        image: stage.image.as_ref().map(Image::to_string),
        when,
        script: stage.script.clone(),
        after: stage.after.clone(),
    }
}
