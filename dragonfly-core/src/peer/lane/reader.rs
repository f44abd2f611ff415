//! The receiving half of a lane.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use super::{Lane, LaneError, whole};
use crate::node::{Node, PeerRequest, Room, in_whole, now_unix, read_frame};
use crate::peer::arrivals::meanwhile;
use crate::peer::content::{Content, keep_evidence};
use crate::peer::event::{Event, LaneEvent};
use crate::store::StoreError;
use crate::swarm::{HostKey, Input, RequestId};
use crate::task::{HaveMap, PieceHash, PieceHasher};
use crate::trust::{EvidenceError, Outcome as Accepted};
use crate::wire::PeerId;
use crate::wire::codec::{BLOCK_HEADER_BYTES, BlockHead, Decoded, FrameDecoder, HEADER_BYTES};
use crate::wire::lane::{Frame, Message, Run, SLOTS_MAX, Slot, request_values};
use crate::wire::statement::Evidence;

/// What a block begins with. No more is read of a frame at first, so that a block's bytes go where they belong at once.
const HEAD_BYTES: usize = HEADER_BYTES + BLOCK_HEADER_BYTES;

/// How often the core is told of bytes between the first of a request and the last of a piece: on a fast lane each event
/// would cost more than the block it is about.
const TELL_INTERVAL: Duration = Duration::from_millis(5);

/// How much may come in before others have their turn: what is read from memory alone never waits by itself, and the writer
/// shares this task.
const TURN: u32 = 64;

/// What a block takes of a turn, and any other frame: small ones that nothing comes of are many in what is read at once.
const BLOCK_TURN: u32 = 8;
const FRAME_TURN: u32 = 1;

/// How often the core is told that a neighbour waits for this host's own limits. Well below what counts as silence.
const HELD_UP_INTERVAL: Duration = Duration::from_secs(1);

/// Why a lane ends that is not encrypted; on another the neighbour is to blame.
pub(super) const REFUTED: &str = "content that does not match its hash";

pub(super) async fn run(lane: &Lane, mut input: impl AsyncRead + Unpin) -> Result<(), LaneError> {
    let mut decoder = FrameDecoder::<Frame>::new();
    let mut buffer = BytesMut::new();
    let mut begun = None;
    let mut turn = 0;
    loop {
        if turn >= TURN {
            turn = 0;
            tokio::task::yield_now().await;
        }
        if let Some(head) = decoder.block(&mut buffer)? {
            let begun = begun.take().unwrap_or_else(Instant::now);
            block(lane, head, &mut Incoming { input: &mut input, buffer: &mut buffer, begun }).await?;
            turn += BLOCK_TURN;
            continue;
        }
        if let Some(frame) = decoder.next(&mut buffer)? {
            begun = None;
            match frame {
                Decoded::Message(Frame::Message(message)) => take(lane, message).await?,
                // Taken above, by its head.
                Decoded::Message(Frame::Block { .. }) => return Err(LaneError::Protocol("a block without a head")),
                Decoded::Ignored => {}
            }
            turn += FRAME_TURN;
            continue;
        }
        let wanted = decoder.wanted(buffer.len()).max(HEAD_BYTES);
        buffer.reserve(wanted);
        if read_frame(&mut input, (&mut buffer, wanted), &decoder, &mut begun).await? == 0 {
            return Ok(());
        }
    }
}

/// A block that is coming in.
struct Incoming<'a, R> {
    input: &'a mut R,
    /// What was read of it, and perhaps of what follows.
    buffer: &'a mut BytesMut,
    begun: Instant,
}

impl<R: AsyncRead + Unpin> Incoming<'_, R> {
    /// Its bytes go to the request that they answer, for as long as it is there: they can be taken from it whenever it ends.
    /// After that, and where it answers nothing, they go nowhere.
    async fn read(&mut self, lane: &Lane, head: &BlockHead, answers: bool) -> Result<(), LaneError> {
        let Self { input, buffer, begun } = self;
        let here = head.length.min(buffer.len());
        if let Some(pending) = lane.shared().pending.get_mut(&head.request).filter(|_| answers) {
            pending.buffer.extend_from_slice(&buffer[..here]);
        }
        buffer.advance(here);
        let mut left = head.length - here;
        let mut nowhere = BytesMut::new();
        let read = async {
            while left > 0 {
                let some = poll_fn(|cx| {
                    let mut shared = lane.shared();
                    let to = match shared.pending.get_mut(&head.request).filter(|_| answers) {
                        Some(pending) => &mut pending.buffer,
                        None => {
                            nowhere.clear();
                            nowhere.reserve(left);
                            &mut nowhere
                        }
                    };
                    poll_read_buf(Pin::new(&mut **input), cx, &mut to.limit(left))
                });
                match some.await? {
                    0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                    read => left -= read,
                }
            }
            Ok(())
        };
        Ok(in_whole(*begun, read).await?)
    }
}

