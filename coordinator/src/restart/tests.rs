//! What is taken over and what is done again, by an agent made of protocol calls.

use protocol::control::Grant;
use protocol::outcome::{Cause, Ending, Outcome};
use protocol::plan::{BuildPlan, Concurrency, StagePlan, TakeOrder};
use protocol::report::JobEvent;
use protocol::{ClaimId, Variable};
use tempfile::tempdir;

use super::*;
use crate::testing::{Agent, Farm};

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const DIGEST: &str = "sha256:00ff";

fn planned(key: &str, needs: &[&str]) -> PlannedJob {
    let stage = StagePlan::new("test".parse().unwrap(), vec!["true".to_owned()]);
    let needs = needs.iter().map(|need| need.parse().unwrap()).collect();
    PlannedJob { needs, ..PlannedJob::new(key.parse().unwrap(), Plan::new("debian:12", vec![stage])) }
}

fn failed() -> Ending {
    Ending::of(Outcome::Failed, Some("exit code 1".to_owned()))
}

async fn ask(farm: &Farm, of: BuildNumber, failed: bool) -> Result<Restarted, RestartRefusal> {
    restart(&farm.desk, of, Restart { failed, latest: false }, (Some("ada"), true)).await
}

/// A build of these jobs, up to the end of its planning.
async fn plan(farm: &Farm, agent: &Agent, jobs: &[PlannedJob], build: &BuildPlan) -> BuildNumber {
    let number = farm.submit().await;
    let (claimed, _) = agent.work(farm).await;
    let commit = Some("0123456789".repeat(4).parse().unwrap());
    let (branch, default_branch) = (Some("main".parse().unwrap()), Some("main".parse().unwrap()));
    let (subject, author) = ("mend it".to_owned(), "me".to_owned());
    agent.happened(claimed.claim, JobEvent::CheckedOut { commit, branch, subject, author, default_branch }).await;
    agent.happened(claimed.claim, JobEvent::Planned { jobs: jobs.to_vec(), build: build.clone() }).await;
    agent.finish(claimed.claim, Ending::passed()).await;
    number
}

/// Does the next job, which is to be this one.
async fn does(farm: &Farm, agent: &Agent, key: &str, ending: Ending) -> Grant {
    let (claim, grant) = begins(farm, agent, key).await;
    agent.finish(claim, ending).await;
    grant
}

async fn begins(farm: &Farm, agent: &Agent, key: &str) -> (ClaimId, Grant) {
    let (claimed, grant) = agent.work(farm).await;
    assert_eq!(grant.order.key.as_ref().map(JobKey::as_str), Some(key));
    (claimed.claim, grant)
}

/// Does a job that leaves an archive and a value.
async fn makes(farm: &Farm, agent: &Agent, key: &str) {
    let (claim, _) = begins(farm, agent, key).await;
    let stage = || "test".parse().unwrap();
    let (image, digest) = ("debian:12".to_owned(), DIGEST.to_owned());
    agent.happened(claim, JobEvent::ImageFound { stage: stage(), image, digest }).await;
    let kept =
        JobEvent::ArtifactsKept { stage: stage(), files: 1, bytes: 2, sha256: HASH.to_owned(), expire_ms: Some(1) };
    agent.happened(claim, kept).await;
    agent.happened(claim, JobEvent::HandedOn { values: vec![Variable::new("VERSION", "7")] }).await;
    agent.finish(claim, Ending::passed()).await;
}

async fn jobs(farm: &Farm, build: BuildNumber) -> Vec<String> {
    let view = farm.snapshot(build).await.view;
    let shown = |job: &protocol::api::JobView| {
        let message = job.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        format!("{} {}{message}", job.key, job.status.name())
    };
    view.jobs.iter().map(shown).collect()
}

fn keys(keys: &[JobKey]) -> Vec<&str> {
    keys.iter().map(JobKey::as_str).collect()
}

