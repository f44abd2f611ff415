//! A lane's two halves: the reader takes in messages and pieces, the writer sends messages and serves pieces.
//!
//! One task drives both. The reader hashes each block while it is hot and hands whole pieces, proven, to the node's
//! disk threads; it is slowed down by them through a budget of bytes that wait to be written. The writer sends one
//! block at a time, so that a message waits for one block at most. What is read off the wire is checked here:
//! anything that breaks the protocol ends the lane.
//!
//! On a lane that is not encrypted anybody on the way may have said it. So there the neighbour is not to blame for what is wrong:
//! the lane ends, and the next one with it is encrypted. Content that is not public is neither named nor given there.

mod checks;
mod pending;
mod reader;
mod serve;
mod whole;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::content::Content;
use super::event::{Event, LaneEvent};
use super::tasks::TASKS_MAX;
use crate::net::{Carrier, Direct, Stream};
use crate::node::Node;
use crate::swarm::{HostKey, TaskKey};
use crate::task::{Generation, PieceIndex, TaskId};
use crate::wire::PeerId;
use crate::wire::lane::{RejectReason, Run};

pub(super) use checks::Checks;
pub(crate) use checks::{VAIN_CHECKS_MAX, VAIN_CHECKS_RATE};
pub(super) use pending::Requests;
use pending::{Pending, Shared};

/// How many commands may wait for a lane; one that lags behind so far is closed. The core keeps far fewer in flight for each
/// neighbour, but where two hosts meet that have everything in common each task is opened at once, and what is held of it said.
pub(crate) const COMMANDS_MAX: usize = 1024 + 2 * TASKS_MAX;

/// Numbers the lanes of this process, so that events of one that was replaced are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LaneNumber(pub(super) u64);

/// What the engine tells a lane to do. [`LaneCommand::Closed`]: the neighbour has closed the task.
#[derive(Debug)]
pub(super) enum LaneCommand {
    Allot { content: Arc<Content>, runs: Vec<Run> },
    Answer { task: TaskId, generation: Generation, content: Option<Arc<Content>> },
    Ask { content: Arc<Content> },
    Cancel { request: u32 },
    Close { key: TaskKey, task: TaskId, generation: Generation, opened: bool },
    Closed { key: TaskKey },
    Have { content: Arc<Content>, runs: Vec<Run>, complete: bool },
    Lost { key: TaskKey, runs: Vec<Run> },
    Open { content: Arc<Content>, wanted: bool },
    Reject { request: u32, reason: RejectReason },
    Request { content: Arc<Content>, request: u32, first: PieceIndex, count: u32 },
    Seal { content: Arc<Content> },
    Serve { content: Arc<Content>, request: u32, piece: PieceIndex, skip: u32 },
    StopServing { request: u32 },
}

impl LaneCommand {
    /// The content that it names.
    pub(super) fn content(&self) -> Option<&Content> {
        match self {
            Self::Allot { content, .. }
            | Self::Answer { content: Some(content), .. }
            | Self::Ask { content }
            | Self::Have { content, .. }
            | Self::Open { content, .. }
            | Self::Request { content, .. }
            | Self::Seal { content }
            | Self::Serve { content, .. } => Some(content),
            Self::Answer { content: None, .. }
            | Self::Cancel { .. }
            | Self::Close { .. }
            | Self::Closed { .. }
            | Self::Lost { .. }
            | Self::Reject { .. }
            | Self::StopServing { .. } => None,
        }
    }
}

/// The contents that take part in the swarm, for lanes to find by name. Changed by the engine alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Registry(Arc<Mutex<Contents>>);

type Contents = HashMap<(TaskId, Generation), Arc<Content>>;

/// A registry that does not keep its contents alive.
pub(super) struct WeakRegistry(Weak<Mutex<Contents>>);

impl WeakRegistry {
    /// Whether a generation takes part in the swarm.
    pub(super) fn contains(&self, task: TaskId, generation: Generation) -> bool {
        self.0.upgrade().is_some_and(|table| Registry(table).table().contains_key(&(task, generation)))
    }
}

impl Registry {
    pub(super) fn downgrade(&self) -> WeakRegistry {
        WeakRegistry(Arc::downgrade(&self.0))
    }

