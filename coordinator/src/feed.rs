//! What has changed, for whoever listens. It says *that* something changed, never what it is now: who hears it
//! looks into the store. So a change that was missed does no harm as long as the miss is heard of.

use protocol::BuildNumber;
use tokio::sync::broadcast;

/// That something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// A build, a job of it, or a stage.
    Build(BuildNumber),
    /// A log of a build grew, or is whole now.
    Log(BuildNumber),
    /// An agent came, went, or has other slots free.
    Agents,
    /// Something lies in the outbox.
    Outbox,
    /// More than can be said: look at everything.
    Much,
}

/// How many changes a slow listener may be behind; after that it hears [`Change::Much`] in their place.
const BEHIND: usize = 1024;

/// Where changes are said.
#[derive(Debug)]
pub(crate) struct Feed {
    sender: broadcast::Sender<Change>,
}

/// Hears the changes from its making on.
#[derive(Debug)]
pub(crate) struct Listener {
    receiver: broadcast::Receiver<Change>,
}

impl Feed {
    /// One that nobody listens to as yet.
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::Sender::new(BEHIND) }
    }

    /// Says it to all who listen. Say it when the change can be seen in the store.
    pub(crate) fn say(&self, change: Change) {
        // It fails when nobody listens, and then nobody misses it.
        self.sender.send(change).ok();
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
