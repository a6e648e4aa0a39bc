//! The text of a manifest, places in it, and what is shown of it when something there is wrong.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use unicode_width::UnicodeWidthChar;

/// The widest piece of a line that is shown, in columns of a terminal.
const SHOWN_COLUMNS: usize = 100;

/// The longest help, in characters: what it repeats of the manifest may have any length.
const LONGEST_HELP: usize = 240;

/// A stretch of the manifest's text, in bytes. Empty where something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    pub(crate) fn new(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }

    /// The same stretch, so much further on.
    pub(super) fn on(self, by: usize) -> Self {
        Self { start: self.start + by, end: self.end + by }
    }

    /// The same stretch, so much further back.
    fn back(self, by: usize) -> Self {
        Self { start: self.start - by, end: self.end.saturating_sub(by) }
    }
}

/// A value and where it is written. For a value that came through an alias or a merge: where it is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// One file's text under the name by which people know it. Places in it count from its own beginning.
#[derive(Debug, Clone, Default)]
pub(crate) struct Text {
    name: String,
    text: String,
}

impl Text {
    pub(crate) fn new(name: &str, text: String) -> Self {
        Self { name: name.to_owned(), text }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The text of a stretch; empty when it is none of this text's.
    pub(crate) fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or("")
    }

    /// The number of the line on which a byte stands, counted from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        line_starts(&self.text).take_while(|&begin| begin <= offset).count()
    }

    /// The line on which a byte stands, without its end. Within the text.
    pub(crate) fn line_range(&self, offset: usize) -> Range<usize> {
        let offset = self.char_boundary(offset);
        let mut start = self.text[..offset].rfind(['\n', '\r']).map_or(0, |at| at + 1);
        let mut end = self.text[offset..].find(['\n', '\r']).map_or(self.text.len(), |at| offset + at);
        // Between the two characters of a line's end: the line is the one that they end.
        if self.text[..offset].ends_with('\r') && self.text[offset..].starts_with('\n') {
            end = offset - 1;
            start = self.text[..end].rfind(['\n', '\r']).map_or(0, |at| at + 1);
        }
        start..end
    }

    /// The byte at a line and a column, both counted from 1, the column in characters. Beyond the end of a line
    /// it is the line's end.
    pub(crate) fn offset(&self, line: usize, column: usize) -> usize {
        let start = line_starts(&self.text).nth(line.saturating_sub(1)).unwrap_or(self.text.len());
        let range = self.line_range(start);
        let within = self.text[range.clone()].char_indices().nth(column.saturating_sub(1));
        within.map_or(range.end, |(at, _)| range.start + at)
    }

    /// Something that is wrong at a place, and what to write instead.
    pub(crate) fn problem(&self, span: Span, message: impl AsRef<str>, help: impl AsRef<str>) -> Problem {
        let start = self.char_boundary(span.start);
        let end = self.char_boundary(span.end).max(start);
        let range = self.line_range(start);
        let line = &*without_passwords(&self.text[range.clone()]);
        Problem {
            file: self.name.clone(),
            line: self.line(start),
            column: self.text[range.start..start].chars().count() + 1,
            message: without_controls(message.as_ref()),
            help: shortened(&without_controls(help.as_ref()), LONGEST_HELP),
            snippet: Box::new(Snippet::new(line, start - range.start..(end - range.start).min(line.len()))),
        }
    }

    fn char_boundary(&self, offset: usize) -> usize {
        self.text.floor_char_boundary(offset)
    }
}

/// A line whose addresses show no password, as long as it was: what is wrong is printed in logs, which more people read
/// than the manifest.
fn without_passwords(line: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(line);
    for (at, scheme) in line.match_indices("://") {
        let begin = at + scheme.len();
        let authority = line[begin..].split(['/', ' ', '\t', '"', '\'']).next().unwrap_or("");
        let Some(end) = authority.rfind('@') else { continue };
        if let Some(colon) = authority[..end].find(':') {
            shown.to_mut().replace_range(begin + colon + 1..begin + end, &"*".repeat(end - colon - 1));
        }
    }
    shown
}

/// The texts of a manifest: its own, then those that it includes. Places count through all of them, so that a
/// [`Span`] is two numbers wherever it points.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Each with its first byte's place; the first one's is 0. Between two of them one place is nobody's, so that an
    /// end of one is no beginning of another.
    texts: Vec<(usize, Text)>,
}

impl Default for Source {
    fn default() -> Self {
        Text::default().into()
    }
}

impl From<Text> for Source {
    fn from(text: Text) -> Self {
        Self { texts: vec![(0, text)] }
    }
}

