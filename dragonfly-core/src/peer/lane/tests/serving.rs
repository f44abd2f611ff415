//! What is served over one lane at a time: in which turns, from where, and how soon it ends.

use super::*;
use crate::task::PieceHasher;
use crate::wire::lane::{BLOCK_BYTES_MAX, RejectReason};

const PIECE: usize = 16 * BLOCK_BYTES_MAX;

/// What lies between the two ends takes in so much, so that what is sent is not far ahead of what was read.
const BETWEEN: usize = 1 << 10;

/// Blocks that may still come once serving is to end: one that is being sent, and one that was begun before the lane looked.
const BLOCKS_AFTER: usize = 2;

fn bytes() -> Vec<u8> {
    (0..2 * PIECE).map(|n| (n % 251) as u8).collect()
}

/// Content of two pieces of many blocks, all of it held.
pub(super) fn held(node: &Node) -> Arc<Content> {
    let layout = Layout::new(2 * PIECE as u64, PIECE as u64).unwrap();
    let current = Current {
        task: TaskId::from_hash([5; 32]),
        generation: Generation::from_hash([6; 32]),
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
    for (index, piece) in (0..).zip(bytes().chunks(PIECE)) {
        let mut hasher = PieceHasher::new(index, PIECE as u64);
        hasher.update(piece).unwrap();
        entry.write_piece(index, piece, &hasher.finish(&layout, index).unwrap()).unwrap();
    }
    Arc::new(content_of(node, TaskKey(5), entry, &current, &scope).unwrap())
}

/// A lane to a neighbour that a test plays.
pub(super) struct Rig {
    pub(super) commands: mpsc::Sender<LaneCommand>,
    pub(super) told: mpsc::Receiver<Event>,
    there: DuplexStream,
    decoder: FrameDecoder<Frame>,
    buffer: BytesMut,
    _stop: CancellationToken,
}

impl Rig {
    /// `queued`: what it finds in its queue.
    pub(super) fn start(node: &Node, registry: &Registry, queued: Vec<LaneCommand>) -> Self {
        let (there, here) = tokio::io::duplex(BETWEEN);
        let (commands, queue) = mpsc::channel(16);
        for command in queued {
            commands.try_send(command).unwrap();
        }
        let (events, told) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let names = (HostKey(0), PeerId::from_public_key([7; 32]), LaneNumber(1));
        let own = (Arc::new(Checks::new()), Requests::default());
        let ended = (queue, stop.clone());
        tokio::spawn(run(node.clone(), names, own, registry.clone(), here, ended, events));
        Self { commands, told, there, decoder: FrameDecoder::new(), buffer: BytesMut::new(), _stop: stop }
    }

    /// The next frame, and no more than that is read of the lane.
    pub(super) async fn heard(&mut self) -> Frame {
        loop {
            if let Some(Decoded::Message(frame)) = self.decoder.next(&mut self.buffer).unwrap() {
                return frame;
            }
            let mut part = [0; BETWEEN];
            let read = self.there.read(&mut part).await.unwrap();
            assert_ne!(read, 0, "the lane ended");
            self.buffer.extend_from_slice(&part[..read]);
        }
    }
}

fn serve(content: &Arc<Content>, request: u32, piece: u32, skip: u32) -> LaneCommand {
    LaneCommand::Serve { content: Arc::clone(content), request, piece, skip }
}

#[tokio::test]
async fn two_pieces_share_a_lane_by_blocks() {
    let node = Node::builder().start().await.unwrap();
    let content = held(&node);
    let mut rig = Rig::start(&node, &Registry::default(), vec![serve(&content, 1, 0, 0), serve(&content, 2, 1, 0)]);
    for block in 0..2 * PIECE / BLOCK_BYTES_MAX {
        let Frame::Block { request, piece, offset, .. } = rig.heard().await else { panic!("no block") };
        let turn = block as u32 % 2;
        assert_eq!((request, piece, offset as usize), (1 + turn, turn, block / 2 * BLOCK_BYTES_MAX), "block {block}");
    }
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn serving_ends_within_two_blocks() {
    let node = Node::builder().start().await.unwrap();
    let content = held(&node);
    let mut rig = Rig::start(&node, &Registry::default(), vec![serve(&content, 1, 0, 0)]);
    assert!(matches!(rig.heard().await, Frame::Block { request: 1, offset: 0, .. }));
    rig.commands.send(LaneCommand::StopServing { request: 1 }).await.unwrap();
    rig.commands.send(LaneCommand::Reject { request: 9, reason: RejectReason::Busy }).await.unwrap();
    let mut blocks = 0;
    while let Frame::Block { request: 1, .. } = rig.heard().await {
        blocks += 1;
    }
    assert!(blocks <= BLOCKS_AFTER, "{blocks} blocks more, and a message behind them");
    rig.commands.send(serve(&content, 2, 1, 0)).await.unwrap();
    assert!(matches!(rig.heard().await, Frame::Block { request: 2, piece: 1, offset: 0, .. }), "and none after that");
    assert!(rig.told.try_recv().is_err(), "nor is it told to be sent");
    node.shutdown().await.unwrap();
}

/// A piece is sent from where it was asked for, in the middle of a block or not, to its last byte.
#[tokio::test]
async fn a_piece_is_served_from_the_byte_that_was_asked_for() {
    let node = Node::builder().start().await.unwrap();
    let content = held(&node);
    for skip in [1, BLOCK_BYTES_MAX, 5 * BLOCK_BYTES_MAX + 17, PIECE - 1] {
        let mut rig = Rig::start(&node, &Registry::default(), vec![serve(&content, 1, 1, skip as u32)]);
        let mut at = skip;
        while at < PIECE {
            let Frame::Block { request: 1, piece: 1, offset, bytes: block } = rig.heard().await else {
                panic!("no block")
            };
            assert_eq!(offset as usize, at);
            assert!(block[..] == bytes()[PIECE + at..PIECE + at + block.len()], "other bytes at {at}");
            at += block.len();
        }
        let sent = input(rig.told.recv().await.unwrap());
        assert!(matches!(sent, Input::Sent { bytes, .. } if bytes as usize == PIECE - skip), "{skip}: {sent:?}");
    }
    node.shutdown().await.unwrap();
}
