//! Builds that begin by themselves: a push to a real git server, pull requests of friends and strangers, and all that
//! somebody may send who has no secret.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::fmt::Write as _;
use std::path::Path;

use buildr::client;
use data_encoding::HEXLOWER;
use farm::farm::{Farm, in_memory, until};
use farm::smart_http::{Hosted, SmartHttp};
use hmac::{Hmac, KeyInit as _, Mac as _};
use protocol::api::{
    AddedProject, Approval, ApproveJob, ChangeProject, DeliveryView, Forge, Keep, Keeps, MakeToken, NewProject,
    ProjectKeeps, Received, Restart, Role, Status,
};
use protocol::{BuildNumber, CommitId};
use serde_json::json;
use sha2::Sha256;
use tokio::process::Command;

const MANIFEST: &str = "\
image: x
stages: [test]
test:
  script: [env BUILDR_EVENT, env BUILDR_COMMIT, env BUILDR_PR_HEAD, env BUILDR_PR_FORK, env BUILDR_PREV_COMMIT]
";

/// Its stage goes on until somebody ends it.
const LASTS: &str = "image: x\nstages: [test]\ntest: {script: [hang]}\n";

fn hmac(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    HEXLOWER.encode(&mac.finalize().into_bytes())
}

async fn add(farm: &Farm, hosted: &Hosted, forge: Forge) -> AddedProject {
    let new = NewProject { forge: Some(forge), ..NewProject::new(hosted.url.clone()) };
    farm.api().client.add_project(&new).await.unwrap()
}

/// Posts what GitHub would, and gives status and body of the answer.
async fn post(added: &AddedProject, event: &str, id: &str, body: &[u8]) -> (u16, String) {
    let signature = format!("sha256={}", hmac(&added.secret, body));
    let headers = [("x-github-event", event), ("x-github-delivery", id), ("x-hub-signature-256", &*signature)];
    send(&added.project.hook_url, &headers, body.to_vec()).await
}

async fn send(url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = headers.iter().fold(client.post(url), |request, (name, value)| request.header(*name, *value));
    let answer = request.body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The number of a delivery that was taken.
#[track_caller]
fn taken((status, body): &(u16, String)) -> u64 {
    assert_eq!(*status, 202, "{body}");
    serde_json::from_str::<Received>(body).unwrap().delivery
}

async fn verdict(farm: &Farm, number: u64) -> DeliveryView {
    until("a verdict", async || {
        let found = farm.api().client.deliveries(None, None, 100).await.ok()?.deliveries;
        found.into_iter().find(|delivery| delivery.number == number && delivery.verdict.is_some())
    })
    .await
}

/// Posts what must be taken, and gives the one build that it begins.
async fn begins(farm: &Farm, added: &AddedProject, event: &str, id: &str, body: &serde_json::Value) -> BuildNumber {
    let number = taken(&post(added, event, id, body.to_string().as_bytes()).await);
    let delivery = verdict(farm, number).await;
    let [build] = delivery.builds[..] else { panic!("{delivery:?}") };
    build
}

fn push(hosted: &Hosted, branch: &str, before: &CommitId, after: &CommitId) -> serde_json::Value {
    json!({
        "ref": format!("refs/heads/{branch}"),
        "before": before, "after": after,
        "repository": {"id": 7, "clone_url": hosted.url.reveal(), "default_branch": "main"},
        "commits": [],
        "head_commit": {"id": after, "message": "A change", "author": {"name": "Ada"}},
        "pusher": {"name": "ada"},
    })
}

fn request(hosted: &Hosted, action: &str, head: &CommitId, of: u64) -> serde_json::Value {
    json!({
        "action": action, "number": 7,
        "repository": {"id": 7, "clone_url": hosted.url.reveal(), "default_branch": "main"},
        "pull_request": {
            "number": 7, "title": "A proposal", "html_url": "https://example.org/pull/7", "user": {"login": "mallory"},
            "head": {"ref": "topic", "sha": head, "repo": {"id": of}},
            "base": {"ref": "main", "repo": {"id": 7}},
        },
    })
}

async fn git(folder: &Path, words: &[&str]) {
    let output = Command::new("git").args(words).current_dir(folder).output().await.unwrap();
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_push_to_a_git_server_begins_a_build() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let server = SmartHttp::start().await;
        let hosted = server.make("ada/cronline");
        let added = add(farm, &hosted, Forge::Generic).await;
        assert!(added.secret.len() >= 32, "a good secret is made");
        let shown = farm.api().client.project(hosted.url.reveal()).await.unwrap();
        assert_eq!(shown, added.project);
        hosted.after_push(&format!(
            r#"#!/bin/sh
while read old new ref; do
    body="{{\"ref\": \"$ref\", \"before\": \"$old\", \"after\": \"$new\", \"author\": \"Ada\", \"repo\": \"{url}\"}}"
    mac=$(printf %s "$body" | openssl dgst -sha256 -hmac '{secret}' | sed 's/.* //')
    curl -fsS --noproxy '*' -H "X-Hub-Signature-256: sha256=$mac" --data "$body" '{hook}'
done
"#,
            url = hosted.url.reveal(),
            secret = added.secret,
            hook = added.project.hook_url,
        ));
        let work = tempfile::tempdir().unwrap();
        let who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"];
        git(work.path(), &["clone", "--quiet", hosted.url.reveal(), "."]).await;
        let mut commits = Vec::new();
        for change in ["one", "two"] {
            std::fs::write(work.path().join(".buildr.yml"), format!("# {change}\n{MANIFEST}")).unwrap();
            git(work.path(), &["add", "."]).await;
            git(work.path(), &[&who[..], &["commit", "--quiet", "--message", change]].concat()).await;
            git(work.path(), &["push", "--quiet", "origin", "HEAD:main"]).await;
            let tip = hosted.git.find_reference("refs/heads/main").unwrap().target().unwrap();
            commits.push(tip.to_string());
        }
        let views = farm.api().until_all_over(2).await;
        for (view, commit) in views.iter().zip(&commits) {
            assert_eq!(view.build.status, Status::Passed, "{view:#?}");
            assert_eq!(view.build.trigger, "push");
            assert_eq!(view.build.commit.as_ref().unwrap().as_str(), commit);
            assert_eq!(view.build.branch.as_ref().unwrap().as_str(), "main");
            assert_eq!(view.origin.author.as_deref(), Some("Ada"));
        }
        assert_eq!(views[1].origin.before.as_ref().unwrap().as_str(), commits[0]);
        let log = farm.api().log(views[1].build.number, "test").await;
        assert!(log.contains(&format!("push\n{}\n\n\n{}\n", commits[1], commits[0])), "{log}");
        let why = farm.api().client.why(Some(views[0].build.number)).await.unwrap();
        assert!(why.by.unwrap().contains("a webhook from generic, delivery 1 (Ada)"));
    })
    .await;
}

