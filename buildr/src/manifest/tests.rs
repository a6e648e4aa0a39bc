//! The language as a whole: what is accepted, and each mistake with what a person is told about it.

use std::fmt::Write as _;

use super::*;
use insta::assert_snapshot;
use protocol::plan::SecretRequest;

fn mistakes(text: &str) -> String {
    read(text.as_bytes(), ".buildr.yml").expect_err(text).to_string()
}

/// Each wrong manifest of the catalogue is told as the text beside it says: place, mark, reason and remedy.
/// With BUILDR_TEST_WRITE=1 the texts are written anew; read what changed before you keep it.
#[test]
fn the_catalogue_of_wrong_manifests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|ending| ending == "yml"));
    cases.sort();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let write = std::env::var_os("BUILDR_TEST_WRITE").is_some();
    let mut differences = String::new();
    for case in cases {
        let got = match read(&std::fs::read(&case).unwrap(), ".buildr.yml") {
            Err(error) => format!("{error}\n"),
            Ok(_) => panic!("{} is right", case.display()),
        };
        let expected = std::fs::read_to_string(case.with_extension("txt")).unwrap_or_default();
        if got != expected {
            writeln!(differences, "{}\n--- expected\n{expected}--- got\n{got}", case.display()).unwrap();
        }
        if write {
            std::fs::write(case.with_extension("txt"), got).unwrap();
        }
    }
    assert!(differences.is_empty() || write, "{differences}");
}

/// How long this thread has worked, in milliseconds: on a machine with much else to do, a clock on the wall says
/// nothing of what was done.
pub(super) fn worked_ms() -> u64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    told.split(' ').next().unwrap().parse::<u64>().unwrap() / 1_000_000
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
    let [_, manifest, _] = offered.split("\n\n").collect::<Vec<_>>()[..] else { panic!("{offered}") };
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
fn values_that_are_sealed_are_secrets() {
    let sealed = format!("b1.00112233.{}", "A".repeat(72));
    let text = format!(
        "environment: {{vars: {{TOP: {{secure: {sealed}}}, PLAIN: x}}}}\nbuild:\n  secrets: [KEPT, {{FILE: {{secure: {sealed}, file: true}}}}]\n  environment: {{vars: {{OWN: {{secure: {sealed}}}}}}}\n  script: make"
    );
    let manifest = accepted(&text).manifest;
    let names = |secrets: &[Spanned<SecretRequest>]| {
        let one = |it: &Spanned<SecretRequest>| {
            let SecretRequest { variable, from, file, secure } = &it.value;
            (variable.clone(), from.clone(), *file, secure.as_deref() == Some(&*sealed))
        };
        secrets.iter().map(one).collect::<Vec<_>>()
    };
    let of = |name: &str, file, is_sealed| (name.to_owned(), name.to_owned(), file, is_sealed);
    assert_eq!(names(&manifest.defaults.secrets), [of("TOP", false, true)]);
    assert_eq!(manifest.environment.vars.len(), 1);
    let own = names(&manifest.stages[0].secrets);
    assert_eq!(own, [of("KEPT", false, false), of("FILE", true, true), of("OWN", false, true)]);
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
    let start = worked_ms();
    let told =
        mistakes(&format!("stages: [{}]\n{full}", (0..900).map(|it| format!("sript{it}, ")).collect::<String>()));
    assert!(told.ends_with(" more like these"), "{told}");
    assert_eq!(told.matches(".buildr.yml:").count(), 20);
    assert!(worked_ms() - start < 5_000, "{} ms", worked_ms() - start);
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
}

