//! What a job leaves for others of its build in this process, heard on its way to the sink.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use protocol::plan::Kept;
use protocol::report::JobEvent;
use protocol::{JobKey, LogName, Variable};

use crate::sink::{EventSink, SinkError};

/// What a job leaves.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The values that it hands on.
    pub(super) handed: Vec<Variable>,
    /// The archives that it keeps.
    pub(super) kept: Vec<Kept>,
}

/// A sink that listens.
pub(super) struct Tap<'a> {
    sink: &'a dyn EventSink,
    job: &'a JobKey,
    left: Mutex<Left>,
}

impl<'a> Tap<'a> {
    pub(super) fn new(sink: &'a dyn EventSink, job: &'a JobKey) -> Self {
        Self { sink, job, left: Mutex::default() }
    }

    /// What was heard.
    pub(super) fn left(&self) -> Left {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        // Each change is one step.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, event: &JobEvent) {
        match event {
            JobEvent::HandedOn { values } => self.lock().handed.extend(values.iter().cloned()),
            JobEvent::ArtifactsKept { stage, files, bytes, sha256, .. } => {
                let (job, stage, sha256) = (self.job.clone(), stage.clone(), sha256.clone());
                self.lock().kept.push(Kept { job, stage, files: *files, bytes: *bytes, sha256, after: None });
            }
            _ => {}
        }
    }
}

#[async_trait]
impl EventSink for Tap<'_> {
    async fn emit(&self, event: JobEvent) -> Result<(), SinkError> {
        self.hear(&event);
        self.sink.emit(event).await
    }

    async fn emit_certain(&self, event: JobEvent) -> Result<(), SinkError> {
        self.hear(&event);
        self.sink.emit_certain(event).await
    }

    async fn log(&self, log: &LogName, bytes: Bytes) -> Result<(), SinkError> {
        self.sink.log(log, bytes).await
    }
}
