//! When something runs: conditions of other systems, as lists of maps of `when`. A map is AND, a list is OR.

use crate::manifest::{Map, Value};

/// One map of `when`: for each key the patterns, of which those with `!` exclude.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Condition {
    keys: Vec<(String, Vec<String>)>,
    /// Expressions that must all hold.
    expressions: Vec<String>,
}

impl Condition {
    /// That a key has one of these values.
    pub(super) fn of<T: Into<String>>(key: &str, patterns: impl IntoIterator<Item = T>) -> Self {
        let mut condition = Self::default();
        condition.require(key, patterns.into_iter().map(Into::into).collect());
        condition
    }

    /// That an expression holds.
    pub(super) fn expression(expression: String) -> Self {
        Self { keys: Vec::new(), expressions: vec![expression] }
    }

    /// That a person has started the build: for what cannot be said, and must not widen.
    pub(super) fn by_hand() -> Self {
        Self::of("event", ["manual"])
    }

    /// The same, in builds that a person starts only: something of it could not be said.
    pub(super) fn leave_to_a_person(&mut self) {
        self.keys.retain(|(key, _)| key != "event");
        self.require("event", vec!["manual".to_owned()]);
    }

    /// Whether it asks for something of a key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|(known, _)| known == key)
    }

    /// Adds what must hold too. Patterns of one key are joined: those with `!` narrow the others.
    pub(super) fn require(&mut self, key: &str, patterns: Vec<String>) {
        if patterns.is_empty() {
            return;
        }
        let Some((_, known)) = self.keys.iter_mut().find(|(name, _)| name == key) else {
            self.keys.push((key.to_owned(), patterns));
            return;
        };
        let (narrowing, wanted): (Vec<String>, Vec<String>) =
            patterns.into_iter().partition(|one| one.starts_with('!'));
        let has = known.iter().any(|one| !one.starts_with('!'));
        if has && !wanted.is_empty() {
            // Both must hold: what is in both, as far as texts can tell.
            known.retain(|one| one.starts_with('!') || wanted.contains(one));
        } else {
            known.extend(wanted);
        }
        // Plain words that are not among those wanted are excluded already.
        if key == "event" && known.iter().any(|one| !one.starts_with('!') && !narrowing.contains(&format!("!{one}"))) {
            known.retain(|one| !narrowing.contains(&format!("!{one}")));
            return;
        }
        narrowing.into_iter().for_each(|one| {
            if !known.contains(&one) {
                known.push(one);
            }
        });
    }

    /// Adds an expression that must hold too.
    pub(super) fn require_expression(&mut self, expression: String) {
        self.expressions.push(expression);
    }

    /// Both of them.
    pub(super) fn and(mut self, other: &Self) -> Self {
        other.keys.iter().for_each(|(key, patterns)| self.require(key, patterns.clone()));
        self.expressions.extend(other.expressions.iter().cloned());
        self
    }

    /// With the same for a pull request into the branch that it names: elsewhere a branch is both.
    pub(super) fn with_pull_requests(self) -> Vec<Self> {
        if !self.has("branch") || self.has("event") {
            return vec![self];
        }
        let into = self.clone().and(&Self::of("event", ["pull_request"]));
        vec![self, into]
    }

    /// Conditions of which one holds when this does not; None where they cannot say it.
    pub(super) fn negated(&self) -> Option<Vec<Self>> {
        let mut any = Vec::new();
        for (key, patterns) in &self.keys {
            let (no, yes): (Vec<&String>, Vec<&String>) = patterns.iter().partition(|one| one.starts_with('!'));
            match key.as_str() {
                "event" | "branch" | "tag" => {
                    any.push(Self::of(key, yes.iter().map(|one| format!("!{one}"))));
                    any.push(Self::of(key, no.iter().map(|one| &one[1..])));
                }
                "status" => match patterns.as_slice() {
                    [one] if one == "success" => any.push(Self::of(key, ["failure"])),
                    [one] if one == "failure" => any.push(Self::of(key, ["success"])),
                    _ => return None,
                },
                // A path that is excluded leaves the other files of the same build.
                _ => return None,
            }
        }
        any.extend(self.expressions.iter().map(|one| Self::expression(format!("!({one})"))));
        any.retain(|one| !one.is_empty());
        if any.is_empty() { None } else { Some(any) }
    }

    /// Whether no build meets it, as far as its words tell.
    pub(super) fn is_impossible(&self) -> bool {
        self.keys.iter().any(|(key, patterns)| patterns.is_empty() || key == "event" && events(patterns).is_empty())
    }

    /// Whether nothing is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.expressions.is_empty()
    }

    fn map(&self) -> Map {
        let mut map = Map::default();
        let of_tag = self.keys.iter().any(|(key, patterns)| key == "tag" || key == "event" && *patterns == ["tag"]);
        for (key, patterns) in &self.keys {
            // A tag has no branch, so it is of no branch that is excluded.
            if of_tag && key == "branch" && patterns.iter().all(|one| one.starts_with('!')) {
                continue;
            }
            let patterns = if key == "event" { events(patterns) } else { patterns.clone() };
            match patterns.as_slice() {
                [one] => map.set(key, one.as_str()),
                several => map.set(key, Value::texts(several.iter().map(String::as_str))),
            }
        }
        match self.expressions.as_slice() {
            [] => {}
            [one] => map.set("if", one.as_str()),
            several => {
                let all: Vec<String> = several.iter().map(|one| format!("({one})")).collect();
                map.set("if", all.join(" && "));
            }
        }
        map
    }
}

