//! Who trades with whom: a near-regular, connected graph per generation, near hosts preferred.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::Rng;
use rand::seq::{SliceRandom, index};

use super::config::{NEIGHBOURS_MORE, STARVED_MIN};
use super::core::Core;
use super::deal::DEALT_AT_ONCE;
use super::join::no_fetcher;
use super::slab::{HostIx, TaskIx};
use super::task::Member;
use crate::task::TaskId;
use crate::wire::control::{NEIGHBOURS_MAX, Neighbour, Share, ToMember};

/// Sources that are always among the candidates, so that one of them can be chosen.
const SOURCES_SAMPLED: usize = 4;

/// They are looked for among so many: with few sites some of them are in the right one.
const SOURCES_LOOKED_AT: usize = 64;

impl Core {
    /// Gives members the neighbours that they lack, and tells them all that they have.
    pub(super) fn connect(&mut self, t: TaskIx, members: &[HostIx]) {
        if members.len() > DEALT_AT_ONCE {
            self.begin_deal(t, members.iter().copied().collect(), self.config.neighbours_at_join);
        } else {
            self.connect_now(t, members);
        }
        self.tasks[t].undealt.extend(members);
        self.deal_soon(t);
    }

    fn connect_now(&mut self, t: TaskIx, members: &[HostIx]) {
        let mut told: BTreeMap<HostIx, Vec<HostIx>> = BTreeMap::new();
        let batch: BTreeSet<HostIx> = members.iter().copied().collect();
        let goal = self.config.neighbours_at_join.min(NEIGHBOURS_MAX);
        for &host in members {
            let degree = self.tasks[t].members.degree(host);
            let wanted = goal.saturating_sub(degree);
            self.add_edges(t, host, wanted, false, &batch, &mut told);
        }
        let task = &self.tasks[t];
        let is_alone = |host: &HostIx| {
            let Some(member) = task.members.get(host).filter(|_| task.members.degree(*host) == 0) else {
                return false;
            };
            let group = member.generation().and_then(|generation| task.groups.get(&generation));
            group.is_some_and(|group| task.site_of(group, member).is_some())
        };
        if members.iter().any(is_alone) {
            // It has nobody but those in other sites. Once in this time: whoever comes and goes must not have all sites looked at
            // each time, and all of them are when those who come now are dealt the rest.
            let task = &mut self.tasks[t];
            if task.bridged.is_none_or(|at| self.now >= at + self.config.deal_time) {
                task.bridged = Some(self.now);
                self.bridge(t, false);
            }
        }
        for &host in members {
            let hosts = self.neighbours_of(t, host);
            if !hosts.is_empty() {
                self.send_neighbours(t, host, hosts);
            }
        }
        told.into_iter().for_each(|(host, news)| self.send_neighbours(t, host, news));
    }

    /// A member asks for more neighbours, maybe because none of its own holds what it misses. `silence`: for how long
    /// nothing of that came.
    pub(super) fn ask_neighbours(&mut self, host: HostIx, id: &TaskId, lacking: bool, silence: Duration) {
        let Some(t) = self.find_joined(host, id) else { return };
        let task = &mut self.tasks[t];
        if task.members[&host].waiting.is_some() {
            return;
        }
        if task.members.degree(host) >= NEIGHBOURS_MAX {
            // It has met as many as it can use: others take their place.
            let bridged = task.members[&host].part.is_some();
            task.members.unlink(host);
            if bridged {
                self.deal_soon(t);
            }
        }
        // Who is left without what it lacks may ask in other sites, too: those who were to bring it do not.
        let anywhere = lacking && silence >= STARVED_MIN;
        self.tasks[t].edit(host, |m| m.roams |= anywhere);
        let degree = self.tasks[t].members.degree(host);
        let goal = self.config.neighbours_wanted.max(degree + NEIGHBOURS_MORE).min(NEIGHBOURS_MAX);
        let mut told = BTreeMap::new();
        let news = self.add_edges(t, host, goal - degree, anywhere, &BTreeSet::from([host]), &mut told);
        let none_new = news.is_empty();
        let hosts = if none_new { self.neighbours_of(t, host) } else { news };
        self.send_neighbours(t, host, hosts);
        told.into_iter().for_each(|(other, news)| self.send_neighbours(t, other, news));
        if lacking {
            self.lacking(t, host, none_new, silence);
        } else {
            self.tasks[t].edit(host, |m| m.starved = false);
        }
    }

