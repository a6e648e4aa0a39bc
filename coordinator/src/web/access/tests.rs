//! Every way in, each with what it needs and without.

use axum::http::Method;
use tempfile::{TempDir, tempdir};

use super::*;
use crate::config::Reading;
use crate::store::{NewToken, Session};

/// An access of its own, with a store behind it.
struct Place {
    access: Access,
    store: Store,
    _folder: TempDir,
}

impl Place {
    async fn new(listen: &str, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempdir().unwrap();
        let mut config = Config::new("/s");
        change(&mut config);
        let (recorder, writer) = recorder();
        drop(writer);
        let access = Access::new(&config, listen.parse().unwrap(), "secret".to_owned(), recorder).unwrap();
        Self { access, store: Store::open(folder.path()).await.unwrap(), _folder: folder }
    }

    /// A token of this role, by its text.
    async fn token(&self, name: &str, role: Role, expires_ms: Option<u64>) -> String {
        let text = format!("{PREFIX}{}", fresh_token());
        let (prefix, made_by) = (text[..SHOWN].to_owned(), "x".to_owned());
        let token = NewToken { name: name.to_owned(), role, prefix, hash: hash(&text), made_by, expires_ms };
        let mut tx = self.store.write().await.unwrap();
        assert!(tx.insert_token(&token, now_ms()).await.unwrap());
        tx.commit().await.unwrap();
        text
    }

    /// The cookie of a browser that signed in with this token.
    async fn cookie(&self, token: &str, expires_ms: u64) -> String {
        let cookie = fresh_token();
        let session = Session { hash: hash(&cookie), token: hash(token), expires_ms };
        let mut tx = self.store.write().await.unwrap();
        tx.insert_session(&session, now_ms()).await.unwrap();
        tx.commit().await.unwrap();
        cookie
    }

    async fn ask(&self, request: &str, headers: &[(&str, &str)], body: &str) -> (u16, Option<Visitor>) {
        let (method, path) = request.split_once(' ').unwrap();
        let mut all = Request::builder().method(method.parse::<Method>().unwrap()).uri(path);
        for (name, value) in headers {
            all = all.header(*name, *value);
        }
        let request = all.body(Body::from(body.to_owned())).unwrap();
        match self.access.admit(&self.store, request).await {
            Ok((visitor, request)) => {
                let again = to_bytes(request.into_body(), BODY_LIMIT).await.unwrap();
                assert_eq!(again, body, "the handler reads what was sent");
                (200, Some(visitor))
            }
            Err(stopped) => (stopped.refusal.status.as_u16(), stopped.too_small),
        }
    }

    async fn check(&self, request: &str, headers: &[(&str, &str)], expect: u16) {
        let (got, _) = self.ask(request, headers, "").await;
        assert_eq!(got, expect, "{request} {headers:?}");
    }
}

const LOCAL: (&str, &str) = ("host", "localhost:8700");
const BEARER: (&str, &str) = ("authorization", "Bearer secret");
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

#[tokio::test]
async fn on_loopback_looking_is_free_and_writing_needs_a_token() {
    let place = Place::new("127.0.0.1:8700", |_| {}).await;
    place.check("GET /api/v1/builds", &[LOCAL], 200).await;
    place.check("GET /api/v1/builds", &[("host", "[::1]:8700")], 200).await;
    place.check("GET /api/v1/builds", &[LOCAL, ("authorization", "Bearer other")], 200).await;
    place.check("POST /api/v1/builds", &[LOCAL, BEARER, JSON], 200).await;
    place.check("POST /api/v1/builds", &[LOCAL, JSON], 401).await;
    place.check("POST /api/v1/builds", &[LOCAL, JSON, ("authorization", "Bearer other")], 401).await;
    place.check("POST /api/v1/builds", &[LOCAL, JSON, ("authorization", "secret")], 401).await;
    // Who says nothing need not say how.
    place.check("POST /api/v1/agents/oak/resume", &[LOCAL, BEARER], 200).await;
    assert_eq!(place.ask("POST /api/v1/builds", &[LOCAL, BEARER], "{}").await.0, 415);
    place.check("POST /api/v1/builds", &[LOCAL, BEARER, FORM], 415).await;
    // A method that no route has is refused where routes are known.
    place.check("DELETE /api/v1/builds", &[LOCAL, BEARER], 200).await;
    place.check("POST /api/v1/builds", &[LOCAL, BEARER, ("content-type", "text/plain")], 415).await;
    // Looking is free for what everybody may see, and not for what is an admin's.
    place.check("GET /api/v1/tokens", &[LOCAL], 401).await;
    place.check("GET /api/v1/tokens", &[LOCAL, BEARER], 200).await;
}

