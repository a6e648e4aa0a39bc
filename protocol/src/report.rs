//! What an agent says to the coordinator, on the backchannel.

mod events;
mod log_chunk;
mod spent;
mod tests_read;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::id::{AgentId, BootId, ClaimId, JobId, LabelSet, LogName, StageName};
use crate::identity::{JoinProof, PublicKey, SealingKey, Signed};
use crate::job::ReplyTo;
use crate::outcome::{Ending, StageOutcome};
use crate::plan::{BuildPlan, PlannedJob, Variable};
use crate::source::{Branch, CommitId, RepoUrl};

pub use events::{Events, MAX_EVENTS, Moment};
pub use log_chunk::{LogChunk, MAX_CHUNK_BYTES, MAX_LOG_BYTES};
pub use spent::{MAX_SPANS, Part, Span};
pub use tests_read::{MAX_FAILURES, TestFailure, Tests};

/// One message of an agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// An agent's process began, or found the coordinator again.
    Hello(Hello),
    /// Still here, with these claims.
    Heartbeat(Heartbeat),
    /// An agent's process ends in good order; it holds nothing any more.
    Bye {
        /// Who.
        agent: AgentId,
        /// Which life of it.
        boot: BootId,
    },
    /// A job was taken from the queue and is asked for.
    Claim(Signed<Claim>),
    /// A claim was given up before its grant came: it is no attempt.
    Abandoned {
        /// Who.
        agent: AgentId,
        /// Which claim.
        claim: ClaimId,
    },
    /// What lay on the queue is no job.
    Rejected(Rejected),
    /// Something happened in a job.
    Progress(Progress),
    /// Several things happened in a job. Said only to a coordinator whose grant lets them come so.
    Events(Events),
    /// Any of the others but a claim, which has a signature of its own: nothing that an agent says counts without.
    Said(Signed<Said>),
    /// A kind that a newer agent knows: acknowledged and otherwise left alone.
    #[serde(other)]
    Unknown,
}

impl Report {
    /// What it says, whoever signed it; the report itself where nobody did.
    #[must_use]
    pub fn said(&self) -> Self {
        match self {
            Self::Said(signed) => signed.unverified().map_or(Self::Unknown, |said| *said.report),
            plain => plain.clone(),
        }
    }
}

/// What an agent says, to be signed by its identity key: whoever can write to the broker could say it otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Said {
    /// Who.
    pub agent: AgentId,
    /// Which life of it.
    pub boot: BootId,
    /// 1, 2, 3 … within this life: a sign of life that is played again is none.
    pub count: u64,
    /// What.
    pub report: Box<Report>,
}

/// Who an agent is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// Its name.
    pub agent: AgentId,
    /// This life of it.
    pub boot: BootId,
    /// What it signs with; pinned at enrolment.
    pub key: PublicKey,
    /// Proof that it was given the farm's join token, when it was.
    #[serde(default)]
    pub join: Option<JoinProof>,
    /// What it offers. A grant looks only at what was approved.
    #[serde(default)]
    pub labels: LabelSet,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// The version of its program.
    pub version: String,
    /// The machine's name, for people.
    #[serde(default)]
    pub host: String,
}

/// A sign of life, which carries all that the agent holds so that lost control messages heal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who.
    pub agent: AgentId,
    /// Which life of it.
    pub boot: BootId,
    /// Every claim that it waits for or works on, or whose result it keeps.
    pub claims: Vec<HeldClaim>,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// Why it takes no job at present, if so.
    #[serde(default)]
    pub paused: Option<String>,
    /// The note with which a person paused it, as far as it knows: the coordinator says so again when this is not
    /// what the store has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<String>,
    /// Whether its process ends when its jobs are over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// What its machine has left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// Whether it hears [`Control::Several`](crate::control::Control::Several); an older one passes them over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hears_several: bool,
}

/// What an agent's machine has, and has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Capacity {
    /// Free bytes of the disk under the agent's work folder, for this user.
    pub disk_free_bytes: u64,
    /// All bytes of that disk.
    pub disk_total_bytes: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Processor cores.
    pub cores: u32,
}

/// A claim as its agent sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldClaim {
    /// Which.
    pub claim: ClaimId,
    /// How far it is.
    pub phase: ClaimPhase,
    /// The number of the event that has to be [`Noted`](crate::control::Control::Noted) before its job goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<u64>,
}

/// How far a claim is, at its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimPhase {
    /// Sent, not answered.
    Pending,
    /// Granted; the job runs.
    Running,
    /// The job ended; its result waits to be recorded.
    Ended,
}

/// A job is asked for. Signed by the agent's identity key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claim {
    /// The new fencing token.
    pub claim: ClaimId,
    /// Who asks.
    pub agent: AgentId,
    /// Which life of it.
    pub boot: BootId,
    /// What is asked for.
    pub subject: ClaimSubject,
    /// Made for this claim alone; the grant is sealed to it.
    pub sealing: SealingKey,
    /// The queue it lay on.
    pub queue: String,
    /// Whether the broker says that it was delivered before.
    pub redelivered: bool,
}

/// What lay on the queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "subject", rename_all = "snake_case")]
pub enum ClaimSubject {
    /// A job that the coordinator made.
    Job {
        /// Which.
        job: JobId,
    },
    /// A message that somebody published by hand: a trigger to be adopted.
    Injected {
        /// Which repository.
        repo: RepoUrl,
        /// Which branch; the remote's HEAD without one.
        branch: Option<Branch>,
        /// The message's own id, when it has one: then it is adopted exactly once.
        message_id: Option<String>,
        /// SHA-256 of its bytes, in hexadecimal.
        digest: String,
        /// Who wants to hear how it goes.
        reply: Option<ReplyTo>,
    },
}

