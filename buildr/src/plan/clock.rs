//! How long a plan may be in the making: its manifest is anybody's, and nothing else is known of the build before.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::PlanError;

/// The longest that a plan may be in the making.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// The longest that all expressions of a plan together may take.
pub(super) const LONGEST_ASKED: Duration = Duration::from_secs(10);

/// Room for what goes deep: the parser of expressions takes some kilobytes per level.
const STACK_BYTES: usize = 32 << 20;

/// The time of one plan.
pub(super) struct Clock<'c> {
    until: Instant,
    stopped: &'c (dyn Fn() -> bool + Sync),
    /// What is left for its expressions.
    asked: Cell<Duration>,
}

impl<'c> Clock<'c> {
    /// From now on, until `stopped` says that nobody wants the plan any more.
    pub(super) fn new(stopped: &'c (dyn Fn() -> bool + Sync)) -> Self {
        Self { until: Instant::now() + LONGEST, stopped, asked: Cell::new(LONGEST_ASKED) }
    }

    /// Whether what is made from now on is thrown away.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until || (self.stopped)()
    }

    /// # Errors
    /// When it is over: why.
    pub(super) fn check(&self) -> Result<(), PlanError> {
        match self.is_over() {
            false => Ok(()),
            true if (self.stopped)() => Err(PlanError::Stopped),
            true => Err(PlanError::TooSlow),
        }
    }

    /// What is left for expressions.
    pub(super) fn left(&self) -> Duration {
        self.asked.get()
    }

    /// Takes from what is left for expressions.
    pub(super) fn spend(&self, time: Duration) {
        self.asked.set(self.asked.get().saturating_sub(time));
    }
}

/// Does it on a thread with room on its stack.
///
/// # Errors
/// Its own; and when there is no such thread, or it panics: a manifest that is not foreseen ends no agent.
pub(super) fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T, PlanError> + Send) -> Result<T, PlanError> {
    std::thread::scope(|threads| {
        let thread = std::thread::Builder::new().name("plan".to_owned()).stack_size(STACK_BYTES);
        match thread.spawn_scoped(threads, work).map(|thread| thread.join()) {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(PlanError::Failed),
            Err(error) => Err(PlanError::NoThread(error)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_an_error() {
        let failed = on_a_thread::<()>(|| panic!("a test"));
        assert!(failed.unwrap_err().to_string().contains("a mistake in buildr"));
    }

    #[test]
    fn it_ends_when_nobody_wants_it() {
        assert!(Clock::new(&|| false).check().is_ok());
        assert!(matches!(Clock::new(&|| true).check(), Err(PlanError::Stopped)));
        let late = Clock { until: Instant::now(), ..Clock::new(&|| false) };
        assert!(late.is_over() && matches!(late.check(), Err(PlanError::TooSlow)));
    }
}
