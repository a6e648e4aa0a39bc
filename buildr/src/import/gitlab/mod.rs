//! `.gitlab-ci.yml`: what holds for all jobs, templates, and the order of the jobs. A job is `job`'s, when it runs is
//! `rules`', what runs after what is `order`'s.

mod expression;
mod artifacts;
mod image;
mod job;
mod order;
mod rules;

use super::draft::{Draft, top_when};
use super::notes::NoteKind;
use super::parts::{by_table, variables};
use super::tree::{Tree, What};
use crate::manifest::{Map, Value};

/// Keys of the top level that are no jobs.
const GLOBAL: [&str; 12] = [
    "image",
    "services",
    "before_script",
    "after_script",
    "cache",
    "variables",
    "stages",
    "default",
    "workflow",
    "include",
    "spec",
    "types",
];

/// Keys of `default` that jobs take over.
const INHERITED: [&str; 12] = [
    "before_script",
    "after_script",
    "artifacts",
    "cache",
    "hooks",
    "id_tokens",
    "identity",
    "image",
    "interruptible",
    "retry",
    "services",
    "tags",
];

/// Keys of `default` that stand at the top level here too.
const SHARED: [&str; 2] = ["cache", "services"];

/// How far templates may extend others, as GitLab has it.
const DEEPEST: usize = 11;

