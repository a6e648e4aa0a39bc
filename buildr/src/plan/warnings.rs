//! What is allowed and probably not meant.

use super::cell::{File, axes_at};
use super::findings::Findings;
use super::order::{Order, is_job};
use super::{matrix, when};
use crate::manifest::{Matrix, Stage};

/// Looks through a file whose order is known.
pub(super) fn of(file: &File<'_>, order: &Order<'_>, findings: &mut Findings<'_>) {
    let manifest = file.manifest;
    for stage in &manifest.stages {
        let values = |axis: &str| {
            let matrices = [stage.matrix.as_ref(), manifest.matrix.as_ref()];
            let with = matrices.into_iter().flatten().find(|matrix| matrix::axes(matrix).iter().any(|own| own == axis));
            with.map(|matrix| values(matrix, axis)).unwrap_or_default()
        };
        when::check(stage.when.as_ref(), &values, findings);
        if axes_at(file, stage).len() > file.top_axes.len() {
            alone(stage, findings);
        }
    }
    when::check(manifest.when.as_ref(), &|_| Vec::new(), findings);
    borders(file, order, findings);
}

/// All values that an axis ever has.
fn values(matrix: &Matrix, axis: &str) -> Vec<String> {
    let of_axis = matrix.axes.iter().filter(|(name, _)| name.value == axis).flat_map(|(_, values)| values);
    let included = matrix.include.iter().flatten().filter(|(name, _)| name.value == axis).map(|(_, value)| value);
    of_axis.chain(included).map(|value| value.value.clone()).collect()
}

/// A matrix that makes nothing more than the stage alone would be.
fn alone(stage: &Stage, findings: &mut Findings<'_>) {
    let Some(matrix) = &stage.matrix else { return };
    if matrix.axes.iter().all(|(_, values)| values.len() == 1) && matrix.include.is_empty() {
        let message = format!("the matrix of {} has one cell", stage.name.value);
        findings.warn(matrix.span, message, "write the values where they are used, or give an axis more of them");
    }
}

/// A job that comes after others of which none leaves files: whoever wrote it may count on one workspace.
fn borders(file: &File<'_>, order: &Order<'_>, findings: &mut Findings<'_>) {
    let stages = &file.manifest.stages;
    let jobs = order.jobs();
    let leaves = |number: usize| stages[number].artifacts.is_some();
    for job in &jobs {
        let mut before = job.iter().flat_map(|&stage| order.before(stage).iter()).filter(|stage| !job.contains(stage));
        let takes = |&number: &usize| stages[number].trigger.is_none();
        let Some(&first) = job.iter().find(|number| takes(number)) else { continue };
        let mut nearest: Option<usize> = None;
        let any = before.any(|stage| {
            nearest = Some(
                nearest.map_or(stage, |other| if order.all_before(stage).contains(other) { stage } else { other }),
            );
            leaves(stage)
        });
        let Some(last) = nearest.filter(|&last| !any && stages[last].trigger.is_none()) else { continue };
        let (stage, other) = (&stages[first], &stages[last].name.value);
        let name = &stage.name.value;
        let border = if is_job(stage) { name } else { other };
        let message = format!(
            "{name} begins without the files of {other}: {border} is a job of its own, and nothing is handed on"
        );
        let help = format!(
            "write `artifacts: [..]` in {other} if {name} needs what it makes; `needs: []` in {name} if it need not wait"
        );
        findings.warn(stage.name.span, message, help);
    }
}
