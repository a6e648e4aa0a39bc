//! Workspaces that are overlays: how that is decided, what a killed process leaves, and views of one.

use std::fs;
use std::time::Instant;

use protocol::RepoUrl;

use super::super::places::copy_or_lay;
use super::*;
use crate::overlay::{self, Trial, Way};

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

/// An executor whose containers see what it says.
fn seeing(sees: Option<bool>) -> Inert {
    Inert { sees, remove: Box::new(crate::folder::remove) }
}

fn left(work: &WorkFolder) -> Vec<String> {
    let names = fs::read_dir(work.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[tokio::test]
async fn overlays_are_taken_where_they_can_be_had() {
    if !may_mount() {
        return;
    }
    use WorkspaceChoice::{Auto, Copy, Overlay};
    for (choice, sees, expect) in [
        (Auto, Some(true), Some(Way::Overlay)),
        (Overlay, Some(true), Some(Way::Overlay)),
        (Auto, Some(false), Some(Way::Plain)),
        (Overlay, Some(false), None),
        (Auto, None, Some(Way::Plain)),
        (Copy, Some(true), Some(Way::Plain)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        // A disk whose files share no blocks.
        if overlay::shares_blocks(folder.path(), folder.path()) {
            eprintln!("skipped: files share blocks here");
            return;
        }
        let work = WorkFolder::at(&folder.path().join("work")).unwrap().with(choice);
        let settled = work.settle(&seeing(sees), &folder.path().join("cache")).await;
        assert_eq!(settled.as_ref().ok().map(|settled| settled.way), expect, "{choice:?} {sees:?} {settled:?}");
        assert_eq!(left(&work), Vec::<String>::new());
        assert_eq!(work.open().await.unwrap().ground().way(), expect.unwrap_or_default());
        if sees.is_none() {
            // It is asked again when it may be known.
            let settled = work.settle(&seeing(Some(true)), &folder.path().join("cache")).await.unwrap();
            assert_eq!(settled.way, Way::Overlay);
        }
    }
}

#[tokio::test]
async fn a_folder_that_carries_no_overlay_is_said_and_done_without() {
    if !may_mount() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("below")).unwrap();
    fs::create_dir(place.path().join("at")).unwrap();
    let at = place.path().join("at");
    overlay::lay(&[place.path().join("below")], &at).unwrap();
    // As in a container: the kernel lays no overlay over what is written to another.
    let work = WorkFolder::at(&at.join("work")).unwrap();
    let auto = work.clone().with(WorkspaceChoice::Auto).settle(&seeing(Some(true)), &at.join("cache")).await.unwrap();
    assert_ne!(auto.way, Way::Overlay);
    assert!(auto.because.unwrap().contains("an overlay in"));
    let asked = work.clone().with(WorkspaceChoice::Overlay).settle(&seeing(Some(true)), &at.join("cache")).await;
    assert!(asked.unwrap_err().to_string().contains("--workspace auto"));
    assert_eq!(left(&work), Vec::<String>::new());
    overlay::remove(&at).unwrap();
}

/// A repository with one file, mirrored and kept.
async fn kept(folder: &Path) -> (Checkouts, RepoUrl) {
    let source = folder.join("source");
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]).args(arguments);
        assert!(command.current_dir(&source).output().unwrap().status.success(), "{arguments:?}");
    };
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "kept").unwrap();
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "one"]);
    let policy = ClonePolicy { local_repos: true, home: None, ..ClonePolicy::default() };
    (Checkouts::new(folder.join("cache"), policy), source.to_str().unwrap().parse().unwrap())
}

async fn code(checkouts: &Checkouts, url: &RepoUrl, workspace: &Workspace) {
    let (sender, _lines) = tokio::sync::mpsc::channel(16);
    let stop = tokio_util::sync::CancellationToken::new();
    checkouts.check_out_onto(url, None, None, workspace.ground(), &stop, sender).await.unwrap();
}

