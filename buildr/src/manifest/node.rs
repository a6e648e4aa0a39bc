//! What stands in a YAML file, before anybody asks what it means. No YAML crate's type leaves [`super::yaml`].

use super::source::{Span, Spanned};

/// One value and where it stands.
pub(crate) type Node = Spanned<Shape>;

/// What a value is. Aliases and merge keys are already resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Nothing, `~` or `null`.
    Null,
    /// Text as it is written: `1.10` is "1.10".
    Scalar {
        /// The text.
        text: String,
        /// What it says when it is a plain `true` or `false`.
        truth: Option<bool>,
    },
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file. No key stands twice.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The key's text.
    pub(crate) key: Spanned<String>,
    /// Its value.
    pub(crate) value: Node,
}

impl Shape {
    /// What it is, as a sentence names it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar { .. } => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// Whether it is a map with this key.
    pub(crate) fn has(&self, key: &str) -> bool {
        matches!(self, Self::Map(entries) if entries.iter().any(|entry| entry.key.value == key))
    }
}

impl Spanned<Shape> {
    /// How many values it is, itself among them.
    pub(super) fn count(&self) -> usize {
        match &self.value {
            Shape::List(elements) => 1 + elements.iter().map(Self::count).sum::<usize>(),
            Shape::Map(entries) => 1 + entries.iter().map(|entry| entry.value.count()).sum::<usize>(),
            Shape::Null | Shape::Scalar { .. } => 1,
        }
    }

    /// The same value, its places so much further on. Recursion is bounded by the depth of a parsed text.
    pub(super) fn on(self, by: usize) -> Self {
        let value = match self.value {
            Shape::List(elements) => Shape::List(elements.into_iter().map(|element| element.on(by)).collect()),
            Shape::Map(entries) => Shape::Map(entries.into_iter().map(|entry| entry.on(by)).collect()),
            plain => plain,
        };
        Self { value, span: self.span.on(by) }
    }

    /// The place to point at when it is wrong: what is written of it, or `otherwise` when that is nothing.
    pub(crate) fn place_or(&self, otherwise: Span) -> Span {
        match &self.value {
            _ if self.span.end > self.span.start => self.span,
            // What is written without brackets has no text of its own.
            Shape::Map(entries) => entries.first().map_or(otherwise, |entry| entry.key.span),
            Shape::List(elements) => elements.first().map_or(otherwise, |first| first.place_or(otherwise)),
            Shape::Null | Shape::Scalar { .. } => otherwise,
        }
    }
}

impl Entry {
    fn on(self, by: usize) -> Self {
        Self { key: Spanned { value: self.key.value, span: self.key.span.on(by) }, value: self.value.on(by) }
    }

    /// The place to point at when the value is wrong.
    pub(crate) fn place(&self) -> Span {
        self.value.place_or(self.key.span)
    }
}
