//! A build's output, made harmless for the terminal that shows it: colours pass, what would move the cursor, clear the
//! screen, set titles or write the clipboard does not. Lines come out whole.

/// The most bytes of a line that is not over which are kept: what is longer is shown in pieces.
const LONGEST: usize = 16 << 10;

/// The most that is remembered of the colours in force.
const MOST_COLOUR: usize = 64;

/// One log on its way to a terminal.
#[derive(Debug, Default)]
pub(crate) struct Harmless {
    at: At,
    /// The line that is not over, without what would steer.
    line: Vec<u8>,
    /// The sequence that is being read.
    sequence: Vec<u8>,
    /// The colours in force, as the sequences that set them.
    color: String,
    /// Whether a carriage return came: the line begins anew with the next byte that is shown.
    anew: bool,
}

/// Where in a sequence the reader is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC [.
    Control,
    /// In a text for the terminal itself, such as a title.
    Message,
    /// In such a text, after ESC.
    MessageEscape,
}

/// Whether colours pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colors {
    /// They do.
    Pass,
    /// They are taken out too.
    Drop,
}

impl Harmless {
    /// Takes what a log has printed, and gives the lines that it completes.
    pub(crate) fn add(&mut self, bytes: &[u8], colors: Colors) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            match self.at {
                At::Text => self.text(byte, &mut lines),
                At::Escape => self.escape(byte),
                At::Control => self.control(byte, colors, &mut lines),
                At::Message => match byte {
                    0x07 => self.at = At::Text,
                    0x1b => self.at = At::MessageEscape,
                    // A text for the terminal has no line ends: what looked like one was none.
                    b'\n' => {
                        self.at = At::Text;
                        self.text(byte, &mut lines);
                    }
                    _ => {}
                },
                At::MessageEscape => self.at = if byte == b'\\' { At::Text } else { At::Message },
            }
        }
        lines
    }

    /// The line that is not over, as it stands; none where it shows nothing.
    pub(crate) fn open(&self) -> Option<String> {
        let line = finished(&self.line);
        (!console::strip_ansi_codes(&line).is_empty()).then_some(line)
    }

    /// Ends the line that is not over.
    pub(crate) fn close(&mut self) -> Option<String> {
        let line = self.open();
        self.line.clear();
        self.anew = false;
        line
    }

    fn text(&mut self, byte: u8, lines: &mut Vec<String>) {
        match byte {
            b'\n' => lines.push(self.end_line()),
            b'\r' => self.anew = true,
            0x1b => self.at = At::Escape,
            b'\t' | 0x20..=0x7e | 0x80.. => {
                if self.anew {
                    self.line.clear();
                    self.line.extend_from_slice(self.color.as_bytes());
                    self.anew = false;
                }
                self.bound(byte & 0xc0 != 0x80, lines);
                self.line.push(byte);
            }
            _ => {}
        }
    }

    /// Ends a line that has become too long, where it can: no character is taken apart, but for bytes that are none.
    fn bound(&mut self, between_characters: bool, lines: &mut Vec<String>) {
        const LONGEST_CHARACTER: usize = 4;
        if self.line.len() >= LONGEST && (between_characters || self.line.len() >= LONGEST + LONGEST_CHARACTER) {
            lines.push(self.end_line());
        }
    }

    fn end_line(&mut self) -> String {
        let line = finished(&self.line);
        self.line.clear();
        self.line.extend_from_slice(self.color.as_bytes());
        self.anew = false;
        line
    }

    fn escape(&mut self, byte: u8) {
        self.at = match byte {
            b'[' => {
                self.sequence.clear();
                At::Control
            }
            b']' | b'P' | b'X' | b'^' | b'_' => At::Message,
            // An intermediate byte: one more follows.
            0x20..=0x2f | 0x1b => At::Escape,
            _ => At::Text,
        };
    }

    fn control(&mut self, byte: u8, colors: Colors, lines: &mut Vec<String>) {
        match byte {
            0x20..=0x3f => {
                if self.sequence.len() < MOST_COLOUR {
                    self.sequence.push(byte);
                }
                return;
            }
            b'm' if colors == Colors::Pass => self.paint(lines),
            _ => {}
        }
        self.at = At::Text;
    }

    fn paint(&mut self, lines: &mut Vec<String>) {
        let plain = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b';' | b':');
        if self.sequence.len() >= MOST_COLOUR || !self.sequence.iter().all(plain) {
            return;
        }
        self.bound(true, lines);
        let sequence = format!("\x1b[{}m", String::from_utf8_lossy(&self.sequence));
        if matches!(self.sequence.as_slice(), b"" | b"0" | b"00") {
            self.color.clear();
        } else if self.color.len() + sequence.len() <= MOST_COLOUR {
            self.color.push_str(&sequence);
        }
        if !self.anew {
            self.line.extend_from_slice(sequence.as_bytes());
        }
    }
}

