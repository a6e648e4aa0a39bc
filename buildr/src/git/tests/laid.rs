//! Checkouts over a kept one: the same as those that are written anew, and kept apart from each other.

use std::fs::File;
use std::os::unix::fs::symlink;

use super::town::{Town, What};
use super::*;
use crate::overlay::{self, Ground, Trial, Way};

/// Whether this process may mount. A test that may not and need not says that it is skipped.
fn may_mount() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let Err(error) = Trial::make(folder.path().join("trial")) else { return true };
    let required = std::env::var_os("BUILDR_TEST_REQUIRE").unwrap_or_default();
    let required = required.to_string_lossy().split(',').any(|part| part == "mount");
    assert!(!required, "mounting is required and not allowed: {error}");
    eprintln!("skipped: nothing can be mounted ({error})");
    false
}

/// A folder that becomes a checkout, taken away again when this is dropped.
struct Floor(Arc<Ground>);

impl Floor {
    fn path(&self) -> &Path {
        self.0.at()
    }

    fn over(&self) -> PathBuf {
        self.0.lower().unwrap()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.0.clear().unwrap();
    }
}

impl Ground_ {
    fn floor(&self, name: &str, way: Way) -> Floor {
        fs::create_dir(self.path(name)).unwrap();
        Floor(Arc::new(Ground::new(self.path(name), way)))
    }

    async fn lay(&self, floor: &Floor, branch: Option<&str>) -> CheckedOut {
        let branch: Option<Branch> = branch.map(|b| b.parse().unwrap());
        let (sender, mut lines) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let url = self.url();
        let work = self.checkouts.check_out_onto(&url, branch.as_ref(), None, &floor.0, &stop, sender);
        let read = async { while lines.recv().await.is_some() {} };
        tokio::join!(work, read).0.unwrap()
    }

    async fn fresh(&self, branch: Option<&str>, into: &str) -> PathBuf {
        self.check_out(branch, None, into).await.unwrap();
        self.path(into)
    }

    /// A commit on main with exactly these files, and fifty more.
    fn put(&self, files: &[File_<'_>]) -> Oid {
        let mut update = git2::build::TreeUpdateBuilder::new();
        for number in 0..50 {
            let path = format!("more/{number}");
            update.upsert(path.as_str(), self.source.blob(path.as_bytes()).unwrap(), git2::FileMode::Blob);
        }
        for (path, mode, text) in files {
            let object = match mode {
                git2::FileMode::Commit => Oid::from_str(text).unwrap(),
                _ => self.source.blob(text.as_bytes()).unwrap(),
            };
            update.upsert(*path, object, *mode);
        }
        let empty = self.source.find_tree(self.source.treebuilder(None).unwrap().write().unwrap()).unwrap();
        let tree = self.source.find_tree(update.create_updated(&self.source, &empty).unwrap()).unwrap();
        let author = Signature::now("Ada", "ada@example.org").unwrap();
        let parent = self.source.find_reference("refs/heads/main").ok().map(|r| r.peel_to_commit().unwrap());
        let parents: Vec<_> = parent.iter().collect();
        let commit = self.source.commit(None, &author, &author, "a commit", &tree, &parents).unwrap();
        self.source.reference("refs/heads/main", commit, true, "test").unwrap();
        commit
    }
}

type Ground_ = super::Ground;
type File_<'a> = (&'a str, git2::FileMode, &'a str);

/// All that is in a folder but `.git`: by path its kind, mode and contents.
fn all_of(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (path, meta) = (entry.path(), entry.path().symlink_metadata().unwrap());
            let text = match meta.file_type() {
                kind if kind.is_dir() && path == root.join(".git") => continue,
                kind if kind.is_dir() => {
                    folders.push(path.clone());
                    Vec::new()
                }
                kind if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
                _ => fs::read(&path).unwrap(),
            };
            all.insert(path.strip_prefix(root).unwrap().to_owned(), (meta.mode(), text));
        }
    }
    all
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "safe.directory=*"]).args(arguments).current_dir(folder).env("GIT_OPTIONAL_LOCKS", "0");
    let done = command.output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// What git says of a checkout.
fn told(folder: &Path) -> Vec<String> {
    let repository = Repository::open(folder).unwrap();
    let head = repository.find_reference("HEAD").unwrap();
    let mut all = vec![
        git(folder, &["status", "--porcelain"]),
        format!("{:?} {:?}", head.symbolic_target(), repository.head().unwrap().target()),
    ];
    let references = repository.references().unwrap().map(Result::unwrap);
    let mut named: Vec<_> =
        references.map(|r| format!("{:?} {:?} {:?}", r.name(), r.target(), r.symbolic_target())).collect();
    let config = git2::Config::open(&repository.path().join("config")).unwrap();
    config
        .entries(None)
        .unwrap()
        .for_each(|entry| named.push(format!("{:?}={:?}", entry.name(), entry.value())))
        .unwrap();
    named.sort();
    let index = repository.index().unwrap();
    all.extend(named);
    all.extend(index.iter().map(|e| format!("{} {:o} {}", String::from_utf8_lossy(&e.path), e.mode, e.id)));
    all
}

