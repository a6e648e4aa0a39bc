//! From nodes to a [`Manifest`]: every rule of the language, and all that is wrong in one go. One file per topic.

mod findings;
mod values;
mod environment;
mod script;
mod image;
mod machine;
mod files;
mod service;
mod code;
mod secrets;
mod failure;
mod matrix;
mod when;
mod gate;
mod schedule;
mod needs;
mod stage;
mod prepare;
mod order;
mod extends;

use crate::manifest::include::{RemoteFile, listed_as_stages};
use crate::manifest::keys::{NEVER_A_STAGE, STAGE, TOP};
use crate::manifest::language::{Defaults, Element, Manifest};
use crate::manifest::node::{Entry, Node, Shape};
use crate::manifest::source::{Problem, Source, Span, quoted};
use crate::manifest::words;
use findings::{Findings, Told};
use when::Of;

/// The manifest and its warnings, or all that is wrong with it, in the order of the file.
pub(super) fn manifest(
    source: Source,
    root: &Node,
    loose: &[(Span, RemoteFile)],
) -> Result<(Manifest, Vec<Problem>), Told> {
    let mut findings = Findings::new(&source);
    for (place, file) in loose {
        unpinned(*place, file, &mut findings);
    }
    let top = entries(root, &mut findings).and_then(|entries| {
        let listed = listed_as_stages(entries);
        let entries = extends::resolve(entries, |key| listed.contains(key), &mut findings)?;
        Some(Top::of(&entries, &mut findings).read(&mut findings))
    });
    let warnings = findings.into_result()?.problems;
    // Without a top level there was an error.
    let manifest = Manifest { source, ..top.unwrap_or_default() };
    Ok((manifest, warnings))
}

/// The top level, when it is a map.
fn entries<'n>(root: &'n Node, findings: &mut Findings<'_>) -> Option<&'n [Entry]> {
    const FIRST: &str = "write `image: ubuntu:latest`, and below it `build: {script: [echo it builds]}`";
    match &root.value {
        Shape::Map(entries) => return Some(entries),
        Shape::Null => findings.error(Span::new(0..0), "the manifest is empty", FIRST),
        other => {
            let message = format!("a manifest is a map of keys and values, not {}", other.kind());
            findings.error(root.span, message, FIRST);
        }
    }
    None
}

/// What is included without saying which commit may be another thing tomorrow.
fn unpinned(place: Span, file: &RemoteFile, findings: &mut Findings<'_>) {
    let message = match &file.reference {
        Some(branch) => format!("{} is included from the branch {}, which moves", quoted(&file.file), quoted(branch)),
        None => format!("{} is included without a `ref`, so what it says may change at any time", quoted(&file.file)),
    };
    findings.warning(place, message, "write `ref: v3`, a tag or a commit");
}

/// The top level before it is read.
struct Top<'n> {
    entries: &'n [Entry],
    /// What `stages` lists, `prepare` apart; nothing when there is no such key or it is wrong.
    listed: Option<Vec<order::Element<'n>>>,
    /// Whether stages that nobody lists run: there is no `stages`.
    unlisted_run: bool,
}

impl<'n> Top<'n> {
    fn of(entries: &'n [Entry], findings: &mut Findings<'_>) -> Self {
        let stages = entries.iter().find(|entry| entry.key.value == "stages");
        let listed = stages.and_then(|stages| order::read(stages, entries, findings));
        Self { entries, listed, unlisted_run: stages.is_none() }
    }

