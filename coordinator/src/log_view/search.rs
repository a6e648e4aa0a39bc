//! Looks for a text in a log, line by line, in the characters that a reader sees: no colour stands between them. Its calls
//! block; each does a bounded piece of work and says where to go on.

use std::io;
use std::time::{Duration, Instant};

use regex::bytes::{Regex, RegexBuilder};

use super::index::LineIndex;
use super::line::{Form, render};
use super::style::Style;
use crate::store::{LogFiles, LogPlace};

/// How much is read at once, in bytes. Of a line that is longer, this much is looked through.
const PIECE: u64 = 1 << 20;

/// How much is looked through at a time, in bytes that need nothing but to be looked through.
const WORK: u64 = 64 << 20;

/// For how long it is looked at a time, at most, but for the line that it is at: an expression can make much of a byte.
const TIME: Duration = Duration::from_secs(2);

/// How much more work a byte is among colours and what is written over.
const PLAYED: u64 = 8;

/// How large an expression may become when it is compiled, in bytes.
const LARGEST: usize = 1 << 20;

/// The longest text that is looked for, in bytes.
const LONGEST: usize = 1000;

/// How many characters are shown before and behind what was found, and of it.
const AROUND: usize = 80;

/// Why nothing can be looked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SearchError {
    /// There is nothing to look for.
    #[error("say what to look for: ?q=TEXT, and &regex=true when it is an expression")]
    Empty,
    /// The text is too long.
    #[error("what is looked for may have at most 1000 bytes")]
    Long,
    /// The expression is none.
    #[error("this is no regular expression: {0}")]
    Expression(Box<regex::Error>),
}

/// What is looked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    finds: Regex,
    /// It was given as an expression, of which nobody knows how far it goes.
    regex: bool,
}

/// How somebody asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// It is an expression, not a text.
    pub(crate) regex: bool,
    /// Capitals are told from small letters.
    pub(crate) case: bool,
}

impl Wanted {
    /// A text or an expression.
    ///
    /// # Errors
    /// When there is none, or it is too long, or none that can be.
    pub(crate) fn new(text: &str, Asked { regex, case }: Asked) -> Result<Self, SearchError> {
        match text.len() {
            0 => return Err(SearchError::Empty),
            LONGEST.. => return Err(SearchError::Long),
            _ => {}
        }
        let pattern = if regex { text.to_owned() } else { regex::escape(text) };
        let mut builder = RegexBuilder::new(&pattern);
        builder.multi_line(true).crlf(true).case_insensitive(!case).size_limit(LARGEST);
        let finds = builder.build().map_err(|error| SearchError::Expression(Box::new(error)))?;
        Ok(Self { finds, regex })
    }
}

/// A line that has what was looked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Its number.
    pub(crate) line: u64,
    /// What stands before it.
    pub(crate) before: String,
    /// What was found first in the line.
    pub(crate) found: String,
    /// What stands behind it.
    pub(crate) after: String,
}

/// What came of a piece of work.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Lines, in order.
    pub(crate) hits: Vec<Hit>,
    /// The line to go on from; none when all that is there was looked through.
    pub(crate) next: Option<u64>,
}

/// Where to look.
#[derive(Debug)]
pub(crate) struct Ground {
    place: LogPlace,
    /// A line at or before the first that is wanted, where it begins, and which is wanted.
    line: u64,
    offset: u64,
    from: u64,
    end: u64,
}

impl Ground {
    pub(super) fn of(index: &LineIndex, place: LogPlace, from: u64) -> Self {
        let from = from.max(1);
        let mark = index.marks_from(from).first();
        let (line, offset) = mark.map_or((1, 0), |mark| (mark.line, mark.offset));
        Self { place, line, offset, from, end: index.seen() }
    }
}

