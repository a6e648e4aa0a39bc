//! `/api/v1/deliveries`: what forges delivered, and once more.

use std::num::IntErrorKind;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use buildr::process::clock::now_ms;
use protocol::api::{Deliveries, DeliveryView, Received};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Web;
use super::api::{Answer, Path, asked};
use super::refusal::Refusal;
use crate::feed::Change;
use crate::store::{Delivery, NewDelivery, Stored};

/// How many a page has when nothing is said, and at most.
const PAGE: u32 = 50;
const PAGE_MOST: u32 = 500;

pub(super) fn router() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(show)).routes(routes!(redeliver))
}

/// Which deliveries are asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Those of this project, by its identity.
    pub(super) project: Option<String>,
    /// Those with lower numbers: `next` of the page before.
    #[param(maximum = 18446744073709551615_u64)]
    pub(super) before: Option<u64>,
    /// How many, 50 when nothing is said, and 500 at most.
    #[param(maximum = 4294967295_u32)]
    pub(super) limit: Option<u32>,
}

/// What forges delivered, the newest first, a page at a time.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "list_deliveries",
    params(ListQuery),
    responses((status = 200, description = "A page of deliveries.", body = Deliveries))
)]
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

/// One delivery.
#[utoipa::path(
    get,
    path = "/{number}",
    operation_id = "delivery",
    params(("number" = u64, Path, description = "The delivery's number.")),
    responses((status = 200, description = "The delivery.", body = DeliveryView), (status = 404))
)]
async fn show(State(web): State<Arc<Web>>, Path(text): Path<String>) -> Answer<Json<DeliveryView>> {
    Ok(Json(find(&web, &text).await?.view))
}

/// Takes a delivery once more, as if it came now.
#[utoipa::path(
    post,
    path = "/{number}/redeliver",
    params(("number" = u64, Path, description = "The delivery's number.")),
    responses((status = 202, description = "The new delivery.", body = Received), (status = 404), (status = 409))
)]
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
    let missing = || Refusal::not_found(format!("there is no delivery {text}; `buildr deliveries` lists them"));
    let number = text.trim_start_matches('#').parse::<u64>().map_err(|error| match error.kind() {
        IntErrorKind::PosOverflow => missing(),
        _ => Refusal::bad_request(format!("{text:?} is not a delivery's number; write one such as 12")),
    })?;
    web.desk.store.delivery(number).await?.ok_or_else(missing)
}
