//! An agent on its own: RabbitMQ plus agents is a working farm. What is published by hand is built and answered
//! here; the message is acknowledged when the build is over, so that an agent that dies loses nothing.
//!
//! A stage that must not run twice is the exception: there is no store that could remember that it began, only the
//! message, which comes again when this agent or its line dies. So the message is acknowledged before such a stage
//! begins, and when that does not count, the stage does not begin: another agent may have the message already. From
//! then on nobody tries the build again, and an agent that dies under it leaves its publisher without an answer.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use buildr::executor::Stop;
use buildr::runner::{self, Answer, Gatekeeper, NobodyToAsk, Place, Rooms, Ways};
use buildr::sink::{BuildSink, EventSink, Lines, SinkError};
use bytes::Bytes;
use protocol::job::{QueueMessage, ReplyTo, StatusMessage, TriggerKind, WorkOrder};
use protocol::link::{Delivered, JobDelivery};
use protocol::plan::Gate;
use protocol::report::JobEvent;
use protocol::{Cause, ClaimId, Ending, JobId, JobKey, LabelSet, LogName, PlannedJob};
use tokio::task::JoinSet;

use crate::Agent;
use crate::config::Standalone;
use crate::jobs::Watched;
use crate::presence::Presence;

/// How long a job that only a coordinator can grant is left alone.
const NOT_OURS: Duration = Duration::from_secs(30);

/// How many such jobs an agent keeps out of the way at once: each has a channel of its own, of which a connection has
/// 2,047.
const MOST_ASIDE: usize = 1_000;

/// Jobs that only a coordinator can grant. They are kept from the queue for a while: put back at once they would stand
/// at its head, and be all that the slots of this agent ever meet. This being dropped gives them back.
#[derive(Default)]
pub(crate) struct Aside(JoinSet<()>);

impl Aside {
    /// Keeps a job until a coordinator comes, the agent drains, or it has been long enough. Who is told to heed no
    /// coordinator gives it back at once, and rests: there may be one, and agents of its own.
    async fn put(&mut self, agent: &Arc<Agent>, delivery: JobDelivery) {
        let drain = agent.shutdown.drain.clone();
        if agent.config.standalone == Standalone::Always {
            delivery.requeue().await;
            drain.run_until_cancelled(tokio::time::sleep(NOT_OURS)).await;
            return;
        }
        while self.0.try_join_next().is_some() {}
        let slots = usize::try_from(agent.config.slots).unwrap_or(MOST_ASIDE);
        if self.0.len() >= (MOST_ASIDE / slots.max(1)).max(1) {
            self.0.join_next().await;
        }
        let mut presence = agent.presence.clone();
        self.0.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(NOT_OURS) => {}
                () = drain.cancelled() => {}
                _ = presence.wait_for(|presence| *presence != Presence::Alone) => {}
            }
            delivery.requeue().await;
        });
    }
}

/// One message, from the queue to its end.
pub(crate) async fn take(agent: &Arc<Agent>, delivery: JobDelivery, aside: &mut Aside) {
    let (repo, branch) = match delivery.message() {
        Ok(QueueMessage::Injected { repo, branch }) => (repo, branch),
        Ok(QueueMessage::Job(job)) => {
            tracing::warn!(%job, "this job is a coordinator's, and there is none; it is left alone");
            return aside.put(agent, delivery).await;
        }
        Err(problem) => {
            tracing::warn!(queue = delivery.queue, %problem, "a message is no job; it is dropped");
            let status = StatusMessage {
                repo: String::new(),
                branch: None,
                build: None,
                status: "rejected".to_owned(),
                message: Some(problem.to_string()),
                commit: None,
            };
            reply(agent, delivery.reply.as_ref(), &status).await;
            delivery.ack().await;
            return;
        }
    };
    // There is no coordinator to ask: the agent's own list of repositories decides alone.
    let trusted = agent.config.socket.trusts(&repo);
    let order = WorkOrder { branch, trusted, ..WorkOrder::new(JobId::fresh(), TriggerKind::Injected, repo) };
    let reply = delivery.reply.clone();
    let message = tokio::sync::Mutex::new(Message::Held(delivery));
    let sink = ConsoleSink { lines: &agent.console, job: order.job, commit: Mutex::default(), message };
    let ending = run(agent, &order, reply.as_ref(), &sink).await;
    match (ending, sink.message.into_inner()) {
        (Some(ending), message) => {
            tracing::info!(repo = %order.repo, outcome = %ending.outcome, message = ending.message, "build ends");
            if let Message::Held(delivery) = message
                && !delivery.ack().await
            {
                tracing::warn!("the broker had taken the message back meanwhile, and will deliver it again");
            }
        }
        (None, Message::Held(delivery)) => delivery.requeue().await,
        (None, Message::Acknowledged | Message::TakenBack) => {}
    }
}

