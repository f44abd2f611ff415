//! Requests that end before they are whole: what has come of them comes once, and nobody is blamed for what others sent of it.

use super::*;
use crate::node::now_unix;
use crate::task::{PieceHash, PieceHasher};
use crate::trust::statement::{Attester, sign_grant};
use crate::trust::{Identity, Membership};
use crate::wire::lane::RejectReason;
use crate::wire::statement::{Evidence, Grant, GrantBundle};

const PIECE: usize = 64 << 10;
const PIECES: u32 = 2;
const BLOCK: usize = 16 << 10;

/// So much has come of the first piece when its request ends.
const PART: usize = 3 * BLOCK;

fn right() -> Vec<u8> {
    (0..PIECES as usize * PIECE).map(|n| (n % 251) as u8).collect()
}

/// Content of which all is known and nothing held, by what a member says of it.
fn lacking(node: &Node) -> (Registry, Arc<Content>) {
    let layout = Layout::new(u64::from(PIECES) * PIECE as u64, PIECE as u64).unwrap();
    let (task, generation) = (TaskId::from_hash([1; 32]), Generation::from_hash([2; 32]));
    let current = Current {
        task,
        generation,
        length: layout.length(),
        piece_length: layout.piece_length(),
        validator: None,
        splittable: true,
        age_ms: 0,
        seal: None,
    };
    let scope = Scope { class: Class::Public, tenant: "default".into(), fixed: false };
    let key = EntryKey { network: node.network(), tenant: scope.tenant.clone(), task, class: scope.class, generation };
    let described =
        Described { layout, validator: None, splittable: true, label: String::new(), spec: None, fixed: false };
    let entry = node.store().open(&key, &described).unwrap();
    let content = Arc::new(content_of(node, TaskKey(1), entry, &current, &scope).unwrap());
    let value = |(index, piece): (u32, &[u8])| -> PieceHash {
        let mut hasher = PieceHasher::new(index, PIECE as u64);
        hasher.update(piece).unwrap();
        hasher.finish(&layout, index).unwrap()
    };
    let values: Vec<PieceHash> = (0..).zip(right().chunks(PIECE)).map(value).collect();
    let identity = Identity::generate();
    let membership = Membership::join(&identity, &node.token(TokenOptions::default()).unwrap());
    let grant = Grant {
        version: 1,
        network: *membership.network_id(),
        tenant: scope.tenant,
        task,
        generation,
        length: layout.length(),
        piece_length: layout.piece_length(),
        first: 0,
        end: PIECES,
        holder: identity.peer_id(),
        epoch: 1,
    };
    let grant = sign_grant(&identity, &grant);
    let attested = Attester::new(&grant).attest(&identity, 0, &values).unwrap();
    let credential = membership.credential_bytes().to_vec();
    let bundle = GrantBundle { grant, grantor: credential.clone(), holder: credential };
    for item in [Evidence::Grant(bundle), Evidence::Attestation(attested)] {
        content.evidence().accept(&item, now_unix()).unwrap();
    }
    let registry = Registry::default();
    registry.insert(&content);
    (registry, content)
}

/// A lane to a neighbour that a test plays, and that was asked for all of it.
struct Rig {
    peer: PeerId,
    request: u32,
    /// How many bytes of the first piece it was not asked for.
    skip: u32,
    commands: mpsc::Sender<LaneCommand>,
    requests: Requests,
    told: mpsc::Receiver<Event>,
    there: DuplexStream,
    decoder: FrameDecoder<Frame>,
    buffer: BytesMut,
    _stop: CancellationToken,
}

impl Rig {
    async fn asked(node: &Node, (registry, content): &(Registry, Arc<Content>), number: u8) -> Self {
        let (there, here) = tokio::io::duplex(1 << 20);
        let (commands, queue) = mpsc::channel(4);
        let (events, told) = mpsc::channel(64);
        let stop = CancellationToken::new();
        let peer = PeerId::from_public_key([number; 32]);
        let requests = Requests::default();
        tokio::spawn(run(
            node.clone(),
            (HostKey(number.into()), peer, LaneNumber(number.into())),
            (Arc::new(Checks::new()), requests.clone()),
            registry.clone(),
            here,
            (queue, stop.clone()),
            events,
        ));
        let (decoder, buffer) = (FrameDecoder::new(), BytesMut::new());
        let mut rig = Self { peer, request: 0, skip: 0, commands, requests, told, there, decoder, buffer, _stop: stop };
        rig.ask(content, 0, PIECES).await;
        rig
    }

    /// Asks it for so much.
    async fn ask(&mut self, content: &Arc<Content>, first: u32, count: u32) {
        self.request += 1;
        let (content, request) = (Arc::clone(content), self.request);
        self.commands.send(LaneCommand::Request { content, request, first, count }).await.unwrap();
        let Message::Request { skip, values, .. } = self.heard().await else { panic!("no request") };
        assert_eq!(values.len(), 32 * count as usize);
        self.skip = skip;
    }

