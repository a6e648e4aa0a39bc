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
    /// The place to point at when the value is wrong.
    pub(crate) fn place(&self) -> Span {
        self.value.place_or(self.key.span)
    }
}
