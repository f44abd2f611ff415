//! What one neighbour can have a lane hold and do, whatever it sends or does not take.

use tokio::time::Instant;

use super::*;
use crate::node::FRAME_MAX;
use crate::peer::engine::Engine;
use crate::peer::lane::COMMANDS_MAX;
use crate::peer::lane::writer::{PART_BYTES, SAID_BYTES_MAX};
use crate::wire::lane::{RejectReason, SLOTS_MAX};

/// What lies between the two ends takes in so much.
const BETWEEN: usize = 1 << 10;

/// A lane to a neighbour that a test plays.
struct Rig {
    commands: mpsc::Sender<LaneCommand>,
    told: mpsc::Receiver<Event>,
    there: DuplexStream,
    _stop: CancellationToken,
}

impl Rig {
    /// `queued`: what it finds in its queue.
    fn start(node: &Node, registry: &Registry, queued: Vec<LaneCommand>) -> Self {
        let (there, here) = tokio::io::duplex(BETWEEN);
        let (commands, queue) = mpsc::channel(queued.len().max(COMMANDS_MAX));
        for command in queued {
            commands.try_send(command).unwrap();
        }
        let (events, told) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let names = (HostKey(0), PeerId::from_public_key([7; 32]), LaneNumber(1));
        let ended = (queue, stop.clone());
        let own = (Arc::new(Checks::new()), Requests::default());
        tokio::spawn(run(node.clone(), names, own, registry.clone(), here, ended, events));
        Self { commands, told, there, _stop: stop }
    }
}

fn reject(request: usize) -> (LaneCommand, usize) {
    let (request, reason) = (request as u32, RejectReason::NotHeld);
    let mut frame = BytesMut::new();
    codec::encode(&Frame::Message(Message::Reject { request, reason }), &mut frame).unwrap();
    (LaneCommand::Reject { request, reason }, frame.len())
}

