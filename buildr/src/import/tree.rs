//! Another system's file, as a tree that knows which of its values somebody has asked for. What nobody asked for is
//! told at the end: so nothing gets lost on the way, not even a key that nobody here has heard of.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::manifest::{Node, Shape, Text};

/// A value of the source. Copies of one value (aliases, merged templates) share whether they were asked for.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    /// Where it is written, counted from 1.
    pub(super) line: usize,
    pub(super) what: What,
    seen: Rc<Cell<bool>>,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Nothing,
    Text {
        text: String,
        truth: Option<bool>,
    },
    List(Vec<Tree>),
    /// GitLab's `!reference [job, key]`.
    Reference(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// The tree of a document.
    pub(super) fn new(source: &Text, node: &Node) -> Self {
        Planter { source, marks: HashMap::new() }.plant(node, 1)
    }

    /// A map from these entries, at the place of this value.
    pub(super) fn with_entries(&self, entries: Vec<(String, Self)>) -> Self {
        Self { line: self.line, what: What::Map(entries), seen: Rc::new(Cell::new(true)) }
    }

    /// The value of a key; None when there is none, or nothing in it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The entries, when it is a map.
    pub(super) fn entries(&self) -> &[(String, Self)] {
        match &self.what {
            What::Map(entries) => {
                self.seen.set(self.seen.get() || entries.is_empty());
                entries
            }
            _ => &[],
        }
    }

    /// The elements of a list; anything else is a list of one.
    pub(super) fn elements(&self) -> &[Self] {
        match &self.what {
            What::List(elements) => {
                self.seen.set(self.seen.get() || elements.is_empty());
                elements
            }
            What::Nothing => {
                self.seen.set(true);
                &[]
            }
            _ => std::slice::from_ref(self),
        }
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.what, What::Map(_))
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.what, What::List(_))
    }

    /// Its text, when it is one; then it counts as carried over.
    pub(super) fn text(&self) -> Option<&str> {
        let text = self.peek()?;
        self.seen.set(true);
        Some(text)
    }

    /// Its text, when it is one, only to look.
    pub(super) fn peek(&self) -> Option<&str> {
        match &self.what {
            What::Text { text, .. } => Some(text),
            _ => None,
        }
    }

    /// `true` or `false`, when it is one; then it counts as carried over.
    pub(super) fn truth(&self) -> Option<bool> {
        let truth = match &self.what {
            What::Text { truth: Some(truth), .. } => *truth,
            What::Text { text, .. } => match text.as_str() {
                "true" | "yes" | "on" => true,
                "false" | "no" | "off" => false,
                _ => return None,
            },
            _ => return None,
        };
        self.seen.set(true);
        Some(truth)
    }

    /// A whole number, when it is one; then it counts as carried over.
    pub(super) fn number(&self) -> Option<u64> {
        let number = self.peek()?.parse().ok()?;
        self.seen.set(true);
        Some(number)
    }

    /// A text, or the only one of a list of texts.
    pub(super) fn texts_one(&self) -> Option<String> {
        match self.elements() {
            [one] => one.text().map(str::to_owned),
            _ => None,
        }
    }

    /// Counts as dealt with when there is nothing in it: the key alone says it.
    pub(super) fn seen_if_empty(&self) {
        if matches!(self.what, What::Nothing) || self.entries().is_empty() && self.is_map() {
            self.seen.set(true);
        }
    }

    /// Whether nobody has asked for it, or for any part of it.
    pub(super) fn is_unseen(&self) -> bool {
        !self.is_touched()
    }

    /// A text, or the texts of a list, however deep: scripts, globs. What is no text stays unasked for.
    pub(super) fn texts(&self) -> Vec<String> {
        match &self.what {
            What::List(elements) => elements.iter().flat_map(Self::texts).collect(),
            _ => self.text().map(str::to_owned).into_iter().collect(),
        }
    }

    /// The way that a `!reference` names.
    pub(super) fn reference(&self) -> Vec<String> {
        match &self.what {
            What::Reference(elements) => elements.iter().filter_map(|part| part.peek().map(str::to_owned)).collect(),
            _ => Vec::new(),
        }
    }

    /// Counts all of it as dealt with.
    pub(super) fn told(&self) {
        self.seen.set(true);
        match &self.what {
            What::List(elements) | What::Reference(elements) => elements.iter().for_each(Self::told),
            What::Map(entries) => entries.iter().for_each(|(_, value)| value.told()),
            What::Nothing | What::Text { .. } => {}
        }
    }

    /// The largest parts of which nothing was asked for, with the way to each.
    pub(super) fn unseen<'t>(&'t self, way: &str, found: &mut Vec<(String, &'t Self)>) {
        if !self.is_touched() {
            found.push((way.to_owned(), self));
            return;
        }
        match &self.what {
            What::List(elements) | What::Reference(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    element.unseen(&format!("{way}[{index}]"), found);
                }
            }
            What::Map(entries) => {
                for (key, value) in entries {
                    let way = if way.is_empty() { key.clone() } else { format!("{way}.{key}") };
                    value.unseen(&way, found);
                }
            }
            What::Nothing | What::Text { .. } => {}
        }
    }

    /// Whether something of it was asked for.
    fn is_touched(&self) -> bool {
        self.seen.get()
            || match &self.what {
                What::List(elements) | What::Reference(elements) => elements.iter().any(Self::is_touched),
                What::Map(entries) => entries.iter().any(|(_, value)| value.is_touched()),
                What::Nothing | What::Text { .. } => false,
            }
    }

    /// All of it on one line, for a person.
    pub(super) fn shown(&self) -> String {
        let all = |elements: &[Self]| elements.iter().map(Self::shown).collect::<Vec<_>>().join(", ");
        match &self.what {
            What::Nothing => String::new(),
            What::Text { text, .. } => text.trim_end().replace('\n', "; "),
            What::List(elements) => format!("[{}]", all(elements)),
            What::Reference(elements) => format!("!reference [{}]", all(elements)),
            What::Map(entries) => {
                let entry = |(key, value): &(String, Self)| format!("{key}: {}", value.shown());
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

struct Planter<'s> {
    source: &'s Text,
    /// What an alias repeats stands at the place where it is defined.
    marks: HashMap<(usize, usize), Rc<Cell<bool>>>,
}

impl Planter<'_> {
    /// `line` is that of what is around it, for values that are not written.
    fn plant(&mut self, node: &Node, line: usize) -> Tree {
        let place = (node.span.start, node.span.end);
        let is_leaf = matches!(node.value, Shape::Scalar { .. });
        let seen =
            if is_leaf && place.1 > place.0 { self.marks.entry(place).or_default().clone() } else { Rc::default() };
        let line = match node.place_or(crate::manifest::Span { start: 0, end: 0 }) {
            span if span.end > span.start => self.source.line(span.start),
            _ => line,
        };
        let what = match &node.value {
            Shape::Null => What::Nothing,
            Shape::Scalar { text, truth } => What::Text { text: text.clone(), truth: *truth },
            Shape::List(elements) => {
                let before = self.source.text().get(..place.0).unwrap_or("").trim_end();
                let is_reference =
                    before.ends_with("!reference") || self.source.slice(node.span).starts_with("!reference");
                let elements = elements.iter().map(|element| self.plant(element, line)).collect();
                if is_reference { What::Reference(elements) } else { What::List(elements) }
            }
            Shape::Map(entries) => {
                let mut planted = Vec::new();
                for entry in entries {
                    let line = self.source.line(entry.key.span.start);
                    planted.push((entry.key.value.clone(), self.plant(&entry.value, line)));
                }
                What::Map(planted)
            }
        };
        Tree { line, what, seen }
    }
}
