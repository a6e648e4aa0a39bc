//! When a job of GitLab runs: `rules`, `only` and `except`.

use super::super::conditions::{Condition, both, glob};
use super::super::draft::Draft;
use super::super::tree::Tree;
use super::expression::{Meaning, meaning};
use super::tell_default_branch;
use crate::manifest::Map;

/// What the rules of a job say.
#[derive(Debug, Default)]
pub(super) struct Ruled {
    /// One of these must hold; empty when nothing is asked for.
    pub(super) conditions: Vec<Condition>,
    /// A person must release it.
    pub(super) manual: bool,
    /// It may fail.
    pub(super) may_fail: bool,
}

/// What `rules` say: the first that matches counts.
pub(super) fn rules(draft: &Draft, map: &mut Map, tree: &Tree) -> Ruled {
    let mut ruled = Ruled::default();
    let mut not = Condition::default();
    let mut kinds = (false, false);
    for rule in tree.elements() {
        let Some(conditions) = matched(draft, map, rule) else { continue };
        let word = rule.get("when").and_then(Tree::text).unwrap_or("on_success").to_owned();
        if word == "never" {
            exclude(draft, map, rule, &conditions, &mut not);
            continue;
        }
        let status: &[&str] = match word.as_str() {
            "always" => &["success", "failure"],
            "on_failure" => &["failure"],
            _ => &[],
        };
        kinds = (kinds.0 || word == "manual", kinds.1 || word != "manual");
        if !["on_success", "always", "on_failure", "manual"].contains(&word.as_str()) {
            draft.notes.lost(map, "rules.when", rule, "stages do not wait for a time; this one begins at once");
        }
        ruled.may_fail |= rule.get("allow_failure").and_then(Tree::truth) == Some(true);
        for condition in conditions {
            let mut condition = condition.and(&not);
            condition.require("status", status.iter().map(|status| (*status).to_owned()).collect());
            ruled.conditions.push(condition);
        }
    }
    if ruled.conditions.is_empty() && !tree.elements().is_empty() {
        // What cannot be said must not run by itself.
        map.remark("none of the rules could be carried over: it runs only in builds that a person starts");
        ruled.conditions.push(Condition::of("event", ["manual"]));
    }
    ruled.manual = kinds.0;
    if kinds == (true, true) {
        map.remark("look at: some of the rules ask a person and others do not; here a person is always asked");
    }
    if ruled.conditions.iter().any(Condition::is_empty) {
        ruled.conditions.clear();
    }
    ruled
}

/// When a rule matches; None when that cannot be said, which is told.
fn matched(draft: &Draft, map: &mut Map, rule: &Tree) -> Option<Vec<Condition>> {
    let mut conditions = vec![Condition::default()];
    if let Some(expression) = rule.get("if") {
        let known = |name: &str| draft.variables.iter().any(|(known, _)| known == name);
        match expression.peek().map(|text| meaning(text, &known)) {
            Some(Ok(Meaning { conditions: meant, default_branch })) => {
                expression.told();
                if default_branch {
                    tell_default_branch(draft, map);
                }
                conditions = meant;
            }
            _ => {
                let because =
                    "this expression has no counterpart in `when`; write it with branch, tag, event, path or `if`";
                draft.notes.lost(map, "rules", rule, because);
                return None;
            }
        }
    }
    for (key, value) in rule.entries() {
        match key.as_str() {
            "changes" => {
                let paths = value.get("paths").unwrap_or(value).texts();
                conditions = both(&conditions, &[Condition::of("path", paths)]);
                if let Some(base) = value.get("compare_to") {
                    draft.notes.moot(
                        map,
                        "rules.changes.compare_to",
                        base,
                        "paths are compared with the last green build, or with the target of a pull request",
                    );
                }
            }
            "exists" => {
                let because = "`when` does not look for files; test for it in the script, or remove it";
                draft.notes.lost(map, "rules.exists", value, because);
            }
            "variables" | "needs" | "interruptible" | "start_in" => {
                let because = "a condition changes nothing else here; write two stages, each with its own `when`";
                draft.notes.lost(map, &format!("rules.{key}"), value, because);
            }
            _ => {}
        }
    }
    Some(conditions)
}

