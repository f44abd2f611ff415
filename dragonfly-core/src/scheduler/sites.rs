//! Who brings content from site to site.
//!
//! Members of one site trade with each other. A few of each site, its bridges, have neighbours in other sites, and each is
//! told which part of the pieces is its to bring: a piece crosses once, however many want it. It is a lease whose scope is
//! the site: given for a part rather than for ranges one after the other, so that it costs no events.
//!
//! Names of sites are the members' word. Who names none, or one beyond [`SITES_MAX`], trades with everybody; so do the members
//! of a site of which too few upload: they have to be served from elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use rand::seq::SliceRandom as _;

use super::core::{Core, Timer};
use super::members::Members;
use super::slab::{HostIx, TaskIx};
use super::task::{Group, Member, Task};
use crate::task::Generation;
use crate::wire::control::Share;

/// Sites of one task that are told apart. Each costs an entry and, ten seconds apart, a look at its members: more than any
/// operator has, and few enough for whoever invents names.
pub(super) const SITES_MAX: usize = 64;

/// Sites of which a bridge has neighbours. With these a few sites that are lost cut off no other.
const SITES_ACROSS: usize = 4;

/// Neighbours of a bridge in each of them: one that is lost, or has little, is not the only one.
const BRIDGES_ACROSS: usize = 2;

/// Members that are looked at for a bridge: enough of those in a site are of use to it.
const LOOKED_AT_MAX: usize = 256;

/// One of so many members of a site is to upload at least. With fewer these few would serve all the others, whom the other
/// sites could serve.
const UPLOADERS_PART: usize = 4;

/// Who has so many neighbours gets no more of them across: those of its own site, and of none, find room with it.
const ACROSS_DEGREE_MAX: usize = 24;

/// One bridge of a site makes room for another member after this time: should all of them keep what they bring, an honest
/// one is among them soon. Longer than most downloads take, for a part that changes hands may cross twice.
const TERM: Duration = Duration::from_secs(10);

/// A bridge that is so many eighths behind the first of its site is slow: all others wait for what it is to bring.
const BEHIND: u8 = 3;

/// The members of a group in one site.
#[derive(Default)]
pub(super) struct Site {
    /// In no order that matters: for sampling.
    pub(super) list: Vec<HostIx>,
    uploaders: usize,
    /// Those who bring pieces from other sites, by their part; a part is free where its bridge is gone.
    bridges: Vec<Option<HostIx>>,
    /// Which of them makes room next.
    turn: usize,
}

impl Site {
    /// Whether its members can be left to each other.
    fn is_live(&self) -> bool {
        self.uploaders * UPLOADERS_PART >= self.list.len()
    }
}

/// How well a member suits as a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    Good,
    /// Nothing comes to it, or much less than to others of its site.
    Slow,
}

/// Who brings which part. `old`: who did; `worth`: of those who can at all; `fresh`: who else can, the best first. Whoever is of use
/// keeps its part. `turn`: the part of this number is given to another, if there is one as good.
fn elect(
    old: &[Option<HostIx>],
    worth: impl Fn(HostIx) -> Option<Worth>,
    fresh: &[HostIx],
    most: usize,
    turn: Option<usize>,
) -> Vec<HostIx> {
    let mut fresh = fresh.iter().copied().peekable();
    let kept = |host: &Option<HostIx>| host.filter(|host| worth(*host).is_some());
    let mut parts: Vec<Option<HostIx>> = old.iter().take(most).map(kept).collect();
    for part in parts.iter_mut().filter(|part| part.is_none()) {
        *part = fresh.next();
    }
    while parts.len() < most && fresh.peek().is_some() {
        parts.push(fresh.next());
    }
    let is_turn = |at: usize, count: usize| turn.is_some_and(|turn| turn % count == at);
    let count = parts.len();
    for (at, part) in parts.iter_mut().enumerate() {
        let Some(host) = *part else { continue };
        let (own, other) = (worth(host), fresh.peek().and_then(|other| worth(*other)));
        let is_better =
            other.is_some_and(|other| own.is_none_or(|own| other < own || is_turn(at, count) && other == own));
        // Who came in just now is not exchanged again.
        if is_better && old.contains(&Some(host)) {
            *part = fresh.next();
        }
    }
    // A part that nobody takes is made up by the last, so that most keep theirs.
    let mut at = 0;
    while at < parts.len() {
        if parts[at].is_none() {
            parts.swap_remove(at);
        } else {
            at += 1;
        }
    }
    parts.into_iter().flatten().collect()
}

