//! GitHub, and those that speak like it: Gitea and Forgejo.

use protocol::api::Forge;
use serde::Deserialize;

use super::happened::{Push, Request, What, all_files, pushed, requested};
use super::{Told, Unreadable, Verdict, identities, json};

#[derive(Deserialize)]
struct Payload {
    repository: Option<Repository>,
    /// Of a push.
    #[serde(rename = "ref")]
    reference: Option<String>,
    before: Option<String>,
    after: Option<String>,
    #[serde(default)]
    forced: bool,
    #[serde(alias = "compare_url")]
    compare: Option<String>,
    #[serde(default, deserialize_with = "super::github::or_none")]
    commits: Vec<Commit>,
    total_commits: Option<u64>,
    head_commit: Option<Commit>,
    pusher: Option<User>,
    /// Of a pull request.
    action: Option<String>,
    number: Option<u64>,
    pull_request: Option<PullRequest>,
    changes: Option<Changes>,
    /// What was built before.
    #[serde(alias = "check_run")]
    check_suite: Option<Checked>,
}

#[derive(Deserialize)]
struct Checked {
    head_sha: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    id: Option<u64>,
    clone_url: Option<String>,
    ssh_url: Option<String>,
    html_url: Option<String>,
    default_branch: Option<String>,
}

#[derive(Deserialize)]
struct Commit {
    id: Option<String>,
    message: Option<String>,
    url: Option<String>,
    author: Option<User>,
    #[serde(default, deserialize_with = "super::github::or_none")]
    added: Vec<String>,
    #[serde(default, deserialize_with = "super::github::or_none")]
    removed: Vec<String>,
    #[serde(default, deserialize_with = "super::github::or_none")]
    modified: Vec<String>,
}

#[derive(Deserialize)]
struct User {
    name: Option<String>,
    login: Option<String>,
    full_name: Option<String>,
}

impl User {
    fn known_as(&self) -> Option<&str> {
        [&self.name, &self.full_name, &self.login].into_iter().flatten().map(String::as_str).find(|it| !it.is_empty())
    }
}

#[derive(Deserialize)]
struct PullRequest {
    number: Option<u64>,
    title: Option<String>,
    html_url: Option<String>,
    #[serde(default)]
    merged: Option<bool>,
    user: Option<User>,
    head: End,
    base: End,
}

#[derive(Deserialize)]
struct End {
    #[serde(rename = "ref")]
    reference: Option<String>,
    sha: Option<String>,
    /// None when the fork is gone.
    repo: Option<Repository>,
}

#[derive(Deserialize)]
struct Changes {
    base: Option<serde::de::IgnoredAny>,
    #[serde(rename = "ref")]
    reference: Option<serde::de::IgnoredAny>,
}

/// A list that some servers send as null.
pub(super) fn or_none<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

pub(super) fn read(forge: Forge, event: &str, body: &[u8]) -> Result<Told, Unreadable> {
    let payload: Payload = json(body)?;
    let repository = payload.repository.as_ref();
    let url = |of: fn(&Repository) -> &Option<String>| repository.and_then(|it| of(it).as_deref());
    let told = |verdict| Told {
        repositories: identities([url(|it| &it.clone_url), url(|it| &it.ssh_url), url(|it| &it.html_url)]),
        default_branch: url(|it| &it.default_branch).and_then(|name| name.parse().ok()),
        verdicts: vec![verdict],
    };
    let verdict = match event {
        "ping" => Verdict::Ping,
        "push" => push(&payload)?,
        "pull_request" | "pull_request_sync" => pull_request(forge, &payload)?,
        "check_suite" | "check_run" if payload.action.as_deref() == Some("rerequested") => again(&payload)?,
        "delete" => Verdict::Ignored("branch or tag deleted".to_owned()),
        // Its push comes too, and says more.
        "create" => Verdict::Ignored("a branch or tag was made; its push is what counts".to_owned()),
        other => Verdict::Ignored(format!("event {other} builds nothing")),
    };
    Ok(told(verdict))
}

fn push(payload: &Payload) -> Result<Verdict, Unreadable> {
    let missing = || Unreadable::because("the push names no `ref` or no `after`");
    let reference = payload.reference.as_deref().ok_or_else(missing)?;
    let after = payload.after.as_deref().ok_or_else(missing)?;
    // Some servers leave the head out, and have it among the others.
    let of_list = payload.commits.iter().find(|commit| commit.id.as_deref() == Some(after));
    let head = payload.head_commit.as_ref().or(of_list);
    let author = head.and_then(|head| head.author.as_ref()).or(payload.pusher.as_ref());
    let files = payload.commits.iter().map(|commit| [&commit.added[..], &commit.removed, &commit.modified]);
    pushed(&Push {
        reference,
        before: payload.before.as_deref(),
        after,
        commit: head.and_then(|head| head.id.as_deref()),
        message: head.and_then(|head| head.message.as_deref()),
        author: author.and_then(User::known_as),
        link: head.and_then(|head| head.url.as_deref()).or(payload.compare.as_deref()),
        changed: all_files(files, payload.total_commits).filter(|_| !payload.forced),
    })
}

fn pull_request(forge: Forge, payload: &Payload) -> Result<Verdict, Unreadable> {
    let missing = |what: &str| Unreadable::because(format!("the pull request names no {what}"));
    let request = payload.pull_request.as_ref().ok_or_else(|| missing("`pull_request`"))?;
    let number = payload.number.or(request.number).ok_or_else(|| missing("`number`"))?;
    let action = payload.action.as_deref().unwrap_or_default();
    let new_target = payload.changes.as_ref().is_some_and(|changes| {
        // GitHub's word for it, and Gitea's.
        changes.base.is_some() || changes.reference.is_some()
    });
    let what = match action {
        "opened" | "reopened" | "synchronize" | "synchronized" => What::New,
        "edited" if new_target => What::New,
        "closed" if request.merged == Some(true) => What::Over("merged"),
        "closed" => What::Over("closed"),
        other => What::Else(other),
    };
    let id = |end: &End| end.repo.as_ref().and_then(|repo| repo.id);
    let source = request.head.reference.as_deref().and_then(|name| branch_of(forge, name));
    // What has no branch lies in the repository all the same, and may be of anybody who can read it (`refs/for/…`).
    let own = id(&request.base).is_some() && id(&request.head) == id(&request.base) && source.is_some();
    requested(&Request {
        number,
        what,
        before: payload.before.as_deref(),
        title: request.title.as_deref(),
        author: request.user.as_ref().and_then(|user| user.login.as_deref().or(user.known_as())),
        link: request.html_url.as_deref(),
        head: request.head.sha.as_deref().ok_or_else(|| missing("last commit"))?,
        message: None,
        source,
        target: request.base.reference.as_deref(),
        fork: !own,
        merge: Some(format!("refs/pull/{number}/merge")),
    })
}

fn again(payload: &Payload) -> Result<Verdict, Unreadable> {
    let commit = payload.check_suite.as_ref().and_then(|checked| checked.head_sha.as_ref()?.parse().ok());
    commit.map(Verdict::Again).ok_or_else(|| Unreadable::because("what is to be built again names no `head_sha`"))
}

/// A pull request without a branch of its own comes from a ref.
fn branch_of(forge: Forge, name: &str) -> Option<&str> {
    let no_branch = forge != Forge::GitHub && name.starts_with("refs/");
    (!no_branch).then_some(name)
}
