//! Commands: `script`, `on_failure` and `after`.

use super::findings::Findings;
use crate::manifest::node::{Entry, Node, Shape};
use crate::manifest::source::{Span, Spanned};

/// The commands of a `script` or its like: one text, or a list in which lists are flattened, so that an anchor can
/// give several. At least one of them says something.
pub(super) fn commands(entry: &Entry, owner: &str, findings: &mut Findings<'_>) -> Option<Vec<Spanned<String>>> {
    let key = entry.key.value.as_str();
    let example = format!("write `{key}: [make, make test]`, or one command below the other after `- `");
    let named = if key == "script" { format!("the script of {owner}") } else { format!("\"{key}\" of {owner}") };
    let before = findings.count();
    let mut commands = Vec::new();
    match &entry.value.value {
        Shape::Null => {
            findings.error(entry.place(), format!("{named} has no value"), &example);
        }
        Shape::Map(_) => {
            findings.error(entry.place(), format!("{named} is text or a list of texts, not a map"), &example);
        }
        Shape::Scalar { .. } | Shape::List(_) => collect(&entry.value, entry.place(), &mut commands, findings),
    }
    if findings.count() > before {
        return None;
    }
    if commands.iter().all(|command| command.value.trim().is_empty()) {
        findings.error(entry.place(), format!("{named} is empty, so it would do nothing"), example);
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
    let line = findings.source().line(first.start);
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
