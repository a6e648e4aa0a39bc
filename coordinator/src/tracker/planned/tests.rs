//! Plans of several jobs, from what an agent reports to what the farm does: over a broker in memory, with agents made
//! of nothing but what they say.

use std::collections::BTreeMap;
use std::sync::Mutex;

use protocol::api::{ApproveJob, Status, WaitReason};
use protocol::control::{Control, Grant};
use protocol::outcome::Outcome;
use protocol::plan::{Downstream, GateInput, Lane, PipelineTurn, RunOn, StagePlan, TakeOrder};
use protocol::report::{JobEvent, TestFailure, Tests};
use protocol::{BuildNumber, ClaimId, Plan};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::intake::{self, Trigger};
use crate::store::{Asker, Timed};
use crate::testing::{Agent, Farm, soon};
use crate::tracker::{GateRefusal, Person, answer, cancel};
use crate::why;

fn failed() -> Ending {
    Ending::of(Outcome::Failed, Some("exit code 1".to_owned())).in_stage(&"work".parse().unwrap())
}

fn work(key: &str, needs: &[&str]) -> PlannedJob {
    let stage = StagePlan::new("work".parse().unwrap(), vec!["true".to_owned()]);
    PlannedJob { plan: Plan::new("x", vec![stage]), ..job(key, needs) }
}

fn on(run_on: RunOn, key: &str, needs: &[&str]) -> PlannedJob {
    PlannedJob { run_on, ..work(key, needs) }
}

fn last() -> PlannedJob {
    PlannedJob { finally: true, ..on(RunOn::Always, "finally", &[]) }
}

fn gated(key: &str, needs: &[&str], gate: Gate) -> PlannedJob {
    PlannedJob { gate: Some(gate), ..work(key, needs) }
}

fn group(name: &str) -> Concurrency {
    Concurrency { group: name.to_owned(), limit: 1, order: TakeOrder::Build }
}

fn in_group(key: &str, needs: &[&str], name: &str) -> PlannedJob {
    PlannedJob { concurrency: Some(group(name)), ..work(key, needs) }
}

/// A farm with one agent.
struct Course {
    _folder: TempDir,
    farm: Farm,
    agent: Agent,
    /// What the agent took while something else was asked for.
    taken: Mutex<Vec<(ClaimId, Grant)>>,
}

impl Course {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// One that looks often for what takes too long.
    async fn watchful() -> Self {
        Self::with(|config| config.lease = std::time::Duration::from_secs(10)).await
    }

    async fn with(change: impl FnOnce(&mut crate::config::Config)) -> Self {
        let folder = tempdir().unwrap();
        let farm = Farm::with(&folder, change).await;
        let agent = farm.agent("a1").await;
        Self { _folder: folder, farm, agent, taken: Mutex::default() }
    }

    /// A build that consists of these jobs.
    async fn begin(&self, jobs: &[PlannedJob]) -> BuildNumber {
        self.begin_as(jobs, BuildPlan::default()).await
    }

    async fn begin_as(&self, jobs: &[PlannedJob], build: BuildPlan) -> BuildNumber {
        let number = self.farm.submit().await;
        self.plan(number, jobs, build).await;
        number
    }

    /// The agent takes the planning of a build, and says what it consists of.
    async fn plan(&self, number: BuildNumber, jobs: &[PlannedJob], build: BuildPlan) {
        let (claim, _) = self.take_that(|grant| grant.order.build == Some(number) && grant.order.key.is_none()).await;
        self.plan_as(claim, jobs, build).await;
    }

    async fn plan_as(&self, claim: ClaimId, jobs: &[PlannedJob], build: BuildPlan) {
        let branch = Some("main".parse().unwrap());
        let commit = Some("0123456789".repeat(4).parse().unwrap());
        let (subject, author) = ("mend it".to_owned(), "me".to_owned());
        self.agent
            .happened(claim, JobEvent::CheckedOut { commit, branch, subject, author, default_branch: None })
            .await;
        self.agent.happened(claim, JobEvent::Planned { jobs: jobs.to_vec(), build }).await;
        self.agent.finish(claim, Ending::passed()).await;
    }

    /// Whatever comes next.
    async fn take(&self) -> (ClaimId, Grant) {
        self.take_that(|_| true).await
    }

    /// A job of this key, of whichever build.
    async fn take_job(&self, key: &str) -> (ClaimId, Grant) {
        self.take_that(|grant| grant.order.key.as_ref().is_some_and(|own| own.as_str() == key)).await
    }

    async fn take_that(&self, is_meant: impl Fn(&Grant) -> bool) -> (ClaimId, Grant) {
        loop {
            {
                let mut taken = self.taken.lock().unwrap();
                if let Some(place) = taken.iter().position(|(_, grant)| is_meant(grant)) {
                    return taken.remove(place);
                }
            }
            let (claimed, grant) = self.agent.work(&self.farm).await;
            self.taken.lock().unwrap().push((claimed.claim, grant));
        }
    }

    async fn pass(&self, key: &str) {
        let (claim, _) = self.take_job(key).await;
        self.agent.finish(claim, Ending::passed()).await;
    }

    /// Where the jobs of a build stand.
    async fn stand(&self, build: BuildNumber) -> String {
        let view = self.farm.snapshot(build).await.view;
        let jobs: Vec<String> = view.jobs.iter().map(|job| format!("{} {}", job.key, job.status.name())).collect();
        format!("{}: {}", view.build.status.name(), jobs.join(", "))
    }

    /// What the jobs of a build wait for, as people read it.
    async fn why(&self, build: BuildNumber) -> Vec<String> {
        let waiting = why::waits(&self.farm.desk).await.unwrap().of(build).to_vec();
        let story = why::why(&self.farm.desk, self.farm.snapshot(build).await.view, waiting).await.unwrap();
        story.waiting.into_iter().map(|waiting| format!("{}: {}", waiting.job, waiting.sentence)).collect()
    }

