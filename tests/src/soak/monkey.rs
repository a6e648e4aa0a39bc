//! Breaks parts of the farm, one after the other, as chance wants it; and remembers what it did to whom, so that a
//! lost attempt can be told from one that should not have been lost.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use buildr::process::clock::now_ms;
use tokio_util::sync::CancellationToken;

use super::processes::{LEASE, Part, Processes};
use super::thrower::Thrower;
use crate::chance::Chance;

/// The longest stop, and the longest cut, that must cost nothing: one of each, one upon the other, and what it takes to
/// come back, are less than a lease.
const SHORT_STOP: Duration = Duration::from_secs(6);
const SHORT_CUT: Duration = Duration::from_secs(4);

/// What was done to an agent that may cost it what it works on.
#[derive(Debug, Clone)]
pub(super) struct Harm {
    pub(super) agent: String,
    from_ms: u64,
    until_ms: u64,
    /// Whether messages that it held go back to their queue.
    pub(super) returns_messages: bool,
}

impl Harm {
    /// Whether it was under way, or had just been, in this time: a lease runs on from the last sign of life.
    pub(super) fn overlaps(&self, from_ms: u64, until_ms: u64) -> bool {
        let lease = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
        self.from_ms <= until_ms && from_ms <= self.until_ms.saturating_add(lease)
    }
}

/// What can be done.
#[derive(Debug, Clone, Copy)]
enum Deed {
    KillAgent,
    EndAgent,
    StopAgent,
    CutAgent,
    CloseAgent,
    KillCoordinator,
    EndCoordinator,
    StopCoordinator,
    CutCoordinator,
    CloseCoordinator,
    PurgeQueue,
    DeleteQueue,
    KillBoth,
}

const DEEDS: [Deed; 13] = [
    Deed::KillAgent,
    Deed::EndAgent,
    Deed::StopAgent,
    Deed::CutAgent,
    Deed::CloseAgent,
    Deed::KillCoordinator,
    Deed::EndCoordinator,
    Deed::StopCoordinator,
    Deed::CutCoordinator,
    Deed::CloseCoordinator,
    Deed::PurgeQueue,
    Deed::DeleteQueue,
    Deed::KillBoth,
];

const QUEUES: [&str; 3] = ["build_queue", "buildr.events.v1", "buildr.logs.v1"];

/// What breaks the farm.
pub(super) struct Monkey<'f> {
    farm: &'f Processes,
    thrower: &'f Thrower<'f>,
    chance: tokio::sync::Mutex<Chance>,
    harm: Mutex<Vec<Harm>>,
    done: Mutex<BTreeMap<String, u32>>,
}

impl<'f> Monkey<'f> {
    pub(super) fn new(farm: &'f Processes, thrower: &'f Thrower<'f>, chance: Chance) -> Self {
        let (harm, done) = (Mutex::default(), Mutex::default());
        Self { farm, thrower, chance: tokio::sync::Mutex::new(chance), harm, done }
    }

