//! Takes away the artifacts whose time is over: those of builds that have ended, when the manifest said for how long.

use std::sync::Arc;
use std::time::Duration;

use buildr::process::clock::now_ms;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::store::StoreError;

/// How often it is looked for what is over: nobody counts on the minute.
const EVERY: Duration = Duration::from_secs(5 * 60);

/// Looks until `shutdown`.
pub(crate) async fn run(desk: Arc<Desk>, shutdown: CancellationToken) {
    loop {
        if let Err(error) = sweep(&desk, now_ms()).await {
            tracing::warn!("artifacts that expired stay until the next look: {error}");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(EVERY) => {}
        }
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
