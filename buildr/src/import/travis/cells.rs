//! The matrix of Travis CI: versions, `env`, and what `jobs` adds, takes away and changes.

use super::super::draft::{Draft, Stage};
use super::super::tree::Tree;
use super::language::{Language, by_key, tag};
use crate::manifest::{Map, Value};

/// Keys of a job that are a cell's, and not work of its own.
const OF_CELL: [&str; 6] = ["env", "name", "os", "dist", "arch", "language"];

/// The matrix, where there is one, and what comes with it: the image and the variables.
pub(super) fn set(draft: &mut Draft, stage: &mut Stage, root: &Tree, language: &Language) {
    let mut matrix = Map::default();
    let versions: Vec<String> = root.get(language.key).map(Tree::texts).unwrap_or_default();
    let versions: Vec<String> = versions.iter().map(|version| tag(language, version)).collect();
    let jobs = jobs(root);
    let cells: Vec<&Tree> = jobs
        .and_then(|jobs| jobs.get("include"))
        .map(Tree::elements)
        .unwrap_or_default()
        .iter()
        .filter(|cell| !is_work(cell))
        .collect();
    let by_cell = cells.iter().any(|cell| cell.get(language.key).is_some());
    if versions.len() > 1 || by_cell {
        if !versions.is_empty() {
            matrix.set(language.key, Value::texts(versions.clone()));
        }
        let axis = format!("${{matrix.{}}}", language.key);
        stage.map.set("image", language.image.replace("{}", &axis));
    } else {
        let version = versions.first().cloned().unwrap_or_else(|| language.usual.to_owned());
        stage.map.set("image", language.image.replace("{}", &version));
    }
    if language.key == "compiler" && versions.len() > 1 {
        stage.script.insert(0, "export CC=\"$BUILDR_MATRIX_COMPILER\"".to_owned());
        stage.known.push("CC".to_owned());
    }
    let rows = environment(draft, stage, root);
    if rows.len() > 1 {
        stage.known.extend(rows.iter().flat_map(|row| pairs(row)).map(|(name, _)| name));
        matrix.set("env", Value::texts(rows));
        stage.script.insert(0, "eval \"export $BUILDR_MATRIX_ENV\"".to_owned());
    } else if let Some(row) = rows.first() {
        stage.variables.extend(pairs(row));
    }
    cells_of(draft, stage, &mut matrix, &cells, language, &versions);
    if let Some(jobs) = jobs {
        changes(draft, stage, &mut matrix, jobs, language);
    }
    if !matrix.is_empty() {
        stage.map.set("matrix", matrix);
    }
}

/// `jobs`, or by its older name `matrix`.
pub(super) fn jobs(root: &Tree) -> Option<&Tree> {
    root.get("jobs").or_else(|| root.get("matrix"))
}

/// Whether a job of `include` does work of its own: then it is a stage.
pub(super) fn is_work(cell: &Tree) -> bool {
    // The stage `test` is where cells are anyway.
    let is_test =
        |key: &str, value: &Tree| key == "stage" && value.peek().is_some_and(|name| name.eq_ignore_ascii_case("test"));
    cell.entries()
        .iter()
        .any(|(key, value)| !OF_CELL.contains(&key.as_str()) && by_key(key).is_none() && !is_test(key, value))
}

/// `env`: variables of all builds are set; the rows of the matrix are given back.
fn environment(draft: &mut Draft, stage: &mut Stage, root: &Tree) -> Vec<String> {
    let Some(env) = root.get("env") else { return Vec::new() };
    let mut rows = Vec::new();
    if env.is_map() {
        for (key, value) in env.entries() {
            match key.as_str() {
                "global" => {
                    for row in value.elements() {
                        global(draft, row);
                    }
                }
                "jobs" | "matrix" => rows.extend(texts(draft, stage, value)),
                name => {
                    if let Some(text) = value.text() {
                        draft.variables.push((name.to_owned(), text.to_owned()));
                    }
                }
            }
        }
    } else {
        rows = texts(draft, stage, env);
    }
    rows
}

fn global(draft: &mut Draft, row: &Tree) {
    if let Some(text) = row.text() {
        let pairs = pairs(text);
        draft.variables.extend(pairs);
    }
    for (name, value) in row.entries() {
        if name == "secure" {
            tell_secure(draft, value);
        } else if let Some(text) = value.text() {
            draft.variables.push((name.clone(), text.to_owned()));
        }
    }
}

fn tell_secure(draft: &mut Draft, value: &Tree) {
    let mut top = std::mem::take(&mut draft.top);
    let because = "only Travis CI can read it; store what it stands for on the farm, and write `secrets: [NAME]`";
    draft.notes.lost(&mut top, "env.secure", value, because);
    draft.top = top;
}

