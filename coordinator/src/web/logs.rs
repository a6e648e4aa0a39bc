//! The API's part about one log: its bytes, its lines and its commands.

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use protocol::api::{LogCommand, LogCommands, LogLine, LogLines, LogState, LogTimes};
use protocol::{BuildNumber, LogName};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Web;
use super::api::{Answer, Path, asked, number, streamed, whole};
use super::follow::{LogReader, shorten, times};
use super::refusal::Refusal;
use crate::log_view::{self, Form, Known, Line};
use crate::store::LogMark;

/// How many lines are given when nothing is said, and at most.
const LINES: u64 = 500;
const LINES_MOST: u64 = 2000;

/// How many bytes of rendered text are given at once, at most: a line more than that.
const SHOWN_MOST: usize = 4 << 20;

pub(super) fn router() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::default()
        .routes(routes!(log))
        .routes(routes!(log_times))
        .routes(routes!(lines))
        .routes(routes!(commands))
        .routes(routes!(raw))
}

/// Which log is meant, besides by its build and name.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// By the number of its attempt.
    #[param(maximum = 4294967295_u32)]
    pub(super) attempt: Option<u32>,
    /// By the key of its job.
    pub(super) job: Option<String>,
}

/// One log of one attempt.
#[derive(Clone)]
pub(super) struct Log {
    pub(super) build: BuildNumber,
    pub(super) attempt: u32,
    pub(super) mark: LogMark,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct LogQuery {
    /// Of this attempt; of the last one that has it without.
    #[param(maximum = 4294967295_u32)]
    attempt: Option<u32>,
    /// Of the job with this key.
    job: Option<String>,
    /// From this byte on.
    #[param(maximum = 18446744073709551615_u64)]
    from: Option<u64>,
    /// Whether to go on until the log is whole.
    follow: Option<bool>,
}

/// The bytes of a log.
#[utoipa::path(
    get,
    path = "/builds/{number}/logs/{log}",
    params(("number" = u64, Path, description = "The build's number."), ("log" = LogName, Path, description = "The log's name, as the build has it."), LogQuery),
    responses((status = 200, description = "The bytes as they were printed.", content_type = "application/octet-stream", body = String), (status = 404), (status = 410))
)]
async fn log(
    State(web): State<Arc<Web>>,
    Path(path): Path<(String, String)>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Answer<Response> {
    let LogQuery { attempt, job, from, follow } = asked(query)?;
    let Log { build, attempt, mark } = one(&web, &path, &Which { attempt, job }).await?;
    let reader = LogReader::new(web, build, (attempt, mark), from.unwrap_or(0), follow.unwrap_or(false));
    Ok(streamed("application/octet-stream", Body::from_stream(reader.stream())))
}

/// When the pieces of a log were printed.
#[utoipa::path(
    get,
    path = "/builds/{number}/logs/{log}/times",
    params(("number" = u64, Path, description = "The build's number."), ("log" = LogName, Path, description = "The log's name, as the build has it."), Which),
    responses((status = 200, description = "Where each piece begins, and when.", body = LogTimes), (status = 404), (status = 410))
)]
async fn log_times(
    State(web): State<Arc<Web>>,
    Path(path): Path<(String, String)>,
    query: Result<Query<Which>, QueryRejection>,
) -> Answer<Json<LogTimes>> {
    let log = one(&web, &path, &asked(query)?).await?;
    Ok(Json(LogTimes { pieces: times(&web, &log.mark).await.map_err(unreadable)? }))
}

/// A log by its name, of the last attempt that has it unless one is named, or a job.
pub(super) async fn one(web: &Web, (text, log): &(String, String), which: &Which) -> Answer<Log> {
    let build = number(text)?;
    let Which { attempt, job } = which;
    let snapshot = whole(web, build).await?;
    let is_meant = |place: u32| {
        let key = job.as_deref();
        let of_job = || snapshot.view.attempts.iter().any(|one| one.attempt == place && Some(one.job.as_str()) == key);
        attempt.is_none_or(|attempt| attempt == place) && (job.is_none() || of_job())
    };
    let found = snapshot.logs.iter().rev().find(|(place, mark)| mark.log.as_str() == log && is_meant(*place));
    let Some((attempt, mark)) = found else {
        if snapshot.view.logs_removed_ms.is_some() {
            let sentence = format!("the logs of build {build} are not kept any more; do the build again");
            return Err(Refusal::new(StatusCode::GONE, sentence));
        }
        let names: Vec<&str> = snapshot.logs.iter().map(|(_, mark)| mark.log.as_str()).collect();
        let known = if names.is_empty() { "none so far".to_owned() } else { names.join(", ") };
        return Err(Refusal::not_found(format!("build {build} has no such log {log:?}; it has: {known}")));
    };
    Ok(Log { build, attempt: *attempt, mark: mark.clone() })
}

