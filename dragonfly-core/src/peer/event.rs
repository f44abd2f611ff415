//! What reaches the engine's one task: everything that happens, in one bounded queue.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::content::{Content, Counts};
use super::lane::LaneNumber;
use super::origin::{Description, OriginAccess};
use super::view::{ActiveTask, NeighbourInfo};
use crate::net::{Incoming, Stream};
use crate::source::SourceError;
use crate::swarm::{HostKey, Input, LeaseKey, TaskKey};
use crate::task::{Generation, PieceIndex, TaskId};
use crate::wire::PeerId;
use crate::wire::control::{Failure, Held, LeaseId, TaskInfo, ToMember};
use crate::{Error, Result};

/// A coordinator that this host talks to: 0 is its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct AuthorityId(pub(super) u32);

/// One caller's interest in a task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct WantId(pub(super) u64);

/// What a caller who wants a task sees of it.
#[derive(Clone, Debug)]
pub(super) enum WantStatus {
    /// It is not known yet which content the task has now.
    Resolving,
    /// This content, and what of it had come before the caller asked; how far it is, it says itself.
    Content(Arc<Content>, Counts),
    /// The task cannot be had.
    Failed(Error),
}

/// A caller's interest as it reaches the engine.
#[derive(Debug)]
pub(super) struct NewWant {
    pub(super) id: WantId,
    pub(super) info: TaskInfo,
    pub(super) label: String,
    pub(super) scope: Scope,
    pub(super) access: Option<OriginAccess>,
    /// What the store holds of it.
    pub(super) held: Option<Held>,
    pub(super) age_max_ms: Option<u64>,
    pub(super) stale_ok: bool,
    pub(super) priority: u8,
    /// Whether only other hosts wait for it.
    pub(super) for_others: bool,
    pub(super) status: watch::Sender<WantStatus>,
}

/// Who may share a task, and under which name it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Scope {
    pub(super) class: crate::task::Class,
    pub(super) tenant: String,
    /// Whether a digest fixes its content, so that who knows its name has seen what names it.
    pub(super) fixed: bool,
}

impl Scope {
    /// Whether this host keeps it to itself: then it is its own coordinator, and nobody is told.
    pub(super) fn is_local(&self) -> bool {
        is_local(self.class, self.fixed)
    }
}

/// Whether a host keeps content of this class to itself; `fixed`: a digest fixes it.
pub(super) fn is_local(class: crate::task::Class, fixed: bool) -> bool {
    use crate::task::Class;
    match class {
        Class::HostLocal => true,
        // Each host asks the origin for itself (`reauth`). One that does not must know the digest at least, which is no
        // less a secret than what it names; the name of an object may be guessed.
        Class::Reauth => !fixed,
        Class::Public | Class::Keyed => false,
    }
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "moved once, from the caller to the engine")]
pub(super) enum Command {
    /// The content is not what it should be: forget it.
    Discard {
        task: TaskId,
        generation: Generation,
        done: oneshot::Sender<()>,
    },
    /// This host is to stop soon.
    Drain {
        whose: super::LeasesOf,
        done: oneshot::Sender<()>,
    },
    /// These hosts attested what is not so.
    Blame {
        peers: BTreeSet<PeerId>,
        why: String,
    },
    /// What others attested does not have the caller's digest: the task is taken from its origin by this host alone.
    Distrust {
        task: TaskId,
        generation: Generation,
        done: oneshot::Sender<()>,
    },
    /// Neighbours of a task, for listings.
    Neighbours {
        task: TaskId,
        reply: oneshot::Sender<u32>,
    },
    /// The hosts that are met, for listings.
    NeighbourInfos {
        reply: oneshot::Sender<Vec<NeighbourInfo>>,
    },
    /// The tasks that take part, for listings.
    ActiveTasks {
        reply: oneshot::Sender<Vec<ActiveTask>>,
    },
    /// Pieces that only this host has and others want.
    Owed {
        reply: oneshot::Sender<u64>,
    },
    /// Forgets a task that is to be removed from the store.
    Release {
        task: TaskId,
        done: oneshot::Sender<Result<()>>,
    },
    Shutdown {
        done: oneshot::Sender<()>,
    },
    Unwant {
        task: TaskId,
        id: WantId,
    },
    Want(NewWant),
    Window {
        task: TaskKey,
        pieces: Range<PieceIndex>,
    },
}

