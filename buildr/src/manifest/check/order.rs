//! `stages`: which stages run, and in which order.

use super::findings::{self, Findings};
use super::stage;
use crate::manifest::keys::NEVER_A_STAGE;
use crate::manifest::node::{Entry, Node, Shape};
use crate::manifest::source::{Span, Spanned, quoted};

const EXAMPLE: &str = "write `stages: [build, test]`, each a key of the manifest with a `script`";

/// One element of `stages`: its names. Several stand side by side.
pub(super) type Element<'n> = Vec<Spanned<&'n str>>;

/// Reads `stages`, with all other entries of the top level at hand.
struct Reader<'n, 'f, 's> {
    entries: &'n [Entry],
    findings: &'f mut Findings<'s>,
    elements: Vec<Element<'n>>,
}

/// The names that `stages` lists, in order, of those that are there, without `prepare`; nothing when it is no list.
pub(super) fn read<'n>(
    stages: &'n Entry,
    entries: &'n [Entry],
    findings: &mut Findings<'_>,
) -> Option<Vec<Element<'n>>> {
    let Shape::List(elements) = &stages.value.value else {
        let found = stages.value.value.kind();
        findings.error(stages.place(), format!("\"stages\" is a list of names, and here stands {found}"), EXAMPLE);
        return None;
    };
    if elements.is_empty() {
        findings.error(stages.place(), "\"stages\" lists nothing, so nothing would run", EXAMPLE);
    }
    let before = findings.count();
    let mut reader = Reader { entries, findings, elements: Vec::new() };
    for (index, element) in elements.iter().enumerate() {
        reader.element(element, stages.key.span, index);
    }
    let read = reader.elements;
    if read.is_empty() && !elements.is_empty() && findings.count() == before {
        findings.error(stages.place(), "\"stages\" lists no stage beside \"prepare\"", EXAMPLE);
    }
    Some(read)
}

impl<'n> Reader<'n, '_, '_> {
    fn element(&mut self, element: &'n Node, otherwise: Span, index: usize) {
        match &element.value {
            Shape::Scalar { text, .. } => {
                let name = Spanned { value: text.as_str(), span: element.span };
                if name.value == "prepare" {
                    self.prepare_at(index, name.span);
                } else if self.names_a_stage(&name) {
                    self.elements.push(vec![name]);
                }
            }
            Shape::List(group) => self.group(group, element.place_or(otherwise)),
            other => {
                let place = element.place_or(otherwise);
                let message = format!("\"stages\" lists names, and here stands {}", other.kind());
                self.findings.error(place, message, "write the name of a stage, such as `- build`");
            }
        }
    }

    /// Stages side by side.
    fn group(&mut self, group: &'n [Node], place: Span) {
        const SIDE_BY_SIDE: &str = "write `stages: [build, [unit, lint], deploy]`: an inner list runs side by side";
        if group.is_empty() {
            self.findings.error(place, "this list of stages side by side is empty", SIDE_BY_SIDE);
        }
        let index = self.elements.len();
        self.elements.push(Vec::new());
        for member in group {
            match &member.value {
                Shape::Scalar { text, .. } if text == "prepare" => self.findings.error(
                    member.span,
                    "\"prepare\" runs before all stages, and never beside one",
                    "take it off the list: it runs in any case",
                ),
                Shape::Scalar { text, .. } => {
                    let name = Spanned { value: text.as_str(), span: member.span };
                    if self.names_a_stage(&name) {
                        self.elements[index].push(name);
                    }
                }
                other => {
                    let message = format!("a list in \"stages\" lists names, and here stands {}", other.kind());
                    self.findings.error(member.place_or(place), message, SIDE_BY_SIDE);
                }
            }
        }
        if self.elements[index].is_empty() {
            self.elements.remove(index);
        }
    }

    fn get(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key.value == key)
    }

    fn prepare_at(&mut self, index: usize, span: Span) {
        if self.get("prepare").is_none() {
            self.findings.error(
                span,
                "\"prepare\" is listed, and the manifest has none",
                "write `prepare: {script: [...]}`, or take it off the list",
            );
        } else if index > 0 {
            self.findings.error(
                span,
                "\"prepare\" is listed after another stage, and it always runs before all of them",
                "write it first, or take it off the list: it runs in any case",
            );
        }
    }

    fn names_a_stage(&mut self, name: &Spanned<&str>) -> bool {
        if self.elements.iter().flatten().any(|before| before.value == name.value) {
            let message = format!("the stage {} is listed twice", quoted(name.value));
            self.findings.error(name.span, message, "write it once: a stage runs once in a build");
            return false;
        }
        if NEVER_A_STAGE.contains(&name.value) {
            let message = format!("{} is a word of the language and cannot name a stage", quoted(name.value));
            self.findings.error(name.span, message, "write another name, here and at the stage itself");
            return false;
        }
        if stage::name(name, self.findings).is_none() {
            return false;
        }
        if self.get(name.value).is_some() {
            return true;
        }
        let stages = self.entries.iter().filter(|entry| stage::runs(&entry.value.value));
        let names = stages.map(|entry| entry.key.value.as_str()).filter(|name| !NEVER_A_STAGE.contains(name));
        let guess = self.findings.guess(name.value, names);
        let message = format!("there is no stage {}{}", quoted(name.value), findings::did_you_mean(guess));
        let help = match guess {
            Some(guess) => format!("write `{guess}`, or give the manifest a key `{}` with a `script`", name.value),
            None => format!("write `{}: {{script: [...]}}`, or take the name off the list", name.value),
        };
        self.findings.error(name.span, message, help);
        false
    }
}
