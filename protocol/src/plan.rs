//! What a manifest means: jobs with edges, in which nothing is left to look up.
//!
//! [`PlannedJob`] says when a job may begin, [`Plan`] what it does, [`StagePlan`] one container of it, [`BuildPlan`]
//! what holds for the build as a whole. Durations are milliseconds. A field that is absent on the wire means what
//! earlier versions did.

mod image;
mod job;
mod schedule;
mod stage;

use std::ops::Not;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{JobKey, StageName};

pub use image::{Image, Prepare, Pull};
pub use job::{Cell, Concurrency, Downstream, Gate, GateInput, Lane, PlannedJob, RunOn, TakeOrder};
pub use schedule::{MAX_SCHEDULES, Schedule};
pub use stage::{
    AllowFailure, Artifacts, Cache, CachePolicy, Coverage, KeepWhen, Probe, Ready, Reports, Resources, Retry,
    RetryCause, SecretRequest, Service, StagePlan,
};

/// The most jobs that one build may be planned into. A plan comes from a user's file, so it has caps.
pub const MAX_JOBS: usize = 256;

/// The most bytes that a build's planned jobs may take on the wire.
pub const MAX_PLAN_BYTES: usize = 1 << 20;

/// What one job does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// The image that `prepare` and every stage without one of its own start from.
    pub image: Image,
    /// Variables for every container of the job, in the order in which later wins: the top level's, then the
    /// matrix cell's.
    #[serde(default)]
    pub environment: Vec<Variable>,
    /// Variables that win over the stages' own: the build's inputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Variable>,
    /// Globs over the names of the agent's own environment that are passed on; empty passes nothing.
    #[serde(default)]
    pub inherit: Vec<String>,
    /// What makes the prepared image.
    #[serde(default)]
    pub prepare: Option<Prepare>,
    /// What runs. Each waits for what its [`StagePlan::needs`] says.
    pub stages: Vec<StagePlan>,
    /// Services that live as long as the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Where the checkout is mounted, in every container.
    #[serde(default = "default_workspace")]
    pub workspace: String,
    /// How the code is fetched.
    #[serde(default, skip_serializing_if = "CloneOptions::is_default")]
    pub clone: CloneOptions,
    /// Other repositories whose code is put into the workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repos: Vec<OtherRepo>,
    /// Which pipeline it belongs to, when the repository has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Whether all else that runs in the job ends as soon as one of its stages fails.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub fail_fast: bool,
    /// The most stages that run at once, when the manifest says so; the agent's own bound holds in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage_parallelism: Option<u32>,
}

impl Plan {
    /// A plan of these stages, and nothing else.
    #[must_use]
    pub fn new(image: impl Into<Image>, stages: Vec<StagePlan>) -> Self {
        Self {
            image: image.into(),
            environment: Vec::new(),
            inputs: Vec::new(),
            inherit: Vec::new(),
            prepare: None,
            stages,
            services: Vec::new(),
            workspace: default_workspace(),
            clone: CloneOptions::default(),
            repos: Vec::new(),
            pipeline: None,
            fail_fast: true,
            stage_parallelism: None,
        }
    }

    /// All secrets that its parts ask for.
    pub fn secret_requests(&self) -> impl Iterator<Item = &SecretRequest> {
        let of_prepare = self.prepare.iter().flat_map(|prepare| &prepare.secrets);
        self.stages.iter().flat_map(|stage| &stage.secrets).chain(of_prepare)
    }

    /// The values that stand sealed in it. Each is there once.
    #[must_use]
    pub fn secure_values(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.secret_requests().filter_map(|request| request.secure.as_deref()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// What holds for a build as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildPlan {
    /// Stages that were passed over when the build was planned, with the reason; they are in no job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedStage>,
    /// Whether an older build of the same branch or pull request is cancelled by this one; without it the farm
    /// decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_superseded: Option<bool>,
    /// How long the build may take from its first job on, waiting for people apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Of whose turn the whole build waits, and holds until it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// The same of single pipelines of a build of several, each for its own jobs. Where there are any, `concurrency` is
    /// the first of them, for a coordinator that knows of no others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pipelines: Vec<PipelineTurn>,
    /// The order in which the build's jobs are preferred to others': higher first, 0 unless said.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// When builds begin by themselves. They count only in a build of what the repository's default branch has now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<Schedule>,
}

impl BuildPlan {
    /// Whether nothing holds for the build as a whole.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The turns that its jobs wait for together: those of a pipeline, or all of them where none is named.
    pub fn turns(&self) -> impl Iterator<Item = (Option<&str>, &Concurrency)> {
        let whole = self.concurrency.iter().filter(|_| self.pipelines.is_empty()).map(|terms| (None, terms));
        whole.chain(self.pipelines.iter().map(|turn| (Some(turn.pipeline.as_str()), &turn.concurrency)))
    }
}

/// Of whose turn one pipeline waits, and holds until all of its jobs but its `finally` are over: that one waits for the
/// other pipelines too, and who has a turn must not wait for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PipelineTurn {
    /// Its name; the empty text for the one without.
    pub pipeline: String,
    /// Of which group.
    pub concurrency: Concurrency,
}

/// A stage that was passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SkippedStage {
    /// Which.
    pub stage: StageName,
    /// Of which pipeline, when there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Why, as the end of the sentence "skipped: …".
    pub reason: String,
}

/// How the code of a repository is fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CloneOptions {
    /// Nothing is fetched: the workspace begins empty (`clone: false`).
    #[serde(default, skip_serializing_if = "Not::not")]
    pub none: bool,
    /// How many commits of history a stage sees; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u32>,
    /// Whether submodules are fetched.
    #[serde(default, skip_serializing_if = "Submodules::is_none")]
    pub submodules: Submodules,
    /// Whether files of git LFS are fetched.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub lfs: bool,
    /// A partial clone's filter, such as `blob:none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

impl CloneOptions {
    /// Whether nothing special is asked for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which submodules are fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Submodules {
    /// None.
    #[default]
    None,
    /// Those of the repository.
    Direct,
    /// Those, and theirs.
    Recursive,
}

impl Submodules {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// Another repository in the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OtherRepo {
    /// What the manifest calls it.
    pub name: String,
    /// Where it is.
    pub url: crate::source::RepoUrl,
    /// Where its code goes, below the workspace.
    pub path: String,
    /// Which branch; `None` is the same as the build's own where it has one of that name, else its default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

/// Where the checkout is mounted unless a manifest says otherwise.
pub const WORKSPACE: &str = "/app";

fn default_workspace() -> String {
    WORKSPACE.to_owned()
}

/// A variable of the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Variable {
    /// `[A-Za-z_][A-Za-z0-9_]*`
    pub name: String,
    /// Any text without a NUL.
    pub value: String,
}

impl Variable {
    /// A variable.
    #[must_use]
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_yes(flag: &bool) -> bool {
    *flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// The artifacts that one job left, for those that need it. The bytes never travel over the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Kept {
    /// Which job left them.
    pub job: JobKey,
    /// In which stage.
    pub stage: StageName,
    /// How many files.
    pub files: u64,
    /// The length of the archive in bytes.
    pub bytes: u64,
    /// SHA-256 of the archive, in hexadecimal: its name wherever it is kept.
    pub sha256: String,
    /// For which other jobs that left something its own waited; absent where nobody wrote that down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<JobKey>>,
}

/// Two jobs that wait for nothing of each other hand on different values for one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Clash {
    /// Which name.
    pub name: String,
    /// The one.
    pub one: JobKey,
    /// The other.
    pub other: JobKey,
}
