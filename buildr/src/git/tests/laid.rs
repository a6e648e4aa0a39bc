//! Checkouts over a kept one: the same as those that are written anew.

use super::*;
use crate::overlay::{Ground, Trial, Way};

/// Whether this process may mount. A test that may not and need not says that it is skipped.
pub(super) fn may_mount() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let Err(error) = Trial::make(folder.path().join("trial")) else { return true };
    let required = std::env::var_os("BUILDR_TEST_REQUIRE").unwrap_or_default();
    let required = required.to_string_lossy().split(',').any(|part| part == "mount");
    assert!(!required, "mounting is required and not allowed: {error}");
    eprintln!("skipped: nothing can be mounted ({error})");
    false
}

/// A folder that becomes a checkout, taken away again when this is dropped.
pub(super) struct Floor(pub(super) Arc<Ground>);

impl Floor {
    pub(super) fn path(&self) -> &Path {
        self.0.at()
    }

    pub(super) fn over(&self) -> PathBuf {
        self.0.lower().unwrap()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.0.clear().unwrap();
    }
}

impl Ground_ {
    pub(super) fn floor(&self, name: &str, way: Way) -> Floor {
        fs::create_dir(self.path(name)).unwrap();
        Floor(Arc::new(Ground::new(self.path(name), way)))
    }

    pub(super) async fn lay(&self, floor: &Floor, branch: Option<&str>) -> CheckedOut {
        self.lay_at(floor, branch, None).await
    }

    async fn lay_at(&self, floor: &Floor, branch: Option<&str>, commit: Option<Oid>) -> CheckedOut {
        let branch: Option<Branch> = branch.map(|b| b.parse().unwrap());
        let commit: Option<CommitId> = commit.map(|c| c.to_string().parse().unwrap());
        let (sender, mut lines) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let url = self.url();
        let work = self.checkouts.check_out_onto(&url, branch.as_ref(), commit.as_ref(), &floor.0, &stop, sender);
        let read = async { while lines.recv().await.is_some() {} };
        tokio::join!(work, read).0.unwrap()
    }

    pub(super) async fn fresh(&self, branch: Option<&str>, into: &str) -> PathBuf {
        self.check_out(branch, None, into).await.unwrap();
        self.path(into)
    }

    /// A commit on main with exactly these files, and fifty more.
    pub(super) fn put(&self, files: &[File_<'_>]) -> Oid {
        self.put_beside(50, files)
    }

    /// A commit on main with exactly these files, and so many more.
    pub(super) fn put_beside(&self, more: usize, files: &[File_<'_>]) -> Oid {
        let mut update = git2::build::TreeUpdateBuilder::new();
        for number in 0..more {
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

pub(super) type Ground_ = super::Ground;
pub(super) type File_<'a> = (&'a str, git2::FileMode, &'a str);

/// All that is in a folder but `.git`: by path its kind, mode and contents.
pub(super) fn all_of(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
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

pub(super) fn git(folder: &Path, arguments: &[&str]) -> String {
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

pub(super) fn same(laid: &Path, fresh: &Path, case: &str) {
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
            ground.put_beside(3, before);
            let first = ground.floor("first", way);
            ground.lay(&first, None).await;
            let was = all_of(first.path());
            let ahead = ground.floor("ahead", way);
            let lies = ground.checkouts.lay_ahead(&ground.url(), &ahead.0).await.unwrap();
            assert_eq!(lies, way == Way::Overlay);
            ground.put_beside(3, after);
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

#[tokio::test]
async fn a_build_like_the_one_before_writes_nothing_and_another_all_that_it_has_otherwise() {
    if !may_mount() {
        return;
    }
    let ground = Ground_::with_commit();
    let first = ground.commit("main", "hello.txt", "second");
    ground.source.reference("refs/heads/other", first, true, "test").unwrap();
    ground.lay(&ground.floor("made", Way::Overlay), Some("main")).await;
    let again = ground.floor("again", Way::Overlay);
    ground.lay(&again, Some("main")).await;
    let upper = crate::overlay::upper_of(again.path()).unwrap();
    assert!(fs::read_dir(upper).unwrap().next().is_none(), "something was written for a build like the one before");
    same(again.path(), &ground.fresh(Some("main"), "fresh").await, "again");
    for (name, branch, commit) in [
        ("another branch", Some("other"), None),
        ("a commit alone", None, Some(first)),
        ("the branch again", Some("main"), None),
    ] {
        let floor = ground.floor(name, Way::Overlay);
        let done = ground.lay_at(&floor, branch, commit).await;
        let fresh = format!("{name}, fresh");
        assert_eq!(done, ground.check_out(branch, commit, &fresh).await.unwrap());
        same(floor.path(), &ground.path(&fresh), name);
    }
    // What was pushed, and taken back: a script may ask for it by the name of the last commit that was green.
    let taken_back = ground.commit("main", "hello.txt", "third");
    ground.lay(&ground.floor("third", Way::Overlay), Some("main")).await;
    ground.source.reference("refs/heads/main", first, true, "test").unwrap();
    let back = ground.floor("back", Way::Overlay);
    ground.lay(&back, Some("main")).await;
    assert!(Repository::open(back.path()).unwrap().find_commit(taken_back).is_ok());
}