/// Where the message is that asked for a build.
enum Message {
    /// Here; when this agent dies, another gets it.
    Held(JobDelivery),
    /// Off the queue, for good.
    Acknowledged,
    /// With the broker again, which gives it to an agent once more.
    TakenBack,
}

/// Runs it, unless another agent shall have it (`None`): because this one is stopped meanwhile, or because it has the
/// message already.
async fn run(agent: &Agent, order: &WorkOrder, to: Option<&ReplyTo>, sink: &ConsoleSink<'_>) -> Option<Ending> {
    let mut status = StatusMessage {
        repo: order.repo.to_string(),
        branch: order.branch.clone(),
        build: None,
        status: "running".to_owned(),
        message: None,
        commit: None,
    };
    tracing::info!(repo = %order.repo, branch = ?order.branch, "build begins");
    let stop = Stop::new();
    let claim = ClaimId::fresh();
    // The claim is nobody's but this process's: it lets a shutdown find the job.
    agent.claims.alone(claim, stop.clone());
    agent.cancel_too(&stop);
    reply(agent, to, &status).await;
    let ending = build(agent, order, sink, &stop).await;
    agent.claims.forget(claim);
    let stopped = stop.is_cancelled() && agent.shutdown.drain.is_cancelled();
    match &*sink.message.lock().await {
        Message::Held(_) if stopped => return None,
        Message::TakenBack => {
            tracing::warn!("the broker had taken the message back; the build is left to whom it is delivered again");
            return None;
        }
        Message::Held(_) | Message::Acknowledged => {}
    }
    status.status = ending.outcome.name().to_owned();
    status.message = ending.message.clone();
    status.commit = sink.commit.lock().ok().and_then(|commit| commit.clone());
    reply(agent, to, &status).await;
    Some(ending)
}

/// All of its jobs, one after the other: they have one slot.
async fn build(agent: &Agent, order: &WorkOrder, console: &ConsoleSink<'_>, stop: &Stop) -> Ending {
    // What jobs of one build leave for each other lives as long as it.
    let archives = match agent.home.archives() {
        Ok(archives) => archives,
        Err(error) => {
            let message = format!("failed to make a folder for artifacts in {}: {error}", agent.home.path().display());
            return Ending::errored(Cause::Daemon, message);
        }
    };
    let rooms = Rooms { archives: Some(archives.path()), ..agent.rooms() };
    let ways = Ways { jobs: 1, gatekeeper: &Alone { labels: &agent.config.labels } };
    let whole = Whole { watched: agent.jobs.begin(order, console), console };
    runner::run_build(order, &rooms, &ways, &whole, stop).await
}

/// An agent without a farm: nobody can be asked, and there is no other machine.
struct Alone<'a> {
    labels: &'a LabelSet,
}

#[async_trait]
impl Gatekeeper for Alone<'_> {
    async fn answer(&self, job: &PlannedJob, gate: &Gate) -> Answer {
        NobodyToAsk.answer(job, gate).await
    }

    fn place(&self, job: &PlannedJob) -> Place {
        if job.labels.satisfied_by(self.labels) {
            return NobodyToAsk.place(job);
        }
        let wanted = &job.labels;
        Place::Nowhere(format!("it asks for an agent with {wanted}, and this one, which knows no coordinator, is none"))
    }
}

/// All jobs of a build, in the agent's own output.
struct Whole<'a> {
    watched: Watched<'a>,
    console: &'a ConsoleSink<'a>,
}

impl BuildSink for Whole<'_> {
    fn of_job(&self, job: Option<&JobKey>) -> Box<dyn EventSink + '_> {
        Box::new(OfJob { whole: self, key: job.cloned() })
    }

    fn passed_over(&self, job: &JobKey, reason: &str) {
        tracing::info!(%job, reason, "job skipped");
    }
}

/// One of them.
struct OfJob<'a> {
    whole: &'a Whole<'a>,
    key: Option<JobKey>,
}

#[async_trait]
impl EventSink for OfJob<'_> {
    async fn emit(&self, event: JobEvent) -> Result<(), SinkError> {
        self.whole.watched.emit(event).await
    }

    async fn emit_certain(&self, event: JobEvent) -> Result<(), SinkError> {
        self.whole.watched.emit_certain(event).await
    }

    async fn log(&self, log: &LogName, bytes: Bytes) -> Result<(), SinkError> {
        self.whole.console.add(self.key.as_ref(), log, &bytes)
    }
}

