//! What pages are dressed with: the stylesheet and the scripts, out of this program. Each is asked for by a path that
//! names its content, so that a browser keeps it for good and never has one of another version.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::{Path, Query};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use data_encoding::HEXLOWER;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::refusal::Refusal;

/// One file.
struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static str,
}

const ALL: [Asset; 6] = [
    Asset { name: "style.css", kind: "text/css; charset=utf-8", content: include_str!("../../assets/style.css") },
    Asset { name: "page.js", kind: "text/javascript; charset=utf-8", content: include_str!("../../assets/page.js") },
    Asset { name: "log.css", kind: "text/css; charset=utf-8", content: include_str!("../../assets/log.css") },
    Asset {
        name: "log-palette.css",
        kind: "text/css; charset=utf-8",
        content: include_str!("../../assets/log-palette.css"),
    },
    Asset { name: "log.js", kind: "text/javascript; charset=utf-8", content: include_str!("../../assets/log.js") },
    Asset { name: "icon.svg", kind: "image/svg+xml", content: include_str!("../../assets/icon.svg") },
];

/// Names the content of all of them: of another version of this program it is another one.
pub(super) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for asset in &ALL {
        hash.update(asset.content);
    }
    HEXLOWER.encode(&hash.finalize()[..8])
});

pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/assets/{name}", get(asset))
}

#[derive(Deserialize)]
struct Wanted {
    v: Option<String>,
}

async fn asset(Path(name): Path<String>, Query(Wanted { v }): Query<Wanted>) -> Response {
    let Some(asset) = ALL.iter().find(|asset| asset.name == name) else {
        return Refusal::not_found("there is no such file here").into_response();
    };
    // Who asks for another version than this has a page of an older or newer coordinator: it must not keep this one.
    let keep = if v.as_deref() == Some(&VERSION) { "public, max-age=31536000, immutable" } else { "no-cache" };
    ([(CONTENT_TYPE, asset.kind), (CACHE_CONTROL, keep)], asset.content).into_response()
}
