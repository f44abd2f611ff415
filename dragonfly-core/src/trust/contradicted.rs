//! Members that have contradicted themselves: who signs two values of one piece of a task was wrong in at least one, and
//! nothing that it signed or signs of that task counts on this host any more. Of that task only: an origin that changes what
//! it sends under one entity tag can bring an honest member to it.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

use super::codec;
use super::file::{FileError, Kind};
use crate::task::TaskId;
use crate::wire::PeerId;

/// So many are remembered; beyond it the first are forgotten, and found out again.
pub(crate) const CONTRADICTED_MAX: usize = 1024;

const FILE: Kind = Kind { name: "contradicted", magic: b"dragonfly contradicted 1\n" };

/// Each once for each task, the one found out first before the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contradicted(VecDeque<(TaskId, PeerId)>);

impl Contradicted {
    /// Those in the file `contradicted` of `dir`. None where there is no file, and where it is damaged, which is logged: they are
    /// found out again, and who wants its content should not have to mend that first.
    pub(crate) fn load(dir: &Path) -> Self {
        let read = FILE.read(dir).and_then(|bytes| match bytes {
            None => Ok(Vec::new()),
            Some(bytes) => codec::decode::<Vec<(TaskId, PeerId)>>(&bytes).ok_or_else(|| FILE.corrupt(dir)),
        });
        let mut known = Self::default();
        match read {
            Ok(all) => all.into_iter().for_each(|(task, peer)| known.insert(task, peer)),
            Err(error) => tracing::warn!(%error, "members that contradicted themselves are not remembered"),
        }
        known
    }

    /// Writes the file `contradicted` in `dir`, whole or not at all. Blocks on the file system.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), FileError> {
        FILE.write(dir, &codec::encode(&self.0.iter().copied().collect::<Vec<_>>()))
    }

    pub(crate) fn insert(&mut self, task: TaskId, peer: PeerId) {
        if self.0.contains(&(task, peer)) {
            return;
        }
        if self.0.len() >= CONTRADICTED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((task, peer));
    }

    /// How many are remembered.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those whose word on this task is void.
    pub(crate) fn of(&self, task: TaskId) -> BTreeSet<PeerId> {
        self.0.iter().filter(|(of, _)| *of == task).map(|(_, peer)| *peer).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId::from_hash([1; 32]);

    fn peer(number: usize) -> PeerId {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        PeerId::from_public_key(key)
    }

    fn many() -> Contradicted {
        let mut known = Contradicted::default();
        for number in 0..CONTRADICTED_MAX + 5 {
            known.insert(TASK, peer(number));
            known.insert(TASK, peer(number));
        }
        known
    }

    #[test]
    fn it_is_bounded_and_names_each_once() {
        let known = many();
        assert_eq!(known.of(TASK).len(), CONTRADICTED_MAX);
        assert!(known.of(TASK).contains(&peer(5)) && !known.of(TASK).contains(&peer(4)), "the first were forgotten");
        assert!(known.of(TaskId::from_hash([2; 32])).is_empty(), "of another task its word counts");
    }

    #[test]
    fn it_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Contradicted::load(dir.path()), Contradicted::default());
        let known = many();
        known.save(dir.path()).unwrap();
        assert_eq!(Contradicted::load(dir.path()), known);
    }

    #[test]
    fn a_damaged_file_keeps_nobody_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        many().save(dir.path()).unwrap();
        let path = FILE.path(dir.path());
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Contradicted::load(dir.path()), Contradicted::default());
        let mut one = Contradicted::default();
        one.insert(TASK, peer(1));
        one.save(dir.path()).unwrap();
        assert_eq!(Contradicted::load(dir.path()), one, "and is replaced");
    }
}
