//! What manifests mean, rule by rule.

mod conditions;
mod first;
mod jobs;
mod manual;
mod matrices;
mod properties;
mod values;

use std::fmt::Write as _;

use protocol::job::TriggerKind;
use protocol::plan::{PlannedJob, RunOn};

use super::*;

/// A push to `main`, of which nobody knows what it changed.
fn push() -> Facts {
    Facts { commit: Some("0123456789012345678901234567890123456789".parse().unwrap()), ..on("main") }
}

fn on(branch: &str) -> Facts {
    Facts::of_branch(TriggerKind::Push, branch.parse().unwrap())
}

fn tag(tag: &str) -> Facts {
    Facts { tag: Some(tag.to_owned()), ..Facts::new(TriggerKind::Tag) }
}

fn read(text: &str) -> Manifest {
    crate::manifest::read(text.as_bytes(), ".buildr.yml").unwrap_or_else(|error| panic!("{error}\n{text}")).manifest
}

fn planned(text: &str, facts: &Facts) -> Planned {
    compile_one(&read(text), facts).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn refused(text: &str, facts: &Facts) -> String {
    match compile_one(&read(text), facts) {
        Ok(planned) => panic!("it is planned:\n{}", drawn(&planned)),
        Err(error) => error.to_string(),
    }
}

fn warnings(text: &str) -> String {
    let warnings: Vec<String> = planned(text, &push()).warnings.iter().map(ToString::to_string).collect();
    warnings.join("\n")
}

/// Jobs and their stages, a line each.
fn drawn(planned: &Planned) -> String {
    let mut text = String::new();
    for job in &planned.jobs {
        writeln!(text, "{}", job_line(job)).unwrap();
    }
    for skipped in &planned.build.skipped {
        writeln!(text, "- {}: {}", skipped.stage, skipped.reason).unwrap();
    }
    text
}

fn job_line(job: &PlannedJob) -> String {
    let mut line = job.key.to_string();
    if !job.needs.is_empty() {
        let needs: Vec<&str> = job.needs.iter().map(protocol::JobKey::as_str).collect();
        write!(line, " <- {}", needs.join(", ")).unwrap();
    }
    if !job.labels.is_empty() {
        write!(line, " @{}", job.labels).unwrap();
    }
    line += on_what(job.run_on);
    if job.finally {
        line += " finally";
    }
    let stages: Vec<String> = job.plan.stages.iter().map(stage_text).collect();
    // The usual case, in which the key says it all.
    if stages != [job.key.to_string()] {
        write!(line, ": {}", stages.join(" ")).unwrap();
    }
    line
}

fn stage_text(stage: &protocol::StagePlan) -> String {
    let mut text = stage.name.to_string();
    if let Some(needs) = &stage.needs {
        let needs: Vec<String> = needs.iter().map(ToString::to_string).collect();
        write!(text, "[{}]", needs.join(" ")).unwrap();
    }
    text += on_what(stage.run_on);
    if let Some(reason) = &stage.skip {
        write!(text, "({reason})").unwrap();
    }
    text
}

fn on_what(run_on: RunOn) -> &'static str {
    match run_on {
        RunOn::Passed => "",
        RunOn::Failed => " on-failure",
        RunOn::Always => " always",
    }
}

/// `stages` and what some of them say; the others have only a script.
fn with_stages(stages: &str, says: &str) -> String {
    let mut text = format!("stages: {stages}\n{says}\n");
    for name in stages.split(|c: char| !c.is_alphanumeric()).filter(|name| !name.is_empty()) {
        if !says.lines().any(|line| line.starts_with(&format!("{name}:"))) {
            writeln!(text, "{name}: {{script: x}}").unwrap();
        }
    }
    text
}

/// Draws `stages` with what some of them say, in a push to main.
#[track_caller]
fn check(stages: &str, says: &str, expect: &str) {
    let got = drawn(&planned(&with_stages(stages, says), &push()));
    assert_eq!(got.trim_end(), expect.trim(), "{stages}\n{says}\ngot:\n{got}");
}
