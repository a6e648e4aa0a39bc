//! One log on a page: whole to read without scripts, a range at a time; with them, all of it in a window that scrolls.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use protocol::api::LogLines;
use serde::Deserialize;

use super::{Frame, Here, Onlooker, answer};
use crate::log_view::Form;
use crate::web::Web;
use crate::web::api::{Answer, asked};
use crate::web::logs::{Log, Which, lines_of, one, unreadable};

/// How many lines stand on a page.
const LINES: u64 = 500;

/// A log as a part of a page.
#[derive(Template)]
#[template(path = "log.html")]
pub(super) struct LogPart {
    /// What people call it.
    title: String,
    /// `/builds/12/logs/test`: its page; the API and the stream have the same path below theirs.
    path: String,
    /// Whether this is its own page, whose addresses may name lines.
    is_page: bool,
    lines: LogLines,
}

/// A link to another range of the log.
struct Step {
    text: &'static str,
    from: u64,
}

impl LogPart {
    /// The part for a log: from a line on, or its end.
    pub(super) async fn of(web: &Web, log: &Log, from: Option<u64>, is_page: bool) -> Answer<Self> {
        let from = from.map_or(0_i64.saturating_sub_unsigned(LINES), |from| i64::try_from(from).unwrap_or(i64::MAX));
        let lines = lines_of(web, log, (from, LINES), Form::Html).await.map_err(unreadable)?;
        let (build, name) = (log.build.0, &log.mark.log);
        let path = format!("/builds/{build}/logs/{name}");
        Ok(Self { title: log.mark.log.title().to_owned(), path, is_page, lines })
    }

    fn query(&self) -> String {
        format!("attempt={}", self.lines.log.attempt)
    }

    /// The page that shows a line, without scripts too.
    fn line_url(&self, line: u64) -> String {
        format!("{}?{}&from={}#L{line}", self.path, self.query(), line.saturating_sub(LINES / 2).max(1))
    }

    /// Where the reader can go from here without scripts.
    fn steps(&self) -> Vec<Step> {
        let (first, last) = (self.first(), self.last());
        let total = self.lines.log.total;
        let mut steps = Vec::new();
        if first > 1 {
            steps.push(Step { text: "first lines", from: 1 });
            steps.push(Step { text: "earlier lines", from: first.saturating_sub(LINES).max(1) });
        }
        if last < total {
            steps.push(Step { text: "later lines", from: last + 1 });
            steps.push(Step { text: "last lines", from: (total + 1).saturating_sub(LINES).max(1) });
        }
        steps
    }

    fn first(&self) -> u64 {
        self.lines.lines.first().map_or(0, |line| line.n)
    }

    fn last(&self) -> u64 {
        self.lines.lines.last().map_or(0, |line| line.n)
    }

    /// Where the log stands, in words.
    fn standing(&self) -> String {
        let state = &self.lines.log;
        match (&state.gap, state.settled) {
            (Some(gap), _) => gap.clone(),
            (None, true) => format!("{} lines", grouped(state.total)),
            (None, false) => format!("{} lines so far", grouped(state.total)),
        }
    }
}

/// A number as people read it.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// When a line was printed, as it stands beside it.
fn clock(ms: &u64) -> String {
    let (seconds, tenths) = (ms / 1000, ms % 1000 / 100);
    match seconds {
        0..60 => format!("{seconds}.{tenths}"),
        60..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

#[derive(Template)]
#[template(path = "log-page.html")]
struct LogPage {
    frame: Frame,
    build: u64,
    attempt: u32,
    part: LogPart,
}

#[derive(Deserialize)]
pub(super) struct PageQuery {
    attempt: Option<u32>,
    job: Option<String>,
    from: Option<u64>,
}

/// `/builds/12/logs/test`: one log, in the whole window.
pub(super) async fn page(
    State(web): State<Arc<Web>>,
    Path(path): Path<(String, String)>,
    query: Result<Query<PageQuery>, QueryRejection>,
    onlooker: Onlooker,
) -> Response {
    let made = async {
        let PageQuery { attempt, job, from } = asked(query)?;
        let log = one(&web, &path, &Which { attempt, job }).await?;
        let part = LogPart::of(&web, &log, from, true).await?;
        let frame = Frame::new(format!("{} · build {}", part.title, log.build), Here::Elsewhere).named(&onlooker);
        Ok(LogPage { frame, build: log.build.0, attempt: log.attempt, part })
    };
    answer(made.await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_as_people_read_them() {
        for (number, expect) in
            [(0, "0"), (999, "999"), (1000, "1\u{202f}000"), (25_000_000, "25\u{202f}000\u{202f}000")]
        {
            assert_eq!(grouped(number), expect);
        }
        for (ms, expect) in [(0, "0.0"), (9_990, "9.9"), (61_000, "1:01"), (3_661_000, "1:01:01")] {
            assert_eq!(clock(&ms), expect);
        }
    }
}
