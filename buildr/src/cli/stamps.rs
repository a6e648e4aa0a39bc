//! Puts before each line of a log when it was printed.

use protocol::api::LogTimes;

/// The times of one log's lines, whose bytes come piece by piece.
pub(super) struct Stamps {
    pieces: Vec<(u64, u64)>,
    /// Where in the log the next byte stands.
    at: u64,
    /// Whether a line begins with it.
    begins: bool,
}

impl Stamps {
    /// For a log whose pieces were printed at these times.
    pub(super) fn new(times: LogTimes) -> Self {
        Self { pieces: times.pieces, at: 0, begins: true }
    }

    /// The next bytes, with the time before each line that begins among them.
    pub(super) fn stamp(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut stamped = Vec::with_capacity(bytes.len() * 2);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.begins {
                stamped.extend(self.time().into_bytes());
            }
            stamped.extend_from_slice(line);
            self.at += line.len() as u64;
            self.begins = line.ends_with(b"\n");
        }
        stamped
    }

    fn time(&self) -> String {
        let piece = self.pieces.partition_point(|(offset, _)| *offset <= self.at).checked_sub(1);
        let ms = piece.and_then(|piece| self.pieces.get(piece)).and_then(|(_, ms)| i64::try_from(*ms).ok());
        let time = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        // As wide as a time, so that the lines stay below each other.
        time.map_or_else(|| " ".repeat(25), |time| time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ ").to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_the_time_of_the_piece_that_it_begins_in() {
        let mut stamps = Stamps::new(LogTimes { pieces: vec![(0, 1_000), (6, 62_500)] });
        let mut text = stamps.stamp(b"one\ntw");
        text.extend(stamps.stamp(b"o\nthree\nfo"));
        text.extend(stamps.stamp(b"ur"));
        let expect = "1970-01-01T00:00:01.000Z one\n1970-01-01T00:00:01.000Z two\n1970-01-01T00:01:02.500Z three\n1970-01-01T00:01:02.500Z four";
        assert_eq!(String::from_utf8(text).unwrap(), expect);
        let mut unknown = Stamps::new(LogTimes { pieces: Vec::new() });
        assert_eq!(unknown.stamp(b"x").len(), 26);
    }
}
