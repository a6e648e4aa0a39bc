//! Real repositories in temporary folders, by path and over sockets on loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use git2::{Oid, Repository, Signature};
use tempfile::TempDir;

use super::*;

mod changes;
mod committed;
mod elsewhere;
mod kept;
mod laid;
mod options;
mod private;
mod request;
mod speed;
mod submodules;
mod town;

/// A repository with a work tree, and what is needed to check it out.
struct Ground {
    folder: TempDir,
    source: Repository,
    checkouts: Checkouts,
}

impl Ground {
    fn new() -> Self {
        set_up_libgit2();
        let folder = tempfile::tempdir().unwrap();
        let mut options = git2::RepositoryInitOptions::new();
        options.initial_head("main").external_template(false);
        let source = Repository::init_opts(folder.path().join("source"), &options).unwrap();
        let policy = ClonePolicy { local_repos: true, home: None, ..ClonePolicy::default() };
        let checkouts = Checkouts::new(folder.path().join("cache"), policy);
        Self { folder, source, checkouts }
    }

    fn with_commit() -> Self {
        let ground = Self::new();
        ground.commit("main", "hello.txt", "first");
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self) -> RepoUrl {
        self.path("source").to_str().unwrap().parse().unwrap()
    }

    /// A commit on a branch, with one file that holds `text`; the work tree is not touched.
    fn commit(&self, branch: &str, file: &str, text: &str) -> Oid {
        let name = format!("refs/heads/{branch}");
        let parent = self.source.find_reference(&name).ok().map(|r| r.peel_to_commit().unwrap());
        self.commit_on(&name, parent.as_ref(), file, text)
    }

    fn commit_on(&self, name: &str, parent: Option<&git2::Commit<'_>>, file: &str, text: &str) -> Oid {
        let blob = self.source.blob(text.as_bytes()).unwrap();
        let tree = parent.map(|commit| commit.tree().unwrap());
        let mut builder = self.source.treebuilder(tree.as_ref()).unwrap();
        builder.insert(file, blob, 0o100_644).unwrap();
        let tree = self.source.find_tree(builder.write().unwrap()).unwrap();
        let author = Signature::now("Ada", "ada@example.org").unwrap();
        let parents: Vec<_> = parent.into_iter().collect();
        let commit = self.source.commit(None, &author, &author, text, &tree, &parents).unwrap();
        self.source.reference(name, commit, true, "test").unwrap();
        commit
    }

    async fn check_out(&self, branch: Option<&str>, commit: Option<Oid>, into: &str) -> Result<CheckedOut, GitError> {
        self.check_out_from(&self.url(), branch, commit, into).await.0
    }

    /// The outcome, with the lines that were said.
    async fn check_out_from(
        &self,
        url: &RepoUrl,
        branch: Option<&str>,
        commit: Option<Oid>,
        into: &str,
    ) -> (Result<CheckedOut, GitError>, Vec<String>) {
        let branch: Option<Branch> = branch.map(|b| b.parse().unwrap());
        let commit: Option<CommitId> = commit.map(|c| c.to_string().parse().unwrap());
        let (sender, mut lines) = mpsc::channel(4);
        let (stop, into) = (CancellationToken::new(), self.path(into));
        let read = async {
            let mut all = Vec::new();
            while let Some(line) = lines.recv().await {
                all.push(line);
            }
            all
        };
        let work = self.checkouts.check_out(url, branch.as_ref(), commit.as_ref(), &into, &stop, sender);
        tokio::join!(work, read)
    }

    fn mirror(&self) -> PathBuf {
        let mut folders = fs::read_dir(self.path("cache")).unwrap().map(|e| e.unwrap().path());
        folders.find(|p| p.extension().is_some_and(|e| e == "git")).unwrap()
    }
}

/// Every regular file below a folder with its bytes.
fn files_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            all.extend(files_of(&entry.path()));
        } else if kind.is_file() {
            all.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
    all
}

/// Overwrites files in place, as root in a container can.
fn overwrite(paths: impl IntoIterator<Item = PathBuf>) {
    for path in paths {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::File::options().write(true).truncate(true).open(&path).unwrap().write_all(b"overwritten").unwrap();
    }
}

fn status_of(folder: &Path) -> BTreeSet<(String, u32)> {
    let repository = Repository::open(folder).unwrap();
    let mut options = git2::StatusOptions::new();
    options.include_untracked(true).recurse_untracked_dirs(true);
    let statuses = repository.statuses(Some(&mut options)).unwrap();
    statuses.iter().map(|e| (e.path().unwrap().to_owned(), e.status().bits())).collect()
}

