//! How a build ended, in words: a line for a stage, and the block at the end with what failed, why, and what to do next.

use std::path::Path;
use std::time::Duration;

use protocol::report::{TestFailure, Tests};
use protocol::{Ending, LogName, Outcome, StageOutcome};

use super::account::{Account, StageAccount, State};
use super::harmless::{Colors, Harmless};
use super::record::{Record, excerpt};
use crate::cli::look::{Look, Tone, clean};
use crate::cli::time;

/// How many skipped stages are named one by one: more of them would push what failed out of sight.
const SKIPPED_BY_NAME: usize = 4;
/// How many failed stages are shown with their last lines.
const SHOWN: usize = 5;
/// How many lines of a failed stage's output are shown.
const LINES: usize = 12;
/// Within how many of its last lines the first that tells of an error is looked for.
const LOOKED_THROUGH: usize = 60;
/// How many failing tests of a stage are named.
const TESTS: usize = 10;

/// What is shown at the end beyond what happened.
#[derive(Debug, Default)]
pub(crate) struct Next {
    /// What a person may want to do now: what it is for, and the command.
    pub(crate) commands: Vec<(&'static str, String)>,
}

/// A stage's mark on a terminal.
pub(super) fn mark(look: Look, result: &StageOutcome) -> String {
    let sign = match result {
        StageOutcome::Passed => "✓",
        StageOutcome::Failed { .. } | StageOutcome::Errored { .. } | StageOutcome::Cancelled => "✗",
        StageOutcome::AllowedFailure { .. } => "!",
        StageOutcome::Skipped { .. } => "–",
    };
    look.paint(tone(result), sign)
}

/// A stage's end in the middle of a line: `passed (3.2s)`.
pub(super) fn ended_in_words(look: Look, how: &str, result: &StageOutcome, took: Duration) -> String {
    let word = look.paint(tone(result), &result.name().replace('_', " "));
    let detail = if how.is_empty() { detail(result) } else { how.to_owned() };
    let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
    format!("{word}{detail} ({})", duration(took))
}

/// What a person wants to know of a stage's end in a line. An error's sentence is the build's, and stands below.
pub(super) fn detail(result: &StageOutcome) -> String {
    match result {
        StageOutcome::Errored { cause, .. } => cause.name().replace('_', " "),
        StageOutcome::Failed { end } | StageOutcome::AllowedFailure { end } => end.in_words(),
        _ => clean(&result.detail().unwrap_or_default()).into_owned(),
    }
}

pub(super) fn duration(time: Duration) -> String {
    time::duration(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

pub(super) fn tone(result: &StageOutcome) -> Tone {
    match result {
        StageOutcome::Passed => Tone::Good,
        StageOutcome::Failed { .. } | StageOutcome::Errored { .. } => Tone::Bad,
        StageOutcome::AllowedFailure { .. } | StageOutcome::Cancelled => Tone::Odd,
        StageOutcome::Skipped { .. } => Tone::Faint,
    }
}

fn tone_of(outcome: Outcome) -> Tone {
    match outcome {
        Outcome::Passed => Tone::Good,
        Outcome::Failed | Outcome::Errored { .. } => Tone::Bad,
        Outcome::Cancelled => Tone::Odd,
    }
}

/// The block at the end.
pub(super) struct Verdict<'a> {
    pub(super) account: &'a Account,
    pub(super) record: &'a Record,
    pub(super) look: Look,
    pub(super) ending: &'a Ending,
    pub(super) took: Duration,
    /// The log that was shown last: nobody needs to see its last lines again.
    pub(super) last_shown: Option<&'a Path>,
    pub(super) next: &'a Next,
}

impl Verdict<'_> {
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![String::new()];
        self.failures(&mut lines);
        self.stages(&mut lines);
        self.kept(&mut lines);
        lines.push(self.last_line());
        let width = self.next.commands.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0) + 1;
        for (what, command) in &self.next.commands {
            let what = self.look.paint(Tone::Faint, &format!("{:<width$}", format!("{what}:")));
            lines.push(format!("  {what} {command}"));
        }
        lines
    }

    /// Every stage that failed, with what it said last.
    fn failures(&self, lines: &mut Vec<String>) {
        for stage in self.account.stages.iter().filter(|stage| stage.is_bad()).take(SHOWN) {
            let State::Over(result, _) = &stage.state else { continue };
            let log = LogName::from(&stage.stage);
            let path = self.record.log_path(self.account, stage.job.as_ref(), &log);
            let mut shown: Vec<String> = Vec::new();
            if self.last_shown != Some(&path) {
                let bar = self.look.paint(Tone::Faint, "│");
                shown.extend(relevant(&path, self.look).into_iter().map(|line| format!("  {bar} {line}")));
            }
            if let Some(tests) = &stage.tests {
                self.tests(tests, &mut shown);
            }
            if shown.is_empty() {
                continue;
            }
            let title = self.look.paint(Tone::Strong, &self.account.title(stage.job.as_ref(), &stage.stage));
            let word = self.look.paint(tone(result), result.name());
            lines.push(format!("{title} {word}: {}", detail(result)));
            lines.append(&mut shown);
            lines.push(String::new());
        }
    }

    fn tests(&self, tests: &Tests, lines: &mut Vec<String>) {
        for TestFailure { name, message, file } in tests.failures.iter().take(TESTS) {
            let place = file.as_ref().map_or_else(String::new, |file| format!(" ({})", clean(file)));
            lines.push(format!("  {} {}{place}", self.look.paint(Tone::Bad, "✗"), clean(name)));
            if let Some(line) = message.lines().map(clean).find(|line| !line.is_empty()) {
                lines.push(format!("      {line}"));
            }
        }
        let more = (tests.failed as usize).saturating_sub(tests.failures.len().min(TESTS));
        if more > 0 {
            lines.push(format!("  and {more} more failing tests"));
        }
    }

    /// A line for each stage.
    fn stages(&self, lines: &mut Vec<String>) {
        let stages: Vec<(&StageAccount, &StageOutcome, Duration)> = self
            .account
            .stages
            .iter()
            .filter_map(|stage| match &stage.state {
                State::Over(result, took) => Some((stage, result, *took)),
                State::Running(_) => None,
            })
            .collect();
        // The stages after the one that ended the build are skipped, so these are the last.
        let is_skipped = |(_, result, _): &&(_, &StageOutcome, _)| matches!(result, StageOutcome::Skipped { .. });
        let skipped = stages.iter().rev().take_while(is_skipped).count();
        let named = if skipped > SKIPPED_BY_NAME { stages.len() - skipped } else { stages.len() };
        let (named, rest) = stages.split_at(named);
        let title = |stage: &StageAccount| self.account.title(stage.job.as_ref(), &stage.stage);
        let width = named.iter().map(|(stage, ..)| title(stage).chars().count()).max().unwrap_or(0);
        let words = stages.iter().map(|(_, result, _)| result.name().len()).max().unwrap_or(0).max(9);
        for (stage, result, took) in named {
            let mark = self.look.paint(tone(result), &format!("{:<words$}", result.name().replace('_', " ")));
            let took = if took.is_zero() { String::new() } else { duration(*took) };
            let tries = if stage.tries > 0 { format!(" (try {})", stage.tries + 1) } else { String::new() };
            let line = format!("{mark} {:<width$}  {took:>8}  {}{}{tries}", title(stage), stage.how(), detail(result));
            lines.push(line.trim_end().to_owned());
        }
        if let [(first, result, _), .., (last, ..)] = rest {
            let mark = self.look.paint(tone(result), &format!("{:<words$}", result.name()));
            let (from, to) = (title(first), title(last));
            lines.push(format!("{mark} {} stages, {from} to {to}: {}", rest.len(), detail(result)));
        }
        for (job, reason) in &self.account.passed_over {
            let mark = self.look.paint(Tone::Faint, &format!("{:<words$}", "skipped"));
            lines.push(format!("{mark} {}: {}", clean(job), clean(reason)));
        }
    }

    /// Where the files are that were kept.
    fn kept(&self, lines: &mut Vec<String>) {
        for stage in &self.account.stages {
            let Some(kept) = &stage.kept else { continue };
            let files = if kept.files == 1 { "1 file".to_owned() } else { format!("{} files", kept.files) };
            let place = shown(&self.record.artifacts_path(self.account, stage.job.as_ref(), &stage.stage));
            let what = self.look.paint(Tone::Faint, "artifacts:");
            lines.push(format!("{what} {place} ({files}, {})", size(kept.bytes)));
        }
    }

    fn last_line(&self) -> String {
        let outcome = self.look.paint(tone_of(self.ending.outcome), &self.ending.outcome.to_string());
        let mut parts = vec![match &self.ending.message {
            Some(message) => format!("{outcome}: {} ({})", message.trim_end(), duration(self.took)),
            None => format!("{outcome} in {}", duration(self.took)),
        }];
        let tests: Vec<&Tests> = self.account.stages.iter().filter_map(|stage| stage.tests.as_ref()).collect();
        let failed: u32 = tests.iter().map(|tests| tests.failed).sum();
        let passed: u32 = tests.iter().map(|tests| tests.passed).sum();
        match (failed, passed) {
            (0, 0) => {}
            (0, 1) => parts.push("1 test passed".to_owned()),
            (0, passed) => parts.push(format!("{passed} tests passed")),
            (failed, passed) => parts.push(format!("{failed} of {} tests failed", failed + passed)),
        }
        let covered = self.account.stages.iter().filter_map(|stage| stage.coverage.map(|lines| (stage, lines)));
        let covered: Vec<(&StageAccount, u32)> = covered.collect();
        for (stage, lines) in &covered {
            let whose = if covered.len() > 1 {
                format!(" by {}", self.account.title(stage.job.as_ref(), &stage.stage))
            } else {
                String::new()
            };
            parts.push(format!("{}.{:02}% of the lines covered{whose}", lines / 100, lines % 100));
        }
        parts.join(" · ")
    }
}

