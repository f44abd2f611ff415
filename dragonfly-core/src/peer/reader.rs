//! Content as a stream: bytes are handed out as soon as their pieces are proven.

use std::io::{self, SeekFrom};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};

use super::content::{Content, Counts, State};
use super::download::Download;
use super::engine::{Engine, Want};
use crate::task::{Digest, HaveMap};
use crate::{Error, ErrorKind, Receipt, Result};

/// How many bytes are read from the store at a time, at least and at most: as many as there is room for in between. Each
/// read changes threads twice, which shows where the reader is another language's.
const CHUNK_BYTES: std::ops::RangeInclusive<u64> = 256 << 10..=1 << 20;

/// How far ahead of a reader pieces are asked for first.
const WINDOW_BYTES: u64 = 16 << 20;

/// Proven bytes of one piece of content, from any place, before the whole is complete.
///
/// Reads wait for the pieces that they need, which are fetched first; [`Error::from_read`] turns the error of a read
/// back into one of this library. Dropping the reader withdraws its interest
/// in the content. What it yields is *attested* at least; whether the whole matches a digest that the caller gave
/// is known at the end only: [`Reader::receipt`] says so.
pub struct Reader {
    engine: Engine,
    content: Arc<Content>,
    download: Download,
    _want: Want,
    /// What the whole is held to.
    digest: Option<Box<Digest>>,
    position: u64,
    /// Bytes read from the store, not yet handed out; they start at `position`.
    chunk: Bytes,
    pending: Option<BoxFuture<'static, Result<Bytes>>>,
    /// What [`arrivals`](Self::arrivals) has told.
    told: HaveMap,
}

impl Reader {
    pub(super) fn new(
        engine: Engine,
        content: Arc<Content>,
        download: Download,
        (want, digest): (Want, Option<Digest>),
    ) -> Self {
        let told = HaveMap::empty(content.layout.pieces());
        let (chunk, digest) = (Bytes::new(), digest.map(Box::new));
        Self { engine, content, download, _want: want, digest, position: 0, chunk, pending: None, told }
    }

    /// The content's length in bytes.
    pub fn length(&self) -> u64 {
        self.content.layout.length()
    }

    /// The task.
    pub fn task(&self) -> crate::task::TaskId {
        self.content.task
    }

    /// The version of its content.
    pub fn generation(&self) -> crate::task::Generation {
        self.content.generation
    }

