//! What a person may want to know after a stage failed. It reads the end of the output, and decides nothing.

use std::collections::VecDeque;

/// How much of the end of an output is kept for it.
const KEPT: usize = 4 << 10;

/// The last bytes of an output.
#[derive(Debug, Default)]
pub(super) struct Tail(VecDeque<u8>);

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(KEPT)..];
        let over = (self.0.len() + new.len()).saturating_sub(KEPT);
        self.0.drain(..over);
        self.0.extend(new);
    }

    /// A line that helps, when the end of the output is one that is often seen.
    pub(super) fn hint(&self) -> Option<&'static str> {
        let text: Vec<u8> = self.0.iter().copied().collect();
        let text = String::from_utf8_lossy(&text);
        KNOWN.iter().find(|(seen, _)| text.contains(seen)).map(|(_, hint)| *hint)
    }
}

const KNOWN: [(&str, &str); 2] = [
    (
        "\"no new privileges\" flag is set",
        "buildr: sudo works only where the agent's settings say allow_new_privileges = true\n",
    ),
    (
        "Cannot connect to the Docker daemon at unix://",
        "buildr: a stage sees the Docker daemon only when it asks for it with docker: true\n",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_found_across_chunks_and_forgotten_with_them() {
        let check = |chunks: &[&[u8]], expected: bool| {
            let mut tail = Tail::default();
            chunks.iter().for_each(|chunk| tail.push(chunk));
            assert_eq!(tail.hint().is_some(), expected);
        };
        check(&[b"sudo: The \"no new pri", b"vileges\" flag is set, which"], true);
        check(&[b"all is well"], false);
        check(&[&[b'x'; 9000], b"Cannot connect to the Docker daemon at unix:///x"], true);
        check(&[b"Cannot connect to the Docker daemon at unix:///x", &[b'x'; 4096]], false);
    }
}
