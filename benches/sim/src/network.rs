//! Links: every host has an uplink that its flows share chunk by chunk, a downlink that queues, and a latency.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dragonfly_core::swarm::{TaskKey, Time};

/// What flows share an uplink by: the lane's block.
const CHUNK_BYTES: u64 = 64 << 10;

/// Bytes under way from one host to another; beyond, the sender waits, as TCP's window makes it.
const WINDOW_BYTES: u64 = 512 << 10;

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
    flows: VecDeque<Flow>,
    sending: Option<Chunk>,
    receiving_until: Time,
    under_way: BTreeMap<u32, u64>,
}

/// All links.
#[derive(Debug, Default)]
pub struct Network {
    ports: Vec<Port>,
}

impl Network {
    pub(crate) fn add(&mut self, link: Link) {
        self.ports.push(Port {
            link,
            flows: VecDeque::new(),
            sending: None,
            receiving_until: Time::ZERO,
            under_way: BTreeMap::new(),
        });
    }

    pub(crate) fn relink(&mut self, host: u32, link: Link) {
        self.ports[host as usize].link = link;
    }

    /// How long a message takes.
    pub(crate) fn latency(&self, from: u32, to: u32) -> Duration {
        self.ports[from as usize].link.latency + self.ports[to as usize].link.latency
    }

    pub(crate) fn send(&mut self, flow: Flow) {
        self.ports[flow.from as usize].flows.push_back(flow);
    }

    /// What was not sent yet of a request is not sent.
    pub(crate) fn cancel(&mut self, from: u32, to: u32, request: u32) {
        self.ports[from as usize].flows.retain(|flow| flow.to != to || flow.request != request);
    }

    /// Nothing more goes from one host to the other.
    pub(crate) fn cut(&mut self, from: u32, to: u32) {
        self.ports[from as usize].flows.retain(|flow| flow.to != to);
    }

    /// Starts the next chunk of an idle uplink; when it will have left.
    pub(crate) fn start(&mut self, now: Time, from: u32) -> Option<Time> {
        let port = &mut self.ports[from as usize];
        if port.sending.is_some() || port.link.up == 0 {
            return None;
        }
        let open = |flow: &Flow| port.under_way.get(&flow.to).is_none_or(|bytes| *bytes < WINDOW_BYTES);
        let index = port.flows.iter().position(open)?;
        let mut flow = port.flows.remove(index)?;
        let bytes = flow.left.min(CHUNK_BYTES);
        flow.left -= bytes;
        if flow.left > 0 {
            port.flows.push_back(flow);
        }
        *port.under_way.entry(flow.to).or_default() += bytes;
        port.sending = Some(Chunk { flow, bytes, is_last: flow.left == 0 });
        Some(now.after(duration(bytes, port.link.up)))
    }

    /// The chunk that has left.
    pub(crate) fn left(&mut self, from: u32) -> Option<Chunk> {
        self.ports[from as usize].sending.take()
    }

    /// When a chunk that reaches its receiver's downlink at `at` will be through it.
    pub(crate) fn receive(&mut self, at: Time, chunk: &Chunk) -> Time {
        let port = &mut self.ports[chunk.flow.to as usize];
        port.receiving_until = port.receiving_until.max(at).after(duration(chunk.bytes, port.link.down));
        port.receiving_until
    }

    /// A chunk was taken in: the sender's window opens.
    pub(crate) fn arrived(&mut self, chunk: &Chunk) {
        let port = &mut self.ports[chunk.flow.from as usize];
        if let Some(bytes) = port.under_way.get_mut(&chunk.flow.to) {
            *bytes = bytes.saturating_sub(chunk.bytes);
        }
    }
}

/// How long `bytes` take at `rate` bytes a second.
pub(crate) fn duration(bytes: u64, rate: u64) -> Duration {
    Duration::from_nanos((u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1))) as u64)
}
