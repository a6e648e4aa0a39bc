//! From text to [`Node`]s. The only file that knows the YAML crate: another one is put in its place here.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Error, Location, MessageFormatter, NonFiniteFloatPolicy, Options, UserMessageFormatter};

use super::node::{Entry, Node, Shape};
use super::source::{Problem, Span, Spanned, Text, quoted};

/// The most values that a manifest may hold, those counted again that an alias repeats. The largest that people
/// have written hold a few thousand; this many take some 20 ms.
const MAX_NODES: usize = 20_000;

/// The deepest that lists and maps may be nested. The language needs six.
const MAX_DEPTH: usize = 32;

/// The most anchors, aliases and merge keys, each.
const MAX_ANCHORS: usize = 1_000;

/// The most documents in a file of another system.
const MAX_DOCUMENTS: usize = 100;

/// Reads one YAML document. Nothing is asked here about what it means.
///
/// # Errors
/// The first thing that is not YAML, is too large, or that YAML leaves open and buildr does not (a key that
/// stands twice, a second document, a key that is no text).
pub(super) fn parse(source: &Text) -> Result<Node, Problem> {
    serde_yaml::from_str_with_options::<Raw>(source.text(), options(2))
        .map(|raw| node(source, raw))
        .map_err(|error| problem(source, &error))
}

/// Reads all documents of a text; empty ones are passed over.
///
/// # Errors
/// As [`parse`], but that a second document is no error.
pub(super) fn parse_all(source: &Text) -> Result<Vec<Node>, Problem> {
    serde_yaml::from_multiple_with_options::<Raw>(source.text(), options(MAX_DOCUMENTS))
        .map(|raws| raws.into_iter().map(|raw| node(source, raw)).collect())
        .map_err(|error| problem(source, &error))
}

fn options(documents: usize) -> Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_nodes: MAX_NODES,
            max_events: 3 * MAX_NODES,
            max_depth: MAX_DEPTH,
            max_aliases: MAX_ANCHORS,
            max_anchors: MAX_ANCHORS,
            max_merge_keys: MAX_ANCHORS,
            max_documents: documents,
            // One anchor that many stages use is what anchors are for; what it expands to is bounded below.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: MAX_NODES,
            max_replay_stack_depth: MAX_DEPTH,
        },
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    }
}

/// A value as the crate gives it.
struct Raw(serde_yaml::Spanned<RawShape>);

