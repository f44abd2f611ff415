//! Lanes without encryption: what goes out by `sendfile`, what becomes of a file that is short, and what neither end is blamed for.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::Carries;
use super::*;
use crate::net::{Direct, Stream};
use crate::wire::lane::{BLOCK_BYTES_MAX, RejectReason};

/// One piece after the other.
const LENGTH: u64 = 6 << 20;

/// A node with content in a file, and a lane without encryption to another node, which a test plays.
struct Rig {
    holder: Node,
    other: Node,
    content: Arc<Content>,
    bytes: Vec<u8>,
    commands: mpsc::Sender<LaneCommand>,
    told: mpsc::Receiver<Event>,
    there: Stream,
    dir: tempfile::TempDir,
    _stop: CancellationToken,
}

impl Rig {
    async fn start() -> Self {
        Self::over(|stream| stream).await
    }

    async fn over<S: Carries>(wrapped: impl FnOnce(Stream) -> S) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let builder = Node::builder().data_dir(dir.path()).listen("/ip4/127.0.0.1/tcp/0".parse().unwrap());
        let holder = builder.plain_lanes(true).start().await.unwrap();
        let token = holder.token(TokenOptions::default()).unwrap();
        let other = Node::builder().join(token).plain_lanes(true).start().await.unwrap();
        let there = other.host().lane(holder.peer_id(), &holder.lane_listeners()).await.unwrap();
        let here = wrapped(holder.next_lane().await.unwrap().stream);
        let (content, bytes) = long_content(&holder);
        let registry = Registry::default();
        registry.insert(&content);
        let (commands, queue) = mpsc::channel(256);
        let (events, told) = mpsc::channel(512);
        let stop = CancellationToken::new();
        let names = (HostKey(0), other.peer_id(), LaneNumber(1));
        let (own, ended) = ((Arc::new(Checks::new()), Requests::default()), (queue, stop.clone()));
        tokio::spawn(run(holder.clone(), names, own, registry, here, ended, events));
        Self { holder, other, content, bytes, commands, told, there, dir, _stop: stop }
    }

    async fn serve(&self, piece: u32, skip: u32) {
        let content = Arc::clone(&self.content);
        self.commands.send(LaneCommand::Serve { content, request: piece, piece, skip }).await.unwrap();
    }

    /// Where the store has the content.
    fn file(&self) -> PathBuf {
        let mut places = vec![self.dir.path().to_owned()];
        while let Some(place) = places.pop() {
            for entry in std::fs::read_dir(place).unwrap().map(Result::unwrap) {
                match entry.metadata().unwrap() {
                    found if found.is_dir() => places.push(entry.path()),
                    found if found.len() == LENGTH => return entry.path(),
                    _ => {}
                }
            }
        }
        panic!("there is no such file")
    }

    /// The next frame that comes, in so much of it as there is if the lane ends.
    async fn frame(&mut self, (decoder, buffer): (&mut FrameDecoder<Frame>, &mut BytesMut)) -> Option<Frame> {
        let read = async {
            loop {
                if let Some(Decoded::Message(frame)) = decoder.next(buffer).unwrap() {
                    return Some(frame);
                }
                if self.there.read_buf(buffer).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), read).await.unwrap()
    }

    /// Asks for all pieces, which share the lane by blocks, and awaits their bytes.
    async fn serves_all(&mut self) {
        let (mut decoder, mut buffer) = (FrameDecoder::new(), BytesMut::new());
        let layout = self.content.layout;
        for piece in 0..layout.pieces() {
            self.serve(piece, 0).await;
        }
        let (mut came, mut left) = (vec![0; LENGTH as usize], LENGTH as usize);
        while left > 0 {
            let Some(Frame::Block { piece, offset, bytes, .. }) = self.frame((&mut decoder, &mut buffer)).await else {
                panic!("the lane ended")
            };
            let start = layout.offset(piece) as usize + offset as usize;
            came[start..start + bytes.len()].copy_from_slice(&bytes);
            left -= bytes.len();
        }
        assert!(came == self.bytes, "other bytes came");
    }

    async fn told(&mut self) -> Option<Event> {
        tokio::time::timeout(Duration::from_secs(60), self.told.recv()).await.unwrap()
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.holder.metrics_text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().parse().unwrap()
    }

    async fn end(self) {
        drop((self.there, self.content));
        self.other.shutdown().await.unwrap();
        self.holder.shutdown().await.unwrap();
    }
}

