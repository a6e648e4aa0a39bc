//! How far the telling is: what the line was given, and what the coordinator said that it has.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use protocol::LogName;
use tokio::sync::watch;
use tokio::time::Instant;

use super::AGAIN;

/// How long logs rest when their queue is full: doubled each time.
const REST: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(10);

/// How long the receipts for a job's logs may come after the one for its result, with which they travel as a rule, before
/// they are asked for. An agent that ends waits for them.
const ASK: Duration = Duration::from_secs(1);

/// How long a log is kept for a coordinator that has recorded the result and never takes the log.
const GIVE_UP: Duration = Duration::from_secs(24 * 60 * 60);

/// What of a claim is in the coordinator's store, as far as it said so.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// How much of each log.
    pub(crate) logs: HashMap<LogName, Mark>,
    /// How many events, at the most that it ever said: what must not run twice may begin by that.
    pub(crate) events: u64,
    /// How many by its last word, which is less where the store was set back to an older backup.
    pub(crate) last_events: u64,
    /// How often it spoke of events: it does so when it misses some.
    pub(crate) said: u64,
    /// Whether it knows nothing of the claim, and will never take anything of it.
    pub(crate) forgotten: bool,
}

/// How much of a log is in the coordinator's store.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mark {
    /// How many bytes from its beginning.
    pub(crate) bytes: u64,
    /// How often it said so again: that means that something lacks behind it. Counted where it is heard, for several
    /// words may come at once.
    pub(crate) again: u64,
}

impl Kept {
    pub(super) fn bytes(&self, log: &LogName) -> u64 {
        self.logs.get(log).map_or(0, |mark| mark.bytes)
    }
}

/// What of a claim is in the coordinator's store, now and from now on.
pub(crate) type Marks = watch::Receiver<Kept>;

/// How far a claim's events and logs were given to the line.
#[derive(Default)]
pub(super) struct Sent {
    /// How many events.
    pub(super) events: usize,
    /// How often the coordinator had spoken of events when they were last looked at.
    pub(super) heard: u64,
    /// How many bytes of each log.
    pub(super) logs: HashMap<LogName, u64>,
    seen: HashMap<LogName, Seen>,
    /// Until when no log is sent, for their queue was full, and how long such a rest is.
    rest: Option<(Instant, Duration)>,
    /// When the result's receipt came.
    recorded: Option<Instant>,
    /// Whether those for the logs were asked for.
    asked: bool,
}

/// What the coordinator's words about a log came to.
struct Seen {
    mark: Mark,
    /// When the mark moved last, or the log was sent again from there.
    since: Instant,
    /// Whether a piece came there since and the mark stayed: one before it did not.
    lacks: bool,
}

impl Sent {
    /// Takes in what was said of a log.
    pub(super) fn hear(&mut self, log: &LogName, mark: Mark) {
        let new = || Seen { mark: Mark::default(), since: Instant::now(), lacks: false };
        let seen = self.seen.entry(log.clone()).or_insert_with(new);
        let before = std::mem::replace(&mut seen.mark, mark);
        let moved = before.bytes != mark.bytes;
        if moved {
            (seen.since, seen.lacks) = (Instant::now(), false);
        }
        if mark.bytes < before.bytes
            && let Some(sent) = self.logs.get_mut(log)
        {
            // The store was set back: what it had goes to it once more.
            *sent = mark.bytes.min(*sent);
        }
        if mark.again > 0 && (moved || before.again != mark.again) {
            seen.lacks = self.logs.get(log).is_some_and(|sent| *sent > mark.bytes);
        }
    }

    /// Until when what lacks in a log may still come: pieces of it may be on their way out of order.
    pub(super) fn lacking_until(&self) -> Option<Instant> {
        self.seen.values().filter(|seen| seen.lacks).map(|seen| seen.since + AGAIN).min()
    }

    /// A piece was lost, such as with a queue that somebody emptied: what follows the mark is sent again, once for as long
    /// as nothing else is heard. Else whoever follows the log would see no more of it until its job is over.
    pub(super) fn say_what_lacks(&mut self) {
        let now = Instant::now();
        for (log, seen) in self.seen.iter_mut().filter(|(_, seen)| seen.lacks && seen.since + AGAIN <= now) {
            if let Some(from) = self.logs.get_mut(log) {
                *from = seen.mark.bytes.min(*from);
            }
            (seen.since, seen.lacks) = (now, false);
        }
    }

    /// The queue for logs is full: they rest, the longer the more often that was so.
    pub(super) fn let_logs_rest(&mut self) {
        let length = self.rest.map_or(*REST.start(), |(_, length)| (length * 2).min(*REST.end()));
        self.rest = Some((Instant::now() + length, length));
    }

    /// Until when logs rest, if they do.
    pub(super) fn logs_rest_until(&self) -> Option<Instant> {
        self.rest.map(|(until, _)| until)
    }

    /// The result's receipt is here.
    pub(super) fn result_has_its_receipt(&mut self) {
        self.recorded.get_or_insert_with(Instant::now);
    }

    /// When to ask for the receipts that are not here then: once, for what is not heard then is sent again later.
    pub(super) fn asks_at(&self) -> Option<Instant> {
        self.recorded.filter(|_| !self.asked).map(|since| since + ASK)
    }

    /// Says the result again: when it has that already, the coordinator says what it has of the logs.
    pub(super) fn ask(&mut self) {
        self.events = self.events.saturating_sub(1);
        self.asked = true;
    }

    /// Whether the coordinator has the result, and does not take the logs.
    pub(super) fn waits_in_vain(&self) -> bool {
        self.recorded.is_some_and(|since| since.elapsed() > GIVE_UP)
    }

    /// All logs went out.
    pub(super) fn logs_went(&mut self) {
        self.rest = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_is_seen_however_many_words_come_at_once() {
        let log: LogName = "test".parse().unwrap();
        let lacks = |heard: &[Mark]| {
            let mut sent = Sent::default();
            sent.logs.insert(log.clone(), 30);
            heard.iter().for_each(|mark| sent.hear(&log, *mark));
            sent.lacking_until().is_some()
        };
        let mark = |bytes, again| Mark { bytes, again };
        assert!(!lacks(&[mark(10, 0)]), "the rest is on its way");
        assert!(lacks(&[mark(10, 0), mark(10, 1)]));
        assert!(lacks(&[mark(10, 1)]), "both words at once");
        assert!(lacks(&[mark(0, 1)]), "the first piece of all");
        assert!(!lacks(&[mark(10, 0), mark(10, 1), mark(20, 0)]), "it came");
        assert!(!lacks(&[mark(30, 1)]), "there is no more");
    }

    #[test]
    fn what_a_store_had_and_lost_is_sent_again() {
        let log: LogName = "test".parse().unwrap();
        let mut sent = Sent::default();
        sent.logs.insert(log.clone(), 30);
        for (bytes, from) in [(10, 30), (20, 30), (5, 5), (0, 0)] {
            sent.hear(&log, Mark { bytes, again: 0 });
            assert_eq!(sent.logs[&log], from);
        }
    }
}
