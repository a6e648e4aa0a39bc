//! What is kept for checkouts to lie over: nobody sees anything of another, and it comes and goes as it should.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::time::Duration;

use super::laid::{File_, Floor, Ground_, all_of, git, may_mount, same};
use super::town::{Town, What};
use super::*;
use crate::overlay::{self, Ground, Way};

/// Writes, deletes, renames, links and changes modes as root in a container can.
fn spoil(root: &Path) {
    for (path, (mode, _)) in all_of(root) {
        let path = root.join(path);
        if mode & 0o170_000 == 0o100_000 {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
            fs::hard_link(&path, path.with_extension("linked")).unwrap();
            File::options().append(true).open(path.with_extension("linked")).unwrap().write_all(b"spoilt").unwrap();
            Command::new("setfattr").args(["-n", "user.spoilt", "-v", "x"]).arg(&path).output().ok();
        }
    }
    let packs = files_of(&root.join(".git")).into_keys();
    overwrite(packs);
    fs::rename(root.join("more"), root.join("moved")).unwrap();
    fs::remove_file(root.join("a")).unwrap();
    symlink("/etc", root.join("a")).unwrap();
}

#[tokio::test]
async fn what_one_build_does_no_other_sees() {
    if !may_mount() {
        return;
    }
    let ground = Ground_::new();
    ground.put(&[("a", git2::FileMode::Blob, "a"), ("d/b", git2::FileMode::Blob, "b")]);
    let one = ground.floor("one", Way::Overlay);
    ground.lay(&one, None).await;
    let lower = one.over();
    let (kept, mirror) = (files_of(&lower), files_of(&ground.mirror()));
    let beside = ground.floor("beside", Way::Overlay);
    ground.lay(&beside, None).await;
    spoil(one.path());
    let after = ground.floor("after", Way::Overlay);
    ground.lay(&after, None).await;
    assert_eq!((beside.over(), after.over()), (lower.clone(), lower.clone()), "all lie over the same");
    let fresh = ground.fresh(None, "fresh").await;
    for other in [&beside, &after] {
        same(other.path(), &fresh, "another build");
        git(other.path(), &["fsck", "--strict"]);
    }
    assert_eq!(files_of(&lower), kept);
    assert_eq!(files_of(&ground.mirror()), mirror);
    // What was written lies with the build, and goes with it.
    assert!(overlay::upper_of(one.path()).is_some());
    let path = one.path().to_owned();
    drop(one);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    assert!(!path.with_extension("layers").exists());
}

#[tokio::test]
async fn a_new_one_is_made_when_that_costs_less_and_the_old_one_goes_with_its_last_build() {
    if !may_mount() {
        return;
    }
    let ground = Ground_::new();
    ground.put(&[("a", git2::FileMode::Blob, "0")]);
    let old = ground.floor("old", Way::Overlay);
    ground.lay(&old, None).await;
    let first = old.over();
    let many: Vec<String> = (0..200).map(|number| format!("new/{number}")).collect();
    let many: Vec<File_<'_>> = many.iter().map(|path| (path.as_str(), git2::FileMode::Blob, "x")).collect();
    ground.put(&many);
    let ahead = ground.floor("ahead", Way::Overlay);
    ground.checkouts.lay_ahead(&ground.url(), &ahead.0).await.unwrap();
    let new = ground.floor("new", Way::Overlay);
    ground.lay(&new, None).await;
    assert_ne!(new.over(), first);
    ground.lay(&ahead, None).await;
    assert_eq!(ahead.over(), first, "what was laid ahead stays where it is");
    let fresh = ground.fresh(None, "fresh").await;
    same(ahead.path(), &fresh, "over the old one");
    same(new.path(), &fresh, "over the new one");
    assert_eq!(git(old.path(), &["status", "--porcelain"]), "");
    drop((old, ahead));
    ground.put(&[("b", git2::FileMode::Blob, "0")]);
    for name in ["next", "last"] {
        let floor = ground.floor(name, Way::Overlay);
        ground.lay(&floor, None).await;
    }
    assert!(!first.exists(), "nobody uses it any more");
}

