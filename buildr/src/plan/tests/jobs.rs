//! R1 and R7: order, needs, borders between jobs, keys, labels, `finally`, triggers and gates.

use super::*;
use insta::assert_snapshot;

#[test]
fn adjacent_stages_are_one_job() {
    check("[a]", "", "build: a");
    check("[a, b, c]", "", "build: a b c");
    check("[a, [b, c], d]", "", "build: a b c[a] d");
    check("[[a, b], [c, d]]", "", "build: a b[] c d[a b]");
}

#[test]
fn needs_stand_in_the_place_of_the_order() {
    check("[a, b, c]", "c: {needs: [a], script: x}", "build: a b c[a]");
    check("[a, b, c]", "b: {needs: [], script: x}", "build: a b[] c");
    check("[a, b, c]", "c: {needs: [], script: x}", "build: a b c[]");
    // One may need what stands later, and then comes after it in the plan.
    check("[[a, b]]", "a: {needs: [b], script: x}", "build: b a");
    // What another need brings along anyway is left out.
    check("[[a, b], [c, d], e]", "d: {needs: [c], script: x}", "build: a b[] c d[c] e");
    check("[a, b, c, d]", "d: {needs: [a, c], script: x}", "build: a b c d[c]");
}

#[test]
fn some_stages_are_jobs_of_their_own() {
    for says in ["agent: gpu", "agent: [gpu]", "platform: linux/amd64", "manual: true", "concurrency: one"] {
        let text = format!("b: {{script: x, {says}}}");
        let got = drawn(&planned(&with_stages("[a, b, c]", &text), &push()));
        let keys: Vec<&str> = got.lines().map(|line| line.split(" @").next().unwrap()).collect();
        assert_eq!(keys[0], "a", "{says}\n{got}");
        assert!(keys[1].starts_with("b <- a"), "{says}\n{got}");
        assert_eq!(keys[2], "c <- a, b", "{says}\n{got}");
    }
    check(
        "[a, b, c]",
        "b: {script: x, matrix: {os: [x]}}",
        "
a
b (os=x) <- a: b
c <- a, b (os=x)",
    );
    check(
        "[a, b, c]",
        "b: {script: x, parallel: 2}",
        "
a
b 1/2 <- a: b
b 2/2 <- a: b
c <- a, b 1/2, b 2/2",
    );
    check(
        "[a, b]",
        "b: {trigger: {repo: 'https://e.org/x.git'}}",
        "
a
b <- a:",
    );
}

#[test]
fn jobs_of_several_stages_are_called_by_the_first_and_the_last() {
    check(
        "[a, b, m, c, d, e]",
        "m: {script: x, manual: true}",
        "
a..b: a b
m <- a..b
c..e <- a..b, m: c d e",
    );
}

#[test]
fn beside_a_job_of_its_own_others_are_one_too() {
    check(
        "[a, [m, b, c], d]",
        "m: {script: x, manual: true}",
        "
a
m <- a
b..c <- a: b c[]
d <- a, m, b..c",
    );
}

#[test]
fn a_stage_that_can_begin_earlier_is_not_held_up_by_its_neighbours() {
    check(
        "[a, m, b, c]",
        "m: {script: x, manual: true}\nc: {script: x, needs: []}",
        "
a
m <- a
b <- a, m
c",
    );
    check(
        "[a, [m, b, c]]",
        "m: {script: x, manual: true}\nc: {script: x, needs: []}",
        "
a
m <- a
b <- a
c",
    );
    // Without a border all of it is one job, whose stages begin as they can.
    check("[a, b, c]", "c: {script: x, needs: []}", "build: a b c[]");
}

#[test]
fn edges_between_jobs_close_no_circle() {
    // `c` stands beside `a` and needs `m`, which needs `a`.
    check(
        "[[a, c], m]",
        "c: {script: x, needs: [m]}\nm: {script: x, needs: [a], manual: true}",
        "
a
m <- a
c <- m",
    );
    // The way leads from one segment into another and back.
    check(
        "[[a, c], m, b]",
        "c: {script: x, needs: [b]}\nb: {script: x, needs: [a]}\nm: {script: x, needs: [], manual: true}",
        "
a
m
b <- a
c <- b",
    );
}

