//! From values to YAML: manifests that this program writes for a person, with comments. Text comes out so that it
//! is read as the same text again, and looks as a person would have written it.

use std::fmt::Write as _;

/// The widest list or map that stands on one line, and the widest comment, in characters.
const WIDEST: usize = 100;

/// A value to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Any text; quoted where it must be, and where it could be taken for a number.
    Text(String),
    /// `true` or `false`.
    Truth(bool),
    /// A whole number.
    Number(u64),
    /// A list, on one line when it is short.
    List(Vec<Self>),
    /// A list with an element on each line: scripts.
    Lines(Vec<Self>),
    /// A map.
    Map(Map),
    /// An element of [`Value::Lines`] with a comment before it.
    Remarked(String, Box<Self>),
}

/// A map to be written, in the order in which its keys were set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Map {
    remarks: Vec<String>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    remarks: Vec<String>,
    apart: bool,
    key: String,
    value: Value,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl Value {
    /// A list of texts, on one line when it is short.
    pub(crate) fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(|text| Self::Text(text.into())).collect())
    }

    /// A list of texts, each on a line.
    pub(crate) fn lines<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::Lines(texts.into_iter().map(|text| Self::Text(text.into())).collect())
    }
}

impl Map {
    /// A map of one key.
    pub(crate) fn of(key: &str, value: impl Into<Value>) -> Self {
        let mut map = Self::default();
        map.set(key, value);
        map
    }

    /// Gives a key its value; the key keeps its place when it has one.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => entry.value = value,
            None => self.entries.push(Entry { remarks: Vec::new(), apart: false, key: key.to_owned(), value }),
        }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Whether a key stands here.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The keys, in their order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// Keeps only these keys; gives the others' names.
    pub(crate) fn retain(&mut self, keys: &[&str]) -> Vec<String> {
        let others = self.entries.extract_if(.., |entry| !keys.contains(&entry.key.as_str()));
        others.map(|entry| entry.key).collect()
    }

    /// Whether nothing stands here, comments aside.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A comment at the head of the map.
    pub(crate) fn remark(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.remarks.contains(&text) {
            self.remarks.push(text);
        }
    }

    /// A comment before a key that is set.
    pub(crate) fn remark_on(&mut self, key: &str, text: impl Into<String>) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.key == key) {
            entry.remarks.push(text.into());
        }
    }

    /// An empty line before a key that is set.
    pub(crate) fn set_apart(&mut self, key: &str) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.key == key) {
            entry.apart = true;
        }
    }

    /// Takes the comments at the head away, for another place.
    pub(crate) fn take_remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }

    /// Puts the keys in this order; others keep theirs, behind them.
    pub(crate) fn sort(&mut self, order: &[&str]) {
        let place = |key: &str| order.iter().position(|known| *known == key).unwrap_or(order.len());
        self.entries.sort_by_key(|entry| place(&entry.key));
    }

    /// The whole document.
    pub(crate) fn document(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, 0);
        text
    }

    fn write(&self, out: &mut String, indent: usize) {
        for remark in &self.remarks {
            comment(out, indent, remark);
        }
        for (index, entry) in self.entries.iter().enumerate() {
            if entry.apart && !out.is_empty() {
                out.push('\n');
            }
            for remark in &entry.remarks {
                comment(out, indent, remark);
            }
            // The first key of a map in a list stands behind its dash.
            if index > 0 || !out.ends_with("- ") {
                pad(out, indent);
            }
            out.push_str(&written_key(&entry.key));
            out.push(':');
            entry.value.write(out, indent, false);
        }
    }

    /// On one line, as `{a: b}`; None when it has comments or texts of several lines.
    fn flow(&self) -> Option<String> {
        let plain = self.remarks.is_empty() && self.entries.iter().all(|entry| entry.remarks.is_empty());
        let parts: Option<Vec<String>> = self
            .entries
            .iter()
            .map(|entry| Some(format!("{}: {}", written_key(&entry.key), entry.value.flow()?)))
            .collect();
        parts.filter(|_| plain).map(|parts| format!("{{{}}}", parts.join(", ")))
    }
}

