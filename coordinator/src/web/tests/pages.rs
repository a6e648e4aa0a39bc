//! What people do on pages, and who is shown the forms for it.

use protocol::BuildNumber;
use protocol::api::{AddedProject, Role};
use protocol::outcome::Ending;
use tempfile::tempdir;

use super::*;
use crate::store::{NewDelivery, Scheduled, SealedFor, Stored};
use crate::testing::Farm;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// A browser that signed in.
struct Person {
    headers: String,
    csrf: String,
}

impl Person {
    async fn with(farm: &Farm, token: &str) -> Self {
        let (status, head, _) = ask(farm, "POST /sign-in", FORM, &format!("token={token}")).await;
        assert_eq!(status, 303, "{head}");
        let cookie = cookie_of(&head);
        let csrf = access::csrf_of(cookie.split_once('=').unwrap().1);
        Self { headers: format!("Cookie: {cookie}\r\n"), csrf }
    }

    /// One with a token of this role.
    async fn who_is(farm: &Farm, folder: &TempDir, role: Role) -> Self {
        let body = format!(r#"{{"name": "{role}", "role": "{role}"}}"#);
        let (_, _, answer) = ask(farm, "POST /api/v1/tokens", &writer(folder), &body).await;
        let made: MadeToken = serde_json::from_str(&answer).unwrap();
        Self::with(farm, &made.token).await
    }

    async fn look(&self, farm: &Farm, path: &str) -> String {
        let (status, _, page) = ask(farm, &format!("GET {path}"), &self.headers, "").await;
        assert_eq!(status, 200, "{path}: {page}");
        page
    }

    /// Sends a form, and gives the status, where it leads, and what is said.
    async fn send(&self, farm: &Farm, path: &str, form: &str) -> (u16, String, String) {
        let body = format!("csrf={}&{form}", self.csrf);
        let (status, head, page) = ask(farm, &format!("POST {path}"), &format!("{}{FORM}", self.headers), &body).await;
        let to = head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap_or_default();
        (status, to.to_owned(), page)
    }
}

async fn look(farm: &Farm, path: &str) -> String {
    let (status, head, page) = ask(farm, &format!("GET {path}"), "", "").await;
    assert_eq!(status, 200, "{path}: {page}");
    assert!(head.contains("default-src 'none'"), "{head}");
    assert!(!page.contains(" style=") && !page.contains("<style") && !page.contains(" onclick"), "only files: {path}");
    page
}

#[tokio::test]
async fn a_list_of_builds_stays_true_as_long_as_one_of_them_can_change() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    // A form that was left empty narrows nothing, on the page and in what keeps it true.
    let empty = look(&farm, "/?status=&repo=&branch=+&before=").await;
    assert!(empty.contains("buildr run") && empty.contains("data-live=\"/live/home\""), "{empty}");
    for _ in 0..2 {
        farm.submit().await;
    }
    let older = look(&farm, "/?before=2&status=queued").await;
    assert!(older.contains("data-live=\"/live/home?status=queued&amp;before=2\""), "{older}");
    assert!(older.contains("href=\"/?status=queued\""), "{older}");
    let agent = farm.agent("a1").await;
    let (claimed, _) = agent.work(&farm).await;
    agent.finish(claimed.claim, Ending::passed()).await;
    farm.until_status(BuildNumber(1), "passed").await;
    assert!(!look(&farm, "/?before=2").await.contains("data-live"));
    assert!(look(&farm, "/").await.contains("data-live=\"/live/home\""));
    farm.stop().await;
}

