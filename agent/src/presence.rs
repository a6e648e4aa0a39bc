//! Is there a coordinator, and does it know this agent? From that follows whether jobs are taken, and how.

use std::sync::Arc;
use std::time::Duration;

use protocol::control::{BEACON_MISSED, Beacon};
use protocol::identity::{JoinProof, JoinToken, PublicKey};
use protocol::link::{AgentLink, Delivered, Health};
use protocol::report::{Hello, Report};
use protocol::{BootId, LabelSet};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Standalone;
use crate::home::Home;

/// How often an agent that is not enrolled says who it is.
const HELLO_EVERY: Duration = Duration::from_secs(5);

/// How often one that is enrolled does, and one that nobody answers at the most.
const HELLO_RARELY: Duration = Duration::from_secs(60);

/// How long reports must have had nowhere to go before an agent works on its own, when the farm's exchange is there.
const ALONE_AFTER: Duration = Duration::from_secs(30);

/// How often a sign of life is given at least and at most, whatever a beacon says: beacons are not signed.
const HEARTBEATS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// What an agent knows of its farm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Nothing yet.
    Unknown,
    /// Enrolled with a coordinator that is there.
    Enrolled {
        /// The label sets whose queues it may take from, the plain queue among them.
        queues: Vec<LabelSet>,
    },
    /// There is a coordinator, which does not take this agent.
    NotEnrolled {
        /// Why, and what to do.
        reason: String,
    },
    /// The coordinator was there and is silent.
    Away,
    /// There is none and there never was: the agent builds on its own.
    Alone,
}

/// What was heard from the coordinator, for [`Watch`].
#[derive(Debug)]
pub(crate) enum Heard {
    Beacon(Beacon),
    Enrolled { coordinator: PublicKey, proof: Option<JoinProof> },
    NotEnrolled { reason: String },
}

/// Keeps an eye on the coordinator, and says hello.
pub(crate) struct Watch {
    pub(crate) link: Arc<dyn AgentLink>,
    pub(crate) home: Arc<Home>,
    pub(crate) boot: BootId,
    pub(crate) labels: LabelSet,
    pub(crate) slots: u32,
    pub(crate) join: Option<JoinToken>,
    pub(crate) standalone: Standalone,
    pub(crate) heard: tokio::sync::mpsc::Receiver<Heard>,
    pub(crate) presence: watch::Sender<Presence>,
    /// How often a sign of life is given.
    pub(crate) heartbeat_every: Arc<watch::Sender<Duration>>,
}

struct Memory {
    /// The last beacon, and how long the next may take.
    beacon: Option<(Instant, Duration)>,
    label_queues: Vec<LabelSet>,
    unroutable_since: Option<Instant>,
    next_hello: Instant,
    /// How long after one that nobody answered the next is said.
    patience: Duration,
}

/// The labels that an agent offers: those that it was given, and its platform, unless these name one.
pub(crate) fn offered(given: &LabelSet) -> LabelSet {
    const PLATFORM: &str = "platform=";
    if given.iter().any(|label| label.starts_with(PLATFORM)) {
        return given.clone();
    }
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let own = format!("{PLATFORM}linux-{architecture}");
    LabelSet::new(given.iter().map(str::to_owned).chain([own])).unwrap_or_else(|_| given.clone())
}

impl Watch {
    /// Watches until the token is cancelled.
    pub(crate) async fn keep(mut self, done: CancellationToken) {
        if self.standalone == Standalone::Always {
            self.become_(Presence::Alone);
            // What a coordinator says all the same concerns nobody here. It is heard, so that what it says of results that
            // an earlier life left comes through behind it.
            done.run_until_cancelled(async { while self.heard.recv().await.is_some() {} }).await;
            return;
        }
        let mut health = self.link.health();
        let mut memory = Memory {
            beacon: None,
            label_queues: Vec::new(),
            unroutable_since: None,
            next_hello: Instant::now(),
            patience: HELLO_EVERY,
        };
        loop {
            if Instant::now() >= memory.next_hello {
                self.say_hello(&mut memory).await;
            }
            let silent_at = memory.beacon.map(|(last, limit)| last + limit);
            tokio::select! {
                () = done.cancelled() => return,
                heard = self.heard.recv() => match heard {
                    Some(heard) => self.hear(heard, &mut memory),
                    None => return,
                },
                changed = health.changed() => match changed {
                    // A new connection: what was said on the old one may be lost.
                    Ok(()) => if matches!(*health.borrow_and_update(), Health::Up(_)) {
                        (memory.next_hello, memory.patience) = (Instant::now(), HELLO_EVERY);
                    },
                    Err(_) => return,
                },
                () = tokio::time::sleep_until(memory.next_hello) => {}
                () = tokio::time::sleep_until(silent_at.unwrap_or_else(Instant::now)), if silent_at.is_some() => {
                    memory.beacon = None;
                    self.become_(Presence::Away);
                }
            }
        }
    }

