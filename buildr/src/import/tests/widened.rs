//! What cannot be said of when something runs never lets it run more often.

use super::*;

/// What a person must start.
const BY_HAND: &str = "when:\n    event: manual\n";

#[test]
fn conditions_of_woodpecker_and_drone_never_widen() {
    let step = |when: &str| format!("steps: [{{name: a, image: x, commands: [./deploy.sh], when: {when}}}]");
    let lost = |when: &str, told: &str| check(Kind::Woodpecker, &step(when), &[BY_HAND, told]);
    lost("{event: pull_request_closed}", "# ----\n# not carried over: `when.event: pull_request_closed` (line 1)");
    lost("{instance: ci.example.org}", "# ----\n# not carried over: `when.instance: ci.example.org`");
    lost("{repo: org/app}", "`when.repo: org/app`");
    lost("{event: push, evaluate: 'x == 1'}", "`when.evaluate: x == 1`");
    lost("{event: {includes: [push]}}", "not carried over");
    lost("{event: [deployment, rollback]}", "look at: `when.event: deployment`");
    let lost = |when: &str, parts: &[&str]| check(Kind::Woodpecker, &step(when), parts);
    lost("{branch: {in: [main]}}", &[BY_HAND, "`when.branch.in: [main]`"]);
    lost("{matrix: {A: [x, y]}}", &[BY_HAND]);
    lost("[main]", &[BY_HAND, "not carried over"]);
    lost("[{event: push}, {repo: org/app}]", &["when: [{event: push}, {event: manual}]"]);
    lost("{event: [push, pull_request_closed]}", &["event: push\n", "`when.event: pull_request_closed`"]);
    lost("{event: {exclude: [pull_request_closed, tag]}}", &["!not carried over", "injected, local]", "!tag]"]);
    lost("{event: push, local: false}", &["event: push\n"]);
    check(
        Kind::Drone,
        "kind: pipeline\nsteps: [{name: a, image: x, commands: [y]}]\ntrigger: {event: [promote], target: [production]}",
        &[
            "when: [{event: manual}, {event: local}]",
            "look at: `trigger.event: promote`",
            "`trigger.target: [production]`",
        ],
    );
    // A step for tags in a pipeline for pushes runs in no build.
    let two = "kind: pipeline\nname: one\ntrigger: {event: push}\nsteps: [{name: a, image: x, commands: [y], when: {event: tag}}]\n---\n\
         kind: pipeline\nname: two\nsteps: [{name: b, image: x, commands: [y]}]\n";
    check(Kind::Drone, two, &[BY_HAND, "look at: the conditions of `one-a`"]);
}

#[test]
fn conditions_of_travis_never_widen() {
    let job = |more: &str| format!("language: generic\n{more}");
    let deploy =
        |condition: &str| job(&format!("jobs: {{include: [{{stage: deploy, if: {condition}, script: ./d.sh}}]}}"));
    check(
        Kind::Travis,
        &deploy("branch = main AND type = push"),
        &["branch: main\n    event: [push, tag]", "!not carried over"],
    );
    check(Kind::Travis, &deploy("repo = org/app"), &[BY_HAND, "# ----\n# not carried over: `if: repo = org/app`"]);
    let phase = "stages: [{name: Deploy, if: tag IS present}]\njobs: {include: [{stage: deploy, script: ./d.sh}]}";
    check(Kind::Travis, &job(phase), &["when:\n    event: tag", "!not carried over"]);
    check(Kind::Travis, &job("if: type = cron\nscript: make"), &["when: [{event: schedule}, {event: local}]"]);
    check(Kind::Travis, &job("if: fork = false\nscript: make"), &["when: [{event: manual}, {event: local}]"]);
}

#[test]
fn events_of_github_never_widen() {
    let on = |on: &str| format!("on: {on}\njobs: {{a: {{steps: [{{run: ./deploy.sh}}]}}}}");
    let by_hand = "when: [{event: manual}, {event: local}]";
    check(Kind::Github, &on("issue_comment"), &[by_hand, "not carried over: `on: issue_comment`"]);
    check(Kind::Github, &on("{workflow_call: {}}"), &[by_hand]);
    check(Kind::Github, &on("{pull_request: {types: [closed]}}"), &[by_hand, "`on.pull_request.types: [closed]`"]);
    check(
        Kind::Github,
        &on("{pull_request: {types: [opened, labeled]}}"),
        &["[{event: pull_request}, {event: local}]"],
    );
    check(Kind::Github, &on("[push, issue_comment]"), &["event: [push, tag]", "`on: issue_comment`"]);
}

