//! What `buildr run` leaves in `.buildr-out/`, what it takes over from there, and what it tells programs.

use std::fs;

use serde_json::Value;

use crate::place::{Place, Ran, to_the_end};

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
    // A run without a plan takes nothing away.
    place.run(&["run", "--matrix", "no=such"]).await.check(2, &["no cell of a matrix has no=such"]);
    place.run(&["run", "--from", "test"]).await.check(0, &[]).hides(&["in build"]);
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
    // The same again, but nothing is written over that no run made.
    place.run(&["run", "--out", out.to_str().unwrap()]).await.check(0, &[]);
    place.write("logs/own", "mine\n");
    let tree = place.tree();
    place.run(&["run", "--out", "."]).await.check(3, &["has other things in it"]).hides(&["build | made"]);
    assert_eq!(place.tree(), tree);
    // A link that the repository brings leads nothing to another place.
    let precious = place.path("precious");
    fs::create_dir_all(precious.join("logs")).unwrap();
    std::os::unix::fs::symlink(&precious, place.project().join(".buildr-out")).unwrap();
    place.run(&["run"]).await.check(0, &["build | made"]);
    let there: Vec<_> = fs::read_dir(&precious).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(there, ["logs"]);
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
async fn jobs_in_place_take_turns() {
    let one = "script: [test ! -e busy, touch busy, sleep 0.3, rm busy]";
    let manifest = format!(
        "image: IMAGE\nstages: [[a, b, c]]\na:\n  agent: x\n  {one}\nb:\n  agent: y\n  {one}\nc:\n  agent: z\n  {one}\n"
    );
    let Some(place) = Place::with(&manifest).await else { return };
    let ran = place.run(&["run", "--in-place"]).await;
    ran.check(0, &["all jobs work in the one tree, one after the other", "passed    a", "passed    b", "passed    c"]);
    place.run(&["run", "--in-place", "--jobs", "2"]).await.check(2, &["cannot be used with"]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn reports_are_left_for_people() {
    let tests = "<testsuite><testcase name=\"x\"/></testsuite>";
    let manifest = format!(
        "image: IMAGE\nunit:\n  script:\n    - mkdir -p out/deep\n    - echo '{tests}' >out/deep/a.xml\n    - printf 'SF:x\\nDA:1,1\\nend_of_record\\n' >lcov.info\n  reports: {{junit: \"out/**/*.xml\", coverage: lcov.info}}\n"
    );
    let Some(place) = Place::with(&manifest).await else { return };
    place.run(&["run"]).await.check(0, &["1 test passed", "100.00% of the lines covered"]);
    assert_eq!(read(&place, "reports/unit/out/deep/a.xml"), format!("{tests}\n"));
    assert!(read(&place, "reports/unit/lcov.info").starts_with("SF:x\n"));
    let result: Value = serde_json::from_str(&read(&place, "result.json")).unwrap();
    assert_eq!(result["stages"][0]["reports"], "reports/unit");
    // They are those of the last run.
    place.write(".buildr.yml", format!("image: {}\nunit:\n  script: 'true'\n", crate::place::image()));
    place.run(&["run"]).await.check(0, &[]);
    assert!(!place.project().join(".buildr-out/reports").exists());
    place.nothing_is_left().await;
}

#[tokio::test]
async fn a_prepare_that_is_taken_from_an_earlier_build_says_so() {
    let manifest =
        "image: IMAGE\nprepare:\n  files: [list]\n  script: cat list >/opt/list\nuse:\n  script: cat /opt/list\n";
    let Some(place) = Place::with(manifest).await else { return };
    let name = place.own_image(|_| {}).await;
    place.write(".buildr.yml", manifest.replace("IMAGE", &name));
    place.write("list", &name);
    place.run(&["run"]).await.check(0, &["use | buildr-test-"]).hides(&["cached"]);
    let ran = place.run(&["run"]).await;
    ran.check(0, &["use | buildr-test-", "prepare is as it was"]);
    let line = ran.out.lines().find(|line| line.starts_with("passed    prepare")).unwrap();
    assert!(line.ends_with("  cached"), "{line:?}");
    let result: Value = serde_json::from_str(&read(&place, "result.json")).unwrap();
    assert_eq!((&result["stages"][0]["cached"], &result["stages"][1]["cached"]), (&Value::from(true), &Value::Null));
    let ran = place.run(&["run", "--json"]).await;
    let reused: Vec<Value> = events(&ran).into_iter().filter(|event| event["event"] == "stage_reused").collect();
    assert_eq!(reused.len(), 1, "{ran}");
    assert_eq!(reused[0]["stage"], "prepare");
}

#[tokio::test]
async fn a_failed_try_is_printed_once() {
    let manifest = "image: IMAGE\nflaky:\n  retry: 1\n  script: [echo only-$((40 + 2)), exit 3]\n";
    let Some(place) = Place::with(manifest).await else { return };
    let ran = place.run(&["run", "--verbose"]).await;
    ran.check(1, &["try 1 of 2: exit code 3; trying again"]);
    let shown = ran.out.lines().filter(|line| line.starts_with("flaky") && line.ends_with("only-42")).count();
    assert_eq!(shown, 2, "once for each of the two tries: {ran}");
    let logs: Vec<_> = fs::read_dir(place.project().join(".buildr-out/logs")).unwrap().flatten().collect();
    assert!(logs.iter().all(|log| log.file_name() != "flaky.try-1.log"), "{logs:?}");
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
    let Some(place) = Place::new().await else { return };
    // What is kept is known by this image.
    let image = place.own_image(|_| {}).await;
    place.write(".buildr.yml", format!("image: {image}\nbuild:\n  script: [echo made >file, exit 1]\n"));
    place.run(&["run", "--shell"]).await.check(2, &["--shell needs a terminal", "try: buildr run --keep"]);
    let ran = place.run(&["run", "--keep"]).await;
    ran.check(1, &["build is kept; look into it with: docker run --rm -it -v "]);
    let kept = place.path("cache/buildr/run/kept");
    let workspace = fs::read_dir(&kept).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_to_string(workspace.join("file")).unwrap(), "made\n");
    // As it is pasted, but here is no terminal.
    let line = ran.out.lines().find_map(|line| Some(line.split_once("look into it with: ")?.1)).unwrap();
    let mut look = place.command("sh");
    look.args(["-c", &format!("{} -c 'cat file'", line.replace(" -it ", " "))]);
    to_the_end(look).await.check(0, &["made\n"]);
    assert_eq!(place.remove_images().await, 1, "its container, as an image");
    place.nothing_is_left().await;
}
