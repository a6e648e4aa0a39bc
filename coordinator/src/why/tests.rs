//! The choice of a reason, and the reasons that a farm gives whose agents are made of what they say.

use std::sync::Arc;

use protocol::api::{NearAgent, NeededJob, PausedAgent, Status, WaitingAgent};
use protocol::job::TriggerKind;
use protocol::link::memory::MemoryBroker;
use protocol::link::rabbitmq::{RabbitCoordinator, RabbitSettings};
use protocol::outcome::{Cause, Ending};
use protocol::plan::BuildPlan;
use protocol::report::JobEvent;
use protocol::{Plan, PlannedJob};
use tempfile::tempdir;

use super::*;
use crate::config::Config;
use crate::intake::{self, Trigger};
use crate::testing::{Agent, Farm, soon};

fn agent(name: &str) -> AgentId {
    name.parse().unwrap()
}

fn gpu() -> LabelSet {
    LabelSet::new(["gpu"]).unwrap()
}

#[track_caller]
fn check(line: &Line, capacity: &Capacity, offered_for_ms: Option<u64>, expect: &WaitReason) {
    check_again(line, capacity, offered_for_ms, None, expect);
}

#[track_caller]
fn check_again(
    line: &Line,
    capacity: &Capacity,
    offered_for_ms: Option<u64>,
    again_in_ms: Option<u64>,
    expect: &WaitReason,
) {
    let last = SeenAgent { agent: agent("z"), ago_ms: 5 };
    let (labels, last, expected_ms) = (&gpu(), Some(&last), Some(9));
    let facts = Facts { line, labels, capacity, last, position: 3, offered_for_ms, again_in_ms, expected_ms };
    assert_eq!(choose(&facts), *expect);
}

#[test]
fn the_first_thing_in_the_way_is_the_reason() {
    let up = Line::Up { behind: 0 };
    let some = || Capacity { agents: 3, able: vec![agent("a"), agent("b")], slots: 4, free: 1, ..Capacity::default() };
    let why = || "refused".to_owned();
    let none = Capacity::default();
    // A line that is not there explains everything behind it.
    check(&Line::Away { why: why(), for_ms: 4 }, &none, None, &WaitReason::BrokerAway { why: why(), for_ms: 4 });
    let blocked = WaitReason::BrokerBlocked { why: why(), for_ms: 4 };
    check(&Line::Blocked { why: why(), for_ms: 4 }, &some(), None, &blocked);
    // What agents said meanwhile is not read yet: who is here is not known.
    check(&Line::Up { behind: 8 }, &none, None, &WaitReason::CatchingUp { backlog: 8 });
    let last = Some(SeenAgent { agent: agent("z"), ago_ms: 5 });
    check(&up, &none, None, &WaitReason::NoAgent { last: last.clone(), unapproved: vec![] });
    let new = vec![WaitingAgent { agent: agent("n"), key: "k".to_owned() }];
    let asks = Capacity { unapproved: new.clone(), ..Capacity::default() };
    check(&up, &asks, None, &WaitReason::NoAgent { last, unapproved: new });
    let near = |name: &str, lacks: &[&str]| NearAgent {
        agent: agent(name),
        lacks: LabelSet::new(lacks.iter().copied()).unwrap(),
        unapproved: LabelSet::default(),
    };
    let (far, close) = (near("far", &["gpu", "x"]), near("close", &["gpu"]));
    let others = Capacity { able: vec![], near: vec![far.clone(), close.clone()], slots: 0, free: 0, ..some() };
    check(&up, &others, None, &WaitReason::NoLabels { labels: gpu(), agents: 3, nearest: vec![close, far] });
    let full = vec![PausedAgent { agent: agent("p"), why: "disk".to_owned() }];
    let paused = Capacity { able: vec![], paused: full.clone(), slots: 0, free: 0, ..some() };
    check(&up, &paused, None, &WaitReason::AllPaused { agents: full.clone() });
    // One that pauses is no reason while another works.
    let busy = Capacity { paused: full, free: 0, ..some() };
    let queue = BusyQueue { position: 3, slots: 4, expected_ms: Some(9) };
    check(&up, &busy, Some(7), &WaitReason::AllBusy(queue));
    check(&up, &some(), Some(7), &WaitReason::Offered { for_ms: 7 });
    check(&up, &some(), None, &WaitReason::NotYetOffered { position: 3 });
    // A moment that it is given is no reason where no agent could have it.
    let busy = Capacity { free: 0, ..some() };
    check_again(&up, &busy, None, Some(4), &WaitReason::Later { in_ms: 4 });
    check_again(
        &up,
        &none,
        None,
        Some(4),
        &WaitReason::NoAgent { last: Some(SeenAgent { agent: agent("z"), ago_ms: 5 }), unapproved: vec![] },
    );
}