async fn take(lane: &Lane, message: Message) -> Result<(), LaneError> {
    match message {
        Message::Open { slot, task, generation, length, piece_length, wanted } => {
            let found =
                lane.registry.find(task, generation).filter(|content| lane.carries(content)).filter(|content| {
                    (content.layout.length(), content.layout.piece_length()) == (length, piece_length)
                });
            match found {
                None => lane.tell(LaneEvent::OpenedUnknown { task, generation }).await,
                Some(content) => {
                    {
                        let mut shared = lane.shared();
                        if shared.theirs.len() >= SLOTS_MAX && !shared.theirs.contains_key(&slot) {
                            return Err(LaneError::Protocol("too many tasks open"));
                        }
                        shared.theirs.insert(slot, Arc::clone(&content));
                    }
                    lane.tell(LaneEvent::Opened { content, wanted }).await
                }
            }
        }
        Message::Close { slot, task, generation } => {
            let known = lane.registry.find(task, generation);
            let forgotten = {
                let mut shared = lane.shared();
                if let Some(slot) = slot {
                    shared.theirs.remove(&slot);
                }
                // Blocks that went out before it came before it: no more of them come.
                known.map(|content| shared.forget(content.key))
            };
            lane.keep(forgotten.into_iter().flatten());
            lane.tell(LaneEvent::Closed { task, generation }).await
        }
        Message::Evidence { slot, items } => match task_of(lane, slot) {
            None => Ok(()),
            Some(content) => evidence(lane, &content, items).await,
        },
        Message::Have { slot, runs, complete } => {
            let Some(content) = task_of(lane, slot) else { return Ok(()) };
            let runs = provable(&content, &runs)?;
            // Complete is a claim about pieces, too: it counts once all of them can be proven.
            let complete = complete && (0..content.layout.pieces()).all(|piece| content.value(piece).is_some());
            lane.input(Input::Have { host: lane.host, task: content.key, runs, complete }).await
        }
        Message::Lost { slot, runs } => {
            let Some(content) = task_of(lane, slot) else { return Ok(()) };
            let runs = ranges(&content, &runs)?;
            lane.input(Input::Lost { host: lane.host, task: content.key, runs }).await
        }
        Message::Allot { slot, runs } => {
            let Some(content) = task_of(lane, slot) else { return Ok(()) };
            for pieces in provable(&content, &runs)? {
                lane.input(Input::Allotted { host: lane.host, task: content.key, pieces }).await?;
            }
            Ok(())
        }
        Message::Request { slot, request, first, skip, values } => {
            let values = request_values(&values).ok_or(LaneError::Protocol("a request with malformed values"))?;
            let Some(content) = task_of(lane, slot) else {
                return lane.tell(LaneEvent::Unservable { request }).await;
            };
            if !may_serve(lane, &content) {
                // What is refused looks like what is not held.
                return lane.tell(LaneEvent::Unservable { request }).await;
            }
            let count = values.len() as u32;
            let same = values.iter().zip(first..).all(|(value, piece)| content.value(piece) == Some(*value));
            if !same {
                return lane.tell(LaneEvent::Conflicting { request }).await;
            }
            let (host, task) = (lane.host, content.key);
            lane.input(Input::Requested { host, task, request, first, count, skip }).await
        }
        Message::Ask { task, generation, length } => whole::asked(lane, (task, generation), length).await,
        Message::Whole { task, generation, items, bytes } => {
            whole::answered(lane, (task, generation), items, bytes).await
        }
        Message::Cancel { request } => lane.tell(LaneEvent::Cancelled { request }).await,
        Message::Reject { request, reason } => {
            // Nothing more of it comes after this.
            let rejected = lane.shared().pending.remove(&request);
            if let Some(pending) = rejected {
                lane.keep([pending]);
                lane.input(Input::Rejected { host: lane.host, request: RequestId(request), reason }).await?;
            }
            Ok(())
        }
    }
}

/// Whether the embedder lets this neighbour have pieces of this content.
pub(super) fn may_serve(lane: &Lane, content: &Content) -> bool {
    let label = &content.entry.described().label;
    lane.node.rules().admit_request(&PeerRequest::Serve { peer: lane.peer, task: content.task, label })
}

fn task_of(lane: &Lane, slot: Slot) -> Option<Arc<Content>> {
    // Unknown slots are those that closed while a message was under way.
    lane.shared().theirs.get(&slot).cloned()
}

