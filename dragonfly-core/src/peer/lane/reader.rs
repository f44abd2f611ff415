//! The receiving half of a lane.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncRead;

use super::{Lane, LaneError, Pending};
use crate::node::{PeerRequest, now_unix, read_frame};
use crate::peer::arrivals::meanwhile;
use crate::peer::content::{Content, keep_evidence};
use crate::peer::event::{Event, LaneEvent};
use crate::swarm::{Input, RequestId};
use crate::task::{HaveMap, PieceHash, PieceHasher};
use crate::trust::{EvidenceError, Outcome as Accepted};
use crate::wire::codec::{Decoded, FrameDecoder};
use crate::wire::lane::{Frame, Message, Run, SLOTS_MAX, Slot, request_values};
use crate::wire::statement::Evidence;

/// How many bytes are read from the transport at a time, at least.
const READ_BYTES: usize = 128 << 10;

/// How often the core is told that a neighbour waits for this host's own limits. Well below what counts as silence.
const HELD_UP_INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn run(lane: &Lane, mut input: impl AsyncRead + Unpin) -> Result<(), LaneError> {
    let mut decoder = FrameDecoder::<Frame>::new();
    let mut buffer = BytesMut::with_capacity(2 * READ_BYTES);
    let mut begun = None;
    loop {
        while let Some(frame) = decoder.next(&mut buffer)? {
            begun = None;
            match frame {
                Decoded::Message(Frame::Block { request, piece, offset, bytes }) => {
                    block(lane, request, piece, offset, &bytes).await?;
                }
                Decoded::Message(Frame::Message(message)) => take(lane, message).await?,
                Decoded::Ignored => {}
            }
        }
        buffer.reserve(READ_BYTES);
        if read_frame(&mut input, &mut buffer, &decoder, &mut begun).await? == 0 {
            return Ok(());
        }
    }
}

