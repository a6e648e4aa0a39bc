//! Shows a job to the person who started it: live, and a summary at the end.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::report::JobEvent;
use protocol::{Ending, LogName, Outcome, StageName, StageOutcome};

use crate::sink::{EventSink, SinkError};

/// How output looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// On a terminal: a heading per stage, colours where wanted, the output as it comes.
    Live {
        /// Whether colours are wanted.
        color: bool,
    },
    /// In a pipe or a file: every line says which stage it is from.
    Prefixed,
}

/// A job's events as text on `W`.
pub(crate) struct Terminal<W> {
    style: Style,
    screen: Mutex<Screen<W>>,
}

struct Screen<W> {
    out: W,
    /// The beginning of a line whose end has not come yet, in prefixed output.
    line: Vec<u8>,
    ends: Vec<(StageName, StageOutcome, Duration)>,
}

impl<W: Write + Send> Terminal<W> {
    /// Shows on `out`.
    pub(crate) fn new(out: W, style: Style) -> Self {
        Self { style, screen: Mutex::new(Screen { out, line: Vec::new(), ends: Vec::new() }) }
    }

    /// The last lines: how each stage ended, and the whole.
    pub(crate) fn summary(&self, ending: &Ending) -> io::Result<()> {
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let Screen { out, ends, .. } = &mut *screen;
        writeln!(out)?;
        let width = ends.iter().map(|(stage, ..)| stage.as_str().len()).max().unwrap_or(0);
        for (stage, result, took) in ends.iter() {
            let mark = self.painted(result_color(result), &format!("{:<9}", result.name().replace('_', " ")));
            let took = if took.is_zero() { String::new() } else { format!("{:.1} s", took.as_secs_f64()) };
            let detail =
                result.detail().and_then(|detail| detail.lines().next().map(str::to_owned)).unwrap_or_default();
            writeln!(out, "{}", format!("{mark} {stage:<width$}  {took:>8}  {detail}").trim_end())?;
        }
        let outcome = self.painted(outcome_color(ending.outcome), &ending.outcome.to_string());
        match &ending.message {
            Some(message) => writeln!(out, "{outcome}: {message}")?,
            None => writeln!(out, "{outcome}")?,
        }
        out.flush()
    }

    fn painted(&self, color: &str, text: &str) -> String {
        match self.style {
            Style::Live { color: true } => format!("\x1b[{color}m{text}\x1b[0m"),
            Style::Live { color: false } | Style::Prefixed => text.to_owned(),
        }
    }

    fn heading(&self, screen: &mut Screen<W>, stage: &StageName, image: &str) -> io::Result<()> {
        match self.style {
            Style::Live { .. } => {
                let heading = self.painted("1", &format!("── {stage} "));
                writeln!(screen.out, "\n{heading}── {image}")?;
            }
            Style::Prefixed => writeln!(screen.out, "{stage} | starts on {image}")?,
        }
        screen.out.flush()
    }

    fn end_line(&self, screen: &mut Screen<W>, log: &str) -> io::Result<()> {
        if !screen.line.is_empty() {
            let line = std::mem::take(&mut screen.line);
            write_prefixed(&mut screen.out, log, &line)?;
            screen.out.write_all(b"\n")?;
        }
        Ok(())
    }

    fn ended(
        &self,
        screen: &mut Screen<W>,
        stage: &StageName,
        result: &StageOutcome,
        took: Duration,
    ) -> io::Result<()> {
        self.end_line(screen, stage.as_str())?;
        if let (StageOutcome::Errored { message, .. }, Style::Prefixed) = (result, self.style) {
            writeln!(screen.out, "{stage} | errored: {message}")?;
        }
        screen.ends.push((stage.clone(), result.clone(), took));
        screen.out.flush()
    }
}

#[async_trait]
impl<W: Write + Send> EventSink for Terminal<W> {
    async fn emit(&self, event: JobEvent) -> Result<(), SinkError> {
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            JobEvent::StageStarted { stage, image } => self.heading(&mut screen, &stage, &image)?,
            JobEvent::StageEnded { stage, result, duration_ms } => {
                self.ended(&mut screen, &stage, &result, Duration::from_millis(duration_ms))?;
            }
            JobEvent::Settled { .. }
            | JobEvent::CheckedOut { .. }
            | JobEvent::Planned { .. }
            | JobEvent::LogComplete { .. }
            | JobEvent::Finished { .. }
            | JobEvent::Unknown => {}
        }
        Ok(())
    }

    async fn log(&self, log: &LogName, bytes: Bytes) -> Result<(), SinkError> {
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(self.style, Style::Live { .. }) || *log == LogName::of_job() {
            screen.out.write_all(&bytes)?;
        } else {
            for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
                screen.line.extend_from_slice(piece);
                if piece.last() == Some(&b'\n') {
                    let line = std::mem::take(&mut screen.line);
                    write_prefixed(&mut screen.out, log.as_str(), &line)?;
                }
            }
        }
        Ok(screen.out.flush()?)
    }
}

fn write_prefixed(out: &mut impl Write, log: &str, line: &[u8]) -> io::Result<()> {
    write!(out, "{log} | ")?;
    out.write_all(line)
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
    use protocol::StageEnd;

    async fn shown(style: Style) -> String {
        let terminal = Terminal::new(Vec::new(), style);
        let (test, ship): (StageName, StageName) = ("test".parse().unwrap(), "ship".parse().unwrap());
        terminal.log(&LogName::of_job(), Bytes::from("copy of /x\n")).await.unwrap();
        terminal.emit(JobEvent::StageStarted { stage: test.clone(), image: "alpine".to_owned() }).await.unwrap();
        for piece in ["one\ntw", "o\nlast"] {
            terminal.log(&LogName::from(&test), Bytes::from(piece)).await.unwrap();
        }
        let failed = StageOutcome::Failed { end: StageEnd::Exited { code: 2 } };
        terminal.emit(JobEvent::StageEnded { stage: test, result: failed, duration_ms: 1234 }).await.unwrap();
        let skipped = StageOutcome::Skipped { reason: "test failed".to_owned() };
        terminal.emit(JobEvent::StageEnded { stage: ship, result: skipped, duration_ms: 0 }).await.unwrap();
        let ending =
            Ending { outcome: Outcome::Failed, message: Some("test failed: exit code 2".to_owned()), stage: None };
        terminal.summary(&ending).unwrap();
        String::from_utf8(terminal.screen.into_inner().unwrap().out).unwrap()
    }

    #[tokio::test]
    async fn in_a_pipe_every_line_says_where_it_is_from() {
        insta::assert_snapshot!(shown(Style::Prefixed).await, @r"
        copy of /x
        test | starts on alpine
        test | one
        test | two
        test | last

        failed    test     1.2 s  exit code 2
        skipped   ship            test failed
        failed: test failed: exit code 2
        ");
    }

    #[tokio::test]
    async fn on_a_terminal_output_comes_as_it_is() {
        insta::assert_snapshot!(shown(Style::Live { color: false }).await, @r"
        copy of /x

        ── test ── alpine
        one
        two
        last
        failed    test     1.2 s  exit code 2
        skipped   ship            test failed
        failed: test failed: exit code 2
        ");
    }
}
