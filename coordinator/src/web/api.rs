//! `/api/v1`: versioned JSON, with the types of `protocol::api`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use buildr::process::clock::now_ms;
use protocol::api::{
    ASKED_BY, ApproveJob, Approved, BuildRow, BuildView, Builds, Cancelled, Incidents, JobView, PLANNING_KEY, Status,
    Submit, Timeline, WaitingJob, Why,
};
use protocol::job::{Origin, TriggerKind};
use protocol::link::Health;
use protocol::{Branch, BuildNumber, Variable};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Web;
use super::access::Visitor;
use super::deeds::{cancelled, said_at_gate};
use super::follow::Follower;
use super::refusal::Refusal;
use crate::intake::{self, Trigger, check_variables};
use crate::store::{LogMark, Page, Snapshot};
use crate::timeline::timeline;
use crate::why;

/// How many builds a page has when nothing is said.
const PAGE: u32 = 50;

/// How many it has at most.
const PAGE_MOST: u32 = 500;

pub(super) type Answer<T> = Result<T, Refusal>;

pub(super) fn router() -> Router<Arc<Web>> {
    Router::new()
        .route("/health", get(health))
        .route("/builds", get(builds).post(submit))
        .route("/builds/{number}", get(build))
        .route("/builds/{number}/follow", get(follow))
        .route("/builds/{number}/cancel", post(cancel))
        .route("/builds/{number}/approve", post(approve))
        .route("/builds/{number}/jobs/{key}/approve", post(approve_one))
        .route("/builds/{number}/why", get(why_one))
        .route("/builds/{number}/timeline", get(timeline_of))
        .route("/why", get(why_newest))
        .merge(super::doing::router())
        .merge(super::logs::router())
        .merge(super::artifacts::router())
        .nest("/agents", super::agents::router())
        .nest("/depot", super::depot::router())
        .nest("/projects", super::projects::router())
        .nest("/deliveries", super::deliveries::router())
        .route("/incidents", get(incidents))
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    pub(super) before: Option<u64>,
    pub(super) limit: Option<u32>,
    pub(super) status: Option<Status>,
    pub(super) repo: Option<String>,
    pub(super) branch: Option<Branch>,
}

/// A page of builds, the newest first.
pub(super) async fn list(web: &Web, query: &ListQuery) -> Answer<Builds> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MOST);
    // One more than is shown tells whether there is a next page.
    let page = Page {
        before: query.before.map(BuildNumber),
        limit: limit + 1,
        status: query.status,
        repo: query.repo.clone(),
        branch: query.branch.as_ref().map(|branch| branch.as_str().to_owned()),
    };
    let mut found = web.desk.store.builds(&page).await?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > shown;
    found.truncate(shown);
    let next = found.last().filter(|_| more).map(|build| build.number);
    if found.iter().any(|build| !build.status.is_over()) {
        let waits = web.waits.look(&web.desk).await?;
        for build in &mut found {
            said_why(build, waits.of(build.number));
            // What waits for no agent, but for a person or its turn, says so too.
            if build.message.is_none() && !build.status.is_over() {
                build.message = held_by(&web.desk.store.held_jobs(build.number).await?);
            }
        }
        // One that began after the last look stands in the list, and waits for a reason too.
        if found.iter().any(|build| build.message.is_none() && build.status == Status::Queued) {
            let waits = web.waits.look_again(&web.desk).await?;
            found.iter_mut().for_each(|build| said_why(build, waits.of(build.number)));
        }
    }
    Ok(Builds { builds: found, next })
}

/// A build whole, as it was at one moment, with why it waits.
pub(super) struct Whole {
    /// What is shown of it.
    pub(super) view: BuildView,
    /// Its logs, by the number of the attempt as the view has it.
    pub(super) logs: Vec<(u32, LogMark)>,
    /// Its jobs that could run now and wait, the one that comes to its turn first before the others.
    pub(super) waiting: Vec<WaitingJob>,
}

/// A build whole, with why it waits.
pub(super) async fn whole(web: &Web, number: BuildNumber) -> Answer<Whole> {
    let Some(Snapshot { mut view, waits, logs }) = web.desk.store.snapshot(number).await? else {
        return Err(no_such_build(number));
    };
    if !waits {
        return Ok(Whole { view, logs, waiting: Vec::new() });
    }
    // Looked up now: what is said beside the build's state must be of the same moment.
    let waiting = why::waits(&web.desk).await?.of(number).to_vec();
    for job in &mut view.jobs {
        let waits = waiting.iter().find(|waiting| waiting.job == job.key);
        job.message = job.message.take().or_else(|| waits.map(|waiting| waiting.sentence.clone()));
    }
    said_why(&mut view.build, &waiting);
    if view.build.status.is_over() || view.build.message.is_some() {
        return Ok(Whole { view, logs, waiting });
    }
    view.build.message = held_by(&view.jobs);
    Ok(Whole { view, logs, waiting })
}

