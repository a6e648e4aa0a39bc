//! Why a job waits. The sentence that people read is made here, in one place, so that lists, pages and the command
//! line say the same.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Status;
use crate::id::{AgentId, BuildNumber, JobKey, LabelSet};

/// Why a job waits. Times are in milliseconds, counted back or on from the moment of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum WaitReason {
    /// Other jobs of its build come first.
    Needs {
        /// Those that have not passed yet.
        jobs: Vec<NeededJob>,
    },
    /// A person must let it begin.
    Approval(Asked),
    /// Its build, or it itself, waits for its turn in a concurrency group.
    Group {
        /// Which.
        group: String,
        /// The builds that have their turn, when there are as many as may.
        held_by: Vec<BuildNumber>,
        /// The older build that comes first, when one does.
        behind: Option<BuildNumber>,
        /// Whether that one is not planned yet, so that nobody knows what it needs.
        unplanned: bool,
    },
    /// As many of its matrix or its shards as may are at it.
    Lane {
        /// Their name.
        lane: String,
        /// How many may be.
        max: u32,
    },
    /// The coordinator cannot reach the message broker.
    BrokerAway {
        /// Why not.
        why: String,
        /// For how long.
        for_ms: u64,
    },
    /// The message broker takes nothing.
    BrokerBlocked {
        /// What it says about that.
        why: String,
        /// For how long.
        for_ms: u64,
    },
    /// The coordinator still reads what agents said before it began, or while the line was broken; claims come behind
    /// it.
    CatchingUp {
        /// How many messages are left.
        backlog: u64,
    },
    /// No agent of the farm is here.
    NoAgent {
        /// The one that was here last.
        last: Option<SeenAgent>,
        /// Those that are here and wait for approval.
        unapproved: Vec<WaitingAgent>,
    },
    /// Agents are here, and none has the labels.
    NoLabels {
        /// What the job asks for.
        labels: LabelSet,
        /// How many agents are here.
        agents: u32,
        /// Those that lack least.
        nearest: Vec<NearAgent>,
    },
    /// Every agent that has the labels takes no jobs at present.
    AllPaused {
        /// These.
        agents: Vec<PausedAgent>,
    },
    /// All slots of the agents that have the labels are taken.
    AllBusy(BusyQueue),
    /// A slot is free, and the job comes to its queue as soon as those before it were taken.
    NotYetOffered {
        /// Its place among the jobs that wait for such an agent; 1 is the next.
        position: u32,
    },
    /// It lies on its queue, and no agent has asked for it yet.
    Offered {
        /// For how long.
        for_ms: u64,
    },
    /// The attempt before came to nothing, and what was at fault is given a moment to pass.
    Later {
        /// In how long it is offered.
        in_ms: u64,
    },
    /// A reason that a newer coordinator knows.
    #[serde(other)]
    Unknown,
}

impl WaitReason {
    /// The same without what changes by time alone: whether there is news for somebody who follows.
    #[must_use]
    pub fn steady(&self) -> Self {
        let mut steady = self.clone();
        match &mut steady {
            Self::BrokerAway { for_ms, .. } | Self::BrokerBlocked { for_ms, .. } | Self::Offered { for_ms } => {
                *for_ms = 0;
            }
            Self::NoAgent { last: Some(last), .. } => last.ago_ms = 0,
            Self::AllBusy(queue) => queue.expected_ms = None,
            Self::CatchingUp { backlog } => *backlog = 0,
            Self::Later { in_ms } => *in_ms = 0,
            Self::Approval(asked) => asked.left_ms = None,
            _ => {}
        }
        steady
    }
}

/// What a person is asked at a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Asked {
    /// Of which build.
    pub build: BuildNumber,
    /// Of which job.
    pub job: JobKey,
    /// The question.
    pub ask: Option<String>,
    /// Who may answer; anybody who may start builds when empty.
    pub allow: Vec<String>,
    /// The values that must be filled in.
    pub inputs: Vec<String>,
    /// After how long without an answer it is skipped.
    pub left_ms: Option<u64>,
    /// Whether it stands before the whole build, and is a maintainer's to answer.
    #[serde(default)]
    pub whole: bool,
}

/// A job's place behind others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BusyQueue {
    /// Its place among the jobs that wait for such an agent; 1 is the next.
    pub position: u32,
    /// How many slots there are.
    pub slots: u32,
    /// In how long it is expected to begin, by how long such jobs took before; absent without such history.
    pub expected_ms: Option<u64>,
}

/// A job that another one waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NeededJob {
    /// Its key.
    pub job: JobKey,
    /// Where it stands.
    pub status: Status,
}

/// An agent that is not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SeenAgent {
    /// Its name.
    pub agent: AgentId,
    /// How long ago its last sign of life came.
    pub ago_ms: u64,
}

