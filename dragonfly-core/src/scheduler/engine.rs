//! The Scheduler engine: sessions with members around the pure core.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::meeting::News;
use super::{Action, Config, Core, Input, Snapshot};
use crate::node::{ControlReader, Frames, Node, NotTaken, Outbox, now_unix, write_frame};
use crate::trust::statement::{open_seal, sign_grant};
use crate::trust::{Claims, Roles};
use crate::wire::PeerId;
use crate::wire::control::{Granted, ToCoordinator, ToMember, Work};
use crate::wire::statement::{Grant, GrantBundle};
use crate::{Error, ErrorKind, Result};

/// How many messages of all members may wait for the core.
const INBOX_MAX: usize = 4096;

/// How many queued messages are taken before the core's actions are carried out.
const BATCH_MAX: usize = 256;

/// How many of them are taken until what is due is done: messages without a pause do not keep deadlines from being met.
const MEETS_EVERY: usize = 8;

/// The buffer of a session within the process.
const LOCAL_BYTES: usize = 64 << 10;

/// The Scheduler engine of a node: it pairs the members that want a task and leases the origin to them.
///
/// A cheap handle; the engine stops when the last one is dropped. [`Scheduler::shutdown`] stops it at once. Its state is soft: members
/// announce it again to the next scheduler, or to this one when it comes back.
#[derive(Clone, Debug)]
pub struct Scheduler {
    coordinator: Arc<Coordinator>,
}

/// Starts a [`Scheduler`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct SchedulerBuilder {
    node: Node,
}

impl Scheduler {
    /// A scheduler on `node`.
    pub fn builder(node: &Node) -> SchedulerBuilder {
        SchedulerBuilder { node: node.clone() }
    }

    /// What it knows now. Cancel-safe.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let (reply, answer) = oneshot::channel();
        self.coordinator.send(Event::Snapshot(reply)).await?;
        answer.await.map_err(|_| stopped())
    }

    /// Puts a member in without a connection, for measurements; it says this, and is never taken for silent. Cancel-safe: it
    /// may have said a part.
    ///
    /// # Errors
    /// The engine has stopped.
    #[cfg(feature = "fuzzing")]
    #[doc(hidden)]
    pub async fn put_in(&self, peer: PeerId, ip: IpAddr, says: Vec<ToCoordinator>) -> Result<()> {
        self.coordinator.put_in(peer, ip, says).await
    }

    /// Ends its sessions and stops. Members go on with what they have and turn to the next scheduler. Idempotent.
    ///
    /// # Errors
    /// None so far.
    pub async fn shutdown(&self) -> Result<()> {
        self.coordinator.stop.cancel();
        self.coordinator.stopped.cancelled().await;
        Ok(())
    }
}

impl SchedulerBuilder {
    /// Starts it.
    ///
    /// # Errors
    /// The node's credential lacks the scheduler's role.
    pub async fn start(self) -> Result<Scheduler> {
        if !self.node.claims().roles.contains(Roles::SCHEDULER) {
            let context = "this node's token does not carry the scheduler's role: ask for one that does";
            return Err(Error::new(ErrorKind::Config, context));
        }
        self.node.set_schedules(true);
        Ok(Scheduler { coordinator: Coordinator::of(&self.node) })
    }
}

/// A node's coordinator: the engine behind [`Scheduler`], and what a peer that has no scheduler falls back on.
#[derive(Debug)]
pub(crate) struct Coordinator {
    inbox: mpsc::Sender<Event>,
    node: Node,
    stop: CancellationToken,
    stopped: CancellationToken,
    _stop: DropGuard,
}

#[allow(clippy::large_enum_variant, reason = "moved through one bounded queue; boxes would cost more")]
enum Event {
    Down { session: u64, peer: PeerId },
    OtherLost,
    Message { session: u64, peer: PeerId, message: ToCoordinator },
    Snapshot(oneshot::Sender<Snapshot>),
    Up { session: Session, peer: PeerId },
}

