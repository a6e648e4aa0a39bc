//! `when`: the conditions under which a stage or a pipeline runs.

use protocol::job::TriggerKind;
use protocol::plan::RunOn;

use super::findings::{Findings, Keys, did_you_mean};
use crate::manifest::keys::{PIPELINE_WHEN, WHEN};
use crate::manifest::language::{Condition, Globs, When};
use crate::manifest::node::{Entry, Node, Shape};
use crate::manifest::source::{Span, Spanned, quoted};
use crate::manifest::words;

const EXAMPLE: &str = "when: {branch: main, event: push}";

/// Every event there is.
const EVENTS: [TriggerKind; 8] = [
    TriggerKind::Push,
    TriggerKind::Tag,
    TriggerKind::PullRequest,
    TriggerKind::Schedule,
    TriggerKind::Manual,
    TriggerKind::Upstream,
    TriggerKind::Injected,
    TriggerKind::Local,
];

/// Words of other systems that would pass for a branch, and what to write for them.
const NO_BRANCH: [(&str, &str); 7] = [
    ("always", "write `when: {status: always}` for a stage that runs after a failure too, or leave `when` out"),
    ("never", "begin the stage's name with `.`, or take it out of `stages`"),
    ("manual", "write `manual: true` for a stage that a person lets begin, or `when: {event: manual}`"),
    ("on_success", "leave `when` out: a stage runs when all before it passed"),
    ("on_failure", "write `when: {status: failure}`"),
    ("success", "leave `when` out: a stage runs when all before it passed"),
    ("failure", "write `when: {status: failure}`"),
];

/// For whom a condition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Pipeline,
    Stage,
    Finally,
}

/// What `when` says: a branch, a map of which all must hold, or a list of which one must.
pub(super) fn read(entry: &Entry, of: Of, findings: &mut Findings<'_>) -> Option<When> {
    let before = findings.count();
    let mut any = Vec::new();
    match &entry.value.value {
        Shape::List(elements) => {
            // Branches of one list are one condition: `!glob` takes out of all of them.
            let (maps, rest): (Vec<&Node>, Vec<&Node>) =
                elements.iter().partition(|element| matches!(element.value, Shape::Map(_)));
            if let Some(first) = rest.first() {
                let globs = rest.iter().fold(Globs::default(), |mut globs, element| {
                    let more = branch(element, entry.place(), findings);
                    globs.include.extend(more.include);
                    globs.exclude.extend(more.exclude);
                    globs
                });
                any.push(Condition { branch: Some(globs), ..nothing(first.place_or(entry.key.span)) });
            }
            any.extend(maps.iter().map(|map| condition(map, entry.key.span, of, findings)));
            if elements.is_empty() {
                findings.error(
                    entry.place(),
                    "this \"when\" lists no condition, so nothing would ever run",
                    format!("write `{EXAMPLE}`, or leave it out"),
                );
            }
        }
        Shape::Map(_) => any.push(condition(&entry.value, entry.key.span, of, findings)),
        Shape::Null | Shape::Scalar { .. } => {
            let globs = branch(&entry.value, entry.place(), findings);
            any.push(Condition { branch: Some(globs), ..nothing(entry.place()) });
        }
    }
    (findings.count() == before).then_some(When { any })
}

/// A condition that nothing is asked of yet.
fn nothing(span: Span) -> Condition {
    Condition {
        span,
        branch: None,
        tag: None,
        event: None,
        path: None,
        reference: None,
        status: None,
        platform: None,
        matrix: Vec::new(),
        expression: None,
    }
}

/// Text in the place of a condition is a branch.
fn branch(node: &Node, place: Span, findings: &mut Findings<'_>) -> Globs {
    let place = node.place_or(place);
    if let Shape::Scalar { text, .. } = &node.value {
        if let Some((_, help)) = NO_BRANCH.iter().find(|(word, _)| word == text) {
            findings.error(place, format!("text in \"when\" is a branch, and {} is none", quoted(text)), *help);
            return Globs::default();
        }
        if EVENTS.iter().any(|event| event.name() == text) {
            let message = format!("text in \"when\" is a branch, and {} is an event", quoted(text));
            let help = format!("write `when: {{event: {text}}}`; for a branch of this name `when: {{branch: {text}}}`");
            findings.error(place, message, help);
            return Globs::default();
        }
    }
    findings.globs(node, place, "a branch in \"when\"", "write `when: main`, or a map such as `when: {event: push}`")
}

