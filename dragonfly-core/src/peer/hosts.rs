//! Neighbour hosts and the lanes to them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::actor::Actor;
use super::content::Content;
use super::event::{Event, LaneEvent};
use super::lane::{self, COMMANDS_MAX, LaneCommand, LaneNumber};
use crate::net::{Incoming, Stream};
use crate::node::LANE_PROTOCOL;
use crate::swarm::{HostKey, Input, TaskKey};
use crate::trust::open_record;
use crate::wire::control::Neighbour;
use crate::wire::lane::RejectReason;
use crate::wire::{Address, PeerId};
use crate::{Error, ErrorKind, Result};

/// The hosts that this one has met, by number.
#[derive(Default)]
pub(super) struct Hosts {
    by_peer: HashMap<PeerId, HostKey>,
    table: Vec<Host>,
    lanes: u64,
}

struct Host {
    peer: PeerId,
    addresses: Vec<Address>,
    lane: Option<OpenLane>,
}

struct OpenLane {
    number: LaneNumber,
    /// Whether this host opened it.
    ours: bool,
    commands: mpsc::Sender<LaneCommand>,
    tasks: BTreeMap<TaskKey, Sides>,
}

/// Which sides have opened a task on a lane.
#[derive(Clone, Copy, Default)]
struct Sides {
    ours: bool,
    /// Whether they want pieces, once they have opened it.
    theirs: Option<bool>,
}

impl Hosts {
    fn key(&mut self, peer: PeerId) -> HostKey {
        let table = &mut self.table;
        *self.by_peer.entry(peer).or_insert_with(|| {
            table.push(Host { peer, addresses: Vec::new(), lane: None });
            HostKey(table.len() as u32 - 1)
        })
    }

    fn get(&mut self, host: HostKey) -> Option<&mut Host> {
        self.table.get_mut(host.0 as usize)
    }

    pub(super) fn peer(&self, host: HostKey) -> Option<PeerId> {
        self.table.get(host.0 as usize).map(|host| host.peer)
    }

    fn lane(&mut self, host: HostKey) -> Option<&mut OpenLane> {
        self.get(host)?.lane.as_mut()
    }

    pub(super) fn lanes_up(&self) -> usize {
        self.table.iter().filter(|host| host.lane.is_some()).count()
    }
}

impl Actor {
    /// Takes note of a neighbour; `None` if it is this very host or its record does not hold.
    pub(super) fn intern(&mut self, neighbour: Neighbour) -> Option<HostKey> {
        if neighbour.peer == self.node.peer_id() {
            return None;
        }
        let addresses = match &neighbour.record {
            None => Vec::new(),
            Some(record) => match open_record(record, neighbour.peer) {
                Ok(addresses) => addresses,
                Err(error) => {
                    tracing::debug!(peer = %neighbour.peer, %error, "a neighbour's record does not hold");
                    return None;
                }
            },
        };
        let seen = neighbour.seen_ip.as_deref().and_then(crate::node::ip_of_bytes);
        let host = self.hosts.key(neighbour.peer);
        if let Some(entry) = self.hosts.get(host) {
            // Only where its coordinator sees it, or somebody could send ten thousand hosts to a stranger.
            entry.addresses = addresses
                .into_iter()
                .filter(|address| seen.is_none() || address.ip().is_none_or(|ip| Some(ip) == seen))
                .collect();
        }
        Some(host)
    }

    pub(super) fn dial(&mut self, key: HostKey) {
        let Some(host) = self.hosts.get(key) else { return };
        if host.lane.is_some() {
            self.input(Input::LaneUp { host: key });
            return;
        }
        let (peer, addresses, node) = (host.peer, host.addresses.clone(), self.node.clone());
        self.spawn_event(async move { Event::Dialled { host: key, outcome: open(&node, peer, addresses).await } });
    }

    pub(super) fn dialled(&mut self, host: HostKey, outcome: Result<Stream>) {
        match outcome {
            Ok(stream) => self.start_lane(host, stream, true),
            Err(error) => {
                tracing::debug!(?host, %error, "cannot open a lane");
                if self.hosts.lane(host).is_none() {
                    self.input(Input::LaneDown { host });
                }
            }
        }
    }

    pub(super) fn incoming_lane(&mut self, incoming: Incoming) {
        let host = self.hosts.key(incoming.peer);
        self.start_lane(host, incoming.stream, false);
    }

    /// Runs a lane. If both hosts opened one at the same time, the one that the smaller id opened stays: both
    /// ends come to the same choice whatever they see first.
    fn start_lane(&mut self, key: HostKey, stream: Stream, ours: bool) {
        let me = self.node.peer_id();
        let Some(host) = self.hosts.get(key) else { return };
        let peer = host.peer;
        let preferred = (me < peer) == ours;
        match &host.lane {
            Some(lane) if lane.ours != ours && !preferred => return,
            Some(_) => {
                // A second one by the same side replaces the first: that one is broken, or its opener forgot it.
                host.lane = None;
                self.input(Input::LaneDown { host: key });
            }
            None => {}
        }
        self.hosts.lanes += 1;
        let number = LaneNumber(self.hosts.lanes);
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        if let Some(host) = self.hosts.get(key) {
            host.lane = Some(OpenLane { number, ours, commands, tasks: BTreeMap::new() });
        }
        let (node, registry, events) = (self.node.clone(), self.registry.clone(), self.events.clone());
        self.node.spawn(lane::run(node, (key, peer, number), registry, stream, queue, events));
        self.input(Input::LaneUp { host: key });
    }

