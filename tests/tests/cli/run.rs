//! What `buildr run` builds, where, and with what; and that nothing of it stays.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::place::{Place, image};

/// The manifest that buildr began with, but for its image and its commands.
const FIRST: &str = "\
image: 'IMAGE'
environment:
  inherit: INHERIT
  vars:
    - FOO=BAR
    - API_KEY=<something>
stages:
  - build
  - deploy
prepare:
  script:
    - echo tool >/opt/tool
    - echo lost >/app/lost
build:
  script:
    - cat /opt/tool
    - test ! -e /app/lost
    - echo \"$FOO $API_KEY ${FROM_OUTSIDE-nothing}\"
    - echo built >made
deploy:
  script:
    - cat made
    - echo \"$PWD $HOME ${XDG_CACHE_HOME-nothing}\"
";

#[tokio::test]
async fn the_first_manifest_runs_as_it_is() {
    for (inherit, outside, cache) in [("false", "nothing", "nothing"), ("true", "yes", "passed")] {
        let Some(place) = Place::with(&FIRST.replace("INHERIT", inherit)).await else { return };
        let name = place.own_image(|_| {}).await;
        place.write(".buildr.yml", FIRST.replace("INHERIT", inherit).replace("IMAGE", &name));
        let before = place.tree();
        let mut command = place.buildr(&["run"]);
        command.env("FROM_OUTSIDE", "yes");
        let ran = crate::place::to_the_end(command).await;
        ran.check(0, &["build | tool\n", &format!("build | BAR <something> {outside}\n"), "deploy | built\n"]);
        ran.shows(&["deploy | /app /root ", "prepare wrote to the workspace", "/app/lost"]);
        assert_eq!(ran.out.contains("/root nothing"), cache == "nothing", "{ran}");
        ran.shows(&["passed    prepare", "passed    build", "passed    deploy"]);
        assert!(ran.out.lines().last().unwrap().starts_with("passed in "), "{ran}");
        assert_eq!(place.tree(), before);
        place.nothing_is_left().await;
    }
}

#[tokio::test]
async fn the_tree_is_safe_from_root_in_a_container() {
    let Some(place) = Place::with("image: IMAGE\nbuild:\n  script: find /app -mindepth 1 -delete\n").await else {
        return;
    };
    place.write("src/deep/file", "x");
    place.commit().await;
    fs::write(place.project().join("untracked"), "y").unwrap();
    let before = place.tree();
    place.run(&["run"]).await.check(0, &[]);
    assert_eq!(place.tree(), before);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn what_is_not_committed_is_built_and_what_is_ignored_is_not() {
    let manifest = "image: IMAGE\nbuild:\n  script: for file in changed new ignored .git/HEAD; do cat $file || echo no $file; done\n";
    let Some(place) = Place::with(manifest).await else { return };
    place.write("changed", "before\n");
    place.write(".gitignore", "ignored\n");
    place.commit().await;
    place.write("changed", "after\n");
    place.write("new", "untracked\n");
    place.write("ignored", "secret\n");
    let ran = place.run(&["run"]).await;
    ran.check(0, &["build | after\n", "build | untracked\n", "build | no ignored\n", "not committed"]);
    ran.hides(&["before", "build | secret"]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn a_folder_of_any_name_with_or_without_git() {
    let Some(place) = Place::new().await else { return };
    let manifest = format!("image: {}\nbuild:\n  script: cat file\n", image());
    for (name, other) in [("with space & ü'\"$x", ".buildr.yaml"), ("-dash", ".buildr"), (".hidden", ".buildr.yml")] {
        place.write(&format!("{name}/{other}"), &manifest);
        place.write(&format!("{name}/file"), "here\n");
        let path = place.project().join(name);
        place.run(&["run", path.to_str().unwrap()]).await.check(0, &["build | here\n", "passed"]);
        let mut within = place.buildr(&["run"]);
        within.current_dir(&path);
        crate::place::to_the_end(within).await.check(0, &["build | here\n"]);
    }
    place.run(&["run", "nowhere"]).await.check(3, &["nowhere"]);
    place.run(&["run", "-dash/file"]).await.check(2, &[]);
    place.run(&["run", "--", "-dash/file"]).await.check(3, &["is not a folder"]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn a_variable_of_the_command_line_wins() {
    let manifest = "image: IMAGE\nenvironment:\n  vars: [A=manifest, B=kept]\nprepare:\n  script: echo $A\nbuild:\n  script: echo \"$A $B $C\"\n";
    let Some(place) = Place::with(manifest).await else { return };
    let ran = place.run(&["run", "--env", "A=mine", "-e", "C=x=y 'z' $HOME"]).await;
    ran.check(0, &["prepare | mine\n", "build | mine kept x=y 'z' $HOME\n"]);
    place.run(&["run", "--env", "A"]).await.check(2, &["\"A\" is not NAME=VALUE"]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn the_docker_socket_is_for_stages_that_ask() {
    let manifest = "image: IMAGE\nasks:\n  docker: true\n  script: test -S /var/run/docker.sock\nasks-not:\n  script: test ! -e /var/run/docker.sock\n";
    let Some(place) = Place::with(manifest).await else { return };
    place.run(&["run"]).await.check(0, &["passed    asks ", "passed    asks-not"]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn two_runs_at_once_do_not_disturb_each_other() {
    let manifest = "image: IMAGE\nprepare:\n  script: echo $WHO >/opt/who\nbuild:\n  script:\n    - cp /opt/who mine\n    - for i in 1 2 3 4 5; do cat mine; sleep 0.2; done\n";
    let Some(place) = Place::with(manifest).await else { return };
    let name = place.own_image(|_| {}).await;
    place.write(".buildr.yml", manifest.replace("IMAGE", &name));
    let (ann, bob) = tokio::join!(place.run(&["run", "--env", "WHO=ann"]), place.run(&["run", "--env", "WHO=bob"]));
    ann.check(0, &["build | ann\n"]).hides(&["bob"]);
    bob.check(0, &["build | bob\n"]).hides(&["ann\n"]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn limits_hold() {
    // More memory than the limit, by a program that every image has.
    let manifest = "image: IMAGE\nbuild:\n  script: for i in 1 2 3 4 5 6 7 8 9; do sleep 0.2 & done; wait; head -c 200m /dev/zero | tail >/dev/null\n";
    let Some(place) = Place::with(manifest).await else { return };
    let ran = place.run(&["run", "--memory", "64m"]).await;
    ran.check(1, &["failed    build"]);
    // Some daemons do not learn of it, such as one that runs within a container.
    assert!(ran.out.contains("out of memory") || ran.out.contains("exit code 137"), "{ran}");
    place.run(&["run", "--pids", "8"]).await.check(1, &["failed    build"]);
    place.run(&["run", "--memory", "much"]).await.check(2, &["\"much\" is not a size"]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn the_work_folder_can_be_elsewhere() {
    let Some(place) = Place::with("image: IMAGE\nbuild:\n  script: pwd\n").await else { return };
    let work = place.path("elsewhere");
    place.run(&["run", "--work-dir", work.to_str().unwrap()]).await.check(0, &["build | /app\n"]);
    assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
    assert_eq!(fs::metadata(place.project()).unwrap().uid(), fs::metadata(work).unwrap().uid());
    place.write("file", "");
    let file = place.project().join("file");
    place.run(&["run", "--work-dir", file.to_str().unwrap()]).await.check(3, &["--work-dir"]);
    place.nothing_is_left().await;
}
