//! Lanes between hosts, and the pieces on them.

use std::time::Duration;

use dragonfly_core::swarm::{HostKey, Input, RequestId, TaskKey};

use super::{Event, World};
use crate::network::{Chunk, Flow};

/// From a piece that is proven to the store's word that it is held.
const STORE: Duration = Duration::from_micros(100);

impl World {
    pub(super) fn lane(&self, a: u32, b: u32) -> Option<u64> {
        self.lanes.get(&(a.min(b), a.max(b))).copied()
    }

    pub(super) fn raise_lane(&mut self, from: u32, to: u32) {
        let alive = |host: u32| self.hosts[host as usize].is_alive;
        if !alive(from) || !alive(to) {
            return self.input(from, Input::LaneDown { host: HostKey(to) });
        }
        self.lanes_made += 1;
        let made = self.lanes_made;
        self.lanes.entry((from.min(to), from.max(to))).or_insert(made);
        self.input(to, Input::LaneUp { host: HostKey(from) });
        self.input(from, Input::LaneUp { host: HostKey(to) });
    }

    pub(super) fn drop_lane(&mut self, a: u32, b: u32) {
        if self.lanes.remove(&(a.min(b), a.max(b))).is_none() {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            self.network.cut(from, to);
            let latency = self.network.latency(from, to);
            self.later(latency, from, Input::LaneDown { host: HostKey(to) });
        }
    }

    pub(super) fn open(&mut self, from: u32, to: u32, lane: u64, task: TaskKey) {
        if self.lane(from, to) != Some(lane) {
            return;
        }
        let (a, b) = (HostKey(from), HostKey(to));
        if self.hosts[to as usize].held.contains_key(&task) {
            // The answer goes ahead of the have-map that follows it.
            self.tell(to, a, Input::TaskOpened { host: b, task, wanted: true });
            self.input(to, Input::TaskOpened { host: a, task, wanted: true });
        } else {
            self.tell(to, a, Input::TaskClosed { host: b, task });
        }
    }

    pub(super) fn transmit(&mut self, from: u32, to: u32, task: TaskKey, request: u32, piece: u32, skip: u32) {
        let Some(lane) = self.lane(from, to) else { return };
        let Some(bytes) = self.layouts[&task].length_of(piece) else { return };
        let held = self.hosts[from as usize].held.get(&task);
        assert!(held.is_some_and(|held| held.contains(piece)), "host {from} serves piece {piece} and lacks it");
        if self.hosts[from as usize].options.is_mute {
            return;
        }
        self.network.send(Flow::new(from, to, lane, task, request, piece, bytes - u64::from(skip)));
        self.start(from);
    }

    pub(super) fn start(&mut self, from: u32) {
        if let Some(at) = self.network.start(self.now, from) {
            self.events.push(at, Event::Left(from));
        }
    }

    pub(super) fn left(&mut self, from: u32) {
        let Some(chunk) = self.network.left(from) else { return };
        self.hosts[from as usize].sent += chunk.bytes;
        let at = self.now.after(self.network.latency(from, chunk.flow.to));
        self.events.push(at, Event::Arrive(chunk));
        self.start(from);
        let Flow { to, lane, request, piece, bytes, .. } = chunk.flow;
        if chunk.is_last && self.lane(from, to) == Some(lane) {
            self.input(from, Input::Sent { host: HostKey(to), request, piece, bytes: bytes as u32 });
        }
    }

    pub(super) fn arrived(&mut self, chunk: Chunk) {
        self.network.arrived(&chunk);
        self.start(chunk.flow.from);
        let Flow { from, to, lane, task, request, piece, .. } = chunk.flow;
        let (host, request) = (HostKey(from), RequestId(request));
        let receiver = &mut self.hosts[to as usize];
        if !receiver.requests.contains(&request) || self.lane(from, to) != Some(lane) {
            self.hosts[to as usize].wasted += chunk.bytes;
            return;
        }
        self.input(to, Input::Received { host, request, bytes: chunk.bytes as u32 });
        if !chunk.is_last {
            return;
        }
        if self.hosts[from as usize].options.is_corrupt {
            return self.input(to, Input::Refuted { host, request, piece });
        }
        self.input(to, Input::Proven { host, request, piece });
        self.later(STORE, to, Input::Stored { task, piece });
    }
}
