//! Takes away what is kept no longer: artifacts whose time is over, as the manifest said, and what is older than the
//! farm's settings say, or those of its project. A little at a time, from the disk and then from the store, so that nothing else waits for it and
//! nothing is forgotten that still lies there.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buildr::process::clock::now_ms;
use protocol::BuildNumber;
use protocol::api::Keeps;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::store::{Among, Old, Removed, StoreError};

/// How often it is looked for what is over: nobody counts on the minute.
const EVERY: Duration = Duration::from_secs(5 * 60);

/// How many builds are looked up at once.
const PAGE: u32 = 50;

const HOUR_MS: u64 = 3600 * 1000;

const DAY_MS: u64 = 24 * HOUR_MS;

/// How far the clock may be from what it should show before it is doubted: nothing that is removed comes back, and a
/// clock that is wrong is so by months or years.
const JUMP_MS: u64 = 7 * DAY_MS;

/// How long a clock that is doubted must go on steadily until it is believed.
const STEADY: Duration = Duration::from_secs(24 * 3600);

/// Looks until `shutdown`.
pub(crate) async fn run(desk: Arc<Desk>, shutdown: CancellationToken) {
    let mut trust = Trust::default();
    loop {
        let looked = async {
            let last_ms = desk.store.newest_build_ms().await?;
            if trust.believes(Instant::now(), now_ms(), last_ms) {
                look(&desk, now_ms(), &shutdown).await?;
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = looked.await {
            tracing::warn!("what is kept no longer stays until the next look: {error}");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(EVERY) => {}
        }
    }
}

async fn look(desk: &Desk, now_ms: u64, shutdown: &CancellationToken) -> Result<(), StoreError> {
    sweep(desk, now_ms).await?;
    clear(desk, now_ms, shutdown).await?;
    let mut tx = desk.store.write().await?;
    tx.trim_audit(now_ms).await?;
    tx.commit().await
}

/// Whether the time of day can be believed. One that is far ahead makes everything old.
#[derive(Default)]
struct Trust {
    /// The last look, by a clock that only goes forward and by the time of day.
    last: Option<(Instant, u64)>,
    doubted: Option<Instant>,
}

impl Trust {
    /// Looks at the clock. The first time it is held against `newest_ms`, the newest moment that the store knows.
    fn believes(&mut self, now: Instant, now_ms: u64, newest_ms: Option<u64>) -> bool {
        let expected_ms = match self.last {
            Some((then, then_ms)) => {
                let passed = now.saturating_duration_since(then).as_millis();
                Some(then_ms.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
            }
            None => newest_ms,
        };
        self.last = Some((now, now_ms));
        if expected_ms.is_some_and(|expected| now_ms.abs_diff(expected) > JUMP_MS) {
            tracing::warn!(
                "the clock is more than a week from what it should show, if nobody was away for so long; nothing is removed for its age until it has gone steadily for a day"
            );
            self.doubted = Some(now);
        }
        if self.doubted.is_some_and(|since| now.saturating_duration_since(since) >= STEADY) {
            self.doubted = None;
        }
        self.doubted.is_none()
    }
}

/// Removes what is over by now, from the disk and then from the store, and says how many archives that were.
///
/// # Errors
/// When the store fails. What the disk does not let go stays in both.
pub(crate) async fn sweep(desk: &Desk, now_ms: u64) -> Result<usize, StoreError> {
    let mut removed = 0;
    for over in desk.store.expired_archives(now_ms).await? {
        if let Err(error) = desk.archives.remove(over.build, &over.sha256) {
            tracing::warn!(%error, "artifacts of build {} that expired could not be removed", over.build);
            continue;
        }
        let mut tx = desk.store.write().await?;
        tx.forget_archive(over.build, &over.sha256).await?;
        tx.commit().await?;
        removed += 1;
    }
    Ok(removed)
}

/// Removes what is older than the settings say, until `shutdown`, and says of how many builds something was removed.
///
/// # Errors
/// As of [`sweep`].
pub(crate) async fn clear(desk: &Desk, now_ms: u64, shutdown: &CancellationToken) -> Result<usize, StoreError> {
    let otherwise = desk.store.kept_otherwise().await?;
    let others = otherwise.iter().flat_map(|(repos, _)| repos.clone()).collect();
    let own = otherwise.into_iter().map(|(repos, keeps)| (Among::These(repos), keeps.over(&desk.config.keeps)));
    let mut removed = 0;
    for (among, keeps) in own.chain([(Among::Others(others), desk.config.keeps)]) {
        removed += clear_among(desk, &among, &keeps, now_ms, shutdown).await?;
    }
    Ok(removed)
}

async fn clear_among(
    desk: &Desk,
    among: &Among,
    keeps: &Keeps,
    now_ms: u64,
    shutdown: &CancellationToken,
) -> Result<usize, StoreError> {
    let mut removed = 0;
    for (what, old) in rules(keeps, now_ms) {
        loop {
            let builds = desk.store.old_builds(what, old, among, PAGE).await?;
            let mut stays = false;
            for build in &builds {
                if shutdown.is_cancelled() {
                    return Ok(removed);
                }
                if !desk.store.is_old(*build, what, old, among).await? {
                    continue;
                }
                if remove(desk, *build, what, now_ms).await? {
                    removed += 1;
                } else {
                    stays = true;
                }
            }
            // What the disk does not let go would be found again.
            if stays || builds.is_empty() {
                break;
            }
        }
    }
    Ok(removed)
}

/// What is removed, and of which builds. Something may still arrive of a build that has only just ended.
fn rules(keeps: &Keeps, now_ms: u64) -> Vec<(Removed, Old)> {
    let before = |days: u32| now_ms.saturating_sub(u64::from(days) * DAY_MS).min(now_ms.saturating_sub(HOUR_MS));
    let by_age = |days: Option<u32>, what| days.map(|days| (what, Old { before_ms: before(days), newest: 0 }));
    let builds = match (keeps.builds, keeps.days) {
        (None, None) => None,
        (newest, days) => {
            let old = Old { before_ms: before(days.unwrap_or(0)), newest: newest.unwrap_or(0).into() };
            Some((Removed::Build, old))
        }
    };
    let logs = by_age(keeps.logs_days, Removed::Logs);
    builds.into_iter().chain(logs).chain(by_age(keeps.artifacts_days, Removed::Artifacts)).collect()
}

/// Removes something of a build; `false` when the disk does not let it go.
async fn remove(desk: &Desk, build: BuildNumber, what: Removed, now_ms: u64) -> Result<bool, StoreError> {
    let jobs = desk.store.jobs_of(build).await?;
    let (files, archives) = (desk.store.log_files().clone(), desk.archives.clone());
    let gone = tokio::task::spawn_blocking(move || {
        if what != Removed::Artifacts {
            jobs.iter().try_for_each(|job| files.remove(*job))?;
        }
        if what == Removed::Logs { Ok(()) } else { archives.remove_all(build) }
    });
    let gone = gone.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    if let Err(error) = gone {
        tracing::warn!(%error, "what is kept no longer of build {build} could not be removed");
        return Ok(false);
    }
    let mut tx = desk.store.write().await?;
    tx.remove(build, what, now_ms).await?;
    tx.commit().await?;
    Ok(true)
}

#[cfg(test)]
mod tests;
