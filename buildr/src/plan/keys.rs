//! The names of jobs within their build, and what their agents must have.

use std::collections::HashSet;

use protocol::plan::{Cell, Image};
use protocol::{JobKey, LabelSet, PlannedJob};

use super::findings::Findings;
use super::scope::shown;
use crate::manifest::{Span, quoted};

/// The key of a build's only job.
pub(super) const ONLY_JOB: &str = "build";

/// Makes keys, each once.
#[derive(Default)]
pub(super) struct Keys(HashSet<String>);

impl Keys {
    /// The key of a job: its stages' name, its cell, its shard.
    pub(super) fn key(&mut self, name: &str, cell: &[Cell], shard: Option<(u32, u32)>) -> JobKey {
        let mut text = name.to_owned();
        if !cell.is_empty() {
            text += &format!(" ({})", shown(cell));
        }
        if let Some((shard, shards)) = shard {
            text += &format!(" {shard}/{shards}");
        }
        let text = fitting(&text);
        let mut key = text.clone();
        let mut number = 1_u32;
        while !self.0.insert(key.clone()) {
            number += 1;
            key = format!("{text} #{number}");
        }
        key.parse().expect("a key that was made to fit is a job's key")
    }
}

/// The text without controls, and with room for a number. What is too long is cut, with a number made of the whole in
/// its place.
fn fitting(text: &str) -> String {
    const LONGEST: usize = 180;
    let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.len() <= LONGEST {
        return text;
    }
    // FNV-1a: the same number each time, on each machine.
    let number = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{}… {number:016x}", &text[..text.floor_char_boundary(LONGEST - 24)])
}

/// The label by which an agent offers a platform.
fn of_platform(platform: &str) -> String {
    format!("platform={}", platform.replace('/', "-"))
}

/// The image of a job that asks for agents of another platform, by which that platform can be tried out.
#[must_use]
pub fn foreign_image(job: &PlannedJob) -> Option<&Image> {
    let of_stages = job.plan.stages.iter().filter_map(|stage| stage.image.as_ref());
    let (own, of_stages): (&Image, Vec<&Image>) = (&job.plan.image, of_stages.collect());
    let is_used = job.plan.prepare.is_some() || of_stages.len() < job.plan.stages.len();
    let images = is_used.then_some(own).into_iter().chain(of_stages);
    images.into_iter().find(|image| {
        image.platform.as_ref().is_some_and(|platform| job.labels.iter().any(|label| label == of_platform(platform)))
    })
}

/// What a job asks of its agent besides the platform of this image.
#[must_use]
pub fn other_labels(job: &PlannedJob, image: &Image) -> String {
    let platform = image.platform.as_deref().map(of_platform);
    job.labels.iter().filter(|label| Some(*label) != platform.as_deref()).collect::<Vec<_>>().join("+")
}

/// What a job's agent must have: labels, each with its place, and another than the usual platform.
pub(super) fn labels(
    asked: Vec<(String, Span)>,
    platform: Option<(&str, Span)>,
    usual: &str,
    findings: &mut Findings<'_>,
) -> LabelSet {
    let platform = platform.filter(|(platform, _)| !platform.is_empty() && *platform != usual);
    let platform = platform.map(|(platform, span)| (of_platform(platform), span));
    let mut labels = Vec::new();
    for (label, span) in asked.into_iter().chain(platform) {
        match LabelSet::new([label.as_str()]) {
            Ok(_) => labels.push(label),
            // What is empty was told already.
            Err(_) if label.is_empty() => {}
            Err(_) => findings.problem(
                span,
                format!("{} is not a label that an agent can have", quoted(&label)),
                "write 1 to 63 letters, digits, `-`, `_` or `=`, such as `gpu` or `os=linux`",
            ),
        }
    }
    LabelSet::new(labels).unwrap_or_default()
}