/// A repository with a pull request of one commit, and what the forge offers of it.
struct Proposed {
    server: SmartHttp,
    hosted: Hosted,
    main: CommitId,
}

impl Proposed {
    async fn new(manifest: &str) -> Self {
        let server = SmartHttp::start().await;
        let hosted = server.make("ada/cronline");
        let main = hosted.commit(Some("refs/heads/main"), &[], &[(".buildr.yml", manifest)]);
        Self { server, hosted, main }
    }

    /// Another last commit of it, and its merge.
    fn propose(&self, file: &str) -> (CommitId, CommitId) {
        self.propose_on(&self.main, file)
    }

    /// The same on top of another one.
    fn propose_on(&self, parent: &CommitId, file: &str) -> (CommitId, CommitId) {
        let head = self.hosted.commit(Some("refs/pull/7/head"), &[parent], &[(file, "new")]);
        let merge = self.hosted.commit(Some("refs/pull/7/merge"), &[&self.main, &head], &[]);
        (head, merge)
    }
}

#[tokio::test]
async fn a_strangers_pull_request_waits_for_a_maintainer() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let proposed = Proposed::new(MANIFEST).await;
        let added = add(farm, &proposed.hosted, Forge::GitHub).await;
        let (head, _) = proposed.propose("first");
        let opened = request(&proposed.hosted, "opened", &head, 8);
        let first = begins(farm, &added, "pull_request", "1", &opened).await;
        let view = farm.api().build(first).await;
        assert_eq!(view.build.status, Status::Queued);
        let waits = view.build.message.clone().unwrap();
        let expect = format!(
            "waits for approval (pull request #7 from another repository by mallory, at {}) by a maintainer: run `buildr approve {}`",
            head.short(),
            first.0
        );
        assert_eq!(waits, expect);
        let why = farm.api().client.why(Some(first)).await.unwrap();
        assert_eq!(why.waiting[0].sentence, expect);
        assert!(view.attempts.is_empty() && view.origin.fork);

        // What is pushed meanwhile is another build's, and the old one has no use.
        let (newer, merge) = proposed.propose("second");
        let updated = request(&proposed.hosted, "synchronize", &newer, 8);
        let second = begins(farm, &added, "pull_request", "2", &updated).await;
        let over = farm.api().until_is(first, Status::Cancelled).await;
        assert_eq!(over.build.message.as_deref(), Some(&*format!("superseded by {second}")));
        assert!(over.attempts.is_empty(), "nothing of it ran");

        // A push by a friend does not wait behind it.
        let main = push(&proposed.hosted, "main", &newer, &proposed.main);
        let friends = begins(farm, &added, "push", "3", &main).await;
        farm.api().until_is(friends, Status::Passed).await;
        assert_eq!(farm.api().build(second).await.build.status, Status::Queued);

        farm.api().client.approve_job(second, &ApproveJob::default()).await.unwrap();
        let view = farm.api().until_is(second, Status::Passed).await;
        assert_eq!(view.build.commit.as_ref(), Some(&merge), "the merge result is built");
        assert_eq!(view.origin.head.as_ref(), Some(&newer));
        assert_eq!(view.build.subject.as_deref(), Some("A proposal"));
        assert_eq!(view.build.branch, None);
        let log = farm.api().log(second, "test").await;
        assert!(log.contains(&format!("pull_request\n{merge}\n{newer}\ntrue\n")), "{log}");
        drop(proposed.server);
    })
    .await;
}

