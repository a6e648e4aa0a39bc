//! Shows a build to the person who started it: live, and a summary at the end. Everything that is told is also written
//! down in the run's own folder.
//!
//! In a line: harmless (a build's output, made harmless), account (what happened), header, record (the run's folder),
//! verdict (how it ended, in words), plain, live, json (the ways to show it), spent (where the time went).

mod harmless;
mod account;
mod header;
mod record;
mod verdict;
mod plain;
mod live;
mod json;
mod spent;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use protocol::plan::SkippedStage;
use protocol::report::{JobEvent, Span};
use protocol::{Ending, JobKey, LogName};

use super::look::{Look, Tone, clean};
use super::time;
use crate::sink::{BuildSink, EventSink, SinkError};
use json::Json;
use live::{Live, Size};
use plain::Plain;
use verdict::Verdict;

pub(crate) use account::{Account, StageAccount, State};
pub(crate) use harmless::{Colors, Harmless};
pub(crate) use header::Header;
pub(crate) use record::{ARCHIVES, Record, file_name};
pub(crate) use verdict::{Next, shown, size};

/// How often what is live is drawn anew when nothing happens.
pub(crate) const TURN: Duration = Duration::from_millis(100);

/// How a build is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// On a terminal: a live line for each stage that runs.
    Live,
    /// On a terminal that cannot move its cursor: the same, without what is live.
    Scroll,
    /// In a pipe or a file: every line says which stage it is from.
    Prefixes,
    /// One JSON object per line, for programs.
    Json,
}

/// How output looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    /// How a build is shown.
    pub(crate) frame: Frame,
    /// Its colours.
    pub(crate) look: Look,
    /// Whether the output of stages is shown as it comes where several run at once.
    pub(crate) verbose: bool,
}

/// A build's events as text on `W`.
pub(crate) struct Terminal<W> {
    look: Look,
    began: Instant,
    screen: Mutex<Screen<W>>,
}

struct Screen<W> {
    out: W,
    face: Face,
    account: Account,
    record: Record,
    /// The log of a stage that was shown last.
    last_shown: Option<PathBuf>,
    /// Where the time went, by job, on the run's own clock.
    spent: Vec<(Option<JobKey>, Vec<Span>)>,
}

enum Face {
    Live(Live),
    Plain(Plain),
    Json(Json),
}

impl<W: Write + Send> Terminal<W> {
    /// Shows on `out`, and writes down in `record`.
    pub(crate) fn new(out: W, style: Style, record: Record) -> Self {
        Self::sized(out, style, record, Size::of_stdout)
    }

    fn sized(out: W, style: Style, record: Record, size: fn() -> Size) -> Self {
        let face = match style.frame {
            Frame::Live => Face::Live(Live::new(style.look, style.verbose, Some(size))),
            Frame::Scroll => Face::Live(Live::new(style.look, style.verbose, None)),
            Frame::Prefixes => Face::Plain(Plain::default()),
            Frame::Json => Face::Json(Json::default()),
        };
        let screen = Screen { out, face, account: Account::default(), record, last_shown: None, spent: Vec::new() };
        Self { look: style.look, began: Instant::now(), screen: Mutex::new(screen) }
    }

    fn screen(&self) -> MutexGuard<'_, Screen<W>> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the build begins with.
    ///
    /// # Errors
    /// When the output takes no more.
    pub(crate) fn header(&self, header: &Header) -> io::Result<()> {
        let mut screen = self.screen();
        if matches!(screen.face, Face::Json(_)) {
            let line = Json::begun(time::now(), header);
            return screen.write(&line);
        }
        screen.say(self.look, &[header.line(self.look)])
    }

    /// What would be otherwise on a farm, a clause each, and what a person should know beside, a sentence each.
    ///
    /// # Errors
    /// When the output takes no more.
    pub(crate) fn differences(&self, differences: &[String], notes: &[String]) -> io::Result<()> {
        let mut screen = self.screen();
        if matches!(screen.face, Face::Json(_)) {
            let line = Json::differences(time::now(), differences, notes);
            return screen.write(&line);
        }
        let mut lines = header::differences(self.look, differences);
        lines.extend(notes.iter().map(|note| self.look.paint(Tone::Faint, &clean(note))));
        screen.say(self.look, &lines)
    }