/// Where nothing of a build could run now, what stands before the first of its jobs that waits is the build's reason;
/// what a person is asked is so in any case.
fn held_by(jobs: &[JobView]) -> Option<String> {
    let at_work = jobs.iter().any(|job| matches!(job.status, Status::Running | Status::Cancelling));
    let asks = |job: &&JobView| job.gate.as_ref().is_some_and(|gate| gate.open);
    let held = |job: &&JobView| job.status == Status::Queued && job.message.is_some() && !at_work;
    let first = jobs.iter().find(asks).or_else(|| jobs.iter().find(held))?;
    let message = first.message.as_ref()?;
    // What stands before the planning stands before all of it.
    let is_whole = first.key.as_str() == PLANNING_KEY;
    Some(if is_whole { message.clone() } else { format!("{}: {message}", first.key) })
}

pub(super) fn no_such_build(number: BuildNumber) -> Refusal {
    Refusal::not_found(format!("there is no build {number}; `buildr builds` lists them"))
}

/// The reason of the job that comes to its turn first is the build's.
fn said_why(build: &mut BuildRow, waiting: &[WaitingJob]) {
    if let (Some(first), None, false) = (waiting.first(), &build.message, build.status.is_over()) {
        build.message = Some(first.sentence.clone());
    }
}

/// A build's number, as it stands in a path.
pub(super) fn number(text: &str) -> Answer<BuildNumber> {
    match text.parse() {
        Ok(number) => Ok(BuildNumber(number)),
        Err(_) => Err(Refusal::bad_request(format!("{text:?} is not a build's number; write one such as 12"))),
    }
}

#[derive(Serialize)]
struct HealthView {
    version: &'static str,
    /// `up`, `blocked` or `away`: the line to the agents.
    link: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// The line to the agents (`up`, `blocked` or `away`), and why builds cannot go on, when they cannot.
pub(super) fn trouble(web: &Web) -> (&'static str, Option<String>) {
    let (link, message) = match &*web.desk.link.health().borrow() {
        Health::Up(_) => ("up", None),
        Health::Blocked { reason } => ("blocked", Some(reason.clone())),
        Health::Away { reason } => ("away", Some(reason.clone())),
    };
    (link, message.or_else(|| web.desk.store.trouble()))
}

/// 200 while builds can go on, 503 while the agents cannot be reached.
async fn health(State(web): State<Arc<Web>>) -> Response {
    let (link, message) = trouble(&web);
    let status = if message.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(HealthView { version: env!("CARGO_PKG_VERSION"), link, message })).into_response()
}

async fn builds(State(web): State<Arc<Web>>, query: Result<Query<ListQuery>, QueryRejection>) -> Answer<Json<Builds>> {
    Ok(Json(list(&web, &asked(query)?).await?))
}

