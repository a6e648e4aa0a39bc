//! The API over a real listener.

mod artifacts;
mod document;
mod logs;
mod measures;
mod pages;

use protocol::api::{Audit, AuditEntry, BuildView, Builds, Follow, MadeToken, Problem, Role, Submit, TokenView, Why};
use protocol::outcome::Ending;
use protocol::report::JobEvent;
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::testing::{Farm, soon};

/// Says a request as it stands, and gives status, head and body of the answer.
async fn ask(farm: &Farm, request: &str, headers: &str, body: &str) -> (u16, String, String) {
    ask_as(farm, "localhost", request, headers, body).await
}

/// The same by another name of the server.
async fn ask_as(farm: &Farm, host: &str, request: &str, headers: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(farm.address).await.unwrap();
    let length = body.len();
    let text = format!(
        "{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon("an answer", stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
    (status, head.to_owned(), body)
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

fn writer(folder: &TempDir) -> String {
    format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", api_token(folder.path()).unwrap())
}

#[track_caller]
fn check_refused((status, head, body): &(u16, String, String), expect: u16, sentence: &str) {
    let problem: Problem = serde_json::from_str(body).unwrap_or_else(|_| panic!("{body:?} is no problem"));
    assert!(head.contains("content-type: application/problem+json\r\n"), "{head}");
    let Problem { kind, title, status: told, detail, error } = problem;
    assert_eq!((*status, told, kind.as_str(), &detail), (expect, expect, "about:blank", &error), "{error}");
    assert!(!title.is_empty(), "{error}");
    assert!(error.contains(sentence), "{error}");
}

#[tokio::test]
async fn every_refusal_is_a_sentence() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let w = writer(&folder);
    let submit = r#"{"repo": "https://example.org/x"}"#;
    let long = format!(r#"{{"repo": "{}"}}"#, "x".repeat(BODY_LIMIT));
    for (request, headers, body, status, sentence) in [
        ("POST /api/v1/builds", "", submit, 401, "Bearer"),
        ("POST /api/v1/builds", w.as_str(), "{", 400, "cannot be read"),
        ("POST /api/v1/builds", &w, r#"{"repo": "ext::sh -c id"}"#, 400, "cannot be read"),
        ("POST /api/v1/builds", &w, r#"{"repo": "https://e.org/x", "brunch": "x"}"#, 400, "brunch"),
        ("POST /api/v1/builds", &w, r#"{"repo": "/srv/x"}"#, 422, "--local-repos"),
        ("POST /api/v1/builds", &w, &long, 413, ""),
        ("GET /api/v1/builds?limit=x", "", "", 400, ""),
        ("GET /api/v1/builds/7", "", "", 404, "no build #7"),
        ("GET /api/v1/builds/x", "", "", 400, "not a build's number"),
        ("GET /api/v1/builds/7/follow", "", "", 404, "no build #7"),
        ("GET /api/v1/builds/7/logs/x", "", "", 404, "no build #7"),
        ("POST /api/v1/builds/7/cancel", &w, "{}", 404, "no build #7"),
        ("POST /api/v1/builds/7/cancel", &w, "null", 404, "no build #7"),
        ("POST /api/v1/builds/7/cancel", &w, "[]", 400, "send an object"),
        ("POST /api/v1/builds", &w, r#" ["https://e.org/x", "main"]"#, 400, "send an object"),
        (
            "POST /api/v1/tokens",
            &w,
            r#"{"name": "x", "role": "viewer", "for_ms": 3155760000001}"#,
            400,
            "hundred years",
        ),
        ("POST /api/v1/agents/none/approve", &w, r#"{"fingerprint": "x"}"#, 404, "no agent called none"),
        ("POST /api/v1/agents/none/approve", &w, "{}", 400, "fingerprint"),
        ("POST /api/v1/agents/a.b/approve", &w, "", 400, "agent's name"),
        ("GET /api/v1/agents/none", "", "", 404, "no agent called none"),
        ("POST /api/v1/agents/none/pause", &w, "", 404, "no agent called none"),
        ("POST /api/v1/agents/none/pause", &w, r#"{"nose": "x"}"#, 400, "nose"),
        ("POST /api/v1/agents/none/resume", &w, "", 404, "no agent called none"),
        ("POST /api/v1/agents/none/revoke", &w, "", 404, "no agent called none"),
        ("POST /api/v1/agents/none/forget", &w, "", 404, "no agent called none"),
        ("POST /api/v1/agents/none/pause", "", "", 401, "Bearer"),
        ("GET /api/v1/builds/7/why", "", "", 404, "no build #7"),
        ("GET /api/v1/builds/7/timeline", "", "", 404, "no build #7"),
        ("GET /api/v1/builds?branch=a..b", "", "", 400, ""),
        ("GET /api/v1/why", "", "", 404, "no build yet"),
        ("GET /api/v1/nothing", "", "", 404, "nothing at this path"),
        ("DELETE /api/v1/builds", &w, "", 405, "method"),
    ] {
        check_refused(&ask(&farm, request, headers, body).await, status, sentence);
    }
    farm.stop().await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_kept_is_refused_with_a_sentence() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let w = writer(&folder);
    for (request, headers, body, status, sentence) in [
        ("GET /api/v1/secrets", "", "", 401, "sign in"),
        ("POST /api/v1/secrets", w.as_str(), r#"{"name": "T", "value": "s3cret"}"#, 400, "or `all`"),
        (
            "POST /api/v1/secrets",
            w.as_str(),
            r#"{"name": "T", "value": "s3cret", "all": true, "project": "https://e.org/x"}"#,
            400,
            "or `all`",
        ),
        (
            "POST /api/v1/secrets",
            w.as_str(),
            r#"{"name": "T", "value": "s3", "all": true}"#,
            400,
            "too few to be masked",
        ),
        ("POST /api/v1/secrets", w.as_str(), r#"{"name": "T", "value": "s3cret\u0000", "all": true}"#, 400, "NUL"),
        (
            "POST /api/v1/secrets",
            w.as_str(),
            r#"{"name": "a b", "value": "s3cret", "all": true}"#,
            400,
            "cannot name a secret",
        ),
        ("POST /api/v1/secrets", w.as_str(), r#"{"name": "CI", "value": "s3cret", "all": true}"#, 400, "buildr's own"),
        (
            "POST /api/v1/secrets",
            w.as_str(),
            r#"{"name": "T", "value": "s3cret", "all": true, "branch": "a b"}"#,
            400,
            "pattern",
        ),
        (
            "POST /api/v1/secrets",
            w.as_str(),
            r#"{"name": "T", "value": "s3cret", "all": true, "events": ["x"]}"#,
            400,
            "unknown variant",
        ),
        ("POST /api/v1/secrets/remove", w.as_str(), r#"{"name": "T", "all": true}"#, 404, "no secret T"),
    ] {
        check_refused(&ask(&farm, request, headers, body).await, status, sentence);
    }
    farm.stop().await;
}

#[tokio::test]
async fn a_build_through_the_api() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let body = serde_json::to_string(&Submit::new("https://u:pw@example.org/x".parse().unwrap(), None));
    let (status, _, answer) = ask(&farm, "POST /api/v1/builds", &writer(&folder), &body.unwrap()).await;
    let view: BuildView = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, view.build.number.0), (201, 1));
    assert!(!answer.contains("pw"), "{answer}");
    assert!(view.build.message.unwrap().contains("start one with `buildr agent`"));
    let agent = farm.agent("a1").await;
    let (claimed, _) = agent.work(&farm).await;
    agent.log(claimed.claim, "test", 0, "<b>hello</b>\n").await;
    agent.hear_kept(claimed.claim).await;
    agent.happened(claimed.claim, JobEvent::LogComplete { log: "test".parse().unwrap(), total: 13 }).await;
    agent.finish(claimed.claim, Ending::passed()).await;
    let (_, head, log) = ask(&farm, "GET /api/v1/builds/1/logs/test?from=3&follow=false", "", "").await;
    assert_eq!(log, "hello</b>\n");
    assert!(head.contains("application/octet-stream") && head.contains("nosniff"), "{head}");
    assert_eq!(ask(&farm, "GET /api/v1/builds/1/logs/test?follow=true", "", "").await.2.len(), 13);
    check_refused(&ask(&farm, "GET /api/v1/builds/1/logs/other", "", "").await, 404, "it has: test");
    let (_, _, page) = ask(&farm, "GET /builds/1", "", "").await;
    assert!(page.contains("&lt;b&gt;hello") && !page.contains("<b>hello") && page.contains("passed"), "{page}");
    let (_, _, page) = ask(&farm, "GET /", "", "").await;
    assert!(page.contains("/builds/1") && !page.contains("pw"), "{page}");
    let (_, _, agents) = ask(&farm, "GET /api/v1/agents", "", "").await;
    assert!(agents.contains(r#""name":"a1""#) && !agents.contains(&claimed.claim.reveal()), "{agents}");
    let (status, _, answer) = ask(&farm, "POST /api/v1/builds/1/cancel", &writer(&folder), "").await;
    assert!(status == 200 && answer.contains("was over already"), "{answer}");
    assert_eq!(ask(&farm, "GET /api/v1/health", "", "").await.0, 200);
    farm.stop().await;
}

#[tokio::test]
async fn builds_come_in_pages() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    for _ in 0..5 {
        farm.submit().await;
    }
    let page = async |query: &str| {
        let (_, _, body) = ask(&farm, &format!("GET /api/v1/builds?{query}"), "", "").await;
        let Builds { builds, next } = serde_json::from_str(&body).unwrap();
        let numbers: Vec<u64> = builds.iter().map(|build| build.number.0).collect();
        (numbers, next.map(|next| next.0))
    };
    assert_eq!(page("limit=2").await, (vec![5, 4], Some(4)));
    assert_eq!(page("limit=2&before=4").await, (vec![3, 2], Some(2)));
    assert_eq!(page("limit=2&before=2").await, (vec![1], None));
    assert_eq!(page("status=passed").await, (vec![], None));
    assert_eq!(page("status=queued&limit=9").await.0.len(), 5);
    farm.stop().await;
}

#[tokio::test]
async fn following_ends_with_the_build_and_its_logs() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let build = farm.submit().await;
    let follow = ask(&farm, "GET /api/v1/builds/1/follow", "", "");
    let work = async {
        let (claimed, _) = agent.work(&farm).await;
        let claim = claimed.claim;
        agent.log(claim, "test", 0, "one ").await;
        agent.hear_kept(claim).await;
        agent.happened(claim, JobEvent::LogComplete { log: "test".parse().unwrap(), total: 7 }).await;
        // The build's end does not wait for its log.
        agent.finish(claim, Ending::passed()).await;
        farm.until_status(build, "passed").await;
        agent.log(claim, "test", 4, "two").await;
        agent.hear_kept(claim).await;
    };
    let ((_, _, body), ()) = tokio::join!(follow, work);
    let mut log = Vec::new();
    let mut statuses = Vec::new();
    let mut ended = false;
    for line in body.lines().filter(|line| !line.is_empty()) {
        assert!(!ended, "nothing comes behind the end");
        match serde_json::from_str(line).unwrap() {
            Follow::Build { view } => statuses.push(view.build.status.name()),
            Follow::Log { offset, base64, .. } => {
                use base64::Engine as _;
                assert_eq!(offset, log.len() as u64);
                log.extend(base64::engine::general_purpose::STANDARD.decode(base64).unwrap());
            }
            Follow::End => ended = true,
            Follow::Unknown => panic!("{line}"),
        }
    }
    assert!(ended);
    assert_eq!(log, b"one two");
    assert_eq!(statuses.last(), Some(&"passed"));
    farm.stop().await;
}

#[tokio::test]
async fn following_ends_when_the_coordinator_does() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    farm.submit().await;
    let mut stream = TcpStream::connect(farm.address).await.unwrap();
    stream.write_all(b"GET /api/v1/builds/1/follow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut first = [0; 16];
    soon("the first bytes", stream.read_exact(&mut first)).await.unwrap();
    farm.stop().await;
    let mut rest = Vec::new();
    soon("the end", stream.read_to_end(&mut rest)).await.unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains("\"end\""), "the build is not over");
}

/// The cookie that an answer sets.
#[track_caller]
fn cookie_of(head: &str) -> String {
    let line = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap_or_else(|| panic!("{head}"));
    line.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn signing_in_gives_a_cookie_and_out_takes_it() {
    let folder = tempdir().unwrap();
    // From elsewhere looking needs it.
    let farm = Farm::with(&folder, |config| config.public_url = Some("https://ci.example".to_owned())).await;
    let token = api_token(folder.path()).unwrap();
    let (status, head, _) = ask(&farm, &format!("GET /?token={token}"), "", "").await;
    assert_eq!(status, 303);
    assert!(head.contains("HttpOnly; SameSite=Strict") && !head.contains(&token), "{head}");
    assert!(head.contains("location: /\r"), "{head}");
    let (status, _, page) = ask(&farm, "GET /?token=wrong", "", "").await;
    assert!(status == 401 && page.contains("no token of this farm"), "{page}");
    let (status, _, page) = ask(&farm, "GET /sign-in?to=/builds/1", "", "").await;
    assert!(status == 200 && page.contains("action=\"/sign-in\"") && page.contains("value=\"/builds/1\""), "{page}");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let body = format!("token={token}&to=%2Fbuilds%2F1");
    let evil = format!("{form}Origin: https://evil.example\r\n");
    assert_eq!(ask(&farm, "POST /sign-in", &evil, &body).await.0, 403);
    assert_eq!(ask(&farm, "POST /sign-in", form, "token=wrong").await.0, 401);
    let (status, head, _) = ask(&farm, "POST /sign-in", form, &body).await;
    assert!(status == 303 && head.contains("location: /builds/1\r"), "{head}");
    let cookie = cookie_of(&head);
    let with = format!("Cookie: {cookie}\r\n{form}");
    assert_eq!(ask(&farm, "GET /api/v1/tokens", &with, "").await.0, 200);
    check_refused(&ask(&farm, "POST /sign-out", &with, "csrf=x").await, 403, "load the page again");
    let csrf = access::csrf_of(cookie.split_once('=').unwrap().1);
    let (status, head, _) = ask(&farm, "POST /sign-out", &with, &format!("csrf={csrf}")).await;
    assert!(status == 303 && head.contains("Max-Age=0"), "{head}");
    assert_eq!(ask(&farm, "GET /api/v1/tokens", &with, "").await.0, 401);
    farm.stop().await;
}

#[tokio::test]
async fn who_may_not_look_is_asked_to_sign_in() {
    let folder = tempdir().unwrap();
    let farm = Farm::with(&folder, |config| config.public_url = Some("https://ci.example".to_owned())).await;
    let html = "Accept: text/html,*/*;q=0.8\r\n";
    let (status, head, page) = ask_as(&farm, "ci.example", "GET /builds/7?x=1", html, "").await;
    assert!(status == 401 && page.contains("<form") && page.contains("value=\"/builds/7?x=1\""), "{page}");
    assert!(head.contains("script-src 'self'") && head.contains("cache-control: no-store"), "{head}");
    let answer = ask_as(&farm, "ci.example", "GET /api/v1/builds", html, "").await;
    check_refused(&answer, 401, "/sign-in");
    let (_, head, _) =
        ask_as(&farm, "ci.example", &format!("GET /?token={}", api_token(folder.path()).unwrap()), "", "").await;
    assert!(head.contains("; Secure"), "what is reached by https keeps its cookie there: {head}");
    farm.stop().await;
}

/// Who did what, the oldest first, read in two pages.
async fn told(farm: &Farm, w: &str) -> Vec<String> {
    let mut entries = Vec::new();
    let mut before = String::new();
    loop {
        let (_, _, page) = ask(farm, &format!("GET /api/v1/audit?limit=5{before}"), w, "").await;
        let Audit { entries: more, next } = serde_json::from_str(&page).unwrap();
        assert!(more.len() <= 5 && more.iter().all(|entry| entry.address == "127.0.0.1" && entry.at_ms > 0), "{page}");
        entries.splice(0..0, more.into_iter().rev());
        let Some(next) = next else { break };
        before = format!("&before={next}");
    }
    let line = |it: &AuditEntry| {
        format!("{} {} {} {} {}", it.who, it.said.as_deref().unwrap_or("-"), it.method, it.path, it.status)
    };
    entries.iter().map(line).collect()
}

#[tokio::test]
async fn a_token_through_the_api_and_who_did_what() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let w = writer(&folder);
    let asked = format!("{w}X-Buildr-By: ada@laptop\r\n");
    let body = r#"{"name": "ci", "role": "developer", "for_ms": 90000000}"#;
    let (status, _, answer) = ask(&farm, "POST /api/v1/tokens", &asked, body).await;
    let MadeToken { token, view } = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, view.role, view.made_by.as_str()), (201, Role::Developer, "start token"));
    assert!(token.starts_with(&view.prefix) && token.len() > view.prefix.len() + 30, "{token}");
    for (body, status, sentence) in [
        (body, 409, "buildr token revoke ci"),
        (r#"{"name": "a b", "role": "viewer"}"#, 400, "cannot name a token"),
        (r#"{"name": "x", "role": "root"}"#, 400, "cannot be read"),
        (r#"{"name": "x", "role": "viewer", "for_ms": 5}"#, 400, "such as 90d"),
    ] {
        check_refused(&ask(&farm, "POST /api/v1/tokens", &w, body).await, status, sentence);
    }
    let own =
        format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\nX-Buildr-By: somebody@else\r\n");
    assert_eq!(ask(&farm, "POST /api/v1/builds", &own, r#"{"repo": "https://example.org/x"}"#).await.0, 201);
    let (_, _, why) = ask(&farm, "GET /api/v1/builds/1/why", "", "").await;
    let why: Why = serde_json::from_str(&why).unwrap();
    assert_eq!(why.by.as_deref(), Some("ci"), "the token's name, and not what the client says of itself");
    let refused = ask(&farm, "POST /api/v1/agents/oak/pause", &own, "").await;
    check_refused(&refused, 403, "needs a token of the role admin, and ci has the role developer");
    check_refused(&ask(&farm, "GET /api/v1/audit", &own, "").await, 403, "role admin");
    check_refused(&ask(&farm, "POST /api/v1/builds", "", "{}").await, 401, "Bearer");
    let (_, _, all) = ask(&farm, "GET /api/v1/tokens", &w, "").await;
    assert!(!all.contains(&token), "{all}");
    let all: Vec<TokenView> = serde_json::from_str(&all).unwrap();
    assert!(all[0].used_ms.is_some() && all[0].expires_ms.is_some(), "{all:?}");
    assert_eq!(ask(&farm, "POST /api/v1/tokens/ci/revoke", &w, "").await.0, 200);
    check_refused(&ask(&farm, "POST /api/v1/tokens/ci/revoke", &w, "").await, 404, "no token called");
    check_refused(&ask(&farm, "POST /api/v1/builds", &own, "{}").await, 403, "was revoked");

    let told = told(&farm, &w).await;
    assert_eq!(
        told,
        [
            "start token ada@laptop POST /api/v1/tokens 201",
            "start token - POST /api/v1/tokens 409",
            "start token - POST /api/v1/tokens 400",
            "start token - POST /api/v1/tokens 400",
            "start token - POST /api/v1/tokens 400",
            "ci - POST /api/v1/builds 201",
            "ci - POST /api/v1/agents/oak/pause 403",
            "ci - GET /api/v1/audit 403",
            "start token - POST /api/v1/tokens/ci/revoke 200",
            "start token - POST /api/v1/tokens/ci/revoke 404",
        ]
    );
    farm.stop().await;
}

#[tokio::test]
async fn the_command_line_finds_the_token_as_long_as_the_coordinator_lives() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let port = farm.address.port();
    // An answer shows that the API is up, and so the token in its place.
    ask(&farm, "GET /api/v1/health", "", "").await;
    assert_eq!(folders::read_token(port).unwrap(), Some(api_token(folder.path()).unwrap()));
    farm.stop().await;
    assert_eq!(folders::read_token(port).unwrap(), None);
}

#[tokio::test]
async fn artifacts_travel_with_a_current_claim_and_never_without() {
    use buildr::carry::{self, Collected, Shelf};
    use protocol::plan::{Artifacts, Kept};

    let folder = tempdir().unwrap();
    let farm = Farm::with(&folder, |config| config.artifact_limit = 4096).await;
    let agent = farm.agent("a").await;
    farm.submit().await;
    let (claimed, grant) = agent.work(&farm).await;
    let depot = grant.order.depot.clone().expect("a grant names the depot");

    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("work/dist")).unwrap();
    std::fs::write(at("work/dist/app"), "the program").unwrap();
    let collect = |glob: &str| {
        let paths = vec![glob.to_owned()];
        let what = Artifacts { paths, exclude: Vec::new(), when: Default::default(), expire_ms: None };
        carry::collect(&at("work"), &what, &at("new"), &|| false).unwrap().unwrap()
    };
    let collected = collect("dist");
    let kept = |collected: &Collected| Kept {
        job: "build".parse().unwrap(),
        stage: "package".parse().unwrap(),
        files: collected.files,
        bytes: collected.bytes,
        sha256: collected.sha256.clone(),
        after: None,
    };
    let shelf = Shelf::Farm(depot.clone());
    let gone = shelf.fetch(&kept(&collected), &at("fetched")).await.unwrap_err().to_string();
    assert!(gone.contains("not kept any more"), "{gone}");
    shelf.put(&collected).await.unwrap();
    shelf.put(&collected).await.expect("what is there already is not sent again");
    let archive = shelf.fetch(&kept(&collected), &at("fetched")).await.unwrap();
    assert_eq!(carry::restore(&archive, &at("fetched")).unwrap(), 1);
    assert_eq!(std::fs::read_to_string(at("fetched/dist/app")).unwrap(), "the program");

    // Bytes under another's name, and more than is allowed.
    let renamed = Collected { sha256: "0".repeat(64), ..collected.clone() };
    let refused = shelf.put(&renamed).await.unwrap_err().to_string();
    assert!(refused.contains("not what their name says"), "{refused}");
    let noise: Vec<u8> = (0..20_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(at("work/noise"), noise).unwrap();
    let refused = shelf.put(&collect("noise")).await.unwrap_err().to_string();
    assert!(refused.contains("at most"), "{refused}");
    let left: Vec<_> = std::fs::read_dir(at("artifacts/1")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, [std::ffi::OsString::from(&collected.sha256)], "nothing half stays");

    let kept_for = JobEvent::ArtifactsKept {
        stage: "package".parse().unwrap(),
        files: collected.files,
        bytes: collected.bytes,
        sha256: collected.sha256.clone(),
        expire_ms: Some(1000),
    };
    agent.happened(claimed.claim, kept_for).await;

    let forged = protocol::job::Depot { token: format!("{}x", depot.token), ..depot };
    for (who, shelf) in [("a forged token", Shelf::Farm(forged)), ("the token of a claim that is over", shelf)] {
        if who.contains("over") {
            agent.finish(claimed.claim, Ending::passed()).await;
        }
        let refused = shelf.fetch(&kept(&collected), &at("fetched")).await;
        assert!(refused.is_err(), "{who}");
    }
    expires(&farm, &at("artifacts/1").join(&collected.sha256)).await;
    farm.stop().await;
}

/// An archive that is kept for a second goes when that is over, and once.
async fn expires(farm: &Farm, archive: &Path) {
    let now = buildr::process::clock::now_ms();
    assert_eq!(crate::expiry::sweep(&farm.desk, now - 60_000).await.unwrap(), 0, "its time is not over");
    assert!(archive.exists());
    assert_eq!(crate::expiry::sweep(&farm.desk, now + 60_000).await.unwrap(), 1);
    assert!(!archive.exists());
    assert_eq!(crate::expiry::sweep(&farm.desk, now + 60_000).await.unwrap(), 0, "once");
}

#[tokio::test]
async fn a_list_of_one_repository_and_branch() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let w = writer(&folder);
    for (repo, branch) in [("x", "main"), ("x", "next"), ("y", "main"), ("x", "main")] {
        let body = format!(r#"{{"repo": "https://example.org/{repo}", "branch": "{branch}"}}"#);
        assert_eq!(ask(&farm, "POST /api/v1/builds", &w, &body).await.0, 201);
    }
    for (query, expect) in [
        ("", &[4, 3, 2, 1][..]),
        ("&repo=https%3A%2F%2Fexample.org%2Fx", &[4, 2, 1]),
        ("&repo=https%3A%2F%2Fexample.org%2Fx&branch=main", &[4, 1]),
        ("&repo=https%3A%2F%2Fexample.org%2Fx&branch=main&status=queued&before=4", &[1]),
        ("&branch=next", &[2]),
        ("&repo=https%3A%2F%2Fexample.org%2F", &[]),
    ] {
        let (status, _, body) = ask(&farm, &format!("GET /api/v1/builds?limit=10{query}"), "", "").await;
        let found: Builds = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body}"));
        let numbers: Vec<u64> = found.builds.iter().map(|build| build.number.0).collect();
        assert_eq!(numbers, expect, "{query}");
    }
}
