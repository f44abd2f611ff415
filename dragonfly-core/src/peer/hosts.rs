//! Neighbour hosts and the lanes to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::actor::Actor;
use super::content::Content;
use super::event::{Event, LaneEvent};
use super::lane::{self, COMMANDS_MAX, LaneCommand, LaneNumber};
use crate::net::{Carrier, Incoming, Stream};
use crate::node::{LANE_PROTOCOL, addresses_of};
use crate::swarm::{HostKey, Input, TaskKey};
use crate::task::{Generation, TaskId};
use crate::wire::control::Neighbour;
use crate::wire::lane::RejectReason;
use crate::wire::{Address, PeerId};
use crate::{Error, ErrorKind, Result};

/// Hosts that are remembered, with addresses and blame: some megabytes. Beyond it those met longest ago go.
pub(crate) const HOSTS_MAX: usize = 16_384;

/// A neighbour that was to blame is left alone for this long, doubled each time.
pub(super) const SHUNNED_MIN: Duration = Duration::from_secs(60);

/// A lane address that does not answer is not tried for this long, doubled each time: a stream does meanwhile.
pub(super) const UNREACHABLE_MIN: Duration = Duration::from_secs(60);

/// How often either doubles at most: 16 minutes.
const STRIKES_MAX: u32 = 4;

/// Lane addresses of one host that are remembered not to answer. Beyond that all of them are tried again.
const BARRED_MAX: usize = 16;

/// The hosts that this one has met, by number.
#[derive(Default)]
pub(super) struct Hosts {
    by_peer: HashMap<PeerId, HostKey>,
    table: Vec<Host>,
    lanes: u64,
    met: u64,
}

struct Host {
    peer: PeerId,
    addresses: Vec<Address>,
    /// The hash of what its addresses were read from, which is said again with each task: a signature that holds is checked once.
    named: Option<[u8; 32]>,
    lane: Option<OpenLane>,
    /// Its lane address did not answer: until when it is left alone, and how often that was so.
    unreachable: Option<(Instant, u32)>,
    /// The lane addresses that did not answer, since one did.
    barred: BTreeSet<SocketAddr>,
    /// It is neither dialled nor let in until then.
    shunned: Option<Instant>,
    /// How often it was to blame.
    strikes: u32,
    /// When it was met last, as a count.
    met: u64,
    checks: Arc<lane::Checks>,
}

struct OpenLane {
    number: LaneNumber,
    /// Whether this host opened it.
    ours: bool,
    carrier: Carrier,
    commands: mpsc::Sender<LaneCommand>,
    requests: lane::Requests,
    /// Ends it at once when it is replaced.
    stop: CancellationToken,
    tasks: BTreeMap<TaskKey, Sides>,
}

/// Which sides have opened a task on a lane.
#[derive(Clone, Copy, Default)]
struct Sides {
    ours: bool,
    /// Whether they want pieces, once they have opened it.
    theirs: Option<bool>,
}

impl Host {
    fn new(peer: PeerId, met: u64) -> Self {
        let (addresses, checks) = (Vec::new(), Arc::new(lane::Checks::new()));
        let (named, lane, unreachable, barred, shunned) = (None, None, None, BTreeSet::new(), None);
        Self { peer, addresses, named, lane, unreachable, barred, shunned, strikes: 0, met, checks }
    }

    /// A lane to it was opened by this host. On a stream, although it has an address for lanes: there was no answer.
    fn reached(&mut self, carrier: Carrier) {
        let tried = self.unreachable.is_none_or(|(until, _)| until <= Instant::now());
        match carrier {
            Carrier::Lane | Carrier::Plain => {
                self.unreachable = None;
                self.barred.clear();
            }
            Carrier::Muxed if tried && self.addresses.iter().any(|address| address.lane().is_some()) => {
                let failures = self.unreachable.map_or(0, |(_, failures)| failures + 1);
                self.unreachable =
                    Some((Instant::now() + UNREACHABLE_MIN * (1 << failures.min(STRIKES_MAX)), failures));
                if self.barred.len() >= BARRED_MAX {
                    self.barred.clear();
                }
                self.barred.extend(self.addresses.iter().filter_map(Address::lane));
            }
            Carrier::Muxed => {}
        }
    }

    /// It says where it is. That another address for lanes did not answer says nothing of a new one. Several may say it, and
    /// each something else.
    fn moved(&mut self, addresses: Vec<Address>) {
        if addresses.iter().filter_map(Address::lane).any(|lane| !self.barred.contains(&lane)) {
            self.unreachable = None;
        }
        self.addresses = addresses;
    }

