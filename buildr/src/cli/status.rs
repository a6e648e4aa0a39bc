//! `buildr status`: one build whole, with its attempts and stages.

use std::fmt::Write as _;

use protocol::api::{AttemptView, BuildRow, BuildView, JobView, PLANNING_KEY, StageView, Status};
use protocol::report::Tests;
use protocol::{BuildNumber, StageName, StageOutcome};

use super::globals::Globals;
use super::look::{Look, Tone, clean, tone};
use super::time::{age, duration, moment, now, run_time};
use super::{CliError, exit, say};

/// Show one build with its attempts and stages
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The build's number
    #[arg(value_parser = super::build_number)]
    build: BuildNumber,
    /// Print JSON, as the farm's API has it
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let view = globals.farm()?.build(args.build).await?;
    if args.json {
        say(&super::json(&view))?;
        return Ok(exit::DONE);
    }
    let mut text = shown(&view, &Look::of_stdout(globals.color()), now());
    let number = view.build.number.0;
    if view.attempts.iter().any(|attempt| !attempt.logs.is_empty()) {
        // Written into a String, it never fails.
        writeln!(text, "\noutput: {}", globals.command(&format!("logs {number}"))).ok();
    }
    say(&text)?;
    Ok(exit::DONE)
}

/// Where a build stands, in one line.
pub(super) fn verdict(build: &BuildRow, look: &Look, now: u64) -> String {
    let took = match (build.status, run_time(build, now)) {
        (Status::Queued, _) => format!(" for {}", age(now.saturating_sub(build.created_ms))),
        (Status::Running | Status::Cancelling, Some(time)) => format!(" for {}", duration(time)),
        (_, Some(time)) => format!(" in {}", duration(time)),
        (_, None) => String::new(),
    };
    // The lines around a mistake in a manifest follow its first; they are in the job's log.
    let first = build.message.as_ref().and_then(|message| message.lines().next());
    let message = first.map(|message| format!(": {}", clean(message))).unwrap_or_default();
    format!("build {} {}{took}{message}", build.number, look.paint(tone(build.status), build.status.name()))
}

fn shown(view: &BuildView, look: &Look, now: u64) -> String {
    let build = &view.build;
    let mut text = verdict(build, look, now) + "\n";
    let mut line = |name: &str, value: &str| {
        text += &format!("  {}{}\n", look.paint(Tone::Faint, &format!("{name:9}")), clean(value));
    };
    line("repo", &build.repo);
    if let Some(branch) = &build.branch {
        line("branch", branch.as_str());
    }
    if let Some(commit) = &build.commit {
        line("commit", format!("{} {}", commit.short(), build.subject.as_deref().unwrap_or("")).trim_end());
    }
    line("trigger", &build.trigger);
    let ago = age(now.saturating_sub(build.created_ms));
    line("created", &format!("{ago} ago, {}", moment(build.created_ms)));
    if let Some(started) = build.started_ms {
        line("waited", &duration(started.saturating_sub(build.created_ms)));
    }
    if let Some(of) = view.restart_of {
        line("restart", &format!("of build {of}"));
    }
    if !view.restarts.is_empty() {
        let builds: Vec<String> = view.restarts.iter().map(|number| format!("build {number}")).collect();
        line("again", &format!("as {}", builds.join(", ")));
    }
    if view.pinned {
        line("pinned", "it is kept, however old it becomes");
    }
    let gone = [(view.logs_removed_ms, "output"), (view.artifacts_removed_ms, "artifacts")];
    for (removed_ms, what) in gone.iter().filter_map(|(ms, what)| Some(((*ms)?, what))) {
        line("removed", &format!("its {what}, {} ago, as the farm is set", age(now.saturating_sub(removed_ms))));
    }
    for input in &view.inputs {
        line("input", &format!("{}={}", input.name, input.value));
    }
    text += &jobs_shown(view, look);
    for attempt in &view.attempts {
        text += &attempt_shown(attempt, look, now);
    }
    text
}