#[tokio::test]
async fn a_name_that_was_pointed_here_is_refused() {
    let place = Place::new("127.0.0.1:8700", |_| {}).await;
    for host in ["evil.example", "evil.example:8700", "localhost.evil.example", "192.0.2.1", "", "127.0.0.1:x"] {
        place.check("GET /", &[("host", host)], 421).await;
        place.check("POST /hooks/github", &[("host", host)], 421).await;
    }
    place.check("POST /api/v1/builds", &[("host", "evil.example"), BEARER, JSON], 421).await;
    place.check("GET /", &[], 421).await;
}

#[tokio::test]
async fn from_elsewhere_looking_needs_a_token_too() {
    let guarded =
        Place::new("0.0.0.0:8700", |config| config.public_url = Some("https://ci.example/x".to_owned())).await;
    let public = ("host", "ci.example");
    guarded.check("GET /", &[public], 401).await;
    guarded.check("GET /api/v1/builds", &[public], 401).await;
    guarded.check("GET /api/v1/builds", &[LOCAL], 401).await;
    guarded.check("GET /api/v1/builds", &[("host", "192.0.2.1:8700")], 401).await;
    for open in ["/api/v1/health", "/healthz", "/readyz", "/badge/x.svg", "/assets/style.css", "/sign-in"] {
        guarded.check(&format!("GET {open}"), &[public], 200).await;
    }
    guarded.check("POST /hooks/github", &[public], 200).await;
    guarded.check("GET /api/v1/builds", &[public, BEARER], 200).await;
    let viewer = guarded.token("eyes", Role::Viewer, None).await;
    guarded.check("GET /api/v1/builds", &[public, ("authorization", &format!("Bearer {viewer}"))], 200).await;
    let cookie = guarded.cookie(&viewer, now_ms() + 60_000).await;
    let cookie = format!("a=b; {}={cookie}", session::COOKIE_NAME);
    guarded.check("GET /api/v1/builds", &[public, ("cookie", &cookie)], 200).await;
    let proxied =
        Place::new("127.0.0.1:8700", |config| config.public_url = Some("https://ci.example".to_owned())).await;
    proxied.check("GET /api/v1/builds", &[public], 401).await;
    proxied.check("GET /api/v1/builds", &[LOCAL], 200).await;
    let open = Place::new("0.0.0.0:8700", |config| config.reading = Reading::Public).await;
    open.check("GET /api/v1/builds", &[LOCAL], 200).await;
    open.check("POST /api/v1/builds", &[LOCAL, JSON], 401).await;
    open.check("GET /api/v1/secrets", &[LOCAL], 401).await;
}

