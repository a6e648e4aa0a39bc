//! Logs line by line, as people look at them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Some lines of a log: `GET /api/v1/builds/N/logs/NAME/lines?from=&count=`, and each event `lines` of
/// `GET /live/builds/N/logs/NAME`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogLines {
    /// The lines, in order. There may be fewer than were asked for where they are long: go on behind the last.
    pub lines: Vec<LogLine>,
    /// Where the log stands.
    pub log: LogState,
}

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// Its number, from 1.
    pub n: u64,
    /// When its first byte was printed, in milliseconds since the log's first; absent when that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    /// Its text; as HTML, of spans with classes and of links, unless it was asked for with `format=text`.
    pub text: String,
    /// How many of its bytes are left out of a line that is very long.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub left_out: u64,
    /// Whether the line is not over: it will be sent again when it has grown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
}

fn is_nothing(bytes: &u64) -> bool {
    *bytes == 0
}

/// Where a log stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogState {
    /// Of which attempt it is.
    pub attempt: u32,
    /// How many lines it has so far, one that is not over included.
    pub total: u64,
    /// How many bytes it has so far.
    pub bytes: u64,
    /// Whether nothing more will come.
    pub settled: bool,
    /// What is missing of it for good, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
    /// When its first byte was printed, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_ms: Option<u64>,
    /// How many commands it announces; of more than 2,000 the first.
    pub commands: usize,
}

/// The lines of a log that announce a command: `GET /api/v1/builds/N/logs/NAME/commands`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogCommands {
    /// In order; of more than 2,000 the first.
    pub commands: Vec<LogCommand>,
}

/// A line that announces a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogCommand {
    /// The line's number.
    pub line: u64,
    /// The command, as far as it is shown in a list.
    pub text: String,
}

/// Lines in which something was found: `GET /api/v1/builds/N/logs/NAME/search?q=&regex=&case=&from=&limit=`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogHits {
    /// In order.
    pub hits: Vec<LogHit>,
    /// From which line to go on; absent when all that is there was looked through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A line in which something was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogHit {
    /// The line's number.
    pub line: u64,
    /// The end of what stands before it in its line.
    pub before: String,
    /// What was found first in the line.
    pub found: String,
    /// The beginning of what stands behind it.
    pub after: String,
}
