//! The words of the language: those that this version knows, those that later ones will, and what people write
//! who come from elsewhere.

/// The words of one kind of map.
#[derive(Debug)]
pub(super) struct Words {
    /// Its keys.
    pub(super) known: &'static [&'static str],
    /// Those that it will have.
    pub(super) later: &'static [&'static str],
    /// Those that it will never have, each with what is wrong about it, behind the map's name, and what to write.
    pub(super) never: &'static [(&'static str, &'static str, &'static str)],
}

/// Words of a map of which there is nothing else to say.
const fn only(known: &'static [&'static str]) -> Words {
    Words { known, later: &[], never: &[] }
}

/// Keys that are never a stage's, even when `stages` lists them.
pub(super) const NEVER_A_STAGE: [&str; 6] = ["version", "image", "environment", "stages", "prepare", "finally"];

/// Keys of the top level.
pub(super) static TOP: Words = Words {
    known: &[
        "version",
        "image",
        "environment",
        "stages",
        "prepare",
        "finally",
        "services",
        "matrix",
        "when",
        "cache",
        "secrets",
        "inputs",
        "include",
        "clone",
        "repos",
        "workspace",
        "dir",
        "shell",
        "docker",
        "privileged",
        "resources",
        "agent",
        "platform",
        "retry",
        "timeout",
        "idle_timeout",
        "concurrency",
        "cancel_superseded",
        "fail_fast",
        "stage_parallelism",
        "priority",
    ],
    later: &["defaults", "generate", "interruptible", "network", "notify", "queue_timeout", "schedule"],
    never: &[],
};

/// Keys of a stage.
pub(super) static STAGE: Words = Words {
    known: &[
        "script",
        "image",
        "environment",
        "needs",
        "when",
        "matrix",
        "parallel",
        "services",
        "artifacts",
        "reports",
        "cache",
        "secrets",
        "retry",
        "allow_failure",
        "timeout",
        "idle_timeout",
        "on_failure",
        "after",
        "dir",
        "shell",
        "docker",
        "privileged",
        "resources",
        "agent",
        "platform",
        "manual",
        "concurrency",
        "trigger",
        "extends",
    ],
    later: &["generate", "interruptible", "network", "notify", "queue_timeout"],
    never: &[
        (
            "on_success",
            "has no \"on_success\": its script ends there when a command fails",
            "write these commands at the end of `script`",
        ),
        ("fail_fast", "has no \"fail_fast\" of its own", "write it at the top level, or in the stage's `matrix`"),
        ("inputs", "has no \"inputs\" of its own", "write `manual: {inputs: ...}`, or `inputs` at the top level"),
        ("priority", "has no \"priority\" of its own: a build has one", "write it at the top level"),
        ("coverage", "has no \"coverage\" of its own", "write `reports: {coverage: ...}`"),
        ("junit", "has no \"junit\" of its own", "write `reports: {junit: ...}`"),
        ("stages", "has no stages in it", "write them at the top level; `stages: [[a, b]]` runs two side by side"),
    ],
};

/// Keys of `finally`.
pub(super) static FINALLY: Words = Words {
    known: &[
        "script",
        "image",
        "environment",
        "when",
        "services",
        "artifacts",
        "reports",
        "cache",
        "secrets",
        "retry",
        "timeout",
        "idle_timeout",
        "on_failure",
        "after",
        "dir",
        "shell",
        "docker",
        "privileged",
        "resources",
        "agent",
        "platform",
        "extends",
    ],
    later: STAGE.later,
    never: &[
        (
            "needs",
            "has no \"needs\": it runs when all else is over",
            "take it out; `when: {status: failure}` limits when it runs",
        ),
        ("matrix", "is one stage, and has no \"matrix\"", "take it out"),
        ("parallel", "is one stage, and has no \"parallel\"", "take it out"),
        ("manual", "runs by itself, and has no \"manual\"", "take it out"),
        ("concurrency", "waits for nothing, and has no \"concurrency\"", "take it out"),
        ("trigger", "runs a script, and has no \"trigger\"", "write `trigger` in a stage"),
        (
            "allow_failure",
            "has no \"allow_failure\"",
            "end its commands with `|| true` where a failure does not matter",
        ),
    ],
};

