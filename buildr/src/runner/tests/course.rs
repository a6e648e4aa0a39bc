//! Builds of several jobs in one process: whose turn it is, what they leave for each other, and how all of it ends.

use protocol::plan::{Artifacts, BuildPlan, Concurrency, Downstream, Gate, KeepWhen, Lane, Retry, RunOn, TakeOrder};
use protocol::{JobKey, PlannedJob, StageOutcome, StagePlan};

use super::*;
use crate::sink::BuildSink;

mod odd;

/// A job of one stage of its own name.
fn job(name: &str, needs: &[&str], script: &[&str]) -> PlannedJob {
    let script = script.iter().map(|&line| line.to_owned()).collect();
    let plan = Plan::new("any", vec![StagePlan::new(name.parse().unwrap(), script)]);
    let needs = needs.iter().map(|need| need.parse().unwrap()).collect();
    PlannedJob { needs, ..PlannedJob::new(name.parse().unwrap(), plan) }
}

fn finally(script: &[&str]) -> PlannedJob {
    PlannedJob { finally: true, run_on: RunOn::Always, ..job("finally", &[], script) }
}

/// Gives the build other jobs than its manifest, and answers by their names.
struct People {
    jobs: Vec<PlannedJob>,
    build: BuildPlan,
    opens: bool,
    insists_on: &'static str,
    /// Whether a question is before them.
    asked: Mutex<bool>,
}

#[async_trait]
impl Gatekeeper for People {
    fn look_over(&self, jobs: &mut Vec<PlannedJob>, build: &mut BuildPlan) -> Result<(), String> {
        if self.jobs.is_empty() {
            return Err("there is nothing of that name".to_owned());
        }
        (*jobs, *build) = (self.jobs.clone(), self.build.clone());
        Ok(())
    }

    async fn answer(&self, _job: &PlannedJob, _gate: &Gate) -> Answer {
        assert!(!std::mem::replace(&mut *self.asked.lock().unwrap(), true), "one question after the other");
        tokio::time::sleep(Duration::from_millis(60)).await;
        *self.asked.lock().unwrap() = false;
        match self.opens {
            true => Answer::Open(vec![Variable::new("REGION", "eu")]),
            false => Answer::Skip("you said no".to_owned()),
        }
    }

    fn place(&self, job: &PlannedJob) -> Place {
        match (job.labels.to_string().as_str(), &job.downstream) {
            (_, Some(_)) => Place::Nowhere("it begins another build".to_owned()),
            ("", _) => Place::Here,
            ("arm", _) => Place::IfItRuns(job.plan.image.clone(), None),
            ("never", _) => Place::Nowhere("no machine is like that".to_owned()),
            (labels, _) => Place::Instead(format!("here in place of {labels}")),
        }
    }

    fn insists(&self, job: &PlannedJob) -> bool {
        job.key.as_str() == self.insists_on
    }
}

/// Keeps what all jobs tell.
struct Heard<'a> {
    told: Mutex<Vec<(String, JobEvent)>>,
    logs: Mutex<String>,
    passed_over: Mutex<Vec<String>>,
    stop: &'a Stop,
    /// Cancels when this stage begins.
    cancel_at: Option<&'static str>,
}

struct HeardOf<'a>(&'a Heard<'a>, String);

impl BuildSink for Heard<'_> {
    fn of_job(&self, job: Option<&JobKey>) -> Box<dyn EventSink + '_> {
        Box::new(HeardOf(self, job.map(|job| job.as_str().to_owned()).unwrap_or_default()))
    }

    fn passed_over(&self, job: &JobKey, reason: &str) {
        self.passed_over.lock().unwrap().push(format!("{job} skipped: {reason}"));
    }
}

#[async_trait]
impl EventSink for HeardOf<'_> {
    async fn emit(&self, event: JobEvent) -> Result<(), SinkError> {
        if let JobEvent::StageStarted { stage, .. } = &event
            && self.0.cancel_at == Some(stage.as_str())
        {
            self.0.stop.cancel_because("enough");
        }
        self.0.told.lock().unwrap().push((self.1.clone(), event));
        Ok(())
    }

    async fn emit_certain(&self, event: JobEvent) -> Result<(), SinkError> {
        self.emit(event).await
    }

    async fn log(&self, log: &LogName, bytes: Bytes) -> Result<(), SinkError> {
        let mut logs = self.0.logs.lock().unwrap();
        for line in String::from_utf8_lossy(&bytes).lines() {
            logs.push_str(&format!("{}/{log}: {line}\n", self.1));
        }
        Ok(())
    }
}

/// What a build came to.
struct Ran {
    ending: Ending,
    /// The ends of its jobs, and those that were passed over, by their names.
    ends: String,
    logs: String,
    told: Vec<(String, JobEvent)>,
}