/// Content of several pieces, all of them held.
fn long_content(node: &Node) -> (Arc<Content>, Vec<u8>) {
    let layout = Layout::new(LENGTH, LENGTH / 3).unwrap();
    let bytes: Vec<u8> = (0..LENGTH as u32).map(|n| (n ^ (n >> 9) ^ (n >> 17)) as u8).collect();
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
    for piece in 0..layout.pieces() {
        let range = layout.range_of(piece).unwrap();
        // What is served is not proven once more: any value does.
        entry.write_piece(piece, &bytes[range.start as usize..range.end as usize], &[7; 32]).unwrap();
    }
    (Arc::new(content_of(node, TaskKey(1), entry, &current, &scope).unwrap()), bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_in_a_file_goes_from_there_to_the_socket() {
    let mut rig = Rig::start().await;
    rig.serves_all().await;
    for _ in 0..rig.content.layout.pieces() {
        let sent = input(rig.told().await.unwrap());
        assert!(matches!(sent, Input::Sent { .. }), "{sent:?}");
    }
    let direct = if cfg!(target_os = "linux") { LENGTH } else { 0 };
    assert_eq!(rig.metric("dragonfly_peer_sent_direct_bytes_total"), direct);
    assert_eq!(rig.metric("dragonfly_peer_sent_bytes_total"), LENGTH);
    rig.end().await;
}

/// A lane where no file can be sent to the socket by the kernel.
struct Sandboxed(Stream);

impl Carries for Sandboxed {
    fn is_plain(&self) -> bool {
        self.0.is_plain()
    }

    fn direct(&self) -> Option<Direct> {
        Carries::direct(&self.0).map(Direct::failing)
    }
}

impl AsyncRead for Sandboxed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Sandboxed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_files_cannot_be_sent_so_they_are_read() {
    let mut rig = Rig::over(Sandboxed).await;
    rig.serves_all().await;
    assert_eq!(rig.metric("dragonfly_peer_sent_direct_bytes_total"), 0);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_short_is_told_before_a_block_of_it_is_begun() {
    let mut rig = Rig::start().await;
    let (mut decoder, mut buffer) = (FrameDecoder::new(), BytesMut::new());
    let last = rig.content.layout.pieces() - 1;
    let file = std::fs::OpenOptions::new().write(true).open(rig.file()).unwrap();
    file.set_len(LENGTH - 1).unwrap();
    rig.serve(last, (LENGTH / 3) as u32 - BLOCK_BYTES_MAX as u32).await;
    let unreadable = rig.told().await.unwrap();
    assert!(matches!(unreadable, Event::Lane { event: LaneEvent::Unreadable { .. }, .. }), "{unreadable:?}");
    let frame = rig.frame((&mut decoder, &mut buffer)).await;
    assert!(
        matches!(frame, Some(Frame::Message(Message::Reject { reason: RejectReason::Unreadable, .. }))),
        "{frame:?}"
    );
    assert!(rig.content.entry.needs_proof(), "it is proven before any more of it is served");
    rig.end().await;
}

/// The header of the block is out by then: the lane ends, and nobody is to blame.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_gets_shorter_in_mid_block() {
    let mut rig = Rig::start().await;
    let (mut decoder, mut buffer) = (FrameDecoder::new(), BytesMut::new());
    // Each is made sure of by the mebibyte, and never two of them end at once: at any time a block is to go out of which the
    // kernel was asked for the bytes before the file got shorter. Nobody reads, so that the socket does not take all.
    for piece in 0..rig.content.layout.pieces() {
        rig.serve(piece, piece * 5 * BLOCK_BYTES_MAX as u32).await;
    }
    let Some(Frame::Block { .. }) = rig.frame((&mut decoder, &mut buffer)).await else { panic!("no block") };
    std::fs::OpenOptions::new().write(true).open(rig.file()).unwrap().set_len(0).unwrap();
    while rig.frame((&mut decoder, &mut buffer)).await.is_some() {}
    let (mut unreadable, mut down) = (0, None);
    while let Some(event) = rig.told().await {
        match event {
            Event::Lane { event: LaneEvent::Unreadable { .. }, .. } => unreadable += 1,
            Event::Lane { event: LaneEvent::Down { blame }, .. } => down = Some(blame),
            _ => {}
        }
    }
    assert!(unreadable > 0);
    assert_eq!(down, Some(None), "it has ended, and nobody is to blame");
    assert_eq!(rig.metric("dragonfly_plain_lanes_spoilt_total"), 0);
    rig.end().await;
}

/// Anybody on the way may have said it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_neighbour_says_ends_the_lane_and_the_next_is_encrypted() {
    let mut rig = Rig::start().await;
    let task = rig.content.task;
    let answer =
        Message::Whole { task, generation: rig.content.generation, items: Vec::new(), bytes: b"unasked".to_vec() };
    let mut frame = BytesMut::new();
    codec::encode(&Frame::Message(answer), &mut frame).unwrap();
    rig.there.write_all(&frame).await.unwrap();
    let down = rig.told().await.unwrap();
    assert!(matches!(down, Event::Lane { event: LaneEvent::Down { blame: None }, .. }), "{down:?}");
    assert_eq!(rig.metric("dragonfly_plain_lanes_spoilt_total"), 1);
    let holder = &rig.holder;
    let next = rig.other.host().lane(holder.peer_id(), &holder.lane_listeners()).await.unwrap();
    assert_eq!(next.carrier(), crate::net::Carrier::Lane);
    rig.end().await;
}
