//! `${branch}` and its like in declarative values. Scripts are never touched: there the shell has the word.

use protocol::Variable;
use protocol::plan::Cell;

use super::facts::Facts;
use super::findings::{Findings, closest, instead};
use crate::manifest::{Problem, Source, Span, Spanned, quoted};

/// What becomes of a name that is known and has no value in this build, such as `${tag}` without a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Empty {
    /// It is the empty text.
    Allowed,
    /// It is an error, for it cannot be part of this: an image called `app:` is none.
    NoPartOf(&'static str),
}

const KNOWN: [&str; 4] = ["branch", "tag", "commit", "event"];

/// What can be said by name at one place of a manifest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'p> {
    pub(super) facts: &'p Facts,
    /// The inputs that the manifest asks for, with their values.
    pub(super) inputs: &'p [Variable],
    /// The matrix cell that it is in.
    pub(super) cell: &'p [Cell],
    /// The axes of the matrices around it; a cell need not have each.
    pub(super) here: &'p [String],
    /// All axes of this file, wherever they are.
    pub(super) axes: &'p [String],
    /// Where all of it is written.
    pub(super) source: &'p Source,
    /// Whether it is of something that does not run in this build: what has no value then is no fault.
    pub(super) idle: bool,
}

impl Scope<'_> {
    /// Puts values in the place of `${name}`; an empty text when a problem was found.
    pub(super) fn text(&self, text: &Spanned<String>, empty: Empty, findings: &mut Findings<'_>) -> String {
        self.at(&text.value, text.span, empty, findings)
    }

    /// [`Scope::text`] of each.
    pub(super) fn texts(&self, texts: &[Spanned<String>], empty: Empty, findings: &mut Findings<'_>) -> Vec<String> {
        texts.iter().map(|text| self.text(text, empty, findings)).collect()
    }

    /// [`Scope::text`] of what is written somewhere within `span`.
    pub(super) fn at(&self, text: &str, span: Span, empty: Empty, findings: &mut Findings<'_>) -> String {
        self.expand(text, span, empty).unwrap_or_else(|problem| {
            findings.add(problem);
            String::new()
        })
    }

    /// `$${` is a literal `${`; a `$` before anything else is left alone.
    fn expand(&self, text: &str, span: Span, empty: Empty) -> Result<String, Problem> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            expanded.push_str(&rest[..dollar]);
            rest = &rest[dollar..];
            if let Some(after) = rest.strip_prefix("$${") {
                expanded.push_str("${");
                rest = after;
            } else if let Some(after) = rest.strip_prefix("${") {
                let closed = after.split_once('}');
                let (name, after) = closed.ok_or_else(|| self.unclosed(self.place(span, "${")))?;
                let place = self.place(span, &format!("${{{name}}}"));
                let value = self.value(name).ok_or_else(|| self.unknown(name, place))?;
                if let (true, Empty::NoPartOf(what)) = (value.is_empty() && !self.idle, empty) {
                    return Err(self.empty(name, what, place));
                }
                expanded.push_str(value);
                rest = after;
            } else {
                expanded.push('$');
                rest = &rest[1..];
            }
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    /// Nothing when the name is unknown here.
    fn value(&self, name: &str) -> Option<&str> {
        let facts = self.facts;
        let value = match name {
            "branch" => facts.branch.as_ref().map(protocol::Branch::as_str),
            "tag" => facts.tag.as_deref(),
            "commit" => facts.commit.as_ref().map(protocol::CommitId::as_str),
            "event" => Some(facts.event.name()),
            _ => match name.split_once('.')? {
                ("matrix", axis) => return self.cell.iter().find(|cell| cell.axis == axis).map(|cell| &*cell.value),
                ("inputs", input) => return self.inputs.iter().find(|it| it.name == input).map(|it| &*it.value),
                _ => return None,
            },
        };
        Some(value.unwrap_or_default())
    }

    /// Where a reference stands in what is written; all of it, where escapes or folded lines keep it from being found.
    fn place(&self, span: Span, reference: &str) -> Span {
        match self.source.slice(span).find(reference) {
            Some(at) => Span::new(span.start + at..span.start + at + reference.len()),
            None => span,
        }
    }

    fn unclosed(&self, place: Span) -> Problem {
        let help = "write `${name}`, or `$${` for a `${` that buildr leaves alone";
        self.source.problem(place, "this `${` is not closed", help)
    }

    fn unknown(&self, name: &str, place: Span) -> Problem {
        let (message, help) = match name.split_once('.') {
            Some(("matrix", axis)) => self.no_axis(axis),
            Some(("inputs", input)) => {
                let names = self.inputs.iter().map(|input| input.name.as_str());
                let help = if self.inputs.is_empty() {
                    format!("write `inputs: [{input}]` at the top level")
                } else {
                    instead(input, names)
                };
                (format!("the manifest asks for no input {}", quoted(input)), help)
            }
            _ => (format!("there is no name {} to put a value in the place of", quoted(name)), self.known(name)),
        };
        self.source.problem(place, message, help)
    }

    fn no_axis(&self, axis: &str) -> (String, String) {
        let axis_is_in = |axes: &[String]| axes.iter().any(|known| known == axis);
        if axis_is_in(self.here) {
            let message = format!("the cell ({}) has no axis {}", shown(self.cell), quoted(axis));
            return (message, "give each cell of the matrix a value for it".to_owned());
        }
        if axis_is_in(self.axes) {
            let message = format!("{} is an axis of another stage's matrix", quoted(axis));
            return (message, "give this stage the same `matrix`, or write it at the top level".to_owned());
        }
        let help = match closest(axis, self.here.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean `${{matrix.{meant}}}`?"),
            None if self.here.is_empty() => "write a `matrix` with an axis of this name".to_owned(),
            None => format!("the axes are {}", self.here.join(", ")),
        };
        (format!("there is no axis {} here", quoted(axis)), help)
    }

    fn known(&self, name: &str) -> String {
        let inputs = self.inputs.iter().map(|input| format!("inputs.{}", input.name));
        let axes = self.cell.iter().map(|cell| format!("matrix.{}", cell.axis));
        let known: Vec<String> = KNOWN.iter().map(|&known| known.to_owned()).chain(axes).chain(inputs).collect();
        if let Some(meant) = closest(name, known.iter().map(String::as_str)) {
            return format!("did you mean `${{{meant}}}`? `$${{` is a `${{` that buildr leaves alone");
        }
        let known: Vec<String> = known.iter().map(|known| format!("`${{{known}}}`")).collect();
        format!("write one of {}, or `$${{` for a `${{` that buildr leaves alone", known.join(", "))
    }

    fn empty(&self, name: &str, what: &str, place: Span) -> Problem {
        let message = format!("this build has no {name}, so `${{{name}}}` cannot be part of {what}");
        self.source.problem(
            place,
            message,
            "write what every build can use, or keep this stage to such builds by `when`",
        )
    }
}

/// A cell as people read it: `os=linux, rust=1.90`.
pub(super) fn shown(cell: &[Cell]) -> String {
    cell.iter().map(|cell| format!("{}={}", cell.axis, cell.value)).collect::<Vec<_>>().join(", ")
}
