//! Branches, files and code of other repositories.

use super::*;

fn branch(name: &str) -> Branch {
    name.parse().unwrap()
}

async fn resolve(ground: &Ground, url: &RepoUrl, wanted: Option<&str>, ours: Option<&str>) -> Result<String, GitError> {
    let (wanted, ours) = (wanted.map(branch), ours.map(branch));
    let stop = CancellationToken::new();
    let found = ground.checkouts.resolve_branch(url, wanted.as_ref(), ours.as_ref(), &stop).await?;
    let tip = ground.source.find_branch(found.branch.as_str(), git2::BranchType::Local).unwrap();
    assert_eq!(tip.get().target().unwrap().to_string(), found.commit.as_str());
    Ok(found.branch.as_str().to_owned())
}

async fn branches_of(ground: &Ground, url: &RepoUrl) {
    for (wanted, ours, expect) in [
        (None, None, "main"),
        (None, Some("topic"), "topic"),
        (None, Some("unknown"), "main"),
        (Some("other"), Some("topic"), "other"),
    ] {
        assert_eq!(resolve(ground, url, wanted, ours).await.unwrap(), expect, "{wanted:?} {ours:?}");
    }
    let error = resolve(ground, url, Some("othr"), Some("topic")).await.unwrap_err();
    assert!(error.to_string().ends_with("Did you mean \"other\"?"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_branch_of_another_repository() {
    let ground = Ground::with_commit();
    ground.commit("topic", "x", "x");
    ground.commit("other", "y", "y");
    branches_of(&ground, &ground.url()).await;
    assert!(!ground.path("cache").exists(), "nothing is fetched");
    let Some(server) = Server::git(ground.folder.path()) else { return };
    branches_of(&ground, &server.url("git://127.0.0.1:PORT/source")).await;

    ground.source.set_head_detached(ground.commit("main", "z", "z")).unwrap();
    let error = resolve(&ground, &ground.url(), None, None).await.unwrap_err();
    assert!(matches!(error, GitError::NoHead { .. }), "{error}");
    let strict = Checkouts::new(ground.path("cache"), ClonePolicy { home: None, ..ClonePolicy::default() });
    let refused = strict.resolve_branch(&ground.url(), None, None, &CancellationToken::new()).await;
    assert!(matches!(refused, Err(GitError::LocalRefused { .. })), "{refused:?}");
}

async fn read(ground: &Ground, url: &RepoUrl, reference: Option<&str>, path: &str) -> Result<FileAt, GitError> {
    ground.checkouts.read_file_at(url, reference, path, 100, &CancellationToken::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_at_a_branch_a_tag_and_a_commit() {
    let ground = Ground::new();
    a_lived_in_tree(&ground);
    let old = ground.commit("main", "kept.txt", "one");
    let author = Signature::now("Ada", "ada@example.org").unwrap();
    let tagged = ground.source.find_commit(old).unwrap();
    ground.source.tag("v1", tagged.as_object(), &author, "version 1", false).unwrap();
    ground.source.tag_lightweight("light", tagged.as_object(), false).unwrap();
    let new = ground.commit("main", "kept.txt", "two");
    let pinned = old.to_string();
    let Some(server) = Server::git(ground.folder.path()) else { return };
    for url in [ground.url(), server.url("git://127.0.0.1:PORT/source")] {
        for (reference, text, commit) in [
            (None, "two", new),
            (Some("main"), "two", new),
            (Some("v1"), "one", old),
            (Some("light"), "one", old),
            (Some(pinned.as_str()), "one", old),
        ] {
            let file = read(&ground, &url, reference, "kept.txt").await.unwrap();
            assert_eq!((file.bytes.as_slice(), file.commit.as_str()), (text.as_bytes(), commit.to_string().as_str()));
        }
        assert_eq!(read(&ground, &url, None, "sub/changed.txt").await.unwrap().bytes, b"before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_a_file_is_what_it_was_when_it_was_fetched() {
    let ground = Ground::with_commit();
    let Some(server) = Server::git(ground.folder.path()) else { return };
    let url = server.url("git://127.0.0.1:PORT/source");
    let policy = ClonePolicy { home: None, offline: true, ..ClonePolicy::default() };
    let offline = Checkouts::new(ground.path("cache"), policy);
    let stop = CancellationToken::new();
    let kept = async |reference| offline.read_file_at(&url, reference, "hello.txt", 100, &stop).await;
    let not_kept = |read| matches!(read, Err(GitError::NotKept { .. }));
    assert!(not_kept(kept(Some("main")).await), "nothing was fetched yet");
    read(&ground, &url, None, "hello.txt").await.unwrap();
    let since = ground.commit("main", "hello.txt", "second").to_string();
    ground.commit("later", "hello.txt", "third");
    assert_eq!(kept(Some("main")).await.unwrap().bytes, b"first");
    for reference in [None, Some("later"), Some(since.as_str())] {
        assert!(not_kept(kept(reference).await), "{reference:?}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_a_sentence() {
    let ground = Ground::new();
    a_lived_in_tree(&ground);
    ground.commit("main", "large", &"x".repeat(101));
    ground.commit("main", "fits", &"x".repeat(100));
    let url = ground.url();
    assert_eq!(read(&ground, &url, None, "fits").await.unwrap().bytes.len(), 100);
    for (reference, path, expect) in [
        (None, "nothing", "there is no such file"),
        (None, "sub", "it is no plain file"),
        (None, "link", "it is no plain file"),
        (None, "large", "it is 101 bytes long, and at most 100 are taken"),
        (None, "../source/fits", "there is no such file"),
        (None, "/etc/passwd", "there is no such file"),
        (None, "", "there is no such file"),
        (Some("nain"), "fits", "Did you mean \"main\"?"),
        (Some("--upload-pack=id"), "fits", "git would take for an option"),
        (Some("a..b"), "fits", "is not a branch's name; write a branch, a tag, or the 40 digits of a commit"),
        (Some("1111111111111111111111111111111111111111"), "fits", "is no longer reachable"),
    ] {
        let error = read(&ground, &url, reference, path).await.unwrap_err();
        assert!(error.to_string().contains(expect), "{path}: {error}");
    }
}

#[tokio::test]
async fn another_repository_beside_the_own_code() {
    let ground = Ground::with_commit();
    ground.check_out(None, None, "ws").await.unwrap();
    let (workspace, url, stop) = (ground.path("ws"), ground.url(), CancellationToken::new());
    let at = ground.checkouts.resolve_branch(&url, None, None, &stop).await.unwrap();
    let beside = async |path: &str| {
        let (unheard, _) = mpsc::channel(1);
        ground.checkouts.check_out_beside(&url, &at, &workspace, path, &stop, unheard).await
    };
    let done = beside("deps/my lib#1").await.unwrap();
    assert_eq!((done.commit, done.branch), (at.commit.clone(), Some(at.branch.clone())));
    assert_eq!(fs::read_to_string(workspace.join("deps/my lib#1/hello.txt")).unwrap(), "first");
    assert!(Repository::open(workspace.join("deps/my lib#1")).is_ok());
    assert_eq!(status_of(&workspace), BTreeSet::new(), "the workspace's own git does not see it");

    std::os::unix::fs::symlink(ground.path("elsewhere"), workspace.join("link")).unwrap();
    fs::create_dir(ground.path("elsewhere")).unwrap();
    for (path, expect) in [
        ("../out", "it leads out of the workspace"),
        ("a/../../out", "it leads out of the workspace"),
        ("/tmp/x", "it leads out of the workspace"),
        ("link", "a file or a link stands in its way"),
        ("link/x", "a file or a link stands in its way"),
        ("hello.txt/x", "a file or a link stands in its way"),
        (".git/hooks", "git keeps its own files there"),
        ("a/.GIT./x", "git keeps its own files there"),
        ("git~1", "git keeps its own files there"),
        (".g\u{200c}it", "git keeps its own files there"),
        ("a\nb", "it holds a control character"),
        ("", "it names no folder of its own"),
        (".", "it names no folder of its own"),
        ("deps", "is not empty"),
    ] {
        let error = beside(path).await.unwrap_err();
        assert!(error.to_string().contains(expect), "{path:?}: {error}");
    }
    assert_eq!(fs::read_dir(ground.path("elsewhere")).unwrap().count(), 0);
}
