//! Small content: one neighbour is asked for all of it in one message, before the task is opened with anybody. What comes of
//! it otherwise (nobody to ask, no answer, an answer of no use) goes the way of all content.

use std::collections::BTreeMap;
use std::time::Duration;

use super::pieces::PieceState;
use super::task::Task;
use super::timers::Timer;
use super::{Action, Answered, HostKey, Swarm, TaskKey, Time};
use crate::task::PieceIndex;
use crate::wire::lane::{ASKS_MAX, WHOLE_BYTES_MAX};

/// A neighbour that owes answers and gives none for so long is not waited for: many round trips, and 64 KiB at a quarter of a
/// megabit a second. What it says of other things is no answer.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Nor is one that answers others first waited for longer than this. The task is not opened for as long with one that has
/// answered before: what it owes comes ahead of anything else on its lane.
pub(super) const LATE_MAX: Duration = Duration::from_secs(10);

/// However long limits of this host's own hold up what comes: others may have it over another lane by then.
pub(super) const HELD_UP_MAX: Duration = Duration::from_secs(60);

/// Who owed an answer so long is asked nothing for this time, doubled each time.
pub(super) const PAUSE_MIN: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(320);

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
    pub(super) fn is_small(&self) -> bool {
        self.layout.pieces() == 1 && self.layout.length() <= WHOLE_BYTES_MAX as u64
    }
}

/// What one neighbour is asked for, all of each.
#[derive(Debug, Default)]
pub(super) struct Asks {
    /// What is owed.
    owed: BTreeMap<TaskKey, Owed>,
    bytes: u64,
    /// When the last answer was read.
    read: Time,
    /// Whether it answers at all, once that is known: a neighbour of an earlier version does not.
    answers: Option<bool>,
    /// Until when it is not asked, for it owed an answer too long; and for how long the next time.
    paused: Time,
    pause: Duration,
}

#[derive(Debug)]
struct Owed {
    bytes: u64,
    asked: Time,
    /// Since when it is owed, but for what held up others.
    since: Time,
}

impl Asks {
    /// Whether it may be asked for so many bytes more.
    fn takes(&self, bytes: u64, now: Time) -> bool {
        self.answers != Some(false)
            && self.paused <= now
            && self.owed.len() < ASKS_MAX
            && self.bytes + bytes <= ASKED_BYTES_MAX
    }

    fn put(&mut self, key: TaskKey, bytes: u64, now: Time) {
        self.take(key);
        self.owed.insert(key, Owed { bytes, asked: now, since: now });
        self.bytes += bytes;
    }

    pub(super) fn take(&mut self, key: TaskKey) {
        self.bytes -= self.owed.remove(&key).map_or(0, |owed| owed.bytes);
    }

    /// Until when an answer is waited for.
    fn due(&self, key: TaskKey) -> Option<Time> {
        let owed = self.owed.get(&key)?;
        let due = owed.since.max(self.read).after(ANSWER_MAX).min(owed.since.after(LATE_MAX));
        Some(due.min(owed.asked.after(HELD_UP_MAX)))
    }

    /// An answer has come, and is not read further for limits of this host's own: what is behind it is owed from now on.
    pub(super) fn held_up(&mut self, now: Time) {
        self.read = now;
        self.owed.values_mut().for_each(|owed| owed.since = now);
    }

    /// It owed an answer too long: others are asked first for a while, each time for twice as long.
    fn pause(&mut self, now: Time) {
        if self.paused <= now {
            self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            self.paused = now.after(self.pause);
        }
    }

    /// For [`Swarm::assert_invariants`]: the tasks, which are within the bounds.
    pub(super) fn checked(&self) -> impl Iterator<Item = &TaskKey> {
        assert_eq!(self.bytes, self.owed.values().map(|owed| owed.bytes).sum::<u64>(), "bytes asked for");
        assert!(self.owed.len() <= ASKS_MAX && self.bytes <= ASKED_BYTES_MAX, "too much is asked for");
        self.owed.keys()
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
                let due = self.hosts.get(&host).and_then(|host| host.asks.due(key)).filter(|due| *due > self.now);
                match due {
                    Some(due) => self.timers.set(Timer::Connect(key), due),
                    None => self.owes(host, key),
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
        let may =
            |host: &HostKey| hosts.get(host).is_some_and(|host| host.can_be_asked(now) && host.asks.takes(bytes, now));
        let named = task.candidates.iter().filter(|(host, candidate)| candidate.retry <= now && may(host));
        let best = named
            // Who is in another site has the rules of pieces.
            .filter(|(host, _)| !task.members.contains_key(host) && !task.across.contains(**host))
            .min_by_key(|(host, candidate)| (candidate.failures, candidate.rank, **host));
        let Some(host_key) = best.map(|(host, _)| *host) else { return false };
        task.asking = Asking::Of(host_key);
        if let Some(host) = self.hosts.get_mut(&host_key) {
            host.used = now;
            host.asks.put(key, bytes, now);
        }
        self.timers.set(Timer::Connect(key), now.after(ANSWER_MAX));
        self.actions.push_back(Action::Ask { host: host_key, task: key });
        true
    }

    /// A neighbour is silent. One that never answered may not know the question: it is not asked again.
    fn owes(&mut self, host_key: HostKey, key: TaskKey) {
        let late = self.now.after(LATE_MAX);
        if let Some(host) = self.hosts.get_mut(&host_key)
            && let Some(task) = self.tasks.get_mut(&key)
        {
            let answers = *host.asks.answers.get_or_insert(false);
            host.asks.pause(self.now);
            if let Some(candidate) = task.candidates.get_mut(&host_key).filter(|_| answers) {
                candidate.retry = candidate.retry.max(late);
            }
        }
        self.ask_no_more(key);
    }

    /// Nobody is asked for all of a task any more.
    pub(super) fn ask_no_more(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        if let Asking::Of(host) = std::mem::replace(&mut task.asking, Asking::Over) {
            if let Some(host) = self.hosts.get_mut(&host) {
                host.asks.take(key);
            }
            self.restless.insert(key);
        }
    }

    /// A lane is lost, and with it what was asked for there: that may be asked of another, or over another lane.
    pub(super) fn ask_anew(&mut self, key: TaskKey, host: HostKey) {
        if let Some(task) = self.tasks.get_mut(&key).filter(|task| task.asking == Asking::Of(host)) {
            task.asking = Asking::Not;
            self.restless.insert(key);
        }
    }

    /// A neighbour has answered. However late: what is proven is of use.
    pub(super) fn answered(&mut self, host_key: HostKey, key: TaskKey, answered: Answered) {
        if let Some(host) = self.hosts.get_mut(&host_key).filter(|_| answered != Answered::Unasked) {
            (host.used, host.asks.read, host.asks.answers) = (self.now, self.now, Some(true));
            if answered == Answered::Proven {
                // What else is asked of it waits for its turn beside these.
                host.progress = self.now;
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
        if let Some(candidate) = task.candidates.get_mut(&host_key) {
            candidate.retry = task.bans.get(&host_key).map_or(self.now, |ban| ban.until);
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

    /// An answer has come, and limits of this host's own hold it up.
    pub(super) fn answer_held_up(&mut self, key: HostKey) {
        self.held_up(key);
        if let Some(host) = self.hosts.get_mut(&key) {
            host.used = self.now;
            host.asks.held_up(self.now);
        }
    }

    /// A neighbour asks for small content, which it is sent without this core: its lane is in use.
    pub(super) fn asked(&mut self, host: HostKey) {
        if let Some(host) = self.hosts.get_mut(&host) {
            host.used = self.now;
        }
    }
}
