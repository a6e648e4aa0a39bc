//! Keeps room on the disks: below a mark it removes what buildr itself keeps there, the longest unused first, and
//! when that does not help the agent takes no jobs, nor when what a job says could not be kept for another reason. What
//! others put on the disk is never touched.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use buildr::executor::{Executor, Spare, Swept};
use buildr::git::{Checkouts, KeptMirror};
use buildr::process::disk::Room;
use buildr::runner::WorkFolder;
use protocol::report::Capacity;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Mark;
use crate::spool::Spool;
use crate::standing::Standing;

/// How often the disks are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How often what other lives left behind is looked for, though there is room.
const SWEEP_EVERY: Duration = Duration::from_secs(5 * 60);

/// How long after its beginning an agent removes leftovers once more: what an earlier life asked the daemon for in the
/// moment in which it was killed comes to be when the daemon gets to it, and that may be after the first sweep.
const SWEEP_AGAIN: Duration = Duration::from_secs(10);

/// How much more than the mark must be free before jobs are taken again, in percent of the disk: so that an agent at
/// the mark does not waver.
const MORE_PERCENT: u64 = 2;

/// A disk with so many bytes free is not short of room, whatever that is in percent: ten percent of a large disk are
/// more than builds need.
const PLENTY: u64 = 20 << 30;

impl Mark {
    /// Whether a disk has too little room. One that had too little before needs more than the mark to have enough.
    fn lacks(self, room: &Room, before: bool) -> bool {
        let (percent, bytes) = if before { self.enough() } else { (u64::from(self.percent), self.bytes) };
        room.free < bytes || (room.percent_free() < percent && room.free < PLENTY)
    }

    /// From where on a disk that had too little has enough again: percent and bytes.
    fn enough(self) -> (u64, u64) {
        let percent = if self.percent == 0 { 0 } else { u64::from(self.percent) + MORE_PERCENT };
        (percent, self.bytes + self.bytes / 4)
    }

    /// What a person is told about a disk that has too little.
    fn sentence(self, path: &Path, room: &Room) -> String {
        let (path, (percent, bytes), free) = (path.display(), self.enough(), room.percent_free());
        if free < percent {
            return format!("disk {free} % free on {path}; jobs are taken again from {percent} % on");
        }
        let (free, again) = (room.free >> 20, bytes >> 20);
        format!("disk {free} MiB free on {path}; jobs are taken again from {again} MiB on")
    }
}

/// What keeps the room.
pub(crate) struct Keeper {
    pub(crate) mark: Mark,
    pub(crate) mirror_cap: Option<u64>,
    /// The agent's own folder: spool and mirrors.
    pub(crate) state: PathBuf,
    pub(crate) spool: PathBuf,
    pub(crate) work: WorkFolder,
    pub(crate) checkouts: Checkouts,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) standing: Standing,
    pub(crate) capacity: watch::Sender<Option<Capacity>>,
    /// Somebody met a full disk.
    pub(crate) look_now: Arc<Notify>,
}

/// Something that could go, and where it is kept.
enum Kept {
    Mirror(KeptMirror),
    OfExecutor(Spare),
}

impl Keeper {
    /// Looks and cleans up until the token is cancelled. `lacking` is what the first look gave.
    pub(crate) async fn keep(self, mut lacking: Vec<u64>, done: CancellationToken) {
        let mut next_sweep = Instant::now() + SWEEP_AGAIN;
        loop {
            if Instant::now() >= next_sweep {
                self.sweep().await;
                self.trim_mirrors().await;
                next_sweep = Instant::now() + SWEEP_EVERY;
            }
            tokio::select! {
                () = done.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.look_now.notified() => {}
            }
            lacking = self.look(&lacking).await;
        }
    }

    /// Removes what earlier lives of this agent, and jobs that ended badly, left behind.
    pub(crate) async fn sweep(&self) {
        let swept = self.executor.sweep().await;
        let workspaces = self.work.sweep(self.executor.as_ref()).await;
        if let Err(error) = swept.as_ref().map(drop).and(workspaces.as_ref().map(drop)) {
            tracing::warn!(%error, "not all that was left behind could be removed; trying again later");
        }
        let (swept, workspaces) = (swept.unwrap_or_default(), workspaces.unwrap_or_default());
        if workspaces > 0 || swept != Swept::default() {
            tracing::info!(?swept, workspaces, "removed what was left behind");
        }
    }

