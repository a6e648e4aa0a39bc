//! Repositories whose content would run something on the agent's machine, or write to it: they are built harmlessly,
//! or refused with a sentence. Their trees are made byte by byte, for git itself makes no such.

use std::fs;
use std::path::Path;

use farm::farm::over_rabbitmq_in_docker;
use git2::{ObjectType, Oid};
use protocol::RepoUrl;
use protocol::api::Status;

use crate::{end, goes_on, manifest, started};

/// The mode, name and object of something in a folder.
type Entry = (&'static str, Vec<u8>, Oid);

const FILE: &str = "100644";
const PROGRAM: &str = "100755";
const FOLDER: &str = "40000";
const LINK: &str = "120000";
const COMMIT: &str = "160000";

/// A repository that is written object by object.
struct Raw {
    folder: tempfile::TempDir,
    git: git2::Repository,
}

impl Raw {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let git = git2::Repository::init_bare(folder.path()).unwrap();
        git.set_head("refs/heads/main").unwrap();
        Self { folder, git }
    }

    fn file(&self, text: &str) -> Oid {
        self.git.blob(text.as_bytes()).unwrap()
    }

    fn tree(&self, entries: &[Entry]) -> Oid {
        let mut bytes = Vec::new();
        for (mode, name, object) in entries {
            bytes.extend_from_slice(mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.extend_from_slice(object.as_bytes());
        }
        self.git.odb().unwrap().write(ObjectType::Tree, &bytes).unwrap()
    }

    /// A commit of a good manifest and these, in git's order.
    fn commit(&self, mut entries: Vec<Entry>) -> RepoUrl {
        let builds = manifest(&["ls -la >/dev/null; echo built"]);
        let builds = format!("prepare: {{script: [echo prepared]}}\n{builds}");
        entries.push((FILE, b".buildr.yml".to_vec(), self.file(&builds)));
        let place = |entry: &Entry| [&entry.1[..], if entry.0 == FOLDER { b"/" } else { b"" }].concat();
        entries.sort_by_key(place);
        let tree = self.tree(&entries);
        let author = "Eve <eve@example.org> 1700000000 +0000";
        let commit = format!("tree {tree}\nauthor {author}\ncommitter {author}\n\na change\n");
        let commit = self.git.odb().unwrap().write(ObjectType::Commit, commit.as_bytes()).unwrap();
        self.git.reference("refs/heads/main", commit, true, "").unwrap();
        self.folder.path().canonicalize().unwrap().to_str().unwrap().parse().unwrap()
    }
}

fn name(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// What git would run, if it were asked to by files of the repository itself. `ran` is made by whatever runs.
fn payload(repository: &Raw, ran: &Path) -> (Oid, Oid, Oid) {
    let touch = format!("touch {}", ran.display());
    let program = repository.file(&format!("#!/bin/sh\n{touch}\n"));
    let hooks = ["post-checkout", "post-index-change", "reference-transaction", "fsmonitor"];
    let hooks: Vec<Entry> = hooks.iter().map(|hook| (PROGRAM, name(hook), program)).collect();
    let config = format!(
        "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tfsmonitor = {touch}\n\tsshCommand = {touch}\n\thooksPath = hooks\n\tattributesFile = .gitattributes\n[filter \"evil\"]\n\tsmudge = {touch}\n\tclean = {touch}\n\tprocess = {touch}\n\trequired = true\n[alias]\n\tstatus = !{touch}\n[include]\n\tpath = .gitconfig\n"
    );
    let (hooks, config) = (repository.tree(&hooks), repository.file(&config));
    let git = repository.tree(&[
        (FILE, name("HEAD"), repository.file("ref: refs/heads/main\n")),
        (FILE, name("config"), config),
        (FOLDER, name("hooks"), hooks),
    ]);
    (git, hooks, config)
}

/// Everything below a folder, by name.
fn names(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        all.push(entry.path().display().to_string());
        if entry.file_type().unwrap().is_dir() {
            all.extend(names(&entry.path()));
        }
    }
    all.sort();
    all
}

/// A tree of one file.
fn through(raw: &Raw) -> Oid {
    raw.tree(&[(FILE, name("through"), raw.file("written from a repository"))])
}

/// Modules of others, whose places and URLs run something or point home.
fn modules(raw: &Raw, ran: &Path) -> Vec<Entry> {
    let host = ran.parent().unwrap().display();
    let ran = ran.display();
    let urls = [
        format!("file://{host}"),
        format!("ext::sh -c touch% {ran}"),
        format!("-oProxyCommand=touch {ran}"),
        format!("ssh://-oProxyCommand=touch%20{ran}/x"),
        "../../../../..".to_owned(),
    ];
    let mut text = String::new();
    let mut entries = Vec::new();
    for (number, url) in urls.iter().enumerate() {
        text += &format!(
            "[submodule \"../../hooks{number}\"]\n\tpath = m{number}\n\turl = \"{url}\"\n\tupdate = !touch {ran}\n"
        );
        entries.push((COMMIT, name(&format!("m{number}")), Oid::from_bytes(&[1; 20]).unwrap()));
    }
    entries.push((FILE, name(".gitmodules"), raw.file(&text)));
    entries
}

/// Content by which git was made to run something, at one time or another.
fn that_would_run(raw: &Raw, ran: &Path) -> Vec<(&'static str, Vec<Entry>)> {
    let (git, hooks, config) = payload(raw, ran);
    let attributes = raw.file("* filter=evil diff=evil merge=evil ident text working-tree-encoding=UTF-16\n");
    let own = vec![
        (FILE, name(".gitattributes"), attributes),
        (FILE, name(".gitconfig"), config),
        (FOLDER, name("hooks"), hooks),
        (FOLDER, name("nested.git"), git),
        (FILE, name("x"), raw.file("x")),
    ];
    let gitdir = raw.file(&format!("gitdir: {}\n", ran.parent().unwrap().display()));
    vec![
        ("hooks, filters and a config of its own", own),
        ("submodules", modules(raw, ran)),
        (".git", vec![(FOLDER, name(".git"), git)]),
        (".GIT", vec![(FOLDER, name(".GIT"), git)]),
        ("git~1", vec![(FOLDER, name("git~1"), git)]),
        (".git as HFS+ reads it", vec![(FOLDER, name(".g\u{200c}it"), git)]),
        (".git/config as one name", vec![(FILE, name(".git/config"), config)]),
        ("a file .git", vec![(FILE, name(".git"), gitdir)]),
    ]
}

/// Content that would be written to a folder of the machine.
fn that_would_write(raw: &Raw, host: &str) -> Vec<(&'static str, Vec<Entry>)> {
    let (file, folder, link) = (raw.file("written from a repository"), through(raw), raw.file(host));
    let up = format!("{}{}/up", "../".repeat(12), &host[1..]);
    vec![
        ("a link .git", vec![(LINK, name(".git"), link)]),
        ("..", vec![(FOLDER, name(".."), folder)]),
        (".", vec![(FOLDER, name("."), folder)]),
        ("a way up in one name", vec![(FILE, name(&up), file)]),
        ("a name from the root", vec![(FILE, name(&format!("{host}/root")), file)]),
        ("an empty name", vec![(FOLDER, name(""), folder)]),
        ("a link and a folder of one name", vec![(LINK, name("a"), link), (FOLDER, name("a"), folder)]),
        ("a link, and a name through it", vec![(LINK, name("host"), link), (FILE, name("host/through"), file)]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_content_runs_or_writes_anything_outside() {
    over_rabbitmq_in_docker(async |farm| {
        started(farm, 1).await;
        let outside = tempfile::tempdir().unwrap();
        let (ran, host) = (outside.path().join("ran"), outside.path().display().to_string());
        let raw = Raw::new();
        let mut cases = that_would_run(&raw, &ran);
        cases.extend(that_would_write(&raw, &host));
        for (what, entries) in cases {
            let number = farm.api().submit_url(raw.commit(entries), Some("main")).await;
            let view = farm.api().until_over(number).await;
            let message = view.build.message.clone().unwrap_or_default();
            eprintln!("content | {what} | {} | {message}", end(&view));
            match view.build.status {
                Status::Passed => assert!(farm.api().log(number, "test").await.ends_with("built\n"), "{what}"),
                Status::Errored => {
                    let told =
                        message.contains("write the checkout") || message.contains("cannot be read: failed to parse");
                    assert!(told, "{what}: {message}");
                    assert!(message.matches("invalid path").count() <= 1, "it is said once: {message}");
                    if message.contains("invalid path") {
                        assert_eq!(view.attempts.len(), 1, "no other attempt would go better: {what}: {message}");
                    }
                }
                _ => panic!("{what}: {view:#?}"),
            }
            assert_eq!(names(outside.path()), Vec::<String>::new(), "{what}");
        }
        // The same repository, once there is nothing of it in it.
        let number = farm.api().submit_url(raw.commit(Vec::new()), Some("main")).await;
        farm.api().until_is(number, Status::Passed).await;
        goes_on(farm).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deep_code_is_copied_for_prepare() {
    over_rabbitmq_in_docker(async |farm| {
        started(farm, 1).await;
        let raw = Raw::new();
        let deep = (0..1900).fold(through(&raw), |inner, _| raw.tree(&[(FOLDER, name("d"), inner)]));
        let number = farm.api().submit_url(raw.commit(vec![(FOLDER, name("d"), deep)]), Some("main")).await;
        let view = farm.api().until_over(number).await;
        eprintln!("content | 1900 folders within each other | {} | {:?}", end(&view), view.build.message);
        assert_eq!(view.build.status, Status::Passed, "{view:#?}");
        goes_on(farm).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_nobody_can_type_are_built() {
    over_rabbitmq_in_docker(async |farm| {
        started(farm, 1).await;
        let raw = Raw::new();
        let names: [&[u8]; 5] = [b"new\nline", b"not\xffletters", b"-rf", b" ", b"$(touch ran)"];
        let entries = names.map(|name| (FILE, name.to_vec(), raw.file("x"))).to_vec();
        let number = farm.api().submit_url(raw.commit(entries), Some("main")).await;
        farm.api().until_is(number, Status::Passed).await;
        assert!(farm.api().log(number, "test").await.ends_with("built\n"));
    })
    .await;
}
