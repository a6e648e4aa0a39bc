//! One slot: takes a job, claims it, runs it, and begins again.
//!
//! The message is acknowledged when the claim is granted, not when the build ends: so no time limit of the broker,
//! and no broken connection, ever touches a running build.

use std::sync::Arc;
use std::time::Duration;

use buildr::executor::Stop;
use buildr::runner::{self, Ended, Source};
use protocol::control::{Grant, SignedGrant};
use protocol::identity::{IdentityError, OneTimeKey, Sealed, Signed};
use protocol::job::{Malformed, QueueMessage};
use protocol::link::{Delivered, Health, JobDelivery, LinkError};
use protocol::report::{Claim, ClaimSubject, JobEvent, Rejected, Report};
use protocol::{Cause, ClaimId, Ending, LabelSet, Outcome};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::claims::Answer;
use crate::presence::Presence;
use crate::ready::Ready;
use crate::reporter::{Reads, Reporter, Sender, Taken};
use crate::spool::ClaimSpool;
use crate::standalone::Aside;
use crate::{Agent, standalone};

/// How long an unanswered claim waits before it is said again; it is said again and again.
const CLAIM_AGAIN: Duration = Duration::from_secs(3);

/// How long a claim may go unanswered before the message goes back to its queue: well below the shortest time in
/// which a broker takes back a delivery by itself.
const CLAIM_GIVEN_UP: Duration = Duration::from_secs(10 * 60);

/// How long a slot rests after something that it can only wait for.
const REST: Duration = Duration::from_secs(1);

/// The longest such rest: a daemon that is back is found within it.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// Takes and runs jobs until the agent drains.
pub(crate) async fn keep(agent: Arc<Agent>) {
    let mut ready = Ready::default();
    take_jobs(&agent, &mut ready).await;
    ready.end(&*agent.executor).await;
}

