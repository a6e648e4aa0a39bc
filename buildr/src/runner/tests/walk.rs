//! The rules by which the stages of one job are gone through, one table row or one job each.

use protocol::job::SoFar;
use protocol::plan::{AllowFailure, Artifacts, KeepWhen, Prepare, Retry, RetryCause, RunOn, Service};
use protocol::{StageEnd, StageOutcome, StagePlan};

use super::*;

pub(super) fn stage(name: &str, script: &[&str]) -> StagePlan {
    StagePlan::new(name.parse().unwrap(), script.iter().map(|&line| line.to_owned()).collect())
}

pub(super) fn needs(names: &[&str], stage: StagePlan) -> StagePlan {
    StagePlan { needs: Some(names.iter().map(|name| name.parse().unwrap()).collect()), ..stage }
}

pub(super) fn keeps(paths: &[&str], stage: StagePlan) -> StagePlan {
    let paths = paths.iter().map(|&path| path.to_owned()).collect();
    let artifacts = Artifacts { paths, exclude: Vec::new(), when: KeepWhen::Success, expire_ms: None };
    StagePlan { artifacts: Some(artifacts), ..stage }
}

pub(super) fn service(name: &str, command: &[&str]) -> Service {
    let command: Vec<&str> = command.to_vec();
    serde_json::from_value(serde_json::json!({"name": name, "image": "any", "command": command})).unwrap()
}

/// What a job came to.
pub(super) struct Ran {
    pub(super) ending: Ending,
    pub(super) logs: String,
    pub(super) events: Vec<JobEvent>,
}

impl Ran {
    /// How each stage ended, in the order of their names: `a passed, b skipped: a failed`.
    pub(super) fn ends(&self) -> String {
        let mut ends: Vec<String> = self
            .events
            .iter()
            .filter_map(|event| match event {
                JobEvent::StageEnded { stage, result: StageOutcome::Skipped { reason }, .. } => {
                    Some(format!("{stage} skipped: {reason}"))
                }
                JobEvent::StageEnded { stage, result, .. } => Some(format!("{stage} {}", result.name())),
                _ => None,
            })
            .collect();
        ends.sort();
        ends.join(", ")
    }

    /// The lines of one log.
    pub(super) fn log(&self, name: &str) -> Vec<&str> {
        let prefix = format!("{name}: ");
        self.logs.lines().filter_map(|line| line.strip_prefix(&prefix)).collect()
    }

    pub(super) fn handed(&self) -> Vec<(&str, &str)> {
        let mut values = Vec::new();
        for event in &self.events {
            if let JobEvent::HandedOn { values: these } = event {
                values.extend(these.iter().map(|it| (it.name.as_str(), it.value.as_str())));
            }
        }
        values
    }

    #[track_caller]
    pub(super) fn check(&self, outcome: &str, ends: &str) {
        assert_eq!(
            (self.ending.outcome.name(), self.ends().as_str()),
            (outcome, ends),
            "{}\n{:?}",
            self.logs,
            self.ending
        );
    }
}

pub(super) async fn job(plan: Plan) -> Ran {
    run_on(Ground::of("print x"), plan).await
}

pub(super) async fn stages(stages: Vec<StagePlan>) -> Ran {
    job(Plan::new("any", stages)).await
}

pub(super) async fn run_on(mut ground: Ground, plan: Plan) -> Ran {
    ground.order.plan = Some(plan);
    let (ending, logs, events) = ground.run_whole(None).await;
    Ran { ending, logs, events }
}

#[tokio::test]
async fn stages_that_do_not_wait_for_each_other_run_at_once_on_copies() {
    let ran = stages(vec![
        stage("build", &["write out made"]),
        needs(&["build"], stage("unit", &["wait-begun lint", "read out", "write out unit's", "write own u"])),
        needs(&["build"], stage("lint", &["wait-begun unit", "read out", "write own l"])),
        stage("last", &["read out", "expect-file out", "expect-file own"]),
    ])
    .await;
    ran.check("failed", "build passed, last failed, lint passed, unit passed");
    assert_eq!(ran.log("unit"), ["made"]);
    assert_eq!(ran.log("lint"), ["made"]);
    assert_eq!(ran.log("last"), ["made", "own: no such file"], "only artifacts come back");
}

