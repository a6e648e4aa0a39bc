//! Who may do what. Each request is looked at here before anything else sees it: by which name it calls this server,
//! what its route needs ([`routes`]), and what its sender may do. Programs show a token and send JSON; browsers that
//! signed in show a cookie, and what they send carries a text that no page elsewhere knows. What was done is noted.

mod hosts;
mod lasting;
mod record;
mod routes;
mod session;
mod sign_in;
mod visitor;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use buildr::process::clock::now_ms;
use protocol::api::{ASKED_BY, Role};
use subtle::ConstantTimeEq as _;

use super::refusal::Refusal;
use super::{BODY_LIMIT, Web, WebError};
use crate::config::Config;
use crate::store::{Store, StoreError, Token};
use hosts::{Hosts, is_cross_site};
use record::Asked;
use routes::reads;
use session::{cookies, csrf, field, is_like_token};

pub(super) use record::{Recorder, recorder};
pub(super) use routes::{Need, need};
pub(super) use session::{PREFIX, SHOWN, TOKEN_LENGTH, fresh_token, hash};
pub(super) use sign_in::router;
pub(super) use visitor::Visitor;

/// How old the written last use of a token may be before it is written again, in milliseconds.
const USED_EVERY_MS: u64 = 60_000;

/// The header in which scripts of the pages send what forms have in a field.
const CSRF_HEADER: &str = "x-csrf-token";

/// What browsers are told about every answer. Forms of our own pages need to be told apart from others' by their
/// origin, which browsers leave out of what has no referrer at all.
const TOLD: [(&str, &str); 4] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
];

/// Who may do what, on one listener.
pub(super) struct Access {
    /// The token of the state folder: an admin's.
    token: String,
    hosts: Hosts,
    /// Where it is noted who did what.
    pub(super) recorder: Recorder,
}

/// What a request shows of its sender.
struct Shown {
    visitor: Visitor,
    how: How,
    /// Why what it shows does not count.
    why_not: Option<Refusal>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Token,
    Cookie,
}

/// A request that goes no further.
struct Stopped {
    refusal: Refusal,
    /// Whose role was too small for it.
    too_small: Option<Visitor>,
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, too_small: None }
    }
}

impl Access {
    /// By the settings, for the listener at `address`.
    ///
    /// # Errors
    /// When the public URL has no host.
    pub(super) fn new(
        config: &Config,
        address: SocketAddr,
        token: String,
        recorder: Recorder,
    ) -> Result<Self, WebError> {
        Ok(Self { token, hosts: Hosts::new(config, address)?, recorder })
    }

    /// Whether a request may go on: then who sends it, and the request again, of which the body may have been read.
    async fn admit(&self, store: &Store, request: Request) -> Result<(Visitor, Request), Stopped> {
        let called = self.hosts.called(request.headers())?;
        let need = need(request.method(), request.uri().path());
        if need == Need::Nothing {
            return Ok((Visitor::stranger(), request));
        }
        let Shown { visitor, how, why_not } = self.shown(store, request.headers()).await.map_err(Refusal::from)?;
        if need == Need::Reading && (self.hosts.is_open(&called) || visitor.may(Role::Viewer)) {
            return Ok((visitor, request));
        }
        if visitor.role().is_none() {
            let reads = reads(request.method());
            let usual = || if reads { to_look() } else { visitor::unknown() };
            return Err(why_not.unwrap_or_else(usual).into());
        }
        let request = match how {
            _ if reads(request.method()) => request,
            // No route has another method, and that is what it is told.
            How::Token if *request.method() != Method::POST => request,
            How::Token => is_json(request)?,
            How::Cookie => is_ours(request, &visitor).await?,
        };
        if let Need::Role(role) = need
            && let Err(refusal) = visitor.need(role)
        {
            return Err(Stopped { refusal, too_small: Some(visitor) });
        }
        Ok((visitor, request))
    }

    /// Whether everybody may have what needs this.
    fn is_open_to_all(&self, headers: &HeaderMap, need: Need) -> bool {
        let is_open = || self.hosts.called(headers).is_ok_and(|called| self.hosts.is_open(&called));
        need == Need::Nothing || (need == Need::Reading && is_open())
    }

