//! Forges that answer as they document it, on this machine: what they are asked, and what comes of their answers.

use protocol::job::TriggerKind;
use protocol::outcome::{Ending, Outcome};
use protocol::plan::{BuildPlan, PlannedJob, StagePlan};
use protocol::report::JobEvent;
use protocol::{BuildNumber, ClaimId, Plan, RepoUrl};
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::intake::{self, Trigger};
use crate::testing::{Agent, Farm, soon};
use protocol::api::ReportTo;

const COMMIT: &str = "0123456789012345678901234567890123456789";

/// What a forge was asked.
#[derive(Debug)]
struct Asked {
    /// Its first line and headers, in lower case.
    head: String,
    body: serde_json::Value,
}

/// A forge that gives these answers one after the other, and then 201 to everything.
struct Fake {
    api: String,
    asked: mpsc::Receiver<Asked>,
    _serving: tokio::task::JoinHandle<()>,
}

impl Fake {
    async fn with(answers: Vec<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}/api", listener.local_addr().unwrap());
        // As many as a test asks for at most.
        let (tell, asked) = mpsc::channel(100);
        let mut answers = answers.into_iter();
        let serving = protocol::task::spawn("forge", async move {
            loop {
                let (mut line, _) = listener.accept().await.unwrap();
                let mut read = Vec::new();
                let (head, body) = loop {
                    let mut part = [0; 4096];
                    let length = line.read(&mut part).await.unwrap();
                    read.extend_from_slice(&part[..length]);
                    let text = String::from_utf8_lossy(&read).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let head = head.to_lowercase();
                    let after = head.split("content-length: ").nth(1).unwrap();
                    let length: usize = after.split("\r\n").next().unwrap().parse().unwrap();
                    if body.len() >= length {
                        break (head, serde_json::from_str(body).unwrap());
                    }
                };
                let answer = answers.next().unwrap_or("201 Created\r\n\r\n{}");
                let (status, rest) = answer.split_once("\r\n").unwrap();
                let length = rest.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len());
                let (headers, content) = rest.split_once("\r\n\r\n").unwrap_or(("", rest.trim_start()));
                let headers = if headers.is_empty() { String::new() } else { format!("{headers}\r\n") };
                let length = if headers.is_empty() { content.len() } else { length };
                let text = format!(
                    "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{content}"
                );
                line.write_all(text.as_bytes()).await.unwrap();
                tell.send(Asked { head, body }).await.unwrap();
            }
        });
        Self { api, asked, _serving: serving }
    }

    async fn next(&mut self) -> Asked {
        soon("a status", self.asked.recv()).await.unwrap()
    }

    /// The states that come, in order.
    async fn states(&mut self, count: usize) -> Vec<String> {
        let mut states = Vec::new();
        for _ in 0..count {
            let asked = self.next().await;
            let words = [&asked.body["context"], &asked.body["state"], &asked.body["description"]];
            states.push(words.map(|word| word.as_str().unwrap_or("-").to_owned()).join(" "));
        }
        states
    }
}

fn repo() -> RepoUrl {
    "https://me:secret@example.org/team/x.git".parse().unwrap()
}

async fn told(folder: &TempDir, forge: &str, fake: &Fake) -> (Farm, Agent) {
    let farm = Farm::with(folder, |config| config.public_url = Some("https://ci.example.org/".to_owned())).await;
    let ask = ReportTo {
        repo: repo(),
        forge: Some(forge.to_owned()),
        api: Some(fake.api.clone()),
        token: "t0k3n".to_owned(),
    };
    set(&farm.desk, &ask).await.unwrap();
    let agent = farm.agent("a1").await;
    (farm, agent)
}

async fn begin(farm: &Farm) -> BuildNumber {
    let trigger = Trigger {
        branch: Some("main".parse().unwrap()),
        commit: Some(COMMIT.parse().unwrap()),
        ..Trigger::new(repo(), TriggerKind::Push)
    };
    intake::submit(&farm.desk, &trigger, None).await.unwrap()
}

fn job(key: &str, pipeline: Option<&str>) -> PlannedJob {
    let stage = StagePlan::new("test".parse().unwrap(), vec!["true".to_owned()]);
    let plan = Plan { pipeline: pipeline.map(str::to_owned), ..Plan::new("debian", vec![stage]) };
    PlannedJob::new(key.parse().unwrap(), plan)
}

async fn plan(farm: &Farm, agent: &Agent, jobs: &[PlannedJob]) -> ClaimId {
    let (claimed, _) = agent.work(farm).await;
    agent.happened(claimed.claim, JobEvent::Planned { jobs: jobs.to_vec(), build: BuildPlan::default() }).await;
    claimed.claim
}

fn failed() -> Ending {
    Ending::of(Outcome::Failed, Some("test failed: exit code 1\nmore".to_owned()))
}

