//! The sending half of a lane.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::serve::Serving;
use super::{Lane, LaneCommand, LaneError, Pending};
use crate::net::Direct;
use crate::node::in_time;
use crate::peer::content::Content;
use crate::peer::event::LaneEvent;
use crate::peer::trace::{self, Served};
use crate::swarm::{Input, RequestId, TaskKey};
use crate::task::{Generation, HaveMap, TaskId};
use crate::wire::codec;
use crate::wire::lane::{Frame, Message, RejectReason, Run};
use crate::wire::statement::Evidence;

/// How many runs one message names at most; what is left goes into the next one.
const RUNS_PER_MESSAGE: usize = 512;

/// How much may be said before it is sent.
pub(super) const SAID_BYTES_MAX: usize = 256 << 10;

/// What is sent at a time, and has its time to be taken.
pub(super) const PART_BYTES: usize = 64 << 10;

/// How many bytes of evidence one message carries at most, well below a frame's limit.
const EVIDENCE_BYTES: usize = 64 << 10;

/// Small content that a neighbour asked for; `None`: it is not to be had here.
type Answer = (TaskId, Generation, Option<Arc<Content>>);

/// What the neighbour has been shown of a task.
struct Shown {
    pieces: HaveMap,
    /// The items sent, by hash: one attestation covers several pieces.
    items: HashSet<[u8; 32]>,
}

pub(super) struct Writer<'a, W> {
    pub(super) lane: &'a Lane,
    pub(super) output: W,
    /// A way for blocks past the memory of this process, where there is one.
    pub(super) direct: Option<Direct>,
    pub(super) buffer: BytesMut,
    shown: HashMap<TaskKey, Shown>,
    pub(super) serving: VecDeque<Serving>,
    /// Small content that the neighbour has asked for, whose turn has not come.
    answers: VecDeque<Answer>,
    /// Whether the last turn was an answer's.
    answered: bool,
    pub(super) served: Served,
}

pub(super) async fn run(
    lane: &Lane,
    (output, direct): (impl AsyncWrite + Unpin, Option<Direct>),
    mut commands: mpsc::Receiver<LaneCommand>,
) -> Result<(), LaneError> {
    let mut writer = Writer {
        lane,
        output,
        direct,
        buffer: BytesMut::new(),
        shown: HashMap::new(),
        serving: VecDeque::new(),
        answers: VecDeque::new(),
        answered: false,
        served: Served::default(),
    };
    loop {
        // Messages go ahead of blocks and answers: they are small, and others wait for them.
        let command = if writer.serving.is_empty() && writer.answers.is_empty() {
            writer.flush().await?;
            match writer.next(&mut commands).await {
                None => return Ok(()),
                command => command,
            }
        } else {
            match commands.try_recv() {
                Ok(command) => Some(command),
                Err(mpsc::error::TryRecvError::Empty) => None,
                Err(mpsc::error::TryRecvError::Disconnected) => return Ok(()),
            }
        };
        match command {
            Some(command) => writer.obey(command).await?,
            None => writer.take_turn().await?,
        }
        writer.flush_much().await?;
    }
}

