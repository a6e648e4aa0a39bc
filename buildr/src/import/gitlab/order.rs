//! What of GitLab runs after what: its stages, and the jobs for which nobody waits.

use super::super::draft::Draft;
use super::super::notes::NoteKind;
use super::super::tree::Tree;
use crate::manifest::Value;

/// The stages in the order of the file. Those without jobs are left out, which is told here.
pub(super) fn stage_order(root: &Tree) -> Vec<String> {
    let usual = || ["build", "test", "deploy"].map(str::to_owned).to_vec();
    let listed = root.get("stages").or_else(|| root.get("types")).map(Tree::texts);
    let mut order = vec![".pre".to_owned()];
    order.extend(listed.filter(|listed| !listed.is_empty()).unwrap_or_else(usual));
    order.push(".post".to_owned());
    order
}

/// The words of GitLab's stages, where they say more than the names of the jobs.
pub(super) fn name_groups(draft: &mut Draft, order: &[String]) {
    let mut told = Vec::new();
    for (phase, group) in order.iter().zip(&draft.groups) {
        match group.as_slice() {
            [] if phase.starts_with('.') => {}
            [] => told.push(format!("{phase} (no jobs)")),
            [one] if one == phase => {}
            several => told.push(format!("{phase} ({})", several.join(", "))),
        }
    }
    if !told.is_empty() {
        draft.top.remark(format!("The stages of GitLab CI: {}.", told.join("; ")));
    }
}

/// Whether GitLab goes on without a job, until somebody lets it begin.
pub(super) fn is_optional(job: &Tree) -> bool {
    let says = |tree: &Tree| tree.get("when").and_then(Tree::peek) == Some("manual");
    let may_fail = |tree: &Tree| tree.get("allow_failure").and_then(Tree::peek).map(|word| word == "true");
    match job.get("rules").map(Tree::elements) {
        None => says(job) && may_fail(job) != Some(false),
        // There it must be said.
        Some(rules) => {
            let mut asking = rules.iter().filter(|rule| says(rule)).peekable();
            asking.peek().is_some() && asking.all(|rule| may_fail(rule).or(may_fail(job)) == Some(true))
        }
    }
}

/// Lets the stages behind optional ones name what they wait for, without those.
pub(super) fn pass_by(draft: &mut Draft, optional: &[String]) {
    let mut before: Vec<String> = Vec::new();
    let mut passed: Vec<String> = Vec::new();
    for group in draft.groups.clone() {
        for name in &group {
            let Some(stage) = draft.stages.iter_mut().find(|stage| stage.name == *name) else { continue };
            if passed.is_empty() || stage.map.has("needs") {
                continue;
            }
            stage.map.set("needs", Value::texts(before.iter().map(String::as_str)));
            let why = "GitLab CI goes on without it until somebody lets it begin, so this stage waits for all before it but that";
            let what = format!("`when: manual` of {}", passed.join(", "));
            draft.notes.say(&mut stage.map, NoteKind::Look, what, why);
        }
        for name in group {
            if optional.contains(&name) {
                passed.push(format!("`{name}`"));
                continue;
            }
            let left_out = draft.stages.iter().any(|stage| stage.name == name && stage.map.has("when"));
            // Where it may be left out by a condition, this one runs all the same.
            before.push(if left_out { format!("{name}?") } else { name });
        }
    }
}