impl Ran {
    #[track_caller]
    fn check(&self, outcome: &str, ends: &str) {
        let got = (self.ending.outcome.name(), self.ends.as_str());
        assert_eq!(got, (outcome, ends), "{}\n{:?}", self.logs, self.ending);
    }

    fn log(&self, name: &str) -> Vec<&str> {
        let prefix = format!("{name}: ");
        self.logs.lines().filter_map(|line| line.strip_prefix(&prefix)).collect()
    }
}

/// How a build is run.
struct How {
    opens: bool,
    /// Whether other platforms run here.
    emulates: bool,
    /// The job that a person asked for by its name.
    insists_on: &'static str,
    cancel_at: Option<&'static str>,
    plan: BuildPlan,
    at_once: usize,
}

impl Default for How {
    fn default() -> Self {
        Self { opens: false, emulates: false, insists_on: "", cancel_at: None, plan: BuildPlan::default(), at_once: 4 }
    }
}

async fn build(jobs: Vec<PlannedJob>) -> Ran {
    build_so(jobs, How::default()).await
}

async fn build_so(jobs: Vec<PlannedJob>, how: How) -> Ran {
    let ground = Ground::of("print x");
    let tree = ground.folder.path().join("tree");
    std::fs::write(tree.join("code"), "as it is").unwrap();
    let executor = if how.emulates { ScriptedExecutor::emulating() } else { ScriptedExecutor::new() };
    let stop = Stop::new();
    let work = WorkFolder::at(&ground.folder.path().join("work")).unwrap();
    let archives = ground.folder.path().join("archives");
    let rooms = Rooms { archives: Some(&archives), ..rooms(Source::Tree(&tree), &executor, &work) };
    let heard = Heard {
        told: Mutex::default(),
        logs: Mutex::default(),
        passed_over: Mutex::default(),
        stop: &stop,
        cancel_at: how.cancel_at,
    };
    let people =
        People { jobs, build: how.plan, opens: how.opens, insists_on: how.insists_on, asked: Mutex::default() };
    let ways = Ways { jobs: how.at_once, gatekeeper: &people };
    let ending = run_build(&ground.order, &rooms, &ways, &heard, &stop).await;
    assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0, "all workspaces are gone");
    assert_eq!(executor.open_sandboxes(), 0);
    let told = heard.told.into_inner().unwrap();
    let mut ends = heard.passed_over.into_inner().unwrap();
    ends.extend(told.iter().filter_map(|(job, event)| match event {
        JobEvent::Finished { ending, .. } => Some(format!("{job} {}", ending.outcome.name())),
        _ => None,
    }));
    ends.sort();
    Ran { ending, ends: ends.join(", "), logs: heard.logs.into_inner().unwrap(), told }
}

#[tokio::test]
async fn each_job_begins_with_the_code_and_what_it_needs_left() {
    let paths = vec!["out".to_owned()];
    let artifacts = Artifacts { paths, exclude: Vec::new(), when: KeepWhen::Success, expire_ms: None };
    let mut make = job("make", &[], &["read code", "write out made", "write junk x", "hand V=1"]);
    make.plan.stages[0].artifacts = Some(artifacts);
    let ran = build(vec![
        make,
        job("use", &["make"], &["read code", "read out", "env V", "env BUILDR_JOB", "expect-file junk"]),
        job("through", &["use"], &["read out"]),
        job("apart", &[], &["env V", "expect-file out"]),
    ])
    .await;
    assert_eq!(ran.log("use/use"), ["as it is", "made", "1", "use", "junk: no such file"]);
    assert_eq!(ran.log("apart/apart"), ["", "out: no such file"]);
    ran.check("failed", "apart failed, make passed, through skipped: it needs use, which ended as failed, use failed");
    assert_eq!(ran.ending.stage.as_ref().unwrap().as_str(), "use");
    let planned = ran.told.iter().filter(|(_, event)| matches!(event, JobEvent::Planned { .. }));
    assert_eq!(planned.map(|(job, _)| job.as_str()).collect::<Vec<_>>(), [""]);
}