    fn table(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn find(&self, task: TaskId, generation: Generation) -> Option<Arc<Content>> {
        self.table().get(&(task, generation)).cloned()
    }

    pub(super) fn insert(&self, content: &Arc<Content>) {
        self.table().insert((content.task, content.generation), Arc::clone(content));
    }

    pub(super) fn remove(&self, content: &Content) {
        self.table().remove(&(content.task, content.generation));
    }
}

/// What a lane runs over.
pub(super) trait Carries: AsyncRead + AsyncWrite + Send + 'static {
    /// Whether anybody on the way can read it, and say more.
    fn is_plain(&self) -> bool {
        false
    }

    /// A way for the bytes of files past the memory of this process, where there is one.
    fn direct(&self) -> Option<Direct> {
        None
    }
}

impl Carries for Stream {
    fn is_plain(&self) -> bool {
        self.carrier() == Carrier::Plain
    }

    fn direct(&self) -> Option<Direct> {
        Self::direct(self)
    }
}

struct Lane {
    node: Node,
    host: HostKey,
    peer: PeerId,
    number: LaneNumber,
    registry: Registry,
    events: mpsc::Sender<Event>,
    requests: Requests,
    checks: Arc<Checks>,
    /// Whether it is not encrypted.
    plain: bool,
}

/// Why a lane ended.
#[derive(Debug, thiserror::Error)]
enum LaneError {
    #[error("the connection failed: {0}")]
    Connection(#[from] std::io::Error),
    #[error("a malformed frame")]
    Codec(#[from] crate::wire::codec::CodecError),
    #[error("the neighbour broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the neighbour took nothing of what it asked for, for {:?}", crate::node::FRAME_MAX)]
    NotTaken,
    #[error("a block that was begun cannot be read to its end")]
    Cut,
    #[error("the engine has stopped")]
    Stopped,
}

impl LaneError {
    /// Whether only a neighbour that means harm, or is broken, makes a lane end so.
    fn is_to_blame(&self) -> bool {
        match self {
            Self::Codec(_) | Self::NotTaken | Self::Protocol(_) => true,
            Self::Connection(error) => error.kind() == std::io::ErrorKind::TimedOut,
            Self::Cut | Self::Stopped => false,
        }
    }
}

impl Lane {
    /// Whether content may be named and given on it.
    fn carries(&self, content: &Content) -> bool {
        // Content of this host alone is as good as unknown.
        content.is_shared() && (!self.plain || content.is_public())
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.requests.shared()
    }

    /// Keeps what has come of requests that are over before they are whole.
    fn keep(&self, pending: impl IntoIterator<Item = Pending>) {
        for pending in pending {
            if self.plain {
                pending.drop_bytes(&self.node);
            } else {
                pending.keep(&self.node, &self.registry, self.peer);
            }
        }
    }

    async fn tell(&self, event: LaneEvent) -> Result<(), LaneError> {
        let event = Event::Lane { host: self.host, peer: self.peer, lane: self.number, event };
        self.events.send(event).await.map_err(|_| LaneError::Stopped)
    }
}

/// Runs a lane over `stream` until it fails, the neighbour breaks the protocol, the engine drops `commands` (what
/// was queued is sent first) or cancels `stop` (nothing more is sent).
/// Its end is told as [`LaneEvent::Down`].
pub(super) async fn run(
    node: Node,
    (host, peer, number): (HostKey, PeerId, LaneNumber),
    (checks, requests): (Arc<Checks>, Requests),
    registry: Registry,
    stream: impl Carries,
    (commands, stop): (mpsc::Receiver<LaneCommand>, CancellationToken),
    events: mpsc::Sender<Event>,
) {
    let (plain, direct) = (stream.is_plain(), stream.direct());
    let (input, output) = tokio::io::split(stream);
    requests.shared().plain = plain;
    let lane = Lane { node, host, peer, number, registry, events, requests, checks, plain };
    let ended = tokio::select! {
        ended = reader::run(&lane, input) => ended,
        ended = writer::run(&lane, (output, direct), commands) => ended,
        () = stop.cancelled() => Ok(()),
    };
    let mut blame = ended.as_ref().err().filter(|error| error.is_to_blame()).map(ToString::to_string);
    if let Some(why) = blame.take_if(|_| plain) {
        tracing::warn!(%peer, why, "a lane without encryption said what no neighbour says: the next one is encrypted");
        lane.node.metrics().lanes_spoilt.add(1);
        lane.node.host().spoil(peer);
    }
    if let Err(error) = ended {
        tracing::debug!(?host, %error, "lane ended");
    }
    if blame.is_none() {
        lane.requests.withdraw_all(&lane.node, &lane.registry, peer);
    }
    let _ = lane.tell(LaneEvent::Down { blame }).await;
}
