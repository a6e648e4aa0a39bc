//! The variables that each system sets for its builds, and what says the same here.

use super::Kind;

/// A foreign variable, and a shell word that gives its value in a stage.
type Word = (&'static str, &'static str);

const SHORT: &str = "$(printf %.8s \"$BUILDR_COMMIT\")";

const GITLAB: &[Word] = &[
    ("CI_COMMIT_SHA", "$BUILDR_COMMIT"),
    ("CI_COMMIT_SHORT_SHA", SHORT),
    ("CI_COMMIT_BRANCH", "${BUILDR_BRANCH:-}"),
    ("CI_COMMIT_TAG", "${BUILDR_TAG:-}"),
    ("CI_COMMIT_REF_NAME", "${BUILDR_TAG:-${BUILDR_BRANCH:-}}"),
    (
        "CI_COMMIT_REF_SLUG",
        "$(printf %s \"${BUILDR_TAG:-${BUILDR_BRANCH:-}}\" | tr A-Z a-z | sed 's/[^a-z0-9]/-/g' | cut -c 1-63)",
    ),
    ("CI_COMMIT_MESSAGE", "$BUILDR_COMMIT_MESSAGE"),
    ("CI_COMMIT_TITLE", "$BUILDR_COMMIT_MESSAGE"),
    ("CI_COMMIT_AUTHOR", "$BUILDR_COMMIT_AUTHOR"),
    ("CI_PROJECT_DIR", "$BUILDR_WORKSPACE"),
    ("CI_PROJECT_NAME", "${BUILDR_REPO##*/}"),
    ("CI_PROJECT_PATH", "$BUILDR_REPO"),
    ("CI_REPOSITORY_URL", "$BUILDR_REPO_URL"),
    ("CI_JOB_NAME", "$BUILDR_STAGE"),
    ("CI_JOB_STAGE", "$BUILDR_STAGE"),
    ("CI_PIPELINE_ID", "${BUILDR_BUILD_NUMBER:-0}"),
    ("CI_PIPELINE_IID", "${BUILDR_BUILD_NUMBER:-0}"),
    ("CI_JOB_ID", "${BUILDR_BUILD_NUMBER:-0}"),
    ("CI_NODE_INDEX", "${BUILDR_SHARD:-1}"),
    ("CI_NODE_TOTAL", "${BUILDR_SHARDS:-1}"),
];

const TRAVIS: &[Word] = &[
    ("TRAVIS_COMMIT", "$BUILDR_COMMIT"),
    ("TRAVIS_BRANCH", "${BUILDR_TAG:-${BUILDR_BRANCH:-}}"),
    ("TRAVIS_TAG", "${BUILDR_TAG:-}"),
    ("TRAVIS_COMMIT_MESSAGE", "$BUILDR_COMMIT_MESSAGE"),
    ("TRAVIS_BUILD_DIR", "$BUILDR_WORKSPACE"),
    ("TRAVIS_REPO_SLUG", "$BUILDR_REPO"),
    ("TRAVIS_EVENT_TYPE", "$BUILDR_EVENT"),
    ("TRAVIS_BUILD_NUMBER", "${BUILDR_BUILD_NUMBER:-0}"),
    ("TRAVIS_BUILD_ID", "${BUILDR_BUILD_NUMBER:-0}"),
    ("TRAVIS_JOB_NAME", "$BUILDR_STAGE"),
    ("TRAVIS_OS_NAME", "linux"),
    ("TRAVIS_PULL_REQUEST", "${BUILDR_PR:-false}"),
];

const WOODPECKER: &[Word] = &[
    ("CI_COMMIT_SHA", "$BUILDR_COMMIT"),
    ("CI_COMMIT_BRANCH", "${BUILDR_BRANCH:-}"),
    ("CI_COMMIT_TAG", "${BUILDR_TAG:-}"),
    ("CI_COMMIT_REF", "${BUILDR_REF:-}"),
    ("CI_COMMIT_MESSAGE", "$BUILDR_COMMIT_MESSAGE"),
    ("CI_COMMIT_AUTHOR", "$BUILDR_COMMIT_AUTHOR"),
    ("CI_COMMIT_PULL_REQUEST", "${BUILDR_PR:-}"),
    ("CI_PIPELINE_NUMBER", "${BUILDR_BUILD_NUMBER:-0}"),
    ("CI_PIPELINE_EVENT", "$BUILDR_EVENT"),
    ("CI_REPO", "$BUILDR_REPO"),
    ("CI_REPO_NAME", "${BUILDR_REPO##*/}"),
    ("CI_REPO_CLONE_URL", "$BUILDR_REPO_URL"),
    ("CI_STEP_NAME", "$BUILDR_STAGE"),
    ("CI_WORKSPACE", "$BUILDR_WORKSPACE"),
];

