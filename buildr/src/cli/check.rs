//! `buildr check`: all that is wrong with a manifest, and what is allowed and not good, without running anything.

use std::path::{Path, PathBuf};

use protocol::job::TriggerKind;
use serde::Serialize;

use super::globals::Globals;
use super::look::{Look, Tone, clean};
use super::planning::guess_inputs;
use super::{CliError, elsewhere, exit, json, say};
use crate::manifest::{self, Includes, ManifestError, Problem, Project, ProjectReading};
use crate::plan::{self, Facts, PlanError};
use crate::runner::sentence;

/// Say all that is wrong with the manifest, without running it
///
/// It ends with 0 when nothing is wrong, and with 2 when something is.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder with the .buildr.yml, or a manifest's file
    #[arg(default_value = ".", value_name = "PATH")]
    path: PathBuf,

    /// Print JSON, for editors and other programs
    #[arg(long)]
    json: bool,

    /// Take warnings for errors
    #[arg(long)]
    strict: bool,
}

/// All that is found.
#[derive(Debug, Default)]
struct Found {
    errors: Vec<Problem>,
    /// How many errors there are besides.
    more: usize,
    warnings: Vec<Problem>,
    /// What is wrong with the whole, and at no place in it.
    none: Option<String>,
    /// How many stages of how many pipelines there are when nothing is wrong.
    stages: usize,
    pipelines: usize,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let found = find(&args.path, &elsewhere::repositories(false)?);
    let wrong = !found.errors.is_empty() || found.none.is_some() || args.strict && !found.warnings.is_empty();
    if args.json {
        say(&json(&as_json(&found, args.strict)))?;
    } else {
        say(&shown(&found, args.strict, &Look::of_stdout(globals.color())))?;
    }
    Ok(if wrong { exit::USAGE } else { exit::DONE })
}

/// Looks at a folder's manifests, or at one file.
fn find(path: &Path, elsewhere: &dyn Includes) -> Found {
    let reading =
        if path.is_file() { manifest::load_file(path, elsewhere) } else { manifest::load_project(path, elsewhere) };
    match reading {
        Ok(ProjectReading { project, mut warnings }) => {
            warnings.extend(project.pipelines.iter().flat_map(|pipeline| manifest::habits(&pipeline.manifest)));
            let (pipelines, stages) = size(&project);
            let mut found = Found { warnings, stages, pipelines, ..Found::default() };
            plan(&project, &mut found);
            found.warnings.sort();
            found.warnings.dedup();
            found
        }
        Err(ManifestError::Faulty { problems, more }) => Found { errors: problems, more, ..Found::default() },
        Err(other) => Found { none: Some(sentence(&other)), ..Found::default() },
    }
}

/// Plans the builds that usually come of a project. What is wrong in each of them is an error, what is wrong in some
/// is a warning: an image named by the tag may well be meant for tags alone.
fn plan(project: &Project, found: &mut Found) {
    let usual = usual();
    let mut wrong: Vec<(Problem, usize)> = Vec::new();
    for facts in &usual {
        let mut facts = facts.clone();
        guess_inputs(project, &mut facts);
        match plan::compile_project(project, &facts) {
            Ok(planned) => found.warnings.extend(planned.warnings),
            Err(PlanError::Manifest(ManifestError::Faulty { problems, .. })) => {
                for problem in problems {
                    match wrong.iter_mut().find(|(before, _)| *before == problem) {
                        Some((_, times)) => *times += 1,
                        None => wrong.push((problem, 1)),
                    }
                }
            }
            Err(other) => found.none = Some(sentence(&other)),
        }
    }
    wrong.sort();
    let (errors, warnings): (Vec<_>, Vec<_>) = wrong.into_iter().partition(|(_, times)| *times == usual.len());
    found.errors.extend(errors.into_iter().map(|(problem, _)| problem));
    found.warnings.extend(warnings.into_iter().map(|(problem, _)| problem));
}

/// A push, a pull request, a tag.
fn usual() -> [Facts; 3] {
    let branch = |name: &str| name.parse().ok();
    let push = Facts { branch: branch("main"), default_branch: branch("main"), ..Facts::new(TriggerKind::Push) };
    let request = Facts {
        branch: branch("change"),
        target: branch("main"),
        default_branch: branch("main"),
        pull_request: Some(1),
        ..Facts::new(TriggerKind::PullRequest)
    };
    let tag = Facts { tag: Some("v1".to_owned()), default_branch: branch("main"), ..Facts::new(TriggerKind::Tag) };
    [push, request, tag]
}

fn size(project: &Project) -> (usize, usize) {
    let stages = project.pipelines.iter().map(|pipeline| pipeline.manifest.stage_count()).sum();
    (project.pipelines.len(), stages)
}

fn shown(found: &Found, strict: bool, look: &Look) -> String {
    let warning = if strict { ("error", Tone::Bad) } else { ("warning", Tone::Odd) };
    let errors = found.errors.iter().map(|problem| (("error", Tone::Bad), problem.to_string()));
    let warnings = found.warnings.iter().map(|problem| (warning, problem.to_string()));
    let none = found.none.iter().map(|text| (("error", Tone::Bad), text.clone()));
    let mut text = String::new();
    for ((word, tone), told) in none.chain(errors).chain(warnings) {
        let lines: Vec<_> = told.lines().map(clean_line).collect();
        text += &format!("{} {}\n\n", look.paint(tone, &format!("{word}:")), lines.join("\n"));
    }
    text + &summary(found) + "\n"
}

