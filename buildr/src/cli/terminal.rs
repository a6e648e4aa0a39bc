//! Shows a job to the person who started it: live, and a summary at the end.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use protocol::report::JobEvent;
use protocol::{Ending, LogName, Outcome, StageName, StageOutcome};

use crate::sink::{EventSink, Lines, SinkError};

/// How many skipped stages are named one by one: more of them would push what failed out of sight.
const SKIPPED_BY_NAME: usize = 4;

/// How output looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// What tells stages apart.
    pub(crate) frame: Frame,
    /// Whether colours are wanted.
    pub(crate) color: bool,
}

/// What tells stages apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// On a terminal: a heading per stage, the output as it comes.
    Headings,
    /// In a pipe or a file: every line says which stage it is from.
    Prefixes,
}

/// A job's events as text on `W`.
pub(crate) struct Terminal<W> {
    style: Style,
    began: Instant,
    screen: Mutex<Screen<W>>,
}

struct Screen<W> {
    out: W,
    lines: Lines<LogName>,
    ends: Vec<(StageName, StageOutcome, Duration)>,
}

impl<W: Write + Send> Terminal<W> {
    /// Shows on `out`.
    pub(crate) fn new(out: W, style: Style) -> Self {
        Self {
            style,
            began: Instant::now(),
            screen: Mutex::new(Screen { out, lines: Lines::default(), ends: Vec::new() }),
        }
    }

    /// The last lines: how each stage ended, and the whole.
    pub(crate) fn summary(&self, ending: &Ending) -> io::Result<()> {
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        screen.close_line()?;
        let Screen { out, ends, .. } = &mut *screen;
        writeln!(out)?;
        let is_skipped = |(_, result, _): &&(_, StageOutcome, _)| matches!(result, StageOutcome::Skipped { .. });
        // The stages after the one that ended the build are skipped, so these are the last.
        let skipped = ends.iter().rev().take_while(is_skipped).count();
        let named = if skipped > SKIPPED_BY_NAME { ends.len() - skipped } else { ends.len() };
        let (named, rest) = ends.split_at(named);
        let width = named.iter().map(|(stage, ..)| stage.as_str().len()).max().unwrap_or(0);
        for (stage, result, took) in named {
            let mark = self.painted(result_color(result), &format!("{:<9}", result.name().replace('_', " ")));
            let took = if took.is_zero() { String::new() } else { seconds(*took) };
            writeln!(out, "{}", format!("{mark} {stage:<width$}  {took:>8}  {}", detail(result)).trim_end())?;
        }
        if let [(first, result, _), .., (last, ..)] = rest {
            let mark = self.painted(result_color(result), &format!("{:<9}", result.name()));
            writeln!(out, "{mark} {} stages, {first} to {last}: {}", rest.len(), detail(result))?;
        }
        let outcome = self.painted(outcome_color(ending.outcome), &ending.outcome.to_string());
        match &ending.message {
            Some(message) => writeln!(out, "{outcome}: {}", message.trim_end())?,
            None => writeln!(out, "{outcome} in {}", seconds(self.began.elapsed()))?,
        }
        out.flush()
    }

