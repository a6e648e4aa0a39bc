//! What has changed, for whoever listens. It says *that* something changed, never what it is now: who hears it
//! looks into the store. So a change that was missed does no harm as long as the miss is heard of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use protocol::BuildNumber;
use tokio::sync::{broadcast, watch};

/// That something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// A build, a job of it, or a stage.
    Build(BuildNumber),
    /// A log of a build grew, or is whole now.
    Log(BuildNumber),
    /// An agent came, went, or has other slots free.
    Agents,
    /// A forge delivered something, or it was handled.
    Deliveries,
    /// A project, or a schedule of one.
    Projects,
    /// More than can be said: look at everything.
    Much,
}

/// How many changes a slow listener may be behind; after that it hears [`Change::Much`] in their place.
const BEHIND: usize = 1024;

/// Where changes are said.
#[derive(Debug)]
pub(crate) struct Feed {
    sender: broadcast::Sender<Change>,
    topics: Mutex<HashMap<BuildNumber, Weak<Topic>>>,
}

/// How often something changed in one build, its logs included: for its followers, of which there may be many.
pub(crate) type Topic = watch::Sender<u64>;

/// Hears the changes from its making on.
#[derive(Debug)]
pub(crate) struct Listener {
    receiver: broadcast::Receiver<Change>,
}

impl Feed {
    /// One that nobody listens to as yet.
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::Sender::new(BEHIND), topics: Mutex::default() }
    }

    /// Says it to all who listen. Say it when the change can be seen in the store.
    pub(crate) fn say(&self, change: Change) {
        if let Change::Build(build) | Change::Log(build) = change
            && let Some(topic) = self.topics().get(&build).and_then(Weak::upgrade)
        {
            topic.send_modify(|count| *count += 1);
        }
        // It fails when nobody listens, and then nobody misses it.
        self.sender.send(change).ok();
    }

    /// What concerns one build alone, from now on. Who listens to it is not woken for others.
    pub(crate) fn topic(&self, build: BuildNumber) -> Arc<Topic> {
        let mut topics = self.topics();
        if let Some(topic) = topics.get(&build).and_then(Weak::upgrade) {
            return topic;
        }
        topics.retain(|_, topic| topic.strong_count() > 0);
        let topic = Arc::new(watch::Sender::new(0));
        topics.insert(build, Arc::downgrade(&topic));
        topic
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<BuildNumber, Weak<Topic>>> {
        // Each change is one step.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to listen. Look into the store after this call, and no change is missed.
    pub(crate) fn listen(&self) -> Listener {
        Listener { receiver: self.sender.subscribe() }
    }
}

impl Listener {
    /// Waits for the next change. Waits for ever once the feed is gone. It may be dropped and loses nothing by it.
    pub(crate) async fn next(&mut self) -> Change {
        use broadcast::error::RecvError;
        match self.receiver.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(_)) => Change::Much,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Waits for the next change that `wanted` picks, and for [`Change::Much`].
    pub(crate) async fn next_of(&mut self, wanted: impl Fn(Change) -> bool) {
        loop {
            let change = self.next().await;
            if change == Change::Much || wanted(change) {
                return;
            }
        }
    }

    /// Forgets what was said so far, before a look into the store.
    pub(crate) fn catch_up(&mut self) {
        self.receiver = self.receiver.resubscribe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_listener_hears_that_it_missed_something() {
        let feed = Feed::new();
        let mut listener = feed.listen();
        for number in 0..2 * BEHIND as u64 {
            feed.say(Change::Build(BuildNumber(number)));
        }
        assert_eq!(listener.next().await, Change::Much);
        listener.catch_up();
        feed.say(Change::Agents);
        feed.say(Change::Build(BuildNumber(7)));
        listener.next_of(|change| change == Change::Build(BuildNumber(7))).await;
    }
}
