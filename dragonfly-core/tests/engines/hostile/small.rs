//! Members that hold small content and answer who asks for it: what they said is had without a piece being asked for, and what
//! is not so is refused and had elsewhere.

use std::sync::{Arc, Mutex};

use dragonfly_core::task::{Generation, TaskId, Validator, piece_length_for};
use dragonfly_core::trust::statement::{Attester, open_grant};
use dragonfly_core::wire::codec;
use dragonfly_core::wire::control::{Answer, Described, Join, TaskInfo, ToCoordinator, ToMember, Work};
use dragonfly_core::wire::lane::{Frame, Message, WHOLE_BYTES_MAX};
use dragonfly_core::wire::statement::{Evidence, Signed};
use dragonfly_core::{PeerId, Request};
use dragonfly_testkit::{Resource, content};
use tokio::task::JoinHandle;

use super::peer::{Hostile, Lane, Wire};
use super::{BOUND, granted, joining};
use crate::harness::{Network, SEED, logged, loopback, metric};

const LENGTH: u64 = 4000;

/// Files that are tried until the hostile member is asked for one: for the first there may be no lane to it yet.
const FILES: u64 = 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Harm {
    None,
    /// Other bytes than it signed.
    WrongBytes,
    /// More than there are.
    TooMany,
    /// More than any message may have.
    TooLong,
    /// What it shows is signed by nobody.
    Forged,
    /// What it shows is of another task.
    Foreign,
    /// It says nothing.
    Silent,
}

/// What it holds of a file, by its own word.
#[derive(Clone)]
struct Held {
    task: TaskId,
    generation: Generation,
    items: Vec<Evidence>,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Seen {
    held: Vec<Held>,
    /// What it was told on its lanes, by whom.
    heard: Vec<(PeerId, Frame)>,
}

struct Attack {
    harm: Harm,
    /// Whom it does harm to.
    victim: PeerId,
    seen: Mutex<Seen>,
}

impl Attack {
    async fn serve(self: Arc<Self>, peer: PeerId, mut lane: Lane) {
        while let Some(frame) = lane.hear().await {
            self.seen.lock().unwrap().heard.push((peer, frame.clone()));
            let Frame::Message(Message::Ask { task, generation, .. }) = frame else { continue };
            let (held, other) = {
                let seen = self.seen.lock().unwrap();
                let held = seen.held.iter().find(|held| (held.task, held.generation) == (task, generation)).cloned();
                (held.expect("what it was named for"), seen.held.first().cloned())
            };
            let harm = if peer == self.victim { self.harm } else { Harm::None };
            let (mut items, mut bytes) = (held.items, held.bytes);
            match harm {
                Harm::None => {}
                Harm::WrongBytes => bytes[7] ^= 1,
                Harm::TooMany => bytes.push(0),
                Harm::TooLong => {
                    let raw = too_long(task, generation);
                    let _ = lane.raw(&raw).await;
                    continue;
                }
                Harm::Forged => items = vec![Evidence::Attestation(Signed(content::bytes(5, 0, 300).to_vec()))],
                Harm::Foreign => items = other.map(|other| other.items).unwrap_or_default(),
                Harm::Silent => continue,
            }
            let _ = lane.say(&Frame::Message(Message::Whole { task, generation, items, bytes })).await;
        }
    }
}

/// An answer with more bytes than one may have, as it would travel.
fn too_long(task: TaskId, generation: Generation) -> Vec<u8> {
    let whole = Message::Whole { task, generation, items: Vec::new(), bytes: vec![1; WHOLE_BYTES_MAX + 1] };
    let body = minicbor::to_vec(&whole).unwrap();
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.push(codec::Kind::Lane.byte());
    frame.extend_from_slice(&body);
    frame
}

struct Scene {
    network: Network,
    hostile: Arc<Hostile>,
    attack: Arc<Attack>,
    session: Wire<ToMember>,
    lanes: JoinHandle<()>,
}

impl Scene {
    /// A member that will hold what it is told to, beside two honest ones; it does harm to the second of these.
    async fn of(harm: Harm) -> Self {
        let mut network = Network::start(0, false).await;
        let token = network.token();
        let hostile = Arc::new(Hostile::join(&token).await);
        // Of two that are as good as each other the one that came first is named first.
        let session = hostile.session(&network.scheduler.as_ref().unwrap().0).await;
        for number in 0..2 {
            let member = network.member(number, &token, loopback()).await;
            network.peers.push(member);
        }
        let attack = Arc::new(Attack { harm, victim: network.peers[1].node.peer_id(), seen: Mutex::default() });
        let (mut incoming, serving) = (hostile.take_lanes(), Arc::clone(&attack));
        let lanes = tokio::spawn(async move {
            while let Some(lane) = incoming.recv().await {
                tokio::spawn(Arc::clone(&serving).serve(lane.peer, Wire::over(lane.stream)));
            }
        });
        Self { network, hostile, attack, session, lanes }
    }

