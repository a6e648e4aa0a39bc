//! The language as a whole: what is accepted, and each mistake with what a person is told about it.

use super::*;
use insta::assert_snapshot;

fn mistakes(text: &str) -> String {
    read(text.as_bytes(), ".buildr.yml").expect_err(text).to_string()
}

fn warnings(text: &str) -> String {
    let warnings = accepted(text).warnings;
    warnings.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n\n")
}

#[track_caller]
fn accepted(text: &str) -> Reading {
    read(text.as_bytes(), ".buildr.yml").unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn values(texts: &[Spanned<String>]) -> Vec<&str> {
    texts.iter().map(|text| text.value.as_str()).collect()
}

/// What a manifest says, in short: `name(image, docker): command; command` for each stage.
fn said(manifest: &Manifest) -> String {
    let stage = |stage: &language::Stage| {
        let image = stage.image.as_ref().map_or("-", |image| &image.name.value);
        let docker = stage.docker.map_or("-".to_owned(), |docker| docker.to_string());
        format!("{}({image}, {docker}): {}", stage.name.value, values(&stage.script).join("; "))
    };
    manifest.stages.iter().map(stage).collect::<Vec<_>>().join(" | ")
}

#[track_caller]
fn check(text: &str, expect: &str) {
    assert_eq!(said(&accepted(text).manifest), expect, "{text}");
}

#[track_caller]
fn check_not_twice(text: &str, expect: bool) {
    assert_eq!(accepted(text).manifest.stages[0].retry == Some(RetrySaid::Never), expect, "{text}");
}

#[track_caller]
fn check_vars(vars: &str, expect: &[(&str, &str)]) {
    let text = format!("environment:\n  vars: {vars}\nbuild: {{script: make}}");
    let manifest = accepted(&text).manifest;
    let vars = manifest.environment.vars.iter().map(|it| (it.value.name.as_str(), it.value.value.as_str()));
    assert_eq!(vars.collect::<Vec<_>>(), expect, "{text}");
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
    let Reading { manifest, warnings } = accepted(text);
    assert!(warnings.is_empty());
    assert_eq!(manifest.image.as_ref().unwrap().name.value, "dockerimage:tag");
    assert_eq!(manifest.environment.inherit, Some(Inherit::Nothing));
    let vars = manifest.environment.vars.iter().map(|it| (it.value.name.as_str(), it.value.value.as_str()));
    assert_eq!(vars.collect::<Vec<_>>(), [("FOO", "BAR"), ("API_KEY", "<something>")]);
    assert_eq!(values(&manifest.prepare.as_ref().unwrap().script), ["apk add -U git"]);
    assert_eq!(said(&manifest), "build(-, -): ./mvnw package | deploy(-, -): docker push ...");
}

#[test]
fn the_manifest_that_is_offered_to_who_has_none() {
    let offered = ManifestError::Missing { pipelines: false }.to_string();
    let (_, manifest) = offered.split_once("\n\n").unwrap();
    let manifest: Vec<&str> = manifest.lines().map(|line| &line[2..]).collect();
    assert_eq!(manifest.len(), 3);
    check(&manifest.join("\n"), "build(-, -): echo \"it builds\"");
}

#[test]
fn forms_of_scripts() {
    check("build: {script: make}", "build(-, -): make");
    check("build: {script: [a, [b, [c]], d]}", "build(-, -): a; b; c; d");
    check("build:\n  script: |\n    a\n    b\n", "build(-, -): a\nb\n");
    check("build: {script: [true, 1.10, 080, '${x}', '~']}", "build(-, -): true; 1.10; 080; ${x}; ~");
    check("build: {script: make, image: 'a:1', docker: true}", "build(a:1, true): make");
    check("docker: true\nbuild: {script: make, docker: false}", "build(-, false): make");
}

#[test]
fn which_stages_run_and_in_which_order() {
    let three = "a: {script: a}\nc: {script: c}\nb: {script: b}\n";
    check(three, "a(-, -): a | c(-, -): c | b(-, -): b");
    check(&format!("{three}stages: [b, a]"), "b(-, -): b | a(-, -): a");
    check(&format!("stages: [prepare, c]\nprepare: {{script: x}}\n{three}"), "c(-, -): c");
    check("1.10: {script: make}\nstages: [1.10]", "1.10(-, -): make");
    // A word of the language that `stages` lists is a stage's name, be it of today or of tomorrow.
    check(
        "stages: [docker, cache, x-y]\ndocker: {script: a}\ncache: {script: b}\nx-y: {script: c}",
        "docker(-, -): a | cache(-, -): b | x-y(-, -): c",
    );
}

#[test]
fn anchors_merges_and_keys_of_ones_own() {
    check(".base: &base {image: a, script: b}\nbuild: {<<: *base, image: c}", "build(c, -): b");
    check(
        "x-all: &all [a, b]\nbuild: {script: [*all, c]}\ntest: {script: *all}",
        "build(-, -): a; b; c | test(-, -): a; b",
    );
    check(".a: &a {image: x}\n.b: &b {script: y, image: z}\nbuild: {<<: [*a, *b]}", "build(x, -): y");
    check(".anything: [1, {a: ~}]\nx-: ~\nbuild: {script: make}", "build(-, -): make");
}

#[test]
fn versions_and_marks_at_the_beginning() {
    check("version: 1\nbuild: {script: make}", "build(-, -): make");
    check("version: '1'\nbuild: {script: make}", "build(-, -): make");
    check("\u{feff}---\nbuild: {script: make}\n...\n", "build(-, -): make");
    check("build:\r\n  script:\r\n    - make\r\n", "build(-, -): make");
}

#[test]
fn forms_of_variables() {
    check_vars("[A=b, 'C=d=e', F=]", &[("A", "b"), ("C", "d=e"), ("F", "")]);
    check_vars("[[A=b], [[_1=x]], A=c]", &[("A", "b"), ("_1", "x"), ("A", "c")]);
    check_vars("{A: b, C: 1.10, D: true, E: ''}", &[("A", "b"), ("C", "1.10"), ("D", "true"), ("E", "")]);
    check_vars("[]", &[]);
}

#[test]
fn forms_of_inherit() {
    let inherit = |written: &str| {
        accepted(&format!("environment: {{inherit: {written}}}\nbuild: {{script: make}}")).manifest.environment.inherit
    };
    assert_eq!(inherit("true"), Some(Inherit::Everything));
    assert_eq!(inherit("false"), Some(Inherit::Nothing));
    let Some(Inherit::Names(names)) = inherit("[LANG, 'HTTP_*']") else { panic!("names") };
    assert_eq!(values(&names), ["LANG", "HTTP_*"]);
    assert_eq!(inherit("[]"), Some(Inherit::Names(Vec::new())));
}

#[test]
fn stages_that_are_not_there() {
    assert_snapshot!(mistakes("image: a
stages:
  - biuld
build:
  script: make"), @r#"
        .buildr.yml:3:5: there is no stage "biuld"; did you mean "build"?
          |
        3 |   - biuld
          |     ^^^^^
          = write `build`, or give the manifest a key `biuld` with a `script`
        "#);
    assert_snapshot!(mistakes("stages: [build, deploy]
build: {script: make}"), @r#"
        .buildr.yml:1:17: there is no stage "deploy"
          |
        1 | stages: [build, deploy]
          |                 ^^^^^^
          = write `deploy: {script: [...]}`, or take the name off the list
        "#);
    assert_snapshot!(mistakes("stages: [build, test, build]
build: {script: make}
test: {script: make}"), @r#"
        .buildr.yml:1:23: the stage "build" is listed twice
          |
        1 | stages: [build, test, build]
          |                       ^^^^^
          = write it once: a stage runs once in a build
        "#);
    assert_snapshot!(mistakes("image: a"), @"
        .buildr.yml:1:1: the manifest has no stage, so nothing would run
          |
        1 | image: a
          | ^
          = write one, such as `build: {script: [make]}`
        ");
}

#[test]
fn stages_of_a_wrong_kind() {
    assert_snapshot!(mistakes("stages: build
build: {script: make}"), @r#"
        .buildr.yml:1:9: "stages" is a list of names, and here stands text
          |
        1 | stages: build
          |         ^^^^^
          = write `stages: [build, test]`, each a key of the manifest with a `script`
        "#);
    assert_snapshot!(mistakes("stages:
build: {script: make}"), @r#"
        .buildr.yml:1:1: "stages" is a list of names, and here stands nothing
          |
        1 | stages:
          | ^^^^^^
          = write `stages: [build, test]`, each a key of the manifest with a `script`
        "#);
    assert_snapshot!(mistakes("stages: []
build: {script: make}"), @r#"
        .buildr.yml:1:9: "stages" lists nothing, so nothing would run
          |
        1 | stages: []
          |         ^
          = write `stages: [build, test]`, each a key of the manifest with a `script`
        "#);
    assert_snapshot!(mistakes("stages: [build, [unit, lint]]
build: {script: make}
unit: {script: make}
lint: {script: make}"), @r#"
        .buildr.yml:1:17: this version of buildr does not run stages side by side yet, as a list in "stages" asks
          |
        1 | stages: [build, [unit, lint]]
          |                 ^
          = write the names one after the other; they run in this order
        "#);
    assert_snapshot!(mistakes("stages:
  - build: {script: make}
  -"), @r#"
        .buildr.yml:2:5: "stages" lists names, and here stands a map
          |
        2 |   - build: {script: make}
          |     ^^^^^
          = write the name of a stage, such as `- build`

        .buildr.yml:3:3: "stages" lists names, and here stands nothing
          |
        3 |   -
          |   ^
          = write the name of a stage, such as `- build`
        "#);
}

#[test]
fn names_that_no_stage_can_have() {
    assert_snapshot!(mistakes("stages: ['two words']
two words: {script: make}"), @r#"
        .buildr.yml:1:10: "two words" cannot name a stage
          |
        1 | stages: ['two words']
          |          ^^^^^^^^^^^
          = write 1 to 63 letters, digits, `-`, `_` or `.`, beginning with a letter or digit
        "#);
    assert_snapshot!(mistakes("ünit: {script: make}"), @r#"
        .buildr.yml:1:1: "ünit" cannot name a stage
          |
        1 | ünit: {script: make}
          | ^^^^
          = write 1 to 63 letters, digits, `-`, `_` or `.`, beginning with a letter or digit
        "#);
    assert_snapshot!(mistakes("stages: [build, image, finally]
image: a
build: {script: make}"), @r#"
        .buildr.yml:1:17: "image" is a word of the language and cannot name a stage
          |
        1 | stages: [build, image, finally]
          |                 ^^^^^
          = write another name, here and at the stage itself

        .buildr.yml:1:24: "finally" is a word of the language and cannot name a stage
          |
        1 | stages: [build, image, finally]
          |                        ^^^^^^^
          = write another name, here and at the stage itself
        "#);
}

#[test]
fn keys_that_nobody_knows() {
    assert_snapshot!(mistakes("imgae: a
build: {script: make}"), @r#"
        .buildr.yml:1:1: there is no key "imgae"; did you mean "image"?
          |
        1 | imgae: a
          | ^^^^^
          = write `image`, or begin the key with `x-` if it is yours
        "#);
    assert_snapshot!(mistakes("colour: red
build: {script: make}"), @r#"
        .buildr.yml:1:1: there is no key "colour"
          |
        1 | colour: red
          | ^^^^^^
          = write one of `version`, `image`, `environment`, `stages`, `prepare` and `docker`, a stage, or a key that begins with `x-`
        "#);
    assert_snapshot!(mistakes("build: {script: make}
deploy:
  run_it: now"), @r#"
        .buildr.yml:2:1: "deploy" is no key of the language, and no stage, as it has no "script"
          |
        2 | deploy:
          | ^^^^^^
          = write a `script` in it to make it a stage, or begin the key with `x-` if it is yours
        "#);
    assert_snapshot!(mistakes("script: make"), @r#"
        .buildr.yml:1:1: the top level has no key "script"
          |
        1 | script: make
          | ^^^^^^
          = write it in a stage, such as `build: {script: ...}`
        "#);
}

#[test]
fn keys_that_nobody_knows_in_a_stage() {
    assert_snapshot!(mistakes("build:
  scirpt: make"), @r#"
        .buildr.yml:2:3: the stage "build" has no key "scirpt"; did you mean "script"?
          |
        2 |   scirpt: make
          |   ^^^^^^
          = write `script`, such as `build: {script: [...]}`
        "#);
    assert_snapshot!(mistakes("build:
  image: a
  commands: [make]"), @r#"
        .buildr.yml:3:3: the stage "build" has no key "commands"; did you mean "script"?
          |
        3 |   commands: [make]
          |   ^^^^^^^^
          = write `script`, such as `build: {script: [...]}`
        "#);
    assert_snapshot!(mistakes(r#""日本語": 1
build: {scríp: "é", script: make}"#), @r#"
        .buildr.yml:1:1: there is no key "日本語"
          |
        1 | "日本語": 1
          | ^^^^^^^^
          = write one of `version`, `image`, `environment`, `stages`, `prepare` and `docker`, a stage, or a key that begins with `x-`

        .buildr.yml:2:9: the stage "build" has no key "scríp"; did you mean "script"?
          |
        2 | build: {scríp: "é", script: make}
          |         ^^^^^
          = write `script`, such as `build: {script: [...]}`
        "#);
}

#[test]
fn keys_that_are_not_known_yet() {
    assert_snapshot!(mistakes("matrix: {rust: [1, 2]}
finally: {script: make}
build: {script: make, needs: []}
deploy:
  when: {branch: main}
  script: make"), @r#"
        .buildr.yml:1:1: this version of buildr does not know "matrix" yet
          |
        1 | matrix: {rust: [1, 2]}
          | ^^^^^^
          = take it out: the top level has `version`, `image`, `environment`, `stages`, `prepare` and `docker` today

        .buildr.yml:2:1: this version of buildr does not know "finally" yet
          |
        2 | finally: {script: make}
          | ^^^^^^^
          = take it out: the top level has `version`, `image`, `environment`, `stages`, `prepare` and `docker` today

        .buildr.yml:3:23: this version of buildr does not know "needs" yet
          |
        3 | build: {script: make, needs: []}
          |                       ^^^^^
          = take it out: the stage "build" has `script`, `image`, `docker` and `retry` today

        .buildr.yml:5:3: this version of buildr does not know "when" yet
          |
        5 |   when: {branch: main}
          |   ^^^^
          = take it out: the stage "deploy" has `script`, `image`, `docker` and `retry` today
        "#);
    assert_snapshot!(mistakes("trigger: {script: make}"), @r#"
        .buildr.yml:1:1: this version of buildr does not know "trigger" yet
          |
        1 | trigger: {script: make}
          | ^^^^^^^
          = take it out: the top level has `version`, `image`, `environment`, `stages`, `prepare` and `docker` today; a stage of this name must be listed in `stages`
        "#);
    assert_snapshot!(mistakes("prepare: {script: make, files: [a]}
build: {script: make}"), @r#"
        .buildr.yml:1:25: this version of buildr does not know "files" yet
          |
        1 | prepare: {script: make, files: [a]}
          |                         ^^^^^
          = take it out: "prepare" has `script` today
        "#);
}

#[test]
fn stages_that_would_do_nothing() {
    assert_snapshot!(mistakes("stages: [build]
build:
  image: a"), @r#"
        .buildr.yml:2:1: the stage "build" has no "script", so it would do nothing
          |
        2 | build:
          | ^^^^^
          = write `build: {script: [...]}`
        "#);
    assert_snapshot!(mistakes("stages: [build]
build: [make]"), @r#"
        .buildr.yml:2:8: the stage "build" is a map, and here stands a list
          |
        2 | build: [make]
          |        ^
          = write `build: {script: [...]}`
        "#);
    assert_snapshot!(mistakes("stages: [build]
build:"), @r#"
        .buildr.yml:2:1: the stage "build" is a map, and here stands nothing
          |
        2 | build:
          | ^^^^^
          = write `build: {script: [...]}`
        "#);
}

#[test]
fn scripts_that_are_none() {
    assert_snapshot!(mistakes("build:
  script:"), @r#"
        .buildr.yml:2:3: the script of the stage "build" has no value
          |
        2 |   script:
          |   ^^^^^^
          = write `script: [make, make test]`, or one command below the other after `- `
        "#);
    assert_snapshot!(mistakes("build:
  script:
    - make
    -
    - ~"), @"
        .buildr.yml:4:5: this command has no value
          |
        4 |     -
          |     ^
          = write a command, or take the line out; the texts `null` and `~` must be quoted

        .buildr.yml:5:7: this command has no value
          |
        5 |     - ~
          |       ^
          = write a command, or take the line out; the texts `null` and `~` must be quoted
        ");
    assert_snapshot!(mistakes("build:
  script: []
test:
  script: ['', ' ']"), @r#"
        .buildr.yml:2:11: the script of the stage "build" is empty, so it would do nothing
          |
        2 |   script: []
          |           ^
          = write `script: [make, make test]`, or one command below the other after `- `

        .buildr.yml:4:11: the script of the stage "test" is empty, so it would do nothing
          |
        4 |   script: ['', ' ']
          |           ^
          = write `script: [make, make test]`, or one command below the other after `- `
        "#);
    assert_snapshot!(mistakes("build:
  script: {a: b}"), @r#"
        .buildr.yml:2:11: the script of the stage "build" is text or a list of texts, not a map
          |
        2 |   script: {a: b}
          |           ^
          = write `script: [make, make test]`, or one command below the other after `- `
        "#);
}

#[test]
fn commands_that_are_none() {
    assert_snapshot!(mistakes("build:
  script:
    - make
    - echo 'now: testing'"), @"
        .buildr.yml:4:7: this command is a map to YAML, because of the `: ` in it
          |
        4 |     - echo 'now: testing'
          |       ^^^^^^^^^
          = write the whole command in quotes: `- 'echo ''now: testing'''`
        ");
    assert_snapshot!(mistakes(r#"build:
  script: "make\0""#), @r#"
        .buildr.yml:2:11: this command holds a NUL character, which no program can be given
          |
        2 |   script: "make\0"
          |           ^^^^^^^^
          = write a command, or take the line out; the texts `null` and `~` must be quoted
        "#);
}

#[test]
fn what_prepare_is_not() {
    assert_snapshot!(mistakes("stages: [build, prepare]
prepare: {script: make}
build: {script: make}"), @r#"
        .buildr.yml:1:17: "prepare" is listed after another stage, and it always runs before all of them
          |
        1 | stages: [build, prepare]
          |                 ^^^^^^^
          = write it first, or take it off the list: it runs in any case
        "#);
    assert_snapshot!(mistakes("stages: [prepare, build]
build: {script: make}"), @r#"
        .buildr.yml:1:10: "prepare" is listed, and the manifest has none
          |
        1 | stages: [prepare, build]
          |          ^^^^^^^
          = write `prepare: {script: [...]}`, or take it off the list
        "#);
    assert_snapshot!(mistakes("stages: [prepare]
prepare: {script: make}"), @r#"
        .buildr.yml:1:9: "stages" lists no stage beside "prepare"
          |
        1 | stages: [prepare]
          |         ^
          = write `stages: [build, test]`, each a key of the manifest with a `script`
        "#);
    assert_snapshot!(mistakes("prepare:
  image: a
  script: make
build: {script: make}"), @r#"
        .buildr.yml:2:3: "prepare" has no image of its own: it makes the image that stages without one start from
          |
        2 |   image: a
          |   ^^^^^
          = write `image` at the top level, or in the stages that need another
        "#);
    assert_snapshot!(mistakes("prepare: {}
build: {script: make}"), @r#"
        .buildr.yml:1:1: "prepare" has no "script", so it would do nothing
          |
        1 | prepare: {}
          | ^^^^^^^
          = write `prepare: {script: [...]}`
        "#);
    assert_snapshot!(mistakes("prepare: [make]
build: {script: make}"), @r#"
        .buildr.yml:1:10: "prepare" is a map, and here stands a list
          |
        1 | prepare: [make]
          |          ^
          = write `prepare: {script: [...]}`
        "#);
}

#[test]
fn what_is_no_manifest_at_all() {
    assert_snapshot!(mistakes("# nothing but this"), @"
        .buildr.yml:1:1: the manifest is empty
          |
        1 | # nothing but this
          | ^
          = write `image: ubuntu:latest`, and below it `build: {script: [echo it builds]}`
        ");
    assert_snapshot!(mistakes("just text"), @"
        .buildr.yml:1:1: a manifest is a map of keys and values, not text
          |
        1 | just text
          | ^^^^^^^^^
          = write `image: ubuntu:latest`, and below it `build: {script: [echo it builds]}`
        ");
    assert_snapshot!(mistakes("- build
- test"), @"
        .buildr.yml:1:1: a manifest is a map of keys and values, not a list
          |
        1 | - build
          | ^
          = write `image: ubuntu:latest`, and below it `build: {script: [echo it builds]}`
        ");
}

#[test]
fn plain_values_of_a_wrong_kind() {
    assert_snapshot!(mistakes("version: 2
build: {script: make}"), @r#"
        .buildr.yml:1:10: this buildr reads version 1 of the language, and the manifest is of "2"
          |
        1 | version: 2
          |          ^
          = write `version: 1`, or leave it out
        "#);
    assert_snapshot!(mistakes("version: [1]
build: {script: make}"), @r#"
        .buildr.yml:1:10: "version" is a number, not a list
          |
        1 | version: [1]
          |          ^
          = write `version: 1`, or leave it out
        "#);
}

#[test]
fn images_and_flags_of_a_wrong_kind() {
    assert_snapshot!(mistakes("image:
build: {script: make}"), @r#"
        .buildr.yml:1:1: "image" has no value
          |
        1 | image:
          | ^^^^^
          = write `image: debian:bookworm-slim`, a name as `docker pull` takes it
        "#);
    assert_snapshot!(mistakes("image: [a, b]
build: {script: make}"), @r#"
        .buildr.yml:1:8: "image" is text, not a list
          |
        1 | image: [a, b]
          |        ^
          = write `image: debian:bookworm-slim`, a name as `docker pull` takes it
        "#);
    assert_snapshot!(mistakes("image: debian bookworm
build: {script: make, image: ''}"), @r#"
        .buildr.yml:1:8: "debian bookworm" is not the name of an image
          |
        1 | image: debian bookworm
          |        ^^^^^^^^^^^^^^^
          = write `image: debian:bookworm-slim`, a name as `docker pull` takes it

        .buildr.yml:2:30: "" is not the name of an image
          |
        2 | build: {script: make, image: ''}
          |                              ^^
          = write `image: debian:bookworm-slim`, a name as `docker pull` takes it
        "#);
    assert_snapshot!(mistakes("docker: yes
build: {script: make, docker: 1}"), @r#"
        .buildr.yml:1:9: "docker" is `true` or `false`, and here stands "yes"
          |
        1 | docker: yes
          |         ^^^
          = write `docker: true`, or leave it out

        .buildr.yml:2:31: "docker" is `true` or `false`, and here stands "1"
          |
        2 | build: {script: make, docker: 1}
          |                               ^
          = write `docker: true`, or leave it out
        "#);
    assert_snapshot!(mistakes(".img: &img [a]
build: {script: make, image: *img}
test: {script: make, image: *img}"), @r#"
        .buildr.yml:1:12: "image" is text, not a list
          |
        1 | .img: &img [a]
          |            ^
          = write `image: debian:bookworm-slim`, a name as `docker pull` takes it
        "#);
}

#[test]
fn variables_that_cannot_be_set() {
    assert_snapshot!(mistakes("environment: [A=b]
build: {script: make}"), @r#"
        .buildr.yml:1:14: "environment" is a map, and here stands a list
          |
        1 | environment: [A=b]
          |              ^
          = write `environment: {vars: [NAME=VALUE]}`
        "#);
    assert_snapshot!(mistakes("environment:
  FOO: bar
build: {script: make}"), @r#"
        .buildr.yml:2:3: "environment" has no key "FOO"
          |
        2 |   FOO: bar
          |   ^^^
          = write `environment: {vars: [NAME=VALUE]}`: "environment" has `inherit` and `vars` today
        "#);
}

#[test]
fn variables_in_a_list_that_cannot_be_set() {
    assert_snapshot!(mistakes("environment:
  vars:
    - FOO
    - BAR: baz
    - 1A=b
    - CI=false
    - BUILDR_TOKEN=x
    - [A=b, ~]
    - =x
build: {script: make}"), @r#"
        .buildr.yml:3:7: "FOO" is no NAME=VALUE: there is no `=`
          |
        3 |     - FOO
          |       ^^^
          = write `- NAME=VALUE`, or `- NAME=` for an empty value; what the agent has comes by `inherit`

        .buildr.yml:4:7: in a list, a variable is written with `=` and not with a colon
          |
        4 |     - BAR: baz
          |       ^^^
          = write `- BAR=baz`; with a colon in it, in quotes

        .buildr.yml:5:7: "1A" cannot name a variable
          |
        5 |     - 1A=b
          |       ^^^^
          = write a name of letters, digits and `_` that begins with no digit

        .buildr.yml:6:7: "CI" cannot be set: `CI` and all that begins with `BUILDR_` is set by buildr
          |
        6 |     - CI=false
          |       ^^^^^^^^
          = write another name

        .buildr.yml:7:7: "BUILDR_TOKEN" cannot be set: `CI` and all that begins with `BUILDR_` is set by buildr
          |
        7 |     - BUILDR_TOKEN=x
          |       ^^^^^^^^^^^^^^
          = write another name

        .buildr.yml:8:13: a variable in "vars" has no value
          |
        8 |     - [A=b, ~]
          |             ^
          = write `- NAME=VALUE`

        .buildr.yml:9:7: "" cannot name a variable
          |
        9 |     - =x
          |       ^^
          = write a name of letters, digits and `_` that begins with no digit
        "#);
}

#[test]
fn variables_in_a_map_that_cannot_be_set() {
    assert_snapshot!(mistakes("environment:
  vars:
    FOO:
    BAR: [a]
    a-b: c
    BUILDR_X: 1
build: {script: make}"), @r#"
        .buildr.yml:3:5: the variable "FOO" has no value
          |
        3 |     FOO:
          |     ^^^
          = write `FOO: ""` for an empty value

        .buildr.yml:4:10: the variable "BAR" is text, not a list
          |
        4 |     BAR: [a]
          |          ^
          = write `BAR: ""` for an empty value

        .buildr.yml:5:5: "a-b" cannot name a variable
          |
        5 |     a-b: c
          |     ^^^
          = write a name of letters, digits and `_` that begins with no digit

        .buildr.yml:6:5: "BUILDR_X" cannot be set: `CI` and all that begins with `BUILDR_` is set by buildr
          |
        6 |     BUILDR_X: 1
          |     ^^^^^^^^
          = write another name
        "#);
    assert_snapshot!(mistakes("environment: {vars: A=b}
build: {script: make}"), @r#"
        .buildr.yml:1:21: "vars" is a list of NAME=VALUE, or a map, and here stands "A=b"
          |
        1 | environment: {vars: A=b}
          |                     ^^^
          = write `vars: [NAME=VALUE]`
        "#);
}

#[test]
fn what_cannot_be_inherited() {
    assert_snapshot!(mistakes("environment:
  inherit: yes
build: {script: make}"), @r#"
        .buildr.yml:2:12: "inherit" is `true`, `false` or a list of names, and here stands "yes"
          |
        2 |   inherit: yes
          |            ^^^
          = write `true`, `false`, or the names to pass on, such as `[LANG, HTTP_*]`
        "#);
    assert_snapshot!(mistakes("environment:
  inherit: [LANG, 'a b', '', ~, {a: b}]
build: {script: make}"), @r#"
        .buildr.yml:2:19: "a b" is not the name of a variable
          |
        2 |   inherit: [LANG, 'a b', '', ~, {a: b}]
          |                   ^^^^^
          = write a variable's name, in which `*` stands for any text and `?` for one character

        .buildr.yml:2:26: "" is not the name of a variable
          |
        2 |   inherit: [LANG, 'a b', '', ~, {a: b}]
          |                          ^^
          = write a variable's name, in which `*` stands for any text and `?` for one character

        .buildr.yml:2:30: a name in "inherit" has no value
          |
        2 |   inherit: [LANG, 'a b', '', ~, {a: b}]
          |                              ^
          = write a variable's name, in which `*` stands for any text and `?` for one character

        .buildr.yml:2:33: a name in "inherit" is text, not a map
          |
        2 |   inherit: [LANG, 'a b', '', ~, {a: b}]
          |                                 ^
          = write a variable's name, in which `*` stands for any text and `?` for one character
        "#);
}

#[test]
fn what_is_no_yaml() {
    assert_snapshot!(mistakes("build:
	script: make"), @"
        .buildr.yml:2:1: this is not YAML: tabs disallowed within this context (block indentation)
          |
        2 |     script: make
          | ^^^^
          = write spaces in place of the tab: YAML does not indent with tabs
        ");
    assert_snapshot!(mistakes("build:
  script: echo a: b"), @"
        .buildr.yml:2:17: this is not YAML: mapping values are not allowed in this context
          |
        2 |   script: echo a: b
          |                 ^
          = write the text in quotes: in plain text, `: ` makes a key of what stands before it
        ");
    assert_snapshot!(mistakes("image: @latest"), @"
        .buildr.yml:1:8: this is not YAML: unexpected character: `@'
          |
        1 | image: @latest
          |        ^
          = write the text in quotes: YAML keeps this character for itself
        ");
    assert_snapshot!(mistakes("build:
  script: - make"), @"
        .buildr.yml:2:11: this is not YAML: block sequence entries are not allowed in this context
          |
        2 |   script: - make
          |           ^
          = write each `- ` on a line of its own, below the key
        ");
    assert_snapshot!(mistakes("stages: [build
build: {script: make}"), @"
        .buildr.yml:2:6: this is not YAML: illegal placement of ':' indicator
          |
        2 | build: {script: make}
          |      ^
          = write it with an eye on the indentation, quotes and brackets of this line and of those before it
        ");
    assert_snapshot!(mistakes(r#"image: "debian
build: {script: make}"#), @"
        .buildr.yml:2:1: this is not YAML: invalid indentation in multiline quoted scalar
          |
        2 | build: {script: make}
          | ^
          = write it with an eye on the indentation, quotes and brackets of this line and of those before it
        ");
    assert_snapshot!(mistakes("build:
  script: make
   image: a"), @"
        .buildr.yml:3:9: this is not YAML: mapping values are not allowed in this context
          |
        3 |    image: a
          |         ^
          = write it with an eye on the indentation, quotes and brackets of this line and of those before it
        ");
}

#[test]
fn what_yaml_leaves_open_and_buildr_does_not() {
    assert_snapshot!(mistakes("image: a
build: {script: make}
image: b"), @r#"
        .buildr.yml:3:1: the key "image" stands twice in this map
          |
        3 | image: b
          | ^^^^^
          = keep one of the two, or write both values under one key
        "#);
    assert_snapshot!(mistakes("build:
  script: make
  script: make test"), @r#"
        .buildr.yml:3:3: the key "script" stands twice in this map
          |
        3 |   script: make test
          |   ^^^^^^
          = keep one of the two, or write both values under one key
        "#);
    assert_snapshot!(mistakes("image: a
---
image: b"), @"
        .buildr.yml:3:1: a second YAML document begins here, and a manifest is one
          |
        3 | image: b
          | ^
          = write all of it in one document, without a `---` between
        ");
    assert_snapshot!(mistakes("? [a, b]
: c"), @"
        .buildr.yml:1:3: this key is no text
          |
        1 | ? [a, b]
          |   ^
          = write a name before the colon, such as `build:`
        ");
}

#[test]
fn anchors_that_lead_nowhere() {
    assert_snapshot!(mistakes("build:
  script: *commands"), @"
        .buildr.yml:2:11: no anchor of this name stands before this alias
          |
        2 |   script: *commands
          |           ^
          = write `&name` before the value that `*name` repeats; text that begins with `*` must be quoted
        ");
    assert_snapshot!(mistakes("build:
  script: &a [*a]"), @"
        .buildr.yml:2:15: this alias stands within the very value that it repeats
          |
        2 |   script: &a [*a]
          |               ^^
          = write the `&anchor` at a value that is complete before the alias
        ");
    assert_snapshot!(mistakes("build:
  <<: make"), @"
        .buildr.yml:2:7: `<<` takes a map, or a list of maps
          |
        2 |   <<: make
          |       ^^^^
          = write `<<: *name`, where `&name` stands before a map
        ");
}

#[test]
fn what_is_too_large() {
    assert_snapshot!(mistakes("a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"), @"
        .buildr.yml:1:35: the manifest is too large from here on
          |
        1 | a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]…
          |                                   ^
          = write at most 20000 values, counting what aliases repeat, 32 levels of nesting and 1000 anchors
        ");
}

#[test]
fn what_is_allowed_and_probably_not_meant() {
    assert_snapshot!(warnings("stages: [build]
build: {script: make}
deploy: {script: make}
.later: {script: make}"), @r#"
        .buildr.yml:3:1: the stage "deploy" never runs: "stages" does not list it
          |
        3 | deploy: {script: make}
          | ^^^^^^
          = write `deploy` into `stages`, or begin the key with `.` to keep it for later
        "#);
    assert_snapshot!(warnings("environment: {inherit: [PATH, 'LD_PRELOAD', LANG, '*']}
build: {script: make}"), @r#"
        .buildr.yml:1:25: "PATH" is never passed on: it is the machine's or buildr's own
          |
        1 | environment: {inherit: [PATH, 'LD_PRELOAD', LANG, '*']}
          |                         ^^^^
          = write it under `vars` if a stage needs it with a value of yours, or take it out

        .buildr.yml:1:31: "LD_PRELOAD" is never passed on: it is the machine's or buildr's own
          |
        1 | environment: {inherit: [PATH, 'LD_PRELOAD', LANG, '*']}
          |                               ^^^^^^^^^^^^
          = write it under `vars` if a stage needs it with a value of yours, or take it out
        "#);
}

#[test]
fn what_is_no_text() {
    let told = |bytes: &[u8]| read(bytes, ".buildr.yml").unwrap_err().to_string();
    assert_snapshot!(told(b"image: a\nbuild: {script: caf\xe9 au lait}\n"), @r#"
    .buildr.yml:2:20: this byte is not UTF-8, the encoding of manifests
      |
    2 | build: {script: caf� au lait}
      |                    ^
      = write the file in UTF-8; an editor's "save with encoding" does it
    "#);
    assert_snapshot!(told(b"\xff\xfei\0m\0"), @r#"
    .buildr.yml:1:1: this byte is not UTF-8, the encoding of manifests
      |
    1 | ��i�m�
      | ^
      = write the file in UTF-8; an editor's "save with encoding" does it
    "#);
}

#[test]
fn ten_megabytes_are_not_parsed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".buildr.yml"), "image: a # and so on\n".repeat(500_000)).unwrap();
    assert_snapshot!(load(folder.path()).unwrap_err(), @r"
    .buildr.yml:1:1: the manifest is longer than 1 MiB
      |
    1 | image: a # and so on
      | ^
      = write what is long in files of the repository, and run these in a `script`
    ");
}

#[test]
fn an_alias_bomb_is_told() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let row = vec![format!("*a{}", level - 1); 9].join(",");
        bomb += &format!("a{level}: &a{level} [{row}]\n");
    }
    assert_snapshot!(mistakes(&bomb), @r"
    .buildr.yml:5:14: the manifest is too large from here on
      |
    5 | a4: &a4 [*a3,*a3,*a3,*a3,*a3,*a3,*a3,*a3,*a3]
      |              ^^^
      = write at most 20000 values, counting what aliases repeat, 32 levels of nesting and 1000 anchors
    ");
}

#[test]
fn a_file_full_of_mistakes_is_told_in_part_and_in_no_time() {
    let full: String = (0..3_500).map(|index| format!("sctipt{index}: {{scriqt: x}}\n")).collect();
    let start = std::time::Instant::now();
    let told =
        mistakes(&format!("stages: [{}]\n{full}", (0..900).map(|it| format!("sript{it}, ")).collect::<String>()));
    assert!(told.ends_with(" more like these"), "{told}");
    assert_eq!(told.matches(".buildr.yml:").count(), 20);
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

#[test]
fn the_manifest_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(load(folder.path()), Err(ManifestError::Missing { .. })));
    std::fs::write(folder.path().join(".buildr.yaml"), "build: {script: make}").unwrap();
    assert_eq!(said(&load(folder.path()).unwrap().manifest), "build(-, -): make");
    std::fs::write(folder.path().join(".buildr.yml"), "bild: 1").unwrap();
    assert!(load(folder.path()).unwrap_err().to_string().starts_with(".buildr.yml:1:1: "));
}

/// What manifests are made of.
const PARTS: [&str; 40] = [
    "image",
    ": ",
    "\n",
    "  ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "script",
    "build",
    "stages",
    "environment",
    "vars",
    "inherit",
    "prepare",
    "docker",
    "true",
    "~",
    "&a ",
    "*a",
    "<<",
    "'",
    "\"",
    "|",
    ">",
    "#",
    "? ",
    "!!int ",
    "---",
    "\t",
    "\r",
    "é",
    "日",
    "\0",
    "\\",
    "A=b",
    ", ",
    "1",
    "\u{202e}",
];

/// Words and marks of manifests in any order, and bytes in any order: nothing may panic, and what is refused must
/// be told.
#[test]
fn anything_can_be_read() {
    let seed: u64 = rand::random();
    let mut state = seed | 1;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for round in 0..20_000 {
        let length = next(30);
        let bytes: Vec<u8> = match round % 3 {
            0 => (0..length).map(|_| u8::try_from(next(256)).unwrap()).collect(),
            _ => (0..length).flat_map(|_| PARTS[next(PARTS.len())].bytes()).collect(),
        };
        if let Err(error) = read(&bytes, "f") {
            let told = error.to_string();
            assert!(told.starts_with("f:") && told.contains(" = "), "seed {seed}, {bytes:?}\n{told}");
        }
    }
}

#[test]
fn a_stage_that_must_not_run_twice() {
    check_not_twice("deploy: {script: make deploy, retry: never}", true);
    check_not_twice("deploy: {script: make deploy}", false);
    assert_snapshot!(mistakes("one: {script: make, retry: 2}
two: {script: make, retry: [never]}
three: {script: make, retry: }"), @r#"
        .buildr.yml:1:28: "retry" can only be `never` in this version of buildr, and here stands "2"
          |
        1 | one: {script: make, retry: 2}
          |                            ^
          = write `retry: never` for a stage that must not run twice, or leave it out: then it runs again when its agent is lost

        .buildr.yml:2:28: "retry" can only be `never` in this version of buildr, and here stands a list
          |
        2 | two: {script: make, retry: [never]}
          |                            ^
          = write `retry: never` for a stage that must not run twice, or leave it out: then it runs again when its agent is lost

        .buildr.yml:3:23: "retry" can only be `never` in this version of buildr, and here stands nothing
          |
        3 | three: {script: make, retry: }
          |                       ^^^^^
          = write `retry: never` for a stage that must not run twice, or leave it out: then it runs again when its agent is lost
        "#);
}