/// Best effort: a publisher who has gone, or a broker that forbids it, holds nothing up.
async fn reply(agent: &Agent, to: Option<&ReplyTo>, status: &StatusMessage) {
    let Some(to) = to else { return };
    if to.is_forbidden() {
        tracing::warn!(queue = to.queue, "no reply: it would go to one of the farm's own queues");
        return;
    }
    match agent.link.reply(to, status).await {
        Ok(Delivered::Yes) => {}
        Ok(Delivered::Refused) => tracing::warn!(queue = to.queue, "no reply: permission"),
        Ok(_) => tracing::info!(queue = to.queue, "no reply: nobody listens there"),
        Err(error) => tracing::warn!(%error, queue = to.queue, "no reply"),
    }
}

/// Shows a build in the agent's own output, line by line.
struct ConsoleSink<'a> {
    lines: &'a Console,
    job: JobId,
    commit: Mutex<Option<protocol::CommitId>>,
    message: tokio::sync::Mutex<Message>,
}

#[async_trait]
impl EventSink for ConsoleSink<'_> {
    async fn emit(&self, event: JobEvent) -> Result<(), SinkError> {
        match event {
            JobEvent::CheckedOut { commit, .. } => {
                if let Ok(mut known) = self.commit.lock() {
                    *known = commit;
                }
            }
            JobEvent::StageStarted { stage, image, .. } => tracing::info!(%stage, image, "stage begins"),
            JobEvent::StageEnded { stage, result, duration_ms } => {
                show(self.lines.lock().unwrap_or_else(PoisonError::into_inner).close())?;
                tracing::info!(%stage, result = result.name(), detail = result.detail(), duration_ms, "stage ends");
            }
            JobEvent::Settled { .. }
            | JobEvent::Planned { .. }
            | JobEvent::LogComplete { .. }
            | JobEvent::Finished { .. }
            | JobEvent::ImageFound { .. }
            | JobEvent::StageTried { .. }
            | JobEvent::StageReused { .. }
            | JobEvent::ArtifactsKept { .. }
            | JobEvent::TestsRead { .. }
            | JobEvent::CoverageRead { .. }
            | JobEvent::HandedOn { .. }
            | JobEvent::Summary { .. }
            | JobEvent::Unknown => {}
        }
        Ok(())
    }

    async fn emit_certain(&self, event: JobEvent) -> Result<(), SinkError> {
        self.emit(event).await?;
        let mut message = self.message.lock().await;
        // So it stands when this is dropped under way: the publisher is answered in any case.
        let is_ours = match std::mem::replace(&mut *message, Message::Acknowledged) {
            Message::Held(delivery) => delivery.ack().await,
            Message::Acknowledged => true,
            // As it was found for an earlier stage.
            Message::TakenBack => false,
        };
        if is_ours {
            return Ok(());
        }
        *message = Message::TakenBack;
        let reason = "the broker has taken the message back, so another agent may do it";
        Err(SinkError(std::io::Error::other(reason)))
    }

    async fn log(&self, log: &LogName, bytes: Bytes) -> Result<(), SinkError> {
        self.add(None, log, &bytes)
    }
}

impl ConsoleSink<'_> {
    /// Adds to a log; its lines say whose they are.
    fn add(&self, key: Option<&JobKey>, log: &LogName, bytes: &[u8]) -> Result<(), SinkError> {
        // A build of one job is that job.
        let prefix = match key.filter(|key| key.as_str() != "build") {
            Some(key) => format!("{key}: {log} | "),
            None => format!("{log} | "),
        };
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(show(&lines.add(&(self.job, key.cloned(), log.clone()), &prefix, bytes))?)
    }
}

/// Logs of all slots in the agent's one output.
pub(crate) type Console = Mutex<Lines<(JobId, Option<JobKey>, LogName)>>;

fn show(text: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_that_was_taken_back_lets_no_later_stage_begin_either() {
        let lines = Console::default();
        let message = tokio::sync::Mutex::new(Message::TakenBack);
        let sink = ConsoleSink { lines: &lines, job: JobId::fresh(), commit: Mutex::default(), message };
        let begins = async || {
            let (stage, image) = ("deploy".parse().unwrap(), "x".to_owned());
            sink.emit_certain(JobEvent::StageStarted { stage, image, not_twice: true }).await.is_ok()
        };
        assert_eq!([begins().await, begins().await], [false, false]);
        *sink.message.lock().await = Message::Acknowledged;
        assert!(begins().await);
    }
}