    /// No neighbour of a member holds what it misses. Once it has met whom it could meet, what departed hosts
    /// fetched is taken to be lost with them.
    fn lacking(&mut self, t: TaskIx, host: HostIx, met_all: bool, silence: Duration) {
        let task = &mut self.tasks[t];
        let before = task.members[&host].lacked;
        task.edit(host, |m| m.lacked = true);
        let Some(generation) = task.version.as_ref().map(|v| v.generation) else { return };
        let member = &task.members[&host];
        if !member.seeks() || !(met_all || before) {
            return;
        }
        // It may have met its own site alone. What it lacks others may hold, who bring it, until it may ask there itself.
        let may_be_brought =
            !member.roams && task.groups.get(&generation).is_some_and(|group| task.site_of(group, member).is_some());
        if member.generation() != Some(generation) {
            // What it misses of an older generation cannot be leased any more.
            let complete = member.generation().and_then(|g| task.groups.get(&g)).map_or(0, |g| g.complete);
            if complete == 0 {
                self.resync(t, host);
            }
            return self.settle(t);
        }
        self.starved(t, host, silence);
        let task = &mut self.tasks[t];
        if task.is_held() {
            return;
        }
        if !task.orphaned.is_empty() && !may_be_brought {
            if task.is_resumable() {
                let lost = std::mem::take(&mut task.orphaned);
                task.free.absorb(&lost);
            } else if task.leases.is_empty() {
                return self.restart(t, false);
            }
        }
        self.want_lease(t, host);
        self.settle(t);
        self.push_lease(t, host);
    }

    /// Nobody fetches what a member lacks and nobody asked to: whoever may is told to, else the member learns it.
    fn push_lease(&mut self, t: TaskIx, host: HostIx) {
        let task = &self.tasks[t];
        if !task.is_leasable() || !task.leases.is_empty() || task.trigger.is_some() || task.describe.is_some() {
            return;
        }
        let fit = task.members.iter().filter(|(_, m)| m.is_fit() && m.seed == task.seeds_only() && m.waiting.is_none());
        let Some(holder) = fit.map(|(&h, _)| h).next() else {
            // Who failed a moment ago asks again after its pause; how often is bounded there.
            let pausing = |m: &Member| m.wanted && m.may_lease && m.unfit_until.is_some();
            if task.members.values().any(|m| pausing(m) && m.seed == task.seeds_only()) {
                return;
            }
            let (id, pause) = (task.id, self.config.unfit_time);
            return self.send_failed(host, id, &no_fetcher(pause));
        };
        self.want_lease(t, holder);
        self.settle(t);
    }

    /// Makes up to `wanted` more hosts neighbours of `host`, and notes who is to be told of it: those who have room,
    /// or whom it cannot dial. Members of the `batch` are told all by the caller.
    pub(super) fn add_edges(
        &mut self,
        t: TaskIx,
        host: HostIx,
        wanted: usize,
        anywhere: bool,
        batch: &BTreeSet<HostIx>,
        told: &mut BTreeMap<HostIx, Vec<HostIx>>,
    ) -> Vec<HostIx> {
        let chosen = self.choose(t, host, wanted, anywhere);
        for &other in &chosen {
            let task = &mut self.tasks[t];
            let has_room = task.members.degree(other) < self.config.neighbours_wanted;
            task.members.link(host, other);
            let dialable = self.hosts[host].record.is_some();
            if dialable && (has_room || self.hosts[other].record.is_none()) && !batch.contains(&other) {
                told.entry(other).or_default().push(host);
            }
        }
        chosen
    }

