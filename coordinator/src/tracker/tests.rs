//! The tracker over a broker in memory, with an agent made of protocol calls.

use std::time::Duration;

use protocol::api::{Approve, Loss, WaitReason};
use protocol::control::Control;
use protocol::identity::JoinToken;
use protocol::job::ReplyTo;
use protocol::link::{AgentLink as _, BadMessage, queue_name};
use protocol::outcome::{Cause, Ending, Outcome, StageEnd, StageOutcome};
use protocol::plan::{BuildPlan, PlannedJob, StagePlan};
use protocol::report::{ClaimPhase, ClaimSubject, Events, JobEvent, Moment, Progress, Rejected, Report};
use protocol::{BuildNumber, JobId, LabelSet, Plan};
use tempfile::tempdir;

use super::*;
use crate::config::Enrolment;
use crate::feed::Change;
use crate::store::AttemptState;
use crate::testing::{Agent, Farm, soon};

const INJECTED: &str = r#"{"repo": "https://example.org/x", "branch": "main"}"#;

fn planned(key: &str, needs: &[&str]) -> PlannedJob {
    let stage = StagePlan::new("test".parse().unwrap(), vec!["true".to_owned()]);
    let needs = needs.iter().map(|need| need.parse().unwrap()).collect();
    PlannedJob { needs, ..PlannedJob::new(key.parse().unwrap(), Plan::new("debian", vec![stage])) }
}

fn started(stage: &str, image: &str, not_twice: bool) -> JobEvent {
    JobEvent::StageStarted { stage: stage.parse().unwrap(), image: image.to_owned(), not_twice }
}

fn ended(stage: &str) -> JobEvent {
    JobEvent::StageEnded { stage: stage.parse().unwrap(), result: StageOutcome::Passed, duration_ms: 1 }
}

fn failed() -> Ending {
    Ending::of(Outcome::Failed, Some("exit code 1".to_owned())).in_stage(&"test".parse().unwrap())
}

#[tokio::test]
async fn a_build_goes_its_whole_way() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let (claimed, grant) = agent.work(&farm).await;
    let claim = claimed.claim;
    assert_eq!((grant.order.build, grant.order.attempt, grant.order.trusted), (Some(build), 1, true));
    assert!(grant.order.repo.reveal().contains("secret"), "the grant has what the queue must not show");
    let commit = "0123456789".repeat(4).parse().unwrap();
    agent
        .happened(
            claim,
            JobEvent::CheckedOut {
                commit: Some(commit),
                branch: Some("main".parse().unwrap()),
                subject: "mend it".to_owned(),
                author: "me".to_owned(),
                default_branch: None,
            },
        )
        .await;
    agent.happened(claim, JobEvent::Planned { jobs: vec![planned("build", &[])], build: BuildPlan::default() }).await;
    agent.happened(claim, started("test", "debian", false)).await;
    agent.log(claim, "test", 0, "hello\n").await;
    assert_eq!(agent.hear_kept(claim).await, 6);
    let end = StageEnd::Exited { code: 1 };
    let ended = StageOutcome::Failed { end };
    let stage = "test".parse().unwrap();
    agent.happened(claim, JobEvent::StageEnded { stage, result: ended.clone(), duration_ms: 12 }).await;
    agent.happened(claim, JobEvent::LogComplete { log: "test".parse().unwrap(), total: 6 }).await;
    agent.finish(claim, failed()).await;
    let view = farm.snapshot(build).await.view;
    assert_eq!((view.build.status.name(), view.exit_code), ("failed", Some(1)));
    assert_eq!(view.build.message.as_deref(), Some("exit code 1"));
    assert_eq!(view.build.subject.as_deref(), Some("mend it"));
    assert_eq!(view.build.branch.unwrap().as_str(), "main");
    let [attempt] = &view.attempts[..] else { panic!("{:?}", view.attempts) };
    assert_eq!((attempt.job.as_str(), attempt.state.as_str()), ("build", "failed"));
    assert_eq!(attempt.stages[0].result, Some(ended));
    assert!(attempt.logs[0].complete);
    farm.stop().await;
}

#[tokio::test]
async fn the_same_claim_is_answered_the_same_and_another_is_denied() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let (first, second) = (farm.agent("a1").await, farm.agent("a2").await);
    let coordinator = farm.desk.identity.public();
    farm.submit().await;
    let delivery = first.take().await;
    let claimed = first.claim(&delivery).await;
    let grant = first.answer(&claimed, &coordinator).await.unwrap();
    first.repeat(&claimed).await;
    let again = first.answer(&claimed, &coordinator).await.unwrap();
    assert_eq!(serde_json::to_string(&grant).unwrap(), serde_json::to_string(&again).unwrap());
    let late = second.claim(&delivery).await;
    let reason = second.answer(&late, &coordinator).await.unwrap_err();
    assert!(reason.contains("another claim"), "{reason}");
    // The first agent is lost to the job; a denial stays one all the same.
    first.report(Report::Abandoned { agent: first.name.clone(), claim: claimed.claim }).await;
    second.repeat(&late).await;
    assert_eq!(second.answer(&late, &coordinator).await.unwrap_err(), reason);
    first.repeat(&claimed).await;
    assert!(first.answer(&claimed, &coordinator).await.unwrap_err().contains("no longer current"));
    let (_, grant) = second.work(&farm).await;
    assert_eq!(grant.order.attempt, 1, "what was abandoned is no attempt");
    farm.stop().await;
}

