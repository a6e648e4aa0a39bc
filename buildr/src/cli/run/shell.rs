//! `--shell` and `--keep`: what stays of a stage that failed, for its person to look into.

use std::io::{self, IsTerminal as _, stdin, stdout};
use std::os::fd::{AsFd as _, BorrowedFd};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use protocol::task;
use tokio::fs::File;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::screen::Screen;
use crate::executor::ExecutorError;
use crate::executor::docker::{DockerExecutor, KeptStage, ShellTerminal};

/// Whether there is a terminal for a shell.
pub(super) fn is_possible() -> bool {
    stdin().is_terminal() && stdout().is_terminal()
}

/// A shell in the state of the stage, until its person leaves it.
pub(super) async fn open(executor: &DockerExecutor, kept: &KeptStage, screen: &Screen) -> Result<(), ExecutorError> {
    let line = format!("\na shell in {}, as it was when it failed; leave it with `exit` or Ctrl-D\r\n", kept.stage);
    // What is live stands still until the shell ends.
    let _asking = screen.ask(&line);
    let (columns, rows) = size();
    let (sizes, size) = watch::channel((columns, rows));
    let watching = task::spawn("window", follow_size(sizes));
    let raw = Raw::begin().ok();
    let (input, output) = (Box::new(same(stdin().as_fd())?), Box::new(same(stdout().as_fd())?));
    let ended = executor.shell(kept, ShellTerminal { input, output, size }).await;
    drop(raw);
    watching.abort();
    ended.map(|_| ())
}

/// The same stream once more, to be read or written without a wait.
fn same(stream: BorrowedFd<'_>) -> Result<File, ExecutorError> {
    let copy = stream.try_clone_to_owned();
    let copy = copy.map_err(|source| ExecutorError::Disk { doing: "open the terminal".to_owned(), source })?;
    Ok(File::from_std(copy.into()))
}

async fn follow_size(sizes: watch::Sender<(u16, u16)>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    while changes.recv().await.is_some() {
        sizes.send_replace(size());
    }
}

/// Columns and rows.
fn size() -> (u16, u16) {
    let (rows, columns) = console::Term::stdout().size();
    (columns, rows)
}

/// A terminal that passes on every key as it is pressed, until this is dropped.
struct Raw {
    before: Termios,
}

impl Raw {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(stdin().as_fd())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin().as_fd(), SetArg::TCSADRAIN, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs none of it.
        tcsetattr(stdin().as_fd(), SetArg::TCSADRAIN, &self.before).ok();
    }
}