#[tokio::test]
async fn no_more_run_at_once_than_may() {
    // With one at a time the second would wait for ever for one that comes after it.
    let pair = |second: &str| vec![needs(&[], stage("a", &["print a"])), needs(&[], stage("b", &[second]))];
    let plan = Plan { stage_parallelism: Some(1), ..Plan::new("any", pair("wait-begun a")) };
    job(plan).await.check("passed", "a passed, b passed");
    let told: Vec<String> = stages(pair("print b")).await.events.iter().map(|event| format!("{event:?}")).collect();
    assert_eq!(told.iter().filter(|event| event.starts_with("StageStarted")).count(), 2);
}

#[tokio::test]
async fn artifacts_of_copies_come_together() {
    let ran = stages(vec![
        keeps(&["a/*"], needs(&[], stage("one", &["write a/one 1", "write junk x"]))),
        keeps(&["a/*"], needs(&[], stage("two", &["write a/two 2"]))),
        needs(&["one"], stage("after-one", &["read a/one", "expect-file a/two"])),
        stage("last", &["read a/one", "read a/two", "expect-file junk"]),
    ])
    .await;
    // It is ordered after `one` alone, and sees what that left; not what others do.
    assert_eq!(ran.log("after-one"), ["1", "a/two: no such file"]);
    let plan = Plan {
        fail_fast: false,
        ..Plan::new(
            "any",
            vec![
                keeps(&["a/*"], needs(&[], stage("one", &["write a/one 1", "write junk x"]))),
                keeps(&["a/*"], needs(&[], stage("two", &["write a/two 2"]))),
                stage("last", &["read a/one", "read a/two", "expect-file junk"]),
            ],
        )
    };
    let ran = job(plan).await;
    assert_eq!(ran.log("last"), ["1", "2", "junk: no such file"]);
}

#[tokio::test]
async fn two_that_leave_one_path_with_different_contents_are_told() {
    for (second, expect) in [("same", "passed"), ("other", "errored")] {
        let ran = stages(vec![
            keeps(&["out"], needs(&[], stage("one", &["write out same"]))),
            keeps(&["out"], needs(&[], stage("two", &[&format!("write out {second}")]))),
            stage("last", &["read out"]),
        ])
        .await;
        assert_eq!(ran.ending.outcome.name(), expect, "{}", ran.logs);
        if second == "other" {
            let message = ran.ending.message.clone().unwrap();
            assert!(message.starts_with("one and two run at the same time, and both leave out"), "{message}");
            ran.check("errored", "last skipped: two errored, one passed, two passed");
        }
    }
    // The later of two that are ordered wins.
    let ran = stages(vec![
        keeps(&["out"], needs(&[], stage("one", &["write out first"]))),
        keeps(&["out"], needs(&["one"], stage("two", &["read out", "write out second"]))),
        needs(&[], stage("beside", &["print x"])),
        stage("last", &["read out"]),
    ])
    .await;
    ran.check("passed", "beside passed, last passed, one passed, two passed");
    assert_eq!((ran.log("two"), ran.log("last")), (vec!["first"], vec!["second"]));
}

#[tokio::test]
async fn a_failure_stops_those_beside_it_and_skips_what_follows() {
    let group = || {
        vec![
            needs(&[], stage("bad", &["wait-begun slow", "exit 3"])),
            needs(&[], stage("slow", &["hang"])),
            stage("next", &["print x"]),
            StagePlan { run_on: RunOn::Failed, ..stage("rescue", &["print rescued"]) },
            StagePlan { run_on: RunOn::Always, ..stage("always", &["print done"]) },
        ]
    };
    let ran = stages(group()).await;
    ran.check("failed", "always passed, bad failed, next skipped: bad failed, rescue passed, slow cancelled");
    assert_eq!(ran.log("slow"), ["stopped: bad failed"]);
    assert_eq!(ran.ending.message.as_deref(), Some("bad failed: exit code 3"));
    assert_eq!(ran.ending.stage.as_ref().unwrap().as_str(), "bad");

    let mut slow = group();
    slow[1].script = vec!["wait-begun bad".to_owned(), "print well".to_owned()];
    let ran = job(Plan { fail_fast: false, ..Plan::new("any", slow) }).await;
    ran.check("failed", "always passed, bad failed, next skipped: bad failed, rescue passed, slow passed");
}