async fn take_jobs(agent: &Arc<Agent>, ready: &mut Ready) {
    let mut presence = agent.presence.clone();
    let mut standing = agent.standing.follow();
    let mut aside = Aside::default();
    loop {
        let now = presence.borrow_and_update().clone();
        let paused = standing.borrow_and_update().sentence().is_some();
        let queues = match &now {
            _ if paused => None,
            Presence::Enrolled { queues } => Some(queues.clone()),
            Presence::Alone => Some(vec![LabelSet::default()]),
            Presence::Unknown | Presence::NotEnrolled { .. } | Presence::Away => None,
        };
        ready.prepare(&*agent.executor, &agent.work, &agent.checkouts).await;
        let next = async {
            match &queues {
                Some(queues) => agent.link.next_job(queues).await,
                None => std::future::pending().await,
            }
        };
        let taken = tokio::select! {
            // In this order: what is delivered together with the word of a coordinator is that coordinator's.
            biased;
            () = agent.shutdown.drain.cancelled() => return,
            changed = presence.changed() => if changed.is_ok() { continue } else { return },
            changed = standing.changed() => if changed.is_ok() { continue } else { return },
            taken = next => taken,
        };
        match taken {
            Ok(delivery) if now == Presence::Alone => standalone::take(agent, delivery, &mut aside).await,
            Ok(delivery) => take(agent, delivery, ready).await,
            Err(LinkError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "no job could be taken");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// One message, from the queue to its end.
async fn take(agent: &Arc<Agent>, delivery: JobDelivery, ready: &mut Ready) {
    let message = match delivery.message() {
        Ok(message) => message,
        Err(problem) => return reject(agent, delivery, &problem).await,
    };
    let claim = ClaimId::fresh();
    let at = Instant::now();
    let by_hand = matches!(message, QueueMessage::Injected { .. });
    match claimed(agent, claim, &delivery, message).await {
        Claimed::Granted(grant) => {
            let granted_after = at.elapsed();
            let spool = match agent.spool.begin(claim) {
                Ok(spool) => Arc::new(spool),
                Err(error) => {
                    tracing::error!(%error, "no job can be run: what it says could not be kept");
                    agent.look_at_disks.notify_one();
                    return give_back(agent, claim, delivery).await;
                }
            };
            // Begun before the acknowledgement: a heartbeat in between must say that the claim is held.
            let stop = Stop::new();
            let recorded = agent.claims.running(claim, stop.clone());
            agent.cancel_too(&stop);
            let acknowledged = delivery.ack().await;
            agent.heartbeat_every.send_if_modified(|every| {
                let wanted = Duration::from_millis(grant.heartbeat_ms);
                std::mem::replace(every, wanted) != wanted
            });
            // What a message by hand became is not to be done again with it; of the coordinator's own, its job decides.
            if by_hand && let Err(error) = spool.event(JobEvent::Settled { acknowledged }) {
                tracing::error!(%error, "what became of the message could not be kept");
            }
            let taken = Taken { granted_after, begun_after: at.elapsed() };
            run(agent, ready, spool, &grant, stop, recorded, taken).await;
        }
        Claimed::Denied(reason) => {
            tracing::info!(reason, "a claim was denied; the message is dropped");
            delivery.ack().await;
        }
        Claimed::GivenUp(reason) => {
            tracing::warn!(reason, "a claim is given up; the message goes back");
            give_back(agent, claim, delivery).await;
        }
    }
}

/// Leaves a message, and its job, to others.
async fn give_back(agent: &Agent, claim: ClaimId, delivery: JobDelivery) {
    let abandoned = Report::Abandoned { agent: agent.home.name().clone(), claim };
    let told = agent.link.report(&abandoned).await;
    delivery.requeue().await;
    if told.is_err() {
        say_when_up(agent, &abandoned).await;
    }
    tokio::time::sleep(REST).await;
}

/// Says something as soon as the line is up. A claim that was granted in vain would else hold its job for a whole lease,
/// and be counted as an attempt. No other job can be taken meanwhile anyhow.
async fn say_when_up(agent: &Agent, report: &Report) {
    let mut health = agent.link.health();
    loop {
        tokio::select! {
            () = agent.shutdown.drain.cancelled() => return,
            up = health.wait_for(|health| matches!(health, Health::Up(_))) => if up.is_err() { return },
        }
        match agent.link.report(report).await {
            Err(LinkError::Away(_)) => tokio::time::sleep(REST).await,
            _ => return,
        }
    }
}

/// What became of a claim.
enum Claimed {
    Granted(Box<Grant>),
    Denied(String),
    GivenUp(String),
}

/// Claims a job, again and again until it is answered.
async fn claimed(agent: &Agent, claim: ClaimId, delivery: &JobDelivery, message: QueueMessage) -> Claimed {
    let (key, sealing) = OneTimeKey::generate();
    let subject = match message {
        QueueMessage::Job(job) => ClaimSubject::Job { job },
        QueueMessage::Injected { repo, branch } => ClaimSubject::Injected {
            repo,
            branch,
            message_id: delivery.message_id.clone(),
            digest: digest(&delivery.body),
            reply: delivery.reply.clone(),
        },
    };
    let content = Claim {
        claim,
        agent: agent.home.name().clone(),
        boot: agent.boot,
        subject,
        sealing,
        queue: delivery.queue.clone(),
        redelivered: delivery.redelivered,
    };
    let report = match Signed::new(agent.home.identity(), &content) {
        Ok(signed) => Report::Claim(signed),
        Err(error) => return Claimed::GivenUp(error.to_string()),
    };
    let answer = agent.claims.pending(claim);
    let claimed = match answered(agent, &report, answer).await {
        Ok(Answer::Granted(sealed)) => opened(agent, claim, &key, &sealed),
        Ok(Answer::Denied(reason)) => Claimed::Denied(reason),
        Err(given_up) => given_up,
    };
    agent.claims.forget(claim);
    claimed
}

/// Says a claim until it is answered, or given up. The answer is often here before the broker's word that it has the
/// claim: it is not waited for.
async fn answered(agent: &Agent, report: &Report, mut answer: oneshot::Receiver<Answer>) -> Result<Answer, Claimed> {
    let mut presence = agent.presence.clone();
    let began = Instant::now();
    let given_up = |reason: &str| Err(Claimed::GivenUp(reason.to_owned()));
    loop {
        let heard = agent.say(report.clone());
        let nobody_hears = async {
            match heard.await {
                Ok(Ok(Delivered::Unroutable | Delivered::NoFarm | Delivered::Refused)) => {}
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = &mut answer => match answer {
                Ok(answer) => return Ok(answer),
                Err(_) => return given_up("the agent forgot the claim"),
            },
            () = nobody_hears => return given_up("no coordinator hears claims"),
            () = agent.shutdown.drain.cancelled() => return given_up("the agent is being stopped"),
            // Who may take no jobs, or whose coordinator is away, leaves the message to others.
            _ = presence.wait_for(|presence| !matches!(presence, Presence::Enrolled { .. })) => {
                return given_up("the agent takes no jobs any more");
            }
            () = tokio::time::sleep(CLAIM_AGAIN) => {}
        }
        if began.elapsed() > CLAIM_GIVEN_UP {
            return given_up("the coordinator does not answer");
        }
    }
}

/// SHA-256 in hexadecimal.
fn digest(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

/// Opens a grant; one that is not the coordinator's own is worth nothing.
fn opened(agent: &Agent, claim: ClaimId, key: &OneTimeKey, sealed: &Sealed) -> Claimed {
    let open = || -> Result<Grant, IdentityError> {
        let signed: SignedGrant = key.open(claim, sealed)?;
        let coordinator = agent.home.coordinator().ok().flatten().ok_or(IdentityError::BadKey)?;
        let grant = signed.verify(&coordinator)?;
        if grant.claim == claim { Ok(grant) } else { Err(IdentityError::BadContent) }
    };
    match open() {
        Ok(grant) => Claimed::Granted(Box::new(grant)),
        Err(error) => Claimed::GivenUp(format!("a grant is not the coordinator's: {error}")),
    }
}

/// Runs a granted job. The slot is free when the result is on the disk; sending goes on beside it.
async fn run(
    agent: &Arc<Agent>,
    ready: &mut Ready,
    spool: Arc<ClaimSpool>,
    Grant { order, reads_events, reads_packed, .. }: &Grant,
    stop: Stop,
    recorded: tokio::sync::watch::Receiver<bool>,
    taken: Taken,
) {
    let kept = agent.marks.follow(spool.claim());
    let reporter = Reporter { spool: Arc::clone(&spool), claims: agent.claims.clone(), kept: kept.clone(), taken };
    let (sent, link) = (Arc::clone(&spool), Arc::clone(&agent.link));
    let reads = Reads { events: *reads_events, packed: *reads_packed };
    agent.send(Sender { spool: sent, link, recorded, kept, reads });
    tracing::info!(job = %order.job, build = ?order.build, attempt = order.attempt, repo = %order.repo, "job begins");
    let watched = agent.jobs.begin(order, &reporter);
    // For this job alone: what the agent lays out ahead for others knows nothing of it.
    let opened = order.credentials.as_ref().map(|own| agent.checkouts.with_credentials(&order.repo, own));
    let mut rooms = agent.rooms();
    if let Some(checkouts) = &opened {
        rooms.source = Source::Clone(checkouts);
    }
    ready.give(&mut rooms);
    let Ended { ending, rest } = runner::run(order, &rooms, &watched, &stop).await;
    drop(watched);
    tracing::info!(job = %order.job, outcome = %ending.outcome, "job ends");
    if !spool.is_finished() {
        // The end itself could not be kept, though there was room taken for it: a shorter one is tried.
        let ending = Ending::errored(Cause::Limit, "the agent's disk is full or broken");
        if let Err(error) = spool.event(JobEvent::Finished { ending, spent: Vec::new() }) {
            tracing::error!(%error, "the job's end could not be kept; its lease will end it");
            // Only where no heartbeat renews that: nobody will ever hear an end. What is left of its logs is sent.
            agent.claims.abort(spool.claim());
        }
    }
    agent.claims.ended(spool.claim());
    ready.after(&order.repo, rest, Arc::clone(&agent.executor), agent.config.standby).await;
    if ending.outcome == (Outcome::Errored { cause: Cause::Daemon }) {
        ready.cleared().await;
        until_swept(agent).await;
    }
}

/// Sweeps until it goes well: a slot whose daemon is away must not take one job after the other only to fail it, and
/// what the job could not remove must not stay.
async fn until_swept(agent: &Agent) {
    let mut wait = REST;
    while let Err(error) = agent.executor.sweep().await {
        tracing::debug!(retry_in = ?wait, "the executor does not work");
        agent.standing.executor(Some(error.to_string()));
        tokio::select! {
            () = agent.shutdown.drain.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_REST);
    }
    agent.standing.executor(None);
}

/// A message that is no job: said with the reason, then taken off the queue. It never goes back.
async fn reject(agent: &Agent, delivery: JobDelivery, problem: &Malformed) {
    tracing::warn!(queue = delivery.queue, %problem, "a message is no job");
    let excerpt = String::from_utf8_lossy(&delivery.body[..delivery.body.len().min(4096)]).into_owned();
    let report = Report::Rejected(Rejected {
        agent: agent.home.name().clone(),
        queue: delivery.queue.clone(),
        reason: problem.to_string(),
        excerpt,
        reply: delivery.reply.clone(),
        id: Some(uuid::Uuid::new_v4()),
        digest: Some(digest(&delivery.body)),
        redelivered: delivery.redelivered,
    });
    match agent.link.report(&report).await {
        Ok(Delivered::Yes) => {
            delivery.ack().await;
        }
        sent => {
            tracing::warn!(?sent, "the coordinator could not be told; the message goes back for now");
            delivery.requeue().await;
            tokio::time::sleep(REST).await;
        }
    }
}
