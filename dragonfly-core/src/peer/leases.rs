//! Leases on the origin, as their holder sees them.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::actor::Actor;
use super::authorities::PRIVATE;
use super::event::{AuthorityId, Event};
use super::origin::{self, Body, Description, Fetch, OriginBody};
use super::spool::Spooled;
use crate::source::SourceError;
use crate::swarm::{Input, LeaseKey, TaskKey};
use crate::task::{Class, PieceIndex, TaskId, Validator};
use crate::trust::statement::open_grant;
use crate::wire::control::{
    Answer, Described, FETCHING_MAX, Failure, FailureKind, Granted, LeaseId, ToCoordinator, Work,
};
use crate::wire::lane::Run;
use crate::wire::statement::{Grant, GrantBundle};

/// For so long an answer of the origin's may be passed on to another coordinator than the one that had it asked: no longer
/// than any answer is believed where nobody says otherwise (`scheduler::Config::window`).
const SPARE_MAX: Duration = Duration::from_secs(10);

/// For so long the rest of an answer waits for the lease on it: it is a request that is out at an origin.
const UNCLAIMED_MAX: Duration = Duration::from_secs(30);

/// How many grants may wait for their content to be opened.
const WAITING_GRANTS_MAX: usize = 8;

pub(super) struct Lease {
    pub(super) cancel: CancellationToken,
    pieces: Range<PieceIndex>,
    bundle: GrantBundle,
}

/// What describing requests brought, until the lease on it is granted. Under its lease it is of use to the coordinator that
/// had asked for it alone: another one numbers its leases anew, and may lease other pieces under the same number. Without a
/// lease it is *spare*: should the next coordinator want to know what the content is, the origin was asked already.
#[derive(Default)]
pub(super) struct Bodies {
    said: Option<Said>,
    /// And since when it waits.
    stream: Option<(LeaseId, OriginBody, Instant)>,
    spooled: Option<(LeaseId, Spooled)>,
    spare: Option<(Said, Body)>,
    asking: Option<Asking>,
}

/// A describing request that is under way.
struct Asking {
    /// Whose lease it was made under.
    lease: LeaseId,
    prior: Option<Validator>,
    /// Who is to have the answer now, and under which lease.
    answer_to: (Option<AuthorityId>, LeaseId),
    /// Ends it where nobody wants its answer any more.
    _stop: DropGuard,
}

/// What a description said.
#[derive(Clone)]
struct Said {
    answer: Answer,
    fresh_ms: Option<u64>,
    at: Instant,
}

impl Said {
    fn of(description: &Description) -> Self {
        Self { answer: description.answer.clone(), fresh_ms: description.fresh_ms, at: Instant::now() }
    }
}

impl Bodies {
    fn keep(&mut self, lease: LeaseId, said: Said, body: Body) {
        let said_at = said.at;
        self.said = Some(said);
        match body {
            // The lease on an earlier one may be on its way: that nothing has changed since takes nothing from it.
            Body::None => {}
            Body::Stream(stream) => {
                // One description is out at a time: an older body is of no use any more.
                self.stream = Some((lease, stream, said_at));
            }
            Body::Spooled(spooled) => self.spooled = Some((lease, spooled)),
        }
    }

    /// Another coordinator has the task from now on.
    pub(super) fn release(&mut self) {
        let body = match (self.spooled.take(), self.stream.take()) {
            (Some((_, spooled)), _) => Body::Spooled(spooled),
            (None, Some((_, stream, _))) => Body::Stream(stream),
            (None, None) => return,
        };
        self.spare = self.said.take().map(|said| (said, body));
    }

    /// This coordinator is lost: what was asked for it is asked for the next, also if that is the same one again.
    pub(super) fn orphan(&mut self, by: AuthorityId) {
        if let Some(asking) = self.asking.as_mut().filter(|asking| asking.answer_to.0 == Some(by)) {
            asking.answer_to.0 = None;
        }
    }

