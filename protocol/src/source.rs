//! Where code comes from: repository, branch, commit. What is not safe to hand to git is refused here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a text cannot name a repository, branch or commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSource {
    /// Nothing was given.
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// A character that no URL or ref may hold.
    #[error("the {0} holds a control character or white space, plain or as %0a")]
    BadCharacter(&'static str),
    /// It would be taken for an option.
    #[error("the {0} begins with '-', which git would take for an option")]
    OptionLike(&'static str),
    /// A scheme that can run commands, or that buildr does not know.
    #[error(
        "{0:?} is not a way to a repository that buildr takes; use https://, ssh://, git://, http://, user@host:path, file:// or an absolute path"
    )]
    Scheme(String),
    /// No absolute path.
    #[error("{0:?} is a relative path; on a farm only an absolute path says which folder is meant")]
    RelativePath(String),
    /// Longer than any that is meant.
    #[error("the {what} is longer than {limit} bytes")]
    TooLong {
        /// What was too long.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not a name that git accepts for a branch.
    #[error("{0:?} is not a branch's name")]
    Branch(String),
    /// Not 40 hexadecimal digits.
    #[error("{0:?} is not a commit (40 hexadecimal digits)")]
    Commit(String),
}

/// The place of a repository: a URL, an scp-like `user@host:path`, or an absolute path.
///
/// `ext::` and every other transport that can run a command, option-like texts and control characters are
/// refused. [`fmt::Display`] and [`fmt::Debug`] leave out a password; [`RepoUrl::reveal`] has it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(
    pattern = r"^(/[^\x00-\x1F\x7F-\x9F]*|(https?|ssh|git|file)://[^\s\x00-\x1F\x7F-\x9F-][^\s\x00-\x1F\x7F-\x9F]*|[^\s\x00-\x1F\x7F-\x9F:/-][^\s\x00-\x1F\x7F-\x9F:/]*:[^\s\x00-\x1F\x7F-\x9F:-][^\s\x00-\x1F\x7F-\x9F]*)$",
    max_length = 2048,
    examples("https://example.org/ada/cronline.git")
)]
pub struct RepoUrl(String);

/// The longest text that is taken for a repository, in bytes.
const LONGEST_URL: usize = 2048;

const SCHEMES: [&str; 5] = ["https", "http", "ssh", "git", "file"];

impl RepoUrl {
    /// The whole text, credentials included: for git and the sealed grant alone.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it names a folder of the machine that clones it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.0.starts_with('/') || self.0.starts_with("file://")
    }

    /// The last part of its path without `.git`: what people call the repository.
    #[must_use]
    pub fn short_name(&self) -> &str {
        let path = self.0.trim_end_matches('/');
        let name = path.rsplit(['/', ':']).next().unwrap_or(path);
        name.strip_suffix(".git").unwrap_or(name)
    }

    /// What all ways to one repository have in common: its host and path. `git@Host:a/b.git`, `https://me:pw@host/a/b/`
    /// and `ssh://git@host:22/a/b` are `host/a/b`. A port counts where it is not the scheme's own; a folder of this
    /// machine is its path. It holds no password.
    #[must_use]
    pub fn identity(&self) -> String {
        if self.0.starts_with('/') {
            return format!("/{}", bare(&self.0));
        }
        if !self.0.contains("://") {
            let (host, path) = self.0.split_once(':').unwrap_or((&self.0, ""));
            let host = host.rsplit('@').next().unwrap_or(host).to_ascii_lowercase();
            return joined(&host, path);
        }
        // Every text with a scheme was read as a URL when it was taken.
        let Ok(url) = url::Url::parse(&self.0) else { return self.0.clone() };
        let Some(host) = url.host_str().filter(|_| url.scheme() != "file") else {
            return format!("/{}", bare(url.path()));
        };
        let own = match url.scheme() {
            "ssh" => Some(22),
            "git" => Some(9418),
            _ => None,
        };
        let port = url.port().filter(|port| Some(*port) != own).map(|port| format!(":{port}")).unwrap_or_default();
        joined(&format!("{}{port}", host.to_ascii_lowercase()), url.path())
    }

    /// The password or token that the URL itself carries, which logs must not show. A user's name alone is one too
    /// where it is spoken over HTTP: forges take tokens there.
    #[must_use]
    pub fn secret(&self) -> Option<String> {
        let url = url::Url::parse(&self.0).ok()?;
        let token = Some(url.username()).filter(|name| !name.is_empty() && matches!(url.scheme(), "http" | "https"));
        url.password().or(token).map(str::to_owned)
    }
}

fn joined(host: &str, path: &str) -> String {
    match bare(path) {
        "" => host.to_owned(),
        path => format!("{host}/{path}"),
    }
}

/// A path without what some write and others leave out.
fn bare(path: &str) -> &str {
    let path = path.trim_matches('/');
    path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/')
}

