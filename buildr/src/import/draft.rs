//! The manifest while it is being made: stages with their scripts and variables, and how they are put together.

mod exports;

use super::Kind;
use super::conditions::{Condition, none_possible, written};
use super::notes::{NoteKind, Notes};
use super::words;
use crate::manifest::{Map, Value};

/// The order of keys in a manifest.
const TOP: &str = "\
    when image environment matrix services cache clone workspace dir agent platform docker secrets inputs concurrency \
    cancel_superseded timeout stages prepare";

/// The order of keys in a stage.
const STAGE: &str = "\
    needs when manual matrix parallel agent platform image docker privileged services environment \
    secrets cache clone concurrency dir shell timeout idle_timeout retry allow_failure trigger script \
    on_failure after reports artifacts resources";

/// Words of the language that a stage of an imported manifest is not called.
const RESERVED: &str = "\
    version image platform environment stages prepare finally services matrix when clone repos cache \
    secrets artifacts reports defaults include extends concurrency cancel_superseded timeout \
    idle_timeout retry resources agent privileged docker shell dir workspace schedule inputs notify \
    priority fail_fast trigger manual parallel allow_failure needs script after on_failure generate \
    network interruptible queue_timeout stage_parallelism";

/// A stage while it is being made.
#[derive(Debug, Default)]
pub(super) struct Stage {
    /// Its name here.
    pub(super) name: String,
    /// What single commands are for, by their index.
    pub(super) titles: Vec<(usize, String)>,
    /// All but the script and the environment.
    pub(super) map: Map,
    /// Its commands.
    pub(super) script: Vec<String>,
    /// Its own variables.
    pub(super) variables: Vec<(String, String)>,
    /// Names that it reads as secrets.
    pub(super) secrets: Vec<Value>,
    /// When it runs: one of these must hold.
    pub(super) conditions: Vec<Condition>,
    /// When its image is pulled, where the source says it.
    pub(super) pull: Option<&'static str>,
    /// Variables whose values are in this language already: axes of a matrix.
    pub(super) ready: Vec<(String, String)>,
    /// Variables that come from elsewhere.
    pub(super) known: Vec<String>,
}

/// The manifest while it is being made.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) kind: Kind,
    /// All but the stages.
    pub(super) top: Map,
    /// In the order of the file.
    pub(super) stages: Vec<Stage>,
    /// Names that run one after the other; those in one group beside each other.
    pub(super) groups: Vec<Vec<String>>,
    /// Variables of all stages.
    pub(super) variables: Vec<(String, String)>,
    /// Those whose values are in this language already.
    pub(super) ready: Vec<(String, String)>,
    pub(super) notes: Notes,
    names: Vec<(String, String)>,
}

