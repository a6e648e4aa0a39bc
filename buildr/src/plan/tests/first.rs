//! The first language: names, variables, one job.

use super::super::*;
use insta::assert_snapshot;
use protocol::job::TriggerKind;
use protocol::plan::Image;
use protocol::{Plan, StagePlan};

fn push() -> Names {
    Names {
        branch: Some("main".parse().unwrap()),
        tag: None,
        commit: Some("0123456789012345678901234567890123456789".parse().unwrap()),
        event: TriggerKind::Push,
    }
}

fn compiled(text: &str, names: &Names) -> Result<Plan, PlanError> {
    let manifest = crate::manifest::read(text.as_bytes(), ".buildr.yml").unwrap_or_else(|e| panic!("{e}")).manifest;
    compile(&manifest, names).map(|mut jobs| jobs.remove(0).plan)
}

fn variable(name: &str, value: &str) -> Variable {
    Variable::new(name, value)
}

fn stage(name: &str, image: Option<&str>, script: &[&str], docker: bool) -> StagePlan {
    let script = script.iter().map(|&command| command.to_owned()).collect();
    StagePlan { image: image.map(Image::from), docker, ..StagePlan::new(name.parse().unwrap(), script) }
}

#[track_caller]
fn check_environment(vars: &str, expect: &[(&str, &str)]) {
    let plan = compiled(&format!("environment: {{vars: {vars}}}\nbuild: {{script: make}}"), &push()).unwrap();
    let got: Vec<_> = plan.environment.iter().map(|it| (it.name.as_str(), it.value.as_str())).collect();
    assert_eq!(got, expect, "{vars}");
}

fn refused(text: &str) -> String {
    compiled(text, &push()).unwrap_err().to_string()
}

#[test]
fn the_first_manifest_of_all() {
    let text = "\
image: 'dockerimage:tag'
environment:
  inherit: false
  vars:
    - FOO=BAR
    - API_KEY=<something>
stages:
  - build
  - deploy
prepare:
  script:
    - apk add -U git
build:
  script:
    - ./mvnw package
deploy:
  script:
    - docker push ...
";
    let stages =
        vec![stage("build", None, &["./mvnw package"], false), stage("deploy", None, &["docker push ..."], false)];
    let plan = Plan {
        environment: vec![variable("FOO", "BAR"), variable("API_KEY", "<something>")],
        prepare: Some(vec!["apk add -U git".to_owned()].into()),
        ..Plan::new("dockerimage:tag", stages)
    };
    let manifest = crate::manifest::read(text.as_bytes(), ".buildr.yml").unwrap().manifest;
    let key = "build".parse().unwrap();
    assert_eq!(compile(&manifest, &push()).unwrap(), [PlannedJob::new(key, plan)]);
}

#[test]
fn what_holds_when_nothing_is_written() {
    let plan = compiled("build: {script: make}", &push()).unwrap();
    let stages = vec![stage("build", None, &["make"], false)];
    assert_eq!(plan, Plan::new("ubuntu:latest", stages));
}

#[test]
fn a_stage_overrides_the_top_level() {
    let text = "image: a\ndocker: true\nb: {script: [x, [y]]}\nc: {script: z, docker: false, image: d}";
    let expect = [stage("b", None, &["x", "y"], true), stage("c", Some("d"), &["z"], false)];
    assert_eq!(compiled(text, &push()).unwrap().stages, expect);
}

#[test]
fn inherit_becomes_globs() {
    let inherit = |written: &str| {
        let text = format!("environment: {{inherit: {written}}}\nbuild: {{script: make}}");
        compiled(&text, &push()).unwrap().inherit
    };
    assert_eq!(inherit("true"), ["*"]);
    assert!(inherit("false").is_empty());
    assert_eq!(inherit("[LANG, 'HTTP_*']"), ["LANG", "HTTP_*"]);
}

#[test]
fn of_one_name_the_last_value_holds() {
    check_environment("[A=1, B=2, A=3]", &[("B", "2"), ("A", "3")]);
    check_environment("{A: 1, B: 2}", &[("A", "1"), ("B", "2")]);
}

#[test]
fn values_in_the_place_of_names() {
    check_environment("['A=${branch}-${event}']", &[("A", "main-push")]);
    check_environment("['A=${commit}']", &[("A", "0123456789012345678901234567890123456789")]);
    check_environment("['A=[${tag}]']", &[("A", "[]")]);
    check_environment("['A=$${branch} $branch $$ $']", &[("A", "${branch} $branch $$ $")]);
    check_environment("['A=$$${branch}']", &[("A", "$${branch}")]);
    check_environment("{A: 'é${event}é'}", &[("A", "épushé")]);

    let names = Names { tag: Some("v1".to_owned()), branch: None, event: TriggerKind::Tag, ..push() };
    let text = "image: 'a:${tag}'\nbuild: {script: 'echo ${tag} ${nope}', image: 'b:${event}'}";
    let plan = compiled(text, &names).unwrap();
    assert_eq!(plan.image.name, "a:v1");
    assert_eq!(plan.stages, [stage("build", Some("b:tag"), &["echo ${tag} ${nope}"], false)]);
}

#[test]
fn names_without_a_value() {
    assert_snapshot!(refused("\
image: a:${tag}
environment:
  vars:
    - HOME_OF=${HOME}
    - RUST=${matrix.rust}
    - OPEN=${branch
build: {script: make, image: \"b:${nope}\"}
"), @r#"
        .buildr.yml:1:10: this build has no tag, so `${tag}` cannot be part of an image's name
          |
        1 | image: a:${tag}
          |          ^^^^^^
          = write what every build can use, or keep this stage to such builds by `when`

        .buildr.yml:4:15: there is no name "HOME" to put a value in the place of
          |
        4 |     - HOME_OF=${HOME}
          |               ^^^^^^^
          = write one of `${branch}`, `${tag}`, `${commit}`, `${event}`, or `$${` for a `${` that buildr leaves alone

        .buildr.yml:5:12: there is no axis "rust" here
          |
        5 |     - RUST=${matrix.rust}
          |            ^^^^^^^^^^^^^^
          = write a `matrix` with an axis of this name

        .buildr.yml:6:12: this `${` is not closed
          |
        6 |     - OPEN=${branch
          |            ^^
          = write `${name}`, or `$${` for a `${` that buildr leaves alone

        .buildr.yml:7:33: there is no name "nope" to put a value in the place of
          |
        7 | build: {script: make, image: "b:${nope}"}
          |                                 ^^^^^^^
          = write one of `${branch}`, `${tag}`, `${commit}`, `${event}`, or `$${` for a `${` that buildr leaves alone
        "#);
}

#[test]
fn a_name_is_found_where_it_is_written() {
    let refused = refused("environment: {vars: [\"A=\\x24{nope}\"]}\nbuild: {script: make}");
    assert!(refused.starts_with(".buildr.yml:1:22: there is no name \"nope\""), "{refused}");
}

#[test]
fn a_plan_that_is_too_long() {
    // One megabyte of quotes is two in JSON.
    let text = format!("build: {{script: '{}'}}", "\"".repeat(900_000));
    assert!(matches!(compiled(&text, &push()), Err(PlanError::TooLong { bytes }) if bytes > 1_800_000));
}
