//! What is found wrong while a manifest is read.

use crate::manifest::keys::{Map, TOP};
use crate::manifest::node::{Entry, Node, Shape};
use crate::manifest::source::{Problem, Source, Span, quoted};
use crate::manifest::words;

/// The most problems that are told at once: more than a person mends before trying again.
const MAX_TOLD: usize = 20;

/// Collects errors and warnings.
pub(super) struct Findings<'s> {
    source: &'s Source,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
}

/// What becomes a [`Problem`] if it is told.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    span: Span,
    message: String,
    help: String,
}

/// The first findings in the order of the file, and how many there are besides.
pub(in crate::manifest) struct Told {
    pub(in crate::manifest) problems: Vec<Problem>,
    pub(in crate::manifest) more: usize,
}

/// The keys of a map, and what the map is called.
pub(super) struct Keys {
    /// What the map is called in a sentence.
    pub(super) owner: String,
    /// The words that it has, and those that it has not.
    pub(super) map: &'static Map,
}

impl Keys {
    /// Of a map that is known by the key before it.
    pub(super) fn of(key: &str, map: &'static Map) -> Self {
        Self { owner: quoted(key), map }
    }
}

impl<'s> Findings<'s> {
    pub(super) fn new(source: &'s Source) -> Self {
        Self { source, errors: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn error(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.errors.push(Finding { span, message: message.into(), help: help.into() });
    }

    pub(super) fn warning(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.warnings.push(Finding { span, message: message.into(), help: help.into() });
    }

    /// How many errors there are so far.
    pub(super) fn count(&self) -> usize {
        self.errors.len()
    }

    /// The warnings when nothing is wrong, else the errors.
    pub(super) fn into_result(self) -> Result<Told, Told> {
        let tell = |mut findings: Vec<Finding>| {
            findings.sort();
            // What an alias repeats is read as often, and told once.
            findings.dedup();
            let more = findings.len().saturating_sub(MAX_TOLD);
            let told = findings.iter().take(MAX_TOLD);
            Told { problems: told.map(|it| self.source.problem(it.span, &it.message, &it.help)).collect(), more }
        };
        if self.errors.is_empty() { Ok(tell(self.warnings)) } else { Err(tell(self.errors)) }
    }

    /// The word that was most likely meant. Not looked for when there is more to tell than will be told.
    pub(super) fn guess<'w>(&self, word: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
        if self.count() < MAX_TOLD { words::closest(word, words) } else { None }
    }

    pub(super) fn source(&self) -> &'s Source {
        self.source
    }

    /// A key of the full language that this version does not have.
    pub(super) fn later(&mut self, entry: &Entry) {
        let message = format!("this version of buildr does not know {} yet", quoted(&entry.key.value));
        self.error(entry.key.span, message, "take it out until it does");
    }

    /// The entries of a key's map, of those whose own keys are known; the others are told and left out.
    pub(super) fn entries<'n>(&mut self, entry: &'n Entry, keys: &Keys, example: &str) -> Vec<&'n Entry> {
        self.map(&entry.value, entry.place(), keys, example)
    }

    /// The entries of a map whose keys are all known; the others are told and left out.
    pub(super) fn map<'n>(&mut self, node: &'n Node, place: Span, keys: &Keys, example: &str) -> Vec<&'n Entry> {
        let Shape::Map(entries) = &node.value else {
            let message = format!("{} is a map, and here stands {}", keys.owner, shown(&node.value));
            self.error(place, message, format!("write `{example}`"));
            return Vec::new();
        };
        let mut known = Vec::new();
        for entry in entries {
            if keys.map.has(&entry.key.value) {
                known.push(entry);
            } else {
                self.unknown(entry, keys, example);
            }
        }
        known
    }

    /// A key that a map does not have.
    fn unknown(&mut self, entry: &Entry, keys: &Keys, example: &str) {
        let key = entry.key.value.as_str();
        let Map { later, never, .. } = keys.map;
        let known: Vec<&str> = keys.map.names().collect();
        if let Some((_, message, help)) = never.iter().find(|(never, ..)| *never == key) {
            self.error(entry.key.span, format!("{} {message}", keys.owner), *help);
        } else if later.contains(&key) {
            self.later(entry);
        } else {
            let guess = self.guess(key, known.iter().copied());
            let message = format!("{} has no key {}{}", keys.owner, quoted(key), did_you_mean(guess));
            let help = match guess {
                Some(guess) => format!("write `{guess}`, such as `{example}`"),
                None if keys.map.has("script") && TOP.has(key) => "write it at the top level".to_owned(),
                None if known.len() > 8 => format!("write `{example}`; `buildr explain` lists all keys"),
                None => format!("write `{example}`: {} has {}", keys.owner, words::listed(&known)),
            };
            self.error(entry.key.span, message, help);
        }
    }
}

/// What a value is, or what it says when that is short enough for a sentence.
pub(super) fn shown(shape: &Shape) -> String {
    match shape {
        Shape::Scalar { text, .. } => quoted(text),
        other => other.kind().to_owned(),
    }
}

/// The end of a sentence about a word that is not known.
pub(super) fn did_you_mean(guess: Option<&str>) -> String {
    guess.map_or_else(String::new, |guess| format!("; did you mean {}?", quoted(guess)))
}