/// A path as a person here would type it.
pub(crate) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    clean(&short.unwrap_or_else(|| path.to_owned()).to_string_lossy()).into_owned()
}

/// A size in bytes as people read it.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let (mut amount, mut unit) = (bytes as f64 / 1024.0, 0);
    while amount >= 1023.95 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

/// What a line has that tells of an error.
const SIGNS: [&str; 9] =
    ["error", "failed", "failure", "panicked", "traceback", "assert", "fatal", "not found", "exception"];

/// The lines of a log that most likely say why its stage failed: from the first of the last ones that tells of an
/// error, and else the last ones.
fn relevant(path: &Path, look: Look) -> Vec<String> {
    let colors = if look.is_colored() { Colors::Pass } else { Colors::Drop };
    let (mut harmless, mut plain) = (Harmless::default(), Harmless::default());
    let mut lines = Vec::new();
    for bytes in excerpt(path, 0, LOOKED_THROUGH).tail {
        let bare = plain.add(&bytes, Colors::Drop).into_iter().chain(plain.close());
        let shown = harmless.add(&bytes, colors).into_iter().chain(harmless.close());
        lines.extend(bare.zip(shown).filter(|(bare, _)| !bare.trim().is_empty()));
    }
    let tells = |(bare, _): &(String, String)| {
        let bare = bare.to_lowercase();
        !bare.starts_with("$ ") && SIGNS.iter().any(|sign| bare.contains(sign))
    };
    let last = lines.len().saturating_sub(LINES);
    let from = lines.iter().position(tells).map_or(last, |first| first.min(last));
    let left_out = lines.len().saturating_sub(from + LINES);
    let mut chosen: Vec<String> = lines.into_iter().skip(from).take(LINES).map(|(_, shown)| shown).collect();
    if left_out > 0 {
        chosen.push(format!("… {left_out} more lines"));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, expect) in
            [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (1 << 20, "1.0 MiB"), (5 << 40, "5.0 TiB")]
        {
            assert_eq!(size(bytes), expect);
        }
    }

    #[test]
    fn the_lines_that_say_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let check = |text: String, expect: &[&str]| {
            std::fs::write(&path, text).unwrap();
            assert_eq!(relevant(&path, Look::plain(None)), expect);
        };
        check("$ cargo error\none\n\n\x1b[2Jtwo".to_owned(), &["$ cargo error", "one", "two"]);
        let lines: String = (1..=30).map(|number| format!("{number}\n")).collect();
        let last: Vec<String> = (19..=30).map(|number| number.to_string()).collect();
        check(lines.clone(), &last.iter().map(String::as_str).collect::<Vec<_>>());
        check(
            format!("ok\nTest x FAILED\nbecause\n{lines}"),
            &["Test x FAILED", "because", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "… 20 more lines"],
        );
    }
}
