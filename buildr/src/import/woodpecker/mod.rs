//! `.woodpecker.yml` and `.drone.yml`, which are of one family: what holds for a pipeline, and the order of its steps.
//! A step is `step`'s, when something runs is `when`'s.

mod settings;
mod step;
mod when;

use std::ops::Range;

use super::conditions::both;
use super::draft::{Draft, top_when};
use super::notes::NoteKind;
use super::tree::Tree;
use crate::manifest::{Map, Value};

/// What one pipeline of several says of all its stages.
struct Told<'t> {
    tree: &'t Tree,
    name: &'t str,
    /// Which of the draft's stages are its own.
    stages: Range<usize>,
    map: Map,
}

/// Reads all pipelines of a file: Drone has several documents.
pub(super) fn read(draft: &mut Draft, documents: &[Tree]) {
    let kind = |tree: &Tree| tree.get("kind").and_then(Tree::text).unwrap_or("pipeline").to_owned();
    let pipelines: Vec<&Tree> = documents.iter().filter(|document| kind(document) == "pipeline").collect();
    for other in documents.iter().filter(|document| kind(document) != "pipeline") {
        let because = match kind(other).as_str() {
            "secret" => "secrets are no part of a manifest; store it on the farm under its name",
            "signature" => {
                "a build of a fork's pull request gets no secrets and no socket, so the file needs no signature"
            }
            _ => "there is nothing of the kind here; write by hand what it is for",
        };
        draft.notes.lost(&mut draft.top, &kind(other), other, because);
    }
    let several = pipelines.len() > 1;
    let name = |at: usize, tree: &Tree| {
        tree.get("name").and_then(Tree::text).map_or_else(|| format!("pipeline-{}", at + 1), str::to_owned)
    };
    let names: Vec<String> = pipelines.iter().enumerate().map(|(at, tree)| name(at, tree)).collect();
    let mut ends: Vec<(String, Vec<String>)> = Vec::new();
    let mut told: Vec<Told> = Vec::new();
    for (pipeline, name) in pipelines.iter().zip(&names) {
        let prefix = if several { format!("{name}-") } else { String::new() };
        let begun = draft.stages.len();
        let (last, map) = one(draft, pipeline, &prefix, &ends, name);
        ends.push((name.clone(), last));
        told.push(Told { tree: pipeline, name, stages: begun..draft.stages.len(), map });
    }
    if several {
        let agreed = agree(draft, &told);
        told.iter().for_each(|pipeline| spread(draft, pipeline, &agreed));
        draft.top.remark(format!("The pipelines of the file, one after the other: {}.", names.join(", ")));
    } else if let Some(name) = pipelines.first().and_then(|tree| tree.get("name")).and_then(Tree::text) {
        draft.top.remark(format!("The pipeline `{name}`."));
    }
}

/// Reads one pipeline: the names of the stages with which it ends, and what it says of all of them where it is not the
/// only one. `prefix` stands before names of stages where there are several; `ends` is how those before it end.
fn one(draft: &mut Draft, tree: &Tree, prefix: &str, ends: &[(String, Vec<String>)], name: &str) -> (Vec<String>, Map) {
    let alone = prefix.is_empty();
    let mut map = Map::default();
    let mut conditions = Vec::new();
    for (key, value) in tree.entries() {
        match key.as_str() {
            "when" | "trigger" => conditions = when::conditions(draft, &mut map, key, value),
            "branches" => conditions = when::branches(draft, &mut map, value),
            _ => settings::settings(draft, &mut map, key, value),
        }
    }
    let after = after(draft, &mut map, tree, ends);
    if let Some(value) = tree.get("matrix") {
        let axes = settings::matrix(draft, &mut map, value);
        // Its axes are variables of all steps.
        draft.variables.extend(axes.into_iter().map(|axis| (axis.clone(), format!("${{matrix.{axis}}}"))));
    }
    let steps = tree.get("steps").or_else(|| tree.get("pipeline"));
    let begun = draft.stages.len();
    let mut named: Vec<(String, &Tree)> = Vec::new();
    for (at, step) in steps.map(elements).unwrap_or_default() {
        let own = step.get("name").and_then(Tree::text).map(str::to_owned).or(at).unwrap_or_else(|| "step".to_owned());
        draft.name(&format!("{prefix}{own}"));
        named.push((own, step));
    }
    for (own, step) in &named {
        step::read(draft, prefix, own, step);
    }
    if let Some(value) = tree.get("services") {
        settings::services(draft, &mut map, value);
    }
    let last = order(draft, begun, prefix, &named, &after);
    for (own, step) in &named {
        let name = draft.name(&format!("{prefix}{own}"));
        if let Some(stage) = draft.stages.iter_mut().find(|stage| stage.name == name) {
            draft.notes.sweep(&mut stage.map, step);
        }
    }
    if alone {
        top_when(&mut draft.top, conditions);
        join(&mut draft.top, map);
        return (last, Map::default());
    }
    let mut remarks = map.take_remarks();
    remarks.insert(0, format!("the pipeline `{name}` begins here"));
    for (at, stage) in draft.stages[begun..].iter_mut().enumerate() {
        if at == 0 {
            remarks.iter().for_each(|remark| stage.map.remark(remark.as_str()));
        }
        stage.conditions = both(&stage.conditions, &conditions);
    }
    (last, map)
}

