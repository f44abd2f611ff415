//! Lanes between hosts, and the pieces on them.

use std::time::Duration;

use dragonfly_core::swarm::{HostKey, Input, RequestId, TaskKey};

use super::{Event, World};
use crate::network::{Chunk, Flow, Sharing};

/// From a piece that is proven to the store's word that it is held.
const STORE: Duration = Duration::from_micros(100);

impl World {
    pub(super) fn lane(&self, a: u32, b: u32) -> Option<u64> {
        self.hosts[a as usize].lanes.iter().find(|(other, _)| *other == b).map(|(_, lane)| *lane)
    }

    pub(super) fn raise_lane(&mut self, from: u32, to: u32) {
        let alive = |host: u32| self.hosts[host as usize].is_alive;
        if !alive(from) || !alive(to) || self.are_apart(from, to) {
            return self.input(from, Input::LaneDown { host: HostKey(to) });
        }
        if self.lane(from, to).is_none() {
            self.lanes_made += 1;
            self.hosts[from as usize].lanes.push((to, self.lanes_made));
            self.hosts[to as usize].lanes.push((from, self.lanes_made));
        }
        self.input(to, Input::LaneUp { host: HostKey(from) });
        self.input(from, Input::LaneUp { host: HostKey(to) });
    }

    pub(super) fn drop_lane(&mut self, a: u32, b: u32) {
        if self.lane(a, b).is_none() {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            self.hosts[from as usize].lanes.retain(|(other, _)| *other != to);
            let came = self.network.cut(self.now, from, to);
            self.hosts[from as usize].sent += came;
            self.hosts[to as usize].wasted += came;
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
        self.hosts[from as usize].began.get_or_insert(self.now);
        let flow = Flow::new(from, to, lane, task, request, piece, bytes - u64::from(skip));
        if self.network.sharing == Sharing::Chunks {
            self.network.send(flow);
            return self.start(from);
        }
        let (due, ending) = self.network.begin(self.now, flow);
        if let Some(due) = due {
            self.events.push(due, Event::Allocate);
        }
        if let Some((at, index, serial)) = ending {
            self.events.push(at, Event::Ended { index, serial });
        }
        // Its first byte, from which the receiver learns the round trip.
        let first = Input::Received { host: HostKey(from), request: RequestId(request), bytes: 0 };
        self.tell(from, HostKey(to), first);
    }

    /// Shares the links anew.
    pub(super) fn allocate(&mut self) {
        let mut endings = std::mem::take(&mut self.endings);
        let due = self.network.allocate(self.now, &mut endings);
        for (at, index, serial) in endings.drain(..) {
            self.events.push(at, Event::Ended { index, serial });
        }
        self.endings = endings;
        if let Some(due) = due {
            self.events.push(due, Event::Allocate);
        }
    }

    /// A flow of the exact model has ended.
    pub(super) fn ended(&mut self, index: u32, serial: u64) {
        let Some(flow) = self.network.ended(index, serial) else { return };
        let Flow { from, to, lane, request, piece, bytes, .. } = flow;
        self.hosts[from as usize].sent += bytes;
        let at = self.now.after(self.network.latency(from, to));
        self.events.push(at, Event::Arrived(Chunk { flow, bytes, is_last: true }));
        if self.lane(from, to) == Some(lane) {
            self.input(from, Input::Sent { host: HostKey(to), request, piece, bytes: bytes as u32 });
        }
    }

    pub(super) fn start(&mut self, from: u32) {
        if let Some(at) = self.network.start(self.now, from) {
            self.events.push(at, Event::Left(from));
        }
    }

    pub(super) fn left(&mut self, from: u32) {
        let Some((chunk, at)) = self.network.left(self.now, from) else { return };
        self.hosts[from as usize].sent += chunk.bytes;
        if self.network.is_even() {
            // Its place in the receiver's queue is known already: one event fewer.
            let through = self.network.receive(at, &chunk);
            self.events.push(through, Event::Arrived(chunk));
        } else {
            self.events.push(at, Event::Arrive(chunk));
        }
        self.start(from);
        let Flow { to, lane, request, piece, bytes, .. } = chunk.flow;
        if chunk.is_last && self.lane(from, to) == Some(lane) {
            self.input(from, Input::Sent { host: HostKey(to), request, piece, bytes: bytes as u32 });
        }
    }

    pub(super) fn arrived(&mut self, chunk: Chunk) {
        self.network.arrived(&chunk);
        let Flow { from, to, lane, task, request, piece, .. } = chunk.flow;
        self.start(from);
        let (host, request) = (HostKey(from), RequestId(request));
        let is_open = self.lane(to, from) == Some(lane);
        let receiver = &mut self.hosts[to as usize];
        let asked = receiver.requests.iter().position(|(id, _)| *id == request).filter(|_| is_open);
        let Some(asked) = asked else {
            receiver.wasted += chunk.bytes;
            return;
        };
        if chunk.is_last {
            receiver.requests[asked].1 -= 1;
            if receiver.requests[asked].1 == 0 {
                receiver.requests.swap_remove(asked);
            }
            if receiver.held.get(&task).is_some_and(|held| held.contains(piece)) {
                receiver.twice += chunk.flow.bytes;
            }
        }
        self.input(to, Input::Received { host, request, bytes: chunk.bytes as u32 });
        if !chunk.is_last {
            return;
        }
        if self.hosts[from as usize].options.is_corrupt {
            return self.input(to, Input::Refuted { host, request, piece });
        }
        self.input(to, Input::Proven { host, task, request, piece });
        self.later(STORE, to, Input::Stored { task, piece });
    }
}