enum RawShape {
    Null,
    Text(String),
    /// A plain scalar that the crate took for a boolean or a number: what is written there counts. The text
    /// here stands in where the source has none.
    Typed {
        text: String,
        truth: Option<bool>,
    },
    List(Vec<Raw>),
    Map(Vec<(serde_yaml::Spanned<String>, Raw)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_yaml::Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for RawShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = RawShape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<RawShape, E> {
        Ok(RawShape::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawShape, E> {
        Ok(RawShape::Typed { text: value.to_string(), truth: Some(value) })
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawShape, E> {
        Ok(RawShape::Typed { text: value.to_string(), truth: None })
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawShape, E> {
        Ok(RawShape::Typed { text: value.to_string(), truth: None })
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawShape, E> {
        Ok(RawShape::Typed { text: value.to_string(), truth: None })
    }

    fn visit_str<E>(self, text: &str) -> Result<RawShape, E> {
        Ok(RawShape::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawShape, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            elements.push(element);
        }
        Ok(RawShape::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawShape, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(RawShape::Map(entries))
    }
}

/// Recursion is bounded by [`MAX_DEPTH`].
fn node(source: &Text, raw: Raw) -> Node {
    let mut span = span(source, &raw.0.defined);
    let value = match raw.0.value {
        RawShape::Null => {
            span = dash(source, span).unwrap_or(span);
            Shape::Null
        }
        RawShape::Text(text) => Shape::Scalar { text, truth: None },
        RawShape::Typed { text, truth } => {
            let written = source.slice(span);
            // A quoted scalar comes here only with a tag such as `!!int`.
            let plain = !written.is_empty() && !written.starts_with(['"', '\'']);
            Shape::Scalar { text: if plain { written.to_owned() } else { text }, truth }
        }
        RawShape::List(elements) => Shape::List(elements.into_iter().map(|element| node(source, element)).collect()),
        RawShape::Map(entries) => {
            let entry = |(key, value): (serde_yaml::Spanned<String>, Raw)| Entry {
                key: Spanned { span: self::span(source, &key.defined), value: key.value },
                value: node(source, value),
            };
            Shape::Map(entries.into_iter().map(entry).collect())
        }
    };
    Spanned { value, span }
}

/// The `-` of an element that has nothing behind it: else there is nothing to point at.
fn dash(source: &Text, nothing: Span) -> Option<Span> {
    let line = source.line_range(nothing.start);
    let text = &source.text()[line.clone()];
    let indentation = text.len() - text.trim_start().len();
    let behind = text[indentation..].strip_prefix('-')?.trim_start();
    let alone = nothing.start == nothing.end && (behind.is_empty() || behind.starts_with('#'));
    let start = line.start + indentation;
    alone.then(|| Span::new(start..start + 1))
}

fn span(source: &Text, location: &Location) -> Span {
    let bytes = location.span();
    let index = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    match bytes.byte_offset().zip(bytes.byte_len()) {
        Some((start, length)) => Span::new(index(start)..index(start.saturating_add(length))),
        None => {
            let start = source.offset(index(location.line()), index(location.column()));
            Span::new(start..start)
        }
    }
}

fn problem(source: &Text, error: &Error) -> Problem {
    let span = error.location().map_or(Span::new(0..0), |location| span(source, &location));
    let mut cause = error;
    while let Error::AliasError { error, .. } | Error::WithSnippet { error, .. } = cause {
        cause = error;
    }
    let (message, help) = match cause {
        Error::DuplicateMappingKey { key, .. } => (
            format!("the key {} stands twice in this map", quoted(key.as_deref().unwrap_or("~"))),
            "keep one of the two, or write both values under one key".to_owned(),
        ),
        Error::MultipleDocuments { .. } => (
            "a second YAML document begins here, and a manifest is one".to_owned(),
            "write all of it in one document, without a `---` between".to_owned(),
        ),
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => (
            "the manifest is too large from here on".to_owned(),
            format!(
                "write at most {MAX_NODES} values, counting what aliases repeat, {MAX_DEPTH} levels of nesting \
                 and {MAX_ANCHORS} anchors"
            ),
        ),
        Error::UnknownAnchor { .. } => (
            "no anchor of this name stands before this alias".to_owned(),
            "write `&name` before the value that `*name` repeats; text that begins with `*` must be quoted".to_owned(),
        ),
        Error::RecursiveReferencesRequireWeakTypes { .. } => (
            "this alias stands within the very value that it repeats".to_owned(),
            "write the `&anchor` at a value that is complete before the alias".to_owned(),
        ),
        Error::MergeValueNotMapOrSeqOfMaps { .. } => (
            "`<<` takes a map, or a list of maps".to_owned(),
            "write `<<: *name`, where `&name` stands before a map".to_owned(),
        ),
        // Values of every kind are taken, so only a key can be of a wrong one.
        Error::Unexpected { .. } | Error::NullIntoString { .. } => {
            ("this key is no text".to_owned(), "write a name before the colon, such as `build:`".to_owned())
        }
        other => {
            let reason = UserMessageFormatter.format_message(other);
            let (span, advice) = advice(source, span);
            return source.problem(span, format!("this is not YAML: {reason}"), advice);
        }
    };
    source.problem(span, message, help)
}

/// What people most often meant where the text is no YAML, and the place that shows it.
fn advice(source: &Text, span: Span) -> (Span, &'static str) {
    let line = source.line_range(span.start);
    let (before, after) = source.text()[line.clone()].split_at(span.start.saturating_sub(line.start).min(line.len()));
    let blank = |c: char| c == ' ' || c == '\t';
    if let Some(tab) = before.find('\t').filter(|&tab| before[..tab].chars().all(blank)) {
        let tab = line.start + tab;
        (Span::new(tab..tab + 1), "write spaces in place of the tab: YAML does not indent with tabs")
    } else if after.starts_with(['@', '`', '%']) {
        (span, "write the text in quotes: YAML keeps this character for itself")
    } else if after.starts_with("- ") {
        (span, "write each `- ` on a line of its own, below the key")
    } else if after.starts_with(':') && before.contains(": ") {
        (span, "write the text in quotes: in plain text, `: ` makes a key of what stands before it")
    } else {
        (span, "write it with an eye on the indentation, quotes and brackets of this line and of those before it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::worked_ms;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let source = Text::new("f.yml", text.to_owned());
        let got = parse(&source).map_or_else(|problem| problem.to_string(), |node| shown(&source, &node));
        assert_eq!(got, expect, "{text}");
    }

    /// Text with its place, `+`/`-` for true and false.
    fn shown(source: &Text, node: &Node) -> String {
        let all = |parts: Vec<String>| parts.join(" ");
        match &node.value {
            Shape::Null => "~".to_owned(),
            Shape::Scalar { text, truth } => {
                let sign = truth.map_or("", |truth| if truth { "+" } else { "-" });
                let problem = source.problem(node.span, "", "").to_string();
                let place = problem.trim_start_matches("f.yml:").split(": ").next().unwrap().to_owned();
                format!("{text}{sign}@{place}")
            }
            Shape::List(elements) => format!("[{}]", all(elements.iter().map(|e| shown(source, e)).collect())),
            Shape::Map(entries) => {
                let entry = |e: &Entry| format!("{}={}", e.key.value, shown(source, &e.value));
                format!("{{{}}}", all(entries.iter().map(entry).collect()))
            }
        }
    }

    #[test]
    fn scalars_are_taken_as_written() {
        check("a: 1.10", "{a=1.10@1:4}");
        check(
            "[080, 0x1F, -5, 1e999, .inf, no, 1_000]",
            "[080@1:2 0x1F@1:7 -5@1:13 1e999@1:17 .inf@1:24 no@1:30 1_000@1:34]",
        );
        check("[true, False, 'true', yes]", "[true+@1:2 False-@1:8 true@1:15 yes@1:23]");
        check("['it''s', \"a\\tb\"]", "[it's@1:2 a\tb@1:11]");
        check("[!!str 5, !!int 5, !!int '5', !mine x]", "[5@1:8 5@1:17 5@1:26 x@1:37]");
        check("[~, null, '']", "[~ ~ @1:11]");
        check("a:", "{a=~}");
        check("é: |\n  x\n  y\n", "{é=x\ny\n@2:3}");
        check("", "~");
    }

    #[test]
    fn aliases_and_merges_are_where_they_are_defined() {
        check("a: &a [x]\nb: *a", "{a=[x@1:8] b=[x@1:8]}");
        check("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  x: 3\n", "{a={x=1@1:11 y=2@1:17} b={x=3@4:6 y=2@1:17}}");
    }

    #[test]
    fn documents_one_after_the_other() {
        let source = Text::new("f.yml", "---\na: 1\n---\n---\nb: [x]\n...\n".to_owned());
        let all = parse_all(&source).unwrap();
        let all: Vec<String> = all.iter().map(|node| shown(&source, node)).collect();
        assert_eq!(all, ["{a=1@2:4}", "{b=[x@5:5]}"]);
    }

    #[test]
    fn bombs_end_in_no_time() {
        let mut aliases = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let row = vec![format!("*a{}", level - 1); 9].join(",");
            aliases += &format!("a{level}: &a{level} [{row}]\n");
        }
        let many = |text: &str| text.repeat((1 << 20) / text.len());
        let bombs =
            [aliases, many("["), many("{a: "), many("- "), many("? "), many("[x, &a x, "), many("*a "), many("!")];
        let start = worked_ms();
        for bomb in bombs {
            assert!(parse(&Text::new("f", bomb)).is_err());
        }
        // Some 30 ms on an idle machine.
        assert!(worked_ms() - start < 5_000, "{} ms", worked_ms() - start);
    }
}
