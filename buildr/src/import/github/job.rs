//! One job of a workflow as a stage.

use super::super::draft::{Draft, Stage};
use super::super::notes::NoteKind;
use super::super::parts::{self, by_table};
use super::super::tree::Tree;
use super::steps::Work;
use super::{Defaults, concurrency, defaults, environment, expression, set_when, when};
use crate::manifest::{Map, Value};

/// Keys without a counterpart, and what to do.
const WITHOUT: [(&str, &str); 5] = [
    ("outputs", "values are handed on by `$BUILDR_ENV`; write `echo NAME=value >> \"$BUILDR_ENV\"` in the script"),
    (
        "environment",
        "the farm keeps no list of environments; write `manual: true` where a person must agree, and `concurrency`",
    ),
    ("uses", "it runs a workflow of another file; run `buildr import` on that file, and write its stages here"),
    ("with", "it belongs to the workflow that `uses` names; write its values there"),
    ("secrets", "it belongs to the workflow that `uses` names; write `secrets: [NAME]` where they are read"),
];

/// Reads a job. `outer` is what the workflow says for all steps.
pub(super) fn read(draft: &mut Draft, id: &str, job: &Tree, outer: &Defaults) -> Stage {
    let mut stage = draft.stage(id);
    let defaults = job.get("defaults").map(|it| defaults(it, outer.clone())).unwrap_or_else(|| outer.clone());
    if let Some(folder) = &defaults.folder {
        let replaced = expression::in_value(folder, &draft.ready);
        stage.map.set("dir", replaced.text);
    }
    if let Some(env) = job.get("env") {
        let (ready, secrets) = environment(draft, &mut stage.map, env, &draft.ready);
        stage.ready = ready;
        stage.secrets = secrets;
    }
    for (key, value) in job.entries() {
        settings(draft, &mut stage, key, value);
    }
    let mut work = Work::new(&defaults);
    for step in job.get("steps").map(Tree::elements).unwrap_or_default() {
        work.step(draft, &mut stage, step);
    }
    work.finish(draft, &mut stage);
    places(draft, &mut stage, job);
    stage
}

fn settings(draft: &mut Draft, stage: &mut Stage, key: &str, value: &Tree) {
    let map = &mut stage.map;
    match key {
        "name" => {
            if let Some(name) = value.text().filter(|name| *name != stage.name) {
                map.remark(name.to_string());
            }
        }
        "needs" => {
            let needs: Vec<String> = value.texts().iter().map(|need| draft.name(need)).collect();
            map.set("needs", Value::texts(needs));
        }
        "if" => {
            let conditions = when(draft, map, value);
            set_when(map, &conditions);
        }
        "strategy" => strategy(draft, map, value),
        "timeout-minutes" => match value.peek().and_then(|text| parts::duration(text, 60)) {
            Some(limit) => {
                value.told();
                map.set("timeout", limit);
            }
            None => draft.notes.lost(map, key, value, "it is no plain number; write a `timeout` like 20m"),
        },
        "continue-on-error" => match value.truth() {
            Some(true) => map.set("allow_failure", Value::Truth(true)),
            Some(false) => {}
            None => draft.notes.lost(map, key, value, "whether a stage may fail is the same in every cell; write `allow_failure: true`, or a stage of its own"),
        },
        "concurrency" => concurrency(draft, map, value, false),
        "services" => services(draft, map, value),
        "permissions" => draft.notes.moot(map, key, value, "a build gets no token of the forge; what it may do is what its `secrets` may"),
        _ => {
            by_table(&WITHOUT, &draft.notes, map, key, value);
        }
    }
}

