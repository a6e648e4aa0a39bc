//! One log, asked for line by line.

use protocol::BuildNumber;
use protocol::api::{LogCommands, LogHits, LogLine, LogLines};
use protocol::outcome::Ending;
use protocol::report::JobEvent;
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;

use super::{ask, check_refused};
use crate::store::Removed;
use crate::testing::{Agent, Claimed, Farm, soon};

const LOG: &str = "$ make <all>\n\x1b[31mred\nstill\x1b[0m <script>alert(1)</script>\n10%\r20%\n$ make test\nopen";

/// A farm whose first build prints.
async fn printing(folder: &TempDir, text: &'static str) -> (Farm, Agent, Claimed) {
    let farm = Farm::start(folder).await;
    farm.submit().await;
    let agent = farm.agent("a1").await;
    let (claimed, _) = agent.work(&farm).await;
    agent.log(claimed.claim, "test", 0, text).await;
    agent.hear_kept(claimed.claim).await;
    (farm, agent, claimed)
}

async fn complete(agent: &Agent, claimed: &Claimed, total: u64) {
    let log = "test".parse().unwrap();
    agent.happened(claimed.claim, JobEvent::LogComplete { log, total }).await;
}

async fn lines(farm: &Farm, query: &str) -> LogLines {
    let (status, _, body) = ask(farm, &format!("GET /api/v1/builds/1/logs/test/lines{query}"), "", "").await;
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{status} {error} {body}"))
}

#[tokio::test]
async fn lines_of_a_log() {
    let folder = tempdir().unwrap();
    let (farm, _agent, _claimed) = printing(&folder, LOG).await;
    let all = lines(&farm, "").await;
    let line = |n: u64, text: &str, open: bool| LogLine { n, ms: Some(0), text: text.to_owned(), left_out: 0, open };
    assert_eq!(
        all.lines,
        [
            line(1, "$ make &lt;all&gt;", false),
            line(2, "<span class=\"f1\">red</span>", false),
            line(3, "<span class=\"f1\">still</span> &lt;script&gt;alert(1)&lt;/script&gt;", false),
            line(4, "20%", false),
            line(5, "$ make test", false),
            line(6, "open", true),
        ]
    );
    assert_eq!((all.log.attempt, all.log.total, all.log.bytes), (1, 6, LOG.len() as u64));
    assert_eq!((all.log.settled, all.log.gap, all.log.began_ms, all.log.commands), (false, None, Some(1), 2));
    let numbers = |lines: &LogLines| lines.lines.iter().map(|line| line.n).collect::<Vec<_>>();
    assert_eq!(numbers(&lines(&farm, "?from=-2").await), [5, 6]);
    assert_eq!(numbers(&lines(&farm, "?from=2&count=2&attempt=1").await), [2, 3]);
    assert!(lines(&farm, "?from=7").await.lines.is_empty());
    assert_eq!(lines(&farm, "?from=3&count=1&format=text").await.lines[0].text, "still <script>alert(1)</script>");

    let (_, _, body) = ask(&farm, "GET /api/v1/builds/1/logs/test/commands", "", "").await;
    let LogCommands { commands } = serde_json::from_str(&body).unwrap();
    let known: Vec<(u64, &str)> = commands.iter().map(|command| (command.line, command.text.as_str())).collect();
    assert_eq!(known, [(1, "make <all>"), (5, "make test")]);

    let (_, _, body) = ask(&farm, "GET /api/v1/builds/1/logs/test/search?q=STILL%20%3C&limit=1", "", "").await;
    let LogHits { hits, next } = serde_json::from_str(&body).unwrap();
    assert_eq!((hits.len(), hits[0].line, hits[0].found.as_str(), next), (1, 3, "still <", Some(4)));

    for (path, status, sentence) in [
        ("search", 400, "what to look for"),
        ("search?q=(&regex=true", 400, "no regular expression"),
        ("lines?from=x", 400, ""),
        ("lines?format=pdf", 400, ""),
        ("lines?attempt=7", 404, "no such log"),
    ] {
        check_refused(&ask(&farm, &format!("GET /api/v1/builds/1/logs/test/{path}"), "", "").await, status, sentence);
    }
    farm.stop().await;
}

