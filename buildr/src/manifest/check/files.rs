//! What a stage leaves: artifacts, reports and caches.

use protocol::plan::{CachePolicy, KeepWhen};

use super::findings::{Findings, Keys};
use super::values::Choice;
use crate::manifest::globs::too_large;
use crate::manifest::keys::{ARTIFACTS, CACHE, COVERAGE, REPORTS};
use crate::manifest::language::{Artifacts, Cache, Coverage, Reports};
use crate::manifest::node::{Entry, Node, Shape};
use crate::manifest::source::{Span, Spanned, quoted};

const KEEP: [Choice<KeepWhen>; 3] =
    [("success", KeepWhen::Success), ("failure", KeepWhen::Failure), ("always", KeepWhen::Always)];

const POLICY: [Choice<CachePolicy>; 3] =
    [("both", CachePolicy::Both), ("pull", CachePolicy::Pull), ("push", CachePolicy::Push)];

/// What `artifacts` says: paths, or a map with them.
pub(super) fn artifacts(entry: &Entry, findings: &mut Findings<'_>) -> Option<Artifacts> {
    let before = findings.count();
    let mut read = Artifacts { paths: Vec::new(), exclude: Vec::new(), when: KeepWhen::default(), expire_ms: None };
    if matches!(entry.value.value, Shape::Map(_)) {
        for entry in findings.entries(entry, &Keys::of("artifacts", &ARTIFACTS), "artifacts: {paths: [dist/**]}") {
            match entry.key.value.as_str() {
                "paths" => kept(entry, &mut read, findings),
                "exclude" => read.exclude.extend(below(entry, "a path in \"exclude\"", findings)),
                "when" => read.when = findings.choice(entry, &KEEP).unwrap_or_default(),
                _ => read.expire_ms = findings.duration(entry),
            }
        }
    } else {
        kept(entry, &mut read, findings);
    }
    if read.paths.is_empty() && findings.count() == before {
        let message = "these artifacts have no paths, so nothing would be kept";
        findings.error(entry.place(), message, "write `artifacts: [dist/**]`, or leave it out");
    }
    (!read.paths.is_empty()).then_some(read)
}

/// Paths of artifacts; those that begin with `!` are left out.
fn kept(entry: &Entry, artifacts: &mut Artifacts, findings: &mut Findings<'_>) {
    for path in below(entry, "a path of artifacts", findings) {
        match path.value.strip_prefix('!') {
            Some(out) => artifacts.exclude.push(Spanned { value: out.to_owned(), span: path.span }),
            None => artifacts.paths.push(path),
        }
    }
}

/// Globs of files below the workspace.
pub(super) fn below(entry: &Entry, what: &str, findings: &mut Findings<'_>) -> Vec<Spanned<String>> {
    let help =
        format!("write `{}: [dist/**]`: paths below the workspace, in which `*` stands for any text", entry.key.value);
    let mut paths = findings.texts(entry, what, &help);
    paths.retain(|path| findings.stays_below(path, what));
    for path in &paths {
        if let Some((message, help)) = too_large(&path.value) {
            findings.error(path.span, message, help);
        }
    }
    paths
}

/// What `reports` says.
pub(super) fn reports(entry: &Entry, findings: &mut Findings<'_>) -> Reports {
    let mut reports = Reports::default();
    for entry in findings.entries(entry, &Keys::of("reports", &REPORTS), "reports: {junit: \"build/**/*.xml\"}") {
        match entry.key.value.as_str() {
            "junit" => reports.junit = below(entry, "a path of reports", findings),
            _ => reports.coverage = coverage(entry, findings),
        }
    }
    reports
}

/// What `coverage` says: a file, `/regex/` over what the stage prints, or a map with one of the two.
fn coverage(entry: &Entry, findings: &mut Findings<'_>) -> Option<Coverage> {
    const HELP: &str = "write `coverage: lcov.info`, or `coverage: '/covered: ([0-9.]+)%/'`";
    if matches!(entry.value.value, Shape::Map(_)) {
        let before = findings.count();
        let entries = findings.entries(entry, &Keys::of("coverage", &COVERAGE), "coverage: {file: lcov.info}");
        let [only] = entries.as_slice() else {
            if findings.count() == before {
                findings.error(entry.place(), "\"coverage\" comes from one place: a `file` or the `log`", HELP);
            }
            return None;
        };
        let text = findings.word(only, HELP)?;
        return if only.key.value == "log" { of_log(text, findings) } else { of_file(text, findings) };
    }
    let text = findings.word(entry, HELP)?;
    match text.value.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).filter(|regex| !regex.is_empty()) {
        Some(regex) => of_log(Spanned { value: regex.to_owned(), span: text.span }, findings),
        None => of_file(text, findings),
    }
}

