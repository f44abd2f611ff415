//! Which coordinator a task belongs to, and what this host says to it.
//!
//! A scheduler, where there is one: rendezvous hashing says which. Else the member that an *anchor* names: one of
//! those that this host was told to meet at, so that all who want a task meet although they know different
//! members. Else, with no anchor to be reached, the member that this host's own directory names.

mod assign;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::actor::Actor;
use super::authority;
use super::event::{AuthorityEvent, AuthorityId};
use crate::node::{NotTaken, Outbox, addresses_of};
use crate::swarm::Input;
use crate::task::{TaskId, rendezvous_score};
use crate::trust::Roles;
use crate::wire::control::{ToCoordinator, ToMember};
use crate::wire::{Address, PeerId, bytes_of_ip};

/// This host's own coordinator.
pub(super) const LOCAL: AuthorityId = AuthorityId(0);

/// The coordinator of what this host keeps to itself: no other host has a session with it.
pub(super) const PRIVATE: AuthorityId = AuthorityId(u32::MAX);

/// An anchor that is being reached is waited for so long before others are asked in its place.
const PATIENCE: Duration = Duration::from_secs(3);

/// One that was lost may be back, and its next attempt be seconds away: where somebody waits for a new task it is tried at once,
/// and waited for so long. What begins then would cost a second copy where a network was split and is whole again.
const RETRY_PATIENCE: Duration = Duration::from_secs(1);

/// A retry begins within this, after half of it at the least, and is waited for from then on: many hosts may begin with one task
/// at the same moment, and they do not dial at the same moment.
const RETRY_JITTER: Duration = Duration::from_millis(400);

/// Not again within this: one that answers nothing costs every new task that wait.
const RETRY_PAUSE: Duration = Duration::from_secs(3);

/// One that has been gone for longer is not waited for any more.
const LOST_MAX: Duration = Duration::from_secs(600);

/// Sessions with members that coordinate something for this host, beside those that it was told of.
pub(super) const FOUND_MAX: usize = 64;

/// Tasks that are moved to another coordinator at a time, and the pause between: a coordinator that comes back, or
/// takes over, is not stormed. Those that somebody waits for go first.
pub(super) const MOVED_AT_ONCE: usize = 64;
pub(super) const MOVE_PAUSE: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct Authorities {
    pub(super) all: BTreeMap<AuthorityId, Authority>,
    last: u32,
    questions: u64,
    /// Whether a look at all tasks is due already.
    reassessing: bool,
    pub(super) links: super::links::Links,
}

pub(super) struct Authority {
    /// Who it is; unknown for this host's own until it is up.
    pub(super) peer: Option<PeerId>,
    pub(super) kind: Kind,
    state: AuthorityState,
    /// It was found to say nothing of what it is asked: until then it counts as one that is not there.
    pub(super) mute_until: Option<Instant>,
    /// When its last session ended.
    lost: Option<Instant>,
    /// When it was last tried, or tried again, as far as is known.
    tried: Instant,
    /// Has it tried now.
    wake: Arc<Notify>,
    _stop: Option<DropGuard>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Named by an operator or a token.
    Anchor,
    /// Found on a link of this host: an anchor once it is up, and nobody waits for it to be. What is more than the
    /// time that all have to be found is in [`super::links`].
    Link,
    /// Named by another member for some task.
    Found,
    Local,
    /// This host's own for what it keeps to itself.
    Private,
}

enum AuthorityState {
    /// An attempt is under way, since then.
    Connecting(Instant),
    /// The last attempt failed.
    Unreachable,
    /// It failed, too, and the next one was brought forward, at that time.
    Retrying(Instant),
    Up {
        commands: Outbox,
        /// Cancelled when the session is over.
        over: CancellationToken,
        /// Whether it is a scheduler, once it has said so.
        scheduler: Option<bool>,
    },
}

