//! A lane's socket without TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::io::poll_read_buf;

use super::direct::Direct;

/// Bytes that are read from the kernel at once where fewer are asked for: the heads of frames. The rest of a block goes
/// straight to where it is wanted, so that no more than this of it is copied twice.
const READ_BYTES: usize = 4 << 10;

/// A socket, and what was read ahead of it.
pub(super) struct Plain {
    input: OwnedReadHalf,
    output: Arc<OwnedWriteHalf>,
    /// Without memory of its own while nothing comes.
    ahead: BytesMut,
}

impl Plain {
    pub(super) fn new(tcp: TcpStream) -> Self {
        let (input, output) = tcp.into_split();
        Self { input, output: Arc::new(output), ahead: BytesMut::new() }
    }

    /// A way for the bytes of files past the memory of this process, where the system has one.
    pub(super) fn direct(&self) -> Option<Direct> {
        Direct::of(&self.output)
    }

    /// Tries `write` once the socket takes something.
    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&OwnedWriteHalf) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.output.as_ref().as_ref().poll_write_ready(cx))?;
            match write(&self.output) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}

impl AsyncRead for Plain {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { input, ahead, .. } = self.get_mut();
        if ahead.is_empty() {
            if buf.remaining() >= READ_BYTES {
                *ahead = BytesMut::new();
                return Pin::new(input).poll_read(cx, buf);
            }
            ahead.reserve(READ_BYTES);
            let polled = poll_read_buf(Pin::new(input), cx, ahead);
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

impl AsyncWrite for Plain {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |output| output.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |output| output.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tcp: &TcpStream = self.output.as_ref().as_ref();
        Poll::Ready(SockRef::from(tcp).shutdown(std::net::Shutdown::Write))
    }
}