    fn get(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key.value == key)
    }

    fn lists(&self, key: &str) -> bool {
        self.listed.iter().flatten().flatten().any(|name| name.value == key)
    }

    fn read(&self, findings: &mut Findings<'_>) -> Manifest {
        let mut manifest = Manifest::default();
        let mut names: Vec<&str> = self.listed.iter().flatten().flatten().map(|name| name.value).collect();
        let mut unlisted = Vec::new();
        for entry in self.entries {
            match entry.key.value.as_str() {
                listed if self.lists(listed) => {}
                free if words::is_free(free) => {}
                word if TOP.has(word) => self.word(entry, &mut manifest, findings),
                later if TOP.later.contains(&later) => findings.later(entry),
                _ if stage::is_meant(entry) => {
                    let runs = self.unlisted(entry, &mut manifest, findings);
                    if runs { &mut names } else { &mut unlisted }.push(&entry.key.value);
                }
                _ => self.unknown(entry, findings),
            }
        }
        self.stages(&mut manifest, findings);
        if manifest.stages.is_empty() && findings.count() == 0 {
            findings.error(
                Span::new(0..0),
                "the manifest has no stage, so nothing would run",
                "write one, such as `build: {script: [make]}`",
            );
        }
        schedule::inputs(&manifest, findings);
        matrix::one_variable_each(&manifest, findings);
        needs::check(&manifest, &names, &unlisted, findings);
        manifest
    }

    /// The stages that `stages` lists.
    fn stages(&self, manifest: &mut Manifest, findings: &mut Findings<'_>) {
        for element in self.listed.iter().flatten() {
            let first = manifest.stages.len();
            for name in element {
                if let Some(entry) = self.get(name.value) {
                    manifest.stages.extend(stage::read(entry, name.span, findings));
                }
            }
            let members: Vec<usize> = (first..manifest.stages.len()).collect();
            manifest.order.extend(match members.as_slice() {
                [] => None,
                [one] => Some(Element::One(*one)),
                _ => Some(Element::Group(members)),
            });
        }
    }

    /// A word of the top level.
    fn word(&self, entry: &Entry, manifest: &mut Manifest, findings: &mut Findings<'_>) {
        if !NEVER_A_STAGE.contains(&entry.key.value.as_str()) && entry.value.value.has("script") {
            let key = &entry.key.value;
            let message = format!("{} is a word of the language, and here stands a stage", quoted(key));
            findings.error(
                entry.key.span,
                message,
                format!("write `{key}` into `stages` to make it one, or rename it"),
            );
        } else if !for_stages(entry, &mut manifest.defaults, findings) {
            of_the_build(entry, manifest, findings);
        }
    }

    /// A stage that `stages` does not name: it runs when there is no `stages`. Whether it does.
    fn unlisted(&self, entry: &Entry, manifest: &mut Manifest, findings: &mut Findings<'_>) -> bool {
        // One with a mistyped `script` is read for that to be told.
        if self.unlisted_run || !stage::runs(&entry.value.value) {
            if let Some(stage) = stage::read(entry, entry.key.span, findings) {
                manifest.order.push(Element::One(manifest.stages.len()));
                manifest.stages.push(stage);
            }
        } else {
            let name = &entry.key.value;
            findings.warning(
                entry.key.span,
                format!("the stage {} never runs: \"stages\" does not list it", quoted(name)),
                format!("write `{name}` into `stages`, or begin the key with `.` to keep it for later"),
            );
        }
        self.unlisted_run
    }

    fn unknown(&self, entry: &Entry, findings: &mut Findings<'_>) {
        let key = entry.key.value.as_str();
        let missing = |word: &&str| self.get(word).is_none();
        let of_a_stage = || findings.guess(key, STAGE.names());
        if STAGE.has(key) {
            let message = format!("the top level has no key {}", quoted(key));
            findings.error(entry.key.span, message, format!("write it in a stage, such as `build: {{{key}: ...}}`"));
        } else if let Some(guess) = findings.guess(key, TOP.names().filter(missing)) {
            let message = format!("there is no key {}{}", quoted(key), findings::did_you_mean(Some(guess)));
            findings.error(
                entry.key.span,
                message,
                format!("write `{guess}`, or begin the key with `x-` if it is yours"),
            );
        } else if let Some(word) = of_a_stage() {
            let message = format!("the top level has no key {}", quoted(key));
            findings.error(entry.key.span, message, format!("write it in a stage, such as `build: {{{word}: ...}}`"));
        } else if matches!(entry.value.value, Shape::Map(_)) {
            let message = format!("{} is no key of the language, and no stage, as it has no \"script\"", quoted(key));
            findings.error(
                entry.key.span,
                message,
                "write a `script` in it to make it a stage, or begin the key with `x-` if it is yours",
            );
        } else {
            let message = format!("there is no key {}", quoted(key));
            let help =
                "write a key of the language (`buildr explain` lists them), a stage, or a key that begins with `x-`";
            findings.error(entry.key.span, message, help);
        }
    }
}

