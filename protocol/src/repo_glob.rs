//! Which repositories are meant by a pattern such as `https://git.example.org/team/*`.

use std::str::FromStr;

use crate::source::RepoUrl;

/// A pattern over the URL of a repository: `*` is any text without `/`, `**` any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoGlob(String);

/// A pattern that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no pattern for repositories; write one such as https://git.example.org/team/*")]
pub struct InvalidGlob(String);

impl FromStr for RepoGlob {
    type Err = InvalidGlob;

    fn from_str(text: &str) -> Result<Self, InvalidGlob> {
        let bad = text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control());
        if bad { Err(InvalidGlob(text.to_owned())) } else { Ok(Self(text.to_owned())) }
    }
}

impl RepoGlob {
    /// Whether it means this repository. User and password of the URL do not count; a URL with `..` in it, plain or
    /// encoded, is meant by no pattern, for it ends elsewhere than it seems to.
    #[must_use]
    pub fn matches(&self, repo: &RepoUrl) -> bool {
        let text = without_user(repo.reveal());
        let lower = text.to_ascii_lowercase().replace("%2e", ".");
        !lower.split(['/', '\\', '?', '#', ':']).any(|part| part == "..") && matches(self.0.as_bytes(), text.as_bytes())
    }
}

fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

/// Whether a text such as a branch's name is meant by a pattern: `*` is any text without `/`, `**` any text.
#[must_use]
pub fn glob_matches(pattern: &str, text: &str) -> bool {
    matches(pattern.as_bytes(), text.as_bytes())
}

/// Walks both texts once and keeps the last star of each kind to come back to, so that no pattern takes long.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // For each place in the pattern whether the text so far can end there.
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    pass_stars(pattern, &mut reached);
    for &byte in text {
        let mut next = vec![false; pattern.len() + 1];
        for at in 0..pattern.len() {
            if !reached[at] {
                continue;
            }
            let deep = pattern[at..].starts_with(b"**") || (at > 0 && pattern[at - 1..].starts_with(b"**"));
            match pattern[at] {
                b'*' if byte != b'/' || deep => next[at] = true,
                b'*' => {}
                literal if literal == byte => next[at + 1] = true,
                _ => {}
            }
        }
        pass_stars(pattern, &mut next);
        reached = next;
    }
    reached[pattern.len()]
}

/// A star may stand for nothing.
fn pass_stars(pattern: &[u8], reached: &mut [bool]) {
    for at in 0..pattern.len() {
        if reached[at] && pattern[at] == b'*' {
            reached[at + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, repo: &str, expect: bool) {
        let glob: RepoGlob = pattern.parse().unwrap();
        assert_eq!(glob.matches(&repo.parse().unwrap()), expect, "{pattern} {repo}");
    }

    #[test]
    fn what_a_pattern_means() {
        check("https://e.org/team/*", "https://e.org/team/x", true);
        check("https://e.org/team/*", "https://e.org/team/x/y", false);
        check("https://e.org/**", "https://e.org/team/x/y.git", true);
        check("https://e.org/**.git", "https://e.org/team/x/y.git", true);
        check("https://e.org/a", "https://e.org/a", true);
        check("https://e.org/a", "https://e.org/ab", false);
        check("https://e.org/team/*", "https://me:secret@e.org/team/x", true);
        check("git@e.org:team/*", "git@e.org:team/x", true);
        check("**", "/srv/git/x", true);
    }

    #[test]
    fn what_it_does_not_mean_though_it_looks_so() {
        check("https://e.org/team/*", "https://e.org@evil.org/team/x", false);
        check("https://e.org/team/**", "https://e.org/team/../evil/x", false);
        check("https://e.org/team/**", "https://e.org/team/%2E%2e/evil/x", false);
        check("https://e.org/*", "https://evil.org/https://e.org/x", false);
        check("https://e.org/team/*", "https://evil.org#@e.org/team/x", false);
    }

    #[test]
    fn a_long_pattern_takes_no_long_time() {
        let repo = format!("https://e.org/{}", "a".repeat(2000));
        check(&format!("https://e.org/{}b", "a*".repeat(500)), &repo, false);
    }
}
