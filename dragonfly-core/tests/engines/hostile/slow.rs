//! Members that say something, and so slowly that it is of no use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dragonfly_core::task::{Layout, PieceHash, PieceHasher, Validator};
use dragonfly_core::trust::statement::Attester;
use dragonfly_core::wire::control::{Answer, Described, Join, TaskInfo, ToCoordinator, Work};
use dragonfly_core::wire::lane::{Frame, Message, Run};
use dragonfly_core::wire::statement::{ATTESTED_PIECES_MAX, Evidence};
use dragonfly_core::{PeerId, Request};
use dragonfly_testkit::{Resource, content};
use futures::future::join_all;

use super::peer::{Hostile, Lane, Wire};
use super::{BOUND, LENGTH, granted, joining};
use crate::harness::{Network, SEED, logged, metric};

const STALLED: &str = "dragonfly_neighbours_stalled_total";

/// What is cut off for its silence is so after half a minute.
const SILENCE_BOUND: Duration = Duration::from_secs(120);

/// What a member says that holds everything: the truth.
struct Holder {
    open: Message,
    evidence: Vec<Evidence>,
    pieces: u32,
    asked: AtomicUsize,
}

impl Holder {
    /// Says what it has on a lane, and serves the head of a block of it, and nothing more.
    async fn serve(self: Arc<Self>, mut lane: Lane) -> std::io::Result<()> {
        self.offer(&mut lane).await?;
        while let Some(frame) = lane.hear().await {
            match frame {
                // It did not know the content when it was offered.
                Frame::Message(Message::Open { .. }) => self.offer(&mut lane).await?,
                Frame::Message(Message::Request { .. }) => {
                    self.asked.fetch_add(1, Ordering::Relaxed);
                    lane.raw(&[0, 0, 64, 0, 4, 0]).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn offer(&self, lane: &mut Lane) -> std::io::Result<()> {
        lane.say(&Frame::Message(self.open.clone())).await?;
        lane.say(&Frame::Message(Message::Evidence { slot: 1, items: self.evidence.clone() })).await?;
        let runs = vec![Run { first: 0, count: self.pieces }];
        lane.say(&Frame::Message(Message::Have { slot: 1, runs, complete: true })).await
    }
}

/// The only one who holds the content, truly, and serves it at a pace that is of no use: it counts as stalled, which is
/// told and counted, and the others fetch the content once between them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sole_holder_that_is_of_no_use_counts_as_stalled() {
    let network = Network::start(2, false).await;
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    let request = Request::new(&url);
    let task = network.peers[0].peer.task_id(&request).unwrap();
    let hostile = Arc::new(Hostile::join(&network.token()).await);
    let mut session = hostile.session(&network.scheduler.as_ref().unwrap().0).await;
    let join = Join { may_lease: true, ..joining(TaskInfo { task, spec: None, fixed: false }) };
    session.say(&ToCoordinator::Join(join)).await.unwrap();
    let lease = granted(&mut session).await.lease;
    let layout = Layout::of_length(LENGTH).unwrap();
    let answer = Answer::Content {
        length: LENGTH,
        piece_length: layout.piece_length(),
        validator: Some(Validator::Etag(format!("\"{SEED:x}-{LENGTH:x}\""))),
        ranges: true,
        taking: layout.pieces(),
        spooled: false,
    };
    let described = Described { task, lease, fresh_ms: Some(600_000), answer };
    session.say(&ToCoordinator::Described(described)).await.unwrap();
    let granted = granted(&mut session).await;
    session.say(&ToCoordinator::Done { task, lease: granted.lease }).await.unwrap();
    let Work::Pieces { bundle, .. } = granted.work else { panic!("a lease on pieces") };
    let grant = dragonfly_core::trust::statement::open_grant(&bundle.grant).unwrap().0;
    let open = Message::Open {
        slot: 1,
        task,
        generation: grant.generation,
        length: LENGTH,
        piece_length: layout.piece_length(),
        wanted: false,
    };
    let values: Vec<PieceHash> = (0..layout.pieces()).map(|piece| value(&layout, piece)).collect();
    let mut attester = Attester::new(&bundle.grant);
    let mut evidence = vec![Evidence::Grant(bundle)];
    for (batch, first) in values.chunks(ATTESTED_PIECES_MAX).zip((0..).step_by(ATTESTED_PIECES_MAX)) {
        evidence.push(Evidence::Attestation(attester.attest(&hostile.identity, first, batch).unwrap()));
    }
    let holder = Arc::new(Holder { open, evidence, pieces: layout.pieces(), asked: AtomicUsize::new(0) });
    let (mut incoming, serving) = (hostile.take_lanes(), Arc::clone(&holder));
    let lanes = tokio::spawn(async move {
        while let Some(lane) = incoming.recv().await {
            tokio::spawn(Arc::clone(&serving).serve(Wire::over(lane.stream)));
        }
    });
    let keeping = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(2));
        loop {
            tokio::select! {
                _ = ticks.tick() => if session.say(&ToCoordinator::KeepAlive).await.is_err() { return },
                heard = session.hear() => if heard.is_none() { return },
            }
        }
    });
    let fetched = tokio::time::timeout(BOUND, network.fetch_all(&url, LENGTH)).await;
    fetched.unwrap_or_else(|_| panic!("honest downloads do not finish"));
    assert_eq!(network.origin.body_bytes("/file"), LENGTH, "the honest fetch it once between them");
    let asked = holder.asked.load(Ordering::Relaxed);
    let stalled: u64 = network.peers.iter().map(|member| metric(&member.node, STALLED)).sum();
    assert!(asked > 0 && stalled > 0, "asked {asked} times, found to be stalled {stalled} times");
    let told = told_of(hostile.identity.peer_id());
    assert_eq!(told.len() as u64, stalled, "one line each time: {told:?}");
    println!("asked {asked} times, found to be stalled {stalled} times");
    lanes.abort();
    keeping.abort();
    hostile.host.clone().shutdown().await;
    network.stop().await;
}

