//! A stream between two hosts, whatever carries it.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::lane::{Connection, Direct};
use super::streams::Muxed;
use crate::wire::PeerId;

/// A stream to a peer: bytes in order, both ways, with back-pressure.
///
/// What was written last may wait in this host until it is flushed (`AsyncWriteExt::flush`), for as long as nothing else
/// is written. Shut it down (`AsyncWriteExt::shutdown`) when all is written: dropping it before that resets it, and the other end
/// may lose what it has not read. It keeps its connection alive. That the peer does not speak the protocol shows as an
/// error of the first read.
#[derive(Debug)]
pub struct Stream(Inner);

#[derive(Debug)]
enum Inner {
    Lane(Box<Connection>),
    Muxed(Box<Muxed>),
}

/// What carries a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carrier {
    /// A TCP connection of its own, with TLS.
    Lane,
    /// A TCP connection of its own that was proven by TLS and is not encrypted any more.
    Plain,
    /// A stream among others of a libp2p connection.
    Muxed,
}

impl Carrier {
    /// Its name in listings and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lane => "lane",
            Self::Plain => "plain",
            Self::Muxed => "stream",
        }
    }
}

impl Stream {
    /// What carries it.
    pub const fn carrier(&self) -> Carrier {
        match &self.0 {
            Inner::Lane(lane) if lane.is_plain() => Carrier::Plain,
            Inner::Lane(_) => Carrier::Lane,
            Inner::Muxed(_) => Carrier::Muxed,
        }
    }

    /// A way for the bytes of files past the memory of this process, where there is one.
    pub(crate) fn direct(&self) -> Option<Direct> {
        match &self.0 {
            Inner::Lane(lane) => lane.direct(),
            Inner::Muxed(_) => None,
        }
    }
}

#[cfg(test)]
impl Stream {
    /// The lane that it is.
    pub(super) fn lane(&self) -> Option<&Connection> {
        match &self.0 {
            Inner::Lane(lane) => Some(lane),
            Inner::Muxed(_) => None,
        }
    }
}

impl From<Connection> for Stream {
    fn from(connection: Connection) -> Self {
        Self(Inner::Lane(Box::new(connection)))
    }
}

impl From<Muxed> for Stream {
    fn from(stream: Muxed) -> Self {
        Self(Inner::Muxed(Box::new(stream)))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Inner::Lane(lane) => Pin::new(lane).poll_read(cx, buf),
            Inner::Muxed(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Inner::Lane(lane) => Pin::new(lane).poll_write(cx, buf),
            Inner::Muxed(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Inner::Lane(lane) => Pin::new(lane).poll_write_vectored(cx, bufs),
            Inner::Muxed(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Inner::Lane(lane) => lane.is_write_vectored(),
            Inner::Muxed(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Inner::Lane(lane) => Pin::new(lane).poll_flush(cx),
            Inner::Muxed(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Inner::Lane(lane) => Pin::new(lane).poll_shutdown(cx),
            Inner::Muxed(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A stream that a peer opened.
#[derive(Debug)]
pub struct Incoming {
    /// Who opened it: proven and admitted.
    pub peer: PeerId,
    /// The protocol it was opened for.
    pub protocol: &'static str,
    /// The peer's address on this connection, where it is an IP address.
    pub remote_ip: Option<IpAddr>,
    /// The stream.
    pub stream: Stream,
}