#[tokio::test]
async fn head_a_branch_and_the_commits_words() {
    let ground = Ground::with_commit();
    let next = ground.commit("next/one", "hello.txt", "second\n\nbody");
    let head = ground.check_out(None, None, "a").await.unwrap();
    assert_eq!((head.branch.unwrap().as_str(), head.subject.as_str(), head.author.as_str()), ("main", "first", "Ada"));
    assert_eq!(fs::read_to_string(ground.path("a/hello.txt")).unwrap(), "first");

    let branch = ground.check_out(Some("next/one"), None, "b").await.unwrap();
    assert_eq!(branch.commit.as_str(), next.to_string());
    assert_eq!(branch.subject, "second");
    let checkout = Repository::open(ground.path("b")).unwrap();
    assert_eq!(checkout.head().unwrap().name().unwrap(), "refs/heads/next/one");
    assert!(checkout.find_reference("refs/remotes/origin/main").is_ok());
    assert_eq!(checkout.find_remote("origin").unwrap().url().unwrap(), ground.url().reveal());
    assert_eq!(status_of(&ground.path("b")), BTreeSet::new());
}

#[tokio::test]
async fn what_is_missing_is_said_in_a_sentence_and_leaves_nothing() {
    let ground = Ground::new();
    let error = ground.check_out(None, None, "a").await.unwrap_err();
    assert!(matches!(error, GitError::Empty { .. }), "{error}");
    ground.commit("next", "x", "x");
    let error = ground.check_out(None, None, "a").await.unwrap_err();
    assert!(error.to_string().ends_with("say which branch to build. Its branches: next."), "{error}");
    let error = ground.check_out(Some("nxt"), None, "a").await.unwrap_err();
    assert!(error.to_string().ends_with("has no branch \"nxt\". Did you mean \"next\"?"), "{error}");
    let gone = Oid::from_str(&"1".repeat(40)).unwrap();
    let error = ground.check_out(Some("next"), Some(gone), "a").await.unwrap_err();
    assert!(matches!(error, GitError::CommitGone { .. }), "{error}");
    let nowhere: RepoUrl = ground.path("nowhere").to_str().unwrap().parse().unwrap();
    let (error, _) = ground.check_out_from(&nowhere, None, None, "a").await;
    let error = error.unwrap_err();
    assert!(matches!(error, GitError::NotFound { .. }) && !error.retry_worthy(), "{error}");
    assert!(!ground.path("a").exists());

    fs::create_dir(ground.path("full")).unwrap();
    fs::write(ground.path("full/mine"), "").unwrap();
    let error = ground.check_out(Some("next"), None, "full").await.unwrap_err();
    assert!(matches!(error, GitError::NotEmpty { .. }), "{error}");
    assert!(ground.path("full/mine").exists());
}

#[tokio::test]
async fn a_local_repository_needs_the_policy() {
    let ground = Ground::with_commit();
    let strict =
        Checkouts::new(ground.path("cache"), ClonePolicy { local_repos: false, home: None, ..ClonePolicy::default() });
    let (sender, _lines) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let error = strict.check_out(&ground.url(), None, None, &ground.path("a"), &stop, sender).await.unwrap_err();
    assert!(error.to_string().contains("--local-repos"), "{error}");
    let file: RepoUrl = format!("file://{}", ground.path("source").display()).parse().unwrap();
    assert!(ground.check_out_from(&file, None, None, "b").await.0.is_ok());
}

#[tokio::test]
async fn a_pinned_commit_outlives_a_force_push_and_what_moved_is_fetched() {
    let ground = Ground::with_commit();
    let old = ground.commit("main", "hello.txt", "old");
    ground.check_out(None, None, "a").await.unwrap();
    let new = ground.commit_on("refs/heads/main", None, "hello.txt", "rewritten");
    // A branch where a folder of branches was, and back: refs must not stand in each other's way.
    ground.commit("feature", "x", "x");
    ground.check_out(Some("feature"), None, "f").await.unwrap();
    ground.source.find_reference("refs/heads/feature").unwrap().delete().unwrap();
    ground.commit("feature/one", "x", "x");

    let pinned = ground.check_out(Some("main"), Some(old), "b").await.unwrap();
    assert_eq!(pinned.commit.as_str(), old.to_string());
    let tip = ground.check_out(None, None, "c").await.unwrap();
    assert_eq!(tip.commit.as_str(), new.to_string());
    assert!(ground.check_out(Some("feature/one"), None, "d").await.is_ok());
    let alone = ground.check_out(None, Some(old), "e").await.unwrap();
    assert_eq!(alone.branch, None);
    assert!(Repository::open(ground.path("e")).unwrap().head_detached().unwrap());
    let gone = Repository::open(ground.path("d")).unwrap();
    assert!(gone.find_reference("refs/remotes/origin/feature").is_err());
}

