//! What is not as it should be on the line, and messages that were laid aside.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is not as it should be on the line: `GET /api/v1/incidents`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Incidents {
    /// What happened, the newest first; equal ones are one with a count.
    pub incidents: Vec<IncidentView>,
    /// How many messages that were no job, or nothing at all, are known of.
    pub dead_letters: u64,
    /// The newest of them.
    pub newest_dead: Vec<DeadLetterView>,
}

/// One incident.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct IncidentView {
    /// What kind of thing happened.
    pub kind: IncidentKind,
    /// The agent, the broker's user or the queue that it is about.
    pub about: String,
    /// What happened and what to do.
    pub sentence: String,
    /// When it happened first, in milliseconds since 1970.
    pub first_ms: u64,
    /// When it happened last.
    pub last_ms: u64,
    /// How often it happened.
    pub count: u64,
}

/// What kind of thing an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// A message that cannot be read, or is no job.
    Unreadable,
    /// Somebody spoke in another's name, or without the signature that is known.
    Forged,
    /// A job or claim was named that this coordinator never made.
    Unknown,
    /// A job was given up because agents were lost under it.
    GivenUp,
}

impl IncidentKind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Forged => "forged",
            Self::Unknown => "unknown",
            Self::GivenUp => "given_up",
        }
    }
}

impl std::str::FromStr for IncidentKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Unreadable, Self::Forged, Self::Unknown, Self::GivenUp];
        all.into_iter().find(|kind| kind.name() == text).ok_or_else(|| format!("{text:?} is no kind of incident"))
    }
}

/// A message that was laid aside. Its first 4 KiB lie in the broker's queue `buildr.dead`, with the reason.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterView {
    /// The queue it lay on.
    pub queue: String,
    /// Why it was laid aside.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// How many bytes of it are kept.
    pub bytes: u64,
    /// The first of them, as text.
    pub excerpt: String,
}