impl<W: AsyncWrite + Unpin> Writer<'_, W> {
    /// The next command. What is served no more is noticed meanwhile.
    async fn next(&mut self, commands: &mut mpsc::Receiver<LaneCommand>) -> Option<LaneCommand> {
        while !self.served.is_empty() {
            match tokio::time::timeout(trace::REST, commands.recv()).await {
                Ok(command) => return command,
                Err(_) => self.served.rest(),
            }
        }
        commands.recv().await
    }

    /// Sends what was said. Each part has its time: a slow network is none that takes nothing.
    pub(super) async fn flush(&mut self) -> Result<(), LaneError> {
        while !self.buffer.is_empty() {
            let mut part = self.buffer.split_to(self.buffer.len().min(PART_BYTES));
            in_time(self.output.write_all_buf(&mut part)).await.map_err(stalled)?;
        }
        in_time(self.output.flush()).await.map_err(stalled)
    }

    /// The same once it is much: a neighbour can have much said, and read nothing.
    async fn flush_much(&mut self) -> Result<(), LaneError> {
        if self.buffer.len() >= SAID_BYTES_MAX { self.flush().await } else { Ok(()) }
    }

    pub(super) fn message(&mut self, message: Message) -> Result<(), LaneError> {
        codec::encode(&Frame::Message(message), &mut self.buffer)?;
        Ok(())
    }

    /// Sends a block or an answer, which is no longer than one: in turns, so that neither waits for all of the other.
    async fn take_turn(&mut self) -> Result<(), LaneError> {
        let next = if self.answered && !self.serving.is_empty() { None } else { self.answers.pop_front() };
        self.answered = next.is_some();
        match next {
            Some((task, generation, content)) => self.answer(task, generation, content).await,
            None => self.send_block().await,
        }
    }

    async fn obey(&mut self, command: LaneCommand) -> Result<(), LaneError> {
        match command {
            LaneCommand::Open { content, wanted } => {
                let shown = Shown { pieces: HaveMap::empty(content.layout.pieces()), items: HashSet::new() };
                self.shown.insert(content.key, shown);
                self.message(Message::Open {
                    slot: content.key.0,
                    task: content.task,
                    generation: content.generation,
                    length: content.layout.length(),
                    piece_length: content.layout.piece_length(),
                    wanted,
                })?;
            }
            LaneCommand::Close { key, task, generation, opened } => {
                self.shown.remove(&key);
                self.serving.retain(|serving| serving.content.key != key);
                let forgotten = {
                    let mut shared = self.lane.shared();
                    shared.theirs.retain(|_, content| content.key != key);
                    let forgotten = shared.forget(key);
                    // What is under way may still come.
                    shared.stray += forgotten.iter().map(Pending::due).sum::<u64>();
                    forgotten
                };
                self.lane.keep(forgotten);
                let slot = opened.then_some(key.0);
                self.message(Message::Close { slot, task, generation })?;
            }
            LaneCommand::Closed { key } => {
                self.shown.remove(&key);
                self.serving.retain(|serving| serving.content.key != key);
            }
            LaneCommand::Have { content, runs, complete } => {
                self.show(&content, &runs).await?;
                let mut rest = runs.as_slice();
                loop {
                    let (now, later) = rest.split_at(rest.len().min(RUNS_PER_MESSAGE));
                    let complete = complete && later.is_empty();
                    self.message(Message::Have { slot: content.key.0, runs: now.to_vec(), complete })?;
                    rest = later;
                    if rest.is_empty() {
                        break;
                    }
                }
            }
            LaneCommand::Allot { content, runs } => {
                self.show(&content, &runs).await?;
                self.message(Message::Allot { slot: content.key.0, runs })?;
            }
            LaneCommand::Lost { key, runs } => self.message(Message::Lost { slot: key.0, runs })?,
            LaneCommand::Seal { content } => self.show(&content, &[]).await?,
            LaneCommand::Request { content, request, first, count } => {
                self.request(&content, request, first, count).await?
            }
            LaneCommand::Ask { content } => self.ask(content).await?,
            LaneCommand::Answer { task, generation, content } => self.answers.push_back((task, generation, content)),
            LaneCommand::Cancel { request } => {
                let withdrawn = self.lane.shared().withdraw(request);
                self.lane.keep(withdrawn);
                self.message(Message::Cancel { request })?;
            }
            LaneCommand::Reject { request, reason } => self.message(Message::Reject { request, reason })?,
            LaneCommand::Serve { content, request, piece, skip } => {
                let length = content.layout.length_of(piece).unwrap_or(0) as u32;
                let offset = skip.min(length);
                let Ok(guard) = content.entry.use_guard() else {
                    // It was evicted a moment ago.
                    self.message(Message::Reject { request, reason: RejectReason::NotHeld })?;
                    return self.lane.tell(LaneEvent::Unreadable { request }).await;
                };
                self.serving.push_back(Serving::new(content, (request, piece), offset..length, guard));
            }
            LaneCommand::StopServing { request } => self.serving.retain(|serving| serving.request != request),
        }
        Ok(())
    }

    /// Sends the evidence for pieces that the neighbour has not seen, and the seal once there is one.
    async fn show(&mut self, content: &Arc<Content>, runs: &[Run]) -> Result<(), LaneError> {
        let Some(shown) = self.shown.get_mut(&content.key) else { return Ok(()) };
        let pieces = runs.iter().filter_map(Run::range).flatten();
        let fresh: Vec<u32> = pieces.filter(|piece| shown.pieces.insert(*piece)).collect();
        let mut items = {
            let evidence = content.evidence();
            let mut items = evidence.evidence_for(fresh);
            items.extend(evidence.seal().cloned().map(Evidence::Seal));
            items
        };
        items.retain(|item| shown.items.insert(hash_of(item)));
        let slot = content.key.0;
        let mut batch = Vec::new();
        let mut bytes = 0;
        for item in items {
            bytes += length_of(&item);
            batch.push(item);
            if bytes >= EVIDENCE_BYTES {
                let items = std::mem::take(&mut batch);
                // Who opens a task again and again has it shown again: that is no cheaper than pieces. What this host itself asks for
                // waits behind it on the lane, and must not wait for a rate.
                self.lane.node.throttles().upload.charge(std::mem::take(&mut bytes));
                self.message(Message::Evidence { slot, items })?;
                self.flush_much().await?;
            }
        }
        if !batch.is_empty() {
            self.message(Message::Evidence { slot, items: batch })?;
        }
        Ok(())
    }

    async fn request(&mut self, content: &Arc<Content>, request: u32, first: u32, count: u32) -> Result<(), LaneError> {
        let values: Option<Vec<_>> = (first..first.saturating_add(count)).map(|piece| content.value(piece)).collect();
        let Some(values) = values else {
            // The value was forgotten since: the core asks elsewhere.
            let input =
                Input::Rejected { host: self.lane.host, request: RequestId(request), reason: RejectReason::Conflict };
            return self.lane.tell(LaneEvent::Input(input)).await;
        };
        let said = values.concat();
        let mut pending = Pending::new(Arc::clone(content), first, values);
        let skip = pending.resume(&self.lane.node, self.lane.peer);
        let message = Message::Request { slot: content.key.0, request, first, skip, values: said };
        self.lane.shared().pending.insert(request, pending);
        self.message(message)
    }
}

/// Tells a neighbour that takes nothing from a connection that failed.
pub(super) fn stalled(error: std::io::Error) -> LaneError {
    if error.kind() == std::io::ErrorKind::TimedOut { LaneError::NotTaken } else { LaneError::Connection(error) }
}

/// The signed bytes that tell an item from every other.
fn signed(item: &Evidence) -> &[u8] {
    match item {
        Evidence::Attestation(signed) => &signed.0,
        Evidence::Grant(bundle) => &bundle.grant.0,
        Evidence::Seal(bundle) => &bundle.seal.0,
    }
}

fn hash_of(item: &Evidence) -> [u8; 32] {
    *blake3::hash(signed(item)).as_bytes()
}

/// About how many bytes an item takes in a frame.
fn length_of(item: &Evidence) -> usize {
    let credentials = match item {
        Evidence::Attestation(_) => 0,
        Evidence::Grant(bundle) => bundle.grantor.len() + bundle.holder.len(),
        Evidence::Seal(bundle) => bundle.signer.len(),
    };
    signed(item).len() + credentials + 32
}
