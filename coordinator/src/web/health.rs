//! `/api/v1/health`: whether builds can go on.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use protocol::link::Health;
use serde::Serialize;
use utoipa::ToSchema;

use super::Web;

/// Whether builds can go on.
#[derive(Serialize, ToSchema)]
pub(super) struct HealthView {
    /// The coordinator's version.
    version: &'static str,
    /// `up`, `blocked` or `away`: the line to the agents.
    link: &'static str,
    /// Why builds cannot go on, when they cannot.
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

/// Whether builds can go on: 200 while they can, 503 while the agents cannot be reached.
#[utoipa::path(
    get,
    path = "/health",
    responses((status = 200, description = "Builds can go on.", body = HealthView), (status = 503, description = "They cannot, and why.", body = HealthView))
)]
pub(super) async fn health(State(web): State<Arc<Web>>) -> Response {
    let (link, message) = trouble(&web);
    let status = if message.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(HealthView { version: env!("CARGO_PKG_VERSION"), link, message })).into_response()
}
