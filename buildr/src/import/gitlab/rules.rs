//! When a job of GitLab runs: `rules`, `only` and `except`. What they keep a job out of, it is kept out of here too: by
//! `when`, and where that cannot say it by a person who is asked.

use super::super::conditions::{Condition, both, glob, none_of, pruned};
use super::super::draft::Draft;
use super::super::notes::NoteKind;
use super::super::tree::{Tree, What};
use super::expression::{Meaning, Wanted, meaning};
use super::tell_default_branch;
use crate::manifest::Map;

/// What the rules of a job say.
#[derive(Debug, Default)]
pub(super) struct Ruled {
    /// One of these must hold; empty when nothing is asked for.
    pub(super) conditions: Vec<Condition>,
    /// A person must release it.
    pub(super) manual: bool,
    /// It may fail.
    pub(super) may_fail: bool,
    /// What keeps it out of some builds and could not be said, as it is written: nothing of it may run by itself.
    pub(super) held: Option<String>,
}

impl Ruled {
    /// It runs only in builds that a person starts.
    pub(super) fn by_hand(&mut self, map: &mut Map, because: &str) {
        map.remark(format!("{because}: it runs only in builds that a person starts"));
        self.conditions = vec![Condition::of("event", ["manual"])];
    }

    fn hold(&mut self, because: &Tree) {
        self.held.get_or_insert_with(|| because.shown());
    }
}

/// Whether the rules let a job run in no build at all.
pub(super) fn never(rules: &Tree) -> bool {
    let rules = flat(rules);
    !rules.is_empty() && rules.iter().all(|rule| rule.get("when").and_then(Tree::peek) == Some("never"))
}

/// What `rules` say: the first that matches counts.
pub(super) fn rules(draft: &Draft, map: &mut Map, tree: &Tree) -> Ruled {
    let mut ruled = Ruled::default();
    let mut not = vec![Condition::default()];
    let mut unclear: Vec<(&Tree, String)> = Vec::new();
    let mut kinds = (false, false);
    let all = flat(tree);
    let mut left = all.iter();
    for &rule in left.by_ref() {
        let matched = matched(draft, map, rule);
        let word = rule.get("when").and_then(Tree::text).unwrap_or("on_success").to_owned();
        let Some(conditions) = matched else {
            unclear.push((rule, if rule.is_map() { word } else { "never".to_owned() }));
            continue;
        };
        if word == "never" {
            if conditions.iter().any(Condition::is_empty) {
                break;
            }
            match none_of(&conditions) {
                Some(others) => not = both(&not, &others),
                None => {
                    let because = "`when` cannot say that this does not hold; write the opposite in `if`";
                    draft.notes.lost(map, "rules", rule, because);
                    unclear.push((rule, word));
                }
            }
            continue;
        }
        if let Some((earlier, _)) = unclear.iter().find(|(_, earlier)| !is_within(&word, earlier)) {
            ruled.hold(earlier);
        }
        let status: &[&str] = match word.as_str() {
            "always" => &["success", "failure"],
            "on_failure" => &["failure"],
            _ => &[],
        };
        kinds = (kinds.0 || word == "manual", kinds.1 || word != "manual");
        if !["on_success", "always", "on_failure", "manual"].contains(&word.as_str()) {
            draft.notes.lost(map, "rules.when", rule, "stages do not wait for a time; this one begins at once");
        }
        ruled.may_fail |= rule.get("allow_failure").and_then(Tree::truth) == Some(true);
        let mut all = both(&conditions, &not);
        if not.len() > 1 && all.iter().any(|condition| !condition.is_impossible()) {
            all = pruned(all);
        }
        for mut condition in all {
            condition.require("status", status.iter().map(|status| (*status).to_owned()).collect());
            ruled.conditions.push(condition);
        }
    }
    for rule in left {
        draft.notes.moot(map, "rules", rule, "a rule before it says `when: never` for all that comes to it");
    }
    end(&mut ruled, map, &all, kinds);
    ruled
}

