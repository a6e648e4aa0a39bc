//! Bitbucket Cloud. It says no more than the beginning of a pull request's commit, and offers neither its merge nor the
//! code of another repository's pull request in the repository itself.

use serde::Deserialize;

use super::happened::{Push, Request, What, pushed, requested};
use super::{Told, Unreadable, Verdict, identities, json};

#[derive(Deserialize)]
struct Payload {
    repository: Option<Repository>,
    push: Option<Pushed>,
    pullrequest: Option<PullRequest>,
    actor: Option<User>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: Option<String>,
    uuid: Option<String>,
    links: Option<Links>,
    mainbranch: Option<Named>,
}

#[derive(Deserialize)]
struct Links {
    html: Option<Link>,
}

#[derive(Deserialize)]
struct Link {
    href: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

#[derive(Deserialize)]
struct User {
    display_name: Option<String>,
    nickname: Option<String>,
}

#[derive(Deserialize)]
struct Pushed {
    #[serde(default)]
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    new: Option<Ref>,
    old: Option<Ref>,
}

#[derive(Deserialize)]
struct Ref {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    name: String,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    hash: Option<String>,
    message: Option<String>,
    author: Option<Author>,
    links: Option<Links>,
}

#[derive(Deserialize)]
struct Author {
    raw: Option<String>,
    user: Option<User>,
}

#[derive(Deserialize)]
struct PullRequest {
    id: Option<u64>,
    title: Option<String>,
    author: Option<User>,
    links: Option<Links>,
    source: End,
    destination: End,
}

#[derive(Deserialize)]
struct End {
    branch: Option<Named>,
    commit: Option<Hash>,
    /// None when the fork is gone.
    repository: Option<Repository>,
}

#[derive(Deserialize)]
struct Hash {
    hash: Option<String>,
}

fn page(links: Option<&Links>) -> Option<&str> {
    links?.html.as_ref()?.href.as_deref()
}

impl User {
    fn known_as(&self) -> Option<&str> {
        self.nickname.as_deref().or(self.display_name.as_deref())
    }
}

pub(super) fn read(event: &str, body: &[u8]) -> Result<Told, Unreadable> {
    let payload: Payload = json(body)?;
    let repository = payload.repository.as_ref();
    let named = repository.and_then(|it| it.full_name.as_ref()).map(|name| format!("https://bitbucket.org/{name}"));
    let html = repository.and_then(|it| page(it.links.as_ref()));
    let main = repository.and_then(|it| it.mainbranch.as_ref()?.name.as_deref());
    let over = |how| pull_request(&payload, What::Over(how)).map(|verdict| vec![verdict]);
    let verdicts = match event {
        "diagnostics:ping" => vec![Verdict::Ping],
        "repo:push" => push(&payload)?,
        "pullrequest:created" => vec![pull_request(&payload, What::New)?],
        // It comes for new commits and for new titles alike.
        "pullrequest:updated" => vec![pull_request(&payload, What::Perhaps)?],
        "pullrequest:fulfilled" => over("merged")?,
        "pullrequest:rejected" => over("declined")?,
        other => vec![Verdict::Ignored(format!("event {other} builds nothing"))],
    };
    let repositories = identities([named.as_deref(), html]);
    Ok(Told { repositories, default_branch: main.and_then(|name| name.parse().ok()), verdicts })
}

fn push(payload: &Payload) -> Result<Vec<Verdict>, Unreadable> {
    let pushed = payload.push.as_ref().ok_or_else(|| Unreadable::because("the delivery has no `push`"))?;
    if pushed.changes.is_empty() {
        return Ok(vec![Verdict::Ignored("the push changed nothing".to_owned())]);
    }
    pushed.changes.iter().map(|change| changed(change, payload.actor.as_ref())).collect()
}

fn changed(change: &Change, actor: Option<&User>) -> Result<Verdict, Unreadable> {
    let Some(new) = &change.new else {
        let what = change.old.as_ref().map_or("branch", |old| if old.kind == "tag" { "tag" } else { "branch" });
        return Ok(Verdict::Ignored(format!("{what} deleted")));
    };
    let place = match new.kind.as_str() {
        "branch" | "named_branch" => "refs/heads",
        "tag" | "annotated_tag" => "refs/tags",
        other => {
            return Ok(Verdict::Ignored(format!(
                "a {} is neither a branch nor a tag",
                super::happened::plain(other, 40)
            )));
        }
    };
    let target = new.target.as_ref();
    let old = change.old.as_ref().and_then(|old| old.target.as_ref()?.hash.as_deref());
    let author = target.and_then(|target| target.author.as_ref());
    // `Ada <ada@example.org>`
    let raw = author.and_then(|author| author.raw.as_deref()?.split('<').next());
    let user = author.and_then(|author| author.user.as_ref()?.display_name.as_deref());
    pushed(&Push {
        reference: &format!("{place}/{}", new.name),
        before: old,
        after: target.and_then(|target| target.hash.as_deref()).unwrap_or_default(),
        message: target.and_then(|target| target.message.as_deref()),
        author: user.or(raw).or_else(|| actor.and_then(User::known_as)),
        link: target.and_then(|target| page(target.links.as_ref())),
        ..Push::default()
    })
}

fn pull_request(payload: &Payload, what: What<'_>) -> Result<Verdict, Unreadable> {
    let missing = |what: &str| Unreadable::because(format!("the pull request names no {what}"));
    let request = payload.pullrequest.as_ref().ok_or_else(|| missing("`pullrequest`"))?;
    let number = request.id.ok_or_else(|| missing("`id`"))?;
    let uuid = |end: &End| end.repository.as_ref().and_then(|it| it.uuid.clone().or_else(|| it.full_name.clone()));
    let own = uuid(&request.destination).is_some() && uuid(&request.source) == uuid(&request.destination);
    if !own && matches!(what, What::New | What::Perhaps) {
        let why = "Bitbucket Cloud does not offer its code in the repository itself";
        return Ok(Verdict::Ignored(format!("pull request #{number} comes from another repository, and {why}")));
    }
    let branch = |end: &'_ End| end.branch.as_ref().and_then(|branch| branch.name.clone());
    let (source, target) = (branch(&request.source), branch(&request.destination));
    requested(&Request {
        number,
        what,
        before: None,
        title: request.title.as_deref(),
        author: request.author.as_ref().and_then(User::known_as),
        link: page(request.links.as_ref()),
        head: request.source.commit.as_ref().and_then(|commit| commit.hash.as_deref()).unwrap_or_default(),
        message: None,
        source: source.as_deref(),
        target: target.as_deref(),
        fork: !own,
        merge: None,
    })
}
