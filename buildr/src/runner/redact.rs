//! Secrets out of what is printed, across the borders of chunks.

use aho_corasick::{AhoCorasick, MatchKind};
use bytes::{Bytes, BytesMut};
use protocol::job::WorkOrder;

/// What stands in a secret's place.
const MASK: &str = "***";

/// Shorter values would mask half of every log; the one who sets such a secret is told by `check`.
const SHORTEST: usize = 4;

/// Knows a job's secrets.
pub(super) struct Redactor {
    needles: Vec<Vec<u8>>,
    finder: Option<AhoCorasick>,
}

impl Redactor {
    /// Knows the secrets of an order: their values, and a password in the repository's URL.
    pub(super) fn for_order(order: &WorkOrder) -> Self {
        let values = order.secrets.iter().map(|secret| secret.value.clone()).chain(order.repo.secret());
        Self::new(values)
    }

    fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut needles: Vec<Vec<u8>> = Vec::new();
        for value in values {
            // A secret of several lines is printed line by line by many programs.
            let lines = value.lines().map(str::trim).filter(|line| line.len() >= 8).map(str::to_owned);
            for needle in std::iter::once(value.clone()).chain(lines) {
                if needle.len() >= SHORTEST && !needles.iter().any(|known| known == needle.as_bytes()) {
                    needles.push(needle.into_bytes());
                }
            }
        }
        let finder = (!needles.is_empty())
            .then(|| AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&needles))
            .and_then(Result::ok);
        Self { needles, finder }
    }

    /// A text without them.
    pub(super) fn text(&self, text: &str) -> String {
        match &self.finder {
            Some(finder) => finder.replace_all(text, &vec![MASK; self.needles.len()]),
            None => text.to_owned(),
        }
    }

    /// For one log.
    pub(super) fn stream(&self) -> RedactedStream<'_> {
        RedactedStream { redactor: self, held: BytesMut::new() }
    }

    /// How many bytes at the end may be the beginning of a secret.
    fn undecided(&self, bytes: &[u8]) -> usize {
        let longest = self.needles.iter().map(Vec::len).max().unwrap_or(1) - 1;
        (1..=longest.min(bytes.len()))
            .rev()
            .find(|&count| {
                let tail = &bytes[bytes.len() - count..];
                self.needles.iter().any(|needle| needle.len() > count && needle.starts_with(tail))
            })
            .unwrap_or(0)
    }
}

/// One log on its way. Only bytes that may be the beginning of a secret are held back.
pub(super) struct RedactedStream<'a> {
    redactor: &'a Redactor,
    held: BytesMut,
}

impl RedactedStream<'_> {
    /// What may go on after these bytes came.
    pub(super) fn push(&mut self, bytes: Bytes) -> Bytes {
        let Some(finder) = &self.redactor.finder else { return bytes };
        self.held.extend_from_slice(&bytes);
        let keep = self.redactor.undecided(&self.held);
        let decided = self.held.len() - keep;
        // A secret that begins in what is decided and ends in what is not was there first: it is whole, and goes.
        let across = finder.find_iter(&self.held[..]).find(|found| found.start() < decided && found.end() > decided);
        let cut = across.map(|found| found.end());
        let out = self.held.split_to(cut.unwrap_or(decided));
        finder.replace_all_bytes(&out, &vec![MASK; self.redactor.needles.len()]).into()
    }

    /// What is left at the end.
    pub(super) fn finish(self) -> Bytes {
        match &self.redactor.finder {
            Some(finder) => finder.replace_all_bytes(&self.held, &vec![MASK; self.redactor.needles.len()]).into(),
            None => self.held.freeze(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(secrets: &[&str], printed: &str, expect: &str) {
        let redactor = Redactor::new(secrets.iter().map(|&secret| secret.to_owned()));
        assert_eq!(redactor.text(printed), expect);
        for size in 1..=printed.len().max(1) {
            let mut stream = redactor.stream();
            let mut out = Vec::new();
            for chunk in printed.as_bytes().chunks(size) {
                out.extend_from_slice(&stream.push(Bytes::copy_from_slice(chunk)));
            }
            out.extend_from_slice(&stream.finish());
            assert_eq!(String::from_utf8_lossy(&out), expect, "in chunks of {size}");
        }
    }

    #[test]
    fn secrets_do_not_pass_in_chunks_of_any_size() {
        check(&[], "all of it", "all of it");
        check(&["s3cret"], "a s3cret, and s3cre too", "a ***, and s3cre too");
        check(&["s3cret"], "s3cres3cret", "s3cre***");
        check(&["abcd", "abcdef"], "abcd abcdef abcde", "*** *** ***e");
        check(&["abc"], "abc is too short to mask", "abc is too short to mask");
        check(&["-----KEY-----\nlineone1\nshort\n-----END-----"], "x lineone1 short", "x *** short");
    }

    #[test]
    fn nothing_is_held_back_that_cannot_be_a_secret() {
        let redactor = Redactor::new(["s3cret".to_owned()]);
        let mut stream = redactor.stream();
        assert_eq!(&stream.push(Bytes::from("prompt> "))[..], b"prompt> ");
        assert_eq!(&stream.push(Bytes::from("s3"))[..], b"");
        assert_eq!(&stream.push(Bytes::from("x"))[..], b"s3x");
    }
}
