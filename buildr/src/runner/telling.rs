//! What is told of a job: one thing after the other, however many stages have something to say at once.

use std::io::ErrorKind;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::report::JobEvent;
use protocol::{Cause, Ending, LogName};
use tokio::sync::{Mutex, mpsc};

use super::redact::Redactor;
use crate::carry::reports::CoverageInLog;
use crate::executor::Stop;
use crate::ledger::Begins;
use crate::sink::{EventSink, SinkError};

/// A sink for several who speak at once: its calls come one at a time, but for those that wait for somebody's answer.
pub(super) struct InTurn<'a> {
    sink: &'a dyn EventSink,
    turn: Mutex<()>,
}

impl<'a> InTurn<'a> {
    pub(super) fn new(sink: &'a dyn EventSink) -> Self {
        Self { sink, turn: Mutex::default() }
    }
}

#[async_trait]
impl EventSink for InTurn<'_> {
    async fn emit(&self, event: JobEvent) -> Result<(), SinkError> {
        let _turn = self.turn.lock().await;
        self.sink.emit(event).await
    }

    /// It may wait for long, and holds nobody up meanwhile: the others go on to print, and their time runs.
    async fn emit_certain(&self, event: JobEvent) -> Result<(), SinkError> {
        self.sink.emit_certain(event).await
    }

    async fn log(&self, log: &LogName, bytes: Bytes) -> Result<(), SinkError> {
        let _turn = self.turn.lock().await;
        self.sink.log(log, bytes).await
    }
}

/// One log on its way: what a container prints, and what buildr adds.
pub(super) struct Pen<'a> {
    sink: &'a dyn EventSink,
    redactor: &'a Redactor,
    log: LogName,
    total: u64,
    /// Whether the last line is over.
    line_over: bool,
    failed: Option<SinkError>,
}

impl<'a> Pen<'a> {
    pub(super) fn new(sink: &'a dyn EventSink, redactor: &'a Redactor, log: LogName) -> Self {
        Self { sink, redactor, log, total: 0, line_over: true, failed: None }
    }

    /// Carries what is printed to the sink. When that fails the job is stopped, and the rest read and dropped, so that
    /// the container can come to its end. `coverage` reads along.
    pub(super) async fn pump(
        &mut self,
        mut printed: mpsc::Receiver<Bytes>,
        mut coverage: Option<&mut CoverageInLog>,
        begins: Option<&Begins<'_>>,
        stop: &Stop,
    ) {
        let mut stream = self.redactor.stream();
        while let Some(bytes) = printed.recv().await {
            begins.iter().for_each(|begins| begins.printed());
            let bytes = stream.push(bytes);
            self.pass(bytes, coverage.as_deref_mut(), stop).await;
        }
        self.pass(stream.finish(), coverage, stop).await;
    }

    async fn pass(&mut self, bytes: Bytes, coverage: Option<&mut CoverageInLog>, stop: &Stop) {
        if let Some(coverage) = coverage {
            coverage.push(&bytes);
        }
        self.write(bytes).await;
        if self.failed.is_some() {
            stop.cancel();
        }
    }

    /// Adds a line of buildr's own.
    pub(super) async fn say(&mut self, line: &str) {
        let begin = if self.line_over { "" } else { "\n" };
        let bytes = Bytes::from(format!("{begin}{}\n", self.redactor.text(line)));
        self.write(bytes).await;
    }

    /// Adds lines of buildr's own.
    pub(super) async fn say_all(&mut self, lines: &[String]) {
        for line in lines {
            self.say(line).await;
        }
    }

    async fn write(&mut self, bytes: Bytes) {
        if self.failed.is_some() || bytes.is_empty() {
            return;
        }
        self.total += bytes.len() as u64;
        self.line_over = bytes.ends_with(b"\n");
        self.failed = self.sink.log(&self.log, bytes).await.err();
    }

    /// Why what was written could not be kept, if so.
    pub(super) fn check(&mut self) -> Result<(), SinkError> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Tells how long the log has become.
    pub(super) async fn complete(mut self) -> Result<(), SinkError> {
        self.check()?;
        self.sink.emit(JobEvent::LogComplete { log: self.log, total: self.total }).await
    }
}

/// What the job itself has to say (clone, clean-up): a log of its own, before those of the stages.
pub(super) struct JobLog<'a> {
    sink: &'a dyn EventSink,
    redactor: &'a Redactor,
    written: Mutex<Result<u64, SinkError>>,
}

impl<'a> JobLog<'a> {
    pub(super) fn new(sink: &'a dyn EventSink, redactor: &'a Redactor) -> Self {
        Self { sink, redactor, written: Mutex::new(Ok(0)) }
    }

    /// Adds a line.
    pub(super) async fn say(&self, line: &str) {
        let bytes = Bytes::from(self.redactor.text(&format!("{line}\n")));
        let mut written = self.written.lock().await;
        if let Ok(total) = &mut *written {
            let length = bytes.len() as u64;
            match self.sink.log(&LogName::of_job(), bytes).await {
                Ok(()) => *total += length,
                Err(error) => *written = Err(error),
            }
        }
    }

    /// Tells how long the log has become, when anything was said.
    pub(super) async fn complete(self) -> Result<(), SinkError> {
        let total = self.written.into_inner()?;
        if total > 0 {
            self.sink.emit(JobEvent::LogComplete { log: LogName::of_job(), total }).await?;
        }
        Ok(())
    }
}

/// The job's end when what happens in it cannot be kept.
pub(super) fn told_badly(error: &SinkError) -> Ending {
    let (cause, message) = told(error);
    Ending::errored(cause, message)
}

/// Which part of the farm's work that is.
pub(super) fn told(error: &SinkError) -> (Cause, String) {
    match error.0.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            (Cause::Limit, format!("the agent's disk is full: {error}"))
        }
        _ => (Cause::Daemon, error.to_string()),
    }
}

/// An error with its sources, as one sentence.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