impl Value {
    /// Writes what stands behind `key:` or behind a dash, its line's end included.
    fn write(&self, out: &mut String, indent: usize, in_list: bool) {
        let inner_of = if in_list { indent } else { indent + 2 };
        match self {
            Self::Text(text) if block(text) => write_block(out, text, inner_of, in_list),
            Self::Lines(elements) if !elements.is_empty() => write_list(out, elements, inner_of, in_list),
            Self::List(elements) => match self.short(indent) {
                Some(line) => behind(out, &line, in_list),
                None => write_list(out, elements, inner_of, in_list),
            },
            Self::Map(map)
                if in_list && self.short(indent).is_some_and(|line| map.entries.len() > 1 || line.len() < 60) =>
            {
                let line = self.short(indent).unwrap_or_default();
                behind(out, &line, in_list);
            }
            Self::Map(map) if !map.is_empty() => {
                if !in_list {
                    out.push('\n');
                } else if !map.remarks.is_empty() || !map.entries[0].remarks.is_empty() {
                    out.truncate(out.trim_end_matches(' ').len());
                    out.push('\n');
                }
                map.write(out, inner_of);
            }
            Self::Map(map) => {
                behind(out, "{}", in_list);
                for remark in &map.remarks {
                    comment(out, inner_of, remark);
                }
            }
            Self::Remarked(remark, inner) => {
                comment(out, inner_of, remark);
                inner.write(out, indent, in_list);
            }
            Self::Text(text) => behind(out, &scalar(text, false), in_list),
            Self::Truth(_) | Self::Number(_) | Self::Lines(_) => {
                behind(out, &self.flow().unwrap_or_default(), in_list);
            }
        }
    }

    /// On one line, when that is not too wide.
    fn short(&self, indent: usize) -> Option<String> {
        let several = matches!(self, Self::List(elements) if elements.is_empty());
        self.flow().filter(|line| several || line.chars().count() + indent + 16 <= WIDEST)
    }

