//! What a build leaves in its workspace, and does to all that it can reach: afterwards the workspace is gone, and
//! nothing else has changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use farm::farm::{Repository, over_rabbitmq_in_docker};
use protocol::api::Status;

use crate::{built, bystander, goes_on, is_unharmed, manifest, started};

/// All files under a folder, with what is in them.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => {
                found.insert(entry.path(), fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_left_in_it_is_gone_and_nothing_else() {
    over_rabbitmq_in_docker(async |farm| {
        started(farm, 2).await;
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("folder")).unwrap();
        fs::write(outside.path().join("folder/file"), "mine").unwrap();
        let before = files(outside.path());
        let beside = bystander(farm).await;

        let host = outside.path().display();
        let links = format!("ln -s / root; ln -s {host} host; ln -s {host}/folder/file file; ln -s ../../.. up; ln -s self self");
        let leaves = manifest(&[
            &links,
            "! test -e host",
            "echo touched >file 2>/dev/null || echo refused",
            "mkdir -p closed/in; echo x >closed/in/x; chown -R 4242:4242 closed; chmod 000 closed/in closed",
            "touch \"$(printf \"new\\nline\")\" \"$(printf \"not\\377letters\")\" \"$(printf \" -rf\")\" -- -rf",
            "mkfifo fifo; perl -MSocket -e \"socket(S,AF_UNIX,SOCK_STREAM,0); bind(S,pack_sockaddr_un(\\\"socket\\\")) or die\"",
            "test -p fifo && test -S socket",
            "perl -e 'for (1..2000) { mkdir \"d\" or die; chdir \"d\" or die }'",
            "mv /app /elsewhere 2>/dev/null || rmdir /app 2>/dev/null || ln -sfn / /app/app",
            "chmod 000 /app",
        ]);
        let number = farm.api().begin(&leaves).await;
        farm.api().until_is(number, Status::Passed).await;
        let said = farm.api().log(number, "0-job").await;
        assert!(!said.contains("could not be removed"), "{said}");
        assert_eq!(files(outside.path()), before);
        is_unharmed(farm, beside).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_of_any_depth_are_removed() {
    over_rabbitmq_in_docker(async |farm| {
        started(farm, 1).await;
        // Deeper than any stack or table of open files of the one who removes them.
        let digs = manifest(&["perl -e 'for (1..20000) { mkdir \"d\" or die; chdir \"d\" or die }'"]);
        let number = farm.api().begin(&digs).await;
        farm.api().until_is(number, Status::Passed).await;
        let said = farm.api().log(number, "0-job").await;
        assert!(!said.contains("could not be removed"), "{said}");
        goes_on(farm).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_overwrites_all_that_it_reaches() {
    over_rabbitmq_in_docker(async |farm| {
        started(farm, 1).await;
        let good = manifest(&["cat code", "git --version 2>/dev/null || true"]);
        let repository = Repository::with(&[(".buildr.yml", &good), ("code", "as it was\n")]);
        let first = built(farm, &repository).await;
        assert_eq!(first.build.status, Status::Passed);

        let bad = manifest(&[
            "find .git -type f | wc -l",
            "find /app -type f -exec sh -c \"for f; do chmod 666 \\\"\\$f\\\"; echo ruined >\\\"\\$f\\\"; done\" sh {} +",
            "mkdir -p .git/hooks; for h in post-checkout pre-commit reference-transaction; do echo \"#!/bin/sh\" >.git/hooks/$h; chmod 755 .git/hooks/$h; done",
            "echo ruined all of /app",
            "exec perl -MFile::Find -e 'find({no_chdir => 1, wanted => sub { $File::Find::prune = 1 if /^\\/(proc|sys|dev)$/; truncate($_, 0) if -f $_ && -w $_ }}, \"/\")'",
        ]);
        repository.commit(&[(".buildr.yml", &bad)]);
        let mirrors = farm.folders("a").state().join("mirrors");
        repository.commit(&[("more", "x")]);
        let ruined = farm.api().submit(&repository).await;
        // The mirror is up to date once the stage runs, and nobody writes to it after that.
        farm.api().until_said(ruined, "test", "$ find .git").await;
        let before = files(&mirrors);
        farm.api().until_over(ruined).await;
        let said = farm.api().log(ruined, "test").await;
        assert!(said.contains("ruined all of /app"), "{said}");
        assert!(before.len() > 3 && files(&mirrors) == before, "the mirror has changed");

        repository.commit(&[(".buildr.yml", &good)]);
        let next = built(farm, &repository).await;
        assert_eq!(next.build.status, Status::Passed, "{next:#?}");
        assert!(farm.api().log(next.build.number, "test").await.contains("\nas it was\n"));
    })
    .await;
}