#[tokio::test]
async fn a_build_is_done_again_from_its_page() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    farm.submit().await;
    let developer = Person::who_is(&farm, &folder, Role::Developer).await;
    let viewer = Person::who_is(&farm, &folder, Role::Viewer).await;
    let form = "action=\"/builds/1/restart\"";
    assert!(!developer.look(&farm, "/builds/1").await.contains(form), "it is not over");
    let (status, _, page) = developer.send(&farm, "/builds/1/restart", "").await;
    assert!(status == 409 && page.contains("is not over"), "{status} {page}");
    let (claimed, _) = agent.work(&farm).await;
    agent.finish(claimed.claim, Ending::passed()).await;
    farm.until_status(BuildNumber(1), "passed").await;

    let stranger = look(&farm, "/builds/1").await;
    assert!(!stranger.contains(form) && stranger.contains("<code>buildr restart 1</code>"), "{stranger}");
    assert!(stranger.contains("buildr repro "), "{stranger}");
    assert!(!viewer.look(&farm, "/builds/1").await.contains(form));
    assert_eq!(viewer.send(&farm, "/builds/1/restart", "").await.0, 403);
    let page = developer.look(&farm, "/builds/1").await;
    assert!(page.contains(form) && page.contains("data-restart") && !page.contains("Restart what failed"), "{page}");
    let without = format!("{}{FORM}", developer.headers);
    assert_eq!(ask(&farm, "POST /builds/1/restart", &without, "csrf=x").await.0, 403);
    assert_eq!(ask(&farm, "POST /builds/1/restart", FORM, "").await.0, 401);
    let (status, _, page) = developer.send(&farm, "/builds/1/restart", "failed=true").await;
    assert!(status == 409 && page.contains("nothing of it failed"), "{status} {page}");

    let (status, to, _) = developer.send(&farm, "/builds/1/restart", "").await;
    assert_eq!((status, to.as_str()), (303, "/builds/2"));
    assert!(look(&farm, "/builds/2").await.contains("restart of <a href=\"/builds/1\">#1</a>"));
    assert!(look(&farm, "/builds/1").await.contains("done again in <a href=\"/builds/2\">#2</a>"));
    // Cancelled before it began: it can be done again, also what of it did not pass.
    assert_eq!(developer.send(&farm, "/builds/2/cancel", "").await.0, 303);
    farm.until_status(BuildNumber(2), "cancelled").await;
    assert!(developer.look(&farm, "/builds/2").await.contains("Restart what failed"));
    assert_eq!(developer.send(&farm, "/builds/2/restart", "failed=true").await.1, "/builds/3");
    farm.stop().await;
}

