//! The body of an answer with content of the swarm.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use hyper::body::Frame;
use tokio::io::AsyncSeekExt as _;

use super::Inner;
use super::rest::{Onward, Rest};
use crate::peer::Reader;
use crate::task::DigestHasher;
use crate::{Error, ErrorKind, Event, Result};

/// For the error of a download whose reader has failed already.
const WHY_MAX: Duration = Duration::from_secs(5);

/// Content that is read for a client.
pub(super) struct Streaming {
    pub(super) gateway: Arc<Inner>,
    pub(super) reader: Reader,
    /// What is still to be read.
    pub(super) left: Range<u64>,
    /// Where it began.
    pub(super) began: u64,
    /// Whether the whole was checked, or need not be because not all of it is sent.
    pub(super) checked: bool,
}

impl Streaming {
    /// The next bytes; `None` at the end. The last ones of content come only once the whole was checked.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.left.is_empty() && self.checked {
            return Ok(None);
        }
        let mut chunk = Bytes::new();
        if !self.left.is_empty() {
            chunk = match self.read(self.left.end).await? {
                Ok(read) => read,
                // Content that is found to be wrong is taken away while it is read: the whole's error says why.
                Err(error) => return Err(self.why(error).await),
            };
        }
        let next = self.left.start + chunk.len() as u64;
        if next == self.left.end && !self.checked {
            self.verified().await?;
            self.checked = true;
        }
        self.left.start = next;
        self.gateway.counts.bytes.add(chunk.len() as u64);
        Ok(Some(chunk))
    }

    /// Reads what comes next before `end`, as soon as there is something to be read.
    ///
    /// # Errors
    /// Nothing came of the content for too long, be it these bytes or others.
    async fn read(&mut self, end: u64) -> Result<Result<Bytes>> {
        let patience = self.gateway.config.patience;
        let mut held = self.held();
        loop {
            if let Ok(read) = tokio::time::timeout(patience, self.reader.next(end)).await {
                let ends = || Error::new(ErrorKind::Internal, "the content ends before its length");
                return Ok(read.and_then(|read| if read.is_empty() { Err(ends()) } else { Ok(read) }));
            }
            if self.is_silent(&mut held) {
                let text = format!("nothing came through the swarm for {patience:?}");
                return Err(Error::new(ErrorKind::Timeout, text).temporary(true));
            }
        }
    }

    /// Waits until the whole was checked.
    ///
    /// # Errors
    /// It is wrong, or nothing came of what is missing for too long.
    pub(super) async fn verified(&mut self) -> Result<()> {
        let patience = self.gateway.config.patience;
        let mut held = self.held();
        loop {
            if let Ok(receipt) = tokio::time::timeout(patience, self.reader.receipt()).await {
                return receipt.map(drop);
            }
            let silent = self.is_silent(&mut held);
            // Once all is here this host alone takes its time, for what it reads and hashes: no server would be quicker.
            if silent && held < self.reader.length() {
                let text = format!("nothing of what comes before came through the swarm for {patience:?}");
                return Err(Error::new(ErrorKind::Timeout, text).temporary(true));
            }
        }
    }

    /// Whether nothing has come since so much was held; it is so much now.
    fn is_silent(&self, held: &mut u64) -> bool {
        let before = std::mem::replace(held, self.held());
        *held == before
    }

    /// Bytes of the content that are there, wherever.
    fn held(&self) -> u64 {
        match self.reader.progress() {
            Event::Progress { bytes, .. } => bytes,
            _ => 0,
        }
    }

    /// Goes on at the server with what was not sent yet, after `error`.
    ///
    /// # Errors
    /// What would come is not the same content, or cannot be had either.
    async fn go_on(mut self, rest: Rest, error: Error) -> Result<Onward> {
        // There is no right content to be had, or none of this version any more.
        if error.kind() == ErrorKind::DigestMismatch || error.is_changed() {
            return Err(error);
        }
        let at = self.left.start;
        tracing::info!(task = ?self.reader.task(), at, "the swarm has trouble, the server is asked for the rest: {error:?}");
        let (mut hasher, mut asked) = (None, self.left.clone());
        let digest = rest.digest.as_ref().filter(|_| !self.checked);
        if let Some(digest) = digest.filter(|_| self.began > 0) {
            // What comes before the part need not be held: the server has it, too.
            hasher = Some(DigestHasher::new(digest.algorithm()));
            asked.start = 0;
        } else if let Some(digest) = digest {
            // What was sent is held: it is read once more.
            let hasher = hasher.insert(DigestHasher::new(digest.algorithm()));
            self.reader.seek(io::SeekFrom::Start(0)).await.map_err(Error::from_read)?;
            let mut done = 0;
            while done < at {
                let chunk = self.read(at).await??;
                hasher.update(&chunk);
                done += chunk.len() as u64;
            }
        }
        let unsent = at - asked.start;
        let onward = rest.open(&self.gateway, (asked, self.reader.length()), (hasher, unsent)).await?;
        self.gateway.counts.continued.add(1);
        Ok(onward)
    }

    /// The error of the whole, if it has one by now, in place of a reader's.
    async fn why(&mut self, error: Error) -> Error {
        match tokio::time::timeout(WHY_MAX, self.reader.receipt()).await {
            Ok(Err(why)) => why,
            Ok(Ok(_)) | Err(_) => error,
        }
    }
}

/// Where the bytes of an answer come from.
enum Whence {
    Swarm(Streaming, Rest),
    Server(Onward),
}

impl Whence {
    /// The next bytes, and where those after them come from.
    async fn next(self) -> Result<Option<(Bytes, Self)>> {
        let mut onward = match self {
            Self::Server(onward) => onward,
            Self::Swarm(mut streaming, rest) => match streaming.next().await {
                Ok(bytes) => return Ok(bytes.map(|bytes| (bytes, Self::Swarm(streaming, rest)))),
                Err(error) => streaming.go_on(rest, error).await?,
            },
        };
        Ok(onward.next().await?.map(|bytes| (bytes, Self::Server(onward))))
    }
}

/// To be waited for before a body's error: HTTP sends what it has while a body has nothing. Else the client may never see
/// the head of the answer that is cut, and take it for none.
pub(super) async fn cut() {
    tokio::task::yield_now().await;
}

/// A failure is an error of the body, on which the connection is cut: the client sees that it is not all.
pub(super) fn frames(
    streaming: Streaming,
    rest: Rest,
    first: Option<Bytes>,
) -> impl Stream<Item = io::Result<Frame<Bytes>>> + Send {
    let task = streaming.reader.task();
    futures::stream::unfold(Some((Whence::Swarm(streaming, rest), first)), move |state| async move {
        let (from, first) = state?;
        let next = match first {
            Some(first) => Ok(Some((first, from))),
            None => from.next().await,
        };
        match next {
            Ok(next) => next.map(|(bytes, from)| (Ok(Frame::data(bytes)), Some((from, None)))),
            Err(error) => {
                tracing::warn!(?task, "an answer was cut short: {error:?}");
                cut().await;
                Some((Err(error.into()), None))
            }
        }
    })
}