#[tokio::test]
async fn what_passed_is_taken_over_with_what_it_left() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let all = [planned("make", &[]), planned("test", &["make"]), planned("after", &["test"])];
    let old = plan(&farm, &agent, &all, &BuildPlan::default()).await;
    makes(&farm, &agent, "make").await;
    let refused = ask(&farm, old, true).await.unwrap_err().to_string();
    assert!(refused.starts_with("build #1 is not over; wait for its end"), "{refused}");
    does(&farm, &agent, "test", failed()).await;
    farm.until_status(old, "failed").await;

    let done = ask(&farm, old, true).await.unwrap();
    assert_eq!((done.restart_of, keys(&done.carried)), (old, vec!["make"]));
    assert_eq!(done.message, "build #2 is a restart of build #1; not done again, for it passed: make");
    // The archive's time is over, but a build is under way that it serves.
    assert!(farm.desk.store.expired_archives(u64::MAX >> 1).await.unwrap().is_empty());
    let (claim, grant) = begins(&farm, &agent, "test").await;
    let order = &grant.order;
    assert_eq!((order.build, order.trusted), (Some(done.build), true));
    assert_eq!(order.commit.as_ref().unwrap().as_str(), "0123456789".repeat(4));
    assert_eq!(order.handed, [Variable::new("VERSION", "7")]);
    let [kept] = &order.kept[..] else { panic!("{:?}", order.kept) };
    assert_eq!((kept.job.as_str(), kept.sha256.as_str()), ("make", HASH));
    assert_eq!(order.plan.as_ref().unwrap().image.name, format!("debian:12@{DIGEST}"));
    assert_eq!(farm.desk.store.carries_archive(done.build, HASH).await.unwrap(), Some(old));
    assert_eq!(farm.desk.store.carries_archive(old, HASH).await.unwrap(), None);
    agent.finish(claim, failed()).await;
    farm.until_status(done.build, "failed").await;
    assert_eq!(
        jobs(&farm, done.build).await,
        [
            "make passed: passed in build #1",
            "test failed: exit code 1",
            "after skipped: it needs test, which ended as failed"
        ]
    );
    let (new, before) = (farm.snapshot(done.build).await.view, farm.snapshot(old).await.view);
    assert_eq!((new.restart_of, before.restarts), (Some(old), vec![done.build]));
    assert_eq!(new.build.subject.as_deref(), Some("mend it"));
    assert_eq!((new.build.trigger, new.attempts.len()), ("manual".to_owned(), 1));

    // Again: what is taken over is that of the first build still.
    let third = ask(&farm, done.build, true).await.unwrap();
    let grant = does(&farm, &agent, "test", Ending::passed()).await;
    assert_eq!((grant.order.kept.len(), grant.order.handed.len()), (1, 1));
    does(&farm, &agent, "after", Ending::passed()).await;
    farm.until_status(third.build, "passed").await;
    let refused = ask(&farm, third.build, true).await.unwrap_err().to_string();
    assert!(refused.contains("nothing of it failed; leave out --failed"), "{refused}");
    farm.stop().await;
}

#[tokio::test]
async fn what_is_gone_is_made_again_where_it_is_needed() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let all = [planned("make", &[]), planned("test", &["make"])];
    let old = plan(&farm, &agent, &all, &BuildPlan::default()).await;
    makes(&farm, &agent, "make").await;
    does(&farm, &agent, "test", failed()).await;
    farm.until_status(old, "failed").await;
    assert_eq!(farm.desk.store.expired_archives(u64::MAX >> 1).await.unwrap().len(), 1);
    let mut tx = farm.desk.store.write().await.unwrap();
    tx.forget_archive(old, HASH).await.unwrap();
    tx.commit().await.unwrap();
    let done = ask(&farm, old, true).await.unwrap();
    assert_eq!(keys(&done.carried), Vec::<&str>::new());
    makes(&farm, &agent, "make").await;
    does(&farm, &agent, "test", Ending::passed()).await;
    farm.until_status(done.build, "passed").await;
    farm.stop().await;
}

