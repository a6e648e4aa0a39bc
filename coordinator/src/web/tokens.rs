//! `/api/v1/tokens`: API tokens with roles. The text of one is told when it is made, and never again.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use buildr::process::clock::now_ms;
use protocol::api::{MadeToken, MakeToken, TokenView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Web;
use super::access::{PREFIX, SHOWN, Visitor, fresh_token, hash};
use super::api::{Answer, Path, json};
use super::refusal::Refusal;
use crate::store::NewToken;

/// The longest name of a token, in characters.
const LONGEST: usize = 64;

/// The shortest time that a token holds, in milliseconds: less is a mistake.
const SHORTEST_MS: u64 = 60_000;

/// The longest, a hundred years: more is meant to have no end.
const LONGEST_MS: u64 = 36_525 * 24 * 3_600_000;

pub(super) fn router() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::default().routes(routes!(tokens, make)).routes(routes!(revoke))
}

/// All API tokens, the newest first, without their texts.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "list_tokens",
    responses((status = 200, description = "All of them.", body = Vec<TokenView>))
)]
async fn tokens(State(web): State<Arc<Web>>) -> Answer<Json<Vec<TokenView>>> {
    web.access.recorder.written().await;
    Ok(Json(web.desk.store.tokens().await?))
}

/// Makes an API token.
#[utoipa::path(
    post,
    path = "/",
    operation_id = "make_token",
    request_body = MakeToken,
    responses((status = 201, description = "The token, with its text this once.", body = MadeToken), (status = 409))
)]
async fn make(
    State(web): State<Arc<Web>>,
    Extension(visitor): Extension<Visitor>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<(StatusCode, Json<MadeToken>)> {
    let MakeToken { name, role, for_ms } = json(body)?;
    check_name(&name)?;
    if for_ms.is_some_and(|time| time < SHORTEST_MS) {
        return Err(Refusal::bad_request("a token holds for a minute at least; write how long, such as 90d"));
    }
    if for_ms.is_some_and(|time| time > LONGEST_MS) {
        return Err(Refusal::bad_request("a token holds for a hundred years at most; leave it out, and it has no end"));
    }
    let (token, now_ms) = (format!("{PREFIX}{}", fresh_token()), now_ms());
    let made = NewToken {
        name: name.clone(),
        role,
        prefix: token[..SHOWN].to_owned(),
        hash: hash(&token),
        made_by: visitor.who().to_owned(),
        expires_ms: for_ms.map(|time| now_ms + time),
    };
    let mut tx = web.desk.store.write().await?;
    if !tx.insert_token(&made, now_ms).await? {
        return Err(Refusal::conflict(format!(
            "there is a token {name} already; give this one another name, or end that one first: `buildr token revoke {name}`"
        )));
    }
    tx.commit().await?;
    let NewToken { name, role, prefix, made_by, expires_ms, .. } = made;
    let view =
        TokenView { name, role, prefix, made_by, created_ms: now_ms, expires_ms, used_ms: None, revoked_ms: None };
    Ok((StatusCode::CREATED, Json(MadeToken { token, view })))
}

/// Ends a token, and the sessions that were made from it.
#[utoipa::path(
    post,
    path = "/{name}/revoke",
    operation_id = "revoke_token",
    params(("name" = String, Path, description = "The token's name.")),
    responses((status = 200, description = "The token.", body = TokenView), (status = 404))
)]
async fn revoke(State(web): State<Arc<Web>>, Path(name): Path<String>) -> Answer<Json<TokenView>> {
    let mut tx = web.desk.store.write().await?;
    let revoked = tx.revoke_token(&name, now_ms()).await?;
    let view = revoked.ok_or_else(|| {
        Refusal::not_found(format!("no token called {name:?} holds here; `buildr token list` has them all"))
    })?;
    tx.commit().await?;
    Ok(Json(view))
}

fn check_name(name: &str) -> Answer<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    if (1..=LONGEST).contains(&name.len()) && name.chars().all(legal) {
        return Ok(());
    }
    let sentence = format!("{name:?} cannot name a token; write 1 to {LONGEST} letters, digits, `.`, `_`, `-` or `@`");
    Err(Refusal::bad_request(sentence))
}
