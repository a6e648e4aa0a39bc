//! Where the lines of a log begin: not of each line, but of one in every so many bytes, with the look that the text has
//! there. It grows as the log grows; each byte is looked at once.

use std::cmp::Ordering;

use anstyle_parse::{DefaultCharAccumulator, Parser};

use super::style::{Style, Styler};

/// How many bytes lie between two marks at least, in a log that is not huge.
const STRIDE: u64 = 64 << 10;

/// How many marks an index has at most, of 32 bytes each: where there would be more, every second goes.
const MOST_MARKS: usize = 1 << 16;

/// How many commands are known of a log at most: one whose output only looks like commands must not fill the memory.
pub(super) const MOST_COMMANDS: usize = 2000;

/// The longest sequence that only sets colours and is looked at on its own, in bytes.
const LONGEST_LOOK: usize = 64;

/// How many bytes behind an escape go through the parser at most: it keeps all that an odd sequence without an end holds,
/// and no sequence that sets colours is nearly as long.
const LONGEST_SEQUENCE: usize = 16 << 10;

/// A place where a line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The number of the line, from 1.
    pub(super) line: u64,
    /// Where it begins.
    pub(super) offset: u64,
    /// How its text looks when nothing else is said.
    pub(super) style: Style,
}

/// Where the lines of one log begin.
#[derive(Debug)]
pub(super) struct LineIndex {
    stride: u64,
    most: usize,
    marks: Vec<Mark>,
    /// Where lines begin that announce a command: their numbers and offsets.
    commands: Vec<(u64, u64)>,
    /// How many bytes were looked at.
    seen: u64,
    /// How many ends of lines are in them.
    ends: u64,
    /// The last byte of them.
    last: u8,
    /// The last byte of them is a line's first, and `$`.
    may_announce: bool,
    look: Look,
}

/// The look of the text, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Look {
    styler: Styler,
    parser: Parser<DefaultCharAccumulator>,
    /// The rest of this line goes through the parser: an odd sequence began in it.
    by_parser: bool,
    /// How many bytes went through it since the last escape.
    behind: usize,
}

impl LineIndex {
    pub(super) fn new() -> Self {
        Self::with(STRIDE, MOST_MARKS)
    }

    /// One with other bounds than usual.
    pub(super) fn with(stride: u64, most: usize) -> Self {
        let first = Mark { line: 1, offset: 0, style: Style::default() };
        Self {
            stride,
            most,
            marks: vec![first],
            commands: Vec::new(),
            seen: 0,
            ends: 0,
            last: b'\n',
            may_announce: false,
            look: Look::default(),
        }
    }

    /// How many bytes were looked at.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// How many lines there are, one that is not over included.
    pub(super) fn total(&self) -> u64 {
        self.ends + u64::from(self.is_open())
    }

    /// Whether the last line is not over.
    pub(super) fn is_open(&self) -> bool {
        self.last != b'\n'
    }

    /// The lines that announce a command, as far as they are kept: numbers and offsets.
    pub(super) fn commands(&self) -> &[(u64, u64)] {
        &self.commands
    }

    /// The marks from the last one at or before a line on.
    pub(super) fn marks_from(&self, line: u64) -> &[Mark] {
        let after = self.marks.partition_point(|mark| mark.line <= line);
        &self.marks[after.saturating_sub(1)..]
    }

