//! The manual holds: each example in it is a manifest that is read and planned; what it says of jobs, of reasons and of
//! bounds is what comes of it; each key of the language has a place in it; each link leads somewhere.

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
            seen += 1;
            if let Some(why) = wrong(&example) {
                panic!("{}:{line}: {why}", path.display());
            }
        }
    }
    assert!(seen > 40, "{seen} examples were found");
}

/// A page without its breaks of lines.
fn page(name: &str) -> String {
    let text = fs::read_to_string(docs().join("manual").join(name)).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a page says, which is what comes of the manifest.
#[track_caller]
fn says(name: &str, said: &str) {
    assert!(page(name).contains(said), "{name} does not say: {said}");
}

fn planned(text: &str, facts: &Facts) -> Result<plan::Planned, String> {
    let reading = manifest::read(text.as_bytes(), "f.yml").map_err(|error| error.to_string())?;
    plan::compile_one(&reading.manifest, facts).map_err(|error| error.to_string())
}

/// The first place in the page of the example that begins so, planned.
fn example(name: &str, holds: &str, facts: &Facts) -> plan::Planned {
    let text = fs::read_to_string(docs().join("manual").join(name)).unwrap();
    let found = examples(&text).into_iter().find(|(_, example)| example.contains(holds));
    planned(&found.unwrap_or_else(|| panic!("{name} has no example with {holds}")).1, facts).unwrap()
}

#[test]
fn jobs_have_the_names_that_are_said() {
    let [push, ..] = occasions();
    for (text, expect) in [
        ("a: {script: x}", "build"),
        ("stages: [a, deploy]\na: {script: x}\ndeploy: {manual: true, script: x}", "deploy"),
        ("stages: [build, unit, b]\nbuild: {script: x}\nunit: {script: x}\nb: {agent: gpu, script: x}", "build..unit"),
        ("unit: {matrix: {rust: ['1.90'], os: [alpine]}, script: x}", "unit (rust=1.90, os=alpine)"),
        ("unit: {parallel: 5, script: x}", "unit 2/5"),
    ] {
        let jobs = planned(text, &push).unwrap().jobs;
        assert!(jobs.iter().any(|job| job.key.as_str() == expect), "{text}: {jobs:?}");
        says("jobs.md", &format!("`{expect}` |"));
    }
    let whole = fs::read_to_string(docs().join("manual/pipelines.md")).unwrap();
    let (_, alone) = examples(&whole).swap_remove(0);
    let two = "stages: [build, unit]\nbuild: {script: x}\nunit: {agent: gpu, script: x}";
    let changed = || Some(vec!["web/a.js".to_owned()]);
    for (web, name, said) in [(two, "jobs.md", "| `web/unit` |"), (alone.as_str(), "pipelines.md", "`web/build`")] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".buildr")).unwrap();
        fs::write(folder.path().join(".buildr.yml"), "b: {script: x}").unwrap();
        fs::write(folder.path().join(".buildr/web.yml"), web).unwrap();
        let project = manifest::load_project(folder.path(), &manifest::NoIncludes).unwrap().project;
        let jobs = plan::compile_project(&project, &Facts { changed: changed(), ..push.clone() }).unwrap().jobs;
        assert!(jobs.iter().any(|job| said.contains(&format!("`{}`", job.key))), "{said}: {jobs:?}");
        says(name, said);
    }
    // Only one of the two is another machine's here.
    let labels = |facts: &Facts| {
        let jobs = planned("a: {platform: linux/arm64, script: x}", facts).unwrap().jobs;
        jobs[0].labels.to_string()
    };
    says("jobs.md", &format!("asks for the label `{}`; `linux/amd64`, the usual one, asks for none", labels(&push)));
    assert_eq!(labels(&Facts { platform: "linux/arm64".to_owned(), ..push }), "");
}

#[test]
fn reasons_read_as_they_are_said() {
    let [push, _, local] = occasions();
    let skipped = |planned: plan::Planned, stage: &str| {
        let whole = planned.build.skipped.iter().map(|skipped| (&skipped.stage, Some(&skipped.reason)));
        let within = planned.jobs.iter().flat_map(|job| &job.plan.stages).map(|it| (&it.name, it.skip.as_ref()));
        let found = whole.chain(within).find(|(name, _)| name.as_str() == stage);
        found.and_then(|(_, reason)| reason).unwrap_or_else(|| panic!("{stage} is not skipped")).clone()
    };
    says("when.md", &format!("`{}`", skipped(example("when.md", "deploy:", &local), "deploy")));
    let circle =
        planned("stages: [a, c]\na: {needs: [c], script: x}\nc: {script: x}", &push).unwrap_err().replace('`', "");
    let said = "a needs c, c comes after a in stages";
    assert!(circle.contains(said), "{circle}");
    says("needs.md", &format!("`{said}`"));
    let aside = Facts { branch: Some("feature/x".parse().unwrap()), ..push };
    let text = "stages: [docs, b]\ndocs: {when: main, script: x}\nb: {needs: [docs], script: x}";
    says("needs.md", &format!("`{}`", skipped(planned(text, &aside).unwrap(), "b")));
}

