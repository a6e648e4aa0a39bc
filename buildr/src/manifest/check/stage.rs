//! Stages and `prepare`, and the scripts of both.

use protocol::StageName;

use super::findings::{Findings, Keys, shown};
use crate::manifest::language::{Environment, Prepare, RetrySaid, Stage};
use crate::manifest::node::{Entry, Node, Shape};
use crate::manifest::source::{Span, Spanned, quoted};
use crate::manifest::words::{self, PREPARE, PREPARE_LATER, STAGE, STAGE_LATER};

const PREPARE_NEVER: [(&str, &str, &str); 1] = [(
    "image",
    "\"prepare\" has no image of its own: it makes the image that stages without one start from",
    "write `image` at the top level, or in the stages that need another",
)];

/// One stage. `named` is where it is named: in `stages`, or its own key.
pub(super) fn read(entry: &Entry, named: Span, findings: &mut Findings<'_>) -> Option<Stage> {
    let name = name(&Spanned { value: entry.key.value.as_str(), span: named }, findings);
    let owner = format!("the stage {}", quoted(&entry.key.value));
    let example = format!("{}: {{script: [...]}}", entry.key.value);
    let keys = Keys { owner, known: &STAGE, later: &STAGE_LATER, never: &[] };
    let entries = findings.entries(entry, &keys, &example);
    let (mut image, mut docker, mut not_twice, mut script) = (None, None, false, None);
    for entry in &entries {
        match entry.key.value.as_str() {
            "image" => image = findings.image(entry),
            "docker" => docker = findings.flag(entry),
            "retry" => not_twice = never(entry, findings),
            _ => script = commands(entry, &keys.owner, findings),
        }
    }
    missing_script(entry, &keys.owner, &example, findings);
    let retry = not_twice.then_some(RetrySaid::Never);
    Some(Stage { image, docker, retry, ..Stage::new(name?, script?) })
}

/// Whether `retry` says `never`, the one thing that it can say today.
fn never(entry: &Entry, findings: &mut Findings<'_>) -> bool {
    if matches!(&entry.value.value, Shape::Scalar { text, .. } if text == "never") {
        return true;
    }
    findings.error(
        entry.place(),
        format!("\"retry\" can only be `never` in this version of buildr, and here stands {}", shown(&entry.value.value)),
        "write `retry: never` for a stage that must not run twice, or leave it out: then it runs again when its agent is lost",
    );
    false
}

/// What `prepare` says.
pub(super) fn prepare(entry: &Entry, findings: &mut Findings<'_>) -> Option<Prepare> {
    const EXAMPLE: &str = "prepare: {script: [...]}";
    let owner = "\"prepare\"".to_owned();
    let keys = Keys { owner, known: &PREPARE, later: &PREPARE_LATER, never: &PREPARE_NEVER };
    let mut script = None;
    for entry in findings.entries(entry, &keys, EXAMPLE) {
        script = commands(entry, &keys.owner, findings);
    }
    missing_script(entry, &keys.owner, EXAMPLE, findings);
    script.map(|script| Prepare {
        script,
        files: None,
        cache: None,
        secrets: Vec::new(),
        environment: Environment::default(),
        timeout_ms: None,
        shell: None,
    })
}

/// A stage's name, when it can be one.
pub(super) fn name(name: &Spanned<&str>, findings: &mut Findings<'_>) -> Option<Spanned<StageName>> {
    match name.value.parse() {
        Ok(value) => Some(Spanned { value, span: name.span }),
        Err(_) => {
            findings.error(
                name.span,
                format!("{} cannot name a stage", quoted(name.value)),
                "write 1 to 63 letters, digits, `-`, `_` or `.`, beginning with a letter or digit",
            );
            None
        }
    }
}

/// Whether a map that `stages` does not list is a stage: it has a `script`, or something mistyped for one.
pub(super) fn is_meant(entry: &Entry) -> bool {
    match &entry.value.value {
        Shape::Map(entries) => entries.iter().any(|entry| words::closest(&entry.key.value, ["script"]).is_some()),
        _ => false,
    }
}

fn missing_script(entry: &Entry, owner: &str, example: &str, findings: &mut Findings<'_>) {
    // A mistyped one has been told.
    if matches!(entry.value.value, Shape::Map(_)) && !is_meant(entry) {
        let message = format!("{owner} has no \"script\", so it would do nothing");
        findings.error(entry.key.span, message, format!("write `{example}`"));
    }
}

/// The commands of a `script`: one text, or a list in which lists are flattened, so that an anchor can give
/// several.
fn commands(entry: &Entry, owner: &str, findings: &mut Findings<'_>) -> Option<Vec<Spanned<String>>> {
    const EXAMPLE: &str = "write `script: [make, make test]`, or one command below the other after `- `";
    let before = findings.count();
    let mut commands = Vec::new();
    match &entry.value.value {
        Shape::Null => {
            findings.error(entry.place(), format!("the script of {owner} has no value"), EXAMPLE);
        }
        Shape::Map(_) => {
            findings.error(
                entry.place(),
                format!("the script of {owner} is text or a list of texts, not a map"),
                EXAMPLE,
            );
        }
        Shape::Scalar { .. } | Shape::List(_) => collect(&entry.value, entry.place(), &mut commands, findings),
    }
    if findings.count() > before {
        return None;
    }
    if commands.iter().all(|command| command.value.trim().is_empty()) {
        findings.error(entry.place(), format!("the script of {owner} is empty, so it would do nothing"), EXAMPLE);
        return None;
    }
    Some(commands)
}

fn collect(node: &Node, place: Span, commands: &mut Vec<Spanned<String>>, findings: &mut Findings<'_>) {
    let place = node.place_or(place);
    match &node.value {
        Shape::List(elements) => {
            for element in elements {
                collect(element, place, commands, findings);
            }
        }
        Shape::Map(entries) => command_with_colon(entries, place, findings),
        Shape::Null | Shape::Scalar { .. } => {
            let help = "write a command, or take the line out; the texts `null` and `~` must be quoted";
            commands.extend(findings.text(node, place, "this command", help));
        }
    }
}

/// `- echo "a: b"` is a map to YAML, and the commonest surprise in files like ours.
fn command_with_colon(entries: &[Entry], place: Span, findings: &mut Findings<'_>) {
    let first = entries.first().map_or(place, |entry| entry.key.span);
    let source = findings.source();
    let line = &source.text()[source.line_range(first.start)];
    let command = line.trim_start().trim_start_matches("- ").trim();
    let quoted = format!("- '{}'", command.replace('\'', "''"));
    let message = "this command is a map to YAML, because of the `: ` in it";
    let help = if line.contains(['[', '{', '|', '>']) || command.len() > 80 {
        "write the whole command in quotes".to_owned()
    } else {
        format!("write the whole command in quotes: `{quoted}`")
    };
    findings.error(first, message, help);
}
