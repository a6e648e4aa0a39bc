//! Manifests that were right or wrong once, changed at random: nothing panics on its way through the parser and the
//! planner, and whatever is told lies within the text.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::path::Path;

use buildr::manifest::{self, ManifestError, Problem};
use buildr::plan::{Facts, PlanError, compile_one};
use protocol::job::TriggerKind;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use regex::Regex;

/// Marks that change what stands around them.
const MARKS: [&str; 36] = [
    " ",
    "\n",
    "\n  ",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "~",
    "''",
    "\"",
    "'",
    "#",
    "&a ",
    "*a",
    "<<: ",
    "!",
    "?",
    "${",
    "}",
    "$${",
    "é",
    "\u{202e}",
    "\t",
    "0",
    "-1",
    "99999999999999999999",
    "1h",
    "1g",
    "/",
    "..",
    "*",
    ".",
    "|",
];

/// Texts to begin with: the wrong ones of the catalogue, and the fuzzer's, which are right.
fn texts() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = Vec::new();
    for folder in ["tests/wrong", "fuzz/seeds"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "yml") {
                texts.push(String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned());
            }
        }
    }
    assert!(texts.len() > 100, "{} texts", texts.len());
    texts
}

/// The words and the marks of a text, one after the other.
fn pieces(text: &str) -> Vec<String> {
    let piece = Regex::new(r"[\w./-]+|\s+|.").unwrap();
    piece.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

/// A few pieces taken out, doubled, moved, or put in from elsewhere.
fn changed(text: &str, words: &[String], chance: &mut StdRng) -> String {
    let mut pieces = pieces(text);
    for _ in 0..chance.random_range(1..5) {
        let at = chance.random_range(0..pieces.len().max(1)).min(pieces.len());
        match chance.random_range(0..6) {
            0 if at < pieces.len() => drop(pieces.remove(at)),
            1 if at < pieces.len() => pieces.insert(at, pieces[at].clone()),
            2 if at < pieces.len() => pieces[at] = words.choose(chance).unwrap().clone(),
            3 if at + 1 < pieces.len() => pieces.swap(at, at + 1),
            4 => pieces.insert(at, words.choose(chance).unwrap().clone()),
            _ => pieces.insert(at, (*MARKS.choose(chance).unwrap()).to_owned()),
        }
    }
    pieces.concat()
}

/// Each problem is at a place of the text, and says what to do.
fn check_told(text: &str, problems: &[Problem]) {
    let lines = 1 + text.matches(['\n', '\r']).count();
    for problem in problems {
        let (line, column) = problem.place();
        assert!((1..=lines).contains(&line) && column >= 1, "{problem}\n{text}");
        assert!(!problem.message().is_empty() && !problem.help().is_empty(), "{problem}\n{text}");
    }
}

fn check(text: &str) {
    let span = Regex::new(r"Span \{ start: (\d+), end: (\d+) \}").unwrap();
    let reading = match manifest::read(text.as_bytes(), "f.yml") {
        Ok(reading) => reading,
        Err(ManifestError::Faulty { problems, .. }) => {
            assert!(!problems.is_empty(), "{text}");
            return check_told(text, &problems);
        }
        Err(other) => panic!("{other}\n{text}"),
    };
    check_told(text, &reading.warnings);
    check_told(text, &manifest::habits(&reading.manifest));
    for found in span.captures_iter(&format!("{:?}", reading.manifest)) {
        let (start, end): (usize, usize) = (found[1].parse().unwrap(), found[2].parse().unwrap());
        assert!(start <= end && end <= text.len(), "{start}..{end}\n{text}");
    }
    let branch = "main".parse().ok();
    for event in [TriggerKind::Push, TriggerKind::Tag] {
        match compile_one(&reading.manifest, &Facts { branch: branch.clone(), ..Facts::new(event) }) {
            Ok(planned) => check_told(text, &planned.warnings),
            Err(PlanError::Manifest(ManifestError::Faulty { problems, .. })) => check_told(text, &problems),
            // A panic there.
            Err(PlanError::Failed) => panic!("{text}"),
            Err(other) => assert!(!other.to_string().is_empty(), "{text}"),
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads its own settings")]
fn nothing_that_is_written_ends_in_a_panic() {
    let seed: u64 = rand::random();
    let mut chance = StdRng::seed_from_u64(seed);
    println!("seed {seed}");
    // More of them for who has the time: some hundreds a second.
    let rounds = std::env::var("BUILDR_TEST_ROUNDS").map_or(40, |rounds| rounds.parse().unwrap());
    let texts = texts();
    let words: Vec<String> = texts.iter().flat_map(|text| pieces(text)).collect();
    for text in &texts {
        check(text);
        for _ in 0..rounds {
            let changed = changed(text, &words, &mut chance);
            check(&changed);
        }
    }
}
