//! `prepare`: what makes the image that stages start from.

use super::findings::{Findings, Keys};
use super::{environment, files, script, secrets, stage};
use crate::manifest::keys::PREPARE;
use crate::manifest::language::{Environment, Prepare};
use crate::manifest::node::{Entry, Shape};
use crate::manifest::source::quoted;

/// What `prepare` says.
pub(super) fn read(entry: &Entry, findings: &mut Findings<'_>) -> Option<Prepare> {
    const EXAMPLE: &str = "prepare: {script: [...]}";
    let keys = Keys::of("prepare", &PREPARE);
    let mut prepare = Prepare {
        script: Vec::new(),
        files: None,
        cache: None,
        secrets: Vec::new(),
        environment: Environment::default(),
        timeout_ms: None,
        shell: None,
    };
    let mut commands = None;
    for entry in findings.entries(entry, &keys, EXAMPLE) {
        match entry.key.value.as_str() {
            "script" => commands = script::commands(entry, &keys.owner, findings),
            "files" => prepare.files = Some(files::below(entry, "a file in \"files\"", findings)),
            "cache" => prepare.cache = findings.flag(entry),
            "secrets" => prepare.secrets.extend(secrets::read(entry, findings)),
            "environment" => prepare.environment = environment::read(entry, &mut prepare.secrets, findings),
            "timeout" => prepare.timeout_ms = findings.duration(entry),
            "shell" => prepare.shell = stage::shell(entry, findings),
            _ => {}
        }
    }
    stage::missing_script(entry, &keys.owner, EXAMPLE, findings);
    what_cannot_be_cached(entry, &prepare, findings);
    commands.map(|script| Prepare { script, ..prepare })
}

/// An image that secrets may be part of is never kept for other builds.
fn what_cannot_be_cached(entry: &Entry, prepare: &Prepare, findings: &mut Findings<'_>) {
    let Some(secret) = prepare.secrets.first() else { return };
    if prepare.cache == Some(false) {
        return;
    }
    let Shape::Map(entries) = &entry.value.value else { return };
    let place = entries.iter().find(|entry| entry.key.value == "cache").map_or(secret.span, Entry::place);
    findings.error(
        place,
        format!(
            "\"prepare\" is given the secret {}, so its image cannot be kept for other builds",
            quoted(&secret.value.variable)
        ),
        "write `cache: false` in it, or give the secret to a stage",
    );
}
