//! `/api/v1/audit`: who did what, when and from where.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use protocol::api::Audit;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Web;
use super::api::{Answer, asked};

/// How many entries a page has when nothing is said.
const PAGE: u32 = 50;

/// How many it has at most.
const PAGE_MOST: u32 = 1000;

/// Which entries are asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Those before this one: `next` of the page before.
    #[param(maximum = 18446744073709551615_u64)]
    before: Option<u64>,
    /// How many, 50 when nothing is said, and 1000 at most.
    #[param(maximum = 4294967295_u32)]
    limit: Option<u32>,
}

/// Who did what, the newest first, a page at a time.
#[utoipa::path(
    get,
    path = "/audit",
    operation_id = "audit",
    params(PageQuery),
    responses((status = 200, description = "A page of what was done.", body = Audit))
)]
pub(super) async fn entries(
    State(web): State<Arc<Web>>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Answer<Json<Audit>> {
    let PageQuery { before, limit } = asked(query)?;
    let limit = limit.unwrap_or(PAGE).clamp(1, PAGE_MOST);
    // What was answered before this request is in the list.
    web.access.recorder.written().await;
    // One more than is shown tells whether there is a next page.
    let mut entries = web.desk.store.audit(before, limit + 1).await?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = entries.len() > shown;
    entries.truncate(shown);
    let next = entries.last().filter(|_| more).map(|entry| entry.id);
    Ok(Json(Audit { entries, next }))
}
