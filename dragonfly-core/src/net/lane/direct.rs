//! Bytes of a file to a lane's socket without passing through the memory of this process: `sendfile`, on Linux.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::tcp::OwnedWriteHalf;

/// A lane's socket, for the bytes of files. It writes to the same socket as the lane: one of the two at a time.
#[derive(Clone, Debug)]
pub(crate) struct Direct {
    #[cfg(target_os = "linux")]
    half: Arc<OwnedWriteHalf>,
    /// No file can be sent so, as where a sandbox forbids it.
    #[cfg(test)]
    fails: bool,
}

#[cfg(test)]
impl Direct {
    pub(crate) fn failing(self) -> Self {
        Self { fails: true, ..self }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use bytes::Buf as _;
    use rustix::net::{SendFlags, send};
    use tokio::io::Interest;
    use tokio::net::TcpStream;

    use super::*;
    use crate::runtime::pipe;

    impl Direct {
        /// `None` in a program that has not said that it ignores `SIGPIPE`: `sendfile` has no flag to do without it, and the
        /// other end may close at any time.
        pub(in super::super) fn of(tcp: &Arc<OwnedWriteHalf>) -> Option<Self> {
            pipe::is_ignored().then(|| Self {
                half: Arc::clone(tcp),
                #[cfg(test)]
                fails: false,
            })
        }

        fn tcp(&self) -> &TcpStream {
            self.half.as_ref().as_ref()
        }

        /// Sends `head`, which the kernel keeps for a moment so that what follows shares its packets. Not cancel-safe:
        /// what was not sent is left in `head`.
        pub(crate) async fn send_head(&self, head: &mut BytesMut) -> io::Result<()> {
            while !head.is_empty() {
                let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
                let sent = self.tcp().async_io(Interest::WRITABLE, || Ok(send(self.tcp(), head, flags)?)).await?;
                head.advance(sent);
            }
            Ok(())
        }

        /// Sends the next bytes of `file` from `offset` on, `length` at the most: how many, as soon as some went out; 0: the
        /// file ends there. Blocks the thread where they are not in the page cache. Cancel-safe.
        pub(crate) async fn send_file(&self, file: &File, offset: u64, length: usize) -> io::Result<usize> {
            #[cfg(test)]
            if self.fails {
                return Err(io::ErrorKind::Unsupported.into());
            }
            let send = || Ok(rustix::fs::sendfile(self.tcp(), file, Some(&mut offset.clone()), length)?);
            self.tcp().async_io(Interest::WRITABLE, send).await
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Direct {
    pub(super) fn of(_: &Arc<OwnedWriteHalf>) -> Option<Self> {
        None
    }

    pub(crate) async fn send_head(&self, _: &mut BytesMut) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) async fn send_file(&self, _: &File, _: u64, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
