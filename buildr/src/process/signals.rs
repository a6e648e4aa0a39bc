//! Counts the signals by which people and service units end a program. What the first, second and third mean is the
//! program's own: `buildr run` cancels, then kills; the agent drains, then cancels, then exits at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ProcessError;

/// SIGINT and SIGTERM, counted together.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    count: u32,
}

impl Signals {
    /// Begins to listen. From now on these signals no longer end the process by themselves.
    ///
    /// # Errors
    /// When the system does not let them be received.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn listen() -> Result<Self, ProcessError> {
        let interrupt = signal(SignalKind::interrupt()).map_err(ProcessError::Signals)?;
        let terminate = signal(SignalKind::terminate()).map_err(ProcessError::Signals)?;
        Ok(Self { interrupt, terminate, count: 0 })
    }

    /// Waits for the next signal and says which one it is: 1, 2, 3 … Dropped while it waits, it loses none.
    pub async fn next(&mut self) -> u32 {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.count += 1;
        self.count
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal as Number, raise};

    use super::*;

    /// One test alone: signals reach the whole process.
    #[tokio::test]
    async fn both_signals_are_counted_together() {
        let mut signals = Signals::listen().unwrap();
        raise(Number::SIGTERM).unwrap();
        assert_eq!(signals.next().await, 1);
        raise(Number::SIGINT).unwrap();
        assert_eq!(signals.next().await, 2);
    }
}