    async fn heard(&mut self) -> Message {
        loop {
            if let Some(Decoded::Message(Frame::Message(message))) = self.decoder.next(&mut self.buffer).unwrap() {
                return message;
            }
            assert_ne!(self.there.read_buf(&mut self.buffer).await.unwrap(), 0, "the lane ended");
        }
    }

    /// A block of the whole content, as it travels.
    fn block(&self, bytes: &[u8], at: usize, length: usize) -> BytesMut {
        let (piece, offset) = ((at / PIECE) as u32, (at % PIECE) as u32);
        let block =
            Frame::Block { request: self.request, piece, offset, bytes: bytes[at..at + length].to_vec().into() };
        let mut buffer = BytesMut::new();
        codec::encode(&block, &mut buffer).unwrap();
        buffer
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.there.write_all(bytes).await.unwrap();
        // The lane, on the same thread, takes what there is and waits for more.
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
    }

    /// Sends what lies there of these bytes, by blocks.
    async fn send(&mut self, bytes: &[u8], range: std::ops::Range<usize>) {
        let mut at = range.start;
        while at < range.end {
            let length = BLOCK.min(range.end - at).min(PIECE - at % PIECE);
            let block = self.block(bytes, at, length);
            self.raw(&block).await;
            at += length;
        }
    }

    /// What the core is told next, but for bytes that came.
    async fn next(&mut self) -> Input {
        loop {
            match input(self.told.recv().await.unwrap()) {
                Input::Received { .. } => {}
                input => return input,
            }
        }
    }

