//! Members that do harm: honest downloads finish, right; who is to blame is shunned; nothing grows without bound.

mod contradicting;
mod coordinators;
mod cost;
mod forged;
mod holders;
mod peer;
mod served;
mod slow;
mod small;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dragonfly_core::task::{Generation, Layout, PieceHash, PieceHasher, TaskId};
use dragonfly_core::trust::statement::{Attester, sign_grant};
use dragonfly_core::wire::control::{Current, Granted, Join, TaskInfo, ToCoordinator, ToMember};
use dragonfly_core::wire::lane::{Frame, Message, RejectReason, Run};
use dragonfly_core::wire::statement::{Evidence, Grant, GrantBundle, Signed};
use dragonfly_core::{ErrorKind, Event, Events, Node, Peer, Receipt, Request, TokenOptions};
use dragonfly_testkit::{Resource, content};
use futures::StreamExt;
use peer::{Hostile, Lane, Wire};
use tokio::sync::{Mutex, broadcast};

use crate::harness::{Network, SEED, digest, eventually, logged, metric};

const LENGTH: u64 = 6 << 20;

/// The origin is slow enough that a download meets everybody.
const ORIGIN_RATE: u64 = 3 << 20;

/// Honest downloads are over within this, whatever is done to them.
const BOUND: Duration = Duration::from_secs(90);

/// Requests that one host makes of one that does not have what it claims, until it asks it no more.
const ASKED_IN_VAIN_MAX: usize = 4 + dragonfly_core::wire::lane::REQUESTS_MAX;

/// Items of evidence in one message of the hostile peer: fewer than one may have.
const EVIDENCE_SAID: usize = 16;

/// How often a scene is played anew until the hostile peer is asked for something.
const SCENES_MAX: usize = 12;

/// What the hostile peer does on its lanes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Harm {
    /// Serves bytes that are not the piece's.
    WrongPiece,
    /// Serves more bytes than the piece has.
    TooLong,
    /// Serves another piece than was asked for.
    OutOfOrder,
    /// Sends pieces that nobody asked for.
    Unasked,
    /// Sends what is no frame at all.
    Garbage,
    /// Announces a frame of four gigabytes.
    AbsurdSize,
    /// Claims pieces that the task does not have.
    AbsurdRun,
    /// Begins to serve and says nothing more.
    SlowLoris,
    /// Serves a byte now and then.
    Drip,
    /// Ends the lane at each request.
    Vanish,
    /// Claims everything and refuses each request.
    FalseClaims,
    /// Shows evidence that nobody signed.
    ForgedEvidence,
    /// Shows evidence of another task, and its own grant to itself.
    ReplayedEvidence,
    /// Says as much as it can, and listens to nothing.
    Flood,
}

/// What it saw.
#[derive(Default)]
struct Seen {
    asked: AtomicUsize,
    ended: AtomicUsize,
}

struct Attack {
    harm: Harm,
    current: Current,
    hostile: Arc<Hostile>,
    seen: Arc<Seen>,
    /// Evidence that it heard on any lane: it passes it on, so that its claims count.
    heard: broadcast::Sender<Vec<Evidence>>,
    kept: Arc<Mutex<Vec<Evidence>>>,
}

impl Attack {
    /// Has it out on one lane, until the other end has enough. Where it does not claim anything it is given pieces.
    async fn run(self: Arc<Self>, mut lane: Lane, claims: bool) {
        let _ = self.play(&mut lane, claims).await;
        self.seen.ended.fetch_add(1, Ordering::Relaxed);
    }

    fn open(&self) -> Frame {
        Frame::Message(Message::Open {
            slot: 1,
            task: self.current.task,
            generation: self.current.generation,
            length: self.current.length,
            piece_length: self.current.piece_length,
            wanted: true,
        })
    }

