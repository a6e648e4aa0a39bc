//! R8: `when`, with the reason of what does not run.

use super::*;

/// Why a stage with this `when` does not run; nothing when it does.
fn reason(when: &str, facts: &Facts) -> String {
    let planned = planned(&format!("a: {{script: x, when: {when}}}"), facts);
    planned.build.skipped.first().map(|skipped| skipped.reason.clone()).unwrap_or_default()
}

#[track_caller]
fn runs(when: &str, facts: &Facts) {
    assert_eq!(reason(when, facts), "", "{when}");
}

#[track_caller]
fn skips(when: &str, facts: &Facts, expect: &str) {
    assert_eq!(reason(when, facts), format!("when: {expect}"), "{when}");
}

fn pull_request(target: &str) -> Facts {
    Facts {
        target: Some(target.parse().unwrap()),
        pull_request: Some(7),
        ..Facts::of_branch(TriggerKind::PullRequest, "feature".parse().unwrap())
    }
}

fn local() -> Facts {
    Facts::of_branch(TriggerKind::Local, "feature/x".parse().unwrap())
}

fn changed(files: &[&str]) -> Facts {
    Facts { changed: Some(files.iter().map(|&file| file.to_owned()).collect()), ..push() }
}

#[test]
fn branches() {
    runs("main", &push());
    runs("{branch: [main, 'release/*']}", &push());
    runs("{branch: '!other'}", &push());
    skips("{branch: main}", &local(), "branch main, and this is feature/x");
    skips("{branch: 'feature/*', event: push}", &local(), "event push, and this is local");
    runs("{branch: 'feature/*'}", &local());
    skips("{branch: ['*', '!main']}", &push(), "branch *, !main, and this is main");
    skips("{branch: main}", &tag("v1"), "branch main, and this is a tag, which has no branch");
    skips("{branch: '!main'}", &tag("v1"), "branch !main, and this is a tag, which has no branch");
    skips("{branch: main}", &Facts::new(TriggerKind::Local), "branch main, and this is on no branch");
}

#[test]
fn pull_requests() {
    let why = "branch main, and this is a pull request, which only `event: pull_request` means";
    skips("{branch: main}", &pull_request("main"), why);
    skips("{branch: feature}", &pull_request("main"), &why.replace("main, and", "feature, and"));
    runs("{branch: main, event: pull_request}", &pull_request("main"));
    runs("{branch: main, event: [push, pull_request]}", &pull_request("main"));
    let why = "branch feature, and this pull request is to go into main";
    skips("{branch: feature, event: pull_request}", &pull_request("main"), why);
    runs("{event: pull_request}", &pull_request("main"));
    runs("{path: x}", &pull_request("main"));
    runs("{ref: refs/pull/7/*}", &pull_request("main"));
}

#[test]
fn tags_refs_and_events() {
    runs("{tag: 'v*'}", &tag("v1.2"));
    skips("{tag: 'v*'}", &tag("x"), "tag v*, and this is x");
    skips("{tag: 'v*'}", &push(), "tag v*, and this is no tag");
    runs("{event: tag}", &tag("x"));
    runs("{ref: refs/heads/main}", &push());
    runs("{ref: 'refs/tags/**'}", &tag("v1"));
    skips("{ref: 'refs/tags/**'}", &push(), "ref refs/tags/**, and this is refs/heads/main");
    for (event, facts) in [("schedule", TriggerKind::Schedule), ("upstream", TriggerKind::Upstream)] {
        runs(&format!("{{event: {event}}}"), &Facts::new(facts));
    }
    skips("{event: [tag, schedule]}", &push(), "event tag, schedule, and this is push");
}

#[test]
fn paths() {
    runs("{path: 'docs/**'}", &changed(&["a", "docs/b/c.md"]));
    skips("{path: 'docs/**'}", &changed(&["a"]), "path docs/**, and no such file has changed");
    skips("{path: 'docs/**'}", &changed(&[]), "path docs/**, and no such file has changed");
    skips(
        "{path: [docs/**, '!docs/private/**']}",
        &changed(&["docs/private/x"]),
        "path docs/**, !docs/private/**, and no such file has changed",
    );
    runs("{path: '!docs/**'}", &changed(&["docs/x", "src/y"]));
    // Nobody knows from where to count.
    runs("{path: 'docs/**'}", &push());
}

#[test]
fn lists_are_or_and_maps_are_and() {
    runs("[{branch: main, event: push}, {tag: 'v*'}]", &push());
    runs("[{branch: main, event: push}, {tag: 'v*'}]", &tag("v1"));
    skips(
        "[{branch: main, event: push}, {tag: 'v*'}]",
        &local(),
        "event push, and this is local; or tag v*, and this is no tag",
    );
}

