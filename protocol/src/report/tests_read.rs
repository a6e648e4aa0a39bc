//! What the reports of a stage say of its tests.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most failing tests of one stage that are told one by one.
pub const MAX_FAILURES: usize = 100;

/// What a stage's tests came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tests {
    /// How many passed.
    pub passed: u32,
    /// How many failed, errors among them.
    pub failed: u32,
    /// How many were passed over.
    pub skipped: u32,
    /// How long they took, in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
    /// The first [`MAX_FAILURES`] that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<TestFailure>,
}

/// A test that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TestFailure {
    /// Its name, with its suite's or class's.
    pub name: String,
    /// What it said, shortened.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The file it stands in, and the line, where the report says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}
