//! Who may do what. Writing needs the token, always, in a header and with JSON, so that no web page and no other
//! user of the machine can start a build; looking is free for whoever is on this machine.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::refusal::Refusal;
use super::{Web, WebError};
use crate::config::{Config, Reading};

/// The characters of a token: 32 random bytes.
pub(super) const TOKEN_LENGTH: usize = 43;

/// The cookie of those who signed in.
pub(super) const COOKIE_NAME: &str = "buildr_reader";

/// The path that answers everybody: whether the coordinator lives.
const HEALTH: &str = "/api/v1/health";

/// Below it agents bring and fetch artifacts, with tokens of their own.
const DEPOT: &str = "/api/v1/depot/";

/// The path that people sign in at.
const SIGN_IN: &str = "/";

/// A token that nobody can guess.
pub(super) fn fresh_token() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Who may do what, on one listener.
pub(super) struct Access {
    token: String,
    /// Names by which requests may call this server. Any other is a page elsewhere whose name was pointed here.
    names: Vec<String>,
    /// The listener takes connections from beyond this machine, so its addresses are names too.
    any_address: bool,
    /// The listener takes none from beyond it.
    loopback: bool,
    reading: Reading,
}

impl Access {
    /// By the settings, for the listener at `address`.
    ///
    /// # Errors
    /// When the public URL has no host.
    pub(super) fn new(config: &Config, address: SocketAddr, token: String) -> Result<Self, WebError> {
        let mut names = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec();
        names.push(match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        });
        if !address.ip().is_loopback() {
            names.push(gethostname::gethostname().to_string_lossy().to_ascii_lowercase());
        }
        if let Some(url) = &config.public_url {
            let uri: Option<Uri> = url.parse().ok();
            let host = uri.as_ref().and_then(Uri::host).ok_or_else(|| WebError::PublicUrl(url.clone()))?;
            names.push(host.to_ascii_lowercase());
        }
        Ok(Self {
            token,
            names,
            any_address: address.ip().is_unspecified(),
            loopback: address.ip().is_loopback(),
            reading: config.reading,
        })
    }

    /// Whether a request may go on.
    fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = self.host(headers)?;
        if path.starts_with(DEPOT) {
            // Its tokens are the claims' own, and looked at where the claim is known.
            return Ok(());
        }
        if *method == Method::GET || *method == Method::HEAD {
            let here = self.loopback && ["localhost", "127.0.0.1", "[::1]"].contains(&host.as_str());
            let open = here || self.reading == Reading::Public || path == HEALTH || path == SIGN_IN;
            return if open || self.may_read(headers) { Ok(()) } else { Err(sign_in()) };
        }
        if !self.has_token(headers) {
            return Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "this needs the farm's token: `Authorization: Bearer TOKEN`. On the coordinator's machine `buildr` finds it by itself; elsewhere set BUILDR_TOKEN to what the file `token` in the coordinator's state folder holds",
            ));
        }
        let json = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let json = json.and_then(|value| value.split(';').next()).is_some_and(|kind| kind.trim() == "application/json");
        if json {
            return Ok(());
        }
        Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "this needs `Content-Type: application/json`"))
    }

    /// Whether this reader has signed in, or has the token.
    pub(super) fn may_read(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let ours = |pair: &str| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('=').map(str::to_owned);
        let signed_in = cookies.flat_map(|cookies| cookies.split(';')).filter_map(ours).any(|value| {
            let expected = self.cookie_value();
            value.as_bytes().ct_eq(expected.as_bytes()).into()
        });
        signed_in || self.has_token(headers)
    }

    /// Whether somebody may look without signing in, when called by this name.
    pub(super) fn is_open(&self, headers: &HeaderMap) -> bool {
        let here = |host: String| ["localhost", "127.0.0.1", "[::1]"].contains(&host.as_str());
        self.reading == Reading::Public || (self.loopback && self.host(headers).is_ok_and(here))
    }

    /// Whether it is the token.
    pub(super) fn is_token(&self, text: &str) -> bool {
        text.as_bytes().ct_eq(self.token.as_bytes()).into()
    }

    /// What the cookie holds. Other servers on this host see cookies of ours, so it lets read, and no more: the
    /// token cannot be had from it.
    pub(super) fn cookie_value(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"buildr reader\0");
        hash.update(self.token.as_bytes());
        URL_SAFE_NO_PAD.encode(hash.finalize())
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        value.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|token| self.is_token(token.trim()))
    }

    fn host(&self, headers: &HeaderMap) -> Result<String, Refusal> {
        let text = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or("");
        let name = match text.rsplit_once(':') {
            Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => text,
        };
        let name = name.to_ascii_lowercase();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        if self.names.contains(&name) || (self.any_address && address.parse::<IpAddr>().is_ok()) {
            return Ok(name);
        }
        Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!(
                "this server is not called {name:?}; if people should reach it by that name, start the coordinator with --public-url http://{name}"
            ),
        ))
    }
}

