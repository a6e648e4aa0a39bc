//! What a web server says about a repository that it gave no git for. libgit2 tells that there was an answer, and not
//! which: so the question is asked once more, for the status alone.

use std::time::Duration;

use tokio::runtime::Handle;

/// How long it may take to ask.
const PATIENCE: Duration = Duration::from_secs(15);

/// The status with which the server answers the first question of a clone, without credentials; none when it does not
/// answer, or is no web server. Blocks.
pub(super) fn of(url: &str, runtime: &Handle) -> Option<u16> {
    let is_web = url.starts_with("http://") || url.starts_with("https://");
    // The client panics without a provider of TLS, which every program of ours installs at its start.
    if !is_web || rustls::crypto::CryptoProvider::get_default().is_none() {
        return None;
    }
    let question = format!("{}/info/refs?service=git-upload-pack", url.trim_end_matches('/'));
    // Some servers speak git only to those who say that they are git.
    let client = reqwest::Client::builder().timeout(PATIENCE).user_agent("git/2 (buildr)").build().ok()?;
    let answer = runtime.block_on(client.get(question).send()).ok()?;
    Some(answer.status().as_u16())
}

/// Whether such an answer will be the same a little later: the server is well, and has nothing for us.
pub(super) fn is_final(status: u16) -> bool {
    // Request timeout, too early, too many requests.
    (400..500).contains(&status) && ![408, 425, 429].contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_no_is_not_asked_again() {
        for (status, expect) in
            [(404, true), (403, true), (401, true), (410, true), (429, false), (503, false), (200, false)]
        {
            assert_eq!(is_final(status), expect, "{status}");
        }
    }
}
