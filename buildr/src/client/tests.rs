//! The client against a farm whose answers are written down.

use super::testing::{Close, answer, serve, stream};
use super::*;

fn view(status: &str) -> String {
    format!(
        r#"{{"build":{{"number":7,"repo":"https://x/y","branch":"main","commit":null,"subject":null,"trigger":"manual",
        "status":"{status}","message":null,"created_ms":1,"started_ms":null,"ended_ms":null}},
        "exit_code":null,"attempts":[]}}"#
    )
    .replace('\n', "")
}

fn log(offset: u64, text: &str) -> String {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD.encode(text);
    format!(r#"{{"follow":"log","attempt":1,"log":"test","offset":{offset},"base64":"{base64}"}}"#) + "\n"
}

fn build(status: &str) -> String {
    format!(r#"{{"follow":"build","view":{}}}"#, view(status)) + "\n"
}

const END: &str = "{\"follow\":\"end\"}\n";

/// What a follower is told, in short.
async fn told(answers: Vec<Vec<Vec<u8>>>) -> Vec<String> {
    let (url, serving) = serve(answers).await;
    let mut following = Farm::new(url, None).unwrap().follow(BuildNumber(7));
    let mut told = Vec::new();
    while let Some(next) = following.next().await.unwrap() {
        told.push(match next {
            Followed::Build(view) => view.build.status.name().to_owned(),
            Followed::Log { offset, missing: 0, bytes, .. } => format!("{offset}:{}", String::from_utf8_lossy(&bytes)),
            Followed::Log { missing, offset, .. } => format!("{missing} missing before {offset}"),
            Followed::Interrupted { .. } => "interrupted".to_owned(),
        });
    }
    serving.await.unwrap();
    told
}

#[tokio::test]
async fn a_stream_may_be_cut_into_parts_anywhere() {
    let text =
        [&build("running"), "\n", &log(0, "one\ntwo"), "{\"follow\":\"newer\"}\n", &build("passed"), END].concat();
    for size in [1, 7, 64, text.len()] {
        let parts: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
        assert_eq!(
            told(vec![stream(&parts, Close::Whole)]).await,
            ["running", "0:one\ntwo", "passed"],
            "parts of {size}"
        );
    }
}

#[tokio::test]
async fn a_broken_stream_is_taken_up_where_it_broke() {
    let (first, again) = (log(0, "one "), log(0, "one two "));
    let half = log(4, "two ");
    let broken = stream(&[build("running").as_bytes(), first.as_bytes(), &half.as_bytes()[..20]], Close::Broken);
    // Closed as if it were whole, but without its last word.
    let closed = stream(&[build("running").as_bytes(), again.as_bytes()], Close::Whole);
    let whole = [build("running"), log(0, "one "), log(4, "two "), log(8, "three"), build("passed"), END.to_owned()];
    let parts: Vec<&[u8]> = whole.iter().map(String::as_bytes).collect();
    assert_eq!(
        told(vec![broken, closed, stream(&parts, Close::Whole)]).await,
        ["running", "0:one ", "interrupted", "running", "4:two ", "interrupted", "running", "8:three", "passed"]
    );
}

#[tokio::test]
async fn a_gap_is_told() {
    let lines = [log(0, "one"), log(10, "ten"), END.to_owned()].concat();
    assert_eq!(told(vec![stream(&[lines.as_bytes()], Close::Whole)]).await, ["0:one", "7 missing before 10"]);
}

#[tokio::test]
async fn a_build_that_is_not_there_is_not_asked_for_again() {
    let (url, serving) = serve(vec![answer("404 Not Found", "", r#"{"error":"there is no build #7"}"#)]).await;
    let error = Farm::new(url, None).unwrap().follow(BuildNumber(7)).next().await.unwrap_err();
    assert_eq!(error.to_string(), "there is no build #7");
    assert!(!error.may_pass());
    serving.await.unwrap();
}

/// What the client says to an answer.
async fn refusal(status: &str, more: &str, body: &str, token: Option<&str>) -> (String, Option<String>) {
    let (url, serving) = serve(vec![answer(status, more, body)]).await;
    let error = Farm::new(url.clone(), token.map(str::to_owned)).unwrap().agents().await.unwrap_err();
    serving.await.unwrap();
    let text = error.to_string().replace(url.as_str().trim_end_matches('/'), "SERVER");
    (text, error.advice())
}

#[tokio::test]
async fn answers_that_are_no_good_are_sentences() {
    let check = async |status, more, body, token, expect: &str| {
        let (text, advice) = refusal(status, more, body, token).await;
        let all = format!("{text}; {}", advice.unwrap_or_default());
        assert!(all.starts_with(expect), "{all}");
    };
    let apart = "; pass the farm's token with BUILDR_TOKEN or --token; on the farm's own machine";
    let missing = format!("the farm at SERVER asks for a token, and none is known here{apart}");
    check("401 Unauthorized", "", "{}", None, &missing).await;
    let refused = format!("the farm at SERVER does not know the token that it was given{apart}");
    check("401 Unauthorized", "", "{}", Some("old"), &refused).await;
    check("409 Conflict", "", r#"{"error":"it is over"}"#, None, "it is over; ").await;
    let problem =
        r#"{"type":"about:blank","title":"Conflict","status":409,"detail":"it is over","error":"it is over"}"#;
    check("409 Conflict", "", problem, None, "it is over; ").await;
    check("502 Bad Gateway", "", r#"{"detail":"no upstream"}"#, None, "no upstream").await;
    let foreign = "what answers at SERVER is not a buildr farm of this version (status 404 Not Found;";
    check("404 Not Found", "", "<html>", None, foreign).await;
    let unreadable = "what answers at SERVER is not a buildr farm of this version (invalid type: map";
    check("200 OK", "", "{}", None, unreadable).await;
    let moved = "the server at SERVER sends on to https://elsewhere/; if that is the farm";
    check("301 Moved Permanently", "location: https://elsewhere/\r\n", "", None, moved).await;
}

#[tokio::test]
async fn nobody_there_says_how_to_start_one() {
    // Nobody listens there.
    let port = 1;
    let error =
        Farm::new(format!("http://127.0.0.1:{port}").parse().unwrap(), None).unwrap().agents().await.unwrap_err();
    assert_eq!(error.to_string(), format!("no farm answers at http://127.0.0.1:{port} (connection refused)"));
    assert!(error.advice().unwrap().contains("`buildr up`"));
    assert!(error.may_pass());
}

#[tokio::test]
async fn what_is_asked_is_as_the_api_has_it() {
    let answers = vec![
        answer("201 Created", "", &view("queued")),
        answer("200 OK", "", r#"{"builds":[],"next":null}"#),
        answer("200 OK", "", r#"{"status":"cancelling","message":"told"}"#),
    ];
    let (url, serving) = serve(answers).await;
    let farm = Farm::new(url.join("/farm/").unwrap(), Some("secret".to_owned())).unwrap();
    let order = Submit::new("https://x/y".parse().unwrap(), Some("main".parse().unwrap()));
    assert_eq!(farm.submit(&order).await.unwrap().build.number, BuildNumber(7));
    farm.builds(Some(BuildNumber(20)), 5).await.unwrap();
    farm.cancel(BuildNumber(7), Some("wrong branch".to_owned())).await.unwrap();
    let asked = serving.await.unwrap();
    assert!(asked[0].starts_with("POST /farm/api/v1/builds HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[0].ends_with(r#"{"repo":"https://x/y","branch":"main"}"#), "{}", asked[0]);
    assert!(
        asked[0].contains("authorization: Bearer secret\r\n") && asked[0].contains("content-type: application/json")
    );
    assert!(asked[1].starts_with("GET /farm/api/v1/builds?limit=5&before=20 "), "{}", asked[1]);
    assert!(asked[2].starts_with("POST /farm/api/v1/builds/7/cancel "), "{}", asked[2]);
    assert!(asked[2].ends_with(r#"{"reason":"wrong branch"}"#), "{}", asked[2]);
}

#[tokio::test]
async fn a_log_goes_on_where_its_connection_broke() {
    let answers = vec![stream(&[b"one ", b"two "], Close::Broken), answer("200 OK", "", "three and more")];
    let (url, serving) = serve(answers).await;
    let address = LogAddress { build: BuildNumber(7), attempt: 2, log: "test".parse().unwrap() };
    let mut reader = Farm::new(url, None).unwrap().log(address, 0, 13);
    let mut text = Vec::new();
    while let Some(bytes) = reader.next().await.unwrap() {
        text.extend_from_slice(&bytes);
    }
    assert_eq!(text, b"one two three");
    let asked = serving.await.unwrap();
    assert!(asked[0].starts_with("GET /api/v1/builds/7/logs/test?attempt=2&from=0 "), "{}", asked[0]);
    assert!(asked[1].starts_with("GET /api/v1/builds/7/logs/test?attempt=2&from=8 "), "{}", asked[1]);
}

#[test]
fn addresses_that_are_no_farms_are_refused() {
    for (address, expect) in [
        ("ftp://x", "http:// or https://"),
        ("localhost:8700", "http:// or https://"),
        ("http://ann:pass@x", "a user or a password"),
        ("http://x/?a=b", "a query"),
    ] {
        let error = Farm::new(address.parse().unwrap(), None).unwrap_err();
        assert!(error.to_string().contains(expect) && !error.to_string().contains("pass@"), "{error}");
    }
}

#[test]
fn a_token_is_sent_by_itself_to_this_machine_alone() {
    for (address, expect) in [
        ("http://127.0.0.1:8700", true),
        ("http://127.9.9.9", true),
        ("http://localhost:1", true),
        ("http://[::1]:8700", true),
        ("http://localhost.example.org", false),
        ("http://10.0.0.1", false),
    ] {
        assert_eq!(is_loopback(&address.parse().unwrap()), expect, "{address}");
    }
}