    /// It is to be left alone from `now` on: for how long.
    fn shun(&mut self, now: Instant) -> Duration {
        let shunned = SHUNNED_MIN * (1 << self.strikes.min(STRIKES_MAX));
        self.strikes += 1;
        self.shunned = Some(now + shunned);
        shunned
    }

    /// Whether it is to be left alone for now.
    fn is_shunned(&self) -> bool {
        self.shunned.is_some_and(|until| until > Instant::now())
    }
}

/// A host as listings see it.
pub(super) struct Met<'a> {
    pub(super) key: HostKey,
    pub(super) peer: PeerId,
    pub(super) addresses: &'a [Address],
    pub(super) carrier: Option<Carrier>,
    pub(super) tasks: usize,
}

impl Hosts {
    fn key(&mut self, peer: PeerId) -> HostKey {
        self.met += 1;
        let met = self.met;
        if let Some(key) = self.by_peer.get(&peer) {
            if let Some(host) = self.table.get_mut(key.0 as usize) {
                host.met = met;
            }
            return *key;
        }
        let host = Host::new(peer, met);
        let key = match self.free() {
            Some(key) => {
                self.by_peer.remove(&self.table[key].peer);
                self.table[key] = host;
                key
            }
            None => {
                self.table.push(host);
                self.table.len() - 1
            }
        };
        let key = HostKey(key as u32);
        self.by_peer.insert(peer, key);
        key
    }

    /// A place in a full table: of the host without a lane that was met longest ago, and of one that is shunned only where all
    /// are. What is still said of the one that had it is said of nobody then.
    fn free(&self) -> Option<usize> {
        if self.table.len() < HOSTS_MAX {
            return None;
        }
        let idle = self.table.iter().enumerate().filter(|(_, host)| host.lane.is_none());
        idle.min_by_key(|(_, host)| (host.is_shunned(), host.met)).map(|(key, _)| key)
    }

    /// Whether a host's addresses are what was read from this already.
    fn is_named(&self, peer: PeerId, named: [u8; 32]) -> bool {
        let host = self.by_peer.get(&peer).and_then(|key| self.table.get(key.0 as usize));
        host.is_some_and(|host| host.named == Some(named))
    }

    fn get(&mut self, host: HostKey) -> Option<&mut Host> {
        self.table.get_mut(host.0 as usize)
    }

    pub(super) fn peer(&self, host: HostKey) -> Option<PeerId> {
        self.table.get(host.0 as usize).map(|host| host.peer)
    }

    fn lane(&mut self, host: HostKey) -> Option<&mut OpenLane> {
        self.get(host)?.lane.as_mut()
    }

    /// How many are remembered.
    pub(super) fn known(&self) -> usize {
        self.table.len()
    }

    /// Everyone met, in the order in which they were.
    pub(super) fn met(&self) -> impl Iterator<Item = Met<'_>> {
        self.table.iter().enumerate().map(|(index, host)| Met {
            key: HostKey(index as u32),
            peer: host.peer,
            addresses: &host.addresses,
            carrier: host.lane.as_ref().map(|lane| lane.carrier),
            tasks: host.lane.as_ref().map_or(0, |lane| lane.tasks.len()),
        })
    }

    pub(super) fn lanes_up(&self) -> usize {
        self.table.iter().filter(|host| host.lane.is_some()).count()
    }

    /// Commands that wait for the lane for which most do.
    pub(super) fn commands_waiting(&self) -> usize {
        let lanes = self.table.iter().filter_map(|host| host.lane.as_ref());
        lanes.map(|lane| COMMANDS_MAX - lane.commands.capacity()).max().unwrap_or(0)
    }

    pub(super) fn lanes_on(&self, carrier: Carrier) -> usize {
        self.table.iter().filter_map(|host| host.lane.as_ref()).filter(|lane| lane.carrier == carrier).count()
    }
}

impl Actor {
    /// Takes note of a neighbour; `None` if it is this very host or its record does not hold.
    pub(super) fn intern(&mut self, neighbour: Neighbour) -> Option<HostKey> {
        if neighbour.peer == self.node.peer_id() {
            return None;
        }
        let named = said_of(&neighbour);
        if self.hosts.is_named(neighbour.peer, named) {
            return Some(self.hosts.key(neighbour.peer));
        }
        let addresses = addresses_of(&neighbour)?;
        let host = self.hosts.key(neighbour.peer);
        if let Some(entry) = self.hosts.get(host) {
            entry.moved(addresses);
            entry.named = Some(named);
        }
        Some(host)
    }