#[tokio::test]
async fn an_unknown_job_is_denied_and_laid_aside() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    farm.broker.publish("build_queue", format!(r#"{{"job_id": "{}"}}"#, JobId::fresh()), None, None);
    let delivery = agent.take().await;
    let claimed = agent.claim(&delivery).await;
    let reason = agent.answer(&claimed, &farm.desk.identity.public()).await.unwrap_err();
    assert!(reason.contains("no such job"), "{reason}");
    until_dead(&farm, 1).await;
    farm.stop().await;
}

/// Waits until so many messages lie aside at the broker.
async fn until_dead(farm: &Farm, count: usize) {
    let mut changes = farm.desk.feed.listen();
    soon("a dead letter", async {
        while farm.broker.dead().len() < count || !farm.desk.store.open_letters().await.unwrap().is_empty() {
            tokio::select! {
                _ = changes.next() => {}
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
    })
    .await;
}

async fn until_replies(farm: &Farm, count: usize) -> Vec<StatusMessage> {
    soon("a reply", async {
        while farm.broker.replies("mine").len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let replies = farm.broker.replies("mine");
    replies
        .iter()
        .map(|(correlation, body)| {
            assert_eq!(correlation.as_deref(), Some("c1"));
            serde_json::from_slice(body).unwrap()
        })
        .collect()
}

fn reply() -> Option<ReplyTo> {
    Some(ReplyTo { queue: "mine".to_owned(), correlation_id: Some("c1".to_owned()) })
}

#[tokio::test]
async fn a_message_by_hand_becomes_an_untrusted_build_and_its_publisher_hears_of_it() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    farm.broker.declare_replies("mine");
    farm.broker.publish("build_queue", INJECTED, None, reply());
    let (claimed, grant) = agent.work(&farm).await;
    assert!(!grant.order.trusted);
    assert_eq!(grant.order.branch.as_ref().unwrap().as_str(), "main");
    agent.finish(claimed.claim, Ending::passed()).await;
    let view = farm.snapshot(BuildNumber(1)).await.view;
    assert_eq!((view.build.trigger.as_str(), view.build.status.name()), ("injected", "passed"));
    let replies = until_replies(&farm, 2).await;
    let said: Vec<_> = replies.iter().map(|status| (status.status.as_str(), status.build)).collect();
    assert_eq!(said, [("running", Some(BuildNumber(1))), ("passed", Some(BuildNumber(1)))]);
    farm.stop().await;
}

#[tokio::test]
async fn an_administrator_may_trust_a_repository() {
    let folder = tempdir().unwrap();
    let farm =
        Farm::with(&folder, |config| config.trusted_repos = vec!["https://example.org/*".parse().unwrap()]).await;
    let agent = farm.agent("a1").await;
    farm.broker.publish("build_queue", INJECTED, None, None);
    assert!(agent.work(&farm).await.1.order.trusted);
    farm.stop().await;
}

async fn builds(farm: &Farm) -> usize {
    let page = crate::store::Page { limit: 100, ..crate::store::Page::default() };
    farm.desk.store.builds(&page).await.unwrap().len()
}

#[tokio::test]
async fn a_message_with_an_id_is_one_build() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let (first, second) = (farm.agent("a1").await, farm.agent("a2").await);
    for _ in 0..2 {
        farm.broker.publish("build_queue", INJECTED, Some("m1".to_owned()), None);
    }
    first.work(&farm).await;
    let delivery = second.take().await;
    let claimed = second.claim(&delivery).await;
    assert!(second.answer(&claimed, &farm.desk.identity.public()).await.is_err());
    assert_eq!(builds(&farm).await, 1);
    farm.stop().await;
}

#[tokio::test]
async fn a_message_without_an_id_is_absorbed_only_when_it_is_known_to_have_come_back() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let coordinator = farm.desk.identity.public();
    let subject = ClaimSubject::Injected {
        repo: "https://example.org/x".parse().unwrap(),
        branch: None,
        message_id: None,
        digest: "d".to_owned(),
        reply: None,
    };
    let claim = async |redelivered| {
        let claimed = agent.claim_subject(subject.clone(), "build_queue", redelivered).await;
        (agent.answer(&claimed, &coordinator).await, claimed.claim)
    };
    let (granted, first) = claim(false).await;
    assert!(granted.is_ok());
    assert!(claim(true).await.0.is_ok(), "nobody knows whether the first one's message came back");
    assert_eq!(builds(&farm).await, 2);
    agent.happened(first, JobEvent::Settled { acknowledged: false }).await;
    assert!(claim(false).await.0.is_ok(), "it was not delivered before, so it is another message");
    assert_eq!(builds(&farm).await, 3);
    assert!(claim(true).await.0.is_err(), "it came back: its job runs already");
    assert!(claim(true).await.0.is_ok(), "it came back once, not twice");
    assert_eq!(builds(&farm).await, 4);
    agent.report(Report::Bye { agent: agent.name.clone(), boot: agent.boot }).await;
    assert!(claim(true).await.0.is_err(), "it ended in good order, so what it had not acknowledged came back");
    assert_eq!(builds(&farm).await, 4);
    farm.stop().await;
}

#[tokio::test]
async fn a_message_that_was_given_up_before_its_grant_finds_its_job_again() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let (first, second) = (farm.agent("a1").await, farm.agent("a2").await);
    farm.broker.publish("build_queue", INJECTED, None, None);
    let delivery = first.take().await;
    let claimed = first.claim(&delivery).await;
    first.answer(&claimed, &farm.desk.identity.public()).await.unwrap();
    first.report(Report::Abandoned { agent: first.name.clone(), claim: claimed.claim }).await;
    farm.until_status(BuildNumber(1), "queued").await;
    drop(delivery);
    second.work(&farm).await;
    assert_eq!(builds(&farm).await, 1);
    farm.stop().await;
}

#[tokio::test]
async fn bad_messages_are_laid_aside_and_said() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    farm.broker.declare_replies("mine");
    let rejected = Rejected {
        agent: agent.name.clone(),
        queue: "build_queue".to_owned(),
        reason: "it is no job".to_owned(),
        excerpt: "hello".to_owned(),
        reply: reply(),
        id: Some(uuid::Uuid::new_v4()),
        digest: Some("d1".to_owned()),
        redelivered: false,
    };
    agent.report(Report::Rejected(rejected.clone())).await;
    // The same finding again; and the message came back, for its finder ended before it was done with it.
    agent.report(Report::Rejected(rejected.clone())).await;
    let again = Rejected { id: Some(uuid::Uuid::new_v4()), redelivered: true, ..rejected.clone() };
    agent.report(Report::Rejected(again)).await;
    let own = ReplyTo { queue: "buildr.dead".to_owned(), correlation_id: None };
    let other = Rejected { reply: Some(own), id: Some(uuid::Uuid::new_v4()), ..rejected };
    agent.report(Report::Rejected(other)).await;
    let local = r#"{"repo": "/srv/x"}"#;
    farm.broker.publish("build_queue", local, None, reply());
    let delivery = agent.take().await;
    let claimed = agent.claim(&delivery).await;
    let reason = agent.answer(&claimed, &farm.desk.identity.public()).await.unwrap_err();
    assert!(reason.contains("--local-repos"), "{reason}");
    let unreadable = BadMessage { body: "{".into(), reason: "it cannot be read".to_owned() };
    let answers = apply(&farm.desk, &[Incoming { user: None, report: Err(unreadable) }]).await.unwrap();
    answers.give(&farm.desk).await;
    until_dead(&farm, 4).await;
    let replies = until_replies(&farm, 2).await;
    assert_eq!(replies[0].message.as_deref(), Some("it is no job"));
    assert!(replies.iter().all(|reply| reply.status == "rejected"));
    assert_eq!(builds(&farm).await, 0);
    farm.stop().await;
}

