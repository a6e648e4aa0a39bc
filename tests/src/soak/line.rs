//! A line to the broker that can be cut and held: a TCP proxy for one process.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the line does at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It carries, as the line of this number.
    Up(u64),
    /// It is cut, and nobody gets a new one.
    Cut,
}

/// The line of one process.
pub(super) struct Line {
    /// Where the process connects to.
    pub(super) address: SocketAddr,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Line {
    pub(super) async fn to(broker: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for a line");
        let address = listener.local_addr().expect("a port");
        let (state, now) = watch::channel(State::Up(0));
        let task = protocol::task::spawn("line", accept(listener, broker, now));
        Self { address, state, task }
    }

    /// Breaks all connections, and lets none through for a while.
    pub(super) async fn cut(&self, time: Duration) {
        let State::Up(number) = self.state.send_replace(State::Cut) else { return };
        tokio::time::sleep(time).await;
        self.state.send_replace(State::Up(number + 1));
    }

    /// For when a cut was left off in the middle.
    pub(super) fn mend(&self) {
        self.state.send_if_modified(|state| {
            let is_cut = *state == State::Cut;
            if is_cut {
                *state = State::Up(1 << 32);
            }
            is_cut
        });
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, broker: String, state: watch::Receiver<State>) {
    let mut carried = tokio::task::JoinSet::new();
    loop {
        while carried.try_join_next().is_some() {}
        let Ok((mut near, _)) = listener.accept().await else { continue };
        let (broker, mut state) = (broker.clone(), state.clone());
        let now = *state.borrow_and_update();
        if now == State::Cut {
            continue;
        }
        carried.spawn(async move {
            let Ok(mut far) = TcpStream::connect(broker).await else { return };
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = state.wait_for(|state| *state != now) => {}
            }
        });
    }
}
