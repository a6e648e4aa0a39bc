//! What counts as changed, in histories of every shape.

use super::*;

fn id(commit: Oid) -> CommitId {
    commit.to_string().parse().unwrap()
}

fn target(name: &str) -> Base {
    Base { target: Some(name.parse().unwrap()), ..Base::default() }
}

fn green(commit: Oid) -> Base {
    Base { last_green: Some(id(commit)), ..Base::default() }
}

fn pushed(commit: Oid) -> Base {
    Base { before: Some(id(commit)), ..Base::default() }
}

async fn changed(folder: &Path, base: &Base, commit: Option<Oid>) -> Option<Vec<String>> {
    let commit = commit.map(id);
    changed_files(folder, base, commit.as_ref(), &CancellationToken::new()).await.unwrap()
}

fn named(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

/// main: a, b, c; topic from b: t1, t2; old: a history of its own.
struct History {
    ground: Ground,
    a: Oid,
    b: Oid,
    c: Oid,
    t1: Oid,
    t2: Oid,
    old: Oid,
}

fn history() -> History {
    let ground = Ground::new();
    let a = ground.commit("main", "a", "a");
    let b = ground.commit("main", "b", "b");
    ground.source.reference("refs/heads/topic", b, true, "test").unwrap();
    let t1 = ground.commit("topic", "t1", "t1");
    let t2 = ground.commit("topic", "t2", "t2");
    let c = ground.commit("main", "c", "c");
    let old = ground.commit_on("refs/heads/old", None, "o", "o");
    History { ground, a, b, c, t1, t2, old }
}

#[tokio::test]
async fn each_base_and_what_it_leaves() {
    let h = history();
    let gone = Oid::from_str(&"1".repeat(40)).unwrap();
    let source = h.ground.path("source");
    let both = Base { target: Some("main".parse().unwrap()), last_green: Some(id(h.t1)), before: None };
    for (what, base, commit, expect) in [
        ("a branch: since it left the default branch", Base::default(), h.t2, named(&["t1", "t2"])),
        ("the default branch: the commit before", Base::default(), h.c, named(&["c"])),
        ("a pull request: since it left its target", target("main"), h.t2, named(&["t1", "t2"])),
        ("a pull request into its own branch", target("topic"), h.t2, named(&[])),
        ("the target wins over the last green", both, h.t2, named(&["t1", "t2"])),
        ("the last green", green(h.t1), h.t2, named(&["t2"])),
        ("where the branch was pushed to", pushed(h.a), h.c, named(&["b", "c"])),
        ("the branch was rewritten", pushed(h.t1), h.c, named(&["c"])),
        ("the last green wins over the push", Base { before: Some(id(h.b)), ..green(h.a) }, h.c, named(&["b", "c"])),
        ("the last green of long ago", green(h.a), h.c, named(&["b", "c"])),
        ("the green one is built again", green(h.c), h.c, None),
        ("the last green was pushed away", green(h.t1), h.c, None),
        ("the last green is not here any more", green(gone), h.c, None),
        ("the target is not here", target("nowhere"), h.c, None),
        ("no common history with the target", target("old"), h.c, None),
        ("no common history with the default branch", Base::default(), h.old, None),
        ("the first commit", Base::default(), h.a, None),
        ("a commit of nowhere", Base::default(), gone, None),
        ("a commit of the default branch, later not its tip", Base::default(), h.b, named(&["b"])),
    ] {
        assert_eq!(changed(&source, &base, Some(commit)).await, expect, "{what}");
    }
}

#[tokio::test]
async fn a_checkout_counts_as_its_repository_does() {
    let h = history();
    h.ground.check_out(Some("topic"), None, "topic").await.unwrap();
    let topic = h.ground.path("topic");
    assert_eq!(changed(&topic, &Base::default(), None).await, named(&["t1", "t2"]));
    assert_eq!(changed(&topic, &target("main"), Some(h.t2)).await, named(&["t1", "t2"]));
    // The history ends where it was cut, and nobody knows what was before.
    fs::write(topic.join(".git/shallow"), format!("{}\n", h.t2)).unwrap();
    assert_eq!(changed(&topic, &Base::default(), None).await, None);
    assert_eq!(changed(&topic, &green(h.t1), None).await, None);
}

#[tokio::test]
async fn moved_deleted_retyped_and_nested_files() {
    let ground = Ground::new();
    a_lived_in_tree(&ground);
    let root = ground.path("source");
    fs::rename(root.join("kept.txt"), root.join("moved.txt")).unwrap();
    fs::remove_file(root.join("deleted.txt")).unwrap();
    fs::remove_file(root.join("link")).unwrap();
    fs::create_dir(root.join("link")).unwrap();
    fs::write(root.join("link/inner"), "a folder now").unwrap();
    fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o644)).unwrap();
    let mut index = ground.source.index().unwrap();
    index.add_all(["*"], git2::IndexAddOption::DEFAULT, None).unwrap();
    index.update_all(["*"], None).unwrap();
    let tree = ground.source.find_tree(index.write_tree().unwrap()).unwrap();
    let parent = ground.source.head().unwrap().peel_to_commit().unwrap();
    let author = Signature::now("Ada", "ada@example.org").unwrap();
    let commit = ground.source.commit(Some("HEAD"), &author, &author, "moved", &tree, &[&parent]).unwrap();
    let expect = named(&["deleted.txt", "kept.txt", "link", "link/inner", "moved.txt", "run.sh"]);
    assert_eq!(changed(&root, &Base::default(), Some(commit)).await, expect);
}