/// What holds of all rules together.
fn end(ruled: &mut Ruled, map: &mut Map, all: &[&Tree], (asks, begins): (bool, bool)) {
    let clear = !ruled.conditions.is_empty();
    ruled.conditions.retain(|condition| !condition.is_impossible());
    if ruled.conditions.is_empty() && clear {
        ruled.by_hand(map, "look at: no build meets one of its rules");
    } else if ruled.conditions.is_empty() && !all.is_empty() {
        // What cannot be said must not run by itself.
        ruled.by_hand(map, "none of the rules could be carried over");
    }
    ruled.manual = asks;
    if asks && begins {
        map.remark("look at: some of the rules ask a person and others do not; here a person is always asked");
    }
    if ruled.conditions.iter().any(Condition::is_empty) {
        ruled.conditions.clear();
    }
}

/// The rules, those that a `!reference` brought in as a list among them.
fn flat(tree: &Tree) -> Vec<&Tree> {
    match &tree.what {
        What::List(_) => tree.elements().iter().flat_map(flat).collect(),
        What::Nothing => Vec::new(),
        What::Map(_) | What::Text { .. } | What::Reference(_) => vec![tree],
    }
}

/// Whether a job with one word of `when` never runs by itself where one with the other would not.
fn is_within(word: &str, other: &str) -> bool {
    let runs = |word: &str| match word {
        "never" | "manual" => (false, false),
        "on_failure" => (false, true),
        "always" => (true, true),
        _ => (true, false),
    };
    let ((success, failure), (may_success, may_failure)) = (runs(word), runs(other));
    (may_success || !success) && (may_failure || !failure)
}

/// When a rule matches; None when that cannot be said, which is told.
fn matched(draft: &Draft, map: &mut Map, rule: &Tree) -> Option<Vec<Condition>> {
    const UNCLEAR: &str =
        "this expression has no counterpart in `when`; write it with branch, tag, event, path or `if`";
    if !rule.is_map() {
        draft.notes.lost(map, "rules", rule, "what it stands for is not in this file; write it as a `when`");
        return None;
    }
    let mut conditions = vec![Condition::default()];
    if let Some(expression) = rule.get("if") {
        let known = |name: &str| draft.variables.iter().any(|(known, _)| known == name);
        let Some(Ok(Meaning { conditions: meant, default_branch })) =
            expression.peek().map(|text| meaning(text, &known))
        else {
            draft.notes.lost(map, "rules", rule, UNCLEAR);
            return None;
        };
        expression.told();
        if default_branch {
            tell_default_branch(draft, map);
        }
        conditions = meant;
    }
    if rule.get("exists").is_some() {
        let because = "`when` does not look for files; test for it in the script, or remove it";
        draft.notes.lost(map, "rules", rule, because);
        return None;
    }
    for (key, value) in rule.entries() {
        match key.as_str() {
            "changes" => {
                let paths = value.get("paths").unwrap_or(value).texts();
                if paths.is_empty() {
                    draft.notes.lost(map, "rules", rule, "it names no paths; write globs under `path`");
                    return None;
                }
                conditions = both(&conditions, &[Condition::of("path", paths)]);
                if let Some(base) = value.get("compare_to") {
                    draft.notes.moot(
                        map,
                        "rules.changes.compare_to",
                        base,
                        "paths are compared with the last green build, or with the target of a pull request",
                    );
                }
            }
            "variables" | "needs" | "interruptible" | "start_in" => {
                let because = "a condition changes nothing else here; write two stages, each with its own `when`";
                draft.notes.lost(map, &format!("rules.{key}"), value, because);
            }
            _ => {}
        }
    }
    Some(conditions)
}

