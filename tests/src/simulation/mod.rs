//! The farm in two simulations, both driven by a seed.
//!
//! [`model`] is the protocol alone: a store's rows that follow the real [`JobState`](protocol::state::JobState), agents,
//! a queue, reports that come at least once, controls that are lost, doubled, late and out of order; in its own time,
//! so that thousands of courses take seconds and each is the same again from its seed. [`parts`] is the real thing in
//! one process: coordinator, agents and store, over a line in memory that is broken at random, in real time with short
//! leases, many farms beside each other.

pub mod model;
pub mod parts;

use std::ops::Range;

use crate::rabbit::setting;

/// The seeds that a test goes through: `BUILDR_SIM_SEED` names one, `BUILDR_SIM_SEEDS` how many from 0 on.
///
/// # Panics
/// When one of them is no number.
#[must_use]
pub fn seeds(unless_told: u64) -> Range<u64> {
    let number = |text: String| text.parse::<u64>().expect("a number of seeds, or a seed");
    match setting("BUILDR_SIM_SEED", "") {
        one if !one.is_empty() => number(one.clone())..number(one) + 1,
        _ => 0..number(setting("BUILDR_SIM_SEEDS", &unless_told.to_string())),
    }
}
