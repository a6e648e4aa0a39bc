//! What a job of GitLab leaves and keeps: `artifacts`, their `reports`, `cache`.

use super::super::draft::{Draft, Stage};
use super::super::parts::{add_report, duration, one_or_more};
use super::super::tree::Tree;
use crate::manifest::{Map, Value};

/// `artifacts`, with the reports among them.
pub(super) fn artifacts(draft: &Draft, stage: &mut Stage, tree: &Tree) {
    let mut artifacts = Map::default();
    for (key, value) in tree.entries() {
        let map = &mut stage.map;
        match key.as_str() {
            "paths" | "exclude" => {
                let paths: Vec<String> =
                    value.texts().iter().map(|path| draft.value(map, "artifacts", path, &stage.variables)).collect();
                artifacts.set(key, Value::texts(paths));
            }
            "expire_in" => match value.peek().and_then(|text| duration(text, 1)) {
                Some(time) => {
                    value.told();
                    artifacts.set("expire", time);
                }
                None => draft.notes.lost(
                    map,
                    "artifacts.expire_in",
                    value,
                    "how long things are kept is the farm's setting; write `expire: 30d` for less",
                ),
            },
            "when" => match value.peek() {
                Some("on_failure") => set_when(&mut artifacts, value, "failure"),
                Some("always") => set_when(&mut artifacts, value, "always"),
                Some("on_success") => value.told(),
                _ => {}
            },
            "reports" => reports(draft, stage, value),
            "name" => draft.notes.moot(map, "artifacts.name", value, "artifacts are found by stage and path"),
            "untracked" if value.truth() == Some(false) => {}
            "untracked" => {
                draft.notes.lost(map, "artifacts.untracked", value, "artifacts are named; write their paths");
            }
            _ => draft.notes.lost(
                map,
                &format!("artifacts.{key}"),
                value,
                "artifacts here have paths, exclude, when and expire; remove it",
            ),
        }
    }
    if artifacts.keys().eq(["paths"]) {
        if let Some(paths) = artifacts.get("paths").cloned() {
            stage.map.set("artifacts", paths);
        }
    } else if artifacts.has("paths") {
        stage.map.set("artifacts", artifacts);
    } else if !artifacts.is_empty() {
        stage.map.remark(
            "not needed: what `artifacts` says beside reports, because reports are kept as long as their build",
        );
    }
}

fn set_when(artifacts: &mut Map, value: &Tree, word: &str) {
    value.told();
    artifacts.set("when", word);
}

fn reports(draft: &Draft, stage: &mut Stage, tree: &Tree) {
    for (key, value) in tree.entries() {
        match key.as_str() {
            "junit" => {
                let map = &mut stage.map;
                let named = |path: &String| draft.value(map, "artifacts.reports.junit", path, &stage.variables);
                let paths: Vec<String> = value.texts().iter().map(named).collect();
                add_report(&mut stage.map, "junit", one_or_more(&paths));
            }
            "coverage_report" => {
                let path = value.get("path").and_then(Tree::text).map(str::to_owned);
                let format = value.get("coverage_format");
                match (path, format.and_then(Tree::peek)) {
                    (Some(path), Some("cobertura")) => {
                        format.map(Tree::told);
                        let key = "artifacts.reports.coverage_report";
                        let path = draft.value(&mut stage.map, key, &path, &stage.variables);
                        add_report(&mut stage.map, "coverage", path.into());
                    }
                    _ => draft.notes.lost(
                        &mut stage.map,
                        "artifacts.reports.coverage_report",
                        value,
                        "coverage is read as cobertura or lcov; have the tool write one of them",
                    ),
                }
            }
            // Its place is behind the script, which is read later.
            "dotenv" => {}
            _ => {
                let because = "reports here are junit and coverage; keep the file under `artifacts`";
                draft.notes.lost(&mut stage.map, &format!("artifacts.reports.{key}"), value, because);
            }
        }
    }
}

/// Hands on what the files of `dotenv` hold, behind the whole script.
pub(super) fn dotenv(stage: &mut Stage, job: &Tree) {
    let files = job.get("artifacts").and_then(|it| it.get("reports")).and_then(|it| it.get("dotenv"));
    for file in files.map(Tree::texts).unwrap_or_default() {
        stage.script.push(format!("cat {file} >> \"$BUILDR_ENV\""));
    }
}

/// `coverage`: a regular expression, which here has one group around the number.
pub(super) fn coverage(draft: &Draft, map: &mut Map, tree: &Tree) {
    let body = tree.peek().and_then(|text| text.strip_prefix('/')?.strip_suffix('/'));
    match body.and_then(grouped) {
        Some(regex) => {
            tree.told();
            add_report(map, "coverage", format!("/{regex}/").into());
        }
        None => {
            let because =
                "it says not with one group where the number is; write `reports: {coverage: '/covered: ([0-9.]+)%/'}`";
            draft.notes.lost(map, "coverage", tree, because);
        }
    }
}

