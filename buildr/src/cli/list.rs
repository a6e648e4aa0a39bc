//! `buildr list`: the stages of the folder's manifest, and which of them would run now.

use protocol::PlannedJob;
use protocol::plan::{RunOn, SkippedStage};
use serde::Serialize;

use super::globals::Globals;
use super::look::{Look, Tone};
use super::planning::PlanArgs;
use super::table::{cell, table};
use super::{CliError, exit, say};
use crate::plan::Planned;

/// List the stages of the folder's manifest, and whether they would run
///
/// A stage in a matrix is listed once per cell. What does not run has its reason.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which plan.
    #[command(flatten)]
    plan: PlanArgs,
    /// Print JSON: an array with an object per stage and cell
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let planned = args.plan.plan().await?;
    let rows = rows(&planned);
    if args.json {
        say(&super::json(&rows))?;
    } else {
        say(&shown(&rows, &Look::of_stdout(globals.color())))?;
    }
    Ok(exit::DONE)
}

/// A stage in one cell.
#[derive(Debug, Serialize)]
struct Row {
    stage: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline: Option<String>,
    /// The job that it is in; none when it is in no job.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    /// What its agent must have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<String>,
    runs: bool,
    /// Under what condition it runs, or why it does not.
    #[serde(skip_serializing_if = "String::is_empty")]
    why: String,
}

fn rows(planned: &Planned) -> Vec<Row> {
    let skipped = planned.build.skipped.iter().map(passed_over);
    planned.jobs.iter().flat_map(of_job).chain(skipped).collect()
}

fn of_job(job: &PlannedJob) -> Vec<Row> {
    let row = |stage: String, image: Option<String>, runs: bool, why: String| Row {
        stage,
        pipeline: job.plan.pipeline.clone(),
        job: Some(job.key.to_string()),
        image,
        labels: job.labels.iter().map(ToOwned::to_owned).collect(),
        runs,
        why,
    };
    if let Some(downstream) = &job.downstream {
        let repo = downstream.repo.as_ref().map_or("this repository".to_owned(), ToString::to_string);
        let waits = if downstream.wait { ", and waits for it" } else { "" };
        return vec![row(job.key.to_string(), None, true, format!("begins a build of {repo}{waits}"))];
    }
    let stages = job.plan.stages.iter().map(|stage| {
        let image = stage.image.as_ref().unwrap_or(&job.plan.image).name.clone();
        let why = match (&stage.skip, &job.gate, stage.run_on) {
            (Some(reason), _, _) => reason.clone(),
            (None, Some(_), _) => "when somebody lets it".to_owned(),
            (None, None, RunOn::Failed) => "after a failure".to_owned(),
            (None, None, RunOn::Always) if job.finally => "when all else is over".to_owned(),
            (None, None, RunOn::Always) => "after a failure too".to_owned(),
            (None, None, RunOn::Passed) => String::new(),
        };
        row(stage.name.to_string(), Some(image), stage.skip.is_none(), why)
    });
    stages.collect()
}

fn passed_over(skipped: &SkippedStage) -> Row {
    Row {
        stage: skipped.stage.to_string(),
        pipeline: skipped.pipeline.clone(),
        job: None,
        image: None,
        labels: Vec::new(),
        runs: false,
        why: skipped.reason.clone(),
    }
}

fn shown(rows: &[Row], look: &Look) -> String {
    if rows.is_empty() {
        return "there is no stage in this plan\n".to_owned();
    }
    let lines = rows.iter().map(|row| {
        let stage = match &row.pipeline {
            Some(pipeline) => format!("{pipeline}/{}", row.stage),
            None => row.stage.clone(),
        };
        let (tone, runs) = if row.runs { (Tone::Good, "yes") } else { (Tone::Faint, "no") };
        let job = row.job.as_deref().unwrap_or("-");
        let job = if row.labels.is_empty() { job.to_owned() } else { format!("{job} @{}", row.labels.join("+")) };
        [
            cell(Tone::Plain, &stage),
            cell(Tone::Plain, &job),
            cell(Tone::Faint, row.image.as_deref().unwrap_or("-")),
            cell(tone, runs),
            cell(Tone::Plain, &row.why),
        ]
    });
    table(["STAGE", "JOB", "IMAGE", "RUNS", "WHY"], lines, look)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Facts, compile_one};
    use insta::assert_snapshot;
    use protocol::job::TriggerKind;

    #[test]
    fn stages_with_their_verdicts() {
        let text = "\
stages: [build, [unit, docs], deploy, site]
image: debian
build: {script: x}
unit: {script: x, image: 'rust:${matrix.v}', matrix: {v: ['1', '2']}, agent: gpu}
docs: {script: x, when: {branch: other}}
deploy: {script: x, manual: true}
site: {trigger: {repo: 'https://e.org/site.git', wait: true}}
finally: {script: x}
";
        let manifest = crate::manifest::read(text.as_bytes(), ".buildr.yml").unwrap().manifest;
        let facts = Facts::of_branch(TriggerKind::Local, "main".parse().unwrap());
        let rows = rows(&compile_one(&manifest, &facts).unwrap());
        assert_snapshot!(shown(&rows, &Look::plain(None)), @"
        STAGE    JOB              IMAGE   RUNS  WHY
        build    build            debian  yes
        unit     unit (v=1) @gpu  rust:1  yes
        unit     unit (v=2) @gpu  rust:2  yes
        deploy   deploy           debian  yes   when somebody lets it
        site     site             -       yes   begins a build of https://e.org/site.git, and waits for it
        finally  finally          debian  yes   when all else is over
        docs     -                -       no    when: branch other, and this is main
        ");
        let json = serde_json::to_value(&rows).unwrap();
        assert_eq!(
            json[1],
            serde_json::json!({"stage": "unit", "job": "unit (v=1)", "image": "rust:1", "labels": ["gpu"], "runs": true})
        );
    }
}
