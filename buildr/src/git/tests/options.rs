//! Depth, LFS and partial clones, against real repositories.

use protocol::plan::CloneOptions;

use super::town::Town;
use super::town::What::Text;
use super::*;

fn depth(depth: u32) -> CloneOptions {
    CloneOptions { depth: Some(depth), ..CloneOptions::default() }
}

/// How many commits lead to a name.
pub(super) fn count(folder: &Path, name: &str) -> usize {
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
pub(super) fn lfs_is_here() -> bool {
    let known = Command::new("git").args(["lfs", "version"]).output().is_ok_and(|done| done.status.success());
    let required = std::env::var_os("BUILDR_TEST_REQUIRE").unwrap_or_default();
    assert!(known || !required.to_string_lossy().contains("lfs"), "git-lfs is required and not installed");
    if !known {
        eprintln!("skipped: git-lfs is not installed");
    }
    known
}

pub(super) const LARGE: &str = "a large file, as git LFS keeps it";

/// A repository `app` whose `big.bin` is a pointer, and the file itself in its store.
pub(super) fn with_a_large_file(town: &Town) -> String {
    use sha2::Digest as _;
    let digest = data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(LARGE));
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {}\n", LARGE.len());
    let attributes = "*.bin filter=lfs diff=lfs merge=lfs -text\n";
    town.commit("app", &[(".gitattributes", Text(attributes)), ("big.bin", Text(&pointer)), ("x", Text("x"))]);
    let store = town.path(&format!("app/lfs/objects/{}/{}", &digest[..2], &digest[2..4]));
    fs::create_dir_all(&store).unwrap();
    fs::write(store.join(&digest), LARGE).unwrap();
    pointer
}

pub(super) fn lfs() -> CloneOptions {
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
