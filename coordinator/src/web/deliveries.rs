//! `/api/v1/deliveries`: what forges delivered, and once more.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use buildr::process::clock::now_ms;
use protocol::api::{Deliveries, DeliveryView, Received};
use serde::Deserialize;

use super::Web;
use super::api::{Answer, asked};
use super::refusal::Refusal;
use crate::feed::Change;
use crate::store::{Delivery, NewDelivery, Stored};

/// How many a page has when nothing is said, and at most.
const PAGE: u32 = 50;
const PAGE_MOST: u32 = 500;

pub(super) fn router() -> Router<Arc<Web>> {
    Router::new().route("/", get(list)).route("/{number}", get(show)).route("/{number}/redeliver", post(redeliver))
}

/// Which deliveries are asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ListQuery {
    pub(super) project: Option<String>,
    pub(super) before: Option<u64>,
    pub(super) limit: Option<u32>,
}

async fn list(
    State(web): State<Arc<Web>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Json<Deliveries>> {
    Ok(Json(listed(&web, &asked(query)?).await?))
}

/// A page of deliveries, the newest first.
pub(super) async fn listed(web: &Web, query: &ListQuery) -> Answer<Deliveries> {
    let ListQuery { project, before, limit } = query;
    let limit = limit.unwrap_or(PAGE).clamp(1, PAGE_MOST);
    // One more than is shown tells whether there is a next page.
    let mut deliveries = web.desk.store.deliveries(project.as_deref(), *before, limit + 1).await?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = deliveries.len() > shown;
    deliveries.truncate(shown);
    let next = deliveries.last().filter(|_| more).map(|delivery| delivery.number);
    Ok(Deliveries { deliveries, next })
}

async fn show(State(web): State<Arc<Web>>, Path(text): Path<String>) -> Answer<Json<DeliveryView>> {
    Ok(Json(find(&web, &text).await?.view))
}

async fn redeliver(State(web): State<Arc<Web>>, Path(text): Path<String>) -> Answer<(StatusCode, Json<Received>)> {
    Ok((StatusCode::ACCEPTED, Json(redelivered(&web, &text).await?)))
}

/// Handles a delivery as if it came now. Its signature was looked at when it did.
pub(super) async fn redelivered(web: &Web, text: &str) -> Answer<Received> {
    let Delivery { view, headers, body } = find(web, text).await?;
    if body.is_empty() {
        let number = view.number;
        return Err(Refusal::conflict(format!(
            "what delivery {number} said is not kept: it had no genuine signature, or was too long; let the forge send it again"
        )));
    }
    let new = NewDelivery {
        project: view.project,
        forge: view.forge,
        event: view.event,
        headers,
        body,
        forge_id: view.forge_id,
        marks: Vec::new(),
        redelivers: Some(view.number),
        verdict: None,
    };
    let mut tx = web.desk.store.write().await?;
    let (Stored::New(delivery) | Stored::Replay(delivery)) = tx.keep_delivery(&new, now_ms()).await?;
    tx.commit().await?;
    web.desk.feed.say(Change::Deliveries);
    let message = format!("delivery {} is handled once more, as delivery {delivery}", view.number);
    Ok(Received { delivery, message })
}

async fn find(web: &Web, text: &str) -> Answer<Delivery> {
    let number: u64 = text
        .trim_start_matches('#')
        .parse()
        .map_err(|_| Refusal::bad_request(format!("{text:?} is not a delivery's number; write one such as 12")))?;
    let found = web.desk.store.delivery(number).await?;
    found.ok_or_else(|| Refusal::not_found(format!("there is no delivery {number}; `buildr deliveries` lists them")))
}
