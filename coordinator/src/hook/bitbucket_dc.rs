//! Bitbucket Data Center and Server.

use serde::Deserialize;

use super::github::or_none;
use super::happened::{Push, Request, What, pushed, requested};
use super::{Told, Unreadable, Verdict, identities, json};

#[derive(Deserialize)]
struct Payload {
    actor: Option<User>,
    repository: Option<Repository>,
    #[serde(default, deserialize_with = "or_none")]
    changes: Vec<Change>,
    #[serde(rename = "toCommit")]
    to_commit: Option<Commit>,
    #[serde(rename = "pullRequest")]
    pull_request: Option<PullRequest>,
    #[serde(rename = "previousTarget")]
    previous_target: Option<Target>,
}

#[derive(Deserialize)]
struct User {
    name: Option<String>,
    #[serde(rename = "displayName")]
    display_name: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    id: Option<u64>,
    links: Option<Links>,
}

#[derive(Deserialize)]
struct Links {
    #[serde(default, deserialize_with = "or_none")]
    clone: Vec<Link>,
    #[serde(rename = "self", default, deserialize_with = "or_none")]
    own: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    href: Option<String>,
}

#[derive(Deserialize)]
struct Change {
    #[serde(rename = "refId")]
    ref_id: Option<String>,
    #[serde(rename = "fromHash")]
    from: Option<String>,
    #[serde(rename = "toHash")]
    to: Option<String>,
    #[serde(rename = "type", default)]
    kind: String,
}

#[derive(Deserialize)]
struct Commit {
    id: Option<String>,
    message: Option<String>,
    author: Option<User>,
}

#[derive(Deserialize)]
struct PullRequest {
    id: Option<u64>,
    title: Option<String>,
    author: Option<Author>,
    links: Option<Links>,
    #[serde(rename = "fromRef")]
    from: End,
    #[serde(rename = "toRef")]
    to: End,
}

#[derive(Deserialize)]
struct Author {
    user: Option<User>,
}

#[derive(Deserialize)]
struct End {
    id: Option<String>,
    #[serde(rename = "latestCommit")]
    latest: Option<String>,
    repository: Option<Repository>,
}

#[derive(Deserialize)]
struct Target {
    id: Option<String>,
}

impl User {
    fn known_as(&self) -> Option<&str> {
        self.display_name.as_deref().or(self.name.as_deref())
    }
}

pub(super) fn read(event: &str, body: &[u8]) -> Result<Told, Unreadable> {
    let payload: Payload = json(body)?;
    let of_request = payload.pull_request.as_ref().and_then(|request| request.to.repository.as_ref());
    let repository = payload.repository.as_ref().or(of_request);
    let links = repository.and_then(|it| it.links.as_ref());
    let clones = links.iter().flat_map(|links| &links.clone).map(|link| link.href.as_deref());
    let request = |what| pull_request(&payload, what).map(|verdict| vec![verdict]);
    let verdicts = match event {
        "diagnostics:ping" => vec![Verdict::Ping],
        "repo:refs_changed" => push(&payload)?,
        "pr:opened" | "pr:from_ref_updated" => request(What::New)?,
        "pr:modified" if has_new_target(&payload) => request(What::New)?,
        "pr:merged" => request(What::Over("merged"))?,
        "pr:declined" => request(What::Over("declined"))?,
        "pr:deleted" => request(What::Over("deleted"))?,
        "pr:modified" => request(What::Else("a change of its texts"))?,
        other => vec![Verdict::Ignored(format!("event {other} builds nothing"))],
    };
    Ok(Told { repositories: identities(clones), default_branch: None, verdicts })
}

fn has_new_target(payload: &Payload) -> bool {
    let before = payload.previous_target.as_ref().and_then(|target| target.id.as_ref());
    let now = payload.pull_request.as_ref().and_then(|request| request.to.id.as_ref());
    before.is_some() && now.is_some() && before != now
}

fn push(payload: &Payload) -> Result<Vec<Verdict>, Unreadable> {
    if payload.changes.is_empty() {
        return Ok(vec![Verdict::Ignored("the push changed nothing".to_owned())]);
    }
    let changed = |change: &Change| {
        let reference = change.ref_id.as_deref().ok_or_else(|| Unreadable::because("a change names no `refId`"))?;
        if change.kind == "DELETE" {
            let what = if reference.starts_with("refs/tags/") { "tag" } else { "branch" };
            return Ok(Verdict::Ignored(format!("{what} deleted")));
        }
        let after = change.to.as_deref().unwrap_or_default();
        let head = payload.to_commit.as_ref().filter(|commit| commit.id.as_deref() == Some(after));
        let author = head.and_then(|head| head.author.as_ref()).or(payload.actor.as_ref());
        pushed(&Push {
            reference,
            before: change.from.as_deref(),
            after,
            message: head.and_then(|head| head.message.as_deref()),
            author: author.and_then(User::known_as),
            ..Push::default()
        })
    };
    payload.changes.iter().map(changed).collect()
}

fn pull_request(payload: &Payload, what: What<'_>) -> Result<Verdict, Unreadable> {
    let missing = |what: &str| Unreadable::because(format!("the pull request names no {what}"));
    let request = payload.pull_request.as_ref().ok_or_else(|| missing("`pullRequest`"))?;
    let number = request.id.ok_or_else(|| missing("`id`"))?;
    let id = |end: &End| end.repository.as_ref().and_then(|it| it.id);
    let own = id(&request.to).is_some() && id(&request.from) == id(&request.to);
    let author = request.author.as_ref().and_then(|author| author.user.as_ref()?.known_as());
    requested(&Request {
        number,
        what,
        before: None,
        title: request.title.as_deref(),
        author,
        link: request.links.as_ref().and_then(|links| links.own.first()?.href.as_deref()),
        head: request.from.latest.as_deref().unwrap_or_default(),
        message: None,
        source: request.from.id.as_deref(),
        target: request.to.id.as_deref(),
        fork: !own,
        // It is made only when somebody looks at it there, so it is often old or missing.
        merge: None,
    })
}