impl Core {
    /// Lets neighbours be dealt out soon, if they are not about to be.
    pub(super) fn deal_soon(&mut self, t: TaskIx) {
        if self.tasks[t].dealing.is_none() {
            let step = self.next_number();
            self.tasks[t].dealing = Some(step);
            self.arm(self.now + self.config.deal_time, Timer::Deal { task: t, step });
        }
    }

    /// A term of bridges is over.
    pub(super) fn term_over(&mut self, t: TaskIx, step: u64) {
        if self.tasks.get(t).is_some_and(|task| task.term == Some(step)) {
            self.tasks[t].term = None;
            self.bridge(t, true);
        }
    }

    /// Chooses the bridges of each site, and tells those for whom something changed. `rotate`: one of each makes room for
    /// another. Where there are no two sites nothing happens.
    pub(super) fn bridge(&mut self, t: TaskIx, rotate: bool) {
        let groups = self.tasks[t].groups.iter();
        let groups: Vec<Generation> = groups.filter(|(_, group)| group.is_scoped()).map(|(&g, _)| g).collect();
        for generation in &groups {
            let mut told = self.elect(t, *generation, rotate);
            told.extend(self.link_across(t, *generation));
            for host in told {
                self.send_across(t, host);
            }
        }
        let task = &self.tasks[t];
        if !groups.is_empty() && task.seekers > 0 && task.term.is_none() {
            let step = self.next_number();
            self.tasks[t].term = Some(step);
            self.arm(self.now + TERM, Timer::Term { task: t, step });
        }
    }

    /// Names a member's neighbours in other sites to it, and its part; of a site that is one no more they are near from now on.
    fn send_across(&mut self, t: TaskIx, host: HostIx) {
        let task = &self.tasks[t];
        let Some(member) = task.members.get(&host) else { return };
        let is_far = |other: &HostIx| {
            let listed = task.members.get(other).and_then(|other| other.listed.as_ref());
            listed.is_some() && listed != member.listed.as_ref()
        };
        let far: Vec<HostIx> = task.members.neighbours(host).iter().copied().filter(is_far).collect();
        if !far.is_empty() {
            self.send_neighbours(t, host, far);
        }
    }

    /// Chooses bridges; whose part changed.
    fn elect(&mut self, t: TaskIx, generation: Generation, rotate: bool) -> BTreeSet<HostIx> {
        let most = self.config.bridges_per_site.max(1);
        let from = self.rng.random::<u32>() as usize;
        let task = &mut self.tasks[t];
        let Some(group) = task.groups.get_mut(&generation) else { return BTreeSet::new() };
        let mut parts: Vec<(HostIx, Option<Share>)> = Vec::new();
        for site in group.sites.values_mut() {
            let old = std::mem::take(&mut site.bridges);
            parts.extend(old.iter().flatten().map(|host| (*host, Some(Share::NONE))));
            if site.is_live() {
                site.turn += usize::from(rotate);
                let turn = rotate.then_some(site.turn);
                let chosen = bridges(&site.list, &old, &task.members, most, from, turn);
                let of = chosen.len() as u16;
                parts.extend((0..of).zip(&chosen).map(|(part, host)| (*host, Some(Share { part, of }))));
                site.bridges = chosen.into_iter().map(Some).collect();
            }
        }
        // Of those named twice the later counts.
        let parts: BTreeMap<HostIx, Option<Share>> = parts.into_iter().collect();
        let mut told = BTreeSet::new();
        for (host, part) in parts {
            if let Some(member) = task.members.get_mut(&host)
                && member.part != part
            {
                member.part = part;
                told.insert(host);
            }
        }
        told
    }

