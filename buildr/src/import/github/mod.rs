//! A workflow of GitHub Actions: when it runs, what holds for all jobs, and their order. A job is `job`'s, its steps
//! are `steps`', the actions that steps use are `actions`', what stands in a script's quotes is `quotes`'.

mod quotes;
mod expression;
mod docker;
mod actions;
mod steps;
mod job;

use super::conditions::{Condition, none_possible, written};
use super::draft::{Draft, top_when};
use super::notes::NoteKind;
use super::tree::{Tree, What};
use crate::manifest::{Map, Value};

/// What `defaults.run` says, of the workflow or of a job.
#[derive(Debug, Clone, Default)]
struct Defaults {
    shell: Option<String>,
    folder: Option<String>,
}

/// Reads a workflow.
pub(super) fn read(draft: &mut Draft, documents: &[Tree]) {
    let Some(root) = documents.first() else { return };
    if let Some(env) = root.get("env") {
        let mut top = std::mem::take(&mut draft.top);
        let (ready, secrets) = environment(draft, &mut top, env, &[]);
        draft.top = top;
        draft.ready = ready;
        if !secrets.is_empty() {
            draft.top.set("secrets", Value::List(secrets));
        }
    }
    let defaults = root.get("defaults").map(|it| self::defaults(it, Defaults::default())).unwrap_or_default();
    let mut top = std::mem::take(&mut draft.top);
    for (key, value) in root.entries() {
        match key.as_str() {
            "name" => {
                if let Some(name) = value.text() {
                    top.remark(format!("The workflow `{name}`."));
                }
            }
            "on" | "true" => on(draft, &mut top, value),
            "concurrency" => concurrency(draft, &mut top, value, true),
            "permissions" => draft.notes.moot(
                &mut top,
                key,
                value,
                "a build gets no token of the forge; what it may do is what its `secrets` may",
            ),
            "run-name" => draft.notes.moot(&mut top, key, value, "a build is called by its number and its commit"),
            _ => {}
        }
    }
    draft.top = top;
    let Some(jobs) = root.get("jobs") else { return };
    for (id, _) in jobs.entries() {
        draft.name(id);
    }
    for (id, job) in jobs.entries() {
        let mut stage = job::read(draft, id, job, &defaults);
        draft.notes.sweep(&mut stage.map, job);
        draft.stages.push(stage);
    }
    order(draft, jobs);
}

/// Groups by the longest way of needs.
fn order(draft: &mut Draft, jobs: &Tree) {
    let entries = jobs.entries();
    let mut depths = vec![0_usize; entries.len()];
    // As many rounds as jobs settle every order without circles.
    for _ in 0..entries.len().min(100) {
        for (index, (_, job)) in entries.iter().enumerate() {
            let needs = job.get("needs").map(Tree::texts).unwrap_or_default();
            let before = |need: &String| entries.iter().position(|(id, _)| id == need).map(|at| depths[at] + 1);
            depths[index] = needs.iter().filter_map(before).max().unwrap_or(0).min(entries.len());
        }
    }
    let last = depths.iter().max().copied().unwrap_or(0);
    let mut groups = vec![Vec::new(); last + 1];
    for (index, (id, _)) in entries.iter().enumerate() {
        groups[depths[index]].push(draft.name(id));
    }
    draft.groups = groups;
}

fn defaults(tree: &Tree, outer: Defaults) -> Defaults {
    let run = tree.get("run");
    let text = |key: &str| run.and_then(|run| run.get(key)).and_then(Tree::text).map(str::to_owned);
    Defaults { shell: text("shell").or(outer.shell), folder: text("working-directory").or(outer.folder) }
}

