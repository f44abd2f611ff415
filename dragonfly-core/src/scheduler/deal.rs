//! Giving many the neighbours that they lack, a few in one event: a thousand may have come in the same moment, or waited
//! for the same answer, and what others say is not to wait until all of these are served.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::seq::SliceRandom as _;

use super::core::Core;
use super::slab::{HostIx, TaskIx};
use crate::wire::control::NEIGHBOURS_MAX;

/// Members that are given neighbours in one event. Each is compared with some thirty others.
pub(super) const DEALT_AT_ONCE: usize = 8;

/// Members that are told whom they were given in one event.
const TOLD_AT_ONCE: usize = 64;

/// What is left to do for those who joined a task within one [`Config::deal_time`](super::Config::deal_time), or were told
/// together what is current.
pub(super) struct Deal {
    task: TaskIx,
    /// How many each is to have.
    goal: usize,
    /// Who is to be given neighbours.
    rest: VecDeque<HostIx>,
    /// Who is to be told of whom, once everybody was given some: in one message each.
    told: BTreeMap<HostIx, Vec<HostIx>>,
}

impl Core {
    /// Those who joined a task meanwhile are to be given the neighbours that they lack, out of all who are there by now.
    pub(super) fn deal(&mut self, t: TaskIx, step: u64) {
        if self.tasks.get(t).is_none_or(|task| task.dealing != Some(step)) {
            return;
        }
        let task = &mut self.tasks[t];
        task.dealing = None;
        let mut undealt = std::mem::take(&mut task.undealt);
        // Some were noted twice.
        undealt.sort_unstable();
        undealt.dedup();
        undealt.shuffle(&mut self.rng);
        self.begin_deal(t, undealt.into(), self.config.neighbours_wanted);
    }

    /// Has members given as many neighbours, in this order.
    pub(super) fn begin_deal(&mut self, task: TaskIx, rest: VecDeque<HostIx>, goal: usize) {
        self.deals.push_back(Deal { task, goal: goal.min(NEIGHBOURS_MAX), rest, told: BTreeMap::new() });
    }

    /// Does a little of what is left to deal, of as many tasks as that is. Tasks take turns.
    pub(super) fn deal_some(&mut self) {
        let (mut gives, mut tells) = (DEALT_AT_ONCE, TOLD_AT_ONCE);
        while gives > 0
            && tells > 0
            && let Some(mut deal) = self.deals.pop_front()
        {
            if self.tasks.get(deal.task).is_none() {
                continue;
            }
            self.give_some(&mut deal, &mut gives);
            if deal.rest.is_empty() {
                self.tell_dealt(&mut deal, &mut tells);
            }
            if !deal.rest.is_empty() || !deal.told.is_empty() {
                self.deals.push_back(deal);
            } else {
                self.bridge(deal.task, false);
            }
        }
    }

    fn give_some(&mut self, deal: &mut Deal, left: &mut usize) {
        let (t, nobody) = (deal.task, BTreeSet::new());
        while *left > 0
            && let Some(host) = deal.rest.pop_front()
        {
            *left -= 1;
            // Some have left again.
            let members = &self.tasks[t].members;
            if !members.contains_key(&host) {
                continue;
            }
            let degree = members.degree(host);
            let news = self.add_edges(t, host, deal.goal.saturating_sub(degree), false, &nobody, &mut deal.told);
            deal.told.entry(host).or_default().extend(news);
        }
    }

    fn tell_dealt(&mut self, deal: &mut Deal, left: &mut usize) {
        while *left > 0
            && let Some((host, mut news)) = deal.told.pop_first()
        {
            *left -= 1;
            // Some have left meanwhile, and others may have their numbers.
            let members = &self.tasks[deal.task].members;
            news.retain(|other| members.are_linked(host, *other));
            if !news.is_empty() {
                self.send_neighbours(deal.task, host, news);
            }
        }
    }
}
