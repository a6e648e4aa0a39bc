//! Whether a delivery comes from somebody who has the secret: over the raw bytes, in constant time, before anything of
//! them is understood.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER_PERMISSIVE;
use hmac::{Hmac, KeyInit as _, Mac as _};
use protocol::api::Forge;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Headers;

/// How far the time that a signature names may lie from ours, in seconds.
const CLOCKS_APART_S: u64 = 5 * 60;

/// How many signatures one header may hold: more than a secret that is being changed needs.
const MOST_SIGNATURES: usize = 8;

/// What the keys of signed webhooks begin with, where they are bytes in base64.
const KEY_PREFIX: &str = "whsec_";

/// Whether whoever sent these bytes has the secret. `now_s`: seconds since 1970.
pub(crate) fn is_genuine(forge: Forge, headers: &Headers, body: &[u8], secret: &str, now_s: u64) -> bool {
    let header = |name: &str| headers.get(name).map(String::as_str);
    let signed = |name: &str| header(name).is_some_and(|value| is_signed(value.strip_prefix("sha256="), body, secret));
    // What is there must be good: a bad signature is not rescued by another one.
    match forge {
        Forge::GitHub => signed("x-hub-signature-256"),
        Forge::Bitbucket | Forge::BitbucketDc => signed("x-hub-signature"),
        Forge::Gitea => is_signed(header("x-gitea-signature"), body, secret),
        Forge::Forgejo => {
            let value = header("x-forgejo-signature").or_else(|| header("x-gitea-signature"));
            is_signed(value, body, secret)
        }
        Forge::GitLab if header("webhook-signature").is_some() => is_standard(headers, body, secret, now_s),
        Forge::GitLab => header("x-gitlab-token").is_some_and(|token| same(token, secret)),
        Forge::Generic if header("webhook-signature").is_some() => is_standard(headers, body, secret, now_s),
        Forge::Generic if header("x-hub-signature-256").is_some() => signed("x-hub-signature-256"),
        Forge::Generic => {
            let token = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
            token.is_some_and(|token| same(token.trim(), secret))
        }
    }
}

/// Whether it is the HMAC-SHA256 of these bytes, in hexadecimal.
fn is_signed(hex: Option<&str>, body: &[u8], secret: &str) -> bool {
    let Some(hex) = hex.filter(|hex| hex.len() == 64) else { return false };
    let Ok(signature) = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()) else { return false };
    mac(secret.as_bytes(), &[body]).is_some_and(|mac| mac.verify_slice(&signature).is_ok())
}