#[tokio::test]
async fn what_two_jobs_leave_that_wait_for_nothing_of_each_other_has_no_last_word() {
    let makes = |key: &str, needs: &[&str], script: &[&str]| {
        let artifacts =
            Artifacts { paths: vec!["out".to_owned()], exclude: Vec::new(), when: KeepWhen::Success, expire_ms: None };
        let mut job = job(key, needs, script);
        job.plan.stages[0].artifacts = Some(artifacts);
        job
    };
    let two = |script: &str| vec![job("a", &[], &["hand V=1", "hand W=1"]), job("b", &[], &["hand W=1", script])];
    let ran = build([two("hand V=2"), vec![job("c", &["a", "b"], &["env V"])]].concat()).await;
    ran.check("errored", "a passed, b passed, c errored");
    let message = ran.ending.message.unwrap();
    assert!(message.contains("a and b hand on different values for V"), "{message}");
    // One that waits for both has the last word, and so has one of the two that waits for the other.
    let jobs = [two("hand V=2"), vec![job("c", &["a"], &["hand V=3"]), job("d", &["b", "c"], &["env V"])]].concat();
    build(jobs).await.check("errored", "a passed, b passed, c passed, d errored");
    let jobs = vec![job("a", &[], &["hand V=1"]), job("b", &["a"], &["hand V=2"]), job("c", &["a", "b"], &["env V"])];
    let ran = build(jobs).await;
    ran.check("passed", "a passed, b passed, c passed");
    assert_eq!(ran.log("c/c"), ["2"]);
    // Of files it is told, and the later one's are there.
    let (a, b) = (makes("a", &[], &["write out one"]), makes("b", &[], &["write out two"]));
    let ran = build(vec![a.clone(), b, job("c", &["a", "b"], &["read out"])]).await;
    ran.check("passed", "a passed, b passed, c passed");
    assert_eq!(ran.log("c/c"), ["two"]);
    let said = ran.log("c/0-job").join(" ");
    assert!(said.contains("a and b both leave out with different contents"), "{said}");
    let b = makes("b", &["a"], &["write out two"]);
    let ran = build(vec![a, b, job("c", &["a", "b"], &["read out"])]).await;
    assert!(!ran.log("c/0-job").join(" ").contains("different contents"));
}

#[tokio::test]
async fn jobs_run_at_once_as_many_as_may() {
    // The second would wait for ever if both ran at once on nothing but their own; alone each passes in its turn.
    let jobs = || vec![job("a", &[], &["print a"]), job("b", &[], &["print b"]), job("c", &["a", "b"], &["print c"])];
    for at_once in [1, 2] {
        let ran = build_so(jobs(), How { at_once, ..How::default() }).await;
        ran.check("passed", "a passed, b passed, c passed");
        assert_eq!(ran.log("c/c"), ["c"]);
    }
}

#[tokio::test]
async fn gates_are_asked_and_their_answers_arrive() {
    let jobs = || {
        let gated = PlannedJob { gate: Some(Gate::default()), ..job("deploy", &["test"], &["env REGION"]) };
        vec![job("test", &[], &["print x"]), gated, job("after", &["deploy"], &["print x"])]
    };
    let ran = build_so(jobs(), How { opens: true, ..How::default() }).await;
    ran.check("passed", "after passed, deploy passed, test passed");
    assert_eq!(ran.log("deploy/deploy"), ["eu"]);
    build(jobs())
        .await
        .check("passed", "after skipped: it needs deploy, which was skipped, deploy skipped: you said no, test passed");
}

/// The time of a gate begins with its question, which nobody sees while another is before them.
#[tokio::test]
async fn gates_that_wait_together_are_asked_one_after_the_other() {
    let gated = |name| PlannedJob {
        gate: Some(Gate { timeout_ms: Some(100), ..Gate::default() }),
        ..job(name, &[], &["env REGION"])
    };
    let jobs = vec![gated("a"), gated("b"), gated("c")];
    let ran = build_so(jobs, How { opens: true, ..How::default() }).await;
    ran.check("passed", "a passed, b passed, c passed");
}

#[tokio::test]
async fn other_machines_and_other_builds_are_the_gatekeepers_word() {
    let labels = |name: &str| protocol::LabelSet::new([name]).unwrap();
    let downstream = Downstream { repo: None, branch: None, vars: Vec::new(), wait: false };
    let ran = build(vec![
        PlannedJob { labels: labels("gpu"), ..job("a", &[], &["print x"]) },
        PlannedJob { labels: labels("never"), ..job("b", &[], &["print x"]) },
        PlannedJob { downstream: Some(downstream), ..job("c", &[], &["exit 1"]) },
    ])
    .await;
    ran.check("passed", "a passed, b skipped: no machine is like that, c skipped: it begins another build");
    assert!(ran.log("a/0-job").contains(&"here in place of gpu"), "{}", ran.logs);
}