/// Keys of `prepare`.
pub(super) static PREPARE: Words = Words {
    known: &["script", "files", "cache", "secrets", "environment", "timeout", "shell", "extends"],
    later: &["network"],
    never: &[
        (
            "image",
            "has no image of its own: it makes the image that stages without one start from",
            "write `image` at the top level, or in the stages that need another",
        ),
        ("services", "has no services: they begin when it is over", "write them at the top level, or in a stage"),
        ("dir", "has no \"dir\": its script begins in the workspace", "write `cd` in its script"),
    ],
};

/// Keys of `environment`.
pub(super) static ENVIRONMENT: Words = only(&["inherit", "vars"]);

/// Keys of a service's `environment`.
pub(super) static SERVICE_ENVIRONMENT: Words = Words {
    known: &["vars"],
    later: &[],
    never: &[("inherit", "inherits nothing", "write the variables that it needs under `vars`")],
};

/// Keys of `image`.
pub(super) static IMAGE: Words = only(&["name", "pull", "user", "entrypoint", "platform"]);

/// Keys of an entry of `services`.
pub(super) static SERVICE: Words = Words {
    known: &["image", "environment", "command", "ready", "ready_timeout", "resources", "privileged"],
    later: &[],
    never: &[
        ("ports", "has no \"ports\": stages reach all of its ports under its name", "take it out"),
        ("script", "is an image that runs, and has no \"script\"", "write `command` for what it runs"),
    ],
};

/// Keys of `ready`.
pub(super) static READY: Words = only(&["command", "tcp", "http", "log"]);

/// Keys of a condition.
pub(super) static WHEN: Words = only(&["branch", "tag", "event", "path", "ref", "status", "platform", "matrix", "if"]);

/// Keys of `matrix` beside its axes.
pub(super) static MATRIX: Words = only(&["include", "exclude", "max", "fail_fast"]);

/// What `matrix.exclude` may name beside the axes.
pub(super) const EXCLUDABLE: [&str; 3] = ["branch", "tag", "event"];

/// Keys of `allow_failure`.
pub(super) static ALLOW_FAILURE: Words = only(&["codes"]);

/// Keys of `retry`.
pub(super) static RETRY: Words = only(&["max", "on", "delay"]);

/// Keys of `artifacts`.
pub(super) static ARTIFACTS: Words = only(&["paths", "exclude", "when", "expire"]);

/// Keys of `reports`.
pub(super) static REPORTS: Words = only(&["junit", "coverage"]);

/// Keys of `reports.coverage`.
pub(super) static COVERAGE: Words = only(&["file", "log"]);

/// Keys of an entry of `cache`.
pub(super) static CACHE: Words = only(&["paths", "key", "name", "fallback", "policy"]);

/// Keys of an entry of `secrets`.
pub(super) static SECRET: Words = only(&["from", "file"]);

/// Keys of `concurrency`.
pub(super) static CONCURRENCY: Words = only(&["group", "limit", "order"]);

/// Keys of `manual`.
pub(super) static MANUAL: Words = only(&["ask", "allow", "inputs", "timeout"]);

/// Keys of an entry of `inputs`.
pub(super) static INPUT: Words = only(&["choices", "default", "description"]);

/// Keys of `trigger`.
pub(super) static TRIGGER: Words = only(&["repo", "branch", "vars", "wait"]);

/// Keys of `resources`.
pub(super) static RESOURCES: Words = only(&["cpu", "memory", "pids", "shm"]);

/// Keys of `clone`.
pub(super) static CLONE: Words = only(&["depth", "submodules", "lfs", "filter"]);

/// Keys of an entry of `repos`.
pub(super) static REPO: Words = only(&["url", "path", "branch"]);

/// What the words of other systems are here.
const ELSEWHERE: [(&str, &str); 38] = [
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
            assert_eq!(closest(word, STAGE.known.iter().copied()), expect, "{word}");
        }
        assert_eq!(closest("env", TOP.known.iter().copied()), Some("environment"));
        assert_eq!(closest("tset", ["a", "test", "rest"]), Some("test"));
        assert_eq!(closest("commands", RETRY.known.iter().copied()), None, "it means no word of these elsewhere");
    }
}