fn sign_in() -> Refusal {
    Refusal::new(
        StatusCode::UNAUTHORIZED,
        "to look at builds from elsewhere, sign in once at /?token=TOKEN or send `Authorization: Bearer TOKEN`; the coordinator can be started with --public-read to let everybody look",
    )
}

/// Lets a request through, or refuses it; and tells browsers what the answer may do.
pub(super) async fn guard(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    let mut response = match web.access.check(request.method(), request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'"),
    ] {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(listen: &str, change: impl FnOnce(&mut Config)) -> Access {
        let mut config = Config::new("/s");
        change(&mut config);
        Access::new(&config, listen.parse().unwrap(), "secret".to_owned()).unwrap()
    }

    #[track_caller]
    fn check(access: &Access, request: &str, headers: &[(&'static str, &str)], expect: u16) {
        let (method, path) = request.split_once(' ').unwrap();
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let headers: HeaderMap = headers.collect();
        let got = access.check(&method.parse().unwrap(), path, &headers).map_or_else(|r| r.status.as_u16(), |()| 200);
        assert_eq!(got, expect, "{request} {headers:?}");
    }

    const LOCAL: (&str, &str) = ("host", "localhost:8700");
    const BEARER: (&str, &str) = ("authorization", "Bearer secret");
    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    #[test]
    fn on_loopback_looking_is_free_and_writing_needs_the_token() {
        let access = access("127.0.0.1:8700", |_| {});
        check(&access, "GET /api/v1/builds", &[LOCAL], 200);
        check(&access, "GET /api/v1/builds", &[("host", "[::1]:8700")], 200);
        check(&access, "POST /api/v1/builds", &[LOCAL, BEARER, JSON], 200);
        check(&access, "POST /api/v1/builds", &[LOCAL, JSON], 401);
        check(&access, "POST /api/v1/builds", &[LOCAL, JSON, ("authorization", "Bearer other")], 401);
        check(&access, "POST /api/v1/builds", &[LOCAL, JSON, ("authorization", "secret")], 401);
        check(&access, "POST /api/v1/builds", &[LOCAL, BEARER], 415);
        check(&access, "POST /api/v1/builds", &[LOCAL, BEARER, ("content-type", "text/plain")], 415);
        let cookie = format!("a=b; {COOKIE_NAME}={}", access.cookie_value());
        check(&access, "POST /api/v1/builds", &[LOCAL, JSON, ("cookie", &cookie)], 401);
    }

    #[test]
    fn a_name_that_was_pointed_here_is_refused() {
        let access = access("127.0.0.1:8700", |_| {});
        for host in ["evil.example", "evil.example:8700", "localhost.evil.example", "192.0.2.1", "", "127.0.0.1:x"] {
            check(&access, "GET /", &[("host", host)], 421);
        }
        check(&access, "POST /api/v1/builds", &[("host", "evil.example"), BEARER, JSON], 421);
        check(&access, "GET /", &[], 421);
    }

    #[test]
    fn from_elsewhere_looking_needs_the_token_too() {
        let guarded = access("0.0.0.0:8700", |config| config.public_url = Some("https://ci.example/x".to_owned()));
        let public = ("host", "ci.example");
        check(&guarded, "GET /api/v1/builds", &[public], 401);
        check(&guarded, "GET /api/v1/builds", &[LOCAL], 401);
        check(&guarded, "GET /api/v1/builds", &[("host", "192.0.2.1:8700")], 401);
        check(&guarded, "GET /api/v1/health", &[public], 200);
        check(&guarded, "GET /api/v1/builds", &[public, BEARER], 200);
        let cookie = format!("{COOKIE_NAME}={}", guarded.cookie_value());
        check(&guarded, "GET /api/v1/builds", &[public, ("cookie", &cookie)], 200);
        let proxied = access("127.0.0.1:8700", |config| config.public_url = Some("https://ci.example".to_owned()));
        check(&proxied, "GET /api/v1/builds", &[public], 401);
        check(&proxied, "GET /api/v1/builds", &[LOCAL], 200);
        let open = access("0.0.0.0:8700", |config| config.reading = Reading::Public);
        check(&open, "GET /api/v1/builds", &[LOCAL], 200);
        check(&open, "POST /api/v1/builds", &[LOCAL, JSON], 401);
    }

    #[test]
    fn a_public_url_needs_a_host() {
        let config = Config { public_url: Some("nonsense/x y".to_owned()), ..Config::new("/s") };
        let address = "127.0.0.1:1".parse().unwrap();
        assert!(matches!(Access::new(&config, address, String::new()), Err(WebError::PublicUrl(_))));
    }
}