/// A line as it is shown: its colours end with it.
fn finished(line: &[u8]) -> String {
    // Marks that turn the direction of writing could make a text read as another; U+0080 to U+009F steer as ESC does.
    let bad = |c: char| matches!(c, '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut text = String::from_utf8_lossy(line).replace(bad, "");
    if text.contains('\x1b') {
        text.push_str("\x1b[0m");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(colors: Colors, pieces: &[&str]) -> Vec<String> {
        let mut harmless = Harmless::default();
        let mut lines: Vec<String> = pieces.iter().flat_map(|piece| harmless.add(piece.as_bytes(), colors)).collect();
        lines.extend(harmless.close());
        lines
    }

    #[test]
    fn what_steers_a_terminal_is_taken_out() {
        for (text, expect) in [
            ("plain\n", "plain"),
            ("a\x1b[2Jb\x1b[10;10Hc\x1b[?25ld\n", "abcd"),
            ("a\x1b]0;title\x07b\x1b]52;c;ZXZpbA==\x1b\\c\n", "abc"),
            ("a\x1bPq#0\x1b\\b\x1b(Bc\x1bcd\x1bMe\n", "abcde"),
            ("a\x07\x08\x0b\x0c\x00b\n", "ab"),
            ("a\u{9b}2Jb\u{202e}c\n", "a2Jbc"),
            ("tab\tstays\n", "tab\tstays"),
            ("a\x1b[>4;1mb\x1b[38:5:1\x1b[1mc\n", "ab[1mc"),
            ("a\x1b]never ends\nb", "a"),
        ] {
            let lines = shown(Colors::Drop, &[text]);
            assert_eq!(lines[0], expect, "{text:?}");
            assert!(!shown(Colors::Pass, &[text])[0].contains('\x1b'), "{text:?}");
        }
    }

    #[test]
    fn colours_pass_where_they_are_wanted_and_end_with_their_line() {
        let text = "\x1b[1;31mred\nstill\x1b[0m not\nplain\n";
        let red = ["\x1b[1;31mred\x1b[0m", "\x1b[1;31mstill\x1b[0m not\x1b[0m", "plain"];
        assert_eq!(shown(Colors::Pass, &[text]), red);
        assert_eq!(shown(Colors::Drop, &[text]), ["red", "still not", "plain"]);
    }

    #[test]
    fn lines_come_whole_whatever_the_pieces() {
        assert_eq!(
            shown(Colors::Pass, &["o", "ne\ntw\x1b", "[3", "1mo", "\x1b[m\n", "ü"]),
            ["one", "tw\x1b[31mo\x1b[m\x1b[0m", "ü"]
        );
        let bytes = "ü".as_bytes();
        let mut harmless = Harmless::default();
        assert!(harmless.add(&bytes[..1], Colors::Drop).is_empty());
        assert_eq!(harmless.add(&[bytes[1], b'\n'], Colors::Drop), ["ü"]);
    }

    #[test]
    fn of_a_line_that_is_written_again_and_again_the_last_counts() {
        assert_eq!(shown(Colors::Drop, &["10%\r20%\r", "100%\r\ndone\r\n"]), ["100%", "done"]);
    }

    #[test]
    fn a_line_without_end_is_shown_in_pieces() {
        let lines = shown(Colors::Drop, &["x".repeat(LONGEST * 2 + 1).as_str()]);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LONGEST, LONGEST, 1]);
        // Nor is it kept where no byte is ASCII, where none begins a character, or where there are colours alone.
        for (bytes, colors) in
            [("ü".as_bytes(), Colors::Drop), (&b"\x80"[..], Colors::Drop), (&b"\x1b[1m"[..], Colors::Pass)]
        {
            let mut harmless = Harmless::default();
            let lines = harmless.add(&bytes.repeat(LONGEST * 2), colors);
            assert!(!lines.is_empty() && harmless.line.len() <= LONGEST + MOST_COLOUR, "{bytes:?}: {}", lines.len());
            assert!(bytes != "ü".as_bytes() || lines.iter().all(|line| line.chars().all(|c| c == 'ü')));
        }
    }
}