/// A message that is no job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rejected {
    /// Who found it.
    pub agent: AgentId,
    /// The queue it lay on.
    pub queue: String,
    /// What is wrong with it, as a sentence.
    pub reason: String,
    /// Its first bytes (at most 4 KiB), as text.
    pub excerpt: String,
    /// Who wants to hear of it.
    #[serde(default)]
    pub reply: Option<ReplyTo>,
    /// Which finding of a message this is: one that is reported twice is laid aside once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// SHA-256 of the message's bytes, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Whether the broker says that it was delivered before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redelivered: bool,
}

/// Something happened in a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Progress {
    /// Under which claim; one that is not current changes nothing.
    pub claim: ClaimId,
    /// 1, 2, 3 … within the claim, so that a repetition is seen.
    pub seq: u64,
    /// The agent's clock, milliseconds since 1970: for people, never for decisions.
    pub at_ms: u64,
    /// What.
    pub event: JobEvent,
}

/// What can happen in a job. `buildr run` shows the same events that the backchannel carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum JobEvent {
    /// What became of a message by hand after the grant: `false` when the broker will deliver it again. (Of a message of
    /// the coordinator's own the job's state says all.)
    Settled {
        /// Whether the broker took the acknowledgement.
        acknowledged: bool,
    },
    /// The code is there.
    CheckedOut {
        /// Which commit; the build is pinned to the first one that is reported.
        commit: Option<CommitId>,
        /// The branch it was found on.
        branch: Option<Branch>,
        /// The first line of the commit's message.
        subject: String,
        /// Who wrote it.
        author: String,
        /// The branch that the repository's HEAD means, where it was told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default_branch: Option<Branch>,
    },
    /// The manifest is read; this is what the build consists of.
    Planned {
        /// Its jobs with their edges. When it is one, it goes on in the same slot.
        jobs: Vec<PlannedJob>,
        /// What holds for all of it.
        #[serde(default, skip_serializing_if = "BuildPlan::is_default")]
        build: BuildPlan,
    },
    /// What an image's name means in this build.
    ImageFound {
        /// The stage that starts from it.
        stage: StageName,
        /// The name.
        image: String,
        /// The digest of its contents, `sha256:…`; an image that no registry knows has its own id.
        digest: String,
    },
    /// A try of a stage ended that is followed by another.
    StageTried {
        /// Its name.
        stage: StageName,
        /// 1 for the first.
        number: u32,
        /// How it ended.
        result: StageOutcome,
        /// How long it took, in milliseconds.
        duration_ms: u64,
        /// Where what it printed stands: the stage's own log, which has all tries in order. Agents up to 0.1 kept a log
        /// of each try beside that.
        log: LogName,
    },
    /// Files of a stage were kept.
    ArtifactsKept {
        /// Which stage's.
        stage: StageName,
        /// How many files.
        files: u64,
        /// The archive's length in bytes.
        bytes: u64,
        /// SHA-256 of the archive, in hexadecimal.
        sha256: String,
        /// For how long the farm keeps it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expire_ms: Option<u64>,
    },
    /// What a stage's reports say of its tests.
    TestsRead {
        /// Which stage's.
        stage: StageName,
        /// What they say.
        tests: Tests,
    },
    /// How much of the code a stage's tests covered.
    CoverageRead {
        /// Which stage's.
        stage: StageName,
        /// Hundredths of a per cent of the lines, 0 to 10,000.
        lines: u32,
    },
    /// Values that later stages and jobs receive as variables.
    HandedOn {
        /// The values, later wins.
        values: Vec<Variable>,
    },
    /// What a stage wrote for people, in Markdown.
    Summary {
        /// Which stage.
        stage: StageName,
        /// The text, at most [`MAX_SUMMARY_BYTES`].
        text: String,
    },
    /// A stage's container is being made.
    StageStarted {
        /// Its name (`prepare` for that).
        stage: StageName,
        /// The image it starts from, as people know it.
        image: String,
        /// Whether it must never be started again. Then its script begins only when the agent has heard that this
        /// event is [`Noted`](crate::control::Control::Noted).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        not_twice: bool,
    },
    /// What a stage makes was there from an earlier build, so it is taken from that, and its script does not run.
    StageReused {
        /// Its name (`prepare`).
        stage: StageName,
    },
    /// A stage ended, or was passed over.
    StageEnded {
        /// Its name.
        stage: StageName,
        /// How.
        result: StageOutcome,
        /// How long it took, in milliseconds; 0 when it never ran.
        duration_ms: u64,
    },
    /// All of a log has been said: this many bytes.
    LogComplete {
        /// Which log.
        log: LogName,
        /// Its whole length in bytes.
        total: u64,
    },
    /// The job is over. Nothing but log bytes may come after it.
    Finished {
        /// How it ended.
        ending: Ending,
        /// Where its time went, in the order in which the spans ended; at most [`MAX_SPANS`] count.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        spent: Vec<Span>,
    },
    /// A kind that a newer agent knows.
    #[serde(other)]
    Unknown,
}

/// The longest summary of one stage, in bytes.
pub const MAX_SUMMARY_BYTES: usize = 64 << 10;
