//! What failed of a build, with the lines of its log that say why: so that nobody has to look for them.

use std::io;

use protocol::LogName;
use protocol::StageOutcome;
use protocol::report::TestFailure;

use super::first_error::first_error;
use super::jobs::anchor;
use super::verdict::{FailedStage, failed_stages, title};
use crate::store::LogMark;
use crate::web::Web;
use crate::web::api::Whole;
use crate::web::follow::read;
use crate::web::text::plain;

/// How many failed stages are shown with their lines.
const SHOWN: usize = 5;

/// How many failing tests of a stage are named.
const TESTS: usize = 20;

/// How much of the end of a log is looked through, in bytes.
const LOOKED_THROUGH: u64 = 256 << 10;

/// Up to how many bytes of a log its lines are counted, so that those shown have their numbers.
const COUNTED: u64 = 32 << 20;

/// How much is read at once for that.
const PIECE: u64 = 1 << 20;

/// How many lines are shown before the one that says why.
const BEFORE: usize = 4;

/// How many from it on.
const AFTER: usize = 11;

/// How many characters of a line are shown.
const WIDEST: usize = 400;

/// A stage that failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// What people call it.
    pub(super) title: String,
    /// Where its log stands on the page.
    pub(super) anchor: Option<String>,
    /// Its log's own page.
    page: String,
    /// How it ended.
    pub(super) how: String,
    /// Whether the farm is at fault.
    pub(super) errored: bool,
    /// The lines that say why.
    pub(super) lines: Vec<Line>,
    /// The tests that failed.
    pub(super) tests: Vec<TestFailure>,
    /// How many failed that are not named.
    pub(super) more_tests: u64,
}

impl Failure {
    /// Where a line stands on the log's own page.
    pub(super) fn line(&self, number: &u64) -> String {
        format!("{}&from={}#L{number}", self.page, number.saturating_sub(AROUND).max(1))
    }
}

/// How many lines before one are on the page that a link to it leads to.
const AROUND: u64 = 100;

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number, where it is known; 1 is the first.
    pub(super) number: Option<u64>,
    /// What it says.
    pub(super) text: String,
    /// Whether it is the one that says why.
    pub(super) says_why: bool,
}

/// What failed of a build.
pub(super) async fn failures(web: &Web, whole: &Whole) -> io::Result<Vec<Failure>> {
    let mut failures = Vec::new();
    for FailedStage { attempt, stage } in failed_stages(&whole.view).into_iter().take(SHOWN) {
        let name = LogName::from(&stage.name);
        let mark = whole.logs.iter().find(|(place, mark)| *place == attempt.attempt && mark.log == name);
        let (how, errored) = match &stage.result {
            Some(StageOutcome::Failed { end }) => (end.in_words(), false),
            Some(StageOutcome::Errored { message, .. }) => (message.clone(), true),
            _ => (String::new(), false),
        };
        let tests = stage.tests.as_ref();
        let named: Vec<TestFailure> = tests.iter().flat_map(|tests| &tests.failures).take(TESTS).cloned().collect();
        failures.push(Failure {
            title: title(&whole.view, &attempt.job, stage.name.as_str()),
            anchor: mark.map(|_| anchor(attempt.attempt, name.as_str())),
            page: format!("/builds/{}/logs/{name}?attempt={}", whole.view.build.number.0, attempt.attempt),
            how,
            errored,
            lines: match mark {
                Some((_, mark)) => excerpt(web, mark).await?,
                None => Vec::new(),
            },
            more_tests: tests.map_or(0, |tests| u64::from(tests.failed).saturating_sub(named.len() as u64)),
            tests: named,
        });
    }
    Ok(failures)
}

async fn excerpt(web: &Web, mark: &LogMark) -> io::Result<Vec<Line>> {
    let from = mark.bytes.saturating_sub(LOOKED_THROUGH);
    let bytes = read(web, &mark.place, from, mark.bytes - from).await?;
    // Where it begins in the middle of a line, that line is left out.
    let skipped = if from == 0 { 0 } else { bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1) };
    let before = match from {
        0 => Some(0),
        _ if mark.bytes > COUNTED => None,
        _ => Some(count_lines(web, mark, from + skipped as u64).await?),
    };
    Ok(choose(&plain(&bytes[skipped..]), before))
}

/// How many lines end before a place in a log.
async fn count_lines(web: &Web, mark: &LogMark, to: u64) -> io::Result<u64> {
    let (mut at, mut lines) = (0, 0);
    while at < to {
        let piece = read(web, &mark.place, at, PIECE.min(to - at)).await?;
        if piece.is_empty() {
            break;
        }
        at += piece.len() as u64;
        lines += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
    Ok(lines)
}

/// The lines around the one that says why, or else the last ones. `before` is how many lines stand before the text.
fn choose(text: &str, before: Option<u64>) -> Vec<Line> {
    let mut lines: Vec<&str> = text.lines().collect();
    while lines.last().is_some_and(|line| line.trim().is_empty()) {
        lines.pop();
    }
    let why = first_error(&lines);
    let from = match why {
        Some(why) => why.saturating_sub(BEFORE),
        None => lines.len().saturating_sub(BEFORE + AFTER),
    };
    let from = from + lines.iter().skip(from).take_while(|line| line.trim().is_empty()).count();
    let shown = lines.iter().enumerate().skip(from).take(BEFORE + AFTER);
    let line = |(place, text): (usize, &&str)| Line {
        number: before.map(|before| before + place as u64 + 1),
        text: shortened(text),
        says_why: why == Some(place),
    };
    shown.map(line).collect()
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(WIDEST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, before: Option<u64>, expect: &str) {
        let shown = |line: &Line| {
            let number = line.number.map(|number| number.to_string()).unwrap_or_default();
            format!("{number}{}{}", if line.says_why { ">" } else { " " }, line.text)
        };
        assert_eq!(choose(text, before).iter().map(shown).collect::<Vec<_>>().join("|"), expect);
    }

    #[test]
    fn the_lines_around_the_one_that_says_why() {
        check("a\nb\nc\nd\ne\nerror: no\nf\n\n\n", Some(10), "12 b|13 c|14 d|15 e|16>error: no|17 f");
        check("error: no\nx", None, ">error: no| x");
        check("", Some(0), "");
        let many: String = (1..=40).map(|n| format!("{n}\n")).collect();
        assert_eq!(choose(&many, Some(0)).first().and_then(|line| line.number), Some(26));
        assert_eq!(choose(&"ü".repeat(500), None)[0].text.chars().count(), WIDEST + 1);
    }
}