    /// The digest that the whole is held to: the caller's, or the one that its URL names. What is read before
    /// [`receipt`](Self::receipt) has said so may be of content that does not have it.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_deref()
    }

    /// Whether all of it is held, and was found to have the digest that it is held to a short while ago.
    #[cfg(feature = "gateway")]
    pub(crate) fn is_verified(&self) -> bool {
        let known = self.digest.as_ref().and_then(|digest| self.content.root_of_digest(digest));
        self.content.is_complete() && known.is_some() && known == self.content.root()
    }

    /// Who may share it.
    #[cfg(feature = "gateway")]
    pub(crate) fn class(&self) -> crate::task::Class {
        self.content.entry.key().class
    }

    /// What tells this version from others at its origin.
    #[cfg(feature = "gateway")]
    pub(crate) fn validator(&self) -> Option<crate::task::Validator> {
        self.content.entry.described().validator.clone()
    }

    /// Progress of the download behind it, as [`Download::events`] tells it.
    pub fn events(&self) -> super::Events {
        self.download.events()
    }

    /// How far the content is, as [`Event::Progress`](crate::Event) says it; what came from where is counted from
    /// the time when this host began to take part.
    pub fn progress(&self) -> crate::Event {
        let layout = self.content.layout;
        let Counts { from_origin, from_peers } = self.content.counts();
        crate::Event::Progress {
            bytes: self.content.held_bytes(),
            length: layout.length(),
            from_origin,
            from_peers,
            neighbours: self.content.neighbours(),
        }
    }

    /// Whether every piece is held already.
    pub fn is_complete(&self) -> bool {
        self.content.is_complete()
    }

    /// A read-only descriptor of the file that holds the content; `None` where it has no file of its own (small content,
    /// content in memory). What is held is in its place there, see [`arrivals`](Self::arrivals); the rest is yet to come,
    /// and reads as anything. The content is not evicted while this reader lives. Cancel-safe.
    ///
    /// # Errors
    /// Its file cannot be opened.
    pub async fn descriptor(&mut self) -> Result<Option<std::fs::File>> {
        let entry = Arc::clone(&self.content.entry);
        self.engine.node().io().run(move || entry.descriptor()).await?.map_err(Error::from)
    }

    /// The ranges of bytes that are held and that this has not told before, in order; it waits until there are some.
    /// `None` once it has told all of the content. Unlike a read it has nothing fetched before the rest: pieces come in
    /// the order that is best for everyone.
    ///
    /// # Errors
    /// What keeps the rest from coming; [`receipt`](Self::receipt) may know better. Cancel-safe.
    pub async fn arrivals(&mut self) -> Result<Option<Vec<Range<u64>>>> {
        let content = Arc::clone(&self.content);
        let mut download = self.download.outcome();
        let mut fresh = Vec::new();
        let all = self.told.is_complete();
        if !all {
            until(&content, &mut download, || {
                let have = content.entry.have();
                let missing = |range: &Range<u32>| range.clone().any(|piece| !self.told.contains(piece));
                fresh = have.runs().filter(missing).collect();
                !fresh.is_empty()
            })
            .await?;
        }
        let mut ranges = Vec::new();
        for run in fresh {
            let mut from = run.start;
            // Parts of a run may have been told before.
            while from < run.end {
                let start = self.told.next(from, false).map_or(run.end, |start| start.min(run.end));
                let end = self.told.next(start, true).map_or(run.end, |end| end.min(run.end));
                if start < end {
                    ranges.push(content.layout.offset(start)..content.layout.offset(end).min(content.layout.length()));
                }
                from = end.max(start);
            }
            self.told.insert_range(run);
        }
        Ok((!all).then_some(ranges))
    }

    /// Waits until every piece is held and the whole was checked.
    ///
    /// # Errors
    /// Whatever kept the content from being completed or verified, or from being what this reads: what others attested may
    /// have been taken from the origin anew. Cancel-safe.
    pub async fn receipt(&mut self) -> Result<Receipt> {
        let receipt = (&mut self.download).await?;
        if self.content.root().is_none_or(|root| root[..] != *receipt.blake3.bytes()) {
            let error = Error::new(ErrorKind::Origin, "other content took the place of what was read");
            // Also of the same version: what was read of it is wrong, and the rest of the right one does not go with it.
            return Err(error.temporary(true).changed(true));
        }
        Ok(receipt)
    }

    /// The next bytes before `end`, as they were read from the store; none at the end. Those after them are read
    /// meanwhile. Cancel-safe.
    ///
    /// # Errors
    /// What keeps them from coming.
    #[cfg(feature = "gateway")]
    pub(crate) async fn next(&mut self, end: u64) -> Result<Bytes> {
        let end = end.min(self.length());
        let room = |position: u64| end.saturating_sub(position).min(*CHUNK_BYTES.start()) as usize;
        let wanted = room(self.position);
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        if !self.chunk.has_remaining() {
            let pending = self.pending.take().unwrap_or_else(|| self.read_chunk(wanted));
            let read = self.pending.insert(pending).await;
            self.pending = None;
            self.chunk = read?;
        }
        let taken = self.chunk.split_to(self.chunk.len().min(wanted));
        self.position += taken.len() as u64;
        let (ahead, piece) = (room(self.position), (self.position / self.content.layout.piece_length()) as u32);
        if !self.chunk.has_remaining() && ahead > 0 && self.content.entry.is_held(piece) {
            // Not polled here: it has a place among the jobs for the disk, which a slow client must not keep from others.
            let read = self.engine.node().runtime().spawn(self.read_chunk(ahead));
            let stopped = |e| Error::new(ErrorKind::Cancelled, "the runtime stopped").caused_by(e);
            self.pending = Some(async move { read.await.map_err(stopped)? }.boxed());
        }
        Ok(taken)
    }

    fn read_chunk(&self, room: usize) -> BoxFuture<'static, Result<Bytes>> {
        let (engine, content, position) = (self.engine.clone(), Arc::clone(&self.content), self.position);
        let download = self.download.outcome();
        let most = (room as u64).clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end());
        async move {
            let layout = content.layout;
            let piece = (position / layout.piece_length()) as u32;
            if !content.entry.is_held(piece) {
                let ahead = layout.pieces_of(position..position.saturating_add(WINDOW_BYTES));
                engine.window(content.key, ahead).await;
                held(&content, piece, download).await?;
            }
            // As many of the pieces after it as are held, too: most are of a few tens of KiB.
            let wanted = layout.pieces_of(position..position.saturating_add(most).min(layout.length()));
            let last = wanted.take_while(|piece| content.entry.is_held(*piece)).last().unwrap_or(piece);
            let end = layout.range_of(last).map_or(position, |range| range.end).min(position + most);
            let read = move || {
                let mut bytes = vec![0; (end - position) as usize];
                content.entry.read_at(position, &mut bytes).map(|()| Bytes::from(bytes))
            };
            engine.node().io().run(read).await?.map_err(Error::from)
        }
        .boxed()
    }
}

/// Waits until a piece is held, or until the download that is to bring it has failed. Cancel-safe.
async fn held(content: &Content, piece: u32, download: impl Future<Output = Result<Receipt>> + Unpin) -> Result<()> {
    until(content, download, || content.entry.is_held(piece)).await
}

/// Waits until something holds of content, which is looked at whenever it has changed, or until its download has failed.
/// Cancel-safe.
async fn until(
    content: &Content,
    mut download: impl Future<Output = Result<Receipt>> + Unpin,
    mut holds: impl FnMut() -> bool,
) -> Result<()> {
    let mut state = content.watch();
    let mut ended = false;
    loop {
        let now = state.borrow_and_update().clone();
        if holds() {
            return Ok(());
        }
        match now {
            State::Failed(error) => return Err(error),
            State::Superseded => {
                return Err(Error::new(ErrorKind::Origin, "the content changed at its origin while it was read")
                    .temporary(true)
                    .changed(true));
            }
            State::Complete | State::Running(_) => {}
        }
        tokio::select! {
            changed = state.changed() => changed
                .map_err(|_| Error::new(ErrorKind::Cancelled, "the engine has stopped"))?,
            outcome = &mut download, if !ended => {
                outcome?;
                ended = true;
            }
        }
    }
}

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.chunk.has_remaining() {
                let take = self.chunk.len().min(buf.remaining());
                buf.put_slice(&self.chunk.split_to(take));
                self.position += take as u64;
                return Poll::Ready(Ok(()));
            }
            if self.position >= self.length() || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let mut pending = self.pending.take().unwrap_or_else(|| self.read_chunk(buf.remaining()));
            match pending.poll_unpin(cx) {
                Poll::Pending => {
                    self.pending = Some(pending);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(chunk)) => self.chunk = chunk,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncSeek for Reader {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.length().checked_add_signed(by),
        };
        let target = target
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek to before the start of the content"))?;
        if target != self.position {
            self.position = target;
            self.chunk = Bytes::new();
            self.pending = None;
        }
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.download.cancel();
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("content", &self.content)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
