//! Forges: the servers with the repositories, and how each is told how a commit's builds go. Only this room knows their
//! APIs. What is to be told stands in the store, and nothing waits for it.

mod answer;
mod report;
mod sender;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use buildr::process::tls;
use protocol::api::Status;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::json;
use url::Url;

pub(crate) use answer::Verdict;
pub(crate) use report::{ReportRefusal, forget, reporting, set};
pub(crate) use sender::run;

use crate::store::{Said, ToTell};

/// What requests are made with. Clones share their connections.
pub(crate) type Http = Client;

/// How long an answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// Makes what requests are made with.
///
/// # Errors
/// When this machine cannot.
pub(crate) fn http() -> Result<Http, reqwest::Error> {
    tls::install();
    Client::builder()
        .user_agent(concat!("buildr/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .timeout(ANSWER_TIME)
        .build()
}

/// Why something could not be posted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HttpError(pub(crate) String);

/// Posts JSON.
///
/// # Errors
/// When it does not arrive, or the answer is no good one. No text holds the address.
pub(crate) async fn post(
    http: &Http,
    url: &str,
    headers: &[(&'static str, String)],
    body: String,
) -> Result<(), HttpError> {
    let request = http.post(url).header("content-type", "application/json").body(body);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
    let answer = request.send().await.map_err(|error| HttpError(error.without_url().to_string()))?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(HttpError(format!("it answered {status}"))) }
}

/// What kind of server it is, as far as statuses go: servers of one kind are spoken to in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// GitHub, in the cloud or on one's own server.
    GitHub,
    /// GitLab.
    GitLab,
    /// Gitea.
    Gitea,
    /// Forgejo, which speaks as Gitea does.
    Forgejo,
    /// Bitbucket Cloud.
    Bitbucket,
}

impl Kind {
    const ALL: [Self; 5] = [Self::GitHub, Self::GitLab, Self::Gitea, Self::Forgejo, Self::Bitbucket];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Gitea => "gitea",
            Self::Forgejo => "forgejo",
            Self::Bitbucket => "bitbucket",
        }
    }

    /// The one that a host is known to be.
    pub(crate) fn of_host(host: &str) -> Option<Self> {
        match host {
            "github.com" => Some(Self::GitHub),
            "gitlab.com" => Some(Self::GitLab),
            "bitbucket.org" => Some(Self::Bitbucket),
            "codeberg.org" => Some(Self::Forgejo),
            "gitea.com" => Some(Self::Gitea),
            _ => None,
        }
    }

    /// Where the API of such a server is that has this host.
    pub(crate) fn api_at(self, host: &str) -> String {
        match self {
            Self::GitHub if host == "github.com" => "https://api.github.com".to_owned(),
            Self::GitHub => format!("https://{host}/api/v3"),
            Self::GitLab => format!("https://{host}/api/v4"),
            Self::Gitea | Self::Forgejo => format!("https://{host}/api/v1"),
            Self::Bitbucket => "https://api.bitbucket.org/2.0".to_owned(),
        }
    }

    /// The longest description that it takes, in characters.
    fn longest(self) -> usize {
        match self {
            Self::GitHub => 140,
            _ => 250,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("{text:?} is no forge that takes statuses; write one of {}", names()))
    }
}

/// The request that tells a forge one thing. None: the repository or the address is not of a kind that it has.
fn request(http: &Client, kind: Kind, to: &ToTell, token: &str, page: &str) -> Option<RequestBuilder> {
    let (_, path) = to.identity.split_once('/')?;
    let commit = to.commit.as_str();
    let mut url: Url = to.api.parse().ok()?;
    let own: Vec<&str> = path.split('/').collect();
    let segments: Vec<&str> = match kind {
        Kind::GitHub | Kind::Gitea | Kind::Forgejo => [&["repos"], own.as_slice(), &["statuses", commit]].concat(),
        // Its path is one segment, whatever groups it is in.
        Kind::GitLab => vec!["projects", path, "statuses", commit],
        Kind::Bitbucket => [&["repositories"], own.as_slice(), &["commit", commit, "statuses", "build"]].concat(),
    };
    url.path_segments_mut().ok()?.pop_if_empty().extend(segments);
    let request = http.request(Method::POST, url).json(&body(kind, &to.context, &to.said, page));
    Some(match kind {
        Kind::GitHub => request
            .bearer_auth(token)
            .header("accept", "application/vnd.github+json")
            .header("x-github-api-version", "2022-11-28"),
        Kind::GitLab => request.header("private-token", token),
        Kind::Gitea | Kind::Forgejo => request.header("authorization", format!("token {token}")),
        Kind::Bitbucket => request.bearer_auth(token),
    })
}

fn body(kind: Kind, context: &str, said: &Said, page: &str) -> serde_json::Value {
    let state = state(kind, said.status);
    let description = shortened(&said.description, kind.longest());
    match kind {
        Kind::GitHub | Kind::Gitea | Kind::Forgejo => {
            json!({"state": state, "context": context, "description": description, "target_url": page})
        }
        Kind::GitLab => json!({"state": state, "name": context, "description": description, "target_url": page}),
        Kind::Bitbucket => json!({
            "state": state, "key": key(context), "name": context, "description": description, "url": page,
        }),
    }
}

/// Where a build stands, in a forge's own words.
fn state(kind: Kind, status: Status) -> &'static str {
    use Status::{Cancelled, Cancelling, Errored, Failed, Passed, Queued, Running, Skipped};
    match (kind, status) {
        (Kind::GitHub | Kind::Gitea | Kind::Forgejo, Queued | Running | Cancelling) => "pending",
        (Kind::GitHub | Kind::Gitea | Kind::Forgejo | Kind::GitLab, Passed | Skipped) => "success",
        (Kind::GitHub | Kind::Gitea | Kind::Forgejo, Failed) => "failure",
        (Kind::GitHub | Kind::Gitea | Kind::Forgejo, Errored | Cancelled) => "error",
        (Kind::GitLab, Queued) => "pending",
        (Kind::GitLab, Running | Cancelling) => "running",
        (Kind::GitLab, Failed | Errored) => "failed",
        (Kind::GitLab, Cancelled) => "canceled",
        (Kind::Bitbucket, Queued | Running | Cancelling) => "INPROGRESS",
        (Kind::Bitbucket, Passed | Skipped) => "SUCCESSFUL",
        (Kind::Bitbucket, Failed | Errored) => "FAILED",
        (Kind::Bitbucket, Cancelled) => "STOPPED",
    }
}

/// A context as a key of Bitbucket's, which has at most 40 characters and must be the same each time.
fn key(context: &str) -> String {
    use sha2::{Digest as _, Sha256};
    if context.chars().count() <= 40 {
        return context.to_owned();
    }
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(context)[..8]);
    format!("{}-{digest}", context.chars().take(23).collect::<String>())
}

fn shortened(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