#[tokio::test]
async fn cancelling_what_waits_and_what_runs() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let delivery = agent.take().await;
    let done = cancel(&farm.desk, build, "by me").await.unwrap().unwrap();
    assert_eq!((done.status.name(), done.changed), ("cancelled", true));
    assert!(!cancel(&farm.desk, build, "again").await.unwrap().unwrap().changed);
    assert!(cancel(&farm.desk, BuildNumber(99), "x").await.unwrap().is_none());
    let claimed = agent.claim(&delivery).await;
    assert!(agent.answer(&claimed, &farm.desk.identity.public()).await.unwrap_err().contains("over"));
    assert!(delivery.ack().await);
    let build = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    let done = cancel(&farm.desk, build, "by me").await.unwrap().unwrap();
    assert_eq!((done.status.name(), done.changed), ("cancelling", true));
    let is_cancel = |control: &Control| matches!(control, Control::Cancel { claim, .. } if *claim == claimed.claim);
    agent.hear(is_cancel).await;
    // Lost on its way: the next heartbeat brings it again.
    agent.heartbeat(&[(claimed.claim, ClaimPhase::Running)]).await;
    agent.hear(is_cancel).await;
    agent.finish(claimed.claim, Ending::cancelled("by me")).await;
    assert_eq!(farm.snapshot(build).await.view.exit_code, Some(130));
    farm.stop().await;
}

#[tokio::test]
async fn a_silent_agent_loses_its_job_and_its_late_result_changes_nothing() {
    let folder = tempdir().unwrap();
    let farm = Farm::with(&folder, |config| config.lease = Duration::from_millis(300)).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    let lost = farm
        .until(build, "the loss", |snapshot| {
            snapshot.view.attempts.first().is_some_and(|attempt| attempt.state == "lost")
        })
        .await;
    assert_eq!(lost.view.build.status.name(), "queued");
    agent.hear(|control| matches!(control, Control::Abort { claim, .. } if *claim == claimed.claim)).await;
    agent.log(claimed.claim, "test", 0, "late").await;
    agent.hear_kept(claimed.claim).await;
    agent.finish(claimed.claim, Ending::passed()).await;
    assert!(!farm.snapshot(build).await.view.build.status.is_over());
    agent.heartbeat(&[(claimed.claim, ClaimPhase::Running)]).await;
    agent.hear(|control| matches!(control, Control::Abort { claim, .. } if *claim == claimed.claim)).await;
    // The second agent goes silent as well, and two attempts are what a job gets.
    let second = farm.agent("a2").await;
    let (_, grant) = second.work(&farm).await;
    assert_eq!(grant.order.attempt, 2);
    let over = farm.until_status(build, "errored").await;
    assert!(over.view.build.message.unwrap().contains("went silent"));
    assert_eq!(over.view.exit_code, Some(3));
    assert_eq!(over.view.attempts[0].logs[0].bytes, 4, "what came late is kept under its attempt");
    farm.stop().await;
}

#[tokio::test]
async fn heartbeats_keep_a_lease_and_heal_what_was_lost() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let coordinator = farm.desk.identity.public();
    farm.submit().await;
    let delivery = agent.take().await;
    let claimed = agent.claim(&delivery).await;
    agent.answer(&claimed, &coordinator).await.unwrap();
    agent.heartbeat(&[(claimed.claim, ClaimPhase::Pending)]).await;
    agent.answer(&claimed, &coordinator).await.unwrap();
    agent.happened(claimed.claim, JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() }).await;
    agent.hear_recorded(claimed.claim).await;
    agent.heartbeat(&[(claimed.claim, ClaimPhase::Ended)]).await;
    agent.hear_recorded(claimed.claim).await;
    let unknown = protocol::ClaimId::fresh();
    agent.heartbeat(&[(unknown, ClaimPhase::Running)]).await;
    agent.hear(|control| matches!(control, Control::Abort { claim, .. } if *claim == unknown)).await;
    agent.heartbeat(&[(unknown, ClaimPhase::Ended)]).await;
    agent.hear_recorded(unknown).await;
    agent.happened(unknown, JobEvent::Settled { acknowledged: true }).await;
    agent.hear(|control| matches!(control, Control::Forgotten { claim } if *claim == unknown)).await;
    agent.repeat(&claimed).await;
    agent.hear_recorded(claimed.claim).await;
    farm.stop().await;
}

#[tokio::test]
async fn a_repeated_event_counts_once() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    let progress =
        |seq, event| Report::Progress(protocol::report::Progress { claim: claimed.claim, seq, at_ms: 1, event });
    agent.report(progress(1, started("test", "first", false))).await;
    agent.report(progress(1, started("test", "second", false))).await;
    agent.report(progress(2, JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() })).await;
    agent.hear_recorded(claimed.claim).await;
    agent.report(progress(2, JobEvent::Finished { ending: failed(), spent: Vec::new() })).await;
    agent.hear_recorded(claimed.claim).await;
    let view = farm.snapshot(build).await.view;
    assert_eq!((view.build.status.name(), view.attempts[0].stages[0].image.as_str()), ("passed", "first"));
    farm.stop().await;
}

#[tokio::test]
async fn events_in_one_message_are_taken_one_after_the_other() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let (claimed, grant) = agent.work(&farm).await;
    assert!(grant.reads_events);
    let claim = claimed.claim;
    let together = |first: u64, events: Vec<JobEvent>| {
        let moment = |(event, seq)| Moment { seq, at_ms: 1, event };
        Report::Events(Events { claim, events: events.into_iter().zip(first..).map(moment).collect() })
    };
    agent.report(together(1, vec![started("test", "first", false), ended("test")])).await;
    // The beginning of it came before, its rest is new.
    agent.report(together(1, vec![started("test", "second", false), ended("test"), started("more", "x", false)])).await;
    // Before this something is missing: nothing of it counts, and the agent hears from where on to say it again.
    let finished = JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() };
    agent.report(together(5, vec![finished.clone()])).await;
    agent.hear(|control| matches!(control, Control::Noted { seq: 3, .. })).await;
    assert_eq!(farm.snapshot(build).await.view.build.status.name(), "running");
    // What comes behind the end in the same message changes nothing.
    agent
        .report(together(4, vec![ended("more"), finished, JobEvent::Finished { ending: failed(), spent: Vec::new() }]))
        .await;
    agent.hear_recorded(claim).await;
    let view = farm.snapshot(build).await.view;
    let stages: Vec<_> =
        view.attempts[0].stages.iter().map(|stage| (stage.image.as_str(), stage.result.is_some())).collect();
    assert_eq!((view.build.status.name(), stages), ("passed", vec![("first", true), ("x", true)]));
    farm.stop().await;
}