/// A log whose file cannot be read.
pub(super) fn unreadable(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the log cannot be read: {error}"))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct LinesQuery {
    /// Of this attempt; of the last one that has it without.
    #[param(maximum = 4294967295_u32)]
    attempt: Option<u32>,
    /// Of the job with this key.
    job: Option<String>,
    /// From the line with this number on; from the end when it is negative.
    #[param(minimum = -9223372036854775808_i64, maximum = 9223372036854775807_i64)]
    from: Option<i64>,
    /// How many, 500 when nothing is said, and 2000 at most.
    #[param(maximum = 18446744073709551615_u64)]
    count: Option<u64>,
    /// As HTML with colours when nothing is said.
    #[param(inline)]
    format: Option<LinesFormat>,
}

/// How lines are written.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum LinesFormat {
    /// As spans with classes, and links.
    Html,
    /// Without colours.
    Text,
}

/// Lines of a log by their numbers.
#[utoipa::path(
    get,
    path = "/builds/{number}/logs/{log}/lines",
    operation_id = "log_lines",
    params(("number" = u64, Path, description = "The build's number."), ("log" = LogName, Path, description = "The log's name, as the build has it."), LinesQuery),
    responses((status = 200, description = "The lines, and where the log stands.", body = LogLines), (status = 404), (status = 410))
)]
async fn lines(
    State(web): State<Arc<Web>>,
    Path(path): Path<(String, String)>,
    query: Result<Query<LinesQuery>, QueryRejection>,
) -> Answer<Json<LogLines>> {
    let LinesQuery { attempt, job, from, count, format } = asked(query)?;
    let log = one(&web, &path, &Which { attempt, job }).await?;
    let count = count.unwrap_or(LINES).clamp(1, LINES_MOST);
    let form = match format {
        Some(LinesFormat::Text) => Form::Text,
        Some(LinesFormat::Html) | None => Form::Html,
    };
    Ok(Json(lines_of(&web, &log, (from.unwrap_or(1), count), form).await.map_err(unreadable)?))
}

/// At most so many lines of a log, from one on; from the end when that one is negative.
pub(super) async fn lines_of(web: &Web, log: &Log, wanted: (i64, u64), form: Form) -> io::Result<LogLines> {
    let (files, place) = (web.desk.store.log_files().clone(), log.mark.place.clone());
    let (known, extent) = web.indexes.extent(&files, &place, log.mark.bytes, wanted).await?;
    let reading = move || {
        let lines = extent.read(&files)?;
        let (from, to) = (lines.first().map_or(0, |line| line.offset), lines.last().map_or(0, |line| line.offset + 1));
        let times = files.times_between(&place, from, to)?;
        let began_ms = files.times_between(&place, 0, 1)?.first().map(|(_, at_ms)| *at_ms);
        Ok::<_, io::Error>((shown(&lines, &times, began_ms, form), began_ms))
    };
    let (lines, began_ms) = tokio::task::spawn_blocking(reading).await.map_err(io::Error::other)??;
    Ok(LogLines { lines, log: state_of(web, log, &known, began_ms).await? })
}

fn shown(lines: &[Line], times: &[(u64, u64)], began_ms: Option<u64>, form: Form) -> Vec<LogLine> {
    let (mut shown, mut size, mut piece) = (Vec::with_capacity(lines.len()), 0, 0);
    for line in lines {
        if size > SHOWN_MOST {
            break;
        }
        while times.get(piece + 1).is_some_and(|(begins, _)| *begins <= line.offset) {
            piece += 1;
        }
        let at_ms = times.get(piece).map(|(_, at_ms)| *at_ms);
        let ms = at_ms.zip(began_ms).map(|(at, began)| at.saturating_sub(began));
        let text = line.shown(form);
        size += text.len();
        shown.push(LogLine { n: line.number, ms, text, left_out: line.left_out, open: line.open });
    }
    shown
}

async fn state_of(web: &Web, log: &Log, known: &Known, began_ms: Option<u64>) -> io::Result<LogState> {
    if known.bytes < log.mark.bytes {
        shorten(web, log.build, &log.mark).await?;
    }
    Ok(LogState {
        attempt: log.attempt,
        total: known.total,
        bytes: known.bytes,
        settled: log.mark.is_settled(),
        gap: log.mark.view().gap(),
        began_ms,
        commands: known.commands,
    })
}

