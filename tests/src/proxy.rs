//! A TCP proxy of a test's own between two parts: the network, which can be frozen, cut and healed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use protocol::task;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How late each piece is on a slow network.
pub const LATE: Duration = Duration::from_millis(200);

/// What passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Everything.
    Whole,
    /// Nothing, in either direction; connections stay open, and new ones are taken in silence.
    Frozen,
    /// What the client sends; what it should hear waits.
    Deaf,
    /// What the client should hear; what it sends waits.
    Mute,
    /// Everything, each piece [`LATE`] after it came.
    Slow,
    /// Everything but the word of a broker that a queue which somebody reads is gone.
    Tactful,
    /// No connection: those that are there are reset, new ones too.
    Cut,
}

/// The way of one client to one server.
pub struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    /// Connections that were made before this number pass nothing ever again.
    stale: watch::Sender<u64>,
    made: watch::Receiver<u64>,
    serving: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A whole one to this server.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a port");
        let (network, passing) = watch::channel(Network::Whole);
        let (stale, stale_seen) = watch::channel(0);
        let (count, made) = watch::channel(0);
        let serving = task::spawn("proxy", serve(listener, server, passing, stale_seen, count));
        Self { address, network, stale, made, serving }
    }

    /// Where clients find it, as host and port.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on the network is like this.
    pub fn becomes(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// All connections that are there pass nothing ever again, and nobody is told; new ones work.
    pub fn forget_connections(&self) {
        self.stale.send_replace(*self.made.borrow());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    listener: TcpListener,
    server: String,
    network: watch::Receiver<Network>,
    stale: watch::Receiver<u64>,
    made: watch::Sender<u64>,
) {
    // Dropping it with this task ends all connections.
    let mut connections = JoinSet::new();
    let server: Arc<str> = server.into();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        made.send_modify(|count| *count += 1);
        let number = *made.borrow();
        connections.spawn(connection(
            client,
            server.clone(),
            Passing { number, network: network.clone(), stale: stale.clone() },
        ));
    }
}

/// What one connection sees of the network.
#[derive(Clone)]
struct Passing {
    number: u64,
    network: watch::Receiver<Network>,
    stale: watch::Receiver<u64>,
}

impl Passing {
    /// Waits until something may pass in a direction that these states hold up.
    async fn may(&mut self, held_by: [Network; 2]) {
        let number = self.number;
        // The senders outlive the connections.
        let mut stale = self.stale.clone();
        tokio::join!(
            // What was held when the line is cut is lost.
            async {
                let passes = |network: &Network| *network != Network::Cut && !held_by.contains(network);
                self.network.wait_for(passes).await.map(drop).ok()
            },
            async { stale.wait_for(|before| number > *before).await.map(drop).ok() },
        );
    }

    async fn cut(&mut self) {
        self.network.wait_for(|network| *network == Network::Cut).await.map(drop).ok();
    }
}

async fn connection(client: TcpStream, server: Arc<str>, mut passing: Passing) {
    // Without lingering a close is a reset.
    client.set_zero_linger().ok();
    let mut cut = passing.clone();
    if *passing.network.borrow() == Network::Cut {
        return;
    }
    let work = async {
        passing.may([Network::Frozen, Network::Frozen]).await;
        let Ok(upstream) = TcpStream::connect(&*server).await else { return };
        upstream.set_zero_linger().ok();
        for stream in [&client, &upstream] {
            stream.set_nodelay(true).ok();
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = upstream.into_split();
        let up = pump(from_client, to_server, passing.clone(), [Network::Frozen, Network::Mute]);
        let down = pump(from_server, to_client, passing.clone(), [Network::Frozen, Network::Deaf]);
        tokio::join!(up, down);
    };
    tokio::select! {
        () = work => {}
        () = cut.cut() => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut passing: Passing, held_by: [Network; 2]) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        passing.may(held_by).await;
        let Ok(count) = from.read(&mut bytes).await else { break };
        if *passing.network.borrow() == Network::Slow {
            tokio::time::sleep(LATE).await;
        }
        // What came just before a freeze is held like the rest.
        passing.may(held_by).await;
        let mut passes = bytes[..count].to_vec();
        if *passing.network.borrow() == Network::Tactful {
            leave_out_cancels(&mut passes);
        }
        if count == 0 || to.write_all(&passes).await.is_err() {
            break;
        }
    }
    to.shutdown().await.ok();
}

/// Leaves out the frames of AMQP that say `basic.cancel`; such are short, and come in one piece.
fn leave_out_cancels(bytes: &mut Vec<u8>) {
    const METHOD: u8 = 1;
    const CANCEL: [u8; 4] = [0, 60, 0, 30];
    let mut at = 0;
    while let Some([kind, _, _, size @ ..]) =
        bytes.get(at..at + 7).map(|head| <[u8; 7]>::try_from(head).expect("seven"))
    {
        let size = usize::try_from(u32::from_be_bytes(size)).expect("a size");
        let end = (at + size + 8).min(bytes.len());
        if kind == METHOD && bytes.get(at + 7..at + 11) == Some(&CANCEL) {
            bytes.drain(at..end);
        } else {
            at = end;
        }
    }
}
