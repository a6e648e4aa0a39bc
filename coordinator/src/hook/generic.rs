//! Anything that can send JSON, such as the hook of a bare repository: `{"branch": "main", "commit": "…"}`.

use serde::Deserialize;

use super::happened::{Push, Request, What, plain, pushed, requested};
use super::{Told, Unreadable, Verdict, identities, json};

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    ping: bool,
    #[serde(alias = "repository")]
    repo: Option<String>,
    branch: Option<String>,
    tag: Option<String>,
    /// In place of both.
    #[serde(rename = "ref")]
    reference: Option<String>,
    #[serde(alias = "after")]
    commit: Option<String>,
    before: Option<String>,
    message: Option<String>,
    author: Option<String>,
    url: Option<String>,
    default_branch: Option<String>,
    changed: Option<Vec<String>>,
    pull_request: Option<PullRequest>,
}

#[derive(Deserialize)]
struct PullRequest {
    number: Option<u64>,
    /// `opened`, `updated`, `reopened`, `closed` or `merged`.
    action: Option<String>,
    title: Option<String>,
    source: Option<String>,
    target: Option<String>,
    /// Without it nobody knows that it is none.
    fork: Option<bool>,
    /// Where its merge with the target is offered.
    merge_ref: Option<String>,
}

pub(super) fn read(body: &[u8]) -> Result<Told, Unreadable> {
    let payload: Payload = json(body)?;
    let verdict = match &payload.pull_request {
        _ if payload.ping => Verdict::Ping,
        Some(request) => pull_request(&payload, request)?,
        None => push(&payload)?,
    };
    let repositories = identities([payload.repo.as_deref()]);
    if payload.repo.is_some() && repositories.is_empty() {
        return Err(Unreadable::because("`repo` is no address of a repository"));
    }
    let default_branch = payload.default_branch.as_deref().and_then(|name| name.parse().ok());
    Ok(Told { repositories, default_branch, verdicts: vec![verdict] })
}

fn push(payload: &Payload) -> Result<Verdict, Unreadable> {
    let reference = match (&payload.reference, &payload.branch, &payload.tag) {
        (Some(reference), None, None) if reference.starts_with("refs/") => reference.clone(),
        (None, Some(branch), None) => format!("refs/heads/{}", branch.strip_prefix("refs/heads/").unwrap_or(branch)),
        (None, None, Some(tag)) => format!("refs/tags/{}", tag.strip_prefix("refs/tags/").unwrap_or(tag)),
        _ => {
            let like = r#"{"branch": "main", "commit": "…"}"#;
            return Err(Unreadable::because(format!(
                "the delivery names none or several of `branch`, `tag` and `ref`; write {like}"
            )));
        }
    };
    let changed = payload.changed.as_ref().map(|files| files.iter().map(String::as_str).collect());
    pushed(&Push {
        reference: &reference,
        before: payload.before.as_deref(),
        after: payload.commit.as_deref().ok_or_else(|| Unreadable::because("the delivery names no `commit`"))?,
        message: payload.message.as_deref(),
        author: payload.author.as_deref(),
        link: payload.url.as_deref(),
        changed,
        ..Push::default()
    })
}

fn pull_request(payload: &Payload, request: &PullRequest) -> Result<Verdict, Unreadable> {
    let number = request.number.ok_or_else(|| Unreadable::because("the pull request names no `number`"))?;
    let what = match request.action.as_deref().unwrap_or("opened") {
        "opened" | "updated" | "reopened" => What::New,
        "closed" => What::Over("closed"),
        "merged" => What::Over("merged"),
        other => What::Else(other),
    };
    let merge = request.merge_ref.clone().filter(|name| {
        name.starts_with("refs/") && plain(name, 200) == *name && name.parse::<protocol::Branch>().is_ok()
    });
    requested(&Request {
        number,
        what,
        before: None,
        title: request.title.as_deref().or(payload.message.as_deref()),
        author: payload.author.as_deref(),
        link: payload.url.as_deref(),
        head: payload.commit.as_deref().unwrap_or_default(),
        message: payload.message.as_deref(),
        source: request.source.as_deref().or(payload.branch.as_deref()),
        target: request.target.as_deref(),
        fork: request.fork.unwrap_or(true),
        merge,
    })
}