const DRONE: &[Word] = &[
    ("DRONE_COMMIT", "$BUILDR_COMMIT"),
    ("DRONE_COMMIT_SHA", "$BUILDR_COMMIT"),
    ("DRONE_COMMIT_BRANCH", "${BUILDR_BRANCH:-}"),
    ("DRONE_BRANCH", "${BUILDR_BRANCH:-}"),
    ("DRONE_TAG", "${BUILDR_TAG:-}"),
    ("DRONE_COMMIT_REF", "${BUILDR_REF:-}"),
    ("DRONE_COMMIT_MESSAGE", "$BUILDR_COMMIT_MESSAGE"),
    ("DRONE_COMMIT_AUTHOR", "$BUILDR_COMMIT_AUTHOR"),
    ("DRONE_PULL_REQUEST", "${BUILDR_PR:-}"),
    ("DRONE_BUILD_NUMBER", "${BUILDR_BUILD_NUMBER:-0}"),
    ("DRONE_BUILD_EVENT", "$BUILDR_EVENT"),
    ("DRONE_REPO", "$BUILDR_REPO"),
    ("DRONE_REPO_NAME", "${BUILDR_REPO##*/}"),
    ("DRONE_STEP_NAME", "$BUILDR_STAGE"),
    ("DRONE_WORKSPACE", "$BUILDR_WORKSPACE"),
];

const GITHUB: &[Word] = &[
    ("GITHUB_SHA", "$BUILDR_COMMIT"),
    ("GITHUB_REF", "${BUILDR_REF:-}"),
    ("GITHUB_REF_NAME", "${BUILDR_TAG:-${BUILDR_BRANCH:-}}"),
    ("GITHUB_BASE_REF", "${BUILDR_PR_TARGET:-}"),
    ("GITHUB_HEAD_REF", "${BUILDR_PR_SOURCE:-}"),
    ("GITHUB_REPOSITORY", "$BUILDR_REPO"),
    ("GITHUB_EVENT_NAME", "$BUILDR_EVENT"),
    ("GITHUB_WORKSPACE", "$BUILDR_WORKSPACE"),
    ("GITHUB_RUN_NUMBER", "${BUILDR_BUILD_NUMBER:-0}"),
    ("GITHUB_RUN_ID", "${BUILDR_BUILD_NUMBER:-0}"),
    ("GITHUB_RUN_ATTEMPT", "$BUILDR_ATTEMPT"),
    ("GITHUB_JOB", "$BUILDR_STAGE"),
    ("GITHUB_ENV", "$BUILDR_ENV"),
    ("GITHUB_STEP_SUMMARY", "$BUILDR_SUMMARY"),
    ("GITHUB_ACTIONS", "true"),
    ("RUNNER_OS", "Linux"),
    ("RUNNER_TEMP", "/tmp"),
];

fn words(kind: Kind) -> (&'static [Word], &'static [&'static str]) {
    match kind {
        Kind::Gitlab => (GITLAB, &["CI_", "GITLAB_"]),
        Kind::Travis => (TRAVIS, &["TRAVIS_"]),
        Kind::Woodpecker => (WOODPECKER, &["CI_"]),
        Kind::Drone => (DRONE, &["DRONE_"]),
        Kind::Github => (GITHUB, &["GITHUB_", "RUNNER_"]),
    }
}

/// The shell word that stands for a variable that the system sets.
pub(super) fn in_shell(kind: Kind, name: &str) -> Option<&'static str> {
    words(kind).0.iter().find(|(foreign, _)| *foreign == name).map(|(_, own)| *own)
}

/// What stands for it in a declarative value.
pub(super) fn in_value(kind: Kind, name: &str) -> Option<&'static str> {
    match in_shell(kind, name)? {
        "$BUILDR_COMMIT" => Some("${commit}"),
        "${BUILDR_BRANCH:-}" => Some("${branch}"),
        "${BUILDR_TAG:-}" => Some("${tag}"),
        "$BUILDR_EVENT" => Some("${event}"),
        "$BUILDR_WORKSPACE" => Some("/app"),
        "linux" => Some("linux"),
        _ => None,
    }
}

