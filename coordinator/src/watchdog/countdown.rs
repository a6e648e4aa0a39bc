//! What may take only so long: gates without an answer, builds, and what comes last. Counted by a clock that only goes
//! forward, while this coordinator lives; what is left is written down now and then, so that a restart goes on with it.

use std::collections::HashMap;
use std::time::Duration;

use buildr::process::clock::now_ms;
use protocol::api::span;
use protocol::state::Happening;
use tokio::time::Instant;

use crate::desk::Desk;
use crate::store::{Asker, StoreError, Timed};
use crate::tracker::Answers;

/// How often what is left is written down.
const WRITE_EVERY: Duration = Duration::from_secs(60);

/// What is being counted down.
#[derive(Default)]
pub(super) struct Countdown {
    counted: HashMap<Timed, Count>,
}

struct Count {
    left: Duration,
    since: Instant,
}

impl Count {
    fn left(&self, now: Instant) -> Duration {
        self.left.saturating_sub(now.saturating_duration_since(self.since))
    }
}

impl Countdown {
    /// Ends what has had its time.
    pub(super) async fn look(&mut self, desk: &Desk, now: Instant) -> Result<(), StoreError> {
        let ticking = desk.store.timed().await?;
        if ticking.is_empty() && self.counted.is_empty() {
            return Ok(());
        }
        let (mut over, mut write) = (Vec::new(), Vec::new());
        let mut before = std::mem::take(&mut self.counted);
        for (timed, left_ms) in ticking {
            let count = before.remove(&timed);
            let count = count.unwrap_or(Count { left: Duration::from_millis(left_ms), since: now });
            if count.left(now).is_zero() {
                over.push(timed);
            } else if now.saturating_duration_since(count.since) >= WRITE_EVERY {
                write.push((timed, count.left(now)));
                self.counted.insert(timed, Count { left: count.left(now), since: now });
            } else {
                self.counted.insert(timed, count);
            }
        }
        // What does not count any more for now may count on later.
        write.extend(before.into_iter().map(|(timed, count)| (timed, count.left(now))));
        if !write.is_empty() {
            let mut tx = desk.store.write().await?;
            for (timed, left) in write {
                tx.write_left(timed, u64::try_from(left.as_millis()).unwrap_or(u64::MAX)).await?;
            }
            tx.commit().await?;
        }
        for timed in over {
            end(desk, timed).await?;
        }
        Ok(())
    }
}

async fn end(desk: &Desk, timed: Timed) -> Result<(), StoreError> {
    let mut tx = desk.store.write().await?;
    tx.write_left(timed, 0).await?;
    match timed {
        Timed::Gate(id) => {
            let Some(job) = tx.job(id).await? else { return Ok(()) };
            if job.answer.is_some() {
                // Since it was looked at: whoever answered was told that it counts.
                return Ok(());
            }
            let limit = job.terms.gate.as_ref().and_then(|gate| gate.timeout_ms).unwrap_or(0);
            let reason = format!("nobody approved it within {}", span(limit));
            tx.apply(&job, &Happening::PassedOver { reason }, now_ms()).await?.ok();
        }
        Timed::Last(id) => tx.cancel_job(id, "what comes last (finally) takes too long", now_ms()).await?,
        Timed::Build(number) => {
            let limit = tx.time_limit(number).await?.unwrap_or(0);
            let reason = format!("the build took longer than {} (timeout)", span(limit));
            tx.cancel(number, &reason, Asker::Time, now_ms()).await?;
        }
    }
    let mut answers = Answers::default();
    answers.follow(tx.take_effects());
    tx.commit().await?;
    answers.give(desk).await;
    Ok(())
}