#[test]
fn circles_are_told_with_the_way() {
    let says = "a: {script: x, needs: [c]}\nb: {script: x}\nc: {script: x}";
    assert_snapshot!(refused(&format!("stages: [a, b, c]\n{says}"), &push()), @"
    .buildr.yml:2:24: these stages wait for each other: a needs c, c comes after a in `stages`
      |
    2 | a: {script: x, needs: [c]}
      |                        ^
      = take one of them out of `needs`, or give the one that only stands later in `stages` a `needs` too
    ");
    let says = "a: {script: x, needs: [b]}\nb: {script: x, needs: [c]}\nc: {script: x, needs: [a]}\nd: {script: x}";
    assert_snapshot!(refused(&format!("stages: [[a, b, c], d]\n{says}"), &push()), @"
    .buildr.yml:2:24: these stages wait for each other: a needs b, b needs c, c needs a
      |
    2 | a: {script: x, needs: [b]}
      |                        ^
      = take one of them out of `needs`, or give the one that only stands later in `stages` a `needs` too
    ");
}

#[test]
fn what_is_needed_and_filtered_out() {
    let docs = "docs: {script: x, when: {branch: other}}";
    let of = |needs: &str| format!("{docs}\nc: {{script: x, needs: [{needs}]}}");
    check(
        "[a, docs, c]",
        &of("docs"),
        "\
build: a docs(when: branch other, and this is main) \
c[](it needs docs, which is skipped (when: branch other, and this is main))",
    );
    check("[a, docs, c]", &of("a, docs?"), "build: a docs(when: branch other, and this is main) c");
    // In its place stands what it waits for.
    check("[a, docs, c]", &of("docs?"), "build: a docs(when: branch other, and this is main) c");
    check(
        "[[a, b], docs, c]",
        "docs: {script: x, needs: [a], when: {branch: other}}\nc: {script: x, needs: [docs?]}",
        "build: a b[] docs[a](when: branch other, and this is main) c[a]",
    );
    check(
        "[a, m, docs, d, c]",
        "m: {script: x, manual: true}\ndocs: {script: x, when: {branch: other}}\n\
         d: {script: x, manual: true, needs: [docs?], when: {branch: other}}\nc: {script: x, needs: [d?]}",
        "
a
m <- a
c <- a, m
- docs: when: branch other, and this is main
- d: when: branch other, and this is main",
    );
    // By its place alone, nothing is needed.
    check("[docs, c]", docs, "build: docs(when: branch other, and this is main) c");
    // And on to those that need the one that is skipped for it.
    check(
        "[docs, c, d]",
        &format!("{}\nd: {{script: x, needs: [c]}}", of("docs")),
        "
- docs: when: branch other, and this is main
- c: it needs docs, which is skipped (when: branch other, and this is main)
- d: it needs c, which is skipped (it needs docs, which is skipped (when: branch other, and this is main))",
    );
}

#[test]
fn a_job_that_is_filtered_out_leaves_its_border() {
    check(
        "[a, m, b]",
        "m: {script: x, manual: true, when: {branch: other}}",
        "
a
b <- a
- m: when: branch other, and this is main",
    );
}

#[test]
fn what_runs_after_failures() {
    check("[a, b, c]", "b: {script: x, when: {status: failure}}", "build: a b on-failure c");
    check(
        "[a, b]",
        "b: {script: x, manual: true, when: {status: failure}}",
        "
a
b <- a on-failure: b on-failure",
    );
    check(
        "[a, b]",
        "b: {script: x, manual: true, when: [{branch: main}, {status: failure}]}",
        "
a
b <- a always: b always",
    );
    // Of conditions that do not hold, nothing is taken.
    check(
        "[a, b]",
        "b: {script: x, manual: true, when: [{branch: main}, {branch: o, status: failure}]}",
        "
a
b <- a",
    );
}

#[test]
fn what_must_not_be_left_out_is_waited_for() {
    // `b` may run although `a` failed, so that it ended well says nothing of `a`.
    check(
        "[a, b, c, [d, e]]",
        "b: {script: x, when: {status: always}}\nd: {script: x, needs: [a, b]}",
        "
build: a b always c d[a b] e[c]",
    );
}

#[test]
fn finally_is_the_last_job() {
    check(
        "[a]",
        "finally: {script: x}",
        "
build: a
finally always finally: finally always",
    );
    check(
        "[a, b]",
        "b: {script: x, manual: true}\nfinally: {script: x, when: {status: failure}}",
        "
a
b <- a
finally on-failure finally: finally on-failure",
    );
    check(
        "[a]",
        "finally: {script: x, when: {branch: o}}",
        "
build: a
- finally: when: branch o, and this is main",
    );
    check(
        "[a]",
        "finally: {script: x, platform: linux/arm64, when: {platform: linux/arm64}}",
        "
build: a
finally @platform=linux-arm64 always finally: finally always",
    );
    check(
        "[a]",
        "when: {branch: o}\nfinally: {script: x}",
        "
- a: when: branch o, and this is main
- finally: nothing runs before it",
    );
}

#[test]
fn labels_of_agents() {
    check("[a]", "agent: [big]", "build @big: a");
    check(
        "[a, b]",
        "agent: [big]\nb: {script: x, agent: [gpu]}",
        "
a @big
b <- a @gpu",
    );
    check("[a]", "a: {script: x, agent: {os: linux}}", "build @os=linux: a");
    check("[a]", "a: {script: x, platform: linux/arm64}", "build @platform=linux-arm64: a");
    check("[a]", "a: {script: x, platform: linux/amd64}", "build: a");
    check("[a]", "platform: linux/arm64/v8", "build @platform=linux-arm64-v8: a");
    let mixed = planned("a: {script: x, platform: linux/arm64, image: y}\nplatform: linux/amd64", &push());
    assert_eq!(mixed.jobs[0].plan.stages[0].image.as_ref().unwrap().platform.as_deref(), Some("linux/arm64"));
    assert_eq!(mixed.jobs[0].plan.image.platform.as_deref(), Some("linux/arm64"));
    assert_snapshot!(refused("a: {script: x, matrix: {os: [a/b]}, agent: 'os=${matrix.os}'}", &push()), @r#"
    .buildr.yml:1:44: "os=a/b" is not a label that an agent can have
      |
    1 | a: {script: x, matrix: {os: [a/b]}, agent: 'os=${matrix.os}'}
      |                                            ^^^^^^^^^^^^^^^^^
      = write 1 to 63 letters, digits, `-`, `_` or `=`, such as `gpu` or `os=linux`
    "#);
}

#[test]
fn prepare_is_in_each_job_that_uses_its_image() {
    let text = "stages: [a, b, c]\nprepare: {script: p}\na: {script: x, image: i}\nb: {script: x, manual: true, image: i}\nc: {script: x, manual: true}";
    let planned = planned(text, &push());
    let prepared: Vec<bool> = planned.jobs.iter().map(|job| job.plan.prepare.is_some()).collect();
    assert_eq!(prepared, [true, false, true]);
}

#[test]
fn gates_groups_and_other_builds() {
    let text = r#"
stages: [deploy, site]
concurrency: {group: "all-${branch}", limit: 2, order: ready}
cancel_superseded: true
timeout: 1h
priority: 3
deploy:
  script: x
  manual: {ask: "Deploy ${branch}?", allow: [release], inputs: {REGION: [eu, us]}, timeout: 2h}
  concurrency: "deploy-${branch}"
site:
  trigger: {repo: "https://e.org/site.git", branch: "${branch}", vars: {FROM: "${commit}"}, wait: true}
"#;
    let planned = planned(text, &push());
    assert_snapshot!(serde_json::to_string_pretty(&planned.build).unwrap(), @r#"
    {
      "cancel_superseded": true,
      "timeout_ms": 3600000,
      "concurrency": {
        "group": "all-main",
        "limit": 2,
        "order": "ready"
      },
      "priority": 3
    }
    "#);
    let [deploy, site] = planned.jobs.as_slice() else { panic!("{}", drawn(&planned)) };
    assert_snapshot!(serde_json::to_string(&(&deploy.gate, &deploy.concurrency)).unwrap(), @r#"[{"ask":"Deploy main?","allow":["release"],"inputs":[{"name":"REGION","choices":["eu","us"]}],"timeout_ms":7200000},{"group":"deploy-main","limit":1,"order":"build"}]"#);
    assert_snapshot!(serde_json::to_string(&site.downstream).unwrap(), @r#"{"repo":"https://e.org/site.git","branch":"main","vars":[{"name":"FROM","value":"0123456789012345678901234567890123456789"}],"wait":true}"#);
    assert!(site.plan.stages.is_empty());
}

#[test]
fn pipelines_have_their_names_before_their_jobs() {
    let manifest = |text: &str| read(text);
    let (one, two) = (
        manifest("a: {script: x}\ntimeout: 1h"),
        manifest("b: {script: x}\nc: {script: x, manual: true}\ntimeout: 2h\ncancel_superseded: false"),
    );
    let planned = compile_all(&[(None, &one), (Some("web"), &two)], &push()).unwrap();
    assert_eq!(drawn(&planned), "build: a\nweb/b: b\nweb/c <- web/b: c\n");
    assert_eq!(planned.jobs[1].plan.pipeline.as_deref(), Some("web"));
    assert_eq!((planned.build.timeout_ms, planned.build.cancel_superseded), (Some(7_200_000), Some(false)));
}

#[test]
fn a_border_without_artifacts_is_told() {
    assert_snapshot!(warnings("stages: [a, b]\na: {script: x}\nb: {script: x, manual: true}"), @"
    .buildr.yml:1:13: b begins without the files of a: b is a job of its own, and nothing is handed on
      |
    1 | stages: [a, b]
      |             ^
      = write `artifacts: [..]` in a if b needs what it makes; `needs: []` in b if it need not wait
    ");
    assert_eq!(warnings("stages: [a, b]\na: {script: x, artifacts: [out]}\nb: {script: x, manual: true}"), "");
    assert_eq!(warnings("stages: [a, b]\na: {script: x}\nb: {needs: [], script: x, manual: true}"), "");
    assert_eq!(warnings("stages: [a, b]\na: {script: x}\nb: {script: x}"), "");
    assert_eq!(warnings("stages: [a, b]\na: {script: x}\nb: {trigger: {repo: 'https://e.org/x.git'}}"), "");
}