pub(super) struct Session {
    number: u64,
    pub(super) claims: Claims,
    credential: Vec<u8>,
    pub(super) ip: Option<IpAddr>,
    /// Of this process: it has nobody who would say that it lives.
    local: bool,
    outbox: Outbox,
}

impl Coordinator {
    /// The coordinator of `node`, started if it does not run.
    pub(crate) fn of(node: &Node) -> Arc<Self> {
        node.shared(|| {
            let coordinator = Self::start(node);
            let accepting = accept(node.clone(), coordinator.inbox.clone(), coordinator.stop.clone());
            let stop = coordinator.stop.clone();
            node.spawn(async move { stop.run_until_cancelled(accepting).await });
            Arc::new(coordinator)
        })
    }

    /// A coordinator that no other host ever speaks to, for what a host keeps to itself.
    pub(crate) fn private(node: &Node) -> Self {
        Self::start(node)
    }

    fn start(node: &Node) -> Self {
        let (inbox, queue) = mpsc::channel(INBOX_MAX);
        let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
        let (actor, running, ended) = (Actor::new(node.clone()), stop.clone(), stopped.clone());
        node.spawn(async move {
            actor.run(queue, running).await;
            ended.cancel();
        });
        Self { inbox, node: node.clone(), stop: stop.clone(), stopped, _stop: stop.drop_guard() }
    }

    /// A session for an engine of the same process.
    pub(crate) fn local_session(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(LOCAL_BYTES);
        let member = Member {
            peer: self.node.peer_id(),
            claims: self.node.claims().clone(),
            credential: self.node.membership().credential_bytes().to_vec(),
            ip: None,
            local: true,
        };
        self.node.spawn(serve(
            member,
            self.node.next_number(),
            ours,
            self.node.outbox(),
            self.inbox.clone(),
            self.stop.clone(),
        ));
        theirs
    }

    /// This host has lost another coordinator. Where too much waits already it is not told: that costs no more than a
    /// question to an origin.
    pub(crate) fn other_lost(&self) {
        let _ = self.inbox.try_send(Event::OtherLost);
    }

    /// Puts a member in that says this and is never heard of again, without a connection: what it is told is encoded, and
    /// nobody sends it.
    #[cfg(feature = "fuzzing")]
    async fn put_in(&self, peer: PeerId, ip: IpAddr, says: Vec<ToCoordinator>) -> Result<()> {
        let number = self.node.next_number();
        let (outbox, _) = self.node.outbox();
        let claims = self.node.claims().clone();
        let credential = self.node.membership().credential_bytes().to_vec();
        let session = Session { number, claims, credential, ip: Some(ip), local: true, outbox };
        self.send(Event::Up { session, peer }).await?;
        for message in says {
            self.send(Event::Message { session: number, peer, message }).await?;
        }
        Ok(())
    }

    async fn send(&self, event: Event) -> Result<()> {
        self.inbox.send(event).await.map_err(|_| stopped())
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Cancelled, "the scheduler has stopped")
}

struct Member {
    peer: PeerId,
    claims: Claims,
    credential: Vec<u8>,
    ip: Option<IpAddr>,
    local: bool,
}

/// Takes in the sessions that members open.
async fn accept(node: Node, inbox: mpsc::Sender<Event>, stop: CancellationToken) {
    while let Some(incoming) = node.next_control().await {
        let peer = incoming.peer;
        let Some((claims, credential)) = node.admitted(peer) else { continue };
        let member = Member { peer, claims, credential, ip: node.host().remote_ip(peer), local: false };
        node.spawn(serve(member, node.next_number(), incoming.stream, node.outbox(), inbox.clone(), stop.clone()));
    }
}

