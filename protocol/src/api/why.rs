//! Why a build is where it is: what it waits for, where it runs, what was lost of it.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{BuildRow, WaitReason, coming, span};
use crate::id::{AgentId, JobKey, LogName, StageName};
use crate::outcome::{Cause, Outcome};

/// How an attempt was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "loss", rename_all = "snake_case")]
pub enum Loss {
    /// Its agent gave no sign of life.
    Silent {
        /// For how long, when it was given up.
        for_ms: u64,
    },
    /// It was asked to end, and its agent did not say that it did.
    CancelUnanswered {
        /// How long it was waited for.
        for_ms: u64,
    },
    /// A person revoked its agent.
    Revoked {
        /// Why.
        why: String,
    },
    /// Its agent's process is over.
    Ended,
    /// The farm could not do its part, and tries again.
    Errored {
        /// Which part.
        cause: Cause,
        /// What happened.
        message: Option<String>,
    },
    /// In a way that a newer coordinator knows.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent { for_ms } => write!(f, "its agent gave no sign of life for {}", span(*for_ms)),
            Self::CancelUnanswered { for_ms } => {
                write!(f, "its agent was told to end it and did not say so within {}", span(*for_ms))
            }
            Self::Ended => write!(f, "its agent was ended in the midst of it"),
            Self::Revoked { why } => write!(f, "its agent was revoked: {why}"),
            Self::Errored { cause, message } => {
                write!(f, "{}", Outcome::Errored { cause: *cause })?;
                message.as_ref().map_or(Ok(()), |message| write!(f, ": {message}"))
            }
            Self::Unknown => f.write_str("in a way that this version of buildr does not know"),
        }
    }
}

/// `GET /api/v1/builds/N/why`, and `GET /api/v1/why` for the newest build that waits, or else the newest one.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Why {
    /// What the list shows of it.
    pub build: BuildRow,
    /// Who asked for it, as that one said: `ada@laptop`, or the queue that it was published to.
    pub by: Option<String>,
    /// Its jobs that wait, each with its reason.
    pub waiting: Vec<WaitingJob>,
    /// Its jobs that run.
    pub running: Vec<RunningJob>,
    /// What was lost of it.
    pub lost: Vec<LostAttempt>,
    /// What of it was passed over, and why.
    pub not_run: Vec<NotRun>,
    /// The jobs of it that were ended in the midst because another one failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut_short: Vec<CutShort>,
    /// Logs that are not whole and never will be.
    pub incomplete: Vec<IncompleteLog>,
}

/// A job that waits.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WaitingJob {
    /// Its key.
    pub job: JobKey,
    /// The number that its next attempt will have within the job.
    pub attempt: u32,
    /// The agent with which the attempt before came to nothing.
    pub lost_with: Option<AgentId>,
    /// What the farm could not do in it; absent when the agent was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errored: Option<Cause>,
    /// How long it has waited since it was made.
    pub for_ms: u64,
    /// Why.
    pub why: WaitReason,
    /// The same as a sentence.
    pub sentence: String,
}

impl WaitingJob {
    /// The sentence about a reason, with what was lost before.
    #[must_use]
    pub fn sentence(why: &WaitReason, attempt: u32, lost_with: Option<&AgentId>, errored: Option<Cause>) -> String {
        let before = attempt.saturating_sub(1);
        match (lost_with, errored) {
            (Some(agent), Some(cause)) => {
                let outcome = Outcome::Errored { cause };
                format!("{why}; this is attempt {attempt}: attempt {before} {outcome} on agent {agent}")
            }
            (Some(agent), None) => {
                format!("{why}; this is attempt {attempt}: attempt {before} was lost with agent {agent}")
            }
            (None, _) => why.to_string(),
        }
    }
}

/// A job that runs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RunningJob {
    /// Its key.
    pub job: JobKey,
    /// The attempt's number within the build.
    pub attempt: u32,
    /// Where.
    pub agent: AgentId,
    /// For how long.
    pub for_ms: u64,
    /// The stage that it is in; none while the code is fetched, and between stages.
    pub stage: Option<StageName>,
    /// When it is expected to end.
    #[serde(flatten)]
    pub forecast: Forecast,
    /// How long ago its agent's last sign of life came; absent when there was none since the coordinator began.
    pub seen_ms_ago: Option<u64>,
}

