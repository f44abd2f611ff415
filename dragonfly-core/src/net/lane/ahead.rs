//! A lane's socket, read in large steps.
//!
//! rustls reads 4 KiB at a time, five times for each record. Each of these would be a call into the kernel.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

/// Bytes that are read from the kernel at once.
pub(in super::super) const READ_BYTES: usize = 64 << 10;

/// A socket and what was read ahead of it.
pub(super) struct ReadAhead {
    tcp: TcpStream,
    /// Without memory of its own while nothing comes.
    ahead: BytesMut,
}

impl ReadAhead {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self { tcp, ahead: BytesMut::new() }
    }

    #[cfg(test)]
    pub(super) const fn tcp(&self) -> &TcpStream {
        &self.tcp
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, ahead } = self.get_mut();
        if ahead.is_empty() {
            ahead.reserve(READ_BYTES);
            let polled = poll_read_buf(Pin::new(tcp), cx, ahead);
            if polled.is_pending() {
                *ahead = BytesMut::new();
            }
            ready!(polled)?;
        }
        let part = ahead.len().min(buf.remaining());
        buf.put_slice(&ahead[..part]);
        ahead.advance(part);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn bytes_come_in_order_and_nothing_is_kept_while_none_do() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut there = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        let mut here = ReadAhead::new(tcp);
        let sent: Vec<u8> = (0..3 * READ_BYTES + 7).map(|n| (n % 251) as u8).collect();
        let copy = sent.clone();
        let sending = tokio::spawn(async move {
            there.write_all(&copy).await.unwrap();
            there
        });
        let mut came = Vec::new();
        let mut part = [0; 4096];
        while came.len() < sent.len() {
            let read = here.read(&mut part).await.unwrap();
            assert_ne!(read, 0);
            came.extend_from_slice(&part[..read]);
        }
        assert!(came == sent, "other bytes came");
        let there = sending.await.unwrap();
        let next = futures::future::poll_fn(|cx| {
            assert!(Pin::new(&mut here).poll_read(cx, &mut ReadBuf::new(&mut part)).is_pending());
            Poll::Ready(here.ahead.capacity())
        });
        assert_eq!(next.await, 0);
        drop(there);
        assert_eq!(here.read(&mut part).await.unwrap(), 0, "its end is seen");
    }
}
