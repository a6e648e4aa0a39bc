//! The words of the language: those that this version knows, those that later ones will, and what people write
//! who come from elsewhere.

/// Keys of the top level.
pub(super) const TOP: [&str; 6] = ["version", "image", "environment", "stages", "prepare", "docker"];

/// Keys that are never a stage's, even when `stages` lists them.
pub(super) const NEVER_A_STAGE: [&str; 6] = ["version", "image", "environment", "stages", "prepare", "finally"];

/// Keys of a stage.
pub(super) const STAGE: [&str; 4] = ["script", "image", "docker", "retry"];

/// Keys of `prepare`.
pub(super) const PREPARE: [&str; 1] = ["script"];

/// Keys of `environment`.
pub(super) const ENVIRONMENT: [&str; 2] = ["inherit", "vars"];

/// Keys that the top level will have.
pub(super) const TOP_LATER: [&str; 39] = [
    "agent",
    "allow_failure",
    "artifacts",
    "cache",
    "cancel_superseded",
    "clone",
    "concurrency",
    "defaults",
    "dir",
    "extends",
    "fail_fast",
    "finally",
    "generate",
    "idle_timeout",
    "include",
    "inputs",
    "interruptible",
    "manual",
    "matrix",
    "network",
    "notify",
    "parallel",
    "platform",
    "priority",
    "privileged",
    "queue_timeout",
    "reports",
    "repos",
    "resources",
    "retry",
    "schedule",
    "secrets",
    "services",
    "shell",
    "stage_parallelism",
    "timeout",
    "trigger",
    "when",
    "workspace",
];

/// Keys that a stage will have.
pub(super) const STAGE_LATER: [&str; 32] = [
    "after",
    "agent",
    "allow_failure",
    "artifacts",
    "cache",
    "concurrency",
    "coverage",
    "dir",
    "environment",
    "extends",
    "fail_fast",
    "generate",
    "idle_timeout",
    "inputs",
    "interruptible",
    "manual",
    "matrix",
    "needs",
    "on_failure",
    "on_success",
    "parallel",
    "platform",
    "priority",
    "privileged",
    "reports",
    "resources",
    "secrets",
    "services",
    "shell",
    "timeout",
    "trigger",
    "when",
];

/// Keys that `prepare` will have.
pub(super) const PREPARE_LATER: [&str; 8] =
    ["cache", "dir", "environment", "files", "network", "secrets", "shell", "timeout"];

/// What the words of other systems are here.
const ELSEWHERE: [(&str, &str); 14] = [
    ("after_script", "after"),
    ("before_script", "prepare"),
    ("command", "script"),
    ("commands", "script"),
    ("depends_on", "needs"),
    ("env", "environment"),
    ("jobs", "stages"),
    ("pipeline", "stages"),
    ("run", "script"),
    ("setup", "prepare"),
    ("steps", "stages"),
    ("tags", "agent"),
    ("variables", "environment"),
    ("workflow", "stages"),
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
    let tolerated =
        |candidate: &str| if candidate.chars().count() < 4 { 1 } else { candidate.chars().count().min(9) / 3 };
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
            assert_eq!(closest(word, STAGE), expect, "{word}");
        }
        assert_eq!(closest("env", TOP), Some("environment"));
        assert_eq!(closest("tset", ["a", "test", "rest"]), Some("test"));
        assert_eq!(closest("tags", TOP), None, "what it means elsewhere is not among the words");
    }
}
