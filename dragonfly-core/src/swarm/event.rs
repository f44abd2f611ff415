//! What goes into the swarm core and what comes out of it.
//!
//! The shell interns peers and tasks as small numbers and keeps what the core needs not know: addresses, piece
//! hashes, files, sockets. The core sees only pieces that the shell can prove: a have-map entry without a known
//! hash is held back by the shell until its evidence has arrived.

use std::ops::Range;
use std::time::Duration;

use crate::task::{HaveMap, Layout, PieceIndex};
use crate::wire::control::Share;
use crate::wire::lane::RejectReason;

/// A neighbour host, interned by the shell. Reused only after [`Input::LaneDown`] and the host's removal from
/// every task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostKey(pub u32);

/// A generation of a task on this host, interned by the shell. Reused only after [`Input::TaskRemoved`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey(pub u32);

/// A request of ours. Never reused within one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u32);

/// A lease on a range of the origin, as its grantor numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseKey {
    /// The grantor's number.
    pub lease: u64,
    /// Grows with every grant for the task: the highest wins.
    pub epoch: u64,
}

/// What happened. Every input carries the time at which the shell saw it (see [`Swarm::handle`](super::Swarm::handle)).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// A neighbour says that these pieces are ours to fetch: it sends each to nobody else.
    Allotted {
        /// The injector.
        host: HostKey,
        /// The task.
        task: TaskKey,
        /// The pieces.
        pieces: Range<PieceIndex>,
    },
    /// A neighbour has answered [`Action::Ask`].
    Answered {
        /// The neighbour.
        host: HostKey,
        /// The task.
        task: TaskKey,
        /// What came of it.
        answered: Answered,
    },
    /// A neighbour asks for small content; what it gets the shell knows.
    Asked {
        /// The neighbour.
        host: HostKey,
    },
    /// The task's coordinator can no longer be reached: no leases, no neighbours until it is up again.
    AuthorityDown {
        /// The task.
        task: TaskKey,
    },
    /// The task's coordinator answers (again).
    AuthorityUp {
        /// The task.
        task: TaskKey,
    },
    /// A neighbour withdraws a request of its own.
    Cancelled {
        /// The neighbour.
        host: HostKey,
        /// Its request.
        request: u32,
    },
    /// A deadline of [`Swarm::next_deadline`](super::Swarm::next_deadline) has passed.
    Deadline,
    /// Pieces that were held are gone.
    Evicted {
        /// The task.
        task: TaskKey,
        /// The pieces.
        pieces: Range<PieceIndex>,
    },
    /// A neighbour holds more pieces, all of them provable.
    Have {
        /// The neighbour.
        host: HostKey,
        /// The task.
        task: TaskKey,
        /// The pieces it newly holds.
        runs: Vec<Range<PieceIndex>>,
        /// Whether it holds every piece now.
        complete: bool,
    },
    /// What this neighbour sends waits for limits of this host's own: its silence is not its fault.
    HeldUp {
        /// The neighbour.
        host: HostKey,
    },
    /// The same, and what has come is small content that was asked for.
    AnswerHeldUp {
        /// The neighbour.
        host: HostKey,
    },
    /// A lane to this host failed or was closed; all of its requests, both ways, are void.
    LaneDown {
        /// The host.
        host: HostKey,
    },
    /// A lane to this host is open (dialled by either side).
    LaneUp {
        /// The host.
        host: HostKey,
    },
    /// The coordinator lets us fetch these pieces from the origin.
    LeaseGranted {
        /// The task.
        task: TaskKey,
        /// The lease.
        lease: LeaseKey,
        /// The pieces.
        pieces: Range<PieceIndex>,
    },
    /// There is nothing to lease now.
    LeaseNone {
        /// The task.
        task: TaskKey,
        /// When to ask again at the earliest; `None`: not before we are told otherwise.
        retry: Option<Duration>,
    },
    /// A lease of ours is void.
    LeaseRevoked {
        /// The task.
        task: TaskKey,
        /// The lease.
        lease: LeaseKey,
    },
    /// A neighbour no longer holds pieces.
    Lost {
        /// The neighbour.
        host: HostKey,
        /// The task.
        task: TaskKey,
        /// The pieces.
        runs: Vec<Range<PieceIndex>>,
    },
    /// A piece that we requested arrived and does not match its hash, and the neighbour has sent only a part of it: somebody else
    /// sent the rest on an earlier request. The request goes on with its next piece.
    Mixed {
        /// Whom the end of it came from.
        host: HostKey,
        /// Our request.
        request: RequestId,
        /// The piece.
        piece: PieceIndex,
    },
    /// Hosts that the coordinator (or a bootstrap list) names for the task, best first.
    Neighbours {
        /// The task.
        task: TaskKey,
        /// The hosts.
        hosts: Vec<HostKey>,
        /// Those of them that are in another site, and what is to be brought from there.
        across: Vec<(HostKey, Share)>,
    },
    /// The fetch under a lease ended: every piece of it was delivered.
    OriginDone {
        /// The task.
        task: TaskKey,
        /// The lease.
        lease: LeaseKey,
    },
    /// The fetch under a lease failed. Pieces delivered before stay.
    OriginFailed {
        /// The task.
        task: TaskKey,
        /// The lease.
        lease: LeaseKey,
    },
    /// A piece came from the origin under a lease of ours, was hashed and stored; we are its injector.
    OriginStored {
        /// The task.
        task: TaskKey,
        /// The piece.
        piece: PieceIndex,
    },
    /// A piece that we requested arrived in full and matches its hash. [`Input::Stored`] follows. It counts, too, if the
    /// request was withdrawn a moment before and the lane is up still.
    Proven {
        /// Whom it came from.
        host: HostKey,
        /// The task.
        task: TaskKey,
        /// Our request.
        request: RequestId,
        /// The piece.
        piece: PieceIndex,
    },
    /// Bytes of a request of ours arrived.
    Received {
        /// Whom they came from.
        host: HostKey,
        /// Our request.
        request: RequestId,
        /// How many bytes more.
        bytes: u32,
    },
    /// A piece that we requested arrived and does not match its hash.
    Refuted {
        /// Whom it came from.
        host: HostKey,
        /// Our request.
        request: RequestId,
        /// The piece.
        piece: PieceIndex,
    },
    /// A neighbour will not serve a request of ours (any more).
    Rejected {
        /// The neighbour.
        host: HostKey,
        /// Our request.
        request: RequestId,
        /// Why.
        reason: RejectReason,
    },
    /// A neighbour asks for a run of pieces.
    Requested {
        /// The neighbour.
        host: HostKey,
        /// The task.
        task: TaskKey,
        /// Its number for the request, unique among its live ones.
        request: u32,
        /// The first piece.
        first: PieceIndex,
        /// How many pieces.
        count: u32,
        /// Bytes of the first piece that it has already.
        skip: u32,
    },
    /// A piece of a neighbour's request was handed to the transport in full.
    Sent {
        /// The neighbour.
        host: HostKey,
        /// Its request.
        request: u32,
        /// The piece.
        piece: PieceIndex,
        /// Bytes of it that were sent.
        bytes: u32,
    },
    /// A piece of a neighbour's request could not be read from the store or sent.
    ServeFailed {
        /// The neighbour.
        host: HostKey,
        /// Its request.
        request: u32,
    },
    /// A proven piece could not be stored; it is not held.
    StoreFailed {
        /// The task.
        task: TaskKey,
        /// The piece.
        piece: PieceIndex,
    },
    /// A piece received from a neighbour is held now.
    Stored {
        /// The task.
        task: TaskKey,
        /// The piece.
        piece: PieceIndex,
    },
    /// A task starts on this host.
    TaskAdded {
        /// The task.
        task: TaskKey,
        /// Its layout.
        layout: Layout,
        /// The pieces that the store holds already.
        have: HaveMap,
        /// How it is to be treated.
        options: TaskOptions,
        /// Hosts that were named for it before, as in [`Input::Neighbours`].
        hosts: Vec<HostKey>,
        /// Those of them in other sites, as there.
        across: Vec<(HostKey, Share)>,
    },
    /// A neighbour takes no part in the task (any more).
    TaskClosed {
        /// The neighbour.
        host: HostKey,
        /// The task.
        task: TaskKey,
    },
    /// The task was closed over a lane and is being opened anew: whoever was a neighbour is to be one again.
    TaskReopened {
        /// The neighbour.
        host: HostKey,
        /// The task.
        task: TaskKey,
    },
    /// A neighbour takes part in the task over its lane: have-maps may be exchanged.
    TaskOpened {
        /// The neighbour.
        host: HostKey,
        /// The task.
        task: TaskKey,
        /// Whether it wants pieces (else it only serves, and nothing is allotted to it).
        wanted: bool,
    },
    /// A task ends on this host.
    TaskRemoved {
        /// The task.
        task: TaskKey,
    },
    /// The missing pieces of a task are wanted, also where it took part without that.
    Wanted {
        /// The task.
        task: TaskKey,
        /// Whether leases may be asked for; that they may is not taken back.
        may_lease: bool,
    },
    /// A reader waits for these pieces, the first one first.
    Window {
        /// The task.
        task: TaskKey,
        /// The pieces; empty: nobody reads.
        pieces: Range<PieceIndex>,
    },
}

