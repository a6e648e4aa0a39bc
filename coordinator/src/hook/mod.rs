//! What forges send when something happens in a repository: whose it is, whether it is genuine, and what it asks for.
//! Pure: headers and bytes in, a [`Told`] out. Nobody's word counts before [`is_genuine`] said so of the raw bytes.

mod genuine;
mod happened;
mod github;
mod gitlab;
mod bitbucket;
mod bitbucket_dc;
mod generic;

use std::collections::BTreeMap;

use protocol::api::Forge;
use protocol::job::{Origin, TriggerKind};
use protocol::{Branch, CommitId, RepoUrl};
use serde::de::DeserializeOwned;

pub(crate) use genuine::is_genuine;

/// The headers of a delivery that matter, by their names in small letters.
pub(crate) type Headers = BTreeMap<String, String>;

/// The names of these. Those that prove something are kept no longer than it takes to look at them.
pub(crate) const HEADERS: [&str; 25] = [
    "authorization",
    "content-type",
    "idempotency-key",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
    "x-attempt-number",
    "x-event-key",
    "x-forgejo-delivery",
    "x-forgejo-event",
    "x-forgejo-signature",
    "x-gitea-delivery",
    "x-gitea-event",
    "x-gitea-signature",
    "x-github-delivery",
    "x-github-event",
    "x-gitlab-event",
    "x-gitlab-event-uuid",
    "x-gitlab-token",
    "x-gitlab-webhook-uuid",
    "x-hook-uuid",
    "x-hub-signature",
    "x-hub-signature-256",
    "x-request-id",
    "x-request-uuid",
];

/// Headers that are a secret themselves: never written down.
pub(crate) const SECRET_HEADERS: [&str; 2] = ["authorization", "x-gitlab-token"];

/// The most changes of one push that begin builds: of branches that are pushed together.
const MOST_CHANGES: usize = 16;

/// What a delivery tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// The identities that the repository goes by, as far as it is named.
    pub(crate) repositories: Vec<String>,
    /// The branch that its HEAD means, when that is said.
    pub(crate) default_branch: Option<Branch>,
    /// What it asks for; a push of several branches asks for several things.
    pub(crate) verdicts: Vec<Verdict>,
}

/// What a delivery asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A build.
    Build(Box<TriggerFacts>),
    /// The end of a pull request's builds.
    Cancel {
        /// Which pull request.
        pull_request: u64,
        /// Why, as a sentence.
        reason: String,
    },
    /// The same again that this commit began last: somebody asked for it at the forge.
    Again(CommitId),
    /// Nothing: the forge tries whether somebody is there.
    Ping,
    /// Nothing, and why.
    Ignored(String),
}

/// What begins a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TriggerFacts {
    /// Push, tag or pull request.
    pub(crate) kind: TriggerKind,
    /// The branch that was pushed; none for tags and pull requests.
    pub(crate) branch: Option<Branch>,
    /// The commit that was pushed, or the last one of the pull request.
    pub(crate) commit: Option<CommitId>,
    /// The rest.
    pub(crate) origin: Origin,
    /// Whether it may be no news: when the same commit of the pull request was built already, nothing is begun.
    pub(crate) unless_built: bool,
}

/// Why a genuine delivery is not understood, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreadable(String);

