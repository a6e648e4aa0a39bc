//! Which credentials are offered, in which order, each once.
//!
//! libgit2 asks its callback again and again while credentials are bad, so the end must come from here.

use std::path::PathBuf;
use std::sync::Arc;

use git2::{Cred, CredentialType, ErrorClass, ErrorCode};
use protocol::RepoUrl;
use url::Url;

use super::own::Own;

/// The private keys that ssh itself tries, best first.
const KEY_NAMES: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// Forges take this user; a URL that names another wins.
const DEFAULT_SSH_USER: &str = "git";

/// Deliberately without `Debug`.
#[derive(Clone)]
enum Credential {
    DeployKey(String),
    Token(Arc<Own>),
    SshAgent,
    SshKey(PathBuf),
    OfUrl,
    Helper,
}

/// The credentials for one repository, and how far we are through them.
pub(super) struct Credentials {
    list: Vec<Credential>,
    next: usize,
    tried: Vec<String>,
    userinfo: Option<Userinfo>,
}

/// What stands before the host in a URL. Deliberately without `Debug`.
struct Userinfo {
    host: Option<String>,
    user: String,
    password: Option<String>,
}

impl Credentials {
    /// Those for `repo`, with the ssh keys that are in `home`. Where a project has its own, its repository is opened with
    /// these alone; for what else they may open they come first.
    pub(super) fn new(repo: &RepoUrl, home: Option<PathBuf>, own: Option<Arc<Own>>) -> Self {
        let userinfo = userinfo(repo);
        let ours = own.as_deref().is_some_and(|own| own.is_of(repo));
        let own = own.and_then(|own| match own.key_for(repo) {
            Some(key) => Some(Credential::DeployKey(key.to_owned())),
            None => own.login_for(repo.reveal()).is_some().then_some(Credential::Token(own)),
        });
        if ours {
            return Self { list: own.into_iter().collect(), next: 0, tried: Vec::new(), userinfo };
        }
        let keys = home.into_iter().flat_map(|home| KEY_NAMES.map(|name| home.join(".ssh").join(name)));
        let mut list: Vec<Credential> = own.into_iter().chain([Credential::OfUrl, Credential::SshAgent]).collect();
        list.extend(keys.filter(|key| key.is_file()).map(Credential::SshKey));
        list.push(Credential::Helper);
        Self { list, next: 0, tried: Vec::new(), userinfo }
    }

    /// None at all.
    pub(super) fn none() -> Self {
        Self { list: Vec::new(), next: 0, tried: Vec::new(), userinfo: None }
    }

    /// Answers libgit2's question: the next credential of a kind that the server takes.
    pub(super) fn next(&mut self, url: &str, user: Option<&str>, allowed: CredentialType) -> Result<Cred, git2::Error> {
        let user = user.map(str::to_owned).or_else(|| self.userinfo.as_ref().map(|i| i.user.clone()));
        if allowed == CredentialType::USERNAME {
            return Cred::username(user.as_deref().unwrap_or(DEFAULT_SSH_USER));
        }
        while let Some(credential) = self.list.get(self.next).cloned() {
            self.next += 1;
            if let Some((name, made)) = self.make(&credential, url, user.as_deref(), allowed) {
                self.tried.push(name);
                // One that cannot even be made (an agent that is not there) is tried and over.
                if let Ok(cred) = made {
                    return Ok(cred);
                }
            }
        }
        Err(git2::Error::new(ErrorCode::Auth, ErrorClass::Callback, "no more credentials to try"))
    }

    /// How many were offered so far.
    pub(super) fn offered(&self) -> usize {
        self.tried.len()
    }

    /// The last one opened the door: a later connection begins with it.
    pub(super) fn succeeded(&mut self) {
        self.next = self.next.saturating_sub(1);
        self.tried.pop();
    }

    /// For an error's text: what was offered, never the secret itself.
    pub(super) fn tried(&self) -> String {
        if self.tried.is_empty() { "none".to_owned() } else { self.tried.join(", ") }
    }

    /// The credential with its name for people, or nothing when it is not of a kind that fits.
    fn make(
        &self,
        credential: &Credential,
        url: &str,
        user: Option<&str>,
        allowed: CredentialType,
    ) -> Option<(String, Result<Cred, git2::Error>)> {
        let ssh = allowed.contains(CredentialType::SSH_KEY);
        let password = allowed.contains(CredentialType::USER_PASS_PLAINTEXT);
        let ssh_user = user.unwrap_or(DEFAULT_SSH_USER);
        match credential {
            Credential::DeployKey(key) if ssh => {
                let made = Cred::ssh_key_from_memory(ssh_user, None, key, None);
                Some(("the project's deploy key".into(), made))
            }
            Credential::Token(own) if password => {
                // A redirect to another server must not carry it there.
                let (user, token) = own.login_for(url)?;
                Some(("the project's token".into(), Cred::userpass_plaintext(user, token)))
            }
            Credential::SshAgent if ssh => Some(("the ssh agent".into(), Cred::ssh_key_from_agent(ssh_user))),
            Credential::SshKey(key) if ssh => {
                Some((key.display().to_string(), Cred::ssh_key(ssh_user, None, key, None)))
            }
            Credential::OfUrl if password => {
                let info = self.userinfo.as_ref()?;
                let over_ssh = ssh && info.password.is_none();
                // A redirect to another host must not carry the password there.
                if over_ssh || host_of(url) != info.host {
                    return None;
                }
                let made = Cred::userpass_plaintext(&info.user, info.password.as_deref().unwrap_or(""));
                Some(("the user and password of the URL".into(), made))
            }
            Credential::Helper if password && url.starts_with("http") => {
                let made = git2::Config::open_default().and_then(|config| Cred::credential_helper(&config, url, user));
                Some(("git's credential helper".into(), made))
            }
            _ => None,
        }
    }
}