/// An agent that waits for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitingAgent {
    /// Its name.
    pub agent: AgentId,
    /// Its key in short, to be compared with what the agent prints.
    pub key: String,
}

/// An agent that lacks labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NearAgent {
    /// Its name.
    pub agent: AgentId,
    /// What it lacks.
    pub lacks: LabelSet,
    /// What of this it offers, and nobody has approved.
    pub unapproved: LabelSet,
}

/// An agent that takes no jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PausedAgent {
    /// Its name.
    pub agent: AgentId,
    /// Why.
    pub why: String,
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Needs { jobs } => {
                let jobs = list(jobs, |need| format!("{} ({})", need.job, need.status.name()));
                write!(f, "waits for other jobs of its build: {jobs}")
            }
            Self::Approval(asked) => asked.fmt(f),
            Self::Group { group, held_by, behind, unplanned } => {
                write!(f, "waits for its turn: ")?;
                match behind {
                    Some(older) if *unplanned => {
                        write!(f, "the older build {older} is not planned yet, and may come first in group {group}")
                    }
                    Some(older) => write!(f, "the older build {older} comes first in group {group}"),
                    None => write!(f, "group {group} is held by {}", list(held_by, ToString::to_string)),
                }
            }
            Self::Lane { lane, max } => {
                write!(f, "waits for the others beside it: at most {max} of {lane} run at once")
            }
            Self::BrokerAway { why, for_ms } => {
                write!(f, "waits: the message broker has not been reached for {} ({why})", span(*for_ms))
            }
            Self::BrokerBlocked { why, for_ms } => {
                write!(f, "waits: the message broker has taken nothing for {} ({why})", span(*for_ms))
            }
            Self::CatchingUp { backlog } => write!(
                f,
                "waits: the coordinator reads what agents said while it was away ({backlog} messages are left)"
            ),
            Self::NoAgent { last, unapproved } => no_agent(f, last.as_ref(), unapproved),
            Self::NoLabels { labels, agents, nearest } => no_labels(f, labels, *agents, nearest),
            Self::AllPaused { agents } => {
                let who = list(agents, |agent| format!("{}: {}", agent.agent, agent.why));
                match agents.len() {
                    1 => write!(f, "waits for an agent that takes jobs: the only one pauses ({who})"),
                    all => write!(f, "waits for an agent that takes jobs: all {all} pause ({who})"),
                }
            }
            Self::AllBusy(queue) => queue.fmt(f),
            Self::NotYetOffered { position } => {
                write!(f, "waits to be offered to agents: number {position} in the queue")
            }
            Self::Offered { for_ms } => write!(f, "waits to be taken by an agent, on offer for {}", span(*for_ms)),
            Self::Later { in_ms } => write!(f, "waits a moment, and is tried again {}", coming(*in_ms)),
            Self::Unknown => f.write_str("waits for a reason that this version of buildr does not know"),
        }
    }
}

impl Asked {
    /// The command that lets a job begin, as a shell takes it.
    #[must_use]
    pub fn command(build: BuildNumber, job: &JobKey, inputs: &[String]) -> String {
        let key = job.as_str();
        let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        let key = if plain { key.to_owned() } else { format!("'{}'", key.replace('\'', "'\\''")) };
        let inputs: String = inputs.iter().map(|input| format!(" --input {input}=VALUE")).collect();
        format!("buildr approve {} {key}{inputs}", build.0)
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { build, job, ask, allow, inputs, left_ms, whole } = self;
        f.write_str("waits for approval")?;
        if let Some(ask) = ask {
            write!(f, " ({ask})")?;
        }
        if *whole {
            return write!(f, " by a maintainer: run `buildr approve {}`", build.0);
        }
        if !allow.is_empty() {
            write!(f, " by {}", allow.join(" or "))?;
        }
        write!(f, ": run `{}`", Self::command(*build, job, inputs))?;
        match left_ms {
            Some(left) => write!(f, "; without an answer it is skipped {}", coming(*left)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for BusyQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, slots, expected_ms } = self;
        match slots {
            1 => write!(f, "waits for a free slot: the only one is taken; ")?,
            all => write!(f, "waits for a free slot: all {all} are taken; ")?,
        }
        write!(f, "number {position} in the queue, ")?;
        match expected_ms {
            Some(ms) => write!(f, "expected to begin {}", coming(*ms)),
            None => f.write_str("and no earlier build tells when it begins"),
        }
    }
}

fn no_agent(f: &mut fmt::Formatter<'_>, last: Option<&SeenAgent>, unapproved: &[WaitingAgent]) -> fmt::Result {
    if let Some(WaitingAgent { agent, key }) = unapproved.first() {
        return write!(
            f,
            "waits for an agent: {agent} is not approved yet; compare its key {key} with what it prints, then run `buildr agent approve {agent}`"
        );
    }
    f.write_str("waits for an agent: none is here")?;
    if let Some(SeenAgent { agent, ago_ms }) = last {
        write!(f, ", and {agent} was seen last {} ago", span(*ago_ms))?;
    }
    f.write_str("; start one with `buildr agent`, or look at why it is silent")
}

fn no_labels(f: &mut fmt::Formatter<'_>, labels: &LabelSet, agents: u32, nearest: &[NearAgent]) -> fmt::Result {
    write!(f, "waits for an agent with the labels {labels}: ")?;
    match agents {
        1 => write!(f, "the only one that is here has not all of them approved")?,
        all => write!(f, "none of the {all} that are here has them approved")?,
    }
    for (place, NearAgent { agent, lacks, unapproved }) in nearest.iter().enumerate() {
        f.write_str(if place == 0 { "; " } else { ", " })?;
        write!(f, "{agent} lacks {lacks}")?;
        if !unapproved.is_empty() {
            write!(f, " (it offers {unapproved}: `buildr agent approve {agent}`)")?;
        }
    }
    Ok(())
}

fn list<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    items.iter().map(text).collect::<Vec<_>>().join("; ")
}

