//! When a pipeline or a step of Woodpecker or Drone runs.

use super::super::conditions::Condition;
use super::super::draft::Draft;
use super::super::tree::Tree;
use crate::manifest::Map;

/// What `when` or Drone's `trigger` says: a map is AND, a list of maps is OR.
pub(super) fn conditions(draft: &Draft, map: &mut Map, name: &str, tree: &Tree) -> Vec<Condition> {
    let mut all = Vec::new();
    for one in tree.elements() {
        let mut condition = Condition::default();
        for (key, value) in one.entries() {
            keyed(draft, map, name, key, value, &mut condition);
        }
        all.push(condition);
    }
    // One that asks for nothing always holds.
    if all.iter().any(Condition::is_empty) { Vec::new() } else { all }
}

/// Old pipelines: `branches: main`, or with `include` and `exclude`.
pub(super) fn branches(draft: &Draft, map: &mut Map, tree: &Tree) -> Vec<Condition> {
    let mut condition = Condition::default();
    keyed(draft, map, "branches", "branch", tree, &mut condition);
    vec![condition]
}

fn keyed(draft: &Draft, map: &mut Map, name: &str, key: &str, value: &Tree, condition: &mut Condition) {
    match key {
        "branch" | "ref" | "platform" => condition.require(key, patterns(draft, map, name, key, value)),
        "path" => condition.require("path", patterns(draft, map, name, key, value)),
        "status" => {
            let states = patterns(draft, map, name, key, value);
            condition.require("status", states.iter().map(|state| state.replace("killed", "canceled")).collect());
        }
        "event" => {
            let mut events = Vec::new();
            for event in patterns(draft, map, name, key, value) {
                let (not, word) = event.strip_prefix('!').map_or(("", event.as_str()), |word| ("!", word));
                let own = match word {
                    "cron" => "schedule",
                    "custom" => "manual",
                    "push" | "pull_request" | "tag" | "manual" => word,
                    "release" | "promote" | "deployment" | "rollback" => {
                        map.remark(format!("look at: the event `{word}` is not known here; a tag is the nearest"));
                        "tag"
                    }
                    _ => {
                        map.remark(format!("not carried over: `{name}.event: {word}`, because there is no such event here; it is left out"));
                        continue;
                    }
                };
                events.push(format!("{not}{own}"));
            }
            condition.require("event", events);
        }
        "matrix" => {
            for (axis, wanted) in value.entries() {
                if let Some(text) = wanted.text() {
                    condition.require_expression(format!("matrix.{axis} == {text:?}"));
                }
            }
        }
        "cron" => {
            condition.require("event", vec!["schedule".to_owned()]);
            draft.notes.look(map, &format!("{name}.cron"), value, "any schedule counts here, whatever its name");
        }
        "local" => draft.notes.moot(
            map,
            &format!("{name}.local"),
            value,
            "a build on a laptop has the event `local`; write it under `event`",
        ),
        "evaluate" => {
            condition.require("event", vec!["manual".to_owned()]);
            let because = "the expression has another language here, so it runs only in builds that a person starts; write it under `if`";
            draft.notes.lost(map, &format!("{name}.evaluate"), value, because);
        }
        _ => draft.notes.lost(
            map,
            &format!("{name}.{key}"),
            value,
            "`when` has nothing of the kind; write it with branch, tag, event, path or `if`",
        ),
    }
}

/// The patterns of a key: a text, a list, or `include` and `exclude`.
fn patterns(draft: &Draft, map: &mut Map, name: &str, key: &str, tree: &Tree) -> Vec<String> {
    if !tree.is_map() {
        return tree.texts().iter().map(|text| pattern(map, text)).collect();
    }
    let mut patterns = Vec::new();
    for (part, value) in tree.entries() {
        match part.as_str() {
            "include" => patterns.extend(value.texts().iter().map(|one| pattern(map, one))),
            "exclude" => patterns.extend(value.texts().iter().map(|one| format!("!{}", pattern(map, one)))),
            _ => draft.notes.lost(
                map,
                &format!("{name}.{key}.{part}"),
                value,
                "paths are compared with the last green build, and where that is not known the stage runs",
            ),
        }
    }
    patterns
}

/// A pattern in which the default branch has a name.
fn pattern(map: &mut Map, text: &str) -> String {
    let names = ["${CI_REPO_DEFAULT_BRANCH}", "$CI_REPO_DEFAULT_BRANCH", "${DRONE_REPO_BRANCH}", "$DRONE_REPO_BRANCH"];
    let found = names.into_iter().find(|name| text.contains(name));
    found.map_or_else(
        || text.to_owned(),
        |name| {
            map.remark(format!(
                "look at: `{name}` is taken for `main`; write another name where the default branch has one"
            ));
            text.replace(name, "main")
        },
    )
}