/// Every route that needs a role, with the least that may.
const ROLES: [(&str, Role); 20] = [
    ("POST /api/v1/builds", Role::Developer),
    ("POST /api/v1/builds/7/cancel", Role::Developer),
    ("POST /api/v1/builds/7/approve", Role::Developer),
    ("POST /api/v1/builds/7/restart", Role::Developer),
    ("POST /api/v1/builds/7/jobs/x/approve", Role::Developer),
    ("POST /builds/7/cancel", Role::Developer),
    ("POST /api/v1/projects", Role::Maintainer),
    ("POST /projects/x", Role::Maintainer),
    ("POST /api/v1/deliveries/7/again", Role::Maintainer),
    ("POST /api/v1/secrets", Role::Maintainer),
    ("POST /api/v1/secrets/remove", Role::Maintainer),
    ("GET /api/v1/secrets", Role::Maintainer),
    ("POST /api/v1/agents/oak/approve", Role::Admin),
    ("POST /api/v1/agents/oak/pause", Role::Admin),
    ("POST /api/v1/agents/oak/revoke", Role::Admin),
    ("POST /agents/oak/pause", Role::Admin),
    ("POST /api/v1/tokens", Role::Admin),
    ("POST /api/v1/tokens/ci/revoke", Role::Admin),
    ("GET /api/v1/tokens", Role::Admin),
    ("GET /api/v1/audit", Role::Admin),
];

#[tokio::test]
async fn each_role_and_each_route() {
    let place = Place::new("127.0.0.1:8700", |_| {}).await;
    for own in Role::ALL {
        let token = place.token(own.name(), own, None).await;
        let cookie = place.cookie(&token, now_ms() + 60_000).await;
        let csrf = csrf(&cookie);
        let cookie = format!("{}={cookie}", session::COOKIE_NAME);
        for (request, least) in ROLES {
            let expect = if own >= least { 200 } else { 403 };
            let bearer = ("authorization", &*format!("Bearer {token}"));
            let (got, who) = place.ask(request, &[LOCAL, bearer, JSON], "").await;
            assert_eq!(got, expect, "{own}: {request}");
            assert_eq!(who.unwrap().name(), Some(own.name()), "who was refused for the role is known");
            let (got, _) = place.ask(request, &[LOCAL, ("cookie", &cookie), FORM], &format!("csrf={csrf}&x=y")).await;
            assert_eq!(got, expect, "{own} in a browser: {request}");
        }
    }
    for (request, _) in ROLES {
        place.check(request, &[LOCAL, JSON], 401).await;
        place.check(request, &[LOCAL, BEARER, JSON], 200).await;
    }
}

#[tokio::test]
async fn what_a_browser_sends_comes_from_our_own_pages() {
    let place = Place::new("127.0.0.1:8700", |_| {}).await;
    let cookie = place.cookie("secret", now_ms() + 60_000).await;
    let other = place.cookie("secret", now_ms() + 60_000).await;
    let (mine, theirs) = (csrf(&cookie), csrf(&other));
    let cookie = format!("{}={cookie}", session::COOKIE_NAME);
    let cookie = ("cookie", cookie.as_str());
    let token = ("x-csrf-token", mine.as_str());
    let post = "POST /builds/7/cancel";
    for (headers, body, expect) in [
        (&[cookie, FORM][..], format!("csrf={mine}"), 200),
        (&[cookie, FORM], format!("reason=x&csrf={mine}"), 200),
        (&[cookie, FORM, token], "reason=x".to_owned(), 200),
        (&[cookie, JSON, token], "{}".to_owned(), 200),
        (&[cookie, FORM, ("origin", "http://localhost:8700")], format!("csrf={mine}"), 200),
        (&[cookie, FORM, ("sec-fetch-site", "same-origin")], format!("csrf={mine}"), 200),
        (&[cookie, FORM], String::new(), 403),
        (&[cookie, FORM], "csrf=".to_owned(), 403),
        (&[cookie, FORM], format!("csrf={theirs}"), 403),
        (&[cookie, FORM, ("x-csrf-token", &theirs)], format!("csrf={mine}"), 403),
        (&[cookie, JSON], format!("csrf={mine}"), 403),
        (&[cookie, FORM, ("origin", "https://evil.example")], format!("csrf={mine}"), 403),
        (&[cookie, FORM, ("origin", "null")], format!("csrf={mine}"), 403),
        (&[cookie, FORM, ("sec-fetch-site", "cross-site")], format!("csrf={mine}"), 403),
        (&[cookie, FORM, ("sec-fetch-site", "same-site")], format!("csrf={mine}"), 403),
        (&[cookie, ("content-type", "text/plain"), token], "x".to_owned(), 415),
        (&[cookie, ("content-type", "multipart/form-data"), token], "x".to_owned(), 415),
        (&[cookie, token], String::new(), 415),
        (&[cookie, FORM], format!("csrf={mine}&x={}", "x".repeat(BODY_LIMIT)), 413),
        (&[FORM], format!("csrf={mine}"), 401),
        (&[("cookie", "buildr_session=x"), FORM], format!("csrf={mine}"), 401),
        // A form with a token in a header is a program's, and not what programs send.
        (&[BEARER, FORM], format!("csrf={mine}"), 415),
    ] {
        let headers: Vec<_> = [LOCAL].iter().chain(headers).copied().collect();
        assert_eq!(place.ask(post, &headers, &body).await.0, expect, "{headers:?} {body}");
    }
    let (_, visitor) = place.ask("GET /builds/7", &[LOCAL, cookie], "").await;
    assert_eq!(visitor.unwrap().csrf(), Some(mine.as_str()));
}