fn strategy(draft: &Draft, map: &mut Map, tree: &Tree) {
    let mut matrix = Map::default();
    for (axis, values) in tree.get("matrix").map(Tree::entries).unwrap_or_default() {
        match axis.as_str() {
            "include" | "exclude" => {
                let mut cells = Vec::new();
                for cell in values.elements() {
                    if cell.get("os").and_then(Tree::peek).is_some_and(is_other_system) {
                        draft.notes.lost(
                            map,
                            &format!("strategy.matrix.{axis}"),
                            cell,
                            "containers run Linux; build for other systems on agents of your own, or leave it out",
                        );
                        continue;
                    }
                    let mut written = Map::default();
                    for (key, value) in cell.entries() {
                        if let Some(text) = value.text() {
                            written.set(key, text);
                        }
                    }
                    if !written.is_empty() {
                        cells.push(Value::Map(written));
                    }
                }
                if !cells.is_empty() {
                    matrix.set(axis, Value::Lines(cells));
                }
            }
            _ => {
                let texts = axis_values(draft, map, axis, values);
                if !texts.is_empty() {
                    matrix.set(axis, Value::texts(texts));
                }
            }
        }
    }
    if let Some(whole) = tree.get("matrix").filter(|matrix| !matrix.is_map()) {
        draft.notes.lost(map, "strategy.matrix", whole, "a matrix is written down, not computed; write its axes");
    }
    match tree.get("fail-fast").map(|it| (it, it.truth())) {
        Some((_, Some(fails_fast))) => matrix.set("fail_fast", Value::Truth(fails_fast)),
        Some((tree, None)) => draft.notes.lost(map, "strategy.fail-fast", tree, "it is true or false; write one"),
        None => {}
    }
    if let Some(most) = tree.get("max-parallel").and_then(Tree::number) {
        matrix.set("max", Value::Number(most));
    }
    if matrix.keys().any(|key| key != "fail_fast" && key != "max") {
        map.set("matrix", matrix);
    }
}

/// The values of an axis, those of other systems than Linux told and left out.
fn axis_values(draft: &Draft, map: &mut Map, axis: &str, values: &Tree) -> Vec<String> {
    let mut texts = Vec::new();
    for value in values.elements() {
        match value.peek() {
            Some(text) if is_other_system(text) => {
                let because = "containers run Linux; build for other systems on agents of your own, or leave it out";
                draft.notes.lost(map, &format!("strategy.matrix.{axis}"), value, because);
            }
            Some(text) if text.contains("${{") => {
                draft.notes.lost(
                    map,
                    &format!("strategy.matrix.{axis}"),
                    value,
                    "a matrix is written down, not computed; write its values",
                );
            }
            Some(text) => {
                value.told();
                texts.push(text.to_owned());
            }
            None => draft.notes.lost(
                map,
                &format!("strategy.matrix.{axis}"),
                value,
                "the values of an axis are texts; write `include` with a key for each part",
            ),
        }
    }
    texts
}

fn is_other_system(text: &str) -> bool {
    text.starts_with("windows-") || text.starts_with("macos-") || text == "macOS"
}

/// Where the job runs: `runs-on`, `container`.
fn places(draft: &mut Draft, stage: &mut Stage, job: &Tree) {
    container(draft, stage, job);
    let Some(runner) = job.get("runs-on") else { return };
    if runner.is_map() {
        let because = "agents are chosen by labels; write `agent: [LABEL]`";
        draft.notes.lost(&mut stage.map, "runs-on", runner, because);
        return;
    }
    let hosted = labels(draft, stage, runner);
    if !stage.map.has("image") {
        let image = guessed(&stage.script);
        stage.map.set("image", image);
        if hosted {
            let why = format!(
                "it is a machine with many tools; the container is {image}, and what is missing in it is to be installed in the script"
            );
            draft.notes.say(&mut stage.map, NoteKind::Look, format!("`runs-on: {}`", runner.shown()), why);
        }
    }
}

/// `container`: the image, and what is around it.
fn container(draft: &Draft, stage: &mut Stage, job: &Tree) {
    if let Some(container) = job.get("container") {
        let image = container.text().or_else(|| container.get("image")?.text());
        if let Some(image) = image {
            stage.map.set("image", expression::in_value(image, &draft.ready).text);
        }
        if let Some(env) = container.get("env") {
            let (ready, secrets) = environment(draft, &mut stage.map, env, &draft.ready);
            stage.ready.extend(ready);
            stage.secrets.extend(secrets);
        }
        for (key, value) in container.entries().iter().filter(|(key, _)| key != "image" && key != "env") {
            let because = match key.as_str() {
                "credentials" => "an agent pulls with the logins of its own Docker configuration; put the login there",
                _ => "a stage's container is made by the farm; see `resources`, `services` and `privileged`",
            };
            draft.notes.lost(&mut stage.map, &format!("container.{key}"), value, because);
        }
    }
}

