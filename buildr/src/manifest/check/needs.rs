//! `needs`, and all else in a stage that names something outside it.

use super::findings::{Findings, did_you_mean};
use super::{matrix, stage};
use crate::manifest::language::{Manifest, Matrix, Need, Stage};
use crate::manifest::node::Entry;
use crate::manifest::source::{Spanned, quoted};

/// What `needs` says: names, of which `name?` may be missing.
pub(super) fn read(entry: &Entry, findings: &mut Findings<'_>) -> Vec<Need> {
    const HELP: &str = "write `needs: [build, docs?]`, or `needs: []` for a stage that waits for nothing";
    let mut needs: Vec<Need> = Vec::new();
    for text in findings.texts(entry, "a stage in \"needs\"", HELP) {
        let (bare, optional) = match text.value.strip_suffix('?') {
            Some(bare) => (bare, true),
            None => (text.value.as_str(), false),
        };
        if needs.iter().any(|need| need.name.value.as_str() == bare) {
            findings.error(text.span, format!("the stage {} stands here twice", quoted(bare)), "write it once");
        } else if bare == "prepare" {
            findings.error(
                text.span,
                "every stage comes after \"prepare\" already",
                "take it out; `needs: []` begins right after it",
            );
        } else if let Some(name) = stage::name(&Spanned { value: bare, span: text.span }, findings) {
            needs.push(Need { name, optional });
        }
    }
    needs
}

/// Tells what is named and is not there. `names` are the stages that run, those with mistakes in them too; `unlisted`
/// those that never do.
pub(super) fn check(manifest: &Manifest, names: &[&str], unlisted: &[&str], findings: &mut Findings<'_>) {
    for stage in manifest.stages.iter().chain(&manifest.finally) {
        for need in stage.needs.iter().flatten() {
            needed(stage, need, names, unlisted, findings);
        }
        let axes: Vec<&str> = [&stage.matrix, &manifest.matrix].into_iter().flatten().flat_map(axes).collect();
        for condition in stage.when.iter().flat_map(|when| &when.any) {
            for (axis, _) in &condition.matrix {
                if !axes.contains(&axis.value.as_str()) {
                    matrix::no_axis(axis, &axes, findings);
                }
            }
        }
    }
}

fn axes(matrix: &Matrix) -> impl Iterator<Item = &str> {
    let included = matrix.include.iter().flatten().map(|(axis, _)| axis.value.as_str());
    matrix.axes.iter().map(|(axis, _)| axis.value.as_str()).chain(included)
}

fn needed(stage: &Stage, need: &Need, names: &[&str], unlisted: &[&str], findings: &mut Findings<'_>) {
    let name = need.name.value.as_str();
    let span = need.name.span;
    if name == stage.name.value.as_str() {
        let message = format!("the stage {} needs itself, so it would never begin", quoted(name));
        findings.error(span, message, "take it out");
    } else if names.contains(&name) {
    } else if unlisted.contains(&name) {
        findings.error(
            span,
            format!("the stage {} never runs, as \"stages\" does not list it, and is needed here", quoted(name)),
            format!("write `{name}` into `stages`, or take it out here"),
        );
    } else if name == "finally" {
        findings.error(span, "\"finally\" runs when all stages are over, so none can need it", "take it out");
    } else {
        let guess = findings.guess(name, names.iter().copied());
        let message = format!("there is no stage {} to be needed{}", quoted(name), did_you_mean(guess));
        let help = match guess {
            Some(guess) => format!("write `{guess}`"),
            None => "write the name of a stage; `name?` is for one that may be left out of a build".to_owned(),
        };
        findings.error(span, message, help);
    }
}