fn same(laid: &Path, fresh: &Path, case: &str) {
    let (one, other) = (all_of(laid), all_of(fresh));
    let differ: Vec<_> = one.keys().chain(other.keys()).filter(|path| one.get(*path) != other.get(*path)).collect();
    assert!(differ.is_empty(), "{case}: {differ:?}");
    let one = told(laid);
    assert_eq!(one, told(fresh), "{case}");
    assert_eq!(one[0], "", "{case}");
}

/// What two commits may have differently.
fn cases() -> Vec<(&'static str, Vec<File_<'static>>, Vec<File_<'static>>)> {
    use git2::FileMode::{Blob, BlobExecutable as Run, Commit, Link};
    const MODULE: &str = "1111111111111111111111111111111111111111";
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n";
    vec![
        ("nothing", vec![("a", Blob, "a")], vec![("a", Blob, "a")]),
        ("a file added", vec![], vec![("deep/er/a", Blob, "a")]),
        ("a file removed with its folder", vec![("deep/er/a", Blob, "a"), ("b", Blob, "b")], vec![("b", Blob, "b")]),
        ("contents of the same length", vec![("a", Blob, "1")], vec![("a", Blob, "2")]),
        ("a mode", vec![("a", Blob, "a"), ("b", Run, "b")], vec![("a", Run, "a"), ("b", Blob, "b")]),
        ("file to link", vec![("a", Blob, "more/1")], vec![("a", Link, "more/1")]),
        ("link to file", vec![("a", Link, "more/1")], vec![("a", Blob, "text")]),
        ("a link elsewhere", vec![("a", Link, "/etc/passwd")], vec![("a", Link, "more/2")]),
        ("file to folder", vec![("a", Blob, "a")], vec![("a/b", Blob, "b")]),
        ("folder to file", vec![("a/b", Blob, "b"), ("a/c/d", Blob, "d")], vec![("a", Blob, "a")]),
        ("link to folder", vec![("a", Link, "more")], vec![("a/1", Blob, "mine")]),
        ("folder to link", vec![("a/1", Blob, "mine")], vec![("a", Link, "more")]),
        (
            "renamed",
            vec![("old/a", Blob, "long text"), ("old/b", Blob, "b")],
            vec![("new/a", Blob, "long text"), ("new/b", Blob, "b")],
        ),
        ("case", vec![("README", Blob, "a")], vec![("readme", Blob, "a"), ("Readme", Blob, "b")]),
        (
            "names",
            vec![("sp ace/*.c", Blob, "a")],
            vec![("sp ace/*.c", Blob, "b"), ("[x]?", Blob, "c"), ("!not", Blob, "d")],
        ),
        (
            "attributes come",
            vec![("a.txt", Blob, "1\n2\n")],
            vec![("a.txt", Blob, "1\n2\n"), (".gitattributes", Blob, "*.txt eol=crlf\n")],
        ),
        (
            "attributes go",
            vec![("x/a.txt", Blob, "1\n"), ("x/.gitattributes", Blob, "* text eol=crlf\n")],
            vec![("x/a.txt", Blob, "1\n")],
        ),
        (
            "attributes stay",
            vec![("a.txt", Blob, "1\n"), (".gitattributes", Blob, "* text eol=crlf\n")],
            vec![("a.txt", Blob, "2\n"), (".gitattributes", Blob, "* text eol=crlf\n")],
        ),
        (
            "a submodule comes",
            vec![],
            vec![
                ("sub/one", Commit, MODULE),
                (".gitmodules", Blob, "[submodule \"x\"]\n\tpath = sub/one\n\turl = ../x\n"),
            ],
        ),
        ("a submodule goes", vec![("sub", Commit, MODULE), ("a", Blob, "a")], vec![("a", Blob, "a")]),
        ("submodule to folder", vec![("sub", Commit, MODULE)], vec![("sub/a", Blob, "a")]),
        (
            "an lfs pointer",
            vec![("big", Blob, "x"), (".gitattributes", Blob, "big filter=lfs\n")],
            vec![("big", Blob, POINTER), (".gitattributes", Blob, "big filter=lfs\n")],
        ),
    ]
}