    /// It takes the lease on a file and says that it has it. The file's URL.
    async fn hold(&mut self, file: u64) -> String {
        let path = format!("/{file}");
        let url = self.network.serve(&path, Resource::seeded(SEED + file, LENGTH));
        let task = self.network.peers[0].peer.task_id(&Request::new(&url)).unwrap();
        let join = Join { may_lease: true, ..joining(TaskInfo { task, spec: None, fixed: false }) };
        self.session.say(&ToCoordinator::Join(join)).await.unwrap();
        let lease = granted(&mut self.session).await.lease;
        let answer = Answer::Content {
            length: LENGTH,
            piece_length: piece_length_for(LENGTH),
            validator: Some(Validator::Etag(format!("\"{:x}-{LENGTH:x}\"", SEED + file))),
            ranges: true,
            taking: 1,
            spooled: false,
        };
        let described = Described { task, lease, fresh_ms: Some(600_000), answer };
        self.session.say(&ToCoordinator::Described(described)).await.unwrap();
        let granted = granted(&mut self.session).await;
        let Work::Pieces { bundle, .. } = granted.work else { panic!("a lease on pieces") };
        let generation = open_grant(&bundle.grant).unwrap().0.generation;
        let bytes = content::bytes(SEED + file, 0, LENGTH as usize).to_vec();
        let value = *blake3::hash(&bytes).as_bytes();
        let attested = Attester::new(&bundle.grant).attest(&self.hostile.identity, 0, &[value]).unwrap();
        let items = vec![Evidence::Grant(bundle), Evidence::Attestation(attested)];
        self.attack.seen.lock().unwrap().held.push(Held { task, generation, items, bytes });
        self.session.say(&ToCoordinator::Done { task, lease: granted.lease }).await.unwrap();
        self.session.say(&ToCoordinator::Report { task, generation, eighths: 8 }).await.unwrap();
        url
    }

    async fn fetch(&self, member: usize, url: &str, file: u64) {
        let download = self.network.peers[member].peer.fetch(Request::new(url));
        let receipt = tokio::time::timeout(BOUND, download).await.expect("it comes in time").unwrap();
        assert_eq!(receipt.blake3.bytes(), content::blake3(SEED + file, LENGTH));
        assert_eq!(self.network.origin.body_bytes(&format!("/{file}")), 0, "the origin is not asked for what is held");
    }

    /// What it heard of a member.
    fn heard_of(&self, member: usize) -> Vec<Frame> {
        let peer = self.network.peers[member].node.peer_id();
        let seen = self.attack.seen.lock().unwrap();
        seen.heard.iter().filter(|(from, _)| *from == peer).map(|(_, frame)| frame.clone()).collect()
    }

    /// Has both fetch files until the second has asked it for one, and so had harm done to it.
    async fn play(&mut self) {
        let asks = |frames: &[Frame]| frames.iter().any(|f| matches!(f, Frame::Message(Message::Ask { .. })));
        for file in 0..FILES {
            let url = self.hold(file).await;
            self.fetch(0, &url, file).await;
            self.fetch(1, &url, file).await;
            if asks(&self.heard_of(1)) {
                return;
            }
        }
        panic!("it was never asked");
    }

    async fn stop(self) {
        self.lanes.abort();
        drop(self.session);
        self.hostile.host.clone().shutdown().await;
        self.network.stop().await;
    }
}

/// Exactly this is said for small content: one question, and its answer. The task is not opened, and no piece is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_question_and_nothing_more() {
    let mut scene = Scene::of(Harm::None).await;
    let first = scene.hold(0).await;
    // What is fetched before there is a lane may go another way.
    scene.fetch(0, &first, 0).await;
    let before = scene.heard_of(0).len();
    for file in 1..4 {
        let url = scene.hold(file).await;
        scene.fetch(0, &url, file).await;
    }
    let heard = scene.heard_of(0).split_off(before);
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert!(
        heard.iter().all(|frame| matches!(frame, Frame::Message(Message::Ask { length: LENGTH, .. }))),
        "{heard:?}"
    );
    scene.stop().await;
}

/// Lines that say of it that it is to blame.
fn blamed(scene: &Scene) -> Vec<String> {
    let lines = logged(&scene.hostile.identity.peer_id().to_string());
    lines.into_iter().filter(|line| line.contains("is to blame")).collect()
}

async fn is_blamed(harm: Harm, why: &str) {
    let mut scene = Scene::of(harm).await;
    scene.play().await;
    let lines = blamed(&scene);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(why), "{lines:?}");
    let victim = &scene.network.peers[1].node;
    assert_eq!(metric(victim, "dragonfly_neighbours_blamed_total"), 1);
    assert!(scene.hostile.is_shunned_by(victim).await);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_than_it_signed() {
    is_blamed(Harm::WrongBytes, "does not match its hash").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_bytes_than_there_are() {
    is_blamed(Harm::TooMany, "another length").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_bytes_than_any_answer_may_have() {
    is_blamed(Harm::TooLong, "malformed frame").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_that_nobody_signed() {
    is_blamed(Harm::Forged, "nobody signed").await;
}

/// What others believe differs for a while: that is no fault, and teaches nothing. It comes from who can show it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_of_another_task() {
    let mut scene = Scene::of(Harm::Foreign).await;
    let first = scene.hold(1000).await;
    scene.fetch(0, &first, 1000).await;
    scene.play().await;
    assert_eq!(blamed(&scene), Vec::<String>::new());
    assert!(metric(&scene.network.peers[1].node, "dragonfly_evidence_refused_total") > 0);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer() {
    let mut scene = Scene::of(Harm::Silent).await;
    let begun = tokio::time::Instant::now();
    scene.play().await;
    assert_eq!(blamed(&scene), Vec::<String>::new());
    println!("one that does not answer: {:?} for all", begun.elapsed());
    scene.stop().await;
}
