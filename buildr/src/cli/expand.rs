//! `buildr expand`: the plan that comes of the folder's manifest, with nothing left to look up.

use std::fmt::Write as _;

use serde_json::Value;

use super::planning::PlanArgs;
use super::{CliError, exit, say};

/// Print the plan that comes of the folder's manifest, whole
///
/// Includes, templates, defaults and matrix cells are resolved in it. It is what an agent is given, job by job. Durations are milliseconds, sizes bytes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which plan.
    #[command(flatten)]
    plan: PlanArgs,
    /// Print JSON in place of YAML
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> Result<u8, CliError> {
    let planned = args.plan.plan().await?;
    let plan = serde_json::json!({"build": planned.build, "jobs": planned.jobs});
    if args.json {
        say(&super::json(&plan))?;
    } else {
        let mut text = String::new();
        block(&plan, 0, &mut text);
        say(&text)?;
    }
    Ok(exit::DONE)
}

/// Writes a map or list as YAML, a line per entry. What is absent is left out.
fn block(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
                // Written into a String, it never fails.
                write!(text, "{indent}{}:", scalar(key, depth)).ok();
                after_key(value, depth, text);
            }
        }
        Value::Array(list) => {
            for value in list {
                let mut inner = String::new();
                match value {
                    Value::Object(_) | Value::Array(_) if !is_empty(value) => {
                        block(value, depth + 1, &mut inner);
                        let skipped = "  ".repeat(depth + 1).len();
                        write!(text, "{indent}- {}", &inner[skipped..]).ok();
                    }
                    value => {
                        writeln!(text, "{indent}- {}", inline(value, depth)).ok();
                    }
                }
            }
        }
        value => {
            writeln!(text, "{indent}{}", inline(value, depth)).ok();
        }
    }
}

fn after_key(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(_) | Value::Array(_) if !is_empty(value) => {
            text.push('\n');
            block(value, depth + 1, text);
        }
        value => {
            writeln!(text, " {}", inline(value, depth)).ok();
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().all(Value::is_null),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// What stands on one line, or is a text of several.
fn inline(value: &Value, depth: usize) -> String {
    match value {
        Value::String(text) => scalar(text, depth),
        Value::Object(_) => "{}".to_owned(),
        other => other.to_string(),
    }
}

/// A text as YAML has it: bare where nobody could take it for something else, in quotes otherwise.
fn scalar(text: &str, depth: usize) -> String {
    const TAKEN: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if can_be_a_block(text) {
        return lines(text, depth);
    }
    let first = |c: char| c.is_ascii_alphabetic() || c == '/' || c == '_';
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=@: ".contains(c);
    let bare = text.starts_with(first)
        && text.chars().all(plain)
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !TAKEN.contains(&text.to_lowercase().as_str());
    // JSON's texts are YAML's.
    if bare { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

/// Whether it has several lines that can be written one below the other.
fn can_be_a_block(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && !text.contains(['\u{85}', '\u{2028}', '\u{2029}', '\u{feff}'])
        && text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control())
}

fn lines(text: &str, depth: usize) -> String {
    let (mark, text) = match text.strip_suffix('\n') {
        Some(rest) if rest.ends_with('\n') => ("|+", rest),
        Some(rest) => ("|", rest),
        None => ("|-", text),
    };
    let indent = "  ".repeat(depth + 1);
    let lines = text.split('\n').map(|line| if line.is_empty() { String::new() } else { format!("{indent}{line}") });
    format!("{mark}\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn yaml(value: &Value) -> String {
        let mut text = String::new();
        block(value, 0, &mut text);
        text
    }

    #[test]
    fn what_is_written_reads_back() {
        let value = json!({
            "a": 1,
            "b": ["x", "1.10", "true", "a: b", "- c", "", " d", "e\nf\n", "g\nh", "i\n\n", "\u{1}", "#", "k:", "*", "~", ".5", "/app", "k=v"],
            "c": {"d": {}, "e": [], "f": [[1, 2], [{"x": 1, "y": [true]}]]},
            "1": false, "yes": "no", "é": "ü\"",
            "script": ["if true; then\n  echo a\nfi", "\n", "\n\nx", "  x\ny", "x\n\n\n\ny"],
        });
        let text = yaml(&value);
        let read: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(read, value, "{text}");
    }
}