async fn evidence(lane: &Lane, content: &Arc<Content>, items: Vec<Evidence>) -> Result<(), LaneError> {
    let Learnt { fresh, sealed } = learn(lane, content, items).await?;
    keep_evidence(&lane.node, content, fresh).await;
    if sealed {
        // The neighbours may have no other way to it.
        lane.tell(LaneEvent::Sealed { task: content.key }).await?;
    }
    Ok(())
}

/// What a neighbour's evidence taught.
pub(super) struct Learnt {
    /// What is worth keeping.
    pub(super) fresh: Vec<Evidence>,
    /// Whether there is a seal that was not known.
    pub(super) sealed: bool,
}

/// Takes in what a neighbour shows; the caller keeps what is new.
pub(super) async fn learn(lane: &Lane, content: &Arc<Content>, items: Vec<Evidence>) -> Result<Learnt, LaneError> {
    let (mut fresh, mut sealed) = (Vec::new(), false);
    for (at, item) in (1..).zip(items) {
        if at % TURN == 0 {
            tokio::task::yield_now().await;
        }
        if !lane.checks.is_ready() {
            // The lane may end while it waits.
            keep_evidence(&lane.node, content, std::mem::take(&mut fresh)).await;
            lane.checks.ready().await;
        }
        let outcome = content.evidence().accept(&item, now_unix());
        if lane.checks.count(&outcome) {
            lane.node.metrics().checks_in_vain.add(1);
        }
        match outcome {
            Ok(Accepted::Known | Accepted::Stale) => {}
            Ok(Accepted::Conflict(conflict)) => {
                let (signer, piece) = (conflict.signer, conflict.piece);
                tracing::debug!(%signer, piece, task = ?content.task, "a host contradicts itself: its word is void");
                // Before another piece is taken on its word, and whatever becomes of this lane.
                let signers = BTreeSet::from([signer]);
                content.void(&signers);
                let contradicted = Event::Contradicted { task: content.task, signers };
                lane.events.send(contradicted).await.map_err(|_| LaneError::Stopped)?;
            }
            // Worth keeping once something is known under it.
            Ok(Accepted::Granted { .. }) => {}
            Ok(Accepted::Values { grant, .. }) => {
                fresh.extend(grant.map(|grant| Evidence::Grant(*grant)));
                fresh.push(item);
            }
            Ok(Accepted::Sealed { .. }) => {
                sealed = true;
                fresh.push(item);
            }
            Err(error @ EvidenceError::Statement(_)) => {
                lane.node.metrics().evidence_refused.add(1);
                tracing::debug!(host = ?lane.host, task = ?content.task, %error, "forged evidence");
                return Err(LaneError::Protocol("evidence that nobody signed"));
            }
            Err(error) => {
                lane.node.metrics().evidence_refused.add(1);
                // Views of who may say what differ for a while: what does not hold here is just not believed.
                tracing::debug!(host = ?lane.host, task = ?content.task, %error, "evidence refused");
            }
        }
    }
    Ok(Learnt { fresh, sealed })
}

/// The runs as ranges within the task.
fn ranges(content: &Content, runs: &[Run]) -> Result<Vec<std::ops::Range<u32>>, LaneError> {
    let pieces = content.layout.pieces();
    runs.iter()
        .map(|run| run.range().filter(|range| range.end <= pieces))
        .collect::<Option<Vec<_>>>()
        .ok_or(LaneError::Protocol("a run of pieces that the task does not have"))
}

/// The runs without the pieces whose value is not known: those could not be proven when they came.
fn provable(content: &Content, runs: &[Run]) -> Result<Vec<std::ops::Range<u32>>, LaneError> {
    let mut known = HaveMap::empty(content.layout.pieces());
    for piece in ranges(content, runs)?.into_iter().flatten() {
        if content.value(piece).is_some() {
            known.insert(piece);
        }
    }
    Ok(known.runs().collect())
}

/// Waits until bytes from a peer may pass.
async fn pass(lane: &Lane, content: Option<&Arc<Content>>, bytes: usize) {
    lane.node.throttles().intake.pass(bytes).await;
    lane.node.throttles().download.pass(bytes).await;
    if let Some(content) = content {
        content.throttles.download.pass(bytes).await;
    }
}

