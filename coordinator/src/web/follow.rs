//! Streams that end with the build: its state and logs as lines of JSON, and one log as bytes.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use protocol::api::{BuildView, Follow, WaitingJob};
use protocol::{BuildNumber, LogName};
use tokio::time::sleep;

use super::Web;
use super::api::{Whole, whole};
use crate::feed::{Change, Listener};
use crate::store::{LogMark, LogPlace};

/// How many bytes of a log one line carries at most.
const PIECE: u64 = 64 << 10;

/// How many lines wait for a slow reader at most.
const LINES: usize = 16;

/// How often it looks although nothing was said: a change may be one of time alone.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Follows a build from its beginning to its end.
pub(super) struct Follower {
    web: Arc<Web>,
    number: BuildNumber,
    changes: Listener,
    /// How much of each log was sent.
    sent: HashMap<(u32, LogName), u64>,
    /// The build as it was sent last.
    shown: Option<Vec<u8>>,
    lines: VecDeque<Bytes>,
    over: bool,
}

impl Follower {
    pub(super) fn new(web: Arc<Web>, number: BuildNumber) -> Self {
        let changes = web.desk.feed.listen();
        let (sent, lines) = (HashMap::new(), VecDeque::new());
        Self { web, number, changes, sent, shown: None, lines, over: false }
    }

    /// Lines, until the build is over and each of its logs is whole or given up; or until the coordinator ends.
    pub(super) fn stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::try_unfold(self, |mut follower| async move { Ok(follower.next().await?.map(|line| (line, follower))) })
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Some(line));
            }
            if self.over {
                return Ok(None);
            }
            self.changes.catch_up();
            let whole = whole(&self.web, self.number).await.map_err(|refusal| io::Error::other(refusal.sentence))?;
            self.look(whole).await?;
            if self.lines.is_empty() {
                match wait(&self.web, &mut self.changes, self.number).await {
                    Woken::Changed => {}
                    // An empty line says that the line is alive.
                    Woken::Quiet => return Ok(Some(Bytes::from_static(b"\n"))),
                    Woken::Ending => return Ok(None),
                }
            }
        }
    }

    async fn look(&mut self, whole: Whole) -> io::Result<()> {
        let Whole { view, logs, waiting } = whole;
        let is_over = view.build.status.is_over();
        let seen = serde_json::to_vec(&without_growth(&view, waiting.first()))?;
        // The end of a build is shown behind its logs' bytes that were there by then.
        let mut behind = false;
        if self.shown.is_none() {
            self.say(&Follow::Build { view: Box::new(view.clone()) })?;
            self.shown = Some(seen.clone());
        }
        for (attempt, mark) in &logs {
            behind |= !self.send_log(*attempt, mark).await?;
        }
        if behind {
            return Ok(());
        }
        if self.shown.as_ref() != Some(&seen) {
            self.say(&Follow::Build { view: Box::new(view) })?;
            self.shown = Some(seen);
        }
        if is_over && logs.iter().all(|(_, mark)| mark.is_settled()) {
            self.say(&Follow::End)?;
            self.over = true;
        }
        Ok(())
    }

    /// Sends what is new in a log, and says whether that was all.
    async fn send_log(&mut self, attempt: u32, mark: &LogMark) -> io::Result<bool> {
        let mut at = self.sent.get(&(attempt, mark.log.clone())).copied().unwrap_or(0);
        while at < mark.bytes {
            if self.lines.len() >= LINES {
                return Ok(false);
            }
            let bytes = read(&self.web, &mark.place, at, PIECE.min(mark.bytes - at)).await?;
            if bytes.is_empty() {
                shorten(&self.web, self.number, mark).await?;
                return Ok(true);
            }
            self.say(&Follow::Log { attempt, log: mark.log.clone(), offset: at, base64: BASE64.encode(&bytes) })?;
            at += bytes.len() as u64;
            self.sent.insert((attempt, mark.log.clone()), at);
        }
        Ok(true)
    }

    fn say(&mut self, follow: &Follow) -> io::Result<()> {
        let mut line = serde_json::to_vec(follow)?;
        line.push(b'\n');
        self.lines.push_back(line.into());
        Ok(())
    }
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