/// One session: what the member says goes to the core, what the core says goes to the member.
async fn serve(
    member: Member,
    number: u64,
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    (outbox, mut queue): (Outbox, Frames),
    inbox: mpsc::Sender<Event>,
    stop: CancellationToken,
) {
    let (input, mut output) = tokio::io::split(stream);
    let mut input = ControlReader::<_, ToCoordinator>::new(input);
    let peer = member.peer;
    let Member { claims, credential, ip, local, .. } = member;
    let session = Session { number, claims, credential, ip, local, outbox };
    if inbox.send(Event::Up { session, peer }).await.is_err() {
        return;
    }
    let read = async {
        loop {
            match input.next().await {
                Ok(Some(message)) => {
                    if inbox.send(Event::Message { session: number, peer, message }).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%peer, %error, "a member's session failed");
                    return;
                }
            }
        }
    };
    let write = async {
        while let Some(frame) = queue.next_together().await {
            if write_frame(&mut output, frame).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
        () = stop.cancelled() => {}
    }
    let _ = inbox.send(Event::Down { session: number, peer }).await;
}

/// The task that owns the core.
pub(super) struct Actor {
    pub(super) node: Node,
    pub(super) core: Core,
    pub(super) sessions: HashMap<PeerId, Session>,
    interval_ms: u32,
    started: Instant,
    pub(super) news: News,
}

