//! Files as people write them for other systems, and what becomes of them. Beside each in `tests/` stands the manifest
//! with its notes; `BUILDR_TEST_WRITE=1` writes these anew, to be looked at before they are kept.

mod scripts;
mod widened;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::manifest::{Node, Shape, Span};

/// All sources: three or more for each system.
fn samples() -> Vec<(PathBuf, Kind, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/import/tests");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".yml") {
            continue;
        }
        let kind = match name.split('-').next().unwrap() {
            "gitlab" => Kind::Gitlab,
            "github" => Kind::Github,
            "travis" => Kind::Travis,
            "woodpecker" => Kind::Woodpecker,
            "drone" => Kind::Drone,
            other => panic!("{other} is no system"),
        };
        let text = fs::read_to_string(&path).unwrap();
        found.push((path, kind, text));
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    for kind in [Kind::Gitlab, Kind::Github, Kind::Travis, Kind::Woodpecker, Kind::Drone] {
        assert!(found.iter().filter(|(_, of, _)| *of == kind).count() >= 3, "{kind:?}");
    }
    found
}

/// The manifest and the notes, as one text.
fn shown(text: &str, kind: Kind) -> Result<String, ImportError> {
    let got = import(text.as_bytes(), Path::new("ci.yml"), Some(kind))?;
    let mut all = got.manifest;
    all += "# ----\n";
    for note in got.notes {
        writeln!(all, "# {note}").unwrap();
    }
    Ok(all)
}

