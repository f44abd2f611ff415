//! The requests of a lane: what has come of them, and what may come yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::BytesMut;
use tokio::time::Instant;

use super::Registry;
use crate::node::{Node, Part};
use crate::peer::content::Content;
use crate::swarm::TaskKey;
use crate::task::{Generation, PieceHash, PieceHasher, PieceIndex, TaskId};
use crate::wire::PeerId;
use crate::wire::lane::Slot;

/// A request of ours, as its pieces come in.
pub(super) struct Pending {
    pub(super) content: Arc<Content>,
    first: PieceIndex,
    values: Vec<PieceHash>,
    /// How many of its pieces have arrived whole.
    arrived: u32,
    /// How many bytes of the next one have: whole blocks, after what was there before.
    pub(super) filled: usize,
    /// These, and what has come of the block that is coming in.
    pub(super) buffer: BytesMut,
    /// Has taken those of them that are `filled`.
    pub(super) hasher: Option<PieceHasher>,
    /// How many bytes of the next piece others had sent before, and who they are.
    resumed: usize,
    from: Vec<PeerId>,
    /// Bytes that the core has not been told of.
    pub(super) untold: u32,
    /// When it was last told of bytes of a piece that is not whole.
    pub(super) told: Option<Instant>,
}

impl Pending {
    pub(super) fn new(content: Arc<Content>, first: PieceIndex, values: Vec<PieceHash>) -> Self {
        Self {
            content,
            first,
            values,
            arrived: 0,
            filled: 0,
            buffer: BytesMut::new(),
            hasher: None,
            resumed: 0,
            from: Vec::new(),
            untold: 0,
            told: None,
        }
    }

    /// Begins with what is kept of the first piece, if anything is that `peer` may go on with: how many bytes.
    pub(super) fn resume(&mut self, node: &Node, peer: PeerId) -> u32 {
        let name = (self.content.task, self.content.generation);
        let Some(value) = self.values.first() else { return 0 };
        let Some(Part { buffer, mut hasher, from, .. }) = node.parts().take(name, self.first, value, peer) else {
            return 0;
        };
        if self.content.layout.length_of(self.first).is_none_or(|length| buffer.len() as u64 >= length) {
            return 0;
        }
        let taken = hasher.taken() as usize;
        if hasher.update(buffer.get(taken..).unwrap_or_default()).is_err() {
            return 0;
        }
        (self.filled, self.resumed) = (buffer.len(), buffer.len());
        (self.buffer, self.hasher, self.from) = (buffer, Some(hasher), from);
        node.metrics().bytes_resumed.add(self.resumed as u64);
        self.resumed as u32
    }

    pub(super) fn piece(&self) -> PieceIndex {
        self.first + self.arrived
    }

    /// What the next piece has to have.
    pub(super) fn value(&self) -> Option<PieceHash> {
        self.values.get(self.arrived as usize).copied()
    }

    /// Bytes that are still to come.
    pub(super) fn due(&self) -> u64 {
        let layout = self.content.layout;
        let pieces = self.piece()..self.first + self.values.len() as u32;
        let whole: u64 = pieces.filter_map(|piece| layout.length_of(piece)).sum();
        whole - self.filled as u64
    }

    /// The next piece is there: its bytes, and who else had sent some of them. Whether it was the last one
    /// [`Pending::is_over`] says then.
    pub(super) fn advance(&mut self) -> (BytesMut, Vec<PeerId>) {
        self.arrived += 1;
        (self.filled, self.resumed, self.hasher) = (0, 0, None);
        (std::mem::take(&mut self.buffer), std::mem::take(&mut self.from))
    }

    pub(super) fn is_over(&self) -> bool {
        self.arrived as usize == self.values.len()
    }

    /// Whether others than `peer` have sent some of the next piece.
    pub(super) fn is_mixed(&self, peer: PeerId) -> bool {
        self.from.iter().any(|other| *other != peer)
    }

