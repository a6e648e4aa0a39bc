//! A build on a terminal: what is over scrolls up, and below stands a line for each stage that runs.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Instant;

use console::{measure_text_width, truncate_str};
use protocol::{JobKey, LogName, StageName, StageOutcome};

use super::account::{Account, Place, State, stage_of};
use super::harmless::{Colors, Harmless};
use super::record::excerpt;
use super::{plain, verdict};
use crate::cli::look::{Look, Tone, clean};

/// How many lines of a failed stage's output are shown from its beginning, and from its end.
const HEAD: usize = 40;
const TAIL: usize = 160;
/// How many stages in a row are said to be skipped, each in a line. The block at the end has them all.
const SKIPPED: usize = 4;
/// How many bytes wait at most while a question stands there.
const MOST_HELD: usize = 1 << 20;
/// What shows that time goes on.
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// A terminal that says nothing of its size has this one, as they all once had.
const USUAL: Size = Size { rows: 24, columns: 80 };

/// How large a terminal is, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Size {
    /// That of the terminal behind stdout, now.
    pub(super) fn of_stdout() -> Self {
        let size = console::Term::stdout().size_checked();
        size.filter(|(rows, columns)| *rows > 0 && *columns > 0)
            .map_or(USUAL, |(rows, columns)| Self { rows: rows.into(), columns: columns.into() })
    }
}

/// What stands on the terminal.
pub(super) struct Live {
    /// How large it is; none where the cursor cannot be moved, and then nothing stands at the bottom.
    size: Option<fn() -> Size>,
    colors: Colors,
    /// Whether the output of all stages is shown as it comes.
    verbose: bool,
    /// The widths of the lines that stand at the bottom.
    drawn: Vec<usize>,
    logs: HashMap<(Option<JobKey>, LogName), Harmless>,
    /// What each running stage printed last.
    last: HashMap<Place, String>,
    turns: usize,
    skipped: usize,
    /// What waits to be shown while a question stands there.
    held: Option<String>,
}

impl Live {
    pub(super) fn new(look: Look, verbose: bool, size: Option<fn() -> Size>) -> Self {
        Self {
            size,
            colors: if look.is_colored() { Colors::Pass } else { Colors::Drop },
            verbose,
            drawn: Vec::new(),
            logs: HashMap::new(),
            last: HashMap::new(),
            turns: 0,
            skipped: 0,
            held: None,
        }
    }

    /// What comes from now on waits.
    pub(super) fn hold(&mut self) -> Vec<u8> {
        let text = self.erase();
        self.held.get_or_insert_default();
        text.into_bytes()
    }

    /// What waited is shown.
    pub(super) fn release(&mut self, account: &Account, look: Look) -> Vec<u8> {
        let mut text = self.held.take().unwrap_or_default();
        self.draw(account, look, &mut text);
        text.into_bytes()
    }

    /// Lines that scroll up; the stages that run stand below them again.
    pub(super) fn scroll(&mut self, account: &Account, look: Look, lines: &[String]) -> Vec<u8> {
        let mut text = self.erase();
        let mut waiting = self.held.take();
        let to = waiting.as_mut().unwrap_or(&mut text);
        for line in lines {
            to.push_str(line);
            to.push('\n');
        }
        // What is more than a person would scroll back to is not kept from them any longer.
        if let Some(held) = waiting.take_if(|held| held.len() < MOST_HELD) {
            self.held = Some(held);
            return text.into_bytes();
        }
        text.extend(waiting);
        self.draw(account, look, &mut text);
        text.into_bytes()
    }

    /// Time went on.
    pub(super) fn tick(&mut self, account: &Account, look: Look) -> Vec<u8> {
        self.turns += 1;
        if self.drawn.is_empty() && account.running().next().is_none() {
            return Vec::new();
        }
        self.scroll(account, look, &[])
    }