#[tokio::test]
async fn all_of_it_is_done_again_with_its_turns() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let group = Concurrency { group: "prod".to_owned(), limit: 1, order: TakeOrder::default() };
    let all = [PlannedJob { concurrency: Some(group), ..planned("deploy", &[]) }];
    let old = plan(&farm, &agent, &all, &BuildPlan { priority: 3, ..BuildPlan::default() }).await;
    let (claim, _) = begins(&farm, &agent, "deploy").await;
    let (stage, image) = ("test".parse().unwrap(), "debian:12".to_owned());
    agent.happened(claim, JobEvent::StageStarted { stage, image, not_twice: true }).await;
    agent.finish(claim, Ending::passed()).await;
    farm.until_status(old, "passed").await;
    let done = ask(&farm, old, false).await.unwrap();
    let says = "build #2 is a restart of build #1; done again, which the farm by itself would not do twice: deploy";
    assert_eq!((keys(&done.twice), done.message.as_str()), (vec!["deploy"], says));
    does(&farm, &agent, "deploy", Ending::passed()).await;
    let view = farm.until_status(done.build, "passed").await.view;
    assert_eq!(view.jobs[0].group.as_deref(), Some("prod"));
    farm.stop().await;
}

#[tokio::test]
async fn what_was_never_planned_is_planned() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let old = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    agent.finish(claimed.claim, Ending::errored(Cause::Manifest, "there is no manifest".to_owned())).await;
    farm.until_status(old, "errored").await;
    let done = ask(&farm, old, true).await.unwrap();
    let (_, grant) = agent.work(&farm).await;
    assert_eq!((grant.order.build, grant.order.plan), (Some(done.build), None));
    let missing = ask(&farm, BuildNumber(99), false).await.unwrap_err().to_string();
    assert!(missing.starts_with("there is no build #99"), "{missing}");
    farm.stop().await;
}

#[tokio::test]
async fn a_restart_is_trusted_no_more_than_what_it_does_again() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    farm.broker.publish("build_queue", r#"{"repo": "https://example.org/x"}"#.to_owned(), None, None);
    let (claimed, grant) = agent.work(&farm).await;
    assert!(!grant.order.trusted);
    agent
        .happened(claimed.claim, JobEvent::Planned { jobs: vec![planned("a", &[])], build: BuildPlan::default() })
        .await;
    agent.finish(claimed.claim, failed()).await;
    ask(&farm, BuildNumber(1), false).await.unwrap();
    let grant = does(&farm, &agent, "a", Ending::passed()).await;
    assert_eq!((grant.order.trusted, grant.order.trigger.name()), (false, "injected"));
    let trusted = does_again_untrusted(&farm, &agent).await;
    assert!(!trusted, "whoever asks may begin no trusted builds");
    farm.stop().await;
}

/// Whether a trusted build stays so when somebody does it again who may not begin one.
async fn does_again_untrusted(farm: &Farm, agent: &Agent) -> bool {
    let old = plan(farm, agent, &[planned("a", &[]), planned("b", &[])], &BuildPlan::default()).await;
    assert!(does(farm, agent, "a", failed()).await.order.trusted);
    does(farm, agent, "b", failed()).await;
    farm.until_status(old, "failed").await;
    restart(&farm.desk, old, Restart::default(), (None, false)).await.unwrap();
    does(farm, agent, "a", failed()).await.order.trusted
}

#[test]
fn which_jobs_are_taken_over() {
    let job = |key: &str, needs: &[&str], passed, faded| crate::store::Past::of(planned(key, needs), passed, faded);
    let check = |past: &[Past], expect: &[bool]| assert_eq!(to_carry(past), expect);
    let last = |passed| {
        let finally = PlannedJob { finally: true, ..planned("last", &[]) };
        crate::store::Past::of(finally, passed, false)
    };
    let on_failure = |passed| {
        let on_failure = PlannedJob { run_on: RunOn::Failed, ..planned("mourn", &["b"]) };
        crate::store::Past::of(on_failure, passed, false)
    };
    check(&[job("a", &[], true, false), job("b", &["a"], false, false)], &[true, false]);
    check(&[job("a", &[], true, true), job("b", &["a"], false, false)], &[false, false]);
    check(&[job("a", &[], true, true), job("b", &[], false, false)], &[true, false]);
    // What is made again needs what is gone too.
    check(
        &[job("a", &[], true, true), job("b", &["a"], true, true), job("c", &["b"], false, false)],
        &[false, false, false],
    );
    check(
        &[job("a", &[], true, false), job("b", &["a"], false, false), on_failure(true), last(true)],
        &[true, false, false, false],
    );
}