#[tokio::test]
async fn without_fail_fast_only_what_needs_the_failed_is_skipped() {
    let plan = Plan::new(
        "any",
        vec![
            needs(&[], stage("bad", &["exit 1"])),
            needs(&[], stage("good", &["print x"])),
            needs(&["good"], stage("follows", &["print x"])),
            needs(&["bad"], stage("lost", &["print x"])),
            needs(&["lost"], StagePlan { run_on: RunOn::Failed, ..stage("rescue", &["print x"]) }),
            needs(&["good"], StagePlan { run_on: RunOn::Failed, ..stage("idle", &["print x"]) }),
        ],
    );
    job(Plan { fail_fast: false, ..plan }).await.check(
        "failed",
        "bad failed, follows passed, good passed, idle skipped: it runs only when something before it failed, \
         lost skipped: bad failed, rescue passed",
    );
}

#[tokio::test]
async fn what_is_passed_over_says_why() {
    let skip = |stage| StagePlan { skip: Some("it is for tags".to_owned()), ..stage };
    stages(vec![
        skip(stage("a", &["exit 1"])),
        stage("b", &["print x"]),
        needs(&["a"], stage("c", &["print x"])),
        StagePlan { run_on: RunOn::Failed, ..stage("d", &["print x"]) },
    ])
    .await
    .check(
        "passed",
        "a skipped: it is for tags, b passed, c skipped: it needs a, which was skipped, \
         d skipped: it runs only when something before it failed",
    );
}

#[tokio::test]
async fn a_failed_prepare_leaves_only_what_has_an_image_of_its_own() {
    let always = |stage| StagePlan { run_on: RunOn::Always, ..stage };
    let plan = Plan::new(
        "any",
        vec![
            stage("a", &["print x"]),
            always(stage("b", &["print x"])),
            always(StagePlan { image: Some("other".into()), ..stage("c", &["print x"]) }),
        ],
    );
    job(Plan { prepare: Some(Prepare::from(vec!["exit 1".to_owned()])), ..plan }).await.check(
        "failed",
        "a skipped: prepare failed, b skipped: prepare failed, and this stage starts from what it makes, \
         c passed, prepare failed",
    );
}

#[tokio::test]
async fn a_job_that_runs_whatever_happened_knows_how_the_build_stands() {
    let mut ground = Ground::of("print x");
    ground.order.so_far = Some(SoFar { outcome: Outcome::Failed, stage: Some("unit".parse().unwrap()) });
    let plan = Plan::new(
        "any",
        vec![
            StagePlan {
                run_on: RunOn::Failed,
                ..stage("tell", &["env BUILDR_BUILD_STATUS", "env BUILDR_FAILED_STAGE"])
            },
            stage("go-on", &["print x"]),
        ],
    );
    let ran = run_on(ground, plan).await;
    ran.check("passed", "go-on skipped: the build failed before, tell passed");
    assert_eq!(ran.log("tell"), ["failed", "unit"]);
}

#[tokio::test]
async fn a_cancel_reaches_every_branch() {
    let ground = Ground { cancel_because: Some("a newer commit is built"), ..Ground::of("print x") };
    let plan = Plan::new(
        "any",
        vec![
            needs(&[], StagePlan { after: vec!["env BUILDR_STAGE_STATUS".to_owned()], ..stage("a", &["hang"]) }),
            needs(&[], stage("b", &["hang"])),
            StagePlan { run_on: RunOn::Always, ..stage("c", &["print x"]) },
        ],
    );
    let ran = run_on(ground, plan).await;
    assert_eq!(ran.ending.outcome, Outcome::Cancelled);
    assert!(ran.ends().contains("a cancelled") && ran.ends().contains("c skipped: the build was cancelled"));
    assert_eq!(ran.log("a"), ["cancelled"]);
}

#[tokio::test]
async fn what_is_made_ahead_is_for_the_next_stage_and_not_for_the_one_that_begins() {
    let ran = stages(vec![
        stage("a", &["stood", "wait-stands b"]),
        stage("b", &["stood", "wait-stands c"]),
        stage("c", &["stood"]),
    ])
    .await;
    ran.check("passed", "a passed, b passed, c passed");
    assert_eq!((ran.log("a"), ran.log("b"), ran.log("c")), (vec!["nothing"], vec!["b"], vec!["c"]));
}

