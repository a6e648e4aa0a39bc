//! A scenario: its files, and what must come of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::told::{Told, find};
use super::ways::Way;

/// A manifest and what it should do.
pub(crate) struct Scenario {
    /// Path in the project, and contents.
    pub(crate) files: Vec<(String, String)>,
    pub(crate) expected: Expected,
}

/// What `expected.toml` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    /// `passed`, `failed`, `errored` or `cancelled`.
    outcome: String,
    /// What the build's sentence holds.
    #[serde(default)]
    message: Vec<String>,
    /// The keys of all its jobs.
    jobs: Option<Vec<String>>,
    /// How stages end: by their name, or as `JOB/STAGE`.
    #[serde(default)]
    stages: toml::Table,
    /// What their logs hold.
    #[serde(default)]
    says: toml::Table,
    /// What their logs do not hold.
    #[serde(default)]
    lacks: toml::Table,
    /// How often a stage was tried.
    #[serde(default)]
    tries: BTreeMap<String, u32>,
    /// What reports said of a stage's tests.
    #[serde(default)]
    tests: BTreeMap<String, Counts>,
    /// The covered lines of a stage, in hundredths of a per cent.
    #[serde(default)]
    coverage: BTreeMap<String, u32>,
    /// What the build is given.
    #[serde(default)]
    pub(crate) inputs: BTreeMap<String, String>,
    /// Gates that a person opens on the farm, with what that one fills in.
    #[serde(default)]
    pub(crate) approve: BTreeMap<String, BTreeMap<String, String>>,
    /// Gates that a person refuses on the farm.
    #[serde(default)]
    pub(crate) reject: Vec<String>,
}

/// What a stage's tests came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

impl Scenario {
    pub(crate) fn read(folder: &Path) -> Self {
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut files = vec![(".buildr.yml".to_owned(), text(&folder.join("buildr.yml")))];
        let root = folder.join("files");
        let mut open: Vec<PathBuf> = root.is_dir().then(|| root.clone()).into_iter().collect();
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    files.push((path.strip_prefix(&root).unwrap().to_string_lossy().into_owned(), text(&path)));
                }
            }
        }
        let expected = toml::from_str(&text(&folder.join("expected.toml")));
        let expected = expected.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        Self { files, expected }
    }

    /// What is not as it should be.
    pub(crate) fn compare(&self, told: &Told, way: Way) -> Vec<String> {
        let Expected { outcome, message, jobs, tries, tests, coverage, .. } = &self.expected;
        let mut wrong = Vec::new();
        if told.outcome != *outcome {
            wrong.push(format!("it should be {outcome}, and {}: {}", told.outcome, told.message));
        }
        for part in message {
            if !told.message.contains(part) {
                wrong.push(format!("its sentence lacks {part:?}: {}", told.message));
            }
        }
        if let Some(jobs) = jobs {
            let mut jobs = jobs.clone();
            jobs.sort();
            if told.jobs != jobs {
                wrong.push(format!("its jobs should be {jobs:?} and are {:?}", told.jobs));
            }
        }
        for (stage, expect) in table::<String>(&self.expected.stages, way) {
            let got = find(&told.stages, &stage);
            if got.map(String::as_str) != Some(expect.as_str()) {
                wrong.push(format!("{stage} should be {expect} and is {got:?}"));
            }
        }
        let log = |stage: &str| find(&told.logs, stage).cloned().unwrap_or_default();
        for (stage, parts) in table::<Vec<String>>(&self.expected.says, way) {
            wrong.extend(
                parts
                    .iter()
                    .filter(|part| !log(&stage).contains(*part))
                    .map(|part| format!("{stage} says no {part:?}")),
            );
        }
        for (stage, parts) in table::<Vec<String>>(&self.expected.lacks, way) {
            wrong.extend(
                parts.iter().filter(|part| log(&stage).contains(*part)).map(|part| format!("{stage} says {part:?}")),
            );
        }
        for (stage, expect) in tries {
            let got = 1 + find(&told.tries, stage).copied().unwrap_or(0);
            if got != *expect {
                wrong.push(format!("{stage} should be tried {expect} times and was {got} times"));
            }
        }
        for (stage, expect) in tests {
            let got = find(&told.tests, stage);
            if got != Some(expect) {
                wrong.push(format!("the tests of {stage} should be {expect:?} and are {got:?}"));
            }
        }
        for (stage, expect) in coverage {
            let got = find(&told.coverage, stage);
            if got != Some(expect) {
                wrong.push(format!("the coverage of {stage} should be {expect} and is {got:?}"));
            }
        }
        wrong
    }
}

/// A table with what holds in one of the ways alone.
fn table<T: DeserializeOwned>(table: &toml::Table, way: Way) -> Vec<(String, T)> {
    let mut all: Vec<(String, T)> = Vec::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(more) if key == way.kind() => {
                all.extend(more.iter().map(|(key, value)| (key.clone(), value.clone().try_into().unwrap())));
            }
            toml::Value::Table(_) if ["local", "farm"].contains(&key.as_str()) => {}
            value => all.push((key.clone(), value.clone().try_into().unwrap())),
        }
    }
    all
}
