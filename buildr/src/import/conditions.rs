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

    /// Whether it only leaves out something of a key.
    pub(super) fn only_excludes(&self, key: &str) -> bool {
        self.has(key) && self.patterns(key).iter().all(|one| one.starts_with('!'))
    }

    /// The same without what it asks for of a key.
    pub(super) fn without(&self, key: &str) -> Self {
        let mut rest = self.clone();
        rest.keys.retain(|(known, _)| known != key);
        rest
    }

    fn patterns(&self, key: &str) -> &[String] {
        self.keys.iter().find(|(known, _)| known == key).map_or(&[], |(_, patterns)| patterns)
    }

    /// The events of which one must be, where it asks for some.
    fn events(&self) -> Option<Vec<String>> {
        self.has("event").then(|| events(self.patterns("event")))
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

    /// Both of them. A branch without an event is never that of a pull request, also when the other has events.
    pub(super) fn and(mut self, other: &Self) -> Self {
        let no_request = [&self, other].iter().any(|one| one.has("branch") && !one.has("event"));
        other.keys.iter().for_each(|(key, patterns)| self.require(key, patterns.clone()));
        if no_request && self.has("event") {
            self.require("event", vec!["!pull_request".to_owned()]);
        }
        self.expressions.extend(other.expressions.iter().cloned());
        self
    }

    /// With the same for a pull request into the branch that it names: elsewhere a branch is both.
    pub(super) fn with_pull_requests(self) -> Vec<Self> {
        if !self.has("branch") || self.has("event") {
            return vec![self];
        }
        let mut into = self.clone();
        into.require("event", vec!["pull_request".to_owned()]);
        vec![self, into]
    }

    /// Conditions of which one holds when this does not; None where they cannot say it.
    pub(super) fn negated(&self) -> Option<Vec<Self>> {
        let mut any = Vec::new();
        for (key, patterns) in &self.keys {
            let (no, yes): (Vec<&String>, Vec<&String>) = patterns.iter().partition(|one| one.starts_with('!'));
            match key.as_str() {
                "event" | "branch" | "tag" => {
                    let turned = [
                        Self::of(key, yes.iter().map(|one| format!("!{one}"))),
                        Self::of(key, no.iter().map(|one| &one[1..])),
                    ];
                    self.turn(key, turned.into_iter().filter(|one| !one.is_empty()).collect(), &mut any);
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

    /// Adds what holds when a key does not: its patterns turned, and builds that have no branch or no tag at all.
    fn turn(&self, key: &str, turned: Vec<Self>, any: &mut Vec<Self>) {
        let events = self.events();
        let has = |event: &str| events.iter().flatten().any(|one| one == event);
        match (key, &events) {
            ("branch", None) => {
                any.extend(turned);
                any.push(Self::of("event", ["tag", "pull_request"]));
            }
            ("branch", Some(events)) => {
                // There it is the branch that the pull request is to go into.
                let into = turned.iter().cloned().map(|mut one| {
                    one.require("event", vec!["pull_request".to_owned()]);
                    one
                });
                let into: Vec<Self> = into.filter(|_| has("pull_request")).collect();
                if events.iter().any(|one| one != "tag" && one != "pull_request") {
                    any.extend(turned);
                }
                any.extend(into);
                any.extend(has("tag").then(|| Self::of("event", ["tag"])));
            }
            ("tag", None) => {
                any.extend(turned);
                any.push(Self::of("event", ["!tag"]));
            }
            ("tag", Some(events)) => {
                any.extend(turned);
                any.push(Self::of("event", events.iter().filter(|one| *one != "tag").cloned()));
            }
            _ => any.extend(turned),
        }
    }

    /// Whether no build meets it, as far as its words tell.
    pub(super) fn is_impossible(&self) -> bool {
        let events = self.events();
        let all =
            |known: &[&str]| events.as_ref().is_some_and(|all| all.iter().all(|one| known.contains(&one.as_str())));
        // A tag has no branch, and nothing else has a tag.
        self.keys.iter().any(|(_, patterns)| patterns.is_empty())
            || all(&[])
            || self.has("branch") && (self.has("tag") || all(&["tag"]))
            || self.has("tag") && all(&["push", "pull_request"])
    }

    /// Whether all that meets the other meets this too, as far as their words tell.
    fn covers(&self, other: &Self) -> bool {
        let key_covers = |(key, patterns): &(String, Vec<String>)| {
            other.has(key)
                && (other.patterns(key) == patterns
                    || key == "event" && events(other.patterns(key)).iter().all(|one| events(patterns).contains(one)))
        };
        self.keys.iter().all(key_covers)
            && self.expressions.iter().all(|one| other.expressions.contains(one))
            && self.patterns("status") == other.patterns("status")
            && (!self.has("branch") || self.has("event") == other.has("event"))
    }

    /// Whether nothing is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.expressions.is_empty()
    }

    /// Whether its events only leave out what a branch without an event, or a tag, is not anyway.
    fn says_nothing_by_event(&self) -> bool {
        let not = self.patterns("event");
        let only = |known: [&str; 2]| not.iter().all(|one| known.contains(&one.as_str()));
        self.has("branch") && not.iter().any(|one| one == "!pull_request") && only(["!pull_request", "!tag"])
            || self.has("tag") && only(["!pull_request", "!push"])
    }

    fn map(&self) -> Map {
        let mut map = Map::default();
        for (key, patterns) in &self.keys {
            if key == "event" && self.says_nothing_by_event() {
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
        all = pruned(both(&all, &condition.negated()?));
        if all.is_empty() || all.len() > MANY {
            return None;
        }
    }
    Some(all)
}

/// Without those that no build meets, and those that another one covers.
pub(super) fn pruned(conditions: Vec<Condition>) -> Vec<Condition> {
    let mut kept: Vec<Condition> = Vec::new();
    for condition in conditions.into_iter().filter(|condition| !condition.is_impossible()) {
        if !kept.iter().any(|known| known.covers(&condition)) {
            kept.retain(|known| !condition.covers(known));
            kept.push(condition);
        }
    }
    kept
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
            Some(
                "when:\n  - {branch: ['!a', '!b'], if: '!(env.X == \"1\")'}\n  - {event: [tag, pull_request], if: '!(env.X == \"1\")'}\n"
            )
        );
        assert_eq!(shown_not(&[of("status", "failure")]).as_deref(), Some("when:\n  status: success\n"));
        // Tags and pull requests are on no branch.
        let not_main = Some("when: [{branch: '!main'}, {event: [tag, pull_request]}]\n");
        assert_eq!(shown_not(&[of("branch", "main")]).as_deref(), not_main);
        let into_main = of("event", "pull_request").and(&of("ref", "x"));
        assert_eq!(shown_not(&[into_main]).as_deref(), None);
        let mut into_main = of("branch", "main");
        into_main.require("event", vec!["pull_request".to_owned()]);
        assert_eq!(
            shown_not(&[into_main]).as_deref(),
            Some(
                "when:\n  - {branch: '!main', event: pull_request}\n  - event: [push, tag, schedule, manual, upstream, \
                 injected, local]\n"
            )
        );
        assert_eq!(
            shown_not(&[of("tag", "v*").and(&of("event", "tag"))]).as_deref(),
            Some(
                "when:\n  - {tag: '!v*'}\n  - event: [push, pull_request, schedule, manual, upstream, injected, local]\n"
            )
        );
        // A branch without an event is of no pull request, whatever it is joined with.
        assert_eq!(shown(&[of("branch", "main").and(&of("event", "!tag"))]), "when:\n  branch: main\n");
        assert_eq!(shown(&[of("branch", "main").and(&of("event", "pull_request"))]), "when:\n  event: manual\n");
        assert_eq!(shown(&[of("branch", "v*").and(&of("event", "tag")), of("tag", "v*")]), "when:\n  tag: v*\n");
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