impl fmt::Display for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.secret(), url::Url::parse(&self.0)) {
            (Some(_), Ok(mut url)) => {
                // Neither can fail: a URL with a secret has a place for it.
                if url.password().is_some() { url.set_password(Some("***")) } else { url.set_username("***") }.ok();
                f.write_str(url.as_str())
            }
            _ => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl FromStr for RepoUrl {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        if text.starts_with('/') && text.len() <= LONGEST_URL && !text.chars().any(char::is_control) {
            // A folder's name may well hold a space.
            return Ok(Self(text.to_owned()));
        }
        plain("repository", text, LONGEST_URL)?;
        if hides_control(text) {
            return Err(InvalidSource::BadCharacter("repository"));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let known = SCHEMES.contains(&scheme) && !rest.is_empty() && !rest.starts_with('-');
            let parsed = url::Url::parse(text).is_ok_and(|url| !url.host_str().unwrap_or("").starts_with('-'));
            return if known && parsed { Ok(Self(text.to_owned())) } else { Err(InvalidSource::Scheme(shown(text))) };
        }
        // `transport::address` runs the program git-remote-transport.
        if text.contains("::") {
            return Err(InvalidSource::Scheme(shown(text)));
        }
        match text.split_once(':') {
            Some((host, path)) if scp_like(host, path) => Ok(Self(text.to_owned())),
            Some(_) => Err(InvalidSource::Scheme(shown(text))),
            None => Err(InvalidSource::RelativePath(shown(text))),
        }
    }
}

/// Whether a control character is written as `%0a`: what asks others for a password by lines would take it for one.
fn hides_control(text: &str) -> bool {
    text.split('%').skip(1).any(|code| {
        let code = code.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
        code.is_some_and(|code| code.is_ascii_control())
    })
}

fn scp_like(host: &str, path: &str) -> bool {
    let name = host.rsplit('@').next().unwrap_or(host);
    !name.is_empty() && !name.starts_with('-') && !host.contains('/') && !path.is_empty() && !path.starts_with('-')
}

fn shown(text: &str) -> String {
    text.chars().take(120).collect()
}

/// What holds for all of them: no option, no white space, no control character, an end.
fn plain(what: &'static str, text: &str, limit: usize) -> Result<(), InvalidSource> {
    if text.is_empty() {
        Err(InvalidSource::Empty(what))
    } else if text.len() > limit {
        Err(InvalidSource::TooLong { what, limit })
    } else if text.starts_with('-') {
        Err(InvalidSource::OptionLike(what))
    } else if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        Err(InvalidSource::BadCharacter(what))
    } else {
        Ok(())
    }
}

impl TryFrom<String> for RepoUrl {
    type Error = InvalidSource;
    fn try_from(text: String) -> Result<Self, InvalidSource> {
        text.parse()
    }
}

impl From<RepoUrl> for String {
    fn from(url: RepoUrl) -> Self {
        url.0
    }
}

/// The name of a branch, without `refs/heads/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(
    pattern = r"^(?![-./])(?!@$)(?!.*(\.\.|@\{|//|/\.|\.lock/))(?!.*(\.|/|\.lock)$)[^\s\x00-\x1F\x7F-\x9F~^:?*\[\\]+$",
    max_length = 255,
    examples("main")
)]
pub struct Branch(String);

