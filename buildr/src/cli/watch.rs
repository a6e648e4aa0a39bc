//! Shows a build while it runs: its output as it comes, under a heading for each log, and what becomes of it.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, IsTerminal as _, Stdout, Write};

use protocol::api::BuildView;
use protocol::{BuildNumber, JobKey, LogName, Outcome};

use super::globals::Globals;
use super::look::{Look, Tone, clean, tone};
use super::terminal::{Colors, Harmless};
use super::{CliError, exit, note};
use crate::client::{Farm, Followed};
use crate::process::signals::Signals;

/// Which logs are shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Selection {
    /// Of this stage alone; `job` is what the job itself has to say.
    pub(super) log: Option<LogName>,
    /// Of this attempt alone.
    pub(super) attempt: Option<u32>,
    /// Of this job alone.
    pub(super) job: Option<JobKey>,
}

/// What stands around the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// Nothing: the bytes alone.
    Raw,
    /// A heading before each log.
    Headings,
    /// Headings, and what becomes of the build.
    News,
}

/// How watching ended.
#[derive(Debug)]
pub(super) enum Watched {
    /// The build is over.
    Over(Box<BuildView>),
    /// The person wants to see no more of it.
    Stopped,
}

/// Writes logs under headings.
pub(super) struct Transcript<W> {
    out: W,
    look: Look,
    frame: Frame,
    selection: Selection,
    current: Option<(u32, LogName)>,
    /// Which job each attempt is of.
    jobs: BTreeMap<u32, String>,
    /// Whether the last line is still open.
    mid_line: bool,
    /// What logs print, on its way to a terminal; nothing when it is for a program, or asked for as it is.
    harmless: Option<HashMap<(u32, LogName), Harmless>>,
    /// What was last said of the build.
    said: String,
}

/// Follows a build to its end on stdout, or until the person stops.
pub(super) async fn watch(
    farm: &Farm,
    build: BuildNumber,
    selection: Selection,
    frame: Frame,
    globals: &Globals,
) -> Result<Watched, CliError> {
    let mut signals = Signals::listen()?;
    let mut following = farm.follow(build);
    let mut transcript = Transcript::on_stdout(globals, frame, selection);
    let mut last = None;
    loop {
        let next = tokio::select! {
            next = following.next() => next?,
            _ = signals.next() => {
                transcript.finish().map_err(CliError::Output)?;
                let cancel = globals.command(&format!("cancel {}", build.0));
                note(&format!("stopped watching; build {build} goes on. End it with: {cancel}"));
                return Ok(Watched::Stopped);
            }
        };
        match next {
            Some(Followed::Build(view)) => {
                transcript.learn(&view);
                transcript.news(&view).map_err(CliError::Output)?;
                last = Some(view);
            }
            Some(Followed::Log { attempt, log, missing, bytes, .. }) => {
                if missing > 0 {
                    let gap = format!("log incomplete: {missing} bytes missing");
                    transcript.gap(attempt, &log, &gap).map_err(CliError::Output)?;
                }
                transcript.log(attempt, &log, &bytes).map_err(CliError::Output)?;
            }
            Some(Followed::Interrupted { reason }) => {
                transcript.finish().map_err(CliError::Output)?;
                note(&format!("{reason}; trying again"));
            }
            None => break,
        }
    }
    // Asked for again: what became of the logs was settled behind the build's end.
    let view = match farm.build(build).await {
        Ok(view) => Box::new(view),
        Err(error) => last.filter(|view| view.build.status.is_over()).ok_or(error)?,
    };
    transcript.learn(&view);
    for attempt in &view.attempts {
        for (log, gap) in attempt.logs.iter().filter_map(|log| Some((log, log.gap()?))) {
            transcript.gap(attempt.attempt, &log.name, &gap).map_err(CliError::Output)?;
        }
    }
    transcript.finish().map_err(CliError::Output)?;
    Ok(Watched::Over(view))
}