async fn project(farm: &Farm, folder: &TempDir) -> AddedProject {
    let body = r#"{"url": "https://me:pw@github.com/a/b", "secret": "sixteen letters!"}"#;
    let (status, _, answer) = ask(farm, "POST /api/v1/projects", &writer(folder), body).await;
    assert_eq!(status, 201, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

async fn delivered(farm: &Farm, event: &str, verdict: &str, body: &[u8]) -> u64 {
    let new = NewDelivery {
        project: "github.com/a/b".to_owned(),
        forge: protocol::api::Forge::GitHub,
        event: event.to_owned(),
        headers: std::collections::BTreeMap::new(),
        body: body.to_vec(),
        forge_id: None,
        marks: Vec::new(),
        redelivers: None,
        verdict: Some(verdict.to_owned()),
    };
    let mut tx = farm.desk.store.write().await.unwrap();
    let Stored::New(number) = tx.keep_delivery(&new, 1000).await.unwrap() else { panic!("it is new") };
    tx.commit().await.unwrap();
    number
}

#[tokio::test]
async fn what_forges_delivered_is_read_and_delivered_once_more() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    assert!(look(&farm, "/deliveries").await.contains("buildr project add URL"));
    project(&farm, &folder).await;
    let hostile = "<script>alert(1)</script>";
    let first = delivered(&farm, hostile, &format!("ignored: \"><b>{hostile}"), b"{}").await;
    let gone = delivered(&farm, "push", "refused: signature", b"").await;
    let maintainer = Person::who_is(&farm, &folder, Role::Maintainer).await;
    let developer = Person::who_is(&farm, &folder, Role::Developer).await;

    let page = look(&farm, "/deliveries").await;
    assert!(!page.contains("<script>alert") && !page.contains("<b>"), "{page}");
    assert!(page.contains("alert(1)") && page.contains("not signed with the project"), "{page}");
    assert!(page.find(&format!("delivery-{gone}\"")) < page.find(&format!("delivery-{first}\"")), "the newest first");
    assert!(page.contains("href=\"/projects/github.com/a/b\"") && !page.contains("/redeliver"), "{page}");
    assert!(!developer.look(&farm, "/deliveries").await.contains("/redeliver"));
    let (redeliver, of_gone) = (format!("/deliveries/{first}/redeliver"), format!("/deliveries/{gone}/redeliver"));
    let page = maintainer.look(&farm, "/deliveries").await;
    assert!(page.contains(&redeliver) && !page.contains(&of_gone), "{page}");
    assert_eq!(developer.send(&farm, &redeliver, "").await.0, 403);
    let without = format!("{}{FORM}", maintainer.headers);
    assert_eq!(ask(&farm, &format!("POST {redeliver}"), &without, "").await.0, 403);
    assert_eq!(maintainer.send(&farm, &of_gone, "").await.0, 409);
    let (status, to, _) = maintainer.send(&farm, &redeliver, "").await;
    assert_eq!((status, to.as_str()), (303, "/deliveries"));
    assert!(look(&farm, "/deliveries").await.contains(&format!("once more {first}<")));

    for _ in 0..50 {
        delivered(&farm, "push", "ignored: a branch was deleted", b"").await;
    }
    let page = look(&farm, "/deliveries?project=github.com%2Fa%2Fb").await;
    let older = page
        .split("rel=\"next\" href=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .replace("&#38;", "&")
        .replace("&amp;", "&");
    let page = look(&farm, &older).await;
    assert!(page.contains(&format!("delivery-{first}\"")) && !page.contains("rel=\"next\""), "{older}: {page}");
    farm.stop().await;
}

#[tokio::test]
async fn a_project_is_shown_and_changed() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    assert!(look(&farm, "/projects").await.contains("buildr project add URL"));
    let AddedProject { project, secret } = project(&farm, &folder).await;
    let submitted = r#"{"repo": "https://me:pw@github.com/a/b"}"#;
    assert_eq!(ask(&farm, "POST /api/v1/builds", &writer(&folder), submitted).await.0, 201);
    delivered(&farm, "push", "ignored: <i>x", b"{}").await;
    let maintainer = Person::who_is(&farm, &folder, Role::Maintainer).await;
    let developer = Person::who_is(&farm, &folder, Role::Developer).await;

    let list = look(&farm, "/projects").await;
    assert!(list.contains("href=\"/projects/github.com/a/b\"") && list.contains("href=\"/builds/1\""), "{list}");
    // Its newest build, whichever way led to it.
    let submitted = r#"{"repo": "git@GitHub.com:a/b.git"}"#;
    assert_eq!(ask(&farm, "POST /api/v1/builds", &writer(&folder), submitted).await.0, 201);
    for path in ["/projects", "/projects/github.com/a/b"] {
        assert!(look(&farm, path).await.contains("href=\"/builds/2\""), "{path}");
    }
    let (_, _, answer) = ask(&farm, "GET /api/v1/builds?repo=ssh%3A%2F%2Fgit%40github.com%2Fa%2Fb", "", "").await;
    let builds: Builds = serde_json::from_str(&answer).unwrap();
    assert_eq!(builds.builds.iter().map(|build| build.number.0).collect::<Vec<_>>(), [2, 1]);
    let form = "action=\"/projects/github.com/a/b/change\"";
    for page in [look(&farm, "/projects/github.com%2Fa%2Fb").await, look(&farm, "/projects/github.com/a/b").await] {
        assert!(page.contains(&project.hook_url) && page.contains("i&") && !page.contains("<i>"), "{page}");
        assert!(!page.contains(&secret) && !page.contains("pw@") && !page.contains(form), "{page}");
    }
    assert!(!developer.look(&farm, "/projects/github.com/a/b").await.contains(form));
    let page = maintainer.look(&farm, "/projects/github.com/a/b").await;
    assert!(page.contains(form) && !page.contains(&secret), "{page}");
    let change = "/projects/github.com/a/b/change";
    let asked = "default_branch=next&trusted=no&approval=all";
    assert_eq!(developer.send(&farm, change, asked).await.0, 403);
    let without = format!("{}{FORM}", maintainer.headers);
    assert_eq!(ask(&farm, &format!("POST {change}"), &without, asked).await.0, 403);
    assert_eq!(maintainer.send(&farm, change, "default_branch=a..b").await.0, 400);
    assert_eq!(maintainer.send(&farm, "/projects/github.com/a/b", asked).await.0, 404);
    assert_eq!(maintainer.send(&farm, "/projects/github.com/a/none/change", asked).await.0, 404);
    let (status, to, _) = maintainer.send(&farm, change, asked).await;
    assert_eq!((status, to.as_str()), (303, "/projects/github.com/a/b"));
    let kept = farm.desk.store.project("github.com/a/b").await.unwrap().unwrap();
    assert_eq!(kept.default_branch.unwrap().as_str(), "next");
    assert!(!kept.trusted && kept.approval.name() == "all");
    let opened = farm.desk.vault.open_text(crate::store::SealedFor::Webhooks, &kept.identity, &kept.secret);
    assert_eq!(opened.as_deref(), Some(&*secret));
    assert!(look(&farm, "/projects").await.contains("not trusted"));
    farm.stop().await;
}

#[tokio::test]
async fn an_agent_is_approved_by_the_key_that_stood_on_the_page() {
    let folder = tempdir().unwrap();
    let farm = Farm::with(&folder, |config| config.enrolment = crate::config::Enrolment::ByApproval).await;
    let agent = crate::testing::Agent::new(&farm.broker, "oak");
    agent.hello(&["gpu", "spare"], None).await;
    agent.hear(|control| matches!(control, protocol::control::Control::NotEnrolled { .. })).await;
    let key = agent.identity.public().fingerprint();
    let admin = Person::who_is(&farm, &folder, Role::Admin).await;
    let maintainer = Person::who_is(&farm, &folder, Role::Maintainer).await;
    let form = "action=\"/agents/oak/approve\"";

    let page = look(&farm, "/agents").await;
    assert!(page.contains("waits for approval") && page.contains(&key) && !page.contains(form), "{page}");
    assert!(page.contains("buildr agent approve oak --key "), "{page}");
    assert!(!maintainer.look(&farm, "/agents").await.contains(form));
    let page = admin.look(&farm, "/agents").await;
    assert!(page.contains(form) && page.contains(&format!("name=\"fingerprint\" value=\"{key}\"")), "{page}");
    let asked = format!("fingerprint={}&label=gpu", key.replace('+', "%2B"));
    for what in ["approve", "revoke", "forget"] {
        let path = format!("/agents/oak/{what}");
        assert_eq!(maintainer.send(&farm, &path, &asked).await.0, 403, "{what}");
        let without = format!("{}{FORM}", admin.headers);
        assert_eq!(ask(&farm, &format!("POST {path}"), &without, &asked).await.0, 403, "{what}");
        assert_eq!(ask(&farm, &format!("POST {path}"), FORM, &asked).await.0, 401, "{what}");
    }
    let (status, _, page) = admin.send(&farm, "/agents/oak/approve", "fingerprint=another&label=gpu").await;
    assert!(status == 409 && page.contains("shows the key"), "{status} {page}");
    assert_eq!(admin.send(&farm, "/agents/oak/approve", &format!("{asked}&label=none")).await.0, 409);
    assert_eq!(admin.send(&farm, "/agents/oak/approve", "label=gpu").await.0, 400);
    assert_eq!(admin.send(&farm, "/agents/ash/approve", &asked).await.0, 404);
    let (status, to, page) = admin.send(&farm, "/agents/oak/approve", &asked).await;
    assert_eq!((status, to.as_str()), (303, "/agents"), "{page}");
    let page = admin.look(&farm, "/agents").await;
    assert!(page.contains("labels that nobody approved") && !page.contains("waits for approval"), "{page}");

    // It is here, so it cannot be forgotten; revoked it can.
    assert_eq!(admin.send(&farm, "/agents/oak/forget", "").await.0, 409);
    assert_eq!(admin.send(&farm, "/agents/oak/revoke", "reason=%3Cb%3Estolen").await.0, 303);
    let page = admin.look(&farm, "/agents").await;
    assert!(page.contains("b&gt;stolen") && page.contains("Take it back"), "{page}");
    assert_eq!(admin.send(&farm, "/agents/oak/forget", "").await.0, 303);
    assert!(admin.look(&farm, "/agents").await.contains("No agent belongs to this farm yet"));
    farm.stop().await;
}

#[tokio::test]
async fn a_project_is_added_and_removed_on_its_page_and_its_secret_said_once() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let maintainer = Person::who_is(&farm, &folder, Role::Maintainer).await;
    let developer = Person::who_is(&farm, &folder, Role::Developer).await;
    let viewer = Person::who_is(&farm, &folder, Role::Viewer).await;
    assert!(!developer.look(&farm, "/projects").await.contains("action=\"/projects\""));
    assert!(maintainer.look(&farm, "/projects").await.contains("action=\"/projects\""));
    let asked = "url=https%3A%2F%2Fgithub.com%2Fa%2Fb&forge=&default_branch=";
    assert_eq!(developer.send(&farm, "/projects", asked).await.0, 403);
    assert_eq!(maintainer.send(&farm, "/projects", "url=x%3A%2F%2F").await.0, 400);
    let (status, _, page) = maintainer.send(&farm, "/projects", asked).await;
    let kept = farm.desk.store.project("github.com/a/b").await.unwrap().unwrap();
    let secret = farm.desk.vault.open_text(SealedFor::Webhooks, "github.com/a/b", &kept.secret).unwrap();
    assert!(status == 200 && page.contains(&secret) && page.contains(&kept.key), "{status} {page}");
    assert_eq!(maintainer.send(&farm, "/projects", asked).await.0, 409);
    for path in ["/projects", "/projects/github.com/a/b", "/deliveries"] {
        assert!(!maintainer.look(&farm, path).await.contains(&secret), "{path}");
    }
    // What can be done with a schedule is a developer's to do; there is none as yet.
    let order = "project=github.com%2Fa%2Fb&name=nightly&order=run";
    assert_eq!(viewer.send(&farm, "/schedules", order).await.0, 403);
    let (status, _, page) = developer.send(&farm, "/schedules", order).await;
    assert!(status == 404 && page.contains("no such schedule"), "{status} {page}");
    assert_eq!(developer.send(&farm, "/schedules", "name=nightly&order=burn").await.0, 400);

    let remove = "/projects/github.com/a/b/remove";
    assert_eq!(developer.send(&farm, remove, "").await.0, 403);
    let (status, to, _) = maintainer.send(&farm, remove, "").await;
    assert_eq!((status, to.as_str()), (303, "/projects"));
    assert_eq!(maintainer.send(&farm, remove, "").await.0, 404);
    assert_eq!(ask(&farm, "GET /live/projects/github.com/a/b", "", "").await.0, 404);
    farm.stop().await;
}

