//! The manual holds: each example in it is a manifest that is read and planned, or is said to be wrong and is refused;
//! each key of the language has a place in it; each link leads somewhere.

#![expect(clippy::unwrap_used, reason = "what a test makes for itself fails as the test does")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use buildr::manifest;
use buildr::plan::{self, Facts};
use protocol::CommitId;
use protocol::job::TriggerKind;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Every page that people read about manifests, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let manual = fs::read_dir(docs().join("manual")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = manual.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    pages.push(docs().join("manifest.md"));
    pages.sort();
    pages.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The examples of a page that are manifests, each with its line.
fn examples(text: &str) -> Vec<(usize, String)> {
    let mut examples = Vec::new();
    let mut current: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut current, line) {
            (None, "```yaml") => current = Some((number + 2, String::new())),
            (Some(_), "```") => examples.extend(current.take()),
            (Some((_, text)), line) => *text += &format!("{line}\n"),
            (None, _) => {}
        }
    }
    assert!(current.is_none(), "the last example is not closed");
    examples
}

/// Builds of a branch, of a tag, and of a folder.
fn occasions() -> [Facts; 3] {
    let commit = || Some("9f3c2d0e8b7a6f5e4d3c2b1a09f8e7d6c5b4a392".parse::<CommitId>().unwrap());
    let of = |event, branch: Option<&str>, tag: Option<&str>| Facts {
        branch: branch.map(|name| name.parse().unwrap()),
        tag: tag.map(str::to_owned),
        commit: commit(),
        ..Facts::new(event)
    };
    [
        of(TriggerKind::Push, Some("main"), None),
        of(TriggerKind::Tag, None, Some("v1.2.0")),
        of(TriggerKind::Local, Some("main"), None),
    ]
}

/// What is wrong with a manifest, in any of its occasions.
fn wrong(text: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".buildr.yml"), text).unwrap();
    let project = match manifest::load_project(folder.path(), &manifest::NoIncludes) {
        Ok(reading) => reading.project,
        Err(error) => return Some(error.to_string()),
    };
    // A value that this occasion has not may well be missed in another one: one in which all is planned is enough.
    let tried = occasions().map(|facts| plan::compile_project(&project, &facts).map(drop));
    if tried.iter().any(Result::is_ok) {
        None
    } else {
        tried.into_iter().find_map(Result::err).map(|it| it.to_string())
    }
}

#[test]
fn every_example_is_a_manifest() {
    let mut seen = 0;
    for (path, text) in pages() {
        for (line, example) in examples(&text) {
            let place = format!("{}:{line}", path.display());
            seen += 1;
            match (example.starts_with("# wrong"), wrong(&example)) {
                (true, None) => panic!("{place} is said to be wrong, and is read and planned"),
                (false, Some(why)) => panic!("{place}: {why}"),
                _ => {}
            }
        }
    }
    assert!(seen > 40, "{seen} examples were found");
}

#[test]
fn every_key_has_a_place() {
    let mut keys = BTreeSet::new();
    collect(&manifest::schema(), &mut keys);
    assert!(keys.len() > 80, "{keys:?}");
    let all: String = pages().into_iter().map(|(_, text)| text).collect();
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let words: BTreeSet<&str> = all.split(|character| !is_word(character)).collect();
    let missing: Vec<&String> = keys.iter().filter(|key| !words.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "no page of the manual names {missing:?}");
}

/// The names of all keys in a schema.
fn collect(schema: &serde_json::Value, keys: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(map) => {
            if let Some(properties) = map.get("properties").and_then(serde_json::Value::as_object) {
                keys.extend(properties.keys().cloned());
            }
            map.values().for_each(|value| collect(value, keys));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, keys)),
        _ => {}
    }
}

#[test]
fn links_lead_somewhere() {
    let mut seen = 0;
    for (path, text) in pages() {
        for (_, rest) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let target = rest.split(')').next().unwrap();
            if target.starts_with("http") {
                continue;
            }
            let file = target.split('#').next().unwrap();
            seen += 1;
            assert!(path.with_file_name(file).is_file(), "{}: {target} leads nowhere", path.display());
        }
    }
    assert!(seen > 40, "{seen} links were found");
}

/// Each page is found from the index.
#[test]
fn the_index_names_every_page() {
    let index = fs::read_to_string(docs().join("manual/README.md")).unwrap();
    for (path, _) in pages() {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name == "README.md" || index.contains(&format!("{name})")), "{name} is not in the index");
    }
}
