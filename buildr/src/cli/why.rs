//! `buildr why`: why a build waits, where it runs and until when, or how it came to its end.

use protocol::BuildNumber;
use protocol::api::{BuildRow, IncompleteLog, Loss, LostAttempt, RunningJob, Why, span};

use super::globals::Globals;
use super::look::{Look, Tone, clean};
use super::status::verdict;
use super::time::{age, moment, now};
use super::{CliError, exit, say};

/// The narrowest that a text is wrapped to.
const NARROWEST: usize = 30;

/// Say why a build waits, where it runs, or how it came to its end
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The build's number; without one, the newest build that waits, or else the newest one
    #[arg(value_parser = super::build_number)]
    build: Option<BuildNumber>,
    /// Print JSON, as the farm's API has it
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let why = globals.farm()?.why(args.build).await?;
    if args.json {
        say(&super::json(&why))?;
    } else {
        say(&shown(&why, &Look::of_stdout(globals.color()), now()))?;
    }
    Ok(exit::DONE)
}

/// A name and what belongs to it, for each line.
type Lines = Vec<(&'static str, String)>;

fn shown(why: &Why, look: &Look, now: u64) -> String {
    let mut lines = asked(why, now);
    let alone = why.waiting.len() + why.running.len() + why.not_run.len() <= 1;
    let of = |job: &dyn std::fmt::Display| if alone { String::new() } else { format!("{job}: ") };
    // The line's name says already that it waits.
    let sentence =
        |text: &str| text.strip_prefix("waits").unwrap_or(text).trim_start_matches(':').trim_start().to_owned();
    lines.extend(why.waiting.iter().map(|job| ("waits", of(&job.job) + &sentence(&job.sentence))));
    lines.extend(why.running.iter().map(|job| ("runs", format!("{}{}", of(&job.job), runs(job)))));
    if let Some(message) = why.build.message.as_ref().filter(|_| why.build.status.is_over()) {
        // The lines around a mistake in a manifest follow its first; they are in the job's log.
        lines.push(("ended", message.lines().next().unwrap_or_default().to_owned()));
    }
    lines.extend(why.lost.iter().map(|lost| lost_line(lost, now)));
    for skipped in &why.not_run {
        let what = skipped.stage.as_ref().map_or_else(|| skipped.job.to_string(), ToString::to_string);
        lines.push(("not run", format!("{what}: {}", skipped.why)));
    }
    lines.extend(why.cut_short.iter().map(|job| ("cut short", format!("{}: {}", job.job, job.why))));
    lines.extend(why.incomplete.iter().map(|log| ("log", incomplete(log))));
    let head = verdict(&BuildRow { message: None, ..why.build.clone() }, look, now);
    let lines = lines.iter().map(|(name, text)| line(name, text, look));
    format!("{head}\n{}", lines.collect::<String>())
}

fn asked(why: &Why, now: u64) -> Lines {
    let BuildRow { repo, branch, commit, subject, trigger, created_ms, .. } = &why.build;
    let branch = branch.as_ref().map(|branch| format!(" · {branch}")).unwrap_or_default();
    let mut lines = vec![("of", format!("{repo}{branch}"))];
    if let Some(commit) = commit {
        lines
            .push(("commit", format!("{} {}", commit.short(), subject.as_deref().unwrap_or("")).trim_end().to_owned()));
    }
    let by = why.by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default();
    let ago = age(now.saturating_sub(*created_ms));
    lines.push(("asked", format!("{trigger}{by}, {ago} ago ({})", moment(*created_ms))));
    lines
}

fn runs(job: &RunningJob) -> String {
    let stage = job.stage.as_ref().map(|stage| format!(", in stage {stage}")).unwrap_or_default();
    let end = job.forecast.in_words().unwrap_or_else(|| "no earlier build tells when it ends".to_owned());
    let seen = match job.seen_ms_ago {
        Some(ms @ 30_000..) => format!("; the agent was heard last {} ago", span(ms)),
        _ => String::new(),
    };
    format!("on {} for {}{stage}; {end}{seen}", job.agent, span(job.for_ms))
}

fn lost_line(lost: &LostAttempt, now: u64) -> (&'static str, String) {
    let ago = lost.ended_ms.map(|ended| format!(", {} ago", age(now.saturating_sub(ended)))).unwrap_or_default();
    if let Some(Loss::Errored { .. }) = lost.loss {
        return ("errored", lost.sentence(&ago));
    }
    let loss = lost.loss.as_ref().map(|loss| format!(": {loss}")).unwrap_or_default();
    ("lost", format!("attempt {} with agent {}{ago}{loss}", lost.attempt, lost.agent))
}

fn incomplete(log: &IncompleteLog) -> String {
    let IncompleteLog { attempt, log, bytes, missing } = log;
    let title = log.title();
    match missing {
        Some(missing) => format!("{title} of attempt {attempt} is incomplete: {missing} bytes are missing"),
        None => format!(
            "{title} of attempt {attempt} is incomplete: its agent went silent after {bytes} bytes, and nobody knows how many are missing"
        ),
    }
}

/// A line with its name, wrapped where the terminal ends.
fn line(name: &str, text: &str, look: &Look) -> String {
    const INDENT: usize = 11;
    let room = look.width.map_or(usize::MAX, |width| width.saturating_sub(INDENT).max(NARROWEST));
    let mut out = format!("  {}", look.paint(Tone::Faint, &format!("{name:9}")));
    let mut column = 0;
    for word in clean(text).split(' ') {
        let width = console::measure_text_width(word);
        if column > 0 && column + 1 + width > room {
            out += &format!("\n{:INDENT$}", "");
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out += word;
        column += width;
    }
    out + "\n"
}

#[cfg(test)]
mod tests {
    use protocol::api::{BusyQueue, Forecast, Loss, NotRun, Status, WaitReason, WaitingJob};

    use super::super::builds::tests::row;
    use super::*;

    fn nothing(build: BuildRow) -> Why {
        let by = Some("ada@laptop".to_owned());
        Why {
            build,
            by,
            waiting: vec![],
            running: vec![],
            lost: vec![],
            not_run: vec![],
            cut_short: vec![],
            incomplete: vec![],
        }
    }

    #[track_caller]
    fn check(why: &Why, width: Option<usize>, expect: &str) {
        let text = shown(why, &Look::plain(width), 1_120_000);
        assert_eq!(text.replace(&moment(1_000_000), "MOMENT"), expect);
    }

    #[test]
    fn a_build_that_waits() {
        let busy = WaitReason::AllBusy(BusyQueue { position: 3, slots: 2, expected_ms: Some(180_000) });
        let agent = "a1".parse().unwrap();
        let sentence = WaitingJob::sentence(&busy, 2, Some(&agent), None);
        let job = WaitingJob {
            job: "build".parse().unwrap(),
            attempt: 2,
            lost_with: Some(agent.clone()),
            errored: None,
            for_ms: 120_000,
            why: busy,
            sentence,
        };
        let lost = LostAttempt {
            job: "build".parse().unwrap(),
            attempt: 1,
            agent,
            started_ms: 1_000_000,
            ended_ms: Some(1_060_000),
            loss: Some(Loss::Silent { for_ms: 62_000 }),
        };
        let build = BuildRow { commit: None, subject: None, started_ms: None, ..row(7, Status::Queued) };
        check(
            &Why { waiting: vec![job], lost: vec![lost], ..nothing(build) },
            Some(80),
            "\
build #7 queued for 2m
  of       https://example.org/team/parser.git · main
  asked    manual, by ada@laptop, 2m ago (MOMENT)
  waits    for a free slot: all 2 are taken; number 3 in the queue, expected to
           begin in 3 min; this is attempt 2: attempt 1 was lost with agent a1
  lost     attempt 1 with agent a1, 1m ago: its agent gave no sign of life for 1
           min 2 s
",
        );
    }

    #[test]
    fn a_build_that_runs() {
        let job = |name: &str, forecast, seen_ms_ago| RunningJob {
            job: name.parse().unwrap(),
            attempt: 1,
            agent: "oak".parse().unwrap(),
            for_ms: 65_000,
            stage: Some("test".parse().unwrap()),
            forecast,
            seen_ms_ago,
        };
        let ends = |expected_ms, usual_ms| Forecast { expected_ms, usual_ms: Some(usual_ms) };
        let running = vec![
            job("one", Forecast::default(), Some(40_000)),
            job("two", ends(Some(9_000), 74_000), Some(1_000)),
            job("three", ends(None, 12_000), Some(1_000)),
            job("four", ends(None, 400), Some(1_000)),
        ];
        check(
            &Why { running, ..nothing(row(7, Status::Running)) },
            None,
            "\
build #7 running for 1m 58s
  of       https://example.org/team/parser.git · main
  commit   01234567 fix the parser
  asked    manual, by ada@laptop, 2m ago (MOMENT)
  runs     one: on oak for 1 min 5 s, in stage test; no earlier build tells when it ends; the agent was heard last 40 s ago
  runs     two: on oak for 1 min 5 s, in stage test; expected to end in 9 s
  runs     three: on oak for 1 min 5 s, in stage test; longer than usual (12 s)
  runs     four: on oak for 1 min 5 s, in stage test; longer than usual (less than 1 s)
",
        );
    }

    #[test]
    fn a_build_that_is_over() {
        let build = BuildRow { message: Some("test failed: exit code 1\nmore".to_owned()), ..row(7, Status::Failed) };
        let not_run = NotRun {
            job: "build".parse().unwrap(),
            stage: Some("deploy".parse().unwrap()),
            why: "test failed".to_owned(),
        };
        let log = |missing| IncompleteLog { attempt: 1, log: "test".parse().unwrap(), bytes: 9, missing };
        check(
            &Why { not_run: vec![not_run], incomplete: vec![log(Some(7)), log(None)], ..nothing(build) },
            None,
            "\
build #7 failed in 34.5s
  of       https://example.org/team/parser.git · main
  commit   01234567 fix the parser
  asked    manual, by ada@laptop, 2m ago (MOMENT)
  ended    test failed: exit code 1
  not run  deploy: test failed
  log      test of attempt 1 is incomplete: 7 bytes are missing
  log      test of attempt 1 is incomplete: its agent went silent after 9 bytes, and nobody knows how many are missing
",
        );
    }
}
