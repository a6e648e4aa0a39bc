//! The pages: the list of builds, and one build with its stages and logs. Made here whole, without scripts.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::get;
use buildr::process::clock::now_ms;
use protocol::api::{AttemptView, BuildRow, BuildView, Builds, IncidentView, Why, coming, span};
use serde::Deserialize;

use super::Web;
use super::access::COOKIE_NAME;
use super::api::{ListQuery, list, number, whole};
use super::follow::tail;
use super::job_part::{details_part, jobs_part};
use super::refusal::Refusal;
use super::text::{Shown, plain};
use crate::store::LogMark;
use crate::why;

/// How much of a log stands on a page, from its end.
const LOG_SHOWN: u64 = 128 << 10;

/// For how long an incident is news.
const NEWS_MS: u64 = 24 * 60 * 60 * 1000;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1c2024}\
a{color:#0b5fb0;text-decoration:none}a:hover{text-decoration:underline}h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid #e3e6ea;vertical-align:top}\
pre{background:#14171a;color:#e6e8ea;padding:1rem;overflow:auto;max-height:40rem;font:13px/1.45 ui-monospace,monospace}\
.passed{color:#18794e}.failed,.errored{color:#c62a2f}.running,.cancelling{color:#0b5fb0}.queued,.cancelled,.skipped,.lost{color:#687076}";

/// A part of a page.
type Part = Result<String, fmt::Error>;

pub(super) fn router() -> Router<Arc<Web>> {
    Router::new().route("/", get(front)).route("/builds/{number}", get(build))
}

#[derive(Deserialize)]
struct SignIn {
    token: Option<String>,
}

async fn front(
    State(web): State<Arc<Web>>,
    headers: HeaderMap,
    sign_in: Result<Query<SignIn>, QueryRejection>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response {
    if let Ok(Query(SignIn { token: Some(token) })) = sign_in {
        return signed_in(&web, &token);
    }
    if !web.access.is_open(&headers) && !web.access.may_read(&headers) {
        let sentence = "To look at builds, open the link that the coordinator printed, or /?token=TOKEN.";
        return sorry(&Refusal::new(StatusCode::UNAUTHORIZED, sentence));
    }
    let listed = match query {
        Ok(Query(query)) => list(&web, &query).await,
        Err(rejection) => Err(Refusal::bad_request(rejection.body_text())),
    };
    // That they cannot be read keeps nobody from the builds.
    let since = now_ms().saturating_sub(NEWS_MS);
    let incidents = web.desk.store.incidents_since(since).await.unwrap_or_default();
    match listed {
        Ok(builds) => page("Builds", incidents_part(&incidents).and_then(|part| Ok(part + &builds_part(&builds)?))),
        Err(refusal) => sorry(&refusal),
    }
}

/// The token leaves the address bar at once; what stays is a cookie that lets look.
fn signed_in(web: &Web, token: &str) -> Response {
    if !web.access.is_token(token) {
        let sentence = "This is not the token of this farm; it changes when its file is removed.";
        return sorry(&Refusal::new(StatusCode::UNAUTHORIZED, sentence));
    }
    let cookie = format!("{COOKIE_NAME}={}; Path=/; HttpOnly; SameSite=Strict", web.access.cookie_value());
    ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

async fn build(State(web): State<Arc<Web>>, Path(text): Path<String>) -> Response {
    match build_page(&web, &text).await {
        Ok((title, part)) => page(&title, part),
        Err(refusal) => sorry(&refusal),
    }
}

async fn build_page(web: &Web, text: &str) -> Result<(String, Part), Refusal> {
    let number = number(text)?;
    let snapshot = whole(web, number).await?;
    let mut logs = Vec::new();
    for (attempt, mark) in snapshot.logs {
        let bytes = tail(web, &mark, LOG_SHOWN).await;
        let bytes = bytes.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        logs.push((attempt, plain(&bytes), mark));
    }
    let why = why::why(&web.desk, snapshot.view.clone(), snapshot.waiting).await?;
    let part = build_part(&snapshot.view, &why, &logs);
    Ok((format!("Build {number}"), part))
}

/// One line, when something was not as it should be of late.
fn incidents_part((count, newest): &(u64, Option<IncidentView>)) -> Part {
    let mut out = String::new();
    if let Some(newest) = newest {
        let kinds = if *count == 1 { "1 incident" } else { &format!("{count} incidents") };
        writeln!(
            out,
            "<p class=\"failed\">{kinds} in the last day; the newest about {}: {} · <code>buildr incidents</code></p>",
            Shown(&newest.about),
            Shown(&newest.sentence)
        )?;
    }
    Ok(out)
}

fn builds_part(builds: &Builds) -> Part {
    let mut out = String::from("<h1>Builds</h1>\n");
    if builds.builds.is_empty() {
        out.push_str("<p>There is none here. Begin one with <code>buildr submit REPOSITORY</code>.</p>\n");
        return Ok(out);
    }
    out.push_str("<table>\n<tr><th>Build</th><th>Status</th><th>Repository</th><th>Commit</th><th>Began</th></tr>\n");
    for build in &builds.builds {
        let BuildRow { number, repo, .. } = build;
        writeln!(
            out,
            "<tr><td><a href=\"/builds/{id}\">{number}</a></td><td>{status}{message}</td><td>{repo}{branch}</td>\
             <td>{commit} {subject}</td><td>{began}</td></tr>",
            id = number.0,
            status = status_part(build.status.name()),
            message = message_part(build.message.as_deref()),
            repo = Shown(repo),
            branch = build.branch.as_ref().map(|branch| format!(" · {}", Shown(branch))).unwrap_or_default(),
            commit = build.commit.as_ref().map_or("", |commit| commit.short()),
            subject = Shown(build.subject.as_deref().unwrap_or("")),
            began = time_part(build.created_ms),
        )?;
    }
    out.push_str("</table>\n");
    if let Some(next) = builds.next {
        writeln!(out, "<p><a href=\"/?before={}\">older builds</a></p>", next.0)?;
    }
    Ok(out)
}

fn build_part(view: &BuildView, why: &Why, logs: &[(u32, String, LogMark)]) -> Part {
    let BuildView { build, attempts, .. } = view;
    let mut out = String::from("<p><a href=\"/\">all builds</a></p>\n");
    writeln!(out, "<h1>Build {}: {}</h1>", build.number, status_part(build.status.name()))?;
    write!(out, "<p>{}", Shown(&build.repo))?;
    if let Some(branch) = &build.branch {
        write!(out, " · {}", Shown(branch))?;
    }
    if let Some(commit) = &build.commit {
        write!(out, " · {} {}", commit.short(), Shown(build.subject.as_deref().unwrap_or("")))?;
    }
    writeln!(out, " · {} · {}</p>", Shown(&build.trigger), time_part(build.created_ms))?;
    if let Some(message) = &build.message {
        writeln!(out, "<p>{}</p>", Shown(message))?;
    }
    why_part(&mut out, build, why)?;
    jobs_part(&mut out, view)?;
    for attempt in attempts {
        attempt_part(&mut out, build, attempt, logs)?;
    }
    Ok(out)
}

/// What the message and the attempts below do not say already.
fn why_part(out: &mut String, build: &BuildRow, why: &Why) -> fmt::Result {
    let mut lines = Vec::new();
    let said = |sentence: &str| build.message.as_deref() == Some(sentence);
    if let Some(by) = &why.by {
        lines.push(format!("asked for by {by}"));
    }
    for job in why.waiting.iter().filter(|job| !said(&job.sentence)) {
        lines.push(format!("{} {}", job.job, job.sentence));
    }
    for job in &why.running {
        let stage = job.stage.as_ref().map(|stage| format!(", in stage {stage}")).unwrap_or_default();
        let end = job.expected_ms.map_or_else(
            || "no earlier build tells when it ends".to_owned(),
            |ms| format!("expected to end {}", coming(ms)),
        );
        lines.push(format!("{} runs on {} for {}{stage}; {end}", job.job, job.agent, span(job.for_ms)));
    }
    for lost in &why.lost {
        lines.push(lost.sentence(""));
    }
    for job in why.not_run.iter().filter(|skipped| skipped.stage.is_none() && !said(&skipped.why)) {
        lines.push(format!("{}: {}", job.job, job.why));
    }
    lines.extend(why.cut_short.iter().filter(|job| !said(&job.why)).map(|job| format!("{}: {}", job.job, job.why)));
    if lines.is_empty() {
        return Ok(());
    }
    out.push_str("<ul>\n");
    for line in lines {
        writeln!(out, "<li>{}</li>", Shown(line))?;
    }
    out.push_str("</ul>\n");
    Ok(())
}

fn attempt_part(
    out: &mut String,
    build: &BuildRow,
    attempt: &AttemptView,
    logs: &[(u32, String, LogMark)],
) -> fmt::Result {
    let number = attempt.attempt;
    writeln!(
        out,
        "<h2>{} · attempt {number} on {}: {}</h2>",
        Shown(&attempt.job),
        Shown(&attempt.agent),
        status_part(&attempt.state)
    )?;
    out.push_str("<table>\n");
    for stage in &attempt.stages {
        let status = stage.result.as_ref().map_or("running", |result| result.name());
        let detail = stage.result.as_ref().and_then(|result| result.detail());
        let took = stage.duration_ms.map(|ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100)).unwrap_or_default();
        writeln!(
            out,
            "<tr><td>{}</td><td>{}{}</td><td>{}</td><td>{took}</td></tr>",
            Shown(&stage.name),
            status_part(status),
            message_part(detail.as_deref()),
            Shown(&stage.image),
        )?;
    }
    out.push_str("</table>\n");
    for stage in &attempt.stages {
        details_part(out, stage)?;
    }
    for (_, text, mark) in logs.iter().filter(|(place, _, _)| *place == number) {
        let view = mark.view();
        let cut = if view.bytes > LOG_SHOWN { ", its end" } else { "" };
        let gap = view.gap().map(|gap| format!("\n── {gap}")).unwrap_or_default();
        writeln!(
            out,
            "<h3>{title}{cut} · <a href=\"/api/v1/builds/{id}/logs/{name}?attempt={number}\">all of it</a></h3>\n<pre>{text}{gap}</pre>",
            title = Shown(view.name.title()),
            name = Shown(&view.name),
            id = build.number.0,
            text = Shown(text),
        )?;
    }
    Ok(())
}

fn status_part(name: &str) -> String {
    format!("<span class=\"{0}\">{0}</span>", Shown(name))
}

fn message_part(message: Option<&str>) -> String {
    message.map(|message| format!("<br>{}", Shown(message))).unwrap_or_default()
}

fn time_part(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map(|time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default()
}

fn page(title: &str, part: Part) -> Response {
    match part {
        Ok(part) => Html(document(title, &part)).into_response(),
        Err(error) => sorry(&Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

fn sorry(refusal: &Refusal) -> Response {
    let part = format!("<h1>{}</h1>\n<p>{}</p>", refusal.status.as_u16(), Shown(&refusal.sentence));
    (refusal.status, Html(document("Sorry", &part))).into_response()
}

fn document(title: &str, part: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{} · buildr</title><style>{STYLE}</style></head>\n<body>\n{part}\n</body>\n</html>\n",
        Shown(title)
    )
}