#[tokio::test]
async fn what_is_for_another_platform_runs_where_that_can_be_and_is_passed_over_elsewhere() {
    let jobs = |platform: &str| {
        let mut arm = job("arm", &[], &["print x"]);
        arm.labels = protocol::LabelSet::new(["arm"]).unwrap();
        arm.plan.image.platform = Some(platform.to_owned());
        vec![arm, job("after", &["arm"], &["print x"]), job("beside", &[], &["print x"])]
    };
    let ran = build(jobs("linux/amd64")).await;
    ran.check("passed", "after passed, arm passed, beside passed");
    assert!(ran.log("arm/0-job").is_empty(), "{}", ran.logs);

    let ran = build_so(jobs("linux/arm64"), How { emulates: true, ..How::default() }).await;
    ran.check("passed", "after passed, arm passed, beside passed");
    let not_own = "runs here on linux/arm64, which is not this machine's own platform, and may be slow";
    assert_eq!(ran.log("arm/0-job"), ["looking whether linux/arm64 runs here", not_own]);
    let totals = ran.told.iter().filter(|(job, event)| job == "arm" && is_log_of_job(event));
    assert_eq!(totals.count(), 1, "{:?}", ran.told);

    let not = "it is for linux/arm64: scripts are interpreted on linux/amd64 alone, and not on linux/arm64";
    let after = "after skipped: it needs arm, which was skipped";
    let ran = build(jobs("linux/arm64")).await;
    ran.check("passed", &format!("{after}, arm skipped: {not}, beside passed"));
    let begun = |(job, event): &(String, JobEvent)| job == "arm" && !is_log_of_job(event);
    assert!(!ran.told.iter().any(begun), "{:?}", ran.told);

    let ran = build_so(jobs("linux/arm64"), How { insists_on: "arm", ..How::default() }).await;
    assert_eq!(ran.ending.outcome, Outcome::Errored { cause: Cause::Daemon });
    assert_eq!(ran.ending.message.as_deref(), Some(format!("arm does not run here: {not}").as_str()));
}

fn is_log_of_job(event: &JobEvent) -> bool {
    matches!(event, JobEvent::LogComplete { log, .. } if *log == LogName::of_job())
}

#[tokio::test]
async fn a_lane_may_end_with_its_first_failure() {
    let lane = |fail_fast| Some(Lane { name: "cells".to_owned(), max: None, fail_fast });
    let cells = |fail_fast| {
        let end = if fail_fast { "hang" } else { "print x" };
        vec![
            PlannedJob { lane: lane(fail_fast), ..job("bad", &[], &["exit 1"]) },
            PlannedJob { lane: lane(fail_fast), ..job("beside", &[], &[end]) },
        ]
    };
    build(cells(false)).await.check("failed", "bad failed, beside passed");
    build(cells(true)).await.check("failed", "bad failed, beside cancelled");
    let one_by_one = How { at_once: 1, ..How::default() };
    build_so(cells(true), one_by_one).await.check(
        "failed",
        "bad failed, beside skipped: bad failed, and then the others beside it are not run (fail_fast)",
    );
}

#[tokio::test]
async fn what_runs_after_a_failure_knows_of_it() {
    let on = |run_on, job| PlannedJob { run_on, ..job };
    let tell = ["env BUILDR_BUILD_STATUS", "env BUILDR_FAILED_STAGE"];
    let jobs = |code: &str| {
        vec![
            job("test", &[], &[code]),
            on(RunOn::Failed, job("rescue", &["test"], &tell)),
            on(RunOn::Always, job("always", &["test"], &tell)),
            finally(&tell),
        ]
    };
    let ran = build(jobs("exit 1")).await;
    ran.check("failed", "always passed, finally passed, rescue passed, test failed");
    for name in ["rescue/rescue", "always/always", "finally/finally"] {
        assert_eq!(ran.log(name), ["failed", "test"], "{name}");
    }
    let ran = build(jobs("exit 0")).await;
    ran.check(
        "passed",
        "always passed, finally passed, rescue skipped: it runs only when something before it failed, test passed",
    );
    assert_eq!(ran.log("finally/finally"), ["passed", ""]);
}

#[tokio::test]
async fn finally_comes_last_whatever_happened() {
    let ran = build(vec![job("a", &[], &["print x"]), finally(&["exit 3"])]).await;
    ran.check("failed", "a passed, finally failed");
    assert_eq!(ran.ending.message.as_deref(), Some("finally failed: exit code 3"));
    let ran = build(vec![job("a", &[], &["unpullable"]), finally(&["exit 3"])]).await;
    ran.check("errored", "a errored, finally failed");

    let cancelled = How { cancel_at: Some("a"), ..How::default() };
    let jobs = vec![job("a", &[], &["hang"]), job("b", &["a"], &["print x"]), finally(&["env BUILDR_BUILD_STATUS"])];
    let ran = build_so(jobs, cancelled).await;
    ran.check("cancelled", "a cancelled, b skipped: the build was cancelled, finally passed");
    assert_eq!(ran.log("finally/finally"), ["cancelled"]);
    assert!(ran.ending.message.unwrap().contains("enough"));

    // Where nothing ever began there is nothing to clean up.
    let gated = PlannedJob { gate: Some(Gate::default()), ..job("a", &[], &["print x"]) };
    build(vec![gated, finally(&["print x"])])
        .await
        .check("passed", "a skipped: you said no, finally skipped: no job of the build ever began");
}
