//! `extends`: stages that begin with what templates say. Templates are top-level keys that begin with `.`.

use std::collections::HashMap;

use super::findings::{Findings, did_you_mean};
use super::values::flatten;
use crate::manifest::keys::TOP;
use crate::manifest::node::{Entry, Node, Shape};
use crate::manifest::source::{Span, Spanned, quoted};

/// How far templates may extend others that extend others.
const MAX_DEPTH: usize = 16;

/// The most values that all of it may come to.
const MAX_NODES: usize = 100_000;

const HELP: &str = "write `extends: .name`, where `.name` is a key of the top level, or a list of such";

/// The top level in which every `extends` has been carried out; nothing when that came to too much. `listed` says what
/// `stages` makes a stage.
pub(super) fn resolve(
    entries: &[Entry],
    listed: impl Fn(&str) -> bool,
    findings: &mut Findings<'_>,
) -> Option<Vec<Entry>> {
    let templates = entries.iter().filter(|entry| entry.key.value.starts_with('.'));
    let templates = templates.map(|entry| (entry.key.value.as_str(), entry)).collect();
    let mut resolver = Resolver { entries: templates, done: HashMap::new(), nodes: 0, full: false, findings };
    let is_stage = |key: &str| {
        let own = key.starts_with('.') || key.starts_with("x-");
        listed(key) || matches!(key, "prepare" | "finally") || !(own || TOP.has(key) || TOP.later.contains(&key))
    };
    let resolved = entries
        .iter()
        .map(|entry| {
            if is_stage(&entry.key.value) && entry.value.value.has("extends") {
                let value = resolver.extended(&entry.value, entry.key.span, &mut Vec::new());
                Entry { key: entry.key.clone(), value }
            } else {
                entry.clone()
            }
        })
        .collect();
    (!resolver.full).then_some(resolved)
}

struct Resolver<'n, 'f, 's> {
    entries: HashMap<&'n str, &'n Entry>,
    /// Templates that have been carried out.
    done: HashMap<&'n str, Node>,
    nodes: usize,
    /// Whether it was told that it comes to too much.
    full: bool,
    findings: &'f mut Findings<'s>,
}

impl<'n> Resolver<'n, '_, '_> {
    /// A map with what it extends in it. `way` is the templates that led here.
    fn extended(&mut self, node: &Node, key: Span, way: &mut Vec<&'n str>) -> Node {
        let Shape::Map(entries) = &node.value else { return node.clone() };
        let Some(extends) = entries.iter().find(|entry| entry.key.value == "extends") else { return node.clone() };
        let own: Vec<Entry> = entries.iter().filter(|entry| entry.key.value != "extends").cloned().collect();
        let mut names = Vec::new();
        flatten(&extends.value, extends.place(), &mut |node, place| {
            names
                .extend(self.findings.filled(node, place, "a template in \"extends\"", HELP).map(|name| (name, place)));
        });
        let mut whole = Vec::new();
        for (name, place) in names {
            if let Some(Node { value: Shape::Map(base), .. }) = self.template(&name, place, way) {
                whole = self.merged(whole, base, place);
            } else if !whole.iter().any(|entry: &Entry| entry.key.value == "extends") {
                // What it would have brought is not missed besides.
                whole.push(extends.clone());
            }
        }
        let whole = self.merged(whole, own, key);
        Spanned { value: Shape::Map(whole), span: node.span }
    }

    /// What a template says, with what it extends itself.
    fn template(&mut self, name: &Spanned<String>, place: Span, way: &mut Vec<&'n str>) -> Option<Node> {
        let Some((&key, &entry)) = self.entries.get_key_value(name.value.as_str()) else {
            let guess = self.findings.guess(&name.value, self.entries.keys().copied());
            let guess = guess.or_else(|| {
                let dotted = format!(".{}", name.value);
                self.entries.get_key_value(dotted.as_str()).map(|(key, _)| *key)
            });
            let message = format!("there is no template {}{}", quoted(&name.value), did_you_mean(guess));
            self.findings.error(place, message, HELP);
            return None;
        };
        if let Some(done) = self.done.get(key) {
            return Some(done.clone());
        }
        if way.contains(&key) || way.len() == MAX_DEPTH {
            let round: Vec<&str> = way.iter().copied().chain([key]).collect();
            let message = if way.contains(&key) {
                format!("the template {} extends itself: {}", quoted(key), round.join(" -> "))
            } else {
                format!("more than {MAX_DEPTH} templates extend one another here")
            };
            self.findings.error(place, message, "take one of these `extends` out");
            return None;
        }
        if !matches!(entry.value.value, Shape::Map(_)) {
            let message = format!("{} is no template: it is {}, and not a map", quoted(key), entry.value.value.kind());
            self.findings.error(place, message, format!("write `{key}: {{script: [...]}}`"));
            return None;
        }
        way.push(key);
        let node = self.extended(&entry.value, entry.key.span, way);
        way.pop();
        self.done.insert(key, node.clone());
        Some(node)
    }

    /// Two maps as one: maps in both are merged, of everything else the later one holds.
    fn merged(&mut self, mut base: Vec<Entry>, over: Vec<Entry>, place: Span) -> Vec<Entry> {
        self.nodes += base.len() + over.iter().map(|entry| entry.value.count()).sum::<usize>();
        if self.nodes > MAX_NODES {
            if !self.full {
                self.full = true;
                let message = "what is extended from here on comes to too much";
                self.findings.error(place, message, format!("write less than {MAX_NODES} values, all stages together"));
            }
            return Vec::new();
        }
        for entry in over {
            let Some(same) = base.iter_mut().find(|before| before.key.value == entry.key.value) else {
                base.push(entry);
                continue;
            };
            let value = match (std::mem::replace(&mut same.value.value, Shape::Null), entry.value.value) {
                (Shape::Map(below), Shape::Map(above)) => Shape::Map(self.merged(below, above, place)),
                (_, above) => above,
            };
            *same = Entry { key: entry.key, value: Spanned { value, span: entry.value.span } };
        }
        base
    }
}