    pub(super) fn dial(&mut self, key: HostKey) {
        let Some(host) = self.hosts.get(key) else { return };
        if host.lane.is_some() {
            self.input(Input::LaneUp { host: key });
            return;
        }
        if host.is_shunned() {
            self.input(Input::LaneDown { host: key });
            return;
        }
        let (peer, mut addresses, node) = (host.peer, host.addresses.clone(), self.node.clone());
        if host.unreachable.is_some_and(|(until, _)| until > Instant::now()) {
            addresses.retain(|address| address.lane().is_none());
        }
        self.spawn_event(async move {
            let outcome = open(&node, peer, addresses).await;
            Event::Dialled { host: key, peer, outcome }
        });
    }

    pub(super) fn dialled(&mut self, host: HostKey, peer: PeerId, outcome: Result<Stream>) {
        if self.hosts.peer(host) != Some(peer) {
            // Somebody else has its place by now, and must not be taken for it. What was to be dialled has its answer all the same.
            if self.hosts.lane(host).is_none() {
                self.input(Input::LaneDown { host });
            }
            return;
        }
        match outcome {
            Ok(stream) => {
                if let Some(host) = self.hosts.get(host) {
                    host.reached(stream.carrier());
                }
                self.start_lane(host, stream, true);
            }
            Err(error) => {
                tracing::debug!(?host, %error, "cannot open a lane");
                if self.hosts.lane(host).is_none() {
                    self.input(Input::LaneDown { host });
                }
            }
        }
    }

    pub(super) fn incoming_lane(&mut self, incoming: Incoming) {
        let key = self.hosts.key(incoming.peer);
        if self.hosts.get(key).is_some_and(|host| host.is_shunned()) {
            tracing::debug!(peer = %incoming.peer, "a lane of a peer that is shunned was refused");
            return;
        }
        self.start_lane(key, incoming.stream, false);
    }

    /// [`Actor::blame`] by name.
    pub(super) fn blame_peer(&mut self, peer: PeerId, why: &str) {
        if peer != self.node.peer_id() {
            let key = self.hosts.key(peer);
            self.blame(key, why);
        }
    }

    /// A neighbour did what only a broken or a hostile one does: its lane ends, and for a time it is neither
    /// dialled nor let in. That stays on this host: it proves nothing to others.
    pub(super) fn blame(&mut self, key: HostKey, why: &str) {
        let Some(host) = self.hosts.get(key).filter(|host| !host.is_shunned()) else { return };
        let shunned = host.shun(Instant::now());
        let peer = host.peer;
        self.end_lane(key);
        // What it has sent of pieces is not to be gone on with.
        self.node.parts().shun(peer);
        tracing::warn!(%peer, why, ?shunned, "a neighbour is to blame: it is not asked for a time");
        self.node.metrics().neighbours_blamed.add(1);
        self.input(Input::LaneDown { host: key });
    }

    /// Begins a task anew on all lanes on which it is open: both ends show again what they know of it.
    pub(super) fn reopen_on_lanes(&mut self, content: &Content) {
        for index in 0..self.hosts.table.len() {
            let host = HostKey(index as u32);
            if self.hosts.lane(host).is_some_and(|lane| lane.tasks.contains_key(&content.key)) {
                self.reopen_task(host, (content.key, content.task, content.generation));
            }
        }
    }

    /// Closes a task on a lane and opens it again. The neighbour takes a close for the end of both sides, so both start anew.
    fn reopen_task(&mut self, host: HostKey, (key, task, generation): (TaskKey, TaskId, Generation)) {
        // What was decided before it would be said of the task as it is opened anew.
        self.carry_out();
        let sides = self.hosts.lane(host).and_then(|lane| lane.tasks.remove(&key));
        let opened = sides.is_some_and(|sides| sides.ours);
        self.send(host, LaneCommand::Close { key, task, generation, opened });
        self.input(Input::TaskReopened { host, task: key });
        self.open_task(host, key);
    }

    fn end_lane(&mut self, key: HostKey) {
        if let Some(lane) = self.take_lane(key) {
            lane.stop.cancel();
        }
    }

    /// A lane is no more in use: others go on with what has come over it, and are asked at once.
    fn take_lane(&mut self, key: HostKey) -> Option<OpenLane> {
        let host = self.hosts.get(key)?;
        let (lane, peer) = (host.lane.take()?, host.peer);
        lane.requests.withdraw_all(&self.node, &self.registry, peer);
        Some(lane)
    }