#[test]
fn platforms() {
    let of = |platform: &str, when: &str| {
        let planned = planned(&format!("a: {{script: x, platform: {platform}, when: {{platform: {when}}}}}"), &push());
        planned.jobs.len() == 1
    };
    assert!(of("linux/arm64", "linux/*") && of("linux/arm64", "linux/arm64") && !of("linux/arm64", "'*/amd64'"));
    runs("{platform: linux/amd64}", &push());
    skips("{platform: linux/arm64}", &push(), "platform linux/arm64, and this is linux/amd64");
}

#[test]
fn expressions() {
    for (holds, fails) in [
        ("event == \"push\"", "event == \"tag\""),
        ("branch.startsWith(\"ma\") && tag == \"\"", "branch.endsWith(\"x\")"),
        ("ref == \"refs/heads/main\"", "ref.matches(\"^refs/tags/\")"),
        ("target == \"\"", "!(target == \"\")"),
        ("branch in [\"main\", \"dev\"]", "branch in [\"dev\"]"),
        ("env.MODE == \"fast\"", "env.MODE != \"fast\""),
        ("\"MODE\" in env", "\"OTHER\" in env"),
        ("has(env.MODE)", "has(env.OTHER) && env.OTHER == \"x\""),
        ("changed.exists(f, f.endsWith(\".rs\"))", "changed.all(f, f.startsWith(\"docs/\"))"),
        ("size(changed) == 2", "size(changed) > 2"),
        ("event == \"push\" ? true : false", "false"),
    ] {
        let facts = changed(&["src/a.rs", "docs/b"]);
        let of = |text: &str| {
            let text = format!("environment: {{vars: [MODE=fast]}}\na: {{script: x, when: {{if: '{text}'}}}}");
            planned(&text, &facts).jobs.len() == 1
        };
        assert!(of(holds), "{holds}");
        assert!(!of(fails), "{fails}");
    }
    skips("{if: 'branch == \"dev\"'}", &push(), "if \"branch == \\\"dev\\\"\", which does not hold");
    // Nobody knows what has changed.
    runs("{if: 'changed.exists(f, f == \"x\")'}", &push());
    let cell = "a: {script: x, matrix: {os: [x, y]}, when: {if: 'matrix.os == \"x\"'}}";
    assert_eq!(drawn(&planned(cell, &push())).lines().next(), Some("a (os=x): a"));
    let inputs = Facts { inputs: vec![Variable::new("REGION", "eu")], ..Facts::new(TriggerKind::Manual) };
    let text = "inputs: {REGION: [eu, us]}\na: {script: x, when: {if: 'env.REGION == \"us\"'}}";
    assert_eq!(planned(text, &inputs).jobs.len(), 0);
}

#[test]
fn expressions_that_cannot_be_meant() {
    let check = |expression: &str, expect: &str| {
        let text = format!("a:\n  matrix: {{os: [x, y]}}\n  script: x\n  when:\n    if: {expression}\n");
        let refused = refused(&text, &push());
        let lines: Vec<&str> = refused.lines().collect();
        let got = format!("{} |{}", lines[0].strip_prefix(".buildr.yml:5:").unwrap(), lines[4]);
        assert_eq!(got, expect, "{expression}\n{refused}");
    };
    check("brnach == \"x\"", "9: there is no name `brnach` |  = did you mean `branch`?");
    check("false && brnach == \"x\"", "18: there is no name `brnach` |  = did you mean `branch`?");
    check(
        "event == 1",
        "15: these can never be equal: this is a text and a number |  = write it like `event == \"push\" && branch != \"main\"`; values are texts, in quotes",
    );
    check("branch", "9: this is a value, and `if` takes a condition |  = compare it, as in `branch == \"main\"`");
    check("matrix.so == \"x\"", "15: there is no axis `so` here |  = did you mean `os`?");
    check(
        "env.NOPE == \"x\"",
        "12: the manifest sets no variable `NOPE` |  = ask for it by `has(env.NOPE) && …` when it may be missing",
    );
    check(
        "event && true",
        "9: `&&`, `||` and `!` are between conditions: this is a text |  = write it like `event == \"push\" && branch != \"main\"`; values are texts, in quotes",
    );
    check("branch.startWith(\"x\")", "25: there is no function `startWith` |  = did you mean `startsWith`?");
    check(
        "changed.contains(\"x\")",
        "25: `contains` asks a text about a text: this is a list and a text |  = write `branch.contains(\"…\")`; of a list, `\"…\" in changed`",
    );
    check(
        "changed.all(a, changed.all(b, a == b))",
        "35: `all`, `exists` and their like cannot stand within each other |  = ask about each of a list once, and join the answers by `&&` and `||`",
    );
}