impl Source {
    /// One text. The plan's tests begin with it.
    #[cfg(test)]
    pub(crate) fn new(name: &str, text: String) -> Self {
        Text::new(name, text).into()
    }

    /// Takes one more text, and says where its places begin.
    pub(super) fn add(&mut self, text: Text) -> usize {
        let start = self.texts.last().map_or(0, |(start, last)| start + last.text.len() + 1);
        self.texts.push((start, text));
        start
    }

    /// The text of a stretch; empty when it is none.
    pub(crate) fn slice(&self, span: Span) -> &str {
        let (start, text) = self.at(span.start);
        text.slice(span.back(start))
    }

    /// The line on which a byte stands, without its end.
    pub(super) fn line(&self, offset: usize) -> &str {
        let (start, text) = self.at(offset);
        &text.text[text.line_range(offset - start)]
    }

    /// Something that is wrong at a place, and what to write instead.
    pub(crate) fn problem(&self, span: Span, message: impl AsRef<str>, help: impl AsRef<str>) -> Problem {
        let (start, text) = self.at(span.start);
        text.problem(span.back(start), message, help)
    }

    /// The text that a place is in, and where that begins.
    fn at(&self, offset: usize) -> (usize, &Text) {
        let index = self.texts.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        let (start, text) = &self.texts[index];
        (*start, text)
    }
}

/// What is wrong with a manifest, and where. Its [`fmt::Display`] is what a person reads: file, line and column,
/// what is wrong, the line with a mark under the place, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    file: String,
    line: usize,
    column: usize,
    message: String,
    help: String,
    snippet: Box<Snippet>,
}

impl Problem {
    /// The file that it is in, as people know it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Its line and column, both counted from 1, the column in characters.
    #[must_use]
    pub fn place(&self) -> (usize, usize) {
        (self.line, self.column)
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to write instead.
    #[must_use]
    pub fn help(&self) -> &str {
        &self.help
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, help, snippet } = self;
        let Snippet { text, before, marked } = &**snippet;
        let gutter = line.to_string().len();
        writeln!(f, "{file}:{line}:{column}: {message}")?;
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{}", format!("{line} | {text}").trim_end())?;
        writeln!(f, "{:gutter$} | {:before$}{}", "", "", "^".repeat(*marked))?;
        write!(f, "{:gutter$} = {help}", "")
    }
}

/// The text as a person quotes it: control characters escaped, cut when it is long.
pub(crate) fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text, 60))
}

fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A line as a terminal can show it: no control characters, not too wide.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Snippet {
    text: String,
    /// Columns before the mark.
    before: usize,
    /// Columns under which the mark stands, at least 1.
    marked: usize,
}

impl Snippet {
    fn new(line: &str, marked: Range<usize>) -> Self {
        /// How much is shown before the mark when a line must be cut on its left.
        const LEAD: usize = 30;
        let width = |text: &str| text.chars().map(|c| cell(c).1).sum::<usize>();
        let mut first = 0;
        if width(&line[..marked.end]) > SHOWN_COLUMNS {
            let lead = line[..marked.start].char_indices().rev().take(LEAD).last();
            first = lead.map_or(0, |(at, _)| at);
        }
        let mut text = if first > 0 { "…".to_owned() } else { String::new() };
        let (mut columns, mut before, mut under) = (text.chars().count(), None, 0);
        for (at, c) in line[first..].char_indices().map(|(at, c)| (first + at, c)) {
            if columns >= SHOWN_COLUMNS {
                text.push('…');
                break;
            }
            let (shown, width) = cell(c);
            if at >= marked.start {
                before.get_or_insert(columns);
            }
            if marked.contains(&at) {
                under += width;
            }
            columns += width;
            text.push_str(&shown);
        }
        Self { text, before: before.unwrap_or(columns), marked: under.max(1) }
    }
}

/// What stands for a character on a terminal, and how many columns it takes there.
fn cell(c: char) -> (String, usize) {
    match c {
        '\t' => ("    ".to_owned(), 4),
        c if is_invisible(c) => ('\u{fffd}'.to_string(), 1),
        c => (c.to_string(), c.width().unwrap_or(1)),
    }
}

/// Controls, which can drive a terminal, and marks that turn the direction of writing, which can make a line
/// look like another.
fn is_invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn without_controls(text: &str) -> String {
    text.chars().map(|c| if is_invisible(c) { '\u{fffd}' } else { c }).collect()
}

