//! `.travis.yml`: one script in a matrix, and the jobs with work of their own. The matrix is `cells`', what Travis CI
//! does by itself for a language is `language`'s.

mod language;
mod cells;
mod settings;
mod when;

use super::conditions::{Condition, both};
use super::draft::{Draft, Stage, top_when};
use super::notes::NoteKind;
use super::parts::by_table;
use super::tree::Tree;
use crate::manifest::{Map, Value};
use language::Language;

/// The phases of a job before and with its script, in their order.
const PHASES: [&str; 4] = ["before_install", "install", "before_script", "script"];

/// Keys without a counterpart, and what to do.
const WITHOUT: [(&str, &str); 9] = [
    ("deploy", "a deployment is a stage of its own; write one with `when: {tag: ..}`, `secrets` and a script"),
    ("before_deploy", "a deployment is a stage of its own; put the commands into its script"),
    ("after_deploy", "a deployment is a stage of its own; put the commands into its script"),
    ("notifications", "whom to tell is a setting of the farm"),
    ("import", "it brings in a file of Travis CI's language; run `buildr import` on it"),
    ("vault", "there is no vault here; store the secrets on the farm, and write `secrets: [NAME]`"),
    ("osx_image", "containers run Linux; build on macOS on agents of your own"),
    ("filter_secrets", "secrets never stand in a log"),
    ("virt", "a stage runs in a container; see `privileged`"),
];

/// Keys that say nothing here, and why.
const MOOT: [(&str, &str); 7] = [
    ("sudo", "a stage's script is root in its container where the image says so"),
    ("dist", "the image says which system is in the container"),
    ("group", "the image says which system is in the container"),
    ("version", "it is the version of Travis CI's own language"),
    ("before_cache", "a cache is kept as it is at the stage's end"),
    ("go_import_path", "the checkout is at /app; Go's modules need no path"),
    ("node_js_version", "the image says it"),
];

/// Reads a file.
pub(super) fn read(draft: &mut Draft, documents: &[Tree]) {
    let Some(root) = documents.first() else { return };
    let named = root.get("language").and_then(Tree::text).map(str::to_owned);
    let guessed = root.entries().iter().find_map(|(key, _)| language::by_key(key));
    let language = named.as_deref().and_then(language::named).or(guessed);
    let scripted = PHASES.iter().any(|phase| root.get(phase).is_some());
    if language.is_none() && !scripted && cells::jobs(root).is_none() {
        return;
    }
    let mut top = std::mem::take(&mut draft.top);
    if let Some(named) = named.as_deref().filter(|named| language::named(named).is_none()) {
        let why = "there is no image for it here; write one";
        draft.notes.say(&mut top, NoteKind::Look, format!("`language: {named}`"), why);
    }
    let generic = || language::named("generic");
    let Some(language) = language.or_else(generic) else { return };
    for (key, value) in root.entries() {
        everywhere(draft, &mut top, key, value);
    }
    let conditions = conditions(draft, &mut top, root);
    top_when(&mut top, conditions);
    draft.top = top;
    let include = cells::jobs(root).and_then(|jobs| jobs.get("include"));
    let all = include.map(Tree::elements).unwrap_or_default();
    let works: Vec<&Tree> = all.iter().filter(|cell| cells::is_work(cell)).collect();
    let names: Vec<String> =
        root.get("stages").map(Tree::elements).unwrap_or_default().iter().filter_map(stage_name).collect();
    // Where jobs do all the work, the script at the top level is only what they take over.
    let cells = all.iter().any(|cell| !cells::is_work(cell));
    let own = works.is_empty()
        || cells
        || root.get(language.key).is_some_and(Tree::is_list)
        || root.get("env").is_some_and(is_matrix);
    let mut groups: Vec<(String, Vec<String>)> = names.iter().map(|name| (name.to_lowercase(), Vec::new())).collect();
    if own {
        let mut stage = draft.stage("test");
        phases(draft, &mut stage, root, root, language);
        cells::set(draft, &mut stage, root, language);
        stage.conditions = of_phase(draft, &mut stage.map, root, "test");
        put(&mut groups, "test", &stage.name);
        draft.stages.push(stage);
    }
    let mut phase = "test".to_owned();
    for work in works {
        if let Some(named) = work.get("stage").and_then(Tree::text) {
            named.to_lowercase().clone_into(&mut phase);
        }
        let mut stage = job(draft, root, work, language, &phase);
        let outer = of_phase(draft, &mut stage.map, root, &phase);
        stage.conditions = both(&stage.conditions, &outer);
        put(&mut groups, &phase, &stage.name);
        draft.stages.push(stage);
    }
    let order: Vec<&str> = groups.iter().map(|(name, _)| name.as_str()).collect();
    if order != ["test"] {
        draft.top.remark(format!("The stages of Travis CI: {}.", order.join(", ")));
    }
    draft.groups = groups.into_iter().map(|(_, stages)| stages).collect();
}

