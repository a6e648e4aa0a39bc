//! What strangers wrote, made fit for a page: text without the sequences that a terminal obeys, and HTML in which
//! none of it is markup.

use std::fmt::{self, Write};

use askama::filters::Escaper;

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

/// What is left of a terminal's output for one who reads it: no colours, and of a line that was written over and
/// over only what it was last.
pub(super) fn plain(bytes: &[u8]) -> String {
    let text = without_sequences(&String::from_utf8_lossy(bytes));
    let mut plain = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let line = line.strip_suffix('\r').unwrap_or(line);
        plain.push_str(line.rsplit('\r').next().unwrap_or(line));
        plain.push_str(end);
    }
    plain
}

fn without_sequences(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            // A control sequence ends with its first letter.
            Some('[') => while chars.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {},
            // A command to the system ends with BEL or with ESC \.
            Some(']') => {
                while let Some(c) = chars.next() {
                    if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                        break;
                    }
                }
            }
            _ => {}
        }
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
    }

    #[test]
    fn nothing_that_strangers_wrote_is_markup() {
        let mut page = String::new();
        Escaped.write_escaped_str(&mut page, "a<script>\"'&\u{0}\u{1b}[1m\u{202e}\tü\n").unwrap();
        assert_eq!(page, "a&lt;script&gt;&quot;&#39;&amp;\u{fffd}\u{fffd}[1m\u{fffd}\tü\n");
    }
}