    /// Runs a lane. If both hosts opened one at the same time, the one that the smaller id opened stays: both
    /// ends come to the same choice whatever they see first.
    fn start_lane(&mut self, key: HostKey, stream: Stream, ours: bool) {
        let me = self.node.peer_id();
        // What was decided before it was of another lane, if of any: a piece that was asked for there would come here
        // without having been asked for.
        self.carry_out();
        let Some(host) = self.hosts.get(key) else { return };
        let (peer, checks) = (host.peer, Arc::clone(&host.checks));
        let preferred = (me < peer) == ours;
        match &host.lane {
            Some(lane) if lane.ours != ours && !preferred => return,
            Some(_) => {
                // A second one by the same side replaces the first: that one is broken, or its opener forgot it.
                self.end_lane(key);
                self.input(Input::LaneDown { host: key });
            }
            None => {}
        }
        self.hosts.lanes += 1;
        let number = LaneNumber(self.hosts.lanes);
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let (stop, requests) = (CancellationToken::new(), lane::Requests::default());
        if let Some(host) = self.hosts.get(key) {
            let carrier = stream.carrier();
            let (stop, requests) = (stop.clone(), requests.clone());
            host.lane = Some(OpenLane { number, ours, carrier, commands, requests, stop, tasks: BTreeMap::new() });
        }
        let (node, registry, events) = (self.node.clone(), self.registry.clone(), self.events.clone());
        self.node.spawn(lane::run(
            node,
            (key, peer, number),
            (checks, requests),
            registry,
            stream,
            (queue, stop),
            events,
        ));
        self.input(Input::LaneUp { host: key });
    }

    /// Closes a lane; what was queued on it is sent first.
    pub(super) fn close_lane(&mut self, key: HostKey) {
        self.take_lane(key);
    }

    /// Withdraws a request: whoever is asked next goes on with what has come of it, also while the lane is busy.
    pub(super) fn cancel_request(&mut self, key: HostKey, request: u32) {
        if let Some((lane, peer)) = self.hosts.get(key).and_then(|host| Some((host.lane.as_ref()?, host.peer))) {
            lane.requests.withdraw(&self.node, &self.registry, peer, request);
        }
        self.send(key, LaneCommand::Cancel { request });
    }

    /// Queues a command on a lane. A lane that does not keep up is closed; one that has just ended says so itself. One that is
    /// not encrypted is closed for the sake of content that is not public: the next one is, as long as there is such content.
    pub(super) fn send(&mut self, host: HostKey, command: LaneCommand) {
        let Some(lane) = self.hosts.lane(host) else { return };
        if lane.carrier == Carrier::Plain && command.content().is_some_and(|content| !content.is_public()) {
            tracing::debug!(?host, "a lane without encryption ends for the sake of private content");
            self.end_lane(host);
            return self.input(Input::LaneDown { host });
        }
        if let Err(mpsc::error::TrySendError::Full(_)) = lane.commands.try_send(command) {
            tracing::debug!(?host, "a lane does not keep up");
            // Not what waits is sent first: who takes nothing would keep the lane, and all that, for as long as it likes.
            self.end_lane(host);
            self.input(Input::LaneDown { host });
        }
    }

    /// Takes part in a task over a lane.
    pub(super) fn open_task(&mut self, host: HostKey, key: TaskKey) {
        let Some(content) = self.contents.get(&key).cloned() else { return };
        let Some(lane) = self.hosts.lane(host) else { return };
        let sides = lane.tasks.entry(key).or_default();
        let first = !std::mem::replace(&mut sides.ours, true);
        let theirs = sides.theirs;
        if first {
            let wanted = !content.is_complete();
            self.send(host, LaneCommand::Open { content, wanted });
        }
        if let Some(wanted) = theirs {
            self.input(Input::TaskOpened { host, task: key, wanted });
        }
    }

