//! The contract of [`protocol::link`], clause by clause.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::control::{Beacon, Control};
use protocol::job::{OfferBody, QueueMessage, ReplyTo, StatusMessage};
use protocol::link::{
    Address, AgentLink, BUILD_QUEUE, Batch, CoordinatorLink, DeadLetter, Delivered, Incoming, JobDelivery, LinkError,
};
use protocol::report::{Heartbeat, LogChunk, Report};
use protocol::{AgentId, BootId, BuildNumber, ClaimId, JobId, LabelSet};

use crate::rabbit::PATIENCE;

/// What makes the ends of one kind of link, and looks at what lies between them as an outsider.
#[async_trait]
pub trait LinkRig: Send + Sync {
    /// The coordinator's end, up.
    async fn coordinator(&self) -> Arc<dyn CoordinatorLink>;
    /// An agent's end, up.
    async fn agent(&self, name: &str) -> Arc<dyn AgentLink>;
    /// Publishes a job as a person does.
    async fn publish(&self, queue: &str, body: &[u8], message_id: Option<&str>, reply: Option<ReplyTo>);
    /// Puts bytes where reports go. The coordinator's end was taken before.
    async fn publish_report(&self, body: &[u8]);
    /// Makes a queue for replies.
    async fn declare_replies(&self, queue: &str);
    /// Takes what was replied: correlation ids and bytes.
    async fn replies(&self, queue: &str) -> Vec<(Option<String>, Bytes)>;
    /// Takes what was laid aside.
    async fn dead(&self) -> Vec<DeadLetter>;
    /// Makes sure that logs are bounded so that a test can reach the bound, in bytes. Called before all else.
    async fn bound_logs(&self) -> usize;
    /// Closes all ends for good.
    async fn close(&self);
}

/// Waits as long as a test may.
///
/// # Panics
/// When it takes longer.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this takes too long")
}

/// A heartbeat that can be told from others by its number.
#[must_use]
pub fn beat(number: u32) -> Report {
    let agent = "a".parse().expect("a name");
    Report::Heartbeat(Heartbeat {
        agent,
        boot: BootId::fresh(),
        claims: Vec::new(),
        slots: number,
        paused: None,
        standing: None,
        draining: false,
        capacity: None,
        hears_several: false,
    })
}

/// The numbers of the heartbeats in a batch.
///
/// # Panics
/// When something else is in it.
#[must_use]
pub fn numbers(batch: &Batch<Incoming>) -> Vec<u32> {
    let number = |incoming: &Incoming| match &incoming.report {
        Ok(Report::Heartbeat(beat)) => beat.slots,
        other => panic!("no heartbeat: {other:?}"),
    };
    batch.items.iter().map(number).collect()
}

/// Takes the next job from `build_queue`.
pub async fn take(agent: &Arc<dyn AgentLink>) -> JobDelivery {
    take_of(agent, &[LabelSet::default()]).await
}

async fn take_of(agent: &Arc<dyn AgentLink>, queues: &[LabelSet]) -> JobDelivery {
    soon(agent.next_job(queues)).await.expect("a job")
}

/// Publishes bytes to `build_queue`, without any property.
pub async fn put(rig: &dyn LinkRig, body: &str) {
    rig.publish(BUILD_QUEUE, body.as_bytes(), None, None).await;
}

fn labels(label: &str) -> LabelSet {
    LabelSet::new([label]).expect("a label")
}

fn offer() -> OfferBody {
    OfferBody { job_id: JobId::fresh(), build: BuildNumber(7), repo: "https://e.org/x".to_owned(), branch: None }
}

async fn nothing_for(agent: &Arc<dyn AgentLink>) {
    // A job that is there arrives far sooner; the wait bounds what can be seen of an absence.
    let queues = [LabelSet::default()];
    let nothing = tokio::time::timeout(std::time::Duration::from_millis(300), agent.next_job(&queues));
    assert!(nothing.await.is_err(), "there should be no job");
}