/// `env`: what is a secret, and the rest in this language.
fn environment(
    draft: &Draft,
    map: &mut Map,
    tree: &Tree,
    known: &[(String, String)],
) -> (Vec<(String, String)>, Vec<Value>) {
    let mut ready: Vec<(String, String)> = Vec::new();
    let mut secrets = Vec::new();
    for (name, value) in tree.entries() {
        if matches!(value.what, What::Nothing) {
            value.told();
            ready.push((name.clone(), String::new()));
        }
        let Some(text) = value.peek() else { continue };
        if let Some(secret) = expression::secret(text) {
            value.told();
            tell_token(draft, map, secret);
            secrets.push(super::draft::secret(name, secret));
            continue;
        }
        let all: Vec<(String, String)> = known.iter().chain(&ready).cloned().collect();
        let replaced = expression::in_value(text, &all);
        if replaced.unknown.is_empty() {
            value.told();
            ready.push((name.clone(), replaced.text));
        } else {
            let because = "an expression in it has no counterpart; set the variable in the script, or write its value";
            draft.notes.lost(map, &format!("env.{name}"), value, because);
        }
    }
    (ready, secrets)
}

/// The token that GitHub gives to every job.
fn tell_token(draft: &Draft, map: &mut Map, secret: &str) {
    if secret == "GITHUB_TOKEN" {
        let why = "GitHub makes this token for each job, and nobody does here; store one of your own as a secret of this name";
        draft.notes.say(map, NoteKind::Look, "`secrets.GITHUB_TOKEN`", why);
    }
}

fn concurrency(draft: &Draft, map: &mut Map, tree: &Tree, top: bool) {
    let group = tree.get("group").unwrap_or(tree);
    let cancels = tree.get("cancel-in-progress");
    if let Some(text) = group.peek() {
        let by_ref = text.contains("github.ref") || text.contains("github.head_ref");
        let replaced = expression::in_value(text, &draft.ready);
        if top && by_ref && cancels.is_some() {
            draft.notes.moot(
                map,
                "concurrency.group",
                group,
                "newer builds take the place of older ones of the same branch",
            );
        } else if replaced.unknown.is_empty() {
            group.told();
            map.set("concurrency", replaced.text);
        } else {
            draft.notes.lost(
                map,
                "concurrency.group",
                group,
                "an expression in it has no counterpart; write a name under `concurrency`",
            );
        }
    }
    if let Some(cancels) = cancels {
        match cancels.truth() {
            Some(true) if top => map.set("cancel_superseded", Value::Truth(true)),
            Some(false) => {}
            _ if top => {
                map.set("cancel_superseded", Value::Truth(true));
                draft.notes.look(
                    map,
                    "concurrency.cancel-in-progress",
                    cancels,
                    "a newer build takes the place of an older one in any case",
                );
            }
            _ => draft.notes.lost(
                map,
                "concurrency.cancel-in-progress",
                cancels,
                "a newer build ends older ones as a whole (`cancel_superseded` at the top), not one stage",
            ),
        }
    }
}

/// `on`: when the workflow runs.
fn on(draft: &mut Draft, map: &mut Map, tree: &Tree) {
    let mut conditions = Vec::new();
    if !tree.is_map() {
        for name in tree.elements() {
            let events = name.peek().map(expression::event).unwrap_or_default();
            match events {
                [] => draft.notes.lost(map, "on", name, "there is no such event here; see `when`"),
                events => {
                    name.told();
                    conditions.push(Condition::of("event", events.iter().copied()));
                }
            }
        }
    }
    for (name, value) in tree.entries() {
        match name.as_str() {
            "push" | "pull_request" | "pull_request_target" => pushed(draft, map, name, value, &mut conditions),
            "schedule" => {
                conditions.push(Condition::of("event", ["schedule"]));
                draft.notes.lost(
                    map,
                    "on.schedule",
                    value,
                    "the farm keeps the times of scheduled builds; set them there",
                );
            }
            "workflow_dispatch" => {
                conditions.push(Condition::of("event", ["manual"]));
                value.seen_if_empty();
                if let Some(inputs) = value.get("inputs") {
                    set_inputs(draft, map, inputs);
                }
            }
            _ => {
                let events = expression::event(name);
                if !events.is_empty() {
                    conditions.push(Condition::of("event", events.iter().copied()));
                }
                let because = match events {
                    [] => "there is no such event here; see `when`",
                    _ => "the nearest event is in `when`; look whether it is what you mean",
                };
                draft.notes.lost(map, &format!("on.{name}"), value, because);
            }
        }
    }
    if conditions.is_empty() && !matches!(tree.what, What::Nothing) {
        map.remark("none of the events of `on` is known here: it runs only in builds that a person starts");
        conditions.push(Condition::by_hand());
    }
    top_when(map, conditions);
}