/// Whether `env` makes a matrix, and is not only what all jobs have.
fn is_matrix(env: &Tree) -> bool {
    !env.is_map() || env.get("jobs").is_some() || env.get("matrix").is_some()
}

fn put(groups: &mut Vec<(String, Vec<String>)>, phase: &str, name: &str) {
    match groups.iter_mut().find(|(known, _)| known == phase) {
        Some((_, stages)) => stages.push(name.to_owned()),
        None => groups.push((phase.to_owned(), vec![name.to_owned()])),
    }
}

/// `stages` holds names, or maps with a name.
fn stage_name(tree: &Tree) -> Option<String> {
    tree.text().or_else(|| tree.get("name")?.text()).map(str::to_owned)
}

/// What `branches` and `if` say, of the file or of a job.
fn conditions(draft: &Draft, map: &mut Map, tree: &Tree) -> Vec<Condition> {
    let mut all = Vec::new();
    if let Some(branches) = tree.get("branches") {
        all = both(&all, &settings::branches(map, branches));
    }
    if let Some(condition) = tree.get("if") {
        all = both(&all, &when::conditions(draft, map, condition));
    }
    all
}

/// What `stages` says of when all jobs of one of them run.
fn of_phase(draft: &Draft, map: &mut Map, root: &Tree, phase: &str) -> Vec<Condition> {
    let is_it =
        |stage: &&Tree| stage.get("name").and_then(Tree::peek).is_some_and(|name| name.eq_ignore_ascii_case(phase));
    let stages = root.get("stages").map(Tree::elements).unwrap_or_default();
    let condition = stages.iter().find(is_it).and_then(|stage| stage.get("if"));
    condition.map(|condition| when::conditions(draft, map, condition)).unwrap_or_default()
}

/// A job with work of its own: what it does not say, the file says.
fn job(draft: &mut Draft, root: &Tree, work: &Tree, outer: &'static Language, phase: &str) -> Stage {
    let named = work.get("name").and_then(Tree::text).map_or_else(|| phase.to_owned(), str::to_owned);
    let mut unique = named.clone();
    let mut number = 2;
    let mut name = draft.name(&unique);
    while draft.stages.iter().any(|stage| stage.name == name) {
        unique = format!("{named} {number}");
        name = draft.name(&unique);
        number += 1;
    }
    let mut stage = draft.stage(&unique);
    let own = work.get("language").and_then(Tree::text).and_then(language::named);
    let language = own.unwrap_or(outer);
    phases(draft, &mut stage, root, work, language);
    let versions = work.get(language.key).or_else(|| root.get(language.key)).map(Tree::texts).unwrap_or_default();
    let version =
        versions.first().map_or_else(|| language.usual.to_owned(), |version| language::tag(language, version));
    stage.map.set("image", language.image.replace("{}", &version));
    stage.conditions = conditions(draft, &mut stage.map, work);
    for (key, value) in work.entries() {
        match key.as_str() {
            "env" => stage.variables.extend(value.texts().iter().flat_map(|row| cells::pairs(row))),
            "os" => {
                if let Some(os) = value.text().filter(|os| *os != "linux") {
                    let os = os.to_owned();
                    draft.notes.lost(
                        &mut stage.map,
                        "os",
                        value,
                        format!("containers run Linux, not {os}; build there on agents of your own (`agent: [LABEL]`)"),
                    );
                }
            }
            "services" | "cache" | "addons" | "arch" => {
                let mut map = std::mem::take(&mut stage.map);
                everywhere(draft, &mut map, key, value);
                stage.map = map;
            }
            _ => {
                tables(draft, &mut stage.map, key, value);
            }
        }
    }
    draft.notes.sweep(&mut stage.map, work);
    stage
}