fn blamed(event: Event) -> String {
    match event {
        Event::Lane { event: LaneEvent::Down { blame: Some(why) }, .. } => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_neighbour_opens_so_many_tasks_and_no_more() {
    let node = Node::builder().start().await.unwrap();
    let (registry, content) = (Registry::default(), content(&node));
    registry.insert(&content);
    let mut rig = Rig::start(&node, &registry, Vec::new());
    let slots = SLOTS_MAX as u32;
    // Under one number again it is no more than before.
    for slot in (0..slots).chain([0, slots]) {
        let open = Message::Open {
            slot,
            task: content.task,
            generation: content.generation,
            length: content.layout.length(),
            piece_length: content.layout.piece_length(),
            wanted: true,
        };
        let mut frame = BytesMut::new();
        codec::encode(&Frame::Message(open), &mut frame).unwrap();
        rig.there.write_all(&frame).await.unwrap();
        let event = rig.told.recv().await.unwrap();
        if slot == slots {
            assert!(blamed(event).contains("too many tasks open"));
        } else {
            assert!(matches!(event, Event::Lane { event: LaneEvent::Opened { .. }, .. }), "{slot}: {event:?}");
        }
    }
    assert!(rig.told.recv().await.is_none(), "nothing of it is left");
    assert_eq!(Arc::strong_count(&content), 2, "by the registry alone");
    node.shutdown().await.unwrap();
}

/// Has `queued` said to a neighbour that reads nothing: how many of these were taken from the queue by the time that it was told off, and
/// when that was.
async fn said_to_one_that_reads_nothing(node: &Node, queued: Vec<LaneCommand>) -> (usize, Duration) {
    let (all, began) = (queued.len(), Instant::now());
    let mut rig = Rig::start(node, &Registry::default(), queued);
    let mut waiting = all;
    let why = loop {
        tokio::select! {
            biased;
            event = rig.told.recv() => break blamed(event.unwrap()),
            () = tokio::time::sleep(Duration::from_secs(1)) => {
                waiting = rig.commands.max_capacity() - rig.commands.capacity();
            }
        }
    };
    assert!(why.contains("took nothing of what it asked for"), "{why}");
    assert!(rig.told.recv().await.is_none() && rig.commands.is_closed(), "nothing of it is left");
    (all - waiting, began.elapsed())
}

#[tokio::test]
async fn a_neighbour_that_reads_nothing_has_little_said_and_is_told_off() {
    let node = Node::builder().start().await.unwrap();
    let content = content(&node);
    tokio::time::pause();
    let (command, one) = reject(1000);
    drop(command);
    // All of one length.
    let all = || (0..2 * SAID_BYTES_MAX / one).map(|number| reject(1000 + number % 1000).0);
    let in_time = FRAME_MAX..FRAME_MAX + Duration::from_secs(1);
    let (taken, after) = said_to_one_that_reads_nothing(&node, all().collect()).await;
    assert_eq!(taken, BETWEEN / one + 1, "each is sent before the next");
    assert!(in_time.contains(&after), "{after:?}");
    // Where it is being served messages go ahead of blocks, and several at once.
    let serve = LaneCommand::Serve { content, request: 0, piece: 0, skip: 0 };
    let (taken, after) = said_to_one_that_reads_nothing(&node, [serve].into_iter().chain(all()).collect()).await;
    assert_eq!(taken, 1 + SAID_BYTES_MAX.div_ceil(one), "no more than may be said before it is sent");
    assert!(in_time.contains(&after), "{after:?}");
    tokio::time::resume();
    node.shutdown().await.unwrap();
}

/// Each part of what is said has its time: a link that needs more than that for all of it takes something all the same.
#[tokio::test]
async fn a_slow_link_is_none_that_takes_nothing() {
    let node = Node::builder().start().await.unwrap();
    let content = content(&node);
    let serve = LaneCommand::Serve { content: Arc::clone(&content), request: 0, piece: 0, skip: 0 };
    let (mut queued, mut due) = (vec![serve], 0);
    while due < 3 * PART_BYTES {
        let (command, bytes) = reject(queued.len());
        queued.push(command);
        due += bytes;
    }
    let messages = queued.len() - 1;
    tokio::time::pause();
    let mut rig = Rig::start(&node, &Registry::default(), queued);
    // A part takes half of its time, and all of it one and a half.
    let began = Instant::now();
    let pause = FRAME_MAX / (2 * PART_BYTES / BETWEEN) as u32;
    let (mut decoder, mut buffer) = (FrameDecoder::<Frame>::new(), BytesMut::new());
    let (mut heard, mut served) = (0, 0);
    while served < PIECE.len() {
        while let Some(frame) = decoder.next(&mut buffer).unwrap() {
            match frame {
                Decoded::Message(Frame::Message(Message::Reject { .. })) => heard += 1,
                Decoded::Message(Frame::Block { bytes, .. }) => served += bytes.len(),
                other => panic!("{other:?}"),
            }
        }
        tokio::time::sleep(pause).await;
        let mut part = [0; BETWEEN];
        if served < PIECE.len() {
            let read = rig.there.read(&mut part).await.unwrap();
            assert_ne!(read, 0, "the lane ended after {:?}, {heard} messages and {served} bytes", began.elapsed());
            buffer.extend_from_slice(&part[..read]);
        }
    }
    assert_eq!((heard, served), (messages, PIECE.len()));
    assert!(began.elapsed() > FRAME_MAX * 3 / 2, "{:?}", began.elapsed());
    let sent = input(rig.told.recv().await.unwrap());
    assert!(matches!(sent, Input::Sent { request: 0, piece: 0, .. }), "{sent:?}");
    assert!(rig.told.try_recv().is_err(), "the lane goes on");
    tokio::time::resume();
    node.shutdown().await.unwrap();
}

/// What a neighbour opens may have gone, or have become this host's alone, since its lane looked: the answer is that to what is
/// unknown, and nothing keeps it.
#[tokio::test]
async fn what_is_gone_by_the_time_that_it_is_opened_is_answered_like_what_is_unknown() {
    let holder = Node::builder().listen("/ip4/127.0.0.1/tcp/0".parse().unwrap()).start().await.unwrap();
    let peer = Peer::builder(&holder).start().await.unwrap();
    let origin = Origin::start().await.unwrap();
    origin.set("/private", Resource::seeded(2, LENGTH).header("cache-control", "private"));
    let private = peer.fetch(Request::new(origin.url("/private"))).await.unwrap();
    let token = holder.token(TokenOptions::default()).unwrap();
    let other = Node::builder().join(token).start().await.unwrap();
    let addresses = holder.listeners().iter().map(crate::wire::Address::without_peer).collect();
    other.host().connect(holder.peer_id(), addresses).await.unwrap();
    let mut stream = other.host().open(holder.peer_id(), LANE_PROTOCOL).await.unwrap();
    let (mut decoder, mut buffer) = (FrameDecoder::<Frame>::new(), BytesMut::new());
    let mut closed = async |stream: &mut crate::net::Stream| {
        loop {
            if let Some(Decoded::Message(Frame::Message(message))) = decoder.next(&mut buffer).unwrap() {
                let Message::Close { slot: None, task, generation } = message else { panic!("{message:?}") };
                return (task, generation);
            }
            assert_ne!(stream.read_buf(&mut buffer).await.unwrap(), 0, "the lane ended");
        }
    };
    let gone = content(&holder);
    let open = Message::Open {
        slot: 7,
        task: gone.task,
        generation: gone.generation,
        length: gone.layout.length(),
        piece_length: gone.layout.piece_length(),
        wanted: true,
    };
    let mut frame = BytesMut::new();
    codec::encode(&Frame::Message(open), &mut frame).unwrap();
    stream.write_all(&frame).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(closed(&mut stream).await, (gone.task, gone.generation), "unknown, and the lane is there");
    let engine = Engine::of(&holder);
    let tell = async |event| {
        let (host, lane) = (HostKey(0), LaneNumber(1));
        engine.handled(Event::Lane { host, peer: other.peer_id(), lane, event }).await;
    };
    tell(LaneEvent::OpenedUnknown { task: private.task, generation: private.generation }).await;
    assert_eq!(closed(&mut stream).await, (private.task, private.generation));
    tell(LaneEvent::Opened { content: Arc::clone(&gone), wanted: true }).await;
    assert_eq!(closed(&mut stream).await, (gone.task, gone.generation));
    assert_eq!(engine.neighbour_infos().await.unwrap()[0].tasks, 0);
    assert_eq!(Arc::strong_count(&gone), 1, "nothing keeps it");
    peer.shutdown().await.unwrap();
    for node in [other, holder] {
        node.shutdown().await.unwrap();
    }
}
