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
    /// What its logs hold when it came to its end.
    pub(super) logs: Vec<Said>,
    /// The jobs that it is made of when these are several, in the order of the plan, and how each ends when the build
    /// ends as it must.
    pub(super) jobs: Vec<(&'static str, &'static str)>,
}

/// What a log holds.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// Of which job; of the only one without it.
    pub(super) job: Option<&'static str>,
    /// Its name.
    pub(super) log: &'static str,
    /// All bytes after the lines that show the commands.
    pub(super) bytes: Vec<u8>,
}

impl Said {
    fn of(log: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { job: None, log, bytes: bytes.into() }
    }

    fn by(job: &'static str, log: &'static str, text: &str) -> Self {
        Self { job: Some(job), ..Self::of(log, text) }
    }
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
        jobs: Vec::new(),
    };
    let numbers =
        |to: u32| (1..=to).fold(String::new(), |text, number| text + format!("{number}\n").as_str()).into_bytes();
    let passes = |name, script: &str, logs| Shape { logs, ..one(name, script, "passed") };
    let deploys = format!(
        "image: {image}\nstages: [build, deploy, tell]\nbuild: {{script: [sleep 1]}}\ndeploy:\n  retry: never\n  script:\n    - {}\n    - sleep 1\ntell: {{script: [sleep 1]}}\n",
        counter.command()
    );
    let hello = || vec![Said::of("work", "hello\n")];
    let mut shapes = vec![
        passes("passes", "echo hello", hello()),
        one("fails", "exit 3", "failed"),
        Shape {
            manifest: format!(
                "image: {image}\nstages: [one, two]\none: {{script: [echo made >made]}}\ntwo: {{script: [cat made]}}\n"
            ),
            ..passes("two stages", "", vec![Said::of("two", "made\n")])
        },
        Shape {
            manifest: format!(
                "image: {image}\nprepare: {{script: [echo ready >/ready]}}\nstages: [work]\nwork: {{script: [cat /ready]}}\n"
            ),
            ..passes("prepare", "", vec![Said::of("work", "ready\n")])
        },
        passes("long log", "seq 1 60000", vec![Said::of("work", numbers(60_000))]),
        passes("binary log", "head -c 200000 /dev/zero", vec![Said::of("work", vec![0; 200_000])]),
        passes("big output", "seq 1 1000000", vec![Said::of("work", numbers(1_000_000))]),
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
    ];
    shapes.extend(of_several_jobs(&one("", "", ""), counter));
    shapes
}

/// Those that a plan makes several jobs of: with needs, cells, shards, values and files that are handed on, failures that
/// are allowed and that are not, groups, and a last word.
fn of_several_jobs(one: &Shape, counter: &Counter) -> Vec<Shape> {
    let image = docker::image();
    let ends = |name, body: &str, status, jobs: &[(&'static str, &'static str)]| Shape {
        name,
        manifest: format!("image: {image}\n{body}"),
        right: Right::Ends { status, says: "" },
        jobs: jobs.to_vec(),
        ..one.clone()
    };
    let hands = ends(
        "hands on",
        HANDS_ON,
        "passed",
        &[
            ("compile", "passed"),
            ("cells (n=1)", "passed"),
            ("cells (n=2)", "passed"),
            ("report", "passed"),
            ("finally", "passed"),
        ],
    );
    let logs = vec![
        Said::by("cells (n=1)", "cells", "made\ncell 1 of 7\n"),
        Said::by("cells (n=2)", "cells", "made\ncell 2 of 7\n"),
        Said::by("report", "report", "1\n2\nmade\nof 7\n"),
        Said::by("finally", "finally", "it passed\n"),
    ];
    let hands = Shape { logs, ..hands };
    let deploys = format!(
        "stages: [build, deploy, tell]\nbuild: {{script: [echo built >built], artifacts: [built]}}\ndeploy:\n  concurrency: soak\n  script:\n    - cat built\n    - {}\n    - sleep 1\ntell: {{script: [sleep 1]}}\n",
        counter.command()
    );
    vec![
        Shape { name: "hands on, by hand", way: BY_HAND, ..hands.clone() },
        hands,
        ends(
            "allowed failure",
            ALLOWED_FAILURE,
            "passed",
            &[("shards 1/2", "passed"), ("shards 2/2", "passed"), ("after", "passed")],
        ),
        ends(
            "a cell fails",
            A_CELL_FAILS,
            "failed",
            &[("cells (n=1)", "passed"), ("cells (n=2)", "failed"), ("after", "skipped"), ("finally", "passed")],
        ),
        Shape {
            right: Right::OnceAtMost,
            ..ends("in a group", &deploys, "passed", &[("build", "passed"), ("deploy", "passed"), ("tell", "passed")])
        },
        Shape { right: Right::Cancelled, ..ends("cancelled cells", CANCELLED_CELLS, "cancelled", &[]) },
    ]
}

const HANDS_ON: &str = r#"stages: [compile, cells, report]
compile:
  script: ['echo made >made; echo VERSION=7 >>"$BUILDR_ENV"']
  artifacts: [made]
cells:
  matrix: {n: [1, 2]}
  script: ['cat made; echo "cell $BUILDR_MATRIX_N of $VERSION"; echo "$BUILDR_MATRIX_N" >"result-$BUILDR_MATRIX_N"']
  artifacts: ["result-*"]
report: {script: ['cat result-1 result-2 made; echo "of $VERSION"']}
finally: {script: ['echo "it $BUILDR_BUILD_STATUS"']}
"#;

const ALLOWED_FAILURE: &str = "stages: [shards, after]
shards: {parallel: 2, allow_failure: true, script: [exit 3]}
after: {script: [echo after]}
";

const A_CELL_FAILS: &str = r#"stages: [cells, after]
cells: {matrix: {n: [1, 2]}, script: ['test "$BUILDR_MATRIX_N" = 1']}
after: {script: [echo after]}
finally: {script: [echo swept]}
"#;

const CANCELLED_CELLS: &str = "stages: [cells, after]
cells: {matrix: {n: [1, 2]}, script: [sleep 600]}
after: {script: [echo after]}
finally: {script: [echo swept]}
";

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
            Right::OnceAtMost => status == "errored" && message.contains("must not run twice") && lost >= 1,
        };
        if !is_right {
            return Some(format!("{status}: {message}"));
        }
        doubled(view).or_else(|| self.wrong_jobs(view))
    }

    /// What is wrong with how its jobs ended, when the build ended as it must.
    fn wrong_jobs(&self, view: &BuildView) -> Option<String> {
        if self.jobs.is_empty() || self.right == Right::OnceAtMost && view.build.status.name() != "passed" {
            return None;
        }
        let found: Vec<_> = view.jobs.iter().map(|job| (job.key.as_str(), job.status.name())).collect();
        (found != self.jobs).then(|| format!("its jobs are {found:?}"))
    }
}

/// The job that came to an end of its own more than once, if one did.
fn doubled(view: &BuildView) -> Option<String> {
    let ended = |job: &str| {
        let of = view.attempts.iter().filter(|attempt| attempt.job == job);
        of.filter(|attempt| matches!(attempt.state.as_str(), "passed" | "failed")).count()
    };
    let twice = view.attempts.iter().find(|attempt| ended(&attempt.job) > 1);
    twice.map(|attempt| format!("its job {} was carried out {} times", attempt.job, ended(&attempt.job)))
}
