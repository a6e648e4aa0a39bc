//! Stages, and `finally`, which is one.

use protocol::StageName;

use super::findings::{Findings, Keys};
use super::when::Of;
use super::{code, environment, failure, files, gate, image, machine, matrix, needs, script, secrets, service, when};
use crate::manifest::keys::{FINALLY, STAGE};
use crate::manifest::language::Stage;
use crate::manifest::node::{Entry, Shape};
use crate::manifest::source::{Span, Spanned, quoted};
use crate::manifest::words;

/// What a stage that triggers another build may say besides.
const BESIDE_TRIGGER: [&str; 8] =
    ["trigger", "needs", "when", "matrix", "manual", "concurrency", "allow_failure", "timeout"];

/// One stage. `named` is where it is named: in `stages`, or its own key.
pub(super) fn read(entry: &Entry, named: Span, findings: &mut Findings<'_>) -> Option<Stage> {
    let name = name(&Spanned { value: entry.key.value.as_str(), span: named }, findings);
    let owner = format!("the stage {}", quoted(&entry.key.value));
    let example = format!("{}: {{script: [...]}}", entry.key.value);
    let keys = Keys { owner, map: &STAGE };
    let entries = findings.entries(entry, &keys, &example);
    let stage = of(name, &entries, &keys.owner, Of::Stage, findings);
    if entries.iter().any(|entry| entry.key.value == "trigger") {
        beside_trigger(&entries, &keys.owner, findings);
    } else {
        missing_script(entry, &keys.owner, &example, findings);
    }
    stage.filter(|stage| stage.trigger.is_some() || !stage.script.is_empty())
}

/// The stage `finally`.
pub(super) fn finally(entry: &Entry, findings: &mut Findings<'_>) -> Option<Stage> {
    const EXAMPLE: &str = "finally: {script: [...]}";
    let keys = Keys::of("finally", &FINALLY);
    let name = name(&Spanned { value: "finally", span: entry.key.span }, findings);
    let entries = findings.entries(entry, &keys, EXAMPLE);
    let stage = of(name, &entries, &keys.owner, Of::Finally, findings);
    missing_script(entry, &keys.owner, EXAMPLE, findings);
    stage.filter(|stage| !stage.script.is_empty())
}

fn of(
    name: Option<Spanned<StageName>>,
    entries: &[&Entry],
    owner: &str,
    of: Of,
    findings: &mut Findings<'_>,
) -> Option<Stage> {
    let mut stage = Stage::new(name?, Vec::new());
    for entry in entries {
        if !how_it_runs(&mut stage, entry, findings) {
            when_and_what(&mut stage, entry, owner, of, findings);
        }
    }
    Some(stage)
}

/// What says how its container runs. Whether the key is one of these.
fn how_it_runs(stage: &mut Stage, entry: &Entry, findings: &mut Findings<'_>) -> bool {
    match entry.key.value.as_str() {
        "image" => stage.image = image::read(entry, findings),
        "environment" => stage.environment = environment::read(entry, &mut stage.secrets, findings),
        "services" => stage.services = service::read(entry, findings),
        "timeout" => stage.timeout_ms = findings.duration(entry),
        "idle_timeout" => stage.idle_timeout_ms = findings.duration(entry),
        "agent" => stage.agent = Some(machine::labels(entry, findings)),
        "platform" => stage.platform = image::platform(entry, findings),
        "resources" => stage.resources = machine::resources(entry, findings),
        "docker" => stage.docker = findings.flag(entry),
        "privileged" => stage.privileged = findings.flag(entry),
        "dir" => stage.dir = code::dir(entry, findings),
        "shell" => stage.shell = shell(entry, findings),
        _ => return false,
    }
    true
}

/// What says when it runs, what it does, and what it leaves.
fn when_and_what(stage: &mut Stage, entry: &Entry, owner: &str, of: Of, findings: &mut Findings<'_>) {
    let commands = |findings: &mut Findings<'_>| script::commands(entry, owner, findings).unwrap_or_default();
    match entry.key.value.as_str() {
        "script" => stage.script = commands(findings),
        "on_failure" => stage.on_failure = commands(findings),
        "after" => stage.after = commands(findings),
        "needs" => stage.needs = Some(needs::read(entry, findings)),
        "matrix" => stage.matrix = matrix::read(entry, findings),
        "parallel" => stage.parallel = matrix::shards(entry, findings),
        "when" => stage.when = when::read(entry, of, findings),
        "allow_failure" => stage.allow_failure = failure::allowed(entry, findings),
        "retry" => stage.retry = failure::retry(entry, findings),
        "artifacts" => stage.artifacts = files::artifacts(entry, findings),
        "reports" => stage.reports = files::reports(entry, findings),
        "cache" => stage.cache = Some(files::caches(entry, findings)),
        "secrets" => stage.secrets.extend(secrets::read(entry, findings)),
        "concurrency" => stage.concurrency = gate::concurrency(entry, findings),
        "manual" => stage.manual = gate::manual(entry, findings),
        "trigger" => stage.trigger = gate::trigger(entry, findings),
        _ => {}
    }
}

/// What runs the script: a program, its arguments, and `{0}` where the script's file goes.
pub(super) fn shell(entry: &Entry, findings: &mut Findings<'_>) -> Option<Spanned<String>> {
    findings.word(entry, "write `shell: bash -euo pipefail {0}`, in which `{0}` is the script's file")
}

/// A stage in whose place another build runs has no container that the rest could be about.
fn beside_trigger(entries: &[&Entry], owner: &str, findings: &mut Findings<'_>) {
    for entry in entries {
        let key = entry.key.value.as_str();
        if !BESIDE_TRIGGER.contains(&key) {
            findings.error(
                entry.key.span,
                format!("{owner} begins another build and runs nothing itself, so it can have no {}", quoted(key)),
                format!("take it out; beside `trigger` can stand {}", words::listed(&BESIDE_TRIGGER[1..])),
            );
        }
    }
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

/// Whether a map that `stages` does not list is a stage: it has a `script` or a `trigger`, something mistyped for a
/// `script`, or an `extends` that could not be carried out.
pub(super) fn is_meant(entry: &Entry) -> bool {
    match &entry.value.value {
        Shape::Map(entries) => entries
            .iter()
            .map(|entry| entry.key.value.as_str())
            .any(|key| matches!(key, "trigger" | "extends") || words::closest(key, ["script"]).is_some()),
        _ => false,
    }
}

/// Whether a map is complete as a stage.
pub(super) fn runs(shape: &Shape) -> bool {
    shape.has("script") || shape.has("trigger")
}

/// Tells that a map does nothing.
pub(super) fn missing_script(entry: &Entry, owner: &str, example: &str, findings: &mut Findings<'_>) {
    // A mistyped one has been told.
    if matches!(entry.value.value, Shape::Map(_)) && !is_meant(entry) {
        let message = format!("{owner} has no \"script\", so it would do nothing");
        findings.error(entry.key.span, message, format!("write `{example}`"));
    }
}
