//! Links: every host has an uplink, a downlink and a latency; between two sites there may be a thin link.
//!
//! Two models of how flows share them. [`Sharing::Chunks`] is cheap and like TCP: an uplink's flows take turns by
//! chunks, a downlink queues what comes, and a sender waits while a window of bytes is under way. [`Sharing::Exact`]
//! is max-min fairness (see `fluid`). `benches/README.md` says how far the first is from the second.

use std::collections::VecDeque;
use std::time::Duration;

use dragonfly_core::swarm::{TaskKey, Time};

use crate::fluid::{Ending, Fluid};

/// What flows share an uplink by, if nothing else is said: the lane's block.
const CHUNK_BYTES: u64 = 64 << 10;

/// Bytes under way from one host to another; beyond, the sender waits, as TCP's window makes it.
const WINDOW_BYTES: u64 = 512 << 10;

/// Larger chunks have a window of so many.
const WINDOW_CHUNKS: u64 = 4;

/// How flows share links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Chunk by chunk, through queues.
    #[default]
    Chunks,
    /// Max-min fairness.
    Exact,
}

/// The link of a host.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Bytes a second out.
    pub up: u64,
    /// Bytes a second in.
    pub down: u64,
    /// From this host to the middle of the network.
    pub latency: Duration,
}

/// The link between two sites, the same each way.
#[derive(Clone, Copy, Debug)]
pub struct Thin {
    /// Bytes a second.
    pub rate: u64,
    /// One way, beyond what the hosts' own links take.
    pub latency: Duration,
}

/// A piece on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) lane: u64,
    pub(crate) task: TaskKey,
    pub(crate) request: u32,
    pub(crate) piece: u32,
    pub(crate) bytes: u64,
    left: u64,
}

impl Flow {
    pub(crate) const fn new(
        from: u32,
        to: u32,
        lane: u64,
        task: TaskKey,
        request: u32,
        piece: u32,
        bytes: u64,
    ) -> Self {
        Self { from, to, lane, task, request, piece, bytes, left: bytes }
    }
}

/// A chunk that left its sender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    pub(crate) flow: Flow,
    pub(crate) bytes: u64,
    pub(crate) is_last: bool,
}

#[derive(Debug)]
struct Port {
    link: Link,
    site: u8,
    flows: VecDeque<Flow>,
    sending: Option<Chunk>,
    receiving_until: Time,
    /// Bytes under way by receiver: few, so a list.
    under_way: Vec<(u32, u64)>,
}

/// All links.
#[derive(Debug)]
pub struct Network {
    /// How flows share them. Set it before there are flows.
    pub sharing: Sharing,
    /// What flows share an uplink by: larger chunks are fewer events, and less like a lane.
    pub chunk: u64,
    /// Whether lanes get more and less than their even share, as TCP's flows do: 0.5 to 1.5 times, by their number.
    pub is_unfair: bool,
    /// Bytes that crossed from one site to another.
    pub crossed: u64,
    thin: Option<Thin>,
    /// When what waits at the thin link, to the first site and to others, will have left it.
    thin_until: [Time; 2],
    ports: Vec<Port>,
    /// Whether all latencies are equal, so that chunks arrive in the order in which they left.
    is_even: bool,
    fluid: Fluid,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            sharing: Sharing::Chunks,
            chunk: CHUNK_BYTES,
            is_unfair: false,
            crossed: 0,
            thin: None,
            thin_until: [Time::ZERO; 2],
            ports: Vec::new(),
            is_even: true,
            fluid: Fluid::default(),
        }
    }
}

/// What the beginning of a flow brings in the exact model: when to allocate next, if that is news, and its ending.
pub(crate) type Begun = (Option<Time>, Option<Ending>);

impl Network {
    pub(crate) fn add(&mut self, link: Link, site: u8) {
        self.is_even &= self.ports.first().is_none_or(|port| port.link.latency == link.latency && port.site == site);
        self.ports.push(Port {
            link,
            site,
            flows: VecDeque::new(),
            sending: None,
            receiving_until: Time::ZERO,
            under_way: Vec::new(),
        });
        self.relink(self.ports.len() as u32 - 1, link);
    }

    pub(crate) fn relink(&mut self, host: u32, link: Link) {
        self.ports[host as usize].link = link;
        if self.sharing == Sharing::Exact {
            self.fluid.set(2 + 2 * host, link.up);
            self.fluid.set(3 + 2 * host, link.down);
        }
    }

    /// Whether chunks arrive in the order in which they left, whoever sent them.
    pub(crate) const fn is_even(&self) -> bool {
        self.is_even
    }

    /// Puts a link between hosts of different sites.
    pub fn set_thin(&mut self, thin: Thin) {
        self.thin = Some(thin);
        if self.sharing == Sharing::Exact {
            self.fluid.set(0, thin.rate);
            self.fluid.set(1, thin.rate);
        }
    }

    fn crossing(&self, from: u32, to: u32) -> Option<Thin> {
        self.thin.filter(|_| self.ports[from as usize].site != self.ports[to as usize].site)
    }

    /// How long a message takes.
    pub(crate) fn latency(&self, from: u32, to: u32) -> Duration {
        let thin = self.crossing(from, to).map_or(Duration::ZERO, |thin| thin.latency);
        self.ports[from as usize].link.latency + self.ports[to as usize].link.latency + thin
    }

    pub(crate) fn send(&mut self, flow: Flow) {
        self.ports[flow.from as usize].flows.push_back(flow);
    }