#[tokio::test]
async fn what_is_rejected_is_cancelled_and_what_is_approved_is_that_commit() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        let proposed = Proposed::new(MANIFEST).await;
        let added = add(farm, &proposed.hosted, Forge::GitHub).await;
        let (head, _) = proposed.propose("first");
        let body = request(&proposed.hosted, "opened", &head, 8);
        let rejected = begins(farm, &added, "pull_request", "1", &body).await;
        let no = ApproveJob { reject: true, reason: Some("odd".to_owned()), ..ApproveJob::default() };
        farm.api().client.approve_job(rejected, &no).await.unwrap();
        let view = farm.api().until_is(rejected, Status::Cancelled).await;
        assert!(view.build.message.unwrap().contains(": odd"), "never passed");
        assert!(farm.api().client.approve_job(rejected, &ApproveJob::default()).await.is_err());

        // Doing it again is no way around a maintainer.
        let again = farm.api().client.restart(rejected, &Restart::default()).await.unwrap().build;
        assert!(farm.api().build(again).await.build.message.unwrap().contains("by a maintainer"));
        farm.api().cancel(again).await;

        let body = request(&proposed.hosted, "reopened", &head, 8);
        let build = begins(farm, &added, "pull_request", "2", &body).await;
        // Somebody asks for it again at the forge: it waits as it did.
        let again = json!({"action": "rerequested", "check_suite": {"head_sha": head}});
        let third = begins(farm, &added, "check_suite", "3", &again).await;
        let view = farm.api().until_is(build, Status::Cancelled).await;
        assert!(view.attempts.is_empty());
        let build = third;
        assert!(farm.api().build(build).await.build.message.unwrap().contains("by a maintainer"));
        farm.api().client.approve_job(build, &ApproveJob::default()).await.unwrap();
        // The forge offers the merge of another commit by now: nobody approved that.
        proposed.propose_on(&head, "evil");
        farm.start_agent("a", 1).await;
        let view = farm.api().until_is(build, Status::Passed).await;
        assert_eq!(view.build.commit, Some(head));
        let job = farm.api().log(build, "0-job").await;
        assert!(job.contains("refs/pull/7/merge is of another commit, so"), "{job}");
    })
    .await;
}

#[tokio::test]
async fn what_is_approved_is_that_commit_where_the_forge_tells_only_how_it_begins() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        let proposed = Proposed::new(MANIFEST).await;
        let of = NewProject {
            forge: Some(Forge::Bitbucket),
            approval: Some(Approval::PullRequests),
            ..NewProject::new(proposed.hosted.url.clone())
        };
        let added = farm.api().client.add_project(&of).await.unwrap();
        let repo = json!({"uuid": "{1}", "links": {"html": {"href": proposed.hosted.url.reveal()}}});
        let updated = async |id: &str, file: &str| {
            let head = proposed.hosted.commit(Some("refs/heads/steps"), &[&proposed.main], &[(file, "new")]);
            let end = |branch: &str, commit: &str| {
                json!({"branch": {"name": branch}, "commit": {"hash": commit}, "repository": repo})
            };
            let (source, target) = (end("steps", &head.as_str()[..12]), end("main", &proposed.main.as_str()[..12]));
            let request = json!({"id": 7, "title": "A proposal", "source": source, "destination": target});
            let body = json!({"pullrequest": request, "repository": repo}).to_string();
            let signature = format!("sha256={}", hmac(&added.secret, body.as_bytes()));
            let headers = [
                ("x-event-key", "pullrequest:updated"),
                ("x-hook-uuid", "1"),
                ("x-request-uuid", id),
                ("x-hub-signature", &*signature),
            ];
            let number = taken(&send(&added.project.hook_url, &headers, body.into_bytes()).await);
            let [build] = verdict(farm, number).await.builds[..] else { panic!("it begins no build") };
            (build, head)
        };
        let (approved, _) = updated("1", "harmless").await;
        farm.api().client.approve_job(approved, &ApproveJob::default()).await.unwrap();
        // Pushed while every agent is busy.
        let (waits, head) = updated("2", "evil").await;
        farm.start_agent("a", 1).await;
        let over = farm.api().until_is(approved, Status::Cancelled).await;
        let said = over.build.message.unwrap();
        assert!(said.contains(&format!("the branch is at {} by now", head.short())), "{said}");
        assert_eq!(farm.api().build(waits).await.build.status, Status::Queued);
        farm.api().client.approve_job(waits, &ApproveJob::default()).await.unwrap();
        assert_eq!(farm.api().until_is(waits, Status::Passed).await.build.commit, Some(head));
    })
    .await;
}

