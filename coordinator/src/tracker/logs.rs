//! Keeps the bytes of logs. An agent forgets its own copy up to where it hears that they are kept, and that is said
//! only when they are on the disk here.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use buildr::process::clock::now_ms;
use protocol::api::IncidentKind;
use protocol::control::Control;
use protocol::link::{IncomingLog, LinkError};
use protocol::report::LogChunk;
use protocol::{ClaimId, LogName};
use tokio_util::sync::CancellationToken;

use super::{Answers, pause};
use crate::desk::Desk;
use crate::feed::Change;
use crate::store::{LogTarget, Piece, Sent, StoreError};

/// How many pieces are written together, of up to 128 KiB each: a quarter of what the broker sends ahead, so that the next
/// come while these are written.
const BATCH: usize = 32;

/// The queue that pieces come from, as it stands on incidents.
const LOGS: &str = "buildr.logs.v1";

#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a log cannot be written: {0}; look at the room on the disk")]
    Disk(#[from] io::Error),
    #[error("the writing of logs broke off: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

/// Keeps logs until `shutdown`, or until the line is closed.
pub(crate) async fn run(desk: Arc<Desk>, shutdown: CancellationToken) {
    let desk = &*desk;
    loop {
        let batch = tokio::select! {
            () = shutdown.cancelled() => return,
            batch = desk.link.next_logs(BATCH) => batch,
        };
        let (chunks, settle) = match batch {
            Ok(batch) => batch.split(),
            Err(LinkError::Closed) => return,
            Err(error) => {
                tracing::warn!("logs cannot be read at present: {error}");
                pause(&shutdown).await;
                continue;
            }
        };
        match keep(desk, readable(desk, chunks).await).await {
            Ok(answers) => {
                desk.store.note_trouble(Sent::Logs, None);
                answers.give(desk).await;
                settle.ack().await;
            }
            Err(error) => {
                tracing::error!("logs wait to be kept: {error}");
                desk.store.note_trouble(Sent::Logs, Some(format!("what builds print waits to be stored: {error}")));
                settle.requeue().await;
                pause(&shutdown).await;
            }
        }
    }
}

/// The pieces that can be read. Of the others people are told, and nobody asks for them again.
async fn readable(desk: &Desk, logs: Vec<IncomingLog>) -> Vec<(Option<String>, LogChunk)> {
    let (mut chunks, mut odd) = (Vec::with_capacity(logs.len()), Vec::new());
    for IncomingLog { user, chunk } in logs {
        match chunk {
            Ok(chunk) => chunks.push((user, chunk)),
            Err(bad) => {
                odd.push((IncidentKind::Unreadable, user, format!("a piece of a log is dropped: {}", bad.reason)));
            }
        }
    }
    report(desk, odd).await;
    chunks
}

/// Tells people of odd pieces. What cannot be told now is in this program's own log.
async fn report(desk: &Desk, odd: Vec<(IncidentKind, Option<String>, String)>) {
    if odd.is_empty() {
        return;
    }
    let noted = async {
        let mut tx = desk.store.write().await?;
        for (kind, user, sentence) in &odd {
            let about = user.as_deref().unwrap_or(LOGS);
            tracing::warn!(about, "{sentence}");
            tx.note_incident(*kind, about, sentence, now_ms()).await?;
        }
        tx.commit().await
    };
    if let Err(error) = noted.await {
        tracing::warn!("an incident cannot be noted: {error}");
    }
}

/// The pieces of each log, in the order in which they came, with the broker's users from whom they came.
type ByLog = BTreeMap<(ClaimId, LogName), Vec<(Option<String>, Piece)>>;

/// Where pieces belong. Those that belong nowhere, or were written by another user than their agent's, are dropped, and
/// people are told.
async fn placed(desk: &Desk, by_log: ByLog) -> Result<Vec<(LogTarget, Vec<Piece>)>, LogError> {
    let (mut work, mut odd) = (Vec::new(), Vec::new());
    for ((claim, log), pieces) in by_log {
        let Some(target) = desk.store.log_target(claim, &log).await? else {
            let sentence = "a piece of a log of a claim that nobody knows is dropped".to_owned();
            odd.push((IncidentKind::Unknown, None, sentence));
            continue;
        };
        let own = |user: &Option<String>| target.user.is_none() || target.user == *user;
        let (own, foreign): (Vec<_>, Vec<_>) = pieces.into_iter().partition(|(user, _)| own(user));
        if let Some((user, _)) = foreign.into_iter().next() {
            let from = user.map_or_else(|| "without a user's name".to_owned(), |user| format!("from the user {user}"));
            let sentence = format!("a piece of a log in its name came {from}, and was dropped");
            odd.push((IncidentKind::Forged, Some(target.agent.to_string()), sentence));
        }
        if !own.is_empty() {
            work.push((target, own.into_iter().map(|(_, piece)| piece).collect()));
        }
    }
    report(desk, odd).await;
    Ok(work)
}

pub(super) async fn keep(desk: &Desk, chunks: Vec<(Option<String>, LogChunk)>) -> Result<Answers, LogError> {
    let mut by_log = ByLog::new();
    for (user, LogChunk { claim, log, offset, at_ms, bytes, packed: _ }) in chunks {
        by_log.entry((claim, log)).or_default().push((user, Piece { offset, at_ms, bytes }));
    }
    let work = placed(desk, by_log).await?;
    let files = desk.store.log_files().clone();
    let kept = tokio::task::spawn_blocking(move || {
        let (targets, logs): (Vec<LogTarget>, Vec<_>) = work
            .into_iter()
            .map(|(target, pieces)| {
                let log = (target.place.clone(), target.bytes, pieces);
                (target, log)
            })
            .unzip();
        let safe = files.append(&logs)?;
        Ok::<_, io::Error>(targets.into_iter().zip(safe).collect::<Vec<(LogTarget, io::Result<u64>)>>())
    })
    .await??;
    let mut answers = Answers::default();
    let mut tx = desk.store.write().await?;
    for (LogTarget { claim, place, agent, build, .. }, kept) in kept {
        let bytes = match kept {
            Ok(bytes) => bytes,
            // Its agent keeps what it has, and sends it again ever more rarely.
            Err(error) => {
                tracing::error!("the log {} of build {build} cannot be written at present: {error}", place.log);
                continue;
            }
        };
        tx.log_kept(claim, &place.log, bytes).await?;
        answers.tell(&agent, Control::LogKept { claim, log: place.log, bytes });
        answers.say(Change::Log(build));
    }
    tx.commit().await?;
    Ok(answers)
}
