//! What an agent has said and the coordinator has not yet stored, on disk: a build's result outlives the agent.
//!
//! A folder per claim: `events`, a line of JSON each, and `logs/NAME`, raw bytes. All is written here first and
//! sent from here, so memory stays small however slow the line is.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use buildr::process::clock::now_ms;
use bytes::Bytes;
use protocol::report::{JobEvent, Progress};
use protocol::{ClaimId, LogName};
use tokio::sync::watch;

/// The folder with all claims.
#[derive(Debug)]
pub struct Spool {
    root: PathBuf,
}

/// What is kept of one claim.
#[derive(Debug)]
pub struct ClaimSpool {
    claim: ClaimId,
    folder: PathBuf,
    kept: Mutex<Kept>,
    /// Grows with each thing that is written.
    written: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    events: Vec<Progress>,
    file: File,
    logs: BTreeMap<LogName, LogFile>,
}

#[derive(Debug)]
struct LogFile {
    file: File,
    length: u64,
    last_ms: u64,
}

impl Spool {
    /// Uses a folder, made when missing.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    /// Begins a claim.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn begin(&self, claim: ClaimId) -> io::Result<ClaimSpool> {
        ClaimSpool::open(claim, self.root.join(claim.reveal()), Vec::new(), BTreeMap::new())
    }

    /// What an earlier life of this agent left: results to be sent again, and logs of builds that died with it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn leftovers(&self) -> io::Result<Vec<ClaimSpool>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?;
            match entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                Some(claim) => found.push(ClaimSpool::reopen(claim, entry.path())?),
                None => tracing::warn!(path = %entry.path().display(), "not a claim's folder; left alone"),
            }
        }
        Ok(found)
    }
}

impl ClaimSpool {
    fn open(
        claim: ClaimId,
        folder: PathBuf,
        events: Vec<Progress>,
        logs: BTreeMap<LogName, LogFile>,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(folder.join("logs"))?;
        let file = OpenOptions::new().create(true).append(true).open(folder.join("events"))?;
        let kept = Mutex::new(Kept { events, file, logs });
        Ok(Self { claim, folder, kept, written: watch::Sender::new(0) })
    }

    fn reopen(claim: ClaimId, folder: PathBuf) -> io::Result<Self> {
        let mut events: Vec<Progress> = Vec::new();
        match File::open(folder.join("events")) {
            Ok(file) => {
                let mut whole = 0;
                for line in BufReader::new(file).split(b'\n') {
                    let line = line?;
                    // A line cut by a crash was never said, and what comes next must not be glued to it.
                    let Ok(event) = serde_json::from_slice(&line) else { break };
                    events.push(event);
                    whole += line.len() as u64 + 1;
                }
                OpenOptions::new().write(true).open(folder.join("events"))?.set_len(whole)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut logs = BTreeMap::new();
        if folder.join("logs").exists() {
            for entry in std::fs::read_dir(folder.join("logs"))? {
                let entry = entry?;
                let Some(name) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
                let file = append(&entry.path())?;
                let length = file.metadata()?.len();
                logs.insert(name, LogFile { file, length, last_ms: now_ms() });
            }
        }
        Self::open(claim, folder, events, logs)
    }

    /// Whose it is.
    #[must_use]
    pub fn claim(&self) -> ClaimId {
        self.claim
    }

    /// Adds an event. The job's end is on the disk itself when this returns.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn event(&self, event: JobEvent) -> io::Result<()> {
        let last = matches!(event, JobEvent::Finished { .. });
        let mut kept = self.lock();
        let seq = kept.events.len() as u64 + 1;
        let progress = Progress { claim: self.claim, seq, at_ms: now_ms(), event };
        let mut line = serde_json::to_vec(&progress)?;
        line.push(b'\n');
        kept.file.write_all(&line)?;
        if last {
            kept.file.sync_data()?;
        }
        kept.events.push(progress);
        drop(kept);
        self.written.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Adds to a log.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn log(&self, name: &LogName, bytes: &[u8]) -> io::Result<()> {
        let mut kept = self.lock();
        if !kept.logs.contains_key(name) {
            let file = append(&self.folder.join("logs").join(name.as_str()))?;
            kept.logs.insert(name.clone(), LogFile { file, length: 0, last_ms: 0 });
        }
        if let Some(log) = kept.logs.get_mut(name) {
            log.file.write_all(bytes)?;
            log.length += bytes.len() as u64;
            log.last_ms = now_ms();
        }
        drop(kept);
        self.written.send_modify(|count| *count += 1);
        Ok(())
    }

    /// The events after the first `sent`.
    pub(crate) fn events_after(&self, sent: usize) -> Vec<Progress> {
        self.lock().events.get(sent..).unwrap_or_default().to_vec()
    }

    /// Whether the job's end has been said.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.lock().events.last(), Some(Progress { event: JobEvent::Finished { .. }, .. }))
    }

    /// Each log and its length.
    pub(crate) fn logs(&self) -> Vec<(LogName, u64)> {
        self.lock().logs.iter().map(|(name, log)| (name.clone(), log.length)).collect()
    }

    /// Bytes of a log from an offset, and when the last of the log was printed.
    pub(crate) fn read(&self, name: &LogName, offset: u64, most: usize) -> io::Result<(Bytes, u64)> {
        let kept = self.lock();
        let Some(log) = kept.logs.get(name) else { return Ok((Bytes::new(), 0)) };
        let there = usize::try_from(log.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; most.min(there)];
        log.file.read_exact_at(&mut bytes, offset)?;
        Ok((bytes.into(), log.last_ms))
    }

    /// Changes whenever something was written.
    pub(crate) fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// Removes it all.
    pub(crate) fn remove(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "what was sent could not be removed");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Each change is appended before it is counted, so a panic elsewhere leaves no half.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).read(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Ending;

    #[test]
    fn what_was_said_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path().join("spool")).unwrap();
        let claim = ClaimId::fresh();
        let log: LogName = "test".parse().unwrap();
        let first = spool.begin(claim).unwrap();
        first.event(JobEvent::Settled { acknowledged: true }).unwrap();
        first.log(&log, b"one ").unwrap();
        first.log(&log, b"two").unwrap();
        first.event(JobEvent::Finished { ending: Ending::passed() }).unwrap();
        drop(first);
        // A line that a crash cut is as if it had not been written.
        let mut events = OpenOptions::new()
            .append(true)
            .open(folder.path().join("spool").join(claim.reveal()).join("events"))
            .unwrap();
        events.write_all(b"{\"claim\":").unwrap();

        let again = spool.leftovers().unwrap().pop().unwrap();
        assert_eq!(again.claim(), claim);
        assert!(again.is_finished());
        assert_eq!(again.events_after(0).len(), 2);
        assert_eq!(again.events_after(1)[0].seq, 2);
        assert_eq!(again.logs(), [(log.clone(), 7)]);
        assert_eq!(&again.read(&log, 4, 100).unwrap().0[..], b"two");
        again.remove();
        assert!(spool.leftovers().unwrap().is_empty());
    }
}