#[tokio::test]
async fn each_role_and_what_it_may() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let proposed = Proposed::new(MANIFEST).await;
        let added = add(farm, &proposed.hosted, Forge::GitHub).await;
        let (head, _) = proposed.propose("first");
        let body = request(&proposed.hosted, "opened", &head, 8);
        let build = begins(farm, &added, "pull_request", "1", &body).await;
        let as_role = async |role: Role| {
            let order = MakeToken { name: role.to_string(), role, for_ms: None };
            let token = farm.api().client.make_token(&order).await.unwrap().token;
            client::Farm::new(format!("http://{}", farm.config.listen).parse().unwrap(), Some(token)).unwrap()
        };
        let (developer, maintainer) = (as_role(Role::Developer).await, as_role(Role::Maintainer).await);
        let change = ChangeProject { approval: Some(Approval::None), ..ChangeProject::default() };
        for refused in [
            developer.approve_job(build, &ApproveJob::default()).await.map(|_| ()),
            developer.approve_job(build, &ApproveJob { reject: true, ..ApproveJob::default() }).await.map(|_| ()),
            developer.change_project(&added.project.identity, &change).await.map(|_| ()),
            developer.remove_project(&added.project.identity).await.map(|_| ()),
            developer.redeliver(1).await.map(|_| ()),
        ] {
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains("maintainer"), "{refused}");
        }
        assert_eq!(farm.api().build(build).await.build.status, Status::Queued);
        maintainer.approve_job(build, &ApproveJob::default()).await.unwrap();
        farm.api().until_is(build, Status::Passed).await;
    })
    .await;
}

#[tokio::test]
async fn each_way_to_approve() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        let proposed = Proposed::new(MANIFEST).await;
        let added = add(farm, &proposed.hosted, Forge::GitHub).await;
        let (head, _) = proposed.propose("first");
        let mut id = 0;
        for (approval, expect) in [
            (Approval::None, [false, false, false]),
            (Approval::Forks, [true, false, false]),
            (Approval::PullRequests, [true, true, false]),
            (Approval::All, [true, true, true]),
        ] {
            let change = ChangeProject { approval: Some(approval), ..ChangeProject::default() };
            farm.api().client.change_project(&added.project.identity, &change).await.unwrap();
            let bodies = [
                ("pull_request", request(&proposed.hosted, "opened", &head, 8)),
                ("pull_request", request(&proposed.hosted, "opened", &head, 7)),
                ("push", push(&proposed.hosted, "main", &head, &proposed.main)),
            ];
            for ((event, mut body), expect) in bodies.into_iter().zip(expect) {
                id += 1;
                body["id"] = json!(id);
                let build = begins(farm, &added, event, &id.to_string(), &body).await;
                let view = farm.api().build(build).await;
                let waits = view.build.message.unwrap_or_default().contains("by a maintainer");
                assert_eq!(waits, expect, "{approval} {event} {id}");
            }
        }
        let change = ChangeProject { allowed: Some(false), ..ChangeProject::default() };
        farm.api().client.change_project(&added.project.identity, &change).await.unwrap();
        let body = push(&proposed.hosted, "next", &head, &proposed.main).to_string();
        let number = taken(&post(&added, "push", "x", body.as_bytes()).await);
        let said = verdict(farm, number).await.verdict.unwrap();
        assert_eq!(said, "ignored: the project takes no webhooks at present");
    })
    .await;
}

