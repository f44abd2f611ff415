//! What the daemon does now: tasks under way, neighbours, events, log levels.

use dragonfly_core::{ActiveTask, Event, NeighbourInfo};
use serde::{Deserialize, Serialize};

use super::{ErrorBody, ReceiptBody};

/// What `POST /v1/resolve` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResolveBody {
    /// The id of the task that the request names.
    pub task: String,
}

/// A task that takes part in the swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveBody {
    /// The task's id; none where the id is a capability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The version of its content, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// What it is, for people; URLs are redacted.
    pub label: String,
    /// Bytes in all, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Bytes held and proven.
    pub bytes_held: u64,
    /// Bytes that this host took from the origin.
    pub bytes_from_origin: u64,
    /// Bytes that this host took from peers.
    pub bytes_from_peers: u64,
    /// Hosts with which its pieces are exchanged.
    pub neighbours: u32,
    /// Callers who wait for it; with none it is only served.
    pub callers: u32,
}

impl From<&ActiveTask> for ActiveBody {
    fn from(task: &ActiveTask) -> Self {
        Self {
            task: (!task.private).then(|| task.task.to_string()),
            generation: task.generation.map(|generation| generation.to_string()),
            label: task.label.clone(),
            length: task.length,
            bytes_held: task.bytes_held,
            bytes_from_origin: task.bytes_from_origin,
            bytes_from_peers: task.bytes_from_peers,
            neighbours: task.neighbours,
            callers: task.callers,
        }
    }
}

/// What `GET /v1/active` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActivesBody {
    /// The tasks, in order of their ids.
    pub tasks: Vec<ActiveBody>,
}

/// A host that pieces are, or were, exchanged with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourBody {
    /// Its identity.
    pub peer: String,
    /// Where it can be reached, as far as is known.
    pub addresses: Vec<String>,
    /// Whether a lane to it is open.
    pub connected: bool,
    /// What carries it, if it is open: `lane`, a connection of its own, `plain`, one without encryption, or `stream`, for want
    /// of either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<String>,
    /// Tasks that are exchanged with it.
    pub tasks: u32,
    /// Bytes a second that it sends while something is due from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<u64>,
    /// Bytes a second that it takes while it is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<u64>,
    /// The shortest time from a request to its first byte, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u64>,
    /// Requests of this host that it has not answered yet.
    pub requests: u32,
    /// Requests of it that wait here or are being served.
    pub queued: u32,
}

impl NeighbourBody {
    /// What carries its lane, in a word for people.
    pub(crate) fn lane(&self) -> &str {
        match &self.carrier {
            Some(carrier) => carrier,
            None if self.connected => "up",
            None => "-",
        }
    }
}

impl From<&NeighbourInfo> for NeighbourBody {
    fn from(info: &NeighbourInfo) -> Self {
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self {
            peer: info.peer.to_string(),
            addresses: info.addresses.iter().map(ToString::to_string).collect(),
            connected: info.connected,
            carrier: info.carrier.map(|carrier| carrier.name().to_owned()),
            tasks: info.tasks,
            down: info.down,
            up: info.up,
            round_trip_us: info.round_trip.map(micros),
            requests: info.requests,
            queued: info.queued,
        }
    }
}

/// What `GET /v1/neighbours` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NeighboursBody {
    /// The hosts, in the order in which they were met.
    pub neighbours: Vec<NeighbourBody>,
}

/// What `GET` and `PUT /v1/log` exchange.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogBody {
    /// Levels as `--log-level` takes them: `info`, or `info,swarm=debug`.
    pub levels: String,
}

/// What happened to a fetch: a line of `dfget --json`, and the data of an event of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventBody {
    /// The length is known (again, should the origin's content have changed).
    Described {
        /// Bytes in all.
        length: u64,
    },
    /// More bytes are held.
    Progress {
        /// Bytes held and proven.
        bytes: u64,
        /// Bytes in all.
        length: u64,
        /// Of them from the origin, by the host that fetches.
        bytes_from_origin: u64,
        /// Of them from peers.
        bytes_from_peers: u64,
        /// Hosts with which pieces are exchanged.
        neighbours: u32,
    },
    /// Something went wrong that is made good.
    Trouble {
        /// Fetches from the origin that failed and are tried again.
        retries: u32,
        /// Pieces from peers that did not match their hash.
        refuted: u32,
    },
    /// Every byte is held; digest and output remain.
    Complete,
    /// The end: all is there.
    Receipt(ReceiptBody),
    /// The end: it failed.
    Failed(ErrorBody),
}

impl EventBody {
    /// The event of the library; `None` for kinds that this version does not know.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        Some(match *event {
            Event::Described { length } => Self::Described { length },
            Event::Progress { bytes, length, from_origin, from_peers, neighbours } => {
                let (bytes_from_origin, bytes_from_peers) = (from_origin, from_peers);
                Self::Progress { bytes, length, bytes_from_origin, bytes_from_peers, neighbours }
            }
            Event::Trouble { retries, refuted } => Self::Trouble { retries, refuted },
            Event::Complete => Self::Complete,
            _ => return None,
        })
    }
}

/// An event of `GET /v1/events` with whom it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskEvent {
    /// The task's id; none where the id is a capability, unless the listener named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub what: EventBody,
}