impl Actor {
    fn new(node: Node) -> Self {
        let config = Config { network: node.network(), epoch_floor: epoch_floor(), ..Config::default() };
        let interval_ms = config.interval.as_millis() as u32;
        let core = Core::new(config, node.seed());
        Self { node, core, interval_ms, sessions: HashMap::new(), started: Instant::now(), news: News::default() }
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Event>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let deadline = [self.core.next_deadline(), self.news.due()].into_iter().flatten().min();
            let due = async {
                match deadline {
                    None => std::future::pending().await,
                    // A timer would take it for the next millisecond.
                    Some(deadline) if deadline <= self.started.elapsed() => {}
                    Some(deadline) => tokio::time::sleep_until(self.started + deadline).await,
                }
            };
            let was_due = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                count = queue.recv_many(&mut batch, BATCH_MAX) => {
                    if count == 0 {
                        return;
                    }
                    for (number, event) in (1..).zip(batch.drain(..)) {
                        self.handle(event);
                        if number % MEETS_EVERY == 0 {
                            self.meet_deadline();
                        }
                    }
                    self.meet_deadline();
                    false
                }
                () = due => {
                    self.meet_deadline();
                    true
                }
            };
            while let Some(action) = self.core.poll() {
                self.act(action);
            }
            if was_due {
                // More may be due already, and whoever reads from members is to run between.
                tokio::task::yield_now().await;
            }
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Does what is due by now.
    fn meet_deadline(&mut self) {
        let now = self.now();
        if self.core.next_deadline().is_some_and(|at| at <= now) {
            self.core.handle(now, Input::Deadline);
        }
        self.tell_news();
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::OtherLost => self.core.handle(now, Input::OtherLost),
            Event::Snapshot(reply) => {
                let _ = reply.send(self.core.snapshot());
            }
            Event::Up { session, peer } => {
                self.node.metrics().coordinator_sessions_opened.add(1);
                if self.sessions.contains_key(&peer) {
                    // A member that comes back before its old session was seen to end.
                    self.core.handle(now, Input::HostDown { peer });
                }
                let claims = &session.claims;
                self.core.handle(
                    now,
                    Input::HostUp {
                        peer,
                        seed_role: claims.roles.contains(Roles::SEED),
                        tenant: claims.tenant.clone(),
                        seen_ip: session.ip,
                        local: session.local,
                    },
                );
                self.sessions.insert(peer, session);
            }
            Event::Down { session, peer } => {
                if self.sessions.get(&peer).is_some_and(|known| known.number == session) {
                    self.sessions.remove(&peer);
                    self.node.directory(|directory, _| directory.left(peer));
                    self.core.handle(now, Input::HostDown { peer });
                }
            }
            Event::Message { session, peer, message } => {
                self.node.metrics().coordinator_messages.add(1);
                if self.sessions.get(&peer).is_some_and(|known| known.number == session) {
                    if matches!(message, ToCoordinator::KeepAlive) {
                        // Answered, so that the member can tell a dead coordinator from a quiet one.
                        self.send(peer, ToMember::Welcome { interval_ms: self.interval_ms, scheduler: false });
                        self.remind(peer);
                    }
                    match &message {
                        ToCoordinator::Announce(announce) => self.arrived(peer, announce),
                        ToCoordinator::Join(_) => self.node.metrics().coordinator_joins.add(1),
                        ToCoordinator::Seek { task, lost } => self.sought(peer, *task, *lost),
                        _ => {}
                    }
                    if self.is_sound(peer, &message) {
                        self.core.handle(now, Input::Message { from: peer, message });
                    } else {
                        tracing::warn!(%peer, "a member says what does not hold: ignored");
                    }
                }
            }
        }
    }

    /// Checks what the core takes on trust: that a task is what it is said to be, and who signed a seal.
    fn is_sound(&self, from: PeerId, message: &ToCoordinator) -> bool {
        match message {
            ToCoordinator::Join(join) => {
                let tenant = self.sessions.get(&from).map(|session| session.claims.tenant.as_str());
                let spec = join.info.spec.as_ref();
                spec.is_none_or(|spec| spec.id() == join.info.task && Some(spec.tenant.as_str()) == tenant)
            }
            ToCoordinator::Sealed { task, generation, seal } => {
                let Ok((sealed, signer)) = open_seal(&seal.seal) else { return false };
                let claims = self.node.membership().check(&seal.signer, signer, now_unix());
                let may = claims
                    .is_ok_and(|claims| claims.roles.contains(Roles::SEED) || claims.roles.contains(Roles::SCHEDULER));
                may && sealed.network == self.node.network() && (sealed.task, sealed.generation) == (*task, *generation)
            }
            _ => true,
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Close { peer, reason } => {
                tracing::info!(%peer, ?reason, "a member's session is closed");
                self.sessions.remove(&peer);
            }
            Action::Send { to, message } => self.send(to, message),
            Action::Grant { to, lease, timeout_ms, grant } => self.grant(to, lease, timeout_ms, grant),
        }
    }

    fn grant(&mut self, to: PeerId, lease: crate::wire::control::LeaseId, timeout_ms: u32, grant: Grant) {
        let Some(session) = self.sessions.get(&to) else { return };
        let bundle = GrantBundle {
            grant: sign_grant(self.node.identity(), &grant),
            grantor: self.node.membership().credential_bytes().to_vec(),
            holder: session.credential.clone(),
        };
        let work = Work::Pieces { bundle, grant: None };
        self.send(to, ToMember::Granted(Granted { task: grant.task, lease, timeout_ms, work }));
    }

    pub(super) fn send(&mut self, to: PeerId, mut message: ToMember) {
        let Some(session) = self.sessions.get(&to) else { return };
        if let ToMember::Welcome { scheduler, .. } = &mut message {
            *scheduler = self.node.schedules();
        }
        if let Err(error @ (NotTaken::Full | NotTaken::Unfit(_))) = session.outbox.say(&message) {
            tracing::warn!(peer = %to, %error, "a member cannot be told what it is to know: its session is closed");
            self.sessions.remove(&to);
            let now = self.now();
            self.core.handle(now, Input::HostDown { peer: to });
        }
    }
}

/// Above every epoch of an earlier life, whose grants ours outlive, and all but never that of a coordinator that starts
/// in the same second: the time since 1970 in units of 2^-20 s, more of which pass than grants are given.
fn epoch_floor() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs() << 20) | ((u64::from(since.subsec_nanos()) << 20) / 1_000_000_000)
}
