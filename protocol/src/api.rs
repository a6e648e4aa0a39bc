//! The types of the coordinator's HTTP API, `/api/v1`: JSON that the command line and scripts read.

mod access;
mod agents;
mod artifacts;
mod incidents;
mod jobs;
mod secrets;
mod repro;
mod restart;
mod schedules;
mod statuses;
mod storage;
mod owners;
mod problem;
mod projects;
mod lines;
mod timeline;
mod wait;
mod why;

use std::collections::BTreeMap;
use std::ops::Not;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{BuildNumber, LogName, StageName};
use crate::job::Origin;
use crate::outcome::StageOutcome;
use crate::plan::{SkippedStage, Variable};
use crate::report::Tests;
use crate::source::{Branch, CommitId, RepoUrl};

pub use access::{Audit, AuditEntry, MadeToken, MakeToken, Role, TokenView, UnknownRole};
pub use agents::{AgentView, Approve, Forgotten, Pause, Paused, Revoke};
pub use artifacts::{ArtifactFile, ArtifactFiles, ArtifactView};
pub use incidents::{DeadLetterView, IncidentKind, IncidentView, Incidents};
pub use jobs::{ApproveJob, Approved, GateView, JobView, KeptView, TryView};
pub use lines::{LogCommand, LogCommands, LogHit, LogHits, LogLine, LogLines, LogState};
pub use owners::{CredentialsKind, CredentialsView, Keep, KeptOtherwise, ProjectKeeps, SetCredentials};
pub use problem::Problem;
pub use projects::{
    AddedProject, Approval, ChangeProject, Deliveries, DeliveryView, Forge, NewProject, ProjectView, Received,
    RemovedProject,
};
pub use repro::Repro;
pub use restart::{Restart, Restarted};
pub use schedules::{ScheduleAct, ScheduleDone, ScheduleOrder, ScheduleView};
pub use secrets::{RemoveSecret, SecretView, SetSecret};
pub use statuses::{ReportNoMore, ReportTo, ReportView, Reported};
pub use storage::{Keeps, Pin, Pinned, StorageView};
pub use timeline::{AttemptTimeline, Timeline};
pub use wait::{
    Asked, BusyQueue, NearAgent, NeededJob, PausedAgent, SeenAgent, WaitReason, WaitingAgent, coming, span,
};
pub use why::{CutShort, Forecast, IncompleteLog, Loss, LostAttempt, NotRun, RunningJob, WaitingJob, Why};

/// The header in which a client says who asks, such as `ada@laptop`: for people to read, and no proof of anything.
pub const ASKED_BY: &str = "x-buildr-by";

/// The key of the job that plans a build. No planned job has it, for no stage's name begins so.
pub const PLANNING_KEY: &str = "(plan)";

/// Where the coordinator listens unless told otherwise.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:8700";

/// `POST /api/v1/builds`: begin a build.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Submit {
    /// Which repository.
    pub repo: RepoUrl,
    /// Which branch; the remote's HEAD without one.
    #[serde(default)]
    pub branch: Option<Branch>,
    /// Which tag, in place of a branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Branch>)]
    pub tag: Option<String>,
    /// Which commit of it; the newest without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitId>,
    /// What the manifest asks for under `inputs`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
}

impl Submit {
    /// What a branch of a repository has now, or the remote's HEAD.
    #[must_use]
    pub fn new(repo: RepoUrl, branch: Option<Branch>) -> Self {
        Self { repo, branch, tag: None, commit: None, inputs: BTreeMap::new() }
    }
}

/// Where a build or a job stands, for people: an outcome's name once it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for an agent.
    Queued,
    /// An agent works on it.
    Running,
    /// An agent works on it, and was told to end.
    Cancelling,
    /// Over, well.
    Passed,
    /// Over: the user's script failed.
    Failed,
    /// Over: the farm could not do its part.
    Errored,
    /// Over: somebody ended it.
    Cancelled,
    /// Over: it was passed over. Only jobs stand so, never builds.
    Skipped,
}

impl Status {
    /// Whether it will not change any more.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::Cancelling)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Errored => "errored",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// One build, in a list. `GET /api/v1/builds?before=N&limit=N` gives [`Builds`].
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BuildRow {
    /// Its number.
    pub number: BuildNumber,
    /// The repository, without a password.
    pub repo: String,
    /// The branch, once it is known.
    pub branch: Option<Branch>,
    /// The commit, once it is known.
    pub commit: Option<CommitId>,
    /// The first line of the commit's message.
    pub subject: Option<String>,
    /// Why it began: `push`, `manual`, `injected` …
    pub trigger: String,
    /// Where it stands.
    pub status: Status,
    /// Why it waits, or how it ended, as a sentence.
    pub message: Option<String>,
    /// When it was asked for, in milliseconds since 1970.
    pub created_ms: u64,
    /// When an agent began.
    pub started_ms: Option<u64>,
    /// When it was over.
    pub ended_ms: Option<u64>,
}

/// A page of builds, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Builds {
    /// The builds.
    pub builds: Vec<BuildRow>,
    /// Pass as `before` for the next page; absent on the last one.
    pub next: Option<BuildNumber>,
}

