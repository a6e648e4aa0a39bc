//! The bytes between lapin and the broker: what is written goes out as it is, what is read goes through the
//! [`Screen`].

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_util::io::{AsyncRead, AsyncWrite};
use futures_util::stream::Stream;
use lapin::tcp::AsyncTcpStream;

use super::screen::Screen;

/// How much is read from the broker at once, in bytes.
const AT_ONCE: usize = 32 << 10;

/// A connection to the broker, with or without TLS.
pub(super) type Raw = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;

/// A connection whose messages are looked at before they are read.
pub(super) struct Screened {
    raw: Raw,
    screen: Screen,
    came: Box<[u8]>,
    /// What may be read, from `at` on.
    ready: Vec<u8>,
    at: usize,
}

impl Screened {
    /// Looks at what this connection brings.
    pub(super) fn new(raw: Raw) -> Self {
        Self { raw, screen: Screen::default(), came: vec![0; AT_ONCE].into(), ready: Vec::new(), at: 0 }
    }
}

impl AsyncRead for Screened {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { raw, screen, came, ready, at } = self.get_mut();
        while *at == ready.len() {
            ready.clear();
            *at = 0;
            let count = ready!(Pin::new(&mut *raw).poll_read(cx, came))?;
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
            screen.pass(&came[..count], ready)?;
        }
        let count = buf.len().min(ready.len() - *at);
        buf[..count].copy_from_slice(&ready[*at..*at + count]);
        *at += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Screened {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().raw).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().raw).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().raw).poll_close(cx)
    }
}

/// tokio's own way to wait, with connections that are looked at. lapin asks its runtime for the type of them.
#[derive(Debug, Clone)]
pub(super) struct Waits(Tokio);

/// What lapin runs on: the runtime that this is called in.
pub(super) fn runtime() -> Runtime<RuntimeParts<Tokio, Waits>> {
    Runtime::new(RuntimeParts::new(Tokio::current(), Waits(Tokio::current())))
}

impl Reactor for Waits {
    type TcpStream = Screened;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: io::Read + io::Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, dur: Duration) -> Self::Sleep {
        self.0.sleep(dur)
    }

    fn interval(&self, dur: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(dur)
    }

    fn tcp_connect_addr(&self, addr: SocketAddr) -> impl Future<Output = io::Result<Screened>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(addr);
        async move { Ok(Screened::new(AsyncTcpStream::Plain(connecting.await?))) }
    }
}