    /// The coordinator does without what it asked for under this lease. What was taken in under it is the caller's to let go of.
    fn revoke(&mut self, lease: LeaseId) -> Option<Spooled> {
        self.asking.take_if(|asking| asking.answer_to.1 == lease);
        self.stream.take_if(|(id, ..)| *id == lease);
        // Nor does it become what another host's answer is said to be; and it has a place among those of unknown length.
        self.spooled.take_if(|(id, _)| *id == lease).map(|(_, spooled)| spooled)
    }

    /// Lets go of what is too old to be passed on, and of an answer for which no lease came.
    pub(super) fn expire(&mut self) {
        self.spare.take_if(|(said, _)| said.at.elapsed() >= SPARE_MAX);
        self.stream.take_if(|(_, _, since)| since.elapsed() >= UNCLAIMED_MAX);
    }

    /// Whether the origin was asked, for a coordinator that is lost, and what it said or will say is of use to the next.
    pub(super) fn asked(&self) -> bool {
        self.asking.is_some() || self.spare.as_ref().is_some_and(|(said, _)| said.at.elapsed() <= SPARE_MAX)
    }

    /// Whether a request is under way that asks the same for another coordinator: then its answer is for this lease.
    fn waits_for(&mut self, by: Option<AuthorityId>, lease: LeaseId, prior: Option<&Validator>) -> bool {
        let fits = |asking: &&mut Asking| asking.prior.as_ref() == prior && asking.answer_to.0 != by;
        let same = self.asking.as_mut().filter(fits);
        same.map(|asking| asking.answer_to = (by, lease)).is_some()
    }

    /// The lease for which the request that was made under this one is under way now.
    fn lease_now(&self, lease: LeaseId) -> LeaseId {
        self.asking.as_ref().filter(|asking| asking.lease == lease).map_or(lease, |asking| asking.answer_to.1)
    }

    /// A description that nobody has a use for now.
    fn spare(&mut self, description: Description) {
        if !matches!(description.body, Body::None) {
            self.spare = Some((Said::of(&description), description.body));
        }
    }

    /// What is spare and no older than this, in milliseconds.
    fn take_spare(&mut self, age_max_ms: Option<u64>) -> Option<(Said, Body)> {
        let most = age_max_ms.map_or(SPARE_MAX, Duration::from_millis).min(SPARE_MAX);
        self.spare.take().filter(|(said, _)| said.at.elapsed() <= most)
    }

    /// The response to the describing request of this lease, which starts at the first byte.
    fn take_stream(&mut self, lease: LeaseKey) -> Option<OriginBody> {
        self.stream.take_if(|(id, ..)| *id == lease_id(lease)).map(|(_, body, _)| body)
    }

    pub(super) fn take_spooled(&mut self) -> Option<Spooled> {
        self.spooled.take().map(|(_, spooled)| spooled)
    }
}

const fn lease_id(lease: LeaseKey) -> LeaseId {
    LeaseId { number: lease.lease, epoch: lease.epoch }
}

impl Actor {
    /// Sees to it that an answer that nobody comes to ask for does not keep its connection.
    pub(super) fn expire_spare(&self, id: TaskId) {
        self.expire_after(id, SPARE_MAX);
    }

    fn expire_after(&self, id: TaskId, time: Duration) {
        self.spawn_event(async move {
            tokio::time::sleep(time).await;
            Event::SpareOver { task: id }
        });
    }