/// One build whole: `GET /api/v1/builds/N`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BuildView {
    /// What the list shows of it.
    pub build: BuildRow,
    /// The exit code that a command which watched it ends with, once it is over.
    pub exit_code: Option<u8>,
    /// Its attempts, oldest first; the last one counts.
    pub attempts: Vec<AttemptView>,
    /// Its jobs in the order of the plan, once it is planned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobView>,
    /// The stages that were passed over when it was planned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedStage>,
    /// The values that it was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Variable>,
    /// What began it, beyond its kind.
    #[serde(default, skip_serializing_if = "Origin::is_empty")]
    pub origin: Origin,
    /// The build that it does again. That one may be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_of: Option<BuildNumber>,
    /// The builds that do it again, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restarts: Vec<BuildNumber>,
    /// Whether a person wants it kept, however old it becomes.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub pinned: bool,
    /// When what its jobs printed was removed, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs_removed_ms: Option<u64>,
    /// When the files were removed that they left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts_removed_ms: Option<u64>,
}

impl BuildView {
    /// A build of which is known what a list shows of it.
    #[must_use]
    pub fn new(build: BuildRow) -> Self {
        let (attempts, jobs) = (Vec::new(), Vec::new());
        let (skipped, inputs, restarts) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            build,
            exit_code: None,
            attempts,
            jobs,
            skipped,
            inputs,
            origin: Origin::default(),
            restart_of: None,
            restarts,
            pinned: false,
            logs_removed_ms: None,
            artifacts_removed_ms: None,
        }
    }
}

/// One taking of a job by an agent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// The job's key within the build.
    pub job: String,
    /// 1 for the first.
    pub attempt: u32,
    /// Who took it.
    pub agent: String,
    /// `running`, `lost`, `abandoned`, or the outcome's name.
    pub state: String,
    /// When it was granted, in milliseconds since 1970.
    pub started_ms: u64,
    /// When it was over.
    pub ended_ms: Option<u64>,
    /// How it was lost, when it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// Its stages in order.
    pub stages: Vec<StageView>,
    /// Its logs in order.
    pub logs: Vec<LogView>,
}

/// One stage of an attempt.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StageView {
    /// Its name.
    pub name: StageName,
    /// The image it started from.
    pub image: String,
    /// How it ended; absent while it runs.
    pub result: Option<StageOutcome>,
    /// How long it took, once it is over.
    pub duration_ms: Option<u64>,
    /// The digest that the image's name meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Its tries that were followed by another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tries: Vec<TryView>,
    /// What its reports say of its tests; those that failed are named first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<Tests>,
    /// How much of the code its tests covered, in hundredths of a per cent of the lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<u32>,
    /// What it wrote for people, in Markdown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The files that it left for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<KeptView>,
}

impl StageView {
    /// A stage that has begun, or was passed over, of which nothing else is known.
    #[must_use]
    pub fn new(name: StageName, image: impl Into<String>) -> Self {
        Self {
            name,
            image: image.into(),
            result: None,
            duration_ms: None,
            digest: None,
            tries: Vec::new(),
            tests: None,
            coverage: None,
            summary: None,
            artifacts: None,
        }
    }
}

/// One log of an attempt. Its bytes: `GET /api/v1/builds/N/logs/NAME?attempt=N&job=KEY&from=BYTE`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogView {
    /// Its name: a stage's, or the job's own.
    pub name: LogName,
    /// How many bytes are in the store.
    pub bytes: u64,
    /// Whether that is all: nothing more will come.
    pub complete: bool,
    /// How many bytes are missing for good at its end, when the log could not be had whole and its length is known.
    pub missing: u64,
    /// Whether its rest is given up: its agent was lost with it.
    #[serde(default)]
    pub incomplete: bool,
}

impl LogView {
    /// What is wrong with it, for people, at the place where it is missing: its end.
    #[must_use]
    pub fn gap(&self) -> Option<String> {
        match (self.missing, self.incomplete) {
            (0, false) => None,
            (0, true) => Some("log incomplete: its agent was lost before it said how much more there was".to_owned()),
            (missing, _) => Some(format!("log incomplete: {missing} bytes missing")),
        }
    }
}

/// When the bytes of a log were printed: `GET /api/v1/builds/N/logs/NAME/times?attempt=N`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogTimes {
    /// Where in the log a piece begins, and when its agent had it, in milliseconds since 1970; in order.
    #[schema(value_type = Vec<[u64; 2]>)]
    pub pieces: Vec<(u64, u64)>,
}

/// One line of `GET /api/v1/builds/N/follow`: newline-delimited JSON, from the beginning, until the build is over
/// and its logs are whole.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(tag = "follow", rename_all = "snake_case")]
pub enum Follow {
    /// Where the build stands; first, and after each change.
    Build {
        /// All of it.
        view: Box<BuildView>,
    },
    /// A log grew.
    Log {
        /// Of which attempt.
        attempt: u32,
        /// Which log.
        log: LogName,
        /// Where these bytes begin.
        offset: u64,
        /// The bytes, in base64.
        base64: String,
    },
    /// The build is over and its logs are whole, or will never be.
    End,
    /// A kind that a newer coordinator knows.
    #[serde(other)]
    Unknown,
}

/// `POST /api/v1/builds/N/cancel`
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Why, for those who look at the build.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What a cancel did.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Cancelled {
    /// Where the build stands now.
    pub status: Status,
    /// What was done, as a sentence.
    pub message: String,
}