#[test]
fn what_becomes_of_real_files() {
    let write = std::env::var_os("BUILDR_TEST_WRITE").is_some();
    let mut wrong = Vec::new();
    for (path, kind, text) in samples() {
        let got = shown(&text, kind).unwrap();
        let beside = path.with_extension("yml.expect");
        if write {
            fs::write(&beside, &got).unwrap();
        }
        let expect = fs::read_to_string(&beside).unwrap_or_default();
        let differing = got.lines().zip(expect.lines()).find(|(got, expect)| got != expect);
        if got != expect {
            wrong.push(format!("{}: {differing:?}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "BUILDR_TEST_WRITE=1 writes them anew\n{}", wrong.join("\n"));
}

/// Every text of the source counts: when it is another, the manifest or its notes are others too.
#[test]
fn no_value_gets_lost() {
    let mut lost = Vec::new();
    for (path, kind, text) in samples() {
        let before = shown(&text, kind).unwrap();
        for span in spans(&text).0 {
            let changed = format!("{}q9q{}", &text[..span.start], &text[span.end..]);
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if shown(&changed, kind).is_ok_and(|after| after == before) {
                lost.push(format!("{name}:{}: {}", text[..span.start].lines().count(), &text[span.start..span.end]));
            }
        }
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}

/// A key that nobody knows is told, wherever it stands.
#[test]
fn no_unknown_key_gets_lost() {
    let mut lost = Vec::new();
    for (path, kind, text) in samples() {
        for span in spans(&text).1 {
            let line = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
            let before = text[line..span.start].trim_end();
            let more = if before.ends_with(['{', ',']) {
                "zz_unknown: 7, ".to_owned()
            } else {
                format!("zz_unknown: 7\n{}", " ".repeat(span.start - line))
            };
            let changed = format!("{}{more}{}", &text[..span.start], &text[span.start..]);
            let got = shown(&changed, kind).unwrap_or_else(|error| panic!("{error}\n{changed}"));
            if !got.contains("zz_unknown") {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                lost.push(format!("{name}:{}: {}", text[..span.start].lines().count(), &text[span.start..span.end]));
            }
        }
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}

/// Where texts stand, each place once, and the first keys of maps.
fn spans(text: &str) -> (Vec<Span>, Vec<Span>) {
    fn walk(node: &Node, texts: &mut Vec<Span>, keys: &mut Vec<Span>) {
        match &node.value {
            Shape::Scalar { .. } if node.span.end > node.span.start => texts.push(node.span),
            Shape::Null | Shape::Scalar { .. } => {}
            Shape::List(elements) => elements.iter().for_each(|element| walk(element, texts, keys)),
            Shape::Map(entries) => {
                keys.extend(entries.first().map(|entry| entry.key.span));
                entries.iter().for_each(|entry| walk(&entry.value, texts, keys));
            }
        }
    }
    let (mut texts, mut keys) = (Vec::new(), Vec::new());
    let (_, nodes) = manifest::documents(text.as_bytes(), "ci.yml").unwrap();
    nodes.iter().for_each(|node| walk(node, &mut texts, &mut keys));
    // A block of lines begins with its mark, which is not the text.
    texts.retain(|span| !text[span.start..span.end].contains('\n') && !text[..span.start].ends_with('\n'));
    for found in [&mut texts, &mut keys] {
        found.sort();
        found.dedup();
    }
    (texts, keys)
}

#[test]
fn whose_file_it_is() {
    let check = |path: &str, text: &str, expect: Option<Kind>| {
        let got = import(text.as_bytes(), Path::new(path), None);
        assert_eq!(got.as_ref().ok().map(|got| got.kind), expect, "{path}: {text}: {got:?}");
    };
    let job = "a: {script: [x]}";
    check("x/.gitlab-ci.yml", job, Some(Kind::Gitlab));
    check("ci.yml", job, Some(Kind::Gitlab));
    check(".github/workflows/ci.yml", "jobs: {a: {steps: [{run: x}]}}", Some(Kind::Github));
    check("ci.yml", "on: push\njobs: {a: {steps: [{run: x}]}}", Some(Kind::Github));
    check(".travis.yml", "language: go", Some(Kind::Travis));
    check("ci.yml", "language: go", Some(Kind::Travis));
    check("ci.yml", "steps: [{name: a, image: x, commands: [x]}]", Some(Kind::Woodpecker));
    check("ci.yml", "kind: pipeline\nsteps: [{name: a, image: x, commands: [x]}]", Some(Kind::Drone));
    check("ci.yml", "a: 1", None);
    check("ci.yml", "", None);
}

#[test]
fn what_is_no_file_of_theirs() {
    let told = |text: &str, kind| import(text.as_bytes(), Path::new("ci.yml"), kind).unwrap_err().to_string();
    assert!(told("a: 1", None).contains("say whose it is with --from"));
    assert!(told("a: 1", Some(Kind::Gitlab)).contains("holds no jobs"));
    assert!(told("[", None).contains("not YAML"));
    assert!(told("a: 1", Some(Kind::Travis)).contains("holds no language"));
    assert!(told("steps: []", Some(Kind::Drone)).contains("holds no steps"));
}

/// No file makes it panic, whatever is changed in it.
#[test]
fn anything_can_be_read() {
    for (_, kind, text) in samples() {
        let others = ["[]", "~", "{a: {b: c}}", "'${{$'", "[[x]]", "{}", "'$'", "true"];
        for (span, instead) in spans(&text).0.into_iter().zip(others.into_iter().cycle()) {
            let changed = format!("{} {instead}{}", &text[..span.start], &text[span.end..]);
            // Whether it is understood does not matter here.
            shown(&changed, kind).ok();
        }
    }
}

/// Each of these must stand in the manifest or its notes; after `!`, must not.
#[track_caller]
fn check(kind: Kind, text: &str, parts: &[&str]) {
    let got = shown(text, kind).unwrap_or_else(|error| panic!("{error}\n{text}"));
    for part in parts {
        let (absent, part) = part.strip_prefix('!').map_or((false, *part), |part| (true, part));
        assert_eq!(!got.contains(part), absent, "{part:?} in\n{got}");
    }
}

/// Shapes that real files have, each with what must stand in the manifest.
#[test]
fn shapes_of_real_files() {
    let job = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n";
    check(
        Kind::Github,
        &format!("{job}    env:\n      FLAGS:\n      X: 1\n    steps: [{{run: make}}]\n"),
        &["- FLAGS=\n", "- X=1\n", "!not carried over"],
    );
    check(
        Kind::Woodpecker,
        "variables: [&p [a, b]]\nsteps:\n  t:\n    image: x\n    commands: make\n    when:\n      branch: ${CI_REPO_DEFAULT_BRANCH}\n      \
         path:\n        - <<: *p\n        - c\n",
        &["path: [a, b, c]", "branch: main", "is taken for `main`"],
    );
    check(
        Kind::Gitlab,
        "variables: {TOP: 'v-$CI_COMMIT_SHORT_SHA'}\na:\n  variables: {TAG: '$TOP/x'}\n  script: echo $TAG\n",
        &[
            "export TOP=\"v-$CI_COMMIT_SHORT_SHA\"\n    - export TAG=\"$TOP/x\"\n    - echo $TAG",
            "- export CI_COMMIT_SHORT_SHA=",
            "!environment",
            "!look at",
        ],
    );
    let travis = "language: python\nscript: make\njobs:\n  include:\n    - {stage: test, python: '3.8'}\n    - {stage: Test, python: pypy3}\n";
    check(
        Kind::Travis,
        &format!("{travis}    - {{stage: coverage, python: '3.9', script: codecov}}\n"),
        &[
            "stages: [test, coverage]",
            "- {python: '3.8'}",
            "look at: `pypy3` in the matrix",
            "image: python:3.9-bookworm",
        ],
    );
    check(
        Kind::Travis,
        "language: go\nscript: make\njobs: {include: [{name: only, script: go vet}]}\n",
        &["stages: [only]", "!- make"],
    );
}

/// What is written is a manifest, but for what a note says is to be written by hand.
#[test]
fn every_import_is_a_manifest() {
    let mut wrong = Vec::new();
    for (path, kind, text) in samples() {
        let got = import(text.as_bytes(), Path::new("ci.yml"), Some(kind)).unwrap();
        if let Err(error) = manifest::read(got.manifest.as_bytes(), ".buildr.yml") {
            wrong.push(format!("{}\n{error}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
