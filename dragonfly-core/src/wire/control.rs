//! What a member and the coordinator of a task say to each other. One stream per pair, both ways, all tasks.
//!
//! A member announces itself once, joins tasks, and reports at most once an eighth. A coordinator tells which
//! generation is current, names neighbours and grants leases. Clock values never cross: ages and time-outs are
//! durations in milliseconds.

use minicbor::{Decode, Encode};

use super::PeerId;
use super::lane::Run;
use super::statement::{Grant, GrantBundle, SealBundle, Signed};
use crate::task::{Generation, PieceIndex, TaskId, TaskSpec, Validator};

/// The version of these messages.
pub const VERSION: u16 = 1;

/// The most bytes of a [`Failure`]'s text.
pub const FAILURE_TEXT_MAX: usize = 256;

/// The most neighbours one message names.
pub const NEIGHBOURS_MAX: usize = 32;

/// The most bytes of the name of a site.
pub const SITE_BYTES_MAX: usize = 64;

/// Whether this may be the name of a site: letters, digits, `-`, `_` and `.`, for it is compared and logged.
pub fn is_site(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=SITE_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain)
}

/// The most leases that a member tells a new coordinator of: more than one host may hold for a task.
pub const FETCHING_MAX: usize = 16;

/// From a member to a coordinator.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "read once, moved a few times: a box would cost more than it saves")]
pub enum ToCoordinator {
    /// First message of every session, and again when addresses or limits change.
    #[n(0)]
    Announce(#[n(0)] Announce),
    /// Takes part in a task, or changes how.
    #[n(1)]
    Join(#[n(0)] Join),
    /// Asks for a lease on the origin, best from this piece on: somebody reads there.
    #[n(2)]
    AskLease(#[n(0)] TaskId, #[n(1)] Option<PieceIndex>),
    /// What the origin said, under a lease to describe.
    #[n(3)]
    Described(#[n(0)] Described),
    /// Renews a lease: the pieces before `end` were fetched.
    #[n(4)]
    Progress {
        /// The task.
        #[n(0)]
        task: TaskId,
        /// The lease.
        #[n(1)]
        lease: LeaseId,
        /// The first piece that is not done yet; bytes of it may have come. Under a lease to describe, where there are no
        /// pieces yet: anything that grows while content without a length comes.
        #[n(2)]
        end: PieceIndex,
    },
    /// Every piece of a lease was fetched.
    #[n(5)]
    Done {
        /// The task.
        #[n(0)]
        task: TaskId,
        /// The lease.
        #[n(1)]
        lease: LeaseId,
    },
    /// Gives a lease back; the pieces before `end` were fetched.
    #[n(6)]
    Release {
        /// The task.
        #[n(0)]
        task: TaskId,
        /// The lease.
        #[n(1)]
        lease: LeaseId,
        /// The first piece that was not fetched.
        #[n(2)]
        end: PieceIndex,
    },
    /// The origin failed under a lease; the pieces before `end` were fetched.
    #[n(7)]
    LeaseFailed {
        /// The task.
        #[n(0)]
        task: TaskId,
        /// The lease.
        #[n(1)]
        lease: LeaseId,
        /// The first piece that was not fetched.
        #[n(2)]
        end: PieceIndex,
        /// Why.
        #[n(3)]
        failure: Failure,
    },
    /// Asks for more neighbours; `lacking`: no neighbour holds a piece that is missing.
    #[n(8)]
    AskNeighbours {
        /// The task.
        #[n(0)]
        task: TaskId,
        /// Whether a missing piece is held by no neighbour.
        #[n(1)]
        lacking: bool,
        /// For how long nothing has come of what is missing, in milliseconds, once that is longer than it should be.
        #[n(2)]
        starved_ms: Option<u32>,
    },
    /// How much of a generation is held, in eighths of its pieces.
    #[n(9)]
    Report {
        /// The task.
        #[n(0)]
        task: TaskId,
        /// The version of its content.
        #[n(1)]
        generation: Generation,
        /// 0 to 8; 8 only when every piece is held.
        #[n(2)]
        eighths: u8,
    },
    /// A seed's seal on a generation.
    #[n(10)]
    Sealed {
        /// The task.
        #[n(0)]
        task: TaskId,
        /// The version of its content.
        #[n(1)]
        generation: Generation,
        /// The seal.
        #[n(2)]
        seal: SealBundle,
    },
    /// Takes no part in a task any more.
    #[n(11)]
    Leave(#[n(0)] TaskId),
    /// Nothing else to say.
    #[n(12)]
    KeepAlive,
    /// Asks who coordinates a task; answered with [`ToMember::Redirect`], which may name the one asked. Who is no
    /// scheduler is asked before a task is joined, so that all who want it meet at one host.
    #[n(13)]
    Seek {
        /// The task.
        #[n(0)]
        task: TaskId,
        /// A host that was named before and cannot be reached.
        #[n(1)]
        lost: Option<PeerId>,
    },
}

/// From a coordinator to a member.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[non_exhaustive]
pub enum ToMember {
    /// Answers [`ToCoordinator::Announce`].
    #[n(0)]
    Welcome {
        /// How often the member is to say something at least, in milliseconds.
        #[n(0)]
        interval_ms: u32,
        /// Whether it is a scheduler, which coordinates every task that is joined there; else it is a member that
        /// coordinates some, see [`ToCoordinator::Seek`].
        #[n(1)]
        scheduler: bool,
    },
    /// Which generation the task's URL means now.
    #[n(1)]
    Current(#[n(0)] Current),
    /// Hosts to trade with, best first, at most [`NEIGHBOURS_MAX`].
    #[n(2)]
    Neighbours {
        /// The task.
        #[n(0)]
        task: TaskId,
        /// The hosts.
        #[n(1)]
        hosts: Vec<Neighbour>,
    },
    /// A lease.
    #[n(3)]
    Granted(#[n(0)] Granted),
    /// There is nothing to lease now.
    #[n(4)]
    NoLease {
        /// The task.
        #[n(0)]
        task: TaskId,
        /// When to ask again, in milliseconds; absent: not before a message about the task says otherwise.
        #[n(1)]
        retry_ms: Option<u32>,
    },
    /// A lease is void.
    #[n(5)]
    Revoked {
        /// The task.
        #[n(0)]
        task: TaskId,
        /// The lease.
        #[n(1)]
        lease: LeaseId,
    },
    /// The task cannot be had now.
    #[n(6)]
    Failed {
        /// The task.
        #[n(0)]
        task: TaskId,
        /// Why.
        #[n(1)]
        failure: Failure,
    },
    /// A seed is wanted for a task: it should join it.
    #[n(7)]
    Trigger(#[n(0)] TaskInfo),
    /// Another host coordinates this task.
    #[n(8)]
    Redirect {
        /// The task.
        #[n(0)]
        task: TaskId,
        /// The other host, and where it may be reached.
        #[n(1)]
        to: Neighbour,
    },
    /// Other members of the network, at most [`NEIGHBOURS_MAX`]: those that came lately, or, after
    /// [`ToCoordinator::Announce`], some of those that are there.
    #[n(9)]
    Members(#[n(0)] Vec<Neighbour>),
}

/// Names a lease. `epoch` grows with every grant for a task; the higher one wins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord, serde::Serialize, Encode, Decode)]
pub struct LeaseId {
    /// The grantor's number.
    #[n(0)]
    pub number: u64,
    /// Grows with every grant for the task.
    #[n(1)]
    pub epoch: u64,
}

/// A member says who it is and what it can do. Identity and roles come from the session, never from here.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Announce {
    /// The newest version of these messages that the member speaks.
    #[n(0)]
    pub version: u16,
    /// Its addresses, in a record that it signed; absent if nobody can dial it.
    #[n(1)]
    pub record: Option<Signed>,
    /// Whether it acts as a seed (it needs the role for that, too).
    #[n(2)]
    pub seed: bool,
    /// Upload slots in all; 0 if it does not upload.
    #[n(3)]
    pub slots: u16,
    /// The site that it is in, as its operator named it. Between two sites there may be a thin link.
    #[n(4)]
    pub site: Option<String>,
}

/// What a coordinator may know of a task.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct TaskInfo {
    /// The task.
    #[n(0)]
    pub task: TaskId,
    /// Its preimage, if a seed could fetch it by its URL alone: public, nothing filtered away, default trust.
    #[n(1)]
    pub spec: Option<TaskSpec>,
    /// Whether content behind it can never change: a digest or an immutable revision names it.
    #[n(2)]
    pub fixed: bool,
}

/// A member takes part in a task.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Join {
    /// The task.
    #[n(0)]
    pub info: TaskInfo,
    /// A generation of which the member holds pieces, and how it looks.
    #[n(1)]
    pub held: Option<Held>,
    /// Whether it wants the content (else it only serves what it holds).
    #[n(2)]
    pub wanted: bool,
    /// Whether it may fetch from the origin.
    #[n(3)]
    pub may_lease: bool,
    /// How long ago the origin may have confirmed the content, in milliseconds; absent: the default.
    #[n(4)]
    pub age_max_ms: Option<u64>,
    /// Whether content of any age will do if the origin cannot be asked.
    #[n(5)]
    pub stale_ok: bool,
    /// 0 (most urgent) to 7.
    #[n(6)]
    pub priority: u8,
    /// Present where the member had another coordinator for it, until now.
    #[n(7)]
    pub earlier: Option<Earlier>,
}

/// What another coordinator left a member with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum Earlier {
    /// Nothing that says what the content is. Others of its members may know more, and come too.
    #[n(0)]
    Moved,
    /// It was to ask the origin what the content is: it has the answer, or waits for it.
    #[n(1)]
    Asked,
}

/// A generation that a member holds pieces of.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Held {
    /// Which.
    #[n(0)]
    pub generation: Generation,
    /// The content's length in bytes.
    #[n(1)]
    pub length: u64,
    /// The piece length in bytes.
    #[n(2)]
    pub piece_length: u64,
    /// What the origin called this version.
    #[n(3)]
    pub validator: Option<Validator>,
    /// Whether ranges of it may be split among holders.
    #[n(4)]
    pub splittable: bool,
    /// Eighths held, 0 to 8.
    #[n(5)]
    pub eighths: u8,
    /// Whether it takes part in the swarm now, so that others have pieces of it as well: its last coordinator is
    /// lost. Else it is what the member's store had.
    #[n(6)]
    pub live: bool,
    /// What the member is fetching from the origin still, under leases of an earlier coordinator; at most
    /// [`FETCHING_MAX`] runs.
    #[n(7)]
    pub fetching: Vec<Run>,
}

/// What the origin said when a holder described the task.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Described {
    /// The task.
    #[n(0)]
    pub task: TaskId,
    /// The lease under which it was asked.
    #[n(1)]
    pub lease: LeaseId,
    /// How long the answer is fresh, in milliseconds: from `max-age`; 0 on `no-cache`; absent: the default.
    #[n(2)]
    pub fresh_ms: Option<u64>,
    /// What it said.
    #[n(3)]
    pub answer: Answer,
}

/// See [`Described`].
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub enum Answer {
    /// The content; its first pieces are on their way to the holder.
    #[n(0)]
    Content {
        /// Its length in bytes.
        #[n(0)]
        length: u64,
        /// The piece length in bytes.
        #[n(1)]
        piece_length: u64,
        /// What the origin calls this version, if that is a strong validator.
        #[n(2)]
        validator: Option<Validator>,
        /// Whether the origin serves ranges.
        #[n(3)]
        ranges: bool,
        /// How many pieces, from the first, the holder takes with this very response.
        #[n(4)]
        taking: u32,
        /// Whether the length was unknown before the end was seen.
        #[n(5)]
        spooled: bool,
    },
    /// The content, of unknown length; the holder takes all of it and describes it again at its end.
    #[n(1)]
    Spooling,
    /// The version that was asked about is current still.
    #[n(2)]
    Unchanged,
}

/// Which generation is current.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Current {
    /// The task.
    #[n(0)]
    pub task: TaskId,
    /// The version.
    #[n(1)]
    pub generation: Generation,
    /// Its length in bytes, a claim until proven.
    #[n(2)]
    pub length: u64,
    /// Its piece length in bytes.
    #[n(3)]
    pub piece_length: u64,
    /// What the origin calls it.
    #[n(4)]
    pub validator: Option<Validator>,
    /// Whether ranges of it may be split among holders.
    #[n(5)]
    pub splittable: bool,
    /// How long ago the origin confirmed it, in milliseconds.
    #[n(6)]
    pub age_ms: u64,
    /// A seal, if there is one.
    #[n(7)]
    pub seal: Option<SealBundle>,
}

/// A host to trade with.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Neighbour {
    /// Who.
    #[n(0)]
    pub peer: PeerId,
    /// Its addresses, in a record that it signed; absent if it must dial us.
    #[n(1)]
    pub record: Option<Signed>,
    /// The IP address from which its coordinator sees it (4 or 16 bytes): only addresses with it are dialled.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub seen_ip: Option<Vec<u8>>,
    /// Whether it is a seed.
    #[n(3)]
    pub seed: bool,
    /// What this member is to bring from there, if it is in another site; absent if the two are near each other.
    #[n(4)]
    pub share: Option<Share>,
}

/// What one member brings into its site: every `of`th run of pieces, the `part`th of them. The others of its site have
/// the other parts, so that a piece crosses once. Of none (0 of 0): others bring all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Share {
    /// Which part, from 0.
    #[n(0)]
    pub part: u16,
    /// Of how many.
    #[n(1)]
    pub of: u16,
}

