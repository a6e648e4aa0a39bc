//! What the jobs of this machine take of its disk, looked at again and again.
//!
//! Nothing here holds a job back: between two looks it may write what it can. A look costs the more the more there is
//! to look at, so the next one waits twenty times as long as it took, and a second at least.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::sync::Mutex as Turn;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::engine::Engine;
use super::settings::DiskLimits;
use crate::folder::{self, Entry};
use crate::overlay;

/// The time between two looks, at least.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// How much longer the time between two looks is than a look.
const REST: u32 = 20;

/// What each running job has taken, in bytes, as far as it has been measured.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<BTreeMap<Uuid, Taken>>>);

#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    bytes: Option<u64>,
    /// It is being ended to make room.
    is_ended: bool,
}

/// A running job's line in the ledger, taken out when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    ledger: Ledger,
    job: Uuid,
}

/// Why a job is ended. It says so itself, to the person whose job it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Excess {
    #[error(
        "the job took {} of the disk, more than the {} that one may take here (--build-disk), so it was ended; write less, or have the limit raised",
        shown(*taken), shown(*limit)
    )]
    Build { taken: u64, limit: u64 },
    #[error(
        "this machine's disk had {} left, less than the {} that stay free for the farm (half of --disk-reserve), and of the jobs that ran here this one had taken the most ({}), so it was ended; build it again when there is room",
        shown(*free), shown(*reserve), shown(*taken)
    )]
    Reserve { taken: u64, free: u64, reserve: u64 },
}

impl Ledger {
    /// A line for a job that begins to run.
    pub(super) fn seat(&self) -> Seat {
        let job = Uuid::new_v4();
        self.lock().insert(job, Taken::default());
        Seat { ledger: self.clone(), job }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Taken>> {
        // Each change is one insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// There is room for all, so nobody knows what the job has taken: what was measured once may be long ago.
    fn forget(&self) {
        self.ledger.lock().insert(self.job, Taken::default());
    }

    /// Writes down what the job has taken, and says whether it must end for that.
    fn judge(&self, bytes: u64, free: u64, limits: DiskLimits) -> Option<Excess> {
        let mut ledger = self.ledger.lock();
        ledger.insert(self.job, Taken { bytes: Some(bytes), is_ended: false });
        if let Some(limit) = limits.build.filter(|&limit| bytes > limit) {
            return Some(Excess::Build { taken: bytes, limit });
        }
        // One at a time: when it is gone there may be room. One that was not measured yet soon will be.
        let wait = ledger.values().any(|other| other.is_ended || other.bytes.is_none());
        let largest = ledger.iter().max_by_key(|(_, taken)| taken.bytes).map(|(job, _)| *job);
        if free >= limits.reserve || wait || largest != Some(self.job) {
            return None;
        }
        ledger.insert(self.job, Taken { bytes: Some(bytes), is_ended: true });
        Some(Excess::Reserve { taken: bytes, free, reserve: limits.reserve })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.ledger.lock().remove(&self.job);
    }
}

/// What one job takes, by what there is of it now.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// Its workspace, copies of it, and what else it has on this disk.
    folders: Mutex<Vec<PathBuf>>,
    /// Its containers.
    containers: Mutex<BTreeSet<String>>,
    /// Bytes of the image that `prepare` has made, beyond the one that it is made from.
    image: AtomicU64,
    /// Of several stages one looks for all.
    looking: Turn<()>,
    /// Why the job is ended.
    why: OnceLock<Excess>,
    /// Ends its stages.
    pub(super) end: CancellationToken,
    /// Kept by a job that was ended to make room, until that is there.
    seat: Mutex<Option<Seat>>,
}

/// A container counts, for as long as this lives.
pub(super) struct Counted<'a> {
    usage: &'a Usage,
    container: String,
}

impl Usage {
    /// A folder counts from now on.
    pub(super) fn add_folder(&self, folder: &Path) {
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if !folders.iter().any(|known| known == folder) {
            folders.push(folder.to_owned());
        }
    }

    /// A container counts.
    pub(super) fn count(&self, container: &str) -> Counted<'_> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).insert(container.to_owned());
        Counted { usage: self, container: container.to_owned() }
    }

    /// The job has made an image of so many bytes.
    pub(super) fn set_image(&self, bytes: u64) {
        self.image.store(bytes, Ordering::Relaxed);
    }

    /// Why the job was ended, if it was.
    pub(super) fn excess(&self) -> Option<Excess> {
        self.why.get().copied()
    }

    fn folders(&self) -> Vec<PathBuf> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.usage.containers.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.container);
    }
}

/// How a job is measured.
pub(super) struct Look<'a> {
    pub(super) engine: &'a Engine,
    pub(super) limits: DiskLimits,
    pub(super) usage: &'a Usage,
    pub(super) ledger: &'a Ledger,
    /// Where the daemon keeps its things, when that is a folder of this machine.
    pub(super) daemon: Option<&'a Path>,
}

