//! The bytes of logs: `logs/<job>/<attempt>/<log>`, as they were printed, and beside each a `.<log>.times` with
//! pairs of little-endian 64-bit numbers: where in the log a piece begins, and when it was printed.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use protocol::{JobId, LogName};

/// How long one pair is in the file of times.
const PAIR: u64 = 16;

/// How many pairs are read at most of a part of a log.
const MOST_PAIRS: usize = 1 << 16;

/// How much is written to see whether the disk takes anything: as much as the longest piece.
const PROBE: usize = 128 << 10;

/// The folder with all logs. Its calls block.
#[derive(Debug, Clone)]
pub(crate) struct LogFiles {
    folder: PathBuf,
    /// Folders of which the disk may not know yet what they name.
    unsynced: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// Where one log's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LogPlace {
    /// Of which job.
    pub(crate) job: JobId,
    /// Of which attempt at it.
    pub(crate) attempt: u32,
    /// Which log.
    pub(crate) log: LogName,
}

/// Some bytes of a log.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// Where in the log they begin.
    pub(crate) offset: u64,
    /// When they were printed, by the agent's clock.
    pub(crate) at_ms: u64,
    /// The bytes.
    pub(crate) bytes: Bytes,
}

impl LogFiles {
    /// Those below a folder, which need not be there yet.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, unsynced: Arc::default() }
    }

    /// Adds what is new of several logs: of each its place, how many of its bytes are known to be safe, and pieces. Gives
    /// how many of each are safe now: they are on the disk when this returns. What is there already is passed over, and
    /// so is all behind a gap, which the agent is asked for again by the mark. A log may be refused alone, such as one in
    /// whose place lies something else: the others do not wait for it.
    ///
    /// # Errors
    /// When the disk takes nothing at all.
    pub(crate) fn append(&self, logs: &[(LogPlace, u64, Vec<Piece>)]) -> io::Result<Vec<io::Result<u64>>> {
        let append = |(place, kept, pieces): &(LogPlace, u64, Vec<Piece>)| self.append_one(place, *kept, pieces);
        let safe: Vec<io::Result<u64>> = logs.iter().map(append).collect();
        if safe.iter().any(Result::is_err) {
            self.try_disk()?;
        }
        self.sync_folders()?;
        Ok(safe)
    }

    /// Whether the disk takes as much as a piece of a log.
    fn try_disk(&self) -> io::Result<()> {
        self.make(&self.folder)?;
        let mut probe = tempfile::tempfile_in(&self.folder)?;
        probe.write_all(&[0; PROBE])?;
        probe.sync_all()
    }

    fn append_one(&self, place: &LogPlace, kept: u64, pieces: &[Piece]) -> io::Result<u64> {
        let path = self.path(place);
        let mut file = self.open(&path)?;
        // What lies behind the mark was written and never promised: a crash may have left anything there.
        let there = file.metadata()?.len();
        let mut length = there.min(kept);
        if there > length {
            file.set_len(length)?;
        }
        file.seek(SeekFrom::Start(length))?;
        let begin = length;
        let mut times = Vec::new();
        for piece in pieces {
            let Some(known) = length.checked_sub(piece.offset) else { continue };
            let known = usize::try_from(known).unwrap_or(usize::MAX).min(piece.bytes.len());
            let new = &piece.bytes[known..];
            if new.is_empty() {
                continue;
            }
            file.write_all(new)?;
            times.extend(length.to_le_bytes());
            times.extend(piece.at_ms.to_le_bytes());
            length += new.len() as u64;
        }
        if length > begin {
            file.sync_data()?;
            let mut sidecar = self.open(&times_path(&path, &place.log))?;
            // A crash may have cut the last pair in two.
            let whole = sidecar.metadata()?.len() / PAIR * PAIR;
            sidecar.seek(SeekFrom::Start(whole))?;
            sidecar.write_all(&times)?;
        }
        Ok(length)
    }

    /// Reads at most `most` bytes of a log, from a place on; none behind its end.
    ///
    /// # Errors
    /// When the disk does not give them.
    pub(crate) fn read(&self, place: &LogPlace, from: u64, most: u64) -> io::Result<Bytes> {
        let mut file = match File::open(self.path(place)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Bytes::new()),
            file => file?,
        };
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }

    /// How many bytes of a log are there.
    ///
    /// # Errors
    /// When the disk does not say.
    pub(crate) fn length(&self, place: &LogPlace) -> io::Result<u64> {
        match std::fs::metadata(self.path(place)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            found => Ok(found?.len()),
        }
    }

    /// Where in a log pieces begin and when they were printed, in order.
    ///
    /// # Errors
    /// When the disk does not give them.
    pub(crate) fn times(&self, place: &LogPlace) -> io::Result<Vec<(u64, u64)>> {
        let bytes = match std::fs::read(times_path(&self.path(place), &place.log)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            bytes => bytes?,
        };
        let mut pieces: Vec<(u64, u64)> = Vec::new();
        for pair in bytes.as_chunks::<{ PAIR as usize }>().0 {
            let (offset, at_ms) = pair_of(pair);
            // What was written behind the mark before a crash was written anew.
            while pieces.last().is_some_and(|(last, _)| *last >= offset) {
                pieces.pop();
            }
            pieces.push((offset, at_ms));
        }
        Ok(pieces)
    }

    /// Removes all logs of a job; where there are none that is no error.
    ///
    /// # Errors
    /// When the disk does not let them go.
    pub(crate) fn remove(&self, job: JobId) -> io::Result<()> {
        match std::fs::remove_dir_all(self.folder.join(job.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// When the bytes between two places of a log were printed: the pieces from the one that holds the first byte on, and
    /// no more than [`MOST_PAIRS`] of them. The file is not read whole.
    ///
    /// # Errors
    /// When the disk does not give them.
    pub(crate) fn times_between(&self, place: &LogPlace, from: u64, to: u64) -> io::Result<Vec<(u64, u64)>> {
        let file = match File::open(times_path(&self.path(place), &place.log)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        let pair = |number: u64| {
            let mut bytes = [0; PAIR as usize];
            file.read_exact_at(&mut bytes, number * PAIR)?;
            Ok::<_, io::Error>(pair_of(&bytes))
        };
        // The first piece that begins behind `from`. A crash may have left a few that were written anew; they tell the
        // same times, so it does not matter which of them is met.
        let (mut low, mut high) = (0, file.metadata()?.len() / PAIR);
        while low < high {
            let middle = low + (high - low) / 2;
            if pair(middle)?.0 > from { high = middle } else { low = middle + 1 }
        }
        let count = file.metadata()?.len() / PAIR;
        let mut times = Vec::new();
        let mut at = low.saturating_sub(1);
        let mut bytes = vec![0; PAIR as usize * 256];
        while at < count && times.len() < MOST_PAIRS {
            let some = usize::try_from((count - at).min(256)).unwrap_or(256) * PAIR as usize;
            file.read_exact_at(&mut bytes[..some], at * PAIR)?;
            for (offset, at_ms) in bytes[..some].as_chunks().0.iter().map(pair_of) {
                if offset >= to && !times.is_empty() {
                    return Ok(times);
                }
                times.push((offset, at_ms));
            }
            at += 256;
        }
        Ok(times)
    }

    fn path(&self, place: &LogPlace) -> PathBuf {
        self.folder.join(place.job.to_string()).join(place.attempt.to_string()).join(place.log.as_str())
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let open = || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        if path.exists() {
            return open();
        }
        let folder = path.parent().unwrap_or(&self.folder);
        self.make(folder)?;
        self.unsynced().insert(folder.to_owned());
        open()
    }

    /// Makes a folder with those above it, and remembers which of them name a new one.
    fn make(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        if let Some(above) = folder.parent().filter(|above| above.starts_with(&self.folder)) {
            self.make(above)?;
            // Before it is made: should that be all that comes to pass, it is synced all the same.
            self.unsynced().insert(above.to_owned());
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
    }

    /// A new file is safe when the folders that name it are: each once, however many it names. One that cannot be synced
    /// is tried again with the next.
    fn sync_folders(&self) -> io::Result<()> {
        let folders: Vec<PathBuf> = self.unsynced().iter().cloned().collect();
        for folder in folders {
            match File::open(&folder) {
                // Its build is kept no longer.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => opened?.sync_all()?,
            }
            self.unsynced().remove(&folder);
        }
        Ok(())
    }

    fn unsynced(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        // Each change is one step.
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a piece begins, and when it was printed.
fn pair_of(bytes: &[u8; PAIR as usize]) -> (u64, u64) {
    let number = |half: &[u8]| half.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    (number(&bytes[..8]), number(&bytes[8..]))
}

/// A log's name never begins with a dot, so this is no log's file.
fn times_path(path: &Path, log: &LogName) -> PathBuf {
    path.with_file_name(format!(".{log}.times"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, text: &'static str) -> Piece {
        Piece { offset, at_ms: offset, bytes: Bytes::from_static(text.as_bytes()) }
    }

    fn append(files: &LogFiles, place: &LogPlace, kept: u64, pieces: &[Piece]) -> u64 {
        let safe = files.append(&[(place.clone(), kept, pieces.to_vec())]).unwrap();
        assert!(files.unsynced().is_empty(), "all that names it is on the disk");
        *safe[0].as_ref().unwrap()
    }

    #[track_caller]
    fn check(before: &'static str, kept: u64, pieces: &[Piece], expect: &str) {
        let folder = tempfile::tempdir().unwrap();
        let files = LogFiles::new(folder.path().join("logs"));
        let place = LogPlace { job: JobId::fresh(), attempt: 1, log: "test".parse().unwrap() };
        append(&files, &place, 0, &[piece(0, before)]);
        let length = append(&files, &place, kept, pieces);
        let got = files.read(&place, 0, 1000).unwrap();
        assert_eq!((std::str::from_utf8(&got).unwrap(), length), (expect, expect.len() as u64));
    }

    #[test]
    fn pieces_come_once_and_in_order() {
        check("", 0, &[piece(0, "ab"), piece(2, "cd")], "abcd");
        check("ab", 2, &[piece(0, "ab"), piece(2, "cd")], "abcd");
        check("ab", 2, &[piece(1, "bc"), piece(2, "cd")], "abcd");
        check("ab", 2, &[piece(3, "d"), piece(2, "c")], "abc");
        check("ab", 2, &[piece(9, "z")], "ab");
        check("abXY", 2, &[piece(2, "cd")], "abcd");
        check("ab", 2, &[], "ab");
        // Twice, one within the other, over the end, out of order.
        check(
            "abcd",
            4,
            &[piece(0, "abcd"), piece(1, "b"), piece(3, "def"), piece(3, "def"), piece(6, "g")],
            "abcdefg",
        );
        check("ab", 2, &[piece(4, "ef"), piece(2, "cd"), piece(4, "ef")], "abcdef");
        // The file was cut below the mark: what is there counts.
        check("ab", 9, &[piece(9, "z"), piece(2, "c")], "abc");
        check("ab", 2, &[piece(u64::MAX, "z"), piece(2, "")], "ab");
    }

    #[test]
    fn a_log_that_cannot_be_written_is_refused_alone() {
        let folder = tempfile::tempdir().unwrap();
        let files = LogFiles::new(folder.path().join("logs"));
        let place = |log: &str| LogPlace { job: JobId::fresh(), attempt: 1, log: log.parse().unwrap() };
        let (bad, good) = (place("bad"), place("good"));
        std::fs::create_dir_all(files.path(&bad)).unwrap();
        let logs = [&bad, &good].map(|place| (place.clone(), 0, vec![piece(0, "ab")]));
        let safe = files.append(&logs).unwrap();
        assert!(safe[0].is_err());
        assert_eq!((safe[1].as_ref().unwrap(), &*files.read(&good, 0, 9).unwrap()), (&2, b"ab".as_slice()));
        // A disk that takes nothing refuses them all.
        let nowhere = LogFiles::new(folder.path().join("file/logs"));
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(nowhere.append(&logs).is_err());
    }

    #[test]
    fn a_part_is_read_and_times_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let files = LogFiles::new(folder.path().join("logs"));
        let place = LogPlace { job: JobId::fresh(), attempt: 2, log: "test".parse().unwrap() };
        append(&files, &place, 0, &[piece(0, "abc"), piece(3, "def")]);
        assert_eq!(files.read(&place, 2, 3).unwrap(), "cde");
        assert_eq!(files.read(&place, 9, 3).unwrap(), "");
        assert_eq!(files.times(&place).unwrap(), [(0, 0), (3, 3)]);
        // The second piece was not safe yet, and the pair behind it was cut.
        let mut sidecar = OpenOptions::new().append(true).open(times_path(&files.path(&place), &place.log)).unwrap();
        sidecar.write_all(&[9; 5]).unwrap();
        let again = Piece { at_ms: 7, ..piece(2, "cdefgh") };
        assert_eq!(append(&files, &place, 3, &[again]), 8);
        assert_eq!(files.times(&place).unwrap(), [(0, 0), (3, 7)]);
        assert_eq!((files.read(&place, 0, 99).unwrap(), files.length(&place).unwrap()), ("abcdefgh".into(), 8));
        assert_eq!(files.times_between(&place, 0, 1).unwrap(), [(0, 0)]);
        assert_eq!(files.times_between(&place, 4, 9).unwrap().last(), Some(&(3, 7)));
        let elsewhere = LogPlace { attempt: 3, ..place };
        assert_eq!(files.read(&elsewhere, 0, 9).unwrap(), "", "a log of which nothing came is empty");
        assert_eq!((files.length(&elsewhere).unwrap(), files.times(&elsewhere).unwrap().len()), (0, 0));
    }
}