#[test]
fn pipelines_of_one_file_keep_their_own_ways() {
    let pipeline = |name: &str, more: &str| {
        format!(
            "kind: pipeline\nname: {name}\n{more}\nsteps:\n- {{name: a, image: x, commands: [y]}}\n- {{name: b, image: x, commands: [y]}}\n"
        )
    };
    let both = |one: &str, other: &str| format!("{}---\n{}", pipeline("one", one), pipeline("two", other));
    let said = |one: &str, other: &str, parts: &[&str]| check(Kind::Drone, &both(one, other), parts);
    let off = "clone: {disable: true}";
    said("", off, &["!clone: false", "# ----\n# look at: `clone: {disable: true}` (line 10): only the pipeline `two`"]);
    said(off, off, &["\nclone: false\n", "!look at"]);
    said("workspace: {path: /a}", "", &["!\nworkspace", "look at: `workspace: {path: /a}`"]);
    said("platform: {os: linux, arch: amd64}", "", &["!platform", "!look at"]);
    let arm = "platform: {arch: arm64}";
    said(arm, arm, &["\nplatform: linux/arm64\n", "!  platform", "!look at"]);
    said(arm, "", &["!\nplatform", "\n  platform: linux/arm64\n", "look at: `platform` of the pipeline `one`"]);
}

#[test]
fn branches_are_meant_as_their_system_means_them() {
    let step = |when: &str| format!("steps: [{{name: a, image: x, commands: [y], when: {when}}}]");
    let woodpecker = |when: &str, parts: &[&str]| check(Kind::Woodpecker, &step(when), parts);
    woodpecker("{branch: [main]}", &["when: [{branch: main}, {branch: main, event: pull_request}]"]);
    woodpecker("{branch: main, event: push}", &["branch: main\n    event: push\n"]);
    woodpecker(
        "{branch: {exclude: wip}}",
        &["when: [{branch: '!wip'}, {branch: '!wip', event: pull_request}, {event: tag}]"],
    );
    woodpecker("{branch: {exclude: wip}, event: [tag]}", &["when:\n    event: tag\n"]);
    let job = |more: &str| format!("a:\n  script: x\n  {more}\n");
    let gitlab = |more: &str, parts: &[&str]| check(Kind::Gitlab, &job(more), parts);
    gitlab(
        "rules: [{if: $CI_COMMIT_BRANCH != \"main\"}]",
        &["when: [{branch: '!main'}, {event: [tag, pull_request]}]"],
    );
    gitlab(
        "rules: [{if: $CI_COMMIT_BRANCH == \"main\", when: never}, {when: always}]",
        &["branch: '!main'", "event: [tag, pull_request]"],
    );
    gitlab(
        "rules: [{if: $CI_COMMIT_TAG, when: never}, {if: $CI_COMMIT_BRANCH == \"main\"}]",
        &["when:\n    branch: main\n"],
    );
    gitlab("except: [main]", &["when: [{branch: '!main'}, {tag: '!main'}]"]);
    gitlab("only: [/^v.*$/]\n  except: [branches]", &["when:\n    tag: v**\n    event: tag\n"]);
    gitlab("only: [main]", &["when: [{branch: main}, {tag: main}]"]);
    gitlab("only: [/^v\\d+$/]", &["branch: '**'", "if: branch.matches(\"^v\\\\d+$\")", "event: tag"]);
    gitlab("only: [tags]\n  except: [v1]", &["event: tag\n    tag: '!v1'\n"]);
    let github = |condition: &str, parts: &[&str]| {
        check(Kind::Github, &format!("on: push\njobs: {{a: {{if: \"{condition}\", steps: [{{run: x}}]}}}}"), parts);
    };
    github("github.ref != 'refs/heads/main'", &["when: [{branch: '!main'}, {event: [tag, pull_request]}]"]);
    github("github.base_ref == 'main'", &["branch: main\n    event: pull_request\n"]);
}
