//! Where a job's time goes, written down while it goes: a few spans of a job, one look at a clock at each end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use protocol::StageName;
use protocol::report::{MAX_SPANS, Part, Span};
use tokio::sync::Notify;

/// The spans of one job. Clones write to the same.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    spans: Mutex<Vec<Span>>,
    /// The stages whose image was asked for, and when it was there.
    pulls: Mutex<HashMap<StageName, Option<Instant>>>,
}

/// No container prints so soon after its image is there: what comes then still tells of the pull.
const SETTLING: Duration = Duration::from_millis(2);

/// A span that is not over: it is written down when this is dropped, on every path.
#[derive(Debug)]
#[must_use = "a span is over when this is dropped"]
pub struct Open<'a> {
    ledger: &'a Ledger,
    part: Part,
    stage: Option<&'a StageName>,
    since: Instant,
    /// Whether one that took less than a millisecond is worth a line.
    however_short: bool,
}

impl Default for Ledger {
    fn default() -> Self {
        Self(Arc::new(Inner { began: Instant::now(), spans: Mutex::default(), pulls: Mutex::default() }))
    }
}

impl Ledger {
    /// Begins a span.
    pub fn open<'a>(&'a self, part: Part, stage: Option<&'a StageName>) -> Open<'a> {
        Open { ledger: self, part, stage, since: Instant::now(), however_short: true }
    }

    /// Begins one that is only worth a line when it takes a millisecond or more: what is mostly there already.
    pub fn open_if_long<'a>(&'a self, part: Part, stage: Option<&'a StageName>) -> Open<'a> {
        Open { ledger: self, part, stage, since: Instant::now(), however_short: false }
    }

    /// Begins to bring a stage's image. What is printed until then is not its script's.
    pub fn pull<'a>(&'a self, stage: &'a StageName) -> Open<'a> {
        self.pulls().insert(stage.clone(), None);
        self.open_if_long(Part::Pull, Some(stage))
    }

    fn pulls(&self) -> MutexGuard<'_, HashMap<StageName, Option<Instant>>> {
        // Each change is one step.
        self.0.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what went on between two moments.
    pub fn add(&self, part: Part, stage: Option<&StageName>, since: Instant, until: Instant) {
        let ms = |moment: Instant| {
            u64::try_from(moment.saturating_duration_since(self.0.began).as_millis()).unwrap_or(u64::MAX)
        };
        // Both ends are rounded alike, so that spans that follow each other add up.
        let at_ms = ms(since);
        let span = Span { part, stage: stage.cloned(), at_ms, ms: ms(until).saturating_sub(at_ms) };
        let mut spans = self.lock();
        if spans.len() < MAX_SPANS {
            spans.push(span);
        }
    }

    /// What was written down so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Span>> {
        // Each change is one step.
        self.0.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        if self.however_short || now.duration_since(self.since).as_millis() > 0 {
            self.ledger.add(self.part, self.stage, self.since, now);
        }
        if let (Part::Pull, Some(stage)) = (self.part, self.stage) {
            self.ledger.pulls().insert(stage.clone(), Some(now));
        }
    }
}

/// The moment in which a stage's script begins: when the first of its output comes, for each command is announced.
#[derive(Debug)]
pub struct Begins<'a> {
    ledger: &'a Ledger,
    stage: &'a StageName,
    at: OnceLock<Instant>,
    /// Hears of it.
    begun: &'a Notify,
}

impl<'a> Begins<'a> {
    /// Of a stage that is about to be started; `begun` hears of it.
    #[must_use]
    pub fn of(ledger: &'a Ledger, stage: &'a StageName, begun: &'a Notify) -> Self {
        Self { ledger, stage, at: OnceLock::new(), begun }
    }

    /// Something was printed.
    pub fn printed(&self) {
        if self.at.get().is_none() {
            self.printed_at(Instant::now());
        }
    }

    fn printed_at(&self, now: Instant) {
        let pulls = match self.ledger.pulls().get(self.stage) {
            Some(None) => true,
            Some(Some(there)) => now.saturating_duration_since(*there) < SETTLING,
            None => false,
        };
        if !pulls && self.at.set(now).is_ok() {
            self.begun.notify_one();
        }
    }

    /// When its image was there; the moment that is given, where nobody asked for one.
    #[must_use]
    pub fn with_image(&self, since: Instant) -> Instant {
        self.ledger.pulls().get(self.stage).copied().flatten().map_or(since, |there| there.max(since))
    }

    /// When the first of the script's was; now, where there was nothing.
    #[must_use]
    pub fn at(&self) -> Instant {
        self.at.get().copied().unwrap_or_else(Instant::now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn spans_that_follow_each_other_add_up() {
        let ledger = Ledger::default();
        let began = ledger.0.began;
        let at = |us: u64| began + Duration::from_micros(us);
        let stage: StageName = "test".parse().unwrap();
        for (part, from, to) in [(Part::Start, 600, 1_900), (Part::Script, 1_900, 3_100), (Part::Keep, 3_100, 3_700)] {
            ledger.add(part, Some(&stage), at(from), at(to));
        }
        let found: Vec<(u64, u64)> = ledger.spans().iter().map(|span| (span.at_ms, span.ms)).collect();
        assert_eq!(found, [(0, 1), (1, 2), (3, 0)]);
    }

    #[test]
    fn what_was_there_already_is_worth_no_line() {
        let ledger = Ledger::default();
        drop(ledger.open_if_long(Part::Pull, None));
        drop(ledger.open(Part::Plan, None));
        let since = Instant::now().checked_sub(Duration::from_millis(5)).unwrap();
        drop(Open { ledger: &ledger, part: Part::Pull, stage: None, since, however_short: false });
        let found: Vec<Part> = ledger.spans().iter().map(|span| span.part).collect();
        assert_eq!(found.iter().filter(|part| **part == Part::Plan).count(), 1);
        assert!(found.contains(&Part::Pull));
    }

    #[test]
    fn what_tells_of_a_pull_is_not_the_script() {
        let (ledger, stage) = (Ledger::default(), "test".parse().unwrap());
        let begun = Notify::new();
        let begins = Begins::of(&ledger, &stage, &begun);
        let pull = ledger.pull(&stage);
        begins.printed_at(Instant::now());
        drop(pull);
        let there = ledger.pulls()[&stage].unwrap();
        begins.printed_at(there + SETTLING / 2);
        assert!(begins.at.get().is_none());
        let begun = Instant::now() + Duration::from_millis(50);
        begins.printed_at(begun);
        begins.printed_at(begun + Duration::from_millis(50));
        assert_eq!(begins.at(), begun);
        // What it took to bring the image is no part of the start.
        let since = ledger.0.began;
        assert!(begins.with_image(since) > since);
        let other = "other".parse().unwrap();
        assert_eq!(Begins::of(&ledger, &other, &Notify::new()).with_image(since), since);
    }

    #[test]
    fn nobody_fills_a_ledger_beyond_its_last_line() {
        let ledger = Ledger::default();
        (0..MAX_SPANS + 10).for_each(|_| drop(ledger.open(Part::Script, None)));
        assert_eq!(ledger.spans().len(), MAX_SPANS);
    }
}
