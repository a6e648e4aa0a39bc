//! `/api/v1`: doing builds again, those that begin by themselves, what is kept, and who is told.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use buildr::process::clock::now_ms;
use buildr::process::disk::Room;
use protocol::api::{
    KeptOtherwise, Pin, Pinned, ReportNoMore, ReportTo, ReportView, Reported, Repro, Restart, Restarted, ScheduleDone,
    ScheduleOrder, ScheduleView, StorageView,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Web;
use super::api::{Answer, Path, asked_by, json, json_or_default, no_such_build, number};
use super::deeds::restarted;
use crate::feed::Change;
use crate::store::Project;
use crate::{clock, forge, restart};

pub(super) fn router() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::default()
        .routes(routes!(restart))
        .routes(routes!(repro))
        .routes(routes!(pin))
        .routes(routes!(reporting, report_to))
        .routes(routes!(report_no_more))
        .routes(routes!(storage))
        .routes(routes!(schedules, order_schedule))
}

/// Begins a build that does an older one again.
#[utoipa::path(
    post,
    path = "/builds/{number}/restart",
    operation_id = "restart_build",
    params(("number" = u64, Path, description = "The build's number.")),
    request_body = Option<Restart>,
    responses((status = 201, description = "The new build, and what it takes over.", body = Restarted), (status = 404), (status = 409), (status = 422))
)]
async fn restart(
    State(web): State<Arc<Web>>,
    Path(text): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<(StatusCode, Json<Restarted>)> {
    Ok((StatusCode::CREATED, Json(restarted(&web, &text, json_or_default(body)?, &headers).await?)))
}

/// The builds that begin by themselves, by repository.
#[utoipa::path(
    get,
    path = "/schedules",
    operation_id = "list_schedules",
    responses((status = 200, description = "All schedules.", body = Vec<ScheduleView>))
)]
async fn schedules(State(web): State<Arc<Web>>) -> Answer<Json<Vec<ScheduleView>>> {
    Ok(Json(web.desk.store.schedules().await?))
}

/// Pauses a schedule, resumes it, or begins its build now.
#[utoipa::path(
    post,
    path = "/schedules",
    request_body = ScheduleOrder,
    responses((status = 200, description = "What was done.", body = ScheduleDone), (status = 404), (status = 409), (status = 422))
)]
async fn order_schedule(
    State(web): State<Arc<Web>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Json<ScheduleDone>> {
    let order = json(body)?;
    Ok(Json(clock::order(&web.desk, &order, asked_by(&headers).as_deref(), now_ms()).await?))
}

/// Keeps a build, however old it becomes, or no longer than others.
#[utoipa::path(
    post,
    path = "/builds/{number}/pin",
    operation_id = "pin_build",
    params(("number" = u64, Path, description = "The build's number.")),
    request_body = Pin,
    responses((status = 200, description = "What was done.", body = Pinned), (status = 404))
)]
async fn pin(
    State(web): State<Arc<Web>>,
    Path(text): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Json<Pinned>> {
    let number = number(&text)?;
    let Pin { pinned } = json(body)?;
    let mut tx = web.desk.store.write().await?;
    if !tx.pin_build(number, pinned).await? {
        return Err(no_such_build(number));
    }
    tx.commit().await?;
    web.desk.feed.say(Change::Build(number));
    let how = if pinned { "is kept, however old it becomes" } else { "is kept no longer than others" };
    Ok(Json(Pinned { message: format!("build {number} {how}") }))
}

/// What is kept, and how much room it takes.
#[utoipa::path(
    get,
    path = "/storage",
    responses((status = 200, description = "Sizes in bytes.", body = StorageView))
)]
async fn storage(State(web): State<Arc<Web>>) -> Answer<Json<StorageView>> {
    let view = web.desk.store.storage().await?;
    let folder = web.desk.config.state_dir.clone();
    // A dead network disk must not hold up anything else.
    let room = tokio::task::spawn_blocking(move || Room::at(&folder).ok()).await.ok().flatten();
    let farm = web.desk.config.keeps;
    let otherwise = |project: Project| {
        let kept = KeptOtherwise { keeps: project.keeps.over(&farm), project: project.identity };
        (!project.keeps.is_farms()).then_some(kept)
    };
    let projects = web.desk.store.projects().await?.into_iter().filter_map(otherwise).collect();
    let disk_free_bytes = room.map(|room| room.free);
    let disk_total_bytes = room.map(|room| room.total);
    Ok(Json(StorageView { disk_free_bytes, disk_total_bytes, keeps: farm, projects, ..view }))
}

/// What it takes to do a build elsewhere: as it was planned, with its images as they were.
#[utoipa::path(
    get,
    path = "/builds/{number}/repro",
    operation_id = "repro",
    params(("number" = u64, Path, description = "The build's number.")),
    responses((status = 200, description = "The build as it was planned.", body = Repro), (status = 404))
)]
async fn repro(State(web): State<Arc<Web>>, Path(text): Path<String>) -> Answer<Json<Repro>> {
    let number = number(&text)?;
    restart::repro(&web.desk, number).await?.map(Json).ok_or_else(|| no_such_build(number))
}

/// The repositories whose forges are told how builds go.
#[utoipa::path(
    get,
    path = "/statuses",
    operation_id = "list_statuses",
    responses((status = 200, description = "All of them, without their tokens.", body = Vec<ReportView>))
)]
async fn reporting(State(web): State<Arc<Web>>) -> Answer<Json<Vec<ReportView>>> {
    Ok(Json(forge::reporting(&web.desk).await?))
}

/// Tells a repository's forge how its builds go, from now on.
#[utoipa::path(
    post,
    path = "/statuses",
    request_body = ReportTo,
    responses((status = 200, description = "What was done.", body = Reported))
)]
async fn report_to(State(web): State<Arc<Web>>, body: Result<Bytes, BytesRejection>) -> Answer<Json<Reported>> {
    Ok(Json(forge::set(&web.desk, &json(body)?).await?))
}

/// Tells a repository's forge no longer.
#[utoipa::path(
    post,
    path = "/statuses/forget",
    request_body = ReportNoMore,
    responses((status = 200, description = "What was done.", body = Reported), (status = 404))
)]
async fn report_no_more(State(web): State<Arc<Web>>, body: Result<Bytes, BytesRejection>) -> Answer<Json<Reported>> {
    let ReportNoMore { repo } = json(body)?;
    Ok(Json(forge::forget(&web.desk, &repo.identity()).await?))
}
