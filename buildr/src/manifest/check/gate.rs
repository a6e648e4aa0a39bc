//! What stands before a stage, or in its place: a person, a turn, another build.

use protocol::plan::{GateInput, TakeOrder};

use super::environment;
use super::findings::{Findings, Keys, shown};
use super::values::Choice;
use crate::manifest::keys::{CONCURRENCY, INPUT, MANUAL, TRIGGER};
use crate::manifest::language::{Concurrency, Manual, Trigger};
use crate::manifest::node::{Entry, Shape};
use crate::manifest::source::{Spanned, quoted};

const ORDER: [Choice<TakeOrder>; 2] = [("build", TakeOrder::Build), ("ready", TakeOrder::Ready)];

/// What `concurrency` says: a group's name, or a map with it.
pub(super) fn concurrency(entry: &Entry, findings: &mut Findings<'_>) -> Option<Concurrency> {
    const HELP: &str = "write `concurrency: deploy`, or `concurrency: {group: deploy, limit: 2}`";
    if !matches!(entry.value.value, Shape::Map(_)) {
        let group = findings.word(entry, HELP)?;
        return Some(Concurrency { group, limit: 1, order: TakeOrder::default() });
    }
    let before = findings.count();
    let (mut group, mut limit, mut order) = (None, 1, TakeOrder::default());
    for entry in findings.entries(entry, &Keys::of("concurrency", &CONCURRENCY), "concurrency: {group: deploy}") {
        match entry.key.value.as_str() {
            "group" => group = findings.word(entry, HELP),
            "limit" => limit = findings.count_of(entry, 1..=1000).unwrap_or(1),
            _ => order = findings.choice(entry, &ORDER).unwrap_or_default(),
        }
    }
    if group.is_none() && findings.count() == before {
        findings.error(entry.place(), "this \"concurrency\" has no group", HELP);
    }
    group.map(|group| Concurrency { group, limit, order })
}

/// What `manual` says: a flag, the question, or a map. `false` is nothing.
pub(super) fn manual(entry: &Entry, findings: &mut Findings<'_>) -> Option<Manual> {
    const HELP: &str = "write `manual: true`, a question, or `manual: {ask: \"Deploy?\", allow: [release-team]}`";
    let mut manual = Manual { ask: None, allow: Vec::new(), inputs: Vec::new(), timeout_ms: None };
    match &entry.value.value {
        Shape::Scalar { truth: Some(false), .. } => return None,
        Shape::Scalar { truth: Some(true), .. } => {}
        Shape::Map(_) => {
            for entry in findings.entries(entry, &Keys::of("manual", &MANUAL), "manual: {ask: \"Deploy?\"}") {
                match entry.key.value.as_str() {
                    "ask" => manual.ask = findings.word(entry, HELP),
                    "allow" => {
                        let people = findings.texts(entry, "a name in \"allow\"", HELP);
                        manual.allow = people.into_iter().map(|name| name.value).collect();
                    }
                    "inputs" => manual.inputs = inputs(entry, findings),
                    _ => manual.timeout_ms = findings.duration(entry),
                }
            }
        }
        _ => manual.ask = Some(findings.word(entry, HELP)?),
    }
    Some(manual)
}

/// What `inputs` says: names, each with what it may be; or a list of names that may be anything.
pub(super) fn inputs(entry: &Entry, findings: &mut Findings<'_>) -> Vec<Spanned<GateInput>> {
    const HELP: &str = "write `inputs: {REGION: [eu, us]}`, or `inputs: {REGION: {choices: [eu, us], default: eu}}`";
    let mut inputs: Vec<Spanned<GateInput>> = Vec::new();
    if let Shape::Map(entries) = &entry.value.value {
        for entry in entries {
            if environment::can_be_set(&entry.key.value, entry.key.span, findings) {
                let value = input(entry, findings);
                inputs.push(Spanned { value, span: entry.key.span });
            }
        }
        return inputs;
    }
    for name in findings.texts(entry, "an input", HELP) {
        if inputs.iter().any(|input| input.value.name == name.value) {
            findings.error(name.span, format!("the input {} stands here twice", quoted(&name.value)), "write it once");
        } else if environment::can_be_set(&name.value, name.span, findings) {
            inputs.push(Spanned { value: anything(name.value), span: name.span });
        }
    }
    inputs
}

