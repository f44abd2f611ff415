//! Who brings content from site to site.
//!
//! Members of one site trade with each other alone. A few of each site, its bridges, have neighbours in other sites, and
//! each is told which part of the pieces is its to bring: a piece crosses once, however many want it. It is a lease whose
//! scope is the site: given for a part rather than for ranges one after the other, so that it costs no events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::core::{Core, Timer};
use super::slab::{HostIx, TaskIx};
use super::task::{Group, Member, Site, Task};
use crate::task::Generation;
use crate::wire::control::Share;

/// Sites of which a bridge has neighbours, of those that come after its own in the order of names; as many have such in it.
/// With these a few sites that are lost cut off no other.
const SITES_ACROSS: usize = 4;

/// Neighbours of a bridge in each of them: one that is lost, or has little, is not the only one.
const BRIDGES_ACROSS: usize = 2;

/// Members that are looked at for a bridge: enough of those in a site are of use to it.
const LOOKED_AT_MAX: usize = 256;

impl Core {
    /// Lets neighbours be dealt out soon, if they are not about to be.
    pub(super) fn deal_soon(&mut self, t: TaskIx) {
        if self.tasks[t].dealing.is_none() {
            let step = self.next_number();
            self.tasks[t].dealing = Some(step);
            self.arm(self.now + self.config.deal_time, Timer::Deal { task: t, step });
        }
    }

    /// Chooses the bridges of each site, and tells those for whom something changed.
    pub(super) fn bridge(&mut self, t: TaskIx) {
        let several = |group: &Group| group.sites.len() > 1;
        let task = &self.tasks[t];
        let groups: Vec<Generation> = task.groups.iter().filter(|(_, g)| several(g)).map(|(&g, _)| g).collect();
        for generation in groups {
            let mut told = self.elect(t, generation);
            told.extend(self.link_across(t, generation));
            for host in told {
                let across = |other: &HostIx| self.hosts[host].is_across(&self.hosts[*other]);
                let member = &self.tasks[t].members[&host];
                let far: Vec<HostIx> = member.neighbours.iter().copied().filter(across).collect();
                if !far.is_empty() {
                    self.send_neighbours(t, host, far);
                }
            }
        }
    }

    /// Chooses bridges; whose part changed.
    fn elect(&mut self, t: TaskIx, generation: Generation) -> BTreeSet<HostIx> {
        let most = self.config.bridges_per_site.max(1);
        let task = &mut self.tasks[t];
        let Some(group) = task.groups.get_mut(&generation) else { return BTreeSet::new() };
        let mut parts: Vec<(HostIx, Share)> = Vec::new();
        for site in group.sites.values_mut() {
            site.bridges = bridges(site, &task.members, most);
            let of = site.bridges.len() as u16;
            parts.extend((0..of).zip(&site.bridges).map(|(part, host)| (*host, Share { part, of })));
        }
        let mut told = BTreeSet::new();
        for (host, part) in parts {
            if let Some(member) = task.members.get_mut(&host)
                && member.part.replace(part) != Some(part)
            {
                told.insert(host);
            }
        }
        told
    }

    /// Makes bridges of different sites neighbours; who has new ones.
    fn link_across(&mut self, t: TaskIx, generation: Generation) -> BTreeSet<HostIx> {
        let task = &mut self.tasks[t];
        let Some(group) = task.groups.get(&generation) else { return BTreeSet::new() };
        let sites: Vec<Vec<HostIx>> = group.sites.values().map(|site| site.bridges.clone()).collect();
        let mut told = BTreeSet::new();
        for (at, bridges) in sites.iter().enumerate() {
            let others = (1..sites.len()).take(SITES_ACROSS).map(|step| &sites[(at + step) % sites.len()]);
            for other in others.filter(|other| !other.is_empty()) {
                for (part, &host) in bridges.iter().enumerate() {
                    for next in 0..BRIDGES_ACROSS.min(other.len()) {
                        let far = other[(part + next) % other.len()];
                        let dialable = self.hosts[host].record.is_some() || self.hosts[far].record.is_some();
                        if dialable && !task.members[&host].neighbours.contains(&far) {
                            task.link(host, far);
                            told.extend([host, far]);
                        }
                    }
                }
            }
        }
        told
    }
}

/// Who of a site is to bring pieces: those who do so already, then others, and seeds only where there is nobody else, for
/// they are busy with their own.
fn bridges(site: &Site, members: &BTreeMap<HostIx, Member>, most: usize) -> Vec<HostIx> {
    let of_use = |host: &&HostIx, seed: bool| {
        let member = members.get(host);
        member.is_some_and(|m| m.seed == seed && m.uploads && !m.doubted && (m.wanted || m.eighths == 8))
    };
    let mut all: Vec<HostIx> = site.bridges.iter().filter(|host| of_use(host, false)).copied().collect();
    all.truncate(most);
    for seed in [false, true] {
        let wanted = if seed && !all.is_empty() { 0 } else { most };
        for host in site.list.iter().take(LOOKED_AT_MAX).filter(|host| of_use(host, seed)) {
            if all.len() >= wanted {
                break;
            }
            if !all.contains(host) {
                all.push(*host);
            }
        }
    }
    all
}

impl Task {
    /// The other members of a member's site, if there are several sites: with whom it trades.
    pub(super) fn site_of<'a>(&self, group: &'a Group, member: &Member) -> Option<&'a Site> {
        let site: &Arc<str> = member.site.as_ref()?;
        group.sites.get(site).filter(|_| group.sites.len() > 1)
    }
}
