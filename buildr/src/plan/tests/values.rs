//! R14 and R15: names, variables, inputs, defaults.

use super::*;
use insta::assert_snapshot;

#[test]
fn names_stand_wherever_something_is_declared() {
    let text = r#"
stages: [a]
inputs: {REGION: {default: eu}}
environment: {vars: {REGION_IS: "${inputs.REGION}"}}
workspace: /src/${branch}
repos: {lib: {url: "https://e.org/${branch}.git", path: "deps/${branch}", branch: "${branch}"}, same: "https://e.org/same.git"}
services: {db: {image: "db:${branch}", environment: ["V=${event}"]}}
secrets: [TOP, OWN]
cache: [{paths: ["t-${branch}"], name: "${branch}", key: [Cargo.lock], fallback: ["x-${branch}"]}]
a:
  image: {name: "i:${branch}", user: "u-${branch}", platform: "linux/${inputs.REGION}", pull: always}
  environment: {vars: ["A=${branch}"], inherit: [LANG]}
  services: {web: "web:${branch}"}
  artifacts: {paths: ["out/${branch}"], exclude: ["${tag}x"]}
  secrets: [{OWN: {from: other}}]
  dir: "d/${branch}"
  script: "echo ${branch} ${nope}"
"#;
    let planned = planned(text, &push());
    assert_snapshot!(serde_json::to_string_pretty(&planned.jobs[0].plan).unwrap());
}

#[test]
fn names_stand_in_files_of_prepare_reports_and_commands_of_services() {
    let text = r#"
prepare: {script: x, files: ["lock-${branch}"]}
services: {db: {image: db, command: [db, -c, "x=${branch}", "sh=$${HOME}"]}}
stages: [a]
a:
  matrix: {os: [x, y]}
  services: {own: {image: db, command: "run-${matrix.os}"}}
  reports: {junit: ["out-${matrix.os}.xml"], coverage: "cov-${matrix.os}.xml"}
  script: x
"#;
    let planned = planned(text, &push());
    let plan = &planned.jobs[0].plan;
    let stage = &plan.stages[0];
    assert_eq!(plan.prepare.as_ref().unwrap().files.as_deref(), Some(&["lock-main".to_owned()][..]));
    assert_eq!(plan.services[0].command, ["db", "-c", "x=main", "sh=${HOME}"]);
    assert_eq!(stage.services[0].command, ["run-x"]);
    assert_eq!(stage.reports.junit, ["out-x.xml"]);
    assert_eq!(stage.reports.coverage, Some(protocol::plan::Coverage::File("cov-x.xml".to_owned())));
    // A regular expression is left as it is.
    let log = "a: {script: x, reports: {coverage: '/${3}: ([0-9]+)%/'}}";
    let planned = compile_one(&read(log), &push()).unwrap();
    let log = protocol::plan::Coverage::Log("${3}: ([0-9]+)%".to_owned());
    assert_eq!(planned.jobs[0].plan.stages[0].reports.coverage, Some(log));
    for wrong in [
        "a: {script: x, reports: {junit: '${nope}.xml'}}",
        "a: {script: x, reports: {coverage: '${nope}.xml'}}",
        "a: {script: x, services: {db: {image: db, command: ['${nope}']}}}",
        "prepare: {script: x, files: ['${nope}']}\na: {script: x}",
    ] {
        let told = refused(wrong, &push());
        assert!(told.contains("there is no name \"nope\""), "{told}");
    }
}

#[test]
fn nothing_is_mounted_where_something_is() {
    let told = |text: &str| refused(text, &push()).lines().next().unwrap().to_owned();
    let both = refused("workspace: /src\ncache: [/src/, ~/.cargo, ~/.cargo]\na: {script: x}\nb: {script: x}", &push());
    assert!(both.starts_with(".buildr.yml:2:9: \"/src/\" cannot be cached: the checkout lies there"), "{both}");
    assert!(both.contains(".buildr.yml:2:26: \"~/.cargo\" is cached twice"), "{both}");
    assert_eq!(
        told("a: {script: x, cache: [{paths: [~/.m2], key: [a]}, {paths: ['/${branch}', ~//.m2/., /main]}]}"),
        ".buildr.yml:1:75: \"~//.m2/.\" is cached twice"
    );
    assert!(
        told(&format!("a: {{script: x, cache: [{}]}}", protocol::plan::WORKSPACE)).contains("the checkout lies there")
    );
    assert!(told("cache: ['/${nope}']\na: {script: x}").contains("there is no name"));
    // In the workspace nothing is mounted: one is taken, the other kept.
    planned(
        "a: {script: x, cache: [{paths: [t], name: x, policy: pull}, {paths: [t, /src/t], policy: push}]}",
        &push(),
    );
}

