//! What waits to be said on a control stream: frames as they go over the wire, bounded in number and in bytes. A message
//! may have twenty bytes or a quarter of a megabyte.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use tokio::sync::mpsc;

use crate::wire::codec::{self, CodecError, Framed};

/// How many messages may wait on one stream. Who lags behind so far is cut off and comes back.
// A member that joins thousands of tasks at once says something of each, asks for each, and is answered several times.
pub(crate) const MESSAGES_MAX: usize = 16 << 10;

/// How many bytes of them: twice what a member is told that joins as many tasks as may take part.
pub(crate) const BYTES_MAX: usize = 32 << 20;

/// Frames are written together up to about so many bytes: a write of its own for each costs more than the frame. What is being
/// written has its time (`framed::FRAME_MAX`), for which this is little.
const TOGETHER_BYTES: usize = 16 << 10;

/// The end that says something.
pub(crate) struct Outbox {
    frames: mpsc::Sender<BytesMut>,
    waiting: Arc<AtomicUsize>,
    /// The same of all streams of the node.
    all: Arc<AtomicUsize>,
}

/// The end that sends it.
pub(crate) struct Frames {
    frames: mpsc::Receiver<BytesMut>,
    waiting: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error("nobody sends it any more")]
    Closed,
    #[error("too much waits")]
    Full,
    #[error("it cannot be sent")]
    Unfit(#[from] CodecError),
}

/// A queue for one stream. `all`: the bytes that wait on all of them.
pub(crate) fn outbox(all: &Arc<AtomicUsize>) -> (Outbox, Frames) {
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let (waiting, all) = (Arc::new(AtomicUsize::new(0)), Arc::clone(all));
    let frames = Frames { frames: receiver, waiting: Arc::clone(&waiting), all: Arc::clone(&all) };
    (Outbox { frames: sender, waiting, all }, frames)
}

impl Outbox {
    /// Has a message sent after those that wait.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub(crate) fn say(&self, message: &impl Framed) -> Result<(), NotTaken> {
        let mut frame = BytesMut::new();
        codec::encode(message, &mut frame)?;
        let bytes = frame.len();
        // One sender at a time: nobody adds to it in between.
        if self.waiting.load(Ordering::Relaxed) + bytes > BYTES_MAX {
            return Err(NotTaken::Full);
        }
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        self.all.fetch_add(bytes, Ordering::Relaxed);
        self.frames.try_send(frame).map_err(|refused| {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.all.fetch_sub(bytes, Ordering::Relaxed);
            match refused {
                mpsc::error::TrySendError::Full(_) => NotTaken::Full,
                mpsc::error::TrySendError::Closed(_) => NotTaken::Closed,
            }
        })
    }
}

impl Frames {
    /// The next frame; `None` once there is no [`Outbox`] and nothing left. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<BytesMut> {
        let frame = self.frames.recv().await?;
        self.forget(frame.len());
        Some(frame)
    }

    /// The next frame, and of those that wait behind it as many as [`TOGETHER_BYTES`] take: they cost one write. `None` as for
    /// [`Frames::next`]. Cancel-safe.
    pub(crate) async fn next_together(&mut self) -> Option<BytesMut> {
        let mut frames = self.next().await?;
        while frames.len() < TOGETHER_BYTES
            && let Ok(frame) = self.frames.try_recv()
        {
            self.forget(frame.len());
            frames.extend_from_slice(&frame);
        }
        Some(frames)
    }

    fn forget(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        self.all.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

/// What was not sent waits no more.
impl Drop for Frames {
    fn drop(&mut self) {
        self.frames.close();
        while let Ok(frame) = self.frames.try_recv() {
            self.forget(frame.len());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::task::TaskId;
    use crate::trust::Identity;
    use crate::wire::control::{Neighbour, ToCoordinator, ToMember};
    use crate::wire::statement::Signed;

    /// Small messages are bounded by their number.
    #[tokio::test]
    async fn messages_are_bounded() {
        let all = Arc::default();
        let (outbox, mut frames) = outbox(&all);
        for _ in 0..MESSAGES_MAX {
            outbox.say(&ToCoordinator::KeepAlive).unwrap();
        }
        assert!(matches!(outbox.say(&ToCoordinator::KeepAlive), Err(NotTaken::Full)));
        let waiting = all.load(Ordering::Relaxed);
        let frame = frames.next().await.unwrap();
        assert_eq!(all.load(Ordering::Relaxed), waiting - frame.len());
        outbox.say(&ToCoordinator::KeepAlive).unwrap();
        assert_eq!(all.load(Ordering::Relaxed), waiting);
        drop(frames);
        assert_eq!(all.load(Ordering::Relaxed), 0, "what nobody sends does not wait");
        assert!(matches!(outbox.say(&ToCoordinator::KeepAlive), Err(NotTaken::Closed)));
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    /// Large ones by their bytes, long before; and what waits on one stream is no other's.
    #[tokio::test]
    async fn bytes_are_bounded() {
        let all = Arc::default();
        let (first, frames) = outbox(&all);
        let (second, _frames) = outbox(&all);
        let hosts = vec![large(); 8];
        let large = ToMember::Neighbours { task: TaskId::from_hash([1; 32]), hosts };
        let said = (0..MESSAGES_MAX).take_while(|_| first.say(&large).is_ok()).count();
        let waiting = all.load(Ordering::Relaxed);
        assert!(said < MESSAGES_MAX / 2 && (BYTES_MAX / 2..=BYTES_MAX).contains(&waiting), "{said}, {waiting}");
        second.say(&large).unwrap();
        drop(frames);
        assert!(all.load(Ordering::Relaxed) <= waiting / said);
    }

    /// What waits is written at once, up to a bound; nothing of it is lost or changes its place.
    #[tokio::test]
    async fn frames_that_wait_are_written_together() {
        let all = Arc::default();
        let (outbox, mut frames) = outbox(&all);
        for end in 0..2000 {
            let lease = crate::wire::control::LeaseId { number: 1, epoch: 1 };
            outbox.say(&ToCoordinator::Progress { task: TaskId::from_hash([1; 32]), lease, end }).unwrap();
        }
        drop(outbox);
        let mut decoder = codec::FrameDecoder::<ToCoordinator>::new();
        let (mut ends, mut writes, mut longest) = (Vec::new(), 0, 0);
        while let Some(mut bytes) = frames.next_together().await {
            (writes, longest) = (writes + 1, longest.max(bytes.len()));
            while let Some(codec::Decoded::Message(ToCoordinator::Progress { end, .. })) =
                decoder.next(&mut bytes).unwrap()
            {
                ends.push(end);
            }
            assert!(bytes.is_empty());
        }
        assert_eq!(ends, (0..2000).collect::<Vec<_>>());
        assert!(writes <= 8 && longest <= TOGETHER_BYTES + 100, "{writes} writes, {longest} bytes");
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    fn large() -> Neighbour {
        let record = Some(Signed(vec![7; 4000]));
        Neighbour { peer: Identity::generate().peer_id(), record, seen_ip: None, seed: false, share: None }
    }
}
