//! One line as a reader sees it. What a program printed is played as a terminal would: what is written over is gone,
//! colours become classes, links to the web become links; whatever else steers a terminal is left out. What comes out
//! is text in which `&`, `<`, `>` and quotes are written as HTML wants them, within spans and links of our own making,
//! and nothing else.

use std::fmt::Write as _;

use anstyle_parse::{DefaultCharAccumulator, Params, Parser, Perform};
use url::Url;

use super::style::{Style, is_look};

/// How far a sequence moves to the right at most where nothing is written yet, in characters: a few bytes must not
/// become a page of blanks.
const FARTHEST: usize = 1000;

/// The longest address of a link, in bytes.
const LONGEST_ADDRESS: usize = 2048;

/// How many links a line has at most.
const MOST_LINKS: usize = 256;

/// In which form a line is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// HTML: spans with classes, and links.
    Html,
    /// Its characters alone, and not escaped.
    Text,
}

/// One line, without its end, in the look that the lines before it left.
pub(super) fn render(bytes: &[u8], style: Style, form: Form) -> String {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let is_simple = |byte: &u8| *byte == b'\t' || (0x20..0x7f).contains(byte);
    if bytes.iter().all(is_simple) && (style.is_plain() || form == Form::Text) {
        // Most lines are.
        let text = String::from_utf8_lossy(bytes);
        return match form {
            Form::Text => text.into_owned(),
            Form::Html => escaped(&text),
        };
    }
    let mut row = Row { style, ..Row::default() };
    let mut parser = Parser::<DefaultCharAccumulator>::new();
    for byte in String::from_utf8_lossy(bytes).bytes() {
        parser.advance(&mut row, byte);
    }
    match form {
        Form::Text => row.cells.iter().map(|cell| cell.letter).collect(),
        Form::Html => row.html(),
    }
}

/// The characters of one line, without its end, as a reader sees them.
pub(crate) fn as_text(bytes: &[u8]) -> String {
    render(bytes, Style::default(), Form::Text)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    letter: char,
    style: Style,
    /// Of which link it is a part, from 1.
    link: u16,
}

const BLANK: char = ' ';

/// A line while it is written.
#[derive(Default)]
struct Row {
    cells: Vec<Cell>,
    /// Where the next character goes.
    at: usize,
    style: Style,
    links: Vec<String>,
    link: u16,
}

impl Row {
    fn put(&mut self, letter: char) {
        let blank = Cell { letter: BLANK, style: Style::default(), link: 0 };
        if self.cells.len() <= self.at {
            self.cells.resize(self.at + 1, blank);
        }
        self.cells[self.at] = Cell { letter, style: self.style, link: self.link };
        self.at += 1;
    }

    fn go_to(&mut self, place: usize) {
        self.at = place.min(FARTHEST.max(self.cells.len()));
    }

    fn erase(&mut self, which: u16) {
        let end = self.cells.len().min(self.at);
        match which {
            0 => self.cells.truncate(end),
            1 => {
                let blank = Cell { letter: BLANK, style: Style::default(), link: 0 };
                let upto = self.cells.len().min(self.at + 1);
                self.cells[..upto].fill(blank);
            }
            2 => self.cells.clear(),
            _ => {}
        }
    }

    fn open_link(&mut self, address: &[u8]) {
        self.link = 0;
        if address.len() > LONGEST_ADDRESS || self.links.len() >= MOST_LINKS {
            return;
        }
        let address = std::str::from_utf8(address).ok().and_then(|text| Url::parse(text).ok());
        let Some(address) = address.filter(|url| matches!(url.scheme(), "http" | "https")) else { return };
        self.links.push(address.into());
        self.link = u16::try_from(self.links.len()).unwrap_or(0);
    }

    fn html(&self) -> String {
        let mut out = String::with_capacity(self.cells.len() + 64);
        let mut rest = self.cells.as_slice();
        while let Some(first) = rest.first() {
            let length = rest.iter().take_while(|cell| cell.link == first.link).count();
            let (linked, behind) = rest.split_at(length);
            rest = behind;
            let address = usize::from(first.link).checked_sub(1).and_then(|place| self.links.get(place));
            if let Some(address) = address {
                // A String takes all that is written to it; so below.
                let href = escaped(address);
                let _ = write!(out, "<a href=\"{href}\" rel=\"noopener noreferrer nofollow\" target=\"_blank\">");
            }
            for run in linked.chunk_by(|one, next| one.style == next.style) {
                write_run(&mut out, run);
            }
            if address.is_some() {
                out.push_str("</a>");
            }
        }
        out
    }
}

/// Characters that look the same.
fn write_run(out: &mut String, run: &[Cell]) {
    let Some(Cell { style, .. }) = run.first() else { return };
    if !style.is_plain() {
        out.push_str("<span class=\"");
        let _ = style.write_classes(out);
        out.push_str("\">");
    }
    for cell in run {
        escape(out, cell.letter);
    }
    if !style.is_plain() {
        out.push_str("</span>");
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        escape(&mut out, letter);
    }
    out
}

fn escape(out: &mut String, letter: char) {
    match letter {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#39;"),
        letter => out.push(letter),
    }
}

/// A character that can be shown as it is. Those that turn the direction of writing could make a text read as another.
fn shown(letter: char) -> char {
    match letter {
        '\t' => letter,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' => '\u{fffd}',
        letter if letter.is_control() => '\u{fffd}',
        letter => letter,
    }
}

impl Perform for Row {
    fn print(&mut self, letter: char) {
        self.put(shown(letter));
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\r' => self.at = 0,
            0x08 => self.at = self.at.saturating_sub(1),
            // The bell, and the switch between sets of characters.
            0x07 | 0x0e | 0x0f => {}
            byte => self.put(shown(char::from(byte))),
        }
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _bell_terminated: bool) {
        // 8 ; settings ; address. An address may hold semicolons itself.
        if let [b"8", _, address @ ..] = params {
            self.open_link(&address.join(&b';'));
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        if is_look(intermediates, ignore, action) {
            return self.style.apply(params);
        }
        if ignore || !intermediates.is_empty() {
            return;
        }
        let number = params.iter().next().and_then(|group| group.first().copied()).unwrap_or(0);
        let steps = usize::from(number.max(1));
        match action {
            b'K' => self.erase(number),
            b'G' => self.go_to(steps - 1),
            b'C' => self.go_to(self.at + steps),
            b'D' => self.at = self.at.saturating_sub(steps),
            _ => {}
        }
    }
}