#[tokio::test]
async fn what_is_over_or_revoked_counts_no_more() {
    let place = Place::new("127.0.0.1:8700", |_| {}).await;
    let now = now_ms();
    let over = place.token("over", Role::Admin, Some(now - 1)).await;
    let held = place.token("held", Role::Admin, Some(now + 600_000)).await;
    let post = "POST /api/v1/builds";
    let bearer = |token: &str| format!("Bearer {token}");
    place.check(post, &[LOCAL, JSON, ("authorization", &bearer(&over))], 403).await;
    place.check(post, &[LOCAL, JSON, ("authorization", &bearer(&held))], 200).await;
    let mut wrong = held.clone();
    wrong.replace_range(49.., if held.ends_with('A') { "B" } else { "A" });
    place.check(post, &[LOCAL, JSON, ("authorization", &bearer(&wrong))], 401).await;
    let look = "GET /api/v1/tokens";
    let cookie = async |token: &str, end| format!("{}={}", session::COOKIE_NAME, place.cookie(token, end).await);
    let (good, late) = (cookie(&held, now + 600_000).await, cookie(&held, now - 1).await);
    let of_over = cookie(&over, now + 600_000).await;
    place.check(look, &[LOCAL, ("cookie", &good)], 200).await;
    place.check(look, &[LOCAL, ("cookie", &format!("{late}; {good}"))], 200).await;
    place.check(look, &[LOCAL, ("cookie", &late)], 401).await;
    place.check(look, &[LOCAL, ("cookie", &of_over)], 403).await;
    let headers = |name: &str, value: &str| {
        let all = [(HeaderName::from_static("host"), "localhost"), (name.parse().unwrap(), value)];
        all.map(|(name, value)| (name, value.parse().unwrap())).into_iter().collect::<HeaderMap>()
    };
    let followers = [headers("authorization", &bearer(&held)), headers("cookie", &good)];
    let still = async |headers, need| place.access.still_admits(&place.store, headers, need).await;
    for follower in &followers {
        assert!(still(follower, Need::Role(Role::Admin)).await);
    }
    let mut tx = place.store.write().await.unwrap();
    tx.revoke_token("held", now).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    for follower in &followers {
        assert!(!still(follower, Need::Role(Role::Admin)).await, "it follows no more");
        assert!(still(follower, Need::Reading).await, "on this machine everybody may look");
    }
    place.check(post, &[LOCAL, JSON, ("authorization", &bearer(&held))], 403).await;
    place.check(look, &[LOCAL, ("cookie", &good)], 401).await;
    // A start token that was changed takes its sessions with it.
    let before = cookie("secret of before", now + 600_000).await;
    place.check(look, &[LOCAL, ("cookie", &before)], 401).await;
}