#[tokio::test]
async fn a_pull_request_that_is_closed_ends_its_builds() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let proposed = Proposed::new(LASTS).await;
        let added = add(farm, &proposed.hosted, Forge::GitHub).await;
        let (head, _) = proposed.propose("first");
        let opened = request(&proposed.hosted, "opened", &head, 7);
        let build = begins(farm, &added, "pull_request", "1", &opened).await;
        farm.api().until_in_stage(build, 1, "test").await;
        let closed = request(&proposed.hosted, "closed", &head, 7).to_string();
        let number = taken(&post(&added, "pull_request", "2", closed.as_bytes()).await);
        let view = farm.api().until_is(build, Status::Cancelled).await;
        assert!(view.build.message.unwrap().ends_with("pull request #7 was closed"));
        let said = verdict(farm, number).await.verdict.unwrap();
        assert_eq!(said, format!("pull request #7 was closed; build {build} is cancelled"));
    })
    .await;
}

#[tokio::test]
async fn a_newer_push_to_a_pull_request_ends_the_build_of_the_older() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 2).await;
        let proposed = Proposed::new(LASTS).await;
        let added = add(farm, &proposed.hosted, Forge::GitHub).await;
        let (head, _) = proposed.propose("first");
        let opened = request(&proposed.hosted, "opened", &head, 7);
        let older = begins(farm, &added, "pull_request", "1", &opened).await;
        farm.api().until_in_stage(older, 1, "test").await;
        let (head, _) = proposed.propose("second");
        let updated = request(&proposed.hosted, "synchronize", &head, 7);
        let newer = begins(farm, &added, "pull_request", "2", &updated).await;
        farm.api().until_is(older, Status::Cancelled).await;
        farm.api().until_in_stage(newer, 1, "test").await;
        farm.api().cancel(newer).await;
        farm.api().until_is(newer, Status::Cancelled).await;
    })
    .await;
}

#[tokio::test]
async fn what_was_taken_outlives_the_coordinator_and_counts_once() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        let proposed = Proposed::new(MANIFEST).await;
        let added = add(farm, &proposed.hosted, Forge::GitHub).await;
        let mut sent = Vec::new();
        for number in 0..8 {
            let branch = format!("b{number}");
            sent.push(push(&proposed.hosted, &branch, &proposed.main, &proposed.main).to_string());
            taken(&post(&added, "push", &branch, sent[number].as_bytes()).await);
            if number % 3 == 2 {
                farm.kill_coordinator().await;
                farm.start_coordinator().await;
            }
        }
        let all = until("all verdicts", async || {
            let all = farm.api().client.deliveries(None, None, 100).await.ok()?.deliveries;
            (all.len() == 8 && all.iter().all(|delivery| delivery.verdict.is_some())).then_some(all)
        })
        .await;
        let mut builds: Vec<BuildNumber> = all.iter().flat_map(|delivery| delivery.builds.clone()).collect();
        builds.sort_unstable();
        assert_eq!(builds.len(), 8);
        // The same ones again: as they came, and under another name.
        for (number, body) in sent.iter().enumerate() {
            for id in [format!("b{number}"), format!("other {number}")] {
                let answer = post(&added, "push", &id, body.as_bytes()).await;
                assert!(answer.1.contains("came before"), "{answer:?}");
            }
        }
        assert_eq!(farm.api().builds().await.len(), 8);
        let all = farm.api().client.deliveries(Some(&added.project.identity), None, 100).await.unwrap().deliveries;
        assert!(all.len() == 8 && all.iter().all(|delivery| delivery.replays == 2), "{all:#?}");
        // A person may have it once more.
        let again = farm.api().client.redeliver(all[0].number).await.unwrap().delivery;
        let view = verdict(farm, again).await;
        assert_eq!((view.redelivers, view.builds.len()), (Some(all[0].number), 1));
        assert_eq!(farm.api().builds().await.len(), 9);
    })
    .await;
}