fn of_file(path: Spanned<String>, findings: &mut Findings<'_>) -> Option<Coverage> {
    findings.stays_below(&path, "the file of \"coverage\"").then_some(Coverage::File(path))
}

fn of_log(regex: Spanned<String>, findings: &mut Findings<'_>) -> Option<Coverage> {
    if expression(&regex.value, regex.span, findings)? != 1 {
        findings.error(
            regex.span,
            "this regular expression does not say with one group where the number is",
            "write brackets around the number, and only there: `/covered: ([0-9.]+)%/`; `(?:...)` is no group",
        );
        return None;
    }
    Some(Coverage::Log(regex))
}

/// How many groups a regular expression has; told when it is none.
pub(super) fn expression(text: &str, place: Span, findings: &mut Findings<'_>) -> Option<usize> {
    match regex::Regex::new(text) {
        Ok(regex) => Some(regex.captures_len() - 1),
        Err(error) => {
            // The last line of its text says why; those before it draw the place.
            let told = error.to_string();
            let reason = told.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            findings.error(
                place,
                format!("{} is not a regular expression: {reason}", quoted(text)),
                "write it as Rust's regex crate has it: https://docs.rs/regex/#syntax",
            );
            None
        }
    }
}

/// What `cache` says: paths, a map, or a list in which maps may stand; `false` for none.
pub(super) fn caches(entry: &Entry, findings: &mut Findings<'_>) -> Vec<Cache> {
    match &entry.value.value {
        Shape::Scalar { truth: Some(false), .. } => Vec::new(),
        Shape::Map(_) => cache(&entry.value, entry.place(), findings).into_iter().collect(),
        Shape::List(elements) => {
            let maps: Vec<&Node> = elements.iter().filter(|element| matches!(element.value, Shape::Map(_))).collect();
            let mut paths = Vec::new();
            for element in elements.iter().filter(|element| !matches!(element.value, Shape::Map(_))) {
                cached(element, entry.key.span, &mut paths, findings);
            }
            let short = (!paths.is_empty()).then(|| of_paths(paths));
            let long = maps.into_iter().filter_map(|map| cache(map, entry.key.span, findings));
            short.into_iter().chain(long).collect()
        }
        Shape::Null | Shape::Scalar { .. } => {
            let mut paths = Vec::new();
            cached(&entry.value, entry.place(), &mut paths, findings);
            if paths.is_empty() { Vec::new() } else { vec![of_paths(paths)] }
        }
    }
}

fn of_paths(paths: Vec<Spanned<String>>) -> Cache {
    Cache { paths, name: None, key: Vec::new(), fallback: Vec::new(), policy: CachePolicy::default() }
}

fn cache(node: &Node, place: Span, findings: &mut Findings<'_>) -> Option<Cache> {
    const EXAMPLE: &str = "cache: {paths: [target], key: [Cargo.lock]}";
    let place = node.place_or(place);
    let before = findings.count();
    let mut read = of_paths(Vec::new());
    for entry in findings.map(node, place, &Keys::of("cache", &CACHE), EXAMPLE) {
        match entry.key.value.as_str() {
            "paths" => cached(&entry.value, entry.place(), &mut read.paths, findings),
            "key" => read.key = below(entry, "a file in \"key\"", findings),
            "name" => read.name = findings.word(entry, "write `name: rust-${branch}`: a text that tells caches apart"),
            "fallback" => {
                read.fallback = findings.texts(entry, "a name in \"fallback\"", "write `fallback: [rust-main, rust-]`");
            }
            _ => read.policy = findings.choice(entry, &POLICY).unwrap_or_default(),
        }
    }
    if read.paths.is_empty() && findings.count() == before {
        findings.error(place, "this cache has no paths, so nothing would be kept", format!("write `{EXAMPLE}`"));
    }
    (!read.paths.is_empty()).then_some(read)
}

/// Folders of a cache: below the workspace, absolute, or below `~`.
fn cached(node: &Node, place: Span, paths: &mut Vec<Spanned<String>>, findings: &mut Findings<'_>) {
    const HELP: &str = "write `cache: [target, ~/.cargo/registry]`, or a map with `paths`";
    let place = node.place_or(place);
    let mut texts = Vec::new();
    findings.each_text(node, place, "a path in \"cache\"", HELP, &mut texts);
    for path in texts {
        let bare = path.value.trim_end_matches('/');
        let whole = matches!(bare, "" | "." | "~" | "./.") || bare.split('/').any(|part| part == "..");
        if whole || path.value.contains(['*', '?', '[']) {
            let message = format!("{} cannot be cached: a cache is folders, by their names", quoted(&path.value));
            findings.error(path.span, message, HELP);
        } else {
            paths.push(path);
        }
    }
}
