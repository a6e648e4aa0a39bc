//! GitLab.

use serde::Deserialize;

use super::github::or_none;
use super::happened::{Push, Request, What, all_files, pushed, requested};
use super::{Told, Unreadable, Verdict, identities, json};

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    object_kind: String,
    project: Option<Project>,
    user_name: Option<String>,
    user: Option<User>,
    /// Of a push.
    #[serde(rename = "ref")]
    reference: Option<String>,
    before: Option<String>,
    after: Option<String>,
    checkout_sha: Option<String>,
    #[serde(default, deserialize_with = "or_none")]
    commits: Vec<Commit>,
    total_commits_count: Option<u64>,
    push_options: Option<serde_json::Value>,
    /// Of a merge request.
    object_attributes: Option<Attributes>,
    changes: Option<Changes>,
}

#[derive(Deserialize)]
struct Project {
    git_http_url: Option<String>,
    git_ssh_url: Option<String>,
    web_url: Option<String>,
    default_branch: Option<String>,
}

#[derive(Deserialize)]
struct User {
    name: Option<String>,
    username: Option<String>,
}

#[derive(Deserialize)]
struct Commit {
    id: Option<String>,
    message: Option<String>,
    url: Option<String>,
    author: Option<User>,
    #[serde(default, deserialize_with = "or_none")]
    added: Vec<String>,
    #[serde(default, deserialize_with = "or_none")]
    removed: Vec<String>,
    #[serde(default, deserialize_with = "or_none")]
    modified: Vec<String>,
}

#[derive(Deserialize)]
struct Attributes {
    iid: Option<u64>,
    action: Option<String>,
    title: Option<String>,
    url: Option<String>,
    /// Only with new commits.
    oldrev: Option<String>,
    source_branch: Option<String>,
    target_branch: Option<String>,
    source_project_id: Option<u64>,
    target_project_id: Option<u64>,
    last_commit: Option<Commit>,
}

#[derive(Deserialize)]
struct Changes {
    target_branch: Option<serde::de::IgnoredAny>,
}

pub(super) fn read(body: &[u8]) -> Result<Told, Unreadable> {
    let payload: Payload = json(body)?;
    let project = payload.project.as_ref();
    let url = |of: fn(&Project) -> &Option<String>| project.and_then(|it| of(it).as_deref());
    let verdict = match payload.object_kind.as_str() {
        "ping" => Verdict::Ping,
        "push" | "tag_push" => push(&payload)?,
        "merge_request" => merge_request(&payload)?,
        "" => return Err(Unreadable::because("the delivery has no `object_kind`")),
        other => Verdict::Ignored(format!("event {} builds nothing", super::happened::plain(other, 60))),
    };
    Ok(Told {
        repositories: identities([url(|it| &it.git_http_url), url(|it| &it.git_ssh_url), url(|it| &it.web_url)]),
        default_branch: url(|it| &it.default_branch).and_then(|name| name.parse().ok()),
        verdicts: vec![verdict],
    })
}

fn push(payload: &Payload) -> Result<Verdict, Unreadable> {
    let missing = || Unreadable::because("the push names no `ref` or no `after`");
    let reference = payload.reference.as_deref().ok_or_else(missing)?;
    let after = payload.after.as_deref().ok_or_else(missing)?;
    let skipped = payload.push_options.as_ref().and_then(|options| options.pointer("/ci/skip")).is_some();
    if skipped {
        return Ok(Verdict::Ignored("skip ci (a push option)".to_owned()));
    }
    let commit = payload.checkout_sha.as_deref();
    let id = commit.unwrap_or(after);
    let head = payload.commits.iter().find(|commit| commit.id.as_deref() == Some(id));
    let author = head.and_then(|head| head.author.as_ref()?.name.as_deref()).or(payload.user_name.as_deref());
    let files = payload.commits.iter().map(|commit| [&commit.added[..], &commit.removed, &commit.modified]);
    pushed(&Push {
        reference,
        before: payload.before.as_deref(),
        after,
        commit,
        message: head.and_then(|head| head.message.as_deref()),
        author,
        link: head.and_then(|head| head.url.as_deref()),
        changed: all_files(files, payload.total_commits_count),
    })
}

fn merge_request(payload: &Payload) -> Result<Verdict, Unreadable> {
    let missing = |what: &str| Unreadable::because(format!("the merge request names no {what}"));
    let request = payload.object_attributes.as_ref().ok_or_else(|| missing("`object_attributes`"))?;
    let number = request.iid.ok_or_else(|| missing("`iid`"))?;
    let new_target = payload.changes.as_ref().is_some_and(|changes| changes.target_branch.is_some());
    let what = match request.action.as_deref().unwrap_or_default() {
        "open" | "reopen" => What::New,
        "update" if request.oldrev.is_some() || new_target => What::New,
        "update" => What::Else("a change of its texts or labels"),
        "close" => What::Over("closed"),
        "merge" => What::Over("merged"),
        other => What::Else(other),
    };
    let last = request.last_commit.as_ref();
    let own = request.target_project_id.is_some() && request.source_project_id == request.target_project_id;
    let who = |user: &User| user.username.clone().or_else(|| user.name.clone());
    let author = payload.user.as_ref().and_then(who);
    requested(&Request {
        number,
        what,
        before: None,
        title: request.title.as_deref(),
        author: author.as_deref(),
        link: request.url.as_deref(),
        head: last.and_then(|last| last.id.as_deref()).unwrap_or_default(),
        message: last.and_then(|last| last.message.as_deref()),
        source: request.source_branch.as_deref(),
        target: request.target_branch.as_deref(),
        fork: !own,
        merge: Some(format!("refs/merge-requests/{number}/merge")),
    })
}
