//! The registry of keys: each key of each map of the language once, with its forms, what it means, and examples.
//!
//! The parser takes from it which keys there are, `buildr schema` makes a JSON Schema of it, and `buildr explain`
//! shows it to people. A key that is read and does not stand here, or stands here and is not read, fails a test.

mod top;
mod stage;
mod ends;
mod files;
mod machine;
mod gate;
mod schedule;
mod code;
pub(crate) mod look;
pub(crate) mod schema;

pub(super) use code::{CLONE, REPO};
pub(super) use ends::{ALLOW_FAILURE, EXCLUDABLE, MATRIX, PIPELINE_WHEN, RETRY, WHEN};
pub(super) use files::{ARTIFACTS, CACHE, COVERAGE, REPORTS, SEALED, SECRET};
pub(super) use gate::{CONCURRENCY, INPUT, MANUAL, TRIGGER};
pub(super) use machine::{ENVIRONMENT, IMAGE, READY, RESOURCES, SERVICE, SERVICE_ENVIRONMENT};
pub(super) use schedule::SCHEDULE;
pub(super) use stage::{FINALLY, PREPARE, STAGE};
pub(super) use top::{NEVER_A_STAGE, TOP};

/// One kind of map.
#[derive(Debug)]
pub(crate) struct Map {
    /// What a person calls it: "a stage", "the top level".
    pub(crate) title: &'static str,
    /// Its keys, in the order in which they are shown.
    pub(crate) keys: &'static [Key],
    /// What stands under any other key, where others are allowed.
    pub(crate) rest: Option<Rest>,
    /// Keys of which one must be there; none where all may be missing.
    pub(crate) required: &'static [&'static str],
    /// Keys that it will have.
    pub(crate) later: &'static [&'static str],
    /// Keys that it will never have, each with what is wrong about it, behind the map's name, and what to write.
    pub(crate) never: &'static [(&'static str, &'static str, &'static str)],
}

/// Keys of one's own in a map that also has words of the language.
#[derive(Debug)]
pub(crate) struct Rest {
    /// What they name, as "an axis".
    pub(crate) title: &'static str,
    /// What stands under them.
    pub(crate) form: Form,
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    /// As it is written.
    pub(crate) name: &'static str,
    /// What may stand behind it.
    pub(crate) form: Form,
    /// What it means, in plain sentences. The first one is enough for a list.
    pub(crate) says: &'static str,
    /// Whole little manifests that use it.
    pub(crate) examples: &'static [&'static str],
}

/// What may stand behind a key.
#[derive(Debug)]
pub(crate) enum Form {
    /// Any text that is not empty; a number or flag is taken as it is written.
    Text,
    /// Any text, the empty one too.
    AnyText,
    /// Text that fits a regular expression, and what it looks like in words.
    Shaped(&'static str, &'static str),
    /// `true` or `false`.
    Flag,
    /// `false` alone.
    False,
    /// A whole number from the first to the second.
    Number(i64, i64),
    /// A span of time: `90s`, `20m`, `1h30m`, `2d`.
    Duration,
    /// An amount of memory: `512m`, `2g`.
    Size,
    /// An amount of processor: `2`, `0.5`, `500m`.
    Cores,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these, or a list of them in which lists are flattened.
    Many(&'static Self),
    /// A list of these.
    List(&'static Self),
    /// A map of names of one's own to these.
    Named(&'static Self),
    /// A map with keys of the language.
    Map(&'static Map),
    /// Any of these.
    Any(&'static [Self]),
}

/// One text, or a list of texts.
const TEXTS: Form = Form::Many(&Form::Text);

/// A map of which all keys may be missing, and no others stand in it.
const fn map(title: &'static str, keys: &'static [Key]) -> Map {
    Map { title, keys, rest: None, required: &[], later: &[], never: &[] }
}

const fn key(name: &'static str, form: Form, says: &'static str, examples: &'static [&'static str]) -> Key {
    Key { name, form, says, examples }
}

impl Map {
    /// The names of its keys.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }

    /// Whether it has a key of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names().any(|key| key == name)
    }
}

#[cfg(test)]
mod tests;
