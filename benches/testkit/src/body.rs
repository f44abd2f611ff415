//! Bodies that are computed while they are sent, counted as they are handed to the connection, and that fail on
//! demand.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::Sleep;

use crate::counters::UnderWay;
use crate::resource::{Content, Pacer};

/// Bytes in one part where no rate limits them.
const PART: usize = 64 * 1024;

/// What happens to a body when it has sent so many bytes.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    Reset(u64),
    Stall(u64),
}

pub(crate) struct ContentBody {
    pub(crate) content: Content,
    pub(crate) position: u64,
    /// Exclusive; `u64::MAX` never ends.
    pub(crate) end: u64,
    pub(crate) sent: u64,
    pub(crate) fault: Option<Fault>,
    pub(crate) flushed: bool,
    pub(crate) pacers: Vec<Arc<Pacer>>,
    pub(crate) wait: Option<Pin<Box<Sleep>>>,
    pub(crate) count: Arc<AtomicU64>,
    pub(crate) _under_way: UnderWay,
}

impl Body for ContentBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if let Some(wait) = &mut this.wait {
            match wait.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => this.wait = None,
            }
        }
        let mut room = this.end - this.position;
        match this.fault {
            // What was handed over is sent before the connection breaks: hyper flushes when a body has nothing.
            Some(Fault::Reset(at)) if this.sent >= at && !this.flushed => {
                this.flushed = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Fault::Reset(at)) if this.sent >= at => {
                return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::ConnectionReset, "reset on demand"))));
            }
            // Nothing wakes it: the connection lasts until its client leaves.
            Some(Fault::Stall(at)) if this.sent >= at => return Poll::Pending,
            Some(Fault::Reset(at) | Fault::Stall(at)) => room = room.min(at - this.sent),
            None => {}
        }
        if room == 0 {
            return Poll::Ready(None);
        }
        let part = this.pacers.iter().map(|pacer| pacer.part()).min().unwrap_or(PART);
        let take = room.min(part as u64) as usize;
        let data = this.content.part(this.position, take);
        this.position += take as u64;
        this.sent += take as u64;
        this.count.fetch_add(take as u64, Ordering::Relaxed);
        // The part goes now and its time is waited for before the next one.
        if let Some(at) = this.pacers.iter().map(|pacer| pacer.reserve(take)).max() {
            this.wait = Some(Box::pin(tokio::time::sleep_until(at)));
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.position == self.end && self.fault.is_none()
    }
}
