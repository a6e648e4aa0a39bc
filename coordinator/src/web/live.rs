//! A log as it grows, as server-sent events: `lines` with what is new, `alive` when nothing was for a while, and `end`
//! when nothing more will come. The id of each event says which line comes next, so that a browser that lost the
//! connection goes on there: no line is missed, and one that was not over is sent again under its number.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use futures_util::stream::{self, Stream};
use protocol::api::LogLines;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Web;
use super::api::{Answer, asked, streamed};
use super::follow::{Woken, wait};
use super::logs::{Log, Which, lines_of, one};
use super::shared::Shared;
use crate::log_view::Form;

/// How many lines an event has at most.
const LINES: u64 = 500;

/// The least time between two events of a log that grows: one that grows all the time does not send each line alone.
const PACE: Duration = Duration::from_millis(100);

/// After how many milliseconds a browser comes back when the connection broke.
const RETRY_MS: u32 = 1000;

pub(super) fn router() -> Router<Arc<Web>> {
    Router::new().route("/live/builds/{number}/logs/{log}", get(live))
}

#[derive(Deserialize)]
struct LiveQuery {
    attempt: Option<u32>,
    job: Option<String>,
    from_line: Option<u64>,
    /// Who is further behind than so many lines does not get those between.
    latest: Option<u64>,
}

async fn live(
    State(web): State<Arc<Web>>,
    Path(path): Path<(String, String)>,
    query: Result<Query<LiveQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Answer<Response> {
    let LiveQuery { attempt, job, from_line, latest } = asked(query)?;
    // Who comes back goes on in the same attempt, should there be a newer one by now.
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(read_id);
    let attempt = last.map(|(attempt, _)| attempt).or(attempt);
    let next = last.map(|(_, line)| line).or(from_line).unwrap_or(1).max(1);
    let log = one(&web, &path, &Which { attempt, job }).await?;
    let shared = web.followed.build(&web, log.build);
    let changes = shared.topic.subscribe();
    let live = Live { web, log, next, latest, told: None, stage: Stage::Greeting, shared, changes };
    Ok(streamed("text/event-stream", Body::from_stream(live.stream())))
}

/// The attempt, and the line that comes next.
fn read_id(id: &str) -> Option<(u32, u64)> {
    let (attempt, line) = id.split_once('-')?;
    Some((attempt.parse().ok()?, line.parse().ok()?))
}

/// One who follows a log.
struct Live {
    web: Arc<Web>,
    log: Log,
    /// The first line that was not sent, or was not over when it was.
    next: u64,
    latest: Option<u64>,
    /// What was told last: the bytes that the log had, and whether more would come.
    told: Option<(u64, bool)>,
    stage: Stage,
    shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting,
    Following,
    Over,
}

impl Live {
    fn stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::try_unfold(self, |mut live| async move { Ok(live.next().await?.map(|event| (event, live))) })
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self.stage {
            Stage::Greeting => {
                self.stage = Stage::Following;
                return Ok(Some(format!("retry: {RETRY_MS}\n\n").into()));
            }
            Stage::Over => return Ok(None),
            Stage::Following => {}
        }
        loop {
            // Before the look: what changes meanwhile is looked at again.
            let after = *self.changes.borrow_and_update();
            if !self.look(after).await? {
                return Ok(None);
            }
            let now = (self.log.mark.bytes, self.log.mark.is_settled());
            if self.told != Some(now) {
                return self.tell(now).await.map(Some);
            }
            if self.log.mark.is_settled() {
                self.stage = Stage::Over;
                let state = lines_of(&self.web, &self.log, (1, 0), Form::Html).await?.log;
                return event("end", &self.id(), &state).map(Some);
            }
            match wait(&self.web, &self.shared, &mut self.changes).await {
                Woken::Changed => {
                    tokio::select! {
                        () = self.web.shutdown.cancelled() => return Ok(None),
                        () = sleep(PACE) => {}
                    }
                }
                Woken::Quiet => return event("alive", &self.id(), &()).map(Some),
                Woken::Ending => return Ok(None),
            }
        }
    }

    /// Learns where the log stands now, and says whether it is still there.
    async fn look(&mut self, after: u64) -> io::Result<bool> {
        let seen = self.shared.look(&self.web, after).await?;
        let is_it = |(attempt, mark): &&(u32, _)| {
            let mark: &crate::store::LogMark = mark;
            *attempt == self.log.attempt && mark.log == self.log.mark.log
        };
        let Some((_, mark)) = seen.whole.logs.iter().find(is_it) else { return Ok(false) };
        self.log.mark = mark.clone();
        Ok(true)
    }

    /// The next lines. All is told when the last of them is the log's last.
    async fn tell(&mut self, now: (u64, bool)) -> io::Result<Bytes> {
        if let Some(latest) = self.latest {
            let files = self.web.desk.store.log_files();
            let known = self.web.indexes.known(files, &self.log.mark.place, self.log.mark.bytes).await?;
            self.next = self.next.max((known.total + 1).saturating_sub(latest));
        }
        let from = i64::try_from(self.next).unwrap_or(i64::MAX);
        let lines = lines_of(&self.web, &self.log, (from, LINES), Form::Html).await?;
        let LogLines { lines: told, log } = &lines;
        if let Some(last) = told.last() {
            self.next = last.n + u64::from(!last.open);
        }
        if told.last().is_none_or(|last| last.n >= log.total) {
            self.told = Some(now);
        }
        event("lines", &self.id(), &lines)
    }

    fn id(&self) -> String {
        format!("{}-{}", self.log.attempt, self.next)
    }
}

fn event(name: &str, id: &str, said: &impl serde::Serialize) -> io::Result<Bytes> {
    // JSON has no line ends outside of its texts, and writes those within them as `\n`.
    let said = serde_json::to_string(said)?;
    Ok(format!("event: {name}\nid: {id}\ndata: {said}\n\n").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_go_on() {
        assert_eq!(read_id("2-17"), Some((2, 17)));
        for odd in ["", "17", "x-1", "1-", "1-x", "-1-2"] {
            assert_eq!(read_id(odd), None, "{odd}");
        }
    }
}