/// Where lines begin. A line ends as YAML has it: with LF, CR, or both.
fn line_starts(text: &str) -> impl Iterator<Item = usize> {
    let bytes = text.as_bytes();
    let ends = bytes.iter().enumerate().filter(|&(at, &byte)| match byte {
        b'\n' => true,
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        _ => false,
    });
    std::iter::once(0).chain(ends.map(|(at, _)| at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    /// Marks the first `word` of the text.
    fn mark(text: &str, word: &str) -> String {
        let start = text.find(word).unwrap();
        let source = Text::new("f.yml", text.to_owned());
        source.problem(Span::new(start..start + word.len()), "wrong", "write it right").to_string()
    }

    #[test]
    fn a_place_is_shown_with_its_line() {
        assert_snapshot!(mark("a: 1\nb: two\nc: 3\n", "two"), @"
        f.yml:2:4: wrong
          |
        2 | b: two
          |    ^^^
          = write it right
        ");
    }

    #[test]
    fn a_password_in_an_address_is_not_shown() {
        assert_snapshot!(mark("- https://ada:pä@ss@example.org/x, ssh://git@h:22/a two", "two"), @"
        f.yml:1:53: wrong
          |
        1 | - https://ada:******@example.org/x, ssh://git@h:22/a two
          |                                                      ^^^
          = write it right
        ");
        assert_eq!(without_passwords("image: debian # https://x:8080/@y"), "image: debian # https://x:8080/@y");
    }

    #[test]
    fn columns_count_characters_and_marks_count_what_a_terminal_shows() {
        assert_snapshot!(mark("日本: é two", "two"), @"
        f.yml:1:7: wrong
          |
        1 | 日本: é two
          |         ^^^
          = write it right
        ");
        assert_snapshot!(mark("a:\ttwo", "two"), @"
        f.yml:1:4: wrong
          |
        1 | a:    two
          |       ^^^
          = write it right
        ");
    }

    #[test]
    fn lines_end_as_yaml_has_it() {
        for text in ["a\r\nb\r\ntwo\r\n", "a\rb\rtwo\r", "a\nb\ntwo\n", "a\nb\ntwo"] {
            assert!(mark(text, "two").starts_with("f.yml:3:1: wrong\n  |\n3 | two\n"), "{text:?}");
        }
    }

    #[test]
    fn a_terminal_is_not_driven_by_a_manifest() {
        let shown = mark("\u{1b}[31m\u{202e}two", "two");
        assert!(shown.contains("1 | \u{fffd}[31m\u{fffd}two\n"), "{shown}");
        let shown = Source::new("f", String::new()).problem(Span::new(0..0), "\u{1b}[2J", "\u{7}").to_string();
        assert!(!shown.contains(['\u{1b}', '\u{7}']), "{shown:?}");
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let line = format!("{}two{}", "x".repeat(5000), "y".repeat(5000));
        assert_snapshot!(mark(&line, "two"), @"
        f.yml:1:5001: wrong
          |
        1 | …xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxtwoyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy…
          |                                ^^^
          = write it right
        ");
    }

    #[test]
    fn any_place_can_be_shown() {
        let text = "ä\r\n\r\u{1F600}\n\n";
        let source = Source::new("f", text.to_owned());
        for start in 0..text.len() + 3 {
            for end in 0..text.len() + 3 {
                let shown = source.problem(Span { start, end }, "m", "h").to_string();
                assert_eq!(shown.lines().count(), 5, "{start}..{end}\n{shown}");
            }
        }
        let text = Text::new("f", text.to_owned());
        for (line, column) in [(0, 0), (1, 1), (1, 9), (9, 9), (3, 2)] {
            assert!(text.offset(line, column) <= text.text().len());
        }
        assert_eq!((text.offset(3, 1), text.offset(3, 2)), (5, 9));
    }
    #[test]
    fn places_go_through_all_texts() {
        let mut source = Source::new("a", "one\ntwo".to_owned());
        let b = source.add(Text::new("b", String::new()));
        let c = source.add(Text::new("c", "x: é\ny: z".to_owned()));
        assert_eq!((b, c), (8, 9));
        let told = |at: Range<usize>| source.problem(Span::new(at), "m", "h").to_string();
        assert!(told(4..7).starts_with("a:2:1: m\n  |\n2 | two\n  | ^^^\n"), "{}", told(4..7));
        assert!(told(7..7).starts_with("a:2:4: m\n"), "{}", told(7..7));
        assert!(told(8..8).starts_with("b:1:1: m\n"), "{}", told(8..8));
        assert!(told(c + 3..c + 5).starts_with("c:1:4: m\n  |\n1 | x: é\n  |    ^\n"), "{}", told(c + 3..c + 5));
        assert_eq!((source.slice(Span::new(c + 6..c + 7)), source.line(c + 7)), ("y", "y: z"));
        for start in 0..c + 20 {
            for end in 0..c + 20 {
                assert_eq!(told(start..end).lines().count(), 5, "{start}..{end}");
            }
        }
    }
}
