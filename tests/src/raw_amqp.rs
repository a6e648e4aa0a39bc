//! AMQP by hand, frame by frame: what a publisher can send that no library would.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;
/// How much of a message's bytes one frame carries.
const PIECE: usize = 100_000;

/// A publisher that is sure of nothing but that its message was taken.
pub struct RawPublisher {
    socket: TcpStream,
}

impl RawPublisher {
    /// Connects, with one channel that confirms.
    ///
    /// # Panics
    /// When the broker does not let it in.
    pub async fn connect(uri: &str) -> Self {
        let uri: url::Url = uri.parse().expect("an AMQP address");
        let host = (uri.host_str().expect("a host").to_owned(), uri.port().unwrap_or(5672));
        let mut raw = Self { socket: TcpStream::connect(host).await.expect("a broker") };
        raw.socket.write_all(b"AMQP\0\0\x09\x01").await.expect("a greeting");
        raw.until(10, 10).await;
        let login = format!("\0{}\0{}", uri.username(), uri.password().unwrap_or_default());
        raw.method(0, 10, 11, &[&long(b"")[..], &short(b"PLAIN"), &long(login.as_bytes()), &short(b"en_US")].concat())
            .await;
        let tune = raw.until(10, 30).await;
        raw.method(0, 10, 31, &tune).await;
        let vhost = uri.path().trim_start_matches('/');
        raw.method(0, 10, 40, &[&short(vhost.as_bytes())[..], &short(b""), &[0]].concat()).await;
        raw.until(10, 41).await;
        raw.method(1, 20, 10, &short(b"")).await;
        raw.until(20, 11).await;
        raw.method(1, 85, 10, &[0]).await;
        raw.until(85, 11).await;
        raw
    }

    /// Publishes a message with these properties: their flags, and what follows them. Waits until it is taken.
    ///
    /// # Panics
    /// When the broker does not take it.
    pub async fn publish(&mut self, exchange: &str, key: &[u8], (flags, properties): (u16, &[u8]), body: &[u8]) {
        let address = [&[0, 0][..], &short(exchange.as_bytes()), &short(key), &[0]].concat();
        self.method(1, 60, 40, &address).await;
        let header = [&[0, 60, 0, 0], &(body.len() as u64).to_be_bytes()[..], &flags.to_be_bytes(), properties];
        self.frame(HEADER, 1, &header.concat()).await;
        for piece in body.chunks(PIECE) {
            self.frame(BODY, 1, piece).await;
        }
        self.until(60, 80).await;
    }

    async fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) {
        let payload = [&class.to_be_bytes(), &method.to_be_bytes(), arguments].concat();
        self.frame(METHOD, channel, &payload).await;
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
        let frame = [&[kind], &channel.to_be_bytes()[..], &length, payload, &[FRAME_END]].concat();
        self.socket.write_all(&frame).await.expect("a broker that reads");
    }

    /// The arguments of the method that is waited for.
    async fn until(&mut self, class: u16, method: u16) -> Vec<u8> {
        loop {
            let (kind, payload) = self.read().await.expect("a broker that answers");
            if kind != METHOD {
                continue;
            }
            let found = (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
            if found == (class, method) {
                return payload[4..].to_vec();
            }
            assert!(!matches!(found, (10, 50) | (20, 40)), "refused: {}", String::from_utf8_lossy(&payload[6..]));
        }
    }

    async fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 7];
        self.socket.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; length + 1];
        self.socket.read_exact(&mut payload).await?;
        payload.pop();
        Ok((head[0], payload))
    }
}

/// A text with its length in one byte.
///
/// # Panics
/// When it is longer than 255 bytes.
#[must_use]
pub fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("a short text")], text].concat()
}

/// Bytes with their length in four.
///
/// # Panics
/// When they are longer than that can say.
#[must_use]
pub fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("not too long a text").to_be_bytes(), bytes].concat()
}
