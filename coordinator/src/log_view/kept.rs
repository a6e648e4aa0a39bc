//! The indexes of the logs that are looked at: made when somebody first looks, kept for those who come later, grown as
//! the logs grow.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::extent::Extent;
use super::index::LineIndex;
use super::search::Ground;
use crate::store::{LogFiles, LogPlace};

/// How many logs are known at once; who has not been looked at for the longest is forgotten. An index has at most 2 MiB,
/// of a log of 200 MB some 100 KiB.
const MOST: usize = 32;

/// How much is read at once while an index is made, in bytes.
const PIECE: u64 = 1 << 20;

/// Where the lines of logs begin.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    /// The one that was looked at last is the last.
    kept: Mutex<Vec<(LogPlace, Shared)>>,
}

type Shared = Arc<tokio::sync::Mutex<LineIndex>>;

/// What is known of a log at one moment.
#[derive(Debug)]
pub(crate) struct Known {
    /// How many lines it has, one that is not over included.
    pub(crate) total: u64,
    /// How many of its bytes are there.
    pub(crate) bytes: u64,
    /// How many commands it announces, as far as they are kept.
    pub(crate) commands: usize,
}

impl Indexes {
    /// What a log has up to so many bytes, and what `choose` takes from its index.
    async fn look<T: Send + 'static>(
        &self,
        files: &LogFiles,
        place: &LogPlace,
        bytes: u64,
        choose: impl FnOnce(&LineIndex) -> T + Send + 'static,
    ) -> io::Result<(Known, T)> {
        // One makes it; who waits for that finds it made.
        let mut index = self.of(place).lock_owned().await;
        let (files, place) = (files.clone(), place.clone());
        let looking = move || {
            grow(&mut index, &files, &place, bytes)?;
            let (total, commands) = (index.total(), index.commands().len());
            Ok((Known { total, bytes: index.seen(), commands }, choose(&index)))
        };
        tokio::task::spawn_blocking(looking).await.map_err(io::Error::other)?
    }

    /// What a log has up to so many bytes.
    ///
    /// # Errors
    /// When the disk does not give it; so with the others.
    pub(crate) async fn known(&self, files: &LogFiles, place: &LogPlace, bytes: u64) -> io::Result<Known> {
        Ok(self.look(files, place, bytes, |_| ()).await?.0)
    }

    /// At most so many lines of it, from one on, counted from 1; from the end when that one is negative.
    pub(crate) async fn extent(
        &self,
        files: &LogFiles,
        place: &LogPlace,
        bytes: u64,
        (from, count): (i64, u64),
    ) -> io::Result<(Known, Extent)> {
        let of = place.clone();
        let choose = move |index: &LineIndex| {
            let from = match u64::try_from(from) {
                Ok(from) => from,
                Err(_) => (index.total() + 1).saturating_sub(from.unsigned_abs()),
            };
            Extent::of(index, of, from, count)
        };
        self.look(files, place, bytes, choose).await
    }

    /// Where to look for something in it, from a line on.
    pub(crate) async fn ground(
        &self,
        files: &LogFiles,
        place: &LogPlace,
        bytes: u64,
        from: u64,
    ) -> io::Result<(Known, Ground)> {
        let of = place.clone();
        self.look(files, place, bytes, move |index| Ground::of(index, of, from)).await
    }

    /// The lines that announce commands: their numbers, and where they begin.
    pub(crate) async fn commands(
        &self,
        files: &LogFiles,
        place: &LogPlace,
        bytes: u64,
    ) -> io::Result<(Known, Vec<(u64, u64)>)> {
        self.look(files, place, bytes, |index| index.commands().to_vec()).await
    }

    fn of(&self, place: &LogPlace) -> Shared {
        // Each change is one step.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|(known, _)| known == place).map(|at| kept.remove(at).1);
        let index = found.unwrap_or_else(|| Arc::new(tokio::sync::Mutex::new(LineIndex::new())));
        if kept.len() >= MOST {
            kept.remove(0);
        }
        kept.push((place.clone(), index.clone()));
        index
    }
}

/// Brings an index to so many bytes, or to as many as are on the disk.
fn grow(index: &mut LineIndex, files: &LogFiles, place: &LogPlace, bytes: u64) -> io::Result<()> {
    if bytes < index.seen() {
        // Who asks may have looked at the log a moment earlier; or somebody has cut the file.
        index.cut(files.length(place)?);
    }
    while index.seen() < bytes {
        let piece = files.read(place, index.seen(), PIECE.min(bytes - index.seen()))?;
        if piece.is_empty() {
            return Ok(());
        }
        index.add(&piece);
    }
    Ok(())
}