    /// Whether a request to read that came with these headers, and was let through, would be now.
    async fn still_admits(&self, store: &Store, headers: &HeaderMap, need: Need) -> bool {
        let Ok(Shown { visitor, .. }) = self.shown(store, headers).await else { return false };
        match need {
            Need::Nothing => true,
            Need::Reading => self.is_open_to_all(headers, need) || visitor.may(Role::Viewer),
            Need::Role(role) => visitor.may(role),
        }
    }

    async fn shown(&self, store: &Store, headers: &HeaderMap) -> Result<Shown, StoreError> {
        let now_ms = now_ms();
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        if let Some(token) = value.and_then(|value| value.strip_prefix("Bearer ")) {
            return Ok(match self.by_token(store, token.trim(), now_ms).await {
                Ok(visitor) => Shown { visitor: visitor.unwrap_or_default(), how: How::Token, why_not: None },
                Err(refusal) => Shown { visitor: Visitor::stranger(), how: How::Token, why_not: Some(refusal) },
            });
        }
        let mut shown = Shown { visitor: Visitor::stranger(), how: How::Cookie, why_not: None };
        for cookie in cookies(headers) {
            let Some(session) = store.session(&hash(cookie)).await? else { continue };
            if session.expires_ms <= now_ms {
                continue;
            }
            match self.by_hash(store, session.token, now_ms).await {
                Ok(Some(visitor)) => {
                    return Ok(Shown { visitor: visitor.signed_in(session.hash, csrf(cookie)), ..shown });
                }
                Ok(None) => {}
                Err(refusal) => shown.why_not = Some(refusal),
            }
        }
        Ok(shown)
    }

    /// Who has this token; nobody when it is none of this farm.
    ///
    /// # Errors
    /// When it does not hold any more, or the store fails.
    async fn by_token(&self, store: &Store, text: &str, now_ms: u64) -> Result<Option<Visitor>, Refusal> {
        if bool::from(text.as_bytes().ct_eq(self.token.as_bytes())) {
            return Ok(Some(Visitor::owner()));
        }
        if !is_like_token(text) {
            return Ok(None);
        }
        self.by_hash(store, hash(text), now_ms).await
    }

    async fn by_hash(&self, store: &Store, hashed: String, now_ms: u64) -> Result<Option<Visitor>, Refusal> {
        if hashed == hash(&self.token) {
            return Ok(Some(Visitor::owner()));
        }
        let Some(token) = store.token(&hashed).await? else { return Ok(None) };
        holds(&token, now_ms)?;
        if token.used_ms.is_none_or(|used| now_ms.saturating_sub(used) >= USED_EVERY_MS) {
            self.recorder.used(hashed, now_ms);
        }
        Ok(Some(Visitor::named(token.name, token.role)))
    }
}

/// Whether a token holds at this moment.
fn holds(token: &Token, now_ms: u64) -> Result<(), Refusal> {
    let Token { name, .. } = token;
    if token.revoked {
        return Err(Refusal::new(StatusCode::FORBIDDEN, format!("the token {name} was revoked; use another one")));
    }
    if token.expires_ms.is_some_and(|expires| expires <= now_ms) {
        let sentence = format!(
            "the time of the token {name} is over; have an admin revoke it and make another: `buildr token create {name} --role {}`",
            token.role
        );
        return Err(Refusal::new(StatusCode::FORBIDDEN, sentence));
    }
    Ok(())
}

/// What programs send is JSON, which no form of a page elsewhere can be, or nothing.
fn is_json(request: Request) -> Result<Request, Refusal> {
    let says_nothing = !request.headers().contains_key(CONTENT_TYPE) && request.body().is_end_stream();
    if says_nothing || kind(request.headers()) == Some("application/json") {
        return Ok(request);
    }
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "this needs `Content-Type: application/json`"))
}

