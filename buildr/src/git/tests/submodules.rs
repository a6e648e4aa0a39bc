//! Submodules, honest and hostile ones.

use protocol::plan::{CloneOptions, Submodules};

use super::town::What::{LinkTo, Module, Text};
use super::town::{Town, listed, modules};
use super::*;

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

#[tokio::test]
async fn the_depth_holds_for_submodules_too() {
    let town = Town::new();
    town.commit("lib", &[("lib.c", Text("old"))]);
    let lib = town.commit("lib", &[("lib.c", Text("lib"))]);
    town.commit("app", &[(".gitmodules", Text(&listed("lib", "../lib"))), ("lib", Module(lib))]);
    let options = CloneOptions { depth: Some(1), ..modules(Submodules::Direct) };
    // A second call finds all as it should be.
    for _ in 0..2 {
        town.fetch(&town.url("app"), &options, "a").await.0.unwrap();
        assert_eq!(super::options::count(&town.path("a/lib"), "HEAD"), 1);
    }
    assert_eq!(town.text("a/lib/lib.c"), "lib");
}
