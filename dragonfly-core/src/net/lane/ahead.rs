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
    records: Records,
}

impl ReadAhead {
    #[cfg(test)]
    pub(super) const fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(super) fn new(tcp: TcpStream) -> Self {
        Self { tcp, ahead: BytesMut::new(), records: Records::default() }
    }

    /// Whether all that has come was handed out, and it ends with a record: nothing of what is still to come is here, or
    /// half of a record in TLS.
    pub(super) fn is_between(&self) -> bool {
        self.ahead.is_empty() && self.records.is_between()
    }

    /// The socket. What was read ahead is lost.
    pub(super) fn into_tcp(self) -> TcpStream {
        self.tcp
    }
}

/// The head of a TLS record: type, version, length.
const RECORD_HEAD: usize = 5;

/// How far in a record the bytes are that were handed out.
#[derive(Default)]
struct Records {
    /// Bytes of the head of the one that comes now.
    head: usize,
    length: [u8; 2],
    /// Bytes of it that are still to come.
    body: usize,
}

impl Records {
    fn pass(&mut self, mut bytes: &[u8]) {
        loop {
            let part = self.body.min(bytes.len());
            self.body -= part;
            let Some((byte, rest)) = bytes[part..].split_first() else { return };
            if let Some(at) = (self.head + self.length.len()).checked_sub(RECORD_HEAD) {
                self.length[at] = *byte;
            }
            self.head += 1;
            if self.head == RECORD_HEAD {
                self.head = 0;
                self.body = u16::from_be_bytes(self.length).into();
            }
            bytes = rest;
        }
    }

    const fn is_between(&self) -> bool {
        self.head == 0 && self.body == 0
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, ahead, records } = self.get_mut();
        if ahead.is_empty() {
            ahead.reserve(READ_BYTES);
            let polled = poll_read_buf(Pin::new(tcp), cx, ahead);
            if polled.is_pending() {
                *ahead = BytesMut::new();
            }
            ready!(polled)?;
        }
        let part = ahead.len().min(buf.remaining());
        records.pass(&ahead[..part]);
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

    #[test]
    fn records_are_followed_however_they_are_cut() {
        let stream = [&[23, 3, 3, 0, 2, 8, 9][..], &[21, 3, 3, 0, 0], &[23, 3, 3, 1, 1], &[7; 257]].concat();
        let ends = [0, 7, 12, stream.len()];
        for step in 1..stream.len() {
            let mut records = Records::default();
            let mut passed = 0;
            for part in stream.chunks(step) {
                records.pass(part);
                passed += part.len();
                assert_eq!(records.is_between(), ends.contains(&passed), "{passed} in steps of {step}");
            }
        }
    }

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