    /// Gives bridges neighbours in other sites; who has new ones.
    fn link_across(&mut self, t: TaskIx, generation: Generation) -> BTreeSet<HostIx> {
        let task = &mut self.tasks[t];
        let Some(group) = task.groups.get(&generation) else { return BTreeSet::new() };
        let most = self.config.bridges_per_site.max(1);
        let live = group.sites.iter().filter(|(_, site)| site.is_live());
        let sites: Vec<(Arc<str>, Vec<HostIx>, Vec<HostIx>)> = live
            .map(|(name, site)| {
                let bridges = site.bridges.iter().flatten().copied().collect();
                (name.clone(), bridges, givers(site, &task.members, most))
            })
            .collect();
        let mut told = BTreeSet::new();
        for (name, bridges, _) in &sites {
            for (part, &host) in bridges.iter().enumerate() {
                if !task.members.get(&host).is_some_and(Member::seeks) {
                    continue;
                }
                let linked = task.linked_in(host);
                let count = |name: &Arc<str>| linked.get(name).copied().unwrap_or(0);
                let mut others: Vec<_> =
                    sites.iter().filter(|(other, _, givers)| other != name && !givers.is_empty()).collect();
                if others.len() > SITES_ACROSS {
                    others.shuffle(&mut self.rng);
                    others.sort_by_key(|(other, ..)| count(other) == 0);
                    others.truncate(SITES_ACROSS);
                }
                for (other, _, givers) in others {
                    let lacks = BRIDGES_ACROSS.saturating_sub(count(other));
                    let from = part % givers.len();
                    let is_new = |far: &&HostIx| {
                        let dialable = self.hosts[host].record.is_some() || self.hosts[**far].record.is_some();
                        let has_room = task.members.contains_key(far) && task.members.degree(**far) < ACROSS_DEGREE_MAX;
                        dialable
                            && has_room
                            && task.members.contains_key(&host)
                            && !task.members.are_linked(host, **far)
                    };
                    let order = givers[from..].iter().chain(&givers[..from]);
                    for far in order.filter(is_new).take(lacks).copied().collect::<Vec<_>>() {
                        task.members.link(host, far);
                        told.extend([host, far]);
                    }
                }
            }
        }
        told
    }
}

/// Who of a site is to bring pieces: those who do so and are of use, then others that lack some, and seeds only where there is
/// nobody else, for they are busy with their own.
fn bridges(
    list: &[HostIx],
    old: &[Option<HostIx>],
    members: &Members,
    most: usize,
    from: usize,
    turn: Option<usize>,
) -> Vec<HostIx> {
    let from = from % list.len().max(1);
    let looked_at: Vec<HostIx> = list[from..].iter().chain(&list[..from]).take(LOOKED_AT_MAX).copied().collect();
    let first = looked_at.iter().filter_map(|host| members.get(host)).filter(|m| m.seeks()).map(|m| m.eighths).max();
    let worth = |host: HostIx, seed: bool| {
        let member = members.get(&host).filter(|m| m.seed == seed && m.uploads && !m.doubted && m.wanted)?;
        let slow = member.starved || member.seeks() && member.eighths + BEHIND <= first.unwrap_or(0);
        Some(if slow { Worth::Slow } else { Worth::Good })
    };
    for seed in [false, true] {
        let lacks = |host: &HostIx| members.get(host).is_some_and(Member::seeks) && !old.contains(&Some(*host));
        let mut fresh: Vec<(Worth, HostIx)> =
            looked_at.iter().filter(|host| lacks(host)).filter_map(|host| Some((worth(*host, seed)?, *host))).collect();
        fresh.sort_by_key(|(worth, _)| *worth);
        let fresh: Vec<HostIx> = fresh.into_iter().map(|(_, host)| host).collect();
        let chosen = elect(old, |host| worth(host, seed), &fresh, most, turn);
        if !chosen.is_empty() {
            return chosen;
        }
    }
    Vec::new()
}