/// Tells that a person is asked each time, and gives the question. `held` is what is written in the source.
pub(super) fn question(draft: &Draft, map: &mut Map, held: &str) -> String {
    /// What a question can bear, in characters.
    const LONGEST: usize = 200;
    let why = "it keeps the job out of some builds and could not be carried over, so a person is asked each time; \
               write it as a `when`, and take `manual` away";
    draft.notes.say(map, NoteKind::Look, format!("`{held}`"), why);
    let cut: String = held.chars().take(LONGEST).collect();
    let more = if cut.len() < held.len() { "…" } else { "" };
    format!("GitLab CI would not always run this: {cut}{more}. May it run now?").replace("${", "$${")
}

/// What `only` and `except` say.
pub(super) fn only_except(draft: &Draft, map: &mut Map, only: Option<&Tree>, except: Option<&Tree>) -> Ruled {
    let mut ruled = Ruled { conditions: vec![Condition::default()], ..Ruled::default() };
    if let Some(only) = only {
        let parts = sides(draft, map, "only", only);
        if parts.is_empty() || parts.iter().any(|part| part.conditions.is_empty()) {
            ruled.by_hand(map, "not all of `only` could be carried over");
        } else {
            ruled.conditions = parts.iter().fold(ruled.conditions, |so_far, part| both(&so_far, &part.conditions));
        }
    }
    let Some(except) = except else { return ruled };
    for part in sides(draft, map, "except", except) {
        match none_of(&part.conditions) {
            Some(others) if !part.lost => ruled.conditions = both(&ruled.conditions, &others),
            _ => ruled.hold(except),
        }
        for name in &part.names {
            ruled.conditions = both(&ruled.conditions, &name.of_ref(false));
        }
        if only.is_none() && !part.names.is_empty() {
            // Without `only`, a job is for branches and tags.
            ruled.conditions = both(&ruled.conditions, &[Condition::of("event", ["!pull_request"])]);
        }
        if ruled.conditions.iter().any(|condition| !condition.is_impossible()) {
            ruled.conditions = pruned(ruled.conditions);
        }
    }
    if ruled.conditions.iter().all(Condition::is_impossible) {
        ruled.by_hand(map, "look at: no build is left by `only` and `except`");
    }
    ruled
}

/// One key of `only` or `except`.
#[derive(Default)]
struct Part {
    /// One of these must hold.
    conditions: Vec<Condition>,
    /// Names of branches or tags that `except` leaves out.
    names: Vec<Wanted>,
    /// Whether something of it could not be said.
    lost: bool,
}

/// The keys of `only`, which must all hold, or of `except`, of which one is enough.
fn sides(draft: &Draft, map: &mut Map, key: &str, tree: &Tree) -> Vec<Part> {
    if !tree.is_map() {
        return vec![refs(draft, map, key, tree)];
    }
    let mut parts = Vec::new();
    for (part, value) in tree.entries() {
        parts.push(match part.as_str() {
            "refs" => refs(draft, map, key, value),
            "changes" => {
                let paths = value.texts();
                let lost = paths.is_empty();
                let condition = Condition::of("path", paths);
                Part { conditions: if lost { Vec::new() } else { vec![condition] }, lost, ..Part::default() }
            }
            "variables" => expressions(draft, map, key, value),
            _ => {
                draft.notes.lost(map, &format!("{key}.{part}"), value, "`when` has nothing of the kind; remove it");
                Part { lost: true, ..Part::default() }
            }
        });
    }
    parts
}

fn expressions(draft: &Draft, map: &mut Map, key: &str, tree: &Tree) -> Part {
    let known = |name: &str| draft.variables.iter().any(|(known, _)| known == name);
    let mut part = Part::default();
    for expression in tree.elements() {
        match expression.peek().map(|text| meaning(text, &known)) {
            Some(Ok(meant)) => {
                expression.told();
                part.conditions.extend(meant.conditions);
            }
            _ => {
                part.lost = true;
                draft.notes.lost(
                    map,
                    &format!("{key}.variables"),
                    expression,
                    "this expression has no counterpart in `when`; write it in `if`",
                );
            }
        }
    }
    part
}

