//! Which images buildr itself pulled here, when a job used each last, and which are in use now. Only these are ever
//! removed to make room: an image that was there before, or that somebody else pulled since, is not ours.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::super::Spare;

/// How old the time of the last use on the disk may be, in milliseconds: it is for an order of days.
const STALE_MS: u64 = 60_000;

/// The record. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Pulled {
    /// None: nothing is recorded, and so nothing is ever removed.
    file: Option<PathBuf>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By the name that was pulled.
    images: BTreeMap<String, Record>,
    /// How many jobs use an image, by its id.
    in_use: HashMap<String, usize>,
    /// The ids of images that are being removed.
    leaving: HashSet<String>,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// What it was when it was pulled.
    pub(super) id: String,
    last_used_ms: u64,
}

/// A job uses an image, for as long as this lives.
#[derive(Debug)]
pub(super) struct Use {
    pulled: Pulled,
    id: String,
}

/// An image is being removed, for as long as this lives.
#[derive(Debug)]
pub(super) struct Leaving {
    pulled: Pulled,
    id: String,
}

impl Pulled {
    /// What is recorded in a file, which need not be there.
    pub(super) fn open(file: Option<PathBuf>) -> Self {
        let images = file.as_deref().map(read).unwrap_or_default();
        Self { file, inner: Arc::new(Mutex::new(Inner { images, ..Inner::default() })) }
    }

    /// This name was not there, and now it is, by our own pull.
    pub(super) fn record(&self, name: &str, id: &str) {
        if self.file.is_none() {
            return;
        }
        let mut inner = self.lock();
        inner.images.insert(name.to_owned(), Record { id: id.to_owned(), last_used_ms: now_ms() });
        self.write(&inner);
    }

    /// Whether this name came by our own pull.
    pub(super) fn is_ours(&self, name: &str) -> bool {
        self.lock().images.contains_key(name)
    }

    /// Uses an image. None: it is being removed at this moment, and has to be looked for anew.
    pub(super) fn use_image(&self, id: &str) -> Option<Use> {
        let mut inner = self.lock();
        if inner.leaving.contains(id) {
            return None;
        }
        *inner.in_use.entry(id.to_owned()).or_default() += 1;
        let now = now_ms();
        let mut stale = false;
        for record in inner.images.values_mut().filter(|record| record.id == id) {
            // Either way: the clock may have been set back.
            stale |= record.last_used_ms.abs_diff(now) > STALE_MS;
            record.last_used_ms = now;
        }
        if stale {
            self.write(&inner);
        }
        Some(Use { pulled: self.clone(), id: id.to_owned() })
    }

    /// All that no job uses now.
    pub(super) fn unused(&self) -> Vec<Spare> {
        let inner = self.lock();
        let unused = inner.images.iter().filter(|(_, record)| !inner.in_use.contains_key(&record.id));
        unused.map(|(name, record)| Spare { name: name.clone(), last_used_ms: record.last_used_ms }).collect()
    }

    /// Begins to remove an image by its name, unless a job uses it.
    pub(super) fn leave(&self, name: &str) -> Option<(Record, Leaving)> {
        let mut inner = self.lock();
        let record = inner.images.get(name)?.clone();
        if inner.in_use.contains_key(&record.id) || !inner.leaving.insert(record.id.clone()) {
            return None;
        }
        let leaving = Leaving { pulled: self.clone(), id: record.id.clone() };
        Some((record, leaving))
    }

    /// A name is no longer there, or no longer ours.
    pub(super) fn forget(&self, name: &str) {
        let mut inner = self.lock();
        if inner.images.remove(name).is_some() {
            self.write(&inner);
        }
    }

    fn write(&self, inner: &Inner) {
        let Some(file) = &self.file else { return };
        let written = || -> std::io::Result<()> {
            let folder = file.parent().unwrap_or(Path::new("."));
            let mut aside = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer(&mut aside, &inner.images)?;
            aside.flush()?;
            aside.persist(file)?;
            Ok(())
        };
        // What is not recorded stays on the disk: the safe way round.
        if let Err(error) = written() {
            tracing::warn!(%error, file = %file.display(), "what images were pulled could not be noted");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is one step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since 1970, for the order of uses.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn read(file: &Path) -> BTreeMap<String, Record> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return BTreeMap::new(),
        Err(error) => {
            tracing::warn!(%error, file = %file.display(), "what images were pulled is not known; they stay");
            return BTreeMap::new();
        }
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(%error, file = %file.display(), "what images were pulled cannot be read; they stay");
        BTreeMap::new()
    })
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut inner = self.pulled.lock();
        if let Some(count) = inner.in_use.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                inner.in_use.remove(&self.id);
            }
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.pulled.lock().leaving.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pulled: &Pulled) -> Vec<String> {
        pulled.unused().into_iter().map(|spare| spare.name).collect()
    }

    #[test]
    fn what_was_pulled_is_known_to_the_next_life() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("images.json");
        let pulled = Pulled::open(Some(file.clone()));
        pulled.record("a:1", "sha256:a");
        pulled.record("b:1", "sha256:b");
        let again = Pulled::open(Some(file.clone()));
        assert_eq!(names(&again), ["a:1", "b:1"]);
        again.forget("a:1");
        assert_eq!(names(&Pulled::open(Some(file.clone()))), ["b:1"]);
        std::fs::write(&file, "{").unwrap();
        assert_eq!(names(&Pulled::open(Some(file))), [""; 0], "what is not known is not removed");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_image_is_used_or_removed_but_never_both() {
        let folder = tempfile::tempdir().unwrap();
        let pulled = Pulled::open(Some(folder.path().join("images.json")));
        pulled.record("a:1", "sha256:a");
        pulled.record("a:latest", "sha256:a");
        let first = pulled.use_image("sha256:a").unwrap();
        let second = pulled.use_image("sha256:a").unwrap();
        drop(first);
        assert!(pulled.leave("a:1").is_none() && names(&pulled).is_empty());
        drop(second);
        let (record, leaving) = pulled.leave("a:1").unwrap();
        assert_eq!(record.id, "sha256:a");
        assert!(pulled.use_image("sha256:a").is_none());
        assert!(pulled.leave("a:latest").is_none(), "two at once");
        drop(leaving);
        assert!(pulled.use_image("sha256:a").is_some());
        assert!(pulled.leave("unknown").is_none());
    }

    #[test]
    fn without_a_file_nothing_is_ever_spare() {
        let pulled = Pulled::open(None);
        pulled.record("a:1", "sha256:a");
        assert_eq!(names(&pulled), [""; 0]);
    }
}