fn told_of(culprit: PeerId) -> Vec<String> {
    let lines = logged(&culprit.to_string());
    assert!(!lines.iter().any(|line| line.contains("took nothing")), "{lines:?}");
    lines.into_iter().filter(|line| line.contains("sends nothing of what it was asked for")).collect()
}

fn value(layout: &Layout, piece: u32) -> PieceHash {
    let mut hasher = PieceHasher::new(piece, layout.piece_length());
    let length = layout.length_of(piece).unwrap();
    hasher.update(&content::bytes(SEED, layout.offset(piece), length as usize)).unwrap();
    hasher.finish(layout, piece).unwrap()
}

/// Members that begin a message to the coordinator and never end it, some with a byte now and then: honest downloads
/// finish meanwhile, and soon their sessions are over, each with one line of the log: bytes are no sign of life.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_streams_that_never_say_anything_whole() {
    const MEMBERS: usize = 8;
    let network = Network::start(2, true).await;
    let scheduler = &network.scheduler.as_ref().unwrap().0;
    let token = network.token();
    let mut slow = Vec::new();
    for number in 0..MEMBERS {
        let hostile = Hostile::join(&token).await;
        // Half of them say who they are before.
        let mut session = match number % 2 {
            0 => hostile.session(scheduler).await,
            _ => hostile.control(scheduler).await,
        };
        // The head of a message of 64 KiB.
        session.raw(&[0, 1, 0, 0, 1]).await.unwrap();
        slow.push((hostile, session));
    }
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    network.fetch_all(&url, LENGTH).await;
    assert_eq!(network.origin.body_bytes("/file"), LENGTH);
    // Each is heard out to the end of its session, and says another byte whenever it hears nothing.
    let ends = slow.into_iter().map(async |(hostile, mut session)| {
        loop {
            match tokio::time::timeout(Duration::from_secs(2), session.hear()).await {
                Ok(None) => break,
                Ok(Some(_)) => {}
                Err(_) => drop(session.raw(&[0]).await),
            }
        }
        let culprit = hostile.identity.peer_id().to_string();
        let why = "a member's session is closed";
        let told = logged(&culprit).into_iter().filter(|line| line.contains(why)).collect::<Vec<_>>();
        assert!(told.len() == 1 && told[0].contains("Silent"), "{told:?}");
        hostile.host.clone().shutdown().await;
    });
    tokio::time::timeout(SILENCE_BOUND, join_all(ends)).await.expect("their sessions end");
    // The coordinator is as it was.
    let url = network.serve("/next", Resource::seeded(SEED, LENGTH));
    network.fetch_all(&url, LENGTH).await;
    assert_eq!(network.origin.body_bytes("/next"), LENGTH);
    network.stop().await;
}