/// What browsers send comes from our own pages, which know the session's own text.
async fn is_ours(request: Request, visitor: &Visitor) -> Result<Request, Refusal> {
    let refused = |sentence: &str| Refusal::new(StatusCode::FORBIDDEN, sentence);
    if is_cross_site(request.headers()) {
        return Err(refused("this came from a page of another site; do it on the farm's own page"));
    }
    let is_form = match kind(request.headers()) {
        Some("application/x-www-form-urlencoded") => true,
        Some("application/json") => false,
        _ => {
            let sentence = "a page sends this as a form; programs send JSON with `Authorization: Bearer TOKEN`";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence));
        }
    };
    let mut said = request.headers().get(CSRF_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut request = request;
    if said.is_none() && is_form {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, BODY_LIMIT).await;
        let body = body.map_err(|_| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "this form is too long"))?;
        said = field(&body, "csrf");
        request = Request::from_parts(parts, Body::from(body));
    }
    let known = said.zip(visitor.csrf()).is_some_and(|(said, csrf)| said.as_bytes().ct_eq(csrf.as_bytes()).into());
    let sentence = "this form is not of the page that you signed in to, or of an earlier time; load the page again";
    if known { Ok(request) } else { Err(refused(sentence)) }
}

fn kind(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next().map(str::trim)
}

fn to_look() -> Refusal {
    Refusal::new(
        StatusCode::UNAUTHORIZED,
        "to look at builds from elsewhere, sign in at /sign-in or send `Authorization: Bearer TOKEN`; the coordinator can be started with --public-read to let everybody look",
    )
}

/// Lets a request through, or refuses it; and tells browsers what the answer may do.
pub(super) async fn guard(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    let mut response = answered(&web, request, next).await;
    let headers = response.headers_mut();
    for (name, value) in TOLD {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // Only what says so itself is kept.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn answered(web: &Arc<Web>, request: Request, next: Next) -> Response {
    let access = &web.access;
    let asked = Asked::of(&request);
    if let Some(token) = link(&request)
        && access.hosts.called(request.headers()).is_ok()
    {
        let (parts, _) = request.into_parts();
        return sign_in::by_link(web, &parts.headers, asked, &token).await;
    }
    let reads = reads(request.method());
    let page = is_page(&request).then(|| request.uri().to_string());
    let reader = reads.then(|| (request.headers().clone(), need(request.method(), request.uri().path())));
    match access.admit(&web.desk.store, request).await {
        Ok((visitor, mut request)) => {
            if let Some(name) = visitor.name().and_then(|name| HeaderValue::from_str(name).ok()) {
                // What a client says of itself counts only where the token does not say it.
                request.headers_mut().insert(ASKED_BY, name);
            }
            request.extensions_mut().insert(visitor.clone());
            let response = next.run(request).await;
            if !reads {
                access.recorder.done(&visitor, asked, response.status().as_u16()).await;
            }
            match reader {
                Some((headers, need)) if !access.is_open_to_all(&headers, need) => {
                    let web = Arc::clone(web);
                    let may_look = move || {
                        let (web, headers) = (Arc::clone(&web), headers.clone());
                        async move { web.access.still_admits(&web.desk.store, &headers, need).await }
                    };
                    response.map(|body| lasting::asked_again(body, lasting::EVERY, may_look))
                }
                _ => response,
            }
        }
        Err(Stopped { refusal, too_small }) => {
            if let Some(visitor) = too_small {
                access.recorder.done(&visitor, asked, refusal.status.as_u16()).await;
                return refusal.into_response();
            }
            match page.filter(|_| reads && refusal.status != StatusCode::MISDIRECTED_REQUEST) {
                Some(to) => sign_in::asked_to_sign_in(&refusal, &to),
                None => refusal.into_response(),
            }
        }
    }
}

/// The token of a link that signs in.
fn link(request: &Request) -> Option<String> {
    let is_front = reads(request.method()) && request.uri().path() == "/";
    field(request.uri().query().filter(|_| is_front)?.as_bytes(), "token")
}

/// Whether a person looks at it.
fn is_page(request: &Request) -> bool {
    let accepts = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    let path = request.uri().path();
    accepts.is_some_and(|kinds| kinds.contains("text/html")) && !path.starts_with("/api/") && path != "/events"
}

#[cfg(test)]
pub(super) use session::csrf as csrf_of;
#[cfg(test)]
mod tests;