/// The jobs with their stages and reasons, when there are several; and what of the build is in none.
fn jobs_shown(view: &BuildView, look: &Look) -> String {
    let mut text = String::new();
    if view.jobs.len() > 1 || view.jobs.iter().any(|job| job.gate.is_some() || job.group.is_some()) {
        text.push('\n');
        let width = view.jobs.iter().map(|job| job.key.as_str().chars().count()).max().unwrap_or(0);
        for job in &view.jobs {
            text += &job_shown(job, width, look);
        }
    }
    for skipped in &view.skipped {
        let (word, reason) = (look.paint(Tone::Faint, "skipped  "), clean(&skipped.reason));
        text += &format!("  {word}  {}: {reason}\n", skipped.stage);
    }
    text
}

fn job_shown(job: &JobView, width: usize, look: &Look) -> String {
    let status = look.paint(tone(job.status), &format!("{:10}", job.status.name()));
    let stages: Vec<&str> = job.stages.iter().map(StageName::as_str).collect();
    let mut line = format!("  {status} {:width$}  {}", clean(job.key.as_str()), stages.join(", "));
    if let Some(by) = job.gate.as_ref().and_then(|gate| gate.approved_by.as_ref()) {
        line += &format!("  approved by {}", clean(by));
    }
    if let Some(build) = job.downstream {
        line += &format!("  build {build}");
    }
    let first = job.message.as_ref().and_then(|message| message.lines().next());
    let message = first.map(|message| format!("\n             {}", clean(message))).unwrap_or_default();
    format!("{}{message}\n", line.trim_end())
}

/// What was read of a stage for people: its tests, those that failed first, and how much they covered.
fn details_shown(stage: &StageView, look: &Look) -> String {
    let mut text = String::new();
    if let Some(Tests { passed, failed, skipped, failures, .. }) = &stage.tests {
        for failure in failures {
            let place = failure.file.as_ref().map(|file| format!(" ({})", clean(file))).unwrap_or_default();
            text += &format!("      {} {}{place}\n", look.paint(Tone::Bad, "failed"), clean(&failure.name));
        }
        text += &format!("      tests: {failed} failed, {passed} passed, {skipped} skipped\n");
    }
    if let Some(lines) = stage.coverage {
        text += &format!("      coverage: {}.{:02} % of the lines\n", lines / 100, lines % 100);
    }
    for tried in &stage.tries {
        let detail = tried.result.detail().map(|detail| format!(", {}", clean(&detail))).unwrap_or_default();
        text += &format!("      try {}: {}{detail}\n", tried.number, tried.result.name());
    }
    if let Some(kept) = &stage.artifacts {
        text += &format!("      artifacts: {} files, {} bytes\n", kept.files, kept.bytes);
    }
    text
}

fn attempt_shown(attempt: &AttemptView, look: &Look, now: u64) -> String {
    let took = duration(attempt.ended_ms.unwrap_or(now).saturating_sub(attempt.started_ms));
    let job = if attempt.job == "build" || attempt.job == PLANNING_KEY {
        String::new()
    } else {
        format!(" of {}", clean(&attempt.job))
    };
    let (agent, state) = (clean(&attempt.agent), clean(&attempt.state));
    let mut text = format!("\nattempt {}{job} on {agent}: {state}, {took}\n", attempt.attempt);
    let widest = |width: fn(&StageView) -> usize| attempt.stages.iter().map(width).max().unwrap_or(0);
    let (name, image) = (widest(|stage| stage.name.as_str().len()), widest(|stage| stage.image.chars().count()));
    for stage in &attempt.stages {
        let (tone, word) = result(stage.result.as_ref());
        let time = stage.duration_ms.map(duration).unwrap_or_default();
        let detail = stage.result.as_ref().and_then(StageOutcome::detail).unwrap_or_default();
        let line = format!(
            "  {}  {:name$}  {:image$}  {time:>8}  {}",
            look.paint(tone, &format!("{word:14}")),
            stage.name.as_str(),
            clean(&stage.image),
            clean(&detail),
        );
        text += line.trim_end();
        text.push('\n');
        text += &details_shown(stage, look);
    }
    let lost = attempt.logs.iter().filter(|log| log.missing > 0);
    for log in lost {
        text += &format!("  {} bytes of the output of {} are lost\n", log.missing, log.name.title());
    }
    text
}

