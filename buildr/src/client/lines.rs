//! Lines out of a stream whose parts end anywhere.

use bytes::{Bytes, BytesMut};

/// The longest line that is put together: a farm's longest is a build with all its stages, far below.
const LONGEST: usize = 16 << 20;

/// Puts lines together.
#[derive(Debug, Default)]
pub(super) struct Lines {
    waiting: BytesMut,
    /// How much of `waiting` is known to hold no line's end, so that a long line is not searched again and again.
    searched: usize,
}

/// A line that has no end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Lines {
    /// Takes the stream's next part.
    pub(super) fn push(&mut self, part: &[u8]) {
        self.waiting.extend_from_slice(part);
    }

    /// The next whole line, without its end; nothing until more has come. Empty lines are passed over: a farm sends
    /// them to keep the connection open.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        while let Some(at) = self.waiting[self.searched..].iter().position(|byte| *byte == b'\n') {
            let line = self.waiting.split_to(self.searched + at + 1).freeze();
            self.searched = 0;
            let line = line.slice(..line.len() - 1);
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(line));
            }
        }
        self.searched = self.waiting.len();
        if self.searched > LONGEST { Err(TooLong) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_may_end_anywhere() {
        let text = b"{\"a\":1}\n\n \r\n{\"b\":\"\xc3\xa4\"}\r\nrest";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for part in text.chunks(size) {
                lines.push(part);
                while let Some(line) = lines.next().unwrap() {
                    got.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            assert_eq!(got, ["{\"a\":1}", "{\"b\":\"ä\"}\r"], "in parts of {size}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_given_up() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; LONGEST + 1]);
        assert_eq!(lines.next(), Err(TooLong));
    }
}