/// The words of `runs-on`; whether one of them is a machine of GitHub's.
fn labels(draft: &Draft, stage: &mut Stage, runner: &Tree) -> bool {
    let mut labels = Vec::new();
    let mut hosted = false;
    for word in runner.elements() {
        match word.peek().unwrap_or_default() {
            text if text.starts_with("ubuntu-") || text.contains("matrix.") || text == "linux" || text == "Linux" => {
                hosted |= text != "linux" && text != "Linux";
                if text.ends_with("-arm") {
                    stage.map.set("platform", "linux/arm64");
                }
                word.told();
            }
            text if is_other_system(text) => draft.notes.lost(&mut stage.map, "runs-on", word, "containers run Linux; build for other systems on agents of your own (`agent: [LABEL]`), or remove the stage"),
            "self-hosted" => word.told(),
            "ARM64" => {
                stage.map.set("platform", "linux/arm64");
                word.told();
            }
            "X64" => {
                stage.map.set("platform", "linux/amd64");
                word.told();
            }
            text if text.contains("${{") => draft.notes.lost(&mut stage.map, "runs-on", word, "agents are chosen by labels that are written down; write `agent: [LABEL]`"),
            text => {
                labels.push(text.to_owned());
                word.told();
            }
        }
    }
    if !labels.is_empty() {
        stage.map.set("agent", Value::texts(labels));
    }
    hosted
}

/// An image in which a script of these commands most likely runs.
fn guessed(script: &[String]) -> &'static str {
    const BY_COMMAND: [(&str, &[&str]); 9] = [
        ("rust:1-bookworm", &["cargo ", "rustup "]),
        ("node:22-bookworm", &["npm ", "npx ", "yarn", "pnpm ", "node "]),
        ("golang:1.25-bookworm", &["go build", "go test", "go vet", "go mod"]),
        ("maven:3-eclipse-temurin-21", &["mvn ", "mvnw"]),
        ("gradle:8-jdk21", &["gradle ", "gradlew"]),
        ("python:3.13-bookworm", &["pip ", "python", "pytest", "tox", "uv "]),
        ("ruby:3.4-bookworm", &["bundle ", "gem "]),
        ("php:8.4-cli-bookworm", &["composer ", "phpunit"]),
        ("docker:28-cli", &["docker "]),
    ];
    let has = |word: &&str| script.iter().any(|line| line.contains(word));
    let found = BY_COMMAND.iter().find(|(_, commands)| commands.iter().any(has));
    found.map_or("buildpack-deps:bookworm", |(image, _)| *image)
}

fn services(draft: &Draft, map: &mut Map, tree: &Tree) {
    let mut services = Map::default();
    for (name, service) in tree.entries() {
        let Some(image) = service.text().or_else(|| service.get("image")?.text()) else { continue };
        let mut written = Map::of("image", expression::in_value(image, &draft.ready).text);
        for (key, value) in service.entries() {
            one_service(draft, map, &mut written, name, key, value);
        }
        let alone = written.keys().count() == 1;
        let short = written.get("image").cloned().filter(|_| alone);
        services.set(name, short.unwrap_or(Value::Map(written)));
    }
    if !services.is_empty() {
        map.set("services", services);
    }
}

/// One key of a service.
fn one_service(draft: &Draft, map: &mut Map, written: &mut Map, name: &str, key: &str, value: &Tree) {
    match key {
        "image" => {}
        "env" => {
            let (ready, secrets) = environment(draft, map, value, &draft.ready);
            if !secrets.is_empty() {
                draft.notes.lost(
                    map,
                    &format!("services.{name}.env"),
                    value,
                    "a service reads no secrets; give it a password that is worth nothing",
                );
            }
            let vars = ready.iter().map(|(name, value)| format!("{name}={value}"));
            written.set("environment", Map::of("vars", Value::lines(vars)));
        }
        "options" => {
            let text = value.peek().unwrap_or_default().to_owned();
            match health(&text) {
                Some(command) => {
                    written.set("ready", command);
                    draft.notes.look(
                        map,
                        &format!("services.{name}.options"),
                        value,
                        "its health check is `ready` here, and asked until it succeeds",
                    );
                }
                None => draft.notes.lost(
                    map,
                    &format!("services.{name}.options"),
                    value,
                    "a service's container is made by the farm; see `ready`",
                ),
            }
        }
        "ports" => draft.notes.look(
            map,
            &format!("services.{name}.ports"),
            value,
            format!("the service is reached at `{name}` and its own port, not at localhost"),
        ),
        _ => draft.notes.lost(
            map,
            &format!("services.{name}.{key}"),
            value,
            "a service here has an image, an environment and `ready`; put the rest into an image of its own",
        ),
    }
}

/// The command of `--health-cmd`.
fn health(options: &str) -> Option<String> {
    let after = options.split_once("--health-cmd")?.1.trim_start_matches(['=', ' ']);
    let first = after.chars().next()?;
    match first {
        '"' | '\'' => after[1..].split_once(first).map(|(command, _)| command.to_owned()),
        _ => after.split_whitespace().next().map(str::to_owned),
    }
}
