//! A farm in one process, `buildr up`, and a person with another terminal.

use farm::farm::until;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::place::{Live, Place, Ran, start, to_the_end};

/// A farm that is up.
struct Farm<'p> {
    place: &'p Place,
    up: Live,
    server: String,
    token: String,
}

impl<'p> Farm<'p> {
    async fn up(place: &'p Place) -> Self {
        Self::up_with(place, &[]).await
    }

    async fn up_with(place: &'p Place, words: &[&str]) -> Self {
        // How full the disk of the one who runs the tests is tells nothing of the farm.
        let own = ["up", "--listen", "127.0.0.1:0", "--slots", "2", "--disk-watermark", "0"];
        let mut up = place.start(&[&own, words].concat());
        let line = up.until("is up").await;
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
        let (server, token) = url.split_once("/?token=").unwrap();
        Self { place, up, server: server.to_owned(), token: token.to_owned() }
    }

    fn buildr(&self, words: &[&str]) -> Command {
        let mut command = self.place.buildr(words);
        command.env("BUILDR_SERVER", &self.server);
        command
    }

    async fn run(&self, words: &[&str]) -> Ran {
        to_the_end(self.buildr(words)).await
    }

    fn start(&self, words: &[&str]) -> Live {
        start(self.buildr(words))
    }

    /// What the API says of a build.
    async fn build(&self, number: &str) -> Value {
        let ran = self.run(&["status", number, "--json"]).await;
        ran.check(0, &[]);
        serde_json::from_str(&ran.out).unwrap()
    }

    /// Ends it with one signal.
    async fn end(self) -> Ran {
        self.up.signal("INT").await;
        self.up.end().await
    }

    /// Sends a request as it stands here, and gives the answer's first line.
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.server.strip_prefix("http://").unwrap()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().next().unwrap().to_owned()
    }
}

const GREETING: &str = "image: IMAGE\nbuild:\n  script: [echo hello from build, 'exit ${CODE:-0}']\n";

