//! `environment`: what is set, and what is taken over from the agent.

use protocol::Variable;
use protocol::plan::SecretRequest;

use super::findings::{Findings, Keys, shown};
use super::secrets;
use super::values::flatten;
use crate::manifest::keys::{ENVIRONMENT, Map, SERVICE_ENVIRONMENT};
use crate::manifest::language::{Environment, Inherit};
use crate::manifest::node::{Entry, Node, Shape};
use crate::manifest::source::{Span, Spanned, quoted};
use crate::manifest::variable;

/// What `environment` says. A list is its `vars`. Values that are sealed are secrets, and go to those.
pub(super) fn read(
    entry: &Entry,
    secrets: &mut Vec<Spanned<SecretRequest>>,
    findings: &mut Findings<'_>,
) -> Environment {
    of(entry, &ENVIRONMENT, Some(secrets), findings)
}

/// What `environment` of a service says, which inherits nothing.
pub(super) fn of_service(entry: &Entry, findings: &mut Findings<'_>) -> Vec<Spanned<Variable>> {
    of(entry, &SERVICE_ENVIRONMENT, None, findings).vars
}

fn of(
    entry: &Entry,
    map: &'static Map,
    mut sealed: Option<&mut Vec<Spanned<SecretRequest>>>,
    findings: &mut Findings<'_>,
) -> Environment {
    let mut environment = Environment::default();
    if matches!(entry.value.value, Shape::List(_)) {
        environment.vars = vars(entry, findings);
        return environment;
    }
    for entry in findings.entries(entry, &Keys::of("environment", map), "environment: {vars: [NAME=VALUE]}") {
        match entry.key.value.as_str() {
            "inherit" => environment.inherit = Some(inherit(entry, findings)),
            _ => environment.vars = plain_and_sealed(entry, sealed.as_deref_mut(), findings),
        }
    }
    environment
}

fn inherit(entry: &Entry, findings: &mut Findings<'_>) -> Inherit {
    const EXAMPLE: &str = "write `true`, `false`, or the names to pass on, such as `[LANG, HTTP_*]`";
    match &entry.value.value {
        Shape::Scalar { truth: Some(true), .. } => Inherit::Everything,
        Shape::Scalar { truth: Some(false), .. } => Inherit::Nothing,
        Shape::List(_) => {
            let mut globs = Vec::new();
            flatten(&entry.value, entry.place(), &mut |node, place| glob(node, place, &mut globs, findings));
            Inherit::Names(globs)
        }
        other => {
            let message =
                format!("\"inherit\" is `true`, `false` or a list of names, and here stands {}", shown(other));
            findings.error(entry.place(), message, EXAMPLE);
            Inherit::Nothing
        }
    }
}

fn glob(node: &Node, place: Span, globs: &mut Vec<Spanned<String>>, findings: &mut Findings<'_>) {
    let help = "write a variable's name, in which `*` stands for any text and `?` for one character";
    let Some(glob) = findings.text(node, place, "a name in \"inherit\"", help) else { return };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'*' | b'?');
    if glob.value.is_empty() || !glob.value.bytes().all(legal) {
        findings.error(place, format!("{} is not the name of a variable", quoted(&glob.value)), help);
    } else if variable::is_name(&glob.value) && !variable::is_inheritable(&glob.value) {
        findings.warning(
            place,
            format!("{} is never passed on: it is the machine's or buildr's own", quoted(&glob.value)),
            "write it under `vars` if a stage needs it with a value of yours, or take it out",
        );
    } else {
        globs.push(glob);
    }
}

/// Variables: a list of `NAME=VALUE`, or a map.
pub(super) fn vars(entry: &Entry, findings: &mut Findings<'_>) -> Vec<Spanned<Variable>> {
    plain_and_sealed(entry, None, findings)
}

/// The same, where sealed values may stand among them.
fn plain_and_sealed(
    entry: &Entry,
    mut sealed: Option<&mut Vec<Spanned<SecretRequest>>>,
    findings: &mut Findings<'_>,
) -> Vec<Spanned<Variable>> {
    let mut vars = Vec::new();
    match &entry.value.value {
        Shape::List(_) => {
            flatten(&entry.value, entry.place(), &mut |node, place| vars.extend(assignment(node, place, findings)));
        }
        Shape::Map(entries) => {
            for entry in entries {
                if let (Some(sealed), Shape::Map(_)) = (sealed.as_deref_mut(), &entry.value.value) {
                    sealed.extend(secrets::sealed_variable(entry, findings));
                    continue;
                }
                let help = format!("write `{}: \"\"` for an empty value", entry.key.value);
                let what = format!("the variable {}", quoted(&entry.key.value));
                let value = findings.text(&entry.value, entry.place(), &what, &help);
                let named = can_be_set(&entry.key.value, entry.key.span, findings);
                vars.extend(
                    value
                        .filter(|_| named)
                        .map(|value| Spanned { span: value.span, value: Variable::new(&entry.key.value, value.value) }),
                );
            }
        }
        other => {
            let message = format!("\"vars\" is a list of NAME=VALUE, or a map, and here stands {}", shown(other));
            findings.error(entry.place(), message, "write `vars: [NAME=VALUE]`");
        }
    }
    vars
}

/// One `NAME=VALUE`.
fn assignment(node: &Node, place: Span, findings: &mut Findings<'_>) -> Option<Spanned<Variable>> {
    if let Shape::Map(entries) = &node.value
        && let [Entry { key, value: Spanned { value: Shape::Scalar { text, .. }, .. } }] = entries.as_slice()
    {
        findings.error(
            key.span,
            "in a list, a variable is written with `=` and not with a colon",
            format!("write `- {}={text}`; with a colon in it, in quotes", key.value),
        );
        return None;
    }
    let text = findings.text(node, place, "a variable in \"vars\"", "write `- NAME=VALUE`")?;
    let Some((before, value)) = text.value.split_once('=') else {
        let message = format!("{} is no NAME=VALUE: there is no `=`", quoted(&text.value));
        let help = "write `- NAME=VALUE`, or `- NAME=` for an empty value; what the agent has comes by `inherit`";
        findings.error(place, message, help);
        return None;
    };
    can_be_set(before, place, findings).then(|| Spanned { value: Variable::new(before, value), span: text.span })
}

/// Whether a variable of this name can be set; told when it cannot.
pub(super) fn can_be_set(name: &str, place: Span, findings: &mut Findings<'_>) -> bool {
    if !variable::is_name(name) {
        findings.error(
            place,
            format!("{} cannot name a variable", quoted(name)),
            "write a name of letters, digits and `_` that begins with no digit",
        );
    } else if variable::is_reserved(name) {
        findings.error(
            place,
            format!("{} cannot be set: `CI` and all that begins with `BUILDR_` is set by buildr", quoted(name)),
            "write another name",
        );
    } else {
        return true;
    }
    false
}