#[tokio::test]
async fn more_messages_than_are_looked_at_together_are_all_sent() {
    const MANY: usize = 150;
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    farm.broker.declare_replies("mine");
    let to = reply().unwrap();
    let (repo, status) = ("https://example.org/x.git".to_owned(), "running".to_owned());
    let said = StatusMessage { repo, branch: None, build: None, status, message: None, commit: None };
    let mut tx = farm.desk.store.write().await.unwrap();
    for _ in 0..MANY {
        tx.insert_reply(&to, &said).await.unwrap();
    }
    tx.commit().await.unwrap();
    // Nothing else happens on the farm that would have it looked at again.
    assert_eq!(until_replies(&farm, MANY).await.len(), MANY);
    farm.stop().await;
}

#[tokio::test]
async fn an_event_that_overtook_another_waits_for_it() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    let progress =
        |seq, event| Report::Progress(protocol::report::Progress { claim: claimed.claim, seq, at_ms: 1, event });
    let begun = JobEvent::StageStarted { stage: "test".parse().unwrap(), image: "x".to_owned(), not_twice: false };
    agent.report(progress(2, JobEvent::Finished { ending: failed(), spent: Vec::new() })).await;
    agent.report(progress(1, begun)).await;
    farm.until(build, "its first event", |now| !now.view.attempts[0].stages.is_empty()).await;
    assert_eq!(farm.snapshot(build).await.view.build.status.name(), "running", "its end was not said again yet");
    agent.report(progress(2, JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() })).await;
    agent.hear_recorded(claimed.claim).await;
    let view = farm.snapshot(build).await.view;
    assert_eq!((view.build.status.name(), view.attempts[0].stages.len()), ("passed", 1));
    farm.stop().await;
}

/// What waits of a build is offered at once, instead of after its moment.
async fn without_waiting(farm: &Farm, build: BuildNumber) {
    let mut tx = farm.desk.store.write().await.unwrap();
    for job in tx.jobs(build).await.unwrap() {
        tx.postpone(job.id, 0).await.unwrap();
    }
    tx.commit().await.unwrap();
    farm.desk.feed.say(Change::Build(build));
}

#[tokio::test]
async fn a_job_that_the_farm_failed_is_tried_again_and_nothing_final_is_said_before() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    farm.broker.declare_replies("mine");
    farm.broker.publish("build_queue", INJECTED, None, reply());
    let build = BuildNumber(1);
    let away =
        |cause| JobEvent::Finished { ending: Ending::errored(cause, "it is away").or_again(true), spent: Vec::new() };
    let mut claims = Vec::new();
    for (attempt, cause) in [(1, Cause::Daemon), (2, Cause::Clone), (3, Cause::Pull)] {
        let (claimed, grant) = agent.work(&farm).await;
        assert_eq!(grant.order.attempt, attempt);
        claims.push(claimed.claim);
        agent.happened(claimed.claim, away(cause)).await;
        agent.hear_recorded(claimed.claim).await;
        let view = farm.snapshot(build).await.view;
        let last = &view.attempts.last().unwrap();
        assert_eq!((last.state.as_str(), last.ended_ms.is_some()), ("errored", true));
        if attempt == 3 {
            assert_eq!((view.build.status.name(), view.build.message.as_deref()), ("errored", Some("it is away")));
            assert_eq!((view.attempts.len(), last.loss.clone()), (3, None));
            break;
        }
        assert_eq!((view.build.status.name(), view.build.message, view.exit_code), ("queued", None, None));
        let loss = Loss::Errored { cause, message: Some("it is away".to_owned()) };
        assert_eq!(last.loss, Some(loss));
        let waiting = crate::why::waits(&farm.desk).await.unwrap().of(build)[0].clone();
        assert!(matches!(waiting.why, WaitReason::Later { in_ms: 1..=20_000 }), "{waiting:?}");
        assert_eq!((waiting.attempt, waiting.errored), (attempt + 1, Some(cause)));
        // What the old claim says is nothing to it.
        agent.happened(claimed.claim, JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() }).await;
        agent.hear_recorded(claimed.claim).await;
        without_waiting(&farm, build).await;
    }
    let said: Vec<_> = until_replies(&farm, 2).await.into_iter().map(|status| status.status).collect();
    assert_eq!(said, ["running", "errored"]);
    farm.stop().await;
}

#[tokio::test]
async fn what_must_not_run_twice_or_was_asked_to_end_is_not_tried_again_whatever_its_agent_says() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let away = || Ending::errored(Cause::Daemon, "it is away").or_again(true);
    let build = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    agent.happened(claimed.claim, started("deploy", "x", true)).await;
    agent.finish(claimed.claim, away()).await;
    assert_eq!(farm.snapshot(build).await.view.build.status.name(), "errored");
    let build = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    cancel(&farm.desk, build, "by me").await.unwrap();
    agent.finish(claimed.claim, away()).await;
    assert_eq!(farm.snapshot(build).await.view.build.status.name(), "errored");
    farm.stop().await;
}

#[tokio::test]
async fn a_plan_of_several_jobs_becomes_jobs_in_order() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let (planning, _) = agent.work(&farm).await;
    let jobs = vec![planned("compile", &[]), planned("test", &["compile"])];
    agent.happened(planning.claim, JobEvent::Planned { jobs, build: BuildPlan::default() }).await;
    agent.finish(planning.claim, Ending::passed()).await;
    assert!(!farm.snapshot(build).await.view.build.status.is_over());
    for _ in 0..2 {
        let (claimed, grant) = agent.work(&farm).await;
        assert!(grant.order.plan.is_some());
        agent.finish(claimed.claim, Ending::passed()).await;
    }
    let view = farm.snapshot(build).await.view;
    let jobs: Vec<_> = view.attempts.iter().map(|attempt| (attempt.attempt, attempt.job.as_str())).collect();
    assert_eq!(jobs, [(1, "(plan)"), (2, "compile"), (3, "test")]);
    assert_eq!(view.build.status.name(), "passed");
    farm.stop().await;
}

