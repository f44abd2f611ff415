//! What must hold after every input, checked in tests and simulations.

use std::collections::BTreeMap;

use super::pieces::PieceState;
use super::task::Task;
use super::whole::Asking;
use super::{HostKey, Swarm, TaskKey};
use crate::task::PieceIndex;
use crate::wire::lane::REQUESTS_MAX;

impl Swarm {
    /// Panics if the core's books disagree. Slow: for tests and simulations.
    pub fn assert_invariants(&self) {
        self.assert_requests();
        self.assert_uploads();
        for (key, task) in &self.tasks {
            self.assert_task(*key, task);
        }
    }

    fn assert_requests(&self) {
        let mut in_flight = 0;
        let mut pending: BTreeMap<HostKey, u64> = BTreeMap::new();
        let mut pieces = 0;
        for (id, request) in &self.requests {
            let task = &self.tasks[&request.task];
            assert!(request.pending != 0, "an empty request");
            assert!(self.hosts[&request.host].requests.contains(id), "a request that its host does not know");
            assert!(task.members.contains_key(&request.host), "a request to no neighbour");
            let bytes: u64 = request.pieces().map(|piece| task.bytes(piece)).sum();
            in_flight += bytes;
            pieces += request.pieces().count();
            *pending.entry(request.host).or_default() += bytes;
        }
        assert_eq!(in_flight, self.in_flight, "bytes in flight");
        assert!(in_flight <= self.config.in_flight_bytes_max || pieces == 1, "{in_flight} bytes in flight");
        let known: usize = self.hosts.values().map(|host| host.requests.len()).sum();
        assert_eq!(known, self.requests.len(), "a host knows a request that is none");
        for (key, host) in &self.hosts {
            assert_eq!(host.pending, pending.get(key).copied().unwrap_or(0), "bytes pending at {key:?}");
            assert!(host.requests.len() <= REQUESTS_MAX, "too many requests at {key:?}");
            for task in host.asks.checked() {
                assert_eq!(self.tasks[task].asking, Asking::Of(*key), "asked for what is not missing");
            }
        }
    }

    fn assert_uploads(&self) {
        assert!(self.hosts.len() <= self.config.lanes_max, "{} lanes", self.hosts.len());
        assert_eq!(self.slots, self.hosts.values().filter(|host| host.slot.is_some()).count(), "slots");
        assert!(self.slots <= self.config.upload_slots.max(self.config.inject_slots).max(1), "too many slots");
        for (key, host) in &self.hosts {
            assert!(host.uploads.len() <= REQUESTS_MAX, "uploads of {key:?}");
            let waits = host.slot.is_none() && !host.uploads.is_empty();
            assert_eq!(waits, self.waiting.contains(key), "waiting {key:?}");
            if let Some(slot) = host.slot {
                let mut uploads = host.uploads.iter();
                assert!(uploads.any(|upload| upload.request == slot.request && upload.next == slot.piece), "slot");
            }
            for task in &host.tasks {
                assert!(self.tasks[task].members.contains_key(key), "a task that does not know its neighbour");
            }
        }
    }

    fn assert_task(&self, key: TaskKey, task: &Task) {
        task.pieces.assert_invariants();
        let mut requested: BTreeMap<PieceIndex, u32> = BTreeMap::new();
        for request in self.requests.values().filter(|request| request.task == key) {
            request.pieces().for_each(|piece| *requested.entry(piece).or_default() += 1);
        }
        for piece in 0..task.layout.pieces() {
            let holders =
                task.members.values().filter(|member| member.counted && member.theirs.contains(piece)).count();
            assert_eq!(holders, usize::from(task.pieces.holders(piece)), "holders of piece {piece}");
            let times = u32::from(task.pieces.is(piece, PieceState::Requested));
            assert_eq!(times, requested.get(&piece).copied().unwrap_or(0), "requests for piece {piece}");
            if task.pieces.is(piece, PieceState::Leased) {
                let mut leases = task.leases.held.values();
                assert!(leases.any(|lease| lease.pieces.contains(&piece)), "piece {piece} without a lease");
            }
            assert!(!task.public.contains(piece) || task.pieces.have().contains(piece), "shown and not held");
        }
        self.assert_inject(key, task);
    }

    fn assert_inject(&self, key: TaskKey, task: &Task) {
        let inject = &task.inject;
        for piece in &inject.waiting {
            assert!(task.pieces.have().contains(*piece), "waiting piece {piece} is not held");
            assert!(!inject.committed.contains_key(piece), "piece {piece} waits and is committed");
        }
        let mut committed: BTreeMap<HostKey, u32> = BTreeMap::new();
        for (piece, commitment) in &inject.committed {
            assert!(task.pieces.have().contains(*piece), "committed piece {piece} is not held");
            *committed.entry(commitment.host).or_default() += 1;
        }
        for (host, member) in &task.members {
            let expected = committed.remove(host).unwrap_or(0);
            assert_eq!(member.child.committed, expected, "pieces committed to {host:?}");
            assert!(self.hosts[host].tasks.contains(&key), "a neighbour that does not know its task");
        }
        assert!(committed.is_empty(), "committed to hosts that are no neighbours");
    }
}
