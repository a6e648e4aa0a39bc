//! `/api/v1`: versioned JSON, with the types of `protocol::api`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use buildr::process::clock::now_ms;
use protocol::api::{
    ApproveJob, Approved, BuildRow, BuildView, Builds, CancelRequest, Cancelled, Incidents, JobView, PLANNING_KEY,
    Status, Submit, Timeline, WaitingJob, Why,
};
use protocol::job::{Origin, TriggerKind};
use protocol::{Branch, BuildNumber, JobKey, Variable};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Web;
use super::access::Visitor;
pub(super) use super::asked::{Answer, Path, asked, asked_by, json, json_or_default, number, said};
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

/// What is documented; all of it but [`super::depot`], which is for agents alone.
pub(super) fn router() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::default()
        .routes(routes!(super::health::health))
        .routes(routes!(builds, submit))
        .routes(routes!(build))
        .routes(routes!(follow))
        .routes(routes!(cancel))
        .routes(routes!(approve))
        .routes(routes!(approve_one))
        .routes(routes!(why_one))
        .routes(routes!(timeline_of))
        .routes(routes!(why_newest))
        .merge(super::doing::router())
        .merge(super::logs::router())
        .merge(super::log_search::router())
        .merge(super::artifacts::router())
        .nest("/agents", super::agents::router())
        .nest("/projects", super::projects::router())
        .nest("/deliveries", super::deliveries::router())
        .routes(routes!(incidents))
}

/// Which builds are asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Those with lower numbers: `next` of the page before.
    #[param(maximum = 18446744073709551615_u64)]
    pub(super) before: Option<u64>,
    /// How many, 50 when nothing is said, and 500 at most.
    #[param(maximum = 4294967295_u32)]
    pub(super) limit: Option<u32>,
    /// Those that stand so.
    pub(super) status: Option<Status>,
    /// Those of this repository, by any of its URLs.
    pub(super) repo: Option<String>,
    /// Those of this branch.
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

/// Builds, the newest first, a page at a time.
#[utoipa::path(
    get,
    path = "/builds",
    operation_id = "list_builds",
    params(ListQuery),
    responses((status = 200, description = "A page of builds.", body = Builds))
)]
async fn builds(State(web): State<Arc<Web>>, query: Result<Query<ListQuery>, QueryRejection>) -> Answer<Json<Builds>> {
    Ok(Json(list(&web, &asked(query)?).await?))
}

/// Begins a build.
#[utoipa::path(
    post,
    path = "/builds",
    request_body = Submit,
    responses((status = 201, description = "The build, which waits for an agent.", body = BuildView), (status = 422))
)]
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

/// One build whole.
#[utoipa::path(
    get,
    path = "/builds/{number}",
    params(("number" = u64, Path, description = "The build's number.")),
    responses((status = 200, description = "The build.", body = BuildView), (status = 404))
)]
async fn build(State(web): State<Arc<Web>>, Path(text): Path<String>) -> Answer<Json<BuildView>> {
    Ok(Json(whole(&web, number(&text)?).await?.view))
}

/// Why a build is where it is: what it waits for, where it runs, what was lost of it.
#[utoipa::path(
    get,
    path = "/builds/{number}/why",
    operation_id = "why",
    params(("number" = u64, Path, description = "The build's number.")),
    responses((status = 200, description = "Each reason with its data and a sentence.", body = Why), (status = 404))
)]
async fn why_one(State(web): State<Arc<Web>>, Path(text): Path<String>) -> Answer<Json<Why>> {
    Ok(Json(told(&web, number(&text)?).await?))
}

/// Where the time of a build went.
#[utoipa::path(
    get,
    path = "/builds/{number}/timeline",
    operation_id = "timeline",
    params(("number" = u64, Path, description = "The build's number.")),
    responses((status = 200, description = "By attempt, part and stage.", body = Timeline), (status = 404))
)]
async fn timeline_of(State(web): State<Arc<Web>>, Path(text): Path<String>) -> Answer<Json<Timeline>> {
    let number = number(&text)?;
    let times = web.desk.store.times_of(number).await?.ok_or_else(|| no_such_build(number))?;
    Ok(Json(timeline(&times, now_ms())))
}

/// Why the newest build that waits is where it is, or else the newest one.
#[utoipa::path(
    get,
    path = "/why",
    responses((status = 200, description = "As of one build.", body = Why), (status = 404))
)]
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

/// Ends a build.
#[utoipa::path(
    post,
    path = "/builds/{number}/cancel",
    operation_id = "cancel_build",
    params(("number" = u64, Path, description = "The build's number.")),
    request_body = Option<CancelRequest>,
    responses((status = 200, description = "What that did.", body = Cancelled), (status = 404))
)]
async fn cancel(
    State(web): State<Arc<Web>>,
    Path(text): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Json<Cancelled>> {
    Ok(Json(cancelled(&web, number(&text)?, json_or_default(body)?).await?))
}

/// Answers at the gate of the only job that waits for a person, or of the one that is named.
#[utoipa::path(
    post,
    path = "/builds/{number}/approve",
    operation_id = "approve_build",
    params(("number" = u64, Path, description = "The build's number.")),
    request_body = Option<ApproveJob>,
    responses((status = 200, description = "What became of it.", body = Approved), (status = 404), (status = 409))
)]
async fn approve(
    State(web): State<Arc<Web>>,
    Path(text): Path<String>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Json<Approved>> {
    Ok(Json(said_at_gate(&web, &text, json_or_default(body)?, &visitor, &headers).await?))
}

/// Answers at the gate of one job.
#[utoipa::path(
    post,
    path = "/builds/{number}/jobs/{key}/approve",
    operation_id = "approve_job",
    params(("number" = u64, Path, description = "The build's number."), ("key" = JobKey, Path, description = "The job's key.")),
    request_body = Option<ApproveJob>,
    responses((status = 200, description = "What became of it.", body = Approved), (status = 404), (status = 409))
)]
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

/// Follows a build until it is over and its logs are whole.
///
/// Each line is one JSON object, a `Follow`: where the build stands, first and after each change; the bytes by which a
/// log grew; the end. An empty line says that the connection lives.
#[utoipa::path(
    get,
    path = "/builds/{number}/follow",
    operation_id = "follow_build",
    params(("number" = u64, Path, description = "The build's number.")),
    responses((status = 200, description = "Lines of JSON.", content_type = "application/x-ndjson", body = String), (status = 404))
)]
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

/// What was not as it should be on the line to the agents, and the messages that were laid aside.
#[utoipa::path(
    get,
    path = "/incidents",
    responses((status = 200, description = "The newest first.", body = Incidents))
)]
async fn incidents(State(web): State<Arc<Web>>) -> Answer<Json<Incidents>> {
    let incidents = web.desk.store.incidents().await?;
    let (dead_letters, newest_dead) = web.desk.store.dead_letters().await?;
    Ok(Json(Incidents { incidents, dead_letters, newest_dead }))
}
