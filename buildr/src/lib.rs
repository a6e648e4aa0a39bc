//! Manifest to plan to run: what a `.buildr.yml` means, and the one path on which it is carried out.
//!
//! `buildr run` and the agent both enter at [`runner`]. The library never talks to a person: it tells an
//! [`sink::EventSink`] what happens. The modules stand in a line: each uses only those before it.

pub mod manifest;
pub mod import;
pub mod init;
pub mod plan;
mod closure;
mod folder;
pub mod overlay;
pub mod git;
pub mod sink;
pub mod ledger;
pub mod executor;
pub mod process;
pub mod client;
pub mod carry;
pub mod runner;
pub mod cli;