/// The rows of the matrix as texts.
fn texts(draft: &mut Draft, stage: &mut Stage, tree: &Tree) -> Vec<String> {
    let mut rows = Vec::new();
    for row in tree.elements() {
        if let Some(text) = row.text() {
            rows.push(text.to_owned());
        } else if let Some(secure) = row.get("secure") {
            tell_secure(draft, secure);
        } else {
            let all = row.entries().iter().filter_map(|(name, value)| Some(format!("{name}={}", value.text()?)));
            let all: Vec<String> = all.collect();
            if all.is_empty() {
                draft.notes.lost(&mut stage.map, "env", row, "a row is a text of variables; write `matrix` by hand");
            } else {
                rows.push(all.join(" "));
            }
        }
    }
    rows
}

/// `A=1 B="x y"` as a shell reads it.
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut words: Vec<String> = vec![String::new()];
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, c) if c.is_whitespace() => words.push(String::new()),
            (_, c) => {
                if let Some(last) = words.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    for word in words {
        if let Some((name, value)) = word.split_once('=') {
            pairs.push((name.to_owned(), value.to_owned()));
        }
    }
    pairs
}

/// Cells of `include`, each with a value for all axes.
fn cells_of(
    draft: &Draft,
    stage: &mut Stage,
    matrix: &mut Map,
    cells: &[&Tree],
    language: &Language,
    versions: &[String],
) {
    let mut written = Vec::new();
    for cell in cells {
        if let Some(cell) = one(draft, stage, cell, language, versions) {
            written.push(Value::Map(cell));
        }
    }
    if written.is_empty() {
        return;
    }
    let with_env = written.iter().any(|cell| matches!(cell, Value::Map(map) if map.has("env")));
    if with_env && !matrix.has("env") {
        stage.script.insert(0, "eval \"export ${BUILDR_MATRIX_ENV:-NONE=}\"".to_owned());
    }
    matrix.set("include", Value::Lines(written));
}

/// One cell; None where it is of another system.
fn one(draft: &Draft, stage: &mut Stage, cell: &Tree, language: &Language, versions: &[String]) -> Option<Map> {
    if let Some(os) = cell.get("os").and_then(Tree::peek).filter(|os| *os != "linux") {
        let because = format!("containers run Linux, not {os}; build there on agents of your own, or leave it out");
        draft.notes.lost(&mut stage.map, "jobs.include", cell, because);
        return None;
    }
    let mut map = Map::default();
    for (key, value) in cell.entries() {
        match key.as_str() {
            "env" => {
                let all = value.elements().iter().filter_map(Tree::text).collect::<Vec<_>>().join(" ");
                map.set("env", all);
            }
            "name" => {
                if let Some(name) = value.text() {
                    stage.map.remark(format!("a cell was called `{name}`"));
                }
            }
            "dist" | "arch" | "language" => draft.notes.moot(&mut stage.map, &format!("jobs.include.{key}"), value, "the image says what is in the container; a cell of another architecture is a stage of its own (`platform`)"),
            "os" | "stage" => value.told(),
            key if key == language.key => {
                if let Some(text) = value.text() {
                    map.set(key, tag(language, text));
                }
            }
            _ => {}
        }
    }
    if !map.has(language.key) && !language.key.is_empty() {
        let first = versions.first().map_or(language.usual, String::as_str);
        if language.image.contains("{}") && map.has("env") {
            map.set(language.key, first);
        }
    }
    (!map.is_empty()).then_some(map)
}

/// `exclude`, `allow_failures`, `fast_finish`.
fn changes(draft: &Draft, stage: &mut Stage, matrix: &mut Map, jobs: &Tree, language: &Language) {
    for (key, value) in jobs.entries() {
        match key.as_str() {
            "exclude" => {
                let mut cells = Vec::new();
                for cell in value.elements() {
                    let mut map = Map::default();
                    for (key, value) in cell.entries() {
                        let Some(text) = value.text() else { continue };
                        map.set(key, if key == language.key { tag(language, text) } else { text.to_owned() });
                    }
                    cells.push(Value::Map(map));
                }
                matrix.set("exclude", Value::Lines(cells));
            }
            "allow_failures" => draft.notes.lost(
                &mut stage.map,
                "jobs.allow_failures",
                value,
                "all cells of a matrix may fail or none; write a stage of its own with `allow_failure: true`",
            ),
            "fast_finish" => {
                if let Some(truth) = value.truth() {
                    matrix.set("fail_fast", Value::Truth(truth));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_a_shell_reads_them() {
        let check = |text: &str, expect: &[(&str, &str)]| {
            let got = pairs(text);
            let got: Vec<(&str, &str)> = got.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(got, expect, "{text}");
        };
        check("A=1 B=2", &[("A", "1"), ("B", "2")]);
        check("A=\"x y\"  B='z'", &[("A", "x y"), ("B", "z")]);
        check("alone", &[]);
    }
}