#[tokio::test]
async fn every_delivery_has_its_verdict() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        let proposed = Proposed::new(MANIFEST).await;
        let added = add(farm, &proposed.hosted, Forge::GitHub).await;
        let main = &proposed.main;
        let mut skip = push(&proposed.hosted, "main", main, main);
        skip["head_commit"]["message"] = json!("Docs [skip ci]");
        let mut deleted = push(&proposed.hosted, "main", main, main);
        deleted["after"] = json!("0".repeat(40));
        let ping = json!({"zen": "x", "repository": {"clone_url": proposed.hosted.url.reveal()}});
        for (place, (event, body, expect)) in [
            ("push", skip, "ignored: skip ci"),
            ("push", deleted, "ignored: branch deleted"),
            ("ping", ping, "ping"),
            ("issues", json!({"action": "opened"}), "ignored: event issues builds nothing"),
        ]
        .into_iter()
        .enumerate()
        {
            let number = taken(&post(&added, event, &place.to_string(), body.to_string().as_bytes()).await);
            assert_eq!(verdict(farm, number).await.verdict.as_deref(), Some(expect));
        }
        let other = json!({"repository": {"clone_url": "https://example.org/other"}});
        let (status, said) = post(&added, "ping", "o", other.to_string().as_bytes()).await;
        assert!(status == 400 && said.contains("is about example.org/other"), "{said}");
        let (status, _) = send(&added.project.hook_url, &[("x-github-event", "push")], b"{}".to_vec()).await;
        assert_eq!(status, 401);
        let all = farm.api().client.deliveries(None, None, 2).await.unwrap();
        let said: Vec<_> = all.deliveries.iter().map(|delivery| delivery.verdict.clone().unwrap()).collect();
        assert_eq!(said[0], "refused: signature");
        assert!(said[1].starts_with("refused: the delivery is about example.org/other"), "{said:?}");
        assert_eq!(all.next, Some(all.deliveries[1].number));
        let refused = farm.api().client.redeliver(all.deliveries[0].number).await.unwrap_err().to_string();
        assert!(refused.contains("is not kept"), "{refused}");
        assert!(farm.api().builds().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn one_address_for_all_projects_of_a_forge() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        let proposed = Proposed::new(MANIFEST).await;
        let added = add(farm, &proposed.hosted, Forge::GitHub).await;
        let other = proposed.server.make("ada/other");
        let secret = Some(added.secret.clone());
        let new = NewProject { forge: Some(Forge::GitHub), secret, ..NewProject::new(other.url.clone()) };
        let second = farm.api().client.add_project(&new).await.unwrap();
        assert!(farm.api().client.add_project(&new).await.unwrap_err().to_string().contains("is there already"));
        let url = added.project.hook_url.rsplit_once('/').unwrap().0.to_owned();
        let project = protocol::api::ProjectView { hook_url: url, ..added.project.clone() };
        let shared = AddedProject { project, secret: added.secret.clone() };
        let body = push(&other, "main", &proposed.main, &proposed.main);
        let build = begins(farm, &shared, "push", "1", &body).await;
        let view = farm.api().build(build).await;
        assert_eq!(view.build.repo, other.url.reveal());
        let third = proposed.server.make("ada/third");
        let body = push(&third, "main", &proposed.main, &proposed.main).to_string();
        let (status, said) = post(&shared, "push", "2", body.as_bytes()).await;
        assert!(status == 404 && said.contains("no project has the repository"), "{said}");
        farm.api().client.remove_project(&second.project.identity).await.unwrap();
        assert!(farm.api().client.project(&second.project.identity).await.is_err());
        assert_eq!(farm.api().client.projects().await.unwrap(), [added.project]);
    })
    .await;
}

#[tokio::test]
async fn an_owners_repositories_become_projects_with_their_first_push() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        let proposed = Proposed::new(MANIFEST).await;
        let hosted = &proposed.hosted;
        let owner = hosted.url.reveal().replace("cronline.git", "*");
        let new = NewProject { forge: Some(Forge::GitHub), ..NewProject::new(owner.parse().unwrap()) };
        let added = farm.api().client.add_project(&new).await.unwrap();
        let ping = json!({"repository": {"clone_url": hosted.url.reveal()}}).to_string();
        let number = taken(&post(&added, "ping", "0", ping.as_bytes()).await);
        assert_eq!(verdict(farm, number).await.project, added.project.identity);
        for id in ["1", "2"] {
            let body = push(hosted, &format!("b{id}"), &proposed.main, &proposed.main);
            let build = begins(farm, &added, "push", id, &body).await;
            assert_eq!(farm.api().build(build).await.build.repo, hosted.url.reveal());
        }
        let identities: Vec<String> =
            farm.api().client.projects().await.unwrap().into_iter().map(|project| project.identity).collect();
        assert_eq!(identities, [added.project.identity.clone(), hosted.url.identity()]);
        let other = added.project.identity.replace("ada/*", "mallory/x");
        let body = push(hosted, "main", &proposed.main, &proposed.main).to_string();
        let body = body.replace(hosted.url.reveal(), &format!("http://{other}.git"));
        assert_eq!(post(&added, "push", "3", body.as_bytes()).await.0, 400);
        assert_eq!(farm.api().client.projects().await.unwrap().len(), 2);
    })
    .await;
}