fn anything(name: String) -> GateInput {
    GateInput { name, choices: Vec::new(), default: None, description: None }
}

/// What an entry of `inputs` says: its choices, its default, or a map with both.
fn input(entry: &Entry, findings: &mut Findings<'_>) -> GateInput {
    const HELP: &str = "write `[eu, us]` for choices, a text for its default, or `{choices: [eu, us], default: eu}`";
    let mut input = anything(entry.key.value.clone());
    let texts = |entry: &Entry, findings: &mut Findings<'_>| -> Vec<String> {
        findings.texts(entry, "a choice", HELP).into_iter().map(|choice| choice.value).collect()
    };
    match &entry.value.value {
        Shape::List(elements) => {
            input.choices = texts(entry, findings);
            if elements.is_empty() {
                let message = format!("the input {} lists no choice", quoted(&input.name));
                findings.error(entry.place(), message, HELP);
            }
        }
        Shape::Map(_) => {
            let keys = Keys { owner: format!("the input {}", quoted(&entry.key.value)), map: &INPUT };
            let example = format!("{}: {{choices: [eu, us], default: eu}}", entry.key.value);
            for entry in findings.entries(entry, &keys, &example) {
                match entry.key.value.as_str() {
                    "choices" => input.choices = texts(entry, findings),
                    "default" => {
                        let text = findings.text(&entry.value, entry.place(), "\"default\"", "write `default: \"\"`");
                        input.default = text.map(|text| text.value);
                    }
                    _ => input.description = findings.word(entry, "write what it is for").map(|text| text.value),
                }
            }
        }
        _ => {
            let what = format!("the input {}", quoted(&input.name));
            input.default = findings.text(&entry.value, entry.place(), &what, HELP).map(|text| text.value);
        }
    }
    if let Some(default) = &input.default
        && !input.choices.is_empty()
        && !input.choices.contains(default)
    {
        let message =
            format!("the default {} of the input {} is none of its choices", quoted(default), quoted(&input.name));
        findings.error(entry.key.span, message, "write one of the choices, or add it to them");
    }
    input
}

/// What `trigger` says: a repository, or a map.
pub(super) fn trigger(entry: &Entry, findings: &mut Findings<'_>) -> Option<Trigger> {
    const HELP: &str =
        "write `trigger: https://git.example.org/team/deploy.git`, or `trigger: {branch: release, wait: true}`";
    let mut trigger = Trigger { repo: None, branch: None, vars: Vec::new(), wait: false };
    match &entry.value.value {
        Shape::Map(entries) if entries.is_empty() => {
            findings.error(entry.place(), "this trigger says neither a repository nor a branch", HELP);
            return None;
        }
        Shape::Map(_) => {
            for entry in findings.entries(entry, &Keys::of("trigger", &TRIGGER), "trigger: {branch: release}") {
                match entry.key.value.as_str() {
                    "repo" => trigger.repo = super::code::url(entry, findings),
                    "branch" => trigger.branch = findings.word(entry, "write `branch: main`"),
                    "vars" => trigger.vars = environment::vars(entry, findings),
                    _ => trigger.wait = findings.flag(entry).unwrap_or_default(),
                }
            }
        }
        Shape::Scalar { truth: None, .. } => trigger.repo = super::code::url(entry, findings),
        other => {
            let message = format!("\"trigger\" is a repository or a map, and here stands {}", shown(other));
            findings.error(entry.place(), message, HELP);
        }
    }
    Some(trigger)
}