#[tokio::test]
async fn a_stage_is_tried_again_on_the_workspace_as_it_was() {
    let retry = |max, on| Some(Retry { max, on, delay_ms: 0 });
    let flaky = |retry, until: &str| {
        let script = ["expect-file made", "append tries once", "read tries", &format!("fail-until {until}")];
        StagePlan { retry, ..stage("flaky", &script) }
    };
    let with = |flaky| vec![stage("make", &["write made x"]), flaky, stage("see", &["read tries"])];
    let ran = stages(with(flaky(retry(2, Vec::new()), "3"))).await;
    ran.check("passed", "flaky passed, make passed, see passed");
    assert_eq!(ran.log("see"), ["once"], "what the last try wrote stays, and nothing of the others");
    assert!(!ran.logs.contains("try-1"), "all tries stand in one log: {}", ran.logs);
    assert_eq!(
        ran.log("flaky"),
        [
            "once",
            "not this time",
            "try 1 of 3: exit code 1; trying again",
            "once",
            "not this time",
            "try 2 of 3: exit code 1; trying again",
            "once",
        ]
    );
    let logs = ran.events.iter().filter_map(|event| match event {
        JobEvent::StageTried { log, .. } => Some(log.as_str()),
        _ => None,
    });
    assert_eq!(logs.collect::<Vec<_>>(), ["flaky", "flaky"]);
    let tried = |ran: &Ran| ran.events.iter().filter(|event| matches!(event, JobEvent::StageTried { .. })).count();
    assert_eq!(tried(&ran), 2);

    // The workspace of the try before the last one possible goes on, too.
    let ran = stages(with(flaky(retry(5, Vec::new()), "2"))).await;
    assert_eq!((tried(&ran), ran.log("see")), (1, vec!["once"]));
    for (flaky, tries) in [
        (flaky(retry(1, Vec::new()), "9"), 1),
        (flaky(retry(3, vec![RetryCause::Timeout]), "2"), 0),
        (StagePlan { not_twice: true, ..flaky(retry(3, Vec::new()), "2") }, 0),
        (flaky(None, "2"), 0),
    ] {
        let ran = stages(with(flaky)).await;
        ran.check("failed", "flaky failed, make passed, see skipped: flaky failed");
        assert_eq!(tried(&ran), tries);
    }
}

#[tokio::test]
async fn waiting_for_a_try_ends_with_a_cancel() {
    let retry = Some(Retry { max: 1, on: Vec::new(), delay_ms: 3_600_000 });
    let ground = Ground { cancel_because: Some("enough"), ..Ground::of("print x") };
    // It ends badly whatever comes, so that the try is over before the wait.
    let ran = run_on(ground, Plan::new("any", vec![StagePlan { retry, ..stage("a", &["unpullable"]) }])).await;
    assert_eq!(ran.ending.outcome, Outcome::Cancelled);
}

#[tokio::test]
async fn an_allowed_failure_counts_as_passed() {
    let allowed = |allow_failure, code: &str| StagePlan { allow_failure, ..stage("a", &[code]) };
    for (first, end) in [
        (allowed(AllowFailure::Any, "exit 7"), "a allowed_failure"),
        (allowed(AllowFailure::Codes(vec![7]), "exit 7"), "a allowed_failure"),
        (allowed(AllowFailure::Any, "exit 0"), "a passed"),
    ] {
        stages(vec![first, stage("b", &["print x"])]).await.check("passed", &format!("{end}, b passed"));
    }
    let ran = stages(vec![allowed(AllowFailure::Codes(vec![7]), "exit 8"), stage("b", &["print x"])]).await;
    ran.check("failed", "a failed, b skipped: a failed");
    let ran = stages(vec![allowed(AllowFailure::Any, "unpullable")]).await;
    ran.check("errored", "a errored");
}

#[tokio::test]
async fn limits_of_a_stage_hold_within_the_machines() {
    let slow = |timeout_ms, idle_timeout_ms| StagePlan { timeout_ms, idle_timeout_ms, ..stage("a", &["hang"]) };
    for (plan, machines_ms, expect) in [
        (slow(Some(30), None), 60, StageEnd::TimedOut { limit_ms: 30 }),
        (slow(Some(9_000_000), None), 60, StageEnd::TimedOut { limit_ms: 60 }),
        (slow(None, Some(20)), 60_000, StageEnd::IdleTimedOut { limit_ms: 20 }),
    ] {
        let mut ground = Ground::of("print x");
        ground.times.stage = Duration::from_millis(machines_ms);
        let ran = run_on(ground, Plan::new("any", vec![plan])).await;
        let end = ran.events.iter().find_map(|event| match event {
            JobEvent::StageEnded { result: StageOutcome::Failed { end }, .. } => Some(*end),
            _ => None,
        });
        assert_eq!(end, Some(expect));
    }
}