/// So many bytes have come, of this content if it is known: waits for as long as limits of this host's own say.
pub(super) async fn take_in(lane: &Lane, content: Option<&Arc<Content>>, bytes: usize, says: fn(HostKey) -> Input) {
    if let Some(content) = content {
        content.arrivals.note(bytes);
    }
    // What is not read is not sent for long: the other end waits for room. It must not be taken for silent meanwhile.
    let passed = pass(lane, content, bytes);
    let held_up = || {
        if let Some(content) = content {
            content.arrivals.held_up();
        }
        lane.input(says(lane.host))
    };
    meanwhile(passed, HELD_UP_INTERVAL, held_up).await;
}

/// A place among the jobs of the disk for so many bytes, and their part of what may wait for it.
pub(super) async fn room(
    lane: &Lane,
    bytes: usize,
    says: fn(HostKey) -> Input,
) -> Result<(Room<'_>, impl Send + use<>), LaneError> {
    let room = async {
        let budget = lane.node.write_budget(bytes).await;
        lane.node.io().room().await.map(|room| (room, budget))
    };
    // The neighbour is not to blame for a disk. What the disk does counts when it has done it: one that does nothing any
    // more must not keep a download waiting for ever.
    let waits = || lane.input(says(lane.host));
    meanwhile(room, HELD_UP_INTERVAL, waits).await.map_err(|_| LaneError::Stopped)
}

/// What a block was to the request that it answers.
enum Outcome {
    /// The core is to be told of so many bytes, 0: not yet.
    Partial(Arc<Content>, u32),
    Proven(Arc<Content>, u32, BytesMut, PieceHash),
    Refuted(Arc<Content>),
    /// It does not match, and these and the neighbour have sent parts of it.
    Mixed(Arc<Content>, u32, Vec<PeerId>),
    Stray,
}

async fn block(
    lane: &Lane,
    head: BlockHead,
    incoming: &mut Incoming<'_, impl AsyncRead + Unpin>,
) -> Result<(), LaneError> {
    let BlockHead { request, piece, length, .. } = head;
    let answers = begin(lane, &head)?;
    incoming.read(lane, &head, answers).await?;
    let outcome = if answers { end(lane, &head)? } else { Outcome::Stray };
    let content = match &outcome {
        Outcome::Partial(content, _)
        | Outcome::Proven(content, ..)
        | Outcome::Refuted(content)
        | Outcome::Mixed(content, ..) => Some(Arc::clone(content)),
        Outcome::Stray => None,
    };
    doubt(lane, &outcome);
    let (host, id) = (lane.host, RequestId(request));
    let held_up = |host| Input::HeldUp { host };
    take_in(lane, content.as_ref(), length, held_up).await;
    match outcome {
        Outcome::Stray => Ok(()),
        Outcome::Partial(_, 0) => Ok(()),
        Outcome::Partial(_, bytes) => lane.input(Input::Received { host, request: id, bytes }).await,
        Outcome::Proven(content, bytes, buffer, value) => {
            lane.input(Input::Received { host, request: id, bytes }).await?;
            // The lane may end at any wait: what is told to be proven the disk threads have, or nobody would ask for it again.
            let (room, budget) = room(lane, buffer.len(), held_up).await?;
            lane.input(Input::Proven { host, task: content.key, request: id, piece }).await?;
            room.run(store(lane, content, piece, buffer, value, budget));
            Ok(())
        }
        Outcome::Refuted(content) => {
            tracing::debug!(?host, task = ?content.task, piece, "a piece does not match its hash");
            lane.node.metrics().pieces_refuted.add(1);
            content.count_refuted();
            if lane.plain {
                return Err(LaneError::Protocol(REFUTED));
            }
            lane.input(Input::Refuted { host, request: id, piece }).await
        }
        Outcome::Mixed(content, bytes, from) => {
            tracing::debug!(?host, task = ?content.task, piece, ?from, "a piece of several senders does not match its hash");
            lane.node.metrics().pieces_refuted.add(1);
            content.count_refuted();
            lane.input(Input::Received { host, request: id, bytes }).await?;
            lane.input(Input::Mixed { host, request: id, piece }).await
        }
    }
}

/// What else was sent by whoever sent what does not match is not worth going on with. At once: the lane may have to wait, and end.
fn doubt(lane: &Lane, outcome: &Outcome) {
    let (content, others) = match outcome {
        Outcome::Refuted(content) => (content, &[][..]),
        Outcome::Mixed(content, _, from) => (content, from.as_slice()),
        _ => return,
    };
    let from: Vec<PeerId> = others.iter().copied().chain([lane.peer]).collect();
    lane.node.parts().doubt((content.task, content.generation), &from);
}

