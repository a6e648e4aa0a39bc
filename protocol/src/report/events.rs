//! Several things that happened, in one message.

use serde::{Deserialize, Serialize};

use super::JobEvent;
use crate::id::ClaimId;

/// Several things that happened in one job, in the order of their numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Events {
    /// Under which claim; one that is not current changes nothing.
    pub claim: ClaimId,
    /// What, at most [`MAX_EVENTS`].
    pub events: Vec<Moment>,
}

/// The most events in one message: as many as a slot makes while a message is on its way, and some.
pub const MAX_EVENTS: usize = 64;

/// One of several things that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Moment {
    /// 1, 2, 3 … within the claim.
    pub seq: u64,
    /// The agent's clock, milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    pub event: JobEvent,
}
