//! What is sent beside what goes on: tasks that are joined, so that a panic in one of them is seen by somebody.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Those that are under way.
#[derive(Debug, Default)]
pub(crate) struct Senders {
    under_way: Mutex<JoinSet<()>>,
    /// There is one more.
    begun: Notify,
}

impl Senders {
    /// Begins one.
    pub(crate) fn begin(&self, sending: impl Future<Output = ()> + Send + 'static) {
        self.lock().spawn(sending);
        self.begun.notify_one();
    }

    /// Waits until one of them panics. Those that are done are taken out meanwhile, so that the set does not grow.
    pub(crate) async fn fallen(&self) {
        loop {
            match poll_fn(|context| self.lock().poll_join_next(context)).await {
                Some(Err(error)) if error.is_panic() => return,
                Some(_) => {}
                None => self.begun.notified().await,
            }
        }
    }

    /// Waits for all of them. Dropped while it waits, it ends them.
    pub(crate) async fn finish(&self) {
        let mut under_way = std::mem::take(&mut *self.lock());
        while under_way.join_next().await.is_some() {}
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        // Nothing is done under it that could leave a half.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