/// The exit code for a build that is over.
pub(super) fn exit_code(view: &BuildView) -> u8 {
    use protocol::api::Status;
    view.exit_code.unwrap_or(match view.build.status {
        Status::Passed => Outcome::Passed.exit_code(),
        Status::Failed => Outcome::Failed.exit_code(),
        Status::Cancelled => Outcome::Cancelled.exit_code(),
        Status::Skipped => exit::DONE,
        Status::Errored | Status::Queued | Status::Running | Status::Cancelling => exit::OTHER,
    })
}

impl Selection {
    /// Whether a log is one of these: of this attempt, which is one of that job, as far as that is known.
    pub(super) fn holds(&self, (attempt, job): (u32, Option<&str>), log: &LogName) -> bool {
        let named = |wanted: &LogName| wanted == log || wanted.as_str() == log.title();
        let of_job = self.job.as_ref().is_none_or(|wanted| job == Some(wanted.as_str()));
        of_job && self.attempt.is_none_or(|wanted| wanted == attempt) && self.log.as_ref().is_none_or(named)
    }
}

impl Transcript<Stdout> {
    /// For who looks at stdout: on a terminal lines come whole, and without what would steer it.
    pub(super) fn on_stdout(globals: &Globals, frame: Frame, selection: Selection) -> Self {
        let look = Look::of_stdout(globals.color());
        Self::new((io::stdout(), io::stdout().is_terminal()), look, frame, selection)
    }
}

impl<W: Write> Transcript<W> {
    fn new((out, is_terminal): (W, bool), look: Look, frame: Frame, selection: Selection) -> Self {
        let (current, jobs, said) = (None, BTreeMap::new(), String::new());
        let harmless = (is_terminal && frame != Frame::Raw).then(HashMap::new);
        Self { out, look, frame, selection, current, jobs, mid_line: false, harmless, said }
    }

    /// Learns which job each attempt is of.
    pub(super) fn learn(&mut self, view: &BuildView) {
        self.jobs.extend(view.attempts.iter().map(|attempt| (attempt.attempt, attempt.job.clone())));
    }

    fn holds(&self, attempt: u32, log: &LogName) -> bool {
        self.selection.holds((attempt, self.jobs.get(&attempt).map(String::as_str)), log)
    }

    /// What stands above a log: with its job, where there are several, and its attempt, where it is not the only one.
    fn title(&self, attempt: u32, log: &LogName) -> String {
        let name = log.title();
        let job = self.jobs.get(&attempt);
        let several = self.jobs.values().any(|other| Some(other) != job);
        match job.filter(|_| several) {
            Some(job) => {
                let tries = self.jobs.values().filter(|other| *other == job).count();
                let again = if tries > 1 { format!(" (attempt {attempt})") } else { String::new() };
                format!("{} · {name}{again}", clean(job))
            }
            None if attempt > 1 => format!("{name} (attempt {attempt})"),
            None => name.to_owned(),
        }
    }

    /// Writes a part of a log, and its heading where another was before. What was not selected is passed over.
    pub(super) fn log(&mut self, attempt: u32, log: &LogName, bytes: &[u8]) -> io::Result<()> {
        if !self.holds(attempt, log) || bytes.is_empty() {
            return Ok(());
        }
        self.heading(attempt, log)?;
        match &mut self.harmless {
            Some(logs) => {
                let colors = if self.look.is_colored() { Colors::Pass } else { Colors::Drop };
                for line in logs.entry((attempt, log.clone())).or_default().add(bytes, colors) {
                    writeln!(self.out, "{line}")?;
                }
            }
            None => {
                self.out.write_all(bytes)?;
                self.mid_line = !bytes.ends_with(b"\n");
            }
        }
        self.out.flush()
    }

    /// The name of a log, where another was before.
    fn heading(&mut self, attempt: u32, log: &LogName) -> io::Result<()> {
        if self.current.as_ref().is_some_and(|(at, name)| *at == attempt && name == log) {
            return Ok(());
        }
        if self.frame != Frame::Raw {
            let title = self.title(attempt, log);
            self.line(Tone::Strong, &format!("── {title}"))?;
        }
        self.current = Some((attempt, log.clone()));
        Ok(())
    }