#[tokio::test]
async fn a_plan_beyond_its_caps_ends_the_build() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    agent
        .happened(claimed.claim, JobEvent::Planned { jobs: vec![planned("a", &["b"])], build: BuildPlan::default() })
        .await;
    agent.hear(|control| matches!(control, Control::Abort { .. })).await;
    let view = farm.snapshot(build).await.view;
    assert!(view.build.message.unwrap().contains("needs b, which is not there"));
    assert_eq!(view.exit_code, Some(Outcome::Errored { cause: Cause::Limit }.exit_code()));
    farm.stop().await;
}

#[tokio::test]
async fn logs_are_kept_once_and_go_on_where_they_stopped() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    for (offset, text, expect) in [(0, "hello ", 6), (0, "hello ", 6), (8, "gap", 6), (4, "o world", 11), (11, "!", 12)]
    {
        agent.log(claimed.claim, "test", offset, text).await;
        assert_eq!(agent.hear_kept(claimed.claim).await, expect);
    }
    let snapshot = farm.snapshot(build).await;
    let (_, mark) = &snapshot.logs[0];
    assert_eq!(farm.desk.store.log_files().read(&mark.place, 0, 100).unwrap(), "hello world!");
    assert!(!mark.is_settled());
    farm.stop().await;
}

#[tokio::test]
async fn a_result_that_is_said_again_asks_what_is_kept_of_its_logs() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    let claim = claimed.claim;
    agent.log(claim, "test", 0, "text").await;
    agent.hear_kept(claim).await;
    let finished = || JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() };
    agent.finish(claim, Ending::passed()).await;
    agent.report(Report::Progress(Progress { claim, seq: 1, at_ms: 1, event: finished() })).await;
    assert_eq!(agent.hear_kept(claim).await, 4);
    farm.stop().await;
}

#[tokio::test]
async fn receipts_of_one_moment_come_in_one_message_to_who_hears_them_so() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    agent.hears_several().await;
    soon("its sign of life", async {
        while !farm.desk.presence.hears_several(&agent.name) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    agent.log(claimed.claim, "test", 0, "text").await;
    let finished = JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() };
    agent.happened(claimed.claim, finished).await;
    let (mut kept, mut recorded) = (None, false);
    while kept.is_none() || !recorded {
        let told = agent.hear(|control| !matches!(control, Control::Beacon(_))).await;
        let Control::Several { controls } = told else { panic!("{told:?} came alone") };
        for control in controls {
            match control {
                Control::LogKept { claim, bytes, .. } if claim == claimed.claim => kept = Some(bytes),
                Control::Recorded { claim } if claim == claimed.claim => recorded = true,
                other => panic!("{other:?} is no receipt"),
            }
        }
    }
    assert_eq!(kept, Some(4));
    farm.until_status(build, "passed").await;
    farm.stop().await;
}

#[tokio::test]
async fn one_agent_that_is_lost_after_other_trouble_is_the_first() {
    let folder = tempdir().unwrap();
    let farm = Farm::with(&folder, |config| config.lease = Duration::from_millis(500)).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    agent.finish(claimed.claim, Ending::errored(Cause::Pull, "the registry is away".to_owned()).or_again(true)).await;
    for attempt in [2, 3] {
        // Of these nothing is heard any more.
        let (_, grant) = agent.work(&farm).await;
        assert_eq!(grant.order.attempt, attempt);
    }
    farm.until_status(build, "errored").await;
    let message = farm.snapshot(build).await.view.build.message.unwrap();
    assert!(message.contains("as agents did in 2 of 3 attempts"), "{message}");
    farm.stop().await;
}

#[tokio::test]
async fn the_rest_of_a_log_is_given_up_when_its_agent_is_gone() {
    let folder = tempdir().unwrap();
    let farm = Farm::with(&folder, |config| config.lease = Duration::from_millis(300)).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    agent.log(claimed.claim, "test", 0, "part").await;
    agent.hear_kept(claimed.claim).await;
    agent.happened(claimed.claim, JobEvent::LogComplete { log: "test".parse().unwrap(), total: 9 }).await;
    agent.finish(claimed.claim, Ending::passed()).await;
    let settled = |snapshot: &crate::store::Snapshot| snapshot.logs.iter().all(|(_, mark)| mark.is_settled());
    assert!(!settled(&farm.snapshot(build).await));
    let snapshot = farm.until(build, "the giving up", settled).await;
    let log = &snapshot.view.attempts[0].logs[0];
    assert_eq!((log.bytes, log.complete, log.missing), (4, false, 5));
    agent.log(claimed.claim, "test", 4, "whole").await;
    agent.hear_kept(claimed.claim).await;
    assert!(farm.snapshot(build).await.view.attempts[0].logs[0].complete, "what still comes is kept");
    farm.stop().await;
}

#[tokio::test]
async fn who_is_not_enrolled_gets_nothing() {
    let folder = tempdir().unwrap();
    let token: JoinToken = "open sesame".parse().unwrap();
    let farm = Farm::with(&folder, |config| config.enrolment = Enrolment::ByToken(token.clone())).await;
    let refused = |control: &Control| matches!(control, Control::NotEnrolled { .. });
    let enrolled = |control: &Control| matches!(control, Control::Enrolled { .. });
    let stranger = Agent::new(&farm.broker, "a1");
    stranger.hello(&[], Some(&"wrong".parse().unwrap())).await;
    stranger.hear(refused).await;
    farm.submit().await;
    let delivery = stranger.take().await;
    stranger.claim(&delivery).await;
    stranger.hear(refused).await;
    drop(delivery);
    // A person vouches for it.
    let compared = Approve { fingerprint: stranger.identity.public().fingerprint(), labels: None };
    assert_eq!(approve(&farm.desk, &stranger.name, &compared).await.unwrap(), Approval::Done);
    stranger.hear(enrolled).await;
    stranger.work(&farm).await;
    // With the token it needs none, and the coordinator proves the token too.
    let member = Agent::new(&farm.broker, "a2");
    member.hello(&["gpu"], Some(&token)).await;
    let Control::Enrolled { coordinator, proof, .. } = member.hear(enrolled).await else { panic!() };
    assert!(token.vouches(&member.name, &coordinator, &proof.unwrap()));
    // Nobody takes over its name with another key.
    let thief = Agent::new(&farm.broker, "a2");
    thief.hello(&["gpu"], Some(&token)).await;
    let Control::NotEnrolled { reason, .. } = thief.hear(refused).await else { panic!() };
    assert!(reason.contains("another key"), "{reason}");
    farm.submit().await;
    let delivery = thief.take().await;
    thief.claim(&delivery).await;
    let Control::NotEnrolled { reason, .. } = thief.hear(refused).await else { panic!() };
    assert!(reason.contains("not signed"), "{reason}");
    farm.stop().await;
}

