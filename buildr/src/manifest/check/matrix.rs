//! `matrix`: one run for each combination of values.

use std::collections::HashMap;

use super::findings::{Findings, did_you_mean, shown};
use crate::manifest::keys::{EXCLUDABLE, MATRIX};
use crate::manifest::language::{Manifest, Matrix};
use crate::manifest::node::{Entry, Node, Shape};
use crate::manifest::source::{Span, Spanned, quoted};
use crate::manifest::variable;
use crate::manifest::words;

const EXAMPLE: &str = "matrix: {rust: [stable, nightly]}";

/// An axis and one value.
type Pair = (Spanned<String>, Spanned<String>);

/// What `matrix` says: axes with their values, and what belongs to them.
pub(super) fn read(entry: &Entry, findings: &mut Findings<'_>) -> Option<Matrix> {
    let Shape::Map(entries) = &entry.value.value else {
        let message = format!("\"matrix\" is a map of axes, and here stands {}", shown(&entry.value.value));
        findings.error(entry.place(), message, format!("write `{EXAMPLE}`"));
        return None;
    };
    let before = findings.count();
    let span = entry.key.span;
    let mut matrix =
        Matrix { span, axes: Vec::new(), include: Vec::new(), exclude: Vec::new(), max: None, fail_fast: None };
    for entry in entries.iter().filter(|entry| !is_word(entry)) {
        axis(entry, &mut matrix, findings);
    }
    for entry in entries.iter().filter(|entry| is_word(entry)) {
        match entry.key.value.as_str() {
            "include" => matrix.include = cells(entry, findings),
            "exclude" => matrix.exclude = cells(entry, findings),
            "max" => matrix.max = findings.count_of(entry, 1..=256),
            _ => matrix.fail_fast = findings.flag(entry),
        }
    }
    if matrix.axes.is_empty() && matrix.include.is_empty() && findings.count() == before {
        findings.error(entry.place(), "this matrix has no axis", format!("write `{EXAMPLE}`"));
    }
    included(&matrix, findings);
    excluded(&matrix, findings);
    Some(matrix)
}

/// Whether a key of the matrix is a word of the language and no axis.
fn is_word(entry: &Entry) -> bool {
    MATRIX.has(&entry.key.value)
}

fn axis(entry: &Entry, matrix: &mut Matrix, findings: &mut Findings<'_>) {
    let key = entry.key.value.as_str();
    if !variable::is_name(&variable_of(key)) {
        findings.error(
            entry.key.span,
            format!("{} cannot name an axis, as its values arrive in the variable BUILDR_MATRIX_<AXIS>", quoted(key)),
            "write a name of letters, digits, `_` and `-`",
        );
    }
    let help = format!("write `{key}: [a, b]`, the values that the axis takes");
    let values = findings.texts(entry, &format!("a value of the axis {}", quoted(key)), &help);
    if matches!(&entry.value.value, Shape::List(elements) if elements.is_empty()) {
        findings.error(entry.place(), format!("the axis {} has no values, so nothing would run", quoted(key)), help);
    }
    for (index, value) in values.iter().enumerate() {
        if values[..index].iter().any(|before| before.value == value.value) {
            let message = format!("the axis {} has the value {} twice", quoted(key), quoted(&value.value));
            findings.error(value.span, message, "write it once");
        }
    }
    matrix.axes.push((entry.key.clone(), values));
}

/// Tells of axes of a stage and of the top level, those of `include` among them, that would arrive in one variable. An axis
/// of one name is the same axis.
pub(super) fn one_variable_each(manifest: &Manifest, findings: &mut Findings<'_>) {
    let own = manifest.stages.iter().filter_map(|stage| stage.matrix.as_ref()).map(Some);
    for own in own.chain([None]) {
        let mut arrived: HashMap<String, &str> = HashMap::new();
        for name in manifest.matrix.iter().chain(own).flat_map(names) {
            let arrives = variable_of(&name.value);
            let message = match arrived.get(&arrives) {
                Some(&same) if same != name.value => {
                    format!("{} and {} would arrive in the same variable, {arrives}", quoted(same), quoted(&name.value))
                }
                _ => {
                    arrived.insert(arrives, &name.value);
                    continue;
                }
            };
            findings.error(name.span, message, "write names that differ in more than case and `-` or `_`");
        }
    }
}