/// Jobs come in the order in which they were published, each once.
pub async fn jobs_come_in_order(rig: &dyn LinkRig) {
    rig.coordinator().await;
    let agent = rig.agent("a").await;
    for body in ["1", "2", "3"] {
        put(rig, body).await;
    }
    for body in ["1", "2", "3"] {
        let job = take(&agent).await;
        assert_eq!((&job.body[..], job.queue.as_str(), job.redelivered), (body.as_bytes(), BUILD_QUEUE, false));
        assert!(job.ack().await);
    }
    nothing_for(&agent).await;
}

/// A delivery that is dropped comes again, and says so; one that is acknowledged does not.
pub async fn a_dropped_job_comes_again(rig: &dyn LinkRig) {
    rig.coordinator().await;
    let agent = rig.agent("a").await;
    put(rig, "x").await;
    drop(take(&agent).await);
    let again = take(&agent).await;
    assert_eq!((&again.body[..], again.redelivered), (&b"x"[..], true));
    assert!(again.ack().await);
    nothing_for(&agent).await;
}

/// A requeued job is the first again.
pub async fn a_requeued_job_comes_first(rig: &dyn LinkRig) {
    rig.coordinator().await;
    let agent = rig.agent("a").await;
    put(rig, "1").await;
    put(rig, "2").await;
    take(&agent).await.requeue().await;
    let first = take(&agent).await;
    assert_eq!((&first.body[..], first.redelivered), (&b"1"[..], true));
    let second = take(&agent).await;
    assert_eq!((&second.body[..], second.redelivered), (&b"2"[..], false));
    assert!(second.ack().await && first.ack().await);
}

/// A wait that is given up, at whatever moment, loses no job.
pub async fn a_dropped_wait_loses_nothing(rig: &dyn LinkRig) {
    rig.coordinator().await;
    let agent = rig.agent("a").await;
    for number in 0..20 {
        put(rig, &number.to_string()).await;
    }
    let mut found = BTreeSet::new();
    let (mut patience, mut most) = (0, 9_000);
    while found.len() < 20 {
        // Ever longer: a slow machine must get a job through at all.
        (patience, most) = ((patience + 700) % most, most + 100);
        let wait = std::time::Duration::from_micros(patience);
        if let Ok(job) = tokio::time::timeout(wait, agent.next_job(&[LabelSet::default()])).await {
            let job = job.expect("a job");
            assert!(found.insert(job.body.clone()), "{:?} came twice", job.body);
            assert!(job.ack().await);
        }
    }
    nothing_for(&agent).await;
}

/// Of two that wait, each gets one.
pub async fn two_agents_take_one_job_each(rig: &dyn LinkRig) {
    rig.coordinator().await;
    let (a, b) = (rig.agent("a").await, rig.agent("b").await);
    let both = async { tokio::join!(take(&a), take(&b)) };
    let publish = async {
        put(rig, "1").await;
        put(rig, "2").await;
    };
    let ((one, two), ()) = tokio::join!(both, publish);
    assert_ne!(one.body, two.body);
    assert!(!one.redelivered && !two.redelivered);
    assert!(one.ack().await && two.ack().await);
}

/// An agent that holds one job unsettled keeps no other from the rest, from whichever queue.
pub async fn a_busy_agent_holds_nothing_back(rig: &dyn LinkRig) {
    let coordinator = rig.coordinator().await;
    let (busy, other) = (rig.agent("a").await, rig.agent("b").await);
    let queues = [labels("x"), labels("y"), LabelSet::default()];
    soon(coordinator.ensure(&queues)).await.expect("queues");
    let offers = [offer(), offer(), offer()];
    for (queue, offer) in queues.iter().zip(&offers) {
        soon(coordinator.offer(queue, offer)).await.expect("room");
    }
    let held = take_of(&busy, &queues).await;
    let mut rest = Vec::new();
    for _ in 0..2 {
        rest.push(take_of(&other, &queues).await);
    }
    let found = rest.iter().chain([&held]).map(|job| job.body.clone()).collect::<BTreeSet<_>>();
    assert_eq!(found.len(), 3);
    for job in rest {
        assert!(job.ack().await);
    }
    held.requeue().await;
    assert!(take_of(&other, &queues).await.ack().await);
    nothing_for(&other).await;
}