/// Looks until so many lines were found, or enough was done for a time, or nobody waits for it any more.
///
/// # Errors
/// When the disk does not give the log.
pub(crate) fn search(
    files: &LogFiles,
    ground: &Ground,
    wanted: &Wanted,
    most: usize,
    is_over: &dyn Fn() -> bool,
) -> io::Result<Found> {
    let (began, Wanted { finds, regex }) = (Instant::now(), wanted);
    let enough = || began.elapsed() >= TIME || is_over();
    let mut course =
        Course { wanted: finds, from: ground.from, most, line: ground.line, hits: Vec::new(), enough: &enough };
    let (mut at, mut work) = (ground.offset, 0);
    while at < ground.end {
        // Who goes on must get further.
        if course.line > ground.from && (work >= WORK || enough()) {
            return Ok(Found { next: Some(course.line), hits: course.hits });
        }
        let piece = files.read(&ground.place, at, PIECE.min(ground.end - at))?;
        if piece.is_empty() {
            // Somebody cut the file.
            break;
        }
        let is_last = at + piece.len() as u64 >= ground.end;
        // Whole lines; a line that is not over only at the end of the log.
        let (lines, length) = match memchr::memrchr(b'\n', &piece) {
            Some(_) if is_last => (piece.clone(), piece.len() as u64),
            Some(last) => (piece.slice(..=last), last as u64 + 1),
            None => (piece.clone(), line_length(files, ground, at)?),
        };
        let is_plain = memchr::memchr3(0x1b, 0x08, b'\r', &lines).is_none();
        // An expression may go on over the ends of lines, from each line to the end of all: it gets one at a time.
        let done = if is_plain && !regex { course.plain(&lines) } else { course.each(&lines) };
        work += if is_plain { length } else { lines.len() as u64 * PLAYED };
        if let Some(next) = done {
            return Ok(Found { next: Some(next), hits: course.hits });
        }
        at += length;
    }
    Ok(Found { hits: course.hits, next: None })
}

/// How long the line is that begins here, with its end.
fn line_length(files: &LogFiles, ground: &Ground, begins: u64) -> io::Result<u64> {
    let mut at = begins;
    loop {
        let piece = files.read(&ground.place, at, PIECE.min(ground.end - at))?;
        if piece.is_empty() {
            return Ok(ground.end - begins);
        }
        if let Some(end) = memchr::memchr(b'\n', &piece) {
            return Ok(at + end as u64 + 1 - begins);
        }
        at += piece.len() as u64;
    }
}

struct Course<'a> {
    wanted: &'a Regex,
    from: u64,
    most: usize,
    /// The number of the line that comes next.
    line: u64,
    hits: Vec<Hit>,
    /// Whether enough was done for a time.
    enough: &'a dyn Fn() -> bool,
}

impl Course<'_> {
    /// Looks for a text in lines that a reader sees as they are. Gives the line to go on from when enough was found.
    fn plain(&mut self, lines: &[u8]) -> Option<u64> {
        let (mut at, mut counted) = (0, 0);
        while let Some(found) = self.wanted.find_at(lines, at).filter(|found| found.start() < lines.len()) {
            let begin = memchr::memrchr(b'\n', &lines[..found.start()]).map_or(0, |end| end + 1);
            let end = memchr::memchr(b'\n', &lines[found.start()..]).map_or(lines.len(), |end| found.start() + end);
            self.line += memchr::memchr_iter(b'\n', &lines[counted..begin]).count() as u64;
            counted = begin;
            // What was found may go beyond the line: what counts is what stands in it.
            if self.look_in(&lines[begin..end]) {
                return Some(self.line + 1);
            }
            at = end + 1;
            if at >= lines.len() {
                break;
            }
        }
        // Of a line that is longer than a piece the end is not here, but it is one.
        let cut = u64::from(!lines.ends_with(b"\n"));
        self.line += memchr::memchr_iter(b'\n', &lines[counted..]).count() as u64 + cut;
        None
    }

    /// Looks through lines one by one, each as a reader sees it. Gives the line to go on from when enough was found, or
    /// done.
    fn each(&mut self, lines: &[u8]) -> Option<u64> {
        let whole = lines.strip_suffix(b"\n");
        for line in whole.unwrap_or(lines).split(|byte| *byte == b'\n') {
            let has_steps = memchr::memchr3(0x1b, 0x08, b'\r', line).is_some();
            let is_full = if self.line < self.from {
                false
            } else if has_steps {
                self.look_in(render(line, Style::default(), Form::Text).as_bytes())
            } else {
                self.look_in(line)
            };
            self.line += 1;
            if is_full || (self.line > self.from && (self.enough)()) {
                return Some(self.line);
            }
        }
        None
    }

    /// Looks in one line, and says whether enough was found.
    fn look_in(&mut self, line: &[u8]) -> bool {
        if self.line < self.from {
            return false;
        }
        if let Some(found) = self.wanted.find(line) {
            let text = |bytes: &[u8]| render(bytes, Style::default(), Form::Text);
            let before = text(&line[found.start().saturating_sub(4 * AROUND)..found.start()]);
            let skipped = before.chars().count().saturating_sub(AROUND);
            let first = |bytes: &[u8]| text(&bytes[..bytes.len().min(4 * AROUND)]).chars().take(AROUND).collect();
            self.hits.push(Hit {
                line: self.line,
                before: before.chars().skip(skipped).collect(),
                found: first(&line[found.range()]),
                after: first(&line[found.end()..]),
            });
        }
        self.hits.len() >= self.most
    }
}