/// Pieces of one run, as shares count them: the most of one allotment, so that what left a seed together crosses together.
const SHARE_RUN: PieceIndex = 4;

impl Share {
    /// All that is there.
    pub const ALL: Self = Self { part: 0, of: 1 };

    /// Nothing, as long as others bring it.
    pub const NONE: Self = Self { part: 0, of: 0 };

    /// Whether a piece is of this part.
    pub const fn covers(self, piece: PieceIndex) -> bool {
        match self.of {
            0 => false,
            of => piece / SHARE_RUN % of as PieceIndex == self.part as PieceIndex,
        }
    }
}

/// A lease on the origin.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Granted {
    /// The task.
    #[n(0)]
    pub task: TaskId,
    /// The lease.
    #[n(1)]
    pub lease: LeaseId,
    /// Without progress for so long it lapses, in milliseconds (T of `docs/design/trust.md`, Leases).
    #[n(2)]
    pub timeout_ms: u32,
    /// What to do.
    #[n(3)]
    pub work: Work,
}

/// What a lease is for.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub enum Work {
    /// Ask the origin what the content is now, and take its first pieces with the same request.
    #[n(0)]
    Describe {
        /// The version last known, to be asked about.
        #[n(0)]
        prior: Option<Validator>,
    },
    /// Fetch the pieces that the grant names.
    #[n(1)]
    Pieces {
        /// The signed grant (with the credentials that let others check it).
        #[n(0)]
        bundle: GrantBundle,
        /// The grant, read from the bundle by the receiver; never encoded.
        #[cbor(skip)]
        grant: Option<Box<Grant>>,
    },
}

/// Why something cannot be had.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Failure {
    /// The kind.
    #[n(0)]
    pub kind: FailureKind,
    /// Whether trying again may help.
    #[n(1)]
    pub temporary: bool,
    /// The HTTP status, if there was one.
    #[n(2)]
    pub status: Option<u16>,
    /// When to try again, in milliseconds, if the origin said so.
    #[n(3)]
    pub retry_ms: Option<u32>,
    /// For a person; without credentials; at most 256 bytes.
    #[n(4)]
    pub text: String,
}

/// See [`Failure`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum FailureKind {
    /// The content changed under a validator.
    #[n(0)]
    Changed,
    /// The origin refuses (401, 403, 407).
    #[n(1)]
    Forbidden,
    /// This host cannot or may not reach the origin: another may.
    #[n(2)]
    Local,
    /// The origin has no such content (404, 410).
    #[n(3)]
    NotFound,
    /// The origin failed in another way.
    #[n(4)]
    Origin,
    /// Too many tasks, or a quota is used up.
    #[n(5)]
    Overloaded,
}
