//! Tokens and cookies as texts, and what is kept of them.

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::HEXLOWER;
use rand::Rng as _;
use sha2::{Digest as _, Sha256};

/// The characters of 32 random bytes.
pub(in crate::web) const TOKEN_LENGTH: usize = 43;

/// How API tokens begin, so that people and programs that look for lost secrets know one.
pub(in crate::web) const PREFIX: &str = "buildr_";

/// How many characters of a token are shown in lists.
pub(in crate::web) const SHOWN: usize = PREFIX.len() + 4;

/// The cookie of those who signed in.
pub(super) const COOKIE_NAME: &str = "buildr_session";

/// How long a browser stays signed in, in milliseconds: a week.
pub(super) const SESSION_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// A text that nobody can guess.
pub(in crate::web) fn fresh_token() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What is kept of a token or a cookie.
pub(in crate::web) fn hash(text: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(text.as_bytes()))
}

/// Whether a text could be an API token: else it is not looked for.
pub(super) fn is_like_token(text: &str) -> bool {
    text.strip_prefix(PREFIX).is_some_and(|rest| rest.len() == TOKEN_LENGTH)
}

/// What the forms of a session carry. It is made from the cookie, which no page elsewhere can read, and does not lead
/// back to it.
pub(in crate::web) fn csrf(cookie: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"buildr csrf\0");
    hash.update(cookie.as_bytes());
    URL_SAFE_NO_PAD.encode(hash.finalize())
}

/// The session's cookies that a request has: a page of another path or port may have set one of the same name.
pub(super) fn cookies(headers: &HeaderMap) -> Vec<&str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|cookies| cookies.split(';'));
    let found = pairs.filter_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='));
    found.filter(|value| value.len() == TOKEN_LENGTH).take(4).collect()
}

/// The cookie of a new session, or one that takes it away.
pub(super) fn set_cookie(value: Option<&str>, encrypted: bool) -> String {
    let (value, age) = value.map_or(("", 0), |value| (value, SESSION_MS / 1000));
    let secure = if encrypted { "; Secure" } else { "" };
    format!("{COOKIE_NAME}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
}

/// The value of a field of a form.
pub(super) fn field(form: &[u8], name: &str) -> Option<String> {
    url::form_urlencoded::parse(form).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_cookies_as_texts() {
        let token = format!("{PREFIX}{}", fresh_token());
        assert!(is_like_token(&token) && !is_like_token(&token[1..]) && !is_like_token(&token[..49]));
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let cookie = fresh_token();
        assert_ne!(csrf(&cookie), csrf(&fresh_token()));
        assert_eq!(csrf(&cookie), csrf(&cookie));
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, format!("a=b; {COOKIE_NAME}=short; {COOKIE_NAME}={cookie}").parse().unwrap());
        assert_eq!(cookies(&headers), [cookie.as_str()]);
        let set = set_cookie(Some(&cookie), true);
        assert!(set.contains("Max-Age=604800; HttpOnly; SameSite=Strict; Secure"), "{set}");
        assert!(set_cookie(None, false).starts_with("buildr_session=; Path=/; Max-Age=0;"));
    }

    #[test]
    fn fields_of_forms() {
        let form = b"token=a+b%21&csrf=x&csrf=y";
        assert_eq!(field(form, "token").as_deref(), Some("a b!"));
        assert_eq!(field(form, "csrf").as_deref(), Some("x"));
        assert_eq!(field(form, "to"), None);
        assert_eq!(field(b"\xff%", "to"), None);
    }
}