    pub(super) fn spare_over(&mut self, id: TaskId) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.bodies.expire();
        }
    }

    pub(super) fn granted(&mut self, granted: Granted) {
        let Granted { task: id, lease, .. } = granted;
        let access = self.tasks.get(&id).is_some_and(|task| task.access.is_some());
        match &granted.work {
            Work::Describe { prior } => {
                let prior = prior.clone();
                self.describe(id, lease, prior);
            }
            Work::Pieces { bundle, .. } => {
                let grant = match open_grant(&bundle.grant) {
                    Ok((grant, _)) if grant.holder == self.node.peer_id() && grant.task == id => grant,
                    _ => {
                        tracing::warn!(task = ?id, "a grant that is not ours, or does not hold");
                        return;
                    }
                };
                if self.draining && !access {
                    // It was on its way when this host gave its leases back.
                    return self.tell_of(id, ToCoordinator::Release { task: id, lease, end: grant.first });
                }
                let bundle = bundle.clone();
                self.granted_pieces(granted, grant, bundle);
            }
        }
    }

    fn granted_pieces(&mut self, granted: Granted, grant: Grant, bundle: GrantBundle) {
        let id = granted.task;
        let lease = granted.lease;
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let content = task.current.and_then(|key| self.contents.get(&key));
        let Some(content) = content.filter(|content| content.generation == grant.generation) else {
            let coming = task.activating.is_some_and(|(coming, _)| coming == grant.generation);
            if coming && task.grants.len() < WAITING_GRANTS_MAX {
                task.grants.push(granted);
            } else {
                self.tell_of(id, ToCoordinator::Release { task: id, lease, end: grant.first });
            }
            return;
        };
        if grant.first >= grant.end || grant.end > content.layout.pieces() {
            return;
        }
        let (key, pieces) = (content.key, grant.first..grant.end);
        let lease = LeaseKey { lease: lease.number, epoch: lease.epoch };
        let held = Lease { cancel: CancellationToken::new(), pieces: pieces.clone(), bundle };
        self.leases.insert((key, lease), held);
        self.input(Input::LeaseGranted { task: key, lease, pieces });
    }

    fn describe(&mut self, id: TaskId, lease: LeaseId, prior: Option<Validator>) {
        if let Some(task) = self.tasks.get_mut(&id)
            && let Some((said, body)) = task.bodies.take_spare(task.age_max_ms())
        {
            return self.tell_described(id, lease, said, body);
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.bodies.waits_for(task.authority, lease, prior.as_ref()) {
            return;
        }
        let shared = !task.scope.is_local();
        let Some(access) = task.access.clone() else {
            self.fail_lease(id, lease, 0, local("this host may not go to the origin of this task"));
            return;
        };
        let stop = CancellationToken::new();
        let asking = Asking {
            lease,
            prior: prior.clone(),
            answer_to: (task.authority, lease),
            _stop: stop.clone().drop_guard(),
        };
        task.bodies.asking = Some(asking);
        let (node, events) = (self.node.clone(), self.events.clone());
        self.node.spawn(async move {
            let sources = Arc::clone(node.sources());
            let describing = origin::describe(&node, &sources, &access, (prior, shared), (id, lease), &events);
            if let Some(outcome) = stop.run_until_cancelled(describing).await {
                let _ = events.send(Event::Described { task: id, lease, outcome }).await;
            }
        });
    }

    pub(super) fn spooling(&mut self, task: TaskId, lease: LeaseId) {
        let lease = self.tasks.get(&task).map_or(lease, |task| task.bodies.lease_now(lease));
        self.tell_of(
            task,
            ToCoordinator::Described(Described { task, lease, fresh_ms: None, answer: Answer::Spooling }),
        );
    }

    pub(super) fn described(&mut self, id: TaskId, lease: LeaseId, outcome: Result<Description, SourceError>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        // Another request was made meanwhile, because this one asks something else: its answer is the one that counts.
        let Some(asking) = task.bodies.asking.take_if(|asking| asking.lease == lease) else { return };
        let (by, lease) = asking.answer_to;
        if by.is_none() || task.authority != by {
            // Who is asked now had nothing to do with it, and may come to ask the same.
            if let Some(description) = outcome.ok().filter(|description| !description.private) {
                task.bodies.spare(description);
                self.expire_spare(id);
            }
            return;
        }
        let description = match outcome {
            Ok(description) => description,
            Err(error) => {
                let failure = Failure::from(&error);
                self.fail_lease(id, lease, 0, failure);
                return;
            }
        };
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if description.private && task.scope.class == Class::Public {
            // The origin says that the answer is for this asker alone: it stays on this host.
            self.fail_lease(id, lease, 0, local("the origin marks its answer as private"));
            self.withdraw(id);
            return;
        }
        let said = Said::of(&description);
        self.tell_described(id, lease, said, description.body);
    }

    fn tell_described(&mut self, id: TaskId, lease: LeaseId, said: Said, body: Body) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let is_under_way = matches!(body, Body::Stream(_));
        task.bodies.keep(lease, said.clone(), body);
        if is_under_way {
            self.expire_after(id, UNCLAIMED_MAX);
        }
        let Said { answer, fresh_ms, .. } = said;
        self.tell_of(id, ToCoordinator::Described(Described { task: id, lease, fresh_ms, answer }));
    }

    /// Keeps a task to this host from now on.
    pub(super) fn withdraw(&mut self, id: TaskId) {
        self.leave(id);
        self.deactivate(id);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.scope.class = Class::HostLocal;
            // What is being opened is not of this scope, nor what was said of it.
            (task.described, task.activating) = (None, None);
            task.grants.clear();
            task.named.clear();
            self.join(id, PRIVATE);
        }
    }

    fn fail_lease(&mut self, task: TaskId, lease: LeaseId, end: PieceIndex, failure: Failure) {
        self.tell_of(task, ToCoordinator::LeaseFailed { task, lease, end, failure });
    }

    /// The core wants `needed` of a lease's range fetched.
    pub(super) fn fetch(&mut self, key: TaskKey, lease: LeaseKey, needed: Range<PieceIndex>) {
        let Some(content) = self.contents.get(&key).cloned() else { return };
        let Some(held) = self.leases.get(&(key, lease)) else { return };
        let Some(task) = self.tasks.get_mut(&content.task) else { return };
        let body = task.bodies.take_stream(lease).filter(|_| held.pieces.start == 0);
        let described = task.described.as_ref();
        let splittable = described.is_some_and(|current| current.splittable);
        // A response that is there already, and one that cannot be had in parts, start where the lease does.
        let pieces = if body.is_none() && splittable { needed } else { held.pieces.clone() };
        let fetch = Fetch {
            node: self.node.clone(),
            sources: Arc::clone(self.node.sources()),
            access: task.access.clone(),
            validator: described.and_then(|current| current.validator.clone()),
            splittable,
            lease,
            pieces,
            bundle: held.bundle.clone(),
            events: self.events.clone(),
            cancel: held.cancel.clone(),
            content,
        };
        self.fetches.spawn_on(fetch.run(body), self.node.runtime());
    }

    /// The core gives a lease up: its range is not wanted, or held already.
    pub(super) fn give_up(&mut self, key: TaskKey, lease: LeaseKey) {
        let Some(held) = self.leases.remove(&(key, lease)) else { return };
        held.cancel.cancel();
        let Some(content) = self.contents.get(&key) else { return };
        let task = content.task;
        let have = content.attested_have();
        if let Some(task) = self.tasks.get_mut(&task) {
            task.bodies.take_stream(lease);
        }
        // Pieces that are held count as fetched: nobody needs to fetch them again.
        let end = have.next(held.pieces.start, false).unwrap_or(held.pieces.end).min(held.pieces.end);
        let lease = lease_id(lease);
        let message = if end == held.pieces.end {
            ToCoordinator::Done { task, lease }
        } else {
            ToCoordinator::Release { task, lease, end }
        };
        self.tell_of(task, message);
    }

    /// What of a generation is being fetched from the origin, for a coordinator that knows nothing of it.
    pub(super) fn fetching(&self, key: TaskKey) -> Vec<Run> {
        let leases = self.leases.iter().filter(|((task, _), _)| *task == key).map(|(_, lease)| &lease.pieces);
        let runs = leases.map(|pieces| Run { first: pieces.start, count: pieces.end - pieces.start });
        runs.take(FETCHING_MAX).collect()
    }

    pub(super) fn abort_leases(&mut self, key: TaskKey) {
        let leases: Vec<LeaseKey> =
            self.leases.keys().filter(|(task, _)| *task == key).map(|(_, lease)| *lease).collect();
        for lease in leases {
            self.give_up(key, lease);
        }
    }

    /// Gives leases back that are of use still, but not to be worked off by this host.
    pub(super) fn revoke_own(&mut self, key: TaskKey) {
        let leases = self.leases.keys().filter(|(task, _)| *task == key).map(|(_, lease)| *lease);
        for lease in leases.collect::<Vec<_>>() {
            self.give_up(key, lease);
            self.input(Input::LeaseRevoked { task: key, lease });
        }
    }

    pub(super) fn lease_progress(&mut self, task: TaskId, lease: LeaseId, end: PieceIndex) {
        let mut of_now = lease;
        if let Some(task) = self.tasks.get_mut(&task) {
            task.asked.at_work();
            of_now = task.bodies.lease_now(lease);
        }
        self.tell_of(task, ToCoordinator::Progress { task, lease: of_now, end });
    }

    pub(super) fn lease_ended(&mut self, key: TaskKey, lease: LeaseKey, end: PieceIndex, outcome: Result<(), Failure>) {
        if self.leases.remove(&(key, lease)).is_none() {
            // It was given up, and the coordinator told so, before it ended.
            return;
        }
        let Some(content) = self.contents.get(&key).cloned() else { return };
        let task = content.task;
        if outcome.is_err() {
            content.count_retry();
        }
        match outcome {
            Ok(()) => {
                self.tell_of(task, ToCoordinator::Done { task, lease: lease_id(lease) });
                self.input(Input::OriginDone { task: key, lease });
            }
            Err(failure) => {
                tracing::info!(?task, error = %failure.text, "a fetch from the origin failed");
                content.set_trouble(&failure.text);
                self.fail_lease(task, lease_id(lease), end, failure);
                self.input(Input::OriginFailed { task: key, lease });
            }
        }
    }

    /// Its end removes a file, which is for a thread that may wait for the disk.
    pub(super) fn let_go(&self, spooled: Option<Spooled>) {
        let Some(spooled) = spooled else { return };
        let node = self.node.clone();
        self.node.spawn(async move { node.io().run_however_long(move || drop(spooled)).await });
    }

    pub(super) fn revoked(&mut self, task: TaskId, lease: LeaseId) {
        if let Some(task) = self.tasks.get_mut(&task) {
            let spooled = task.bodies.revoke(lease);
            self.let_go(spooled);
        }
        let lease = LeaseKey { lease: lease.number, epoch: lease.epoch };
        let Some(key) = self.tasks.get(&task).and_then(|task| task.current) else { return };
        if let Some(held) = self.leases.remove(&(key, lease)) {
            held.cancel.cancel();
            self.input(Input::LeaseRevoked { task: key, lease });
        }
    }
}

