//! `if`: an expression in CEL over what is known of the build.
//!
//! It comes from anybody's manifest, so it has bounds: its length, its depth, no loops in loops; and it is read on a
//! thread of its own with room on its stack, for the parser goes deep.

use std::collections::BTreeMap;

use cel::parser::Parser;
use cel::{Context, ExecutionError, Value};

use super::findings::Findings;
use super::kinds::{Check, Kind, Names};
use super::scope::Scope;
use crate::manifest::{Span, Spanned, quoted};

/// The longest expression, in bytes.
const LONGEST: usize = 2000;

/// The deepest that parts may stand within each other.
const DEEPEST: u16 = 32;

/// Room for the parser: it takes some kilobytes per level.
const STACK_BYTES: usize = 32 << 20;

/// What is wrong with an expression: at which of its characters.
struct Fault {
    at: Option<usize>,
    message: String,
    help: String,
}

impl Fault {
    fn whole(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { at: None, message: message.into(), help: help.into() }
    }
}

/// Whether the expression holds; no, when something is wrong with it, which is told.
pub(super) fn holds(
    expression: &Spanned<String>,
    scope: &Scope<'_>,
    env: &BTreeMap<String, String>,
    findings: &mut Findings<'_>,
) -> bool {
    let text = expression.value.as_str();
    let judged = if text.len() > LONGEST {
        let message = format!("this expression is {} bytes long; it may have {LONGEST}", text.len());
        Err(Fault::whole(message, "ask shorter, or ask in the `script`"))
    } else {
        on_a_thread(|| judge(text, scope, env))
    };
    judged.unwrap_or_else(|fault| {
        let span = fault.at.map_or(expression.span, |at| place(expression, at, scope));
        findings.problem(span, fault.message, fault.help);
        false
    })
}

/// Where the character `at` of an expression is written.
fn place(expression: &Spanned<String>, at: usize, scope: &Scope<'_>) -> Span {
    let Spanned { value, span } = expression;
    let byte = value.char_indices().nth(at).map_or(value.len(), |(byte, _)| byte);
    match scope.source.slice(*span).find(value.as_str()) {
        Some(begin) => {
            let start = span.start + begin + byte;
            let word = value[byte..].chars().take_while(|c| c.is_alphanumeric() || *c == '_');
            Span::new(start..start + word.map(char::len_utf8).sum::<usize>().max(1))
        }
        None => *span,
    }
}

fn on_a_thread(work: impl FnOnce() -> Result<bool, Fault> + Send) -> Result<bool, Fault> {
    std::thread::scope(|threads| {
        let thread = std::thread::Builder::new().name("if".to_owned()).stack_size(STACK_BYTES);
        match thread.spawn_scoped(threads, work).map(|thread| thread.join()) {
            Ok(Ok(judged)) => judged,
            Ok(Err(_)) => Err(Fault::whole("this expression cannot be understood", "write it more simply")),
            Err(error) => Err(Fault::whole(format!("there is no thread to judge this on: {error}"), "try again")),
        }
    })
}

fn judge(text: &str, scope: &Scope<'_>, env: &BTreeMap<String, String>) -> Result<bool, Fault> {
    let parser = Parser::new().max_recursion_depth(DEEPEST);
    let (parsed, places) = parser.parse_with_source_info(text).map_err(|errors| unreadable(text, &errors))?;
    let matrix = scope.here.iter().map(String::as_str).collect();
    let names = Names { matrix, env: env.keys().map(String::as_str).collect() };
    let kind = Check::new(&names).kind(&parsed).map_err(|wrong| {
        let at = places.offset_for(wrong.id).and_then(|(start, _)| usize::try_from(start).ok());
        Fault { at, message: wrong.message, help: wrong.help }
    })?;
    if !matches!(kind, Kind::Yes | Kind::Any) {
        let help = "compare it, as in `branch == \"main\"`";
        return Err(Fault::whole("this is a value, and `if` takes a condition", help));
    }
    // Whoever does not know what has changed runs what may have.
    if scope.facts.changed.is_none() && parsed.references().has_variable("changed") {
        return Ok(true);
    }
    match context(scope, env)?.resolve(&parsed) {
        Ok(Value::Bool(holds)) => Ok(holds),
        Ok(_) => Err(Fault::whole("this is a value, and `if` takes a condition", "compare it with something")),
        // A cell without the axis is not the one that is asked for.
        Err(ExecutionError::NoSuchKey(_)) => Ok(false),
        Err(error) => Err(Fault::whole(format!("this cannot be judged: {error}"), "see that the values fit together")),
    }
}

fn context(scope: &Scope<'_>, env: &BTreeMap<String, String>) -> Result<Context<'static, 'static>, Fault> {
    let facts = scope.facts;
    let branch = |branch: &Option<protocol::Branch>| branch.as_ref().map(ToString::to_string).unwrap_or_default();
    let cell: BTreeMap<&str, &str> = scope.cell.iter().map(|cell| (&*cell.axis, &*cell.value)).collect();
    let mut context = Context::default();
    let texts = [
        ("event", facts.event.name().to_owned()),
        ("branch", branch(&facts.branch)),
        ("tag", facts.tag.clone().unwrap_or_default()),
        ("ref", facts.reference()),
        ("target", branch(&facts.target)),
    ];
    for (name, text) in texts {
        context.add_variable_from_value(name, text);
    }
    let added = context
        .add_variable("matrix", cell)
        .and_then(|()| context.add_variable("env", env))
        .and_then(|()| context.add_variable("changed", facts.changed.clone().unwrap_or_default()));
    added.map_err(|error| Fault::whole(format!("this cannot be judged: {error}"), "write it more simply"))?;
    Ok(context)
}

fn unreadable(text: &str, errors: &cel::ParseErrors) -> Fault {
    let help = "write it like `event == \"push\" && branch != \"main\"`";
    let Some(first) = errors.errors.first() else { return Fault::whole("this expression cannot be read", help) };
    let line = usize::try_from(first.pos.0).unwrap_or(0).saturating_sub(1);
    let before: usize = text.split_inclusive('\n').take(line).map(|line| line.chars().count()).sum();
    let column = usize::try_from(first.pos.1).unwrap_or(0).saturating_sub(1);
    let why = first.msg.lines().next().unwrap_or_default();
    let why: String = why.chars().take(120).collect();
    Fault {
        at: Some(before + column),
        message: format!("this expression cannot be read: {}", quoted(&why)),
        help: help.to_owned(),
    }
}
