//! How a run is shown on this terminal, and how its person ends it.

use std::io::{IsTerminal as _, Stdout, Write as _, stdout};
use std::sync::Arc;
use std::{env, io};

use tokio::sync::oneshot;

use super::super::exit;
use super::super::terminal::{Frame, TURN, Terminal};
use crate::executor::Stop;
use crate::process::signals::Signals;

/// The terminal of this process.
pub(super) type Screen = Arc<Terminal<Stdout>>;

/// Signals are heard as long as this is held.
pub(super) type Hearing = oneshot::Sender<()>;

/// How a build is shown here unless somebody says otherwise.
pub(super) fn frame() -> Frame {
    match stdout().is_terminal() {
        false => Frame::Prefixes,
        true if env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty()) => Frame::Scroll,
        true => Frame::Live,
    }
}

/// Draws what is live anew, again and again.
pub(super) async fn tick(screen: Screen) {
    let mut turns = tokio::time::interval(TURN);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        // Nobody looks any more: the next event ends the build.
        if screen.tick().is_err() {
            return;
        }
    }
}

/// Hears signals until what this gives is dropped. On a thread and a runtime of its own: where nobody takes the output
/// off, all others may be waiting for just that.
pub(super) fn hear_signals(screen: Screen, stop: Stop) -> io::Result<Hearing> {
    let (heard, over) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listen = move || {
        runtime.block_on(async {
            tokio::select! {
                () = stop_on_signals(screen, stop) => {}
                // Its other end is dropped, never used.
                _ = over => {}
            }
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
    Ok(heard)
}

/// The first signal cancels and cleans up, the second kills. The third is for one whose output nobody takes off: it
/// ends where it stands, and what it leaves is removed by the next run.
async fn stop_on_signals(screen: Screen, stop: Stop) {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return tracing::error!(%error, "Ctrl-C is not heard"),
    };
    signals.hear_hangup();
    signals.next().await;
    // The terminal may be gone.
    say(&screen, "cancelling, and cleaning up (again: kill at once)");
    stop.cancel();
    signals.next().await;
    say(&screen, "killing (again: end here; the next run removes what is left)");
    stop.kill();
    signals.next().await;
    std::process::exit(exit::CANCELLED.into());
}

/// Says something to who is at the keyboard, without disturbing what is live.
fn say(screen: &Screen, text: &str) {
    // Where nobody takes the output off, the next signal must be heard all the same.
    if !stdout().is_terminal() || !screen.note_unless_busy(text) {
        writeln!(io::stderr(), "{text}").ok();
    }
}