#[tokio::test]
async fn nothing_begins_by_schedule_of_a_project_that_was_removed() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let schedule = |repo: &str| {
        let said = r#"{"name": "nightly", "cron": "0 3 * * *", "zone": "UTC"}"#;
        let said = serde_json::from_str(said).unwrap();
        let by = (repo.parse().unwrap(), BuildNumber(1));
        Scheduled::new(by, said, "main".parse().unwrap(), Some(u64::MAX >> 2), None)
    };
    let mut tx = farm.desk.store.write().await.unwrap();
    // However its address was written by whoever built it.
    let schedules = ["git@github.com:a/b.git", "https://github.com/a/b", "https://github.com/a/other"].map(schedule);
    tx.put_schedules(&[], &schedules).await.unwrap();
    tx.commit().await.unwrap();
    let add = r#"{"url": "https://github.com/a/b"}"#;
    assert_eq!(ask(&farm, "POST /api/v1/projects", &writer(&folder), add).await.0, 201);
    let remove = "POST /api/v1/projects/github.com%2Fa%2Fb/remove";
    let (status, _, said) = ask(&farm, remove, &writer(&folder), "").await;
    assert!(status == 200 && said.contains("and its 2 schedules are gone"), "{status} {said}");
    let left: Vec<String> = farm.desk.store.schedules().await.unwrap().into_iter().map(|left| left.repo).collect();
    assert_eq!(left, ["https://github.com/a/other"]);
    farm.stop().await;
}