    /// Removes the longest unused mirrors until all together take no more than they may.
    pub(crate) async fn trim_mirrors(&self) {
        let Some(cap) = self.mirror_cap else { return };
        let mut mirrors = self.checkouts.mirrors().await;
        mirrors.sort_by_key(|mirror| mirror.last_used_ms);
        // The last ones used may stay as long as all of them fit.
        let mut total = 0;
        for mirror in mirrors.into_iter().rev() {
            total += self.checkouts.size_of(&mirror).await;
            if total > cap {
                self.remove(Kept::Mirror(mirror)).await;
            }
        }
    }

    /// Looks once. Gives the disks that have too little room, of which `before` are those of the last look.
    pub(crate) async fn look(&self, before: &[u64]) -> Vec<u64> {
        self.tell_capacity().await;
        let places = self.places().await;
        let mut lacking = self.lacking(&places, before).await;
        if !lacking.is_empty() {
            self.make_room(&lacking).await;
            let short: Vec<u64> = lacking.iter().map(|(_, room)| room.disk).collect();
            lacking = self.lacking(&places, &short).await;
            self.tell_capacity().await;
        }
        let first = lacking.first().map(|(path, room)| self.mark.sentence(path, room));
        let reason = match first {
            Some(reason) => Some(reason),
            None => self.unwritable().await,
        };
        self.standing.disk(reason);
        lacking.into_iter().map(|(_, room)| room.disk).collect()
    }

    /// Why no job could begin though there is room, such as a disk without a free inode, over its quota or read-only.
    async fn unwritable(&self) -> Option<String> {
        let spool = self.spool.clone();
        let tried = tokio::task::spawn_blocking(move || Spool::try_out(&spool)).await.ok()?;
        let path = self.spool.display();
        tried
            .err()
            .map(|error| format!("the spool {path} cannot be written: {error}; jobs are taken again when it can"))
    }

    async fn places(&self) -> Vec<PathBuf> {
        let own = [self.work.path().to_owned(), self.state.clone()];
        own.into_iter().chain(self.executor.store().await).collect()
    }

    /// The places whose disk has too little room, one for each disk.
    async fn lacking(&self, places: &[PathBuf], before: &[u64]) -> Vec<(PathBuf, Room)> {
        let mut found: Vec<(PathBuf, Room)> = Vec::new();
        for path in places {
            let Some(room) = room(path).await else { continue };
            let known = found.iter().any(|(_, other)| other.disk == room.disk);
            if !known && self.mark.lacks(&room, before.contains(&room.disk)) {
                found.push((path.clone(), room));
            }
        }
        found
    }

    /// Removes leftovers, then what is kept for later, the longest unused first, until there is enough.
    async fn make_room(&self, lacking: &[(PathBuf, Room)]) {
        self.sweep().await;
        for (path, short) in lacking {
            for kept in self.kept_on(short.disk).await {
                match room(path).await {
                    Some(room) if self.mark.lacks(&room, true) => {}
                    _ => break,
                }
                self.remove(kept).await;
            }
        }
    }

    /// What is kept on a disk, the longest unused first.
    async fn kept_on(&self, disk: u64) -> Vec<Kept> {
        let mut all: Vec<(u64, Kept)> = Vec::new();
        if room(&self.state).await.is_some_and(|room| room.disk == disk) {
            let mirrors = self.checkouts.mirrors().await.into_iter();
            all.extend(mirrors.map(|mirror| (mirror.last_used_ms, Kept::Mirror(mirror))));
        }
        // Where a store cannot be seen, nobody knows that it lies elsewhere.
        let here = match self.executor.store().await {
            Some(store) => room(&store).await.is_none_or(|room| room.disk == disk),
            None => true,
        };
        if here {
            match self.executor.spare().await {
                Ok(spare) => all.extend(spare.into_iter().map(|one| (one.last_used_ms, Kept::OfExecutor(one)))),
                Err(error) => tracing::warn!(%error, "what could be removed is not known"),
            }
        }
        all.sort_by_key(|(last_used_ms, _)| *last_used_ms);
        all.into_iter().map(|(_, kept)| kept).collect()
    }

