//! How `buildr run` ends: its exit codes and sentences, its signals, and what a killed one leaves.

use std::fs;
use std::time::{Duration, Instant};

use farm::farm::until;
use tokio::io::AsyncReadExt as _;

use crate::place::{Place, image, start_apart, to_the_end};

#[tokio::test]
async fn a_failing_script_ends_the_build() {
    let manifest = "image: IMAGE\nbuild:\n  script: [echo first, exit 7, echo never]\ndeploy:\n  script: echo never\n";
    let Some(place) = Place::with(manifest).await else { return };
    let ran = place.run(&["run"]).await;
    ran.check(1, &["build | first\n", "failed    build", "skipped   deploy", "build failed"]).hides(&["| never"]);
    assert!(ran.out.contains("\nfailed: build failed: exit code 7 ("), "{ran}");
    place.nothing_is_left().await;
}

#[tokio::test]
async fn a_failing_prepare_ends_the_build() {
    let Some(place) = Place::with("image: IMAGE\nprepare:\n  script: 'false'\nbuild:\n  script: echo never\n").await
    else {
        return;
    };
    let ran = place.run(&["run"]).await;
    ran.check(1, &["failed    prepare", "skipped   build", "failed: prepare failed: exit code 1"]).hides(&["| never"]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn an_image_that_cannot_be_had_is_said_soon() {
    let Some(place) = Place::with("image: localhost:1/nobody/has-this:1\nbuild:\n  script: 'true'\n").await else {
        return;
    };
    let began = Instant::now();
    let ran = place.run(&["run"]).await;
    ran.check(3, &["localhost:1/nobody/has-this:1", "could not be pulled", "errored (pull)"]);
    assert!(began.elapsed() < Duration::from_secs(30));
    // Said once, below how the stages ended.
    assert_eq!(ran.out.matches("could not be pulled").count(), 1, "{ran}");
    assert_eq!(ran.out.matches("errored   build").count(), 1, "{ran}");
    place.nothing_is_left().await;
}

#[tokio::test]
async fn without_docker_it_says_what_to_do() {
    let Some(place) = Place::with("image: IMAGE\nbuild:\n  script: 'true'\n").await else { return };
    let mut command = place.buildr(&["run"]);
    command.env("DOCKER_HOST", "unix:///nonexistent");
    to_the_end(command)
        .await
        .check(3, &["error: the Docker daemon at unix:///nonexistent does not answer", "Start it"]);
    place.nothing_is_left().await;
}

const LONG: &str = "image: IMAGE\nprepare:\n  script: touch /opt/x\nbuild:\n  script:\n    - trap 'echo tidying; exit 0' TERM\n    - echo running; while :; do sleep 0.1; done\ndeploy:\n  script: echo never\n";

#[tokio::test]
async fn an_interrupt_cancels_and_cleans_up() {
    let Some(place) = Place::with(LONG).await else { return };
    let name = place.own_image(|_| {}).await;
    place.write(".buildr.yml", LONG.replace("IMAGE", &name));
    for signal in ["INT", "TERM"] {
        let mut run = place.start(&["run"]);
        run.until("build | running").await;
        run.signal(signal).await;
        let ran = run.end().await;
        ran.check(130, &["tidying", "cancelling, and cleaning up", "cancelled build", "skipped   deploy"]);
        assert!(ran.out.contains("\ncancelled: cancelled during build ("), "{ran}");
        place.nothing_is_left().await;
    }
}

#[tokio::test]
async fn a_second_interrupt_kills_at_once() {
    let manifest =
        "image: IMAGE\nbuild:\n  script:\n    - trap '' TERM INT\n    - echo running; while :; do sleep 0.1; done\n";
    let Some(place) = Place::with(manifest).await else { return };
    let mut run = place.start(&["run"]);
    run.until("build | running").await;
    let began = Instant::now();
    run.signal("INT").await;
    run.until("cancelling").await;
    run.signal("INT").await;
    run.end().await.check(130, &["cancelled during build"]);
    // It is ten seconds.
    assert!(began.elapsed() < Duration::from_secs(10), "the grace was waited for: {:?}", began.elapsed());
    place.nothing_is_left().await;
}

#[tokio::test]
async fn the_next_run_removes_what_a_killed_one_left() {
    let Some(place) = Place::with(LONG).await else { return };
    let name = place.own_image(|_| {}).await;
    // Without a stage that follows, whose container would stand ready beside the one that runs.
    let alone = LONG.split_once("deploy:").unwrap().0;
    place.write(".buildr.yml", alone.replace("IMAGE", &name));
    let mut killed = place.start(&["run"]);
    killed.until("build | running").await;
    // That of its prepare goes beside it.
    let one = async || (place.containers().await.len() == 1).then_some(());
    until("one container", one).await;
    killed.signal("KILL").await;
    assert_eq!(killed.end().await.code, None);
    assert_eq!((place.containers().await.len(), place.images().await.len()), (1, 1));
    let work = place.path("cache/buildr/run/work");
    assert_ne!(fs::read_dir(&work).unwrap().count(), 0);

    // One that goes on meanwhile is not taken for dead.
    let mut alive = place.start(&["run"]);
    alive.until("build | running").await;
    until("one container", one).await;
    assert_eq!((place.containers().await.len(), place.images().await.len()), (1, 1), "the next run has swept");
    place.write(".buildr.yml", format!("image: {}\nbuild:\n  script: echo short\n", image()));
    place.run(&["run"]).await.check(0, &["build | short\n"]);
    assert_eq!((place.containers().await.len(), place.images().await.len()), (1, 1), "a living one was swept");
    alive.signal("INT").await;
    alive.end().await.check(130, &[]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn what_a_killed_one_left_elsewhere_is_removed_too() {
    let Some(place) = Place::with("image: IMAGE\nbuild:\n  script: [echo running, sleep 600]\n").await else { return };
    let other = place.path("other");
    let mut killed = place.start(&["run", "--work-dir", other.to_str().unwrap()]);
    killed.until("build | running").await;
    // Whoever cleans up meanwhile takes nothing from under it.
    fs::create_dir_all(place.path("cache/buildr/run/caches")).unwrap();
    let cleaned = place.run(&["clean", "--dry-run"]).await;
    cleaned.check(0, &["a run goes on and may be using them, so these stay: caches of stages"]);
    killed.signal("KILL").await;
    killed.end().await;
    assert_ne!(fs::read_dir(&other).unwrap().count(), 0);
    place.write(".buildr.yml", format!("image: {}\nbuild:\n  script: 'true'\n", image()));
    place.run(&["run"]).await.check(0, &[]);
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn a_third_interrupt_ends_where_nobody_takes_the_output() {
    let Some(place) = Place::with("image: IMAGE\nbuild:\n  script: while echo more; do :; done\n").await else {
        return;
    };
    let (mut run, mut output) = start_apart(place.buildr(&["run"]));
    // It is under way; what follows fills the pipe.
    output.read_exact(&mut [0; 10_000]).await.unwrap();
    for said in ["cancelling", "killing"] {
        run.signal("INT").await;
        run.until(said).await;
    }
    run.signal("INT").await;
    run.end().await.check(130, &[]);
    drop(output);
    place.write(".buildr.yml", format!("image: {}\nbuild:\n  script: 'true'\n", image()));
    place.run(&["run"]).await.check(0, &[]);
    place.nothing_is_left().await;
}
