//! What is found wrong while a manifest is read, and the plain values, which are wrong in the same few ways
//! everywhere.

use protocol::plan::Pull;

use crate::manifest::language::Image;
use crate::manifest::node::{Entry, Node, Shape};
use crate::manifest::source::{Problem, Source, Span, Spanned, quoted};
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

/// The keys of one kind of map.
pub(super) struct Keys {
    /// What the map is called in a sentence.
    pub(super) owner: String,
    /// Those that it has.
    pub(super) known: &'static [&'static str],
    /// Those that it will have.
    pub(super) later: &'static [&'static str],
    /// Those that it will never have, each with what is wrong about it and what to write.
    pub(super) never: &'static [(&'static str, &'static str, &'static str)],
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
    pub(super) fn later(&mut self, entry: &Entry, help: impl Into<String>) {
        let message = format!("this version of buildr does not know {} yet", quoted(&entry.key.value));
        self.error(entry.key.span, message, help);
    }

    /// The entries of a map whose keys are all known; the others are told and left out.
    pub(super) fn entries<'n>(&mut self, entry: &'n Entry, keys: &Keys, example: &str) -> Vec<&'n Entry> {
        let Shape::Map(entries) = &entry.value.value else {
            let message = format!("{} is a map, and here stands {}", keys.owner, entry.value.value.kind());
            self.error(entry.place(), message, format!("write `{example}`"));
            return Vec::new();
        };
        let mut known = Vec::new();
        for entry in entries {
            let key = entry.key.value.as_str();
            if keys.known.contains(&key) {
                known.push(entry);
            } else if let Some((_, message, help)) = keys.never.iter().find(|(never, ..)| *never == key) {
                self.error(entry.key.span, *message, *help);
            } else if keys.later.contains(&key) {
                self.later(entry, format!("take it out: {} has {} today", keys.owner, words::listed(keys.known)));
            } else {
                let guess = self.guess(key, keys.known.iter().chain(keys.later).copied());
                let message = format!("{} has no key {}{}", keys.owner, quoted(key), did_you_mean(guess));
                let help = match guess {
                    Some(guess) => format!("write `{guess}`, such as `{example}`"),
                    None => format!("write `{example}`: {} has {} today", keys.owner, words::listed(keys.known)),
                };
                self.error(entry.key.span, message, help);
            }
        }
        known
    }

    /// One text, as it is written.
    pub(super) fn text(&mut self, node: &Node, place: Span, what: &str, help: &str) -> Option<Spanned<String>> {
        match &node.value {
            Shape::Scalar { text, .. } if text.contains('\0') => {
                self.error(place, format!("{what} holds a NUL character, which no program can be given"), help);
                None
            }
            Shape::Scalar { text, .. } => Some(Spanned { value: text.clone(), span: node.span }),
            Shape::Null => {
                self.error(place, format!("{what} has no value"), help);
                None
            }
            other => {
                self.error(place, format!("{what} is text, not {}", other.kind()), help);
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, entry: &Entry) -> Option<bool> {
        let key = &entry.key.value;
        match &entry.value.value {
            Shape::Scalar { truth: Some(truth), .. } => return Some(*truth),
            other => {
                let message = format!("{} is `true` or `false`, and here stands {}", quoted(key), shown(other));
                self.error(entry.place(), message, format!("write `{key}: true`, or leave it out"));
            }
        }
        None
    }

    /// The name of an image.
    pub(super) fn image(&mut self, entry: &Entry) -> Option<Image> {
        const HELP: &str = "write `image: debian:bookworm-slim`, a name as `docker pull` takes it";
        let image = self.text(&entry.value, entry.place(), "\"image\"", HELP)?;
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if image.value.is_empty() || image.value.contains(odd) || image.value.starts_with('-') {
            self.error(entry.place(), format!("{} is not the name of an image", quoted(&image.value)), HELP);
            return None;
        }
        Some(Image { name: image, pull: Pull::Missing, user: None, entrypoint: None, platform: None })
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