/// Events have names and no patterns: those that are excluded are all the others.
fn events(patterns: &[String]) -> Vec<String> {
    const ALL: [&str; 8] = ["push", "tag", "pull_request", "schedule", "manual", "upstream", "injected", "local"];
    let (not, wanted): (Vec<&String>, Vec<&String>) = patterns.iter().partition(|one| one.starts_with('!'));
    let is_excluded = |event: &str| not.iter().any(|one| &one[1..] == event);
    if wanted.is_empty() {
        return ALL.into_iter().filter(|event| !is_excluded(event)).map(str::to_owned).collect();
    }
    wanted.into_iter().filter(|event| !is_excluded(event)).cloned().collect()
}

/// Whether no build meets any of these, though something is asked for.
pub(super) fn none_possible(conditions: &[Condition]) -> bool {
    !conditions.is_empty() && conditions.iter().all(Condition::is_impossible)
}

/// The value of `when` for conditions of which one must hold; None where nothing is asked for. Where no build meets
/// them, it is for builds that a person starts.
pub(super) fn written(conditions: &[Condition]) -> Option<Value> {
    if conditions.is_empty() || conditions.iter().any(Condition::is_empty) {
        return None;
    }
    if none_possible(conditions) {
        return Some(Condition::by_hand().map().into());
    }
    let mut maps: Vec<Value> = Vec::new();
    for condition in conditions.iter().filter(|condition| !condition.is_impossible()) {
        let map = Value::Map(condition.map());
        if !maps.contains(&map) {
            maps.push(map);
        }
    }
    Some(if maps.len() == 1 { maps.remove(0) } else { Value::List(maps) })
}

/// What holds when none of these does; None where `when` cannot say it, or only at great length.
pub(super) fn none_of(conditions: &[Condition]) -> Option<Vec<Condition>> {
    /// More than a person reads.
    const MANY: usize = 12;
    let mut all = vec![Condition::default()];
    for condition in conditions {
        all = both(&all, &condition.negated()?);
        all.retain(|one| !one.is_impossible());
        if all.is_empty() || all.len() > MANY {
            return None;
        }
    }
    Some(all)
}

/// All of one, each with all of the other.
pub(super) fn both(one: &[Condition], other: &[Condition]) -> Vec<Condition> {
    if one.is_empty() {
        return other.to_vec();
    }
    if other.is_empty() {
        return one.to_vec();
    }
    one.iter().flat_map(|left| other.iter().map(|right| left.clone().and(right))).collect()
}

