//! Leases as their holder sees them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::pieces::PieceState;
use super::task::Task;
use super::timers::Timer;
use super::whole::Asking;
use super::{Action, LeaseKey, Swarm, TaskKey, Time};
use crate::task::PieceIndex;

/// A question without an answer is asked again after this: a coordinator answers within milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// After the origin failed, the next question waits for this long, doubled with each failure in a row.
const BACKOFF_MIN: Duration = Duration::from_secs(1);

/// The longest wait after failures of the origin.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// So many pieces of a reader's window are looked at for one to ask for.
const NEAR_MAX: usize = 1024;

/// The soonest repetition of a question that was answered with a time.
const RETRY_MIN: Duration = Duration::from_millis(50);

/// A lease of ours.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    /// What we fetch under it.
    pub(super) pieces: Range<PieceIndex>,
    /// How many of these have not come.
    pub(super) left: u32,
}

/// When the next question may be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ask {
    /// Not before we are told otherwise.
    Never,
    /// As soon as a lease is wanted.
    #[default]
    Now,
    /// From then on.
    Then(Time),
    /// A question is out; it counts as lost from then on.
    Waiting(Time),
}

/// The leases of a task.
#[derive(Debug, Default)]
pub(super) struct Leases {
    pub(super) held: BTreeMap<LeaseKey, Lease>,
    pub(super) ask: Ask,
    failures: u32,
}

/// Whether the next lease is to be asked for: one that is half done makes room for the next.
fn is_wanted(task: &Task) -> bool {
    let leases = &task.leases;
    let busy = leases.held.values().filter(|lease| 2 * lease.left > lease.pieces.len() as u32).count();
    let max = usize::from(task.options.leases_max);
    task.authority && task.options.may_lease && task.is_wanting() && busy < max && leases.held.len() <= max
}

impl Swarm {
    /// Asks for a lease where one is wanted, and gives back those whose pieces came from elsewhere.
    pub(super) fn mind_leases(&mut self, key: TaskKey) {
        if !self.tasks.get(&key).is_some_and(|task| is_wanted(task) && self.is_lacking(task)) {
            return;
        }
        let hosts = &self.hosts;
        // Whom a neighbour gives all of it does not go to the origin.
        let Some(task) = self.tasks.get_mut(&key).filter(|task| !matches!(task.asking, Asking::Of(_))) else { return };
        match task.leases.ask {
            Ask::Never => return,
            Ask::Now => {}
            Ask::Then(at) | Ask::Waiting(at) if at > self.now => return self.timers.set(Timer::Lease(key), at),
            Ask::Then(_) | Ask::Waiting(_) => {}
        }
        let lost = self.now.after(ANSWER_MAX);
        task.leases.ask = Ask::Waiting(lost);
        self.timers.set(Timer::Lease(key), lost);
        let near = task.window.clone().take(NEAR_MAX).find(|piece| {
            task.pieces.is(*piece, PieceState::Missing)
                && !task.reliable(hosts).any(|member| member.theirs.contains(*piece))
        });
        self.actions.push_back(Action::AskLease { task: key, near });
    }

    /// Whether a piece is missing that no neighbour holds, or none that does as it says.
    pub(super) fn is_lacking(&self, task: &Task) -> bool {
        let missing = task.pieces.missing();
        task.pieces.orphans() > 0
            || missing.count() > 0
                && !task.reliable(&self.hosts).any(|member| missing.common(&member.theirs, 0).next().is_some())
    }

    pub(super) fn lease_granted(&mut self, key: TaskKey, lease: LeaseKey, pieces: Range<PieceIndex>) {
        let Some(task) = self.tasks.get_mut(&key) else {
            return self.actions.push_back(Action::ReleaseLease { task: key, lease });
        };
        if task.leases.held.contains_key(&lease) {
            return;
        }
        task.leases.ask = Ask::Now;
        task.reports.every();
        // Whatever is held or can be had from a neighbour does not leave the origin again. One that lets us down
        // does not count, or its word would keep the piece from everybody.
        let hosts = &self.hosts;
        let needed = |piece: &PieceIndex| {
            !task.reliable(hosts).any(|member| member.theirs.contains(*piece))
                && matches!(task.pieces.state(*piece), Some(PieceState::Missing | PieceState::Requested))
        };
        let range = task.clip(&pieces);
        let (Some(first), Some(last)) = (range.clone().find(needed), range.clone().rfind(needed)) else {
            // Of what is held the coordinator learns so, and grants it no more: who has resumed a task asks on at once.
            let held = !range.is_empty() && range.clone().all(|piece| task.pieces.is(piece, PieceState::Held));
            return self.release(key, lease, if held { RETRY_MIN } else { BACKOFF_MIN });
        };
        if !task.options.may_lease || !task.is_wanting() {
            return self.release(key, lease, BACKOFF_MIN);
        }
        let pieces = first..last + 1;
        let requested: Vec<_> = pieces.clone().filter(|piece| task.pieces.is(*piece, PieceState::Requested)).collect();
        for piece in requested {
            self.strip(key, piece);
        }
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let mut left = 0;
        for piece in pieces.clone() {
            if matches!(task.pieces.state(piece), Some(PieceState::Missing | PieceState::Requested)) {
                task.pieces.set(piece, PieceState::Leased);
                left += 1;
            }
        }
        task.leases.held.insert(lease, Lease { pieces: pieces.clone(), left });
        self.actions.push_back(Action::Fetch { task: key, lease, pieces });
        self.restless.insert(key);
    }

