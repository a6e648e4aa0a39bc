//! What crosses a process boundary in buildr, and nothing else.
//!
//! The words of the farm (ids, sources, plans, jobs, reports, outcomes), the one pure function that says
//! which state follows which ([`state`]), their bytes ([`wire`]), and the two ends of the line between
//! coordinator and agents ([`link`]). No room here does I/O but `link`; no vendor's type stands in a public
//! signature. The modules stand in a line: each uses only those before it.

pub mod id;
pub mod source;
pub mod credentials;
pub mod repo_glob;
pub mod outcome;
pub mod calendar;
pub mod plan;
pub mod job;
pub mod identity;
pub mod secure;
pub mod report;
pub mod control;
pub mod state;
pub mod course;
pub mod handing;
pub mod wire;
pub mod api;
pub mod task;
pub mod link;

pub use credentials::RepoCredentials;
pub use id::{AgentId, BootId, BuildNumber, ClaimId, JobId, JobKey, LabelSet, LogName, StageName};
pub use outcome::{Cause, Ending, Outcome, StageEnd, StageOutcome};
pub use plan::{Plan, PlannedJob, StagePlan, Variable};
pub use repo_glob::RepoGlob;
pub use source::{Branch, CommitId, RepoUrl};
