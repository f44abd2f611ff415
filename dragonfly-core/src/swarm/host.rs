//! What the core keeps per host: its lane, rates, requests and slot, shared by all tasks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::rate::Rate;
use super::upload::{Slot, Upload};
use super::whole::Asks;
use super::{RequestId, TaskKey, Time};

/// Assumed until something was measured: a round trip within one continent.
const ROUND_TRIP_UNKNOWN: Duration = Duration::from_millis(20);

/// A neighbour host.
#[derive(Debug)]
pub(super) struct Host {
    /// Whether its lane is open; else it is being dialled.
    pub(super) up: bool,
    /// Whether we dialled it, because somebody named it as a neighbour.
    pub(super) dialled: bool,
    /// Since when it is known.
    pub(super) since: Time,
    /// Whether a piece that it sent was proven.
    pub(super) useful: bool,
    /// Tasks it is a neighbour in.
    pub(super) tasks: BTreeSet<TaskKey>,
    /// Tasks that we offered to open, and when.
    pub(super) opening: BTreeMap<TaskKey, Time>,
    /// What we ask it for at once, all of each.
    pub(super) asks: Asks,
    /// When small content was last asked for or answered, either way.
    pub(super) used: Time,
    /// Our requests, oldest first.
    pub(super) requests: BTreeSet<RequestId>,
    /// Bytes requested of it that have not arrived.
    pub(super) pending: u64,
    /// What it sends us.
    pub(super) down: Rate,
    /// The shortest time from a request to its first byte.
    pub(super) round_trip: Option<Duration>,
    /// When it last sent something, or was first asked after a pause.
    pub(super) progress: Time,
    /// Bytes that it sent since, too few to count.
    pub(super) trickle: u64,
    /// It is asked for nothing until then.
    pub(super) probation: Time,
    /// How often it was put on probation, less what it delivered since.
    pub(super) strikes: u32,
    /// Its requests.
    pub(super) uploads: VecDeque<Upload>,
    /// Its turn, while it is being served.
    pub(super) slot: Option<Slot>,
    /// The number of its last turn.
    pub(super) turned: u64,
    /// What we send it.
    pub(super) sent: Rate,
}

impl Host {
    /// Whether its lane is open and nothing is held against it.
    pub(super) fn can_be_asked(&self, now: Time) -> bool {
        self.up && self.strikes == 0 && self.probation <= now
    }

    /// One that opened a lane to us (`up`), or that we dial.
    pub(super) fn new(up: bool, since: Time) -> Self {
        Self {
            up,
            dialled: !up,
            since,
            useful: false,
            tasks: BTreeSet::new(),
            opening: BTreeMap::new(),
            asks: Asks::default(),
            used: Time::ZERO,
            requests: BTreeSet::new(),
            pending: 0,
            down: Rate::default(),
            round_trip: None,
            progress: Time::ZERO,
            trickle: 0,
            probation: Time::ZERO,
            strikes: 0,
            uploads: VecDeque::new(),
            slot: None,
            turned: 0,
            sent: Rate::default(),
        }
    }

    pub(super) fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or(ROUND_TRIP_UNKNOWN)
    }
}