/// The lines of a log that announce a command.
#[utoipa::path(
    get,
    path = "/builds/{number}/logs/{log}/commands",
    operation_id = "log_commands",
    params(("number" = u64, Path, description = "The build's number."), ("log" = LogName, Path, description = "The log's name, as the build has it."), Which),
    responses((status = 200, description = "In order.", body = LogCommands), (status = 404), (status = 410))
)]
async fn commands(
    State(web): State<Arc<Web>>,
    Path(path): Path<(String, String)>,
    query: Result<Query<Which>, QueryRejection>,
) -> Answer<Json<LogCommands>> {
    let log = one(&web, &path, &asked(query)?).await?;
    let (files, place) = (web.desk.store.log_files().clone(), log.mark.place.clone());
    let (_, found) = web.indexes.commands(&files, &place, log.mark.bytes).await.map_err(unreadable)?;
    let reading = move || {
        let read = |(line, offset)| Ok(LogCommand { line, text: log_view::command(&files, &place, offset)? });
        found.into_iter().map(read).collect::<io::Result<Vec<_>>>()
    };
    let commands = tokio::task::spawn_blocking(reading).await.map_err(unreadable)?.map_err(unreadable)?;
    Ok(Json(LogCommands { commands }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct RawQuery {
    /// Of this attempt; of the last one that has it without.
    #[param(maximum = 4294967295_u32)]
    attempt: Option<u32>,
    /// Of the job with this key.
    job: Option<String>,
    /// Whether browsers are to keep it as a file, whatever the value is.
    download: Option<String>,
}

/// The bytes as they were printed, as far as they are there; a part of them when a `Range` asks for one.
#[utoipa::path(
    get,
    path = "/builds/{number}/logs/{log}/raw",
    operation_id = "raw_log",
    params(("number" = u64, Path, description = "The build's number."), ("log" = LogName, Path, description = "The log's name, as the build has it."), RawQuery, ("range" = Option<String>, Header, description = "Which bytes, such as `bytes=0-99`.")),
    responses((status = 200, description = "The bytes as they were printed.", content_type = "text/plain; charset=utf-8", body = String), (status = 206, description = "Some of the bytes.", content_type = "text/plain; charset=utf-8", body = String), (status = 404), (status = 410), (status = 416))
)]
async fn raw(
    State(web): State<Arc<Web>>,
    Path(path): Path<(String, String)>,
    query: Result<Query<RawQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Answer<Response> {
    let RawQuery { attempt, job, download } = asked(query)?;
    let Log { build, attempt, mut mark } = one(&web, &path, &Which { attempt, job }).await?;
    let all = mark.bytes;
    let (status, from, to) = match headers.get(header::RANGE).map(|range| part_of(range, all)) {
        None | Some(Part::Whole) => (StatusCode::OK, 0, all),
        Some(Part::Of(from, to)) => (StatusCode::PARTIAL_CONTENT, from, to),
        Some(Part::Outside) => {
            let refusal = format!("the log has {all} bytes so far, and none in this range");
            let mut refused = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, refusal).into_response();
            refused.headers_mut().insert(header::CONTENT_RANGE, text_value(&format!("bytes */{all}")));
            return Ok(refused);
        }
    };
    let name = format!("build-{}-{attempt}-{}.log", build.0, mark.log);
    mark.bytes = to;
    let reader = LogReader::new(web, build, (attempt, mark), from, false);
    let mut response = (status, Body::from_stream(reader.stream())).into_response();
    let told = response.headers_mut();
    told.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    told.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    told.insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
    if status == StatusCode::PARTIAL_CONTENT {
        told.insert(header::CONTENT_RANGE, text_value(&format!("bytes {from}-{}/{all}", to - 1)));
    }
    if download.is_some() {
        told.insert(header::CONTENT_DISPOSITION, text_value(&format!("attachment; filename=\"{name}\"")));
    }
    Ok(response)
}

/// Numbers and names of logs are letters that a header may have.
fn text_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// Which part of the bytes is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// All: nothing that can be understood is said, or several parts, which a server need not give.
    Whole,
    /// From a place to another, not empty.
    Of(u64, u64),
    /// None that is there.
    Outside,
}

fn part_of(range: &HeaderValue, all: u64) -> Part {
    let said = range.to_str().ok().and_then(|text| text.trim().strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = said else { return Part::Whole };
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first > last => Part::Whole,
        (Ok(first), _) if first >= all && (last.is_empty() || last.trim().parse::<u64>().is_ok()) => Part::Outside,
        (Ok(first), Ok(last)) => Part::Of(first, last.saturating_add(1).min(all)),
        (Ok(first), Err(_)) if last.trim().is_empty() => Part::Of(first, all),
        (Err(_), Ok(0)) if first.trim().is_empty() => Part::Outside,
        (Err(_), Ok(last)) if first.trim().is_empty() && all > 0 => Part::Of(all.saturating_sub(last), all),
        _ => Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_log() {
        for (range, expect) in [
            ("bytes=0-3", Part::Of(0, 4)),
            ("bytes=4-", Part::Of(4, 10)),
            ("bytes=4-99", Part::Of(4, 10)),
            ("bytes=-3", Part::Of(7, 10)),
            ("bytes=-30", Part::Of(0, 10)),
            ("bytes=10-", Part::Outside),
            ("bytes=12-13", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=3-2", Part::Whole),
            ("bytes=0-1,4-5", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=x-y", Part::Whole),
            ("bytes=-", Part::Whole),
        ] {
            assert_eq!(part_of(&HeaderValue::from_static(range), 10), expect, "{range}");
        }
        assert_eq!(part_of(&HeaderValue::from_static("bytes=-5"), 0), Part::Whole);
    }
}
