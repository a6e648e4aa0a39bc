//! Puts waiting jobs on their queues, a few at a time and in fair order: the store is the outbox, the queue is only
//! the window through which agents see it.
//!
//! A job may be offered more often than once without harm, because its claim decides. So what was offered and may
//! have been lost (a purge, a restart of the broker) is simply offered again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use buildr::process::clock::now_ms;
use futures_util::future::join_all;
use protocol::job::OfferBody;
use protocol::link::{Health, LinkError};
use protocol::{JobId, LabelSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::feed::Change;
use crate::presence::Capacity;
use crate::store::{Offerable, StoreError, Waiting};
use crate::why::behind;

/// How often it looks even though nothing was said: for jobs whose time has come.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long after a look the next one begins at the soonest: what changes in between is seen by one look. Nobody waits for
/// that where little happens, and where much does the queues have more on them than is taken meanwhile.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// How many jobs of a label set are on offer at least, so that an agent that is not known yet finds one at once.
const WINDOW_LEAST: usize = 4;

/// Offers jobs until `shutdown`.
pub(crate) async fn run(desk: Arc<Desk>, shutdown: CancellationToken) {
    let desk = &*desk;
    let mut round = Round { desk, announced: HashSet::new(), line: None };
    let mut changes = desk.feed.listen();
    let mut health = desk.link.health();
    loop {
        changes.catch_up();
        let began = Instant::now();
        let line = health.borrow_and_update().clone();
        match round.go(&line).await {
            Ok(()) => {}
            Err(DispatchError::Link(LinkError::Closed)) => return,
            Err(error) => tracing::warn!("jobs wait to be offered: {error}"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changes.next_of(|change| matches!(change, Change::Build(_) | Change::Agents)) => {}
            Ok(()) = health.changed() => {}
            () = sleep(LOOK_EVERY) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep_until(began + BETWEEN_LOOKS) => {}
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum DispatchError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What it remembers from one look to the next.
struct Round<'d> {
    desk: &'d Desk,
    announced: HashSet<LabelSet>,
    /// The number of the connection over which the present offers were made.
    line: Option<u64>,
}

impl Round<'_> {
    async fn go(&mut self, line: &Health) -> Result<(), DispatchError> {
        self.desk.presence.line.for_how_long(line, Instant::now());
        let Health::Up(number) = *line else { return Ok(()) };
        if self.line != Some(number) {
            // Behind a broken line the queues may have been lost, and the queues in memory surely were.
            let mut tx = self.desk.store.write().await?;
            tx.offer_all_again().await?;
            tx.commit().await?;
            self.announced.clear();
            self.line = Some(number);
        }
        let mut failed = None;
        for waiting in self.desk.store.waiting(now_ms()).await? {
            // What stands in the way of one queue is none of the others' trouble.
            failed = self.offer(&waiting).await.err().or(failed);
        }
        if let Some(error) = failed {
            return Err(error);
        }
        // Looked at here too, so that what is said later is not taken for something old.
        behind(self.desk, number).await;
        Ok(())
    }

    async fn offer(&mut self, waiting: &Waiting) -> Result<(), DispatchError> {
        let desk = self.desk;
        let Capacity { free, .. } = desk.presence.capacity(&waiting.labels, Instant::now());
        let (now, patience) = (now_ms(), u64::try_from(desk.config.lease.as_millis()).unwrap_or(u64::MAX));
        if free > 0 && waiting.is_old(now, patience) {
            // An idle agent would have taken it long ago, so it is no longer there.
            let mut tx = desk.store.write().await?;
            let again = tx.offer_again(&waiting.labels, now.saturating_sub(patience), now).await?;
            tx.commit().await?;
            if again > 0 {
                tracing::info!("{again} jobs were not taken though an agent is idle; they are offered again");
            }
        }
        let window = (free * 2 + 2).max(WINDOW_LEAST);
        let room = window.saturating_sub(waiting.on_offer);
        if room == 0 || !waiting.offerable {
            return Ok(());
        }
        let jobs = desk.store.next_to_offer(&waiting.labels, room, now_ms()).await?;
        if jobs.is_empty() { Ok(()) } else { self.put_on_queue(&waiting.labels, &jobs).await }
    }

    async fn put_on_queue(&mut self, labels: &LabelSet, jobs: &[Offerable]) -> Result<(), DispatchError> {
        let desk = self.desk;
        if !self.announced.contains(labels) {
            desk.link.ensure(std::slice::from_ref(labels)).await?;
            self.announced.insert(labels.clone());
            desk.beacon_now.notify_one();
        }
        // All at once: the broker confirms them together.
        let results = join_all(jobs.iter().map(|job| async move {
            let repo = job.repo.to_string();
            let body = OfferBody { job_id: job.id, build: job.build, repo, branch: job.branch.clone() };
            desk.link.offer(labels, &body).await.map(|()| job.id)
        }))
        .await;
        let mut confirmed: Vec<JobId> = Vec::new();
        let mut failed = None;
        for result in results {
            match result {
                Ok(job) => confirmed.push(job),
                Err(error) => failed = Some(error),
            }
        }
        let mut tx = desk.store.write().await?;
        tx.offered(&confirmed, now_ms()).await?;
        tx.commit().await?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}
