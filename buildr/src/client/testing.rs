//! A farm for tests: answers each connection with the bytes that are written down for it, and keeps what was asked.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

/// Listens on this machine, and gives each connection the next of `answers`, as parts that are sent one by one. When
/// all are given nobody listens any more, and what was asked comes back, head and body.
pub(super) async fn serve(answers: Vec<Vec<Vec<u8>>>) -> (Url, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let serving = protocol::task::spawn("farm for a test", async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            asked.push(request(&mut stream).await);
            for part in answer {
                stream.write_all(&part).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
        asked
    });
    (url, serving)
}

/// An answer with a length.
pub(super) fn answer(status: &str, more: &str, body: &str) -> Vec<Vec<u8>> {
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{more}content-length: {}\r\n\r\n", body.len());
    vec![head.into_bytes(), body.as_bytes().to_vec()]
}

/// How a stream is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// As it should be.
    Whole,
    /// In the middle.
    Broken,
}

/// An answer in chunks.
pub(super) fn stream(parts: &[&[u8]], close: Close) -> Vec<Vec<u8>> {
    let mut answer = vec![b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()];
    for part in parts {
        answer.push([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
    }
    if close == Close::Whole {
        answer.push(b"0\r\n\r\n".to_vec());
    }
    answer
}

async fn request(stream: &mut tokio::net::TcpStream) -> String {
    let mut asked = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&asked).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return String::from_utf8(asked).unwrap();
            }
        }
        let read = stream.read(&mut part).await.unwrap();
        assert_ne!(read, 0, "the client closed before it had asked");
        asked.extend_from_slice(&part[..read]);
    }
}
