//! From what agents report to what is true. A batch of reports is applied in one transaction; only after it is on
//! the disk are agents answered, listeners told, and the reports acknowledged. So nothing that was answered is ever
//! lost, and a batch that could not be stored comes again.

mod answers;
mod cancel;
mod claims;
mod enrolment;
mod gates;
mod given_up;
mod standing;
mod heartbeat;
mod logs;
mod outbox;
mod noted;
mod orders;
mod planned;
mod progress;
mod scheduled;
mod voices;

use std::sync::Arc;
use std::time::Duration;

use buildr::process::clock::now_ms;
use protocol::api::IncidentKind;
use protocol::job::{ReplyTo, StatusMessage};
use protocol::link::{DeadLetter, Incoming, LinkError};
use protocol::report::{Rejected, Report, Said};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::store::{Sent, StoreError, Transaction};

use answers::Untold;
pub(crate) use answers::{Answers, tell_receipts};
pub(crate) use cancel::cancel;
pub(crate) use enrolment::{Approval, approve};
pub(crate) use gates::{GateRefusal, Person, answer};
pub(crate) use given_up::lay_aside_given_up;
pub(crate) use logs::run as keep_logs;
pub(crate) use outbox::run as send_outbox;
pub(crate) use standing::{AgentRefusal, forget, pause as pause_agent, resume as resume_agent, revoke};

/// How many reports are applied together: enough that one write to the disk serves many agents, few enough that
/// none of them waits long for its answer.
const BATCH: usize = 256;

/// How often a job is tried when agents are lost under it.
pub(crate) const MAX_LOST: u32 = 2;

/// How often a job is tried at all: more often than agents may be lost under it, for what else fails takes no agent with it.
pub(crate) const MAX_ATTEMPTS: u32 = 3;

/// How long it waits before it tries again to store what could not be stored.
const PAUSE: Duration = Duration::from_secs(1);

/// The queue that reports come from, as it stands on messages that are laid aside.
const EVENTS: &str = "buildr.events.v1";

/// How many batches' answers may wait to be told: one is told while the next batch is stored.
const UNTOLD: usize = 1;

/// Applies reports until `shutdown`, or until the line is closed.
pub(crate) async fn run(desk: Arc<Desk>, shutdown: CancellationToken) {
    // One after the other, so that what an agent hears does not overtake itself.
    let (tell, mut untold) = mpsc::channel::<Untold>(UNTOLD);
    let telling = async {
        while let Some(untold) = untold.recv().await {
            untold.tell(&desk).await;
        }
    };
    tokio::join!(apply_all(&desk, &shutdown, tell), telling);
}

async fn apply_all(desk: &Desk, shutdown: &CancellationToken, tell: mpsc::Sender<Untold>) {
    loop {
        let batch = tokio::select! {
            () = shutdown.cancelled() => return,
            batch = desk.link.next_reports(BATCH) => batch,
        };
        let (reports, settle) = match batch {
            Ok(batch) => batch.split(),
            Err(LinkError::Closed) => return,
            Err(error) => {
                tracing::warn!("reports cannot be read at present: {error}");
                pause(shutdown).await;
                continue;
            }
        };
        match apply(desk, &reports).await {
            Ok(answers) => {
                desk.store.note_trouble(Sent::Reports, None);
                let untold = answers.say_here(desk);
                // When it does not count the reports come again, and change nothing then.
                settle.ack().await;
                // It is received as long as this goes on.
                tell.send(untold).await.ok();
            }
            Err(error) => {
                tracing::error!("{} reports wait to be stored: {error}", reports.len());
                let waits = format!("what agents report waits to be stored: {error}");
                desk.store.note_trouble(Sent::Reports, Some(waits));
                settle.requeue().await;
                pause(shutdown).await;
            }
        }
    }
}

async fn pause(shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = sleep(PAUSE) => {}
    }
}

