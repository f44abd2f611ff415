//! The way of a task to its coordinator, step by step: whose it is by [`super`], who is asked, who is joined.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Authority, FOUND_MAX, Kind, LOCAL, MOVE_PAUSE, MOVED_AT_ONCE, Next, PATIENCE, PRIVATE, RETRY_JITTER, RETRY_PATIENCE,
};
use crate::node::addresses_of;
use crate::peer::actor::Actor;
use crate::peer::event::{AuthorityId, Event};
use crate::task::TaskId;
use crate::wire::control::{Neighbour, ToCoordinator};

/// So long a member may take to say who coordinates a task.
const SEEK_MAX: Duration = Duration::from_secs(3);

/// How many members are asked one after the other for somebody who suits a task better.
const HOPS_MAX: u8 = 4;

impl Actor {
    pub(in crate::peer) fn reassess_after(&self, pause: Duration) {
        self.spawn_event(async move {
            tokio::time::sleep(pause).await;
            Event::Reassess
        });
    }

    /// The time to look again has come.
    pub(in crate::peer) fn reassess_due(&mut self) {
        self.authorities.reassessing = false;
        self.reassess();
    }

    /// Looks which tasks belong elsewhere now, some at a time, those that somebody waits for first.
    pub(in crate::peer) fn reassess(&mut self) {
        // Others who ask this host are sent where its own tasks go: not to a scheduler that is gone, or mute.
        for (peer, schedules) in self.authorities.all.values().filter_map(Authority::schedules) {
            self.node.directory(|directory, _| directory.schedules(peer, schedules));
        }
        // The next ones have their turn in a moment, whatever happens meanwhile.
        if self.authorities.reassessing {
            return;
        }
        let mut ids: Vec<(bool, TaskId)> = self.tasks.iter().map(|(id, task)| (task.wants.is_empty(), *id)).collect();
        ids.sort_unstable();
        let mut moved = 0;
        for (_, id) in ids {
            if moved >= MOVED_AT_ONCE {
                if !std::mem::replace(&mut self.authorities.reassessing, true) {
                    self.reassess_after(MOVE_PAUSE);
                }
                return;
            }
            moved += usize::from(self.reassign(id));
        }
        self.drop_idle_authorities();
    }

    /// Somebody waits for a new task: whom this host is to meet at and has lost lately is tried once more before it goes elsewhere.
    /// Whether there was one.
    fn retry_lost(&mut self) -> bool {
        let mut retried = false;
        for authority in self.authorities.all.values_mut() {
            if matches!(authority.kind, Kind::Anchor | Kind::Link) && authority.retry() {
                retried = true;
                let (wake, pause) = (Arc::clone(&authority.wake), self.node.jitter(RETRY_JITTER));
                self.node.spawn(async move {
                    tokio::time::sleep(pause).await;
                    wake.notify_one();
                });
            }
        }
        if retried {
            self.reassess_after(RETRY_PATIENCE + RETRY_JITTER);
        }
        retried
    }

    /// Takes the next step of a task towards the coordinator that is its own now; whether there was one to take.
    pub(in crate::peer) fn reassign(&mut self, id: TaskId) -> bool {
        let Some(task) = self.tasks.get_mut(&id) else { return false };
        let wanted = task.authority.is_none() && !task.wants.is_empty() && !task.scope.is_local();
        if wanted && !task.meeting.retried && self.retry_lost() {
            self.tasks.entry(id).and_modify(|task| task.meeting.retried = true);
        }
        let Some(task) = self.tasks.get(&id) else { return false };
        let next = match task.scope.is_local() {
            true if self.authorities.is_up(PRIVATE) => Next::Join(PRIVATE),
            true => Next::Wait,
            false => self.authorities.next(&id, &task.meeting),
        };
        match next {
            Next::Wait => false,
            Next::Join(target) if task.authority == Some(target) => false,
            Next::Join(target) => {
                if let Some(old) = task.authority {
                    self.tell(old, ToCoordinator::Leave(id));
                }
                self.join(id, target);
                true
            }
            // Whoever coordinates it already goes on doing so.
            Next::Seek(_) if task.authority.is_some_and(|known| self.authorities.is_up(known)) => false,
            Next::Seek(target) => {
                self.seek(id, target);
                true
            }
        }
    }

    fn seek(&mut self, id: TaskId, target: AuthorityId) {
        self.authorities.questions += 1;
        let number = self.authorities.questions;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.meeting.asked = Some((target, number));
        let lost = task.meeting.lost;
        self.tell(target, ToCoordinator::Seek { task: id, lost });
        self.spawn_event(async move {
            tokio::time::sleep(SEEK_MAX).await;
            Event::SeekOver { task: id, number }
        });
    }

