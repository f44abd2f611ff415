//! What two neighbours say to each other over a lane, for all their tasks.
//!
//! Each side numbers the tasks that it opens (a *slot*) and the requests that it makes. A task is open once both
//! sides have sent [`Message::Open`] for it. Evidence goes ahead of the first frame that names its pieces.

use std::ops::Range;

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::statement::Evidence;
use crate::task::{Generation, PieceHash, PieceIndex, TaskId};

/// The most payload bytes of a [`Frame::Block`].
pub const BLOCK_BYTES_MAX: usize = 64 << 10;

/// The most pieces of one request (its values must fit a frame).
pub const REQUEST_PIECES_MAX: usize = 64;

/// The most tasks that one side may hold open on a lane.
pub const SLOTS_MAX: usize = 4096;

/// The most requests that one side may have outstanding on a lane.
pub const REQUESTS_MAX: usize = 64;

/// Content up to so many bytes, which is one piece, is had in one answer: [`Message::Whole`].
pub const WHOLE_BYTES_MAX: usize = 64 << 10;

/// The most items of evidence of a [`Message::Whole`]: one piece has a grant, an attestation and a seal.
pub const WHOLE_EVIDENCE_MAX: usize = 3;

/// The most [`Message::Ask`] that one side may have outstanding on a lane.
pub const ASKS_MAX: usize = 256;

/// A task's number on a lane, chosen by the side that sent [`Message::Open`]; all its frames use its own.
pub type Slot = u32;

/// A run of pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Run {
    /// The first piece.
    #[n(0)]
    pub first: PieceIndex,
    /// How many; at least one.
    #[n(1)]
    pub count: u32,
}

impl Run {
    /// The run as a range; `None` if it is empty or runs over.
    pub fn range(&self) -> Option<Range<PieceIndex>> {
        let end = self.first.checked_add(self.count)?;
        (self.count > 0).then_some(self.first..end)
    }
}

impl From<Range<PieceIndex>> for Run {
    fn from(range: Range<PieceIndex>) -> Self {
        Self { first: range.start, count: range.end.saturating_sub(range.start) }
    }
}

/// One message on a lane.
#[derive(Clone, PartialEq, Debug)]
pub enum Frame {
    /// Bytes of a requested piece. Not CBOR: a fixed header, then the bytes.
    Block {
        /// The receiver's request.
        request: u32,
        /// The piece.
        piece: PieceIndex,
        /// Where in the piece the bytes belong.
        offset: u32,
        /// 1 to [`BLOCK_BYTES_MAX`] bytes.
        bytes: Bytes,
    },
    /// Anything else.
    Message(Message),
}

/// Everything on a lane but bytes of pieces.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[non_exhaustive]
pub enum Message {
    /// Takes part in a task.
    #[n(0)]
    Open {
        /// The sender's number for it.
        #[n(0)]
        slot: Slot,
        /// The task.
        #[n(1)]
        task: TaskId,
        /// The version of its content.
        #[n(2)]
        generation: Generation,
        /// Its length in bytes.
        #[n(3)]
        length: u64,
        /// Its piece length in bytes.
        #[n(4)]
        piece_length: u64,
        /// Whether the sender wants pieces (else it only serves).
        #[n(5)]
        wanted: bool,
    },
    /// Takes no part in a task (any more), or never did.
    #[n(1)]
    Close {
        /// The sender's number for it, if it had opened it.
        #[n(0)]
        slot: Option<Slot>,
        /// The task and generation: the receiver may not know the slot.
        #[n(1)]
        task: TaskId,
        /// See `task`.
        #[n(2)]
        generation: Generation,
    },
    /// What proves pieces that later frames name.
    #[n(2)]
    Evidence {
        /// The task.
        #[n(0)]
        slot: Slot,
        /// The items, grants before their attestations.
        #[n(1)]
        items: Vec<Evidence>,
    },
    /// The sender holds more pieces.
    #[n(3)]
    Have {
        /// The task.
        #[n(0)]
        slot: Slot,
        /// The pieces.
        #[n(1)]
        runs: Vec<Run>,
        /// Whether it holds every piece now.
        #[n(2)]
        complete: bool,
    },
    /// The sender no longer holds pieces.
    #[n(4)]
    Lost {
        /// The task.
        #[n(0)]
        slot: Slot,
        /// The pieces.
        #[n(1)]
        runs: Vec<Run>,
    },
    /// These pieces go to the receiver alone: it should ask for them and pass them on.
    #[n(5)]
    Allot {
        /// The task.
        #[n(0)]
        slot: Slot,
        /// The pieces.
        #[n(1)]
        runs: Vec<Run>,
    },
    /// Asks for a run of pieces.
    #[n(6)]
    Request {
        /// The task.
        #[n(0)]
        slot: Slot,
        /// The sender's number for the request.
        #[n(1)]
        request: u32,
        /// The first piece.
        #[n(2)]
        first: PieceIndex,
        /// Bytes of the first piece to leave out at its start.
        #[n(3)]
        skip: u32,
        /// The value that the sender expects of each piece, 32 bytes each, concatenated; their number is that of
        /// the pieces, 1 to [`REQUEST_PIECES_MAX`].
        #[n(4)]
        #[cbor(with = "minicbor::bytes")]
        values: Vec<u8>,
    },
    /// Withdraws a request of the sender's.
    #[n(7)]
    Cancel {
        /// Which.
        #[n(0)]
        request: u32,
    },
    /// Refuses a request of the receiver's; what was sent of it before stands.
    #[n(8)]
    Reject {
        /// Which.
        #[n(0)]
        request: u32,
        /// Why.
        #[n(1)]
        reason: RejectReason,
    },
    /// Asks for all of small content, which neither side need have open. Answered by one [`Message::Whole`]. Who does not know
    /// this message ignores it.
    #[n(128)]
    Ask {
        /// The task.
        #[n(0)]
        task: TaskId,
        /// The version of its content.
        #[n(1)]
        generation: Generation,
        /// Its length in bytes, 1 to [`WHOLE_BYTES_MAX`].
        #[n(2)]
        length: u64,
    },
    /// Answers [`Message::Ask`].
    #[n(129)]
    Whole {
        /// The task.
        #[n(0)]
        task: TaskId,
        /// The version of its content.
        #[n(1)]
        generation: Generation,
        /// What proves it, at most [`WHOLE_EVIDENCE_MAX`] items, the grant before its attestation.
        #[n(2)]
        items: Vec<Evidence>,
        /// All of it, at most [`WHOLE_BYTES_MAX`] bytes; none: the sender does not have it, or not for the receiver.
        #[n(3)]
        #[cbor(with = "minicbor::bytes")]
        bytes: Vec<u8>,
    },
}

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum RejectReason {
    /// Too many requests.
    #[n(0)]
    Busy,
    /// The sender holds the piece with another value; its evidence went ahead.
    #[n(1)]
    Conflict,
    /// It does not hold the piece.
    #[n(2)]
    NotHeld,
    /// It could not read the piece.
    #[n(3)]
    Unreadable,
    /// Only complete pieces, known tasks and sane numbers can be asked for.
    #[n(4)]
    Malformed,
}

/// The values of a [`Message::Request`], if they are whole and not too many.
pub fn request_values(values: &[u8]) -> Option<&[PieceHash]> {
    let (values, rest) = values.as_chunks::<32>();
    (rest.is_empty() && (1..=REQUEST_PIECES_MAX).contains(&values.len())).then_some(values)
}