/// A request that must get nothing: how it is called, where it goes, with what, and the answer's status.
struct Hostile {
    what: String,
    url: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    expect: u16,
}

#[tokio::test]
async fn what_is_forged_replayed_oversized_or_malformed_gets_nothing() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        let proposed = Proposed::new(MANIFEST).await;
        let projects = projects(farm, &proposed).await;
        let all = hostile(farm, &proposed, &projects);
        assert!(all.len() >= 60, "only {} requests", all.len());
        let mut wrong = String::new();
        for Hostile { what, url, headers, body, expect } in all {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let (status, said) = send(&url, &headers, body).await;
            if status != expect || status >= 500 {
                writeln!(wrong, "{what}: {status} instead of {expect}: {said}").unwrap();
            }
            let leaks = projects.iter().any(|added| said.contains(&added.secret) || said.contains("cronline"));
            if leaks && status == 401 {
                writeln!(wrong, "{what}: says too much: {said}").unwrap();
            }
        }
        assert!(wrong.is_empty(), "\n{wrong}");
        assert!(farm.api().builds().await.is_empty(), "a build began");
        // And whoever has the secret is still heard.
        let body = push(&proposed.hosted, "main", &proposed.main, &proposed.main);
        begins(farm, &projects[0], "push", "good", &body).await;
    })
    .await;
}

/// A project at each kind of forge. The first is GitHub's.
async fn projects(farm: &Farm, proposed: &Proposed) -> Vec<AddedProject> {
    let mut projects = vec![add(farm, &proposed.hosted, Forge::GitHub).await];
    for forge in Forge::ALL.into_iter().filter(|forge| *forge != Forge::GitHub) {
        let hosted = proposed.server.make(&format!("{forge}/cronline"));
        projects.push(add(farm, &hosted, forge).await);
    }
    projects
}

fn headers_of(forge: Forge) -> (&'static str, &'static str, &'static str) {
    match forge {
        Forge::GitHub => ("x-github-event", "push", "x-hub-signature-256"),
        Forge::GitLab => ("x-gitlab-event", "Push Hook", "x-gitlab-token"),
        Forge::Gitea => ("x-gitea-event", "push", "x-gitea-signature"),
        Forge::Forgejo => ("x-forgejo-event", "push", "x-forgejo-signature"),
        Forge::Bitbucket | Forge::BitbucketDc => ("x-event-key", "repo:push", "x-hub-signature"),
        Forge::Generic => ("x-any", "x", "authorization"),
    }
}

fn proof(forge: Forge, secret: &str, body: &[u8]) -> String {
    match forge {
        Forge::GitLab => secret.to_owned(),
        Forge::Generic => format!("Bearer {secret}"),
        Forge::Gitea | Forge::Forgejo => hmac(secret, body),
        _ => format!("sha256={}", hmac(secret, body)),
    }
}

fn hostile(farm: &Farm, proposed: &Proposed, projects: &[AddedProject]) -> Vec<Hostile> {
    let good = push(&proposed.hosted, "main", &proposed.main, &proposed.main).to_string().into_bytes();
    let mut all = Vec::new();
    for added in projects {
        forged(added, &good, &projects[0].secret, &mut all);
        malformed(added, &mut all);
    }
    let github = &projects[0];
    let at = |path: &str| format!("http://{}{path}", farm.config.listen);
    let mut to = |what: &str, url: String, expect: u16| {
        let signature = format!("sha256={}", hmac(&github.secret, &good));
        let headers = vec![("x-github-event", "push".to_owned()), ("x-hub-signature-256", signature)];
        all.push(Hostile { what: what.to_owned(), url, headers, body: good.clone(), expect });
    };
    let key = github.project.hook_url.rsplit('/').next().unwrap();
    to("no such forge", at("/hooks/svn"), 404);
    to("no such forge, with a key", at(&format!("/hooks/svn/{key}")), 404);
    to("no forge at all", at("/hooks/"), 404);
    to("a longer path", at(&format!("/hooks/github/{key}/more")), 404);
    to("no such project", at("/hooks/github/AAAAAAAAAAAAAAAA"), 401);
    to("a key without end", at(&format!("/hooks/github/{}", "A".repeat(5000))), 401);
    to("a key of odd letters", at("/hooks/github/%00%ff%27%3b--"), 404);
    to("a key of quotes", at("/hooks/github/%27%3b--"), 401);
    to("another forge's address", at(&format!("/hooks/gitlab/{key}")), 401);
    to("the API, without its token", at("/api/v1/projects"), 401);
    to("redelivery, without the token", at("/api/v1/deliveries/1/redeliver"), 401);
    all
}

