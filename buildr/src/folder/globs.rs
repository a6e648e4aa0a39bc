//! Patterns of paths below a workspace, as `artifacts`, `reports`, `cache.key` and `prepare.files` have them.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::manifest::too_large;

/// How much of a pattern that is too large is shown, in characters.
const SHOWN: usize = 60;

/// A pattern that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("{glob:?} is not a pattern of paths: {reason}; write a path, or a glob such as dist/*.whl or logs/**")]
pub struct GlobError {
    /// As the manifest has it.
    glob: String,
    /// What is wrong with it.
    reason: String,
}

/// Several patterns of which one is enough. `*` stays within a folder, `**` goes across, and what names a folder means
/// all that is in it.
#[derive(Debug, Clone)]
pub(crate) struct Globs(GlobSet);

impl Globs {
    /// Understands patterns. They are below the workspace, whether they begin with `./` or not.
    ///
    /// # Errors
    /// The first that cannot be understood.
    pub(crate) fn new(patterns: &[String]) -> Result<Self, GlobError> {
        Self::of(patterns, |trimmed| vec![trimmed.to_owned(), format!("{trimmed}/**")])
    }

    /// The folders in which there may be something that these patterns mean.
    ///
    /// # Errors
    /// The first that cannot be understood.
    pub(crate) fn leading_to(patterns: &[String]) -> Result<Self, GlobError> {
        Self::of(patterns, |trimmed| {
            let mut globs = vec![trimmed.to_owned(), format!("{trimmed}/**")];
            let mut way = String::new();
            for part in trimmed.split('/') {
                // From here on it may be at any depth; or the `/` is within a bracket, and this no whole name.
                if part.contains("**") || !is_whole(part) {
                    globs.push(format!("{way}**"));
                    break;
                }
                way.push_str(part);
                globs.push(way.clone());
                way.push('/');
            }
            globs
        })
    }

    fn of(patterns: &[String], globs: impl Fn(&str) -> Vec<String>) -> Result<Self, GlobError> {
        let bad =
            |glob: &str, error: globset::Error| GlobError { glob: glob.to_owned(), reason: error.kind().to_string() };
        let mut all = GlobSetBuilder::new();
        for pattern in patterns {
            // The names that stood in it have been replaced by now, by whatever values.
            if let Some((reason, _)) = too_large(pattern) {
                return Err(GlobError { glob: pattern.chars().take(SHOWN).collect(), reason });
            }
            let trimmed = pattern.trim_start_matches("./").trim_end_matches('/');
            let trimmed = if matches!(trimmed, "" | ".") { "**" } else { trimmed };
            for glob in globs(trimmed) {
                let built = GlobBuilder::new(&glob).literal_separator(true).backslash_escape(true).build();
                all.add(built.map_err(|error| bad(pattern, error))?);
            }
        }
        all.build().map(Self).map_err(|error| bad(patterns.first().map_or("", String::as_str), error))
    }

    /// Whether one of them means this path, which begins at the workspace.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        self.0.is_match(path)
    }
}

/// Whether no bracket is left open in a part of a pattern.
fn is_whole(part: &str) -> bool {
    let count = |letter: char| part.matches(letter).count();
    !part.contains('\\') && count('{') == count('}') && count('[') == count(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, path: &str, expect: bool) {
        let globs = Globs::new(&[pattern.to_owned()]).unwrap();
        assert_eq!(globs.matches(Path::new(path)), expect, "{pattern} {path}");
    }

    #[test]
    fn patterns_mean_what_people_expect() {
        check("target/app", "target/app", true);
        check("./target/app", "target/app", true);
        check("target", "target/debug/x", true);
        check("target/", "target/debug/x", true);
        check("*.xml", "a.xml", true);
        check("*.xml", "sub/a.xml", false);
        check("**/*.xml", "sub/deep/a.xml", true);
        check("**/*.xml", "a.xml", true);
        check("dist/*.{whl,tar.gz}", "dist/a-1.whl", true);
        check("dist/*.{whl,tar.gz}", "dist/a-1.zip", false);
        check(".", "any/thing", true);
        check("./", "any/thing", true);
        check("requirements*.txt", "requirements-dev.txt", true);
        check("requirements*.txt", "sub/requirements.txt", false);
        check("./tools/", "tools/a/b", true);
        check("./tools/", "toolsx", false);
        check("**/*.lock", "a/b/Cargo.lock", true);
        check("**/*.lock", "Cargo.lock", true);
        check("target", "targets/x", false);
    }

    #[test]
    fn folders_in_which_there_may_be_something() {
        #[track_caller]
        fn check(pattern: &str, inside: &[&str], beside: &[&str]) {
            let globs = Globs::leading_to(&[pattern.to_owned()]).unwrap();
            assert!(inside.iter().all(|path| globs.matches(Path::new(path))), "{pattern} {inside:?}");
            assert!(!beside.iter().any(|path| globs.matches(Path::new(path))), "{pattern} {beside:?}");
        }
        check("dist", &["dist", "dist/a/b"], &["a", "dist2", "a/dist"]);
        check("./a/*/c.xml", &["a", "a/b", "a/b/c.xml", "a/b/c.xml/d"], &["b", "a/b/d"]);
        check("a/**/*.o", &["a", "a/b/c"], &["b"]);
        check("**/*.o", &["a", "a/b"], &[]);
        check(".", &["a", "a/b"], &[]);
        check("dist/*.{whl,tar.gz}", &["dist", "dist/a.whl"], &["dist/cache", "a"]);
        check("a/{b/c,d}/e", &["a", "a/b", "a/b/c", "a/d"], &["b"]);
        check("a/[bc]/d", &["a", "a/b", "a/c/d"], &["a/d", "b"]);
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        let error = Globs::new(&["ok".to_owned(), "a[".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("\"a[\" is not a pattern of paths: ") && error.contains("write a path"), "{error}");
        for large in ["?".repeat(400_000), format!("{}a{}", "{".repeat(300), "}".repeat(300))] {
            let error = Globs::leading_to(&[large]).unwrap_err().to_string();
            assert!(error.contains("is not a pattern of paths: ") && error.len() < 300, "{error}");
        }
        // As many folders as there may be one in the other.
        Globs::leading_to(&[format!("{}x", "?/".repeat(499))]).ok();
    }
}