/// The stages behind which a pipeline begins.
fn after(draft: &Draft, map: &mut Map, tree: &Tree, ends: &[(String, Vec<String>)]) -> Vec<String> {
    let mut after = Vec::new();
    if let Some(needs) = tree.get("depends_on") {
        for need in needs.texts() {
            match ends.iter().find(|(name, _)| *name == need) {
                Some((_, stages)) => after.extend(stages.iter().cloned()),
                None => draft.notes.say(
                    map,
                    NoteKind::Look,
                    format!("`depends_on: {need}`"),
                    "it is a pipeline of another file, or a later one; put its stages before these",
                ),
            }
        }
    }
    after
}

/// The elements of a list, or the entries of a map under their names.
fn elements(tree: &Tree) -> Vec<(Option<String>, &Tree)> {
    if tree.is_map() {
        return tree.entries().iter().map(|(name, step)| (Some(name.clone()), step)).collect();
    }
    tree.elements().iter().map(|step| (None, step)).collect()
}

/// Puts the keys of one map behind those of another, its comments too.
fn join(top: &mut Map, mut map: Map) {
    map.take_remarks().into_iter().for_each(|remark| top.remark(remark));
    let keys: Vec<String> = map.keys().map(str::to_owned).collect();
    for key in keys {
        match (top.get(&key), map.get(&key)) {
            // Steps that ran beside the others are services too.
            (Some(Value::Map(known)), Some(Value::Map(more))) if key == "services" => {
                let mut both = known.clone();
                join(&mut both, more.clone());
                top.set(&key, both);
            }
            (_, Some(value)) => top.set(&key, value.clone()),
            (_, None) => {}
        }
    }
}

/// Sets at the top what all pipelines say of the place where they run and what is in it: the names of these keys.
/// What only some of them say of the checkout is told, for there is one for all stages.
fn agree(draft: &mut Draft, pipelines: &[Told]) -> Vec<&'static str> {
    let mut agreed = Vec::new();
    for key in ["clone", "workspace", "platform", "agent"] {
        let said: Vec<Option<&Value>> = pipelines.iter().map(|pipeline| pipeline.map.get(key)).collect();
        if said.windows(2).all(|pair| pair[0] == pair[1]) {
            agreed.push(key);
            if let Some(value) = said.first().copied().flatten() {
                draft.top.set(key, value.clone());
            }
            continue;
        }
        for pipeline in pipelines.iter().filter(|_| key == "clone" || key == "workspace") {
            let tree = pipeline.tree.get(key).or_else(|| pipeline.tree.get("skip_clone").filter(|_| key == "clone"));
            if let Some(tree) = tree {
                let why = format!(
                    "only the pipeline `{}` says so, and there is one checkout for all stages; write it at the top where it may hold for all",
                    pipeline.name
                );
                draft.notes.look(&mut draft.top, key, tree, why);
            }
        }
    }
    agreed
}

