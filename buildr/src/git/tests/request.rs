//! The merge of a pull request, as forges offer it under a ref.

use super::*;

/// A repository whose `topic` is to go into `main`, and whose merge of both is offered.
fn proposed() -> (Ground, Oid, Oid) {
    let ground = Ground::with_commit();
    let base = ground.source.head().unwrap().target().unwrap();
    ground.source.reference("refs/heads/topic", base, true, "test").unwrap();
    let head = ground.commit("topic", "new.txt", "proposed");
    let main = ground.commit("main", "other.txt", "meanwhile");
    let merge = merge(&ground, main, head);
    ground.source.reference("refs/pull/7/head", head, true, "test").unwrap();
    ground.source.reference("refs/pull/7/merge", merge, true, "test").unwrap();
    (ground, head, merge)
}

fn merge(ground: &Ground, one: Oid, other: Oid) -> Oid {
    let (one, other) = (ground.source.find_commit(one).unwrap(), ground.source.find_commit(other).unwrap());
    let mut index = ground.source.merge_commits(&one, &other, None).unwrap();
    let tree = ground.source.find_tree(index.write_tree_to(&ground.source).unwrap()).unwrap();
    let author = Signature::now("Forge", "forge@example.org").unwrap();
    ground.source.commit(None, &author, &author, "Merge", &tree, &[&one, &other]).unwrap()
}

fn id(commit: Oid) -> CommitId {
    commit.to_string().parse().unwrap()
}

async fn look(checkouts: &Checkouts, url: &RepoUrl, reference: &str, head: Oid) -> Merge {
    let (progress, _) = mpsc::channel(16);
    let found = checkouts.merge_of(url, reference, &id(head), &CancellationToken::new(), progress).await;
    found.unwrap()
}

#[tokio::test]
async fn a_merge_of_the_very_commit_is_found_and_checked_out() {
    let (ground, head, merge_commit) = proposed();
    let look = async |reference: &str, head: Oid| look(&ground.checkouts, &ground.url(), reference, head).await;
    assert_eq!(look("refs/pull/7/merge", head).await, Merge::Of(id(merge_commit)));
    assert_eq!(look("refs/pull/8/merge", head).await, Merge::None);
    for no_merge in ["refs/heads/main", "refs/pull/7/head", "refs/pull//merge", "refs/pull/7/../../x/merge", "HEAD"] {
        assert_eq!(look(no_merge, head).await, Merge::None, "{no_merge}");
    }
    let done = ground.check_out(None, Some(merge_commit), "out").await.unwrap();
    assert_eq!(done.commit, id(merge_commit));
    assert!(ground.path("out").join("new.txt").exists() && ground.path("out").join("other.txt").exists());
}

#[tokio::test]
async fn what_was_pushed_since_is_not_what_was_asked_for() {
    let (ground, head, _) = proposed();
    let newer = ground.commit("topic", "more.txt", "pushed since");
    let main = ground.source.find_reference("refs/heads/main").unwrap().target().unwrap();
    let merged = merge(&ground, main, newer);
    ground.source.reference("refs/pull/7/merge", merged, true, "test").unwrap();
    assert_eq!(look(&ground.checkouts, &ground.url(), "refs/pull/7/merge", head).await, Merge::Other);
    assert_eq!(look(&ground.checkouts, &ground.url(), "refs/pull/7/merge", newer).await, Merge::Of(id(merged)));
    // A ref that leads to a plain commit is no merge of it.
    ground.source.reference("refs/pull/9/merge", newer, true, "test").unwrap();
    assert_eq!(look(&ground.checkouts, &ground.url(), "refs/pull/9/merge", newer).await, Merge::Other);
}