/// What holds for stages that do not say otherwise. Whether the key is one of these.
fn for_stages(entry: &Entry, defaults: &mut Defaults, findings: &mut Findings<'_>) -> bool {
    match entry.key.value.as_str() {
        "docker" => defaults.docker = findings.flag(entry),
        "privileged" => defaults.privileged = findings.flag(entry),
        "shell" => defaults.shell = stage::shell(entry, findings),
        "idle_timeout" => defaults.idle_timeout_ms = findings.duration(entry),
        "retry" => defaults.retry = failure::retry(entry, findings),
        "resources" => defaults.resources = machine::resources(entry, findings),
        "agent" => defaults.agent = Some(machine::labels(entry, findings)),
        "platform" => defaults.platform = image::platform(entry, findings),
        "cache" => defaults.cache = files::caches(entry, findings),
        "secrets" => defaults.secrets.extend(secrets::read(entry, findings)),
        _ => return false,
    }
    true
}

/// What is said once for the whole build.
fn of_the_build(entry: &Entry, manifest: &mut Manifest, findings: &mut Findings<'_>) {
    match entry.key.value.as_str() {
        "version" => version(entry, findings),
        "image" => manifest.image = image::read(entry, findings),
        "environment" => {
            manifest.environment = environment::read(entry, &mut manifest.defaults.secrets, findings);
        }
        "prepare" => manifest.prepare = prepare::read(entry, findings),
        "finally" => manifest.finally = stage::finally(entry, findings),
        "services" => manifest.services = service::read(entry, findings),
        "matrix" => manifest.matrix = matrix::read(entry, findings),
        "when" => manifest.when = when::read(entry, Of::Pipeline, findings),
        "clone" => manifest.clone = code::clone(entry, findings),
        "repos" => manifest.repos = code::repos(entry, findings),
        "workspace" => manifest.workspace = code::workspace(entry, findings),
        "dir" => manifest.dir = code::dir(entry, findings),
        "schedule" => manifest.schedules = schedule::read(entry, findings),
        "inputs" => manifest.inputs = gate::inputs(entry, findings),
        "concurrency" => manifest.concurrency = gate::concurrency(entry, findings),
        "cancel_superseded" => manifest.cancel_superseded = findings.flag(entry),
        "timeout" => manifest.timeout_ms = findings.duration(entry),
        "fail_fast" => manifest.fail_fast = findings.flag(entry),
        "stage_parallelism" => manifest.stage_parallelism = findings.count_of(entry, 1..=256),
        "priority" => {
            manifest.priority = findings.whole(entry, -100..=100).and_then(|priority| i32::try_from(priority).ok());
        }
        // `stages` and `include` have been read by now.
        _ => {}
    }
}

fn version(entry: &Entry, findings: &mut Findings<'_>) {
    let help = "write `version: 1`, or leave it out";
    match &entry.value.value {
        Shape::Scalar { text, .. } if text == "1" => {}
        Shape::Scalar { text, .. } => {
            let message =
                format!("this buildr reads version 1 of the language, and the manifest is of {}", quoted(text));
            findings.error(entry.place(), message, help);
        }
        other => findings.error(entry.place(), format!("\"version\" is a number, not {}", other.kind()), help),
    }
}