#[tokio::test]
async fn the_raw_bytes_and_parts_of_them() {
    let folder = tempdir().unwrap();
    let (farm, _agent, _claimed) = printing(&folder, LOG).await;
    for (headers, status, expect, range) in [
        ("", 200, LOG, None),
        ("Range: bytes=2-5\r\n", 206, "make", Some(format!("bytes 2-5/{}", LOG.len()))),
        ("Range: bytes=-4\r\n", 206, "open", Some(format!("bytes {}-{}/{}", LOG.len() - 4, LOG.len() - 1, LOG.len()))),
    ] {
        let (got, head, body) = ask(&farm, "GET /api/v1/builds/1/logs/test/raw?download", headers, "").await;
        assert_eq!((got, body.as_str()), (status, expect));
        let head = head.to_ascii_lowercase();
        assert!(head.contains("content-type: text/plain; charset=utf-8"), "{head}");
        assert!(head.contains("content-disposition: attachment; filename=\"build-1-1-test.log\""), "{head}");
        assert!(head.contains(&format!("content-length: {}", expect.len())), "{head}");
        assert_eq!(range.as_ref().is_some_and(|range| head.contains(range)), range.is_some(), "{head}");
    }
    let (status, head, _) = ask(&farm, "GET /api/v1/builds/1/logs/test/raw", "Range: bytes=999-\r\n", "").await;
    assert_eq!((status, head.contains(&format!("bytes */{}", LOG.len()))), (416, true), "{head}");
    farm.stop().await;
}

/// Follows a log as a browser would.
struct Events(Lines<BufReader<TcpStream>>);

impl Events {
    async fn of(farm: &Farm, query: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(farm.address).await.unwrap();
        let path = format!("/live/builds/1/logs/test{query}");
        let asked = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut events = Self(BufReader::new(stream).lines());
        assert!(events.line().await.contains("200"));
        events
    }

    async fn line(&mut self) -> String {
        soon("a line of the stream", self.0.next_line()).await.unwrap().expect("the stream goes on")
    }

    /// The next event of a kind: its id and what it says.
    async fn next(&mut self, kind: &str) -> (String, String) {
        while self.line().await != format!("event: {kind}") {}
        let id = self.line().await.strip_prefix("id: ").unwrap().to_owned();
        (id, self.line().await.strip_prefix("data: ").unwrap().to_owned())
    }

    async fn lines(&mut self) -> (String, Vec<(u64, String)>) {
        let (id, said) = self.next("lines").await;
        let lines: LogLines = serde_json::from_str(&said).unwrap();
        (id, lines.lines.into_iter().map(|line| (line.n, line.text)).collect())
    }
}

#[tokio::test]
async fn who_follows_a_log_gets_each_line_and_its_end() {
    let folder = tempdir().unwrap();
    let (farm, agent, claimed) = printing(&folder, "one\ntw").await;
    let mut events = Events::of(&farm, "?attempt=1", "").await;
    let line = |n: u64, text: &str| (n, text.to_owned());
    assert_eq!(events.lines().await, ("1-2".to_owned(), vec![line(1, "one"), line(2, "tw")]));
    agent.log(claimed.claim, "test", 6, "o\nthree\n").await;
    assert_eq!(events.lines().await, ("1-4".to_owned(), vec![line(2, "two"), line(3, "three")]));
    // Another who lost the connection in the middle of the second line.
    let mut again = Events::of(&farm, "?from_line=1", "Last-Event-ID: 1-2\r\n").await;
    assert_eq!(again.lines().await.1, [line(2, "two"), line(3, "three")]);
    let mut late = Events::of(&farm, "?latest=1", "").await;
    assert_eq!(late.lines().await.1, [line(3, "three")]);
    complete(&agent, &claimed, 14).await;
    let (id, said) = events.next("end").await;
    assert_eq!((id.as_str(), said.contains("\"settled\":true")), ("1-4", true), "{said}");
    agent.finish(claimed.claim, Ending::passed()).await;
    farm.stop().await;
}