/// Takes what a `when: never` matches out of all rules after it.
fn exclude(draft: &Draft, map: &mut Map, rule: &Tree, conditions: &[Condition], not: &mut Condition) {
    if conditions.iter().all(Condition::is_empty) {
        return;
    }
    let turned: Option<Vec<Condition>> = conditions.iter().map(Condition::negated).collect();
    match turned {
        Some(turned) => *not = turned.iter().fold(not.clone(), Condition::and),
        None => draft.notes.lost(
            map,
            "rules",
            rule,
            "`when` cannot say that this does not hold; write the opposite in `if`",
        ),
    }
}

/// What `only` and `except` say.
pub(super) fn only_except(draft: &Draft, map: &mut Map, only: Option<&Tree>, except: Option<&Tree>) -> Vec<Condition> {
    let mut conditions = only.map(|only| sides(draft, map, "only", only)).unwrap_or_default();
    if only.is_some() && conditions.is_empty() {
        conditions.push(Condition::of("event", ["manual"]));
        map.remark("nothing of `only` could be carried over: it runs only in builds that a person starts");
    }
    for refused in except.map(|except| sides(draft, map, "except", except)).unwrap_or_default() {
        if conditions.is_empty() {
            conditions.push(Condition::default());
        }
        match refused.negated() {
            Some(not) => conditions = conditions.into_iter().map(|one| one.and(&not)).collect(),
            None => map.remark("look at: `except` holds what `when` cannot say in one map; write it in `if`"),
        }
    }
    conditions
}

fn sides(draft: &Draft, map: &mut Map, key: &str, tree: &Tree) -> Vec<Condition> {
    if !tree.is_map() {
        return refs(draft, map, key, tree);
    }
    let mut conditions = Vec::new();
    for (part, value) in tree.entries() {
        match part.as_str() {
            "refs" => conditions = both(&conditions, &refs(draft, map, key, value)),
            "changes" => conditions = both(&conditions, &[Condition::of("path", value.texts())]),
            "variables" => {
                let known = |name: &str| draft.variables.iter().any(|(known, _)| known == name);
                let mut any = Vec::new();
                for expression in value.elements() {
                    match expression.peek().map(|text| meaning(text, &known)) {
                        Some(Ok(meant)) => {
                            expression.told();
                            any.extend(meant.conditions);
                        }
                        _ => draft.notes.lost(
                            map,
                            &format!("{key}.variables"),
                            expression,
                            "this expression has no counterpart in `when`; write it in `if`",
                        ),
                    }
                }
                conditions = both(&conditions, &any);
            }
            _ => draft.notes.lost(map, &format!("{key}.{part}"), value, "`when` has nothing of the kind; remove it"),
        }
    }
    conditions
}

fn refs(draft: &Draft, map: &mut Map, key: &str, tree: &Tree) -> Vec<Condition> {
    let mut conditions = Vec::new();
    for name in tree.elements() {
        let Some(text) = name.peek() else { continue };
        let condition = match text {
            // Everything but branches: tags.
            "branches" if key == "except" => Some(Condition::of("event", ["!tag"])),
            "branches" => Some(Condition::of("branch", ["**"])),
            "tags" => Some(Condition::of("event", ["tag"])),
            "merge_requests" | "external_pull_requests" => Some(Condition::of("event", ["pull_request"])),
            "pushes" => Some(Condition::of("event", ["push"])),
            "schedules" => Some(Condition::of("event", ["schedule"])),
            "web" | "api" | "chat" => Some(Condition::of("event", ["manual"])),
            "triggers" | "pipelines" | "external" => Some(Condition::of("event", ["upstream"])),
            text if text.starts_with('/') => regex(text),
            text if text.contains('@') => None,
            text => Some(Condition::of("branch", [text])),
        };
        match condition {
            Some(condition) => {
                name.told();
                conditions.push(condition);
            }
            None => draft.notes.lost(
                map,
                key,
                name,
                "`when` has nothing of the kind; write a glob over branches or tags, or an `if`",
            ),
        }
    }
    conditions
}

/// `/^release-.*$/`, as a condition on the branch.
fn regex(text: &str) -> Option<Condition> {
    let body = text.strip_prefix('/')?.strip_suffix('/')?;
    Some(match glob(body) {
        Some(glob) => Condition::of("branch", [glob]),
        None => Condition::expression(format!("branch.matches({body:?})")),
    })
}