#[tokio::test]
async fn root_in_a_container_cannot_harm_the_mirror() {
    let ground = Ground::with_commit();
    ground.check_out(None, None, "a").await.unwrap();
    let before = files_of(&ground.mirror());
    let inode = |path: &PathBuf| fs::metadata(path).map(|m| (m.dev(), m.ino())).unwrap();
    let kept: BTreeSet<_> = before.keys().map(inode).collect();
    let written = files_of(&ground.path("a"));
    assert!(written.len() > 3);
    for path in written.keys() {
        assert!(!kept.contains(&inode(path)), "{} is shared", path.display());
        assert_eq!(fs::metadata(path).unwrap().nlink(), 1, "{}", path.display());
    }
    overwrite(written.into_keys());
    assert_eq!(files_of(&ground.mirror()), before);

    let (again, lines) = ground.check_out_from(&ground.url(), None, None, "b").await;
    again.unwrap();
    assert_eq!(lines.len(), 1, "the mirror was enough: {lines:?}");
    assert_eq!(fs::read_to_string(ground.path("b/hello.txt")).unwrap(), "first");
}

#[tokio::test]
async fn a_damaged_mirror_is_made_anew() {
    let ground = Ground::with_commit();
    ground.check_out(None, None, "first").await.unwrap();
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("objects", |mirror| overwrite(files_of(&mirror.join("objects")).into_keys())),
        ("no objects", |mirror| fs::remove_dir_all(mirror.join("objects")).unwrap()),
        ("head", |mirror| overwrite([mirror.join("HEAD")])),
        ("refs", |mirror| overwrite([mirror.join("packed-refs")])),
        ("a file", |mirror| {
            fs::remove_dir_all(mirror).unwrap();
            fs::write(mirror, "").unwrap();
        }),
    ];
    for (name, damage) in damages {
        damage(&ground.mirror());
        let done = ground.check_out(None, None, name).await;
        assert!(done.is_ok(), "{name}: {done:?}");
        assert_eq!(fs::read_to_string(ground.path(name).join("hello.txt")).unwrap(), "first", "{name}");
    }
}

#[tokio::test]
async fn a_copy_that_broke_off_is_made_again_even_if_the_commit_is_in_it() {
    let ground = Ground::with_commit();
    let new = ground.commit("main", "hello.txt", "second");
    // What lies in another folder is copied last: the commit will be in the mirror, and what lies there not.
    let old = Oid::hash_object(git2::ObjectType::Blob, b"first").unwrap();
    let (name, elsewhere) = (old.to_string(), ground.path("elsewhere"));
    let (own, there) = (ground.path("source/.git/objects"), elsewhere.join(&name[..2]).join(&name[2..]));
    fs::create_dir_all(there.parent().unwrap()).unwrap();
    fs::rename(own.join(&name[..2]).join(&name[2..]), ground.path("kept")).unwrap();
    fs::create_dir_all(own.join("info")).unwrap();
    fs::write(own.join("info/alternates"), format!("{}\n", elsewhere.display())).unwrap();
    fs::create_dir(&there).unwrap();
    let broken_off = ground.check_out(Some("main"), Some(new), "a").await;
    assert!(matches!(broken_off, Err(GitError::Disk { .. })), "{broken_off:?}");
    assert!(Repository::open_bare(ground.mirror()).unwrap().find_commit(new).is_ok());

    fs::remove_dir(&there).unwrap();
    fs::rename(ground.path("kept"), &there).unwrap();
    ground.check_out(Some("main"), Some(new), "b").await.unwrap();
    let checkout = Repository::open(ground.path("b")).unwrap();
    assert_eq!(checkout.find_blob(old).unwrap().content(), b"first", "its history is whole");
}