async fn submit(
    State(web): State<Arc<Web>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<(StatusCode, Json<BuildView>)> {
    let Submit { repo, branch, tag, commit, inputs } = json(body)?;
    if branch.is_some() && tag.is_some() {
        return Err(Refusal::bad_request("a build is of a branch or of a tag; name one of them"));
    }
    // A tag is a name of the same making.
    let tag = tag.map(|tag| tag.parse::<Branch>()).transpose();
    let tag = tag.map_err(|error| Refusal::bad_request(format!("the tag cannot be: {error}")))?;
    let inputs: Vec<Variable> = inputs.into_iter().map(|(name, value)| Variable { name, value }).collect();
    check_variables(&inputs).map_err(Refusal::bad_request)?;
    let origin = Origin { tag: tag.map(|tag| tag.to_string()), ..Origin::default() };
    let trigger = Trigger { branch, origin, commit, inputs, ..Trigger::new(repo, TriggerKind::Manual) };
    let number = intake::submit(&web.desk, &trigger, asked_by(&headers).as_deref()).await?;
    Ok((StatusCode::CREATED, Json(begun(&web, number, trigger).await?)))
}

/// A build that begins now: nothing of it is in the store that is not known here, so it is not read for the answer.
async fn begun(web: &Web, number: BuildNumber, trigger: Trigger) -> Answer<BuildView> {
    let row = BuildRow {
        number,
        repo: trigger.repo.to_string(),
        branch: trigger.branch,
        commit: trigger.commit,
        subject: None,
        trigger: trigger.kind.name().to_owned(),
        status: Status::Queued,
        message: None,
        created_ms: now_ms(),
        started_ms: None,
        ended_ms: None,
    };
    let mut view = BuildView { inputs: trigger.inputs, origin: trigger.origin, ..BuildView::new(row) };
    said_why(&mut view.build, web.waits.look(&web.desk).await?.of(number));
    Ok(view)
}

async fn build(State(web): State<Arc<Web>>, Path(text): Path<String>) -> Answer<Json<BuildView>> {
    Ok(Json(whole(&web, number(&text)?).await?.view))
}

async fn why_one(State(web): State<Arc<Web>>, Path(text): Path<String>) -> Answer<Json<Why>> {
    Ok(Json(told(&web, number(&text)?).await?))
}

async fn timeline_of(State(web): State<Arc<Web>>, Path(text): Path<String>) -> Answer<Json<Timeline>> {
    let number = number(&text)?;
    let times = web.desk.store.times_of(number).await?.ok_or_else(|| no_such_build(number))?;
    Ok(Json(timeline(&times, now_ms())))
}

/// Of the newest build that waits, or else of the newest one.
async fn why_newest(State(web): State<Arc<Web>>) -> Answer<Json<Why>> {
    let newest = web.desk.store.newest_to_ask_for().await?;
    let number = newest.ok_or_else(|| Refusal::not_found("there is no build yet; begin one with `buildr submit`"))?;
    Ok(Json(told(&web, number).await?))
}

/// All that is known of why a build is where it is.
pub(super) async fn told(web: &Web, number: BuildNumber) -> Answer<Why> {
    let whole = whole(web, number).await?;
    Ok(why::why(&web.desk, whole.view, whole.waiting).await?)
}

/// Who asks, as that one says: a short text for people, or nothing.
pub(super) fn asked_by(headers: &HeaderMap) -> Option<String> {
    let said = headers.get(ASKED_BY)?.to_str().ok()?;
    let by: String = said.chars().filter(|c| !c.is_control()).take(100).collect();
    Some(by.trim().to_owned()).filter(|by| !by.is_empty())
}

async fn cancel(
    State(web): State<Arc<Web>>,
    Path(text): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Json<Cancelled>> {
    Ok(Json(cancelled(&web, number(&text)?, json_or_default(body)?).await?))
}

async fn approve(
    State(web): State<Arc<Web>>,
    Path(text): Path<String>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Json<Approved>> {
    Ok(Json(said_at_gate(&web, &text, json_or_default(body)?, &visitor, &headers).await?))
}

async fn approve_one(
    State(web): State<Arc<Web>>,
    Path((text, key)): Path<(String, String)>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Json<Approved>> {
    let said: ApproveJob = json_or_default(body)?;
    let job = key.parse().map_err(|error| Refusal::bad_request(format!("{error}")))?;
    Ok(Json(said_at_gate(&web, &text, ApproveJob { job: Some(job), ..said }, &visitor, &headers).await?))
}

async fn follow(State(web): State<Arc<Web>>, Path(text): Path<String>) -> Answer<Response> {
    let number = number(&text)?;
    // Asked here, so that a build that is not there is a 404 and no broken stream.
    whole(&web, number).await?;
    Ok(streamed("application/x-ndjson", Body::from_stream(Follower::new(web, number).stream())))
}

pub(super) fn streamed(kind: &'static str, body: Body) -> Response {
    // Proxies that gather a stream before they pass it on are asked not to.
    ([(header::CONTENT_TYPE, kind), (header::HeaderName::from_static("x-accel-buffering"), "no")], body).into_response()
}

/// What a person wrote, on one line and not without end; nothing when that leaves nothing.
pub(super) fn said(text: Option<String>) -> Option<String> {
    let text: String = text?.chars().filter(|c| !c.is_control()).take(500).collect();
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

async fn incidents(State(web): State<Arc<Web>>) -> Answer<Json<Incidents>> {
    let incidents = web.desk.store.incidents().await?;
    let (dead_letters, newest_dead) = web.desk.store.dead_letters().await?;
    Ok(Json(Incidents { incidents, dead_letters, newest_dead }))
}

pub(super) fn asked<T>(query: Result<Query<T>, QueryRejection>) -> Answer<T> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => Err(Refusal::bad_request(rejection.body_text())),
    }
}

pub(super) fn json<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Answer<T> {
    let body = body.map_err(|rejection| Refusal::new(rejection.status(), rejection.body_text()))?;
    serde_json::from_slice(&body).map_err(|error| Refusal::bad_request(format!("the request cannot be read: {error}")))
}

pub(super) fn json_or_default<T: DeserializeOwned + Default>(body: Result<Bytes, BytesRejection>) -> Answer<T> {
    match body {
        Ok(body) if body.is_empty() => Ok(T::default()),
        body => json(body),
    }
}