#[tokio::test]
async fn the_end_says_what_is_missing() {
    let folder = tempdir().unwrap();
    let (farm, agent, claimed) = printing(&folder, "one\n").await;
    let mut events = Events::of(&farm, "", "").await;
    complete(&agent, &claimed, 9).await;
    agent.finish(claimed.claim, Ending::passed()).await;
    let mut tx = farm.desk.store.write().await.unwrap();
    tx.give_up_log(claimed.claim, &"test".parse().unwrap()).await.unwrap();
    tx.commit().await.unwrap();
    farm.desk.feed.say(crate::feed::Change::Log(protocol::BuildNumber(1)));
    let (_, said) = events.next("end").await;
    assert!(said.contains("5 bytes missing"), "{said}");
    // A script that takes the page over has it too.
    let (_, _, page) = ask(&farm, "GET /builds/1/logs/test", "", "").await;
    assert!(page.contains("data-gap=\"log incomplete: 5 bytes missing\""), "{page}");
    farm.stop().await;
}

#[tokio::test]
async fn logs_that_are_not_kept_any_more_are_told_from_those_that_never_were() {
    let folder = tempdir().unwrap();
    let (farm, agent, claimed) = printing(&folder, "one\n").await;
    complete(&agent, &claimed, 4).await;
    agent.finish(claimed.claim, Ending::passed()).await;
    farm.until_status(BuildNumber(1), "passed").await;
    let mut tx = farm.desk.store.write().await.unwrap();
    tx.remove(BuildNumber(1), Removed::Logs, 1).await.unwrap();
    tx.commit().await.unwrap();
    for path in ["test", "test/lines", "test/raw", "test/search?q=x"] {
        let answer = ask(&farm, &format!("GET /api/v1/builds/1/logs/{path}"), "", "").await;
        check_refused(&answer, 410, "logs of build #1 are not kept any more");
    }
    let (status, _, page) = ask(&farm, "GET /builds/1/logs/test", "", "").await;
    assert!(status == 410 && page.contains("not kept any more"), "{status} {page}");
    let (_, _, page) = ask(&farm, "GET /builds/1", "", "").await;
    assert!(page.contains("its logs were removed"), "{page}");
    farm.stop().await;
}

#[tokio::test]
async fn a_log_reads_without_scripts_and_none_of_it_is_markup() {
    let folder = tempdir().unwrap();
    let (farm, _agent, _claimed) = printing(&folder, LOG).await;
    let (status, head, body) = ask(&farm, "GET /builds/1/logs/test", "", "").await;
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("script-src 'self'") && !head.contains("unsafe-inline"), "{head}");
    assert!(body.contains("<span class=\"f1\">still</span> &lt;script&gt;alert(1)"), "{body}");
    assert!(body.contains("id=\"L6\"") && !body.contains("style=") && !body.contains("<script>"), "{body}");
    assert!(!body.contains("earlier lines"));
    let (_, _, part) = ask(&farm, "GET /builds/1/logs/test?attempt=1&from=5", "", "").await;
    assert!(!part.contains("id=\"L4\"") && part.contains("id=\"L5\"") && part.contains("earlier lines"), "{part}");
    for (path, kind) in [("log.js", "text/javascript"), ("log.css", "text/css"), ("log-palette.css", "text/css")] {
        assert!(body.contains(&format!("/assets/{path}?v=")), "{body}");
        let (status, head, _) = ask(&farm, &format!("GET /assets/{path}?v=1"), "", "").await;
        assert!(status == 200 && head.contains(kind), "{head}");
    }
    assert_eq!(ask(&farm, "GET /assets/passwd", "", "").await.0, 404);
    assert_eq!(ask(&farm, "GET /builds/1/logs/none", "", "").await.0, 404);
    farm.stop().await;
}