fn local(text: &str) -> Failure {
    Failure { kind: FailureKind::Local, temporary: false, status: None, retry_ms: None, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::StreamExt as _;

    use super::*;

    fn said() -> Said {
        Said { answer: Answer::Spooling, fresh_ms: None, at: Instant::now() }
    }

    fn body() -> Body {
        Body::Stream(futures::stream::empty().boxed())
    }

    #[test]
    fn a_response_is_for_the_lease_that_was_described_alone() {
        let mut bodies = Bodies::default();
        let key = |lease, epoch| LeaseKey { lease, epoch };
        bodies.keep(LeaseId { number: 4, epoch: 7 }, said(), body());
        assert!(bodies.take_stream(key(4, 8)).is_none(), "another coordinator's number");
        assert!(bodies.take_stream(key(5, 7)).is_none());
        assert!(bodies.take_stream(key(4, 7)).is_some());
        assert!(bodies.take_stream(key(4, 7)).is_none(), "it is used once");
        bodies.keep(LeaseId { number: 4, epoch: 7 }, said(), body());
        bodies.keep(LeaseId { number: 5, epoch: 8 }, said(), body());
        assert!(bodies.take_stream(key(4, 7)).is_none(), "one description is out at a time");
        assert!(bodies.take_stream(key(5, 8)).is_some());
    }

    /// The next coordinator is told what the origin said, under its own lease, unless that is too long ago.
    #[test]
    fn what_a_lost_coordinator_had_asked_is_spare() {
        let mut bodies = Bodies::default();
        bodies.release();
        assert!(bodies.take_spare(None).is_none(), "nothing was asked");
        let lease = LeaseId { number: 4, epoch: 7 };
        bodies.keep(lease, said(), body());
        bodies.release();
        assert!(bodies.take_stream(LeaseKey { lease: 4, epoch: 7 }).is_none(), "it is of no lease any more");
        assert!(bodies.take_spare(None).is_some());
        assert!(bodies.take_spare(None).is_none(), "it is used once");
        bodies.keep(lease, said(), Body::None);
        bodies.release();
        assert!(bodies.take_spare(None).is_none(), "to ask again costs as little");
        for (age_max_ms, long_ago) in
            [(Some(0), Duration::from_millis(1)), (None, SPARE_MAX + Duration::from_millis(1))]
        {
            let at = Instant::now().checked_sub(long_ago).unwrap();
            bodies.keep(lease, Said { at, ..said() }, body());
            bodies.release();
            assert!(bodies.take_spare(age_max_ms).is_none(), "{age_max_ms:?}");
        }
    }

    /// A second question may have its answer before the lease on the first one is worked off.
    #[test]
    fn that_nothing_has_changed_takes_nothing_from_what_is_under_way() {
        let (mut bodies, first) = (Bodies::default(), LeaseKey { lease: 4, epoch: 7 });
        bodies.keep(lease_id(first), said(), body());
        bodies.keep(LeaseId { number: 5, epoch: 8 }, said(), Body::None);
        assert!(bodies.take_stream(first).is_some());
    }

    /// Else what another host described would be opened with it, and it would keep its place for as long as its task is here.
    #[test]
    fn what_was_taken_in_goes_with_its_lease() {
        use crate::store::{MemoryOptions, MemoryStore, Store as _};
        let store = MemoryStore::new(MemoryOptions::default()).unwrap();
        let places = Arc::new(tokio::sync::Semaphore::new(1));
        let (first, next) = (LeaseId { number: 4, epoch: 7 }, LeaseId { number: 5, epoch: 8 });
        for (revoked, stays) in [(first, false), (next, true)] {
            let mut bodies = Bodies::default();
            let place = Arc::clone(&places).try_acquire_owned().ok();
            let spooled = Spooled { spool: store.spool().unwrap(), values: vec![], place };
            bodies.keep(first, said(), Body::Spooled(spooled));
            drop(bodies.revoke(revoked));
            assert_eq!((places.available_permits() == 0, bodies.take_spooled().is_some()), (stays, stays));
        }
    }

    /// It is a request that is out at an origin.
    #[test]
    fn an_answer_for_which_no_lease_comes_is_let_go() {
        let mut bodies = Bodies::default();
        let lease = LeaseKey { lease: 4, epoch: 7 };
        for (long_ago, stays) in [(UNCLAIMED_MAX - Duration::from_secs(5), true), (UNCLAIMED_MAX, false)] {
            let at = Instant::now().checked_sub(long_ago).unwrap();
            bodies.keep(lease_id(lease), Said { at, ..said() }, body());
            bodies.expire();
            assert_eq!(bodies.take_stream(lease).is_some(), stays, "{long_ago:?}");
        }
    }
}