    /// Puts a question where it stays in sight: what happens meanwhile is shown when the answer is there.
    ///
    /// # Errors
    /// When the output takes no more.
    pub(crate) fn ask(&self, question: &str) -> io::Result<Asking<'_, W>> {
        let mut screen = self.screen();
        if let Face::Live(live) = &mut screen.face {
            let mut bytes = live.hold();
            bytes.extend_from_slice(question.as_bytes());
            screen.write(&bytes)?;
        }
        Ok(Asking { terminal: self })
    }

    /// Something of buildr's own that a person should see now.
    ///
    /// # Errors
    /// When the output takes no more.
    pub(crate) fn note(&self, text: &str) -> io::Result<()> {
        self.note_on(&mut self.screen(), text)
    }

    /// The same, unless something else is being written just now: then nothing is done, and `false` says so.
    pub(crate) fn note_unless_busy(&self, text: &str) -> bool {
        self.screen.try_lock().is_ok_and(|mut screen| self.note_on(&mut screen, text).is_ok())
    }

    fn note_on(&self, screen: &mut Screen<W>, text: &str) -> io::Result<()> {
        if matches!(screen.face, Face::Json(_)) {
            let line = Json::note(time::now(), text);
            return screen.write(&line);
        }
        screen.say(self.look, &[self.look.paint(Tone::Odd, &clean(text))])
    }

    /// Time went on.
    ///
    /// # Errors
    /// When the output takes no more.
    pub(crate) fn tick(&self) -> io::Result<()> {
        let screen = &mut *self.screen();
        match &mut screen.face {
            Face::Live(live) => {
                let bytes = live.tick(&screen.account, self.look);
                screen.write(&bytes)
            }
            Face::Plain(_) | Face::Json(_) => Ok(()),
        }
    }

    /// What has happened so far, and where it is written down.
    pub(crate) fn look_at<T>(&self, look: impl FnOnce(&Account, &Record) -> T) -> T {
        let screen = self.screen();
        look(&screen.account, &screen.record)
    }

    /// How long the build takes so far.
    pub(crate) fn took(&self) -> Duration {
        self.began.elapsed()
    }

    /// Takes away what is live, for something else that uses the terminal.
    ///
    /// # Errors
    /// When the output takes no more.
    pub(crate) fn clear(&self) -> io::Result<()> {
        let screen = &mut *self.screen();
        let bytes = match &mut screen.face {
            Face::Live(live) => live.close(&screen.account, self.look),
            Face::Plain(plain) => plain.close(),
            Face::Json(_) => Vec::new(),
        };
        screen.write(&bytes)
    }

    /// The last lines: what failed and why, how each stage ended, and the whole.
    ///
    /// # Errors
    /// When the output takes no more.
    pub(crate) fn summary(&self, ending: &Ending, next: &Next) -> io::Result<()> {
        self.clear()?;
        let screen = &mut *self.screen();
        let took = self.began.elapsed();
        if matches!(screen.face, Face::Json(_)) {
            let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            let line = Json::ended(time::now(), ending, millis);
            return screen.write(&line);
        }
        let Screen { account, record, last_shown, .. } = &*screen;
        let last_shown = last_shown.as_deref();
        let verdict = Verdict { account, record, look: self.look, ending, took, last_shown, next };
        let text: String = verdict.lines().into_iter().map(|line| line + "\n").collect();
        screen.write(text.as_bytes())
    }

    fn happened(&self, job: Option<&JobKey>, event: &JobEvent) -> io::Result<()> {
        let screen = &mut *self.screen();
        screen.account.note(job, event);
        if let JobEvent::LogComplete { log, .. } = event {
            let path = screen.record.log_path(&screen.account, job, log);
            screen.record.close(&path);
        }
        if let (JobEvent::Planned { build, .. }, Face::Live(_) | Face::Plain(_)) = (event, &screen.face) {
            for SkippedStage { stage, pipeline, reason } in &build.skipped {
                let title = pipeline.as_ref().map_or_else(|| stage.to_string(), |name| format!("{name}/{stage}"));
                screen.pass_over(self.look, &title, reason)?;
            }
        }
        let Screen { face, account, record, .. } = &mut *screen;
        let mut now_shown = None;
        let bytes = match (face, event) {
            (Face::Json(json), event) => json.event(time::now(), job, event),
            (Face::Live(live), JobEvent::StageStarted { stage, image, .. }) => {
                live.began(account, self.look, job, stage, image)
            }
            (Face::Plain(plain), JobEvent::StageStarted { stage, image, .. }) => {
                plain.began(account, self.look, job, stage, image)
            }
            (Face::Live(live), JobEvent::StageEnded { stage, .. }) => {
                let log = record.log_path(account, job, &stage.into());
                let (bytes, shown) = live.ended(account, self.look, job, stage, &log);
                now_shown = shown.then_some(log);
                bytes
            }
            (Face::Plain(plain), JobEvent::StageEnded { stage, .. }) => plain.ended(account, self.look, job, stage),
            _ => return Ok(()),
        };
        screen.last_shown = now_shown.or(screen.last_shown.take());
        screen.write(&bytes)
    }

    fn printed(&self, job: Option<&JobKey>, log: &LogName, bytes: &[u8]) -> io::Result<()> {
        let screen = &mut *self.screen();
        let path = screen.record.log_path(&screen.account, job, log);
        screen.record.add(&path, bytes)?;
        let Screen { face, account, .. } = &mut *screen;
        let (bytes, shown) = match face {
            Face::Json(json) => (json.printed(time::now(), job, log, bytes), false),
            Face::Live(live) => live.printed(account, self.look, job, log, bytes),
            Face::Plain(plain) => (plain.printed(account, self.look, job, log, bytes), *log != LogName::of_job()),
        };
        if shown {
            screen.last_shown = Some(path);
        }
        screen.write(&bytes)
    }
}

