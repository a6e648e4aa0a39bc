//! The names by which requests may call this server. Any other is a page elsewhere whose name was pointed here.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode, Uri};

use crate::config::{Config, Reading};
use crate::web::WebError;
use crate::web::refusal::Refusal;

/// What a request from this very machine calls it.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The names of one listener, and who may look through it.
pub(super) struct Hosts {
    names: Vec<String>,
    /// The listener takes connections from beyond this machine, so its addresses are names too.
    any_address: bool,
    /// The listener takes none from beyond it.
    loopback: bool,
    reading: Reading,
    /// The name by which it is reached over https alone.
    encrypted: Option<String>,
}

impl Hosts {
    /// By the settings, for the listener at `address`.
    ///
    /// # Errors
    /// When the public URL has no host.
    pub(super) fn new(config: &Config, address: SocketAddr) -> Result<Self, WebError> {
        let mut names = HERE.map(str::to_owned).to_vec();
        names.push(match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        });
        if !address.ip().is_loopback() {
            names.push(gethostname::gethostname().to_string_lossy().to_ascii_lowercase());
        }
        let mut encrypted = None;
        if let Some(url) = &config.public_url {
            let uri: Option<Uri> = url.parse().ok();
            let host = uri.as_ref().and_then(Uri::host).ok_or_else(|| WebError::PublicUrl(url.clone()))?;
            let host = host.to_ascii_lowercase();
            encrypted = url.starts_with("https://").then(|| host.clone());
            names.push(host);
        }
        let (any_address, loopback) = (address.ip().is_unspecified(), address.ip().is_loopback());
        Ok(Self { names, any_address, loopback, reading: config.reading, encrypted })
    }

    /// By which of its names a request calls this server.
    ///
    /// # Errors
    /// When it is none of them.
    pub(super) fn called(&self, headers: &HeaderMap) -> Result<String, Refusal> {
        let text = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or("");
        let name = without_port(text).to_ascii_lowercase();
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

    /// Whether somebody who calls it so may look without signing in.
    pub(super) fn is_open(&self, called: &str) -> bool {
        self.reading == Reading::Public || (self.loopback && HERE.contains(&called))
    }

    /// Whether who calls it so comes over https.
    pub(super) fn is_encrypted(&self, called: &str) -> bool {
        self.encrypted.as_deref() == Some(called)
    }
}

fn without_port(text: &str) -> &str {
    match text.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => text,
    }
}

/// Whether a browser sends this from a page of another site. What is no browser says nothing of it, and has no cookie
/// that somebody could abuse.
pub(super) fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |value: Option<&axum::http::HeaderValue>| value.map(|value| value.to_str().unwrap_or("?").to_owned());
    if let Some(site) = text(headers.get("sec-fetch-site")) {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = text(headers.get(ORIGIN)) else { return false };
    let host = text(headers.get(HOST)).unwrap_or_default();
    origin.split_once("://").is_none_or(|(_, from)| !from.eq_ignore_ascii_case(&host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_needs_a_host() {
        let config = Config { public_url: Some("nonsense/x y".to_owned()), ..Config::new("/s") };
        let address = "127.0.0.1:1".parse().unwrap();
        assert!(matches!(Hosts::new(&config, address), Err(WebError::PublicUrl(_))));
    }

    #[test]
    fn https_is_known_by_the_public_url() {
        let config = Config { public_url: Some("https://CI.example/x".to_owned()), ..Config::new("/s") };
        let hosts = Hosts::new(&config, "127.0.0.1:1".parse().unwrap()).unwrap();
        assert!(hosts.is_encrypted("ci.example") && !hosts.is_encrypted("localhost"));
    }

    #[test]
    fn which_pages_may_send_forms() {
        for (headers, expect) in [
            (&[][..], false),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "cross-site"), ("origin", "http://localhost:8700")], true),
            (&[("origin", "http://localhost:8700")], false),
            (&[("origin", "http://LOCALHOST:8700")], false),
            (&[("origin", "http://localhost:8701")], true),
            (&[("origin", "https://evil.example")], true),
            (&[("origin", "null")], true),
        ] {
            let mut all = HeaderMap::new();
            all.insert(HOST, "localhost:8700".parse().unwrap());
            for (name, value) in headers {
                all.insert(*name, value.parse().unwrap());
            }
            assert_eq!(is_cross_site(&all), expect, "{headers:?}");
        }
    }
}
