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
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// How a connection with TLS begins.
const TLS: u8 = 0x16;

/// An archive without a file.
const EMPTY: [u8; 1024] = [0; 1024];

/// The platform of a daemon on this machine, and one that no such machine is of.
const PROCESSORS: [&str; 2] = if cfg!(target_arch = "aarch64") { ["arm64", "amd64"] } else { ["amd64", "arm64"] };

/// A platform that this machine is not of.
pub const OTHER_PLATFORM: &str = if cfg!(target_arch = "aarch64") { "linux/amd64" } else { "linux/arm64" };

/// What can be asked for, by its path: what kind of thing it is, and its bytes.
type Things = HashMap<String, (&'static str, Vec<u8>)>;
type Thing = (String, (&'static str, Vec<u8>));

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
        Self::at(0, names).await
    }

    /// The same, at a port of the test's choice.
    ///
    /// # Panics
    /// When it cannot be listened on.
    pub async fn at(port: u16, names: &[&str]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let images = names.iter().flat_map(|name| image(name, &address)).collect::<Things>();
        let others = images_for_all(BOTH, &address).into_iter().chain(image_of(SHELL, &address, shell()));
        let things = Arc::new(images.into_iter().chain(others).collect::<Things>());
        let task = task::spawn("registry", async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A daemon that hangs up early is its own affair.
                drop(task::spawn("registry's answer", answer(stream, Arc::clone(&things))));
            }
        });
        Self { address, task }
    }

    /// How a daemon finds an image that there is for this machine's platform, with nothing in it, and for
    /// [`OTHER_PLATFORM`], with a shell that this machine cannot run.
    #[must_use]
    pub fn image_for_all(&self) -> String {
        self.image(BOTH)
    }

    /// How a daemon finds the image that has this machine's shell, and nothing else.
    #[must_use]
    pub fn image_with_shell(&self) -> String {
        self.image(SHELL)
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

/// The name of the image that there is for two platforms.
const BOTH: &str = "both";

/// The name of the image with a shell.
const SHELL: &str = "shell";

/// The manifest, the configuration and the layer of an image for this machine.
fn image(name: &str, address: &str) -> [Thing; 4] {
    image_of(name, address, EMPTY.to_vec())
}

fn image_of(name: &str, address: &str, layer: Vec<u8>) -> [Thing; 4] {
    let [manifest, config, layer] = image_for(name, address, PROCESSORS[0], layer);
    let tagged = (format!("/v2/{name}/manifests/1"), manifest.1.clone());
    [tagged, manifest, config, layer]
}

/// An image for two platforms.
fn images_for_all(name: &str, address: &str) -> Vec<Thing> {
    let layers = [EMPTY.to_vec(), foreign_shell()];
    let images = PROCESSORS.into_iter().zip(layers);
    let images: Vec<_> =
        images.map(|(processor, layer)| (processor, image_for(name, address, processor, layer))).collect();
    let of = |(processor, [(_, (kind, manifest)), ..]): &(&str, [Thing; 3])| {
        let platform = json!({ "architecture": processor, "os": "linux" });
        json!({ "mediaType": kind, "size": manifest.len(), "digest": digest(manifest), "platform": platform })
    };
    let all = json!({ "schemaVersion": 2, "mediaType": LIST, "manifests": images.iter().map(of).collect::<Vec<_>>() });
    let all = all.to_string().into_bytes();
    let list = |reference: &str| (format!("/v2/{name}/manifests/{reference}"), (LIST, all.clone()));
    let lists = [list("1"), list(&digest(&all))];
    images.into_iter().flat_map(|(_, things)| things).chain(lists).collect()
}

/// An archive with this machine's `/bin/sh`, and what that loads.
fn shell() -> Vec<u8> {
    let loaded = std::process::Command::new("ldd").arg("/bin/sh").output().expect("there is an ldd");
    let loaded = String::from_utf8_lossy(&loaded.stdout).into_owned();
    let paths = loaded.split_whitespace().filter(|word| word.starts_with('/'));
    let mut archive = tar::Builder::new(Vec::new());
    for path in std::iter::once("/bin/sh").chain(paths) {
        let file = std::fs::canonicalize(path).expect("what a program loads is there");
        archive.append_path_with_name(file, path.trim_start_matches('/')).expect("an archive in memory");
    }
    archive.into_inner().expect("an archive in memory")
}

/// An archive with a `/bin/sh` that is a program for the other platform.
fn foreign_shell() -> Vec<u8> {
    const MACHINE: u8 = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(120, 0);
    (program[16], program[18], program[20]) = (2, MACHINE, 1);
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(120);
    header.set_mode(0o755);
    archive.append_data(&mut header, "bin/sh", &*program).expect("a file in memory");
    archive.into_inner().expect("an archive in memory")
}

/// The same for a platform, without a name; the manifest first.
fn image_for(name: &str, address: &str, processor: &str, layer: Vec<u8>) -> [Thing; 3] {
    // By its label no image is like that of another name, or of another test.
    let config = json!({
        "architecture": processor,
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
        // A daemon asks for TLS first, waits long for an answer, and by some of its ways it asks for less only of who
        // answers that as a server without TLS does.
        if head[0] == TLS {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await.ok()?;
            stream.shutdown().await.ok()?;
            // What is closed over unread bytes is reset.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok()?;
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