/// Reads one log.
pub(super) struct LogReader {
    web: Arc<Web>,
    number: BuildNumber,
    attempt: u32,
    mark: LogMark,
    at: u64,
    end: End,
    changes: Listener,
}

/// Where the reading of a log ends.
enum End {
    /// At what is there.
    Now,
    /// When nothing more will come.
    Whole,
}

impl LogReader {
    pub(super) fn new(
        web: Arc<Web>,
        number: BuildNumber,
        (attempt, mark): (u32, LogMark),
        from: u64,
        follow: bool,
    ) -> Self {
        let changes = web.desk.feed.listen();
        let end = if follow { End::Whole } else { End::Now };
        Self { web, number, attempt, mark, at: from, end, changes }
    }

    /// Its bytes.
    pub(super) fn stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::try_unfold(self, |mut reader| async move { Ok(reader.next().await?.map(|bytes| (bytes, reader))) })
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.at < self.mark.bytes {
                let most = PIECE.min(self.mark.bytes - self.at);
                let bytes = read(&self.web, &self.mark.place, self.at, most).await?;
                if bytes.is_empty() {
                    shorten(&self.web, self.number, &self.mark).await?;
                    self.mark.bytes = self.at;
                    continue;
                }
                self.at += bytes.len() as u64;
                return Ok(Some(bytes));
            }
            if matches!(self.end, End::Now) || self.mark.is_settled() {
                return Ok(None);
            }
            if matches!(wait(&self.web, &mut self.changes, self.number).await, Woken::Ending) {
                return Ok(None);
            }
            self.changes.catch_up();
            let snapshot = whole(&self.web, self.number).await.map_err(|refusal| io::Error::other(refusal.sentence))?;
            let is_it = |(attempt, mark): &(u32, LogMark)| *attempt == self.attempt && mark.log == self.mark.log;
            match snapshot.logs.into_iter().find(is_it) {
                Some((_, mark)) => self.mark = mark,
                None => return Ok(None),
            }
        }
    }
}

/// Why a wait is over.
enum Woken {
    /// Something changed in the build.
    Changed,
    /// Nothing was said, and it is time to look all the same.
    Quiet,
    /// The coordinator ends.
    Ending,
}

async fn wait(web: &Web, changes: &mut Listener, number: BuildNumber) -> Woken {
    let ours = |change| matches!(change, Change::Build(n) | Change::Log(n) if n == number);
    tokio::select! {
        () = web.shutdown.cancelled() => Woken::Ending,
        () = changes.next_of(ours) => Woken::Changed,
        () = sleep(LOOK_EVERY) => Woken::Quiet,
    }
}

async fn read(web: &Web, place: &LogPlace, from: u64, most: u64) -> io::Result<Bytes> {
    let (files, place) = (web.desk.store.log_files().clone(), place.clone());
    tokio::task::spawn_blocking(move || files.read(&place, from, most)).await.map_err(io::Error::other)?
}

/// Somebody has cut a log on the disk: what is gone is asked for again, or is said to be missing.
async fn shorten(web: &Web, number: BuildNumber, mark: &LogMark) -> io::Result<()> {
    let (files, place) = (web.desk.store.log_files().clone(), mark.place.clone());
    let length = tokio::task::spawn_blocking(move || files.length(&place)).await.map_err(io::Error::other)??;
    tracing::error!("the log {} of build {number} has lost bytes on the disk: {length} are left", mark.log);
    let shortened = async {
        let mut tx = web.desk.store.write().await?;
        tx.log_shortened(&mark.place, length).await?;
        tx.commit().await
    };
    shortened.await.map_err(|error| io::Error::other(error.to_string()))?;
    web.desk.feed.say(Change::Log(number));
    Ok(())
}

/// When the pieces of a log were printed.
pub(super) async fn times(web: &Web, mark: &LogMark) -> io::Result<Vec<(u64, u64)>> {
    let (files, place) = (web.desk.store.log_files().clone(), mark.place.clone());
    tokio::task::spawn_blocking(move || files.times(&place)).await.map_err(io::Error::other)?
}

/// The last bytes of a log, at most `most`.
pub(super) async fn tail(web: &Web, mark: &LogMark, most: u64) -> io::Result<Bytes> {
    read(web, &mark.place, mark.bytes.saturating_sub(most), most.min(mark.bytes)).await
}