/// Offers reach the queue of their labels, as JSON that reads as a job, under the job's id.
pub async fn offers_go_by_label(rig: &dyn LinkRig) {
    let coordinator = rig.coordinator().await;
    let agent = rig.agent("a").await;
    let offer = offer();
    soon(coordinator.offer(&labels("gpu"), &offer)).await.expect("the queue is made when it is missing");
    nothing_for(&agent).await;
    let job = take_of(&agent, &[LabelSet::default(), labels("gpu")]).await;
    assert_eq!(job.queue, "build_queue.gpu");
    assert_eq!(job.message_id, Some(offer.job_id.to_string()));
    assert_eq!(QueueMessage::read(&job.body).expect("a job"), QueueMessage::Job(offer.job_id));
    assert!(job.reply.is_none());
    assert!(job.ack().await);
}

/// What a publisher says about a message arrives with it; without properties its bytes arrive as they are.
pub async fn a_message_arrives_as_published(rig: &dyn LinkRig) {
    rig.coordinator().await;
    let agent = rig.agent("a").await;
    let reply = ReplyTo { queue: "mine".to_owned(), correlation_id: Some("c-1".to_owned()) };
    rig.publish(BUILD_QUEUE, b"{}", Some("m-1"), Some(reply.clone())).await;
    rig.publish(BUILD_QUEUE, b"\0\xff not { json", None, None).await;
    rig.publish(BUILD_QUEUE, b"", None, None).await;
    let job = take(&agent).await;
    assert_eq!((job.message_id.as_deref(), &job.reply), (Some("m-1"), &Some(reply)));
    assert!(job.ack().await);
    for bytes in [&b"\0\xff not { json"[..], b""] {
        let raw = take(&agent).await;
        assert_eq!((&raw.body[..], &raw.message_id, &raw.reply), (bytes, &None, &None));
        assert!(raw.ack().await);
    }
}

/// Reports come in order, at most as many at once as asked for, and not again once acknowledged.
pub async fn reports_come_in_order(rig: &dyn LinkRig) {
    let coordinator = rig.coordinator().await;
    let agent = rig.agent("a").await;
    for number in 0..10 {
        assert_eq!(soon(agent.report(&beat(number))).await.expect("up"), Delivered::Yes);
    }
    let mut found = Vec::new();
    while found.len() < 10 {
        let batch = soon(coordinator.next_reports(4)).await.expect("reports");
        assert!((1..=4).contains(&batch.items.len()));
        found.extend(numbers(&batch));
        assert!(batch.ack().await);
    }
    assert_eq!(found, (0..10).collect::<Vec<_>>());
    assert_eq!(soon(coordinator.backlog()).await.expect("up"), 0);
}

/// A batch that is dropped comes again, before what follows it.
pub async fn a_dropped_batch_comes_again_in_order(rig: &dyn LinkRig) {
    let coordinator = rig.coordinator().await;
    let agent = rig.agent("a").await;
    for number in 0..6 {
        soon(agent.report(&beat(number))).await.expect("up");
    }
    let first = soon(coordinator.next_reports(2)).await.expect("reports");
    assert_eq!(numbers(&first)[0], 0);
    let (items, settle) = first.split();
    drop(items);
    drop(settle);
    let mut found = Vec::new();
    while found.len() < 6 {
        let batch = soon(coordinator.next_reports(100)).await.expect("reports");
        found.extend(numbers(&batch));
        assert!(batch.ack().await);
    }
    assert_eq!(found, (0..6).collect::<Vec<_>>());
}

