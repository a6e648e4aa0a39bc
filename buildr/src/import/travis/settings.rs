//! What holds for all jobs of Travis CI: services, caches, branches, and how it clones.

use super::super::conditions::{Condition, glob};
use super::super::draft::Draft;
use super::super::parts;
use super::super::tree::Tree;
use crate::manifest::{Map, Value};

pub(super) fn services(draft: &Draft, map: &mut Map, tree: &Tree) {
    /// What Travis CI starts under a name, and the image that is it.
    const IMAGES: [(&str, &str, &str); 10] = [
        ("postgresql", "postgres", "postgres:17"),
        ("mysql", "mysql", "mysql:8"),
        ("mariadb", "mariadb", "mariadb:11"),
        ("redis-server", "redis", "redis:8"),
        ("redis", "redis", "redis:8"),
        ("mongodb", "mongo", "mongo:8"),
        ("rabbitmq", "rabbitmq", "rabbitmq:4"),
        ("memcached", "memcached", "memcached:1"),
        ("elasticsearch", "elasticsearch", "elasticsearch:8.18.0"),
        ("cassandra", "cassandra", "cassandra:5"),
    ];
    let mut services = Map::default();
    for service in tree.elements() {
        let name = service.peek().unwrap_or_default().to_owned();
        if name == "docker" {
            service.told();
            map.set("docker", Value::Truth(true));
            continue;
        }
        let Some((_, host, image)) = IMAGES.iter().find(|(known, _, _)| *known == name) else {
            let because = "there is no image known for it here; write it under `services`, or start it in the script";
            draft.notes.lost(map, "services", service, because);
            continue;
        };
        let vars: &[&str] = match *host {
            "postgres" => &["POSTGRES_HOST_AUTH_METHOD=trust"],
            "mysql" => &["MYSQL_ALLOW_EMPTY_PASSWORD=1"],
            "mariadb" => &["MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1"],
            _ => &[],
        };
        let environment = (!vars.is_empty()).then(|| Map::of("vars", Value::lines(vars.iter().copied())).into());
        services.set(host, parts::service((*image).to_owned(), environment));
        draft.notes.look(map, "services", service, format!("it is reached at `{host}`, not at localhost"));
    }
    if !services.is_empty() {
        map.set("services", services);
    }
}

pub(super) fn cache(draft: &Draft, map: &mut Map, tree: &Tree) {
    /// What a word means.
    const WORDS: [(&str, &[&str], &[&str]); 7] = [
        ("pip", &["~/.cache/pip"], &["requirements*.txt", "pyproject.toml"]),
        ("npm", &["~/.npm"], &["package-lock.json"]),
        ("yarn", &["~/.cache/yarn"], &["yarn.lock"]),
        ("cargo", &["~/.cargo/registry", "target"], &["Cargo.lock"]),
        ("bundler", &["vendor/bundle"], &["Gemfile.lock"]),
        ("ccache", &["~/.ccache"], &[]),
        ("packages", &["~/R/Library"], &[]),
    ];
    let mut caches = Vec::new();
    let mut word = |name: &str, map: &mut Map, value: &Tree| match WORDS.iter().find(|(known, _, _)| *known == name) {
        Some((_, paths, key)) => {
            value.told();
            let mut cache = Map::of("paths", Value::texts(paths.iter().copied()));
            if !key.is_empty() {
                cache.set("key", Value::texts(key.iter().copied()));
            }
            caches.push(Value::Map(cache));
        }
        None => draft.notes.lost(
            map,
            &format!("cache.{name}"),
            value,
            "nobody here knows what it means; write `cache` with its paths",
        ),
    };
    if tree.is_map() {
        for (key, value) in tree.entries().iter().filter(|(key, _)| key != "directories" && key != "timeout") {
            match value.truth() {
                Some(true) => word(key, map, value),
                Some(false) => {}
                None => draft.notes.lost(
                    map,
                    &format!("cache.{key}"),
                    value,
                    "it is neither true nor false; write `cache` with its paths",
                ),
            }
        }
    } else if tree.truth() != Some(false) {
        for one in tree.elements() {
            let name = one.peek().unwrap_or_default().to_owned();
            word(&name, map, one);
        }
    }
    if let Some(timeout) = tree.get("timeout") {
        draft.notes.moot(map, "cache.timeout", timeout, "a cache takes what it takes");
    }
    let folders = tree.get("directories").map(Tree::texts).unwrap_or_default();
    if !folders.is_empty() {
        let folders = folders.into_iter().map(|folder| folder.replace("$HOME", "~").replace("$TRAVIS_BUILD_DIR/", ""));
        caches.push(Map::of("paths", Value::texts(folders)).into());
    }
    match caches.len() {
        0 => {}
        1 => map.set("cache", caches.remove(0)),
        _ => map.set("cache", Value::Lines(caches)),
    }
}

/// The builds of which branches run.
pub(super) fn branches(map: &mut Map, tree: &Tree) -> Vec<Condition> {
    /// A name as a glob, or as an expression.
    fn meant(name: &Tree) -> Option<Result<String, String>> {
        let text = name.text()?;
        Some(match text.strip_prefix('/').and_then(|text| text.strip_suffix('/')) {
            None => Ok(text.to_owned()),
            Some(regex) => glob(regex).ok_or_else(|| format!("branch.matches({regex:?})")),
        })
    }
    let names =
        |key: &str| tree.get(key).map(Tree::elements).unwrap_or_default().iter().filter_map(meant).collect::<Vec<_>>();
    let (mut globs, mut conditions) = (Vec::new(), Vec::new());
    for only in names("only") {
        match only {
            Ok(glob) => globs.push(glob),
            Err(expression) => conditions.push(Condition::expression(expression)),
        }
    }
    if !globs.is_empty() || conditions.is_empty() {
        conditions.push(Condition::of("branch", globs));
    }
    for except in names("except") {
        for condition in &mut conditions {
            match &except {
                Ok(glob) => condition.require("branch", vec![format!("!{glob}")]),
                Err(expression) => condition.require_expression(format!("!{expression}")),
            }
        }
    }
    if !conditions.iter().any(Condition::is_empty) {
        conditions.push(Condition::of("event", ["tag", "pull_request"]));
        map.remark("look at: `branches`: builds of tags and pull requests run too");
    }
    conditions
}

pub(super) fn git(draft: &Draft, map: &mut Map, tree: &Tree) {
    let mut clone = Map::default();
    for (key, value) in tree.entries() {
        match key.as_str() {
            "depth" => match value.number() {
                Some(depth) => clone.set("depth", Value::Number(depth)),
                None => draft.notes.moot(map, "git.depth", value, "the whole history is there"),
            },
            "submodules" => {
                if let Some(truth) = value.truth() {
                    clone.set("submodules", Value::Truth(truth));
                }
            }
            "lfs_skip_smudge" => {
                if let Some(skip) = value.truth() {
                    clone.set("lfs", Value::Truth(!skip));
                }
            }
            "clone" if value.truth() == Some(false) => {
                map.set("clone", Value::Truth(false));
                return;
            }
            "quiet" | "strategy" | "symlinks" | "autocrlf" => {
                draft.notes.moot(map, &format!("git.{key}"), value, "the agent clones in its own way");
            }
            _ => {}
        }
    }
    if !clone.is_empty() {
        map.set("clone", clone);
    }
}