/// Whoever does not prove to have the secret, in every way.
fn forged(added: &AddedProject, body: &[u8], of_another: &str, all: &mut Vec<Hostile>) {
    let forge = added.project.forge;
    let (event, kind, proves) = headers_of(forge);
    let right = proof(forge, &added.secret, body);
    let mut cases = vec![
        ("nothing", None),
        ("an empty proof", Some(String::new())),
        ("a proof of another secret", Some(proof(forge, "0123456789abcdef", body))),
        ("the proof without its end", Some(right[..right.len() - 1].to_owned())),
        ("the proof twice", Some(format!("{right}{right}"))),
        ("not even letters", Some("sha256=\u{7f}~~".replace('\u{7f}', "!"))),
    ];
    if forge != Forge::GitHub {
        cases.push(("the secret of another project", Some(proof(forge, of_another, body))));
    }
    if !matches!(forge, Forge::GitLab | Forge::Generic) {
        cases.push(("the proof of other bytes", Some(proof(forge, &added.secret, b"{}"))));
        cases.push(("the secret itself", Some(added.secret.clone())));
    }
    for (what, proof) in cases {
        let mut headers = vec![(event, kind.to_owned())];
        headers.extend(proof.map(|proof| (proves, proof)));
        let (what, url) = (format!("{forge}: {what}"), added.project.hook_url.clone());
        all.push(Hostile { what, url, headers, body: body.to_vec(), expect: 401 });
    }
}

/// Whoever has the secret, and sends what is none, or too much.
fn malformed(added: &AddedProject, all: &mut Vec<Hostile>) {
    let forge = added.project.forge;
    let (event, kind, proves) = headers_of(forge);
    let (deep, large) = (vec![b'['; 200_000], vec![b' '; (25 << 20) + 1]);
    for (what, body, expect) in [
        ("no JSON", b"nonsense".to_vec(), 400),
        ("nothing", Vec::new(), 400),
        ("bytes of no text", vec![0xff, 0xfe, 0], 400),
        ("a list", b"[1, 2]".to_vec(), 400),
        ("depth without end", deep, 400),
        ("more than there is room for", large, 413),
    ] {
        let mut headers = vec![(event, kind.to_owned()), (proves, proof(forge, &added.secret, &body))];
        if forge == Forge::Bitbucket {
            // By which the cloud is told from a server of one's own.
            headers.push(("x-hook-uuid", "1".to_owned()));
        }
        let (what, url) = (format!("{forge}: {what}"), added.project.hook_url.clone());
        all.push(Hostile { what, url, headers, body, expect });
    }
}

#[tokio::test]
async fn for_how_long_builds_are_kept_a_project_says_before_the_farm() {
    in_memory(async |farm| {
        farm.config.keeps = Keeps { builds: Some(50), logs_days: Some(30), ..Keeps::default() };
        farm.start_coordinator().await;
        let server = SmartHttp::start().await;
        let hosted = server.make("ada/cronline");
        let keeps = ProjectKeeps { builds: Some(Keep::Last(5)), ..ProjectKeeps::default() };
        let new = NewProject { forge: Some(Forge::Generic), keeps, ..NewProject::new(hosted.url.clone()) };
        let client = &farm.api().client;
        let added = client.add_project(&new).await.unwrap().project;
        assert_eq!((added.keeps, added.kept), (keeps, Keeps { builds: Some(5), ..farm.config.keeps }));
        let change = async |keeps| {
            let change = ChangeProject { keeps, ..ChangeProject::default() };
            client.change_project(&added.identity, &change).await
        };
        let logs = ProjectKeeps { logs_days: Some(Keep::All), ..ProjectKeeps::default() };
        let changed = change(logs).await.unwrap();
        assert_eq!(changed.kept, Keeps { builds: Some(5), ..Keeps::default() }, "what is not said stays");
        let storage = client.storage().await.unwrap();
        assert_eq!((storage.keeps, storage.projects.len()), (farm.config.keeps, 1));
        assert_eq!((&storage.projects[0].project, storage.projects[0].keeps), (&added.identity, changed.kept));
        let none = ProjectKeeps { builds: Some(Keep::Last(0)), ..ProjectKeeps::default() };
        assert!(change(none).await.unwrap_err().to_string().contains("at least one build"));
        let back = ProjectKeeps { builds: Some(Keep::Farm), logs_days: Some(Keep::Farm), ..ProjectKeeps::default() };
        let changed = change(back).await.unwrap();
        assert_eq!((changed.keeps, changed.kept), (ProjectKeeps::default(), farm.config.keeps));
        assert!(client.storage().await.unwrap().projects.is_empty());
    })
    .await;
}