    /// Closes a lane; what was queued on it is sent first.
    pub(super) fn close_lane(&mut self, key: HostKey) {
        if let Some(host) = self.hosts.get(key) {
            host.lane = None;
        }
    }

    /// Queues a command on a lane. A lane that does not keep up is closed.
    pub(super) fn send(&mut self, host: HostKey, command: LaneCommand) {
        let Some(lane) = self.hosts.lane(host) else { return };
        if lane.commands.try_send(command).is_err() {
            tracing::debug!(?host, "a lane does not keep up, or has just ended");
            self.close_lane(host);
            self.input(Input::LaneDown { host });
        }
    }

    /// Takes part in a task over a lane.
    pub(super) fn open_task(&mut self, host: HostKey, key: TaskKey) {
        let Some(content) = self.contents.get(&key).cloned() else { return };
        let Some(lane) = self.hosts.lane(host) else { return };
        let sides = lane.tasks.entry(key).or_default();
        let first = !std::mem::replace(&mut sides.ours, true);
        let theirs = sides.theirs;
        if first {
            let wanted = !content.is_complete();
            self.send(host, LaneCommand::Open { content, wanted });
        }
        if let Some(wanted) = theirs {
            self.input(Input::TaskOpened { host, task: key, wanted });
        }
    }

    pub(super) fn lane(&mut self, host: HostKey, number: LaneNumber, event: LaneEvent) {
        if self.hosts.lane(host).map(|lane| lane.number) != Some(number) {
            return;
        }
        match event {
            LaneEvent::Input(input) => self.input(input),
            LaneEvent::Down => {
                self.close_lane(host);
                self.input(Input::LaneDown { host });
            }
            LaneEvent::Opened { task, wanted } => {
                if let Some(lane) = self.hosts.lane(host) {
                    lane.tasks.entry(task).or_default().theirs = Some(wanted);
                }
                self.open_task(host, task);
            }
            LaneEvent::OpenedUnknown { task, generation } => {
                let Some(key) = self.registry.find(task, generation).map(|content| content.key) else {
                    let key = TaskKey(u32::MAX);
                    self.send(host, LaneCommand::Close { key, task, generation, opened: false });
                    return;
                };
                // It became known between the lane's look and this one, and this host may have opened it, too. The
                // neighbour takes a close for the end of both, so both start anew.
                let sides = self.hosts.lane(host).and_then(|lane| lane.tasks.remove(&key));
                let opened = sides.is_some_and(|sides| sides.ours);
                self.send(host, LaneCommand::Close { key, task, generation, opened });
                self.input(Input::TaskClosed { host, task: key });
                self.open_task(host, key);
            }
            LaneEvent::Closed { task, generation } => {
                let key = self.registry.find(task, generation).map(|content| content.key);
                let Some(key) = key else { return };
                if let Some(lane) = self.hosts.lane(host) {
                    lane.tasks.remove(&key);
                }
                self.input(Input::TaskClosed { host, task: key });
            }
            LaneEvent::Cancelled { request } => {
                self.send(host, LaneCommand::StopServing { request });
                self.input(Input::Cancelled { host, request });
            }
            LaneEvent::Conflicting { request } => {
                self.send(host, LaneCommand::Reject { request, reason: RejectReason::Conflict });
            }
            LaneEvent::Unservable { request } => {
                self.send(host, LaneCommand::Reject { request, reason: RejectReason::NotHeld });
            }
            LaneEvent::Unreadable { request } => self.input(Input::ServeFailed { host, request }),
        }
    }

    /// Tells every neighbour that a generation takes part no more.
    pub(super) fn close_on_lanes(&mut self, content: &Content) {
        let key = content.key;
        for index in 0..self.hosts.table.len() {
            let host = HostKey(index as u32);
            let opened = self.hosts.lane(host).and_then(|lane| lane.tasks.remove(&key));
            if let Some(sides) = opened {
                let (task, generation) = (content.task, content.generation);
                self.send(host, LaneCommand::Close { key, task, generation, opened: sides.ours });
            }
        }
    }

    /// Shows a new seal to every neighbour that has the task open.
    pub(super) fn show_seal(&mut self, content: &Arc<Content>) {
        for index in 0..self.hosts.table.len() {
            let host = HostKey(index as u32);
            let open = self.hosts.lane(host).is_some_and(|lane| lane.tasks.contains_key(&content.key));
            if open {
                self.send(host, LaneCommand::Seal { content: Arc::clone(content) });
            }
        }
    }
}

async fn open(node: &crate::node::Node, peer: PeerId, addresses: Vec<Address>) -> Result<Stream> {
    if !node.host().is_connected(peer) {
        if addresses.is_empty() {
            return Err(Error::new(ErrorKind::Network, format!("no address of {peer} is known")));
        }
        node.host().connect(peer, addresses).await?;
    }
    Ok(node.host().open(peer, LANE_PROTOCOL).await?)
}
