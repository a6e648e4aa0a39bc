//! Secrets out of what is printed, across the borders of chunks.

mod forms;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use aho_corasick::automaton::{Automaton as _, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, BuildError, MatchKind};
use bytes::{Buf as _, Bytes, BytesMut};
use protocol::Variable;
use protocol::job::WorkOrder;

pub use forms::SHORTEST;

/// What stands in a secret's place.
const MASK: &[u8] = b"***";

/// Up to how many bytes, all forms together, secrets are looked for in the way that takes the most memory.
const FAST: usize = 64 << 10;

/// Up to how many forms it pays to look first for bytes that are rare in them.
const FEW: usize = 32;

/// Knows a job's secrets. Clones share what they know.
#[derive(Clone)]
pub(super) struct Redactor {
    known: Option<Arc<Known>>,
}

struct Known {
    /// Finds secrets that are whole.
    finder: AhoCorasick,
    /// Tells how much of the end of a text may be the beginning of one.
    beginnings: Beginnings,
}

/// All beginnings of all secrets, as an automaton: its state after a text is the longest of them that the text ends
/// with. Each byte costs the same, whatever came before.
struct Beginnings {
    automaton: NFA,
    start: StateID,
    lengths: HashMap<StateID, usize>,
    longest: usize,
}

impl Redactor {
    /// Knows the secrets of an order, those of the machine, what opens the repository, and a password in its URL.
    ///
    /// # Errors
    /// When they are too many to be looked for.
    pub(super) fn for_order(order: &WorkOrder, own: &[Variable]) -> Result<Self, BuildError> {
        let values = order.secrets.iter().chain(own).map(|secret| secret.value.clone());
        let opens = order.credentials.as_ref().map(|credentials| credentials.secret().to_owned());
        Self::new(values.chain(opens).chain(order.repo.secret()))
    }

    fn new(values: impl IntoIterator<Item = String>) -> Result<Self, BuildError> {
        let needles: BTreeSet<Vec<u8>> = values.into_iter().flat_map(|value| forms::of(&value)).collect();
        if needles.is_empty() {
            return Ok(Self { known: None });
        }
        let bytes: usize = needles.iter().map(Vec::len).sum();
        // Many times as fast, and some 250 bytes for each of theirs.
        let kind = (bytes <= FAST).then_some(AhoCorasickKind::DFA);
        let finder = AhoCorasick::builder()
            .kind(kind)
            .prefilter(needles.len() <= FEW)
            .match_kind(MatchKind::LeftmostLongest)
            .build(&needles)?;
        Ok(Self { known: Some(Arc::new(Known { finder, beginnings: Beginnings::of(&needles)? })) })
    }

    /// A text without them.
    pub(super) fn text(&self, text: &str) -> String {
        match &self.known {
            Some(known) => {
                let mut masked = Vec::with_capacity(text.len());
                known.mask(text.as_bytes(), text.len(), &mut masked);
                // A secret is text, so what is left around it is.
                String::from_utf8_lossy(&masked).into_owned()
            }
            None => text.to_owned(),
        }
    }

    /// For one log.
    pub(super) fn stream(&self) -> RedactedStream<'_> {
        RedactedStream { redactor: self, held: BytesMut::new() }
    }
}

impl Known {
    /// Writes what stands before `decided`, masked. Gives how far it came: further when a secret lies across.
    fn mask(&self, bytes: &[u8], decided: usize, out: &mut Vec<u8>) -> usize {
        let mut written = 0;
        for found in self.finder.find_iter(bytes) {
            if found.start() >= decided {
                break;
            }
            out.extend_from_slice(&bytes[written..found.start()]);
            out.extend_from_slice(MASK);
            written = found.end();
        }
        if written < decided {
            out.extend_from_slice(&bytes[written..decided]);
            written = decided;
        }
        written
    }
}

impl Beginnings {
    fn of(needles: &BTreeSet<Vec<u8>>) -> Result<Self, BuildError> {
        let automaton = NFA::builder().match_kind(MatchKind::Standard).build(needles)?;
        // A builder without a choice of its own makes automata for both ways of starting.
        let start = automaton.start_state(Anchored::No).unwrap_or_default();
        let mut lengths = HashMap::new();
        for needle in needles {
            let mut state = start;
            for (&byte, length) in needle.iter().zip(1..) {
                state = automaton.next_state(Anchored::No, state, byte);
                lengths.insert(state, length);
            }
        }
        let longest = needles.iter().map(Vec::len).max().unwrap_or_default();
        Ok(Self { automaton, start, lengths, longest })
    }

    /// How many bytes at the end may be the beginning of a secret. A whole one is one too: a longer may begin with it.
    fn at_end_of(&self, bytes: &[u8]) -> usize {
        let tail = &bytes[bytes.len().saturating_sub(self.longest)..];
        let state = tail.iter().fold(self.start, |state, &byte| self.automaton.next_state(Anchored::No, state, byte));
        self.lengths.get(&state).copied().unwrap_or_default()
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
        let Some(known) = &self.redactor.known else { return bytes };
        self.held.extend_from_slice(&bytes);
        let decided = self.held.len() - known.beginnings.at_end_of(&self.held);
        let mut out = Vec::with_capacity(decided);
        let written = known.mask(&self.held, decided, &mut out);
        self.held.advance(written);
        out.into()
    }