    /// Begins a flow in the exact model.
    pub(crate) fn begin(&mut self, now: Time, flow: Flow) -> Begun {
        let (up, down) = (2 + 2 * flow.from, 3 + 2 * flow.to);
        let thin = u32::from(self.ports[flow.to as usize].site == 0);
        let links = [up, down, self.crossing(flow.from, flow.to).map_or(up, |_| thin)];
        let weight = self.weight(flow.lane) as f64 / 100.0;
        self.fluid.begin(now, flow, flow.bytes, links, weight)
    }

    /// What has ended in the exact model; `None` if it was taken out before.
    pub(crate) fn ended(&mut self, index: u32, serial: u64) -> Option<Flow> {
        let flow = self.fluid.end(index, serial)?;
        if self.crossing(flow.from, flow.to).is_some() {
            self.crossed += flow.bytes;
        }
        Some(flow)
    }

    pub(crate) fn allocate(&mut self, now: Time, endings: &mut Vec<Ending>) -> Option<Time> {
        self.fluid.allocate(now, endings)
    }

    /// The share of a lane in percent.
    const fn weight(&self, lane: u64) -> u64 {
        if self.is_unfair { 50 + (lane.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 101 } else { 100 }
    }

    /// What was not sent yet of a request is not sent. The bytes of it that are on their way in the exact model.
    pub(crate) fn cancel(&mut self, now: Time, from: u32, to: u32, request: u32) -> u64 {
        self.ports[from as usize].flows.retain(|flow| flow.to != to || flow.request != request);
        self.take_out(now, |flow| flow.from == from && flow.to == to && flow.request == request)
    }

    /// Nothing more goes from one host to the other.
    pub(crate) fn cut(&mut self, now: Time, from: u32, to: u32) -> u64 {
        self.ports[from as usize].flows.retain(|flow| flow.to != to);
        self.take_out(now, |flow| flow.from == from && flow.to == to)
    }

    fn take_out(&mut self, now: Time, is_cut: impl Fn(&Flow) -> bool) -> u64 {
        let mut came = 0;
        if self.sharing == Sharing::Exact {
            self.fluid.cut(now, is_cut, |_, bytes| came += bytes);
        }
        came
    }

    /// Starts the next chunk of an idle uplink; when it will have left.
    pub(crate) fn start(&mut self, now: Time, from: u32) -> Option<Time> {
        let port = &self.ports[from as usize];
        if port.sending.is_some() || port.link.up == 0 {
            return None;
        }
        let under_way = |to| port.under_way.iter().find(|(other, _)| *other == to).map_or(0, |(_, bytes)| *bytes);
        let window = WINDOW_BYTES.max(self.chunk * WINDOW_CHUNKS);
        let index = port.flows.iter().position(|flow| under_way(flow.to) < window)?;
        let quantum = self.chunk * self.weight(port.flows[index].lane) / 100;
        let port = &mut self.ports[from as usize];
        let mut flow = port.flows.remove(index)?;
        let bytes = flow.left.min(quantum);
        flow.left -= bytes;
        if flow.left > 0 {
            port.flows.push_back(flow);
        }
        match port.under_way.iter_mut().find(|(other, _)| *other == flow.to) {
            Some((_, under_way)) => *under_way += bytes,
            None => port.under_way.push((flow.to, bytes)),
        }
        port.sending = Some(Chunk { flow, bytes, is_last: flow.left == 0 });
        Some(now.after(duration(bytes, port.link.up)))
    }

    /// The chunk that has left its uplink, and when it reaches its receiver's downlink.
    pub(crate) fn left(&mut self, now: Time, from: u32) -> Option<(Chunk, Time)> {
        let chunk = self.ports[from as usize].sending.take()?;
        let to = chunk.flow.to;
        let mut at = now;
        if let Some(thin) = self.crossing(from, to) {
            self.crossed += chunk.bytes;
            let until = &mut self.thin_until[usize::from(self.ports[to as usize].site == 0)];
            *until = (*until).max(now).after(duration(chunk.bytes, thin.rate));
            at = *until;
        }
        Some((chunk, at.after(self.latency(from, to))))
    }

    /// When a chunk that reaches its receiver's downlink at `at` will be through it.
    pub(crate) fn receive(&mut self, at: Time, chunk: &Chunk) -> Time {
        let port = &mut self.ports[chunk.flow.to as usize];
        port.receiving_until = port.receiving_until.max(at).after(duration(chunk.bytes, port.link.down));
        port.receiving_until
    }

    /// A chunk was taken in: the sender's window opens.
    pub(crate) fn arrived(&mut self, chunk: &Chunk) {
        let under_way = &mut self.ports[chunk.flow.from as usize].under_way;
        if let Some(index) = under_way.iter().position(|(to, _)| *to == chunk.flow.to) {
            under_way[index].1 = under_way[index].1.saturating_sub(chunk.bytes);
            if under_way[index].1 == 0 {
                under_way.swap_remove(index);
            }
        }
    }
}

/// How long `bytes` take at `rate` bytes a second.
pub(crate) fn duration(bytes: u64, rate: u64) -> Duration {
    // A chunk's bytes fit; only a very slow link needs more than 64 bits.
    match bytes.checked_mul(1_000_000_000) {
        Some(scaled) => Duration::from_nanos(scaled / rate.max(1)),
        None => Duration::from_nanos((u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1))) as u64),
    }
}