fn condition(node: &Node, place: Span, of: Of, findings: &mut Findings<'_>) -> Condition {
    let place = node.place_or(place);
    let mut read = nothing(place);
    let map = if of == Of::Pipeline { &PIPELINE_WHEN } else { &WHEN };
    let entries = findings.map(node, place, &Keys::of("when", map), EXAMPLE);
    if matches!(&node.value, Shape::Map(entries) if entries.is_empty()) {
        findings.error(place, "this condition says nothing", format!("write `{EXAMPLE}`, or leave it out"));
    }
    for entry in entries {
        let key = entry.key.value.as_str();
        match key {
            "branch" => read.branch = Some(globs(entry, "a branch", findings)),
            "tag" => read.tag = Some(globs(entry, "a tag", findings)),
            "path" => read.path = Some(globs(entry, "a path", findings)),
            "ref" => read.reference = Some(globs(entry, "a ref", findings)),
            "event" => read.event = Some(events(entry, findings)),
            "if" => {
                let help = "write an expression such as `if: branch.startsWith(\"release/\")`";
                read.expression = findings.word(entry, help);
            }
            "status" => read.status = status(entry, of, findings),
            "platform" => read.platform = Some(globs(entry, "a platform", findings)),
            _ => read.matrix = axes(entry, findings),
        }
    }
    read
}

fn globs(entry: &Entry, what: &str, findings: &mut Findings<'_>) -> Globs {
    let key = entry.key.value.as_str();
    let help = format!("write `{key}: main` or a list, in which `*` stands for any text and `!` takes out");
    let help = match key {
        "tag" => help.replace("main", "v*"),
        "path" => help.replace("main", "docs/**"),
        "ref" => help.replace("main", "refs/heads/*"),
        "platform" => help.replace("main", "linux/arm64"),
        _ => help,
    };
    findings.globs(&entry.value, entry.place(), &format!("{what} in \"when\""), &help)
}

fn events(entry: &Entry, findings: &mut Findings<'_>) -> Vec<Spanned<TriggerKind>> {
    let names = EVENTS.map(TriggerKind::name);
    let help = format!("write one of {}, or a list of them", words::listed(&names));
    let mut events = Vec::new();
    for text in findings.texts(entry, "an event", &help) {
        if let Some(event) = EVENTS.into_iter().find(|event| event.name() == text.value) {
            events.push(Spanned { value: event, span: text.span });
        } else {
            let guess = match text.value.as_str() {
                "cron" => Some("schedule"),
                "merge_request" | "pull_requests" | "merge_request_event" | "pr" => Some("pull_request"),
                "web" | "api" | "workflow_dispatch" => Some("manual"),
                other => findings.guess(other, names),
            };
            let message = format!("there is no event {}{}", quoted(&text.value), did_you_mean(guess));
            findings.error(text.span, message, &help);
        }
    }
    events
}

/// `success`, `failure`, both, or `always`. Of `finally` also `cancelled`, which goes with `failure`.
fn status(entry: &Entry, of: Of, findings: &mut Findings<'_>) -> Option<RunOn> {
    const HELP: &str = "write `status: success`, `status: failure` or `status: always`";
    let (mut success, mut failure, mut cancelled) = (false, false, None);
    for text in findings.texts(entry, "a status", HELP) {
        match text.value.as_str() {
            "success" => success = true,
            "failure" => failure = true,
            "always" => (success, failure) = (true, true),
            "cancelled" | "canceled" => cancelled = Some(text.span),
            other => {
                let guess = match other {
                    "on_success" | "passed" => Some("success"),
                    "on_failure" | "failed" => Some("failure"),
                    other => findings.guess(other, ["success", "failure", "always"]),
                };
                let message = format!("there is no status {}{}", quoted(other), did_you_mean(guess));
                findings.error(text.span, message, HELP);
                return None;
            }
        }
    }
    match cancelled {
        Some(span) if of != Of::Finally => findings.error(
            span,
            "no stage runs in a build that was cancelled, `finally` apart",
            "take it out, or write the stage as `finally`",
        ),
        Some(span) if !failure => findings.error(
            span,
            "a cancelled build is told apart from a passed one, and not from a failed one",
            "write `status: [failure, cancelled]`",
        ),
        _ => {}
    }
    match (success, failure) {
        (true, true) => Some(RunOn::Always),
        (false, true) => Some(RunOn::Failed),
        (true, false) => Some(RunOn::Passed),
        (false, false) => None,
    }
}

/// Axes of a matrix, each with globs over its values.
fn axes(entry: &Entry, findings: &mut Findings<'_>) -> Vec<(Spanned<String>, Globs)> {
    const HELP: &str = "write `matrix: {rust: stable}`: an axis, and globs over its values";
    match &entry.value.value {
        Shape::Map(entries) if !entries.is_empty() => {
            let axis = |entry: &Entry, findings: &mut Findings<'_>| {
                let what = format!("a value of {}", quoted(&entry.key.value));
                (entry.key.clone(), findings.globs(&entry.value, entry.place(), &what, HELP))
            };
            entries.iter().map(|entry| axis(entry, findings)).collect()
        }
        _ => {
            findings.error(entry.place(), "\"matrix\" of a condition is a map of axes and their values", HELP);
            Vec::new()
        }
    }
}
