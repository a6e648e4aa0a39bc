//! The registry is held against the parser: each example is right, and each key that the parser reads stands here.

use super::look::{Answer, Place, all, find};
use super::*;
use crate::manifest;

#[test]
fn every_key_has_a_description_and_an_example_that_is_right() {
    let mut wrong = Vec::new();
    for Place { path, key, .. } in all() {
        assert!(key.says.ends_with('.'), "{path}");
        assert!(!key.examples.is_empty(), "{path}");
        for example in key.examples {
            assert!(names(example, key.name), "{path} is not in\n{example}");
            let told = match manifest::read(example.as_bytes(), ".buildr.yml") {
                Ok(reading) if reading.warnings.is_empty() => continue,
                Ok(reading) => reading.warnings[0].to_string(),
                Err(error) => error.to_string(),
            };
            // What would be fetched is not there.
            if !(example.starts_with("include:") && told.contains("are not fetched here")) {
                wrong.push(format!("{path}\n{told}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Whether a text uses a key.
fn names(text: &str, key: &str) -> bool {
    text.match_indices(key).any(|(at, _)| text[at + key.len()..].starts_with(':'))
}

#[test]
fn no_key_stands_in_a_map_twice() {
    fn check(map: &Map) {
        for (index, name) in map.names().enumerate() {
            assert!(map.names().take(index).all(|before| before != name), "{}: {name}", map.title);
            assert!(!map.later.contains(&name), "{}: {name}", map.title);
            assert!(map.never.iter().all(|(never, ..)| *never != name), "{}: {name}", map.title);
        }
        assert!(map.required.iter().all(|name| map.has(name)), "{}", map.title);
    }
    for map in [&TOP, &STAGE, &FINALLY, &PREPARE, &WHEN, &PIPELINE_WHEN, &MATRIX, &SERVICE, &SERVICE_ENVIRONMENT] {
        check(map);
    }
}

/// A key that stands here and that the parser passes over would be a promise that nobody keeps: each must be refused
/// with a value that none takes.
#[test]
fn every_key_is_read() {
    for Place { path, key, .. } in all() {
        for example in key.examples {
            let wrong = without_value(example, key.name);
            assert!(manifest::read(wrong.as_bytes(), ".buildr.yml").is_err(), "{path} is not read in\n{wrong}");
        }
    }
}

/// The text with nothing behind a key.
fn without_value(text: &str, key: &str) -> String {
    let (at, _) = text.match_indices(key).find(|(at, _)| text[at + key.len()..].starts_with(':')).unwrap();
    let (before, after) = text.split_at(at + key.len() + 1);
    let mut depth = 0_u32;
    let mut quote = None;
    let end = after.char_indices().find(|&(_, c)| {
        match c {
            '"' | '\'' if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            _ if quote.is_some() => {}
            '\n' if depth == 0 && !after.starts_with('\n') => return true,
            ',' | '}' | ']' if depth == 0 => return true,
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        false
    });
    let rest = end.map_or("", |(end, _)| &after[end..]);
    format!("{before} ~{rest}")
}

#[test]
fn keys_are_found_by_their_way() {
    let paths = |asked: &str| match find(asked) {
        Answer::Keys(places) => places.iter().map(|place| place.path.clone()).collect::<Vec<_>>().join(" "),
        Answer::Unknown(guess) => format!("? {}", guess.unwrap_or_default()),
    };
    assert_eq!(paths("when.path"), "when.path");
    assert_eq!(paths("policy"), "cache.policy");
    assert_eq!(paths("path"), "when.path repos.path");
    // Of the top level, of a stage, of `prepare`.
    assert_eq!(paths("cache"), "cache cache cache");
    assert_eq!(paths("prepare.files"), "files");
    assert_eq!(paths("services.image.pull"), "services.image.pull");
    assert_eq!(paths("atrifacts"), "? artifacts");
    assert_eq!(paths("when.pth"), "? when.path");
    assert_eq!(paths("polcy"), "? cache.policy");
    assert_eq!(paths("nonsense"), "? ");
}

#[test]
fn what_may_stand_there_in_words() {
    let ways = |path: &str| match find(path) {
        Answer::Keys(places) => places[0].key.form.ways().join(" | "),
        Answer::Unknown(_) => panic!("{path}"),
    };
    assert_eq!(ways("retry"), "`never` | a whole number from 0 to 10 | a map with `max`, `on` and `delay`");
    assert_eq!(ways("artifacts.when"), "`success`, `failure` or `always`");
    assert_eq!(ways("needs"), "text | a list of such");
    assert_eq!(ways("stages"), "a list, each of it text, or a list, each of it text");
}

/// Wrong manifests of the catalogue in which a schema can see nothing wrong: it knows shapes, not names.
const BEYOND_SHAPES: [&str; 42] = [
    "a_stage_with_a_word_of_the_language",
    "artifacts_that_lead_out",
    "cache_of_everything",
    "commands_that_are_none_2",
    "extends_itself",
    "extends_what_is_not_there",
    "finally_when_cancelled_alone",
    "globs_that_are_too_large",
    "include_of_a_wrong_kind",
    "include_that_leads_out",
    "matrix_a_value_twice",
    "matrix_axes_of_one_variable",
    "matrix_axes_of_several_places_and_one_variable",
    "matrix_excludes_what_is_not_there",
    "matrix_without_values",
    "names_that_no_stage_can_have_1",
    "names_that_no_stage_can_have_2",
    "names_that_no_stage_can_have_3",
    "needs_itself",
    "needs_prepare_and_finally",
    "needs_twice",
    "needs_what_is_not_there",
    "needs_what_never_runs",
    "prepare_with_secrets_is_not_kept",
    "stages_of_a_wrong_kind_3",
    "stages_prepare_beside_others",
    "stages_that_are_not_there_1",
    "stages_that_are_not_there_2",
    "stages_that_are_not_there_3",
    "stages_that_are_not_there_4",
    "trigger_beside_a_script",
    "what_cannot_be_inherited_1",
    "what_prepare_is_not_1",
    "what_prepare_is_not_2",
    "what_prepare_is_not_3",
    "when_always",
    "when_an_axis_that_is_not_there",
    "when_an_event",
    "when_manual",
    "when_never",
    "when_on_failure",
    "when_on_success",
];

/// What an editor says of a text: nothing when it is no YAML that JSON could be made of.
fn valid(schema: &jsonschema::Validator, text: &[u8]) -> Option<bool> {
    let value: serde_json::Value = serde_yaml::from_slice(text).ok()?;
    Some(schema.is_valid(&value))
}

#[test]
fn the_schema_says_what_the_parser_says() {
    let schema = schema::schema();
    assert!(jsonschema::meta::is_valid(&schema));
    let schema = jsonschema::draft7::new(&schema).unwrap();
    for Place { path, key, .. } in all() {
        for example in key.examples {
            assert_eq!(valid(&schema, example.as_bytes()), Some(true), "{path}\n{example}");
            let wrong = without_value(example, key.name);
            assert_eq!(valid(&schema, wrong.as_bytes()), Some(false), "{path}\n{wrong}");
        }
    }
    assert_eq!(valid(&schema, manifest::tests::WHOLE.as_bytes()), Some(true));

    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong");
    let mut beyond = Vec::new();
    for case in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if case.extension().is_some_and(|ending| ending == "yml")
            && valid(&schema, &std::fs::read(&case).unwrap()) == Some(true)
        {
            beyond.push(case.file_stem().unwrap().to_string_lossy().into_owned());
        }
    }
    beyond.sort();
    assert_eq!(beyond, BEYOND_SHAPES);
}
