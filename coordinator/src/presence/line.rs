//! How the line to the agents is, for how long it has been so, and whether what was said over it meanwhile is read.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::link::Health;
use tokio::time::Instant;

/// Watches the line.
#[derive(Debug)]
pub(crate) struct LineWatch(Mutex<Known>);

#[derive(Debug)]
struct Known {
    kind: Kind,
    since: Instant,
    /// The number of the connection over which nothing old is left to be read.
    caught_up: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Up(u64),
    Blocked,
    Away,
}

impl LineWatch {
    /// A line that is not up since the coordinator began, which is now.
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Known { kind: Kind::Away, since: now, caught_up: None }))
    }

    /// For how long the line has been as it is now. Whoever looks at the line says so here.
    pub(crate) fn for_how_long(&self, health: &Health, now: Instant) -> Duration {
        let kind = match health {
            Health::Up(number) => Kind::Up(*number),
            Health::Blocked { .. } => Kind::Blocked,
            Health::Away { .. } => Kind::Away,
        };
        let mut known = self.lock();
        if known.kind != kind {
            (known.kind, known.since) = (kind, now);
        }
        now.saturating_duration_since(known.since)
    }

    /// Nothing is left of what was said before this connection began.
    pub(crate) fn caught_up(&self, connection: u64) {
        self.lock().caught_up = Some(connection);
    }

    /// Whether something may be left of what was said before this connection began.
    pub(crate) fn is_behind(&self, connection: u64) -> bool {
        self.lock().caught_up != Some(connection)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Each change is one step, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_begins_a_new_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let line = LineWatch::new(start);
        let away = |reason: &str| Health::Away { reason: reason.to_owned() };
        assert_eq!(line.for_how_long(&away("no answer"), at(5)), Duration::from_secs(5));
        assert_eq!(line.for_how_long(&away("refused"), at(8)), Duration::from_secs(8), "it is away all the same");
        assert_eq!(line.for_how_long(&Health::Up(1), at(9)), Duration::ZERO);
        assert!(line.is_behind(1));
        line.caught_up(1);
        assert!(!line.is_behind(1) && line.is_behind(2));
        assert_eq!(line.for_how_long(&Health::Up(2), at(12)), Duration::ZERO, "another connection");
        assert_eq!(line.for_how_long(&Health::Blocked { reason: String::new() }, at(20)), Duration::ZERO);
    }
}
