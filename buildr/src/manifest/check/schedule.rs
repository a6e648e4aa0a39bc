//! `schedule`: when builds begin by themselves.

use protocol::calendar::{NoTimes, Times, USUAL_ZONE};
use protocol::plan::{MAX_SCHEDULES, Schedule};

use super::environment;
use super::findings::{Findings, Keys, did_you_mean, shown};
use crate::manifest::keys::SCHEDULE;
use crate::manifest::language::Manifest;
use crate::manifest::node::{Entry, Shape};
use crate::manifest::source::{Spanned, quoted};

const HELP: &str = "write `nightly: \"0 3 * * * Europe/Rome\"`: minute, hour, day of the month, month, day of the week, and a time zone";

/// What `schedule` says: names, each with its time, or a map with that and more.
pub(super) fn read(entry: &Entry, findings: &mut Findings<'_>) -> Vec<Spanned<Schedule>> {
    let Shape::Map(entries) = &entry.value.value else {
        let message =
            format!("\"schedule\" is a map of names and times, and here stands {}", shown(&entry.value.value));
        findings.error(entry.place(), message, format!("write `schedule: {{{}}}`", "nightly: \"0 3 * * *\""));
        return Vec::new();
    };
    if entries.is_empty() {
        findings.error(entry.place(), "this \"schedule\" has no time", HELP);
    }
    if let Some(one) = entries.get(MAX_SCHEDULES) {
        let message = format!("a file has at most {MAX_SCHEDULES} schedules, and this is one more");
        findings.error(one.key.span, message, "take some out");
        return Vec::new();
    }
    let mut schedules = Vec::new();
    for entry in entries {
        if is_named(entry, findings)
            && let Some(value) = one(entry, findings)
        {
            schedules.push(Spanned { value, span: entry.key.span });
        }
    }
    schedules
}

/// Values that nobody asks for would end each of its builds before they began.
pub(super) fn inputs(manifest: &Manifest, findings: &mut Findings<'_>) {
    for schedule in &manifest.schedules {
        for given in &schedule.value.inputs {
            let names = manifest.inputs.iter().map(|input| input.value.name.as_str());
            if names.clone().any(|name| name == given.name) {
                continue;
            }
            let guess = findings.guess(&given.name, names);
            let (name, schedule_name) = (quoted(&given.name), quoted(&schedule.value.name));
            let message = format!(
                "the schedule {schedule_name} gives the input {name}, which is not among \"inputs\"{}",
                did_you_mean(guess)
            );
            findings.error(
                schedule.span,
                message,
                format!("write `inputs: {{{}: \"\"}}` at the top level", given.name),
            );
        }
    }
}

fn is_named(entry: &Entry, findings: &mut Findings<'_>) -> bool {
    let name = entry.key.value.as_str();
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let named = name.len() <= 63 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(legal);
    if !named {
        let message = format!("{} cannot name a schedule", quoted(name));
        let help = "write a name of letters, digits, `_`, `.` and `-` that begins with a letter or digit";
        findings.error(entry.key.span, message, help);
    }
    named
}

fn one(entry: &Entry, findings: &mut Findings<'_>) -> Option<Schedule> {
    let name = entry.key.value.clone();
    let empty = |cron, zone| Schedule { name, pipeline: None, cron, zone, branch: None, inputs: Vec::new() };
    if !matches!(entry.value.value, Shape::Map(_)) {
        let text = findings.filled(
            &entry.value,
            entry.place(),
            &format!("the schedule {}", quoted(&entry.key.value)),
            HELP,
        )?;
        let (cron, zone) = with_zone(&text.value);
        return due(&text, &cron, &text, &zone, findings).then(|| empty(cron, zone));
    }
    let keys = Keys { owner: format!("the schedule {}", quoted(&entry.key.value)), map: &SCHEDULE };
    let example = format!("{}: {{cron: \"0 3 * * *\", zone: Europe/Rome}}", entry.key.value);
    let before = findings.count();
    let (mut cron, mut zone, mut branch, mut inputs) = (None, None, None, Vec::new());
    for entry in findings.entries(entry, &keys, &example) {
        match entry.key.value.as_str() {
            "cron" => cron = findings.word(entry, "write `cron: \"0 3 * * *\"`"),
            "zone" => zone = findings.word(entry, "write `zone: Europe/Rome`"),
            "branch" => branch = findings.word(entry, "write `branch: main`"),
            _ => inputs = environment::vars(entry, findings),
        }
    }
    if findings.count() > before {
        return None;
    }
    let Some(cron) = cron else {
        findings.error(entry.key.span, format!("{} has no time", keys.owner), format!("write `{example}`"));
        return None;
    };
    let zone = zone.unwrap_or_else(|| Spanned { value: USUAL_ZONE.to_owned(), span: cron.span });
    let named = branch.map(|branch| branch.value.parse().map_err(|error| (branch.span, error)));
    let branch = match named.transpose() {
        Ok(branch) => branch,
        Err((span, error)) => {
            let error: protocol::source::InvalidSource = error;
            findings.error(span, format!("{error}"), "write `branch: main`");
            return None;
        }
    };
    let inputs = inputs.into_iter().map(|input| input.value).collect();
    let there = due(&cron, &cron.value, &zone, &zone.value, findings);
    there.then(|| Schedule { branch, inputs, ..empty(cron.value.clone(), zone.value.clone()) })
}

/// The short form: a zone may follow the five fields, or the word with `@`.
fn with_zone(text: &str) -> (String, String) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let fields = if text.trim_start().starts_with('@') { 1 } else { 5 };
    match words.as_slice() {
        [time @ .., zone] if words.len() == fields + 1 => (time.join(" "), (*zone).to_owned()),
        all => (all.join(" "), USUAL_ZONE.to_owned()),
    }
}

/// Whether it ever comes due; told when it does not.
fn due(
    at_cron: &Spanned<String>,
    cron: &str,
    at_zone: &Spanned<String>,
    zone: &str,
    findings: &mut Findings<'_>,
) -> bool {
    let error = match Times::read(cron, zone) {
        // From any moment on: what comes at all comes after this one.
        Ok(times) if times.after(0).is_some() => return true,
        Ok(_) => NoTimes::Never(cron.to_owned()),
        Err(error) => error,
    };
    match &error {
        NoTimes::Zone(_) => findings.error(at_zone.span, error.to_string(), "write one such as `Europe/Rome` or `UTC`"),
        NoTimes::Pattern { .. } | NoTimes::Never(_) => findings.error(at_cron.span, error.to_string(), HELP),
    }
    false
}
