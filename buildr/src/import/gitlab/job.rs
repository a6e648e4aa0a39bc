//! One job of GitLab as a stage: each key is carried over, or told.

use super::super::conditions::{Condition, both, written};
use super::super::draft::{Draft, Stage};
use super::super::notes::NoteKind;
use super::super::parts::{self, by_table, duration, variables};
use super::super::tree::Tree;
use super::artifacts;
use super::image::{image, services};
use super::rules;
use crate::manifest::{Map, Value};

/// Keys without a counterpart, and what to do.
const WITHOUT: [(&str, &str); 13] = [
    ("environment", "the farm keeps no list of environments; where only one may deploy at a time, write `concurrency`"),
    ("release", "nothing here makes releases of a forge; call its API or its command in the script"),
    ("secrets", "there is no vault here; store the secret on the farm, and write `secrets: [NAME]`"),
    ("id_tokens", "the farm gives no identity tokens; write a secret under `secrets`"),
    ("identity", "the farm gives no identity tokens; write a secret under `secrets`"),
    ("hooks", "there is nothing to hook into; write the commands into the script"),
    ("dast_configuration", "it belongs to a service of GitLab; run the scanner in a script"),
    ("pages", "there is no place for pages; upload them in the script"),
    ("publish", "there is no place for pages; upload them in the script"),
    ("manual_confirmation", "write `manual: {ask: \"...\"}` with its text"),
    ("start_in", "stages do not wait for a time; this one begins at once"),
    ("run", "steps of GitLab are not known here; write what they do into `script`"),
    ("inputs", "there are no inputs of that kind here; write their values"),
];

/// Reads a job that already has its defaults. `absent` are the templates that it takes over and nobody has seen.
pub(super) fn read(draft: &mut Draft, name: &str, job: &Tree, absent: &[String]) -> Stage {
    let mut stage = draft.stage(name);
    stage.variables = job.get("variables").map(variables).unwrap_or_default();
    if job.get("inherit").and_then(|inherit| inherit.get("variables")).and_then(Tree::truth) == Some(false) {
        stage.map.remark("look at: this job took over no variables of the top level (`inherit: {variables: false}`); here it sees them");
    }
    // First, for its axes are variables of all that follows.
    if let Some(parallel) = job.get("parallel") {
        matrix(&mut stage, parallel);
    }
    for (key, value) in job.entries() {
        work(draft, &mut stage, key, value);
        let Stage { map, variables, .. } = &mut stage;
        settings(draft, map, variables, key, value);
    }
    artifacts::dotenv(&mut stage, job);
    let after: Vec<String> = job.get("after_script").map(Tree::texts).unwrap_or_default();
    if !after.is_empty() {
        stage.map.set("after", Value::lines(after));
    }
    for template in absent {
        let why = "it is not in this file, so what it says is missing here; write that into the stage";
        draft.notes.say(&mut stage.map, NoteKind::Lost, format!("`extends: {template}`"), why);
    }
    when(draft, &mut stage, job, absent);
    stage
}

/// What the job does.
fn work(draft: &mut Draft, stage: &mut Stage, key: &str, value: &Tree) {
    match key {
        "before_script" => {
            let mut script = value.texts();
            script.append(&mut stage.script);
            stage.script = script;
        }
        "script" => stage.script.extend(value.texts()),
        "artifacts" => artifacts::artifacts(draft, stage, value),
        "coverage" => artifacts::coverage(draft, &mut stage.map, value),
        "needs" => needs(draft, stage, value),
        "dependencies" => {
            draft.notes.moot(&mut stage.map, key, value, "a stage sees the artifacts of all that ran before it");
        }
        "trigger" => trigger(draft, stage, value),
        _ => {}
    }
}

/// How it runs.
fn settings(draft: &mut Draft, map: &mut Map, own: &[(String, String)], key: &str, value: &Tree) {
    match key {
        "image" => {
            if let Some(image) = image(draft, map, value, own) {
                map.set("image", image);
            }
        }
        "services" => services(draft, map, value, own),
        "cache" => artifacts::cache(draft, map, value),
        "retry" => retry(draft, map, value),
        "timeout" => match value.peek().and_then(|text| duration(text, 1)) {
            Some(limit) => {
                value.told();
                map.set("timeout", limit);
            }
            None => draft.notes.lost(map, key, value, "it is no duration; write one like 90m"),
        },
        "allow_failure" => {
            if let Some(truth) = value.truth() {
                if truth {
                    map.set("allow_failure", Value::Truth(true));
                }
            } else if let Some(codes) = value.get("exit_codes") {
                map.set("allow_failure", parts::codes(&codes.texts()));
            }
        }
        "tags" => map.set("agent", Value::texts(value.texts())),
        "resource_group" => {
            if let Some(group) = value.text() {
                let group = draft.value(map, key, group, own);
                map.set("concurrency", group);
            }
        }
        "interruptible" => match value.truth() {
            Some(true) => draft.top.set("cancel_superseded", Value::Truth(true)),
            Some(false) => draft.notes.look(map, key, value, "a newer build cancels this one as a whole where `cancel_superseded` is set; `manual` and `concurrency` keep a stage from being cut off"),
            None => {}
        },
        "inherit" => {
            if let Some(choice) = value.get("default") {
                draft.notes.moot(map, "inherit.default", choice, "what the job does not take over is left out here");
            }
        }
        "pages" if value.truth() == Some(false) => {}
        _ => {
            by_table(&WITHOUT, &draft.notes, map, key, value);
        }
    }
}