#[tokio::test]
async fn agents_of_this_process_belong_to_the_farm() {
    let folder = tempdir().unwrap();
    let broker = protocol::link::memory::MemoryBroker::new();
    let agent = Agent::new(&broker, "here");
    let known = (agent.name.clone(), agent.identity.public());
    let farm = Farm::with(&folder, |config| {
        config.enrolment = Enrolment::ByApproval;
        config.known_agents = vec![known];
    })
    .await;
    let agent = agent.on(&farm.broker);
    agent.hello(&[], None).await;
    agent.hear(|control| matches!(control, Control::Enrolled { .. })).await;
    farm.submit().await;
    agent.work(&farm).await;
    farm.stop().await;
}

#[tokio::test]
async fn who_comes_as_another_user_of_the_broker_is_not_heard() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    let mut tx = farm.desk.store.write().await.unwrap();
    let known = tx.agent(&agent.name).await.unwrap().unwrap();
    tx.put_agent(&crate::store::Agent { broker_user: Some("elm".to_owned()), ..known }).await.unwrap();
    tx.commit().await.unwrap();
    let event = JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() };
    let progress = protocol::report::Progress { claim: claimed.claim, seq: 1, at_ms: 1, event };
    let finished = agent.signed(Report::Progress(progress));
    let from = |user: Option<&str>| Incoming { user: user.map(str::to_owned), report: Ok(finished.clone()) };
    for (user, expect) in [(Some("thief"), "running"), (None, "running"), (Some("elm"), "passed")] {
        apply(&farm.desk, &[from(user)]).await.unwrap();
        assert_eq!(farm.snapshot(build).await.view.build.status.name(), expect, "{user:?}");
    }
    let incidents = farm.desk.store.incidents().await.unwrap();
    let said: Vec<&str> = incidents.iter().map(|incident| incident.sentence.as_str()).collect();
    assert!(said.iter().any(|said| said.contains("from the user thief, not from the broker's user elm")), "{said:?}");
    farm.stop().await;
}

#[tokio::test]
async fn who_speaks_in_anothers_name_is_not_heard_and_is_noted() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let (honest, thief) = (farm.agent("honest").await, farm.agent("thief").await);
    let build = farm.submit().await;
    let (claimed, _) = honest.work(&farm).await;
    let claim = claimed.claim;
    let event = JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() };
    let finished = Report::Progress(protocol::report::Progress { claim, seq: 1, at_ms: 1, event });
    let abandoned = Report::Abandoned { agent: honest.name.clone(), claim };
    let bye = Report::Bye { agent: honest.name.clone(), boot: honest.boot };
    for report in [&finished, &abandoned, &bye] {
        // With no signature, with the thief's own, and with the thief's under the other's name.
        thief.write(report.clone()).await;
        thief.report(report.clone()).await;
        let said = protocol::report::Said {
            agent: honest.name.clone(),
            boot: honest.boot,
            count: 1_000,
            report: Box::new(report.clone()),
        };
        thief.write(Report::Said(protocol::identity::Signed::new(&thief.identity, &said).unwrap())).await;
    }
    // What follows is applied after them.
    let other = farm.submit().await;
    let (others, _) = thief.work(&farm).await;
    thief.finish(others.claim, Ending::passed()).await;
    farm.until_status(other, "passed").await;
    assert_eq!(farm.snapshot(build).await.view.build.status.name(), "running");
    let incidents = farm.desk.store.incidents().await.unwrap();
    let forged = incidents.iter().filter(|incident| incident.kind == protocol::api::IncidentKind::Forged);
    assert_eq!(forged.map(|incident| incident.count).sum::<u64>(), 9, "{incidents:#?}");
    honest.finish(claim, Ending::passed()).await;
    farm.until_status(build, "passed").await;
    farm.stop().await;
}

#[tokio::test]
async fn an_event_waits_for_those_that_were_lost_before_it() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    let claim = claimed.claim;
    let log: protocol::LogName = "test".parse().unwrap();
    let complete = JobEvent::LogComplete { log, total: 0 };
    let event = |seq, event| agent.signed(Report::Progress(protocol::report::Progress { claim, seq, at_ms: 1, event }));
    let said = [
        event(1, JobEvent::Settled { acknowledged: true }),
        event(2, complete),
        event(3, JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() }),
    ];
    let take = |report: &Report| Incoming { user: None, report: Ok(report.clone()) };
    apply(&farm.desk, &[take(&said[0]), take(&said[2])]).await.unwrap();
    assert_eq!(farm.snapshot(build).await.view.build.status.name(), "running");
    let answers = apply(&farm.desk, &said.each_ref().map(take)).await.unwrap();
    answers.give(&farm.desk).await;
    agent.hear_recorded(claim).await;
    let view = farm.snapshot(build).await.view;
    assert_eq!((view.build.status.name(), view.attempts[0].logs[0].complete), ("passed", true));
    farm.stop().await;
}

