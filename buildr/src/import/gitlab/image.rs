//! What a job of GitLab runs in, and beside what: `image` and `services`.

use super::super::draft::Draft;
use super::super::parts;
use super::super::tree::Tree;
use super::artifacts;
use crate::manifest::{Map, Value};

/// `cache` or `services` of all jobs.
pub(super) fn shared(draft: &mut Draft, map: &mut Map, key: &str, value: &Tree) {
    match key {
        "cache" => artifacts::cache(draft, map, value),
        _ => services(draft, map, value, &[]),
    }
}

/// An image in its short form, or in its long one.
pub(super) fn image(draft: &Draft, map: &mut Map, tree: &Tree, own: &[(String, String)]) -> Option<Value> {
    if let Some(name) = tree.text() {
        return Some(draft.value(map, "image", name, own).into());
    }
    let name = tree.get("name")?.text()?;
    let mut image = Map::of("name", draft.value(map, "image", name, own));
    for (key, value) in tree.entries() {
        match key.as_str() {
            "entrypoint" => {
                let words = value.texts();
                if words.iter().all(String::is_empty) {
                    map.remark("not needed: an empty `entrypoint`, because a stage's script runs in its own shell");
                } else {
                    image.set("entrypoint", Value::texts(words));
                }
            }
            "pull_policy" => pull(draft, map, &mut image, value),
            "docker" => {
                for (name, value) in value.entries() {
                    let text = value.text().unwrap_or_default();
                    match name.as_str() {
                        "platform" | "user" => image.set(name, text),
                        _ => draft.notes.lost(
                            map,
                            &format!("image.docker.{name}"),
                            value,
                            "an image has no such setting here; remove it",
                        ),
                    }
                }
            }
            _ => {}
        }
    }
    let alone = image.keys().count() == 1;
    Some(if alone { image.get("name").cloned()? } else { image.into() })
}

fn pull(draft: &Draft, map: &mut Map, image: &mut Map, value: &Tree) {
    let first = value.texts().into_iter().next();
    match first.as_deref() {
        Some("always") => image.set("pull", "always"),
        Some("if-not-present") => image.set("pull", "missing"),
        _ => draft.notes.lost(
            map,
            "image.pull_policy",
            value,
            "images are pulled `always` or when they are `missing`; write one of the two",
        ),
    }
    if value.elements().len() > 1 {
        draft.notes.look(map, "image.pull_policy", value, "the first of them counts");
    }
}

pub(super) fn services(draft: &mut Draft, map: &mut Map, tree: &Tree, own: &[(String, String)]) {
    let mut services = Map::default();
    for service in tree.elements() {
        let named = service.text().or_else(|| service.get("name")?.text());
        let Some(image) = named.map(|name| draft.value(map, "services", name, own)) else { continue };
        if parts::is_docker_daemon(&image) {
            map.set("docker", Value::Truth(true));
            draft.notes.moot(map, "services", service, "`docker: true` gives the stage a Docker daemon; remove DOCKER_HOST and DOCKER_TLS_* from its variables");
            continue;
        }
        let alias = service.get("alias").and_then(Tree::text).map(str::to_owned);
        let mut hosts: Vec<&str> =
            alias.as_deref().unwrap_or_default().split([',', ' ']).filter(|host| !host.is_empty()).collect();
        let usual = parts::host_of(&image);
        if hosts.is_empty() {
            hosts.push(&usual);
        }
        let mut variables = inherited(draft, own, &image);
        for (key, value) in service.entries() {
            match key.as_str() {
                "name" | "alias" => {}
                "variables" => variables.extend(super::super::parts::variables(value)),
                _ => draft.notes.lost(
                    map,
                    &format!("services.{key}"),
                    value,
                    "a service here has an image, an environment and `ready`; put the rest into an image of its own",
                ),
            }
        }
        let environment = (!variables.is_empty()).then(|| parts::environment(draft, map, &variables));
        for host in hosts {
            services.set(host, parts::service(image.clone(), environment.clone()));
        }
    }
    if !services.is_empty() {
        map.set("services", services);
    }
}

/// The variables of a job reach its services in GitLab: those that are for this one, by their names.
fn inherited(draft: &Draft, own: &[(String, String)], image: &str) -> Vec<(String, String)> {
    let host = parts::host_of(image).to_uppercase();
    let word = host.rsplit('-').next().unwrap_or(&host);
    let prefixes: Vec<&str> = match word {
        "POSTGIS" | "PGVECTOR" => vec!["POSTGRES_"],
        "MARIADB" => vec!["MARIADB_", "MYSQL_"],
        "MONGO" => vec!["MONGO_", "MONGO_INITDB_"],
        word => vec![word],
    };
    let fits = |name: &str| prefixes.iter().any(|prefix| !prefix.is_empty() && name.starts_with(prefix));
    let mut all: Vec<(String, String)> = own.to_vec();
    all.extend(draft.variables.iter().filter(|(name, _)| !own.iter().any(|(known, _)| known == name)).cloned());
    all.retain(|(name, _)| fits(name));
    all
}
