//! A person's tree as it is committed, and what is told of it.

use protocol::plan::CloneOptions;

use super::options::with_a_large_file;
use super::town::Town;
use super::town::What::{Module, Text};
use super::*;

/// A lived-in tree with changes of every kind that are not committed.
fn a_changed_tree() -> (Ground, PathBuf) {
    let ground = Ground::new();
    a_lived_in_tree(&ground);
    let root = ground.path("source");
    fs::write(root.join("sub/changed.txt"), "after").unwrap();
    fs::remove_file(root.join("deleted.txt")).unwrap();
    fs::write(root.join("untracked.txt"), "new").unwrap();
    fs::write(root.join("staged.txt"), "staged").unwrap();
    fs::write(root.join("ignored.log"), "ignored").unwrap();
    let mut index = ground.source.index().unwrap();
    index.add_path(Path::new("staged.txt")).unwrap();
    index.write().unwrap();
    (ground, root)
}

#[tokio::test]
async fn exactly_head_is_copied() {
    let (ground, root) = a_changed_tree();
    let into = ground.path("a");
    let copy = copy_committed(&root, &into, &CancellationToken::new()).await.unwrap();
    assert_eq!((copy.dirty, copy.changed, copy.files), (false, 4, 7));
    assert!(copy.notes.iter().any(|note| note.ends_with("which are left out: 4")), "{:?}", copy.notes);
    assert_eq!(fs::read_to_string(into.join("sub/changed.txt")).unwrap(), "before");
    assert!(into.join("deleted.txt").exists() && into.join("ignored-but-tracked").exists());
    for left_out in ["untracked.txt", "staged.txt", "ignored.log"] {
        assert!(!into.join(left_out).exists(), "{left_out}");
    }
    assert_eq!(fs::read_link(into.join("link")).unwrap(), Path::new("nowhere/at all"));
    assert_eq!(fs::metadata(into.join("run.sh")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(status_of(&into), BTreeSet::new());
    let own = Repository::open(&into).unwrap();
    assert_eq!(own.head().unwrap().name().unwrap(), "refs/heads/main");
    for path in files_of(&into).keys() {
        assert_eq!(fs::metadata(path).unwrap().nlink(), 1, "{}", path.display());
    }
    // The original is as it was.
    assert_eq!(fs::read_to_string(root.join("sub/changed.txt")).unwrap(), "after");
    assert!(ground.source.index().unwrap().get_path(Path::new("staged.txt"), 0).is_some());

    let within = copy_committed(&root.join("sub"), &ground.path("b"), &CancellationToken::new()).await.unwrap();
    assert_eq!((within.files, within.changed), (1, 1));
    assert_eq!(fs::read_to_string(ground.path("b/changed.txt")).unwrap(), "before");
    assert!(!ground.path("b/.git").exists());
}

#[tokio::test]
async fn what_a_commit_only_points_to_is_told() {
    let town = Town::new();
    let lib = town.commit("lib", &[("lib.c", Text("lib"))]);
    with_a_large_file(&town);
    town.commit("app", &[("lib", Module(lib))]);
    town.fetch(&town.url("app"), &CloneOptions::default(), "a").await.0.unwrap();
    let copy = copy_committed(&town.path("a"), &town.path("b"), &CancellationToken::new()).await.unwrap();
    let notes = [
        "files kept by git LFS are not fetched; their pointers stand in their places",
        "submodules are not fetched: lib",
    ];
    assert_eq!((copy.notes, copy.files, copy.changed), (notes.map(str::to_owned).to_vec(), 3, 0));
    assert_eq!(status_of(&town.path("b")), BTreeSet::new());
}

#[tokio::test]
async fn what_is_not_committed_at_all_is_a_sentence() {
    let ground = Ground::new();
    let no_commit = async |from: &Path| {
        let done = copy_committed(from, &ground.path("a"), &CancellationToken::new()).await;
        assert!(matches!(done, Err(GitError::NoCommit { .. })), "{done:?}");
        assert!(!ground.path("a").exists());
    };
    no_commit(&ground.path("source")).await;
    no_commit(ground.folder.path()).await;
    a_lived_in_tree(&ground);
    fs::create_dir(ground.path("source/new")).unwrap();
    no_commit(&ground.path("source/new")).await;
}

#[tokio::test]
async fn a_tree_is_described_without_a_copy() {
    let (ground, root) = a_changed_tree();
    let head = ground.source.head().unwrap().peel_to_commit().unwrap();
    let at = |seconds| Signature::new("Ada", "ada@example.org", &git2::Time::new(seconds, 0)).unwrap();
    for (name, seconds) in [("v1", 2_000), ("v2", 1_000)] {
        ground.source.tag(name, head.as_object(), &at(seconds), "a release", false).unwrap();
    }
    ground.source.tag_lightweight("zz", head.as_object(), false).unwrap();
    let found = describe_tree(&root, &CancellationToken::new()).await.unwrap();
    assert_eq!(found.commit.unwrap().as_str(), head.id().to_string());
    assert_eq!((found.tag.as_deref(), found.changed, found.dirty, found.files), (Some("v1"), 4, true, 0));
    assert_eq!((found.subject.as_str(), found.author.as_str()), ("a tree", "Ada"));
    assert_eq!(found.committed_s, Some(head.time().seconds()));

    let nothing = describe_tree(ground.folder.path(), &CancellationToken::new()).await.unwrap();
    assert_eq!(nothing, TreeCopy::default());
}

#[tokio::test]
async fn the_branch_that_work_goes_into() {
    let ground = Ground::new();
    let told = async || {
        let found = describe_tree(&ground.path("source"), &CancellationToken::new()).await.unwrap();
        found.default_branch.map(|branch| branch.as_str().to_owned())
    };
    assert_eq!(told().await, None);
    let commit = ground.commit("trunk", "x", "x");
    assert_eq!(told().await, None, "nobody says so");
    ground.commit("master", "x", "x");
    assert_eq!(told().await.as_deref(), Some("master"));
    ground.commit("main", "x", "x");
    assert_eq!(told().await.as_deref(), Some("main"));
    ground.source.reference("refs/remotes/origin/trunk", commit, true, "test").unwrap();
    let target = "refs/remotes/origin/trunk";
    ground.source.reference_symbolic("refs/remotes/origin/HEAD", target, true, "test").unwrap();
    assert_eq!(told().await.as_deref(), Some("trunk"));
    // A checkout knows it from its remote.
    ground.source.set_head("refs/heads/trunk").unwrap();
    ground.check_out(Some("main"), None, "a").await.unwrap();
    let found = describe_tree(&ground.path("a"), &CancellationToken::new()).await.unwrap();
    assert_eq!(found.default_branch.unwrap().as_str(), "trunk");
}
