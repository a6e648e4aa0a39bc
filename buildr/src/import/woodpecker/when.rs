//! When a pipeline or a step of Woodpecker or Drone runs.

use super::super::conditions::Condition;
use super::super::draft::Draft;
use super::super::tree::Tree;
use crate::manifest::Map;

/// What `when` or Drone's `trigger` says: a map is AND, a list of maps is OR. One of which something cannot be said
/// holds only in builds that a person starts.
pub(super) fn conditions(draft: &Draft, map: &mut Map, name: &str, tree: &Tree) -> Vec<Condition> {
    let mut all = Vec::new();
    for one in tree.elements() {
        let mut condition = Condition::default();
        let mut said = one.is_map();
        for (key, value) in one.entries() {
            said &= keyed(draft, map, name, key, value, &mut condition).is_some();
        }
        if !said {
            condition.leave_to_a_person();
        } else if condition.only_excludes("branch") && condition.is_impossible() {
            // What is left is a tag, which is of no branch that is left out.
            if let Some(branch) = one.get("branch") {
                draft.notes.moot(map, &format!("{name}.branch"), branch, "a tag is of no branch");
            }
        }
        all.extend(alternatives(condition));
    }
    // One that asks for nothing always holds.
    if all.iter().any(Condition::is_empty) { Vec::new() } else { all }
}

/// Old pipelines: `branches: main`, or with `include` and `exclude`.
pub(super) fn branches(draft: &Draft, map: &mut Map, tree: &Tree) -> Vec<Condition> {
    let mut condition = Condition::default();
    if keyed(draft, map, "branches", "branch", tree, &mut condition).is_none() {
        condition.leave_to_a_person();
    }
    alternatives(condition)
}

/// As `when` says it here: there a branch is the one that a pull request is to go into too, and a tag is of no branch
/// that is left out.
fn alternatives(condition: Condition) -> Vec<Condition> {
    if !condition.only_excludes("branch") {
        return condition.with_pull_requests();
    }
    let mut of_tags = condition.without("branch");
    of_tags.require("event", vec!["tag".to_owned()]);
    let mut all = condition.clone().with_pull_requests();
    all.push(of_tags);
    all.retain(|one| !one.is_impossible());
    if all.is_empty() { vec![condition] } else { all }
}

/// Adds what a key asks for; None when that cannot be said, which is told.
fn keyed(draft: &Draft, map: &mut Map, name: &str, key: &str, value: &Tree, condition: &mut Condition) -> Option<()> {
    match key {
        "branch" | "ref" | "platform" | "path" => condition.require(key, patterns(draft, map, name, key, value)?),
        "status" => {
            let states = patterns(draft, map, name, key, value)?;
            condition.require("status", states.iter().map(|state| state.replace("killed", "canceled")).collect());
        }
        "event" => condition.require("event", events(draft, map, name, value)?),
        "matrix" => {
            for (axis, wanted) in value.entries() {
                condition.require_expression(format!("matrix.{axis} == {:?}", wanted.text()?));
            }
        }
        "cron" => {
            condition.require("event", vec!["schedule".to_owned()]);
            draft.notes.look(map, &format!("{name}.cron"), value, "any schedule counts here, whatever its name");
        }
        "local" if value.truth() == Some(false) => condition.require("event", vec!["!local".to_owned()]),
        "local" => draft.notes.moot(
            map,
            &format!("{name}.local"),
            value,
            "a build on a laptop has the event `local`; write it under `event`",
        ),
        _ => {
            let because = match key {
                "evaluate" => {
                    "the expression has another language here, so it runs only in builds that a person starts; write it under `if`"
                }
                _ => {
                    "`when` has nothing of the kind, so it runs only in builds that a person starts; write it with branch, tag, event, path or `if`"
                }
            };
            draft.notes.lost(map, &format!("{name}.{key}"), value, because);
            return None;
        }
    }
    Some(())
}

/// The events that are asked for; None when none of those is known here.
fn events(draft: &Draft, map: &mut Map, name: &str, tree: &Tree) -> Option<Vec<String>> {
    let key = format!("{name}.event");
    let mut events = Vec::new();
    let mut wanted = false;
    for (not, event) in signed(tree)? {
        let text = event.peek()?;
        let (not, word) = text.strip_prefix('!').map_or((not, text), |word| (true, word));
        wanted |= !not;
        let own = match word {
            "cron" => "schedule",
            "custom" => "manual",
            "push" | "pull_request" | "tag" | "manual" => word,
            "promote" | "deployment" | "rollback" => {
                draft.notes.look(map, &key, event, "it is not known here; a build that a person starts is the nearest");
                "manual"
            }
            "release" if !not => {
                draft.notes.look(map, &key, event, "it is not known here; a tag is the nearest");
                "tag"
            }
            _ if not => {
                draft.notes.moot(map, &key, event, "there is no such event here, so nothing is to be left out");
                continue;
            }
            _ => {
                draft.notes.lost(map, &key, event, "there is no such event here; see `when`");
                continue;
            }
        };
        event.told();
        let own = format!("{}{own}", if not { "!" } else { "" });
        if !events.contains(&own) {
            events.push(own);
        }
    }
    (!wanted || events.iter().any(|event| !event.starts_with('!'))).then_some(events)
}

/// The elements of a key, each with whether it is to be left out; None where there is more than `include` and `exclude`.
fn signed(tree: &Tree) -> Option<Vec<(bool, &Tree)>> {
    if !tree.is_map() {
        return Some(tree.elements().iter().map(|one| (false, one)).collect());
    }
    let mut all = Vec::new();
    for (part, value) in tree.entries() {
        let not = match part.as_str() {
            "include" => false,
            "exclude" => true,
            _ => return None,
        };
        all.extend(value.elements().iter().map(|one| (not, one)));
    }
    Some(all)
}

/// The patterns of a key: a text, a list, or `include` and `exclude`. None when they cannot be said.
fn patterns(draft: &Draft, map: &mut Map, name: &str, key: &str, tree: &Tree) -> Option<Vec<String>> {
    if !tree.is_map() {
        let patterns: Vec<String> = tree.texts().iter().map(|text| pattern(map, text)).collect();
        return (!patterns.is_empty() || tree.elements().is_empty()).then_some(patterns);
    }
    let mut patterns = Vec::new();
    let mut said = true;
    for (part, value) in tree.entries() {
        match part.as_str() {
            "include" => patterns.extend(value.texts().iter().map(|one| pattern(map, one))),
            "exclude" => patterns.extend(value.texts().iter().map(|one| format!("!{}", pattern(map, one)))),
            _ => {
                said &= key == "path";
                draft.notes.lost(
                    map,
                    &format!("{name}.{key}.{part}"),
                    value,
                    "paths are compared with the last green build, and where that is not known the stage runs",
                );
            }
        }
    }
    (said && !patterns.is_empty()).then_some(patterns)
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
