//! What a person must know of an import: what was not carried over, what is not needed here, what to look at. Each
//! note stands as a comment at its place in the manifest, and once more in the list that the command prints.

use std::cell::RefCell;
use std::fmt;

use super::tree::Tree;
use crate::manifest::Map;

/// Of which kind a note is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// Something of the source has no counterpart in the manifest.
    Lost,
    /// Something of the source is not needed here.
    Moot,
    /// Something was carried over, and a person should look at it.
    Look,
}

/// One thing to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Of which kind.
    pub kind: NoteKind,
    /// The line of the source, counted from 1; 0 when it is about no line.
    pub line: usize,
    /// What it is about, as the source has it.
    what: String,
    /// Why, and what to do.
    why: String,
}

impl Note {
    fn told(&self, what: &str) -> String {
        let place = if self.line == 0 { String::new() } else { format!(" (line {})", self.line) };
        match self.kind {
            NoteKind::Lost => format!("not carried over: {what}{place}, because {}", self.why),
            NoteKind::Moot => format!("not needed: {what}{place}, because {}", self.why),
            NoteKind::Look => format!("look at: {what}{place}: {}", self.why),
        }
    }
}

/// As the command lists it: cut where what it is about is long.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// What a line of a terminal can bear, in characters.
        const LONGEST: usize = 90;
        let what: String = self.what.chars().take(LONGEST).collect();
        let more = if what.len() < self.what.len() { "…" } else { "" };
        f.write_str(&self.told(&format!("{what}{more}")))
    }
}

/// All notes of an import, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Notes(RefCell<Vec<Note>>);

impl Notes {
    /// A value of the source that is not carried over. `because` ends with what to do.
    pub(super) fn lost(&self, map: &mut Map, key: &str, tree: &Tree, because: impl Into<String>) {
        self.put(map, NoteKind::Lost, key, tree, because.into());
    }

    /// A value of the source that is not needed here.
    pub(super) fn moot(&self, map: &mut Map, key: &str, tree: &Tree, because: impl Into<String>) {
        self.put(map, NoteKind::Moot, key, tree, because.into());
    }

    /// A value that is carried over with a difference.
    pub(super) fn look(&self, map: &mut Map, key: &str, tree: &Tree, why: impl Into<String>) {
        self.put(map, NoteKind::Look, key, tree, why.into());
    }

    /// Something that stands at no one place of the source.
    pub(super) fn say(&self, map: &mut Map, kind: NoteKind, what: impl Into<String>, why: impl Into<String>) {
        self.push(map, Note { kind, line: 0, what: what.into(), why: why.into() });
    }

    /// Tells all of a value for which nobody asked.
    pub(super) fn sweep(&self, map: &mut Map, tree: &Tree) {
        let mut unseen = Vec::new();
        tree.unseen("", &mut unseen);
        for (way, part) in unseen {
            let because = "`buildr import` does not know it there; write by hand what it is for (docs/manifest.md)";
            self.lost(map, if way.is_empty() { "all of it" } else { &way }, part, because);
        }
    }

    pub(super) fn into_list(self) -> Vec<Note> {
        self.0.into_inner()
    }

    fn put(&self, map: &mut Map, kind: NoteKind, key: &str, tree: &Tree, why: String) {
        tree.told();
        let shown = tree.shown();
        let what = if shown.is_empty() { format!("`{key}`") } else { format!("`{key}: {shown}`") };
        self.push(map, Note { kind, line: tree.line, what, why });
    }

    fn push(&self, map: &mut Map, note: Note) {
        map.remark(note.told(&note.what));
        let mut all = self.0.borrow_mut();
        if !all.contains(&note) {
            all.push(note);
        }
    }
}