    /// These are proven, and then stored; disk threads may do that at any time.
    async fn stored(&mut self, pieces: std::ops::Range<u32>) {
        let (mut proven, mut stored) = (pieces.start, Vec::new());
        while stored.len() < pieces.len() {
            match self.next().await {
                Input::Proven { piece, .. } if piece == proven => proven += 1,
                Input::Stored { piece, .. } if piece < proven => stored.push(piece),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(proven, pieces.end);
    }

    /// Its end of the lane goes; the other one is through with it.
    async fn dies(self) {
        let Self { there, mut told, commands, .. } = self;
        drop(there);
        while let Some(event) = told.recv().await {
            if let Event::Lane { event: LaneEvent::Down { blame }, .. } = event {
                assert_eq!(blame, None);
            }
        }
        drop(commands);
    }
}

/// How a request ends of which a part has come.
#[derive(Clone, Copy, Debug)]
enum End {
    LaneDies,
    LaneDiesInMidBlock,
    Rejected,
    Withdrawn,
    /// By the engine, which does not wait for the lane.
    WithdrawnInMidBlock,
    ClosedThere,
}

#[tokio::test]
async fn who_is_asked_next_is_asked_for_exactly_what_is_missing() {
    use End::*;
    for end in [LaneDies, LaneDiesInMidBlock, Rejected, Withdrawn, WithdrawnInMidBlock, ClosedThere] {
        let node = Node::builder().start().await.unwrap();
        let all = lacking(&node);
        let (registry, content) = &all;
        let bytes = right();
        let mut first = Rig::asked(&node, &all, 1).await;
        assert_eq!(first.skip, 0);
        first.send(&bytes, 0..PART).await;
        let mut has = PART;
        let (task, generation) = (content.task, content.generation);
        let half = first.block(&bytes, PART, BLOCK);
        // A block's header, which travels with it.
        let header = half.len() - BLOCK;
        match end {
            LaneDies => first.dies().await,
            LaneDiesInMidBlock => {
                first.raw(&half[..header + 1000]).await;
                has += 1000;
                first.dies().await;
            }
            Rejected => {
                let reject = Message::Reject { request: 1, reason: RejectReason::Busy };
                let mut frame = BytesMut::new();
                codec::encode(&Frame::Message(reject), &mut frame).unwrap();
                first.raw(&frame).await;
                assert!(matches!(first.next().await, Input::Rejected { .. }));
            }
            ClosedThere => {
                let mut frame = BytesMut::new();
                let close = Message::Close { slot: None, task, generation };
                codec::encode(&Frame::Message(close), &mut frame).unwrap();
                first.raw(&frame).await;
            }
            Withdrawn => {
                first.commands.send(LaneCommand::Cancel { request: 1 }).await.unwrap();
                assert_eq!(first.heard().await, Message::Cancel { request: 1 });
            }
            WithdrawnInMidBlock => {
                first.raw(&half[..header + 1000]).await;
                has += 1000;
                first.requests.withdraw(&node, registry, first.peer, 1);
                // What was on its way may come, and not a byte more.
                first.raw(&half[header + 1000..]).await;
                first.send(&bytes, PIECE..2 * PIECE).await;
                while let Ok(event) = first.told.try_recv() {
                    assert!(matches!(input(event), Input::Received { .. }));
                }
                let more = first.block(&bytes, 0, 1);
                first.raw(&more).await;
                let down = first.told.recv().await.unwrap();
                let Event::Lane { event: LaneEvent::Down { blame: Some(why) }, .. } = down else { panic!("{down:?}") };
                assert!(why.contains("nobody asked for"), "{why}");
            }
        }
        assert_eq!(node.parts().len(), 1, "{end:?}");
        let mut second = Rig::asked(&node, &all, 2).await;
        assert_eq!((second.skip as usize, node.parts().len()), (has, 0), "{end:?}");
        second.send(&bytes, has..bytes.len()).await;
        second.stored(0..PIECES).await;
        assert!(content.entry.is_complete(), "{end:?}");
        let metrics = node.metrics();
        let counted = (metrics.bytes_resumed.value(), metrics.pieces_refuted.value(), content.counts().from_peers);
        assert_eq!(counted, (has as u64, 0, bytes.len() as u64), "{end:?}");
        // Nor may a byte more come there.
        let more = second.block(&bytes, PIECE, 1);
        second.raw(&more).await;
        let down = second.told.recv().await.unwrap();
        assert!(matches!(down, Event::Lane { event: LaneEvent::Down { blame: Some(_) }, .. }), "{end:?}: {down:?}");
        node.shutdown().await.unwrap();
    }
}

/// The first part is a lie, and it ends in somebody else's hands: the piece is asked for again, whole; nobody is blamed, and of
/// neither a part is kept again.
#[tokio::test]
async fn a_piece_of_two_senders_that_does_not_match_is_nobodys_fault() {
    let node = Node::builder().start().await.unwrap();
    let all = lacking(&node);
    let content = &all.1;
    let (bytes, lies) = (right(), vec![0xee; PIECES as usize * PIECE]);
    let mut liar = Rig::asked(&node, &all, 1).await;
    liar.send(&lies, 0..PART).await;
    liar.dies().await;
    let mut honest = Rig::asked(&node, &all, 2).await;
    assert_eq!(honest.skip as usize, PART);
    honest.send(&bytes, PART..bytes.len()).await;
    let mixed = honest.next().await;
    assert!(matches!(mixed, Input::Mixed { host: HostKey(2), piece: 0, .. }), "{mixed:?}");
    // The rest of the request is as good as ever.
    honest.stored(1..2).await;
    assert_eq!((content.entry.have().held(), node.metrics().pieces_refuted.value()), (1, 1));
    // Nothing of either is kept, and nothing gone on with.
    for number in [1, 2] {
        let mut doubted = Rig::asked(&node, &all, number).await;
        assert_eq!(doubted.skip, 0);
        doubted.send(&lies, 0..PART).await;
        doubted.dies().await;
        assert_eq!(node.parts().len(), 0);
    }
    let mut third = Rig::asked(&node, &all, 3).await;
    third.send(&bytes, 0..BLOCK).await;
    third.dies().await;
    assert_eq!(node.parts().len(), 1);
    honest.ask(content, 0, 1).await;
    assert_eq!(honest.skip, 0, "what is there is for others");
    honest.send(&bytes, 0..PIECE).await;
    honest.stored(0..1).await;
    assert!(content.entry.is_complete());
    node.shutdown().await.unwrap();
}

/// Who goes on with what it sent itself, on another lane, answers for all of it.
#[tokio::test]
async fn a_lie_in_two_parts_is_one_neighbours() {
    let node = Node::builder().start().await.unwrap();
    let all = lacking(&node);
    let lies = vec![0xee; PIECES as usize * PIECE];
    let mut liar = Rig::asked(&node, &all, 1).await;
    liar.send(&lies, 0..PART).await;
    liar.dies().await;
    let mut again = Rig::asked(&node, &all, 1).await;
    assert_eq!(again.skip as usize, PART);
    again.send(&lies, PART..PIECE).await;
    let refuted = again.next().await;
    assert!(matches!(refuted, Input::Refuted { host: HostKey(1), piece: 0, .. }), "{refuted:?}");
    // Nor is anything kept of it that the core has not heard of yet.
    again.ask(&all.1, 0, PIECES).await;
    again.send(&lies, 0..PART).await;
    again.dies().await;
    assert_eq!(node.parts().len(), 0);
    node.shutdown().await.unwrap();
}

/// Who is asked for the rest sends the rest: from its start again is not what was asked for.
#[tokio::test]
async fn the_rest_begins_where_it_was_asked_for() {
    let node = Node::builder().start().await.unwrap();
    let all = lacking(&node);
    let bytes = right();
    let mut first = Rig::asked(&node, &all, 1).await;
    first.send(&bytes, 0..PART).await;
    first.dies().await;
    let mut second = Rig::asked(&node, &all, 2).await;
    second.send(&bytes, 0..BLOCK).await;
    let down = second.told.recv().await.unwrap();
    let Event::Lane { event: LaneEvent::Down { blame: Some(why) }, .. } = down else { panic!("{down:?}") };
    assert!(why.contains("out of order"), "{why}");
    node.shutdown().await.unwrap();
}

/// Content that takes part no more has no parts, whatever still comes of it.
#[tokio::test]
async fn of_what_is_over_nothing_is_kept() {
    let node = Node::builder().start().await.unwrap();
    let all = lacking(&node);
    let mut first = Rig::asked(&node, &all, 1).await;
    first.send(&right(), 0..PART).await;
    all.0.remove(&all.1);
    first.dies().await;
    assert_eq!(node.parts().len(), 0);
    node.shutdown().await.unwrap();
}