/// Reads a file.
pub(super) fn read(draft: &mut Draft, documents: &[Tree]) {
    let Some(root) = documents.last() else { return };
    let jobs: Vec<(String, Tree, Vec<String>)> = root
        .entries()
        .iter()
        .filter(|(name, job)| !name.starts_with('.') && !GLOBAL.contains(&name.as_str()) && job.is_map())
        .map(|(name, job)| (name.clone(), resolved(root, job, 0), absent(root, job, 0)))
        .collect();
    everywhere(draft, root);
    let defaults = defaults(root);
    let mut top = std::mem::take(&mut draft.top);
    for (key, value) in defaults.iter().filter(|(key, _)| SHARED.contains(&key.as_str())) {
        image::shared(draft, &mut top, key, value);
    }
    draft.top = top;
    let order = order::stage_order(root);
    let mut groups: Vec<Vec<String>> = vec![Vec::new(); order.len()];
    // Names first, so that whoever needs a job finds it under its own name.
    for (name, ..) in &jobs {
        draft.name(name);
    }
    let mut optional = Vec::new();
    for (name, job, absent) in &jobs {
        let job = with_defaults(job, &defaults);
        if job.get("when").and_then(Tree::peek) == Some("never") || job.get("rules").is_some_and(rules::never) {
            draft.notes.lost(&mut draft.top, name, &job, "it says `when: never`, so it never runs");
            continue;
        }
        let phase = job.get("stage").and_then(Tree::text).unwrap_or("test").to_owned();
        let place = order.iter().position(|known| *known == phase);
        let mut stage = job::read(draft, name, &job, absent);
        if place.is_none() {
            stage
                .map
                .remark(format!("the stage `{phase}` of GitLab CI is not listed in its `stages`; this one runs last"));
        }
        for key in SHARED {
            // What all stages have, and this one does not take over.
            if draft.top.has(key) && !stage.map.has(key) && !takes_over(&job, key) {
                stage.map.set(key, if key == "cache" { Value::List(Vec::new()) } else { Value::from(Map::default()) });
            }
        }
        draft.notes.sweep(&mut stage.map, &job);
        let group = place.unwrap_or_else(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        if order::is_optional(&job) {
            optional.push(stage.name.clone());
        }
        groups[group].push(stage.name.clone());
        draft.stages.push(stage);
    }
    draft.groups = groups;
    order::name_groups(draft, &order);
    order::pass_by(draft, &optional);
    tell_unused(draft, root, documents);
}

/// Tells what no job took over, and what only a component has.
fn tell_unused(draft: &mut Draft, root: &Tree, documents: &[Tree]) {
    // A component's file begins with a document of its own, which holds `spec`.
    for spec in documents.iter().rev().skip(1).filter_map(|header| header.get("spec")) {
        let because =
            "the inputs of a component are set by its users; write their values where `$[[ inputs.x ]]` stands";
        draft.notes.lost(&mut draft.top, "spec", spec, because);
    }
    for (name, template) in root.entries().iter().filter(|(name, _)| name.starts_with('.')) {
        let mut unseen = Vec::new();
        template.unseen(name, &mut unseen);
        for (way, part) in unseen {
            let because = "no job takes it over; remove it, or write it where it is meant";
            draft.notes.lost(&mut draft.top, &way, part, because);
        }
    }
}

/// What stands at the top level, jobs aside.
fn everywhere(draft: &mut Draft, root: &Tree) {
    for (key, value) in root.entries() {
        match key.as_str() {
            "variables" => global_variables(draft, value),
            "workflow" => workflow(draft, value),
            "include" => {
                let because = "what it brings in is in GitLab's language too; run `buildr import` on that file, and write `include: [PATH]` for what it gives";
                draft.notes.lost(&mut draft.top, key, value, because);
            }
            "spec" => draft.notes.lost(
                &mut draft.top,
                key,
                value,
                "there are no inputs of that kind here; write their values",
            ),
            // A job's last place to look them up: what no job takes is told at the end.
            name if name.starts_with('.') || GLOBAL.contains(&name) => {}
            _ if value.is_map() => {}
            _ => draft.notes.lost(
                &mut draft.top,
                key,
                value,
                "it is neither a job nor a key that `buildr import` knows; write by hand what it is for",
            ),
        }
    }
    let image = root.get("image").or_else(|| root.get("default")?.get("image"));
    if let Some(image) = image {
        let mut top = std::mem::take(&mut draft.top);
        if let Some(image) = image::image(draft, &mut top, image, &[]) {
            top.set("image", image);
        }
        draft.top = top;
    }
}

fn global_variables(draft: &mut Draft, tree: &Tree) {
    draft.variables.extend(variables(tree));
    let mut inputs = Map::default();
    for (name, value) in tree.entries().iter().filter(|(_, value)| value.is_map()) {
        let mut input = Map::default();
        if let Some(options) = value.get("options") {
            input.set("choices", Value::texts(options.texts()));
        }
        let given = value.get("value").and_then(Tree::text);
        if let Some(given) = given {
            input.set("default", given);
        }
        if let Some(text) = value.get("description").and_then(Tree::text) {
            input.set("description", text);
        }
        if let Some(expand) = value.get("expand") {
            draft.notes.lost(
                &mut draft.top,
                &format!("variables.{name}.expand"),
                expand,
                "values are not expanded by name here; look at the value",
            );
        }
        match given {
            Some(given) if !input.has("choices") && !input.has("description") => {
                draft.variables.push((name.clone(), given.to_owned()));
            }
            _ => inputs.set(name, input),
        }
    }
    if !inputs.is_empty() {
        draft.top.set("inputs", inputs);
    }
}

fn workflow(draft: &mut Draft, tree: &Tree) {
    let mut top = std::mem::take(&mut draft.top);
    for (key, value) in tree.entries() {
        match key.as_str() {
            "rules" => {
                let mut ruled = rules::rules(draft, &mut top, value);
                if ruled.held.is_some() {
                    ruled.by_hand(
                        &mut top,
                        "look at: a rule that keeps builds from being made could not be carried over",
                    );
                }
                top_when(&mut top, ruled.conditions);
            }
            "auto_cancel" => {
                let on_commit = value.get("on_new_commit");
                if on_commit.and_then(Tree::peek).is_some_and(|word| matches!(word, "interruptible" | "conservative")) {
                    let word = on_commit.and_then(Tree::text).unwrap_or_default();
                    top.remark(format!(
                        "look at: `auto_cancel` was `{word}`; here a newer build takes the place of an older one"
                    ));
                    top.set("cancel_superseded", Value::Truth(true));
                }
                let done = top.has("cancel_superseded");
                for (name, part) in value.entries().iter().filter(|(name, _)| name != "on_new_commit" || !done) {
                    draft.notes.lost(
                        &mut top,
                        &format!("workflow.auto_cancel.{name}"),
                        part,
                        "builds are cancelled only by newer ones, and by people",
                    );
                }
            }
            _ => {
                let table = [("name", "a build is called by its number and its commit")];
                by_table(&table, &draft.notes, &mut top, key, value);
            }
        }
    }
    draft.top = top;
}

/// What jobs take over that do not say it themselves. `default` wins over the older form at the top level.
fn defaults(root: &Tree) -> Vec<(String, Tree)> {
    let mut found: Vec<(String, Tree)> = Vec::new();
    for holder in [root.get("default"), Some(root)].into_iter().flatten() {
        for (key, value) in holder.entries() {
            let fits = INHERITED.contains(&key.as_str()) || holder.get("stages").is_none() && key == "timeout";
            if fits && key != "image" && !found.iter().any(|(known, _)| known == key) {
                found.push((key.clone(), value.clone()));
            }
        }
    }
    found
}

/// Whether a job takes over a key of the defaults.
fn takes_over(job: &Tree, key: &str) -> bool {
    match job.get("inherit").and_then(|inherit| inherit.get("default")) {
        None => true,
        Some(choice) if choice.is_list() => choice.texts().iter().any(|name| name == key),
        Some(choice) => choice.truth() != Some(false),
    }
}

fn with_defaults(job: &Tree, defaults: &[(String, Tree)]) -> Tree {
    let mut entries = job.entries().to_vec();
    for (key, value) in defaults {
        if !entries.iter().any(|(known, _)| known == key) && takes_over(job, key) && !SHARED.contains(&key.as_str()) {
            entries.push((key.clone(), value.clone()));
        }
    }
    job.with_entries(entries)
}

/// What a job takes over, itself or by its templates, that is not in this file.
fn absent(root: &Tree, job: &Tree, depth: usize) -> Vec<String> {
    let parents = job.get("extends").map(Tree::texts).unwrap_or_default();
    let mut absent = Vec::new();
    for parent in parents.into_iter().filter(|_| depth < DEEPEST) {
        match root.get(&parent) {
            Some(template) => absent.extend(self::absent(root, template, depth + 1)),
            None => absent.push(parent),
        }
    }
    absent
}

/// A job with what its `extends` bring in and its `!reference`s stand for.
fn resolved(root: &Tree, job: &Tree, depth: usize) -> Tree {
    let mut whole = dereferenced(root, job, 0);
    let parents = job.get("extends").map(Tree::texts).unwrap_or_default();
    // Later ones win, the job itself over all.
    for parent in parents.iter().rev().filter(|_| depth < DEEPEST) {
        if let Some(parent) = root.get(parent) {
            whole = merged(&resolved(root, parent, depth + 1), &whole);
        }
    }
    whole
}

/// The second over the first: maps are joined, all else is replaced.
fn merged(under: &Tree, over: &Tree) -> Tree {
    if !under.is_map() || !over.is_map() {
        return over.clone();
    }
    let mut entries: Vec<(String, Tree)> = Vec::new();
    for (key, value) in under.entries() {
        match over.get(key) {
            Some(newer) => {
                // What is replaced was never meant for this job.
                if key == "extends" {
                    value.told();
                }
                entries.push((key.clone(), merged(value, newer)));
            }
            None => entries.push((key.clone(), value.clone())),
        }
    }
    entries.extend(over.entries().iter().filter(|(key, _)| under.get(key).is_none()).cloned());
    over.with_entries(entries)
}

/// A value in which `!reference [job, key]` is what stands there.
fn dereferenced(root: &Tree, tree: &Tree, depth: usize) -> Tree {
    const DEEPEST: usize = 10;
    let mut copy = tree.clone();
    match &mut copy.what {
        What::Reference(_) if depth < DEEPEST => {
            let target = tree.reference().iter().try_fold(root, |at, key| at.get(key));
            match target {
                Some(target) => {
                    tree.told();
                    dereferenced(root, target, depth + 1)
                }
                None => copy,
            }
        }
        What::List(elements) => {
            for element in elements.iter_mut() {
                *element = dereferenced(root, element, depth);
            }
            copy
        }
        What::Map(entries) => {
            for (_, value) in entries.iter_mut() {
                *value = dereferenced(root, value, depth);
            }
            copy
        }
        _ => copy,
    }
}

/// Says that the default branch is taken for `main`.
fn tell_default_branch(draft: &Draft, map: &mut Map) {
    let why = "it is taken for `main`; write another name where the default branch has one";
    draft.notes.say(map, NoteKind::Look, "`$CI_DEFAULT_BRANCH`", why);
}
