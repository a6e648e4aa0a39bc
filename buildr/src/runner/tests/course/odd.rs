//! Builds that run into a bound, have no code, or have nothing to do.

use super::*;

#[tokio::test]
async fn a_build_that_takes_too_long_is_cancelled_with_the_reason() {
    let plan = BuildPlan { timeout_ms: Some(50), ..BuildPlan::default() };
    let ran = build_so(vec![job("a", &[], &["hang"])], How { plan, ..How::default() }).await;
    ran.check("cancelled", "a cancelled");
    assert!(ran.ending.message.unwrap().contains("the build took longer than"));
}

#[tokio::test]
async fn what_a_person_or_a_group_lets_begin_is_not_begun_twice() {
    let group = Concurrency { group: "prod".to_owned(), limit: 1, order: TakeOrder::Build };
    let mut jobs = vec![PlannedJob { concurrency: Some(group), ..job("deploy", &[], &["fail-until 2"]) }];
    jobs[0].plan.stages[0].retry = Some(Retry { max: 3, on: Vec::new(), delay_ms: 0 });
    let ran = build(jobs).await;
    ran.check("failed", "deploy failed");
    let once = |event: &JobEvent| matches!(event, JobEvent::StageStarted { not_twice: true, .. });
    assert_eq!(ran.told.iter().filter(|(_, event)| once(event)).count(), 1);
}

#[tokio::test]
async fn a_job_without_code_begins_with_nothing() {
    let mut bare = job("bare", &[], &["expect-file code"]);
    bare.plan.clone.none = true;
    build(vec![bare]).await.check("failed", "bare failed");
}

#[tokio::test]
async fn what_is_asked_for_and_not_planned_is_said_before_anything_runs() {
    let ran = build(Vec::new()).await;
    ran.check("errored", "");
    assert_eq!(ran.ending.outcome, Outcome::Errored { cause: Cause::Manifest });
    assert!(!ran.told.iter().any(|(_, event)| matches!(event, JobEvent::Planned { .. })));
    assert!(
        !ran.told.iter().any(|(_, event)| matches!(event, JobEvent::StageEnded { result: StageOutcome::Passed, .. }))
    );
}