    /// The bottom lines are taken away, and what the jobs themselves said last is a whole line: nothing is live any more.
    pub(super) fn close(&mut self, account: &Account, look: Look) -> Vec<u8> {
        let mut text = self.erase();
        let jobs: Vec<_> = self.logs.extract_if(|(_, log), _| *log == LogName::of_job()).collect();
        for ((job, _), mut log) in jobs {
            let lines = self.of_job(account, look, job.as_ref(), log.close().into_iter().collect());
            text.extend(lines.into_iter().map(|line| line + "\n"));
        }
        text.into_bytes()
    }

    /// A stage begins.
    pub(super) fn began(
        &mut self,
        account: &Account,
        look: Look,
        job: Option<&JobKey>,
        stage: &StageName,
        image: &str,
    ) -> Vec<u8> {
        self.skipped = 0;
        let mut lines = Vec::new();
        if account.is_alone(job, stage) {
            lines.extend(heading(look, &account.title(job, stage), &clean(image)));
        }
        self.scroll(account, look, &lines)
    }

    /// A log grew. What is shown at once is said to have been shown.
    pub(super) fn printed(
        &mut self,
        account: &Account,
        look: Look,
        job: Option<&JobKey>,
        log: &LogName,
        bytes: &[u8],
    ) -> (Vec<u8>, bool) {
        let harmless = self.logs.entry((job.cloned(), log.clone())).or_default();
        let lines = harmless.add(bytes, self.colors);
        let is_job = *log == LogName::of_job();
        let stage = log.as_str().parse::<StageName>().ok();
        let alone = is_job || stage.as_ref().is_some_and(|stage| account.is_alone(job, stage));
        if let Ok(of) = stage_of(log).parse::<StageName>() {
            let open = harmless.open().or_else(|| lines.iter().rev().find(|line| !line.is_empty()).cloned());
            if let Some(line) = open {
                self.last.insert((job.cloned(), of), line);
            }
        }
        if !alone && !self.verbose {
            return (Vec::new(), false);
        }
        let title = if alone { None } else { account.log_title(job, log) };
        let lines: Vec<String> = match (is_job, title) {
            (true, _) => self.of_job(account, look, job, lines),
            (false, None) => lines,
            (false, Some(title)) => {
                lines.iter().map(|line| format!("{} {line}", plain::prefix(look, &title))).collect()
            }
        };
        (self.scroll(account, look, &lines), !is_job)
    }

    fn of_job(&self, account: &Account, look: Look, job: Option<&JobKey>, lines: Vec<String>) -> Vec<String> {
        let whose = account.log_title(job, &LogName::of_job());
        let whose = whose.map_or_else(String::new, |job| format!("{job}: "));
        lines.into_iter().map(|line| look.paint(Tone::Faint, &format!("{whose}{line}"))).collect()
    }

    /// A stage ended. `log` is where its whole output stands. Says whether that was shown.
    pub(super) fn ended(
        &mut self,
        account: &Account,
        look: Look,
        job: Option<&JobKey>,
        stage: &StageName,
        log: &std::path::Path,
    ) -> (Vec<u8>, bool) {
        let is_it = |found: &&super::account::StageAccount| found.stage == *stage && found.job.as_ref() == job;
        let Some(found) = account.stages.iter().find(is_it) else { return (Vec::new(), false) };
        let State::Over(result, took) = &found.state else { return (Vec::new(), false) };
        let mut lines = Vec::new();
        let rest = self.logs.remove(&(job.cloned(), stage.into())).and_then(|mut log| log.close());
        self.last.remove(&(job.cloned(), stage.clone()));
        let was_seen = self.verbose || account.is_alone(job, stage);
        if was_seen {
            lines.extend(rest);
        } else if found.is_bad() {
            lines.extend(heading(look, &account.title(job, stage), ""));
            lines.extend(self.whole(look, log));
        }
        let shown = !was_seen && found.is_bad();
        let is_skipped = matches!(result, StageOutcome::Skipped { .. });
        self.skipped = if is_skipped { self.skipped + 1 } else { 0 };
        if self.skipped <= SKIPPED {
            lines.push(end_line(look, &account.title(job, stage), found.how(), result, *took));
        }
        (self.scroll(account, look, &lines), shown)
    }