#[tokio::test]
async fn a_sign_of_life_that_is_played_again_keeps_no_job() {
    let folder = tempdir().unwrap();
    let farm = Farm::with(&folder, |config| config.lease = Duration::from_millis(400)).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    let held = protocol::report::HeldClaim { claim: claimed.claim, phase: ClaimPhase::Running, waits_for: None };
    let beat = protocol::report::Heartbeat {
        agent: agent.name.clone(),
        boot: agent.boot,
        claims: vec![held],
        slots: 2,
        paused: None,
        standing: None,
        draining: false,
        capacity: None,
        hears_several: false,
    };
    let recorded = agent.signed(Report::Heartbeat(beat));
    // Whoever recorded a sign of life and the claim plays them as often as it takes.
    let play = async {
        loop {
            agent.write(recorded.clone()).await;
            agent.repeat(&claimed).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = farm.until_status(build, "queued") => {}
        () = play => {}
    }
    farm.stop().await;
}

#[tokio::test]
async fn a_grant_looks_at_approved_labels_alone() {
    let folder = tempdir().unwrap();
    let farm = Farm::with(&folder, |config| config.enrolment = Enrolment::ByApproval).await;
    let agent = Agent::new(&farm.broker, "a1");
    agent.hello(&[], None).await;
    agent.hear(|control| matches!(control, Control::NotEnrolled { .. })).await;
    let compared = Approve { fingerprint: agent.identity.public().fingerprint(), labels: None };
    approve(&farm.desk, &agent.name, &compared).await.unwrap();
    agent.hello(&["gpu"], None).await;
    agent.hear(|control| matches!(control, Control::Enrolled { .. })).await;
    farm.broker.publish("build_queue.gpu", INJECTED, None, None);
    let gpu = LabelSet::new(["gpu"]).unwrap();
    let delivery = soon("a job", agent.link.next_job(std::slice::from_ref(&gpu))).await.unwrap();
    let claimed = agent.claim(&delivery).await;
    let reason = agent.answer(&claimed, &farm.desk.identity.public()).await.unwrap_err();
    assert!(reason.contains("labels gpu"), "{reason}");
    assert_eq!(farm.snapshot(BuildNumber(1)).await.view.build.status.name(), "queued", "the message is not lost");
    farm.stop().await;
}

#[tokio::test]
async fn a_message_by_hand_on_a_queue_that_is_named_by_a_digest_is_for_agents_with_its_labels() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = Agent::new(&farm.broker, "a1");
    let (long, longer) = ("a".repeat(50), "b".repeat(60));
    agent.hello(&[&long, &longer, "gpu"], None).await;
    agent.hear(|control| matches!(control, Control::Enrolled { .. })).await;
    let labels = LabelSet::new([long.as_str(), &longer, "gpu"]).unwrap();
    let queue = queue_name(&labels);
    assert!(queue.starts_with("build_queue.sha256-"), "{queue}");
    let publish = || farm.broker.publish(&queue, INJECTED, None, None);
    publish();
    let take = async || soon("a job", agent.link.next_job(std::slice::from_ref(&labels))).await.unwrap();
    let claimed = agent.claim(&take().await).await;
    agent.answer(&claimed, &farm.desk.identity.public()).await.unwrap();
    // Nobody has the labels of a queue that an agent made up.
    publish();
    let delivery = take().await;
    let claimed = agent.claim_subject(Agent::subject(&delivery), "build_queue.sha256-00", false).await;
    let reason = agent.answer(&claimed, &farm.desk.identity.public()).await.unwrap_err();
    assert!(reason.contains("no agent and no job has the labels"), "{reason}");
    until_dead(&farm, 1).await;
    farm.stop().await;
}

#[tokio::test]
async fn a_job_that_the_broker_forgot_is_offered_again() {
    let folder = tempdir().unwrap();
    let farm = Farm::with(&folder, |config| config.lease = Duration::from_millis(300)).await;
    let agent = farm.agent("a1").await;
    farm.submit().await;
    // Somebody purges the queue.
    assert!(agent.take().await.ack().await);
    let pulse = async {
        loop {
            agent.heartbeat(&[]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = pulse => {}
        _ = agent.take() => {}
    }
    farm.stop().await;
}

#[tokio::test]
async fn a_coordinator_goes_on_where_it_ended() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let running = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    let waiting = farm.submit().await;
    let boot = agent.boot;
    farm.stop().await;
    let farm = Farm::start(&folder).await;
    let agent = agent.on(&farm.broker);
    agent.finish(claimed.claim, Ending::passed()).await;
    assert_eq!(farm.snapshot(running).await.view.build.status.name(), "passed");
    let (claimed, grant) = agent.work(&farm).await;
    assert_eq!(grant.order.build, Some(waiting));
    let mut tx = farm.desk.store.write().await.unwrap();
    assert_eq!(tx.attempt(claimed.claim).await.unwrap().unwrap().state, AttemptState::Running);
    assert_eq!(tx.agent(&agent.name).await.unwrap().unwrap().boot, boot);
    drop(tx);
    farm.stop().await;
}

/// Waits for what a stage that must not run twice waits for, and gives how far the store is.
async fn hear_noted(agent: &Agent, claim: protocol::ClaimId) -> u64 {
    match agent.hear(|control| matches!(control, Control::Noted { claim: of, .. } if *of == claim)).await {
        Control::Noted { seq, .. } => seq,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stage_that_must_not_run_twice_begins_when_it_is_noted() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    farm.submit().await;
    let claim = agent.work(&farm).await.0.claim;
    agent.happened(claim, started("build", "debian", false)).await;
    agent.happened(claim, started("deploy", "debian", true)).await;
    assert_eq!(hear_noted(&agent, claim).await, 2, "of an ordinary stage nothing is said");
    let progress = protocol::report::Progress { claim, seq: 2, at_ms: 1, event: started("deploy", "debian", true) };
    agent.report(Report::Progress(progress)).await;
    assert_eq!(hear_noted(&agent, claim).await, 2, "said again when it is asked again");
    agent.heartbeat_waiting(claim, 2).await;
    assert_eq!(hear_noted(&agent, claim).await, 2, "a heartbeat brings what was lost");
    agent.heartbeat_waiting(claim, 3).await;
    assert_eq!(hear_noted(&agent, claim).await, 2, "and tells that an event was lost");
    farm.stop().await;
}

#[tokio::test]
async fn what_comes_after_a_lost_event_waits_for_it() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let claim = agent.work(&farm).await.0.claim;
    let progress = |seq, event| Report::Progress(protocol::report::Progress { claim, seq, at_ms: 1, event });
    let jobs = vec![planned("compile", &[]), planned("test", &["compile"])];
    // The second of three events is lost: without it the planned jobs would be lost too, and the build pass.
    agent.report(progress(1, JobEvent::Settled { acknowledged: true })).await;
    agent.report(progress(3, JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() })).await;
    assert_eq!(hear_noted(&agent, claim).await, 1);
    assert!(!farm.snapshot(build).await.view.build.status.is_over());
    agent.report(progress(2, JobEvent::Planned { jobs, build: BuildPlan::default() })).await;
    agent.report(progress(3, JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() })).await;
    agent.hear_recorded(claim).await;
    assert!(!farm.snapshot(build).await.view.build.status.is_over(), "its jobs are yet to run");
    farm.stop().await;
}

#[tokio::test]
async fn a_stage_of_a_claim_that_is_not_current_never_begins() {
    let folder = tempdir().unwrap();
    let farm = Farm::with(&folder, |config| config.lease = Duration::from_millis(300)).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let claim = agent.work(&farm).await.0.claim;
    let is_abort = |control: &Control| {
        assert!(!matches!(control, Control::Noted { .. }));
        matches!(control, Control::Abort { claim: of, .. } if *of == claim)
    };
    agent.hear(is_abort).await;
    agent.happened(claim, started("deploy", "debian", true)).await;
    agent.hear(is_abort).await;
    agent.heartbeat_waiting(claim, 1).await;
    agent.hear(is_abort).await;
    assert_eq!(farm.snapshot(build).await.view.build.status.name(), "queued", "another may still do it");
    farm.stop().await;
}

