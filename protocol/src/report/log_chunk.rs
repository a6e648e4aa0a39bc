//! A piece of a log on its way.

use bytes::Bytes;

use crate::id::{ClaimId, LogName};

/// The longest piece of a log that is taken, in bytes: four of those that agents send, for their next versions.
pub const MAX_CHUNK_BYTES: usize = 256 << 10;

/// Beyond this no log reaches, in bytes: what lies there is nonsense, and no file system has a place for it.
pub const MAX_LOG_BYTES: u64 = 1 << 42;

/// Some bytes of a log. They travel raw or as one zstd frame, with the rest in the message's headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Under which claim.
    pub claim: ClaimId,
    /// Which log.
    pub log: LogName,
    /// Where in the log they begin, in bytes.
    pub offset: u64,
    /// The agent's clock when they were printed, milliseconds since 1970.
    pub at_ms: u64,
    /// The bytes.
    pub bytes: Bytes,
    /// Whether they travel compressed, where that makes them fewer: only to a coordinator that reads them so
    /// ([`Grant::reads_packed`](crate::control::Grant::reads_packed)).
    pub packed: bool,
}
