//! The two kinds of files of a spool: one that grows by what was wholly written and by nothing else, and one whose
//! room was taken ahead, so that the last words fit on a disk that is full.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;
use protocol::report::Progress;

/// How many bytes are taken ahead for last words.
const RESERVED: usize = 16 << 10;

/// A file that only grows. What a full disk took of a piece is cut off again, so that its length is what was promised.
#[derive(Debug)]
pub(super) struct Appended {
    file: File,
    length: u64,
}

impl Appended {
    /// Opens it as it stands, or makes it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }

    /// How many bytes it has.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Adds all of it or nothing.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        // By place: should the cut below fail too, what comes next is written over the torn piece.
        if let Err(error) = self.file.write_all_at(bytes, self.length) {
            self.cut(self.length).ok();
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// The same, and it is on the disk itself when this returns.
    pub(super) fn push_safely(&mut self, bytes: &[u8]) -> io::Result<()> {
        let before = self.length;
        self.push(bytes)?;
        if let Err(error) = self.file.sync_data() {
            self.cut(before).ok();
            return Err(error);
        }
        Ok(())
    }

    /// Forgets what lies behind a place.
    pub(super) fn cut(&mut self, length: u64) -> io::Result<()> {
        self.length = length;
        self.file.set_len(length)
    }

    /// Bytes from a place on, at most so many.
    pub(super) fn read(&self, offset: u64, most: usize) -> io::Result<Bytes> {
        let there = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; most.min(there)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}

/// A file whose room was taken when there was some. It is written once.
#[derive(Debug)]
pub(super) struct Reserve {
    file: File,
}

impl Reserve {
    /// Takes the room, unless an earlier life did.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        if file.metadata()?.len() < RESERVED as u64 {
            // Written rather than asked for: every file system understands that.
            file.write_all(&[0; RESERVED])?;
        }
        Ok(Self { file })
    }

    /// Writes the last words, which are on the disk itself when this returns.
    pub(super) fn write(&self, lines: &[u8]) -> io::Result<()> {
        if lines.len() > RESERVED {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all_at(lines, 0)?;
        self.file.sync_data()
    }
}

/// The whole lines at the beginning of a file of events, and how many bytes they are. None: there is no such file.
pub(super) fn events_in(path: &Path) -> io::Result<Option<(Vec<Progress>, u64)>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (mut events, mut whole) = (Vec::new(), 0);
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        // A line cut by a crash was never said, and neither was what lies behind it.
        let Ok(event) = serde_json::from_slice(&line) else { break };
        events.push(event);
        whole += line.len() as u64 + 1;
    }
    Ok(Some((events, whole)))
}
