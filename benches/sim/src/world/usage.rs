//! Where the time goes: what uplinks do, why idle ones are, and how fast a piece spreads.

use dragonfly_core::swarm::{HostKey, TaskKey, Time};

use super::World;

/// Hosts looked at for the reason why their uplink is idle: enough for a percentage.
const SAMPLED_MAX: usize = 200;

/// What the uplinks of the hosts do, seeds included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// When.
    pub at: Time,
    /// Bytes that all have sent so far.
    pub sent: u64,
    /// Neighbours served at a time, by those who serve anybody, in the mean.
    pub served: f64,
    /// The part of the hosts that serve nobody although they hold something,
    pub idle: f64,
    /// because no neighbour lacks what they hold,
    pub useless: f64,
    /// because no neighbour knows yet that they hold what it lacks,
    pub unknown: f64,
    /// because neighbours have asked others for it,
    pub elsewhere: f64,
    /// or because neighbours lack it, know it and have not asked.
    pub unasked: f64,
}

/// When so many hosts had a piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Hosts that have it, seeds excluded.
    pub holders: u32,
    /// The first.
    pub first: Time,
    /// The tenth part of all.
    pub tenth: Time,
    /// Half of them.
    pub half: Time,
    /// Nine of ten.
    pub most: Time,
    /// The last so far.
    pub last: Time,
}

impl Spread {
    pub(super) fn add(&mut self, now: Time, hosts: u32) {
        self.holders += 1;
        self.last = now;
        for (part, at) in [
            (1, &mut self.first),
            (hosts.div_ceil(10), &mut self.tenth),
            (hosts.div_ceil(2), &mut self.half),
            ((hosts * 9).div_ceil(10), &mut self.most),
        ] {
            if self.holders == part {
                *at = now;
            }
        }
    }
}

impl World {
    /// What the uplinks do now.
    pub fn usage(&self, task: TaskKey) -> Usage {
        let alive = || self.hosts.iter().enumerate().filter(|(_, host)| host.is_alive);
        let mut usage = Usage { at: self.now, sent: self.hosts.iter().map(|host| host.sent).sum(), ..Usage::default() };
        let serving: Vec<usize> = alive().map(|(_, host)| host.core.served()).filter(|served| *served > 0).collect();
        usage.served = serving.iter().sum::<usize>() as f64 / serving.len().max(1) as f64;
        let step = (self.hosts.len() / SAMPLED_MAX).max(1);
        let sampled: Vec<usize> = alive().map(|(index, _)| index).step_by(step).collect();
        let each = 1.0 / sampled.len().max(1) as f64;
        for index in sampled {
            let host = &self.hosts[index];
            if host.core.served() > 0 || host.held.get(&task).is_none_or(|held| held.held() == 0) {
                continue;
            }
            usage.idle += each;
            *self.reason(index as u32, task, &mut usage) += each;
        }
        usage
    }

    /// Why this host's uplink is idle.
    fn reason<'a>(&self, from: u32, task: TaskKey, usage: &'a mut Usage) -> &'a mut f64 {
        let me = &self.hosts[from as usize];
        let (mut is_useful, mut is_known) = (false, false);
        for (other, _) in &me.lanes {
            let other = &self.hosts[*other as usize];
            let (Some(mine), Some(theirs)) = (me.held.get(&task), other.held.get(&task)) else { continue };
            for piece in mine.iter().filter(|piece| !theirs.contains(*piece)) {
                is_useful = true;
                if other.core.is_believed_held(HostKey(from), task, piece) {
                    is_known = true;
                    if other.core.is_missing(task, piece) {
                        return &mut usage.unasked;
                    }
                }
            }
        }
        match (is_useful, is_known) {
            (_, true) => &mut usage.elsewhere,
            (true, false) => &mut usage.unknown,
            (false, false) => &mut usage.useless,
        }
    }

    /// How each piece of a task spread.
    pub fn spreads(&self, task: TaskKey) -> impl Iterator<Item = (u32, Spread)> + '_ {
        self.spreads.range((task, 0)..=(task, u32::MAX)).map(|((_, piece), spread)| (*piece, *spread))
    }
}
