//! What is wrong in a manifest, or probably not meant, as a plan is made of it.

use crate::manifest::{ManifestError, Problem, Source, Span};

/// More than a person mends at once.
const MOST: usize = 20;

/// Collects what is found, each thing once: cells of a matrix find the same again.
pub(super) struct Findings<'m> {
    source: &'m Source,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    more: usize,
}

impl<'m> Findings<'m> {
    pub(super) fn new(source: &'m Source) -> Self {
        Self { source, problems: Vec::new(), warnings: Vec::new(), more: 0 }
    }

    /// Something that has no meaning: no plan is made.
    pub(super) fn problem(&mut self, span: Span, message: impl AsRef<str>, help: impl AsRef<str>) {
        self.add(self.source.problem(span, message, help));
    }

    pub(super) fn add(&mut self, problem: Problem) {
        if self.problems.contains(&problem) {
        } else if self.problems.len() < MOST {
            self.problems.push(problem);
        } else {
            self.more += 1;
        }
    }

    /// Something that is allowed.
    pub(super) fn warn(&mut self, span: Span, message: impl AsRef<str>, help: impl AsRef<str>) {
        let warning = self.source.problem(span, message, help);
        if self.warnings.len() < MOST && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Whether nothing is wrong so far.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The warnings, in the order of the file.
    ///
    /// # Errors
    /// All that is wrong, in the order of the file.
    pub(super) fn end(mut self) -> Result<Vec<Problem>, ManifestError> {
        if self.problems.is_empty() {
            self.warnings.sort();
            return Ok(self.warnings);
        }
        self.problems.sort();
        Err(ManifestError::Faulty { problems: self.problems, more: self.more })
    }
}

/// The word that was most likely meant.
pub(super) fn closest<'w>(word: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    /// Longer than any word that is mistyped by accident, in bytes.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let distance = |candidate: &str| strsim::osa_distance(&word.to_lowercase(), &candidate.to_lowercase());
    let tolerated = |candidate: &str| (candidate.chars().count().min(9) / 3).max(1);
    let near = words.into_iter().filter(|candidate| distance(candidate) <= tolerated(candidate));
    near.min_by_key(|candidate| distance(candidate))
}

/// What to write instead of a word that is none of these.
pub(super) fn instead<'w>(word: &str, words: impl IntoIterator<Item = &'w str> + Clone) -> String {
    /// More than a person looks through.
    const SHOWN: usize = 12;
    if let Some(meant) = closest(word, words.clone()) {
        return format!("did you mean `{meant}`?");
    }
    let all: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match all.as_slice() {
        [] => "there is none here".to_owned(),
        [one] => format!("there is only {one}"),
        few if few.len() <= SHOWN => format!("write one of {}", few.join(", ")),
        many => format!("write one of {} …", many[..SHOWN].join(", ")),
    }
}