#[tokio::test]
async fn a_commit_goes_from_pending_to_its_end() {
    let folder = tempdir().unwrap();
    let mut fake = Fake::with(Vec::new()).await;
    let (farm, agent) = told(&folder, "github", &fake).await;
    let build = begin(&farm).await;
    let first = fake.next().await;
    let path = format!("post /api/repos/team/x/statuses/{COMMIT} http/1.1");
    assert!(first.head.starts_with(&path), "{}", first.head);
    for header in ["authorization: bearer t0k3n", "accept: application/vnd.github+json", "user-agent: buildr/"] {
        assert!(first.head.contains(header), "{}", first.head);
    }
    let expect = json!({
        "state": "pending", "context": "buildr/default", "description": "waits to begin",
        "target_url": format!("https://ci.example.org/builds/{}", build.0),
    });
    assert_eq!(first.body, expect);
    let claim = plan(&farm, &agent, &[job("build", None)]).await;
    assert_eq!(fake.states(1).await, ["buildr/default pending runs"]);
    agent.finish(claim, failed()).await;
    assert_eq!(fake.states(1).await, ["buildr/default failure test failed: exit code 1"]);
    let view = reporting(&farm.desk).await.unwrap().swap_remove(0);
    assert_eq!((view.repository.as_str(), view.trouble), ("example.org/team/x", None));
    farm.stop().await;
}

#[tokio::test]
async fn each_pipeline_has_a_context_of_its_own() {
    let folder = tempdir().unwrap();
    let mut fake = Fake::with(Vec::new()).await;
    let (farm, agent) = told(&folder, "gitea", &fake).await;
    begin(&farm).await;
    assert_eq!(fake.states(1).await, ["buildr/default pending waits to begin"]);
    let claim = plan(&farm, &agent, &[job("api", Some("api")), job("web", Some("web"))]).await;
    agent.finish(claim, Ending::passed()).await;
    // What comes in between may be told, or overtaken by what is newer: the last word of each counts.
    let mut last = std::collections::BTreeMap::new();
    for (key, ending) in [("api", Ending::passed()), ("web", failed())] {
        let (claimed, grant) = agent.work(&farm).await;
        assert_eq!(grant.order.key.as_ref().map(protocol::JobKey::as_str), Some(key));
        agent.finish(claimed.claim, ending).await;
    }
    let expect = [
        ("buildr/api", "success passed"),
        ("buildr/default", "success nothing of it is built for this commit"),
        ("buildr/web", "failure test failed: exit code 1"),
    ];
    let expect: std::collections::BTreeMap<String, String> =
        expect.iter().map(|(context, said)| ((*context).to_owned(), (*said).to_owned())).collect();
    while last != expect {
        let told = fake.states(1).await.remove(0);
        let (context, said) = told.split_once(' ').unwrap();
        last.insert(context.to_owned(), said.to_owned());
    }
    farm.stop().await;
}

