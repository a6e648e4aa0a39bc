//! Some lines of a log, read from its file by what the index knows. Its calls block.

use std::io;
use std::ops::Range;

use bytes::{Buf as _, Bytes};

use super::index::{LineIndex, Look, Mark};
use super::line::{Form, render};
use super::style::Style;
use crate::store::{LogFiles, LogPlace};

/// How much of one line is shown at most, in bytes.
pub(super) const LONGEST: u64 = 16 << 10;

/// How many bytes of a log are shown at once at most; where a single line has more, that one.
const MOST: u64 = 1 << 20;

/// How much is read of a file at once, in bytes.
const PIECE: u64 = 128 << 10;

/// Lines that are wanted, and where they are.
#[derive(Debug)]
pub(crate) struct Extent {
    place: LogPlace,
    lines: Range<u64>,
    blocks: Vec<Block>,
}

/// A stretch of a log that begins with a line and ends with one.
#[derive(Debug)]
struct Block {
    begin: Mark,
    /// The number of its last line.
    last: u64,
    /// Where it ends.
    end: u64,
    /// Whether its last line is not over.
    open: bool,
}

/// A line that was read.
#[derive(Debug)]
pub(crate) struct Line {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// Where in the log it begins.
    pub(crate) offset: u64,
    /// Whether it is not over.
    pub(crate) open: bool,
    /// How many of its bytes are left out.
    pub(crate) left_out: u64,
    bytes: Bytes,
    style: Style,
}

impl Line {
    /// As a reader sees it.
    pub(crate) fn shown(&self, form: Form) -> String {
        render(&self.bytes, self.style, form)
    }
}

impl Extent {
    /// At most `count` lines from line `from` on, counted from 1; fewer where they are long.
    pub(super) fn of(index: &LineIndex, place: LogPlace, from: u64, count: u64) -> Self {
        let from = from.max(1);
        let lines = from..from.saturating_add(count).min(index.total() + 1);
        let mut blocks: Vec<Block> = Vec::new();
        let marks = if lines.is_empty() { &[] } else { index.marks_from(from) };
        for (at, &begin) in marks.iter().enumerate() {
            let far = blocks.first().is_some_and(|first| begin.offset - first.begin.offset > MOST);
            if begin.line >= lines.end || far {
                break;
            }
            blocks.push(match marks.get(at + 1) {
                Some(next) => Block { begin, last: next.line - 1, end: next.offset, open: false },
                None => Block { begin, last: index.total(), end: index.seen(), open: index.is_open() },
            });
        }
        Self { place, lines, blocks }
    }

    /// Reads them.
    ///
    /// # Errors
    /// When the disk does not give them.
    pub(crate) fn read(&self, files: &LogFiles) -> io::Result<Vec<Line>> {
        let (mut lines, mut taken) = (Vec::new(), 0);
        for block in &self.blocks {
            let mut walk = Walk::new(files, &self.place, block);
            while let Some(line) = walk.next(&self.lines)? {
                if line.number < self.lines.start {
                    continue;
                }
                if line.number >= self.lines.end || taken > MOST {
                    return Ok(lines);
                }
                taken += line.bytes.len() as u64;
                lines.push(line);
            }
        }
        Ok(lines)
    }
}

/// A block, line by line.
struct Walk<'a> {
    files: &'a LogFiles,
    place: &'a LogPlace,
    block: &'a Block,
    number: u64,
    look: Look,
    /// What was read and not walked through, and where in the log that begins.
    ahead: Bytes,
    at: u64,
}

impl<'a> Walk<'a> {
    fn new(files: &'a LogFiles, place: &'a LogPlace, block: &'a Block) -> Self {
        let Mark { line, offset, style } = block.begin;
        Self { files, place, block, number: line, look: Look::at(style), ahead: Bytes::new(), at: offset }
    }

    /// The next line; with its text only when it is among those that are wanted.
    fn next(&mut self, wanted: &Range<u64>) -> io::Result<Option<Line>> {
        if self.number > self.block.last {
            return Ok(None);
        }
        let (number, offset, style) = (self.number, self.at, self.look.style());
        let is_wanted = wanted.contains(&number);
        let mut head = Bytes::new();
        let (end, open) = loop {
            if self.ahead.is_empty() {
                self.ahead = self.files.read(self.place, self.at, PIECE.min(self.block.end - self.at))?;
            }
            if self.ahead.is_empty() {
                // The log's end; or somebody has cut the file.
                break (self.at, true);
            }
            let end = memchr::memchr(b'\n', &self.ahead);
            let part = self.ahead.split_to(end.unwrap_or(self.ahead.len()));
            if is_wanted && (head.len() as u64) < LONGEST {
                head = joined(&head, &part);
            }
            self.look.add(&part);
            self.at += part.len() as u64;
            if end.is_some() {
                self.ahead.advance(1);
                self.look.add(b"\n");
                self.at += 1;
                break (self.at - 1, false);
            }
            if number == self.block.last && self.at - offset > LONGEST {
                // Where it ends is known; it need not be read.
                self.at = self.block.end;
                break (self.block.end - u64::from(!self.block.open), self.block.open);
            }
        };
        self.number += 1;
        let (bytes, left_out) = if is_wanted { self.cut(head, offset..end)? } else { (head, 0) };
        Ok((end > offset || !open).then_some(Line { number, offset, open, left_out, bytes, style }))
    }

    /// What is shown of a line: of one that is too long its beginning, or its end, when that was written over what came
    /// before. And how many bytes are left out.
    fn cut(&self, head: Bytes, line: Range<u64>) -> io::Result<(Bytes, u64)> {
        let length = line.end - line.start;
        if length <= LONGEST {
            return Ok((head, 0));
        }
        let tail = self.files.read(self.place, line.end - LONGEST, LONGEST)?;
        let tail = tail.slice(..tail.len() - usize::from(tail.ends_with(b"\r")));
        let written_over = memchr::memchr(b'\r', &tail).map(|at| tail.slice(at + 1..));
        let shown = written_over.unwrap_or(head);
        let left_out = length.saturating_sub(shown.len() as u64);
        Ok((shown, left_out))
    }
}

/// The beginning of a line with what follows it, as far as it is shown.
fn joined(head: &Bytes, part: &Bytes) -> Bytes {
    let longest = usize::try_from(LONGEST).unwrap_or(usize::MAX);
    if head.is_empty() {
        return part.slice(..part.len().min(longest));
    }
    let more = part.len().min(longest - head.len());
    [&head[..], &part[..more]].concat().into()
}

/// How much of a command is shown in a list, in bytes.
const COMMAND: u64 = 200;

/// The command that the line at `offset` announces, as far as it is shown in a list.
///
/// # Errors
/// When the disk does not give it.
pub(crate) fn command(files: &LogFiles, place: &LogPlace, offset: u64) -> io::Result<String> {
    let bytes = files.read(place, offset, COMMAND)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(render(line.strip_prefix(b"$ ").unwrap_or(line), Style::default(), Form::Text))
}
