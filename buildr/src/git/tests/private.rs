//! A web server that wants a password, in front of the real git: who is let in, and who learns the password.

use std::sync::Mutex;

use protocol::RepoCredentials;
use protocol::plan::{CloneOptions, Submodules};

use super::options::{LARGE, lfs, lfs_is_here, with_a_large_file};
use super::town::What::{Module, Text};
use super::town::{Town, listed, modules};
use super::*;

/// `me:s3cret`, as it is sent.
const RIGHT: &str = "Basic bWU6czNjcmV0";

/// What was asked of a server: the path, and how the client said who it is.
type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// Smart HTTP and LFS for the repositories below `base`; `open` lets everybody in.
fn web(base: &Path, open: bool) -> (Server, Asked) {
    let (base, asked) = (base.to_owned(), Asked::default());
    let seen = Arc::clone(&asked);
    let server = Server::new(move |stream| {
        let (base, seen) = (base.clone(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut reader = std::io::BufReader::new(stream);
            while answer(&mut reader, &base, open, &seen).is_some() {}
        });
    });
    (server, asked)
}

/// Answers one request; none when there is no other.
fn answer(reader: &mut std::io::BufReader<TcpStream>, base: &Path, open: bool, seen: &Asked) -> Option<()> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut words = first.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut fields = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ").map(|(n, v)| (n.to_lowercase(), v.to_owned())) else {
            break;
        };
        fields.insert(name, value);
    }
    let mut body = vec![0; fields.get("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let authorization = fields.get("authorization").cloned();
    let known = open || authorization.as_deref() == Some(RIGHT);
    seen.lock().unwrap().push((target.clone(), authorization));
    let (status, kind, text) = match known {
        false => ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"", "text/plain".to_owned(), Vec::new()),
        true if target.contains("/info/lfs/") => lfs_answer(&target, &fields, &body, base),
        true => backend(&method, &target, &fields, &body, base),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", text.len());
    reader.get_mut().write_all(&[head.as_bytes(), &text].concat()).ok()
}

type Answer = (&'static str, String, Vec<u8>);

/// `git http-backend`.
fn backend(method: &str, target: &str, fields: &BTreeMap<String, String>, body: &[u8], base: &Path) -> Answer {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "http-backend"]).env("GIT_PROJECT_ROOT", base).env("GIT_HTTP_EXPORT_ALL", "1");
    git.env("REQUEST_METHOD", method).env("PATH_INFO", path).env("QUERY_STRING", query);
    git.env("CONTENT_TYPE", field("content-type")).env("HTTP_CONTENT_ENCODING", field("content-encoding"));
    git.env("GIT_PROTOCOL", field("git-protocol")).env("CONTENT_LENGTH", body.len().to_string());
    let mut git = git.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = git.stdin.take().unwrap();
    let body = body.to_vec();
    let write = std::thread::spawn(move || input.write_all(&body).ok());
    let output = git.wait_with_output().unwrap().stdout;
    write.join().unwrap();
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&output[..end]);
    let kind = head.lines().find_map(|line| line.strip_prefix("Content-Type: ")).unwrap_or("text/plain").to_owned();
    let status = if head.contains("Status: 404") { "404 Not Found" } else { "200 OK" };
    (status, kind, output[end + 4..].to_vec())
}

/// The two questions of git-lfs: where objects are, and for one of them.
fn lfs_answer(target: &str, fields: &BTreeMap<String, String>, body: &[u8], base: &Path) -> Answer {
    if target.ends_with("/objects/batch") {
        let asked: serde_json::Value = serde_json::from_slice(body).unwrap();
        let object = &asked["objects"][0];
        let href =
            format!("http://{}{}", fields["host"], target.replace("objects/batch", object["oid"].as_str().unwrap()));
        let action = serde_json::json!({"download": {"href": href}});
        let object = serde_json::json!({"oid": object["oid"], "size": object["size"], "actions": action});
        let text = serde_json::json!({"transfer": "basic", "objects": [object]}).to_string();
        return ("200 OK", "application/vnd.git-lfs+json".to_owned(), text.into_bytes());
    }
    let (repository, oid) = target.split_once("/info/lfs/").unwrap();
    let file = base
        .join(repository.trim_matches('/').trim_end_matches(".git"))
        .join("lfs/objects")
        .join(&oid[..2])
        .join(&oid[2..4])
        .join(oid);
    ("200 OK", "application/octet-stream".to_owned(), fs::read(file).unwrap())
}