#[tokio::test]
async fn what_did_not_go_through_is_told_again_when_its_time_has_come() {
    let folder = tempdir().unwrap();
    let limit = "429 Too Many Requests\r\nretry-after: 7\r\n\r\n{}";
    let mut fake = Fake::with(vec![limit, "500 Internal Server Error\r\n\r\noh"]).await;
    let (farm, _agent) = told(&folder, "gitlab", &fake).await;
    begin(&farm).await;
    let first = fake.next().await;
    assert!(first.head.starts_with(&format!("post /api/projects/team%2fx/statuses/{COMMIT} ")), "{}", first.head);
    assert!(first.head.contains("private-token: t0k3n"));
    let http = Client::new();
    let trouble = async |what: &str| {
        soon("the trouble", async {
            loop {
                let view = reporting(&farm.desk).await.unwrap().swap_remove(0);
                if view.trouble.as_deref() == Some(what) {
                    return view;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    };
    assert_eq!(trouble("it answered 429 Too Many Requests").await.waiting, 1);
    let now = buildr::process::clock::now_ms();
    assert!(sender::tell(&farm.desk, &http, now).await.unwrap(), "it waits for as long as the forge says");
    assert!(fake.asked.try_recv().is_err());
    assert!(sender::tell(&farm.desk, &http, now + 8_000).await.unwrap());
    fake.next().await;
    trouble("it answered 500 Internal Server Error").await;
    // 5 s twice over, from then on.
    assert!(sender::tell(&farm.desk, &http, now + 17_000).await.unwrap());
    assert!(fake.asked.try_recv().is_err());
    assert!(!sender::tell(&farm.desk, &http, now + 19_000).await.unwrap());
    assert_eq!(fake.next().await.body["state"], "pending");
    assert_eq!(reporting(&farm.desk).await.unwrap()[0].trouble, None);
    farm.stop().await;
}

#[tokio::test]
async fn what_an_old_token_did_not_open_is_told_with_a_new_one() {
    let folder = tempdir().unwrap();
    let mut fake = Fake::with(vec!["401 Unauthorized\r\n\r\n{\"message\": \"Bad credentials\"}"]).await;
    let (farm, _agent) = told(&folder, "github", &fake).await;
    begin(&farm).await;
    assert!(fake.next().await.head.contains("t0k3n"));
    soon("the refusal", async {
        while farm.desk.store.has_to_tell().await.unwrap() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (repo, api) = (repo(), Some(fake.api.clone()));
    let ask = ReportTo { repo, forge: Some("github".to_owned()), api, token: "n3w".to_owned() };
    set(&farm.desk, &ask).await.unwrap();
    let again = soon("the new token", fake.next()).await;
    assert!(again.head.contains("n3w"), "{}", again.head);
    assert_eq!(again.body["state"], "pending");
    farm.stop().await;
}

#[tokio::test]
async fn a_forge_that_wants_to_be_left_alone_hears_of_no_other_build() {
    let folder = tempdir().unwrap();
    let mut fake = Fake::with(vec!["429 Too Many Requests\r\nretry-after: 600\r\n\r\n{}"]).await;
    let (farm, _agent) = told(&folder, "gitlab", &fake).await;
    begin(&farm).await;
    fake.next().await;
    let trigger = Trigger {
        branch: Some("main".parse().unwrap()),
        commit: Some("9876543210".repeat(4).parse().unwrap()),
        ..Trigger::new(repo(), TriggerKind::Push)
    };
    soon("the forge's word", async {
        while reporting(&farm.desk).await.unwrap()[0].trouble.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    intake::submit(&farm.desk, &trigger, None).await.unwrap();
    let (http, now) = (Client::new(), buildr::process::clock::now_ms());
    assert!(sender::tell(&farm.desk, &http, now + 500_000).await.unwrap());
    assert!(fake.asked.try_recv().is_err());
    assert!(!sender::tell(&farm.desk, &http, now + 700_000).await.unwrap());
    assert_eq!(fake.states(2).await.len(), 2);
    farm.stop().await;
}

#[tokio::test]
async fn what_is_refused_is_said_and_holds_up_nothing() {
    let folder = tempdir().unwrap();
    let mut fake = Fake::with(vec!["401 Unauthorized\r\n\r\n{\"message\": \"Bad credentials\"}"]).await;
    let (farm, agent) = told(&folder, "forgejo", &fake).await;
    let build = begin(&farm).await;
    fake.next().await;
    let claim = plan(&farm, &agent, &[job("build", None)]).await;
    agent.finish(claim, Ending::passed()).await;
    farm.until_status(build, "passed").await;
    let mut state = String::new();
    while !state.starts_with("buildr/default success passed") {
        state = fake.states(1).await.remove(0);
    }
    assert!(forget(&farm.desk, "example.org/other").await.is_err());
    forget(&farm.desk, "example.org/team/x").await.unwrap();
    begin(&farm).await;
    assert!(!farm.desk.store.has_to_tell().await.unwrap());
    farm.stop().await;
}

#[tokio::test]
async fn what_can_not_be_told_is_refused() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let check = async |repo: &str, forge: Option<&str>, api: Option<&str>, token: &str, expect: &str| {
        let (forge, api) = (forge.map(str::to_owned), api.map(str::to_owned));
        let ask = ReportTo { repo: repo.parse().unwrap(), forge, api, token: token.to_owned() };
        match set(&farm.desk, &ask).await {
            Ok(done) => assert_eq!(done.message, expect),
            Err(refusal) => assert!(refusal.to_string().contains(expect), "{refusal}"),
        }
    };
    let known = "github.com/a/b is told how its builds go, as github at https://api.github.com";
    check("git@github.com:a/b.git", None, None, "t", known).await;
    let own = "git.example.org/a/b is told how its builds go, as gitlab at https://git.example.org/api/v4";
    check("https://git.example.org/a/b", Some("gitlab"), None, "t", own).await;
    check("https://git.example.org/a/b", None, None, "t", "nobody knows what kind of forge git.example.org is").await;
    check("https://git.example.org/a/b", Some("svn"), None, "t", "is no forge that takes statuses").await;
    check("https://github.com/a/b", None, Some("ftp://x"), "t", "is no address of an API").await;
    check("/srv/x", Some("gitea"), None, "t", "is no address of an API").await;
    check("https://github.com/a/b", None, None, " \n", "the token is empty").await;
    farm.stop().await;
}

#[test]
fn each_forge_has_its_own_words() {
    let said = |status| Said { status, description: "d".repeat(300) };
    let check = |kind: Kind, status, state: &str, length: usize| {
        let body = body(kind, "buildr/default", &said(status), "https://p");
        assert_eq!(body["state"], state, "{kind}");
        assert_eq!(body["description"].as_str().unwrap().chars().count(), length);
    };
    check(Kind::GitHub, Status::Errored, "error", 140);
    check(Kind::Gitea, Status::Cancelling, "pending", 250);
    check(Kind::GitLab, Status::Running, "running", 250);
    check(Kind::GitLab, Status::Cancelled, "canceled", 250);
    check(Kind::Bitbucket, Status::Running, "INPROGRESS", 250);
    check(Kind::Bitbucket, Status::Cancelled, "STOPPED", 250);
    let long = format!("buildr/{}", "n".repeat(60));
    assert_eq!((key("buildr/web"), key(&long).len()), ("buildr/web".to_owned(), 40));
    assert_eq!(key(&long), key(&long));
}
