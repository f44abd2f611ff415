//! Content whose origin does not say how long it is: taken in whole, before it has a name, under the lease to describe it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use super::arrivals::{PROGRESS_INTERVAL, meanwhile, pass};
use super::event::Event;
use super::origin::OriginBody;
use crate::node::Node;
use crate::source::{SourceError, SourceErrorKind};
use crate::store::Spool;
use crate::swarm::PROGRESS_BYTES_MIN;
use crate::task::{Layout, PIECE_LENGTH_UNKNOWN, PIECES_MAX, PieceHash, PieceHasher, TaskId};
use crate::wire::control::LeaseId;
use crate::{Error, ErrorKind};

/// A disk that has not taken a part of it in so long is dead: who waits has the minute of a lease to describe, and is to be told
/// before it is over.
pub(super) const DEAD_DISK: Duration = Duration::from_secs(45);

/// Content of unknown length, taken in whole.
pub(super) struct Spooled {
    pub(super) spool: Box<dyn Spool>,
    pub(super) values: Vec<PieceHash>,
    /// Its place among those that are under way.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// Who waits for a place for what is to be described, and keeps its lease meanwhile.
pub(super) struct Waiting<'a> {
    pub(super) task: TaskId,
    pub(super) lease: LeaseId,
    pub(super) events: &'a mpsc::Sender<Event>,
}

impl Waiting<'_> {
    /// Renews its lease; `end`: how much was taken in so far, in steps of its own.
    async fn renew(&self, end: u32) {
        let _ = self.events.send(Event::LeaseProgress { task: self.task, lease: self.lease, end }).await;
    }

    /// It says that it is there, and not that it gets on: where others wait for what it finds it has its minute, and another host is
    /// asked after that.
    pub(super) async fn place<T>(&self, free: impl Future<Output = T>) -> T {
        meanwhile(free, PROGRESS_INTERVAL, || self.renew(0)).await
    }

    /// What a job for the disk comes to, which has to be done soon once it is begun. `end`: see [`renew`](Self::renew).
    async fn disk<T: Send + 'static>(
        &self,
        node: &Node,
        end: u32,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> crate::Result<T> {
        let began = Arc::new(Notify::new());
        let of_job = Arc::clone(&began);
        let work = node.io().run(move || {
            of_job.notify_one();
            job()
        });
        let dead = async {
            began.notified().await;
            tokio::time::sleep(DEAD_DISK).await;
        };
        let done = async {
            tokio::select! {
                biased;
                done = work => done,
                () = dead => {
                    let context = format!("the disk of this host has taken nothing for {DEAD_DISK:?}");
                    Err(Error::new(ErrorKind::Timeout, context).temporary(true))
                }
            }
        };
        meanwhile(done, PROGRESS_INTERVAL, || self.renew(end)).await
    }

    /// Who waits for it here is told what happened before the lease is given back.
    async fn failed(&self, error: Error) -> SourceError {
        let failure = local_error(error.to_string());
        let _ = self.events.send(Event::SpoolFailed { task: self.task, error }).await;
        failure
    }
}

/// Takes in a body of unknown length.
pub(super) async fn spool(
    node: &Node,
    (mut body, mut place): (OriginBody, Option<OwnedSemaphorePermit>),
    waiting: Waiting<'_>,
) -> Result<(Spooled, u64), SourceError> {
    let store = Arc::clone(node.store());
    let mut spool = match waiting.disk(node, 0, move || store.spool()).await {
        Ok(created) => created.map_err(|e| local_error(e.to_string()))?,
        Err(error) => return Err(waiting.failed(error).await),
    };
    let mut values = Vec::new();
    let mut hasher = PieceHasher::new(0, PIECE_LENGTH_UNKNOWN);
    let mut length = 0_u64;
    let mut renewed = Instant::now();
    let throttles = node.task_throttles();
    while let Some(bytes) = body.next().await {
        let bytes = bytes?;
        let end = 1 + (length / PROGRESS_BYTES_MIN) as u32;
        meanwhile(pass(node, &throttles, bytes.len()), PROGRESS_INTERVAL, || waiting.renew(end)).await;
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            if hasher.taken() == PIECE_LENGTH_UNKNOWN {
                // A byte follows, so the piece is not the only one: its value is not the root's.
                let index = values.len() as u32;
                if index >= PIECES_MAX - 1 {
                    return Err(local_error(format!("more than {PIECES_MAX} MiB of unknown length")));
                }
                let finished = std::mem::replace(&mut hasher, PieceHasher::new(index + 1, PIECE_LENGTH_UNKNOWN));
                values.push(finish(finished, length + 1, index)?);
            }
            let take = rest.len().min((PIECE_LENGTH_UNKNOWN - hasher.taken()) as usize);
            hasher.update(&rest[..take]).map_err(|e| local_error(e.to_string()))?;
            length += take as u64;
            rest = &rest[take..];
        }
        let appended = move || {
            let outcome = spool.append(&bytes);
            // Its place goes with it: it is one of those under way until the last job for it is done.
            (spool, place, outcome)
        };
        let outcome;
        let none = || format!("after {length} bytes of unknown length, none of which can be kept");
        (spool, place, outcome) = match waiting.disk(node, end, appended).await {
            Ok(done) => done,
            Err(error) => return Err(waiting.failed(error.and(&none())).await),
        };
        if let Err(error) = outcome {
            return Err(waiting.failed(Error::from(error).and(&none())).await);
        }
        if renewed.elapsed() >= PROGRESS_INTERVAL {
            renewed = Instant::now();
            waiting.renew(1 + (length / PROGRESS_BYTES_MIN) as u32).await;
        }
    }
    if length > 0 {
        let index = values.len() as u32;
        values.push(finish(hasher, length, index)?);
    }
    Ok((Spooled { spool, values, place }, length))
}

fn finish(hasher: PieceHasher, length: u64, index: u32) -> Result<PieceHash, SourceError> {
    let layout = Layout::new(length, PIECE_LENGTH_UNKNOWN).map_err(|e| local_error(e.to_string()))?;
    hasher.finish(&layout, index).map_err(|e| local_error(e.to_string()))
}

/// An error of this host's own while it worked for an origin's content.
fn local_error(error: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Local, error)
}
