//! Triggers, store, schedule, truth, API and pages.

pub mod config;
mod store;