    /// What is left at the end.
    pub(super) fn finish(self) -> Bytes {
        let Some(known) = &self.redactor.known else { return self.held.freeze() };
        let mut out = Vec::with_capacity(self.held.len());
        known.mask(&self.held, self.held.len(), &mut out);
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

    use super::*;

    fn knowing(secrets: &[&str]) -> Redactor {
        Redactor::new(secrets.iter().map(|&secret| secret.to_owned())).unwrap()
    }

    #[track_caller]
    fn check(secrets: &[&str], printed: &str, expect: &str) {
        let redactor = knowing(secrets);
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
        check(&["s3cret"], "s3crets3cret", "******");
        check(&["abcd", "abcdef"], "abcd abcdef abcde", "*** *** ***e");
        check(&["abcdef", "cdxyz"], "abcdxyz abcdef cdxy", "ab*** *** cdxy");
        check(&["aaaa"], "aaa aaaaa aaaaaaaa", "aaa ***a ******");
        check(&["abc"], "abc is too short to mask", "abc is too short to mask");
        check(&["-----KEY-----\nlineone1\nshort\n-----END-----"], "x lineone1 short", "x *** short");
        check(&["größe"], "die größe, und gröss", "die ***, und gröss");
    }

    #[test]
    fn secrets_do_not_pass_in_other_forms() {
        // Its base64 has both of the characters in which the alphabets differ.
        let secret = "s?>~\u{e9}\u{ff}: \"x\" /+";
        let plain = secret.as_bytes();
        check(&[secret], &format!("a {} b", STANDARD.encode(plain)), "a *** b");
        check(&[secret], &format!("a {} b", STANDARD_NO_PAD.encode(plain)), "a *** b");
        check(&[secret], &format!("a {} b", URL_SAFE.encode(plain)), "a *** b");
        check(&[secret], &format!("a {} b", URL_SAFE_NO_PAD.encode(plain)), "a *** b");
        check(&[secret], &format!("{{\"k\":{}}}", serde_json::Value::from(secret)), "{\"k\":\"***\"}");
        check(&["a b/c&d"], "?q=a%20b%2Fc%26d&r", "?q=***&r");
        check(&["a b/c&d"], "?q=a+b%2fc%26d&r", "?q=***&r");
    }

    #[test]
    fn base64_tells_nothing_whatever_stands_around_a_secret() {
        let secret = "tOpSecret-0123456789";
        let redactor = knowing(&[secret]);
        for before in 0..7 {
            for after in 0..7 {
                let text = format!("{}{secret}{}", "<".repeat(before), ">".repeat(after));
                for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                    let masked = redactor.text(&encoded);
                    assert!(masked.contains("***"), "{masked}");
                    let left: usize = masked.split("***").map(str::len).sum();
                    // What is left is what stood around it, and the characters that hold bits of both.
                    assert!(left <= (before + after) * 4 / 3 + 8, "{masked} of {encoded}");
                    for part in masked.split("***") {
                        let bytes = STANDARD_NO_PAD.decode(&part[..part.len() / 4 * 4]).unwrap_or_default();
                        assert!(!String::from_utf8_lossy(&bytes).contains("ecret"), "{masked}");
                    }
                }
            }
        }
    }

    #[test]
    fn long_base64_is_masked_line_by_line() {
        let secret = "0123456789 abcdefghijklmnopqrstuvwxyz ".repeat(5);
        let encoded = STANDARD.encode(&secret);
        for at in [64, 76] {
            let lines: Vec<_> =
                encoded.as_bytes().chunks(at).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
            let masked = knowing(&[&secret]).text(&lines.join("\n"));
            assert!(masked.lines().all(|line| line.starts_with("***") && line.len() <= 5), "{masked}");
        }
    }

    #[test]
    fn nothing_is_held_back_that_cannot_be_a_secret() {
        let redactor = knowing(&["s3cret"]);
        let mut stream = redactor.stream();
        assert_eq!(&stream.push(Bytes::from("prompt> "))[..], b"prompt> ");
        assert_eq!(&stream.push(Bytes::from("s3"))[..], b"");
        assert_eq!(&stream.push(Bytes::from("x"))[..], b"s3x");
    }

    #[test]
    fn bytes_that_are_no_text_pass_as_they_are() {
        let redactor = knowing(&["s3cret"]);
        let all: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        let mut stream = redactor.stream();
        let mut out = Vec::new();
        for chunk in all.chunks(777) {
            out.extend_from_slice(&stream.push(Bytes::copy_from_slice(chunk)));
        }
        out.extend_from_slice(&stream.finish());
        assert_eq!(out, all);
    }

    #[test]
    #[ignore = "a measurement: run it alone on a quiet machine, with --ignored --nocapture"]
    fn how_fast_a_log_is_masked() {
        let line: Vec<u8> =
            (0..32 << 10).map(|at: u32| b"abcdefghijklmnopqrstuvwxyz0123456789 /"[(at * 7 % 38) as usize]).collect();
        let line = Bytes::from(line);
        for count in [1, 20] {
            let secrets: Vec<String> =
                (0..count).map(|at| format!("secret-{at}-{}", "x1y2z3".repeat(at + 4))).collect();
            let redactor = Redactor::new(secrets).unwrap();
            let (mut stream, began, mut out) = (redactor.stream(), Instant::now(), 0);
            for _ in 0..6400 {
                out += stream.push(line.clone()).len();
            }
            out += stream.finish().len();
            let mbs = out as f64 / 1e6 / began.elapsed().as_secs_f64();
            println!("{count} secrets: {} MB at {mbs:.0} MB/s", out / 1_000_000);
        }
    }
}
