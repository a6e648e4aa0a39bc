//! What all that follow one build look at together: the build is read once for each change of it, and each piece of a
//! log once, however many follow it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use protocol::api::{BuildView, Follow, WaitingJob};
use protocol::{BuildNumber, LogName};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::Web;
use super::api::{Whole, whole};
use super::pages::build::Facts;
use crate::feed::Topic;
use crate::store::LogMark;

/// How many pieces of logs are kept for those that come for them a moment later: of 64 KiB each, and as much again as
/// the line that carries it.
const PIECES: usize = 8;

/// The builds that are followed.
#[derive(Default)]
pub(super) struct Followed {
    builds: Mutex<HashMap<BuildNumber, Weak<Shared>>>,
}

/// One build that is followed.
pub(super) struct Shared {
    number: BuildNumber,
    /// Counts its changes.
    pub(super) topic: Arc<Topic>,
    seen: tokio::sync::Mutex<Option<Arc<Seen>>>,
    pieces: Mutex<VecDeque<(PieceKey, Arc<OnceCell<Piece>>)>>,
}

/// A build as it was after so many changes.
pub(super) struct Seen {
    after: u64,
    at: Instant,
    /// All of it.
    pub(super) whole: Whole,
    /// What of it is news when it changes: not that a log has grown, nor that time goes by.
    pub(super) steady: Vec<u8>,
    /// The line that tells it.
    pub(super) line: Bytes,
    /// What its page is made of, once somebody looks at that.
    pub(super) page: OnceCell<Arc<Facts>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PieceKey {
    attempt: u32,
    log: LogName,
    from: u64,
    most: u64,
}

struct Piece {
    key: PieceKey,
    bytes: Bytes,
    line: OnceLock<Bytes>,
}

impl Followed {
    /// One build, for one more who follows it.
    pub(super) fn build(&self, web: &Web, number: BuildNumber) -> Arc<Shared> {
        let mut builds = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = builds.get(&number).and_then(Weak::upgrade) {
            return shared;
        }
        builds.retain(|_, shared| shared.strong_count() > 0);
        let topic = web.desk.feed.topic(number);
        let shared = Arc::new(Shared { number, topic, seen: tokio::sync::Mutex::default(), pieces: Mutex::default() });
        builds.insert(number, Arc::downgrade(&shared));
        shared
    }
}

impl Shared {
    /// The build as it was after at least so many changes.
    pub(super) async fn look(&self, web: &Web, after: u64) -> io::Result<Arc<Seen>> {
        // One reads; who waits for that takes what was read.
        let mut seen = self.seen.lock().await;
        if let Some(seen) = seen.as_ref().filter(|seen| seen.after >= after) {
            return Ok(seen.clone());
        }
        // Before the look: what changes meanwhile is looked at again.
        let after = *self.topic.borrow();
        let whole = whole(web, self.number).await.map_err(|refusal| io::Error::other(refusal.sentence))?;
        let steady = serde_json::to_vec(&without_growth(&whole.view, whole.waiting.first()))?;
        let line = line(&Follow::Build { view: Box::new(whole.view.clone()) })?;
        let found = Arc::new(Seen { after, at: Instant::now(), whole, steady, line, page: OnceCell::new() });
        *seen = Some(found.clone());
        Ok(found)
    }

    /// It may have changed without anybody's saying so: what was seen so long ago is looked at anew.
    pub(super) fn forget_after(&self, time: Duration) {
        // Who holds it looks at this moment.
        if let Ok(mut seen) = self.seen.try_lock() {
            seen.take_if(|seen| seen.at.elapsed() >= time);
        }
    }

    /// Some bytes of a log.
    pub(super) async fn piece(
        &self,
        web: &Web,
        attempt: u32,
        mark: &LogMark,
        from: u64,
        most: u64,
    ) -> io::Result<Kept> {
        let key = PieceKey { attempt, log: mark.log.clone(), from, most };
        let cell = self.cell(&key);
        let read = async || {
            let bytes = super::follow::read(web, &mark.place, from, most).await?;
            Ok::<_, io::Error>(Piece { key, bytes, line: OnceLock::new() })
        };
        cell.get_or_try_init(read).await?;
        Ok(Kept(cell))
    }

    fn cell(&self, key: &PieceKey) -> Arc<OnceCell<Piece>> {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cell)) = pieces.iter().find(|(known, _)| known == key) {
            return cell.clone();
        }
        if pieces.len() >= PIECES {
            pieces.pop_front();
        }
        let cell = Arc::new(OnceCell::new());
        pieces.push_back((key.clone(), cell.clone()));
        cell
    }
}

/// A piece that was read.
pub(super) struct Kept(Arc<OnceCell<Piece>>);

impl Kept {
    /// Its bytes; none where the disk has lost them.
    pub(super) fn bytes(&self) -> Bytes {
        self.0.get().map(|piece| piece.bytes.clone()).unwrap_or_default()
    }

    /// The line that tells it to a follower.
    pub(super) fn line(&self) -> io::Result<Bytes> {
        let Some(Piece { key, bytes, line: known }) = self.0.get() else { return Ok(Bytes::new()) };
        if let Some(line) = known.get() {
            return Ok(line.clone());
        }
        let (attempt, log, offset) = (key.attempt, key.log.clone(), key.from);
        let told = line(&Follow::Log { attempt, log, offset, base64: BASE64.encode(bytes) })?;
        Ok(known.get_or_init(|| told).clone())
    }
}

/// One line of a stream.
pub(super) fn line(follow: &Follow) -> io::Result<Bytes> {
    let mut line = serde_json::to_vec(follow)?;
    line.push(b'\n');
    Ok(line.into())
}

/// The growth of a log is said by its bytes, not by the whole build again.
fn without_growth(view: &BuildView, waiting: Option<&WaitingJob>) -> BuildView {
    let mut view = view.clone();
    if let Some(job) = waiting {
        // Nor is it news that time goes by.
        view.build.message = Some(job.why.steady().to_string());
    }
    for log in view.attempts.iter_mut().flat_map(|attempt| &mut attempt.logs) {
        if !log.complete {
            log.bytes = 0;
        }
    }
    view
}
