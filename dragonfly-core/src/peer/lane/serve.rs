//! Pieces that are served: block by block, out of memory into which they were read, or, on a lane that is not encrypted, from
//! the file to the socket inside the kernel.
//!
//! What is not in the page cache would block an async thread in `sendfile`, and with it every lane that it has. So a disk thread
//! has the kernel read it first, more at a time than of what goes through memory, since it takes none of ours. `sendfile` itself
//! is not for a disk thread: on a socket that takes 64 KiB at a time that would be a change of threads for every block.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::writer::{PART_BYTES, Writer, stalled};
use super::{Lane, LaneError};
use crate::net::Direct;
use crate::node::in_time;
use crate::peer::content::Content;
use crate::peer::event::LaneEvent;
use crate::store::UseGuard;
use crate::swarm::Input;
use crate::wire::codec;
use crate::wire::lane::{BLOCK_BYTES_MAX, Message, RejectReason};

/// How many bytes of a piece are read from the store at a time.
const READ_BYTES: usize = 256 << 10;

/// How many are read into the page cache at a time where they go from there to the socket.
pub(super) const CACHED_BYTES: usize = 1 << 20;

/// A piece being served.
pub(super) struct Serving {
    pub(super) content: Arc<Content>,
    pub(super) request: u32,
    piece: u32,
    /// Where in the piece the next block starts, and where the piece ends.
    offset: u32,
    length: u32,
    sent: u32,
    ready: Ready,
    /// What is being served is not evicted.
    _guard: UseGuard,
}

/// What can be sent at once.
enum Ready {
    /// What was read, and how much of it is sent.
    Read { chunk: BytesMut, sent: usize },
    /// So many bytes more of the file are in the page cache.
    Cached { file: Arc<File>, left: usize },
}

impl Ready {
    fn left(&self) -> usize {
        match self {
            Self::Read { chunk, sent } => chunk.len() - sent,
            Self::Cached { left, .. } => *left,
        }
    }
}

impl Serving {
    /// `bytes`: those of the piece that are to be sent, with the piece's end.
    pub(super) fn new(content: Arc<Content>, (request, piece): (u32, u32), bytes: Range<u32>, guard: UseGuard) -> Self {
        let ready = Ready::Read { chunk: BytesMut::new(), sent: 0 };
        Self { content, request, piece, offset: bytes.start, length: bytes.end, sent: 0, ready, _guard: guard }
    }

    /// Where in the content the next block starts.
    fn position(&self) -> u64 {
        self.content.layout.offset(self.piece) + u64::from(self.offset)
    }

    /// How many of the next bytes there are, at most so many.
    fn next(&self, most: usize) -> usize {
        most.min((self.length - self.offset) as usize)
    }

    /// Gets the next bytes ready; false: they cannot be read.
    async fn get_ready(&mut self, lane: &Lane, direct: bool) -> bool {
        if direct && let Some(ready) = self.cache(lane).await {
            return ready;
        }
        let length = self.next(READ_BYTES);
        let chunk = match &mut self.ready {
            Ready::Read { chunk, .. } if chunk.capacity() > 0 => std::mem::take(chunk),
            _ => lane.node.buffers().take(length),
        };
        let chunk = read(lane, self, self.position(), length, chunk).await;
        let is_read = chunk.is_some();
        self.ready = Ready::Read { chunk: chunk.unwrap_or_default(), sent: 0 };
        is_read
    }

    /// Has the next bytes be in the page cache; whether they can be read; `None`: they are in no file.
    async fn cache(&mut self, lane: &Lane) -> Option<bool> {
        let (entry, position, length) = (Arc::clone(&self.content.entry), self.position(), self.next(CACHED_BYTES));
        // The neighbour notices by itself that nothing comes.
        match lane.node.io().run_however_long(move || entry.cache(position, length)).await {
            Ok(Ok(None)) => None,
            Ok(Ok(Some(file))) => {
                self.ready = Ready::Cached { file, left: length };
                Some(true)
            }
            Ok(Err(error)) => {
                tracing::warn!(task = ?self.content.task, piece = self.piece, %error, "cannot read a piece");
                Some(false)
            }
            Err(_) => Some(false),
        }
    }

    fn advance(&mut self, length: usize) {
        match &mut self.ready {
            Ready::Read { sent, .. } => *sent += length,
            Ready::Cached { left, .. } => *left -= length,
        }
        self.offset += length as u32;
        self.sent += length as u32;
    }
}