/// A line of a diagnostic: its blanks draw the place.
fn clean_line(line: &str) -> String {
    let blanks = line.len() - line.trim_start_matches(' ').len();
    format!("{}{}", &line[..blanks], clean(&line[blanks..]))
}

fn summary(found: &Found) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let errors = found.errors.len() + found.more + usize::from(found.none.is_some());
    let warnings = found.warnings.len();
    let looked_at = match found.pipelines {
        1 => count(found.stages, "stage"),
        several => format!("{} of {}", count(found.stages, "stage"), count(several, "pipeline")),
    };
    match (errors, warnings) {
        _ if found.none.is_some() && found.stages == 0 => "nothing to look at".to_owned(),
        (0, 0) => format!("nothing is wrong: {looked_at}"),
        (0, _) => format!("{}: {looked_at}", count(warnings, "warning")),
        (_, 0) => count(errors, "error"),
        _ => format!("{} and {}", count(errors, "error"), count(warnings, "warning")),
    }
}

/// What programs read.
#[derive(Debug, Serialize)]
struct Told<'f> {
    /// Whether nothing is wrong.
    ok: bool,
    problems: Vec<ToldProblem<'f>>,
    /// How many more there are of the kind.
    more: usize,
}

#[derive(Debug, Serialize)]
struct ToldProblem<'f> {
    severity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'f str>,
    /// From 1; 0 where it is no place in a file.
    line: usize,
    column: usize,
    message: &'f str,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'f str>,
}

fn as_json(found: &Found, strict: bool) -> Told<'_> {
    let none = found.none.iter().map(|message| ToldProblem {
        severity: "error",
        file: None,
        line: 0,
        column: 0,
        message,
        help: None,
    });
    let errors = found.errors.iter().map(|problem| placed("error", problem));
    let severity = if strict { "error" } else { "warning" };
    let warnings = found.warnings.iter().map(|problem| placed(severity, problem));
    let problems: Vec<ToldProblem<'_>> = none.chain(errors).chain(warnings).collect();
    Told { ok: problems.iter().all(|problem| problem.severity == "warning"), problems, more: found.more }
}

fn placed<'f>(severity: &'static str, problem: &'f Problem) -> ToldProblem<'f> {
    let (line, column) = problem.place();
    let (message, help) = (problem.message(), Some(problem.help()));
    ToldProblem { severity, file: Some(problem.file()), line, column, message, help }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::NoIncludes;
    use insta::assert_snapshot;

    /// What is found in a folder with this manifest.
    fn found(text: &str) -> Found {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".buildr.yml"), text).unwrap();
        find(folder.path(), &NoIncludes)
    }

    fn told(text: &str, strict: bool) -> String {
        shown(&found(text), strict, &Look::plain(None))
    }

    #[test]
    fn a_manifest_in_which_nothing_is_wrong() {
        assert_eq!(told("image: a:1\nb: {script: make}", true), "nothing is wrong: 1 stage\n");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("other.yml");
        std::fs::write(&file, "image: a:1\nb: {script: make}\nc: {script: make}").unwrap();
        assert_eq!(shown(&find(&file, &NoIncludes), true, &Look::plain(None)), "nothing is wrong: 2 stages\n");
        assert!(
            shown(&find(folder.path(), &NoIncludes), false, &Look::plain(None))
                .starts_with("error: there is no manifest")
        );
    }

    #[test]
    fn errors_and_warnings() {
        assert_snapshot!(told("image: a:1\nb: {script: make, needs: [c]}\nx: 1", false));
        assert_snapshot!(told("image: debian\nb: {script: apt-get install make}", false));
        assert!(told("image: debian\nb: {script: make}", true).starts_with("error: .buildr.yml:1:8: "));
    }

    #[test]
    fn what_only_the_plan_sees() {
        // A circle is one in each build, an image without a tag in some.
        assert_snapshot!(told("image: a:1\na: {script: x, needs: [b]}\nb: {script: x, needs: [a]}", false));
        assert_snapshot!(told("image: \"a:${tag}\"\nb: {script: x}", false));
        // A border between jobs that no file crosses.
        assert_snapshot!(told("image: a:1\nbuild: {script: make}\ntest: {script: make, platform: linux/arm64}", false));
        let many = "image: a:1\nb: {script: x, matrix: {a: [VALUES], b: [VALUES]}}";
        let values: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        assert_snapshot!(told(&many.replace("VALUES", &values.join(", ")), false));
        assert_eq!(told("image: a:1\ninputs: [WHO]\nb: {script: x}", true), "nothing is wrong: 1 stage\n");
    }

    #[test]
    fn for_programs() {
        assert_snapshot!(json(&as_json(&found("image: debian\nb: {script: make}"), false)));
        assert_snapshot!(json(&as_json(&found("b: {scirpt: make}"), false)));
        assert!(!as_json(&found("image: debian\nb: {script: make}"), true).ok);
    }
}
