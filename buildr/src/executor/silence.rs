//! How long a stage has printed nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

/// How often it is looked whether a slow reader has taken what was printed.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// Since when a stage has printed nothing. Time in which its output waits for a reader counts for nothing.
#[derive(Debug)]
pub(super) struct Silence(Mutex<Option<Instant>>);

impl Silence {
    /// It begins now.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some(Instant::now())))
    }

    /// Something was printed, and is passed on by `passing`.
    pub(super) async fn broken_by<T>(&self, passing: impl Future<Output = T>) -> T {
        self.set(None);
        let passed = passing.await;
        self.set(Some(Instant::now()));
        passed
    }

    /// Resolves when it has lasted so long; without a limit never.
    pub(super) async fn lasts(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        loop {
            let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match since {
                Some(since) if since.elapsed() >= limit => return,
                Some(since) => sleep_until(since + limit).await,
                None => sleep(BETWEEN_LOOKS).await,
            }
        }
    }

    fn set(&self, since: Option<Instant>) {
        // A time is whole whatever panicked beside it.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}
