//! One stage: one fresh container, and all that belongs to it.

use std::ops::Not;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Image, RunOn, Variable};
use crate::id::StageName;

/// One stage: one fresh container, one script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StagePlan {
    /// Its name.
    pub name: StageName,
    /// Its own image, taken untouched; without one it starts from the prepared image.
    #[serde(default)]
    pub image: Option<Image>,
    /// Its commands, run one after the other by one `/bin/sh -e`.
    pub script: Vec<String>,
    /// Whether it asks for the Docker socket.
    #[serde(default)]
    pub docker: bool,
    /// Whether the farm may never start it again once its script began, because what it does must not be done twice.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub not_twice: bool,
    /// The stages of this job that must have ended before it; without it, all that stand before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Vec<StageName>>,
    /// On what ends of what came before it runs.
    #[serde(default, skip_serializing_if = "RunOn::is_passed")]
    pub run_on: RunOn,
    /// Why it does not run in this build, when that was known when it was planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<String>,
    /// Variables that win over the job's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<Variable>,
    /// As [`super::Plan::inherit`], in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherit: Option<Vec<String>>,
    /// Where the script begins: below the workspace, or absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// What runs the script in place of `/bin/sh -e`; `{0}` stands for the script's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// How long it may run; the agent's own bound holds in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How long it may print nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// Which of its failures count as passed.
    #[serde(default, skip_serializing_if = "AllowFailure::is_none")]
    pub allow_failure: AllowFailure,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Services that live as long as it does, hiding the job's of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Which of its files are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Artifacts>,
    /// What of its files is read for people.
    #[serde(default, skip_serializing_if = "Reports::is_empty")]
    pub reports: Reports,
    /// What it keeps for later builds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<Cache>,
    /// The secrets that it is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretRequest>,
    /// What runs in its container when the script failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_failure: Vec<String>,
    /// What runs in its container whenever the script began, last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// What it may use of the machine; the agent's own bounds hold in any case.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Whether it asks for a privileged container.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub privileged: bool,
}

impl StagePlan {
    /// A stage that runs these commands, and nothing else.
    #[must_use]
    pub fn new(name: StageName, script: Vec<String>) -> Self {
        Self {
            name,
            image: None,
            script,
            docker: false,
            not_twice: false,
            needs: None,
            run_on: RunOn::Passed,
            skip: None,
            environment: Vec::new(),
            inherit: None,
            dir: None,
            shell: None,
            timeout_ms: None,
            idle_timeout_ms: None,
            allow_failure: AllowFailure::None,
            retry: None,
            services: Vec::new(),
            artifacts: None,
            reports: Reports::default(),
            cache: Vec::new(),
            secrets: Vec::new(),
            on_failure: Vec::new(),
            after: Vec::new(),
            resources: Resources::default(),
            privileged: false,
        }
    }
}

/// Which failures of a stage count as passed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllowFailure {
    /// None.
    #[default]
    None,
    /// All of its script.
    Any,
    /// These exit codes.
    Codes(Vec<i64>),
}

impl AllowFailure {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// When a stage is tried again, in a fresh container on the workspace as it was before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Retry {
    /// How many times more than once.
    pub max: u32,
    /// After which ends; after any failure when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<RetryCause>,
    /// How long it waits before each.
    #[serde(default)]
    pub delay_ms: u64,
}

/// After what a stage is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryCause {
    /// The script failed, with whatever code.
    Failed,
    /// An image could not be had, or the daemon failed.
    Infra,
    /// It ran, or was silent, longer than it may.
    Timeout,
    /// It was ended for want of memory.
    OutOfMemory,
    /// The script ended with this code.
    Code(i64),
}

/// A container beside a stage or job, reached by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Service {
    /// Its host name.
    pub name: String,
    /// Its image.
    pub image: Image,
    /// Its environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<Variable>,
    /// Its command in place of the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// When it is ready; without it by the image's own health check, else by its first exposed port, else at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// How long it may take to be ready.
    #[serde(default = "ready_timeout")]
    pub ready_timeout_ms: u64,
    /// What it may use of the machine.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Whether it asks for a privileged container.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub privileged: bool,
}

fn ready_timeout() -> u64 {
    60_000
}

/// How a service's readiness is found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// A shell command in its container ends with 0.
    Command(String),
    /// It accepts connections on this port.
    Tcp(u16),
    /// It answers a GET with a status below 400.
    Http(Probe),
    /// What it printed matches this regular expression.
    Log(String),
}

/// What is asked of a service over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Probe {
    /// On which port.
    pub port: u16,
    /// Which path, with its leading slash.
    pub path: String,
}

/// Which of a stage's files are kept: for the jobs that need its job, and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Artifacts {
    /// Globs below the workspace.
    pub paths: Vec<String>,
    /// Globs of what is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// After which ends they are kept.
    #[serde(default)]
    pub when: KeepWhen,
    /// For how long the farm keeps them; as long as it keeps the build without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_ms: Option<u64>,
}

/// After which ends of its stage something is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeepWhen {
    /// When it passed.
    #[default]
    Success,
    /// When it did not.
    Failure,
    /// In any case.
    Always,
}

/// What of a stage's files is read for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reports {
    /// Globs of JUnit XML files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub junit: Vec<String>,
    /// Where the coverage is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
}

impl Reports {
    /// Whether nothing is read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a stage's coverage is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// In a file of lcov's or Cobertura's form, whichever it is.
    File(String),
    /// In what it printed: the first group of the last match of this regular expression, in per cent.
    Log(String),
}

/// Folders that later builds find again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cache {
    /// Below the workspace, absolute, or below `~`.
    pub paths: Vec<String>,
    /// A text that is part of its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Globs of files whose contents are part of its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// Names that are taken, in this order, when nothing of the whole name is there; a name's beginning is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<String>,
    /// Whether it is taken, kept, or both.
    #[serde(default)]
    pub policy: CachePolicy,
}

/// Whether a cache is taken, kept, or both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CachePolicy {
    /// Taken before the stage, kept after it passed.
    #[default]
    Both,
    /// Taken only.
    Pull,
    /// Kept only.
    Push,
}

/// A secret that a stage is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretRequest {
    /// The variable in which it arrives; as a file, the variable has the file's path.
    pub variable: String,
    /// The secret's name.
    pub from: String,
    /// Whether it arrives as a file.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub file: bool,
    /// The value itself, sealed for the farm: then no store is asked, and the order has it under this very text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure: Option<String>,
}

/// What a container may use of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resources {
    /// Thousandths of a processor core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_milli: Option<u64>,
    /// Memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Shared memory in bytes (`/dev/shm`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_bytes: Option<u64>,
}

impl Resources {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
