//! `${branch}` and its like in declarative values. Scripts are never touched: there the shell has the word.

use protocol::job::TriggerKind;
use protocol::{Branch, CommitId};

use crate::manifest::{Problem, Source, Span, quoted};

/// What a manifest can say by name about its build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The branch, where there is one.
    pub branch: Option<Branch>,
    /// The tag, in a build of one.
    pub tag: Option<String>,
    /// The commit; none for a tree outside git.
    pub commit: Option<CommitId>,
    /// Why it is built.
    pub event: TriggerKind,
}

/// What becomes of a name that is known and has no value in this build, such as `${tag}` without a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Emptiness {
    /// It is the empty text.
    Allowed,
    /// It is an error: an image called `app:` is none.
    Refused,
}

const KNOWN: [&str; 4] = ["branch", "tag", "commit", "event"];

/// Names of the full language that this version does not have, by their beginning.
const LATER: [&str; 2] = ["matrix.", "inputs."];

impl Names {
    /// Puts values in the place of `${name}`. `$${` is a literal `${`; a `$` before anything else is left alone.
    /// `span` is where the text is written.
    ///
    /// # Errors
    /// The first name that is unknown, is not closed by a `}`, or is empty where it may not be.
    pub(super) fn expand(
        &self,
        text: &str,
        span: Span,
        source: &Source,
        emptiness: Emptiness,
    ) -> Result<String, Problem> {
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
                let (name, after) = closed.ok_or_else(|| unclosed(place(source, span, "${"), source))?;
                let place = place(source, span, &format!("${{{name}}}"));
                let value = self.value(name).ok_or_else(|| unknown(name, place, source))?;
                if value.is_empty() && emptiness == Emptiness::Refused {
                    return Err(empty(name, place, source));
                }
                expanded.push_str(&value);
                rest = after;
            } else {
                expanded.push('$');
                rest = &rest[1..];
            }
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    /// Nothing when the name is unknown.
    fn value(&self, name: &str) -> Option<String> {
        let value = match name {
            "branch" => self.branch.as_ref().map(|branch| branch.as_str().to_owned()),
            "tag" => self.tag.clone(),
            "commit" => self.commit.as_ref().map(|commit| commit.as_str().to_owned()),
            "event" => Some(self.event.name().to_owned()),
            _ => return None,
        };
        Some(value.unwrap_or_default())
    }
}

/// Where a reference stands in what is written; all of it, where escapes or folded lines keep it from being found.
fn place(source: &Source, span: Span, reference: &str) -> Span {
    match source.slice(span).find(reference) {
        Some(at) => Span::new(span.start + at..span.start + at + reference.len()),
        None => span,
    }
}

fn unclosed(place: Span, source: &Source) -> Problem {
    source.problem(place, "this `${` is not closed", "write `${name}`, or `$${` for a `${` that buildr leaves alone")
}

fn unknown(name: &str, place: Span, source: &Source) -> Problem {
    let later = LATER.iter().any(|later| name.starts_with(later));
    let message = if later {
        format!("this version of buildr does not know the name {} yet", quoted(name))
    } else {
        format!("there is no name {} to put a value in the place of", quoted(name))
    };
    let known: Vec<String> = KNOWN.iter().map(|known| format!("`${{{known}}}`")).collect();
    let help = format!("write one of {}, or `$${{` for a `${{` that buildr leaves alone", known.join(", "));
    source.problem(place, message, help)
}

fn empty(name: &str, place: Span, source: &Source) -> Problem {
    source.problem(
        place,
        format!("this build has no {name}, so `${{{name}}}` cannot be part of an image's name"),
        "write an image that every build can use, or choose it in a `script`",
    )
}