#[tokio::test]
async fn what_is_not_committed_counts_on_a_laptop() {
    let h = history();
    let root = h.ground.path("source");
    let head = h.ground.source.find_commit(h.c).unwrap();
    h.ground.source.reset(head.as_object(), git2::ResetType::Hard, None).unwrap();
    assert_eq!(changed(&root, &Base::default(), None).await, named(&["c"]));
    fs::write(root.join("a"), "changed").unwrap();
    fs::create_dir_all(root.join("sub/deep")).unwrap();
    fs::write(root.join("sub/deep/new"), "new").unwrap();
    fs::write(root.join(".git/info/exclude"), "*.log\n").unwrap();
    fs::write(root.join("x.log"), "ignored").unwrap();
    fs::create_dir(root.join(".buildr-out")).unwrap();
    fs::write(root.join(".buildr-out/x"), "out").unwrap();
    assert_eq!(changed(&root, &Base::default(), None).await, named(&["a", "c", "sub/deep/new"]));
    assert_eq!(changed(&root, &Base::default(), Some(h.c)).await, named(&["c"]), "the commit alone");
    assert_eq!(changed(&root.join("sub"), &Base::default(), None).await, named(&["deep/new"]));
}

#[tokio::test]
async fn too_many_are_everything_and_a_stop_is_heard() {
    let ground = Ground::with_commit();
    let blob = ground.source.blob(b"x").unwrap();
    let parent = ground.source.head().unwrap().peel_to_commit().unwrap();
    let author = Signature::now("Ada", "ada@example.org").unwrap();
    let with_files = |count: usize| {
        let mut builder = ground.source.treebuilder(None).unwrap();
        for n in 0..count {
            builder.insert(format!("f{n:05}"), blob, 0o100_644).unwrap();
        }
        let tree = ground.source.find_tree(builder.write().unwrap()).unwrap();
        ground.source.commit(None, &author, &author, "many", &tree, &[&parent]).unwrap()
    };
    // hello.txt goes, so one more than were added.
    let (just, over) = (with_files(9_999), with_files(10_000));
    let found = changed(&ground.path("source"), &Base::default(), Some(just)).await;
    assert_eq!(found.map(|names| names.len()), Some(10_000));
    assert_eq!(changed(&ground.path("source"), &Base::default(), Some(over)).await, None);
    let stop = CancellationToken::new();
    stop.cancel();
    let stopped = changed_files(&ground.path("source"), &Base::default(), Some(&id(over)), &stop).await;
    assert!(matches!(stopped, Err(GitError::Cancelled)), "{stopped:?}");
}