impl Look<'_> {
    /// Looks again and again; when the job must end, says why and ends it. Never returns.
    pub(super) async fn again(&self) -> std::convert::Infallible {
        let _turn = self.usage.looking.lock().await;
        let seat = self.ledger.seat();
        loop {
            let began = Instant::now();
            let free = self.free();
            // Nobody needs to know how much it is while there is room for all.
            if self.limits.build.is_some() || free < self.limits.reserve.saturating_mul(2) {
                let taken = self.taken().await;
                if let Some(excess) = seat.judge(taken, self.free(), self.limits) {
                    let _ = self.usage.why.set(excess);
                    // Until the place is closed nobody else has to make room.
                    *self.usage.seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(seat);
                    self.usage.end.cancel();
                    return std::future::pending().await;
                }
            } else {
                seat.forget();
            }
            sleep(BETWEEN_LOOKS.max(began.elapsed() * REST)).await;
        }
    }

    /// Bytes that are free for the farm where workspaces, or images, lie: the less of both.
    fn free(&self) -> u64 {
        let first = self.usage.folders().into_iter().next();
        let places = first.as_deref().into_iter().chain(self.daemon);
        let free = places.filter_map(|place| statvfs(place).ok());
        #[expect(clippy::useless_conversion, reason = "the fields are narrower on other systems")]
        let free = free.map(|disk| u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size())));
        free.min().unwrap_or(u64::MAX)
    }

    /// Bytes that the job has taken. What cannot be measured counts for nothing.
    async fn taken(&self) -> u64 {
        let containers: Vec<_> =
            self.usage.containers.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let mut layers = 0;
        for container in containers {
            let options = bollard::query_parameters::InspectContainerOptionsBuilder::default().size(true).build();
            let layer = self.engine.quick.inspect_container(&container, Some(options)).await;
            let layer = layer.ok().and_then(|found| found.size_rw).and_then(|size| u64::try_from(size).ok());
            layers += layer.unwrap_or_default();
        }
        let folders = self.usage.folders();
        // The walk is given up when nobody waits for it any more.
        let given_up = Arc::new(AtomicBool::new(false));
        let _guard = GivenUp(Arc::clone(&given_up));
        // Of an overlay, what was written to it: what lies below is kept for all.
        let own = |folder: PathBuf| overlay::upper_of(&folder).unwrap_or(folder);
        let walked = tokio::task::spawn_blocking(move || {
            folders.into_iter().map(|folder| size_of(&own(folder), &given_up)).sum::<u64>()
        });
        self.usage.image.load(Ordering::Relaxed) + layers + walked.await.unwrap_or_default()
    }
}

struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a folder takes of the disk, in bytes: files with holes for what is in them, files with several names once.
/// What this process may not look into counts for nothing.
fn size_of(folder: &Path, given_up: &AtomicBool) -> u64 {
    let (mut bytes, mut several) = (0, HashSet::new());
    let walked = folder::walk(folder, &mut |entry: &Entry<'_>| {
        if given_up.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let stat = entry.stat;
        if entry.is_folder() || stat.st_nlink == 1 || several.insert(stat.st_ino) {
            bytes += u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
        }
        Ok(())
    });
    if let Err(error) = walked {
        tracing::debug!(%error, folder = %folder.display(), "not all of a job's folder could be measured");
    }
    bytes
}

/// A size as a person reads it.
fn shown(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..10_737_418_240 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_makes_room_and_one_at_a_time() {
        let ledger = Ledger::default();
        let limits = DiskLimits { build: None, reserve: 100 };
        let (small, large) = (ledger.seat(), ledger.seat());
        assert_eq!(small.judge(10, 50, limits), None, "the other is not measured yet");
        assert_eq!(large.judge(20, 100, limits), None, "there is room");
        assert_eq!(small.judge(10, 50, limits), None, "another is larger");
        assert_eq!(large.judge(20, 50, limits), Some(Excess::Reserve { taken: 20, free: 50, reserve: 100 }));
        assert_eq!(small.judge(30, 50, limits), None, "one is being ended");
        drop(large);
        assert_eq!(small.judge(30, 120, limits), None, "there is room again");
        let late = ledger.seat();
        late.judge(0, 120, limits);
        late.forget();
        assert_eq!(small.judge(30, 99, limits), None, "what the other has taken is not known any more");
        assert_eq!(late.judge(1, 99, limits), None);
        assert_eq!(small.judge(30, 99, limits), Some(Excess::Reserve { taken: 30, free: 99, reserve: 100 }));
    }

    #[test]
    fn one_job_may_take_so_much() {
        let ledger = Ledger::default();
        let limits = DiskLimits { build: Some(5 << 20), reserve: 0 };
        let seat = ledger.seat();
        assert_eq!(seat.judge(5 << 20, 0, limits), None);
        let excess = seat.judge((5 << 20) + 1, 0, limits).unwrap();
        assert!(excess.to_string().contains("more than the 5 MiB that one may take here (--build-disk)"), "{excess}");
    }

    #[test]
    fn a_size_is_what_the_disk_holds() {
        let folder = tempfile::tempdir().unwrap();
        let go_on = AtomicBool::new(false);
        let before = size_of(folder.path(), &go_on);
        std::fs::write(folder.path().join("a"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
        std::fs::File::create(folder.path().join("hole")).unwrap().set_len(1 << 40).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("link")).unwrap();
        let size = size_of(folder.path(), &go_on) - before;
        assert!((1 << 20..2 << 20).contains(&size), "{size}");
        assert_eq!(size_of(folder.path(), &AtomicBool::new(true)), 0);
    }
}