    async fn play(&self, lane: &mut Lane, claims: bool) -> std::io::Result<()> {
        let mut heard = self.heard.subscribe();
        lane.say(&self.open()).await?;
        match self.harm {
            Harm::Garbage => lane.raw(&content::bytes(99, 0, 100_000)).await?,
            Harm::AbsurdSize => lane.raw(&[0xff, 0xff, 0xff, 0xff, 3, 0, 0, 0]).await?,
            Harm::AbsurdRun => {
                let runs = vec![Run { first: 60_000, count: 5000 }];
                lane.say(&Frame::Message(Message::Have { slot: 1, runs, complete: true })).await?;
            }
            Harm::ForgedEvidence => {
                let items = vec![Evidence::Attestation(Signed(content::bytes(5, 0, 300).to_vec()))];
                lane.say(&Frame::Message(Message::Evidence { slot: 1, items })).await?;
            }
            Harm::Unasked => lane.say(&block(77, 0, 0, 1000)).await?,
            Harm::Flood => return self.flood(lane).await,
            _ => {}
        }
        let known = self.kept.lock().await.clone();
        for items in known.chunks(EVIDENCE_SAID) {
            lane.say(&Frame::Message(Message::Evidence { slot: 1, items: items.to_vec() })).await?;
        }
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                frame = lane.hear() => match frame {
                    None => return Ok(()),
                    Some(Frame::Message(Message::Evidence { items, .. })) => {
                        let mut kept = self.kept.lock().await;
                        let fresh: Vec<_> = items.into_iter().filter(|item| !kept.contains(item)).collect();
                        kept.extend(fresh.iter().cloned());
                        drop(kept);
                        let _ = self.heard.send(fresh);
                    }
                    Some(Frame::Message(Message::Request { request, first, .. })) => {
                        self.seen.asked.fetch_add(1, Ordering::Relaxed);
                        if self.answer(lane, request, first).await? {
                            return Ok(());
                        }
                    }
                    Some(_) => {}
                },
                items = heard.recv() => if let Ok(items) = items && !items.is_empty() {
                    lane.say(&Frame::Message(Message::Evidence { slot: 1, items })).await?;
                },
                _ = ticks.tick(), if claims => self.claim(lane).await?,
            }
        }
    }

    /// Claims everything, and shows what else a liar would.
    async fn claim(&self, lane: &mut Lane) -> std::io::Result<()> {
        if self.harm == Harm::ReplayedEvidence {
            lane.say(&Frame::Message(Message::Evidence { slot: 1, items: self.replayed() })).await?;
        }
        let pieces = self.current.length.div_ceil(self.current.piece_length) as u32;
        let runs = vec![Run { first: 0, count: pieces }];
        lane.say(&Frame::Message(Message::Have { slot: 1, runs, complete: true })).await
    }

    /// Evidence of another task and generation that this very peer signed, in the right form.
    fn replayed(&self) -> Vec<Evidence> {
        let grant = Grant {
            version: 1,
            network: *self.hostile.membership.network_id(),
            tenant: "default".into(),
            task: TaskId::from_hash([1; 32]),
            generation: Generation::from_hash([2; 32]),
            length: self.current.length,
            piece_length: self.current.piece_length,
            first: 0,
            end: 4,
            holder: self.hostile.identity.peer_id(),
            epoch: u64::MAX,
        };
        let signed = sign_grant(&self.hostile.identity, &grant);
        let credential = self.hostile.membership.credential_bytes().to_vec();
        let attestation = Attester::new(&signed).attest(&self.hostile.identity, 0, &[[3; 32]; 4]).unwrap();
        let bundle = GrantBundle { grant: signed, grantor: credential.clone(), holder: credential };
        vec![Evidence::Grant(bundle), Evidence::Attestation(attestation)]
    }

    /// Answers a request as badly as it can; whether it ends the lane.
    async fn answer(&self, lane: &mut Lane, request: u32, first: u32) -> std::io::Result<bool> {
        let piece_length = self.current.piece_length as u32;
        let last = (self.current.length / self.current.piece_length) as u32;
        let length =
            if first == last { (self.current.length % self.current.piece_length) as u32 } else { piece_length };
        match self.harm {
            Harm::WrongPiece => {
                for offset in (0..length).step_by(64 << 10) {
                    lane.say(&block(request, first, offset, (length - offset).min(64 << 10))).await?;
                }
            }
            Harm::TooLong => {
                for offset in (0..length + 1).step_by(64 << 10) {
                    lane.say(&block(request, first, offset, 64 << 10)).await?;
                }
            }
            Harm::OutOfOrder => lane.say(&block(request, first + 1, 0, 1000)).await?,
            Harm::SlowLoris => lane.raw(&[0, 0, 64, 0, 4, 0]).await?,
            Harm::Drip => {
                for offset in 0..length {
                    lane.say(&block(request, first, offset, 1)).await?;
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
            Harm::Vanish => return Ok(true),
            Harm::FalseClaims => {
                lane.say(&Frame::Message(Message::Reject { request, reason: RejectReason::NotHeld })).await?;
                self.claim(lane).await?;
            }
            _ => {}
        }
        Ok(false)
    }

    /// Asks for everything again and again, claims and cancels, and reads nothing of what comes of it.
    async fn flood(&self, lane: &mut Lane) -> std::io::Result<()> {
        for request in 0..200_000 {
            self.claim(lane).await?;
            lane.say(&Frame::Message(Message::Cancel { request })).await?;
            let values = vec![0; 32 * 64];
            lane.say(&Frame::Message(Message::Request { slot: 1, request, first: 0, skip: 0, values })).await?;
        }
        Ok(())
    }
}

fn block(request: u32, piece: u32, offset: u32, length: u32) -> Frame {
    Frame::Block { request, piece, offset, bytes: content::bytes(41, u64::from(offset), length as usize) }
}

/// A network under attack.
struct Scene {
    network: Network,
    hostile: Arc<Hostile>,
    attack: Arc<Attack>,
    receipts: Vec<Receipt>,
    /// Refuted pieces that the downloads' events told of.
    told: u32,
}

/// Three honest peers and a seed fetch while a member does `harm` on a lane to each of them. Each of them has the
/// content, and has it right.
async fn under(harm: Harm) -> Scene {
    watched(harm, None).await
}

/// The same, and notes the most that any of them held meanwhile.
async fn watched(harm: Harm, most: Option<Most>) -> Scene {
    let network = Network::start(3, true).await;
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH).rate(ORIGIN_RATE));
    let request = Request::new(&url);
    let hostile = Arc::new(Hostile::join(&network.token()).await);
    let downloads = network.begin_all(&request);
    let telling: Vec<_> = downloads.iter().map(|download| tokio::spawn(last_refuted(download.events()))).collect();
    let task = network.peers[0].peer.task_id(&request).unwrap();
    let scheduler = network.scheduler.as_ref().unwrap().0.clone();
    let mut session = hostile.session(&scheduler).await;
    let current = current(&mut session, task).await;
    let nodes = network.peers.iter().map(|member| member.node.clone()).chain([scheduler.clone()]).collect();
    let watching = most.map(|most| tokio::spawn(watch(nodes, most)));
    let attack = Arc::new(Attack {
        harm,
        current,
        hostile: Arc::clone(&hostile),
        seen: Arc::default(),
        heard: broadcast::channel(1024).0,
        kept: Arc::default(),
    });
    let lanes = network.peers.iter().map(|member| (&member.node, true)).chain([(&scheduler, false)]);
    for (node, claims) in lanes {
        if let Some(lane) = hostile.lane(node).await {
            tokio::spawn(Arc::clone(&attack).run(lane, claims));
        }
    }
    // Of two lanes between two hosts one stays, and it may be theirs.
    let (mut incoming, theirs) = (hostile.take_lanes(), Arc::clone(&attack));
    tokio::spawn(async move {
        while let Some(lane) = incoming.recv().await {
            let claims = lane.peer != scheduler.peer_id();
            tokio::spawn(Arc::clone(&theirs).run(Wire::over(lane.stream), claims));
        }
    });
    let outcomes = tokio::time::timeout(BOUND, futures::future::join_all(downloads)).await;
    let mut receipts = Vec::new();
    for outcome in outcomes.unwrap_or_else(|_| panic!("{harm:?}: honest downloads do not finish")) {
        let receipt = outcome.unwrap_or_else(|error| panic!("{harm:?}: {error:?}"));
        assert_eq!((receipt.length, receipt.blake3.bytes()), (LENGTH, &content::blake3(SEED, LENGTH)[..]), "{harm:?}");
        receipts.push(receipt);
    }
    network.all_have(LENGTH);
    if let Some(watching) = watching {
        watching.abort();
    }
    // What was under way to the hostile peer may be fetched again, no more.
    let origin = network.origin.body_bytes("/file");
    assert!(origin <= LENGTH * 3 / 2, "{harm:?}: {origin} bytes left the origin");
    drop(session);
    let mut told = 0;
    for refuted in telling {
        told += refuted.await.unwrap();
    }
    Scene { network, hostile, attack, receipts, told }
}