#[test]
fn what_does_not_run_may_lack_values() {
    check(
        "[a, b]",
        "b: {script: x, image: 'i:${tag}', when: {tag: '*'}}",
        "build: a b(when: tag *, and this is no tag)",
    );
    check(
        "[a, b]",
        "b: {script: x, image: 'i:${tag}', agent: 'l-${tag}', when: {tag: '*'}}",
        "
a
- b: when: tag *, and this is no tag",
    );
    check("[a]", "when: {tag: '*'}\nimage: 'i:${tag}'", "- a: when: tag *, and this is no tag");
    check("[a]", "when: {tag: '*'}\nimage: 'i:${tag}'", "- a: when: tag *, and this is no tag");
    let told = refused("b: {script: x, image: 'i:${tga}', when: {tag: '*'}}", &push());
    assert!(told.starts_with(".buildr.yml:1:26: there is no name \"tga\""), "{told}");
}

#[test]
fn the_top_level_holds_for_stages_that_do_not_say_otherwise() {
    let text = r#"
stages: [a, b]
docker: true
privileged: true
shell: bash -e {0}
dir: web
idle_timeout: 5m
retry: 2
resources: {cpu: 2, memory: 1g}
cache: [target]
a: {script: x}
b: {script: x, docker: false, privileged: false, shell: sh, dir: other, idle_timeout: 1m, retry: never, resources: {memory: 2g}, cache: false}
"#;
    let planned = planned(text, &push());
    let [a, b] = planned.jobs[0].plan.stages.as_slice() else { panic!("{}", drawn(&planned)) };
    assert_snapshot!(serde_json::to_string_pretty(a).unwrap());
    assert_snapshot!(serde_json::to_string_pretty(b).unwrap());
}

fn manual(inputs: &[(&str, &str)]) -> Facts {
    let inputs = inputs.iter().map(|&(name, value)| Variable::new(name, value)).collect();
    Facts { inputs, ..Facts::new(TriggerKind::Manual) }
}

#[test]
fn inputs_have_values() {
    const TEXT: &str = "inputs: {REGION: [eu, us], LEVEL: {default: '1'}}\na: {script: x}";
    let inputs = |facts: &Facts| -> String {
        let planned = planned(TEXT, facts);
        let inputs = &planned.jobs[0].plan.inputs;
        inputs.iter().map(|it| format!("{}={}", it.name, it.value)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(inputs(&manual(&[("REGION", "eu")])), "REGION=eu LEVEL=1");
    assert_eq!(inputs(&manual(&[("REGION", "eu"), ("REGION", "us"), ("LEVEL", "2")])), "REGION=us LEVEL=2");
    assert_eq!(inputs(&push()), "REGION= LEVEL=1");
    let upstream = Facts { event: TriggerKind::Upstream, ..manual(&[("FROM", "x")]) };
    assert_eq!(inputs(&upstream), "FROM=x REGION= LEVEL=1");
    assert_eq!(
        refused(TEXT, &manual(&[])),
        "the input REGION has no value; give it by `--input REGION=VALUE`; it is one of eu, us"
    );
    assert_eq!(
        refused(TEXT, &manual(&[("REGION", "mars")])),
        "the input REGION cannot be \"mars\"; it is one of eu, us"
    );
    assert_eq!(
        refused(TEXT, &manual(&[("REGOIN", "eu")])),
        "the manifest asks for no input \"REGOIN\": did you mean `REGION`?"
    );
}

#[test]
fn a_repository_or_branch_that_is_none() {
    let told = refused("a: {trigger: {repo: 'ext::x${branch}', branch: 'a..b'}}", &push());
    assert_eq!(told.matches("this is no").count(), 2, "{told}");
}

#[test]
fn caps() {
    let many: String = (0..=MAX_STAGES).map(|number| format!("s{number}: {{script: x}}\n")).collect();
    assert!(refused(&many, &push()).contains("this is the stage number 1001; a file has at most 1000"));
    let some: String = (0..300).map(|number| format!("s{number}: {{script: x}}\n")).collect();
    assert_eq!(planned(&some, &push()).jobs[0].plan.stages.len(), 300);
    let vars: Vec<String> = (0..=MAX_VARIABLES).map(|number| format!("A{number}=x")).collect();
    let text = format!("environment: {{vars: [{}]}}\na: {{script: x}}", vars.join(", "));
    assert!(refused(&text, &push()).contains("this is the variable number 2001; a file sets at most 2000"));
    // What is too long is not made to its end.
    let axis = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
    let text = format!("matrix: {{a: {axis}, b: {axis}}}\na: {{script: '{}'}}", "x".repeat(300_000));
    let told = refused(&text, &push());
    assert!(told.contains("is at least 120") && told.contains("a plan is at most 1048576"), "{told}");
}
