//! The cells of a matrix: axes, less what is excluded, more what is included.
//!
//! Each combination of the axes' values is a cell, unless an entry of `exclude` matches it. An entry of `include`
//! whose axes match cells gives these its other values; one that matches none is a cell of its own.

use globset::GlobMatcher;
use protocol::plan::{Cell, MAX_JOBS};

use super::facts::Facts;
use super::findings::{Findings, instead};
use super::globs::matcher;
use super::scope::shown;
use crate::manifest::{Matrix, Spanned, quoted};

/// The most combinations that are looked at, before any are excluded.
const MOST_COMBINATIONS: usize = 16 * MAX_JOBS;

/// What an entry of `exclude` may ask for beside axes.
const OF_THE_BUILD: [&str; 3] = ["branch", "tag", "event"];

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
    check_values(matrix, findings);
    let combinations = matrix.axes.iter().fold(1_usize, |all, (_, values)| all.saturating_mul(values.len()));
    if combinations > MOST_COMBINATIONS {
        let message = format!("this matrix has {combinations} cells; a build has at most {MAX_JOBS} jobs");
        findings.problem(matrix.span, message, "take values out of it, or split the work by `parallel`");
        return Vec::new();
    }
    let mut cells = product(matrix);
    let excluded: Vec<Exclusion> = matrix.exclude.iter().map(|entry| exclusion(entry, matrix, findings)).collect();
    cells.retain(|cell| !excluded.iter().any(|exclusion| exclusion.covers(cell, facts)));
    include(matrix, &mut cells, findings);
    let axes = axes(matrix);
    for cell in &mut cells {
        cell.sort_by_key(|value| axes.iter().position(|axis| *axis == value.axis));
    }
    cells
}

fn check_values(matrix: &Matrix, findings: &mut Findings<'_>) {
    for (axis, values) in &matrix.axes {
        for (at, value) in values.iter().enumerate() {
            if values[..at].iter().any(|before| before.value == value.value) {
                let message = format!("{} stands twice in the axis {}", quoted(&value.value), quoted(&axis.value));
                findings.problem(value.span, message, "take one of them out: each cell runs once");
            }
        }
    }
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

/// An entry of `exclude`: all of it must match.
#[derive(Default)]
struct Exclusion {
    axes: Vec<(String, GlobMatcher)>,
    build: Vec<(String, GlobMatcher)>,
    /// Something in it was not understood, and told.
    broken: bool,
}

fn exclusion(entry: &Entry, matrix: &Matrix, findings: &mut Findings<'_>) -> Exclusion {
    let mut made = Exclusion::default();
    for (key, value) in entry {
        let is_axis = matrix.axes.iter().any(|(axis, _)| axis.value == key.value);
        let Some(glob) = matcher(value, findings) else {
            made.broken = true;
            continue;
        };
        if is_axis {
            made.axes.push((key.value.clone(), glob));
        } else if OF_THE_BUILD.contains(&key.value.as_str()) {
            made.build.push((key.value.clone(), glob));
        } else {
            let known = matrix.axes.iter().map(|(axis, _)| axis.value.as_str()).chain(OF_THE_BUILD);
            let help = instead(&key.value, known);
            findings.problem(key.span, format!("{} is not an axis of this matrix", quoted(&key.value)), help);
            made.broken = true;
        }
    }
    made
}

impl Exclusion {
    fn covers(&self, cell: &[Cell], facts: &Facts) -> bool {
        let of_cell = |axis: &str| cell.iter().find(|cell| cell.axis == axis).map(|cell| cell.value.clone());
        let of_build = |name: &str| match name {
            "branch" => facts.branch.as_ref().map(ToString::to_string),
            "tag" => facts.tag.clone(),
            _ => Some(facts.event.name().to_owned()),
        };
        !self.broken
            && self.axes.iter().all(|(axis, glob)| of_cell(axis).is_some_and(|value| glob.is_match(value)))
            && self.build.iter().all(|(name, glob)| of_build(name).is_some_and(|value| glob.is_match(value)))
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
            add(entry, cells, findings);
        }
    }
}

fn add(entry: &Entry, cells: &mut Vec<Vec<Cell>>, findings: &mut Findings<'_>) {
    let Some((first, _)) = entry.first() else { return };
    let own = entry.iter().map(|(key, value)| Cell { axis: key.value.clone(), value: value.value.clone() });
    let own: Vec<Cell> = own.collect();
    if cells.iter().any(|cell| cell.len() == own.len() && own.iter().all(|value| cell.contains(value))) {
        let message = format!("the cell ({}) is there already", shown(&own));
        findings.problem(first.span, message, "take one of them out: each cell runs once");
    } else {
        cells.push(own);
    }
}
