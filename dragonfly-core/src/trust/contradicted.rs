//! Members that have contradicted themselves: who signs two values of one piece has lied in at least one, and nothing that
//! it signed or signs counts on this host any more, of whatever task.

use std::collections::VecDeque;
use std::path::Path;

use super::codec;
use super::file::{FileError, Kind};
use crate::wire::PeerId;

/// So many are remembered; beyond it the first are forgotten, and found out again.
pub(crate) const CONTRADICTED_MAX: usize = 1024;

const FILE: Kind = Kind { name: "contradicted", magic: b"dragonfly contradicted 1\n" };

/// Each once, the one found out first before the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contradicted(VecDeque<PeerId>);

impl Contradicted {
    /// Those in the file `contradicted` of `dir`. None where there is no file, and where it is damaged, which is logged: they are
    /// found out again, and who wants its content should not have to mend that first.
    pub(crate) fn load(dir: &Path) -> Self {
        let read = FILE.read(dir).and_then(|bytes| match bytes {
            None => Ok(Vec::new()),
            Some(bytes) => codec::decode::<Vec<PeerId>>(&bytes).ok_or_else(|| FILE.corrupt(dir)),
        });
        let mut known = Self::default();
        match read {
            Ok(peers) => peers.into_iter().for_each(|peer| known.insert(peer)),
            Err(error) => tracing::warn!(%error, "members that contradicted themselves are not remembered"),
        }
        known
    }

    /// Writes the file `contradicted` in `dir`, whole or not at all. Blocks on the file system.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), FileError> {
        FILE.write(dir, &codec::encode(&self.0.iter().copied().collect::<Vec<_>>()))
    }

    pub(crate) fn insert(&mut self, peer: PeerId) {
        if self.0.contains(&peer) {
            return;
        }
        if self.0.len() >= CONTRADICTED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(peer);
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: usize) -> PeerId {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        PeerId::from_public_key(key)
    }

    fn many() -> Contradicted {
        let mut known = Contradicted::default();
        for number in 0..CONTRADICTED_MAX + 5 {
            known.insert(peer(number));
            known.insert(peer(number));
        }
        known
    }

    #[test]
    fn it_is_bounded_and_names_each_once() {
        let known = many();
        assert_eq!(known.all().count(), CONTRADICTED_MAX);
        assert_eq!(known.all().next(), Some(peer(5)), "the first were forgotten");
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
        one.insert(peer(1));
        one.save(dir.path()).unwrap();
        assert_eq!(Contradicted::load(dir.path()), one, "and is replaced");
    }
}