impl Draft {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            top: Map::default(),
            stages: Vec::new(),
            groups: Vec::new(),
            variables: Vec::new(),
            ready: Vec::new(),
            notes: Notes::default(),
            names: Vec::new(),
        }
    }

    /// The name of a stage for a name of the source: the same wherever it is asked for, and no other one's.
    pub(super) fn name(&mut self, foreign: &str) -> String {
        if let Some((_, own)) = self.names.iter().find(|(known, _)| known == foreign) {
            return own.clone();
        }
        let mut own = String::new();
        for c in foreign.chars() {
            let fits = c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
            if fits && (!own.is_empty() || c.is_ascii_alphanumeric()) {
                own.push(c);
            } else if !own.is_empty() && !own.ends_with('-') {
                own.push('-');
            }
        }
        own.truncate(50);
        let mut own = own.trim_end_matches('-').to_owned();
        if own.is_empty() {
            "stage".clone_into(&mut own);
        }
        if RESERVED.split(' ').any(|word| word == own) {
            own += "-stage";
        }
        let mut unique = own.clone();
        let mut number = 2;
        while self.names.iter().any(|(_, taken)| *taken == unique) {
            unique = format!("{own}-{number}");
            number += 1;
        }
        self.names.push((foreign.to_owned(), unique.clone()));
        unique
    }

    /// Begins a stage, and says so where it is called another name than in the source.
    pub(super) fn stage(&mut self, foreign: &str) -> Stage {
        let name = self.name(foreign);
        let mut stage = Stage { name, ..Stage::default() };
        if stage.name != foreign {
            stage.map.remark(format!("called `{foreign}` in {}", self.kind.title()));
        }
        stage
    }

    /// Replaces variables in a declarative value, and tells those that nobody knows. `own` wins over all stages'.
    pub(super) fn value(&self, map: &mut Map, key: &str, text: &str, own: &[(String, String)]) -> String {
        let all: Vec<(String, String)> = own.iter().chain(&self.variables).cloned().collect();
        let (value, unknown) = words::replaced(self.kind, text, &all);
        for name in unknown {
            let why =
                format!("{} sets it and buildr does not; write its value in place of `${name}`", self.kind.title());
            self.notes.say(map, NoteKind::Look, format!("`${name}` in `{key}: {text}`"), why);
        }
        value
    }

    /// The text of the manifest. `from` is what the source is called.
    pub(super) fn finish(mut self, from: &str) -> (String, Notes) {
        let mut stages = std::mem::take(&mut self.stages);
        self.check_needs(&mut stages);
        let mut maps = Vec::new();
        for stage in stages {
            let name = stage.name.clone();
            let map = self.closed(stage);
            maps.push((name, map));
        }
        self.set_stages();
        let mut variables = std::mem::take(&mut self.variables);
        let all = variables.clone();
        variables.retain(|(name, value)| !self.is_late(name, value, &all));
        if !variables.is_empty() || !self.ready.is_empty() {
            let mut top = std::mem::take(&mut self.top);
            let vars = self.vars(&mut top, &variables, &variables, &self.ready);
            self.top = top;
            self.top.set("environment", Map::of("vars", vars));
        }
        self.top.sort(&TOP.split(' ').collect::<Vec<_>>());
        let remarks = self.top.take_remarks();
        self.top.remark(format!("Written by `buildr import` from {from} ({}).", self.kind.title()));
        remarks.into_iter().for_each(|remark| self.top.remark(remark));
        for key in ["stages", "prepare"] {
            self.top.set_apart(key);
        }
        for (name, map) in maps {
            self.top.set(&name, map);
            self.top.set_apart(&name);
        }
        (self.top.document(), self.notes)
    }

    /// Takes away needs of stages that are not there, and tells them.
    fn check_needs(&self, stages: &mut [Stage]) {
        let names: Vec<String> = stages.iter().map(|stage| stage.name.clone()).collect();
        for stage in stages {
            let Some(Value::List(needs)) = stage.map.get("needs").cloned() else { continue };
            let is_there = |need: &Value| match need {
                Value::Text(need) => names.iter().any(|name| name == need.trim_end_matches('?')),
                _ => false,
            };
            let (there, lost): (Vec<Value>, Vec<Value>) = needs.into_iter().partition(is_there);
            for need in lost {
                if let Value::Text(need) = need {
                    let why = "there is no such stage here; look whether another one is meant";
                    self.notes.say(&mut stage.map, NoteKind::Lost, format!("`needs: {need}`"), why);
                }
            }
            stage.map.set("needs", Value::List(there));
        }
    }

    fn set_stages(&mut self) {
        let groups: Vec<Value> = self
            .groups
            .iter()
            .filter(|group| !group.is_empty())
            .map(|group| match group.as_slice() {
                [one] => Value::from(one.as_str()),
                several => Value::texts(several.iter().map(String::as_str)),
            })
            .collect();
        self.top.set("stages", Value::List(groups));
    }

    /// `NAME=value` for each variable. `known` are those that may stand in a value; `ready` are in this language.
    fn vars(
        &self,
        map: &mut Map,
        variables: &[(String, String)],
        known: &[(String, String)],
        ready: &[(String, String)],
    ) -> Value {
        let mut lines = Vec::new();
        for (name, value) in variables {
            let others: Vec<(String, String)> = known.iter().filter(|(other, _)| other != name).cloned().collect();
            lines.push(format!("{name}={}", self.value(map, name, value, &others)));
        }
        lines.extend(ready.iter().map(|(name, value)| format!("{name}={value}")));
        Value::lines(lines)
    }

    /// A stage's map with all that belongs into it.
    fn closed(&self, mut stage: Stage) -> Map {
        let does = !stage.script.is_empty() || stage.map.has("trigger");
        if !does {
            stage.map.remark(
                "nothing of this stage's work could be carried over: it fails until somebody writes its script",
            );
            stage.script.push(format!("echo 'write the script of the stage {}' >&2; exit 1", stage.name));
        }
        if stage.map.has("trigger") {
            /// What may stand beside `trigger`: it begins another build, and runs nothing itself.
            const BESIDE: [&str; 8] =
                ["trigger", "needs", "when", "matrix", "manual", "concurrency", "allow_failure", "timeout"];
            for key in stage.map.retain(&BESIDE) {
                stage.map.remark(format!(
                    "not needed: `{key}`, because a stage that begins another build runs nothing itself"
                ));
            }
            for line in std::mem::take(&mut stage.script) {
                let why = "a stage that begins another build runs nothing itself; write a stage before it";
                self.notes.say(&mut stage.map, NoteKind::Lost, format!("`script: {line}`"), why);
            }
        }
        let known: Vec<(String, String)> = stage.variables.iter().chain(&self.variables).cloned().collect();
        let late: Vec<(String, String)> =
            known.iter().filter(|(name, value)| self.is_late(name, value, &known)).cloned().collect();
        stage.variables.retain(|variable| !late.contains(variable));
        let exports = self.exports(&mut stage, &late);
        if !stage.script.is_empty() {
            let titled = |(index, line): (usize, String)| match stage.titles.iter().find(|(at, _)| *at == index) {
                Some((_, title)) => Value::Remarked(title.clone(), Box::new(line.into())),
                None => Value::from(line),
            };
            let script = std::mem::take(&mut stage.script).into_iter().enumerate().map(titled);
            let script: Vec<Value> = exports.into_iter().map(Value::from).chain(script).collect();
            stage.map.set("script", Value::Lines(script));
        }
        if !stage.variables.is_empty() || !stage.ready.is_empty() {
            let known: Vec<(String, String)> = stage.variables.iter().chain(&self.variables).cloned().collect();
            let vars = self.vars(&mut stage.map, &stage.variables, &known, &stage.ready);
            stage.map.set("environment", Map::of("vars", vars));
        }
        if !stage.secrets.is_empty() {
            stage.map.set("secrets", Value::List(std::mem::take(&mut stage.secrets)));
        }
        if let (Some(pull), Some(Value::Text(image))) = (stage.pull, stage.map.get("image").cloned()) {
            let mut long = Map::of("name", image);
            long.set("pull", pull);
            stage.map.set("image", long);
        }
        self.look_at_axes(&mut stage.map);
        if none_possible(&stage.conditions) {
            let why = "no build meets all of them, so it runs only in builds that a person starts; write its `when`";
            let what = format!("the conditions of `{}`", stage.name);
            self.notes.say(&mut stage.map, NoteKind::Look, what, why);
        }
        if let Some(when) = written(&stage.conditions) {
            stage.map.set("when", when);
        }
        stage.map.sort(&STAGE.split(' ').collect::<Vec<_>>());
        stage.map
    }

    /// Tells values of an axis of which there are probably no images.
    fn look_at_axes(&self, map: &mut Map) {
        let (Some(Value::Text(image)), Some(Value::Map(matrix))) = (map.get("image"), map.get("matrix")) else {
            return;
        };
        let odd = |axis: &str, value: &Value| match value {
            Value::Text(text) => {
                image.contains(&format!("${{matrix.{axis}}}")) && !text.starts_with(|c: char| c.is_ascii_digit())
            }
            _ => false,
        };
        let mut found: Vec<String> = Vec::new();
        for axis in matrix.keys() {
            if let Some(Value::Lines(cells)) = matrix.get(axis).filter(|_| axis == "include") {
                for cell in cells {
                    let Value::Map(cell) = cell else { continue };
                    let odd = cell.keys().filter_map(|key| cell.get(key).filter(|value| odd(key, value)));
                    found.extend(odd.filter_map(|value| match value {
                        Value::Text(text) => Some(format!("`{text}`")),
                        _ => None,
                    }));
                }
            }
            let cells = match matrix.get(axis) {
                Some(Value::List(values)) => values.as_slice(),
                _ => &[],
            };
            found.extend(cells.iter().filter(|value| odd(axis, value)).filter_map(|value| match value {
                Value::Text(text) => Some(format!("`{text}`")),
                _ => None,
            }));
        }
        found.dedup();
        if !found.is_empty() {
            let what = format!("{} in the matrix", found.join(", "));
            let why = format!("the image is {image}; write versions of which there are images");
            self.notes.say(map, NoteKind::Look, what, why);
        }
    }
}

/// Sets the `when` of all stages. A build on a laptop is of no event of the forge's, and is meant to run.
pub(super) fn top_when(map: &mut Map, mut conditions: Vec<Condition>) {
    if none_possible(&conditions) {
        map.remark("look at: no build meets all conditions: it runs only in builds that a person starts");
        conditions = vec![Condition::by_hand()];
    }
    if !conditions.is_empty() && !conditions.iter().any(Condition::is_empty) {
        conditions.push(Condition::of("event", ["local"]));
    }
    if let Some(when) = written(&conditions) {
        map.set("when", when);
    }
}

/// A secret under a name of its own, or the same.
pub(super) fn secret(variable: &str, name: &str) -> Value {
    if variable == name { Value::from(name) } else { Map::of(variable, Map::of("from", name)).into() }
}

/// A text as a shell's word that means just that.
pub(super) fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