fn retry(draft: &Draft, map: &mut Map, tree: &Tree) {
    if let Some(number) = tree.number() {
        map.set("retry", Value::Number(number));
        return;
    }
    let max = tree.get("max").and_then(Tree::number).unwrap_or(1);
    let mut causes: Vec<String> = Vec::new();
    let mut any = false;
    for word in tree.get("when").map(Tree::elements).unwrap_or_default() {
        let cause = match word.peek().unwrap_or_default() {
            "always" | "script_failure" | "unknown_failure" => {
                any = true;
                ""
            }
            "job_execution_timeout" | "stuck_or_timeout_failure" => "timeout",
            "runner_system_failure"
            | "api_failure"
            | "scheduler_failure"
            | "data_integrity_failure"
            | "runner_unsupported"
            | "stale_schedule"
            | "archived_failure"
            | "unmet_prerequisites" => "infra",
            _ => {
                draft.notes.lost(
                    map,
                    "retry.when",
                    word,
                    "causes here are infra, timeout and exit codes; write one of them",
                );
                continue;
            }
        };
        word.told();
        if !cause.is_empty() && !causes.iter().any(|known| known == cause) {
            causes.push(cause.to_owned());
        }
    }
    match tree.get("exit_codes") {
        Some(codes) if any => draft.notes.moot(map, "retry.exit_codes", codes, "after any failure it is tried again"),
        Some(codes) => causes.extend(codes.texts()),
        None => {}
    }
    if any || causes.is_empty() {
        map.set("retry", Value::Number(max));
    } else {
        let mut retry = Map::of("max", Value::Number(max));
        retry.set("on", parts::codes(&causes));
        map.set("retry", retry);
    }
}

fn needs(draft: &mut Draft, stage: &mut Stage, tree: &Tree) {
    let mut names = Vec::new();
    for need in tree.elements() {
        if let Some(job) = need.text() {
            names.push(draft.name(job));
            continue;
        }
        let foreign = need.get("project").is_some() || need.get("pipeline").is_some();
        let Some(job) = need.get("job").and_then(Tree::peek).filter(|_| !foreign).map(str::to_owned) else {
            draft.notes.lost(
                &mut stage.map,
                "needs",
                need,
                "a stage needs stages of its own build only; see `repos` and `trigger` for others",
            );
            continue;
        };
        need.get("job").map(Tree::told);
        let optional = need.get("optional").and_then(Tree::truth) == Some(true);
        names.push(format!("{}{}", draft.name(&job), if optional { "?" } else { "" }));
        if need.get("artifacts").and_then(Tree::truth) == Some(false) {
            stage
                .map
                .remark(format!("not needed: `artifacts: false` of the need `{job}`, because the files do no harm"));
        }
        if let Some(parallel) = need.get("parallel") {
            draft.notes.lost(
                &mut stage.map,
                "needs.parallel",
                parallel,
                "all cells of a matrix are needed; that is stricter",
            );
        }
    }
    names.dedup();
    stage.map.set("needs", Value::texts(names));
}

