//! What stands at the head of a stage's script: the variables of the other system that it reads, and those of its own
//! whose values only a stage's shell knows.

use std::collections::BTreeSet;

use super::super::notes::NoteKind;
use super::super::words;
use super::{Draft, Stage};
use crate::manifest::Value;

/// Variables that every shell and image has.
const USUAL: &str = "\
    PATH HOME PWD OLDPWD USER SHELL LANG IFS HOSTNAME TMPDIR RANDOM UID EUID PPID LINENO SECONDS CI \
    BASH_SOURCE PIPESTATUS SHLVL TERM LC_ALL";

impl Draft {
    /// Lines that give the script the variables of the other system that it reads; tells those that cannot be given.
    pub(super) fn exports(&self, stage: &mut Stage, late: &[(String, String)]) -> Vec<String> {
        let mut text = stage.script.join("\n");
        for key in ["after", "on_failure"] {
            if let Some(Value::Lines(lines)) = stage.map.get(key) {
                lines.iter().for_each(|line| {
                    if let Value::Text(line) = line {
                        text.push('\n');
                        text += line;
                    }
                });
            }
        }
        let mut own = Vec::new();
        for name in words::used(&text) {
            set_late(&name, late, &mut own);
        }
        for (name, value) in late.iter().filter(|(name, _)| own.iter().any(|(known, _)| known == name)) {
            text = format!("{text}\n{value}");
            stage.known.push(name.clone());
        }
        let set = self.set_by(stage, &text);
        let mut exports = Vec::new();
        let mut unset = Vec::new();
        for name in words::used(&text) {
            if set.contains(&name) || USUAL.split(' ').any(|usual| usual == name) || name.starts_with("BUILDR") {
                continue;
            }
            match words::in_shell(self.kind, &name) {
                Some(word) => exports.push(format!("export {name}=\"{word}\"")),
                None if words::is_systems(self.kind, &name) => {
                    let why = format!(
                        "only {} sets it; set it in `environment`, or write what it stands for",
                        self.kind.title()
                    );
                    self.notes.say(
                        &mut stage.map,
                        NoteKind::Look,
                        format!("`${name}` in the script of `{}`", stage.name),
                        why,
                    );
                }
                None if is_settings(&name) => unset.push(name),
                None => {}
            }
        }
        if !unset.is_empty() {
            let names: Vec<String> = unset.iter().map(|name| format!("`${name}`")).collect();
            let why =
                format!("nothing in the file sets it; where it is a secret, write `secrets: [{}]`", unset.join(", "));
            self.notes.say(
                &mut stage.map,
                NoteKind::Look,
                format!("{} in the script of `{}`", names.join(", "), stage.name),
                why,
            );
        }
        exports.extend(own.into_iter().map(|(_, line)| line));
        exports
    }

    /// Whether a variable's value is known only in a stage's shell, where the script must set it.
    pub(super) fn is_late(&self, name: &str, value: &str, known: &[(String, String)]) -> bool {
        let others: Vec<(String, String)> = known.iter().filter(|(other, _)| other != name).cloned().collect();
        let (_, unknown) = words::replaced(self.kind, value, &others);
        unknown.iter().any(|name| words::in_shell(self.kind, name).is_some())
    }

    /// The variables that a script finds set, or sets.
    fn set_by(&self, stage: &Stage, script: &str) -> BTreeSet<String> {
        let mut set: BTreeSet<String> = [&self.variables, &self.ready, &stage.variables, &stage.ready]
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        set.extend(stage.known.iter().cloned());
        for secret in &stage.secrets {
            match secret {
                Value::Text(name) => drop(set.insert(name.clone())),
                Value::Map(map) => drop(map.keys().map(|key| set.insert(key.to_owned())).count()),
                _ => {}
            }
        }
        for name in words::used(script) {
            let sets =
                [format!("{name}="), format!("for {name} in"), format!("read {name}"), format!("read -r {name}")];
            if sets.iter().any(|set| script.contains(set)) {
                set.insert(name);
            }
        }
        set
    }
}

/// Adds the line that sets a variable, behind those of the variables that it reads.
fn set_late(name: &str, late: &[(String, String)], lines: &mut Vec<(String, String)>) {
    if lines.iter().any(|(known, _)| known == name) {
        return;
    }
    let Some((at, (_, value))) = late.iter().enumerate().find(|(_, (known, _))| known == name) else { return };
    // Without itself, for a circle has no end.
    let others: Vec<(String, String)> =
        late.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, one)| one.clone()).collect();
    for read in words::used(value) {
        set_late(&read, &others, lines);
    }
    let quoted: String =
        value.chars().flat_map(|c| matches!(c, '"' | '\\' | '`').then_some('\\').into_iter().chain([c])).collect();
    lines.push((name.to_owned(), format!("export {name}=\"{quoted}\"")));
}

/// Whether a name looks like a setting from outside, not like a script's own variable.
fn is_settings(name: &str) -> bool {
    name.len() > 2 && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}
