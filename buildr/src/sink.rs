//! Who is told what happens in a job, in order: the agent's reporter, a person's terminal, a list in tests.

use async_trait::async_trait;
use bytes::Bytes;
use protocol::report::{JobEvent, Span};
use protocol::{JobKey, LogName};

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

/// Is told what happens in a build whose jobs one process carries out: on a laptop, and at an agent that knows no
/// coordinator.
pub trait BuildSink: Send + Sync {
    /// Where the events of one job go; `None` is what comes before the build has jobs: the code and the plan.
    fn of_job(&self, job: Option<&JobKey>) -> Box<dyn EventSink + '_>;

    /// A job that is not run here, and why: as the end of the sentence "skipped: …".
    fn passed_over(&self, job: &JobKey, reason: &str);

    /// Where the time before the first job went.
    fn spent(&self, _spans: &[Span]) {}
}

/// Several logs as one text: each line says whose it is, and one that comes in pieces stays one line, unless
/// something of another log comes between. `K` tells the logs apart.
#[derive(Debug)]
pub struct Lines<K> {
    /// Whose line is not over.
    open: Option<K>,
}

impl<K> Default for Lines<K> {
    fn default() -> Self {
        Self { open: None }
    }
}

impl<K: PartialEq + Clone> Lines<K> {
    /// What a log has printed, with `prefix` before each line that begins.
    pub fn add(&mut self, of: &K, prefix: &str, bytes: &[u8]) -> Vec<u8> {
        // In one piece: a line at a time would be a call of the system for each.
        let mut text = Vec::with_capacity(bytes.len() * 2);
        if self.open.as_ref() != Some(of) {
            text.extend_from_slice(self.close());
        }
        let mut begins = self.open.is_none();
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            if begins {
                text.extend_from_slice(prefix.as_bytes());
            }
            text.extend_from_slice(line);
            begins = line.ends_with(b"\n");
        }
        if !bytes.is_empty() {
            self.open = (!begins).then(|| of.clone());
        }
        text
    }

    /// What ends the line that is not over; nothing when there is none.
    pub fn close(&mut self) -> &'static [u8] {
        if self.open.take().is_some() { b"\n" } else { b"" }
    }
}

/// What was told could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("failed to keep what the job reports: {0}")]
pub struct SinkError(#[from] pub std::io::Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_in_pieces_stays_one_unless_another_comes_between() {
        let mut lines = Lines::default();
        let mut text = Vec::new();
        for (of, bytes) in [("a", "on"), ("a", ""), ("a", "e\ntw"), ("b", "x\n"), ("a", "o\n\n"), ("b", "y")] {
            text.extend(lines.add(&of, &format!("{of} | "), bytes.as_bytes()));
        }
        text.extend(lines.close());
        text.extend(lines.close());
        assert_eq!(String::from_utf8(text).unwrap(), "a | one\na | tw\nb | x\na | o\na | \nb | y\n");
    }
}
