//! Counts the signals by which people and service units end a program. What the first, second and third mean is the
//! program's own: `buildr run` cancels, then kills; the agent drains, then cancels, then exits at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ProcessError;

/// SIGINT and SIGTERM, counted together.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
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
        Ok(Self { interrupt, terminate, hangup: None, count: 0 })
    }

    /// Counts the closing of the terminal too, unless it was to be ignored, as `nohup` does.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn hear_hangup(&mut self) {
        // Where a system does not tell what is ignored, the signal ends the process, as it does by itself.
        let ignored = std::fs::read_to_string("/proc/self/status").map_or(true, |status| ignores_hangup(&status));
        if !ignored {
            self.hangup = signal(SignalKind::hangup()).ok();
        }
    }

    /// Waits for the next signal and says which one it is: 1, 2, 3 … Dropped while it waits, it loses none.
    pub async fn next(&mut self) -> u32 {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
        self.count += 1;
        self.count
    }
}

/// Whether a process of this status (`/proc/PID/status`) ignores SIGHUP: the lowest bit of the mask of what it ignores.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
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

    #[test]
    fn a_hangup_that_is_ignored_stays_so() {
        assert!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("Name:\tx\nSigIgn:\t0000000000001000\n"));
        assert!(ignores_hangup("Name:\tx\n"), "what is not known is left as it is");
    }
}
