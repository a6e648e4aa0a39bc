//! Travis CI's conditions (`branch = main AND type = push`), as far as `when` can say them.

use super::super::conditions::{Condition, glob};
use super::super::draft::Draft;
use super::super::tree::Tree;
use crate::manifest::Map;

/// What an `if` asks for. What cannot be said is told, and holds only in builds that a person starts.
pub(super) fn conditions(draft: &Draft, map: &mut Map, tree: &Tree) -> Vec<Condition> {
    match tree.peek().and_then(meaning) {
        Some(condition) => {
            tree.told();
            condition.with_pull_requests()
        }
        None => {
            let because = "this condition has no counterpart, so it runs only in builds that a person starts; write it with branch, tag, event or `if`";
            draft.notes.lost(map, "if", tree, because);
            vec![Condition::by_hand()]
        }
    }
}

/// Clauses that are joined by AND; None when there is anything else.
fn meaning(text: &str) -> Option<Condition> {
    let words = words(text)?;
    let mut condition = Condition::default();
    for clause in words.split(|word| word.eq_ignore_ascii_case("and") || word == "&&") {
        let clause: Vec<&str> = clause.iter().map(String::as_str).collect();
        let (key, patterns) = match clause.as_slice() {
            [key @ ("branch" | "tag"), "=", name] => (*key, vec![plain(name)?.to_owned()]),
            [key @ ("branch" | "tag"), "=~", regex] => {
                let body = regex.strip_prefix('/').and_then(|regex| regex.strip_suffix('/')).unwrap_or(regex);
                (*key, vec![glob(body)?])
            }
            ["type", "=", name] => ("event", events(name)?.iter().map(|event| (*event).to_owned()).collect()),
            ["type", "!=", name] => ("event", events(name)?.iter().map(|event| format!("!{event}")).collect()),
            ["tag", is, word] if is.eq_ignore_ascii_case("is") && word.eq_ignore_ascii_case("present") => {
                ("event", vec!["tag".to_owned()])
            }
            ["tag", is, word] if is.eq_ignore_ascii_case("is") && word.eq_ignore_ascii_case("blank") => {
                ("event", vec!["!tag".to_owned()])
            }
            _ => return None,
        };
        condition.require(key, patterns);
    }
    Some(condition)
}

/// A name that a glob takes for itself.
fn plain(name: &str) -> Option<&str> {
    (!name.contains(['*', '?', '[', '{', '!', '\\'])).then_some(name)
}

/// The events here for one of Travis CI's types.
fn events(name: &str) -> Option<&'static [&'static str]> {
    match name {
        "push" => Some(&["push", "tag"]),
        "pull_request" => Some(&["pull_request"]),
        "cron" => Some(&["schedule"]),
        "api" => Some(&["manual"]),
        _ => None,
    }
}

/// Names, signs and texts without their quotes; None where there is something else, such as brackets.
fn words(text: &str) -> Option<Vec<String>> {
    const SIGNS: [(&str, &str); 5] = [("!=", "!="), ("=~", "=~"), ("==", "="), ("=", "="), ("&&", "&&")];
    let mut words: Vec<String> = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_regex = words.last().is_some_and(|word| word == "=~");
        if let Some((sign, own)) = SIGNS.iter().find(|(sign, _)| !is_regex && rest.starts_with(sign)) {
            words.push((*own).to_owned());
            rest = &rest[sign.len()..];
        } else if matches!(first, '"' | '\'') {
            let end = rest[1..].find(first)?;
            words.push(rest[1..=end].to_owned());
            rest = &rest[end + 2..];
        } else {
            let ends = |c: char| c.is_whitespace() || !is_regex && matches!(c, '=' | '!' | '&');
            let end = rest.find(ends).unwrap_or(rest.len());
            if end == 0 || rest[..end].contains(['(', ')', ',', '|']) {
                return None;
            }
            words.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::super::super::conditions::written;
    use super::*;

    #[test]
    fn conditions_that_can_be_said() {
        let check = |text: &str, expect: &str| {
            let got = meaning(text).map_or("unclear".to_owned(), |condition| {
                let mut map = Map::default();
                written(&condition.with_pull_requests()).into_iter().for_each(|when| map.set("when", when));
                map.document().trim_end().replace("\n  ", " ").replace("when: ", "")
            });
            assert_eq!(got, expect, "{text}");
        };
        check("branch = main", "[{branch: main}, {branch: main, event: pull_request}]");
        check("branch=main AND type=push", "branch: main event: [push, tag]");
        check("type = \"cron\" and branch == 'main'", "event: schedule branch: main");
        check("tag IS present", "event: tag");
        check("tag is blank && type != pull_request", "event: [push, schedule, manual, upstream, injected, local]");
        check("tag =~ ^v AND tag IS present", "tag: v** event: tag");
        check("tag =~ /^v.*$/", "tag: v**");
        for unclear in [
            "branch = main OR tag IS present",
            "branch IN (main, dev)",
            "NOT branch = main",
            "branch != main",
            "branch = x*",
            "tag =~ ^v\\d+$",
            "fork = false",
            "type = other",
            "branch =",
            "",
            "\"",
        ] {
            check(unclear, "unclear");
        }
    }
}
