//! What schedulers want a seed to fetch, until it gets to it. Bounded in number and bytes, each task once, and members
//! take turns, so that none can keep the others' requests out for long. What has no room is dropped and counted: its
//! scheduler asks again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use crate::task::TaskId;
use crate::wire::PeerId;
use crate::wire::control::TaskInfo;

/// How many wait at most: as many as one scheduler may have a host take part in.
pub(crate) const TRIGGERS_MAX: usize = 4096;

/// How much text they have at most, in bytes.
pub(crate) const BYTES_MAX: usize = 8 << 20;

/// What one takes besides its text.
const ENTRY_BYTES: usize = 256;

/// The queue between a node, which hears of them, and its seed, which obeys.
pub(crate) type SharedTriggers = Arc<Mutex<Triggers>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Triggers {
    /// By the member that asks. None is empty.
    waiting: BTreeMap<PeerId, VecDeque<TaskInfo>>,
    /// Who asked for each task first.
    tasks: BTreeMap<TaskId, PeerId>,
    /// Members in the order of their turns.
    turns: VecDeque<PeerId>,
    bytes: usize,
}

impl Triggers {
    /// Takes one in. A task that waits already waits on; no room is an error. A member may fill half, and the rest is
    /// for those who wait for less.
    pub(crate) fn push(&mut self, by: PeerId, info: TaskInfo) -> Result<(), NoRoom> {
        if self.tasks.contains_key(&info.task) {
            return Ok(());
        }
        let (bytes, own) = (bytes_of(&info), self.waiting.get(&by).map_or(0, VecDeque::len));
        if self.tasks.len() >= TRIGGERS_MAX || own >= TRIGGERS_MAX / 2 || self.bytes + bytes > BYTES_MAX {
            return Err(NoRoom);
        }
        self.bytes += bytes;
        self.tasks.insert(info.task, by);
        if own == 0 {
            self.turns.push_back(by);
        }
        self.waiting.entry(by).or_default().push_back(info);
        Ok(())
    }

    /// The next one.
    pub(crate) fn pop(&mut self) -> Option<(PeerId, TaskInfo)> {
        let by = self.turns.pop_front()?;
        let own = self.waiting.get_mut(&by)?;
        let info = own.pop_front()?;
        if own.is_empty() {
            self.waiting.remove(&by);
        } else {
            self.turns.push_back(by);
        }
        self.tasks.remove(&info.task);
        self.bytes -= bytes_of(&info);
        Some((by, info))
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

fn bytes_of(info: &TaskInfo) -> usize {
    let text = info.spec.as_ref().map_or(0, |spec| {
        let filtered: usize = spec.filtered.iter().map(String::len).sum();
        spec.url.len() + filtered + spec.tag.len() + spec.application.len() + spec.tenant.len()
    });
    ENTRY_BYTES + text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Class, TaskSpec};

    fn peer(n: u8) -> PeerId {
        PeerId::from_public_key([n; 32])
    }

    fn info(n: u32, url_bytes: usize) -> TaskInfo {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&n.to_be_bytes());
        let spec = TaskSpec {
            url: "x".repeat(url_bytes),
            filtered: Vec::new(),
            tag: String::new(),
            application: String::new(),
            tenant: String::new(),
            class: Class::Public,
            key: None,
            tls: None,
            digest: None,
        };
        TaskInfo { task: TaskId::from_hash(id), spec: Some(spec), fixed: false }
    }

    #[test]
    fn members_take_turns_and_a_task_waits_once() {
        let mut triggers = Triggers::default();
        for n in 0..3 {
            assert_eq!(triggers.push(peer(1), info(n, 10)), Ok(()));
        }
        assert_eq!(triggers.push(peer(2), info(2, 10)), Ok(()), "it waits already");
        assert_eq!(triggers.push(peer(2), info(9, 10)), Ok(()));
        assert_eq!(triggers.len(), 4);
        let order: Vec<_> = std::iter::from_fn(|| triggers.pop()).map(|(by, info)| (by, info.task)).collect();
        let task = |n| info(n, 0).task;
        assert_eq!(order, [(peer(1), task(0)), (peer(2), task(9)), (peer(1), task(1)), (peer(1), task(2))]);
        assert_eq!((triggers.len(), triggers.bytes), (0, 0));
        assert!(triggers.waiting.is_empty() && triggers.turns.is_empty());
        assert_eq!(triggers.push(peer(1), info(2, 10)), Ok(()), "it may come again");
    }

    #[test]
    fn one_member_fills_half_and_bytes_are_bounded() {
        let mut triggers = Triggers::default();
        let taken = (0..10_000).filter(|n| triggers.push(peer(1), info(*n, 10)).is_ok()).count();
        assert_eq!(taken, TRIGGERS_MAX / 2);
        assert_eq!(triggers.push(peer(2), info(20_000, 10)), Ok(()));
        let mut triggers = Triggers::default();
        let long = (0..10_000).filter(|n| triggers.push(peer(1), info(*n, 60_000)).is_ok()).count();
        assert_eq!(long, BYTES_MAX / (60_000 + ENTRY_BYTES));
        assert_eq!(triggers.push(peer(2), info(20_000, 60_000)), Err(NoRoom));
    }
}
