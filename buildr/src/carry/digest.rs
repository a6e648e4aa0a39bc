//! SHA-256 of what passes by, as archives and caches are named by it.

use std::fs::File;
use std::io::{self, Sink, Write};
use std::path::Path;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// Counts and hashes what is written.
pub(super) struct Digesting<W> {
    to: W,
    digest: Sha256,
    bytes: u64,
}

impl<W> Digesting<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, digest: Sha256::new(), bytes: 0 }
    }

    /// Where it was written to, how many bytes those were, and their hash.
    pub(super) fn finish(self) -> (W, u64, Vec<u8>) {
        (self.to, self.bytes, self.digest.finalize().to_vec())
    }
}

impl Digesting<Sink> {
    /// One that only looks.
    pub(super) fn looking() -> Self {
        Self::new(io::sink())
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The SHA-256 of a file, in hexadecimal.
pub(super) fn sha256_of(file: &Path) -> io::Result<String> {
    let mut digesting = Digesting::looking();
    io::copy(&mut File::open(file)?, &mut digesting)?;
    Ok(HEXLOWER.encode(&digesting.finish().2))
}
