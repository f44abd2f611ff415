//! Small content: one neighbour is asked for all of it in one message, before the task is opened with anybody. What comes of
//! it otherwise (nobody to ask, no answer, an answer of no use) goes the way of all content.

use std::time::Duration;

use super::host::Host;
use super::pieces::PieceState;
use super::task::Task;
use super::timers::Timer;
use super::{Action, Answered, HostKey, Swarm, TaskKey};
use crate::task::PieceIndex;
use crate::wire::lane::{ASKS_MAX, WHOLE_BYTES_MAX};

/// A neighbour that owes answers and gives none for so long is not waited for: many round trips, and 64 KiB at half a
/// megabit a second.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Bytes that one neighbour may be asked for so at a time: sixteen of the longest. More is asked for piece by piece, where who
/// is slow is found out.
pub(super) const ASKED_BYTES_MAX: u64 = 1 << 20;

/// The only piece of small content.
const ALL: PieceIndex = 0;

/// Whether a neighbour is asked for all of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Asking {
    /// Not yet.
    #[default]
    Not,
    /// This one is.
    Of(HostKey),
    /// One was, or there is no point.
    Over,
}

impl Task {
    fn is_small(&self) -> bool {
        self.layout.pieces() == 1 && self.layout.length() <= WHOLE_BYTES_MAX as u64
    }
}

impl Host {
    /// Whether it may be asked for so many bytes more.
    fn takes(&self, bytes: u64) -> bool {
        self.up && self.strikes == 0 && self.asks.len() < ASKS_MAX && self.asked_bytes + bytes <= ASKED_BYTES_MAX
    }

    pub(super) fn unask(&mut self, key: TaskKey) {
        self.asked_bytes -= self.asks.remove(&key).unwrap_or(0);
    }
}

impl Swarm {
    /// Whether all of a task is being had in one answer, so that nothing else is to be done for it now: asks a neighbour if
    /// none was asked.
    pub(super) fn asks(&mut self, key: TaskKey) -> bool {
        let Some(task) = self.tasks.get(&key).filter(|task| task.is_small() && task.is_wanting()) else { return false };
        if task.pieces.is(ALL, PieceState::Proven) {
            // It is being stored; looked at again in case it cannot be.
            self.timers.set(Timer::Connect(key), self.now.after(ANSWER_MAX));
            return true;
        }
        match task.asking {
            Asking::Over => false,
            Asking::Not => self.ask(key),
            Asking::Of(host) => {
                let due = self.hosts.get(&host).map(|host| host.used.after(ANSWER_MAX)).filter(|due| *due > self.now);
                match due {
                    Some(due) => self.timers.set(Timer::Connect(key), due),
                    None => self.ask_no_more(key),
                }
                due.is_some()
            }
        }
    }

    /// Asks the best neighbour of those to whom there is a lane, if what is missing is nowhere nearer; whether it did.
    fn ask(&mut self, key: TaskKey) -> bool {
        let Some(task) = self.tasks.get_mut(&key) else { return false };
        if !task.pieces.is(ALL, PieceState::Missing) || task.pieces.holders(ALL) > 0 {
            return false;
        }
        let (hosts, now, bytes) = (&self.hosts, self.now, task.layout.length());
        let may = |host: &HostKey| hosts.get(host).is_some_and(|host| host.takes(bytes) && host.probation <= now);
        let named = task.candidates.iter().filter(|(host, candidate)| candidate.retry <= now && may(host));
        let best = named.filter(|(host, _)| !task.members.contains_key(host)).min_by_key(|(host, candidate)| (candidate.failures, candidate.rank, **host));
        let Some(host_key) = best.map(|(host, _)| *host) else { return false };
        task.asking = Asking::Of(host_key);
        if let Some(host) = self.hosts.get_mut(&host_key) {
            if host.asks.is_empty() {
                host.used = now;
            }
            host.asks.insert(key, bytes);
            host.asked_bytes += bytes;
        }
        self.timers.set(Timer::Connect(key), now.after(ANSWER_MAX));
        self.actions.push_back(Action::Ask { host: host_key, task: key });
        true
    }

    /// Nobody is asked for all of a task any more.
    pub(super) fn ask_no_more(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        if let Asking::Of(host) = std::mem::replace(&mut task.asking, Asking::Over) {
            if let Some(host) = self.hosts.get_mut(&host) {
                host.unask(key);
            }
            self.restless.insert(key);
        }
    }

    /// A neighbour has answered. However late: what is proven is of use.
    pub(super) fn answered(&mut self, host_key: HostKey, key: TaskKey, answered: Answered) {
        if let Some(host) = self.hosts.get_mut(&host_key) {
            host.used = self.now;
            if answered == Answered::Proven {
                host.useful = true;
                host.strikes = host.strikes.saturating_sub(1);
            }
        }
        let Some(task) = self.tasks.get_mut(&key) else { return };
        if answered == Answered::Proven {
            task.fed = self.now;
            if task.pieces.is(ALL, PieceState::Missing) {
                task.pieces.set(ALL, PieceState::Proven);
            }
        }
        if task.asking == Asking::Of(host_key) {
            self.ask_no_more(key);
        }
        if answered == Answered::Refuted {
            self.refute(host_key, key, ALL);
        }
        if answered != Answered::Proven {
            self.timers.set_earlier(Timer::Connect(key), self.now);
        }
    }

    /// A neighbour asks for small content, which it is sent without this core: its lane is in use.
    pub(super) fn asked(&mut self, host: HostKey) {
        if let Some(host) = self.hosts.get_mut(&host) {
            host.used = self.now;
        }
    }
}
