//! What the core keeps per task, and per neighbour of a task.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use super::across::Across;
use super::bits::Bits;
use super::host::Host;
use super::inject::{Child, Inject};
use super::lease::Leases;
use super::pieces::Pieces;
use super::rate::Rate;
use super::report::Reports;
use super::whole::Asking;
use super::{HostKey, TaskOptions, Time};
use crate::task::{HaveMap, Layout, PieceIndex};

/// Runs that a neighbour may have allotted to us and we have not asked for yet; what is beyond is chosen as any
/// other piece that it holds.
const ALLOTTED_MAX: usize = 256;

/// A generation of a task on this host.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) layout: Layout,
    pub(super) options: TaskOptions,
    pub(super) pieces: Pieces,
    /// Held pieces that every neighbour may know of.
    pub(super) public: HaveMap,
    /// Pieces made public since the last have-map tick.
    pub(super) fresh: Vec<PieceIndex>,
    /// The last have-map tick.
    pub(super) ticked: Option<Time>,
    pub(super) members: BTreeMap<HostKey, Member>,
    pub(super) candidates: BTreeMap<HostKey, Candidate>,
    pub(super) bans: BTreeMap<HostKey, Ban>,
    /// Whether a neighbour is asked for all of it.
    pub(super) asking: Asking,
    /// Neighbours in other sites.
    pub(super) across: Across,
    pub(super) window: Range<PieceIndex>,
    pub(super) inject: Inject,
    pub(super) leases: Leases,
    pub(super) reports: Reports,
    pub(super) done: bool,
    /// How fast its pieces arrive, from all neighbours.
    pub(super) rate: Rate,
    /// Bytes asked for and served, as fair shares count them.
    pub(super) pulled: u64,
    pub(super) pushed: u64,
    /// Whether its coordinator answers.
    pub(super) authority: bool,
    /// The pause after the next question for neighbours.
    pub(super) ask_pause: Duration,
    /// When neighbours may be asked for again.
    pub(super) ask_at: Time,
    /// When they were asked for last.
    pub(super) asked: Time,
    /// When a piece, or a fair part of one, came last.
    pub(super) fed: Time,
}

impl Task {
    pub(super) fn new(layout: Layout, have: HaveMap, options: TaskOptions, ask_at: Time, ask_pause: Duration) -> Self {
        // A map of another length is no map of this task: nothing is held then.
        let have = if have.pieces() == layout.pieces() { have } else { HaveMap::empty(layout.pieces()) };
        Self {
            pieces: Pieces::new(have),
            public: HaveMap::empty(layout.pieces()),
            layout,
            options,
            fresh: Vec::new(),
            ticked: None,
            members: BTreeMap::new(),
            candidates: BTreeMap::new(),
            bans: BTreeMap::new(),
            asking: Asking::Not,
            across: Across::default(),
            window: 0..0,
            inject: Inject::default(),
            leases: Leases::default(),
            reports: Reports::default(),
            done: false,
            rate: Rate::default(),
            pulled: 0,
            pushed: 0,
            authority: true,
            ask_pause,
            ask_at,
            asked: Time::ZERO,
            fed: ask_at,
        }
    }

    /// Whether pieces are missing that this host wants.
    pub(super) const fn is_wanting(&self) -> bool {
        self.options.wanted && !self.pieces.have().is_complete()
    }

    /// The class of its priority.
    pub(super) fn class(&self) -> usize {
        usize::from(self.options.priority).min(super::share::CLASSES - 1)
    }

    /// Neighbours whose pieces count and that have not let us down lately.
    pub(super) fn reliable<'a>(&'a self, hosts: &'a BTreeMap<HostKey, Host>) -> impl Iterator<Item = &'a Member> + 'a {
        let is_reliable = |host: &HostKey| hosts.get(host).is_some_and(|host| host.strikes == 0);
        self.members.iter().filter(move |(host, member)| member.counted && is_reliable(host)).map(|(_, member)| member)
    }

    /// Bytes of a piece; 0 past the end.
    pub(super) fn bytes(&self, piece: PieceIndex) -> u64 {
        self.layout.length_of(piece).unwrap_or(0)
    }

    /// The part of `range` that exists.
    pub(super) fn clip(&self, range: &Range<PieceIndex>) -> Range<PieceIndex> {
        range.start..range.end.min(self.layout.pieces()).max(range.start)
    }
}

/// A neighbour of a task.
#[derive(Debug)]
pub(super) struct Member {
    /// What it holds, as far as we were told.
    pub(super) theirs: Bits,
    /// Whether it wants pieces.
    pub(super) wanted: bool,
    /// Whether its pieces count; false while it is banned.
    pub(super) counted: bool,
    /// Whether ticks were left out because it was complete.
    pub(super) behind: bool,
    /// What it allotted to us.
    pub(super) allotted: VecDeque<Range<PieceIndex>>,
    /// What we allot to it.
    pub(super) child: Child,
}

impl Member {
    pub(super) fn new(pieces: u32, wanted: bool, counted: bool) -> Self {
        Self {
            theirs: Bits::empty(pieces),
            wanted,
            counted,
            behind: false,
            allotted: VecDeque::new(),
            child: Child::default(),
        }
    }

    pub(super) fn push_allotted(&mut self, range: Range<PieceIndex>) {
        if self.allotted.len() < ALLOTTED_MAX {
            self.allotted.push_back(range);
        }
    }
}

/// A host that was named as a neighbour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Its place in the list; the first is the best.
    pub(super) rank: u32,
    /// Attempts that failed since it was last a neighbour.
    pub(super) failures: u32,
    /// When it may be tried again.
    pub(super) retry: Time,
}

/// A host that sent bytes which fail their hash, or refused what it claimed to have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ban {
    pub(super) until: Time,
    pub(super) strikes: u32,
    /// How often it refused what it had claimed, without a piece between.
    pub(super) refusals: u32,
}
