//! What strangers wrote, made fit for a page: text without the sequences that a terminal obeys, and HTML in which
//! none of it is markup.

use std::fmt;

/// Text that is shown as it is, whatever stands in it.
pub(super) struct Shown<T>(pub(super) T);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.to_string().chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => write!(f, "{c}")?,
                c if c.is_control() => f.write_str("\u{fffd}")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
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
        let got = Shown("<script>\"'&\u{0}\u{8}").to_string();
        assert_eq!(got, "&lt;script&gt;&quot;&#39;&amp;\u{fffd}\u{fffd}");
    }
}