/// Nothing below a folder holds the password.
fn no_secret_in(folder: &Path) {
    for (path, bytes) in files_of(folder) {
        assert!(!String::from_utf8_lossy(&bytes).contains("s3cret"), "{}", path.display());
    }
}

fn git_is_here(town: &Town) -> bool {
    Server::git(town.folder.path()).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_opens_the_repository_its_submodules_and_nothing_else() {
    let town = Town::new();
    if !git_is_here(&town) {
        return;
    }
    let (elsewhere, strangers) = web(town.folder.path(), true);
    let lib = town.commit("lib", &[("lib.c", Text("lib"))]);
    let list = [
        listed("relative", "../lib"),
        listed("absolute", "http://127.0.0.1:PORT/lib"),
        listed("stranger", &format!("http://127.0.0.1:{}/lib", elsewhere.port)),
    ];
    let (server, asked) = web(town.folder.path(), false);
    let list = list.concat().replace("PORT", &server.port.to_string());
    let places = ["relative", "absolute", "stranger"].map(|path| (path, Module(lib)));
    town.commit("app", &[&[(".gitmodules", Text(&list))], &places[..]].concat());
    let url = server.url("http://me:s3cret@127.0.0.1:PORT/app");
    let (done, lines) = town.fetch(&url, &modules(Submodules::Recursive), "a").await;
    done.unwrap();
    for place in ["relative", "absolute", "stranger"] {
        assert_eq!(town.text(&format!("a/{place}/lib.c")), "lib");
    }
    assert!(!lines.concat().contains("s3cret"), "{lines:?}");
    no_secret_in(&town.path("a"));
    no_secret_in(&town.path("cache"));
    assert!(asked.lock().unwrap().iter().any(|(path, who)| path.starts_with("/lib") && who.as_deref() == Some(RIGHT)));
    let strangers = strangers.lock().unwrap();
    assert!(!strangers.is_empty() && strangers.iter().all(|(_, who)| who.is_none()), "{strangers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projects_token_opens_its_repository_and_what_is_beside_it() {
    let mut town = Town::new();
    if !git_is_here(&town) {
        return;
    }
    with_a_large_file(&town);
    Repository::open(town.path("app")).unwrap().config().unwrap().set_bool("uploadpack.allowFilter", true).unwrap();
    let (elsewhere, strangers) = web(town.folder.path(), true);
    let lib = town.commit("lib", &[("lib.c", Text("lib"))]);
    let list = [listed("beside", "../lib"), listed("stranger", &format!("http://127.0.0.1:{}/lib", elsewhere.port))];
    let places = ["beside", "stranger"].map(|path| (path, Module(lib)));
    town.commit("app", &[&[(".gitmodules", Text(&list.concat()))], &places[..]].concat());
    let (server, asked) = web(town.folder.path(), false);
    let url = server.url("http://127.0.0.1:PORT/app");
    let (denied, _) = town.fetch(&url, &CloneOptions::default(), "denied").await;
    assert!(matches!(denied, Err(GitError::Denied { .. })), "{denied:?}");
    assert!(!town.path("denied").exists());

    let own = |token: &str| RepoCredentials::Token { user: "me".to_owned(), token: token.to_owned() };
    let without = town.checkouts.clone();
    town.checkouts = without.with_credentials(&url, &own("s3cret"));
    assert!(!format!("{:?}", town.checkouts).contains("s3cret"));
    let (done, lines) = town.fetch(&url, &modules(Submodules::Recursive), "a").await;
    done.unwrap();
    assert_eq!((town.text("a/beside/lib.c"), town.text("a/stranger/lib.c")), ("lib".to_owned(), "lib".to_owned()));
    // By git itself too.
    let (unheard, _) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let filtered = town.checkouts.filtered("tree:0").unwrap();
    filtered.check_out(&url, None, None, &town.path("b"), &stop, unheard).await.unwrap();
    assert_eq!(town.text("b/x"), "x");
    if lfs_is_here() {
        town.fetch(&url, &lfs(), "a").await.0.unwrap();
        assert_eq!(town.text("a/big.bin"), LARGE);
    }
    assert!(!lines.concat().contains("s3cret"), "{lines:?}");
    for folder in ["a", "b", "cache"] {
        no_secret_in(&town.path(folder));
    }
    {
        let strangers = strangers.lock().unwrap();
        assert!(!strangers.is_empty() && strangers.iter().all(|(_, who)| who.is_none()), "{strangers:?}");
    }

    // Who is not trusted has it for nothing but the repository itself, and so has nobody a wrong one.
    asked.lock().unwrap().clear();
    let wrong = without.with_credentials(&url, &own("wr0ng"));
    for (checkouts, name) in [(town.checkouts.anonymous(), "c"), (wrong, "d"), (without, "e")] {
        town.checkouts = checkouts;
        let (done, _) = town.fetch(&url, &CloneOptions::default(), name).await;
        assert!(matches!(done, Err(GitError::Denied { .. })), "{name}: {done:?}");
    }
    assert!(asked.lock().unwrap().iter().all(|(_, who)| who.as_deref() != Some(RIGHT)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_clone_and_large_files_with_a_password() {
    let town = Town::new();
    if !git_is_here(&town) {
        return;
    }
    with_a_large_file(&town);
    let source = Repository::open(town.path("app")).unwrap();
    source.config().unwrap().set_bool("uploadpack.allowFilter", true).unwrap();
    let (server, asked) = web(town.folder.path(), false);
    let url = server.url("http://me:s3cret@127.0.0.1:PORT/app");
    let (unheard, _) = mpsc::channel(1);
    let filtered = town.checkouts.filtered("tree:0").unwrap();
    let stop = CancellationToken::new();
    filtered.check_out(&url, None, None, &town.path("a"), &stop, unheard).await.unwrap();
    assert_eq!(town.text("a/x"), "x");
    if lfs_is_here() {
        town.fetch(&url, &lfs(), "a").await.0.unwrap();
        assert_eq!(town.text("a/big.bin"), LARGE);
        assert!(asked.lock().unwrap().iter().any(|(path, _)| path.contains("/info/lfs/")));
    }
    no_secret_in(&town.path("a"));

    let wrong = server.url("http://me:wr0ng@127.0.0.1:PORT/app");
    let (unheard, _) = mpsc::channel(1);
    let denied = filtered.check_out(&wrong, None, None, &town.path("b"), &stop, unheard).await.unwrap_err();
    assert!(matches!(denied, GitError::Denied { .. }) && !format!("{denied:?}").contains("wr0ng"), "{denied}");
    assert!(!town.path("b").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_cannot_lead_git_lfs_into_this_machine() {
    let town = Town::new();
    if !git_is_here(&town) {
        return;
    }
    with_a_large_file(&town);
    let (server, _) = web(town.folder.path(), true);
    let url = server.url("http://127.0.0.1:PORT/app");
    let here = town.path("app").display().to_string();
    for (n, (text, expect)) in [
        (format!("[lfs]\nurl = file://{here}\n"), "may not name a folder of the machine"),
        (format!("[lfs]\nurl = fi\"le:\"//{here}\n"), "may not name a folder of the machine"),
        (format!("[remote \"origin\"]\nlfsurl = {here}\n"), "may not name a folder of the machine"),
        ("[lfs]\nurl = ../app\n".to_owned(), "is a relative path"),
        ("[lfs]\nurl = ext::id\n".to_owned(), "is not a way to a repository"),
        ("[include]\npath = /etc/x\n".to_owned(), "includes another file"),
        ("<<<<".to_owned(), "the file .lfsconfig of"),
    ]
    .into_iter()
    .enumerate()
    {
        town.commit("app", &[(".lfsconfig", Text(&text))]);
        let (done, _) = town.fetch(&url, &lfs(), &format!("into{n}")).await;
        let error = done.expect_err(&text);
        assert!(matches!(error, GitError::Misleading { .. }) && error.to_string().contains(expect), "{text}: {error}");
    }
    if lfs_is_here() {
        let elsewhere = format!("[lfs]\nurl = http://127.0.0.1:{}/app/info/lfs\n", server.port);
        town.commit("app", &[(".lfsconfig", Text(&elsewhere))]);
        town.fetch(&url, &lfs(), "good").await.0.unwrap();
        assert_eq!(town.text("good/big.bin"), LARGE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_anonymous_reads_what_everybody_may() {
    let mut town = Town::new();
    if !git_is_here(&town) {
        return;
    }
    with_a_large_file(&town);
    let lib = town.commit("lib", &[("lib.c", Text("lib"))]);
    let list = listed("lib", "../lib");
    town.commit("app", &[(".gitmodules", Text(&list)), ("lib", Module(lib))]);
    let (server, asked) = web(town.folder.path(), false);
    let url = server.url("http://me:s3cret@127.0.0.1:PORT/app");
    let checkouts = town.checkouts.clone();
    // The kept copies, made by somebody who may, open nothing either.
    town.fetch(&url, &modules(Submodules::Direct), "trusted").await.0.unwrap();
    town.fetch(&url, &CloneOptions::default(), "a").await.0.unwrap();
    town.checkouts = checkouts.anonymous();
    asked.lock().unwrap().clear();
    let (done, _) = town.fetch(&url, &modules(Submodules::Direct), "a").await;
    let error = done.unwrap_err().to_string();
    assert!(error.starts_with("submodule lib: ") && error.ends_with("Credentials tried: none"), "{error}");
    let stop = CancellationToken::new();
    let read = town.checkouts.read_file_at(&url, None, "x", 100, &stop).await;
    assert!(matches!(read, Err(GitError::Denied { .. })), "{read:?}");
    if lfs_is_here() {
        let (done, _) = town.fetch(&url, &lfs(), "a").await;
        assert!(matches!(done, Err(GitError::Program { .. })), "{done:?}");
    }
    let asked = asked.lock().unwrap();
    assert!(!asked.is_empty() && asked.iter().all(|(_, who)| who.is_none()), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_falls_silent_or_is_stopped_ends() {
    let town = Town::new();
    if !git_is_here(&town) || !lfs_is_here() {
        return;
    }
    with_a_large_file(&town);
    town.fetch(&town.url("app"), &CloneOptions::default(), "a").await.0.unwrap();
    let (accepted, heard) = std::sync::mpsc::channel();
    let server = Server::new(move |stream| accepted.send(stream).unwrap());
    let config = || Repository::open(town.path("a")).unwrap().config().unwrap();
    config().set_str("lfs.url", server.url("http://127.0.0.1:PORT/lfs").reveal()).unwrap();

    let policy = ClonePolicy { local_repos: true, home: None, stall: Duration::from_secs(1), ..ClonePolicy::default() };
    let checkouts = Checkouts::new(town.path("cache"), policy);
    let (unheard, _) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let done = checkouts.apply_options(&town.url("app"), &town.path("a"), &lfs(), &stop, unheard).await;
    assert!(matches!(done, Err(GitError::Stalled { seconds: 1, .. })), "{done:?}");
    // Those that were held open for the first; the second is stopped when it has called.
    while heard.try_recv().is_ok() {}

    let (unheard, _) = mpsc::channel(1);
    let (url, into, options) = (town.url("app"), town.path("a"), lfs());
    let work = town.checkouts.apply_options(&url, &into, &options, &stop, unheard);
    let called = tokio::task::spawn_blocking(move || heard.recv().unwrap());
    let (done, _stream) = tokio::join!(work, async {
        let stream = called.await.unwrap();
        stop.cancel();
        stream
    });
    assert!(matches!(done, Err(GitError::Cancelled)), "{done:?}");
}