    /// Gives a lease back that is of no use. The next question waits a little, lest the same lease come again and
    /// again.
    fn release(&mut self, key: TaskKey, lease: LeaseKey, wait: Duration) {
        self.actions.push_back(Action::ReleaseLease { task: key, lease });
        if let Some(task) = self.tasks.get_mut(&key) {
            task.leases.ask = Ask::Then(self.now.after(wait));
        }
        self.restless.insert(key);
    }

    pub(super) fn lease_none(&mut self, key: TaskKey, retry: Option<Duration>) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        task.leases.ask = retry.map_or(Ask::Never, |retry| Ask::Then(self.now.after(retry.max(RETRY_MIN))));
        self.timers.clear(Timer::Lease(key));
        self.restless.insert(key);
    }

    pub(super) fn lease_revoked(&mut self, key: TaskKey, lease: LeaseKey) {
        if self.end_lease(key, lease) {
            self.actions.push_back(Action::Abort { task: key, lease });
        }
    }

    pub(super) fn origin_done(&mut self, key: TaskKey, lease: LeaseKey) {
        if self.end_lease(key, lease)
            && let Some(task) = self.tasks.get_mut(&key)
        {
            task.leases.failures = 0;
        }
    }

    pub(super) fn origin_failed(&mut self, key: TaskKey, lease: LeaseKey) {
        if !self.end_lease(key, lease) {
            return;
        }
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let wait = (BACKOFF_MIN * (1 << task.leases.failures.min(8))).min(BACKOFF_MAX);
        task.leases.failures += 1;
        task.leases.ask = Ask::Then(self.now.after(wait));
    }

    pub(super) fn origin_stored(&mut self, key: TaskKey, piece: PieceIndex) {
        self.strip(key, piece);
        self.held(key, piece, true);
        if let Some(task) = self.tasks.get_mut(&key) {
            task.fed = self.now;
        }
        self.restless.insert(key);
    }

    /// Forgets a lease; what it did not bring is needed again. Whether it was ours.
    fn end_lease(&mut self, key: TaskKey, lease: LeaseKey) -> bool {
        let Some(task) = self.tasks.get_mut(&key) else { return false };
        let Some(ended) = task.leases.held.remove(&lease) else { return false };
        let left: Vec<PieceIndex> = ended
            .pieces
            .filter(|piece| task.pieces.is(*piece, PieceState::Leased) && !task.leases.covers(*piece))
            .collect();
        for piece in left {
            self.missing(key, piece);
        }
        self.restless.insert(key);
        true
    }

    /// A leased piece is held now. A lease under which nothing is left to fetch, because the last of it came from a
    /// neighbour, is given back; if it came from the origin, its fetch ends by itself.
    pub(super) fn lease_served(&mut self, key: TaskKey, piece: PieceIndex, from_origin: bool) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let covering = task.leases.held.iter_mut().filter(|(_, lease)| lease.pieces.contains(&piece));
        let mut over = Vec::new();
        for (lease, state) in covering {
            state.left = state.left.saturating_sub(1);
            if state.left == 0 && !from_origin {
                over.push(*lease);
            }
        }
        for lease in over {
            task.leases.held.remove(&lease);
            self.actions.push_back(Action::Abort { task: key, lease });
            self.actions.push_back(Action::ReleaseLease { task: key, lease });
        }
        self.restless.insert(key);
    }

    /// Ends all leases of a task that ends.
    pub(super) fn drop_leases(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        for lease in std::mem::take(&mut task.leases.held).into_keys() {
            self.actions.push_back(Action::Abort { task: key, lease });
            self.actions.push_back(Action::ReleaseLease { task: key, lease });
        }
    }

    pub(super) fn authority(&mut self, key: TaskKey, up: bool) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        task.authority = up;
        if up {
            // What it knows of us begins now.
            task.fed = self.now;
            task.reports.expect();
            task.leases.ask = Ask::Now;
            self.restless.insert(key);
            self.timers.set_earlier(Timer::Connect(key), self.now);
        }
    }
}

impl Leases {
    fn covers(&self, piece: PieceIndex) -> bool {
        self.held.values().any(|lease| lease.pieces.contains(&piece))
    }
}