/// Two batches held at once are settled each by itself.
pub async fn batches_are_settled_apart(rig: &dyn LinkRig) {
    let coordinator = rig.coordinator().await;
    let agent = rig.agent("a").await;
    for number in 0..2 {
        soon(agent.report(&beat(number))).await.expect("up");
    }
    let first = soon(coordinator.next_reports(1)).await.expect("reports");
    let second = soon(coordinator.next_reports(1)).await.expect("reports");
    assert_eq!((numbers(&first), numbers(&second)), (vec![0], vec![1]));
    assert!(second.ack().await);
    first.requeue().await;
    let again = soon(coordinator.next_reports(10)).await.expect("reports");
    assert_eq!(numbers(&again), [0]);
    assert!(again.ack().await);
    assert_eq!(soon(coordinator.backlog()).await.expect("up"), 0);
}

/// A wait for reports that is given up, at whatever moment, loses none.
pub async fn a_dropped_wait_loses_no_report(rig: &dyn LinkRig) {
    let coordinator = rig.coordinator().await;
    let agent = rig.agent("a").await;
    let mut found = Vec::new();
    let mut patience: u64 = 0;
    for number in 0..20 {
        soon(agent.report(&beat(number))).await.expect("up");
        patience = (patience + 70) % 900;
        let wait = std::time::Duration::from_micros(patience);
        if let Ok(batch) = tokio::time::timeout(wait, coordinator.next_reports(3)).await {
            let batch = batch.expect("reports");
            found.extend(numbers(&batch));
            assert!(batch.ack().await);
        }
    }
    while found.len() < 20 {
        let batch = soon(coordinator.next_reports(3)).await.expect("reports");
        found.extend(numbers(&batch));
        assert!(batch.ack().await);
    }
    assert_eq!(found, (0..20).collect::<Vec<_>>());
}

/// Until a coordinator was there, its absence is said; then reports lie safe until it takes them.
pub async fn nobody_hears_reports_without_a_coordinator(rig: &dyn LinkRig) {
    let agent = rig.agent("a").await;
    // A broker that has never had a coordinator may say so.
    let nowhere = [Delivered::Unroutable, Delivered::NoFarm];
    assert!(nowhere.contains(&soon(agent.report(&beat(0))).await.expect("up")));
    assert!(nowhere.contains(&soon(agent.log(&chunk(0, b"x"))).await.expect("up")));
    let coordinator = rig.coordinator().await;
    assert_eq!(soon(agent.report(&beat(1))).await.expect("up"), Delivered::Yes);
    let batch = soon(coordinator.next_reports(9)).await.expect("reports");
    assert_eq!(numbers(&batch), [1]);
    assert!(batch.ack().await);
}

/// The backlog counts what is not settled, wherever it is.
pub async fn the_backlog_counts_what_is_unsettled(rig: &dyn LinkRig) {
    let coordinator = rig.coordinator().await;
    let agent = rig.agent("a").await;
    let backlog = || async { soon(coordinator.backlog()).await.expect("up") };
    assert_eq!(backlog().await, 0);
    for number in 0..5 {
        soon(agent.report(&beat(number))).await.expect("up");
        assert_eq!(backlog().await, number as usize + 1);
    }
    let first = soon(coordinator.next_reports(2)).await.expect("reports");
    assert_eq!((numbers(&first), backlog().await), (vec![0, 1], 5));
    assert!(first.ack().await);
    assert_eq!(backlog().await, 3);
    let rest = soon(coordinator.next_reports(9)).await.expect("reports");
    assert_eq!((numbers(&rest), backlog().await), (vec![2, 3, 4], 3));
    assert!(rest.ack().await);
    assert_eq!(backlog().await, 0);
    // Somebody who waits meanwhile still gets what comes.
    let (batch, _) = tokio::join!(soon(coordinator.next_reports(9)), async {
        backlog().await;
        soon(agent.report(&beat(5))).await.expect("up");
        backlog().await
    });
    assert!(batch.expect("reports").ack().await);
}