    /// On one line, however wide; None when something in it must stand on lines of its own.
    fn flow(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(scalar(text, true)),
            Self::Truth(truth) => Some(truth.to_string()),
            Self::Number(number) => Some(number.to_string()),
            Self::List(elements) => {
                let parts: Option<Vec<String>> = elements.iter().map(Self::flow).collect();
                parts.map(|parts| format!("[{}]", parts.join(", ")))
            }
            Self::Lines(elements) if elements.is_empty() => Some("[]".to_owned()),
            Self::Lines(_) | Self::Remarked(..) => None,
            Self::Map(map) => map.flow(),
        }
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn behind(out: &mut String, line: &str, in_list: bool) {
    if !in_list {
        out.push(' ');
    }
    out.push_str(line);
    out.push('\n');
}

fn write_list(out: &mut String, elements: &[Value], indent: usize, in_list: bool) {
    // A list in a list begins on the next line, deeper.
    let indent = if in_list { indent + 2 } else { indent };
    out.truncate(out.trim_end_matches(' ').len());
    out.push('\n');
    for mut element in elements {
        if let Value::Remarked(remark, inner) = element {
            comment(out, indent, remark);
            element = inner;
        }
        pad(out, indent);
        out.push_str("- ");
        match element {
            Value::Text(text) if !block(text) => behind(out, &scalar(text, false), true),
            element => element.write(out, indent + 2, true),
        }
    }
}

/// A comment, broken into lines.
fn comment(out: &mut String, indent: usize, text: &str) {
    let clean: String = text.chars().map(|c| if is_odd(c) || c == '\t' { ' ' } else { c }).collect();
    let mut line = String::new();
    let mut put = |line: &mut String| {
        pad(out, indent);
        writeln!(out, "# {line}").ok();
        line.clear();
    };
    for word in clean.split_whitespace() {
        if !line.is_empty() && indent + line.chars().count() + word.chars().count() + 3 > WIDEST + 10 {
            put(&mut line);
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        put(&mut line);
    }
}

/// Whether a text is written as a block of lines.
fn block(text: &str) -> bool {
    text.contains('\n')
        && text.chars().all(|c| !is_odd(c) || c == '\n')
        // Where all is blank, or the first line is, the indentation cannot be told from the text.
        && !text.starts_with(['\n', ' ', '\t'])
}

fn write_block(out: &mut String, text: &str, indent: usize, in_list: bool) {
    let ending = match text.trim_end_matches('\n') {
        body if body.len() == text.len() => "-",
        body if body.len() + 1 == text.len() => "",
        _ => "+",
    };
    behind(out, &format!("|{ending}"), in_list);
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        if !line.is_empty() {
            pad(out, indent);
        }
        out.push_str(line);
        out.push('\n');
    }
}

/// What no plain or single-quoted text may hold: controls, ends of lines of any kind, and marks that turn the
/// direction of writing.
fn is_odd(c: char) -> bool {
    c.is_control() && c != '\t'
        || matches!(c, '\u{feff}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
}

/// A key on one line. `on` is a word of the language, and nobody takes it for a truth there.
fn written_key(key: &str) -> String {
    if key == "on" { key.to_owned() } else { scalar(key, true) }
}

/// A text on one line; `flow` when brackets and commas around it would end it.
fn scalar(text: &str, flow: bool) -> String {
    if plain(text, flow) {
        return text.to_owned();
    }
    if !text.contains(is_odd) && !text.contains('\t') {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if is_odd(c) => {
                write!(quoted, "\\u{:04X}", u32::from(c)).ok();
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Whether a text may stand without quotes.
fn plain(text: &str, flow: bool) -> bool {
    let begins = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '$' | '(' | '+' | '^' | '<' | ';');
    let mut first = text.chars();
    let start = first.next().is_some_and(|c| begins(c) || c == '~' && first.next() == Some('/'));
    start
        && !text.starts_with("...")
        && !text.starts_with("<<")
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.contains(is_odd)
        && !text.contains('\t')
        && !(flow && text.contains([',', '[', ']', '{', '}']))
        && !is_typed(text)
}

/// Whether some reader of YAML takes the text for something else: a number, a truth, a date, nothing.
fn is_typed(text: &str) -> bool {
    const WORDS: [&str; 14] =
        ["true", "false", "yes", "no", "on", "off", "y", "n", "null", ".inf", "+.inf", ".nan", "inf", "nan"];
    let lower = text.to_lowercase();
    let number = text.trim_start_matches('+');
    WORDS.contains(&lower.as_str())
        || number.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && (number.starts_with("0x")
                || number
                    .chars()
                    .all(|c| c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | '+' | ':' | 'o' | 'e' | 'E')))
}

#[cfg(test)]
mod tests {
    use super::super::node::{Node, Shape};
    use super::super::source::Text;
    use super::super::yaml;
    use super::*;

    const NASTY: [&str; 74] = [
        "",
        " ",
        "a",
        "a b",
        " a",
        "a ",
        "a: b",
        "a:",
        ":a",
        "a #b",
        "a#b",
        "#a",
        "- a",
        "-",
        "--",
        "-a",
        "---",
        "--- x",
        "...",
        "? a",
        "?",
        "*",
        "*a",
        "**/x",
        "&a",
        "!a",
        "!x*",
        "|",
        ">",
        "%a",
        "@a",
        "`a`",
        "'",
        "''",
        "it's",
        "\"",
        "\"a\"",
        "\\",
        "a\\nb",
        "a\nb",
        "a\nb\n",
        "a\n\nb\n\n",
        "\n",
        "\na",
        "a\n b\n",
        " a\nb",
        "\ta",
        "a\tb",
        "a\r\nb",
        "a\u{7}b",
        "é 日本",
        "\u{feff}x",
        "a\u{2028}b",
        "\u{202e}x",
        "true",
        "False",
        "yes",
        "no",
        "~",
        "~/x",
        "null",
        "1",
        "1.10",
        "0x1F",
        "1e3",
        "-5",
        ".5",
        ".inf",
        "2001-01-01",
        "12:30:45",
        "[a]",
        "{a: b}",
        "a, b",
        "<<",
    ];

    fn read(text: &str) -> Node {
        yaml::parse(&Text::new("f.yml", text.to_owned())).unwrap_or_else(|problem| panic!("{text}\n{problem}"))
    }

    fn written(node: &Node) -> Value {
        match &node.value {
            Shape::Null => panic!("nothing is written as nothing"),
            Shape::Scalar { text, truth: None } => Value::Text(text.clone()),
            Shape::Scalar { truth: Some(truth), .. } => Value::Truth(*truth),
            Shape::List(elements) => Value::List(elements.iter().map(written).collect()),
            Shape::Map(entries) => {
                let mut map = Map::default();
                for entry in entries {
                    map.set(&entry.key.value, written(&entry.value));
                }
                Value::Map(map)
            }
        }
    }

    #[track_caller]
    fn check(map: &Map, expect: &str) {
        assert_eq!(map.document(), expect);
    }

    #[test]
    fn any_text_comes_back_as_it_was() {
        for text in NASTY {
            let all = || Value::texts([text, text]);
            let mut inner = Map::of("k", text);
            inner.set("l", all());
            let mut map = Map::of("alone", text);
            map.set("listed", all());
            map.set(
                "lines",
                Value::List(vec![all(), Value::Map(inner.clone()), Value::texts(["x".repeat(120), text.to_owned()])]),
            );
            map.set("inner", inner);
            if !text.is_empty() {
                map.set(text, "key");
            }
            let document = map.document();
            assert_eq!(written(&read(&document)), Value::Map(map), "{text:?}\n{document}");
        }
    }

    #[test]
    fn scripts_stand_line_by_line() {
        let mut map = Map::of("image", "rust:1-bookworm");
        map.set(
            "build",
            Map::of("script", Value::lines(["make", "echo \"a: b\"", "if true\nthen\n  echo x\nfi", "echo [a, b]"])),
        );
        check(
            &map,
            "image: rust:1-bookworm\nbuild:\n  script:\n    - make\n    - 'echo \"a: b\"'\n    - |-\n      if true\n      then\n        \
             echo x\n      fi\n    - echo [a, b]\n",
        );
    }

    #[test]
    fn short_values_stand_on_a_line() {
        let mut map = Map::of("needs", Value::List(Vec::new()));
        map.set("stages", Value::List(vec!["a".into(), Value::texts(["b", "c"])]));
        map.set("when", Value::List(vec![Map::of("event", "push").into()]));
        map.set("retry", Value::Number(2));
        map.set("rust", Value::texts(["1.10", "stable"]));
        map.set("docker", Value::Truth(true));
        check(
            &map,
            "needs: []\nstages: [a, [b, c]]\nwhen: [{event: push}]\nretry: 2\nrust: ['1.10', stable]\ndocker: true\n",
        );
    }

    #[test]
    fn comments_stand_before_what_they_are_about() {
        let mut stage = Map::of("script", Value::lines(["make"]));
        stage.remark("about the stage");
        stage.remark("about the stage");
        stage.remark_on("script", "about\nthe \u{1b}script");
        let mut map = Map::of("build", stage);
        map.remark("word ".repeat(40));
        map.set("empty", Map::default());
        map.set_apart("build");
        let long = "word ".repeat(21);
        check(
            &map,
            &format!(
                "# {}\n# {}\n\nbuild:\n  # about the stage\n  # about the script\n  script:\n    - make\nempty: {{}}\n",
                long.trim_end(),
                "word ".repeat(19).trim_end()
            ),
        );
    }
}