    /// Breaks things until it is calm again; what it began it ends.
    pub(super) async fn keep(&self, calm: &CancellationToken) {
        loop {
            let pause = Duration::from_millis(self.chance.lock().await.within(300..2_000));
            tokio::select! {
                () = calm.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            for part in self.farm.parts() {
                let Ok(_busy) = part.busy.try_lock() else { continue };
                if let Some(status) = part.has_fallen().await {
                    self.count(&format!("{} FELL BY ITSELF ({status})", part.name));
                    self.harmed(part, now_ms(), true);
                    part.start().await;
                }
            }
            let deed = *self.chance.lock().await.one_of(&DEEDS);
            self.count(&format!("{deed:?}"));
            self.act(deed).await;
        }
    }

    async fn act(&self, deed: Deed) {
        let agent = *self.chance.lock().await.one_of(&self.farm.agents.iter().collect::<Vec<_>>());
        let coordinator = &self.farm.coordinator;
        let time = Duration::from_millis(self.chance.lock().await.within(0..4_000));
        match deed {
            Deed::KillAgent => self.kill(agent, time).await,
            Deed::EndAgent => Self::end(agent).await,
            Deed::StopAgent => self.stop(agent, time * 6).await,
            Deed::CutAgent => self.cut(agent, time * 6).await,
            Deed::CloseAgent => self.close(agent, &format!("buildr-agent {}", agent.name)).await,
            Deed::KillCoordinator => self.kill(coordinator, time).await,
            Deed::EndCoordinator => Self::end(coordinator).await,
            Deed::StopCoordinator => self.stop(coordinator, time * 4).await,
            Deed::CutCoordinator => self.cut(coordinator, time * 2).await,
            Deed::CloseCoordinator => self.close(coordinator, "buildr-coordinator").await,
            Deed::PurgeQueue => self.wreck(false).await,
            Deed::DeleteQueue => self.wreck(true).await,
            Deed::KillBoth => {
                tokio::join!(self.kill(agent, time), self.kill(coordinator, time / 2));
            }
        }
    }

    async fn end(part: &Part) {
        let _busy = part.busy.lock().await;
        part.end("-TERM").await;
        part.start().await;
    }

    async fn kill(&self, part: &Part, time: Duration) {
        let _busy = part.busy.lock().await;
        let from = now_ms();
        part.end("-KILL").await;
        tokio::time::sleep(time).await;
        part.start().await;
        self.harmed(part, from, true);
    }

    async fn stop(&self, part: &Part, time: Duration) {
        let _busy = part.busy.lock().await;
        let from = now_ms();
        part.signal("-STOP").await;
        tokio::time::sleep(time).await;
        part.signal("-CONT").await;
        if time > SHORT_STOP {
            self.harmed(part, from, false);
        }
    }

    async fn cut(&self, part: &Part, time: Duration) {
        let _busy = part.busy.lock().await;
        let from = now_ms();
        part.line.cut(time).await;
        if time > SHORT_CUT {
            self.harmed(part, from, true);
        } else {
            self.returned(part, from);
        }
    }

    async fn close(&self, part: &Part, connections: &str) {
        let from = now_ms();
        if self.farm.vhost.cut_what_is_there(connections).await > 0 {
            self.returned(part, from);
        }
    }

    /// Empties or deletes a queue. What people put on the queue for jobs lies nowhere else, so that one is spared
    /// while something of theirs may be on it.
    async fn wreck(&self, whole: bool) {
        let queue = *self.chance.lock().await.one_of(&QUEUES);
        let held = self.thrower.publishing.lock().await;
        if queue != "build_queue" || !self.thrower.has_unadopted().await {
            self.farm.vhost.wreck(queue, whole).await;
        }
        drop(held);
    }

    fn harmed(&self, part: &Part, from_ms: u64, returns_messages: bool) {
        let harm = Harm { agent: part.name.to_owned(), from_ms, until_ms: now_ms(), returns_messages };
        self.harm.lock().unwrap_or_else(PoisonError::into_inner).push(harm);
    }

    /// Its messages went back, and that alone.
    fn returned(&self, part: &Part, from_ms: u64) {
        let harm = Harm { agent: format!("{}'s line", part.name), from_ms, until_ms: from_ms, returns_messages: true };
        self.harm.lock().unwrap_or_else(PoisonError::into_inner).push(harm);
    }

    pub(super) fn harm(&self) -> Vec<Harm> {
        self.harm.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, deed: &str) {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner).entry(deed.to_owned()).or_default() += 1;
    }

    /// What was done, in short and as a list.
    pub(super) fn so_far(&self) -> (String, String) {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let all: u32 = done.values().sum();
        let list: Vec<String> = done.iter().map(|(deed, times)| format!("{deed} {times}")).collect();
        (format!("{all} things broken"), format!("{all} things broken: {}", list.join(", ")))
    }
}
