//! A browser signs in with a token: by the form at `/sign-in`, or by the link `/?token=TOKEN` that `buildr up` prints.
//! What stays in the browser is a cookie, from which the token cannot be had.

use std::sync::Arc;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use buildr::process::clock::now_ms;

use super::hosts::is_cross_site;
use super::record::Asked;
use super::session::{SESSION_MS, field, fresh_token, hash, set_cookie};
use super::visitor::Visitor;
use crate::store::Session;
use crate::web::pages::sign_in;
use crate::web::refusal::Refusal;
use crate::web::{BODY_LIMIT, Web};

pub(in crate::web) fn router() -> Router<Arc<Web>> {
    Router::new().route("/sign-in", get(form).post(sent)).route("/sign-out", post(sign_out))
}

/// The form, with what went wrong.
pub(super) fn asked_to_sign_in(refusal: &Refusal, to: &str) -> Response {
    sign_in::page(refusal.status, within(to), Some(&refusal.sentence))
}

/// Signs in by a link. The token leaves the address bar at once.
pub(super) async fn by_link(web: &Web, headers: &HeaderMap, asked: Asked, token: &str) -> Response {
    begin(web, headers, asked, token, "/").await
}

async fn form(request: Request) -> Response {
    let to = request.uri().query().and_then(|query| field(query.as_bytes(), "to")).unwrap_or_default();
    sign_in::page(StatusCode::OK, within(&to), None)
}

async fn sent(State(web): State<Arc<Web>>, request: Request) -> Response {
    if is_cross_site(request.headers()) {
        let sentence = "this form came from another site; sign in here";
        return asked_to_sign_in(&Refusal::new(StatusCode::FORBIDDEN, sentence), "/");
    }
    let asked = Asked::of(&request);
    let (parts, body) = request.into_parts();
    let Ok(sent) = to_bytes(body, BODY_LIMIT).await else {
        return asked_to_sign_in(&Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "this is too long for a token"), "/");
    };
    let token = field(&sent, "token").unwrap_or_default();
    let to = field(&sent, "to").unwrap_or_default();
    begin(&web, &parts.headers, asked, token.trim(), within(&to)).await
}

async fn begin(web: &Web, headers: &HeaderMap, asked: Asked, token: &str, to: &str) -> Response {
    match session_for(web, headers, token).await {
        Ok((visitor, cookie)) => {
            web.access.recorder.done(&visitor, asked, StatusCode::SEE_OTHER.as_u16()).await;
            ([(header::SET_COOKIE, cookie)], Redirect::to(to)).into_response()
        }
        Err(refusal) => asked_to_sign_in(&refusal, to),
    }
}

async fn session_for(web: &Web, headers: &HeaderMap, token: &str) -> Result<(Visitor, String), Refusal> {
    let (store, now_ms) = (&web.desk.store, now_ms());
    let visitor = web.access.by_token(store, token, now_ms).await?.ok_or_else(|| {
        Refusal::new(StatusCode::UNAUTHORIZED, "this is no token of this farm; `buildr up` prints a link with one, and an admin makes others with `buildr token create`")
    })?;
    let cookie = fresh_token();
    let session = Session { hash: hash(&cookie), token: hash(token), expires_ms: now_ms + SESSION_MS };
    let mut tx = store.write().await?;
    tx.insert_session(&session, now_ms).await?;
    tx.commit().await?;
    let encrypted = web.access.hosts.called(headers).is_ok_and(|called| web.access.hosts.is_encrypted(&called));
    Ok((visitor, set_cookie(Some(&cookie), encrypted)))
}

async fn sign_out(State(web): State<Arc<Web>>, axum::Extension(visitor): axum::Extension<Visitor>) -> Response {
    if let Some(session) = visitor.session() {
        let ended = async {
            let mut tx = web.desk.store.write().await?;
            tx.remove_session(session).await?;
            tx.commit().await
        };
        if let Err(error) = ended.await {
            return Refusal::from(error).into_response();
        }
    }
    ([(header::SET_COOKIE, set_cookie(None, false))], Redirect::to("/")).into_response()
}

/// Where to go on, when that is a page of this server.
fn within(to: &str) -> &str {
    let ours = to.starts_with('/') && !to.starts_with("//") && !to.contains('\\') && !to.contains(char::is_control);
    if ours { to } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_within_this_server() {
        for (to, expect) in [
            ("/builds/7?x=1", "/builds/7?x=1"),
            ("", "/"),
            ("//evil.example/x", "/"),
            ("https://evil.example", "/"),
            ("/\\evil.example", "/"),
            ("/x\r\nset-cookie: a", "/"),
        ] {
            assert_eq!(within(to), expect);
        }
    }
}