/// What is one too many is refused, and so many are not.
#[test]
fn bounds_are_those_that_are_said() {
    let [push, ..] = occasions();
    let many = |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<String>();
    let stages = |count| many(count, &|number| format!("s{number}: {{script: x}}\n"));
    let variables =
        |count| format!("b: {{script: x}}\nenvironment: [{}]", many(count, &|number| format!("V{number}=1, ")));
    let jobs = |count| format!("b: {{matrix: {{n: [{}]}}, script: x}}", many(count, &|number| format!("{number}, ")));
    let priority = |count| format!("priority: {count}\nb: {{script: x}}");
    let expression = |count| format!("b: {{when: {{if: 'event == \"{}\"'}}, script: x}}", "x".repeat(count - 11));
    let name = |count| format!("{}: {{script: x}}", "n".repeat(count));
    type Bound<'a> = (&'a str, &'a str, usize, &'a dyn Fn(usize) -> String);
    let bounds: [Bound<'_>; 7] = [
        ("jobs.md", "at most 1000 stages", 1000, &stages),
        ("jobs.md", "at most 2000 variables", 2000, &variables),
        ("jobs.md", "at most 256 jobs", 256, &jobs),
        ("matrix.md", "at most 256 jobs", 256, &jobs),
        ("concurrency.md", "from -100 to 100", 100, &priority),
        ("when.md", "at most 2000 bytes", 2000, &expression),
        ("scripts.md", "1 to 63 letters", 63, &name),
    ];
    for (file, said, most, of) in bounds {
        says(file, said);
        if let Err(why) = planned(&of(most), &push) {
            panic!("{said}: {why}");
        }
        assert!(planned(&of(most + 1), &push).is_err(), "{said}: {} are let through", most + 1);
    }
    let (below, above) = ("b: {script: x}\npriority: -100", "b: {script: x}\npriority: -101");
    assert!(planned(below, &push).is_ok() && planned(above, &push).is_err());
}

/// Files of a project, of which there is a bound to how many.
#[test]
fn files_are_as_many_as_is_said() {
    let build = |files: &[(String, String)]| {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".buildr")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        manifest::load_project(folder.path(), &manifest::NoIncludes).map(drop).map_err(|error| error.to_string())
    };
    let file = |name: String| (name, "b: {script: x}".to_owned());
    let pipelines = |count: usize| build(&(0..count).map(|at| file(format!(".buildr/p{at}.yml"))).collect::<Vec<_>>());
    says("pipelines.md", "has at most 64.");
    assert_eq!(pipelines(64), Ok(()));
    assert!(pipelines(65).is_err());
    let included = |count: usize| {
        let names: Vec<String> = (1..count).map(|at| format!("f{at}.yml")).collect();
        let first = (".buildr.yml".to_owned(), format!("include: [{}]\nb: {{script: x}}", names.join(", ")));
        build(&names.into_iter().map(|name| (name, ".t: {script: x}".to_owned())).chain([first]).collect::<Vec<_>>())
    };
    says("include.md", "At most 50 files");
    assert_eq!(included(50), Ok(()));
    assert!(included(51).is_err());
    // Each includes the next.
    let nested = |count: usize| {
        let one = |at: usize| {
            let name = if at == 0 { ".buildr.yml".to_owned() } else { format!("f{at}.yml") };
            let next = if at < count { format!("include: f{}.yml\n", at + 1) } else { String::new() };
            (name, format!("{next}b: {{script: x}}"))
        };
        build(&(0..=count).map(one).collect::<Vec<_>>())
    };
    says("include.md", "8 files one in the other");
    assert_eq!(nested(8), Ok(()));
    assert!(nested(9).is_err());
}

/// Spans and sizes that stand in the manual, and those that hold.
#[test]
fn spans_are_those_that_are_said() {
    let minutes = |span: std::time::Duration| span.as_secs() / 60;
    assert_eq!(minutes(buildr::runner::STAGE_TIMEOUT), 60);
    says("failures.md", "(an hour for a stage)");
    assert_eq!(minutes(buildr::executor::AFTER_TIMEOUT), 1);
    says("after.md", "each for a minute at most");
    assert_eq!(protocol::report::MAX_SUMMARY_BYTES, 64 << 10);
    says("handing-on.md", "Markdown of 64 KiB at most");
    assert_eq!(protocol::plan::MAX_PLAN_BYTES, 1 << 20);
    says("jobs.md", "its plan at most 1 MiB");
    let ready = |text: &str| {
        let [push, ..] = occasions();
        let jobs = planned(text, &push).unwrap().jobs;
        let of = |service: &protocol::plan::Service| service.ready_timeout_ms;
        jobs[0].plan.stages[0].services.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(ready("b: {services: {db: postgres:17}, script: x}"), [60_000]);
    says("services.md", "`ready_timeout` (a minute)");
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