/// A report that cannot be read arrives as such, between the others.
pub async fn an_unreadable_report_is_handed_over(rig: &dyn LinkRig) {
    let coordinator = rig.coordinator().await;
    rig.publish_report(b"\0nonsense").await;
    let batch = soon(coordinator.next_reports(9)).await.expect("reports");
    let [Incoming { report: Err(bad), .. }] = &batch.items[..] else { panic!("not one bad message") };
    assert_eq!(&bad.body[..], b"\0nonsense");
    assert!(bad.reason.contains("cannot be read"), "{}", bad.reason);
    assert!(batch.ack().await);
}

/// Controls reach one agent, or all; one for an agent that is not there is returned.
pub async fn controls_go_to_one_or_all(rig: &dyn LinkRig) {
    let coordinator = rig.coordinator().await;
    let nobody = Address::Agent("nobody".parse::<AgentId>().expect("a name"));
    let beacon =
        Control::Beacon(Beacon { version: "1".to_owned(), label_queues: Vec::new(), every_ms: 1, heartbeat_ms: None });
    assert_eq!(soon(coordinator.control(&Address::All, &beacon)).await.expect("up"), Delivered::Unroutable);
    let (a, b) = (rig.agent("a").await, rig.agent("b").await);
    let claim = ClaimId::fresh();
    let to_a = Address::Agent("a".parse::<AgentId>().expect("a name"));
    let recorded = Control::Recorded { claim };
    assert_eq!(soon(coordinator.control(&nobody, &recorded)).await.expect("up"), Delivered::Unroutable);
    assert_eq!(soon(coordinator.control(&to_a, &Control::Unknown)).await.expect("up"), Delivered::Yes);
    assert_eq!(soon(coordinator.control(&to_a, &recorded)).await.expect("up"), Delivered::Yes);
    assert_eq!(soon(coordinator.control(&Address::All, &beacon)).await.expect("up"), Delivered::Yes);
    assert!(matches!(soon(a.next_control()).await, Ok(Control::Recorded { claim: c }) if c == claim));
    assert!(matches!(soon(a.next_control()).await, Ok(Control::Beacon(_))));
    assert!(matches!(soon(b.next_control()).await, Ok(Control::Beacon(_))));
}

fn chunk(offset: u64, bytes: &[u8]) -> LogChunk {
    let log = "build".parse().expect("a name");
    LogChunk {
        claim: ClaimId::fresh(),
        log,
        offset,
        at_ms: 1_700_000_000_000,
        bytes: Bytes::copy_from_slice(bytes),
        packed: false,
    }
}

/// Pieces of logs arrive byte by byte as they were sent.
pub async fn logs_arrive_byte_by_byte(rig: &dyn LinkRig) {
    let coordinator = rig.coordinator().await;
    let agent = rig.agent("a").await;
    let every: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let sent = [chunk(0, b"a\0b\r\n"), chunk(1 << 40, b""), chunk(5, &every)];
    for chunk in &sent {
        assert_eq!(soon(agent.log(chunk)).await.expect("up"), Delivered::Yes);
    }
    let mut found = Vec::new();
    while found.len() < sent.len() {
        let (chunks, settle) = soon(coordinator.next_logs(2)).await.expect("logs").split();
        found.extend(chunks.into_iter().map(|log| log.chunk.expect("a piece of a log")));
        assert!(settle.ack().await);
    }
    assert_eq!(found, sent);
}

/// Logs are bounded: what does not fit is said, and fits again after the rest was taken.
pub async fn logs_are_bounded(rig: &dyn LinkRig) {
    let bound = rig.bound_logs().await;
    let coordinator = rig.coordinator().await;
    let agent = rig.agent("a").await;
    let piece = chunk(0, &vec![b'x'; bound / 4]);
    let mut taken = 0;
    while soon(agent.log(&piece)).await.expect("up") == Delivered::Yes {
        taken += 1;
        assert!(taken <= 6, "there is no bound");
    }
    assert!(taken >= 3);
    assert_eq!(soon(agent.log(&piece)).await.expect("up"), Delivered::Full);
    while taken > 0 {
        let (chunks, settle) = soon(coordinator.next_logs(9)).await.expect("logs").split();
        taken -= chunks.len();
        assert!(settle.ack().await);
    }
    assert_eq!(soon(agent.log(&piece)).await.expect("up"), Delivered::Yes);
}