#[tokio::test]
async fn a_commit_that_no_disk_may_have_is_no_damaged_mirror() {
    let ground = Ground::with_commit();
    let blob = ground.source.blob(b"payload").unwrap();
    let author = Signature::now("Mallory", "mallory@example.org").unwrap();
    let objects = ground.source.odb().unwrap();
    let raw = |mode: &str, name: &str, oid: Oid| {
        let entry = [mode.as_bytes(), b" ", name.as_bytes(), b"\0", oid.as_bytes()].concat();
        objects.write(git2::ObjectType::Tree, &entry).unwrap()
    };
    let within = raw("100644", "config", blob);
    for (n, tree) in [
        raw("40000", ".git", within),
        raw("40000", ".GIT", within),
        raw("100644", "..", blob),
        raw("40000", "..", within),
        raw("40000", "git~1", within),
    ]
    .into_iter()
    .enumerate()
    {
        let tree = ground.source.find_tree(tree).unwrap();
        let commit = ground.source.commit(None, &author, &author, "hostile", &tree, &[]).unwrap();
        ground.source.reference("refs/heads/hostile", commit, true, "test").unwrap();
        let (done, lines) = ground.check_out_from(&ground.url(), Some("hostile"), None, &format!("into{n}")).await;
        let error = done.unwrap_err();
        assert!(!matches!(error, GitError::Mirror { .. }), "{n}: {error:?}");
        assert!(!lines.iter().any(|line| line.contains("made anew")), "{n}: {lines:?}");
        assert!(!ground.path(&format!("into{n}")).exists());
    }
}

#[tokio::test]
async fn many_loose_objects_become_one_pack_and_are_not_copied_again() {
    let ground = Ground::new();
    for n in 0..200 {
        ground.commit("main", &format!("f{n}"), &n.to_string());
    }
    ground.check_out(None, None, "a").await.unwrap();
    assert_eq!(files_of(&ground.mirror().join("objects")).len(), 2);
    ground.commit("main", "f0", "changed");
    ground.check_out(None, None, "b").await.unwrap();
    assert_eq!(files_of(&ground.mirror().join("objects")).len(), 2 + 3);
    assert_eq!(fs::read_to_string(ground.path("b/f0")).unwrap(), "changed");
}

#[tokio::test]
async fn checkouts_of_one_repository_at_once() {
    let ground = Ground::with_commit();
    let other =
        Checkouts::new(ground.path("cache"), ClonePolicy { local_repos: true, home: None, ..ClonePolicy::default() });
    // Another `Checkouts` has other locks, as another process has: the files' locks are what is left.
    let (url, stop) = (ground.url(), CancellationToken::new());
    let (path, other_sender) = (ground.path("d"), mpsc::channel(9).0);
    let (a, b, c, d) = tokio::join!(
        ground.check_out(None, None, "a"),
        ground.check_out(None, None, "b"),
        ground.check_out(Some("main"), None, "c"),
        other.check_out(&url, None, None, &path, &stop, other_sender)
    );
    let commits = [a, b, c, d].map(|done| done.unwrap().commit);
    assert!(commits.iter().all(|commit| *commit == commits[0]));
}

#[tokio::test]
async fn a_stop_before_and_amid_the_copy_leaves_nothing() {
    let ground = Ground::with_commit();
    let stop = CancellationToken::new();
    let (sender, mut lines) = mpsc::channel(1);
    sender.send("full".into()).await.unwrap();
    let (url, into) = (ground.url(), ground.path("a"));
    let work = ground.checkouts.check_out(&url, None, None, &into, &stop, sender);
    // The first line cannot be said until the channel is read, so the copy has not begun when the stop comes.
    let (done, ()) = tokio::join!(work, async { stop.cancel() });
    assert!(matches!(done, Err(GitError::Cancelled)), "{done:?}");
    while lines.recv().await.is_some() {}
    assert!(!into.exists());
    assert!(ground.check_out(None, None, "b").await.is_ok());
}

