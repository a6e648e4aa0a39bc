//! The cells of a matrix: axes, less what is excluded, more what is included.
//!
//! Each combination of the axes' values is a cell, unless an entry of `exclude` matches it. An entry of `include`
//! whose axes match cells gives these its other values; one that matches none is a cell of its own. That the entries
//! name what there is was seen when the manifest was read.

use globset::GlobSet;
use protocol::plan::{Cell, MAX_JOBS};

use super::facts::Facts;
use super::findings::Findings;
use super::globs::matcher;
use super::scope::shown;
use crate::manifest::{Matrix, Spanned, quoted};

/// The most combinations that are looked at, before any are excluded.
const MOST_COMBINATIONS: usize = 16 * MAX_JOBS;

type Entry = [(Spanned<String>, Spanned<String>)];

/// All axes of a matrix, those of its `include` last.
pub(super) fn axes(matrix: &Matrix) -> Vec<String> {
    let mut axes: Vec<String> = Vec::new();
    let included = matrix.include.iter().flatten().map(|(axis, _)| axis);
    for axis in matrix.axes.iter().map(|(axis, _)| axis).chain(included) {
        if !axes.contains(&axis.value) {
            axes.push(axis.value.clone());
        }
    }
    axes
}

/// The cells, in the order of the axes, the last of them counting fastest.
pub(super) fn cells(matrix: &Matrix, facts: &Facts, findings: &mut Findings<'_>) -> Vec<Vec<Cell>> {
    let combinations = matrix.axes.iter().fold(1_usize, |all, (_, values)| all.saturating_mul(values.len()));
    if combinations > MOST_COMBINATIONS {
        let message = format!("this matrix has {combinations} cells; a build has at most {MAX_JOBS} jobs");
        findings.problem(matrix.span, message, "take values out of it, or split the work by `parallel`");
        return Vec::new();
    }
    let mut cells = product(matrix);
    let excluded: Vec<Exclusion> = matrix.exclude.iter().map(|entry| exclusion(entry, findings)).collect();
    cells.retain(|cell| !excluded.iter().any(|exclusion| exclusion.covers(cell, facts)));
    include(matrix, &mut cells, findings);
    let axes = axes(matrix);
    for cell in &mut cells {
        cell.sort_by_key(|value| axes.iter().position(|axis| *axis == value.axis));
    }
    cells
}

fn product(matrix: &Matrix) -> Vec<Vec<Cell>> {
    if matrix.axes.is_empty() {
        return Vec::new();
    }
    let mut cells = vec![Vec::new()];
    for (axis, values) in &matrix.axes {
        let with = |cell: &Vec<Cell>, value: &Spanned<String>| {
            let mut cell = cell.clone();
            cell.push(Cell { axis: axis.value.clone(), value: value.value.clone() });
            cell
        };
        cells = cells.iter().flat_map(|cell| values.iter().map(move |value| with(cell, value))).collect();
    }
    cells
}

/// An entry of `exclude`: all of it must match, and there must be something in it.
struct Exclusion(Vec<(String, GlobSet)>);

fn exclusion(entry: &Entry, findings: &mut Findings<'_>) -> Exclusion {
    let globs = entry.iter().map(|(key, value)| matcher(value, findings).map(|glob| (key.value.clone(), glob)));
    let globs: Vec<Option<(String, GlobSet)>> = globs.collect();
    // Of one that was not understood, which is told, nothing is left out.
    Exclusion(globs.into_iter().collect::<Option<_>>().unwrap_or_default())
}

impl Exclusion {
    fn covers(&self, cell: &[Cell], facts: &Facts) -> bool {
        let value = |name: &str| match (cell.iter().find(|cell| cell.axis == name), name) {
            (Some(cell), _) => Some(cell.value.clone()),
            (None, "branch") => facts.branch.as_ref().map(ToString::to_string),
            (None, "tag") => facts.tag.clone(),
            (None, "event") => Some(facts.event.name().to_owned()),
            (None, _) => None,
        };
        !self.0.is_empty() && self.0.iter().all(|(name, glob)| value(name).is_some_and(|value| glob.is_match(value)))
    }
}

/// Adds the entries of `include`. They match the cells that the axes made, and never each other's.
fn include(matrix: &Matrix, cells: &mut Vec<Vec<Cell>>, findings: &mut Findings<'_>) {
    let made = cells.len();
    let is_axis = |key: &str| matrix.axes.iter().any(|(axis, _)| axis.value == key);
    for entry in &matrix.include {
        let matches = |cell: &[Cell]| {
            let mut own = entry.iter().filter(|(key, _)| is_axis(&key.value));
            own.all(|(key, value)| cell.iter().any(|cell| cell.axis == key.value && cell.value == value.value))
        };
        let mut matched = false;
        for cell in cells[..made].iter_mut().filter(|cell| matches(cell)) {
            matched = true;
            for (key, value) in entry.iter().filter(|(key, _)| !is_axis(&key.value)) {
                cell.retain(|cell| cell.axis != key.value);
                cell.push(Cell { axis: key.value.clone(), value: value.value.clone() });
            }
        }
        if !matched {
            add(entry, matrix, cells, findings);
        }
    }
}

fn add(entry: &Entry, matrix: &Matrix, cells: &mut Vec<Vec<Cell>>, findings: &mut Findings<'_>) {
    let Some((first, _)) = entry.first() else { return };
    let said = |axis: &str| entry.iter().any(|(name, _)| name.value == axis);
    if let Some((axis, _)) = matrix.axes.iter().find(|(axis, _)| !said(&axis.value)) {
        let message = format!("no cell is like this, and it does not say its {}", quoted(&axis.value));
        return findings.problem(first.span, message, format!("write `{}: ...` in it too", axis.value));
    }
    let own = entry.iter().map(|(key, value)| Cell { axis: key.value.clone(), value: value.value.clone() });
    let own: Vec<Cell> = own.collect();
    if cells.iter().any(|cell| cell.len() == own.len() && own.iter().all(|value| cell.contains(value))) {
        let message = format!("the cell ({}) is there already", shown(&own));
        findings.problem(first.span, message, "take one of them out: each cell runs once");
    } else {
        cells.push(own);
    }
}
