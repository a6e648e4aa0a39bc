//! What an agent has said and the coordinator has not yet stored, on disk: a build's result outlives the agent.
//!
//! A folder per claim: `events`, a line of JSON each; `logs/NAME`, raw bytes; and `ending`, whose room is taken when
//! the claim begins, so that the job's end fits when the disk is full. All is written here first and sent from here,
//! so memory stays small however slow the line is.

mod files;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use buildr::process::clock::now_ms;
use bytes::Bytes;
use protocol::plan::PlannedJob;
use protocol::report::{JobEvent, Progress};
use protocol::{ClaimId, Ending, LogName, wire};
use tokio::sync::watch;

use files::{Appended, Reserve, events_in};

/// The file that says whether the spool can be written: no claim has such a name.
const TRIED: &str = ".tried";

/// The longest message of an ending that is written into the room that was taken ahead, in bytes.
const SHORT_MESSAGE: usize = 4 << 10;

/// The longest message of an ending, in bytes: it is a sentence, and may quote what a build said.
const LONGEST_MESSAGE: usize = 64 << 10;

/// The longest event, in bytes: it travels as a text within a text, where it may take twice as many.
const LONGEST_EVENT: usize = wire::MAX_BYTES / 3;

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
    claim: ClaimId,
    events: Vec<Progress>,
    file: Appended,
    /// None where an earlier life could not take the room.
    reserve: Option<Reserve>,
    logs: BTreeMap<LogName, LogFile>,
}

#[derive(Debug)]
struct LogFile {
    file: Appended,
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

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Makes, writes and removes what a claim's spool begins with, in the folder with all claims.
    ///
    /// # Errors
    /// Why no claim could begin: a disk has more ways to refuse than that it is full.
    pub(crate) fn try_out(root: &Path) -> io::Result<()> {
        let path = root.join(TRIED);
        let tried = Reserve::open(&path).map(drop);
        let removed = std::fs::remove_file(&path);
        tried.and(removed)
    }

    /// Begins a claim, with room taken for its end.
    ///
    /// # Errors
    /// When the disk refuses; then nothing of the claim is left on it.
    pub fn begin(&self, claim: ClaimId) -> io::Result<ClaimSpool> {
        let folder = self.root.join(claim.reveal());
        let begun = || {
            std::fs::create_dir_all(&folder)?;
            std::fs::create_dir_all(folder.join("logs"))?;
            let reserve = Some(Reserve::open(&folder.join("ending"))?);
            let file = Appended::open(&folder.join("events"))?;
            let kept = Kept { claim, events: Vec::new(), file, reserve, logs: BTreeMap::new() };
            Ok(ClaimSpool::of(folder.clone(), kept))
        };
        begun().inspect_err(|_: &io::Error| drop(std::fs::remove_dir_all(&folder)))
    }

    /// What an earlier life of this agent left: results to be sent again, and logs of builds that died with it. What
    /// cannot be read stays for the next life.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn leftovers(&self) -> io::Result<Vec<ClaimSpool>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.root)? {
            let path = entry?.path();
            if path.ends_with(TRIED) {
                continue;
            }
            let claim = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            match claim.map(|claim| ClaimSpool::reopen(claim, path.clone())) {
                Some(Ok(spool)) => found.push(spool),
                Some(Err(error)) => tracing::error!(%error, "what an earlier life left cannot be read; it stays"),
                None => tracing::warn!(path = %path.display(), "not a claim's folder; left alone"),
            }
        }
        Ok(found)
    }
}

impl ClaimSpool {
    fn of(folder: PathBuf, kept: Kept) -> Self {
        Self { claim: kept.claim, folder, kept: Mutex::new(kept), written: watch::Sender::new(0) }
    }

