//! `/api/v1`: doing builds again, and those that begin by themselves.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use buildr::process::clock::now_ms;
use protocol::api::{Restarted, ScheduleDone, ScheduleView};

use super::Web;
use super::api::{Answer, asked_by, json, json_or_default, number};
use crate::{clock, restart};

pub(super) fn router() -> Router<Arc<Web>> {
    Router::new()
        .route("/builds/{number}/restart", post(restart))
        .route("/schedules", get(schedules).post(order_schedule))
}

async fn restart(
    State(web): State<Arc<Web>>,
    Path(text): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<(StatusCode, Json<Restarted>)> {
    let (number, ask) = (number(&text)?, json_or_default(body)?);
    // Whoever may write here may begin trusted builds.
    let done = restart::restart(&web.desk, number, ask, (asked_by(&headers).as_deref(), true)).await?;
    Ok((StatusCode::CREATED, Json(done)))
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