/// The names of all axes, as often as they stand there.
fn names(matrix: &Matrix) -> impl Iterator<Item = &Spanned<String>> {
    let included = matrix.include.iter().flatten().map(|(axis, _)| axis);
    matrix.axes.iter().map(|(axis, _)| axis).chain(included)
}

/// The variable in which an axis arrives.
fn variable_of(axis: &str) -> String {
    format!("BUILDR_MATRIX_{}", axis.to_ascii_uppercase().replace('-', "_"))
}

/// What `include` and `exclude` say: maps of axes and values.
fn cells(entry: &Entry, findings: &mut Findings<'_>) -> Vec<Vec<Pair>> {
    let mut cells = Vec::new();
    match &entry.value.value {
        Shape::List(elements) => cells.extend(elements.iter().map(|cell| pairs(cell, entry, findings))),
        _ => cells.push(pairs(&entry.value, entry, findings)),
    }
    cells
}

fn pairs(node: &Node, owner: &Entry, findings: &mut Findings<'_>) -> Vec<Pair> {
    let key = &owner.key.value;
    let help = format!("write `{key}: [{{rust: nightly, os: alpine}}]`: a map of axes and values, or a list of such");
    let place = node.place_or(owner.key.span);
    match &node.value {
        Shape::Map(entries) if !entries.is_empty() => entries
            .iter()
            .filter_map(|entry| {
                let what = format!("the value of {}", quoted(&entry.key.value));
                let value = findings.text(&entry.value, entry.place(), &what, &help)?;
                Some((entry.key.clone(), value))
            })
            .collect(),
        other => {
            findings.error(
                place,
                format!("a cell in {} names axes, and here stands {}", quoted(key), shown(other)),
                help,
            );
            Vec::new()
        }
    }
}

/// What an entry of `include` names can name axes. Whether it says enough, the cells tell.
fn included(matrix: &Matrix, findings: &mut Findings<'_>) {
    for cell in &matrix.include {
        for (name, _) in cell {
            axis_name(name, findings);
        }
    }
}

fn axis_name(name: &Spanned<String>, findings: &mut Findings<'_>) {
    if !variable::is_name(&variable_of(&name.value)) || MATRIX.has(&name.value) {
        let message = format!("{} cannot name an axis", quoted(&name.value));
        findings.error(name.span, message, "write a name of letters, digits, `_` and `-`");
    }
}

/// A cell that is left out names what there is.
fn excluded(matrix: &Matrix, findings: &mut Findings<'_>) {
    let included = matrix.include.iter().flatten().map(|(axis, _)| axis.value.as_str());
    let axes: Vec<&str> = matrix.axes.iter().map(|(axis, _)| axis.value.as_str()).chain(included).collect();
    for (name, _) in matrix.exclude.iter().flatten() {
        if axes.contains(&name.value.as_str()) || EXCLUDABLE.contains(&name.value.as_str()) {
            continue;
        }
        no_axis(name, &axes, findings);
    }
}

/// Tells that there is no such axis.
pub(super) fn no_axis(name: &Spanned<String>, axes: &[&str], findings: &mut Findings<'_>) {
    let guess = findings.guess(&name.value, axes.iter().copied());
    let message = format!("the matrix has no axis {}{}", quoted(&name.value), did_you_mean(guess));
    let help = if axes.is_empty() {
        format!("write `{EXAMPLE}` in the stage or at the top level")
    } else {
        format!("write {}", words::listed(axes).replace(" and ", " or "))
    };
    findings.error(name.span, message, help);
}

/// Shards: `parallel: 5`.
pub(super) fn shards(entry: &Entry, findings: &mut Findings<'_>) -> Option<Spanned<u32>> {
    let span: Span = entry.place();
    findings.count_of(entry, 1..=256).map(|value| Spanned { value, span })
}
