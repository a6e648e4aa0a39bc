//! Workspaces that are overlays over a kept checkout, with root in real containers doing to one what it can.

#![expect(clippy::unwrap_used, reason = "what a test makes for itself fails as the test does")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use buildr::executor::SandboxOrder;
use buildr::git::{Checkouts, ClonePolicy};
use buildr::overlay::Way;
use buildr::runner::{WorkFolder, Workspace, WorkspaceChoice};
use farm::contract::executor::{ExecutorRig as _, PASSED, order, run, scripted};
use farm::docker::{DockerRig, with_docker};
use farm::farm::Repository;
use protocol::RepoUrl;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The digest of every file below a folder.
fn digests(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            all.extend(digests(&entry.path()));
        } else if kind.is_file() {
            all.insert(entry.path(), Sha256::digest(fs::read(entry.path()).unwrap()).to_vec());
        }
    }
    all
}

/// What runs in a place over a workspace prints.
async fn say(rig: &DockerRig, workspace: &Workspace, script: &[&str]) -> String {
    let order = SandboxOrder { workspace: workspace.checkout(), ..order(rig) };
    let sandbox = rig.executor().open(order).await.unwrap();
    let stage = scripted(script.iter().map(|line| (*line).to_owned()).collect());
    let (end, printed) = run(&*sandbox, &stage).await;
    let printed = String::from_utf8_lossy(&printed).into_owned();
    sandbox.close().await.unwrap();
    assert_eq!(end.unwrap(), PASSED, "{printed}");
    printed
}

/// What root in a container can do to all that it sees.
const SPOIL: [&str; 7] = [
    "for f in $(find . -type f); do ln $f $f.again; echo spoilt >>$f.again; chmod 4777 $f; done",
    "chown -R 1234:1234 .",
    "for f in .git/objects/pack/*; do echo spoilt >$f; done",
    "setfattr -n user.spoilt -v x .buildr.yml 2>/dev/null || true",
    "mv .git gone",
    "ln -s /etc/passwd link; mkdir -p deep/er; rm -rf docs",
    "rm -f .buildr.yml; mkdir .buildr.yml",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_build_sees_anything_of_another() {
    with_docker(
        |_| {},
        |rig| async move {
            let folder = tempfile::tempdir().unwrap();
            let repository = Repository::with_manifest("image: x\ntest: {script: [x]}\n");
            let url: RepoUrl = repository.url();
            let policy = ClonePolicy { local_repos: true, home: None, ..ClonePolicy::default() };
            let checkouts = Checkouts::new(folder.path().join("cache"), policy);
            let work = WorkFolder::at(&folder.path().join("work")).unwrap().with(WorkspaceChoice::Auto);
            let settled = work.settle(rig.executor(), checkouts.folder()).await.unwrap();
            if settled.way != Way::Overlay {
                let required = farm::rabbit::setting("BUILDR_TEST_REQUIRE", "");
                assert!(!required.split(',').any(|part| part == "mount"), "overlays are required: {settled:?}");
                eprintln!("skipped: {settled:?}");
                return;
            }
            let check_out = async || {
                let workspace = work.open().await.unwrap();
                let (sender, _lines) = mpsc::channel(16);
                let stop = CancellationToken::new();
                let ground = workspace.ground();
                checkouts.check_out_onto(&url, None, None, ground, &stop, sender).await.unwrap();
                workspace
            };
            let look = [
                "find . -path ./.git -prune -o -exec stat -c '%n %a %u %h %F' {} + | sort",
                "cat .buildr.yml .git/HEAD",
            ];
            let (spoilt, beside) = (check_out().await, check_out().await);
            let lower = spoilt.ground().lower().unwrap();
            let (kept, cache) = (digests(&lower), digests(checkouts.folder()));
            let first = say(&rig, &beside, &look).await;
            say(&rig, &spoilt, &SPOIL).await;
            assert_ne!(say(&rig, &spoilt, &["find . | sort"]).await, say(&rig, &beside, &["find . | sort"]).await);
            let after = check_out().await;
            assert_eq!(after.ground().lower().unwrap(), lower, "all lie over the same");
            for other in [&beside, &after] {
                assert_eq!(say(&rig, other, &look).await, first);
            }
            assert_eq!(digests(&lower), kept);
            let changed = digests(checkouts.folder());
            let differ: Vec<_> = changed.iter().filter(|(path, digest)| cache.get(*path) != Some(digest)).collect();
            assert!(differ.is_empty(), "{differ:?}");
            for workspace in [spoilt, beside, after] {
                workspace.discard(rig.executor()).await.unwrap();
            }
            assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0);
        },
    )
    .await;
}