fn trigger(draft: &mut Draft, stage: &mut Stage, tree: &Tree) {
    let repo = tree.text().or_else(|| tree.get("project")?.text());
    let Some(repo) = repo else {
        let because = "it starts a pipeline of GitLab's from a file; run `buildr import` on that file, and put its stages here or under `.buildr/`";
        draft.notes.lost(&mut stage.map, "trigger", tree, because);
        return;
    };
    let project = draft.value(&mut stage.map, "trigger", repo, &stage.variables);
    let address = format!("https://gitlab.com/{}.git", project.trim_matches('/'));
    let why = format!("the repository is taken for {address}; write its own address where it is another");
    draft.notes.say(&mut stage.map, NoteKind::Look, format!("`trigger: {project}`"), why);
    let mut trigger = Map::of("repo", address);
    for (key, value) in tree.entries() {
        match key.as_str() {
            "branch" => {
                if let Some(branch) = value.text() {
                    trigger.set("branch", branch);
                }
            }
            "strategy" if matches!(value.peek(), Some("depend" | "mirror")) => {
                value.told();
                trigger.set("wait", Value::Truth(true));
            }
            "project" => {}
            _ => draft.notes.lost(
                &mut stage.map,
                &format!("trigger.{key}"),
                value,
                "a trigger here has repo, branch, vars and wait; remove it",
            ),
        }
    }
    if !stage.variables.is_empty() {
        let mut vars = Map::default();
        for (name, value) in &stage.variables {
            let value = draft.value(&mut stage.map, name, value, &[]);
            vars.set(name, value);
        }
        trigger.set("vars", vars);
        stage.variables.clear();
    }
    stage.map.set("trigger", trigger);
}

/// When it runs: `rules`, `only`, `except`, `when`.
fn when(draft: &mut Draft, stage: &mut Stage, job: &Tree, absent: &[String]) {
    let map = &mut stage.map;
    let mut conditions: Vec<Condition> = Vec::new();
    let mut held = None;
    if let Some(tree) = job.get("rules") {
        let ruled = rules::rules(draft, map, tree);
        conditions = ruled.conditions;
        held = ruled.held;
        if ruled.manual {
            map.set("manual", Value::Truth(true));
        }
        if ruled.may_fail {
            map.set("allow_failure", Value::Truth(true));
        }
    }
    let (only, except) = (job.get("only"), job.get("except"));
    if only.is_some() || except.is_some() {
        let ruled = rules::only_except(draft, map, only, except);
        conditions = both(&conditions, &ruled.conditions);
        held = held.or(ruled.held);
    }
    let said = ["rules", "only", "except", "when"].iter().any(|key| job.get(key).is_some());
    if let Some(template) = absent.first().filter(|_| !said) {
        // Its own words would stand in the place of the template's.
        held = Some(format!("extends: {template}"));
    }
    let word = job.get("when");
    let status: &[&str] = match word.and_then(Tree::peek) {
        None | Some("on_success") => &[],
        Some("manual") => {
            map.set("manual", Value::Truth(true));
            &[]
        }
        Some("always") => &["success", "failure"],
        Some("on_failure") => &["failure"],
        Some(_) => {
            if let Some(word) = word {
                draft.notes.lost(
                    map,
                    "when",
                    word,
                    "stages begin at once, or when a person lets them (`manual: true`)",
                );
            }
            &[]
        }
    };
    word.map(Tree::told);
    if !status.is_empty() {
        conditions = both(&conditions, &[Condition::of("status", status.iter().copied())]);
    }
    if let Some(held) = held {
        let ask = rules::question(draft, map, &held);
        map.set("manual", Map::of("ask", ask));
    }
    if let Some(when) = written(&conditions) {
        map.set("when", when);
    }
}

/// `parallel`, as a number or as a matrix.
fn matrix(stage: &mut Stage, tree: &Tree) {
    if let Some(number) = tree.number() {
        stage.map.set("parallel", Value::Number(number));
        return;
    }
    let Some(rows) = tree.get("matrix") else { return };
    let mut axes: Vec<String> = Vec::new();
    let mut matrix = Map::default();
    let mut cells: Vec<Value> = Vec::new();
    for row in rows.elements() {
        let mut row_cells = vec![Map::default()];
        for (axis, values) in row.entries() {
            let values = values.texts();
            if !axes.contains(axis) {
                axes.push(axis.clone());
            }
            if rows.elements().len() == 1 {
                matrix.set(axis, Value::texts(values));
                continue;
            }
            let with = |cell: &Map, value: &String| {
                let mut cell = cell.clone();
                cell.set(axis, value.as_str());
                cell
            };
            row_cells = row_cells
                .iter()
                .flat_map(|cell| values.iter().map(|value| with(cell, value)).collect::<Vec<_>>())
                .collect();
        }
        cells.extend(row_cells.into_iter().filter(|cell| !cell.is_empty()).map(Value::Map));
    }
    if !cells.is_empty() {
        // A cell says all axes here; one that its row has not is empty in it.
        for cell in &mut cells {
            let Value::Map(cell) = cell else { continue };
            axes.iter()
                .filter(|axis| !cell.has(axis))
                .cloned()
                .collect::<Vec<_>>()
                .iter()
                .for_each(|axis| cell.set(axis, ""));
        }
        matrix.set("include", Value::Lines(cells));
    }
    for axis in axes {
        stage.variables.push((axis.clone(), format!("${{matrix.{axis}}}")));
    }
    stage.map.set("matrix", matrix);
}