    /// What has come of the next piece, the last of it from `peer`.
    fn into_part(mut self, peer: PeerId) -> Option<Part> {
        let (value, length) = (self.value()?, self.content.layout.length_of(self.piece())?);
        let hasher = self.hasher?;
        if self.buffer.len() as u64 >= length {
            // All of it, and it was not looked at yet: nobody can be asked for nothing.
            self.buffer.truncate(hasher.taken() as usize);
        }
        if self.buffer.len() > self.resumed && !self.from.contains(&peer) {
            self.from.push(peer);
        }
        (!self.buffer.is_empty()).then_some(Part { buffer: self.buffer, hasher, value, from: self.from })
    }

    /// It is over, and nothing of it is kept.
    pub(super) fn drop_bytes(self, node: &Node) {
        node.buffers().give(self.buffer);
    }

    /// It is over before it is whole: what has come of it is kept for whoever is asked next, if that is of use.
    pub(super) fn keep(self, node: &Node, registry: &Registry, peer: PeerId) {
        let (content, piece) = (Arc::clone(&self.content), self.piece());
        let Some(part) = self.into_part(peer) else { return };
        let name = (content.task, content.generation);
        let takes_part = registry.find(name.0, name.1).is_some_and(|known| Arc::ptr_eq(&known, &content));
        if takes_part && content.entry.value(piece).is_none() {
            node.parts().keep(name, piece, part);
        } else {
            node.buffers().give(part.buffer);
        }
    }
}

/// What both halves of a lane share.
#[derive(Default)]
pub(super) struct Shared {
    /// Tasks that the neighbour has open, by its numbers.
    pub(super) theirs: HashMap<Slot, Arc<Content>>,
    pub(super) pending: BTreeMap<u32, Pending>,
    /// Small content of which the neighbour was asked for all, and has not answered.
    pub(super) asked: HashMap<(TaskId, Generation), Arc<Content>>,
    /// Questions of that kind by the neighbour that are not answered.
    pub(super) asks: usize,
    /// Bytes that may come although nothing is pending: what was under way when requests were withdrawn.
    pub(super) stray: u64,
    /// Whether anybody on the way may have sent what comes: nothing of it is kept, for its neighbour would be to blame.
    pub(super) plain: bool,
}

impl Shared {
    /// A request is withdrawn: what is still to come of it may come all the same.
    pub(super) fn withdraw(&mut self, request: u32) -> Option<Pending> {
        let pending = self.pending.remove(&request)?;
        self.stray += pending.due();
        Some(pending)
    }

    /// Nothing more is wanted of a task here: the requests for it, without what is still to come of them.
    pub(super) fn forget(&mut self, key: TaskKey) -> Vec<Pending> {
        let of_it = |pending: &Pending| pending.content.key == key;
        let requests = self.pending.iter().filter(|(_, pending)| of_it(pending)).map(|(request, _)| *request);
        let requests: Vec<u32> = requests.collect();
        requests.iter().filter_map(|request| self.pending.remove(request)).collect()
    }
}

/// What the engine reaches of a lane without waiting for it: a request that moves to another neighbour takes along what has come
/// of it, although the lane may be busy.
#[derive(Clone, Default)]
pub(in crate::peer) struct Requests(Arc<Mutex<Shared>>);

impl Requests {
    pub(super) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Withdraws one, and keeps what `peer` has sent of it. The neighbour is told by
    /// [`LaneCommand::Cancel`](super::LaneCommand::Cancel), which follows.
    pub(in crate::peer) fn withdraw(&self, node: &Node, registry: &Registry, peer: PeerId, request: u32) {
        let (withdrawn, plain) = {
            let mut shared = self.shared();
            (shared.withdraw(request), shared.plain)
        };
        match withdrawn {
            Some(pending) if plain => pending.drop_bytes(node),
            Some(pending) => pending.keep(node, registry, peer),
            None => {}
        }
    }

    /// The same for all of them: the lane ends.
    pub(in crate::peer) fn withdraw_all(&self, node: &Node, registry: &Registry, peer: PeerId) {
        let requests: Vec<u32> = self.shared().pending.keys().copied().collect();
        for request in requests {
            self.withdraw(node, registry, peer, request);
        }
    }
}