/// A server on loopback that treats each connection in a thread of its own.
struct Server {
    port: u16,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn new(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if seen.load(Ordering::SeqCst) {
                    return;
                }
                serve(stream.unwrap());
            }
        });
        Self { port, over, thread: Some(thread) }
    }

    /// `git daemon`, or nothing where there is no git.
    fn git(base: &Path) -> Option<Self> {
        if Command::new("git").arg("--version").output().is_err() {
            let required = std::env::var_os("BUILDR_TEST_REQUIRE").unwrap_or_default();
            assert!(!required.to_string_lossy().contains("git"), "git is required and not installed");
            eprintln!("skipped: git is not installed");
            return None;
        }
        let base = base.to_owned();
        Some(Self::new(move |stream| {
            let ends = (stream.try_clone().unwrap(), stream);
            let mut daemon = Command::new("git");
            daemon.args(["-c", "safe.directory=*", "daemon", "--inetd", "--export-all"]);
            daemon.arg(format!("--base-path={}", base.display())).env("GIT_CONFIG_NOSYSTEM", "1");
            daemon.stdin(Stdio::from(OwnedFd::from(ends.0))).stdout(Stdio::from(OwnedFd::from(ends.1)));
            daemon.stderr(Stdio::null()).status().unwrap();
        }))
    }

    fn url(&self, text: &str) -> RepoUrl {
        text.replace("PORT", &self.port.to_string()).parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the thread, which then sees that it is over.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        self.thread.take().map(JoinHandle::join);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_wire() {
    let ground = Ground::with_commit();
    let Some(server) = Server::git(ground.folder.path()) else { return };
    let url = server.url("git://127.0.0.1:PORT/source");
    let old = ground.commit("main", "hello.txt", "old");
    let (done, lines) = ground.check_out_from(&url, None, None, "a").await;
    assert_eq!(done.unwrap().commit.as_str(), old.to_string());
    assert!(lines[0].starts_with("fetching git://127.0.0.1:"), "{lines:?}");

    let (again, lines) = ground.check_out_from(&url, Some("main"), None, "b").await;
    again.unwrap();
    assert_eq!(lines.len(), 1, "nothing was new: {lines:?}");

    ground.commit_on("refs/heads/main", None, "hello.txt", "rewritten");
    let (tip, _) = ground.check_out_from(&url, None, None, "c").await;
    assert_eq!(tip.unwrap().subject, "rewritten");
    let (pinned, _) = ground.check_out_from(&url, Some("main"), Some(old), "d").await;
    assert_eq!(pinned.unwrap().subject, "old");

    let (missing, _) = ground.check_out_from(&url, Some("mainn"), None, "e").await;
    assert!(missing.unwrap_err().to_string().ends_with("Did you mean \"main\"?"));
    let config = fs::read_to_string(ground.mirror().join("config")).unwrap();
    assert!(!config.contains("remote"), "{config}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_a_pull_request_is_found_and_one_of_nowhere_is_gone() {
    let ground = Ground::with_commit();
    let Some(server) = Server::git(ground.folder.path()) else { return };
    let url = server.url("git://127.0.0.1:PORT/source");
    let below = ground.commit("topic", "hello.txt", "below");
    let request = ground.commit("topic", "hello.txt", "request");
    ground.source.reference("refs/pull/7/head", request, true, "test").unwrap();
    ground.source.find_reference("refs/heads/topic").unwrap().delete().unwrap();
    let lost = ground.commit_on("refs/heads/lost", None, "x", "lost");
    ground.source.find_reference("refs/heads/lost").unwrap().delete().unwrap();

    let (done, _) = ground.check_out_from(&url, None, Some(below), "a").await;
    assert_eq!(done.unwrap().subject, "below");
    let (done, _) = ground.check_out_from(&url, None, Some(lost), "b").await;
    let error = done.unwrap_err();
    assert!(matches!(error, GitError::CommitGone { .. }) && !error.retry_worthy(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_offered_once_and_never_shown() {
    let ground = Ground::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = Server::new(move |mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        let request = std::io::BufReader::new(stream.try_clone().unwrap());
        // The empty line ends a request.
        request.lines().map_while(Result::ok).find(String::is_empty);
        let answer =
            "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all(answer.as_bytes()).ok();
    });
    let url = server.url("http://me:s3cret@127.0.0.1:PORT/x.git");
    let (done, lines) = ground.check_out_from(&url, None, None, "a").await;
    let error = done.unwrap_err();
    assert!(matches!(error, GitError::Denied { .. }) && !error.retry_worthy(), "{error}");
    let all = format!("{error} {error:?} {lines:?}");
    assert!(all.contains("the user and password of the URL") && !all.contains("s3cret"), "{all}");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_fails_is_worth_another_try() {
    let ground = Ground::new();
    // Nobody listens there.
    let url: RepoUrl = "git://127.0.0.1:1/x".parse().unwrap();
    let (done, _) = ground.check_out_from(&url, None, None, "a").await;
    let error = done.unwrap_err();
    assert!(error.retry_worthy(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_silent_server() {
    let ground = Ground::new();
    let (accepted, heard) = std::sync::mpsc::channel();
    let server = Server::new(move |stream| accepted.send(stream).unwrap());
    let url = server.url("git://127.0.0.1:PORT/x");
    let (stop, into) = (CancellationToken::new(), ground.path("a"));
    let work = ground.checkouts.check_out(&url, None, None, &into, &stop, mpsc::channel(1).0);
    let connected = tokio::task::spawn_blocking(move || heard.recv().unwrap());
    let (done, _stream) = tokio::join!(work, async {
        let stream = connected.await.unwrap();
        stop.cancel();
        stream
    });
    assert!(matches!(done, Err(GitError::Cancelled)), "{done:?}");
    assert!(!into.exists());
}

/// A tree with everything that git knows about a file.
fn a_lived_in_tree(ground: &Ground) {
    let root = ground.path("source");
    let write = |name: &str, text: &str| {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), text).unwrap();
    };
    write("kept.txt", "kept");
    write("sub/changed.txt", "before");
    write("deleted.txt", "deleted");
    write("run.sh", "#!/bin/sh");
    fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("nowhere/at all", root.join("link")).unwrap();
    write(".gitignore", "ignored*\n");
    write("ignored-but-tracked", "tracked");
    let mut index = ground.source.index().unwrap();
    index.add_all(["*"], git2::IndexAddOption::FORCE, None).unwrap();
    index.write().unwrap();
    let tree = ground.source.find_tree(index.write_tree().unwrap()).unwrap();
    let author = Signature::now("Ada", "ada@example.org").unwrap();
    ground.source.commit(Some("HEAD"), &author, &author, "a tree", &tree, &[]).unwrap();
    ground.source.remote("origin", "https://me:s3cret@example.org/x.git").unwrap();
}

#[tokio::test]
async fn of_a_long_subject_and_author_the_beginning_is_told() {
    let ground = Ground::new();
    let long = "\u{e9}".repeat(1 << 20);
    let author = Signature::now(&format!("A{long}"), "ada@example.org").unwrap();
    let tree = ground.source.find_tree(ground.source.treebuilder(None).unwrap().write().unwrap()).unwrap();
    let subject = format!("s{long}\n\nmore");
    ground.source.commit(Some("refs/heads/long"), &author, &author, &subject, &tree, &[]).unwrap();
    let done = ground.check_out(Some("long"), None, "a").await.unwrap();
    let cut = "\u{e9}".repeat(511);
    assert_eq!((done.subject, done.author), (format!("s{cut}"), format!("A{cut}")));
}

#[tokio::test]
async fn a_clean_tree_is_copied_with_its_history() {
    let ground = Ground::new();
    a_lived_in_tree(&ground);
    let copy = copy_tree(&ground.path("source"), &ground.path("a"), &CancellationToken::new()).await.unwrap();
    assert_eq!((copy.dirty, copy.files, copy.subject.as_str()), (false, 7, "a tree"));
    assert_eq!(copy.branch.unwrap().as_str(), "main");
    let copied = Repository::open(ground.path("a")).unwrap();
    assert_eq!(copied.head().unwrap().target().unwrap().to_string(), copy.commit.unwrap().as_str());
    assert_eq!(copied.find_remote("origin").unwrap().url().unwrap(), "https://example.org/x.git");
    assert_eq!(status_of(&ground.path("a")), BTreeSet::new());
    let config = fs::read_to_string(ground.path("a/.git/config")).unwrap();
    assert!(!config.contains("s3cret"), "{config}");
    for path in files_of(&ground.path("a")).keys() {
        assert_eq!(fs::metadata(path).unwrap().nlink(), 1, "{}", path.display());
    }
}

#[tokio::test]
async fn a_dirty_tree_is_copied_as_it_is() {
    let ground = Ground::new();
    a_lived_in_tree(&ground);
    let root = ground.path("source");
    fs::write(root.join("sub/changed.txt"), "after").unwrap();
    fs::remove_file(root.join("deleted.txt")).unwrap();
    fs::create_dir_all(root.join("new")).unwrap();
    fs::write(root.join("new/untracked.txt"), "new").unwrap();
    fs::write(root.join("ignored.log"), "ignored").unwrap();
    fs::create_dir(root.join(".buildr-out")).unwrap();
    fs::write(root.join(".buildr-out/artifact"), "out").unwrap();
    let nested = Repository::init(root.join("vendored")).unwrap();
    fs::write(nested.workdir().unwrap().join("lib.c"), "int x;").unwrap();

    let copy = copy_tree(&root, &ground.path("a"), &CancellationToken::new()).await.unwrap();
    assert!(copy.dirty);
    let into = ground.path("a");
    let there = |name: &str| fs::symlink_metadata(into.join(name)).is_ok();
    assert_eq!(fs::read_to_string(into.join("sub/changed.txt")).unwrap(), "after");
    assert!(there("new/untracked.txt") && there("ignored-but-tracked") && there("vendored/lib.c"));
    assert!(!there("deleted.txt") && !there("ignored.log") && !there(".buildr-out") && !there("vendored/.git"));
    assert_eq!(fs::read_link(into.join("link")).unwrap(), Path::new("nowhere/at all"));
    assert_eq!(fs::metadata(into.join("run.sh")).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(copy.notes.iter().any(|note| note.starts_with("vendored is a repository")), "{:?}", copy.notes);
    let told = |folder: &Path| {
        let all = status_of(folder).into_iter();
        all.filter(|(p, _)| !p.starts_with("vendored") && !p.starts_with(".buildr-out")).collect::<Vec<_>>()
    };
    assert_eq!(told(&into), told(&root));
}

#[tokio::test]
async fn trees_without_a_commit_a_branch_or_git() {
    let ground = Ground::new();
    fs::write(ground.path("source/x"), "x").unwrap();
    let unborn = copy_tree(&ground.path("source"), &ground.path("a"), &CancellationToken::new()).await.unwrap();
    assert_eq!((unborn.commit, unborn.dirty, unborn.files), (None, true, 1));
    assert_eq!(Repository::open(ground.path("a")).unwrap().head().err().unwrap().code(), git2::ErrorCode::UnbornBranch);

    let commit = ground.commit("main", "x", "x");
    ground.source.set_head_detached(commit).unwrap();
    let detached = copy_tree(&ground.path("source"), &ground.path("b"), &CancellationToken::new()).await.unwrap();
    assert_eq!((detached.branch, detached.commit.unwrap().as_str()), (None, commit.to_string().as_str()));
    assert!(Repository::open(ground.path("b")).unwrap().head_detached().unwrap());

    fs::create_dir_all(ground.path("plain/empty")).unwrap();
    fs::create_dir_all(ground.path("plain/.buildr-out")).unwrap();
    fs::write(ground.path("plain/.buildr-out/x"), "out").unwrap();
    fs::write(ground.path("plain/y"), "y").unwrap();
    let plain = copy_tree(&ground.path("plain"), &ground.path("plain/into"), &CancellationToken::new()).await.unwrap();
    assert_eq!(plain, TreeCopy { files: 1, ..TreeCopy::default() });
    assert!(ground.path("plain/into/empty").is_dir() && !ground.path("plain/into/.buildr-out").exists());

    let stop = CancellationToken::new();
    stop.cancel();
    let stopped = copy_tree(&ground.path("plain"), &ground.path("stopped"), &stop).await;
    assert!(matches!(stopped, Err(GitError::Cancelled)), "{stopped:?}");
    assert!(!ground.path("stopped").exists());
    let missing = copy_tree(&ground.path("missing"), &ground.path("c"), &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(missing, GitError::Disk { .. }) && !ground.path("c").exists(), "{missing}");
}

#[tokio::test]
async fn a_folder_within_a_tree_and_a_linked_work_tree() {
    let ground = Ground::new();
    a_lived_in_tree(&ground);
    let within = copy_tree(&ground.path("source/sub"), &ground.path("a"), &CancellationToken::new()).await.unwrap();
    assert_eq!((within.files, within.dirty), (1, false));
    assert!(within.commit.is_some() && ground.path("a/changed.txt").exists() && !ground.path("a/.git").exists());

    fs::create_dir(ground.path("source/ignored-folder")).unwrap();
    fs::write(ground.path("source/ignored-folder/z"), "z").unwrap();
    let ignored =
        copy_tree(&ground.path("source/ignored-folder"), &ground.path("b"), &CancellationToken::new()).await.unwrap();
    assert_eq!(ignored, TreeCopy { files: 1, ..TreeCopy::default() });

    ground.source.worktree("other", &ground.path("other"), None).unwrap();
    let linked = copy_tree(&ground.path("other"), &ground.path("c"), &CancellationToken::new()).await.unwrap();
    assert_eq!((linked.branch.unwrap().as_str(), linked.files, linked.dirty), ("other", 7, false));
    assert!(ground.path("c/.git").is_dir());
    assert_eq!(status_of(&ground.path("c")), BTreeSet::new());
}

/// How long what must come soon is waited for before the test fails: far less than libgit2 waits for a silent server.
const SOON: Duration = Duration::from_secs(40);

/// A web server that answers the first question of each clone in one way, and never answers the second.
struct Web {
    port: u16,
    /// A word for each question of git's that came.
    asked: mpsc::UnboundedReceiver<&'static str>,
    connections: Arc<std::sync::Mutex<Vec<TcpStream>>>,
}

impl Drop for Web {
    /// Hangs up, so that nobody waits for it any more.
    fn drop(&mut self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.shutdown(std::net::Shutdown::Both).ok();
        }
    }
}

impl Web {
    /// Answers the first question with this status and body.
    fn answering(status: &'static str, body: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, asked) = mpsc::unbounded_channel();
        let connections = Arc::new(std::sync::Mutex::new(Vec::new()));
        let open = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                open.lock().unwrap().push(stream.as_ref().unwrap().try_clone().unwrap());
                let (stream, tell, body) = (stream.unwrap(), tell.clone(), body.clone());
                std::thread::spawn(move || one_connection(stream, status, &body, &tell));
            }
        });
        Self { port, asked, connections }
    }

    /// Offers a commit on main, and falls silent when somebody wants to have it.
    fn stalling() -> Self {
        let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
        let commit = "1".repeat(40);
        let first = line(&format!("{commit} HEAD\0side-band-64k ofs-delta symref=HEAD:refs/heads/main\n"));
        let main = line(&format!("{commit} refs/heads/main\n"));
        Self::answering("200 OK", format!("{}0000{first}{main}0000", line("# service=git-upload-pack\n")))
    }

    fn url(&self) -> RepoUrl {
        format!("http://127.0.0.1:{}/repo.git", self.port).parse().unwrap()
    }

    /// Waits until somebody wants the objects.
    async fn wanted(&mut self) {
        let wanted = async { while self.asked.recv().await != Some("want") {} };
        tokio::time::timeout(SOON, wanted).await.expect("the objects are asked for");
    }
}

fn one_connection(stream: TcpStream, status: &str, body: &str, tell: &mpsc::UnboundedSender<&'static str>) {
    let mut reader = std::io::BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head).is_ok_and(|read| read > 0) {
        if !head.ends_with("\r\n\r\n") {
            continue;
        }
        if head.starts_with("POST") {
            tell.send("want").ok();
            // Until the other end goes.
            reader.read_to_end(&mut Vec::new()).ok();
            return;
        }
        tell.send("list").ok();
        let kind = "application/x-git-upload-pack-advertisement";
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}");
        reader.get_mut().write_all(answer.as_bytes()).ok();
        head.clear();
    }
}

/// Checkouts of `ground` that call a server hung after so long.
fn patient(ground: &Ground, stall: Duration) -> Checkouts {
    Checkouts::new(ground.path("cache"), ClonePolicy { home: None, stall, ..ClonePolicy::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_is_given_up() {
    let (ground, mut web) = (Ground::new(), Web::stalling());
    let checkouts = patient(&ground, Duration::from_secs(5));
    for into in ["a", "b"] {
        let (stop, into) = (CancellationToken::new(), ground.path(into));
        let url = web.url();
        let work = checkouts.check_out(&url, None, None, &into, &stop, mpsc::channel(9).0);
        let (done, ()) = tokio::join!(tokio::time::timeout(SOON, work), web.wanted());
        let error = done.expect("the limit holds").unwrap_err();
        assert!(matches!(error, GitError::Stalled { seconds: 5, .. }) && error.retry_worthy(), "{error}");
        assert!(error.to_string().contains("--stall-timeout"), "{error}");
        assert!(!into.exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_checkout_holds_nobody_up_though_its_server_is_silent() {
    let (ground, mut web) = (Ground::new(), Web::stalling());
    let checkouts = patient(&ground, Duration::from_secs(3600));
    for into in ["a", "b"] {
        let (stop, into) = (CancellationToken::new(), ground.path(into));
        let url = web.url();
        let work = checkouts.check_out(&url, None, None, &into, &stop, mpsc::channel(9).0);
        // The second asks for the objects only once it has the lock that the first had.
        let cancel = async {
            web.wanted().await;
            stop.cancel();
        };
        let (done, ()) = tokio::join!(tokio::time::timeout(SOON, work), cancel);
        assert!(matches!(done.expect("it ends soon"), Err(GitError::Cancelled)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_web_server_answers_decides_by_its_status_whether_to_try_again() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let ground = Ground::new();
    for (status, again) in [
        ("404 Not Found", false),
        ("410 Gone", false),
        ("429 Too Many Requests", true),
        ("503 Service Unavailable", true),
    ] {
        // A text that says the contrary changes nothing.
        let web = Web::answering(status, "status 404 status 503 timeout".to_owned());
        let (done, _) = ground.check_out_from(&web.url(), None, None, "a").await;
        let error = done.unwrap_err();
        assert_eq!(error.retry_worthy(), again, "{status}: {error}");
        assert_eq!(matches!(error, GitError::NotFound { .. }), !again, "{status}: {error}");
    }
}