/// Gives what holds for one pipeline of several to each of its stages.
fn spread(draft: &mut Draft, pipeline: &Told, agreed: &[&str]) {
    let several = pipeline.stages.len() > 1;
    for key in ["platform", "agent", "matrix", "services", "concurrency"] {
        let Some(value) = pipeline.map.get(key).filter(|_| !agreed.contains(&key)) else { continue };
        // What is the usual platform anyway would make each stage a job of its own.
        if key == "platform" && matches!(value, Value::Text(text) if text == "linux/amd64") {
            continue;
        }
        for (at, stage) in draft.stages[pipeline.stages.clone()].iter_mut().enumerate() {
            if at == 0 && several && key != "services" {
                let why = "each of its stages is a job of its own by that, and begins with the checkout; hand files on by `artifacts`";
                let what = format!("`{key}` of the pipeline `{}`", pipeline.name);
                draft.notes.say(&mut stage.map, NoteKind::Look, what, why);
            }
            if !stage.map.has(key) {
                stage.map.set(key, value.clone());
            }
        }
    }
}

/// The order of the steps: one after the other, or as `depends_on` has it.
fn order(draft: &mut Draft, begun: usize, prefix: &str, named: &[(String, &Tree)], after: &[String]) -> Vec<String> {
    let names: Vec<String> = draft.stages[begun..].iter().map(|stage| stage.name.clone()).collect();
    let graph = named.iter().any(|(_, step)| step.get("depends_on").is_some());
    let mut needed = Vec::new();
    if graph {
        let mut depths: Vec<(String, usize)> = Vec::new();
        for (own, step) in named {
            let needs: Vec<String> = step.get("depends_on").map(Tree::texts).unwrap_or_default();
            let needs: Vec<String> = needs.iter().map(|need| draft.name(&format!("{prefix}{need}"))).collect();
            let name = draft.name(&format!("{prefix}{own}"));
            let depth = needs
                .iter()
                .filter_map(|need| depths.iter().find(|(name, _)| name == need))
                .map(|(_, depth)| depth + 1)
                .max();
            depths.push((name.clone(), depth.unwrap_or(0)));
            needed.extend(needs.iter().cloned());
            let first: Vec<String> = if needs.is_empty() { after.to_vec() } else { needs };
            if let Some(stage) = draft.stages[begun..].iter_mut().find(|stage| stage.name == name) {
                stage.map.set("needs", Value::texts(first));
            }
        }
        let deepest = depths.iter().map(|(_, depth)| *depth).max().unwrap_or(0);
        for depth in 0..=deepest {
            let group =
                depths.iter().filter(|(name, at)| *at == depth && names.contains(name)).map(|(name, _)| name.clone());
            draft.groups.push(group.collect());
        }
        return names.into_iter().filter(|name| !needed.contains(name)).collect();
    }
    // Old pipelines name groups of steps that run beside each other.
    let mut open: Option<String> = None;
    for (own, step) in named {
        let name = draft.name(&format!("{prefix}{own}"));
        if !names.contains(&name) {
            continue;
        }
        let group = step.get("group").and_then(Tree::text).map(str::to_owned);
        match draft.groups.last_mut() {
            Some(last) if group.is_some() && group == open => last.push(name),
            _ => draft.groups.push(vec![name]),
        }
        open = group;
    }
    if let (Some(first), false) = (names.first(), prefix.is_empty()) {
        if let Some(stage) = draft.stages.iter_mut().find(|stage| stage.name == *first) {
            stage.map.set("needs", Value::texts(after.to_vec()));
        }
        chain(draft, &names);
    }
    names.last().cloned().into_iter().collect()
}

/// Each stage of one pipeline needs the one before it, not those of other pipelines.
fn chain(draft: &mut Draft, names: &[String]) {
    for pair in names.windows(2) {
        if let Some(stage) = draft.stages.iter_mut().find(|stage| stage.name == pair[1])
            && !stage.map.has("needs")
        {
            stage.map.set("needs", Value::texts([pair[0].clone()]));
        }
    }
}