/// Applies a batch: in one transaction, or, when one report cannot be stored whatever is done, each on its own.
async fn apply(desk: &Desk, reports: &[Incoming]) -> Result<Answers, StoreError> {
    match apply_together(desk, reports).await {
        Err(error) if error.is_about_the_content() => {}
        result => return result,
    }
    let mut all = Answers::default();
    for report in reports {
        match apply_together(desk, std::slice::from_ref(report)).await {
            Ok(answers) => all.join(answers),
            Err(error) if error.is_about_the_content() => all.join(lay_aside(desk, report, &error).await?),
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

async fn apply_together(desk: &Desk, reports: &[Incoming]) -> Result<Answers, StoreError> {
    let mut answers = Answers::default();
    let mut tx = desk.store.write().await?;
    let mut turn = Turn { desk, tx: &mut tx, answers: &mut answers, now_ms: now_ms() };
    for report in reports {
        turn.take(report).await?;
    }
    answers.follow(tx.take_effects());
    tx.commit().await?;
    Ok(answers)
}

async fn lay_aside(desk: &Desk, report: &Incoming, error: &StoreError) -> Result<Answers, StoreError> {
    tracing::error!("a report is laid aside, for it cannot be stored: {error}");
    let body = match &report.report {
        Ok(report) => serde_json::to_vec(report).unwrap_or_default().into(),
        Err(bad) => bad.body.clone(),
    };
    let letter = DeadLetter { body, queue: EVENTS.to_owned(), reason: error.to_string() };
    let mut tx = desk.store.write().await?;
    tx.lay_aside(&letter, now_ms()).await?;
    tx.note_incident(IncidentKind::Unreadable, EVENTS, &letter.reason, now_ms()).await?;
    tx.commit().await?;
    Ok(Answers::default())
}

/// One transaction's worth of reports: where they are written, and what is to be said once they are.
struct Turn<'a> {
    desk: &'a Desk,
    tx: &'a mut Transaction,
    answers: &'a mut Answers,
    now_ms: u64,
}

impl Turn<'_> {
    async fn take(&mut self, incoming: &Incoming) -> Result<(), StoreError> {
        let report = match &incoming.report {
            Ok(report) => report,
            Err(bad) => return self.lay_aside(EVENTS, bad.body.clone(), &bad.reason).await,
        };
        match report {
            Report::Said(signed) => self.said(signed, incoming.user.as_deref()).await,
            Report::Claim(claim) => self.claim(claim, incoming.user.as_deref()).await,
            Report::Unknown => Ok(()),
            unsigned => self.unsigned(unsigned, incoming.user.as_deref()).await,
        }
    }

    /// What an agent said, once it is sure that it did.
    async fn believe(&mut self, report: &Report, said: &Said, user: Option<&str>) -> Result<(), StoreError> {
        match report {
            // Somebody plays it again: its life, its labels and its user may be others by now.
            Report::Hello(_) if self.desk.presence.is_old(&said.agent, said.boot, said.count) => Ok(()),
            Report::Hello(hello) => {
                let before = self.answers.begin_beat();
                self.hello(hello, user).await?;
                self.answers.end_beat(before, said);
                Ok(())
            }
            Report::Heartbeat(heartbeat) => {
                let before = self.answers.begin_beat();
                self.heartbeat(heartbeat).await?;
                self.answers.end_beat(before, said);
                Ok(())
            }
            Report::Bye { agent, boot } => self.bye(agent, *boot).await,
            Report::Abandoned { agent, claim } => self.abandoned(agent, *claim).await,
            Report::Rejected(rejected) => self.rejected(rejected).await,
            Report::Progress(progress) => self.progress(&said.agent, progress).await,
            Report::Events(events) => self.events(&said.agent, events).await,
            Report::Claim(_) | Report::Said(_) | Report::Unknown => Ok(()),
        }
    }

    async fn rejected(&mut self, rejected: &Rejected) -> Result<(), StoreError> {
        if self.tx.is_known_finding(rejected, self.now_ms).await? {
            return Ok(());
        }
        let body = rejected.excerpt.clone().into_bytes().into();
        let reason = format!("{} (found by agent {})", rejected.reason, rejected.agent);
        self.lay_aside(&rejected.queue, body, &reason).await?;
        self.tx.name_finding(rejected).await?;
        self.reply_rejected(rejected.reply.as_ref(), String::new(), &rejected.reason).await
    }

    async fn lay_aside(&mut self, queue: &str, body: bytes::Bytes, reason: &str) -> Result<(), StoreError> {
        self.lay_aside_as(IncidentKind::Unreadable, queue, body, reason).await
    }

    async fn lay_aside_as(
        &mut self,
        kind: IncidentKind,
        queue: &str,
        body: bytes::Bytes,
        reason: &str,
    ) -> Result<(), StoreError> {
        tracing::warn!("a message from {queue} is laid aside: {reason}");
        let letter = DeadLetter { body, queue: queue.to_owned(), reason: reason.to_owned() };
        self.tx.lay_aside(&letter, self.now_ms).await?;
        self.tx.note_incident(kind, queue, reason, self.now_ms).await
    }

    async fn reply_rejected(&mut self, reply: Option<&ReplyTo>, repo: String, reason: &str) -> Result<(), StoreError> {
        let Some(reply) = allowed(reply) else { return Ok(()) };
        let message = Some(reason.to_owned());
        let status =
            StatusMessage { repo, branch: None, build: None, status: "rejected".to_owned(), message, commit: None };
        self.tx.insert_reply(&reply, &status).await?;
        Ok(())
    }
}

/// Where status messages may go: not to the farm's own queues, which one could otherwise fill with them.
fn allowed(reply: Option<&ReplyTo>) -> Option<ReplyTo> {
    let reply = reply?;
    if reply.is_forbidden() {
        tracing::warn!("a reply to {:?} was refused: that name is the farm's own", reply.queue);
        return None;
    }
    Some(reply.clone())
}

#[cfg(test)]
mod tests;