impl<W: AsyncWrite + Unpin> Writer<'_, W> {
    /// Sends one block of the piece at the front, or of the next one if it cannot be read.
    pub(super) async fn send_block(&mut self) -> Result<(), LaneError> {
        let Some(mut serving) = self.serving.pop_front() else { return Ok(()) };
        let is_direct = self.direct.is_some();
        if !is_direct && matches!(serving.ready, Ready::Cached { .. }) {
            // It was to go out by `sendfile`, which does not do here.
            serving.ready = Ready::Read { chunk: BytesMut::new(), sent: 0 };
        }
        if serving.ready.left() == 0
            && serving.offset < serving.length
            && !serving.get_ready(self.lane, is_direct).await
        {
            let request = serving.request;
            self.message(Message::Reject { request, reason: RejectReason::Unreadable })?;
            return self.lane.tell(LaneEvent::Unreadable { request }).await;
        }
        let length = serving.ready.left().min(BLOCK_BYTES_MAX);
        if length > 0 {
            self.lane.node.throttles().upload.pass(length).await;
            serving.content.throttles.upload.pass(length).await;
            if self.buffer.len() > PART_BYTES {
                self.flush().await?;
            }
            let header = codec::block_header(serving.request, serving.piece, serving.offset, length)?;
            self.buffer.extend_from_slice(&header);
            match &serving.ready {
                Ready::Read { chunk, sent } => {
                    let block = &chunk[*sent..sent + length];
                    // In one go: a header of its own would cost a record and a call into the kernel.
                    let mut both = (&mut self.buffer).chain(block);
                    in_time(self.output.write_all_buf(&mut both)).await.map_err(stalled)?;
                }
                Ready::Cached { file, .. } => self.send_cached(&serving, file, length).await?,
            }
            serving.advance(length);
            self.lane.node.metrics().bytes_to_peers.add(length as u64);
            self.served.sent(&serving.content, (self.lane.node.peer_id(), self.lane.peer), length);
        }
        if serving.offset < serving.length {
            // At the back: pieces that are served at the same time share the lane by blocks.
            self.serving.push_back(serving);
            return Ok(());
        }
        let Serving { request, piece, sent, ready, .. } = serving;
        if let Ready::Read { chunk, .. } = ready {
            self.lane.node.buffers().give(chunk);
        }
        let input = Input::Sent { host: self.lane.host, request, piece, bytes: sent };
        self.lane.tell(LaneEvent::Input(input)).await
    }

    /// Sends what was said, and `length` bytes of a file, of which the header was said last.
    async fn send_cached(&mut self, serving: &Serving, file: &File, length: usize) -> Result<(), LaneError> {
        let Some(direct) = &self.direct else { return Err(LaneError::Cut) };
        let position = serving.position();
        let send = send_file(direct, &mut self.buffer, (file, position), length);
        let sent = in_time(send).await.map_err(stalled)?;
        self.lane.node.metrics().bytes_direct.add(sent as u64);
        if sent == length {
            return Ok(());
        }
        // The file ends there by now, or this kind of file does not do. The header is out: who waits for the block must have it.
        tracing::debug!(task = ?serving.content.task, sent, length, "sendfile does not send a block: it is read");
        self.direct = None;
        let rest = read(self.lane, serving, position + sent as u64, length - sent, BytesMut::new()).await;
        let Some(mut rest) = rest else {
            self.lane.tell(LaneEvent::Unreadable { request: serving.request }).await?;
            return Err(LaneError::Cut);
        };
        in_time(self.output.write_all_buf(&mut rest)).await.map_err(stalled)
    }
}

/// Sends `head`, and bytes of a file in the same packets: how many of these.
async fn send_file(
    direct: &Direct,
    head: &mut BytesMut,
    (file, position): (&File, u64),
    length: usize,
) -> std::io::Result<usize> {
    direct.send_head(head).await?;
    let mut sent = 0;
    while sent < length {
        match direct.send_file(file, position + sent as u64, length - sent).await {
            // Whatever it is, who reads the rest will be told.
            Ok(0) | Err(_) => break,
            Ok(more) => sent += more,
        }
    }
    Ok(sent)
}

/// Reads bytes of the content of a piece into `chunk`, whatever is in it.
async fn read(lane: &Lane, serving: &Serving, from: u64, length: usize, mut chunk: BytesMut) -> Option<BytesMut> {
    let entry = Arc::clone(&serving.content.entry);
    let read = move || {
        chunk.resize(length, 0);
        entry.read_at(from, &mut chunk).map(|()| chunk)
    };
    // The neighbour notices by itself that nothing comes.
    match lane.node.io().run_however_long(read).await {
        Ok(Ok(bytes)) => Some(bytes),
        Ok(Err(error)) => {
            tracing::warn!(task = ?serving.content.task, piece = serving.piece, %error, "cannot read a piece");
            None
        }
        Err(_) => None,
    }
}
