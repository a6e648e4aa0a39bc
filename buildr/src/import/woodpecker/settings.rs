//! What holds for all steps of a pipeline: where it runs, what is cloned, the matrix, services.

use super::super::draft::Draft;
use super::super::parts;
use super::super::tree::Tree;
use super::{elements, step};
use crate::manifest::{Map, Value};

pub(super) fn settings(draft: &mut Draft, map: &mut Map, key: &str, value: &Tree) {
    match key {
        "platform" => {
            let part = |name: &str, usual: &str| value.get(name).and_then(Tree::text).unwrap_or(usual).to_owned();
            let text = value.text().map_or_else(|| format!("{}/{}", part("os", "linux"), part("arch", "amd64")), str::to_owned);
            map.set("platform", text);
        }
        "labels" | "node" => {
            for (name, label) in value.entries() {
                match (name.as_str(), label.text()) {
                    ("platform", Some(platform)) => map.set("platform", platform),
                    (name, Some(label)) => {
                        let known = match map.get("agent") {
                            Some(Value::List(known)) => known.clone(),
                            _ => Vec::new(),
                        };
                        let all = known.into_iter().chain([Value::from(format!("{name}={label}"))]).collect();
                        map.set("agent", Value::List(all));
                    }
                    (_, None) => {}
                }
            }
        }
        "workspace" => workspace(draft, map, value),
        "clone" => clone(draft, map, value),
        "skip_clone"
            if value.truth() == Some(true) => {
                map.set("clone", Value::Truth(false));
            }
        "concurrency" => {
            if let Some(limit) = value.get("limit").and_then(Tree::number) {
                let group = value.get("group").and_then(Tree::text).unwrap_or("pipeline").to_owned();
                let mut concurrency = Map::of("group", group);
                concurrency.set("limit", Value::Number(limit));
                map.set("concurrency", concurrency);
            } else if let Some(group) = value.text() {
                map.set("concurrency", group);
            }
        }
        "environment" => {
            let variables = parts::variables(value);
            draft.variables.extend(variables);
        }
        "volumes" => draft.notes.lost(map, key, value, "folders of the machine are no part of a build; use `cache` for what is kept, and `docker: true` for Docker"),
        "image_pull_secrets" => draft.notes.moot(map, key, value, "an agent pulls with the logins of its own Docker configuration; put them there"),
        "type" => {
            let kind = value.text().unwrap_or_default();
            if kind != "docker" {
                map.remark(format!("look at: the pipeline's type was `{kind}`; here each stage is a container"));
            }
        }
        "runs_on" => {
            let states = value.texts();
            map.remark(format!("look at: `runs_on: [{}]`: write `when: {{status: ..}}` for the stages that are meant", states.join(", ")));
        }
        _ => {}
    }
}

fn workspace(draft: &Draft, map: &mut Map, value: &Tree) {
    let base = value.get("base").and_then(Tree::text);
    let path = value.get("path").and_then(Tree::text);
    let whole = match (base, path) {
        (Some(base), Some(path)) => format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/')),
        (Some(base), None) => base.to_owned(),
        (None, Some(path)) => format!("/{}", path.trim_start_matches('/')),
        (None, None) => {
            draft.notes.lost(map, "workspace", value, "it is a path here; write `workspace: /src`");
            return;
        }
    };
    map.set("workspace", whole);
}

fn clone(draft: &Draft, map: &mut Map, tree: &Tree) {
    if tree.get("disable").or_else(|| tree.get("skip")).and_then(Tree::truth) == Some(true)
        || tree.truth() == Some(false)
    {
        map.set("clone", Value::Truth(false));
        return;
    }
    let mut clone = Map::default();
    if let Some(depth) = tree.get("depth").and_then(Tree::number) {
        clone.set("depth", Value::Number(depth));
    }
    // Woodpecker's is a list, or a map, of steps of a plugin.
    for (_, step) in elements(tree) {
        let Some(settings) = step.get("settings") else { continue };
        if let Some(image) = step.get("image") {
            draft.notes.moot(map, "clone.image", image, "the agent clones by itself");
        }
        for (key, value) in settings.entries() {
            match key.as_str() {
                "depth" => {
                    if let Some(depth) = value.number() {
                        clone.set("depth", Value::Number(depth));
                    }
                }
                "recursive" if value.truth() == Some(true) => clone.set("submodules", "recursive"),
                "lfs" => {
                    if let Some(lfs) = value.truth() {
                        clone.set("lfs", Value::Truth(lfs));
                    }
                }
                _ => {}
            }
        }
    }
    if !clone.is_empty() {
        map.set("clone", clone);
    }
}

/// Sets the matrix; the names of its axes.
pub(super) fn matrix(draft: &Draft, map: &mut Map, tree: &Tree) -> Vec<String> {
    let mut axes: Vec<String> = Vec::new();
    let mut matrix = Map::default();
    for (axis, values) in tree.entries() {
        if axis == "include" {
            let mut cells = Vec::new();
            for cell in values.elements() {
                let mut written = Map::default();
                for (key, value) in parts::variables(cell) {
                    written.set(&key, value);
                    axes.push(key);
                }
                cells.push(Value::Map(written));
            }
            matrix.set("include", Value::Lines(cells));
        } else {
            matrix.set(axis, Value::texts(values.texts()));
            axes.push(axis.clone());
        }
    }
    axes.sort();
    axes.dedup();
    if matrix.is_empty() {
        draft.notes.lost(map, "matrix", tree, "a matrix is a map of axes; write one");
    } else {
        map.set("matrix", matrix);
    }
    axes
}

pub(super) fn services(draft: &Draft, map: &mut Map, tree: &Tree) {
    let mut services = Map::default();
    for (name, service) in elements(tree) {
        let host = service.get("name").and_then(Tree::text).map(str::to_owned).or(name);
        let Some(image) = service.get("image").and_then(Tree::text) else { continue };
        let host = host.unwrap_or_else(|| parts::host_of(image));
        let image = draft.value(map, "services", image, &[]);
        if parts::is_docker_daemon(&image) {
            map.set("docker", Value::Truth(true));
            draft.notes.moot(
                map,
                "services",
                service,
                "`docker: true` gives the stages a Docker daemon; remove DOCKER_HOST from their variables",
            );
            continue;
        }
        let mut environment = None;
        for (key, value) in service.entries() {
            match key.as_str() {
                "name" | "image" => {}
                "environment" => {
                    let variables = step::environment(draft, map, value).0;
                    environment = Some(parts::environment(draft, map, &variables));
                }
                "ports" => draft.notes.moot(
                    map,
                    &format!("services.{host}.ports"),
                    value,
                    "all ports of a service are open to the stages",
                ),
                "pull" | "when" | "detach" => draft.notes.lost(
                    map,
                    &format!("services.{host}.{key}"),
                    value,
                    "a service lives as long as the job; write it under the stage that needs it",
                ),
                _ => draft.notes.lost(
                    map,
                    &format!("services.{host}.{key}"),
                    value,
                    "a service here has an image, an environment and `ready`; put the rest into an image of its own",
                ),
            }
        }
        services.set(&host, parts::service(image, environment));
    }
    if !services.is_empty() {
        map.set("services", services);
    }
}
