//! One step of Woodpecker or Drone as a stage.

use super::super::draft::{Draft, Stage, secret};
use super::super::parts::by_table;
use super::super::tree::Tree;
use super::when;
use crate::manifest::{Map, Value};

/// Keys without a counterpart, and what to do.
const WITHOUT: [(&str, &str); 10] = [
    ("entrypoint", "a stage runs its script in its own shell; write the command into the script"),
    ("backend_options", "it is the language of another backend; see `resources` for what a stage may use"),
    ("resources", "it is the language of another backend; see `resources` for what a stage may use"),
    ("network_mode", "a stage's container is made by the farm; see `services`"),
    ("dns", "a stage's container is made by the farm; name servers are the daemon's setting"),
    ("extra_hosts", "a stage's container is made by the farm; see `services`"),
    ("devices", "a stage's container is made by the farm; see `privileged`"),
    ("tmpfs", "a stage's container is made by the farm; see `resources`"),
    ("shm_size", "write it as `resources: {shm: 1g}`"),
    ("cap_add", "a stage's container is made by the farm; see `privileged`"),
];

/// Reads a step, unless it can only be told.
pub(super) fn read(draft: &mut Draft, prefix: &str, own: &str, step: &Tree) {
    if let Some(detach) = step.get("detach").filter(|it| it.truth() == Some(true)) {
        detach.told();
        detached(draft, own, step);
        return;
    }
    let mut stage = draft.stage(&format!("{prefix}{own}"));
    let plugin = step.get("settings").is_some() && step.get("commands").is_none();
    if plugin {
        let image = step.get("image").map(Tree::shown).unwrap_or_default();
        if let Some(settings) = step.get("settings") {
            let because = format!(
                "`{image}` is a plugin, and does its work by its settings; write the commands that do the same"
            );
            draft.notes.lost(&mut stage.map, "settings", settings, because);
        }
    }
    for (key, value) in step.entries() {
        one(draft, &mut stage, key, value);
    }
    draft.stages.push(stage);
}

fn one(draft: &mut Draft, stage: &mut Stage, key: &str, value: &Tree) {
    let map = &mut stage.map;
    match key {
        "image" => {
            if let Some(image) = value.text() {
                let image = draft.value(map, key, image, &stage.variables);
                map.set("image", image);
            }
        }
        // Before they run, `${X}` is replaced there, and `$${X}` is what the shell sees as `${X}`.
        "commands" => stage.script.extend(value.texts().iter().map(|line| line.replace("$${", "${"))),
        "environment" => {
            let (variables, secrets) = environment(draft, map, value);
            stage.variables.extend(variables);
            stage.secrets.extend(secrets);
        }
        "secrets" => secrets(stage, value),
        "when" => {
            stage.conditions = when::conditions(draft, map, key, value);
        }
        "failure" if value.peek() == Some("ignore") => {
            value.told();
            map.set("allow_failure", Value::Truth(true));
        }
        "privileged" if value.truth() == Some(true) => {
            map.set("privileged", Value::Truth(true));
        }
        "directory" => {
            if let Some(folder) = value.text() {
                map.set("dir", folder);
            }
        }
        "volumes" => volumes(draft, map, value),
        "detach" => {
            value.truth();
        }
        "settings" if !stage.script.is_empty() || value.is_unseen() => {
            draft.notes.lost(
                map,
                key,
                value,
                "settings are for plugins, and there are none here; write variables under `environment`",
            );
        }
        _ => {
            by_table(&WITHOUT, &draft.notes, map, key, value);
        }
    }
    pull(draft, stage, key, value);
}

/// `pull: true`, or Drone's words: an image in its long form.
fn pull(draft: &Draft, stage: &mut Stage, key: &str, value: &Tree) {
    if key != "pull" {
        return;
    }
    let word = match (value.truth(), value.peek()) {
        (Some(true), _) | (None, Some("always")) => "always",
        (Some(false), _) | (None, Some("if-not-exists")) => "missing",
        _ => {
            draft.notes.lost(
                &mut stage.map,
                key,
                value,
                "images are pulled `always` or when they are `missing`; write one of the two",
            );
            return;
        }
    };
    value.told();
    stage.pull = Some(word);
}

/// Variables: a map or a list of texts, some of them from secrets.
pub(super) fn environment(draft: &Draft, map: &mut Map, tree: &Tree) -> (Vec<(String, String)>, Vec<Value>) {
    let mut variables = Vec::new();
    let mut secrets = Vec::new();
    for (name, value) in tree.entries() {
        if let Some(from) = value.get("from_secret").and_then(Tree::text) {
            secrets.push(secret(name, from));
        } else if let Some(text) = value.text() {
            variables.push((name.clone(), text.to_owned()));
        } else {
            draft.notes.lost(map, &format!("environment.{name}"), value, "a variable is a text; write it as one");
        }
    }
    if tree.is_list() {
        for text in tree.texts() {
            let (name, value) = text.split_once('=').unwrap_or((&text, ""));
            variables.push((name.to_owned(), value.to_owned()));
        }
    }
    (variables, secrets)
}

/// Old lists: a name reaches the step as a variable in capitals.
fn secrets(stage: &mut Stage, tree: &Tree) {
    for one in tree.elements() {
        let source = one.text().or_else(|| one.get("source")?.text()).map(str::to_owned);
        let Some(source) = source else { continue };
        let target = one.get("target").and_then(Tree::text).unwrap_or(&source).to_uppercase();
        stage.secrets.push(secret(&target, &source));
    }
}

/// Only Docker's socket has a counterpart.
fn volumes(draft: &Draft, map: &mut Map, tree: &Tree) {
    for volume in tree.elements() {
        if volume.shown().contains("docker.sock") {
            map.set("docker", Value::Truth(true));
            draft.notes.moot(map, "volumes", volume, "`docker: true` gives the stage a Docker daemon");
        } else {
            draft.notes.lost(
                map,
                "volumes",
                volume,
                "folders of the machine are no part of a build; use `cache` for what is kept between builds",
            );
        }
    }
}

/// A step that runs beside the others is a service.
fn detached(draft: &mut Draft, own: &str, step: &Tree) {
    let mut top = std::mem::take(&mut draft.top);
    let mut services = match top.get("services") {
        Some(Value::Map(services)) => services.clone(),
        _ => Map::default(),
    };
    if let Some(image) = step.get("image").and_then(Tree::text) {
        let image = draft.value(&mut top, "image", image, &[]);
        let variables = step.get("environment").map(|it| environment(draft, &mut top, it).0).unwrap_or_default();
        let environment =
            (!variables.is_empty()).then(|| super::super::parts::environment(draft, &mut top, &variables));
        services.set(own, super::super::parts::service(image, environment));
        top.remark(format!("the step `{own}` ran beside the others; here it is a service"));
        top.set("services", services);
    }
    for (key, value) in
        step.entries().iter().filter(|(key, _)| !["name", "image", "environment", "detach"].contains(&key.as_str()))
    {
        draft.notes.lost(
            &mut top,
            &format!("{own}.{key}"),
            value,
            "a service here has an image, an environment and `ready`; put the rest into an image of its own",
        );
    }
    draft.top = top;
}