/// How many pieces were refuted, by the last word of a download's events.
async fn last_refuted(mut events: Events) -> u32 {
    let mut last = 0;
    while let Some(event) = events.next().await {
        if let Event::Trouble { refuted, .. } = event {
            last = refuted;
        }
    }
    last
}

/// How a member joins that wants the content and no leases.
fn joining(info: TaskInfo) -> Join {
    Join {
        info,
        held: None,
        wanted: true,
        may_lease: false,
        age_max_ms: None,
        stale_ok: false,
        priority: 3,
        earlier: None,
    }
}

/// Joins the task without leases and waits for what is current.
async fn current(session: &mut Wire<ToMember>, task: TaskId) -> Current {
    let join = joining(TaskInfo { task, spec: None, fixed: false });
    eventually("what is current", async || {
        session.say(&ToCoordinator::Join(join.clone())).await.unwrap();
        loop {
            match session.hear().await.expect("the session lasts") {
                ToMember::Current(current) => return Some(current),
                // It was quicker than all who may ask the origin.
                ToMember::Failed { failure, .. } if failure.temporary => return None,
                ToMember::Failed { failure, .. } => panic!("{failure:?}"),
                _ => {}
            }
        }
    })
    .await
}

impl Scene {
    fn nodes(&self) -> Vec<Node> {
        let peers = self.network.peers.iter().map(|member| member.node.clone());
        peers.chain(self.network.scheduler.iter().map(|(node, _)| node.clone())).collect()
    }