    /// What a stage printed, as far as a person can look through.
    fn whole(&self, look: Look, log: &std::path::Path) -> Vec<String> {
        let (mut harmless, mut lines) = (Harmless::default(), Vec::new());
        let excerpt = excerpt(log, HEAD, TAIL);
        for bytes in &excerpt.head {
            lines.extend(harmless.add(bytes, self.colors));
        }
        if excerpt.between > 0 {
            lines.extend(harmless.close());
            let text = format!("… {} lines are left out here; all are in {}", excerpt.between, verdict::shown(log));
            lines.push(look.paint(Tone::Faint, &text));
        }
        for bytes in &excerpt.tail {
            lines.extend(harmless.add(bytes, self.colors));
        }
        lines.extend(harmless.close());
        lines
    }

    /// Takes away what stands at the bottom. A terminal that became narrower has broken its lines anew.
    fn erase(&mut self) -> String {
        let Some(size) = self.size else { return String::new() };
        let columns = size().columns;
        let rows: usize = self.drawn.drain(..).map(|width| width.div_ceil(columns).max(1)).sum();
        if rows == 0 { String::new() } else { format!("\x1b[{rows}A\r\x1b[J") }
    }

    /// Puts a line for each running stage at the bottom, as many as there is room for.
    fn draw(&mut self, account: &Account, look: Look, text: &mut String) {
        let Some(size) = self.size.map(|size| size()) else { return };
        let room = (size.rows / 2).max(1);
        let running: Vec<_> = account.running().collect();
        let title = |stage: &super::account::StageAccount| account.title(stage.job.as_ref(), &stage.stage);
        let shown = if running.len() > room { room - 1 } else { running.len() };
        let width = running.iter().take(shown).map(|(stage, _)| measure_text_width(&title(stage))).max().unwrap_or(0);
        let now = Instant::now();
        let spinner = look.paint(Tone::Busy, SPINNER[self.turns % SPINNER.len()]);
        let mut lines: Vec<String> = Vec::new();
        for (stage, since) in running.iter().take(shown) {
            let took = verdict::duration(now.saturating_duration_since(*since));
            let name = title(stage);
            let pad = " ".repeat(width - measure_text_width(&name));
            let mut line = format!("{spinner} {name}{pad} {took:>6}");
            let last = self.last.get(&(stage.job.clone(), stage.stage.clone()));
            if let Some(last) = last {
                _ = write!(line, "  {last}");
            }
            lines.push(line);
        }
        if running.len() > shown {
            lines.push(format!("  and {} more", running.len() - shown));
        }
        for line in lines {
            // A tab's width depends on where it stands. The last column stays free: some terminals break there.
            let line = truncate_str(&line.replace('\t', " "), size.columns.saturating_sub(1), "…").into_owned();
            self.drawn.push(measure_text_width(&line));
            text.push_str(&line);
            text.push_str(if line.contains('\x1b') { "\x1b[0m\n" } else { "\n" });
        }
    }
}

fn heading(look: Look, title: &str, image: &str) -> [String; 2] {
    let heading = look.paint(Tone::Strong, &format!("── {title} "));
    [String::new(), format!("{heading}── {image}").trim_end().to_owned()]
}

/// `✓ build 12.4s`
fn end_line(look: Look, title: &str, how: &str, result: &StageOutcome, took: std::time::Duration) -> String {
    let (mark, took) = (verdict::mark(look, result), verdict::duration(took));
    let detail = verdict::detail(result);
    match result {
        StageOutcome::Passed if !how.is_empty() => format!("{mark} {title} {how} {took}"),
        StageOutcome::Passed => format!("{mark} {title} {took}"),
        StageOutcome::Skipped { .. } => format!("{mark} {title} skipped: {detail}"),
        StageOutcome::Cancelled => format!("{mark} {title} cancelled {took}"),
        StageOutcome::AllowedFailure { .. } => format!("{mark} {title} allowed failure: {detail} {took}"),
        StageOutcome::Failed { .. } => format!("{mark} {title} {detail} {took}"),
        StageOutcome::Errored { .. } => format!("{mark} {title} errored: {detail} {took}"),
    }
}
