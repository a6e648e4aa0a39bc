//! GitLab's expressions (`$CI_COMMIT_BRANCH == "main" && $X =~ /y/`), as conditions of which one must hold.

use super::super::conditions::{Condition, both, glob};

/// A word of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Variable(String),
    Text(String),
    Pattern(String),
    Null,
    Sign(&'static str),
}

/// Why an expression is not carried over.
pub(super) struct Unclear;

/// What an expression means, and whether it names the default branch, which nobody here knows.
pub(super) struct Meaning {
    pub(super) conditions: Vec<Condition>,
    pub(super) default_branch: bool,
}

/// Reads an expression. `known` tells whether the file itself sets a variable.
pub(super) fn meaning(text: &str, known: &dyn Fn(&str) -> bool) -> Result<Meaning, Unclear> {
    let words = words(text).ok_or(Unclear)?;
    let default_branch = words.contains(&Word::Variable("CI_DEFAULT_BRANCH".to_owned()));
    let mut reader = Reader { words, at: 0, known };
    let conditions = reader.any()?;
    if reader.at < reader.words.len() { Err(Unclear) } else { Ok(Meaning { conditions, default_branch }) }
}

fn words(text: &str) -> Option<Vec<Word>> {
    const SIGNS: [&str; 8] = ["&&", "||", "==", "!=", "=~", "!~", "(", ")"];
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            words.push(Word::Sign(sign));
            rest = &rest[sign.len()..];
        } else if let Some(after) = rest.strip_prefix('$') {
            let after = after.strip_prefix('{').unwrap_or(after);
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            words.push(Word::Variable(after[..end].to_owned()));
            rest = after[end..].strip_prefix('}').unwrap_or(&after[end..]);
        } else if let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            let end = rest[1..].find(quote)?;
            words.push(Word::Text(rest[1..=end].to_owned()));
            rest = &rest[end + 2..];
        } else if let Some(after) = rest.strip_prefix('/') {
            let mut end = after.find('/')?;
            while after[..end].ends_with('\\') {
                end += 1 + after[end + 1..].find('/')?;
            }
            words.push(Word::Pattern(after[..end].to_owned()));
            // Flags: only the case of letters, which globs do not leave open.
            rest = &after[end + 1..];
            if rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
                return None;
            }
        } else {
            rest = rest.strip_prefix("null")?;
            words.push(Word::Null);
        }
        rest = rest.trim_start();
    }
    Some(words)
}

struct Reader<'k> {
    words: Vec<Word>,
    at: usize,
    known: &'k dyn Fn(&str) -> bool,
}

