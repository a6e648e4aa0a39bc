//! The builds that are thrown: what each does, how it comes to the farm, and how it must end.

use protocol::api::BuildView;

use super::counter::Counter;
use crate::docker;

/// How a build comes to the farm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By the API.
    Submitted,
    /// By a message on this queue, with an id or without.
    ByHand { queue: &'static str, with_id: bool },
}

/// How it must end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Right {
    /// With this status and, when it errored, with this in its message.
    Ends { status: &'static str, says: &'static str },
    /// As `passed`, or with an unknown outcome when its agent was harmed after it began.
    OnceAtMost,
    /// It goes on for longer than anybody waits, and is cancelled.
    Cancelled,
}

/// One kind of build.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) manifest: String,
    pub(super) way: Way,
    pub(super) right: Right,
    /// Whether its branch is in the repository.
    pub(super) has_branch: bool,
    /// What its logs hold when it came to its end, by name: all bytes after the lines that show the commands.
    pub(super) logs: Vec<(&'static str, Vec<u8>)>,
}

const BY_HAND: Way = Way::ByHand { queue: "build_queue", with_id: true };
const BY_HAND_WITHOUT_ID: Way = Way::ByHand { queue: "build_queue", with_id: false };

/// All kinds. Only what has a label of the agent `gpu` runs there alone.
pub(super) fn all(counter: &Counter) -> Vec<Shape> {
    let image = docker::image();
    let one = |name, script: &str, status| Shape {
        name,
        manifest: format!("image: {image}\nstages: [work]\nwork:\n  script:\n    - {script}\n"),
        way: Way::Submitted,
        right: Right::Ends { status, says: "" },
        has_branch: true,
        logs: Vec::new(),
    };
    let numbers = |to: u32| (1..=to).fold(String::new(), |text, number| text + &format!("{number}\n")).into_bytes();
    let passes = |name, script: &str, logs| Shape { logs, ..one(name, script, "passed") };
    let deploys = format!(
        "image: {image}\nstages: [build, deploy, tell]\nbuild: {{script: [sleep 1]}}\ndeploy:\n  retry: never\n  script:\n    - {}\n    - sleep 1\ntell: {{script: [sleep 1]}}\n",
        counter.command()
    );
    let hello = || vec![("work", b"hello\n".to_vec())];
    vec![
        passes("passes", "echo hello", hello()),
        one("fails", "exit 3", "failed"),
        Shape {
            manifest: format!(
                "image: {image}\nstages: [one, two]\none: {{script: [echo made >made]}}\ntwo: {{script: [cat made]}}\n"
            ),
            ..passes("two stages", "", vec![("two", b"made\n".to_vec())])
        },
        Shape {
            manifest: format!(
                "image: {image}\nprepare: {{script: [echo ready >/ready]}}\nstages: [work]\nwork: {{script: [cat /ready]}}\n"
            ),
            ..passes("prepare", "", vec![("work", b"ready\n".to_vec())])
        },
        passes("long log", "seq 1 60000", vec![("work", numbers(60_000))]),
        passes("binary log", "head -c 200000 /dev/zero", vec![("work", vec![0; 200_000])]),
        passes("big output", "seq 1 1000000", vec![("work", numbers(1_000_000))]),
        passes("sleeps", "sleep 4; echo hello", hello()),
        Shape { right: Right::Cancelled, ..one("cancelled", "sleep 600", "cancelled") },
        Shape {
            right: Right::Ends { status: "errored", says: "has no branch" },
            has_branch: false,
            ..one("no branch", "true", "errored")
        },
        Shape {
            manifest: "image: x\nstages: [work]\nwork: {scrip: [true]}\n".to_owned(),
            right: Right::Ends { status: "errored", says: ".buildr.yml:3" },
            ..one("bad manifest", "true", "errored")
        },
        Shape { way: BY_HAND, ..passes("by hand", "sleep 1; echo hello", hello()) },
        Shape { way: BY_HAND_WITHOUT_ID, ..passes("by hand, no id", "sleep 1; echo hello", hello()) },
        Shape { manifest: deploys, right: Right::OnceAtMost, ..one("not twice", "", "passed") },
    ]
}

impl Shape {
    /// What is wrong with how a build ended, if something is. `begun`: how often its script that must not run twice
    /// began. Whether the losses of agents under it are just is looked at elsewhere.
    pub(super) fn wrong(&self, view: &BuildView, begun: u32) -> Option<String> {
        let status = view.build.status.name();
        let message = view.build.message.as_deref().unwrap_or_default();
        let lost = view.attempts.iter().filter(|attempt| attempt.state == "lost").count();
        if begun > 1 {
            return Some(format!("the script that must not run twice began {begun} times"));
        }
        if status == "errored" && message.contains("went silent, as agents did in all") && lost >= 2 {
            return None;
        }
        let is_right = match &self.right {
            Right::Ends { status: right, says } => status == *right && message.contains(says),
            Right::Cancelled => status == "cancelled",
            Right::OnceAtMost if status == "passed" => begun == 1,
            Right::OnceAtMost => status == "errored" && message.contains("must not run twice") && lost == 1,
        };
        (!is_right).then(|| format!("{status}: {message}"))
    }
}