    /// Removes it unless it is in use, and says whether it is gone.
    async fn remove(&self, kept: Kept) -> bool {
        let (name, gone) = match &kept {
            Kept::Mirror(mirror) => {
                let gone = self.checkouts.remove_mirror(mirror).await;
                (mirror.folder.display().to_string(), gone.map_err(|error| error.to_string()))
            }
            Kept::OfExecutor(spare) => {
                let gone = self.executor.remove_spare(spare).await;
                (spare.name.clone(), gone.map_err(|error| error.to_string()))
            }
        };
        match &gone {
            Ok(true) => tracing::info!(name, "removed to make room"),
            Ok(false) => tracing::debug!(name, "in use"),
            Err(error) => tracing::warn!(name, error, "it could not be removed to make room"),
        }
        gone == Ok(true)
    }

    async fn tell_capacity(&self) {
        let Some(room) = room(self.work.path()).await else { return };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let capacity = Capacity {
            disk_free_bytes: room.free,
            disk_total_bytes: room.total,
            memory_bytes: memory(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
        };
        self.capacity.send_replace(Some(capacity));
    }
}

/// The room at a path, asked for on a thread that may be held up.
async fn room(path: &Path) -> Option<Room> {
    let (place, asked) = (path.to_owned(), path.to_owned());
    let found = tokio::task::spawn_blocking(move || Room::at(&asked)).await.ok()?;
    found.inspect_err(|error| tracing::debug!(%error, path = %place.display(), "the room on it is not known")).ok()
}

/// The machine's memory in bytes, by what Linux says of it; 0 where nobody says.
fn memory(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(0, |kib| kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_disk_needs_more_than_the_mark_to_have_enough_again() {
        let check = |percent: u8, bytes: u64, free: u64, before: bool, expect: bool| {
            let room = Room { free, total: 100 * GIB, disk: 1 };
            assert_eq!(Mark { percent, bytes }.lacks(&room, before), expect, "{percent} {bytes} {free} {before}");
        };
        check(30, 0, PLENTY, false, false);
        check(30, 0, PLENTY - 1, false, true);
        check(0, 2 * PLENTY, PLENTY, false, true);
        check(10, 0, 10 * GIB, false, false);
        check(10, 0, 10 * GIB - 1, false, true);
        check(10, 0, 11 * GIB, true, true);
        check(10, 0, 12 * GIB, true, false);
        check(0, 4 * GIB, 4 * GIB, false, false);
        check(0, 4 * GIB, 4 * GIB - 1, false, true);
        check(0, 4 * GIB, 5 * GIB - 1, true, true);
        check(0, 4 * GIB, 5 * GIB, true, false);
        check(0, 0, 0, false, false);
        check(0, 0, 0, true, false);
    }

    #[test]
    fn the_reason_names_disk_and_way_out() {
        let check = |percent: u8, bytes: u64, free: u64, expect: &str| {
            let room = Room { free, total: 100 * GIB, disk: 1 };
            assert_eq!(Mark { percent, bytes }.sentence(Path::new("/w"), &room), expect);
        };
        check(10, GIB, 4 * GIB, "disk 4 % free on /w; jobs are taken again from 12 % on");
        check(0, GIB, GIB / 2, "disk 512 MiB free on /w; jobs are taken again from 1280 MiB on");
        check(1, 8 * GIB, 7 * GIB, "disk 7168 MiB free on /w; jobs are taken again from 10240 MiB on");
    }

    #[test]
    fn memory_is_read_as_linux_says_it() {
        assert_eq!(memory("MemTotal:        8048372 kB\nMemFree: 1 kB\n"), 8_048_372 * 1024);
        assert_eq!(memory("nothing"), 0);
    }
}
