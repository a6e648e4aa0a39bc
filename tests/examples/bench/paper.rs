//! PERFORMANCE.md, whose figures nobody types: each part between two marks is written anew out of a run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::curves::Curve;
use crate::picture::{round, svg};
use crate::row::Row;
use crate::table::{Run, short};

/// Where the repository lies.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Writes the table, and the budget of the trivial build.
pub(crate) fn write(run: &Run) -> Result<()> {
    let table = format!(
        "Made by `scripts/bench --write` on {}; {} rounds of what is short.\n\n{}",
        run.machine,
        run.rounds,
        run.markdown()
    );
    let budget = run.rows.iter().find(|row| !row.parts.is_empty()).map(budget);
    change(|text| {
        let text = between(text, "table", &table)?;
        match &budget {
            Some(budget) => between(&text, "budget", budget),
            None => Ok(text),
        }
    })
}

/// Writes the curves: a picture each, and a table of all.
pub(crate) fn write_curves(curves: &[Curve]) -> Result<()> {
    let mut text = String::new();
    for curve in curves {
        let folder = root().join("docs/performance");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("{}.svg", curve.name)), svg(curve))?;
        text.push_str(&format!("![{}](docs/performance/{}.svg)\n\n{}\n", curve.title, curve.name, table(curve)));
    }
    change(|paper| between(paper, "curves", text.trim_end()))
}

/// A curve's points.
pub(crate) fn table(curve: &Curve) -> String {
    let points = curve.lines.first().map(|(_, points)| points.as_slice()).unwrap_or_default();
    let cells = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let xs = points.iter().map(|(x, _)| round(*x));
    let mut text = cells(std::iter::once(curve.x.clone()).chain(xs).collect());
    text.push_str(&format!("|{}\n", "---|".repeat(points.len() + 1)));
    for (name, points) in &curve.lines {
        let ys = points.iter().map(|(_, y)| short(*y));
        text.push_str(&cells(std::iter::once(format!("{name} ({})", curve.y)).chain(ys).collect()));
    }
    text
}

/// What a build's time went to.
pub(crate) fn budget(row: &Row) -> String {
    let mut text = "| part | ms |\n|---|---|\n".to_owned();
    for (part, ms) in &row.parts {
        text.push_str(&format!("| {part} | {ms:.0} |\n"));
    }
    let sum: f64 = row.parts.iter().map(|(_, ms)| ms).sum();
    text.push_str(&format!(
        "| sum of the parts | {sum:.0} |\n| the whole, seen by the one who asked | {:.0} |\n",
        row.ours
    ));
    text
}

fn change(change: impl FnOnce(&str) -> Result<String>) -> Result<()> {
    let path = root().join("PERFORMANCE.md");
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, change(&text)?)?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

/// A text with something else between its marks of this name.
fn between(text: &str, name: &str, new: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&begin).with_context(|| format!("PERFORMANCE.md has no mark {begin}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("PERFORMANCE.md has no mark {end}"))?;
    Ok(format!("{before}{begin}\n{}\n{end}{after}", new.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_written_anew() {
        let text = "a\n<!-- table -->\nold\n<!-- /table -->\nb\n";
        assert_eq!(between(text, "table", "new\n").unwrap(), "a\n<!-- table -->\nnew\n<!-- /table -->\nb\n");
        assert!(between(text, "curves", "new").is_err());
    }
}
