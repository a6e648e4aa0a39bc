//! `/badge/HOST/PATH.svg?branch=`: how a branch stands, as a small picture for other pages. It tells strangers no more than
//! a word, and of a repository that is not built here the same word as of one that never was.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use protocol::api::Status;
use serde::Deserialize;

use super::Web;
use super::api::{Answer, asked};
use super::refusal::{Refusal, no_such_page};

pub(super) fn router() -> Router<Arc<Web>> {
    Router::new().route("/badge/{*repository}", get(badge))
}

#[derive(Deserialize)]
struct Wanted {
    branch: Option<String>,
}

#[derive(Template)]
#[template(path = "badge.svg", escape = "html")]
struct Badge {
    word: &'static str,
    colour: &'static str,
    /// How wide the word's half is, in pixels.
    width: usize,
}

async fn badge(
    State(web): State<Arc<Web>>,
    Path(repository): Path<String>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Answer<Response> {
    let Wanted { branch } = asked(query)?;
    let Some(identity) = repository.strip_suffix(".svg") else { return Ok(no_such_page().await.into_response()) };
    let last = web.desk.store.last_over(identity, branch.as_deref()).await?;
    let (word, colour) = look(last.map(|build| build.status));
    let badge = Badge { word, colour, width: 7 * word.len() + 12 };
    let svg = badge.render().map_err(|error| {
        Refusal::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, format!("the badge cannot be drawn: {error}"))
    })?;
    Ok(([(header::CONTENT_TYPE, "image/svg+xml; charset=utf-8")], svg).into_response())
}

/// The word and its ground, dark enough for white letters.
fn look(status: Option<Status>) -> (&'static str, &'static str) {
    match status {
        Some(Status::Passed) => ("passed", "#1a7f37"),
        Some(Status::Failed) => ("failed", "#cf222e"),
        Some(Status::Errored) => ("errored", "#a40e26"),
        Some(status) => (status.name(), "#57606a"),
        None => ("unknown", "#57606a"),
    }
}