/// How the coordinator of a task is found where no scheduler has it.
#[derive(Debug, Default)]
pub(super) struct Meeting {
    /// Who was asked, and the number of the question.
    asked: Option<(AuthorityId, u64)>,
    /// Who was named.
    named: Option<AuthorityId>,
    /// How many were asked since this host's own directory named somebody; 0 once one has the task for certain. Who
    /// is named by a directory may know somebody better, and is asked first.
    hops: u8,
    /// Who was named before and could not be reached.
    lost: Option<PeerId>,
    /// Whether those that were lost were tried once more for it.
    retried: bool,
    /// Who was of no use for this task, and until when it is not asked again.
    avoided: Vec<(AuthorityId, Instant)>,
}

impl Meeting {
    /// Nobody asks this one about the task until then.
    pub(super) fn avoid(&mut self, id: AuthorityId, peer: Option<PeerId>, until: Instant) {
        let now = Instant::now();
        self.avoided.retain(|(other, until)| *other != id && *until > now);
        self.avoided.push((id, until));
        if self.named == Some(id) {
            (self.named, self.lost) = (None, peer);
        }
        if self.asked.is_some_and(|(asked, _)| asked == id) {
            self.asked = None;
        }
    }

    fn avoids(&self, id: AuthorityId) -> bool {
        self.avoided.iter().any(|(other, until)| *other == id && *until > Instant::now())
    }
}

/// What to do about a task next.
enum Next {
    Join(AuthorityId),
    Seek(AuthorityId),
    Wait,
}

impl Authority {
    fn is_mute(&self) -> bool {
        self.mute_until.is_some_and(|until| until > Instant::now())
    }

    /// Who it is, if it ever came up, and whether it is a scheduler that this host turns to.
    fn schedules(&self) -> Option<(PeerId, bool)> {
        let up = matches!(self.state, AuthorityState::Up { scheduler: Some(true), .. });
        Some((self.peer?, up && !self.is_mute()))
    }

    pub(super) const fn is_unreachable(&self) -> bool {
        matches!(self.state, AuthorityState::Unreachable | AuthorityState::Retrying(_))
    }

    fn new(peer: Option<PeerId>, kind: Kind, wake: Arc<Notify>, stop: Option<DropGuard>) -> Self {
        let now = Instant::now();
        let state = AuthorityState::Connecting(now);
        Self { peer, kind, state, mute_until: None, lost: None, tried: now, wake, _stop: stop }
    }

    /// Brings its next attempt forward if it was lost lately; whether that is so.
    fn retry(&mut self) -> bool {
        let lately = self.lost.is_some_and(|lost| lost.elapsed() < LOST_MAX);
        let due = match self.state {
            AuthorityState::Unreachable | AuthorityState::Retrying(_) => true,
            // The attempt after a session that ended may hang for longer than anybody waits for it.
            AuthorityState::Connecting(since) => since.elapsed() >= PATIENCE,
            AuthorityState::Up { .. } => false,
        };
        if !lately || !due || self.tried.elapsed() < RETRY_PAUSE {
            return false;
        }
        self.tried = Instant::now();
        self.state = AuthorityState::Retrying(self.tried + RETRY_JITTER);
        true
    }
}

impl Authorities {
    fn is_up(&self, id: AuthorityId) -> bool {
        let state = self.all.get(&id).filter(|authority| !authority.is_mute()).map(|authority| &authority.state);
        matches!(state, Some(AuthorityState::Up { scheduler: Some(_), .. }))
    }

    fn is_pending(&self, id: AuthorityId) -> bool {
        self.all.get(&id).is_some_and(|authority| match authority.state {
            AuthorityState::Connecting(since) => since.elapsed() < PATIENCE,
            AuthorityState::Up { scheduler, .. } => scheduler.is_none(),
            AuthorityState::Retrying(since) => since.elapsed() < RETRY_PATIENCE,
            AuthorityState::Unreachable => false,
        })
    }