    fn painted(&self, color: &str, text: &str) -> String {
        if self.style.color { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn heading(&self, screen: &mut Screen<W>, stage: &StageName, image: &str) -> io::Result<()> {
        screen.close_line()?;
        match self.style.frame {
            Frame::Headings => {
                let heading = self.painted("1", &format!("── {stage} "));
                writeln!(screen.out, "\n{heading}── {image}")?;
            }
            Frame::Prefixes => writeln!(screen.out, "{}starts on {image}", self.prefix(stage.as_str()))?,
        }
        screen.out.flush()
    }

    fn prefix(&self, log: &str) -> String {
        self.painted(GREY, &format!("{log} |")) + " "
    }

    /// Writes what a log has printed, line for line or not: what comes late of a line is shown when it comes.
    fn printed(&self, screen: &mut Screen<W>, log: &LogName, bytes: &[u8]) -> io::Result<()> {
        let bare = self.style.frame == Frame::Headings || *log == LogName::of_job();
        let prefix = if bare { String::new() } else { self.prefix(log.as_str()) };
        screen.out.write_all(&screen.lines.add(log, &prefix, bytes))?;
        screen.out.flush()
    }
}

impl<W: Write> Screen<W> {
    fn close_line(&mut self) -> io::Result<()> {
        self.out.write_all(self.lines.close())
    }
}

#[async_trait]
impl<W: Write + Send> EventSink for Terminal<W> {
    async fn emit(&self, event: JobEvent) -> Result<(), SinkError> {
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            JobEvent::StageStarted { stage, image, .. } => self.heading(&mut screen, &stage, &image)?,
            JobEvent::StageEnded { stage, result, duration_ms } => {
                screen.close_line()?;
                screen.ends.push((stage, result, Duration::from_millis(duration_ms)));
            }
            JobEvent::Settled { .. }
            | JobEvent::CheckedOut { .. }
            | JobEvent::Planned { .. }
            | JobEvent::LogComplete { .. }
            | JobEvent::Finished { .. }
            | JobEvent::ImageFound { .. }
            | JobEvent::StageTried { .. }
            | JobEvent::ArtifactsKept { .. }
            | JobEvent::TestsRead { .. }
            | JobEvent::CoverageRead { .. }
            | JobEvent::HandedOn { .. }
            | JobEvent::Summary { .. }
            | JobEvent::Unknown => {}
        }
        Ok(())
    }

    async fn emit_certain(&self, event: JobEvent) -> Result<(), SinkError> {
        self.emit(event).await
    }

    async fn log(&self, log: &LogName, bytes: Bytes) -> Result<(), SinkError> {
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.is_empty() { Ok(()) } else { Ok(self.printed(&mut screen, log, &bytes)?) }
    }
}

/// What a person wants to know of a stage's end in a line. An error's sentence is the build's, and stands below.
fn detail(result: &StageOutcome) -> String {
    match result {
        StageOutcome::Errored { cause, .. } => cause.name().replace('_', " "),
        _ => result.detail().unwrap_or_default(),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";
const GREY: &str = "90";

fn result_color(result: &StageOutcome) -> &'static str {
    match result {
        StageOutcome::Passed => GREEN,
        StageOutcome::Failed { .. } | StageOutcome::Errored { .. } => RED,
        StageOutcome::AllowedFailure { .. } | StageOutcome::Cancelled => YELLOW,
        StageOutcome::Skipped { .. } => GREY,
    }
}

fn outcome_color(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => GREEN,
        Outcome::Failed | Outcome::Errored { .. } => RED,
        Outcome::Cancelled => YELLOW,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Cause, StageEnd};

    fn name(text: &str) -> StageName {
        text.parse().unwrap()
    }

    fn text(terminal: Terminal<Vec<u8>>) -> String {
        String::from_utf8(terminal.screen.into_inner().unwrap().out).unwrap()
    }

    async fn shown(frame: Frame) -> String {
        let terminal = Terminal::new(Vec::new(), Style { frame, color: false });
        terminal.log(&LogName::of_job(), Bytes::from("copy of /x\n")).await.unwrap();
        for (stage, pieces) in [("lint", &["half"][..]), ("test", &["one\ntw", "", "o\n\nlast"])] {
            let stage = name(stage);
            let image = "alpine".to_owned();
            // On a laptop nobody else could do it too, so nothing is waited for.
            let started = JobEvent::StageStarted { stage: stage.clone(), image, not_twice: true };
            terminal.emit_certain(started).await.unwrap();
            for piece in pieces {
                terminal.log(&LogName::from(&stage), Bytes::from(*piece)).await.unwrap();
            }
            let failed = StageOutcome::Failed { end: StageEnd::Exited { code: 2 } };
            let result = if stage.as_str() == "lint" { StageOutcome::Passed } else { failed };
            terminal.emit(JobEvent::StageEnded { stage, result, duration_ms: 1234 }).await.unwrap();
        }
        let skipped = StageOutcome::Skipped { reason: "test failed".to_owned() };
        terminal.emit(JobEvent::StageEnded { stage: name("ship"), result: skipped, duration_ms: 0 }).await.unwrap();
        terminal.log(&LogName::of_job(), Bytes::from("cleaned")).await.unwrap();
        let ending =
            Ending { outcome: Outcome::Failed, message: Some("test failed: exit code 2".to_owned()), stage: None };
        terminal.summary(&ending).unwrap();
        text(terminal)
    }

    #[tokio::test]
    async fn in_a_pipe_every_line_says_where_it_is_from() {
        insta::assert_snapshot!(shown(Frame::Prefixes).await, @r"
        copy of /x
        lint | starts on alpine
        lint | half
        test | starts on alpine
        test | one
        test | two
        test | 
        test | last
        cleaned

        passed    lint     1.2 s
        failed    test     1.2 s  exit code 2
        skipped   ship            test failed
        failed: test failed: exit code 2
        ");
    }

    #[tokio::test]
    async fn on_a_terminal_output_comes_as_it_is() {
        insta::assert_snapshot!(shown(Frame::Headings).await, @r"
        copy of /x

        ── lint ── alpine
        half

        ── test ── alpine
        one
        two

        last
        cleaned

        passed    lint     1.2 s
        failed    test     1.2 s  exit code 2
        skipped   ship            test failed
        failed: test failed: exit code 2
        ");
    }

    #[tokio::test]
    async fn what_failed_stays_in_sight() {
        let terminal = Terminal::new(Vec::new(), Style { frame: Frame::Headings, color: false });
        let message = "the image \"x\" could not be pulled".to_owned();
        let errored = StageOutcome::Errored { cause: Cause::Pull, message: message.clone() };
        terminal.emit(JobEvent::StageEnded { stage: name("s0"), result: errored, duration_ms: 20 }).await.unwrap();
        for number in 1..300 {
            let result = StageOutcome::Skipped { reason: "s0 errored".to_owned() };
            let stage = name(&format!("s{number}"));
            terminal.emit(JobEvent::StageEnded { stage, result, duration_ms: 0 }).await.unwrap();
        }
        terminal.summary(&Ending::errored(Cause::Pull, message)).unwrap();
        insta::assert_snapshot!(text(terminal).trim_start(), @r#"
        errored   s0     0.0 s  pull
        skipped   299 stages, s1 to s299: s0 errored
        errored (pull): the image "x" could not be pulled
        "#);
    }

    #[test]
    fn colours_where_they_are_wanted() {
        let terminal = Terminal::new(Vec::new(), Style { frame: Frame::Prefixes, color: true });
        assert_eq!(terminal.prefix("x"), "\x1b[90mx |\x1b[0m ");
        terminal.summary(&Ending::passed()).unwrap();
        assert_eq!(text(terminal), "\n\x1b[32mpassed\x1b[0m in 0.0 s\n");
    }
}
