//! `when`: whether something runs in this build, and if not, the reason as a person reads it.
//!
//! A map is "and", a list is "or". What is only known once the build runs, `status`, becomes a [`RunOn`].

use std::collections::BTreeMap;

use protocol::job::TriggerKind;
use protocol::plan::RunOn;

use super::expression::Judge;
use super::findings::Findings;
use super::globs::{Patterns, written};
use super::scope::Scope;
use crate::manifest::{Condition, Globs, Spanned, When, quoted};

/// What a condition comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It runs, after such ends of what came before.
    Runs(RunOn),
    /// It does not, and why: the end of the sentence "skipped: …".
    Skipped(String),
}

/// Where a condition is asked.
pub(super) struct Place<'p> {
    pub(super) scope: Scope<'p>,
    pub(super) judge: &'p Judge<'p>,
    /// The platform on which it would run.
    pub(super) platform: &'p str,
    /// The variables that the manifest sets there.
    pub(super) env: &'p BTreeMap<String, String>,
}

/// Judges what `when` says. All of its parts are looked at, for what is wrong in them.
pub(super) fn verdict(when: Option<&When>, place: &Place<'_>, findings: &mut Findings<'_>) -> Verdict {
    let Some(when) = when else { return Verdict::Runs(RunOn::Passed) };
    let mut reasons = Vec::new();
    let mut runs: Option<RunOn> = None;
    for condition in &when.any {
        // What is found then is thrown away.
        if place.judge.clock.is_over() {
            break;
        }
        match judge(condition, place, findings) {
            None => {
                let status = condition.status.unwrap_or_default();
                runs = Some(runs.map_or(status, |other| either(other, status)));
            }
            Some(reason) => reasons.push(reason),
        }
    }
    match runs {
        Some(status) => Verdict::Runs(status),
        None => {
            /// More than a person reads of a list.
            const FEW: usize = 6;
            let more = if reasons.len() > FEW { "; and so on" } else { "" };
            reasons.truncate(FEW);
            Verdict::Skipped(format!("when: {}{more}", reasons.join("; or ")))
        }
    }
}

/// On the ends of both.
pub(super) fn either(one: RunOn, other: RunOn) -> RunOn {
    if one == other { one } else { RunOn::Always }
}

/// The reason why a condition does not hold, if it does not.
fn judge(condition: &Condition, place: &Place<'_>, findings: &mut Findings<'_>) -> Option<String> {
    let facts = place.scope.facts;
    let mut reasons = vec![event(condition, place)];
    if let Some(globs) = &condition.branch {
        let holds = Patterns::of(globs, findings);
        reasons.push(branch(globs, &holds, condition, place));
    }
    if let Some(globs) = &condition.tag {
        let holds = Patterns::of(globs, findings);
        reasons.push(match &facts.tag {
            None => Some(format!("tag {}, and this is no tag", written(globs))),
            Some(tag) => unless(holds.matches(tag), "tag", globs, tag),
        });
    }
    if let Some(globs) = &condition.reference {
        let holds = Patterns::of(globs, findings);
        let reference = facts.reference();
        let shown = if reference.is_empty() { "outside git" } else { &reference };
        reasons.push(unless(holds.matches(&reference), "ref", globs, shown));
    }
    if let Some(globs) = &condition.path {
        let holds = Patterns::of(globs, findings);
        let changed = facts.changed.as_ref();
        let touched =
            changed.is_none_or(|files| files.iter().any(|file| holds.matches(file) || place.judge.clock.is_over()));
        reasons.push((!touched).then(|| format!("path {}, and no such file has changed", written(globs))));
    }
    if let Some(globs) = &condition.platform {
        let holds = Patterns::of(globs, findings);
        reasons.push(unless(holds.matches(place.platform), "platform", globs, place.platform));
    }
    for (axis, globs) in &condition.matrix {
        reasons.push(cell(axis, globs, place, findings));
    }
    if let Some(expression) = &condition.expression {
        let holds = place.judge.holds(expression, &place.scope, place.env, findings);
        reasons.push((!holds).then(|| format!("if {}, which does not hold", quoted(&expression.value))));
    }
    reasons.into_iter().flatten().next()
}

