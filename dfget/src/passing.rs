//! Descriptors over a Unix socket, beside the bytes: the daemon passes a read-only descriptor of complete content
//! out, and the client copies from it. The copying then is the client's work, under its quota and its limits.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// Descriptors that come with one read: one is used, more are closed.
const DESCRIPTORS_MAX: usize = 4;

/// The place of one descriptor: on its way out, or come in and not taken yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<OwnedFd>>>);

impl Slot {
    /// Puts a descriptor in; one that was there is closed.
    pub(crate) fn put(&self, fd: OwnedFd) {
        *self.lock() = Some(fd);
    }

    /// Takes the descriptor out.
    pub(crate) fn take(&self) -> Option<OwnedFd> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The daemon's end: what is in the slot goes out with the next bytes.
#[derive(Debug)]
pub(crate) struct Sending {
    stream: UnixStream,
    slot: Slot,
}

impl Sending {
    pub(crate) fn new(stream: UnixStream) -> (Self, Slot) {
        let slot = Slot::default();
        (Self { stream, slot: slot.clone() }, slot)
    }
}

impl AsyncRead for Sending {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Sending {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(fd) = self.slot.take() else {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        };
        loop {
            if let Err(e) = match self.stream.poll_write_ready(cx) {
                Poll::Ready(ready) => ready,
                Poll::Pending => {
                    self.slot.put(fd);
                    return Poll::Pending;
                }
            } {
                return Poll::Ready(Err(e));
            }
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let fds = [fd.as_fd()];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                control.push(SendAncillaryMessage::ScmRights(&fds));
                Ok(sendmsg(&self.stream, bufs, &mut control, SendFlags::NOSIGNAL)?)
            });
            match sent {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The client's end: a descriptor that comes with bytes is put into the slot.
#[derive(Debug)]
pub(crate) struct Receiving {
    stream: UnixStream,
    slot: Slot,
}

impl Receiving {
    pub(crate) fn new(stream: UnixStream) -> (Self, Slot) {
        let slot = Slot::default();
        (Self { stream, slot: slot.clone() }, slot)
    }

    fn receive(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(&self.stream, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                fds.for_each(|fd| self.slot.put(fd));
            }
        }
        Ok(got.bytes)
    }
}

impl AsyncRead for Receiving {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let bytes = buf.initialize_unfilled();
            match self.stream.try_io(Interest::READABLE, || self.receive(bytes)) {
                Ok(n) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl AsyncWrite for Receiving {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::File;
    use std::io::{Read, Write};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_descriptor_goes_with_the_bytes_and_only_once() {
        let (a, b) = UnixStream::pair().unwrap();
        let ((mut sending, out), (mut receiving, come)) = (Sending::new(a), Receiving::new(b));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        sending.write_all(b"first").await.unwrap();
        out.put(file.into());
        sending.write_all(b"second").await.unwrap();
        sending.write_all(b"third").await.unwrap();
        let mut text = [0; 5];
        receiving.read_exact(&mut text).await.unwrap();
        assert!(come.take().is_none(), "it belongs to the bytes after these");
        let mut text = [0; 11];
        receiving.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"secondthird");
        let mut file = File::from(come.take().unwrap());
        io::Seek::rewind(&mut file).unwrap();
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
        assert!(come.take().is_none() && out.take().is_none());
    }
}
