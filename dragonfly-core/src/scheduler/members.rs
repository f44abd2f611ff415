//! The members of a task, and who of them trades with whom. A task may have a hundred thousand: what is looked at of many of
//! them for each one who joins, whether there is one and how many neighbours it has, lies close together.

use std::collections::HashMap;
use std::ops::Index;

use rustc_hash::FxBuildHasher;

use super::slab::HostIx;
use super::task::Member;

/// Members by host, in the order in which they came and went; and their neighbours, which are mutual.
#[derive(Default)]
pub(super) struct Members {
    /// Where each is in the lists below.
    index: HashMap<HostIx, u32, FxBuildHasher>,
    members: Vec<(HostIx, Member)>,
    /// The neighbours of each, sorted.
    neighbours: Vec<Vec<HostIx>>,
}

impl Members {
    fn at(&self, host: HostIx) -> Option<usize> {
        self.index.get(&host).map(|at| *at as usize)
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn contains_key(&self, host: &HostIx) -> bool {
        self.index.contains_key(host)
    }

    pub(super) fn get(&self, host: &HostIx) -> Option<&Member> {
        self.at(*host).map(|at| &self.members[at].1)
    }

    pub(super) fn get_mut(&mut self, host: &HostIx) -> Option<&mut Member> {
        self.at(*host).map(|at| &mut self.members[at].1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&HostIx, &Member)> {
        self.members.iter().map(|(host, member)| (host, member))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &HostIx> {
        self.members.iter().map(|(host, _)| host)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().map(|(_, member)| member)
    }

    /// A member without neighbours, in place of what the host was before.
    pub(super) fn insert(&mut self, host: HostIx, member: Member) {
        self.remove(&host);
        self.index.insert(host, self.members.len() as u32);
        self.members.push((host, member));
        self.neighbours.push(Vec::new());
    }

    /// Removes a member, and it from those of its neighbours.
    pub(super) fn remove(&mut self, host: &HostIx) -> Option<Member> {
        self.unlink(*host);
        let at = self.index.remove(host)? as usize;
        let (_, member) = self.members.swap_remove(at);
        self.neighbours.swap_remove(at);
        if let Some((moved, _)) = self.members.get(at) {
            self.index.insert(*moved, at as u32);
        }
        self.shrink();
        Some(member)
    }

    /// Gives memory back once most have left: ten thousand may have had what one seed goes on to hold.
    fn shrink(&mut self) {
        if self.members.len() * 4 < self.members.capacity() {
            let room = self.members.len() * 2;
            self.members.shrink_to(room);
            self.neighbours.shrink_to(room);
            self.index.shrink_to(room);
        }
    }

    /// Whom a member trades with.
    pub(super) fn neighbours(&self, host: HostIx) -> &[HostIx] {
        self.at(host).map_or(&[], |at| &self.neighbours[at])
    }

    /// With how many it trades.
    pub(super) fn degree(&self, host: HostIx) -> usize {
        self.neighbours(host).len()
    }

    /// Whether two trade with each other.
    pub(super) fn are_linked(&self, a: HostIx, b: HostIx) -> bool {
        self.neighbours(a).binary_search(&b).is_ok()
    }

    /// Makes two members neighbours.
    pub(super) fn link(&mut self, a: HostIx, b: HostIx) {
        let (Some(at_a), Some(at_b)) = (self.at(a), self.at(b)) else { return };
        for (at, other) in [(at_a, b), (at_b, a)] {
            let list = &mut self.neighbours[at];
            if let Err(place) = list.binary_search(&other) {
                list.insert(place, other);
            }
        }
    }

    /// Removes all neighbours of a member, both ways, and names them.
    pub(super) fn unlink(&mut self, host: HostIx) -> Vec<HostIx> {
        let Some(at) = self.at(host) else { return Vec::new() };
        let neighbours = std::mem::take(&mut self.neighbours[at]);
        for other in &neighbours {
            let Some(at) = self.at(*other) else { continue };
            if let Ok(place) = self.neighbours[at].binary_search(&host) {
                self.neighbours[at].remove(place);
            }
        }
        neighbours
    }
}

impl Index<&HostIx> for Members {
    type Output = Member;

    fn index(&self, host: &HostIx) -> &Member {
        self.get(host).expect("a member that was not removed")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_follows_who_is_there() {
        let mut members = Members::default();
        for host in 0..10_000 {
            members.insert(HostIx::from(host), Member::default());
        }
        for host in 1..10_000 {
            members.remove(&HostIx::from(host));
        }
        let rooms = [members.members.capacity(), members.neighbours.capacity(), members.index.capacity()];
        assert!(members.contains_key(&HostIx::from(0)) && rooms.iter().all(|room| *room < 64), "{rooms:?}");
    }

    proptest! {
        #[test]
        fn they_are_as_ordered_maps_would_have_them(steps in prop::collection::vec((0u8..4, 0u32..12, 0u32..12), 0..200)) {
            let mut members = Members::default();
            let mut model: BTreeMap<HostIx, BTreeSet<HostIx>> = BTreeMap::new();
            let forget = |model: &mut BTreeMap<HostIx, BTreeSet<HostIx>>, host: HostIx| {
                for list in model.values_mut() {
                    list.remove(&host);
                }
            };
            for (what, a, b) in steps {
                let (a, b) = (HostIx::from(a), HostIx::from(b));
                match what {
                    0 => {
                        if !members.contains_key(&a) {
                            members.insert(a, Member { priority: u32::from(a) as u8, ..Member::default() });
                            model.insert(a, BTreeSet::new());
                        }
                    }
                    1 if a != b => {
                        members.link(a, b);
                        if model.contains_key(&a) && model.contains_key(&b) {
                            model.get_mut(&a).unwrap().insert(b);
                            model.get_mut(&b).unwrap().insert(a);
                        }
                    }
                    2 => {
                        members.unlink(a);
                        model.get_mut(&a).map(std::mem::take);
                        forget(&mut model, a);
                    }
                    _ => {
                        prop_assert_eq!(members.remove(&a).is_some(), model.remove(&a).is_some());
                        forget(&mut model, a);
                    }
                }
                prop_assert_eq!(members.len(), model.len());
                prop_assert_eq!(members.keys().copied().collect::<BTreeSet<_>>(), model.keys().copied().collect());
                for (host, list) in &model {
                    prop_assert_eq!(u32::from(members[host].priority), u32::from(*host));
                    prop_assert_eq!(members.neighbours(*host), list.iter().copied().collect::<Vec<_>>());
                    prop_assert!(list.iter().all(|other| members.are_linked(*other, *host)));
                }
            }
        }
    }
}