/// What came of [`Action::Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Nothing of use: the neighbour does not have it, or what it sent cannot be proven here.
    Nothing,
    /// All of it, and it is proven. [`Input::Stored`] follows.
    Proven,
    /// Bytes that are not what the neighbour itself shows they should be.
    Refuted,
    /// None: it was not asked, for it owes too many.
    Unasked,
}

/// How a task is to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskOptions {
    /// Lower is more urgent.
    pub priority: u8,
    /// Whether missing pieces are wanted (else the host only serves what it has).
    pub wanted: bool,
    /// Whether this host may ask for leases on the origin.
    pub may_lease: bool,
    /// How many leases it may hold at a time.
    pub leases_max: u8,
    /// Whether the pieces held at the start are to be injected (allotted), because nobody else is known to hold
    /// them: a seed whose content is complete before the swarm gathers.
    pub injector: bool,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Abort the fetch under this lease; its range is no longer ours or no longer wanted.
    Abort {
        /// The task.
        task: TaskKey,
        /// The lease.
        lease: LeaseKey,
    },
    /// Tell a neighbour that these pieces are for it alone, with their evidence.
    Allot {
        /// The neighbour.
        host: HostKey,
        /// The task.
        task: TaskKey,
        /// The pieces.
        pieces: Range<PieceIndex>,
    },
    /// Ask a neighbour for all of small content at once. Answered by [`Input::Answered`], unless the lane goes down.
    Ask {
        /// The neighbour.
        host: HostKey,
        /// The task.
        task: TaskKey,
    },
    /// Ask the coordinator for a lease.
    AskLease {
        /// The task.
        task: TaskKey,
        /// The first piece that a reader waits for and no neighbour holds that does as it says.
        near: Option<PieceIndex>,
    },
    /// Ask the coordinator for more neighbours.
    AskNeighbours {
        /// The task.
        task: TaskKey,
        /// Whether we lack a piece that no neighbour holds.
        lacking: bool,
        /// For how long nothing of what we lack came, if that is longer than it should be.
        starved: Option<Duration>,
    },
    /// A neighbour sent bytes that fail the hash it had accepted: drop it for a time.
    Blame {
        /// The neighbour.
        host: HostKey,
        /// The task.
        task: TaskKey,
        /// The piece.
        piece: PieceIndex,
    },
    /// A neighbour refused again and again what it claims to have: for a time it is not asked for this task. For the log.
    Unkept {
        /// The neighbour.
        host: HostKey,
        /// The task.
        task: TaskKey,
    },
    /// A neighbour sent too little of what it was asked for, for too long: it is asked elsewhere. For the log.
    Stalled {
        /// The neighbour.
        host: HostKey,
        /// For how long.
        silent: Duration,
    },
    /// Withdraw a request.
    Cancel {
        /// The neighbour.
        host: HostKey,
        /// Our request.
        request: RequestId,
    },
    /// The lane serves no task any more.
    Close {
        /// The neighbour.
        host: HostKey,
    },
    /// Open a lane to this host. Answered by [`Input::LaneUp`] or [`Input::LaneDown`].
    Dial {
        /// The host.
        host: HostKey,
    },
    /// Every piece is held.
    Done {
        /// The task.
        task: TaskKey,
    },
    /// Fetch these pieces from the origin, in order.
    Fetch {
        /// The task.
        task: TaskKey,
        /// The lease.
        lease: LeaseKey,
        /// The pieces.
        pieces: Range<PieceIndex>,
    },
    /// Take part in a task over an open lane. Answered by [`Input::TaskOpened`] or [`Input::TaskClosed`].
    Open {
        /// The neighbour.
        host: HostKey,
        /// The task.
        task: TaskKey,
    },
    /// A piece can be read now.
    Ready {
        /// The task.
        task: TaskKey,
        /// The piece.
        piece: PieceIndex,
    },
    /// Refuse a neighbour's request.
    Reject {
        /// The neighbour.
        host: HostKey,
        /// Its request.
        request: u32,
        /// Why.
        reason: RejectReason,
    },
    /// Give a lease back: its range is not wanted from us.
    ReleaseLease {
        /// The task.
        task: TaskKey,
        /// The lease.
        lease: LeaseKey,
    },
    /// Tell the coordinator how far we are: the first eighth, the end, and of those between what it acts on.
    Report {
        /// The task.
        task: TaskKey,
        /// Eighths of the pieces held.
        eighths: u8,
    },
    /// Ask a neighbour for a run of pieces. What has come of the first one on an earlier request need not be asked for again.
    Request {
        /// The neighbour.
        host: HostKey,
        /// The task.
        task: TaskKey,
        /// Our number for it.
        request: RequestId,
        /// The first piece.
        first: PieceIndex,
        /// How many pieces.
        count: u32,
    },
    /// Tell a neighbour what we hold newly, with the evidence it has not seen.
    SendHave {
        /// The neighbour.
        host: HostKey,
        /// The task.
        task: TaskKey,
        /// The pieces.
        runs: Vec<Range<PieceIndex>>,
        /// Whether we hold every piece now.
        complete: bool,
    },
    /// Tell a neighbour that we no longer hold pieces.
    SendLost {
        /// The neighbour.
        host: HostKey,
        /// The task.
        task: TaskKey,
        /// The pieces.
        runs: Vec<Range<PieceIndex>>,
    },
    /// Send a piece of a neighbour's request. Answered by [`Input::Sent`] or [`Input::ServeFailed`], unless the
    /// request is cancelled or the lane goes down.
    Serve {
        /// The neighbour.
        host: HostKey,
        /// The task.
        task: TaskKey,
        /// Its request.
        request: u32,
        /// The piece.
        piece: PieceIndex,
        /// Bytes of the piece to leave out at its start.
        skip: u32,
    },
}