    /// Says that bytes of a log are missing here. Between raw bytes it has no place, and is said beside them.
    pub(super) fn gap(&mut self, attempt: u32, log: &LogName, gap: &str) -> io::Result<()> {
        if !self.holds(attempt, log) {
            return Ok(());
        }
        if self.frame == Frame::Raw {
            note(&format!("{}: {gap}", log.title()));
            return Ok(());
        }
        self.heading(attempt, log)?;
        self.line(Tone::Bad, &format!("── {gap}"))
    }

    /// Says what has become of the build, when that is new. Its end is the caller's to tell.
    fn news(&mut self, view: &BuildView) -> io::Result<()> {
        let status = view.build.status;
        let agent = view.attempts.last().map(|attempt| format!(" on {}", clean(&attempt.agent))).unwrap_or_default();
        let message = view.build.message.as_ref().map(|message| format!(": {}", clean(message))).unwrap_or_default();
        let text = format!("{}{agent}{message}", status.name());
        if self.frame != Frame::News || status.is_over() || text == self.said {
            return Ok(());
        }
        self.line(tone(status), &format!("── {text}"))?;
        self.current = None;
        self.said = text;
        Ok(())
    }

    /// Ends a line that was left open, but for raw bytes.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let current = self.harmless.as_mut().zip(self.current.as_ref());
        if let Some(line) = current.and_then(|(logs, current)| logs.get_mut(current)?.close()) {
            writeln!(self.out, "{line}")?;
        }
        if self.mid_line && self.frame != Frame::Raw {
            self.out.write_all(b"\n")?;
            self.mid_line = false;
        }
        self.out.flush()
    }

    fn line(&mut self, tone: Tone, text: &str) -> io::Result<()> {
        self.finish()?;
        writeln!(self.out, "{}", self.look.paint(tone, text))?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use protocol::api::{AttemptView, BuildRow, Status};

    use super::super::builds::tests::row;
    use super::*;

    fn view(status: Status, message: Option<&str>) -> BuildView {
        let attempt = AttemptView {
            job: "build".to_owned(),
            attempt: 1,
            agent: "oak".to_owned(),
            state: "running".to_owned(),
            started_ms: 0,
            ended_ms: None,
            loss: None,
            stages: vec![],
            logs: vec![],
        };
        let attempts = if status == Status::Queued { vec![] } else { vec![attempt] };
        let build = BuildRow { message: message.map(str::to_owned), ..row(7, status) };
        BuildView { attempts, ..BuildView::new(build) }
    }

    fn written(frame: Frame, selection: Selection) -> String {
        let to_a_program = written_on(false, frame, selection.clone());
        // What steers no terminal looks the same on one, but for a line that is open.
        let on_a_terminal = written_on(true, frame, selection);
        assert_eq!(on_a_terminal, to_a_program);
        to_a_program
    }

    fn written_on(is_terminal: bool, frame: Frame, selection: Selection) -> String {
        let mut transcript = Transcript::new((Vec::new(), is_terminal), Look::plain(None), frame, selection);
        let (job, test) = (LogName::of_job(), "test".parse().unwrap());
        transcript.news(&view(Status::Queued, Some("waits for an agent"))).unwrap();
        transcript.news(&view(Status::Running, None)).unwrap();
        transcript.log(1, &job, b"cloned\n").unwrap();
        transcript.log(1, &test, b"one").unwrap();
        transcript.news(&view(Status::Running, None)).unwrap();
        transcript.log(1, &test, b" line\nhalf").unwrap();
        transcript.log(2, &test, b"again\n").unwrap();
        transcript.gap(2, &test, "log incomplete: 7 bytes missing").unwrap();
        transcript.news(&view(Status::Passed, None)).unwrap();
        transcript.finish().unwrap();
        String::from_utf8(transcript.out).unwrap()
    }

    #[test]
    fn a_heading_where_a_log_begins() {
        let all =
            "── job\ncloned\n── test\none line\nhalf\n── test (attempt 2)\nagain\n── log incomplete: 7 bytes missing\n";
        assert_eq!(written(Frame::Headings, Selection::default()), all);
        let news = format!("── queued: waits for an agent\n── running on oak\n{all}");
        assert_eq!(written(Frame::News, Selection::default()), news);
        assert_eq!(written(Frame::Raw, Selection::default()), "cloned\none line\nhalfagain\n");
    }

    #[test]
    fn a_terminal_is_not_steered_by_a_build() {
        let written = |is_terminal, look, frame| {
            let mut transcript = Transcript::new((Vec::new(), is_terminal), look, frame, Selection::default());
            let (build, test) = ("build".parse().unwrap(), "test".parse().unwrap());
            for (log, bytes) in [
                (&build, &b"\x1b[31mred\n10%\r99%\n\x1b]52;c;"[..]),
                (&test, b"half\x1b[2J"),
                (&build, b"ZXZpbA==\x07plain\x1b]0;title\x07"),
            ] {
                transcript.log(1, log, bytes).unwrap();
            }
            transcript.finish().unwrap();
            String::from_utf8(transcript.out).unwrap()
        };
        let shown = written(true, Look::colored(), Frame::Headings);
        let head = |log: &str| format!("\x1b[1m── {log}\x1b[0m\n");
        let (build, test) = (head("build"), head("test"));
        let red = "\x1b[31mred\x1b[0m\n\x1b[31m99%\x1b[0m\n";
        assert_eq!(shown, format!("{build}{red}{test}half\n{build}plain\n"));
        let plain = "── build\nred\n99%\n── test\nhalf\n── build\nplain\n";
        assert_eq!(written(true, Look::plain(None), Frame::Headings), plain);
        // For programs, and for who asks for the bytes, they are as they came.
        assert!(written(false, Look::plain(None), Frame::Headings).contains("half\x1b[2J"));
        assert!(written(true, Look::plain(None), Frame::Raw).contains("\x1b]52;c;half\x1b[2JZXZpbA"));
    }

    #[test]
    fn what_is_not_asked_for_is_not_shown() {
        let only = |log: Option<&str>, attempt| Selection {
            log: log.map(|log| log.parse().unwrap()),
            attempt,
            ..Selection::default()
        };
        assert_eq!(written(Frame::Headings, only(Some("job"), None)), "── job\ncloned\n");
        assert_eq!(written(Frame::Raw, only(Some("test"), Some(2))), "again\n");
        assert_eq!(written(Frame::Raw, only(None, Some(3))), "");
    }

    #[test]
    fn of_several_jobs_each_log_is_told_with_its_job() {
        let mut several = view(Status::Running, None);
        let mut other = several.attempts[0].clone();
        (other.job, other.attempt) = ("test (py=3.9)".to_owned(), 2);
        several.attempts.push(other);
        let written = |job: Option<&str>| {
            let selection = Selection { job: job.map(|job| job.parse().unwrap()), ..Selection::default() };
            let out = (Vec::new(), false);
            let mut transcript = Transcript::new(out, Look::plain(None), Frame::Headings, selection);
            transcript.learn(&several);
            for attempt in [1, 2] {
                transcript.log(attempt, &"test".parse().unwrap(), b"hello\n").unwrap();
            }
            String::from_utf8(transcript.out).unwrap()
        };
        let of_other = "── test (py=3.9) · test\nhello\n";
        assert_eq!(written(None), format!("── build · test\nhello\n{of_other}"));
        assert_eq!(written(Some("test (py=3.9)")), of_other);
    }

    #[test]
    fn a_farm_says_the_exit_code_itself() {
        for (status, said, expect) in [
            (Status::Errored, Some(2), 2),
            (Status::Errored, None, 3),
            (Status::Passed, None, 0),
            (Status::Cancelled, None, 130),
        ] {
            assert_eq!(exit_code(&BuildView { exit_code: said, ..view(status, None) }), expect);
        }
    }
}