    /// The one of these authorities that are up that suits the task best.
    fn best(&self, task: &TaskId, meeting: &Meeting, which: impl Fn(&Authority, bool) -> bool) -> Option<AuthorityId> {
        let up = self.all.iter().filter_map(|(id, authority)| match (&authority.state, authority.peer) {
            (AuthorityState::Up { scheduler: Some(scheduler), .. }, Some(peer))
                if authority.kind != Kind::Private
                    && !authority.is_mute()
                    && !meeting.avoids(*id)
                    && which(authority, *scheduler) =>
            {
                Some((rendezvous_score(task, peer.public_key()), *id))
            }
            _ => None,
        });
        up.max().map(|(_, id)| id)
    }

    fn next(&self, task: &TaskId, meeting: &Meeting) -> Next {
        if let Some(scheduler) = self.best(task, meeting, |_, scheduler| scheduler) {
            return Next::Join(scheduler);
        }
        let anchors = || self.all.iter().filter(|(_, authority)| authority.kind == Kind::Anchor);
        if self.links.settling() || anchors().any(|(id, _)| self.is_pending(*id)) || !self.is_up(LOCAL) {
            return Next::Wait;
        }
        match meeting.named {
            Some(named) if self.is_up(named) => {
                let asked = meeting.asked.is_some();
                return if meeting.hops == 0 {
                    Next::Join(named)
                } else if asked {
                    Next::Wait
                } else {
                    Next::Seek(named)
                };
            }
            Some(named) if self.is_pending(named) => return Next::Wait,
            _ => {}
        }
        if meeting.asked.is_some() {
            return Next::Wait;
        }
        let named = self.best(task, meeting, |authority, _| authority.kind == Kind::Anchor);
        let linked = || self.best(task, meeting, |authority, _| authority.kind == Kind::Link);
        Next::Seek(named.or_else(linked).unwrap_or(LOCAL))
    }

    /// How many sessions there are with members that coordinate something, and with those found on the links.
    pub(super) fn sessions(&self) -> (usize, usize) {
        let of = |kind| self.all.values().filter(|authority| authority.kind == kind).count();
        (of(Kind::Found), of(Kind::Link))
    }

    fn by_peer(&self, peer: PeerId) -> Option<AuthorityId> {
        self.all.iter().find(|(_, authority)| authority.peer == Some(peer)).map(|(id, _)| *id)
    }
}

impl Actor {
    pub(super) fn start_authorities(&mut self) {
        let stream = self.coordinator.local_session();
        let seed = self.node.acts_as_seed();
        let peer = Some(self.node.peer_id());
        self.authorities.all.insert(LOCAL, Authority::new(peer, Kind::Local, Arc::default(), None));
        self.node.spawn(authority::keep_local(self.node.clone(), LOCAL, stream, seed, self.events.clone()));
        self.authorities.all.insert(PRIVATE, Authority::new(peer, Kind::Private, Arc::default(), None));
        let stream = self.private.local_session();
        self.node.spawn(authority::keep_local(self.node.clone(), PRIVATE, stream, seed, self.events.clone()));
        for addresses in self.node.coordinators() {
            self.start_authority(addresses, Kind::Anchor);
        }
        self.reassess_after(PATIENCE);
    }

    pub(super) fn start_authority(&mut self, addresses: Vec<Address>, kind: Kind) -> AuthorityId {
        self.authorities.last += 1;
        let id = AuthorityId(self.authorities.last);
        let stop = CancellationToken::new();
        let peer = addresses.iter().find_map(Address::peer);
        let wake = Arc::<Notify>::default();
        let keep = authority::keep(
            self.node.clone(),
            (id, addresses),
            self.node.acts_as_seed(),
            self.events.clone(),
            (Arc::clone(&wake), stop.clone()),
        );
        self.node.spawn(keep);
        self.authorities.all.insert(id, Authority::new(peer, kind, wake, Some(stop.drop_guard())));
        id
    }