#[derive(Debug)]
pub(super) enum AuthorityEvent {
    /// It is gone; another attempt is under way.
    Down,
    Message(Box<ToMember>),
    /// An attempt to reach it failed.
    Unreachable(Error),
    Up {
        commands: crate::node::Outbox,
        /// Cancelled when the session is over.
        over: CancellationToken,
        peer: PeerId,
    },
}

/// What a lane tells. Its host and number stand beside it.
#[derive(Debug)]
pub(super) enum LaneEvent {
    /// The neighbour asks for all of small content: which it is, where the neighbour may have it from here.
    Asked {
        task: TaskId,
        generation: Generation,
        content: Option<Arc<Content>>,
    },
    Cancelled {
        request: u32,
    },
    /// The neighbour takes part no more, or did not know the task.
    Closed {
        task: TaskId,
        generation: Generation,
    },
    /// A request expects values that are not ours.
    Conflicting {
        request: u32,
    },
    /// It ended; for what the neighbour is to blame, if it is.
    Down {
        blame: Option<String>,
    },
    Input(Input),
    Opened {
        content: Arc<Content>,
        wanted: bool,
    },
    /// The neighbour opened a task that takes no part here.
    OpenedUnknown {
        task: TaskId,
        generation: Generation,
    },
    /// The neighbour showed a seal that was not known here.
    Sealed {
        task: TaskKey,
    },
    /// A piece could not be read; its request was refused.
    Unreadable {
        request: u32,
    },
    /// A request named a task that is not open.
    Unservable {
        request: u32,
    },
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "moved through one bounded queue; boxes would cost more")]
pub(super) enum Event {
    /// Who says now that it is on a link of this host: anyone can say so.
    Found(crate::net::Found),
    Activated {
        task: TaskId,
        /// Which opening of it.
        key: TaskKey,
        outcome: Result<Arc<Content>>,
    },
    Authority {
        id: AuthorityId,
        event: AuthorityEvent,
    },
    Command(Command),
    Described {
        task: TaskId,
        lease: LeaseId,
        outcome: Result<Description, SourceError>,
    },
    Dialled {
        host: HostKey,
        /// Who that was when it was dialled.
        peer: PeerId,
        outcome: Result<Stream>,
    },
    /// The store has held it since before the start.
    Held(Box<super::announce::HeldTask>),
    IncomingLane(Incoming),
    Input(Input),
    Lane {
        host: HostKey,
        /// Who that was when the lane began.
        peer: PeerId,
        lane: LaneNumber,
        event: LaneEvent,
    },
    LeaseEnded {
        task: TaskKey,
        lease: LeaseKey,
        end: PieceIndex,
        outcome: Result<(), Failure>,
    },
    /// These have contradicted themselves about a task, as a neighbour showed.
    Contradicted {
        task: TaskId,
        signers: BTreeSet<PeerId>,
    },
    LeaseProgress {
        task: TaskId,
        lease: LeaseId,
        end: PieceIndex,
    },
    /// Time to look again at which coordinator each task belongs to.
    Reassess,
    /// A question for the coordinator of a task has waited for long enough.
    SeekOver {
        task: TaskId,
        number: u64,
    },
    /// Time to hear anew what void words took the place of.
    RecallDue,
    /// What the store keeps of what others said counts again; of these tasks words were void.
    Recalled {
        tasks: BTreeSet<TaskKey>,
    },
    /// An answer of the origin's that no coordinator asked for has grown old.
    SpareOver {
        task: TaskId,
    },
    /// Time to look whether the coordinator of a task has said what its content is.
    AnswerDue {
        task: TaskId,
    },
    /// The answer to a describe lease has no length: the holder takes all of it before it can be described.
    Spooling {
        task: TaskId,
        lease: LeaseId,
    },
    /// Content of unknown length could not be taken in.
    SpoolFailed {
        task: TaskId,
        error: Error,
    },
    StoreFailed {
        task: TaskKey,
        error: Error,
    },
}
