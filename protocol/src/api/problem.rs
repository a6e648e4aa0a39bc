//! What is said in place of an answer.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What comes back instead of an answer, with a status of 4xx or 5xx: `application/problem+json`, as RFC 9457 has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is: always `about:blank`, for the status says all that a program can go by.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What is wrong and what to do, as a sentence.
    pub detail: String,
    /// The same, where command lines of earlier versions look for it.
    pub error: String,
}
