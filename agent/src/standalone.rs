//! An agent on its own: RabbitMQ plus agents is a working farm. What is published by hand is built and answered
//! here; the message is acknowledged when the build is over, so that an agent that dies loses nothing.

use std::sync::Arc;

use async_trait::async_trait;
use buildr::executor::Stop;
use buildr::runner;
use buildr::sink::{EventSink, SinkError};
use bytes::Bytes;
use protocol::job::{QueueMessage, ReplyTo, StatusMessage, TriggerKind, WorkOrder};
use protocol::link::{Delivered, JobDelivery};
use protocol::report::JobEvent;
use protocol::{ClaimId, Ending, JobId, LogName};
use std::sync::Mutex;
use std::time::Duration;

use crate::Agent;

/// How long a job that only a coordinator can grant is left alone.
const NOT_OURS: Duration = Duration::from_secs(30);

/// One message, from the queue to its end.
pub(crate) async fn take(agent: &Arc<Agent>, delivery: JobDelivery) {
    let (repo, branch) = match QueueMessage::read(&delivery.body) {
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
    let order = WorkOrder {
        job: JobId::fresh(),
        build: None,
        attempt: 1,
        trigger: TriggerKind::Injected,
        repo,
        branch,
        commit: None,
        plan: None,
        // There is no coordinator to ask: the agent's own list of repositories decides alone.
        trusted: true,
        secrets: Vec::new(),
    };
    let ending = run(agent, &order, delivery.reply.as_ref()).await;
    let Some(ending) = ending else {
        delivery.requeue().await;
        return;
    };
    tracing::info!(repo = %order.repo, outcome = %ending.outcome, message = ending.message, "build ends");
    if !delivery.ack().await {
        tracing::warn!("the broker had taken the message back meanwhile, and will deliver it again");
    }
}

/// Runs it, unless the agent is stopped meanwhile: then another agent shall have it (`None`).
async fn run(agent: &Agent, order: &WorkOrder, to: Option<&ReplyTo>) -> Option<Ending> {
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
    let sink = ConsoleSink::default();
    let ending = runner::run(order, &agent.rooms(), &sink, &stop).await;
    agent.claims.forget(claim);
    if stop.is_cancelled() && agent.shutdown.drain.is_cancelled() {
        return None;
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
#[derive(Default)]
struct ConsoleSink {
    commit: Mutex<Option<protocol::CommitId>>,
}

#[async_trait]
impl EventSink for ConsoleSink {
    async fn emit(&self, event: JobEvent) -> Result<(), SinkError> {
        match event {
            JobEvent::CheckedOut { commit, .. } => {
                if let Ok(mut known) = self.commit.lock() {
                    *known = commit;
                }
            }
            JobEvent::StageStarted { stage, image } => tracing::info!(%stage, image, "stage begins"),
            JobEvent::StageEnded { stage, result, duration_ms } => {
                tracing::info!(%stage, result = result.name(), detail = result.detail(), duration_ms, "stage ends");
            }
            JobEvent::Settled { .. }
            | JobEvent::Planned { .. }
            | JobEvent::LogComplete { .. }
            | JobEvent::Finished { .. }
            | JobEvent::Unknown => {}
        }
        Ok(())
    }

    async fn log(&self, log: &LogName, bytes: Bytes) -> Result<(), SinkError> {
        use std::io::Write as _;
        let mut out = std::io::stdout().lock();
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            write!(out, "[{log}] ")?;
            out.write_all(line)?;
            if line.last() != Some(&b'\n') {
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    }
}