/// A time as people say it: one unit below a minute, two above.
#[must_use]
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, 0) => format!("{minutes} min"),
        (0, 0, minutes @ ..10, seconds) => format!("{minutes} min {seconds} s"),
        (0, 0, minutes, _) => format!("{minutes} min"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, _, _) => format!("{days} d {hours} h"),
    }
}

/// When something is expected that is so far ahead: `in 3 min`, or `any moment`.
#[must_use]
pub fn coming(ms: u64) -> String {
    if ms < 1000 { "any moment".to_owned() } else { format!("in {}", span(ms)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reason: &WaitReason, expect: &str) {
        assert_eq!(reason.to_string(), expect);
        let json = serde_json::to_string(reason).unwrap();
        assert_eq!(serde_json::from_str::<WaitReason>(&json).unwrap(), *reason, "{json}");
    }

    fn labels(labels: &[&str]) -> LabelSet {
        LabelSet::new(labels.iter().copied()).unwrap()
    }

    #[test]
    fn each_reason_is_a_sentence() {
        let agent: AgentId = "a1".parse().unwrap();
        let need = NeededJob { job: "compile".parse().unwrap(), status: Status::Running };
        check(&WaitReason::Needs { jobs: vec![need] }, "waits for other jobs of its build: compile (running)");
        let why = "connection refused".to_owned();
        let away = WaitReason::BrokerAway { why: why.clone(), for_ms: 185_000 };
        check(&away, "waits: the message broker has not been reached for 3 min 5 s (connection refused)");
        let blocked = WaitReason::BrokerBlocked { why, for_ms: 1000 };
        check(&blocked, "waits: the message broker has taken nothing for 1 s (connection refused)");
        let behind = WaitReason::CatchingUp { backlog: 7 };
        check(&behind, "waits: the coordinator reads what agents said while it was away (7 messages are left)");
        let none = |last, unapproved| WaitReason::NoAgent { last, unapproved };
        check(
            &none(None, vec![]),
            "waits for an agent: none is here; start one with `buildr agent`, or look at why it is silent",
        );
        check(
            &none(Some(SeenAgent { agent: agent.clone(), ago_ms: 7_500_000 }), vec![]),
            "waits for an agent: none is here, and a1 was seen last 2 h 5 min ago; start one with `buildr agent`, or look at why it is silent",
        );
        check(
            &none(None, vec![WaitingAgent { agent: agent.clone(), key: "abc".to_owned() }]),
            "waits for an agent: a1 is not approved yet; compare its key abc with what it prints, then run `buildr agent approve a1`",
        );
        let near = NearAgent { agent: agent.clone(), lacks: labels(&["gpu", "x"]), unapproved: labels(&["gpu"]) };
        check(
            &WaitReason::NoLabels { labels: labels(&["gpu", "x"]), agents: 2, nearest: vec![near] },
            "waits for an agent with the labels gpu+x: none of the 2 that are here has them approved; a1 lacks gpu+x (it offers gpu: `buildr agent approve a1`)",
        );
        let paused = PausedAgent { agent, why: "the disk is full".to_owned() };
        check(
            &WaitReason::AllPaused { agents: vec![paused] },
            "waits for an agent that takes jobs: the only one pauses (a1: the disk is full)",
        );
        let busy = |expected_ms| WaitReason::AllBusy(BusyQueue { position: 3, slots: 2, expected_ms });
        let all = "waits for a free slot: all 2 are taken; number 3 in the queue, ";
        check(&busy(None), &format!("{all}and no earlier build tells when it begins"));
        let lone = WaitReason::AllBusy(BusyQueue { position: 1, slots: 1, expected_ms: Some(0) });
        let only = "waits for a free slot: the only one is taken; number 1 in the queue, expected to begin any moment";
        check(&lone, only);
        check(&busy(Some(0)), &format!("{all}expected to begin any moment"));
        check(&busy(Some(60_000)), &format!("{all}expected to begin in 1 min"));
        check(&WaitReason::NotYetOffered { position: 4 }, "waits to be offered to agents: number 4 in the queue");
        check(&WaitReason::Later { in_ms: 4_000 }, "waits a moment, and is tried again in 4 s");
        check(&WaitReason::Offered { for_ms: 59_999 }, "waits to be taken by an agent, on offer for 59 s");
    }

    #[test]
    fn each_reason_within_its_build_and_among_builds_is_a_sentence() {
        let asked = |job: &str, allow: &[&str], inputs: &[&str], left_ms| {
            let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let (job, ask) = (job.parse().unwrap(), Some("Deploy?".to_owned()));
            let (allow, inputs) = (texts(allow), texts(inputs));
            WaitReason::Approval(Asked { build: BuildNumber(12), job, ask, allow, inputs, left_ms, whole: false })
        };
        check(&asked("deploy", &[], &[], None), "waits for approval (Deploy?): run `buildr approve 12 deploy`");
        check(
            &asked("deploy (to=prod)", &["ada", "bob"], &["VERSION"], Some(60_000)),
            "waits for approval (Deploy?) by ada or bob: run `buildr approve 12 'deploy (to=prod)' --input VERSION=VALUE`; without an answer it is skipped in 1 min",
        );
        let whole = WaitReason::Approval(Asked {
            build: BuildNumber(12),
            job: super::super::PLANNING_KEY.parse().unwrap(),
            ask: Some("pull request #7 from another repository".to_owned()),
            allow: vec![],
            inputs: vec![],
            left_ms: None,
            whole: true,
        });
        let waits =
            "waits for approval (pull request #7 from another repository) by a maintainer: run `buildr approve 12`";
        check(&whole, waits);
        let group = |held_by: &[u64], behind: Option<u64>, unplanned| WaitReason::Group {
            group: "prod".to_owned(),
            held_by: held_by.iter().copied().map(BuildNumber).collect(),
            behind: behind.map(BuildNumber),
            unplanned,
        };
        check(&group(&[12], None, false), "waits for its turn: group prod is held by #12");
        check(&group(&[], Some(9), false), "waits for its turn: the older build #9 comes first in group prod");
        check(
            &group(&[], Some(9), true),
            "waits for its turn: the older build #9 is not planned yet, and may come first in group prod",
        );
        let lane = WaitReason::Lane { lane: "test".to_owned(), max: 2 };
        check(&lane, "waits for the others beside it: at most 2 of test run at once");
    }

    #[test]
    fn a_reason_of_a_newer_coordinator_is_no_error() {
        let reason: WaitReason = serde_json::from_str(r#"{"reason": "moon", "phase": 3}"#).unwrap();
        assert_eq!(reason, WaitReason::Unknown);
    }

    #[test]
    fn time_that_goes_by_is_no_news() {
        let queue = |position, expected_ms| WaitReason::AllBusy(BusyQueue { position, slots: 2, expected_ms });
        assert_eq!(queue(3, Some(9)).steady(), queue(3, None).steady());
        assert_ne!(queue(3, Some(9)).steady(), queue(2, Some(9)).steady());
        assert_eq!(WaitReason::Offered { for_ms: 9 }.steady(), WaitReason::Offered { for_ms: 5 }.steady());
        let none = |agent: &str, ago_ms| WaitReason::NoAgent {
            last: Some(SeenAgent { agent: agent.parse().unwrap(), ago_ms }),
            unapproved: vec![],
        };
        assert_eq!(none("a", 5).steady(), none("a", 9).steady());
        assert_ne!(none("a", 5).steady(), none("b", 5).steady());
    }

    #[test]
    fn what_comes() {
        assert_eq!((coming(0), coming(999), coming(1000)), ("any moment".into(), "any moment".into(), "in 1 s".into()));
    }

    #[test]
    fn spans() {
        for (ms, expect) in [
            (0, "0 s"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (61_000, "1 min 1 s"),
            (900_500, "15 min"),
            (3_600_000, "1 h 0 min"),
            (180_000_000, "2 d 2 h"),
        ] {
            assert_eq!(span(ms), expect, "{ms}");
        }
    }
}
