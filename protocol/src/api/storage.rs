//! What a farm keeps, and how much room that takes.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::owners::KeptOtherwise;

/// `GET /api/v1/storage`: sizes in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StorageView {
    /// How many builds are kept.
    pub builds: u64,
    /// How many of them are pinned.
    pub pinned: u64,
    /// When the oldest was asked for, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_ms: Option<u64>,
    /// What jobs printed.
    pub logs_bytes: u64,
    /// The archives of files that they left.
    pub artifacts_bytes: u64,
    /// The database, room in it that can be used again included.
    pub database_bytes: u64,
    /// What the disk has left on which all this lies; absent when it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_free_bytes: Option<u64>,
    /// All that this disk has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_total_bytes: Option<u64>,
    /// For how long what is kept.
    #[serde(default)]
    pub keeps: Keeps,
    /// The projects for which that is otherwise, by their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<KeptOtherwise>,
}

/// For how long builds are kept, and what they leave; without end where nothing is said. Pinned builds and the last one
/// of each branch that passed are kept in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Keeps {
    /// The newest builds of each repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builds: Option<u32>,
    /// Days after their end. With both, a build is kept as long as one of them keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// Days for which what was printed is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs_days: Option<u32>,
    /// Days for which the files are kept that jobs left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts_days: Option<u32>,
}

impl fmt::Display for Keeps {
    /// In words, such as `the newest 50 builds of each repository; their output for 30 days`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = |days: u32| if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
        match (self.builds, self.days) {
            (None, None) => f.write_str("builds without end")?,
            (Some(newest), None) => write!(f, "the newest {newest} builds of each repository")?,
            (None, Some(age)) => write!(f, "builds for {}", days(age))?,
            (Some(newest), Some(age)) => {
                write!(f, "the newest {newest} builds of each repository, and all for {}", days(age))?;
            }
        }
        self.logs_days.map_or(Ok(()), |age| write!(f, "; their output for {}", days(age)))?;
        self.artifacts_days.map_or(Ok(()), |age| write!(f, "; their artifacts for {}", days(age)))
    }
}

/// `POST /api/v1/builds/N/pin`: keeps a build, however old it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Or keeps it no longer than others.
    pub pinned: bool,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pinned {
    /// What was done, as a sentence.
    pub message: String,
}