/// When work that goes on is expected to end, by how long it took before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Forecast {
    /// In how long, in milliseconds; absent without such history, and once it has taken much longer than before.
    pub expected_ms: Option<u64>,
    /// How long it usually takes, in milliseconds; absent without such history.
    pub usual_ms: Option<u64>,
}

impl Forecast {
    /// As people say it; nothing where nothing is known.
    #[must_use]
    pub fn in_words(self) -> Option<String> {
        match self {
            Self { expected_ms: Some(ms), .. } => Some(format!("expected to end {}", coming(ms))),
            Self { usual_ms: Some(ms @ 1000..), .. } => Some(format!("longer than usual ({})", span(ms))),
            Self { usual_ms: Some(_), .. } => Some("longer than usual (less than 1 s)".to_owned()),
            Self { usual_ms: None, .. } => None,
        }
    }
}

/// An attempt that was lost, or errored and was followed by another.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LostAttempt {
    /// The job's key.
    pub job: JobKey,
    /// The attempt's number within the build.
    pub attempt: u32,
    /// With which agent.
    pub agent: AgentId,
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
    /// When it was given up.
    pub ended_ms: Option<u64>,
    /// How; absent for one that was lost before that was written down.
    pub loss: Option<Loss>,
}

impl LostAttempt {
    /// What became of it, as a sentence: `attempt 1 errored (daemon) on agent oak: …`. `when` stands behind the agent.
    #[must_use]
    pub fn sentence(&self, when: &str) -> String {
        let Self { attempt, agent, loss, .. } = self;
        match loss {
            Some(Loss::Errored { cause, message }) => {
                let message = message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
                format!("attempt {attempt} {} on agent {agent}{when}{message}", Outcome::Errored { cause: *cause })
            }
            Some(loss) => format!("attempt {attempt} was lost with agent {agent}{when}: {loss}"),
            None => format!("attempt {attempt} was lost with agent {agent}{when}"),
        }
    }
}

/// A stage or a job that was passed over.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NotRun {
    /// The job's key.
    pub job: JobKey,
    /// The stage; none for a whole job.
    pub stage: Option<StageName>,
    /// Why.
    pub why: String,
}

/// A job that was ended in the midst because another one failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CutShort {
    /// Its key.
    pub job: JobKey,
    /// The one that failed.
    pub failed: JobKey,
    /// How it ended, and why.
    pub why: String,
}

/// A log of which something is missing for good.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct IncompleteLog {
    /// The attempt's number within the build.
    pub attempt: u32,
    /// Its name.
    pub log: LogName,
    /// How many bytes are in the store.
    pub bytes: u64,
    /// How many are missing; absent when its agent went silent before it said how many there are.
    pub missing: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_a_newer_coordinator_knows_is_no_error() {
        let loss: Loss = serde_json::from_str(r#"{"loss": "moon"}"#).unwrap();
        assert_eq!(loss, Loss::Unknown);
    }

    #[test]
    fn each_loss_is_a_sentence() {
        for (loss, expect) in [
            (Loss::Silent { for_ms: 62_000 }, "its agent gave no sign of life for 1 min 2 s"),
            (Loss::CancelUnanswered { for_ms: 9_000 }, "its agent was told to end it and did not say so within 9 s"),
            (Loss::Ended, "its agent was ended in the midst of it"),
            (Loss::Revoked { why: "stolen".to_owned() }, "its agent was revoked: stolen"),
            (Loss::Errored { cause: Cause::Pull, message: Some("no answer".to_owned()) }, "errored (pull): no answer"),
            (Loss::Errored { cause: Cause::Daemon, message: None }, "errored (daemon)"),
        ] {
            assert_eq!(loss.to_string(), expect);
            let json = serde_json::to_string(&loss).unwrap();
            assert_eq!(serde_json::from_str::<Loss>(&json).unwrap(), loss);
        }
    }

    #[test]
    fn what_was_lost_before_is_said_too() {
        let agent: AgentId = "a1".parse().unwrap();
        let text = WaitingJob::sentence(&WaitReason::Offered { for_ms: 0 }, 2, Some(&agent), None);
        assert!(text.ends_with("; this is attempt 2: attempt 1 was lost with agent a1"), "{text}");
        let text = WaitingJob::sentence(&WaitReason::Later { in_ms: 4_000 }, 2, Some(&agent), Some(Cause::Daemon));
        assert!(text.ends_with("; this is attempt 2: attempt 1 errored (daemon) on agent a1"), "{text}");
    }
}
