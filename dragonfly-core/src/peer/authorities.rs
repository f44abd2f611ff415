//! Which coordinator a task belongs to, and what this host says to it.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use super::actor::Actor;
use super::authority;
use super::event::{AuthorityEvent, AuthorityId};
use crate::swarm::Input;
use crate::task::{TaskId, rendezvous_score};
use crate::wire::PeerId;
use crate::wire::control::{ToCoordinator, ToMember};

/// This host's own coordinator.
pub(super) const LOCAL: AuthorityId = AuthorityId(0);

/// The coordinator of what this host keeps to itself: no other host has a session with it.
pub(super) const PRIVATE: AuthorityId = AuthorityId(u32::MAX);

#[derive(Default)]
pub(super) struct Authorities(BTreeMap<AuthorityId, Authority>);

struct Authority {
    state: AuthorityState,
}

enum AuthorityState {
    /// The first attempt is under way, or a new one after a session ended.
    Connecting,
    /// The last attempt failed.
    Unreachable,
    Up {
        commands: mpsc::Sender<ToCoordinator>,
        peer: PeerId,
    },
}

impl Authorities {
    fn is_up(&self, id: AuthorityId) -> bool {
        self.0.get(&id).is_some_and(|authority| matches!(authority.state, AuthorityState::Up { .. }))
    }

    /// The coordinator for a task: of those that are up, the one that rendezvous hashing names; this host's own
    /// once none of the others can be reached. `None`: not known yet.
    fn of(&self, task: &TaskId) -> Option<AuthorityId> {
        let remote = || self.0.iter().filter(|(id, _)| !matches!(**id, LOCAL | PRIVATE));
        let best = remote().filter_map(|(id, authority)| match &authority.state {
            AuthorityState::Up { peer, .. } => Some((rendezvous_score(task, peer.public_key()), *id)),
            _ => None,
        });
        if let Some((_, id)) = best.max() {
            return Some(id);
        }
        let waiting = remote().any(|(_, authority)| matches!(authority.state, AuthorityState::Connecting));
        (!waiting && self.is_up(LOCAL)).then_some(LOCAL)
    }
}

impl Actor {
    pub(super) fn start_authorities(&mut self) {
        let connecting = || Authority { state: AuthorityState::Connecting };
        let stream = self.coordinator.local_session();
        self.authorities.0.insert(LOCAL, connecting());
        let seed = self.node.acts_as_seed();
        self.node.spawn(authority::keep_local(self.node.clone(), LOCAL, stream, seed, self.events.clone()));
        self.authorities.0.insert(PRIVATE, connecting());
        let stream = self.private.local_session();
        self.node.spawn(authority::keep_local(self.node.clone(), PRIVATE, stream, seed, self.events.clone()));
        for (addresses, number) in self.node.coordinators().into_iter().zip(1..) {
            let id = AuthorityId(number);
            self.authorities.0.insert(id, connecting());
            self.node.spawn(authority::keep(self.node.clone(), id, addresses, seed, self.events.clone()));
        }
    }

    pub(super) fn authority(&mut self, id: AuthorityId, event: AuthorityEvent) {
        match event {
            AuthorityEvent::Message(message) => self.message(id, *message),
            AuthorityEvent::Up { commands, peer } => {
                if let Some(authority) = self.authorities.0.get_mut(&id) {
                    authority.state = AuthorityState::Up { commands, peer };
                }
                self.reassign(None);
            }
            AuthorityEvent::Down => {
                if let Some(authority) = self.authorities.0.get_mut(&id) {
                    authority.state = AuthorityState::Connecting;
                }
                let keys: Vec<_> = self.tasks.values().filter(|task| task.authority == Some(id)).collect();
                let keys: Vec<_> = keys.into_iter().filter_map(|task| task.current).collect();
                for task in keys {
                    self.input(Input::AuthorityDown { task });
                }
                for task in self.tasks.values_mut().filter(|task| task.authority == Some(id)) {
                    task.authority = None;
                }
                self.reassign(None);
            }
            AuthorityEvent::Unreachable(error) => {
                if let Some(authority) = self.authorities.0.get_mut(&id) {
                    authority.state = AuthorityState::Unreachable;
                }
                tracing::debug!(?id, %error, "coordinator unreachable");
                self.reassign(None);
            }
        }
    }

    /// Joins tasks at the coordinator that is theirs now: all of them, or one.
    pub(super) fn reassign(&mut self, only: Option<TaskId>) {
        let ids: Vec<TaskId> = match only {
            Some(task) => vec![task],
            None => self.tasks.keys().copied().collect(),
        };
        for id in ids {
            let Some(task) = self.tasks.get(&id) else { continue };
            let target = if task.scope.is_local() { Some(PRIVATE) } else { self.authorities.of(&id) };
            let Some(target) = target.filter(|target| self.authorities.is_up(*target)) else { continue };
            if task.authority == Some(target) {
                continue;
            }
            // A complete task stays where it is: moving it brings nobody anything.
            let settled = task.authority.is_some() && task.wants.is_empty();
            if settled {
                continue;
            }
            if let Some(old) = task.authority {
                self.tell(old, ToCoordinator::Leave(id));
            }
            self.join(id, target);
        }
    }

    /// Sends a message; a coordinator that lags behind loses its session and is taken up anew.
    pub(super) fn tell(&mut self, id: AuthorityId, message: ToCoordinator) {
        let Some(authority) = self.authorities.0.get_mut(&id) else { return };
        if let AuthorityState::Up { commands, peer } = &authority.state
            && let Err(mpsc::error::TrySendError::Full(_)) = commands.try_send(message)
        {
            tracing::warn!(coordinator = %peer, "a coordinator does not keep up: its session is closed");
            authority.state = AuthorityState::Connecting;
        }
    }

    /// Sends a message to the coordinator of a task, if it has one.
    pub(super) fn tell_of(&mut self, task: TaskId, message: ToCoordinator) {
        if let Some(id) = self.tasks.get(&task).and_then(|task| task.authority) {
            self.tell(id, message);
        }
    }

    fn message(&mut self, id: AuthorityId, message: ToMember) {
        // Only the coordinator of a task has a say in it.
        let of_task = match &message {
            ToMember::Current(current) => Some(current.task),
            ToMember::Failed { task, .. }
            | ToMember::Neighbours { task, .. }
            | ToMember::NoLease { task, .. }
            | ToMember::Redirect { task, .. }
            | ToMember::Revoked { task, .. } => Some(*task),
            ToMember::Granted(granted) => Some(granted.task),
            ToMember::Trigger(_) | ToMember::Welcome { .. } => None,
        };
        if let Some(task) = of_task
            && self.tasks.get(&task).and_then(|task| task.authority) != Some(id)
        {
            return;
        }
        match message {
            ToMember::Welcome { .. } => {}
            ToMember::Current(current) => self.current(current),
            ToMember::Failed { task, failure } => self.task_failed(task, &failure),
            ToMember::Granted(granted) => self.granted(granted),
            ToMember::Neighbours { task, hosts } => self.neighbours(task, hosts),
            ToMember::NoLease { task, retry_ms } => {
                let retry = retry_ms.map(|ms| std::time::Duration::from_millis(ms.into()));
                if let Some(key) = self.tasks.get(&task).and_then(|task| task.current) {
                    self.input(Input::LeaseNone { task: key, retry });
                }
            }
            // Coordinators are configured here; who coordinates is not yet learnt from others.
            ToMember::Redirect { .. } => {}
            ToMember::Revoked { task, lease } => self.revoked(task, lease),
            ToMember::Trigger(info) => self.triggered(info),
        }
    }
}
