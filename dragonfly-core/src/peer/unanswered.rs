//! Coordinators that live and say nothing, or nothing that is of use. Who waits to hear what a task's content is, or lacks pieces that no neighbour
//! holds, asks now and then; a coordinator that answers nothing of the task is done without for a while. After a long
//! silence of everybody's the wait to hear what the content is ends.

use std::time::{Duration, Instant};

use super::actor::Actor;
use super::authorities::{LOCAL, PRIVATE};
use super::download::STALLED_MAX;
use super::event::{AuthorityId, Event};
use crate::swarm::Input;
use crate::task::TaskId;
use crate::wire::control::ToCoordinator;
use crate::{Error, ErrorKind};

/// Between two questions to a coordinator that has not said yet what the content is; it answers each at once.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// A coordinator that says nothing of a task for so long, although it was asked three times, is mute.
pub(super) const UNANSWERED_MAX: Duration = Duration::from_secs(15);

/// Nothing comes of what a task lacks for so long, although its coordinator answers: who names nobody that serves, and
/// lets nobody go to the origin, is of no use. Longer than an honest one leaves a piece to a holder that brings nothing.
pub(super) const IN_VAIN_MAX: Duration = Duration::from_secs(60);

/// A mute coordinator, or one that was of no use, is tried again after so long.
const MUTE_TIME: Duration = Duration::from_secs(60);

/// Since when a task waits for the word of its coordinator.
#[derive(Debug)]
pub(super) struct Asked {
    /// Its last word, or when it was first asked.
    coordinator: Instant,
    /// The last sign that somebody is at it: anybody's word, or this host's own work at the origin.
    anybody: Instant,
    /// Since when it owes the names of hosts that hold what this one lacks.
    owes: Option<Instant>,
    /// Whether a look at it is due already.
    watched: bool,
}

impl Asked {
    pub(super) fn now() -> Self {
        let now = Instant::now();
        Self { coordinator: now, anybody: now, owes: None, watched: false }
    }

    /// The coordinator has said something of the task.
    pub(super) fn answered(&mut self) {
        (self.coordinator, self.anybody, self.owes) = (Instant::now(), Instant::now(), None);
    }

    /// Another coordinator is asked from now on.
    pub(super) fn another(&mut self) {
        (self.coordinator, self.owes) = (Instant::now(), None);
    }

    /// It is asked who holds what this host lacks.
    pub(super) fn who_holds(&mut self) {
        self.owes.get_or_insert_with(Instant::now);
    }

    /// This host is asking the origin.
    pub(super) fn at_work(&mut self) {
        self.anybody = Instant::now();
    }
}

impl Actor {
    /// Sees to it that a wait for a coordinator's word does not last for ever.
    pub(super) fn watch_answer(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        // Who lacks pieces looks when the answer has been owed for too long, and no later.
        let owed = task.asked.owes.filter(|_| !task.is_resolving());
        let left = owed.map(|since| UNANSWERED_MAX.saturating_sub(since.elapsed())).filter(|left| !left.is_zero());
        let pause = left.unwrap_or(ASK_EVERY);
        if (task.is_resolving() || owed.is_some()) && !std::mem::replace(&mut task.asked.watched, true) {
            self.spawn_event(async move {
                tokio::time::sleep(pause).await;
                Event::AnswerDue { task: id }
            });
        }
    }

    pub(super) fn answer_due(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.asked.watched = false;
        if !task.is_resolving() {
            let authority = task.authority.filter(|id| !matches!(*id, LOCAL | PRIVATE));
            let is_mute = task.asked.owes.is_some_and(|since| since.elapsed() >= UNANSWERED_MAX);
            return match authority.filter(|_| is_mute) {
                Some(authority) => self.mute(authority),
                None => self.watch_answer(id),
            };
        }
        let (authority, asked) = (task.authority, &task.asked);
        if asked.anybody.elapsed() >= STALLED_MAX {
            let why = format!("{}: nobody said within {STALLED_MAX:?} what its content is", task.label);
            return self.fail(id, &Error::new(ErrorKind::Timeout, why).temporary(true));
        }
        let is_mute = asked.coordinator.elapsed() >= UNANSWERED_MAX && asked.anybody <= asked.coordinator;
        match authority {
            // It is this very host: what it waits for is an origin or another member, and both have bounds.
            None | Some(LOCAL | PRIVATE) => {}
            Some(authority) if is_mute => self.mute(authority),
            Some(authority) => self.tell(authority, ToCoordinator::KeepAlive),
        }
        self.watch_answer(id);
    }

    /// Nothing has come of what a task lacks for `time`. After too long another coordinator is asked; whether that is so.
    /// Its other tasks stay where they are: it may be this one's origin that gives nothing.
    pub(super) fn asked_in_vain(&mut self, id: TaskId, time: Duration) -> bool {
        let Some(task) = self.tasks.get_mut(&id).filter(|_| time >= IN_VAIN_MAX) else { return false };
        let Some(authority) = task.authority.filter(|id| !matches!(*id, LOCAL | PRIVATE)) else { return false };
        task.authority = None;
        let (label, current) = (task.label.clone(), task.current);
        let coordinator = self.authorities.all.get(&authority).and_then(|authority| authority.peer);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.meeting.avoid(authority, coordinator, Instant::now() + MUTE_TIME);
        }
        tracing::warn!(
            "under the coordinator {} nothing has come of {label} for {time:.0?}: done without for {MUTE_TIME:?}",
            coordinator.map(|peer| peer.to_string()).as_deref().unwrap_or("unknown"),
        );
        self.tell(authority, ToCoordinator::Leave(id));
        if let Some(task) = current {
            self.input(Input::AuthorityDown { task });
        }
        self.reassign(id);
        self.reassess_after(MUTE_TIME);
        true
    }

    fn mute(&mut self, id: AuthorityId) {
        let Some(authority) = self.authorities.all.get_mut(&id) else { return };
        authority.mute_until = Some(Instant::now() + MUTE_TIME);
        let coordinator = authority.peer.map(|peer| peer.to_string());
        tracing::warn!(
            "the coordinator {} says nothing of what it was asked for {UNANSWERED_MAX:?}: done without for {MUTE_TIME:?}",
            coordinator.as_deref().unwrap_or("unknown"),
        );
        self.lose(id);
        self.reassess_after(MUTE_TIME);
    }
}
