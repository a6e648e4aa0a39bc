//! What strangers wrote, made fit for a page: text without the sequences that a terminal obeys, and HTML in which
//! none of it is markup.

use std::fmt::{self, Write};

use askama::filters::Escaper;

use crate::log_view::as_text;

/// Makes text harmless for a page, whatever stands in it. Every value in a template goes through here (askama.toml).
#[derive(Debug, Clone, Copy)]
pub(super) struct Escaped;

impl Escaper for Escaped {
    fn write_escaped_str<W: Write>(&self, mut page: W, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_special) {
            let (plain, special) = rest.split_at(at);
            page.write_str(plain)?;
            let mut chars = special.chars();
            if let Some(c) = chars.next() {
                page.write_str(instead_of(c))?;
            }
            rest = chars.as_str();
        }
        page.write_str(rest)
    }
}

fn is_special(c: char) -> bool {
    matches!(c, '&' | '<' | '>' | '"' | '\'') || (c.is_control() && c != '\n' && c != '\t') || turns(c)
}

/// Whether a character turns the direction of what follows it, so that text seems to be what it is not.
fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn instead_of(special: char) -> &'static str {
    match special {
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        '"' => "&quot;",
        '\'' => "&#39;",
        _ => "\u{fffd}",
    }
}

/// What is left of a terminal's output for one who reads it, line by line as the viewer of logs shows them: no colours,
/// and of a line that was written over only what it was last.
pub(super) fn plain(bytes: &[u8]) -> String {
    let mut plain = String::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        // No sequence goes beyond a line.
        let (line, end) = line.strip_suffix(b"\n").map_or((line, ""), |line| (line, "\n"));
        plain.push_str(&as_text(line));
        plain.push_str(end);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expect: &str) {
        assert_eq!(plain(bytes), expect);
    }

    #[test]
    fn a_terminals_sequences_are_left_out() {
        check(b"plain\nlines\n", "plain\nlines\n");
        check(b"\x1b[31mred\x1b[0m\r\n", "red\n");
        check(b" 10%\r 50%\r100%\ndone", "100%\ndone");
        check(b"\x1b]0;title\x07text", "text");
        check(b"\x1b]8;;http://x\x1b\\link", "link");
        check(b"cut \x1b[3", "cut ");
        check(b"\xff", "\u{fffd}");
        check(b"\x1b(Bone \x1b)0two \x1b#8three", "one two three");
        check(b"cut \x1b\nnext", "cut \nnext");
        check(b"cut \x1b]0;title\n\x1bPmore\nnext", "cut \n\nnext");
        check(b"ab\x08c \x1b]0;title\x1b[1mx", "ac x");
    }

    #[test]
    fn nothing_that_strangers_wrote_is_markup() {
        let mut page = String::new();
        Escaped.write_escaped_str(&mut page, "a<script>\"'&\u{0}\u{1b}[1m\u{202e}\tü\n").unwrap();
        assert_eq!(page, "a&lt;script&gt;&quot;&#39;&amp;\u{fffd}\u{fffd}[1m\u{fffd}\tü\n");
    }
}
