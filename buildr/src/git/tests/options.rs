//! Submodules, depth and the rest of what a manifest asks for, against real repositories.

use protocol::plan::{CloneOptions, Submodules};

use super::*;

/// Several repositories side by side.
struct Town {
    folder: TempDir,
    checkouts: Checkouts,
}

impl Town {
    fn new() -> Self {
        set_up_libgit2();
        let folder = tempfile::tempdir().unwrap();
        let policy = ClonePolicy { local_repos: true, home: None, ..ClonePolicy::default() };
        let checkouts = Checkouts::new(folder.path().join("cache"), policy);
        Self { folder, checkouts }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self, name: &str) -> RepoUrl {
        self.path(name).to_str().unwrap().parse().unwrap()
    }

    /// A commit on main of the repository `name`, which is made when it is not there. A file's text, or a submodule's
    /// commit; `a/b` is a file in a folder.
    fn commit(&self, name: &str, entries: &[(&str, What<'_>)]) -> Oid {
        let mut options = git2::RepositoryInitOptions::new();
        options.initial_head("main").external_template(false).bare(true).mkpath(true);
        let repository = Repository::init_opts(self.path(name), &options).unwrap();
        let parent = repository.head().ok().map(|head| head.peel_to_commit().unwrap());
        let mut update = git2::build::TreeUpdateBuilder::new();
        for (path, what) in entries {
            match what {
                What::Text(text) => {
                    update.upsert(*path, repository.blob(text.as_bytes()).unwrap(), git2::FileMode::Blob)
                }
                What::LinkTo(text) => {
                    update.upsert(*path, repository.blob(text.as_bytes()).unwrap(), git2::FileMode::Link)
                }
                What::Module(commit) => update.upsert(*path, *commit, git2::FileMode::Commit),
            };
        }
        let empty = repository.find_tree(repository.treebuilder(None).unwrap().write().unwrap()).unwrap();
        let base = parent.as_ref().map_or(empty, |parent| parent.tree().unwrap());
        let tree = repository.find_tree(update.create_updated(&repository, &base).unwrap()).unwrap();
        let author = Signature::now("Ada", "ada@example.org").unwrap();
        let parents: Vec<_> = parent.iter().collect();
        repository.commit(Some("HEAD"), &author, &author, "a commit", &tree, &parents).unwrap()
    }

    async fn fetch(&self, url: &RepoUrl, options: &CloneOptions, into: &str) -> (Result<(), GitError>, Vec<String>) {
        let (stop, into) = (CancellationToken::new(), self.path(into));
        if !into.exists() {
            let (unheard, _) = mpsc::channel(1);
            if let Err(error) = self.checkouts.check_out(url, None, None, &into, &stop, unheard).await {
                return (Err(error), Vec::new());
            }
        }
        let (sender, mut lines) = mpsc::channel(4);
        let read = async {
            let mut all = Vec::new();
            while let Some(line) = lines.recv().await {
                all.push(line);
            }
            all
        };
        tokio::join!(self.checkouts.apply_options(url, &into, options, &stop, sender), read)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }
}

#[derive(Clone, Copy)]
enum What<'a> {
    Text(&'a str),
    LinkTo(&'a str),
    Module(Oid),
}

use What::{LinkTo, Module, Text};

fn modules(submodules: Submodules) -> CloneOptions {
    CloneOptions { submodules, ..CloneOptions::default() }
}

fn listed(path: &str, url: &str) -> String {
    format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n")
}

/// `app` has `deps/lib`, and that has `inner` by a relative URL; both are one commit behind their branches.
fn nested(town: &Town) -> Oid {
    let inner = town.commit("group/inner", &[("in.txt", Text("inner"))]);
    town.commit("group/inner", &[("in.txt", Text("inner, later"))]);
    let list = listed("inner", "../inner");
    let lib =
        town.commit("group/lib", &[("lib.c", Text("lib")), (".gitmodules", Text(&list)), ("inner", Module(inner))]);
    town.commit("group/lib", &[("lib.c", Text("lib, later"))]);
    let list = listed("deps/lib", "./../group/lib");
    town.commit("app", &[("main.c", Text("main")), (".gitmodules", Text(&list)), ("deps/lib", Module(lib))]);
    lib
}

#[tokio::test]
async fn submodules_of_each_depth() {
    let town = Town::new();
    let lib = nested(&town);
    let url = town.url("app");
    let (done, lines) = town.fetch(&url, &CloneOptions::default(), "none").await;
    done.unwrap();
    let note = "note: submodules are not fetched: deps/lib; to have them, write `clone: {submodules: true}`";
    assert_eq!(lines, [note]);
    assert_eq!(fs::read_dir(town.path("none/deps/lib")).unwrap().count(), 0);

    let (done, lines) = town.fetch(&url, &modules(Submodules::Direct), "direct").await;
    done.unwrap();
    let note =
        "note: the submodules of deps/lib are not fetched: inner; to have them, write `clone: {submodules: recursive}`";
    assert!(lines.contains(&"submodule deps/lib".to_owned()) && lines.contains(&note.to_owned()), "{lines:?}");
    assert_eq!(town.text("direct/deps/lib/lib.c"), "lib");
    assert!(!town.path("direct/deps/lib/inner/in.txt").exists());

    let (done, lines) = town.fetch(&url, &modules(Submodules::Recursive), "all").await;
    done.unwrap();
    assert!(!lines.iter().any(|line| line.starts_with("note")), "{lines:?}");
    assert_eq!(
        (town.text("all/deps/lib/lib.c"), town.text("all/deps/lib/inner/in.txt")),
        ("lib".into(), "inner".into())
    );
    let inner = Repository::open(town.path("all/deps/lib")).unwrap();
    assert_eq!((inner.head().unwrap().target(), inner.head_detached().unwrap()), (Some(lib), true));
    for folder in ["all", "all/deps/lib", "all/deps/lib/inner"] {
        assert_eq!(status_of(&town.path(folder)), BTreeSet::new(), "{folder}");
    }
    for path in files_of(&town.path("all")).keys() {
        assert_eq!(fs::metadata(path).unwrap().nlink(), 1, "{}", path.display());
    }
    // What is there stays: a second call has nothing to do.
    fs::write(town.path("all/deps/lib/lib.c"), "mine").unwrap();
    let (done, lines) = town.fetch(&url, &modules(Submodules::Recursive), "all").await;
    done.unwrap();
    assert_eq!((lines, town.text("all/deps/lib/lib.c")), (vec![], "mine".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules_over_the_wire_as_git_sees_them() {
    let town = Town::new();
    nested(&town);
    let Some(server) = Server::git(town.folder.path()) else { return };
    let (done, lines) = town.fetch(&server.url("git://127.0.0.1:PORT/app"), &modules(Submodules::Recursive), "a").await;
    done.unwrap();
    assert!(lines.contains(&format!("fetching git://127.0.0.1:{}/group/inner", server.port)), "{lines:?}");
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "safe.directory=*", "-c", "protocol.git.allow=never"]).args(arguments);
        let done = git.current_dir(town.path("a")).env("GIT_CONFIG_NOSYSTEM", "1").output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let status = git(&["submodule", "status", "--recursive"]);
    assert!(status.lines().count() == 2 && status.lines().all(|line| line.starts_with(' ')), "{status}");
    assert_eq!(git(&["status", "--porcelain"]), "");
    assert_eq!(git(&["submodule", "update", "--init", "--recursive"]), "", "nothing is left to fetch");
}

#[tokio::test]
async fn a_submodule_that_cannot_be_had_is_a_sentence_with_its_place() {
    let town = Town::new();
    let lib = town.commit("lib", &[("lib.c", Text("lib"))]);
    let gone = Oid::from_str(&"1".repeat(40)).unwrap();
    let long = "#".repeat(1 << 20) + "\n";
    let table = [
        ("no list", String::new(), lib, ".gitmodules of REPO cannot be followed: it does not say where lib comes from"),
        ("another path", listed("../lib", "../lib"), lib, "it does not say where lib comes from"),
        ("no url", "[submodule \"lib\"]\npath = lib\n".to_owned(), lib, "it does not say where lib comes from"),
        ("no settings", "<<<<<<< HEAD".to_owned(), lib, ".gitmodules of REPO cannot be followed: "),
        ("an include", "[INCLUDE]\npath = /etc/passwd\n".to_owned(), lib, "it includes another file; correct it"),
        ("too long", long, lib, "it is longer than 1048576 bytes"),
        (
            "a command",
            listed("lib", "ext::sh -c id"),
            lib,
            "lib at \"ext::sh -c id\": the repository holds a control character",
        ),
        ("an option", listed("lib", "-u./payload"), lib, "begins with '-'"),
        (
            "a missing commit",
            listed("lib", "../lib"),
            gone,
            "submodule lib: commit 1111111111111111111111111111111111111111 is no longer reachable in",
        ),
        ("a missing repository", listed("lib", "../nowhere"), lib, "submodule lib: "),
        ("above the root", listed("lib", &"../".repeat(40)), lib, "leads out of the server"),
    ];
    for (n, (what, list, commit, expect)) in table.into_iter().enumerate() {
        let name = format!("bad{n}");
        let mut all = vec![("lib", Module(commit))];
        if !list.is_empty() {
            all.push((".gitmodules", Text(&list)));
        }
        town.commit(&name, &all);
        let (done, _) = town.fetch(&town.url(&name), &modules(Submodules::Recursive), &format!("into{n}")).await;
        let error = done.expect_err(what);
        let expect = expect.replace("REPO", town.url(&name).reveal());
        assert!(error.to_string().contains(&expect) && !error.retry_worthy(), "{what}: {error}");
        let there = fs::read_dir(town.path(&format!("into{n}/lib"))).map_or(0, Iterator::count);
        assert_eq!(there, 0, "{what}");
    }
}

#[tokio::test]
async fn a_link_is_no_list_of_submodules() {
    let town = Town::new();
    let lib = town.commit("lib", &[("lib.c", Text("lib"))]);
    let list = listed("lib", "../lib");
    town.commit("hidden", &[("list", Text(&list)), (".gitmodules", LinkTo("list")), ("lib", Module(lib))]);
    let (done, _) = town.fetch(&town.url("hidden"), &modules(Submodules::Direct), "hidden.out").await;
    assert!(done.unwrap_err().to_string().contains("it is no plain file"));
}

#[tokio::test]
async fn a_submodule_is_not_written_through_a_link() {
    let town = Town::new();
    let lib = town.commit("lib", &[("lib.c", Text("lib"))]);
    town.commit("app", &[(".gitmodules", Text(&listed("deps/lib", "../lib"))), ("deps/lib", Module(lib))]);
    town.fetch(&town.url("app"), &CloneOptions::default(), "a").await.0.unwrap();
    let outside = town.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::remove_dir_all(town.path("a/deps")).unwrap();
    std::os::unix::fs::symlink(&outside, town.path("a/deps")).unwrap();
    let (done, _) = town.fetch(&town.url("app"), &modules(Submodules::Direct), "a").await;
    let error = done.unwrap_err();
    assert!(
        matches!(&error, GitError::Submodule { source, .. } if matches!(**source, GitError::Outside { .. })),
        "{error}"
    );
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_on_a_server_cannot_name_a_folder_here() {
    let town = Town::new();
    let lib = town.commit("lib", &[("lib.c", Text("lib"))]);
    let list = listed("lib", town.url("lib").reveal());
    town.commit("app", &[(".gitmodules", Text(&list)), ("lib", Module(lib))]);
    let Some(server) = Server::git(town.folder.path()) else { return };
    let (done, _) = town.fetch(&server.url("git://127.0.0.1:PORT/app"), &modules(Submodules::Direct), "a").await;
    assert!(done.unwrap_err().to_string().contains("may not name a folder of the machine that builds it"));
    let (done, _) = town.fetch(&town.url("app"), &modules(Submodules::Direct), "b").await;
    done.unwrap();
}

#[tokio::test]
async fn submodules_without_end_are_refused() {
    let town = Town::new();
    let mut commit = town.commit("r", &[("x", Text("x"))]);
    for n in 0..22 {
        let list = listed("r", "../r");
        commit = town.commit("r", &[("x", Text(&n.to_string())), (".gitmodules", Text(&list)), ("r", Module(commit))]);
    }
    let (done, _) = town.fetch(&town.url("r"), &modules(Submodules::Recursive), "a").await;
    let error = done.unwrap_err().to_string();
    assert!(error.contains("more than 20 within each other"), "{error}");
    let (done, _) = town.fetch(&town.url("r"), &modules(Submodules::Direct), "b").await;
    done.unwrap();
}

fn depth(depth: u32) -> CloneOptions {
    CloneOptions { depth: Some(depth), ..CloneOptions::default() }
}

/// How many commits lead to a name.
fn count(folder: &Path, name: &str) -> usize {
    let repository = Repository::open(folder).unwrap();
    let mut walk = repository.revwalk().unwrap();
    walk.push(repository.revparse_single(name).unwrap().peel_to_commit().unwrap().id()).unwrap();
    walk.map(Result::unwrap).count()
}

#[tokio::test]
async fn a_history_is_cut_where_it_is_asked_for() {
    let town = Town::new();
    for n in 0..5 {
        let commit = town.commit("app", &[("x", Text(&n.to_string()))]);
        let repository = Repository::open(town.path("app")).unwrap();
        let commit = repository.find_object(commit, None).unwrap();
        repository.tag_lightweight(&format!("v{n}"), &commit, false).unwrap();
        if n == 2 {
            repository.branch("topic", commit.as_commit().unwrap(), false).unwrap();
        }
    }
    for (wanted, commits, tags) in [(0, 1, 1), (1, 1, 1), (3, 3, 3), (5, 5, 5), (9, 5, 5)] {
        let into = format!("depth{wanted}");
        town.fetch(&town.url("app"), &depth(wanted), &into).await.0.unwrap();
        let folder = town.path(&into);
        assert_eq!(count(&folder, "HEAD"), commits, "{wanted}");
        let repository = Repository::open(&folder).unwrap();
        assert_eq!(repository.tag_names(None).unwrap().len(), tags, "{wanted}");
        assert!(repository.find_reference("refs/remotes/origin/topic").is_err(), "{wanted}");
        assert_eq!(
            repository.find_reference("refs/remotes/origin/HEAD").unwrap().resolve().unwrap().target(),
            repository.head().unwrap().target()
        );
        assert_eq!(repository.is_shallow(), commits < 5, "{wanted}");
        assert_eq!(status_of(&folder), BTreeSet::new());
        // Again, and deeper: what is cut stays cut.
        town.fetch(&town.url("app"), &depth(9), &into).await.0.unwrap();
        assert_eq!(count(&folder, "HEAD"), commits, "{wanted}");
    }
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "rev-list", "--count", "--all"]).current_dir(town.path("depth3"));
    let Ok(counted) = git.output() else { return };
    assert_eq!(String::from_utf8_lossy(&counted.stdout).trim(), "3");
}

/// Whether git knows LFS here; where it must, it is a failure that it does not.
fn lfs_is_here() -> bool {
    let known = Command::new("git").args(["lfs", "version"]).output().is_ok_and(|done| done.status.success());
    let required = std::env::var_os("BUILDR_TEST_REQUIRE").unwrap_or_default();
    assert!(known || !required.to_string_lossy().contains("lfs"), "git-lfs is required and not installed");
    if !known {
        eprintln!("skipped: git-lfs is not installed");
    }
    known
}

const LARGE: &str = "a large file, as git LFS keeps it";

/// A repository `app` whose `big.bin` is a pointer, and the file itself in its store.
fn with_a_large_file(town: &Town) -> String {
    use sha2::Digest as _;
    let digest: String = sha2::Sha256::digest(LARGE).iter().map(|byte| format!("{byte:02x}")).collect();
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {}\n", LARGE.len());
    let attributes = "*.bin filter=lfs diff=lfs merge=lfs -text\n";
    town.commit("app", &[(".gitattributes", Text(attributes)), ("big.bin", Text(&pointer)), ("x", Text("x"))]);
    let store = town.path(&format!("app/lfs/objects/{}/{}", &digest[..2], &digest[2..4]));
    fs::create_dir_all(&store).unwrap();
    fs::write(store.join(&digest), LARGE).unwrap();
    pointer
}

fn lfs() -> CloneOptions {
    CloneOptions { lfs: true, ..CloneOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_come_when_they_are_asked_for() {
    let town = Town::new();
    let pointer = with_a_large_file(&town);
    let (done, lines) = town.fetch(&town.url("app"), &CloneOptions::default(), "pointers").await;
    done.unwrap();
    let note = "note: files kept by git LFS are not fetched; their pointers stand in their places; to have them, write `clone: {lfs: true}`";
    assert_eq!(lines, [note]);
    assert_eq!(town.text("pointers/big.bin"), pointer);
    if !lfs_is_here() {
        return;
    }
    let url: RepoUrl = format!("file://{}", town.path("app").display()).parse().unwrap();
    for (url, into) in [(url, "file"), (town.url("app"), "path")] {
        town.fetch(&url, &lfs(), into).await.0.unwrap();
        assert_eq!(town.text(&format!("{into}/big.bin")), LARGE, "{into}");
        for path in files_of(&town.path(into)).keys() {
            assert_eq!(fs::metadata(path).unwrap().nlink(), 1, "{}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_program_there_is_a_sentence() {
    let town = Town::new();
    with_a_large_file(&town);
    // One that is not there, and one that knows no LFS.
    for (git, missing) in
        [("/nowhere/git", "the program git is needed"), ("/bin/false", "the program git-lfs is needed")]
    {
        let policy = ClonePolicy { local_repos: true, home: None, git: git.into(), ..ClonePolicy::default() };
        let checkouts = Checkouts::new(town.path("cache"), policy);
        let without = Town { checkouts, ..Town::new() };
        let (done, _) = without.fetch(&town.url("app"), &lfs(), "a").await;
        let error = done.unwrap_err();
        assert!(error.to_string().contains(missing) && !error.retry_worthy(), "{error}");
        let (unheard, _) = mpsc::channel(1);
        let filtered = without.checkouts.filtered("blob:none").unwrap();
        let into = town.path("filtered");
        let done = filtered.check_out(&town.url("app"), None, None, &into, &CancellationToken::new(), unheard).await;
        assert!(matches!(done, Err(GitError::NoProgram { .. } | GitError::Program { .. })), "{done:?}");
        assert!(!into.exists());
    }
    let wrong = town.checkouts.filtered("blob:all").unwrap_err();
    assert!(wrong.to_string().starts_with("\"blob:all\" is not a filter"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_clone_has_what_its_files_need() {
    let town = Town::new();
    let old = town.commit("app", &[("x", Text("old")), ("y", Text("y"))]);
    let new = town.commit("app", &[("x", Text("new"))]);
    let source = Repository::open(town.path("app")).unwrap();
    let mut config = source.config().unwrap();
    config.set_bool("uploadpack.allowFilter", true).unwrap();
    config.set_bool("uploadpack.allowAnySHA1InWant", true).unwrap();
    let Some(server) = Server::git(town.folder.path()) else { return };
    let url = server.url("git://127.0.0.1:PORT/app");
    let stop = CancellationToken::new();
    let filtered = town.checkouts.filtered("blob:none").unwrap();
    let fetch = async |branch: Option<&str>, commit: Option<Oid>, into: &str| {
        let (branch, commit) = (branch.map(|b| b.parse().unwrap()), commit.map(|c| c.to_string().parse().unwrap()));
        let (unheard, _) = mpsc::channel(1);
        filtered.check_out(&url, branch.as_ref(), commit.as_ref(), &town.path(into), &stop, unheard).await
    };
    let done = fetch(None, None, "tip").await.unwrap();
    assert_eq!((done.commit.as_str(), done.branch.unwrap().as_str()), (new.to_string().as_str(), "main"));
    assert_eq!((town.text("tip/x"), town.text("tip/y")), ("new".to_owned(), "y".to_owned()));
    assert_eq!((count(&town.path("tip"), "HEAD"), status_of(&town.path("tip"))), (2, BTreeSet::new()));
    let own = Repository::open(town.path("tip")).unwrap();
    let unneeded = source.find_commit(old).unwrap().tree().unwrap().get_name("x").unwrap().id();
    assert!(own.find_blob(unneeded).is_err(), "the old file was not fetched");
    assert!(!town.path("cache").exists(), "a mirror would hold everything");
    let (done, lines) = town.fetch(&url, &CloneOptions { filter: Some("blob:none".into()), ..depth(1) }, "tip").await;
    done.unwrap();
    assert_eq!((lines, count(&town.path("tip"), "HEAD")), (vec![], 1));

    let pinned = fetch(Some("main"), Some(old), "pinned").await.unwrap();
    assert_eq!((pinned.commit.as_str(), town.text("pinned/x")), (old.to_string().as_str(), "old".to_owned()));
    let gone = fetch(None, Some(Oid::from_str(&"1".repeat(40)).unwrap()), "gone").await.unwrap_err();
    assert!(matches!(gone, GitError::CommitGone { .. }), "{gone}");
    let missing = fetch(Some("mainn"), None, "gone").await.unwrap_err();
    assert!(matches!(missing, GitError::NoBranch { .. }) && !town.path("gone").exists(), "{missing}");
    let note = "note: blob:none filters nothing here: the manifest that asks for it was read from a whole clone";
    let whole = CloneOptions { filter: Some("blob:none".into()), ..CloneOptions::default() };
    assert_eq!(town.fetch(&url, &whole, "whole").await.1, [note]);
}
