//! What a neighbour that asks for what it should not gets over a lane; what a lane tells of a piece, and when.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use dragonfly_testkit::{Origin, Resource};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

mod bounds;
mod parts;
mod plain;
mod serving;
mod whole;

use super::{Checks, LaneCommand, LaneNumber, Registry, Requests, run};
use crate::node::{LANE_PROTOCOL, Node, TokenOptions};
use crate::peer::content::Content;
use crate::peer::event::{Event, LaneEvent, Scope};
use crate::peer::tasks::content_of;
use crate::peer::{Peer, Receipt, Request};
use crate::store::{Described, EntryKey};
use crate::swarm::{HostKey, Input, RequestId, TaskKey};
use crate::task::{Class, Generation, Layout, TaskId, piece_length_for};
use crate::wire::PeerId;
use crate::wire::codec::{self, Decoded, FrameDecoder};
use crate::wire::control::Current;
use crate::wire::lane::{Frame, Message, WHOLE_BYTES_MAX};

impl super::Carries for DuplexStream {}

const LENGTH: u64 = 300_000;

/// What a member answers when another opens the task of a receipt, or asks for all of it if it is small.
async fn answer(holder: &Node, receipt: &Receipt) -> Message {
    let token = holder.token(TokenOptions::default()).unwrap();
    let other = Node::builder().join(token).start().await.unwrap();
    let addresses = holder.listeners().iter().map(crate::wire::Address::without_peer).collect();
    other.host().connect(holder.peer_id(), addresses).await.unwrap();
    let mut stream = other.host().open(holder.peer_id(), LANE_PROTOCOL).await.unwrap();
    let (task, generation, length) = (receipt.task, receipt.generation, receipt.length);
    let piece_length = piece_length_for(length);
    let question = match length <= WHOLE_BYTES_MAX as u64 {
        true => Message::Ask { task, generation, length },
        false => Message::Open { slot: 7, task, generation, length, piece_length, wanted: true },
    };
    let mut buffer = BytesMut::new();
    codec::encode(&Frame::Message(question), &mut buffer).unwrap();
    stream.write_all(&buffer).await.unwrap();
    stream.flush().await.unwrap();
    buffer.clear();
    let mut decoder = FrameDecoder::<Frame>::new();
    let read = async {
        loop {
            if let Some(Decoded::Message(Frame::Message(message))) = decoder.next(&mut buffer).unwrap() {
                return message;
            }
            assert_ne!(stream.read_buf(&mut buffer).await.unwrap(), 0, "the lane ended");
        }
    };
    let message = tokio::time::timeout(Duration::from_secs(20), read).await.unwrap();
    other.shutdown().await.unwrap();
    message
}

/// Who knows the names of content that is a host's alone gets it no more than who does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_of_one_host_is_not_served() {
    let holder = Node::builder().listen("/ip4/127.0.0.1/tcp/0".parse().unwrap()).start().await.unwrap();
    let peer = Peer::builder(&holder).start().await.unwrap();
    let origin = Origin::start().await.unwrap();
    for length in [LENGTH, WHOLE_BYTES_MAX as u64] {
        origin.set("/public", Resource::seeded(1, length));
        origin.set("/private", Resource::seeded(2, length).header("cache-control", "private"));
        origin.set("/signed", Resource::seeded(3, length));
        let url = |path: &str| format!("{}?{length}", origin.url(path));
        let public = peer.fetch(Request::new(url("/public"))).await.unwrap();
        let message = answer(&holder, &public).await;
        let has = match &message {
            Message::Open { .. } => length == LENGTH,
            Message::Whole { bytes, .. } => bytes.len() as u64 == length,
            _ => false,
        };
        assert!(has, "{message:?}");
        let requests = [
            Request::new(url("/private")),
            Request::new(url("/signed") + "&X-Amz-Signature=00"),
            Request::new(url("/public")).insecure(true),
        ];
        for request in requests {
            let receipt = peer.fetch(request).await.unwrap();
            let message = answer(&holder, &receipt).await;
            let has_not = match &message {
                Message::Close { slot: None, .. } => length == LENGTH,
                Message::Whole { bytes, items, .. } => bytes.is_empty() && items.is_empty(),
                _ => false,
            };
            assert!(has_not, "{message:?}");
        }
    }
    peer.shutdown().await.unwrap();
    holder.shutdown().await.unwrap();
}

/// The only piece of [`content`].
static PIECE: [u8; 64 << 10] = [7; 64 << 10];

/// Content of one piece whose value is known.
fn content(node: &Node) -> Arc<Content> {
    let layout = Layout::of_length(PIECE.len() as u64).unwrap();
    let current = Current {
        task: TaskId::from_hash([1; 32]),
        generation: Generation::from_hash([2; 32]),
        length: layout.length(),
        piece_length: layout.piece_length(),
        validator: None,
        splittable: true,
        age_ms: 0,
        seal: None,
    };
    let scope = Scope { class: Class::Public, tenant: "default".into(), fixed: false };
    let key = EntryKey {
        network: node.network(),
        tenant: scope.tenant.clone(),
        task: current.task,
        class: scope.class,
        generation: current.generation,
    };
    let described =
        Described { layout, validator: None, splittable: true, label: String::new(), spec: None, fixed: false };
    let entry = node.store().open(&key, &described).unwrap();
    entry.write_piece(0, &PIECE, blake3::hash(&PIECE).as_bytes()).unwrap();
    Arc::new(content_of(node, TaskKey(1), entry, &current, &scope).unwrap())
}