/// Who of a site others bring pieces from: its bridges, which have what it has soon, and others that hold something, seeds
/// first.
fn givers(site: &Site, members: &Members, most: usize) -> Vec<HostIx> {
    let member = |host: &HostIx| members.get(host);
    let is_source =
        |host: &&HostIx| member(host).is_some_and(Member::is_source) && !site.bridges.contains(&Some(**host));
    let mut sources: Vec<HostIx> = site.list.iter().take(LOOKED_AT_MAX).filter(is_source).copied().collect();
    sources.sort_by_key(|host| member(host).map(|m| (!m.seed, m.eighths < 8)));
    sources.truncate(most);
    site.bridges.iter().flatten().copied().chain(sources).collect()
}

impl Group {
    /// Whether its members are of several sites that can be left to themselves.
    pub(super) fn is_scoped(&self) -> bool {
        self.sites.len() > 1 && self.sites.values().filter(|site| site.is_live()).take(2).count() == 2
    }
}

impl Task {
    /// The site of a member, if it is to trade in this one: there are others.
    pub(super) fn site_of<'a>(&self, group: &'a Group, member: &Member) -> Option<&'a Site> {
        let site = group.sites.get(member.listed.as_ref()?)?;
        (site.is_live() && group.is_scoped()).then_some(site)
    }

    /// Whether two members are in different sites.
    pub(super) fn are_apart(&self, a: HostIx, b: HostIx) -> bool {
        let (Some(a), Some(b)) = (self.members.get(&a), self.members.get(&b)) else { return false };
        if a.listed.is_none() || b.listed.is_none() || a.listed == b.listed {
            return false;
        }
        let group = a.generation().and_then(|generation| self.groups.get(&generation));
        group.is_some_and(|group| self.site_of(group, a).is_some() && self.site_of(group, b).is_some())
    }

    /// How many neighbours a member has in each other site.
    fn linked_in(&self, host: HostIx) -> BTreeMap<Arc<str>, usize> {
        let mut linked: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        let Some(member) = self.members.get(&host) else { return linked };
        for other in self.members.neighbours(host).iter().filter_map(|other| self.members.get(other)) {
            if let Some(name) = other.listed.as_ref().filter(|_| other.listed != member.listed) {
                *linked.entry(name.clone()).or_default() += 1;
            }
        }
        linked
    }

    /// Notes a member of a group in its site.
    pub(super) fn list(&mut self, host: HostIx, generation: Generation) {
        let (Some(member), Some(group)) = (self.members.get_mut(&host), self.groups.get_mut(&generation)) else {
            return;
        };
        let has_room = |name: &&Arc<str>| group.sites.len() < SITES_MAX || group.sites.contains_key(*name);
        member.listed = member.site.as_ref().filter(has_room).cloned();
        let list = match &member.listed {
            Some(name) => {
                let site = group.sites.entry(name.clone()).or_default();
                site.uploaders += usize::from(member.uploads);
                &mut site.list
            }
            None => &mut group.nowhere,
        };
        member.site_place = list.len();
        list.push(host);
    }

    /// Takes a member out of its site.
    pub(super) fn unlist(&mut self, host: HostIx, generation: Generation) {
        let (Some(member), Some(group)) = (self.members.get_mut(&host), self.groups.get_mut(&generation)) else {
            return;
        };
        (member.part, member.roams) = (None, false);
        let (name, at) = (member.listed.take(), member.site_place);
        let list = match name.as_ref().and_then(|name| group.sites.get_mut(name)) {
            Some(site) => {
                site.uploaders -= usize::from(member.uploads);
                site.bridges.iter_mut().filter(|bridge| **bridge == Some(host)).for_each(|bridge| *bridge = None);
                &mut site.list
            }
            None => &mut group.nowhere,
        };
        list.swap_remove(at);
        if let Some(moved) = list.get(at).copied()
            && let Some(moved) = self.members.get_mut(&moved)
        {
            moved.site_place = at;
        }
        if let Some(name) = name
            && group.sites.get(&name).is_some_and(|site| site.list.is_empty())
        {
            group.sites.remove(&name);
        }
    }
}