    fn sum(&self, name: &str) -> u64 {
        self.nodes().iter().map(|node| metric(node, name)).sum()
    }

    /// At least one host has blamed it, and those that did open nothing for it any more.
    async fn assert_blamed(&self) {
        let blamed = eventually(&format!("somebody blames it for {:?}", self.attack.harm), async || {
            let nodes = self.nodes();
            let blamed: Vec<Node> =
                nodes.into_iter().filter(|node| metric(node, "dragonfly_neighbours_blamed_total") > 0).collect();
            (!blamed.is_empty()).then_some(blamed)
        })
        .await;
        // The logs of all nodes are of one process: each that blames it says so once.
        let culprit = self.hostile.identity.peer_id().to_string();
        eventually(&format!("a line for each that blames it for {:?}, and no more", self.attack.harm), async || {
            let lines = logged(&culprit).into_iter().filter(|line| line.contains("is to blame")).count();
            (lines as u64 == self.sum("dragonfly_neighbours_blamed_total")).then_some(())
        })
        .await;
        for node in blamed {
            assert!(self.hostile.is_shunned_by(&node).await, "{:?}", self.attack.harm);
            assert_eq!(metric(&node, "dragonfly_neighbours_blamed_total"), 1, "once: it was not asked again");
        }
    }

    async fn stop(self) {
        self.hostile.host.clone().shutdown().await;
        self.network.stop().await;
    }
}

/// A scene in which the hostile peer was asked for pieces: whom the honest ask is drawn.
async fn asked_under(harm: Harm) -> Scene {
    for _ in 0..SCENES_MAX {
        let scene = under(harm).await;
        if scene.attack.seen.asked.load(Ordering::Relaxed) > 0 {
            return scene;
        }
        scene.stop().await;
    }
    panic!("{harm:?}: it was never asked for a piece");
}

