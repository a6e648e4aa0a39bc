//! How a container, a stage, a job and a build end. The user's failure is a result; the farm's is an error.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::StageName;

/// How a job or a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// All that should run ran, and ended with 0.
    Passed,
    /// The user's own script (`prepare`'s too) ended with something else.
    Failed,
    /// The farm could not do its part.
    Errored {
        /// Which part.
        cause: Cause,
    },
    /// Somebody ended it.
    Cancelled,
}

/// Which part of the farm's work could not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The manifest is missing or wrong.
    Manifest,
    /// The repository or the commit could not be had.
    Clone,
    /// An image could not be had.
    Pull,
    /// The container daemon, or the agent's own machine, could not do what was asked.
    Daemon,
    /// The agent went silent, as often as attempts were allowed.
    AgentLost,
    /// A limit or a policy of the farm stands against it.
    Limit,
    /// It may or may not have happened, and must not happen twice.
    OutcomeUnknown,
    /// A service that a stage works with did not become ready.
    Service,
    /// A cause that a newer buildr knows.
    #[serde(other)]
    Other,
}

impl Cause {
    /// Its name as it stands on the wire and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Clone => "clone",
            Self::Pull => "pull",
            Self::Daemon => "daemon",
            Self::AgentLost => "agent_lost",
            Self::Limit => "limit",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Service => "service",
            Self::Other => "other",
        }
    }
}

impl Outcome {
    /// Its name without the cause: `passed`, `failed`, `errored`, `cancelled`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Errored { .. } => "errored",
            Self::Cancelled => "cancelled",
        }
    }

    /// The exit code that a command of buildr ends with for it.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::Errored { cause: Cause::Manifest } => 2,
            Self::Errored { .. } => 3,
            Self::Cancelled => 130,
        }
    }

    /// The worse of two, for folding jobs into a build: cancelled, then errored, then failed, then passed.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        let rank = |outcome: Self| match outcome {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::Errored { .. } => 2,
            Self::Cancelled => 3,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errored { cause } => write!(f, "errored ({})", cause.name().replace('_', " ")),
            other => f.write_str(other.name()),
        }
    }
}

/// The end of a job, with the sentence that a person reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ending {
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What happened and what to do; absent when it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The stage in which it ended, when it was in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageName>,
    /// Whether another attempt might do better: what the farm could not do may pass, or go well on another machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

impl Ending {
    /// All went well.
    #[must_use]
    pub fn passed() -> Self {
        Self::of(Outcome::Passed, None)
    }

    /// An end that another attempt would come to as well, in no stage.
    #[must_use]
    pub fn of(outcome: Outcome, message: Option<String>) -> Self {
        Self { outcome, message, stage: None, again: false }
    }

    /// The farm could not do its part.
    #[must_use]
    pub fn errored(cause: Cause, message: impl Into<String>) -> Self {
        Self::of(Outcome::Errored { cause }, Some(message.into()))
    }

    /// Somebody ended it.
    #[must_use]
    pub fn cancelled(message: impl Into<String>) -> Self {
        Self::of(Outcome::Cancelled, Some(message.into()))
    }

    /// The same end, in this stage.
    #[must_use]
    pub fn in_stage(mut self, stage: &StageName) -> Self {
        self.stage = Some(stage.clone());
        self
    }

    /// The same end, after which another attempt might do better or not.
    #[must_use]
    pub fn or_again(mut self, again: bool) -> Self {
        self.again = again;
        self
    }
}

/// How the process of one container came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum StageEnd {
    /// By itself.
    Exited {
        /// What the script ended with.
        code: i64,
    },
    /// The kernel ended it for want of memory.
    OutOfMemory {
        /// The limit in bytes, 0 when only the machine's own memory was the limit.
        limit_bytes: u64,
    },
    /// It ran longer than it may.
    TimedOut {
        /// The limit in milliseconds.
        limit_ms: u64,
    },
    /// It was silent for longer than it may.
    IdleTimedOut {
        /// The limit in milliseconds.
        limit_ms: u64,
    },
    /// Its disk cap was reached.
    DiskFull {
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// It was ended from outside.
    Cancelled,
}

impl StageEnd {
    /// Whether the script did what it should.
    #[must_use]
    pub fn passed(self) -> bool {
        self == Self::Exited { code: 0 }
    }

    /// The same in words, with what its exit code says to those who know.
    #[must_use]
    pub fn in_words(self) -> String {
        let Self::Exited { code } = self else { return self.to_string() };
        let meaning = match code {
            126 => "a command may not be executed",
            127 => "a command was not found",
            137 => "killed, most often for want of memory",
            139 => "a program used memory that is not its own: SIGSEGV",
            129..=143 => {
                let signal =
                    usize::try_from(code - 129).ok().and_then(|place| SIGNALS.get(place)).unwrap_or(&"a signal");
                return format!("{self} (ended by {signal})");
            }
            _ => return self.to_string(),
        };
        format!("{self} ({meaning})")
    }
}

/// The names of signals, from 1 on, as Linux numbers them.
const SIGNALS: [&str; 15] = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1", "SIGSEGV",
    "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM",
];

impl fmt::Display for StageEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: u64| Duration::from_millis(ms).as_secs();
        match *self {
            Self::Exited { code } => write!(f, "exit code {code}"),
            Self::OutOfMemory { limit_bytes: 0 } => f.write_str("killed: out of memory"),
            Self::OutOfMemory { limit_bytes } => write!(f, "killed: out of memory (limit {} MiB)", limit_bytes >> 20),
            Self::TimedOut { limit_ms } => write!(f, "stopped: it ran longer than {} s", seconds(limit_ms)),
            Self::IdleTimedOut { limit_ms } => write!(f, "stopped: it printed nothing for {} s", seconds(limit_ms)),
            Self::DiskFull { limit_bytes } => write!(f, "stopped: it wrote more than {} MiB", limit_bytes >> 20),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum StageOutcome {
    /// With 0.
    Passed,
    /// With something else, which the manifest allows.
    AllowedFailure {
        /// How its container ended.
        end: StageEnd,
    },
    /// With something else.
    Failed {
        /// How its container ended.
        end: StageEnd,
    },
    /// It could not be run.
    Errored {
        /// What could not be done.
        cause: Cause,
        /// What happened and what to do.
        message: String,
        /// Whether it may pass, or go well on another machine.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
    },
    /// Somebody ended it.
    Cancelled,
    /// It was not run.
    Skipped {
        /// Why not.
        reason: String,
    },
}

impl StageOutcome {
    /// Its name: `passed`, `allowed_failure`, `failed`, `errored`, `cancelled`, `skipped`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::AllowedFailure { .. } => "allowed_failure",
            Self::Failed { .. } => "failed",
            Self::Errored { .. } => "errored",
            Self::Cancelled => "cancelled",
            Self::Skipped { .. } => "skipped",
        }
    }

    /// What a person wants to know beyond the name.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Passed | Self::Cancelled => None,
            Self::AllowedFailure { end } | Self::Failed { end } => Some(end.to_string()),
            Self::Errored { message, .. } => Some(message.clone()),
            Self::Skipped { reason } => Some(reason.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_told_in_words() {
        for (code, expect) in [
            (1, "exit code 1"),
            (127, "exit code 127 (a command was not found)"),
            (137, "exit code 137 (killed, most often for want of memory)"),
            (134, "exit code 134 (ended by SIGABRT)"),
            (143, "exit code 143 (ended by SIGTERM)"),
            (255, "exit code 255"),
        ] {
            assert_eq!(StageEnd::Exited { code }.in_words(), expect);
        }
    }
}