    /// Says who this is. Once enrolled, only a new connection makes it say so again.
    async fn say_hello(&self, memory: &mut Memory) {
        memory.next_hello = Instant::now() + HELLO_EVERY;
        let key = self.home.identity().public();
        let hello = Hello {
            agent: self.home.name().clone(),
            boot: self.boot,
            join: self.join.as_ref().map(|token| token.vouch(self.home.name(), &key)),
            key,
            labels: self.labels.clone(),
            slots: self.slots,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: gethostname::gethostname().to_string_lossy().into_owned(),
        };
        match self.link.report(&Report::Hello(hello)).await {
            Ok(Delivered::Yes) => {
                memory.unroutable_since = None;
                // It lies at the broker until somebody is there to read it, and who comes speaks first.
                let is_enrolled = matches!(*self.presence.borrow(), Presence::Enrolled { .. });
                let wait = if is_enrolled { HELLO_RARELY } else { memory.patience };
                memory.next_hello = Instant::now() + wait;
                memory.patience = (memory.patience * 2).min(HELLO_RARELY);
            }
            Ok(Delivered::NoFarm) => self.nobody_there(Duration::MAX),
            Ok(Delivered::Unroutable) => {
                let since = *memory.unroutable_since.get_or_insert_with(Instant::now);
                self.nobody_there(since.elapsed());
            }
            Ok(Delivered::Full | Delivered::Refused) => self.become_(Presence::NotEnrolled {
                reason: "the broker does not let this agent report; give its user write on buildr.events".to_owned(),
            }),
            Err(error) => tracing::debug!(%error, "hello was not heard"),
        }
    }

    fn nobody_there(&self, for_: Duration) {
        if self.standalone == Standalone::Never || self.home.has_seen_coordinator() {
            self.become_(Presence::Away);
        } else if for_ >= ALONE_AFTER {
            self.become_(Presence::Alone);
        }
    }

    fn hear(&mut self, heard: Heard, memory: &mut Memory) {
        if let Err(error) = self.home.remember_coordinator() {
            tracing::warn!(%error, "that there is a coordinator could not be noted");
        }
        memory.patience = HELLO_EVERY;
        match heard {
            Heard::Beacon(beacon) => {
                let limit = Duration::from_millis(beacon.every_ms.saturating_mul(3)).min(BEACON_MISSED);
                memory.beacon = Some((Instant::now(), limit));
                memory.label_queues = beacon.label_queues;
                if let Some(every) = beacon.heartbeat_ms.map(Duration::from_millis) {
                    let every = every.clamp(*HEARTBEATS.start(), *HEARTBEATS.end());
                    self.heartbeat_every.send_if_modified(|before| std::mem::replace(before, every) != every);
                }
                let is_enrolled = matches!(*self.presence.borrow(), Presence::Enrolled { .. });
                if is_enrolled {
                    self.become_(self.enrolled(memory));
                } else {
                    memory.next_hello = Instant::now();
                }
            }
            Heard::Enrolled { coordinator, proof } => {
                if memory.beacon.is_none() {
                    memory.beacon = Some((Instant::now(), BEACON_MISSED));
                }
                let presence = match self.trust(&coordinator, proof.as_ref()) {
                    Ok(()) => self.enrolled(memory),
                    Err(reason) => Presence::NotEnrolled { reason },
                };
                self.become_(presence);
            }
            Heard::NotEnrolled { reason } => self.become_(Presence::NotEnrolled { reason }),
        }
    }

    /// With a join token the coordinator must prove that it has it too; without one the first key is trusted.
    fn trust(&self, coordinator: &PublicKey, proof: Option<&JoinProof>) -> Result<(), String> {
        let pinned = self.home.coordinator().map_err(|error| error.to_string())?;
        if let (None, Some(token)) = (&pinned, &self.join)
            && !proof.is_some_and(|proof| token.vouches(self.home.name(), coordinator, proof))
        {
            return Err("the coordinator does not know this agent's join token; give both the same".to_owned());
        }
        self.home.pin(coordinator).map_err(|error| error.to_string())
    }

    fn enrolled(&self, memory: &Memory) -> Presence {
        let mine = memory.label_queues.iter().filter(|labels| !labels.is_empty() && labels.satisfied_by(&self.labels));
        Presence::Enrolled { queues: std::iter::once(LabelSet::default()).chain(mine.cloned()).collect() }
    }

    /// Tells the slots, and a person when it is news.
    fn become_(&self, next: Presence) {
        self.presence.send_if_modified(|presence| {
            if *presence == next {
                return false;
            }
            match (&next, &*presence) {
                (Presence::Enrolled { .. }, Presence::Enrolled { .. }) | (Presence::Unknown, _) => {}
                (Presence::Enrolled { .. }, _) => tracing::info!("a coordinator is there; taking jobs"),
                (Presence::NotEnrolled { reason }, _) => tracing::warn!("taking no jobs: {reason}"),
                (Presence::Away, _) => tracing::warn!("taking no jobs: no sign of life of a coordinator"),
                (Presence::Alone, _) => tracing::info!(
                    "no coordinator: building on its own what is published to build_queue, and replying itself; keep builds shorter than the broker's consumer_timeout (30 minutes by default)"
                ),
            }
            *presence = next;
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use protocol::link::memory::MemoryBroker;

    use super::*;

    #[tokio::test]
    async fn an_agent_that_builds_alone_goes_on_hearing() {
        let folder = tempfile::tempdir().unwrap();
        let home = Arc::new(Home::open(&folder.path().join("state"), None).unwrap());
        let (hear, heard) = tokio::sync::mpsc::channel(1);
        let watch = Watch {
            link: Arc::new(MemoryBroker::new().agent(home.name())),
            home,
            boot: BootId::fresh(),
            labels: LabelSet::default(),
            slots: 1,
            join: None,
            standalone: Standalone::Always,
            heard,
            presence: watch::Sender::new(Presence::Unknown),
            heartbeat_every: Arc::new(watch::Sender::new(Duration::from_secs(1))),
        };
        let done = CancellationToken::new();
        let speak = async {
            for _ in 0..100 {
                hear.send(Heard::NotEnrolled { reason: "it is alone".to_owned() }).await.unwrap();
            }
            done.cancel();
        };
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(watch.keep(done.clone()), speak) })
            .await
            .expect("somebody hears");
    }
}