    /// Up to `wanted` hosts that `host` should trade with, best first: of its own site, unless they may be `anywhere`.
    fn choose(&mut self, t: TaskIx, host: HostIx, wanted: usize, anywhere: bool) -> Vec<HostIx> {
        let task = &self.tasks[t];
        let Some(member) = task.members.get(&host) else { return Vec::new() };
        let Some(group) = member.generation().and_then(|generation| task.groups.get(&generation)) else {
            return Vec::new();
        };
        let site = task.site_of(group, member).filter(|_| !anywhere);
        // Who is of no site trades with all of them.
        let (list, more) = site.map_or((&group.list[..], &[][..]), |site| (&site.list[..], &group.nowhere[..]));
        let at = |index: usize| list.get(index).copied().unwrap_or_else(|| more[index - list.len()]);
        let (count, sampled) = (list.len() + more.len(), self.config.sampled_max);
        let mut candidates: Vec<HostIx> = if count <= sampled + 1 {
            list.iter().chain(more).copied().collect()
        } else {
            let pivot = at(self.rng.random_range(0..count));
            let sources = group.holders.range(pivot..).chain(group.holders.range(..pivot));
            let is_here = |other: &&HostIx| {
                site.is_none() || {
                    let listed = &task.members[*other].listed;
                    listed.is_none() || *listed == member.listed
                }
            };
            let sources = sources.take(SOURCES_LOOKED_AT).filter(is_here).take(SOURCES_SAMPLED);
            let random = index::sample(&mut self.rng, count, sampled);
            random.iter().map(at).chain(sources.copied()).collect()
        };
        candidates.sort_unstable();
        candidates.dedup();
        let (me, neighbours) = (&self.hosts[host], task.members.neighbours(host));
        let mut ranked: Vec<(bool, bool, usize, u32, HostIx)> = Vec::with_capacity(candidates.len());
        for other in candidates {
            let (degree, there) = (task.members.degree(other), &self.hosts[other]);
            let dialable = me.record.is_some() || there.record.is_some();
            if other == host || !dialable || degree >= NEIGHBOURS_MAX || neighbours.binary_search(&other).is_ok() {
                continue;
            }
            let far = !me.is_near(there);
            ranked.push((degree >= self.config.degree_preferred_max, far, degree, self.rng.random(), other));
        }
        ranked.sort_unstable();
        let mut chosen = Vec::with_capacity(wanted);
        if let Some(at) = ranked.iter().position(|&(.., other)| task.members[&other].is_source()) {
            chosen.extend((wanted > 0).then(|| ranked.remove(at).4));
        }
        // Crowded members only make up for a lack of others, so that degrees stay near each other.
        let crowded = ranked.partition_point(|&(crowded, ..)| !crowded);
        let enough = wanted.min(self.config.neighbours_wanted * 2 / 3);
        let take = crowded.max(enough.saturating_sub(chosen.len())).min(ranked.len());
        ranked.truncate(take);
        // A quarter is chosen regardless of place, so that no site is an island.
        let best = (wanted - wanted / 4).saturating_sub(chosen.len()).min(ranked.len());
        ranked[best..].shuffle(&mut self.rng);
        chosen.extend(ranked.into_iter().map(|(.., other)| other));
        chosen.truncate(wanted);
        chosen
    }

    /// A member's neighbours, best first: one that holds something, then the near ones.
    fn neighbours_of(&self, t: TaskIx, host: HostIx) -> Vec<HostIx> {
        let task = &self.tasks[t];
        let me = &self.hosts[host];
        let mut hosts = task.members.neighbours(host).to_vec();
        hosts.sort_by_key(|other| {
            let m = &task.members[other];
            (!me.is_near(&self.hosts[*other]), !m.is_source(), task.members.degree(*other))
        });
        if let Some(at) = hosts.iter().position(|other| task.members[other].is_source()) {
            hosts[..=at].rotate_right(1);
        }
        hosts.truncate(NEIGHBOURS_MAX);
        hosts
    }

    pub(super) fn send_neighbours(&mut self, t: TaskIx, to: HostIx, hosts: Vec<HostIx>) {
        let task = self.tasks[t].id;
        let part = self.tasks[t].members.get(&to).map_or(Share::NONE, Member::share);
        let describe = |&host: &HostIx| {
            let h = &self.hosts[host];
            let share = self.tasks[t].are_apart(to, host).then_some(part);
            Neighbour { peer: h.peer, record: h.record.clone(), seen_ip: h.ip_bytes(), seed: h.seed, share }
        };
        let messages: Vec<Vec<Neighbour>> = match hosts.is_empty() {
            true => vec![Vec::new()],
            false => hosts.chunks(NEIGHBOURS_MAX).map(|chunk| chunk.iter().map(describe).collect()).collect(),
        };
        messages.into_iter().for_each(|hosts| self.send(to, ToMember::Neighbours { task, hosts }));
    }
}
