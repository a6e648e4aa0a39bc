//! Commands that write text: first manifests, manifests of other systems' files, what is wrong with a machine, and
//! what shells and manuals want to know.

use std::fs;

use crate::place::Place;

#[tokio::test]
async fn a_first_manifest_is_written_once() {
    let Some(place) = Place::new().await else { return };
    place.write("go.mod", "module x\n");
    let init = || place.run(&["init", "--image", "debian:bookworm-slim"]);
    init().await.check(0, &["found: Go (go.mod)", "written: ./.buildr.yml", "`buildr run`"]);
    let written = fs::read_to_string(place.project().join(".buildr.yml")).unwrap();
    assert!(written.contains("image: debian:bookworm-slim\n"), "{written}");
    place.write(".buildr.yml", "image: own\n");
    init().await.check(2, &["./.buildr.yml is there already", "--force"]);
    assert_eq!(fs::read_to_string(place.project().join(".buildr.yml")).unwrap(), "image: own\n");
    place.run(&["init", "--show"]).await.check(0, &["image: golang:"]).hides(&["written"]);
    place.run(&["init", "--force"]).await.check(0, &["written"]);
    place.run(&["init", "nowhere"]).await.check(2, &["nowhere is not a folder"]);
}

#[tokio::test]
async fn another_systems_file_becomes_a_manifest() {
    let Some(place) = Place::new().await else { return };
    place.write(".gitlab-ci.yml", "image: IMAGE\nbuild:\n  script: echo it builds\n  environment: prod\n");
    let shown = place.run(&["import", ".gitlab-ci.yml"]).await;
    shown.check(
        0,
        &["stages: [build]", "# not carried over: `environment: prod` (line 4)", "1 not carried over, 0 to look at"],
    );
    assert!(shown.err.contains("not carried over: `environment: prod`"), "{shown}");
    place.run(&["import", ".gitlab-ci.yml", "--write"]).await.check(0, &["written: .buildr.yml"]);
    assert_eq!(fs::read_to_string(place.project().join(".buildr.yml")).unwrap(), shown.out);
    place.run(&["import", ".gitlab-ci.yml", "--write"]).await.check(2, &["is there already"]);
    place.run(&["import", ".gitlab-ci.yml", "--write", "--force"]).await.check(0, &["written"]);
    place.write("ci.yml", "a: 1\n");
    place.run(&["import", "ci.yml"]).await.check(2, &["say whose it is with --from"]);
    place.run(&["import", "ci.yml", "--from", "travis"]).await.check(2, &["holds no language"]);
    place.write("ci.yml", "a: [\n");
    place.run(&["import", "ci.yml"]).await.check(2, &["ci.yml:", "this is not YAML", "^"]);
    place.run(&["import", "nothing.yml"]).await.check(2, &["nothing.yml could not be read"]);
}

/// What is imported is a manifest, and it runs.
#[tokio::test]
async fn an_imported_manifest_runs() {
    let Some(place) = Place::new().await else { return };
    let file = format!(
        "image: {}\nvariables: {{GREETING: hello, WHO: \"$GREETING you\"}}\nbuild:\n  script: [echo \"$WHO\", echo made > made]\n\
         check:\n  script:\n    - cat made\n    - echo \"in $CI_JOB_NAME\"\n",
        crate::place::image()
    );
    place.write(
        ".gitlab-ci.yml",
        file.replace("check:\n", "check:\n  stage: deploy\n").replace("build:\n", "build:\n  stage: build\n"),
    );
    place.run(&["import", ".gitlab-ci.yml", "--write"]).await.check(0, &["0 not carried over"]);
    place.run(&["run"]).await.check(0, &["build | hello you\n", "check | made\n", "check | in check\n"]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn a_doctor_says_what_is_in_the_way() {
    let Some(place) = Place::new().await else { return };
    let ran = place.run(&["doctor"]).await;
    ran.check(0, &["ok    docker", "the daemon sees"]);
    let away = place.run(&["doctor", "--amqp", "amqp://127.0.0.1:1", "--server", "http://127.0.0.1:1"]).await;
    away.check(3, &["fail  rabbitmq", "nothing listens at 127.0.0.1:1", "fail  farm", "2 in the way of builds"]);
    let mut blind = place.buildr(&["doctor", "--json"]);
    blind.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let blind = crate::place::to_the_end(blind).await;
    blind.check(3, &["\"state\": \"fail\"", "DOCKER_HOST"]);
    let findings: serde_json::Value = serde_json::from_str(&blind.out).unwrap();
    assert!(findings.as_array().is_some_and(|all| all.len() > 4), "{blind}");
    place.nothing_is_left().await;
}

#[tokio::test]
async fn shells_and_manuals_are_told() {
    let Some(place) = Place::new().await else { return };
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        place.run(&["completions", shell]).await.check(0, &["submit", "approve"]);
    }
    place.run(&["completions", "tcsh"]).await.check(2, &["bash"]);
    place.run(&["man"]).await.check(0, &[".TH buildr 1", "buildr\\-submit(1)"]);
    place.run(&["man", "--dir", "man1"]).await.check(0, &["a page for each command"]);
    assert!(place.project().join("man1/buildr-agent-approve.1").is_file());
}