    pub(super) fn authority(&mut self, id: AuthorityId, event: AuthorityEvent) {
        let Some(authority) = self.authorities.all.get_mut(&id) else { return };
        match event {
            AuthorityEvent::Message(message) => self.message(id, *message),
            AuthorityEvent::Up { commands, over, peer } => {
                let state = AuthorityState::Up { commands, over, scheduler: None };
                (authority.peer, authority.state) = (Some(peer), state);
                self.node.directory(|directory, _| directory.reached(peer));
                self.authorities.links.reached(id);
            }
            AuthorityEvent::Down => {
                // Before any of its tasks comes here.
                self.coordinator.other_lost();
                let now = Instant::now();
                (authority.state, authority.lost, authority.tried) = (AuthorityState::Connecting(now), Some(now), now);
                self.lose(id);
                self.reassess_after(PATIENCE);
            }
            AuthorityEvent::Unreachable(error) => {
                (authority.state, authority.tried) = (AuthorityState::Unreachable, Instant::now());
                tracing::debug!(?id, %error, "coordinator unreachable");
                let found = authority.kind == Kind::Found;
                if let Some(peer) = authority.peer {
                    self.node.directory(|directory, now| directory.unreachable(now, peer));
                }
                self.lose(id);
                if found || self.authorities.links.is_hopeless(id) {
                    self.authorities.all.remove(&id);
                }
            }
        }
    }

    /// Ends all sessions; resolves once what was said last is on its way.
    pub(super) fn farewell(&mut self) -> impl Future<Output = ()> + use<> {
        let mut ending = Vec::new();
        for authority in std::mem::take(&mut self.authorities.all).into_values() {
            if let AuthorityState::Up { over, .. } = authority.state {
                // With its queue gone the session sends what is left and ends.
                ending.push((over, authority._stop));
            }
        }
        async move {
            for (over, _stop) in ending {
                over.cancelled().await;
            }
        }
    }

    /// The tasks of a coordinator that is gone look for another.
    pub(super) fn lose(&mut self, id: AuthorityId) {
        let peer = self.authorities.all.get(&id).and_then(|authority| authority.peer);
        let connecting = self.authorities.is_pending(id);
        let mut current = Vec::new();
        for task in self.tasks.values_mut() {
            if task.authority == Some(id) {
                task.authority = None;
                task.bodies.orphan(id);
                current.extend(task.current);
            }
            if task.meeting.asked.is_some_and(|(asked, _)| asked == id) {
                task.meeting.asked = None;
            }
            if task.meeting.named == Some(id) && !connecting {
                (task.meeting.named, task.meeting.lost) = (None, peer);
            }
        }
        for task in current {
            self.input(Input::AuthorityDown { task });
        }
        self.reassess();
    }

    /// Sends a message; a coordinator that lags behind loses its session and is taken up anew.
    pub(super) fn tell(&mut self, id: AuthorityId, message: ToCoordinator) {
        let Some(authority) = self.authorities.all.get_mut(&id) else { return };
        if let AuthorityState::Up { commands, .. } = &authority.state
            && let Err(error @ (NotTaken::Full | NotTaken::Unfit(_))) = commands.say(&message)
        {
            tracing::warn!(coordinator = ?authority.peer, %error, "a coordinator does not keep up: its session is closed");
            authority.state = AuthorityState::Connecting(Instant::now());
        }
    }

    /// Says no to what a coordinator asks for.
    pub(super) fn decline(&mut self, by: PeerId, task: TaskId) {
        if let Some(id) = self.authorities.by_peer(by) {
            self.tell(id, ToCoordinator::Leave(task));
        }
    }

    /// Sends a message to the coordinator of a task, if it has one.
    pub(super) fn tell_of(&mut self, task: TaskId, message: ToCoordinator) {
        if let Some(id) = self.tasks.get(&task).and_then(|task| task.authority) {
            self.tell(id, message);
        }
    }

    /// Whether a connected member's credential lets it be a scheduler: anybody can say that it is one.
    fn may_schedule(&self, peer: PeerId) -> bool {
        let proven = || self.node.admitted(peer).is_some_and(|(claims, _)| claims.roles.contains(Roles::SCHEDULER));
        peer == self.node.peer_id() || proven()
    }