/// Replies go to a publisher's own queue with its correlation id, and nowhere else.
pub async fn replies_go_to_their_publisher(rig: &dyn LinkRig) {
    let coordinator = rig.coordinator().await;
    let agent = rig.agent("a").await;
    rig.declare_replies("mine").await;
    let status = StatusMessage {
        repo: "https://e.org/x".to_owned(),
        branch: None,
        build: Some(BuildNumber(7)),
        status: "passed".to_owned(),
        message: None,
        commit: None,
    };
    let to = |queue: &str, id: Option<&str>| ReplyTo { queue: queue.to_owned(), correlation_id: id.map(str::to_owned) };
    assert_eq!(soon(coordinator.reply(&to("mine", Some("c-1")), &status)).await.expect("up"), Delivered::Yes);
    assert_eq!(soon(agent.reply(&to("mine", None), &status)).await.expect("up"), Delivered::Yes);
    assert_eq!(soon(coordinator.reply(&to("gone", None), &status)).await.expect("up"), Delivered::Unroutable);
    let long = "x".repeat(300);
    for refused in ["build_queue", "build_queue.gpu", "buildr.events.v1", &long] {
        assert_eq!(soon(coordinator.reply(&to(refused, None), &status)).await.expect("up"), Delivered::Refused);
        assert_eq!(soon(agent.reply(&to(refused, None), &status)).await.expect("up"), Delivered::Refused);
    }
    let replies = rig.replies("mine").await;
    assert_eq!(replies.iter().map(|(id, _)| id.as_deref()).collect::<Vec<_>>(), [Some("c-1"), None]);
    for (_, body) in replies {
        let read: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((&read["status"], &read["build"]), (&"passed".into(), &7.into()));
    }
}

/// What is laid aside can be looked at, with where it came from and why.
pub async fn the_dead_are_laid_aside(rig: &dyn LinkRig) {
    let coordinator = rig.coordinator().await;
    let reason = format!("no job of this farm · {}", "long ".repeat(100));
    let dead = DeadLetter { body: Bytes::from_static(b"\0x"), queue: "build_queue".to_owned(), reason };
    soon(coordinator.bury(&dead)).await.expect("up");
    let found = rig.dead().await;
    let [found] = &found[..] else { panic!("not one message: {found:?}") };
    assert_eq!((&found.body, &found.queue, &found.reason), (&dead.body, &dead.queue, &dead.reason));
}

/// Closing ends every call that waits or comes later.
pub async fn closing_ends_all_calls(rig: &dyn LinkRig) {
    let coordinator = rig.coordinator().await;
    let agent = rig.agent("a").await;
    let queues = [LabelSet::default()];
    // Polled in this order, so that all of them wait when the line is closed.
    let (job, control, reports, logs, ()) = soon(async {
        tokio::join!(
            agent.next_job(&queues),
            agent.next_control(),
            coordinator.next_reports(1),
            coordinator.next_logs(1),
            rig.close()
        )
    })
    .await;
    assert!(matches!(job, Err(LinkError::Closed)));
    assert!(matches!(control, Err(LinkError::Closed)));
    assert!(matches!(reports, Err(LinkError::Closed)));
    assert!(matches!(logs, Err(LinkError::Closed)));
    assert!(matches!(soon(agent.next_job(&queues)).await, Err(LinkError::Closed)));
    assert!(matches!(soon(agent.next_control()).await, Err(LinkError::Closed)));
    assert!(matches!(soon(agent.report(&beat(1))).await, Err(LinkError::Closed)));
    assert!(matches!(soon(coordinator.next_reports(1)).await, Err(LinkError::Closed)));
    assert!(matches!(soon(coordinator.offer(&LabelSet::default(), &offer())).await, Err(LinkError::Closed)));
    assert!(matches!(soon(coordinator.backlog()).await, Err(LinkError::Closed)));
}
