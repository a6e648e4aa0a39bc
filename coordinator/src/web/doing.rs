//! `/api/v1`: doing builds again, those that begin by themselves, what is kept, and who is told.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use buildr::process::clock::now_ms;
use buildr::process::disk::Room;
use protocol::api::{
    KeptOtherwise, Pin, Pinned, ReportNoMore, ReportView, Reported, Repro, Restarted, ScheduleDone, ScheduleView,
    StorageView,
};

use super::Web;
use super::api::{Answer, asked_by, json, json_or_default, no_such_build, number};
use super::deeds::restarted;
use crate::feed::Change;
use crate::store::Project;
use crate::{clock, forge, restart};

pub(super) fn router() -> Router<Arc<Web>> {
    Router::new()
        .route("/builds/{number}/restart", post(restart))
        .route("/builds/{number}/repro", get(repro))
        .route("/builds/{number}/pin", post(pin))
        .route("/statuses", get(reporting).post(report_to))
        .route("/statuses/forget", post(report_no_more))
        .route("/storage", get(storage))
        .route("/schedules", get(schedules).post(order_schedule))
}

async fn restart(
    State(web): State<Arc<Web>>,
    Path(text): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<(StatusCode, Json<Restarted>)> {
    Ok((StatusCode::CREATED, Json(restarted(&web, &text, json_or_default(body)?, &headers).await?)))
}

/// `GET /schedules`
async fn schedules(State(web): State<Arc<Web>>) -> Answer<Json<Vec<ScheduleView>>> {
    Ok(Json(web.desk.store.schedules().await?))
}

/// `POST /schedules`
async fn order_schedule(
    State(web): State<Arc<Web>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Json<ScheduleDone>> {
    let order = json(body)?;
    Ok(Json(clock::order(&web.desk, &order, asked_by(&headers).as_deref(), now_ms()).await?))
}

/// `POST /builds/N/pin`
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

/// `GET /storage`
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

/// `GET /builds/N/repro`
async fn repro(State(web): State<Arc<Web>>, Path(text): Path<String>) -> Answer<Json<Repro>> {
    let number = number(&text)?;
    restart::repro(&web.desk, number).await?.map(Json).ok_or_else(|| no_such_build(number))
}

/// `GET /statuses`
async fn reporting(State(web): State<Arc<Web>>) -> Answer<Json<Vec<ReportView>>> {
    Ok(Json(forge::reporting(&web.desk).await?))
}

/// `POST /statuses`
async fn report_to(State(web): State<Arc<Web>>, body: Result<Bytes, BytesRejection>) -> Answer<Json<Reported>> {
    Ok(Json(forge::set(&web.desk, &json(body)?).await?))
}

/// `POST /statuses/forget`
async fn report_no_more(State(web): State<Arc<Web>>, body: Result<Bytes, BytesRejection>) -> Answer<Json<Reported>> {
    let ReportNoMore { repo } = json(body)?;
    Ok(Json(forge::forget(&web.desk, &repo.identity()).await?))
}
