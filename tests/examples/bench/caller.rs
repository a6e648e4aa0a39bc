//! A client of HTTP that costs next to nothing: one connection that stays, one request at a time.

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// One connection to a coordinator.
pub(crate) struct Caller {
    stream: BufReader<TcpStream>,
    fields: String,
}

impl Caller {
    /// Connects to a host and port.
    pub(crate) async fn connect(address: &str, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let fields = format!("Host: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n");
        Ok(Self { stream: BufReader::new(stream), fields })
    }

    /// The body of a good answer.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        self.call("GET", path, "").await
    }

    /// The same, for something that is asked to be done.
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Result<Vec<u8>> {
        self.call("POST", path, body).await
    }

    async fn call(&mut self, method: &str, path: &str, body: &str) -> Result<Vec<u8>> {
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.1\r\n{}Content-Length: {length}\r\n\r\n{body}", self.fields);
        self.stream.write_all(request.as_bytes()).await?;
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        let good = line.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
        let mut length = None;
        loop {
            let mut field = String::new();
            self.stream.read_line(&mut field).await?;
            let Some((name, value)) = field.trim_end().split_once(": ") else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.parse::<usize>()?);
            }
        }
        let mut body = vec![0; length.context("an answer without a length")?];
        self.stream.read_exact(&mut body).await?;
        ensure!(good, "{method} {path}: {}: {}", line.trim_end(), String::from_utf8_lossy(&body));
        Ok(body)
    }
}