impl Reader<'_> {
    fn sign(&mut self, sign: &'static str) -> bool {
        let there = self.words.get(self.at) == Some(&Word::Sign(sign));
        self.at += usize::from(there);
        there
    }

    fn any(&mut self) -> Result<Vec<Condition>, Unclear> {
        let mut conditions = self.all()?;
        while self.sign("||") {
            conditions.extend(self.all()?);
        }
        Ok(conditions)
    }

    fn all(&mut self) -> Result<Vec<Condition>, Unclear> {
        let mut conditions = self.one()?;
        while self.sign("&&") {
            conditions = both(&conditions, &self.one()?);
        }
        Ok(conditions)
    }

    fn one(&mut self) -> Result<Vec<Condition>, Unclear> {
        if self.sign("(") {
            let inner = self.any()?;
            return if self.sign(")") { Ok(inner) } else { Err(Unclear) };
        }
        let Some(Word::Variable(name)) = self.words.get(self.at).cloned() else { return Err(Unclear) };
        self.at += 1;
        let Some(Word::Sign(sign @ ("==" | "!=" | "=~" | "!~"))) = self.words.get(self.at).cloned() else {
            return self.set(&name, true);
        };
        let value = self.words.get(self.at + 1).cloned().ok_or(Unclear)?;
        self.at += 2;
        let is = matches!(sign, "==" | "=~");
        match value {
            Word::Null => self.set(&name, !is),
            Word::Text(text) if text.is_empty() => self.set(&name, !is),
            Word::Text(text) => self.compared(&name, &text, is),
            Word::Variable(other) if other == "CI_DEFAULT_BRANCH" => self.compared(&name, "main", is),
            Word::Pattern(regex) => self.matched(&name, &regex, is),
            _ => Err(Unclear),
        }
    }

    /// Whether a variable is set at all.
    fn set(&self, name: &str, is: bool) -> Result<Vec<Condition>, Unclear> {
        let event = match name {
            "CI_COMMIT_TAG" => "tag",
            "CI_MERGE_REQUEST_ID" | "CI_MERGE_REQUEST_IID" => "pull_request",
            "CI_COMMIT_BRANCH" if is => return Ok(vec![Condition::of("branch", ["**"])]),
            "CI_COMMIT_BRANCH" => return Ok(vec![Condition::of("event", ["tag", "pull_request"])]),
            _ => {
                let sign = if is { "!=" } else { "==" };
                return self.expression(name, &format!("{sign} \"\""));
            }
        };
        Ok(vec![Condition::of("event", [format!("{}{event}", if is { "" } else { "!" })])])
    }

    fn compared(&self, name: &str, text: &str, is: bool) -> Result<Vec<Condition>, Unclear> {
        let not = if is { "" } else { "!" };
        if name == "CI_PIPELINE_SOURCE" {
            let events: &[&str] = match text {
                "push" => &["push", "tag"],
                "merge_request_event" => &["pull_request"],
                "schedule" => &["schedule"],
                "web" | "api" | "chat" => &["manual"],
                "pipeline" | "trigger" | "parent_pipeline" => &["upstream"],
                _ => return Err(Unclear),
            };
            return Ok(vec![Condition::of("event", events.iter().map(|event| format!("{not}{event}")))]);
        }
        let wanted = Wanted { glob: Some(escaped(text)), test: format!("== {text:?}") };
        match named(name, &wanted, is) {
            Some(conditions) => Ok(conditions),
            None => self.expression(name, &format!("{} {text:?}", if is { "==" } else { "!=" })),
        }
    }

    fn matched(&self, name: &str, regex: &str, is: bool) -> Result<Vec<Condition>, Unclear> {
        let not = if is { "" } else { "!" };
        let wanted = Wanted { glob: glob(regex), test: format!(".matches({regex:?})") };
        match named(name, &wanted, is) {
            Some(mut conditions) => {
                if name == "CI_COMMIT_TAG" && is {
                    conditions.iter_mut().for_each(|one| one.require("event", vec!["tag".to_owned()]));
                }
                Ok(conditions)
            }
            None if (self.known)(name) => {
                Ok(vec![Condition::expression(format!("{not}env.{name}.matches({regex:?})"))])
            }
            None => Err(Unclear),
        }
    }

    /// Of a variable that the file sets: the environment's.
    fn expression(&self, name: &str, rest: &str) -> Result<Vec<Condition>, Unclear> {
        if (self.known)(name) { Ok(vec![Condition::expression(format!("env.{name} {rest}"))]) } else { Err(Unclear) }
    }
}

/// What a name is compared with.
pub(super) struct Wanted {
    /// As a glob, where one says the same.
    pub(super) glob: Option<String>,
    /// What stands behind the name in an expression: `== "main"`, `.matches("^v")`.
    pub(super) test: String,
}

impl Wanted {
    /// That the branch, the tag or the target of a pull request is this; or that there is one, and it is not this.
    fn of(&self, key: &str, is: bool) -> Condition {
        let not = if is { "" } else { "!" };
        let text =
            if self.test.starts_with('.') { format!("{key}{}", self.test) } else { format!("{key} {}", self.test) };
        let text = if is { text } else { format!("!({text})") };
        match (key, &self.glob) {
            ("tag", None) => Condition::of("event", ["tag"]).and(&Condition::expression(text)),
            ("branch", None) => Condition::of("branch", ["**"]).and(&Condition::expression(text)),
            ("target", Some(glob)) => Self::requests(Condition::of("branch", [format!("{not}{glob}")])),
            ("source", _) => Self::requests(Condition::expression(text.replacen("source", "branch", 1))),
            ("target", None) => Self::requests(Condition::expression(text)),
            (key, Some(glob)) => Condition::of(key, [format!("{not}{glob}")]),
            (_, None) => Condition::expression(text),
        }
    }

