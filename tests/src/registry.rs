//! A registry of a test's own: a few images with nothing in them, each another, that a daemon on this machine can
//! truly pull. A daemon speaks plain HTTP to an address of this machine.

use std::collections::HashMap;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use protocol::task;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// How a connection with TLS begins.
const TLS: u8 = 0x16;

/// An archive without a file.
const EMPTY: [u8; 1024] = [0; 1024];

/// What can be asked for, by its path: what kind of thing it is, and its bytes.
type Things = HashMap<String, (&'static str, Vec<u8>)>;

/// A registry that answers as long as this lives.
#[derive(Debug)]
pub struct Registry {
    address: String,
    task: JoinHandle<()>,
}

impl Registry {
    /// Serves images of these names, all with the tag `1`.
    ///
    /// # Panics
    /// When no port can be listened on.
    pub async fn with(names: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let things = Arc::new(names.iter().flat_map(|name| image(name, &address)).collect::<Things>());
        let task = task::spawn("registry", async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A daemon that hangs up early is its own affair.
                drop(task::spawn("registry's answer", answer(stream, Arc::clone(&things))));
            }
        });
        Self { address, task }
    }

    /// What one of its images is called whatever its name may mean.
    #[must_use]
    pub fn digest(&self, name: &str) -> String {
        let [(_, (_, manifest)), ..] = image(name, &self.address);
        digest(&manifest)
    }

    /// How a daemon finds one of its images.
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}:1", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn digest(bytes: &[u8]) -> String {
    let hex = HEXLOWER.encode(&Sha256::digest(bytes));
    format!("sha256:{hex}")
}

/// The manifest, the configuration and the layer of an image.
fn image(name: &str, address: &str) -> [(String, (&'static str, Vec<u8>)); 4] {
    let layer = EMPTY.to_vec();
    // By its label no image is like that of another name, or of another test.
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Cmd": ["/none"], "Labels": { "name": name, "registry": address } },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    })
    .to_string()
    .into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "size": config.len(), "digest": digest(&config) },
        "layers": [{ "mediaType": LAYER, "size": layer.len(), "digest": digest(&layer) }],
    })
    .to_string()
    .into_bytes();
    let at = |kind: &str, reference: &str| format!("/v2/{name}/{kind}/{reference}");
    [
        (at("manifests", "1"), (MANIFEST, manifest.clone())),
        (at("manifests", &digest(&manifest)), (MANIFEST, manifest)),
        (at("blobs", &digest(&config)), ("application/octet-stream", config)),
        (at("blobs", &digest(&layer)), ("application/octet-stream", layer)),
    ]
}

/// Answers one request.
async fn answer(mut stream: TcpStream, things: Arc<Things>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
        // A daemon asks for TLS first, and waits long for an answer.
        if head[0] == TLS {
            return None;
        }
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let nothing = ("application/json", b"{}".to_vec());
    let (status, (kind, body)) = match things.get(path) {
        Some(thing) => ("200 OK", thing),
        None if path == "/v2/" => ("200 OK", &nothing),
        None => ("404 Not Found", &nothing),
    };
    let mut answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\ndocker-content-digest: {}\r\n\
         docker-distribution-api-version: registry/2.0\r\nconnection: close\r\n\r\n",
        body.len(),
        digest(body)
    )
    .into_bytes();
    if method != "HEAD" {
        answer.extend_from_slice(body);
    }
    stream.write_all(&answer).await.ok()?;
    stream.shutdown().await.ok()
}