/// A lane on which the only piece of `content` was asked for.
struct Asked {
    commands: mpsc::Sender<LaneCommand>,
    /// What it tells.
    told: mpsc::Receiver<Event>,
    /// Ends it.
    stop: CancellationToken,
    there: DuplexStream,
    decoder: FrameDecoder<Frame>,
    buffer: BytesMut,
}

impl Asked {
    async fn of(node: &Node, content: Arc<Content>) -> Self {
        let (there, here) = tokio::io::duplex(1 << 20);
        let (commands, queue) = mpsc::channel(4);
        let (events, told) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let names = (HostKey(0), PeerId::from_public_key([7; 32]), LaneNumber(1));
        tokio::spawn(run(
            node.clone(),
            names,
            (Arc::new(Checks::new()), Requests::default()),
            Registry::default(),
            here,
            (queue, stop.clone()),
            events,
        ));
        commands.send(LaneCommand::Request { content, request: 3, first: 0, count: 1 }).await.unwrap();
        let mut asked = Self { commands, told, stop, there, decoder: FrameDecoder::new(), buffer: BytesMut::new() };
        asked.heard().await;
        asked
    }

    /// The next thing that it says to its neighbour.
    async fn heard(&mut self) -> Message {
        loop {
            if let Some(Decoded::Message(Frame::Message(message))) = self.decoder.next(&mut self.buffer).unwrap() {
                return message;
            }
            assert_ne!(self.there.read_buf(&mut self.buffer).await.unwrap(), 0, "the lane ended");
        }
    }

    /// Part of the piece in one block, as it travels.
    fn block(offset: usize, length: usize) -> BytesMut {
        let bytes = PIECE[offset..offset + length].to_vec().into();
        let mut buffer = BytesMut::new();
        codec::encode(&Frame::Block { request: 3, piece: 0, offset: offset as u32, bytes }, &mut buffer).unwrap();
        buffer
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.there.write_all(bytes).await.unwrap();
        // The lane, on the same thread, takes what there is and waits for more.
        for _ in 0..32 {
            tokio::task::yield_now().await;
        }
    }
}

/// The same, and it was sent.
async fn sent(node: &Node, content: Arc<Content>) -> Asked {
    let mut asked = Asked::of(node, content).await;
    asked.send(&Asked::block(0, PIECE.len())).await;
    asked
}

/// What was asked for is withdrawn while a block of it comes in: what is still to come may come, and not a byte more.
async fn withdrawn_in_mid_block(how: impl FnOnce(&Content) -> LaneCommand) {
    const PART: usize = 16 << 10;
    let node = Node::builder().start().await.unwrap();
    let content = content(&node);
    let mut asked = Asked::of(&node, Arc::clone(&content)).await;
    asked.send(&Asked::block(0, PART)).await;
    let block = Asked::block(PART, PART);
    asked.send(&block[..PART / 2]).await;
    asked.commands.send(how(&content)).await.unwrap();
    let said = asked.heard().await;
    assert!(matches!(said, Message::Cancel { request: 3 } | Message::Close { .. }), "{said:?}");
    asked.send(&block[PART / 2..]).await;
    asked.send(&Asked::block(2 * PART, 2 * PART)).await;
    let first = input(asked.told.recv().await.unwrap());
    assert!(matches!(first, Input::Received { bytes, .. } if bytes as usize == PART), "{first:?}");
    assert!(asked.told.try_recv().is_err(), "nothing more is told of it, and the lane lives");
    asked.send(&Asked::block(0, 1)).await;
    let down = asked.told.recv().await.unwrap();
    let Event::Lane { event: LaneEvent::Down { blame: Some(why) }, .. } = down else { panic!("{down:?}") };
    assert!(why.contains("nobody asked for"), "{why}");
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_withdrawn_in_mid_block() {
    withdrawn_in_mid_block(|_| LaneCommand::Cancel { request: 3 }).await;
}

#[tokio::test]
async fn a_task_that_is_closed_in_mid_block() {
    withdrawn_in_mid_block(|content| LaneCommand::Close {
        key: content.key,
        task: content.task,
        generation: content.generation,
        opened: true,
    })
    .await;
}

fn input(event: Event) -> Input {
    match event {
        Event::Lane { event: LaneEvent::Input(input), .. } | Event::Input(input) => input,
        other => panic!("{other:?}"),
    }
}

/// A lane may end while a piece waits for its turn to be written. The core asks for it again, unless it was told that it
/// is proven.
#[tokio::test]
async fn a_piece_is_told_to_be_proven_once_nothing_keeps_it_from_the_disk() {
    let node = Node::builder().start().await.unwrap();
    let content = content(&node);
    let all = node.write_budget(usize::MAX).await;
    let mut asked = sent(&node, Arc::clone(&content)).await;
    let first = input(asked.told.recv().await.unwrap());
    assert!(matches!(first, Input::Received { request: RequestId(3), .. }), "{first:?}");
    asked.stop.cancel();
    let down = asked.told.recv().await.unwrap();
    assert!(matches!(down, Event::Lane { event: LaneEvent::Down { blame: None }, .. }), "{down:?}");
    assert!(asked.told.recv().await.is_none(), "nothing of it is under way");
    drop(all);
    let mut asked = sent(&node, content).await;
    let mut next = async || input(asked.told.recv().await.unwrap());
    assert!(matches!(next().await, Input::Received { .. }));
    assert!(matches!(next().await, Input::Proven { request: RequestId(3), piece: 0, .. }));
    assert!(matches!(next().await, Input::Stored { piece: 0, .. }));
    node.shutdown().await.unwrap();
}