async fn submit(desk: &Desk) -> BuildNumber {
    let repo = "https://example.org/x".parse().unwrap();
    let trigger = Trigger::new(repo, TriggerKind::Manual);
    intake::submit(desk, &trigger, None).await.unwrap()
}

async fn reason(desk: &Desk, build: BuildNumber) -> WaitReason {
    waits(desk).await.unwrap().of(build)[0].why.clone()
}

#[tokio::test]
async fn a_broker_that_cannot_be_reached() {
    let folder = tempdir().unwrap();
    // Nobody listens there.
    let settings = RabbitSettings::new("amqp://127.0.0.1:1".to_owned());
    let link = Arc::new(RabbitCoordinator::connect(settings).await.unwrap());
    let desk = crate::open(Config::new(folder.path()), link.clone()).await.unwrap();
    let build = submit(&desk).await;
    let mut health = desk.link.health();
    let refused = health.wait_for(|health| matches!(health, Health::Away { reason } if reason.contains("refused")));
    soon("a refusal", refused).await.unwrap();
    match reason(&desk, build).await {
        WaitReason::BrokerAway { why, .. } => assert!(why.contains("connection refused"), "{why}"),
        other => panic!("{other:?}"),
    }
    link.close().await;
}

#[tokio::test]
async fn what_was_said_before_the_coordinator_began_is_read_first() {
    let folder = tempdir().unwrap();
    let broker = MemoryBroker::new();
    let desk = crate::open(Config::new(folder.path()), Arc::new(broker.coordinator())).await.unwrap();
    let agent = Agent::new(&broker, "a1");
    agent.hello(&[], None).await;
    agent.heartbeat(&[]).await;
    let build = submit(&desk).await;
    assert_eq!(reason(&desk, build).await, WaitReason::CatchingUp { backlog: 2 });
    assert!(soon("reports", desk.link.next_reports(9)).await.unwrap().ack().await);
    assert!(matches!(reason(&desk, build).await, WaitReason::NoAgent { .. }));
    // From now on what lies there is new, and no reason to wait.
    agent.heartbeat(&[]).await;
    assert!(matches!(reason(&desk, build).await, WaitReason::NoAgent { .. }));
}

/// Two jobs of which the second needs the first.
fn chain() -> Vec<PlannedJob> {
    let job = |key: &str, needs: &[&str]| PlannedJob {
        needs: needs.iter().map(|need| need.parse().unwrap()).collect(),
        ..PlannedJob::new(key.parse().unwrap(), Plan::new("x", Vec::new()))
    };
    vec![job("compile", &[]), job("test", &["compile"])]
}

#[tokio::test]
async fn a_job_that_needs_another() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let (claimed, _) = agent.work(&farm).await;
    agent.happened(claimed.claim, JobEvent::Planned { jobs: chain(), build: BuildPlan::default() }).await;
    let (compiling, _) = agent.work(&farm).await;
    let told = async || {
        let view = farm.snapshot(build).await.view;
        let waiting = waits(&farm.desk).await.unwrap().of(build).to_vec();
        why(&farm.desk, view, waiting).await.unwrap()
    };
    let story = told().await;
    assert_eq!((story.waiting.len(), story.running.len()), (1, 1), "{story:#?}");
    let need = NeededJob { job: "compile".parse().unwrap(), status: Status::Running };
    assert_eq!(story.waiting[0].why, WaitReason::Needs { jobs: vec![need] });
    assert_eq!((story.waiting[0].job.as_str(), story.running[0].job.as_str()), ("test", "compile"));
    agent.finish(compiling.claim, Ending::errored(Cause::Pull, "no such image")).await;
    let story = told().await;
    assert!(story.waiting.is_empty() && story.running.is_empty(), "{story:#?}");
    let not_run: Vec<_> = story.not_run.iter().map(|job| (job.job.as_str(), job.why.as_str())).collect();
    assert_eq!(not_run, [("test", "it needs compile, which ended as errored (pull)")]);
    farm.stop().await;
}