    /// Looks at the bytes that follow.
    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let since = self.seen - self.marks.last().map_or(0, |mark| mark.offset);
            let (part, is_over) = match self.stride.checked_sub(since).filter(|left| *left > 0) {
                Some(left) => (usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()), false),
                // The next line begins at a mark.
                None => memchr::memchr(b'\n', bytes).map_or((bytes.len(), false), |end| (end + 1, true)),
            };
            let (now, rest) = bytes.split_at(part);
            self.look_at(now);
            bytes = rest;
            if is_over {
                self.mark();
            }
        }
    }

    fn look_at(&mut self, bytes: &[u8]) {
        let Some(&last) = bytes.last() else { return };
        self.look_for_commands(bytes);
        self.look.add(bytes);
        self.ends += memchr::memchr_iter(b'\n', bytes).count() as u64;
        self.seen += bytes.len() as u64;
        self.last = last;
    }

    fn mark(&mut self) {
        self.marks.push(Mark { line: self.ends + 1, offset: self.seen, style: self.look.style() });
        if self.marks.len() > self.most {
            let mut place = 0;
            self.marks.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.stride *= 2;
        }
    }

    /// A line that begins with `$ ` is a command that is about to run, as the stage's wrapper prints it.
    fn look_for_commands(&mut self, bytes: &[u8]) {
        if self.commands.len() >= MOST_COMMANDS {
            return;
        }
        if self.may_announce && bytes.first() == Some(&b' ') {
            self.commands.push((self.ends + 1, self.seen - 1));
        }
        self.may_announce = false;
        let (mut counted, mut ends) = (0, self.ends);
        for place in memchr::memchr_iter(b'$', bytes) {
            let before = place.checked_sub(1).map_or(self.last, |before| bytes[before]);
            if before != b'\n' {
                continue;
            }
            match bytes.get(place + 1) {
                Some(b' ') => {}
                Some(_) => continue,
                None => {
                    self.may_announce = true;
                    continue;
                }
            }
            ends += memchr::memchr_iter(b'\n', &bytes[counted..place]).count() as u64;
            counted = place;
            self.commands.push((ends + 1, self.seen + place as u64));
            if self.commands.len() >= MOST_COMMANDS {
                return;
            }
        }
    }

    /// The log has fewer bytes now: what was known of the others is forgotten, and of some before them too.
    pub(super) fn cut(&mut self, bytes: u64) {
        if bytes >= self.seen {
            return;
        }
        let kept = self.marks.partition_point(|mark| mark.offset <= bytes).max(1);
        self.marks.truncate(kept);
        let Mark { line, offset, style } = self.marks[kept - 1];
        self.commands.retain(|(_, begins)| *begins < offset);
        (self.seen, self.ends, self.last, self.may_announce) = (offset, line - 1, b'\n', false);
        self.look = Look::at(style);
    }
}

impl Look {
    /// At the beginning of a line.
    pub(super) fn at(style: Style) -> Self {
        Self { styler: Styler(style), ..Self::default() }
    }

    /// How the text looks now.
    pub(super) fn style(&self) -> Style {
        self.styler.0
    }

    /// Reads on.
    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        loop {
            if self.by_parser {
                let end = memchr::memchr(b'\n', bytes);
                for byte in &bytes[..end.unwrap_or(bytes.len())] {
                    self.parse(*byte);
                }
                let Some(end) = end else { return };
                // No sequence goes beyond a line.
                self.parser = Parser::default();
                self.by_parser = false;
                bytes = &bytes[end + 1..];
            }
            let Some(escape) = memchr::memchr(0x1b, bytes) else { return };
            bytes = &bytes[escape..];
            match plain_look(bytes) {
                Some(length) => {
                    for byte in &bytes[..length] {
                        self.parser.advance(&mut self.styler, *byte);
                    }
                    bytes = &bytes[length..];
                }
                None => self.by_parser = true,
            }
        }
    }

    fn parse(&mut self, byte: u8) {
        // An escape begins anew, whatever stood open.
        self.behind = if byte == 0x1b { 0 } else { self.behind + 1 };
        match self.behind.cmp(&LONGEST_SEQUENCE) {
            Ordering::Less => self.parser.advance(&mut self.styler, byte),
            Ordering::Equal => self.parser = Parser::default(),
            Ordering::Greater => {}
        }
    }
}

/// How long the sequence at the beginning is, when it does nothing but set colours and is whole: most are such, and the
/// text behind it need not go through the parser.
fn plain_look(bytes: &[u8]) -> Option<usize> {
    let rest = bytes.strip_prefix(b"\x1b[")?;
    let length = rest.iter().take(LONGEST_LOOK).position(|byte| !matches!(byte, b'0'..=b'9' | b';' | b':'))?;
    (rest[length] == b'm').then_some(length + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence that never ends takes no more memory than the longest that is meant, and hides nothing behind it.
    #[test]
    fn a_sequence_without_an_end_is_not_kept() {
        for begin in [&b"\x1b]"[..], b"\x1b]8;;", b"\x1bP", b"\x1b[1"] {
            for piece in [1000, 1 << 20] {
                let mut look = Look::default();
                look.add(begin);
                let much = vec![b'7'; 1 << 20];
                much.chunks(piece).for_each(|piece| look.add(piece));
                assert_eq!(look.parser, Parser::default(), "{begin:?}");
                look.add(b"\x1b[31m and on");
                assert_eq!(look.style(), {
                    let mut red = Look::default();
                    red.add(b"\x1b[31m");
                    red.style()
                });
            }
        }
    }
}