/// Whether the system, and nobody else, sets variables of such a name.
pub(super) fn is_systems(kind: Kind, name: &str) -> bool {
    words(kind).1.iter().any(|prefix| name.starts_with(prefix))
}

/// Where a shell's variable begins in a text: the names, each once, in their order.
pub(super) fn used(script: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut rest = script;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        let name = variable(rest.strip_prefix('{').unwrap_or(rest));
        if !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The name with which a text begins; empty when it begins with none.
fn variable(text: &str) -> &str {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return "";
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// A text in which variables are replaced where the system would: by their values in `own`, by what buildr has for
/// them. Those without either stay as they are, and are named in the second part.
pub(super) fn replaced(kind: Kind, text: &str, own: &[(String, String)]) -> (String, Vec<String>) {
    let mut unknown = Vec::new();
    let text = replace(kind, text, own, &mut unknown, 0);
    (text, unknown)
}

fn replace(kind: Kind, text: &str, own: &[(String, String)], unknown: &mut Vec<String>, depth: usize) -> String {
    /// A variable in a variable in a variable; more is a circle.
    const DEEPEST: usize = 8;
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            if rest.starts_with('{') {
                out.push_str("${");
                rest = &rest[1..];
            }
            continue;
        }
        // An axis is in this language already.
        if let Some(end) = rest.strip_prefix("{matrix.").and_then(|_| rest.find('}')) {
            out.push('$');
            out.push_str(&rest[..=end]);
            rest = &rest[end + 1..];
            continue;
        }
        let braced = rest.strip_prefix('{');
        let name = variable(braced.unwrap_or(rest));
        let behind = braced.map_or("}", |inner| &inner[name.len()..]);
        let usual = behind.strip_prefix(":-").and_then(|usual| usual.split_once('}')).map(|(usual, _)| usual);
        if name.is_empty() || !behind.starts_with('}') && usual.is_none() {
            out.push_str(if braced.is_some() { "$$" } else { "$" });
            continue;
        }
        let whole = name.len() + if braced.is_some() { 2 } else { 0 } + usual.map_or(0, |usual| usual.len() + 2);
        if let Some((_, value)) = own.iter().find(|(known, _)| known == name).filter(|_| depth < DEEPEST) {
            out.push_str(&replace(kind, value, own, unknown, depth + 1));
        } else if let Some(here) = in_value(kind, name) {
            out.push_str(here);
        } else if let Some(usual) = usual {
            out.push_str(usual);
        } else {
            unknown.push(name.to_owned());
            out.push_str(if braced.is_some() { "$$" } else { "$" });
            out.push_str(&rest[..whole]);
        }
        rest = &rest[whole..];
    }
    out + rest
}

/// A variable that ends where it ends, whatever stands behind it.
pub(super) fn braced(word: &str) -> String {
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match word.strip_prefix('$').filter(|name| is_name(name)) {
        Some(name) => format!("${{{name}}}"),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_in_scripts() {
        let check = |script: &str, expect: &[&str]| assert_eq!(used(script), expect, "{script}");
        check("echo $A ${B:-x} $A \"$C_1\" $1 $$ $(d) $", &["A", "B", "C_1"]);
        check("no", &[]);
    }

    #[test]
    fn values_hold_what_the_system_would_put_there() {
        let own =
            [("A".to_owned(), "a$B".to_owned()), ("B".to_owned(), "b".to_owned()), ("C".to_owned(), "$C".to_owned())];
        let check = |text: &str, expect: &str, unknown: &[&str]| {
            let (got, left) = replaced(Kind::Gitlab, text, &own);
            assert_eq!(
                (got.as_str(), left),
                (expect, unknown.iter().map(|name| (*name).to_owned()).collect()),
                "{text}"
            );
        };
        check("plain", "plain", &[]);
        check("$A/${B}c", "ab/bc", &[]);
        check("x:$CI_COMMIT_SHA", "x:${commit}", &[]);
        check("$X ${Y} $", "$X $${Y} $", &["X", "Y"]);
        check("a$$b $${c}", "a$b $${c}", &[]);
        check("$C", "$C", &["C"]);
        check("${A:-x}${Z:-y}${Z:+y}", "aby$${Z:+y}", &[]);
        check("${matrix.A}", "${matrix.A}", &[]);
    }
}