fn refs(draft: &Draft, map: &mut Map, key: &str, tree: &Tree) -> Part {
    let mut part = Part::default();
    for name in tree.elements() {
        let Some(text) = name.peek() else {
            part.lost = true;
            continue;
        };
        if let Some(wanted) = reference(text) {
            name.told();
            if key == "except" {
                part.names.push(wanted);
            } else {
                part.conditions.extend(wanted.of_branch_or_tag());
            }
            continue;
        }
        let condition = match text {
            // Everything but branches: tags.
            "branches" if key == "except" => Some(Condition::of("event", ["!tag"])),
            "branches" => Some(Condition::of("branch", ["**"])),
            "tags" => Some(Condition::of("event", ["tag"])),
            "merge_requests" | "external_pull_requests" => Some(Condition::of("event", ["pull_request"])),
            "pushes" => Some(Condition::of("event", ["push"])),
            "schedules" => Some(Condition::of("event", ["schedule"])),
            "web" | "api" | "chat" => Some(Condition::of("event", ["manual"])),
            "triggers" | "pipelines" | "external" => Some(Condition::of("event", ["upstream"])),
            _ => None,
        };
        match condition {
            Some(condition) => {
                name.told();
                part.conditions.push(condition);
            }
            None => {
                part.lost = true;
                draft.notes.lost(
                    map,
                    key,
                    name,
                    "`when` has nothing of the kind; write a glob over branches or tags, or an `if`",
                );
            }
        }
    }
    part
}

