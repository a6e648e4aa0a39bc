//! `secrets`: which of them a stage is given, and how they arrive.

use protocol::plan::SecretRequest;
use protocol::secure::SecureText;

use super::environment;
use super::findings::{Findings, Keys, shown};
use crate::manifest::keys::{SEALED, SECRET};
use crate::manifest::node::{Entry, Node, Shape};
use crate::manifest::source::{Span, Spanned, quoted};

const HELP: &str = "write `secrets: [TOKEN]`, or `secrets: {SSH_KEY: {from: prod/ssh, file: true}}`";

/// What `secrets` says: names, maps of names, or a list of both.
pub(super) fn read(entry: &Entry, findings: &mut Findings<'_>) -> Vec<Spanned<SecretRequest>> {
    let mut secrets = Vec::new();
    super::values::flatten(&entry.value, entry.place(), &mut |node, place| one(node, place, &mut secrets, findings));
    for (index, secret) in secrets.iter().enumerate() {
        let name = &secret.value.variable;
        if secrets[..index].iter().any(|before| before.value.variable == *name) {
            findings.error(secret.span, format!("the secret {} stands here twice", quoted(name)), "write it once");
        }
    }
    secrets
}

fn one(node: &Node, place: Span, secrets: &mut Vec<Spanned<SecretRequest>>, findings: &mut Findings<'_>) {
    if let Shape::Map(entries) = &node.value {
        secrets.extend(entries.iter().filter_map(|entry| named(entry, findings)));
        return;
    }
    let Some(name) = findings.filled(node, place, "a secret", HELP) else { return };
    if environment::can_be_set(&name.value, place, findings) {
        let secret = SecretRequest { variable: name.value.clone(), from: name.value, file: false, secure: None };
        secrets.push(Spanned { value: secret, span: name.span });
    }
}

/// `VARIABLE: name`, or `VARIABLE: {from: name, file: true}`.
fn named(entry: &Entry, findings: &mut Findings<'_>) -> Option<Spanned<SecretRequest>> {
    let variable = entry.key.value.clone();
    let named = environment::can_be_set(&variable, entry.key.span, findings);
    let (mut from, mut file, mut secure) = (variable.clone(), false, None);
    match &entry.value.value {
        Shape::Map(_) => {
            let keys = Keys { owner: format!("the secret {}", quoted(&variable)), map: &SECRET };
            let example = format!("{variable}: {{from: {variable}, file: true}}");
            let mut told = None;
            for entry in findings.entries(entry, &keys, &example) {
                match entry.key.value.as_str() {
                    "from" => {
                        from = name(&entry.value, entry.place(), findings)?;
                        told = Some(entry.place());
                    }
                    "secure" => secure = Some(sealed(&entry.value, entry.place(), findings)?),
                    _ => file = findings.flag(entry).unwrap_or_default(),
                }
            }
            if let Some(place) = told.filter(|_| secure.is_some()) {
                let message =
                    format!("the secret {} has its value here, and says that it is kept elsewhere", quoted(&variable));
                findings.error(place, message, "write `secure` or `from`, and not both");
            }
        }
        Shape::Scalar { .. } => from = name(&entry.value, entry.place(), findings)?,
        other => {
            let message =
                format!("the secret {} says where it is from, and here stands {}", quoted(&variable), shown(other));
            findings.error(entry.place(), message, HELP);
            return None;
        }
    }
    let secret = SecretRequest { variable, from, file, secure };
    named.then_some(Spanned { value: secret, span: entry.key.span })
}

/// `VARIABLE: {secure: value}`, as it stands among plain variables.
pub(super) fn sealed_variable(entry: &Entry, findings: &mut Findings<'_>) -> Option<Spanned<SecretRequest>> {
    let variable = entry.key.value.clone();
    let named = environment::can_be_set(&variable, entry.key.span, findings);
    let keys = Keys { owner: format!("the variable {}", quoted(&variable)), map: &SEALED };
    let mut secure = None;
    for entry in findings.entries(entry, &keys, &format!("{variable}: {{secure: VALUE}}")) {
        secure = Some(sealed(&entry.value, entry.place(), findings)?);
    }
    let secret = SecretRequest { from: variable.clone(), variable, file: false, secure: Some(secure?) };
    named.then_some(Spanned { value: secret, span: entry.key.span })
}

/// A value that was sealed for the farm.
fn sealed(node: &Node, place: Span, findings: &mut Findings<'_>) -> Option<String> {
    const SEAL: &str = "run `buildr encrypt NAME --project URL`, and write what it prints";
    let text = findings.filled(node, place, "a sealed value", SEAL)?;
    if let Err(error) = text.value.parse::<SecureText>() {
        findings.error(place, error.to_string(), SEAL);
        return None;
    }
    Some(text.value)
}

/// The name of a secret in its store.
fn name(node: &Node, place: Span, findings: &mut Findings<'_>) -> Option<String> {
    let name = findings.filled(node, place, "a secret's name", HELP)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    if name.value.len() > 128 || !name.value.chars().all(legal) {
        let message = format!("{} cannot name a secret", quoted(&name.value));
        findings.error(place, message, "write 1 to 128 letters, digits, `_`, `-`, `.` or `/`");
        return None;
    }
    Some(name.value)
}
