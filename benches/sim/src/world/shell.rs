//! What the shell of a host does with the actions of its core.

use std::time::Duration;

use dragonfly_core::swarm::{Action, HostKey, Input, RequestId, TaskKey};

use super::{CONTROL, Event, NEWS, World};

impl World {
    pub(super) fn input(&mut self, to: u32, input: Input) {
        let host = &mut self.hosts[to as usize];
        if !host.is_alive {
            return;
        }
        match &input {
            Input::OriginStored { task, piece } | Input::Stored { task, piece } => {
                if let Some(held) = host.held.get_mut(task)
                    && held.insert(*piece)
                    && self.is_watched
                {
                    self.spreads.entry((*task, *piece)).or_default().add(self.now, self.peers);
                }
            }
            Input::Rejected { request, .. } => host.requests.retain(|(id, _)| id != request),
            _ => {}
        }
        host.core.handle(self.now, input);
        while let Some(action) = self.hosts[to as usize].core.poll() {
            if self.is_traced {
                self.note(to, &action);
            }
            self.act(to, action);
        }
        let host = &mut self.hosts[to as usize];
        if host.injected.is_none() && host.options.is_seed && host.held.keys().all(|task| host.core.hidden(*task) == 0)
        {
            host.injected = Some((host.sent, self.now));
        }
        if let Some(at) = host.core.next_deadline() {
            let at = at.max(self.now);
            if host.wake.is_none_or(|wake| wake > at) {
                host.wake = Some(at);
                self.events.push(at, Event::Wake(to));
            }
        }
    }

    /// Hashes an action into the trace (FNV-1a).
    pub(super) fn note(&mut self, host: u32, action: &Action) {
        for byte in format!("{:?} {host} {action:?}", self.now.0).bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(super) fn act(&mut self, from: u32, action: Action) {
        let me = HostKey(from);
        match action {
            Action::Abort { task, lease } => self.origin.abort(from, task, lease),
            Action::Allot { host, task, pieces } => self.tell(from, host, Input::Allotted { host: me, task, pieces }),
            Action::AskLease { task, .. } => {
                if self.now.since(self.origin_used) > NEWS {
                    self.recover(task);
                }
                if self.is_down {
                    return;
                }
                let answer = self.authority.ask(task, me);
                self.later(CONTROL * 2, from, answer);
            }
            Action::AskNeighbours { task, lacking, starved } if !self.is_down => {
                let named = self.members.ask(self.now, me, task, lacking, starved);
                self.name(named);
            }
            Action::Report { task, eighths } if !self.is_down => {
                let named = self.members.report(self.now, me, task, &self.layouts[&task], eighths);
                self.name(named);
            }
            Action::Blame { host, .. } | Action::Close { host } => self.drop_lane(from, host.0),
            Action::Cancel { host, request } => {
                self.hosts[from as usize].requests.retain(|(id, _)| *id != request);
                self.tell(from, host, Input::Cancelled { host: me, request: request.0 });
            }
            Action::Dial { host } => {
                let at = self.now.after(self.network.latency(from, host.0) * 3);
                self.events.push(at, Event::Lane { from, to: host.0 });
            }
            Action::Done { task } => {
                let is_first = self.hosts[from as usize].done.insert(task, self.now).is_none();
                self.unfinished -= usize::from(is_first);
            }
            Action::Fetch { task, lease, pieces } => self.fetch(from, task, lease, pieces),
            Action::Open { host, task } => {
                if let Some(lane) = self.lane(from, host.0) {
                    let at = self.now.after(self.network.latency(from, host.0));
                    self.events.push(at, Event::Open { from, to: host.0, lane, task });
                }
            }
            Action::Reject { host, request, reason } => {
                self.tell(from, host, Input::Rejected { host: me, request: RequestId(request), reason });
            }
            Action::ReleaseLease { task, lease } => {
                // What it was released for is held by somebody: that must not be granted again and again.
                for piece in self.authority.pieces(task, lease) {
                    if self.can_be_had(task, piece) {
                        self.authority.fetched(task, lease, piece);
                    }
                }
                self.authority.end(task, lease, true);
            }
            Action::Request { host, task, request, first, count } => {
                self.hosts[from as usize].requests.push((request, count));
                let request = request.0;
                self.tell(from, host, Input::Requested { host: me, task, request, first, count, skip: 0 });
            }
            Action::Stalled { .. } | Action::Unkept { .. } => {}
            Action::SendHave { host, task, runs, complete } => {
                self.tell(from, host, Input::Have { host: me, task, runs, complete });
            }
            Action::SendLost { host, task, runs } => self.tell(from, host, Input::Lost { host: me, task, runs }),
            Action::Serve { host, task, request, piece, skip } => {
                self.transmit(from, host.0, task, request, piece, skip);
            }
            _ => {}
        }
    }

    /// Lets pieces be leased again that nobody can serve, though they were fetched once.
    pub(super) fn recover(&mut self, task: TaskKey) {
        let pieces = 0..self.layouts[&task].pieces();
        let lost: Vec<_> = pieces.filter(|piece| !self.can_be_had(task, *piece)).map(|piece| (task, piece)).collect();
        self.free(&lost);
    }

    pub(super) fn later(&mut self, after: Duration, to: u32, input: Input) {
        let life = self.hosts[to as usize].life;
        self.events.push(self.now.after(after), Event::Input { to, life, lane: None, input });
    }

    /// Sends a message over the lane, if there is one.
    pub(super) fn tell(&mut self, from: u32, to: HostKey, input: Input) {
        if let Some(lane) = self.lane(from, to.0) {
            let at = self.now.after(self.network.latency(from, to.0));
            let life = self.hosts[to.0 as usize].life;
            self.events.push(at, Event::Input { to: to.0, life, lane: Some((from, lane)), input });
        }
    }
}
