//! What the engine does now, for listings: tasks under way, and the hosts that they are exchanged with.

use std::time::Duration;

use super::actor::Actor;
use crate::net::Carrier;
use crate::task::{Class, Generation, TaskId};
use crate::wire::{Address, PeerId};

/// A task that takes part in the swarm, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ActiveTask {
    /// The task.
    pub task: TaskId,
    /// The version that is exchanged, once it is known.
    pub generation: Option<Generation>,
    /// Its URL without anything secret.
    pub label: String,
    /// Its length in bytes, once it is known.
    pub length: Option<u64>,
    /// Bytes of it that are held and proven.
    pub bytes_held: u64,
    /// Bytes that this host took from the origin since the task takes part.
    pub bytes_from_origin: u64,
    /// Bytes that this host took from peers since the task takes part.
    pub bytes_from_peers: u64,
    /// Hosts that its pieces are exchanged with.
    pub neighbours: u32,
    /// Callers who wait for it; with none it is only served.
    pub callers: u32,
    /// Whether its id must not be shown: who knows it may ask for the content.
    pub private: bool,
}

/// A host that this one has met, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NeighbourInfo {
    /// Who it is.
    pub peer: PeerId,
    /// Where it can be reached, as far as is known.
    pub addresses: Vec<Address>,
    /// Whether a lane to it is open.
    pub connected: bool,
    /// What carries the lane, if it is open.
    pub carrier: Option<Carrier>,
    /// Tasks that are exchanged with it.
    pub tasks: u32,
    /// Bytes a second that it sends while something is due from it.
    pub down: Option<u64>,
    /// Bytes a second that it takes while it is served.
    pub up: Option<u64>,
    /// The shortest time from a request to its first byte.
    pub round_trip: Option<Duration>,
    /// Requests of this host that it has not answered yet.
    pub requests: u32,
    /// Requests of it that wait here or are being served.
    pub queued: u32,
}

impl Actor {
    /// Every task that takes part, in the order of ids.
    pub(super) fn active_tasks(&self) -> Vec<ActiveTask> {
        let view = |(id, task): (&TaskId, &super::tasks::Task)| {
            let content = task.current.and_then(|key| self.contents.get(&key));
            let counts = content.map(|content| content.counts()).unwrap_or_default();
            ActiveTask {
                task: *id,
                generation: content.map(|content| content.generation),
                label: task.label.clone(),
                length: content.map(|content| content.layout.length()),
                bytes_held: content.map_or(0, |content| content.held_bytes()),
                bytes_from_origin: counts.from_origin,
                bytes_from_peers: counts.from_peers,
                neighbours: task.current.map_or(0, |key| self.swarm.neighbours(key).count() as u32),
                callers: task.wants.len() as u32,
                private: matches!(task.scope.class, Class::Keyed | Class::Reauth),
            }
        };
        self.tasks.iter().map(view).collect()
    }

    /// Every host that is met, in the order in which they were.
    pub(super) fn neighbour_infos(&self) -> Vec<NeighbourInfo> {
        let view = |met: super::hosts::Met<'_>| {
            let rates = self.swarm.host_rates(met.key);
            NeighbourInfo {
                peer: met.peer,
                addresses: met.addresses.to_vec(),
                connected: met.carrier.is_some(),
                carrier: met.carrier,
                tasks: met.tasks as u32,
                down: rates.and_then(|rates| rates.down),
                up: rates.and_then(|rates| rates.up),
                round_trip: rates.and_then(|rates| rates.round_trip),
                requests: rates.map_or(0, |rates| rates.requests as u32),
                queued: rates.map_or(0, |rates| rates.queued as u32),
            }
        };
        self.hosts.met().map(view).collect()
    }
}