fn result(result: Option<&StageOutcome>) -> (Tone, &'static str) {
    match result {
        None => (Tone::Busy, "running"),
        Some(StageOutcome::Passed) => (Tone::Good, "passed"),
        Some(StageOutcome::AllowedFailure { .. }) => (Tone::Odd, "failed, allowed"),
        Some(StageOutcome::Failed { .. }) => (Tone::Bad, "failed"),
        Some(StageOutcome::Errored { .. }) => (Tone::Bad, "errored"),
        Some(StageOutcome::Cancelled) => (Tone::Odd, "cancelled"),
        Some(StageOutcome::Skipped { .. }) => (Tone::Faint, "skipped"),
    }
}

#[cfg(test)]
mod tests {
    use protocol::StageEnd;
    use protocol::api::LogView;

    use super::super::builds::tests::row;
    use super::*;

    fn stage(name: &str, result: Option<StageOutcome>, duration_ms: Option<u64>) -> StageView {
        StageView { result, duration_ms, ..StageView::new(name.parse().unwrap(), "debian:bookworm") }
    }

    #[test]
    fn a_build_whole() {
        let failed = StageOutcome::Failed { end: StageEnd::Exited { code: 1 } };
        let skipped = StageOutcome::Skipped { reason: "an earlier stage failed".to_owned() };
        let attempt = AttemptView {
            job: "build".to_owned(),
            attempt: 1,
            agent: "oak".to_owned(),
            state: "failed".to_owned(),
            started_ms: 1_002_000,
            ended_ms: Some(1_036_500),
            loss: None,
            stages: vec![
                stage("build", Some(StageOutcome::Passed), Some(31_000)),
                stage("test", Some(failed), Some(3_500)),
                stage("deploy", Some(skipped), None),
            ],
            logs: vec![LogView {
                name: "test".parse().unwrap(),
                bytes: 10,
                complete: true,
                missing: 7,
                incomplete: true,
            }],
        };
        let message = Some("stage test: exit code 1".to_owned());
        let build = BuildRow { message, ..row(12, Status::Failed) };
        let text = shown(
            &BuildView { exit_code: Some(1), attempts: vec![attempt], ..BuildView::new(build) },
            &Look::plain(None),
            1_120_000,
        );
        let expect = "\
build #12 failed in 34.5s: stage test: exit code 1
  repo     https://example.org/team/parser.git
  branch   main
  commit   01234567 fix the parser
  trigger  manual
  created  2m ago, MOMENT
  waited   2.0s

attempt 1 on oak: failed, 34.5s
  passed          build   debian:bookworm     31.0s
  failed          test    debian:bookworm      3.5s  exit code 1
  skipped         deploy  debian:bookworm            an earlier stage failed
  7 bytes of the output of test are lost
";
        assert_eq!(text.replace(&moment(1_000_000), "MOMENT"), expect);
    }

    #[test]
    fn a_verdict_for_each_status() {
        let never = BuildRow { started_ms: None, ..row(3, Status::Cancelled) };
        for (build, expect) in [
            (row(1, Status::Passed), "build #1 passed in 34.5s"),
            (row(2, Status::Running), "build #2 running for 8.0s"),
            (
                BuildRow { message: Some("waits".to_owned()), ..row(2, Status::Queued) },
                "build #2 queued for 10s: waits",
            ),
            (never, "build #3 cancelled"),
        ] {
            assert_eq!(verdict(&build, &Look::plain(None), 1_010_000), expect);
        }
    }
}
