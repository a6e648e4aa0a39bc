//! The API's document (OpenAPI 3.1), `GET /api/v1/openapi.json`. It is made of the very routes that are served and of
//! the types that they read and write; what holds for all of them alike is said here once: who may ask
//! ([`super::access`]), and how a request is refused.

use std::sync::{Arc, OnceLock};

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use protocol::api::{Follow, Problem};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, Info, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr, Response as Documented,
    Server,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Web;
use super::access::{Need, need};
use super::refusal::PROBLEM;
use super::{api, audit, secrets, tokens};

/// Where the API stands.
const PLACE: &str = "/api/v1";

/// How the document calls the token.
const BEARER: &str = "bearer";

/// What the API is, for those who read the document.
const ABOUT: &str = "The coordinator of a buildr farm. All answers are JSON but for logs; refusals are \
`application/problem+json` with a sentence. What writes is sent as `application/json` and needs the token of \
somebody with the role for it; reading needs one only from elsewhere, unless the coordinator lets everybody look. New \
fields may come at any time: leave alone what you do not know.";

/// All that is documented, below [`PLACE`].
pub(super) fn router() -> OpenApiRouter<Arc<Web>> {
    let looking_after = OpenApiRouter::default()
        .nest("/tokens", tokens::router())
        .nest("/secrets", secrets::router())
        .routes(routes!(secrets::key))
        .routes(routes!(audit::entries))
        .routes(routes!(document));
    OpenApiRouter::with_openapi(frame()).nest(PLACE, api::router().merge(looking_after))
}

/// What stands around the routes.
fn frame() -> OpenApi {
    let mut about = Info::new("buildr", env!("CARGO_PKG_VERSION"));
    about.description = Some(ABOUT.to_owned());
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "A token that an admin made with `buildr token create`, or the one of the coordinator's state folder.",
    ));
    let parts = ComponentsBuilder::new()
        .schema_from::<Problem>()
        .schema_from::<Follow>()
        .security_scheme(BEARER, SecurityScheme::Http(token.build()));
    OpenApiBuilder::new().info(about).servers(Some([Server::new("/")])).components(Some(parts.build())).build()
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object))
)]
async fn document() -> Response {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| written().into());
    ([(header::CONTENT_TYPE, "application/json")], text.clone()).into_response()
}

/// The document as JSON.
pub(super) fn written() -> String {
    let mut document = router().into_openapi();
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            complete(operation, &method, path);
        }
    }
    // Its keys are texts, and nothing in it fails to be written.
    document.to_pretty_json().unwrap_or_default()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [(Method::GET, &mut item.get), (Method::POST, &mut item.post), (Method::PUT, &mut item.put)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Says of one route what holds for all that are like it.
fn complete(operation: &mut Operation, method: &Method, path: &str) {
    let need = need(method, path);
    let topic = path.strip_prefix(PLACE).and_then(|path| path.split('/').nth(1)).unwrap_or("farm");
    let topic = if path.contains("/logs/") { "logs" } else { topic };
    operation.tags = Some(vec![topic.to_owned()]);
    let token = || SecurityRequirement::new(BEARER, Vec::<String>::new());
    operation.security = Some(match need {
        Need::Nothing => Vec::new(),
        // On the farm's own machine, or where everybody may look, nobody is asked for a token.
        Need::Reading => vec![SecurityRequirement::default(), token()],
        Need::Role(_) => vec![token()],
    });
    if let Need::Role(role) = need {
        let text = operation.description.get_or_insert_default();
        let gap = if text.is_empty() { "" } else { "\n\n" };
        *text += &format!("{gap}Needs a token of the role {role}, or of one that may more.");
    }
    let asks = operation.parameters.as_ref().is_some_and(|all| !all.is_empty());
    for status in refusals(need, *method != Method::GET, asks || operation.request_body.is_some()) {
        let known = &mut operation.responses.responses;
        known.entry(status.as_u16().to_string()).or_insert_with(|| RefOr::T(Documented::default()));
    }
    for (status, answer) in &mut operation.responses.responses {
        let RefOr::T(answer) = answer else { continue };
        let status: Option<StatusCode> = status.parse().ok();
        if let Some(status) = status.filter(|status| status.as_u16() >= 400 && answer.content.is_empty()) {
            answer.description = means(status).to_owned();
            let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            answer.content.insert(PROBLEM.to_owned(), RefOr::T(problem));
        }
    }
}

/// How every request may be refused that needs so much, writes, or says something.
fn refusals(need: Need, writes: bool, says: bool) -> Vec<StatusCode> {
    let mut all = vec![StatusCode::MISDIRECTED_REQUEST, StatusCode::INTERNAL_SERVER_ERROR];
    if need != Need::Nothing {
        all.extend([StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN]);
    }
    if says {
        all.push(StatusCode::BAD_REQUEST);
    }
    if writes {
        all.extend([
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            StatusCode::INSUFFICIENT_STORAGE,
        ]);
    }
    all
}

/// What a status means here, whatever the route.
fn means(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "The request cannot be read, or asks for what cannot be.",
        StatusCode::UNAUTHORIZED => "A token is needed.",
        StatusCode::FORBIDDEN => "The token's role is too small, or the token holds no more.",
        StatusCode::NOT_FOUND => "There is no such thing.",
        StatusCode::CONFLICT => "It cannot be done as things stand.",
        StatusCode::PAYLOAD_TOO_LARGE => "The request is too long.",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "The request is no `application/json`.",
        StatusCode::RANGE_NOT_SATISFIABLE => "None of the bytes is in this range.",
        StatusCode::MISDIRECTED_REQUEST => "This server does not go by the name in `Host`.",
        StatusCode::UNPROCESSABLE_ENTITY => "The farm builds no repository of this kind.",
        StatusCode::INSUFFICIENT_STORAGE => "The coordinator's disk is full.",
        _ => "The coordinator could not do its part.",
    }
}
