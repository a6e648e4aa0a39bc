//! The examples of the manual mean something.

use std::path::Path;

use super::*;

/// The manifests in a page, each with the line on which it begins.
fn examples(page: &str) -> Vec<(usize, String)> {
    let mut examples = Vec::new();
    let mut current: Option<(usize, String)> = None;
    for (number, line) in page.lines().enumerate() {
        match (&mut current, line) {
            (None, "```yaml") => current = Some((number + 2, String::new())),
            (Some(_), "```") => examples.extend(current.take()),
            (Some((_, text)), line) => *text += &format!("{line}\n"),
            (None, _) => {}
        }
    }
    examples
}

#[test]
fn every_example_is_planned() {
    for page in ["jobs", "needs", "matrix", "when", "templates", "schedule"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/manual/{page}.md"));
        let examples = examples(&std::fs::read_to_string(&path).unwrap());
        assert!(!examples.is_empty(), "{page}");
        for (line, text) in examples {
            let reading = crate::manifest::read(text.as_bytes(), ".buildr.yml");
            let reading = reading.unwrap_or_else(|error| panic!("{page}.md:{line}: {error}"));
            assert!(reading.warnings.is_empty(), "{page}.md:{line}: {}", reading.warnings[0]);
            for facts in [push(), tag("v1"), Facts::new(TriggerKind::Local)] {
                let planned = compile_one(&reading.manifest, &facts);
                let planned = planned.unwrap_or_else(|error| panic!("{page}.md:{line}: {error}"));
                assert!(planned.warnings.is_empty(), "{page}.md:{line}: {}", planned.warnings[0]);
            }
        }
    }
}

#[test]
fn what_the_page_says_of_cells() {
    let page = include_str!("../../../../docs/manual/matrix.md");
    let (_, text) = &examples(page)[1];
    let planned = planned(text, &push());
    let keys: Vec<&str> = planned.jobs.iter().map(|job| job.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "unit (rust=1.89, os=bookworm)",
            "unit (rust=1.90, os=bookworm)",
            "unit (rust=1.90, os=trixie, features=all)",
            "unit (rust=nightly, os=trixie)"
        ]
    );
}
