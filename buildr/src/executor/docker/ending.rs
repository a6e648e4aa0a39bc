//! How a container is ended: for its time, for its silence, for the disk, or because somebody asked.
//!
//! The script goes first, politely: SIGTERM, a grace, SIGKILL. Where something follows the script, that has its time
//! then, whatever ended the script; the container itself is killed only after it, or at once when even that is asked.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use protocol::StageEnd;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::super::silence::Silence;
use super::super::{ExecutorError, Output, Stop, millis};
use super::container::{Bounds, Container, PATIENCE};
use super::engine;
use super::handoff::{self, Why};
use super::marks::Phase;

/// How long a signal may take to be delivered, before it is given up for a stronger one.
const DELIVERY: Duration = Duration::from_secs(20);

/// How long a script's processes may take to be gone after a SIGKILL, before the next is sent.
const GONE: Duration = Duration::from_secs(2);

/// How often SIGKILL is sent to a script's processes, before the container is killed with all that is in it.
const KILLS: u32 = 3;

/// What ends one container.
pub(super) struct Ending<'a> {
    pub(super) container: &'a Container,
    pub(super) stop: &'a Stop,
    pub(super) bounds: &'a Bounds,
    pub(super) silence: &'a Silence,
    /// Whether something follows the script.
    pub(super) tidies: bool,
    /// For what is to be said about it.
    pub(super) output: &'a Output,
    pub(super) phase: watch::Receiver<Phase>,
}

/// What became of a time in which a container could come to the end of what it does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    /// It has gone on to something else.
    On,
    /// The time is over.
    TooLate,
    /// It must end at once.
    ToBeKilled,
}

impl Ending<'_> {
    /// Waits for a reason to end it, tells that in `reason`, and does so. Returns only when it would not end.
    pub(super) async fn in_time(mut self, reason: &mut Option<StageEnd>) -> ExecutorError {
        let came = match self.awaited(reason).await {
            // The script has ended by itself.
            None => Came::On,
            Some(Some(why)) => self.end_script(why).await,
            Some(None) => Came::ToBeKilled,
        };
        if came == Came::On && self.tidies {
            self.tidy().await;
        }
        self.kill().await
    }

    /// Waits until it must be ended: politely, for this reason, or at once; or until its script has ended by itself.
    async fn awaited(&mut self, reason: &mut Option<StageEnd>) -> Option<Option<Why>> {
        let Bounds { timeout, idle, too_large, .. } = self.bounds;
        let why = tokio::select! {
            biased;
            () = reached(&mut self.phase, |phase| phase != Phase::Script) => return None,
            () = self.stop.killed() => None,
            () = self.stop.cancelled() => Some(Why::Cancelled),
            () = too_large.cancelled() => None,
            () = sleep(*timeout) => {
                *reason = Some(StageEnd::TimedOut { limit_ms: millis(*timeout) });
                Some(Why::TimedOut)
            }
            () = self.silence.lasts(*idle) => {
                *reason = Some(StageEnd::IdleTimedOut { limit_ms: millis(idle.unwrap_or_default()) });
                Some(Why::TimedOut)
            }
        };
        reason.get_or_insert(StageEnd::Cancelled);
        Some(why)
    }

    /// SIGTERM, the grace, and SIGKILL to all but the wrapper, which goes on to what follows.
    async fn end_script(&mut self, why: Why) -> Came {
        // When SIGTERM cannot be delivered there is nothing to wait for.
        if !self.deliver(&handoff::terminate(why)).await {
            return Came::ToBeKilled;
        }
        let came = self.within(self.bounds.grace, |phase| phase != Phase::Script).await;
        if came != Came::TooLate || !self.tidies {
            return came;
        }
        self.kill_until(|phase| phase != Phase::Script).await
    }

    /// SIGKILL to all but the wrapper, until that has come so far. Whoever was just being started may escape the first.
    async fn kill_until(&mut self, is_there: impl Fn(Phase) -> bool + Copy) -> Came {
        for _ in 0..KILLS {
            if !self.deliver(&handoff::kill_script()).await {
                return Came::ToBeKilled;
            }
            match self.within(GONE, is_there).await {
                Came::TooLate => {}
                came => return came,
            }
        }
        Came::TooLate
    }

    /// Gives what follows the script its time, each part.
    async fn tidy(&mut self) {
        if matches!(*self.phase.borrow(), Phase::Over(_)) {
            // It goes on at once, or ends.
            self.within(DELIVERY, |phase| !matches!(phase, Phase::Over(_))).await;
        }
        if matches!(*self.phase.borrow(), Phase::OnFailure(_)) {
            match self.within(self.bounds.after, |phase| matches!(phase, Phase::After(_))).await {
                Came::On => {}
                Came::ToBeKilled => return,
                Came::TooLate => {
                    self.say_too_late("on_failure").await;
                    if self.kill_until(|phase| matches!(phase, Phase::After(_))).await != Came::On {
                        return;
                    }
                }
            }
        }
        if matches!(*self.phase.borrow(), Phase::After(_))
            && self.within(self.bounds.after, |_| false).await == Came::TooLate
        {
            self.say_too_late("after").await;
        }
    }

    async fn say_too_late(&self, part: &str) {
        let seconds = self.bounds.after.as_secs_f64();
        let line = format!("buildr: {part} took longer than {seconds} s, so it was ended\n");
        let _ = self.output.send(Bytes::from(line)).await;
    }

    /// Waits for a phase, so long, unless all must end at once.
    async fn within(&mut self, time: Duration, is_there: impl Fn(Phase) -> bool) -> Came {
        tokio::select! {
            biased;
            () = self.stop.killed() => Came::ToBeKilled,
            () = self.bounds.too_large.cancelled() => Came::ToBeKilled,
            () = reached(&mut self.phase, is_there) => Came::On,
            () = sleep(time) => Came::TooLate,
        }
    }

    async fn deliver(&self, script: &str) -> bool {
        matches!(timeout(DELIVERY, self.container.exec(script)).await, Ok(Ok(())))
    }

    /// Kills it until it has gone. One that has ended while its output still waits for a slow reader is no failure.
    async fn kill(&self) -> ExecutorError {
        let reason = loop {
            let killed = self.container.kill().await;
            sleep(PATIENCE).await;
            if let Err(error) = killed {
                break engine::reason(&error);
            }
            if self.container.state().await.is_none_or(|state| state.running == Some(true)) {
                break format!("it still runs {} s after SIGKILL", PATIENCE.as_secs());
            }
        };
        ExecutorError::Daemon { doing: format!("end the container of {}", self.container.title), reason }
    }
}

/// Resolves when a phase is reached; when it never will be, never.
async fn reached(phase: &mut watch::Receiver<Phase>, is_there: impl Fn(Phase) -> bool) {
    if phase.wait_for(|phase| is_there(*phase)).await.is_err() {
        let never: Infallible = std::future::pending().await;
        match never {}
    }
}