#[test]
fn expressions_have_bounds() {
    for text in [
        "((((((((((((((((((((((((((((((((((((((((((((((((((((((((true))))))))))))))))))))))))))))))))))))))))))))))))))))))))".to_owned(),
        format!("{}true", "!".repeat(1500)),
        format!("{}true{}", "[".repeat(900), "]".repeat(900)),
        "(".repeat(1900),
        format!("true{}", " && true".repeat(240)),
        format!("branch == \"\"{}", " + branch".repeat(210)),
        format!("true || {}", "branch == \"x\" || ".repeat(200)),
        "\u{0}".to_owned(),
        "a.b.c.d ? : ]".to_owned(),
        ">{{{{{?[(((".to_owned(),
        "1 / 0 == 1".to_owned(),
        "9223372036854775807 + 1 > 0".to_owned(),
        "branch.matches(\"(\")".to_owned(),
    ] {
        // Whatever comes of it, it comes to an end.
        let mut manifest = read("a: {script: x, when: {if: 'true'}}");
        for condition in manifest.stages[0].when.iter_mut().flat_map(|when| &mut when.any) {
            condition.expression.as_mut().unwrap().value.clone_from(&text);
        }
        compile_one(&manifest, &push()).ok();
    }
    let long = format!("a: {{script: x, when: {{if: '{} true'}}}}", "true && ".repeat(300));
    assert!(refused(&long, &push()).contains("this expression is 2405 bytes long; it may have 2000"));
}

#[test]
fn expressions_take_no_time() {
    // A large regular expression is made once, not for each file.
    let text = r#"a: {script: x, when: {if: 'changed.exists(f, f.matches("^(\\w{20}){3}x"))'}}"#;
    let files: Vec<String> = (0..1000).map(|number| format!("src/{number}.rs")).collect();
    let facts = Facts { changed: Some(files), ..push() };
    assert_eq!(planned(text, &facts).jobs.len(), 0);
    // What is asked again has been answered.
    let cells: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let stages: String =
        (0..30).map(|number| format!("s{number}: {{script: x, when: {{if: 'branch == \"o\"'}}}}\n")).collect();
    let wide = format!("matrix: {{n: [{}]}}\n{stages}", cells.join(", "));
    assert_eq!(planned(&wide, &push()).build.skipped.len(), 3000);
}

#[test]
fn expressions_that_take_long_are_ended_and_told_once() {
    let files: Vec<String> = (0..30_000).map(|number| format!("src/{number}.rs")).collect();
    let facts = Facts { changed: Some(files), ..push() };
    let manifest =
        read("a: {script: x, when: {if: 'changed.exists(f, !(f in changed))'}}\nb: {script: x, when: {if: 'true'}}");
    let clock = Clock::new(&|| false);
    clock.spend(clock::LONGEST_ASKED - std::time::Duration::from_millis(100));
    let told = compile_here(&[(None, &manifest)], &Judge::new(&facts, &clock)).unwrap_err().to_string();
    assert!(told.starts_with(".buildr.yml:1:27: to judge all expressions of this build up to here"), "{told}");
    assert_eq!(told.matches(".buildr.yml:").count(), 1, "{told}");
}

#[test]
fn a_plan_that_nobody_wants_is_not_made() {
    let project = crate::manifest::Project {
        pipelines: vec![crate::manifest::Pipeline {
            name: None,
            manifest: read("a: {script: x}"),
            included: Vec::new(),
        }],
    };
    assert!(matches!(compile_wanted(&project, &push(), &|| true), Err(PlanError::Stopped)));
    assert!(compile_wanted(&project, &push(), &|| false).is_ok());
}

#[test]
fn conditions_that_no_build_meets() {
    let check = |when: &str, expect: &str| {
        let text = format!("a: {{script: x, matrix: {{os: [x, y]}}, when: {when}}}");
        let told = warnings(&text);
        assert!(told.contains(expect) && told.is_empty() == expect.is_empty(), "{when}\n{told}");
    };
    check("{branch: main, tag: v1}", "this never holds: a tag has no branch");
    check("{branch: main, event: tag}", "this never holds: a tag has no branch");
    check("{tag: v1, event: push}", "this never holds: only the event `tag` has a tag");
    check("{matrix: {os: z}}", "this never holds: no value of \"os\" is z");
    check("{matrix: {os: x}}", "");
    check("{tag: v1, event: [push, tag]}", "");
    check("[{branch: main}, {tag: v1}]", "");
}

#[test]
fn globs_that_are_none() {
    let told = refused("a: {script: x, when: {branch: 'a[', event: tag}}", &push());
    assert!(told.starts_with(".buildr.yml:1:31: \"a[\" is not a glob"), "{told}");
    // What would take the machine's memory or stack is not looked at.
    for (glob, expect) in [
        (format!("{}a{}", "{".repeat(300), "}".repeat(300)), "braces stand 300 deep within each other in this glob"),
        ("{".repeat(300_000), "this glob is 300000 bytes long; it may have 1000"),
        ("?".repeat(400_000), "this glob is 400000 bytes long; it may have 1000"),
    ] {
        for says in
            [format!("when: {{branch: '{glob}'}}"), format!("matrix: {{os: [a, b], exclude: {{os: '{glob}'}}}}")]
        {
            let told = refused(&format!("a: {{script: x, {says}}}"), &push());
            assert!(told.contains(expect), "{}", &told[..told.len().min(300)]);
        }
    }
}