impl Group {
    /// Panics if the books of sites are wrong.
    pub(super) fn assert_sites(&self, members: &Members) {
        assert!(self.sites.len() <= SITES_MAX, "{} sites", self.sites.len());
        let mut listed = self.nowhere.len();
        for (at, host) in self.nowhere.iter().enumerate() {
            assert_eq!((&members[host].listed, members[host].site_place), (&None, at), "a member knows its place");
        }
        for (name, site) in &self.sites {
            listed += site.list.len();
            for (at, host) in site.list.iter().enumerate() {
                let member = &members[host];
                assert_eq!((member.listed.as_ref(), member.site_place), (Some(name), at), "a member knows its place");
            }
            assert_eq!(site.uploaders, site.list.iter().filter(|host| members[*host].uploads).count());
            assert!(site.bridges.iter().flatten().all(|host| site.list.contains(host)), "a bridge from elsewhere");
            assert!(!site.list.is_empty(), "a site without members");
        }
        assert_eq!(listed, self.list.len(), "members are in one site each, or nowhere");
    }

    /// A member of a site begins to upload, or ends.
    pub(super) fn uploads(&mut self, site: Option<&Arc<str>>, before: bool, after: bool) {
        if let Some(site) = site.and_then(|name| self.sites.get_mut(name)) {
            site.uploaders = site.uploaders + usize::from(after) - usize::from(before);
        }
    }
}

impl Member {
    /// What it is to bring from other sites, if it has neighbours there.
    pub(super) fn share(&self) -> Share {
        if self.roams { Share::ALL } else { self.part.unwrap_or(Share::NONE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(numbers: &[u32]) -> Vec<HostIx> {
        numbers.iter().map(|number| HostIx::from(*number)).collect()
    }

    /// Hosts from 100 on are slow, from 200 on of no use.
    fn worth(host: HostIx) -> Option<Worth> {
        match u32::from(host) {
            0..100 => Some(Worth::Good),
            100..200 => Some(Worth::Slow),
            _ => None,
        }
    }

    fn elected(old: &[u32], fresh: &[u32], most: usize, turn: Option<usize>) -> Vec<u32> {
        let old: Vec<Option<HostIx>> = hosts(old).into_iter().map(Some).collect();
        elect(&old, worth, &hosts(fresh), most, turn).into_iter().map(u32::from).collect()
    }

    #[test]
    fn who_is_of_use_keeps_its_part_and_others_fill_up() {
        assert_eq!(elected(&[], &[1, 2, 3], 2, None), [1, 2]);
        assert_eq!(elected(&[5, 6], &[1, 2], 3, None), [5, 6, 1]);
        assert_eq!(elected(&[5, 6, 7], &[], 2, None), [5, 6]);
    }

    #[test]
    fn who_is_of_no_use_is_replaced_in_its_place() {
        assert_eq!(elected(&[5, 200, 6], &[1, 2], 3, None), [5, 1, 6]);
        assert_eq!(elected(&[200, 5, 6], &[], 3, None), [6, 5]);
    }

    #[test]
    fn who_is_slow_makes_room_for_the_better_alone() {
        assert_eq!(elected(&[5, 100], &[1], 2, None), [5, 1]);
        assert_eq!(elected(&[5, 100], &[101], 2, None), [5, 100]);
    }

    #[test]
    fn one_after_the_other_makes_room_where_others_are_there() {
        assert_eq!(elected(&[5, 6], &[1, 2], 2, Some(1)), [5, 1]);
        assert_eq!(elected(&[5, 6], &[1, 2], 2, Some(2)), [1, 6]);
        assert_eq!(elected(&[5, 6], &[101], 2, Some(0)), [5, 6]);
        assert_eq!(elected(&[5, 6], &[], 2, Some(0)), [5, 6]);
    }
}
