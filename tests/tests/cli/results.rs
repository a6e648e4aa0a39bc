//! What `buildr run` leaves in `.buildr-out/`, what it takes over from there, and what it tells programs.

use std::fs;

use serde_json::Value;

use crate::place::{Place, Ran};

const THREE: &str = "\
image: IMAGE
stages: [fetch, build, test]
fetch:
  script: echo fetched >fetched
build:
  script: [mkdir -p out, date +%N >out/made, echo in build]
  artifacts: [out/made]
test:
  script: [cat out/made, 'test -e fetched && echo all there || echo nothing fetched']
";

fn read(place: &Place, name: &str) -> String {
    fs::read_to_string(place.project().join(".buildr-out").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[tokio::test]
async fn a_run_is_written_down() {
    let Some(place) = Place::with(THREE).await else { return };
    place.commit().await;
    place.run(&["run"]).await.check(0, &["artifacts: .buildr-out/artifacts/build (1 file"]);
    assert_eq!(read(&place, ".gitignore"), "*\n");
    assert!(read(&place, "logs/build.log").contains("in build\n"));
    let made = read(&place, "artifacts/build/out/made");
    let result: Value = serde_json::from_str(&read(&place, "result.json")).unwrap();
    assert_eq!((&result["exit_code"], &result["ending"]["outcome"]), (&Value::from(0), &Value::from("passed")));
    let stages = result["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 3);
    assert_eq!(stages[1]["log"], "logs/build.log");
    assert_eq!(stages[1]["artifacts"], "artifacts/build");
    // Git sees nothing of it.
    place.git(&["diff", "--quiet"]).await;
    place.run(&["run"]).await.check(0, &[]).hides(&["changed"]);
    assert_ne!(read(&place, "artifacts/build/out/made"), made, "the last run counts");
    assert_eq!(fs::read_dir(place.project().join(".buildr-out/archives")).unwrap().count(), 1);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn what_is_not_asked_for_is_taken_over() {
    let Some(place) = Place::with(THREE).await else { return };
    // Nothing is there to be taken over: what is needed is made.
    place.run(&["run", "--only", "test"]).await.check(0, &["build | in build", "test | nothing fetched"]);
    place.run(&["run"]).await.check(0, &["test | all there"]);
    let made = read(&place, "artifacts/build/out/made");
    for words in [["run", "--from", "test"], ["run", "--only", "test"]] {
        let ran = place.run(&words).await;
        ran.check(0, &[&format!("test | {made}"), "test | nothing fetched", "left out, and what it writes is missing"]);
        ran.hides(&["in build", "fetch |"]);
    }
    place.run(&["run", "--only", "tset"]).await.check(2, &["did you mean \"test\"?"]);
    place.run(&["run", "--only", "test", "--from", "build"]).await.check(2, &["cannot be used with"]);
    place.nothing_is_left().await;
}

fn events(ran: &Ran) -> Vec<Value> {
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

#[tokio::test]
async fn programs_read_every_line() {
    let manifest = "image: IMAGE\nbuild:\n  script: [echo hello, printf '\\377\\n', exit 2]\n";
    let Some(place) = Place::with(manifest).await else { return };
    let ran = place.run(&["run", "--json"]).await;
    assert_eq!(ran.code, Some(1), "{ran}");
    let events = events(&ran);
    let of = |name: &str| -> Vec<&Value> { events.iter().filter(|event| event["event"] == name).collect() };
    assert_eq!(of("begun").len(), 1);
    assert_eq!(of("stage_ended")[0]["result"]["end"]["code"], 2);
    let text: String = of("log").iter().filter_map(|event| event["text"].as_str()).collect();
    assert!(text.contains("hello\n"), "{text}");
    assert!(of("log").iter().any(|event| event["base64"].is_string()), "{ran}");
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["exit_code"]), (&Value::from("ended"), &Value::from(1)));
    place.nothing_is_left().await;
}

#[tokio::test]
async fn elsewhere_and_where_nothing_can_be_written() {
    let Some(place) = Place::with("image: IMAGE\nbuild:\n  script: echo made\n").await else { return };
    let out = place.path("results");
    place.run(&["run", "--out", out.to_str().unwrap()]).await.check(0, &[]);
    assert!(fs::read_to_string(out.join("logs/build.log")).unwrap().contains("made"));
    assert!(!place.project().join(".buildr-out").exists());
    place.nothing_is_left().await;
}

#[tokio::test]
async fn what_is_built_is_what_was_asked_for() {
    let manifest = "image: IMAGE\nbuild:\n  script: [cat file, 'cat ignored || true', echo left >left]\n";
    let Some(place) = Place::with(manifest).await else { return };
    place.write("file", "committed\n");
    place.write(".gitignore", "ignored\n");
    place.commit().await;
    place.write("file", "changed\n");
    place.write("ignored", "warm\n");
    place.run(&["run"]).await.check(0, &["build | changed\n", "1 file is not committed"]).hides(&["| warm"]);
    place.run(&["run", "--committed"]).await.check(0, &["build | committed\n", "as on the farm"]);
    assert!(!place.project().join("left").exists());
    let ran = place.run(&["run", "--in-place"]).await;
    ran.check(0, &["build | changed\n", "build | warm\n", "the tree itself is mounted"]);
    assert_eq!(fs::read_to_string(place.project().join("left")).unwrap(), "left\n");
    place.nothing_is_left().await;
}

#[tokio::test]
async fn offline_nothing_is_pulled() {
    let Some(place) = Place::with("image: localhost:1/nobody/has-this:1\nbuild:\n  script: 'true'\n").await else {
        return;
    };
    place
        .run(&["run", "--offline"])
        .await
        .check(3, &["localhost:1/nobody/has-this:1", "not on this machine", "docker pull"]);
    place.write(".buildr.yml", format!("image: {}\nbuild:\n  script: echo made\n", crate::place::image()));
    place.run(&["run", "--offline"]).await.check(0, &["build | made\n"]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn secrets_come_from_files_and_from_the_environment() {
    let manifest = "image: IMAGE\nbuild:\n  secrets: [TOKEN, {KEY: {from: prod/key, file: true}}]\n  script: ['test \"$TOKEN\" = s3cr3t-value', echo \"it is $TOKEN\"]\n";
    let Some(place) = Place::with(&manifest.replace(", {KEY: {from: prod/key, file: true}}", "")).await else { return };
    place.commit().await;
    let mut command = place.buildr(&["run", "--secret", "TOKEN"]);
    command.env("TOKEN", "s3cr3t-value");
    let ran = crate::place::to_the_end(command).await;
    ran.check(0, &["build | it is "]).hides(&["s3cr3t-value\n"]);
    place.run(&["run", "--secret", "TOKEN"]).await.check(3, &["no variable \"TOKEN\"", "--secret-file TOKEN=FILE"]);
    place.run(&["run"]).await.shows(&["the secret TOKEN is not given"]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn what_runs_keep_can_be_removed() {
    let Some(place) = Place::with("image: IMAGE\nbuild:\n  script: [echo made >file, exit 1]\n").await else { return };
    place.run(&["run", "--shell"]).await.check(2, &["--shell needs a terminal", "try: buildr run --keep"]);
    let ran = place.run(&["run", "--keep"]).await;
    ran.check(1, &["build is kept; look into it with: docker run --rm -it -v "]);
    let kept = place.path("cache/buildr/run/kept");
    let workspace = fs::read_dir(&kept).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_to_string(workspace.join("file")).unwrap(), "made\n");
    place.nothing_is_left().await;
}