    pub(super) fn lane(&mut self, (host, peer): (HostKey, PeerId), number: LaneNumber, event: LaneEvent) {
        if self.hosts.peer(host) != Some(peer) {
            // Somebody else has its place by now.
            return;
        }
        let event = match event {
            // Of a lane that was replaced meanwhile, too.
            LaneEvent::Down { blame: Some(why) } => return self.blame(host, &why),
            event => event,
        };
        if self.hosts.lane(host).map(|lane| lane.number) != Some(number) {
            return;
        }
        match event {
            LaneEvent::Input(input) => self.input(input),
            LaneEvent::Down { .. } => {
                self.close_lane(host);
                self.input(Input::LaneDown { host });
            }
            LaneEvent::Opened { content, wanted } => {
                let key = content.key;
                if !self.contents.contains_key(&key) {
                    // It takes part no more since the lane looked. The neighbour waits for a word, and the lane holds the content.
                    return self.opened_unknown(host, key, (content.task, content.generation));
                }
                if let Some(lane) = self.hosts.lane(host) {
                    lane.tasks.entry(key).or_default().theirs = Some(wanted);
                }
                self.open_task(host, key);
            }
            LaneEvent::OpenedUnknown { task, generation } => {
                self.opened_unknown(host, TaskKey(u32::MAX), (task, generation));
            }
            LaneEvent::Closed { task, generation } => {
                // What was decided before it is not for the task as it may be opened anew.
                self.carry_out();
                let key = self.registry.find(task, generation).map(|content| content.key);
                let Some(key) = key else { return };
                if let Some(lane) = self.hosts.lane(host) {
                    lane.tasks.remove(&key);
                }
                self.send(host, LaneCommand::Closed { key });
                self.input(Input::TaskClosed { host, task: key });
            }
            LaneEvent::Asked { task, generation, content } => {
                // A lane over which there is nothing to be had is not in use.
                if content.is_some() {
                    self.input(Input::Asked { host });
                }
                self.send(host, LaneCommand::Answer { task, generation, content });
            }
            LaneEvent::Cancelled { request } => {
                self.send(host, LaneCommand::StopServing { request });
                self.input(Input::Cancelled { host, request });
            }
            LaneEvent::Conflicting { request } => {
                self.send(host, LaneCommand::Reject { request, reason: RejectReason::Conflict });
            }
            LaneEvent::Sealed { task } => {
                if let Some(content) = self.contents.get(&task).cloned() {
                    self.show_seal(&content);
                }
            }
            LaneEvent::Unservable { request } => {
                self.send(host, LaneCommand::Reject { request, reason: RejectReason::NotHeld });
            }
            LaneEvent::Unreadable { request } => self.input(Input::ServeFailed { host, request }),
        }
    }

    /// A neighbour has opened what takes no part here; `gone`: what did so under that name a moment ago.
    fn opened_unknown(&mut self, host: HostKey, gone: TaskKey, (task, generation): (TaskId, Generation)) {
        // What is this host's alone is as good as unknown, and so is on a lane without encryption what is not public.
        let plain = self.hosts.lane(host).is_some_and(|lane| lane.carrier == Carrier::Plain);
        let found = self.registry.find(task, generation);
        let found = found.filter(|content| content.is_shared() && (!plain || content.is_public()));
        match found.map(|content| content.key) {
            None => self.send(host, LaneCommand::Close { key: gone, task, generation, opened: false }),
            // It became known between the lane's look and this one, and this host may have opened it, too.
            Some(key) => self.reopen_task(host, (key, task, generation)),
        }
    }

    /// Tells every neighbour that a generation takes part no more.
    pub(super) fn close_on_lanes(&mut self, content: &Content) {
        let key = content.key;
        for index in 0..self.hosts.table.len() {
            let host = HostKey(index as u32);
            let opened = self.hosts.lane(host).and_then(|lane| lane.tasks.remove(&key));
            if let Some(sides) = opened {
                let (task, generation) = (content.task, content.generation);
                self.send(host, LaneCommand::Close { key, task, generation, opened: sides.ours });
            }
        }
    }

    /// Shows a new seal to every neighbour that has the task open.
    pub(super) fn show_seal(&mut self, content: &Arc<Content>) {
        for index in 0..self.hosts.table.len() {
            let host = HostKey(index as u32);
            let open = self.hosts.lane(host).is_some_and(|lane| lane.tasks.contains_key(&content.key));
            if open {
                self.send(host, LaneCommand::Seal { content: Arc::clone(content) });
            }
        }
    }
}

/// A hash of what a coordinator says of where a host is.
fn said_of(neighbour: &Neighbour) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in [neighbour.seen_ip.as_deref(), neighbour.record.as_ref().map(|record| record.0.as_slice())] {
        hasher.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
        hasher.update(part.unwrap_or_default());
    }
    *hasher.finalize().as_bytes()
}

/// Opens a lane on a connection of its own; where that is not to be had, on a stream.
async fn open(node: &crate::node::Node, peer: PeerId, addresses: Vec<Address>) -> Result<Stream> {
    if addresses.iter().any(|address| address.lane().is_some()) {
        match node.host().lane(peer, &addresses).await {
            Ok(stream) => return Ok(stream),
            Err(error) => tracing::debug!(%peer, %error, "no lane: a stream has to do"),
        }
    }
    if !node.host().is_connected(peer) {
        if addresses.is_empty() {
            return Err(Error::new(ErrorKind::Network, format!("no address of {peer} is known")));
        }
        node.host().connect(peer, addresses).await?;
    }
    Ok(node.host().open(peer, LANE_PROTOCOL).await?)
}

#[cfg(test)]
mod tests;
