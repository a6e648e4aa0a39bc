//! Globs over branches, tags, refs, paths and values: `*` within a segment, `**` across segments, `!` for all but.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::findings::Findings;
use crate::manifest::{Globs, Spanned, quoted, too_large};

/// Globs that were understood.
pub(super) struct Patterns {
    /// Everything when empty.
    include: Vec<GlobSet>,
    exclude: Vec<GlobSet>,
}

impl Patterns {
    /// Understands what is written; what cannot be is told to `findings`, and then matches nothing.
    pub(super) fn of(globs: &Globs, findings: &mut Findings<'_>) -> Self {
        let mut matchers = |globs: &[Spanned<String>]| -> Vec<GlobSet> {
            globs.iter().filter_map(|glob| matcher(glob, findings)).collect()
        };
        Self { include: matchers(&globs.include), exclude: matchers(&globs.exclude) }
    }

    /// Whether one of those that include matches, and none of those that exclude.
    pub(super) fn matches(&self, text: &str) -> bool {
        let any = |globs: &[GlobSet]| globs.iter().any(|glob| glob.is_match(text));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

/// One glob, ready to match.
pub(super) fn matcher(glob: &Spanned<String>, findings: &mut Findings<'_>) -> Option<GlobSet> {
    if let Some((message, help)) = too_large(&glob.value) {
        findings.problem(glob.span, message, help);
        return None;
    }
    // A folder is all that is in it.
    let text = match glob.value.strip_suffix('/') {
        Some(folder) => format!("{folder}/**"),
        None => glob.value.clone(),
    };
    let built = GlobBuilder::new(&text).literal_separator(true).backslash_escape(true).build();
    // As a set of one: a matcher of its own cannot say what is wrong with what was understood, and panics.
    match built.and_then(|built| GlobSetBuilder::new().add(built).build()) {
        Ok(set) => Some(set),
        Err(error) => {
            let why = error.kind().to_string();
            findings.problem(
                glob.span,
                format!("{} is not a glob: {why}", quoted(&glob.value)),
                "write `*` for anything within a folder, `**` for anything in any folder, and `!` before what is left out",
            );
            None
        }
    }
}

/// Globs as they are written, for a sentence: the first few of them.
pub(super) fn written(globs: &Globs) -> String {
    const FEW: usize = 6;
    const SHORT: usize = 60;
    let cut = |text: &str| match text.char_indices().nth(SHORT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    let include = globs.include.iter().map(|glob| cut(&glob.value));
    let exclude = globs.exclude.iter().map(|glob| format!("!{}", cut(&glob.value)));
    let mut few: Vec<String> = include.chain(exclude).take(FEW).collect();
    if globs.include.len() + globs.exclude.len() > FEW {
        few.push("…".to_owned());
    }
    few.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Source, Span};

    fn matches(globs: &[&str], text: &str) -> bool {
        let source = Source::new("f.yml", String::new());
        let mut findings = Findings::new(&source);
        let spanned = |text: &str| Spanned { value: text.to_owned(), span: Span::new(0..0) };
        let mut said = Globs::default();
        for glob in globs {
            match glob.strip_prefix('!') {
                Some(glob) => said.exclude.push(spanned(glob)),
                None => said.include.push(spanned(glob)),
            }
        }
        let patterns = Patterns::of(&said, &mut findings);
        assert!(findings.is_empty(), "{globs:?}");
        patterns.matches(text)
    }

    #[test]
    fn stars_and_exclusions() {
        for (globs, text, expect) in [
            (&["main"][..], "main", true),
            (&["main"], "Main", false),
            (&["main"], "main2", false),
            (&["release/*"], "release/1", true),
            (&["release/*"], "release/1/fix", false),
            (&["release/**"], "release/1/fix", true),
            (&["v*"], "v1.2", true),
            (&["v[0-9]*"], "vx", false),
            (&["v{1,2}.*"], "v2.0", true),
            (&["**/*.rs"], "main.rs", true),
            (&["**/*.rs"], "a/b/main.rs", true),
            (&["*.rs"], "a/main.rs", false),
            (&["docs/"], "docs/a/b.md", true),
            (&["docs/"], "docs", false),
            (&["docs/**", "!docs/private/**"], "docs/private/a", false),
            (&["docs/**", "!docs/private/**"], "docs/a", true),
            (&["!main"], "other", true),
            (&["!main"], "main", false),
            (&[], "anything", true),
        ] {
            assert_eq!(matches(globs, text), expect, "{globs:?} {text}");
        }
    }
}
