//! What the coordinator says to agents. Control messages are hints: a lost one is said again after the next
//! heartbeat, for the state is in the store.

use serde::{Deserialize, Serialize};

use crate::id::{AgentId, BootId, ClaimId, LabelSet, LogName};
use crate::identity::{JoinProof, PublicKey, Sealed, Signed};
use crate::job::WorkOrder;

/// One message to one agent, or to all.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "control", rename_all = "snake_case")]
pub enum Control {
    /// A coordinator is here. Sent to all, every [`BEACON_EVERY`].
    Beacon(Beacon),
    /// The agent is enrolled; its claims will be looked at.
    Enrolled {
        /// What grants are signed with: pinned by the agent from now on.
        coordinator: PublicKey,
        /// Made with the join token, when the agent proved that it has it.
        #[serde(default)]
        proof: Option<JoinProof>,
        /// Which life of an agent of that name is meant; without one, each.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        boot: Option<BootId>,
    },
    /// The agent is known but not approved, or its key is not the one that was approved.
    NotEnrolled {
        /// What to do about it, as a sentence.
        reason: String,
        /// Which life of an agent of that name is meant; without one, each. What is said to one that goes by another's
        /// name must not stop the other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        boot: Option<BootId>,
    },
    /// The claim holds: here is the work order.
    Granted {
        /// Which claim.
        claim: ClaimId,
        /// The grant, readable for this claim's maker alone.
        grant: Sealed,
    },
    /// The claim does not hold: acknowledge the message and forget it.
    Denied {
        /// Which claim.
        claim: ClaimId,
        /// Why, for the agent's log.
        reason: String,
    },
    /// Somebody wants the job to end.
    Cancel {
        /// Which claim.
        claim: ClaimId,
        /// Who and why, as a sentence.
        reason: String,
    },
    /// The claim is no longer current: stop, and report nothing more.
    Abort {
        /// Which claim.
        claim: ClaimId,
        /// Why, for the agent's log.
        reason: String,
    },
    /// The result is in the store; the agent may forget it.
    Recorded {
        /// Which claim.
        claim: ClaimId,
    },
    /// The store knows nothing of the claim, such as one that was set back to an older backup, or whose build was
    /// removed: nothing of it will ever be taken, its logs included, and the agent need not keep any of it.
    Forgotten {
        /// Which claim.
        claim: ClaimId,
    },
    /// What happened in a job is in the store up to here.
    Noted {
        /// Under which claim.
        claim: ClaimId,
        /// The number of the last event of it that is there.
        seq: u64,
    },
    /// What a person said about this agent: it takes no jobs while there is a note.
    Standing {
        /// Why it should take none; without one it should go on.
        #[serde(default)]
        note: Option<String>,
        /// Which life of an agent of that name is meant; without one, each.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        boot: Option<BootId>,
    },
    /// A log is in the store up to here; the agent may forget it up to here.
    LogKept {
        /// Which claim.
        claim: ClaimId,
        /// Which log.
        log: LogName,
        /// How many bytes from its beginning.
        bytes: u64,
    },
    /// Several of them at once. Said only to an agent whose signs of life say that it hears them so.
    Several {
        /// In this order; none of them is itself several.
        controls: Vec<Self>,
    },
    /// Any of those by which an agent lets go of something ([`Control::is_weighty`]): they count only so.
    Told(Signed<Told>),
    /// A kind that a newer coordinator knows.
    #[serde(other)]
    Unknown,
}

impl Control {
    /// What it says, whoever signed it; the message itself where nobody did.
    #[must_use]
    pub fn told(&self) -> Self {
        match self {
            Self::Told(signed) => signed.unverified().map_or(Self::Unknown, |told| *told.control),
            plain => plain.clone(),
        }
    }

    /// Whether an agent gives up work, results or logs on it, or takes no more: it must be the coordinator's own word.
    /// A grant is signed within; what is said before an agent knows the coordinator's key cannot be.
    #[must_use]
    pub fn is_weighty(&self) -> bool {
        match self {
            Self::Denied { .. }
            | Self::Cancel { .. }
            | Self::Abort { .. }
            | Self::Recorded { .. }
            | Self::Forgotten { .. }
            | Self::Noted { .. }
            | Self::Standing { .. }
            | Self::LogKept { .. }
            | Self::Several { .. } => true,
            Self::Beacon(_)
            | Self::Enrolled { .. }
            | Self::NotEnrolled { .. }
            | Self::Granted { .. }
            | Self::Told(_)
            | Self::Unknown => false,
        }
    }
}

/// What the coordinator tells one agent, to be signed by its key: whoever can write to the broker could say it
/// otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Told {
    /// Who is meant.
    pub agent: AgentId,
    /// What.
    pub control: Box<Control>,
}

/// How often a coordinator says that it is here.
pub const BEACON_EVERY: std::time::Duration = std::time::Duration::from_secs(15);

/// After this long without a beacon an agent that knows a coordinator takes no new jobs.
pub const BEACON_MISSED: std::time::Duration = std::time::Duration::from_secs(45);

/// A coordinator is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    /// The version of its program.
    pub version: String,
    /// The label sets that jobs are offered under; an agent takes from those that it satisfies.
    #[serde(default)]
    pub label_queues: Vec<LabelSet>,
    /// Milliseconds until the next beacon.
    pub every_ms: u64,
    /// How often an agent gives a sign of life, in milliseconds; a coordinator that does not say so wants one every
    /// 15 seconds until a grant says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
}

/// What a granted claim's agent is told. Signed by the coordinator, sealed to the claim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Grant {
    /// The claim, again: a grant cannot be passed off as another's.
    pub claim: ClaimId,
    /// What to do.
    pub order: WorkOrder,
    /// How long the claim lives without a sign of life, in milliseconds.
    pub lease_ms: u64,
    /// How often to give one, in milliseconds.
    pub heartbeat_ms: u64,
    /// Whether this coordinator reads [`Report::Events`](crate::report::Report::Events); an older one passes them over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reads_events: bool,
    /// Whether this coordinator reads pieces of logs that are compressed; an older one would store them so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reads_packed: bool,
}

/// What is sealed: the grant with the coordinator's signature.
pub type SignedGrant = Signed<Grant>;
