//! Sees that nothing waits for what will not come: attempts whose agent went silent, jobs that were asked to end and
//! do not, logs whose rest is lost. It believes in a silence only when nothing of this side explains it: after a
//! pause of the machine, a broken line or a full queue every lease gets its full time again.

pub(crate) mod beacon;
mod countdown;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use buildr::process::clock::now_ms;
use protocol::api::Loss;
use protocol::control::Control;
use protocol::link::{Health, LinkError};
use protocol::state::Happening;
use protocol::{ClaimId, LogName};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::feed::Change;
use crate::store::{Attempt, StoreError, UnfinishedLog};
use crate::tracker::{Answers, MAX_ATTEMPTS, MAX_LOST, lay_aside_given_up};
use countdown::Countdown;

/// A pause of this side's own that is longer than this, or than half a lease, counts for nobody's silence: what was said
/// meanwhile is still on its way.
const OWN_GAP: Duration = Duration::from_secs(10);

/// How long the rest of a log is waited for while its agent is here: it may have much to send over a thin line.
const LOG_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Watches until `shutdown`.
pub(crate) async fn run(desk: Arc<Desk>, shutdown: CancellationToken) {
    let desk = &*desk;
    let every = (desk.config.lease / 10).clamp(Duration::from_millis(50), Duration::from_secs(5));
    let mut watch = Watch { desk, line: None, last: Instant::now(), awaited: Awaited::default() };
    let mut countdown = Countdown::default();
    loop {
        if let Err(error) = countdown.look(desk, Instant::now()).await {
            tracing::warn!("what takes too long is not looked for at present: {error}");
        }
        match watch.look().await {
            Ok(()) | Err(WatchError::Link(LinkError::Closed)) => {}
            Err(error) => tracing::warn!("silent agents are not looked for at present: {error}"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(every) => {}
        }
    }
}

/// Counts every running claim as seen just now, after a start. Those that are known to have ended with the last life of
/// this process are lost at once.
pub(crate) async fn resume(desk: &Desk) -> Result<(), StoreError> {
    let now = Instant::now();
    for running in desk.store.running().await? {
        if desk.config.interrupted.contains(&running.claim) {
            tracing::warn!("claim {:?} is lost: it ended with the last life of this process", running.claim);
            lose(desk, running.claim, Loss::Ended).await?;
            continue;
        }
        desk.presence.renew(running.claim, Some(&running.agent), now);
        if running.cancelling {
            desk.presence.cancel_asked(running.claim, now);
        }
    }
    Ok(())
}

/// The agent of a claim is gone.
async fn lose(desk: &Desk, claim: ClaimId, loss: Loss) -> Result<(), StoreError> {
    let lost = |attempt: &Attempt, lost_before| Happening::Lost {
        claim,
        not_twice: attempt.not_twice,
        lost_before,
        max_lost: MAX_LOST,
        max_attempts: MAX_ATTEMPTS,
    };
    let_happen(desk, claim, loss, lost).await
}

/// Ends a claim without its agent. What happens is told how many of the job's earlier attempts were lost.
async fn let_happen(
    desk: &Desk,
    claim: ClaimId,
    loss: Loss,
    happening: impl FnOnce(&Attempt, u32) -> Happening + Send,
) -> Result<(), StoreError> {
    let mut answers = Answers::default();
    answers.gone(claim);
    let mut tx = desk.store.write().await?;
    let attempt = tx.attempt(claim).await?;
    let job = match &attempt {
        Some(attempt) => tx.job(attempt.job).await?,
        None => None,
    };
    let happening = match &attempt {
        Some(attempt) => Some(happening(attempt, tx.lost_before(attempt.job, claim).await?)),
        None => None,
    };
    let applied = match (&job, &happening) {
        (Some(job), Some(happening)) => Some(tx.apply(job, happening, now_ms()).await?),
        _ => None,
    };
    if let (Some(attempt), Some(job), Some(happening), Some(applied @ Ok(_))) = (attempt, job, happening, applied) {
        lay_aside_given_up(&mut tx, &job, (&happening, &applied), now_ms()).await?;
        tx.lost_by(claim, &loss).await?;
        let reason = "the claim is no longer current".to_owned();
        answers.tell(&attempt.agent, Control::Abort { claim, reason });
        answers.say(Change::Build(job.build));
        answers.say(Change::Log(job.build));
    }
    answers.follow(tx.take_effects());
    tx.commit().await?;
    answers.give(desk).await;
    Ok(())
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Link(#[from] LinkError),
}

struct Watch<'d> {
    desk: &'d Desk,
    /// The number of the connection at the last look.
    line: Option<u64>,
    last: Instant,
    awaited: Awaited,
}

/// Since when the rest of each log is waited for, by a clock that only goes forward: the time of day may jump.
#[derive(Default)]
struct Awaited(HashMap<(ClaimId, LogName), Instant>);

impl Awaited {
    /// Of the logs whose rest is waited for now, those that have been for too long. `patience` says for how long one
    /// is waited for.
    fn too_long(
        &mut self,
        unfinished: Vec<UnfinishedLog>,
        now: Instant,
        patience: impl Fn(&UnfinishedLog) -> Duration,
    ) -> Vec<UnfinishedLog> {
        let mut before = std::mem::take(&mut self.0);
        let mut lost = Vec::new();
        for log in unfinished {
            let key = (log.claim, log.log.clone());
            let since = before.remove(&key).unwrap_or(now);
            if now.saturating_duration_since(since) > patience(&log) {
                lost.push(log);
            } else {
                self.0.insert(key, since);
            }
        }
        lost
    }

    /// A silence was this side's own: the waiting begins anew.
    fn renew(&mut self) {
        self.0.clear();
    }
}

impl Watch<'_> {
    async fn look(&mut self) -> Result<(), WatchError> {
        let now = Instant::now();
        let gap = now.saturating_duration_since(std::mem::replace(&mut self.last, now));
        let line = match &*self.desk.link.health().borrow() {
            Health::Up(number) => Some(*number),
            Health::Blocked { .. } | Health::Away { .. } => None,
        };
        let whole = line.is_some() && std::mem::replace(&mut self.line, line) == line;
        // What cannot be stored is not seen either: signs of life lie in the queue meanwhile.
        if !whole || gap > OWN_GAP.min(self.desk.config.lease / 2) || self.desk.store.trouble().is_some() {
            self.desk.presence.renew_all(now);
            self.awaited.renew();
            return Ok(());
        }
        self.end_silent(now).await?;
        for claim in self.desk.presence.overdue_cancels(now, self.desk.config.cancel_patience()) {
            tracing::warn!("claim {claim:?} was asked to end long ago and is ended without its agent");
            let loss = Loss::CancelUnanswered { for_ms: milliseconds(self.desk.config.cancel_patience()) };
            let_happen(self.desk, claim, loss, |_, _| Happening::CancelOverdue { claim }).await?;
        }
        self.give_up_logs(now).await?;
        Ok(())
    }

    async fn end_silent(&self, now: Instant) -> Result<(), WatchError> {
        if self.desk.presence.overdue(now).is_empty() || self.desk.link.backlog().await? > 0 {
            return Ok(());
        }
        // Looked at again: what lay in the queue may have been a sign of life, and is applied by now.
        for claim in self.desk.presence.overdue(now) {
            tracing::warn!("claim {claim:?} is lost: its agent gave no sign of life for {:?}", self.desk.config.lease);
            let silence = self.desk.presence.silence(claim, Instant::now()).unwrap_or(self.desk.config.lease);
            lose(self.desk, claim, Loss::Silent { for_ms: milliseconds(silence) }).await?;
        }
        Ok(())
    }

    /// The rest of a log is given up when its agent is gone, or was here for long without sending it.
    async fn give_up_logs(&mut self, now: Instant) -> Result<(), StoreError> {
        let (store, presence) = (&self.desk.store, &self.desk.presence);
        let silence = self.desk.config.lease;
        let patience = |log: &UnfinishedLog| if presence.is_silent(&log.agent, now) { silence } else { LOG_PATIENCE };
        let lost = self.awaited.too_long(store.unfinished_logs().await?, now, patience);
        if lost.is_empty() {
            return Ok(());
        }
        let mut tx = store.write().await?;
        for log in &lost {
            tracing::warn!("the rest of the log {} of build {} is given up", log.log, log.build);
            tx.give_up_log(log.claim, &log.log).await?;
        }
        tx.commit().await?;
        for log in &lost {
            self.desk.feed.say(Change::Log(log.build));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use protocol::BuildNumber;

    use super::*;

    #[test]
    fn a_log_is_waited_for_by_a_clock_that_only_goes_forward() {
        let log = |name: &str| UnfinishedLog {
            claim: "6f1c2b1e-9d0a-4c3e-8a55-2f3b7f0f9a11".parse().unwrap(),
            log: name.parse().unwrap(),
            agent: name.parse().unwrap(),
            build: BuildNumber(1),
        };
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let patience = |log: &UnfinishedLog| Duration::from_secs(if log.agent.as_str() == "gone" { 3 } else { 600 });
        let mut awaited = Awaited::default();
        let both = || vec![log("gone"), log("here")];
        // (when, whether the silence before was our own, which are given up)
        for (seconds, own_gap, expect) in [
            (0, false, &[][..]),
            (3, false, &[]),
            (4, false, &["gone"]),
            (500, true, &[]),
            (601, false, &["gone"]),
            (1101, false, &["here"]),
        ] {
            if own_gap {
                awaited.renew();
            }
            let lost = awaited.too_long(both(), at(seconds), patience);
            let lost: Vec<String> = lost.iter().map(|log| log.log.to_string()).collect();
            assert_eq!(lost, expect, "after {seconds} s");
        }
        // One that was whole meanwhile is waited for from the beginning.
        let mut awaited = Awaited::default();
        awaited.too_long(both(), at(0), patience);
        awaited.too_long(Vec::new(), at(2), patience);
        assert!(awaited.too_long(both(), at(9), patience).is_empty());
    }
}
