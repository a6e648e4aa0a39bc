//! Streams that end with the build: its state and logs as lines of JSON, and one log as bytes.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use protocol::api::Follow;
use protocol::{BuildNumber, LogName};
use tokio::sync::watch;
use tokio::time::sleep;

use super::Web;
use super::api::Whole;
use super::shared::{Seen, Shared, line};
use crate::feed::Change;
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
    shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
    /// How much of each log was sent.
    sent: HashMap<(u32, LogName), u64>,
    /// The build as it was sent last.
    shown: Option<Arc<Seen>>,
    lines: VecDeque<Bytes>,
    over: bool,
}

impl Follower {
    pub(super) fn new(web: Arc<Web>, number: BuildNumber) -> Self {
        let shared = web.followed.build(&web, number);
        let changes = shared.topic.subscribe();
        let (sent, lines) = (HashMap::new(), VecDeque::new());
        Self { web, number, shared, changes, sent, shown: None, lines, over: false }
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
            let after = *self.changes.borrow_and_update();
            let seen = self.shared.look(&self.web, after).await?;
            self.look(&seen).await?;
            if self.lines.is_empty() {
                match wait(&self.web, &self.shared, &mut self.changes).await {
                    Woken::Changed => {}
                    // An empty line says that the line is alive.
                    Woken::Quiet => return Ok(Some(Bytes::from_static(b"\n"))),
                    Woken::Ending => return Ok(None),
                }
            }
        }
    }

    async fn look(&mut self, seen: &Arc<Seen>) -> io::Result<()> {
        let Whole { view, logs, .. } = &seen.whole;
        let is_over = view.build.status.is_over();
        let is_news = |shown: &Option<Arc<Seen>>| shown.as_ref().is_none_or(|shown| shown.steady != seen.steady);
        // Which job an attempt is of is told before what it printed. The end of a build is shown behind its logs' bytes
        // that were there by then.
        let mut behind = false;
        if self.shown.is_none() || !is_over && is_news(&self.shown) {
            self.show(seen);
        }
        for (attempt, mark) in logs {
            behind |= !self.send_log(*attempt, mark).await?;
        }
        if behind {
            return Ok(());
        }
        if is_news(&self.shown) {
            self.show(seen);
        }
        if is_over && logs.iter().all(|(_, mark)| mark.is_settled()) {
            self.lines.push_back(line(&Follow::End)?);
            self.over = true;
        }
        Ok(())
    }

    fn show(&mut self, seen: &Arc<Seen>) {
        self.lines.push_back(seen.line.clone());
        self.shown = Some(seen.clone());
    }

    /// Sends what is new in a log, and says whether that was all.
    async fn send_log(&mut self, attempt: u32, mark: &LogMark) -> io::Result<bool> {
        let mut at = self.sent.get(&(attempt, mark.log.clone())).copied().unwrap_or(0);
        while at < mark.bytes {
            if self.lines.len() >= LINES {
                return Ok(false);
            }
            let piece = self.shared.piece(&self.web, attempt, mark, at, PIECE.min(mark.bytes - at)).await?;
            let length = piece.bytes().len() as u64;
            if length == 0 {
                shorten(&self.web, self.number, mark).await?;
                return Ok(true);
            }
            self.lines.push_back(piece.line()?);
            at += length;
            self.sent.insert((attempt, mark.log.clone()), at);
        }
        Ok(true)
    }
}

/// Reads one log.
pub(super) struct LogReader {
    web: Arc<Web>,
    number: BuildNumber,
    attempt: u32,
    mark: LogMark,
    at: u64,
    end: End,
    shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
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
        let shared = web.followed.build(&web, number);
        let mut changes = shared.topic.subscribe();
        // What changed since the mark was read is looked at.
        changes.mark_changed();
        let end = if follow { End::Whole } else { End::Now };
        Self { web, number, attempt, mark, at: from, end, shared, changes }
    }

    /// Its bytes.
    pub(super) fn stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::try_unfold(self, |mut reader| async move { Ok(reader.next().await?.map(|bytes| (bytes, reader))) })
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.at < self.mark.bytes {
                let most = PIECE.min(self.mark.bytes - self.at);
                let bytes = match self.end {
                    End::Whole => self.shared.piece(&self.web, self.attempt, &self.mark, self.at, most).await?.bytes(),
                    End::Now => read(&self.web, &self.mark.place, self.at, most).await?,
                };
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
            if matches!(wait(&self.web, &self.shared, &mut self.changes).await, Woken::Ending) {
                return Ok(None);
            }
            let after = *self.changes.borrow_and_update();
            let seen = self.shared.look(&self.web, after).await?;
            let is_it = |(attempt, mark): &&(u32, LogMark)| *attempt == self.attempt && mark.log == self.mark.log;
            match seen.whole.logs.iter().find(is_it) {
                Some((_, mark)) => self.mark = mark.clone(),
                None => return Ok(None),
            }
        }
    }
}

/// Why a wait is over.
pub(super) enum Woken {
    /// Something changed in the build.
    Changed,
    /// Nothing was said, and it is time to look all the same.
    Quiet,
    /// The coordinator ends.
    Ending,
}

pub(super) async fn wait(web: &Web, shared: &Shared, changes: &mut watch::Receiver<u64>) -> Woken {
    tokio::select! {
        () = web.shutdown.cancelled() => Woken::Ending,
        // The topic lives as long as `shared`.
        _ = changes.changed() => Woken::Changed,
        () = sleep(LOOK_EVERY) => {
            shared.forget_after(LOOK_EVERY);
            Woken::Quiet
        }
    }
}

/// Some bytes of a log, from the disk.
pub(super) async fn read(web: &Web, place: &LogPlace, from: u64, most: u64) -> io::Result<Bytes> {
    let (files, place) = (web.desk.store.log_files().clone(), place.clone());
    tokio::task::spawn_blocking(move || files.read(&place, from, most)).await.map_err(io::Error::other)?
}

/// Somebody has cut a log on the disk: what is gone is asked for again, or is said to be missing.
pub(super) async fn shorten(web: &Web, number: BuildNumber, mark: &LogMark) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use tempfile::tempdir;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::testing::{Farm, soon};
    use crate::web::access::{self, Access};

    /// Who follows one job knows by the view which logs are of it.
    #[tokio::test]
    async fn an_attempt_is_told_before_what_it_printed() {
        let folder = tempdir().unwrap();
        let farm = Farm::start(&folder).await;
        let agent = farm.agent("a1").await;
        let number = farm.submit().await;
        let (recorder, _writer) = access::recorder();
        let access = Access::new(&farm.desk.config, farm.address, "x".repeat(64), recorder).unwrap();
        let web = Arc::new(Web::new(farm.desk.clone(), access, 0, CancellationToken::new()));
        let mut follower = Follower::new(web, number);
        let mut next = async || {
            loop {
                let line = soon("a line", follower.next()).await.unwrap().unwrap();
                if line.len() > 1 {
                    break serde_json::from_slice::<Follow>(&line).unwrap();
                }
            }
        };
        assert!(matches!(next().await, Follow::Build { view } if view.attempts.is_empty()));
        let (claimed, _) = agent.work(&farm).await;
        agent.log(claimed.claim, "test", 0, "one").await;
        agent.hear_kept(claimed.claim).await;
        // Both are there when it looks again.
        assert!(matches!(next().await, Follow::Build { view } if view.attempts.len() == 1));
        assert!(matches!(next().await, Follow::Log { attempt: 1, .. }));
        farm.stop().await;
    }
}