/// A glob for a regular expression, where one says the same.
pub(super) fn glob(regex: &str) -> Option<String> {
    let (body, starts) = regex.strip_prefix('^').map_or((regex, false), |rest| (rest, true));
    let (body, ends) = match body.strip_suffix('$') {
        Some(rest) if !rest.ends_with('\\') => (rest, true),
        _ => (body, false),
    };
    let mut glob = String::from(if starts { "" } else { "**" });
    let mut chars = body.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                c @ ('.' | '/' | '-' | '_') => glob.push(c),
                _ => return None,
            },
            '.' if chars.peek() == Some(&'*') => {
                chars.next();
                glob.push_str("**");
            }
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/') => {
                if matches!(chars.peek(), Some('*' | '+' | '?' | '{')) {
                    return None;
                }
                glob.push(c);
            }
            _ => return None,
        }
    }
    if !ends && !glob.ends_with("**") {
        glob.push_str("**");
    }
    Some(glob)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_that_are_globs() {
        let check = |regex: &str, expect: Option<&str>| assert_eq!(glob(regex).as_deref(), expect, "{regex}");
        check("^v", Some("v**"));
        check("^release/", Some("release/**"));
        check("^main$", Some("main"));
        check("^feature\\/.*$", Some("feature/**"));
        check("fix", Some("**fix**"));
        check("^v\\d+$", None);
        check("^(a|b)$", None);
        check("^a+$", None);
    }

    #[test]
    fn conditions_are_joined_and_turned() {
        let mut main = Condition::of("branch", ["main"]);
        main.require("branch", vec!["!dev".to_owned()]);
        main.require("event", vec!["push".to_owned()]);
        let shown = |conditions: &[Condition]| {
            let mut map = Map::default();
            map.set("when", written(conditions).unwrap_or_else(|| Value::from("always")));
            map.document()
        };
        assert_eq!(shown(std::slice::from_ref(&main)), "when:\n  branch: [main, '!dev']\n  event: push\n");
        assert_eq!(shown(&[main.clone(), Condition::default()]), "when: always\n");
        let not = Condition::of("event", ["tag"]).negated().unwrap().remove(0);
        assert_eq!(
            shown(&[main.clone().and(&not), not]),
            "when:\n  - {branch: [main, '!dev'], event: push}\n  - event: [push, pull_request, schedule, manual, upstream, \
             injected, local]\n"
        );
        let shown_not = |conditions: &[Condition]| none_of(conditions).map(|all| shown(&all));
        assert_eq!(
            shown_not(&[main.clone()]).as_deref(),
            Some(
                "when:\n  - {branch: '!main'}\n  - {branch: dev}\n  - event: [tag, pull_request, schedule, manual, upstream, \
                 injected, local]\n"
            )
        );
        let of = |key: &str, word: &str| Condition::of(key, [word]);
        assert_eq!(
            shown_not(&[of("branch", "a"), of("branch", "b"), Condition::expression("env.X == \"1\"".to_owned())])
                .as_deref(),
            Some("when:\n  branch: ['!a', '!b']\n  if: '!(env.X == \"1\")'\n")
        );
        assert_eq!(shown_not(&[of("status", "failure")]).as_deref(), Some("when:\n  status: success\n"));
        // Another file may have changed beside it.
        assert_eq!(shown_not(&[of("path", "docs/**")]), None);
        assert_eq!(shown_not(&[Condition::default()]), None);
        // No build is of two events, and none of them is not all of them.
        let both = of("event", "push").and(&of("event", "tag"));
        assert_eq!(shown(std::slice::from_ref(&both)), "when:\n  event: manual\n");
        assert_eq!(shown(&[both, of("event", "tag")]), "when:\n  event: tag\n");
        let mut left = of("event", "push").and(&of("path", "src/**"));
        left.leave_to_a_person();
        assert_eq!(shown(&[left]), "when:\n  path: src/**\n  event: manual\n");
        // One of them holds in every build.
        assert_eq!(shown_not(&[of("event", "tag"), of("event", "!tag")]), None);
        assert_eq!(shown_not(&[]).as_deref(), Some("when: always\n"));
    }
}
