//! Counts from outside what stages did: a script that must not run twice says so here, over the host's network, before
//! it does anything. So the count does not come from the farm, whose word is to be checked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How often each build's script began.
pub(super) struct Counter {
    /// Where scripts say it.
    pub(super) address: SocketAddr,
    begun: Arc<Mutex<HashMap<u64, u32>>>,
    task: JoinHandle<()>,
}

impl Counter {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the counter");
        let address = listener.local_addr().expect("a port");
        let begun: Arc<Mutex<HashMap<u64, u32>>> = Arc::default();
        let counts = begun.clone();
        let task = protocol::task::spawn("counter", async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                if stream.read_line(&mut line).await.is_ok()
                    && let Ok(build) = line.trim().parse()
                {
                    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(build).or_default() += 1;
                    // A script that died meanwhile hears nothing, and has begun all the same.
                    stream.write_all(b"counted\n").await.ok();
                }
            }
        });
        Self { address, begun, task }
    }

    /// The command, for bash, with which a script says that it begins.
    pub(super) fn command(&self) -> String {
        let (host, port) = (self.address.ip(), self.address.port());
        format!(
            "bash -c 'exec 3<>/dev/tcp/{host}/{port}; echo $BUILDR_BUILD_NUMBER >&3; read -r answer <&3; echo $answer'"
        )
    }

    /// How often the script of a build began.
    pub(super) fn begun(&self, build: u64) -> u32 {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).get(&build).copied().unwrap_or(0)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.task.abort();
    }
}