    fn requests(mut condition: Condition) -> Condition {
        condition.require("event", vec!["pull_request".to_owned()]);
        condition
    }

    /// That the name of what is built is this, or is not: of a branch, a tag or the source of a pull request.
    pub(super) fn of_ref(&self, is: bool) -> Vec<Condition> {
        ["branch", "tag", "source"].into_iter().map(|key| self.of(key, is)).collect()
    }

    /// The same for a branch or a tag alone.
    pub(super) fn of_branch_or_tag(&self) -> Vec<Condition> {
        ["branch", "tag"].into_iter().map(|key| self.of(key, true)).collect()
    }
}

/// What a variable that GitLab sets asks for; a variable that is not set differs from everything.
fn named(name: &str, wanted: &Wanted, is: bool) -> Option<Vec<Condition>> {
    let (key, unset) = match name {
        "CI_COMMIT_BRANCH" => ("branch", Condition::of("event", ["tag", "pull_request"])),
        "CI_COMMIT_TAG" => ("tag", Condition::of("event", ["!tag"])),
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME" => ("target", Condition::of("event", ["!pull_request"])),
        "CI_COMMIT_REF_NAME" => return Some(wanted.of_ref(is)),
        _ => return None,
    };
    let mut conditions = vec![wanted.of(key, is)];
    conditions.extend((!is).then_some(unset));
    Some(conditions)
}

/// A text that a glob takes for itself.
pub(super) fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| matches!(c, '*' | '?' | '[' | '{' | '!').then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::conditions::written;
    use super::*;
    use crate::manifest::Map;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let known = |name: &str| name == "MODE";
        let got = meaning(text, &known).map_or("unclear".to_owned(), |meaning| {
            let mut map = Map::default();
            if let Some(when) = written(&meaning.conditions) {
                map.set("when", when);
            }
            map.document().trim_end().replace("\n  ", " ").replace("when: ", "")
        });
        assert_eq!(got, expect, "{text}");
    }

    #[test]
    fn expressions_become_conditions() {
        check("$CI_COMMIT_BRANCH == \"main\"", "branch: main");
        check("$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH", "branch: main");
        check("$CI_COMMIT_BRANCH != 'main'", "[{branch: '!main'}, {event: [tag, pull_request]}]");
        check(
            "$CI_COMMIT_TAG != 'v1'",
            "- {tag: '!v1'} - event: [push, pull_request, schedule, manual, upstream, injected, local]",
        );
        check("$CI_COMMIT_BRANCH =~ /^a+$/", "branch: '**' if: branch.matches(\"^a+$\")");
        check("$CI_COMMIT_REF_NAME == 'a'", "[{branch: a}, {tag: a}, {event: pull_request, if: branch == \"a\"}]");
        check("$CI_MERGE_REQUEST_TARGET_BRANCH_NAME == 'a'", "branch: a event: pull_request");
        check("$CI_COMMIT_TAG", "event: tag");
        check("$CI_COMMIT_TAG == null", "event: [push, pull_request, schedule, manual, upstream, injected, local]");
        check("$CI_COMMIT_TAG =~ /^v/", "tag: v** event: tag");
        check("$CI_COMMIT_TAG =~ /^v\\d+$/", "event: tag if: tag.matches(\"^v\\\\d+$\")");
        check("$CI_PIPELINE_SOURCE == 'merge_request_event'", "event: pull_request");
        check(
            "$CI_PIPELINE_SOURCE == 'push' && $CI_COMMIT_BRANCH =~ /^release\\//",
            "event: [push, tag] branch: release/**",
        );
        check(
            "$CI_COMMIT_TAG || ($CI_COMMIT_BRANCH == 'main' && $MODE == \"full\")",
            "[{event: tag}, {branch: main, if: env.MODE == \"full\"}]",
        );
        check("$MODE", "if: env.MODE != \"\"");
        check("$OTHER == 'x'", "unclear");
        check("$CI_COMMIT_BRANCH =~ /x/i", "unclear");
        check("$CI_COMMIT_BRANCH ==", "unclear");
        check("(", "unclear");
    }
}