/// `main` or `/^release-.*$/`, which are of branches and tags; None for a word of GitLab's, and for what cannot be said.
fn reference(text: &str) -> Option<Wanted> {
    const WORDS: [&str; 12] = [
        "branches",
        "tags",
        "merge_requests",
        "external_pull_requests",
        "pushes",
        "schedules",
        "web",
        "api",
        "chat",
        "triggers",
        "pipelines",
        "external",
    ];
    if WORDS.contains(&text) || text.contains('@') {
        return None;
    }
    let Some(regex) = text.strip_prefix('/') else {
        return Some(Wanted { glob: Some(text.to_owned()), test: format!("== {text:?}") });
    };
    let body = regex.strip_suffix('/')?;
    Some(Wanted { glob: glob(body), test: format!(".matches({body:?})") })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::{Kind, import};

    /// What a job with these lines becomes: its stage without remarks, on one line, or why there is none.
    #[track_caller]
    fn check(lines: &str, expect: &str) {
        let text = format!("variables: {{MODE: full}}\ndeploy:\n  script: x\n  {}\n", lines.replace('\n', "\n  "));
        let got = match import(text.as_bytes(), Path::new("ci.yml"), Some(Kind::Gitlab)) {
            Ok(imported) => {
                crate::manifest::read(imported.manifest.as_bytes(), "f.yml").unwrap();
                let all = imported.manifest.lines().skip_while(|line| *line != "deploy:").skip(1);
                let said = all.map(str::trim).filter(|line| !line.starts_with('#'));
                let said: Vec<&str> = said.take_while(|line| *line != "script:").collect();
                said.join(" ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expect, "{lines}");
    }

    /// What a stage begins with for which a person is asked about this.
    fn asks(about: &str) -> String {
        format!("manual: ask: 'GitLab CI would not always run this: {about}. May it run now?'")
    }

    const UNCLEAR: &str = "if: $CI_COMMIT_MESSAGE =~ /skip/";

    #[test]
    fn what_a_rule_keeps_out_is_kept_out() {
        check(
            "rules: [{if: $CI_COMMIT_TAG, when: never}, {if: $MODE}]",
            "when: event: [push, pull_request, schedule, manual, upstream, injected, local] if: env.MODE != \"\"",
        );
        let on_main = "$CI_COMMIT_BRANCH == \"main\" && $CI_PIPELINE_SOURCE == \"schedule\"";
        check(
            &format!("rules: [{{if: '{on_main}', when: never}}, {{if: $CI_COMMIT_BRANCH}}]"),
            "when: - {branch: ['**', '!main']} - {branch: '**', event: [push, tag, manual, upstream, injected, local]}",
        );
        // All behind it is never reached.
        check("rules: [{if: $CI_COMMIT_TAG}, {when: never}, {when: always}]", "when: event: tag");
        check("rules: [{if: $CI_COMMIT_TAG, when: never}, {if: $CI_COMMIT_TAG}]", "when: event: manual");
    }

    #[test]
    fn what_cannot_be_said_asks_a_person() {
        let held = asks(&format!("{{{UNCLEAR}, when: never}}"));
        check(&format!("rules: [{{{UNCLEAR}, when: never}}, {{when: on_success}}]"), &held);
        check(&format!("rules: [{{if: $CI_COMMIT_TAG}}, {{{UNCLEAR}, when: never}}]"), "when: event: tag");
        let tags = format!("when: event: tag {held}");
        check(&format!("rules: [{{{UNCLEAR}, when: never}}, {{if: $CI_COMMIT_TAG}}]"), &tags);
        // Other files may have changed beside these.
        let paths = "{changes: [docs/**], when: never}";
        check(
            &format!("rules: [{paths}, {{when: always}}]"),
            &format!("when: status: [success, failure] {}", asks(paths)),
        );
        let exists = "{exists: [Dockerfile], when: never}";
        check(&format!("rules: [{exists}, {{when: on_success}}]"), &asks(exists));
        let unknown = "!reference [.elsewhere, rules]";
        check(&format!("rules: [{unknown}, {{when: on_success}}]"), &asks(unknown));
        check(
            &format!("rules: [{{{UNCLEAR}, when: manual}}, {{when: on_success}}]"),
            &asks(&format!("{{{UNCLEAR}, when: manual}}")),
        );
        check(
            &format!("rules: [{{{UNCLEAR}, when: on_failure}}, {{when: on_success}}]"),
            &asks(&format!("{{{UNCLEAR}, when: on_failure}}")),
        );
        // Whatever it means, it would begin by itself just so.
        check(&format!("rules: [{{{UNCLEAR}}}, {{when: on_success}}]"), "");
        check(&format!("rules: [{{{UNCLEAR}, when: never}}, {{when: manual}}]"), "manual: true");
        // Who knows what such a template says.
        check("extends: .elsewhere", &asks("extends: .elsewhere"));
        check("extends: .elsewhere\nrules: [{if: $CI_COMMIT_TAG}]", "when: event: tag");
        // What the question quotes is not this language's.
        check(
            "rules: [{if: \"${CI_COMMIT_TITLE} =~ /x/\", when: never}, {when: on_success}]",
            &asks("{if: $${CI_COMMIT_TITLE} =~ /x/, when: never}"),
        );
    }

    #[test]
    fn what_no_build_runs_is_no_stage() {
        let none = "ci.yml holds no jobs, so there is nothing to make a manifest of; see that it is the right file, and that --from is right";
        check("rules: [{when: never}]", none);
        check(&format!("rules: [{{{UNCLEAR}, when: never}}, [{{when: never}}]]"), none);
    }

    #[test]
    fn only_and_except_never_widen() {
        check("only: {refs: [main], variables: [$CI_COMMIT_MESSAGE]}", "when: event: manual");
        check("only: {refs: [main], kubernetes: active}", "when: event: manual");
        check(
            "only: {refs: [main], variables: [$CI_COMMIT_MESSAGE, $MODE]}",
            "when: [{branch: main, if: env.MODE != \"\"}, {tag: main, if: env.MODE != \"\"}]",
        );
        check(
            "except: {refs: [main], variables: [$MODE]}",
            "when: - {branch: '!main', if: '!(env.MODE != \"\")'} - {tag: '!main', if: '!(env.MODE != \"\")'}",
        );
        check("except: [main@group/project]", &asks("[main@group/project]"));
        check("except: {changes: [docs/**]}", &asks("{changes: [docs/**]}"));
        check("only: [tags]\nexcept: [tags]", "when: event: manual");
    }
}