    fn message(&mut self, id: AuthorityId, message: ToMember) {
        // Only the coordinator of a task has a say in it.
        let of_task = match &message {
            ToMember::Current(current) => Some(current.task),
            ToMember::Failed { task, .. }
            | ToMember::Neighbours { task, .. }
            | ToMember::NoLease { task, .. }
            | ToMember::Revoked { task, .. } => Some(*task),
            ToMember::Granted(granted) => Some(granted.task),
            ToMember::Members(_) | ToMember::Redirect { .. } | ToMember::Trigger(_) | ToMember::Welcome { .. } => None,
        };
        if let Some(task) = of_task {
            match self.tasks.get_mut(&task).filter(|task| task.authority == Some(id)) {
                Some(task) => task.asked.answered(),
                None => return,
            }
        }
        match message {
            ToMember::Welcome { scheduler: says, .. } => {
                let speaker = self.authorities.all.get(&id).and_then(|authority| authority.peer);
                let says = says && speaker.is_some_and(|speaker| self.may_schedule(speaker));
                if let Some(speaker) = speaker {
                    self.node.directory(|directory, _| directory.schedules(speaker, says));
                }
                let authority = self.authorities.all.get_mut(&id);
                if let Some(AuthorityState::Up { scheduler, .. }) = authority.map(|authority| &mut authority.state)
                    && scheduler.replace(says) != Some(says)
                {
                    self.reassess();
                }
            }
            ToMember::Current(current) => self.current(current),
            ToMember::Failed { task, failure } => self.task_failed(task, &failure),
            ToMember::Granted(granted) => self.granted(granted),
            ToMember::Members(mut members) => {
                let speaker = self.authorities.all.get(&id).and_then(|authority| authority.peer);
                let seen_ip = speaker.and_then(|speaker| self.node.host().remote_ip(speaker)).map(bytes_of_ip);
                for member in members.iter_mut().filter(|member| Some(member.peer) == speaker) {
                    member.seen_ip.clone_from(&seen_ip);
                }
                let sound: Vec<_> = members.into_iter().filter(|member| addresses_of(member).is_some()).collect();
                self.node.directory(|directory, _| sound.into_iter().for_each(|member| directory.named(member)));
            }
            ToMember::Neighbours { task, hosts } => self.neighbours(task, hosts),
            ToMember::NoLease { task, retry_ms } => {
                let retry = retry_ms.map(|ms| Duration::from_millis(ms.into()));
                if let Some(key) = self.tasks.get(&task).and_then(|task| task.current) {
                    self.input(Input::LeaseNone { task: key, retry });
                }
            }
            ToMember::Redirect { task, to } => self.named(id, task, &to),
            ToMember::Revoked { task, lease } => self.revoked(task, lease),
            ToMember::Trigger(info) => {
                if let Some(by) = self.authorities.all.get(&id).and_then(|authority| authority.peer) {
                    self.triggered(by, info);
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn who_was_lost_lately_is_tried_again_but_not_all_the_time() {
        let mut anchor = Authority::new(None, Kind::Anchor, Arc::default(), None);
        let ago = |time: Duration| Instant::now().checked_sub(time);
        let pause = ago(RETRY_PAUSE).unwrap();
        anchor.tried = pause;
        anchor.state = AuthorityState::Unreachable;
        assert!(!anchor.retry(), "it was never there");
        anchor.lost = Some(Instant::now());
        assert!(anchor.retry());
        assert!(matches!(anchor.state, AuthorityState::Retrying(_)) && anchor.is_unreachable());
        assert!(!anchor.retry(), "just now");
        anchor.tried = pause;
        assert!(anchor.retry(), "it is time again");
        // One that is being tried is waited for first.
        (anchor.tried, anchor.state) = (pause, AuthorityState::Connecting(Instant::now()));
        assert!(!anchor.retry());
        anchor.state = AuthorityState::Connecting(ago(PATIENCE).unwrap());
        assert!(anchor.retry());
        // A machine may be up for less than that.
        if let Some(lost) = ago(LOST_MAX) {
            (anchor.tried, anchor.lost) = (pause, Some(lost));
            assert!(!anchor.retry(), "it is gone for good");
        }
    }
}