#[tokio::test]
async fn a_checkout_over_a_kept_one_is_as_one_that_is_written_anew() {
    if !may_mount() {
        return;
    }
    for (case, before, after) in cases() {
        for (way, there_and_back) in [(Way::Overlay, false), (Way::Overlay, true), (Way::Reflink, false)] {
            let (before, after) = if there_and_back { (&after, &before) } else { (&before, &after) };
            let case = format!("{case} {way:?} {there_and_back}");
            let ground = Ground_::new();
            ground.put(before);
            let first = ground.floor("first", way);
            ground.lay(&first, None).await;
            let was = all_of(first.path());
            let ahead = ground.floor("ahead", way);
            let lies = ground.checkouts.lay_ahead(&ground.url(), &ahead.0).await.unwrap();
            assert_eq!(lies, way == Way::Overlay);
            ground.put(after);
            ground.lay(&ahead, None).await;
            assert_eq!(ahead.0.lower(), first.0.lower(), "{case}");
            same(ahead.path(), &ground.fresh(None, "fresh").await, &case);
            assert_eq!(all_of(first.path()), was, "{case}, afterwards");
        }
    }
}

#[tokio::test]
async fn branches_and_names_are_those_of_a_clone() {
    if !may_mount() {
        return;
    }
    let ground = Ground_::with_commit();
    let first = ground.commit("main", "hello.txt", "second");
    ground.commit("odd\"name", "hello.txt", "third");
    ground.source.reference("refs/tags/v1", first, true, "test").unwrap();
    for (number, branch) in [None, Some("odd\"name"), Some("main")].into_iter().enumerate() {
        let floor = ground.floor(&format!("laid{number}"), Way::Overlay);
        let done = ground.lay(&floor, branch).await;
        assert_eq!(done, ground.check_out(branch, None, &format!("fresh{number}")).await.unwrap());
        same(floor.path(), &ground.path(&format!("fresh{number}")), &format!("{branch:?}"));
    }
}

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
    assert!(ground.checkouts.remove_mirror(&mirrors[0]).await.unwrap());
    assert!(ground.checkouts.mirrors().await.is_empty());
}

/// A repository of so many files, in folders of a hundred, all of random bytes.
fn large(files: usize, bytes: usize) -> Ground_ {
    let ground = Ground_::new();
    let mut seed = 1_u64;
    let mut update = git2::build::TreeUpdateBuilder::new();
    for number in 0..files {
        let mut text = vec![0; bytes];
        for byte in &mut text {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = seed.to_be_bytes()[0];
        }
        let path = format!("d{}/{}/file{number}", number / 2000, number / 100);
        update.upsert(path.as_str(), ground.source.blob(&text).unwrap(), git2::FileMode::Blob);
    }
    let source = &ground.source;
    let empty = source.treebuilder(None).unwrap().write().unwrap();
    let tree = update.create_updated(source, &source.find_tree(empty).unwrap()).unwrap();
    let author = Signature::now("Ada", "ada@example.org").unwrap();
    source.commit(Some("refs/heads/main"), &author, &author, "large", &source.find_tree(tree).unwrap(), &[]).unwrap();
    git(&ground.path("source"), &["repack", "-adq"]);
    ground
}

#[tokio::test]
#[ignore = "a measurement: run it alone on a quiet machine, with --ignored --nocapture"]
async fn how_long_a_workspace_takes() {
    assert!(may_mount());
    let ground = large(20_000, 10_000);
    let clone = |into: &str| {
        let began = std::time::Instant::now();
        let (from, to) = (ground.path("source"), ground.path(into));
        git(ground.folder.path(), &["clone", "-q", "--local", from.to_str().unwrap(), to.to_str().unwrap()]);
        began.elapsed().as_secs_f64()
    };
    let mut made = 0;
    let mut laid = async |way: Way| {
        made += 1;
        let floor = ground.floor(&format!("laid{made}"), way);
        let began = std::time::Instant::now();
        ground.lay(&floor, None).await;
        let took = began.elapsed().as_secs_f64();
        let began = std::time::Instant::now();
        assert_eq!(git(floor.path(), &["status", "--porcelain"]), "");
        let status = began.elapsed().as_secs_f64();
        let began = std::time::Instant::now();
        drop(floor);
        (took, status, began.elapsed().as_secs_f64())
    };
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    println!("mirror and kept checkout made: {:.3} s", laid(Way::Overlay).await.0);
    let (mut clones, mut same, mut ten, mut status, mut gone) = (vec![], vec![], vec![], vec![], vec![]);
    for round in 0..5 {
        clones.push(clone(&format!("clone{round}")));
        for times in [&mut same, &mut ten] {
            let (took, asked, removed) = laid(Way::Overlay).await;
            times.push(took);
            status.push(asked);
            gone.push(removed);
            for number in 0..10 {
                ground.commit("main", &format!("new{number}"), &format!("{round} {number}"));
            }
        }
        // What is new is fetched by the next; the mirror has it then.
        laid(Way::Overlay).await;
    }
    let base = median(clones);
    for (what, times) in [("nothing new", same), ("ten files new, fetched", ten), ("status", status), ("removed", gone)]
    {
        let took = median(times);
        println!("{what}: {took:.4} s, {:.3} of git clone --local ({base:.3} s)", took / base);
    }
    println!("written anew: {:.3} s", laid(Way::Plain).await.0);
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