    /// Who was asked does not answer: this host's own directory has to do.
    pub(in crate::peer) fn seek_over(&mut self, id: TaskId, number: u64) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.meeting.asked.is_none_or(|(_, asked)| asked != number) {
            return;
        }
        task.meeting.asked = None;
        tracing::debug!(task = %task.label, "nobody said who coordinates it");
        self.seek(id, LOCAL);
    }

    /// A member says who coordinates a task.
    pub(super) fn named(&mut self, from: AuthorityId, id: TaskId, to: &Neighbour) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.meeting.asked.is_none_or(|(asked, _)| asked != from) {
            return;
        }
        task.meeting.asked = None;
        let known = self.authorities.by_peer(to.peer);
        let id_of = match known {
            Some(known) => Some(known),
            None => self.meet(to),
        };
        // Too many sessions, or nowhere to find it: this host does without others.
        let named = id_of.unwrap_or(LOCAL);
        let anchor = self
            .authorities
            .all
            .get(&from)
            .is_some_and(|authority| matches!(authority.kind, Kind::Anchor | Kind::Link));
        let hopeless = !self.authorities.is_up(named) && !self.authorities.is_pending(named);
        if let Some(task) = self.tasks.get_mut(&id) {
            let meeting = &mut task.meeting;
            if hopeless || meeting.avoids(named) {
                // It does not answer here. Asked again at once, the other would name it again at once.
                (meeting.named, meeting.lost) = (None, Some(to.peer));
                self.reassess_after(PATIENCE);
                return;
            }
            // Settled: by an anchor, by the one that is named, and where this host would go round in circles.
            let settled = anchor || named == from || named == LOCAL || meeting.hops >= HOPS_MAX;
            meeting.hops = if settled { 0 } else { meeting.hops + 1 };
            meeting.named = Some(named);
        }
        self.reassign(id);
    }

    /// Opens a session with a member.
    fn meet(&mut self, member: &Neighbour) -> Option<AuthorityId> {
        self.drop_idle_authorities();
        let found = self.authorities.all.values().filter(|authority| authority.kind == Kind::Found).count();
        let addresses = addresses_of(member).filter(|addresses| !addresses.is_empty() && found < FOUND_MAX)?;
        let addresses = addresses.into_iter().map(|address| address.with_peer(member.peer)).collect();
        // One that neither answers nor refuses is given up after a while.
        self.reassess_after(PATIENCE);
        Some(self.start_authority(addresses, Kind::Found))
    }

    /// Ends the sessions with members that coordinate nothing for this host any more.
    fn drop_idle_authorities(&mut self) {
        let needed = |id: &AuthorityId| {
            self.tasks.values().any(|task| task.authority == Some(*id) || task.meeting.named == Some(*id))
        };
        let found = self.authorities.all.iter().filter(|(_, authority)| authority.kind == Kind::Found);
        let idle: Vec<AuthorityId> = found.map(|(id, _)| *id).filter(|id| !needed(id)).collect();
        for id in idle {
            self.authorities.all.remove(&id);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::node::Node;
    use crate::peer::event::Scope;
    use crate::peer::tasks::Task;
    use crate::scheduler::Coordinator;
    use crate::task::Class;
    use crate::trust::{Identity, sign_record};
    use crate::wire::control::TaskInfo;

    /// A member that coordinates something, at an address where nobody answers.
    fn member() -> Neighbour {
        let identity = Identity::generate();
        let record = sign_record(&identity, &["/ip4/127.0.0.1/tcp/1".parse().unwrap()]).unwrap();
        Neighbour { peer: identity.peer_id(), record: Some(record), seen_ip: None, seed: false, share: None }
    }

    fn id(number: usize) -> TaskId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        TaskId::from_hash(id)
    }

    /// Who it is that coordinates a task is heard of a member; whether a session with that one is opened.
    fn named(actor: &mut Actor, id: TaskId) -> bool {
        let scope = Scope { class: Class::Public, tenant: "default".into(), fixed: false };
        let task = Task::new(TaskInfo { task: id, spec: None, fixed: false }, String::new(), scope, 0);
        let task = actor.tasks.entry(id).or_insert(task);
        task.meeting.asked = Some((LOCAL, 0));
        actor.named(LOCAL, id, &member());
        actor.tasks[&id].meeting.named.is_some_and(|named| named != LOCAL)
    }

    #[tokio::test]
    async fn so_many_members_that_coordinate_something_are_met_and_no_more() {
        let node = Node::builder().start().await.unwrap();
        let (events, _queue) = mpsc::channel(crate::peer::engine::EVENTS_MAX);
        let mut actor = Actor::new(node.clone(), Coordinator::of(&node), events, CancellationToken::new());
        for number in 0..FOUND_MAX {
            assert!(named(&mut actor, id(number)), "{number}");
            assert_eq!(actor.authorities.sessions(), (number + 1, 0));
        }
        assert!(!named(&mut actor, id(FOUND_MAX)), "this host does without that one");
        assert_eq!(actor.authorities.sessions(), (FOUND_MAX, 0));
        // One that coordinates nothing for this host any more gives way.
        actor.tasks.remove(&id(7));
        assert!(named(&mut actor, id(FOUND_MAX)));
        assert_eq!(actor.authorities.sessions(), (FOUND_MAX, 0));
        node.shutdown().await.unwrap();
    }
}