#[tokio::test]
async fn a_build_is_submitted_and_looked_at() {
    let Some(place) = Place::with(GREETING).await else { return };
    place.commit().await;
    let farm = Farm::up(&place).await;
    farm.run(&["builds"]).await.check(0, &["no builds yet; begin one with"]);
    let watched = farm.run(&["submit", ".", "--watch"]).await;
    watched.check(0, &["build #1 of project", "$ echo hello from build", "\nhello from build\n", "build #1 passed"]);
    farm.run(&["builds"]).await.check(0, &["BUILD", "passed", "project", "main", "first"]);
    farm.run(&["status", "1"]).await.check(0, &["build #1 passed", "attempt 1", "build ", "output: buildr logs 1"]);
    farm.run(&["logs", "1"]).await.check(0, &["── job", "clone ", "── build", "\nhello from build\n"]);
    let raw = farm.run(&["logs", "#1", "--stage", "build", "--raw"]).await;
    assert_eq!(
        (raw.code, raw.out.as_str()),
        (Some(0), "$ echo hello from build\nhello from build\n$ exit ${CODE:-0}\n")
    );
    until("its agent to be known", async || farm.run(&["agents"]).await.out.contains('2').then_some(())).await;
    farm.run(&["status", "99"]).await.check(3, &["99"]);
    farm.run(&["cancel", "1"]).await.shows(&["1"]);
    assert_eq!(farm.build("1").await["exit_code"], 0);
    farm.end().await.check(0, &[]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn watching_ends_with_what_became_of_the_build() {
    let Some(place) = Place::with("image: IMAGE\nbuild:\n  script: [echo hello, exit 9]\n").await else { return };
    place.commit().await;
    let farm = Farm::up(&place).await;
    farm.run(&["submit", ".", "-w"]).await.check(1, &["build failed: exit code 9"]);
    place.write(".buildr.yml", "buidl:\n  scrip: x\n");
    place.git(&["commit", "-qam", "broken"]).await;
    farm.run(&["submit", ".", "-w"]).await.check(2, &[".buildr.yml:2:3", "^^^^^"]);
    place.git(&["rm", "-q", ".buildr.yml"]).await;
    place.git(&["commit", "-qam", "none"]).await;
    farm.run(&["submit", ".", "-w"]).await.check(2, &["there is no manifest"]);
    farm.run(&["submit", ".", "-w", "--branch", "nowhere"]).await.check(3, &["nowhere"]);
    let missing = place.path("missing");
    farm.run(&["submit", missing.to_str().unwrap(), "-w"]).await.check(3, &["missing"]);
    farm.run(&["submit", "missing", "-w"]).await.check(2, &["neither a URL nor a folder"]);
    farm.end().await.check(0, &[]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn it_is_asked_why_and_its_agent_is_looked_after() {
    let Some(place) = Place::with(GREETING).await else { return };
    place.commit().await;
    let farm = Farm::up(&place).await;
    farm.run(&["why"]).await.check(3, &["error: there is no build yet", "buildr submit"]);
    farm.run(&["why", "7"]).await.check(3, &["there is no build #7"]);
    let agents = until("the farm's own agent to be here", async || {
        let agents: Value = serde_json::from_str(&farm.run(&["agents", "--json"]).await.out).ok()?;
        agents[0]["name"].is_string().then_some(agents)
    })
    .await;
    let (name, key) = (agents[0]["name"].as_str().unwrap(), agents[0]["fingerprint"].as_str().unwrap());
    farm.run(&["agent", "pause", name, "--note", "a new disk"]).await.check(0, &["takes no jobs", "agent resume"]);
    farm.run(&["agent", "list"]).await.check(0, &[name, "paused by a person: a new disk", key]);
    farm.run(&["agent", "show", name]).await.check(0, &["paused by a person: a new disk", key, "0 of 2 taken"]);
    farm.run(&["agent", "resume", name]).await.check(0, &[name]);
    farm.run(&["agent", "show", name]).await.hides(&["a new disk"]);
    farm.run(&["agent", "approve", name, "--key", &key[..8]]).await.check(0, &["takes jobs now", key]);
    farm.run(&["agent", "approve", name, "--key", "not-its-key"]).await.check(2, &["shows the key", key, "try: "]);
    farm.run(&["agent", "approve", name, "--labels", "gpu"]).await.check(3, &["does not offer gpu"]);
    farm.run(&["agent", "revoke", name]).await.check(3, &["own process"]);
    farm.run(&["agent", "forget", "nobody"]).await.check(3, &["no agent called nobody"]);
    farm.run(&["submit", "."]).await.check(0, &[]);
    farm.run(&["logs", "1", "-f"]).await.shows(&[]);
    farm.run(&["why"]).await.check(0, &["build #1 ", "manual, by ", "@"]);
    farm.run(&["why", "#1", "--json"]).await.check(0, &["\"waiting\": []", "\"by\": "]);
    farm.end().await.check(0, &[]);
    place.nothing_is_left().await;
}

const LONG: &str =
    "image: IMAGE\nbuild:\n  script:\n    - echo on its way\n    - while [ ! -e /app/never ]; do sleep 0.1; done\n";

#[tokio::test]
async fn a_build_is_followed_and_cancelled_from_elsewhere() {
    let Some(place) = Place::with(LONG).await else { return };
    place.commit().await;
    let farm = Farm::up(&place).await;
    let mut watcher = farm.start(&["submit", ".", "--watch"]);
    watcher.until("on its way").await;
    let mut follower = farm.start(&["logs", "1", "--follow"]);
    follower.until("── build").await;
    // One who stops watching ends nothing.
    let mut idler = farm.start(&["logs", "1", "-f"]);
    idler.until("── build").await;
    idler.signal("INT").await;
    idler.end().await.check(130, &["build #1 goes on", "buildr cancel 1"]);
    farm.run(&["status", "1"]).await.check(0, &["build #1 running"]);
    farm.run(&["cancel", "1"]).await.check(0, &["1"]);
    watcher.end().await.check(130, &["build #1 cancelled"]);
    follower.end().await.shows(&["on its way"]);
    assert_eq!(farm.build("1").await["build"]["status"], "cancelled");
    // Not before: what may come next stands ready as long as the farm is up.
    farm.end().await.check(0, &[]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn the_first_signal_drains_and_a_restart_keeps_history() {
    let manifest = "image: IMAGE\nbuild:\n  script:\n    - echo begun\n    - while [ ! -e /tmp/go ]; do sleep 0.1; [ $((n=${n:-0}+1)) -lt 15 ] || break; done\n    - echo ended\n";
    let Some(place) = Place::with(manifest).await else { return };
    place.commit().await;
    let mut farm = Farm::up(&place).await;
    let mut watcher = farm.start(&["submit", ".", "--watch"]);
    watcher.until("begun").await;
    farm.up.signal("INT").await;
    farm.up.until("waiting for those that run").await;
    farm.up.end().await.check(0, &[]);
    drop(watcher);
    place.nothing_is_left().await;
    let again = Farm::up(&place).await;
    again.run(&["status", "1"]).await.check(0, &["build #1 passed"]);
    again.run(&["logs", "1"]).await.check(0, &["\nended\n"]);
    let next = again.run(&["submit", "."]).await;
    next.check(0, &["build #2 of project", "buildr logs 2 -f"]);
    again.up.signal("INT").await;
    again.up.signal("INT").await;
    again.up.end().await;
    place.nothing_is_left().await;
}

/// Times after which a job is begun again that nobody works on any more.
const SHORT: [&str; 4] = ["--lease-seconds", "3", "--heartbeat-seconds", "1"];

#[tokio::test]
async fn a_killed_farm_goes_on_after_its_restart() {
    let Some(place) = Place::with(LONG).await else { return };
    place.commit().await;
    let farm = Farm::up_with(&place, &SHORT).await;
    let mut watcher = farm.start(&["submit", ".", "--watch"]);
    watcher.until("on its way").await;
    assert_eq!(place.containers().await.len(), 1);
    farm.up.signal("KILL").await;
    farm.up.end().await;
    drop(watcher);
    let again = Farm::up_with(&place, &SHORT).await;
    let mut follower = again.start(&["logs", "1", "--follow"]);
    follower.until("on its way").await;
    again.run(&["cancel", "1"]).await.check(0, &[]);
    follower.end().await;
    assert_eq!(again.build("1").await["build"]["status"], "cancelled");
    again.end().await.check(0, &[]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn one_state_folder_is_one_farms() {
    let Some(place) = Place::with(GREETING).await else { return };
    let farm = Farm::up(&place).await;
    place
        .start(&["up", "--listen", "127.0.0.1:0"])
        .end()
        .await
        .check(3, &["error: ", "already runs from", "--state-dir"]);
    farm.run(&["builds"]).await.check(0, &[]);
    let other = place.path("other").display().to_string();
    let address = farm.server.strip_prefix("http://").unwrap();
    let taken = place.start(&["up", "--listen", address, "--state-dir", &other]).end().await;
    taken.check(3, &["cannot be listened on", "--listen"]);
    // Its own agent shows itself a moment after the farm is up.
    until("the farm's agent", async || farm.run(&["agents"]).await.out.contains('2').then_some(())).await;
    farm.end().await.check(0, &[]);
    let gone = place.run(&["builds", "--server", "http://127.0.0.1:1"]).await;
    gone.check(3, &["no farm answers", "buildr up"]);
}

#[tokio::test]
async fn nobody_else_can_start_a_build() {
    let Some(place) = Place::with(GREETING).await else { return };
    place.commit().await;
    let farm = Farm::up(&place).await;
    let mut stranger = farm.buildr(&["submit", "."]);
    stranger.env("XDG_RUNTIME_DIR", place.path("home"));
    to_the_end(stranger).await.check(3, &["error: ", "BUILDR_TOKEN"]);
    let mut wrong = farm.buildr(&["submit", "."]);
    wrong.env("BUILDR_TOKEN", "wrong");
    to_the_end(wrong).await.check(3, &["error: "]);

    let body = format!("{{\"repo\":\"{}\"}}", place.project().display());
    let host = farm.server.strip_prefix("http://").unwrap();
    let post = |host: &str, more: &str| {
        let length = body.len();
        format!(
            "POST /api/v1/builds HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{more}content-length: {length}\r\n\r\n{body}"
        )
    };
    let (json, token) = ("content-type: application/json\r\n", format!("authorization: Bearer {}\r\n", farm.token));
    for (request, expect) in [
        (post(host, json), "401"),
        (post(host, &format!("{json}authorization: Bearer x\r\n")), "401"),
        (post(host, &token), "415"),
        (post("evil.example.org", &format!("{json}{token}")), "421"),
        ("GET /api/v1/builds HTTP/1.1\r\nhost: evil.example.org\r\nconnection: close\r\n\r\n".to_owned(), "421"),
        (format!("GET /api/v1/builds HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"), "200"),
    ] {
        let answer = farm.ask(&request).await;
        assert!(answer.contains(expect), "{answer} instead of {expect} for\n{request}");
    }
    farm.run(&["builds"]).await.check(0, &["no builds yet"]);
    assert!(farm.ask(&post(host, &format!("{json}{token}"))).await.contains(" 20"));
    farm.run(&["logs", "1", "-f"]).await.check(0, &["hello from build"]);
    farm.end().await.check(0, &[]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn what_a_killed_farm_was_at_begins_again_at_once() {
    let Some(place) = Place::with("image: IMAGE\nbuild:\n  script: [echo begun, sleep 1000]\n").await else { return };
    place.commit().await;
    let farm = Farm::up(&place).await;
    let mut watcher = farm.start(&["submit", ".", "--watch"]);
    watcher.until("begun").await;
    farm.up.signal("KILL").await;
    assert_eq!(farm.up.end().await.code, None);
    watcher.signal("KILL").await;
    watcher.end().await;
    let farm = Farm::up(&place).await;
    // It follows the second attempt.
    let mut watcher = farm.start(&["logs", "1", "--follow"]);
    watcher.until("begun").await;
    let attempts = loop {
        let build = farm.build("1").await;
        let attempts = build["attempts"].as_array().unwrap().clone();
        if attempts.len() == 2 {
            break attempts;
        }
    };
    let told = (attempts[0]["state"].as_str().unwrap(), attempts[1]["state"].as_str().unwrap());
    assert_eq!(told, ("lost", "running"));
    // Not by its lease, which is a minute.
    assert_eq!(attempts[0]["loss"]["loss"], "ended", "{}", attempts[0]);
    farm.run(&["cancel", "1"]).await.check(0, &[]);
    watcher.end().await;
    farm.run(&["why", "1"]).await.shows(&["its agent was ended in the midst of it"]);
    farm.end().await.check(0, &[]);
    place.nothing_is_left().await;
}

const ASKS_FOR_A_SECRET: &str = "image: IMAGE
build:
  secrets: [NPM_TOKEN]
  script: ['test \"$NPM_TOKEN\" = for-npm', 'echo it is $NPM_TOKEN', mkdir out, echo made > out/made]
  artifacts: [out/]
";

#[tokio::test]
async fn a_secret_is_kept_and_what_a_build_left_is_fetched() {
    let Some(place) = Place::with(ASKS_FOR_A_SECRET).await else { return };
    place.commit().await;
    let farm = Farm::up(&place).await;
    farm.run(&["secret", "list"]).await.check(0, &[]).hides(&["NPM_TOKEN"]);
    farm.run(&["submit", ".", "-w"]).await.check(3, &["NPM_TOKEN", "buildr secret set NPM_TOKEN"]);
    std::fs::write(place.path("value"), "for-npm\n").unwrap();
    let value = place.path("value");
    let set = ["secret", "set", "NPM_TOKEN", "--all", "--from-file", value.to_str().unwrap()];
    farm.run(&set).await.check(0, &["the secret NPM_TOKEN is kept for"]);
    farm.run(&["secret", "list"]).await.check(0, &["NPM_TOKEN"]).hides(&["for-npm"]);
    let watched = farm.run(&["submit", ".", "-w"]).await;
    watched.check(0, &["build #2 passed", "it is ***"]).hides(&["it is for-npm"]);
    farm.run(&["artifacts", "2"]).await.check(0, &["build", "buildr artifacts 2 --out artifacts"]);
    let out = place.path("fetched");
    farm.run(&["artifacts", "2", "--out", out.to_str().unwrap()]).await.check(0, &["1 file"]);
    let fetched = std::fs::read_to_string(out.join("build/out/made")).unwrap();
    assert_eq!(fetched, "made\n");
    farm.run(&["secret", "rm", "NPM_TOKEN", "--all"]).await.check(0, &["is gone"]);
    farm.run(&["submit", ".", "-w"]).await.check(3, &["NPM_TOKEN", "buildr secret set NPM_TOKEN"]);
    let sealed = ["encrypt", "--project", "https://example.org/a/b", "KEY", "--from-file", value.to_str().unwrap()];
    farm.run(&sealed).await.check(0, &["secrets:\n  KEY:\n    secure: "]).hides(&["for-npm"]);
    farm.end().await.check(0, &[]);
    place.nothing_is_left().await;
}

/// As where Ctrl-C ends the `tee` behind the farm first.
#[tokio::test]
async fn a_farm_whose_words_nobody_reads_ends_when_it_is_asked_to() {
    let Some(place) = Place::with(GREETING).await else { return };
    for signal in ["INT", "TERM"] {
        let Farm { up, .. } = Farm::up(&place).await;
        assert_eq!(up.end_unread(signal).await, Some(0));
    }
    place.nothing_is_left().await;
}

#[tokio::test]
async fn tokens_are_made_and_what_each_did_is_noted() {
    let Some(place) = Place::with(GREETING).await else { return };
    place.commit().await;
    let farm = Farm::up(&place).await;
    let made = farm.run(&["token", "create", "ada", "--role", "developer", "--expires", "90d"]).await;
    made.check(0, &["this is the token ada, with the role developer, until"]);
    let token = made.out.trim();
    let by_ada = async |words: &[&str]| farm.run(&[&["--token", token], words].concat()).await;
    farm.run(&["token", "list"]).await.check(0, &["ada", "developer", "d left"]).hides(&[token]);
    by_ada(&["submit", ".", "-w"]).await.check(0, &["build #1 passed"]);
    let refused = by_ada(&["project", "add", "https://github.com/ada/cronline"]).await;
    refused.check(3, &["maintainer"]);
    let added = farm.run(&["project", "add", "https://github.com/ada/cronline", "--keep-builds", "9"]).await;
    added.check(0, &["/hooks/github/"]);
    farm.run(&["project", "list"]).await.check(0, &["github.com/ada/cronline"]);
    farm.run(&["project", "show", "github.com/ada/cronline"]).await.check(0, &["kept", "9"]);
    let changed = ["project", "change", "github.com/ada/cronline", "--approval", "all"];
    farm.run(&changed).await.check(0, &["all"]);
    farm.run(&["project", "remove", "github.com/ada/cronline"]).await.check(0, &["no project any more"]);
    let noted = farm.run(&["audit"]).await;
    noted.check(0, &["ada", "start token", "POST /api/v1/builds", "POST /api/v1/projects", "403"]);
    farm.run(&["token", "revoke", "ada"]).await.check(0, &["the token ada is revoked"]);
    by_ada(&["submit", "."]).await.check(3, &["revoked"]);
    farm.end().await.check(0, &[]);
    place.nothing_is_left().await;
}