/// The URL that may be shown, written to a config, and hashed: over http without user and password (a token often
/// stands in the user's place), over ssh with the user alone.
pub(super) fn public_url(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return text.to_owned() };
    let secret_user = matches!(url.scheme(), "http" | "https") && !url.username().is_empty();
    if url.password().is_none() && !secret_user {
        // As it was written: the url crate would tidy it.
        return text.to_owned();
    }
    // These fail only for URLs without a host, which have no user either.
    url.set_password(None).ok();
    if matches!(url.scheme(), "http" | "https") {
        url.set_username("").ok();
    }
    url.into()
}

/// The user and the password that the URL itself carries; either may be empty.
pub(super) fn user_and_password(repo: &RepoUrl) -> Option<(String, String)> {
    let found = userinfo(repo)?;
    Some((found.user, found.password.unwrap_or_default()))
}

fn userinfo(repo: &RepoUrl) -> Option<Userinfo> {
    if let Ok(url) = Url::parse(repo.reveal()) {
        let known = !url.username().is_empty() || url.password().is_some();
        return known.then(|| Userinfo {
            host: url.host_str().map(str::to_owned),
            user: percent_decoded(url.username()),
            password: url.password().map(percent_decoded),
        });
    }
    let (user, _) = repo.reveal().split_once(':')?.0.rsplit_once('@')?;
    Some(Userinfo { host: None, user: user.to_owned(), password: None })
}

fn host_of(url: &str) -> Option<String> {
    Url::parse(url).ok()?.host_str().map(str::to_owned)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use protocol::RepoCredentials;

    use super::*;

    #[test]
    fn urls_are_shown_without_their_secrets() {
        let check = |text: &str, expect: &str| {
            let repo: RepoUrl = text.parse().unwrap();
            assert_eq!(public_url(repo.reveal()), expect);
        };
        check("https://me:s3cret@example.org/x.git", "https://example.org/x.git");
        check("https://ghp_token@example.org/x.git", "https://example.org/x.git");
        check("https://example.org:8443/x.git", "https://example.org:8443/x.git");
        check("ssh://git:pw@example.org/x", "ssh://git@example.org/x");
        check("ssh://git@example.org:2222/x", "ssh://git@example.org:2222/x");
        check("git@example.org:team/x.git", "git@example.org:team/x.git");
        check("/srv/git/x", "/srv/git/x");
    }

    #[test]
    fn each_credential_is_offered_once_and_the_end_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        std::fs::write(home.path().join(".ssh/id_rsa"), "key").unwrap();
        let repo: RepoUrl = "git@example.org:x".parse().unwrap();
        let mut credentials = Credentials::new(&repo, Some(home.path().to_owned()), None);
        let allowed = CredentialType::SSH_KEY | CredentialType::USER_PASS_PLAINTEXT;
        for _ in 0..2 {
            assert!(credentials.next("git@example.org:x", Some("git"), allowed).is_ok());
        }
        let end = credentials.next("git@example.org:x", Some("git"), allowed);
        assert_eq!(end.err().map(|e| e.code()), Some(ErrorCode::Auth));
        assert!(credentials.tried().starts_with("the ssh agent, "), "{}", credentials.tried());
        assert!(credentials.tried().ends_with("id_rsa"), "{}", credentials.tried());
    }

    #[test]
    fn the_urls_password_goes_to_its_own_host_alone() {
        let repo: RepoUrl = "https://me:p%40ss@example.org/x".parse().unwrap();
        let offered = |url: &str| {
            let credentials = Credentials::new(&repo, None, None);
            credentials.make(&Credential::OfUrl, url, None, CredentialType::USER_PASS_PLAINTEXT).is_some()
        };
        assert!(offered("https://example.org/x"));
        assert!(!offered("https://evil.example/x"));
        assert_eq!(userinfo(&repo).unwrap().password.as_deref(), Some("p@ss"));
    }

    #[test]
    fn a_projects_own_come_alone_for_its_repository_and_first_elsewhere() {
        let url = |text: &str| text.parse::<RepoUrl>().unwrap();
        let offered = |own: &Arc<Own>, text: &str, allowed: CredentialType| {
            let mut credentials = Credentials::new(&url(text), None, Some(Arc::clone(own)));
            while credentials.next(text, Some("git"), allowed).is_ok() {}
            credentials.tried()
        };
        let (ssh, password) = (CredentialType::SSH_KEY, CredentialType::USER_PASS_PLAINTEXT);
        let key = RepoCredentials::DeployKey { key: "k".to_owned() };
        let key = Arc::new(Own::new(url("git@example.org:a/b.git"), key));
        assert_eq!(offered(&key, "git@example.org:a/b.git", ssh), "the project's deploy key");
        assert_eq!(offered(&key, "git@example.org:a/c.git", ssh), "the ssh agent", "it opens one repository");
        assert!(!offered(&key, "https://example.org/a/c", password).contains("project"));
        let token = RepoCredentials::Token { user: "me".to_owned(), token: "t".to_owned() };
        let token = Arc::new(Own::new(url("https://example.org/a/b"), token));
        assert_eq!(offered(&token, "https://example.org/a/b", password), "the project's token");
        assert!(offered(&token, "https://example.org/a/c", password).starts_with("the project's token"));
        assert!(!offered(&token, "https://example.com/a/b", password).contains("project"));
        assert!(!offered(&token, "git@example.org:a/c.git", ssh).contains("project"));
        // A server that sends us elsewhere learns nothing there.
        let mut led = Credentials::new(&url("https://example.org/a/b"), None, Some(token));
        assert!(led.next("https://evil.example/a/b", None, password).is_err());
    }
}
