//! Words that are mistyped, and what people write who come from elsewhere.

/// What the words of other systems are here.
const ELSEWHERE: [(&str, &str); 47] = [
    ("after_script", "after"),
    ("attempts", "max"),
    ("auto_cancel", "cancel_superseded"),
    ("before_script", "prepare"),
    ("branches", "branch"),
    ("changes", "path"),
    ("command", "script"),
    ("commands", "script"),
    ("cron", "event"),
    ("depends_on", "needs"),
    ("directory", "dir"),
    ("env", "environment"),
    ("environments", "environment"),
    ("evaluate", "if"),
    ("exit_codes", "codes"),
    ("expire_in", "expire"),
    ("group", "concurrency"),
    ("health", "ready"),
    ("healthcheck", "ready"),
    ("ignore", "exclude"),
    ("jobs", "stages"),
    ("labels", "agent"),
    ("memory_limit", "memory"),
    ("needs_approval", "manual"),
    ("only", "when"),
    ("pipeline", "stages"),
    ("resource_group", "concurrency"),
    ("rules", "when"),
    ("run", "script"),
    ("setup", "prepare"),
    ("soft_fail", "allow_failure"),
    ("steps", "stages"),
    ("strategy", "matrix"),
    ("tags", "agent"),
    ("value", "default"),
    ("variables", "environment"),
    ("workflow", "stages"),
    ("changed", "path"),
    ("commit", "build"),
    ("if-not-present", "missing"),
    ("newest", "always"),
    ("on_failure", "failure"),
    ("on_success", "success"),
    ("pull-push", "both"),
    ("read", "pull"),
    ("write", "push"),
    ("working_directory", "dir"),
];

/// Whether a key of the top level is the user's own to use.
pub(super) fn is_free(key: &str) -> bool {
    key.starts_with('.') || key.starts_with("x-")
}

/// The word that was most likely meant.
pub(super) fn closest<'w>(word: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    /// Longer than any word that is mistyped by accident, in bytes.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    let meant = ELSEWHERE.iter().find(|(elsewhere, _)| *elsewhere == word).map(|(_, here)| *here);
    let distance = |candidate: &str| strsim::osa_distance(&word, &candidate.to_lowercase());
    let tolerated = |candidate: &str| match candidate.chars().count() {
        // Nothing of it would be left.
        0 | 1 => 0,
        2 | 3 => 1,
        more => more.min(9) / 3,
    };
    words
        .into_iter()
        .filter(|candidate| meant.map_or(distance(candidate) <= tolerated(candidate), |meant| meant == *candidate))
        .min_by_key(|candidate| distance(candidate))
}

/// Words as the end of a sentence has them: "a, b and c".
pub(super) fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|word| format!("`{word}`")).collect();
            format!("{} and `{last}`", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::keys::{RETRY, STAGE, TOP};

    #[test]
    fn a_mistyped_word_finds_its_like() {
        for (word, expect) in [
            ("scirpt", Some("script")),
            ("Script", Some("script")),
            ("scripts", Some("script")),
            ("imgae", Some("image")),
            ("commands", Some("script")),
            ("dokcer", Some("docker")),
            ("x", None),
            ("nothing", None),
            ("", None),
        ] {
            assert_eq!(closest(word, STAGE.names()), expect, "{word}");
        }
        assert_eq!(closest("env", TOP.names()), Some("environment"));
        assert_eq!(closest("tset", ["a", "test", "rest"]), Some("test"));
        assert_eq!(closest("commands", RETRY.names()), None, "it means no word of these elsewhere");
    }
}
