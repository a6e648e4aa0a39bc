//! Cells of matrices and shards.

use super::*;
use insta::assert_snapshot;

/// The cells of a stage's matrix.
#[track_caller]
fn cells(matrix: &str, facts: &Facts, expect: &[&str]) {
    let planned = planned(&format!("t: {{script: x, matrix: {matrix}}}"), facts);
    let got: Vec<&str> = planned.jobs.iter().map(|job| job.key.as_str()).collect();
    let expect: Vec<String> = expect.iter().map(|cell| format!("t ({cell})")).collect();
    assert_eq!(got, expect, "{matrix}");
}

#[test]
fn each_combination_is_a_cell() {
    cells("{os: [a, b]}", &push(), &["os=a", "os=b"]);
    cells("{os: [a, b], v: ['1', '2']}", &push(), &["os=a, v=1", "os=a, v=2", "os=b, v=1", "os=b, v=2"]);
    cells("{v: [1.10]}", &push(), &["v=1.10"]);
}

#[test]
fn some_are_left_out() {
    cells("{os: [a, b], v: [1, 2], exclude: [{os: a, v: 1}]}", &push(), &["os=a, v=2", "os=b, v=1", "os=b, v=2"]);
    cells("{os: [a, b], v: [1, 2], exclude: [{os: a}]}", &push(), &["os=b, v=1", "os=b, v=2"]);
    cells("{os: [aa, ab, b], exclude: {os: a*}}", &push(), &["os=b"]);
    cells("{os: [a, b], exclude: [{os: a, branch: 'release/*'}]}", &push(), &["os=a", "os=b"]);
    cells("{os: [a, b], exclude: [{os: a, branch: 'release/*'}]}", &on("release/1"), &["os=b"]);
    cells("{os: [a, b], exclude: [{os: a, event: push}, {tag: '*'}]}", &push(), &["os=b"]);
}

#[test]
fn some_are_added_or_extended() {
    cells("{os: [a, b], include: [{os: c}]}", &push(), &["os=a", "os=b", "os=c"]);
    cells("{os: [a, b], include: [{os: b, x: 1}]}", &push(), &["os=a", "os=b, x=1"]);
    cells("{os: [a, b], include: [{os: b, x: 1}, {os: b, x: 2}]}", &push(), &["os=a", "os=b, x=2"]);
    cells(
        "{os: [a, b], include: [{os: c, x: 1}, {os: c, x: 2}]}",
        &push(),
        &["os=a", "os=b", "os=c, x=1", "os=c, x=2"],
    );
    cells(
        "{os: [a, b], v: [1, 2], include: [{v: 2, x: 1}]}",
        &push(),
        &["os=a, v=1", "os=a, v=2, x=1", "os=b, v=1", "os=b, v=2, x=1"],
    );
    cells("{os: [a, b], include: [{x: 1}]}", &push(), &["os=a, x=1", "os=b, x=1"]);
    let short = refused("t: {script: x, matrix: {os: [a, b], v: [1], include: [{v: 3}]}}", &push());
    assert!(short.starts_with(".buildr.yml:1:56: no cell is like this, and it does not say its \"os\""), "{short}");
    cells("{include: [{os: a, v: 1}, {os: b, v: 2}]}", &push(), &["os=a, v=1", "os=b, v=2"]);
    let same = refused("t: {script: x, matrix: {include: [{os: a, v: 1}, {v: 1, os: a}]}}", &push());
    assert!(same.starts_with(".buildr.yml:1:51: the cell (v=1, os=a) is there already"), "{same}");
}