    fn reopen(claim: ClaimId, folder: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(folder.join("logs"))?;
        let (mut events, whole) = events_in(&folder.join("events"))?.unwrap_or_default();
        let mut file = Appended::open(&folder.join("events"))?;
        if file.length() > whole {
            // What comes next must not be glued to a torn line.
            file.cut(whole)?;
        }
        let last_words = events_in(&folder.join("ending"))?.unwrap_or_default().0;
        let next = events.len() as u64 + 1;
        events.extend(last_words.into_iter().filter(|progress| progress.seq >= next));
        let reserve = Reserve::open(&folder.join("ending"));
        let reserve = reserve.inspect_err(|error| tracing::warn!(%error, "no room could be taken for last words")).ok();
        let mut logs = BTreeMap::new();
        for entry in std::fs::read_dir(folder.join("logs"))? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            logs.insert(name, LogFile { file: Appended::open(&entry.path())?, last_ms: now_ms() });
        }
        Ok(Self::of(folder, Kept { claim, events, file, reserve, logs }))
    }

    /// Whose it is.
    #[must_use]
    pub fn claim(&self) -> ClaimId {
        self.claim
    }

    /// Adds an event and gives its number. The job's end finds room on a full disk too, and is on the disk itself when this returns; with
    /// it each log that nobody said to be complete is as long as it has become.
    ///
    /// # Errors
    /// When the disk refuses; then the event was not said.
    pub fn event(&self, event: JobEvent) -> io::Result<u64> {
        let mut kept = self.lock();
        let written = match event {
            JobEvent::Finished { mut ending, spent } => {
                cut_message(&mut ending, LONGEST_MESSAGE);
                let mut last_words = kept.open_logs();
                last_words.push(JobEvent::Finished { ending, spent });
                kept.add_last(last_words)
            }
            event => kept.add(event),
        };
        let seq = kept.events.len() as u64;
        drop(kept);
        self.tell(written)?;
        Ok(seq)
    }

    /// Nothing more will come of a job that died with an earlier life: what there is of its logs is all.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn close_logs(&self) -> io::Result<()> {
        let mut kept = self.lock();
        let last_words = kept.open_logs();
        let written = if last_words.is_empty() { Ok(()) } else { kept.add_last(last_words) };
        drop(kept);
        self.tell(written)
    }

    /// Adds to a log: all of it or nothing.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn log(&self, name: &LogName, bytes: &[u8]) -> io::Result<()> {
        let mut kept = self.lock();
        if !kept.logs.contains_key(name) {
            let file = Appended::open(&self.folder.join("logs").join(name.as_str())).map_err(|e| self.named(&e))?;
            kept.logs.insert(name.clone(), LogFile { file, last_ms: 0 });
        }
        let mut written = Ok(());
        if let Some(log) = kept.logs.get_mut(name) {
            written = log.file.push(bytes);
            log.last_ms = now_ms();
        }
        drop(kept);
        self.tell(written)
    }

    /// The events after the first `sent`.
    pub(crate) fn events_after(&self, sent: usize) -> Vec<Progress> {
        self.lock().events.get(sent..).unwrap_or_default().to_vec()
    }

    /// Whether there is one among the events after the first `sent` for which somebody waits: the job's end, a plan whose
    /// jobs the coordinator has to offer, or a stage that begins only once the coordinator has it.
    pub(crate) fn is_urgent_after(&self, sent: usize) -> bool {
        let urgent = |progress: &Progress| match &progress.event {
            JobEvent::Finished { .. } | JobEvent::StageStarted { not_twice: true, .. } => true,
            JobEvent::Planned { jobs, build } => PlannedJob::going_on(jobs, build).is_none(),
            _ => false,
        };
        self.lock().events.get(sent..).unwrap_or_default().iter().any(urgent)
    }

    /// Whether the job's end has been said.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.lock().events.last(), Some(Progress { event: JobEvent::Finished { .. }, .. }))
    }

    /// The number of the last event of a stage that begins only once the coordinator has it.
    pub(crate) fn begins_not_twice(&self) -> Option<u64> {
        let begins = |progress: &&Progress| matches!(progress.event, JobEvent::StageStarted { not_twice: true, .. });
        self.lock().events.iter().rev().find(begins).map(|progress| progress.seq)
    }

    /// Each log and its length.
    pub(crate) fn logs(&self) -> Vec<(LogName, u64)> {
        self.lock().logs.iter().map(|(name, log)| (name.clone(), log.file.length())).collect()
    }

    /// Bytes of a log from an offset, and when the last of the log was printed.
    pub(crate) fn read(&self, name: &LogName, offset: u64, most: usize) -> io::Result<(Bytes, u64)> {
        let kept = self.lock();
        let Some(log) = kept.logs.get(name) else { return Ok((Bytes::new(), 0)) };
        Ok((log.file.read(offset, most)?, log.last_ms))
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

    fn tell(&self, written: io::Result<()>) -> io::Result<()> {
        written.map_err(|error| self.named(&error))?;
        self.written.send_modify(|count| *count += 1);
        Ok(())
    }

    /// The error with the place that it is about: a claim's own folder is no name for people.
    fn named(&self, error: &io::Error) -> io::Error {
        let place = self.folder.parent().unwrap_or(&self.folder);
        io::Error::new(error.kind(), format!("{}: {error}", place.display()))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Each change is written before it is counted, so a panic elsewhere leaves no half.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn add(&mut self, event: JobEvent) -> io::Result<()> {
        let (progress, lines) = self.written_down(vec![event])?;
        if lines.len() > LONGEST_EVENT {
            // The coordinator would lay it aside unread, and wait for it ever after.
            let why = format!("{} bytes are to be told at once, and {LONGEST_EVENT} is the most", lines.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        self.file.push(&lines)?;
        self.events.extend(progress);
        Ok(())
    }

    /// Adds what nothing follows: where everything stands, or else where room was taken for it.
    fn add_last(&mut self, mut events: Vec<JobEvent>) -> io::Result<()> {
        let (mut progress, lines) = self.written_down(events.clone())?;
        if let Err(error) = self.file.push_safely(&lines) {
            let Some(reserve) = &self.reserve else { return Err(error) };
            if let Some(JobEvent::Finished { ending, spent }) = events.last_mut() {
                spent.clear();
                cut_message(ending, SHORT_MESSAGE);
            }
            let (short, lines) = self.written_down(events)?;
            reserve.write(&lines)?;
            progress = short;
        }
        self.events.extend(progress);
        Ok(())
    }

    fn written_down(&self, events: Vec<JobEvent>) -> io::Result<(Vec<Progress>, Vec<u8>)> {
        let (mut all, mut lines) = (Vec::new(), Vec::new());
        for (event, seq) in events.into_iter().zip(self.events.len() as u64 + 1..) {
            let progress = Progress { claim: self.claim, seq, at_ms: now_ms(), event };
            serde_json::to_writer(&mut lines, &progress)?;
            lines.push(b'\n');
            all.push(progress);
        }
        Ok((all, lines))
    }

    /// What has to be said of the logs that nobody said to be complete.
    fn open_logs(&self) -> Vec<JobEvent> {
        let complete: HashSet<&LogName> = self
            .events
            .iter()
            .filter_map(|progress| match &progress.event {
                JobEvent::LogComplete { log, .. } => Some(log),
                _ => None,
            })
            .collect();
        let open = self.logs.iter().filter(|(name, _)| !complete.contains(name));
        open.map(|(name, log)| JobEvent::LogComplete { log: name.clone(), total: log.file.length() }).collect()
    }
}

/// Shortens what an ending says to so many bytes.
fn cut_message(ending: &mut Ending, most: usize) {
    if let Some(message) = &mut ending.message {
        message.truncate(message.floor_char_boundary(most));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use super::*;

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
        first.event(JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() }).unwrap();
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
        // The log's end is said with the job's, for nobody had said it.
        assert_eq!(again.events_after(0).len(), 3);
        assert_eq!(again.events_after(1)[0].event, JobEvent::LogComplete { log: log.clone(), total: 7 });
        assert_eq!(again.events_after(2)[0].seq, 3);
        assert_eq!(again.logs(), [(log.clone(), 7)]);
        assert_eq!(&again.read(&log, 4, 100).unwrap().0[..], b"two");
        again.remove();
        assert!(spool.leftovers().unwrap().is_empty());
    }

    #[test]
    fn nothing_is_kept_to_be_said_that_no_message_carries() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path().join("spool")).unwrap().begin(ClaimId::fresh()).unwrap();
        let much = "\u{1}x".repeat(LONGEST_EVENT / 2);
        let (subject, author) = (much.clone(), String::new());
        let event = JobEvent::CheckedOut { commit: None, branch: None, subject, author, default_branch: None };
        assert_eq!(spool.event(event).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(spool.event(JobEvent::Settled { acknowledged: true }).unwrap(), 1, "it goes on after that");
        let ending = Ending { message: Some(much), ..Ending::passed() };
        spool.event(JobEvent::Finished { ending, spent: Vec::new() }).unwrap();
        let said = serde_json::to_string(&spool.events_after(1)[0]).unwrap();
        assert!(said.len() < LONGEST_EVENT && spool.is_finished());
    }
}
