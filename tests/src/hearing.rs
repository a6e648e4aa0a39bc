//! Those who want to hear of builds: a web server that takes what is posted to it, and a mail server that takes letters.
//! Both can refuse at first what they take later.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use protocol::task;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::farm::PATIENCE;

/// How much may be heard before a test looks: none sends as much.
const BOUND: usize = 64;

/// A server that hears things; it ends when this is dropped.
pub struct Hearer<T> {
    /// Where it listens.
    pub address: SocketAddr,
    heard: mpsc::Receiver<T>,
    serving: JoinHandle<()>,
}

impl<T> Drop for Hearer<T> {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What was posted to a web server.
#[derive(Debug, Clone)]
pub struct Posted {
    /// Its headers, by their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
    /// Whether it was refused.
    pub refused: bool,
}

/// A letter that a mail server was brought.
#[derive(Debug, Clone)]
pub struct Letter {
    /// What the client showed to be let in, if it did.
    pub login: Option<String>,
    /// To whom, as the envelope has it.
    pub to: String,
    /// Head and body as they came; nothing for one that was refused.
    pub text: Option<String>,
}

impl<T: Send + 'static> Hearer<T> {
    /// What is heard next.
    ///
    /// # Panics
    /// When nothing is, in time.
    pub async fn next(&mut self) -> T {
        let heard = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
        heard.expect("something is heard in time").expect("it listens")
    }

    /// Whether all that was heard was looked at.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.heard.is_empty()
    }

    async fn on<F>(answer: impl Fn(TcpStream, usize, mpsc::Sender<T>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (tell, heard) = mpsc::channel(BOUND);
        let serving = task::spawn("hearer", async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let answering = answer(stream, number, tell.clone());
                // It ends with its connection, and a client that goes away is its own business.
                task::spawn("hearer's answer", async move { answering.await.ok() });
            }
        });
        Self { address, heard, serving }
    }
}

/// A web server that answers its first `refused` connections with 503, and 204 from then on.
pub async fn web_server(refused: usize) -> Hearer<Posted> {
    Hearer::on(move |stream, number, tell| take_post(stream, number < refused, tell)).await
}

async fn take_post(stream: TcpStream, refused: bool, tell: mpsc::Sender<Posted>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).await?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    let status = if refused { "503 Service Unavailable" } else { "204 No Content" };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    reader.get_mut().write_all(answer.as_bytes()).await?;
    tell.send(Posted { headers, body: String::from_utf8(body)?, refused }).await?;
    Ok(())
}

/// A mail server that says "later" to the recipient on its first `refused` connections, and takes all from then on.
pub async fn mail_server(refused: usize) -> Hearer<Letter> {
    Hearer::on(move |stream, number, tell| take_letters(stream, number < refused, tell)).await
}

async fn take_letters(stream: TcpStream, refused: bool, tell: mpsc::Sender<Letter>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut login, mut to) = (None, String::new());
    reader.get_mut().write_all(b"220 here\r\n").await?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let answer = match verb.to_uppercase().as_str() {
            "EHLO" => "250-here\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n",
            "AUTH" => {
                login = rest.split_once(' ').map(|(_, shown)| shown.to_owned());
                "235 you are\r\n"
            }
            "RCPT" => {
                let inner = rest.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
                inner.context("a recipient")?.0.clone_into(&mut to);
                if refused {
                    tell.send(Letter { login: login.clone(), to: to.clone(), text: None }).await?;
                    "451 later\r\n"
                } else {
                    "250 well\r\n"
                }
            }
            "DATA" => {
                reader.get_mut().write_all(b"354 go on\r\n").await?;
                let text = whole(&mut reader).await?;
                // Who reads this has the answer too.
                reader.get_mut().write_all(b"250 taken\r\n").await?;
                tell.send(Letter { login: login.clone(), to: to.clone(), text: Some(text) }).await?;
                continue;
            }
            "QUIT" => {
                reader.get_mut().write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "250 well\r\n",
        };
        reader.get_mut().write_all(answer.as_bytes()).await?;
    }
}

/// What stands before the line with nothing but a dot.
async fn whole(reader: &mut BufReader<TcpStream>) -> Result<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await?;
        match line.trim_end() {
            "." => return Ok(text),
            line => text += &format!("{}\n", line.strip_prefix('.').unwrap_or(line)),
        }
    }
}