#[tokio::test]
async fn a_build_says_what_its_forge_said_of_the_change() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let commit = |letter: &str| letter.repeat(40).parse::<protocol::CommitId>().unwrap();
    let origin = protocol::job::Origin {
        pull_request: Some(7),
        target: Some("main".parse().unwrap()),
        source: Some("topic".parse().unwrap()),
        author: Some("Ada <script>".to_owned()),
        message: Some("A <i>proposal".to_owned()),
        head: Some(commit("a")),
        changed: vec!["src/<b>.rs".to_owned(), "README.md".to_owned()],
        fork: true,
        link: Some("https://example.org/pull/7?a=\"><b>".to_owned()),
        ..protocol::job::Origin::default()
    };
    let trigger = |origin| crate::intake::Trigger {
        origin,
        commit: Some(commit("b")),
        ..crate::intake::Trigger::new("https://example.org/x".parse().unwrap(), protocol::job::TriggerKind::PullRequest)
    };
    crate::intake::submit(&farm.desk, &trigger(origin.clone()), None).await.unwrap();
    let page = look(&farm, "/builds/1").await;
    for expect in [
        "href=\"https://example.org/pull/7?a=",
        "pull request 7</a> from a fork",
        "of another repository into",
        "Its merge, which is built",
        "2 changed files",
        "README.md",
        "topic",
    ] {
        assert!(page.contains(expect), "{expect:?} is not in {page}");
    }
    assert!(!page.contains("<script>") && !page.contains("<i>") && !page.contains("<b>."), "{page}");
    let link = Some("javascript:alert(1)".to_owned());
    let origin = protocol::job::Origin { link, ..origin };
    crate::intake::submit(&farm.desk, &trigger(origin), None).await.unwrap();
    let page = look(&farm, "/builds/2").await;
    assert!(page.contains("pull request 7") && !page.contains("javascript:"), "{page}");
    farm.stop().await;
}