/// The expression with one group: its own, or one around its first number.
fn grouped(body: &str) -> Option<String> {
    let groups = |text: &str| regex::Regex::new(text).ok().map(|regex| regex.captures_len() - 1);
    match groups(body)? {
        1 => Some(body.to_owned()),
        0 => {
            let number = regex::Regex::new(
                r"(?x) (?: \\d | \[ (?: 0-9 | \\d ) (?: \\? \. )? \] ) (?: [+*?] | \{ [0-9,]+ \} )*
                  (?: (?: \\? \. | \(\?: \\ \. ) [?*]* (?: \\d | \[0-9\] ) (?: [+*?] | \{ [0-9,]+ \} )* (?: \) \? )? )?",
            );
            let found = number.ok()?.find(body)?;
            let text = format!("{}({}){}", &body[..found.start()], found.as_str(), &body[found.end()..]);
            (groups(&text) == Some(1)).then_some(text)
        }
        _ => None,
    }
}

/// `cache`, one or several.
pub(super) fn cache(draft: &Draft, map: &mut Map, tree: &Tree) {
    let mut caches = Vec::new();
    for cache in tree.elements() {
        let mut written = Map::default();
        for (key, value) in cache.entries() {
            one_cache(draft, map, &mut written, key, value);
        }
        if written.keys().eq(["paths"]) {
            caches.extend(written.get("paths").cloned());
        } else if written.has("paths") {
            caches.push(Value::Map(written));
        }
    }
    if tree.elements().is_empty() || tree.is_map() && tree.entries().is_empty() {
        map.set("cache", Value::List(Vec::new()));
    }
    match caches.len() {
        0 => {}
        1 => map.set("cache", caches.remove(0)),
        // Beside each other, each must be a map.
        _ => {
            let maps = caches.into_iter().map(|cache| match cache {
                Value::Map(map) => Value::Map(map),
                paths => Map::of("paths", paths).into(),
            });
            map.set("cache", Value::Lines(maps.collect()));
        }
    }
}

fn one_cache(draft: &Draft, map: &mut Map, cache: &mut Map, key: &str, value: &Tree) {
    match key {
        "paths" => {
            let paths: Vec<String> = value.texts().iter().map(|path| draft.value(map, "cache", path, &[])).collect();
            cache.set("paths", Value::texts(paths));
        }
        "key" => match value.get("files") {
            Some(files) => {
                cache.set("key", Value::texts(files.texts()));
                if let Some(prefix) = value.get("prefix") {
                    draft.notes.moot(
                        map,
                        "cache.key.prefix",
                        prefix,
                        "a cache is its stage's and its repository's own",
                    );
                }
            }
            None => draft.notes.moot(
                map,
                "cache.key",
                value,
                "a cache is kept by the contents of the files in `key`; without any, its stage has one per branch",
            ),
        },
        "policy" => match value.peek() {
            Some("pull-push") => value.told(),
            Some(word @ ("pull" | "push")) => {
                cache.set("policy", word);
                value.told();
            }
            _ => draft.notes.lost(map, "cache.policy", value, "it is pull, push or both; write one of them"),
        },
        "when" if value.peek() == Some("on_success") => value.told(),
        "untracked" if value.truth() == Some(false) => {}
        "fallback_keys" => draft.notes.lost(
            map,
            "cache.fallback_keys",
            value,
            "the newest cache of the default branch is taken where there is none; see `fallback`",
        ),
        _ => draft.notes.lost(
            map,
            &format!("cache.{key}"),
            value,
            "a cache here has paths, key, fallback and policy; remove it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn the_number_of_the_coverage_is_in_a_group() {
        let check = |body: &str, expect: Option<&str>| assert_eq!(grouped(body).as_deref(), expect, "{body}");
        check(r"Coverage: \d+\.\d+%", Some(r"Coverage: (\d+\.\d+)%"));
        check(r"Coverage: \d+(?:\.\d+)?%", Some(r"Coverage: (\d+(?:\.\d+)?)%"));
        check(r"^\s*Lines:\s*\d+.\d+\%", Some(r"^\s*Lines:\s*(\d+.\d+)\%"));
        check(r"Total: [0-9.]+", Some(r"Total: ([0-9.]+)"));
        check(r"Total: [\d\.]+", Some(r"Total: ([\d\.]+)"));
        check(r"All \d{1,3}%", Some(r"All (\d{1,3})%"));
        check(r"TOTAL.*? (\d+)%", Some(r"TOTAL.*? (\d+)%"));
        check(r"(a|b) (\d+)%", None);
        check(r"covered", None);
        check(r"(?<=x)\d+", None);
    }
}