    async fn message(&self, build: BuildNumber, key: &str) -> String {
        let view = self.farm.snapshot(build).await.view;
        let job = view.jobs.into_iter().find(|job| job.key.as_str() == key).unwrap();
        job.message.unwrap_or_default()
    }

    async fn cancel(&self, build: BuildNumber) {
        cancel(&self.farm.desk, build, "by me").await.unwrap().unwrap();
    }

    async fn approve(&self, build: BuildNumber, said: ApproveJob) -> Result<String, GateRefusal> {
        answer(&self.farm.desk, build, &said, Person { by: Some("ada@laptop"), maintains: false })
            .await
            .map(|approved| approved.message)
    }

    async fn hear_cancel(&self, claim: ClaimId) -> String {
        match self.agent.hear(|control| matches!(control, Control::Cancel { claim: of, .. } if *of == claim)).await {
            Control::Cancel { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    async fn stop(self) {
        self.farm.stop().await;
    }
}

#[tokio::test]
async fn how_a_job_ended_decides_which_others_run() {
    let course = Course::new().await;
    let jobs = [
        work("a", &[]),
        work("b", &["a"]),
        on(RunOn::Failed, "c", &["a"]),
        on(RunOn::Always, "d", &["b"]),
        on(RunOn::Failed, "e", &["d"]),
    ];
    let build = course.begin(&jobs).await;
    let (claim, _) = course.take_job("a").await;
    course.agent.finish(claim, failed()).await;
    assert_eq!(course.stand(build).await, "running: a failed, b skipped, c queued, d queued, e queued");
    assert_eq!(course.message(build, "b").await, "it needs a, which ended as failed");
    let (claim, grant) = course.take_job("c").await;
    let so_far = grant.order.so_far.unwrap();
    assert_eq!((so_far.outcome, so_far.stage.unwrap().as_str()), (Outcome::Failed, "work"));
    course.agent.finish(claim, Ending::passed()).await;
    course.pass("d").await;
    course.pass("e").await;
    assert_eq!(course.stand(build).await, "failed: a failed, b skipped, c passed, d passed, e passed");
    let build = course.begin(&jobs).await;
    for key in ["a", "b", "d"] {
        course.pass(key).await;
    }
    assert_eq!(course.stand(build).await, "passed: a passed, b passed, c skipped, d passed, e skipped");
    course.stop().await;
}

#[tokio::test]
async fn what_comes_last_comes_last_and_makes_nothing_better() {
    let course = Course::new().await;
    let build = course.begin(&[work("a", &[]), last()]).await;
    let (claim, _) = course.take_job("a").await;
    course.agent.finish(claim, failed()).await;
    assert_eq!(course.stand(build).await, "running: a failed, finally queued");
    let (claim, grant) = course.take_job("finally").await;
    assert_eq!(grant.order.so_far.unwrap().outcome, Outcome::Failed);
    assert_eq!(grant.order.plan.unwrap().stages[0].timeout_ms, Some(FINALLY_MS));
    course.agent.finish(claim, Ending::errored(Cause::Daemon, "away")).await;
    let view = course.farm.snapshot(build).await.view;
    assert_eq!((view.build.status, view.build.message.as_deref()), (Status::Failed, Some("exit code 1")));
    let build = course.begin(&[work("a", &[]), last()]).await;
    course.pass("a").await;
    let (claim, _) = course.take_job("finally").await;
    course.agent.finish(claim, Ending::errored(Cause::Daemon, "away")).await;
    let view = course.farm.snapshot(build).await.view;
    assert_eq!((view.build.status, view.build.message.as_deref()), (Status::Failed, Some("finally: away")));
    course.stop().await;
}

#[tokio::test]
async fn what_comes_last_outlives_the_first_cancel() {
    let course = Course::new().await;
    let build = course.begin(&[work("a", &[]), work("b", &["a"]), last()]).await;
    let (claim, _) = course.take_job("a").await;
    course.cancel(build).await;
    course.hear_cancel(claim).await;
    course.agent.finish(claim, Ending::cancelled("by me")).await;
    assert_eq!(course.stand(build).await, "running: a cancelled, b cancelled, finally queued");
    let (claim, _) = course.take_job("finally").await;
    course.cancel(build).await;
    course.hear_cancel(claim).await;
    course.agent.finish(claim, Ending::cancelled("by me")).await;
    assert_eq!(course.stand(build).await, "cancelled: a cancelled, b cancelled, finally cancelled");
    // Where nothing began there is nothing to clean up.
    let build = course.begin(&[work("a", &[]), last()]).await;
    course.cancel(build).await;
    assert_eq!(course.stand(build).await, "cancelled: a cancelled, finally skipped");
    course.stop().await;
}

#[tokio::test]
async fn what_comes_last_is_ended_by_persons_alone() {
    let course = Course::new().await;
    let build = course.begin(&[work("a", &[]), last()]).await;
    let (claim, _) = course.take_job("a").await;
    let ask = async |by| {
        let mut tx = course.farm.desk.store.write().await.unwrap();
        tx.cancel(build, "superseded by #9", by, 1).await.unwrap();
        tx.commit().await.unwrap();
    };
    ask(Asker::Needless).await;
    course.agent.finish(claim, Ending::cancelled("superseded by #9")).await;
    for by in [Asker::Needless, Asker::Time, Asker::Parent, Asker::Person, Asker::Needless] {
        ask(by).await;
        assert_eq!(course.stand(build).await, "running: a cancelled, finally queued", "{by:?}");
    }
    ask(Asker::Person).await;
    assert_eq!(course.stand(build).await, "cancelled: a cancelled, finally cancelled");
    course.stop().await;
}

#[tokio::test]
async fn a_person_lets_a_job_begin() {
    let course = Course::new().await;
    let input = |name: &str, choices: &[&str], default: Option<&str>| GateInput {
        name: name.to_owned(),
        choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
        default: default.map(str::to_owned),
        description: None,
    };
    let gate = Gate {
        ask: Some("Deploy?".to_owned()),
        allow: vec!["ada".to_owned()],
        inputs: vec![input("TO", &["stage", "prod"], Some("stage")), input("WHY", &[], None)],
        timeout_ms: None,
    };
    let build = course.begin(&[work("a", &[]), gated("deploy", &["a"], gate)]).await;
    let of_deploy = |inputs: &[(&str, &str)]| ApproveJob {
        job: Some("deploy".parse().unwrap()),
        inputs: inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..ApproveJob::default()
    };
    let refused = async |said| course.approve(build, said).await.unwrap_err().to_string();
    assert_eq!(refused(of_deploy(&[])).await, "job deploy waits for a first; answer when that is over");
    assert!(refused(ApproveJob::default()).await.contains("no job of build #1 waits for approval"));
    let unknown = ApproveJob { job: Some("x".parse().unwrap()), ..ApproveJob::default() };
    assert_eq!(refused(unknown).await, "build #1 has no job \"x\"; it has: a, deploy");
    course.pass("a").await;
    let asks = "deploy: waits for approval (Deploy?) by ada: run `buildr approve 1 deploy --input WHY=VALUE`";
    assert_eq!(course.why(build).await, [asks]);
    assert_eq!(course.stand(build).await, "running: a passed, deploy queued");
    assert!(refused(of_deploy(&[])).await.contains("asks for WHY"));
    assert!(refused(of_deploy(&[("WHY", "x"), ("TO", "moon")])).await.contains("one of stage, prod"));
    let bob = Person { by: Some("bob"), maintains: false };
    let by_bob = answer(&course.farm.desk, build, &of_deploy(&[("WHY", "x")]), bob).await;
    assert!(matches!(by_bob, Err(GateRefusal::NotAllowed(..))));
    let said = ApproveJob { inputs: BTreeMap::from([("WHY".to_owned(), "new".to_owned())]), ..ApproveJob::default() };
    assert_eq!(course.approve(build, said).await.unwrap(), "job deploy of build #1 is approved");
    assert!(refused(of_deploy(&[("WHY", "x")])).await.contains("was approved already by ada@laptop"));
    let (claim, grant) = course.take_job("deploy").await;
    assert_eq!(grant.order.inputs, [Variable::new("TO", "stage"), Variable::new("WHY", "new")]);
    assert!(grant.order.plan.unwrap().stages[0].not_twice, "what a person let begin is begun once");
    course.agent.finish(claim, Ending::passed()).await;
    assert!(refused(of_deploy(&[("WHY", "x")])).await.contains("was approved already"));
    let gate = course.farm.snapshot(build).await.view.jobs[1].gate.clone().unwrap();
    assert_eq!((gate.open, gate.approved_by.as_deref()), (false, Some("ada@laptop")));
    course.stop().await;
}

#[tokio::test]
async fn a_person_passes_a_job_over_and_so_does_time() {
    let course = Course::watchful().await;
    let build = course.begin(&[gated("a", &[], Gate::default()), gated("b", &["a"], Gate::default()), last()]).await;
    let reason = Some("not today".to_owned());
    let said = ApproveJob { reject: true, reason, ..ApproveJob::default() };
    assert_eq!(course.approve(build, said).await.unwrap(), "job a of build #1 is passed over");
    assert_eq!(course.stand(build).await, "passed: a skipped, b skipped, finally skipped");
    assert_eq!(course.message(build, "a").await, "rejected by ada@laptop: not today");
    let soon_over = Gate { timeout_ms: Some(1), ..Gate::default() };
    let build = course.begin(&[gated("a", &[], soon_over), work("b", &[])]).await;
    course.pass("b").await;
    course.farm.until_status(build, "passed").await;
    assert_eq!(course.stand(build).await, "passed: a skipped, b passed");
    assert!(course.message(build, "a").await.starts_with("nobody approved it within"));
    course.stop().await;
}

#[tokio::test]
async fn what_is_left_of_the_time_for_an_answer_is_no_limit_of_the_job() {
    let course = Course::new().await;
    let gate = Gate { timeout_ms: Some(600_000), ..Gate::default() };
    let build = course.begin(&[gated("deploy", &[], gate), last()]).await;
    let timed = async || course.farm.desk.store.timed().await.unwrap();
    assert!(matches!(timed().await[..], [(Timed::Gate(_), 600_000)]));
    course.approve(build, ApproveJob::default()).await.unwrap();
    let (claim, _) = course.take_job("deploy").await;
    assert_eq!(timed().await, []);
    course.agent.finish(claim, Ending::passed()).await;
    course.take_job("finally").await;
    assert!(matches!(timed().await[..], [(Timed::Last(_), _)]));
    course.stop().await;
}

#[tokio::test]
async fn a_build_that_takes_too_long_is_ended_by_the_farm() {
    let course = Course::watchful().await;
    let number = course.farm.submit().await;
    let plan = BuildPlan { timeout_ms: Some(1), ..BuildPlan::default() };
    course.plan(number, &[work("a", &[]), work("b", &["a"])], plan).await;
    let view = course.farm.until_status(number, "errored").await.view;
    assert!(view.build.message.unwrap().contains("took longer than"));
    course.stop().await;
}

#[tokio::test]
async fn builds_take_turns_in_a_group_and_a_later_one_never_overtakes() {
    let course = Course::new().await;
    let jobs = [work("test", &[]), in_group("deploy", &["test"], "prod")];
    let first = course.begin(&jobs).await;
    let (testing, _) = course.take_job("test").await;
    let second = course.begin(&jobs).await;
    course.pass("test").await;
    let behind = "deploy: waits for its turn: the older build #1 comes first in group prod";
    assert_eq!(course.why(second).await, [behind]);
    course.agent.finish(testing, Ending::passed()).await;
    let (claim, grant) = course.take_job("deploy").await;
    assert_eq!(grant.order.build, Some(first));
    assert_eq!(course.why(second).await, ["deploy: waits for its turn: group prod is held by #1"]);
    // Who is lost under it keeps the turn, until it is clear that it is over.
    course.agent.report(protocol::report::Report::Abandoned { agent: course.agent.name.clone(), claim }).await;
    let (claim, grant) = course.take_job("deploy").await;
    assert_eq!(grant.order.build, Some(first));
    course.agent.finish(claim, failed()).await;
    let (claim, grant) = course.take_job("deploy").await;
    assert_eq!(grant.order.build, Some(second));
    course.agent.finish(claim, Ending::passed()).await;
    assert_eq!(course.stand(second).await, "passed: test passed, deploy passed");
    course.stop().await;
}

#[tokio::test]
async fn who_was_ready_first_is_first_where_a_group_says_so() {
    let course = Course::new().await;
    let by_time = |needs: &[&str]| PlannedJob {
        concurrency: Some(Concurrency { order: TakeOrder::Ready, ..group("prod") }),
        ..work("deploy", needs)
    };
    let holder = course.begin(&[by_time(&[])]).await;
    let (held, grant) = course.take_job("deploy").await;
    assert_eq!(grant.order.build, Some(holder));
    let second = course.begin(&[work("test", &[]), by_time(&["test"])]).await;
    let third = course.begin(&[by_time(&[])]).await;
    course.pass("test").await;
    course.agent.finish(held, Ending::passed()).await;
    let (held, grant) = course.take_job("deploy").await;
    assert_eq!(grant.order.build, Some(third));
    course.agent.finish(held, Ending::passed()).await;
    let (_, grant) = course.take_job("deploy").await;
    assert_eq!(grant.order.build, Some(second));
    course.stop().await;
}

#[tokio::test]
async fn an_older_build_that_is_not_planned_yet_comes_first_too() {
    let course = Course::new().await;
    let first = course.farm.submit().await;
    let (planning, _) = course.take().await;
    let second = course.begin(&[in_group("deploy", &[], "prod")]).await;
    let unplanned =
        "deploy: waits for its turn: the older build #1 is not planned yet, and may come first in group prod";
    assert_eq!(course.why(second).await, [unplanned]);
    course.plan_as(planning, &[work("a", &[]), work("b", &[])], BuildPlan::default()).await;
    let (_, grant) = course.take_job("a").await;
    assert_eq!(grant.order.build, Some(first));
    let (_, grant) = course.take_job("deploy").await;
    assert_eq!(grant.order.build, Some(second));
    course.stop().await;
}

#[tokio::test]
async fn a_group_is_one_however_the_repositorys_address_is_written() {
    let course = Course::new().await;
    let first = course.begin(&[in_group("deploy", &[], "prod")]).await;
    let (claim, _) = course.take_job("deploy").await;
    let trigger = Trigger::new("git@example.org:x.git".parse().unwrap(), protocol::job::TriggerKind::Manual);
    let second = intake::submit(&course.farm.desk, &trigger, None).await.unwrap();
    course.plan(second, &[in_group("deploy", &[], "prod")], BuildPlan::default()).await;
    let waits = format!("deploy: waits for its turn: group prod is held by {first}");
    assert_eq!(course.why(second).await, [waits]);
    course.agent.finish(claim, Ending::passed()).await;
    let (_, grant) = course.take_job("deploy").await;
    assert_eq!(grant.order.build, Some(second));
    course.stop().await;
}

#[tokio::test]
async fn who_waits_for_a_person_lets_others_pass() {
    let course = Course::new().await;
    let gate = || PlannedJob { concurrency: Some(group("prod")), ..gated("deploy", &[], Gate::default()) };
    let first = course.begin(&[gate(), work("x", &["deploy"])]).await;
    let second = course.begin(&[in_group("deploy", &[], "prod")]).await;
    let (claim, grant) = course.take_job("deploy").await;
    assert_eq!(grant.order.build, Some(second));
    course.approve(first, ApproveJob::default()).await.unwrap();
    assert_eq!(course.why(first).await[0], "deploy: waits for its turn: group prod is held by #2");
    course.agent.finish(claim, Ending::passed()).await;
    let (_, grant) = course.take_job("deploy").await;
    assert_eq!(grant.order.build, Some(first));
    course.stop().await;
}

#[tokio::test]
async fn a_whole_build_waits_for_its_turn() {
    let course = Course::new().await;
    let plan = || BuildPlan { concurrency: Some(group("all")), ..BuildPlan::default() };
    // One job alone would else go on in the slot in which it was planned.
    let first = course.begin_as(&[work("a", &[])], plan()).await;
    let second = course.begin_as(&[work("a", &[]), last()], plan()).await;
    let (claim, grant) = course.take_job("a").await;
    assert_eq!(grant.order.build, Some(first));
    assert_eq!(course.why(second).await[0], "a: waits for its turn: group all is held by #1");
    course.cancel(first).await;
    course.agent.finish(claim, Ending::cancelled("by me")).await;
    let (_, grant) = course.take_job("a").await;
    assert_eq!(grant.order.build, Some(second));
    course.stop().await;
}

fn of(pipeline: &str, job: PlannedJob) -> PlannedJob {
    let key = format!("{pipeline}/{}", job.key).parse().unwrap();
    PlannedJob { key, plan: Plan { pipeline: Some(pipeline.to_owned()), ..job.plan.clone() }, ..job }
}

#[tokio::test]
async fn each_pipeline_waits_for_its_own_turn_and_for_no_others() {
    let course = Course::new().await;
    let turn = |pipeline: &str, name: &str| PipelineTurn { pipeline: pipeline.to_owned(), concurrency: group(name) };
    let plan = || BuildPlan {
        concurrency: Some(group("web")),
        pipelines: vec![turn("a", "web"), turn("b", "db")],
        ..BuildPlan::default()
    };
    let needs_work = |job: PlannedJob| PlannedJob { needs: vec!["a/work".parse().unwrap()], ..job };
    let jobs = || {
        let more = needs_work(of("a", work("more", &[])));
        [of("a", work("work", &[])), more, of("a", last()), of("b", work("work", &[])), of("c", work("work", &[]))]
    };
    let first = course.begin_as(&jobs(), plan()).await;
    let second = course.begin_as(&jobs(), plan()).await;
    let from = async |key: &str, build| {
        let (claim, grant) = course.take_job(key).await;
        assert_eq!(grant.order.build, Some(build), "{key}");
        claim
    };
    let (first_a, first_b) = (from("a/work", first).await, from("b/work", first).await);
    // A pipeline without a group waits for none.
    for build in [first, second] {
        course.agent.finish(from("c/work", build).await, Ending::passed()).await;
    }
    let held = |job: &str, group: &str| format!("{job}: waits for its turn: group {group} is held by #1");
    assert_eq!(course.why(second).await[0], held("a/work", "web"));
    assert!(course.why(second).await.contains(&held("b/work", "db")));
    // One pipeline's end is the end of its turn, whatever the other one does.
    course.agent.finish(first_b, Ending::passed()).await;
    let second_b = from("b/work", second).await;
    // It has its turn until all of its jobs are over, and its last word comes after those of all others.
    course.agent.finish(first_a, Ending::passed()).await;
    let more = from("a/more", first).await;
    assert_eq!(course.why(second).await[0], held("a/work", "web"));
    course.agent.finish(more, Ending::passed()).await;
    let second_a = from("a/work", second).await;
    course.agent.finish(from("a/finally", first).await, Ending::passed()).await;
    for claim in [second_b, second_a] {
        course.agent.finish(claim, Ending::passed()).await;
    }
    course.agent.finish(from("a/more", second).await, Ending::passed()).await;
    course.agent.finish(from("a/finally", second).await, Ending::passed()).await;
    for build in [first, second] {
        course.farm.until_status(build, "passed").await;
    }
    course.stop().await;
}

#[tokio::test]
async fn pipelines_of_one_build_take_turns_in_one_group_and_with_whole_builds() {
    let course = Course::new().await;
    let turn = |pipeline: &str| PipelineTurn { pipeline: pipeline.to_owned(), concurrency: group("one") };
    let pipelines = vec![turn("a"), turn("b")];
    let first = course
        .begin_as(
            &[of("a", work("work", &[])), of("b", work("work", &[]))],
            BuildPlan { concurrency: Some(group("one")), pipelines, ..BuildPlan::default() },
        )
        .await;
    let whole = BuildPlan { concurrency: Some(group("one")), ..BuildPlan::default() };
    let second = course.begin_as(&[work("a", &[]), work("b", &[])], whole).await;
    let claim = course.take_job("a/work").await.0;
    assert_eq!(course.why(first).await, ["b/work: waits for its turn: group one is held by #1"]);
    course.agent.finish(claim, Ending::passed()).await;
    let claim = course.take_job("b/work").await.0;
    assert_eq!(course.why(second).await[0], "a: waits for its turn: group one is held by #1");
    course.agent.finish(claim, Ending::passed()).await;
    assert_eq!(course.take_job("a").await.1.order.build, Some(second));
    course.stop().await;
}

#[tokio::test]
async fn a_lane_runs_so_many_at_once_and_ends_with_its_first_failure() {
    let course = Course::new().await;
    let lane = Lane { name: "test".to_owned(), max: Some(2), fail_fast: true };
    let cell = |key: &str| PlannedJob { lane: Some(lane.clone()), ..work(key, &[]) };
    let build = course.begin(&[cell("a"), cell("b"), cell("c"), work("d", &["a"])]).await;
    let (first, second) = (course.take_job("a").await.0, course.take_job("b").await.0);
    assert_eq!(course.why(build).await[0], "c: waits for the others beside it: at most 2 of test run at once");
    course.agent.finish(first, failed()).await;
    assert!(course.hear_cancel(second).await.contains("a failed"));
    course.agent.finish(second, Ending::cancelled("a failed (fail_fast)")).await;
    // That the others were ended for it makes the build no worse than it is.
    assert_eq!(course.stand(build).await, "failed: a failed, b cancelled, c skipped, d skipped");
    assert!(course.message(build, "c").await.contains("fail_fast"));
    assert_eq!(course.message(build, "b").await, "a failed (fail_fast)");
    let view = course.farm.snapshot(build).await.view;
    let story = why::why(&course.farm.desk, view, Vec::new()).await.unwrap();
    let cut: Vec<_> = story.cut_short.iter().map(|one| (one.job.as_str(), one.failed.as_str(), &*one.why)).collect();
    assert_eq!(cut, [("b", "a", "a failed (fail_fast)")]);
    course.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_lane_goes_on_when_a_job_of_it_ends_that_nobody_had() {
    let course = Course::new().await;
    let lane = Lane { name: "test".to_owned(), max: None, fail_fast: true };
    let cell = |key: &str| PlannedJob { lane: Some(lane.clone()), ..work(key, &[]) };
    let build = course.begin(&[cell("a"), cell("b"), on(RunOn::Always, "c", &["b"]), last()]).await;
    let (first, _) = course.take_job("a").await;
    course.agent.finish(first, failed()).await;
    assert_eq!(course.stand(build).await, "running: a failed, b cancelled, c queued, finally queued");
    // What was offered of b meanwhile is nobody's job any more.
    let delivery = course.agent.take().await;
    let claimed = course.agent.claim(&delivery).await;
    let denied = course.agent.answer(&claimed, &course.farm.desk.identity.public()).await.unwrap_err();
    assert_eq!(denied, "the job is over");
    assert!(delivery.ack().await);
    course.pass("c").await;
    course.pass("finally").await;
    assert_eq!(course.stand(build).await, "failed: a failed, b cancelled, c passed, finally passed");
    course.stop().await;
}

#[tokio::test]
async fn a_cancel_while_a_build_is_planned_is_not_lost() {
    let course = Course::new().await;
    let build = course.farm.submit().await;
    let (planning, _) = course.take().await;
    course.cancel(build).await;
    course.hear_cancel(planning).await;
    // The plan was made when the word came.
    course.plan_as(planning, &[work("a", &[]), work("b", &["a"]), last()], BuildPlan::default()).await;
    assert_eq!(course.stand(build).await, "cancelled: ");
    course.stop().await;
}

#[tokio::test]
async fn a_newer_build_makes_older_ones_needless_but_cuts_nothing_short() {
    let course = Course::new().await;
    let begin = async || {
        let repo = "https://example.org/x".parse().unwrap();
        let branch = Some("main".parse().unwrap());
        let trigger = Trigger { branch, ..Trigger::new(repo, protocol::job::TriggerKind::Manual) };
        intake::submit(&course.farm.desk, &trigger, None).await.unwrap()
    };
    let jobs = [in_group("deploy", &[], "prod"), work("test", &[]), work("docs", &["test"])];
    let first = begin().await;
    course.plan(first, &jobs, BuildPlan::default()).await;
    let deploying = course.take_job("deploy").await.0;
    let testing = course.take_job("test").await.0;
    let (second, third) = (begin().await, begin().await);
    // The next one says nothing of it, and on this farm only pull requests are superseded then.
    course.plan(second, &[work("a", &[]), work("b", &[])], BuildPlan::default()).await;
    assert_eq!(course.stand(first).await, "running: deploy running, test running, docs queued");
    let a = course.take_job("a").await.0;
    course.take_job("b").await;
    let plan = BuildPlan { cancel_superseded: Some(true), ..BuildPlan::default() };
    course.plan(third, &[work("a", &[]), work("b", &[])], plan).await;
    assert!(course.hear_cancel(testing).await.contains("superseded by #3"));
    assert!(course.hear_cancel(a).await.contains("superseded by #3"));
    course.agent.finish(testing, Ending::cancelled("superseded by #3")).await;
    assert_eq!(course.stand(first).await, "running: deploy running, test cancelled, docs cancelled");
    course.agent.finish(deploying, Ending::passed()).await;
    assert_eq!(course.stand(first).await, "cancelled: deploy passed, test cancelled, docs cancelled");
    course.stop().await;
}

fn sent_on(key: &str, needs: &[&str], downstream: Downstream) -> PlannedJob {
    PlannedJob { downstream: Some(downstream), ..job(key, needs) }
}

fn to(repo: &str, wait: bool) -> Downstream {
    Downstream { repo: Some(repo.parse().unwrap()), branch: None, vars: vec![Variable::new("TO", "x")], wait }
}

#[tokio::test]
async fn a_job_that_is_another_build_ends_as_that_one_does() {
    let course = Course::new().await;
    let build = course.begin(&[sent_on("next", &[], to("https://example.org/y", true)), work("a", &["next"])]).await;
    let (claim, grant) = course.take().await;
    let child = grant.order.build.unwrap();
    assert_eq!((grant.order.trigger.name(), &grant.order.inputs[..]), ("upstream", &[Variable::new("TO", "x")][..]));
    assert_eq!(grant.order.origin.upstream, ["https://me:***@example.org/x#1"]);
    assert_eq!(course.stand(build).await, "running: next running, a queued");
    // No agent is ever offered what the coordinator carries out, though the line is cut and mended.
    course.plan_as(claim, &[work("one", &[]), work("two", &[])], BuildPlan::default()).await;
    course.pass("one").await;
    let (claim, _) = course.take_job("two").await;
    course.agent.finish(claim, failed()).await;
    assert_eq!(course.stand(child).await, "failed: one passed, two failed");
    assert_eq!(course.stand(build).await, "failed: next failed, a skipped");
    assert_eq!(course.message(build, "next").await, "build #2, which it began, ended as failed: exit code 1");
    course.stop().await;
}

#[tokio::test]
async fn a_cancel_goes_down_to_the_build_that_is_waited_for() {
    let course = Course::new().await;
    let build = course.begin(&[sent_on("next", &[], to("https://example.org/y", true)), work("a", &["next"])]).await;
    let (claim, _) = course.take().await;
    course.cancel(build).await;
    course.hear_cancel(claim).await;
    course.agent.finish(claim, Ending::cancelled("by me")).await;
    assert_eq!(course.stand(build).await, "cancelled: next cancelled, a cancelled");
    course.stop().await;
}

#[tokio::test]
async fn builds_that_begin_each_other_end() {
    let course = Course::new().await;
    let other = |name: &str| format!("https://example.org/{name}");
    // Nobody waits: and still it is known who led to whom.
    course.begin(&[sent_on("next", &[], to(&other("b"), false)), work("a", &[])]).await;
    course.pass("a").await;
    let (claim, grant) = course.take().await;
    let second = grant.order.build.unwrap();
    course.plan_as(claim, &[sent_on("next", &[], to(&other("b"), false)), work("a", &[])], BuildPlan::default()).await;
    let snapshot = course.farm.until(second, "a refusal", |it| it.view.jobs[0].status == Status::Errored).await;
    let message = snapshot.view.jobs[0].message.clone().unwrap();
    assert!(message.contains("in a circle: https://example.org/b its HEAD is build #2"), "{message}");
    course.pass("a").await;
    // A chain without a circle is only so long.
    course.begin(&[sent_on("next", &[], to(&other("c1"), true)), work("a", &[])]).await;
    course.pass("a").await;
    for number in 2..9 {
        let (claim, grant) = course.take().await;
        let next = sent_on("next", &[], to(&other(&format!("c{number}")), true));
        course.plan_as(claim, &[next, work("a", &[])], BuildPlan::default()).await;
        course.pass("a").await;
        if number == 8 {
            let build = grant.order.build.unwrap();
            let view = course.farm.until_status(build, "errored").await.view;
            assert!(view.build.message.unwrap().contains("8 builds began one another"));
        }
    }
    course.farm.until_status(BuildNumber(3), "errored").await;
    course.stop().await;
}

#[tokio::test]
async fn what_jobs_leave_reaches_those_that_need_them() {
    let course = Course::new().await;
    let jobs = [work("a", &[]), work("b", &["a"]), work("c", &["b"]), work("other", &[])];
    let build = course.begin(&jobs).await;
    let hand = |values: &[(&str, &str)]| {
        let values = values.iter().map(|(name, value)| Variable::new(*name, *value)).collect();
        JobEvent::HandedOn { values }
    };
    let sha256 = "ab".repeat(32);
    let kept = JobEvent::ArtifactsKept {
        stage: "work".parse().unwrap(),
        files: 2,
        bytes: 7,
        sha256: sha256.clone(),
        expire_ms: None,
    };
    let (claim, _) = course.take_job("a").await;
    course.agent.happened(claim, hand(&[("X", "1"), ("Y", "1")])).await;
    course.agent.happened(claim, hand(&[("X", "2")])).await;
    course.agent.happened(claim, kept).await;
    course.agent.finish(claim, Ending::passed()).await;
    let (other, _) = course.take_job("other").await;
    course.agent.happened(other, hand(&[("X", "no")])).await;
    let (claim, grant) = course.take_job("b").await;
    assert_eq!(grant.order.handed, [Variable::new("Y", "1"), Variable::new("X", "2")]);
    course.agent.happened(claim, hand(&[("Y", "3")])).await;
    course.agent.finish(claim, Ending::passed()).await;
    let (claim, grant) = course.take_job("c").await;
    assert_eq!(grant.order.handed, [Variable::new("X", "2"), Variable::new("Y", "3")]);
    let [kept] = &grant.order.kept[..] else { panic!("{:?}", grant.order.kept) };
    assert_eq!((kept.job.as_str(), kept.stage.as_str(), &kept.sha256), ("a", "work", &sha256));
    // What cannot be kept is not lost in silence.
    course.agent.happened(claim, hand(&[("BUILDR_EVENT", "push")])).await;
    course.agent.hear(|control| matches!(control, Control::Abort { claim: of, .. } if *of == claim)).await;
    assert!(course.message(build, "c").await.contains("BUILDR_EVENT is one of buildr's own variables"));
    course.stop().await;
}

#[tokio::test]
async fn what_is_read_of_a_stage_is_shown() {
    let course = Course::new().await;
    let build = course.begin(&[work("a", &[]), work("b", &[])]).await;
    let (claim, _) = course.take_job("a").await;
    let stage = || "work".parse().unwrap();
    let failure = TestFailure { name: "t1".to_owned(), message: "boom".to_owned(), file: None };
    let tests = Tests { passed: 3, failed: 1, failures: vec![failure], ..Tests::default() };
    let result = protocol::StageOutcome::Passed;
    for event in [
        JobEvent::ImageFound { stage: stage(), image: "x".to_owned(), digest: "sha256:1".to_owned() },
        JobEvent::StageStarted { stage: stage(), image: "x".to_owned(), not_twice: false },
        JobEvent::StageTried { stage: stage(), number: 1, result, duration_ms: 4, log: "work".parse().unwrap() },
        JobEvent::TestsRead { stage: stage(), tests: tests.clone() },
        JobEvent::CoverageRead { stage: stage(), lines: 8123 },
        JobEvent::Summary { stage: stage(), text: "# Hello".to_owned() },
    ] {
        course.agent.happened(claim, event).await;
    }
    course.agent.finish(claim, Ending::passed()).await;
    let view = course.farm.snapshot(build).await.view;
    let stage = view.attempts.iter().find(|attempt| attempt.job == "a").unwrap().stages[0].clone();
    assert_eq!((stage.image.as_str(), stage.digest.as_deref()), ("x", Some("sha256:1")));
    assert_eq!((stage.tries.len(), stage.tests, stage.coverage), (1, Some(tests), Some(8123)));
    assert_eq!(stage.summary.as_deref(), Some("# Hello"));
    course.stop().await;
}

#[tokio::test]
async fn stages_that_were_passed_over_are_shown_and_may_be_all() {
    let course = Course::new().await;
    let stage = "docs".parse().unwrap();
    let skipped = protocol::plan::SkippedStage { stage, pipeline: None, reason: "branch is main".to_owned() };
    let build = course.begin_as(&[], BuildPlan { skipped: vec![skipped.clone()], ..BuildPlan::default() }).await;
    let view = course.farm.snapshot(build).await.view;
    assert_eq!((view.build.status, view.skipped), (Status::Passed, vec![skipped]));
    course.stop().await;
}

#[tokio::test]
async fn no_group_and_no_need_ever_block_each_other() {
    // Each of two builds has jobs in both groups, the needs crosswise; agents take whatever is there.
    let course = Course::new().await;
    let one = [in_group("a", &[], "x"), in_group("b", &["a"], "y"), in_group("c", &["b"], "x")];
    let two = [in_group("a", &[], "y"), in_group("b", &["a"], "x"), in_group("c", &["b"], "y")];
    let builds = [course.begin(&one).await, course.begin(&two).await, course.begin(&one).await];
    for _ in 0..9 {
        let (claim, _) = soon("a job", course.take()).await;
        course.agent.finish(claim, Ending::passed()).await;
    }
    for build in builds {
        assert_eq!(course.stand(build).await, "passed: a passed, b passed, c passed");
    }
    course.stop().await;
}

#[tokio::test]
async fn a_reason_is_the_same_in_all_places() {
    let course = Course::new().await;
    let build = course.begin(&[gated("a", &[], Gate::default())]).await;
    let waiting = why::waits(&course.farm.desk).await.unwrap().of(build).to_vec();
    let story = why::why(&course.farm.desk, course.farm.snapshot(build).await.view, waiting).await.unwrap();
    assert!(matches!(story.waiting[0].why, WaitReason::Approval(_)));
    assert_eq!(course.message(build, "a").await, story.waiting[0].sentence);
    course.stop().await;
}

fn job(key: &str, needs: &[&str]) -> PlannedJob {
    let needs = needs.iter().map(|need| need.parse().unwrap()).collect();
    PlannedJob { needs, ..PlannedJob::new(key.parse().unwrap(), Plan::new("x", Vec::new())) }
}

#[track_caller]
fn check(jobs: &[PlannedJob], expect: Result<(), &str>) {
    match (check_plan(jobs, &BuildPlan::default()), expect) {
        (Ok(()), Ok(())) => {}
        (Err(got), Err(expect)) if got.contains(expect) => {}
        (got, expect) => panic!("{got:?} instead of {expect:?}"),
    }
}

#[test]
fn a_plan_is_believed_within_its_caps() {
    check(&[job("a", &[])], Ok(()));
    check(&[job("c", &["a", "b"]), job("a", &[]), job("b", &["a"])], Ok(()));
    check(&[], Err("no job"));
    check(&[job("a", &[]), job("a", &[])], Err("two jobs"));
    check(&[job("(plan)", &[])], Err("two jobs"));
    check(&[job("a", &["x"])], Err("needs x, which is not there"));
    check(&[job("a", &["b", "b"]), job("b", &[])], Err("twice"));
    check(&[job("a", &["b"]), job("b", &["a"]), job("c", &[])], Err("a, b need each other"));
    check(&[job("a", &["a"])], Err("circle"));
    let many: Vec<PlannedJob> = (0..=MAX_JOBS).map(|number| job(&number.to_string(), &[])).collect();
    check(&many, Err("257 jobs"));
    let mut long = job("a", &[]);
    long.plan.image = "x".repeat(MAX_PLAN_BYTES).into();
    check(&[long], Err("larger than 1024 KiB"));
}

#[test]
fn what_a_plan_says_about_turns_has_its_limits() {
    let with = |change: &dyn Fn(&mut PlannedJob)| {
        let mut job = job("a", &[]);
        change(&mut job);
        vec![job, self::job("b", &[])]
    };
    let lane = |max| Lane { name: "t".to_owned(), max, fail_fast: false };
    check(&with(&|job| job.lane = Some(lane(Some(1)))), Ok(()));
    check(&with(&|job| job.lane = Some(lane(Some(0)))), Err("room for none"));
    check(&with(&|job| job.concurrency = Some(Concurrency { limit: 0, ..group("x") })), Err("lets none begin"));
    check(&with(&|job| job.concurrency = Some(group(""))), Err("is empty"));
    check(&with(&|job| job.concurrency = Some(group(&"x".repeat(501)))), Err("longer than 500"));
    let input = |name: &str, choices: &[&str], default: Option<&str>| GateInput {
        name: name.to_owned(),
        choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
        default: default.map(str::to_owned),
        description: None,
    };
    let gate = |inputs| Some(Gate { inputs, ..Gate::default() });
    check(&with(&|job| job.gate = gate(vec![input("A", &["x"], Some("x"))])), Ok(()));
    check(&with(&|job| job.gate = gate(vec![input("A", &["x"], Some("y"))])), Err("none of its choices"));
    check(&with(&|job| job.gate = gate(vec![input("A-B", &[], None)])), Err("no name of a variable"));
    check(&with(&|job| job.gate = gate(vec![input("A", &[], None), input("A", &[], None)])), Err("asks for A twice"));
    check(&with(&|job| job.gate = gate(vec![input("A", &[], None); 33])), Err("more than 32 inputs"));
    let labels = || protocol::LabelSet::new((0..33).map(|number| format!("l{number}"))).unwrap();
    check(&with(&|job| job.labels = labels()), Err("more than 32 labels"));
    let downstream = |wait| Some(to("https://example.org/y", wait));
    check(&with(&|job| job.downstream = downstream(true)), Ok(()));
    let both = |wait| {
        with(&|job: &mut PlannedJob| {
            job.downstream = downstream(wait);
            job.concurrency = Some(group("x"));
        })
    };
    check(&both(false), Ok(()));
    check(&both(true), Err("must not hold a concurrency group"));
    check(&[sent_on("a", &[], to("https://e.org/y", true)), last(), job("b", &[])], Ok(()));
    check(&[last(), PlannedJob { key: "more/finally".parse().unwrap(), ..last() }], Ok(()));
    check(&[job("a", &["finally"]), last()], Err("needs finally, which comes last"));
    check(&[job("a", &[]), PlannedJob { gate: gate(vec![]), ..last() }], Err("waits for something besides"));
    check(
        &[PlannedJob { plan: work("a", &[]).plan, ..sent_on("a", &[], to("https://e.org/y", true)) }],
        Err("stages of its own"),
    );
}