/// The script and what comes after it. `job` wins over `root`.
fn phases(draft: &Draft, stage: &mut Stage, root: &Tree, job: &Tree, language: &Language) {
    let packages = job.get("addons").or_else(|| root.get("addons")).and_then(|addons| addons.get("apt"));
    if let Some(apt) = packages {
        let names = apt.get("packages").unwrap_or(apt).texts();
        if !names.is_empty() {
            stage.script.push(format!("apt-get update -qq && apt-get install -y -qq {}", names.join(" ")));
        }
        for key in ["sources", "update", "config"] {
            if let Some(value) = apt.get(key).filter(|value| value.truth() != Some(true)) {
                draft.notes.lost(
                    &mut stage.map,
                    &format!("addons.apt.{key}"),
                    value,
                    "the image's own sources are used; add others in the script",
                );
            }
        }
    }
    for phase in PHASES {
        let written = job.get(phase).or_else(|| root.get(phase));
        let usual = match phase {
            "install" => language.install,
            "script" => language.script,
            _ => &[],
        };
        match written {
            Some(tree) if matches!(tree.peek(), Some("skip" | "true" | "false")) => tree.told(),
            Some(tree) => stage.script.extend(tree.texts()),
            None if !usual.is_empty() => {
                stage.titles.push((stage.script.len(), format!("what Travis CI does by itself in `{phase}`")));
                stage.script.extend(usual.iter().map(|line| (*line).to_owned()));
            }
            None => {}
        }
    }
    let texts = |key: &str| job.get(key).or_else(|| root.get(key)).map(Tree::texts).unwrap_or_default();
    for line in texts("after_success") {
        // Its failure never failed a build.
        stage.script.push(format!("{{ {line}\n}} || true"));
    }
    let failed = texts("after_failure");
    if !failed.is_empty() {
        stage.map.set("on_failure", Value::lines(failed));
    }
    let after = texts("after_script");
    if !after.is_empty() {
        stage.map.set("after", Value::lines(after));
    }
    if stage.script.iter().any(|line| line.contains("sudo ")) {
        stage.map.remark("look at: the script uses `sudo`, which most images do not have; in them it is root already");
    }
}

/// Keys that hold for all jobs.
fn everywhere(draft: &Draft, map: &mut Map, key: &str, value: &Tree) {
    match key {
        "services" => settings::services(draft, map, value),
        "cache" => settings::cache(draft, map, value),
        "git" => settings::git(draft, map, value),
        "os" => {
            for os in value.elements() {
                if os.peek() == Some("linux") {
                    os.told();
                } else {
                    draft.notes.lost(
                        map,
                        "os",
                        os,
                        "containers run Linux; build for other systems on agents of your own, or leave it out",
                    );
                }
            }
        }
        "arch" => {
            let own: Vec<&str> = value.elements().iter().filter_map(Tree::text).collect();
            match own.as_slice() {
                [one] => map.set("platform", format!("linux/{one}")),
                several => {
                    let why = "a stage is of one platform; write one for each";
                    draft.notes.say(map, NoteKind::Lost, format!("`arch: [{}]`", several.join(", ")), why);
                }
            }
        }
        "addons" => {
            for (name, addon) in value.entries().iter().filter(|(name, _)| name != "apt") {
                let because = "nothing here adds it; install it in the script, or run it as a service";
                draft.notes.lost(map, &format!("addons.{name}"), addon, because);
            }
        }
        _ => tables(draft, map, key, value),
    }
}

fn tables(draft: &Draft, map: &mut Map, key: &str, value: &Tree) {
    if let Some((_, because)) = MOOT.iter().find(|(known, _)| *known == key) {
        draft.notes.moot(map, key, value, *because);
    } else {
        by_table(&WITHOUT, &draft.notes, map, key, value);
    }
}
