//! What a stage's failure means: `allow_failure` and `retry`.

use protocol::plan::{AllowFailure, Retry, RetryCause};

use super::findings::{Findings, Keys, did_you_mean, shown};
use crate::manifest::keys::{ALLOW_FAILURE, RETRY};
use crate::manifest::language::RetrySaid;
use crate::manifest::node::{Entry, Shape};
use crate::manifest::source::{Spanned, quoted};

/// The most tries that can be asked for besides the first.
const MAX_RETRIES: i64 = 10;

/// What `allow_failure` says: a flag, exit codes, or a map with these.
pub(super) fn allowed(entry: &Entry, findings: &mut Findings<'_>) -> Option<AllowFailure> {
    match &entry.value.value {
        Shape::Scalar { truth: Some(true), .. } => Some(AllowFailure::Any),
        Shape::Scalar { truth: Some(false), .. } => Some(AllowFailure::None),
        Shape::Map(_) => {
            let keys = Keys::of("allow_failure", &ALLOW_FAILURE);
            let codes = findings.entries(entry, &keys, "allow_failure: {codes: [101]}");
            codes.first().and_then(|entry| codes_of(entry, findings))
        }
        _ => codes_of(entry, findings),
    }
}

fn codes_of(entry: &Entry, findings: &mut Findings<'_>) -> Option<AllowFailure> {
    const HELP: &str = "write `allow_failure: true`, or exit codes from 1 to 255 such as `allow_failure: [101, 137]`";
    let texts = findings.texts(entry, "an exit code", HELP);
    let codes: Vec<i64> = texts.iter().filter_map(|text| code(text, HELP, findings)).collect();
    if codes.is_empty() && matches!(&entry.value.value, Shape::List(elements) if elements.is_empty()) {
        findings.error(entry.place(), "no exit code is listed here", HELP);
    }
    (!codes.is_empty()).then_some(AllowFailure::Codes(codes))
}

fn code(text: &Spanned<String>, help: &str, findings: &mut Findings<'_>) -> Option<i64> {
    let code = text.value.parse().ok().filter(|code| (1..=255).contains(code));
    if code.is_none() {
        findings.error(text.span, format!("{} is not the exit code of a failure", quoted(&text.value)), help);
    }
    code
}

/// What `retry` says: `never`, a number, or a map.
pub(super) fn retry(entry: &Entry, findings: &mut Findings<'_>) -> Option<RetrySaid> {
    const HELP: &str = "write `retry: 2`, `retry: {max: 2, on: [infra, 137], delay: 10s}`, or `retry: never` for a stage \
                        that must not run twice";
    match &entry.value.value {
        Shape::Scalar { text, .. } if text == "never" => Some(RetrySaid::Never),
        Shape::Scalar { text, .. } if text.parse().is_ok_and(|max: i64| (0..=MAX_RETRIES).contains(&max)) => {
            let max = text.parse().unwrap_or_default();
            Some(RetrySaid::Times(Retry { max, on: Vec::new(), delay_ms: 0 }))
        }
        Shape::Map(_) => {
            let mut retry = Retry { max: 1, on: Vec::new(), delay_ms: 0 };
            for entry in findings.entries(entry, &Keys::of("retry", &RETRY), "retry: {max: 2, on: [infra]}") {
                match entry.key.value.as_str() {
                    "max" => retry.max = findings.count_of(entry, 0..=10).unwrap_or_default(),
                    "on" => retry.on = causes(entry, findings),
                    _ => retry.delay_ms = findings.duration(entry).unwrap_or_default(),
                }
            }
            Some(RetrySaid::Times(retry))
        }
        other => {
            let message = format!(
                "\"retry\" is `never`, a number from 0 to {MAX_RETRIES} or a map, and here stands {}",
                shown(other)
            );
            findings.error(entry.place(), message, HELP);
            None
        }
    }
}

fn causes(entry: &Entry, findings: &mut Findings<'_>) -> Vec<RetryCause> {
    const CAUSES: [(&str, RetryCause); 4] = [
        ("failed", RetryCause::Failed),
        ("infra", RetryCause::Infra),
        ("timeout", RetryCause::Timeout),
        ("out_of_memory", RetryCause::OutOfMemory),
    ];
    const HELP: &str =
        "write `failed`, `infra`, `timeout`, `out_of_memory` or an exit code, such as `on: [infra, 137]`";
    let mut causes = Vec::new();
    for text in findings.texts(entry, "a cause in \"on\"", HELP) {
        if let Some((_, cause)) = CAUSES.iter().find(|(word, _)| *word == text.value) {
            causes.push(*cause);
        } else if text.value.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            causes.extend(code(&text, HELP, findings).map(RetryCause::Code));
        } else {
            let guess = match text.value.as_str() {
                "failure" | "script_failure" => Some("failed"),
                "oom" => Some("out_of_memory"),
                "runner_system_failure" | "agent_lost" => Some("infra"),
                other => findings.guess(other, CAUSES.map(|(word, _)| word)),
            };
            let message = format!("{} is no cause to try again{}", quoted(&text.value), did_you_mean(guess));
            findings.error(text.span, message, HELP);
        }
    }
    causes
}