#[test]
fn values_of_a_cell() {
    let text = "\
stages: [t]
image: base
t:
  matrix: {rust-version: ['1.89', '1.90'], max: 1, fail_fast: true}
  image: 'rust:${matrix.rust-version}'
  script: x
";
    let planned = planned(text, &push());
    let second = &planned.jobs[1];
    assert_eq!(second.plan.stages[0].image.as_ref().unwrap().name, "rust:1.90");
    assert_eq!(second.plan.environment, [Variable::new("BUILDR_MATRIX_RUST_VERSION", "1.90")]);
    assert_snapshot!(serde_json::to_string(&(&second.lane, &second.cell)).unwrap(), @r#"[{"name":"t","max":1,"fail_fast":true},[{"axis":"rust-version","value":"1.90"}]]"#);
}

#[test]
fn shards() {
    let planned = planned("t: {script: x, parallel: 3, matrix: {os: [a]}}", &push());
    assert_eq!(drawn(&planned), "t (os=a) 1/3: t\nt (os=a) 2/3: t\nt (os=a) 3/3: t\n");
    let variables: Vec<String> =
        planned.jobs[1].plan.environment.iter().map(|it| format!("{}={}", it.name, it.value)).collect();
    let expect = ["BUILDR_MATRIX_OS=a", "BUILDR_SHARD=2", "BUILDR_SHARDS=3", "CI_NODE_INDEX=2", "CI_NODE_TOTAL=3"];
    assert_eq!(variables, expect);
    assert_eq!(planned.jobs[0].lane.as_ref().map(|lane| (lane.name.as_str(), lane.fail_fast)), Some(("t", false)));
}

#[test]
fn a_matrix_at_the_top_is_the_whole_file_once_per_cell() {
    check(
        "[a, m, b]",
        "matrix: {os: [x, y]}\nm: {script: x, matrix: {v: [1, 2]}}\nfinally: {script: x}",
        "
a (os=x): a
m (os=x, v=1) <- a (os=x): m
m (os=x, v=2) <- a (os=x): m
b (os=x) <- a (os=x), m (os=x, v=1), m (os=x, v=2): b
a (os=y): a
m (os=y, v=1) <- a (os=y): m
m (os=y, v=2) <- a (os=y): m
b (os=y) <- a (os=y), m (os=y, v=1), m (os=y, v=2): b
finally always finally: finally always",
    );
    check("[a, b]", "matrix: {os: [x, y]}", "build (os=x): a b\nbuild (os=y): a b");
    let planned =
        planned("matrix: {os: [x], max: 2}\nimage: 'i:${matrix.os}'\na: {script: x}\nfinally: {script: x}", &push());
    let [a, finally] = planned.jobs.as_slice() else { panic!("{}", drawn(&planned)) };
    assert_eq!(a.plan.environment, [Variable::new("BUILDR_MATRIX_OS", "x")]);
    assert_eq!(a.lane.as_ref().map(|lane| (lane.name.as_str(), lane.max)), Some(("matrix", Some(2))));
    assert_eq!(a.plan.image.name, "i:x");
    assert_eq!((finally.plan.environment.len(), finally.plan.image.name.as_str()), (0, "i:x"));
}

#[test]
fn finally_has_the_values_of_the_first_cell() {
    let text = "\
matrix: {python: ['3.12', '3.13']}
image: python:${matrix.python}-slim
environment: {vars: ['PY=${matrix.python}']}
cache: {paths: [/c], name: 'py-${matrix.python}'}
stages: [test]
test: {script: x}
finally: {script: y, environment: ['MINE=${matrix.python}'], when: {if: 'env.PY == \"3.12\" && matrix.python == \"3.12\"'}}
";
    let planned = planned(text, &push());
    let [.., finally] = planned.jobs.as_slice() else { panic!("{}", drawn(&planned)) };
    assert_eq!(job_line(finally), "finally always finally: finally always");
    assert_eq!(finally.plan.image.name, "python:3.12-slim");
    assert_eq!(finally.plan.environment, [Variable::new("PY", "3.12")]);
    let stage = &finally.plan.stages[0];
    assert_eq!((stage.cache[0].name.as_deref(), &stage.environment[0].value[..]), (Some("py-3.12"), "3.12"));
    assert!(finally.cell.is_empty() && finally.lane.is_none());
    let told = refused(
        "stages: [t]\nt: {script: x, matrix: {os: [a, b]}}\nfinally: {script: 'x', image: 'i:${matrix.os}'}",
        &push(),
    );
    assert!(told.contains("is an axis of another stage's matrix"), "{told}");
}

#[test]
fn cells_are_filtered_each_by_itself() {
    check(
        "[m, b]",
        "m: {script: x, matrix: {os: [x, y]}, when: {matrix: {os: x}}}\nb: {script: x, needs: [m]}",
        "
m (os=x): m
b <- m (os=x)
- m: when: matrix os x, and this is y (os=y)",
    );
    check(
        "[m, b]",
        "m: {script: x, matrix: {os: [x, y], exclude: {branch: main}}}\nb: {script: x, needs: [m]}",
        "
- m: every cell of its matrix is excluded
- b: it needs m, which is skipped (its matrix has no cell)",
    );
}

#[test]
fn no_more_jobs_than_a_build_may_have() {
    let ten = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
    let wide = |axes: &[&str]| {
        let axes: Vec<String> = axes.iter().map(|axis| format!("{axis}: {ten}")).collect();
        format!("t: {{script: x, matrix: {{{}}}}}", axes.join(", "))
    };
    let refused = |text: &str| refused(text, &push()).lines().next().unwrap().to_owned();
    assert_eq!(planned(&wide(&["a", "b"]), &push()).jobs.len(), 100);
    assert_eq!(refused(&wide(&["a", "b", "c"])), ".buildr.yml:1:1: t would be 1000 jobs; a build has at most 256");
    assert_eq!(
        refused(&wide(&["a", "b", "c", "d", "e", "f"])),
        ".buildr.yml:1:16: this matrix has 1000000 cells; a build has at most 256 jobs"
    );
    assert_eq!(
        refused("a: {script: x, matrix: {os: [x, y]}, parallel: 200}"),
        ".buildr.yml:1:48: a would be 400 jobs; a build has at most 256"
    );
    assert!(refused("a: {script: x, parallel: 200}\nb: {script: x, parallel: 200}").contains("more than 256 jobs"));
    let most = planned("a: {script: x, parallel: 128}\nb: {needs: [], script: x, parallel: 128}", &push());
    assert_eq!(most.jobs.len(), 256);
}

#[test]
fn names_of_axes_that_are_not_there() {
    let line = |text: &str| {
        let refused = refused(text, &push());
        let lines: Vec<&str> = refused.lines().collect();
        format!("{} {}", lines[0], lines[4].trim())
    };
    assert_eq!(
        line("t: {script: x, matrix: {rust: [a]}, image: 'i:${matrix.rsut}'}"),
        ".buildr.yml:1:47: there is no axis \"rsut\" here = did you mean `${matrix.rust}`?"
    );
    assert_eq!(
        line("t: {script: x, matrix: {rust: [a]}}\nb: {script: x, image: 'i:${matrix.rust}'}"),
        ".buildr.yml:2:26: \"rust\" is an axis of another stage's matrix = give this stage the same `matrix`, or write it at the top level"
    );
    assert_eq!(
        line("t: {script: x, matrix: {os: [a], include: [{os: b, v: 1}]}, image: 'i:${matrix.v}'}"),
        ".buildr.yml:1:71: the cell (os=a) has no axis \"v\" = give each cell of the matrix a value for it"
    );
}

#[test]
fn a_matrix_of_one_cell_is_told() {
    assert!(warnings("t: {script: x, matrix: {os: [a]}}").contains("the matrix of t has one cell"));
    assert_eq!(warnings("t: {script: x, matrix: {os: [a, b]}}"), "");
}

#[test]
fn keys_are_short_enough_and_each_there_once() {
    let long = "x".repeat(150);
    let text = format!("t: {{script: x, matrix: {{os: ['{long}1', '{long}2'], v: ['{long}']}}}}");
    let planned = planned(&text, &push());
    let keys: Vec<&str> = planned.jobs.iter().map(|job| job.key.as_str()).collect();
    assert!(keys.iter().all(|key| key.len() <= 200) && keys[0] != keys[1], "{keys:?}");
    // A stage may be called like a job of several.
    check(
        "[a, b, m, a..b]",
        "a: {script: x}\nb: {script: x}\nm: {script: x, manual: true}\na..b: {script: x}",
        "
a..b: a b
m <- a..b
a..b #2 <- a..b, m: a..b",
    );
}
