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
use buildr::runner;
use buildr::sink::{EventSink, Lines, SinkError};
use bytes::Bytes;
use protocol::job::{QueueMessage, ReplyTo, StatusMessage, TriggerKind, WorkOrder};
use protocol::link::{Delivered, JobDelivery};
use protocol::report::JobEvent;
use protocol::{ClaimId, Ending, JobId, LogName};

use crate::Agent;

/// How long a job that only a coordinator can grant is left alone.
const NOT_OURS: Duration = Duration::from_secs(30);

/// One message, from the queue to its end.
pub(crate) async fn take(agent: &Arc<Agent>, delivery: JobDelivery) {
    let (repo, branch) = match delivery.message() {
        Ok(QueueMessage::Injected { repo, branch }) => (repo, branch),
        Ok(QueueMessage::Job(job)) => {
            tracing::warn!(%job, "this job is a coordinator's, and there is none; it goes back to the queue");
            delivery.requeue().await;
            tokio::select! {
                () = tokio::time::sleep(NOT_OURS) => {}
                () = agent.shutdown.drain.cancelled() => {}
            }
            return;
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
    reply(agent, to, &status).await;
    let stop = Stop::new();
    let claim = ClaimId::fresh();
    // The claim is nobody's but this process's: it lets a shutdown find the job.
    drop(agent.claims.running(claim, stop.clone()));
    let watched = agent.jobs.begin(order, sink);
    let ending = runner::run(order, &agent.rooms(), &watched, &stop).await;
    drop(watched);
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
        if let Message::Held(delivery) = std::mem::replace(&mut *message, Message::Acknowledged)
            && !delivery.ack().await
        {
            *message = Message::TakenBack;
            let reason = "the broker has taken the message back, so another agent may do it";
            return Err(SinkError(std::io::Error::other(reason)));
        }
        Ok(())
    }

    async fn log(&self, log: &LogName, bytes: Bytes) -> Result<(), SinkError> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(show(&lines.add(&(self.job, log.clone()), &format!("{log} | "), &bytes))?)
    }
}

/// Logs of all slots in the agent's one output.
pub(crate) type Console = Mutex<Lines<(JobId, LogName)>>;

fn show(text: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text)?;
    out.flush()
}