/// As <https://www.standardwebhooks.com> has it: the name and the time are signed too.
fn is_standard(headers: &Headers, body: &[u8], secret: &str, now_s: u64) -> bool {
    let header = |name: &str| headers.get(name).map(String::as_str);
    let (Some(id), Some(time), Some(signatures)) =
        (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"))
    else {
        return false;
    };
    if !time.parse::<u64>().is_ok_and(|time| time.abs_diff(now_s) <= CLOCKS_APART_S) {
        return false;
    }
    let decoded = secret.strip_prefix(KEY_PREFIX).and_then(|key| STANDARD.decode(key).ok());
    let key = decoded.as_deref().unwrap_or(secret.as_bytes());
    let Some(mac) = mac(key, &[id.as_bytes(), b".", time.as_bytes(), b".", body]) else { return false };
    let given = signatures.split(' ').take(MOST_SIGNATURES).filter_map(|one| one.strip_prefix("v1,"));
    given.filter_map(|one| STANDARD.decode(one).ok()).any(|one| mac.clone().verify_slice(&one).is_ok())
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Option<Hmac<Sha256>> {
    // Keys of all lengths are taken.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    for part in parts {
        mac.update(part);
    }
    Some(mac)
}

/// Compared by what they hash to, so that their lengths are not told either.
fn same(one: &str, other: &str) -> bool {
    Sha256::digest(one.as_bytes()).ct_eq(&Sha256::digest(other.as_bytes())).into()
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";

    /// What GitHub's documentation gives for this secret and body.
    const HEX: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    #[track_caller]
    fn check(forge: Forge, headers: &[(&str, &str)], expect: bool) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(is_genuine(forge, &headers, BODY, SECRET, 1_000_000), expect, "{forge} {headers:?}");
    }

    #[test]
    fn a_signature_over_the_bytes() {
        let good = format!("sha256={HEX}");
        let upper = format!("sha256={}", HEX.to_uppercase());
        let other = format!("sha256={}", HEX.replace('7', "8"));
        for (forge, name) in [
            (Forge::GitHub, "x-hub-signature-256"),
            (Forge::Generic, "x-hub-signature-256"),
            (Forge::Bitbucket, "x-hub-signature"),
            (Forge::BitbucketDc, "x-hub-signature"),
        ] {
            check(forge, &[(name, &good)], true);
            check(forge, &[(name, &upper)], true);
            for bad in ["", "sha256=", HEX, &HEX[2..], &other, &good[..good.len() - 2], "sha1=757107ea", "sha256=zz"] {
                check(forge, &[(name, bad)], false);
            }
            check(forge, &[], false);
        }
        // The old one of GitHub's is not looked at.
        check(Forge::GitHub, &[("x-hub-signature", &good)], false);
    }

    #[test]
    fn a_bad_signature_is_not_rescued_by_another() {
        let bad = "0".repeat(64);
        check(Forge::Forgejo, &[("x-forgejo-signature", HEX)], true);
        check(Forge::Forgejo, &[("x-gitea-signature", HEX)], true);
        check(Forge::Forgejo, &[("x-forgejo-signature", &bad), ("x-gitea-signature", HEX)], false);
        check(Forge::Gitea, &[("x-gitea-signature", HEX)], true);
        check(Forge::Gitea, &[("x-forgejo-signature", HEX)], false);
        check(Forge::GitLab, &[("x-gitlab-token", SECRET), ("webhook-signature", "v1,AAAA")], false);
        check(Forge::Generic, &[("authorization", &format!("Bearer {SECRET}")), ("x-hub-signature-256", "")], false);
    }

    #[test]
    fn a_token() {
        check(Forge::GitLab, &[("x-gitlab-token", SECRET)], true);
        for bad in ["", "It's a Secret", "It's a Secret to Everybody!"] {
            check(Forge::GitLab, &[("x-gitlab-token", bad)], false);
        }
        check(Forge::Generic, &[("authorization", &format!("Bearer {SECRET}"))], true);
        check(Forge::Generic, &[("authorization", SECRET)], false);
        check(Forge::Generic, &[("x-gitlab-token", SECRET)], false);
    }

    #[test]
    fn a_signature_over_name_and_time() {
        let sign = |key: &[u8], id: &str, time: &str| {
            let mac = mac(key, &[id.as_bytes(), b".", time.as_bytes(), b".", BODY]).unwrap();
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        let good = sign(SECRET.as_bytes(), "msg_1", "1000000");
        let check_at = |id: &str, time: &str, signature: &str, expect: bool| {
            let headers = [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", signature)];
            check(Forge::GitLab, &headers, expect);
            check(Forge::Generic, &headers, expect);
        };
        check_at("msg_1", "1000000", &good, true);
        check_at("msg_1", "1000000", &format!("v1a,xx {good}"), true);
        check_at("msg_2", "1000000", &good, false);
        check_at("msg_1", "1000001", &good, false);
        for (time, expect) in [("999700", true), ("1000300", true), ("999699", false), ("1000301", false), ("x", false)]
        {
            check_at("msg_1", time, &sign(SECRET.as_bytes(), "msg_1", time), expect);
        }
        let key = format!("whsec_{}", STANDARD.encode("bytes"));
        let headers =
            [("webhook-id", "a"), ("webhook-timestamp", "7"), ("webhook-signature", &*sign(b"bytes", "a", "7"))];
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert!(is_genuine(Forge::GitLab, &headers, BODY, &key, 7));
    }

    #[test]
    fn the_example_of_the_documentation_is_ours() {
        let mac = mac(SECRET.as_bytes(), &[BODY]).unwrap();
        assert_eq!(HEXLOWER.encode(&mac.finalize().into_bytes()), HEX);
    }
}