/// Harms that only a hostile or a broken peer does: it is blamed.
async fn is_blamed_for(harm: Harm) {
    let scene = match harm {
        Harm::TooLong | Harm::OutOfOrder => asked_under(harm).await,
        _ => under(harm).await,
    };
    scene.assert_blamed().await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_pieces() {
    let scene = asked_under(Harm::WrongPiece).await;
    scene.assert_blamed().await;
    let refuted = scene.sum("dragonfly_pieces_refuted_total");
    assert!(refuted > 0);
    // Who waits for the content is told, too; a host may refute a piece of content that nobody waits for there.
    assert!((1..=refuted).contains(&u64::from(scene.told)), "{} of {refuted}", scene.told);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_of_a_wrong_length() {
    is_blamed_for(Harm::TooLong).await;
    is_blamed_for(Harm::OutOfOrder).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_nobody_asked_for() {
    is_blamed_for(Harm::Unasked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_absurd_sizes() {
    is_blamed_for(Harm::Garbage).await;
    is_blamed_for(Harm::AbsurdSize).await;
    is_blamed_for(Harm::AbsurdRun).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_evidence() {
    is_blamed_for(Harm::ForgedEvidence).await;
}

/// One of several holders that sends next to nothing: the others have it, and nobody is told off for what it took.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_lorises() {
    for harm in [Harm::SlowLoris, Harm::Drip] {
        let scene = asked_under(harm).await;
        let lines = logged(&scene.hostile.identity.peer_id().to_string());
        assert!(!lines.iter().any(|line| line.contains("took nothing")), "{harm:?}: {lines:?}");
        scene.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vanishing_and_false_claims() {
    for harm in [Harm::Vanish, Harm::FalseClaims] {
        let scene = asked_under(harm).await;
        // Neither proves ill will.
        assert_eq!(scene.sum("dragonfly_neighbours_blamed_total"), 0, "{harm:?}");
        if harm == Harm::FalseClaims {
            // It claims anew as often as it is refused; each host asks it for some pieces at a time, and soon no more.
            let asked = scene.attack.seen.asked.load(Ordering::Relaxed);
            let hosts = scene.nodes().len();
            assert!(asked <= hosts * ASKED_IN_VAIN_MAX, "asked {asked} times by {hosts} hosts");
            let told = logged(&scene.hostile.identity.peer_id().to_string());
            let told = told.iter().filter(|line| line.contains("does not have what it says it has")).count();
            assert_eq!(told as u64, scene.sum("dragonfly_claims_unkept_total"), "one line each time");
        }
        scene.stop().await;
    }
}

/// Evidence of other tasks, and grants that it gave itself, change nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_evidence() {
    let scene = under(Harm::ReplayedEvidence).await;
    assert!(scene.receipts.iter().all(|receipt| receipt.bytes_from_peers == LENGTH));
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods() {
    let most = Arc::new(Mutex::new(BTreeMap::new()));
    let scene = watched(Harm::Flood, Some(Arc::clone(&most))).await;
    let most = most.lock().await;
    assert!(most[HELD[0].0] > 0, "it was looked: {most:?}");
    for (used, limit) in HELD {
        let limit = metric(&scene.network.peers[0].node, limit);
        assert!(most[used] <= limit, "{used}: {} of {limit}", most[used]);
    }
    // Who says that much and listens to nothing is cut off in the end.
    let (seen, all) = (&scene.attack.seen, scene.nodes().len());
    let over = eventually("its lanes are over", async || {
        let ended = seen.ended.load(Ordering::Relaxed);
        (ended >= all).then_some(ended)
    });
    println!("{} lanes of {all} hosts are over", over.await);
    scene.stop().await;
}

/// What a host holds of what others say and send, and its bounds.
const HELD: [(&str, &str); 5] = [
    ("dragonfly_lanes", "dragonfly_lanes_limit"),
    ("dragonfly_lane_commands", "dragonfly_lane_commands_limit"),
    ("dragonfly_in_flight_bytes", "dragonfly_in_flight_bytes_limit"),
    ("dragonfly_write_waiting_bytes", "dragonfly_write_waiting_bytes_limit"),
    ("dragonfly_hosts_known", "dragonfly_hosts_known_limit"),
];

/// Notes the most that any of these nodes holds, until it is dropped.
async fn watch(nodes: Vec<Node>, most: Most) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        let mut most = most.lock().await;
        for (name, _) in HELD {
            let now = nodes.iter().map(|node| metric(node, name)).max().unwrap_or(0);
            let seen = most.entry(name).or_insert(0);
            *seen = now.max(*seen);
        }
    }
}

type Most = Arc<Mutex<BTreeMap<&'static str, u64>>>;

/// A member floods the coordinator with tasks, lies about what it holds, and asks for everything: bounded, and the
/// honest are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_the_coordinator() {
    let network = Network::start(2, true).await;
    let (node, scheduler) = network.scheduler.as_ref().unwrap();
    let hostile = Hostile::join(&network.token()).await;
    let mut session = hostile.session(node).await;
    for number in 0..20_000_u32 {
        let mut id = [9; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let join = Join {
            info: TaskInfo { task: TaskId::from_hash(id), spec: None, fixed: number % 2 == 0 },
            held: None,
            wanted: true,
            may_lease: true,
            age_max_ms: Some(0),
            stale_ok: false,
            priority: 7,
            earlier: None,
        };
        // It may be cut off for not listening.
        if session.say(&ToCoordinator::Join(join)).await.is_err() {
            break;
        }
        let ask = ToCoordinator::AskNeighbours { task: TaskId::from_hash(id), lacking: true, starved_ms: None };
        if session.say(&ask).await.is_err() {
            break;
        }
    }
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    network.fetch_all(&url, LENGTH).await;
    assert_eq!(network.origin.body_bytes("/file"), LENGTH);
    let snapshot = scheduler.snapshot().await.unwrap();
    // It came to something, and no further than a host may go. Once it is cut off it takes part in nothing.
    assert!(metric(node, "dragonfly_coordinator_joins_total") >= 100);
    assert!(snapshot.tasks.len() <= 4097, "{}", snapshot.tasks.len());
    hostile.host.shutdown().await;
    network.stop().await;
}

/// The value of a piece of the content of [`SEED`].
fn value(layout: &Layout, piece: u32) -> PieceHash {
    let mut hasher = PieceHasher::new(piece, layout.piece_length());
    let length = layout.length_of(piece).unwrap();
    hasher.update(&content::bytes(SEED, layout.offset(piece), length as usize)).unwrap();
    hasher.finish(layout, piece).unwrap()
}

/// The next lease that is granted.
async fn granted(session: &mut Wire<ToMember>) -> Granted {
    loop {
        if let ToMember::Granted(granted) = session.hear().await.expect("the session lasts") {
            return granted;
        }
    }
}

/// Whoever is of another network, or of none, gets no stream and is told nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers() {
    let network = Network::start(2, true).await;
    let other = Network::start(0, false).await;
    let stranger = Hostile::join(&other.token()).await;
    for node in network.peers.iter().map(|member| &member.node) {
        assert!(stranger.lane(node).await.is_none());
        assert!(!stranger.host.is_connected(node.peer_id()));
    }
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    network.fetch_all(&url, LENGTH).await;
    stranger.host.shutdown().await;
    other.stop().await;
    network.stop().await;
}

/// A protocol that this version does not speak is not opened; the connection is of use for what it does speak.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_versions() {
    let network = Network::start(2, true).await;
    let hostile = Hostile::join(&network.token()).await;
    let node = &network.peers[0].node;
    let mut lane = hostile.lane(node).await.unwrap();
    let addressed = node.peer_id();
    for protocol in ["/dragonfly/lane/2", "/dragonfly/control/0", "/ipfs/id/1.0.0"] {
        let mut stream = Wire::<Frame>::over(hostile.host.open(addressed, protocol).await.unwrap());
        let _ = stream.raw(&[0; 5]).await;
        assert!(stream.hear().await.is_none(), "{protocol}");
    }
    // A message of a later version that may be ignored is, and the lane goes on.
    let mut ignorable = vec![0, 0, 0, 4, 3];
    ignorable.extend_from_slice(&[0x82, 0x18, 0xc8, 0x80]);
    lane.raw(&ignorable).await.unwrap();
    let close = Message::Open {
        slot: 1,
        task: TaskId::from_hash([1; 32]),
        generation: Generation::from_hash([2; 32]),
        length: 1,
        piece_length: 64 << 10,
        wanted: true,
    };
    lane.say(&Frame::Message(close)).await.unwrap();
    assert!(matches!(lane.hear().await, Some(Frame::Message(Message::Close { .. }))), "the lane goes on");
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    network.fetch_all(&url, LENGTH).await;
    assert_eq!(network.origin.body_bytes("/file"), LENGTH);
    assert_eq!(metric(node, "dragonfly_neighbours_blamed_total"), 0);
    hostile.host.shutdown().await;
    network.stop().await;
}

/// A member fetches for the others and lies about the content. Who knows a digest is not fooled: the origin is asked,
/// the file is right, and the liar is blamed. Without a seed and a digest the word of members counts, as is documented.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_who_fetches_for_others() {
    let network = Network::start(1, false).await;
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    // What the liar takes for the origin.
    let false_origin = dragonfly_testkit::Origin::start().await.unwrap();
    false_origin
        .set("/file", Resource::seeded(SEED + 1, LENGTH).etag(format!("\"{SEED:x}-{LENGTH:x}\"")).rate(1 << 20));
    let token = network.scheduler.as_ref().unwrap().0.token(TokenOptions::default()).unwrap();
    let liar = network
        .builder(9, &token, crate::harness::loopback())
        .source(Arc::new(Misled { to: false_origin.url("/file") }))
        .start()
        .await
        .unwrap();
    let liar_peer = Peer::builder(&liar).start().await.unwrap();
    let request = || Request::new(&url).digest(digest(SEED, LENGTH));
    let lied = liar_peer.fetch(request());
    let task = liar_peer.task_id(&request()).unwrap();
    eventually("the liar holds some of its false content", async || {
        let held = liar_peer.stat(task).await.unwrap();
        held.iter().any(|held| held.bytes_held > 0).then_some(())
    })
    .await;
    let honest = &network.peers[0];
    for download in network.begin_all(&request()) {
        assert_eq!(download.await.unwrap().blake3.bytes(), content::blake3(SEED, LENGTH));
    }
    network.all_have(LENGTH);
    assert_eq!(metric(&honest.node, "dragonfly_neighbours_blamed_total"), 1, "the liar");
    let lines = logged(&liar.peer_id().to_string());
    let blamed: Vec<_> = lines.iter().filter(|line| line.contains("is to blame")).collect();
    assert!(blamed.len() == 1 && blamed[0].contains("is not what the origin sends"), "{lines:?}");
    assert_eq!(lied.await.unwrap_err().kind(), ErrorKind::DigestMismatch);
    liar_peer.shutdown().await.unwrap();
    liar.shutdown().await.unwrap();
    network.stop().await;
}

/// A source that goes to another place than it was told.
#[derive(Debug)]
struct Misled {
    to: String,
}

impl dragonfly_core::source::Source for Misled {
    fn schemes(&self) -> &[&str] {
        &["http"]
    }

    fn open<'a>(
        &'a self,
        mut request: dragonfly_core::source::OpenRequest,
    ) -> futures::future::BoxFuture<'a, Result<dragonfly_core::source::Opened, dragonfly_core::source::SourceError>>
    {
        use dragonfly_core::source::{Guard, HttpConfig, HttpSource};
        request.url = self.to.parse().unwrap();
        request.local = true;
        let to = HttpSource::new(Guard::default(), HttpConfig::default());
        Box::pin(async move { to.open(request).await })
    }
}

/// The user's digest is wrong: everybody is honest, the one error says so, and nobody is blamed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_digest_blames_nobody() {
    let network = Network::start(2, true).await;
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    let request = Request::new(&url).digest(digest(SEED + 1, LENGTH));
    let error = network.peers[0].peer.fetch(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch, "{error:?}");
    for member in &network.peers {
        assert_eq!(metric(&member.node, "dragonfly_neighbours_blamed_total"), 0);
    }
    network.fetch_all(&url, LENGTH).await;
    network.stop().await;
}
