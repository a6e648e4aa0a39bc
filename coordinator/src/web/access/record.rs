//! Writes down who did what, and when tokens were used last: behind the requests, many with one write to the disk.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request};
use buildr::process::clock::now_ms;
use protocol::api::AuditEntry;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::visitor::Visitor;
use crate::store::{Store, StoreError};
use crate::web::api::asked_by;

/// How many notes wait to be written at most: then requests wait with them, so that none goes unnoted.
const NOTES: usize = 1024;

/// How many are written together at most.
const TOGETHER: usize = 256;

/// The longest path that is kept, in characters.
const LONGEST_PATH: usize = 300;

enum Note {
    Done(AuditEntry),
    Used {
        /// The token's hash.
        hash: String,
        at_ms: u64,
    },
    /// Somebody wants to see what was noted before this.
    Seen(oneshot::Sender<()>),
}

/// Where notes are handed in.
pub(in crate::web) struct Recorder(mpsc::Sender<Note>);

/// Where they are written.
pub(in crate::web) struct Writer(mpsc::Receiver<Note>);

/// Both ends.
pub(in crate::web) fn recorder() -> (Recorder, Writer) {
    let (notes, written) = mpsc::channel(NOTES);
    (Recorder(notes), Writer(written))
}

/// What a request asks for, as it stands in the list.
pub(super) struct Asked {
    method: String,
    path: String,
    address: String,
    said: Option<String>,
}

impl Asked {
    pub(super) fn of(request: &Request) -> Self {
        Self {
            method: request.method().to_string(),
            path: request.uri().path().chars().take(LONGEST_PATH).collect(),
            address: address(request),
            said: asked_by(request.headers()),
        }
    }
}

/// From where a request comes. A proxy on this machine is believed in what it says, but its word is marked as that.
fn address(request: &Request) -> String {
    let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() else { return String::new() };
    let said = request.headers().get("x-forwarded-for").and_then(|value| value.to_str().ok());
    let last = said.and_then(|said| said.rsplit(',').next()).map(str::trim).filter(|last| !last.is_empty());
    match last {
        Some(last) => format!("{} by way of {}", last.chars().take(60).collect::<String>(), peer.ip()),
        None => peer.ip().to_string(),
    }
}

impl Recorder {
    /// Notes what a visitor with a role did, or was refused.
    pub(super) async fn done(&self, visitor: &Visitor, asked: Asked, status: u16) {
        let Some(role) = visitor.role() else { return };
        let Asked { method, path, address, said } = asked;
        let said = said.filter(|_| visitor.name().is_none());
        let who = visitor.who().to_owned();
        let entry = AuditEntry { id: 0, at_ms: now_ms(), who, role, said, method, path, status, address };
        if self.0.send(Note::Done(entry)).await.is_err() {
            tracing::warn!("the coordinator ends, and what was done last is not noted");
        }
    }

    /// Notes that a token was used; where there is much to note, the next use is noted instead.
    pub(super) fn used(&self, hash: String, at_ms: u64) {
        self.0.try_send(Note::Used { hash, at_ms }).ok();
    }

    /// Waits until all is written that was noted before.
    pub(in crate::web) async fn written(&self) {
        let (seen, wait) = oneshot::channel();
        if self.0.send(Note::Seen(seen)).await.is_ok() {
            // The writer ends only with the coordinator: then there is nothing to wait for.
            wait.await.ok();
        }
    }
}

impl Writer {
    /// Writes until `end`, and then what was noted before that.
    pub(in crate::web) async fn run(mut self, store: &Store, end: CancellationToken) {
        let mut notes = Vec::with_capacity(TOGETHER);
        loop {
            tokio::select! {
                () = end.cancelled(), if !self.0.is_closed() => self.0.close(),
                count = self.0.recv_many(&mut notes, TOGETHER) => {
                    if count == 0 {
                        return;
                    }
                    if let Err(error) = write(store, &notes).await {
                        tracing::error!("what was done could not be noted: {error}");
                    }
                    for note in notes.drain(..) {
                        if let Note::Seen(seen) = note {
                            // Who does not wait any more need not know.
                            seen.send(()).ok();
                        }
                    }
                }
            }
        }
    }
}

async fn write(store: &Store, notes: &[Note]) -> Result<(), StoreError> {
    if notes.iter().all(|note| matches!(note, Note::Seen(_))) {
        return Ok(());
    }
    let mut tx = store.write().await?;
    for note in notes {
        match note {
            Note::Done(entry) => tx.insert_audit(entry).await?,
            Note::Used { hash, at_ms } => tx.used_token(hash, *at_ms).await?,
            Note::Seen(_) => {}
        }
    }
    tx.commit().await
}
