//! The exact share of links: max-min fairness by progressive filling.
//!
//! Every link raises the rates of its flows together until it is full; then its flows are fixed, and the others go on.
//! What comes of it is the max-min fair allocation, weighted by the flows' weights, and exact. It is found anew in
//! steps of virtual time, not for every flow that begins or ends: in between a flow that ends leaves its rate to the
//! links it had, and one that begins takes what its links have left.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dragonfly_core::swarm::Time;

use crate::network::Flow;

/// Time between two allocations: a hundredth of what a piece of 256 KiB takes on one eighth of 100 Mbit/s.
pub(crate) const STEP_NANOS: u64 = 500_000;

/// A flow in the allocation.
#[derive(Clone, Debug)]
struct Share {
    flow: Flow,
    /// Its links; unused places repeat the first.
    links: [u32; 3],
    weight: f64,
    /// Bytes a nanosecond.
    rate: f64,
    /// Bytes left at `since`.
    left: f64,
    since: u64,
    serial: u64,
}

/// When a flow will have ended, if its rate stays: its place and serial number.
pub(crate) type Ending = (Time, u32, u64);

/// All flows and the capacities of their links, in bytes a nanosecond.
#[derive(Debug, Default)]
pub(crate) struct Fluid {
    capacity: Vec<f64>,
    residual: Vec<f64>,
    flows: Vec<Option<Share>>,
    free: Vec<u32>,
    alive: usize,
    made: u64,
    /// When the next allocation is due, if one is.
    due: Option<u64>,
    // Scratch, kept for its memory.
    left: Vec<f64>,
    weights: Vec<f64>,
    members: Vec<Vec<u32>>,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Fluid {
    /// Sets the capacity of a link in bytes a second.
    pub(crate) fn set(&mut self, link: u32, rate: u64) {
        let length = self.capacity.len().max(link as usize + 1);
        self.capacity.resize(length, 0.0);
        self.residual.resize(length, 0.0);
        self.members.resize_with(length, Vec::new);
        let capacity = rate as f64 / 1e9;
        let old = std::mem::replace(&mut self.capacity[link as usize], capacity);
        self.residual[link as usize] = (self.residual[link as usize] + capacity - old).max(0.0);
    }

    /// Begins a flow over these links. When the next allocation is due, if that is news, and when the flow ends, if
    /// that is before.
    pub(crate) fn begin(
        &mut self,
        now: Time,
        flow: Flow,
        bytes: u64,
        links: [u32; 3],
        weight: f64,
    ) -> (Option<Time>, Option<Ending>) {
        let now = now.0.as_nanos() as u64;
        let news = self.due.is_none().then(|| now / STEP_NANOS * STEP_NANOS + STEP_NANOS);
        self.due = self.due.or(news);
        let rate = links.iter().map(|link| self.residual[*link as usize]).fold(f64::INFINITY, f64::min);
        self.give(&links, -rate);
        self.made += 1;
        let share = Share { flow, links, weight, rate, left: bytes as f64, since: now, serial: self.made };
        let index = self.free.pop().unwrap_or(self.flows.len() as u32);
        if index as usize == self.flows.len() {
            self.flows.push(None);
        }
        let ending = self.due.and_then(|due| ending(&share, index, due));
        self.flows[index as usize] = Some(share);
        self.alive += 1;
        (news.map(time), ending)
    }

    /// Takes a flow out that has ended; `None` if it was not this one that has.
    pub(crate) fn end(&mut self, index: u32, serial: u64) -> Option<Flow> {
        let share = self.flows.get_mut(index as usize)?.take_if(|share| share.serial == serial)?;
        self.give(&share.links, share.rate);
        self.free.push(index);
        self.alive -= 1;
        Some(share.flow)
    }

    /// Takes flows out, and calls `gone` with the bytes that had come of each.
    pub(crate) fn cut(&mut self, now: Time, is_cut: impl Fn(&Flow) -> bool, mut gone: impl FnMut(&Flow, u64)) {
        let now = now.0.as_nanos() as u64;
        for index in 0..self.flows.len() {
            let Some(share) = self.flows[index].take_if(|share| is_cut(&share.flow)) else { continue };
            let left = (share.left - share.rate * (now - share.since) as f64).max(0.0);
            gone(&share.flow, share.flow.bytes.saturating_sub(left as u64));
            self.give(&share.links, share.rate);
            self.free.push(index as u32);
            self.alive -= 1;
        }
    }

    /// Allocates anew. When to do so next, and which flows end before then.
    pub(crate) fn allocate(&mut self, now: Time, endings: &mut Vec<Ending>) -> Option<Time> {
        let now = now.0.as_nanos() as u64;
        self.due = None;
        if self.alive == 0 {
            return None;
        }
        for share in self.flows.iter_mut().flatten() {
            share.left = (share.left - share.rate * (now - share.since) as f64).max(0.0);
            share.since = now;
        }
        self.fill();
        let due = now + STEP_NANOS;
        self.due = Some(due);
        for (index, share) in (0u32..).zip(&self.flows) {
            endings.extend(share.as_ref().and_then(|share| ending(share, index, due)));
        }
        Some(time(due))
    }

    /// Progressive filling. A link's level never falls while other links are filled, so an entry of the heap that is
    /// out of date is too low, and is put back where it belongs.
    fn fill(&mut self) {
        self.left.clone_from(&self.capacity);
        self.weights.clear();
        self.weights.resize(self.capacity.len(), 0.0);
        self.members.iter_mut().for_each(Vec::clear);
        for (index, share) in (0u32..).zip(&mut self.flows) {
            let Some(share) = share else { continue };
            share.rate = -1.0;
            for link in own(&share.links) {
                self.weights[link as usize] += share.weight;
                self.members[link as usize].push(index);
            }
        }
        self.heap.clear();
        for (link, members) in (0u32..).zip(&self.members) {
            if !members.is_empty() {
                self.heap.push(Reverse((level(self.left[link as usize], self.weights[link as usize]), link)));
            }
        }
        while let Some(Reverse((key, link))) = self.heap.pop() {
            if self.weights[link as usize] <= 1e-9 {
                continue;
            }
            let now = level(self.left[link as usize], self.weights[link as usize]);
            if now > key {
                self.heap.push(Reverse((now, link)));
                continue;
            }
            let rate = f64::from_bits(now);
            for index in std::mem::take(&mut self.members[link as usize]) {
                let Some(share) = self.flows[index as usize].as_mut().filter(|share| share.rate < 0.0) else {
                    continue;
                };
                share.rate = rate * share.weight;
                for link in own(&share.links) {
                    self.left[link as usize] -= share.rate;
                    self.weights[link as usize] -= share.weight;
                }
            }
        }
        self.residual.iter_mut().zip(&self.left).for_each(|(residual, left)| *residual = left.max(0.0));
    }

    fn give(&mut self, links: &[u32; 3], rate: f64) {
        for link in own(links) {
            self.residual[link as usize] = (self.residual[link as usize] + rate).max(0.0);
        }
    }
}

/// What a link can give each unit of weight, as bits: these order as the numbers do, for none is negative.
fn level(left: f64, weights: f64) -> u64 {
    (left.max(0.0) / weights).to_bits()
}

/// The links without the repeated ones.
fn own(links: &[u32; 3]) -> impl Iterator<Item = u32> + use<> {
    let [a, b, c] = *links;
    [Some(a), (b != a).then_some(b), (c != a).then_some(c)].into_iter().flatten()
}

fn ending(share: &Share, index: u32, due: u64) -> Option<Ending> {
    let takes = if share.left > 0.0 { (share.left / share.rate).ceil() } else { 0.0 };
    let at = share.since as f64 + takes;
    (at <= due as f64).then(|| (time((at as u64).min(due)), index, share.serial))
}

const fn time(nanos: u64) -> Time {
    Time(std::time::Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use dragonfly_core::swarm::TaskKey;

    use super::*;

    /// The rates of flows over links of these capacities.
    fn rates(capacities: &[u64], flows: &[[u32; 3]]) -> Vec<u64> {
        let mut fluid = Fluid::default();
        (0u32..).zip(capacities).for_each(|(link, rate)| fluid.set(link, *rate));
        for links in flows {
            fluid.begin(Time::ZERO, Flow::new(0, 1, 0, TaskKey(0), 0, 0, 1 << 40), 1 << 40, *links, 1.0);
        }
        fluid.allocate(Time::ZERO, &mut Vec::new());
        fluid.flows.iter().flatten().map(|share| (share.rate * 1e9).round() as u64).collect()
    }

    #[test]
    fn equal_flows_share_equally_and_a_narrow_link_leaves_its_rest_to_others() {
        assert_eq!(rates(&[900, 10_000], &[[0, 1, 0]; 3]), [300, 300, 300]);
        // Three flows from one uplink; one of them is held back by its downlink.
        assert_eq!(rates(&[900, 100, 5000, 5000], &[[0, 1, 0], [0, 2, 0], [0, 3, 0]]), [100, 400, 400]);
        // Two uplinks into one downlink, and a link between that both cross.
        assert_eq!(rates(&[900, 900, 500, 300], &[[0, 2, 3], [1, 2, 3]]), [150, 150]);
    }

    #[test]
    fn a_flow_ends_when_its_bytes_are_through() {
        let mut fluid = Fluid::default();
        fluid.set(0, 1_000_000_000);
        let flow = Flow::new(0, 1, 0, TaskKey(0), 0, 0, 100_000);
        let (due, ending) = fluid.begin(Time::ZERO, flow, 100_000, [0, 0, 0], 1.0);
        assert_eq!((due, ending), (Some(time(STEP_NANOS)), Some((time(100_000), 0, 1))));
        assert_eq!(fluid.end(0, 1), Some(flow));
        assert_eq!(fluid.end(0, 1), None);
    }
}