/// All of the language in one manifest, each key at least once.
pub(super) const WHOLE: &str = r##"
version: 1
schedule: {nightly: "0 3 * * * Europe/Rome", weekly: {cron: "@weekly", branch: stable, inputs: {TARGET: b}}}
image: {name: rust:1.90, pull: always, user: "1000:1000", entrypoint: [/init], platform: linux/amd64}
environment: {inherit: [HTTP_PROXY], vars: [CARGO_TERM_COLOR=always]}
stages: [build, [unit, lint, docs], package, deploy, downstream]
cancel_superseded: true
timeout: 1h30m
idle_timeout: 10m
clone: {depth: 50, submodules: recursive, lfs: true, filter: "blob:none"}
cache: [{paths: [~/.cargo/registry, target], key: [Cargo.lock], name: "rust-${branch}", fallback: [rust-], policy: pull}]
repos: {lib: {url: "https://git.example.org/lib.git", path: deps/lib, branch: same}, other: /srv/other}
workspace: /src
dir: crates/api
inputs: {TARGET: {choices: [a, b], default: a, description: where to}, NOTE: "", REGION: [eu, us]}
concurrency: {group: "main-${branch}", limit: 2, order: ready}
fail_fast: false
stage_parallelism: 4
priority: 5
docker: false
privileged: false
shell: bash -euo pipefail {0}
retry: 1
resources: {cpu: 0.5, memory: 1.5g, pids: 4096, shm: 64m}
agent: {os: linux}
platform: linux/amd64
secrets: {NPM_TOKEN: npm/token}
services: {cache: redis:8}
matrix: {os: [alpine, debian], max: 2}
when: [main, release/*, "!release/old", {event: [tag, pull_request]}]
prepare:
  script: [apt-get update]
  files: [Cargo.toml]
  cache: false
  secrets: [TOKEN]
  environment: {vars: {A: b}}
  timeout: 10m
  shell: bash {0}
build:
  script: [cargo build --release]
  artifacts: [target/release/app, "!target/release/*.d"]
unit:
  needs: [build]
  matrix: {rust: ["1.89", "1.90"], include: [{rust: nightly}], exclude: [{rust: "1.89", branch: "release/*"}], fail_fast: true}
  image: rust:${matrix.rust}
  services:
    db:
      image: postgres:17
      environment: [POSTGRES_PASSWORD=x]
      command: [postgres, -c, fsync=off]
      ready: pg_isready -U postgres
      ready_timeout: 90s
      resources: {memory: 1g}
      privileged: true
    web: {image: nginx:1, ready: "http::8080/health"}
    queue: {image: "rabbitmq:4", ready: "tcp:5672"}
    mail: {image: "mail:1", ready: "log:/ready in \\d+ s/"}
  script: [cargo test]
  reports: {junit: target/junit.xml, coverage: '/covered: ([0-9.]+)%/'}
  retry: {max: 2, on: [infra, timeout, failed, out_of_memory, 137], delay: 10s}
  timeout: 20m
  after: [./tidy.sh]
lint: {needs: [], script: cargo clippy, allow_failure: [101]}
docs:
  when: {path: ["docs/**", "!docs/private/**"], matrix: {os: debian}, if: 'branch == "main"'}
  script: mdbook build
  allow_failure: true
package: {script: make package, parallel: 3, reports: {coverage: lcov.info}, cache: false}
deploy:
  needs: [package, docs?]
  when: [{branch: main, event: push}, {tag: v*, ref: refs/tags/*, status: [success, failure], platform: linux/*}]
  manual: {ask: "Deploy ${tag}?", allow: [release-team], inputs: {REGION: [eu, us]}, timeout: 2d}
  concurrency: deploy-prod
  secrets: [DEPLOY_TOKEN, {SSH_KEY: {from: prod/ssh, file: true}}]
  resources: {cpu: 2, memory: 4g}
  agent: [prod-net]
  platform: linux/arm64
  privileged: true
  docker: true
  dir: deploy
  shell: sh -e {0}
  environment: {vars: [A=b]}
  idle_timeout: 5m
  artifacts: {paths: log/**, exclude: [log/*.tmp], when: always, expire: 30d}
  script: [./deploy.sh]
  on_failure: [./rollback.sh]
downstream: {trigger: {repo: "https://git.example.org/site.git", branch: main, vars: {FROM: "${commit}"}, wait: true}, manual: Go on?}
finally: {when: {status: [success, failure, canceled]}, script: [./notify.sh]}
"##;

#[test]
fn the_whole_language() {
    let Reading { manifest, warnings } = accepted(WHOLE);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_snapshot!(told_without_places(&manifest));
}

/// What a manifest says, as its fields have it, without where it says it and what it does not say.
fn told_without_places(manifest: &Manifest) -> String {
    let shown = format!("{:?}", Manifest { source: Source::default(), ..manifest.clone() });
    let mut told = String::new();
    let mut rest = shown.as_str();
    while let Some((before, after)) = rest.split_once("span: Span {") {
        told.push_str(before.trim_end_matches(", "));
        rest = after.split_once('}').unwrap().1.trim_start_matches(", ");
    }
    let told = told + rest;
    let said = regex::Regex::new(r"\w+: (None|\[\])(, )?").unwrap().replace_all(&told, "").into_owned();
    said.replace("Spanned { value: ", "{").replace(" }, ", " },\n")
}

#[test]
fn conditions_in_all_their_forms() {
    let when = |text: &str| {
        let manifest = accepted(&format!("build: {{script: make, when: {text}}}")).manifest;
        let parts = |globs: &language::Globs| {
            let excluded = globs.exclude.iter().map(|glob| format!("!{}", glob.value));
            globs.include.iter().map(|glob| glob.value.clone()).chain(excluded).collect::<Vec<_>>().join(" ")
        };
        let condition = |condition: &language::Condition| {
            let branch = condition.branch.as_ref().map(|globs| format!("branch {}", parts(globs)));
            let event = condition.event.as_ref().map(|events| {
                format!("event {}", events.iter().map(|event| event.value.name()).collect::<Vec<_>>().join(" "))
            });
            let status = condition.status.map(|status| format!("status {status:?}"));
            [branch, event, status].into_iter().flatten().collect::<Vec<_>>().join(" and ")
        };
        manifest.stages[0].when.as_ref().unwrap().any.iter().map(condition).collect::<Vec<_>>().join(" or ")
    };
    assert_eq!(when("main"), "branch main");
    assert_eq!(when("'!main'"), "branch !main");
    assert_eq!(when("[main, release/*, '!release/1']"), "branch main release/* !release/1");
    assert_eq!(when("{branch: main, event: push}"), "branch main and event push");
    assert_eq!(when("[dev, {event: [tag, schedule]}]"), "branch dev or event tag schedule");
    assert_eq!(when("{status: always}"), "status Always");
    assert_eq!(when("{status: [success, failure]}"), "status Always");
    assert_eq!(when("{status: failure}"), "status Failed");
    assert_eq!(when("{branch: push}"), "branch push");
}

#[test]
fn stages_side_by_side() {
    let order = |text: &str| accepted(text).manifest.order;
    let stages = "a: {script: a}\nb: {script: b}\nc: {script: c}\n";
    use language::Element::{Group, One};
    assert_eq!(order(stages), [One(0), One(1), One(2)]);
    assert_eq!(order(&format!("stages: [c, [b, a]]\n{stages}")), [One(0), Group(vec![1, 2])]);
    assert_eq!(order(&format!("stages: [[c], a]\n{stages}")), [One(0), One(1)]);
}