fn unless(holds: bool, key: &str, globs: &Globs, here: &str) -> Option<String> {
    (!holds).then(|| format!("{key} {}, and this is {here}", written(globs)))
}

fn event(condition: &Condition, place: &Place<'_>) -> Option<String> {
    let event = place.scope.facts.event;
    let wanted = condition.event.as_ref()?;
    if wanted.iter().any(|wanted| wanted.value == event) {
        return None;
    }
    let wanted: Vec<&str> = wanted.iter().map(|wanted| wanted.value.name()).collect();
    Some(format!("event {}, and this is {event}", wanted.join(", ")))
}

fn branch(globs: &Globs, patterns: &Patterns, condition: &Condition, place: &Place<'_>) -> Option<String> {
    let facts = place.scope.facts;
    let said = written(globs);
    if facts.event == TriggerKind::PullRequest {
        if condition.event.is_none() {
            return Some(format!("branch {said}, and this is a pull request, which only `event: pull_request` means"));
        }
        return match &facts.target {
            None => Some(format!("branch {said}, and nobody knows where this pull request is to go")),
            Some(target) => {
                let holds = patterns.matches(target.as_str());
                (!holds).then(|| format!("branch {said}, and this pull request is to go into {target}"))
            }
        };
    }
    match &facts.branch {
        _ if facts.tag.is_some() => Some(format!("branch {said}, and this is a tag, which has no branch")),
        None => Some(format!("branch {said}, and this is on no branch")),
        Some(branch) => unless(patterns.matches(branch.as_str()), "branch", globs, branch.as_str()),
    }
}

fn cell(axis: &Spanned<String>, globs: &Globs, place: &Place<'_>, findings: &mut Findings<'_>) -> Option<String> {
    let patterns = Patterns::of(globs, findings);
    match place.scope.cell.iter().find(|cell| cell.axis == axis.value) {
        None => Some(format!("matrix {} {}, and this cell has none", axis.value, written(globs))),
        Some(cell) => unless(patterns.matches(&cell.value), &format!("matrix {}", axis.value), globs, &cell.value),
    }
}

/// Tells of a condition that no build can ever meet.
pub(super) fn check(when: Option<&When>, values: &dyn Fn(&str) -> Vec<String>, findings: &mut Findings<'_>) {
    for condition in when.iter().flat_map(|when| &when.any) {
        if let Some((message, help)) = never(condition, values, findings) {
            findings.warn(condition.span, message, help);
        }
    }
}

fn never(
    condition: &Condition,
    values: &dyn Fn(&str) -> Vec<String>,
    findings: &mut Findings<'_>,
) -> Option<(String, &'static str)> {
    let only = |event: TriggerKind| {
        condition.event.as_ref().is_some_and(|events| events.iter().all(|wanted| wanted.value == event))
    };
    let named = |event: TriggerKind| {
        condition.event.as_ref().is_none_or(|events| events.iter().any(|wanted| wanted.value == event))
    };
    if condition.tag.is_some() && condition.branch.is_some() {
        let help = "write a list for \"or\": `when: [{branch: main}, {tag: v*}]`";
        return Some(("this never holds: a tag has no branch".to_owned(), help));
    }
    if condition.branch.is_some() && only(TriggerKind::Tag) {
        return Some(("this never holds: a tag has no branch".to_owned(), "write `tag` in place of `branch`"));
    }
    if condition.tag.is_some() && !named(TriggerKind::Tag) && condition.event.is_some() {
        let help = "write `event: tag`, or leave `event` out";
        return Some(("this never holds: only the event `tag` has a tag".to_owned(), help));
    }
    for (axis, globs) in &condition.matrix {
        let patterns = Patterns::of(globs, findings);
        let there = values(&axis.value);
        if !there.is_empty() && !there.iter().any(|value| patterns.matches(value)) {
            let message = format!("this never holds: no value of {} is {}", quoted(&axis.value), written(globs));
            return Some((message, "write one of the values of the axis, as they stand in `matrix`"));
        }
    }
    None
}