/// Whether a block answers a request that is pending, which then has room for it.
fn begin(lane: &Lane, head: &BlockHead) -> Result<bool, LaneError> {
    let mut shared = lane.shared();
    let Some(pending) = shared.pending.get_mut(&head.request) else {
        let left = shared.stray.checked_sub(head.length as u64);
        shared.stray = left.ok_or(LaneError::Protocol("bytes that nobody asked for"))?;
        return Ok(false);
    };
    if head.piece != pending.piece() || head.offset as usize != pending.filled {
        return Err(LaneError::Protocol("a block out of order"));
    }
    let layout = pending.content.layout;
    let length = layout.length_of(head.piece).unwrap_or(0) as usize;
    if pending.filled + head.length > length {
        return Err(LaneError::Protocol("more bytes than the piece has"));
    }
    if pending.filled == 0 {
        // The piece was requested, so the core has set its bytes aside from the budget.
        pending.buffer = lane.node.buffers().take(length);
        pending.hasher = Some(PieceHasher::new(head.piece, layout.piece_length()));
    }
    Ok(true)
}

/// A block has come in.
fn end(lane: &Lane, head: &BlockHead) -> Result<Outcome, LaneError> {
    let mut shared = lane.shared();
    let Some(pending) = shared.pending.get_mut(&head.request) else {
        // The request was withdrawn meanwhile: this block was counted as still to come.
        shared.stray = shared.stray.saturating_sub(head.length as u64);
        return Ok(Outcome::Stray);
    };
    let content = Arc::clone(&pending.content);
    let layout = content.layout;
    let fresh = pending.buffer.get(pending.filled..).unwrap_or_default();
    let taken = pending.hasher.as_mut().is_some_and(|hasher| hasher.update(fresh).is_ok());
    if !taken {
        return Err(LaneError::Protocol("more bytes than a piece has"));
    }
    pending.filled = pending.buffer.len();
    pending.untold += head.length as u32;
    if layout.length_of(head.piece) != Some(pending.filled as u64) {
        let now = Instant::now();
        if pending.told.is_some_and(|told| now - told < TELL_INTERVAL) {
            return Ok(Outcome::Partial(content, 0));
        }
        pending.told = Some(now);
        return Ok(Outcome::Partial(content, std::mem::take(&mut pending.untold)));
    }
    let expected = pending.value();
    let value = pending.hasher.take().and_then(|hasher| hasher.finish(&layout, head.piece).ok());
    let matches = expected.filter(|expected| value == Some(*expected));
    if matches.is_none() && !pending.is_mixed(lane.peer) {
        let refuted = shared.withdraw(head.request);
        drop(shared);
        refuted.into_iter().for_each(|refuted| lane.node.buffers().give(refuted.buffer));
        return Ok(Outcome::Refuted(content));
    }
    let (buffer, from) = pending.advance();
    let bytes = std::mem::take(&mut pending.untold);
    if pending.is_over() {
        shared.pending.remove(&head.request);
    }
    drop(shared);
    Ok(match matches {
        Some(value) => Outcome::Proven(content, bytes, buffer, value),
        // What follows of the request may be right.
        None => {
            lane.node.buffers().give(buffer);
            Outcome::Mixed(content, bytes, from)
        }
    })
}

/// What a disk thread does with a proven piece: it tells the engine.
fn store(
    lane: &Lane,
    content: Arc<Content>,
    piece: u32,
    bytes: BytesMut,
    value: PieceHash,
    budget: impl Send + 'static,
) -> impl FnOnce() + Send + 'static {
    let (node, events) = (lane.node.clone(), lane.events.clone());
    move || {
        let (outcome, length) = (content.entry.write_piece(piece, &bytes, &value), bytes.len());
        node.buffers().give(bytes);
        drop(budget);
        stored(&node, &events, (&content, piece), length, outcome);
    }
}

/// Tells the engine what came of writing a proven piece. For disk threads.
pub(super) fn stored(
    node: &Node,
    events: &mpsc::Sender<Event>,
    (content, piece): (&Content, u32),
    length: usize,
    outcome: Result<bool, StoreError>,
) {
    let (task, length) = (content.key, length as u64);
    let input = match outcome {
        Ok(fresh) => {
            content.arrivals.held_up();
            if fresh {
                content.count_peers(length);
            } else {
                node.metrics().pieces_repeated.add(1);
            }
            node.metrics().bytes_from_peers.add(length);
            Input::Stored { task, piece }
        }
        Err(error) => {
            let _ = events.blocking_send(Event::StoreFailed { task, error: error.into() });
            Input::StoreFailed { task, piece }
        }
    };
    let _ = events.blocking_send(Event::Input(input));
}

impl Lane {
    pub(super) async fn input(&self, input: Input) -> Result<(), LaneError> {
        self.tell(LaneEvent::Input(input)).await
    }
}