fn pushed(draft: &Draft, map: &mut Map, name: &str, tree: &Tree, conditions: &mut Vec<Condition>) {
    let is_push = name == "push";
    let negated = |key: &str| {
        tree.get(key).map(Tree::texts).unwrap_or_default().into_iter().map(|one| format!("!{one}")).collect::<Vec<_>>()
    };
    let plain = |key: &str| tree.get(key).map(Tree::texts).unwrap_or_default();
    tree.seen_if_empty();
    let branches: Vec<String> = plain("branches").into_iter().chain(negated("branches-ignore")).collect();
    let tags: Vec<String> = plain("tags").into_iter().chain(negated("tags-ignore")).collect();
    let paths: Vec<String> = plain("paths").into_iter().chain(negated("paths-ignore")).collect();
    let mut made = Vec::new();
    if !branches.is_empty() || tags.is_empty() {
        let both: &[&str] = if branches.is_empty() { &["push", "tag"] } else { &["push"] };
        let mut condition =
            Condition::of("event", if is_push { both.iter().copied() } else { ["pull_request"].iter().copied() });
        condition.require("branch", branches);
        made.push(condition);
    }
    if !tags.is_empty() {
        let mut condition = Condition::of("event", ["tag"]);
        condition.require("tag", tags);
        made.push(condition);
    }
    if let Some(types) = tree.get("types") {
        const USUAL: [&str; 3] = ["opened", "synchronize", "reopened"];
        if !is_push && !types.elements().iter().filter_map(Tree::peek).any(|one| USUAL.contains(&one)) {
            let because = "a pull request is built when it is opened and when it gets new commits, and for nothing else; what is meant runs only in builds that a person starts";
            draft.notes.lost(map, &format!("on.{name}.types"), types, because);
            conditions.push(Condition::by_hand());
            return;
        }
        draft.notes.look(
            map,
            &format!("on.{name}.types"),
            types,
            "a pull request is built when it is opened and when it gets new commits",
        );
    }
    for mut condition in made {
        condition.require("path", paths.clone());
        conditions.push(condition);
    }
    if name == "pull_request_target" {
        map.remark("look at: `pull_request_target`: a build of a fork's pull request gets no secrets here");
    }
}

fn set_inputs(draft: &Draft, map: &mut Map, tree: &Tree) {
    let mut inputs = Map::default();
    for (name, input) in tree.entries() {
        let mut written = Map::default();
        input.seen_if_empty();
        for (key, value) in input.entries() {
            match key.as_str() {
                "options" => written.set("choices", Value::texts(value.texts())),
                "default" | "description" => {
                    if let Some(text) = value.text() {
                        written.set(key, text);
                    }
                }
                "type" if value.peek() == Some("boolean") => {
                    value.told();
                    written.set("choices", Value::texts(["true", "false"]));
                }
                "type" | "required" => draft.notes.moot(
                    map,
                    &format!("inputs.{name}.{key}"),
                    value,
                    "an input is a text, and one without a default is asked for",
                ),
                _ => {}
            }
        }
        inputs.set(name, written);
    }
    if !inputs.is_empty() {
        map.set("inputs", inputs);
    }
}

/// The conditions of an `if`, told when they cannot be carried over.
fn when(draft: &Draft, map: &mut Map, tree: &Tree) -> Vec<Condition> {
    let meant = tree.peek().map(|text| expression::condition(text).and_then(|condition| condition.when()));
    match meant {
        Some(Ok(conditions)) if !none_possible(&conditions) => {
            tree.told();
            conditions
        }
        _ => {
            let because = "this expression has no counterpart, so it runs only in builds that a person starts; write it with branch, tag, event, path or `if`";
            draft.notes.lost(map, "if", tree, because);
            vec![Condition::by_hand()]
        }
    }
}

/// Sets `when` of a stage.
fn set_when(map: &mut Map, conditions: &[Condition]) {
    if let Some(when) = written(conditions) {
        map.set("when", when);
    }
}