async fn take(lane: &Lane, message: Message) -> Result<(), LaneError> {
    match message {
        Message::Open { slot, task, generation, length, piece_length, wanted } => {
            let found = lane
                .registry
                .find(task, generation)
                // Content of this host alone is as good as unknown.
                .filter(|content| content.is_shared())
                .filter(|content| (content.layout.length(), content.layout.piece_length()) == (length, piece_length));
            match found {
                None => lane.tell(LaneEvent::OpenedUnknown { task, generation }).await,
                Some(content) => {
                    let key = content.key;
                    {
                        let mut shared = lane.shared();
                        if shared.theirs.len() >= SLOTS_MAX {
                            return Err(LaneError::Protocol("too many tasks open"));
                        }
                        shared.theirs.insert(slot, content);
                    }
                    lane.tell(LaneEvent::Opened { task: key, wanted }).await
                }
            }
        }
        Message::Close { slot, task, generation } => {
            let known = lane.registry.find(task, generation);
            {
                let mut shared = lane.shared();
                if let Some(slot) = slot {
                    shared.theirs.remove(&slot);
                }
                // Blocks that went out before it come before it.
                if let Some(content) = known {
                    shared.forget(content.key);
                }
            }
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
        Message::Cancel { request } => lane.tell(LaneEvent::Cancelled { request }).await,
        Message::Reject { request, reason } => {
            let known = {
                let mut shared = lane.shared();
                shared.pending.remove(&request).is_some()
            };
            if known {
                lane.input(Input::Rejected { host: lane.host, request: RequestId(request), reason }).await?;
            }
            Ok(())
        }
    }
}

/// Whether the embedder lets this neighbour have pieces of this content.
fn may_serve(lane: &Lane, content: &Content) -> bool {
    let label = &content.entry.described().label;
    lane.node.rules().admit_request(&PeerRequest::Serve { peer: lane.peer, task: content.task, label })
}

fn task_of(lane: &Lane, slot: Slot) -> Option<Arc<Content>> {
    // Unknown slots are those that closed while a message was under way.
    lane.shared().theirs.get(&slot).cloned()
}

async fn evidence(lane: &Lane, content: &Arc<Content>, items: Vec<Evidence>) -> Result<(), LaneError> {
    let mut fresh = Vec::new();
    let mut sealed = false;
    for item in items {
        // The neighbour is not silent while it waits for this host.
        meanwhile(lane.checks.ready(), HELD_UP_INTERVAL, || lane.input(Input::HeldUp { host: lane.host })).await;
        let outcome = content.evidence().accept(&item, now_unix());
        lane.checks.count(&outcome);
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
    if !fresh.is_empty() {
        keep_evidence(&lane.node, content, fresh).await;
    }
    if sealed {
        // The neighbours may have no other way to it.
        lane.tell(LaneEvent::Sealed { task: content.key }).await?;
    }
    Ok(())
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

async fn block(lane: &Lane, request: u32, piece: u32, offset: u32, bytes: &Bytes) -> Result<(), LaneError> {
    enum Outcome {
        Partial(Arc<Content>, u32),
        Proven(Arc<Content>, BytesMut, PieceHash),
        Refuted(Arc<Content>),
        Stray,
    }
    let outcome = {
        let mut shared = lane.shared();
        match shared.pending.get_mut(&request) {
            None => {
                shared.stray = shared
                    .stray
                    .checked_sub(bytes.len() as u64)
                    .ok_or(LaneError::Protocol("bytes that nobody asked for"))?;
                Outcome::Stray
            }
            Some(pending) => {
                if piece != pending.piece() || offset as usize != pending.buffer.len() {
                    return Err(LaneError::Protocol("a block out of order"));
                }
                let layout = pending.content.layout;
                let length = layout.length_of(piece).unwrap_or(0) as usize;
                if pending.buffer.len() + bytes.len() > length {
                    return Err(LaneError::Protocol("more bytes than the piece has"));
                }
                if pending.buffer.is_empty() {
                    // The piece was requested, so the core has set its bytes aside from the budget.
                    pending.buffer = lane.node.buffers().take(length);
                    pending.hasher = Some(PieceHasher::new(piece, layout.piece_length()));
                }
                pending.buffer.extend_from_slice(bytes);
                if let Some(hasher) = &mut pending.hasher {
                    hasher.update(bytes).map_err(|_| LaneError::Protocol("more bytes than a piece has"))?;
                }
                if pending.buffer.len() < length {
                    Outcome::Partial(Arc::clone(&pending.content), bytes.len() as u32)
                } else {
                    finish(&mut shared, request)
                }
            }
        }
    };
    fn finish(shared: &mut super::Shared, request: u32) -> Outcome {
        let Some(pending) = shared.pending.get_mut(&request) else { return Outcome::Stray };
        let piece = pending.piece();
        let value = pending.hasher.take().and_then(|hasher| hasher.finish(&pending.content.layout, piece).ok());
        let expected = pending.values[pending.arrived as usize];
        let content = Arc::clone(&pending.content);
        if value != Some(expected) {
            let due = pending.due();
            shared.pending.remove(&request);
            shared.stray += due;
            return Outcome::Refuted(content);
        }
        let buffer = std::mem::take(&mut pending.buffer);
        pending.arrived += 1;
        if pending.arrived as usize == pending.values.len() {
            shared.pending.remove(&request);
        }
        Outcome::Proven(content, buffer, expected)
    }
    let content = match &outcome {
        Outcome::Partial(content, _) | Outcome::Proven(content, ..) | Outcome::Refuted(content) => Some(content),
        Outcome::Stray => None,
    };
    let (host, id) = (lane.host, RequestId(request));
    if let Some(content) = content {
        content.arrivals.note(bytes.len());
    }
    // What is not read is not sent for long: the other end waits for room. It must not be taken for silent meanwhile.
    let passed = pass(lane, content, bytes.len());
    let held_up = || {
        if let Some(content) = content {
            content.arrivals.held_up();
        }
        lane.input(Input::HeldUp { host })
    };
    meanwhile(passed, HELD_UP_INTERVAL, held_up).await;
    match outcome {
        Outcome::Stray => Ok(()),
        Outcome::Partial(_, bytes) => lane.input(Input::Received { host, request: id, bytes }).await,
        Outcome::Proven(content, buffer, value) => {
            let last = bytes.len() as u32;
            lane.input(Input::Received { host, request: id, bytes: last }).await?;
            lane.input(Input::Proven { host, request: id, piece }).await?;
            store(lane, content, piece, buffer, value).await;
            Ok(())
        }
        Outcome::Refuted(content) => {
            tracing::debug!(?host, task = ?content.task, piece, "a piece does not match its hash");
            lane.node.metrics().pieces_refuted.add(1);
            content.count_refuted();
            lane.input(Input::Refuted { host, request: id, piece }).await
        }
    }
}

/// Hands a proven piece to the disk threads; waits while too many bytes wait for them.
async fn store(lane: &Lane, content: Arc<Content>, piece: u32, bytes: BytesMut, value: PieceHash) {
    let budget = lane.node.write_budget(bytes.len()).await;
    let (node, events) = (lane.node.clone(), lane.events.clone());
    let length = bytes.len() as u64;
    lane.node.spawn(async move {
        let (entry, task) = (Arc::clone(&content.entry), content.key);
        let write = move || {
            let outcome = entry.write_piece(piece, &bytes, &value);
            (bytes, outcome)
        };
        let outcome = match node.io().run(write).await {
            Ok((bytes, outcome)) => {
                node.buffers().give(bytes);
                Ok(outcome)
            }
            Err(error) => Err(error),
        };
        drop(budget);
        let input = match outcome {
            Ok(Ok(fresh)) => {
                if fresh {
                    content.count_peers(length);
                } else {
                    node.metrics().pieces_repeated.add(1);
                }
                node.metrics().bytes_from_peers.add(length);
                Input::Stored { task, piece }
            }
            Ok(Err(error)) => {
                let _ = events.send(Event::StoreFailed { task, error: error.into() }).await;
                Input::StoreFailed { task, piece }
            }
            Err(_) => return,
        };
        let _ = events.send(Event::Input(input)).await;
    });
}

impl Lane {
    async fn input(&self, input: Input) -> Result<(), LaneError> {
        self.tell(LaneEvent::Input(input)).await
    }
}

impl Pending {
    pub(super) fn new(content: Arc<Content>, first: u32, values: Vec<PieceHash>) -> Self {
        Self { content, first, values, arrived: 0, buffer: BytesMut::new(), hasher: None }
    }
}
