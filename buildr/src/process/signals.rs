//! Counts the signals by which people and service units end a program. What the first, second and third mean is the
//! program's own: `buildr run` cancels, then kills; the agent drains, then cancels, then exits at once.

use std::convert::Infallible;
use std::time::Duration;

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

/// The ways in which a person stops a program that serves others, each stronger than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Begin nothing more, and end when what runs is over.
    Drain,
    /// End what runs, and clean up.
    Cancel,
    /// End the process where it stands.
    Exit,
}

/// What the third signal ends a program with: as a shell does, for a person stopped it.
const STOPPED: i32 = 130;

/// Takes one step with each signal. The second is also taken when `limit` has passed since the first, and after the
/// third, once `take` has said so, the process is over.
pub async fn stop_in_steps(mut signals: Signals, limit: Option<Duration>, take: impl FnMut(Step)) -> Infallible {
    steps(&mut signals, limit, take).await;
    std::process::exit(STOPPED)
}

async fn steps(signals: &mut Signals, limit: Option<Duration>, mut take: impl FnMut(Step)) {
    signals.next().await;
    take(Step::Drain);
    tokio::select! {
        _ = signals.next() => {}
        () = tokio::time::sleep(limit.unwrap_or_default()), if limit.is_some() => {}
    }
    take(Step::Cancel);
    signals.next().await;
    take(Step::Exit);
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
        for (limit, expect) in [(None, 5), (Some(Duration::ZERO), 7)] {
            let mut taken = Vec::new();
            raise(Number::SIGTERM).unwrap();
            steps(&mut signals, limit, |step| {
                taken.push(step);
                // The next one comes when this one is taken; the time limit takes the place of one.
                if taken.len() < 3 && (limit.is_none() || step == Step::Cancel) {
                    raise(Number::SIGINT).unwrap();
                }
            })
            .await;
            assert_eq!(taken, [Step::Drain, Step::Cancel, Step::Exit]);
            assert_eq!(signals.count, expect);
        }
    }

    #[test]
    fn a_hangup_that_is_ignored_stays_so() {
        assert!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("Name:\tx\nSigIgn:\t0000000000001000\n"));
        assert!(ignores_hangup("Name:\tx\n"), "what is not known is left as it is");
    }
}
