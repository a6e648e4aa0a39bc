//! What a forge's answer means: done, later, or never. Pure.

use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::Kind;

/// What becomes of something that a forge was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It knows it.
    Told,
    /// It is told again, after so many milliseconds at least, where the forge says how many; nothing else of it is asked
    /// for meanwhile.
    Later(Option<u64>, String),
    /// It would never take it: why.
    Never(String),
}

/// The longest that is waited because a forge says so, in milliseconds.
const LONGEST_MS: u64 = 60 * 60 * 1000;

/// How long is waited where GitHub's second limit does not say how long: a minute at least, by its documentation.
const SECOND_LIMIT_MS: u64 = 60 * 1000;

/// What an answer means. `body` is its beginning.
pub(super) fn verdict(kind: Kind, status: StatusCode, headers: &HeaderMap, body: &str, now_ms: u64) -> Verdict {
    if status.is_success() {
        return Verdict::Told;
    }
    let said = said(status, body);
    let wait = wait_ms(headers, now_ms).or_else(|| is_second_limit(kind, status, body).then_some(SECOND_LIMIT_MS));
    let limited = status == StatusCode::TOO_MANY_REQUESTS || (status == StatusCode::FORBIDDEN && wait.is_some());
    if limited || status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        return Verdict::Later(wait, said);
    }
    // GitLab refuses what it knows already, and what comes after an end.
    if kind == Kind::GitLab && status == StatusCode::BAD_REQUEST && body.contains("Cannot transition status") {
        return Verdict::Told;
    }
    Verdict::Never(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            format!("{said}; give it a token that may write statuses: `buildr statuses --set`")
        }
        // Its word for a commit on none of the project's own branches and tags, as a fork's is.
        StatusCode::NOT_FOUND if kind == Kind::GitLab && body.contains("References for commit") => {
            format!(
                "{said}; GitLab takes statuses of what is in the project itself, and none of a fork's merge request"
            )
        }
        StatusCode::NOT_FOUND => format!("{said}; its token may not see the repository, or that is not there"),
        _ => said,
    })
}

/// Whether GitHub says that it is asked too much at once. Where no header does, its sentence is all that tells that from a
/// token that may too little.
fn is_second_limit(kind: Kind, status: StatusCode, body: &str) -> bool {
    kind == Kind::GitHub && status == StatusCode::FORBIDDEN && body.contains("secondary rate limit")
}

/// How long is to be waited: `Retry-After` in seconds, or until a limit counts anew once it is used up.
fn wait_ms(headers: &HeaderMap, now_ms: u64) -> Option<u64> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let after = number("retry-after").map(|seconds| seconds.saturating_mul(1000));
    let reset = ["x-ratelimit", "ratelimit"].into_iter().find_map(|prefix| {
        let left = number(&format!("{prefix}-remaining"))?;
        let at = number(&format!("{prefix}-reset"))?;
        (left == 0).then(|| at.saturating_mul(1000).saturating_sub(now_ms))
    });
    after.or(reset).map(|ms| ms.clamp(1000, LONGEST_MS))
}

/// What it said, as a sentence's beginning.
fn said(status: StatusCode, body: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let text = json.as_ref().and_then(|json| {
        let words = [&json["message"], &json["error"]["message"], &json["error"]];
        words.into_iter().find_map(|word| word.as_str()).map(str::to_owned)
    });
    let text: String = text.unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect();
    if text.is_empty() { format!("it answered {status}") } else { format!("it answered {status}: {text}") }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    #[track_caller]
    fn check(kind: Kind, status: u16, headers: &[(&'static str, &'static str)], body: &str, expect: &Verdict) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(verdict(kind, status, &headers, body, 1_000_000), *expect, "{status} {body}");
    }

    fn later(ms: Option<u64>, said: &str) -> Verdict {
        Verdict::Later(ms, said.to_owned())
    }

    fn never(said: &str) -> Verdict {
        Verdict::Never(said.to_owned())
    }

    #[test]
    fn what_answers_mean() {
        check(Kind::GitHub, 201, &[], "{}", &Verdict::Told);
        check(Kind::Bitbucket, 200, &[], "", &Verdict::Told);
        check(Kind::Gitea, 502, &[], "<html>", &later(None, "it answered 502 Bad Gateway"));
        let bad = r#"{"message": "Bad credentials"}"#;
        let says = "it answered 401 Unauthorized: Bad credentials; give it a token that may write statuses: `buildr statuses --set`";
        check(Kind::GitHub, 401, &[], bad, &never(says));
        let gone = "it answered 404 Not Found; its token may not see the repository, or that is not there";
        check(Kind::GitLab, 404, &[], "", &never(gone));
        let of_a_fork = "it answered 404 Not Found: 404 References for commit Not Found; GitLab takes statuses of what is in the project itself, and none of a fork's merge request";
        check(Kind::GitLab, 404, &[], r#"{"message": "404 References for commit Not Found"}"#, &never(of_a_fork));
        let many = r#"{"message": "Validation Failed"}"#;
        check(Kind::GitHub, 422, &[], many, &never("it answered 422 Unprocessable Entity: Validation Failed"));
        let repeated = r#"{"message": "Cannot transition status via :run from :running"}"#;
        check(Kind::GitLab, 400, &[], repeated, &Verdict::Told);
        let bitbucket = r#"{"type": "error", "error": {"message": "url: required"}}"#;
        check(Kind::Bitbucket, 400, &[], bitbucket, &never("it answered 400 Bad Request: url: required"));
    }

    #[test]
    fn limits_are_heeded() {
        let says = "it answered 429 Too Many Requests";
        check(Kind::GitLab, 429, &[("retry-after", "30")], "", &later(Some(30_000), says));
        check(Kind::GitLab, 429, &[], "", &later(None, says));
        check(
            Kind::GitLab,
            429,
            &[("ratelimit-remaining", "0"), ("ratelimit-reset", "1060")],
            "",
            &later(Some(60_000), says),
        );
        let limits = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1010")];
        check(Kind::GitHub, 403, &limits, "", &later(Some(10_000), "it answered 403 Forbidden"));
        // A time that is over, and one that is far.
        check(
            Kind::GitHub,
            403,
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1")],
            "",
            &later(Some(1000), "it answered 403 Forbidden"),
        );
        check(Kind::GitHub, 429, &[("retry-after", "999999")], "", &later(Some(LONGEST_MS), says));
        let second = r#"{"message": "You have exceeded a secondary rate limit."}"#;
        let sentence = "it answered 403 Forbidden: You have exceeded a secondary rate limit.";
        check(Kind::GitHub, 403, &[], second, &later(Some(60_000), sentence));
        let left = [("x-ratelimit-remaining", "12"), ("x-ratelimit-reset", "1010")];
        let denied = "it answered 403 Forbidden; give it a token that may write statuses: `buildr statuses --set`";
        check(Kind::GitHub, 403, &left, "", &never(denied));
    }
}
