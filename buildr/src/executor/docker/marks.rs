//! How far a container is, as its wrapper tells it in the midst of what the script prints: `MARK=…` and a newline,
//! where the mark is a word that no script knows. What is told is taken out of the output again.

use bytes::{Bytes, BytesMut};

/// How long a line that begins with the mark may become before it is taken for output: a code has no more digits.
const LONGEST: usize = 64;

/// How far a container is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its script runs.
    #[default]
    Script,
    /// Its script has ended with this code.
    Over(i64),
    /// What runs when it failed.
    OnFailure(i64),
    /// What runs last.
    After(i64),
    /// All has ended, the script well, and nobody is left in it.
    Alone,
}

impl Phase {
    /// What the script has ended with.
    pub(super) fn code(self) -> Option<i64> {
        match self {
            Self::Script => None,
            Self::Over(code) | Self::OnFailure(code) | Self::After(code) => Some(code),
            Self::Alone => Some(0),
        }
    }

    /// What it is after this was told.
    fn after(self, told: &str) -> Option<Self> {
        match (told, self.code()) {
            ("alone", None | Some(0)) => Some(Self::Alone),
            ("on_failure", Some(code)) => Some(Self::OnFailure(code)),
            ("after", Some(code)) => Some(Self::After(code)),
            (code, None) => code.parse().ok().map(Self::Over),
            _ => None,
        }
    }
}

/// A piece of what a container printed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Output.
    Bytes(Bytes),
    /// It has come so far.
    Phase(Phase),
    /// Its wrapper leaves: nothing that it says is missing.
    Left,
}

/// Takes the marks out of an output.
#[derive(Debug)]
pub(super) struct Marks {
    mark: Vec<u8>,
    phase: Phase,
    /// What may be the beginning of a mark.
    held: BytesMut,
}

impl Marks {
    /// Looks for this mark.
    pub(super) fn of(mark: &str) -> Self {
        Self { mark: format!("{mark}=").into_bytes(), phase: Phase::Script, held: BytesMut::new() }
    }

    /// What was printed next.
    pub(super) fn push(&mut self, bytes: Bytes) -> Vec<Piece> {
        let mark = &self.mark;
        let mut rest = if self.held.is_empty() {
            bytes
        } else {
            self.held.extend_from_slice(&bytes);
            self.held.split().freeze()
        };
        let mut pieces = Vec::new();
        loop {
            let first = mark.first().copied().unwrap_or_default();
            let at = memchr::memchr_iter(first, &rest).find(|at| {
                let tail = &rest[*at..];
                tail.starts_with(mark) || mark.starts_with(tail)
            });
            let Some(at) = at else { break };
            let line = rest[at..].iter().position(|byte| *byte == b'\n');
            let told = match line {
                None if rest.len() - at < LONGEST => {
                    self.held.extend_from_slice(&rest.split_off(at));
                    break;
                }
                None => None,
                Some(end) => std::str::from_utf8(&rest[at + mark.len()..at + end]).ok(),
            };
            let piece = match told {
                Some("left") => Some(Piece::Left),
                told => told.and_then(|told| self.phase.after(told)).map(Piece::Phase),
            };
            match piece {
                Some(piece) => {
                    if let Piece::Phase(phase) = piece {
                        self.phase = phase;
                    }
                    push(&mut pieces, rest.split_to(at));
                    pieces.push(piece);
                    let _ = rest.split_to(line.map_or(0, |end| end + 1));
                }
                // Somebody prints a mark of his own.
                None => push(&mut pieces, rest.split_to(at + 1)),
            }
        }
        push(&mut pieces, rest);
        pieces
    }

    /// What was held back when the output ended.
    pub(super) fn rest(&mut self) -> Option<Bytes> {
        Some(self.held.split().freeze()).filter(|held| !held.is_empty())
    }
}

fn push(pieces: &mut Vec<Piece>, bytes: Bytes) {
    if !bytes.is_empty() {
        pieces.push(Piece::Bytes(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of an output, with its phases told in brackets.
    fn seen(chunks: &[&str]) -> String {
        let mut marks = Marks::of("#MARK");
        let mut seen = String::new();
        for chunk in chunks {
            for piece in marks.push(Bytes::copy_from_slice(chunk.as_bytes())) {
                match piece {
                    Piece::Bytes(bytes) => seen.push_str(std::str::from_utf8(&bytes).unwrap()),
                    Piece::Phase(phase) => seen.push_str(&format!("[{phase:?}]")),
                    Piece::Left => seen.push_str("[Left]"),
                }
            }
        }
        seen + std::str::from_utf8(&marks.rest().unwrap_or_default()).unwrap()
    }

    #[test]
    fn marks_are_taken_out_wherever_chunks_are_cut() {
        assert_eq!(seen(&["a\n#MARK=al", "one\n"]), "a\n[Alone]");
        assert_eq!(seen(&["#MARK=0\n#MARK=after\n#MARK=alone\n"]), "[Over(0)][After(0)][Alone]");
        let all = "a#b##MARK\n#MARK=7\nc\n#MARK=on_failure\n#MARK=after\nd#MAR";
        let expected = "a#b##MARK\n[Over(7)]c\n[OnFailure(7)][After(7)]d#MAR";
        assert_eq!(seen(&[all]), expected);
        for cut in 1..all.len() {
            assert_eq!(seen(&[&all[..cut], &all[cut..]]), expected, "{cut}");
        }
        let single: Vec<_> = all.split("").collect();
        assert_eq!(seen(&single), expected);
    }

    #[test]
    fn what_is_no_mark_is_output() {
        for text in ["#MARK=x\n", "#MARK=after\n", "#MARK=\n", &format!("#MARK={}", "1".repeat(100)), "#MARK"] {
            assert_eq!(seen(&[text]), text);
        }
        assert_eq!(seen(&["#MARK=7\n#MARK=alone\n"]), "[Over(7)]#MARK=alone\n");
    }
}
