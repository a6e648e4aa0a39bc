//! What a stage asks of the machine: resources and labels.

use protocol::LabelSet;
use protocol::plan::Resources;

use super::findings::{Findings, Keys, shown};
use super::values::{bytes, cores};
use crate::manifest::keys::RESOURCES;
use crate::manifest::node::{Entry, Shape};
use crate::manifest::source::{Spanned, quoted};

/// What `resources` says.
pub(super) fn resources(entry: &Entry, findings: &mut Findings<'_>) -> Option<Resources> {
    let keys = Keys::of("resources", &RESOURCES);
    let mut resources = Resources::default();
    for entry in findings.entries(entry, &keys, "resources: {cpu: 2, memory: 4g}") {
        match entry.key.value.as_str() {
            "cpu" => resources.cpu_milli = amount(entry, cores, "write `cpu: 2`, `cpu: 0.5` or `cpu: 500m`", findings),
            "memory" => resources.memory_bytes = size(entry, findings),
            "pids" => resources.pids = findings.count_of(entry, 1..=4_194_304).map(u64::from),
            _ => resources.shm_bytes = size(entry, findings),
        }
    }
    (!resources.is_empty()).then_some(resources)
}

fn size(entry: &Entry, findings: &mut Findings<'_>) -> Option<u64> {
    let key = &entry.key.value;
    let help = format!("write `{key}: 512m` or `{key}: 2g`: a number with `k`, `m` or `g`");
    amount(entry, bytes, &help, findings)
}

fn amount(entry: &Entry, read: fn(&str) -> Option<u64>, help: &str, findings: &mut Findings<'_>) -> Option<u64> {
    let amount = match &entry.value.value {
        Shape::Scalar { text, .. } => read(text).filter(|amount| *amount > 0),
        _ => None,
    };
    if amount.is_none() {
        let message =
            format!("{} is an amount, and here stands {}", quoted(&entry.key.value), shown(&entry.value.value));
        findings.error(entry.place(), message, help);
    }
    amount
}

/// The labels that `agent` asks for: one, a list, or a map in which `os: linux` is the label `os=linux`.
pub(super) fn labels(entry: &Entry, findings: &mut Findings<'_>) -> Vec<Spanned<String>> {
    const HELP: &str = "write `agent: [gpu, arm64]`, or `agent: {os: linux}` for the label `os=linux`";
    let mut labels = Vec::new();
    if let Shape::Map(entries) = &entry.value.value {
        for entry in entries {
            if let Some(value) = findings.word(entry, HELP) {
                labels.push(Spanned { value: format!("{}={}", entry.key.value, value.value), span: value.span });
            }
        }
    } else {
        labels = findings.texts(entry, "a label in \"agent\"", HELP);
    }
    for label in &labels {
        if !label.value.contains("${") && LabelSet::new([label.value.as_str()]).is_err() {
            findings.error(
                label.span,
                format!("{} is not a label of agents", quoted(&label.value)),
                "write 1 to 63 letters, digits, `-`, `_` or `=`",
            );
        }
    }
    labels
}