impl Unreadable {
    /// For this reason.
    pub(crate) fn because(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// What kind of server speaks. Forgejo sends everybody's headers, and Gitea those of GitHub: the order matters.
pub(crate) fn forge_of(headers: &Headers) -> Forge {
    let has = |name: &str| headers.contains_key(name);
    if has("x-forgejo-event") {
        Forge::Forgejo
    } else if has("x-gitea-event") {
        Forge::Gitea
    } else if has("x-github-event") {
        Forge::GitHub
    } else if has("x-gitlab-event") {
        Forge::GitLab
    } else if has("x-event-key") {
        // Only the cloud's have a hook's own name.
        let cloud = has("x-hook-uuid") || has("x-request-uuid");
        if cloud { Forge::Bitbucket } else { Forge::BitbucketDc }
    } else {
        Forge::Generic
    }
}

/// Whether a delivery that looks like one of `seen` may come to an address of `named`: a Gitea may become a Forgejo.
pub(crate) fn fits(named: Forge, seen: Forge) -> bool {
    let kin = |forge| matches!(forge, Forge::Gitea | Forge::Forgejo);
    named == seen || named == Forge::Generic || (kin(named) && kin(seen))
}

/// The forge's word for what happened.
pub(crate) fn event_of(forge: Forge, headers: &Headers) -> String {
    let name = match forge {
        Forge::GitHub => "x-github-event",
        Forge::GitLab => "x-gitlab-event",
        Forge::Gitea => "x-gitea-event",
        Forge::Forgejo => "x-forgejo-event",
        Forge::Bitbucket | Forge::BitbucketDc => "x-event-key",
        Forge::Generic => return "generic".to_owned(),
    };
    headers.get(name).map(|event| happened::plain(event, 60)).unwrap_or_default()
}

/// The forge's own name for the delivery: the same one means the same delivery.
pub(crate) fn id_of(forge: Forge, headers: &Headers) -> Option<String> {
    let names: &[&str] = match forge {
        Forge::GitHub => &["x-github-delivery"],
        Forge::GitLab => &["webhook-id", "idempotency-key", "x-gitlab-event-uuid", "x-gitlab-webhook-uuid"],
        Forge::Gitea => &["x-gitea-delivery"],
        Forge::Forgejo => &["x-forgejo-delivery", "x-gitea-delivery"],
        Forge::Bitbucket => &["x-request-uuid"],
        Forge::BitbucketDc => &["x-request-id"],
        Forge::Generic => &["webhook-id"],
    };
    let found = names.iter().find_map(|name| headers.get(*name));
    found.map(|id| happened::plain(id, 200)).filter(|id| !id.is_empty())
}

/// Whether the signature covers the bytes and not the delivery's name: then the same bytes again are a replay, whatever
/// name they come under.
pub(crate) fn is_known_by_its_bytes(forge: Forge) -> bool {
    matches!(forge, Forge::GitHub | Forge::Gitea | Forge::Forgejo | Forge::Bitbucket | Forge::BitbucketDc)
}

/// Reads a genuine delivery.
///
/// # Errors
/// When it is not what such a forge sends.
pub(crate) fn read(forge: Forge, headers: &Headers, body: &[u8]) -> Result<Told, Unreadable> {
    let event = event_of(forge, headers);
    let mut told = match forge {
        Forge::GitHub | Forge::Gitea | Forge::Forgejo => github::read(forge, &event, &unwrapped(headers, body)?),
        Forge::GitLab => gitlab::read(body),
        Forge::Bitbucket => bitbucket::read(&event, body),
        Forge::BitbucketDc => bitbucket_dc::read(&event, body),
        Forge::Generic => generic::read(body),
    }?;
    if told.verdicts.len() > MOST_CHANGES {
        let left = told.verdicts.len() - MOST_CHANGES;
        told.verdicts.truncate(MOST_CHANGES);
        told.verdicts.push(Verdict::Ignored(format!("{left} more branches and tags of the same push")));
    }
    Ok(told)
}

/// The JSON of a body that some forges send as a form.
fn unwrapped<'b>(headers: &Headers, body: &'b [u8]) -> Result<std::borrow::Cow<'b, [u8]>, Unreadable> {
    let is_form =
        headers.get("content-type").is_some_and(|kind| kind.trim().starts_with("application/x-www-form-urlencoded"));
    if !is_form {
        return Ok(body.into());
    }
    let payload = url::form_urlencoded::parse(body).find(|(name, _)| name == "payload");
    let payload = payload.ok_or_else(|| Unreadable::because("the form has no field `payload`"))?;
    Ok(payload.1.into_owned().into_bytes().into())
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(body).map_err(|error| Unreadable(format!("the delivery cannot be read: {error}")))
}

/// The identities of the addresses that a payload names; what is no address is left out.
fn identities<'t>(urls: impl IntoIterator<Item = Option<&'t str>>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for url in urls.into_iter().flatten() {
        let Ok(url) = url.parse::<RepoUrl>() else { continue };
        let identity = url.identity();
        if !found.contains(&identity) {
            found.push(identity);
        }
    }
    found
}

#[cfg(test)]
mod tests;