#[tokio::test]
async fn time_tells_what_a_cache_was_made_of() {
    if !may_mount() {
        return;
    }
    let ground = Ground_::new();
    let text = |text| vec![("a", git2::FileMode::Blob, text), ("b", git2::FileMode::Blob, "b")];
    let first = ground.put(&text("first"));
    let one = ground.floor("one", Way::Overlay);
    ground.lay(&one, None).await;
    let modified = |floor: &Floor, name: &str| fs::metadata(floor.path().join(name)).unwrap().modified().unwrap();
    let kept = modified(&one, "a");
    ground.put(&text("other"));
    let other = ground.floor("other", Way::Overlay);
    ground.lay(&other, None).await;
    // What the other build makes of its `a`, and a cache keeps, is newer than the `a` that is kept.
    let made = modified(&other, "a");
    ground.source.reference("refs/heads/main", first, true, "test").unwrap();
    let back = ground.floor("back", Way::Overlay);
    ground.lay(&back, None).await;
    assert_eq!(back.over(), one.over());
    assert!(modified(&back, "a") >= made && made > kept);
    assert_eq!(modified(&back, "b"), kept, "it was never otherwise");
    assert_eq!(git(back.path(), &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_ground_that_lies_over_another_repository_is_emptied_first() {
    if !may_mount() {
        return;
    }
    let town = Town::new();
    for name in ["one", "other"] {
        town.commit(name, &[("file", What::Text(name))]);
    }
    let check_out = async |name: &str, ground: &Arc<Ground>| {
        let (sender, _lines) = mpsc::channel(16);
        let stop = CancellationToken::new();
        town.checkouts.check_out_onto(&town.url(name), None, None, ground, &stop, sender).await.unwrap();
    };
    fs::create_dir(town.path("made")).unwrap();
    let made = Floor(Arc::new(Ground::new(town.path("made"), Way::Overlay)));
    check_out("one", &made.0).await;
    fs::create_dir(town.path("ahead")).unwrap();
    let ahead = Floor(Arc::new(Ground::new(town.path("ahead"), Way::Overlay)));
    assert!(town.checkouts.lay_ahead(&town.url("one"), &ahead.0).await.unwrap());
    assert_eq!(town.text("ahead/file"), "one");
    check_out("other", &ahead.0).await;
    assert_eq!(town.text("ahead/file"), "other");
    assert!(!town.checkouts.lay_ahead(&town.url("nowhere"), &ahead.0).await.unwrap());
}

#[tokio::test]
async fn what_cannot_be_had_leaves_an_empty_ground() {
    if !may_mount() {
        return;
    }
    let ground = Ground_::with_commit();
    let floor = ground.floor("one", Way::Overlay);
    ground.lay(&floor, None).await;
    let ahead = ground.floor("ahead", Way::Overlay);
    assert!(ground.checkouts.lay_ahead(&ground.url(), &ahead.0).await.unwrap());
    let (sender, _lines) = mpsc::channel(16);
    let (stop, branch) = (CancellationToken::new(), "nowhere".parse().unwrap());
    let error =
        ground.checkouts.check_out_onto(&ground.url(), Some(&branch), None, &ahead.0, &stop, sender).await.unwrap_err();
    assert!(matches!(error, GitError::NoBranch { .. }), "{error}");
    assert_eq!(fs::read_dir(ahead.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_mirror_goes_with_what_lies_beside_it_unless_a_build_uses_it() {
    if !may_mount() {
        return;
    }
    let ground = Ground_::with_commit();
    let floor = ground.floor("one", Way::Overlay);
    ground.lay(&floor, None).await;
    let mirrors = ground.checkouts.mirrors().await;
    let alone = files_of(&ground.mirror()).values().map(|bytes| bytes.len() as u64).sum::<u64>();
    assert!(ground.checkouts.size_of(&mirrors[0]).await > alone, "what is kept beside it counts");
    assert!(!ground.checkouts.remove_mirror(&mirrors[0]).await.unwrap());
    assert_eq!(git(floor.path(), &["status", "--porcelain"]), "");
    drop(floor);
    // A program that another test is just starting holds all that is open here until it has begun.
    while !ground.checkouts.remove_mirror(&mirrors[0]).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(ground.checkouts.mirrors().await.is_empty());
}

#[tokio::test]
async fn two_processes_share_what_is_kept() {
    if !may_mount() {
        return;
    }
    let ground = Ground_::with_commit();
    let policy = ClonePolicy { local_repos: true, home: None, ..ClonePolicy::default() };
    // With locks of its own, as another process has.
    let other = Checkouts::new(ground.path("cache"), policy);
    let (one, two) = (ground.floor("one", Way::Overlay), ground.floor("two", Way::Overlay));
    let check_out = async |checkouts: &Checkouts, floor: &Floor| {
        let (sender, _lines) = mpsc::channel(16);
        let stop = CancellationToken::new();
        checkouts.check_out_onto(&ground.url(), None, None, &floor.0, &stop, sender).await.unwrap();
    };
    tokio::join!(check_out(&ground.checkouts, &one), check_out(&other, &two));
    assert_eq!(one.over(), two.over(), "one of them made it, and the other waited");
    let fresh = ground.fresh(None, "fresh").await;
    same(one.path(), &fresh, "one");
    same(two.path(), &fresh, "two");
    drop(one);
    let mirrors = ground.checkouts.mirrors().await;
    assert!(!ground.checkouts.remove_mirror(&mirrors[0]).await.unwrap(), "the other process uses it");
}

#[tokio::test]
async fn what_containers_could_not_write_to_is_made_open_next_time() {
    if !may_mount() {
        return;
    }
    let ground = Ground_::new();
    ground.put(&[("run", git2::FileMode::BlobExecutable, "x"), ("d/a", git2::FileMode::Blob, "a")]);
    let closed = ground.floor("closed", Way::Overlay);
    ground.lay(&closed, None).await;
    same(closed.path(), &ground.fresh(None, "fresh").await, "as git writes it");
    assert!(!overlay::open(closed.path()).unwrap(), "all of it has to be gone through");
    ground.put(&[
        ("run", git2::FileMode::BlobExecutable, "x"),
        ("d/a", git2::FileMode::Blob, "a"),
        ("new", git2::FileMode::Blob, "n"),
    ]);
    let open = ground.floor("open", Way::Overlay);
    ground.lay(&open, None).await;
    assert_ne!(open.over(), closed.over());
    ground.put(&[("run", git2::FileMode::BlobExecutable, "x"), ("later", git2::FileMode::Blob, "l")]);
    let later = ground.floor("later", Way::Overlay);
    ground.lay(&later, None).await;
    assert_eq!(later.over(), open.over());
    fs::write(later.path().join("own"), "").unwrap();
    fs::set_permissions(later.path().join("own"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(overlay::open(later.path()).unwrap(), "only what was written is looked at");
    let mode = |name: &str| fs::metadata(later.path().join(name)).unwrap().mode() & 0o777;
    for (name, expect) in
        [("", 0o777), ("run", 0o777), ("later", 0o666), ("own", 0o666), ("more", 0o777), (".git/HEAD", 0o666)]
    {
        assert_eq!(mode(name), expect, "{name}");
    }
    fs::remove_file(later.path().join("own")).unwrap();
    assert_eq!(git(later.path(), &["status", "--porcelain"]), "");
}