/// A question that was put. With its end the screen goes on.
pub(crate) struct Asking<'a, W: Write + Send> {
    terminal: &'a Terminal<W>,
}

impl<W: Write + Send> Drop for Asking<'_, W> {
    fn drop(&mut self) {
        let screen = &mut *self.terminal.screen();
        if let Face::Live(live) = &mut screen.face {
            let bytes = live.release(&screen.account, self.terminal.look);
            // Whoever shows the next thing sees that nobody reads any more.
            screen.write(&bytes).ok();
        }
    }
}

impl<W: Write> Screen<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// What is not run is told when that is known, and again at the end.
    fn pass_over(&mut self, look: Look, title: &str, reason: &str) -> io::Result<()> {
        self.account.passed_over.push((title.to_owned(), reason.to_owned()));
        let line = format!("{} {} skipped: {}", look.paint(Tone::Faint, "–"), clean(title), clean(reason));
        self.say(look, &[line])
    }

    fn say(&mut self, look: Look, lines: &[String]) -> io::Result<()> {
        let bytes = match &mut self.face {
            Face::Live(live) => live.scroll(&self.account, look, lines),
            Face::Plain(plain) => lines.iter().flat_map(|line| plain.say(line)).collect(),
            Face::Json(_) => Vec::new(),
        };
        self.write(&bytes)
    }
}

impl<W: Write + Send> BuildSink for Terminal<W> {
    fn of_job(&self, job: Option<&JobKey>) -> Box<dyn EventSink + '_> {
        Box::new(JobView { terminal: self, job: job.cloned() })
    }

    fn spent(&self, spans: &[Span]) {
        Self::spent(self, None, spans);
    }

    fn passed_over(&self, job: &JobKey, reason: &str) {
        let mut screen = self.screen();
        // The summary says it again; that nobody reads any more is seen by the next event.
        if matches!(screen.face, Face::Json(_)) {
            let line = Json::passed_over(time::now(), job, reason);
            screen.write(&line).ok();
        } else {
            screen.pass_over(self.look, job.as_str(), reason).ok();
        }
    }
}

/// One job's part of a terminal.
struct JobView<'a, W> {
    terminal: &'a Terminal<W>,
    job: Option<JobKey>,
}

#[async_trait]
impl<W: Write + Send> EventSink for JobView<'_, W> {
    async fn emit(&self, event: JobEvent) -> Result<(), SinkError> {
        if let JobEvent::Finished { spent, .. } = &event {
            self.terminal.spent(self.job.as_ref(), spent);
        }
        Ok(self.terminal.happened(self.job.as_ref(), &event)?)
    }

    async fn emit_certain(&self, event: JobEvent) -> Result<(), SinkError> {
        // On a laptop nobody else could do it too.
        self.emit(event).await
    }

    async fn log(&self, log: &LogName, bytes: Bytes) -> Result<(), SinkError> {
        if bytes.is_empty() { Ok(()) } else { Ok(self.terminal.printed(self.job.as_ref(), log, &bytes)?) }
    }
}

#[cfg(test)]
mod tests;