#[tokio::test]
async fn what_a_killed_process_leaves_is_unmounted_and_removed() {
    if !may_mount() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (checkouts, url) = kept(folder.path()).await;
    let work = WorkFolder::at(&folder.path().join("work")).unwrap().with(WorkspaceChoice::Auto);
    work.settle(&seeing(Some(true)), checkouts.folder()).await.unwrap();
    let (dead, alive) = (work.open().await.unwrap(), work.open().await.unwrap());
    code(&checkouts, &url, &dead).await;
    code(&checkouts, &url, &alive).await;
    let view = dead.folder().join("view-0");
    fs::create_dir(&view).unwrap();
    copy_or_lay(&dead.checkout(), &view, &|| false).unwrap();
    assert!(overlay::upper_of(&view).is_some());
    // A process that dies lets go of its locks, and of nothing else.
    let gone = dead.folder().to_owned();
    drop(dead);
    // So does one that dies over a trial.
    let half = work.path().join(".0123456789abcdef0123456789abcdef");
    std::mem::forget(Trial::make(half.clone()).unwrap());
    // A process that another test starts at this moment has the locks open until it becomes what it runs.
    let (mut swept, end) = (0, Instant::now() + Duration::from_secs(60));
    while swept < 2 && Instant::now() < end {
        swept += work.sweep(&seeing(None)).await.unwrap();
    }
    assert_eq!(swept, 2);
    assert!(!gone.exists() && !half.exists());
    assert_eq!(fs::read_to_string(alive.checkout().join("file")).unwrap(), "kept");
    alive.discard(&seeing(None)).await.unwrap();
    assert_eq!(left(&work), Vec::<String>::new());
}

#[tokio::test]
async fn views_of_a_workspace_see_it_as_it_was_and_nothing_of_each_other() {
    if !may_mount() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (checkouts, url) = kept(folder.path()).await;
    let work = WorkFolder::at(&folder.path().join("work")).unwrap().with(WorkspaceChoice::Auto);
    work.settle(&seeing(Some(true)), checkouts.folder()).await.unwrap();
    let workspace = work.open().await.unwrap();
    code(&checkouts, &url, &workspace).await;
    let app = workspace.checkout();
    fs::create_dir(app.join("made")).unwrap();
    fs::write(app.join("made/a"), "a").unwrap();
    fs::remove_file(app.join("file")).unwrap();
    let view = |name: &str, of: &Path| {
        let view = workspace.folder().join(name);
        fs::create_dir(&view).unwrap();
        copy_or_lay(of, &view, &|| false).unwrap();
        assert!(overlay::upper_of(&view).is_some(), "{name} is no copy");
        view
    };
    let (one, other) = (view("one", &app), view("other", &app));
    fs::rename(one.join("made"), one.join("moved")).unwrap();
    fs::write(one.join("file"), "again").unwrap();
    assert_eq!(fs::read_to_string(other.join("made/a")).unwrap(), "a");
    assert!(!other.join("file").exists() && !app.join("file").exists() && app.join("made/a").exists());
    let further = view("further", &one);
    assert_eq!(fs::read_to_string(further.join("moved/a")).unwrap(), "a");
    assert!(!further.join("made").exists());
    workspace.discard(&seeing(None)).await.unwrap();
    assert_eq!(left(&work), Vec::<String>::new());
}

#[tokio::test]
async fn a_job_is_built_over_what_is_kept() {
    if !may_mount() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (checkouts, url) = kept(folder.path()).await;
    let manifest = "image: any\nstages: [[a, b], c]\na: {script: [write x a], artifacts: [x]}\nb: {script: [expect-file file, write y b]}\nc: {script: [read x, write file changed]}\n";
    fs::write(folder.path().join("source/.buildr.yml"), manifest).unwrap();
    let commit = "git add -A && git -c user.name=Ada -c user.email=ada@example.org commit -qm two";
    let source = folder.path().join("source");
    assert!(std::process::Command::new("sh").args(["-c", commit]).current_dir(source).status().unwrap().success());
    let (executor, stop) = (ScriptedExecutor::new(), Stop::new());
    let work = WorkFolder::at(&folder.path().join("work")).unwrap().with(WorkspaceChoice::Overlay);
    let order = WorkOrder::new(JobId::fresh(), TriggerKind::Injected, url);
    for _ in 0..2 {
        let rooms = rooms(Source::Clone(&checkouts), &executor, &work);
        let told = Told { logs: Mutex::default(), events: Mutex::default(), stop: &stop, cancel_because: None };
        let Ended { ending, rest } = run(&order, &rooms, &told, &stop).await;
        rest.clear(&executor).await;
        assert_eq!(ending.outcome, Outcome::Passed, "{}", told.logs.into_inner().unwrap());
        assert_eq!(left(&work), Vec::<String>::new());
    }
}