impl Branch {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Branch {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        let name = text.strip_prefix("refs/heads/").unwrap_or(text);
        plain("branch", name, 255)?;
        // The rules of git-check-ref-format(1).
        let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
        let bad = name.contains("..")
            || name.contains("@{")
            || name.contains(['~', '^', ':', '?', '*', '[', '\\'])
            || name.ends_with('.')
            || name == "@"
            || name.split('/').any(bad_part);
        if bad { Err(InvalidSource::Branch(shown(name))) } else { Ok(Self(name.to_owned())) }
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Branch {
    type Error = InvalidSource;
    fn try_from(text: String) -> Result<Self, InvalidSource> {
        text.parse()
    }
}

impl From<Branch> for String {
    fn from(branch: Branch) -> Self {
        branch.0
    }
}

/// One commit, by its whole name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(pattern = "^[0-9A-Fa-f]{40}$")]
pub struct CommitId(String);

impl CommitId {
    /// All 40 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, as people read them.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl FromStr for CommitId {
    type Err = InvalidSource;
    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        if text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(InvalidSource::Commit(shown(text)))
        }
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for CommitId {
    type Error = InvalidSource;
    fn try_from(text: String) -> Result<Self, InvalidSource> {
        text.parse()
    }
}

impl From<CommitId> for String {
    fn from(commit: CommitId) -> Self {
        commit.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_that_are_taken() {
        for (text, local, name) in [
            ("https://example.org/a/b.git", false, "b"),
            ("https://example.org/a/b/", false, "b"),
            ("http://127.0.0.1:3000/x", false, "x"),
            ("ssh://git@example.org:2222/a/b", false, "b"),
            ("git://example.org/b", false, "b"),
            ("git@example.org:a/b.git", false, "b"),
            ("file:///srv/git/b.git", true, "b"),
            ("/srv/git/b", true, "b"),
            ("/home/me/My Projects/b", true, "b"),
            ("ssh://git@[::1]:2222/b", false, "b"),
            ("https://[2001:db8::1]/a/b", false, "b"),
            ("https://example.org/a%20b/%zz/100%", false, "100%"),
        ] {
            let url: RepoUrl = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((url.is_local(), url.short_name()), (local, name), "{text}");
        }
    }

    #[test]
    fn one_repository_has_one_identity() {
        for (text, expect) in [
            ("https://example.org/a/b", "example.org/a/b"),
            ("https://example.org/a/b.git", "example.org/a/b"),
            ("https://example.org/a/b.git/", "example.org/a/b"),
            ("https://me:s3cret@Example.ORG/a/b", "example.org/a/b"),
            ("http://example.org:80/a/b", "example.org/a/b"),
            ("https://example.org:443/a/b", "example.org/a/b"),
            ("https://example.org:8443/a/b", "example.org:8443/a/b"),
            ("git@example.org:a/b.git", "example.org/a/b"),
            ("git@EXAMPLE.org:/a/b/", "example.org/a/b"),
            ("example.org:a/b", "example.org/a/b"),
            ("ssh://git@Example.org/a/b.git", "example.org/a/b"),
            ("ssh://git@example.org:22/a/b", "example.org/a/b"),
            ("ssh://git@example.org:2222/a/b", "example.org:2222/a/b"),
            ("git://example.org:9418/a/b", "example.org/a/b"),
            ("https://[2001:db8::1]/a/b", "[2001:db8::1]/a/b"),
            ("https://example.org/A/b", "example.org/A/b"),
            ("https://example.org/a/b.github", "example.org/a/b.github"),
            ("https://example.org/", "example.org"),
            ("file:///srv/git/b.git", "/srv/git/b"),
            ("/srv/git/b/", "/srv/git/b"),
            ("/srv/b/.git", "/srv/b"),
        ] {
            assert_eq!(text.parse::<RepoUrl>().unwrap().identity(), expect, "{text}");
        }
    }

    #[test]
    fn repositories_that_are_refused() {
        for text in [
            "",
            "ext::sh -c id",
            "ext::sh%20-c%20id",
            "-oProxyCommand=id",
            "--upload-pack=id",
            "ssh://-oProxyCommand=id/x",
            "git@-oProxyCommand=id:x",
            "host:-x",
            "fd::17/foo",
            "ftp://example.org/x",
            "https://example.org/a\nb",
            "https://example.org/a b",
            "/srv/a\nb",
            "https://",
            "relative/path",
            "./here",
            "C:",
            "https://example.org/a\rb",
            "https://example.org/a\tb",
            "https://example.org/a\0b",
            "https://example.org/a%0ab",
            "https://example.org/a%0Db",
            "https://me%0a:x@example.org/b",
            "https://example.org/%00",
            "ssh://git@-oProxyCommand=id/x",
            "ssh://-oProxyCommand=id@example.org/x",
            "-x:y",
            "git@:x",
            "file://-x",
            "EXT::sh -c id",
            "https::https://example.org/x",
            "https://exa mple.org/x",
        ] {
            assert!(text.parse::<RepoUrl>().is_err(), "{text:?}");
        }
        assert!(format!("https://example.org/{}", "x".repeat(LONGEST_URL)).parse::<RepoUrl>().is_err());
        assert!(format!("/{}", "x".repeat(LONGEST_URL)).parse::<RepoUrl>().is_err());
    }

    #[test]
    fn a_password_is_not_shown() {
        let url: RepoUrl = "https://me:s3cret@example.org/x".parse().unwrap();
        assert_eq!(url.to_string(), "https://me:***@example.org/x");
        assert!(!format!("{url:?}").contains("s3cret"));
        assert_eq!(url.secret().as_deref(), Some("s3cret"));
        let url: RepoUrl = "https://t0ken@example.org/x".parse().unwrap();
        assert_eq!((url.to_string().as_str(), url.secret().as_deref()), ("https://***@example.org/x", Some("t0ken")));
        let url: RepoUrl = "ssh://git@example.org/x".parse().unwrap();
        assert_eq!((url.to_string().as_str(), url.secret()), ("ssh://git@example.org/x", None));
    }

    #[test]
    fn branches() {
        for good in ["main", "feature/x", "refs/heads/v1.2", "ünï"] {
            assert!(good.parse::<Branch>().is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "-x",
            "a..b",
            "a b",
            "a~1",
            "x.lock",
            "/a",
            "a//b",
            "a/.b",
            "@",
            "a@{1}",
            "x.",
            "--upload-pack=id",
            "..",
            "refs/heads/../x",
            "refs/heads/-x",
            "a\nb",
            "a\0b",
            "a\tb",
            "refs/heads/",
            "a/..",
            "a\\b",
        ] {
            assert!(bad.parse::<Branch>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(256).parse::<Branch>().is_err());
        assert_eq!("refs/heads/x".parse::<Branch>().unwrap().as_str(), "x");
    }
}
