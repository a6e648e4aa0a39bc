//! Who is told what happens in a job, in order: the agent's reporter, a person's terminal, a list in tests.

use async_trait::async_trait;
use bytes::Bytes;
use protocol::LogName;
use protocol::report::JobEvent;

/// Is told what happens in one job.
///
/// Calls come one at a time and in order. A sink may make its caller wait (that is how a slow reader slows a
/// stage), but never loses what it accepted.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// Something happened.
    ///
    /// # Errors
    /// When it cannot be kept; the job then ends as errored, for what it does could not be told truly.
    async fn emit(&self, event: JobEvent) -> Result<(), SinkError>;

    /// Something happened, and what follows from it must never be done twice. Returns when it is certain that nobody
    /// else will do it too: for a person's own terminal that is at once, for an agent when the coordinator has it
    /// in its store. May be dropped; then what would have followed is not done.
    ///
    /// # Errors
    /// When that cannot become certain.
    async fn emit_certain(&self, event: JobEvent) -> Result<(), SinkError>;

    /// A log grew by these bytes.
    ///
    /// # Errors
    /// When they cannot be kept.
    async fn log(&self, log: &LogName, bytes: Bytes) -> Result<(), SinkError>;
}

/// What was told could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("failed to keep what the job reports: {0}")]
pub struct SinkError(#[from] pub std::io::Error);