#[tokio::test]
async fn a_job_that_is_asked_to_end_begins_nothing_that_must_not_run_twice() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let claim = agent.work(&farm).await.0.claim;
    cancel(&farm.desk, build, "by me").await.unwrap().unwrap();
    let is_cancel = |control: &Control| {
        assert!(!matches!(control, Control::Noted { .. }));
        matches!(control, Control::Cancel { claim: of, .. } if *of == claim)
    };
    agent.hear(is_cancel).await;
    agent.happened(claim, started("deploy", "debian", true)).await;
    agent.hear(is_cancel).await;
    agent.heartbeat_waiting(claim, 1).await;
    agent.hear(is_cancel).await;
    farm.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_lost_after_such_a_stage_began_leaves_the_outcome_unknown() {
    // Under the stage itself, and under an ordinary one after it.
    for later in [false, true] {
        let folder = tempdir().unwrap();
        let farm = Farm::with(&folder, |config| config.lease = Duration::from_millis(300)).await;
        let agent = farm.agent("a1").await;
        let build = farm.submit().await;
        let claim = agent.work(&farm).await.0.claim;
        agent.happened(claim, started("deploy", "debian", true)).await;
        if later {
            let (stage, result) = ("deploy".parse().unwrap(), StageOutcome::Passed);
            agent.happened(claim, JobEvent::StageEnded { stage, result, duration_ms: 1 }).await;
            agent.happened(claim, started("tell", "debian", false)).await;
        }
        let over = farm.until(build, "the end", |snapshot| snapshot.view.build.status.is_over()).await.view;
        let message = over.build.message.unwrap();
        assert!(message.contains("must not run twice") && message.contains("submit the build again"), "{message}");
        assert_eq!(over.exit_code, Some(Outcome::Errored { cause: Cause::OutcomeUnknown }.exit_code()));
        assert_eq!(over.attempts.len(), 1);
        // What it says when it comes back is kept under its attempt, and changes nothing.
        agent.finish(claim, Ending::passed()).await;
        assert_eq!(farm.snapshot(build).await.view.build.status.name(), "errored");
        farm.stop().await;
    }
}

#[tokio::test]
async fn a_plan_is_remembered_though_an_older_agent_does_not_speak_of_it() {
    let folder = tempdir().unwrap();
    let farm = Farm::with(&folder, |config| config.lease = Duration::from_millis(300)).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let claim = agent.work(&farm).await.0.claim;
    let mut only = planned("build", &[]);
    only.plan.stages[0].not_twice = true;
    agent.happened(claim, JobEvent::Planned { jobs: vec![only], build: BuildPlan::default() }).await;
    agent.happened(claim, started("test", "debian", false)).await;
    let over = farm.until(build, "the end", |snapshot| snapshot.view.build.status.is_over()).await.view;
    assert!(over.build.message.unwrap().contains("must not run twice"));
    farm.stop().await;
}

#[tokio::test]
async fn a_cancelled_job_stays_cancelled_when_its_agent_is_lost_under_such_a_stage() {
    let folder = tempdir().unwrap();
    let farm = Farm::with(&folder, |config| config.lease = Duration::from_secs(2)).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let claim = agent.work(&farm).await.0.claim;
    agent.happened(claim, started("deploy", "debian", true)).await;
    hear_noted(&agent, claim).await;
    cancel(&farm.desk, build, "by me").await.unwrap().unwrap();
    farm.until_status(build, "cancelled").await;
    farm.stop().await;
}

#[tokio::test]
async fn an_order_that_fits_into_no_message_ends_its_job() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    // What control characters take in a text within a text is six times as much.
    let inputs = vec![protocol::Variable::new("MUCH", "\u{1}".repeat(500_000))];
    let repo = "https://example.org/x".parse().unwrap();
    let trigger =
        crate::intake::Trigger { inputs, ..crate::intake::Trigger::new(repo, protocol::job::TriggerKind::Manual) };
    let build = crate::intake::submit(&farm.desk, &trigger, None).await.unwrap();
    let delivery = agent.take().await;
    let claimed = agent.claim(&delivery).await;
    let refused = agent.answer(&claimed, &farm.desk.identity.public()).await.unwrap_err();
    assert_eq!(refused, "its order is too long for a message");
    let said = format!("{:?}", farm.until_status(build, "errored").await.view);
    assert!(said.contains("more than the 4 MiB that a message may have"), "{said}");
    farm.stop().await;
}

#[tokio::test]
async fn a_hello_that_is_played_again_changes_nothing() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let hello = |labels: &[&str]| agent.signed(agent.says_hello(labels, None));
    let (old, new) = (hello(&["old"]), hello(&["new"]));
    let take = async |report: &Report| {
        let incoming = Incoming { user: Some("elm".to_owned()), report: Ok(report.clone()) };
        apply(&farm.desk, &[incoming]).await.unwrap().give(&farm.desk).await;
        farm.desk.store.write().await.unwrap().agent(&agent.name).await.unwrap().unwrap().offered
    };
    for (report, offered) in [(&old, "old"), (&new, "new"), (&old, "new")] {
        assert_eq!(take(report).await, LabelSet::new([offered]).unwrap());
    }
    farm.stop().await;
}

#[tokio::test]
async fn a_piece_of_a_log_from_another_user_of_the_broker_is_dropped() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    let mut tx = farm.desk.store.write().await.unwrap();
    let known = tx.agent(&agent.name).await.unwrap().unwrap();
    tx.put_agent(&crate::store::Agent { broker_user: Some("elm".to_owned()), ..known }).await.unwrap();
    tx.commit().await.unwrap();
    let piece = |user: Option<&str>, text: &'static str| {
        let bytes = bytes::Bytes::from_static(text.as_bytes());
        let log = "test".parse().unwrap();
        let chunk = protocol::report::LogChunk { claim: claimed.claim, log, offset: 0, at_ms: 1, bytes, packed: false };
        (user.map(str::to_owned), chunk)
    };
    let pieces = vec![piece(Some("thief"), "forged and long"), piece(None, "forged"), piece(Some("elm"), "true")];
    super::logs::keep(&farm.desk, pieces).await.unwrap().give(&farm.desk).await;
    assert_eq!(agent.hear_kept(claimed.claim).await, 4);
    let incidents = farm.desk.store.incidents().await.unwrap();
    let said: Vec<&str> = incidents.iter().map(|incident| incident.sentence.as_str()).collect();
    assert_eq!(said, ["a piece of a log in its name came from the user thief, and was dropped"]);
    farm.stop().await;
}
